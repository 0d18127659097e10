//! Handlers that hold their shard: while user code runs, the other clients of the shard wait. A handler that runs for too long is
//! named in the log, and counted.
//!
//! The shard reads no clock; whoever drives it gives it one to ask. It is asked once for each call of user code, after it: what comes
//! between two calls is the shard's own, and short.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Time;

/// Tells the time while a shard works. A coarse clock will do, and costs a few nanoseconds.
pub(crate) type ClockReader = Arc<dyn Fn() -> Time + Send + Sync>;

/// Tells nanoseconds of the process' clock. It costs some 50 of them, so it is asked seldom.
pub(crate) type Stopwatch = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The log has at most one line about it in so long, from each shard; the next one says how many were left out.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// Finds out which user code holds the shard.
pub(crate) struct Watch {
    clock: ClockReader,
    /// The setting `slow_handler`; zero is off.
    held_max: Duration,
    /// When the last user code was done, or the shard was called: what runs now began then.
    since: Cell<Time>,
    /// Before that there is no further line.
    next_line: Cell<Time>,
    left_out: Cell<u64>,
}

impl Watch {
    pub(crate) fn new(clock: ClockReader, held_max: Duration) -> Watch {
        Watch {
            clock,
            held_max,
            since: Cell::default(),
            next_line: Cell::default(),
            left_out: Cell::default(),
        }
    }

    /// User code may take so long from now on.
    pub(crate) fn allow(&mut self, held_max: Duration) {
        self.held_max = held_max;
    }

    /// The shard is called.
    #[inline]
    pub(crate) fn begin(&self, now: Time) {
        self.since.set(self.since.get().max(now));
    }

    /// User code is done. How long it took, if that is too long.
    #[inline]
    pub(crate) fn end(&self) -> Option<Duration> {
        if self.held_max.is_zero() {
            return None;
        }
        let now = (self.clock)();
        let held = now.since(self.since.get());
        self.begin(now);
        (held > self.held_max).then_some(held)
    }

    /// Whether the log may have another line now, and how many it did not have since the last one.
    pub(crate) fn take_line(&self) -> Option<u64> {
        if self.since < self.next_line {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.next_line.set(self.since.get() + LINE_PERIOD);
        Some(self.left_out.take())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn only_what_took_too_long_is_told_and_at_most_one_line_a_second() {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        let read = Arc::new(move || Time(clock.load(Ordering::Relaxed)));
        let watch = Watch::new(read.clone(), Duration::from_millis(100));
        // When the shard is called, how long user code runs then, what is told, and whether a line is written.
        let rows = [
            (1_000, 100, None, None),
            (1_200, 101, Some(101), Some(0)),
            (1_400, 200, Some(200), None),
            (1_700, 300, Some(300), None),
            (2_301, 5_000, Some(5_000), Some(2)),
            // The driver's time may be older than ours.
            (7_000, 50, None, None),
        ];
        for (called, takes, held, line) in rows {
            watch.begin(Time(called));
            now.store(called.max(watch.since.get().0) + takes, Ordering::Relaxed);
            let told = watch.end();
            assert_eq!(told, held.map(Duration::from_millis), "at {called}");
            assert_eq!(told.and_then(|_| watch.take_line()), line, "at {called}");
        }
        let off = Watch::new(read, Duration::ZERO);
        off.begin(Time(0));
        assert_eq!(off.end(), None);
    }
}
