//! What the shards of one process say to each other.
//!
//! [`ShardMessage`] is the closed list. Each shard has one bounded inbox ([`queue`]) and one
//! [`Bell`]; a sender rings it only when the receiver sleeps. Nothing here calls the operating system:
//! the driver brings the bell.

mod adding;
pub(crate) mod additions;
pub(crate) mod depth;
pub(crate) mod holders;
pub(crate) mod interest;
pub(crate) mod life;
pub(crate) mod link;
pub(crate) mod published;
pub(crate) mod queue;
pub(crate) mod settings;
pub(crate) mod slots;
mod weight;

use crate::message::peer::Arrival;
use crate::message::target::Broadcast;
use crate::message::target::{SocketCommand, ToldChange};
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use crossbeam_channel::{Receiver, Sender};

use crate::base::ids::{ShardId, Sid};
use crate::base::slab::Key;
use crate::config::Config;
use crate::mesh::additions::{Addition, Additions, Step};
use crate::mesh::holders::Held;
use crate::mesh::interest::{Announcement, Interest};
use crate::mesh::life::{Life, Phase};
use crate::mesh::link::Links;
use crate::mesh::published::Published;
use crate::mesh::queue::{QueueReceiver, QueueSender, Refusal, Waiting, queue};
use crate::mesh::settings::Renewals;
use crate::message::ack::AckAnswer;
use crate::message::errand::Errands;
use crate::message::far::{FarSaid, FarWord};
use crate::message::files::FileAnswer;
use crate::message::inquiry::{Inquiry, Report, Request};
use crate::message::pulse::Pulse;
use crate::message::recovery::{Position, RecoveryMessage};
use crate::message::server_event::ServerCall;
use crate::message::state::{StateMessage, StateNews};

/// Messages one inbox holds. A full inbox refuses: the sender counts and logs what was lost, and never waits.
pub(crate) const INBOX_MESSAGES_MAX: usize = 64 * 1024;

/// Messages for which an inbox has memory from the start; what comes beyond it allocates.
pub(crate) const INBOX_PLACES: usize = 2048;

/// Bytes that the messages of one inbox may keep; the last one may go beyond. A shard that is held up must not fill the memory
/// with what the others send it meanwhile. A frame counts in each inbox that it waits in.
pub(crate) const INBOX_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Messages of other processes that one inbox holds, beside those of this one: a flood from the broker costs no message between
/// shards.
pub(crate) const INBOX_OUTSIDE_MESSAGES_MAX: usize = 16 * 1024;

/// Bytes that they may keep; the last one may go beyond.
pub(crate) const INBOX_OUTSIDE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Those for which it has memory from the start.
const INBOX_OUTSIDE_PLACES: usize = 64;

// What one shard has been told for others goes into their inside shares: all that waits to be passed on fits beside a half of one,
// up to which it is taken, and leaves a quarter for what shards have to say themselves.
const _: () = assert!(INBOX_OUTSIDE_MESSAGES_MAX <= INBOX_MESSAGES_MAX / 4);
const _: () = assert!(INBOX_OUTSIDE_BYTES_MAX <= INBOX_BYTES_MAX / 4);

/// Ids of acknowledgements from here on, up to twice as many, belong to broadcasts: one id for all who are asked,
/// so it is unique in the process. Those below belong to one socket. A Java client keeps an id in 31 bits.
pub(crate) const BROADCAST_ACK_IDS: u64 = 1 << 30;

