//! The portable wire: monoio tasks, on io_uring or on epoll.
//!
//! Readiness is awaited, then bytes are moved by `recv` and `sendmsg` with one buffer for the whole shard: a
//! connection at rest owns no buffer, and dropping a wait never loses bytes. One task flushes everything that
//! a turn left, so a connection gets one send whatever was queued for it.

mod sealed;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, acceptfrom_with, recv, shutdown};

use crate::base::ids::ShardId;
use crate::base::places::Places;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::driver::balance::Balance;
use crate::driver::clock::{Clock, WallWatch};
use crate::driver::descriptor::{peer_of, send_now};
use crate::driver::doorbell::silence;
use crate::driver::files::{FileJob, FileReader};
use crate::driver::listener::Listener;
use crate::driver::machine::Backend;
use crate::driver::notify::{Notify, either};
use crate::driver::polled::{Polled, WayRound};
use crate::driver::stop::{close_listener, empty_queue};
use crate::driver::tls::{Carried, Filter, Seat, Verdict};
use crate::driver::{ShardParts, build_shard, place_connection, send_connection};
use crate::mesh::{Handoff, InboxReceiver, Mesh};
use crate::message::files::FileAnswer;
use crate::message::peer::{Arrival, Door};
use crate::shard::Shard;
use crate::shard::seam::{Leaving, Unsent, Wires};
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::share::SHARE_BYTES_MAX;

/// Entries of the ring: polls in flight beyond it wait for the next submission.
const RING_ENTRIES: u32 = 4096;

/// The buffer that all of a shard's connections read into.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Reads in a row from one connection before the others get their turn.
const READS_PER_WAKE_MAX: usize = 4;

/// Reads of one connection after which others get their turn in any case: on epoll its task need not have waited once.
const READS_IN_A_ROW_MAX: usize = 1024;

/// Accepted connections in a row before the others get their turn.
const ACCEPTS_PER_WAKE_MAX: usize = 64;

/// Pieces of an outbox in one send.
const SLICES_PER_SEND_MAX: usize = 64;

/// How long a turn goes on with what is unread before its sends go out and others have their turn.
const TURN_TIME: Duration = Duration::from_millis(1);

/// A flush window counts as over when no more than this is left of it.
const FLUSH_WINDOW_SLACK: Duration = Duration::from_micros(500);

/// How long accepting rests when there was nothing to accept after all: the other tasks must have their turn.
const NOTHING_ACCEPTED_PAUSE: Duration = Duration::from_millis(1);

/// How long accepting rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a shard that stops looks whether it shall stop sooner.
const STOP_LOOK: Duration = Duration::from_millis(250);

/// A connection's descriptor and who waits for it.
struct Wire {
    stream: Polled,
    /// Ends the tasks of this wire.
    stop: Notify,
    stop_writer: Notify,
    /// A task waits until the peer takes more.
    is_blocked: Cell<bool>,
    /// The shard takes what comes; if not, the reading task waits for `read_on`.
    is_wanted: Cell<bool>,
    read_on: Notify,
    /// Its TLS, or what is still to find out whether it has any; none for a plain one.
    filter: RefCell<Option<Box<Filter>>>,
}

/// A wire and the connection it carries.
type KeyedWire = (Key, Rc<Wire>);

/// A listener, and whether other shards serve it, too.
type OpenListener = (Rc<Polled>, bool);

/// One shard with its wires, shared by the tasks of its thread.
struct World {
    id: ShardId,
    shard: RefCell<Shard>,
    wires: RefCell<Places<KeyedWire>>,
    mesh: std::sync::Arc<Mesh>,
    /// `None` once the shard has ended: tasks that the runtime keeps hold this world, and must not wait for mail.
    inbox: RefCell<Option<InboxReceiver>>,
    files: FileReader,
    balance: Balance,
    clock: Clock,
    wall: WallWatch,
    read_buffer: RefCell<Vec<u8>>,
    tls: RefCell<Seat>,
    flush: Notify,
    timer: Notify,
    /// What the timer task waits for.
    timer_target: Cell<Time>,
    /// Set when the shard is asked to stop.
    stopping: Cell<bool>,
    /// Set when its sessions have ended after that: accepting ends.
    is_closing: Cell<bool>,
    stop_accepting: Vec<Notify>,
    /// Listeners that are not closed yet.
    listeners: RefCell<Vec<Option<OpenListener>>>,
    done: Notify,
    turn_started: Cell<Option<Duration>>,
    /// Since when sends gather for `flush_window`.
    unflushed_since: Cell<Option<Duration>>,
    flush_window: Duration,
    /// Brings a task back after all others, also those whose readiness was not looked at yet.
    way_round: WayRound,
    /// Tasks that have had their share and wait until everybody else has had a turn.
    next_round: RefCell<Vec<Waker>>,
}

