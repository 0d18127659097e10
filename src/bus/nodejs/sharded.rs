//! The sharded adapter's format: `createShardedAdapter` of @socket.io/redis-adapter 8.3, over Redis' sharded pub/sub.
//!
//! All servers of a namespace hear `socket.io#<namespace>#`, each alone `socket.io#<namespace>#<uid>#`, where answers come, and
//! by the mode those with members of a room `socket.io#<namespace>#<room>#`. The envelope is JSON, and MessagePack if it holds
//! binary values.

use crate::bus::{Body, Channel, Delivery, Post};

use super::cluster;
use super::parts;
use super::sink::Sink;
use super::source::Source;
use super::{Broadcast, Heard, Message, Reply, Uid, Unreadable, Unwritable};

/// A room with a name of so many UTF-16 units passes for the id of a socket, which has no channel of its own.
const SOCKET_ID_UNITS: usize = 20;

/// Node's `subscriptionMode`: the same for all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Rooms have channels, but for what passes for a socket's id.
    #[default]
    Dynamic,
    /// All rooms have channels, sockets' ids among them.
    #[cfg_attr(not(test), allow(dead_code, reason = "no setting chooses it; what Node says in it is tested"))]
    DynamicPrivate,
    #[cfg_attr(not(test), allow(dead_code, reason = "no setting chooses it; what Node says in it is tested"))]
    Static,
}

/// The format as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Sharded {
    /// Node's `channelPrefix`.
    pub(crate) prefix: Box<str>,
    pub(crate) uid: Uid,
    pub(crate) mode: Mode,
}

impl Sharded {
    pub(super) fn channels(&self, namespace: &str) -> Vec<Channel> {
        // Whoever hears the common one is waited for.
        vec![self.channel(namespace, Some(self.uid.as_str())), self.count_channel(namespace)]
    }

    pub(super) fn count_channel(&self, namespace: &str) -> Channel {
        self.channel(namespace, None)
    }

    pub(super) fn room_channel(&self, namespace: &str, room: &str) -> Option<Channel> {
        self.has_channel(room).then(|| self.channel(namespace, Some(room)))
    }

    fn has_channel(&self, room: &str) -> bool {
        match self.mode {
            Mode::Dynamic => room.encode_utf16().count() != SOCKET_ID_UNITS,
            Mode::DynamicPrivate => true,
            Mode::Static => false,
        }
    }

    /// The channel of all servers, or that of one or of a room.
    fn channel(&self, namespace: &str, of: Option<&str>) -> Channel {
        Channel::Sharded(channel_name(&self.prefix, namespace, of).into())
    }

    pub(super) fn read(&self, delivery: &Delivery) -> Result<Option<Heard>, Unreadable> {
        let (Channel::Sharded(channel), Body::Bytes(bytes)) = (&delivery.channel, &delivery.body) else {
            return Err(Unreadable::ChannelUnknown);
        };
        let heard = cluster::read(Source::of(bytes)?)?;
        check_channel(channel, &self.prefix, heard.as_ref())?;
        Ok(heard)
    }

    pub(super) fn write(&self, namespace: &str, message: &Message) -> Result<Post, Unwritable> {
        cluster::check(message)?;
        let kind = cluster::kind_of(message)?;
        let mut sink = sink_for(cluster::attachments_of(message));
        let head = (kind, self.uid.as_str(), namespace);
        cluster::write(&mut sink, head, |sink| cluster::write_data(sink, message));
        // All servers are waited for, so all must hear what is to be answered.
        let room = match message {
            Message::Broadcast(Broadcast { target, wants: None, .. }) => parts::one_room(target),
            _ => None,
        };
        let channel = self.channel(namespace, room.filter(|room| self.has_channel(room)));
        let may_repeat = may_repeat(message);
        Ok(Post { channel, body: Body::Bytes(sink.finish()?), may_repeat })
    }

    pub(super) fn reply(&self, namespace: &str, to: &str, reply: &Reply) -> Result<Post, Unwritable> {
        let (kind, attachments) = cluster::kind_of_answer(&reply.answer)?;
        let mut sink = sink_for(attachments);
        let head = (kind, self.uid.as_str(), namespace);
        cluster::write(&mut sink, head, |sink| cluster::write_answer(sink, reply));
        let channel = self.channel(namespace, Some(to));
        Ok(Post { channel, body: Body::Bytes(sink.finish()?), may_repeat: false })
    }
}

/// `<prefix>#<namespace>#`, and behind it what the channel is of.
pub(super) fn channel_name(prefix: &str, namespace: &str, of: Option<&str>) -> String {
    let mut name = [prefix, "#", namespace, "#"].concat();
    if let Some(of) = of {
        name.push_str(of);
        name.push('#');
    }
    name
}

/// A message is on a channel of its namespace.
pub(super) fn check_channel(channel: &str, prefix: &str, heard: Option<&Heard>) -> Result<(), Unreadable> {
    let Some(heard) = heard else { return Ok(()) };
    let is_its_own = channel.starts_with(&channel_name(prefix, &heard.namespace, None));
    if is_its_own { Ok(()) } else { Err(Unreadable::ChannelOther) }
}

/// What is done twice is done once.
pub(super) fn may_repeat(message: &Message) -> bool {
    matches!(message, Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. })
}

fn sink_for(attachments: usize) -> Sink {
    if attachments > 0 { Sink::msgpack() } else { Sink::json() }
}