/// Everything one shard (or another thread of this process) can ask of a shard.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// Deliver a frame to local members.
    Broadcast(Arc<Broadcast>),
    /// Change the rooms of local sockets, or close them. While a join is on its way, every shard counts as having members of its room.
    Command(Box<SocketCommand>, Option<Arc<Announcement>>),
    /// Publish for another thread, so that what it emits has its place among this shard's events.
    Relay(Arc<Broadcast>),
    /// Make a change for another thread, on all its target's shards: it comes after what that thread has had relayed before.
    RelayCommand(Arc<ToldChange>),
    /// Hand a lost socket over.
    Recovery(Box<RecoveryMessage>),
    /// What another process says of a socket that comes back.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    Far(Box<FarWord>),
    /// What the broker's stream has up to this place and concerns this process has been passed on.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "the hub says it"))]
    Passed(Position),
    /// Change a state room.
    State(Arc<StateMessage>),
    /// Another process has said something of a state room.
    StateNews(Box<StateNews>),
    /// Tell other processes which values the state rooms have, in short.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "the hub says it"))]
    TellStates,
    /// Ask the shards that may know something, for another thread.
    Request(Box<Request>),
    /// Find out, and report to the shard that asks.
    Inquiry(Arc<Inquiry>),
    /// What a shard has found out.
    Report(Box<Report>),
    /// Have a handler of this server do what another process says.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "the hub says it"))]
    Server(Box<ServerCall>),
    /// Take over a connection whose next request belongs to one of this shard's sessions.
    Handoff(Box<Handoff>),
    /// What the thread of files has done for a connection of this shard.
    File(Box<FileAnswer>),
    /// What another thread says of an acknowledgement.
    Ack(Box<AckAnswer>),
    /// Do what handlers outside ask for.
    Errands(Box<Errands>),
    /// Show a session's packets in the log, or no longer.
    Trace { sid: Sid, is_on: bool },
    /// Say that you are there.
    Pulse(Arc<Pulse>),
    /// Take a newer configuration. No inbox holds it: [`Renewals`] does, and [`InboxReceiver::next_message`] makes the message of it.
    Settings(Arc<Config>),
    /// Register something, or drop it. No inbox holds it: [`Additions`] does.
    Add(Step, Addition),
    /// Close every session and stop. No inbox holds it: [`Mesh::request_stop`] sets a flag, which always has room, and
    /// [`InboxReceiver::next_message`] makes the message of it.
    Shutdown,
    /// The shard through which other threads speak has passed on all that they said before the server was asked to stop, for
    /// the first time, the second and so on.
    StopInTurn(u32),
}

impl ShardMessage {
    /// Whether a shard that gets it from outside passes it on to other shards.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    fn is_passed_on(&self) -> bool {
        match self {
            ShardMessage::Relay(_)
            | ShardMessage::RelayCommand(_)
            | ShardMessage::StateNews(_)
            | ShardMessage::Request(_) => true,
            ShardMessage::Far(word) => matches!(word.said, FarSaid::GiveUp { .. }),
            _ => false,
        }
    }
}

/// A connection on its way to the shard that owns the session it asked for.
#[derive(Debug)]
pub(crate) struct Handoff {
    /// The wire itself; only a driver knows what is inside.
    pub(crate) wire: Box<dyn Any + Send>,
    pub(crate) arrival: Arrival,
    /// Answers to earlier requests on this connection that are not written yet.
    pub(crate) owed: Vec<u8>,
    /// What was read and not yet answered: it begins with the request head.
    pub(crate) unread: Vec<u8>,
}

/// Wakes a sleeping shard.
pub(crate) trait Bell: Send + Sync {
    /// Makes the shard look at its inbox soon.
    fn ring(&self);
}

/// Why a message is lost. The sender says so, and never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboxError {
    /// The inbox has no room.
    Full,
    /// The shard is gone, or there never was one.
    Gone,
}

