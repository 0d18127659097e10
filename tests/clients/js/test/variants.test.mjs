// Clients whose wire differs, next to those whose does not: the msgpack parser, permessage-deflate, compressed polls.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { describe, test } from "node:test";
import { deflateRawSync, constants, gunzipSync, inflateSync } from "node:zlib";
import { randomBytes } from "node:crypto";
import msgpackParser from "socket.io-msgpack-parser";
import WebSocket from "ws";
import { startBrowser } from "../../browser/chromium.mjs";
import { ask, client, connected, upgraded } from "../lib/clients.mjs";
import { enginePath, Polling } from "../lib/engine.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { collect, next, within } from "../lib/wait.mjs";

const URL = serverUrl("VARIANTS_URL");
const only = { skip: isReference && "Node serves one parser a server" };

const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };
const PARSERS = { json: {}, msgpack: { parser: msgpackParser } };
const DEFLATE = { plain: { perMessageDeflate: false }, deflate: { perMessageDeflate: { threshold: 0 } } };

/** Every wire there is, by name. */
const WIRES = Object.fromEntries(Object.entries(TRANSPORTS).flatMap(([transport, transports]) =>
  Object.entries(PARSERS).flatMap(([parser, parserOptions]) =>
    Object.entries(transport === "polling" ? { plain: {} } : DEFLATE).map(([deflate, deflateOptions]) =>
      [`${parser} ${transport} ${deflate}`, { transports, ...parserOptions, ...deflateOptions }]))));

const bytes = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value) ? Buffer.from(value).toString("hex") : value;

describe("one room on every wire", only, () => {
  test("each message once, in order, whatever it holds", async (t) => {
    const clients = await Promise.all(Object.values(WIRES).map((options) => connected(t, URL, options)));
    const seen = clients.map((socket) => collect(socket, "room-event"));
    for (const socket of clients) assert.equal(await ask(socket, "join", "mixed"), true);
    const rounds = 4;
    for (let round = 0; round < rounds; round++) {
      for (const [index, socket] of clients.entries()) {
        const number = round * clients.length + index;
        const payloads = [
          { number, text: "żółć 🦀 \u2028 \x1e \x00", nested: [null, true, -1.5, 2 ** 40, -33, [], {}] },
          { number, text: "x".repeat(4_000) },
          { number, blob: Buffer.alloc(3_000, number), more: [Buffer.from([])] },
        ];
        await ask(socket, "message-with-ack", number);
        socket.emit("room", "mixed", payloads[number % payloads.length]);
        await within(5_000, `message ${number}`, seen[index].reaches(number + 1));
      }
    }
    const count = rounds * clients.length;
    for (const [index, name] of Object.keys(WIRES).entries()) {
      await seen[index].reaches(count);
      assert.deepEqual(seen[index].map(({ number }) => number), Array.from({ length: count }, (_, number) => number), name);
      for (const { number, text, nested, blob, more } of seen[index]) {
        if (number % 3 === 0) assert.deepEqual([text, nested], ["żółć 🦀 \u2028 \x1e \x00", [null, true, -1.5, 2 ** 40, -33, [], {}]], name);
        if (number % 3 === 1) assert.equal(text.length, 4_000, name);
        if (number % 3 === 2) assert.deepEqual([bytes(blob), more.map(bytes)], [Buffer.alloc(3_000, number).toString("hex"), [""]], name);
      }
    }
  });

  test("a burst stays in order through the upgrade", async (t) => {
    const sender = await connected(t, URL, { transports: ["websocket"] });
    const readers = Object.entries(WIRES).filter(([name]) => name.includes("upgrade"));
    const sockets = await Promise.all(readers.map(([, options]) => connected(t, URL, options)));
    const seen = sockets.map((socket) => collect(socket, "everyone"));
    for (let number = 0; number < 300; number++) sender.emit("everyone", { number, padding: "p".repeat(number * 10) });
    await Promise.all(sockets.map(upgraded));
    for (const [index, [name]] of readers.entries()) {
      await seen[index].reaches(300);
      assert.deepEqual(seen[index].map(({ number }) => number), Array.from({ length: 300 }, (_, number) => number), name);
    }
  });
});

