//! What every layer may use: limits, identifiers, time as a value, tables and buffers.
//!
//! Imports nothing else of this crate.

pub(crate) mod arity;
pub(crate) mod buffer;
pub(crate) mod guard;
pub(crate) mod ids;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod places;
pub(crate) mod shown;
pub(crate) mod sid_index;
pub(crate) mod slab;
pub(crate) mod time;