/// One share of an inbox.
struct Lane {
    messages: QueueSender<ShardMessage>,
    /// What the messages keep.
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Lane {
    /// Takes a message, or gives it back; never waits.
    fn offer(&self, message: ShardMessage) -> Result<(), (InboxError, ShardMessage)> {
        let len = message.len_bytes();
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        let sent = if before >= self.bytes_max {
            Err((InboxError::Full, message))
        } else {
            self.messages.send(message).map_err(|refusal| match refusal {
                Refusal::Full(message) => (InboxError::Full, message),
                Refusal::Gone(message) => (InboxError::Gone, message),
            })
        };
        if sent.is_err() {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
        }
        sent
    }

    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    fn is_full(&self) -> bool {
        self.messages.is_full() || self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    fn is_half_full(&self) -> bool {
        self.messages.is_half_full() || self.bytes.load(Ordering::Relaxed) >= self.bytes_max / 2
    }
}

/// The receiving side of a share.
#[derive(Debug)]
struct LaneReceiver {
    messages: QueueReceiver<ShardMessage>,
    bytes: Arc<AtomicUsize>,
}

impl LaneReceiver {
    /// The next message; `waiting` forgets it if it was there.
    fn next(&self, waiting: &mut Waiting) -> Option<ShardMessage> {
        let message = self.messages.next(waiting)?;
        self.bytes.fetch_sub(message.len_bytes(), Ordering::Relaxed);
        Some(message)
    }
}

impl Drop for LaneReceiver {
    fn drop(&mut self) {
        // What is left counts no more: a sender is to hear that the shard is gone, not that its inbox is full.
        while self.next(&mut Waiting::default()).is_some() {}
    }
}

fn lane(messages_max: usize, places: usize, bytes_max: usize) -> (Lane, LaneReceiver) {
    let (messages, receiver) = queue(messages_max, places);
    let bytes = Arc::new(AtomicUsize::new(0));
    let receiver = LaneReceiver { messages: receiver, bytes: Arc::clone(&bytes) };
    (Lane { messages, bytes, bytes_max }, receiver)
}

struct Inbox {
    inside: Lane,
    outside: Lane,
    /// At most one entry a live task, so bounded by the tasks there are.
    wakes: Sender<Key>,
    is_asleep: AtomicBool,
    /// The shard's thread has ended.
    is_gone: AtomicBool,
    /// The log says already that the shard died.
    is_reported: AtomicBool,
    bell: Box<dyn Bell>,
}

/// The sending side of every inbox; all threads share one.
pub(crate) struct Mesh {
    inboxes: Box<[Inbox]>,
    /// Broadcasts that were to be answered, whoever sent them: their number is part of the id in the packet.
    broadcasts_with_ack: AtomicU32,
    /// Other threads speak through a shard.
    relays: AtomicBool,
    /// How often the server was asked to stop.
    stops: Arc<AtomicU32>,
    /// Settings that have changed.
    renewals: Arc<Renewals>,
    /// What is being registered.
    additions: Arc<Additions>,
    /// How far the server's life has come.
    pub(crate) life: Life,
    /// Goes into the hash of every `shard_key`.
    shard_key_salt: AtomicU64,
    /// How many connections and sessions each address has.
    pub(crate) held: Held,
    /// Which shards have members of which rooms.
    pub(crate) interest: Interest,
    /// How far each shard is with its numbered events.
    pub(crate) published: Published,
    /// The ways to other processes.
    pub(crate) links: Links,
}

/// What tests and the driver choose about a mesh.
pub(crate) struct MeshOptions {
    /// Messages that one inbox holds.
    pub(crate) messages_max: usize,
    /// Those for which it has memory from the start.
    pub(crate) places: usize,
    /// A secret of the process, which goes into the hash of every room's name.
    pub(crate) seed: [u64; 4],
    /// Slots of the table of rooms, if fewer than usual.
    pub(crate) interest_slots_max: usize,
    pub(crate) links: Links,
}

impl Default for MeshOptions {
    fn default() -> MeshOptions {
        MeshOptions {
            messages_max: INBOX_MESSAGES_MAX,
            places: INBOX_PLACES,
            seed: [0; 4],
            interest_slots_max: usize::MAX,
            links: Links::default(),
        }
    }
}

/// The receiving side of one inbox; only its shard has it.
#[derive(Debug)]
pub(crate) struct InboxReceiver {
    inside: LaneReceiver,
    outside: LaneReceiver,
    /// The last message was of this process, so that it is the others' turn.
    was_inside: Cell<bool>,
    wakes: Receiver<Key>,
    stops: Arc<AtomicU32>,
    /// How many of the requests to stop this shard has been given.
    stops_seen: Cell<u32>,
    /// Messages that were there when a request to stop was noticed, and are given before it.
    before_stop: Cell<Option<Waiting>>,
    renewals: Arc<Renewals>,
    /// How many of them this shard has seen.
    renewals_seen: Cell<u32>,
    additions: Arc<Additions>,
    /// How many of their steps this shard has been given.
    additions_seen: Cell<u32>,
}

impl Mesh {
    /// One inbox for each bell, in the order of the shards.
    pub(crate) fn new(bells: Vec<Box<dyn Bell>>) -> (Arc<Mesh>, Vec<InboxReceiver>) {
        Mesh::with(bells, MeshOptions::default())
    }

    /// The same with options.
    pub(crate) fn with(bells: Vec<Box<dyn Bell>>, options: MeshOptions) -> (Arc<Mesh>, Vec<InboxReceiver>) {
        let mut receivers = Vec::with_capacity(bells.len());
        let published = Published::new(bells.len());
        let interest = Interest::new(bells.len(), options.seed, options.interest_slots_max);
        let stops = Arc::new(AtomicU32::new(0));
        let renewals = Arc::new(Renewals::default());
        let additions = Arc::new(Additions::default());
        let inboxes = bells
            .into_iter()
            .map(|bell| {
                let (inside, inside_receiver) = lane(options.messages_max, options.places, INBOX_BYTES_MAX);
                let (outside, outside_receiver) =
                    lane(INBOX_OUTSIDE_MESSAGES_MAX, INBOX_OUTSIDE_PLACES, INBOX_OUTSIDE_BYTES_MAX);
                let (wakes, wakes_receiver) = crossbeam_channel::unbounded();
                receivers.push(InboxReceiver {
                    inside: inside_receiver,
                    outside: outside_receiver,
                    was_inside: Cell::new(false),
                    wakes: wakes_receiver,
                    stops: Arc::clone(&stops),
                    stops_seen: Cell::new(0),
                    before_stop: Cell::new(None),
                    renewals: Arc::clone(&renewals),
                    renewals_seen: Cell::new(0),
                    additions: Arc::clone(&additions),
                    additions_seen: Cell::new(0),
                });
                Inbox {
                    inside,
                    outside,
                    wakes,
                    is_asleep: AtomicBool::new(false),
                    is_gone: AtomicBool::new(false),
                    is_reported: AtomicBool::new(false),
                    bell,
                }
            })
            .collect();
        (
            Arc::new(Mesh {
                inboxes,
                broadcasts_with_ack: AtomicU32::new(0),
                relays: AtomicBool::new(false),
                stops,
                renewals,
                additions,
                life: Life::new(),
                shard_key_salt: AtomicU64::new(0),
                held: Held::new(options.seed),
                interest,
                published,
                links: options.links,
            }),
            receivers,
        )
    }

    /// How many shards there are.
    pub(crate) fn len(&self) -> usize {
        self.inboxes.len()
    }

    /// The id, as clients see it, of the next broadcast that clients are to answer. The last of 2^30 is followed by the first.
    pub(crate) fn next_broadcast_ack_id(&self) -> u64 {
        let number = self.broadcasts_with_ack.fetch_add(1, Ordering::Relaxed);
        BROADCAST_ACK_IDS + u64::from(number) % BROADCAST_ACK_IDS
    }

    /// From here on other threads speak through shard 0: what they emit, change and ask.
    pub(crate) fn begin_relaying(&self) {
        self.relays.store(true, Ordering::Relaxed);
    }

    /// The shard through which other threads speak; `None` where they tell every shard themselves.
    pub(crate) fn relay(&self) -> Option<ShardId> {
        self.relays.load(Ordering::Relaxed).then(|| self.living(0))
    }

    /// A shard that asks for another thread; another one from time to time, where any will do.
    pub(crate) fn asking_shard(&self) -> ShardId {
        if let Some(relay) = self.relay() {
            return relay;
        }
        self.living(self.broadcasts_with_ack.load(Ordering::Relaxed) as usize)
    }

    /// The shard with a number, or the next one that has not died: a key leads to the same shard each time, as long as that shard lives.
    pub(crate) fn living(&self, number: usize) -> ShardId {
        let len = self.len().max(1);
        let shards = (0..len).map(|step| ShardId(((number + step) % len) as u16));
        shards.clone().find(|&shard| !self.is_gone(shard)).unwrap_or(ShardId((number % len) as u16))
    }

    /// Puts a message into a shard's inbox. The sender rings afterwards, once for all it sent.
    pub(crate) fn send(&self, to: ShardId, message: ShardMessage) -> Result<(), InboxError> {
        self.offer(to, message).map_err(|(error, _)| error)
    }

    /// The same for a sender that may wait: it gets back what has no room.
    pub(crate) fn offer(&self, to: ShardId, message: ShardMessage) -> Result<(), (InboxError, ShardMessage)> {
        let Some(inbox) = self.inboxes.get(to.index()) else { return Err((InboxError::Gone, message)) };
        inbox.inside.offer(message)
    }

    /// Puts what another process said into a shard's inbox. The sender rings afterwards, once for all it sent. What the shard passes on to others is taken only while these
    /// have room to spare: a flood from the broker must not fill, through one shard, the shares of what shards say to each other.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    pub(crate) fn send_from_outside(&self, to: ShardId, message: ShardMessage) -> Result<(), InboxError> {
        let inbox = self.inboxes.get(to.index()).ok_or(InboxError::Gone)?;
        if message.is_passed_on() && self.is_inside_half_full() {
            return Err(InboxError::Full);
        }
        inbox.outside.offer(message).map_err(|(error, _)| error)
    }

    /// Whether a shard has no room for what other processes say.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    pub(crate) fn is_outside_full(&self) -> bool {
        self.any_living(|inbox| inbox.outside.is_full())
            || self.relays.load(Ordering::Relaxed) && self.is_inside_half_full()
    }

    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    fn is_inside_half_full(&self) -> bool {
        self.any_living(|inbox| inbox.inside.is_half_full())
    }

    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    fn any_living(&self, has: impl Fn(&Inbox) -> bool) -> bool {
        self.inboxes.iter().any(|inbox| has(inbox) && !inbox.is_gone.load(Ordering::Relaxed))
    }

