//! What the clients of a shard are owed together: the count, and when it must be looked at.

use std::time::Duration;

use crate::base::time::Time;

/// A check looks at every connection and session. One for so many of them may be made in each turn, so that it never is the
/// larger part of a turn's work.
pub(crate) const CHECKED_PER_TURN: usize = 256;

/// While the clients are owed more than they may be, this is how long until the next check at the latest.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// When a turn has made more bytes than this, or an eighth of what all may be owed, no more input is handled before they were
/// offered to the kernel: otherwise many who ask for much at once could be owed a multiple of the bound before anybody is slow.
pub(crate) const MADE_PER_TURN_MAX: usize = 16 * 1024 * 1024;

/// A shard's part of `outboxes_bytes_max`. Zero is no bound: a driver has put the machine's in its place.
pub(crate) fn owed_part(bytes_max: usize, shards: usize) -> usize {
    if bytes_max == 0 { usize::MAX } else { bytes_max / shards.max(1) }
}

/// What the clients of a shard are owed.
#[derive(Debug)]
pub(crate) struct Owed {
    bytes: usize,
    /// This shard's part of what clients may be owed together.
    pub(crate) bytes_max: usize,
    /// Bytes that were made in this turn: a frame that is shared counts once.
    made: usize,
    /// When that is more than this, the turn is full.
    made_max: usize,
    /// Turns since the last check.
    pub(crate) turns: usize,
    pub(crate) next_check: Time,
}

impl Owed {
    /// All together may be owed `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Owed {
        let (turns, made_max) = (usize::MAX / CHECKED_PER_TURN, MADE_PER_TURN_MAX.min(bytes_max / 8));
        Owed { bytes: 0, bytes_max, made: 0, made_max, turns, next_check: Time::NEVER }
    }

    /// All together may be owed `bytes_max` from now on.
    pub(crate) fn bound(&mut self, bytes_max: usize) {
        (self.bytes_max, self.made_max) = (bytes_max, MADE_PER_TURN_MAX.min(bytes_max / 8));
    }

    /// Whether all together are owed more than they may be.
    #[inline]
    pub(crate) fn is_too_much(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes were queued for a client, or parked.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Bytes were queued for one connection, in a buffer that it shares with no other.
    #[inline]
    pub(crate) fn add_own(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.made += bytes;
    }

    /// A frame was made that many may share.
    #[inline]
    pub(crate) fn made(&mut self, bytes: usize) {
        self.made += bytes;
    }

    /// Whether what was made in this turn should be sent before more is.
    #[inline]
    pub(crate) fn is_turn_full(&self) -> bool {
        self.made > self.made_max
    }

    /// Everything that was made is on its way to the driver.
    pub(crate) fn begin_turn(&mut self) {
        self.made = 0;
    }

    /// Bytes were sent, or forgotten with their client.
    #[inline]
    pub(crate) fn remove(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes, "every byte is counted when it is queued");
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What is parked has become more or less.
    pub(crate) fn reparked(&mut self, before: usize, after: usize) {
        self.add(after);
        self.remove(before);
    }
}
