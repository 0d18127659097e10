//! The streams adapter's format: @socket.io/redis-streams-adapter 0.3.1.
//!
//! What must not be lost goes through a stream, as an entry with the fields `uid`, `nsp`, `type` and `data`: events, and what is
//! done to sockets. What is asked, and all answers, go by pub/sub: `socket.io#<namespace>#`, and `socket.io#<namespace>#<uid>#` for
//! one server, the envelope as MessagePack. Both names begin like the classic adapter's: one prefix has one of the two.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::bus::{Body, Channel, Delivery, Post};

use super::cluster::{self, Envelope};
use super::sharded::{channel_name, check_channel, may_repeat};
use super::sink::Sink;
use super::source::Source;
use super::{Broadcast, Heard, ID_BYTES_MAX, MESSAGE_BYTES_MAX, Message, Reply, Uid, Unreadable, Unwritable};

/// The format as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    /// Node's `channelPrefix`.
    pub(crate) prefix: Box<str>,
    /// Node's `streamName`.
    pub(crate) stream: Box<str>,
    /// Node's `streamCount`, at least 1.
    pub(crate) stream_count: u32,
    /// Node's `useShardedPubSub`.
    pub(crate) is_sharded: bool,
    pub(crate) uid: Uid,
}

impl Streams {
    pub(super) fn channels(&self, namespace: &str) -> Vec<Channel> {
        // Whoever hears the common channel is waited for.
        vec![
            Channel::Stream(self.stream_of(self.stream_number(namespace)).into()),
            self.channel(namespace, Some(self.uid.as_str())),
            self.count_channel(namespace),
        ]
    }

    pub(super) fn count_channel(&self, namespace: &str) -> Channel {
        self.channel(namespace, None)
    }

    fn channel(&self, namespace: &str, of: Option<&str>) -> Channel {
        let name = channel_name(&self.prefix, namespace, of).into();
        if self.is_sharded { Channel::Sharded(name) } else { Channel::Plain(name) }
    }

    /// Where Node writes. With several streams the number is a hash that may be negative, and then the name is one that no Node
    /// server reads: they lose such namespaces among themselves.
    fn stream_number(&self, namespace: &str) -> i32 {
        let hash = namespace
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        hash % i32::try_from(self.stream_count.max(1)).unwrap_or(i32::MAX)
    }

    fn stream_of(&self, number: i32) -> String {
        if self.stream_count <= 1 { self.stream.to_string() } else { format!("{}-{number}", self.stream) }
    }

    pub(super) fn read(&self, delivery: &Delivery) -> Result<Option<Heard>, Unreadable> {
        match (&delivery.channel, &delivery.body) {
            (Channel::Stream(_), Body::Fields(fields)) => read_entry(fields),
            (Channel::Plain(channel) | Channel::Sharded(channel), Body::Bytes(bytes)) => {
                let heard = cluster::read(Source::msgpack(bytes)?)?;
                check_channel(channel, &self.prefix, heard.as_ref())?;
                Ok(heard)
            }
            _ => Err(Unreadable::ChannelUnknown),
        }
    }

