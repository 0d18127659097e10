//! The seam between a shard and whoever drives it: the order of a turn, and what wires are asked to do in it.
//!
//! Drivers, the test kit, the simulation, the allocation test and the benches each have wires of their own kind; they say how
//! by implementing [`Wires`]. When what is done is decided here and nowhere else: [`Shard::end_turn`] is the one place that calls
//! bells, closes, handovers and sends, so no host can have an order of its own. This file does no IO itself.

use std::any::Any;
use std::io::IoSlice;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::{Handoff, InboxReceiver, ShardMessage};
use crate::message::files::FileAnswer;
use crate::message::peer::Arrival;
use crate::shard::core::Core;
use crate::shard::run::Shard;
use crate::shard::user::current::with_current;
use crate::shard::value::effect::{Effects, Output};
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;

/// Connections that one turn sends to: a broadcast to a huge room goes out in slices, and what arrives meanwhile waits for one
/// slice only.
const FLUSHES_PER_TURN_MAX: usize = 1024;

/// Messages and wakes that one turn takes from the inbox.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// The wires of one shard: how a host does what its shard asks for. Only this file calls these methods.
pub(crate) trait Wires {
    /// Connections that one turn sends to; the others are first in the next.
    const FLUSHES_MAX: usize = FLUSHES_PER_TURN_MAX;

    /// A connection came from another shard, with this wire. It has a key here, or `None`: there are too many, so the wire
    /// closes. False when the wire cannot be used.
    fn attach(&mut self, wire: Box<dyn Any + Send>, key: Option<Key>) -> bool;

    /// So many connections are owed bytes, maybe none: whether they may be sent to now. Where they may not, the host ends another
    /// turn once they may.
    fn may_flush(&mut self, waiting: usize) -> bool;

    /// Sends what a connection is owed, as much as the wire takes. A wire that takes no more says so later, with
    /// [`Shard::sent`] or [`Shard::writable`].
    fn flush_wire(&mut self, key: Key, unsent: Unsent<'_>);

    /// Closes a wire now. What was still owed comes along: a send of it may be under way.
    fn close_wire(&mut self, key: Key, outbox: Outbox);

    /// Tells the peer that all is written, and goes on reading.
    fn shut_down_write(&mut self, key: Key);

    /// Gives a wire to another shard.
    fn hand_over(&mut self, key: Key, to: ShardId, leaving: Leaving);

    /// Whether anything is to be read from a wire until the next word.
    fn set_wanted(&mut self, key: Key, is_wanted: bool);

    /// Has work done on the thread of files, whose answer comes as a [`ShardMessage::File`]; an answer that is there at once is
    /// returned.
    fn do_file_work(&mut self, key: Key, work: FileWork) -> Option<FileAnswer>;

    /// Wakes a shard that has mail from this one.
    fn ring_bell(&mut self, shard: ShardId);
}

/// What goes with a connection to another shard.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) arrival: Arrival,
    /// What the connection is owed.
    pub(crate) outbox: Outbox,
    /// What was read and not used.
    pub(crate) unread: Vec<u8>,
}

impl Leaving {
    /// The message that brings the connection, with its wire.
    pub(crate) fn with_wire(self, wire: Box<dyn Any + Send>) -> Handoff {
        Handoff { wire, arrival: self.arrival, owed: self.outbox.to_bytes(), unread: self.unread }
    }
}

/// What one connection is owed, for its wire to send.
pub(crate) struct Unsent<'a> {
    core: &'a mut Core,
    key: Key,
}

