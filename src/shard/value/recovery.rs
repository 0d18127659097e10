//! What one socket has for its recovery, and what a client claims.

use std::time::Duration;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Deserializer};

use crate::base::buffer::SharedFrame;
use crate::base::ids::{NodeTag, ShardId, Sid};
use crate::base::time::Time;
use crate::message::address::Address;
use crate::message::recovery::{Asker, EventId, Kept, Offset};
use crate::shard::value::kept::KeptEvents;

/// Whether a socket is one that was there before: see `recovery_max_disconnection` of [`Config`](crate::Config).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The client has not asked: it is new, or recovery is off.
    #[default]
    NotAsked,
    /// The socket has its id, its rooms and its public data again, and the client gets what it has missed.
    Recovered,
    /// The client has asked in vain, and is a new socket: it was gone for too long, or had left; its id was used already; it
    /// was lost by another process that is gone, or by one that has no message queue.
    Unknown,
    /// The client has asked in vain: it has missed more than is kept.
    TooMuchMissed,
    /// A shard did not answer in time.
    NoAnswer,
}

/// What a client says in its CONNECT.
#[derive(Deserialize)]
pub(crate) struct Claim {
    pub(crate) pid: serde_json::Value,
    /// `None` when the client names no offset: it has got no event yet. `null` counts as named.
    #[serde(default, deserialize_with = "said")]
    pub(crate) offset: Option<serde_json::Value>,
}

pub(crate) fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(value).map(Some)
}

/// What one socket has for its recovery.
#[derive(Debug)]
pub(crate) struct RecoveryState {
    pub(crate) pid: Sid,
    pub(crate) outcome: Recovery,
    pub(crate) events: KeptEvents,
    pub(crate) stage: Stage,
    /// The socket was another shard's. What had a number up to these, one for each shard, before it was moved, comes from its keeper;
    /// what has a later one comes here. So none of it comes twice, however late either is.
    pub(crate) since: Option<Box<[u64]>>,
    /// The socket was another process'. What that one has given along may come here as well, late, until then.
    pub(crate) given: Option<Box<(Time, FxHashSet<EventId>)>>,
    /// It is reserved for an asker: what its client has got lately, so that it does not get it there again.
    pub(crate) had: Vec<EventId>,
}

/// How long after a socket has come from another process an event that its client has, or is given along, may still come by the queue.
pub(crate) const GIVEN_KNOWN_FOR: Duration = Duration::from_secs(30);

/// Such events that one socket remembers, and that are believed of another process.
pub(crate) const GIVEN_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) enum Stage {
    /// The client is there, or is about to be.
    Present,
    /// It may come back. `GiveUp` has come for the seen numbers, which must be seen here first.
    Lost { asker: Option<Reserved>, seen: Option<Box<[u64]>> },
    /// The shards are asked who keeps the socket; so many have not answered.
    Asking { left: usize, offset: Option<Offset>, outcome: Recovery },
    /// It was found in another process, and is the old socket: see `message/far`. What comes is kept, and not given to the client yet.
    Arriving(Arriving),
    /// It is the old socket; what it has missed is here, or with its keeper. What comes now is held back until it is let in, and
    /// kept in `events` as ever.
    Restoring {
        keeper: Option<ShardId>,
        offset: Option<Offset>,
        is_accepted: bool,
        missed: Option<Vec<Kept>>,
    },
}

/// A socket that comes from another process.
#[derive(Clone, Debug)]
pub(crate) struct Arriving {
    pub(crate) offset: Option<Offset>,
    pub(crate) keeper: FarKeeper,
    /// What each shard of this process may have published before it knew of the socket's rooms here. When all of that is on its way to
    /// the keeper, the keeper is told to give up, and there is none.
    pub(crate) since: Option<Box<[u64]>>,
}

/// The shard of another process that keeps a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FarKeeper {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
}

/// For whom a lost socket is reserved, and the last event that its client has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    pub(crate) asker: Asker,
    pub(crate) offset: Option<Offset>,
}

/// A client's claim to a lost socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed<'a> {
    pub(crate) pid: Sid,
    pub(crate) namespace: &'a Address,
    pub(crate) offset: Option<Offset>,
}

impl RecoveryState {
    pub(crate) fn new(pid: Sid) -> RecoveryState {
        RecoveryState {
            pid,
            outcome: Recovery::NotAsked,
            events: KeptEvents::default(),
            stage: Stage::Present,
            since: None,
            given: None,
            had: Vec::new(),
        }
    }

    /// Whether an event is one of those that come from the keeper.
    pub(crate) fn is_of_keeper(&self, offset: Offset) -> bool {
        let until = self.since.as_ref().and_then(|since| since.get(offset.origin.index()));
        !offset.is_local && until.is_some_and(|until| offset.number <= *until)
    }

    /// Whether an event is one of those that another process has given along.
    pub(crate) fn was_given(&mut self, id: EventId, now: Time) -> bool {
        let Some(given) = &self.given else { return false };
        if given.0 <= now {
            self.given = None;
            return false;
        }
        given.1.contains(&id)
    }

    /// Notes what the client has, or is given along, for as long as it may still come by the queue.
    pub(crate) fn note_given(&mut self, ids: impl IntoIterator<Item = EventId>, now: Time) {
        let given = self.given.get_or_insert_default();
        if given.0 <= now || given.1.len() >= GIVEN_MAX {
            given.1.clear();
        }
        given.0 = now + GIVEN_KNOWN_FOR;
        given.1.extend(ids.into_iter().take(GIVEN_MAX));
    }

    /// Whether what comes is kept only.
    pub(crate) fn is_arriving(&self) -> bool {
        matches!(self.stage, Stage::Arriving(_))
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.stage, Stage::Lost { .. })
    }

    /// Ends a restoring: what the client has missed comes before what came here since, and is returned.
    pub(crate) fn join_missed(&mut self) -> Vec<SharedFrame> {
        let Stage::Restoring { offset, missed, .. } = std::mem::replace(&mut self.stage, Stage::Present)
        else {
            return Vec::new();
        };
        let missed = missed.unwrap_or_default();
        let frames = missed.iter().map(|kept| kept.frame.clone()).collect();
        // With a gap between the two, the earlier are of no use for the next recovery.
        if self.events.let_go() == offset {
            self.events.put_before(missed);
        }
        frames
    }
}

/// The private id that a client claims in its CONNECT.
pub(crate) fn claimed_pid(auth: &str) -> Option<Sid> {
    match serde_json::from_str(auth) {
        Ok(Claim { pid: serde_json::Value::String(pid), .. }) => Sid::parse(&pid),
        _ => None,
    }
}
