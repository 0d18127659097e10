//! What shards say of state rooms.

use crate::message::address::Address;

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
