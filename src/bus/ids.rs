//! What ids say: whether a target is for one process, or for one socket; and what an event is called.

use crate::base::ids::{NodeTag, Sid};
use crate::bus::own::NodeId;
use crate::message::recovery::EventId;
use crate::message::target::Target;

/// The one process that a target names by ids, if it names nothing else.
pub(crate) fn one_process(target: &Target) -> Option<NodeTag> {
    let mut tags = target.rooms.iter().map(|room| Sid::parse(room).map(|sid| sid.node()));
    let first = tags.next()??;
    (!target.is_everyone && tags.all(|tag| tag == Some(first))).then_some(first)
}

/// Whether a target names one socket by its id, and nothing else.
pub(crate) fn one_id(target: &Target) -> bool {
    let mut rooms = target.rooms.iter();
    matches!((rooms.next().and_then(Sid::parse), rooms.next()), (Some(_), None))
}

/// What an event is called whose publisher gives it no name: by the message that it came in.
pub(crate) fn event_id(from: NodeId, sequence: u64) -> EventId {
    /// No shard's events have it.
    const OF_MESSAGES: u64 = 1 << 63;
    let [a, b, c, d, e, f, g, h, ..] = from;
    EventId(u64::from_be_bytes([a, b, c, d, e, f, g, h]) | OF_MESSAGES, sequence)
}
