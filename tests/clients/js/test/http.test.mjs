// HTTP/1.1 by hand on raw sockets: framing, limits, refusals, static files. The reference passes what Node's own
// http server does the same way; the rest is marked.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { describe, test } from "node:test";
import { betterThanNode, serverUrl } from "../lib/target.mjs";
import { within } from "../lib/wait.mjs";

const URL = serverUrl("HTTP_URL"); // header timeout 1 s
const HELLO = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

/** A connection that reads one response at a time, strictly. */
class Connection {
  #bytes = Buffer.alloc(0);
  #ended = false;
  #wake = () => {};

  static async open(t) {
    const { hostname, port } = new globalThis.URL(URL);
    const connection = new Connection();
    connection.socket = net.connect(Number(port), hostname);
    connection.socket.setNoDelay(true);
    t.after(() => connection.socket.destroy());
    connection.socket.on("data", (chunk) => {
      connection.#bytes = Buffer.concat([connection.#bytes, chunk]);
      connection.#wake();
    });
    connection.socket.on("error", () => {});
    connection.socket.on("close", () => {
      connection.#ended = true;
      connection.#wake();
    });
    connection.socket.on("end", () => {
      connection.#ended = true;
      connection.#wake();
    });
    await once(connection.socket, "connect");
    return connection;
  }

  send(bytes) {
    this.socket.write(bytes);
    return this;
  }

  async #more(what, ms) {
    if (this.#ended) throw new Error(`${what}: the connection ended after ${JSON.stringify(this.#bytes.toString("latin1").slice(0, 200))}`);
    await within(ms, what, new Promise((resolve) => (this.#wake = resolve)));
  }

  async #until(what, find, ms = 5_000) {
    for (;;) {
      const at = find();
      if (at !== undefined) return at;
      await this.#more(what, ms);
    }
  }

  #take(length) {
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return taken.toString("latin1");
  }

  async #line() {
    const at = await this.#until("a line", () => { const found = this.#bytes.indexOf("\r\n"); return found < 0 ? undefined : found; });
    const line = this.#take(at);
    this.#take(2);
    return line;
  }

