//! The memory that a server can be made to hold: the sum of what its queues, buffers and tables may hold, part by part.
//!
//! Two kinds of parts. *Shared* ones have one bound whatever the number of clients, and are added up: that is what the bounds of all
//! clients together cost. What *one client* has beside that is for each connection, session and socket. The page tuning.md has the
//! same tables, and a test compares them.
//!
//! Not in the sum, because no bound of ours holds them: what handlers and tasks of the application keep, state rooms and their stamps, HTTP answers
//! while a route makes them, memory that the allocator keeps or wastes (a buffer that grows may have twice the room that
//! it needs), stacks, the program, and what the kernel has for each socket.

use crate::base::buffer::{SHARED_SPARES_MAX, SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX};
use crate::base::limits::NAMESPACE_BYTES_MAX;
use crate::config::engine::EngineOptions;
use crate::config::{Config, EndpointSettings, Survives};
use crate::driver::files::coded::CODED_FILES_BYTES_MAX;
use crate::driver::files::{FILES_WAITING_MAX, UNCODED_BYTES_MAX, UNDELIVERED_BYTES_MAX};
use crate::driver::tls::{
    TLS_CONNECTION_BYTES, TLS_HANDSHAKE_BYTES, TLS_HANDSHAKES_MAX, TLS_PARTIAL_BYTES_MAX,
};
use crate::driver::{self, machine, ring};
use crate::mesh::holders::HELD_BYTES;
use crate::mesh::interest::INTEREST_BYTES_MAX;
use crate::mesh::link::{ANSWERS_BYTES_MAX, LEFT_BYTES_MAX, PEERS_BYTES_MAX};
use crate::mesh::slots::{INTERESTS_BYTES_MAX, SUBSCRIPTION_BYTES};
use crate::mesh::{
    INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, INBOX_OUTSIDE_BYTES_MAX, INBOX_OUTSIDE_MESSAGES_MAX, ShardMessage,
};
use crate::message::recovery::Kept;
use crate::message::target::Broadcast;
use crate::server::Error;
use crate::server::api::{API_KEYS_BYTES_MAX, API_REQUESTS_MAX};
use crate::shard::bounds::{
    ACKS_PER_SOCKET_MAX, FINDINGS_BYTES_MAX, INQUIRIES_MAX, RECEIVERS_MAX, WALKS_BYTES_MAX, outside_part,
    partial_part,
};
use crate::shard::user::recipients::SPARE_TARGETS_MAX;
use crate::shard::user::socket::DATA_BYTES_MAX;
use crate::shard::value::answer::PendingAck;
use crate::shard::value::connection::{Connection, HttpState};
use crate::shard::value::files::{CODED_FILE_BYTES_MAX, FILE_PIECE_BYTES};
use crate::shard::value::owed::MADE_PER_TURN_MAX;
use crate::shard::value::room::{ROOM_NAME_BYTES_MAX, Room};
use crate::shard::value::route::{KeptRequest, RouteEntry};
use crate::shard::value::session::Session;
use crate::shard::value::socket::{SocketEntry, SocketExtra};
use crate::shard::value::task::Task;

/// A connection at rest: its places in the tables of the shard and of the wire, and in the wheel of timers.
const CONNECTION_BYTES: usize = 384;
const _: () =
    assert!(size_of::<Connection>() + ring::wires::WIRE_BYTES + 2 * TIMER_BYTES <= CONNECTION_BYTES);

/// What a connection has while it speaks HTTP.
const HTTP_BYTES: usize = 512;
const _: () = assert!(size_of::<HttpState>() <= HTTP_BYTES);

/// What a request has that waits for its route, its bytes and the route's future not counted.
const ROUTE_BYTES: usize = 1024;
const _: () = assert!(
    size_of::<RouteEntry>() + size_of::<KeptRequest>() + size_of::<Task>() + 2 * TIMER_BYTES <= ROUTE_BYTES
);

/// A session at rest, its handshake's text not counted.
const SESSION_BYTES: usize = 768;
const _: () = assert!(size_of::<Session>() + 2 * TIMER_BYTES <= SESSION_BYTES);

/// A socket at rest, with its places in its namespace and in the index of ids.
const SOCKET_BYTES: usize = 256;
const _: () = assert!(size_of::<SocketEntry>() + 2 * TIMER_BYTES <= SOCKET_BYTES);

