// Starts an example, or the demo, and opens its page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import path from "node:path";
import { next, until } from "../js/lib/wait.mjs";
import { watch } from "./chromium.mjs";

const FOLDER = process.env.EXAMPLES_DIR ?? "target/release/examples";
const DEMO_BIN = process.env.DEMO_BIN ?? "target/release/shardcast";
/** How long a busy machine may take to start an example, to end it, or to fill a table. */
export const PATIENCE_MS = 20_000;

/** Starts an example for as long as a test runs; gives a function that opens its page, after `prepare` has had it. */
export async function startExample(t, browser, name, shards = 2) {
  const port = await freePort();
  const env = { ...process.env, SHARDCAST_BIND: `127.0.0.1:${port}`, SHARDCAST_SHARDS: `${shards}` };
  const command = name === "demo" ? [DEMO_BIN, "serve"] : [path.join(FOLDER, name)];
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "ignore", "inherit"], env });
  const pages = [];
  t.after(async () => {
    // Pages first: one that is left behind asks in vain for the server that has gone.
    await Promise.all(pages.map((page) => page.close()));
    const ended = next(child, "exit", PATIENCE_MS);
    child.kill("SIGTERM");
    const [code] = await ended;
    assert.equal(code, 0, `${name} ended with ${code}`);
  });
  const url = `http://127.0.0.1:${port}/`;
  await until(`${name} listens`, () => fetch(url).then((response) => response.ok, () => false), PATIENCE_MS);
  return async (prepare = () => {}) => {
    const page = await browser.context.newPage();
    pages.push(page);
    const errors = watch(page, isOfSession);
    t.after(() => assert.deepEqual(errors, []));
    await prepare(page);
    await page.goto(url);
    return page;
  };
}

/**
 * A client that is refused polls again and closes at the same moment, over two connections: where the close is first, that poll has no
 * session. Who loses a session otherwise does not see what its test waits for.
 */
const isOfSession = (url) => new URL(url).searchParams.has("sid");

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
