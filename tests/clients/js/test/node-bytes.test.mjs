// The bytes of tests/vectors/nodejs/ours.jsonl, which are what shardcast writes, given to Node's own Redis adapters: their clients
// must receive the events, their servers do what is asked and take the answers. Needs a redis-server, and no shardcast.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";
import { lastFirst, startRedis } from "../lib/fleet.mjs";
import { RemoteSocket } from "../node_modules/socket.io/dist/broadcast-operator.js";

const VECTORS = new URL("../../../vectors/nodejs/ours.jsonl", import.meta.url);
const LINES = readFileSync(VECTORS, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const OURS = "shardcast-0a1b2c";
const PATIENCE_MS = 5_000;

const ADAPTERS = {
  classic: (publisher, subscriber) => createAdapter(publisher, subscriber),
  sharded: (publisher, subscriber) => createShardedAdapter(publisher, subscriber),
  streams: (publisher) => createStreamsAdapter(publisher, { blockTimeInMs: 200 }),
};

/** A Node server with one client in two rooms, and what goes on there. */
async function startNode(t, format, redis) {
  const [publisher, subscriber] = [await redis.connect(), await redis.connect()];
  const http = createServer();
  const io = new Server(http, { adapter: ADAPTERS[format](publisher, subscriber) });
  io.of("/custom");
  const seen = [];
  const see = (...what) => seen.push(what);
  io.on("ss", (...args) => see("server", ...args));
  io.on("ask", (question, answer) => answer(`answer to ${question}`));
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const joined = new Promise((resolve) => {
    io.on("connection", async (socket) => {
      await socket.join(["r1", "twenty-letters-long-"]);
      resolve(socket);
    });
  });
  const client = connect(`http://127.0.0.1:${http.address().port}`, { transports: ["websocket"], reconnection: false });
  client.onAny((name, ...args) => {
    const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
    see("client", name, ...args);
    answer?.(name === "bin" ? Buffer.from([9, 8]) : "ok");
  });
  client.on("disconnect", (reason) => see("client", reason));
  t.after(async () => {
    client.close();
    await new Promise((resolve) => io.close(resolve));
  });
  const socket = await joined;
  return { io, socket, seen };
}

/** Publishes a line as the Redis client of a shardcast process would. */
async function publish(publisher, line, channel = line.channel) {
  const payload = Buffer.from(line.payload_b64 ?? "", "base64");
  if (line.command === "PUBLISH") assert.ok((await publisher.publish(channel, payload)) > 0, "somebody hears it");
  if (line.command === "SPUBLISH") assert.ok((await publisher.sPublish(channel, payload)) > 0, "somebody hears it");
  if (line.command === "XADD") await publisher.sendCommand(["XADD", channel, "*", ...line.fields.flat()]);
}

async function until(what, is) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    if (await is()) return;
    assert.ok(Date.now() < end, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const bytes = (...values) => Buffer.from(values);
const BINARY = ["client", "bin", bytes(1, 2, 3), { x: bytes(255) }];

/** What is seen on Node for each message; a function looks for itself. */
const EXPECTED = {
  "text": ["client", "hello", "world"],
  "values": ["client", "types", null, true, -1, -33, 128, 65536, 4294967296, 1.5, "é😀", { a: [1, {}] },
    { _placeholder: true, num: 0 }],
  "binary": BINARY,
  "one room": ["client", "r", 1],
  "a room like an id": ["client", "id"],
  "rooms and flags": ["client", "multi"],
  "asking": ["client", "ackme", "q"],
  "asking with binary": BINARY,
  "join": ({ socket }) => socket.rooms.has("j1") && socket.rooms.has("j2"),
  "leave": ({ socket }) => !socket.rooms.has("j1") && socket.rooms.has("j2"),
  "fetch": () => true,
  "all rooms": () => true,
  "ask for ids": () => true,
  "server event": ["server", 1, { a: 2 }],
  "server event with binary": (node, format) => node.seen.some(([who, value]) => who === "server"
    && JSON.stringify(value) === '{"type":"Buffer","data":[1,2]}' && Buffer.isBuffer(value) === (format !== "classic")),
  "server event that asks": () => true,
  "disconnect": ["client", "io server disconnect"],
};

/** What Node answers to us: parts of the text, whether JSON or MessagePack. */
const ANSWERS = {
  "asking": [["clientCount"], ["packet", "ok"]],
  "asking with binary": [["clientCount"], ["packet", "\t\b"]],
  "fetch": [["sockets", "handshake", "r1"]],
  "all rooms": [["rooms", "twenty-letters-long-"]],
  "ask for ids": [["sockets"]],
  "server event that asks": [["answer to x"]],
};

for (const format of Object.keys(ADAPTERS)) {
  test(`${format}: Node hears what shardcast says`, async (t) => {
    const scope = lastFirst(t);
    const redis = await startRedis(scope);
    const node = await startNode(scope, format, redis);
    const [publisher, listener] = [await redis.connect(), await redis.connect()];
    const answers = [];
    const hear = (message) => answers.push(message.toString("latin1"));
    if (format === "classic") await listener.subscribe("socket.io-response#/#", hear, true);
    if (format === "sharded") await listener.sSubscribe(`socket.io#/#${OURS}#`, hear, true);
    if (format === "streams") await listener.subscribe(`socket.io#/#${OURS}#`, hear, true);
    // Its subscriptions and the reader of its stream are there by now.
    await until("a broadcast between Node and itself", async () => (await node.io.fetchSockets()).length === 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const lines = LINES.filter((line) => line.format === format && EXPECTED[line.name]);
    assert.ok(lines.length >= 15, `${lines.length} messages`);
    for (const line of lines) {
      node.seen.length = answers.length = 0;
      await publish(publisher, line);
      const expected = EXPECTED[line.name];
      if (typeof expected === "function") {
        await until(`${format}: ${line.name}`, () => expected(node, format));
      } else {
        await until(`${format}: ${line.name}`, () => node.seen.length > 0);
        assert.deepEqual(node.seen, [expected], line.name);
      }
      for (const parts of ANSWERS[line.name] ?? []) {
        const is = (answer) => [OURS, ...parts].every((part) => answer.includes(part));
        await until(`${format}: ${line.name}: ${parts}`, () => answers.some(is));
      }
    }
  });

  test(`${format}: Node takes the answers of shardcast`, async (t) => {
    const scope = lastFirst(t);
    const redis = await startRedis(scope);
    const { io } = await startNode(scope, format, redis);
    const publisher = await redis.connect();
    const { adapter } = io.of("/custom");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const lines = LINES.filter((line) => line.format === format && !EXPECTED[line.name]);
    assert.ok(lines.length >= 8, `${lines.length} answers`);
    for (const line of lines) {
      // As the adapter keeps a request that it has sent; the numbers are those of its types.
      const kinds = { sockets: [5, 7], ids: [0], rooms: [1] }[line.name] ?? [6, 9];
      const taken = new Promise((resolve) => {
        const resolved = (first, second) => resolve(second ?? first);
        if (line.name.startsWith("count") || line.name.startsWith("ack")) {
          adapter.ackRequests.set("S2a_99", { clientCountCallback: resolve, ack: resolve });
          adapter.requests.delete("S2a_99");
        } else {
          adapter.ackRequests.delete("S2a_99");
          const isClassicAsking = kinds[0] !== 6;
          adapter.requests.set("S2a_99", {
            type: format === "classic" ? kinds[0] : kinds[1], resolve: resolved, current: 0, expected: 1, responses: [],
            msgCount: 1, numSub: isClassicAsking ? 2 : 1, sockets: line.name === "ids" ? new Set() : [], rooms: new Set(),
          });
        }
      });
      const own = format === "classic" ? line.channel : line.channel.replace("theirs", adapter.uid);
      await publish(publisher, line, own);
      let result = await Promise.race([taken, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS, "in vain"))]);
      if (result instanceof Set) result = [...result];
      if (line.name === "sockets") {
        const socket = new RemoteSocket(adapter, result[0]);
        assert.equal(socket.id, "qu6x9d3Zy3p4LoxoAAAB");
        assert.deepEqual([...socket.rooms], ["qu6x9d3Zy3p4LoxoAAAB", "r1"]);
        assert.deepEqual(socket.data, { user: "bo" });
        const { headers, query, url, address, issued, time } = socket.handshake;
        assert.deepEqual(headers, { host: "a.example", "user-agent": "x" });
        assert.deepEqual(query, { EIO: "4", transport: "websocket" });
        assert.deepEqual([url, address], ["/socket.io/?EIO=4&transport=websocket", "192.0.2.1"]);
        assert.equal(Math.floor(issued / 1000), Date.parse(time) / 1000);
        continue;
      }
      const buffer = format === "classic" && line.name.startsWith("server") ? bytes(9, 8).toJSON() : bytes(9, 8);
      const expected = {
        "ids": ["qu6x9d3Zy3p4LoxoAAAB", "r1"],
        "rooms": ["qu6x9d3Zy3p4LoxoAAAB", "r1"],
        "server answer": [{ pong: [1] }],
        "server answer with binary": [buffer],
        "no server answer": [undefined],
        "count": 300,
        "ack": "ok",
        "ack with binary": buffer,
        "ack of nothing": undefined,
      }[line.name];
      const plain = (value) => Array.isArray(value) ? value.map(plain) : value instanceof Uint8Array ? Buffer.from(value) : value;
      assert.deepEqual(plain(result), expected, line.name);
    }
  });
}
