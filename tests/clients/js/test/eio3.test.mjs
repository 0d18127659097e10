// Clients of Socket.IO 1.x and 2.x (Engine.IO 3), next to new ones, on a server with allow_eio3; and JSONP.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import io1 from "socket.io-client-1";
import io2 from "socket.io-client-2";
import WebSocket from "ws";
import { ask, client, connected } from "../lib/clients.mjs";
import { enginePath, request } from "../lib/engine.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { collect, next, until, within } from "../lib/wait.mjs";

const URL = serverUrl("OLDER_URL");
const only = { skip: isReference && "the reference server does not allow EIO3" };

const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };
const OLDER = { "1.7.4": io1, "2.5.0": io2 };
const EACH = Object.entries(OLDER).flatMap(([version, io]) =>
  Object.entries(TRANSPORTS).map(([name, transports]) => ({ name: `${version} ${name}`, version, io, transports })));

/** A client of an old library, not yet connected; it is closed when the test ends. */
function older(t, io, path = "", options = {}) {
  const socket = io(URL + path, { forceNew: true, reconnection: false, ...options });
  t.after(() => socket.io.close());
  return socket;
}

async function joined(t, io, path, options) {
  const socket = older(t, io, path, options);
  await next(socket, "connect");
  return socket;
}

const asked = (socket, ...args) => within(5_000, `answer to ${args[0]}`, new Promise((resolve) => socket.emit(...args, resolve)));
const hex = (value) => Buffer.from(value).toString("hex");

