// Three processes that are one server, over a Redis, behind nginx: stock clients, sticky by address and by cookie; clients that come back to
// another process; one process killed; and, where recovery survives that, one that is stopped; and one that is killed there.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { VARIANTS, ask, settled } from "../js/lib/clients.mjs";
import { isReference } from "../js/lib/target.mjs";
import { collect, next, pause, until } from "../js/lib/wait.mjs";
import { accepts, freePort, startProxy } from "./proxy.mjs";

const only = { skip: isReference && "the reference has no adapter for Redis" };
const numbers = (count) => Array.from({ length: count }, (_, index) => index);
const children = [];
const urls = {};
let redis;
let servers;
let nginx;

before(async () => {
  if (isReference) return;
  redis = await freePort();
  const quiet = ["--save", "", "--appendonly", "no"];
  await start("redis-server", ["--bind", "127.0.0.1", "--port", `${redis}`, ...quiet], redis, { stdio: "ignore" });
  await startFleet("fleet", `redis://127.0.0.1:${redis}/0`);
});

after(async () => {
  await nginx?.stop();
  await Promise.all(children.map(stop));
});

// Three servers, and an nginx before them.
async function startFleet(name, queue, more = {}) {
  const [cookie, turns, ...own] = await Promise.all(numbers(5).map(freePort));
  servers = await Promise.all(own.map((port, index) => startServer(port, `${name}-${index}`, { SHARDCAST_MESSAGE_QUEUE: queue, ...more })));
  const [ONE, TWO, THREE] = own.map((port) => `127.0.0.1:${port}`);
  const places = { ONE, TWO, THREE, COOKIE: `127.0.0.1:${cookie}`, TURNS: `127.0.0.1:${turns}` };
  const args = (folder, config) => ["-p", folder, "-c", config, "-e", "error.log"];
  nginx = await startProxy("nginx", "nginx-fleet.conf.template", args, { places });
  Object.assign(urls, { address: nginx.url, cookie: `http://127.0.0.1:${cookie}`, turns: `http://127.0.0.1:${turns}` });
}

async function start(program, args, port, options) {
  const child = spawn(program, args, options);
  children.push(child);
  child.on("error", (error) => { throw error; });
  await until(`${program} listens`, () => {
    assert.equal(child.exitCode, null, `${program} ended`);
    return accepts(port);
  }, 10_000);
  return child;
}

function startServer(port, name, own) {
  const { SERVER_LOG, CONFORMANCE_BIN, ...inherited } = process.env;
  const log = openSync(path.join(path.dirname(SERVER_LOG), `${name}.log`), "w");
  const settings = {
    SHARDCAST_TRUSTED_PROXIES: "127.0.0.1",
    SHARDCAST_RECOVERY_MAX_DISCONNECTION: "10s",
    SHARDCAST_RECOVERY_EVENTS_MAX: "5000",
    SHARDCAST_RECOVERY_BYTES_MAX: "1000000",
    ...own,
  };
  const env = { ...inherited, ...settings };
  return start(CONFORMANCE_BIN, ["--bind", `127.0.0.1:${port}`, "--shards", "2"], port, { env, stdio: ["ignore", log, log] });
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = next(child, "exit");
  child.kill("SIGTERM");
  await ended;
}

const urlOf = (server) => `http://${server.spawnargs[2]}`;

// What the ids of one process' clients have in common.
const processOf = (socket) => socket.id.slice(0, 4);

// Clients of every kind; those that are told apart by their address have one each.
function clients(t, way, count, options = {}) {
  const kinds = Object.values(VARIANTS);
  return Promise.all(numbers(count).map((index) => {
    const own = way === "cookie" ? { withCredentials: true } : { agent: new http.Agent({ localAddress: `127.0.${index + 1}.1` }) };
    return settled(t, urls[way], { ...kinds[index % kinds.length], ...own, ...options });
  }));
}

