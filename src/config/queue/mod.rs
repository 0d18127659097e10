//! The message queue of an endpoint: the broker, the channel, and the formats that are spoken on it.
//!
//! What is set is judged here, as far as it can be without asking the broker. Does not connect.

#![allow(dead_code, reason = "the bus that connects is in the making")]

pub(crate) mod address;
pub(crate) mod formats;
pub(crate) mod shared;
pub(crate) mod url;

use crate::base::shown::Shown;
use crate::config::queue::address::{QueueAddress, RedisMode};
use crate::config::queue::formats::{FormatSet, QueueFormat, QueueFormats};
use crate::config::queue::url::QueueUrl;

/// The channel of Flask-SocketIO, unless it is told another one.
pub(crate) const CHANNEL_DEFAULT: &str = "flask-socketio";

/// What Node's adapters put before the names of their channels, unless they are told otherwise.
pub(crate) const NODE_KEY_DEFAULT: &str = "socket.io";

/// Bytes of a channel's name. Kafka takes 249 for a topic and RabbitMQ 255, and ours have a part before and one behind.
const CHANNEL_BYTES_MAX: usize = 200;

/// Bytes of `node_key`, which stands in the name of each channel of Node's.
const NODE_KEY_BYTES_MAX: usize = 200;

/// How the names of our own channels begin.
const OWN_PREFIX: &str = "shardcast.";

/// Bytes that may wait for a broker, unless it is set.
pub(crate) const QUEUE_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// The most that `queue_message_bytes_max` can be: half of what a shard's inbox holds.
const QUEUE_MESSAGE_BYTES_MOST: usize = 64 * 1024 * 1024;

/// The largest message, unless it is set, with brokers that take larger ones.
const MESSAGE_BYTES_DEFAULT: usize = 8 * 1024 * 1024;

/// The same with Kafka and NATS, which take 1 MiB unless they are told otherwise, what they add counted.
const MESSAGE_BYTES_SMALL: usize = 1024 * 1024 - 1024;

/// A message queue that is sound as far as can be said without its broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MessageQueue {
    /// As it was written, to be shown.
    pub(crate) url: QueueUrl,
    pub(crate) address: QueueAddress,
    pub(crate) channel: String,
    /// What is spoken besides our own format.
    pub(crate) formats: FormatSet,
    /// How the names of Node's channels begin.
    pub(crate) node_key: String,
    /// Whether messages of python-socketio before 5.14, which are pickles, are read.
    pub(crate) is_pickle_read: bool,
}

impl MessageQueue {
    /// Reads a URL, with everything else as it is by default.
    ///
    /// # Errors
    /// What is wrong and what to write, without what is secret.
    pub(crate) fn new(url: &QueueUrl) -> Result<MessageQueue, String> {
        let address = url.address().map_err(|fault| format!("message_queue = {url:?}: {fault}"))?;
        Ok(MessageQueue {
            url: url.clone(),
            formats: QueueFormats::Auto.of_broker(&address),
            address,
            channel: CHANNEL_DEFAULT.to_owned(),
            node_key: NODE_KEY_DEFAULT.to_owned(),
            is_pickle_read: false,
        })
    }

    /// Says what does not fit together, in words for the person who set it.
    pub(crate) fn validate(&self) -> Result<(), String> {
        check_feature(&self.url, &self.address)?;
        self.check_channel()?;
        self.check_node_key()?;
        self.check_formats()
    }

    /// The largest message that is sent: `setting`, or if that is 0 what the broker takes as it is delivered.
    pub(crate) fn message_bytes_max(&self, setting: usize) -> usize {
        match (setting, &self.address) {
            (0, QueueAddress::Kafka(_) | QueueAddress::Nats(_)) => MESSAGE_BYTES_SMALL,
            (0, _) => MESSAGE_BYTES_DEFAULT,
            (set, _) => set,
        }
    }

    /// Whether the broker can keep sockets of processes that are gone: it keeps what was published, in one order.
    pub(crate) fn can_keep_sockets(&self) -> bool {
        match &self.address {
            QueueAddress::Memory(_) => true,
            QueueAddress::Redis(address) => address.mode == RedisMode::Streams,
            _ => false,
        }
    }

