//! The format of python-socketio's message queue: of Flask-SocketIO servers, and of Python programs that only emit.
//!
//! Bytes to [`Message`] and back, of every version. Followed: python-socketio 5.16.3, `src/socketio/pubsub_manager.py`, and what
//! older versions were seen to publish (`tests/vectors/python`). Up to 5.13 a message is a pickle, then JSON; its `data` has
//! changed three times. What is written here is what most of them read the same way. No IO, no state, no knowledge of
//! who is connected.
//!
//! Arguments stay JSON text from the queue to the client and back: they are checked, and never made values.

mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod message;
mod pickle;
mod pickle_json;
pub(crate) mod speaker;
#[cfg(test)]
mod vectors;
mod write;

use std::borrow::Cow;

use crate::protocol::socketio::frames::{FramedEvent, FramesError, frame_foreign_event};

use fields::Fields;

pub(crate) use message::{Callback, Emit, Membership, Message, Options, Rooms, Unreadable};
pub(crate) use write::write;

/// How far from its end a message's host is looked for: the name, its id of 32 characters, and room for white space.
const HOST_TAIL_BYTES: usize = 128;

/// Reads one message of any version.
///
/// # Errors
/// What is to be counted; the message is dropped.
pub(crate) fn read(bytes: &[u8], options: Options) -> Result<Message<'_>, Unreadable> {
    if bytes.len() > options.bytes_max {
        return Err(Unreadable::TooLong);
    }
    // A pickle begins with its protocol, or, in the oldest two, with an empty dict or a mark. `}` and `(` begin no JSON.
    if let Some(b'\x80' | b'}' | b'(') = bytes.first() {
        if !options.pickle {
            return Err(Unreadable::PickleOff);
        }
        return pickle::read(bytes, options.bytes_max);
    }
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Unreadable::NotJson)?;
    Fields::of_json(text.strip_prefix('\u{feff}').unwrap_or(text))?.message()
}

/// Whom a message is from, without reading it: for a process that passes over what it has published itself. It must begin and end
/// as python-socketio and this crate write it. `None` says nothing.
pub(crate) fn host_of(bytes: &[u8]) -> Option<&str> {
    // The host of a callback is whom it is for.
    let method = bytes.strip_prefix(b"{\"method\": \"").filter(|rest| !rest.starts_with(b"callback"))?;
    let tail = method.get(method.len().saturating_sub(HOST_TAIL_BYTES)..)?;
    // In valid JSON these quotes can belong to no text: they would be escaped. And an object that ends with the message is the
    // outermost one.
    let key = memchr::memmem::rfind(tail, b"\"host_id\"")?;
    let value = tail.get(key..)?.strip_prefix(b"\"host_id\"")?;
    let value = value.strip_prefix(b": \"").or_else(|| value.strip_prefix(b":\""))?.strip_suffix(b"\"}")?;
    let is_plain = memchr::memchr2(b'"', b'\\', value).is_none();
    str::from_utf8(value).ok().filter(|_| is_plain)
}

impl<'a> Emit<'a> {
    /// An event for everybody in its namespace, lent from its frames.
    pub(crate) fn of_event(event: FramedEvent<'a>) -> Emit<'a> {
        Emit {
            event: event.name,
            args: Cow::Borrowed(event.args),
            attachments: event.attachments.into_iter().map(Cow::Borrowed).collect(),
            namespace: Cow::Borrowed(event.namespace),
            rooms: Rooms::Everybody,
            skip: Vec::new(),
            callback: None,
            host_id: None,
        }
    }

    /// The canonical frames, as shards send them.
    ///
    /// # Errors
    /// Clients would hang up for the event.
    pub(crate) fn to_frames(&self) -> Result<Vec<u8>, FramesError> {
        let mut out = Vec::new();
        frame_foreign_event(&mut out, &self.namespace, (&self.event, &self.args), &self.attachments)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_where_python_writes_it_and_nowhere_else() {
        let rows = [
            (r#"{"method": "emit", "event": "a", "data": null, "host_id": "0011"}"#, Some("0011")),
            (r#"{"method": "close_room", "room": "a", "host_id":"x"}"#, Some("x")),
            (r#"{"method": "emit", "data": {"host_id": "inner"}, "host_id": "outer"}"#, Some("outer")),
            (r#"{"method": "emit", "data": {"host_id": "inner"}}"#, None),
            (r#"{"method": "emit", "host_id": "0011", "data": {"a": "b"}}"#, None),
            (r#"{"method": "emit", "host_id": "0011", "data": "b"}"#, None),
            (r#"{"method": "emit", "data": "\"host_id\": \"0011"}"#, None),
            (r#"{"method": "emit", "host_id": null}"#, None),
            (r#"{"method": "emit", "host_id": "a\"b"}"#, None),
            (r#"{"method": "callback", "sid": "a", "host_id": "0011"}"#, None),
            (r#"{"event": "a", "method": "callback", "host_id": "0011"}"#, None),
            (r#"["host_id": "0011"}"#, None),
            ("\"host_id\"", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(host_of(text.as_bytes()), expected, "{text}");
        }
        let long = format!(r#"{{"method": "emit", "data": "{}", "host_id": "0011"}}"#, "x".repeat(10_000));
        assert_eq!(host_of(long.as_bytes()), Some("0011"));
    }

    #[test]
    fn an_event_goes_to_frames_and_back() {
        let emit = Emit {
            event: Cow::Borrowed("ev"),
            args: Cow::Borrowed(r#"1,{"_placeholder":true,"num":0}"#),
            attachments: vec![Cow::Borrowed(&b"\x00\xff"[..])],
            namespace: Cow::Borrowed("/chat"),
            rooms: Rooms::Everybody,
            skip: Vec::new(),
            callback: None,
            host_id: None,
        };
        let frames = emit.to_frames().unwrap();
        assert_eq!(Emit::of_event(FramedEvent::check(&frames, "/chat").unwrap()), emit);
        let reserved = Emit { event: Cow::Borrowed("connect"), ..emit };
        assert!(reserved.to_frames().is_err());
    }

    #[test]
    fn every_fault_says_what_it_is() {
        let faults = [
            Unreadable::TooLong,
            Unreadable::NotJson,
            Unreadable::PickleOff,
            Unreadable::Pickle(message::PickleError::GlobalForbidden),
            Unreadable::Missing("event"),
            Unreadable::Invalid("room"),
        ];
        let texts: std::collections::HashSet<String> = faults.iter().map(Unreadable::to_string).collect();
        assert_eq!(texts.len(), faults.len());
    }
}
