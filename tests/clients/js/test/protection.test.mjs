// Limits of a server, met by stock clients: they back off and come back, wait, lose what is too much, or are closed and return.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, connected, VARIANTS } from "../lib/clients.mjs";
import { startShardcast } from "../lib/fleet.mjs";
import { isReference } from "../lib/target.mjs";
import { collect, next, until } from "../lib/wait.mjs";

const only = { skip: isReference && "Node has no such limits" };
const alone = { url: "" };

/** Stock clients wait a second and more; these a third of that. */
const RETRY = { reconnection: true, reconnectionDelay: 300, reconnectionDelayMax: 1000 };

describe("handshakes beyond a second's worth are refused, and stock clients back off and come back", only, () => {
  for (const [name, options] of Object.entries(VARIANTS)) {
    test(`back off: ${name}`, async (t) => {
      const server = await startShardcast(t, alone, { handshakes_per_second_max: 4 });
      const refusals = [];
      const sockets = Array.from({ length: 24 }, () => {
        const socket = client(t, server.url, { ...options, ...RETRY });
        socket.on("connect_error", (error) => refusals.push(error));
        return socket;
      });
      await until("every client is back", () => sockets.every((socket) => socket.connected), 20_000);
      assert.ok(refusals.length > 0, "more came than two shards let in at once");
      for (const error of refusals) assert.ok(["xhr poll error", "websocket error"].includes(error.message), error.message);
      // Who was let in at last is served like anybody.
      for (const socket of sockets) assert.deepEqual(await socket.timeout(8_000).emitWithAck("typed", "1"), "1");
    });
  }

  test("the answer says when to try again", async (t) => {
    const server = await startShardcast(t, alone, { handshakes_per_second_max: 1 });
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => fetch(`${server.url}/socket.io/?EIO=4&transport=polling`)),
    );
    const refused = answers.filter(({ status }) => status === 503);
    assert.ok(refused.length >= 1 && answers.some(({ status }) => status === 200));
    for (const answer of refused) {
      assert.ok(Number(answer.headers.get("retry-after")) >= 1);
      assert.equal(await answer.text(), "too many handshakes");
    }
  });
});

describe("a client that sends more than it may in a second", only, () => {
  for (const [name, options] of Object.entries(VARIANTS)) {
    test(`waits, and loses nothing: ${name}`, async (t) => {
      const server = await startShardcast(t, alone, { events_per_second_max: 40 });
      const [busy, other] = [await connected(t, server.url, options), await connected(t, server.url, options)];
      const began = Date.now();
      const answers = Promise.all(Array.from({ length: 100 }, (_, n) => busy.timeout(15_000).emitWithAck("typed", `${n}`)));
      assert.equal(await other.timeout(8_000).emitWithAck("typed", "here"), "here");
      assert.ok(Date.now() - began < 1_400, "another client does not wait for it");
      assert.deepEqual(await answers, Array.from({ length: 100 }, (_, n) => `${n}`));
      assert.ok(Date.now() - began > 1_200, "a hundred at forty a second, forty of them at once");
    });

    test(`has what is too much dropped: ${name}`, async (t) => {
      const server = await startShardcast(t, alone, { events_per_second_max: 20, rate_policy: "drop" });
      const busy = await connected(t, server.url, options);
      const answers = await Promise.allSettled(
        Array.from({ length: 100 }, (_, n) => busy.timeout(3_000).emitWithAck("typed", `${n}`)),
      );
      const done = answers.filter(({ status }) => status === "fulfilled").map(({ value }) => value);
      assert.ok(done.length >= 10 && done.length < 60, `${done.length} were answered`);
      assert.deepEqual(done, [...done].sort((one, other) => Number(one) - Number(other)));
      assert.equal(busy.connected, true);
      assert.equal(await busy.timeout(8_000).emitWithAck("typed", "later"), "later");
    });

    test(`is closed and comes back: ${name}`, async (t) => {
      const server = await startShardcast(t, alone, { events_per_second_max: 20, rate_policy: "close" });
      const busy = client(t, server.url, { ...options, ...RETRY });
      await next(busy, "connect");
      const ends = collect(busy, "disconnect");
      for (let n = 0; n < 100; n++) busy.emit("typed", `${n}`);
      await ends.reaches(1);
      assert.ok(["transport close", "transport error"].includes(ends[0][0]), ends[0][0]);
      await until("it is back", () => busy.connected, 10_000);
      assert.equal(await busy.timeout(8_000).emitWithAck("typed", "again"), "again");
    });
  }
});
