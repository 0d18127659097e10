//! How far each shard has got with its numbered events. Recovery must know that, also of shards that have sent this one no event.
//!
//! With recovery on, events that all shards may get are numbered by the shard that publishes them. A room's event goes to shards with
//! members only, so a shard gets some numbers of another and not the rest, in order. A gap does not mean a loss. What has to be
//! known now and then is that *everything up to a number that comes here has come*. [`Published`] says it; shards that do not ask
//! get no message for it.
//!
//! A shard stores `begun` before it looks up who gets the event, and `done` after it has sent it. Hence two facts:
//!
//! * Who sets a bit of [`Interest`](crate::mesh::interest::Interest) and reads `begun` after it, gets every event with a larger
//!   number. For had the look-up of that event not seen the bit, it would come before the setting in the single order that all
//!   these operations have (they are sequentially consistent), and `begun` before the look-up, so the reading would have found it.
//! * Who reads `done`, then puts a message into its own inbox and takes it out again, has taken out before it everything up to that
//!   number that concerns it: it was in the inbox earlier, and an inbox keeps its order.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crate::base::ids::ShardId;

/// The numbers of all shards.
#[derive(Debug)]
pub(crate) struct Published {
    shards: Box<[Numbers]>,
}

/// One shard's, which it writes with every event: alone in its cache lines, of which processors fetch two at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Numbers {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Published {
    pub(crate) fn new(shards: usize) -> Published {
        Published { shards: (0..shards).map(|_| Numbers::default()).collect() }
    }

    /// A shard is about to look up who gets the event with this number.
    pub(crate) fn begin(&self, shard: ShardId, number: u64) {
        if let Some(numbers) = self.shards.get(shard.index()) {
            numbers.begun.store(number, SeqCst);
        }
    }

    /// It has been sent to them.
    pub(crate) fn finish(&self, shard: ShardId, number: u64) {
        if let Some(numbers) = self.shards.get(shard.index()) {
            numbers.done.store(number, SeqCst);
        }
    }

    /// A shard's thread has ended: whatever it has begun, it sends nothing more of it.
    pub(crate) fn retire(&self, shard: ShardId) {
        if let Some(numbers) = self.shards.get(shard.index()) {
            numbers.done.store(numbers.begun.load(SeqCst), SeqCst);
        }
    }

    /// The last number of each shard that may have been looked up.
    pub(crate) fn begun(&self) -> Box<[u64]> {
        self.shards.iter().map(|numbers| numbers.begun.load(SeqCst)).collect()
    }

    /// The last number of each shard that was sent.
    pub(crate) fn done(&self) -> Box<[u64]> {
        self.shards.iter().map(|numbers| numbers.done.load(SeqCst)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_begun_before_it_is_done_and_each_shard_has_its_own() {
        let published = Published::new(2);
        published.begin(ShardId(1), 7);
        assert_eq!((&*published.begun(), &*published.done()), (&[0, 7][..], &[0, 0][..]));
        published.finish(ShardId(1), 7);
        published.begin(ShardId(0), 1);
        published.begin(ShardId(5), 1);
        assert_eq!((&*published.begun(), &*published.done()), (&[1, 7][..], &[0, 7][..]));
    }
}
