// The demo page: a chat with rooms on the left, the server that carries it on the right.
// Try /?transport=polling to stay on long-polling, /#kitchen for a link to a room, and /?beside=0 to be on another shard than 0.

import { connect } from "./client.js";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const parameters = new URLSearchParams(location.search);

const MOST_LINES = 300; // kept in the log
const SAMPLES = 60; // seconds of history in the charts
const TYPING_PAUSE = 2_000; // without a key, we have stopped typing
const TYPING_EXPIRES = 5_000; // what others' typing lasts without news
const MOST_MOVES = 16; // attempts to be on another shard than the window that opened this one

const socket = connect({
  query: parameters.has("shard_key") ? { shard_key: parameters.get("shard_key") } : {},
  transports: parameters.get("transport") === "polling" ? ["polling"] : ["polling", "websocket"],
});

/** What we know, in one place. */
const state = { room: null, name: null, sid: null, shard: null, joining: null };

/** The shard of the window that opened this one, if that is to be another. A key of one's own wins. */
const beside = parameters.has("beside") && !parameters.has("shard_key") ? Number(parameters.get("beside")) : null;
let moves = 0;
let hasSaidWhere = beside === null;

// ---------------------------------------------------------------- Small helpers

/** An element with children. Strings become text nodes: nothing that was typed is ever read as HTML. */
function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

const hueOf = (shard) => (235 + shard * 137.508) % 360; // the golden angle keeps neighbours apart
const tint = (node, shard) => (node.style.setProperty("--h", hueOf(shard).toFixed(1)), node);
const plain = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = (number) => (number < 10_000_000 ? plain.format(Math.round(number)) : compact.format(number));
const people = (count) => `${plain.format(count)} here`;
const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function duration(seconds) {
  const s = Math.floor(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  return d ? `${d}d ${h % 24}h` : h ? `${h}h ${m % 60}m` : m ? `${m}m ${s % 60}s` : `${s}s`;
}

// ---------------------------------------------------------------- The connection

function showStatus(text, connected) {
  $("status").textContent = text;
  document.querySelector(".link").dataset.state = connected ? "connected" : "waiting";
  document.body.classList.toggle("stale", !connected && history.length > 0);
}

socket.on("connect", () => {
  showStatus("connected", true);
  if (state.room) join(state.room, state.name, "again"); // the new session is in no room yet
});
socket.on("retry", ({ attempt }) => {
  showStatus(attempt > 1 ? `reconnecting, attempt ${attempt}` : "reconnecting…", false);
  $("transport").textContent = $("shard").textContent = "–";
  $("round-trip").textContent = "";
  for (const name of [...typists.keys()]) showTyping(name, false);
});
socket.on("transport", (name) => { $("transport").textContent = name; });
socket.on("welcome", ({ sid, shard, shards, version, io }) => {
  if (!hasSaidWhere && shard === beside && shards > 1 && moves < MOST_MOVES && !state.joining) return move();
  Object.assign(state, { sid, shard });
  sayWhere(shard, shards);
  showInvitation();
  $("shard").textContent = shard;
  $("about").textContent = [`version ${version}`, io, shards === 1 ? "1 shard" : `${shards} shards`].join(" · ");
  document.documentElement.style.setProperty("--mine", hueOf(shard).toFixed(1));
  for (const lane of lanes) markHere(lane);
});

/** Connects again with a key: which shard it leads to only the server knows, so that it is one at random. */
function move() {
  moves++;
  socket.options.query = { shard_key: Math.random() };
  socket.close();
  socket.open();
}

/** Says once which shard a second window is on, compared with the first. */
function sayWhere(shard, shards) {
  if (shards === 1 && !state.room) {
    $("empty-text").textContent = "Join a room, then open a second window, and talk to yourself. This server has one shard, so both windows will be on it.";
  }
  if (hasSaidWhere) return;
  hasSaidWhere = true;
  if (shards === 1) addNote("This server has one shard: this window is on it, and so is the one that opened it.");
  else if (shard === beside) addNote(`This window is on shard ${shard}, as is the one that opened it: no attempt led to another.`);
  else addNote(`This window is on shard ${shard}. The one that opened it was on shard ${beside}.`);
}

// ---------------------------------------------------------------- Rooms

async function join(room, name, again) {
  showProblem("");
  if (state.room && state.room !== room) socket.emit("leave", state.room);
  const joining = socket.request("join", room, name);
  state.joining = joining;
  try {
    const answer = await joining;
    if (state.joining !== joining) return; // another join has overtaken this one
    if (answer?.error) throw new Error(answer.error);
    if (state.room !== room) addNote(`You joined #${room} as ${name}.`);
    else if (again) addNote("Back online.");
    Object.assign(state, { room, name });
    showRoom(answer.members);
    return true;
  } catch (error) {
    if (state.joining === joining && !again) showProblem(error.message);
  }
}

function showRoom(members) {
  const { room } = state;
  $("room-bar").hidden = !room;
  if (!room) return;
  $("room-title").textContent = room;
  $("members").textContent = people(members);
  $("empty-text").textContent = "Nobody has spoken yet.";
  const here = new URL(location);
  here.hash = encodeURIComponent(room);
  window.history.replaceState(null, "", here);
  showInvitation();
}

/** The link to a second window, which goes to another shard than ours. */
function showInvitation() {
  const there = new URL(location);
  there.searchParams.delete("shard_key");
  there.searchParams.set("beside", state.shard);
  $("invite").href = there.href;
}

$("entrance").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("name").value.trim(), room = $("room").value.trim();
  if (!name || !room) return showProblem("A name and a room are needed.");
  remember(name);
  if (await join(room, name)) $("message").focus();
});

