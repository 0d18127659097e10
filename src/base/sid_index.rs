//! From an id to a place in a table, in five bytes an entry: the ids themselves stay in the table.

use hashbrown::HashTable;

use crate::base::ids::Sid;

/// Places by the ids of their tenants. The caller says which id a place has, for every place it put in.
#[derive(Debug, Default)]
pub(crate) struct SidIndex {
    places: HashTable<u32>,
}

impl SidIndex {
    /// Notes that `sid` is at `place`. No place is put in twice.
    pub(crate) fn insert(&mut self, sid: &Sid, place: u32, sid_at: impl Fn(u32) -> Option<Sid>) {
        let hash_at = |place: &u32| sid_at(*place).map_or(0, |sid| hash(&sid));
        self.places.insert_unique(hash(sid), place, hash_at);
    }

    /// Where `sid` is.
    pub(crate) fn find(&self, sid: &Sid, sid_at: impl Fn(u32) -> Option<Sid>) -> Option<u32> {
        self.places.find(hash(sid), |place| sid_at(*place).is_some_and(|other| other == *sid)).copied()
    }

    /// Forgets that `sid` is at `place`.
    pub(crate) fn remove(&mut self, sid: &Sid, place: u32) {
        if let Ok(entry) = self.places.find_entry(hash(sid), |other| *other == place) {
            entry.remove();
        }
    }

    /// How many places there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

/// An id is random already, and only ids that we made are put in: mixing its characters' bits is enough.
fn hash(sid: &Sid) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = sid.as_str().as_bytes();
    let words = bytes
        .chunks_exact(8)
        .map(|chunk| chunk.iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte)));
    words.fold(0, |hash: u64, word| (hash.rotate_left(25) ^ word).wrapping_mul(MIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{SID_RANDOM_BYTES, ShardId};

    #[test]
    fn what_is_put_in_is_found_until_it_is_taken_out() {
        let sids: Vec<Sid> = (0..1000_u32)
            .map(|number| {
                let mut random = [7; SID_RANDOM_BYTES];
                random[..4].copy_from_slice(&number.to_be_bytes());
                Sid::new(ShardId(1), random)
            })
            .collect();
        let sid_at = |place: u32| sids.get(place as usize).copied();
        let mut index = SidIndex::default();
        for (place, sid) in sids.iter().enumerate() {
            assert_eq!(index.find(sid, sid_at), None);
            index.insert(sid, place as u32, sid_at);
        }
        for (place, sid) in sids.iter().enumerate() {
            assert_eq!(index.find(sid, sid_at), Some(place as u32));
            index.remove(sid, place as u32);
            assert_eq!(index.find(sid, sid_at), None);
        }
        assert_eq!(index.len(), 0);
    }
}
