//! `echo --event NAME`: every client sends somebody's own event and waits for the answer: the acknowledgement, an event, or none.
//!
//! What the answer holds is the server's business and is not looked at, nor is the order of acknowledgements: handlers may answer when
//! they like. Each message must be acknowledged once. Events that answer belong to messages in their order. Other events that the
//! server sends by itself are counted apart and are no fault.

use std::collections::{HashMap, VecDeque};

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::Findings;
use super::options::Answer;
use super::packet::EventKind;
use super::schedule::Drive;
use super::workload::{Command, Cx, Driven, Outcome, Verdict, Workload};

/// Round trips of an event that only the server knows.
pub(super) struct Calls {
    drive: Drive,
    answer: Answer,
    /// The beginning of the array of the event that answers.
    answer_prefix: Vec<u8>,
    /// The next sequence number of each client.
    sent: Vec<u64>,
    /// When each message that is not acknowledged was due.
    waiting: HashMap<(u32, u64), Moment>,
    /// The same, in order, of each client, for events that answer.
    queues: Vec<VecDeque<Moment>>,
    queued: u64,
    findings: Findings,
}

impl Calls {
    /// For so many clients.
    pub(super) fn new(clients: u32, drive: Drive, answer: Answer) -> Self {
        let queues = if matches!(answer, Answer::Event(_)) { clients } else { 0 };
        let answer_prefix = match &answer {
            Answer::Event(name) => format!("[{}", serde_json::Value::from(name.as_str())).into_bytes(),
            Answer::Ack | Answer::None => Vec::new(),
        };
        Self {
            drive,
            answer,
            answer_prefix,
            sent: vec![0; clients as usize],
            waiting: HashMap::new(),
            queues: (0..queues).map(|_| VecDeque::new()).collect(),
            queued: 0,
            findings: Findings::default(),
        }
    }

    /// An answer came to what was due then: it counts, and in a closed loop the next is sent.
    fn answered(&mut self, client: u32, due: Moment, cx: &mut Cx<'_>) {
        self.findings.checked += 1;
        cx.measure.note_received(due, cx.now);
        if cx.is_sending && self.drive.is_closed() {
            self.send(client, cx.now, cx);
        }
    }

    fn receive_event(&mut self, client: u32, array: &[u8], cx: &mut Cx<'_>) {
        let rest = array.strip_prefix(self.answer_prefix.as_slice()).filter(|_| !self.queues.is_empty());
        if !rest.is_some_and(|rest| matches!(rest.first(), Some(b',' | b']'))) {
            self.findings.foreign += 1;
            return;
        }
        match self.queues.get_mut(client as usize).and_then(VecDeque::pop_front) {
            Some(due) => {
                self.queued -= 1;
                self.answered(client, due, cx);
            }
            // The server may send this event unasked, too.
            None => self.findings.foreign += 1,
        }
    }
}

impl Driven for Calls {
    fn drive(&mut self) -> &mut Drive {
        &mut self.drive
    }

    fn send(&mut self, client: u32, due: Moment, cx: &mut Cx<'_>) {
        let Some(sent) = self.sent.get_mut(client as usize) else { return };
        let kind = if self.answer == Answer::Ack { EventKind::Own } else { EventKind::Unasked };
        cx.commands.push(Command::Emit { client, kind, sequence: *sent, due });
        match self.answer {
            Answer::Ack => _ = self.waiting.insert((client, *sent), due),
            Answer::None => {}
            Answer::Event(_) => {
                self.queues.get_mut(client as usize).into_iter().for_each(|queue| queue.push_back(due));
                self.queued += 1;
            }
        }
        *sent += 1;
    }
}

