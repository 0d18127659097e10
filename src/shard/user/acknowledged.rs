//! Giving an acknowledgement that was kept, and what became of it.

use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::protocol::socketio::encode::EncodeError;
use crate::shard::user::socket::Socket;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::frame_ack;
use crate::shard::value::parked::Outcome;

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acknowledged {
    /// It is sent, or waits for a client that is slow: see [`Outcome`].
    Sent(Outcome),
    /// It is on its way to the socket's shard, from another thread.
    OnItsWay,
    /// Not sent: the client has not asked for an answer.
    NotWanted,
    /// Not sent: the client is gone, or the server has stopped.
    Gone,
    /// Not sent: the error handler has answered already, for a handler that failed.
    Answered,
    /// Not sent, and logged: it cannot be JSON.
    Refused(EncodeError),
    /// Not sent, from another thread: the inbox of the socket's shard was full. Logged and counted.
    ShardBusy,
}

/// Answers an acknowledgement that was kept.
pub(crate) fn answer(socket: &Socket, key: Key, args: &impl ToArgs) -> Acknowledged {
    // Only the one that is still there is encoded; the user's code runs while nothing is borrowed.
    let kept = socket.core().borrow().tables.kept_acks.get(key).copied();
    let Some(kept) = kept else {
        return if socket.is_connected() { Acknowledged::Answered } else { Acknowledged::Gone };
    };
    let mut frames = socket.core().borrow_mut().tables.pools.buffers.take();
    let framed = frame_ack(&mut frames, socket.namespace(), kept.id, args);
    let mut core = socket.core().borrow_mut();
    if core.tables.take_ack(key).is_none() {
        core.tables.pools.buffers.give(frames);
        return Acknowledged::Gone;
    }
    match framed {
        Ok(()) => {
            core.send_from_socket(kept.socket, frames, true).map_or(Acknowledged::Gone, Acknowledged::Sent)
        }
        Err(error) => {
            core.tables.pools.buffers.give(frames);
            drop(core);
            refused(error)
        }
    }
}

pub(super) fn refused(error: EncodeError) -> Acknowledged {
    tracing::error!(target: SOCKETIO, error = %Shown(&error), "an acknowledgement is not sent");
    Acknowledged::Refused(error)
}
