//! Which shard this is, for what is set up once a shard.

use crate::base::ids::ShardId;

/// Where a piece of user code runs: the shard's number and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// The shard's number.
    pub id: usize,
    /// How many shards the server has.
    pub shards: usize,
}

impl ShardInfo {
    pub(crate) fn new(id: ShardId, shards: usize) -> ShardInfo {
        ShardInfo { id: id.index(), shards }
    }
}
