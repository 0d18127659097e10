//! Keeps the shards level: a connection that the kernel's hash gave to a crowded shard goes to the emptiest.
//!
//! SO_REUSEPORT spreads by a hash of addresses and ports, which is only level on average: after a mass
//! reconnect some shards hold far more than others. Each shard counts its connections where all can see, and
//! compares when it accepts. Counts change on accept and close only, never for a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::ids::ShardId;

/// A shard gives a new connection away when it holds more than the emptiest by this part of it...
const EXCESS_DIVISOR: usize = 32;

/// ...and by at least this many: a few connections are no crowd, and handing over costs a wake.
const EXCESS_MIN: usize = 8;

/// One shard's count, on a cache line of its own.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Load(AtomicUsize);

/// How many connections every shard holds or is about to get.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    loads: Arc<[Load]>,
}

impl Balance {
    pub(crate) fn new(shards: usize) -> Balance {
        Balance { loads: (0..shards).map(|_| Load::default()).collect() }
    }

    /// Where a connection that `here` accepted should live. It is counted there.
    pub(crate) fn place(&self, here: ShardId) -> ShardId {
        let own = self.load(here);
        let emptiest = (0..self.loads.len()).min_by_key(|&index| self.loads[index].0.load(Ordering::Relaxed));
        let emptiest = ShardId(emptiest.unwrap_or(here.index()) as u16);
        let least = self.load(emptiest);
        let place = if own > least + (least / EXCESS_DIVISOR).max(EXCESS_MIN) { emptiest } else { here };
        self.arrive(place);
        place
    }

    /// A connection came to a shard by another way: a handoff for its session's sake.
    pub(crate) fn arrive(&self, shard: ShardId) {
        if let Some(load) = self.loads.get(shard.index()) {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection of a shard is gone, or went to another.
    pub(crate) fn leave(&self, shard: ShardId) {
        if let Some(load) = self.loads.get(shard.index()) {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A shard is gone: new connections are placed on other shards.
    pub(crate) fn retire(&self, shard: ShardId) {
        if let Some(load) = self.loads.get(shard.index()) {
            load.0.store(usize::MAX / 2, Ordering::Relaxed);
        }
    }

    fn load(&self, shard: ShardId) -> usize {
        self.loads.get(shard.index()).map_or(0, |load| load.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uneven_hash_ends_within_a_tenth() {
        for shards in [2, 3, 8] {
            let balance = Balance::new(shards);
            // The worst hash there is: everything arrives at one shard.
            for _ in 0..10_000 {
                balance.place(ShardId(0));
            }
            let loads: Vec<usize> = (0..shards).map(|shard| balance.load(ShardId(shard as u16))).collect();
            let (least, most) = (loads.iter().min().copied(), loads.iter().max().copied());
            assert!(most <= least.map(|least| least * 11 / 10), "{loads:?}");
            assert_eq!(loads.iter().sum::<usize>(), 10_000);
        }
    }

    #[test]
    fn a_few_connections_stay_where_they_arrive() {
        let balance = Balance::new(4);
        for _ in 0..8 {
            assert_eq!(balance.place(ShardId(2)), ShardId(2));
        }
        balance.leave(ShardId(2));
        assert_eq!(balance.place(ShardId(2)), ShardId(2));
    }

    #[test]
    fn a_shard_that_is_gone_gets_nothing() {
        let balance = Balance::new(3);
        balance.retire(ShardId(1));
        balance.leave(ShardId(1));
        for _ in 0..1000 {
            assert_ne!(balance.place(ShardId(0)), ShardId(1));
        }
    }
}