describe("a client of 1.x or 2.x", only, () => {
  for (const { name, version, io, transports } of EACH) {
    test(`${name}: events, acks, binary, disconnect`, async (t) => {
      const socket = older(t, io, "", { transports });
      const auth = next(socket, "auth");
      await next(socket, "connect");
      assert.deepEqual(await auth, [{}]);
      if (name.endsWith("upgrade")) await until("the upgrade", () => socket.io.engine.transport.name === "websocket");
      const text = version === "1.7.4" && transports[0] === "polling" ? "plain" : "żółć 🦀 \u2028 é";
      assert.deepEqual(await asked(socket, "message-with-ack", { text, n: [1, null] }), { text, n: [1, null] });
      const back = next(socket, "message-back");
      socket.emit("message", text, Buffer.from([0, 1, 2, 255]), { deep: [Buffer.from([4])] });
      const [said, first, { deep: [second] }] = await back;
      assert.deepEqual([said, hex(first), hex(second)], [text, "000102ff", "04"]);
      const over = next(socket, "disconnect");
      socket.emit("kick-me");
      assert.deepEqual(await over, ["io server disconnect"]);
    });

    test(`${name}: values with bytes in them, read by a handler`, async (t) => {
      const socket = await joined(t, io, "", { transports });
      const shown = (value) => JSON.parse(JSON.stringify(value, (_, inner) =>
        inner instanceof ArrayBuffer ? hex(inner) : inner?.type === "Buffer" ? hex(inner.data) : inner));
      for (const tree of [Buffer.from([0, 255]), { list: [1, Buffer.from([7]), { deep: [Buffer.from("ab")] }], none: null }, [[], {}, "x"]]) {
        const back = next(socket, "any-back");
        assert.deepEqual(shown(await asked(socket, "any", tree)), shown(tree));
        assert.deepEqual(shown(await back), [shown(tree), 7]);
      }
      assert.equal(await asked(socket, "given"), "missing");
      assert.equal(await asked(socket, "given", null), "null");
    });

    test(`${name}: namespaces, their queries, refusals, ids`, async (t) => {
      const custom = older(t, io, "/custom?token=a%20b&n=1", { transports });
      const auth = next(custom, "auth");
      await next(custom, "connect");
      if (version === "2.5.0") assert.deepEqual(await auth, [{ token: "a b", n: "1" }]);
      const id = `/custom#${custom.io.engine.id}`;
      assert.equal(await asked(custom, "client-id"), id);
      assert.equal((await asked(custom, "about")).revision, 3);
      assert.equal(await asked(custom, "join", `old ${id}`), true);
      const also = await connected(t, `${URL}/custom`);
      assert.equal(await ask(also, "join", `old ${id}`), true);
      const found = await asked(custom, "fetch", `old ${id}`);
      assert.deepEqual(found.map((one) => [one.me, one.id === also.id]).sort(), [[false, true], [true, false]]);
      if (version === "2.5.0") assert.equal(custom.id, id); // 1.x takes its session's id for that of every socket

      const other = await joined(t, io, "", { transports });
      assert.equal(await asked(other, "client-id"), other.id);
      assert.equal(other.id, other.io.engine.id);
      // Its own id is a room that its client knows; others see an id with which nobody can speak for it.
      assert.ok(await asked(other, "join", "seen"));
      const [seen] = await asked(other, "fetch", "seen");
      assert.ok(!JSON.stringify(seen).includes(other.io.engine.id), JSON.stringify(seen));
      assert.ok(!(await asked(other, "rooms")).includes(other.io.engine.id));
      for (const name of [other.id, seen.id]) {
        const told = next(other, "room-event");
        other.emit("room", name, name);
        assert.deepEqual(await told, [name]);
      }
      const newer = await connected(t, `${URL}/custom`, {});
      const heard = next(custom, "room-event");
      newer.emit("room", id, "by the id that the client knows");
      assert.deepEqual(await heard, ["by the id that the client knows"]);

      assert.deepEqual(await next(older(t, io, "/refuse", { transports }), "error"), [{ retry: false }]);
      assert.deepEqual(await next(older(t, io, "/nowhere", { transports }), "error"), ["Invalid namespace"]);
    });
  }

  test("the client's pings are answered, and a client without them is gone", async (t) => {
    const sockets = await Promise.all(EACH.map(({ io, transports }) => joined(t, io, "", { transports })));
    const lost = sockets.map((socket) => collect(socket, "disconnect"));
    const silent = new WebSocket(`${URL.replace("http", "ws")}${enginePath({ EIO: 3, transport: "websocket" })}`);
    const began = performance.now();
    await next(silent, "close", 6_000);
    const lasted = performance.now() - began;
    assert.ok(lasted > 1_900 && lasted < 3_500, `${lasted} ms`);
    await Promise.all(sockets.map((socket) => next(socket, "pong", 3_000)));
    assert.deepEqual(lost.map((seen) => seen.length), sockets.map(() => 0));
  });

  test("order is kept across an upgrade under load, attachments included", async (t) => {
    const socket = older(t, io2);
    const back = collect(socket, "message-back");
    // The poll that connects may be the one that the upgrade waits for.
    const upgraded = next(socket.io.engine, "upgrade");
    await next(socket, "connect");
    for (let number = 0; number < 200; number++) {
      socket.emit("message", number, number % 3 ? "é" : Buffer.from([number]));
      if (number % 10 === 0) await new Promise(setImmediate);
    }
    await back.reaches(200);
    await upgraded;
    assert.deepEqual(back.map(([number]) => number), Array.from({ length: 200 }, (_, number) => number));
    for (const [number, value] of back) assert.equal(number % 3 ? value : hex(value), number % 3 ? "é" : hex([number]));
  });
});

describe("one room, old and new", only, () => {
  test("each message once, in order, text and binary", async (t) => {
    const old = await Promise.all(EACH.filter(({ version }) => version === "2.5.0").map(({ io, transports }) => joined(t, io, "", { transports })));
    const fresh = await Promise.all(Object.values(TRANSPORTS).map((transports) => connected(t, URL, { transports })));
    const sockets = [...old, ...fresh];
    const seen = sockets.map((socket) => collect(socket, "room-event"));
    for (const socket of sockets) assert.equal(await asked(socket, "join", "old and new"), true);
    const total = 48;
    for (let number = 0; number < total; number++) {
      const index = number % sockets.length;
      sockets[index].emit("room", "old and new", number % 2 ? { number, text: "żółć 🦀" } : { number, blob: Buffer.alloc(2_000, number) });
      await seen[index].reaches(number + 1);
    }
    await Promise.all(seen.map((events) => events.reaches(total)));
    for (const events of seen) {
      assert.equal(events.length, total);
      for (const [number, event] of events.entries()) {
        assert.equal(event.number, number);
        if (number % 2) assert.equal(event.text, "żółć 🦀");
        else assert.equal(hex(event.blob), hex(Buffer.alloc(2_000, number)));
      }
    }
  });

  test("1.x and ASCII", async (t) => {
    const old = await Promise.all(Object.values(TRANSPORTS).map((transports) => joined(t, io1, "", { transports })));
    const fresh = await connected(t, URL);
    const seen = old.map((socket) => collect(socket, "room-event"));
    for (const socket of old) assert.equal(await asked(socket, "join", "ascii"), true);
    for (let number = 0; number < 20; number++) fresh.emit("room", "ascii", number);
    await Promise.all(seen.map((events) => events.reaches(20)));
    for (const events of seen) assert.deepEqual([...events], Array.from({ length: 20 }, (_, number) => number));
  });
});

