//! The ring wire: one io_uring per shard, and one loop that owns it.
//!
//! Each turn takes what the kernel completed, lets the shard work, queues one send for every connection that
//! is owed something, and goes back into the kernel once: everything is submitted and the next completion awaited in
//! the same call. Receives are multishot into buffers that all connections share, so a connection at rest
//! owns neither a buffer nor a task. Needs Linux 6.1; elsewhere the portable wire serves.

mod buffers;
mod demand;
mod submission;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::io::Errno;
use rustix::net::{Shutdown, getpeername, shutdown};

use crate::base::ids::ShardId;
use crate::base::places::Places;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::driver::balance::Balance;
use crate::driver::clock::{Clock, WallWatch};
use crate::driver::doorbell::silence;
use crate::driver::files::{FileJob, FileReader};
use crate::driver::portable::{peer_of, send_now};
use crate::driver::ring::submission::{
    Completion, Kind, PIECES_PER_SEND_MAX, Ring, SendPieces, Token, adopt_descriptor,
};
use crate::driver::stop::{close_listener, empty_queue};
use crate::driver::{ShardParts, build_shard, place_connection, send_connection};
use crate::mesh::{Handoff, InboxReceiver, Mesh, ShardMessage};
use crate::message::peer::Arrival;
use crate::shard::value::effect::Output;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::share::SHARE_EVENTS_MAX;
use crate::shard::{Shard, Turn};

/// Completions handled before the shard's turn ends and its sends go out.
const COMPLETIONS_PER_TURN_MAX: usize = 1024;

/// Messages taken from the inbox in one turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// Connections flushed in one turn: a broadcast to a huge room goes out in slices, and what arrives meanwhile waits
/// for one slice only.
const FLUSHES_PER_TURN_MAX: usize = 1024;

/// Up to this many connections are flushed by plain sends: for one or two a ring operation costs more.
const DIRECT_SENDS_MAX: usize = 2;

/// Bytes of one piece in one send.
const SEND_BYTES_MAX: usize = 256 * 1024;

/// How long a turn takes in, and goes on with what is unread, before its sends go out. It is looked at the clock only after
/// as many events as one connection may have of a turn.
const TURN_TIME: Duration = Duration::from_millis(1);

/// How long accepting rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether this machine lets us have the ring wire.
pub(crate) fn probe() -> std::io::Result<()> {
    Ring::new().map(drop)
}

/// A connection's descriptor and what the kernel is doing with it.
struct Wire {
    key: Key,
    descriptor: OwnedFd,
    is_receiving: bool,
    /// The shard takes what comes; if not, no receive is begun.
    is_wanted: bool,
    is_sending: bool,
    /// Lent to the kernel while a send of several pieces is under way.
    pieces: Option<Box<SendPieces>>,
}

/// A wire that its shard has given up, until the kernel is done with it.
struct DyingWire {
    wire: Wire,
    /// What a send may still be reading.
    outbox: Outbox,
    /// Where the connection goes; nowhere when it closes.
    destination: Option<Destination>,
}

/// The rest of a handoff.
struct Destination {
    to: ShardId,
    arrival: Arrival,
    unread: Vec<u8>,
}

struct Listener {
    /// `None` once it is closed.
    descriptor: Option<OwnedFd>,
    is_accepting: bool,
    is_cancelled: bool,
}

/// One shard with its ring.
struct Pump {
    // Declared first so that the kernel is done with everything below before it is freed.
    ring: Ring,
    id: ShardId,
    shard: Shard,
    wires: Places<Wire>,
    dying: HashMap<u64, DyingWire>,
    // Boxed, because the kernel is told where they are and they must not move.
    #[allow(clippy::vec_box)]
    spare_pieces: Vec<Box<SendPieces>>,
    listeners: Vec<Listener>,
    /// When accepting goes on after the process ran out of descriptors.
    accept_again: Time,
    mesh: Arc<Mesh>,
    inbox: InboxReceiver,
    bell: Arc<OwnedFd>,
    is_bell_watched: bool,
    files: FileReader,
    balance: Balance,
    clock: Clock,
    wall: WallWatch,
    turn: Turn,
    /// Connections that are owed bytes, in the order in which they became so.
    unflushed: VecDeque<Key>,
    unflushed_since: Duration,
    flush_window: Duration,
    /// Set once the shard is asked to stop: when it stops waiting for its clients.
    stop_by: Option<Time>,
    shutdown_patience: Duration,
}

