//! The turn of a shard: what is begun when something comes in, and settled before it ends.

use std::rc::Rc;

use crate::base::guard::discard;
use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::base::shown::Shown;
use crate::base::time::Time;
use crate::shard::run::Shard;
use crate::shard::run::dispatch::words;
use crate::shard::table::partial::Keeper;
use crate::shard::table::shed::Shed;
use crate::shard::user::context::Context;
use crate::shard::user::current::with_current;
use crate::shard::user::socket::Socket;
use crate::shard::value::effect::Deferred;
use crate::shard::value::kinds::Kick;
use crate::shard::value::session::CloseReason;
use crate::shard::value::task::TaskOwner;

impl Shard {
    /// Works with the shard as the one that this thread is at, and settles what that led to.
    pub(crate) fn work(&mut self, now: Time, work: impl FnOnce(&mut Shard)) {
        self.core.borrow_mut().tables.env.now = now;
        self.watch.begin(now);
        let core = Rc::clone(&self.core);
        with_current(&core, || {
            work(self);
            self.settle();
        });
    }

    pub(crate) fn answer_polls(&mut self) {
        loop {
            let mut polls = std::mem::take(&mut self.core.borrow_mut().tables.effects.polls_due);
            if polls.is_empty() {
                return;
            }
            for session in polls.drain(..) {
                self.core.borrow_mut().tables.answer_poll(session);
            }
            self.core.borrow_mut().tables.effects.polls_due = polls;
            self.settle();
        }
    }

    /// Does what was noted while it could not be done.
    pub(crate) fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settling, true) {
            return;
        }
        loop {
            let noted = std::mem::take(&mut self.core.borrow_mut().tables.effects.deferred);
            if noted.is_empty() {
                break;
            }
            for deferred in noted {
                self.settle_one(deferred);
            }
        }
        self.is_settling = false;
    }

    fn settle_one(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Start(future) => self.start_task(future, TaskOwner::Nobody),
            Deferred::CloseSession(session, reason) => self.close_session(session, reason),
            Deferred::GiveWay(session) => {
                tracing::debug!(target: ENGINEIO, "session closed: it had joined nothing, and newer ones came");
                self.give_up_session(session, CloseReason::ForcedClose);
            }
            Deferred::DisconnectSocket(socket) => {
                self.end_socket(socket, CloseReason::ServerDisconnect, true)
            }
            Deferred::Drained(session) => self.drained(session),
            Deferred::Resume(connection) => self.resume_connection(connection),
            Deferred::Lost(connection) => self.connection_lost(connection),
            Deferred::FailAck(pending, error) => self.fail_ack(pending, error),
            Deferred::Reply(reply, result) => self.reply(reply, result),
            Deferred::Discard(extra) => {
                // One after the other: a destructor that panics must not keep the others from running.
                for value in extra.values.into_values() {
                    discard(value);
                }
            }
            Deferred::Answered(route, answered) => self.route_answered(route, *answered),
            Deferred::Passed(route) => self.route_passed(route),
            Deferred::Allowed(route, verdict) => self.handshake_allowed(route, verdict),
            Deferred::RouteEnded(end) => self.route_ended(*end),
            Deferred::Wake(waker) => self.wake_waiter(waker),
            Deferred::Decided(socket, decision) => self.decide(socket, decision),
            Deferred::TakeUp(socket) => self.run_waiting(socket),
            Deferred::AckDropped { key, is_noted_again: true } => self.ack_dropped(key),
            Deferred::AckDropped { key, is_noted_again: false } => {
                let again = Deferred::AckDropped { key, is_noted_again: true };
                self.core.borrow_mut().tables.effects.deferred.push(again);
            }
            Deferred::Failed { socket, event, asked, args, error } => {
                let found =
                    Socket::of(&self.core, socket).filter(|_| !self.core.borrow().tables.is_ending(socket));
                if let Some(socket) = found {
                    let handlers = self.handlers_of(&socket);
                    self.handler_failed(
                        &handlers,
                        &mut Context::of_asked(socket, &event, args.args(), asked),
                        &error,
                    );
                } else {
                    let error = words(&error);
                    tracing::warn!(target: SOCKETIO, event = ?Shown(event), error, "an asynchronous handler failed after its client had gone");
                }
                discard(error);
            }
        }
    }

    /// Closes those who are owed most, if the clients together are owed more than the shard may hold.
    pub(crate) fn shed_if_due(&mut self) {
        let due = self.core.borrow_mut().tables.check_owed();
        let Some((closing, owed)) = due else { return };
        let bytes_max = self.core.borrow().tables.owed.bytes_max;
        tracing::warn!(
            owed,
            bytes_max,
            closing = closing.len(),
            "clients that do not keep up are owed more than this shard's part of outboxes_bytes_max: the slowest are closed"
        );
        for shed in closing {
            match shed {
                Shed::Session(session) => {
                    self.close_session_for(session, CloseReason::SlowConsumer, Kick::Outboxes);
                }
                Shed::Connection(connection) => {
                    let core = self.core.borrow();
                    core.tables.env.counters.slow_consumers_closed.add(1);
                    core.tables.meters().kicks.count(Kick::Outboxes);
                    drop(core);
                    self.connection_lost(connection);
                }
            }
        }
    }

    /// Closes those who keep most, if the clients together keep more of unfinished messages than the shard may hold.
    pub(crate) fn close_partial(&mut self) {
        let (closing, bytes, bytes_max) = {
            let core = self.core.borrow();
            if core.tables.intake.partial_bytes <= core.tables.intake.partial_bytes_max {
                return;
            }
            (
                core.tables.largest_partial(),
                core.tables.intake.partial_bytes,
                core.tables.intake.partial_bytes_max,
            )
        };
        tracing::warn!(
            bytes,
            bytes_max,
            closing = closing.len(),
            "clients have sent more of messages that are not whole, or wait for a handler, than this shard's part of \
             partial_bytes_max: those with the most are closed"
        );
        for keeper in closing {
            self.core.borrow().tables.env.counters.partial_closed.add(1);
            match keeper {
                Keeper::Session(session) => self.close_session(session, CloseReason::TransportError),
                Keeper::Connection(connection) => self.connection_lost(connection),
            }
        }
    }
}
