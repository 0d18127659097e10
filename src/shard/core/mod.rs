//! The tables of one core's world: connections, sessions, sockets, namespaces and what is on its way out.
//!
//! Nothing in this file calls a handler, so a borrow of [`Core`] never meets user code.

pub(crate) mod lives;
pub(crate) mod publish;
pub(crate) mod recover;
pub(crate) mod revision3;

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::slab::Slab;
use crate::base::time::Time;
use crate::shard::feature::drain::{Drain, Stops};
use crate::shard::feature::inquiries::Inquiries;
use crate::shard::feature::recovery::RecoveryTable;
use crate::shard::feature::sleeps::Sleeps;
use crate::shard::feature::states::StateTables;
use crate::shard::feature::ticks::Progress;
use crate::shard::feature::walks::Walks;
pub(crate) use crate::shard::table::CoreParts;
use crate::shard::table::Tables;
use crate::shard::value::answer::PendingAck;
use crate::shard::value::deadlines::Deadlines;
use crate::shard::value::endpoint::EndpointTable;
use crate::shard::value::task::Task;

/// The world, shared between the shard and the handles that user code holds on the same thread.
pub(crate) type SharedCore = Rc<RefCell<Core>>;

/// One core's world: the tables, and the features that work on them.
pub(crate) struct Core {
    pub(crate) tables: Tables,
    pub(crate) acks: Slab<PendingAck>,
    /// When each of the `acks` is given up.
    pub(crate) acks_due: Deadlines,
    pub(crate) inquiries: Inquiries,
    pub(crate) walks: Walks,
    pub(crate) tasks: Slab<Task>,
    pub(crate) sleeps: Sleeps,
    pub(crate) tickers: Vec<Progress>,
    /// When the first of them is due.
    pub(crate) tick_due: Time,
    pub(crate) states: StateTables,
    pub(crate) recovery: RecoveryTable,
    /// Set once the shard is asked to stop.
    pub(crate) drain: Option<Drain>,
    pub(crate) stops: Stops,
}

impl Core {
    pub(crate) fn new(parts: CoreParts, endpoints: Vec<EndpointTable>) -> Core {
        Core {
            acks: Slab::default(),
            acks_due: Deadlines::default(),
            inquiries: Inquiries::default(),
            walks: Walks::default(),
            tasks: Slab::default(),
            sleeps: Sleeps::default(),
            tickers: Vec::new(),
            tick_due: Time::NEVER,
            states: StateTables::default(),
            recovery: RecoveryTable::new(&parts.config, parts.mesh.len()),
            drain: None,
            stops: Stops::default(),
            tables: Tables::new(parts, endpoints),
        }
    }

    /// How many timers there are, those whose owner is gone included.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.tables.wheel.len() + self.acks_due.len() + self.sleeps.timers() + self.inquiries.timers()
    }
}