$("leave").addEventListener("click", () => {
  socket.emit("leave", state.room);
  addNote(`You left #${state.room}.`);
  Object.assign(state, { room: null, joining: null });
  showRoom();
  $("room").focus();
});

for (const [event, verb] of [["entered", "joined"], ["left", "left"]]) {
  socket.on(event, ({ name, room, members }) => {
    if (room !== state.room) return;
    $("members").textContent = people(members);
    addNote(`${name} ${verb}.`);
    showTyping(name, false);
  });
}

// ---------------------------------------------------------------- Talking

let lastLine = null; // { from, minute } of the line above, to group what belongs together

function addLine(line) {
  const scroller = $("scroller");
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
  $("log").append(line);
  while ($("log").childElementCount > MOST_LINES) $("log").firstElementChild.remove();
  if (atEnd || line.classList.contains("own")) scrollToEnd();
  else $("newer").hidden = false;
}

function addNote(text) {
  lastLine = null;
  addLine(element("li", "note", text));
}

function scrollToEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
  $("newer").hidden = true;
}

socket.on("chat", ({ from, name, text, shard, at }) => {
  const own = from === state.sid;
  const minute = Math.floor(at / 60_000);
  const first = lastLine?.from !== from || lastLine.name !== name || lastLine.minute !== minute;
  lastLine = { from, name, minute };
  const line = tint(element("li", `${own ? "own" : "other"}${first ? " first" : ""}`), shard);
  if (first) {
    line.append(element("div", "by-line",
      element("b", "", own ? "You" : name), element("span", "from", `shard ${shard}`), element("time", "", clock(at))));
  } else {
    line.append(element("span", "hidden", `${own ? "You" : name}: `));
  }
  line.append(element("span", "bubble", text));
  addLine(line);
  showTyping(name, false);
  showHop(shard);
});

$("newer").addEventListener("click", scrollToEnd);
$("scroller").addEventListener("scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = $("scroller");
  if (scrollHeight - scrollTop - clientHeight < 20) $("newer").hidden = true;
});

$("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text) return;
  $("message").value = "";
  stopTyping();
  showProblem("");
  try {
    if (!state.room) { // the first message may come before the first join
      const name = $("name").value.trim(), room = $("room").value.trim();
      if (!(await join(room || "lobby", name || guestName))) return restore(text);
    }
    const sent = performance.now(), { connected } = socket;
    const answer = await socket.request("chat", text);
    if (answer?.error) throw new Error(answer.error);
    if (connected) showRoundTrip(performance.now() - sent);
  } catch (error) {
    showProblem(error.message);
    restore(text);
  }
});

/** Gives back what could not be sent, unless something new has been typed. */
function restore(text) {
  if (!$("message").value) $("message").value = text;
}

function showProblem(text) {
  $("problem").textContent = text;
}

function showRoundTrip(milliseconds) {
  $("round-trip").textContent = ` · ${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms to the ack`;
}

// ---------------------------------------------------------------- Who is typing

const typists = new Map(); // name -> the timer that forgets it
let typingTimer = null;

function showTyping(name, on) {
  clearTimeout(typists.get(name));
  typists.delete(name);
  if (on) typists.set(name, setTimeout(() => showTyping(name, false), TYPING_EXPIRES));
  const [first, second, ...more] = typists.keys();
  $("typing").textContent = !first ? ""
    : !second ? `${first} is typing…`
    : more.length ? "Several people are typing…"
    : `${first} and ${second} are typing…`;
}
socket.on("typing", ({ name, on }) => showTyping(name, on));

