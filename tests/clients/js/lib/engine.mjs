// Engine.IO spoken by hand over plain http, net and ws: no client library repairs what the server got wrong.

import http from "node:http";
import assert from "node:assert/strict";
import WebSocket from "ws";
import { within } from "./wait.mjs";

export const SEPARATOR = "\x1e";

/** One request on a connection of its own. */
export function request(base, target, { method = "GET", headers = {}, body, signal } = {}) {
  return within(10_000, `${method} ${target}`, new Promise((resolve, reject) => {
    const url = new URL(base);
    const outgoing = http.request({ host: url.hostname, port: url.port, path: target, method, headers, agent: false, signal }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  }));
}

export const enginePath = (query) => `/socket.io/?${new URLSearchParams(query)}`;

/** A long-polling session. */
export class Polling {
  constructor(base, open) {
    this.base = base;
    this.open = open;
    this.sid = open.sid;
    this.target = enginePath({ EIO: 4, transport: "polling", sid: open.sid });
  }

  static async start(base) {
    const response = await request(base, enginePath({ EIO: 4, transport: "polling" }));
    assert.equal(response.status, 200, response.text);
    assert.equal(response.text[0], "0", response.text);
    return new Polling(base, JSON.parse(response.text.slice(1)));
  }

  /** A session that has joined the main namespace and read its `auth` event. */
  static async joined(base) {
    const session = await Polling.start(base);
    assert.equal((await session.post("40")).text, "ok");
    const packets = [];
    while (packets.length < 2) packets.push(...(await session.packets()));
    assert.match(packets[0], /^40\{"sid":"[\w-]{20}"\}$/);
    assert.equal(packets[1], '42["auth",{}]');
    return session;
  }

  get(options) {
    return request(this.base, this.target, options);
  }

  post(body, headers = { "Content-Type": "text/plain;charset=UTF-8" }) {
    return request(this.base, this.target, { method: "POST", headers: { ...headers, "Content-Length": Buffer.byteLength(body) }, body });
  }

  async packets() {
    const response = await this.get();
    assert.equal(response.status, 200, response.text);
    return response.text.split(SEPARATOR);
  }

  /** Sends an event and reads its echo, so the session is alive. */
  async echoes(text = "alive") {
    assert.equal((await this.post(`42["message","${text}"]`)).text, "ok");
    assert.equal((await this.get()).text, `42["message-back","${text}"]`);
  }

  /** Whether the server has forgotten the session. An unasked pong (`3`) disturbs nothing. */
  async isGone() {
    const response = await this.post("3");
    if (response.status === 200) return false;
    assert.equal(response.status, 400);
    assert.equal(response.text, '{"code":1,"message":"Session ID unknown"}');
    return true;
  }
}

/** A WebSocket whose messages are read one at a time. */
export class Wire {
  #queue = [];
  #readers = [];

  constructor(url) {
    this.ws = new WebSocket(url, { perMessageDeflate: false });
    this.ws.binaryType = "nodebuffer";
    this.opened = new Promise((resolve, reject) => {
      this.ws.once("open", resolve);
      this.ws.once("error", reject);
    });
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) => this.ws.once("close", (code) => resolve(code)));
    this.ws.on("error", () => {});
    this.ws.on("message", (data, isBinary) => this.#deliver(isBinary ? data : data.toString()));
    this.ws.on("close", (code) => this.#deliver({ closed: code }));
  }

  /** A WebSocket on the Engine.IO endpoint. */
  static engine(base, query = {}) {
    return new Wire(`${base.replace("http", "ws")}${enginePath({ EIO: 4, transport: "websocket", ...query })}`);
  }

  /** A direct session after its open packet. */
  static async start(t, base) {
    const wire = Wire.engine(base);
    t.after(() => wire.ws.terminate());
    wire.open = JSON.parse((await wire.read()).slice(1));
    return wire;
  }

  /** A session that has joined the main namespace and read its `auth` event. */
  static async joined(t, base) {
    const wire = await Wire.start(t, base);
    wire.send("40");
    assert.match(await wire.read(), /^40\{"sid":"[\w-]{20}"\}$/);
    assert.equal(await wire.read(), '42["auth",{}]');
    return wire;
  }

  #deliver(item) {
    const reader = this.#readers.shift();
    reader ? reader(item) : this.#queue.push(item);
  }

  send(data) {
    this.ws.send(data);
  }

  /** The next message: text as a string, binary as a Buffer, the end as `{closed: code}`. */
  read(ms = 5_000) {
    if (this.#queue.length) return Promise.resolve(this.#queue.shift());
    return within(ms, "a WebSocket message", new Promise((resolve) => this.#readers.push(resolve)));
  }

  /** Asserts that nothing but the end follows, and returns its code. */
  async ends(ms = 3_000) {
    const item = await this.read(ms);
    assert.ok(item?.closed, `expected the connection to close, got ${JSON.stringify(item)}`);
    return item.closed;
  }

  async echoes(text = "alive") {
    this.send(`42["message","${text}"]`);
    assert.equal(await this.read(), `42["message-back","${text}"]`);
  }
}
