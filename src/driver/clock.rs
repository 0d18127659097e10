//! The clock: the one place where time is read.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::base::time::Time;
use crate::shard::value::watch::{ClockReader, Stopwatch};

/// A shard that works hears the time of the wall clock so often. The clock may be set at any moment, by NTP after the machine's
/// start, say; reading it costs some 20 ns.
const WALL_PERIOD: Duration = Duration::from_secs(1);

/// One origin for all the shards of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    unix_origin: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { origin: Instant::now(), unix_origin: unix_millis() }
    }

    /// Milliseconds since the origin.
    pub(crate) fn now(&self) -> Time {
        Time(self.origin.elapsed().as_millis() as u64)
    }

    /// Finer than `now`, for measuring how busy a shard is.
    pub(crate) fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A clock for what is asked after each handler: it may be some milliseconds old, and costs a few nanoseconds.
    pub(crate) fn coarse(&self) -> ClockReader {
        // Both follow the kernel's monotonic clock.
        let origin = coarse_millis().saturating_sub(self.now().0);
        Arc::new(move || Time(coarse_millis().saturating_sub(origin)))
    }

    /// A clock for what is timed, to the nanosecond.
    pub(crate) fn stopwatch(self) -> Stopwatch {
        Arc::new(move || self.elapsed().as_nanos() as u64)
    }

    /// Unix time of the origin, in milliseconds.
    pub(crate) fn unix_origin(&self) -> u64 {
        self.unix_origin
    }
}

/// When a shard is to be told the time of the wall clock again.
#[derive(Debug, Default)]
pub(crate) struct WallWatch {
    next: Cell<Duration>,
}

impl WallWatch {
    /// Unix time in milliseconds, if a shard that begins to work has not heard it for a while.
    #[inline]
    pub(crate) fn take_due(&self, elapsed: Duration) -> Option<u64> {
        if elapsed < self.next.get() {
            return None;
        }
        self.next.set(elapsed + WALL_PERIOD);
        Some(unix_millis())
    }
}

fn coarse_millis() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The kernel's monotonic clock, as other processes read it.
pub(crate) fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_tells_the_same_time_and_is_not_ahead() {
        let clock = Clock::new();
        let coarse = clock.coarse();
        for _ in 0..1000 {
            let (told, now) = (coarse(), clock.now());
            assert!(told <= now + Duration::from_millis(1), "{told:?} at {now:?}");
        }
    }

    #[test]
    fn the_wall_clock_is_read_once_a_second_of_work() {
        let (watch, before) = (WallWatch::default(), unix_millis());
        let told = [0, 1, 999, 1_000, 1_999, 7_000, 7_999, 8_000];
        let told = told.map(|millis| watch.take_due(Duration::from_millis(millis)));
        assert_eq!(told.map(|told| told.is_some()), [true, false, false, true, false, true, false, true]);
        assert!(told.into_iter().flatten().all(|unix| unix >= before));
    }
}
