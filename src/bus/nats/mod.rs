//! NATS: what our channels are called there, and how messages are kept (JetStream). [`client`] is the half with IO.
//!
//! Every channel is a subject: `shardcast.C.all`, `shardcast.C.node.<6 hex>`, `shardcast.C.slot.<hex>`. NATS sends a message only
//! where somebody has subscribed to its subject, and keeps nothing. The order of one sender's messages is kept on each subject, not
//! across several: every subscription has a queue of its own in the client. With `?mode=jetstream` a stream of the broker's keeps what
//! goes to all and to slots for a while, and each process reads it from where it was. Formats of others do not exist on NATS.

pub(crate) mod client;

use std::fmt::Write;
use std::time::Duration;

use super::names::{PREFIX, channel_of, name_of};
use super::{Channel, Fault};

/// Slots of rooms: each that has members is a subscription, for which the client has a queue (1 KB, and 6 KB once messages have come), and
/// the broker an entry (some 500 bytes): with all of them 16 to 100 MB.
pub(crate) const SLOTS: u32 = 16_384;

/// Messages that wait for this process in one subscription. When there are more the connection is made anew.
pub(crate) const NATS_QUEUE_MESSAGES_MAX: usize = 16_384;

/// How long JetStream keeps a message: an outage may be so long.
pub(crate) const JETSTREAM_AGE_MAX: Duration = Duration::from_secs(300);

/// How many bytes JetStream keeps.
pub(crate) const JETSTREAM_BYTES_MAX: i64 = 256 * 1024 * 1024;

/// The names on the broker, all of one configured channel.
#[derive(Clone, Debug)]
struct Names {
    /// Of our subjects.
    prefix: String,
    /// In the place where python-socketio's messages are on other brokers.
    python: String,
    /// Of JetStream's stream.
    stream: String,
}

impl Names {
    fn new(channel: &str) -> Names {
        let channel = encoded(channel);
        Names {
            prefix: format!("{PREFIX}{channel}."),
            stream: format!("shardcast_{channel}"),
            python: channel,
        }
    }

    fn subject(&self, channel: &Channel) -> Result<String, Fault> {
        match (name_of(channel), channel) {
            (Some(name), _) => Ok(format!("{}{name}", self.prefix)),
            (None, Channel::Python) => Ok(self.python.clone()),
            (None, _) => Err(Fault::lasting(format!("{channel:?} exists on Redis only, not on NATS"))),
        }
    }

    fn channel(&self, subject: &str) -> Option<Channel> {
        channel_of(subject.strip_prefix(&self.prefix)?.as_bytes())
    }

    /// The subjects that JetStream keeps.
    fn kept(&self) -> Vec<String> {
        vec![format!("{}all", self.prefix), format!("{}slot.*", self.prefix)]
    }

    /// A subject that nobody hears: the broker's answer that it is so says that it has done all before.
    fn unheard(&self) -> String {
        format!("{}unheard", self.prefix)
    }
}

/// Whether JetStream keeps what goes there.
fn is_kept(channel: &Channel) -> bool {
    matches!(channel, Channel::All | Channel::Slot(_))
}

/// A name as one part of a subject, in which `.`, `*`, `>` and space have meanings: `=` and two hexadecimal digits stand for
/// every byte but letters, digits, `-` and `_`. Different names stay different. (Before 2.10 the broker takes a `%` in a stream's
/// name for a directive of its own.)
fn encoded(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            _ => write!(text, "={byte:02X}").unwrap_or(()),
        }
        text
    })
}

/// Where in JetStream's stream a process is. A stream that was made anew begins at one again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// When the stream was made, as the broker says it.
    created: String,
    /// The last message that was read.
    sequence: u64,
}

/// With which message to go on reading. `place` is where the last connection was, if there was one; `last` the newest message.
fn first_to_read(place: Option<&Place>, created: &str, last: u64) -> u64 {
    match place {
        None => last + 1,
        Some(place) if place.created == created => place.sequence.min(last) + 1,
        Some(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;

    #[test]
    fn a_channel_is_one_part_of_a_subject() {
        let cases = [
            ("flask-socketio", "flask-socketio"),
            ("a.b", "a=2Eb"),
            ("a b*c>", "a=20b=2Ac=3E"),
            ("a=2Eb", "a=3D2Eb"),
            ("$SYS", "=24SYS"),
            ("räume", "r=C3=A4ume"),
        ];
        for (channel, expected) in cases {
            assert_eq!(encoded(channel), expected);
        }
    }

    #[test]
    fn subjects_lead_back_to_our_channels() {
        let names = Names::new("a.b");
        for channel in [Channel::All, Channel::Slot(0x2a), Channel::Node(NodeTag([1, 2, 3]))] {
            let subject = names.subject(&channel).expect("ours");
            assert_eq!(names.channel(&subject), Some(channel));
        }
        assert_eq!(names.subject(&Channel::Slot(0x2a)).expect("ours"), "shardcast.a=2Eb.slot.2a");
        assert_eq!(names.subject(&Channel::Python).expect("a name of its own"), "a=2Eb");
        for subject in ["shardcast.a=2Eb.slot.2A", "shardcast.other.all", "all", ""] {
            assert_eq!(names.channel(subject), None, "{subject}");
        }
        for others in [Channel::Plain("x".into()), Channel::Pattern("x".into()), Channel::Stream("x".into())]
        {
            let fault = names.subject(&others).expect_err("of Redis");
            assert!(fault.is_lasting && fault.text.contains("NATS"), "{}", fault.text);
        }
    }

    #[test]
    fn reading_goes_on_where_it_was() {
        let place = |created: &str, sequence| Place { created: created.to_owned(), sequence };
        let cases = [
            (None, 9, 10, "first: what is new"),
            (Some(place("one", 5)), 9, 6, "the next"),
            (Some(place("one", 9)), 9, 10, "nothing was missed"),
            (
                Some(place("one", 10)),
                9,
                10,
                "the broker was killed before it had written the last: what is new",
            ),
            (Some(place("two", 5)), 9, 1, "another stream: all of it"),
        ];
        for (place, last, expected, case) in cases {
            assert_eq!(first_to_read(place.as_ref(), "one", last), expected, "{case}");
        }
    }
}
