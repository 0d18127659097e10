// The raw WebSocket echo at /ws: RFC 6455 against the `ws` client, and by hand for what no client sends.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import net from "node:net";
import { describe, test } from "node:test";
import WebSocket from "ws";
import { settled } from "../lib/clients.mjs";
import { Wire } from "../lib/engine.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { next, within } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");

async function open(t) {
  const wire = new Wire(`${URL.replace("http", "ws")}/ws`);
  t.after(() => wire.ws.terminate());
  await wire.opened;
  return wire;
}

/** One frame, masked as a client must unless told otherwise. */
function frame({ fin = true, reserved = 0, opcode = 1, masked = true, payload = Buffer.alloc(0) }) {
  const bytes = Buffer.from(payload);
  const length = bytes.length < 126 ? [bytes.length] : [126, bytes.length >> 8, bytes.length & 255];
  const mask = masked ? Buffer.from([0x12, 0x34, 0x56, 0x78]) : Buffer.alloc(0);
  const head = Buffer.from([(fin ? 0x80 : 0) | (reserved << 4) | opcode, (masked ? 0x80 : 0) | length[0], ...length.slice(1)]);
  return Buffer.concat([head, mask, masked ? bytes.map((byte, index) => byte ^ mask[index % 4]) : bytes]);
}

