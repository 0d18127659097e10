//! One core's world: connections, sessions, sockets, rooms, handlers and timers.
//!
//! A [`Shard`] is a value machine: it does no IO, reads no clock and blocks on nothing. A *host* drives it: a driver, the test kit,
//! the simulation, the allocation test, a bench. The host calls methods of four kinds, and gives its own [`Wires`](seam::Wires):
//!
//! - *Something happened*, each with the time. Connections: [`open`](Shard::open), [`receive`](Shard::receive),
//!   [`ended`](Shard::ended), [`closed`](Shard::closed), [`sent`](Shard::sent) and [`writable`](Shard::writable). Others:
//!   [`take_mail`](Shard::take_mail), [`deliver`](Shard::deliver), [`wake`](Shard::wake), [`spawn`](Shard::spawn),
//!   [`set_wall_clock`](Shard::set_wall_clock). In any order and number; user code runs in most of them. `closed` is the
//!   last word on a connection, unless the shard has closed it or handed it over before.
//! - *What is due*: [`handle_timeout`](Shard::handle_timeout) at [`next_timeout`](Shard::next_timeout), which any other call may
//!   bring forward; [`go_on`](Shard::go_on) while [`is_unfinished`](Shard::is_unfinished), as some clients have sent more than
//!   their share of a turn.
//! - *The turn's end*: [`end_turn`](Shard::end_turn), after one or more of the above and before the host sleeps. It alone
//!   calls the wires' bells, sends and most of the rest; `receive`, `take_mail` and `go_on` do only what must be done before more
//!   bytes of the same connection come. When it says that more is to be sent, it is called again before the host sleeps; what may not be sent
//!   yet ([`may_flush`](seam::Wires::may_flush)) is the host's to come back for.
//! - *Questions*: [`has_drained`](Shard::has_drained), [`is_empty`](Shard::is_empty) and others, which change nothing.
//!
//! While a wire is called the shard is at work: wires never call it. A send that ends later, and a wire that takes bytes again,
//! are told to it afterwards, with `sent` and `writable`. At the end of a thread comes [`drop_tasks`](Shard::drop_tasks).

pub(crate) mod bounds;
pub(crate) mod core;
mod feature;
#[cfg(any(test, feature = "bench-support"))]
mod inspect;
pub(crate) mod run;
pub(crate) mod seam;
mod table;
pub(crate) mod user;
pub(crate) mod value;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::guard::discard;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::message::peer::{Arrival, Door};
pub(crate) use crate::shard::core::CoreParts;
use crate::shard::core::{Core, StaysOnTheThreadOfItsShard};
pub(crate) use crate::shard::run::Shard;
use crate::shard::user::app::{self, App, EndpointHandlers, NamespaceHandlers};
use crate::shard::user::current::with_current;
use crate::shard::value::endpoint::EndpointTable;
use crate::shard::value::share::WireEnd;
use crate::shard::value::task::TaskOwner;
use crate::shard::value::watch::Watch;
use crate::shard::value::wheel::TimerOwner;

/// Being later than this for a deadline counts as a stall of our own, which no peer is punished for.
const STALL_MIN: Duration = Duration::from_millis(200);