function stopTyping() {
  if (!typingTimer) return;
  clearTimeout(typingTimer);
  typingTimer = null;
  if (socket.connected) socket.emit("typing", false);
}
$("message").addEventListener("input", () => {
  showProblem("");
  if (!state.room || !socket.connected) return;
  if (!$("message").value) return stopTyping();
  if (!typingTimer) socket.emit("typing", true);
  clearTimeout(typingTimer);
  typingTimer = setTimeout(stopTyping, TYPING_PAUSE);
});

// ---------------------------------------------------------------- The server, live

const history = []; // the last SAMPLES + 2 stats, oldest first: one more on each side, to slide in and out
const lanes = []; // one row per shard: { id, row, … its parts }

socket.on("stats", (stats) => {
  history.push(stats);
  if (history.length > SAMPLES + 2) history.shift();
  $("connections").textContent = short(stats.connections);
  $("messages").textContent = short(stats.messages);
  $("rate").textContent = short(stats.rate);
  $("uptime").textContent = duration(stats.uptime);
  $("messages").title = plain.format(stats.messages);
  while (lanes.length > stats.shards.length) lanes.pop().row.remove();
  $("shards").className = stats.shards.length > 10 ? "many" : stats.shards.length < 5 ? "few" : "";
  for (const shard of stats.shards) showLane((lanes[shard.id] ??= addLane(shard.id)), shard);
  draw(true);
});

function addLane(id) {
  const lane = {
    id,
    row: tint(element("li"), id),
    here: element("span"),
    count: element("span", "count"),
    canvas: element("canvas"),
    level: element("i"),
    rate: element("span"),
  };
  lane.canvas.setAttribute("aria-hidden", "true");
  lane.busy = element("div", "busy", lane.level);
  lane.busy.setAttribute("role", "meter");
  lane.busy.setAttribute("aria-label", `Shard ${id}, busy`);
  lane.row.append(
    element("div", "who", element("b", "", `Shard ${id}`, lane.here), lane.count),
    element("div", "plot", element("div", "spark", lane.canvas), lane.busy),
    element("div", "rate", lane.rate, element("small", "", "msg/s")),
  );
  $("shards").append(lane.row);
  markHere(lane);
  return lane;
}

function markHere(lane) {
  const here = lane.id === state.shard;
  lane.row.classList.toggle("here", here);
  lane.here.textContent = here ? " · you" : "";
}

function showLane(lane, { connections, rate, busy }) {
  const percent = Math.round(Math.min(1, Math.max(0, busy)) * 100);
  lane.count.textContent = `${short(connections)} conn.`;
  lane.rate.textContent = short(rate);
  lane.level.style.transform = `scaleX(${percent / 100})`;
  lane.busy.setAttribute("aria-valuenow", percent);
  lane.busy.setAttribute("aria-valuemax", 100);
  lane.busy.title = `${percent} % busy`;
}

// -- Charts. Drawn once a second, one sample wider than seen, then slid by that sample: smooth, and nearly free.

const colour = (shard) => `oklch(${dark.matches ? "0.72 0.12" : "0.64 0.13"} ${hueOf(shard).toFixed(1)})`;
const rateAt = (sample, id) => sample.shards[id]?.rate ?? 0;

/** The next "round" number, so that the scale stays put while the load only breathes. */
function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 4)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => n * unit).find((n) => n >= value);
}

