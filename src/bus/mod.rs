//! What processes say to each other, and to other people's processes, through a message broker.
//!
//! A [`Broker`] moves bytes: it knows neither who is meant nor what is said. The formats (`own`, `python`, `nodejs`) are codecs
//! between bytes and the closed vocabulary of [`message`](crate::message). Only the brokers' clients, `*/client.rs`, see a socket or
//! a clock; they run on the companion thread, with tokio. No shard ever waits for any of this.

#![allow(dead_code, reason = "its parts come one by one")]

pub(crate) mod own;

use std::borrow::Cow;
use std::future::Future;

use bytes::Bytes;

use crate::base::ids::NodeTag;

/// Where a message goes, or comes from. Each broker has a way of its own to say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    /// Ours: what every process of the fleet hears.
    All,
    /// Ours: what the processes with this tag hear, as a rule one.
    Node(NodeTag),
    /// Ours: rooms that share a slot, heard where one of them has members.
    Slot(u16),
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
#[derive(Debug)]
pub(crate) struct Fault {
    /// What happened, and what to change. Never a password.
    pub(crate) text: String,
    /// Trying again cannot help: a wrong password, a broker that lacks what is needed. It is tried again all the same, seldom.
    pub(crate) is_lasting: bool,
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
}

/// The way to the broker.
pub(crate) trait Sender {
    /// Hears `add` and no longer `remove`; on return the broker has done it.
    fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> impl Future<Output = Result<(), Fault>>;

    /// Sends all, in order; on return the broker has them, as far as it tells.
    fn publish(&mut self, posts: &[Post]) -> impl Future<Output = Result<(), Fault>>;
}

/// The way from the broker.
pub(crate) trait Receiver {
    /// The next message. May be dropped and called again: nothing is lost by that.
    fn next(&mut self) -> impl Future<Output = Result<Delivery, Fault>>;
}