/// Runs a shard on this thread until it is asked to stop.
pub(crate) fn run(parts: ShardParts, backend: Backend, ready: Sender<Result<(), String>>) {
    let refused = ready.clone();
    let report = move |error: std::io::Error| {
        // Nobody listens any more when another shard has failed already.
        let _ = refused.send(Err(format!("cannot set up a shard's event loop: {error}")));
    };
    match backend {
        Backend::Ring => unreachable!("the ring wire does not run here"),
        Backend::Uring { defers } => {
            let mut builder = io_uring_06::IoUring::builder();
            if defers {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            let built = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
                .uring_builder(builder)
                .with_entries(RING_ENTRIES)
                .enable_timer()
                .build();
            match built {
                Ok(mut runtime) => runtime.block_on(serve(parts, ready)),
                Err(error) => report(error),
            }
        }
        Backend::Epoll => {
            match monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build() {
                Ok(mut runtime) => runtime.block_on(serve(parts, ready)),
                Err(error) => report(error),
            }
        }
    }
}

async fn serve(parts: ShardParts, ready: Sender<Result<(), String>>) {
    let ShardParts { parts, app, start, inbox, bell, listeners, files, balance, clock, tls } = parts;
    let tls = RefCell::new(Seat::new(tls, std::sync::Arc::clone(&parts.counters)));
    let (id, mesh) = (parts.id, std::sync::Arc::clone(&parts.mesh));
    let flush_window = start.config.flush_window;
    let (shard, tasks) = build_shard(parts, app, &start);
    let way_round = match WayRound::new() {
        Ok(way_round) => way_round,
        Err(error) => {
            // Nobody listens any more when another shard has failed already.
            let _ = ready.send(Err(format!("cannot set up a shard's event loop: {error}")));
            return;
        }
    };
    let world = Rc::new(World {
        id,
        shard: RefCell::new(shard),
        wires: RefCell::default(),
        mesh,
        inbox: RefCell::new(Some(inbox)),
        files,
        balance,
        clock,
        wall: WallWatch::default(),
        read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES]),
        tls,
        flush: Notify::default(),
        timer: Notify::default(),
        timer_target: Cell::new(Time::NEVER),
        stopping: Cell::new(false),
        is_closing: Cell::new(false),
        stop_accepting: listeners.iter().map(|_| Notify::default()).collect(),
        listeners: RefCell::default(),
        done: Notify::default(),
        turn_started: Cell::new(None),
        unflushed_since: Cell::new(None),
        flush_window,
        way_round,
        next_round: RefCell::default(),
    });
    let _last_will = LastWill(Rc::clone(&world));
    monoio::spawn(flush_turns(Rc::clone(&world)));
    monoio::spawn(keep_time(Rc::clone(&world)));
    monoio::spawn(answer_bell(Rc::clone(&world), bell));
    for (index, Listener { descriptor, door, is_shared }) in listeners.into_iter().enumerate() {
        let watched = Polled::new(descriptor).map(Rc::new);
        if let Err(error) = &watched {
            tracing::error!(%error, "a listener cannot be watched; its address is not served by this shard");
        }
        let watched = watched.ok();
        world.listeners.borrow_mut().push(watched.clone().map(|listener| (listener, is_shared)));
        if let Some(listener) = watched {
            monoio::spawn(accept(Rc::clone(&world), listener, (index, door)));
        }
    }
    for task in tasks {
        world.work(|shard, now| shard.spawn(task, now));
    }
    // The starter waits for this word from every shard; it is there as long as nobody failed.
    let _ = ready.send(Ok(()));
    drop(ready);
    world.done.notified().await;
    let patience = async {
        while world.is_listening() || !world.shard.borrow().is_empty() {
            world.done.notified().await;
        }
    };
    either(patience, stop_by(&world)).await;
    world.shard.borrow().note_done(0);
    world.shard.borrow_mut().drop_tasks();
    drop(world.inbox.take());
}

/// Waits until clients have had their time to take what they are owed.
async fn stop_by(world: &World) {
    loop {
        let (stop_by, now) = (world.shard.borrow().stop_by(), world.clock.now());
        match stop_by {
            Some(stop_by) if stop_by <= now => return,
            // A second request may bring it forward.
            stop_by => {
                let left = stop_by.map_or(STOP_LOOK, |stop_by| stop_by.since(now).min(STOP_LOOK));
                monoio::time::sleep(left).await;
            }
        }
    }
}

