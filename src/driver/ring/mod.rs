//! The ring wire: one io_uring per shard, and one loop that owns it.
//!
//! Each turn takes what the kernel completed, lets the shard work, queues one send for every connection that
//! is owed something, and goes back into the kernel once: everything is submitted and the next completion awaited in
//! the same call. Receives are multishot into buffers that all connections share, so a connection at rest
//! owns neither a buffer nor a task. Needs Linux 6.1; elsewhere the portable wire serves.

mod buffers;
mod demand;
pub(crate) mod submission;
#[cfg(test)]
mod tests;
pub(crate) mod wires;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use io_uring::types::BufRingEntry;
use io_uring::{cqueue, squeue};
use rustix::io::Errno;
use rustix::net::{Shutdown, getpeername, shutdown};

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::driver::clock::WallWatch;
use crate::driver::descriptor::peer_of;
use crate::driver::ring::buffers::BufferRing;
use crate::driver::ring::submission::{Completion, Kind, Ring, adopt_descriptor};
use crate::driver::ring::wires::{RingWires, Surroundings};
use crate::driver::stop::{close_listener, empty_queue};
use crate::driver::tls::{Carried, Filter, Seat, Verdict};
use crate::driver::{ShardParts, build_shard, place_connection, send_connection};
use crate::mesh::{Handoff, InboxReceiver};
use crate::message::peer::{Arrival, Door};
use crate::shard::Shard;
use crate::shard::value::share::SHARE_EVENTS_MAX;

/// Completions handled before the shard's turn ends and its sends go out.
const COMPLETIONS_PER_TURN_MAX: usize = 1024;

/// How long a turn takes in, and goes on with what is unread, before its sends go out. It is looked at the clock only after
/// as many events as one connection may have of a turn.
const TURN_TIME: Duration = Duration::from_millis(1);

/// How long accepting rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether this machine lets us have the ring wire.
pub(crate) fn probe() -> std::io::Result<()> {
    Ring::new().map(drop)
}

/// What one ring has for itself, whatever its connections do: buffers to receive into, and both its queues.
pub(crate) const RECEIVE_BYTES: usize = demand::BUFFERS_MAX as usize
    * (buffers::BUFFER_BYTES + size_of::<BufRingEntry>())
    + submission::BATCH as usize * size_of::<squeue::Entry>()
    + submission::COMPLETIONS as usize * size_of::<cqueue::Entry>();

struct Listener {
    /// `None` once it is closed.
    descriptor: Option<OwnedFd>,
    door: Door,
    is_shared: bool,
    is_accepting: bool,
    is_cancelled: bool,
}

/// One shard with its ring.
struct Pump {
    // Declared first: the kernel must be done with what the ring was lent before anything else is freed.
    wires: RingWires,
    buffers: Rc<RefCell<BufferRing>>,
    shard: Shard,
    listeners: Vec<Listener>,
    /// When accepting goes on after the process ran out of descriptors.
    accept_again: Time,
    inbox: InboxReceiver,
    bell: Arc<OwnedFd>,
    is_bell_watched: bool,
    wall: WallWatch,
    /// Connections are left that may be sent to.
    must_flush: bool,
    /// Set once the sessions of the shard end: when it stops waiting for its clients.
    stop_by: Option<Time>,
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
    let ShardParts { parts, app, start, inbox, bell, listeners, files, balance, clock, tls } = parts;
    let tls = Seat::new(tls, Arc::clone(&parts.counters));
    let (id, mesh) = (parts.id, Arc::clone(&parts.mesh));
    let flush_window = start.config.flush_window;
    let (shard, tasks) = build_shard(parts, app, &start);
    let listeners = listeners
        .into_iter()
        .map(|one| Listener {
            descriptor: Some(one.descriptor),
            door: one.door,
            is_shared: one.is_shared,
            is_accepting: false,
            is_cancelled: false,
        })
        .collect();
    let mut pump = Pump {
        buffers: Rc::clone(&ring.buffers),
        wires: RingWires::new(ring, Surroundings { id, mesh, files, balance, clock, flush_window, tls }),
        shard,
        listeners,
        accept_again: Time(0),
        inbox,
        bell,
        is_bell_watched: false,
        wall: WallWatch::default(),
        must_flush: false,
        stop_by: None,
    };
    for task in tasks {
        let now = pump.wires.clock.now();
        pump.shard.spawn(task, now);
    }
    // The starter waits for this word from every shard; it is there as long as nobody failed.
    let _ = ready.send(Ok(()));
    drop(ready);
    pump.run();
    pump.shard.note_done(pump.wires.dying.len());
    pump.shard.drop_tasks();
}