    /// Asks every shard to say goodbye to its clients and stop. It never waits: a shard that is drowning, stuck, or the
    /// caller's own finds the request when it looks. A second request ends at once what the first one spreads.
    pub(crate) fn request_stop(&self) {
        self.request_stops(1);
    }

    /// Asks so often at once: two requests end at once what one would spread.
    pub(crate) fn request_stops(&self, count: u32) {
        self.life.reach(Phase::Draining);
        self.stops.fetch_add(count, Ordering::Release);
        self.ring_all();
    }

    /// Gives every shard a newer configuration. It never waits, and reaches a shard whose inbox is full.
    pub(crate) fn renew_settings(&self, config: Arc<Config>) {
        self.renewals.publish(config);
        self.ring_all();
    }

    /// Every shard looks what there is for it.
    pub(crate) fn ring_all(&self) {
        for index in 0..self.len() {
            self.ring(ShardId(index as u16));
        }
    }

    /// Whether the server was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stops.load(Ordering::Relaxed) > 0
    }

    /// A shard's thread ends: messages to it are refused from now on.
    pub(crate) fn retire(&self, shard: ShardId) {
        if let Some(inbox) = self.inboxes.get(shard.index()) {
            inbox.is_gone.store(true, Ordering::Release);
        }
        // It may have died in the middle of sending an event. Nobody is to wait for the rest.
        self.published.retire(shard);
        self.note_added(shard, Ok(()));
    }

    /// Whether a shard's thread has ended, or there never was one.
    pub(crate) fn is_gone(&self, shard: ShardId) -> bool {
        self.inboxes.get(shard.index()).is_none_or(|inbox| inbox.is_gone.load(Ordering::Acquire))
    }

    /// Whether the caller should log that a shard is gone: once for each shard, and never while the server stops.
    pub(crate) fn must_report(&self, gone: ShardId) -> bool {
        !self.is_stopping()
            && self
                .inboxes
                .get(gone.index())
                .is_some_and(|inbox| !inbox.is_reported.swap(true, Ordering::Relaxed))
    }

    /// What goes into the hash of every `shard_key`, so that no client can work out where a key leads.
    pub(crate) fn shard_key_salt(&self) -> u64 {
        self.shard_key_salt.load(Ordering::Relaxed)
    }

    /// Chooses the salt; before the first shard runs, as all must use the same.
    pub(crate) fn set_shard_key_salt(&self, salt: u64) {
        self.shard_key_salt.store(salt, Ordering::Relaxed);
    }

    /// Whether a shard's inbox has no room now.
    #[cfg(test)]
    pub(crate) fn is_full(&self, to: ShardId) -> bool {
        self.inboxes.get(to.index()).is_some_and(|inbox| inbox.inside.is_full())
    }

    /// How many messages wait for a shard.
    #[cfg(test)]
    pub(crate) fn waiting(&self, shard: ShardId) -> usize {
        self.inboxes[shard.index()].inside.messages.len()
    }

    /// Says that a task of a shard can go on, and rings.
    pub(crate) fn wake(&self, to: ShardId, task: Key) {
        if let Some(inbox) = self.inboxes.get(to.index()) {
            // A shard that is gone has no tasks left to wake.
            let _ = inbox.wakes.send(task);
            self.ring(to);
        }
    }

    /// Wakes the shard if it sleeps.
    pub(crate) fn ring(&self, to: ShardId) {
        let Some(inbox) = self.inboxes.get(to.index()) else { return };
        // Pairs with the fence in `fall_asleep`: either we see the flag or the shard sees our message.
        fence(Ordering::SeqCst);
        if inbox.is_asleep.load(Ordering::Relaxed) && inbox.is_asleep.swap(false, Ordering::AcqRel) {
            inbox.bell.ring();
        }
    }

    /// Declares that shard `id` is about to sleep. False when something arrived meanwhile: it must not.
    pub(crate) fn fall_asleep(&self, id: ShardId, receiver: &InboxReceiver) -> bool {
        let inbox = &self.inboxes[id.index()];
        inbox.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if receiver.is_empty() {
            return true;
        }
        inbox.is_asleep.store(false, Ordering::Relaxed);
        false
    }

    /// Declares that shard `id` is awake: senders need not ring.
    pub(crate) fn wake_up(&self, id: ShardId) {
        self.inboxes[id.index()].is_asleep.store(false, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mesh").field("shards", &self.len()).finish()
    }
}