/** A connection after its 101, which was checked. Collects the bytes that follow. */
async function byHand(t) {
  const { hostname, port } = new globalThis.URL(URL);
  const socket = net.connect(Number(port), hostname);
  t.after(() => socket.destroy());
  const key = randomBytes(16).toString("base64");
  const chunks = [];
  const seen = { socket, get bytes() { return Buffer.concat(chunks); } };
  seen.end = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => {});
  socket.write(`GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);
  const [head] = await next(socket, "data");
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  assert.match(head.toString("latin1"), /^HTTP\/1\.1 101 [^]*\r\n\r\n$/);
  assert.ok(head.toString("latin1").includes(accept), "Sec-WebSocket-Accept");
  socket.on("data", (chunk) => chunks.push(chunk));
  seen.reaches = (length) => within(3_000, `${length} bytes`, new Promise((resolve) => {
    const look = () => seen.bytes.length >= length && resolve(seen.bytes);
    socket.on("data", look);
    look();
  }));
  return seen;
}

describe("echo", () => {
  for (const length of [0, 1, 125, 126, 127, 65_535, 65_536, 300_000]) test(`${length} bytes of text and of binary`, async (t) => {
    const wire = await open(t);
    const text = "x".repeat(length);
    const bytes = Buffer.alloc(length, 0xee);
    wire.send(text);
    wire.send(bytes);
    assert.equal(await wire.read(), text);
    assert.ok(bytes.equals(await wire.read()));
  });

  test("fragments become one message, with a ping between them", async (t) => {
    const wire = await open(t);
    const pong = next(wire.ws, "pong");
    wire.ws.send("żółć".slice(0, 2), { fin: false });
    wire.ws.ping("between");
    wire.ws.send("żółć".slice(2), { fin: true });
    assert.equal((await pong)[0].toString(), "between");
    assert.equal(await wire.read(), "żółć");
  });

  test("1000 messages come back in order", async (t) => {
    const wire = await open(t);
    for (let index = 0; index < 1_000; index++) wire.send(String(index));
    for (let index = 0; index < 1_000; index++) assert.equal(await wire.read(), String(index));
  });

  test("a close is answered with its own code", async (t) => {
    for (const code of [1000, 1001, 3000, 4999]) {
      const wire = await open(t);
      wire.ws.close(code, "bye");
      assert.equal(await wire.ends(), code);
    }
    const wire = await open(t);
    wire.ws.close();
    assert.equal(await wire.ends(), 1005);
  });

  test("frames cut anywhere are the same frames", async (t) => {
    const seen = await byHand(t);
    const bytes = Buffer.concat([frame({ payload: "hello" }), frame({ opcode: 9, payload: "p" }), frame({ opcode: 2, payload: Buffer.alloc(200, 1) })]);
    for (const byte of bytes) seen.socket.write(Buffer.from([byte]));
    const expected = Buffer.concat([frame({ masked: false, payload: "hello" }), frame({ masked: false, opcode: 10, payload: "p" }), frame({ masked: false, opcode: 2, payload: Buffer.alloc(200, 1) })]);
    assert.deepEqual(await seen.reaches(expected.length), expected);
  });
});

describe("violations close with their code", () => {
  const rows = [
    ["§5.1 an unmasked frame", { masked: false, payload: "x" }, 1002],
    ["§5.2 a reserved bit", { reserved: 4, payload: "x" }, 1002],
    ["§5.2 a reserved opcode", { opcode: 3 }, 1002],
    ["§5.5 a fragmented ping", { opcode: 9, fin: false }, 1002],
    ["§5.5 a ping of 126 bytes", { opcode: 9, payload: Buffer.alloc(126) }, 1002],
    ["§5.4 a continuation of nothing", { opcode: 0, payload: "x" }, 1002],
    ["§5.5.1 a close of one byte", { opcode: 8, payload: Buffer.from([3]) }, 1002],
    ["§7.4 a close code that is never sent", { opcode: 8, payload: Buffer.from([0x03, 0xed]) }, 1002],
    ["§8.1 text that is not UTF-8", { payload: Buffer.from([0xc3, 0x28]) }, 1007],
  ];
  for (const [name, fields, code] of rows) test(name, async (t) => {
    const seen = await byHand(t);
    seen.socket.write(frame(fields));
    const bytes = await seen.reaches(4);
    assert.equal(bytes[0], 0x88, bytes.toString("hex"));
    assert.equal(bytes.readUInt16BE(2), code);
    // Both ends have spoken or failed: the server may not leave the connection open for long once we answer.
    seen.socket.end(frame({ opcode: 8, payload: Buffer.from([code >> 8, code & 255]) }));
    await within(5_000, "the connection's end", seen.end);
  });

  test("a message announced above the limit is refused before its bytes", async (t) => {
    const seen = await byHand(t);
    seen.socket.write(Buffer.from([0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]));
    const bytes = await seen.reaches(4);
    assert.equal(bytes.readUInt16BE(2), 1009);
  });

  test("fragments that add up above the limit close with 1009", async (t) => {
    const wire = await open(t);
    for (let part = 0; part < 5; part++) wire.ws.send(Buffer.alloc(250_000), { fin: part === 4 });
    assert.equal(await wire.ends(), 1009);
  });
});

test("an unknown path refuses the upgrade", { skip: isReference && "the reference's own answer" }, async () => {
  const wire = new Wire(`${URL.replace("http", "ws")}/nowhere`);
  await assert.rejects(within(3_000, "the refusal", wire.opened), /404/);
});

describe("subprotocols", () => {
  // Node's server answers the first as well.
  for (const [name, options] of [["websocket", { transports: ["websocket"] }], ["polling, then the upgrade", {}]]) {
    test(`a stock client that offers some connects by ${name}`, async (t) => {
      const socket = await settled(t, URL, { ...options, protocols: ["chat", "superchat"] });
      assert.equal(socket.io.engine.transport.name, "websocket");
      assert.equal(socket.io.engine.transport.ws.protocol, "chat");
      assert.deepEqual(await socket.timeout(3_000).emitWithAck("message-with-ack", 1), 1);
    });
  }

  test("a raw route answers the first", async (t) => {
    const ws = new WebSocket(`${URL.replace("http", "ws")}/ws`, ["chat", "superchat"]);
    t.after(() => ws.terminate());
    await next(ws, "open");
    assert.equal(ws.protocol, "chat");
  });

  test("a token among them is judged by the route", { skip: isReference && "the reference has no such route" }, async (t) => {
    const url = `${URL.replace("http", "ws")}/tokens`;
    const ws = new WebSocket(url, ["chat", "secret"]);
    t.after(() => ws.terminate());
    await next(ws, "open");
    ws.send("?");
    const [data] = await next(ws, "message");
    assert.equal(String(data), "chat");
    for (const offered of [["chat", "wrong"], ["chat"], []]) {
      const refused = new WebSocket(url, offered);
      const [error] = await next(refused, "error");
      assert.match(error.message, /403/);
    }
  });
});