    fn check_channel(&self) -> Result<(), String> {
        let channel = &self.channel;
        let wrong = |why: &str| Err(format!("channel = {:?}: {why}", Shown(channel)));
        if channel.is_empty() {
            return wrong("it is empty; write a name such as flask-socketio");
        }
        if channel.len() > CHANNEL_BYTES_MAX {
            return wrong(&format!("it has {} bytes, and the most is {CHANNEL_BYTES_MAX}", channel.len()));
        }
        if channel.chars().any(char::is_control) {
            return wrong("there is a control character in it");
        }
        if channel.starts_with(OWN_PREFIX) {
            return wrong(
                "names that begin with shardcast. are what this server makes of other channels' names",
            );
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match &self.address {
            QueueAddress::Kafka(_)
                if !channel.bytes().all(is_plain) || [".", ".."].contains(&channel.as_str()) =>
            {
                wrong("it is a topic of Kafka, which has letters, digits and -_. only")
            }
            QueueAddress::Nats(_)
                if channel.contains(['*', '>']) || channel.contains(char::is_whitespace) =>
            {
                wrong("it is part of a subject of NATS, which has no spaces, * or >")
            }
            QueueAddress::Nats(_) if channel.split('.').any(str::is_empty) => {
                wrong("it is part of a subject of NATS: no dot stands at an end or beside another")
            }
            QueueAddress::Amqp(_) if channel.starts_with("amq.") => {
                wrong("it is an exchange of RabbitMQ, and those that begin with amq. are RabbitMQ's own")
            }
            QueueAddress::Redis(redis)
                if redis.mode == RedisMode::Sharded && channel.contains(['{', '}']) =>
            {
                wrong("with mode=sharded braces say which node of a cluster has a channel: leave them out")
            }
            QueueAddress::Redis(_) if self.is_of_node(channel) => wrong(&format!(
                "it begins like the channels of Node's adapters (node_key = {:?}): take another name",
                Shown(&self.node_key)
            )),
            _ => Ok(()),
        }
    }

    /// Whether a channel is one of those that are spoken on in Node's formats.
    fn is_of_node(&self, channel: &str) -> bool {
        let rest = channel.strip_prefix(self.node_key.as_str());
        self.formats.is_any_of_node()
            && rest.is_some_and(|rest| {
                ["#", "-request#", "-response#"].iter().any(|next| rest.starts_with(next))
            })
    }

    fn check_node_key(&self) -> Result<(), String> {
        let key = &self.node_key;
        let wrong = |why: &str| Err(format!("node_key = {:?}: {why}", Shown(key)));
        if key.is_empty() {
            return wrong("it is empty; Node's is socket.io unless the adapters there have an option key");
        }
        if key.len() > NODE_KEY_BYTES_MAX {
            return wrong(&format!("it has {} bytes, and the most is {NODE_KEY_BYTES_MAX}", key.len()));
        }
        if key.chars().any(char::is_control) {
            return wrong("there is a control character in it");
        }
        match key.contains(['*', '?', '[', ']', '\\']) {
            true => wrong("Redis takes *, ?, [, ] and \\ for a pattern: leave them out, in Node as well"),
            false => Ok(()),
        }
    }

    fn check_formats(&self) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("queue_formats = \"{}\": {why}", self.formats));
        if self.formats.is_any_of_node() && !matches!(self.address, QueueAddress::Redis(_)) {
            return wrong(&format!(
                "Node's formats need Redis, and message_queue is {}: leave them out, or use redis://",
                self.url
            ));
        }
        if self.formats.contains(QueueFormat::Node) && self.formats.contains(QueueFormat::NodeStreams) {
            return wrong(
                "node and node-streams use one channel for different messages, and Node servers of both kinds disturb \
                 each other: choose what the servers there use, or give one kind another key and an endpoint of its own",
            );
        }
        match self.formats.contains(QueueFormat::Python) && matches!(self.address, QueueAddress::Nats(_)) {
            true => wrong(
                "python-socketio has no NATS: write queue_formats = \"none\", or use redis://, amqp:// or kafka://",
            ),
            false => Ok(()),
        }
    }
}

