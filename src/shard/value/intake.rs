//! What clients have sent that is not handled yet, and how far this turn has come with it.

use std::collections::VecDeque;

use crate::shard::value::lag::Lag;
use crate::shard::value::share::Unfinished;

/// What clients have sent that is not handled yet.
pub(crate) struct Intake {
    /// What clients have sent of messages that are not whole, or wait for their turn.
    pub(crate) partial_bytes: usize,
    /// This shard's part of what that may be.
    pub(crate) partial_bytes_max: usize,
    /// Frames, requests and packets handled so far.
    pub(crate) events_taken: u64,
    /// The turn's time is over, and what comes in it is kept for the next.
    pub(crate) is_input_postponed: bool,
    /// Counts turns: a connection's share is for one.
    pub(crate) turn: u32,
    /// Whose input waits for their next share, longest first. Some may be gone.
    pub(crate) unfinished: VecDeque<Unfinished>,
    /// How long they wait.
    pub(crate) lag: Lag,
}
