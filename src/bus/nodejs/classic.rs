//! The classic Redis adapter's format: @socket.io/redis-adapter 8.3, @socket.io/redis-emitter 5.1.
//!
//! Events go by `socket.io#<namespace>#`, those for one room by `socket.io#<namespace>#<room>#`, as MessagePack
//! `[uid, packet, opts]`. Requests go by `socket.io-request#<namespace>#`, answers by `socket.io-response#<namespace>#` or, if
//! they are so configured, by `socket.io-response#<namespace>#<uid>#`: JSON, or MessagePack where clients' values may be binary.
//!
//! What is written on the channels of events must be right: Node decodes it outside of any `try`, and a fault there ends the
//! process, or its subscription for good.

use bytes::Bytes;
use memchr::memmem;

use crate::bus::{Body, Channel, Delivery, Post};
use crate::message::names::Names;
use crate::message::target::Target;

use super::facts;
use super::parts::{self, Event, Flags, Options, TIMEOUT_DEFAULT};
use super::sink::Sink;
use super::source::Source;
use super::{
    Answer, Broadcast, Heard, Message, Payload, Reply, RequestId, Uid, Unreadable, Unwritable, Wants, is_ours,
};

/// The numbers of requests and of answers.
const IDS: u64 = 0;
const ALL_ROOMS: u64 = 1;
const JOIN: u64 = 2;
const LEAVE: u64 = 3;
const DISCONNECT: u64 = 4;
const FETCH: u64 = 5;
const SERVER_SIDE: u64 = 6;
const BROADCAST: u64 = 7;
const COUNT: u64 = 8;
const ACK: u64 = 9;

/// One of the adapter's channels, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Event,
    Request,
    Response,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Event, Kind::Request, Kind::Response];

    /// What stands between the prefix and the namespace.
    fn infix(self) -> &'static str {
        match self {
            Kind::Event => "#",
            Kind::Request => "-request#",
            Kind::Response => "-response#",
        }
    }
}

/// The format as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct Classic {
    /// Node's `key`.
    pub(crate) prefix: Box<str>,
    pub(crate) uid: Uid,
    /// Node's `publishOnSpecificResponseChannel`.
    pub(crate) is_answer_for_asker_alone: bool,
}

impl Classic {
    fn name(&self, kind: Kind, namespace: &str) -> String {
        [&self.prefix, kind.infix(), namespace, "#"].concat()
    }

    fn own_responses(&self, namespace: &str) -> String {
        format!("{}{}#", self.name(Kind::Response, namespace), self.uid.as_str())
    }

    pub(super) fn channels(&self, namespace: &str) -> Vec<Channel> {
        let events = escape_pattern(&self.name(Kind::Event, namespace)) + "*";
        vec![
            Channel::Pattern(events.into()),
            Channel::Plain(self.name(Kind::Response, namespace).into()),
            Channel::Plain(self.own_responses(namespace).into()),
            // Whoever hears this one is waited for.
            self.count_channel(namespace),
        ]
    }

    pub(super) fn count_channel(&self, namespace: &str) -> Channel {
        Channel::Plain(self.name(Kind::Request, namespace).into())
    }

    pub(super) fn has(&self, channel: &Channel) -> bool {
        self.split(channel).is_some()
    }

