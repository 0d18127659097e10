//! Latencies and counts of one run.
//!
//! A latency is counted from the moment in the payload: in an open loop when the message was due, so a server
//! (or a generator) that stalls is charged for every message it delayed, not just for the one it held
//! (coordinated omission). It counts when that moment lies in the measured window, even if the message
//! arrives after its end.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::Moment;
use super::limits::LATENCY_MAX;
use super::series::{Interval, Series};

/// What was measured.
pub(super) struct Measure {
    /// The window. Nothing counts before it is set.
    pub(super) from: Moment,
    /// Its end.
    pub(super) until: Moment,
    /// Of messages: sending to receiving.
    pub(super) latency: Histogram<u64>,
    /// The same for the clients that stop reading.
    pub(super) slow_latency: Histogram<u64>,
    /// Closed-loop broadcasts: sending until the last client has it.
    pub(super) completion: Histogram<u64>,
    /// Begin of a session until it is open.
    pub(super) connect: Histogram<u64>,
    /// Open loop: how late messages were sent.
    pub(super) lag: Histogram<u64>,
    /// Messages sent in the window.
    pub(super) sent: u64,
    /// Messages received in the window, by healthy and other clients.
    pub(super) received: u64,
    /// Sessions opened in the window.
    pub(super) sessions: u64,
    /// `ticks`: how far the time between two ticks was from their period. `storm`: from the loss of a session until it is back.
    pub(super) special: Histogram<u64>,
    series: Option<Series>,
    stages: Vec<Stage>,
}

/// A part of the window with a load of its own.
struct Stage {
    from: Moment,
    until: Moment,
    counts: Interval,
    latency: Histogram<u64>,
}

/// A distribution of times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Quantiles {
    /// How many there are.
    pub(super) count: u64,
    /// The shortest.
    pub(super) min: f64,
    /// Their mean.
    pub(super) mean: f64,
    /// Half are not longer; and so on.
    pub(super) p50: f64,
    pub(super) p75: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// The longest.
    pub(super) max: f64,
}

/// One point of a distribution: this share of the times is not longer.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Percentile {
    /// 0 to 1.
    pub(super) share: f64,
    /// In microseconds.
    pub(super) us: f64,
}

/// Points of a distribution between a power of two of the rest and the next: enough for a smooth line.
const POINTS_PER_HALF: u32 = 4;

impl Quantiles {
    /// Of what was recorded; none of nothing.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Self {
            count: histogram.len(),
            min: histogram.min() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// The whole distribution as a line.
pub(super) fn percentiles(histogram: &Histogram<u64>) -> Vec<Percentile> {
    let steps = histogram.iter_quantiles(POINTS_PER_HALF);
    let point = |step: hdrhistogram::iterators::IterationValue<u64>| Percentile {
        share: step.quantile_iterated_to(),
        us: step.value_iterated_to() as f64 / 1e3,
    };
    steps.map(point).collect()
}

impl Measure {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            from: Moment::NEVER,
            until: Moment::NEVER,
            latency: histogram(),
            slow_latency: histogram(),
            completion: histogram(),
            connect: histogram(),
            lag: histogram(),
            sent: 0,
            received: 0,
            sessions: 0,
            special: histogram(),
            series: None,
            stages: Vec::new(),
        }
    }

    /// Sets the window, with stages of these lengths.
    pub(super) fn begin(&mut self, from: Moment, duration: Duration, stages: &[Duration]) {
        self.from = from;
        self.until = from.after(duration);
        self.series = Some(Series::new(from, duration));
        let mut start = from;
        for &length in stages {
            let counts = Interval { start_seconds: start.since(from).as_secs_f64(), ..Interval::default() };
            let until = start.after(length);
            self.stages.push(Stage { from: start, until, counts, latency: histogram() });
            start = until;
        }
    }

    /// Ends the window before its time.
    pub(super) fn end_early(&mut self, now: Moment) {
        self.until = self.until.min(now);
    }

    /// The window's intervals, one after another.
    pub(super) fn intervals(&mut self) -> Vec<Interval> {
        let until = self.until;
        self.series.as_mut().map(|series| series.finish(until)).unwrap_or_default()
    }

    /// What each stage that began came to.
    pub(super) fn stages(&mut self) -> Vec<Interval> {
        let until = self.until;
        let stages = std::mem::take(&mut self.stages).into_iter().filter(|stage| stage.from < until);
        let count = |stage: Stage| Interval {
            seconds: stage.until.min(until).since(stage.from).as_secs_f64(),
            latency_us: Quantiles::of(&stage.latency),
            ..stage.counts
        };
        stages.map(count).collect()
    }

    /// A message went out that was due at `due`.
    pub(super) fn note_sent(&mut self, due: Moment, now: Moment) {
        if self.holds(now) {
            self.sent += 1;
            self.count(now, |interval| interval.sent += 1);
        }
        if let Some(stage) = self.stage(due) {
            stage.counts.sent += 1;
        }
        if self.holds(due) {
            self.lag.saturating_record(now.nanos_since(due));
        }
    }

    /// A message came to a client that reads.
    pub(super) fn note_received(&mut self, due: Moment, now: Moment) {
        let nanos = now.nanos_since(due);
        if self.holds(now) {
            self.received += 1;
            self.count(now, |interval| interval.received += 1);
            if let Some(series) = &mut self.series {
                series.record(now, nanos);
            }
        }
        if let Some(stage) = self.stage(due) {
            stage.counts.received += 1;
            stage.latency.saturating_record(nanos);
        }
        if self.holds(due) {
            self.latency.saturating_record(nanos);
        }
    }

    /// A message came to a client of the slow share.
    pub(super) fn note_received_slow(&mut self, due: Moment, now: Moment) {
        if self.holds(now) {
            self.received += 1;
            self.count(now, |interval| interval.received += 1);
        }
        if self.holds(due) {
            self.slow_latency.saturating_record(now.nanos_since(due));
        }
    }

    /// A broadcast reached its last receiver.
    pub(super) fn note_completed(&mut self, due: Moment, now: Moment) {
        if self.holds(due) {
            self.completion.saturating_record(now.nanos_since(due));
        }
    }

    /// A session opened. All count for the time it took, whatever the window: most scenarios open theirs
    /// before it.
    pub(super) fn note_connected(&mut self, begun: Moment, now: Moment) {
        self.connect.saturating_record(now.nanos_since(begun));
        if self.holds(now) {
            self.sessions += 1;
            self.count(now, |interval| interval.sessions += 1);
        }
        if let Some(stage) = self.stage(begun) {
            stage.counts.sessions += 1;
        }
    }

    /// A session broke, or could not be opened.
    pub(super) fn note_broken(&mut self, now: Moment) {
        if self.holds(now) {
            self.count(now, |interval| interval.broken += 1);
        }
        if let Some(stage) = self.stage(now) {
            stage.counts.broken += 1;
        }
    }

    /// The scenario's own time: see [`Measure::special`].
    pub(super) fn note_special(&mut self, now: Moment, nanos: u64) {
        if self.holds(now) {
            self.special.saturating_record(nanos);
        }
    }

    fn count(&mut self, now: Moment, count: impl FnOnce(&mut Interval)) {
        if let Some(series) = &mut self.series {
            count(series.at(now));
        }
    }

    fn stage(&mut self, due: Moment) -> Option<&mut Stage> {
        self.stages.iter_mut().find(|stage| stage.from <= due && due < stage.until)
    }

    fn holds(&self, moment: Moment) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// Nanoseconds, told apart to a microsecond or 0.1 %, whichever is more.
