//! Acknowledgements that clients wait for.

use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;

/// What became of the acknowledgement that an event's client has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It has not asked for one.
    Nothing,
    /// What the handler returns is the answer to this id.
    Here(u64),
    /// The handler has taken an [`Ack`](crate::Ack): its place in the table of those that are kept.
    Kept(Key),
    /// It has taken one that the client has not asked for.
    Taken,
}

impl From<Option<u64>> for Asked {
    fn from(id: Option<u64>) -> Asked {
        id.map_or(Asked::Nothing, Asked::Here)
    }
}

/// An acknowledgement that a handler has kept to give later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptAck {
    pub(crate) socket: Key,
    /// The number in the packet.
    pub(crate) id: u64,
}

/// At most one line of a kind in such a time.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// When the log may have another line about what clients can bring about.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    next_line: Option<Time>,
    left_out: u64,
}

impl Seldom {
    /// Whether the log may have a line now, and how many it did not have since the last one.
    pub(crate) fn take_line(&mut self, now: Time) -> Option<u64> {
        if self.next_line.is_some_and(|next| now < next) {
            self.left_out += 1;
            return None;
        }
        self.next_line = Some(now + LINE_PERIOD);
        Some(std::mem::take(&mut self.left_out))
    }
}
