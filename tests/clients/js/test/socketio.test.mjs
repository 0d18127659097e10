// The stock JavaScript client against the conformance server, once for each way to reach it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { VARIANTS, arrival, ask, client, connected, settled, upgraded } from "../lib/clients.mjs";
import { MESSAGE_BYTES_MAX, isReference, serverUrl } from "../lib/target.mjs";
import { collect, next, until } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");
const SID = /^[A-Za-z0-9_-]{20}$/;
const TEXTS = ["", "plain", "żółć", "日本語", "🦀👩‍👩‍👧", "\u2028\u2029", 'quote " back \\ slash', "tab\t nul\0 bell\x07", "\x1e is the packet separator", "b4binary?", "\ufeffbom"];

for (const [variant, options] of Object.entries(VARIANTS)) describe(variant, { concurrency: false }, () => {
  const open = (t, more = {}) => connected(t, URL, { ...options, ...more });

  test("a socket has a sid of its own, 20 characters, and the engine's stays secret", async (t) => {
    const socket = await open(t);
    assert.match(socket.id, SID);
    assert.match(socket.io.engine.id, SID);
    assert.notEqual(socket.id, socket.io.engine.id);
    if (!options.transports) await upgraded(socket);
    assert.equal(socket.io.engine.transport.name, variant === "polling" ? "polling" : "websocket");
    assert.equal(await ask(socket, "message-with-ack", "after"), "after");
  });

  test("the server emits the handshake's auth", async (t) => {
    for (const [auth, expected] of [[{ token: "ś3cret", list: [1, { deep: true }] }], [undefined, {}]]) {
      const socket = client(t, URL, { ...options, ...(auth && { auth }) });
      const [seen] = await next(socket, "auth");
      assert.deepEqual(seen, expected ?? auth);
    }
  });

  test("text, unicode and several arguments come back as they went", async (t) => {
    const socket = await open(t);
    const rows = [[], ["one"], [1, "2", { 3: [true] }], [null, false, 0, -1.5, 1e21, 9007199254740991], [{}, [], [[]], { a: { b: [null] } }], TEXTS, ...TEXTS.map((text) => [text])];
    for (const row of rows) {
      const back = next(socket, "message-back");
      socket.emit("message", ...row);
      assert.deepEqual(await back, row);
    }
  });

  test("binary travels both ways, nested, repeated and empty", async (t) => {
    const socket = await open(t);
    const bytes = (length) => Buffer.from({ length }, (_, index) => index % 256);
    const rows = [
      [bytes(3)],
      [Buffer.alloc(0)],
      [bytes(256), "text between", bytes(65_536)],
      [{ deep: [{ deeper: bytes(7) }, Buffer.alloc(0)], plain: 1 }],
      Array.from({ length: 10 }, (_, index) => bytes(index)),
    ];
    for (const row of rows) {
      const back = next(socket, "message-back");
      socket.emit("message", ...row);
      assert.deepEqual(await back, row);
      const answer = await new Promise((resolve) => socket.emit("message-with-ack", ...row, (...args) => resolve(args)));
      assert.deepEqual(answer, row);
    }
  });

  test("each ack answers its own emit", async (t) => {
    const socket = await open(t);
    const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => ask(socket, "message-with-ack", { index })));
    assert.deepEqual(answers, Array.from({ length: 100 }, (_, index) => ({ index })));
    const several = await new Promise((resolve) => socket.emit("message-with-ack", 1, "2", [3], (...args) => resolve(args)));
    assert.deepEqual(several, [1, "2", [3]]);
  });

  test("a client gives up on an ack that does not come in time", async (t) => {
    const socket = await open(t);
    await assert.rejects(socket.timeout(100).emitWithAck("slow", 400, "late"), /timed out/);
    await assert.rejects(socket.timeout(100).emitWithAck("nobody-listens"), /timed out/);
    assert.equal(await ask(socket, "message-with-ack", "still here"), "still here");
  });

  test("the server's own ack gets the client's answer, or times out", async (t) => {
    const socket = await open(t);
    const answers = ["yes", { bytes: Buffer.from([1, 2, 3]) }];
    for (const expected of answers) {
      socket.once("question", (number, ack) => ack(number === 42 ? expected : `asked ${number}`));
      const answer = next(socket, "answer");
      socket.emit("ask-me");
      assert.deepEqual(await answer, [expected]);
    }
    const asked = performance.now();
    const silence = next(socket, "no-answer", 4_000);
    socket.on("answer", () => assert.fail("nobody answered"));
    socket.emit("ask-me");
    await silence;
    const waited = performance.now() - asked;
    assert.ok(waited > 900 && waited < 2_500, `the timeout of 1 s took ${waited} ms`);
  });

  test("namespaces share a connection and nothing else", async (t) => {
    const main = await open(t);
    const custom = main.io.socket("/custom", { auth: { in: "custom" } });
    const [auth] = await next(custom, "auth");
    assert.deepEqual(auth, { in: "custom" });
    assert.match(custom.id, SID);
    assert.equal(new Set([main.id, custom.id, main.io.engine.id]).size, 3);

    const inMain = collect(main, "everyone");
    const inCustom = collect(custom, "everyone");
    const tag = Math.random();
    main.emit("everyone", { tag, from: "main" });
    custom.emit("everyone", { tag, from: "custom" });
    const own = (list) => list.filter((event) => event.tag === tag).map((event) => event.from);
    await until("both broadcasts", () => own(inMain).length && own(inCustom).length);
    assert.equal(await ask(main, "message-with-ack", 1), 1);
    assert.equal(await ask(custom, "message-with-ack", 2), 2);
    assert.deepEqual([own(inMain), own(inCustom)], [["main"], ["custom"]]);

    custom.disconnect();
    assert.equal(await ask(main, "message-with-ack", "main lives on"), "main lives on");
    const before = main.id;
    custom.connect();
    await arrival(custom);
    assert.equal(main.id, before);
    assert.equal(await ask(custom, "counter"), 1);
  });

  test("an unknown namespace is refused, and the connection stays", async (t) => {
    const main = await open(t);
    const [error] = await next(main.io.socket("/random"), "connect_error");
    assert.equal(error.message, "Invalid namespace");
    assert.equal(await ask(main, "message-with-ack", 1), 1);
  });

  test("a refusal carries its message and data, and leaves nobody behind", async (t) => {
    const main = await open(t);
    const refused = main.io.socket("/refuse");
    refused.on("connect", () => assert.fail("refused and connected"));
    const [error] = await next(refused, "connect_error");
    assert.equal(error.message, "unauthorized");
    assert.deepEqual(error.data, { retry: false });
    assert.equal(refused.connected, false);
    assert.equal(await ask(main, "message-with-ack", 1), 1);
  });

  test("rooms: own sid, join, leave, everyone in it, all but the sender, nobody", async (t) => {
    const [a, b, c] = [await open(t), await open(t), await open(t)];
    const seen = new Map([a, b, c].map((socket) => [socket, collect(socket, "room-event")]));
    const room = `room ${a.id}`;
    assert.deepEqual(await ask(a, "rooms"), [a.id]);
    for (const socket of [a, b]) assert.equal(await ask(socket, "join", room), true);
    assert.equal(await ask(a, "join", room), true);
    assert.deepEqual((await ask(a, "rooms")).sort(), [a.id, room].sort());

    a.emit("room", room, "all");
    a.emit("room-others", room, "others");
    a.emit("room", c.id, { only: "c", bytes: Buffer.from([0, 255]) });
    a.emit("room", "", "an empty name is nobody");
    a.emit("room", "nobody is here", "lost");
    c.emit("room", room, "from outside");
    await Promise.all([seen.get(a).reaches(2), seen.get(b).reaches(3), seen.get(c).reaches(1)]);

    assert.equal(await ask(b, "leave", room), true);
    a.emit("room", room, "b has left");
    // Everybody's last word: what was sent before it has arrived.
    for (const socket of [a, b, c]) a.emit("room", socket.id, "end");
    await Promise.all([...seen.values()].map((list) => until("the last word", () => list.includes("end"))));

    assert.deepEqual(seen.get(a).filter((event) => event !== "from outside"), ["all", "b has left", "end"]);
    assert.deepEqual(seen.get(b).filter((event) => event !== "from outside"), ["all", "others", "end"]);
    assert.deepEqual([...seen.get(c)], [{ only: "c", bytes: Buffer.from([0, 255]) }, "end"]);
    for (const socket of [a, b]) assert.equal(seen.get(socket).filter((event) => event === "from outside").length, 1);
  });

  test("2000 pipelined acked events are handled and answered in order", async (t) => {
    const socket = await settled(t, URL, options);
    const count = 2_000;
    const acks = [];
    const backs = collect(socket, "message-back");
    const done = new Promise((resolve) => {
      for (let index = 0; index < count; index++) {
        socket.emit("message-with-ack", index, (value) => acks.push(value) === count && resolve());
        socket.emit("message", index);
      }
    });
    await backs.reaches(count, 20_000);
    await done;
    const expected = Array.from({ length: count }, (_, index) => index);
    assert.deepEqual(acks, expected);
    assert.deepEqual([...backs], expected);
    assert.equal(await ask(socket, "counter"), 1);
    assert.equal(await ask(socket, "counter"), 2);
  });

  test("events behind an asynchronous handler wait for it", async (t) => {
    const socket = await open(t);
    const order = [];
    const answered = (name, ...args) => new Promise((resolve) => socket.emit(name, ...args, (value) => resolve(order.push(value))));
    await Promise.all([answered("slow", 150, "slow"), answered("message-with-ack", "second"), answered("slow", 50, "third"), answered("message-with-ack", "last")]);
    assert.deepEqual(order, ["slow", "second", "third", "last"]);
  });

  test("one socket's slow handler does not delay another's", async (t) => {
    const [slow, quick] = [await open(t), await open(t)];
    let isAnswered = false;
    const late = ask(slow, "slow", 1_000, "late").then((value) => ((isAnswered = true), value));
    assert.equal(await ask(quick, "message-with-ack", "at once"), "at once");
    assert.equal(isAnswered, false);
    assert.equal(await late, "late");
  });

  test("the client's disconnect takes its rooms with it", async (t) => {
    const [goes, stays] = [await open(t), await open(t)];
    const left = goes.id;
    assert.equal(await ask(stays, "message-with-ack", 1), 1);
    const reason = next(goes, "disconnect");
    goes.disconnect();
    assert.equal((await reason)[0], "io client disconnect");
    goes.connect();
    await arrival(goes);
    assert.notEqual(goes.id, left);
    assert.deepEqual(await ask(goes, "rooms"), [goes.id]);
    const seen = collect(goes, "room-event");
    stays.emit("room", left, "to the dead");
    stays.emit("room", goes.id, "to the living");
    await seen.reaches(1);
    assert.deepEqual([...seen], ["to the living"]);
  });

  test("the server's disconnect says so, ends one namespace only, and a new connect starts anew", async (t) => {
    const main = await open(t);
    const custom = main.io.socket("/custom");
    await arrival(custom);
    for (const expected of [1, 2]) assert.equal(await ask(custom, "counter"), expected);
    const kicked = next(custom, "disconnect");
    custom.emit("kick-me");
    assert.equal((await kicked)[0], "io server disconnect");
    assert.equal(await ask(main, "message-with-ack", 1), 1);
    custom.connect();
    await arrival(custom);
    assert.equal(await ask(custom, "counter"), 1);
    const also = next(main, "disconnect");
    main.emit("kick-me");
    assert.equal((await also)[0], "io server disconnect");
    assert.equal(await ask(custom, "counter"), 2);
  });

  // React's strict mode mounts, unmounts and mounts again within one tick.
  test("connect, disconnect and connect in one tick ends nothing", { skip: isReference && "Node closes the connection for some" }, async (t) => {
    for (const pause of [null, 0, 1, 5, 20]) {
      const main = await open(t);
      const custom = main.io.socket("/custom");
      custom.disconnect();
      custom.connect();
      custom.disconnect();
      if (pause !== null) await new Promise((resolve) => setTimeout(resolve, pause));
      custom.connect();
      await arrival(custom);
      assert.equal(await ask(custom, "message-with-ack", "in"), "in");
      assert.equal(await ask(main, "message-with-ack", "still in"), "still in");
      assert.equal(await ask(custom, "counter"), 1);
      custom.disconnect();
      custom.connect();
      await arrival(custom);
      assert.deepEqual(await ask(custom, "rooms"), [custom.id]);
      assert.ok(main.connected, `after a pause of ${pause} ms`);
    }
  });

  test("a handler that panics costs its client one reconnect, and nobody else anything", async (t) => {
    const again = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20 };
    const [victim, other] = [await open(t, again), await open(t)];
    const ended = isReference ? null : next(victim, "disconnect");
    victim.emit("boom", () => assert.fail("a panic is no ack"));
    if (ended) {
      assert.match((await ended)[0], /^transport (close|error)$/, "from these it comes back");
      await arrival(victim);
      assert.equal(await ask(victim, "message-with-ack", "back"), "back");
    }
    assert.equal(await ask(other, "message-with-ack", "unharmed"), "unharmed");
    const later = await open(t);
    assert.equal(await ask(later, "message-with-ack", "still serving"), "still serving");
  });

  test("messages of 900 KB pass both ways", async (t) => {
    const socket = await settled(t, URL, options);
    const text = "0123456789".repeat(90_000);
    assert.equal(await ask(socket, "message-with-ack", text), text);
    // On polling the bytes travel as base64, and must stay under the limit there too.
    const bytes = Buffer.alloc(variant === "polling" ? 700_000 : 900_000, 0xa5);
    assert.ok(bytes.equals(await ask(socket, "message-with-ack", bytes)));
  });

  test("a message above the limit ends the connection, and nobody else's", async (t) => {
    const [socket, other] = [await settled(t, URL, options), await open(t)];
    const ended = next(socket, "disconnect");
    socket.emit("message", "x".repeat(MESSAGE_BYTES_MAX + 1));
    assert.match((await ended)[0], variant === "polling" ? /^transport error$/ : /^transport (close|error)$/);
    assert.equal(await ask(other, "message-with-ack", 1), 1);
  });

  test("a client comes back by itself after the server closes its transport", async (t) => {
    const socket = await settled(t, URL, { ...options, reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20 });
    const [before, engine] = [socket.id, socket.io.engine.id];
    assert.equal(await ask(socket, "counter"), 1);
    const ended = next(socket, "disconnect");
    socket.io.engine.send("4abc"); // no Socket.IO packet: the server must close the connection
    assert.match((await ended)[0], /^transport (close|error)$/);
    await arrival(socket);
    assert.notEqual(socket.id, before);
    assert.notEqual(socket.io.engine.id, engine);
    assert.equal(await ask(socket, "counter"), 1);
  });
});

test("nothing is lost, doubled or reordered while a connection upgrades", async (t) => {
  for (let round = 0; round < 5; round++) {
    const socket = client(t, URL);
    const backs = collect(socket, "message-back");
    let upgrading = true;
    socket.on("connect", () => socket.io.engine.once("upgrade", () => (upgrading = false)));
    await arrival(socket);
    let sent = 0;
    while (upgrading && sent < 5_000) {
      const index = sent++;
      socket.emit("message", index, ...(index % 10 ? [] : [Buffer.from([index % 256])]));
      if (index % 20 === 0) await new Promise(setImmediate);
    }
    await upgraded(socket);
    for (let more = 0; more < 50; more++) socket.emit("message", sent++, Buffer.from("after"));
    await backs.reaches(sent);
    assert.equal(await ask(socket, "message-with-ack", "end"), "end");
    assert.deepEqual(backs.map((back) => (Array.isArray(back) ? back[0] : back)), Array.from({ length: sent }, (_, index) => index));
    socket.disconnect();
  }
});

test("a connection reports its shard", async (t) => {
  const shard = await ask(await connected(t, URL), "shard");
  assert.ok(Number.isInteger(shard) && shard >= 0 && shard < (isReference ? 1 : 4), `shard ${shard}`);
});
