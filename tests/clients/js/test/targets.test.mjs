// Sockets of all shards as one: questions to a room, fetch, counts, changes, and calls from a thread of the server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VARIANTS, ask, settled } from "../lib/clients.mjs";
import { betterThanNode, serverUrl } from "../lib/target.mjs";
import { next, until } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");
const KINDS = Object.values(VARIANTS);
const MEMBERS = 9;

/** One who asks, and members of a room of their own on mixed transports. */
async function crowd(t, url = URL) {
  const sockets = await Promise.all(
    Array.from({ length: MEMBERS + 1 }, (_, index) => settled(t, url, KINDS[index % KINDS.length])));
  const [asker, ...members] = sockets;
  const room = `targets ${asker.id}`;
  for (const socket of members) assert.equal(await ask(socket, "join", room), true);
  return { asker, members, room };
}

/** What an acknowledgement carries, when it has several arguments. */
const askAll = (socket, ...args) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`no answer to ${args[0]}`)), 8_000);
  socket.emit(...args, (...answer) => (clearTimeout(timer), resolve(answer)));
});

const sorted = (values) => [...values].sort();
const ids = (sockets) => sorted(sockets.map((socket) => socket.id));

for (const namespace of ["", "/custom"]) {
  test(`a question to a room gathers what all answer ${namespace}`, async (t) => {
    const { asker, members, room } = await crowd(t, URL + namespace);
    for (const socket of members) socket.on("question", (value, ack) => ack(`${socket.id} ${value}`));
    asker.on("question", () => assert.fail("the asker is not in the room"));
    const [complete, values] = await askAll(asker, "ask-room", room, 5_000);
    assert.equal(complete, true);
    assert.deepEqual(sorted(values), ids(members).map((id) => `${id} 42`));
  });
}

test("binary answers come along", betterThanNode, async (t) => {
  const { asker, members, room } = await crowd(t);
  for (const socket of members) socket.on("question", (value, ack) => ack(socket.id, Buffer.from([1, 2, 3])));
  const [complete, values] = await askAll(asker, "ask-room", room, 5_000);
  assert.deepEqual([complete, sorted(values)], [true, ids(members)]);
});

test("who is silent costs the whole time, who leaves does not", async (t) => {
  const { asker, members, room } = await crowd(t);
  for (const socket of members.slice(1)) socket.on("question", (value, ack) => ack(socket.id));
  const began = Date.now();
  const [complete, values] = await askAll(asker, "ask-room", room, 2_000);
  assert.equal(complete, false);
  assert.deepEqual(sorted(values), ids(members.slice(1)));
  assert.ok(Date.now() - began >= 2_000, "the silent one had his time");
});

test("the last to leave ends the question at once", betterThanNode, async (t) => {
  const { asker, members, room } = await crowd(t);
  for (const socket of members.slice(1)) socket.on("question", (value, ack) => ack(socket.id));
  members[0].on("question", () => members[0].disconnect());
  const began = Date.now();
  const [complete, values] = await askAll(asker, "ask-room", room, 7_000);
  assert.deepEqual([complete, sorted(values)], [false, ids(members.slice(1))]);
  assert.ok(Date.now() - began < 3_000, "long before the time is over");
});

test("nobody in the room: nobody answers, at once", async (t) => {
  const asker = await settled(t, URL);
  assert.deepEqual(await askAll(asker, "ask-room", "nobody is here", 5_000), [true, []]);
});

test("many questions at once get their own answers, beside questions to one", async (t) => {
  const { asker, members, room } = await crowd(t);
  let asked = 0;
  for (const socket of members) socket.on("question", (value, ack) => setTimeout(() => ack((asked++, socket.id)), Math.random() * 50));
  const own = members.map((socket) => next(socket, "answer"));
  for (const socket of members) socket.emit("ask-me");
  const questions = await Promise.all(members.map((socket) => askAll(socket, "ask-room", room, 5_000)));
  for (const [complete, values] of questions) assert.deepEqual([complete, sorted(values)], [true, ids(members)]);
  await Promise.all(own);
  assert.equal(asked, MEMBERS * MEMBERS + MEMBERS);
  assert.ok(asker.connected);
});

