//! The tables of a shard, and what works on several of them.

pub(crate) mod answer;
pub(crate) mod bundle;
pub(crate) mod connections;
pub(crate) mod delivery;
pub(crate) mod ends;
pub(crate) mod expiry;
pub(crate) mod files;
pub(crate) mod input;
pub(crate) mod lookup;
pub(crate) mod namespaces;
pub(crate) mod opening;
pub(crate) mod origin;
pub(crate) mod partial;
pub(crate) mod polling;
pub(crate) mod post;
pub(crate) mod proxied;
pub(crate) mod raw;
pub(crate) mod recovery;
pub(crate) mod revision3;
pub(crate) mod rooms;
pub(crate) mod send;
pub(crate) mod shed;
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

use crate::base::buffer::{BufferPool, SharedPool};
use crate::base::ids::ShardId;
use crate::base::sid_index::SidIndex;
use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::Mesh;
use crate::mesh::interest::Holdings;
use crate::message::target::{Broadcast, Target};
use crate::protocol::http::coding::BodyEncoder;
use crate::protocol::http::forwarded::TrustedProxies;
use crate::protocol::http::hosts::{AllowedHosts, HostWatch};
use crate::protocol::websocket::deflate::Inflater;
use crate::shard::table::namespaces::Namespaces;
use crate::shard::value::connection::Connection;
use crate::shard::value::effect::{Deferred, Output};
use crate::shard::value::endpoint::{EndpointTable, SharedSigner};
use crate::shard::value::form::Transcoder;
use crate::shard::value::kept::Limits;
use crate::shard::value::owed::Owed;
use crate::shard::value::parked::SlowRules;
use crate::shard::value::room::Room;
use crate::shard::value::session::Session;
use crate::shard::value::share::Unfinished;
use crate::shard::value::socket::SocketEntry;
use crate::shard::value::stats::ShardCounters;
use crate::shard::value::unjoined::Unjoined;
use crate::shard::value::watch::ClockReader;
use crate::shard::value::wheel::Wheel;

/// The tables that flows and features work on. A feature's own are its fields.
pub(crate) struct Tables {
    pub(crate) id: ShardId,
    pub(crate) config: Arc<Config>,
    pub(crate) now: Time,
    /// Unix time of `Time(0)`, in milliseconds, as the wall clock last said.
    pub(crate) unix_origin: u64,
    /// The same when deadlines that are times of the wall clock were last worked out.
    pub(crate) expiry_origin: u64,
    pub(crate) connections: Slab<Connection>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) session_ids: SidIndex,
    pub(crate) unjoined: Unjoined,
    pub(crate) sockets: Slab<SocketEntry>,
    pub(crate) socket_ids: SidIndex,
    pub(crate) namespaces: Namespaces,
    /// The first is the configuration's own.
    pub(crate) endpoints: Vec<EndpointTable>,
    pub(crate) rooms: Slab<Room>,
    /// What of the mesh's table of rooms is this shard's doing.
    pub(crate) holdings: Holdings,
    pub(crate) wheel: Wheel,
    /// What becomes of events for slow clients, by the place of the namespace's handlers.
    pub(crate) slow_rules: Vec<SlowRules>,
    /// A namespace has a rule of its own.
    pub(crate) has_slow_rules: bool,
    pub(crate) owed: Owed,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) allowed_hosts: AllowedHosts,
    pub(crate) host_watch: HostWatch,
    pub(crate) buffers: BufferPool,
    pub(crate) frames: SharedPool<Vec<u8>>,
    pub(crate) broadcasts: SharedPool<Broadcast>,
    pub(crate) spare_targets: Vec<Target>,
    pub(crate) transcoder: Transcoder,
    /// Made for the first compressed message.
    pub(crate) inflater: Option<Inflater>,
    pub(crate) body_encoder: BodyEncoder,
    /// What clients have sent of messages that are not whole, or wait for their turn.
    pub(crate) partial_bytes: usize,
    /// This shard's part of what that may be.
    pub(crate) partial_bytes_max: usize,
    /// Frames, requests and packets handled so far.
    pub(crate) events_taken: u64,
    /// The turn's time is over, and what comes in it is kept for the next.
    pub(crate) is_input_postponed: bool,
    /// Counts turns: a connection's share is for one.
    pub(crate) turn: u32,
    /// Whose input waits for their next share, longest first. Some may be gone.
    pub(crate) unfinished: VecDeque<Unfinished>,
    /// Connections that are owed bytes since the last flush.
    pub(crate) dirty: Vec<Key>,
    /// Sessions whose pending poll has something to take, since the last turn's end.
    pub(crate) polls_due: Vec<Key>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) deferred: Vec<Deferred>,
    /// Shards that have mail from this turn.
    pub(crate) bells: Vec<ShardId>,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) counters: Arc<ShardCounters>,
    /// No session opens any more: the shard was asked to stop.
    pub(crate) is_draining: bool,
    /// Every session was ended.
    pub(crate) is_shutting_down: bool,
    /// What a socket keeps for its recovery.
    pub(crate) kept_limits: Limits,
    /// Believes cookie sessions, if the server has any.
    pub(crate) signer: Option<SharedSigner>,
    /// The last broadcast's mark: a socket that bears it has been served.
    pub(crate) mark: u32,
    pub(crate) random: ChaCha12Rng,
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
            id: parts.id,
            now: parts.now,
            unix_origin: parts.unix_origin,
            expiry_origin: parts.unix_origin,
            connections: Slab::default(),
            sessions: Slab::default(),
            session_ids: SidIndex::default(),
            unjoined: Unjoined::default(),
            sockets: Slab::default(),
            socket_ids: SidIndex::default(),
            namespaces: Namespaces::new(parts.config.namespaces_max, hasher),
            endpoints,
            rooms: Slab::default(),
            holdings: Holdings::new(parts.id),
            wheel: Wheel::new(shortest_time, parts.now),
            slow_rules: Vec::new(),
            has_slow_rules: false,
            owed: Owed::new(match parts.config.outboxes_bytes_max {
                0 => usize::MAX,
                bytes_max => bytes_max / parts.mesh.len().max(1),
            }),
            // What the configuration says was checked when the server was made.
            trusted_proxies: TrustedProxies::parse(&parts.config.trusted_proxies).unwrap_or_default(),
            allowed_hosts: AllowedHosts::parse(&parts.config.allowed_hosts).unwrap_or_default(),
            host_watch: HostWatch::new(&parts.config.allowed_hosts, &parts.config.bind),
            buffers: BufferPool::default(),
            frames: SharedPool::default(),
            broadcasts: SharedPool::default(),
            spare_targets: Vec::new(),
            inflater: None,
            body_encoder: BodyEncoder::default(),
            transcoder: Transcoder::new(parts.config.compression_threshold),
            partial_bytes: 0,
            partial_bytes_max: usize::MAX,
            events_taken: 0,
            is_input_postponed: false,
            turn: 0,
            unfinished: VecDeque::new(),
            dirty: Vec::new(),
            polls_due: Vec::new(),
            outputs: Vec::new(),
            deferred: Vec::new(),
            bells: Vec::new(),
            mesh: parts.mesh,
            counters: parts.counters,
            is_draining: false,
            is_shutting_down: false,
            kept_limits: Limits::new(&parts.config),
            signer: None,
            mark: 0,
            config: parts.config,
            random,
        }
    }
}
