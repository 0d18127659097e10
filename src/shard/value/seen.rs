//! Which events of each shard have been seen here: what a keeper waits for before it gives a lost socket to another shard.
//!
//! Events of one shard come in the order of their numbers, so an event that has come says that all before it have come. A shard
//! whose events do not concern this one sends none. So while a socket waits, this shard also reads how far the others have got
//! (`mesh/published`) and sends that to itself: when it takes the message out of its inbox, everything up to those numbers has come.

use std::time::Duration;

use crate::base::time::Time;
use crate::message::recovery::Offset;

/// When to look again if that was not enough: another shard is in the middle of sending an event, which takes microseconds
/// unless its thread was interrupted there.
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// For each shard the number up to which everything has come that comes here.
///
/// While sockets wait, either a message to itself is on its way or `again` is set.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) numbers: Box<[u64]>,
    pub(crate) is_asking: bool,
    pub(crate) again: Time,
}

impl Seen {
    pub(crate) fn new(shards: usize) -> Seen {
        Seen { numbers: vec![0; shards].into(), is_asking: false, again: Time::NEVER }
    }

    /// An event has come, or was published here.
    pub(crate) fn note(&mut self, offset: Offset) {
        if let Some(seen) = self.numbers.get_mut(offset.origin.index()).filter(|_| !offset.is_local) {
            *seen = offset.number.max(*seen);
        }
    }

    pub(crate) fn has_all(&self, numbers: &[u64]) -> bool {
        self.numbers.iter().zip(numbers).all(|(own, other)| own >= other)
    }

    /// When to look again; `NEVER` when no socket waits, or the answer is on its way.
    pub(crate) fn again(&self) -> Time {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    #[test]
    fn gaps_are_no_loss_and_what_was_seen_stays_seen() {
        let mut seen = Seen::new(2);
        let offset = |number, is_local| Offset { node: None, origin: ShardId(1), number, is_local };
        for (number, is_local, expected) in
            [(3, false, [0, 3]), (9, true, [0, 3]), (7, false, [0, 7]), (5, false, [0, 7])]
        {
            seen.note(offset(number, is_local));
            assert_eq!(*seen.numbers, expected);
        }
        seen.note(Offset { node: None, origin: ShardId(9), number: 1, is_local: false });
        assert_eq!(*seen.numbers, [0, 7], "no such shard");
        assert!(seen.has_all(&[0, 7]) && !seen.has_all(&[1, 7]) && !seen.has_all(&[0, 8]));
    }
}