// All of them hear what each says in the room: a process that has just joined it has asked the broker for it by then.
async function meet(sockets, room) {
  const heard = sockets.map(() => new Set());
  const note = heard.map((set) => ({ meets }) => set.add(meets));
  sockets.forEach((socket, index) => socket.on("room-event", note[index]));
  await until(`all hear each other in ${room}`, async () => {
    sockets.forEach((socket, index) => socket.emit("room", room, { meets: index }));
    await pause(50);
    return heard.every((set) => set.size >= sockets.length);
  }, 10_000);
  // What is still on its way comes before what is asked for now.
  for (const socket of sockets) await ask(socket, "message-with-ack", "over");
  await pause(200);
  sockets.forEach((socket, index) => socket.off("room-event", note[index]));
}

async function talk(sockets, room, rounds) {
  const seen = sockets.map((socket) => collect(socket, "room-event"));
  for (const round of numbers(rounds)) {
    sockets.forEach((socket, speaker) => socket.emit("room", room, { speaker, round, bytes: Buffer.from([round]) }));
  }
  await Promise.all(seen.map((list) => list.reaches(rounds * sockets.length)));
  await pause(100);
  for (const list of seen) {
    for (const speaker of sockets.keys()) {
      // The last argument of each event is its offset.
      const said = list.map(([event]) => event).filter((event) => event.speaker === speaker);
      assert.deepEqual(said.map(({ round, bytes }) => [round, bytes[0]]), numbers(rounds).map((round) => [round, round]));
    }
  }
  sockets.forEach((socket) => socket.off("room-event"));
}

