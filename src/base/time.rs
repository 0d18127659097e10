//! Time as a value. Only the driver and the simulation make one; everything else is told.

use std::time::Duration;

/// Milliseconds since the process chose its origin. Monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Time(pub(crate) u64);

impl Time {
    /// Later than everything: a deadline that never comes.
    pub(crate) const NEVER: Time = Time(u64::MAX);

    /// So much earlier; what never comes does not come earlier.
    pub(crate) fn before(self, duration: Duration) -> Time {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if self == Time::NEVER { self } else { Time(self.0.saturating_sub(millis)) }
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub(crate) fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(millis))
    }
}
