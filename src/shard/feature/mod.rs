//! What works on the tables without knowing another feature.

pub(crate) mod acks;
pub(crate) mod drain;
pub(crate) mod inquiries;
pub(crate) mod recovery;
pub(crate) mod sleeps;
pub(crate) mod states;
pub(crate) mod tasks;
pub(crate) mod ticks;
pub(crate) mod walks;
