//! How far the end of a shard has come.

use std::time::Duration;

use crate::base::time::Time;

/// How often sessions are sent away while a shard drains.
pub(crate) const DRAIN_STEP: Duration = Duration::from_millis(50);

/// With recovery on, what other threads say reaches a shard through one shard that relays it. A shard that is asked to stop waits so
/// long for the relaying shard, which may be stuck.
pub(crate) const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// Requests to stop: how many have come, and how many are done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stops {
    pub(crate) asked: u32,
    pub(crate) done: u32,
    /// Until when this shard waits for the broker to take its sockets; nothing before it has to.
    pub(crate) leaves_until: Option<Time>,
}

/// How far the spread end of a shard has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// When the last session ends.
    pub(crate) until: Time,
    /// Sessions there were when it began.
    pub(crate) sessions: usize,
    /// Sessions that it has ended.
    pub(crate) ended: usize,
    /// How far it has got in the table of sessions: there are none left before that place, because no session opens any more.
    pub(crate) next: u32,
}

impl Drain {
    /// How many sessions should have ended by now.
    pub(crate) fn due(&self, now: Time, spread: Duration) -> usize {
        let left = if self.until > now { self.until.since(now) } else { Duration::ZERO };
        let kept = (self.sessions as u128 * left.as_micros()).div_ceil(spread.as_micros().max(1));
        self.sessions.saturating_sub(kept as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_due_in_proportion() {
        let drain = Drain { until: Time(10_000), sessions: 7, ended: 0, next: 0 };
        let due = |now| drain.due(Time(now), Duration::from_secs(10));
        assert_eq!([0, 1, 1_428, 1_429, 5_000, 9_999, 10_000, 20_000].map(due), [0, 0, 0, 1, 3, 6, 7, 7]);
        assert_eq!(drain.due(Time(0), Duration::ZERO), 0);
    }
}
