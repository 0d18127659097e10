// A proxy in front of one server with 16 shards: no stickiness, upstream connections shared by all sessions.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import http from "node:http";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { VARIANTS, ask, settled } from "../js/lib/clients.mjs";
import { serverUrl } from "../js/lib/target.mjs";
import { collect, next, until } from "../js/lib/wait.mjs";

const upstream = new globalThis.URL(serverUrl("SHARDED_URL")).host;
const numbers = (count) => Array.from({ length: count }, (_, index) => index);

// Starts a program with a configuration made from its template. `folder` is where it runs and writes.
export async function startProxy(program, template, args, { stdout = "inherit", places = {} } = {}) {
  const port = await freePort();
  const folder = await mkdtemp(path.join(tmpdir(), `shardcast-${program}-`));
  await chmod(folder, 0o755); // the workers run as another user
  const text = await readFile(new URL(template, import.meta.url), "utf8");
  const config = path.join(folder, path.basename(template, ".template"));
  const addresses = { LISTEN: `127.0.0.1:${port}`, UPSTREAM: upstream, ...places };
  await writeFile(config, text.replace(/@(\w+)@/g, (_, name) => addresses[name]));
  const child = spawn(program, args(folder, config), { stdio: ["ignore", stdout, "inherit"] });
  child.on("error", (error) => { throw error; });
  await until(`${program} listens`, () => {
    assert.equal(child.exitCode, null, `${program} ended`);
    return accepts(port);
  }, 5_000);
  const stop = async () => {
    if (child.exitCode === null) {
      const ended = next(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    await rm(folder, { recursive: true, force: true });
  };
  return { url: `http://127.0.0.1:${port}`, folder, child, stop };
}

export function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false)).on("close", () => socket.destroy());
    socket.on("connect", () => socket.end());
  });
}

// Clients of every kind talk through the proxy; `outcomes` gives the status of each request that it has logged.
export async function checkClients(t, url, outcomes) {
  const kinds = Object.values(VARIANTS);
  const sockets = await Promise.all(numbers(24).map((index) => settled(t, url, kinds[index % kinds.length])));
  await Promise.all(sockets.map(async (socket, client) => {
    for (const index of numbers(15)) assert.deepEqual(await ask(socket, "message-with-ack", client, index), client);
  }));
  const large = "x".repeat(900_000);
  for (const socket of sockets.slice(0, 3)) assert.equal(await ask(socket, "message-with-ack", large), large);

  const seen = sockets.map((socket) => collect(socket, "everyone"));
  for (const index of numbers(40)) sockets[0].emit("everyone", { index, bytes: Buffer.from([index]) });
  await Promise.all(seen.map((list) => list.reaches(40)));
  for (const socket of sockets) assert.equal(await ask(socket, "message-with-ack", "end"), "end");
  for (const list of seen) assert.deepEqual(list.map(({ index }) => index), numbers(40));

  const closed = sockets.map((socket) => next(socket, "disconnect"));
  for (const socket of sockets) socket.disconnect();
  await Promise.all(closed);

  // An upgraded connection's line is written when it ends.
  await until("16 upgraded connections in the log", async () => (await outcomes()).filter((status) => status === "101").length === 16, 5_000);
  const statuses = await outcomes();
  const failures = statuses.filter((status) => !["200", "101", "hung up"].includes(status));
  assert.deepEqual(failures, []);
  assert.ok(statuses.length > 300, `only ${statuses.length} requests`);
  t.diagnostic(`${statuses.length} requests, ${statuses.filter((status) => status === "hung up").length} hung up by the client`);
}

// The address that the server sees, of a client that has one of its own: in a route, and in a session's handshake.
export async function addresses(url, headers = {}) {
  const get = (target, method = "GET", body) => new Promise((resolve, reject) => {
    const options = { method, headers, localAddress: "127.0.0.9", agent: false };
    const request = http.request(new URL(target, url), options, async (response) => {
      resolve(Buffer.concat(await response.toArray()).toString());
    });
    request.on("error", reject).end(body);
  });
  const route = await get("/address");
  const open = await get("/socket.io/?EIO=4&transport=polling");
  const session = `/socket.io/?EIO=4&transport=polling&sid=${JSON.parse(open.slice(1)).sid}`;
  await get(session, "POST", '40\x1e421["address"]');
  let polled = "";
  while (!polled.includes("431[")) polled += await get(session);
  return { route, handshake: JSON.parse(polled.match(/431(\[[^\]]*\])/)[1])[0] };
}