impl Workload for Calls {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        let id = match *incoming {
            Incoming::Ack(id, _) => id,
            Incoming::Event(array) => return self.receive_event(client, array, cx),
            Incoming::Message(_) => {
                // `msg` is the one event that comes taken apart; nothing is looked at behind its name.
                return self.receive_event(client, b"[\"msg\",", cx);
            }
            Incoming::Connected { .. } => return,
        };
        if let Some(due) = self.waiting.remove(&(client, id)) {
            self.answered(client, due, cx);
        } else if self.sent.get(client as usize).is_some_and(|&sent| id < sent) {
            self.findings.note_duplicated(client, id);
        } else {
            self.findings.note_unexpected(client, "an acknowledgement of nothing");
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
        self.waiting.len() as u64 + self.queued
    }

    fn finish(&mut self, is_whole: bool) -> Outcome {
        if is_whole && let Some(&(client, number)) = self.waiting.keys().min() {
            self.findings.note_lost(self.waiting.len() as u64, || {
                format!("client {client}'s message {number} was not acknowledged: does the server acknowledge this event? \
                         --answer none or --answer event:NAME where it does not")
            });
        }
        if is_whole && self.queued > 0 {
            let client = self.queues.iter().position(|queue| !queue.is_empty()).unwrap_or_default();
            self.findings
                .note_lost(self.queued, || format!("client {client} was not sent the event of --answer"));
        }
        Outcome { findings: std::mem::take(&mut self.findings), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::measure::Measure;
    use crate::bench::options::Loop;
    use crate::bench::payload::Payloads;

    /// One client that sends three; what is said of what comes.
    fn check(answer: Answer, come: &[Incoming<'_>]) -> Findings {
        let (payloads, mut measure, mut commands) = (Payloads::new(1, 64, false), Measure::new(), Vec::new());
        let (now, is_sending) = (Moment(9), false);
        let mut cx =
            Cx { now, is_sending, payloads: &payloads, measure: &mut measure, commands: &mut commands };
        let mut calls = Calls::new(1, Drive::new(Loop::Closed(3), Duration::ZERO, 1), answer.clone());
        calls.handle_start(&mut cx);
        assert_eq!((cx.commands.len(), calls.outstanding()), (3, if answer == Answer::None { 0 } else { 3 }));
        for incoming in come {
            calls.handle_incoming(0, incoming, &mut cx);
        }
        calls.finish(true).findings
    }

    #[test]
    fn each_message_is_acknowledged_once_in_any_order() {
        let rows: [(&[u64], [u64; 4]); 5] = [
            (&[0, 1, 2], [3, 0, 0, 0]),
            (&[2, 0, 1], [3, 0, 0, 0]),
            (&[0, 1], [2, 1, 0, 0]),
            (&[0, 1, 1, 2], [3, 0, 1, 0]),
            (&[0, 1, 2, 3], [3, 0, 0, 1]),
        ];
        for (acks, expected) in rows {
            let acks: Vec<Incoming<'_>> = acks.iter().map(|&id| Incoming::Ack(id, b"{\"any\":1}")).collect();
            let found = check(Answer::Ack, &acks);
            assert_eq!([found.checked, found.lost, found.duplicated, found.unexpected], expected, "{acks:?}");
            assert_eq!(found.first.is_some(), !found.is_clean(), "{acks:?}");
        }
    }

    #[test]
    fn an_event_may_answer_or_nothing_at_all() {
        let done = || Incoming::Event(b"[\"done\",1]");
        let rows: [(Answer, &[Incoming<'_>], [u64; 3]); 5] = [
            (Answer::None, &[], [0, 0, 0]),
            (Answer::None, &[done()], [0, 0, 1]),
            (Answer::Event("done".to_owned()), &[done(), Incoming::Event(b"[\"done\"]"), done()], [3, 0, 0]),
            (Answer::Event("done".to_owned()), &[done(), Incoming::Event(b"[\"done2\"]")], [1, 2, 1]),
            (Answer::Event("msg".to_owned()), &[Incoming::Message(b"a"), done()], [1, 2, 1]),
        ];
        for (answer, come, expected) in rows {
            let found = check(answer.clone(), come);
            assert_eq!([found.checked, found.lost, found.foreign], expected, "{answer:?} {come:?}");
        }
    }
}