/// Says which feature a program without this broker needs.
fn check_feature(url: &QueueUrl, address: &QueueAddress) -> Result<(), String> {
    let (feature, is_there) = match address {
        QueueAddress::Memory(_) | QueueAddress::Unix(_) => ("bus", cfg!(feature = "bus")),
        QueueAddress::Redis(_) => ("redis", cfg!(feature = "redis")),
        QueueAddress::Amqp(_) => ("amqp", cfg!(feature = "amqp")),
        QueueAddress::Kafka(_) => ("kafka", cfg!(feature = "kafka")),
        QueueAddress::Nats(_) => ("nats", cfg!(feature = "nats")),
    };
    match is_there {
        true => Ok(()),
        false => Err(format!(
            "message_queue = {url:?}: this program is built without this broker; build shardcast with its feature {feature}"
        )),
    }
}

/// Judges `queue_bytes_max` and `queue_message_bytes_max`.
pub(crate) fn check_bounds(queue_bytes_max: usize, message_bytes_max: usize) -> Result<(), String> {
    if message_bytes_max > QUEUE_MESSAGE_BYTES_MOST {
        return Err(format!(
            "queue_message_bytes_max = {message_bytes_max}: the most is {QUEUE_MESSAGE_BYTES_MOST}"
        ));
    }
    // The largest message that a broker may be sent, whichever it is.
    let least = if message_bytes_max == 0 { MESSAGE_BYTES_DEFAULT } else { message_bytes_max };
    match queue_bytes_max < least {
        true => Err(format!(
            "queue_bytes_max = {queue_bytes_max}: a single message may have {least} bytes (queue_message_bytes_max); write \
             as much or more, or lower that one"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(url: &str) -> MessageQueue {
        MessageQueue::new(&QueueUrl::from(url)).expect(url)
    }

    /// The fault of a queue, other than that this build has no such broker.
    fn fault(queue: &MessageQueue) -> Option<String> {
        let checks = [queue.check_channel(), queue.check_node_key(), queue.check_formats()];
        checks.into_iter().find_map(Result::err)
    }

    fn with(url: &str, change: impl FnOnce(&mut MessageQueue)) -> MessageQueue {
        let mut queue = queue(url);
        change(&mut queue);
        queue
    }

    fn channel(url: &str, channel: &str) -> MessageQueue {
        with(url, |queue| channel.clone_into(&mut queue.channel))
    }

    fn node_key(key: &str) -> MessageQueue {
        with("redis://", |queue| key.clone_into(&mut queue.node_key))
    }

    fn formats(url: &str, formats: &str) -> MessageQueue {
        let formats = QueueFormats::parse(formats).expect(formats);
        with(url, |queue| queue.formats = formats.of_broker(&queue.address))
    }

    #[test]
    fn what_fits_is_taken() {
        let rows = [
            queue("redis://"),
            queue("amqp://"),
            queue("kafka://"),
            queue("nats://"),
            queue("memory:a"),
            channel("redis://", "chat rooms: *{}#ä"),
            channel("kafka://", &"a".repeat(CHANNEL_BYTES_MAX)),
            channel("nats://", "a.b"),
            channel("amqp://", "amq"),
            // Node's formats are not spoken: such a name is one like any other.
            channel("redis://", "socket.io#/#"),
            formats("redis://", "python,node,node-sharded"),
            formats("redis://?mode=streams", "node-sharded, node-streams"),
            formats("nats://", "none"),
            formats("nats://", "auto"),
            formats("memory:", "python"),
            with("redis://", |queue| queue.node_key = "chat#io".into()),
        ];
        for queue in rows {
            assert_eq!(fault(&queue), None, "{queue:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_to_change() {
        let rows = [
            (channel("redis://", ""), "channel = \"\": it is empty"),
            (channel("redis://", &"a".repeat(CHANNEL_BYTES_MAX + 1)), "it has 201 bytes"),
            (channel("redis://", "a\nb"), "channel = \"a\\nb\": there is a control character"),
            (channel("redis://", "shardcast.a"), "begin with shardcast."),
            (channel("kafka://", "a b"), "letters, digits and -_. only"),
            (channel("kafka://", "ä"), "letters, digits and -_. only"),
            (channel("kafka://", ".."), "a topic of Kafka"),
            (channel("nats://", "a b"), "no spaces"),
            (channel("nats://", "a.>"), "* or >"),
            (channel("nats://", "a..b"), "no dot stands"),
            (channel("nats://", "a."), "no dot stands"),
            (channel("amqp://", "amq.topic"), "RabbitMQ's own"),
            (channel("redis://?mode=sharded", "{a}"), "leave them out"),
            (
                with("redis://", |queue| {
                    queue.channel = "socket.io-request#a".into();
                    queue.formats = [QueueFormat::Node].into_iter().collect();
                }),
                "take another name",
            ),
            (node_key(""), "node_key = \"\""),
            (node_key(&"a".repeat(NODE_KEY_BYTES_MAX + 1)), "the most is 200"),
            (node_key("a\u{7}"), "control character"),
            (node_key("a*"), "for a pattern"),
            (formats("amqp://u:s3cret@a", "node"), "need Redis, and message_queue is amqp://u:***@a"),
            (
                formats("memory:", "node-streams"),
                "queue_formats = \"node-streams\": Node's formats need Redis",
            ),
            (formats("redis://", "node,node-streams"), "node and node-streams use one channel"),
            (formats("nats://", "python"), "python-socketio has no NATS: write queue_formats = \"none\""),
        ];
        for (queue, expected) in rows {
            let fault = fault(&queue).expect(expected);
            assert!(fault.contains(expected), "{fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
        }
    }

    #[test]
    fn a_broker_that_is_not_built_in_is_named_with_its_feature() {
        for (url, feature, is_there) in [
            ("memory:", "bus", cfg!(feature = "bus")),
            ("rediss://u:s3cret@a", "redis", cfg!(feature = "redis")),
            ("amqp://u:s3cret@a", "amqp", cfg!(feature = "amqp")),
            ("kafka://a", "kafka", cfg!(feature = "kafka")),
            ("nats://s3cret@a", "nats", cfg!(feature = "nats")),
        ] {
            match queue(url).validate() {
                Ok(()) => assert!(is_there, "{url}"),
                Err(fault) => {
                    assert!(!is_there && fault.contains(&format!("its feature {feature}")), "{url}: {fault}");
                    assert!(!fault.contains("s3cret"), "{fault}");
                }
            }
        }
    }

    #[test]
    fn a_message_is_at_most_what_its_broker_takes() {
        for (url, default) in [
            ("redis://", MESSAGE_BYTES_DEFAULT),
            ("memory:", MESSAGE_BYTES_DEFAULT),
            ("kafka://", MESSAGE_BYTES_SMALL),
            ("nats://", MESSAGE_BYTES_SMALL),
        ] {
            assert_eq!(queue(url).message_bytes_max(0), default, "{url}");
            assert_eq!(queue(url).message_bytes_max(7), 7, "{url}");
        }
        let rows = [
            (QUEUE_BYTES_DEFAULT, 0, None),
            (MESSAGE_BYTES_DEFAULT, 0, None),
            (1000, 1000, None),
            (
                MESSAGE_BYTES_DEFAULT - 1,
                0,
                Some("queue_bytes_max = 8388607: a single message may have 8388608"),
            ),
            (1000, 1001, Some("queue_bytes_max = 1000: a single message may have 1001")),
            (usize::MAX, usize::MAX, Some("the most is 67108864")),
        ];
        for (bytes, message, expected) in rows {
            match (check_bounds(bytes, message), expected) {
                (Ok(()), None) => {}
                (Err(fault), Some(expected)) if fault.contains(expected) => {}
                (said, _) => panic!("{bytes}, {message}: {said:?}, not {expected:?}"),
            }
        }
    }
}
