//! What Redis says about a stream.

pub(crate) mod client;