/// What a socket has once it needs more: see the type.
const SOCKET_EXTRA_BYTES: usize = 512;
const _: () = assert!(size_of::<SocketExtra>() <= SOCKET_EXTRA_BYTES);

/// A place in the wheel of timers, or in an ordered table.
const TIMER_BYTES: usize = 32;

/// A room with one member, and what it is to be heard of other processes; its name not counted.
const ROOM_BYTES: usize = 512;
const _: () = assert!(size_of::<Room>() + size_of::<[u64; 24]>() + SUBSCRIPTION_BYTES <= ROOM_BYTES);

/// A pending acknowledgement: its place, its time, its number. What its callback keeps is the application's.
const ACK_BYTES: usize = 192;
const _: () = assert!(size_of::<PendingAck>() + 2 * TIMER_BYTES <= ACK_BYTES);

/// An event that is kept for recovery, beside its bytes.
const KEPT_BYTES: usize = 96;
const _: () = assert!(size_of::<Kept>() + size_of::<[usize; 5]>() <= KEPT_BYTES);

/// A message in an inbox, beside the bytes that it counts.
const MESSAGE_BYTES: usize = 272;
const _: () = assert!(size_of::<ShardMessage>() + size_of::<Broadcast>() + size_of::<u64>() <= MESSAGE_BYTES);

/// A client that owes an answer to a question to many: a place in a set that is half empty.
const RECEIVER_BYTES: usize = 20;

/// A question to many, beside what is found and who is asked.
const QUESTION_BYTES: usize = 512;

/// A namespace that a pattern has made, its name not counted.
const NAMESPACE_BYTES: usize = 512;

/// The states of the compressors and of what is translated for msgpack and older clients, a shard.
const CODERS_BYTES: usize = 1024 * 1024;

/// A byte of a header that is no UTF-8 is kept as U+FFFD and as two digits.
const HANDSHAKE_GROWTH: usize = 3 + 2;

/// No process on this system has more addresses.
const ADDRESSES: usize = 1 << 47;

/// So many parts are named when all are too much.
const PARTS_NAMED: usize = 3;

/// One part of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    /// The setting that makes it larger or smaller; empty for a constant.
    pub(crate) setting: &'static str,
}

const fn part(name: &'static str, bytes: usize, setting: &'static str) -> Part {
    Part { name, bytes, setting }
}

/// The bounds of one configuration.
#[derive(Debug)]
pub(crate) struct MemoryBounds {
    pub(crate) shards: usize,
    /// Once for the process.
    pub(crate) process: Vec<Part>,
    /// Once for each shard.
    pub(crate) shard: Vec<Part>,
    /// What one client may have beside its part of those.
    pub(crate) client: Vec<Part>,
}

/// Says what a server with that configuration may hold on this machine, and whether that is too much.
///
/// # Errors
/// No process could hold so much.
pub(crate) fn announce(config: &Config, largest: Largest, queues: usize) -> Result<(), Error> {
    let shards = driver::shards_of(config, &machine::usable_cpus());
    let outboxes_bytes_max = driver::outboxes_bytes_max(config);
    let bounds = MemoryBounds::new(config, shards, outboxes_bytes_max, largest, queues);
    if let Some(warning) = bounds.check(machine::usable_memory())? {
        tracing::warn!("{warning}");
    }
    tracing::debug!("memory bounds of the process: {}", listed(&bounds.process));
    tracing::debug!(shards, "memory bounds of each shard: {}", listed(&bounds.shard));
    tracing::debug!("memory bounds of each client, beside those: {}", listed(&bounds.client));
    Ok(())
}

/// What the endpoint allows a client that allows it most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Largest {
    message_bytes_max: usize,
    kept_bytes_max: usize,
}

impl Largest {
    pub(crate) fn of<'a>(
        endpoints: impl Iterator<Item = (&'a EngineOptions, &'a EndpointSettings)>,
    ) -> Largest {
        let none = Largest { message_bytes_max: 0, kept_bytes_max: 0 };
        endpoints.fold(none, |largest, (options, settings)| Largest {
            message_bytes_max: largest.message_bytes_max.max(options.max_http_buffer_size),
            kept_bytes_max: largest.kept_bytes_max.max(kept_bytes(settings)),
        })
    }
}

