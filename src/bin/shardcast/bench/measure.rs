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
        }
    }

    /// Sets the window.
    pub(super) fn begin(&mut self, from: Moment, duration: Duration) {
        self.from = from;
        self.until = from.after(duration);
    }

    /// A message went out that was due at `due`.
    pub(super) fn note_sent(&mut self, due: Moment, now: Moment) {
        if self.holds(now) {
            self.sent += 1;
        }
        if self.holds(due) {
            self.lag.saturating_record(now.nanos_since(due));
        }
    }

    /// A message came to a client that reads.
    pub(super) fn note_received(&mut self, due: Moment, now: Moment) {
        if self.holds(now) {
            self.received += 1;
        }
        if self.holds(due) {
            self.latency.saturating_record(now.nanos_since(due));
        }
    }

    /// A message came to a client of the slow share.
    pub(super) fn note_received_slow(&mut self, due: Moment, now: Moment) {
        if self.holds(now) {
            self.received += 1;
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
        }
    }

    fn holds(&self, moment: Moment) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// Nanoseconds, told apart to a microsecond or 0.1 %, whichever is more.
fn histogram() -> Histogram<u64> {
    let max = u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1_000, max, 3).expect("the bounds are constants that a test has tried")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_message_was_due() {
        let mut measure = Measure::new();
        measure.begin(Moment(1_000_000), Duration::from_millis(1));
        let late = Moment(5_000_000);
        measure.note_received(Moment(999_999), late);
        measure.note_received(Moment(1_000_000), late);
        measure.note_received(Moment(2_000_000), late);
        assert_eq!((measure.latency.len(), measure.received), (1, 0));
        assert!(measure.latency.max() >= 4_000_000);
    }

    #[test]
    fn nothing_counts_before_the_window_is_set() {
        let mut measure = Measure::new();
        measure.note_received(Moment(1), Moment(2));
        measure.note_sent(Moment(1), Moment(2));
        assert_eq!((measure.received, measure.sent, measure.latency.len()), (0, 0, 0));
    }
}
