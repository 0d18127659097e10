// Socket.IO's own admin page, `@socket.io/admin-ui` of npm, in Chromium: somebody logs in, looks, and does things to stock clients.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { member, startRedis, startShardcast } from "../js/lib/fleet.mjs";
import { pause, until } from "../js/lib/wait.mjs";
import { SCREENSHOTS, startBrowser } from "./chromium.mjs";

const require = createRequire(new URL("../js/package.json", import.meta.url));
const bcrypt = require("bcryptjs");
const { io } = require("socket.io-client");
const LOGIN = { username: "admin", password: "changeit" };
/** bcrypt in a debug build, two processes and a browser on a busy machine. */
const PATIENCE_MS = 30_000;
/** The page moves its parts in and out, for a third of a second each. */
const SETTLED_MS = 1000;
let browser;

before(async () => {
  browser = await startBrowser();
  // The page asks two public hosts for fonts; the tests have no network.
  await browser.context.route(/fonts\.googleapis\.com|cdn\.jsdelivr\.net/, (route) => route.fulfill({ contentType: "text/css", body: "" }));
});
after(() => browser?.stop());

/** A server with the page's namespace, and none of a broker's. */
const serve = (t, settings = {}, broker = { url: "" }) => startShardcast(t, broker, {
  admin_ui: "development", admin_ui_user: LOGIN.username, admin_ui_password: bcrypt.hashSync(LOGIN.password, 4), ...settings,
});

/** Opens the page as a person does who has never been there, and logs in. */
async function open(t, { url }, { password = LOGIN.password, advanced = {} } = {}) {
  const page = await browser.context.newPage();
  t.after(() => page.close());
  await page.goto(`${url}/admin/`);
  await page.getByLabel("Server URL").fill(url);
  await page.getByLabel("Username").fill(LOGIN.username);
  await page.getByLabel("Password").fill(password);
  if (Object.keys(advanced).length > 0) await page.getByText("Advanced options").click();
  for (const [label, text] of Object.entries(advanced)) {
    if (text === true) await page.getByText(label).click();
    else await page.getByLabel(label).fill(text);
  }
  await connect(page).click();
  return page;
}

/** The button of the form to log in, which is there until somebody is in. */
const connect = (page) => page.getByRole("button", { name: "Connect", exact: true });
const isIn = (page) => connect(page).waitFor({ state: "hidden", timeout: PATIENCE_MS });
/** Goes to a part of the page, and waits until the one before has moved out. */
async function go(page, place) {
  await page.evaluate((place) => { location.hash = `#/${place}/`; }, place);
  await pause(SETTLED_MS);
}
const row = (page, text) => page.locator("tbody tr").filter({ hasText: text });
const sees = (page, text) => row(page, text).first().waitFor({ timeout: PATIENCE_MS });
const isGone = (page, text) => row(page, text).first().waitFor({ state: "detached", timeout: PATIENCE_MS });
/** Presses a button of a row. The page takes that for a click on the row as well, and shows its details: back to the list. */
async function press(page, place, text, which = "first") {
  await row(page, text)[which]().waitFor({ timeout: PATIENCE_MS });
  await row(page, text).last().getByRole("button")[which]().click();
  await pause(SETTLED_MS);
  if (place) await go(page, place);
}
/** What pages call a client. It is not the session's id: who knows that could speak for the client. */
async function clientOf(t, { url }, socketId) {
  const page = await member(t, { url: `${url}/admin` }, { auth: LOGIN });
  const shown = () => page.seen.flatMap(([name, what]) => ({ all_sockets: what, socket_connected: [what] })[name] ?? []);
  await until("the socket is described", () => shown().some(({ id }) => id === socketId));
  page.disconnect();
  return shown().find(({ id }) => id === socketId).clientId;
}
const hasLeft = (client) => client.seen.some(([name]) => name === "disconnect");
const rooms = async (client) => (await client.timeout(5_000).emitWithAck("rooms")).filter((room) => room !== client.id);

