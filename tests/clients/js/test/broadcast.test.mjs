// Broadcasts across many clients on mixed transports: each event exactly once, each publisher's in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VARIANTS, ask, settled } from "../lib/clients.mjs";
import { serverUrl } from "../lib/target.mjs";
import { collect } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");
const CLIENTS = 20;
const KINDS = Object.values(VARIANTS);

const crowd = (t) => Promise.all(Array.from({ length: CLIENTS }, (_, index) => settled(t, URL, KINDS[index % KINDS.length])));
const numbers = (count) => Array.from({ length: count }, (_, index) => index);

test("20 clients get 200 messages of one publisher exactly once and in order", async (t) => {
  const sockets = await crowd(t);
  const seen = sockets.map((socket) => collect(socket, "everyone"));
  for (const index of numbers(200)) sockets[0].emit("everyone", index);
  await Promise.all(seen.map((list) => list.reaches(200)));
  // A message of its own behind the last one: a duplicate would be here by now.
  for (const socket of sockets) assert.equal(await ask(socket, "message-with-ack", "end"), "end");
  for (const list of seen) assert.deepEqual([...list], numbers(200));
});

test("five publishers at once: each one's messages stay in order everywhere", async (t) => {
  const sockets = await crowd(t);
  const seen = sockets.map((socket) => collect(socket, "everyone"));
  const publishers = sockets.slice(0, 5);
  for (const index of numbers(80)) for (const [from, socket] of publishers.entries()) socket.emit("everyone", { from, index });
  await Promise.all(seen.map((list) => list.reaches(400)));
  for (const socket of sockets) assert.equal(await ask(socket, "message-with-ack", "end"), "end");
  for (const list of seen) for (const from of publishers.keys()) {
    assert.deepEqual(list.filter((event) => event.from === from).map((event) => event.index), numbers(80));
  }
});

test("binary broadcasts are right on polling and on WebSocket alike", async (t) => {
  const sockets = await crowd(t);
  const seen = sockets.map((socket) => collect(socket, "everyone"));
  const payload = (index) => ({ index, bytes: Buffer.alloc(index * 100, index), more: [Buffer.alloc(0)] });
  for (const index of numbers(30)) sockets[index % CLIENTS].emit("everyone", payload(index));
  await Promise.all(seen.map((list) => list.reaches(30)));
  for (const list of seen) assert.deepEqual([...list].sort((a, b) => a.index - b.index), numbers(30).map(payload));
});

test("a room across shards: all of it, all but the sender, and a member of two rooms once", async (t) => {
  const sockets = await crowd(t);
  const seen = sockets.map((socket) => collect(socket, "room-event"));
  const room = `crowd ${sockets[0].id}`;
  const members = sockets.slice(0, 12);
  for (const socket of members) assert.equal(await ask(socket, "join", room), true);
  for (const index of numbers(50)) {
    sockets[0].emit("room", room, index);
    sockets[0].emit("room-others", room, `others ${index}`);
  }
  await Promise.all(seen.slice(1, 12).map((list) => list.reaches(100)));
  await seen[0].reaches(50);
  for (const socket of sockets) assert.equal(await ask(socket, "message-with-ack", "end"), "end");
  const both = numbers(50).flatMap((index) => [index, `others ${index}`]);
  for (const [index, list] of seen.entries()) assert.deepEqual([...list], index === 0 ? numbers(50) : index < 12 ? both : []);
});
