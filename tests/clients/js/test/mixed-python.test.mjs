// Flask-SocketIO and processes that only emit, beside two shardcast processes on one broker: a Redis, or what BROKER names.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import io2 from "socket.io-client-2";
import { ask } from "../lib/clients.mjs";
import { ARGUMENTS, forget, member, memberOnAnotherShard, settle, startBroker, startPython, startShardcast, wholeFile } from "../lib/fleet.mjs";
import { next, until } from "../lib/wait.mjs";

const file = wholeFile();
let broker, flask, near, far, everybody;

/** Clients: two of Flask, two of one shardcast process, on two of its shards, one of the other; the first of each is in the room `blue`. */
const at = {};

const emitOf = (client) => (event, ...args) => ask(client, "send", [], [], event, ...args);
const shardcast = (event, ...args) => emitOf(at.near)(event, ...args);
const python = (event, ...args) => flask.emit(event, args);

/** What each has received since, and nothing besides. */
async function received(source, expected) {
  await settle(source, everybody);
  const seen = Object.fromEntries(Object.entries(at).map(([name, { seen }]) => [name, [...seen]]));
  forget(...everybody);
  const all = Object.fromEntries(Object.keys(at).map((name) => [name, expected[name] ?? []]));
  assert.deepEqual(seen, all);
}

const toAll = (...events) => Object.fromEntries(Object.keys(at).map((name) => [name, events]));

before(async () => {
  broker = await startBroker(file, process.env.BROKER ?? "redis");
  [flask, near, far] = await Promise.all([startPython(file, broker, "flask"), startShardcast(file, broker), startShardcast(file, broker)]);
  for (const [name, server] of Object.entries({ flask, flask2: flask, near, far })) at[name] = await member(file, server);
  at.near2 = await memberOnAnotherShard(file, near, at.near);
  everybody = Object.values(at);
  // Flask hears the queue from its first client on, a moment later.
  await until("all hear each other", async () => {
    await shardcast("hello");
    await python("hello");
    return everybody.every(({ seen }) => seen.length >= 2);
  });
  await flask.run("enter_room", { sid: at.flask.id, room: "blue" });
  for (const client of [at.near, at.far]) assert.equal(await ask(client, "join", "blue"), true);
  await settle(shardcast, everybody);
  await settle(python, everybody);
  forget(...everybody);
});

// Python cannot say that one argument is null: there is none then.
const atPython = (args) => (args.length === 1 && args[0] === null ? [] : args);

for (const [what, args] of Object.entries(ARGUMENTS)) {
  test(`Flask emits, all receive: ${what}`, async () => {
    await flask.emit("news", args);
    await received(python, toAll(["news", ...atPython(args)]));
  });

  test(`shardcast emits, all receive: ${what}`, async () => {
    await shardcast("news", ...args);
    const expected = toAll(["news", ...args]);
    expected.flask = expected.flask2 = [["news", ...atPython(args)]];
    await received(shardcast, expected);
  });
}

test("what is sent without a name is an event named message, both ways", async () => {
  await flask.send("é");
  await received(python, toAll(["message", "é"]));
  await flask.send(Buffer.from([1]), { to: "blue" });
  const bytes = [["message", Buffer.from([1])]];
  await received(python, { flask: bytes, near: bytes, far: bytes });
  await shardcast("message", "ü");
  await received(shardcast, toAll(["message", "ü"]));
});

/** Rooms and exceptions by the names of members, and who receives. */
const TARGETS = [
  { to: "blue", who: ["flask", "near", "far"] },
  { to: ["near2"], who: ["near2"] },
  { to: ["flask2"], who: ["flask2"] },
  { to: ["blue", "flask2"], who: ["flask", "flask2", "near", "far"] },
  { to: ["flask2", "near2"], who: ["flask2", "near2"] },
  { except: ["near"], who: ["flask", "flask2", "near2", "far"] },
  { except: ["flask", "far"], who: ["flask2", "near", "near2"] },
  { to: "blue", except: ["flask"], who: ["near", "far"] },
  { to: "blue", except: ["near", "flask"], who: ["far"] },
  { to: "nobody here", who: [] },
];
const named = (names) => [names ?? []].flat().map((name) => at[name]?.id ?? name);
const one = (names) => (names.length > 1 ? names : names[0]);

