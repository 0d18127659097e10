// A server that is drained while it is busy, with another one beside it: stock clients go over, and miss nothing where they can be
// recovered. In front of both is a balancer that asks /readyz, and sends the polls of a session to the server that has it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { connect as connectTo, createServer } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { before, describe, test } from "node:test";
import { io as io4 } from "socket.io-client";
import io2 from "socket.io-client-2";
import { arrival } from "../lib/clients.mjs";
import { freePort, startRedis, startShardcast, wholeFile } from "../lib/fleet.mjs";
import { next, pause, until } from "../lib/wait.mjs";

const ROOT = new URL("../../../../", import.meta.url).pathname;
/** Clients of each kind. */
const COUNT = 8;
const DRAIN_DELAY_MS = 1_500;
const ADMIN_TOKEN = "a-token-of-this-test";
/** Back within the spread, and what clients wait of their own accord; a busy machine has more. */
const BACK_MS = 30_000;

const probe = async ({ admin }, path = "/readyz", headers = {}) => {
  try {
    const answer = await fetch(`http://127.0.0.1:${admin}${path}`, { headers, signal: AbortSignal.timeout(3_000) });
    return { status: answer.status, text: (await answer.text()).trim() };
  } catch {
    return { status: 0, text: "" };
  }
};

/** Sends each connection to the session's own server, or to the first that is ready. */
async function startBalancer(t, servers) {
  const owners = new Map();
  const fronts = new Set();
  const counts = new Map();
  const readiness = new Map(servers.map((server) => [server, true]));
  const asking = setInterval(async () => {
    for (const server of servers) readiness.set(server, (await probe(server)).status === 200);
  }, 100);
  const listener = createServer((front) => {
    fronts.add(front);
    front.on("error", () => {});
    front.on("close", () => fronts.delete(front));
    front.once("data", (head) => {
      const sid = /[?&]sid=([\w-]+)/.exec(head.toString("latin1"))?.[1];
      const server = owners.get(sid) ?? servers.find((server) => readiness.get(server));
      counts.set(server, (counts.get(server) ?? 0) + 1);
      if (!server) return front.destroy();
      const back = connectTo(new URL(server.url).port, "127.0.0.1");
      back.on("error", () => front.destroy());
      back.on("data", (bytes) => {
        const opened = /"sid":"([\w-]+)","upgrades"/.exec(bytes.toString("latin1"))?.[1];
        if (opened) owners.set(opened, server);
      });
      back.write(head);
      front.pipe(back).pipe(front);
      front.on("close", () => back.destroy());
    });
  });
  const port = await freePort();
  listener.listen(port, "127.0.0.1");
  await next(listener, "listening");
  t.after(() => {
    clearInterval(asking);
    for (const front of fronts) front.destroy();
    listener.close();
  });
  return { url: `http://127.0.0.1:${port}`, counts };
}

