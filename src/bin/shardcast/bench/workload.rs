//! What the scenarios have in common: the [`Workload`] that decides what is sent, and the commands it gives.
//!
//! A workload never touches a socket: it hears of messages, enters them in its ledger, and pushes commands,
//! which the generator carries out. So each is tested by calling it.

use super::client::Incoming;
use super::clock::Moment;
use super::ledger::Findings;
use super::measure::Measure;
use super::packet::EventKind;
use super::payload::Payloads;

/// What the generator is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Emit one event whose payload carries `sequence` and `due`.
    Emit {
        /// The sender.
        client: u32,
        /// Which event.
        kind: EventKind,
        /// The payload's sequence number, also the acknowledgement's where there is one.
        sequence: u64,
        /// When it was meant to be sent.
        due: Moment,
    },
    /// Begin a session that was due then.
    Open {
        /// The place for it.
        client: u32,
        /// When it was meant to begin.
        due: Moment,
    },
    /// Drop a session.
    Close {
        /// Whose.
        client: u32,
    },
    /// Stop or resume to read and write.
    Mute {
        /// Whose wires.
        client: u32,
        /// Stop.
        is_muted: bool,
    },
}

/// What a workload is given with each call.
pub(super) struct Cx<'a> {
    /// The present.
    pub(super) now: Moment,
    /// False while the last messages are waited for: closed loops send no more.
    pub(super) is_sending: bool,
    /// Checks payloads.
    pub(super) payloads: &'a Payloads,
    /// Takes latencies.
    pub(super) measure: &'a mut Measure,
    /// Takes commands.
    pub(super) commands: &'a mut Vec<Command>,
}

/// What the end of a session means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The run cannot go on.
    Fatal,
    /// A fault that is counted.
    Counted,
    /// The server's right: this client did not read.
    Tolerated,
}

/// What a workload adds to the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Outcome {
    /// What was wrong.
    pub(super) findings: Findings,
    /// Clients that stopped reading.
    pub(super) slow_clients: u32,
    /// Of these: closed by the server.
    pub(super) slow_closed: u32,
    /// Messages that these were not given.
    pub(super) slow_missing: u64,
}

/// A scenario's behaviour.
pub(super) trait Workload {
    /// A client heard something.
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>);

    /// Traffic begins: all is connected and the window is set.
    fn handle_start(&mut self, cx: &mut Cx<'_>);

    /// Time passed. Returns when it wants to be called again.
    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment;

    /// A session ended without being asked to.
    fn handle_fault(&mut self, client: u32, cx: &mut Cx<'_>) -> Verdict;

    /// How many sessions the generator opens before traffic begins.
    fn clients_held(&self) -> u32;

    /// True when the preparations, such as joining rooms, are done.
    fn is_ready(&self) -> bool {
        true
    }

    /// Messages that have not arrived.
    fn outstanding(&self) -> u64;

    /// Closes the books. In a run that was cut short, what did not arrive is not lost.
    fn finish(&mut self, is_whole: bool) -> Outcome;
}

/// The times at which an open loop sends: equally spaced, from a start to an end.
pub(super) struct Pacer {
    start: Moment,
    end: Moment,
    rate: f64,
    count: u64,
}

impl Pacer {
    /// `rate` times a second in `start..end`.
    pub(super) fn new(rate: f64, start: Moment, end: Moment) -> Self {
        Self { start, end, rate, count: 0 }
    }

    /// When the next one is due; never, after the end.
    pub(super) fn next_due(&self) -> Moment {
        // From the count, not from the last one: rounding must not add up to another rate.
        let due = Moment(self.start.0 + (self.count as f64 * 1e9 / self.rate) as u64);
        if due < self.end { due } else { Moment::NEVER }
    }

    /// The number and time of the next one that is due by `now`.
    pub(super) fn take(&mut self, now: Moment) -> Option<(u64, Moment)> {
        let due = self.next_due();
        if due > now || due == Moment::NEVER {
            return None;
        }
        self.count += 1;
        Some((self.count - 1, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pacer_keeps_its_rate_and_catches_up() {
        let mut pacer = Pacer::new(1_000.0, Moment(500), Moment(500 + 10_000_000));
        let mut taken = Vec::new();
        for now in [Moment(0), Moment(500), Moment(5_000_000), Moment(1_000_000_000)] {
            while let Some((number, due)) = pacer.take(now) {
                assert!(due <= now);
                taken.push((number, due.0));
            }
        }
        let expected: Vec<(u64, u64)> = (0..10).map(|number| (number, 500 + number * 1_000_000)).collect();
        assert_eq!(taken, expected);
        assert_eq!(pacer.next_due(), Moment::NEVER);
    }
}
