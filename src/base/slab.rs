//! A dense table whose keys outlive their entries safely.
//!
//! A key carries the generation of the entry it was made for, so a key kept after `remove` finds nothing,
//! even when the place is taken again. Iteration runs in memory order. The table grows by chunks that stay where they are: no
//! connection waits while a large table is copied, and no memory is left behind by smaller ones.

/// A place in a [`Slab`] together with the generation of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Entries of one chunk, as a power of two.
const CHUNK_BITS: u32 = 8;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A table of `T` with stable, generation-checked keys.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Entry<T>; CHUNK_LEN]>>,
    /// Places that were ever taken.
    places: usize,
    /// Vacant places, the most recently left last: it is the one still in the cache.
    vacant: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), places: 0, vacant: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts `value` into a vacant place.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.vacant.pop() {
            let entry = self.entry_mut(index).expect("a vacant place is a place");
            assert!(entry.value.is_none(), "a vacant place holds nothing");
            entry.value = Some(value);
            return Key { index, generation: entry.generation };
        }
        let index = u32::try_from(self.places).expect("a shard holds fewer than 2^32 entries");
        if self.places == self.chunks.len() * CHUNK_LEN {
            self.chunks.push(Box::new(std::array::from_fn(|_| Entry { generation: 0, value: None })));
        }
        self.places += 1;
        if let Some(entry) = self.entry_mut(index) {
            entry.value = Some(value);
        }
        Key { index, generation: 0 }
    }

    /// Takes the entry out; its key finds nothing from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry_mut(key.index)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.vacant.push(key.index);
        Some(value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entry(key.index)?;
        if entry.generation == key.generation { entry.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entry_mut(key.index)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    /// The tenant of a place, whatever its generation.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.entry(index)?.value.as_ref()
    }

    /// The tenant of a place, whatever its generation, to change.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entry_mut(index)?.value.as_mut()
    }

    /// The key of a place's present tenant.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let entry = self.entry(index)?;
        entry.value.as_ref().map(|_| Key { index, generation: entry.generation })
    }

    /// How many places there are, vacant ones included: each is below this.
    pub(crate) fn places(&self) -> u32 {
        self.places as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.places - self.vacant.len()
    }

    /// Every key in use, in memory order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.keys_from(0)
    }

    /// Every key in use from a place on, in memory order.
    pub(crate) fn keys_from(&self, place: u32) -> impl Iterator<Item = Key> + '_ {
        (place..self.places as u32).filter_map(|index| self.key_at(index))
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        Some(&self.chunks.get((index >> CHUNK_BITS) as usize)?[index as usize % CHUNK_LEN])
    }

    #[inline]
    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry<T>> {
        Some(&mut self.chunks.get_mut((index >> CHUNK_BITS) as usize)?[index as usize % CHUNK_LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_after_its_place_is_taken_again() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(first.index, second.index, "the place is reused");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!((slab.len(), slab.keys().collect::<Vec<_>>()), (1, vec![second]));
    }

    #[test]
    fn places_are_in_order_across_chunks_and_stay_where_they_are() {
        let mut slab = Slab::default();
        let keys: Vec<Key> = (0..3 * CHUNK_LEN + 1).map(|number| slab.insert(number)).collect();
        let place = slab.get(keys[CHUNK_LEN]).map(std::ptr::from_ref);
        for (number, key) in keys.iter().enumerate() {
            assert_eq!((key.index as usize, slab.get(*key)), (number, Some(&number)));
        }
        assert_eq!(slab.at(keys.len() as u32), None);
        keys.iter().step_by(2).for_each(|key| assert_eq!(slab.remove(*key), Some(key.index as usize)));
        assert_eq!(slab.len(), keys.len() / 2);
        assert!(slab.keys().eq(keys.iter().skip(1).step_by(2).copied()));
        for number in 0..3 * CHUNK_LEN {
            slab.insert(number);
        }
        assert_eq!(slab.get(keys[CHUNK_LEN + 1]).copied(), Some(CHUNK_LEN + 1));
        assert_ne!(slab.get(keys[CHUNK_LEN + 1]).map(std::ptr::from_ref), place);
        assert_eq!(slab.at(keys[CHUNK_LEN].index).map(std::ptr::from_ref), place, "nothing was moved");
    }
}
