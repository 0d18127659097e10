//! What processes say to each other, and to other people's processes, through a message broker.
//!
//! A [`Broker`] moves bytes: it knows neither who is meant nor what is said. The formats (`own`, `python`, `nodejs`) are codecs
//! between bytes and the closed vocabulary of [`message`](crate::message). Only the brokers' clients, `*/client.rs`, see a socket or
//! a clock; they run on the companion thread, with tokio. No shard ever waits for any of this.

#[cfg(feature = "amqp")]
pub(crate) mod amqp;
mod body;
#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod fleet;
pub(crate) mod hub;
#[cfg(test)]
mod hub_tests;
mod ids;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
pub(crate) mod left;
pub(crate) mod make;
pub(crate) mod memory;
pub(crate) mod names;
#[cfg(feature = "nats")]
pub(crate) mod nats;
pub(crate) mod nodejs;
pub(crate) mod own;
pub(crate) mod python;
pub(crate) mod questions;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod run;
pub(crate) mod seldom;
pub(crate) mod subscriptions;
pub(crate) mod unix;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::base::ids::NodeTag;
use crate::base::time::Time;
use crate::mesh::link::Said;
use crate::message::inquiry::{AnswerText, Ask, Findings};
use crate::message::recovery::Position;
use crate::message::target::{SocketChange, Target};

/// Where a message goes, or comes from. Each broker has a way of its own to say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum Channel {
    /// Ours: what every process of the fleet hears.
    All,
    /// Ours: what the processes with this tag hear, as a rule one.
    Node(NodeTag),
    /// Ours: rooms that share a slot, heard where one of them has members.
    Slot(u32),
    /// python-socketio's: the configured `channel` itself.
    Python,
    /// One of Node's Redis adapters', by its name on Redis. Other brokers have none.
    Plain(Box<str>),
    /// The same as a pattern: to subscribe to, not to publish to.
    Pattern(Box<str>),
    /// The same of Redis' sharded pub/sub.
    Sharded(Box<str>),
    /// A stream of Redis, read from its end, and after a loss from where it was.
    Stream(Box<str>),
    /// No channel: what is said is kept under this name, for so long, for whoever takes it first. Brokers that keep sockets have it.
    Record { name: Box<str>, keep: Duration },
}

/// What a message consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// Of a [`Channel::Stream`]: names and values, in order.
    Fields(Vec<(Cow<'static, str>, Bytes)>),
}

/// A message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) channel: Channel,
    pub(crate) body: Body,
    /// May be sent again when it is not known whether the broker has got it: whoever hears it twice can tell.
    pub(crate) may_repeat: bool,
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// As subscribed, but for a pattern: then the plain channel it came by.
    pub(crate) channel: Channel,
    pub(crate) body: Body,
    /// Its place in a stream that can be read again; none elsewhere.
    pub(crate) offset: Option<Box<str>>,
}

/// Why a connection to a broker is over, or there is none: for the log.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// What happened, and what to change. Never a password.
    pub(crate) text: String,
    /// Trying again cannot help: a wrong password, a broker that lacks what is needed. It is tried again all the same, seldom.
    pub(crate) is_lasting: bool,
}

impl Fault {
    /// One that may be over at the next attempt.
    pub(crate) fn passing(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), is_lasting: false }
    }

    /// One that stays until somebody changes something.
    pub(crate) fn lasting(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), is_lasting: true }
    }

    /// If it is about a broker's certificate: it stays, and who has signed the certificate is what most often has to be told. All
    /// clients have their words from rustls.
    #[cfg(any(feature = "amqp", feature = "nats", feature = "redis"))]
    pub(crate) fn or_of_certificate(self) -> Fault {
        if !self.text.contains("invalid peer certificate") {
            return self;
        }
        // Its time, and the names that it is for, are said as they are.
        let is_plain = ["expired", "not valid"].iter().any(|word| self.text.contains(word));
        let advice = match is_plain {
            true => "",
            false => ": name a file with the certificate of who has signed it in the variable SSL_CERT_FILE",
        };
        Fault::lasting(self.text + advice)
    }
}

/// A message broker, of which one connection after another is used. A client neither reconnects nor repeats by itself: the
/// companion thread does (`bus/run.rs`).
pub(crate) trait Broker {
    type Sender: Sender;
    type Receiver: Receiver;

    /// A new connection without subscriptions, within a few seconds or a fault. Brokers that keep messages go on from where the
    /// last connection was.
    fn connect(&mut self) -> impl Future<Output = Result<(Self::Sender, Self::Receiver), Fault>>;

    /// How many slots of rooms there are; a power of two. The same in all processes that use such a broker.
    fn slots(&self) -> u32;

    /// Whether messages that were published while nobody was connected can still be read.
    fn keeps_messages(&self) -> bool;

    /// From here on sockets are left here when their process ends, and taken from here. For a broker that must do something for it.
    fn keep_sockets(&mut self) {}
}

