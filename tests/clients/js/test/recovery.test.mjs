// Stock clients that lose their connection and come back as the socket that they were.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, client, connected } from "../lib/clients.mjs";
import { isReference, serverUrl } from "../lib/target.mjs";
import { collect, next, pause, until } from "../lib/wait.mjs";

const URL = serverUrl("RECOVERY_URL");
const only = { skip: isReference && "Node cannot hand a client over, and has other limits" };
const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };
const coming = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 60 };

/** Breaks the transport at once, in whatever state an upgrade of it is. `engine.close()` waits for the last poll if the engine is
 * upgrading, and closes before the events of that poll reach the socket. The socket takes them for events of the next
 * connection, emits them then, and yet asks for them once more: they come twice, from any server. */
const cut = ({ io: { engine } }) => {
  if (engine.upgrading || engine.writeBuffer.length > 0) engine._onClose("transport error");
  else engine.close();
};
// The last argument of each event is its offset, as with Node.
const numbers = (seen) => seen.map(([{ number }]) => number);

describe("a client that loses its connection", only, () => {
  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    test(`${name}: is who it was, and misses nothing`, async (t) => {
      const [lost, speaker] = [await connected(t, URL, { transports, ...coming }), await connected(t, URL)];
      const seen = collect(lost, "room-event");
      const { id } = lost;
      assert.equal(lost.recovered, false);
      assert.equal(await ask(lost, "join", name), true);
      for (let round = 0; round < 8; round++) {
        speaker.emit("room", name, { number: 3 * round });
        await ask(speaker, "message-with-ack", 0);
        const back = next(lost, "connect");
        if (round % 2) lost.io.engine.transport.name === "websocket" ? lost.io.engine.transport.ws.terminate() : cut(lost);
        else cut(lost);
        speaker.emit("room", name, { number: 3 * round + 1, blob: Buffer.from([round]) });
        await back;
        speaker.emit("room", name, { number: 3 * round + 2 });
        assert.equal(lost.recovered, true, `round ${round}`);
        assert.equal(lost.id, id);
        await seen.reaches(3 * round + 3);
      }
      await pause(50);
      assert.deepEqual(numbers(seen), Array.from({ length: 24 }, (_, number) => number));
      for (const [{ number, blob }] of seen) if (number % 3 === 1) assert.deepEqual([...blob], [(number - 1) / 3]);
    });
  }

  test("under load, from every shard to every shard, each event once and in order", async (t) => {
    const speakers = await Promise.all(Array.from({ length: 8 }, () => connected(t, URL, { transports: ["websocket"] })));
    const listeners = await Promise.all(Array.from({ length: 6 }, () => connected(t, URL, { transports: ["websocket"], ...coming })));
    const seen = listeners.map((socket) => collect(socket, "room-event"));
    for (const socket of listeners) assert.equal(await ask(socket, "join", "load"), true);
    let isOver = false;
    let recoveries = 0;
    const speak = async (socket, speaker) => {
      let number = 0;
      for (; !isOver; number++) {
        socket.emit("room", "load", { speaker, number });
        if (number % 4 === 3) await ask(socket, "message-with-ack", 0);
      }
      return number;
    };
    const blink = async (socket) => {
      for (let round = 0; round < 12; round++) {
        await pause(20 + Math.random() * 60);
        const back = next(socket, "connect");
        socket.io.engine.transport.ws.terminate();
        await back;
        assert.equal(socket.recovered, true, `round ${round}`);
        recoveries++;
      }
    };
    const speaking = speakers.map(speak);
    await Promise.all(listeners.map(blink));
    isOver = true;
    const counts = await Promise.all(speaking);
    const total = counts.reduce((sum, count) => sum + count, 0);
    assert.equal(recoveries, 72);
    for (const events of seen) {
      await events.reaches(total);
      for (const [speaker, count] of counts.entries()) {
        const heard = numbers(events.filter(([event]) => event.speaker === speaker));
        assert.deepEqual(heard, Array.from({ length: count }, (_, number) => number), `speaker ${speaker}`);
      }
    }
  });

  test("has its public data and namespace, and nobody else's", async (t) => {
    const lost = await connected(t, `${URL}/custom`, coming);
    const { id } = lost;
    const pid = lost._pid;
    const back = next(lost, "connect");
    cut(lost);
    await back;
    assert.deepEqual([lost.recovered, lost.id], [true, id]);
    const thief = client(t, URL, { auth: { pid } });
    await next(thief, "connect");
    assert.notEqual(thief.id, id);
    assert.equal(await ask(lost, "message-with-ack", 1), 1);
  });

  test("comes too late, or leaves by itself", async (t) => {
    const late = await connected(t, URL);
    const { id } = late;
    cut(late);
    await pause(3_300);
    const back = next(late, "connect");
    late.connect();
    await back;
    assert.deepEqual([late.recovered, late.id === id], [false, false]);
    const gone = late.id;
    const watcher = await connected(t, URL);
    late.disconnect();
    // On a new connection, a CONNECT may overtake the DISCONNECT on the old one: the server would take the client for one that is lost.
    await until("the server knows that the client has left", async () => (await ask(watcher, "count", gone)) === 0);
    late.connect();
    await next(late, "connect");
    assert.deepEqual([late.recovered, late.id === gone], [false, false]);
  });
});
