// Every page that we show to somebody, on a telephone, a tablet and a desk: it needs nothing of others, says what to try, and can be read,
// touched and heard. Look at the screenshots, too.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { until } from "../js/lib/wait.mjs";
import { SCREENSHOTS, startBrowser, watch } from "./chromium.mjs";
import { PATIENCE_MS, startExample } from "./examples.mjs";

const SIZES = [[320, 640], [768, 1024], [1280, 800]];
/** WCAG 2.2, 2.5.8: what a finger hits. */
const TARGET_PX = 24;
let browser;

before(async () => { browser = await startBrowser({ hasTouch: true }); });
after(() => browser?.stop());

const fill = (page, label, text) => page.getByLabel(label, { exact: true }).fill(text);
const tap = (page, name) => page.getByRole("button", { name, exact: true }).tap();
const sees = (page, text) => page.getByText(text, { exact: true }).first().waitFor();

/** What somebody does on each page with a finger, so that all of it is there to be looked at. */
const PAGES = {
  async echo(page) {
    await fill(page, "Say something", "hello");
    await tap(page, "Send");
    await sees(page, "HELLO");
  },
  async first_steps(page) {
    await fill(page, "Say", "tea is ready");
    await tap(page, "Send");
    await until("it comes back", async () => /Ada says tea is ready/.test(await page.locator("#lines").textContent()), PATIENCE_MS);
  },
  async chat(page) {
    await fill(page, "Your name", "Ann");
    await fill(page, "Room", "tea");
    await tap(page, "Enter");
    await sees(page, "You are in tea.");
    await fill(page, "Say something", "one word without a place to break it: ".padEnd(120, "x"));
    await tap(page, "Say");
    await page.locator("#lines li").last().waitFor();
  },
  async private_messages(page) {
    await fill(page, "Your name", "ann");
    await tap(page, "Log in");
    await sees(page, "Welcome, ann");
    await fill(page, "To", "ann");
    await fill(page, "Message", "to myself");
    await tap(page, "Send");
    await sees(page, "to ann: to myself");
  },
  async tokio_interop(page) {
    await tap(page, "Another one");
    await sees(page, "Simplicity is prerequisite for reliability.");
  },
  async class_namespace(page) {
    await fill(page, "Your name", "Ada");
    await fill(page, "Document, a number", "7");
    await tap(page, "Open");
    await sees(page, "document 7 is open");
    await fill(page, "Add a line", "y".repeat(90));
    await tap(page, "Add");
    await until("the line is there", async () => /y{90}/.test(await page.locator("pre").textContent()), PATIENCE_MS);
  },
  async game(page) {
    await fill(page, "Your name", "Ann");
    await fill(page, "Game", `north of ${page.viewportSize().width}`); // a game of each size: who has left one may still be seen
    await tap(page, "Play");
    await sees(page, "Ann is at 200, 200");
  },
  async dashboard(page) {
    await until("the table is full", async () => await page.locator("#machines li").count() === 30, PATIENCE_MS);
  },
  async demo(page) {
    await fill(page, "Name", "Ann");
    await fill(page, "Room", "tea");
    await tap(page, "Join");
    await sees(page, "You joined #tea as Ann.");
    await fill(page, "Message", "hello ".repeat(20));
    await tap(page, "Send");
    await page.locator("#log .bubble").first().waitFor();
  },
};

/** What is wrong with the page as it is now, for whoever has a small screen, a finger or a screen reader. Runs in the page. */
function faults(target) {
  const found = [];
  const name = (node) => `${node.tagName.toLowerCase()}${node.id && `#${node.id}`} ${node.name || node.textContent.trim().slice(0, 20)}`;
  if (!document.documentElement.lang) found.push("html has no lang");
  if (!document.title) found.push("there is no title");
  if (!document.querySelector('meta[name="viewport"]')) found.push("there is no viewport");
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) {
    const widest = [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > innerWidth);
    found.push(`it is ${wide} px too wide: ${widest.map(name).join(", ")}`);
  }
  for (const node of document.querySelectorAll("input, button, select, textarea, a[href], meter, canvas, img")) {
    if (!node.checkVisibility() || node.ariaHidden === "true") continue;
    const label = node.ariaLabel || node.labels?.[0]?.textContent.trim() || node.alt || (/^(A|BUTTON)$/.test(node.tagName) && node.textContent.trim());
    if (!label) found.push(`${name(node)} has no name`);
    const { width, height, left, right } = node.getBoundingClientRect();
    if (!/^(A|BUTTON|INPUT|SELECT|TEXTAREA)$/.test(node.tagName)) continue;
    if (left < 0 || right > innerWidth + 0.5) found.push(`${name(node)} is outside`);
    if (width < target || height < target) found.push(`${name(node)} is ${width.toFixed(1)} x ${height.toFixed(1)}`);
  }
  return found;
}

