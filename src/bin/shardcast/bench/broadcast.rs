//! `fanout`, `slow`, `stalled` and `rooms`: what one client sends, many receive.
//!
//! Fan-out is one room of all clients in which client 0 alone sends. In `rooms`, client `i` is in room `i mod
//! rooms`, so that an open loop's equal spacing spreads over the rooms, and everyone sends. A closed loop
//! sends the next message when one has reached all its receivers that read; the slow share is never waited
//! for, and what it misses is counted but is no fault: which of them to close or to skip is the server's
//! policy.

use std::collections::VecDeque;
use std::time::Duration;

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::{Ledger, Slot};
use super::options::Loop;
use super::packet::EventKind;
use super::payload::{PayloadError, Stamp};
use super::schedule::Drive;
use super::workload::{Command, Cx, Driven, Outcome, Special, Verdict, Workload};

/// Who is with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// All clients.
    pub(super) clients: u32,
    /// Rooms to join; none means that everyone hears the publisher.
    pub(super) rooms: Option<u32>,
    /// How many clients, of the highest numbers, stop reading.
    pub(super) slow: u32,
    /// After how long these resume, if ever.
    pub(super) stall: Option<Duration>,
}

/// Messages of which each has many receivers.
pub(super) struct Broadcast {
    layout: Layout,
    drive: Drive,
    senders: Vec<Sender>,
    ledger: Ledger,
    joined: u32,
    /// Deliveries to clients that read.
    owed: u64,
    delivered: u64,
    slow_closed: u32,
    stalling: Stalling,
}

#[derive(Default)]
struct Sender {
    sent: u64,
    /// Closed loop: how many receivers each message lacks; the first is of sequence number `sent -
    /// waiting.len()`.
    waiting: VecDeque<(u32, Moment)>,
}

/// Where the slow share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stalling {
    Before,
    During,
    After,
}

impl Layout {
    /// Rooms of at most `size` clients.
    pub(super) fn of_rooms(clients: u32, size: u32) -> Self {
        Self { clients, rooms: Some(clients.div_ceil(size)), slow: 0, stall: None }
    }

    fn room_count(&self) -> u32 {
        self.rooms.unwrap_or(1)
    }

    fn senders(&self) -> u32 {
        if self.rooms.is_some() { self.clients } else { 1 }
    }

    fn room(&self, client: u32) -> u32 {
        client % self.room_count()
    }

    /// Clients of this room that are waited for.
    fn readers(&self, room: u32) -> u32 {
        (self.clients - self.slow).saturating_sub(room).div_ceil(self.room_count())
    }

    fn is_slow(&self, client: u32) -> bool {
        client >= self.clients - self.slow
    }

    /// The most senders that one client hears.
    fn senders_heard(&self) -> u32 {
        if self.rooms.is_some() { self.readers(0) } else { 1 }
    }

    /// The slot of `sender` at `receiver`; none when it is not to be heard there.
    fn slot(&self, receiver: u32, sender: u32) -> Option<Slot> {
        let is_heard = sender < self.senders() && self.room(sender) == self.room(receiver);
        is_heard.then_some(Slot { receiver, sender: sender / self.room_count() })
    }
}

impl Broadcast {
    /// For these clients.
    pub(super) fn new(layout: Layout, pace: Loop, ramp: Duration) -> Self {
        Self {
            layout,
            drive: Drive::new(pace, ramp, layout.senders()),
            senders: (0..layout.senders()).map(|_| Sender::default()).collect(),
            ledger: Ledger::new(layout.clients, layout.senders_heard()),
            joined: 0,
            owed: 0,
            delivered: 0,
            slow_closed: 0,
            stalling: Stalling::Before,
        }
    }

    fn receive(&mut self, client: u32, stamp: Stamp, cx: &mut Cx<'_>) {
        let slot = self.layout.slot(client, stamp.sender);
        let sent = self.senders.get(stamp.sender as usize).map_or(0, |sender| sender.sent);
        let Some(slot) = slot.filter(|_| stamp.sequence < sent) else {
            self.ledger.findings.note_unexpected(client, "a message that was not sent to it");
            return;
        };
        if !self.ledger.receive(slot, stamp.sequence) {
            return;
        }
        if self.layout.is_slow(client) {
            cx.measure.note_received_slow(stamp.moment, cx.now);
            return;
        }
        cx.measure.note_received(stamp.moment, cx.now);
        self.delivered += 1;
        if self.drive.is_closed() {
            self.complete(stamp, cx);
        }
    }