describe("the msgpack parser", only, () => {
  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    const options = { transports, parser: msgpackParser };

    test(`${name}: auth, acks both ways, namespaces, refusals`, async (t) => {
      const socket = client(t, URL, { ...options, auth: { token: "ś3cret" } });
      const auth = next(socket, "auth");
      await next(socket, "connect");
      assert.deepEqual((await auth)[0], { token: "ś3cret" });
      const sent = [1, "2", { 3: [true, Buffer.from([4])] }];
      assert.deepEqual(await ask(socket, "message-with-ack", sent), sent);
      socket.emit("message", ...sent);
      assert.deepEqual(await next(socket, "message-back"), sent);
      socket.on("question", (number, answer) => answer({ doubled: number * 2, blob: Buffer.from([0]) }));
      socket.emit("ask-me");
      assert.deepEqual((await next(socket, "answer"))[0], { doubled: 84, blob: Buffer.from([0]) });
      const custom = await connected(t, `${URL}/custom`, options);
      assert.equal(await ask(custom, "counter"), 1);
      const [refused] = await next(client(t, `${URL}/refuse`, options), "connect_error");
      assert.deepEqual([refused.message, refused.data], ["unauthorized", { retry: false }]);
      const [unknown] = await next(client(t, `${URL}/nowhere`, options), "connect_error");
      assert.equal(unknown.message, "Invalid namespace");
      custom.disconnect();
      socket.emit("kick-me");
      assert.equal((await next(socket, "disconnect"))[0], "io server disconnect");
    });
  }

  test("what JSON has no value for is what JSON.stringify makes of it", async (t) => {
    const socket = await connected(t, URL, PARSERS.msgpack);
    const sent = [undefined, NaN, Infinity, new Date(1_700_000_000_123), { a: undefined, b: 1 }, 2 ** 53 - 1, -(2 ** 53 - 1), 1.5e-7];
    const back = await ask(socket, "message-with-ack", sent);
    assert.deepEqual(back, JSON.parse(JSON.stringify(sent)));
  });

  test("array buffers are binary, twelve and more of them", async (t) => {
    const socket = await connected(t, URL, PARSERS.msgpack);
    const sent = Array.from({ length: 12 }, (_, index) => new Uint8Array([index, 255]).buffer);
    const back = await ask(socket, "message-with-ack", sent);
    assert.deepEqual(back.map(bytes), sent.map(bytes));
  });

  test("a packet that is none ends the session", async (t) => {
    for (const packet of [Buffer.from([0xc1]), Buffer.from("81a3666f6fa3626172", "hex"), randomBytes(100)]) {
      const wire = new WebSocket(`${URL.replace("http", "ws")}${enginePath({ EIO: 4, transport: "websocket" })}`);
      t.after(() => wire.terminate());
      await next(wire, "message");
      wire.send(packet);
      await next(wire, "close");
    }
  });
});

/** A WebSocket on the echo route. */
async function echo(t, options) {
  const wire = new WebSocket(`${URL.replace("http", "ws")}/ws`, options);
  t.after(() => wire.terminate());
  await next(wire, "open");
  return wire;
}

/** The raw bytes of one compressed message. */
const compressed = (data) => deflateRawSync(data, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

/** Sends frames by hand, and reads the close code that they cause. */
async function codeFor(t, ...frames) {
  const { hostname, port } = new globalThis.URL(URL);
  const socket = net.connect(Number(port), hostname);
  t.after(() => socket.destroy());
  socket.write(`GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n`
    + `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n`);
  const [head] = await next(socket, "data");
  assert.match(head.toString(), /Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n/);
  for (const [first, payload] of frames) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(payload.length));
    const header = payload.length < 126 ? [payload.length | 0x80] : payload.length < 65_536 ? [0xfe, ...length.subarray(6)] : [0xff, ...length];
    socket.write(Buffer.concat([Buffer.from([first, ...header, 0, 0, 0, 0]), payload]));
  }
  const [answer] = await next(socket, "data");
  assert.equal(answer[0], 0x88, answer.toString("hex"));
  return answer.readUInt16BE(2);
}

