//! The largest of a table's entries, found by looking at a part of the table at a time.
//!
//! A table may have a million entries, and somebody asks once a second. Each time a bounded number of places is looked at, on from where
//! the last look ended, beside those that were the largest then. So what grows is found within some looks, and a look costs the same
//! however large the table is.

use crate::base::slab::{Key, Slab};

/// Places that one look goes through.
pub(crate) const SURVEYED_MAX: u32 = 5000;

/// Entries that are found.
pub(crate) const LARGEST_MAX: usize = 20;

/// Where the last look ended, and what it found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    next: u32,
    largest: Vec<Key>,
}

impl Survey {
    /// The entries that weigh most, the heaviest first. What weighs 0 is left out.
    pub(crate) fn largest<T>(&mut self, table: &Slab<T>, weigh: impl Fn(&T) -> u64) -> Vec<(Key, u64)> {
        let places = table.places();
        let first = if self.next < places { self.next } else { 0 };
        let last = places.min(first + SURVEYED_MAX);
        self.next = last;
        let known = std::mem::take(&mut self.largest);
        let looked_at = |key: &Key| (first..last).contains(&key.index);
        let before = known.into_iter().filter(|key| !looked_at(key));
        let here = (first..last).filter_map(|place| table.key_at(place));
        let mut found: Vec<(Key, u64)> = Vec::with_capacity(2 * LARGEST_MAX);
        for key in before.chain(here) {
            let Some(weight) = table.get(key).map(&weigh).filter(|weight| *weight > 0) else { continue };
            found.push((key, weight));
            if found.len() == 2 * LARGEST_MAX {
                keep_largest(&mut found);
            }
        }
        keep_largest(&mut found);
        self.largest = found.iter().map(|(key, _)| *key).collect();
        found
    }
}

fn keep_largest(found: &mut Vec<(Key, u64)>) {
    found.sort_unstable_by_key(|(key, weight)| (std::cmp::Reverse(*weight), *key));
    found.truncate(LARGEST_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_found_a_part_at_a_time_and_kept() {
        let mut table = Slab::default();
        let keys: Vec<Key> = (0..3 * SURVEYED_MAX as usize).map(|_| table.insert(0_u64)).collect();
        for (place, weight) in [(3, 7), (5000, 9), (14_999, 8), (10_000, 1)] {
            *table.get_mut(keys[place]).unwrap() = weight;
        }
        let mut survey = Survey::default();
        let mut look = |table: &Slab<u64>| -> Vec<u64> {
            survey.largest(table, |weight| *weight).into_iter().map(|(_, weight)| weight).collect()
        };
        assert_eq!(look(&table), [7]);
        assert_eq!(look(&table), [9, 7]);
        assert_eq!(look(&table), [9, 8, 7, 1]);
        table.remove(keys[5000]);
        *table.get_mut(keys[3]).unwrap() = 0;
        *table.get_mut(keys[14_999]).unwrap() = 2;
        assert_eq!(look(&table), [2, 1], "what is gone or empty is not the largest any more");
        for key in keys.iter().take(100) {
            *table.get_mut(*key).unwrap() = u64::from(key.index) + 10;
        }
        (0..3).for_each(|_| drop(look(&table)));
        let found = look(&table);
        assert_eq!((found.len(), found[0], found[LARGEST_MAX - 1]), (LARGEST_MAX, 109, 90));
        assert!(Survey::default().largest(&Slab::default(), |weight: &u64| *weight).is_empty());
    }
}