/// Ends what a shard leaves in the kernel when it dies. Tasks that the runtime keeps hold its descriptors: clients would wait for
/// answers for as long as they have patience, and new ones in the queue of a listener that no task serves.
struct LastWill(Rc<World>);

impl Drop for LastWill {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if !self.0.mesh.life.leaves_listeners()
            && let Ok(listeners) = self.0.listeners.try_borrow()
        {
            for (listener, is_shared) in listeners.iter().flatten() {
                close_listener(listener.as_ref(), *is_shared);
            }
        }
        if let Ok(wires) = self.0.wires.try_borrow() {
            for (_, wire) in wires.values() {
                let _ = shutdown(wire.stream_fd(), Shutdown::Both);
            }
        }
    }
}

impl World {
    fn is_listening(&self) -> bool {
        self.listeners.borrow().iter().any(Option::is_some)
    }

    /// Gives the shard something to do, and sees to it that what it leaves is done.
    fn work<R>(&self, work: impl FnOnce(&mut Shard, Time) -> R) -> R {
        if self.turn_started.get().is_none() {
            let elapsed = self.clock.elapsed();
            self.turn_started.set(Some(elapsed));
            self.shard.borrow().begin_turn(elapsed);
            if let Some(unix_millis) = self.wall.take_due(elapsed) {
                self.shard.borrow_mut().set_wall_clock(unix_millis, self.clock.now());
            }
        }
        let result = work(&mut self.shard.borrow_mut(), self.clock.now());
        self.flush.notify();
        result
    }

    fn wire(&self, key: Key) -> Option<Rc<Wire>> {
        match self.wires.borrow().get(key.index) {
            Some((owner, wire)) if *owner == key => Some(Rc::clone(wire)),
            _ => None,
        }
    }

    /// Takes a wire out of the table; its tasks end.
    fn take_wire(&self, key: Key) -> Option<Rc<Wire>> {
        let wire = self.wire(key)?;
        self.wires.borrow_mut().take(key.index);
        wire.stop.notify();
        wire.stop_writer.notify();
        self.balance.leave(self.id);
        Some(wire)
    }

    /// Reads once, and gives the shard what came: how much that was, and what is known of the connection by it. `None`: it has ended.
    fn read_once(self: &Rc<Self>, wire: &Rc<Wire>, key: Key) -> Result<Option<(usize, Verdict)>, Errno> {
        let mut buffer = self.read_buffer.borrow_mut();
        let (_, count) = recv(wire.stream_fd(), &mut buffer[..], RecvFlags::DONTWAIT)?;
        Ok((count > 0).then(|| (count, self.receive(wire, key, &mut buffer[..count]))))
    }

    /// Does what the shard left to do. True when there are sends left that are due.
    fn end_turn(self: &Rc<Self>) -> bool {
        let is_more = self.shard.borrow_mut().end_turn(&mut Hands(self));
        if self.shard.borrow().next_timeout() < self.timer_target.get() {
            self.timer.notify();
        }
        if self.stopping.get() {
            let must_close = self.shard.borrow().has_drained() || self.mesh.life.is_handed_over();
            if must_close && !self.is_closing.replace(true) {
                self.stop_accepting.iter().for_each(Notify::notify);
            }
            self.done.notify();
        }
        self.tls.borrow_mut().begin_turn();
        if self.turn_started.take().is_some() {
            let (shard, now) = (self.shard.borrow(), self.clock.elapsed());
            shard.count_busy(now);
            shard.count_sent(now);
        }
        is_more
    }

    /// Whether sends may go: at once, unless they are to gather for `flush_window`. The first that must not yet has a task come
    /// back when its time is over; everything else of a turn is done meanwhile.
    fn is_flush_due(self: &Rc<Self>, waiting: usize) -> bool {
        if self.flush_window.is_zero() {
            return true;
        }
        if waiting == 0 {
            self.unflushed_since.set(None);
            return true;
        }
        let now = self.clock.elapsed();
        let since = self.unflushed_since.get().unwrap_or_else(|| {
            self.unflushed_since.set(Some(now));
            let world = Rc::clone(self);
            monoio::spawn(async move {
                monoio::time::sleep(world.flush_window).await;
                world.flush.notify();
            });
            now
        });
        // The runtime's timer and this clock may differ by a part of a millisecond.
        now + FLUSH_WINDOW_SLACK >= since + self.flush_window
    }

