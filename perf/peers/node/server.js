// `node server.js PORT`: the benchmark's events on Socket.IO's own server.
//
// Its default WebSocket engine is `ws`; bufferutil, which `ws` picks up by itself, unmasks in C. Everything
// else is the default: no compression of WebSocket messages, no connection state recovery.

"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || process.argv.length !== 3) {
  process.stderr.write("usage: node server.js PORT\n");
  process.exit(2);
}

const server = http.createServer();
const io = new Server(server, { serveClient: false });

io.on("connection", (socket) => {
  socket.on("echo", (payload, ack) => ack(payload));
  socket.on("bin", (payload, ack) => ack(payload));
  socket.on("broadcast", (payload, ack) => {
    io.emit("msg", payload);
    ack?.();
  });
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack?.(true);
  });
  socket.on("room", (room, payload, ack) => {
    io.to(room).emit("msg", payload);
    ack?.();
  });
});

server.listen({ port, host: "127.0.0.1", backlog: 4096 });
