//! The tables of a shard, and what works on several of them. None of it calls user code or knows a feature.

pub(crate) mod answer;
pub(crate) mod bundle;
pub(crate) mod connections;
pub(crate) mod delivery;
pub(crate) mod ends;
pub(crate) mod expiry;
pub(crate) mod far;
pub(crate) mod files;
pub(crate) mod handoffs;
pub(crate) mod input;
pub(crate) mod kept_acks;
pub(crate) mod lookup;
pub(crate) mod measures;
pub(crate) mod namespaces;
pub(crate) mod opening;
pub(crate) mod origin;
pub(crate) mod outside;
pub(crate) mod overview;
pub(crate) mod pace;
pub(crate) mod partial;
pub(crate) mod polling;
pub(crate) mod post;
pub(crate) mod protection;
pub(crate) mod proxied;
pub(crate) mod raw;
pub(crate) mod recovery;
pub(crate) mod revision3;
pub(crate) mod rooms;
pub(crate) mod routes;
pub(crate) mod send;
pub(crate) mod settings;
pub(crate) mod shed;
pub(crate) mod sightings;
pub(crate) mod slow;
pub(crate) mod slow_polls;
pub(crate) mod switching;
pub(crate) mod tasks;
pub(crate) mod timers;
pub(crate) mod trace;
pub(crate) mod transport;
pub(crate) mod unjoined;
pub(crate) mod upgrade;
pub(crate) mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::base::ids::ShardId;
use crate::base::sid_index::SidIndex;
use crate::base::slab::Slab;
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::Mesh;
use crate::mesh::interest::Holdings;
use crate::message::target::Target;
use crate::protocol::http::forwarded::TrustedProxies;
use crate::protocol::http::hosts::{AllowedHosts, HostWatch};
use crate::shard::table::namespaces::Namespaces;
use crate::shard::value::ack::{KeptAck, Seldom};
use crate::shard::value::bucket::Bucket;
use crate::shard::value::connection::Connection;
use crate::shard::value::effect::Effects;
use crate::shard::value::endpoint::EndpointTable;
use crate::shard::value::env::Env;
use crate::shard::value::intake::Intake;
use crate::shard::value::lag::Lag;
use crate::shard::value::outside::{Book, Outside};
use crate::shard::value::owed::{Owed, owed_part};
use crate::shard::value::parked::SlowRules;
use crate::shard::value::pools::Pools;
use crate::shard::value::room::Room;
use crate::shard::value::route::Routes;
use crate::shard::value::session::Session;
use crate::shard::value::sighting::Sightings;
use crate::shard::value::socket::SocketEntry;
use crate::shard::value::stats::ShardCounters;
use crate::shard::value::survey::Survey;
use crate::shard::value::turn_times::TurnTimes;
use crate::shard::value::unjoined::Unjoined;
use crate::shard::value::watch::{ClockReader, Stopwatch};
use crate::shard::value::wheel::Wheel;

/// The tables that flows and features work on. A feature's own are its fields.
pub(crate) struct Tables {
    pub(crate) env: Env,
    pub(crate) pools: Pools,
    pub(crate) intake: Intake,
    pub(crate) effects: Effects,
    pub(crate) connections: Slab<Connection>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) session_ids: SidIndex,
    pub(crate) unjoined: Unjoined,
    /// How many sessions have opened lately.
    pub(crate) handshakes: Bucket,
    /// Connections that were handed to other shards lately.
    pub(crate) handoffs: Bucket,
    pub(crate) sockets: Slab<SocketEntry>,
    pub(crate) socket_ids: SidIndex,
    pub(crate) namespaces: Namespaces,
    pub(crate) rooms: Slab<Room>,
    /// Requests whose answers take their time.
    pub(crate) routes: Routes,
    /// Acknowledgements that handlers have kept.
    pub(crate) kept_acks: Slab<KeptAck>,
    /// Lines in the log about those that were dropped.
    pub(crate) acks_dropped: Seldom,
    /// Events that are handled outside the shard.
    pub(crate) outside: Outside,
    /// What of the mesh's table of rooms is this shard's doing.
    pub(crate) holdings: Holdings,
    pub(crate) wheel: Wheel,
    /// What becomes of events for slow clients, by the place of the namespace's handlers.
    pub(crate) slow_rules: Vec<SlowRules>,
    /// A namespace has a rule of its own.
    pub(crate) has_slow_rules: bool,
    pub(crate) owed: Owed,
    /// Shards that have mail from this turn.
    pub(crate) bells: Vec<ShardId>,
    /// Something was said to other processes in this turn, and the companion thread was not woken for it.
    pub(crate) has_said: bool,
    /// What somebody who watches is to be told of sockets.
    pub(crate) sightings: Sightings,
    /// Who is owed most, and which rooms are largest, as operators were last told.
    pub(crate) slow_survey: Survey,
    pub(crate) room_survey: Survey,
    pub(crate) mesh: Arc<Mesh>,
    /// The last broadcast's mark: a socket that bears it has been served.
    pub(crate) mark: u32,
    pub(crate) turn_times: TurnTimes,
}

