//! What shards say when a client comes back to another shard than the one that it was lost on.
//!
//! The shard that has lost a socket is its *keeper*, the one that the client comes to the *asker*. The asker asks all shards
//! who keeps the socket; joins its rooms; and then has the keeper give it up. Events go on all the while, and
//! reach each shard in another order; those of a room reach the shards that have members of it, and no other. So the asker reads,
//! once it has joined, the number that each shard has begun: what has a later number comes to the asker, as `published` says, and
//! what has that number or an earlier one comes from the keeper, which gives the socket up when it has seen all of them. Each
//! ignores what is the other's, so an event comes once, however late. How a socket comes from another process is in `message/far`. A shard *has seen* an event when nothing up to its number is
//! still on its way there: because it came, or a later one of the same shard, or because `published` says so.

use std::fmt;

use crate::base::buffer::SharedFrame;
use serde::{Deserialize, Serialize};

use crate::base::ids::{NodeTag, ShardId, Sid};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::address::Address;

/// Names one event: the shard that published it, and its number there. Numbers of one shard reach every shard in order, with gaps:
/// events for rooms without a member on a shard do not go there. Events that only its own sockets get are numbered apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    /// The process of the shard, if it is one of several.
    pub(crate) node: Option<NodeTag>,
    pub(crate) origin: ShardId,
    pub(crate) number: u64,
    pub(crate) is_local: bool,
}

impl Offset {
    /// Reads what a client has sent back.
    pub(crate) fn parse(text: &str) -> Option<Offset> {
        let (node, rest) = match text.split_once('-') {
            Some((tag, rest)) => (Some(NodeTag::parse(tag)?), rest),
            None => (None, text),
        };
        let (origin, number) = rest.split_once(['.', ':'])?;
        let offset = Offset {
            node,
            origin: ShardId(u16::from_str_radix(origin, 16).ok()?),
            number: u64::from_str_radix(number, 16).ok()?,
            is_local: text.contains(':'),
        };
        (offset.to_string() == text).then_some(offset)
    }

    /// What the event is called in all processes, if it is of the shard that the offset names.
    pub(crate) fn event_id(&self) -> EventId {
        let [one, two, three] = self.node.unwrap_or_default().0;
        let [high, low] = self.origin.0.to_be_bytes();
        EventId(u64::from_be_bytes([0, one, two, three, high, low, 0, u8::from(self.is_local)]), self.number)
    }
}

/// What an event is called in all processes: who has published it, and its number there. The same event has another offset in each
/// process, because each numbers what it delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct EventId(pub(crate) u64, pub(crate) u64);

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(formatter, "{node}-")?;
        }
        let mark = if self.is_local { ':' } else { '.' };
        write!(formatter, "{:x}{mark}{:x}", self.origin.0, self.number)
    }
}

impl EventId {
    /// The process and the shard that gave the number, if it is one that all shards of the process may get.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "it is of that feature"))]
    pub(crate) fn publisher(self) -> Option<(NodeTag, ShardId)> {
        let [0, one, two, three, high, low, 0, 0] = self.0.to_be_bytes() else { return None };
        Some((NodeTag([one, two, three]), ShardId(u16::from_be_bytes([high, low]))))
    }
}

/// A place in the stream of a broker that keeps messages; what is later has a larger one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Position(pub(crate) u64, pub(crate) u64);

impl Position {
    /// Reads what a broker calls it: one number, or two with a hyphen between them.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "brokers are of that feature"))]
    pub(crate) fn parse(text: &str) -> Option<Position> {
        let (first, second) = text.split_once('-').unwrap_or((text, "0"));
        Some(Position(first.parse().ok()?, second.parse().ok()?))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.0, self.1)
    }
}

/// An event that a socket was sent, or would have been.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) offset: Offset,
    pub(crate) id: EventId,
    /// It is in the broker's stream as well, if that is one which keeps messages.
    pub(crate) is_in_stream: bool,
    pub(crate) at: Time,
    pub(crate) frame: SharedFrame,
}

