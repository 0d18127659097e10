// Stock socket.io-client connections that a test owns and that close with it.

import { io } from "socket.io-client";
import { next } from "./wait.mjs";

/** How a client may reach the server; each suite runs once for each. */
export const VARIANTS = {
  polling: { transports: ["polling"] },
  websocket: { transports: ["websocket"] },
  upgrade: {},
};

/** A client that is not yet connected; it is closed when the test ends. */
export function client(t, url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  t.after(() => socket.io.engine ? socket.io._close() : socket.disconnect());
  return socket;
}

/** A connected client. A variant that upgrades is returned at once, still on polling. */
export async function connected(t, url, options = {}) {
  const socket = client(t, url, options);
  await arrival(socket);
  return socket;
}

/** A connected client on its last transport. */
export async function settled(t, url, options = {}) {
  const socket = await connected(t, url, options);
  if (!options.transports) await upgraded(socket);
  return socket;
}

export async function upgraded(socket) {
  if (socket.io.engine.transport.name !== "websocket") await next(socket.io.engine, "upgrade");
}

/** Waits for `connect`, and turns a refusal into an error. */
export function arrival(socket, ms = 8_000) {
  if (socket.connected) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not connected within ${ms} ms`)), ms);
    const settle = (run) => (value) => (clearTimeout(timer), run(value));
    socket.once("connect", settle(resolve));
    socket.once("connect_error", settle(reject));
  });
}

/** An acknowledged emit that fails rather than waits for ever. */
export const ask = (socket, ...args) => socket.timeout(8_000).emitWithAck(...args);