impl Shard {
    /// A shard with the namespaces of `app`.
    pub(crate) fn new(parts: CoreParts, mut app: App) -> Shard {
        if app.endpoints.is_empty() {
            app.endpoints.push(EndpointHandlers::new(parts.config.engine.clone()));
        }
        let watch = Watch::new(Arc::clone(&parts.clock), parts.config.slow_handler);
        let stopwatch = Arc::clone(&parts.stopwatch);
        let mut tables: Vec<_> = app.endpoints.iter().map(|endpoint| endpoint.table(&parts.config)).collect();
        let routes = app.routes.drain(..);
        tables.extend(routes.map(|(options, settings)| EndpointTable::of_route(options, settings)));
        let own_counters =
            tables.iter().filter(|table| !table.is_route).map(|table| Arc::clone(&table.counters));
        // A shard is made once, so nobody has set them before.
        let _ = parts.counters.endpoints.set(own_counters.collect());
        let mut core = Core::new(parts, tables);
        core.tables.partial_part();
        core.tables.bound_outside();
        core.tables.env.signer = app.signer.clone().map(Rc::new);
        if core.recovery.is_on {
            core.tables.mesh.begin_relaying();
        }
        let mut patterns = std::mem::take(&mut app.patterns).into_iter();
        for endpoint in &app.endpoints {
            core.tables.namespaces.add_endpoint(&endpoint.options.path, patterns.next().unwrap_or_default());
        }
        for (setup, handlers) in (0..).zip(&app.namespaces) {
            let NamespaceHandlers { endpoint, name, slow, state_rooms, .. } = &**handlers;
            core.register(setup, (*endpoint, name), slow, state_rooms);
        }
        let (core, app) = (Rc::new(StaysOnTheThreadOfItsShard::new(core)), Rc::new(app));
        let mut shard = Shard {
            core,
            app,
            unflushed: VecDeque::new(),
            due: Vec::new(),
            is_settling: false,
            watch,
            stopwatch,
            timed_at: Cell::new(Time::NEVER),
            running: None,
            made: None,
        };
        shard.start_tickers(0);
        shard
    }

    /// A connection was accepted, and no wire is left that its place had before.
    fn begin_connection(&mut self, arrival: Arrival, now: Time) -> Option<Key> {
        let mut core = self.core.borrow_mut();
        core.tables.env.now = now;
        if core.tables.env.config.proxy_protocol && arrival.door == Door::Public {
            return core.tables.open_proxied(arrival);
        }
        core.tables.accept_connection(arrival)
    }

    /// A connection came from another shard with what was read there. It is like one that was accepted and
    /// has already sent `unread`; `owed` is written first. Without either, it was just accepted, for this shard.
    fn adopt(&mut self, arrival: Arrival, owed: &[u8], unread: &[u8], now: Time) -> Option<Key> {
        if owed.is_empty() && unread.is_empty() {
            return self.begin_connection(arrival, now);
        }
        let mut core = self.core.borrow_mut();
        core.tables.env.now = now;
        // It has its place among those of the process: it was here before it was handed over.
        let key = core.tables.open_within(arrival, usize::MAX)?;
        core.tables.count_opened(key);
        core.tables.hold(key, usize::MAX);
        if let Some(http) = core.tables.http_mut(key) {
            http.has_moved = true;
        }
        if !owed.is_empty() {
            core.tables.write_to(key, |out| out.extend_from_slice(owed));
        }
        Some(key)
    }

    /// A connection's host speaks TLS on it: what comes from here on is as secure as `https`.
    pub(crate) fn secured(&mut self, connection: Key) {
        if let Some(connection) = self.core.borrow_mut().tables.connections.get_mut(connection) {
            connection.is_secure = true;
        }
    }

    /// The peer closed a connection, or its wire broke.
    pub(crate) fn closed(&mut self, connection: Key, now: Time) {
        self.work(now, |shard| {
            shard.core.borrow_mut().tables.note_peer_gone(connection);
            let is_postponed = shard.core.borrow_mut().tables.postpone_end(connection, WireEnd::Closed);
            if !is_postponed {
                shard.connection_lost(connection);
            }
        });
    }

    /// The peer has said all it will. An HTTP client may still read the answer that it is owed.
    pub(crate) fn ended(&mut self, connection: Key, now: Time) {
        self.work(now, |shard| {
            shard.core.borrow_mut().tables.note_peer_gone(connection);
            let is_postponed = shard.core.borrow_mut().tables.postpone_end(connection, WireEnd::Ended);
            if !is_postponed {
                shard.connection_ended(connection);
            }
        });
    }

    /// Drops every task: those that hold a socket keep the shard alive otherwise.
    pub(crate) fn drop_tasks(&mut self) {
        let mut tasks = std::mem::take(&mut self.core.borrow_mut().tasks);
        let core = Rc::clone(&self.core);
        with_current(&core, || {
            for key in tasks.keys().collect::<Vec<_>>() {
                discard(tasks.remove(key));
            }
        });
    }

