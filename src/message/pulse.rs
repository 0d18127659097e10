//! A question to every shard: whether it still comes round to its inbox.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::ids::ShardId;

/// Which shards have answered.
#[derive(Debug)]
pub(crate) struct Pulse(Box<[AtomicBool]>);

impl Pulse {
    /// One that no shard has answered yet.
    pub(crate) fn new(shards: usize) -> Pulse {
        Pulse((0..shards).map(|_| AtomicBool::new(false)).collect())
    }

    /// A shard is there.
    pub(crate) fn answer(&self, shard: ShardId) {
        if let Some(answered) = self.0.get(shard.index()) {
            answered.store(true, Ordering::Release);
        }
    }

    /// The shards that have not answered.
    pub(crate) fn silent(&self) -> impl Iterator<Item = ShardId> {
        let shards = self.0.iter().enumerate();
        shards
            .filter(|(_, answered)| !answered.load(Ordering::Acquire))
            .map(|(shard, _)| ShardId(shard as u16))
    }
}
