// Several Engine.IO endpoints on one port: options, namespaces, who may open a session, the client bundle, raw
// Engine.IO, and how a server ends. Stock clients where they can see it, bytes where they hide it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, test } from "node:test";
import { Socket as EngineSocket } from "engine.io-client";
import msgpackParser from "socket.io-msgpack-parser";
import WebSocket from "ws";
import { VARIANTS, arrival, ask, client, connected, upgraded } from "../lib/clients.mjs";
import { Wire, enginePath, request } from "../lib/engine.mjs";
import { betterThanNode, isReference, serverUrl } from "../lib/target.mjs";
import { collect, next, pause, until, within } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");
const LOG = process.env.SERVER_LOG;
const at = (path, query = {}) => `${path}?${new URLSearchParams({ EIO: 4, transport: "polling", ...query })}`;
const open = async (path, query, options) => {
  const response = await request(URL, at(path, query), options);
  return { ...response, open: response.text[0] === "0" ? JSON.parse(response.text.slice(1)) : undefined };
};
/** What was collected, without what `collect` adds to its arrays. */
const plain = (seen) => Object.fromEntries(Object.entries(seen).map(([name, events]) => [name, [...events]]));
const logged = () => fs.readFileSync(LOG, "utf8").replaceAll(/\x1b\[\d+m/g, "");

describe("two endpoints side by side", () => {
  for (const [variant, options] of Object.entries(VARIANTS)) {
    test(`a namespace of one is not that of the other: ${variant}`, async (t) => {
      const user = await connected(t, URL, options);
      const admin = await connected(t, URL, { path: "/admin.io/", ...options });
      const heard = { user: collect(user, "everyone"), admin: collect(admin, "everyone") };
      for (const socket of [user, admin]) await ask(socket, "join", "room");
      const rooms = { user: collect(user, "room-event"), admin: collect(admin, "room-event") };
      admin.emit("everyone", "admins");
      user.emit("everyone", "users");
      admin.emit("room", "room", "admins");
      user.emit("room", "room", "users");
      await Promise.all([heard.user.reaches(1), heard.admin.reaches(1), rooms.user.reaches(1), rooms.admin.reaches(1)]);
      await pause(50);
      assert.deepEqual(plain(heard), { user: ["users"], admin: ["admins"] });
      assert.deepEqual(plain(rooms), { user: ["users"], admin: ["admins"] });
    });
  }

  test("a broadcast reaches an endpoint's sockets on every shard, and nobody else's", async (t) => {
    const users = await Promise.all(Array.from({ length: 6 }, () => connected(t, URL)));
    const admins = await Promise.all(Array.from({ length: 6 }, () => connected(t, URL, { path: "/admin.io/" })));
    const heard = [...users, ...admins].map((socket) => collect(socket, "everyone"));
    admins[0].emit("everyone", "all admins");
    await Promise.all(heard.slice(6).map((events) => events.reaches(1)));
    await pause(100);
    assert.deepEqual(heard.map((events) => events.length), [...Array(6).fill(0), ...Array(6).fill(1)]);
  });

  test("a handle means its own endpoint", betterThanNode, async (t) => {
    const [user, admin] = [await connected(t, URL), await connected(t, URL, { path: "/admin.io/" })];
    const heard = { user: collect(user, "news"), admin: collect(admin, "news") };
    await ask(admin, "news-by-handle", "for admins");
    await heard.admin.reaches(1);
    await ask(user, "news-by-handle", "for users");
    await heard.user.reaches(1);
    assert.deepEqual(plain(heard), { user: ["for users"], admin: ["for admins"] });
  });

  test("counts, and calls from a thread, keep to the endpoint", betterThanNode, async (t) => {
    const users = await Promise.all(Array.from({ length: 3 }, () => connected(t, URL)));
    const admins = await Promise.all(Array.from({ length: 5 }, () => connected(t, URL, { path: "/admin.io/" })));
    for (const socket of [...users, ...admins]) await ask(socket, "join", "counted");
    assert.equal(await ask(users[0], "count", "counted"), 3);
    assert.equal(await ask(admins[0], "count", "counted"), 5);
    admins[1].on("question", (_, answer) => answer("an administrator"));
    const called = next(admins[0], "called");
    await ask(admins[0], "call-from-thread", admins[1].id, 2000);
    assert.deepEqual(await called, ["an administrator"]);
  });

  test("namespaces are looked up at the endpoint", async (t) => {
    const there = await connected(t, `${URL}/only-here`, { path: "/admin.io/" });
    assert.equal(there.connected, true);
    await assert.rejects(arrival(client(t, `${URL}/only-here`)), /Invalid namespace/);
    await assert.rejects(arrival(client(t, `${URL}/custom`, { path: "/admin.io/" })), /Invalid namespace/);
  });

  test("each has its own options", async () => {
    const [main, admin] = [await open("/socket.io/"), await open("/admin.io/")];
    assert.deepEqual([main.open.pingInterval, main.open.maxPayload], [25_000, 1_000_000]);
    assert.deepEqual([admin.open.pingInterval, admin.open.maxPayload], [400, 1000]);
    const tooLarge = await request(URL, at("/admin.io/", { sid: admin.open.sid }), { method: "POST", body: "4".repeat(1001) });
    assert.equal(tooLarge.status, 413);
    const wire = new Wire(`${URL.replace("http", "ws")}${at("/admin.io/", { transport: "websocket" })}`);
    await wire.read();
    wire.send("4".repeat(1001));
    assert.equal(await wire.ends(), 1009);
  });

  test("its pings come in its own time", async (t) => {
    const wire = new Wire(`${URL.replace("http", "ws")}${at("/admin.io/", { transport: "websocket" })}`);
    t.after(() => wire.ws.terminate());
    await wire.read();
    const began = performance.now();
    assert.equal(await wire.read(), "2");
    const took = performance.now() - began;
    assert.ok(took > 300 && took < 1500, `${took} ms`);
  });

  test("a session belongs to the endpoint where it opened", async () => {
    const { open: admin } = await open("/admin.io/");
    const stray = await request(URL, at("/socket.io/", { sid: admin.sid }));
    assert.deepEqual([stray.status, stray.text], [400, '{"code":1,"message":"Session ID unknown"}']);
  });

  test("a transport can be off at one endpoint only", async (t) => {
    const response = await open("/websocket-only.io/");
    assert.deepEqual([response.status, response.text], [400, '{"code":0,"message":"Transport unknown"}']);
    const socket = await connected(t, URL, { path: "/websocket-only.io/", transports: ["websocket"] });
    assert.equal(await ask(socket, "counter"), 1);
  });

  test("a path that is nobody's is nobody's", async () => {
    assert.equal((await request(URL, at("/nobody.io/"))).status, 404);
    assert.equal((await request(URL, at("/admin.io"))).status, 404);
  });
});

describe("what an endpoint has of its own", { skip: isReference && "Node has one setting for all" }, () => {
  const cut = async (socket) => {
    const back = next(socket, "connect");
    socket.io.engine.close();
    await back;
  };

  test("recovery is on at one endpoint and off at the other", async (t) => {
    const coming = { transports: ["websocket"], reconnection: true, reconnectionDelay: 20 };
    const [main, other] = [await connected(t, URL, coming), await connected(t, URL, { ...coming, path: "/recovering.io/" })];
    const before = [main.id, other.id];
    for (const socket of [main, other]) await cut(socket);
    assert.deepEqual([Boolean(main.recovered), other.recovered], [false, true]);
    assert.deepEqual([main.id === before[0], other.id === before[1]], [false, true]);
  });

  test("polls are compressed at one endpoint and not at the other", async () => {
    for (const [path, coding] of [["/socket.io/", "gzip"], ["/recovering.io/", undefined]]) {
      const { open: session } = await open(path);
      const poll = at(path, { sid: session.sid });
      await request(URL, poll, { method: "POST", body: `40\x1e42["message","${"a".repeat(5000)}"]` });
      let codings = [];
      for (let text = ""; !text.includes("message-back");) {
        const answer = await request(URL, poll, { headers: { "Accept-Encoding": "gzip" } });
        codings.push(answer.headers["content-encoding"]);
        text = answer.headers["content-encoding"] ? "message-back" : answer.text;
      }
      assert.equal(codings.at(-1), coding, path);
    }
  });

  test("sessions of one endpoint are bounded for themselves", async () => {
    const statuses = [];
    for (let count = 0; count < 40; count += 1) statuses.push((await open("/few.io/")).status);
    assert.deepEqual(new Set(statuses), new Set([200, 503]));
    assert.equal((await open("/socket.io/")).status, 200);
  });

  test("raw Engine.IO has limits, times and subprotocols of its own", async (t) => {
    const { open: session } = await open("/own-engine.io/");
    assert.deepEqual([session.maxPayload, session.pingInterval, session.pingTimeout], [100, 300, 200]);
    const url = `${URL.replace("http", "ws")}${at("/own-engine.io/", { transport: "websocket" })}`;
    const socket = new WebSocket(url, ["v0", "v1"]);
    t.after(() => socket.terminate());
    const [first] = await once(socket, "message");
    assert.equal(first.toString()[0], "0");
    assert.equal(socket.protocol, "v1");
    const closed = once(socket, "close");
    socket.send("4".repeat(102));
    assert.equal((await closed)[0], 1009);
  });
});

describe("allow_request", () => {
  const guarded = (query) => ({ path: "/guarded.io/", query });

  for (const transports of [["polling"], ["websocket"]]) {
    test(`lets in who may come in: ${transports}`, async (t) => {
      const socket = await connected(t, URL, { ...guarded({ token: "secret" }), transports });
      assert.equal(await ask(socket, "counter"), 1);
      await assert.rejects(arrival(client(t, URL, { ...guarded({ token: "other" }), transports })));
    });
  }

  test("says why by long-polling", async () => {
    const wrong = await open("/guarded.io/", { token: "other" });
    assert.deepEqual([wrong.status, wrong.text], [403, '{"code":4,"message":"that \\"token\\" is wrong"}']);
    assert.match(wrong.headers["content-type"], /^application\/json/);
    const none = await open("/guarded.io/");
    assert.deepEqual([none.status, none.text], [403, '{"code":4,"message":"Forbidden"}']);
  });

  test("a rule that panics refuses", betterThanNode, async () => {
    const response = await open("/guarded.io/", { token: "panic" });
    assert.deepEqual([response.status, response.text], [403, '{"code":4,"message":"Forbidden"}']);
    await until("the line", () => /allow_request panicked; the client is refused/.test(logged()));
  });

  test("a WebSocket is refused before its 101", async () => {
    const socket = new Wire(`${URL.replace("http", "ws")}${at("/guarded.io/", { transport: "websocket", token: "other" })}`);
    // Node has 400 for every refused upgrade.
    await assert.rejects(socket.opened, isReference ? /400/ : /403/);
  });

  test("is asked for handshakes only", async () => {
    const { open: session } = await open("/guarded.io/", { token: "secret" });
    const posted = await request(URL, at("/guarded.io/", { sid: session.sid }), { method: "POST", body: "40" });
    assert.deepEqual([posted.status, posted.text], [200, "ok"]);
  });

  test("a refusal is in the log with its reason, and without the token", betterThanNode, async () => {
    await open("/guarded.io/", { token: "for the log" });
    await until("the line", () => /url="?\/guarded\.io\/[^ ]* refused="that \\"token\\" is wrong" advice=/.test(logged()));
    assert.ok(!/for.the.log/.test(logged()));
  });
});

describe("CORS and cookies of an endpoint", () => {
  const from = (origin, headers = {}) => ({ headers: { Origin: origin, ...headers } });

  test("a function decides", async () => {
    const allowed = await open("/admin.io/", {}, from("https://a.example"));
    assert.equal(allowed.headers["access-control-allow-origin"], "https://a.example");
    if (isReference) return; // Node's cors marks a response, and refuses none
    assert.equal((await open("/admin.io/", {}, from("https://a.elsewhere"))).status, 400);
  });

  test("a preflight may be remembered", async () => {
    const response = await request(URL, at("/admin.io/"), { method: "OPTIONS", ...from("https://a.example", { "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a" }) });
    assert.deepEqual([response.status, response.headers["access-control-max-age"]], [204, "600"]);
    assert.equal(response.headers["access-control-allow-headers"], "x-a");
  });

  test("a cookie has the attributes that were asked for, on the handshake by long-polling", async () => {
    const { headers, open: session } = await open("/admin.io/");
    const [cookie] = headers["set-cookie"];
    assert.deepEqual(new Set(cookie.split("; ")), new Set([`admin=${session.sid}`, "Path=/", "Max-Age=60", "HttpOnly", "SameSite=Strict"]));
    assert.equal((await open("/socket.io/")).headers["set-cookie"], undefined);
  });
});

describe("the client bundle", () => {
  const dist = fileURLToPath(new globalThis.URL("../node_modules/socket.io-client/dist/", import.meta.url));
  const { version } = JSON.parse(fs.readFileSync(path.join(dist, "../package.json"), "utf8"));
  const names = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];

  test("every file and its map are served as they are", async () => {
    for (const name of names.flatMap((name) => [name, `${name}.map`])) {
      const response = await request(URL, `/socket.io/${name}`);
      assert.equal(response.status, 200, name);
      assert.equal(response.text, fs.readFileSync(path.join(dist, name), "utf8"), name);
      assert.match(response.headers["content-type"], name.endsWith(".map") ? /^application\/json/ : /^application\/javascript; charset=utf-8$/);
      assert.equal(response.headers["cache-control"], "public, max-age=0");
      assert.match(response.headers.etag, new RegExp(`^"${version.replaceAll(".", "\\.")}"$`));
    }
  });

  test("a copy that is current is not sent again", async () => {
    for (const tag of [`"${version}"`, `W/"${version}"`]) {
      const response = await request(URL, "/socket.io/socket.io.js?query=ignored", { headers: { "If-None-Match": tag } });
      assert.deepEqual([response.status, response.text], [304, ""]);
    }
    assert.equal((await request(URL, "/socket.io/socket.io.js", { headers: { "If-None-Match": '"0.0.0"' } })).status, 200);
  });

  test("HEAD has the length and no body", betterThanNode, async () => {
    const response = await request(URL, "/socket.io/socket.io.js", { method: "HEAD" });
    assert.deepEqual([response.status, response.text], [200, ""]);
    assert.equal(Number(response.headers["content-length"]), fs.statSync(path.join(dist, "socket.io.js")).size);
  });

  test("nothing else of the folder is", async () => {
    for (const name of ["../package.json", "%2e%2e/package.json", "socket.io.js/", "index.js", "", "socket.io.js%00"]) {
      const response = await request(URL, `/socket.io/${name}`);
      assert.equal(response.status, 400, name);
      assert.match(response.text, /Transport unknown/, name);
    }
  });

  test("a page of an allowed origin may import it", async () => {
    const response = await request(URL, "/admin.io/socket.io.esm.min.js", { headers: { Origin: "https://a.example" } });
    assert.deepEqual([response.status, response.headers["access-control-allow-origin"]], [200, "https://a.example"]);
  });
});

describe("raw Engine.IO", () => {
  const options = { path: "/engine.io/" };

  function engine(t, extra = {}) {
    const socket = new EngineSocket(URL, { ...options, ...extra });
    socket.binaryType = "arraybuffer";
    t.after(() => socket.close());
    return { socket, messages: collect(socket, "message") };
  }

  for (const [variant, transports] of Object.entries({ polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] })) {
    test(`messages are given as they are: ${variant}`, async (t) => {
      const { socket, messages } = engine(t, { transports });
      await next(socket, "open");
      for (const text of ["one", "", "2", "€"]) socket.send(text);
      socket.send(new Uint8Array([0, 1, 255]).buffer);
      await messages.reaches(6);
      if (variant === "upgrade" && socket.transport.name !== "websocket") await next(socket, "upgrade");
      socket.send("transport");
      await messages.reaches(7);
      // The client has undefined for an empty message.
      assert.deepEqual(messages.slice(0, 5), ["welcome", "one", undefined, "2", "€"]);
      assert.deepEqual([...new Uint8Array(messages[5])], [0, 1, 255]);
      assert.equal(messages[6], variant === "polling" ? "polling" : "websocket");
    });
  }

  test("order is kept across the upgrade", async (t) => {
    const { socket, messages } = engine(t);
    await next(socket, "open");
    const sent = Array.from({ length: 300 }, (_, number) => `${number}`);
    for (const text of sent) {
      socket.send(text);
      if (text.endsWith("0")) await pause(1);
    }
    await messages.reaches(301);
    assert.deepEqual(messages.slice(1), sent);
    assert.equal(socket.transport.name, "websocket");
  });

  test("the server can close", async (t) => {
    for (const transports of [["polling"], ["websocket"]]) {
      const { socket } = engine(t, { transports });
      await next(socket, "open");
      socket.send("close");
      const [reason] = await next(socket, "close");
      assert.equal(reason, "transport close");
    }
  });

  test("nobody has to join a namespace", betterThanNode, async (t) => {
    const fast = serverUrl("FAST_URL"); // connect timeout 1 s
    const socket = new EngineSocket(fast, options);
    t.after(() => socket.close());
    const closed = collect(socket, "close");
    await next(socket, "open");
    await pause(1500);
    assert.equal(closed.length, 0);
  });
});

