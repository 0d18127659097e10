//! The clock: the one place where time is read.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::Time;

/// One origin for all the shards of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    unix_origin: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { origin: Instant::now(), unix_origin: unix.as_millis() as u64 }
    }

    /// Milliseconds since the origin.
    pub(crate) fn now(&self) -> Time {
        Time(self.origin.elapsed().as_millis() as u64)
    }

    /// Finer than `now`, for measuring how busy a shard is.
    pub(crate) fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Unix time of the origin, in milliseconds.
    pub(crate) fn unix_origin(&self) -> u64 {
        self.unix_origin
    }
}
