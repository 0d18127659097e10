//! Redis and Valkey: what our channels are called there, where a name lies in a cluster, and how far a stream was read.
//!
//! Three ways to speak (`mode`): pub/sub; sharded pub/sub, which in a cluster reaches one node and not all; and one stream for what all
//! processes and slots are told, which Redis keeps for a while. What Node's adapters say goes the way that they expect. No IO.

mod ahead {
    pub(super) mod client;
}
pub(crate) mod client;
#[cfg(test)]
mod contract;
mod faults {
    pub(super) mod client;
}
mod heard;
mod nodes {
    pub(super) mod client;
}
mod queue {
    pub(super) mod client;
}
mod reading {
    pub(super) mod client;
}
mod resp;
mod streams;

use std::collections::VecDeque;
use std::fmt;

use super::{Channel, names};
use crate::config::queue::address::RedisMode;
use crate::mesh::slots::ROOM_SLOTS;

/// Slots of rooms, as many as can be named: one that is heard costs Redis 235 bytes, and 135 more for each further process.
pub(crate) const SLOTS: u32 = ROOM_SLOTS;

/// The largest body of a message. Redis cuts off a subscriber for whom 32 MiB wait, and two of these are less than that.
pub(crate) const REDIS_BODY_BYTES_MAX: usize = 15 * 1024 * 1024;

/// Bytes that wait to be heard here. Who is further behind is better off with a new connection, as Redis itself sees it.
pub(crate) const REDIS_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Messages that our own stream keeps: a little more, as Redis trims by whole blocks.
pub(crate) const REDIS_STREAM_LEN_MAX: usize = 100_000;

/// The same of a stream of Node's adapter: its own default.
pub(crate) const REDIS_NODE_STREAM_LEN_MAX: usize = 10_000;

/// Ids of a stream that were read, one of a thousand: by them an old copy of a stream is told from a new one.
pub(crate) const REDIS_SAMPLES_MAX: usize = 64;

/// How many messages lie between two samples.
const SAMPLE_EVERY: u32 = 1_000;

/// What the fields of our own stream are called: the channel without our prefix, and the body.
pub(crate) const CHANNEL_FIELD: &str = "c";
pub(crate) const BODY_FIELD: &str = "b";

/// Slots of a cluster of Redis.
const CLUSTER_SLOTS: u16 = 16_384;

/// In which of Redis' ways a channel is spoken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Plain,
    Pattern,
    Sharded,
    Stream,
    /// Not spoken on: a key, with a value for a while.
    Record,
}

/// The names of channels for one configured channel.
#[derive(Debug)]
pub(crate) struct Names {
    channel: Box<str>,
    /// What our own names begin with, and, without its last point, the name of our stream.
    prefix: String,
    mode: RedisMode,
}

impl Names {
    pub(crate) fn new(channel: &str, mode: RedisMode) -> Names {
        let prefix = format!("{}{channel}.", names::PREFIX);
        Names { channel: channel.into(), prefix, mode }
    }

    /// The configured channel.
    pub(crate) fn channel_name(&self) -> &str {
        &self.channel
    }

    /// The key of the stream that has our own messages.
    pub(crate) fn own_stream(&self) -> &str {
        self.prefix.strip_suffix('.').unwrap_or(&self.prefix)
    }

    /// Whether a channel is part of our own stream.
    pub(crate) fn is_in_own_stream(&self, channel: &Channel) -> bool {
        self.mode == RedisMode::Streams && matches!(channel, Channel::All | Channel::Slot(_))
    }

    pub(crate) fn way(&self, channel: &Channel) -> Way {
        match channel {
            Channel::All | Channel::Slot(_) if self.mode == RedisMode::Streams => Way::Stream,
            Channel::All | Channel::Slot(_) | Channel::Node(_) if self.mode == RedisMode::Sharded => {
                Way::Sharded
            }
            Channel::All | Channel::Slot(_) | Channel::Node(_) | Channel::Python | Channel::Plain(_) => {
                Way::Plain
            }
            Channel::Pattern(_) => Way::Pattern,
            Channel::Sharded(_) => Way::Sharded,
            Channel::Stream(_) => Way::Stream,
            Channel::Record { .. } => Way::Record,
        }
    }

