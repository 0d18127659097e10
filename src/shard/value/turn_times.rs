//! When the turn began, and which broadcasts are on their way to the wires: what latencies are measured from. The host reads the clock, twice
//! a turn.

use smallvec::SmallVec;

/// Broadcasts that one shard times at once. Those beyond are delivered and not timed.
const FAN_OUTS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct TurnTimes {
    /// Nanoseconds of the process' clock.
    pub(crate) began: u64,
    /// When the turns began in which the broadcasts were published that are queued here and not sent.
    pub(crate) fan_outs: SmallVec<[u64; FAN_OUTS_MAX]>,
}

impl TurnTimes {
    /// A broadcast is queued for receivers.
    #[inline]
    pub(crate) fn note_fan_out(&mut self, published: u64) {
        if self.fan_outs.len() < FAN_OUTS_MAX {
            self.fan_outs.push(published);
        }
    }
}