/// New clients would wait in the queue of a listener that nobody serves. Where another process has it they wait for that one.
impl Drop for Pump {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.wires.mesh.life.leaves_listeners() {
            for listener in &self.listeners {
                if let Some(descriptor) = &listener.descriptor {
                    close_listener(descriptor, listener.is_shared);
                }
            }
        }
    }
}

impl Pump {
    fn run(&mut self) {
        self.shard.begin_turn(self.wires.clock.elapsed());
        loop {
            let clock = self.wires.clock;
            self.go_on_with_handshakes();
            let is_more_mail = self.shard.take_mail(&self.inbox, || clock.now(), &mut self.wires);
            let now = clock.now();
            if self.shard.next_timeout() <= now {
                self.shard.handle_timeout(now);
            }
            if self.shard.is_asked_to_stop() {
                self.stop_by = self.shard.stop_by();
            }
            self.close_listeners();
            self.arm_listeners(now);
            self.must_flush = self.shard.end_turn(&mut self.wires);
            if self.is_done(now) {
                return;
            }
            self.shard.count_busy(self.wires.clock.elapsed());
            let entered = self.enter(is_more_mail);
            let woken = self.wires.clock.elapsed();
            // A send of this turn is done by now, and woke the shard if it slept.
            self.shard.count_sent(woken);
            self.shard.begin_turn(woken);
            if let Err(error) = entered {
                tracing::error!(%error, "io_uring failed; the shard stops");
                return;
            }
            if let Some(unix_millis) = self.wall.take_due(woken) {
                self.shard.set_wall_clock(unix_millis, self.wires.clock.now());
            }
            self.take_completions();
            self.go_on();
        }
    }

    /// Goes into the kernel: to sleep, unless there is something left to do.
    fn enter(&mut self, is_more_mail: bool) -> std::io::Result<()> {
        let ring_is_busy = self.wires.ring.completions() > 0;
        let is_unfinished = self.shard.is_unfinished() || !self.wires.later.is_empty();
        let is_busy = self.must_flush || is_more_mail || is_unfinished || ring_is_busy;
        if is_busy || !self.wires.mesh.fall_asleep(self.wires.id, &self.inbox) {
            return self.wires.ring.poll();
        }
        let entered = self.wires.ring.wait(self.patience());
        self.wires.mesh.wake_up(self.wires.id);
        entered
    }

