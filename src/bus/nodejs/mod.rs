//! What Node's Redis adapters say to each other, so that shardcast processes and Node's share a broker.
//!
//! Three formats, of which a Redis prefix has one: [`classic`] (@socket.io/redis-adapter 8, and @socket.io/redis-emitter 5),
//! [`sharded`] (its `createShardedAdapter`), [`streams`] (@socket.io/redis-streams-adapter 0.3). All of them say what [`Message`]
//! and [`Reply`] hold. Codecs between those and bytes, and the channels these go by; `answers` keeps who owes whom an answer.
//!
//! To Node a shardcast process is one more server: it hears what all hear, answers for its own sockets, and is counted as a
//! subscriber. Among themselves shardcast processes speak their own format, so what one of them writes here is for Node alone:
//! all others know it by the mark of its [`Uid`] and leave it.
//!
//! Whatever a broker brings is checked here, and nothing here panics over it. What is written is checked too: some of these
//! formats' readers do not survive what they do not expect. Does not know sockets, subscriptions or the clock.

pub(crate) mod answers;
mod buffers;
pub(crate) mod classic;
mod cluster;
mod facts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod parts;
pub(crate) mod sharded;
mod sink;
mod source;
pub(crate) mod speaker;
pub(crate) mod streams;
#[cfg(test)]
mod vectors;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::base::ids::NodeTag;
use crate::bus::{Channel, Delivery, Post};
use crate::config::queue::formats::QueueFormat;
use crate::message::inquiry::AnswerText;
use crate::message::inquiry::SocketFacts;
use crate::message::names::Names;
use crate::message::server_event::ServerEvent;
use crate::message::target::Target;
use crate::protocol::socketio::event::Event;
use crate::protocol::socketio::frames::{FramedEvent, FramesError, frame_foreign_event};
use crate::protocol::socketio::json::JsonError;
use crate::protocol::socketio::msgpack::MsgpackError;
use crate::protocol::socketio::packet::PacketError;

/// A message of more bytes is not read. Descriptions of all sockets of a large Node process are the largest there are, with some
/// kilobyte for each.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The id of another process, or of a request: theirs have 6 to 16 characters, ours up to 40.
pub(crate) const ID_BYTES_MAX: usize = 128;

/// How each of our ids begins. Node's have 6 characters or 16 hexadecimal digits, emitters' are `emitter`; nothing in the npm
/// packages looks at their length or alphabet.
const MARK: &str = "shardcast-";

/// The id of this process to Node: the mark and the tag of its session ids. One for all namespaces, where Node has one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uid(Box<str>);

impl Uid {
    pub(crate) fn new(tag: NodeTag) -> Uid {
        Uid(format!("{MARK}{tag}").into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether an id is that of a shardcast process, this one or another: what it says here is for Node.
pub(crate) fn is_ours(uid: &str) -> bool {
    uid.starts_with(MARK)
}

/// Valid JSON with placeholders for its binary values, which follow. Without attachments an object that looks like a placeholder
/// is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) json: String,
    pub(crate) attachments: Vec<Bytes>,
}

impl Payload {
    /// An event's array, of the frames that outboxes hold.
    pub(crate) fn of_event(event: &FramedEvent<'_>) -> Payload {
        let mut json = serde_json::to_string(&[&event.name]).expect("strings have JSON");
        if !event.args.is_empty() {
            json.pop();
            json.extend([",", event.args, "]"]);
        }
        let attachments = event.attachments.iter().map(|bytes| Bytes::copy_from_slice(bytes));
        Payload { json, attachments: attachments.collect() }
    }

    /// The array of an event for servers.
    pub(crate) fn of_server_event(event: &ServerEvent) -> Payload {
        let mut json = serde_json::to_string(&[&event.name]).expect("strings have JSON");
        if !event.args.json.is_empty() {
            json.pop();
            json.extend([",", &event.args.json, "]"]);
        }
        Payload { json, attachments: event.args.attachments.clone() }
    }

    /// The name and the arguments of an event for servers that has been read.
    ///
    /// # Errors
    /// It is no event.
    pub(crate) fn into_server_event(self) -> Result<(String, AnswerText), FramesError> {
        let event = Event::decode(&self.json, &self.attachments).map_err(FramesError::Packet)?;
        let (name, json) = (event.name.to_string(), event.args.raw().to_owned());
        Ok((name, AnswerText { json, attachments: self.attachments }))
    }

    /// Appends an event that has been read as the frames that clients of a namespace get.
    ///
    /// # Errors
    /// What clients would hang up for. Nothing is appended then.
    pub(crate) fn append_frames(&self, out: &mut Vec<u8>, namespace: &str) -> Result<(), FramesError> {
        let event = Event::decode(&self.json, &self.attachments).map_err(FramesError::Packet)?;
        frame_foreign_event(out, namespace, (&event.name, event.args.raw()), &self.attachments)
    }
}

/// A request's name: its asker's own, and of no meaning to others.
pub(crate) type RequestId = Box<str>;

/// What is said to all servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Broadcast(Broadcast),
    /// The sockets of a target enter these rooms.
    Join {
        target: Target,
        rooms: Names,
    },
    Leave {
        target: Target,
        rooms: Names,
    },
    Disconnect {
        target: Target,
        /// Their connections end too.
        close: bool,
    },
    /// `fetchSockets`: to be answered by [`Answer::Sockets`] with those that are here.
    Fetch {
        request: RequestId,
        target: Target,
    },
    /// To be answered by [`Answer::Rooms`]. Classic only.
    AllRooms {
        request: RequestId,
    },
    /// The ids of the sockets in any of these rooms, of older askers: to be answered by [`Answer::Ids`]. Classic only.
    Ids {
        request: RequestId,
        target: Target,
    },
    /// `serverSideEmit`: an event for the servers themselves, and whether each is to answer it by [`Answer::ServerSide`].
    ServerSide {
        request: Option<RequestId>,
        /// An array: the event's name and its arguments.
        event: Payload,
    },
    Reply(Reply),
}

/// An event for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broadcast {
    pub(crate) target: Target,
    /// An array: the event's name and its arguments.
    pub(crate) event: Payload,
    pub(crate) wants: Option<Wants>,
}