impl MemoryBounds {
    /// `outboxes_bytes_max` is what the clients may be owed in this process, `queues` the number of message queues.
    pub(crate) fn new(
        config: &Config,
        shards: usize,
        outboxes_bytes_max: usize,
        largest: Largest,
        queues: usize,
    ) -> MemoryBounds {
        let Largest { message_bytes_max, kept_bytes_max } = largest;
        let has_api = !config.api_tokens.is_empty();
        let bodies = API_REQUESTS_MAX.saturating_mul(config.api_body_bytes_max);
        let process = vec![
            part("outboxes", outboxes_bytes_max, "outboxes_bytes_max"),
            part("sealed for TLS", if_tls(config, outboxes_bytes_max), "outboxes_bytes_max"),
            part(
                "files waiting",
                FILES_WAITING_MAX.saturating_mul(2 * config.head_bytes_max),
                "head_bytes_max",
            ),
            part("bodies to compress", UNCODED_BYTES_MAX + 2 * CODED_FILE_BYTES_MAX, ""),
            part("files undelivered", UNDELIVERED_BYTES_MAX, ""),
            part("compressed files", CODED_FILES_BYTES_MAX, ""),
            part("interest", INTEREST_BYTES_MAX, ""),
            part("log", log_bytes(), ""),
            part("message queues", config.queue_bytes_max.saturating_mul(queues), "queue_bytes_max"),
            part("sockets of processes", left_bytes(config, queues), ""),
            part("rooms for processes", INTERESTS_BYTES_MAX.saturating_mul(queues), ""),
            part("other processes", PEERS_BYTES_MAX.saturating_mul(queues), ""),
            part("answers of processes", if queues > 0 { ANSWERS_BYTES_MAX } else { 0 }, ""),
            part("addresses", HELD_BYTES, ""),
            part("HTTP API: kept answers", if has_api { API_KEYS_BYTES_MAX } else { 0 }, ""),
            part("HTTP API: bodies", if has_api { bodies } else { 0 }, "api_body_bytes_max"),
        ];
        let part_owed = outboxes_bytes_max / shards.max(1);
        let partial = partial_part(config.partial_bytes_max, shards, message_bytes_max);
        let spares = SPARE_BUFFERS_MAX + 2 * SHARED_SPARES_MAX + SPARE_TARGETS_MAX;
        let questions = RECEIVERS_MAX * RECEIVER_BYTES + 2 * INQUIRIES_MAX * QUESTION_BYTES;
        let namespace = NAMESPACE_BYTES_MAX + NAMESPACE_BYTES;
        let outside = INBOX_OUTSIDE_BYTES_MAX + INBOX_OUTSIDE_MESSAGES_MAX * MESSAGE_BYTES;
        let shard = vec![
            part("unfinished messages", partial, "partial_bytes_max"),
            part("events outside", outside_part(config.outside_bytes_max, shards), "outside_bytes_max"),
            part("one turn", MADE_PER_TURN_MAX.min(part_owed / 8), "outboxes_bytes_max"),
            part("TLS handshakes", if_tls(config, TLS_HANDSHAKES_MAX * TLS_HANDSHAKE_BYTES), ""),
            part("unfinished TLS records", if_tls(config, TLS_PARTIAL_BYTES_MAX), ""),
            part("inbox", INBOX_BYTES_MAX + INBOX_MESSAGES_MAX * MESSAGE_BYTES, ""),
            part("inbox of processes", if queues > 0 { outside } else { 0 }, ""),
            part("questions", questions, ""),
            part("findings", FINDINGS_BYTES_MAX, ""),
            part("walks", WALKS_BYTES_MAX, ""),
            part("spare buffers", spares * SPARE_BUFFER_BYTES_MAX, ""),
            part("receive buffers", ring::RECEIVE_BYTES, ""),
            part("coders", CODERS_BYTES, ""),
            part("namespaces", config.namespaces_max.saturating_mul(namespace), "namespaces_max"),
            part("lost sockets", lost_bytes(config, kept_bytes_max), "recovery_bytes_max"),
        ];
        MemoryBounds { shards, process, shard, client: client_parts(config, kept_bytes_max) }
    }

