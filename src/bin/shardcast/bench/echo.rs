//! `echo` and `binary`: every client sends a request and checks the acknowledgement.

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::{Ledger, Slot};
use super::packet::EventKind;
use super::payload::PayloadError;
use super::schedule::Drive;
use super::workload::{Command, Cx, Driven, Outcome, Verdict, Workload};

/// Round trips of one kind of event.
pub(super) struct Echo {
    kind: EventKind,
    drive: Drive,
    /// The next sequence number of each client.
    sent: Vec<u64>,
    ledger: Ledger,
    outstanding: u64,
}

impl Echo {
    /// For so many clients.
    pub(super) fn new(kind: EventKind, clients: u32, drive: Drive) -> Self {
        let sent = vec![0; clients as usize];
        Self { kind, drive, sent, ledger: Ledger::new(clients, 1), outstanding: 0 }
    }
}

impl Driven for Echo {
    fn drive(&mut self) -> &mut Drive {
        &mut self.drive
    }

    fn send(&mut self, client: u32, due: Moment, cx: &mut Cx<'_>) {
        let Some(sent) = self.sent.get_mut(client as usize) else { return };
        cx.commands.push(Command::Emit { client, kind: self.kind, sequence: *sent, due });
        *sent += 1;
        self.outstanding += 1;
    }
}

impl Workload for Echo {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        let &Incoming::Ack(id, payload) = incoming else {
            if matches!(incoming, Incoming::Message(_)) {
                self.ledger.findings.note_unexpected(client, "a message that is no acknowledgement");
            }
            return;
        };
        if self.sent.get(client as usize).is_none_or(|&sent| id >= sent) {
            self.ledger.findings.note_unexpected(client, "an acknowledgement of nothing");
            return;
        }
        let is_first = self.ledger.receive(Slot { receiver: client, sender: 0 }, id);
        match cx.payloads.decode(payload) {
            Ok(stamp) if stamp.sender == client && stamp.sequence == id => {
                if is_first {
                    cx.measure.note_received(stamp.moment, cx.now);
                }
            }
            Ok(_) | Err(PayloadError::Altered | PayloadError::Foreign) => {
                self.ledger.findings.note_altered(client)
            }
        }
        if is_first {
            self.outstanding = self.outstanding.saturating_sub(1);
            if cx.is_sending && self.drive.is_closed() {
                self.send(client, cx.now, cx);
            }
        }
    }

    fn handle_start(&mut self, cx: &mut Cx<'_>) {
        self.begin(cx);
    }

    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment {
        self.send_due(cx)
    }

    fn handle_fault(&mut self, _client: u32, _fault: &Fault, _cx: &mut Cx<'_>) -> Verdict {
        Verdict::Fatal
    }

    fn clients_held(&self) -> u32 {
        self.sent.len() as u32
    }

    fn outstanding(&self) -> u64 {
        self.outstanding
    }

    fn finish(&mut self, is_whole: bool) -> Outcome {
        for (client, &sent) in self.sent.iter().enumerate().filter(|_| is_whole) {
            self.ledger.close(Slot { receiver: client as u32, sender: 0 }, sent);
        }
        Outcome { findings: std::mem::take(&mut self.ledger.findings), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::measure::Measure;
    use crate::bench::options::Loop;
    use crate::bench::payload::Payloads;

    /// One client that sends three; what its ledger says of these acknowledgements: number, and whose
    /// payload.
    fn check(acks: &[(u64, u64)]) -> Outcome {
        let payloads = Payloads::new(1, 64, false);
        let (mut measure, mut commands) = (Measure::new(), Vec::new());
        let (now, is_sending) = (Moment(9), false);
        let mut cx =
            Cx { now, is_sending, payloads: &payloads, measure: &mut measure, commands: &mut commands };
        let mut echo = Echo::new(EventKind::Echo, 1, Drive::new(Loop::Closed(3), Duration::ZERO, 1));
        echo.handle_start(&mut cx);
        assert_eq!((cx.commands.len(), echo.outstanding()), (3, 3));
        for &(id, sequence) in acks {
            let mut payload = Vec::new();
            payloads.encode(&mut payload, 0, sequence, Moment(1));
            echo.handle_incoming(0, &Incoming::Ack(id, &payload), &mut cx);
        }
        echo.finish(true)
    }

    #[test]
    fn right_acknowledgements_are_clean() {
        let outcome = check(&[(0, 0), (1, 1), (2, 2)]);
        assert!(outcome.findings.is_clean());
        assert_eq!(outcome.findings.checked, 3);
    }

    #[test]
    fn wrong_acknowledgements_are_found() {
        let find = |acks: &[(u64, u64)]| {
            let findings = check(acks).findings;
            [findings.lost, findings.duplicated, findings.reordered, findings.altered, findings.unexpected]
        };
        assert_eq!(find(&[(0, 0), (1, 1)]), [1, 0, 0, 0, 0]);
        assert_eq!(find(&[(0, 0), (1, 1), (2, 2), (2, 2)]), [0, 1, 0, 0, 0]);
        assert_eq!(find(&[(1, 1), (0, 0), (2, 2)]), [0, 0, 1, 0, 0]);
        assert_eq!(find(&[(0, 1), (1, 0), (2, 2)]), [0, 0, 0, 2, 0]);
        assert_eq!(find(&[(0, 0), (1, 1), (2, 2), (3, 3)]), [0, 0, 0, 0, 1]);
    }
}
