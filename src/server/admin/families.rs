//! The table of all metrics: name, type, labels, meaning, and where the figure is.
//!
//! What is counted newly gets a row here and one in `docs/metrics.md`; tests compare both, and the rows with the figures.

use crate::driver::tls::CertificateEnd;
use crate::mesh::depth::Depth;
use crate::mesh::link::QueueStats;
use crate::server::admin::exposition::Snapshot;
use crate::server::admin::process::{ProcessUsage, ThreadUsage};
use crate::shard::value::histogram::{Counts, Histogram};
use crate::shard::value::meters::{Meters, NamespaceMeters};
use crate::shard::value::stats::{EndpointStats, ShardCounters, ShardStats};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    /// A counter of microseconds, written in seconds.
    Micros,
    /// A counter of nanoseconds, written in seconds.
    Nanos,
    /// A gauge of milliseconds, written in seconds.
    Millis,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Gauge | Kind::Millis => "gauge",
            Kind::Counter | Kind::Micros | Kind::Nanos => "counter",
        }
    }
}

/// One metric of what counts as a `T`.
pub(super) struct Family<T: 'static> {
    /// As samples are named.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
    /// The figure's name in `T`.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the rows with the figures"))]
    pub(super) field: &'static str,
    pub(super) read: fn(&T) -> u64,
}

macro_rules! families {
    ($of:ty, $prefix:literal; $($field:ident: $kind:ident $name:literal, $about:literal;)+) => {
        &[$(Family::<$of> {
            name: concat!($prefix, $name),
            kind: Kind::$kind,
            about: $about,
            field: stringify!($field),
            read: |one| u64::from(one.$field),
        },)+]
    };
}

pub(super) const PROCESS: &[Family<Snapshot>] = families! { Snapshot, "shardcast_";
    is_ready: Gauge "ready", "1 while new clients may come, as /readyz says";
    is_draining: Gauge "draining", "1 while the server ends";
    started_unix_millis: Millis "start_time_seconds", "When the server began, since 1970";
};

/// By the names that all programs have for them.
pub(super) const USAGE: &[Family<ProcessUsage>] = families! { ProcessUsage, "process_";
    cpu_nanos: Nanos "cpu_seconds_total", "CPU time of the process";
    resident_bytes: Gauge "resident_memory_bytes", "Memory of the process in RAM";
    open_fds: Gauge "open_fds", "Descriptors open now";
    max_fds: Gauge "max_fds", "Descriptors that the process may have";
};

pub(super) const THREADS: &[Family<ThreadUsage>] = families! { ThreadUsage, "shardcast_";
    cpu_nanos: Nanos "cpu_seconds_total", "CPU time of the shard's thread, in the kernel too";
    wait_nanos: Nanos "cpu_wait_seconds_total", "Time that the shard's thread was ready and had no core";
};

pub(super) const INBOXES: &[Family<Depth>] = families! { Depth, "shardcast_inbox_";
    messages: Gauge "messages", "Messages of other shards and threads that wait for the shard now";
    bytes: Gauge "bytes", "What these messages keep in memory";
};