    /// How long to sleep when nothing happens; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        let until = self.wake_by();
        let timer = (until != Time::NEVER).then(|| until.since(self.wires.clock.now()));
        timer.into_iter().chain(self.wires.until_flush()).min()
    }

    /// A turn has its part of handshakes; first those that earlier turns have left.
    fn go_on_with_handshakes(&mut self) {
        self.wires.tls.begin_turn();
        let now = self.wires.clock.now();
        for key in std::mem::take(&mut self.wires.later) {
            match self.wires.tls.is_used_up() {
                true => self.wires.later.push(key),
                false => receive(&mut self.shard, &mut self.wires, (key, &mut []), now),
            }
        }
    }

    fn wake_by(&self) -> Time {
        let mut until = self.shard.next_timeout().min(self.buffers.borrow().demand.shrinks_at());
        if self.listeners.iter().any(|listener| !listener.is_accepting) && !self.must_close() {
            until = until.min(self.accept_again);
        }
        self.stop_by.map_or(until, |stop_by| until.min(stop_by))
    }

    fn is_done(&self, now: Time) -> bool {
        let is_closed = || self.listeners.iter().all(|listener| listener.descriptor.is_none());
        let is_at_rest = || is_closed() && self.shard.is_empty() && self.wires.dying.is_empty();
        self.stop_by.is_some_and(|stop_by| now >= stop_by || is_at_rest())
    }

    /// Whether nothing is accepted any more: the sessions of the shard have ended, or another process accepts.
    fn must_close(&self) -> bool {
        self.stop_by.is_some() && self.shard.has_drained() || self.wires.mesh.life.is_handed_over()
    }

    /// Closes what a shard listens on once its sessions have ended. Clients that the kernel holds in its queue are taken
    /// first: closing resets them, and they have done nothing wrong. So it is where another process has the listener, too: the kernel
    /// wakes one of those that wait in an accept, and may have woken this one for a client just before it gave up.
    fn close_listeners(&mut self) {
        if !self.must_close() {
            return;
        }
        let leaves = self.wires.mesh.life.leaves_listeners();
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if listener.is_accepting {
                // It answers when nothing more comes of it; until then connections may.
                if !std::mem::replace(&mut listener.is_cancelled, true) {
                    self.wires.ring.cancel_accept(index);
                }
                continue;
            }
            let Some(descriptor) = listener.descriptor.take() else { continue };
            let (door, is_shared) = (listener.door, listener.is_shared);
            for (connection, peer) in empty_queue(&descriptor) {
                self.wires.balance.arrive(self.wires.id);
                self.add_connection(connection, Arrival::accepted(peer, door));
            }
            if !leaves {
                close_listener(&descriptor, is_shared);
            }
        }
    }

    fn arm_listeners(&mut self, now: Time) {
        if !std::mem::replace(&mut self.is_bell_watched, true) {
            self.wires.ring.watch_bell(self.bell.as_fd());
        }
        if now < self.accept_again || self.must_close() {
            return;
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(descriptor) = &listener.descriptor
                && !std::mem::replace(&mut listener.is_accepting, true)
            {
                self.wires.ring.accept(descriptor.as_fd(), index);
            }
        }
    }

    fn take_completions(&mut self) {
        let now = self.wires.clock.now();
        let started = self.wires.clock.elapsed();
        let mut looked = self.shard.events_taken();
        for _ in 0..COMPLETIONS_PER_TURN_MAX {
            let taken = self.shard.events_taken();
            if taken.wrapping_sub(looked) >= u64::from(SHARE_EVENTS_MAX) {
                looked = taken;
                // What has arrived besides is only taken in: behind the many receives of busy peers there may be one of somebody
                // who has asked for little.
                if self.wires.clock.elapsed().saturating_sub(started) >= TURN_TIME {
                    self.shard.postpone_input();
                }
            }
            let Some(completion) = self.wires.ring.next_completion() else { break };
            match completion.token.kind() {
                Some(Kind::Receive) => self.received(completion, now),
                Some(Kind::Send) => self.sent(completion, now),
                Some(Kind::Accept) => self.accepted(completion, now),
                Some(Kind::Bell) => self.is_bell_watched &= completion.has_more,
                Some(Kind::Cancel) | None => {}
            }
        }
        self.wires.ring.end_receives(now);
    }

    /// Goes on with connections that sent more than their share of a turn, one share after another, until the turn's time is
    /// over: whatever else has arrived by then comes first.
    fn go_on(&mut self) {
        if !self.shard.is_unfinished() {
            return;
        }
        let clock = self.wires.clock;
        let started = clock.elapsed();
        let is_over = || clock.elapsed().saturating_sub(started) >= TURN_TIME;
        self.shard.go_on(clock.now(), is_over, &mut self.wires);
    }

    fn accepted(&mut self, completion: Completion, now: Time) {
        let Some(listener) = self.listeners.get_mut(completion.token.index() as usize) else { return };
        listener.is_accepting &= completion.has_more;
        let door = listener.door;
        if completion.result >= 0 {
            let descriptor = adopt_descriptor(completion.result);
            // Without an address it is reset already, whatever it has sent.
            let Ok(address) = getpeername(&descriptor) else { return };
            let arrival = Arrival::accepted(peer_of(address), door);
            let RingWires { balance, mesh, id, .. } = &self.wires;
            let place = place_connection(balance, mesh, *id, door);
            if place == *id {
                self.add_connection(descriptor, arrival);
            } else {
                // Its handshake is for the shard where it lives.
                let wire =
                    Box::new(Carried { descriptor, filter: Filter::of_arrival(arrival, &self.wires.tls) });
                let handoff = Handoff { wire, arrival, owed: Vec::new(), unread: Vec::new() };
                send_connection(mesh, balance, place, handoff);
            }
            return;
        }
        let error = Errno::from_raw_os_error(-completion.result);
        // The client gave up while it waited in the queue, or we asked to stop.
        let is_expected = matches!(error, Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::CANCELED);
        if !is_expected && !self.must_close() {
            tracing::warn!(%error, pause_ms = ACCEPT_PAUSE.as_millis(), "accepting pauses");
            self.accept_again = now + ACCEPT_PAUSE;
        }
    }

    fn received(&mut self, completion: Completion, now: Time) {
        let Completion { token, result, buffer, has_more } = completion;
        let len = usize::try_from(result).unwrap_or(0);
        let key = self.wires.of_token(token).map(|wire| {
            wire.is_receiving = has_more;
            wire.key
        });
        if let Some(buffer) = buffer {
            let mut buffers = self.buffers.borrow_mut();
            let bytes = buffers.bytes(buffer, len);
            match key {
                Some(key) => receive(&mut self.shard, &mut self.wires, (key, bytes), now),
                None => self.wires.receive_dying(token, bytes),
            }
            buffers.give_back(buffer);
        }
        if result == -libc::ENOBUFS {
            self.buffers.borrow_mut().demand.refused();
        }
        let Some(key) = key.filter(|key| self.wires.get_mut(*key).is_some()) else {
            return self.wires.dying_answered(token, None, Some(has_more));
        };
        if has_more {
            return;
        }
        // Out of buffers the kernel ends the multishot, and so do we when too much is unread; the bytes wait in the socket.
        let is_interrupted = result == -libc::ENOBUFS || result == -libc::ECANCELED;
        let has_failed = self.wires.get_mut(key).is_some_and(|wire| wire.is_broken);
        if has_failed || result < 0 && !is_interrupted {
            self.shard.closed(key, now);
        } else if result == 0 {
            let knows = self
                .wires
                .get_mut(key)
                .and_then(|wire| wire.filter.as_ref())
                .is_some_and(|filter| filter.is_end_known());
            if !knows {
                self.shard.ended(key, now);
            }
        } else {
            self.wires.receive_if_wanted(key);
        }
    }

    fn sent(&mut self, completion: Completion, now: Time) {
        let Completion { token, result, .. } = completion;
        let Some(wire) = self.wires.of_token(token) else {
            if let Some(dying) = self.wires.dying.get_mut(&token.owner()) {
                let count = usize::try_from(result).unwrap_or(0);
                let count = dying.wire.filter.as_mut().map_or(count, |filter| filter.sent(count));
                self.shard.sent_at_last(&mut dying.outbox, count);
            }
            return self.wires.dying_answered(token, Some(false), None);
        };
        let key = wire.key;
        self.wires.send_ended(key);
        match usize::try_from(result) {
            Ok(count) => {
                let filter = self.wires.get_mut(key).and_then(|wire| wire.filter.as_mut());
                let count = filter.map_or(count, |filter| filter.sent(count));
                self.shard.sent(key, count, now);
                self.wires.send_flight(key);
            }
            Err(_) => self.send_failed(key, now),
        }
    }

    fn send_failed(&mut self, key: Key, now: Time) {
        let Some(wire) = self.wires.get_mut(key) else { return };
        // The receive that is under way answers too, and ends the connection.
        wire.is_broken = true;
        let _ = shutdown(&wire.descriptor, Shutdown::Both);
        if !wire.is_receiving {
            self.shard.closed(key, now);
        }
    }

    /// Takes over a connection that was accepted.
    fn add_connection(&mut self, descriptor: OwnedFd, arrival: Arrival) {
        let now = self.wires.clock.now();
        match self.shard.open(arrival, now, &mut self.wires) {
            Some(key) => {
                let filter = Filter::of_arrival(arrival, &self.wires.tls);
                self.wires.add(key, descriptor, filter);
            }
            None => self.wires.balance.leave(self.wires.id),
        }
    }
}

/// Gives the shard what a connection brought, through its filter if it has one.
fn receive(shard: &mut Shard, wires: &mut RingWires, (key, bytes): (Key, &mut [u8]), now: Time) {
    let Some((verdict, is_secure, mut plain)) = wires.open(key, bytes) else {
        return shard.receive(key, bytes, now, wires);
    };
    if is_secure {
        shard.secured(key);
    }
    if !plain.is_empty() {
        shard.receive(key, &mut plain, now, wires);
    }
    wires.tls.give_back(plain);
    match verdict {
        Verdict::Going | Verdict::Plain | Verdict::Later => wires.send_flight(key),
        Verdict::Ended => {
            wires.send_flight(key);
            shard.ended(key, now);
        }
        // The close sends what the client is told.
        Verdict::Failed => shard.closed(key, now),
    }
}
