// A page of an application in Chromium, as its user sees it; prints what was seen, as JSON.
//
//   browser.mjs introduction|app|app_namespace|sessions URL [FOLDER]    FOLDER has what the pages load from elsewhere, by its file's name

import { readFileSync } from "node:fs";
import path from "node:path";
import { startBrowser, watch } from "../../clients/browser/chromium.mjs";

const [name, url, folder] = process.argv.slice(2);
const { context, stop } = await startBrowser();
const seen = [];

/** Scripts of other hosts, which pages name with their checksums: the same files, from the registry. */
await context.route((asked) => !asked.href.startsWith(url), (route) => {
  const file = new URL(route.request().url()).pathname.match(/socket\.io\/3\.0\.4/) ? "socket.io-3.0.4.js" : path.basename(new URL(route.request().url()).pathname);
  try {
    route.fulfill({ body: readFileSync(path.join(folder, file)), contentType: file.endsWith(".css") ? "text/css" : "text/javascript", headers: { "access-control-allow-origin": "*" } });
  } catch {
    route.abort();
  }
});
async function open() {
  const page = await context.newPage();
  page.complaints = watch(page, (asked) => asked.endsWith(".css"));
  await page.goto(url);
  return page;
}
// What follows from a click; the application says something by itself every ten seconds.
const OWN = /Received #\d+: (?!Server)/g;
const has = (page, selector, text) => page.waitForFunction(([where, what]) => document.querySelector(where)?.textContent.includes(what), [selector, text]);

const SCENES = {
  async introduction() {
    const [ann, ben] = [await open(), await open()];
    for (const page of [ann, ben]) await has(page, "#state", "connected");
    await ann.getByLabel("Message").fill("hello");
    await ann.getByRole("button", { name: "Send" }).click();
    await has(ben, "#log", "broadcast: hello");
    await has(ann, "#log", "broadcast: hello");
    await has(ann, "#log", "answer: HELLO");
    seen.push(await ben.locator("#log").textContent());
    await ann.screenshot({ path: path.join(process.env.SCREENSHOTS, "flask-introduction.png") });
    return [ann, ben];
  },
  async app() {
    const [ann, ben] = [await open(), await open()];
    const count = async (page) => (await page.locator("#log").textContent()).match(OWN)?.length ?? 0;
    const act = async (page, form, fields, wanted) => {
      const before = await Promise.all([ann, ben].map(count));
      for (const [field, text] of Object.entries(fields)) await page.locator(`#${field}`).fill(text);
      await page.locator(`form#${form} input[type=submit]`).click();
      await page.waitForFunction((least) => document.querySelector("#log").textContent.match(/Received #\d+: (?!Server)/g)?.length >= least, before[0] + wanted);
      await page.waitForTimeout(100);
      seen.push([form, await Promise.all([ann, ben].map(count)).then((now) => now.map((each, at) => each - before[at]))]);
    };
    for (const page of [ann, ben]) await has(page, "#log", "I'm connected!");
    await act(ann, "emit", { emit_data: "to me" }, 1);
    await act(ann, "broadcast", { broadcast_data: "to all" }, 1);
    await act(ann, "join", { join_room: "tea" }, 1);
    await act(ann, "send_room", { room_name: "tea", room_data: "to tea" }, 1);
    await act(ann, "leave", { leave_room: "tea" }, 1);
    await act(ann, "join", { join_room: "tea" }, 1);
    await act(ann, "close", { close_room: "tea" }, 1);
    await ann.waitForFunction(() => document.querySelector("#ping-pong").textContent !== "");
    seen.push(await ann.locator("#transport").textContent());
    await act(ann, "disconnect", {}, 1);
    const text = async (page) => (await page.locator("#log").innerText()).split("\n").filter((line) => line && !line.includes("Server generated")).map((line) => line.replace(/In rooms: .*/, (rooms) => `In rooms: ${rooms.split(", ").length}`));
    seen.push(await text(ann), await text(ben));
    await ann.screenshot({ path: path.join(process.env.SCREENSHOTS, `flask-${name}.png`) });
    return [ann, ben];
  },
  app_namespace: () => SCENES.app(),
  async sessions() {
    const page = await open();
    const shows = async (id, text) => { await has(page, `#${id}`, text); seen.push(`${id}: ${text}`); };
    await shows("http-user", "anonymous");
    await page.locator("#http-session-set").fill("from http");
    await page.locator("#submit-http").click();
    await shows("http-session", "from http");
    await page.locator("#http-user-set").fill("ada");
    await page.locator("#login-http").click();
    await shows("http-user", "ada");
    await page.locator("#connect").click();
    await shows("socketio-session", "from http");
    await shows("socketio-user", "ada");
    await page.locator("#socketio-session-set").fill("from a socket");
    await page.locator("#submit-socketio").click();
    await shows("socketio-session", "from a socket");
    await shows("http-session", "from a socket");
    await page.locator("#logout-http").click();
    await shows("http-user", "anonymous");
    await shows("socketio-user", "anonymous");
    await page.screenshot({ path: path.join(process.env.SCREENSHOTS, "flask-sessions.png") });
    return [page];
  },
};

try {
  const pages = await SCENES[name]();
  console.log(JSON.stringify({ seen, complaints: pages.flatMap((page) => page.complaints) }));
} finally {
  await stop();
}
