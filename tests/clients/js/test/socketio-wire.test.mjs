// Socket.IO packets by hand over one WebSocket: what each text does, above all the texts no client would send.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Wire } from "../lib/engine.mjs";
import { betterThanNode, isReference, serverUrl } from "../lib/target.mjs";
import { next } from "../lib/wait.mjs";

const URL = serverUrl("SERVER_URL");
const CONNECTED = (namespace) => new RegExp(`^40${namespace ? `${namespace},` : ""}\\{"sid":"[\\w-]{20}"\\}$`);
const ONE = '{"_placeholder":true,"num":0}';

describe("connect", () => {
  const rows = [
    ["40", "", {}],
    ["40{}", "", {}],
    ['40{"token":"123","n":[1]}', "", { token: "123", n: [1] }],
    ["400{}", "", {}],
    ["40/custom", "/custom", {}],
    ["40/custom,", "/custom", {}],
    ['40/custom,{"token":"abc"}', "/custom", { token: "abc" }],
    ["40/custom,5{}", "/custom", {}],
  ];
  for (const [packet, namespace, auth] of rows) test(`${packet} joins, and gets its auth`, async (t) => {
    const wire = await Wire.start(t, URL);
    wire.send(packet);
    assert.match(await wire.read(), CONNECTED(namespace));
    assert.equal(await wire.read(), `42${namespace ? `${namespace},` : ""}${JSON.stringify(["auth", auth])}`);
  });

  const refusals = [
    ["40/random", '44/random,{"message":"Invalid namespace"}'],
    ["40/random,{}", '44/random,{"message":"Invalid namespace"}'],
    ["40/custom?a=b,", '44/custom?a=b,{"message":"Invalid namespace"}'],
    ["40/__proto__,", '44/__proto__,{"message":"Invalid namespace"}'],
    ["40/refuse,", '44/refuse,{"message":"unauthorized","data":{"retry":false}}'],
  ];
  for (const [packet, reply] of refusals) test(`${packet} is refused, and the connection stays`, async (t) => {
    const wire = await Wire.start(t, URL);
    wire.send(packet);
    assert.equal(await wire.read(), reply);
    wire.send("40");
    assert.match(await wire.read(), CONNECTED(""));
  });

  test("what was refused is in no namespace: an event for it closes", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send("40/refuse,");
    assert.match(await wire.read(), /^44\/refuse,/);
    wire.send('42/refuse,["message",1]');
    await wire.ends();
  });

  for (const packet of ["40[]", '40"s"', "40{", "4abc", "47", "4", '42["message",1]', "41", '43["x"]', '42/custom,["message",1]']) {
    test(`${packet} as the first packet closes`, async (t) => {
      const wire = await Wire.start(t, URL);
      wire.send(packet);
      await wire.ends();
    });
  }
});

describe("packets that close the connection", () => {
  const rows = [
    "4", "47", "4abc", "42{}", "42[]", '42"x"', "42[null]", '42abc["x"]', '42-1["message"]', "4399{}", '42["message"', '42["message",]', "42[{}]",
    "44{}", '44"x"', "41[]", '42/custom,["message",1]', "41/custom,", '43/custom,1["x"]', '42["message","\0"]',
    '42["connect"]', '42["connect_error"]', '42["disconnect"]', '42["disconnecting"]', '42["newListener"]', '42["removeListener"]',
    `450-["message",${ONE}]`, `4511-["message",${ONE}]`, `45-["message",${ONE}]`, `451["message",${ONE}]`, `451.5-["message",${ONE}]`, `45-1-["message",${ONE}]`,
    `45["message",${ONE}]`, `4599999999999-["message",${ONE}]`,
  ];
  for (const packet of rows) test(JSON.stringify(packet), async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send(packet);
    await wire.ends();
  });

  const sequences = [
    ["a binary frame that nothing announced", [Buffer.from([1])]],
    ["text while attachments are pending", [`451-["message",${ONE}]`, '42["message",1]']],
    ["a placeholder out of range", ['451-["message",{"_placeholder":true,"num":1}]', Buffer.from([1])]],
    ["a negative placeholder", ['451-["message",{"_placeholder":true,"num":-1}]', Buffer.from([1])]],
    ["a placeholder that is no number", ['451-["message",{"_placeholder":true,"num":"0"}]', Buffer.from([1])]],
  ];
  for (const [name, frames] of sequences) test(name, async (t) => {
    const wire = await Wire.joined(t, URL);
    for (const frame of frames) wire.send(frame);
    await wire.ends();
  });

  // The npm server's own emit recurses over the echo and its process dies of it.
  test("a nesting bomb closes or comes back, and the server lives", betterThanNode, async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send(`42["message",${"[".repeat(100_000)}${"]".repeat(100_000)}]`);
    const item = await wire.read();
    assert.ok(item.closed || item.startsWith('42["message-back",[['), String(item).slice(0, 40));
    await (await Wire.joined(t, URL)).echoes();
  });
});

