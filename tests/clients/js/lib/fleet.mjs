// Servers of several makers on one broker, each a process that a test starts, stops and kills. scripts/test-clients.sh names the binary.

import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect as connectTo, createServer as createListener } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { createClient } from "redis";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";
import { arrival, ask } from "./clients.mjs";
import { next, until, within } from "./wait.mjs";

const ROOT = new URL("../../../../", import.meta.url).pathname;
/** Five processes that start at once on a busy machine take more than ten seconds. */
const READY_MS = 45_000;
/** RabbitMQ and Kafka take as many seconds as Redis takes milliseconds. */
const BROKER_READY_MS = 60_000;

/** What belongs to a test ends with it, the last first: who uses a server before that. Node's own hooks run in the order they are made. */
export function lastFirst(t) {
  const endings = [];
  t.after(async () => {
    for (const end of endings.reverse()) await end();
  });
  return { after: (end) => endings.push(end) };
}

/** In place of a test: what belongs to it ends with the file. Hooks that are made in a hook end with that. */
export const wholeFile = () => lastFirst({ after });

let logs = 0;

/** A file beside the logs of the other servers. */
function log(what) {
  if (!process.env.SERVER_LOG) return "inherit";
  return openSync(path.join(path.dirname(process.env.SERVER_LOG), `${what}-${process.pid}-${++logs}.log`), "w");
}

export function freePort() {
  return new Promise((resolve) => {
    const listener = createListener().listen(0, "127.0.0.1", () => {
      const { port } = listener.address();
      listener.close(() => resolve(port));
    });
  });
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connectTo(port, "127.0.0.1", () => (socket.destroy(), resolve(true)));
    socket.on("error", () => resolve(false));
  });
}

/** A process that listens on a port. `stop` waits for its end. */
async function start(t, what, port, command, args, options = {}) {
  const output = log(what);
  const child = spawn(command, args, { cwd: ROOT, ...options, stdio: [...(options.stdio ?? ["ignore", output]), output] });
  const stop = async (signal = "SIGTERM") => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = next(child, "exit", 10_000);
    child.kill(signal);
    await ended;
  };
  t.after(() => stop());
  await until(`${what} listens`, async () => {
    if (child.exitCode !== null) throw new Error(`${what} ended with ${child.exitCode}`);
    return port === undefined || listens(port);
  }, READY_MS);
  return { child, stop };
}

/** A Redis of the test's own; `restart` starts an empty one in its place. */
export async function startRedis(t) {
  const port = await freePort();
  const folder = await mkdtemp(path.join(tmpdir(), "shardcast-redis-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  // It ends where the first one would: after all that use it.
  const run = (scope) => start(scope, "redis-server", port, "redis-server",
    ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no", "--dir", folder]);
  let { stop } = await run(t);
  t.after(() => stop());
  const url = `redis://127.0.0.1:${port}/0`;
  return {
    url,
    stop: () => stop("SIGKILL"),
    async restart() {
      ({ stop } = await run({ after() {} }));
    },
    async connect() {
      const client = createClient({ url, socket: { reconnectStrategy: () => 50 } });
      client.on("error", () => {});
      await client.connect();
      t.after(() => within(1_000, "the end of a client of Redis", client.close()).catch(() => client.destroy()));
      return client;
    },
  };
}

/** A broker of the test's own, by its kind: `redis`, `rabbitmq` or `kafka`. Of others than Redis there is the URL only. */
export async function startBroker(t, kind) {
  if (kind === "redis") return startRedis(t);
  // The script stops what it has started when it is stopped, or when this process is gone.
  const { child } = await start(t, kind, undefined, "setpriv", ["--pdeathsig", "TERM", "scripts/brokers.sh", kind], { stdio: ["ignore", "pipe"] });
  let url;
  createInterface(child.stdout).on("line", (line) => (url ??= line));
  await until(`${kind} is ready`, () => {
    if (child.exitCode !== null) throw new Error(`scripts/brokers.sh ${kind} ended with ${child.exitCode}`);
    return url;
  }, BROKER_READY_MS);
  return { url };
}

/** A shardcast process: examples/conformance. */
export async function startShardcast(t, broker, settings = {}) {
  const port = await freePort();
  const env = { ...process.env, SHARDCAST_MESSAGE_QUEUE: broker.url, SHARDCAST_ACK_TIMEOUT: "5s", SHARDCAST_LAG_MAX: "0s" };
  delete env.SHARDCAST_CLIENT_BUNDLE;
  for (const [name, value] of Object.entries(settings)) env[`SHARDCAST_${name.toUpperCase()}`] = `${value}`;
  const server = await start(t, "shardcast", port, path.resolve(ROOT, process.env.CONFORMANCE_BIN),
    ["--bind", `127.0.0.1:${port}`, "--shards", "2"], { env });
  return { ...server, url: `http://127.0.0.1:${port}` };
}

const toBytes = (value) => {
  if (Buffer.isBuffer(value)) return { base64: value.toString("base64") };
  if (Array.isArray(value)) return value.map(toBytes);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toBytes(inner)]));
};