/// The way to the broker.
pub(crate) trait Sender {
    /// The most bytes that a message's body may have, as this broker says. A longer one costs no connection: it is refused before,
    /// and `publish` leaves it out with a line in the log.
    fn body_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Hears `add` and no longer `remove`; on return the broker has done it.
    fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> impl Future<Output = Result<(), Fault>>;

    /// How many connections hear each channel; nothing from a broker that does not tell.
    fn subscribers(&mut self, _channels: &[Channel]) -> impl Future<Output = Result<Vec<u64>, Fault>> {
        std::future::ready(Ok(Vec::new()))
    }

    /// Sends all, in order; on return the broker has them, as far as it tells.
    fn publish(&mut self, posts: &[Post]) -> impl Future<Output = Result<(), Fault>>;

    /// Sends all, in order, and need not wait for the broker's word: [`unconfirmed`](Sender::unconfirmed) asks for that.
    fn send_ahead(&mut self, posts: &[Post]) -> impl Future<Output = Result<(), Fault>> {
        self.publish(posts)
    }

    /// How many of the last that were sent ahead the broker may not have, as far as is known now. It waits for nothing.
    fn unconfirmed(&mut self) -> Result<usize, Fault> {
        Ok(0)
    }

    /// Takes what is kept under these names, each away from the broker: nobody else gets it.
    fn take_records(&mut self, names: &[String]) -> impl Future<Output = Result<Vec<Option<Bytes>>, Fault>> {
        std::future::ready(Ok(vec![None; names.len()]))
    }

    /// Reads what was published on our own channels from a place on, the place itself included; so many messages at most. Brokers that
    /// keep sockets have it.
    fn read_back(
        &mut self,
        _from: Position,
        _len_max: usize,
    ) -> impl Future<Output = Result<ReadBack, Fault>> {
        std::future::ready(Ok(ReadBack { deliveries: Vec::new(), is_end: true }))
    }
}

/// What of a stream was read again.
#[derive(Debug, Default)]
pub(crate) struct ReadBack {
    /// In order, each with its place.
    pub(crate) deliveries: Vec<Delivery>,
    /// There is no more now.
    pub(crate) is_end: bool,
}

/// The way from the broker.
pub(crate) trait Receiver {
    /// The next message. May be dropped and called again: nothing is lost by that.
    fn next(&mut self) -> impl Future<Output = Result<Delivery, Fault>>;
}

/// Whether a foreign format has said something to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Said,
    /// And somebody is expected to answer the question: by [`Heard::Found`].
    Asked,
}

/// What was heard in a foreign format. Namespaces are names only, as nobody else has endpoints of ours.
#[derive(Debug)]
pub(crate) enum Heard {
    Emit {
        namespace: String,
        target: Target,
        frame: Vec<u8>,
    },
    Change {
        namespace: String,
        target: Target,
        change: SocketChange,
    },
    /// Ask this process' sockets; what was found out comes by [`Foreign::answer`]. The id of [`Ask::Answers`] is of no account.
    Ask {
        namespace: String,
        target: Target,
        ask: Ask,
        timeout: Option<Duration>,
        ticket: u64,
    },
    /// Have this process' server do something. With a ticket, what its handler answers comes by [`Foreign::answer`], in
    /// [`Findings::servers`]; where there is no handler, `shards_late` is more than 0.
    ServerEvent {
        namespace: String,
        name: String,
        args: AnswerText,
        ticket: Option<u64>,
    },
    /// Something about a question of this process.
    Found {
        question: u64,
        findings: Findings,
        is_last: bool,
    },
}

/// The format of other people's processes: a codec, and what of its protocol needs memory. No IO, no clock.
pub(crate) trait Foreign: Send {
    /// For people: what did not answer.
    fn name(&self) -> &'static str;

    /// Whether what comes by a channel is in this format.
    fn is_of(&self, channel: &Channel) -> bool;

    /// A connection is there: what is to be heard on it.
    fn connected(&mut self) -> Vec<Channel>;

    /// What is to be heard since the last call, and what no longer.
    fn take_changes(&mut self, add: &mut Vec<Channel>, remove: &mut Vec<Channel>);

    /// Channels whose subscribers are the processes that answer in this format.
    fn counted(&self) -> Vec<Channel> {
        Vec::new()
    }

    /// How many subscribers each of them has; `own` of them are processes of ours.
    fn count(&mut self, _counts: &[u64], _own: u64) {}

    /// This process says something; a question has a number.
    fn say(&mut self, said: &Said, question: Option<u64>, now: Time, posts: &mut VecDeque<Post>) -> Told;

    /// The broker has delivered something. An error says what is wrong with it.
    fn hear(
        &mut self,
        delivery: &Delivery,
        now: Time,
        posts: &mut VecDeque<Post>,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Cow<'static, str>>;

    /// The shards have found out what was asked.
    fn answer(&mut self, ticket: u64, findings: Findings, posts: &mut VecDeque<Post>);

    /// Nobody waits for a question any more.
    fn forget(&mut self, question: u64);

    /// When time is up for something.
    fn next_timeout(&self) -> Time;

    /// Time passed.
    fn handle_timeout(&mut self, now: Time, posts: &mut VecDeque<Post>, heard: &mut Vec<Heard>);
}
