// Namespaces by pattern, a namespace as a class, and what is asked before a handler, with the stock JavaScript client.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { VARIANTS, arrival, ask, client, connected } from "../lib/clients.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { collect, next, until } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");

/** A game that no other test plays. */
let games = 0;
const game = () => `/game/${process.pid}-${(games += 1)}`;

for (const [variant, options] of Object.entries(VARIANTS)) describe(variant, { concurrency: false }, () => {
  const play = (t, name, more = {}) => connected(t, URL + name, { ...options, auth: { token: "t" }, ...more });
  const refusal = async (t, name, auth) => arrival(client(t, URL + name, { ...options, auth })).then(() => assert.fail(`${name} let in`), (error) => error);

  test("a pattern makes a namespace for each name, on every shard, and nobody hears another's", async (t) => {
    const [here, there] = [game(), game()];
    const players = await Promise.all([here, here, here, here, there].map((name) => play(t, name)));
    const heard = players.map((player) => collect(player, "moved"));
    for (const [index, player] of players.entries()) {
      assert.deepEqual(await new Promise((resolve) => player.emit("where", (...args) => resolve(args))), [index < 4 ? here : there, "t"]);
    }
    players[0].emit("move", { to: "e4", bytes: Buffer.from([0, 255]) });
    players[4].emit("move", "d4");
    await until("everybody has heard their game", () => heard.every((moves) => moves.length === 1));
    assert.deepEqual([...heard[3]], [{ to: "e4", bytes: Buffer.from([0, 255]) }]);
    assert.deepEqual([...heard[4]], ["d4"]);
  });

  test("a namespace can be left to its end and entered again", async (t) => {
    const name = game();
    for (let round = 0; round < 5; round += 1) {
      const player = await play(t, name);
      const moved = next(player, "moved");
      player.emit("move", round);
      assert.deepEqual(await moved, [round]);
      player.disconnect();
    }
  });

  test("who is asked before the connection may refuse, with data", async (t) => {
    const unauthorized = await refusal(t, game(), {});
    assert.equal(unauthorized.message, "unauthorized");
    assert.deepEqual(unauthorized.data, { retry: false });
    assert.equal((await refusal(t, "/game/closed", { token: "t" })).message, "closed");
    for (const name of ["/game/", "/game/7/8", "/games"]) assert.equal((await refusal(t, name, { token: "t" })).message, "Invalid namespace");
  });

  test("an event may be refused before its handler, and any other has one", async (t) => {
    const player = await play(t, game());
    const failed = next(player, "failed");
    let isAnswered = false;
    player.emit("cheat", 1, "two", () => (isAnswered = true));
    assert.deepEqual(await failed, ["cheat", "no cheating", 2]);
    for (const event of ["*", "anything", "error"]) {
      assert.deepEqual(await new Promise((resolve) => player.emit(event, [], {}, (...args) => resolve(args))), [event, 2]);
    }
    assert.equal(isAnswered, false);
  });

  test("the methods of a class are handlers", async (t) => {
    assert.equal((await refusal(t, "/class")).message, "where do we start?");
    const counter = client(t, `${URL}/class`, { ...options, auth: { start: 40 } });
    assert.deepEqual(await next(counter, "started"), [40]);
    assert.equal(await ask(counter, "add", 2), 42);
    assert.equal(await ask(counter, "later", 10), 42);
  });

  test("methods of a class may be raw, asynchronous, and return values of their own", { skip: isReference && "Node has no such classes" }, async (t) => {
    const counter = client(t, `${URL}/class`, { ...options, auth: { start: 7 } });
    await next(counter, "started");
    const back = next(counter, "raw-later-back");
    const answer = await new Promise((resolve) => counter.emit("raw-later", { a: [1] }, Buffer.from([0, 255]), (...args) => resolve(args)));
    assert.deepEqual(answer, [{ a: [1] }, Buffer.from([0, 255])]);
    assert.equal((await back)[1], 2);
    assert.deepEqual(await ask(counter, "echo", Buffer.from([1])), Buffer.from([1]));
    assert.equal((await ask(counter, "total")).y, 0);
  });

  test("a value of the server's own is returned and emitted as it is", { skip: isReference && "Node has no types" }, async (t) => {
    const socket = await connected(t, URL, options);
    const moved = next(socket, "moved-to");
    assert.deepEqual(await ask(socket, "point", 3, " 4 "), { x: 3, y: 4 });
    assert.deepEqual(await moved, [{ x: 4, y: 3 }]);
    assert.deepEqual(await ask(socket, "point", 3, "four"), { error: "invalid digit found in string" });
  });

  test("auth is lent to who decides, and an error of the server's own refuses", { skip: isReference && "Node has no types" }, async (t) => {
    assert.equal((await refusal(t, "/login")).message, "who are you?");
    assert.equal((await refusal(t, "/login", { token: "ś\n🦀" })).message, "a token of 3 characters is wrong");
    assert.match((await refusal(t, "/login", { token: 7 })).message, /invalid type: integer `7`/);
    const socket = client(t, `${URL}/login`, { ...options, auth: { token: "secret\nAda \u0007" } });
    assert.deepEqual(await next(socket, "hello"), ["Ada \u0007"]);
  });

  test("what is done at times is done once for the server, or once on each shard", { skip: isReference && "Node has no shards" }, async (t) => {
    const socket = await connected(t, `${URL}/beats`, options);
    const [server, shards, mine] = ["of-the-server", "of-a-shard", "of-my-shard"].map((event) => collect(socket, event));
    await Promise.all([server.reaches(5), mine.reaches(5)]);
    const isRising = (numbers) => numbers.every((number, index) => index === 0 || number > numbers[index - 1]);
    assert.ok(isRising([...server]), "once, and in order");
    assert.ok(isRising([...mine]), "from the own shard alone");
    for (const shard of new Set(shards.map(([name]) => name))) {
      assert.ok(isRising(shards.filter(([name]) => name === shard).map(([, number]) => number)), `shard ${shard}`);
    }
  });

  test("an answer is given later and holds up nothing", async (t) => {
    const socket = await connected(t, URL, options);
    const order = [];
    const later = [1, 2].map(() => new Promise((resolve) => socket.emit("ask-later", (...args) => (order.push("later"), resolve(args)))));
    socket.emit("ask-later");
    assert.equal(await ask(socket, "message-with-ack", "at once"), "at once");
    order.push("at once");
    const far = ask(socket, "ask-thread", 30);
    assert.equal(await ask(socket, "tell-later", { a: "ś" }), 2, "two of three are wanted");
    for (const answer of later) assert.deepEqual(await answer, [{ a: "ś" }, Buffer.from([1, 0xff])]);
    assert.deepEqual(order, ["at once", "later", "later"]);
    assert.equal(await far, 30);
    await assert.rejects(socket.timeout(100).emitWithAck("no-ack"));
    if (!isReference) assert.deepEqual(await ask(socket, "fail-later"), { error: "no answer was found" });
  });

  test("concurrent handlers overtake each other, and wait for those in order", async (t) => {
    const socket = await connected(t, URL, options);
    const order = [];
    const events = [["concurrent", 200, "slowest"], ["concurrent", 100, "slower"], ["concurrent", 1, "fast"], ["slow", 300, "in order"], ["concurrent", 1, "behind"]];
    await Promise.all(events.map(async (event) => order.push(await ask(socket, ...event))));
    assert.deepEqual(order, ["fast", "slower", "slowest", "in order", "behind"]);
  });

  test("what a handler borrows is what was sent", { skip: isReference && "Node copies" }, async (t) => {
    const socket = await connected(t, URL, options);
    for (const text of ["plain", "two\nlines", "ś\u{1f980}\u0007", ""]) {
      for (const bytes of [Buffer.from([0, 255]), null]) {
        const back = next(socket, "lent-back");
        socket.emit("lent", { text, note: text }, bytes, text);
        assert.deepEqual(await back, [text, text, bytes, text]);
      }
    }
  });

  test("a token expires unless the client brings a new one", { skip: isReference && "Node has no such deadline" }, async (t) => {
    const socket = await connected(t, URL, options);
    const gone = next(socket, "disconnect", 10_000);
    const began = performance.now();
    for (const millis of [1_500, 2_000]) {
      const refresh = next(socket, "refresh");
      socket.emit("expire", millis);
      await refresh;
    }
    assert.equal((await gone)[0], "io server disconnect");
    assert.ok(performance.now() - began > 1_900, "the first would have ended it sooner");
  });
});
