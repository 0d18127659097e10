//! Tasks that sleep, and until when.

use std::task::Waker;

use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::shard::value::deadlines::Deadlines;

/// The sleepers of one shard. One that is dropped leaves its table and its timer at once.
#[derive(Debug, Default)]
pub(crate) struct Sleeps {
    pub(crate) sleepers: Slab<Sleeper>,
    due: Deadlines,
}

#[derive(Debug)]
pub(crate) struct Sleeper {
    until: Time,
    pub(crate) is_over: bool,
    pub(crate) waker: Option<Waker>,
}

impl Sleeps {
    /// When the first one wants to be woken.
    pub(crate) fn next(&self) -> Time {
        self.due.next()
    }

    pub(crate) fn insert(&mut self, until: Time, waker: Waker) -> Key {
        let key = self.sleepers.insert(Sleeper { until, is_over: false, waker: Some(waker) });
        self.due.arm(key, until);
        key
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Sleeper> {
        let sleeper = self.sleepers.remove(key)?;
        self.due.cancel(key, sleeper.until);
        Some(sleeper)
    }

    /// Takes a sleeper whose time has come, with whom to wake.
    pub(crate) fn wake(&mut self, now: Time) -> Option<Option<Waker>> {
        let key = self.due.take_due(now)?;
        let sleeper = self.sleepers.get_mut(key)?;
        sleeper.is_over = true;
        Some(sleeper.waker.take())
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.due.len()
    }

    /// How many sleep.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert!(self.due.len() <= self.sleepers.len(), "a deadline is a sleeper's");
        self.sleepers.len()
    }
}
