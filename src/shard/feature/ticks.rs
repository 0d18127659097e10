//! The times of tickers: what is due, what is made up for, what is skipped.

use std::time::Duration;

use crate::base::time::Time;
use crate::shard::feature::Feature;

/// Missed ticks that are made up for, one right after the other; those beyond are skipped.
pub(crate) const CATCH_UP_MAX: u64 = 3;

/// Where a ticker has got to.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The namespace's place in the app, and the ticker's in the namespace.
    pub(crate) namespace: usize,
    pub(crate) ticker: usize,
    pub(crate) period: Duration,
    pub(crate) start: Time,
    /// The number of the next tick.
    pub(crate) next: u64,
}

impl Progress {
    fn deadline(&self) -> Time {
        self.time_of(self.next)
    }

    fn time_of(&self, number: u64) -> Time {
        beat_at(self.start, self.period, number)
    }

    /// Passes over ticks that are too many to be made up for; says how many.
    fn skip(&mut self, now: Time) -> u64 {
        let skipped = missed_since(self.deadline(), self.period, now).saturating_sub(CATCH_UP_MAX);
        self.next = self.next.saturating_add(skipped);
        skipped
    }
}

/// When the beat of a number comes: the first, which has the number 0, a period after the start. Parts of a millisecond are kept
/// from beat to beat.
pub(crate) fn beat_at(start: Time, period: Duration, number: u64) -> Time {
    let nanos = period.as_nanos().saturating_mul(u128::from(number) + 1);
    start + Duration::from_millis(u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX))
}

/// How many beats there are from the one that is due at a time until now, both included.
pub(crate) fn missed_since(due: Time, period: Duration, now: Time) -> u64 {
    if now < due {
        return 0;
    }
    let behind = now.since(due).as_nanos() / period.as_nanos().max(1);
    u64::try_from(behind).unwrap_or(u64::MAX).saturating_add(1)
}

/// The tickers of one shard.
#[derive(Debug)]
pub(crate) struct Ticks {
    pub(crate) progress: Vec<Progress>,
    /// When the first of them is due; `NEVER` without any.
    pub(crate) due: Time,
}

impl Default for Ticks {
    fn default() -> Ticks {
        Ticks { progress: Vec::new(), due: Time::NEVER }
    }
}

impl Feature<'_, Ticks> {
    /// Finds out when the next tick is due, which is asked more often than it changes.
    pub(crate) fn note_next(&mut self) {
        self.own.due = self.own.progress.iter().map(Progress::deadline).min().unwrap_or(Time::NEVER);
    }

    /// Passes over what a ticker has missed for good; says how much that is.
    pub(crate) fn skip(&mut self, index: usize) -> u64 {
        let now = self.tables.env.now;
        let skipped = self.own.progress.get_mut(index).map_or(0, |progress| progress.skip(now));
        if skipped > 0 {
            self.tables.env.counters.ticks_skipped.add(skipped);
            tracing::warn!(skipped, "this shard was held up: ticks are left out");
        }
        skipped
    }

    /// The number and the lateness of a tick that is due.
    pub(crate) fn take(&mut self, index: usize) -> Option<(u64, Duration)> {
        let now = self.tables.env.now;
        let progress = self.own.progress.get_mut(index).filter(|progress| progress.deadline() <= now)?;
        let (number, lateness) = (progress.next, now.since(progress.deadline()));
        progress.next += 1;
        Some((number, lateness))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_times_whatever_the_period() {
        // 60 a second: 16.67 ms apart, and a second has sixty.
        let period = Duration::from_secs(1) / 60;
        let mut progress = Progress { namespace: 0, ticker: 0, period, start: Time(1000), next: 0 };
        let times: Vec<u64> = (0..5).map(|number| progress.time_of(number).0).collect();
        assert_eq!(times, [1016, 1033, 1049, 1066, 1083]);
        assert_eq!(progress.time_of(59), Time(1999));
        for (now, skipped, next) in [(1016, 0, 0), (1050, 0, 0), (1066, 1, 1), (2000, 56, 57)] {
            let before = progress.next;
            assert_eq!((progress.skip(Time(now)), progress.next), (skipped, next), "at {now} from {before}");
        }
    }
}
