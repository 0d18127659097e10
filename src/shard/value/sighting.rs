//! What has happened to sockets, for somebody who watches: Socket.IO's admin page, in development mode.
//!
//! Noted only while somebody watches; until then each place that would note something looks at one flag. What is noted waits here for a
//! task that sends it on. Both the waiting and the number of events in a second are bounded: what is beyond is counted, and those who
//! watch are told the number.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::time::Time;
use crate::shard::value::bucket::Bucket;

/// Events to and from clients that one shard notes in a second, and as many at once; a broadcast to n sockets is n of them.
pub(crate) const EVENTS_PER_SECOND_MAX: usize = 200;

/// What waits to be sent on, in one shard. A task takes it ten times a second.
pub(crate) const SIGHTINGS_MAX: usize = 4096;

/// The bytes of it.
pub(crate) const SIGHTINGS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one event, arguments and attachments together, that are shown; of a larger one only its name and its size are.
pub(crate) const EVENT_SHOWN_BYTES_MAX: usize = 4096;

/// One thing that has happened, as the admin page hears of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) event: &'static str,
    /// The event's arguments: elements of a JSON array.
    pub(crate) args: String,
    pub(crate) attachments: Vec<Bytes>,
}

impl Sighting {
    fn len_bytes(&self) -> usize {
        size_of::<Sighting>() + self.args.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// How much was left out since this was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Events to and from clients.
    pub(crate) events: u64,
    /// Sockets and rooms that came, changed or went.
    pub(crate) changes: u64,
}

/// What waits to be sent on.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// Somebody watches. When it is off, nothing is noted and nothing waits.
    pub(crate) is_on: bool,
    /// The number of the admin page's own namespace, whose events are not shown.
    pub(crate) own: u16,
    waiting: VecDeque<Sighting>,
    bytes: usize,
    rate: Bucket,
    left_out: LeftOut,
}

impl Sightings {
    /// Begins to note, or stops and forgets what waits.
    pub(crate) fn switch(&mut self, is_on: bool, own: u16) {
        if self.is_on != is_on {
            *self = Sightings { is_on, own, rate: self.rate, ..Sightings::default() };
        }
    }

    /// Notes that a socket or a room came, changed or went.
    pub(crate) fn change(&mut self, event: &'static str, args: String) {
        if !self.push(Sighting { event, args, attachments: Vec::new() }) {
            self.left_out.changes += 1;
        }
    }

    /// Whether one more event is shown now; if not, it is counted as left out.
    pub(crate) fn may_show_event(&mut self, now: Time) -> bool {
        let may = self.rate.take(now, EVENTS_PER_SECOND_MAX, EVENTS_PER_SECOND_MAX).is_ok();
        self.left_out.events += u64::from(!may);
        may
    }

    /// Events that are not shown.
    pub(crate) fn leave_out(&mut self, events: usize) {
        self.left_out.events += events as u64;
    }

    /// Notes an event to or from a client.
    pub(crate) fn event(&mut self, event: &'static str, args: String, attachments: Vec<Bytes>) {
        if !self.push(Sighting { event, args, attachments }) {
            self.left_out.events += 1;
        }
    }

    fn push(&mut self, sighting: Sighting) -> bool {
        let bytes = sighting.len_bytes();
        if self.waiting.len() >= SIGHTINGS_MAX || self.bytes + bytes > SIGHTINGS_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.waiting.push_back(sighting);
        true
    }

    /// What waits, oldest first.
    pub(crate) fn take(&mut self) -> VecDeque<Sighting> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// What was left out since the last call.
    pub(crate) fn take_left_out(&mut self) -> LeftOut {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_the_rest_is_counted() {
        let rows = [
            (10, SIGHTINGS_MAX, SIGHTINGS_MAX + 7, 7),
            (SIGHTINGS_BYTES_MAX / 4, 3, 5, 2),
            (SIGHTINGS_BYTES_MAX, 0, 3, 3),
        ];
        for (bytes, kept, given, left_out) in rows {
            let mut sightings = Sightings::default();
            sightings.switch(true, 3);
            for _ in 0..given {
                sightings.change("room_left", "x".repeat(bytes));
            }
            let (waiting, left) = (sightings.take(), sightings.take_left_out());
            assert_eq!((waiting.len(), left.changes, left.events), (kept, left_out, 0), "{bytes}");
            sightings.event("event_sent", "[]".to_owned(), vec![Bytes::from(vec![0; bytes])]);
            let (waiting, left) = (sightings.take(), sightings.take_left_out());
            assert_eq!(waiting.len() as u64 + left.events, 1, "there is room again");
        }
    }

    #[test]
    fn so_many_events_are_shown_in_a_second_and_off_forgets() {
        let mut sightings = Sightings::default();
        sightings.switch(true, 0);
        let shown = |sightings: &mut Sightings, now| {
            (0..1000).filter(|_| sightings.may_show_event(Time(now))).count()
        };
        assert_eq!(shown(&mut sightings, 5), EVENTS_PER_SECOND_MAX);
        assert_eq!(shown(&mut sightings, 505), EVENTS_PER_SECOND_MAX / 2);
        sightings.leave_out(3);
        assert_eq!(sightings.take_left_out(), LeftOut { events: 800 + 900 + 3, changes: 0 });
        sightings.change("room_left", String::new());
        sightings.switch(true, 0);
        assert_eq!(sightings.take().len(), 1, "it was on already");
        sightings.change("room_left", String::new());
        sightings.switch(false, 0);
        assert_eq!((sightings.take(), sightings.take_left_out()), (VecDeque::new(), LeftOut::default()));
        sightings.switch(true, 0);
        assert_eq!(shown(&mut sightings, 505), 0, "who comes again gets no second burst");
    }
}