describe("what a client brings into an event", only, () => {
  for (const [wire, options] of Object.entries(WIRES)) test(`${wire}: half a character, and what looks like an attachment`, async (t) => {
    const [socket, other] = await Promise.all([connected(t, URL, options), connected(t, URL, { transports: ["websocket"] })]);
    const isJson = options.parser === undefined;
    // The msgpack client makes another character of half a one before it sends it.
    assert.equal(await ask(socket, "typed", "abc\ud83d"), isJson ? "abc\ufffd" : "abc\u{1f400}");
    assert.equal(await ask(socket, "message-with-ack", "abc\ud83d"), isJson ? "abc\ud83d" : "abc\u{1f400}");
    assert.deepEqual(await ask(socket, "typed", 5), { error: "argument 0 is of another type: invalid type: integer `5`, expected a string at line 1 column 1" });
    for (const poison of [{ _placeholder: true, num: 7 }, { _placeholder: true, num: 0 }, [{ a: { num: 0, _placeholder: true } }]]) {
      const { error } = await ask(socket, "beside", poison);
      assert.match(error, /_placeholder/);
      const heard = next(other, "everyone");
      socket.emit("everyone", poison);
      assert.deepEqual(await heard, [poison], "alone it is data like any other");
    }
    const heard = next(other, "beside-back");
    assert.equal(await ask(socket, "beside", { _placeholder: false, num: 7 }), null);
    const [value, attachment] = await heard;
    assert.deepEqual([value, bytes(attachment)], [{ _placeholder: false, num: 7 }, "01ff"]);
    assert.match((await ask(socket, "beside", { data: Buffer.from([1]) })).error, /shardcast::Binary/);
    assert.ok(socket.connected && other.connected);
  });
});

