//! What is said in the log at most seldom: others can make it happen as often as they like.

use std::time::Duration;

use crate::base::time::Time;

/// Between two lines about the same.
const SILENCE: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    next: Time,
    unsaid: u64,
}

impl Seldom {
    /// Whether to say it now; then, how often it was not said since the last time.
    pub(crate) fn may_say(&mut self, now: Time) -> Option<u64> {
        if now < self.next {
            self.unsaid += 1;
            return None;
        }
        self.next = now + SILENCE;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_in_a_while_and_counts_the_others() {
        let mut seldom = Seldom::default();
        let said: Vec<_> = (0..25_000).filter_map(|millis| seldom.may_say(Time(millis))).collect();
        assert_eq!(said, [0, 9_999, 9_999]);
    }
}