    /// What kind of channel it is, and what stands behind that.
    fn split<'c>(&self, channel: &'c Channel) -> Option<(Kind, &'c str)> {
        let Channel::Plain(name) = channel else { return None };
        let rest = name.strip_prefix(&*self.prefix)?;
        Kind::ALL.into_iter().find_map(|kind| Some((kind, rest.strip_prefix(kind.infix())?)))
    }

    pub(super) fn read(&self, delivery: &Delivery) -> Result<Option<Heard>, Unreadable> {
        let Body::Bytes(bytes) = &delivery.body else { return Err(Unreadable::NotExpected) };
        match self.split(&delivery.channel).ok_or(Unreadable::ChannelUnknown)? {
            (Kind::Event, rest) => read_event(Source::msgpack(bytes)?, rest),
            (Kind::Request, rest) => {
                let namespace = rest.strip_suffix('#').ok_or(Unreadable::ChannelUnknown)?;
                parts::check_namespace(namespace)?;
                read_request(Source::of(bytes)?, namespace)
            }
            (Kind::Response, rest) => self.read_answer(bytes, rest),
        }
    }

    /// Everybody hears all answers: those to us are to an id of ours.
    fn read_answer(&self, bytes: &Bytes, channel: &str) -> Result<Option<Heard>, Unreadable> {
        let uid = self.uid.as_str();
        if memmem::find(bytes, uid.as_bytes()).is_none() {
            return Ok(None);
        }
        let namespace = channel.strip_suffix(&format!("#{uid}#")).or(channel.strip_suffix('#'));
        let namespace = namespace.ok_or(Unreadable::ChannelUnknown)?;
        parts::check_namespace(namespace)?;
        let reply = read_response(Source::of(bytes)?)?;
        let is_ours = reply.request.starts_with(uid);
        let heard = Heard { namespace: namespace.to_owned(), sender: None, message: Message::Reply(reply) };
        Ok(Some(heard).filter(|_| is_ours))
    }

    pub(super) fn write(&self, namespace: &str, message: &Message) -> Result<Post, Unwritable> {
        let request = || self.count_channel(namespace);
        match message {
            Message::Broadcast(broadcast @ Broadcast { wants: None, .. }) => {
                self.write_event(namespace, broadcast)
            }
            Message::Broadcast(Broadcast { target, event, wants: Some(wants) }) => {
                parts::check_target(target)?;
                let body = self.asking(namespace, target, event, wants)?;
                Ok(Post { channel: request(), body, may_repeat: false })
            }
            _ => {
                let body = self.request(message)?;
                let may_repeat = matches!(
                    message,
                    Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. }
                );
                Ok(Post { channel: request(), body, may_repeat })
            }
        }
    }

    fn write_event(&self, namespace: &str, broadcast: &Broadcast) -> Result<Post, Unwritable> {
        let Broadcast { target, event, .. } = broadcast;
        parts::check_target(target)?;
        let mut channel = self.name(Kind::Event, namespace);
        if let Some(room) = parts::one_room(target) {
            channel.push_str(room);
            channel.push('#');
        }
        let mut sink = Sink::msgpack();
        sink.array(3, |sink| {
            sink.string(self.uid.as_str());
            parts::write_packet(sink, event, Some(namespace));
            parts::write_options(sink, target, Flags::Written { timeout: None });
        });
        Ok(Post {
            channel: Channel::Plain(channel.into()),
            body: Body::Bytes(sink.finish()?),
            may_repeat: false,
        })
    }

    /// An event that is to be answered.
    fn asking(
        &self,
        namespace: &str,
        target: &Target,
        event: &Payload,
        wants: &Wants,
    ) -> Result<Body, Unwritable> {
        let mut sink = Sink::msgpack();
        sink.object(5, |sink| {
            sink.key("uid").string(self.uid.as_str());
            sink.key("requestId").string(&wants.request);
            sink.key("type").number(BROADCAST);
            parts::write_packet(sink.key("packet"), event, Some(namespace));
            let flags = Flags::Written { timeout: Some(wants.timeout) };
            parts::write_options(sink.key("opts"), target, flags);
        });
        Ok(Body::Bytes(sink.finish()?))
    }

    /// Every other request is JSON: binary values of server-side events are lost to it, as in Node.
    fn request(&self, message: &Message) -> Result<Body, Unwritable> {
        let mut sink = Sink::json();
        let uid = self.uid.as_str();
        let head = |sink: &mut Sink, request: Option<&str>, kind: u64| {
            sink.key("uid").string(uid);
            if let Some(request) = request {
                sink.key("requestId").string(request);
            }
            sink.key("type").number(kind);
        };
        match message {
            Message::Join { target, rooms } | Message::Leave { target, rooms } => {
                parts::check_target(target)?;
                let kind = if matches!(message, Message::Join { .. }) { JOIN } else { LEAVE };
                sink.object(4, |sink| {
                    head(sink, None, kind);
                    parts::write_options(sink.key("opts"), target, Flags::None);
                    parts::write_names(sink.key("rooms"), rooms);
                });
            }
            Message::Disconnect { target, close } => {
                parts::check_target(target)?;
                sink.object(4, |sink| {
                    head(sink, None, DISCONNECT);
                    parts::write_options(sink.key("opts"), target, Flags::None);
                    sink.key("close").literal(Some(*close));
                });
            }
            Message::Fetch { request, target } => {
                parts::check_target(target)?;
                sink.object(4, |sink| {
                    head(sink, Some(request), FETCH);
                    parts::write_options(sink.key("opts"), target, Flags::None);
                });
            }
            Message::AllRooms { request } => sink.object(3, |sink| head(sink, Some(request), ALL_ROOMS)),
            Message::Ids { request, target } => {
                parts::check_target(target)?;
                sink.object(4, |sink| {
                    head(sink, Some(request), IDS);
                    parts::write_names(sink.key("rooms"), &target.rooms);
                });
            }
            Message::ServerSide { request, event } => {
                parts::check_server_event(event)?;
                sink.object(3, |sink| {
                    head(sink, request.as_deref(), SERVER_SIDE);
                    sink.key("data").value(event);
                });
            }
            Message::Broadcast(_) | Message::Reply(_) => return Err(Unwritable::NotInFormat),
        }
        Ok(Body::Bytes(sink.finish()?))
    }

    pub(super) fn reply(&self, namespace: &str, to: &str, reply: &Reply) -> Result<Post, Unwritable> {
        let Reply { request, answer } = reply;
        let mut channel = self.name(Kind::Response, namespace);
        // Answers to server-side events go to everybody, whatever is configured.
        if self.is_answer_for_asker_alone && !matches!(answer, Answer::ServerSide(_)) {
            channel.push_str(to);
            channel.push('#');
        }
        let mut sink = if matches!(answer, Answer::Ack(_)) { Sink::msgpack() } else { Sink::json() };
        match answer {
            Answer::Sockets(sockets) => sink.object(2, |sink| {
                sink.key("requestId").string(request);
                facts::write_all(sink.key("sockets"), sockets);
            }),
            Answer::Ids(names) | Answer::Rooms(names) => sink.object(2, |sink| {
                sink.key("requestId").string(request);
                let key = if matches!(answer, Answer::Ids(_)) { "sockets" } else { "rooms" };
                parts::write_names(sink.key(key), names);
            }),
            Answer::Count(count) => sink.object(3, |sink| {
                sink.key("type").number(COUNT);
                sink.key("requestId").string(request);
                sink.key("clientCount").number(*count);
            }),
            Answer::ServerSide(value) | Answer::Ack(value) => {
                let (kind, key) =
                    if matches!(answer, Answer::Ack(_)) { (ACK, "packet") } else { (SERVER_SIDE, "data") };
                sink.object(2 + usize::from(value.is_some()), |sink| {
                    sink.key("type").number(kind);
                    sink.key("requestId").string(request);
                    if let Some(value) = value {
                        sink.key(key).value(value);
                    }
                });
            }
        }
        let channel = Channel::Plain(channel.into());
        Ok(Post { channel, body: Body::Bytes(sink.finish()?), may_repeat: false })
    }
}

