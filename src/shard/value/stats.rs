//! What a shard counts. The shard writes its own counters; anybody reads them, at any time.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// One shard's counters. Only its shard writes them.
        #[derive(Debug, Default)]
        pub(crate) struct ShardCounters { $($(#[$doc])* pub(crate) $name: Counter,)+ }

        /// One shard's figures at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct ShardStats { $($(#[$doc])* pub $name: u64,)+ }

        impl ShardCounters {
            /// The figures now.
            pub(crate) fn snapshot(&self) -> ShardStats {
                ShardStats { $($name: self.$name.get(),)+ }
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
    /// Connections handed to the shard that owns their session.
    handoffs,
}

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: there is one writer.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Sets a figure that goes up and down.
    pub(crate) fn set(&self, amount: u64) {
        self.0.store(amount, Ordering::Relaxed);
    }

    /// Takes away; never below zero.
    pub(crate) fn subtract(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(amount), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
