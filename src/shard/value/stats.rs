//! What a shard counts. The shard writes its own counters; anybody reads them, at any time.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::shard::value::counter::Counter;
use crate::shard::value::meters::{CloseReasons, Meters};
use crate::shard::value::outside::Book;
use crate::shard::value::session::CloseReason;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// One shard's counters. Only its shard writes them.
        #[derive(Debug, Default)]
        pub(crate) struct ShardCounters {
            $($(#[$doc])* pub(crate) $name: Counter,)+
            /// Those of each endpoint, in their order; known once the shard is made.
            pub(crate) endpoints: OnceLock<Vec<Arc<EndpointCounters>>>,
            /// What only operators see.
            pub(crate) meters: Meters,
            /// What handlers outside the shard have; known once the shard is made.
            pub(crate) outside: OnceLock<Arc<Book>>,
        }

        /// One shard's figures at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct ShardStats {
            $($(#[$doc])* pub $name: u64,)+
            /// Bytes of events that handlers outside the shard have and are not done with.
            pub outside_bytes: u64,
            /// Those events.
            pub outside_events: u64,
        }

        impl ShardCounters {
            /// The figures now.
            pub(crate) fn snapshot(&self) -> ShardStats {
                let (outside_bytes, outside_events) = self.outside.get().map_or((0, 0), |book| book.now());
                ShardStats { $($name: self.$name.get(),)+ outside_bytes, outside_events }
            }

            /// Sessions that have ended, by reason: those of all endpoints.
            pub(crate) fn sessions_closed(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let endpoints = self.endpoints.get().map(Vec::as_slice).unwrap_or_default();
                CloseReason::ALL.into_iter().map(move |reason| {
                    let count = endpoints.iter().map(|endpoint| endpoint.sessions_closed.of(reason)).sum();
                    (reason.as_str(), count)
                })
            }
        }
    };
}

counters! {
    /// TCP and Unix connections open now.
    connections,
    /// Engine.IO sessions open now.
    sessions,
    /// Sockets connected to a namespace now.
    sockets,
    /// Events received from clients.
    events_received,
    /// Messages queued for clients: a broadcast to n sockets counts n.
    messages_sent,
    /// Bytes read from connections.
    bytes_received,
    /// Bytes written to connections.
    bytes_sent,
    /// Engine.IO requests that were refused.
    requests_refused,
    /// Connections that were closed at once, because this process had `connections_max` or their address
    /// `connections_per_address_max`.
    connections_refused,
    /// Handshakes that were answered 503 because of `sessions_max`, `connections_per_address_max`, `handshakes_per_second_max` or
    /// `lag_max`.
    handshakes_refused,
    /// Times that a client was made to wait because of `events_per_second_max` or `bytes_per_second_max`.
    rate_delays,
    /// Events dropped because of them.
    rate_drops,
    /// Clients closed because of them.
    rate_closes,
    /// Sessions that had joined nothing, closed to make room for newer ones.
    unjoined_sessions_closed,
    /// Sessions closed because they were owed too much.
    slow_consumers_closed,
    /// Messages that slow clients did not get: volatile ones, and those that a rule dropped.
    messages_dropped,
    /// Messages to slow clients whose place a later one with the same key took.
    messages_conflated,
    /// Bytes owed to clients now: counted when they are queued, until they are sent.
    owed_bytes,
    /// Bytes that clients have sent of messages that are not whole yet, or that wait for their turn or for a handler.
    partial_bytes,
    /// Clients that were closed because all together had sent too much of what `partial_bytes` counts.
    partial_closed,
    /// Messages to another shard that found its inbox full and were lost.
    mesh_messages_lost,
    /// Ticks that were left out, because the shard was held up.
    ticks_skipped,
    /// Times that a handler, a tick or a task held its shard for longer than `slow_handler`.
    handlers_slow,
    /// Clients now of which nothing is read, because handlers outside the shard have too much of what they sent.
    outside_paused,
    /// Times that a client was not read any more for that.
    outside_pauses,
    /// Acknowledgements that a handler kept and dropped without an answer, while their client was there.
    acks_dropped,
    /// Handlers that panicked.
    handler_panics,
    /// Requests that wait for a route now, or that are answered piece by piece.
    routes_waiting,
    /// Requests that were answered 504, because their route did not answer within `route_timeout`.
    routes_timed_out,
    /// Microseconds this shard was awake.
    busy_micros,
    /// Connections handed to the shard that owns their session, or that their `shard_key` chose.
    handoffs,
    /// Requests that waited before they were handed over, or were answered 503, because of `handoffs_per_second_max`.
    handoffs_delayed,
    /// TLS handshakes that were finished.
    tls_handshakes,
    /// Those of clients that came back with a ticket.
    tls_resumed,
    /// TLS connections that failed: handshakes, and what came after them.
    tls_failed,
}

macro_rules! endpoint_counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What one shard counts of one endpoint.
        #[derive(Debug, Default)]
        pub(crate) struct EndpointCounters {
            pub(crate) path: Box<str>,
            /// Sessions that have ended, by reason.
            pub(crate) sessions_closed: CloseReasons,
            $($(#[$doc])* pub(crate) $name: Counter,)+
        }

        /// One endpoint's figures on one shard, at one moment: see [`Handle::endpoint_stats`](crate::Handle::endpoint_stats).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct EndpointStats { $($(#[$doc])* pub $name: u64,)+ }

        impl EndpointCounters {
            pub(crate) fn new(path: &str) -> EndpointCounters {
                EndpointCounters { path: path.into(), ..EndpointCounters::default() }
            }

            /// The figures now.
            pub(crate) fn snapshot(&self) -> EndpointStats {
                EndpointStats { $($name: self.$name.get(),)+ }
            }
        }
    };
}

endpoint_counters! {
    /// Engine.IO sessions open now.
    sessions,
    /// Those of them that poll.
    sessions_polling,
    /// Engine.IO sessions that have opened.
    sessions_opened,
    /// Sockets connected to its namespaces now.
    sockets,
    /// Events received from its clients.
    events_received,
    /// Messages queued for its clients: a broadcast to n sockets counts n.
    messages_sent,
    /// Requests below its path that were refused as Engine.IO requests.
    requests_refused,
    /// Sessions closed because they were owed too much.
    slow_consumers_closed,
}
