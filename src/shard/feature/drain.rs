//! How far the end of a shard has come.

use std::time::Duration;

use rand_core::RngCore;

use crate::base::slab::Key;
use crate::base::time::Time;

/// How often sessions are sent away while a shard drains.
pub(crate) const DRAIN_STEP: Duration = Duration::from_millis(50);

/// With recovery on, what other threads say reaches a shard through one shard that relays it. A shard that is asked to stop waits so
/// long for the relaying shard, which may be stuck.
pub(crate) const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// Sessions of a process that end in a second unless `shutdown_spread` says otherwise, as in Phoenix. To come back costs the process
/// that they come to some 20 us each, and 120 us more with TLS: it has most of a core left.
const ENDED_PER_SECOND: u64 = 5_000;

/// The longest that this takes: Kubernetes ends a process 30 s after it has asked, and `shutdown_timeout` follows.
const AUTO_SPREAD_MAX: Duration = Duration::from_secs(25);

/// A process that has taken over the listeners accepts from now on; those whom this one has accepted are let in for so long.
pub(crate) const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);

/// Requests to stop: how many have come, and how many are done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stops {
    pub(crate) asked: u32,
    pub(crate) done: u32,
    /// Until when this shard waits for the broker to take its sockets; nothing before it has to.
    pub(crate) leaves_until: Option<Time>,
}

/// How far the end of a shard has come: it waits until `begin`, then ends its sessions over `spread`.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) begin: Time,
    pub(crate) ending: Option<Ending>,
}

/// Sessions that end one after another.
#[derive(Debug)]
pub(crate) struct Ending {
    /// When the last session ends.
    until: Time,
    spread: Duration,
    /// When the clients have had their time to take what they are owed.
    pub(crate) stop_by: Time,
    /// The sessions there were when it began. The first `ended` of them have ended, in the order in which they stand; the order of
    /// the others is yet to be chosen.
    sessions: Vec<Key>,
    ended: usize,
}

impl Ending {
    pub(crate) fn new(sessions: Vec<Key>, now: Time, (spread, patience): (Duration, Duration)) -> Ending {
        let until = now + spread;
        Ending { until, spread, stop_by: until + patience, sessions, ended: 0 }
    }

    /// It is to be over at once.
    pub(crate) fn hurry(&mut self, now: Time, patience: Duration) {
        self.stop_by = self.stop_by.min(now + patience);
    }

    /// How many sessions should have ended by now.
    fn due(&self, now: Time) -> usize {
        let left = if self.until > now { self.until.since(now) } else { Duration::ZERO };
        let kept = (self.sessions.len() as u128 * left.as_micros()).div_ceil(self.spread.as_micros().max(1));
        self.sessions.len().saturating_sub(kept as usize)
    }

    /// Those that are due, each chosen at random: clients that came together, in one second after another restart, say, or to one
    /// room, come back apart.
    pub(crate) fn take_due(&mut self, now: Time, random: &mut impl RngCore) -> Vec<Key> {
        let from = self.ended;
        while self.ended < self.due(now) {
            let left = (self.sessions.len() - self.ended) as u64;
            self.sessions.swap(self.ended, self.ended + (random.next_u64() % left) as usize);
            self.ended += 1;
        }
        self.sessions[from..self.ended].to_vec()
    }

    /// So many of those that were due have yet to end.
    pub(crate) fn give_back(&mut self, sessions: usize) {
        self.ended = self.ended.saturating_sub(sessions);
    }

    /// Nothing is left to be spread: all have ended, or the time for it is over.
    pub(crate) fn is_done(&self, now: Time) -> bool {
        now >= self.until || self.ended >= self.sessions.len()
    }
}

/// How long the sessions of a shard end, as there are so many in the whole process.
pub(crate) fn auto_spread(sessions: u64) -> Duration {
    let spread = Duration::from_micros(sessions.saturating_mul(1_000_000) / ENDED_PER_SECOND);
    if spread < DRAIN_STEP { Duration::ZERO } else { spread.min(AUTO_SPREAD_MAX) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn keys(count: u32) -> Vec<Key> {
        (0..count).map(|index| Key { index, generation: 0 }).collect()
    }

    #[test]
    fn sessions_are_due_in_proportion() {
        let ending = Ending::new(keys(7), Time(0), (Duration::from_secs(10), Duration::ZERO));
        let due = |now| ending.due(Time(now));
        assert_eq!([0, 1, 1_428, 1_429, 5_000, 9_999, 10_000, 20_000].map(due), [0, 0, 0, 1, 3, 6, 7, 7]);
    }

    #[test]
    fn each_session_ends_once_and_the_order_is_the_seeds() {
        let order = |seed| {
            let mut random = ChaCha12Rng::seed_from_u64(seed);
            let mut ending = Ending::new(keys(100), Time(0), (Duration::from_secs(10), Duration::ZERO));
            let steps = (0..=200).flat_map(|step| ending.take_due(Time(step * 50), &mut random));
            let order: Vec<u32> = steps.map(|key| key.index).collect();
            assert!(ending.is_done(Time(0)));
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 100);
            order
        };
        let (one, other) = (order(1), order(2));
        assert_eq!((one.len(), other.len()), (100, 100));
        assert_ne!(one, other);
        assert_ne!(one, (0..100).collect::<Vec<_>>(), "not as they stand in the table");
    }

    #[test]
    fn sessions_that_are_given_back_end_later() {
        let mut random = ChaCha12Rng::seed_from_u64(1);
        let mut ending = Ending::new(keys(10), Time(0), (Duration::from_secs(10), Duration::ZERO));
        let mut ended = Vec::new();
        for second in 1..=9 {
            let due = ending.take_due(Time(second * 1000), &mut random);
            // Every third second nobody may go, as the broker has no room.
            let kept = if second % 3 == 0 { due.len() } else { 0 };
            ending.give_back(kept);
            ended.extend_from_slice(&due[kept..]);
            assert!(!ending.is_done(Time(second * 1000)));
        }
        assert_eq!((ended.len(), ended.iter().map(|key| key.index).collect::<BTreeSet<_>>().len()), (8, 8));
        assert_eq!(ending.take_due(Time(10_000), &mut random).len(), 2);
        ending.give_back(2);
        assert!(ending.is_done(Time(10_000)), "the time for it is over");
    }

    #[test]
    fn the_spread_follows_the_number_of_sessions() {
        let rows = [
            (0, 0),
            (249, 0),
            (250, 50),
            (5_000, 1_000),
            (100_000, 20_000),
            (125_001, 25_000),
            (u64::MAX, 25_000),
        ];
        for (sessions, millis) in rows {
            assert_eq!(auto_spread(sessions), Duration::from_millis(millis), "{sessions}");
        }
    }
}
