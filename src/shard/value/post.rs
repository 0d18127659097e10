//! A POST whose packets are not all handled yet.

use crate::base::slab::Key;
use crate::protocol::engineio::polling::Posted;

/// A POST with more packets than its connection's share of one turn, or whose session must first take what it is owed.
#[derive(Debug)]
pub(crate) struct PendingPost {
    pub(crate) session: Key,
    pub(crate) posted: Posted<'static>,
    /// Where the next packet begins.
    pub(crate) at: usize,
}

impl PendingPost {
    /// Whose packets they are.
    pub(crate) fn session(&self) -> Key {
        self.session
    }

    /// Bytes that wait to be handled, and those that are.
    pub(crate) fn len_bytes(&self) -> usize {
        self.posted.len_bytes()
    }
}
