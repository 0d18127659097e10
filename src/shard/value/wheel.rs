//! The timer wheel: one per shard, hashed, with lazy cancellation.
//!
//! An entry is a few words in its slot's list. Cancelling does nothing: an entry whose owner is gone or has a
//! later deadline is dropped or moved when its slot comes round, or, where there are many of them, by a sweep before that.
//! The tick follows the shortest configured time.

use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;

/// Slots of the wheel. With the longest tick one turn is 25.6 s, a ping interval.
const SLOTS: usize = 512;

/// The longest tick: deadlines are at most this late.
const TICK_MAX: Duration = Duration::from_millis(50);

/// The shortest tick: with a shorter one an idle shard would wake more often, without need.
const TICK_MIN: Duration = Duration::from_millis(1);

/// A tick is this fraction of the shortest configured time.
const TICKS_PER_SHORTEST: u32 = 20;

/// With a time shorter than this every tick is the shortest: who sets such times counts milliseconds.
const SHORT_TIME: Duration = Duration::from_secs(1);

/// Slots that one sweep looks at: a small share of a turn, and 32 sweeps have seen them all.
const SLOTS_SWEPT: usize = 16;

/// So many entries whose owner is gone are not worth a sweep: some 100 KB.
const STALE_MAX: usize = 4096;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerOwner {
    Connection(Key),
    Session(Key),
    /// A connection whose peer has sent more than it may in a second: when it goes on.
    Pace(Key),
    /// A socket that is not open yet: other shards are asked whether it was lost there.
    Recovery(Key),
    /// A socket whose token expires.
    Expiry(Key),
    /// The end of more sessions, while the shard drains; before that, the end of its patience with the shard that relays.
    Drain,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: TimerOwner,
    deadline: Time,
}

/// Deadlines of one shard, in slots of one tick.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<Vec<Entry>>,
    tick_millis: u64,
    /// The first tick not yet handled.
    cursor: u64,
    /// The first tick from the cursor on whose slot holds anything; found again when it has passed.
    next: u64,
    len: usize,
    /// The slot at which the next sweep begins.
    swept: usize,
}