    /// What all shared parts may hold. More than there is of addresses if it cannot be counted.
    pub(crate) fn shared(&self) -> usize {
        sum(&self.shard).saturating_mul(self.shards).saturating_add(sum(&self.process))
    }

    /// Compares with what this process may use: an error if no process could hold so much, a warning if this one cannot.
    pub(crate) fn check(&self, memory: usize) -> Result<Option<String>, String> {
        let shared = self.shared();
        if shared > ADDRESSES {
            return Err(format!("memory: no process can hold what these settings allow: {}", self.largest()));
        }
        Ok((shared > memory).then(|| {
            format!(
                "memory: all clients together may make this server hold {}, and it may use {}. The largest parts: {}",
                shown(shared),
                shown(memory),
                self.largest()
            )
        }))
    }

    /// The largest parts, and what to change.
    fn largest(&self) -> String {
        let of_shards =
            self.shard.iter().map(|part| Part { bytes: part.bytes.saturating_mul(self.shards), ..*part });
        let mut parts: Vec<Part> = of_shards.chain(self.process.iter().copied()).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let named = listed(&parts[..PARTS_NAMED.min(parts.len())]);
        let setting =
            parts.iter().find(|part| !part.setting.is_empty()).map_or("shards", |part| part.setting);
        format!("{named}. Lower {setting}, or shards")
    }
}

/// What only a server with a certificate has.
fn if_tls(config: &Config, bytes: usize) -> usize {
    if config.tls_cert.is_empty() { 0 } else { bytes }
}

/// What is kept for clients that come back from processes that are gone.
fn left_bytes(config: &Config, queues: usize) -> usize {
    if config.recovery_survives == Survives::Nothing { 0 } else { LEFT_BYTES_MAX.saturating_mul(queues) }
}

/// What one client has beside its part of what is shared.
fn client_parts(config: &Config, kept_bytes_max: usize) -> Vec<Part> {
    let room = ROOM_NAME_BYTES_MAX + ROOM_BYTES;
    vec![
        part("connection", CONNECTION_BYTES, ""),
        part("connection with TLS", CONNECTION_BYTES + TLS_CONNECTION_BYTES, ""),
        part("HTTP connection", CONNECTION_BYTES + HTTP_BYTES, ""),
        part("connection that is sent a long file", CONNECTION_BYTES + HTTP_BYTES + FILE_PIECE_BYTES, ""),
        part("request that waits for a route", CONNECTION_BYTES + HTTP_BYTES + ROUTE_BYTES, ""),
        part("session", SESSION_BYTES, ""),
        part("handshake", config.head_bytes_max * HANDSHAKE_GROWTH, "head_bytes_max"),
        part("socket", SOCKET_BYTES, ""),
        part("socket with more", SOCKET_BYTES + SOCKET_EXTRA_BYTES, ""),
        part("rooms", config.rooms_per_socket_max.saturating_mul(room), "rooms_per_socket_max"),
        part("pending acknowledgements", ACKS_PER_SOCKET_MAX * ACK_BYTES, ""),
        part("public data", DATA_BYTES_MAX, ""),
        part("held back while it connects", config.outbox_bytes_max, "outbox_bytes_max"),
        part("kept for recovery", kept_bytes_max, "recovery_bytes_max"),
    ]
}

/// What a socket keeps for its recovery.
fn kept_bytes(settings: &EndpointSettings) -> usize {
    if !settings.has_recovery() {
        return 0;
    }
    settings.recovery_events_max.saturating_mul(KEPT_BYTES).saturating_add(settings.recovery_bytes_max)
}

/// Sockets whose clients are gone are in no client's part.
fn lost_bytes(config: &Config, kept_bytes_max: usize) -> usize {
    let lost = SOCKET_BYTES + SOCKET_EXTRA_BYTES;
    match kept_bytes_max {
        0 => 0,
        kept => kept.saturating_add(lost).saturating_mul(config.recovery_sessions_max),
    }
}

#[cfg(feature = "log")]
fn log_bytes() -> usize {
    crate::server::log::KEPT_BYTES
}

#[cfg(not(feature = "log"))]
fn log_bytes() -> usize {
    0
}

fn sum(parts: &[Part]) -> usize {
    parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.bytes))
}

fn listed(parts: &[Part]) -> String {
    let each: Vec<String> = parts.iter().map(|part| format!("{} {}", part.name, shown(part.bytes))).collect();
    each.join(", ")
}

