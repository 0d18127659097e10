//! When messages are sent: an open loop's rate over time, and the [`Drive`] that names the next sender and when it is due.
//!
//! A rate is a row of straight lines: it holds, or it climbs or falls evenly from one number to another. When message `k` is due follows from
//! the area below these lines, so that rounding never adds up to another rate. What is sent is the workload's.

use std::time::Duration;

use super::clock::Moment;
use super::options::Loop;

/// A part of a rate's course.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Segment {
    /// How long it takes.
    pub(super) time: Duration,
    /// Messages per second at its beginning.
    pub(super) from: f64,
    /// Messages per second at its end.
    pub(super) to: f64,
}

/// A rate over time: segments, and what holds after the last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    segments: Vec<Segment>,
    rate_after: f64,
}

/// The times at which an open loop sends, from a start to an end.
pub(super) struct Pacer {
    schedule: Schedule,
    start: Moment,
    end: Moment,
    count: u64,
    /// The segment of the next message, when it begins (in seconds after the start), and the messages before it.
    at: usize,
    at_seconds: f64,
    at_count: f64,
}

/// Who sends next, and when.
pub(super) struct Drive {
    pace: Loop,
    ramp: Duration,
    senders: u32,
    pacer: Option<Pacer>,
    /// Closed loop: the first messages of all senders, and how many of these were given out.
    first: (u64, u64),
    start: Moment,
}

impl Segment {
    fn count(&self) -> f64 {
        self.time.as_secs_f64() * (self.from + self.to) / 2.0
    }

    /// Seconds after the segment's beginning at which `count` messages are sent.
    fn seconds_at(&self, count: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        let slope = (self.to - self.from) / self.time.as_secs_f64();
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        2.0 * count / (self.from + root)
    }
}

impl Schedule {
    /// The same rate all the time.
    pub(super) fn constant(rate: f64) -> Self {
        Self { segments: Vec::new(), rate_after: rate }
    }

    /// These segments, then what the last one ended with.
    pub(super) fn of(segments: Vec<Segment>) -> Self {
        let rate_after = segments.last().map_or(0.0, |last| last.to);
        Self { segments: segments.into_iter().filter(|part| !part.time.is_zero()).collect(), rate_after }
    }

    /// The most messages per second at any time.
    pub(super) fn peak(&self) -> f64 {
        self.segments.iter().flat_map(|part| [part.from, part.to]).fold(self.rate_after, f64::max)
    }

    /// How many messages are due in the first `seconds`, from the start.
    pub(super) fn count_until(&self, seconds: f64) -> f64 {
        let (mut left, mut count) = (seconds.max(0.0), 0.0);
        for part in &self.segments {
            let whole = part.time.as_secs_f64();
            if left < whole {
                return count + left * (part.from + (part.from + (part.to - part.from) * left / whole)) / 2.0;
            }
            count += part.count();
            left -= whole;
        }
        count + left * self.rate_after
    }
}

impl Pacer {
    /// At these times from `start`, until `end`.
    pub(super) fn new(schedule: Schedule, start: Moment, end: Moment) -> Self {
        Self { schedule, start, end, count: 0, at: 0, at_seconds: 0.0, at_count: 0.0 }
    }

    /// When the next one is due; never, after the end.
    pub(super) fn next_due(&self) -> Moment {
        let count = self.count as f64 - self.at_count;
        let seconds = match self.schedule.segments.get(self.at) {
            Some(segment) => segment.seconds_at(count),
            None if self.schedule.rate_after > 0.0 => count / self.schedule.rate_after,
            None => return Moment::NEVER,
        };
        let due = Moment(self.start.0 + ((self.at_seconds + seconds) * 1e9).round() as u64);
        if due < self.end { due } else { Moment::NEVER }
    }

    /// The number and time of the next one that is due by `now`.
    pub(super) fn take(&mut self, now: Moment) -> Option<(u64, Moment)> {
        while let Some(segment) = self.schedule.segments.get(self.at) {
            if (self.count as f64) < self.at_count + segment.count() {
                break;
            }
            self.at_count += segment.count();
            self.at_seconds += segment.time.as_secs_f64();
            self.at += 1;
        }
        let due = self.next_due();
        if due > now || due == Moment::NEVER {
            return None;
        }
        self.count += 1;
        Some((self.count - 1, due))
    }
}

impl Drive {
    /// For so many senders, which begin one after another within `ramp`.
    pub(super) fn new(pace: Loop, ramp: Duration, senders: u32) -> Self {
        Self { pace, ramp, senders, pacer: None, first: (0, 0), start: Moment::default() }
    }

