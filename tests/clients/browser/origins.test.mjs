// Pages of one origin, a server of another: what a browser lets through depends on every single answer.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { isReference } from "../js/lib/target.mjs";
import { next, until } from "../js/lib/wait.mjs";
import { startBrowser, watch } from "./chromium.mjs";

const BUNDLE = "tests/clients/js/node_modules/socket.io-client/dist";
const WAYS = {
  "polling only": [{ transports: ["polling"] }, "polling"],
  "the upgrade": [{}, "websocket"],
  "WebSocket only": [{ transports: ["websocket"] }, "websocket"],
  "polling with credentials": [{ transports: ["polling"], withCredentials: true }, "polling"],
  "the upgrade with credentials": [{ withCredentials: true }, "websocket"],
};
const skip = isReference && "the reference has no such settings";

let browser, allowed, stranger, server;
const children = [];
const pageServers = [];

before(async () => {
  if (isReference) return;
  browser = await startBrowser();
  [allowed, stranger] = [await servePages(), await servePages()];
  server = await start(process.env.CONFORMANCE_BIN ?? "target/release/examples/conformance", {
    SHARDCAST_CORS_ALLOWED_ORIGINS: `${allowed}, null`, SHARDCAST_CLIENT_BUNDLE: BUNDLE, SHARDCAST_PING_INTERVAL: "1s",
  }, "/socket.io/socket.io.js");
});
after(async () => {
  await browser?.stop();
  for (const each of pageServers) each.close();
  for (const child of children) {
    if (child.exitCode !== null) continue;
    const ended = next(child, "exit", 10_000);
    child.kill("SIGTERM");
    await ended;
  }
});