impl InboxReceiver {
    pub(crate) fn is_empty(&self) -> bool {
        self.inside.messages.is_empty()
            && self.outside.messages.is_empty()
            && self.wakes.is_empty()
            && !self.is_asked_to_stop()
            && !self.has_settings()
            && self.additions.count() == self.additions_seen.get()
    }

    /// The next message. A request to stop comes after what was there before it: who emits and then stops the server is
    /// heard by everybody.
    pub(crate) fn next_message(&self) -> Option<ShardMessage> {
        if self.has_settings() {
            let (count, newest) = self.renewals.take();
            self.renewals_seen.set(count);
            return newest.map(ShardMessage::Settings);
        }
        if self.additions.count() != self.additions_seen.get() {
            let (count, step) = self.additions.take();
            self.additions_seen.set(count);
            if let Some((step, addition)) = step {
                return Some(ShardMessage::Add(step, addition));
            }
        }
        if self.is_asked_to_stop() {
            let mut left = self.before_stop.get().unwrap_or_else(|| self.inside.messages.waiting());
            if left.is_over() {
                self.before_stop.set(None);
                self.stops_seen.set(self.stops_seen.get() + 1);
                return Some(ShardMessage::Shutdown);
            }
            let message = self.inside.next(&mut left)?;
            self.before_stop.set(Some(left));
            return Some(message);
        }
        // By turns, so that neither waits for the other's flood.
        let was_inside = self.was_inside.replace(false);
        if was_inside && let Some(message) = self.outside.next(&mut Waiting::default()) {
            return Some(message);
        }
        if let Some(message) = self.inside.next(&mut Waiting::default()) {
            self.was_inside.set(true);
            return Some(message);
        }
        self.outside.next(&mut Waiting::default())
    }