    /// Another shard or thread has something for this one. What may be a handover is for [`take_message`](Shard::take_message).
    pub(crate) fn deliver(&mut self, message: ShardMessage, now: Time) {
        self.work(now, |shard| match message {
            ShardMessage::Broadcast(broadcast) => {
                shard.core.borrow_mut().deliver_broadcast(&broadcast);
                if broadcast.offset.is_some() {
                    shard.check_waiting();
                }
            }
            ShardMessage::Relay(broadcast) => shard.core.borrow_mut().relay(&broadcast),
            ShardMessage::RelayCommand(command) => shard.core.borrow_mut().relay_command(&command),
            ShardMessage::Recovery(message) => shard.recover(*message),
            ShardMessage::Far(word) => shard.recover_far(*word),
            ShardMessage::Passed(position) => shard.core.borrow_mut().pass(position),
            ShardMessage::Command(command, announcement) => {
                let mut core = shard.core.borrow_mut();
                if let Some(namespace) = core.tables.namespaces.find_address(&command.namespace) {
                    core.change_local(namespace, &command.target, command.change.as_change());
                }
                // Not before: who has joined by it is found from now on.
                drop(announcement);
            }
            ShardMessage::Request(request) => shard.core.borrow_mut().inquiries().ask(*request),
            ShardMessage::Inquiry(inquiry) => shard.core.borrow_mut().inquiries().inquire(&inquiry),
            ShardMessage::Report(report) => shard.core.borrow_mut().inquiries().receive_report(*report),
            ShardMessage::State(message) => shard.core.borrow_mut().states().receive(message),
            ShardMessage::Server(call) => shard.receive_server_event(*call),
            ShardMessage::StateNews(news) => shard.core.borrow_mut().states().hear(news),
            ShardMessage::TellStates => shard.core.borrow_mut().states().tell_digests(),
            ShardMessage::Ack(answer) => shard.answer_ack(*answer),
            ShardMessage::Errands(errands) => shard.run_errands(*errands),
            ShardMessage::File(answer) => shard.core.borrow_mut().tables.deliver_file(*answer),
            ShardMessage::Trace { sid, is_on } => shard.core.borrow_mut().tables.trace(&sid, is_on),
            ShardMessage::Settings(config) => {
                shard.watch.allow(config.slow_handler);
                shard.core.borrow_mut().tables.renew(config);
            }
            ShardMessage::Add(step, addition) => shard.add(step, &addition),
            ShardMessage::Pulse(pulse) => pulse.answer(shard.core.borrow().tables.env.id),
            ShardMessage::Shutdown => shard.ask_to_stop(),
            ShardMessage::StopInTurn(number) => shard.heed_stops(number),
            ShardMessage::Handoff(_) => {
                debug_assert!(false, "a handover carries a wire, so it is for `take_message`")
            }
        });
    }

    /// The time of the wall clock: told now and then, as it may be set while the server runs.
    pub(crate) fn set_wall_clock(&mut self, unix_millis: u64, now: Time) {
        let mut core = self.core.borrow_mut();
        core.tables.env.now = now;
        core.tables.set_wall_clock(unix_millis);
    }

    /// A task of this shard was woken.
    pub(crate) fn wake(&mut self, task: Key, now: Time) {
        self.work(now, |shard| shard.run_task(task));
    }

    /// Starts a background task.
    pub(crate) fn spawn(&mut self, future: app::LocalFuture, now: Time) {
        self.work(now, |shard| shard.start_task(future, TaskOwner::Nobody));
    }

