// Flask-SocketIO, a Node server with the classic adapter, and three shardcast processes that speak both formats, on one Redis: what
// each hears of the others, a process that is killed, and a Redis that comes back empty.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { createAdapter } from "@socket.io/redis-adapter";
import { ask } from "../lib/clients.mjs";
import { ARGUMENTS, forget, member, settle, startNode, startPython, startRedis, startShardcast, wholeFile } from "../lib/fleet.mjs";
import { next, pause, until } from "../lib/wait.mjs";

const file = wholeFile();
const servers = {};
/** One client of each server, all in the room `blue`. */
const at = {};
let redis;

const emits = {
  flask: (event, ...args) => servers.flask.emit(event, args),
  node: async (event, ...args) => servers.node.io.emit(event, ...args),
  near: (event, ...args) => ask(at.near, "send", [], [], event, ...args),
  far: (event, ...args) => ask(at.far, "send", [], [], event, ...args),
};
/** Whom each reaches: Flask and Node do not understand each other, and shardcast repeats nothing for them. */
const REACH = {
  flask: ["flask", "near", "far", "third"],
  node: ["node", "near", "far", "third"],
  near: ["flask", "node", "near", "far", "third"],
  far: ["flask", "node", "near", "far", "third"],
};

const present = (names) => names.filter((name) => at[name]);

async function received(by, event) {
  const reached = present(REACH[by]);
  await settle(emits[by], reached.map((name) => at[name]));
  // What somebody has said before has gone its way by then, wherever else it went.
  await settle(emits.near, Object.values(at));
  const seen = Object.fromEntries(Object.entries(at).map(([name, { seen }]) => [name, [...seen]]));
  forget(...Object.values(at));
  assert.deepEqual(seen, Object.fromEntries(Object.keys(at).map((name) => [name, reached.includes(name) ? [event] : []])));
}

/** Everybody emits, and everybody that is meant has it once. */
async function once(text) {
  for (const by of Object.keys(emits).filter((name) => at[name])) {
    await emits[by]("news", text);
    await received(by, ["news", text]);
  }
}

/** Tries until all hear whom they are meant to hear, and forgets what was tried. */
async function joined(ms) {
  const heard = (name, by) => at[name].seen.some(([event, who]) => event === "hello" && who === by);
  const speakers = Object.keys(emits).filter((name) => at[name]);
  await until("all hear each other", async () => {
    for (const by of speakers) await emits[by]("hello", by);
    await pause(50);
    return speakers.every((by) => present(REACH[by]).every((name) => heard(name, by)));
  }, ms);
  for (const by of speakers) await settle(emits[by], present(REACH[by]).map((name) => at[name]));
  forget(...Object.values(at));
}

before(async () => {
  redis = await startRedis(file);
  const settings = { queue_formats: "python,node" };
  [servers.flask, servers.node, servers.near, servers.far, servers.third] = await Promise.all([startPython(file, redis, "flask"),
    startNode(file, redis, createAdapter), ...[1, 2, 3].map(() => startShardcast(file, redis, settings))]);
  servers.node.io.on("connection", (socket) => socket.join("blue"));
  for (const [name, server] of Object.entries(servers)) at[name] = await member(file, server);
  await servers.flask.run("enter_room", { sid: at.flask.id, room: "blue" });
  for (const name of ["near", "far", "third"]) await ask(at[name], "join", "blue");
  await joined(5_000);
  await until("shardcast counts Node's servers", async () => (await ask(at.near, "who", [])).ids.length === 4);
});

for (const [what, args] of Object.entries(ARGUMENTS)) {
  test(`shardcast's words reach all three, once: ${what}`, async () => {
    if (what === "null") return; // Python cannot say it: mixed-python
    await emits.near("news", ...args);
    await received("near", ["news", ...args]);
    await ask(at.near, "send", ["blue"], [], "room", ...args);
    await received("near", ["room", ...args]);
  });
}

test("what Flask and Node say reaches their own clients and shardcast's, once", async () => {
  await once("é");
  await servers.flask.emit("room", [Buffer.from([1]), "x"], { to: "blue" });
  await received("flask", ["room", Buffer.from([1]), "x"]);
  servers.node.io.to("blue").emit("room", Buffer.from([1]), "x");
  await received("node", ["room", Buffer.from([1]), "x"]);
});

test("one socket is called wherever it is, and Node asks all that it can", async () => {
  for (const name of Object.keys(at)) at[name].answer = () => [`I am ${name}`];
  for (const name of ["flask", "node", "far"]) {
    const called = next(at.near, "called");
    at.near.emit("call", at[name].id, 4_000, "question", 1);
    assert.deepEqual(await called, [`I am ${name}`]);
  }
  assert.deepEqual(await servers.flask.call(at.far.id, "question", [1]), "I am far");
  const all = await servers.node.io.timeout(4_000).emitWithAck("question", 1);
  assert.deepEqual(all.sort(), ["I am far", "I am near", "I am node", "I am third"]);
  assert.equal((await servers.node.io.fetchSockets()).length, 4);
  await settle(emits.near, Object.values(at));
  forget(...Object.values(at));
});

test("one shardcast process is killed, and the others go on", async () => {
  const { far } = at;
  await servers.far.stop("SIGKILL");
  delete at.far;
  await once("without far");
  assert.equal((await servers.node.io.fetchSockets()).length, 3);
  await until("the others forget it", async () => (await ask(at.near, "who", [])).ids?.length === 3, 8_000);
  await once("still without far");
  await until("its client has noticed", () => far.disconnected);
});

test("Redis comes back empty, and all are there again, and hear everything once", async () => {
  await redis.stop();
  await emits.near("alone", 0);
  await until("the own clients hear it without Redis", () => at.near.seen.length === 1);
  await redis.restart();
  // A shardcast process tries every half second at the latest. Redis keeps nothing for who is not there yet.
  let number = 0;
  await until("shardcast is back", async () => {
    await emits.near("alone", ++number);
    return at.third.seen.length > 0;
  }, 2_000);
  const numbers = at.third.seen.map(([, value]) => value);
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), "each once, and in order");
  forget(...Object.values(at));
  // Flask waits for twice as long after each attempt.
  await joined(15_000);
  await until("shardcast counts Node's servers", async () => (await ask(at.near, "who", [])).ids?.length === 3, 5_000);
  await once("again");
  assert.equal((await servers.node.io.fetchSockets()).length, 3);
});
