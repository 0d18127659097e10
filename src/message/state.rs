//! What shards, and processes, say of state rooms.

use serde::{Deserialize, Serialize};

use crate::base::ids::NodeTag;
use crate::message::address::Address;

/// The highest counter of a stamp: each process counts from 0, so that nobody comes near it honestly.
pub(crate) const COUNTER_MAX: u64 = 1 << 62;

/// A change to a state room, on its way to the shard that orders them or from there to all.
#[derive(Debug)]
pub(crate) struct StateMessage {
    pub(crate) namespace: Address,
    pub(crate) room: String,
    pub(crate) change: StateChange,
    /// Whether the ordering shard has had it.
    pub(crate) is_ordered: bool,
}

/// What changes. Values are JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateChange {
    Set {
        key: String,
        value: String,
    },
    Remove {
        key: String,
    },
    /// Everything anew, for a shard that has missed a change.
    Replace(Vec<(String, String)>),
}

/// When a key was changed, and by which process: the higher counter is the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) counter: u64,
    pub(crate) process: u64,
}

/// What one process tells others of a state room.
#[derive(Clone, Debug)]
pub(crate) struct StateNews {
    pub(crate) namespace: Address,
    pub(crate) room: String,
    /// Whom it is for, none for all; once it has come, whom it is from.
    pub(crate) peer: Option<NodeTag>,
    pub(crate) what: StateWord,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum StateWord {
    /// My values, in short.
    Digest(u64),
    /// Tell me all of yours.
    Want,
    /// What was changed.
    Entries(Vec<StateEntry>),
}

/// The newest change of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateEntry {
    pub(crate) key: String,
    /// None: it is removed.
    pub(crate) value: Option<String>,
    pub(crate) stamp: Stamp,
}

impl StateNews {
    /// What it keeps in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        let entry = |entry: &StateEntry| {
            size_of::<StateEntry>() + entry.key.len() + entry.value.as_ref().map_or(0, String::len)
        };
        let entries = match &self.what {
            StateWord::Digest(_) | StateWord::Want => 0,
            StateWord::Entries(entries) => entries.iter().map(entry).sum(),
        };
        self.room.len() + entries
    }
}