describe("three processes behind nginx", only, () => {
  for (const way of ["address", "cookie"]) {
    test(`sticky by ${way}: rooms and everybody, each event once and in order`, async (t) => {
      const sockets = await clients(t, way, 18);
      const processes = new Set(sockets.map(processOf));
      assert.ok(processes.size > 1, "they are spread over processes");
      const members = sockets.filter((_, index) => index % 3 !== 1 || index % 2);
      for (const socket of members) assert.equal(await ask(socket, "join", `room-${way}`), true);
      await meet(members, `room-${way}`);
      await talk(members, `room-${way}`, 20);

      const seen = sockets.map((socket) => collect(socket, "everyone"));
      for (const index of numbers(40)) sockets[0].emit("everyone", { index });
      await Promise.all(seen.map((list) => list.reaches(40)));
      for (const list of seen) assert.deepEqual(list.map(([{ index }]) => index), numbers(40));
      t.diagnostic(`${sockets.length} clients on ${processes.size} processes`);
    });
  }

  test("not one request of a sticky client went to another process", async () => {
    const lines = (await readFile(path.join(nginx.folder, "access.log"), "utf8")).trimEnd().split("\n");
    const upstreams = new Map();
    for (const [, upstream, sid] of lines.map((line) => line.match(/^\d+ \d+ (\S+) "\S+ \S*[?&]sid=([^&\s]+)/)).filter(Boolean)) {
      upstreams.set(sid, (upstreams.get(sid) ?? new Set()).add(upstream));
    }
    assert.deepEqual([...upstreams.values()].filter((set) => set.size > 1), []);
    // 499 is a client that hung up on its own poll, and 400 one that polls a session that it has closed.
    assert.deepEqual(lines.filter((line) => !/^\d+ (200|101|499|400) /.test(line)), []);
    assert.ok(upstreams.size > 20, `only ${upstreams.size} sessions that poll`);
    assert.ok(lines.length > 100, `only ${lines.length} requests`);
  });

  test("without stickiness a poll is answered by what to change, and clients of WebSocket alone get on", async (t) => {
    const open = await (await fetch(`${urls.turns}/socket.io/?EIO=4&transport=polling`)).text();
    const { sid } = JSON.parse(open.slice(1));
    let answer;
    await until("a poll reaches another process", async () => {
      answer = await fetch(`${urls.turns}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body: "3" });
      return answer.status === 400;
    });
    const { code, message } = await answer.json();
    assert.equal(code, 1);
    assert.match(message, /^Session ID unknown: another server process .*ip_hash.*WebSocket/);

    const options = VARIANTS.websocket;
    const sockets = await Promise.all(numbers(6).map(() => settled(t, urls.turns, options)));
    assert.equal(new Set(sockets.map(processOf)).size, 3);
    for (const socket of sockets) assert.equal(await ask(socket, "join", "by-turns"), true);
    await meet(sockets, "by-turns");
    await talk(sockets, "by-turns", 10);
  });

  test("a client of WebSocket alone comes back to another process as who it was, and misses nothing", async (t) => {
    const coming = { ...VARIANTS.websocket, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 60 };
    const lost = await settled(t, urls.turns, coming);
    const speakers = await Promise.all(servers.map((server) => settled(t, urlOf(server), VARIANTS.websocket)));
    assert.equal(new Set(speakers.map(processOf)).size, 3);
    for (const socket of [lost, ...speakers]) assert.equal(await ask(socket, "join", "to-and-fro"), true);
    await meet([lost, ...speakers], "to-and-fro");
    const { id } = lost;
    const seen = collect(lost, "room-event");
    const rounds = 9;
    for (const round of numbers(rounds)) {
      const say = (step) => speakers.forEach((socket, speaker) => socket.emit("room", "to-and-fro", { speaker, number: 3 * round + step }));
      say(0);
      const back = next(lost, "connect", 8_000);
      if (round % 2) lost.io.engine.transport.ws.terminate();
      else lost.io.engine.close();
      say(1);
      await back;
      assert.equal(lost.recovered, true, `round ${round}`);
      assert.equal(lost.id, id);
      say(2);
      await seen.reaches(9 * (round + 1));
    }
    await pause(200);
    for (const speaker of speakers.keys()) {
      const said = seen.map(([event]) => event).filter((event) => event.speaker === speaker);
      assert.deepEqual(said.map(({ number }) => number), numbers(3 * rounds));
    }
  });

  test("one process is killed: the others' clients notice nothing, its own come back to another", async (t) => {
    const coming = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 200 };
    const sockets = [...await clients(t, "address", 12, coming), ...await clients(t, "cookie", 12, coming)];
    const room = "killed";
    for (const socket of sockets) assert.equal(await ask(socket, "join", room), true);
    await meet(sockets, room);

    // The one whose clients there are some of.
    const one = processOf(await settled(t, urlOf(servers[0]), VARIANTS.websocket));
    const own = sockets.filter((socket) => processOf(socket) === one);
    const others = sockets.filter((socket) => processOf(socket) !== one);
    assert.ok(own.length > 0 && others.length > 0, `${own.length} of ${sockets.length} are its own`);
    const ids = others.map((socket) => socket.id);
    const disturbed = [];
    for (const socket of others) socket.on("disconnect", (reason) => disturbed.push(reason));
    const back = own.map((socket) => next(socket, "connect", 15_000));
    servers[0].kill("SIGKILL");
    await talk(others, room, 20);
    await Promise.all(back);
    assert.ok(own.every((socket) => processOf(socket) !== one), "they are with the processes that are left");
    for (const socket of own) assert.equal(await ask(socket, "join", room), true);
    await meet(sockets, room);
    await talk(sockets, room, 10);
    assert.deepEqual(disturbed, []);
    assert.deepEqual(others.map((socket) => socket.id), ids);
    t.diagnostic(`${own.length} clients came back, ${others.length} were elsewhere`);
  });
});

describe("three processes over streams of Redis, behind nginx", only, () => {
  before(async () => {
    if (isReference) return;
    await nginx.stop();
    await Promise.all(servers.map(stop));
    const more = { SHARDCAST_RECOVERY_SURVIVES: "stop", SHARDCAST_CHANNEL: "streams" };
    await startFleet("streams", `redis://127.0.0.1:${redis}/0?mode=streams`, more);
  });

  test("one process is stopped: its clients come back to another as who they were, and miss nothing", async (t) => {
    const coming = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 200 };
    const sockets = [...await clients(t, "address", 12, coming), ...await clients(t, "cookie", 12, coming)];
    const room = "stopped";
    for (const socket of sockets) assert.equal(await ask(socket, "join", room), true);
    await meet(sockets, room);
    const one = processOf(await settled(t, urlOf(servers[0]), VARIANTS.websocket));
    const own = sockets.filter((socket) => processOf(socket) === one);
    const others = sockets.filter((socket) => processOf(socket) !== one);
    assert.ok(own.length > 1 && others.length > 1, `${own.length} of ${sockets.length} are its own`);
    const speakers = others.slice(0, 2);
    const ids = own.map((socket) => socket.id);
    const seen = own.map((socket) => collect(socket, "room-event"));
    const recovered = own.map(() => []);
    own.forEach((socket, index) => socket.on("connect", () => recovered[index].push(socket.recovered)));

    // They speak all the while; those of the process itself until it is stopped.
    let count = 0;
    const say = () => {
      speakers.forEach((socket, speaker) => socket.emit("room", room, { speaker, number: count }));
      count += 1;
    };
    for (const _ of numbers(30)) say();
    for (const index of numbers(10)) own[0].emit("room", room, { speaker: "own", number: index });
    await Promise.all(seen.map((list) => list.reaches(70)));
    const ended = next(servers[0], "exit", 15_000);
    servers[0].kill("SIGTERM");
    for (const _ of numbers(60)) {
      say();
      await pause(10);
    }
    await ended;
    await until("all are back", () => own.every((socket) => socket.connected && processOf(socket.io.engine) !== one), 15_000);
    for (const _ of numbers(10)) say();
    await Promise.all(seen.map((list) => list.reaches(2 * count + 10)));
    await pause(300);

    assert.deepEqual(own.map((socket) => socket.id), ids);
    assert.ok(recovered.every((list) => list.length > 0 && list.every((was) => was)), JSON.stringify(recovered));
    for (const list of seen) {
      for (const [speaker, said] of [[0, count], [1, count], ["own", 10]]) {
        const numbersOf = list.map(([event]) => event).filter((event) => event.speaker === speaker).map(({ number }) => number);
        assert.deepEqual(numbersOf, numbers(said), `of speaker ${speaker}`);
      }
    }
    // From here on they are the others' clients.
    await meet(sockets, room);
    await talk(sockets, room, 5);
    const kinds = new Set(own.map((socket) => socket.io.engine.transport.name));
    t.diagnostic(`${own.length} clients came back, by ${[...kinds]}`);
  });

  test("one process is killed: it leaves nothing, and its clients come back as new sockets, to whom nothing of before is said", async (t) => {
    const coming = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 200 };
    const sockets = await clients(t, "cookie", 12, coming);
    const room = "killed among streams";
    for (const socket of sockets) assert.equal(await ask(socket, "join", room), true);
    await meet(sockets, room);
    const one = processOf(await settled(t, urlOf(servers[1]), VARIANTS.websocket));
    const own = sockets.filter((socket) => processOf(socket) === one);
    const [other] = sockets.filter((socket) => processOf(socket) !== one);
    assert.ok(own.length > 0 && other, `${own.length} of ${sockets.length} are its own`);
    const ids = own.map((socket) => socket.id);
    const seen = own.map((socket) => collect(socket, "room-event"));
    const recovered = own.map(() => []);
    own.forEach((socket, index) => socket.on("connect", () => recovered[index].push(socket.recovered)));
    const say = (count) => numbers(count).forEach((number) => other.emit("room", room, { number }));
    say(20);
    await Promise.all(seen.map((list) => list.reaches(20)));
    servers[1].kill("SIGKILL");
    say(20);
    await until("all are back", () => own.every((socket) => socket.connected && processOf(socket) !== one), 15_000);
    await ask(other, "message-with-ack", "over");
    await pause(200);
    assert.ok(recovered.every((list) => list.length === 1 && !list[0]), JSON.stringify(recovered));
    assert.ok(own.every((socket, index) => socket.id !== ids[index]));
    // What was on its way when it was killed may have come; nothing comes to the new sockets, which are in no room.
    for (const list of seen) assert.deepEqual(list.map(([event]) => event.number), [...numbers(20), ...numbers(list.length - 20)]);
    own.forEach((socket) => socket.off("room-event"));
    for (const socket of own) assert.equal(await ask(socket, "join", room), true);
    await meet(sockets, room);
    await talk(sockets, room, 5);
  });
});
