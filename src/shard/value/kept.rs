//! What a socket keeps of what it is sent, for its recovery; and how an event is given its offset.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Time;
use crate::config::EndpointSettings;
use crate::config::engine::EngineOptions;
use crate::message::recovery::{EventId, Kept, Offset};

/// The last events of a socket, oldest first.
#[derive(Debug, Default)]
pub(crate) struct KeptEvents {
    events: VecDeque<Kept>,
    bytes: usize,
    /// The newest that is not kept any more.
    let_go: Option<Offset>,
}

/// How much a socket keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    events_max: usize,
    bytes_max: usize,
    age_max: Duration,
}

impl Limits {
    pub(crate) fn new(options: &EngineOptions, settings: &EndpointSettings) -> Limits {
        // A lost connection is noticed one interval and one timeout after its last sign of life.
        let unnoticed = options.ping_interval + options.ping_timeout + options.ping_grace;
        Limits {
            events_max: settings.recovery_events_max,
            bytes_max: settings.recovery_bytes_max,
            age_max: settings.recovery_max_disconnection + unnoticed,
        }
    }
}

impl KeptEvents {
    /// What came after an offset, which the client has got.
    pub(crate) fn after(offset: Option<Offset>, events: VecDeque<Kept>) -> KeptEvents {
        let bytes = events.iter().map(|kept| kept.frame.len()).sum();
        KeptEvents { events, bytes, let_go: offset }
    }

    /// The newest event that is not kept any more.
    pub(crate) fn let_go(&self) -> Option<Offset> {
        self.let_go
    }

    /// All that are kept, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.events.iter()
    }

    /// Gives all away.
    pub(crate) fn take(&mut self) -> VecDeque<Kept> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Puts earlier events, none of which is here, before these.
    pub(crate) fn put_before(&mut self, earlier: Vec<Kept>) {
        let mut all = VecDeque::from(earlier);
        all.append(&mut self.take());
        *self = KeptEvents::after(self.let_go, all);
    }

    /// Keeps one more event; what is too old or too much is let go.
    pub(crate) fn keep(&mut self, kept: Kept, limits: Limits) {
        while let Some(oldest) = self.events.front()
            && (self.events.len() >= limits.events_max
                || self.bytes + kept.frame.len() > limits.bytes_max
                || oldest.at + limits.age_max < kept.at)
        {
            self.bytes -= oldest.frame.len();
            self.let_go = self.events.pop_front().map(|oldest| oldest.offset);
        }
        if kept.frame.len() > limits.bytes_max {
            self.let_go = Some(kept.offset);
            return;
        }
        self.bytes += kept.frame.len();
        self.events.push_back(kept);
    }

    /// The offset that a client names, if it is of these events. Stock clients name the last event of an earlier socket until
    /// they get one of this socket; then `None`, as they have got no event of this one.
    pub(crate) fn known(&self, offset: Option<Offset>) -> Option<Offset> {
        let is_of_these = self.let_go.is_some() || self.events.iter().any(|kept| Some(kept.offset) == offset);
        offset.filter(|_| is_of_these)
    }

    /// Whether all that came after an offset is kept. Without an offset the client has not got any event yet.
    pub(crate) fn has_all_after(&self, offset: Option<Offset>) -> bool {
        self.let_go == offset
            || offset.is_some_and(|offset| self.events.iter().any(|kept| kept.offset == offset))
    }

    /// What was kept up to an offset, and not before a time, by name.
    pub(crate) fn names_until(&self, offset: Option<Offset>, since: Time) -> Vec<EventId> {
        let last = self.events.iter().position(|kept| Some(kept.offset) == offset);
        let until = self.events.iter().take(last.map_or(0, |last| last + 1));
        until.filter(|kept| kept.at >= since).map(|kept| kept.id).collect()
    }

    /// What came after an offset; what is kept up to there is forgotten.
    pub(crate) fn forget_until(&mut self, offset: Option<Offset>) {
        while offset.is_some()
            && self.let_go != offset
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.frame.len();
            self.let_go = Some(oldest.offset);
        }
    }
}
