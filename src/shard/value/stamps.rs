//! A state room that several processes change: for each key the change with the newest stamp counts, in whatever order they come.
//!
//! The shard that orders a room's changes has one of these for it. A stamp is a counter, newer than all that the process has heard, and
//! the process, which decides between two that did not know of each other. So all processes that have heard the same changes have the
//! same values. A removed key is remembered for a while, so that a process that has not heard of it does not bring it back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::time::Time;
use crate::message::state::{COUNTER_MAX, Stamp};

/// How long a removed key is remembered. A process that was cut off for longer may bring it back, to all.
const REMOVED_KEPT: Duration = Duration::from_secs(3600);

/// Removed keys of one room that are remembered; of more, the older half is forgotten.
pub(crate) const REMOVED_MAX: usize = 4096;

/// What a room has beside its values where there are other processes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stamps: Stamps,
    /// Keys whose changes here the others have not been told.
    pub(crate) unsaid: BTreeSet<String>,
    /// Somebody was asked for the whole, and has time until then.
    pub(crate) asked_until: Time,
}

/// The stamps of one room.
#[derive(Debug)]
pub(crate) struct Stamps {
    process: u64,
    /// The newest counter that is known.
    clock: u64,
    present: BTreeMap<String, Stamp>,
    removed: BTreeMap<String, (Stamp, Time)>,
    /// The sum over what is present: two processes with the same one have the same values.
    digest: u64,
}

impl Stamps {
    pub(crate) fn new(process: u64) -> Stamps {
        Stamps { process, clock: 0, present: BTreeMap::new(), removed: BTreeMap::new(), digest: 0 }
    }

    /// This process makes a change.
    pub(crate) fn note_own(&mut self, key: &str, is_removed: bool, now: Time) {
        self.clock = (self.clock + 1).min(COUNTER_MAX);
        self.note(key, Stamp { counter: self.clock, process: self.process }, is_removed, now);
    }

    /// Another process has made a change. False: it is older than what is known, and of no account.
    pub(crate) fn take(&mut self, key: &str, stamp: Stamp, is_removed: bool, now: Time) -> bool {
        if stamp.counter > COUNTER_MAX || self.get(key).is_some_and(|known| known >= stamp) {
            return false;
        }
        self.clock = self.clock.max(stamp.counter);
        self.note(key, stamp, is_removed, now);
        true
    }

    /// The stamp of a key's newest change.
    pub(crate) fn get(&self, key: &str) -> Option<Stamp> {
        self.present.get(key).or_else(|| self.removed.get(key).map(|(stamp, _)| stamp)).copied()
    }

    /// Every key with a stamp, the removed ones included.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.present.keys().chain(self.removed.keys())
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Forgets keys that were removed long ago.
    pub(crate) fn forget_old(&mut self, now: Time) {
        self.removed.retain(|_, (_, at)| now.since(*at) < REMOVED_KEPT);
    }

    fn note(&mut self, key: &str, stamp: Stamp, is_removed: bool, now: Time) {
        if let Some(old) = self.present.remove(key) {
            self.digest = self.digest.wrapping_sub(hash(key, old));
        }
        self.removed.remove(key);
        if is_removed {
            self.removed.insert(key.to_owned(), (stamp, now));
            self.bound_removed();
        } else {
            self.digest = self.digest.wrapping_add(hash(key, stamp));
            self.present.insert(key.to_owned(), stamp);
        }
    }

    fn bound_removed(&mut self) {
        if self.removed.len() <= REMOVED_MAX {
            return;
        }
        let mut stamps: Vec<Stamp> = self.removed.values().map(|(stamp, _)| *stamp).collect();
        stamps.sort_unstable();
        let middle = stamps[stamps.len() / 2];
        self.removed.retain(|_, (stamp, _)| *stamp >= middle);
    }
}

