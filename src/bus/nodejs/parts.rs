//! What all of Node's formats say alike: whom a message is for (`opts`), an event (`packet`), and what is checked of them.

use std::time::Duration;

use crate::message::names::Names;
use crate::message::target::{Target, WhenBehind};
use crate::protocol::socketio::binary::holds_placeholders;
use crate::protocol::socketio::frames::is_namespace;
use crate::protocol::socketio::msgpack::MsgpackError;
use crate::protocol::socketio::packet::{PacketError, check_event_name};

use super::sink::Sink;
use super::source::Source;
use super::{Payload, Unreadable, Unwritable};

/// The packet type of an event, also of one with attachments: Node writes something else for those, to clients alone.
const TYPE_EVENT: u64 = 2;

/// What emitters for Socket.IO 2 write for an event with attachments.
const TYPE_BINARY_EVENT: u64 = 5;

/// How long Node waits for answers if it does not say.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_millis(5000);

/// The longest that an asker is believed to wait.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Server-side events that do harm on Node: the first three are the namespace's own, and the last ends the process unless
/// somebody listens to it.
const SERVER_EVENTS_RESERVED: [&str; 4] = ["connect", "connection", "new_namespace", "error"];

/// Whom a message is for, and how long its sender waits if it says so.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) target: Target,
    pub(super) timeout: Option<Duration>,
}

/// Reads `{rooms, except, flags}`; what is missing is empty. No rooms are all clients.
pub(super) fn read_options(source: &mut Source<'_>) -> Result<Options, Unreadable> {
    let mut options = Options::default();
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "rooms" => options.target.rooms = read_names(source)?,
            "except" => options.target.except = read_names(source)?,
            "flags" => read_flags(source, &mut options)?,
            _ => source.skip()?,
        }
    }
    options.target.is_everyone = is_empty(&options.target.rooms);
    Ok(options)
}

fn read_flags(source: &mut Source<'_>, options: &mut Options) -> Result<(), Unreadable> {
    if source.take_null()? {
        return Ok(());
    }
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "volatile" if source.flag()? == Some(true) => options.target.when_behind = WhenBehind::Volatile,
            "volatile" => {}
            "compress" => options.target.is_uncompressed = source.flag()? == Some(false),
            "timeout" => {
                let millis = source.value()?.and_then(|value| value.json.parse().ok());
                options.timeout = millis.map(|millis| Duration::from_millis(millis).min(TIMEOUT_MAX));
            }
            _ => source.skip()?,
        }
    }
    Ok(())
}

/// Reads a list of room names; `null` and `undefined` are an empty one.
pub(super) fn read_names(source: &mut Source<'_>) -> Result<Names, Unreadable> {
    let mut names = Names::default();
    if source.take_null()? {
        return Ok(names);
    }
    let mut inside = source.array()?;
    while source.has_more(&mut inside)? {
        names.push(&source.name()?);
    }
    Ok(names)
}

pub(super) fn is_empty(names: &Names) -> bool {
    names.iter().next().is_none()
}

/// An event for clients, as it was sent.
#[derive(Debug)]
pub(super) struct Event {
    /// Classic packets name theirs.
    pub(super) namespace: Option<String>,
    pub(super) payload: Payload,
}

/// Reads `{type, data, nsp}`.
pub(super) fn read_packet(source: &mut Source<'_>) -> Result<Event, Unreadable> {
    let (mut kind, mut namespace, mut payload) = (None, None, None);
    let mut inside = source.object()?;
    while let Some(key) = source.key(&mut inside)? {
        match &*key {
            "type" => kind = Some(source.number()?),
            "data" => payload = source.value()?,
            "nsp" if !source.take_null()? => namespace = Some(source.string()?.into_owned()),
            "nsp" => namespace = None,
            _ => source.skip()?,
        }
    }
    match kind.ok_or(Unreadable::Missing("type of a packet"))? {
        TYPE_EVENT | TYPE_BINARY_EVENT => {}
        other => return Err(Unreadable::TypeUnknown(other)),
    }
    let payload = payload.ok_or(Unreadable::Missing("data of a packet"))?;
    check_event(&payload)?;
    Ok(Event { namespace, payload })
}

