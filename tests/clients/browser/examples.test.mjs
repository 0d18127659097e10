// Each example as its user sees it: started, its page opened, its buttons pressed.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { until } from "../js/lib/wait.mjs";
import { SCREENSHOTS, startBrowser } from "./chromium.mjs";
import { PATIENCE_MS, startExample } from "./examples.mjs";

let browser;

before(async () => { browser = await startBrowser(); });
after(() => browser?.stop());

const start = (t, name) => startExample(t, browser, name);
const press = (page, button) => page.getByRole("button", { name: button }).click();
const fill = (page, label, text) => page.getByLabel(label, { exact: true }).fill(text);
const sees = (page, text) => page.getByText(text, { exact: true }).waitFor();

test("echo", async (t) => {
  const page = await (await start(t, "echo"))();
  await fill(page, "Say something", "hello");
  await press(page, "Send");
  await sees(page, "hello");
  await sees(page, "HELLO");
});

test("first steps", async (t) => {
  const open = await start(t, "first_steps");
  const [first, second] = [await open(), await open()];
  const lines = (page) => page.locator("#lines").textContent();
  const hears = (page, line) => until(line, async () => (await lines(page)).split("\n").includes(line), PATIENCE_MS);
  await hears(second, "Ada says hello");
  await fill(first, "Say", "tea is ready");
  await press(first, "Send");
  for (const page of [first, second]) await hears(page, "Ada says tea is ready");
  await second.close();
  await hears(first, "Ada has gone: transport close");
});

test("chat", async (t) => {
  const open = await start(t, "chat");
  const [ann, ben] = [await open(), await open()];
  const enter = async (page, name, room) => {
    await fill(page, "Your name", name);
    await fill(page, "Room", room);
    await press(page, "Enter");
  };
  const say = async (page, text) => {
    await fill(page, "Say something", text);
    await press(page, "Say");
  };
  await enter(ben, "x".repeat(21), "tea");
  await sees(ben, "a name has 1 to 20 characters");
  await enter(ann, "Ann", "tea");
  await sees(ann, "You are in tea.");
  await enter(ben, "Ben", "tea");
  await sees(ann, "Ben is here.");
  await say(ann, "hello <b>");
  await sees(ben, "Ann: hello <b>");
  await ann.screenshot({ path: path.join(SCREENSHOTS, "example-chat.png") });
  await ben.close();
  await sees(ann, "Ben has left.");
});

test("private messages", async (t) => {
  const open = await start(t, "private_messages");
  const pages = [await open(), await open(), await open()];
  for (const [page, name] of [[pages[0], "ann"], [pages[1], "ben"], [pages[2], "eve"]]) {
    await fill(page, "Your name", name);
    await press(page, "Log in");
    await sees(page, `Logged in as ${name}.`);
    await sees(page, `Welcome, ${name}`);
  }
  for (const [to, text] of [["ben", "only you"], ["eve", "good bye"]]) {
    await fill(pages[0], "To", to);
    await fill(pages[0], "Message", text);
    await press(pages[0], "Send");
  }
  await sees(pages[1], "ann: only you");
  await sees(pages[2], "ann: good bye");
  assert.doesNotMatch(await pages[2].locator("#messages").textContent(), /only you/);
});

test("tokio interop", async (t) => {
  const page = await (await start(t, "tokio_interop"))();
  await press(page, "Another one");
  await sees(page, "Simplicity is prerequisite for reliability.");
  await press(page, "Another one");
  await sees(page, "Premature optimization is the root of all evil.");
});

