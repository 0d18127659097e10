//! Kafka: which topics there are, which records make a batch, and where reading goes on. [`client`] is the half with IO.
//!
//! Ours is the topic `shardcast.C`: a record's key is the channel's name, its value the message. python-socketio's is the topic `C`:
//! JSON without a key, spread over all partitions. Every process reads all partitions of both, at first from their ends and after
//! an outage from where it was, and leaves what it does not want by the key.

pub(crate) mod client;

use super::names::{PREFIX, channel_of, name_of};
use super::{Channel, Fault};

/// Slots of rooms. Every process reads every record, so a slot is but an entry in a table.
pub(crate) const SLOTS: u32 = 16_384;

/// The largest batch of records, and so the largest record: Kafka's `max.message.bytes` unless it is told otherwise.
pub(crate) const KAFKA_BATCH_BYTES_MAX: usize = 1_048_588;

/// What a batch has beside its records: 61 bytes of head.
const BATCH_HEAD_BYTES: usize = 64;

/// What a record has beside its value: its length, times, offset and key's and value's lengths as variable numbers, and the key.
const RECORD_HEAD_BYTES: usize = 64;

/// The largest message.
pub(crate) const KAFKA_BODY_BYTES_MAX: usize = KAFKA_BATCH_BYTES_MAX - BATCH_HEAD_BYTES - RECORD_HEAD_BYTES;

/// Bytes of records that are asked for at a time; one larger record comes all the same.
pub(crate) const KAFKA_FETCH_BYTES_MAX: i32 = 4 * 1024 * 1024;

/// The topics of one configured channel.
#[derive(Clone, Debug)]
struct Names {
    ours: String,
    python: String,
}

/// Which topic a channel is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Ours,
    Python,
}

impl Names {
    fn new(channel: &str) -> Names {
        Names { ours: format!("{PREFIX}{channel}"), python: channel.to_owned() }
    }

    fn topic(&self, topic: Topic) -> &str {
        match topic {
            Topic::Ours => &self.ours,
            Topic::Python => &self.python,
        }
    }

    /// Kafka's rule for a name.
    fn check(&self) -> Result<(), Fault> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match self.ours.len() <= 249 && !self.python.is_empty() && self.python.bytes().all(is_plain) {
            true => Ok(()),
            false => Err(Fault::lasting(format!(
                "channel = {:?} cannot be a topic of Kafka: write letters, digits, and -_. only, 239 at most",
                self.python
            ))),
        }
    }
}

/// Topic and key of a channel.
fn route(channel: &Channel) -> Result<(Topic, Option<String>), Fault> {
    match (name_of(channel), channel) {
        (Some(name), _) => Ok((Topic::Ours, Some(name))),
        (None, Channel::Python) => Ok((Topic::Python, None)),
        (None, _) => Err(Fault::lasting(format!("{channel:?} exists on Redis only, not on Kafka"))),
    }
}

/// The channel of a record.
fn channel(topic: Topic, key: Option<&[u8]>) -> Option<Channel> {
    match topic {
        Topic::Ours => channel_of(key?),
        Topic::Python => Some(Channel::Python),
    }
}

/// Which of so many partitions a key is in: one key, one partition, so that the order of its records is kept (FNV-1a).
fn partition(key: &[u8], count: usize) -> usize {
    let hash =
        key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash as usize % count.max(1)
}

/// Cuts a list of records of such sizes, in order, into batches that Kafka takes: how many records are in each.
fn batches(value_bytes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut lens = Vec::new();
    let mut batch_bytes = usize::MAX;
    for bytes in value_bytes {
        let bytes = bytes + RECORD_HEAD_BYTES;
        batch_bytes = batch_bytes.saturating_add(bytes);
        match lens.last_mut() {
            Some(len) if batch_bytes <= KAFKA_BATCH_BYTES_MAX => *len += 1,
            _ => {
                lens.push(1);
                batch_bytes = BATCH_HEAD_BYTES + bytes;
            }
        }
    }
    lens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;

    #[test]
    fn keys_lead_back_to_their_channels() {
        let cases = [
            (Channel::All, Topic::Ours, Some("all")),
            (Channel::Slot(0x3fff), Topic::Ours, Some("slot.3fff")),
            (Channel::Node(NodeTag([1, 2, 3])), Topic::Ours, Some("node.010203")),
            (Channel::Python, Topic::Python, None),
        ];
        for (of, topic, key) in cases {
            assert_eq!(route(&of).expect("a channel of ours or Python's"), (topic, key.map(str::to_owned)));
            assert_eq!(channel(topic, key.map(str::as_bytes)), Some(of));
        }
        assert_eq!(channel(Topic::Python, Some(b"any")), Some(Channel::Python));
        for key in [None, Some("slot.zz"), Some("")] {
            assert_eq!(channel(Topic::Ours, key.map(str::as_bytes)), None, "{key:?}");
        }
        for others in [Channel::Plain("x".into()), Channel::Pattern("x".into()), Channel::Stream("x".into())]
        {
            assert!(route(&others).expect_err("of Redis").is_lasting);
        }
    }

    #[test]
    fn a_topic_has_a_name_that_kafka_takes() {
        let longest = "c".repeat(239);
        for good in ["flask-socketio", "a.B_9", longest.as_str()] {
            assert!(Names::new(good).check().is_ok(), "{good}");
        }
        let too_long = "c".repeat(240);
        for bad in ["", "a b", "räume", "a/b", too_long.as_str()] {
            assert!(Names::new(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_has_one_partition_of_those_there_are() {
        for count in [1, 3, 12] {
            let mut used = vec![0; count];
            for slot in 0..SLOTS {
                used[partition(format!("slot.{slot:x}").as_bytes(), count)] += 1;
            }
            let even = SLOTS as usize / count;
            assert!(used.iter().all(|len| (even / 2..=even * 2).contains(len)), "{used:?}");
        }
        assert_eq!(partition(b"all", 12), partition(b"all", 12));
        assert_eq!(partition(b"all", 0), 0);
    }

    #[test]
    fn records_are_cut_into_batches_that_kafka_takes() {
        let half = KAFKA_BATCH_BYTES_MAX / 2;
        let cases: [(&[usize], &[usize]); 6] = [
            (&[], &[]),
            (&[1, 2, 3], &[3]),
            (&[KAFKA_BODY_BYTES_MAX], &[1]),
            (&[KAFKA_BODY_BYTES_MAX, 0], &[1, 1]),
            (&[half, half, half], &[1, 1, 1]),
            (&[half - 200, half - 200, 1, half], &[3, 1]),
        ];
        for (sizes, expected) in cases {
            assert_eq!(batches(sizes.iter().copied()), expected, "{sizes:?}");
        }
    }
}