    /// When `handle_timeout` wants to be called next.
    pub(crate) fn next_timeout(&self) -> Time {
        let core = self.core.borrow();
        core.tables
            .wheel
            .next_timeout()
            .min(core.sleeps.next())
            .min(core.acks.next())
            .min(core.inquiries.next_timeout())
            .min(core.inquiries.walks.next())
            .min(core.ticks.due)
            .min(core.states.next_flush())
            .min(core.recovery.next())
            .min(core.tables.outside.leaving.front().map_or(Time::NEVER, |(until, _)| *until))
            .min(core.tables.next_owed_check())
    }

    /// Time passed: everything due is done.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        let late = now.since(self.next_timeout());
        if self.next_timeout() <= now {
            self.core.borrow().tables.meters().lag.record_nanos(late.as_nanos() as u64);
        }
        let stall = if late > STALL_MIN { late } else { Duration::ZERO };
        self.work(now, |shard| {
            shard.run_ticks();
            shard.wake_sleepers();
            shard.ack_timeouts();
            shard.core.borrow_mut().inquiries().inquiry_timeouts();
            shard.core.borrow_mut().inquiries().walk_on();
            shard.core.borrow_mut().states().flush();
            shard.core.borrow_mut().expire_lost();
            shard.core.borrow_mut().expire_leaving();
            shard.shed_if_due();
            let mut due = std::mem::take(&mut shard.due);
            shard.core.borrow_mut().tables.wheel.expire(now, &mut due);
            for (owner, deadline) in due.drain(..) {
                match owner {
                    TimerOwner::Connection(key) => shard.connection_timeout(key, deadline, stall),
                    TimerOwner::Session(key) => shard.session_timeout(key, deadline, stall),
                    TimerOwner::Pace(key) => shard.core.borrow_mut().tables.let_on(key),
                    TimerOwner::Drain => shard.drain_timeout(),
                    TimerOwner::Expiry(key) => shard.expiry_timeout(key, deadline),
                    TimerOwner::Recovery(key) => shard.recovery_timeout(key),
                }
                // What a handler asked for holds before the next one is called.
                if !shard.core.borrow().tables.effects.deferred.is_empty() {
                    shard.settle();
                }
            }
            shard.due = due;
            shard.core.borrow_mut().tables.sweep_wheel();
        });
    }

    /// Whether all connections of this shard are gone, which a shutdown waits for.
    pub(crate) fn is_empty(&self) -> bool {
        self.core.borrow().tables.connections.len() == 0
    }

    /// The host waits no longer: what is still there of connections is cut.
    pub(crate) fn note_done(&self, cut: usize) {
        let core = self.core.borrow();
        let cut = cut + core.tables.connections.len();
        core.tables.mesh.life.note_done(cut, core.tables.env.now);
    }

    /// Whether the shard was asked to stop, and its sessions have ended.
    pub(crate) fn has_drained(&self) -> bool {
        self.core.borrow().tables.has_drained()
    }

    /// The shard's thread is awake: a turn begins at this time of the process' clock, which is finer than `now`.
    pub(crate) fn begin_turn(&self, at: Duration) {
        self.core.borrow_mut().tables.turn_times.began = at.as_nanos() as u64;
    }

    /// The turn's work is done.
    pub(crate) fn count_busy(&self, at: Duration) {
        let core = self.core.borrow();
        let busy = (at.as_nanos() as u64).saturating_sub(core.tables.turn_times.began);
        core.tables.env.counters.busy_micros.add(busy / 1000);
        core.tables.meters().turn.record_nanos(busy);
        drop(core);
        self.note_held(Duration::from_nanos(busy));
    }

    /// A turn, or a part of it, took so long.
    pub(crate) fn note_held(&self, busy: Duration) {
        let mut core = self.core.borrow_mut();
        // The time that the tables know is that of the turn's beginning.
        let now = core.tables.env.now + busy;
        core.tables.note_lag(busy, now);
    }

    /// What the turn has queued was sent, if no connection waits for that.
    pub(crate) fn count_sent(&self, at: Duration) {
        let mut core = self.core.borrow_mut();
        if !core.tables.turn_times.fan_outs.is_empty() && self.unflushed.is_empty() {
            core.tables.count_fan_outs(at.as_nanos() as u64);
        }
    }
}