/** Python clients, in a process of their own: by their names what has happened to each. */
async function startPythons(t, url) {
  const child = spawn(path.join(ROOT, ".deps/venv/bin/python"), ["-u", "tests/clients/python/drained.py", url, `${COUNT}`],
    { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const all = new Map();
  createInterface(child.stdout).on("line", (line) => {
    const { name, what, value } = JSON.parse(line);
    if (!all.has(name)) all.set(name, []);
    all.get(name).push([what, value]);
  });
  return all;
}

describe("a drain", () => {
  const file = wholeFile();
  const clients = [];
  let old, other, balancer, pythons, sender;

  before(async () => {
    const redis = await startRedis(file);
    const server = async () => {
      const admin = await freePort();
      const settings = { admin_bind: `127.0.0.1:${admin}`, admin_token: ADMIN_TOKEN, allow_eio3: true, drain_delay: `${DRAIN_DELAY_MS}ms`,
        shutdown_spread: "2s", recovery_max_disconnection: "60s", recovery_survives: "stop", ping_interval: "5s" };
      return { ...await startShardcast(file, { url: `${redis.url}?mode=streams` }, settings), admin };
    };
    [old, other] = [await server(), await server()];
    balancer = await startBalancer(file, [old, other]);
    for (const [kind, io, transports] of [["4 polling", io4, ["polling"]], ["4 websocket", io4, ["websocket"]], ["4 upgrade", io4, undefined],
      ["2 polling", io2, ["polling"]], ["2 websocket", io2, ["websocket"]]]) {
      for (let index = 0; index < COUNT; index++) {
        const socket = io(balancer.url, { forceNew: true, transports });
        file.after(() => socket.disconnect());
        const client = { kind, socket, numbers: [], events: [], recovered: [] };
        socket.on("n", (number) => client.numbers.push(number));
        socket.on("connect", () => (client.events.push("connect"), client.recovered.push(socket.recovered)));
        socket.on("disconnect", (reason) => client.events.push(reason));
        for (const event of ["connect_error", "error"]) {
          socket.on(event, (error) => {
            // Whatever ends a poll of the 2.x client is an `error` beside the reason of its disconnection.
            if (kind !== "2 polling" || `${error.message ?? error}` !== "xhr poll error") client.events.push(`${event}: ${error.message ?? error}`);
          });
        }
        clients.push(client);
      }
    }
    pythons = await startPythons(file, balancer.url);
    await Promise.all(clients.map(({ socket }) => arrival(socket, BACK_MS)));
    await until("the Python clients are there", () => pythons.size === 2 * COUNT, BACK_MS);
    sender = io4(other.url, { forceNew: true, transports: ["websocket"] });
    file.after(() => sender.disconnect());
    await arrival(sender, BACK_MS);
  });

  test("every client comes back at the other server, sees no error, and misses nothing if it can be recovered", async () => {
    assert.equal(balancer.counts.has(other), false, "all of them are at the first server");
    const { child } = old;
    let sent = 0, isSending = true;
    const sending = (async () => {
      while (isSending) {
        await sender.timeout(8_000).emitWithAck("send", [], [], "n", ++sent);
        await pause(10);
      }
    })();
    await pause(500);
    const ended = next(child, "exit", BACK_MS);
    child.kill("SIGTERM");

    await until("/readyz says so", async () => (await probe(old)).status === 503);
    assert.equal((await probe(old)).text, "draining");
    // Through the delay and to the end: the operators' listener is there, and asks who asks.
    let looks = 0;
    const isOver = { value: false };
    ended.finally(() => (isOver.value = true));
    while (!isOver.value) {
      const { status } = await probe(old, "/metrics", { authorization: `Bearer ${ADMIN_TOKEN}` });
      if (status !== 0) looks++;
      else if (!isOver.value) await Promise.race([ended, pause(3_000).then(() => assert.fail("the operators' listener is gone before the server"))]);
      await pause(50);
    }
    assert.ok(looks >= 3, `${looks} looks`);
    assert.deepEqual(await ended, [0, null]);

    await until("all are back", () => clients.every(({ events, socket }) => socket.connected && events.length >= 3), BACK_MS);
    await until("the Python clients are back", () => [...pythons.values()].every((seen) => seen.filter(([what]) => what === "connect").length === 2), BACK_MS);
    await pause(500);
    isSending = false;
    await sending;
    const last = (numbers) => numbers.at(-1) === sent;
    await until("all have the last number", () => clients.every(({ numbers }) => last(numbers)), BACK_MS);
    for (const { kind, events, numbers, recovered } of clients) {
      assert.deepEqual([events.length, events[0], events[2]], [3, "connect", "connect"], `${kind}: ${events}`);
      assert.match(events[1], /^transport (close|error)$/, kind);
      if (!kind.startsWith("4")) continue;
      assert.deepEqual(recovered, [false, true], kind);
      const first = numbers[0];
      assert.deepEqual(numbers, Array.from({ length: sent - first + 1 }, (_, index) => first + index), kind);
    }
    for (const [name, seen] of pythons) {
      const events = seen.filter(([what]) => what !== "n");
      assert.deepEqual(events.map(([what]) => what), ["connect", "disconnect", "connect"], `${name}: ${JSON.stringify(events)}`);
      assert.equal(events[1][1], "transport error", name);
    }
  });
});
