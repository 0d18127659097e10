//! Bytes on their way out: pooled buffers and frames that many connections share.

use std::sync::Arc;

/// Bytes encoded once and sent to many connections, on any shard.
pub(crate) type SharedFrame = Arc<Vec<u8>>;

/// Spare buffers a pool keeps; more are given back to the allocator.
pub(crate) const SPARE_BUFFERS_MAX: usize = 1024;

/// A spare value that keeps more memory than this is given back to the allocator, so that one large message does not
/// keep its memory for ever.
pub(crate) const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;

/// How many shared values a pool looks at before it makes a new one.
const SHARED_PROBES_MAX: usize = 4;

/// How many shared values a pool keeps for reuse.
pub(crate) const SHARED_SPARES_MAX: usize = 64;

/// Byte buffers for reuse within one shard.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    spare: Vec<Vec<u8>>,
}

impl BufferPool {
    /// An empty buffer, with the capacity of its last use.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back once nothing reads it any more.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let worth_keeping = (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if worth_keeping && self.spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// A value that a pool can give again.
pub(crate) trait Pooled: Default {
    /// The memory that it keeps while it waits for its next use.
    fn kept_bytes(&self) -> usize;
}

impl Pooled for Vec<u8> {
    fn kept_bytes(&self) -> usize {
        self.capacity()
    }
}

/// Shared values that come back by themselves: a value is free again when the pool holds the only
/// reference, so a receiver on another shard gives it back by dropping it. One that keeps much is not pooled.
#[derive(Debug)]
pub(crate) struct SharedPool<T> {
    values: Vec<Arc<T>>,
    next: usize,
}

impl<T> Default for SharedPool<T> {
    fn default() -> Self {
        SharedPool { values: Vec::new(), next: 0 }
    }
}

impl<T: Pooled> SharedPool<T> {
    /// Fills a free value and shares it. `fill` finds what the value's last use left in it.
    pub(crate) fn share(&mut self, fill: impl FnOnce(&mut T)) -> Arc<T> {
        for _ in 0..SHARED_PROBES_MAX.min(self.values.len()) {
            self.next = (self.next + 1) % self.values.len();
            if let Some(value) = Arc::get_mut(&mut self.values[self.next]) {
                fill(value);
                if value.kept_bytes() > SPARE_BUFFER_BYTES_MAX {
                    return self.values.swap_remove(self.next);
                }
                return Arc::clone(&self.values[self.next]);
            }
        }
        let mut value = T::default();
        fill(&mut value);
        let value = Arc::new(value);
        if self.values.len() < SHARED_SPARES_MAX && value.kept_bytes() <= SPARE_BUFFER_BYTES_MAX {
            self.values.push(Arc::clone(&value));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_value_is_used_again_only_when_nobody_holds_it() {
        let mut pool = SharedPool::<Vec<u8>>::default();
        let held = pool.share(|bytes| bytes.push(1));
        let other = pool.share(|bytes| bytes.push(2));
        assert_ne!(Arc::as_ptr(&held), Arc::as_ptr(&other));
        let freed = Arc::as_ptr(&held);
        drop(held);
        let again = pool.share(|bytes| bytes.push(3));
        assert_eq!((Arc::as_ptr(&again), again.as_slice()), (freed, &[1, 3][..]));
    }

    #[test]
    fn a_shared_value_that_is_large_goes_with_its_last_user() {
        let mut pool = SharedPool::<Vec<u8>>::default();
        for is_pooled in [false, true] {
            if is_pooled {
                drop(pool.share(|bytes| bytes.push(1)));
            }
            let large = pool.share(|bytes| bytes.resize(SPARE_BUFFER_BYTES_MAX + 1, 0));
            assert_eq!(Arc::strong_count(&large), 1, "nobody but its user holds it");
            assert!(pool.values.is_empty());
        }
        let held: Vec<_> = (0..2 * SHARED_SPARES_MAX).map(|_| pool.share(|bytes| bytes.push(1))).collect();
        drop(held);
        let kept: usize = pool.values.iter().map(|value| value.capacity()).sum();
        assert!(kept <= SHARED_SPARES_MAX * SPARE_BUFFER_BYTES_MAX);
    }
}