    /// What Redis calls it; of a channel in our own stream, what it would be called outside.
    pub(crate) fn name(&self, channel: &Channel) -> String {
        match channel {
            Channel::Python => self.channel.to_string(),
            Channel::Plain(name)
            | Channel::Pattern(name)
            | Channel::Sharded(name)
            | Channel::Stream(name) => name.to_string(),
            Channel::Record { name, .. } => self.record(name),
            Channel::All | Channel::Node(_) | Channel::Slot(_) => {
                let mut name = self.prefix.clone();
                name.push_str(&names::name_of(channel).unwrap_or_default());
                name
            }
        }
    }

    /// The channel of a message that came by this name. None if the name is nothing that could have been subscribed to.
    pub(crate) fn channel(&self, way: Way, name: &[u8]) -> Option<Channel> {
        if let Some(own) = name.strip_prefix(self.prefix.as_bytes()) {
            return names::channel_of(own).filter(|channel| self.way(channel) == way);
        }
        match way {
            Way::Plain | Way::Pattern if name == self.channel.as_bytes() => Some(Channel::Python),
            Way::Plain | Way::Pattern => Some(Channel::Plain(str::from_utf8(name).ok()?.into())),
            Way::Sharded => Some(Channel::Sharded(str::from_utf8(name).ok()?.into())),
            Way::Stream | Way::Record => None,
        }
    }

    /// The key of a record. In a cluster the braces put it where our stream is, so that what is said behind it is read after it.
    pub(crate) fn record(&self, name: &str) -> String {
        format!("{{{}}}.left.{name}", self.own_stream())
    }
}

/// The slot of a key in a cluster: CRC16 of what stands in the first braces, or of all of it (Redis Cluster specification, *Hash tags*).
pub(crate) fn cluster_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let len = rest.iter().position(|byte| *byte == b'}').filter(|len| *len > 0)?;
        Some(&rest[..len])
    });
    let sum = tag.unwrap_or(key).iter().fold(0_u16, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            let carry = sum >> 15;
            (sum << 1) ^ (carry * 0x1021)
        })
    });
    sum % CLUSTER_SLOTS
}

/// A place in a stream: milliseconds, and a number within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(u64, u64);

impl StreamId {
    /// Before everything.
    pub(crate) const START: StreamId = StreamId(0, 0);

    pub(crate) fn parse(text: &[u8]) -> Option<StreamId> {
        let (milliseconds, number) = str::from_utf8(text).ok()?.split_once('-')?;
        Some(StreamId(milliseconds.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.0, self.1)
    }
}

/// How far a stream was read.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) last: StreamId,
    samples: VecDeque<StreamId>,
    unsampled: u32,
}

impl Progress {
    pub(crate) fn new(last: StreamId) -> Progress {
        Progress { last, samples: VecDeque::new(), unsampled: 0 }
    }

    pub(crate) fn read(&mut self, id: StreamId) {
        self.last = id;
        if self.samples.is_empty() || self.unsampled >= SAMPLE_EVERY {
            if self.samples.len() == REDIS_SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(id);
            self.unsampled = 0;
        }
        self.unsampled += 1;
    }