for (const { to, except, who } of TARGETS) {
  for (const [what, args] of Object.entries({ text: ["é"], binary: [Buffer.from([1]), "x", { y: Buffer.from([2]) }] })) {
    const place = `${what} to ${to ?? "all"} but ${except ?? "nobody"}`;
    const expected = Object.fromEntries(who.map((name) => [name, [["news", ...args]]]));

    test(`Flask emits ${place}`, async () => {
      await flask.emit("news", args, { to: one(named(to)), skip: one(named(except)) });
      await received(python, expected);
    });

    test(`shardcast emits ${place}`, async () => {
      await ask(at.near2, "send", named(to), named(except), "news", ...args);
      await received(emitOf(at.near2), expected);
    });
  }
}

for (const kind of ["flask-emitter", "emitter"]) {
  test(`a process that only emits: ${kind}`, async (t) => {
    const worker = await startPython(t, broker, kind);
    const fence = (event) => worker.emit(event, []);
    for (const args of [["text"], [1, { a: null }], [[1, 2]], [Buffer.from([7])], ["a", Buffer.from([8]), Buffer.from([9])]]) {
      await worker.emit("news", args);
      await received(fence, toAll(["news", ...args]));
    }
    await worker.emit("news", ["x"], { to: "blue", skip: at.far.id });
    await received(fence, { flask: [["news", "x"]], near: [["news", "x"]] });
    await worker.emit("news", ["y"], { to: at.near2.id });
    await received(fence, { near2: [["news", "y"]] });
    // What it changes elsewhere is seen by who emits to the room afterwards.
    for (const name of ["flask2", "near2"]) {
      const here = { to: "work" };
      await worker.run("enter_room", { sid: at[name].id, room: "work" });
      await worker.emit("news", ["in"], here);
      await received(fence, { [name]: [["news", "in"]] });
      await worker.run("leave_room", { sid: at[name].id, room: "work" });
      await worker.emit("news", ["out"], here);
      await received(fence, {});
    }
  });
}

const ANSWERS = { "nothing": [], "text": ["é😀"], "null": [null], "several": [1, { a: [true] }, "x"], "a list": [[1, 2]] };

for (const [what, answer] of Object.entries(ANSWERS)) {
  test(`a callback of Flask, and its call, at clients of shardcast: ${what}`, async () => {
    for (const name of ["near", "far"]) {
      at[name].answer = () => answer;
      assert.deepEqual(await flask.callback(at[name].id, "question", ["q", Buffer.from([1])]), [answer]);
      const result = await flask.call(at[name].id, "question", [{ q: 1 }]);
      // As python-socketio's call has it: nothing, the one value, or a tuple.
      assert.deepEqual(result, answer.length > 1 ? answer : (answer[0] ?? null));
    }
    const seen = [["question", "q", Buffer.from([1])], ["question", { q: 1 }]];
    await received(python, { near: seen, far: seen });
  });

  test(`shardcast calls clients of Flask and of the other process: ${what}`, async () => {
    for (const name of ["flask", "far"]) {
      at[name].answer = () => answer;
      const called = next(at.near, "called");
      at.near.emit("call", at[name].id, 4_000, "question", 1, "b", Buffer.from([1]));
      assert.deepEqual(await called, answer);
    }
    const seen = [["question", 1, "b", Buffer.from([1])]];
    const result = [["called", ...answer]];
    await received(shardcast, { flask: seen, far: seen, near: [...result, ...result] });
  });
}

test("bytes in an answer to Python are base64, as its format has no others", async () => {
  at.near.answer = () => [Buffer.from([1, 2]), "x"];
  assert.deepEqual(await flask.callback(at.near.id, "question", []), [["AQI=", "x"]]);
  await received(python, { near: [["question"]] });
});