    /// One more receiver has the message; with the last one, the next is sent.
    fn complete(&mut self, stamp: Stamp, cx: &mut Cx<'_>) {
        let Some(sender) = self.senders.get_mut(stamp.sender as usize) else { return };
        let first = sender.sent - sender.waiting.len() as u64;
        let at = stamp.sequence.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        let Some((lacking, _)) = at.and_then(|at| sender.waiting.get_mut(at)) else { return };
        *lacking = lacking.saturating_sub(1);
        while let Some(&(0, due)) =
            self.senders.get(stamp.sender as usize).and_then(|sender| sender.waiting.front())
        {
            cx.measure.note_completed(due, cx.now);
            self.senders[stamp.sender as usize].waiting.pop_front();
            if cx.is_sending {
                self.send(stamp.sender, cx.now, cx);
            }
        }
    }

    /// Stops the slow share when the window opens, and lets it go on when its stall is over.
    fn stall(&mut self, cx: &mut Cx<'_>) -> Moment {
        let resume = self.layout.stall.map_or(Moment::NEVER, |stall| cx.measure.from.after(stall));
        let (is_muted, next) = match self.stalling {
            _ if self.layout.slow == 0 => return Moment::NEVER,
            Stalling::Before if cx.now < cx.measure.from => return cx.measure.from,
            Stalling::During if cx.now < resume => return resume,
            Stalling::Before => (true, Stalling::During),
            Stalling::During => (false, Stalling::After),
            Stalling::After => return Moment::NEVER,
        };
        self.stalling = next;
        let slow = self.layout.clients - self.layout.slow..self.layout.clients;
        cx.commands.extend(slow.map(|client| Command::Mute { client, is_muted }));
        if is_muted { resume } else { Moment::NEVER }
    }
}

impl Driven for Broadcast {
    fn drive(&mut self) -> &mut Drive {
        &mut self.drive
    }

    fn send(&mut self, client: u32, due: Moment, cx: &mut Cx<'_>) {
        let room = self.layout.room(client);
        let kind = if self.layout.rooms.is_some() { EventKind::Room(room) } else { EventKind::Broadcast };
        let Some(sender) = self.senders.get_mut(client as usize) else { return };
        let readers = self.layout.readers(room);
        cx.commands.push(Command::Emit { client, kind, sequence: sender.sent, due });
        sender.sent += 1;
        self.owed += u64::from(readers);
        if self.drive.is_closed() {
            sender.waiting.push_back((readers, due));
        }
    }
}

