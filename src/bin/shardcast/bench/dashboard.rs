//! `dashboard`: one client gives keys new values, all look on.
//!
//! A server may leave out values that a newer one of the same key has replaced, as a state room does; so for each viewer and key the
//! numbers of values must climb, and at the end the last value must be there. The latency is from the moment at which a value was due to
//! be set until a viewer has it.

use std::collections::HashMap;

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::Findings;
use super::limits::SENDS_PER_TURN_MAX;
use super::packet::EventKind;
use super::payload::PayloadError;
use super::schedule::Drive;
use super::workload::{Command, Cx, DashboardCounts, Outcome, Special, Verdict, Workload};

/// The client that sets values. It looks on, too.
const PUBLISHER: u32 = 0;

/// Viewers of one board.
pub(super) struct Dashboard {
    viewers: u32,
    hz: u16,
    drive: Drive,
    /// The number of the next value, over all keys.
    next: u64,
    keys: Vec<Key>,
    /// The number of the last value that each viewer has of each key, and one; 0 is none.
    seen: Vec<u64>,
    /// Pairs of viewer and key that lack the last value.
    behind: u64,
    joined: u32,
    counts: DashboardCounts,
    findings: Findings,
}

#[derive(Clone, Copy, Default)]
struct Key {
    /// The number of its last value, and one; 0 is none.
    last: u64,
    /// Viewers that have it.
    viewers: u32,
}

impl Dashboard {
    /// For so many clients and keys, with a drive of one sender.
    pub(super) fn new(viewers: u32, keys: u32, hz: u16, drive: Drive) -> Self {
        Self {
            viewers,
            hz,
            drive,
            next: 0,
            keys: vec![Key::default(); keys as usize],
            seen: vec![0; viewers as usize * keys as usize],
            behind: 0,
            joined: 0,
            counts: DashboardCounts { viewers, keys, ..DashboardCounts::default() },
            findings: Findings::default(),
        }
    }

    fn set(&mut self, due: Moment, cx: &mut Cx<'_>) {
        let number = (self.next % self.keys.len() as u64) as u32;
        let Some(key) = self.keys.get_mut(number as usize) else { return };
        let had = if key.last == 0 { 0 } else { self.viewers - key.viewers };
        self.behind += u64::from(self.viewers - had);
        *key = Key { last: self.next + 1, viewers: 0 };
        let kind = EventKind::Set { hz: self.hz, key: number };
        cx.commands.push(Command::Emit { client: PUBLISHER, kind, sequence: self.next, due });
        self.next += 1;
    }

    fn receive(&mut self, client: u32, name: &str, value: &str, cx: &mut Cx<'_>) {
        let number = name.strip_prefix('k').and_then(|digits| digits.parse::<usize>().ok());
        let at = number.filter(|&number| number < self.keys.len());
        let slot = at.map(|key| client as usize * self.keys.len() + key);
        let (Some(key), Some(seen)) =
            (at.and_then(|at| self.keys.get_mut(at)), slot.and_then(|slot| self.seen.get_mut(slot)))
        else {
            // A key that an earlier run with more of them has left.
            return;
        };
        let stamp = match cx.payloads.decode(value.as_bytes()) {
            Ok(stamp) => stamp,
            // What an earlier run has left is there until this one has set the key; it may have another length.
            Err(_) if *seen == 0 => return,
            Err(PayloadError::Altered) => return self.findings.note_altered(client),
            Err(PayloadError::Foreign) => return self.findings.foreign += 1,
        };
        let value = stamp.sequence + 1;
        if value > key.last {
            return self.findings.note_unexpected(client, "a value that was not set yet");
        }
        if value < *seen {
            return self.findings.note_reordered(client, stamp.sequence);
        }
        self.counts.values += 1;
        // All values again, as after a join: what is known is no fault.
        if value == *seen {
            return;
        }
        *seen = value;
        if value == key.last {
            key.viewers += 1;
            self.behind -= 1;
        }
        self.findings.checked += 1;
        cx.measure.note_received(stamp.moment, cx.now);
    }
}

/// `["board",{"k1":"..."},false]`: the values.
fn parse(array: &[u8]) -> Option<HashMap<&str, &str>> {
    let (name, values, _): (&str, HashMap<&str, &str>, bool) = serde_json::from_slice(array).ok()?;
    (name == "board").then_some(values)
}

