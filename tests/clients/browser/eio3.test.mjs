// socket.io-client 2.5.0 in Chromium: polling in bytes, JSONP, WebSocket.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { isReference, serverUrl } from "../js/lib/target.mjs";
import { startBrowser, watch } from "./chromium.mjs";

const URL = serverUrl("OLDER_URL");
const only = { skip: isReference && "the reference server does not allow EIO3" };
const library = createRequire(new globalThis.URL("../js/package.json", import.meta.url)).resolve("socket.io-client-2/dist/socket.io.js");
let browser;

before(async () => { browser = await startBrowser(); });
after(() => browser?.stop());

const ROWS = {
  "polling in bytes": { transports: ["polling"] },
  "polling as text": { transports: ["polling"], forceBase64: true },
  JSONP: { transports: ["polling"], forceJSONP: true },
  WebSocket: { transports: ["websocket"] },
  upgrade: {},
};

for (const [name, options] of Object.entries(ROWS)) {
  test(name, only, async () => {
    const page = await browser.context.newPage();
    const errors = watch(page);
    await page.goto(URL);
    await page.addScriptTag({ content: await readFile(library, "utf8") });
    const seen = await page.evaluate((options) => new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error("nothing within 6 s")), 6_000);
      const socket = window.io("/custom?who=page", { forceNew: true, ...options });
      socket.on("error", (error) => reject(new Error(String(error))));
      const seen = {};
      socket.on("auth", (auth) => { seen.auth = auth; });
      socket.on("connect", () => {
        socket.on("message-back", (text, bytes) => {
          seen.text = text;
          seen.bytes = [...new Uint8Array(bytes)];
          socket.emit("client-id", (id) => { seen.isOwnId = id === socket.id; socket.close(); resolve(seen); });
        });
        socket.emit("message", "żółć 🦀 \u2028 line\nend \\n", new Uint8Array([0, 4, 255]).buffer);
      });
    }), options);
    assert.deepEqual(seen, { auth: { who: "page" }, text: "żółć 🦀 \u2028 line\nend \\n", bytes: [0, 4, 255], isOwnId: true });
    assert.deepEqual(errors.filter((error) => !/favicon|Failed to load resource/.test(error)), []);
    await page.close();
  });
}
