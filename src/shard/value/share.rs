//! How much of a turn one connection may have, and what it waits for when it has had it.

use crate::base::slab::Key;

/// Frames, requests and packets of one connection in one turn. With handlers that take 100 us each, another client waits 1.6 ms for
/// these.
pub(crate) const SHARE_EVENTS_MAX: u16 = 16;

/// Bytes of one connection in one turn.
pub(crate) const SHARE_BYTES_MAX: usize = 256 * 1024;

/// When more than this is unread, the driver reads no more.
pub(crate) const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// What one peer has had of a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// The turn that `events` and `bytes` are about.
    turn: u32,
    bytes: u32,
    events: u16,
}

impl Spent {
    pub(crate) fn enter(&mut self, turn: u32) {
        if self.turn != turn {
            self.begin(turn);
        }
    }

    /// A new share, in whichever turn.
    pub(crate) fn begin(&mut self, turn: u32) {
        *self = Spent { turn, bytes: 0, events: 0 };
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.events >= SHARE_EVENTS_MAX || self.bytes as usize >= SHARE_BYTES_MAX
    }

    pub(crate) fn add_event(&mut self) {
        self.events = self.events.saturating_add(1);
    }

    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// The share of a session that polls: of what has waited behind its handlers.
#[derive(Debug, Default)]
pub(crate) struct SessionShare {
    pub(crate) spent: Spent,
    /// It has its place in `Intake::unfinished`.
    pub(crate) is_queued: bool,
    /// What it sends goes on when a poll has taken some of its backlog.
    pub(crate) is_paused: bool,
    /// What it sends goes on when enough of its events is done that handlers outside the shard have.
    pub(crate) waits_outside: bool,
    /// It has been paused for long: it gets one share, however much its backlog is.
    pub(crate) is_granted: bool,
    /// Its client has been seen to poll while a POST of it was under way.
    pub(crate) polls_beside: bool,
    /// The connection on which its last poll was answered.
    pub(crate) last_poll: Option<Key>,
}

impl SessionShare {
    /// Whether what has waited behind its handlers waits for the next share.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_queued || self.is_paused || self.waits_outside
    }
}

/// A connection or session whose input goes on in its next share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    Connection(Key),
    Session(Key),
}

/// What one connection has had of its turn, and what it waits for.
#[derive(Debug, Default)]
pub(crate) struct Share {
    pub(crate) spent: Spent,
    /// It has its place in `Intake::unfinished`.
    pub(crate) is_queued: bool,
    /// It goes on when its outbox is less than half full; one with a POST, when a poll has taken enough.
    pub(crate) is_paused: bool,
    /// It goes on at a time that is set, because its peer has sent more than it may in a second.
    pub(crate) is_slowed: bool,
    /// It goes on when enough of its client's events is done that handlers outside the shard have.
    pub(crate) waits_outside: bool,
    /// The driver was told to read no more.
    pub(crate) is_stopped: bool,
    /// While it was paused, its peer has taken something: it is alive, although nothing of it is read.
    pub(crate) has_progress: bool,
    /// The wire is over, and this is still to be said once everything that came before is handled.
    pub(crate) end: Option<WireEnd>,
    /// How much of the inbound buffer is used already.
    pub(crate) used: u32,
}

/// How a wire ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireEnd {
    /// The peer says no more.
    Ended,
    /// It is closed or broken.
    Closed,
}

/// Why no more input is handled now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The share is used up.
    Turn,
    /// Its peer is owed more than half of what it may be: the connection's own outbox, or the backlog for its polls. Or what came of
    /// a streamed body is not taken.
    Outbox,
    /// Its peer has sent more than it may in a second (`pace`).
    Rate,
    /// Too much of what its client has sent is with handlers outside the shard (`outside`).
    Outside,
}

impl Share {
    /// Whether something waits for this connection's next share.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_queued || self.is_paused || self.is_slowed || self.waits_outside
    }

    /// What was looked at last was not whole: its event is given back to the share.
    pub(crate) fn give_back(&mut self) {
        self.spent.events = self.spent.events.saturating_sub(1);
    }

    /// Whether the peer is alive although it is not heard: its input waits for us, or it takes what it is owed.
    pub(crate) fn take_sign_of_life(&mut self) -> bool {
        std::mem::take(&mut self.has_progress) || self.is_queued || self.is_slowed || self.waits_outside
    }

    /// Its peer has taken something, on whichever connection.
    pub(crate) fn note_sign_of_life(&mut self) {
        self.has_progress = true;
    }
}