pub(super) const SHARDS: &[Family<ShardStats>] = families! { ShardStats, "shardcast_";
    sockets: Gauge "sockets", "Sockets connected to a namespace now";
    events_received: Counter "events_received_total", "Events received from clients";
    messages_sent: Counter "messages_sent_total", "Events and other messages queued for clients; a broadcast to n sockets counts n";
    bytes_received: Counter "received_bytes_total", "Bytes read from connections";
    bytes_sent: Counter "sent_bytes_total", "Bytes written to connections";
    handshakes_refused: Counter "handshakes_refused_total", "Handshakes answered 503: sessions_max, connections_per_address_max, handshakes_per_second_max or lag_max";
    rate_delays: Counter "rate_delays_total", "Times that a client was made to wait: events_per_second_max or bytes_per_second_max";
    rate_drops: Counter "rate_drops_total", "Events dropped: events_per_second_max or bytes_per_second_max";
    rate_closes: Counter "rate_closes_total", "Clients closed: events_per_second_max or bytes_per_second_max";
    unjoined_sessions_closed: Counter "unjoined_sessions_closed_total", "Sessions that had joined nothing, closed to make room";
    messages_conflated: Counter "messages_conflated_total", "Messages to slow clients whose place a later one took";
    owed_bytes: Gauge "owed_bytes", "Bytes queued for clients and not sent yet";
    partial_bytes: Gauge "partial_bytes", "Bytes from clients that are no whole message yet or wait for their turn";
    partial_closed: Counter "partial_closed_total", "Clients closed because all had sent too much of what partial_bytes counts";
    mesh_messages_lost: Counter "mesh_messages_lost_total", "Messages to another shard that found its inbox full";
    ticks_skipped: Counter "ticks_skipped_total", "Ticks left out because the shard was held up";
    handlers_slow: Counter "handlers_slow_total", "Times that a handler, a tick or a task took longer than slow_handler";
    outside_bytes: Gauge "outside_bytes", "Bytes of events that handlers outside the shard have";
    outside_events: Gauge "outside_events", "Events that handlers outside the shard have";
    outside_paused: Gauge "outside_paused", "Clients not read now because handlers outside the shard have too much of what they sent";
    outside_pauses: Counter "outside_pauses_total", "Times that a client was not read any more for that";
    acks_dropped: Counter "acks_dropped_total", "Acknowledgements that a handler kept and dropped without an answer";
    handler_panics: Counter "handler_panics_total", "Handlers that panicked";
    routes_waiting: Gauge "routes_waiting", "Requests that wait for a route now or are answered piece by piece";
    routes_timed_out: Counter "routes_timed_out_total", "Requests answered 504 because their route took longer than route_timeout";
    tls_handshakes: Counter "tls_handshakes_total", "TLS handshakes that were completed";
    tls_resumed: Counter "tls_resumed_total", "TLS handshakes of clients that came back with a ticket";
    tls_failed: Counter "tls_failed_total", "TLS connections that broke the rules, trusted no certificate of ours, or were too many";
    busy_micros: Micros "busy_seconds_total", "Time that the shard was awake, without sleeping";
    handoffs: Counter "handoffs_total", "Connections handed to the shard that owns their session or that their shard_key chose";
    handoffs_delayed: Counter "handoffs_delayed_total", "Requests that waited to be handed over or were answered 503: handoffs_per_second_max";
};

pub(super) const ENDPOINTS: &[Family<EndpointStats>] = families! { EndpointStats, "shardcast_endpoint_";
    sessions: Gauge "sessions", "Engine.IO sessions open now";
    sessions_polling: Gauge "sessions_polling", "Those of them that poll";
    sessions_opened: Counter "sessions_opened_total", "Engine.IO sessions that have opened";
    sockets: Gauge "sockets", "Sockets connected to its namespaces now";
    events_received: Counter "events_received_total", "Events received from its clients";
    messages_sent: Counter "messages_sent_total", "Messages queued for its clients; a broadcast to n sockets counts n";
    requests_refused: Counter "requests_refused_total", "Engine.IO requests below its path that were refused";
    slow_consumers_closed: Counter "slow_consumers_closed_total", "Sessions closed because they were owed too much";
};

pub(super) const QUEUES: &[Family<QueueStats>] = families! { QueueStats, "shardcast_queue_";
    is_up: Gauge "up", "1 while the broker is connected";
    processes: Gauge "processes", "Other processes that are known now";
    waiting_bytes: Gauge "waiting_bytes", "Bytes that wait for the broker now";
    outages: Counter "outages_total", "Times that the broker could not be reached, or was lost: at the start or later";
    connects: Counter "connects_total", "Connections to the broker that were made";
    published: Counter "published_total", "Messages that the broker has taken";
    refused: Counter "refused_total", "Messages refused because the queue was full or they were too large";
    lost: Counter "lost_total", "Messages lost at the broker, on the way, or for a shard that does not keep up";
    received: Counter "received_total", "Messages that came";
    own: Counter "own_total", "Messages that came and were this process' own words";
    repeated: Counter "repeated_total", "Messages that came a second time and were not delivered again";
    nobodys: Counter "nobodys_total", "Events that came for rooms without a member here";
    unreadable: Counter "unreadable_total", "Messages that could not be read";
    sockets_left: Counter "sockets_left_total", "Sockets that this process has left with the broker";
    sockets_taken: Counter "sockets_taken_total", "Sockets of processes that are gone whose clients came back to here";
    sockets_given_up: Counter "sockets_given_up_total", "Sockets of processes that are gone which clients claimed in vain";
};

