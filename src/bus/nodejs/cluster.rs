//! The envelope of the sharded and the streams adapter, `{type, data, uid, nsp}`: what socket.io-adapter's `ClusterAdapter` says.
//!
//! The type says what `data` holds. Heartbeats, and the word that an adapter closes, are left: counts come from subscriptions.

use crate::message::names::Names;

use super::facts;
use super::parts::{self, Flags, Options, TIMEOUT_DEFAULT};
use super::sink::Sink;
use super::source::Source;
use super::{
    Answer, Broadcast, Heard, Message, Payload, Reply, RequestId, Unreadable, Unwritable, Wants, is_ours,
};

const INITIAL_HEARTBEAT: u64 = 1;
const HEARTBEAT: u64 = 2;
const BROADCAST: u64 = 3;
const JOIN: u64 = 4;
const LEAVE: u64 = 5;
const DISCONNECT: u64 = 6;
const FETCH: u64 = 7;
const FETCH_RESPONSE: u64 = 8;
const SERVER_SIDE: u64 = 9;
const SERVER_SIDE_RESPONSE: u64 = 10;
const COUNT: u64 = 11;
const ACK: u64 = 12;
const CLOSE: u64 = 13;

/// What an envelope holds besides its data.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) kind: Option<u64>,
    pub(super) uid: Option<Box<str>>,
    pub(super) namespace: Option<String>,
}

impl Envelope {
    /// Whether it is for us at all: no copy of a shardcast process's, and no heartbeat.
    pub(super) fn is_for_us(&self) -> bool {
        let is_beat = matches!(self.kind, Some(INITIAL_HEARTBEAT | HEARTBEAT | CLOSE));
        !is_beat && !self.uid.as_deref().is_some_and(is_ours)
    }

    /// The whole message, whose data are there.
    pub(super) fn with(self, data: &mut Source<'_>) -> Result<Heard, Unreadable> {
        let kind = self.kind.ok_or(Unreadable::Missing("type"))?;
        let namespace = self.namespace.ok_or(Unreadable::Missing("nsp"))?;
        parts::check_namespace(&namespace)?;
        let message = read_data(data, kind)?;
        let heard = Heard { namespace, sender: self.uid, message };
        // There is nobody to answer then.
        if heard.sender.is_none() && heard.is_asking() {
            return Err(Unreadable::Missing("uid"));
        }
        Ok(heard)
    }
}

/// Reads a whole envelope; none if it is not for us.
pub(super) fn read(mut source: Source<'_>) -> Result<Option<Heard>, Unreadable> {
    let (mut envelope, mut data) = (Envelope::default(), None);
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "type" => envelope.kind = Some(source.number()?),
            "uid" => envelope.uid = source.id()?,
            "nsp" => envelope.namespace = Some(source.string()?.into_owned()),
            // What they are is said by the type, and whether they are wanted by the uid, which may come later.
            "data" => {
                data = Some(source.clone());
                source.skip()?;
            }
            _ => source.skip()?,
        }
    }
    source.finish()?;
    if !envelope.is_for_us() {
        return Ok(None);
    }
    envelope.with(&mut data.ok_or(Unreadable::Missing("data"))?).map(Some)
}

/// What data may have; which of it they have depends on the type.
#[derive(Default)]
struct Data {
    request: Option<RequestId>,
    options: Option<Options>,
    rooms: Names,
    close: bool,
    sockets: Vec<crate::message::inquiry::SocketFacts>,
    count: Option<u64>,
    /// An event for clients or servers, or an answer.
    packet: Option<Payload>,
}

fn read_data(source: &mut Source<'_>, kind: u64) -> Result<Message, Unreadable> {
    if !(BROADCAST..=ACK).contains(&kind) {
        return Err(Unreadable::TypeUnknown(kind));
    }
    let mut data = Data::default();
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "requestId" => data.request = source.id()?,
            "opts" => data.options = Some(parts::read_options(source)?),
            "rooms" => data.rooms = parts::read_names(source)?,
            "close" => data.close = source.flag()? == Some(true),
            "sockets" => data.sockets = facts::read_all(source)?,
            "clientCount" => data.count = Some(source.number()?),
            "packet" if kind == BROADCAST => data.packet = Some(parts::read_packet(source)?.payload),
            "packet" => data.packet = source.value()?,
            _ => source.skip()?,
        }
    }
    data.into_message(kind)
}

impl Data {
    fn into_message(self, kind: u64) -> Result<Message, Unreadable> {
        let Data { request, options, rooms, close, packet, .. } = self;
        let options = options.ok_or(Unreadable::Missing("opts"));
        let id_of = |request: Option<RequestId>| request.ok_or(Unreadable::Missing("requestId"));
        Ok(match kind {
            BROADCAST => {
                let Options { target, timeout } = options?;
                let event = packet.ok_or(Unreadable::Missing("packet"))?;
                let wants =
                    request.map(|request| Wants { request, timeout: timeout.unwrap_or(TIMEOUT_DEFAULT) });
                Message::Broadcast(Broadcast { target, event, wants })
            }
            JOIN => Message::Join { target: options?.target, rooms },
            LEAVE => Message::Leave { target: options?.target, rooms },
            DISCONNECT => Message::Disconnect { target: options?.target, close },
            FETCH => Message::Fetch { request: id_of(request)?, target: options?.target },
            SERVER_SIDE => {
                let event = packet.ok_or(Unreadable::Missing("packet"))?;
                parts::check_named(&event)?;
                Message::ServerSide { request, event }
            }
            _ => {
                if let Some(value) = &packet {
                    parts::check_attachments(value)?;
                }
                let answer = match kind {
                    FETCH_RESPONSE => Answer::Sockets(self.sockets),
                    SERVER_SIDE_RESPONSE => Answer::ServerSide(packet),
                    COUNT => Answer::Count(self.count.ok_or(Unreadable::Missing("clientCount"))?),
                    ACK => Answer::Ack(packet),
                    other => return Err(Unreadable::TypeUnknown(other)),
                };
                Message::Reply(Reply { request: id_of(request)?, answer })
            }
        })
    }
}

