// Node servers with each of their Redis adapters, two of them beside two shardcast processes, and redis-emitter. Every adapter has a
// Redis of its own: two of them would use the same names.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { ask } from "../lib/clients.mjs";
import { ARGUMENTS, forget, member, memberOnAnotherShard, settle, startNode, startRedis, startShardcast, wholeFile } from "../lib/fleet.mjs";
import { next, until } from "../lib/wait.mjs";

const FORMATS = {
  "node": createAdapter,
  "node-sharded": createShardedAdapter,
  "node-streams": (publisher) => createStreamsAdapter(publisher, { blockTimeInMs: 200 }),
};
/** Members by their names; the first of each server is in the room `blue`. Those of one shardcast process are on two shards of it. */
const NAMES = ["node", "node2", "other", "near", "near2", "far"];
const BLUE = ["node", "other", "near", "far"];

const TARGETS = [
  { to: ["blue"], who: BLUE },
  { to: ["near2"], who: ["near2"] },
  { to: ["node2"], who: ["node2"] },
  { to: ["other", "far"], who: ["other", "far"] },
  { to: ["blue", "near2"], who: [...BLUE, "near2"] },
  { except: ["blue"], who: ["node2", "near2"] },
  { except: ["near", "node2"], who: ["node", "other", "near2", "far"] },
  { to: ["blue"], except: ["far", "node"], who: ["other", "near"] },
  { to: ["nobody here"], who: [] },
];
const ARGUMENTS_SENT = { text: ["é"], binary: [Buffer.from([1]), "x", { y: Buffer.from([2]) }] };
/** How long who is silent is waited for: whoever is not must have answered by then, on a busy machine, too. */
const SILENCE_MS = 2_000;
const sorted = (values) => [...values].sort();