  /** The next response. `isHead` says that its body does not follow. */
  async read({ isHead = false, ms = 5_000 } = {}) {
    const at = await this.#until("a response head", () => { const found = this.#bytes.indexOf("\r\n\r\n"); return found < 0 ? undefined : found; }, ms);
    const [line, ...fields] = this.#take(at + 4).trimEnd().split("\r\n");
    const [, version, status] = /^HTTP\/(1\.[01]) (\d{3}) /.exec(`${line} `) ?? assert.fail(`no status line: ${line}`);
    const headers = {};
    for (const field of fields) {
      const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(field) ?? assert.fail(`no header field: ${field}`);
      headers[name.toLowerCase()] = value;
    }
    const response = { version, status: Number(status), headers, body: "" };
    if (isHead || response.status < 200 || response.status === 204 || response.status === 304) return response;
    if (headers["transfer-encoding"] === "chunked") {
      for (;;) {
        const size = Number.parseInt(await this.#line(), 16);
        await this.#until("a chunk", () => (this.#bytes.length >= size + 2 ? size : undefined));
        response.body += this.#take(size);
        assert.equal(this.#take(2), "\r\n");
        if (size === 0) return response;
      }
    }
    if (headers["content-length"] !== undefined) {
      const length = Number(headers["content-length"]);
      await this.#until("the body", () => (this.#bytes.length >= length ? length : undefined));
      response.body = this.#take(length);
      return response;
    }
    await this.ends(ms, true);
    response.body = this.#take(this.#bytes.length);
    return response;
  }

  /** Asserts that the server closes, with nothing more to say. */
  async ends(ms = 3_000, withBody = false) {
    while (!this.#ended) await this.#more("the connection's end", ms);
    if (!withBody) assert.equal(this.#bytes.toString("latin1"), "", "bytes after the last response");
  }
}

const exchange = async (t, bytes, options) => (await Connection.open(t)).send(bytes).read(options);
const get = (target, fields = "", method = "GET") => `${method} ${target} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`;
const post = (target, body, fields = "") => `POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${fields}\r\n${body}`;

describe("routes", () => {
  test("the page, the text, the echo", async (t) => {
    const connection = await Connection.open(t);
    const page = await connection.send(get("/")).read();
    assert.equal(page.status, 200);
    assert.match(page.headers["content-type"], /^text\/html/);
    assert.match(page.body, /<html/);
    const hello = await connection.send(HELLO).read();
    assert.equal(hello.status, 200);
    assert.match(hello.headers["content-type"], /^text\/plain/);
    assert.ok(hello.body.length > 0);
    const echo = await connection.send(post("/echo", "the \0 body\r\n\r\n")).read();
    assert.deepEqual([echo.status, echo.body], [200, "the \0 body\r\n\r\n"]);
    assert.equal((await connection.send(post("/echo", "")).read()).body, "");
    const large = "0123456789".repeat(99_000);
    assert.equal((await connection.send(post("/echo", large)).read()).body, large);
  });

  test("a query is not part of the route", async (t) => {
    assert.equal((await exchange(t, get("/hello?a=b&c=/../x"))).status, 200);
  });

  test("404 for what is not there, and the connection stays", async (t) => {
    const connection = await Connection.open(t);
    for (const target of ["/nothing", "/hello/", "/HELLO", "/static/nothing.txt", "/static", "/socket.io"]) {
      assert.equal((await connection.send(get(target)).read()).status, 404, target);
    }
    assert.equal((await connection.send(HELLO).read()).status, 200);
  });

  test("405 names the methods there are", async (t) => {
    for (const [request, allowed] of [[post("/hello", "x"), "GET"], [get("/echo"), "POST"], [get("/hello", "", "DELETE"), "GET"]]) {
      const response = await exchange(t, request);
      assert.equal(response.status, 405);
      assert.ok(response.headers.allow?.split(/, */).includes(allowed), response.headers.allow);
    }
  });

  test("OPTIONS names the methods there are", async (t) => {
    const response = await exchange(t, get("/hello", "", "OPTIONS"));
    assert.ok([200, 204].includes(response.status), String(response.status));
    assert.ok(response.headers.allow?.split(/, */).includes("GET"), response.headers.allow);
  });

  test("HEAD is GET without its body", async (t) => {
    for (const target of ["/hello", "/", "/static/hello.txt"]) {
      const connection = await Connection.open(t);
      const whole = await connection.send(get(target)).read();
      const head = await connection.send(get(target, "", "HEAD")).read({ isHead: true });
      assert.equal(head.status, 200);
      assert.equal(head.headers["content-length"], String(whole.body.length));
      assert.equal(head.headers["content-type"], whole.headers["content-type"]);
      // Had a body followed, it would be read as this response's head.
      assert.equal((await connection.send(HELLO).read()).status, 200);
    }
  });
});

describe("connections", () => {
  test("HTTP/1.1 keeps the connection, Connection: close ends it", async (t) => {
    const connection = await Connection.open(t);
    for (let round = 0; round < 5; round++) assert.equal((await connection.send(HELLO).read()).status, 200);
    const last = await connection.send(get("/hello", "Connection: close\r\n")).read();
    assert.equal(last.headers.connection?.toLowerCase(), "close");
    await connection.ends();
  });

  test("HTTP/1.0 ends the connection unless keep-alive is asked for", async (t) => {
    const once = await Connection.open(t);
    assert.equal((await once.send("GET /hello HTTP/1.0\r\n\r\n").read()).status, 200);
    await once.ends();
    const kept = await Connection.open(t);
    for (let round = 0; round < 2; round++) {
      const response = await kept.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").read();
      assert.equal(response.status, 200);
      assert.equal(response.headers.connection?.toLowerCase(), "keep-alive");
    }
  });

  test("pipelined requests are answered in order", async (t) => {
    const connection = await Connection.open(t);
    connection.send(Array.from({ length: 20 }, (_, index) => (index % 3 ? post("/echo", `body ${index}`) : get("/nothing"))).join(""));
    for (let index = 0; index < 20; index++) {
      const response = await connection.read();
      if (index % 3) assert.deepEqual([response.status, response.body], [200, `body ${index}`]);
      else assert.equal(response.status, 404);
    }
  });

  test("a pipelined request behind a long poll waits for it", async (t) => {
    const connection = await Connection.open(t);
    const open = await connection.send(get("/socket.io/?EIO=4&transport=polling")).read();
    const { sid } = JSON.parse(open.body.slice(1));
    const target = `/socket.io/?EIO=4&transport=polling&sid=${sid}`;
    connection.send(get(target) + HELLO);
    const other = await Connection.open(t);
    assert.equal((await other.send(post(target, "40")).read()).body, "ok");
    assert.match((await connection.read()).body, /^40\{/);
    assert.match((await connection.read()).headers["content-type"], /^text\/plain/);
  });

  test("requests cut into single bytes are the same requests", async (t) => {
    const connection = await Connection.open(t);
    for (const byte of Buffer.from(post("/echo", "cut") + HELLO)) connection.send(Buffer.from([byte]));
    assert.equal((await connection.read()).body, "cut");
    assert.equal((await connection.read()).status, 200);
  });

  test("an empty line before a request is skipped", async (t) => {
    assert.equal((await exchange(t, `\r\n${HELLO}`)).status, 200);
  });
});

describe("bodies", () => {
  test("Expect: 100-continue is answered before the body", async (t) => {
    const connection = await Connection.open(t);
    connection.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert.equal((await connection.read()).status, 100);
    const response = await connection.send("body").read();
    assert.deepEqual([response.status, response.body], [200, "body"]);
  });

  test("Expect: 100-continue for too much is 413 at once", async (t) => {
    const connection = await Connection.open(t);
    connection.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000001\r\nExpect: 100-continue\r\n\r\n");
    assert.equal((await connection.read()).status, 413);
  });

  test("another expectation is 417", async (t) => {
    assert.equal((await exchange(t, post("/echo", "", "Expect: the unexpected\r\n"))).status, 417);
  });

  test("chunked: extensions, trailers, upper case, leading zeros, and the connection stays", async (t) => {
    const connection = await Connection.open(t);
    const head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    const bodies = [
      ["5\r\nhello\r\n0\r\n\r\n", "hello"],
      ["5;name=value\r\nhello\r\n000A\r\n0123456789\r\n0\r\n\r\n", "hello0123456789"],
      ["0\r\n\r\n", ""],
      ["3\r\n\r\n\r\r\n0\r\nX-Trailer: yes\r\nAnother: one\r\n\r\n", "\r\n\r"],
    ];
    for (const [body, expected] of bodies) {
      const response = await connection.send(head + body).read();
      assert.deepEqual([response.status, response.body], [200, expected]);
    }
    for (const byte of Buffer.from(head + bodies[1][0])) connection.send(Buffer.from([byte]));
    assert.equal((await connection.read()).body, bodies[1][1]);
  });

  test("413 above the limit, by length and by chunks", async (t) => {
    const announced = await exchange(t, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000001\r\n\r\n");
    assert.equal(announced.status, 413);
    const chunk = `8000\r\n${"x".repeat(0x8000)}\r\n`;
    const chunked = await exchange(t, `POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(31)}0\r\n\r\n`);
    assert.equal(chunked.status, 413);
    const exactly = "x".repeat(1_000_000);
    assert.equal((await exchange(t, post("/echo", exactly))).body.length, exactly.length);
  });
});

describe("routes that wait, and bodies piece by piece", betterThanNode, () => {
  test("others are answered meanwhile, and the next request of the connection waits", async (t) => {
    const connection = await Connection.open(t);
    const order = [];
    connection.send(get("/later?ms=300") + HELLO);
    const first = connection.read().then((response) => order.push(response.body));
    const other = await exchange(t, HELLO);
    order.push(`other ${other.status}`);
    await first;
    order.push((await connection.read()).status);
    assert.deepEqual(order, ["other 200", "later", 200]);
  });

  test("errors are statuses", async (t) => {
    const rows = [["/later", 500, "Internal Server Error"], ["/later?ms=x", 400, "invalid digit found in string"], ["/lines?count=", 400]];
    for (const [target, status, body] of rows) {
      const response = await exchange(t, get(target));
      assert.equal(response.status, status, target);
      if (body) assert.equal(response.body, body);
    }
  });

  test("checks come before, headers after", async (t) => {
    for (const [cookie, status, body] of [["", 401, "log in"], ["Cookie: user=ada\r\n", 200, "ada"], ["Cookie: user=mallory\r\n", 500, "Internal Server Error"]]) {
      const response = await exchange(t, get("/guarded/name", cookie));
      assert.deepEqual([response.status, response.body, response.headers["x-guarded"]], [status, body, "yes"]);
    }
    assert.equal((await exchange(t, get("/%67uarded/nothing"))).status, 401);
  });

  test("a streamed answer has chunks, and HTTP/1.0 gets it until the end", async (t) => {
    const connection = await Connection.open(t);
    const response = await connection.send(get("/lines?count=2000", "Accept-Encoding: gzip\r\n")).read();
    assert.deepEqual([response.headers["transfer-encoding"], response.headers["content-encoding"], response.body.length], ["chunked", undefined, 2_000_000]);
    assert.ok(response.body.endsWith("01999\n"));
    assert.equal((await connection.send(HELLO).read()).status, 200);
    const old = await exchange(t, "GET /lines?count=3 HTTP/1.0\r\n\r\n");
    assert.deepEqual([old.headers["transfer-encoding"], old.headers["content-length"], old.body.length], [undefined, undefined, 3000]);
    const head = await connection.send(get("/lines?count=3", "", "HEAD")).read({ isHead: true });
    assert.equal(head.headers["transfer-encoding"], "chunked");
    assert.equal((await connection.send(HELLO).read()).status, 200);
  });

  test("a body is taken piece by piece, beyond what is taken whole", async (t) => {
    const connection = await Connection.open(t);
    const large = "0123456789".repeat(400_000);
    assert.equal((await connection.send(post("/upload", large)).read()).body, "4000000");
    const chunk = `8000\r\n${"x".repeat(0x8000)}\r\n`;
    connection.send(`POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(64)}0\r\n\r\n`);
    assert.equal((await connection.read()).body, String(64 * 0x8000));
    connection.send("POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert.equal((await connection.read()).status, 100);
    assert.equal((await connection.send("ok").read()).body, "2");
    const tooLarge = await exchange(t, `POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${16 * 1024 * 1024 + 1}\r\n\r\n`);
    assert.equal(tooLarge.status, 413);
  });

  test("a body that stops is given up", async (t) => {
    const connection = await Connection.open(t);
    connection.send("POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    assert.equal((await connection.read({ ms: 4_000 })).status, 408);
    await connection.ends();
  });
});

describe("limits", () => {
  test("431 for a head that is too large", async (t) => {
    const connection = await Connection.open(t);
    connection.send(get("/hello", `X-Large: ${"x".repeat(40_000)}\r\n`));
    assert.equal((await connection.read()).status, 431);
    await connection.ends();
  });

  test("431 for too many fields", betterThanNode, async (t) => {
    const connection = await Connection.open(t);
    connection.send(get("/hello", Array.from({ length: 300 }, (_, index) => `X-${index}: 1\r\n`).join("")));
    assert.equal((await connection.read()).status, 431);
    await connection.ends();
  });

  test("a hundred fields, and values of any bytes, are no reason to refuse", async (t) => {
    const fields = Array.from({ length: 100 }, (_, index) => `X-${index}: Z\xfcrich \xff\r\n`).join("");
    const connection = await Connection.open(t);
    connection.send(Buffer.from(get("/hello", `Cookie: name=Zo\xeb\r\nReferer: http://a/caf\xe9\r\n${fields}`), "latin1"));
    assert.equal((await connection.read()).status, 200);
  });

  test("offers to upgrade to something else are ignored", async (t) => {
    for (const offer of ["Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"]) {
      assert.equal((await exchange(t, get("/hello", offer))).status, 200, offer);
    }
  });

  test("414 or 431 for a target that is too long, and 8000 bytes of target are read", async (t) => {
    assert.ok([414, 431].includes((await exchange(t, get(`/${"x".repeat(40_000)}`))).status));
    assert.equal((await exchange(t, get(`/hello?${"x".repeat(7_900)}`))).status, 200);
  });

  test("408 for a head that does not come to its end", async (t) => {
    const connection = await Connection.open(t);
    const began = performance.now();
    connection.send("GET /hello HTTP/1.1\r\nHost: loc");
    const response = await connection.read({ ms: 4_000 });
    const took = performance.now() - began;
    assert.equal(response.status, 408);
    assert.ok(took > 900 && took < 2_500, `after ${took} ms`);
    await connection.ends();
  });

  test("408 also when it drips: each byte buys no time", async (t) => {
    const connection = await Connection.open(t);
    const began = performance.now();
    const drip = setInterval(() => connection.send("x"), 100);
    t.after(() => clearInterval(drip));
    connection.send("GET /hello HTTP/1.1\r\nX-Slow: ");
    assert.equal((await connection.read({ ms: 4_000 })).status, 408);
    assert.ok(performance.now() - began < 2_500);
  });

  test("a body that stops is given up", betterThanNode, async (t) => {
    const connection = await Connection.open(t);
    connection.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    assert.equal((await connection.read({ ms: 4_000 })).status, 408);
    await connection.ends();
  });
});

describe("smuggling and malformed requests: one refusal, then the end", () => {
  const smuggled = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const body = (fields, text) => `POST /echo HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n\r\n${text}${smuggled}`;
  const rows = [
    ["both a length and chunks", body("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n")],
    ["two different lengths", body("Content-Length: 0\r\nContent-Length: 5", "")],
    ["a signed length", body("Content-Length: +5", "hello")],
    ["a negative length", body("Content-Length: -1", "")],
    ["a hexadecimal length", body("Content-Length: 0x5", "hello")],
    ["a list of lengths", body("Content-Length: 5, 5", "hello")],
    ["a length with a blank inside", body("Content-Length: 1 2", "hello")],
    ["a length beyond 64 bits", body("Content-Length: 99999999999999999999999", "")],
    ["an unknown coding", body("Transfer-Encoding: xchunked", "0\r\n\r\n")],
    ["chunked not last", body("Transfer-Encoding: chunked, identity", "0\r\n\r\n")],
    ["chunked twice", body("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), betterThanNode],
    ["chunks in HTTP/1.0", body("Transfer-Encoding: chunked", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"), betterThanNode],
    ["a blank before the colon", body("Content-Length : 5", "hello")],
    ["a folded field", body("X-A: b\r\n Content-Length: 5", "")],
    ["a NUL in a value", body("X-A: a\0b", "")],
    ["a bare CR in a value", body("X-A: a\rb", "")],
    ["a bare LF between fields", "GET /hello HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", betterThanNode],
    ["no Host", `GET /hello HTTP/1.1\r\n\r\n${smuggled}`],
    ["two Hosts", `GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n${smuggled}`, betterThanNode],
    ["a chunk size that is no number", body("Transfer-Encoding: chunked", "zz\r\nhello\r\n0\r\n\r\n")],
    ["a signed chunk size", body("Transfer-Encoding: chunked", "+5\r\nhello\r\n0\r\n\r\n")],
    ["a chunk size with 0x", body("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n")],
    ["a chunk size beyond 64 bits", body("Transfer-Encoding: chunked", "11111111111111111\r\nhello\r\n0\r\n\r\n")],
    ["a chunk longer than its size", body("Transfer-Encoding: chunked", "3\r\nhello\r\n0\r\n\r\n")],
    ["a chunk line that ends in LF", body("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n"), betterThanNode],
    ["no HTTP", "hello server\r\n\r\n"],
    ["a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    ["an unknown version", `GET /hello HTTP/9.9\r\nHost: localhost\r\n\r\n${smuggled}`],
    ["a target with a blank", `GET /hel lo HTTP/1.1\r\nHost: localhost\r\n\r\n${smuggled}`],
  ];
  for (const [name, bytes, options = {}] of rows) test(name, options, async (t) => {
    const connection = await Connection.open(t);
    connection.send(Buffer.from(bytes, "latin1"));
    const response = await connection.read();
    assert.ok([400, 501, 505, 413].includes(response.status), `${response.status}`);
    await connection.ends();
  });

  test("after all that, the server serves", async (t) => assert.equal((await exchange(t, HELLO)).status, 200));
});

describe("static files", () => {
  test("files have their type, folders their index", async (t) => {
    const rows = [["/static/hello.txt", /^text\/plain/, "hello from a file\n"], ["/static/style.css", /^text\/css/], ["/static/data.json", /^application\/json/, '{ "static": true }\n'],
      ["/static/index.html", /^text\/html/], ["/static/", /^text\/html/], ["/static/nested/file.txt", /^text\/plain/, "nested\n"], ["/static/hello.txt?v=2", /^text\/plain/, "hello from a file\n"], ["/static/h%65llo.txt", /^text\/plain/, "hello from a file\n"]];
    for (const [target, type, body] of rows) {
      const response = await exchange(t, get(target));
      assert.equal(response.status, 200, target);
      assert.match(response.headers["content-type"], type);
      if (body) assert.equal(response.body, body);
    }
  });

  test("a known ETag is answered 304 without a body", async (t) => {
    const connection = await Connection.open(t);
    const first = await connection.send(get("/static/hello.txt")).read();
    const tag = first.headers.etag;
    assert.match(tag, /^(W\/)?"[^"]+"$/);
    for (const value of [tag, "*", `"other", ${tag}`, tag.replace(/^W\//, "")]) {
      const again = await connection.send(get("/static/hello.txt", `If-None-Match: ${value}\r\n`)).read();
      assert.equal(again.status, 304, value);
      assert.equal(again.headers.etag, tag);
    }
    for (const value of ['"other"', 'W/"other"']) assert.equal((await connection.send(get("/static/hello.txt", `If-None-Match: ${value}\r\n`)).read()).status, 200);
    assert.notEqual((await connection.send(get("/static/style.css")).read()).headers.etag, tag);
  });

  test("a part of a file, or none, or all of it", betterThanNode, async (t) => {
    const connection = await Connection.open(t);
    const whole = await connection.send(get("/static/hello.txt")).read();
    const date = whole.headers["last-modified"];
    assert.equal(whole.headers["accept-ranges"], "bytes");
    const rows = [
      ["bytes=0-4", "", 206, "hello", "bytes 0-4/18"], ["bytes=6-", "", 206, "from a file\n", "bytes 6-17/18"], ["bytes=-5", "", 206, "file\n", "bytes 13-17/18"],
      ["bytes=0-99999999999999999999999", "", 206, "hello from a file\n", "bytes 0-17/18"], ["bytes=18-", "", 416, undefined, "bytes */18"], ["bytes=-0", "", 416, undefined, "bytes */18"],
      ["bytes=0-0,2-3", "", 200, "hello from a file\n"], ["bytes=4-0", "", 200, "hello from a file\n"], ["lines=0-4", "", 200, "hello from a file\n"],
      ["bytes=0-4", `If-Range: ${date}\r\n`, 206, "hello", "bytes 0-4/18"], ["bytes=0-4", "If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 200, "hello from a file\n"],
      ["bytes=0-4", `If-Range: ${whole.headers.etag}\r\n`, 200, "hello from a file\n"], ["bytes=0-4", `If-None-Match: ${whole.headers.etag}\r\n`, 304, ""],
    ];
    for (const [range, fields, status, body, part] of rows) {
      const response = await connection.send(get("/static/hello.txt", `Range: ${range}\r\n${fields}`)).read();
      assert.deepEqual([response.status, response.headers["content-range"]], [status, part], `${range} ${fields}`);
      if (body !== undefined) assert.equal(response.body, body);
    }
    const head = await connection.send(get("/static/hello.txt", "Range: bytes=0-4\r\n", "HEAD")).read({ isHead: true });
    assert.deepEqual([head.status, head.headers["content-length"]], [200, "18"]);
  });

  const outside = ["/static/../outside.txt", "/static/..%2foutside.txt", "/static/%2e%2e/outside.txt", "/static/%2e%2e%2foutside.txt", "/static/nested/../../outside.txt", "/static/..%5coutside.txt",
    "/static/..\\outside.txt", "/static//../outside.txt", "/static/./../outside.txt", "/static/%252e%252e/outside.txt", "/static/.hidden", "/static/%2ehidden", "/static/nested/../.hidden",
    "/static//etc/passwd", "/static/%2fetc/passwd", "/static/hello.txt%00.css", "/static/hello.txt/", "/static/nested", "/static/link-out.txt", "/static/%ff", "/static/%zz"];
  for (const target of outside) test(`${target} is refused`, async (t) => {
    const response = await exchange(t, get(target));
    assert.doesNotMatch(response.body, /CANARY|root:/);
    // A folder without its slash may also be redirected.
    assert.ok([400, 403, 404, ...(target.endsWith("nested") ? [301, 302, 308] : [])].includes(response.status), String(response.status));
  });
});