/// Bytes as a person reads them: whole KiB or MiB where they are, else three digits and a unit.
pub(crate) fn shown(bytes: usize) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(scaled.fract() > 0.0 && scaled < 100.0);
    format!("{scaled:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GIB: usize = 1024 * 1024 * 1024;

    fn largest(config: &Config) -> Largest {
        Largest::of([(&config.engine, &EndpointSettings::new(config))].into_iter())
    }

    fn bounds(config: &Config, shards: usize) -> MemoryBounds {
        MemoryBounds::new(config, shards, 8 * GIB, largest(config), 0)
    }

    #[test]
    fn the_sum_is_that_of_its_parts() {
        let (one, four) = (bounds(&Config::default(), 1), bounds(&Config::default(), 4));
        let of_shards = |bounds: &MemoryBounds| bounds.shared() - sum(&bounds.process);
        assert_eq!(of_shards(&one), sum(&one.shard));
        assert_eq!(of_shards(&four), 4 * sum(&four.shard));
        assert_eq!(one.process, four.process);
        // Each has an equal part of what all clients may keep.
        assert_eq!((one.shard[0].bytes, four.shard[0].bytes), (128 << 20, 32 << 20));
    }

    #[test]
    fn too_much_is_told_with_its_largest_parts_and_what_to_lower() {
        let default = bounds(&Config::default(), 2);
        assert_eq!(default.check(default.shared()), Ok(None));
        let said = default.check(4 * GIB).expect("it is possible").expect("it is too much");
        for part in ["may use 4 GiB", "outboxes 8 GiB, inbox 290 MiB", "Lower outboxes_bytes_max"] {
            assert!(said.contains(part), "{said}");
        }
        let recovering = Config { recovery_max_disconnection: Duration::from_secs(60), ..Config::default() };
        assert!(bounds(&recovering, 1).shared() > bounds(&Config::default(), 1).shared() + 500 * 1024 * 1024);
        for (config, setting) in [
            (Config { partial_bytes_max: usize::MAX, ..Config::default() }, "partial_bytes_max"),
            (Config { recovery_bytes_max: usize::MAX, ..recovering.clone() }, "recovery_bytes_max"),
            (Config { recovery_sessions_max: usize::MAX, ..recovering.clone() }, "recovery_bytes_max"),
        ] {
            let fault = bounds(&config, 2).check(usize::MAX).expect_err(setting);
            assert!(fault.contains(&format!("Lower {setting}")), "{fault}");
        }
        let queued = Config { queue_bytes_max: 512 * GIB, ..Config::default() };
        let fault = MemoryBounds::new(&queued, 1, 1, largest(&queued), 1000)
            .check(usize::MAX)
            .expect_err("it is too much");
        assert!(fault.contains("Lower queue_bytes_max"), "{fault}");
        let config = Config::default();
        let absurd = MemoryBounds::new(&config, 1, usize::MAX, largest(&config), 0);
        assert!(absurd.check(usize::MAX).is_err_and(|fault| fault.contains("outboxes_bytes_max")));
    }

    #[test]
    fn the_tables_of_the_tuning_page_are_those_of_the_default_configuration() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning.md");
        let page = std::fs::read_to_string(path).expect("tuning.md");
        let section = page.split_once("## Memory as a sum\n").expect("its section").1;
        let section = section.split("\n## ").next().unwrap_or_default();
        let bounds = bounds(&Config::default(), 1);
        let own = [&bounds.process, &bounds.shard, &bounds.client].into_iter().flatten();
        let own: Vec<String> = own
            .map(|part| match part.name {
                "outboxes" => "| outboxes | half of the memory |".to_owned(),
                "one turn" => "| one turn | at most 16 MiB |".to_owned(),
                name => format!("| {name} | {} |", shown(part.bytes)),
            })
            .collect();
        let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| part"));
        let rows: Vec<String> =
            rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" | ") + " |").collect();
        assert_eq!(rows, own, "left: tuning.md, right: what Config::default() allows with one shard");
    }

    #[test]
    fn bytes_are_shown_as_people_read_them() {
        for (bytes, text) in
            [(0, "0 B"), (512, "512 B"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (10_240_000, "9.8 MiB")]
        {
            assert_eq!(shown(bytes), text);
        }
    }
}
