// Server-sent events in Chromium: a stock EventSource reads them, and comes back where it was.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { isReference, serverUrl } from "../js/lib/target.mjs";
import { startBrowser, watch } from "./chromium.mjs";

const URL = serverUrl("SERVER_URL");

let browser;
before(async () => { if (!isReference) browser = await startBrowser(); });
after(() => browser?.stop());

describe("EventSource", { skip: isReference && "the reference has no such route" }, () => {
  test("gets every event once, over connections that end after three", async (t) => {
    const page = await browser.context.newPage();
    t.after(() => page.close());
    await page.goto(`${URL}/`);
    const errors = watch(page);
    const seen = await page.evaluate(() => new Promise((resolve, reject) => {
      const [source, seen] = [new EventSource("/ticks"), []];
      setTimeout(() => reject(new Error(`only ${JSON.stringify(seen)} within 6 s`)), 6_000);
      source.addEventListener("tick", (event) => {
        seen.push([event.lastEventId, event.data]);
        if (seen.length === 10) { source.close(); resolve(seen); }
      });
    }));
    assert.deepEqual(seen, Array.from({ length: 10 }, (_, index) => [String(index + 1), `tick\n${index + 1}`]));
    assert.deepEqual(errors, []);
  });

  test("fetch reads a streamed answer, and leaves in the middle", async (t) => {
    const page = await browser.context.newPage();
    t.after(() => page.close());
    await page.goto(`${URL}/`);
    const [whole, part] = await page.evaluate(async () => {
      const whole = (await (await fetch("/lines?count=500")).text()).length;
      const reader = (await fetch("/lines?count=1000000")).body.getReader();
      let part = 0;
      while (part < 300_000) part += (await reader.read()).value.length;
      await reader.cancel();
      return [whole, part];
    });
    assert.equal(whole, 500_000);
    assert.ok(part < 3_000_000);
    assert.equal(await page.evaluate(async () => (await fetch("/hello")).status), 200);
  });
});