describe("permessage-deflate", only, () => {
  test("is agreed on without context takeover, and only with who asks", async (t) => {
    assert.equal((await echo(t, { perMessageDeflate: true })).extensions, "permessage-deflate");
    assert.equal((await echo(t, { perMessageDeflate: false })).extensions, "");
    const narrow = await echo(t, { perMessageDeflate: { serverMaxWindowBits: 9, threshold: 0 } });
    assert.equal(narrow.extensions, "permessage-deflate");
    for (const data of ["narrow".repeat(5_000), randomBytes(3_000).toString("hex").repeat(20)]) {
      narrow.send(data, { compress: false });
      assert.equal((await next(narrow, "message"))[0].toString(), data);
    }
    assert.equal((await echo(t, { perMessageDeflate: { serverMaxWindowBits: 8 } })).extensions, "");
    assert.equal((await echo(t, { perMessageDeflate: { clientMaxWindowBits: 10 } })).extensions, "permessage-deflate");
  });

  test("large messages shrink, small ones are left alone, all come back", async (t) => {
    const wire = await echo(t, { perMessageDeflate: { threshold: 0 } });
    for (const data of ["", "small", "x".repeat(1023), "y".repeat(200_000), randomBytes(50_000), Buffer.alloc(100_000, 7)]) {
      const before = wire._socket.bytesRead;
      wire.send(data);
      const [back] = await next(wire, "message");
      assert.ok(back.equals(Buffer.from(data)), `${data.length} bytes`);
      const read = wire._socket.bytesRead - before;
      const shrinks = data.length >= 1024 && new Set(data).size === 1;
      assert.ok(shrinks ? read < data.length / 50 : read >= data.length, `${read} of ${data.length} bytes`);
    }
  });

  test("what does not shrink spoils nobody else's message", async (t) => {
    const wires = await Promise.all(Array.from({ length: 8 }, () => echo(t, { perMessageDeflate: { threshold: 0 } })));
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(wires.map(async (wire, index) => {
        const data = index % 2 === 0 ? randomBytes(150_000).toString("latin1") : `{"n":${round},"text":"hello"}`.repeat(5_000);
        wire.send(data, { compress: index % 4 === 0 });
        assert.equal((await next(wire, "message"))[0].toString(), data);
      }));
    }
  });

  test("one after another that inflates a thousand times is too much, the first is not", async (t) => {
    const wire = await echo(t, { perMessageDeflate: { threshold: 0 } });
    const closed = next(wire, "close");
    for (let count = 0; count < 4; count += 1) wire.send(Buffer.alloc(1_000_000, 1));
    assert.equal((await next(wire, "message"))[0].length, 1_000_000);
    const [code, reason] = await closed;
    assert.deepEqual([code, /inflate_ratio_max/.test(reason)], [1009, true], `${reason}`);
  });

  test("messages in fragments, with a ping between them", async (t) => {
    const wire = await echo(t, { perMessageDeflate: { threshold: 0 } });
    const whole = next(wire, "message");
    wire.send("a".repeat(5_000), { fin: false, compress: true });
    wire.ping();
    wire.send("b".repeat(5_000), { fin: true, compress: true });
    assert.equal((await whole)[0].toString(), "a".repeat(5_000) + "b".repeat(5_000));
  });

  test("what breaks the rules is told by its close code", async (t) => {
    const bomb = compressed(Buffer.alloc(50_000_000));
    assert.ok(bomb.length < 100_000, `${bomb.length}`);
    for (const [what, code, ...frames] of [
      ["a bomb", 1009, [0xc2, bomb]],
      ["one byte too many", 1009, [0xc2, compressed(Buffer.alloc(1_000_001))]],
      ["no DEFLATE", 1007, [0xc1, Buffer.from([0x07])]],
      ["no UTF-8 inside", 1007, [0xc1, compressed(Buffer.from([0xff, 0xfe]))]],
      ["a window that was not kept", 1007, [0xc1, Buffer.from("f200110000", "hex")]],
      ["a compressed continuation", 1002, [0x41, compressed("a")], [0xc0, Buffer.alloc(0)]],
      ["a compressed ping", 1002, [0xc9, Buffer.alloc(0)]],
      ["another reserved bit", 1002, [0xa1, Buffer.alloc(0)]],
    ]) assert.equal(await codeFor(t, ...frames), code, what);
  });

  test("exactly the limit comes back", async (t) => {
    const wire = await echo(t, { perMessageDeflate: { threshold: 0 } });
    wire.send(Buffer.alloc(1_000_000, 1));
    assert.equal((await next(wire, "message"))[0].length, 1_000_000);
  });

  test("compress(false) goes out as it is, beside what does not", async (t) => {
    const socket = await connected(t, URL, { transports: ["websocket"], perMessageDeflate: { threshold: 0 } });
    const wire = socket.io.engine.transport.ws._socket;
    for (const [event, isCompressed] of [["everyone", true], ["everyone-uncompressed", false], ["everyone", true]]) {
      const before = wire.bytesRead;
      const heard = next(socket, "everyone");
      socket.emit(event, "z".repeat(20_000));
      assert.equal((await heard)[0].length, 20_000);
      assert.equal(wire.bytesRead - before < 2_000, isCompressed, event);
    }
  });

  test("a browser takes part", async () => {
    const browser = await startBrowser();
    try {
      const page = await browser.context.newPage();
      await page.goto(`${URL}/`);
      const seen = await page.evaluate((url) => new Promise((resolve, reject) => {
        const ws = new WebSocket(url);
        ws.binaryType = "arraybuffer";
        const seen = [];
        ws.onerror = () => reject(new Error("the WebSocket broke"));
        ws.onopen = () => { ws.send("é".repeat(100_000)); ws.send(new Uint8Array(200_000).fill(9)); ws.send("end"); };
        ws.onmessage = ({ data }) => {
          seen.push(typeof data === "string" ? [data.length, data[0]] : [data.byteLength, new Uint8Array(data)[199_999]]);
          if (data === "end") resolve({ extensions: ws.extensions, seen });
        };
      }), `${URL.replace("http", "ws")}/ws`);
      assert.match(seen.extensions, /^permessage-deflate/);
      assert.deepEqual(seen.seen, [[100_000, "é"], [200_000, 9], [3, "e"]]);
    } finally {
      await browser.stop();
    }
  });
});

/** A GET whose body stays as it came. */
const raw = (path, headers = {}) => within(5_000, path, new Promise((resolve, reject) => {
  const { hostname, port } = new globalThis.URL(URL);
  http.get({ host: hostname, port, path, headers, agent: false }, (response) => {
    const chunks = [];
    response.on("data", (chunk) => chunks.push(chunk));
    response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }));
    response.on("error", reject);
  }).on("error", reject);
}));