/// What a shard is made of.
pub(crate) struct CoreParts {
    pub(crate) id: ShardId,
    pub(crate) config: Arc<Config>,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) counters: Arc<ShardCounters>,
    /// From the operating system's random source; the simulation uses a chosen one.
    pub(crate) seed: [u8; 32],
    pub(crate) now: Time,
    pub(crate) unix_origin: u64,
    /// Asked how long user code took.
    pub(crate) clock: ClockReader,
    /// Asked how long the handlers took that are timed.
    pub(crate) stopwatch: Stopwatch,
}

impl Tables {
    /// Empty tables.
    pub(crate) fn new(parts: CoreParts, endpoints: Vec<EndpointTable>) -> Tables {
        let shortest_time = endpoints.iter().map(|endpoint| endpoint.options.shortest_time());
        let shortest_time = shortest_time.fold(parts.config.shortest_time(), Duration::min);
        let mut random = ChaCha12Rng::from_seed(parts.seed);
        let [one, two, three, four] = [0; 4].map(|_: u8| random.next_u64());
        let hasher = ahash::RandomState::with_seeds(one, two, three, four);
        Tables {
            pools: Pools::new(parts.config.compression_threshold),
            intake: Intake {
                partial_bytes: 0,
                partial_bytes_max: usize::MAX,
                events_taken: 0,
                is_input_postponed: false,
                turn: 0,
                unfinished: VecDeque::new(),
                lag: Lag::default(),
            },
            effects: Effects::default(),
            connections: Slab::default(),
            sessions: Slab::default(),
            session_ids: SidIndex::default(),
            unjoined: Unjoined::default(),
            handshakes: Bucket::default(),
            handoffs: Bucket::default(),
            sockets: Slab::default(),
            socket_ids: SidIndex::default(),
            namespaces: Namespaces::new(parts.config.namespaces_max, hasher),
            rooms: Slab::default(),
            routes: Routes::default(),
            holdings: Holdings::new(parts.id),
            wheel: Wheel::new(shortest_time, parts.now),
            slow_rules: Vec::new(),
            has_slow_rules: false,
            owed: Owed::new(owed_part(parts.config.outboxes_bytes_max, parts.mesh.len())),
            bells: Vec::new(),
            has_said: false,
            sightings: Sightings::default(),
            slow_survey: Survey::default(),
            room_survey: Survey::default(),
            mark: 0,
            turn_times: TurnTimes::default(),
            kept_acks: Slab::default(),
            acks_dropped: Seldom::default(),
            outside: Outside::new(outside_book(&parts)),
            mesh: parts.mesh,
            env: Env {
                id: parts.id,
                now: parts.now,
                unix_origin: parts.unix_origin,
                expiry_origin: parts.unix_origin,
                counters: parts.counters,
                endpoints,
                // What the configuration says was checked when the server was made.
                trusted_proxies: TrustedProxies::parse(&parts.config.trusted_proxies).unwrap_or_default(),
                allowed_hosts: AllowedHosts::parse(&parts.config.allowed_hosts).unwrap_or_default(),
                host_watch: HostWatch::new(&parts.config.allowed_hosts, &parts.config.bind),
                stray_due: Time(0),
                signer: None,
                random,
                admin_connections: 0,
                is_draining: false,
                is_shutting_down: false,
                config: parts.config,
            },
        }
    }
}

/// The account of all events outside, which everybody may read.
fn outside_book(parts: &CoreParts) -> Arc<Book> {
    let book = Arc::new(Book::new(Arc::clone(&parts.mesh), parts.id));
    // A shard is made once, so nobody has set it before.
    let _ = parts.counters.outside.set(Arc::clone(&book));
    book
}

#[cfg(test)]
impl Tables {
    /// The tables of a shard that is alone: to test by itself what works on tables.
    pub(crate) fn alone() -> Tables {
        struct Silent;
        impl crate::mesh::Bell for Silent {
            fn ring(&self) {}
        }
        let (mesh, _) = Mesh::new(vec![Box::new(Silent)]);
        let parts = CoreParts {
            id: ShardId(0),
            config: Arc::default(),
            mesh,
            counters: Arc::default(),
            seed: [7; 32],
            now: Time(1000),
            unix_origin: 0,
            clock: Arc::new(|| Time(1000)),
            stopwatch: Arc::new(|| 1_000_000_000),
        };
        Tables::new(parts, Vec::new())
    }
}