    /// Handles a part of what waits in the inbox. True when more is there.
    fn take_mail(self: &Rc<Self>) -> bool {
        let inbox = self.inbox.borrow();
        let Some(inbox) = inbox.as_ref() else { return false };
        let is_more = self.work(|shard, _| shard.take_mail(inbox, || self.clock.now(), &mut Hands(self)));
        if self.shard.borrow().is_asked_to_stop() {
            self.stopping.set(true);
        }
        is_more
    }

    /// Waits until everybody else has had a turn: for a task whose descriptor may always be ready.
    async fn let_others_go_first(&self) {
        let mut has_waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            self.next_round.borrow_mut().push(cx.waker().clone());
            self.flush.notify();
            Poll::Pending
        })
        .await;
    }

    /// Goes on with connections that sent more than their share of a turn, one share after another, until the turn's time is
    /// over. False when there was nothing to do.
    fn go_on(self: &Rc<Self>) -> bool {
        if !self.shard.borrow().is_unfinished() {
            return false;
        }
        let started = self.clock.elapsed();
        let is_over = || self.clock.elapsed().saturating_sub(started) >= TURN_TIME;
        self.work(|shard, now| shard.go_on(now, is_over, &mut Hands(self)));
        true
    }

    /// Sends a connection to another shard. The descriptor is duplicated: a task of this shard may hold the
    /// old one until it next runs.
    fn send_away(&self, wire: &Wire, to: ShardId, leaving: Leaving) {
        let descriptor = match wire.stream_fd().try_clone_to_owned() {
            Ok(descriptor) => descriptor,
            Err(error) => {
                tracing::warn!(%error, "a connection could not go to its session's shard; it is closed");
                return;
            }
        };
        self.balance.arrive(to);
        let carried = Carried { descriptor, filter: wire.filter.take() };
        send_connection(&self.mesh, &self.balance, to, leaving.with_wire(Box::new(carried)));
    }

    /// Keeps an accepted connection, or gives it to a shard that has fewer.
    fn place_connection(self: &Rc<Self>, descriptor: OwnedFd, arrival: Arrival) {
        let place = place_connection(&self.balance, &self.mesh, self.id, arrival.door);
        if place == self.id {
            self.add_connection(descriptor, arrival);
        } else {
            // Its handshake is for the shard where it lives.
            let wire =
                Box::new(Carried { descriptor, filter: Filter::of_arrival(arrival, &self.tls.borrow()) });
            let handoff = Handoff { wire, arrival, owed: Vec::new(), unread: Vec::new() };
            send_connection(&self.mesh, &self.balance, place, handoff);
        }
    }

    /// Takes over a connection that was accepted.
    fn add_connection(self: &Rc<Self>, descriptor: OwnedFd, arrival: Arrival) {
        let Some(key) = self.work(|shard, now| shard.open(arrival, now, &mut Hands(self))) else {
            self.balance.leave(self.id);
            return;
        };
        let filter = Filter::of_arrival(arrival, &self.tls.borrow());
        if !self.add_wire(key, Carried { descriptor, filter }) {
            self.work(|shard, now| shard.closed(key, now));
        }
    }

    /// Watches a connection's descriptor; false when that cannot be.
    fn add_wire(self: &Rc<Self>, key: Key, carried: Carried) -> bool {
        let Carried { descriptor, filter } = carried;
        let stream = match Polled::new(descriptor) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be watched; it is closed");
                self.balance.leave(self.id);
                return false;
            }
        };
        let wire = Rc::new(Wire {
            stream,
            stop: Notify::default(),
            stop_writer: Notify::default(),
            is_blocked: Cell::new(false),
            is_wanted: Cell::new(true),
            read_on: Notify::default(),
            filter: RefCell::new(filter),
        });
        self.wires.borrow_mut().put(key.index, (key, Rc::clone(&wire)));
        // What its old shard had not sent yet. What the outbox holds as well is sent as that is.
        if !wire.filter.borrow().as_ref().is_some_and(|filter| filter.covers_outbox()) {
            self.send_flight(&wire, key);
        }
        monoio::spawn(read(Rc::clone(self), wire, key));
        true
    }
}

/// The wires as the shard sees them while it is borrowed: what is done here must not call it.
struct Hands<'a>(&'a Rc<World>);