/// Reads `[uid, packet, opts]`, which came by a channel whose name ends so.
fn read_event(mut source: Source<'_>, channel: &str) -> Result<Option<Heard>, Unreadable> {
    let mut inside = source.array()?;
    let mut next = |source: &mut Source<'_>, what| match source.has_more(&mut inside)? {
        true => Ok(()),
        false => Err(Unreadable::Missing(what)),
    };
    next(&mut source, "uid")?;
    let sender = source.id()?;
    if sender.as_deref().is_some_and(is_ours) {
        return Ok(None);
    }
    next(&mut source, "packet")?;
    let Event { namespace, payload } = parts::read_packet(&mut source)?;
    next(&mut source, "opts")?;
    let Options { target, .. } = parts::read_options(&mut source)?;
    while source.has_more(&mut inside)? {
        source.skip()?;
    }
    source.finish()?;
    let namespace = namespace.unwrap_or_else(|| "/".to_owned());
    parts::check_namespace(&namespace)?;
    if !channel.strip_prefix(&*namespace).is_some_and(|room| room.starts_with('#')) {
        return Err(Unreadable::ChannelOther);
    }
    let message = Message::Broadcast(Broadcast { target, event: payload, wants: None });
    Ok(Some(Heard { namespace, sender, message }))
}

/// What a request may have; which of it one has depends on its type.
#[derive(Default)]
struct Request {
    kind: Option<u64>,
    uid: Option<Box<str>>,
    id: Option<RequestId>,
    options: Option<Options>,
    rooms: Names,
    close: bool,
    data: Option<Payload>,
    event: Option<Event>,
    /// What adapters of older Node servers say instead of options and rooms.
    sid: Option<Box<str>>,
    room: Option<Box<str>>,
}

