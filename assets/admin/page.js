// The operators' page: asks for /status.json once a second, and shows it. Names that clients chose are only ever set as text.
"use strict";

const PERIOD_MS = 1000;
const MINUTE_MS = 60_000;
const NEARLY_BUSY = 0.85;
const LONG_LAG_MS = 100;
/** Without the name and password that the page's own address may have in it: no request may. */
const at = (path, query) => `${location.origin}${path}${query ? `?client=${encodeURIComponent(query)}` : ""}`;
const $ = (id) => document.getElementById(id);

let before = null;
let traced = new URLSearchParams(location.search).get("client") ?? "";
/** Counts of refusals as this page has seen them, with the time of each look. */
const history = [];

const whole = new Intl.NumberFormat("en");
const count = (value) => whole.format(Math.round(value));

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? count(value) : value.toFixed(1)} ${units[unit]}`;
}

function time(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [length, unit] of parts) if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  return `${Math.floor(seconds)} s`;
}

/** A cell: a text, or what was made for it. */
function cell(content, kind = "number") {
  const td = document.createElement("td");
  td.className = kind;
  td.append(content);
  return td;
}

function row(...cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

function code(text) {
  const element = document.createElement("code");
  element.textContent = text;
  return element;
}

function meter(part, label) {
  const element = document.createElement("meter");
  Object.assign(element, { min: 0, max: 1, high: NEARLY_BUSY, value: part });
  element.setAttribute("aria-label", label);
  return element;
}

/** Shows a table if it has rows, and a sentence if it has none. Where it is narrow, each cell shows its own heading. */
function fill(name, rows) {
  const headings = [...document.querySelectorAll(`#${name}-table th`)].map((heading) => heading.textContent);
  for (const { cells } of rows) {
    headings.forEach((heading, place) => cells[place].textContent && (cells[place].dataset.heading = heading));
  }
  $(name).replaceChildren(...rows);
  $(`${name}-table`).hidden = rows.length === 0;
  const none = $(`no-${name}`);
  if (none) none.hidden = rows.length > 0;
}

const sum = (shards, figure) => shards.reduce((all, shard) => all + shard[figure], 0);

/** What a figure has grown by in a second, of one shard or of all. */
function rate(now, then, figure, seconds) {
  return then ? Math.max(0, now[figure] - then[figure]) / seconds : 0;
}

function showSums(status, seconds) {
  const { shards, queues } = status;
  const all = (figure) => shards.reduce((sum, shard, at) => sum + rate(shard, before?.shards[at], figure, seconds), 0);
  const figures = [
    ["connections", count(sum(shards, "connections"))],
    ["sessions", count(sum(shards, "sessions"))],
    ["sockets", count(sum(shards, "sockets"))],
    ["events in/s", count(all("events_received"))],
    ["messages out/s", count(all("messages_sent"))],
    ["in/s", bytes(all("bytes_received"))],
    ["out/s", bytes(all("bytes_sent"))],
    ["owed to clients", bytes(sum(shards, "owed_bytes"))],
  ];
  for (const queue of queues) figures.push(["message queue", queue.is_up ? `up, ${queue.processes} more` : "away"]);
  $("sums").replaceChildren(...figures.map(([name, value]) => {
    const pair = document.createElement("div");
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = name;
    dd.textContent = value;
    pair.append(dt, dd);
    return pair;
  }));
}

function showShards({ shards }, seconds) {
  $("shards").replaceChildren(...shards.map((shard, number) => {
    const then = before?.shards[number];
    const busy = Math.min(1, rate(shard, then, "busy_micros", seconds) / 1e6);
    const busyCell = cell(meter(busy, `shard ${number} is busy`), busy > NEARLY_BUSY ? "number hot" : "number");
    busyCell.append(`${Math.round(busy * 100)} %`);
    const isLate = shard.lag_millis === null || shard.lag_millis > LONG_LAG_MS;
    return row(
      cell(`${number}`),
      busyCell,
      cell(shard.lag_millis === null ? "silent" : `${shard.lag_millis} ms`, isLate ? "number hot" : "number"),
      cell(count(shard.connections)),
      cell(count(shard.sockets)),
      cell(count(rate(shard, then, "events_received", seconds))),
      cell(count(rate(shard, then, "messages_sent", seconds))),
      cell(bytes(shard.owed_bytes)),
    );
  }));
}

