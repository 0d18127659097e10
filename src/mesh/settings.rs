//! Settings that have changed while the server runs: the newest configuration, for every shard to take when it looks into its inbox.
//!
//! No inbox holds it, so that it reaches a shard whose inbox is full. Of several that come one soon after the other a shard takes the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
// It is held while a pointer is copied, when settings have changed.
#[allow(clippy::disallowed_types)]
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Config;

/// The newest configuration, if there was a newer one than at the start.
#[allow(clippy::disallowed_types)]
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    /// How often there was a newer one.
    count: AtomicU32,
    newest: Mutex<Option<Arc<Config>>>,
}

impl Renewals {
    pub(super) fn publish(&self, config: Arc<Config>) {
        let mut newest = self.lock();
        *newest = Some(config);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How often settings have changed.
    #[inline]
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The newest configuration, with how many there were.
    pub(super) fn take(&self) -> (u32, Option<Arc<Config>>) {
        let newest = self.lock();
        (self.count(), newest.clone())
    }

    #[allow(clippy::disallowed_types)]
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Config>>> {
        // Nobody panics while holding it: what it guards is whole.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::base::ids::{ShardId, Sid};
    use crate::mesh::{Bell, Mesh, ShardMessage};

    struct CountingBell(Arc<AtomicUsize>);

    impl Bell for CountingBell {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn newer_settings_reach_a_full_inbox_and_the_last_of_them_counts() {
        let rings = Arc::new(AtomicUsize::new(0));
        let (mesh, receivers) = Mesh::new(vec![Box::new(CountingBell(Arc::clone(&rings)))]);
        let settings = |shards| Arc::new(Config { shards, ..Config::default() });
        assert!(mesh.fall_asleep(ShardId(0), &receivers[0]));
        mesh.renew_settings(settings(1));
        assert_eq!(rings.load(Ordering::Relaxed), 1, "a sleeper is woken for it");
        assert!(!mesh.fall_asleep(ShardId(0), &receivers[0]), "nobody sleeps through it");
        let trace = || ShardMessage::Trace { sid: Sid::new(ShardId(0), [0; 13]), is_on: true };
        while mesh.send(ShardId(0), trace()).is_ok() {}
        mesh.renew_settings(settings(2));
        assert!(
            matches!(receivers[0].next_message(), Some(ShardMessage::Settings(config)) if config.shards == 2)
        );
        assert!(matches!(receivers[0].next_message(), Some(ShardMessage::Trace { .. })), "it is given once");
    }
}