/// Runs a shard on this thread until it is asked to stop.
pub(crate) fn run(parts: ShardParts, ready: Sender<Result<(), String>>) {
    let ring = match Ring::new() {
        Ok(ring) => ring,
        Err(error) => {
            // Nobody listens any more when another shard has failed already.
            let _ = ready.send(Err(format!("cannot set up a shard's io_uring: {error}")));
            return;
        }
    };
    let ShardParts { core, app, start, inbox, bell, listeners, files, balance, clock } = parts;
    let (id, mesh) = (core.id, Arc::clone(&core.mesh));
    let (shutdown_patience, flush_window) = (start.config.shutdown_patience(), start.config.flush_window);
    let (shard, tasks) = build_shard(core, app, &start);
    let listeners = listeners
        .into_iter()
        .map(|one| Listener { descriptor: Some(one), is_accepting: false, is_cancelled: false })
        .collect();
    let mut pump = Pump {
        ring,
        id,
        shard,
        wires: Places::default(),
        dying: HashMap::new(),
        spare_pieces: Vec::new(),
        listeners,
        accept_again: Time(0),
        mesh,
        inbox,
        bell,
        is_bell_watched: false,
        files,
        balance,
        clock,
        wall: WallWatch::default(),
        turn: Turn::default(),
        unflushed: VecDeque::new(),
        unflushed_since: Duration::ZERO,
        flush_window,
        stop_by: None,
        shutdown_patience,
    };
    for task in tasks {
        let now = pump.clock.now();
        pump.shard.spawn(task, now);
    }
    // The starter waits for this word from every shard; it is there as long as nobody failed.
    let _ = ready.send(Ok(()));
    drop(ready);
    pump.run();
    pump.shard.drop_tasks();
}

impl Pump {
    fn run(&mut self) {
        let mut woken = self.clock.elapsed();
        loop {
            let is_more_mail = self.take_mail();
            let now = self.clock.now();
            if self.shard.next_timeout() <= now {
                self.shard.handle_timeout(now);
            }
            self.close_listeners();
            self.arm_listeners(now);
            self.end_turn();
            if self.is_done(now) {
                return;
            }
            let busy = self.clock.elapsed().saturating_sub(woken);
            self.shard.core.borrow().counters.busy_micros.add(busy.as_micros() as u64);
            let entered = self.enter(is_more_mail);
            woken = self.clock.elapsed();
            if let Err(error) = entered {
                tracing::error!(%error, "io_uring failed; the shard stops");
                return;
            }
            if let Some(unix_millis) = self.wall.take_due(woken) {
                self.shard.set_wall_clock(unix_millis, self.clock.now());
            }
            self.take_completions();
            self.go_on();
        }
    }

    /// Goes into the kernel: to sleep, unless there is something left to do.
    fn enter(&mut self, is_more_mail: bool) -> std::io::Result<()> {
        let must_flush = !self.unflushed.is_empty() && self.is_flush_due();
        let is_busy = must_flush || is_more_mail || self.shard.is_unfinished() || self.ring.completions() > 0;
        if is_busy || !self.mesh.fall_asleep(self.id, &self.inbox) {
            return self.ring.poll();
        }
        let entered = self.ring.wait(self.patience());
        self.mesh.wake_up(self.id);
        entered
    }

