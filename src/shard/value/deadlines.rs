//! Deadlines in order, each kept to the millisecond, and gone when it is cancelled.
//!
//! Beside the [`wheel`](crate::shard::value::wheel), whose entries stay until their time: an answer that is awaited for a minute and comes
//! after a millisecond must cost nothing for the rest of the minute, and a sleeper is to wake when it said. What is seldom
//! cancelled and may be late by a tick belongs to the wheel, where arming is cheaper.

use std::collections::BTreeSet;

use crate::base::slab::Key;
use crate::base::time::Time;

/// Entries of one kind, by when they are due.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    entries: BTreeSet<(Time, Key)>,
}

impl Deadlines {
    /// Notes when an entry is due. It is told once, unless it is cancelled before.
    pub(crate) fn arm(&mut self, key: Key, due: Time) {
        if due != Time::NEVER {
            self.entries.insert((due, key));
        }
    }

    /// Forgets an entry that was armed for `due`.
    pub(crate) fn cancel(&mut self, key: Key, due: Time) {
        self.entries.remove(&(due, key));
    }

    /// When the first is due; `NEVER` without any.
    pub(crate) fn next(&self) -> Time {
        self.entries.first().map_or(Time::NEVER, |(due, _)| *due)
    }

    /// Takes the earliest entry that is due. Of those due at one moment, in the order of their keys.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Key> {
        let (due, _) = *self.entries.first()?;
        if due > now {
            return None;
        }
        self.entries.pop_first().map(|(_, key)| key)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn the_earliest_comes_first_to_the_millisecond_and_what_is_cancelled_is_gone() {
        let mut deadlines = Deadlines::default();
        for (index, due) in [(1, 500), (2, 300), (3, 301), (4, 300), (5, 302)] {
            deadlines.arm(key(index), Time(due));
        }
        deadlines.arm(key(6), Time::NEVER);
        deadlines.cancel(key(3), Time(301));
        deadlines.cancel(key(5), Time(999));
        assert_eq!((deadlines.next(), deadlines.len()), (Time(300), 4));
        assert_eq!(deadlines.take_due(Time(299)), None);
        let mut told = Vec::new();
        for now in [300, 301, 302, 499, 500] {
            told.extend(std::iter::from_fn(|| deadlines.take_due(Time(now))).map(|key| (now, key.index)));
        }
        assert_eq!(told, [(300, 2), (300, 4), (302, 5), (500, 1)]);
        assert_eq!(deadlines.next(), Time::NEVER);
    }
}