describe("the bytes", only, () => {
  const path = (query) => enginePath({ EIO: 3, transport: "polling", ...query });
  const open = async (query, headers) => {
    const response = await request(URL, path(query), { headers });
    assert.equal(response.status, 200, response.text);
    return response;
  };
  const framed = (packet) => `${packet.length}:${packet}`; // a JavaScript string's length is in UTF-16 code units
  const sidOf = (response) => response.text.match(/sid\\?":\\?"([\w-]{20})/)[1];
  const post = (query, body, type = "text/plain;charset=UTF-8", headers = {}) =>
    request(URL, path(query), { method: "POST", headers: { "Content-Type": type, ...headers }, body });

  test("a session by long-polling, as text", async () => {
    const opened = await open({ b64: 1 });
    assert.match(opened.text, /^(\d+):0\{"sid":"[\w-]{20}","upgrades":\["websocket"\],"pingInterval":1000,"pingTimeout":1000,"maxPayload":1000000\}$/);
    assert.equal(Number(opened.text.split(":")[0]), opened.text.length - opened.text.indexOf(":") - 1);
    assert.match(String(opened.headers["set-cookie"]), /^io=[\w-]{20}; Path=\/; HttpOnly; SameSite=Lax$/);
    const query = { sid: sidOf(opened), b64: 1 };
    assert.equal((await request(URL, path(query))).text, `2:40${framed('42["auth",{}]')}`);
    assert.equal((await post(query, `${framed('42["message","é😀"]')}1:2`)).text, "ok");
    assert.equal((await request(URL, path(query))).text, `${framed('42["message-back","é😀"]')}1:3`);
    assert.equal((await post(query, `${framed('451-["message",{"_placeholder":true,"num":0},"€"]')}10:b4AQIDBA==`)).text, "ok");
    const back = framed('451-["message-back",{"_placeholder":true,"num":0},"€"]');
    assert.equal((await request(URL, path(query))).text, `${back}10:b4AQIDBA==`);
    assert.equal((await post(query, "2:4😀")).status, 400);
    assert.equal((await request(URL, path(query))).status, 400);
  });

  test("binary goes as bytes to whoever reads them", async () => {
    const query = { sid: sidOf(await open({})) };
    await request(URL, path(query));
    const text = '51-["message",{"_placeholder":true,"num":0}]';
    const frame = (kind, packet) => Buffer.concat([Buffer.from([kind, ...String(packet.length)].map(Number)), Buffer.from([255]), packet]);
    const body = Buffer.concat([frame(0, Buffer.from(`4${text}`)), frame(1, Buffer.from([4, 1, 2, 255]))]);
    assert.equal((await post(query, body, "application/octet-stream")).text, "ok");
    const answer = await fetch(URL + path(query));
    assert.equal(answer.headers.get("content-type"), "application/octet-stream");
    const expected = Buffer.concat([frame(0, Buffer.from('451-["message-back",{"_placeholder":true,"num":0}]')), frame(1, Buffer.from([4, 1, 2, 255]))]);
    assert.equal(hex(await answer.arrayBuffer()), hex(expected));
  });

  test("a packet's text by POST, its attachment on the WebSocket that takes over", async () => {
    const query = { sid: sidOf(await open({ b64: 1 })), b64: 1 };
    await request(URL, path(query));
    assert.equal((await post(query, framed('451-["message",{"_placeholder":true,"num":0}]'))).text, "ok");
    const socket = new WebSocket(`${URL.replace("http", "ws")}${enginePath({ EIO: 3, transport: "websocket", sid: query.sid })}`);
    const seen = collect(socket, "message");
    await next(socket, "open");
    socket.send("2probe");
    await seen.reaches(1);
    assert.equal((await request(URL, path(query))).text, "1:6");
    socket.send("5");
    socket.send(Buffer.from([4, 7, 8]));
    await seen.reaches(3);
    assert.deepEqual(seen.map(([data]) => String(data)).slice(0, 2), ["3probe", '451-["message-back",{"_placeholder":true,"num":0}]']);
    assert.equal(hex(seen[2][0]), "040708");
    const over = next(socket, "close");
    socket.send(Buffer.from([7]));
    await over;
  });

  test("a WebSocket that reads no bytes gets base64", async () => {
    const socket = new WebSocket(`${URL.replace("http", "ws")}${enginePath({ EIO: 3, transport: "websocket", b64: 1 })}`);
    const seen = collect(socket, "message");
    await seen.reaches(3);
    assert.equal(String(seen[1][0]), "40");
    socket.send('451-["message",{"_placeholder":true,"num":0}]');
    socket.send("b4AQIDBA==");
    await seen.reaches(5);
    assert.deepEqual([String(seen[4][0]), seen[4][1]], ["b4AQIDBA==", false]);
    socket.close();
  });

  for (const EIO of [3, 4]) {
    test(`JSONP, revision ${EIO}`, async () => {
      const page = { Referer: `${URL}/page.html` };
      const opened = await open({ EIO, j: "2" }, page);
      assert.equal(opened.headers["content-type"], "text/javascript; charset=UTF-8");
      assert.equal(opened.headers["x-content-type-options"], "nosniff");
      const heard = (text) => JSON.parse(text.match(/^___eio\[2\]\((".*")\);$/s)[1]);
      assert.match(heard(opened.text), EIO === 3 ? /^\d+:0\{/ : /^0\{/);
      const query = { EIO, j: "2", sid: sidOf(opened) };
      const form = (body) => post(query, `d=${encodeURIComponent(body.replaceAll("\\n", "\\\n").replaceAll("\n", "\\n"))}`, "application/x-www-form-urlencoded", page);
      const packed = EIO === 3 ? framed : (packet) => packet;
      if (EIO === 4) await form("40");
      await request(URL, path(query), { headers: page });
      assert.equal((await form(packed('42["message","line\\nend \u2028 \\\\"]'))).text, "ok");
      const answer = await request(URL, path(query), { headers: page });
      assert.ok(!/[\u2028\n]/.test(answer.text), answer.text);
      assert.equal(heard(answer.text), packed('42["message-back","line\\nend \u2028 \\\\"]'));
    });
  }

  test("JSONP is not for other pages, nor for pages that say nothing", async () => {
    for (const headers of [{}, { Referer: "http://evil.example/page" }, { Origin: "http://evil.example" }]) {
      assert.equal((await request(URL, path({ j: 0 }), { headers })).status, 400);
    }
  });

  test("off by default; a revision yet to come is refused; the revision does not change", async () => {
    for (const EIO of ["3", "2", ""]) {
      const refused = await request(serverUrl("SERVER_URL"), path({ EIO }));
      assert.deepEqual([refused.status, refused.text], [400, '{"code":5,"message":"Unsupported protocol version"}']);
    }
    for (const EIO of ["5", "abc"]) assert.equal((await request(URL, path({ EIO }))).status, 400);
    const sid = sidOf(await open({}));
    assert.equal((await request(URL, path({ EIO: 4, sid }))).text, '{"code":3,"message":"Bad request"}');
    assert.equal((await request(URL, enginePath({ transport: "polling", sid }))).status, 200);
  });

  test("the wrong side's heartbeat ends the session", async () => {
    const query = { sid: sidOf(await open({})) };
    await post(query, "1:3");
    assert.equal((await request(URL, path(query))).status, 400);
  });
});
