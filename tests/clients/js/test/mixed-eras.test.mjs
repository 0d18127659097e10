// python-socketio of earlier formats, which writes pickles and reads JSON, beside shardcast with queue_pickle: 5.13.0 is the last of
// them, 4.6.1 speaks to clients of Socket.IO 2. What such a server cannot understand is written here as it gets it. On a Redis, or
// the broker that BROKER names.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { io } from "socket.io-client";
import io2 from "socket.io-client-2";
import { ask } from "../lib/clients.mjs";
import { ARGUMENTS, forget, member, settle, startBroker, startPython, startShardcast, wholeFile } from "../lib/fleet.mjs";
import { next, until } from "../lib/wait.mjs";

const ERAS = {
  "5.13.0": { venv: "venv-5.13", client: { io, transports: ["polling"] }, canEnter: true },
  "4.6.1": { venv: "venv-eio3", client: { io: io2, transports: ["polling"] }, canEnter: false },
};

const KIND = process.env.BROKER ?? "redis";
const file = wholeFile();
let ours, broker;

before(async () => {
  broker = await startBroker(file, KIND);
  ours = await startShardcast(file, broker, { queue_pickle: true });
});

/** One argument that is no array stands for itself; several, or an array, arrive as one argument. */
const atOld = (args) => {
  if (args.length === 0 || args[0] === null && args.length === 1) return [];
  return args.length === 1 && !Array.isArray(args[0]) ? args : [args];
};
const hasBinary = (value) => Buffer.isBuffer(value) || (value !== null && typeof value === "object" && Object.values(value).some(hasBinary));

/** An event as those clients get it to whom Python has emitted these arguments: it cannot say that one of them is null. */
const ofPython = (args) => ["news", ...(args.length === 1 && args[0] === null ? [] : args)];

for (const [version, { venv, client, canEnter }] of Object.entries(ERAS)) {
  test(`a process of python-socketio ${version} that only emits`, async (t) => {
    const worker = await startPython(t, broker, "emitter", venv);
    const members = [await member(t, ours), await member(t, ours)];
    for (const [what, args] of Object.entries(ARGUMENTS)) {
      await worker.emit("news", args);
      await settle((name) => worker.emit(name, []), members);
      for (const { seen } of members) assert.deepEqual(seen, [ofPython(args)], what);
      forget(...members);
    }
    await worker.emit("news", ["x"], { to: members[0].id });
    await worker.emit("news", ["y"], { skip: members[0].id });
    await settle((name) => worker.emit(name, []), members);
    assert.deepEqual(members.map(({ seen }) => seen), [[["news", "x"]], [["news", "y"]]]);
  });

  // There these versions read pickles alone: the first message in JSON ends their thread that listens.
  test(`python-socketio ${version}`, { skip: KIND === "kafka" && "it hears nothing in JSON on Kafka" }, async (t) => {
    const old = await startPython(t, broker, "server", venv);
    const [near, near2, theirs, theirs2] = await Promise.all([member(t, ours), member(t, ours), member(t, old, client), member(t, old, client)]);
    const all = [near, near2, theirs, theirs2];
    // An id is that of the namespace, which the clients of Socket.IO 2 have not been told.
    const id = (socket) => socket.id;
    const python = (event, ...args) => old.emit(event, args);
    const shardcast = (event, ...args) => ask(near, "send", [], [], event, ...args);
    const received = async (source, ...expected) => {
      await settle(source, all);
      const seen = all.map(({ seen }) => [...seen]);
      forget(...all);
      assert.deepEqual(seen, all.map((_, index) => expected[index] ?? []));
    };
    await until("all hear each other", async () => {
      await shardcast("hello");
      await python("hello");
      return all.every(({ seen }) => seen.length >= 2);
    });
    await settle(shardcast, all);
    await settle(python, all);
    forget(...all);

    for (const [what, args] of Object.entries(ARGUMENTS)) {
      await t.test(`it emits: ${what}`, async () => {
        const event = ofPython(args);
        await old.emit("news", args);
        await received(python, [event], [event], [event], [event]);
      });

      await t.test(`it hears: ${what}`, { skip: hasBinary(args) && "it takes no binary in JSON" }, async () => {
        const [here, there] = [["news", ...args], ["news", ...atOld(args)]];
        await shardcast("news", ...args);
        await received(shardcast, [here], [here], [there], [there]);
      });
    }

    await t.test("rooms and exceptions", async () => {
      await ask(near, "join", "blue");
      await ask(near2, "join", "blue");
      await old.run("enter_room", { sid: id(theirs), room: "blue" });
      const event = ["news", "x"];
      await old.emit("news", ["x"], { to: "blue", skip: id(near2) });
      await received(python, [event], [], [event]);
      await old.emit("news", ["x"], { to: id(near2) });
      await received(python, [], [event]);
      await ask(near, "send", ["blue"], [id(theirs)], "news", "x");
      await received(shardcast, [event], [event]);
      await ask(near, "send", [id(theirs2)], [], "news", "x");
      await received(shardcast, [], [], [], [event]);
    });

    await t.test("callbacks and calls both ways", async () => {
      near2.answer = theirs.answer = () => ["é", { n: 1 }];
      assert.deepEqual(await old.callback(id(near2), "question", ["q"]), [["é", { n: 1 }]]);
      assert.deepEqual(await old.call(id(near2), "question", ["q"]), ["é", { n: 1 }]);
      const called = next(near, "called");
      near.emit("call", id(theirs), 4_000, "question", "q");
      assert.deepEqual(await called, ["é", { n: 1 }]);
      const asked = ["question", "q"];
      await received(shardcast, [["called", "é", { n: 1 }]], [asked, asked], [asked]);
    });

    await t.test("rooms are entered, left and closed from afar", async () => {
      const event = ["news", "x"];
      const fill = async () => {
        await ask(near, "join", "red");
        await old.run("enter_room", { sid: id(theirs), room: "red" });
        if (!canEnter) return [[event], [], [event]];
        await old.run("enter_room", { sid: id(near2), room: "red" });
        await ask(near, "change", [id(theirs2)], [], "join", "red");
        await settle(python, all);
        await settle(shardcast, all);
        return [[event], [event], [event], [event]];
      };
      await old.emit("news", ["x"], { to: "red" });
      await received(python);
      const closings = [() => old.run("close_room", { room: "red" }), () => ask(near, "change", ["red"], [], "leave", "red")];
      for (const [index, close] of closings.entries()) {
        const full = await fill();
        await old.emit("news", ["x"], { to: "red" });
        await received(python, ...full);
        await close();
        await settle([python, shardcast][index], all);
        await old.emit("news", ["x"], { to: "red" });
        await received(python);
      }
    });

    await t.test("clients are disconnected from afar", async () => {
      await old.run("disconnect", { sid: id(near2) });
      await until("ours is disconnected", () => near2.disconnected);
      await ask(near, "change", [id(theirs2)], [], "disconnect");
      await until("theirs is disconnected", () => theirs2.disconnected);
    });
  });
}