    fn has_settings(&self) -> bool {
        self.renewals.count() != self.renewals_seen.get()
    }

    fn is_asked_to_stop(&self) -> bool {
        self.stops.load(Ordering::Acquire) != self.stops_seen.get()
    }

    pub(crate) fn next_wake(&self) -> Option<Key> {
        self.wakes.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::Peer;
    use crate::message::target::Broadcast;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::message::files::FileOutcome;

    #[derive(Default)]
    struct CountingBell(Arc<AtomicUsize>);

    impl Bell for CountingBell {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_bell_rings_once_and_only_for_a_sleeper() {
        let rings = Arc::new(AtomicUsize::new(0));
        let (mesh, receivers) = Mesh::new(vec![Box::new(CountingBell(Arc::clone(&rings)))]);
        let shard = ShardId(0);
        assert!(mesh.send(shard, ShardMessage::Shutdown).is_ok());
        mesh.ring(shard);
        assert_eq!(rings.load(Ordering::Relaxed), 0, "an awake shard is not rung");
        assert!(!mesh.fall_asleep(shard, &receivers[0]), "something is in the inbox");
        assert!(receivers[0].next_message().is_some());
        assert!(mesh.fall_asleep(shard, &receivers[0]));
        for _ in 0..3 {
            assert!(mesh.send(shard, ShardMessage::Shutdown).is_ok());
            mesh.ring(shard);
        }
        assert_eq!(rings.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_stop_reaches_a_full_inbox_and_comes_after_what_was_there() {
        let rings = Arc::new(AtomicUsize::new(0));
        let (mesh, receivers) = Mesh::new(vec![Box::new(CountingBell(Arc::clone(&rings)))]);
        let shard = ShardId(0);
        let trace = || ShardMessage::Trace { sid: Sid::new(shard, [0; 13]), is_on: true };
        assert!(mesh.fall_asleep(shard, &receivers[0]));
        mesh.request_stop();
        assert_eq!(rings.load(Ordering::Relaxed), 1, "a sleeper is woken for it");
        assert!(!mesh.fall_asleep(shard, &receivers[0]), "nobody sleeps through it");
        assert!(matches!(receivers[0].next_message(), Some(ShardMessage::Shutdown)));
        assert!(mesh.fall_asleep(shard, &receivers[0]), "it is given once");
        for _ in 0..INBOX_MESSAGES_MAX {
            assert!(mesh.send(shard, trace()).is_ok());
        }
        mesh.request_stop();
        assert!(matches!(receivers[0].next_message(), Some(ShardMessage::Trace { .. })));
        assert!(mesh.send(shard, trace()).is_ok(), "said after the request");
        for _ in 1..INBOX_MESSAGES_MAX {
            assert!(matches!(receivers[0].next_message(), Some(ShardMessage::Trace { .. })));
        }
        assert!(matches!(receivers[0].next_message(), Some(ShardMessage::Shutdown)));
        assert!(matches!(receivers[0].next_message(), Some(ShardMessage::Trace { .. })));
        assert!(receivers[0].next_message().is_none());
    }

    #[test]
    fn a_shard_that_died_is_reported_once_and_not_while_the_server_stops() {
        let bells = || vec![Box::new(CountingBell::default()) as Box<dyn Bell>];
        let (mesh, _receivers) = Mesh::new(bells());
        assert!(!mesh.is_gone(ShardId(0)) && mesh.is_gone(ShardId(1)));
        mesh.retire(ShardId(0));
        assert!(mesh.is_gone(ShardId(0)));
        let (three, _others) = Mesh::new([0; 3].map(|_| bells().remove(0)).into());
        assert_eq!([0, 1, 2, 3].map(|number| three.living(number)), [0, 1, 2, 0].map(ShardId));
        [1, 2].iter().for_each(|shard| three.retire(ShardId(*shard)));
        assert_eq!([0, 1, 2, 3].map(|number| three.living(number)), [0; 4].map(ShardId));
        assert_eq!([mesh.must_report(ShardId(0)), mesh.must_report(ShardId(0))], [true, false]);
        let (mesh, _receivers) = Mesh::new(bells());
        mesh.request_stop();
        mesh.retire(ShardId(0));
        assert!(!mesh.must_report(ShardId(0)));
    }

    #[test]
    fn a_full_inbox_and_a_shard_that_does_not_exist_refuse() {
        let (mesh, _receivers) = Mesh::new(vec![Box::new(CountingBell::default())]);
        for _ in 0..INBOX_MESSAGES_MAX {
            assert!(mesh.send(ShardId(0), ShardMessage::Shutdown).is_ok());
        }
        assert_eq!(mesh.send(ShardId(0), ShardMessage::Shutdown), Err(InboxError::Full));
        assert_eq!(mesh.send(ShardId(7), ShardMessage::Shutdown), Err(InboxError::Gone));
        drop(_receivers);
        assert_eq!(mesh.send(ShardId(0), ShardMessage::Shutdown), Err(InboxError::Gone));
    }

    #[test]
    fn an_inbox_is_bounded_in_bytes_whatever_is_sent() {
        let frame = Arc::new(vec![0; 1024 * 1024]);
        let piece = || FileOutcome::Piece(vec![0; 1024 * 1024]);
        let connection = Key { index: 0, generation: 0 };
        type Make<'a> = Box<dyn Fn() -> ShardMessage + 'a>;
        let rows: [Make<'_>; 3] = [
            Box::new(|| {
                let broadcast = Broadcast { frame: Arc::clone(&frame), ..Broadcast::default() };
                ShardMessage::Broadcast(Arc::new(broadcast))
            }),
            Box::new(|| ShardMessage::File(Box::new(FileAnswer { connection, outcome: piece() }))),
            Box::new(|| {
                let (owed, unread) = (vec![0; 512 * 1024], vec![0; 512 * 1024]);
                ShardMessage::Handoff(Box::new(Handoff {
                    wire: Box::new(()),
                    arrival: Peer::Unix.into(),
                    owed,
                    unread,
                }))
            }),
        ];
        for make in rows {
            let (mesh, receivers) = Mesh::new(vec![Box::new(CountingBell::default())]);
            for _ in 0..2 {
                let sent = (0..1000).take_while(|_| mesh.send(ShardId(0), make()).is_ok()).count();
                assert_eq!(sent, INBOX_BYTES_MAX / (1024 * 1024));
                assert!(mesh.is_full(ShardId(0)));
                while receivers[0].next_message().is_some() {}
                assert_eq!(
                    (mesh.is_full(ShardId(0)), mesh.inboxes[0].inside.bytes.load(Ordering::Relaxed)),
                    (false, 0)
                );
            }
            while mesh.send(ShardId(0), make()).is_ok() {}
            drop(receivers);
            assert_eq!(mesh.send(ShardId(0), make()), Err(InboxError::Gone), "it is full no more");
            assert_eq!(mesh.inboxes[0].inside.bytes.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_shard_that_died_while_it_published_is_waited_for_no_more() {
        let (mesh, _receivers) = Mesh::new([0; 2].map(|_| Box::new(CountingBell::default()) as _).into());
        mesh.published.begin(ShardId(0), 4);
        mesh.published.begin(ShardId(1), 7);
        mesh.retire(ShardId(1));
        mesh.retire(ShardId(2));
        assert_eq!((&*mesh.published.begun(), &*mesh.published.done()), (&[4, 7][..], &[0, 7][..]));
    }
}
