//! A token bucket: so many a second, and so many at once after a pause.

use std::time::Duration;

use crate::base::time::Time;

/// Thousandths of what is counted: what comes back in a millisecond at one a second.
const PARTS: u64 = 1000;

/// What was taken and has not come back. A new one is full.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    spent: u64,
    since: Time,
}

impl Bucket {
    /// Takes one of `per_second` a second and `burst` at once; when none is left, how long until there is one.
    pub(crate) fn take(&mut self, now: Time, per_second: usize, burst: usize) -> Result<(), Duration> {
        self.charge(1, now, per_second, burst)
    }

    /// Takes `cost` as soon as there is one: what goes beyond is owed, and waited for by the next.
    pub(crate) fn charge(
        &mut self,
        cost: u64,
        now: Time,
        per_second: usize,
        burst: usize,
    ) -> Result<(), Duration> {
        let wait = self.wait(now, per_second, burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.spend(cost, now, per_second);
        Ok(())
    }

    /// How long until there is one: zero when there is.
    pub(crate) fn wait(&mut self, now: Time, per_second: usize, burst: usize) -> Duration {
        self.refill(now, per_second);
        let most = (burst.max(1) as u64).saturating_mul(PARTS);
        let missing = self.spent.saturating_add(PARTS).saturating_sub(most);
        Duration::from_millis(missing.div_ceil(per_second.max(1) as u64))
    }

    /// Takes one that may not be there yet, unless that takes longer than `patience`: how long until it is.
    pub(crate) fn reserve(
        &mut self,
        now: Time,
        per_second: usize,
        patience: Duration,
    ) -> Result<Duration, Duration> {
        let wait = self.wait(now, per_second, per_second);
        if wait > patience {
            return Err(wait);
        }
        self.spend(1, now, per_second);
        Ok(wait)
    }

    /// Takes `cost`, whether it is there or not: what is not is waited for by the next.
    #[inline]
    pub(crate) fn spend(&mut self, cost: u64, now: Time, per_second: usize) {
        self.refill(now, per_second);
        self.spent = self.spent.saturating_add(cost.saturating_mul(PARTS));
    }

    fn refill(&mut self, now: Time, per_second: usize) {
        if now <= self.since {
            return;
        }
        let millis = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.spent = self.spent.saturating_sub(millis.saturating_mul(per_second as u64));
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When somebody asks for more than there is, and how many are given then.
    type Steps = &'static [(u64, usize)];

    #[test]
    fn it_gives_a_burst_and_then_so_many_a_second() {
        // Per second, burst.
        let rows: [(usize, usize, Steps); 4] = [
            (10, 20, &[(0, 20), (50, 0), (100, 1), (1100, 10), (60_000, 20)]),
            (1, 1, &[(5, 1), (1004, 0), (1005, 1), (2004, 0), (9000, 1)]),
            (1000, 1, &[(7, 1), (8, 1), (9, 1), (20, 1)]),
            (3, 3, &[(0, 3), (333, 0), (334, 1), (667, 1), (1000, 1)]),
        ];
        for (per_second, burst, steps) in rows {
            let mut bucket = Bucket::default();
            for &(now, expected) in steps {
                let given =
                    (0..100).take_while(|_| bucket.take(Time(now), per_second, burst).is_ok()).count();
                assert_eq!(given, expected, "{per_second} a second, {burst} at once, at {now}");
            }
        }
    }

    #[test]
    fn it_says_when_there_is_one_again_and_then_there_is() {
        for (per_second, burst) in [(1, 1), (3, 2), (10, 5), (999, 7), (1_000_000, 1)] {
            let mut bucket = Bucket::default();
            let mut now = Time(12);
            for _ in 0..200 {
                if let Err(wait) = bucket.take(now, per_second, burst) {
                    assert!(wait >= Duration::from_millis(1));
                    let early = Time((now + wait).0 - 1);
                    assert!(bucket.clone().take(early, per_second, burst).is_err() || early <= now);
                    now = now + wait;
                    assert_eq!(bucket.take(now, per_second, burst), Ok(()), "{per_second} {burst}");
                }
            }
        }
    }

    #[test]
    fn no_time_and_no_number_is_too_large_for_it() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(Time(u64::MAX - 1), usize::MAX, usize::MAX), Ok(()));
        assert!(bucket.take(Time(0), usize::MAX, 1).is_err(), "a time that went back gives nothing");
        assert!(bucket.take(Time(0), 1, 1).is_err());
        assert!(bucket.take(Time(u64::MAX - 1), 0, 0).is_err());
    }
}