impl Workload for Broadcast {
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>) {
        match *incoming {
            Incoming::Connected { .. } if self.layout.rooms.is_some() => {
                let kind = EventKind::Join(self.layout.room(client));
                cx.commands.push(Command::Emit { client, kind, sequence: 0, due: cx.now });
            }
            Incoming::Connected { .. } | Incoming::Event(_) => {}
            Incoming::Ack(..) => self.joined += 1,
            Incoming::Message(payload) => match cx.payloads.decode(payload) {
                Ok(stamp) => self.receive(client, stamp, cx),
                Err(PayloadError::Altered) => self.ledger.findings.note_altered(client),
                Err(PayloadError::Foreign) => self.ledger.findings.foreign += 1,
            },
        }
    }

    fn handle_start(&mut self, cx: &mut Cx<'_>) {
        self.begin(cx);
    }

    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment {
        let stall_due = self.stall(cx);
        self.send_due(cx).min(stall_due)
    }

    fn handle_fault(&mut self, client: u32, _fault: &Fault, _cx: &mut Cx<'_>) -> Verdict {
        if self.stalling == Stalling::Before || !self.layout.is_slow(client) {
            return Verdict::Fatal;
        }
        self.slow_closed += 1;
        Verdict::Tolerated
    }

    fn clients_held(&self) -> u32 {
        self.layout.clients
    }

    fn is_ready(&self) -> bool {
        self.layout.rooms.is_none() || self.joined >= self.layout.clients
    }

    fn outstanding(&self) -> u64 {
        self.owed.saturating_sub(self.delivered)
    }

    fn finish(&mut self, is_whole: bool) -> Outcome {
        let mut slow_missing = 0;
        for (sender, books) in self.senders.iter().enumerate().filter(|_| is_whole) {
            let sender = sender as u32;
            let receivers =
                (self.layout.room(sender)..self.layout.clients).step_by(self.layout.room_count() as usize);
            for receiver in receivers {
                let Some(slot) = self.layout.slot(receiver, sender) else { continue };
                if self.layout.is_slow(receiver) {
                    slow_missing += self.ledger.missing(slot, books.sent);
                } else {
                    self.ledger.close(slot, books.sent);
                }
            }
        }
        Outcome {
            findings: std::mem::take(&mut self.ledger.findings),
            slow_clients: self.layout.slow,
            slow_closed: self.slow_closed,
            slow_missing,
            special: Special::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Measure;
    use crate::bench::payload::Payloads;

    struct World {
        broadcast: Broadcast,
        payloads: Payloads,
        measure: Measure,
        commands: Vec<Command>,
        now: Moment,
    }

    impl World {
        fn new(layout: Layout, pace: Loop) -> Self {
            let broadcast = Broadcast::new(layout, pace, Duration::ZERO);
            let (measure, commands) = (Measure::new(), Vec::new());
            Self { broadcast, payloads: Payloads::new(1, 64, false), measure, commands, now: Moment(1) }
        }

        fn call(&mut self, act: impl FnOnce(&mut Broadcast, &mut Cx<'_>)) -> Vec<Command> {
            let Self { broadcast, payloads, measure, commands, now } = self;
            act(broadcast, &mut Cx { now: *now, is_sending: true, payloads, measure, commands });
            std::mem::take(commands)
        }

        fn deliver(&mut self, receiver: u32, sender: u32, sequence: u64) -> usize {
            let mut payload = Vec::new();
            self.payloads.encode(&mut payload, sender, sequence, Moment(1));
            let incoming = Incoming::Message(&payload);
            self.call(|broadcast, cx| broadcast.handle_incoming(receiver, &incoming, cx)).len()
        }
    }

    #[test]
    fn a_closed_fan_out_sends_the_next_when_every_reader_has_the_last() {
        let layout = Layout { clients: 4, rooms: None, slow: 1, stall: None };
        let mut world = World::new(layout, Loop::Closed(1));
        assert_eq!(world.call(|broadcast, cx| broadcast.handle_start(cx)).len(), 1);
        assert_eq!([world.deliver(0, 0, 0), world.deliver(1, 0, 0), world.deliver(1, 0, 0)], [0, 0, 0]);
        assert_eq!(world.deliver(2, 0, 0), 1);
        let outcome = world.broadcast.finish(true);
        assert_eq!((outcome.findings.checked, outcome.findings.duplicated, outcome.findings.lost), (3, 1, 3));
        assert_eq!((outcome.slow_clients, outcome.slow_missing), (1, 2));
    }

    #[test]
    fn a_room_hears_its_members_only() {
        let mut world = World::new(Layout::of_rooms(5, 2), Loop::Closed(1));
        let joins = world.call(|broadcast, cx| {
            broadcast.handle_incoming(4, &Incoming::Connected { is_recovered: false }, cx)
        });
        assert!(matches!(joins[..], [Command::Emit { kind: EventKind::Join(1), .. }]));
        world.call(|broadcast, cx| broadcast.handle_start(cx));
        // Five clients in three rooms: 0 and 3, 1 and 4, and 2 alone.
        assert_eq!(world.broadcast.outstanding(), 4 + 4 + 1);
        for (receiver, sender) in [(0, 0), (0, 3), (3, 0), (3, 3), (2, 2)] {
            world.deliver(receiver, sender, 0);
        }
        assert_eq!(world.broadcast.ledger.findings.unexpected, 0);
        world.deliver(0, 1, 0);
        world.deliver(0, 0, 9);
        assert_eq!(world.broadcast.ledger.findings.unexpected, 2);
    }

    #[test]
    fn the_slow_share_stops_at_the_window_and_resumes_after_its_stall() {
        let layout = Layout { clients: 4, rooms: None, slow: 2, stall: Some(Duration::from_secs(1)) };
        let mut world = World::new(layout, Loop::Closed(1));
        world.measure.begin(Moment(100), Duration::from_secs(9), &[]);
        let muted = |commands: &[Command]| {
            commands.iter().filter(|c| matches!(c, Command::Mute { is_muted: true, .. })).count()
        };
        for (now, commands_len, muted_len) in
            [(99, 0, 0), (100, 2, 2), (101, 0, 0), (1_000_000_100, 2, 0), (2_000_000_000, 0, 0)]
        {
            world.now = Moment(now);
            let commands = world.call(|broadcast, cx| {
                broadcast.handle_tick(cx);
            });
            assert_eq!((commands.len(), muted(&commands)), (commands_len, muted_len), "at {now}");
        }
    }
}