test("a wrong password is refused, the right one lets in, and so does the session after a reload", async (t) => {
  const server = await serve(t);
  const page = await open(t, server, { password: "nope" });
  await page.getByText("Invalid credentials").waitFor({ timeout: PATIENCE_MS });
  await page.getByLabel("Password").fill(LOGIN.password);
  await connect(page).click();
  await isIn(page);
  await until("a session is kept", () => page.evaluate(() => localStorage.getItem("session_id")?.length > 16));
  await page.reload();
  await go(page, "servers");
  await sees(page, `${server.child.pid}`);
  assert.ok(!(await connect(page).isVisible()), "nobody is asked again");
  // Another process with the same settings knows the session as well.
  const session = await page.evaluate(() => localStorage.getItem("session_id"));
  const other = await serve(t, { admin_ui_password: bcrypt.hashSync("something else", 4) });
  for (const [url, auth, expected] of [
    [server.url, { sessionId: session }, "connect"],
    [other.url, { sessionId: session }, "invalid credentials"],
    [server.url, { ...LOGIN, password: 7 }, "invalid credentials"],
    [server.url, {}, "invalid credentials"],
    [server.url, undefined, "invalid credentials"],
  ]) {
    const socket = io(`${url}/admin`, { auth, forceNew: true, reconnection: false });
    t.after(() => socket.disconnect());
    const said = await new Promise((resolve) => socket.on("connect", () => resolve("connect")).on("connect_error", ({ message }) => resolve(message)));
    assert.equal(said, expected);
  }
});

test("sockets, rooms, clients and events are seen, and what is done from the page reaches stock clients", async (t) => {
  const server = await serve(t);
  const early = await member(t, server);
  early.emit("join", "early room");
  early.emit("set-data", { name: "Ada" });
  const page = await open(t, server);
  await isIn(page);
  await page.screenshot({ path: `${SCREENSHOTS}/admin-ui-dashboard.png` });
  const late = await member(t, server, { transports: ["polling"] });
  late.emit("join", "late room");
  // Who is disconnected forgets its id.
  const ids = { early: early.id, late: late.id };

  await go(page, "sockets");
  for (const id of Object.values(ids)) await sees(page, id);
  await row(page, ids.late).getByText("HTTP long-polling").waitFor({ timeout: PATIENCE_MS });
  await page.screenshot({ path: `${SCREENSHOTS}/admin-ui-sockets.png` });

  await go(page, "rooms");
  await sees(page, "late room");
  await sees(page, "early room");
  // "Clear" is the first button of a room, "disconnect" the second.
  await press(page, "rooms", "late room");
  await isGone(page, "late room");
  assert.deepEqual(await rooms(late), []);
  await row(page, "early room").getByText("early room").click();
  await sees(page, ids.early);
  await press(page, "", ids.early);
  await until("the client has left the room", async () => (await rooms(early)).length === 0);

  await go(page, "sockets");
  await row(page, ids.early).getByText(ids.early).click();
  await page.getByText("\"name\": \"Ada\"").waitFor({ timeout: PATIENCE_MS });
  await page.getByLabel("Join a room").fill("made by admin");
  await page.getByLabel("Join a room").press("Enter");
  await page.locator("form").getByRole("button").last().click();
  await until("the client is in the room", async () => (await rooms(early)).includes("made by admin"));
  await page.screenshot({ path: `${SCREENSHOTS}/admin-ui-socket.png` });

  await go(page, "events");
  early.emit("nothing handles this", { a: 2 });
  await sees(page, "nothing handles this");
  await page.screenshot({ path: `${SCREENSHOTS}/admin-ui-events.png` });

  await go(page, "sockets");
  await press(page, "sockets", ids.late, "last");
  await until("the client is disconnected", () => hasLeft(late));
  assert.deepEqual(late.seen.at(-1), ["disconnect", "io server disconnect"]);
  await isGone(page, ids.late);
  const connection = await clientOf(t, server, ids.early);
  await go(page, "clients");
  await sees(page, connection);
  assert.match(await row(page, connection).innerText(), /127\.0\.0\.1/);
  await until("the page and the first client are shown", async () => (await page.locator("tbody tr").count()) === 2);
  await press(page, "", connection);
  await until("the connection is closed", () => hasLeft(early));
});

