// Bounded waiting: every promise here settles, and says what it was waiting for when it gives up.

/** The promise's value, or an error naming `what` after `ms`. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The arguments of the emitter's next `event`. */
export function next(emitter, event, ms = 10_000) {
  return within(ms, `event ${event}`, new Promise((resolve) => emitter.once(event, (...args) => resolve(args))));
}

/** Repeats `attempt` until it is true: for what the other side does without telling us. */
export async function until(what, attempt, ms = 10_000) {
  const deadline = performance.now() + ms;
  for (;;) {
    if (await attempt()) return;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
    await pause(20);
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Collects events until `count` have come; more than that later is visible in the same array. */
export function collect(emitter, event) {
  const seen = [];
  const waiters = [];
  emitter.on(event, (...args) => {
    seen.push(args.length > 1 ? args : args[0]);
    for (const waiter of waiters) if (seen.length >= waiter.count) waiter.resolve();
  });
  seen.reaches = (count, ms = 15_000) => seen.length >= count ? Promise.resolve()
    : within(ms, `${count} events ${event}`, new Promise((resolve) => waiters.push({ count, resolve })))
      .catch((error) => { throw new Error(`${error.message} (${seen.length} came)`); });
  return seen;
}
