//! One core's world: its tables, and the features that work on them. Here features meet.
//!
//! Nothing on this floor calls user code, so a borrow of [`Core`] never meets any.

pub(crate) mod left;
pub(crate) mod lives;
pub(crate) mod publish;
pub(crate) mod recover;
pub(crate) mod revision3;

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use crate::base::slab::Slab;
use crate::shard::feature::Feature;
use crate::shard::feature::acks::Acks;
use crate::shard::feature::drain::{Drain, Stops};
use crate::shard::feature::inquiries::Inquiries;
use crate::shard::feature::recovery::RecoveryTable;
use crate::shard::feature::sleeps::Sleeps;
use crate::shard::feature::states::StateTables;
use crate::shard::feature::ticks::Ticks;
pub(crate) use crate::shard::table::CoreParts;
use crate::shard::table::Tables;
use crate::shard::value::endpoint::EndpointTable;
use crate::shard::value::task::Task;

/// The world, shared between the shard and the handles that user code holds on the same thread.
pub(crate) type SharedCore = Rc<StaysOnTheThreadOfItsShard>;

/// A core and the note who has borrowed it. The compiler says this name to whoever takes a handle to another thread: what it finds there
/// that cannot go is an `Rc<StaysOnTheThreadOfItsShard>`.
pub(crate) struct StaysOnTheThreadOfItsShard(RefCell<Core>);

impl StaysOnTheThreadOfItsShard {
    pub(crate) fn new(core: Core) -> StaysOnTheThreadOfItsShard {
        StaysOnTheThreadOfItsShard(RefCell::new(core))
    }
}

impl Deref for StaysOnTheThreadOfItsShard {
    type Target = RefCell<Core>;

    #[inline]
    fn deref(&self) -> &RefCell<Core> {
        &self.0
    }
}

/// One core's world: the tables, and the features that work on them.
pub(crate) struct Core {
    pub(crate) tables: Tables,
    pub(crate) acks: Acks,
    pub(crate) inquiries: Inquiries,
    pub(crate) tasks: Slab<Task>,
    pub(crate) sleeps: Sleeps,
    pub(crate) ticks: Ticks,
    pub(crate) states: StateTables,
    pub(crate) recovery: RecoveryTable,
    /// Set once the shard is asked to stop.
    pub(crate) drain: Option<Drain>,
    pub(crate) stops: Stops,
}

impl Core {
    pub(crate) fn new(parts: CoreParts, endpoints: Vec<EndpointTable>) -> Core {
        let has_recovery =
            endpoints.iter().any(|endpoint| !endpoint.is_route && endpoint.settings.has_recovery());
        Core {
            acks: Acks::default(),
            inquiries: Inquiries::default(),
            tasks: Slab::default(),
            sleeps: Sleeps::default(),
            ticks: Ticks::default(),
            states: StateTables::default(),
            recovery: RecoveryTable::new(has_recovery, parts.mesh.len()),
            drain: None,
            stops: Stops::default(),
            tables: Tables::new(parts, endpoints),
        }
    }

    /// How many timers there are, those whose owner is gone included.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.tables.wheel.len() + self.acks.timers() + self.sleeps.timers() + self.inquiries.timers()
    }

    /// Answers that clients owe us, with the tables.
    pub(crate) fn acks(&mut self) -> Feature<'_, Acks> {
        Feature { own: &mut self.acks, tables: &mut self.tables }
    }

    /// Questions to all shards, with the tables.
    pub(crate) fn inquiries(&mut self) -> Feature<'_, Inquiries> {
        Feature { own: &mut self.inquiries, tables: &mut self.tables }
    }

    /// Tickers, with the tables.
    pub(crate) fn ticks(&mut self) -> Feature<'_, Ticks> {
        Feature { own: &mut self.ticks, tables: &mut self.tables }
    }

    /// State rooms, with the tables.
    pub(crate) fn states(&mut self) -> Feature<'_, StateTables> {
        Feature { own: &mut self.states, tables: &mut self.tables }
    }

    /// Recovery, with the tables.
    pub(crate) fn recovery(&mut self) -> Feature<'_, RecoveryTable> {
        Feature { own: &mut self.recovery, tables: &mut self.tables }
    }
}
