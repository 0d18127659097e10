//! The labels of what is counted: each is one of a few words that are known when the program is compiled, so the number of series is
//! bounded, and each series is there from the start.

use crate::protocol::engineio::request::RequestError;
use crate::protocol::engineio::revision::Revision;
use crate::shard::value::counter::Counter;
use crate::shard::value::recovery::Recovery;

/// An enum whose variants are labels, and a counter for each.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident, $counts:ident; $($(#[$about:meta])* $kind:ident $label:literal,)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$about])* $kind,)+ }

        impl $name {
            pub(crate) const LABELS: &'static [&'static str] = &[$($label,)+];
        }

        /// A counter for each.
        #[derive(Debug, Default)]
        pub(crate) struct $counts([Counter; $name::LABELS.len()]);

        impl $counts {
            /// One more.
            #[inline]
            pub(crate) fn count(&self, kind: $name) {
                self.add(kind, 1);
            }

            #[inline]
            pub(crate) fn add(&self, kind: $name, amount: u64) {
                if let Some(counter) = self.0.get(kind as usize) {
                    counter.add(amount);
                }
            }

            /// One fewer.
            #[allow(dead_code, reason = "of gauges only")]
            #[inline]
            pub(crate) fn subtract(&self, kind: $name) {
                if let Some(counter) = self.0.get(kind as usize) {
                    counter.subtract(1);
                }
            }

            /// Each with its label.
            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                $name::LABELS.iter().zip(&self.0).map(|(label, counter)| (*label, counter.get()))
            }

            /// All together.
            #[allow(dead_code, reason = "tests compare some sums")]
            pub(crate) fn sum(&self) -> u64 {
                self.each().map(|(_, count)| count).sum()
            }
        }
    };
}

kinds! {
    /// Why a connection was closed at once.
    ConnectionRefused, ConnectionsRefused;
    Full "connections_max",
    Address "connections_per_address_max",
    /// What it began with is no PROXY header that is believed.
    Proxy "proxy_protocol",
}

kinds! {
    /// Who ended a connection.
    ConnectionClosed, ConnectionsClosed;
    /// The peer closed it, or the network.
    Peer "peer",
    /// The server said goodbye: after an answer, or because a session ended.
    Server "server",
    /// The server cut it: it was too slow, was idle for too long, or broke the rules.
    Cut "cut",
}

kinds! {
    /// How a session speaks: by its transport, and the revision of Engine.IO.
    Speech, Speeches;
    Polling3 "polling 3",
    Polling4 "polling 4",
    WebSocket3 "websocket 3",
    WebSocket4 "websocket 4",
}

impl Speech {
    #[inline]
    pub(crate) fn of(is_websocket: bool, revision: Revision) -> Speech {
        match (is_websocket, revision) {
            (false, Revision::Three) => Speech::Polling3,
            (false, Revision::Four) => Speech::Polling4,
            (true, Revision::Three) => Speech::WebSocket3,
            (true, Revision::Four) => Speech::WebSocket4,
        }
    }
}

kinds! {
    /// Why a request was refused, or a handshake.
    RequestRefused, RequestsRefused;
    Origin "origin",
    /// `allow_request`, `choose_protocol` or another rule of the server said no.
    Rule "rule",
    Transport "unknown_transport",
    Session "unknown_session",
    /// The session is of another process.
    Elsewhere "other_process",
    Version "unsupported_version",
    Method "method",
    /// Its words are no request of Engine.IO.
    Request "bad_request",
    /// It is no HTTP, or larger than it may be.
    Malformed "malformed",
    Late "header_timeout",
    Host "allowed_hosts",
    /// A session had a request of this kind under way.
    Second "second_request",
    Draining "draining",
    Sessions "sessions_max",
    Address "connections_per_address_max",
    Rate "handshakes_per_second_max",
    Lag "lag_max",
    Moves "handoffs_per_second_max",
    Routes "routes_waiting_max",
    /// The browser's client, which this server does not have.
    NoClient "no_client",
}

impl From<RequestError> for RequestRefused {
    fn from(error: RequestError) -> RequestRefused {
        match error {
            RequestError::TransportUnknown => RequestRefused::Transport,
            RequestError::SessionUnknown => RequestRefused::Session,
            RequestError::BadHandshakeMethod => RequestRefused::Method,
            RequestError::BadRequest => RequestRefused::Request,
            RequestError::Forbidden => RequestRefused::Rule,
            RequestError::UnsupportedRevision => RequestRefused::Version,
        }
    }
}

kinds! {
    /// Why a client was not let into a namespace.
    SocketRefused, SocketsRefused;
    Unknown "unknown_namespace",
    Namespaces "namespaces_max",
    OfSession "namespaces_per_session_max",
    Handler "handler",
    Panic "panic",
    Expired "token_expired",
    /// The server disconnected it before its connect handler had decided.
    Disconnected "disconnected",
}

kinds! {
    /// What became of a received event.
    EventOutcome, EventOutcomes;
    Done "done",
    /// An asynchronous handler took it.
    Later "async",
    Failed "error",
    Panicked "panic",
    Unhandled "no_handler",
    /// Its client or its socket was gone before its turn came.
    Dropped "dropped",
}

kinds! {
    /// Where a broadcast that was delivered here came from.
    BroadcastOrigin, BroadcastOrigins;
    /// A handler or task of this shard.
    Here "here",
    Mesh "other_shard",
    /// Another thread or process.
    Outside "outside",
}

kinds! {
    /// By which rule a slow client did not get a message.
    DropPolicy, DropPolicies;
    Volatile "volatile",
    Newest "drop_newest",
    Oldest "drop_oldest",
    /// It is about to be closed, as it is owed too much.
    Closing "close",
    /// More than is kept for those who get the latest only.
    Latest "latest",
}

kinds! {
    /// What a slow client was closed for.
    Kick, Kicks;
    /// One client was owed more than it may be.
    Outbox "outbox_bytes_max",
    /// All together were, and it was among those who were owed most.
    Outboxes "outboxes_bytes_max",
    /// It took an answer more slowly than is asked for.
    Pace "answer_pace",
}

kinds! {
    /// What became of a client's wish to be again who it was.
    RecoveryOutcome, RecoveryOutcomes;
    Recovered "recovered",
    Unknown "unknown",
    TooMuchMissed "too_much_missed",
    NoAnswer "no_answer",
    /// It was found, and lost again half-way.
    Failed "failed",
}

impl RecoveryOutcome {
    /// What a claim in vain is counted as.
    pub(crate) fn of(outcome: Recovery) -> Option<RecoveryOutcome> {
        match outcome {
            Recovery::NotAsked | Recovery::Recovered => None,
            Recovery::Unknown => Some(RecoveryOutcome::Unknown),
            Recovery::TooMuchMissed => Some(RecoveryOutcome::TooMuchMissed),
            Recovery::NoAnswer => Some(RecoveryOutcome::NoAnswer),
        }
    }
}

kinds! {
    /// How an upgrade from polling to WebSocket ended.
    UpgradeOutcome, UpgradeOutcomes;
    Done "done",
    /// The probe's connection was lost or broke the rules.
    Failed "failed",
    TimedOut "upgrade_timeout",
}
