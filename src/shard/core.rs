//! The tables of one core's world: connections, sessions, sockets, namespaces and what is on its way out.
//!
//! Nothing in this file calls a handler, so a borrow of [`Core`] never meets user code.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use smallvec::SmallVec;

use crate::base::buffer::{BufferPool, SharedPool};
use crate::base::ids::{SID_RANDOM_BYTES, ShardId, Sid};
use crate::base::sid_index::SidIndex;
use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::interest::{Holdings, Slot};
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::inquiry::{AckError, Findings, Reply};
use crate::message::peer::Arrival;
use crate::message::target::{Broadcast, Target};
use crate::protocol::http::coding::BodyEncoder;
use crate::protocol::http::forwarded::TrustedProxies;
use crate::protocol::http::hosts::{AllowedHosts, HostWatch};
use crate::protocol::websocket::deflate::Inflater;
use crate::shard::acks::{Answer, PendingAck};
use crate::shard::app::{HandlerError, LocalFuture, Refused};
use crate::shard::backpressure::SlowRules;
use crate::shard::connection::Connection;
use crate::shard::deadlines::Deadlines;
use crate::shard::drain::{Drain, Stops};
use crate::shard::endpoint::EndpointTable;
use crate::shard::files::FileWork;
use crate::shard::held::ClockReader;
use crate::shard::inquiries::Inquiries;
use crate::shard::login::SharedSigner;
use crate::shard::namespaces::Namespaces;
use crate::shard::outbox::Outbox;
use crate::shard::owed::Owed;
use crate::shard::recovery::RecoveryTable;
use crate::shard::session::{CloseReason, Session};
use crate::shard::share::Unfinished;
use crate::shard::sleep::Sleeps;
use crate::shard::socket::{Change, SocketEntry, SocketExtra};
use crate::shard::state::StateTables;
use crate::shard::stats::ShardCounters;
use crate::shard::tasks::Task;
use crate::shard::ticks::Progress;
use crate::shard::unjoined::Unjoined;
use crate::shard::walks::Walks;
use crate::shard::wheel::{TimerOwner, Wheel};
use crate::shard::wire::Transcoder;

/// The world, shared between the shard and the handles that user code holds on the same thread.
pub(crate) type SharedCore = Rc<RefCell<Core>>;

/// No place in a table.
pub(crate) const NOWHERE: u32 = u32::MAX;

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
    /// Close a session that has joined nothing, for a newer one.
    GiveWay(Key),
    /// Tell a session's sockets that their client has caught up.
    Drained(Key),
    /// End one socket; the peer is told.
    DisconnectSocket(Key),
    /// Take up what a connection sent while its last request was being answered.
    Resume(Key),
    /// Treat a connection as lost.
    Lost(Key),
    /// Tell whoever awaits an answer that there will be none.
    FailAck(PendingAck, AckError),
    /// Tell whoever asked all shards what they know.
    Reply(Reply, Result<Findings, AckError>),
    /// Drop the values a user kept in a socket: their destructors may use the API.
    Discard(Box<SocketExtra>),
    /// An asynchronous handler failed at this event.
    Failed {
        socket: Key,
        event: String,
        id: Option<u64>,
        args: Answer,
        error: HandlerError,
    },
    /// A connect handler that took its time has decided.
    Decided(Key, Result<(), Refused>),
}

/// A room's members on this shard.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) namespace: u16,
    pub(crate) name: Box<str>,
    /// Places in the table of sockets, in memory order.
    pub(crate) members: BTreeSet<u32>,
    /// How many of them are lost: they may come back.
    pub(crate) lost: usize,
    /// The id by which a client of revision 3 knows its socket: like a socket's own id, no room to be listed.
    pub(crate) is_alias: bool,
    /// Where other shards look up that this one has members.
    pub(crate) slot: Slot,
}

impl Room {
    /// Whether a list of rooms has it: it has members, and stands for more than one socket's id.
    pub(crate) fn is_listed(&self) -> bool {
        !self.is_alias && self.present() > 0
    }

    /// How many members there are that are not lost.
    pub(crate) fn present(&self) -> u64 {
        (self.members.len() - self.lost) as u64
    }
}

