// The npm socket.io server behind the event contract of `shardcast bench`, as the peer to measure against.
// Usage: node server.js PORT [NAMESPACE...]
// With REDIS_URL in its environment it shares that Redis with others, by @socket.io/redis-adapter.
//
// Prints one line, "listening PORT PID", once it accepts. Defaults throughout, so what is measured is what its
// users run; `bufferutil` (native masking, which the ws package picks up) is used when it is installed.
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

const port = Number(process.argv[2] ?? 5000);
if (!Number.isInteger(port) || port < 0 || port > 65535) {
  console.error("usage: node server.js PORT [NAMESPACE...]");
  process.exit(2);
}

const server = http.createServer();
const io = new Server(server, { serveClient: false });
if (process.env.REDIS_URL) {
  const { createAdapter } = require("@socket.io/redis-adapter");
  const publisher = require("redis").createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  Promise.all([publisher.connect(), subscriber.connect()]).then(() => io.adapter(createAdapter(publisher, subscriber)));
}

for (const name of ["/", ...process.argv.slice(3)]) {
  const namespace = io.of(name);
  namespace.on("connection", (socket) => {
    socket.on("echo", (argument, acknowledge) => acknowledge(argument));
    socket.on("bin", (bytes, acknowledge) => acknowledge(bytes));
    socket.on("broadcast", (argument) => namespace.emit("msg", argument));
    socket.on("join", (room, acknowledge) => {
      socket.join(room);
      acknowledge();
    });
    socket.on("room", (room, argument) => namespace.to(room).emit("msg", argument));
  });
}

// The storm of a benchmark's first second must meet the server, not the length of a queue.
server.listen({ port, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening ${server.address().port} ${process.pid}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