function prepare(canvas, slide) {
  const width = canvas.parentElement.clientWidth, height = canvas.parentElement.clientHeight;
  const step = width / SAMPLES, ratio = devicePixelRatio || 1;
  const full = width + step;
  canvas.style.width = `${full}px`;
  canvas.width = Math.round(full * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.lineJoin = "round";
  for (const motion of canvas.getAnimations()) motion.cancel();
  canvas.style.transform = `translateX(${-step}px)`;
  if (slide && !calm.matches) canvas.animate([{ transform: "none" }, { transform: `translateX(${-step}px)` }], 1_000);
  const x = (index) => full - (history.length - 1 - index) * step;
  return { pen, height, x };
}

/** A soft line through the points: horizontal tangents, so it never overshoots a sample. */
function trace(pen, points) {
  points.forEach(([x, y], index) => {
    if (!index) return pen.lineTo(x, y);
    const [px, py] = points[index - 1], middle = (px + x) / 2;
    pen.bezierCurveTo(middle, py, middle, y, x, y);
  });
}

function draw(slide) {
  if (!history.length || document.hidden) return;
  drawStream(slide);
  const top = ceiling(Math.max(...history.flatMap((sample) => sample.shards.map((shard) => shard.rate))));
  for (const lane of lanes) drawSpark(lane, top, slide);
}

function drawStream(slide) {
  const { pen, height, x } = prepare($("stream"), slide);
  const top = ceiling(Math.max(...history.map((sample) => sample.rate)));
  const y = (rate) => height - 1 - (rate / top) * (height - 8);
  const base = history.map(() => 0);
  const ground = getComputedStyle($("stream").parentElement).backgroundColor;
  for (const { id } of lanes) {
    const lower = history.map((_, index) => [x(index), y(base[index])]);
    const upper = history.map((sample, index) => [x(index), y((base[index] += rateAt(sample, id)))]);
    pen.beginPath();
    trace(pen, upper);
    pen.lineTo(...lower.at(-1));
    trace(pen, lower.reverse());
    pen.closePath();
    pen.fillStyle = colour(id);
    pen.globalAlpha = id === state.shard ? 0.95 : 0.6;
    pen.fill();
    if (lanes.length > 10) continue;
    pen.globalAlpha = 1; // a hairline of background between the layers
    pen.strokeStyle = ground;
    pen.lineWidth = 1;
    pen.stroke();
  }
  $("peak").textContent = `scale: ${short(top)} messages/s`;
}

function drawSpark({ id, canvas }, top, slide) {
  const { pen, height, x } = prepare(canvas, slide);
  const points = history.map((sample, index) => [x(index), height - 1.5 - (rateAt(sample, id) / top) * (height - 4)]);
  pen.beginPath();
  trace(pen, points);
  pen.strokeStyle = pen.fillStyle = colour(id);
  pen.lineWidth = 1.6;
  pen.stroke();
  pen.lineTo(points.at(-1)[0], height);
  pen.lineTo(points[0][0], height);
  pen.globalAlpha = 0.14;
  pen.fill();
}

const resized = new ResizeObserver(() => draw(false));
for (const box of [$("shards"), $("stream").parentElement]) resized.observe(box);
dark.addEventListener("change", () => draw(false));
document.addEventListener("visibilitychange", () => draw(false));

// -- A message on its way: an arc from its sender's shard to ours, or a ripple when it never left home.

const svg = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

function showHop(from) {
  const source = lanes[from]?.row, target = lanes[state.shard]?.row;
  if (!source || !target || calm.matches || document.hidden || $("arcs").childElementCount > 24) return;
  const middle = (row) => row.offsetTop + row.offsetHeight / 2;
  const x = 23.5, y1 = middle(source), y2 = middle(target);
  const ripple = (y, delay) => {
    const ring = tint(svg("circle", { cx: x, cy: y, r: 5 }), from);
    ring.style.opacity = 0;
    $("arcs").append(ring);
    ring.animate([{ r: "5px", opacity: 0.9 }, { r: "12px", opacity: 0 }], { duration: 700, delay, easing: "ease-out" })
      .finished.finally(() => ring.remove());
  };
  ripple(y1, 0);
  if (source === target) return;
  const reach = Math.min(28, 16 + Math.abs(y2 - y1) / 12);
  const arc = tint(svg("path", { d: `M${x} ${y1}C${x - reach} ${y1} ${x - reach} ${y2} ${x} ${y2}`, pathLength: 100 }), from);
  $("arcs").append(arc);
  const dash = "28 172";
  arc.style.strokeDasharray = dash;
  arc.animate([{ strokeDashoffset: 28 }, { strokeDashoffset: -100 }], { duration: 800, easing: "ease-in-out" })
    .finished.finally(() => arc.remove());
  ripple(y2, 620);
}

// ---------------------------------------------------------------- Who we are when the page opens

const guestName = (() => {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  return `${pick(["Amber", "Coral", "Hazel", "Indigo", "Jade", "Olive", "Sage", "Teal"])} ${pick(["Finch", "Fox", "Heron", "Lynx", "Otter", "Owl", "Seal", "Wren"])}`;
})();

function remember(name) {
  try { sessionStorage.setItem("name", name); } catch { /* private mode: then not */ }
}
function recall() {
  try { return sessionStorage.getItem("name"); } catch { return null; }
}

$("name").value = recall() || guestName;
try { $("room").value = decodeURIComponent(location.hash.slice(1)).slice(0, 32) || "lobby"; } catch { /* not a room */ }
