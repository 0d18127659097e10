//! From what is configured to what speaks: the broker of a queue, and its formats.

use crate::bus::hub::Identity;
use crate::bus::memory::client::MemoryBroker;
use crate::bus::run::Line;
use crate::bus::{Broker, Foreign};
use crate::config::queue::MessageQueue;
use crate::config::queue::address::QueueAddress;
use crate::config::queue::formats::QueueFormat;

/// Whether a format must know rooms by name.
pub(crate) fn names_rooms(queue: &MessageQueue) -> bool {
    queue.formats.iter().any(|format| format != QueueFormat::Python)
}

/// How many slots of rooms the broker of a queue has.
pub(crate) fn slots(queue: &MessageQueue) -> u32 {
    match &queue.address {
        QueueAddress::Memory(name) => MemoryBroker::new(name).slots(),
        _ => 1,
    }
}

/// The formats of a queue besides our own.
pub(crate) fn foreign_formats(
    _queue: &MessageQueue,
    _me: &Identity,
    _namespaces: &[String],
) -> Vec<Box<dyn Foreign>> {
    Vec::new()
}

/// Serves a link with the broker of its queue, until the server has stopped.
pub(crate) async fn serve(queue: MessageQueue, line: Line) {
    match &queue.address {
        QueueAddress::Memory(name) => line.run(MemoryBroker::new(name)).await,
        _ => unreachable!("the configuration is checked for it"),
    }
}
