//! How many receive buffers the kernel is given: few while little comes, more at once when a receive found none, few again
//! after a quiet time. It only counts; `buffers.rs` has the memory.

use std::time::Duration;

use crate::base::time::Time;

/// Buffers that the kernel always has; a power of two.
pub(crate) const BUFFERS_MIN: u16 = 32;

/// Buffers that it has at most; a power of two.
pub(crate) const BUFFERS_MAX: u16 = 512;

/// Of the buffers that were added, as many are kept as were needed at most within such a time.
pub(crate) const BUFFERS_QUIET: Duration = Duration::from_secs(10);

const _: () = assert!(BUFFERS_MIN.is_power_of_two() && BUFFERS_MAX.is_power_of_two());
const _: () = assert!(BUFFERS_MIN <= BUFFERS_MAX);

/// What the buffers of one shard were asked for.
#[derive(Debug)]
pub(crate) struct Demand {
    /// Buffers that the kernel should have.
    wanted: u16,
    /// Buffers that were filled in this turn.
    filled: usize,
    /// Receives of this turn that found none.
    refused: usize,
    /// The most that one turn of the present period needed.
    peak: usize,
    /// When the period ends. `Time::NEVER` while there is nothing to take back.
    ends: Time,
}

impl Demand {
    pub(crate) fn new() -> Demand {
        Demand { wanted: BUFFERS_MIN, filled: 0, refused: 0, peak: 0, ends: Time::NEVER }
    }

    pub(crate) fn wanted(&self) -> u16 {
        self.wanted
    }

    /// A buffer was filled.
    pub(crate) fn filled(&mut self) {
        self.filled += 1;
    }

    /// A receive found no buffer.
    pub(crate) fn refused(&mut self) {
        self.refused += 1;
    }

    /// When [`Demand::shrink`] has something to do; `Time::NEVER` if it has not.
    pub(crate) fn shrinks_at(&self) -> Time {
        self.ends
    }

    /// Ends a turn: more are wanted if any receive found none, or if three quarters of them were filled.
    pub(crate) fn end_turn(&mut self, now: Time) {
        let refused = std::mem::take(&mut self.refused);
        let needed = std::mem::take(&mut self.filled) + refused;
        self.peak = self.peak.max(needed);
        let is_low = refused > 0 || needed * 4 >= usize::from(self.wanted) * 3;
        if !is_low || self.wanted == BUFFERS_MAX {
            return;
        }
        // Where few were filled and yet there was none, the others wait to be read: twice as many are tried.
        let twice = if refused > 0 { self.wanted.saturating_mul(2).min(BUFFERS_MAX) } else { self.wanted };
        self.wanted = enough_for(needed).max(twice);
        if self.ends == Time::NEVER {
            self.ends = now + BUFFERS_QUIET;
        }
    }

    /// Once a period is over: true if it needed fewer than are wanted, which are now as many as that.
    pub(crate) fn shrink(&mut self, now: Time) -> bool {
        if now < self.ends {
            return false;
        }
        let before = self.wanted;
        self.wanted = enough_for(std::mem::take(&mut self.peak)).min(before);
        self.ends = if self.wanted == BUFFERS_MIN { Time::NEVER } else { now + BUFFERS_QUIET };
        self.wanted < before
    }
}

/// Twice what a turn needed, so that one that needs a little more finds enough.
fn enough_for(needed: usize) -> u16 {
    let twice = u16::try_from(needed * 2).unwrap_or(BUFFERS_MAX).min(BUFFERS_MAX);
    twice.next_power_of_two().max(BUFFERS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn in which so many buffers were filled and so many receives found none.
    fn play(demand: &mut Demand, filled: usize, refused: usize, now: Time) -> u16 {
        (0..filled).for_each(|_| demand.filled());
        (0..refused).for_each(|_| demand.refused());
        demand.end_turn(now);
        demand.wanted()
    }

    #[test]
    fn buffers_are_added_before_they_run_out_and_at_once_when_they_have() {
        let rows = [
            (0, 0, 32),
            (23, 0, 32),
            (24, 0, 64),
            (32, 0, 64),
            (32, 1, 128),
            (32, 20, 128),
            (5, 1, 64),
            (32, 1000, 512),
            (32, 1_000_000, 512),
        ];
        for (filled, refused, expected) in rows {
            let mut demand = Demand::new();
            assert_eq!(play(&mut demand, filled, refused, Time(0)), expected, "{filled} {refused}");
            assert_eq!(demand.shrinks_at() == Time::NEVER, expected == BUFFERS_MIN);
        }
    }

    #[test]
    fn what_a_quiet_time_did_not_need_is_taken_back() {
        let period = BUFFERS_QUIET.as_millis() as u64;
        let mut demand = Demand::new();
        assert_eq!(play(&mut demand, 32, 200, Time(5)), 512);
        assert!(!demand.shrink(Time(5 + period - 1)), "the period is not over");
        assert!(!demand.shrink(Time(5 + period)), "it needed them");
        assert_eq!(play(&mut demand, 50, 0, Time(6 + period)), 512);
        assert!(demand.shrink(Time(5 + 2 * period)));
        assert_eq!((demand.wanted(), demand.shrinks_at()), (128, Time(5 + 3 * period)));
        assert!(demand.shrink(Time(5 + 3 * period)));
        assert_eq!((demand.wanted(), demand.shrinks_at()), (BUFFERS_MIN, Time::NEVER));
        assert!(!demand.shrink(Time(u64::MAX - 1)));
    }
}
