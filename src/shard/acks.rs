//! Acknowledgements that clients owe us: who waits, and until when.

use std::time::Duration;

use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::base::guard::guarded;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::BROADCAST_ACK_IDS;
use crate::message::inquiry::{AckError, AnswerText};
use crate::protocol::socketio::event::{Args, ArgsError};
use crate::shard::Shard;
use crate::shard::core::Core;

/// Acknowledgements one socket may owe at a time. Beyond it the emit is refused.
pub(crate) const ACKS_PER_SOCKET_MAX: usize = 1024;

/// Called once, with the answer or the reason why there is none.
pub(crate) type AckCallback = Box<dyn FnOnce(Result<Answer, AckError>)>;

/// One answer that is awaited.
pub(crate) struct PendingAck {
    pub(crate) socket: Key,
    pub(crate) id: u64,
    /// When it is given up; `NEVER` while its question is on its way out.
    due: Time,
    pub(crate) callback: AckCallback,
}

/// What a client answered to an emit.
#[derive(Clone, Debug)]
pub struct Answer {
    text: AnswerText,
}

impl Answer {
    pub(crate) fn new(text: AnswerText) -> Answer {
        Answer { text }
    }

    /// Keeps what was lent.
    pub(crate) fn of(args: Args<'_>) -> Answer {
        let (json, attachments) = (args.raw().to_owned(), args.attachments().to_vec());
        Answer { text: AnswerText { json, attachments } }
    }

    /// The arguments of the answer.
    pub fn args(&self) -> Args<'_> {
        Args::of_elements(&self.text.json, &self.text.attachments)
    }

    /// The first argument, which is all of most answers.
    ///
    /// # Errors
    /// When the client sent something else, or nothing.
    pub fn first<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.args().read(0)
    }
}

impl std::fmt::Debug for PendingAck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PendingAck").field("socket", &self.socket).field("id", &self.id).finish()
    }
}

impl Shard {
    /// An answer has come. One that nobody awaits is ignored, as in Node.
    pub(crate) fn receive_ack(&mut self, socket: Key, id: u64, args: Args<'_>) {
        if id >= BROADCAST_ACK_IDS {
            return self.core.borrow_mut().receive_broadcast_ack(socket, id, args);
        }
        let pending = self.core.borrow_mut().take_ack(socket, id);
        if let Some(pending) = pending {
            self.finish_ack(pending, Ok(Answer::of(args)));
        }
    }

    /// Gives up every answer that did not come in time.
    pub(crate) fn ack_timeouts(&mut self) {
        loop {
            let pending = {
                let mut core = self.core.borrow_mut();
                let now = core.now;
                let Some(key) = core.acks_due.take_due(now) else { return };
                let late = core.acks.get(key).map(|ack| (ack.socket, ack.id));
                late.and_then(|(socket, id)| core.take_ack(socket, id))
            };
            if let Some(pending) = pending {
                self.finish_ack(pending, Err(AckError::Timeout));
                // What it asked for holds before the next one is called.
                self.settle();
            }
        }
    }

    pub(crate) fn fail_ack(&mut self, pending: PendingAck, error: AckError) {
        self.finish_ack(pending, Err(error));
    }

    fn finish_ack(&mut self, pending: PendingAck, result: Result<Answer, AckError>) {
        let PendingAck { socket, callback, .. } = pending;
        let done = guarded(|| callback(result));
        self.watched(|| "the callback of an acknowledgement".to_owned());
        if let Err(panic) = done {
            self.handler_panicked(socket, "(acknowledgement)", &panic);
        }
    }
}

impl Core {
    /// Notes that a socket owes an answer; `None` when it owes too many or is gone. Returns the wire id.
    pub(crate) fn expect_ack(
        &mut self,
        socket: Key,
        callback: AckCallback,
    ) -> Result<(Key, u64), AckCallback> {
        let Some(entry) = self.sockets.get_mut(socket) else { return Err(callback) };
        let extra = entry.extra_mut();
        if extra.acks.len() >= ACKS_PER_SOCKET_MAX {
            return Err(callback);
        }
        let id = extra.next_ack;
        extra.next_ack = (id + 1) % BROADCAST_ACK_IDS;
        let key = self.acks.insert(PendingAck { socket, id, due: Time::NEVER, callback });
        extra.acks.push((id, key));
        Ok((key, id))
    }

    /// Says how long the answer may take, once its question is sent.
    pub(crate) fn arm_ack(&mut self, key: Key, timeout: Duration) {
        // A callback that asks again without any time would otherwise be due again at once, for ever.
        let due = self.now + timeout.max(Duration::from_millis(1));
        if let Some(ack) = self.acks.get_mut(key) {
            ack.due = due;
            self.acks_due.arm(key, due);
        }
    }

    pub(crate) fn take_ack(&mut self, socket: Key, id: u64) -> Option<PendingAck> {
        let extra = self.sockets.get_mut(socket)?.extra.as_mut()?;
        let place = extra.acks.iter().position(|(owed, _)| *owed == id)?;
        let (_, key) = extra.acks.swap_remove(place);
        self.remove_ack(key)
    }

    /// Everything a socket still owes.
    pub(crate) fn take_acks(&mut self, socket: Key) -> SmallVec<[PendingAck; 2]> {
        let Some(extra) = self.sockets.get_mut(socket).and_then(|socket| socket.extra.as_mut()) else {
            return SmallVec::new();
        };
        let keys = std::mem::take(&mut extra.acks);
        keys.into_iter().filter_map(|(_, key)| self.remove_ack(key)).collect()
    }

    fn remove_ack(&mut self, key: Key) -> Option<PendingAck> {
        let pending = self.acks.remove(key)?;
        self.acks_due.cancel(key, pending.due);
        Some(pending)
    }
}
