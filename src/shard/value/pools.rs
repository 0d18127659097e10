//! Memory that is used again, and coders that keep some.

use crate::base::buffer::{BufferPool, SharedPool};
use crate::message::target::{Broadcast, Target};
use crate::protocol::http::coding::BodyEncoder;
use crate::protocol::websocket::deflate::Inflater;
use crate::shard::value::form::Transcoder;

/// Memory that is used again, and coders that keep some.
pub(crate) struct Pools {
    pub(crate) buffers: BufferPool,
    pub(crate) frames: SharedPool<Vec<u8>>,
    pub(crate) broadcasts: SharedPool<Broadcast>,
    pub(crate) spare_targets: Vec<Target>,
    pub(crate) transcoder: Transcoder,
    /// Made for the first compressed message.
    pub(crate) inflater: Option<Inflater>,
    pub(crate) body_encoder: BodyEncoder,
}

impl Pools {
    /// Nothing is in them yet. Messages of `compression_threshold` bytes and more are compressed.
    pub(crate) fn new(compression_threshold: usize) -> Pools {
        Pools {
            buffers: BufferPool::default(),
            frames: SharedPool::default(),
            broadcasts: SharedPool::default(),
            spare_targets: Vec::new(),
            transcoder: Transcoder::new(compression_threshold),
            inflater: None,
            body_encoder: BodyEncoder::default(),
        }
    }
}
