//! Acknowledgements that clients owe us: who waits, and until when.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::base::slab::Key;
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
    raw: String,
    attachments: Vec<Bytes>,
}

impl Answer {
    /// Keeps what was lent.
    pub(crate) fn of(args: Args<'_>) -> Answer {
        Answer { raw: args.raw().to_owned(), attachments: args.attachments().to_vec() }
    }

    /// The arguments of the answer.
    pub fn args(&self) -> Args<'_> {
        Args::of_elements(&self.raw, &self.attachments)
    }

    /// The first argument, which is all of most answers.
    ///
    /// # Errors
    /// When the client sent something else, or nothing.
    pub fn first<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.args().read(0)
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckError {
    /// None came in time.
    Timeout,
    /// The socket is gone.
    Disconnected,
    /// The event was not sent: its arguments could not be encoded, or too many answers are owed already.
    NotSent,
}

impl std::fmt::Display for AckError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            AckError::Timeout => "the client did not answer in time",
            AckError::Disconnected => "the client is gone",
            AckError::NotSent => "the event was not sent",
        })
    }
}

impl std::error::Error for AckError {}

impl std::fmt::Debug for PendingAck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PendingAck").field("socket", &self.socket).field("id", &self.id).finish()
    }
}

impl Shard {
    /// An answer has come. One that nobody awaits is ignored, as in Node.
    pub(crate) fn receive_ack(&mut self, socket: Key, id: u64, args: Args<'_>) {
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
        extra.next_ack += 1;
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