describe("http_compression", only, () => {
  test("a poll takes the coding that the client prefers", async () => {
    const session = await Polling.joined(URL);
    const text = "x".repeat(5_000);
    for (const [accepted, coding, decode] of [
      ["gzip, deflate", "gzip", gunzipSync],
      ["deflate, gzip;q=0.5", "deflate", inflateSync],
      ["gzip;q=0", undefined, (body) => body],
      ["br", undefined, (body) => body],
    ]) {
      await session.post(`42["message","${text}"]`);
      const answer = await raw(session.target, { "Accept-Encoding": accepted });
      assert.equal(answer.headers["content-encoding"], coding, accepted);
      assert.equal(answer.headers.vary, "Accept-Encoding", accepted);
      assert.equal(decode(answer.body).toString(), `42["message-back","${text}"]`, accepted);
      assert.equal(answer.body.length < 500, coding !== undefined, accepted);
    }
    await session.post('42["message","small"]');
    const small = await raw(session.target, { "Accept-Encoding": "gzip" });
    assert.deepEqual([small.headers["content-encoding"], small.headers.vary], [undefined, undefined]);
  });

  test("a poll is compressed unless nothing in it may be", async () => {
    const session = await Polling.joined(URL);
    const text = "x".repeat(5_000);
    const take = async (...events) => {
      await session.post(events.map((event) => `42["${event}","${text}"]`).join("\x1e"));
      return (await raw(session.target, { "Accept-Encoding": "gzip" })).headers["content-encoding"];
    };
    assert.equal(await take("everyone-uncompressed"), undefined);
    assert.equal(await take("everyone-uncompressed", "everyone"), "gzip");
    assert.equal(await take("everyone-uncompressed", "everyone-uncompressed"), undefined);
    assert.equal(await take("message"), "gzip");
  });

  test("text of routes and folders is compressed, HEAD included", async () => {
    const plain = await raw("/long");
    assert.deepEqual([plain.headers["content-encoding"], plain.headers.vary], [undefined, "Accept-Encoding"]);
    const gzip = await raw("/long", { "Accept-Encoding": "gzip" });
    assert.equal(gzip.headers["content-encoding"], "gzip");
    assert.equal(Number(gzip.headers["content-length"]), gzip.body.length);
    assert.ok(gunzipSync(gzip.body).equals(plain.body));
    assert.equal((await raw("/hello", { "Accept-Encoding": "gzip" })).headers["content-encoding"], undefined);
  });
});

/** Values with bytes in nested places, as a stock client writes them. */
const TREES = [
  Buffer.from([0, 255, 7]),
  [Buffer.from([]), [[Buffer.from("ab")]], "between"],
  { name: "a.png", data: Buffer.alloc(2_000, 5), meta: { sizes: [1, 2.5, null, true], thumbs: [{ data: Buffer.from([1]) }] } },
  { "żółć 🦀 \u2028": [{ deep: { deeper: [Buffer.from([9]), {}] } }] },
  { num: 0, _placeholder: false, list: [] },
  "no bytes at all",
  null,
];

/** With every buffer as hexadecimal text, wherever it stands. */
const shown = (value) => {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return `bytes ${Buffer.from(value).toString("hex")}`;
  if (Array.isArray(value)) return value.map(shown);
  if (value !== null && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shown(inner)]));
  return value;
};

describe("values with bytes, read by a handler", only, () => {
  for (const [name, options] of Object.entries(WIRES)) {
    test(`${name}: come back as they went`, async (t) => {
      const socket = await connected(t, URL, options);
      for (const tree of TREES) {
        const back = next(socket, "any-back");
        assert.deepEqual(shown(await ask(socket, "any", tree)), shown(tree));
        assert.deepEqual(shown(await back), shown([tree, 7]));
      }
    });

    test(`${name}: arguments are kept and sent on`, async (t) => {
      const [socket, other] = [await connected(t, URL, options), await connected(t, URL, options)];
      const asked = (...args) => within(5_000, `answer to ${args[0]}`, new Promise((resolve) => socket.emit(...args, (...answer) => resolve(shown(answer)))));
      assert.deepEqual(await asked("keep", 1, { data: Buffer.from([3]) }), []);
      assert.deepEqual(await asked("keep"), [1, { data: "bytes 03" }]);
      assert.deepEqual(await asked("keep"), []);
      const relayed = next(other, "relayed");
      const token = `${name} ${Math.random()}`;
      const [answer] = await Promise.all([asked("relay-later", token, [Buffer.from([4])], null), relayed]);
      assert.deepEqual(answer, [token, ["bytes 04"], null]);
      assert.deepEqual(shown(await relayed), answer);
    });

    test(`${name}: missing and null are told apart`, async (t) => {
      const socket = await connected(t, URL, options);
      assert.equal(await ask(socket, "given"), "missing");
      assert.equal(await ask(socket, "given", null), "null");
      assert.deepEqual(shown(await ask(socket, "given", [Buffer.from([1])])), ["bytes 01"]);
    });
  }
});
