// The npm socket.io server behind the contract of README.md, to prove the tests before shardcast meets them.
// Usage: node reference-server.js --bind 127.0.0.1:PORT [--shards N]   (--shards is accepted and ignored)
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { createRequire } = require("node:module");
const { parseArgs } = require("node:util");

const fromSuite = createRequire(path.join(__dirname, "js", "package.json"));
const { Server } = fromSuite("socket.io");
const { WebSocketServer } = fromSuite("ws");

const BODY_BYTES_MAX = 1_000_000;
const ENDPOINTS = ["/socket.io/", "/admin.io/", "/websocket-only.io/", "/guarded.io/", "/engine.io/"];
const PUBLIC = fs.realpathSync(path.join(__dirname, "public"));
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".json": "application/json; charset=utf-8", ".txt": "text/plain; charset=utf-8" };

const { values } = parseArgs({ options: { bind: { type: "string" }, shards: { type: "string" } }, strict: true, allowPositionals: true });
const [host, port] = (values.bind ?? "127.0.0.1:5000").split(":");

/** Milliseconds of `SHARDCAST_<name>`, written `300ms` or `1s`. */
function duration(name, otherwise) {
  const text = process.env[`SHARDCAST_${name}`];
  if (text === undefined) return otherwise;
  const match = /^([\d.]+)(ms|s)$/.exec(text);
  if (!match) throw new Error(`SHARDCAST_${name}=${text}: write 300ms or 1s`);
  return Number(match[1]) * (match[2] === "s" ? 1000 : 1);
}

// ---------------------------------------------------------------- HTTP

const server = http.createServer({ headersTimeout: duration("HEADER_TIMEOUT", 10_000), connectionsCheckingInterval: 100 });

server.on("request", (request, response) => answer(request, response));
server.on("checkContinue", (request, response) => {
  if (Number(request.headers["content-length"]) > BODY_BYTES_MAX) return tooLarge(response);
  response.writeContinue();
  answer(request, response);
});

function answer(request, response) {
  const url = request.url.split("?")[0];
  if (ENDPOINTS.some((path) => url.startsWith(path))) return; // engine.io has it
  if (url === "/") return resource(request, response, ["GET", "HEAD"], () => send(response, 200, "text/html; charset=utf-8", DEMO));
  if (url === "/hello") return resource(request, response, ["GET", "HEAD"], () => send(response, 200, "text/plain; charset=utf-8", "hello"));
  if (url === "/echo") return resource(request, response, ["POST"], () => echo(request, response));
  if (url.startsWith("/static/")) return resource(request, response, ["GET", "HEAD"], () => file(request, response, url.slice("/static/".length)));
  send(response, 404, "text/plain; charset=utf-8", "not found");
}

function resource(request, response, methods, run) {
  if (methods.includes(request.method)) return run();
  response.setHeader("Allow", [...methods, "OPTIONS"].join(", "));
  if (request.method === "OPTIONS") return response.writeHead(204).end();
  send(response, 405, "text/plain; charset=utf-8", "method not allowed");
}

function send(response, status, type, body) {
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }).end(body);
}

function tooLarge(response) {
  response.writeHead(413, { Connection: "close", "Content-Length": 0 }).end();
}

function echo(request, response) {
  if (Number(request.headers["content-length"]) > BODY_BYTES_MAX) return tooLarge(response);
  const chunks = [];
  let bytes = 0;
  request.on("data", (chunk) => {
    bytes += chunk.length;
    if (bytes <= BODY_BYTES_MAX) return chunks.push(chunk);
    if (!response.headersSent) tooLarge(response);
  });
  request.on("end", () => {
    if (!response.headersSent) send(response, 200, request.headers["content-type"] ?? "application/octet-stream", Buffer.concat(chunks));
  });
}