/// An event that can be sent to clients as it is.
fn check_event(payload: &Payload) -> Result<(), Unreadable> {
    check_named(payload)?;
    Ok(check_event_name(&payload.json)?)
}

/// An array that begins with a name, in which nothing passes for an attachment that is none.
pub(super) fn check_named(payload: &Payload) -> Result<(), Unreadable> {
    if !payload.json.starts_with('[') {
        return Err(PacketError::PayloadUnexpected.into());
    }
    match check_event_name(&payload.json) {
        Ok(()) | Err(PacketError::EventNameReserved) => {}
        Err(error) => return Err(error.into()),
    }
    check_attachments(payload)
}

/// A client or a server may put what looks like a placeholder beside binary values.
pub(super) fn check_attachments(payload: &Payload) -> Result<(), Unreadable> {
    let count = payload.attachments.len();
    if count > 0 && !holds_placeholders(&payload.json, count) {
        return Err(MsgpackError::PlaceholderInMap.into());
    }
    Ok(())
}

/// A name that clients and channels can have.
pub(super) fn check_namespace(namespace: &str) -> Result<(), Unreadable> {
    if is_namespace(namespace) { Ok(()) } else { Err(Unreadable::NamespaceInvalid) }
}

/// How a format writes `opts`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flags {
    /// `{rooms, except}`.
    None,
    /// `{rooms, except, flags}`.
    Written { timeout: Option<Duration> },
}

pub(super) fn write_options(sink: &mut Sink, target: &Target, flags: Flags) {
    let none = Names::default();
    let rooms = if target.is_everyone { &none } else { &target.rooms };
    let len = match flags {
        Flags::None => 2,
        Flags::Written { .. } => 3,
    };
    sink.object(len, |sink| {
        write_names(sink.key("rooms"), rooms);
        write_names(sink.key("except"), &target.except);
        if let Flags::Written { timeout } = flags {
            write_flags(sink.key("flags"), target, timeout);
        }
    });
}

fn write_flags(sink: &mut Sink, target: &Target, timeout: Option<Duration>) {
    let is_volatile = target.when_behind == WhenBehind::Volatile;
    let len = usize::from(is_volatile) + usize::from(target.is_uncompressed) + usize::from(timeout.is_some());
    sink.object(len, |sink| {
        if is_volatile {
            sink.key("volatile").literal(Some(true));
        }
        if target.is_uncompressed {
            sink.key("compress").literal(Some(false));
        }
        if let Some(timeout) = timeout {
            sink.key("timeout").number(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        }
    });
}

pub(super) fn write_names(sink: &mut Sink, names: &Names) {
    sink.array(names.iter().count(), |sink| {
        names.iter().for_each(|name| sink.string(name));
    });
}

/// Writes `{type, data, nsp}`; the namespace is the classic adapter's alone.
pub(super) fn write_packet(sink: &mut Sink, event: &Payload, namespace: Option<&str>) {
    sink.object(2 + usize::from(namespace.is_some()), |sink| {
        sink.key("type").number(TYPE_EVENT);
        sink.key("data").value(event);
        if let Some(namespace) = namespace {
            sink.key("nsp").string(namespace);
        }
    });
}

/// To Node an empty list of rooms is all clients.
pub(super) fn check_target(target: &Target) -> Result<(), Unwritable> {
    if !target.is_everyone && is_empty(&target.rooms) { Err(Unwritable::NobodyMeant) } else { Ok(()) }
}

/// Whether a server-side event does no harm on Node.
pub(super) fn check_server_event(event: &Payload) -> Result<(), Unwritable> {
    let is_reserved = |name: &str| {
        let quoted = serde_json::to_string(name).expect("strings have JSON");
        let rest = event.json.trim_start_matches(['[', ' ']).strip_prefix(&quoted);
        rest.is_some_and(|rest| rest.trim_start().starts_with([',', ']']))
    };
    if SERVER_EVENTS_RESERVED.iter().any(|name| is_reserved(name)) {
        return Err(Unwritable::NameReserved);
    }
    Ok(())
}

/// The one room of a target, if it is for one room.
pub(super) fn one_room(target: &Target) -> Option<&str> {
    let mut rooms = target.rooms.iter();
    let first = rooms.next().filter(|_| !target.is_everyone)?;
    // A set of rooms, to Node.
    rooms.all(|room| room == first).then_some(first)
}