const fromBytes = (value) => {
  if (Array.isArray(value)) return value.map(fromBytes);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string") return Buffer.from(value.base64, "base64");
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fromBytes(inner)]));
};

/** A process of tests/clients/mixed/peer.py: `flask`, `server`, `flask-emitter` or `emitter`, with a Python of .deps. */
export async function startPython(t, broker, kind, venv = "venv") {
  const port = await freePort();
  const isServer = !kind.endsWith("emitter");
  const { child, stop } = await start(t, `python-${kind}`, isServer ? port : undefined, path.join(ROOT, ".deps", venv, "bin/python"),
    ["-u", "tests/clients/mixed/peer.py", kind, broker.url, `${port}`],
    { stdio: ["pipe", "pipe"] });
  const waiting = new Map();
  const called = [];
  createInterface(child.stdout).on("line", (line) => {
    const { id, result, error, called: by, args } = JSON.parse(line);
    if (by !== undefined) called.push([by, fromBytes(args)]);
    if (id === undefined) return;
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    error === undefined ? resolve(fromBytes(result)) : reject(new Error(`${kind}: ${error}`));
  });
  let number = 0;
  const run = (verb, options) => {
    const id = ++number;
    const done = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    child.stdin.write(`${JSON.stringify({ id, verb, ...options })}\n`);
    return { id, done: within(15_000, `${verb} of ${kind}`, done) };
  };
  const peer = {
    url: `http://127.0.0.1:${port}`,
    stop,
    /** Any method of its server that takes a sid, a room, or both. */
    run: (verb, options = {}) => run(verb, options).done,
    emit: (event, args, options = {}) => run("emit", { event, args: toBytes(args), ...options }).done,
    send: (data, options = {}) => run("send", { args: toBytes([data]), ...options }).done,
    call: (sid, event, args, seconds = 5) => run("call", { event, args: toBytes(args), to: sid, seconds }).done,
    /** What the callback of an emit is called with, each time. */
    async callback(sid, event, args) {
      const { id, done } = run("emit", { event, args: toBytes(args), to: sid, callback: true });
      await done;
      await until(`${kind}'s callback`, () => called.some(([by]) => by === id), 5_000);
      return called.filter(([by]) => by === id).map(([, answer]) => answer);
    },
  };
  return peer;
}

/** A Node server in this process, with one of its adapters: a function of two Redis clients. */
export async function startNode(t, redis, createAdapter) {
  const [publisher, subscriber] = [await redis.connect(), await redis.connect()];
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber) });
  http.listen(0, "127.0.0.1");
  await next(http, "listening");
  t.after(() => new Promise((resolve) => io.close(resolve)));
  return { io, url: `http://127.0.0.1:${http.address().port}`, publisher };
}

/** A client that keeps all that it receives in `seen`, and answers what asks for it with `answer`, or not. */
export async function member(t, { url }, { io: client = connect, ...options } = {}) {
  const socket = client(url, { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
  t.after(() => socket.disconnect());
  const seen = [];
  const heard = (name, args) => {
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    if (name === "auth") return;
    seen.push([name, ...args]);
    if (socket.answer) ack?.(...socket.answer(args));
  };
  if (socket.onAny) socket.onAny((name, ...args) => heard(name, args));
  else socket.onevent = ({ data: [name, ...args], id }) => heard(name, id === undefined ? args : [...args, socket.ack(id)]);
  socket.on("disconnect", (reason) => seen.push(["disconnect", reason]));
  await arrival(socket);
  return Object.assign(socket, { seen });
}

/** A member of the same shardcast process that is on another shard. The kernel chooses the shard, so it is tried until it is another one. */
export async function memberOnAnotherShard(t, server, other) {
  for (;;) {
    const socket = await member(t, server);
    if (await ask(socket, "shard") !== await ask(other, "shard")) return socket;
    socket.disconnect();
  }
}

/** Empties what they have seen. */
export const forget = (...members) => members.forEach(({ seen }) => (seen.length = 0));

let fences = 0;

/**
 * Waits until all members have received what `emit` has sent before: an event to everybody goes after it. What they have seen until
 * then is all that they get, so a test compares the whole.
 */
export async function settle(emit, members) {
  const name = `fence ${++fences}`;
  await emit(name);
  for (const [index, { seen }] of members.entries()) {
    await until(`${name} at member ${index}`, () => seen.some(([event]) => event === name), 5_000);
    seen.splice(seen.findIndex(([event]) => event === name), 1);
  }
}

/** Arguments as an event has them, by what they are. */
export const ARGUMENTS = {
  "nothing": [],
  "text": ["hello"],
  "unicode": ["é😀\u2028\u0000\"\\"],
  "null": [null],
  "several": [1, -2.5, true, null, { a: { b: [1] } }, 9007199254740991],
  "a list": [["a", { b: 1 }]],
  "an empty list": [[]],
  "binary": [Buffer.from([0, 1, 255])],
  "binary in an object": [{ deep: [Buffer.from([2]), "x"] }],
  "several binaries": [Buffer.from([3]), "between", [Buffer.from([4, 5])], Buffer.alloc(0)],
  "much": ["x".repeat(200_000)],
};