function file(request, response, encoded) {
  const missing = () => send(response, 404, "text/plain; charset=utf-8", "not found");
  let name, real;
  try {
    name = decodeURIComponent(encoded);
    if (name.includes("\0") || name.split(/[/\\]/).some((part) => part.startsWith("."))) return missing();
    real = fs.realpathSync(path.join(PUBLIC, name === "" || name.endsWith("/") ? `${name}index.html` : name));
  } catch {
    return missing();
  }
  if (!real.startsWith(PUBLIC + path.sep) || !fs.statSync(real).isFile()) return missing();
  const { size, mtimeMs } = fs.statSync(real);
  const tag = `W/"${size.toString(16)}-${Math.floor(mtimeMs).toString(16)}"`;
  response.setHeader("ETag", tag);
  const known = (request.headers["if-none-match"] ?? "").split(",").map((text) => text.trim().replace(/^W\//, ""));
  if (known.includes("*") || known.includes(tag.slice(2))) return response.writeHead(304).end();
  send(response, 200, TYPES[path.extname(real)] ?? "application/octet-stream", fs.readFileSync(real));
}

// ---------------------------------------------------------------- Socket.IO

const io = new Server(server, {
  pingInterval: duration("PING_INTERVAL", 25_000),
  pingTimeout: duration("PING_TIMEOUT", 20_000),
  connectTimeout: duration("CONNECT_TIMEOUT", 45_000),
  upgradeTimeout: duration("UPGRADE_TIMEOUT", 10_000),
  maxHttpBufferSize: BODY_BYTES_MAX,
  destroyUpgrade: false,
});

for (const name of ["/", "/custom"]) {
  const namespace = io.of(name);
  namespace.on("connection", (socket) => serve(namespace, socket));
}
io.of("/refuse").use((_socket, next) => next(Object.assign(new Error("unauthorized"), { data: { retry: false } })));

const games = io.of(/^\/game\/[^/]+$/);
games.use((socket, next) => setTimeout(() => {
  const { token } = socket.handshake.auth;
  if (token === undefined) return next(Object.assign(new Error("unauthorized"), { data: { retry: false } }));
  socket.data.token = token;
  next();
}, 20));
games.use((socket, next) => next(socket.nsp.name === "/game/closed" ? new Error("closed") : undefined));
games.on("connection", (socket) => {
  socket.use(([event, ...args], next) => {
    if (event !== "cheat") return next();
    socket.emit("failed", event, "no cheating", args.filter((arg) => typeof arg !== "function").length);
  });
  socket.on("where", (ack) => ack(socket.nsp.name, socket.data.token));
  socket.on("move", (to) => socket.nsp.emit("moved", to));
  socket.onAny((event, ...args) => {
    const ack = args.at(-1);
    if (!["where", "move", "cheat"].includes(event) && typeof ack === "function") ack(event, args.length - 1);
  });
});

const counter = { total: 0 };
io.of("/class").use((socket, next) => {
  const { start } = socket.handshake.auth;
  if (start === undefined) return next(new Error("where do we start?"));
  counter.total = start;
  next();
}).on("connection", (socket) => {
  socket.emit("started", counter.total);
  socket.on("add", (number, ack) => ack((counter.total += number)));
  socket.on("later", (millis, ack) => setTimeout(() => ack(counter.total), millis));
});

function serve(namespace, socket) {
  let counter = 0;
  keepOrder(socket);
  socket.emit("auth", socket.handshake.auth);
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => args.pop()(...args));
  socket.on("join", (room, ack) => (socket.join(room), ack?.(true)));
  socket.on("leave", (room, ack) => (socket.leave(room), ack?.(true)));
  socket.on("room", (room, payload) => namespace.to(room).emit("room-event", payload));
  socket.on("room-others", (room, payload) => socket.to(room).emit("room-event", payload));
  socket.on("rooms", (ack) => ack([...socket.rooms]));
  socket.on("everyone", (payload) => namespace.emit("everyone", payload));
  socket.on("ask-me", () => {
    socket.timeout(1000).emit("question", 42, (error, value) => (error ? socket.emit("no-answer") : socket.emit("answer", value)));
  });
  socket.on("ask-room", (room, ms, ack) => {
    namespace.to(room).timeout(ms).emit("question", 42, (error, values) => ack(!error, values));
  });
  socket.on("set-data", (data, ack) => ack(!!(socket.data.published = data)));
  socket.on("fetch", async (room, ack) => ack((await namespace.in(room).fetchSockets()).map((remote) => ({
    id: remote.id, me: remote.id === socket.id, rooms: [...remote.rooms], data: remote.data.published ?? null, EIO: remote.handshake.query.EIO,
  }))));
  socket.on("about", (ack) => ack({
    data: socket.data.published ?? null,
    revision: socket.conn.protocol,
    transport: socket.conn.transport.name,
    parameters: Object.entries(socket.handshake.query).filter(([name]) => name.startsWith("x-")),
  }));
  socket.on("elsewhere", (name, payload, ack) => {
    const there = [...io.of(name).sockets.values()].find((other) => other.client === socket.client);
    io.of(name).except(there?.id ?? "").emit("elsewhere", payload);
    ack(there?.id ?? null);
  });
  socket.on("count", async (room, ack) => ack((await namespace.in(room).fetchSockets()).length));
  socket.on("move-room", (from, to, ack) => {
    namespace.in(from).socketsJoin(to);
    namespace.in(to).socketsLeave(from);
    ack();
  });
  socket.on("disconnect-room", (room) => namespace.in(room).disconnectSockets());
  socket.on("call-from-thread", async (sid, ms, ack) => {
    ack(true);
    const values = await namespace.in(sid).timeout(ms).emitWithAck("question", 42).catch(() => []);
    socket.emit("called", values[0] ?? null);
  });
  socket.on("shard", (ack) => ack(0));
  socket.on("counter", (ack) => ack(++counter));
  socket.on("concurrent", (ms, value, ack) => setTimeout(() => ack(value), ms));
  const waiting = [];
  socket.on("ask-later", (ack) => waiting.push(ack));
  socket.on("tell-later", (value, ack) => {
    const wanted = waiting.splice(0).filter((later) => typeof later === "function");
    for (const later of wanted) later(value, Buffer.from([1, 0xff]));
    ack(wanted.length);
  });
  socket.on("ask-thread", (ms, ack) => setTimeout(() => ack(ms), ms));
  socket.on("no-ack", () => {});
  socket.on("slow", (ms, value, ack) => setTimeout(() => (ack(value), socket.data.resume()), ms));
  socket.on("kick-me", () => socket.disconnect());
  socket.on("boom", () => { throw new Error("boom"); });
}

/** Events that arrive while `slow` sleeps wait for it. */
function keepOrder(socket) {
  const held = [];
  let isBusy = false;
  const pass = (packet, next) => {
    isBusy = packet[0] === "slow"; // the listener itself runs a tick later
    next();
  };
  socket.use((packet, next) => (isBusy ? held.push([packet, next]) : pass(packet, next)));
  socket.data.resume = () => {
    isBusy = false;
    while (held.length && !isBusy) pass(...held.shift());
  };
}

// ---------------------------------------------------------------- Endpoints beside the first

const admin = new Server(server, {
  path: "/admin.io/", pingInterval: 400, maxHttpBufferSize: 1000, destroyUpgrade: false,
  cors: { origin: (origin, allow) => allow(null, origin?.endsWith(".example")), credentials: true, maxAge: 600 },
  cookie: { name: "admin", sameSite: "strict", maxAge: 60 },
});
for (const name of ["/", "/only-here"]) admin.of(name).on("connection", (socket) => serve(admin.of(name), socket));

const websocketOnly = new Server(server, { path: "/websocket-only.io/", transports: ["websocket"], destroyUpgrade: false });
websocketOnly.on("connection", (socket) => serve(websocketOnly.of("/"), socket));

const guarded = new Server(server, {
  path: "/guarded.io/", destroyUpgrade: false,
  allowRequest: (request, decide) => {
    const token = new URL(request.url, "http://localhost").searchParams.get("token");
    if (token === "secret") decide(null, true);
    else decide(token === null ? null : 'that "token" is wrong', false);
  },
});
guarded.on("connection", (socket) => serve(guarded.of("/"), socket));

fromSuite("engine.io").attach(server, { path: "/engine.io/", destroyUpgrade: false }).on("connection", (socket) => {
  socket.send("welcome");
  socket.on("message", (message) => {
    if (message === "close") socket.close();
    else if (message === "transport") socket.send(socket.transport.name);
    else socket.send(message);
  });
});

// ---------------------------------------------------------------- Raw WebSocket

const raw = new WebSocketServer({ noServer: true, maxPayload: BODY_BYTES_MAX });
server.on("upgrade", (request, socket, head) => {
  const url = request.url.split("?")[0];
  if (url === "/ws") return raw.handleUpgrade(request, socket, head, (ws) => {
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
    ws.on("error", () => {});
  });
  if (!ENDPOINTS.some((path) => url.startsWith(path))) socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
});

// `boom` throws out of its listener: that must cost neither the process nor the other sockets.
process.on("uncaughtException", (error) => {
  if (error.message !== "boom") {
    console.error(error);
    process.exit(1);
  }
});

server.listen(Number(port), host, () => console.log(`reference server on http://${host}:${port}`));

// The smallest page that meets the demo page's contract, for the browser suite.
const DEMO = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>reference</title><link rel="icon" href="data:,"></head><body>
<p><span id="status">connecting</span> by <span id="transport"></span>, shard <b id="shard"></b>, <i id="connections">1</i> connections, <i id="messages">0</i> messages</p>
<form id="entrance"><input id="name"><input id="room"><button id="join">Join</button></form>
<form id="composer"><input id="message"><button id="send">Send</button></form><ol id="log"></ol>
<script src="/socket.io/socket.io.js"></script><script>
const $ = (id) => document.getElementById(id), socket = io();
let messages = 0;
const line = (text) => $("log").append(Object.assign(document.createElement("li"), { textContent: text }));
socket.on("connect", () => {
  $("status").textContent = "connected";
  $("transport").textContent = socket.io.engine.transport.name;
  socket.io.engine.on("upgrade", (transport) => { $("transport").textContent = transport.name; });
  socket.emit("shard", (shard) => { $("shard").textContent = shard; });
});
socket.on("room-event", ({ name, text }) => { line(name + ": " + text); $("messages").textContent = ++messages; });
$("entrance").onsubmit = (event) => { event.preventDefault(); socket.emit("join", $("room").value, () => line("joined " + $("room").value)); };
$("composer").onsubmit = (event) => { event.preventDefault(); socket.emit("room", $("room").value, { name: $("name").value, text: $("message").value }); $("message").value = ""; };
</script></body></html>`;
