//! Acknowledgements that came, or did not come in time, meet who waits for them; those that handlers have kept leave.

use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::mesh::BROADCAST_ACK_IDS;
use crate::message::ack::AckAnswer;
use crate::message::inquiry::{AckError, Findings, Reply};
use crate::protocol::socketio::event::Args;
use crate::shard::run::Shard;
use crate::shard::user::acknowledged;
use crate::shard::user::socket::Socket;
use crate::shard::value::answer::{Answer, PendingAck};

impl Shard {
    /// An answer has come. One that is not awaited is ignored, as in Node.
    pub(crate) fn receive_ack(&mut self, socket: Key, id: u64, args: Args<'_>) {
        if id >= BROADCAST_ACK_IDS {
            return self.core.borrow_mut().inquiries().receive_broadcast_ack(socket, id, args);
        }
        let pending = self.core.borrow_mut().acks().take(socket, id);
        if let Some(pending) = pending {
            self.finish_ack(pending, Ok(Answer::of(args)));
        }
    }

    /// Gives up every answer that did not come in time.
    pub(crate) fn ack_timeouts(&mut self) {
        loop {
            let Some(late) = self.core.borrow_mut().acks().take_late() else { return };
            self.core.borrow().tables.meters().acks_timed_out.add(1);
            self.finish_ack(late, Err(AckError::Timeout));
            // What it asked for holds before the next one is called.
            self.settle();
        }
    }

    pub(crate) fn fail_ack(&mut self, pending: PendingAck, error: AckError) {
        self.finish_ack(pending, Err(error));
    }

    fn finish_ack(&mut self, pending: PendingAck, result: Result<Answer, AckError>) {
        let PendingAck { socket, callback, .. } = pending;
        let name = |_: &()| "the callback of an acknowledgement".to_owned();
        let done = self.call(&mut (), |()| callback(result), name);
        if let Err(panic) = done {
            self.handler_panicked(socket, "(acknowledgement)", &panic);
        }
    }

    /// Hands over what was found out. Whoever waits may be woken by code of the user's.
    pub(crate) fn reply(&mut self, reply: Reply, result: Result<Findings, AckError>) {
        // Sending fails when the asker dropped the question: its answer is discarded.
        let name = |_: &()| "the waker of a question".to_owned();
        let done = self.call(&mut (), |()| drop(reply.send(result)), name);
        if let Err(panic) = done {
            tracing::error!(message = %panic, "the waker of a question panicked");
        }
    }

    /// What another thread says of an acknowledgement that a handler has given it.
    pub(crate) fn answer_ack(&mut self, said: AckAnswer) {
        match said {
            AckAnswer::Drop(key) => self.ack_dropped(key),
            AckAnswer::Withhold(key) => {
                self.core.borrow_mut().tables.take_ack(key);
            }
            AckAnswer::Send(key, text) => {
                let kept = self.core.borrow().tables.kept_acks.get(key).copied();
                let socket = kept.and_then(|kept| Socket::of(&self.core, kept.socket));
                if let Some(socket) = socket {
                    acknowledged::answer(&socket, key, &Answer::new(text).args());
                }
            }
        }
    }

    /// One was dropped without an answer. If an error handler has not answered in its place, nobody will.
    pub(crate) fn ack_dropped(&mut self, key: Key) {
        let dropped = self.core.borrow_mut().tables.take_ack(key);
        if let Some(ack) = dropped {
            self.answer_dropped(ack.socket);
        }
    }

    /// A client of this socket waits for an answer that will not come.
    pub(crate) fn answer_dropped(&mut self, socket: Key) {
        let Some(socket) = Socket::of(&self.core, socket) else { return };
        let mut core = self.core.borrow_mut();
        core.tables.env.counters.acks_dropped.add(1);
        let now = core.tables.env.now;
        if let Some(left_out) = core.tables.acks_dropped.take_line(now) {
            tracing::warn!(
                target: SOCKETIO,
                namespace = socket.namespace(),
                sid = %socket.id().brief(),
                left_out,
                "an acknowledgement was dropped without an answer: its client waits until its timeout. Ack::withhold, or \
                 Post::finish, says that it is meant"
            );
        }
    }
}
