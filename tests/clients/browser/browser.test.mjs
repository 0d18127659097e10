// Two real browser pages on the demo page, on different shards where there are several, chat in one room.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { isReference, serverUrl } from "../js/lib/target.mjs";
import { until } from "../js/lib/wait.mjs";
import { SCREENSHOTS, startBrowser, watch } from "./chromium.mjs";

const DEMO = serverUrl("DEMO_URL");
const PAGES_MAX = 16; // their keys reach every one of 4 shards
let browser;

before(async () => { browser = await startBrowser(); });
after(() => browser?.stop());

/** A page that says it is connected, with the errors it met and its shard. */
async function open(query = "") {
  const page = await browser.context.newPage();
  const errors = watch(page);
  await page.goto(`${DEMO}/${query}`);
  await page.locator("#status", { hasText: /^\s*connected/i }).waitFor();
  await page.locator("#shard", { hasText: /\d/ }).waitFor();
  return { page, errors, shard: Number((await page.locator("#shard").textContent()).match(/\d+/)[0]) };
}

async function join({ page }, name, room) {
  await page.locator("#name").fill(name);
  await page.locator("#room").fill(room);
  await page.locator("#join").click();
  await page.locator("#log", { hasText: room }).waitFor();
}

async function say({ page }, text) {
  await page.locator("#message").fill(text);
  await page.locator("#send").click();
}

const hears = ({ page }, text) => page.locator("#log", { hasText: text }).waitFor();
const transport = ({ page }, name) => page.locator("#transport", { hasText: name }).waitFor();

test("two pages on different shards chat in one room", async (t) => {
  const room = `room-${process.pid}`;
  const first = await open();
  let second = await open();
  for (let pages = 2; !isReference && second.shard === first.shard && pages < PAGES_MAX; pages++) {
    await second.page.close();
    // A browser keeps its connections, so pages tend to share a shard; a key sends this one elsewhere.
    second = await open(`?shard_key=${pages}`);
  }
  if (!isReference) assert.notEqual(second.shard, first.shard, `${PAGES_MAX} pages were all on shard ${first.shard}`);
  t.diagnostic(`shards ${first.shard} and ${second.shard}`);
  for (const each of [first, second]) await transport(each, "websocket");

  await join(first, "Ann", room);
  await join(second, "Ben", room);
  await say(first, "hello from Ann");
  await hears(first, "hello from Ann");
  await hears(second, "hello from Ann");
  await say(second, "Ben answers with żółć 🦀 <b>&amp;");
  await hears(first, "Ben answers with żółć 🦀 <b>&amp;");

  // Another room hears nothing: its own later message is its first.
  const outsider = await open();
  await join(outsider, "Eve", `${room}-elsewhere`);
  await say(first, "only for the room");
  await hears(second, "only for the room");
  await say(outsider, "Eve alone");
  await hears(outsider, "Eve alone");
  assert.doesNotMatch(await outsider.page.locator("#log").textContent(), /only for the room|hello from Ann/);

  for (const id of ["#connections", "#messages"]) {
    await until(`${id} counts`, async () => /^\s*[1-9]/.test(await first.page.locator(id).textContent()), 5_000);
  }
  await first.page.screenshot({ path: path.join(SCREENSHOTS, "demo-first.png") });
  await second.page.screenshot({ path: path.join(SCREENSHOTS, "demo-second.png") });
  for (const each of [first, second, outsider]) assert.deepEqual(each.errors, []);
});

test("a page that stays on long-polling hears the others", { skip: isReference && "the reference page always upgrades" }, async () => {
  const room = `polling-${process.pid}`;
  const [slow, quick] = [await open("?transport=polling"), await open()];
  await transport(slow, "polling");
  await join(slow, "Slow", room);
  await join(quick, "Quick", room);
  await say(quick, "over to polling");
  await hears(slow, "over to polling");
  await say(slow, "and back");
  await hears(quick, "and back");
  await transport(slow, "polling");
  assert.deepEqual(slow.errors, []);
});