for (const [format, adapter] of Object.entries(FORMATS)) {
  describe(format, () => {
    const file = wholeFile();
    const at = {};
    let redis, node, other, near, far, everybody;

    const shardcastOf = (client) => (event, ...args) => ask(client, "send", [], [], event, ...args);
    const shardcast = (event, ...args) => shardcastOf(at.near)(event, ...args);
    const nodes = async (event, ...args) => node.io.emit(event, ...args);
    const named = (names) => (names ?? []).map((name) => at[name]?.id ?? name);
    const ids = (...names) => sorted(named(names));
    const received = async (source, expected) => {
      await settle(source, everybody);
      const seen = Object.fromEntries(NAMES.map((name) => [name, [...at[name].seen]]));
      forget(...everybody);
      assert.deepEqual(seen, Object.fromEntries(NAMES.map((name) => [name, expected[name] ?? []])));
    };
    const toAll = (...events) => Object.fromEntries(NAMES.map((name) => [name, events]));
    const each = (names, ...events) => Object.fromEntries(names.map((name) => [name, events]));
    /** Rooms are heard a moment after they are entered: until exactly these are in one, as an emit to it shows. */
    const members = (room, names) => until(`${names} in ${room}`, async () => {
      node.io.to(room).emit("in", room);
      await ask(at.near, "send", [room], [], "in", room);
      await settle(nodes, everybody);
      await settle(shardcast, everybody);
      const is = NAMES.every((name) => at[name].seen.length === (names.includes(name) ? 2 : 0));
      forget(...everybody);
      return is;
    });
    const who = async (...rooms) => {
      const { ids, facts } = await ask(at.near2, "who", rooms);
      assert.deepEqual(sorted(facts.map(([id]) => id)), sorted(ids));
      // How many our other processes have is said once a second.
      await until(`${ids.length} are counted`, async () => (await ask(at.near2, "who", rooms)).count === ids.length);
      return { ids: sorted(ids), rooms: Object.fromEntries(facts.map(([id, rooms]) => [id, sorted(rooms)])) };
    };

    before(async () => {
      redis = await startRedis(file);
      const settings = { queue_formats: format };
      [node, other, near, far] = await Promise.all([startNode(file, redis, adapter), startNode(file, redis, adapter),
        startShardcast(file, redis, settings), startShardcast(file, redis, settings)]);
      for (const { io } of [node, other]) io.on("connection", (socket) => socket.on("join", (room, done) => (socket.join(room), done(true))));
      for (const [name, server] of Object.entries({ node, node2: node, other, near, far })) at[name] = await member(file, server);
      at.near2 = await memberOnAnotherShard(file, near, at.near);
      everybody = Object.values(at);
      for (const name of BLUE) assert.equal(await ask(at[name], "join", "blue"), true);
      await until("all hear each other", async () => {
        await shardcast("hello", "of shardcast");
        await nodes("hello", "of Node");
        return everybody.every(({ seen }) => ["of shardcast", "of Node"].every((who) => seen.some(([, from]) => from === who)));
      });
      await members("blue", BLUE);
      await until("shardcast counts Node's servers", async () => (await ask(at.near, "who", [])).ids.length === NAMES.length);
    });

    for (const [what, args] of Object.entries(ARGUMENTS)) {
      test(`Node emits, all receive: ${what}`, async () => {
        node.io.emit("news", ...args);
        await received(nodes, toAll(["news", ...args]));
      });

      test(`shardcast emits, all receive: ${what}`, async () => {
        await shardcast("news", ...args);
        await received(shardcast, toAll(["news", ...args]));
      });
    }

    for (const { to, except, who } of TARGETS) {
      for (const [what, args] of Object.entries(ARGUMENTS_SENT)) {
        const place = `${what} to ${to ?? "all"} but ${except ?? "nobody"}`;

        test(`Node emits ${place}`, async () => {
          node.io.to(named(to)).except(named(except)).emit("news", ...args);
          await received(nodes, each(who, ["news", ...args]));
        });

        test(`shardcast emits ${place}`, async () => {
          await ask(at.near2, "send", named(to), named(except), "news", ...args);
          await received(shardcastOf(at.near2), each(who, ["news", ...args]));
        });
      }
    }

    test("sockets are described on the other side", async () => {
      assert.deepEqual((await who()).ids, ids(...NAMES));
      const blue = await who("blue");
      assert.deepEqual(blue.ids, ids(...BLUE));
      for (const name of BLUE) assert.deepEqual(blue.rooms[at[name].id], sorted([at[name].id, "blue"]));
      for (const { io } of [node, other]) {
        const all = await io.fetchSockets();
        assert.deepEqual(sorted(all.map(({ id }) => id)), ids(...NAMES));
        const ours = all.find(({ id }) => id === at.far.id);
        assert.deepEqual(sorted(ours.rooms), sorted([at.far.id, "blue"]));
        assert.equal(ours.handshake.query.EIO, "4");
        assert.equal(ours.handshake.address, "127.0.0.1");
        assert.deepEqual(sorted((await io.in("blue").fetchSockets()).map(({ id }) => id)), ids(...BLUE));
        assert.deepEqual((await io.in("nobody here").fetchSockets()), []);
        assert.deepEqual((await io.in(at.near2.id).fetchSockets()).map(({ id }) => id), [at.near2.id]);
      }
    });

    test("rooms are entered and left from the other side", async () => {
      node.io.in([at.near2.id, at.other.id]).socketsJoin(["red", "pink"]);
      await members("red", ["near2", "other"]);
      await members("pink", ["near2", "other"]);
      node.io.in("red").except(at.other.id).socketsLeave("pink");
      await members("pink", ["other"]);
      await ask(at.near, "change", [at.node2.id, at.far.id], [], "join", "red");
      await members("red", ["near2", "other", "node2", "far"]);
      await ask(at.near, "change", ["red"], [at.far.id], "leave", "red");
      await members("red", ["far"]);
      node.io.in("red").socketsLeave("red");
      await ask(at.near, "change", ["pink"], [], "leave", "pink");
      await members("red", []);
      await members("pink", []);
    });

    test("all acknowledge, to Node and to shardcast", async () => {
      for (const name of NAMES) at[name].answer = ([question]) => [`${name} ${question}`];
      assert.deepEqual(sorted(await node.io.timeout(4_000).emitWithAck("question", "q")), sorted(NAMES.map((name) => `${name} q`)));
      assert.deepEqual(sorted(await node.io.to("blue").except(at.far.id).timeout(4_000).emitWithAck("question", "b")),
        ["near b", "node b", "other b"]);
      for (const [rooms, names] of [[[], NAMES], [["blue"], BLUE]]) {
        const asked = next(at.near2, "asked");
        at.near2.emit("ask", rooms, [], 4_000, "question", "s");
        const [isComplete, values] = await asked;
        assert.deepEqual([isComplete, sorted(values)], [true, sorted(names.map((name) => `${name} s`))]);
      }
      forget(...everybody);
    });

    test("answers are binary, or nothing", async () => {
      for (const answer of [[Buffer.from([1, 2])], [{ deep: Buffer.from([3]) }], [null], []]) {
        for (const name of NAMES) at[name].answer = () => answer;
        const [value] = await node.io.to(at.far.id).timeout(4_000).emitWithAck("question", Buffer.from([9]));
        // The classic adapter says the answer in JSON.
        const expected = answer[0];
        if (format === "node" && Buffer.isBuffer(expected)) assert.deepEqual(Buffer.from(value.data ?? value), expected);
        else assert.deepEqual(value ?? null, expected ?? null);
        const called = next(at.near, "called");
        at.near.emit("call", at.other.id, 4_000, "question", Buffer.from([9]));
        const [got] = await called;
        assert.deepEqual(got ?? null, expected ?? null);
      }
      forget(...everybody);
    });

    test("who is silent is missing, and costs nobody else an answer", async () => {
      for (const name of NAMES) at[name].answer = () => [name];
      for (const name of ["near2", "node2"]) at[name].answer = undefined;
      const answered = NAMES.filter((name) => !name.endsWith("2"));
      await assert.rejects(node.io.timeout(SILENCE_MS).emitWithAck("question"), (error) => {
        assert.deepEqual(sorted(error.responses), sorted(answered));
        return true;
      });
      const asked = next(at.near, "asked");
      at.near.emit("ask", [], [], SILENCE_MS, "question");
      const [isComplete, values] = await asked;
      assert.deepEqual([isComplete, sorted(values)], [false, sorted(answered)]);
      forget(...everybody);
    });

    test("servers tell and ask each other", async () => {
      const told = [];
      const hear = (name) => (...args) => {
        const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
        told.push([name, ...args]);
        answer?.(`${name} ${args[0]}`);
      };
      node.io.on("server-event", hear("node"));
      other.io.on("server-event", hear("other"));
      other.io.on("of Node alone", (answer) => answer("other"));
      const ours = ["near", "near2", "far"];
      const comes = (names, event) => until("clients of shardcast are told by their servers", () =>
        names.every((name) => at[name].seen.some((seen) => JSON.stringify(seen) === JSON.stringify(["server-event", ...event]))));

      node.io.serverSideEmit("server-event", "é", { a: [1] });
      await comes(ours, ["é", { a: [1] }]);
      await received(nodes, each(ours, ["server-event", "é", { a: [1] }]));
      assert.deepEqual(told.splice(0), [["other", "é", { a: [1] }]]);

      // Who has no handler answers nothing, at once: Node does not wait in vain for us.
      assert.deepEqual(sorted(await node.io.serverSideEmitWithAck("server-event", 1, 2)), ["2 arguments", "2 arguments", "other 1"]);
      const answers = await node.io.serverSideEmitWithAck("of Node alone");
      assert.deepEqual([answers.length, answers.filter((answer) => answer)], [3, ["other"]]);
      await comes(ours, [1, 2]);
      forget(...everybody);
      told.length = 0;

      await ask(at.near, "tell-servers", "server-event", "ü", null);
      await until("Node's servers are told", () => told.length === 2);
      assert.deepEqual(sorted(told.splice(0)), [["node", "ü", null], ["other", "ü", null]]);
      await comes(["far"], ["ü", null]);
      const asked = next(at.near2, "servers-asked");
      at.near2.emit("ask-servers", 4_000, "server-event", 7);
      const [isComplete, values] = await asked;
      assert.deepEqual([isComplete, sorted(values)], [true, ["1 arguments", "node 7", "other 7"]]);
      await settle(nodes, everybody);
      forget(...everybody);
    });

    test("clients are disconnected from the other side", async (t) => {
      const [theirs, ours, others] = await Promise.all([node, near, far].map((server) => member(t, server)));
      node.io.in(ours.id).disconnectSockets();
      await ask(at.near, "change", [theirs.id], [], "disconnect");
      await ask(others, "join", "leaving");
      await until("the other is out", async () => {
        node.io.in("leaving").disconnectSockets(true);
        return others.disconnected;
      });
      for (const client of [ours, theirs, others]) await until("disconnected", () => client.disconnected);
      await received(shardcast, {});
      assert.deepEqual((await who()).ids, ids(...NAMES));
    });

    if (format === "node") {
      test("redis-emitter emits and changes", async () => {
        const emitter = new Emitter(await redis.connect());
        const fence = async (event) => emitter.emit(event);
        for (const args of Object.values(ARGUMENTS)) {
          emitter.emit("news", ...args);
          await received(fence, toAll(["news", ...args]));
        }
        for (const { to, except, who } of TARGETS) {
          let place = emitter;
          if (to) place = place.to(named(to));
          if (except) place = place.except(named(except));
          place.emit("news", "x", Buffer.from([1]));
          await received(fence, each(who, ["news", "x", Buffer.from([1])]));
        }
        emitter.in([at.near2.id, at.node2.id]).socketsJoin("work");
        await members("work", ["near2", "node2"]);
        emitter.in("work").socketsLeave("work");
        await members("work", []);
        emitter.serverSideEmit("hello", 1);
        await received(fence, {});
      });
    }
  });
}
