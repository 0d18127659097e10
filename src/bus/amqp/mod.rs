//! RabbitMQ, by AMQP 0-9-1: which exchanges and queues there are. [`client`] is the half with IO.
//!
//! Ours is the direct exchange `shardcast.C`; its routing keys are our channels' names, and each process binds a queue of its own to
//! those that it wants, so that RabbitMQ sends a room's message only to processes with members of it. python-socketio's is the
//! fanout exchange `C`, made exactly as Kombu makes it: RabbitMQ refuses another description of an exchange that is there.
//! Nothing is kept for a process that is not connected, as python-socketio loses what is sent while it reconnects.

pub(crate) mod client;

use super::names::{PREFIX, channel_of, name_of};
use super::{Channel, Fault};

/// Slots of rooms: each that has members is a binding, which RabbitMQ's nodes agree on one by one. When it comes back all processes make theirs
/// at once, and want to be there within a second: one binding takes it a third of a millisecond, 16,384 take 5.4 s.
pub(crate) const SLOTS: u32 = 512;

/// The largest message: what RabbitMQ 4 takes unless it is told otherwise. Older versions take 128 MiB.
pub(crate) const AMQP_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that wait in a process' queue on the broker; then the oldest are dropped, so that a slow process costs the broker no more.
pub(crate) const AMQP_QUEUE_BYTES_MAX: i32 = 256 * 1024 * 1024;

/// Messages that the broker sends before it hears that earlier ones have been taken.
pub(crate) const AMQP_PREFETCH_MAX: u16 = 1024;

/// The exchanges of one configured channel.
#[derive(Clone, Debug)]
struct Names {
    ours: String,
    python: String,
}

impl Names {
    fn new(channel: &str) -> Names {
        Names { ours: format!("{PREFIX}{channel}"), python: channel.to_owned() }
    }

    /// Exchange and routing key of a channel.
    fn route(&self, channel: &Channel) -> Result<(&str, String), Fault> {
        match (name_of(channel), channel) {
            (Some(name), _) => Ok((&self.ours, name)),
            (None, Channel::Python) => Ok((&self.python, String::new())),
            (None, _) => Err(Fault::lasting(format!("{channel:?} exists on Redis only, not on RabbitMQ"))),
        }
    }

    /// The channel of a message. One that came by the fanout exchange may have any key: aio_pika gives `*`.
    fn channel(&self, exchange: &str, key: &str) -> Option<Channel> {
        match exchange {
            _ if exchange == self.ours => channel_of(key.as_bytes()),
            _ if exchange == self.python => Some(Channel::Python),
            _ => None,
        }
    }
}

/// Whether an error of AMQP stays until somebody changes something: no access, no such thing, another description of it, not
/// allowed.
fn is_lasting(code: u16) -> bool {
    matches!(code, 403 | 404 | 406 | 530)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;

    #[test]
    fn routes_lead_back_to_their_channels() {
        let names = Names::new("flask-socketio");
        let cases = [
            (Channel::All, "shardcast.flask-socketio", "all"),
            (Channel::Slot(0x3ff), "shardcast.flask-socketio", "slot.3ff"),
            (Channel::Node(NodeTag([1, 2, 3])), "shardcast.flask-socketio", "node.010203"),
            (Channel::Python, "flask-socketio", ""),
        ];
        for (channel, exchange, key) in cases {
            assert_eq!(
                names.route(&channel).expect("a channel of ours or Python's"),
                (exchange, key.to_owned())
            );
            assert_eq!(names.channel(exchange, key), Some(channel));
        }
        assert_eq!(names.channel("flask-socketio", "*"), Some(Channel::Python), "as aio_pika sends");
        for (exchange, key) in [("", "all"), ("other", "all"), ("shardcast.flask-socketio", "slot.zz")] {
            assert_eq!(names.channel(exchange, key), None, "{exchange} {key}");
        }
        for others in [Channel::Plain("x".into()), Channel::Pattern("x".into()), Channel::Sharded("x".into())]
        {
            assert!(names.route(&others).expect_err("of Redis").is_lasting);
        }
    }
}
