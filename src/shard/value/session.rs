//! An Engine.IO session: one client, whatever transport it is on.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::engineio::polling::PollForm;
use crate::protocol::engineio::session::Heartbeat;
use crate::protocol::flask::session::Session as CookieSession;
use crate::protocol::socketio::attachments::PendingBinary;
use crate::shard::value::connection::clamped;
use crate::shard::value::form::Form;
use crate::shard::value::handshake::Handshake;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::outside::SessionAccount;
use crate::shard::value::pace::Pace;
use crate::shard::value::parked::Parked;
use crate::shard::value::share::SessionShare;

impl Session {
    /// What `Tables::mark_poll_due` does, for those who have the session at hand. How much earlier turns have left, if these are the first
    /// bytes of this one.
    #[inline]
    pub(crate) fn mark_poll_due(&mut self, key: Key, polls_due: &mut Vec<Key>) -> u32 {
        if std::mem::replace(&mut self.is_poll_due, true) {
            return 0;
        }
        self.behind = clamped(self.backlog.len());
        polls_due.push(key);
        self.behind
    }
}

/// Why a session or a socket ended. The texts are those of the Node server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client left this namespace.
    ClientDisconnect,
    /// The server ended the socket: `disconnect`.
    ServerDisconnect,
    /// The server stops.
    ServerShutdown,
    /// No pong in time.
    PingTimeout,
    /// The client closed its connection.
    TransportClose,
    /// The connection broke, or the client broke a rule of the transport, or a handler of the client's panicked.
    TransportError,
    /// The client sent something that is no Engine.IO packet.
    ParseError,
    /// A Socket.IO packet that breaks the protocol, or no namespace joined in time.
    ForcedClose,
    /// The time was over that the application had given it: see [`expires_in`](crate::Socket::expires_in).
    Expired,
    /// The client did not read, and the server was owed more than `outbox_bytes_max`.
    SlowConsumer,
    /// The client sent more than `events_per_second_max` or `bytes_per_second_max`, and `rate_policy` is to close.
    RateExceeded,
}

impl CloseReason {
    /// Every reason, in the order of the declaration.
    pub(crate) const ALL: [CloseReason; 11] = [
        CloseReason::ClientDisconnect,
        CloseReason::ServerDisconnect,
        CloseReason::ServerShutdown,
        CloseReason::PingTimeout,
        CloseReason::TransportClose,
        CloseReason::TransportError,
        CloseReason::ParseError,
        CloseReason::ForcedClose,
        CloseReason::Expired,
        CloseReason::SlowConsumer,
        CloseReason::RateExceeded,
    ];

    /// The reason in the words of Socket.IO's `disconnect` event.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::ClientDisconnect => "client namespace disconnect",
            CloseReason::ServerDisconnect => "server namespace disconnect",
            CloseReason::ServerShutdown => "server shutting down",
            CloseReason::PingTimeout => "ping timeout",
            CloseReason::TransportClose => "transport close",
            CloseReason::TransportError => "transport error",
            CloseReason::ParseError => "parse error",
            CloseReason::ForcedClose => "forced close",
            CloseReason::Expired => "token expired",
            CloseReason::SlowConsumer => "slow consumer",
            CloseReason::RateExceeded => "rate exceeded",
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a session reaches its client now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Long-polling: the connection whose GET waits, and the one whose POST is being read.
    Polling {
        poll: Option<Key>,
        post: Option<Key>,
    },
    WebSocket(Key),
}

/// How a session has left namespaces so far, the furthest of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    #[default]
    None,
    /// Its client has left one: an answer to what it was asked there may follow, and another DISCONNECT.
    ByItself,
    /// The server has ended a socket: its client may have sent anything for that namespace before it knew.
    SentAway,
}