for (const [name, use] of Object.entries(PAGES)) {
  test(name, async (t) => {
    const open = await startExample(t, browser, name);
    for (const [width, height] of SIZES) {
      const asked = new Set();
      const page = await open(async (page) => {
        await page.setViewportSize({ width, height });
        page.on("request", (request) => asked.add(request.url()));
        page.on("websocket", (socket) => asked.add(socket.url().replace(/^ws/, "http")));
      });
      const { origin } = new URL(page.url());
      const size = `${width}x${height}`;
      // Before anything is done: what to try is said, and seen without scrolling.
      const hint = page.getByText(/^Try it: /);
      await hint.waitFor();
      assert.ok((await hint.boundingBox()).y < height, `${size}: what to try is out of sight`);
      assert.deepEqual(await page.evaluate(faults, TARGET_PX), [], `${size}, at first`);
      await use(page);
      assert.deepEqual(await page.evaluate(faults, TARGET_PX), [], `${size}, in use`);
      await page.screenshot({ path: path.join(SCREENSHOTS, `page-${name}-${size}.png`) });
      const elsewhere = [...asked].filter((url) => !url.startsWith("data:") && new URL(url).origin !== origin);
      assert.deepEqual(elsewhere, [], "all comes from the server itself");
      assert.ok(asked.size > 1);
      await page.close();
    }
  });
}

test("a game is played with a finger", async (t) => {
  const open = await startExample(t, browser, "game");
  const page = await open((page) => page.setViewportSize({ width: 320, height: 640 }));
  await PAGES.game(page);
  const finger = await browser.context.newCDPSession(page);
  const touch = (type, ...touchPoints) => finger.send("Input.dispatchTouchEvent", { type, touchPoints });
  // Left after right: whoever has not let go of right stays where it is.
  for (const [name, end] of [["Right", 400], ["Left", 0]]) {
    const button = page.getByRole("button", { name, exact: true });
    await button.scrollIntoViewIfNeeded();
    const { x, y, width, height } = await button.boundingBox();
    await touch("touchStart", { x: x + width / 2, y: y + height / 2 });
    await sees(page, `Ann is at ${end}, 200`);
    await touch("touchEnd");
  }
});

/** The window that the demo's link opens, with what it complains of. */
async function second(page) {
  const opening = browser.context.waitForEvent("page");
  await page.locator("#invite").tap();
  const other = await opening;
  const errors = watch(other);
  await other.locator("#shard", { hasText: /\d/ }).waitFor();
  return [other, errors];
}

const shard = (page) => page.locator("#shard").textContent();

for (const [shards, says] of [
  [1, () => "This server has one shard: this window is on it, and so is the one that opened it."],
  [2, (first, other) => `This window is on shard ${other}. The one that opened it was on shard ${first}.`],
]) {
  test(`the demo's second window, of ${shards} shards`, async (t) => {
    const open = await startExample(t, browser, "demo", shards);
    const first = await open();
    await PAGES.demo(first);
    for (let windows = 0; windows < 4; windows++) {
      const [other, errors] = await second(first);
      const where = await shard(other);
      if (shards > 1) assert.notEqual(where, await shard(first));
      await sees(other, says(await shard(first), where));
      assert.equal(await other.getByLabel("Room", { exact: true }).inputValue(), "tea");
      await tap(other, "Join");
      await fill(other, "Message", `from window ${windows}`);
      await tap(other, "Send");
      await sees(first, `from window ${windows}`);
      if (windows === 0) await other.screenshot({ path: path.join(SCREENSHOTS, `demo-second-of-${shards}.png`) });
      assert.deepEqual(errors, []);
      await other.close();
    }
  });
}