impl Wires for Hands<'_> {
    fn attach(&mut self, wire: Box<dyn Any + Send>, key: Option<Key>) -> bool {
        let (Ok(mut carried), Some(key)) = (wire.downcast::<Carried>(), key) else {
            self.0.balance.leave(self.0.id);
            return false;
        };
        carried.arrive();
        self.0.add_wire(key, *carried)
    }

    fn may_flush(&mut self, waiting: usize) -> bool {
        self.0.is_flush_due(waiting)
    }

    fn flush_wire(&mut self, key: Key, mut unsent: Unsent<'_>) {
        let Some(wire) = self.0.wire(key).filter(|wire| !wire.is_blocked.get()) else { return };
        if wire.filter.borrow().is_some() {
            return self.0.flush_sealed(&wire, key, unsent);
        }
        let send = |slices: &[IoSlice<'_>]| send_now(wire.stream_fd(), slices);
        loop {
            match unsent.transmit::<SLICES_PER_SEND_MAX, _>(send) {
                Ok(true) | Err(Errno::INTR) => {}
                Ok(false) => return,
                Err(Errno::AGAIN) => {
                    wire.is_blocked.set(true);
                    monoio::spawn(await_writable(Rc::clone(self.0), wire, key));
                    return;
                }
                Err(_) => {
                    // The reading task learns of the break and tells the shard.
                    wire.want(true);
                    let _ = shutdown(wire.stream_fd(), Shutdown::Both);
                    return;
                }
            }
        }
    }

    fn close_wire(&mut self, key: Key, _outbox: Outbox) {
        if let Some(wire) = self.0.take_wire(key) {
            if let Some(filter) = wire.filter.borrow_mut().as_mut() {
                let mut tls = self.0.tls.borrow_mut();
                let _ = send_now(wire.stream_fd(), &[IoSlice::new(filter.close(&mut tls))]);
            }
            // A task may hold the descriptor a moment longer; the peer learns of the end now.
            let _ = shutdown(wire.stream_fd(), Shutdown::Both);
        }
    }

    fn shut_down_write(&mut self, key: Key) {
        let Some(wire) = self.0.wire(key) else { return };
        match wire.filter.borrow_mut().as_mut() {
            None => {
                let _ = shutdown(wire.stream_fd(), Shutdown::Write);
                return;
            }
            Some(filter) => filter.say_goodbye(true),
        }
        self.0.send_flight(&wire, key);
    }

    fn hand_over(&mut self, key: Key, to: ShardId, leaving: Leaving) {
        if let Some(wire) = self.0.take_wire(key) {
            self.0.send_away(&wire, to, leaving);
        }
    }

    fn set_wanted(&mut self, key: Key, is_wanted: bool) {
        if let Some(wire) = self.0.wire(key) {
            wire.want(is_wanted);
        }
    }

    fn do_file_work(&mut self, key: Key, work: FileWork) -> Option<FileAnswer> {
        self.0.files.submit(FileJob { shard: self.0.id, connection: key, work })
    }

    fn ring_bell(&mut self, shard: ShardId) {
        self.0.mesh.ring(shard);
    }
}

impl Wire {
    /// Whether the shard takes what comes.
    fn want(&self, is_wanted: bool) {
        self.is_wanted.set(is_wanted);
        if is_wanted {
            self.read_on.notify();
        }
    }

    fn stream_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

async fn flush_turns(world: Rc<World>) {
    loop {
        world.flush.notified().await;
        let is_more = world.end_turn();
        let has_waiting = !world.next_round.borrow().is_empty();
        if world.go_on() || is_more || has_waiting {
            // Everybody else gets a turn before the next slice.
            world.way_round.go().await;
            let waiting = world.next_round.take();
            waiting.into_iter().for_each(Waker::wake);
            world.flush.notify();
        }
    }
}

async fn keep_time(world: Rc<World>) {
    loop {
        let next = world.shard.borrow().next_timeout();
        world.timer_target.set(next);
        if next == Time::NEVER {
            world.timer.notified().await;
            continue;
        }
        let wait = next.since(world.clock.now());
        if !wait.is_zero() && either(monoio::time::sleep(wait), world.timer.notified()).await.is_none() {
            continue;
        }
        if world.clock.now() >= next {
            world.work(Shard::handle_timeout);
        }
        if wait.is_zero() {
            // What is always late, a tick whose work takes longer than its period, leaves others their turn.
            let next = Rc::clone(&world);
            monoio::spawn(async move { next.timer.notify() });
            world.timer.notified().await;
        }
    }
}

async fn answer_bell(world: Rc<World>, bell: std::sync::Arc<OwnedFd>) {
    let watched = bell.try_clone().and_then(Polled::new);
    let watched = match watched {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!(%error, "a shard cannot hear its bell and stops");
            world.done.notify();
            return;
        }
    };
    loop {
        world.mesh.wake_up(world.id);
        let is_more = world.take_mail();
        let may_sleep =
            world.inbox.borrow().as_ref().is_none_or(|inbox| world.mesh.fall_asleep(world.id, inbox));
        if is_more || !may_sleep {
            world.let_others_go_first().await;
            continue;
        }
        if let Err(error) = watched.readable().await {
            tracing::error!(%error, "a shard cannot hear its bell and stops");
            world.done.notify();
            return;
        }
        silence(&bell);
    }
}

