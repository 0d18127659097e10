// Plays the table of behaviours with a stock JavaScript client, and prints what it saw.
//
//   behaviours.mjs URL CLIENT TRANSPORT <CASES     CLIENT: 4 or 2; TRANSPORT: websocket, polling or upgrade
//
// Cases come as a JSON array on standard input; a line of JSON for each goes to standard output. clients/behaviours.py is its twin.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [url, version, transport] = process.argv.slice(2);
const require = createRequire(new URL("../../clients/js/package.json", import.meta.url));
const { Manager } = require(version === "2" ? "socket.io-client-2" : "socket.io-client");
const TRANSPORTS = { websocket: ["websocket"], polling: ["polling"], upgrade: ["polling", "websocket"] };
const PATIENCE_MS = 5_000;
// How long no answer at all is waited for, and how long nothing more must come at the end of a case.
const SILENCE_MS = 350;
const QUIET_MS = 60;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** What a client does with events that ask for an answer. `silent` is not answered. */
const ANSWERS = {
  question: (number) => [number + 1], pair: () => [1, "two"], "binary question": () => [Buffer.from([1, 2])], "no values": () => [],
};

class Case {
  constructor({ is, steps, sees }, number) {
    Object.assign(this, { is, steps, sees, number, seen: {}, managers: {}, sockets: {}, sids: {}, cookies: {}, changed: Date.now() });
  }

  say(letter, line) {
    (this.seen[letter] ??= []).push(line);
    this.changed = Date.now();
  }

  /** Values as the table writes them, and back. */
  plain(value) {
    if (value instanceof Uint8Array || value instanceof ArrayBuffer) return { $bytes: Buffer.from(value).toString("hex") };
    if (Array.isArray(value)) return value.map((each) => this.plain(each));
    if (typeof value === "string") return this.sids[value] ?? value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.keys(value).sort().map((key) => [key, this.plain(value[key])]));
  }

  real(value) {
    if (Array.isArray(value)) return value.map((each) => this.real(each));
    if (typeof value === "string" && value.startsWith("$sid:")) return this.sockets[value.slice(5)].sid;
    if (typeof value === "string" && value.startsWith("$mark:")) return this.mark(value.slice(6));
    if (value === null || typeof value !== "object") return value;
    if ("$bytes" in value) return Buffer.from(value.$bytes, "hex");
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, this.real(each)]));
  }

  mark(letter) {
    return `${this.number}${letter}`;
  }

  text(values) {
    return JSON.stringify(this.plain(values));
  }

  connect(who, auth) {
    const letter = who[0];
    const headers = { "X-Test": "yes", Cookie: ["tea=green", this.cookies[letter]].filter(Boolean).join("; ") };
    this.managers[letter] ??= new Manager(url, {
      transports: TRANSPORTS[transport], reconnection: false, query: { mark: this.mark(letter) }, extraHeaders: headers,
      transportOptions: Object.fromEntries(["polling", "websocket"].map((name) => [name, { extraHeaders: headers }])),
    });
    const socket = this.managers[letter].socket(who.slice(1) || "/", auth === undefined ? {} : { auth: (give) => give(auth) });
    const keep = { socket, sid: null, early: [] };
    this.sockets[who] = keep;
    this.hear(keep, letter);
    return new Promise((done) => {
      const refused = (error) => {
        const about = error instanceof Error ? { message: error.message, ...(error.data !== undefined && { data: error.data }) } : error;
        clearTimeout(patience);
        this.say(letter, `refused ${this.text(about)}`);
        done();
      };
      const patience = setTimeout(() => {
        this.say(letter, "neither connected nor refused");
        done();
      }, auth?.how === "error" ? SILENCE_MS : PATIENCE_MS);
      socket.on(version === "2" ? "error" : "connect_error", refused);
      socket.on("connect", () => {
        clearTimeout(patience);
        keep.sid = socket.id;
        this.sids[socket.id] = `<${who}>`;
        this.say(letter, `connected ${who.slice(1) || "/"}`);
        for (const line of keep.early.splice(0)) this.say(letter, line);
        done();
      });
    });
  }

  hear(keep, letter) {
    const { socket } = keep;
    const got = (event, args) => {
      const answer = typeof args.at(-1) === "function" ? args.pop() : null;
      const line = `${event} ${this.text(args)}`;
      // A client gives to handlers what came before CONNECT's answer just before it says that it is connected.
      if (keep.sid === null) keep.early.push(line);
      else this.say(letter, line);
      if (answer && ANSWERS[event]) answer(...ANSWERS[event](...args));
    };
    socket.on("disconnect", (reason) => this.say(letter, `disconnected: ${reason.replace(/^io /, "")}`));
    if (version !== "2") return socket.onAny((event, ...args) => got(event, args));
    socket.onevent = (packet) => {
      const [event, ...args] = packet.data;
      if (packet.id !== null && packet.id !== undefined) args.push(socket.ack(packet.id));
      got(event, args);
    };
  }

  ask(who, event, args, patience = PATIENCE_MS) {
    return new Promise((done) => {
      const timer = setTimeout(() => done(this.say(who[0], `${event} -> no answer`)), patience);
      this.sockets[who].socket.emit(event, ...args, (...answers) => {
        clearTimeout(timer);
        done(this.say(who[0], `${event} -> ${this.text(answers)}`));
      });
    });
  }

  async page(letter, path) {
    const answer = await fetch(url + path, { headers: this.cookies[letter] ? { Cookie: this.cookies[letter] } : {} });
    const cookie = answer.headers.get("set-cookie");
    if (cookie) this.cookies[letter] = cookie.split(";")[0];
    this.say(letter, `${path} -> ${answer.status} ${(await answer.text()).replace(/\s/g, "")}`);
  }

  async step([who, verb, ...rest]) {
    const [event, ...args] = this.real(rest);
    switch (verb) {
      case "connect": return this.connect(who, event);
      case "emit": return this.sockets[who].socket.emit(event, ...args);
      case "ask": return this.ask(who, event, args);
      case "ask in vain": return this.ask(who, event, args, SILENCE_MS);
      // Several at once, so that their order can be seen.
      case "ask at once": return Promise.all(Array.from({ length: event }, (_, number) => this.ask(who, args[0], [number])));
      case "disconnect": return this.sockets[who].socket.disconnect();
      case "drop": return this.managers[who[0]].engine.close();
      case "page": return this.page(who[0], event);
      case "pause": return pause(event);
      default: throw new Error(`no such verb: ${verb}`);
    }
  }

  async play() {
    for (const step of this.steps) await this.step(step);
    const ends = Date.now() + PATIENCE_MS;
    const isWhole = () => Object.entries(this.sees).every(([letter, lines]) => (this.seen[letter]?.length ?? 0) >= lines.length);
    while (!isWhole() && Date.now() < ends) await pause(5);
    while (Date.now() - this.changed < QUIET_MS && Date.now() < ends) await pause(5);
    const seen = JSON.stringify({ is: this.is, seen: this.seen });
    for (const { socket } of Object.values(this.sockets)) socket.disconnect();
    console.log(seen);
  }
}

for (const [number, each] of JSON.parse(readFileSync(0, "utf8")).entries()) await new Case(each, number).play();
process.exit(0);