impl Workload for Dashboard {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        match *incoming {
            Incoming::Connected { .. } => {
                let kind = EventKind::Watch(self.hz);
                cx.commands.push(Command::Emit { client, kind, sequence: 0, due: cx.now });
            }
            Incoming::Ack(..) => self.joined += 1,
            Incoming::Message(_) => self.findings.foreign += 1,
            Incoming::Event(array) => match parse(array) {
                Some(values) => {
                    self.counts.events += 1;
                    for (name, value) in values {
                        self.receive(client, name, value, cx);
                    }
                }
                None => self.findings.foreign += 1,
            },
        }
    }

    fn handle_start(&mut self, cx: &mut Cx<'_>) {
        self.drive.begin(cx.now, cx.measure.until);
    }

    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment {
        for _ in 0..SENDS_PER_TURN_MAX {
            let Some((_, due)) = self.drive.take(cx.now) else { break };
            self.set(due, cx);
        }
        self.drive.next_due()
    }

    fn handle_fault(&mut self, _client: u32, _fault: &Fault, _cx: &mut Cx<'_>) -> Verdict {
        Verdict::Fatal
    }

    fn clients_held(&self) -> u32 {
        self.viewers
    }

    fn is_ready(&self) -> bool {
        self.joined >= self.viewers
    }

    fn prepared_by(&self) -> &'static str {
        "watch"
    }

    fn outstanding(&self) -> u64 {
        self.behind
    }

    fn finish(&mut self, is_whole: bool) -> Outcome {
        if is_whole && self.behind > 0 {
            let behind = self.behind;
            self.findings.note_lost(behind, || {
                format!("{behind} times a viewer lacks the last value of a key; a server may have bounds on keys and bytes, see its log")
            });
        }
        let special = Special::Dashboard(self.counts);
        Outcome { findings: std::mem::take(&mut self.findings), special, ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::measure::Measure;
    use crate::bench::options::Loop;
    use crate::bench::payload::Payloads;
    use crate::bench::schedule::Schedule;

    #[test]
    fn values_climb_and_the_last_of_each_key_must_come() {
        let (payloads, mut measure, mut commands) = (Payloads::new(1, 28, false), Measure::new(), Vec::new());
        measure.begin(Moment(0), Duration::from_secs(10), &[]);
        let mut cx = Cx {
            now: Moment(0),
            is_sending: true,
            payloads: &payloads,
            measure: &mut measure,
            commands: &mut commands,
        };
        let mut board =
            Dashboard::new(2, 2, 10, Drive::new(Loop::Open(Schedule::constant(1e3)), Duration::ZERO, 1));
        board.handle_start(&mut cx);
        cx.now = Moment(4_000_000);
        board.handle_tick(&mut cx);
        // Values 0, 2 and 4 of k0, 1 and 3 of k1; both viewers lack both.
        assert_eq!((cx.commands.len(), board.outstanding()), (5, 4));
        let event = |values: &[(u32, u64)]| {
            let pairs = values.iter().map(|&(key, sequence)| {
                let mut value = Vec::new();
                payloads.encode(&mut value, 0, sequence, Moment(1));
                format!("\"k{key}\":\"{}\"", String::from_utf8(value).unwrap())
            });
            format!("[\"board\",{{{}}},false]", pairs.collect::<Vec<_>>().join(","))
        };
        let mut say = |board: &mut Dashboard, client, values: &[(u32, u64)]| {
            board.handle_incoming(client, &Incoming::Event(event(values).as_bytes()), &mut cx);
            board.outstanding()
        };
        assert_eq!(say(&mut board, 0, &[(0, 2), (1, 3)]), 3);
        assert_eq!(say(&mut board, 0, &[(0, 4)]), 2);
        assert_eq!(say(&mut board, 0, &[(0, 4), (1, 3)]), 2, "all values again");
        assert_eq!(say(&mut board, 1, &[(0, 4), (1, 1)]), 1);
        assert!(board.findings.is_clean());
        say(&mut board, 0, &[(0, 2)]);
        say(&mut board, 0, &[(1, 9)]);
        say(&mut board, 0, &[(7, 1)]);
        let outcome = board.finish(true);
        let found = &outcome.findings;
        assert_eq!(
            (found.checked, found.reordered, found.unexpected, found.foreign, found.lost),
            (5, 1, 1, 0, 1)
        );
        assert_eq!(
            outcome.special,
            Special::Dashboard(DashboardCounts { viewers: 2, keys: 2, events: 7, values: 7 })
        );
    }
}
