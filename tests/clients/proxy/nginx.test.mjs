// Clients through nginx with its default settings and the upgrade headers.

import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { serverUrl } from "../js/lib/target.mjs";
import { addresses, checkClients, startProxy } from "./proxy.mjs";

let nginx;

before(async () => {
  nginx = await startProxy("nginx", "nginx.conf.template", (folder, config) => ["-p", folder, "-c", config, "-e", "error.log"]);
});

after(() => nginx?.stop());

test("polling, WebSocket and upgrading clients, zero 400s", async (t) => {
  await checkClients(t, nginx.url, async () => {
    const lines = (await readFile(path.join(nginx.folder, "access.log"), "utf8")).trimEnd().split("\n");
    // 499 is a client that hung up on its own poll, as a client may when it disconnects.
    return lines.map((line) => (/^499 - /.test(line) ? "hung up" : line.replace(/^(200|101) .*/, "$1")));
  });
});

test("the client's address is what nginx says, and not what the client says", async () => {
  const own = { route: "127.0.0.9", handshake: "127.0.0.9" };
  assert.deepEqual(await addresses(nginx.url), own);
  assert.deepEqual(await addresses(nginx.url, { "X-Forwarded-For": "192.0.2.66, 127.0.0.1" }), own);
  // Without the proxy: this address is not trusted.
  assert.deepEqual(await addresses(serverUrl("SHARDED_URL"), { "X-Forwarded-For": "192.0.2.66" }), own);
});
