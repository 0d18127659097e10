//! The generator's clock: nanoseconds since the generator started.
//!
//! The one file of the generator that reads the time; every other takes a [`Moment`] as an argument, so the
//! checks and the workloads can be tested without waiting.

#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

/// A point in time, in nanoseconds since the clock was started. Small enough to travel in every payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) u64);

/// Where moments come from.
pub(super) struct Clock {
    start: Instant,
}

impl Moment {
    /// Later than anything that happens: the deadline of what has none.
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// The nanoseconds from `earlier` to this, 0 when it is not earlier.
    pub(super) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to this, zero when it is not earlier.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// This moment, `wait` later.
    pub(super) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Clock {
    /// A clock that shows zero now.
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub(super) fn now(&self) -> Moment {
        Moment::default().after(self.start.elapsed())
    }
}

/// Seconds since 1970, only to tell runs apart.
pub(super) fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}