pub(super) fn histogram() -> Histogram<u64> {
    let max = u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1_000, max, 3).expect("the bounds are constants that a test has tried")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_message_was_due() {
        let mut measure = Measure::new();
        measure.begin(Moment(1_000_000), Duration::from_millis(1), &[]);
        let late = Moment(5_000_000);
        measure.note_received(Moment(999_999), late);
        measure.note_received(Moment(1_000_000), late);
        measure.note_received(Moment(2_000_000), late);
        assert_eq!((measure.latency.len(), measure.received), (1, 0));
        assert!(measure.latency.max() >= 4_000_000);
    }

    #[test]
    fn a_stage_is_charged_for_what_was_due_in_it() {
        let mut measure = Measure::new();
        let second = Duration::from_secs(1);
        measure.begin(Moment(0), 2 * second, &[second, second]);
        let at = |millis: u64| Moment(millis * 1_000_000);
        measure.note_sent(at(900), at(900));
        measure.note_received(at(900), at(1_500));
        measure.note_received(at(1_600), at(1_700));
        measure.end_early(at(1_800));
        let intervals = measure.intervals();
        let stages = measure.stages();
        assert_eq!((stages[0].sent, stages[0].received, stages[1].received), (1, 1, 1));
        assert!(
            stages[0].latency_us.unwrap().max > 599_000.0 && stages[1].latency_us.unwrap().max < 110_000.0
        );
        assert!((stages[1].seconds - 0.8).abs() < 1e-9);
        // By intervals of 100 ms it counts where it came.
        assert_eq!((intervals[9].sent, intervals[15].received, intervals.len()), (1, 1, 18));
    }

    #[test]
    fn percentiles_climb_from_the_shortest_to_the_longest() {
        let mut latency = histogram();
        (1..=1_000_u64).for_each(|micros| latency.saturating_record(micros * 1_000));
        let points = percentiles(&latency);
        assert!(points.windows(2).all(|pair| pair[0].share <= pair[1].share && pair[0].us <= pair[1].us));
        assert!((points[points.len() - 1].us - 1_000.0).abs() < 2.0);
        assert!(points.len() < 100, "{}", points.len());
    }

    #[test]
    fn nothing_counts_before_the_window_is_set() {
        let mut measure = Measure::new();
        measure.note_received(Moment(1), Moment(2));
        measure.note_sent(Moment(1), Moment(2));
        assert_eq!((measure.received, measure.sent, measure.latency.len()), (0, 0, 0));
    }
}