pub(super) const CERTIFICATES: &[Family<CertificateEnd>] = families! { CertificateEnd, "shardcast_tls_";
    unix_seconds: Gauge "certificate_expires_seconds", "When the certificate of this file ends, since 1970; without TLS there is none";
};

pub(super) const BUILD: Family<Snapshot> = Family {
    name: "shardcast_build_info",
    kind: Kind::Gauge,
    about: "Always 1; the version is the label",
    field: "version",
    read: |_| 1,
};

/// A metric of a shard with labels beside the shard's.
pub(super) struct Labelled {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the guide with them"))]
    pub(super) labels: &'static str,
    pub(super) about: &'static str,
    /// The figure of [`ShardStats`] that is told apart by these labels; empty where there is none.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the rows with the figures"))]
    pub(super) field: &'static str,
    pub(super) each: fn(&ShardCounters, Visit<'_, u64>),
}

/// Is given labels, and what is counted under them.
pub(super) type Visit<'a, T> = &'a mut dyn FnMut(&[(&'static str, &str)], T);

/// Rows whose counters are by one label.
macro_rules! by_label {
    ($($kind:ident $name:literal by $label:literal of $field:literal, $about:literal: $counts:ident;)+) => {
        [$(Labelled {
            name: concat!("shardcast_", $name),
            kind: Kind::$kind,
            labels: $label,
            about: $about,
            field: $field,
            each: |counters, visit| {
                counters.meters.$counts.each().for_each(|(value, count)| visit(&[($label, value)], count));
            },
        },)+]
    };
}

/// Rows without further labels.
macro_rules! plain {
    ($($kind:ident $name:literal, $about:literal: $counter:ident;)+) => {
        [$(Labelled {
            name: concat!("shardcast_", $name),
            kind: Kind::$kind,
            labels: "",
            about: $about,
            field: "",
            each: |counters, visit| visit(&[], counters.meters.$counter.get()),
        },)+]
    };
}

pub(super) const SPOKEN: [Labelled; 4] = [
    Labelled {
        name: "shardcast_connections",
        kind: Kind::Gauge,
        labels: "kind",
        about: "TCP and Unix connections of clients open now, by what they speak",
        field: "connections",
        each: |counters, visit| {
            let websocket = counters.meters.connections_websocket.get();
            visit(&[("kind", "http")], counters.connections.get().saturating_sub(websocket));
            visit(&[("kind", "websocket")], websocket);
        },
    },
    Labelled {
        name: "shardcast_sessions",
        kind: Kind::Gauge,
        labels: "transport, revision",
        about: "Engine.IO sessions open now, by transport and protocol revision",
        field: "sessions",
        each: |counters, visit| {
            counters.meters.sessions.each().for_each(|(label, count)| spoken(label, count, visit))
        },
    },
    Labelled {
        name: "shardcast_sessions_opened_total",
        kind: Kind::Counter,
        labels: "transport, revision",
        about: "Engine.IO sessions that opened, by their first transport",
        field: "",
        each: |counters, visit| {
            counters.meters.sessions_opened.each().for_each(|(label, count)| spoken(label, count, visit));
        },
    },
    Labelled {
        name: "shardcast_sessions_closed_total",
        kind: Kind::Counter,
        labels: "reason",
        about: "Engine.IO sessions that ended, in Socket.IO's words",
        field: "",
        each: |counters, visit| {
            counters.sessions_closed().for_each(|(reason, count)| visit(&[("reason", reason)], count));
        },
    },
];

/// The two labels of a `Speech`.
fn spoken(label: &'static str, count: u64, visit: Visit<'_, u64>) {
    let (transport, revision) = label.split_once(' ').unwrap_or((label, ""));
    visit(&[("transport", transport), ("revision", revision)], count);
}

pub(super) const BY_LABEL: [Labelled; 11] = by_label! {
    Counter "connections_closed_total" by "by" of "", "Connections of clients that ended, by who ended them": connections_closed;
    Counter "connections_refused_total" by "reason" of "connections_refused", "Connections closed at once, by the setting that says so": connections_refused;
    Counter "requests_refused_total" by "reason" of "requests_refused", "Requests refused, handshakes among them, by the setting or the fault": requests_refused;
    Counter "upgrades_total" by "result" of "", "Upgrades from polling to WebSocket that ended": upgrades;
    Counter "sockets_refused_total" by "reason" of "", "Clients that were not let into a namespace": sockets_refused;
    Counter "sockets_disconnected_total" by "reason" of "", "Sockets that ended, in Socket.IO's words": sockets_disconnected;
    Counter "events_handled_total" by "outcome" of "", "What became of received events; those that wait have none yet": events;
    Counter "broadcasts_total" by "origin" of "", "Broadcasts that came to this shard, by where they were published": broadcasts;
    Counter "messages_dropped_total" by "policy" of "messages_dropped", "Messages that slow clients did not get, by the rule": dropped;
    Counter "slow_consumers_closed_total" by "bound" of "slow_consumers_closed", "Clients closed because they were too slow, by the bound": kicks;
    Counter "recoveries_total" by "result" of "", "Clients that asked to be again who they were": recoveries;
};

pub(super) const PLAIN: [Labelled; 6] = plain! {
    Counter "connections_opened_total", "Connections of clients that the shard took up: accepted, or handed to it": connections_opened;
    Counter "sockets_connected_total", "Sockets that were let into a namespace": sockets_connected;
    Gauge "events_waiting", "Received events now that wait for their socket's asynchronous handler, or for the socket to open": events_waiting;
    Counter "acks_timed_out_total", "Acknowledgements that did not come in time": acks_timed_out;
    Gauge "lost_sockets", "Sockets now whose clients may come back to them": lost_sockets;
    Counter "mesh_messages_total", "Messages of other shards and threads that the shard took from its inbox": mesh_messages;
};

/// What a histogram's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Times, in buckets of microseconds; the sum is in nanoseconds.
    Time,
    Number,
}

/// The upper bounds of times: 1 us to 4 s, in microseconds. Powers of two, for which counts are exact.
pub(super) const TIMES: &[u64] =
    &[1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

/// Those of answers over the network: 1 ms to 16 s.
const PINGS: &[u64] =
    &[1024, 4096, 16_384, 65_536, 131_072, 262_144, 524_288, 1_048_576, 4_194_304, 16_777_216];

/// Those of receivers, up to a million.
const RECEIVERS: &[u64] = &[1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];

/// Those of bytes, 1 KiB to 64 MiB.
const BYTES: &[u64] = &[1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26];

/// A histogram of each shard.
pub(super) struct Sizes {
    pub(super) name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the guide with them"))]
    pub(super) labels: &'static str,
    pub(super) about: &'static str,
    pub(super) unit: Unit,
    pub(super) bounds: &'static [u64],
    pub(super) each: for<'a> fn(&'a Meters, Visit<'_, &'a Histogram>),
}

pub(super) const SIZES: [Sizes; 6] = [
    Sizes {
        name: "shardcast_turn_seconds",
        labels: "",
        about: "From a wake of the shard until it has done what that led to: everybody's latency",
        unit: Unit::Time,
        bounds: TIMES,
        each: |meters, visit| visit(&[], &meters.turn),
    },
    Sizes {
        name: "shardcast_loop_lag_seconds",
        labels: "",
        about: "How long after its time the shard came to a timer, in whole milliseconds",
        unit: Unit::Time,
        bounds: TIMES,
        each: |meters, visit| visit(&[], &meters.lag),
    },
    Sizes {
        name: "shardcast_fan_out_seconds",
        labels: "",
        about: "From the turn in which a broadcast was published, on any shard, until it was sent to the last of its receivers on this one; the first 8 of a turn",
        unit: Unit::Time,
        bounds: TIMES,
        each: |meters, visit| visit(&[], &meters.fan_out),
    },
    Sizes {
        name: "shardcast_broadcast_receivers",
        labels: "",
        about: "Sockets of the shard that a broadcast was queued for; the sum is all deliveries of broadcasts",
        unit: Unit::Number,
        bounds: RECEIVERS,
        each: |meters, visit| visit(&[], &meters.receivers),
    },
    Sizes {
        name: "shardcast_behind_bytes",
        labels: "",
        about: "Bytes of earlier turns that a client was still owed when more was queued for it: the depth of slow clients' outboxes",
        unit: Unit::Number,
        bounds: BYTES,
        each: |meters, visit| visit(&[], &meters.behind_bytes),
    },
    Sizes {
        name: "shardcast_ping_seconds",
        labels: "transport",
        about: "From a ping to its pong, in whole milliseconds; clients of revision 3 ping themselves and are not in it",
        unit: Unit::Time,
        bounds: PINGS,
        each: |meters, visit| {
            for (transport, pings) in ["polling", "websocket"].iter().zip(&meters.ping) {
                visit(&[("transport", transport)], pings);
            }
        },
    },
];

/// What all shards together count of one namespace.
#[derive(Default)]
pub(super) struct NamespaceTotals {
    pub(super) endpoint: String,
    pub(super) name: String,
    sockets: u64,
    connected: u64,
    events_received: u64,
    /// Handlers that were done when they returned, and asynchronous ones.
    handlers: [Counts; 2],
}

impl NamespaceTotals {
    /// Those of all shards, in the order of the first that has any.
    pub(super) fn of<'a>(shards: impl Iterator<Item = &'a Meters>) -> Vec<NamespaceTotals> {
        let mut all: Vec<NamespaceTotals> = Vec::new();
        for one in shards.flat_map(|meters| meters.namespaces.iter()) {
            let known =
                all.iter().position(|known| known.endpoint == *one.endpoint && known.name == *one.name);
            let place = known.unwrap_or_else(|| {
                all.push(NamespaceTotals {
                    endpoint: one.endpoint.to_string(),
                    name: one.name.to_string(),
                    ..NamespaceTotals::default()
                });
                all.len() - 1
            });
            all[place].add(one);
        }
        all
    }

    fn add(&mut self, one: &NamespaceMeters) {
        self.sockets += one.sockets.get();
        self.connected += one.connected.get();
        self.events_received += one.events_received.get();
        one.handler.add_to(&mut self.handlers[0]);
        one.handler_async.add_to(&mut self.handlers[1]);
    }

    /// The times of its handlers, by kind.
    pub(super) fn handlers(&self) -> impl Iterator<Item = (&'static str, &Counts)> {
        ["sync", "async"].into_iter().zip(&self.handlers)
    }
}

pub(super) const NAMESPACES: &[Family<NamespaceTotals>] = families! { NamespaceTotals, "shardcast_namespace_";
    sockets: Gauge "sockets", "Sockets connected to the namespace now, on all shards";
    connected: Counter "sockets_connected_total", "Sockets that were let into the namespace";
    events_received: Counter "events_received_total", "Events received for the namespace";
};

/// The one histogram of namespaces.
pub(super) const HANDLERS: Sizes = Sizes {
    name: "shardcast_namespace_handler_seconds",
    labels: "endpoint, namespace, kind",
    about: "How long an event's handler took, until it returned or, if it is asynchronous, until it was done; the first event of each millisecond and shard is timed",
    unit: Unit::Time,
    bounds: TIMES,
    each: |_, _| {},
};

/// Facts about the process, each the label of a series that is always 1.
pub(super) const IO: Family<Snapshot> = Family {
    name: "shardcast_io_info",
    kind: Kind::Gauge,
    about: "Always 1; the kernel's interface that moves the bytes, and why this one",
    field: "io",
    read: |_| 1,
};