/** A site of its own, with one page that loads the client from the other one. */
function servePages() {
  return new Promise((resolve) => {
    const pages = http.createServer((request, response) => {
      if (request.url !== "/") return response.writeHead(404).end();
      response.setHeader("content-type", "text/html");
      response.end(`<!doctype html><link rel="icon" href="data:,"><script crossorigin src="${server}/socket.io/socket.io.js"></script>`);
    });
    pageServers.push(pages);
    pages.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${pages.address().port}`));
  });
}

function freePort() {
  return new Promise((resolve) => {
    const held = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = held.address();
      held.close(() => resolve(port));
    });
  });
}

/** A process of ours, ready. */
async function start(command, settings, ready, args = []) {
  const port = settings.PORT ?? await freePort();
  const env = { ...process.env, SHARDCAST_BIND: `127.0.0.1:${port}`, SHARDCAST_SHARDS: "2", ...settings };
  delete env.SHARDCAST_BIN;
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "ignore"], env });
  children.push(child);
  const url = `http://127.0.0.1:${port}`;
  await until(`${command} listens`, () => fetch(url + ready).then((response) => response.status < 500, () => false), 20_000);
  return url;
}

async function open(t, origin) {
  const page = await browser.context.newPage();
  t.after(() => page.close());
  await page.goto(origin);
  return page;
}

/** Connects in the page, echoes for longer than a ping interval, and tells how that went. */
function talk([url, options]) {
  return new Promise((resolve) => {
    const socket = io(url, { forceNew: true, reconnection: false, timeout: 10_000, ...options });
    socket.on("connect_error", (error) => resolve({ error: error.message }));
    socket.on("disconnect", (reason) => resolve({ error: reason }));
    socket.on("connect", async () => {
      for (let number = 0; number < 5; number++) {
        const answer = await socket.timeout(10_000).emitWithAck("message-with-ack", number).catch(String);
        if (answer !== number) return resolve({ error: `acknowledged ${answer}` });
        await new Promise((wake) => setTimeout(wake, 300));
      }
      const transport = socket.io.engine.transport.name;
      socket.off("disconnect");
      socket.close();
      resolve({ transport });
    });
  });
}

describe("where a list of origins is set", { skip }, () => {
  for (const [name, [options, transport]] of Object.entries(WAYS)) {
    test(`a page of the server itself may connect by ${name}`, async (t) => {
      const page = await open(t, `${server}/`);
      await page.addScriptTag({ url: `${server}/socket.io/socket.io.js` });
      assert.deepEqual(await page.evaluate(talk, [server, { ...options, path: "/listed.io/" }]), { transport });
    });

    test(`a page that is not in it may not by ${name}`, async (t) => {
      const page = await open(t, stranger);
      await page.addScriptTag({ url: `${server}/socket.io/socket.io.js` });
      const { error } = await page.evaluate(talk, [server, { ...options, path: "/listed.io/" }]);
      assert.match(error, /xhr poll error|websocket error/);
    });
  }
});

describe("pages of another origin", { skip }, () => {
  for (const [name, [options, transport]] of Object.entries(WAYS)) test(`connect by ${name}`, async (t) => {
    const page = await open(t, allowed);
    const errors = watch(page);
    assert.deepEqual(await page.evaluate(talk, [server, options]), { transport });
    assert.deepEqual(errors, []);
  });

  for (const [name, [options]] of Object.entries(WAYS)) test(`that is not allowed does not connect by ${name}`, async (t) => {
    const page = await open(t, stranger);
    // The client's own script is no secret, but with crossorigin a stranger may not run it.
    assert.equal(await page.evaluate(() => typeof io), "undefined");
    await page.addScriptTag({ content: await readFile(path.join(BUNDLE, "socket.io.min.js"), "utf8") });
    assert.match((await page.evaluate(talk, [server, options])).error, /error/);
  });

  for (const [name, [options, transport]] of Object.entries(WAYS)) test(`"null", which is listed, connects by ${name}`, async (t) => {
    const page = await open(t, stranger);
    const script = await readFile(path.join(BUNDLE, "socket.io.min.js"), "utf8");
    await page.evaluate((script) => {
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.srcdoc = `<!doctype html><script>${script}</script>`;
      return new Promise((loaded) => { frame.onload = loaded; document.body.append(frame); });
    }, script);
    const frame = page.frames()[1];
    assert.equal(await frame.evaluate(() => self.origin), "null");
    assert.deepEqual(await frame.evaluate(talk, [server, options]), { transport });
  });

  test("read refusals and other answers", async (t) => {
    const page = await open(t, allowed);
    const rows = [
      ["/socket.io/?EIO=4&transport=polling&sid=unknown", {}, 400],
      ["/socket.io/", {}, 400],
      ["/guarded.io/?EIO=4&transport=polling", {}, 403],
      ["/socket.io/socket.io.msgpack.min.js", { method: "POST" }, 405],
      ["/socket.io/?EIO=4&transport=polling", { method: "POST", body: "x".repeat(1_000_001) }, 413],
      ["/hello", { headers: { "X-Asked": "first" } }, 200],
      ["/static/hello.txt", {}, 200],
      ["/nowhere", {}, 404],
    ];
    for (const [target, options, expected] of rows) {
      const status = await page.evaluate(([url, options]) => fetch(url, options).then((response) => response.status, String), [server + target, options]);
      assert.equal(status, expected, target);
    }
  });

  test("are refused where \"null\" is not listed", async (t) => {
    const strict = await start(process.env.CONFORMANCE_BIN ?? "target/release/examples/conformance", { SHARDCAST_CORS_ALLOWED_ORIGINS: allowed }, "/");
    const page = await open(t, allowed);
    await page.evaluate(() => new Promise((loaded) => {
      const frame = Object.assign(document.createElement("iframe"), { srcdoc: "<!doctype html>", onload: loaded });
      frame.sandbox = "allow-scripts";
      document.body.append(frame);
    }));
    const poll = `${strict}/socket.io/?EIO=4&transport=polling`;
    assert.match(await page.frames()[1].evaluate((url) => fetch(url).then((response) => response.status, String), poll), /Failed to fetch/);
    assert.equal(await page.evaluate((url) => fetch(url).then((response) => response.status, String), poll), 200);
  });
});

describe("the flask_login example", { skip }, () => {
  for (const [name, transport] of [["polling only", "polling"], ["the upgrade", "websocket"]]) test(`a page of Flask's talks to us by ${name}`, async (t) => {
    const script = await readFile(path.join(BUNDLE, "socket.io.min.js"), "utf8");
    await browser.context.route("https://cdn.socket.io/**", (route) => route.fulfill({ contentType: "text/javascript", body: script }));
    const [SECRET_KEY, flaskPort] = ["a key for this test", await freePort()];
    const flaskUrl = `http://127.0.0.1:${flaskPort}`;
    const examples = process.env.EXAMPLES_DIR ?? "target/release/examples";
    const realtime = await start(path.join(examples, "flask_login"), { SECRET_KEY, SHARDCAST_CORS_ALLOWED_ORIGINS: flaskUrl }, "/visits");
    await start(".deps/venv/bin/python", { SECRET_KEY, PORT: `${flaskPort}`, REALTIME: realtime }, "/login", ["examples/flask_login/app.py"]);
    const page = await browser.context.newPage();
    t.after(() => page.close());
    if (transport === "polling") await page.addInitScript(() => { delete window.WebSocket; });
    const requests = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("websocket", (socket) => requests.push(socket.url()));
    await page.goto(`${flaskUrl}/login`);
    await page.getByPlaceholder("Your name").fill("ann");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("ann is here", { exact: true }).waitFor();
    await page.getByPlaceholder("Say something").fill("hello");
    await page.getByRole("button", { name: "Say" }).click();
    await page.getByText("ann: hello", { exact: true }).waitFor();
    await until(`it speaks ${transport}`, () => requests.some((url) => url.startsWith("ws:")) === (transport === "websocket"));
    await page.goto(`${flaskUrl}/logout`);
  });
});