    pub(super) fn write(&self, namespace: &str, message: &Message) -> Result<Post, Unwritable> {
        cluster::check(message)?;
        let kind = cluster::kind_of(message)?;
        let is_passing = match message {
            Message::Broadcast(Broadcast { wants, .. }) => wants.is_some(),
            Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. } => false,
            _ => true,
        };
        if is_passing {
            let mut sink = Sink::msgpack();
            let head = (kind, self.uid.as_str(), namespace);
            cluster::write(&mut sink, head, |sink| cluster::write_data(sink, message));
            let channel = self.count_channel(namespace);
            return Ok(Post { channel, body: Body::Bytes(sink.finish()?), may_repeat: false });
        }
        let is_binary = cluster::attachments_of(message) > 0;
        let mut sink = if is_binary { Sink::msgpack() } else { Sink::json() };
        cluster::write_data(&mut sink, message);
        let data = sink.finish()?;
        let data = if is_binary { STANDARD.encode(data).into() } else { data };
        let fields = vec![
            (Cow::Borrowed("uid"), Bytes::copy_from_slice(self.uid.as_str().as_bytes())),
            (Cow::Borrowed("nsp"), Bytes::copy_from_slice(namespace.as_bytes())),
            (Cow::Borrowed("type"), Bytes::from(kind.to_string())),
            (Cow::Borrowed("data"), data),
        ];
        // Readers look into all streams: one of them takes what Node's own hash would lose.
        let stream = self.stream_of(self.stream_number(namespace).abs()).into();
        Ok(Post {
            channel: Channel::Stream(stream),
            body: Body::Fields(fields),
            may_repeat: may_repeat(message),
        })
    }

    pub(super) fn reply(&self, namespace: &str, to: &str, reply: &Reply) -> Result<Post, Unwritable> {
        let (kind, _) = cluster::kind_of_answer(&reply.answer)?;
        let mut sink = Sink::msgpack();
        let head = (kind, self.uid.as_str(), namespace);
        cluster::write(&mut sink, head, |sink| cluster::write_answer(sink, reply));
        let channel = self.channel(namespace, Some(to));
        Ok(Post { channel, body: Body::Bytes(sink.finish()?), may_repeat: false })
    }
}

/// Reads an entry of a stream. Of several fields of one name the last counts.
fn read_entry(fields: &[(Cow<'static, str>, Bytes)]) -> Result<Option<Heard>, Unreadable> {
    let field = |name: &str| fields.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| value);
    let text = |name: &'static str| {
        let value = field(name).ok_or(Unreadable::Missing(name))?;
        if value.len() > ID_BYTES_MAX.max(crate::base::limits::NAMESPACE_BYTES_MAX) {
            return Err(Unreadable::IdTooLong);
        }
        simdutf8::basic::from_utf8(value).map_err(|_| Unreadable::NotUtf8)
    };
    let uid = field("uid").map(|_| text("uid")).transpose()?;
    if uid.is_some_and(|uid| uid.len() > ID_BYTES_MAX) {
        return Err(Unreadable::IdTooLong);
    }
    let envelope = Envelope {
        kind: Some(text("type")?.parse().map_err(|_| Unreadable::NotExpected)?),
        uid: uid.map(Into::into),
        namespace: Some(text("nsp")?.to_owned()),
    };
    if !envelope.is_for_us() {
        return Ok(None);
    }
    let data = field("data").ok_or(Unreadable::Missing("data"))?;
    if data.len() > MESSAGE_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    let is_json = data.starts_with(b"{");
    let decoded =
        if is_json { Bytes::new() } else { STANDARD.decode(data).map_err(|_| Unreadable::NotBase64)?.into() };
    let mut source = if is_json { Source::json(data)? } else { Source::msgpack(&decoded)? };
    let heard = envelope.with(&mut source)?;
    source.finish()?;
    Ok(Some(heard))
}

#[cfg(test)]
mod tests {
    use super::super::sharded::Mode;
    use super::super::vectors::{messages, sharded, streams, uid};
    use super::*;

    /// What the npm package computes for four streams and for three.
    const STREAM_NUMBERS: [(&str, i32, i32); 5] =
        [("/", 3, 2), ("/notifications", -3, -2), ("/custom", 0, 2), ("/é😀", 1, 2), ("/a", 2, 0)];

    fn of_streams(stream_count: u32) -> Streams {
        let (prefix, stream) = ("socket.io".into(), "events".into());
        Streams { prefix, stream, stream_count, is_sharded: false, uid: uid("296ae2935bf7a997") }
    }

    #[test]
    fn a_namespace_has_the_stream_that_node_gives_it() {
        // Node's own numbers. Into a negative one Node's servers write, and read it not.
        for (namespace, of_four, of_three) in STREAM_NUMBERS {
            assert_eq!(of_streams(4).stream_number(namespace), of_four, "{namespace}");
            assert_eq!(of_streams(3).stream_number(namespace), of_three, "{namespace}");
        }
        let (_, join) = messages().into_iter().find(|(name, _)| *name == "join").unwrap();
        let read = |count| of_streams(count).channels("/notifications")[0].clone();
        let written = |count| of_streams(count).write("/notifications", &join).unwrap().channel;
        let stream = |name: &str| Channel::Stream(name.into());
        assert_eq!((read(1), written(1)), (stream("events"), stream("events")));
        assert_eq!((read(4), written(4)), (stream("events--3"), stream("events-3")));
    }

