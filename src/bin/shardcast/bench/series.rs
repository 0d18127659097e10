//! What happened when: a run's window in intervals of equal length, and its stages.
//!
//! An interval counts what came in it, whenever that was due. A stage has what was due in it, whenever that came: so what a load of one stage
//! delayed is charged to that stage.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::Moment;
use super::measure::{Quantiles, histogram};

/// Lengths that an interval may have, in milliseconds.
const INTERVAL_MILLIS: [u64; 11] =
    [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000];
/// The most intervals of a run: as many as a plot can show beside each other.
pub(super) const INTERVALS_MAX: u64 = 120;

/// One interval, or one stage.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Interval {
    /// When it begins, from the window's begin.
    pub(super) start_seconds: f64,
    /// How long it is; the last one may have been cut short.
    pub(super) seconds: f64,
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages received.
    pub(super) received: u64,
    /// Sessions opened.
    pub(super) sessions: u64,
    /// Sessions that broke or could not be opened.
    pub(super) broken: u64,
    /// Of what was received.
    pub(super) latency_us: Option<Quantiles>,
}

/// Intervals, one after another.
pub(super) struct Series {
    from: Moment,
    length: Duration,
    /// The interval under way, and its latencies.
    current: Interval,
    latency: Histogram<u64>,
    number: u64,
    done: Vec<Interval>,
}

impl Series {
    /// Intervals for a window of this length.
    pub(super) fn new(from: Moment, window: Duration) -> Self {
        Self {
            from,
            length: interval_of(window),
            current: Interval::default(),
            latency: histogram(),
            number: 0,
            done: Vec::new(),
        }
    }

    /// The interval of `now`, to count in.
    pub(super) fn at(&mut self, now: Moment) -> &mut Interval {
        self.turn_to(now);
        &mut self.current
    }

    /// A message came that took so long.
    pub(super) fn record(&mut self, now: Moment, nanos: u64) {
        self.turn_to(now);
        self.latency.saturating_record(nanos);
    }

    /// All intervals up to `end`.
    pub(super) fn finish(&mut self, end: Moment) -> Vec<Interval> {
        self.turn_to(end);
        let seconds = end.since(self.from).as_secs_f64() - self.current.start_seconds;
        // A sliver at the end would be a rate from nearly nothing.
        if seconds >= self.length.as_secs_f64() / 4.0 {
            self.close(seconds);
        }
        std::mem::take(&mut self.done)
    }

    fn turn_to(&mut self, now: Moment) {
        let number = (now.since(self.from).as_nanos() / self.length.as_nanos()) as u64;
        while self.number < number && (self.done.len() as u64) < INTERVALS_MAX {
            self.close(self.length.as_secs_f64());
        }
    }

    fn close(&mut self, seconds: f64) {
        let latency_us = Quantiles::of(&self.latency);
        self.done.push(Interval { seconds, latency_us, ..std::mem::take(&mut self.current) });
        self.latency.reset();
        self.number += 1;
        self.current.start_seconds = self.number as f64 * self.length.as_secs_f64();
    }
}

/// The shortest length of which a window has no more than fit.
fn interval_of(window: Duration) -> Duration {
    let fits = |millis: &&u64| u128::from(**millis) * u128::from(INTERVALS_MAX) >= window.as_millis();
    // The longest of these divides a day into fewer.
    Duration::from_millis(*INTERVAL_MILLIS.iter().find(fits).unwrap_or(&INTERVAL_MILLIS[10]))
}

// A day is the longest window, and must fit.
const _: () = assert!(INTERVAL_MILLIS[10] * INTERVALS_MAX >= 24 * 3600 * 1000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_short_enough_to_see_and_long_enough_to_fit() {
        for (seconds, millis) in
            [(1, 100), (10, 100), (12, 100), (13, 200), (60, 500), (120, 1_000), (86_400, 900_000)]
        {
            assert_eq!(interval_of(Duration::from_secs(seconds)), Duration::from_millis(millis), "{seconds}");
        }
    }

    #[test]
    fn what_comes_is_counted_where_it_comes_and_gaps_stay_empty() {
        let mut series = Series::new(Moment(1_000), Duration::from_secs(1));
        let at = |millis: u64| Moment(1_000 + millis * 1_000_000);
        series.at(at(0)).sent += 1;
        series.at(at(99)).received += 1;
        series.record(at(99), 5_000_000);
        series.at(at(350)).received += 2;
        let done = series.finish(at(450));
        let starts: Vec<f64> = done.iter().map(|interval| (interval.start_seconds * 10.0).round()).collect();
        assert_eq!(starts, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(done.iter().map(|interval| interval.received).collect::<Vec<_>>(), [1, 0, 0, 2, 0]);
        assert!(
            (done[4].seconds - 0.05).abs() < 1e-9
                && done[0].latency_us.is_some()
                && done[3].latency_us.is_none()
        );
    }
}