    /// True when a message that came back is followed by the next.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.pace, Loop::Closed(_))
    }

    /// Traffic begins now, and ends at `until`.
    pub(super) fn begin(&mut self, now: Moment, until: Moment) {
        self.start = now;
        match &self.pace {
            Loop::Open(schedule) => self.pacer = Some(Pacer::new(schedule.clone(), now, until)),
            Loop::Closed(in_flight) => self.first = (u64::from(*in_flight) * u64::from(self.senders), 0),
        }
    }

    /// The next sender, and when it was due.
    pub(super) fn take(&mut self, now: Moment) -> Option<(u32, Moment)> {
        let senders = u64::from(self.senders.max(1));
        let (number, due) = match &mut self.pacer {
            Some(pacer) => pacer.take(now)?,
            None => {
                let due = self.first_due().filter(|&due| due <= now)?;
                self.first.1 += 1;
                (self.first.1 - 1, due)
            }
        };
        Some(((number % senders) as u32, due))
    }

    /// When [`Drive::take`] has something again.
    pub(super) fn next_due(&self) -> Moment {
        match &self.pacer {
            Some(pacer) => pacer.next_due(),
            None => self.first_due().unwrap_or(Moment::NEVER),
        }
    }

    fn first_due(&self) -> Option<Moment> {
        let (all, given) = self.first;
        (given < all).then(|| self.start.after(self.ramp.mul_f64(given as f64 / all as f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(schedule: Schedule, seconds: u64, looks: &[u64]) -> Vec<(u64, u64)> {
        let mut pacer = Pacer::new(schedule, Moment(500), Moment(500 + seconds * 1_000_000_000));
        let mut taken = Vec::new();
        for &now in looks {
            while let Some((number, due)) = pacer.take(Moment(now)) {
                assert!(due <= Moment(now));
                taken.push((number, due.0 - 500));
            }
        }
        taken
    }

    #[test]
    fn a_constant_rate_is_kept_and_caught_up_with() {
        let mut pacer = Pacer::new(Schedule::constant(1_000.0), Moment(500), Moment(500 + 10_000_000));
        let mut taken = Vec::new();
        for now in [Moment(0), Moment(500), Moment(5_000_000), Moment(1_000_000_000)] {
            while let Some((number, due)) = pacer.take(now) {
                taken.push((number, due.0));
            }
        }
        let expected: Vec<(u64, u64)> = (0..10).map(|number| (number, 500 + number * 1_000_000)).collect();
        assert_eq!(taken, expected);
        assert_eq!(pacer.next_due(), Moment::NEVER);
    }

    #[test]
    fn a_rate_climbs_holds_jumps_and_falls_as_its_segments_say() {
        let segment = |seconds, from, to| Segment { time: Duration::from_secs(seconds), from, to };
        // 0 to 100/s in 2 s: 100 messages; 3 s at 100: 300; a jump to 400 for 1 s: 400; down to 0 in 2 s: 400.
        let segments = vec![
            segment(2, 0.0, 100.0),
            segment(3, 100.0, 100.0),
            segment(0, 100.0, 400.0),
            segment(1, 400.0, 400.0),
            segment(2, 400.0, 0.0),
        ];
        let schedule = Schedule::of(segments);
        assert_eq!(schedule.peak(), 400.0);
        for (seconds, count) in [
            (0.0, 0.0),
            (1.0, 25.0),
            (2.0, 100.0),
            (5.0, 400.0),
            (6.0, 800.0),
            (8.0, 1_200.0),
            (99.0, 1_200.0),
        ] {
            assert!((schedule.count_until(seconds) - count).abs() < 1e-6, "{seconds}");
        }
        let all = taken(schedule, 60, &[u64::MAX / 2]);
        assert_eq!(all.len(), 1_200);
        let within = |from: u64, to: u64| {
            all.iter().filter(|(_, at)| (from * 1_000_000_000..to * 1_000_000_000).contains(at)).count()
        };
        assert_eq!(
            [within(0, 1), within(1, 2), within(2, 5), within(5, 6), within(6, 8)],
            [25, 75, 300, 400, 400]
        );
        assert!(all.windows(2).all(|pair| pair[0].1 <= pair[1].1), "in order");
    }

    #[test]
    fn senders_take_turns_and_begin_within_the_ramp() {
        let mut drive = Drive::new(Loop::Closed(2), Duration::from_secs(6), 3);
        drive.begin(Moment(0), Moment::NEVER);
        let mut taken = Vec::new();
        for second in 0..9 {
            while let Some((client, due)) = drive.take(Moment(second * 1_000_000_000)) {
                taken.push((second, client, due.0 / 1_000_000_000));
            }
        }
        assert_eq!(taken, [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 0, 3), (4, 1, 4), (5, 2, 5)]);
        assert_eq!(drive.next_due(), Moment::NEVER);
        let mut at_once = Drive::new(Loop::Closed(1), Duration::ZERO, 3);
        at_once.begin(Moment(7), Moment::NEVER);
        assert_eq!(std::iter::from_fn(|| at_once.take(Moment(7))).count(), 3);
        let mut open = Drive::new(Loop::Open(Schedule::constant(2.0)), Duration::ZERO, 2);
        open.begin(Moment(0), Moment(2_000_000_000));
        let clients: Vec<u32> =
            std::iter::from_fn(|| open.take(Moment(u64::MAX / 2)).map(|taken| taken.0)).collect();
        assert_eq!(clients, [0, 1, 0, 1]);
    }
}
