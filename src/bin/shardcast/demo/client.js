// A small Socket.IO client: Engine.IO revision 4 under Socket.IO revision 5, default namespace, text only.
//
//   import { connect } from "./client.js";
//   const socket = connect({ auth: { token: "…" } });
//   socket.on("chat", (message) => …);                  // an event
//   socket.on("question", (text, reply) => reply(42));  // an event that wants an answer
//   socket.emit("typing", true);                        // fire and forget
//   const answer = await socket.request("join", "lobby", "Ada");
//
// It is written to be read. Anything that speaks Socket.IO 3 or 4 can be used in its place.
//
// The session starts with HTTP long-polling, which passes every proxy, and moves to a WebSocket when one can be had:
//
//   GET  ?transport=polling             <- 0{"sid":…,"upgrades":["websocket"],"pingInterval":…}
//   POST ?transport=polling&sid=…       -> 40{auth}       packets in one body are separated by 0x1e
//   WS   ?transport=websocket&sid=…     -> 2probe
//                                       <- 3probe         the pending GET is released with a 6 (noop)
//                                       -> 5              from here on everything goes over the WebSocket

const PACKET = { open: "0", close: "1", ping: "2", pong: "3", message: "4", upgrade: "5", noop: "6" };
const EVENT = { connect: "0", disconnect: "1", event: "2", ack: "3", refused: "4" };
const SEPARATOR = "\x1e";

const OPEN_TIMEOUT = 10_000; // until the handshake has answered
const PROBE_TIMEOUT = 10_000; // until the WebSocket has answered the probe
const REQUEST_TIMEOUT = 10_000; // until an ack has come
const BACKOFF = { first: 500, most: 10_000, jitter: 0.5, settled: 5_000 };
const MOST_BUFFERED = 256; // events kept while there is no connection
const OWN_EVENTS = new Set(["connect", "disconnect", "refused", "transport", "retry"]); // never taken from the server

/** One Engine.IO session: from its handshake until it closes, once. `on` = { open, message, transport, close }. */
class Session {
  constructor({ path, query, transports }, on) {
    this.address = new URL(path, location.href);
    this.query = query;
    this.transports = transports;
    this.on = on;
    this.closed = false;
    this.paused = false; // the upgrade is waiting for HTTP to fall silent
    this.socket = null; // the WebSocket, once it carries the session
    this.queue = []; // packets not yet handed to a transport
    this.aborter = new AbortController();
    this.expectLifeWithin(OPEN_TIMEOUT);
    this.poll();
  }

  send(packet) {
    this.queue.push(packet);
    this.flush();
  }

  /** Says goodbye to the server and ends the session. */
  leave() {
    if (this.socket) this.socket.send(PACKET.close);
    else if (this.sid) navigator.sendBeacon(this.url("polling"), PACKET.close); // outlives the page
    this.close("left");
  }