/// One core's tables.
pub(crate) struct Core {
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
    pub(crate) acks: Slab<PendingAck>,
    /// When each of the `acks` is given up.
    pub(crate) acks_due: Deadlines,
    pub(crate) inquiries: Inquiries,
    pub(crate) walks: Walks,
    pub(crate) tasks: Slab<Task>,
    pub(crate) sleeps: Sleeps,
    pub(crate) wheel: Wheel,
    pub(crate) tickers: Vec<Progress>,
    /// When the first of them is due.
    pub(crate) tick_due: Time,
    pub(crate) states: StateTables,
    /// What becomes of events for slow clients, by the place of the namespace's handlers.
    pub(crate) slow_rules: Vec<SlowRules>,
    /// A namespace has a rule of its own.
    pub(crate) has_slow_rules: bool,
    pub(crate) owed: Owed,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) allowed_hosts: AllowedHosts,
    pub(crate) host_watch: HostWatch,
    pub(crate) recovery: RecoveryTable,
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
    /// Set once the shard is asked to stop.
    pub(crate) drain: Option<Drain>,
    pub(crate) stops: Stops,
    pub(crate) is_shutting_down: bool,
    /// Believes cookie sessions, if the server has any.
    pub(crate) signer: Option<SharedSigner>,
    /// The last broadcast's mark: a socket that bears it has been served.
    pub(crate) mark: u32,
    random: ChaCha12Rng,
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

impl Core {
    pub(crate) fn new(parts: CoreParts, endpoints: Vec<EndpointTable>) -> Core {
        let shortest_time = endpoints.iter().map(|endpoint| endpoint.options.shortest_time());
        let shortest_time = shortest_time.fold(parts.config.shortest_time(), Duration::min);
        let mut random = ChaCha12Rng::from_seed(parts.seed);
        let [one, two, three, four] = [0; 4].map(|_: u8| random.next_u64());
        let hasher = ahash::RandomState::with_seeds(one, two, three, four);
        Core {
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
            acks: Slab::default(),
            acks_due: Deadlines::default(),
            inquiries: Inquiries::default(),
            walks: Walks::default(),
            tasks: Slab::default(),
            sleeps: Sleeps::default(),
            wheel: Wheel::new(shortest_time, parts.now),
            tickers: Vec::new(),
            tick_due: Time::NEVER,
            states: StateTables::default(),
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
            recovery: RecoveryTable::new(&parts.config, parts.mesh.len()),
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
            turn: 0,
            unfinished: VecDeque::new(),
            dirty: Vec::new(),
            polls_due: Vec::new(),
            outputs: Vec::new(),
            deferred: Vec::new(),
            bells: Vec::new(),
            mesh: parts.mesh,
            counters: parts.counters,
            drain: None,
            stops: Stops::default(),
            is_shutting_down: false,
            signer: None,
            mark: 0,
            config: parts.config,
            random,
        }
    }

    /// An endpoint by the number that a session or a request has.
    #[inline]
    pub(crate) fn endpoint(&self, endpoint: u8) -> &EndpointTable {
        &self.endpoints[usize::from(endpoint)]
    }

    /// A new id that names this shard.
    pub(crate) fn new_sid(&mut self) -> Sid {
        let mut bytes = [0; SID_RANDOM_BYTES];
        self.random.fill_bytes(&mut bytes);
        Sid::new(self.id, bytes)
    }

    /// The session of this shard with that id.
    pub(crate) fn session_by_sid(&self, sid: &Sid) -> Option<Key> {
        let sid_at = |place| self.sessions.at(place).map(|session: &Session| session.sid);
        self.sessions.key_at(self.session_ids.find(sid, sid_at)?)
    }

    /// The place of this shard's socket with that id.
    pub(crate) fn socket_by_sid(&self, sid: &Sid) -> Option<u32> {
        find_socket(&self.socket_ids, &self.sockets, sid)
    }

    /// Whole seconds since 1970.
    pub(crate) fn unix_seconds(&self) -> u64 {
        (self.unix_origin + self.now.0) / 1000
    }