/// The asker wants to know how many clients got an event, [`Answer::Count`], and then what each has answered, [`Answer::Ack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) request: RequestId,
    /// How long it waits.
    pub(crate) timeout: Duration,
}

/// What a server answers to the one that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) request: RequestId,
    pub(crate) answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Sockets(Vec<SocketFacts>),
    Ids(Names),
    Rooms(Names),
    /// The one value that is answered to a server-side event, if it is not `undefined`.
    ServerSide(Option<Payload>),
    /// How many clients got the event.
    Count(u64),
    /// The first argument of one client's answer, if it gave one: Node's adapters pass on no more.
    Ack(Option<Payload>),
}

/// A message as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) namespace: String,
    /// The process that said it, to whom replies go. An emitter may have none, and classic replies have none.
    pub(crate) sender: Option<Box<str>>,
    pub(crate) message: Message,
}

impl Heard {
    /// Whether it is to be answered.
    pub(crate) fn is_asking(&self) -> bool {
        match &self.message {
            Message::Broadcast(broadcast) => broadcast.wants.is_some(),
            Message::ServerSide { request, .. } => request.is_some(),
            Message::Fetch { .. } | Message::AllRooms { .. } | Message::Ids { .. } => true,
            Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. } | Message::Reply(_) => {
                false
            }
        }
    }
}

/// Why a message from the broker is of no use. It is left, counted and logged at most seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// More than [`MESSAGE_BYTES_MAX`].
    TooLarge,
    /// A channel that the format does not have.
    ChannelUnknown,
    /// The channel of another namespace than the message.
    ChannelOther,
    NotUtf8,
    /// No JSON, or a value of another kind than the format has there.
    NotJson,
    NotBase64,
    Msgpack(MsgpackError),
    /// A value of another kind than the format has there.
    NotExpected,
    /// What the message cannot do without.
    Missing(&'static str),
    TypeUnknown(u64),
    NamespaceInvalid,
    /// An id that is longer than [`ID_BYTES_MAX`].
    IdTooLong,
    /// What any event must keep to.
    Event(PacketError),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::TooLarge => write!(formatter, "more than {MESSAGE_BYTES_MAX} bytes"),
            Unreadable::ChannelUnknown => formatter.write_str("a channel that this format does not have"),
            Unreadable::ChannelOther => formatter.write_str("another namespace than its channel's"),
            Unreadable::NotUtf8 => formatter.write_str("text that is not UTF-8"),
            Unreadable::NotJson => formatter.write_str("no JSON of this format"),
            Unreadable::NotBase64 => formatter.write_str("neither JSON nor base64"),
            Unreadable::Msgpack(error) => formatter.write_str(error.reason()),
            Unreadable::NotExpected => formatter.write_str("a value of the wrong kind"),
            Unreadable::Missing(what) => write!(formatter, "no {what}"),
            Unreadable::TypeUnknown(number) => write!(formatter, "the unknown type {number}"),
            Unreadable::NamespaceInvalid => formatter.write_str("an invalid namespace"),
            Unreadable::IdTooLong => write!(formatter, "an id of more than {ID_BYTES_MAX} bytes"),
            Unreadable::Event(error) => formatter.write_str(error.reason()),
        }
    }
}

impl From<MsgpackError> for Unreadable {
    fn from(error: MsgpackError) -> Unreadable {
        Unreadable::Msgpack(error)
    }
}

impl From<PacketError> for Unreadable {
    fn from(error: PacketError) -> Unreadable {
        Unreadable::Event(error)
    }
}

/// Why a message of ours is not for Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// A target without rooms, and not for everyone: to Node no rooms would be all clients.
    NobodyMeant,
    /// An event that a Node server takes for one of its own, or that ends its process when no handler is there for it.
    NameReserved,
    /// The format has no such message.
    NotInFormat,
    /// A payload that is no JSON, or nested too deep.
    Payload(JsonError),
}

