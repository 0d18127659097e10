// Clients through nginx with its default settings and the upgrade headers.

import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import { checkClients, startProxy } from "./proxy.mjs";

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