// Stock clients say CONNECT and DISCONNECT again when an application connects and disconnects before it has an answer, as React does
// in strict mode, and they send on until they hear that they were disconnected. Node closes the whole connection for most of it.
describe("repetitions that stock clients produce end nothing else", () => {
  const sidOf = (packet) => JSON.parse(packet.slice(packet.indexOf("{"))).sid;
  const repeated = [
    ["CONNECT twice in one segment", ["40/custom,", "40/custom,"], 2],
    ["CONNECT three times", ["40/custom,", "40/custom,", "40/custom,"], 3],
    ["CONNECT, DISCONNECT, CONNECT", ["40/custom,", "41/custom,", "40/custom,"], 2],
    ["DISCONNECT twice", ["40/custom,", "41/custom,", "41/custom,", "40/custom,"], 2],
    ["an answer after DISCONNECT", ["40/custom,", "41/custom,", "43/custom,0[]", "40/custom,"], 2],
  ];
  for (const [name, packets, answers] of repeated) test(name, betterThanNode, async (t) => {
    const wire = await Wire.joined(t, URL);
    for (const packet of packets) wire.send(packet);
    const sids = new Set();
    for (let index = 0; index < answers; index++) {
      const packet = await wire.read();
      assert.match(packet, CONNECTED("/custom"));
      sids.add(sidOf(packet));
      assert.equal(await wire.read(), '42/custom,["auth",{}]');
    }
    assert.equal(sids.size, answers, "each answer is a socket of its own");
    wire.send('42/custom,7["message-with-ack",1]');
    assert.equal(await wire.read(), "43/custom,7[1]");
    await wire.echoes();
  });

  test("CONNECT again after its answer", betterThanNode, async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send('40{"token":"again"}');
    assert.match(await wire.read(), CONNECTED(""));
    assert.equal(await wire.read(), '42["auth",{"token":"again"}]');
    await wire.echoes();
  });

  test("what a client sends before it hears that it was disconnected", betterThanNode, async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send("40/custom,");
    assert.match(await wire.read(), CONNECTED("/custom"));
    await wire.read();
    wire.send('42/custom,["kick-me"]');
    for (const packet of ['42/custom,1["message-with-ack",1]', "43/custom,0[]", "41/custom,"]) wire.send(packet);
    assert.equal(await wire.read(), "41/custom,");
    await wire.echoes();
  });
});

