//! What is to be done later: after the user code that asked for it, or when the turn ends.

use std::task::Waker;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::message::inquiry::{AckError, Findings, Reply};
use crate::message::peer::Arrival;
use crate::shard::value::ack::Asked;
use crate::shard::value::answer::{Answer, PendingAck};
use crate::shard::value::error::{HandlerError, Refused};
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::route::{Answered, RouteEnd};
use crate::shard::value::session::CloseReason;
use crate::shard::value::socket::SocketExtra;
use crate::shard::value::task::LocalFuture;

/// What the shard asks of whoever drives it.
#[derive(Debug)]
pub(crate) enum Output {
    /// Close the wire now. What was still owed comes along: a send of it may be under way.
    Close { connection: Key, outbox: Outbox },
    /// Nothing more will be written: tell the peer, keep reading.
    ShutdownWrite(Key),
    /// Give the connection to another shard, with what it is owed and what was read and not used.
    Handoff { connection: Key, to: ShardId, arrival: Arrival, outbox: Outbox, unread: Vec<u8> },
    /// Read nothing more of a connection until told otherwise.
    StopReading(Key),
    /// Read on.
    StartReading(Key),
    /// Do something on the thread of files, and deliver the outcome as a `ShardMessage::File`.
    File { connection: Key, work: FileWork },
}

/// Work that calls handlers, noted by code that must not.
pub(crate) enum Deferred {
    /// Start a background task.
    Start(LocalFuture),
    CloseSession(Key, CloseReason),
    /// Close a session that has joined no namespace, to make room for a newer one.
    GiveWay(Key),
    /// Tell a session's sockets that their client has caught up.
    Drained(Key),
    /// End one socket; the peer is told.
    DisconnectSocket(Key),
    /// Take up what a connection sent while its last request was being answered.
    Resume(Key),
    /// Treat a connection as lost.
    Lost(Key),
    /// Tell the asker of one client that its answer will not come.
    FailAck(PendingAck, AckError),
    /// Give the result of a question to all shards to its asker.
    Reply(Reply, Result<Findings, AckError>),
    /// Drop the values a user kept in a socket: their destructors may use the API.
    Discard(Box<SocketExtra>),
    /// A socket that had to wait with its events need not any more.
    TakeUp(Key),
    /// An acknowledgement that a handler kept was dropped. First it is noted again: the handler may have failed, too, and then its
    /// error handler answers.
    AckDropped {
        key: Key,
        is_noted_again: bool,
    },
    /// An asynchronous handler failed at this event.
    Failed {
        socket: Key,
        event: String,
        asked: Asked,
        args: Answer,
        error: HandlerError,
    },
    /// A connect handler that took its time has decided.
    Decided(Key, Result<(), Refused>),
    /// A route that took its time has answered.
    Answered(Key, Box<Answered>),
    /// The checks before a route have let a request pass.
    Passed(Key),
    /// A rule that took its time has decided whether a session may open; an error is its message.
    Allowed(Key, Result<(), String>),
    /// A request that waited is over.
    RouteEnded(Box<RouteEnd>),
    /// Wake whoever waits for the body of a request, or for room in the body of an answer: a waker may be user code.
    Wake(Waker),
}

/// What is to be done later, by kind; the order is in `run/turn` and `seam`.
#[derive(Default)]
pub(crate) struct Effects {
    /// Connections that are owed bytes since the last flush.
    pub(crate) dirty: Vec<Key>,
    /// Sessions whose pending poll has something to take, since the last turn's end.
    pub(crate) polls_due: Vec<Key>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) deferred: Vec<Deferred>,
}
