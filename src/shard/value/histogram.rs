//! How often a value was how large: one thread counts, any thread reads. A value costs two loads and two stores.
//!
//! Log-linear: four buckets an octave, so that a bucket's bounds are at most a quarter apart. A value lies in the bucket whose upper
//! bound it does not exceed, so counts up to a power of two are exact, and these are what is shown.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shard::value::counter::Counter;

/// Buckets for each doubling.
const PER_OCTAVE: usize = 4;

/// Larger values are counted as this power of two.
const OCTAVES: usize = 40;

/// The first octaves have whole numbers of their own.
const BUCKETS: usize = PER_OCTAVE * (OCTAVES - 1);

/// Counts of values by size, since the server began. Whoever records says in which unit.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64; BUCKETS]>,
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum: Counter::default() }
    }
}

/// What histograms hold at one moment, maybe of several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Histogram {
    /// Counts a value. Only one thread may.
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        self.count(value);
        self.sum.add(value);
    }

    /// Counts a time by its microseconds, rounded up. The sum has its nanoseconds.
    #[inline]
    pub(crate) fn record_nanos(&self, nanos: u64) {
        self.count(nanos.div_ceil(1000));
        self.sum.add(nanos);
    }

    #[inline]
    fn count(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(value)) {
            // One writer: no locked instruction is needed.
            bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Adds what is in it to `counts`.
    pub(crate) fn add_to(&self, counts: &mut Counts) {
        for (sum, bucket) in counts.buckets.iter_mut().zip(self.buckets.iter()) {
            *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        counts.sum = counts.sum.wrapping_add(self.sum.get());
    }
}

impl Counts {
    /// How many values were at most this, which is a power of two.
    pub(crate) fn up_to(&self, bound: u64) -> u64 {
        self.buckets.iter().take(bucket_of(bound) + 1).sum()
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }
}

/// The bucket of a value: 0 and 1 are in the first.
#[inline]
fn bucket_of(value: u64) -> usize {
    let below = value.saturating_sub(1).min((1 << OCTAVES) - 1);
    if below < PER_OCTAVE as u64 {
        return below as usize;
    }
    let octave = below.ilog2() as usize;
    let quarter = (below >> (octave - 2)) as usize & (PER_OCTAVE - 1);
    (octave - 1) * PER_OCTAVE + quarter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(histogram: &Histogram) -> Counts {
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        counts
    }

    #[test]
    fn counts_up_to_a_power_of_two_are_exact() {
        let histogram = Histogram::default();
        let values: Vec<u64> =
            (0..2000).chain([65_535, 65_536, 65_537, 1 << 39, (1 << 40) - 1, u64::MAX]).collect();
        values.iter().for_each(|value| histogram.record(*value));
        let counts = counts(&histogram);
        assert_eq!(counts.count(), values.len() as u64);
        for bound in (0..=40).map(|power| 1 << power) {
            let expected = values.iter().filter(|value| **value <= bound).count() as u64;
            // Beyond the largest bound everything is counted as that.
            let expected = if bound == 1 << 40 { counts.count() } else { expected };
            assert_eq!(counts.up_to(bound), expected, "up to {bound}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = bucket_of(0);
        for value in 1..100_000 {
            let bucket = bucket_of(value);
            assert!(bucket == last || bucket == last + 1, "{value}");
            last = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_sum_is_that_of_the_values_and_of_several_histograms() {
        let (one, other) = (Histogram::default(), Histogram::default());
        [0, 1, 7, 1000].iter().for_each(|value| one.record(*value));
        other.record(2);
        let mut all = counts(&one);
        other.add_to(&mut all);
        assert_eq!((counts(&one).up_to(8), counts(&one).sum()), (3, 1008));
        assert_eq!((all.up_to(8), all.count(), all.sum()), (4, 5, 1010));
    }

    #[test]
    fn a_time_below_a_microsecond_is_in_the_sum() {
        let histogram = Histogram::default();
        [0, 300, 1000, 1001, 4_000_000].iter().for_each(|nanos| histogram.record_nanos(*nanos));
        let counts = counts(&histogram);
        assert_eq!((counts.up_to(1), counts.up_to(2), counts.up_to(4096)), (3, 4, 5));
        assert_eq!(counts.sum(), 4_002_301);
    }
}