    #[test]
    fn a_server_hears_what_node_hears() {
        let plain = |name: &str| Channel::Plain(name.into());
        let expected = [
            Channel::Stream("socket.io".into()),
            plain("socket.io#/#296ae2935bf7a997#"),
            plain("socket.io#/#"),
        ];
        assert_eq!(streams("296ae2935bf7a997").channels("/"), expected);
        let format = Streams { is_sharded: true, ..of_streams(1) };
        assert_eq!(format.count_channel("/"), Channel::Sharded("socket.io#/#".into()));
        let sharded = sharded("a8d9b22bafdd5bde", Mode::Dynamic);
        let of = |name: &str| Channel::Sharded(name.into());
        assert_eq!(sharded.channels("/"), [of("socket.io#/#a8d9b22bafdd5bde#"), of("socket.io#/#")]);
    }

    #[test]
    fn rooms_have_channels_by_the_mode() {
        let rows = [
            ("room1", true, true),
            ("BSNTejr5ZjdGb22dAAAJ", false, true),
            ("twenty-units-😀-long", false, true),
        ];
        for (room, is_dynamic, is_private) in rows {
            let channel = |mode| sharded("x", mode).room_channel("/n", room);
            let expected = Some(Channel::Sharded(format!("socket.io#/n#{room}#").into()));
            assert_eq!(channel(Mode::Dynamic), expected.clone().filter(|_| is_dynamic), "{room}");
            assert_eq!(channel(Mode::DynamicPrivate), expected.filter(|_| is_private), "{room}");
            assert_eq!(channel(Mode::Static), None);
        }
    }

    #[test]
    fn what_a_stream_brings_is_refused_by_its_fault() {
        let entry = |fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (Cow::Borrowed(*name), Bytes::from_static(value.as_bytes())));
            let (channel, body) = (Channel::Stream("socket.io".into()), Body::Fields(fields.collect()));
            streams("reader").read(&Delivery { channel, body, offset: None })
        };
        let head = [("uid", "x"), ("nsp", "/")];
        let with = |more: &[(&'static str, &'static str)]| entry(&[&head[..], more].concat());
        let rows = [
            (entry(&[]), Unreadable::Missing("type")),
            (entry(&[("type", "3")]), Unreadable::Missing("nsp")),
            (with(&[("type", "three")]), Unreadable::NotExpected),
            (with(&[("type", "3")]), Unreadable::Missing("data")),
            (with(&[("type", "3"), ("data", "~")]), Unreadable::NotBase64),
            (with(&[("type", "3"), ("data", "{}")]), Unreadable::Missing("opts")),
            (with(&[("type", "3"), ("data", "{\"opts\":{}}")]), Unreadable::Missing("packet")),
            (with(&[("type", "4"), ("data", "{\"opts\":{}}x")]), Unreadable::NotExpected),
            (with(&[("type", "99"), ("data", "{}")]), Unreadable::TypeUnknown(99)),
            (with(&[("type", "7"), ("data", "{\"opts\":{}}")]), Unreadable::Missing("requestId")),
            (entry(&[("nsp", "a"), ("type", "4"), ("data", "{\"opts\":{}}")]), Unreadable::NamespaceInvalid),
            (
                entry(&[("nsp", "/"), ("type", "7"), ("data", "{\"opts\":{},\"requestId\":\"a\"}")]),
                Unreadable::Missing("uid"),
            ),
        ];
        for (read, expected) in rows {
            assert_eq!(read, Err(expected));
        }
        assert_eq!(with(&[("type", "2")]), Ok(None), "a heartbeat");
        assert!(with(&[("type", "4"), ("data", "{\"opts\":{}}")]).is_ok_and(|heard| heard.is_some()));
    }
}
