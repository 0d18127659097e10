//! What handlers outside their shard ask of it: many errands in one message, done in their order.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::base::buffer::SharedFrame;
use crate::base::slab::Key;
use crate::message::address::Address;
use crate::message::target::{Target, ToldChange};
use crate::protocol::socketio::raw_json::RawJson;

/// One thing to do. What names a socket that is gone is not done.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Send canonical frames to one socket. An answer must arrive, also where a rule drops events for clients that are slow.
    Send {
        socket: Key,
        frames: Vec<u8>,
        is_answer: bool,
    },
    /// Let a client in, or send it away.
    Decide(Key, Result<(), Refusal>),
    Join(Key, String),
    Leave(Key, String),
    Disconnect {
        socket: Key,
        close_session: bool,
    },
    /// Publish for one of this shard's sockets, as a handler of it does.
    Publish(Box<Publication>),
    /// Make a change for it, on all shards and in all processes.
    Change(Arc<ToldChange>),
    /// Call a function with the socket.
    Run(Key, Work),
    /// A disconnect handler has ended: the socket's rooms are not kept any more.
    LetGo(Key),
    /// A handler has dropped an event whose client waits for an answer.
    AnswerDropped(Key),
    /// Less of a session's events is outside: its client, who waits for that, may go on.
    GoOn(Key),
    /// The same for all clients of the shard.
    AllGoOn,
}

/// An event for whoever is meant, on all shards and in all processes.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) namespace: Address,
    pub(crate) target: Target,
    pub(crate) frame: SharedFrame,
    /// The socket whose client does not get it.
    pub(crate) but: Option<Key>,
}

/// Why a client is sent away, as it is told.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) data: Option<RawJson>,
}

/// A function of the user's, which is given a [`Socket`](crate::Socket): what that is, messages do not know.
pub(crate) struct Work(pub(crate) UserFunction);

type UserFunction = Box<dyn FnOnce(&dyn Any) + Send>;

impl fmt::Debug for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Work")
    }
}

/// Errands for one shard.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    list: Vec<Errand>,
    /// What they keep in memory, beside the list.
    bytes: usize,
}

impl Errands {
    pub(crate) fn push(&mut self, errand: Errand) {
        self.bytes += errand.len_bytes();
        self.list.push(errand);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// What they keep in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes + self.list.len() * size_of::<Errand>()
    }

    pub(crate) fn into_list(self) -> Vec<Errand> {
        self.list
    }
}

impl Errand {
    fn len_bytes(&self) -> usize {
        match self {
            Errand::Send { frames, .. } => frames.len(),
            Errand::Publish(publication) => publication.frame.len() + publication.target.len_bytes(),
            Errand::Change(told) => told.command.target.len_bytes(),
            Errand::Join(_, room) | Errand::Leave(_, room) => room.len(),
            Errand::Decide(_, Err(refusal)) => {
                refusal.message.len() + refusal.data.as_ref().map_or(0, |data| data.as_str().len())
            }
            Errand::Decide(_, Ok(()))
            | Errand::Disconnect { .. }
            | Errand::Run(..)
            | Errand::AnswerDropped(_)
            | Errand::LetGo(_)
            | Errand::GoOn(_)
            | Errand::AllGoOn => 0,
        }
    }
}
