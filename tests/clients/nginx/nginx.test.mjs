// Clients through nginx to one server with 16 shards: no stickiness, upstream connections shared by all sessions.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { VARIANTS, ask, settled } from "../js/lib/clients.mjs";
import { serverUrl } from "../js/lib/target.mjs";
import { collect, next, until } from "../js/lib/wait.mjs";

const upstream = new globalThis.URL(serverUrl("SHARDED_URL")).host;
const numbers = (count) => Array.from({ length: count }, (_, index) => index);
let folder, nginx, url;

before(async () => {
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  folder = await mkdtemp(path.join(tmpdir(), "shardcast-nginx-"));
  await chmod(folder, 0o755); // the workers run as another user
  const template = await readFile(new URL("nginx.conf.template", import.meta.url), "utf8");
  await writeFile(path.join(folder, "nginx.conf"), template.replaceAll("@LISTEN@", `127.0.0.1:${port}`).replaceAll("@UPSTREAM@", upstream));
  nginx = spawn("nginx", ["-p", folder, "-c", "nginx.conf", "-e", "error.log"], { stdio: "inherit" });
  nginx.on("error", (error) => { throw error; });
  await until("nginx listens", () => {
    assert.equal(nginx.exitCode, null, "nginx ended");
    return accepts(port);
  }, 5_000);
});

after(async () => {
  if (nginx?.exitCode === null) {
    const ended = next(nginx, "exit");
    nginx.kill("SIGTERM");
    await ended;
  }
  if (folder) await rm(folder, { recursive: true, force: true });
});

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false)).on("close", () => socket.destroy());
    socket.on("connect", () => socket.end());
  });
}

test("polling, WebSocket and upgrading clients, zero 400s", async (t) => {
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

  // nginx writes an upgraded connection's line when it ends.
  const lines = async () => (await readFile(path.join(folder, "access.log"), "utf8")).trimEnd().split("\n");
  await until("16 upgraded connections in the log", async () => (await lines()).filter((line) => line.startsWith("101 ")).length === 16, 5_000);
  const outcomes = await lines();
  // 499 is a client that hung up on its own poll, as a client may when it disconnects.
  const failures = outcomes.filter((line) => !/^(200|101) /.test(line) && !/^499 - /.test(line));
  assert.deepEqual(failures, []);
  assert.ok(outcomes.length > 300, `only ${outcomes.length} requests`);
  t.diagnostic(`${outcomes.length} requests, ${outcomes.filter((line) => line.startsWith("499")).length} hung up by the client`);
});