    /// Notes that a connection is owed bytes. Called before they are queued: what is there is from earlier turns.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.mark_dirty(key, &mut self.dirty);
        }
    }

    /// Notes that a session's poll can be answered at the end of the turn. Called before bytes are queued.
    pub(crate) fn mark_poll_due(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.mark_poll_due(key, &mut self.polls_due);
        }
    }

    /// Arms a connection's timer; an earlier one already armed will look again by itself.
    pub(crate) fn arm_connection(&mut self, key: Key, after: Duration) {
        let deadline = self.now + after;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.deadline = deadline;
            if deadline < connection.armed {
                connection.armed = deadline;
                self.wheel.arm(TimerOwner::Connection(key), deadline);
            }
        }
    }

    /// Arms a session's timer for the earliest of its deadlines.
    pub(crate) fn arm_session(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key) {
            let deadline = session.deadline();
            if deadline < session.armed {
                session.armed = deadline;
                self.wheel.arm(TimerOwner::Session(key), deadline);
            }
        }
    }

    /// Drops timers of connections, sessions and sockets that are gone, where they have become many.
    pub(crate) fn sweep_wheel(&mut self) {
        let Core { wheel, connections, sessions, sockets, .. } = self;
        let owners = connections.len() + sessions.len() + sockets.len();
        wheel.sweep(owners, |owner, deadline| match owner {
            TimerOwner::Connection(key) => {
                connections.get(key).is_some_and(|connection| connection.armed == deadline)
            }
            TimerOwner::Session(key) => sessions.get(key).is_some_and(|session| session.armed == deadline),
            TimerOwner::Expiry(key) | TimerOwner::Recovery(key) => sockets.get(key).is_some(),
            TimerOwner::Drain => true,
        });
    }

    /// How many timers there are, those whose owner is gone included.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.wheel.len() + self.acks_due.len() + self.sleeps.timers() + self.inquiries.timers()
    }

    /// Sends a message to another shard; the bell rings at the end of the turn. A full inbox loses the message, which is
    /// counted and logged. So does a shard that died, which is logged once; one that has stopped needs no message.
    pub(crate) fn send_to_shard(&mut self, to: ShardId, message: ShardMessage) -> bool {
        match self.mesh.send(to, message) {
            Ok(()) => {
                if !self.bells.contains(&to) {
                    self.bells.push(to);
                }
                return true;
            }
            Err(InboxError::Full) => {
                self.counters.mesh_messages_lost.add(1);
                tracing::error!(
                    from = self.id.0,
                    to = to.0,
                    "a shard's inbox is full: a message to it is lost"
                );
            }
            Err(InboxError::Gone) if self.mesh.is_stopping() => {}
            Err(InboxError::Gone) => {
                self.counters.mesh_messages_lost.add(1);
                if self.mesh.must_report(to) {
                    tracing::error!(from = self.id.0, to = to.0, "a shard has died: messages to it are lost");
                }
            }
        }
        false
    }

    /// Every shard but this one.
    pub(crate) fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.id;
        (0..self.mesh.len()).map(|index| ShardId(index as u16)).filter(move |&shard| shard != own)
    }

    /// The sockets of a session, by namespace.
    pub(crate) fn sockets_of(&self, session: Key) -> SmallVec<[Key; 4]> {
        self.sessions
            .get(session)
            .map(|session| session.sockets.iter().map(|(_, key)| *key).collect())
            .unwrap_or_default()
    }

    /// Notes a change for the sockets of a target on this shard.
    pub(crate) fn apply_change(&mut self, socket: Key, change: &Change<'_>) {
        match change {
            Change::Join(room) => {
                // A socket that is gone or in too many rooms does not join, which `join` logs.
                let _ = self.join(socket, room);
            }
            Change::Leave(room) => self.leave(socket, room),
            Change::Disconnect { close_session: false } => self.end_soon(socket),
            Change::Disconnect { close_session: true } => {
                if let Some(session) = self.sockets.get(socket).map(|socket| socket.session) {
                    self.close_soon(session, CloseReason::ServerDisconnect);
                }
            }
        }
    }
}

impl Connection {
    /// What [`Core::mark_dirty`] does, for those who have the connection at hand.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key, dirty: &mut Vec<Key>) {
        if !std::mem::replace(&mut self.is_dirty, true) {
            self.behind = clamped(self.outbox.len());
            dirty.push(key);
        }
    }
}

impl Session {
    /// What [`Core::mark_poll_due`] does, for those who have the session at hand.
    #[inline]
    pub(crate) fn mark_poll_due(&mut self, key: Key, polls_due: &mut Vec<Key>) {
        if !std::mem::replace(&mut self.is_poll_due, true) {
            self.behind = clamped(self.backlog.len());
            polls_due.push(key);
        }
    }
}

/// A number of bytes in half the room, for what many have: more than 4 GiB of one client is as good as 4 GiB.
#[inline]
pub(crate) fn clamped(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The place of the socket with that id, for those who hold parts of the core only.
pub(crate) fn find_socket(ids: &SidIndex, sockets: &Slab<SocketEntry>, sid: &Sid) -> Option<u32> {
    ids.find(sid, |place| sockets.at(place).map(|socket| socket.sid))
}