    /// How long to sleep when nothing happens; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        let until = self.wake_by();
        let timer = (until != Time::NEVER).then(|| until.since(self.clock.now()));
        if self.unflushed.is_empty() {
            return timer;
        }
        let flush = (self.unflushed_since + self.flush_window).saturating_sub(self.clock.elapsed());
        Some(timer.map_or(flush, |timer| timer.min(flush)))
    }

    fn wake_by(&self) -> Time {
        let mut until = self.shard.next_timeout().min(self.ring.buffers.demand.shrinks_at());
        if self.listeners.iter().any(|listener| !listener.is_accepting) && !self.has_drained() {
            until = until.min(self.accept_again);
        }
        self.stop_by.map_or(until, |stop_by| until.min(stop_by))
    }

    fn is_done(&self, now: Time) -> bool {
        let is_closed = || self.listeners.iter().all(|listener| listener.descriptor.is_none());
        let is_at_rest = || is_closed() && self.shard.is_empty() && self.dying.is_empty();
        self.stop_by.is_some_and(|stop_by| now >= stop_by || is_at_rest())
    }

    /// Whether the shard was asked to stop and its sessions have ended.
    fn has_drained(&self) -> bool {
        self.stop_by.is_some() && self.shard.core.borrow().has_drained()
    }

    /// Closes what a shard listens on once its sessions have ended. Clients that the kernel holds in its queue are taken
    /// first: closing resets them, and they have done nothing wrong.
    fn close_listeners(&mut self) {
        if !self.has_drained() {
            return;
        }
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if listener.is_accepting {
                // It answers when nothing more comes of it; until then connections may.
                if !std::mem::replace(&mut listener.is_cancelled, true) {
                    self.ring.cancel_accept(index);
                }
                continue;
            }
            let Some(descriptor) = listener.descriptor.take() else { continue };
            for (connection, peer) in empty_queue(&descriptor) {
                self.balance.arrive(self.id);
                self.add_connection(connection, peer.into(), &[], Vec::new());
            }
            close_listener(&descriptor);
        }
    }

    /// Messages of other shards and tasks that can go on. True when some are left for the next turn.
    fn take_mail(&mut self) -> bool {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let message = self.inbox.next_message();
            let wake = self.inbox.next_wake();
            if message.is_none() && wake.is_none() {
                return false;
            }
            let now = self.clock.now();
            if let Some(message) = message {
                self.receive_message(message, now);
            }
            if let Some(task) = wake {
                self.shard.wake(task, now);
            }
        }
        true
    }

    fn receive_message(&mut self, message: ShardMessage, now: Time) {
        match message {
            ShardMessage::Handoff(handoff) => {
                let Handoff { wire, arrival, owed, unread } = *handoff;
                if let Ok(descriptor) = wire.downcast::<OwnedFd>() {
                    self.add_connection(*descriptor, arrival, &owed, unread);
                }
            }
            ShardMessage::Shutdown => {
                self.stop_by = Some(now + self.shutdown_patience);
                self.shard.deliver(ShardMessage::Shutdown, now);
            }
            message => self.shard.deliver(message, now),
        }
    }

    fn arm_listeners(&mut self, now: Time) {
        if !std::mem::replace(&mut self.is_bell_watched, true) {
            self.ring.watch_bell(self.bell.as_fd());
        }
        if now < self.accept_again || self.has_drained() {
            return;
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(descriptor) = &listener.descriptor
                && !std::mem::replace(&mut listener.is_accepting, true)
            {
                self.ring.accept(descriptor.as_fd(), index);
            }
        }
    }

    fn take_completions(&mut self) {
        let now = self.clock.now();
        let started = self.clock.elapsed();
        let mut looked = self.shard.events_taken();
        for _ in 0..COMPLETIONS_PER_TURN_MAX {
            let taken = self.shard.events_taken();
            if taken.wrapping_sub(looked) >= u64::from(SHARE_EVENTS_MAX) {
                looked = taken;
                if self.clock.elapsed().saturating_sub(started) >= TURN_TIME {
                    break;
                }
            }
            let Some(completion) = self.ring.next_completion() else { break };
            match completion.token.kind() {
                Some(Kind::Receive) => self.received(completion, now),
                Some(Kind::Send) => self.sent(completion, now),
                Some(Kind::Accept) => self.accepted(completion, now),
                Some(Kind::Bell) => {
                    silence(&self.bell);
                    self.is_bell_watched &= completion.has_more;
                }
                Some(Kind::Cancel) | None => {}
            }
        }
        self.ring.end_receives(now);
    }

    /// Goes on with connections that sent more than their share of a turn, one share after another, until the turn's time is
    /// over: whatever else has arrived by then comes first.
    fn go_on(&mut self) {
        if !self.shard.is_unfinished() {
            return;
        }
        let started = self.clock.elapsed();
        let now = self.clock.now();
        while self.shard.go_on(now) {
            for output in self.shard.take_outputs() {
                self.do_output(output);
            }
            if self.clock.elapsed().saturating_sub(started) >= TURN_TIME {
                return;
            }
        }
    }

    fn accepted(&mut self, completion: Completion, now: Time) {
        if !completion.has_more
            && let Some(listener) = self.listeners.get_mut(completion.token.index() as usize)
        {
            listener.is_accepting = false;
        }
        if completion.result >= 0 {
            let descriptor = adopt_descriptor(completion.result);
            // Without an address it is reset already, whatever it has sent.
            let Ok(address) = getpeername(&descriptor) else { return };
            let peer = peer_of(address);
            let place = place_connection(&self.balance, &self.mesh, self.id);
            if place == self.id {
                self.add_connection(descriptor, peer.into(), &[], Vec::new());
            } else {
                let handoff = Handoff {
                    wire: Box::new(descriptor),
                    arrival: peer.into(),
                    owed: Vec::new(),
                    unread: Vec::new(),
                };
                send_connection(&self.mesh, &self.balance, place, handoff);
            }
            return;
        }
        let error = Errno::from_raw_os_error(-completion.result);
        // The client gave up while it waited in the queue, or we asked to stop.
        let is_expected = matches!(error, Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::CANCELED);
        if !is_expected && !self.has_drained() {
            tracing::warn!(%error, pause_ms = ACCEPT_PAUSE.as_millis(), "accepting pauses");
            self.accept_again = now + ACCEPT_PAUSE;
        }
    }

    fn received(&mut self, completion: Completion, now: Time) {
        let Completion { token, result, buffer, has_more } = completion;
        let len = usize::try_from(result).unwrap_or(0);
        let key = match self.wires.get_mut(token.index()) {
            Some(wire) if token.is_of(wire.key) => {
                wire.is_receiving = has_more;
                Some(wire.key)
            }
            _ => None,
        };
        if let Some(buffer) = buffer {
            let bytes = self.ring.buffers.bytes(buffer, len);
            match (key, self.dying.get_mut(&token.owner())) {
                (Some(key), _) => {
                    self.shard.receive(key, bytes, now);
                    for output in self.shard.take_outputs() {
                        self.do_output(output);
                    }
                }
                (None, Some(DyingWire { destination: Some(destination), .. })) => {
                    destination.unread.extend_from_slice(bytes);
                }
                (None, _) => {}
            }
            self.ring.buffers.give_back(buffer);
        }
        if result == -libc::ENOBUFS {
            self.ring.buffers.demand.refused();
        }
        let Some(key) = key.filter(|key| self.wire_mut(*key).is_some()) else {
            return self.dying_answered(token, |wire| wire.is_receiving = has_more);
        };
        if has_more {
            return;
        }
        // Out of buffers the kernel ends the multishot, and so do we when too much is unread; the bytes wait in the socket.
        let is_broken = result < 0 && result != -libc::ENOBUFS && result != -libc::ECANCELED;
        if result == 0 {
            self.shard.ended(key, now);
        } else if is_broken {
            self.shard.closed(key, now);
        } else {
            self.receive_if_wanted(key);
        }
    }

    fn receive_if_wanted(&mut self, key: Key) {
        let Some(wire) = self.wires.get_mut(key.index) else { return };
        if wire.key == key && wire.is_wanted && !wire.is_receiving {
            wire.is_receiving = true;
            self.ring.receive(wire.descriptor.as_fd(), key);
        }
    }

    fn sent(&mut self, completion: Completion, now: Time) {
        let Completion { token, result, .. } = completion;
        let live = match self.wires.get_mut(token.index()) {
            Some(wire) if token.is_of(wire.key) => Some(wire),
            _ => None,
        };
        let Some(wire) = live else {
            if let Some(dying) = self.dying.get_mut(&token.owner()) {
                let mut pool = std::mem::take(&mut self.shard.core.borrow_mut().buffers);
                dying.outbox.advance(usize::try_from(result).unwrap_or(0), &mut pool);
                self.shard.core.borrow_mut().buffers = pool;
            }
            return self.dying_answered(token, |wire| wire.is_sending = false);
        };
        wire.is_sending = false;
        self.spare_pieces.extend(wire.pieces.take());
        let key = wire.key;
        let Ok(count) = usize::try_from(result) else {
            // The receive that is under way answers too, and ends the connection.
            let is_receiving = wire.is_receiving;
            let _ = shutdown(&wire.descriptor, Shutdown::Both);
            if !is_receiving {
                self.shard.closed(key, now);
            }
            return;
        };
        let mut core = self.shard.core.borrow_mut();
        core.now = now;
        core.sent(key, count);
        if let Some(connection) = core.connections.get_mut(key) {
            connection.outbox.unlock();
            if !connection.outbox.is_empty() {
                core.mark_dirty(key);
            }
        }
    }

    /// A wire that was given up has one operation less under way.
    fn dying_answered(&mut self, token: Token, change: impl FnOnce(&mut Wire)) {
        if let Some(dying) = self.dying.get_mut(&token.owner()) {
            change(&mut dying.wire);
            self.bury(token.owner());
        }
    }

    /// Closes or sends away a wire once the kernel does nothing with it any more.
    fn bury(&mut self, owner: u64) {
        let is_at_rest = |dying: &DyingWire| !dying.wire.is_receiving && !dying.wire.is_sending;
        if !self.dying.get(&owner).is_some_and(is_at_rest) {
            return;
        }
        let Some(DyingWire { wire, outbox, destination }) = self.dying.remove(&owner) else { return };
        self.spare_pieces.extend(wire.pieces);
        self.balance.leave(self.id);
        let Some(Destination { to, arrival, unread }) = destination else { return };
        self.balance.arrive(to);
        let handoff = Handoff { wire: Box::new(wire.descriptor), arrival, owed: outbox.to_bytes(), unread };
        send_connection(&self.mesh, &self.balance, to, handoff);
    }

    /// Takes over a connection: accepted, or handed over with what was read elsewhere.
    fn add_connection(&mut self, descriptor: OwnedFd, arrival: Arrival, owed: &[u8], mut unread: Vec<u8>) {
        let now = self.clock.now();
        let Some(key) = self.shard.adopt(arrival, owed, &unread, now) else {
            return self.balance.leave(self.id);
        };
        self.ring.receive(descriptor.as_fd(), key);
        let wire =
            Wire { key, descriptor, is_receiving: true, is_wanted: true, is_sending: false, pieces: None };
        self.wires.put(key.index, wire);
        if !unread.is_empty() {
            self.shard.receive(key, &mut unread, now);
            for output in self.shard.take_outputs() {
                self.do_output(output);
            }
        }
    }

    /// Does what the shard left: outputs, one slice of sends, bells.
    fn end_turn(&mut self) {
        let mut turn = std::mem::take(&mut self.turn);
        let mut left = FLUSHES_PER_TURN_MAX;
        loop {
            self.shard.end_turn(&mut turn);
            for shard in turn.bells.drain(..) {
                self.mesh.ring(shard);
            }
            let has_outputs = !turn.outputs.is_empty();
            for output in turn.outputs.drain(..) {
                self.do_output(output);
            }
            if self.unflushed.is_empty() && !turn.dirty.is_empty() {
                self.unflushed_since = self.clock.elapsed();
            }
            self.unflushed.extend(turn.dirty.drain(..));
            let count = if self.is_flush_due() { self.unflushed.len().min(left) } else { 0 };
            if count == 0 && !has_outputs {
                break;
            }
            left -= count;
            let is_direct = self.unflushed.len() <= DIRECT_SENDS_MAX;
            for _ in 0..count {
                if let Some(key) = self.unflushed.pop_front() {
                    self.flush_connection(key, is_direct);
                }
            }
        }
        self.turn = turn;
    }

    /// Whether sends may go: at once, unless they are to gather for `flush_window`.
    fn is_flush_due(&self) -> bool {
        self.flush_window.is_zero() || self.clock.elapsed() >= self.unflushed_since + self.flush_window
    }

    fn wire_mut(&mut self, key: Key) -> Option<&mut Wire> {
        self.wires.get_mut(key.index).filter(|wire| wire.key == key)
    }

    fn do_output(&mut self, output: Output) {
        match output {
            Output::Close { connection, outbox } => self.give_up(connection, outbox, None),
            Output::Handoff { connection, to, arrival, outbox, unread } => {
                self.give_up(connection, outbox, Some(Destination { to, arrival, unread }));
            }
            Output::ShutdownWrite(connection) => {
                if let Some(wire) = self.wire_mut(connection) {
                    // A peer that is gone already needs no word.
                    let _ = shutdown(&wire.descriptor, Shutdown::Write);
                }
            }
            Output::StopReading(connection) => {
                let Some(wire) = self.wire_mut(connection) else { return };
                wire.is_wanted = false;
                if wire.is_receiving {
                    self.ring.cancel(Token::new(Kind::Receive, connection));
                }
            }
            Output::StartReading(connection) => {
                if let Some(wire) = self.wire_mut(connection) {
                    wire.is_wanted = true;
                }
                self.receive_if_wanted(connection);
            }
            Output::File { connection, work } => {
                let job = FileJob { shard: self.id, connection, work };
                if let Err(answer) = self.files.submit(job) {
                    self.shard.deliver(ShardMessage::File(Box::new(answer)), self.clock.now());
                }
            }
        }
    }

    /// The shard is done with a connection; the kernel may not be.
    fn give_up(&mut self, key: Key, outbox: Outbox, destination: Option<Destination>) {
        if self.wire_mut(key).is_none() {
            return;
        }
        let Some(wire) = self.wires.take(key.index) else { return };
        let token = Token::new(Kind::Receive, key);
        match destination {
            Some(_) => {
                if wire.is_receiving {
                    self.ring.cancel(token);
                }
                if wire.is_sending {
                    // It answers with what is out already; the rest travels along.
                    self.ring.cancel(Token::new(Kind::Send, key));
                }
            }
            // Both a receive and a send that are under way answer to this.
            None if wire.is_receiving || wire.is_sending => drop(shutdown(&wire.descriptor, Shutdown::Both)),
            None => {}
        }
        if let Some(old) = self.dying.insert(token.owner(), DyingWire { wire, outbox, destination }) {
            // 2^24 tenants later on the same place: the kernel may still read what the old one owes.
            tracing::error!("a connection's end was never answered; its memory is given up");
            std::mem::forget(old);
        }
        self.bury(token.owner());
    }

    /// Sends what a connection is owed: one operation, whatever was queued.
    fn flush_connection(&mut self, key: Key, is_direct: bool) {
        let mut core = self.shard.core.borrow_mut();
        let Some(connection) = core.connections.get_mut(key) else { return };
        connection.is_dirty = false;
        let Some(wire) = self.wires.get_mut(key.index) else { return };
        if wire.key != key || wire.is_sending {
            return;
        }
        if is_direct {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_SEND_MAX];
            let count = connection.outbox.gather(&mut slices);
            // What the kernel does not take now, and any error, is the ring's business below.
            if let Ok(sent) = send_now(wire.descriptor.as_fd(), &slices[..count]) {
                core.sent(key, sent);
            }
        }
        let Some(connection) = core.connections.get_mut(key) else { return };
        if connection.outbox.is_empty() {
            core.finish_flush(key);
            return;
        }
        wire.is_sending = true;
        if connection.outbox.segments_len() == 1 {
            connection.outbox.lock(1);
            let front = connection.outbox.front().expect("an outbox that is owed bytes has a front");
            // A send answers when it is done: one of bounded size shows that the peer makes progress.
            self.ring.send(wire.descriptor.as_fd(), key, &front[..front.len().min(SEND_BYTES_MAX)]);
            return;
        }
        let mut slices = [IoSlice::new(&[]); PIECES_PER_SEND_MAX];
        let count = connection.outbox.gather(&mut slices);
        let pieces = wire.pieces.insert(self.spare_pieces.pop().unwrap_or_else(SendPieces::new));
        self.ring.send_pieces(wire.descriptor.as_fd(), key, pieces, &slices[..count]);
        connection.outbox.lock(count);
    }
}
