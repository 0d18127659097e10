//! Who is meant by an emit or a change, and what is sent to them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use crate::base::buffer::{Pooled, SharedFrame};
use crate::message::address::Address;
use crate::message::names::Names;
use crate::message::recovery::{EventId, Offset, Position};

/// A frame with its addressees.
#[derive(Debug, Default)]
pub(crate) struct Broadcast {
    pub(crate) namespace: Address,
    pub(crate) target: Target,
    pub(crate) frame: SharedFrame,
    /// The event's name for recovery, if it has one.
    pub(crate) offset: Option<Offset>,
    /// What it is called in all processes, if it came from another or may go to one.
    pub(crate) id: Option<EventId>,
    /// Where it stands in the broker's stream; before everything, if it did not come from there.
    pub(crate) position: Position,
    /// When the turn began in which a shard published it, in nanoseconds of the process' clock; 0 if no shard did.
    pub(crate) published: u64,
}

/// Who is meant: everybody in the namespace or the members of any of some rooms, less the members of others.
/// A socket's own id is a room. With no rooms, and not for everyone, it reaches no socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) reach: Reach,
    pub(crate) is_everyone: bool,
    pub(crate) rooms: Names,
    pub(crate) except: Names,
    /// What is sent does not go through a compressor.
    pub(crate) is_uncompressed: bool,
    pub(crate) when_behind: WhenBehind,
    pub(crate) receipt: Receipt,
}

/// Counts the sockets of this process that an event or a change reaches, for whoever wants to know. It says nothing of who is meant,
/// and does not leave the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipt(Option<Arc<AtomicU64>>);

impl Receipt {
    /// One that counts.
    pub(crate) fn counting() -> Receipt {
        Receipt(Some(Arc::default()))
    }

    /// So many sockets more.
    #[inline]
    pub(crate) fn add(&self, sockets: u64) {
        if let Some(count) = &self.0 {
            count.fetch_add(sockets, Relaxed);
        }
    }

    /// The sockets that were reached until now.
    pub(crate) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |count| count.load(Relaxed))
    }
}

/// Targets are the same whether somebody counts or not.
impl PartialEq for Receipt {
    fn eq(&self, _: &Receipt) -> bool {
        true
    }
}

impl Eq for Receipt {}

/// What becomes of an event for a client that is behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum WhenBehind {
    /// What the namespace's or the room's rule says.
    #[default]
    Rule,
    /// It is dropped.
    Volatile,
    /// It waits, and one with the same key takes its place.
    Latest(String),
}

/// How far a call goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    #[default]
    Everywhere,
    /// Every shard of this process, and no other process.
    Process,
    /// The shard that calls.
    Shard,
}

/// By hand, because a derived `clone_from` would not use the memory that is there.
impl Clone for Target {
    fn clone(&self) -> Target {
        let mut target = Target::default();
        target.clone_from(self);
        target
    }

    fn clone_from(&mut self, other: &Target) {
        self.reach = other.reach;
        self.is_everyone = other.is_everyone;
        self.rooms.clone_from(&other.rooms);
        self.except.clone_from(&other.except);
        self.is_uncompressed = other.is_uncompressed;
        self.when_behind.clone_from(&other.when_behind);
        self.receipt.clone_from(&other.receipt);
    }
}

impl Pooled for Broadcast {
    fn kept_bytes(&self) -> usize {
        self.frame.capacity() + self.namespace.capacity_bytes() + self.target.capacity_bytes()
    }
}

impl Target {
    /// The memory of its names, which [`clear`](Target::clear) keeps.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.rooms.capacity_bytes() + self.except.capacity_bytes()
    }

    /// What its names keep in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        self.rooms.len_bytes() + self.except.len_bytes()
    }

    /// Clears the target, and keeps its memory for the next one.
    pub(crate) fn clear(&mut self) {
        self.reach = Reach::Everywhere;
        self.is_everyone = false;
        self.rooms.clear();
        self.except.clear();
        self.is_uncompressed = false;
        self.when_behind = WhenBehind::Rule;
        self.receipt = Receipt::default();
    }
}

/// A change to every socket that a target names.
#[derive(Clone, Debug)]
pub(crate) struct SocketCommand {
    pub(crate) namespace: Address,
    pub(crate) target: Target,
    pub(crate) change: SocketChange,
}

/// A change that others are told, and what became of that: for whoever asks later whether it is made.
#[derive(Debug)]
pub(crate) struct ToldChange {
    pub(crate) command: SocketCommand,
    /// That of the message to other processes; 0 as long as there is none.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "it is of that feature"))]
    pub(crate) sequence: AtomicU64,
    /// The message queue did not take it.
    pub(crate) is_refused: AtomicBool,
    /// Shards whose inbox was full, where another shard has told them.
    pub(crate) shards_missing: AtomicUsize,
}

impl ToldChange {
    pub(crate) fn new(command: SocketCommand) -> Arc<ToldChange> {
        Arc::new(ToldChange {
            command,
            sequence: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
            shards_missing: AtomicUsize::new(0),
        })
    }
}

/// What is done to a socket from afar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketChange {
    Join(String),
    Leave(String),
    /// End the socket; with `close_session`, its whole connection.
    Disconnect {
        close_session: bool,
    },
}