/// The type of a message, unless these formats lack it.
pub(super) fn kind_of(message: &Message) -> Result<u64, Unwritable> {
    Ok(match message {
        Message::Broadcast(_) => BROADCAST,
        Message::Join { .. } => JOIN,
        Message::Leave { .. } => LEAVE,
        Message::Disconnect { .. } => DISCONNECT,
        Message::Fetch { .. } => FETCH,
        Message::ServerSide { .. } => SERVER_SIDE,
        Message::AllRooms { .. } | Message::Ids { .. } | Message::Reply(_) => {
            return Err(Unwritable::NotInFormat);
        }
    })
}

/// Its attachments: only for them is an envelope or its data MessagePack where it might be JSON.
pub(super) fn attachments_of(message: &Message) -> usize {
    match message {
        Message::Broadcast(Broadcast { event, .. }) | Message::ServerSide { event, .. } => {
            event.attachments.len()
        }
        _ => 0,
    }
}

/// Writes a whole envelope around what `fill` writes.
pub(super) fn write(
    sink: &mut Sink,
    (kind, uid, namespace): (u64, &str, &str),
    fill: impl FnOnce(&mut Sink),
) {
    sink.object(4, |sink| {
        sink.key("type").number(kind);
        fill(sink.key("data"));
        sink.key("uid").string(uid);
        sink.key("nsp").string(namespace);
    });
}

/// Checks what Node must never get.
pub(super) fn check(message: &Message) -> Result<(), Unwritable> {
    match message {
        Message::Broadcast(Broadcast { target, .. })
        | Message::Join { target, .. }
        | Message::Leave { target, .. }
        | Message::Disconnect { target, .. }
        | Message::Fetch { target, .. } => parts::check_target(target),
        Message::ServerSide { event, .. } => parts::check_server_event(event),
        Message::AllRooms { .. } | Message::Ids { .. } | Message::Reply(_) => Err(Unwritable::NotInFormat),
    }
}

/// Writes the data of a message that has been checked.
pub(super) fn write_data(sink: &mut Sink, message: &Message) {
    let flags = Flags::Written { timeout: None };
    match message {
        Message::Broadcast(Broadcast { target, event, wants }) => {
            sink.object(2 + usize::from(wants.is_some()), |sink| {
                parts::write_packet(sink.key("packet"), event, None);
                if let Some(wants) = wants {
                    sink.key("requestId").string(&wants.request);
                }
                let flags = Flags::Written { timeout: wants.as_ref().map(|wants| wants.timeout) };
                parts::write_options(sink.key("opts"), target, flags);
            });
        }
        Message::Join { target, rooms } | Message::Leave { target, rooms } => sink.object(2, |sink| {
            parts::write_options(sink.key("opts"), target, flags);
            parts::write_names(sink.key("rooms"), rooms);
        }),
        Message::Disconnect { target, close } => sink.object(2, |sink| {
            parts::write_options(sink.key("opts"), target, flags);
            sink.key("close").literal(Some(*close));
        }),
        Message::Fetch { request, target } => sink.object(2, |sink| {
            parts::write_options(sink.key("opts"), target, flags);
            sink.key("requestId").string(request);
        }),
        Message::ServerSide { request, event } => sink.object(1 + usize::from(request.is_some()), |sink| {
            if let Some(request) = request {
                sink.key("requestId").string(request);
            }
            sink.key("packet").value(event);
        }),
        // `check` has refused them.
        Message::AllRooms { .. } | Message::Ids { .. } | Message::Reply(_) => sink.literal(None),
    }
}

/// The type of an answer, unless these formats lack it, and how many attachments it has.
pub(super) fn kind_of_answer(answer: &Answer) -> Result<(u64, usize), Unwritable> {
    let attachments = |value: &Option<Payload>| value.as_ref().map_or(0, |value| value.attachments.len());
    Ok(match answer {
        Answer::Sockets(_) => (FETCH_RESPONSE, 0),
        Answer::ServerSide(value) => (SERVER_SIDE_RESPONSE, attachments(value)),
        Answer::Count(_) => (COUNT, 0),
        Answer::Ack(value) => (ACK, attachments(value)),
        Answer::Ids(_) | Answer::Rooms(_) => return Err(Unwritable::NotInFormat),
    })
}

/// Writes the data of an answer. JSON leaves out what is `undefined`, and so does notepack.io.
pub(super) fn write_answer(sink: &mut Sink, reply: &Reply) {
    let has_value = !matches!(reply.answer, Answer::ServerSide(None) | Answer::Ack(None));
    sink.object(1 + usize::from(has_value), |sink| {
        sink.key("requestId").string(&reply.request);
        match &reply.answer {
            Answer::Sockets(sockets) => facts::write_all(sink.key("sockets"), sockets),
            Answer::Count(count) => sink.key("clientCount").number(*count),
            Answer::ServerSide(Some(value)) | Answer::Ack(Some(value)) => sink.key("packet").value(value),
            Answer::ServerSide(None) | Answer::Ack(None) | Answer::Ids(_) | Answer::Rooms(_) => {}
        }
    });
}