fn read_request(mut source: Source<'_>, namespace: &str) -> Result<Option<Heard>, Unreadable> {
    let mut request = Request::default();
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "type" => request.kind = Some(source.number()?),
            "uid" => {
                request.uid = source.id()?;
                if request.uid.as_deref().is_some_and(is_ours) {
                    return Ok(None);
                }
            }
            "requestId" => request.id = source.id()?,
            "opts" => request.options = Some(parts::read_options(&mut source)?),
            "rooms" => request.rooms = parts::read_names(&mut source)?,
            "close" => request.close = source.flag()? == Some(true),
            "data" => request.data = source.value()?,
            "packet" => request.event = Some(parts::read_packet(&mut source)?),
            "sid" => request.sid = source.id()?,
            "room" => request.room = Some(source.name()?.into()),
            _ => source.skip()?,
        }
    }
    source.finish()?;
    let sender = request.uid.take();
    let message = request.into_message()?;
    Ok(Some(Heard { namespace: namespace.to_owned(), sender, message }))
}

impl Request {
    fn into_message(mut self) -> Result<Message, Unreadable> {
        let kind = self.kind.ok_or(Unreadable::Missing("type"))?;
        self.take_older();
        let Request { id, options, rooms, close, data, event, .. } = self;
        let id_of = |id: Option<RequestId>| id.ok_or(Unreadable::Missing("requestId"));
        let options = options.ok_or(Unreadable::Missing("opts"));
        Ok(match kind {
            IDS => {
                let target = Target { is_everyone: parts::is_empty(&rooms), rooms, ..Target::default() };
                Message::Ids { request: id_of(id)?, target }
            }
            ALL_ROOMS => Message::AllRooms { request: id_of(id)? },
            JOIN => Message::Join { target: options?.target, rooms },
            LEAVE => Message::Leave { target: options?.target, rooms },
            DISCONNECT => Message::Disconnect { target: options?.target, close },
            FETCH => Message::Fetch { request: id_of(id)?, target: options?.target },
            SERVER_SIDE => {
                let event = data.ok_or(Unreadable::Missing("data"))?;
                parts::check_named(&event)?;
                Message::ServerSide { request: id, event }
            }
            BROADCAST => {
                let Options { target, timeout } = options?;
                let event = event.ok_or(Unreadable::Missing("packet"))?.payload;
                let wants = Wants { request: id_of(id)?, timeout: timeout.unwrap_or(TIMEOUT_DEFAULT) };
                Message::Broadcast(Broadcast { target, event, wants: Some(wants) })
            }
            other => return Err(Unreadable::TypeUnknown(other)),
        })
    }

    /// Makes options of a socket's id, and rooms of a room.
    fn take_older(&mut self) {
        if let (None, Some(sid)) = (&self.options, self.sid.take()) {
            let target = Target { rooms: Names::from_iter([&*sid]), ..Target::default() };
            self.options = Some(Options { target, timeout: None });
            self.rooms = Names::from_iter(self.room.take().as_deref());
        }
    }
}

/// Which answer it is, is said by what it has in it.
fn read_response(mut source: Source<'_>) -> Result<Reply, Unreadable> {
    let (mut kind, mut request) = (None, None);
    let (mut listed, mut count, mut value) = (None, None, None);
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "type" => kind = Some(source.number()?),
            "requestId" => request = source.id()?,
            "sockets" => listed = Some(read_sockets(&mut source)?),
            "rooms" => listed = Some(Answer::Rooms(parts::read_names(&mut source)?)),
            "clientCount" => count = Some(source.number()?),
            "data" | "packet" => value = source.value()?,
            _ => source.skip()?,
        }
    }
    source.finish()?;
    if let Some(value) = &value {
        parts::check_attachments(value)?;
    }
    let answer = match kind {
        None => listed.ok_or(Unreadable::Missing("sockets or rooms"))?,
        Some(SERVER_SIDE) => Answer::ServerSide(value),
        Some(COUNT) => Answer::Count(count.ok_or(Unreadable::Missing("clientCount"))?),
        Some(ACK) => Answer::Ack(value),
        Some(other) => return Err(Unreadable::TypeUnknown(other)),
    };
    Ok(Reply { request: request.ok_or(Unreadable::Missing("requestId"))?, answer })
}