/// FNV-1a, whose bits are spread, as sums are made of it.
fn hash(key: &str, stamp: Stamp) -> u64 {
    let numbers = stamp.counter.to_le_bytes().into_iter().chain(stamp.process.to_le_bytes());
    let bytes = key.bytes().chain(numbers);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One process: the stamps, and the values that they are for.
    struct Replica {
        stamps: Stamps,
        values: BTreeMap<String, u8>,
    }

    type Change = (String, Option<u8>, Stamp);

    impl Replica {
        fn new(process: u64) -> Replica {
            Replica { stamps: Stamps::new(process), values: BTreeMap::new() }
        }

        fn set(&mut self, key: &str, value: Option<u8>) -> Change {
            self.stamps.note_own(key, value.is_none(), Time(0));
            self.put(key, value);
            (key.to_owned(), value, self.stamps.get(key).expect("it was noted"))
        }

        fn hear(&mut self, (key, value, stamp): &Change) {
            if self.stamps.take(key, *stamp, value.is_none(), Time(0)) {
                self.put(key, *value);
            }
        }

        fn put(&mut self, key: &str, value: Option<u8>) {
            match value {
                Some(value) => self.values.insert(key.to_owned(), value),
                None => self.values.remove(key),
            };
        }

        fn whole(&self) -> Vec<Change> {
            let change = |key: &String| {
                (key.clone(), self.values.get(key).copied(), self.stamps.get(key).expect("it has one"))
            };
            self.stamps.keys().map(change).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set {
            at: usize,
            key: u8,
            value: Option<u8>,
        },
        /// One of all changes so far comes to a process, perhaps not for the first time.
        Deliver {
            to: usize,
            which: usize,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let set = (0..3_usize, 0..4_u8, any::<Option<u8>>()).prop_map(|(at, key, value)| Step::Set {
            at,
            key,
            value,
        });
        let deliver = (0..3_usize, any::<usize>()).prop_map(|(to, which)| Step::Deliver { to, which });
        proptest::collection::vec(prop_oneof![set, deliver], 0..60)
    }

    proptest! {
        #[test]
        fn all_have_the_same_once_all_have_heard_the_same(steps in steps(), is_by_whole: bool) {
            let mut replicas = [Replica::new(3), Replica::new(1), Replica::new(2)];
            let mut said: Vec<Change> = Vec::new();
            for step in steps {
                match step {
                    Step::Set { at, key, value } => said.push(replicas[at].set(&key.to_string(), value)),
                    Step::Deliver { to, which } if !said.is_empty() => {
                        replicas[to].hear(&said[which % said.len()].clone());
                    }
                    Step::Deliver { .. } => {}
                }
            }
            if is_by_whole {
                // What they said is lost. They meet, one pair after the other, as after an outage.
                for (one, two) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
                    for (from, to) in [(one, two), (two, one)] {
                        replicas[from].whole().iter().for_each(|change| replicas[to].hear(change));
                    }
                }
            } else {
                for replica in &mut replicas {
                    said.iter().rev().for_each(|change| replica.hear(change));
                }
            }
            for other in &replicas[1..] {
                prop_assert_eq!(&replicas[0].values, &other.values);
                prop_assert_eq!(replicas[0].stamps.digest(), other.stamps.digest());
            }
            // The newest of each key has won.
            for (key, value) in &replicas[0].values {
                let newest = said.iter().filter(|(other, ..)| other == key).max_by_key(|(.., stamp)| *stamp);
                prop_assert_eq!(newest.and_then(|(_, value, _)| *value), Some(*value));
            }
        }
    }

    #[test]
    fn a_digest_is_of_values_and_not_of_what_is_gone() {
        let (mut one, mut two) = (Replica::new(1), Replica::new(2));
        let change = one.set("a", Some(1));
        assert_ne!(one.stamps.digest(), two.stamps.digest());
        two.hear(&change);
        assert_eq!(one.stamps.digest(), two.stamps.digest());
        let gone = one.set("a", None);
        assert_eq!(one.stamps.digest(), 0);
        two.hear(&gone);
        two.hear(&change);
        assert_eq!((two.stamps.digest(), two.values.len()), (0, 0), "what is removed does not come back");
    }

    #[test]
    fn what_is_removed_is_remembered_within_bounds() {
        let mut stamps = Stamps::new(1);
        for number in 0..3 * REMOVED_MAX {
            stamps.note_own(&number.to_string(), true, Time(1000));
            assert!(stamps.removed.len() <= REMOVED_MAX, "{number}");
        }
        let last = (3 * REMOVED_MAX - 1).to_string();
        assert!(
            stamps.get(&last).is_some() && stamps.get("0").is_none(),
            "the older ones are forgotten first"
        );
        stamps.forget_old(Time(1000 + REMOVED_KEPT.as_millis() as u64 - 1));
        assert!(stamps.get(&last).is_some());
        stamps.forget_old(Time(1000 + REMOVED_KEPT.as_millis() as u64));
        assert_eq!(stamps.keys().count(), 0);
    }

    #[test]
    fn a_counter_from_outside_cannot_end_all_changes() {
        let mut stamps = Stamps::new(1);
        assert!(!stamps.take("a", Stamp { counter: u64::MAX, process: 2 }, false, Time(0)));
        assert!(stamps.take("a", Stamp { counter: COUNTER_MAX - 1, process: 2 }, false, Time(0)));
        stamps.note_own("a", false, Time(0));
        assert_eq!(stamps.get("a"), Some(Stamp { counter: COUNTER_MAX, process: 1 }));
    }
}