impl Wheel {
    /// A wheel whose tick suits the shortest of the configured times.
    pub(crate) fn new(shortest: Duration, now: Time) -> Wheel {
        let part = if shortest < SHORT_TIME { TICK_MIN } else { shortest / TICKS_PER_SHORTEST };
        let tick = part.clamp(TICK_MIN, TICK_MAX);
        let tick_millis = tick.as_millis() as u64;
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            tick_millis,
            cursor: now.0 / tick_millis,
            next: u64::MAX,
            len: 0,
            swept: 0,
        }
    }

    /// Asks to be told at the first tick that is not before `deadline`.
    pub(crate) fn arm(&mut self, owner: TimerOwner, deadline: Time) {
        if deadline == Time::NEVER {
            return;
        }
        let tick = self.tick_of(deadline);
        self.slots[tick as usize % SLOTS].push(Entry { owner, deadline });
        self.len += 1;
        // An entry for a later turn of the wheel is looked at, and left, when its slot comes by.
        let passes = self.cursor + (tick - self.cursor) % SLOTS as u64;
        self.next = self.next.min(passes);
    }

    /// The time of the next slot that holds anything; `NEVER` when the wheel is empty.
    pub(crate) fn next_timeout(&self) -> Time {
        Time(self.next.saturating_mul(self.tick_millis))
    }

    /// How late a deadline may be told.
    pub(crate) fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_millis)
    }

    fn find_next(&self) -> u64 {
        if self.len == 0 {
            return u64::MAX;
        }
        let mut turn = self.cursor..self.cursor + SLOTS as u64;
        turn.find(|tick| !self.slots[*tick as usize % SLOTS].is_empty()).unwrap_or(u64::MAX)
    }

    /// Moves everything due at `now` into `due`, the earliest deadline first.
    /// An owner that has armed another deadline since tells by the time that this one is void.
    pub(crate) fn expire(&mut self, now: Time, due: &mut Vec<(TimerOwner, Time)>) {
        let last = now.0 / self.tick_millis;
        if last < self.next {
            self.cursor = self.cursor.max(last + 1);
            return;
        }
        let mut expired = Vec::new();
        for tick in self.cursor..=last.min(self.cursor + SLOTS as u64 - 1) {
            let slot = &mut self.slots[tick as usize % SLOTS];
            let before = slot.len();
            slot.retain(|entry| {
                let is_due = entry.deadline.0.div_ceil(self.tick_millis) <= last;
                if is_due {
                    expired.push(*entry);
                }
                !is_due
            });
            self.len -= before - slot.len();
            if slot.is_empty() && slot.capacity() > 1024 {
                *slot = Vec::new();
            }
        }
        self.cursor = last + 1;
        self.next = self.find_next();
        expired.sort_by_key(|entry| entry.deadline);
        due.extend(expired.iter().map(|entry| (entry.owner, entry.deadline)));
    }

    /// Drops entries whose owner is gone from some of the slots, if there must be many among all that there are: connections that come and go
    /// quickly leave each its entry for as long as its deadline was. `owners` is how many owners there are.
    pub(crate) fn sweep(&mut self, owners: usize, is_live: impl Fn(TimerOwner, Time) -> bool) {
        if self.len <= 2 * owners + STALE_MAX {
            return;
        }
        for _ in 0..SLOTS_SWEPT {
            let slot = &mut self.slots[self.swept];
            let before = slot.len();
            slot.retain(|entry| is_live(entry.owner, entry.deadline));
            self.len -= before - slot.len();
            if slot.capacity() > 4 * slot.len() + 64 {
                slot.shrink_to(2 * slot.len());
            }
            self.swept = (self.swept + 1) % SLOTS;
        }
    }

    /// How many entries there are, those whose owner is gone included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn tick_of(&self, deadline: Time) -> u64 {
        deadline.0.div_ceil(self.tick_millis).max(self.cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(index: u32) -> TimerOwner {
        TimerOwner::Session(Key { index, generation: 0 })
    }

    fn due(wheel: &mut Wheel, now: u64) -> Vec<TimerOwner> {
        let mut due = Vec::new();
        wheel.expire(Time(now), &mut due);
        due.into_iter().map(|(owner, _)| owner).collect()
    }

    #[test]
    fn deadlines_come_in_order_and_never_early() {
        let mut wheel = Wheel::new(Duration::from_millis(200), Time(0));
        wheel.arm(owner(1), Time(500));
        wheel.arm(owner(2), Time(300));
        wheel.arm(owner(3), Time(299));
        assert_eq!(wheel.next_timeout(), Time(299), "times below a second are kept to the millisecond");
        assert_eq!(due(&mut wheel, 298), vec![]);
        assert_eq!(due(&mut wheel, 300), vec![owner(3), owner(2)]);
        assert_eq!(due(&mut wheel, 499), vec![]);
        assert_eq!(due(&mut wheel, 5000), vec![owner(1)]);
        assert_eq!(wheel.next_timeout(), Time::NEVER);
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_its_own_turn() {
        let mut wheel = Wheel::new(Duration::from_secs(20), Time(0));
        let turn = 512 * 50;
        wheel.arm(owner(1), Time(3 * turn + 50));
        assert_eq!(due(&mut wheel, turn + 100), vec![]);
        assert_eq!(due(&mut wheel, 3 * turn), vec![]);
        assert_eq!(due(&mut wheel, 3 * turn + 50), vec![owner(1)]);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_the_next_tick() {
        let mut wheel = Wheel::new(Duration::from_millis(20), Time(1000));
        assert_eq!(due(&mut wheel, 1000), vec![]);
        wheel.arm(owner(1), Time(3));
        assert_eq!(wheel.next_timeout(), Time(1001));
        assert_eq!(due(&mut wheel, 1001), vec![owner(1)]);
    }

    #[test]
    fn what_belongs_to_nobody_is_swept_out_and_the_rest_comes_on_time() {
        let mut wheel = Wheel::new(Duration::from_secs(1), Time(0));
        let is_live = |owner: TimerOwner, _| matches!(owner, TimerOwner::Session(Key { index, .. }) if index % 100 == 0);
        let mut most = 0;
        for index in 0..100_000 {
            wheel.arm(owner(index), Time(60_000 + u64::from(index) / 10));
            if index % 100 == 99 {
                wheel.sweep(index as usize / 100, is_live);
            }
            most = most.max(wheel.len());
        }
        assert!(most < 20_000, "{most} entries where at most 1,000 are alive");
        let told = due(&mut wheel, 80_000).into_iter().filter(|owner| is_live(*owner, Time(0))).count();
        assert_eq!((told, wheel.len()), (1_000, 0));
    }

    proptest::proptest! {
        #[test]
        fn every_deadline_fires_once_within_a_tick(deadlines in proptest::collection::vec(0_u64..200_000, 1..50), step in 1_u64..4000) {
            let mut wheel = Wheel::new(Duration::from_secs(1), Time(0));
            for (index, deadline) in deadlines.iter().enumerate() {
                wheel.arm(owner(index as u32), Time(*deadline));
            }
            let mut fired = vec![None; deadlines.len()];
            let mut now = 0;
            while now <= 210_000 {
                for owner in due(&mut wheel, now) {
                    let TimerOwner::Session(key) = owner else { unreachable!() };
                    proptest::prop_assert!(fired[key.index as usize].replace(now).is_none());
                }
                now += step;
            }
            for (deadline, fired) in deadlines.iter().zip(fired) {
                let fired = fired.expect("fired");
                proptest::prop_assert!(fired >= *deadline && fired < deadline + 50 + step);
            }
        }
    }
}
