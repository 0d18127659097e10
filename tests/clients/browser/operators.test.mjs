// The operators' page on the admin listener, in Chromium at three sizes, in light and dark: what it shows, and that it asks nobody else.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { freePort, lastFirst, member, startShardcast } from "../js/lib/fleet.mjs";
import { until } from "../js/lib/wait.mjs";
import { SCREENSHOTS, startBrowser, watch } from "./chromium.mjs";

const SIZES = { phone: [320, 640], tablet: [768, 1024], desk: [1400, 900] };
const PATIENCE_MS = 20_000;
let browser;

before(async () => {
  browser = await startBrowser();
});
after(() => browser?.stop());

async function serve(t, settings = {}) {
  const admin = await freePort();
  const server = await startShardcast(t, { url: "" }, { admin_bind: `127.0.0.1:${admin}`, ...settings });
  return { ...server, admin: `http://127.0.0.1:${admin}/` };
}

async function open(t, url) {
  const page = await browser.context.newPage();
  const errors = watch(page);
  const elsewhere = [];
  page.on("request", (request) => request.url().startsWith(new URL(url).origin) || request.url().startsWith("data:") || elsewhere.push(request.url()));
  t.after(() => assert.deepEqual([errors, elsewhere], [[], []]));
  t.after(() => page.close());
  await page.goto(url);
  return page;
}

const sees = (page, text) => page.getByText(text, { exact: true }).first().waitFor({ timeout: PATIENCE_MS });

test("shards, rooms, refusals and one client's packets are shown, and names are only text", async (test) => {
  const t = lastFirst(test);
  const server = await serve(t);
  const clients = await Promise.all([1, 2, 3].map(() => member(t, server)));
  const evil = "<img src=x onerror=alert(1)>";
  for (const client of clients) client.emit("join", "lobby");
  clients[0].emit("join", evil);
  await fetch(`${server.url}/socket.io/?EIO=9`);
  const page = await open(t, server.admin);
  await sees(page, "lobby");
  await sees(page, evil);
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.locator("#shards tr").count(), 2);
  await page.getByText("requests refused (requests_refused)").waitFor({ timeout: PATIENCE_MS });
  await until("the sockets are counted", async () => (await page.locator("#sums div").filter({ hasText: "sockets" }).innerText()).includes("3"), PATIENCE_MS);

  await page.getByLabel("Id of a socket").fill(clients[1].id);
  await page.getByRole("button", { name: "Trace for a minute" }).click();
  await page.getByText(`Tracing ${clients[1].id}: `).waitFor({ timeout: PATIENCE_MS });
  assert.equal(await clients[1].timeout(PATIENCE_MS).emitWithAck("message-with-ack", "traced"), "traced");
  await page.getByText('["message-with-ack","traced"]').first().waitFor({ timeout: PATIENCE_MS });
  for (const [name, [width, height]] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `${name}: the page is ${overflow} px too wide`);
      await page.screenshot({ path: `${SCREENSHOTS}/operators-${name}-${colorScheme}.png`, fullPage: true });
    }
  }
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
  assert.equal(await page.locator("input:not([id])").count(), 0, "each field has a label");
});

test("a server that goes away is said, and its return too", async (t) => {
  const server = await serve(t);
  const page = await browser.context.newPage();
  t.after(() => page.close());
  await page.goto(server.admin);
  await page.getByText(/^ready, for /).waitFor({ timeout: PATIENCE_MS });
  await server.stop();
  await page.getByText(/^No figures: .* Trying again\.$/).waitFor({ timeout: PATIENCE_MS });
});

test("who has no password sees nothing", async (t) => {
  const server = await serve(t, { admin_user: "ada", admin_password: "lovelace" });
  for (const path of ["", "page.js", "page.css", "status.json"]) assert.equal((await fetch(server.admin + path)).status, 401, path);
  assert.equal((await fetch(`${server.admin}trace?client=aaaaaaaaaaaaaaaaaaaa`, { method: "POST" })).status, 401);
  const url = new URL(server.admin);
  Object.assign(url, { username: "ada", password: "lovelace" });
  const page = await browser.context.newPage();
  t.after(() => page.close());
  await page.goto(url.href);
  await page.getByText(/^ready, for /).waitFor({ timeout: PATIENCE_MS });
});
