//! After an outage: what waits is held back for a moment, until the processes that were known before are there again.
//!
//! A broker that keeps nothing gives a message to whoever has subscribed by then. When it comes back, all processes connect anew, each
//! at a moment of its own, and what the first one says at once the others would miss. A process subscribes to everything before it says
//! anything, so whoever is heard on the new connection misses nothing more.

use std::time::Duration;

use rustc_hash::FxHashSet;

use crate::base::time::Time;
use crate::bus::own::NodeId;

/// How long the others have to come back: each tries again within half a second.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(1);

/// Who has not been heard since the connection was made.
#[derive(Debug, Default)]
pub(super) struct Hold {
    awaited: FxHashSet<NodeId>,
    /// Known once everything is subscribed to.
    until: Option<Time>,
}

impl Hold {
    pub(super) fn new(awaited: impl Iterator<Item = NodeId>) -> Hold {
        Hold { awaited: awaited.collect(), until: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.awaited.is_empty()
    }

    /// A process was heard, or is gone for good.
    pub(super) fn forget(&mut self, id: &NodeId) {
        self.awaited.remove(id);
    }

    pub(super) fn next_timeout(&self) -> Time {
        match self.until {
            Some(until) if !self.is_over() => until,
            _ => Time::NEVER,
        }
    }

    /// Time passed, beginning with the moment at which everything is subscribed to. True: it is over now, and some have not come back.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        let is_late = !self.is_over() && *self.until.get_or_insert(now + HOLD_MAX) <= now;
        if is_late {
            self.awaited.clear();
        }
        is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_all_were_heard_or_its_time_is_over() {
        let mut hold = Hold::new([[1; 16], [2; 16]].into_iter());
        assert_eq!((hold.is_over(), hold.next_timeout()), (false, Time::NEVER), "it has not begun");
        assert!(!hold.handle_timeout(Time(500)));
        hold.forget(&[1; 16]);
        assert!(!hold.handle_timeout(Time(1499)));
        assert_eq!((hold.is_over(), hold.next_timeout()), (false, Time(1500)));
        hold.forget(&[2; 16]);
        assert!(!hold.handle_timeout(Time(1500)), "all have come");
        assert_eq!((hold.is_over(), hold.next_timeout()), (true, Time::NEVER));
        let mut hold = Hold::new([[1; 16]].into_iter());
        assert!(!hold.handle_timeout(Time(500)));
        assert!(hold.handle_timeout(Time(1500)));
        assert!(hold.is_over() && !hold.handle_timeout(Time(1501)));
    }
}