describe("a trace of one client", betterThanNode, () => {
  test("shows its packets both ways, and ends", async (t) => {
    const socket = await connected(t, URL, { transports: ["websocket"] });
    assert.equal(await ask(socket, "trace-me", true), true);
    await until("the trace begins", () => /trace session=.* is_on=true/.test(logged()));
    socket.emit("everyone", "traced broadcast");
    await next(socket, "everyone");
    assert.equal(await ask(socket, "trace-me", false), true);
    await until("the trace ends", () => /trace session=.* is_on=false/.test(logged()));
    socket.emit("everyone", "untraced broadcast");
    await next(socket, "everyone");
    const lines = logged().split("\n").filter((line) => line.includes("traced broadcast"));
    assert.equal(lines.length, 2, lines.join("\n"));
    assert.match(lines[0], /received session=\S+ bytes=\d+ packet="42\[\\"everyone\\",\\"traced broadcast\\"\]"/);
    assert.match(lines[1], /sent session=\S+ bytes=\d+ packet="42\[\\"everyone\\"/);
  });
});

describe("the end of a server", betterThanNode, () => {
  /** A server of this test's own. */
  async function server(t, settings = {}) {
    const holder = net.createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address();
    holder.close();
    await once(holder, "close");
    const env = { ...process.env, ...settings };
    const child = spawn(process.env.CONFORMANCE_BIN, ["--bind", `127.0.0.1:${port}`, "--shards", "2"], { env, stdio: "ignore" });
    t.after(() => child.kill("SIGKILL"));
    const url = `http://127.0.0.1:${port}`;
    await until("the server listens", () => request(url, "/hello").then(() => true, () => false));
    return { url, child, exited: once(child, "exit") };
  }

  test("every client hears of it, and nothing is left open", async (t) => {
    const { url, child, exited } = await server(t);
    const polling = await connected(t, url, { transports: ["polling"] });
    const websocket = await connected(t, url, { transports: ["websocket"] });
    const switched = await connected(t, url);
    await upgraded(switched);
    const raw = new EngineSocket(url, { path: "/engine.io/" });
    await next(raw, "upgrade");
    await pause(200); // every poll is pending: whoever is between two polls finds nobody there
    const ends = [polling, websocket, switched].map((socket) => next(socket, "disconnect"));
    const rawEnd = next(raw, "close");
    const wire = Wire.engine(url);
    await wire.read();
    child.kill("SIGTERM");
    for (const end of ends) assert.match((await end)[0], /^transport (close|error)$/);
    assert.equal((await rawEnd)[0], "transport close");
    assert.equal(await wire.ends(), 1001);
    assert.deepEqual(await within(5_000, "the exit", exited), [0, null]);
  });

  test("a pending poll is answered with a packet that means nothing, and the next is not served", async (t) => {
    const { url, child } = await server(t);
    const opened = await request(url, enginePath({ EIO: 4, transport: "polling" }));
    const target = enginePath({ EIO: 4, transport: "polling", sid: JSON.parse(opened.text.slice(1)).sid });
    const poll = request(url, target);
    await pause(100);
    child.kill("SIGTERM");
    assert.equal((await poll).text, "6");
    const later = await request(url, target).catch((reason) => reason);
    if (later.status !== undefined) assert.equal(later.text, '{"code":1,"message":"Session ID unknown"}');
    else assert.match(later.code ?? "", /ECONNREFUSED|ECONNRESET/);
  });

  for (const io of ["auto", "epoll"]) {
    test(`it may be spread over time: ${io}`, async (t) => {
      const { url, child, exited } = await server(t, { SHARDCAST_IO: io, SHARDCAST_SHUTDOWN_SPREAD: "3s" });
      const sockets = await Promise.all(Array.from({ length: 20 }, (_, number) =>
        connected(t, url, { transports: [number % 2 ? "websocket" : "polling"] })));
      const raw = new Wire(`${url.replace("http", "ws")}/ws`);
      await raw.opened;
      await pause(200);
      const began = performance.now();
      const ends = sockets.map((socket) => next(socket, "disconnect").then(() => performance.now() - began));
      child.kill("SIGTERM");
      await pause(100);
      const last = sockets.filter((socket) => socket.connected && socket.io.engine.transport.name === "websocket").at(-1);
      assert.equal(await ask(last, "counter"), 1, "who is not yet sent away goes on");
      assert.equal((await request(url, "/hello")).status, 200, "it listens until the last has ended");
      assert.equal((await request(url, enginePath({ EIO: 4, transport: "polling" }))).status, 503);
      const times = await Promise.all(ends);
      assert.ok(Math.max(...times) > 2_100 && Math.min(...times) < 1_200, `${times.map(Math.round)}`);
      assert.equal(await raw.ends(), 1001);
      assert.deepEqual(await within(5_000, "the exit", exited), [0, null]);
    });
  }

  test("a second SIGTERM does not wait", async (t) => {
    const { url, child, exited } = await server(t, { SHARDCAST_SHUTDOWN_SPREAD: "60s" });
    const socket = await connected(t, url, { transports: ["websocket"] });
    child.kill("SIGTERM");
    await pause(100);
    assert.equal(socket.connected, true);
    child.kill("SIGTERM");
    await next(socket, "disconnect");
    assert.deepEqual(await within(5_000, "the exit", exited), [130, null]);
  });
});

test("a parser and compression of one endpoint alone", { skip: isReference && "Node serves one parser a server" }, async (t) => {
  const options = { path: "/packed.io/", transports: ["websocket"], perMessageDeflate: { threshold: 0 } };
  const packed = await connected(t, URL, { ...options, parser: msgpackParser });
  const plain = await connected(t, URL, options);
  const [heard, other] = [next(packed, "room-event"), next(plain, "room-event")];
  for (const socket of [packed, plain]) {
    assert.equal(await ask(socket, "join", "packed"), true);
    assert.ok(socket.io.engine.transport.ws.extensions.includes("permessage-deflate"));
  }
  packed.emit("room", "packed", { text: "x".repeat(2_000), bytes: Buffer.from([1, 2]) });
  for (const [payload] of [await heard, await other]) {
    assert.deepEqual([payload.text.length, [...new Uint8Array(payload.bytes)]], [2_000, [1, 2]]);
  }
  const main = await connected(t, URL, { transports: ["websocket"], perMessageDeflate: { threshold: 0 } });
  assert.ok(!main.io.engine.transport.ws.extensions?.includes("permessage-deflate"), "the main endpoint has neither");
  const stranger = client(t, URL, { transports: ["websocket"], parser: msgpackParser });
  await Promise.race([next(stranger, "disconnect"), next(stranger.io, "close"), next(stranger, "connect_error")]);
  assert.equal(stranger.connected, false);
});

test("a raw route's own limits, times and subprotocols", { skip: isReference && "the reference has no such route" }, async (t) => {
  const url = `${URL.replace("http", "ws")}/own-ws`;
  const ws = new WebSocket(url, ["v0", "v1", "v2"], { autoPong: false });
  t.after(() => ws.terminate());
  await next(ws, "open");
  assert.equal(ws.protocol, "v1");
  ws.send("x".repeat(100));
  assert.equal((await next(ws, "message"))[0].length, 100);
  const began = performance.now();
  await next(ws, "close");
  const lasted = performance.now() - began;
  assert.ok(lasted > 250 && lasted < 3_000, `closed after ${lasted} ms without a pong`);
  const talkative = new WebSocket(url);
  t.after(() => talkative.terminate());
  await next(talkative, "open");
  talkative.send("x".repeat(101));
  assert.equal((await next(talkative, "close"))[0], 1009);
});
