//! `ticks`: games in rooms, to which the server sends its ticks, so many a second.
//!
//! Each client plays in one room. What is measured is how evenly ticks come: for the latency, how late each comes after the moment at which
//! it would come on time, which follows from its number and the earliest tick so far; and the jitter, by how much the time between two
//! ticks differs from their period. A tick whose number is left out was not sent by a server that was too busy: it is counted, and is no fault.

use std::time::Duration;

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::Findings;
use super::packet::EventKind;
use super::workload::{Command, Cx, Outcome, Special, TickCounts, Verdict, Workload};

/// Players.
pub(super) struct Ticks {
    rooms: u32,
    hz: u16,
    bytes: u32,
    players: Vec<Player>,
    joined: u32,
    missed: u64,
    findings: Findings,
}

#[derive(Clone, Copy, Default)]
struct Player {
    last: Option<(u64, Moment)>,
    /// When tick 0 would have come, by the earliest tick so far, in nanoseconds of the generator's clock; it may be before its start.
    origin: i128,
}

impl Ticks {
    /// For so many clients in rooms of at most `room_size`.
    pub(super) fn new(clients: u32, room_size: u32, hz: u16, bytes: u32) -> Self {
        let players = vec![Player::default(); clients as usize];
        let rooms = clients.div_ceil(room_size);
        Self { rooms, hz, bytes, players, joined: 0, missed: 0, findings: Findings::default() }
    }

    fn receive(&mut self, client: u32, number: u64, cx: &mut Cx<'_>) {
        let period = i128::from(1_000_000_000_u64 / u64::from(self.hz));
        let Some(player) = self.players.get_mut(client as usize) else { return };
        // The period of a rate that does not divide a second is a little longer than its whole nanoseconds.
        let since_first = i128::from(number) * 1_000_000_000 / i128::from(self.hz);
        let origin = i128::from(cx.now.0) - since_first;
        if let Some((last, at)) = player.last {
            let Some(steps) = number.checked_sub(last).filter(|&steps| steps > 0) else {
                if number == last {
                    return self.findings.note_again(client, number);
                }
                return self.findings.note_reordered(client, number);
            };
            self.missed += steps - 1;
            let apart = i128::from(cx.now.nanos_since(at));
            let jitter = (apart - i128::from(steps) * period).unsigned_abs();
            cx.measure.note_special(cx.now, u64::try_from(jitter).unwrap_or(u64::MAX));
            player.origin = player.origin.min(origin);
        } else {
            player.origin = origin;
        }
        player.last = Some((number, cx.now));
        let due = u64::try_from(player.origin + since_first).unwrap_or(0);
        cx.measure.note_received(Moment(due), cx.now);
        self.findings.checked += 1;
    }
}

/// `["tick",number,"..."]`: the number, and how many bytes the text has.
fn parse(array: &[u8]) -> Option<(u64, usize)> {
    let (name, number, text): (&str, u64, &str) = serde_json::from_slice(array).ok()?;
    (name == "tick").then_some((number, text.len()))
}

impl Workload for Ticks {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        match *incoming {
            Incoming::Connected { .. } => {
                let kind = EventKind::Play { room: client % self.rooms, hz: self.hz, bytes: self.bytes };
                cx.commands.push(Command::Emit { client, kind, sequence: 0, due: cx.now });
            }
            Incoming::Ack(..) => self.joined += 1,
            Incoming::Message(_) => self.findings.foreign += 1,
            Incoming::Event(array) => match parse(array) {
                Some((number, len)) if len == self.bytes as usize => self.receive(client, number, cx),
                Some(_) => self.findings.note_altered(client),
                None => self.findings.foreign += 1,
            },
        }
    }

    fn handle_start(&mut self, _cx: &mut Cx<'_>) {}

    fn handle_tick(&mut self, _cx: &mut Cx<'_>) -> Moment {
        Moment::NEVER
    }

    fn handle_fault(&mut self, _client: u32, _fault: &Fault, _cx: &mut Cx<'_>) -> Verdict {
        Verdict::Fatal
    }

    fn clients_held(&self) -> u32 {
        self.players.len() as u32
    }

    fn is_ready(&self) -> bool {
        self.joined >= self.clients_held()
    }

    fn prepared_by(&self) -> &'static str {
        "play"
    }

    fn outstanding(&self) -> u64 {
        0
    }

    fn finish(&mut self, is_whole: bool) -> Outcome {
        let without = self.players.iter().filter(|player| player.last.is_none()).count() as u64;
        if is_whole && without > 0 {
            self.findings.note_lost(without, || format!("{without} clients were sent no `tick` at all"));
        }
        let special = Special::Ticks(TickCounts { rooms: self.rooms, missed: self.missed });
        Outcome { findings: std::mem::take(&mut self.findings), special, ..Outcome::default() }
    }
}

/// How long a run must at least be to see a few ticks.
pub(super) fn period(hz: u16) -> Duration {
    Duration::from_secs(1) / u32::from(hz.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Measure;
    use crate::bench::payload::Payloads;

    #[test]
    fn ticks_are_late_by_the_earliest_and_gaps_are_counted() {
        let (payloads, mut measure, mut commands) = (Payloads::new(1, 64, false), Measure::new(), Vec::new());
        measure.begin(Moment(0), Duration::from_secs(10), &[]);
        let mut ticks = Ticks::new(1, 4, 20, 2);
        // Number and millisecond: on time, 7 ms late, on time, one left out, again, too late.
        for (number, millis) in
            [(5_u64, 1_000_u64), (6, 1_057), (7, 1_100), (9, 1_200), (9, 1_201), (8, 1_202)]
        {
            let array = format!("[\"tick\",{number},\"xx\"]");
            let now = Moment(millis * 1_000_000);
            let mut cx = Cx {
                now,
                is_sending: true,
                payloads: &payloads,
                measure: &mut measure,
                commands: &mut commands,
            };
            ticks.handle_incoming(0, &Incoming::Event(array.as_bytes()), &mut cx);
        }
        let outcome = ticks.finish(true);
        let found = &outcome.findings;
        assert_eq!((found.checked, found.duplicated, found.reordered, found.lost), (4, 1, 1, 0));
        assert_eq!(outcome.special, Special::Ticks(TickCounts { rooms: 1, missed: 1 }));
        assert_eq!((measure.latency.len(), measure.special.len()), (4, 3));
        assert!((7_000_000..7_010_000).contains(&measure.latency.max()));
        assert!((7_000_000..7_010_000).contains(&measure.special.max()));
    }

    #[test]
    fn a_client_without_ticks_and_a_tick_of_another_size_are_faults() {
        assert_eq!(Ticks::new(3, 2, 20, 2).finish(true).findings.lost, 3);
        assert_eq!(parse(br#"["tick", 7, "abc"]"#), Some((7, 3)));
        for other in [&b"[\"tock\",7,\"abc\"]"[..], b"[\"tick\",-1,\"\"]", b"[\"tick\"]", b"["] {
            assert_eq!(parse(other), None);
        }
        assert_eq!(period(20), Duration::from_millis(50));
    }
}
