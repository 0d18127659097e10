// One headless Chromium with a profile of its own.

import { mkdtemp, mkdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const { chromium } = createRequire(new URL("../js/package.json", import.meta.url))("playwright-core");

/** Where screenshots are kept for whoever wants to look. */
export const SCREENSHOTS = process.env.SCREENSHOTS ?? fileURLToPath(new URL("../../../target/screenshots/", import.meta.url));

/** Starts it; `args` are more arguments of Chromium, the other `options` those of a context, such as `hasTouch`. */
export async function startBrowser({ args = [], ...options } = {}) {
  await mkdir(SCREENSHOTS, { recursive: true });
  const profile = await mkdtemp(path.join(tmpdir(), "shardcast-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    viewport: { width: 1200, height: 800 },
    ...options,
    // No sandbox as root; the rest keeps it from calling home.
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...args],
  });
  context.setDefaultTimeout(20_000);
  const stop = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, stop };
}

/** Collects what a page complains of, but for answers that are expected of a URL. Chromium asks for an icon whenever it likes. */
export function watch(page, isExpected = () => false) {
  const errors = [];
  const complain = (url, text) => url.endsWith("/favicon.ico") || isExpected(url) || errors.push(text);
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && complain(message.location().url, message.text()));
  page.on("response", (response) => response.status() >= 400
    && complain(response.url(), `${response.status()} ${response.request().method()} ${response.url()}`));
  return errors;
}
