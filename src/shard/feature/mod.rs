//! What works on the tables without knowing another feature.

pub(crate) mod acks;
pub(crate) mod drain;
pub(crate) mod inquiries;
pub(crate) mod recovery;
pub(crate) mod sleeps;
pub(crate) mod states;
pub(crate) mod ticks;

use crate::shard::table::Tables;

/// A feature at work: what it keeps, and the tables. It knows no other feature; they meet in `core`.
pub(crate) struct Feature<'a, S> {
    /// What the feature keeps itself.
    pub(crate) own: &'a mut S,
    pub(crate) tables: &'a mut Tables,
}