    /// Ids that were in the stream when it was read.
    pub(crate) fn samples(&self) -> impl Iterator<Item = StreamId> {
        self.samples.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;

    #[test]
    fn channels_have_names_and_names_lead_back() {
        let tag = NodeTag([0xa, 0xb, 0xc]);
        let rows = [
            (RedisMode::PubSub, Channel::All, Way::Plain, "shardcast.c.all"),
            (RedisMode::PubSub, Channel::Node(tag), Way::Plain, "shardcast.c.node.0a0b0c"),
            (RedisMode::PubSub, Channel::Slot(0xab), Way::Plain, "shardcast.c.slot.ab"),
            (RedisMode::Sharded, Channel::Slot(0xab), Way::Sharded, "shardcast.c.slot.ab"),
            (RedisMode::Sharded, Channel::All, Way::Sharded, "shardcast.c.all"),
            (RedisMode::Sharded, Channel::Python, Way::Plain, "c"),
            (RedisMode::Streams, Channel::Node(tag), Way::Plain, "shardcast.c.node.0a0b0c"),
            (RedisMode::Streams, Channel::Slot(1), Way::Stream, "shardcast.c.slot.1"),
            (RedisMode::Streams, Channel::Python, Way::Plain, "c"),
            (RedisMode::PubSub, Channel::Plain("socket.io#/#".into()), Way::Plain, "socket.io#/#"),
            (RedisMode::PubSub, Channel::Sharded("socket.io#/#".into()), Way::Sharded, "socket.io#/#"),
        ];
        for (mode, channel, way, name) in rows {
            let names = Names::new("c", mode);
            assert_eq!((names.way(&channel), names.name(&channel).as_str()), (way, name));
            assert_eq!(names.channel(way, name.as_bytes()), Some(channel));
        }
    }

    #[test]
    fn a_name_that_was_not_subscribed_to_is_no_channel() {
        let names = Names::new("c", RedisMode::Sharded);
        let rows: [(Way, &[u8]); 6] = [
            (Way::Sharded, b"shardcast.c.slot.400000"),
            (Way::Sharded, b"shardcast.c.slot.+1"),
            (Way::Sharded, b"shardcast.c.everybody"),
            (Way::Plain, b"shardcast.c.all"),
            (Way::Plain, b"\xff"),
            (Way::Stream, b"c"),
        ];
        for (way, name) in rows {
            assert_eq!(names.channel(way, name), None, "{}", name.escape_ascii());
        }
        assert_eq!(
            names.channel(Way::Pattern, b"socket.io#/#room#"),
            Some(Channel::Plain("socket.io#/#room#".into()))
        );
    }

    /// As `CLUSTER KEYSLOT` of Redis 7.0.15 answers, but for the first, which is the specification's own.
    #[test]
    fn slots_of_a_cluster_are_redis_own() {
        let rows: [(&str, u16); 5] = [
            ("123456789", 0x31c3),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
        ];
        for (key, slot) in rows {
            assert_eq!(cluster_slot(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_record_lies_where_our_stream_lies() {
        let names = Names::new("c", RedisMode::Streams);
        let record = names.record("5f");
        assert_eq!(record, "{shardcast.c}.left.5f");
        assert_eq!(cluster_slot(record.as_bytes()), cluster_slot(names.own_stream().as_bytes()));
        let channel = Channel::Record { name: "5f".into(), keep: std::time::Duration::from_secs(1) };
        assert_eq!((names.way(&channel), names.name(&channel)), (Way::Record, record));
        assert_eq!(names.channel(Way::Record, b"shardcast.c.all"), None, "nothing comes by it");
    }

    #[test]
    fn places_in_a_stream_are_ordered_and_are_written_as_they_are_read() {
        let ids: Vec<StreamId> = ["0-0", "5-18", "10-2", "18446744073709551615-0"]
            .iter()
            .map(|text| StreamId::parse(text.as_bytes()).expect("an id"))
            .collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[2].to_string(), "10-2");
        for text in ["", "5", "5-", "-5", "a-1", "1-18446744073709551616"] {
            assert_eq!(StreamId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_few_of_many_ids_are_remembered() {
        let mut progress = Progress::new(StreamId::START);
        for number in 1..=200_000 {
            progress.read(StreamId(number, 0));
        }
        let samples: Vec<StreamId> = progress.samples().collect();
        assert_eq!((samples.len(), progress.last), (REDIS_SAMPLES_MAX, StreamId(200_000, 0)));
        assert!(samples[0] > StreamId(130_000, 0) && samples.is_sorted());
    }
}
