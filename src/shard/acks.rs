//! Acknowledgements that clients owe us: who waits, and until when.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::base::slab::Key;
use crate::mesh::BROADCAST_ACK_IDS;
use crate::mesh::inquiry::{AckError, AnswerText};
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

    /// An answer did not come in time.
    pub(crate) fn ack_timeout(&mut self, key: Key) {
        let pending = {
            let mut core = self.core.borrow_mut();
            let Some((socket, id)) = core.acks.get(key).map(|ack| (ack.socket, ack.id)) else { return };
            core.take_ack(socket, id)
        };
        if let Some(pending) = pending {
            self.finish_ack(pending, Err(AckError::Timeout));
        }
    }

    pub(crate) fn fail_ack(&mut self, pending: PendingAck, error: AckError) {
        self.finish_ack(pending, Err(error));
    }

    fn finish_ack(&mut self, pending: PendingAck, result: Result<Answer, AckError>) {
        let PendingAck { socket, callback, .. } = pending;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(result))) {
            self.handler_panicked(socket, "(acknowledgement)", &*panic);
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
        let key = self.acks.insert(PendingAck { socket, id, callback });
        extra.acks.push((id, key));
        Ok((key, id))
    }

    pub(crate) fn take_ack(&mut self, socket: Key, id: u64) -> Option<PendingAck> {
        let extra = self.sockets.get_mut(socket)?.extra.as_mut()?;
        let place = extra.acks.iter().position(|(owed, _)| *owed == id)?;
        let (_, key) = extra.acks.swap_remove(place);
        self.acks.remove(key)
    }

    /// Everything a socket still owes.
    pub(crate) fn take_acks(&mut self, socket: Key) -> SmallVec<[PendingAck; 2]> {
        let Some(extra) = self.sockets.get_mut(socket).and_then(|socket| socket.extra.as_mut()) else {
            return SmallVec::new();
        };
        let keys = std::mem::take(&mut extra.acks);
        keys.into_iter().filter_map(|(_, key)| self.acks.remove(key)).collect()
    }
}
