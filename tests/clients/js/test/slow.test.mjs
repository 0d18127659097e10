// Clients that stop reading: what they get in the end, by rule, while others get everything.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, connected } from "../lib/clients.mjs";
import { Polling } from "../lib/engine.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { collect, next } from "../lib/wait.mjs";

const URL = `${serverUrl("SERVER_URL")}/slow`;
const only = { skip: isReference && "Node has no rules for slow clients" };

/** On one shard, whose sockets an emit counts. */
const here = { transports: ["websocket"], query: { shard_key: "slow" } };
const stall = (socket) => socket.io.engine.transport.ws._socket.pause();
const read = (socket) => socket.io.engine.transport.ws._socket.resume();

describe("a client that stalls", only, () => {
  for (const way of ["volatile", "keyed", "latest", "oldest", "newest"]) {
    test(way, async (t) => {
      const [healthy, slow] = [await connected(t, URL, here), await connected(t, URL, here)];
      const all = collect(healthy, "n");
      const few = collect(slow, "n");
      for (const socket of [healthy, slow]) assert.equal(await ask(socket, "join", way), true);
      stall(slow);
      let number = 0;
      let last;
      // Megabytes, until the kernel takes no more; then twenty more.
      const send = async () => (last = await ask(healthy, "send", way, number++, 250_000));
      for (let late = 0; late < 20; late += last[0] === 2 ? 0 : 1) {
        await send();
        assert.ok(number < 400, "a client that does not read is never behind");
      }
      const drained = next(slow, "drained");
      read(slow);
      await drained;
      assert.deepEqual(await ask(healthy, "send", way, number++, 10), [2, 0, 0]);
      await all.reaches(number);
      await few.reaches(few.length + (few.at(-1)?.[0] === number - 1 ? 0 : 1));
      assert.deepEqual(all.map(([n]) => n), Array.from({ length: number }, (_, n) => n));
      const numbers = few.map(([n]) => n);
      assert.deepEqual(numbers, numbers.toSorted((a, b) => a - b));
      assert.ok(numbers.length <= number - (way === "oldest" || way === "newest" ? 5 : 18), `${numbers.length} of ${number}`);
      // The last before it caught up: kept by all rules but two.
      assert.equal(numbers.includes(number - 2), ["keyed", "latest", "oldest"].includes(way), `${numbers}`);
      assert.equal(numbers.at(-1), number - 1);
    });
  }

  test("that polls: what is volatile finds room once between two polls", async (t) => {
    const healthy = await connected(t, URL, { ...here, transports: ["polling"] });
    const session = await Polling.start(serverUrl("SERVER_URL"));
    await session.post("40/slow,");
    assert.match((await session.packets())[0], /^40\/slow,/);
    await session.post('42/slow,1["join","volatile"]');
    assert.deepEqual(await session.packets(), ["43/slow,1[true]"]);
    for (let number = 0; number < 3; number++) await ask(healthy, "send", "volatile", number, 1);
    assert.deepEqual(await session.packets(), ['42/slow,["n",0,"x"]']);
    assert.deepEqual(await session.packets(), ['42/slow,["drained"]']);
    const poll = session.packets();
    await ask(healthy, "send", "volatile", 3, 1);
    assert.deepEqual(await poll, ['42/slow,["n",3,"x"]']);
  });
});
