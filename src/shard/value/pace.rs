//! How much one client has sent lately, and whether that is more than it may (`events_per_second_max`, `bytes_per_second_max`).

use std::time::Duration;

use crate::base::time::Time;
use crate::config::{EndpointSettings, RatePolicy};
use crate::shard::value::bucket::Bucket;

/// What one client has sent of what it may. It may have as much at once, after a pause, as in a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    events: Bucket,
    bytes: Bucket,
    /// What came last was beyond the limit, and the policy is not to delay: how long it would have taken, in milliseconds; else 0.
    beyond: u32,
    /// The log has said that this client sends too much.
    is_told: bool,
}

/// What is to be done with a message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paced {
    /// It is handled, and so is the next.
    On,
    /// It is handled, and the next waits for so long.
    Hold(Duration),
    /// It is dropped, if it may be; one that may not makes the next wait for so long.
    Drop(Duration),
    /// Its client is closed.
    Close,
}

impl Pace {
    /// A message of so many bytes has come.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize, now: Time, settings: &EndpointSettings) -> Paced {
        if settings.events_per_second_max == 0 && settings.bytes_per_second_max == 0 {
            return Paced::On;
        }
        if settings.rate_policy != RatePolicy::Delay {
            let has_room = self.wait(now, settings).is_zero();
            self.beyond = if has_room { 0 } else { price_millis(bytes, settings) };
            if !has_room {
                return match settings.rate_policy {
                    RatePolicy::Drop => Paced::Drop(self.price()),
                    RatePolicy::Delay | RatePolicy::Close => Paced::Close,
                };
            }
        }
        self.events.spend(1, now, settings.events_per_second_max);
        self.bytes.spend(bytes as u64, now, settings.bytes_per_second_max);
        if settings.rate_policy != RatePolicy::Delay {
            return Paced::On;
        }
        match self.wait(now, settings) {
            Duration::ZERO => Paced::On,
            wait => Paced::Hold(wait),
        }
    }

    /// How long the next message must wait, if those that are too many wait.
    #[inline]
    pub(crate) fn wait(&mut self, now: Time, settings: &EndpointSettings) -> Duration {
        let wait = |bucket: &mut Bucket, per_second| match per_second {
            0 => Duration::ZERO,
            per_second => bucket.wait(now, per_second, per_second),
        };
        let events = wait(&mut self.events, settings.events_per_second_max);
        events.max(wait(&mut self.bytes, settings.bytes_per_second_max))
    }

    /// Whether what came last is to be dropped if it can be.
    pub(crate) fn is_beyond(&self) -> bool {
        self.beyond > 0
    }

    /// How long what came last takes at the rate that its client may have.
    pub(crate) fn price(&self) -> Duration {
        Duration::from_millis(self.beyond.into())
    }

    /// Whether the log is to say so now: once for each client.
    pub(crate) fn must_tell(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }
}

/// How long a message takes at the rate that a client may have, in milliseconds: at least one.
fn price_millis(bytes: usize, settings: &EndpointSettings) -> u32 {
    let millis = |count: usize, per_second: usize| match per_second {
        0 => 1,
        per_second => (count as u64).saturating_mul(1000).div_ceil(per_second as u64),
    };
    let price = millis(1, settings.events_per_second_max).max(millis(bytes, settings.bytes_per_second_max));
    u32::try_from(price).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn settings(events: usize, bytes: usize, policy: RatePolicy) -> EndpointSettings {
        EndpointSettings {
            events_per_second_max: events,
            bytes_per_second_max: bytes,
            rate_policy: policy,
            ..EndpointSettings::new(&Config::default())
        }
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn each_policy_says_what_becomes_of_what_is_too_much() {
        // When, how many bytes, and what becomes of them.
        type Steps<'a> = &'a [(u64, usize, Paced)];
        let rows: [(RatePolicy, Steps<'_>); 3] = [
            (
                RatePolicy::Delay,
                &[
                    (0, 1, Paced::On),
                    // Two a second: the second takes the last, so the third waits half a second.
                    (0, 1, Paced::Hold(millis(500))),
                    (500, 1, Paced::Hold(millis(500))),
                    (2000, 1, Paced::On),
                    // A message that is larger than a second's worth is taken, and the next waits until it is paid for.
                    (9000, 350, Paced::Hold(millis(2510))),
                ],
            ),
            (
                RatePolicy::Drop,
                &[
                    (0, 1, Paced::On),
                    (0, 1, Paced::On),
                    (0, 1, Paced::Drop(millis(500))),
                    (0, 80, Paced::Drop(millis(800))),
                    (499, 1, Paced::Drop(millis(500))),
                    (500, 1, Paced::On),
                    (500, 1, Paced::Drop(millis(500))),
                ],
            ),
            (RatePolicy::Close, &[(0, 1, Paced::On), (0, 1, Paced::On), (0, 1, Paced::Close)]),
        ];
        for (policy, steps) in rows {
            let (mut pace, settings) = (Pace::default(), settings(2, 100, policy));
            for &(now, bytes, expected) in steps {
                assert_eq!(pace.charge(bytes, Time(now), &settings), expected, "{policy:?} {now}");
                assert_eq!(pace.is_beyond(), matches!(expected, Paced::Drop(_) | Paced::Close));
            }
        }
    }

    #[test]
    fn a_limit_that_is_off_limits_nothing() {
        for policy in [RatePolicy::Delay, RatePolicy::Drop, RatePolicy::Close] {
            let mut pace = Pace::default();
            let (events, bytes, off) =
                (settings(0, 100, policy), settings(2, 0, policy), settings(0, 0, policy));
            assert!((0..1000).all(|_| pace.charge(usize::MAX, Time(0), &off) == Paced::On));
            assert!((0..99).all(|_| pace.charge(1, Time(0), &events) == Paced::On));
            let mut pace = Pace::default();
            assert_eq!(pace.charge(usize::MAX, Time(0), &bytes), Paced::On);
        }
    }

    #[test]
    fn at_full_speed_a_client_gets_its_rate_and_no_more() {
        let (mut pace, settings) = (Pace::default(), settings(300, 0, RatePolicy::Delay));
        let mut now = Time(7);
        for _ in 0..300 + 3 * 300 {
            if let Paced::Hold(wait) = pace.charge(10, now, &settings) {
                now = now + wait;
            }
        }
        // The first second's worth at once, then three more seconds' worth; waits are whole milliseconds.
        assert!((3007..3015).contains(&now.0), "{now:?}");
    }
}
