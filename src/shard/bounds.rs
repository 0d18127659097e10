//! Bounds of what is inside a shard, for whoever adds up what a server may hold.

pub(crate) use crate::shard::feature::acks::ACKS_PER_SOCKET_MAX;
pub(crate) use crate::shard::feature::inquiries::walks::WALKS_BYTES_MAX;
pub(crate) use crate::shard::feature::inquiries::{FINDINGS_BYTES_MAX, INQUIRIES_MAX, RECEIVERS_MAX};
pub(crate) use crate::shard::table::outside::outside_part;
pub(crate) use crate::shard::table::partial::partial_part;
#[cfg(test)]
pub(crate) use crate::shard::table::slow_polls::POST_PAUSE_MAX;