test("fetch and count see every shard", async (t) => {
  const { asker, members, room } = await crowd(t);
  for (const [index, socket] of members.entries()) assert.equal(await ask(socket, "set-data", { index }), true);
  const remote = await ask(asker, "fetch", room);
  assert.deepEqual(sorted(remote.map(({ id }) => id)), ids(members));
  for (const [index, socket] of members.entries()) {
    const { rooms, data, EIO } = remote.find(({ id }) => id === socket.id);
    assert.deepEqual([sorted(rooms), data, EIO], [sorted([socket.id, room]), { index }, "4"]);
  }
  assert.equal(await ask(asker, "count", room), MEMBERS);
  assert.equal(await ask(asker, "count", members[3].id), 1);
  assert.equal(await ask(asker, "count", "nobody is here"), 0);
});

test("rooms are moved, closed and disconnected across shards", async (t) => {
  const { asker, members, room } = await crowd(t);
  const other = `${room} moved`;
  await askAll(asker, "move-room", room, other);
  // The change travels to the other shards behind the answer.
  await until("all are moved", async () => (await ask(asker, "count", other)) === MEMBERS && (await ask(asker, "count", room)) === 0);
  for (const socket of members) assert.deepEqual(sorted(await ask(socket, "rooms")), sorted([socket.id, other]));
  const gone = members.map((socket) => next(socket, "disconnect"));
  asker.emit("disconnect-room", other);
  for (const [reason] of await Promise.all(gone)) assert.equal(reason, "io server disconnect");
  assert.equal(await ask(asker, "count", other), 0);
});

test("a thread of the server calls a socket of any shard", async (t) => {
  const { asker, members } = await crowd(t);
  for (const socket of members.slice(1)) {
    socket.on("question", (value, ack) => ack({ value, from: socket.id }));
    const called = next(asker, "called");
    assert.equal(await ask(asker, "call-from-thread", socket.id, 5_000), true);
    assert.deepEqual((await called)[0], { value: 42, from: socket.id });
  }
  for (const sid of [members[0].id, "AAAAAAAAAAAAAAAAAAAA"]) {
    const called = next(asker, "called");
    assert.equal(await ask(asker, "call-from-thread", sid, 300), true);
    assert.equal((await called)[0], null);
  }
});

for (const [name, kind] of Object.entries(VARIANTS)) {
  test(`what was set and said is read again: ${name}`, async (t) => {
    const socket = await settled(t, URL, { ...kind, query: { "x-a": "1 & é", "x-b": "" } });
    const { data, revision, transport, parameters } = await ask(socket, "about");
    assert.deepEqual([data, revision, parameters], [null, 4, [["x-a", "1 & é"], ["x-b", ""]]]);
    assert.equal(transport, socket.io.engine.transport.name);
    await ask(socket, "set-data", { score: [1, null] });
    assert.deepEqual((await ask(socket, "about")).data, { score: [1, null] });
  });

  test(`a client is known in its other namespaces: ${name}`, async (t) => {
    const { asker, members } = await crowd(t, URL + "/custom");
    for (const socket of [asker, ...members]) socket.on("elsewhere", (payload) => (socket.heard = payload));
    const socket = await settled(t, URL, kind);
    assert.equal(await ask(socket, "elsewhere", "/custom", "a"), null);
    await until("all have heard", () => [asker, ...members].every((other) => other.heard === "a"));
    const there = socket.io.socket("/custom", {});
    t.after(() => there.close());
    if (!there.connected) await next(there, "connect");
    there.on("elsewhere", () => assert.fail("it is the sender"));
    assert.equal(await ask(socket, "elsewhere", "/custom", "b"), there.id);
    await until("all others have heard", () => [asker, ...members].every((other) => other.heard === "b"));
    assert.deepEqual(await ask(there, "message-with-ack", 1), 1, "nothing came in between");
  });
}

test("a change that is awaited is made on every shard", betterThanNode, async (t) => {
  const { asker, members, room } = await crowd(t);
  const changed = (...args) => {
    const answer = next(asker, "changed");
    asker.emit("change-and-wait", ...args);
    return answer;
  };
  const hall = `${room} hall`;
  assert.deepEqual(await changed([room], [], "join", hall), [true]);
  assert.equal(await ask(asker, "count", hall), MEMBERS);
  assert.deepEqual(await changed([hall], [members[0].id], "leave", hall), [true]);
  assert.equal(await ask(asker, "count", hall), 1);
  const gone = members.map((socket) => next(socket, "disconnect"));
  assert.deepEqual(await changed([room], [], "disconnect"), [true]);
  assert.equal(await ask(asker, "count", room), 0);
  for (const reason of await Promise.all(gone)) assert.equal(reason[0], "io server disconnect");
});