async fn accept(world: Rc<World>, listener: Rc<Polled>, (index, door): (usize, Door)) {
    let mut may_have_more = false;
    while !world.is_closing.get() {
        if either(listener.readable(), world.stop_accepting[index].notified()).await.is_none() {
            break;
        }
        if may_have_more {
            world.let_others_go_first().await;
        }
        may_have_more = true;
        for accepted in 0..ACCEPTS_PER_WAKE_MAX {
            match acceptfrom_with(listener.as_fd(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((descriptor, address)) => {
                    world.place_connection(descriptor, Arrival::accepted(peer_of(address), door));
                }
                // Another shard took it from a listener that all share.
                Err(Errno::AGAIN) if accepted == 0 => {
                    monoio::time::sleep(NOTHING_ACCEPTED_PAUSE).await;
                    break;
                }
                Err(Errno::AGAIN) => {
                    may_have_more = false;
                    break;
                }
                // The client gave up while it waited in the queue.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = ACCEPT_PAUSE.as_millis(), "accepting pauses");
                    monoio::time::sleep(ACCEPT_PAUSE).await;
                    break;
                }
            }
        }
    }
    if !world.mesh.life.leaves_listeners() {
        // Closing resets whoever waits in the queue, and they have done nothing wrong.
        for (connection, peer) in empty_queue(listener.as_ref()) {
            world.balance.arrive(world.id);
            world.add_connection(connection, Arrival::accepted(peer, door));
        }
        let is_shared = world.listeners.borrow()[index].as_ref().is_some_and(|(_, is_shared)| *is_shared);
        close_listener(listener.as_ref(), is_shared);
    }
    world.listeners.borrow_mut()[index] = None;
    drop(listener);
    world.flush.notify();
}

async fn read(world: Rc<World>, wire: Rc<Wire>, key: Key) {
    let (mut bytes, mut reads) = (0, 0);
    'wait: while !wire.stop.is_set() {
        if !wire.is_wanted.get() {
            if either(wire.read_on.notified(), wire.stop.notified()).await.is_none() {
                return;
            }
            continue;
        }
        match either(wire.stream.readable(), wire.stop.notified()).await {
            None => return,
            Some(Err(_)) => break,
            Some(Ok(())) => {}
        }
        if bytes >= SHARE_BYTES_MAX || reads >= READS_IN_A_ROW_MAX {
            (bytes, reads) = (0, 0);
            world.let_others_go_first().await;
        }
        for _ in 0..READS_PER_WAKE_MAX {
            if wire.stop.is_set() {
                return;
            }
            if !wire.is_wanted.get() {
                continue 'wait;
            }
            match world.read_once(&wire, key) {
                Ok(None) => {
                    world.work(|shard, now| shard.ended(key, now));
                    return;
                }
                Ok(Some((count, mut verdict))) => {
                    bytes += count;
                    reads += 1;
                    if verdict == Verdict::Later {
                        verdict = world.finish_step(&wire, key).await;
                    }
                    if matches!(verdict, Verdict::Ended | Verdict::Failed) {
                        return;
                    }
                    if count < READ_BUFFER_BYTES {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => break 'wait,
            }
        }
    }
    if world.wire(key).is_some() {
        world.work(|shard, now| shard.closed(key, now));
    }
}

/// The peer's window is full: go on when it opens.
async fn await_writable(world: Rc<World>, wire: Rc<Wire>, key: Key) {
    let is_writable = either(wire.stream.writable(), wire.stop_writer.notified()).await;
    wire.is_blocked.set(false);
    if is_writable.is_some() && world.wire(key).is_some() {
        let count = world.send_flight(&wire, key);
        if count > 0 {
            world.work(|shard, now| shard.sent(key, count, now));
        }
        world.work(|shard, now| shard.writable(key, now));
    }
}