describe("packets that are answered or ignored", () => {
  const rows = [
    ['42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'],
    ['42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'],
    ['42007["message-with-ack","x"]', '437["x"]'],
    ['420["message-with-ack"]', "430[]"],
    ['42["message",{"__proto__":{"a":1},"constructor":1}]', '42["message-back",{"__proto__":{"a":1},"constructor":1}]'],
    ['42["message","\\u0000🦀"]', '42["message-back","\\u0000🦀"]'],
    ['42["message"]', '42["message-back"]'],
  ];
  for (const [packet, reply] of rows) test(packet, async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send(packet);
    assert.equal(await wire.read(), reply);
  });

  for (const packet of ["43", "43[]", "4399[]", '4312["late"]', "42[1,2]", '42["nobody-listens",{}]', '42["error","x"]', '42["connection"]', '42["__proto__"]', '4201["constructor"]', '42[""]']) {
    test(`${packet} is ignored`, async (t) => {
      const wire = await Wire.joined(t, URL);
      wire.send(packet);
      await wire.echoes();
    });
  }

  test("two attachments, out of order, with an ack", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send(`452-789["message-with-ack",${ONE},{"_placeholder":true,"num":1}]`);
    wire.send(Buffer.from([1, 2, 3]));
    wire.send(Buffer.from([4, 5, 6]));
    assert.equal(await wire.read(), `462-789[${ONE},{"_placeholder":true,"num":1}]`);
    assert.deepEqual([await wire.read(), await wire.read()], [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])]);
  });

  test("ten attachments are the most, and pass", async (t) => {
    const wire = await Wire.joined(t, URL);
    const places = Array.from({ length: 10 }, (_, num) => `{"_placeholder":true,"num":${num}}`).join();
    wire.send(`4510-["message",${places}]`);
    for (let index = 0; index < 10; index++) wire.send(Buffer.alloc(index, index));
    assert.equal(await wire.read(), `4510-["message-back",${places}]`);
    for (let index = 0; index < 10; index++) assert.deepEqual(await wire.read(), Buffer.alloc(index, index));
  });

  test("one attachment in two places is the same bytes twice", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send(`451-["message",${ONE},${ONE}]`);
    wire.send(Buffer.from([7]));
    const header = await wire.read();
    const [, count, body] = /^45(\d+)-(.*)$/.exec(header);
    const frames = [];
    while (frames.length < Number(count)) frames.push(await wire.read());
    const [name, ...args] = JSON.parse(body, (_, value) => (value?._placeholder === true ? frames[value.num].toString("hex") : value));
    assert.deepEqual([name, ...args], ["message-back", "07", "07"]);
  });

  test("an attachment no placeholder names is dropped", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send('421["join","drop"]');
    assert.equal(await wire.read(), "431[true]");
    wire.send('452-["room","drop",{"_placeholder":true,"num":1}]');
    wire.send(Buffer.from([1]));
    wire.send(Buffer.from([2]));
    const [, body] = /^45\d+-(.*)$/.exec(await wire.read());
    assert.match(body, /^\["room-event",\{"_placeholder":true,"num":\d\}\]$/);
  });

  test("`_placeholder: false` is data", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send(`451-["message",${ONE},{"_placeholder":false,"num":0}]`);
    wire.send(Buffer.from([1]));
    assert.equal(await wire.read(), `451-["message-back",${ONE},{"_placeholder":false,"num":0}]`);
    assert.deepEqual(await wire.read(), Buffer.from([1]));
  });
});

describe("disconnect", () => {
  test("`41` leaves the namespace without a reply; `40` joins it anew with another sid", async (t) => {
    const wire = await Wire.start(t, URL);
    const sids = [];
    for (let round = 0; round < 2; round++) {
      wire.send("40");
      sids.push(JSON.parse((await wire.read()).slice(2)).sid);
      assert.equal(await wire.read(), '42["auth",{}]');
      const pong = next(wire.ws, "pong");
      wire.send("41");
      wire.ws.ping();
      // Node handles `41` a tick late, and takes a `40` in the same segment for a second one: it needs the pause.
      if (isReference) await pong;
    }
    assert.notEqual(sids[0], sids[1]);
    wire.send('42["message",1]');
    await wire.ends();
  });

  test("leaving /custom keeps the main namespace", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send("40/custom");
    assert.match(await wire.read(), CONNECTED("/custom"));
    assert.equal(await wire.read(), '42/custom,["auth",{}]');
    wire.send('42/custom,["message",1]');
    assert.equal(await wire.read(), '42/custom,["message-back",1]');
    wire.send("41/custom");
    await wire.echoes();
    wire.send('42/custom,["message",1]');
    await wire.ends();
  });

  test("the server's disconnect is `41` with its namespace, and the connection stays", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send("40/custom");
    assert.match(await wire.read(), CONNECTED("/custom"));
    assert.equal(await wire.read(), '42/custom,["auth",{}]');
    wire.send('42/custom,["kick-me"]');
    assert.equal(await wire.read(), "41/custom,");
    await wire.echoes();
    wire.send('42["kick-me"]');
    assert.equal(await wire.read(), "41");
    wire.send("40");
    assert.match(await wire.read(), CONNECTED(""));
  });

  test("a server's question carries an ack id, and a late or second answer is ignored", async (t) => {
    const wire = await Wire.joined(t, URL);
    wire.send('42["ask-me"]');
    const [, id] = /^42(\d+)\["question",42\]$/.exec(await wire.read());
    wire.send(`43${id}["first"]`);
    assert.equal(await wire.read(), '42["answer","first"]');
    wire.send(`43${id}["second"]`);
    await wire.echoes();
  });
});
