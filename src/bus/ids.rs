//! What the ids in a target say: whether it is for one process, or for one socket.

use crate::base::ids::{NodeTag, Sid};
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