impl Unsent<'_> {
    /// Lets `send` take the next bytes, in at most `N` pieces; it says how many are out, or why none are. False once nothing is left
    /// to send.
    #[inline]
    pub(crate) fn transmit<const N: usize, E>(
        &mut self,
        send: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        self.core.tables.transmit(self.key, |outbox| with_pieces::<N, _>(outbox, send))
    }

    /// Lets `begin` start a send that ends later, of at most `N` pieces. They stay as they are, and where they are, until
    /// [`Shard::sent`] says how it ended. False: nothing is left to send, and nothing was begun.
    #[inline]
    pub(crate) fn begin_send<const N: usize>(&mut self, begin: impl FnOnce(&[IoSlice<'_>])) -> bool {
        let Some(connection) = self.core.tables.connections.get_mut(self.key) else { return false };
        if connection.outbox.is_empty() {
            return false;
        }
        let count = with_pieces::<N, usize>(&connection.outbox, |pieces| {
            begin(pieces);
            pieces.len()
        });
        connection.outbox.lock(count);
        true
    }
}

/// Calls `work` with the first pieces of an outbox that is not empty; most have one.
#[inline]
fn with_pieces<const N: usize, R>(outbox: &Outbox, work: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
    match outbox.front() {
        Some(front) if outbox.segments_len() == 1 => work(&[IoSlice::new(front)]),
        _ => with_many::<N, R>(outbox, work),
    }
}

/// Apart, so that what is done for most is small enough to stand where it is used.
#[inline(never)]
fn with_many<const N: usize, R>(outbox: &Outbox, work: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
    let mut pieces = [IoSlice::new(&[]); N];
    let count = outbox.gather(&mut pieces);
    work(&pieces[..count])
}

// What comes in.
impl Shard {
    /// A connection was accepted. `None`: there are too many, close it.
    pub(crate) fn open(
        &mut self,
        arrival: impl Into<Arrival>,
        now: Time,
        wires: &mut impl Wires,
    ) -> Option<Key> {
        self.clear_places(wires);
        self.begin_connection(arrival.into(), now)
    }

    /// Does what is noted for wires of connections that have ended, before a new one is given the place of one of them: a host
    /// has one wire at a place, and may still send from the outbox of the old one.
    fn clear_places(&mut self, wires: &mut impl Wires) {
        while self.do_outputs(wires) {}
    }

    /// A connection's wire brought bytes; they are decoded in place. What they lead to is done before more of the same
    /// connection are received: after a handover those belong elsewhere.
    pub(crate) fn receive(&mut self, key: Key, bytes: &mut [u8], now: Time, wires: &mut impl Wires) {
        self.take_bytes(key, bytes, now);
        self.do_outputs(wires);
    }

    fn take_bytes(&mut self, key: Key, bytes: &mut [u8], now: Time) {
        self.work(now, |shard| shard.receive_bytes(key, bytes));
    }

    /// Handles what waits in the inbox, messages and wakes in turn, so that neither kind keeps the other waiting. Each has its time
    /// from `clock`. True when some is left for the next turn.
    pub(crate) fn take_mail(
        &mut self,
        inbox: &InboxReceiver,
        clock: impl Fn() -> Time,
        wires: &mut impl Wires,
    ) -> bool {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let (message, wake) = (inbox.next_message(), inbox.next_wake());
            if message.is_none() && wake.is_none() {
                return false;
            }
            let now = clock();
            if let Some(message) = message {
                self.take_message(message, now, wires);
            }
            if let Some(task) = wake {
                self.wake(task, now);
            }
        }
        true
    }

    /// A message from the inbox. One that brings a connection is for this file, any other for the tables.
    pub(crate) fn take_message(&mut self, message: ShardMessage, now: Time, wires: &mut impl Wires) {
        self.core.borrow().tables.meters().mesh_messages.add(1);
        let ShardMessage::Handoff(handoff) = message else { return self.deliver(message, now) };
        let Handoff { wire, arrival, owed, mut unread } = *handoff;
        self.clear_places(wires);
        let key = self.adopt(arrival, &owed, &unread, now);
        let is_attached = wires.attach(wire, key);
        let Some(key) = key else { return };
        if !is_attached {
            self.closed(key, now);
        } else if !unread.is_empty() {
            self.receive(key, &mut unread, now, wires);
        }
    }

    /// Gives the connections that wait their next share, longest first, until `is_over` says that this has taken long enough or
    /// this turn owes so much that it must be sent first.
    pub(crate) fn go_on(&mut self, now: Time, mut is_over: impl FnMut() -> bool, wires: &mut impl Wires) {
        while self.give_share(now) {
            self.do_outputs(wires);
            if is_over() {
                return;
            }
        }
    }

    /// A send that was under way has ended: so many bytes are out. What is left is sent at the turn's end.
    pub(crate) fn sent(&mut self, key: Key, count: usize, now: Time) {
        let mut core = self.core.borrow_mut();
        core.tables.env.now = now;
        core.tables.sent(key, count);
        if let Some(connection) = core.tables.connections.get_mut(key) {
            connection.outbox.unlock();
            core.flush_later(key);
        }
    }

    /// A wire takes bytes again after it took no more.
    pub(crate) fn writable(&mut self, key: Key, now: Time) {
        let mut core = self.core.borrow_mut();
        core.tables.env.now = now;
        core.flush_later(key);
    }

    /// So many bytes are out of what a connection was still owed when it was given up.
    pub(crate) fn sent_at_last(&mut self, outbox: &mut Outbox, count: usize) {
        outbox.advance(count, &mut self.core.borrow_mut().tables.pools.buffers);
    }
}

// What is to be done.
impl Shard {
    /// Everything that came in has been handled: now what it led to is done. True when connections are left that may be sent to:
    /// the host comes back without sleeping.
    ///
    /// The order, which is that of every host: polls are answered; the bells ring, so that other shards work while this one sends;
    /// connections are closed, handed over and so on; what connections are owed is sent. Since clients that take what they are
    /// owed may set free what waited for that, it begins anew until nothing is left or so many were sent to.
    pub(crate) fn end_turn<W: Wires>(&mut self, wires: &mut W) -> bool {
        let mut left = W::FLUSHES_MAX;
        loop {
            self.end_work();
            self.ring_bells(wires);
            let has_outputs = self.do_outputs(wires);
            let waiting = self.unflushed.len();
            let may_flush = wires.may_flush(waiting);
            let count = if may_flush { waiting.min(left) } else { 0 };
            if count == 0 && !has_outputs {
                return may_flush && waiting > 0;
            }
            left -= count;
            self.flush(count, wires);
            if self.is_at_rest() {
                wires.may_flush(0);
                return false;
            }
        }
    }

