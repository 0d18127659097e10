// How sessions end, for stock clients: a close at any moment of an upgrade, a server that is restarted on its port, a message that is
// too large. Nobody hangs until a ping timeout, and everybody comes back who was not sent away.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { io } from "socket.io-client";

import { arrival, ask, client, connected, upgraded } from "../lib/clients.mjs";
import { request } from "../lib/engine.mjs";
import { MESSAGE_BYTES_MAX, betterThanNode, serverUrl } from "../lib/target.mjs";
import { next, until, within } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");

/** Clients of each kind of end; they are ended at different moments after they opened. */
const TRIALS = 40;

/** An end is heard within this. The client's own ping timeout would be 45 s. */
const HEARD_MS = 4_000;

async function freePort() {
  const holder = net.createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const { port } = holder.address();
  holder.close();
  await once(holder, "close");
  return port;
}

/** A server of the test's own, which can be restarted on its port. */
async function ownServer(t, settings = {}) {
  const port = await freePort();
  const log = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "shardcast-ends-")), "log");
  const server = { url: `http://127.0.0.1:${port}`, log: () => fs.readFileSync(log, "utf8") };
  server.start = async () => {
    const output = fs.openSync(log, "a");
    const env = { ...process.env, ...settings };
    server.child = spawn(process.env.CONFORMANCE_BIN, ["--bind", `127.0.0.1:${port}`, "--shards", "2"], { env, stdio: ["ignore", output, output] });
    fs.closeSync(output);
    server.exited = once(server.child, "exit");
    await until("the server listens", () => request(server.url, "/hello").then(() => true, () => false), 8_000);
  };
  server.restart = async () => {
    server.child.kill("SIGTERM");
    const [code] = await within(15_000, "the server's end", server.exited);
    assert.equal(code, 0);
    await server.start();
  };
  t.after(() => server.child.kill("SIGKILL"));
  await server.start();
  return server;
}

/** The moment, in ms after the connection, at which trial `number` ends: from before the probe until after the upgrade. */
const moment = (number) => (number % 20) * 0.6;

/** Sleeps less than a timer can. */
async function briefly(ms) {
  const until = performance.now() + ms;
  while (performance.now() < until) await new Promise(setImmediate);
}

describe("a close during an upgrade is heard at once", () => {
  const ends = {
    "by the server": (socket, controller) => controller.emit("close-room", socket.id),
    "by a kick from another shard": (socket, controller) => controller.emit("disconnect-room", socket.id),
    "by the client": (socket) => socket.disconnect(),
    "by an error": (socket) => socket.io.engine.write("9 is no packet"),
  };
  for (const [name, end] of Object.entries(ends)) {
    test(name, betterThanNode, async (t) => {
      const controllers = await Promise.all([0, 1, 2, 3].map(() => connected(t, URL, { transports: ["websocket"] })));
      const reasons = [];
      for (let batch = 0; batch < TRIALS; batch += 10) {
        await Promise.all(Array.from({ length: 10 }, async (_, place) => {
          const number = batch + place;
          const socket = client(t, URL);
          await arrival(socket);
          const over = next(socket, "disconnect", HEARD_MS);
          await briefly(moment(number));
          end(socket, controllers[number % controllers.length]);
          const [reason] = await over;
          assert.notEqual(reason, "ping timeout");
          reasons.push(reason);
        }));
      }
      assert.equal(reasons.length, TRIALS);
    });
  }

  test("by a stop of the server, and everybody is back after it", betterThanNode, async (t) => {
    const server = await ownServer(t);
    for (let round = 0; round < 3; round++) {
      const sockets = [];
      t.after(() => sockets.forEach((socket) => socket.disconnect()));
      for (let number = 0; number < 20; number++) {
        const socket = io(server.url, { forceNew: true });
        sockets.push(socket);
        await briefly(1);
      }
      await Promise.all(sockets.slice(0, 10).map((socket) => arrival(socket)));
      const heard = sockets.filter((socket) => socket.connected).map((socket) => next(socket, "disconnect", HEARD_MS));
      await server.restart();
      const reasons = (await Promise.all(heard)).map(([reason]) => reason);
      assert.ok(reasons.every((reason) => reason.startsWith("transport")), reasons.join());
      await until("all are back", () => sockets.every((socket) => socket.connected), 12_000);
      sockets.forEach((socket) => socket.disconnect());
    }
  });
});

describe("a restart on the same port", betterThanNode, () => {
  const KINDS = { polling: { transports: ["polling"] }, websocket: { transports: ["websocket"] }, upgrade: {} };
  for (const [name, settings] of Object.entries({ "at once": {}, "spread over a second": { SHARDCAST_SHUTDOWN_SPREAD: "1s" } })) {
    test(`${name}: every stock client comes back, and the log has no error`, async (t) => {
      const server = await ownServer(t, settings);
      const sockets = Object.entries(KINDS).flatMap(([kind, options]) => Array.from({ length: 10 }, () => {
        const socket = io(server.url, { forceNew: true, ...options });
        socket.kind = kind;
        return socket;
      }));
      t.after(() => sockets.forEach((socket) => socket.disconnect()));
      await Promise.all(sockets.map((socket) => arrival(socket)));
      await Promise.all(sockets.filter(({ kind }) => kind === "upgrade").map(upgraded));
      const ids = sockets.map((socket) => socket.id);
      const reasons = sockets.map((socket) => next(socket, "disconnect", HEARD_MS + 2_000));
      const news = sockets.map((socket) => next(socket, "everyone", HEARD_MS));
      sockets[0].emit("everyone", "before the end");
      await Promise.all(news);
      await server.restart();
      for (const [reason] of await Promise.all(reasons)) assert.match(reason, /^transport (close|error)$/);
      await until("all are back", () => sockets.every((socket, place) => socket.connected && socket.id !== ids[place]), 12_000);
      assert.deepEqual(await Promise.all(sockets.map((socket, number) => ask(socket, "message-with-ack", number))), sockets.map((_, number) => number));
      assert.doesNotMatch(server.log(), /ERROR|inbox/);
    });
  }
});

describe("a message that is too large", () => {
  test("by polling: 413 ends the session, and the client comes back", betterThanNode, async (t) => {
    const socket = client(t, URL, { transports: ["polling"], reconnection: true });
    await arrival(socket);
    const first = socket.id;
    const over = next(socket, "disconnect");
    socket.emit("message", "x".repeat(MESSAGE_BYTES_MAX + 1));
    assert.match((await over)[0], /^transport (close|error)$/);
    await until("it is back", () => socket.connected && socket.id !== first, 8_000);
    assert.equal(await ask(socket, "message-with-ack", "later"), "later");
  });

  test("by WebSocket: 1009 names the setting", betterThanNode, async (t) => {
    const socket = client(t, URL, { transports: ["websocket"], reconnection: true });
    await arrival(socket);
    const first = socket.id;
    const closed = new Promise((resolve) => socket.io.engine.transport.ws.addEventListener("close", resolve));
    socket.emit("message", "x".repeat(MESSAGE_BYTES_MAX + 1));
    const { code, reason } = await within(5_000, "the close", closed);
    assert.equal(code, 1009);
    assert.match(reason, /max_http_buffer_size/);
    await until("it is back", () => socket.connected && socket.id !== first, 8_000);
    assert.equal(await ask(socket, "message-with-ack", "later"), "later");
  });
});

