//! `connect` and `idle`: sessions without events.

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::Findings;
use super::limits::SENDS_PER_TURN_MAX;
use super::options::Loop;
use super::schedule::Pacer;
use super::workload::{Command, Cx, Outcome, Verdict, Workload};

/// Sessions that are opened, and reset as soon as they are open.
pub(super) struct Connect {
    places: u32,
    pace: Loop,
    pacer: Option<Pacer>,
    /// Open loop: places where no session is.
    free: Vec<u32>,
    opening: u64,
    findings: Findings,
}

/// Sessions that are held. Heartbeats are the client's own business.
pub(super) struct Idle {
    clients: u32,
    findings: Findings,
}

impl Connect {
    /// With at most so many sessions at once.
    pub(super) fn new(places: u32, pace: Loop) -> Self {
        Self { places, pace, pacer: None, free: Vec::new(), opening: 0, findings: Findings::default() }
    }

    fn open(&mut self, client: u32, due: Moment, cx: &mut Cx<'_>) {
        self.opening += 1;
        cx.commands.push(Command::Open { client, due });
    }

    /// A place became free: a closed loop uses it at once.
    fn release(&mut self, client: u32, cx: &mut Cx<'_>) {
        self.opening = self.opening.saturating_sub(1);
        match matches!(self.pace, Loop::Closed(_)) {
            true if cx.is_sending => self.open(client, cx.now, cx),
            true => {}
            false => self.free.push(client),
        }
    }
}

impl Idle {
    /// For so many clients.
    pub(super) fn new(clients: u32) -> Self {
        Self { clients, findings: Findings::default() }
    }
}

impl Workload for Connect {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        match incoming {
            Incoming::Connected { .. } => {
                self.findings.checked += 1;
                cx.commands.push(Command::Close { client });
                self.release(client, cx);
            }
            // Another generator may broadcast.
            Incoming::Message(_) | Incoming::Event(_) => {}
            Incoming::Ack(..) => self.findings.note_unexpected(client, "an acknowledgement of nothing"),
        }
    }

    fn handle_start(&mut self, cx: &mut Cx<'_>) {
        match &self.pace {
            Loop::Open(schedule) => {
                self.free = (0..self.places).rev().collect();
                self.pacer = Some(Pacer::new(schedule.clone(), cx.now, cx.measure.until));
            }
            Loop::Closed(_) => {
                for client in 0..self.places {
                    self.open(client, cx.now, cx);
                }
            }
        }
    }

    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment {
        let Some(mut pacer) = self.pacer.take() else { return Moment::NEVER };
        for _ in 0..SENDS_PER_TURN_MAX {
            // Without a free place nothing is taken: the session stays due, and its waiting counts.
            let Some(&client) = self.free.last() else { break };
            let Some((_, due)) = pacer.take(cx.now) else { break };
            self.free.pop();
            self.open(client, due, cx);
        }
        let next = self.pacer.insert(pacer).next_due();
        if self.free.is_empty() { Moment::NEVER } else { next }
    }

    fn handle_fault(&mut self, client: u32, _fault: &Fault, cx: &mut Cx<'_>) -> Verdict {
        self.release(client, cx);
        Verdict::Counted
    }

    fn clients_held(&self) -> u32 {
        0
    }

    fn outstanding(&self) -> u64 {
        self.opening
    }

    fn finish(&mut self, _is_whole: bool) -> Outcome {
        Outcome { findings: std::mem::take(&mut self.findings), ..Outcome::default() }
    }
}

impl Workload for Idle {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, _cx: &mut Cx<'_>) {
        match incoming {
            Incoming::Connected { .. } => self.findings.checked += 1,
            Incoming::Message(_) | Incoming::Event(_) => self.findings.foreign += 1,
            Incoming::Ack(..) => self.findings.note_unexpected(client, "an acknowledgement of nothing"),
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
        self.clients
    }

    fn outstanding(&self) -> u64 {
        0
    }

    fn finish(&mut self, _is_whole: bool) -> Outcome {
        Outcome { findings: std::mem::take(&mut self.findings), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Measure;
    use crate::bench::payload::Payloads;
    use crate::bench::schedule::Schedule;

    #[test]
    fn an_open_storm_waits_for_a_place_and_keeps_its_times() {
        let (payloads, mut measure, mut commands) = (Payloads::new(1, 64, false), Measure::new(), Vec::new());
        let (now, is_sending) = (Moment(0), true);
        let mut cx =
            Cx { now, is_sending, payloads: &payloads, measure: &mut measure, commands: &mut commands };
        let mut connect = Connect::new(1, Loop::Open(Schedule::constant(1e9)));
        connect.handle_start(&mut cx);
        cx.now = Moment(10);
        assert_eq!(connect.handle_tick(&mut cx), Moment::NEVER);
        connect.handle_incoming(0, &Incoming::Connected { is_recovered: false }, &mut cx);
        connect.handle_tick(&mut cx);
        let open = |due| Command::Open { client: 0, due: Moment(due) };
        assert_eq!(*cx.commands, [open(0), Command::Close { client: 0 }, open(1)]);
    }

    #[test]
    fn a_closed_storm_fills_every_place_again() {
        let (payloads, mut measure, mut commands) = (Payloads::new(1, 64, false), Measure::new(), Vec::new());
        let (now, is_sending) = (Moment(0), true);
        let mut cx =
            Cx { now, is_sending, payloads: &payloads, measure: &mut measure, commands: &mut commands };
        let mut connect = Connect::new(2, Loop::Closed(1));
        connect.handle_start(&mut cx);
        assert_eq!(connect.handle_fault(1, &Fault::Timeout, &mut cx), Verdict::Counted);
        assert_eq!((cx.commands.len(), connect.outstanding()), (3, 2));
        cx.is_sending = false;
        connect.handle_incoming(1, &Incoming::Connected { is_recovered: false }, &mut cx);
        assert_eq!(connect.outstanding(), 1);
    }
}
