//! What another thread says of an acknowledgement that a handler has given it.

use crate::base::slab::Key;
use crate::message::inquiry::AnswerText;

/// By the place of the acknowledgement in its shard's table.
#[derive(Debug)]
pub(crate) enum AckAnswer {
    Send(Key, AnswerText),
    /// There is no answer, and that is meant.
    Withhold(Key),
    /// It was dropped without an answer.
    Drop(Key),
}

impl AckAnswer {
    /// What it keeps in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            AckAnswer::Send(_, text) => text.len_bytes(),
            AckAnswer::Withhold(_) | AckAnswer::Drop(_) => 0,
        }
    }
}
