//! What shards say to each other, as values: the vocabulary of the mesh.
//!
//! Knows no inbox, no shard and no wire. What the words do is said by `shard`; how they travel, by `mesh`.

pub(crate) mod ack;
pub(crate) mod address;
pub(crate) mod errand;
pub(crate) mod far;
pub(crate) mod files;
pub(crate) mod inquiry;
pub(crate) mod left;
pub(crate) mod names;
pub(crate) mod overview;
pub(crate) mod peer;
pub(crate) mod pulse;
pub(crate) mod recovery;
pub(crate) mod server_event;
pub(crate) mod state;
pub(crate) mod target;