/// A WebSocket on its way to become a session's transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgrade {
    pub(crate) connection: Key,
    pub(crate) until: Time,
    /// `3probe` is sent: from now on a poll is answered at once.
    pub(crate) is_probed: bool,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) sid: Sid,
    pub(crate) link: Link,
    /// The revision that the client speaks, and how it wants its polls answered: as it opened, then as each GET says.
    pub(crate) poll_form: PollForm,
    /// The form in which frames are queued for it. What its WebSocket adds comes with the upgrade.
    pub(crate) form: Form,
    /// A WebSocket that asks to take over, and until when it may.
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) heartbeat: Heartbeat,
    /// Until when a namespace must be joined; `NEVER` once one is.
    pub(crate) connect_by: Time,
    /// The earliest entry of this session in the wheel.
    pub(crate) armed: Time,
    /// What waits for the next poll, as server frames in its `form`.
    pub(crate) backlog: Outbox,
    /// Something in the backlog may be compressed, so the poll that takes it may.
    pub(crate) may_compress: bool,
    pub(crate) is_poll_due: bool,
    /// How much of the backlog earlier turns have left, while it polls, as of the first bytes of this one.
    pub(crate) behind: u32,
    /// Parked events, or a drain handler, wait until it has caught up, while it polls.
    pub(crate) awaits_drain: bool,
    /// Events that wait until the client has caught up.
    pub(crate) parked: Option<Box<Parked>>,
    /// The session has ended, and only waits for a poll that takes what it was still owed, or for a client that is switching.
    pub(crate) is_over: bool,
    /// Its end is noted: handlers get nothing more of what it sends.
    pub(crate) is_ending: bool,
    /// Whether it was in a namespace that it is not in any more.
    pub(crate) left: Left,
    /// The application closed it, for good: its client is told so. From any other end a stock client comes back.
    pub(crate) is_sent_away: bool,
    /// It is over, and a poll has taken the last of it: the next poll is answered like one for an unknown session.
    pub(crate) is_told: bool,
    /// It has not joined a namespace yet, and may have to give way: see `unjoined`.
    pub(crate) is_unjoined: bool,
    /// It is counted among those of its address.
    pub(crate) is_held: bool,
    /// The endpoint that it opened at.
    pub(crate) endpoint: u8,
    /// Its backlog is more than `outbox_bytes_max`: its close is noted, and what is emitted to it is dropped.
    pub(crate) is_given_up: bool,
    /// Its packets are shown in the log.
    pub(crate) is_traced: bool,
    pub(crate) sockets: SmallVec<[(u16, Key); 1]>,
    /// While it polls, its share of a turn for what has waited behind its handlers.
    pub(crate) share: SessionShare,
    /// Asynchronous handlers of its sockets that run, also of sockets that it has left.
    pub(crate) tasks: u32,
    /// A binary packet that waits for its attachments. It may finish on the other transport.
    pub(crate) pending_binary: Option<Box<PendingBinary>>,
    /// What its sockets keep until a handler of theirs is done.
    pub(crate) waiting_bytes: usize,
    /// What of it is counted in `Intake::partial_bytes`.
    pub(crate) partial: u32,
    pub(crate) handshake: Arc<Handshake>,
    /// The fork of its cookie session, made when a handler first asks for it.
    pub(crate) fork: Option<Box<CookieSession>>,
    /// Of its events that are handled outside the shard, if any were.
    pub(crate) account: Option<Arc<SessionAccount>>,
    /// What its client has sent of what it may.
    pub(crate) pace: Pace,
}

impl Session {
    /// The next time at which this session wants to be looked at. One that is over only waits for its last poll.
    pub(crate) fn deadline(&self) -> Time {
        if self.is_over {
            return self.connect_by;
        }
        let upgrade_by = self.upgrade.map_or(Time::NEVER, |upgrade| upgrade.until);
        self.heartbeat.deadline().min(self.connect_by).min(upgrade_by)
    }

    /// The session's socket in a namespace.
    pub(crate) fn socket_in(&self, namespace: u16) -> Option<Key> {
        self.sockets.iter().find(|(id, _)| *id == namespace).map(|(_, key)| *key)
    }
}