test("a callback of Flask for a room is called by its members here", async () => {
  at.near.answer = at.far.answer = () => ["here"];
  at.flask.answer = undefined;
  await ask(at.near, "join", "asked");
  assert.deepEqual(await flask.callback("asked", "question", ["q"]), [["here"]]);
  await received(python, { near: [["question", "q"]] });
});

test("a call for an id that is nowhere ends when its time is up, as does one that is not answered", async () => {
  for (const id of ["AAAAAAAAAAAAAAAAAAAA", at.flask2.id]) {
    const refused = next(at.near, "not-called");
    at.near.emit("call", id, 300, "question");
    assert.match((await refused)[0], /./);
  }
  await assert.rejects(flask.call("AAAAAAAAAAAAAAAAAAAA", "question", [], 0.3), /TimeoutError/);
  forget(...everybody);
});

test("many questions cross each other, and each gets its own answer", async () => {
  at.far.answer = at.flask.answer = ([number]) => [number * 2];
  const numbers = Array.from({ length: 50 }, (_, index) => index);
  const asked = numbers.map((number) => flask.callback(at.far.id, "question", [number]));
  const called = [];
  at.near.on("called", (value) => called.push(value));
  for (const number of numbers) at.near.emit("call", at.flask.id, 30_000, "question", number);
  assert.deepEqual(await Promise.all(asked), numbers.map((number) => [[number * 2]]));
  await until("all calls are answered", () => called.length === numbers.length, 30_000);
  assert.deepEqual(called.sort((a, b) => a - b), numbers.map((number) => number * 2));
  at.near.off("called");
  forget(...everybody);
});

test("rooms are entered and left from the other side, and closed on both", async () => {
  const sides = [
    { name: "flask2", fence: shardcast, emit: shardcast, change: (verb, room) => ask(at.near, "change", [at.flask2.id], [], verb, room) },
    { name: "near2", fence: python, emit: python, change: (verb, room) => flask.run(`${verb === "join" ? "enter" : "leave"}_room`, { sid: at.near2.id, room }) },
    { name: "far", fence: shardcast, emit: shardcast, change: (verb, room) => ask(at.near, "change", [at.far.id], [], verb, room) },
  ];
  for (const { name, fence, change } of sides) {
    await change("join", "room é");
    await settle(fence, everybody);
    await ask(at.near, "send", ["room é"], [], "news", "in");
    await received(shardcast, { [name]: [["news", "in"]] });
    await change("leave", "room é");
    await settle(fence, everybody);
    await ask(at.near, "send", ["room é"], [], "news", "out");
    await received(shardcast, {});
  }
  const fill = async () => {
    for (const name of ["near", "far"]) await ask(at[name], "join", "closing");
    await flask.run("enter_room", { sid: at.flask2.id, room: "closing" });
    await flask.emit("news", ["in"], { to: "closing" });
    await received(python, { near: [["news", "in"]], far: [["news", "in"]], flask2: [["news", "in"]] });
  };
  const closings = [
    [python, () => flask.run("close_room", { room: "closing" })],
    [shardcast, () => ask(at.near, "change", ["closing"], [], "leave", "closing")],
  ];
  for (const [fence, close] of closings) {
    await fill();
    await close();
    await settle(fence, everybody);
    for (const emit of [() => flask.emit("news", ["out"], { to: "closing" }), () => ask(at.near, "send", ["closing"], [], "news", "out")]) {
      await emit();
      await received(emit === fence ? python : shardcast, {});
    }
    await settle(python, everybody);
    forget(...everybody);
  }
});

test("clients are disconnected from the other side", async (t) => {
  const [ours, theirs, others] = await Promise.all([near, flask, far].map((server) => member(t, server)));
  await flask.run("disconnect", { sid: ours.id });
  await ask(at.near, "change", [theirs.id], [], "disconnect");
  await ask(at.near, "change", [others.id], [], "disconnect");
  for (const client of [ours, theirs, others]) {
    await until("disconnected", () => client.disconnected);
    assert.deepEqual(client.seen.at(-1), ["disconnect", "io server disconnect"]);
  }
  await received(shardcast, {});
});