test("a page that may only look can do nothing, also where it tries", async (t) => {
  const server = await serve(t, { admin_ui_read_only: true, admin_ui_namespace: "/ops" });
  const client = await member(t, server);
  const page = await open(t, server, { advanced: { "Admin namespace": "/ops" } });
  await isIn(page);
  await go(page, "sockets");
  await sees(page, client.id);
  assert.equal(await row(page, client.id).getByRole("button").count(), 0, "there is no button");
  const admin = await member(t, { url: `${server.url}/ops` }, { auth: LOGIN });
  admin.emit("_disconnect", "/", true, client.id);
  admin.emit("join", "/", "a room", client.id);
  await pause(200);
  assert.deepEqual(await rooms(client), []);
  assert.ok(client.connected);
});

test("who is on this machine asks by its address, and through no proxy", async (t) => {
  const server = await serve(t, { admin_ui: "production", admin_ui_auth: "loopback", admin_ui_user: "", admin_ui_password: "" });
  for (const [extraHeaders, expected] of [
    [{}, "connect"],
    [{ host: "localhost:5000" }, "connect"],
    [{ host: "evil.example" }, "only from the machine that the server runs on"],
    [{ "x-forwarded-for": "192.0.2.1" }, "only from the machine that the server runs on"],
  ]) {
    const socket = io(`${server.url}/admin`, { extraHeaders, transports: ["websocket"], forceNew: true, reconnection: false });
    t.after(() => socket.disconnect());
    const said = await new Promise((resolve) => socket.on("connect", () => resolve("connect")).on("connect_error", ({ message }) => resolve(message)));
    assert.equal(said, expected, JSON.stringify(extraHeaders));
  }
});

test("in production sums are shown, by WebSocket and the msgpack parser too", async (t) => {
  const server = await serve(t, { admin_ui: "production", admin_ui_server_id: "the one", parser: "auto", io: "epoll" });
  await member(t, server);
  const page = await open(t, server, { advanced: { "WebSocket only?": true } });
  await isIn(page);
  assert.equal(await page.getByRole("link", { name: "Sockets" }).count(), 0);
  await go(page, "servers");
  await sees(page, "the one");
  await page.screenshot({ path: `${SCREENSHOTS}/admin-ui-production.png` });
});

test("two processes are shown as two, and a client of either is reached from the page of one", async (t) => {
  const redis = await startRedis(t);
  // Both wires, and both processes on two shards.
  const [one, two] = [await serve(t, { io: "auto" }, redis), await serve(t, { io: "epoll" }, redis)];
  const [near, far] = [await member(t, one), await member(t, two)];
  far.emit("join", "far room");
  const id = far.id;
  const page = await open(t, one);
  await isIn(page);
  await go(page, "servers");
  for (const { child } of [one, two]) await sees(page, `#${child.pid}`);
  await page.screenshot({ path: `${SCREENSHOTS}/admin-ui-servers.png` });
  await go(page, "sockets");
  for (const client of [near, far]) await sees(page, client.id);
  await go(page, "rooms");
  await sees(page, "far room");
  await press(page, "rooms", "far room");
  await isGone(page, "far room");
  assert.deepEqual(await rooms(far), []);
  await go(page, "sockets");
  await press(page, "sockets", id, "last");
  await until("the far client is disconnected", () => hasLeft(far));
  assert.ok(near.connected);
  await isGone(page, id);
});
