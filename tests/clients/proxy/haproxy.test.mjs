// Clients through HAProxy with the configuration of docs/behind-haproxy.md.

import { after, before, test } from "node:test";
import { checkClients, startProxy } from "./proxy.mjs";

let haproxy;
let log = "";

before(async () => {
  haproxy = await startProxy("haproxy", "haproxy.cfg.template", (_, config) => ["-db", "-f", config], "pipe");
  haproxy.child.stdout.on("data", (chunk) => { log += chunk; });
});

after(() => haproxy?.stop());

test("polling, WebSocket and upgrading clients, zero 400s", async (t) => {
  await checkClients(t, haproxy.url, async () => {
    const lines = log.trimEnd().split("\n").filter((line) => / \//.test(line));
    // The termination state begins with C when the client hung up, as one may on its own poll when it disconnects.
    return lines.map((line) => (/^\S+ C/.test(line) && !line.startsWith("101") ? "hung up" : line.replace(/^(200|101) .*/, "$1")));
  });
});
