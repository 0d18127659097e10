//! What processes say to each other when a client comes back to another process than the one that it was lost in.
//!
//! The process that has the socket is its *keeper*, the one that the client comes to the *asker*. They go four steps, each a message:
//!
//! 1. `Ask`: the asker asks the process whose tag is in the private id who keeps the socket. `Found` reserves it; `NotFound` ends it.
//! 2. The asker takes the socket's id, its private id and its rooms. From here on what comes for them is gathered with the socket, and
//!    not given to its client.
//! 3. `GiveUp`: said once the broker has confirmed that the asker hears those rooms.
//! 4. `Missed`: the keeper has all that was in its process when `GiveUp` came, gives it away and forgets the socket.
//!
//! What was published before the broker confirmed is with the keeper, because `GiveUp` comes to it later by the same way; what was
//! published after is with the asker; what both have has the same [`EventId`] and is dropped from what was gathered. So an event comes
//! once. If one of the two does not hear the other any more, the asker gives up after some seconds: its client connects again as a new
//! socket, and has been given nothing.

use serde::{Deserialize, Serialize};

use crate::base::ids::{NodeTag, ShardId, Sid};
use crate::base::slab::Key;
use crate::message::address::Address;
use crate::message::recovery::{Asker, EventId, Kept, LostSocket, NotKept, Offset};

/// One message, about a socket of this namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FarWord {
    pub(crate) endpoint: Option<String>,
    pub(crate) namespace: String,
    /// Whose socket is to come back.
    pub(crate) asker: FarAsker,
    pub(crate) said: FarSaid,
}

/// An [`Asker`], and the tag of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FarAsker {
    pub(crate) node: NodeTag,
    shard: u16,
    place: u32,
    generation: u32,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FarSaid {
    /// Who keeps the socket with this private id, whose client has seen all up to this offset?
    Ask {
        pid: Sid,
        offset: Option<OffsetText>,
    },
    /// This shard of the process with this tag.
    Found {
        keeper: NodeTag,
        shard: u16,
        lost: LostSocket,
    },
    NotFound(NotKept),
    /// The rooms are heard.
    GiveUp {
        pid: Sid,
        shard: u16,
    },
    /// What the client has missed; nothing if it is more than was kept.
    Missed(Option<Vec<FarKept>>),
    /// The asker does not want the socket any more.
    Release {
        pid: Sid,
        shard: u16,
    },
}

/// A [`Kept`] of another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FarKept {
    pub(crate) offset: OffsetText,
    pub(crate) id: EventId,
    pub(crate) frame: Vec<u8>,
}

/// An offset as clients have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OffsetText(String);

impl OffsetText {
    pub(crate) fn new(offset: Offset) -> OffsetText {
        OffsetText(offset.to_string())
    }

    pub(crate) fn parse(&self) -> Option<Offset> {
        Offset::parse(&self.0)
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.0.len()
    }
}

impl FarWord {
    pub(crate) fn new(namespace: &Address, asker: FarAsker, said: FarSaid) -> FarWord {
        let endpoint = namespace.endpoint().map(str::to_owned);
        FarWord { endpoint, namespace: namespace.name().to_owned(), asker, said }
    }

    pub(crate) fn address(&self) -> Address {
        Address::new(self.endpoint.as_deref(), &self.namespace)
    }

    /// What it keeps in memory, about.
    pub(crate) fn len_bytes(&self) -> usize {
        let said = match &self.said {
            FarSaid::Missed(missed) => {
                missed.iter().flatten().map(|kept| kept.frame.len() + size_of::<FarKept>()).sum()
            }
            FarSaid::Found { lost, .. } => {
                let rooms: usize = lost.rooms.iter().map(|room| room.len() + size_of::<String>()).sum();
                rooms + lost.data.as_ref().map_or(0, |data| data.len()) + size_of_val(lost.had.as_slice())
            }
            FarSaid::Ask { .. } | FarSaid::NotFound(_) | FarSaid::GiveUp { .. } | FarSaid::Release { .. } => {
                0
            }
        };
        said + self.namespace.len() + size_of::<FarWord>()
    }
}

impl FarAsker {
    /// A socket of the process with this tag.
    pub(crate) fn new(node: NodeTag, asker: Asker) -> FarAsker {
        let Asker { shard, socket, .. } = asker;
        FarAsker { node, shard: shard.0, place: socket.index, generation: socket.generation }
    }

    /// The shard in its process.
    pub(crate) fn shard(&self) -> ShardId {
        ShardId(self.shard)
    }

    /// The socket on its shard.
    pub(crate) fn socket(&self) -> Key {
        Key { index: self.place, generation: self.generation }
    }

    /// The same, as the keeper's shards know it.
    pub(crate) fn asker(&self) -> Asker {
        Asker { node: Some(self.node), shard: self.shard(), socket: self.socket() }
    }
}

impl From<Kept> for FarKept {
    fn from(kept: Kept) -> FarKept {
        FarKept { offset: OffsetText::new(kept.offset), id: kept.id, frame: kept.frame.to_vec() }
    }
}
