//! Which shard a key chooses.

use crate::base::ids::ShardId;

/// A key is hashed with this (FNV-1a, 64 bits).
const SHARD_KEY_HASH_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

const SHARD_KEY_HASH_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The shard where a key of our own, such as a state room's name, always leads.
pub(crate) fn shard_of_key(key: &str, shards: usize) -> ShardId {
    ShardId((hash_of_key(key, 0) % shards.max(1) as u64) as u16)
}

pub(crate) fn hash_of_key(key: &str, salt: u64) -> u64 {
    let bytes = salt.to_le_bytes().into_iter().filter(|_| salt != 0).chain(key.bytes());
    bytes
        .fold(SHARD_KEY_HASH_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(SHARD_KEY_HASH_PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_key_always_names_the_same_shard() {
        for shards in [1, 2, 3, 16] {
            for key in ["", "room-1", "room-2", "é"] {
                let shard = shard_of_key(key, shards);
                assert_eq!(shard, shard_of_key(key, shards));
                assert!(shard.index() < shards);
            }
        }
        let used: std::collections::BTreeSet<_> =
            (0..100).map(|index| shard_of_key(&format!("room-{index}"), 4)).collect();
        assert_eq!(used.len(), 4, "keys spread over the shards");
    }

    #[test]
    fn a_salt_moves_keys_where_nobody_outside_expects_them() {
        let places = |salt| (0..64).map(move |index| hash_of_key(&format!("room-{index}"), salt) % 4);
        let moved = places(7).zip(places(8)).filter(|(one, other)| one != other).count();
        assert!((24..=64).contains(&moved), "three in four, give or take: {moved}");
        assert_eq!(places(7).collect::<Vec<_>>(), places(7).collect::<Vec<_>>());
    }
}