impl fmt::Display for Unwritable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Unwritable::NobodyMeant => "it is for nobody",
            Unwritable::NameReserved => "Node servers keep this event's name for themselves",
            Unwritable::NotInFormat => "the format of this Redis adapter has no such message",
            Unwritable::Payload(JsonError::Invalid) => "its arguments are no JSON",
            Unwritable::Payload(JsonError::TooDeep) => "its arguments are nested too deep",
        })
    }
}

/// One of the three formats, as a server is configured to speak it.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Classic(classic::Classic),
    Sharded(sharded::Sharded),
    Streams(streams::Streams),
}

fn begins_with(name: &str, prefix: &str, next: char) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(next))
}

/// Calls a method of whichever format it is.
macro_rules! each {
    ($format:expr, $inner:ident => $call:expr) => {
        match $format {
            Format::Classic($inner) => $call,
            Format::Sharded($inner) => $call,
            Format::Streams($inner) => $call,
        }
    };
}

impl Format {
    /// A format whose channels begin with `key`: what Node calls `key`, `channelPrefix`, and for a stream `streamName`. Its other
    /// options are what they are on Node unless it is told otherwise. None if the format is not Node's.
    pub(crate) fn new(format: QueueFormat, key: &str, uid: Uid) -> Option<Format> {
        let prefix = || key.into();
        Some(match format {
            QueueFormat::Node => {
                Format::Classic(classic::Classic { prefix: prefix(), uid, is_answer_for_asker_alone: false })
            }
            QueueFormat::NodeSharded => {
                Format::Sharded(sharded::Sharded { prefix: prefix(), uid, mode: sharded::Mode::Dynamic })
            }
            QueueFormat::NodeStreams => Format::Streams(streams::Streams {
                prefix: prefix(),
                stream: prefix(),
                stream_count: 1,
                is_sharded: false,
                uid,
            }),
            QueueFormat::Python => return None,
        })
    }

    /// Whether a channel is one of the format's: the classic and the streams adapter have names in common, so a prefix has one of
    /// the two.
    pub(crate) fn has(&self, channel: &Channel) -> bool {
        match (self, channel) {
            (Format::Classic(classic), Channel::Plain(_)) => classic.has(channel),
            (Format::Sharded(sharded), Channel::Sharded(name)) => begins_with(name, &sharded.prefix, '#'),
            (Format::Streams(streams), Channel::Stream(name)) => {
                **name == *streams.stream || begins_with(name, &streams.stream, '-')
            }
            (Format::Streams(streams), Channel::Plain(name)) if !streams.is_sharded => {
                begins_with(name, &streams.prefix, '#')
            }
            (Format::Streams(streams), Channel::Sharded(name)) if streams.is_sharded => {
                begins_with(name, &streams.prefix, '#')
            }
            _ => false,
        }
    }

    /// What a server hears for a namespace whatever rooms it has. Once it hears that, Node waits for its answers.
    pub(crate) fn channels(&self, namespace: &str) -> Vec<Channel> {
        each!(self, format => format.channels(namespace))
    }

    /// What a server hears besides while it has members of this room; none if the channels of the namespace bring it.
    pub(crate) fn room_channel(&self, namespace: &str, room: &str) -> Option<Channel> {
        match self {
            Format::Sharded(sharded) => sharded.room_channel(namespace, room),
            Format::Classic(_) | Format::Streams(_) => None,
        }
    }

    /// The channel whose subscribers are the servers of a namespace, shardcast's among them: `PUBSUB NUMSUB`, or `SHARDNUMSUB`
    /// if it is a sharded one.
    pub(crate) fn count_channel(&self, namespace: &str) -> Channel {
        each!(self, format => format.count_channel(namespace))
    }

    /// A channel on which nothing is said, and which shardcast processes hear with the other one: by that many its subscribers are
    /// not Node's servers.
    pub(crate) fn mark_channel(&self, namespace: &str) -> Channel {
        let mark = |name: &str| format!("shardcast.node.{name}").into();
        match self.count_channel(namespace) {
            Channel::Plain(name) => Channel::Plain(mark(&name)),
            Channel::Sharded(name) => Channel::Sharded(mark(&name)),
            other => other,
        }
    }

    /// What was said, by Node or an emitter; none if it is for others, by a shardcast process, or a heartbeat.
    pub(crate) fn read(&self, delivery: &Delivery) -> Result<Option<Heard>, Unreadable> {
        each!(self, format => format.read(delivery))
    }

    /// What to publish so that all of Node's servers hear a message. A [`Message::Reply`] goes by [`reply`](Format::reply).
    pub(crate) fn write(&self, namespace: &str, message: &Message) -> Result<Post, Unwritable> {
        each!(self, format => format.write(namespace, message))
    }

    /// What to publish so that a server that asked hears the answer. `to` is the sender of the request.
    pub(crate) fn reply(&self, namespace: &str, to: &str, reply: &Reply) -> Result<Post, Unwritable> {
        each!(self, format => format.reply(namespace, to, reply))
    }
}