  close(reason) {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.heartbeat);
    this.aborter.abort();
    this.probe?.close();
    this.socket?.close();
    this.on.close(reason);
  }

  url(transport) {
    const url = new URL(this.address);
    if (transport === "websocket") url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ ...this.query, EIO: 4, transport, ...(this.sid && { sid: this.sid }) });
    return url;
  }

  expectLifeWithin(milliseconds) {
    clearTimeout(this.heartbeat);
    this.heartbeat = setTimeout(() => this.close("the server fell silent"), milliseconds);
  }

  receive(packet) {
    if (this.closed) return;
    const body = packet.slice(1);
    switch (packet[0]) {
      case PACKET.open: {
        const { sid, upgrades, pingInterval, pingTimeout, maxPayload = 1e6 } = JSON.parse(body);
        Object.assign(this, { sid, maxPayload, silence: pingInterval + pingTimeout });
        this.expectLifeWithin(this.silence);
        this.on.transport("polling");
        this.on.open();
        if (upgrades.includes("websocket") && this.transports.includes("websocket")) this.upgrade();
        break;
      }
      case PACKET.ping:
        this.expectLifeWithin(this.silence);
        this.send(PACKET.pong + body);
        break;
      case PACKET.message:
        this.on.message(body);
        break;
      case PACKET.close:
        this.close("the server closed the session");
        break;
    }
  }

  // -- HTTP long-polling: one GET is always pending, and at most one POST at a time keeps the order.

  async http(body) {
    const method = body === undefined ? "GET" : "POST";
    const headers = body === undefined ? {} : { "content-type": "text/plain;charset=UTF-8" };
    const { signal } = this.aborter;
    const response = await fetch(this.url("polling"), { method, body, headers, signal, cache: "no-store" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.text();
  }

  poll() {
    this.polling ??= (async () => {
      try {
        while (!this.closed && !this.paused && !this.socket) {
          for (const packet of (await this.http()).split(SEPARATOR)) this.receive(packet);
        }
      } catch {
        this.close("the connection was lost");
      }
      this.polling = null;
    })();
  }

  flush() {
    if (this.closed) return;
    if (this.socket) {
      for (const packet of this.queue.splice(0)) this.socket.send(packet);
    } else if (!this.paused && !this.posting && this.queue.length) {
      this.posting = this.http(this.nextBody()).then(
        () => { this.posting = null; this.flush(); },
        () => this.close("the connection was lost"),
      );
    }
  }

  /** As many queued packets as the server takes in one body, and at least one. */
  nextBody() {
    let bytes = -1, count = 0;
    for (const packet of this.queue) {
      bytes += 1 + new Blob([packet]).size;
      if (count && bytes > this.maxPayload) break;
      count += 1;
    }
    return this.queue.splice(0, count).join(SEPARATOR);
  }

  // -- The upgrade. Whatever goes wrong before the "5", the polling session goes on as if nothing had happened.

  upgrade() {
    let socket;
    try { socket = this.probe = new WebSocket(this.url("websocket")); } catch { return; }
    const timer = setTimeout(() => socket.close(), PROBE_TIMEOUT);
    const gone = new Promise((resolve) => { socket.onclose = resolve; });
    gone.then(() => {
      clearTimeout(timer);
      if (this.socket === socket) this.close("the connection was lost");
    });
    socket.onopen = () => socket.send(PACKET.ping + "probe");
    socket.onmessage = async ({ data }) => {
      if (data !== PACKET.pong + "probe") return socket.close();
      clearTimeout(timer);
      socket.onmessage = ({ data }) => { if (typeof data === "string") this.receive(data); };
      this.paused = true;
      await Promise.race([Promise.all([this.polling, this.posting]), gone]);
      this.paused = false;
      if (this.closed) return;
      if (socket.readyState === WebSocket.OPEN) {
        socket.send(PACKET.upgrade);
        this.socket = socket;
        this.on.transport("websocket");
      } else {
        this.poll();
      }
      this.flush();
    };
  }
}

/** The Socket.IO half: one socket in the default namespace, over as many sessions as it takes. */
class Socket {
  constructor(options) {
    this.options = options;
    this.connected = false;
    this.id = null;
    this.transport = null;
    this.attempt = 0;
    this.handlers = new Map();
    this.buffer = []; // encoded later: [name, args, acknowledge]
    this.acks = new Map(); // ack id -> callback(error, ...args)
    this.nextAck = 0;
    addEventListener("online", () => this.retryTimer && this.open());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open()); // back from the history cache
    this.open();
  }

  on(name, handler) {
    if (!this.handlers.has(name)) this.handlers.set(name, new Set());
    this.handlers.get(name).add(handler);
    return () => this.handlers.get(name).delete(handler);
  }

  emit(name, ...args) {
    this.dispatch(name, args);
  }

  /** An event with an ack: resolves with the (first) answer, rejects when the answer cannot come any more. */
  request(name, ...args) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(new Error("The server did not answer in time.")), REQUEST_TIMEOUT);
      const settle = (error, answer) => {
        clearTimeout(timer);
        settle.done = true;
        return error ? reject(error) : resolve(answer);
      };
      this.dispatch(name, args, settle);
    });
  }

  open() {
    clearTimeout(this.retryTimer);
    this.retryTimer = null;
    if (this.session) return;
    const session = new Session(this.options, {
      open: () => session.send(PACKET.message + EVENT.connect + (this.options.auth ? JSON.stringify(this.options.auth) : "")),
      message: (text) => this.receive(text),
      transport: (name) => this.fire("transport", (this.transport = name)),
      close: (reason) => this.lost(reason),
    });
    this.session = session;
  }

  close() {
    clearTimeout(this.retryTimer);
    this.retryTimer = null;
    this.leaving = true;
    this.session?.leave();
    this.leaving = false;
  }

  // -- Out

  dispatch(name, args, acknowledge) {
    if (this.connected) return this.write(name, args, acknowledge);
    if (this.buffer.length < MOST_BUFFERED) this.buffer.push([name, args, acknowledge]);
    else acknowledge?.(new Error("Too much is waiting for the connection."));
  }

  write(name, args, acknowledge) {
    if (acknowledge?.done) return; // timed out while it waited for the connection
    let id = "";
    if (acknowledge) this.acks.set((id = this.nextAck++), acknowledge);
    this.session.send(PACKET.message + EVENT.event + id + JSON.stringify([name, ...args]));
  }

  // -- In

  receive(text) {
    const [, type, id, body] = /^(\d)(\d*)(.*)$/s.exec(text) ?? [];
    const data = body ? JSON.parse(body) : undefined;
    switch (type) {
      case EVENT.connect:
        this.id = data.sid;
        this.connected = true;
        this.since = performance.now();
        this.fire("connect");
        for (const waiting of this.buffer.splice(0)) this.write(...waiting); // after what "connect" has sent
        break;
      case EVENT.event: {
        const [name, ...args] = data;
        if (OWN_EVENTS.has(name)) break;
        if (id) args.push((...answer) => this.session?.send(PACKET.message + EVENT.ack + id + JSON.stringify(answer)));
        this.fire(name, ...args);
        break;
      }
      case EVENT.ack: {
        const acknowledge = this.acks.get(Number(id));
        this.acks.delete(Number(id));
        acknowledge?.(null, ...data);
        break;
      }
      case EVENT.refused:
        this.fire("refused", data);
        this.session.close(data?.message ?? "the server refused the connection");
        break;
      case EVENT.disconnect:
        this.session.close("the server ended the connection");
        break;
    }
  }

  fire(name, ...args) {
    for (const handler of this.handlers.get(name) ?? []) {
      try { handler(...args); } catch (error) { reportError(error); } // one bad handler harms nobody else
    }
  }

  // -- The connection is gone: tell everyone who waits, then try again a little later, and a little later each time.

  lost(reason) {
    const settled = this.connected && performance.now() - this.since > BACKOFF.settled;
    const { connected } = this;
    Object.assign(this, { connected: false, id: null, session: null, transport: null });
    const waiting = [...this.acks.values()];
    this.acks.clear();
    for (const acknowledge of waiting) acknowledge(new Error("The connection was lost before the answer came."));
    if (connected) this.fire("disconnect", reason);
    if (this.leaving) return;
    if (settled) this.attempt = 0;
    const plain = Math.min(BACKOFF.most, BACKOFF.first * 2 ** this.attempt++);
    const delay = plain * (1 + BACKOFF.jitter * (2 * Math.random() - 1)); // so that a crowd does not return at once
    this.retryTimer = setTimeout(() => this.open(), delay);
    this.fire("retry", { attempt: this.attempt, delay, reason });
  }
}

/** Connects, and stays connected. Leave "websocket" out of `transports` for long-polling only. */
export function connect({ path = "/socket.io/", auth, query = {}, transports = ["polling", "websocket"] } = {}) {
  return new Socket({ path, auth, query, transports });
}
