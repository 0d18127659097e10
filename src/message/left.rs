//! What a process that ends leaves of its sockets with the broker, so that another can go on with them (`recovery_survives`).
//!
//! Only a broker that keeps what is published can serve here. An event that is in its stream is named, and read there again; one that
//! is not, as one to a single socket, is left whole. What the client got, it says itself, by its last offset. What the socket was sent
//! is [`LeftSocket::events`]; what it was not sent any more is whatever stands in the stream and has not [`Passed`] the shard that
//! had the socket.

use serde::{Deserialize, Serialize};

use crate::base::ids::{NodeTag, Sid};
use crate::message::address::Address;
use crate::message::far::OffsetText;
use crate::message::recovery::{EventId, Offset, Position};

/// A socket without its private id: that is what it is found by, and whoever reads the broker's memory is not to learn it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftSocket {
    pub(crate) endpoint: Option<String>,
    pub(crate) namespace: String,
    /// The process that had it.
    pub(crate) node: NodeTag,
    pub(crate) sid: Sid,
    pub(crate) rooms: Vec<String>,
    /// As `set_data` has it: JSON.
    pub(crate) data: Option<Box<str>>,
    /// The newest event that it was sent and that is not among the events any more.
    pub(crate) let_go: Option<OffsetText>,
    /// Events that it was sent, oldest first.
    pub(crate) events: Vec<LeftEvent>,
    pub(crate) passed: Passed,
}

/// An event that a socket was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftEvent {
    pub(crate) offset: OffsetText,
    /// None where the offset says it.
    pub(crate) id: Option<EventId>,
    /// How long ago it was sent, in milliseconds.
    pub(crate) age_millis: u32,
    /// Its frames, if it is not in the stream.
    pub(crate) frame: Option<Vec<u8>>,
}

/// Which events had come to a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Passed {
    /// Of its own process: up to these numbers, one for each shard.
    pub(crate) numbers: Vec<u64>,
    /// Of others: up to this place in the stream. None: the process has not read anything.
    pub(crate) position: Option<Position>,
}

impl LeftSocket {
    pub(crate) fn address(&self) -> Address {
        Address::new(self.endpoint.as_deref(), &self.namespace)
    }

    /// What it keeps in memory, about.
    pub(crate) fn len_bytes(&self) -> usize {
        let event = |event: &LeftEvent| {
            size_of::<LeftEvent>() + event.offset.len_bytes() + event.frame.as_ref().map_or(0, Vec::len)
        };
        let rooms: usize = self.rooms.iter().map(|room| room.len() + size_of::<String>()).sum();
        let data = self.data.as_ref().map_or(0, |data| data.len());
        size_of::<LeftSocket>() + rooms + data + self.events.iter().map(event).sum::<usize>()
    }

    /// How many of the events the client has got, if all that it has not got are there. Without an offset it has got none.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "it is of that feature"))]
    pub(crate) fn count_got(&self, offset: Option<Offset>) -> Option<usize> {
        let is = |text: &OffsetText| text.parse().is_some_and(|known| Some(known) == offset);
        let place = self.events.iter().position(|event| is(&event.offset));
        // Stock clients name the last event of an earlier socket until they get one of this socket.
        let is_of_these = place.is_some() || self.let_go.is_some();
        match place {
            Some(place) => Some(place + 1),
            None if !is_of_these || self.let_go.as_ref().is_some_and(is) => Some(0),
            None => None,
        }
    }
}

impl LeftEvent {
    /// What it is called in all processes. None: the offset cannot be read.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "it is of that feature"))]
    pub(crate) fn id(&self) -> Option<EventId> {
        self.id.or_else(|| self.offset.parse().map(|offset| offset.event_id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    fn offset(number: u64) -> Offset {
        Offset { node: Some(NodeTag([1, 2, 3])), origin: ShardId(0), number, is_local: false }
    }

    pub(crate) fn left(let_go: Option<u64>, events: &[u64]) -> LeftSocket {
        let event = |number: &u64| LeftEvent {
            offset: OffsetText::new(offset(*number)),
            id: None,
            age_millis: 5,
            frame: None,
        };
        LeftSocket {
            endpoint: None,
            namespace: "/".to_owned(),
            node: NodeTag([1, 2, 3]),
            sid: Sid::new(ShardId(0), [7; 13]),
            rooms: Vec::new(),
            data: None,
            let_go: let_go.map(|number| OffsetText::new(offset(number))),
            events: events.iter().map(event).collect(),
            passed: Passed::default(),
        }
    }

    #[test]
    fn what_a_client_has_got_is_told_by_its_offset() {
        type Row<'a> = (Option<u64>, &'a [u64], Option<u64>, Option<usize>);
        let rows: [Row<'_>; 9] = [
            (None, &[3, 5], None, Some(0)),
            (None, &[3, 5], Some(3), Some(1)),
            (None, &[3, 5], Some(5), Some(2)),
            (None, &[3, 5], Some(1), Some(0)),
            (Some(2), &[3, 5], Some(2), Some(0)),
            (Some(2), &[3, 5], Some(5), Some(2)),
            (Some(2), &[3, 5], Some(1), None),
            (Some(2), &[3, 5], None, None),
            (None, &[], Some(1), Some(0)),
        ];
        for (let_go, events, named, expected) in rows {
            let got = left(let_go, events).count_got(named.map(offset));
            assert_eq!(got, expected, "{let_go:?} {events:?} {named:?}");
        }
    }
}
