// Long-polling without keep-alive against 16 shards: every request may land on another shard, and none may fail.

import assert from "node:assert/strict";
import diagnostics from "node:diagnostics_channel";
import http from "node:http";
import { before, test } from "node:test";
import { ask, connected } from "../lib/clients.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { collect } from "../lib/wait.mjs";

const URL = serverUrl("SHARDED_URL");
const CLIENTS = 50;
const numbers = (count) => Array.from({ length: count }, (_, index) => index);

const statuses = new Map();
const ports = new Set();
before(() => diagnostics.subscribe("http.client.response.finish", ({ request, response }) => {
  statuses.set(response.statusCode, (statuses.get(response.statusCode) ?? 0) + 1);
  ports.add(request.socket?.localPort);
}));

test("50 polling clients, 20 acked emits and 20 broadcasts each way, zero 400s", async (t) => {
  const agent = new http.Agent({ keepAlive: false });
  const options = { transports: ["polling"], agent };
  const sockets = await Promise.all(numbers(CLIENTS).map(() => connected(t, URL, options)));

  await Promise.all(sockets.map(async (socket, client) => {
    for (const index of numbers(20)) assert.deepEqual(await ask(socket, "message-with-ack", { client, index }), { client, index });
  }));

  const seen = sockets.map((socket) => collect(socket, "everyone"));
  const publishers = sockets.slice(0, 4);
  for (const index of numbers(20)) for (const [from, socket] of publishers.entries()) socket.emit("everyone", { from, index });
  await Promise.all(seen.map((list) => list.reaches(80)));
  for (const socket of sockets) assert.equal(await ask(socket, "message-with-ack", "end"), "end");
  for (const list of seen) {
    assert.equal(list.length, 80);
    for (const from of publishers.keys()) assert.deepEqual(list.filter((event) => event.from === from).map((event) => event.index), numbers(20));
  }

  const shards = new Set(await Promise.all(sockets.map((socket) => ask(socket, "shard"))));
  if (!isReference) assert.ok(shards.size >= 4, `50 sessions were born on ${shards.size} of 16 shards`);

  const total = [...statuses.values()].reduce((sum, count) => sum + count, 0);
  t.diagnostic(`${total} requests from ${ports.size} ports, ${shards.size} shards`);
  assert.ok(total > CLIENTS * 40, `only ${total} requests were made`);
  assert.ok(ports.size > 200, `keep-alive is off, yet only ${ports.size} connections were made`);
  assert.deepEqual([...statuses.keys()], [200], JSON.stringify([...statuses]));
});
