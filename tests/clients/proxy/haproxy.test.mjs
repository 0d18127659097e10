// Clients through HAProxy with the configuration of docs/behind-haproxy.md.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import { after, before, test } from "node:test";
import { VARIANTS, ask, settled } from "../js/lib/clients.mjs";
import { isReference } from "../js/lib/target.mjs";
import { next, until } from "../js/lib/wait.mjs";
import { accepts, addresses, checkClients, freePort, startProxy } from "./proxy.mjs";

let haproxy;
let log = "";
/** A server that speaks the PROXY protocol, and where HAProxy sends each version of it. */
let proxied;
let places;

before(async () => {
  places = Object.fromEntries(await Promise.all(["PROXIED", "LISTEN1", "LISTEN2"].map(async (name) => [name, `127.0.0.1:${await freePort()}`])));
  if (!isReference) {
    const env = { ...process.env, SHARDCAST_PROXY_PROTOCOL: "true", SHARDCAST_TRUSTED_PROXIES: "127.0.0.1" };
    proxied = spawn(process.env.CONFORMANCE_BIN, ["--bind", places.PROXIED, "--shards", "4"], { env, stdio: "ignore" });
    await until("the server listens", () => accepts(Number(places.PROXIED.split(":")[1])), 5_000);
  }
  haproxy = await startProxy("haproxy", "haproxy.cfg.template", (_, config) => ["-db", "-f", config], { stdout: "pipe", places });
  haproxy.child.stdout.on("data", (chunk) => { log += chunk; });
});

after(async () => {
  await haproxy?.stop();
  if (proxied) {
    const ended = next(proxied, "exit");
    proxied.kill("SIGTERM");
    await ended;
  }
});

test("polling, WebSocket and upgrading clients, zero 400s", async (t) => {
  await checkClients(t, haproxy.url, async () => {
    const lines = log.trimEnd().split("\n").filter((line) => / \//.test(line));
    // The termination state begins with C when the client hung up, as one may on its own poll when it disconnects.
    return lines.map((line) => (/^\S+ C/.test(line) && !line.startsWith("101") ? "hung up" : line.replace(/^(200|101) .*/, "$1")));
  });
});

const only = { skip: isReference && "Node does not speak the PROXY protocol" };
const own = { route: "127.0.0.9", handshake: "127.0.0.9" };

test("X-Forwarded-For", only, async () => {
  assert.deepEqual(await addresses(haproxy.url), own);
  assert.deepEqual(await addresses(haproxy.url, { "X-Forwarded-For": "192.0.2.66" }), own);
});

for (const listen of ["LISTEN1", "LISTEN2"]) test(`the PROXY protocol, version ${listen.at(-1)}`, only, async (t) => {
  const url = `http://${places[listen]}`;
  assert.deepEqual(await addresses(url), own);
  // The client is no proxy: what it says of others does not count.
  assert.deepEqual(await addresses(url, { "X-Forwarded-For": "192.0.2.66" }), own);
  for (const options of Object.values(VARIANTS)) {
    const socket = await settled(t, url, options);
    assert.equal(await ask(socket, "message-with-ack", "x".repeat(200_000)), "x".repeat(200_000));
  }
});

test("who is no trusted proxy, or sends no header, is closed", only, async () => {
  const [host, port] = places.PROXIED.split(":");
  const ended = (options, text) => new Promise((resolve) => {
    let answer = "";
    const socket = net.connect({ host, port, ...options }, () => socket.write(text));
    socket.on("data", (chunk) => { answer += chunk; });
    socket.on("error", () => {}).on("close", () => resolve(answer));
  });
  const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
  const request = "GET /address HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  assert.match(await ended({}, header + request), /192\.0\.2\.1$/);
  assert.equal(await ended({}, request), "");
  assert.equal(await ended({}, `PROXY TCP4 192.0.2.1\r\n${request}`), "");
  assert.equal(await ended({ localAddress: "127.0.0.9" }, header + request), "");
});
