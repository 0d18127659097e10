//! Which wire each connection of some shards has, kept by the connection's place, as drivers keep it.
//!
//! A shard that gives a place out again before the wire that had it is closed fails here, as it would in a driver.

use crate::base::places::Places;
use crate::base::slab::Key;

/// The wires of some shards' connections.
#[derive(Debug)]
pub(crate) struct WirePlaces<W>(Vec<Places<(Key, W)>>);

impl<W: Copy> WirePlaces<W> {
    /// No wires of so many shards.
    pub(crate) fn new(shards: usize) -> WirePlaces<W> {
        WirePlaces((0..shards).map(|_| Places::default()).collect())
    }

    /// A connection of a shard has this wire.
    pub(crate) fn put(&mut self, shard: usize, key: Key, wire: W) {
        self.0[shard].put(key.index, (key, wire));
    }

    /// The wire of a connection that is there.
    pub(crate) fn get(&self, shard: usize, key: Key) -> Option<W> {
        self.0[shard].get(key.index).filter(|(held, _)| *held == key).map(|(_, wire)| *wire)
    }

    /// The connection is gone, and its place is free.
    pub(crate) fn take(&mut self, shard: usize, key: Key) -> Option<W> {
        self.get(shard, key)?;
        self.0[shard].take(key.index).map(|(_, wire)| wire)
    }
}
