//! How long what clients have sent waits for its turn, and whether newcomers must wait for that reason (`lag_max`).
//!
//! Input that waits stands in a line (`Intake::unfinished`), and all who wait are served in its order. One place of it is timed at a
//! time, from the end of the line to its front; so is each turn. When either took `lag_max`, newcomers wait, until for one second
//! nothing has taken half of that.

use std::time::Duration;

use crate::base::time::Time;

/// Newcomers wait for so long after the last time that something has waited for too long.
pub(crate) const LAG_HOLD: Duration = Duration::from_secs(1);

/// What is known of the line of one shard.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// How many have joined the line, and how many have left it at its front.
    joined: u64,
    left: u64,
    /// The place that is timed, as the number of those who had joined by then, and since when.
    timed: Option<(u64, Time)>,
    /// Newcomers wait until then.
    until: Time,
}

impl Lag {
    /// Somebody's input has joined the line.
    #[inline]
    pub(crate) fn join(&mut self, now: Time) {
        self.joined += 1;
        if self.timed.is_none() {
            self.timed = Some((self.joined, now));
        }
    }

    /// The first of the line is served. How long the one that was timed has waited, if it is that one.
    #[inline]
    pub(crate) fn leave(&mut self, now: Time) -> Option<Duration> {
        self.left += 1;
        let (place, since) = self.timed?;
        if self.left < place {
            return None;
        }
        self.timed = None;
        Some(now.since(since))
    }

    /// Something took so long. True when newcomers wait from now on, and did not before.
    pub(crate) fn note(&mut self, lag: Duration, now: Time, max: Duration) -> bool {
        let was_too_long = now < self.until;
        let bound = if was_too_long { max / 2 } else { max };
        if max.is_zero() || lag < bound {
            return false;
        }
        self.until = now + LAG_HOLD;
        !was_too_long
    }

    /// Whether newcomers wait: what was timed took too long, or waits for too long already.
    pub(crate) fn is_too_long(&self, now: Time, max: Duration) -> bool {
        let waits = self.timed.map_or(Duration::ZERO, |(_, since)| now.since(since));
        !max.is_zero() && (now < self.until || waits >= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(500);

    #[test]
    fn one_place_of_the_line_is_timed_from_its_end_to_its_front() {
        let mut lag = Lag::default();
        for _ in 0..3 {
            lag.join(Time(100));
        }
        assert_eq!(lag.leave(Time(150)), Some(Duration::from_millis(50)), "the first that joined was timed");
        lag.join(Time(160));
        assert_eq!([lag.leave(Time(170)), lag.leave(Time(180))], [None, None], "those before it");
        assert_eq!(lag.leave(Time(190)), Some(Duration::from_millis(30)));
        lag.join(Time(200));
        assert!(!lag.is_too_long(Time(699), MAX) && lag.is_too_long(Time(700), MAX), "it waits already");
    }

    #[test]
    fn newcomers_wait_until_nothing_takes_half_as_long_for_a_second() {
        let (mut lag, millis) = (Lag::default(), Duration::from_millis);
        assert!(!lag.note(millis(499), Time(1000), MAX) && !lag.is_too_long(Time(1000), MAX));
        assert!(lag.note(millis(500), Time(1000), MAX), "this is news");
        assert!(lag.is_too_long(Time(1999), MAX) && !lag.is_too_long(Time(2000), MAX));
        assert!(!lag.note(millis(250), Time(1900), MAX), "this is not, but goes on");
        assert!(!lag.note(millis(249), Time(2500), MAX));
        assert!(lag.is_too_long(Time(2899), MAX) && !lag.is_too_long(Time(2900), MAX));
        assert!(!lag.note(millis(499), Time(3000), MAX) && lag.note(millis(500), Time(3000), MAX));
        let mut off = Lag::default();
        assert!(
            !off.note(millis(60_000), Time(0), Duration::ZERO) && !off.is_too_long(Time(1), Duration::ZERO)
        );
    }
}