function showRefusals({ refusals, unix_millis }) {
  const counts = Object.fromEntries(refusals.map(({ name, count }) => [name, count]));
  history.push({ at: unix_millis, counts });
  while (history.length > 1 && unix_millis - history[0].at > MINUTE_MS) history.shift();
  const first = history[0].counts;
  fill("refusals", refusals.map((refusal) => {
    const lately = Math.max(0, refusal.count - (first[refusal.name] ?? 0));
    return row(
      cell(`${refusal.what} (${refusal.name})`, "text"),
      cell(count(refusal.count)),
      cell(count(lately), lately > 0 ? "number hot" : "number"),
      cell(refusal.advice, "text"),
    );
  }));
}

function showSlow({ slow }) {
  fill("slow", slow.map((client) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Trace";
    button.addEventListener("click", () => trace(client.client));
    return row(
      cell(code(client.client ?? "in no namespace")),
      cell(client.address, "text"),
      cell(client.transport),
      cell(`${client.shard}`),
      cell(bytes(client.owed_bytes)),
      cell(client.client ? button : ""),
    );
  }));
}

function showRooms({ rooms }) {
  fill("rooms", rooms.map(({ room, namespace, members }) => row(cell(room, "text"), cell(code(namespace), "text"), cell(count(members)))));
}

function showTrace({ trace }) {
  if (!trace) return;
  const words = trace.is_on ? "Tracing" : "The trace has ended, of";
  const more = trace.left_out > 0 ? `; ${count(trace.left_out)} earlier packets are not kept` : "";
  $("trace-state").textContent = `${words} ${trace.client}: ${count(trace.packets.length)} packets${more}.`;
  fill("trace", trace.packets.toReversed().map((packet) => row(
    cell(new Date(packet.unix_millis).toISOString().slice(11, 23)),
    cell(packet.is_sent ? "to the client" : "from the client"),
    cell(count(packet.bytes)),
    cell(code(packet.packet), "text"),
  )));
}

function show(status) {
  const seconds = before ? Math.max(0.001, (status.unix_millis - before.unix_millis) / 1000) : 1;
  $("version").textContent = status.version;
  const uptime = time((status.unix_millis - status.started_unix_millis) / 1000);
  $("state").textContent = `${status.phase}, for ${uptime}, ${status.shards.length} shards on ${status.io}`;
  $("state").className = "";
  showSums(status, seconds);
  showShards(status, seconds);
  showRefusals(status);
  showSlow(status);
  showRooms(status);
  showTrace(status);
  before = status;
}

async function trace(client) {
  traced = client;
  $("client").value = client;
  $("trace-state").textContent = `Asking for ${client} ..`;
  fill("trace", []);
  const answer = await fetch(at("/trace", client), { method: "POST" }).catch((error) => ({ ok: false, text: async () => error.message }));
  $("trace-state").textContent = answer.ok ? `No packet of ${client} yet. If there is no such client, the log says so.` : await answer.text();
}

async function ask() {
  try {
    const answer = await fetch(at("/status.json", traced));
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    show(await answer.json());
  } catch (error) {
    $("state").textContent = `No figures: ${error.message}. Trying again.`;
    $("state").className = "lost";
  }
  setTimeout(ask, document.hidden ? 10 * PERIOD_MS : PERIOD_MS);
}

$("trace-form").addEventListener("submit", (event) => {
  event.preventDefault();
  trace($("client").value);
});
ask();
