//! From what is configured to what speaks: the broker of a queue, and its formats.

#[cfg(feature = "amqp")]
use crate::bus::amqp::{self, client::AmqpBroker};
use crate::bus::hub::Identity;
#[cfg(feature = "kafka")]
use crate::bus::kafka::{self, client::KafkaBroker};
use crate::bus::memory::client::MemoryBroker;
#[cfg(feature = "nats")]
use crate::bus::nats::{self, client::NatsBroker};
use crate::bus::nodejs::speaker::Node;
use crate::bus::nodejs::{Format, MESSAGE_BYTES_MAX, Uid};
use crate::bus::python::Options;
use crate::bus::python::speaker::Python;
use crate::bus::unix::client::UnixBroker;
use crate::bus::{Broker, Foreign, unix};
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
        QueueAddress::Unix(_) => unix::SLOTS,
        #[cfg(feature = "redis")]
        QueueAddress::Redis(_) => crate::bus::redis::SLOTS,
        #[cfg(feature = "amqp")]
        QueueAddress::Amqp(_) => amqp::SLOTS,
        #[cfg(feature = "kafka")]
        QueueAddress::Kafka(_) => kafka::SLOTS,
        #[cfg(feature = "nats")]
        QueueAddress::Nats(_) => nats::SLOTS,
        #[allow(unreachable_patterns, reason = "a program may be built without some brokers")]
        _ => 1,
    }
}

/// The formats of a queue besides our own, for a process with these registered namespaces, whose own messages have so many bytes at
/// most. Messages of others may be larger.
pub(crate) fn foreign_formats(
    queue: &MessageQueue,
    me: &Identity,
    (namespaces, message_bytes_max): (&[String], usize),
) -> Vec<Box<dyn Foreign>> {
    let make = |format| -> Option<Box<dyn Foreign>> {
        if format == QueueFormat::Python {
            let bytes_max = message_bytes_max.max(MESSAGE_BYTES_MAX);
            let options = Options { pickle: queue.is_pickle_read, bytes_max };
            return Some(Box::new(Python::new(&me.tag.to_string(), options)));
        }
        let uid = Uid::new(me.tag);
        let codec = Format::new(format, &queue.node_key, uid.clone())?;
        Some(Box::new(Node::new(codec, uid, namespaces.iter().cloned())))
    };
    queue.formats.iter().filter_map(make).collect()
}

/// What a broker is used for.
pub(crate) trait OnBroker {
    /// Uses it until there is nothing more to do.
    fn run(self, broker: impl Broker) -> impl Future<Output = ()>;
}

/// Uses the broker of a queue: for a link until the server has stopped, for an emitter until the last who emits is gone.
pub(crate) async fn serve(queue: MessageQueue, line: impl OnBroker) {
    match &queue.address {
        QueueAddress::Memory(name) => line.run(MemoryBroker::new(name)).await,
        QueueAddress::Unix(path) => line.run(UnixBroker::new(path, &queue.channel)).await,
        #[cfg(feature = "redis")]
        QueueAddress::Redis(address) => {
            line.run(crate::bus::redis::client::RedisBroker::new(address.clone(), &queue.channel)).await;
        }
        #[cfg(feature = "amqp")]
        QueueAddress::Amqp(address) => line.run(AmqpBroker::new(address, &queue.channel)).await,
        #[cfg(feature = "kafka")]
        QueueAddress::Kafka(hosts) => line.run(KafkaBroker::new(hosts, &queue.channel)).await,
        #[cfg(feature = "nats")]
        QueueAddress::Nats(address) => line.run(NatsBroker::new(address, &queue.channel)).await,
        #[allow(unreachable_patterns, reason = "a program may be built without some brokers")]
        _ => unreachable!("the configuration is checked for it"),
    }
}