/// A socket whose connect handlers have not decided yet, on the shard that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The other process that asks; none is this one.
    pub(crate) node: Option<NodeTag>,
    pub(crate) shard: ShardId,
    pub(crate) socket: Key,
}

/// What is left of a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LostSocket {
    pub(crate) pid: Sid,
    pub(crate) sid: Sid,
    pub(crate) rooms: Vec<String>,
    pub(crate) data: Option<Box<str>>,
    /// Where there are other processes: what the client has got lately. It may come by the queue late, and is not to be given to it again.
    pub(crate) had: Vec<EventId>,
}

/// Why there is nothing to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotKept {
    Unknown,
    TooOld,
}

#[derive(Debug)]
pub(crate) enum RecoveryMessage {
    /// Who keeps the socket with this private id, whose client has seen all up to this offset?
    Ask {
        pid: Sid,
        namespace: Address,
        offset: Option<Offset>,
        asker: Asker,
    },
    Found {
        to: Key,
        keeper: ShardId,
        lost: Box<LostSocket>,
    },
    NotFound {
        to: Key,
        reason: NotKept,
    },
    /// The asker has joined the rooms: events after these numbers, one for each shard, reach it too.
    GiveUp {
        pid: Sid,
        asker: Asker,
        /// If the asker is of another process.
        namespace: Option<Address>,
        seen: Box<[u64]>,
    },
    /// What the client has missed; nothing if it is more than was kept.
    Missed {
        to: Key,
        missed: Option<Vec<Kept>>,
    },
    /// A shard's word to itself: what was in its inbox before it was all that there is up to these numbers.
    SeenUntil {
        numbers: Box<[u64]>,
    },
    /// The asker does not want the socket any more.
    Release {
        pid: Sid,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_says_who_published_it_where_all_shards_may_get_it() {
        let offset =
            Offset { node: Some(NodeTag([1, 0, 255])), origin: ShardId(0x102), number: 7, is_local: false };
        assert_eq!(offset.event_id().publisher(), Some((NodeTag([1, 0, 255]), ShardId(0x102))));
        assert_eq!(Offset { is_local: true, ..offset }.event_id().publisher(), None);
        assert_eq!(EventId(1 << 63, 7).publisher(), None, "named by its message");
    }

    #[test]
    fn positions_are_read_as_they_are_written_and_are_in_order() {
        let rows = [("0-0", (0, 0)), ("5-18", (5, 18)), ("10-2", (10, 2)), ("11", (11, 0))];
        let read: Vec<Position> = rows.iter().filter_map(|(text, _)| Position::parse(text)).collect();
        assert!(read.is_sorted());
        assert_eq!(read, rows.map(|(_, (first, second))| Position(first, second)));
        assert_eq!(read[1].to_string(), "5-18");
        for text in ["", "-", "5-", "-5", "a", "1-2-3", "18446744073709551616"] {
            assert_eq!(Position::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_offset_comes_back_as_it_was_and_in_no_other_way() {
        let tag = NodeTag([0, 0x1b, 0xff]);
        for (node, origin, number, is_local, text) in [
            (None, 0, 0, false, "0.0"),
            (None, 3, 255, true, "3:ff"),
            (None, u16::MAX, u64::MAX, false, "ffff.ffffffffffffffff"),
            (Some(tag), 3, 255, true, "001bff-3:ff"),
            (Some(NodeTag::default()), 0, 1, false, "000000-0.1"),
        ] {
            let offset = Offset { node, origin: ShardId(origin), number, is_local };
            assert_eq!(offset.to_string(), text);
            assert_eq!(Offset::parse(text), Some(offset));
        }
        for text in [
            "",
            ".",
            "0",
            "0.",
            ".0",
            "00.0",
            "0.00",
            "0.G",
            "10000.0",
            "0.10000000000000000",
            "+0.0",
            "0.0:0",
            "0.F",
            "-0.0",
            "1bff-0.0",
            "001bFF-0.0",
            "1001bff-0.0",
            "001bff-",
        ] {
            assert_eq!(Offset::parse(text), None, "{text:?}");
        }
    }
}