test("class namespace", async (t) => {
  const open = await start(t, "class_namespace");
  const [ada, bob] = [await open(), await open()];
  const read = async (page, name, number) => {
    await fill(page, "Your name", name);
    await fill(page, "Document, a number", number);
    await press(page, "Open");
  };
  const add = async (page, text) => {
    await fill(page, "Add a line", text);
    await press(page, "Add");
  };
  const text = (page) => page.locator("pre").textContent();
  await read(ada, "Ada", "seven");
  await sees(ada, "no such document");
  await read(ada, "Ada", "7");
  await sees(ada, "document 7 is open");
  await add(ada, "first");
  await sees(ada, "6 bytes");
  await read(bob, "Bob", "7");
  await sees(ada, "Bob has opened it, too");
  await until("Bob reads the line", async () => (await text(bob)) === "first\n", PATIENCE_MS);
  await add(bob, "second");
  await sees(ada, "Bob has added a line");
  await add(bob, "x".repeat(2_000));
  await sees(bob, "that is too much at once");
  assert.deepEqual([await text(ada), await text(bob)], ["first\nsecond\n", "first\nsecond\n"]);
  await read(bob, "Bob", "8");
  await sees(ada, "Bob has left");
});

test("game", async (t) => {
  const open = await start(t, "game");
  const [ann, ben, eve] = [await open(), await open(), await open()];
  const play = async (page, name, game) => {
    await fill(page, "Your name", name);
    await fill(page, "Game", game);
    await press(page, "Play");
  };
  await play(ann, "Ann", "");
  await sees(ann, "shard_key names the game");
  await play(ann, "Ann", "north");
  await play(ben, "Ben", "north");
  await play(eve, "Eve", "south");
  await sees(ben, "Ann is at 200, 200; Ben is at 200, 200");
  await sees(eve, "Eve is at 200, 200");
  await ann.keyboard.down("ArrowRight");
  await sees(ben, "Ann is at 400, 200; Ben is at 200, 200");
  await ann.keyboard.up("ArrowRight");
  await ben.keyboard.down("ArrowUp");
  await sees(ann, "Ann is at 400, 200; Ben is at 200, 0");
  await ann.screenshot({ path: path.join(SCREENSHOTS, "example-game.png") });
  await ben.close();
  await sees(ann, "Ann is at 400, 200");
});

test("dashboard", async (t) => {
  const open = await start(t, "dashboard");
  const first = await open();
  const rows = (page) => page.locator("#machines li").allTextContents();
  const number = async (page, id) => Number.parseFloat(await page.locator(id).textContent());
  await until("the table is full", async () => (await rows(first)).length === 30, PATIENCE_MS);
  await first.waitForTimeout(2_000);

  // Everything at once, once; then what has changed, which is not everything.
  const second = await open();
  await until("the second table is full", async () => (await rows(second)).length === 30, PATIENCE_MS);
  assert.equal(await second.locator("#everything").textContent(), "1");
  assert.equal(await second.locator("#everything + small").textContent(), "30 rows in the last");
  const begin = performance.now();
  await second.evaluate(() => { socket.on("machines", (values, all) => (window.seen ??= []).push([Object.keys(values).length, all])); });
  const shown = await rows(second);
  await second.waitForTimeout(3_000);
  const seen = await second.evaluate(() => window.seen.splice(0));
  const seconds = (performance.now() - begin) / 1000;
  // A few more may have waited for the page.
  assert.ok(seen.length >= 2 * seconds && seen.length <= 10 * seconds + 3, `${seen.length} events in ${seconds} seconds`);
  assert.ok(seen.every(([, all]) => !all), "a page that keeps up gets changes alone");
  assert.ok(seen.some(([keys]) => keys < 30), "what has not changed is not sent");
  assert.ok(await number(second, "#rate") <= 11);
  assert.ok(await number(second, "#reports") > 5 * await number(second, "#rate"), "many reports, few events");
  assert.notDeepEqual(await rows(second), shown);

  // Both show the same machines; the oldest ones leave, and others come.
  const names = (page) => page.locator("#machines .name").allTextContents();
  const [oldest] = await names(first);
  await until("the oldest machine leaves both pages", async () =>
    (await Promise.all([names(first), names(second)])).every((list) => !list.includes(oldest)), PATIENCE_MS);
  await until("both show the same", async () => {
    const [left, right] = await Promise.all([names(first), names(second)]);
    return left.length === 30 && left.join() === right.join();
  }, PATIENCE_MS);
  await second.screenshot({ path: path.join(SCREENSHOTS, "example-dashboard.png") });
});