/// Descriptions, or ids alone.
fn read_sockets(source: &mut Source<'_>) -> Result<Answer, Unreadable> {
    let mut ahead = source.clone();
    let mut inside = ahead.array()?;
    let is_described = !ahead.has_more(&mut inside)? || ahead.is_object();
    Ok(match is_described {
        true => Answer::Sockets(facts::read_all(source)?),
        false => Answer::Ids(parts::read_names(source)?),
    })
}

/// A pattern that only this text matches. (Node does not escape its own.)
fn escape_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::vectors::{classic, uid};
    use super::super::{Format, MsgpackError, PacketError};
    use super::*;

    #[test]
    fn a_server_hears_what_node_hears() {
        let Format::Classic(format) = classic("S2a_99") else { return };
        let plain = |name: &str| Channel::Plain(name.into());
        let expected = [
            Channel::Pattern("socket.io#/#*".into()),
            plain("socket.io-response#/#"),
            plain("socket.io-response#/#S2a_99#"),
            plain("socket.io-request#/#"),
        ];
        assert_eq!(format.channels("/"), expected);
        let odd = Classic { prefix: "a[b]*".into(), uid: uid("x"), is_answer_for_asker_alone: false };
        assert_eq!(odd.channels("/?")[0], Channel::Pattern(r"a\[b\]\*#/\?#*".into()), "escaped");
        assert_eq!(format.count_channel("/chat"), plain("socket.io-request#/chat#"));
    }

    fn read(channel: &str, body: &[u8]) -> Result<Option<Heard>, Unreadable> {
        let body = Body::Bytes(Bytes::copy_from_slice(body));
        classic("S2a_99").read(&Delivery { channel: Channel::Plain(channel.into()), body, offset: None })
    }

    #[test]
    fn what_a_broker_brings_is_refused_by_its_fault() {
        let event = "socket.io#/#";
        let packet = b"\x83\xa4type\x02\xa4data\x91\xa1a\xa3nsp\xa1/";
        let with = |before: &[u8], after: &[u8]| [before, packet, after].concat();
        let rows: Vec<(&str, Vec<u8>, Unreadable)> = vec![
            (event, with(b"\x92\xa1x", b""), Unreadable::Missing("opts")),
            (event, b"\x91\xa1x".to_vec(), Unreadable::Missing("packet")),
            (event, b"\x90".to_vec(), Unreadable::Missing("uid")),
            (event, b"{}".to_vec(), Unreadable::NotExpected),
            (event, b"".to_vec(), MsgpackError::Truncated.into()),
            (event, with(b"\x93\xa1x", b"\x80\x00"), Unreadable::NotExpected),
            (event, b"\x93\xa1x\x82\xa4type\x03\xa4data\x90\x80".to_vec(), Unreadable::TypeUnknown(3)),
            (
                event,
                b"\x93\xa1x\x82\xa4type\x02\xa4data\x80\x80".to_vec(),
                PacketError::PayloadUnexpected.into(),
            ),
            (
                event,
                b"\x93\xa1x\x82\xa4type\x02\xa4data\x90\x80".to_vec(),
                PacketError::EventNameInvalid.into(),
            ),
            (
                event,
                b"\x93\xa1x\x82\xa4type\x02\xa4data\x91\xa7connect\x80".to_vec(),
                PacketError::EventNameReserved.into(),
            ),
            (event, b"\x93\xa1x\x81\xa4type\x02\x80".to_vec(), Unreadable::Missing("data of a packet")),
            ("socket.io#/other#", with(b"\x93\xa1x", b"\x80"), Unreadable::ChannelOther),
            ("socket.io#/", with(b"\x93\xa1x", b"\x80"), Unreadable::ChannelOther),
            ("else#/#", b"".to_vec(), Unreadable::ChannelUnknown),
            ("socket.io-request#/", b"{}".to_vec(), Unreadable::ChannelUnknown),
            ("socket.io-request#a#", b"{}".to_vec(), Unreadable::NamespaceInvalid),
            ("socket.io-request#/#", b"{}".to_vec(), Unreadable::Missing("type")),
            ("socket.io-request#/#", b"{\"type\":1e3}".to_vec(), Unreadable::NotExpected),
            ("socket.io-request#/#", b"{\"type\":42}".to_vec(), Unreadable::TypeUnknown(42)),
            ("socket.io-request#/#", b"{\"type\":5}".to_vec(), Unreadable::Missing("requestId")),
            ("socket.io-request#/#", b"{\"type\":2,\"rooms\":[]}".to_vec(), Unreadable::Missing("opts")),
            ("socket.io-request#/#", b"{\"type\":2,\"rooms\":[{}]}".to_vec(), Unreadable::NotExpected),
            (
                "socket.io-request#/#",
                b"{\"type\":6,\"data\":[]}".to_vec(),
                PacketError::EventNameInvalid.into(),
            ),
            ("socket.io-request#/#", b"{\"type\":6,}".to_vec(), Unreadable::NotJson),
            ("socket.io-request#/#", b"{\"type\":6".to_vec(), Unreadable::NotJson),
            ("socket.io-request#/#", b"{\"type\":6}}".to_vec(), Unreadable::NotExpected),
            ("socket.io-request#/#", b"{\"\xff\":6}".to_vec(), Unreadable::NotUtf8),
            (
                "socket.io-response#/#",
                b"{\"requestId\":\"S2a_99\"}".to_vec(),
                Unreadable::Missing("sockets or rooms"),
            ),
            (
                "socket.io-response#/#",
                b"{\"type\":8,\"requestId\":\"S2a_99\"}".to_vec(),
                Unreadable::Missing("clientCount"),
            ),
        ];
        for (channel, body, expected) in rows {
            assert_eq!(read(channel, &body), Err(expected), "{channel} {}", body.escape_ascii());
        }
        let long = format!("{{\"uid\":\"{}\"}}", "u".repeat(129));
        assert_eq!(read("socket.io-request#/#", long.as_bytes()), Err(Unreadable::IdTooLong));
        let deep = format!("{{\"data\":{}", "[".repeat(1_000_000));
        assert_eq!(read("socket.io-request#/#", deep.as_bytes()), Err(Unreadable::NotJson));
        let deep = [b"\x93\xa1x\x81\xa4data".to_vec(), vec![0x91; 1_000_000]].concat();
        assert_eq!(read(event, &deep), Err(MsgpackError::TooDeep.into()));
        // An announced length makes no room.
        assert_eq!(read(event, b"\xdd\xff\xff\xff\xff"), Err(MsgpackError::Truncated.into()));
        assert_eq!(read(event, b"\x93\xa1x\xdf\xff\xff\xff\xff"), Err(MsgpackError::Truncated.into()));
    }

    #[test]
    fn answers_to_others_are_left_before_they_are_decoded() {
        assert_eq!(read("socket.io-response#/#", b"{\"requestId\":\"other\", junk"), Ok(None));
        let with_our_id_elsewhere = br#"{"requestId":"other","rooms":["S2a_99"]}"#;
        assert_eq!(read("socket.io-response#/#", with_our_id_elsewhere), Ok(None));
    }

    #[test]
    fn what_older_servers_say_means_the_same() {
        let read = |body: &str| read("socket.io-request#/#", body.as_bytes()).unwrap().unwrap().message;
        let target = Target { rooms: Names::from_iter(["abc"]), ..Target::default() };
        let rooms = Names::from_iter(["7"]);
        assert_eq!(
            read(r#"{"type":2,"sid":"abc","room":7,"requestId":"x"}"#),
            Message::Join { target: target.clone(), rooms: rooms.clone() }
        );
        assert_eq!(
            read(r#"{"type":3,"sid":"abc","room":"7"}"#),
            Message::Leave { target: target.clone(), rooms }
        );
        assert_eq!(
            read(r#"{"type":4,"sid":"abc","close":true}"#),
            Message::Disconnect { target, close: true }
        );
    }

    #[test]
    fn numbers_are_rooms_and_a_null_is_nothing() {
        let body = br#"{"type":7,"requestId":"a","packet":{"type":2,"data":["e"],"nsp":null},
            "opts":{"rooms":[1,-2.5,"c"],"except":null,"flags":{"timeout":1e3,"volatile":1,"local":true}}}"#;
        let Ok(Some(Heard { message: Message::Broadcast(broadcast), sender: None, .. })) =
            read("socket.io-request#/#", body)
        else {
            panic!("not read");
        };
        assert_eq!(broadcast.target.rooms, Names::from_iter(["1", "-2.5", "c"]));
        assert_eq!(broadcast.target.when_behind, crate::message::target::WhenBehind::Rule);
        assert_eq!(
            broadcast.wants.map(|wants| wants.timeout),
            Some(Duration::from_secs(5)),
            "no whole number"
        );
    }
}
