//! A long look at a shard, and those that wait for their next slice.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::inquiry::{Findings, Inquiry};
use crate::shard::table::namespaces::NamespaceRef;

/// The walks of one shard that are not done. Each gets a slice in its turn.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    pub(crate) waiting: VecDeque<Walk>,
    pub(crate) bytes: usize,
    /// When the next slice comes, if any walk waits.
    pub(crate) due: Time,
}

/// One look, for the question of a home.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) home: ShardId,
    pub(crate) number: Key,
    pub(crate) findings: Findings,
    pub(crate) over: Over,
}

/// What a walk goes over.
#[derive(Debug)]
pub(crate) enum Over {
    /// These sockets, from a place in the list on.
    Sockets { keys: Vec<Key>, next: usize },
    /// The rooms of a namespace, from a place in the table of rooms on.
    Rooms { namespace: Rc<NamespaceRef>, next: u32 },
}

impl Walk {
    pub(crate) fn new(inquiry: &Inquiry, over: Over) -> Walk {
        Walk { home: inquiry.home, number: inquiry.number, findings: Findings::default(), over }
    }

    pub(crate) fn bytes(&self) -> usize {
        let keys = match &self.over {
            Over::Sockets { keys, .. } => size_of_val(keys.as_slice()),
            Over::Rooms { .. } => 0,
        };
        self.findings.bytes + keys
    }
}

impl Walks {
    /// When the next slice comes; `NEVER` when no walk waits.
    pub(crate) fn next(&self) -> Time {
        if self.waiting.is_empty() { Time::NEVER } else { self.due }
    }

    /// Forgets all walks: the shard ends, so their results would reach no one.
    pub(crate) fn clear(&mut self) {
        *self = Walks::default();
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert!(self.bytes == 0 || !self.waiting.is_empty(), "bytes are of a walk");
        self.waiting.len()
    }
}