    /// Whether nothing is left to do, now that connections were sent to: the rule for those whose clients keep up.
    fn is_at_rest(&self) -> bool {
        let core = self.core.borrow();
        let Effects { dirty, polls_due, outputs, deferred } = &core.tables.effects;
        let is_noted =
            !(dirty.is_empty() && polls_due.is_empty() && outputs.is_empty() && deferred.is_empty());
        self.unflushed.is_empty() && !is_noted && core.tables.bells.is_empty() && !core.tables.has_said
    }

    /// Answers polls, sheds what is too much, and notes which connections are to be sent to.
    fn end_work(&mut self) {
        let is_settled = {
            let core = self.core.borrow();
            core.tables.effects.polls_due.is_empty()
                && core.tables.effects.deferred.is_empty()
                && !core.tables.owed.is_too_much()
                && core.tables.intake.partial_bytes <= core.tables.intake.partial_bytes_max
        };
        if !is_settled {
            // An answered poll lets the next request of its connection in, and a client that has caught up may be
            // waited for, so handlers may run here too.
            let core = std::rc::Rc::clone(&self.core);
            with_current(&core, || {
                self.settle();
                self.answer_polls();
                self.shed_if_due();
                self.close_partial();
                self.settle();
            });
        }
        let mut core = self.core.borrow_mut();
        core.tables.env.counters.owed_bytes.set(core.tables.owed.bytes() as u64);
        core.tables.env.counters.partial_bytes.set(core.tables.intake.partial_bytes as u64);
        if core.recovery.is_on {
            core.tables.meters().lost_sockets.set(core.recovery.lost_now as u64);
        }
        core.tables.new_turn();
        self.unflushed.extend(&core.tables.effects.dirty);
        core.tables.effects.dirty.clear();
    }

    fn ring_bells(&mut self, wires: &mut impl Wires) {
        self.tell_turn_end();
        let mut core = self.core.borrow_mut();
        for shard in core.tables.bells.drain(..) {
            wires.ring_bell(shard);
        }
        if std::mem::take(&mut core.tables.has_said) {
            core.tables.mesh.links.iter().for_each(|link| link.wake());
        }
    }

    /// Does what was noted for the wires so far; false when nothing was noted.
    fn do_outputs(&mut self, wires: &mut impl Wires) -> bool {
        let has_outputs = self.has_outputs();
        if has_outputs {
            self.do_noted(wires);
        }
        has_outputs
    }

    fn has_outputs(&self) -> bool {
        !self.core.borrow().tables.effects.outputs.is_empty()
    }

    #[cold]
    fn do_noted(&mut self, wires: &mut impl Wires) {
        let mut outputs = std::mem::take(&mut self.core.borrow_mut().tables.effects.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Close { connection, outbox } => wires.close_wire(connection, outbox),
                Output::ShutdownWrite(connection) => wires.shut_down_write(connection),
                Output::Handoff { connection, to, arrival, outbox, unread } => {
                    wires.hand_over(connection, to, Leaving { arrival, outbox, unread });
                }
                Output::StopReading(connection) => wires.set_wanted(connection, false),
                Output::StartReading(connection) => wires.set_wanted(connection, true),
                Output::File { connection, work } => {
                    if let Some(answer) = wires.do_file_work(connection, work) {
                        let now = self.core.borrow().tables.env.now;
                        self.deliver(ShardMessage::File(Box::new(answer)), now);
                    }
                }
            }
        }
        let mut core = self.core.borrow_mut();
        if core.tables.effects.outputs.is_empty() {
            core.tables.effects.outputs = outputs;
        }
    }

    /// Sends to the first `count` connections that wait for it.
    fn flush(&mut self, count: usize, wires: &mut impl Wires) {
        let mut core = self.core.borrow_mut();
        for key in self.unflushed.drain(..count) {
            let Some(connection) = core.tables.connections.get_mut(key) else { continue };
            connection.is_dirty = false;
            if connection.outbox.is_empty() {
                core.tables.finish_flush(key);
            } else {
                wires.flush_wire(key, Unsent { core: &mut core, key });
            }
        }
    }
}

impl Core {
    /// A connection is sent to at the turn's end if it is owed anything.
    fn flush_later(&mut self, key: Key) {
        if self.tables.connections.get(key).is_some_and(|connection| !connection.outbox.is_empty()) {
            self.tables.mark_dirty(key);
        }
    }
}
