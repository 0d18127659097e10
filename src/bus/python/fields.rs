//! The keys of a message, each with its JSON text, and the message that they make.
//!
//! Of equal keys the last counts, and unknown ones are passed over, as in Python. Does not know pickles.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::limits::JSON_DEPTH_MAX;
use crate::protocol::socketio::binary::check_placeholders;
use crate::protocol::socketio::frames::is_namespace;
use crate::protocol::socketio::json::{self, Elements, Scanner};

use super::message::{Callback, Emit, MESSAGE_ATTACHMENTS_MAX, Membership, Message, Rooms, Unreadable};

/// JSON texts by their keys.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) method: Option<&'a str>,
    pub(super) event: Option<&'a str>,
    pub(super) data: Option<Data<'a>>,
    pub(super) binary: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) room: Option<&'a str>,
    pub(super) skip_sid: Option<&'a str>,
    pub(super) callback: Option<&'a str>,
    pub(super) host_id: Option<&'a str>,
    pub(super) sid: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) args: Option<Data<'a>>,
}

/// The arguments of an event, or of an answer.
#[derive(Clone, Debug)]
pub(super) enum Data<'a> {
    /// What stands in the message.
    Json(&'a str),
    /// Elements of a JSON array, and attachments: those of a pickle.
    Args(&'a str, Vec<Cow<'a, [u8]>>),
}

type Args<'a> = (&'a str, Vec<Cow<'a, [u8]>>);

impl<'a> Fields<'a> {
    /// Finds the keys of an object, and checks all of it.
    pub(super) fn of_json(text: &'a str) -> Result<Fields<'a>, Unreadable> {
        let mut scanner = Scanner::new(text);
        if scanner.take() != Some(b'{') {
            json::validate(text)?;
            return Err(Unreadable::NotMessage);
        }
        let mut fields = Fields::default();
        scanner.skip_white_space();
        if scanner.peek() == Some(b'}') {
            scanner.take();
        } else {
            fields.take_members(&mut scanner)?;
        }
        scanner.skip_white_space();
        if scanner.peek().is_some() { Err(Unreadable::NotJson) } else { Ok(fields) }
    }

    fn take_members(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Unreadable> {
        loop {
            let key = json::unescape(scanner.key()?).ok_or(Unreadable::NotJson)?;
            scanner.skip_white_space();
            let start = scanner.at;
            // One level less: the arguments will stand in an array with the event's name.
            scanner.value_within(JSON_DEPTH_MAX - 1)?;
            self.set(&key, scanner.since(start));
            match scanner.take() {
                Some(b',') => {}
                Some(b'}') => return Ok(()),
                _ => return Err(Unreadable::NotJson),
            }
        }
    }

    /// Of equal keys the last counts.
    pub(super) fn set(&mut self, key: &str, value: &'a str) {
        match key {
            "method" => self.method = Some(value),
            "event" => self.event = Some(value),
            "data" => self.data = Some(Data::Json(value)),
            "binary" => self.binary = Some(value),
            "namespace" => self.namespace = Some(value),
            "room" => self.room = Some(value),
            "skip_sid" => self.skip_sid = Some(value),
            "callback" => self.callback = Some(value),
            "host_id" => self.host_id = Some(value),
            "sid" => self.sid = Some(value),
            "id" => self.id = Some(value),
            "args" => self.args = Some(Data::Json(value)),
            _ => {}
        }
    }

    /// The message.
    pub(super) fn message(self) -> Result<Message<'a>, Unreadable> {
        let method = text(self.method.ok_or(Unreadable::NotMessage)?).ok_or(Unreadable::NotMessage)?;
        Ok(match &*method {
            "emit" => Message::Emit(self.emit()?),
            "callback" => self.answer()?,
            // Python takes the main namespace here if none is named.
            "disconnect" => Message::Disconnect {
                sid: need(self.sid, "sid")?,
                namespace: namespace(self.namespace)?.unwrap_or(Cow::Borrowed("/")),
                host_id: maybe(self.host_id, "host_id")?,
            },
            "enter_room" => Message::EnterRoom(self.membership()?),
            "leave_room" => Message::LeaveRoom(self.membership()?),
            "close_room" => Message::CloseRoom {
                room: need_room(self.room)?,
                namespace: need_namespace(self.namespace)?,
                host_id: maybe(self.host_id, "host_id")?,
            },
            _ => return Err(Unreadable::MethodUnknown),
        })
    }

    fn emit(self) -> Result<Emit<'a>, Unreadable> {
        let namespace = need_namespace(self.namespace)?;
        let is_binary = match self.binary {
            Some("true") => true,
            None | Some("false" | "null") => false,
            Some(_) => return Err(Unreadable::Invalid("binary")),
        };
        let (args, attachments) = match self.data.ok_or(Unreadable::Missing("data"))? {
            Data::Json(data) if is_binary => binary_args(data)?,
            Data::Json(data) => (args_of(data), Vec::new()),
            Data::Args(args, attachments) => (args, attachments),
        };
        let host_id = maybe(self.host_id, "host_id")?;
        Ok(Emit {
            event: need(self.event, "event")?,
            args: Cow::Borrowed(args),
            attachments,
            namespace,
            rooms: rooms(self.room)?,
            skip: skip(self.skip_sid)?,
            callback: self.callback.and_then(callback).filter(|_| host_id.is_some()),
            host_id,
        })
    }

    fn answer(self) -> Result<Message<'a>, Unreadable> {
        let (args, attachments) = match self.args.ok_or(Unreadable::Missing("args"))? {
            Data::Json(args) => (elements(args).ok_or(Unreadable::Invalid("args"))?, Vec::new()),
            Data::Args(args, attachments) => (args, attachments),
        };
        let (room, is_number) =
            name(self.sid.ok_or(Unreadable::Missing("sid"))?).ok_or(Unreadable::Invalid("sid"))?;
        Ok(Message::Callback {
            host_id: need(self.host_id, "host_id")?,
            callback: Callback {
                room,
                is_number,
                // Python does not look at it.
                namespace: namespace(self.namespace)?.unwrap_or(Cow::Borrowed("/")),
                id: self
                    .id
                    .ok_or(Unreadable::Missing("id"))?
                    .parse()
                    .map_err(|_| Unreadable::Invalid("id"))?,
            },
            args: Cow::Borrowed(args),
            attachments,
        })
    }

    fn membership(self) -> Result<Membership<'a>, Unreadable> {
        Ok(Membership {
            sid: need(self.sid, "sid")?,
            room: need_room(self.room)?,
            namespace: need_namespace(self.namespace)?,
            host_id: maybe(self.host_id, "host_id")?,
        })
    }
}

/// The arguments of every version: `null` is none, an array is a list of them, anything else is one. Since 5.15.1 it is always
/// an array, in which a lone `null` stands for none; 5.14.0 to 5.15.0 write one list just as several arguments, and newer
/// receivers take it for these.
fn args_of(data: &str) -> &str {
    match elements(data).unwrap_or(data) {
        "null" => "",
        args => args,
    }
}

/// The same with attachments behind it: `[data, base64, ..]`.
fn binary_args(data: &str) -> Result<Args<'_>, Unreadable> {
    let mut parts = Elements::new(elements(data).ok_or(Unreadable::Invalid("data"))?);
    let args = args_of(parts.next().ok_or(Unreadable::Invalid("data"))?);
    let mut attachments = Vec::new();
    for part in parts {
        if attachments.len() == MESSAGE_ATTACHMENTS_MAX {
            return Err(Unreadable::TooManyAttachments);
        }
        let base64 = text(part).ok_or(Unreadable::Invalid("data"))?;
        let bytes = STANDARD.decode(&*base64).map_err(|_| Unreadable::Invalid("data"))?;
        attachments.push(Cow::Owned(bytes));
    }
    let count = attachments.len();
    Elements::new(args)
        .try_for_each(|arg| check_placeholders(arg, count))
        .map_err(|_| Unreadable::Placeholder)?;
    Ok((args, attachments))
}

/// What is within an array's brackets.
fn elements(array: &str) -> Option<&str> {
    array.strip_prefix('[')?.strip_suffix(']').map(json::trim)
}

fn text(value: &str) -> Option<Cow<'_, str>> {
    if value.starts_with('"') { json::unescape(value) } else { None }
}

/// A room's name, and whether it is a number.
fn name(value: &str) -> Option<(Cow<'_, str>, bool)> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Some((Cow::Borrowed(value), true)),
        false => text(value).map(|text| (text, false)),
    }
}

fn maybe<'a>(value: Option<&'a str>, key: &'static str) -> Result<Option<Cow<'a, str>>, Unreadable> {
    match value {
        None | Some("null") => Ok(None),
        Some(value) => text(value).map(Some).ok_or(Unreadable::Invalid(key)),
    }
}

fn need<'a>(value: Option<&'a str>, key: &'static str) -> Result<Cow<'a, str>, Unreadable> {
    maybe(value, key)?.ok_or(Unreadable::Missing(key))
}

fn namespace(value: Option<&str>) -> Result<Option<Cow<'_, str>>, Unreadable> {
    match maybe(value, "namespace")? {
        Some(name) if !is_namespace(&name) => Err(Unreadable::Invalid("namespace")),
        name => Ok(name),
    }
}

/// Python drops what names none.
fn need_namespace(value: Option<&str>) -> Result<Cow<'_, str>, Unreadable> {
    namespace(value)?.ok_or(Unreadable::Missing("namespace"))
}

fn need_room(value: Option<&str>) -> Result<Cow<'_, str>, Unreadable> {
    let room = value.filter(|room| *room != "null").ok_or(Unreadable::Missing("room"))?;
    name(room).map(|(name, _)| name).ok_or(Unreadable::Invalid("room"))
}

fn rooms(value: Option<&str>) -> Result<Rooms<'_>, Unreadable> {
    let Some(value) = value.filter(|value| *value != "null") else { return Ok(Rooms::Everybody) };
    let names = Elements::new(elements(value).unwrap_or(value)).map(|room| name(room).map(|(name, _)| name));
    names.collect::<Option<_>>().map(Rooms::Of).ok_or(Unreadable::Invalid("room"))
}

fn skip(value: Option<&str>) -> Result<Vec<Cow<'_, str>>, Unreadable> {
    let Some(value) = value.filter(|value| *value != "null") else { return Ok(Vec::new()) };
    let sids: Option<_> = Elements::new(elements(value).unwrap_or(value)).map(text).collect();
    sids.ok_or(Unreadable::Invalid("skip_sid"))
}

/// Anything else asks for no answer, as in Python.
fn callback(value: &str) -> Option<Callback<'_>> {
    let mut parts = Elements::new(elements(value)?);
    let (room, is_number) = name(parts.next()?)?;
    let namespace = text(parts.next()?).filter(|name| is_namespace(name))?;
    let id = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Callback { room, is_number, namespace, id })
}

#[cfg(test)]
mod tests {
    use super::super::{Options, read};
    use super::*;

    fn read_text(text: &str) -> Result<Message<'_>, Unreadable> {
        read(text.as_bytes(), Options { pickle: true, bytes_max: 1 << 20 })
    }

    fn emit(members: &str) -> Result<Emit<'static>, Unreadable> {
        let text = format!(r#"{{"method": "emit", "event": "ev", "namespace": "/", "data": null{members}}}"#);
        match read_text(&text).map(Message::into_owned)? {
            Message::Emit(emit) => Ok(emit),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_message_is_refused_for_what_it_is() {
        let rows = [
            ("", Unreadable::NotJson),
            ("  ", Unreadable::NotJson),
            ("x", Unreadable::NotJson),
            ("null", Unreadable::NotMessage),
            ("[1]", Unreadable::NotMessage),
            ("{}", Unreadable::NotMessage),
            (r#"{"method": 7}"#, Unreadable::NotMessage),
            (r#"{"method": null}"#, Unreadable::NotMessage),
            (r#"{"method": "emit"} x"#, Unreadable::NotJson),
            (r#"{"method": "emit",}"#, Unreadable::NotJson),
            (r#"{"method": "emit" "x": 1}"#, Unreadable::NotJson),
            (r#"{"method": "shout"}"#, Unreadable::MethodUnknown),
            (r#"{"method": "emit", "event": "a", "data": 1}"#, Unreadable::Missing("namespace")),
            (
                r#"{"method": "emit", "event": "a", "data": 1, "namespace": null}"#,
                Unreadable::Missing("namespace"),
            ),
            (
                r#"{"method": "emit", "event": "a", "data": 1, "namespace": ""}"#,
                Unreadable::Invalid("namespace"),
            ),
            (
                r#"{"method": "emit", "event": "a", "data": 1, "namespace": "/a,b"}"#,
                Unreadable::Invalid("namespace"),
            ),
            (r#"{"method": "emit", "event": "a", "namespace": "/"}"#, Unreadable::Missing("data")),
            (r#"{"method": "emit", "data": 1, "namespace": "/"}"#, Unreadable::Missing("event")),
            (r#"{"method": "emit", "event": 1, "data": 1, "namespace": "/"}"#, Unreadable::Invalid("event")),
            (r#"{"method": "callback", "sid": "a", "id": 1, "args": []}"#, Unreadable::Missing("host_id")),
            (r#"{"method": "callback", "host_id": "h", "id": 1, "args": []}"#, Unreadable::Missing("sid")),
            (r#"{"method": "callback", "host_id": "h", "sid": "a", "args": []}"#, Unreadable::Missing("id")),
            (
                r#"{"method": "callback", "host_id": "h", "sid": "a", "id": -1, "args": []}"#,
                Unreadable::Invalid("id"),
            ),
            (
                r#"{"method": "callback", "host_id": "h", "sid": "a", "id": 1, "args": 2}"#,
                Unreadable::Invalid("args"),
            ),
            (r#"{"method": "callback", "host_id": "h", "sid": "a", "id": 1}"#, Unreadable::Missing("args")),
            (r#"{"method": "disconnect", "namespace": "/"}"#, Unreadable::Missing("sid")),
            (r#"{"method": "enter_room", "sid": "a", "namespace": "/"}"#, Unreadable::Missing("room")),
            (r#"{"method": "leave_room", "sid": "a", "room": "r"}"#, Unreadable::Missing("namespace")),
            (r#"{"method": "close_room", "room": null, "namespace": "/"}"#, Unreadable::Missing("room")),
            (r#"{"method": "close_room", "room": [], "namespace": "/"}"#, Unreadable::Invalid("room")),
        ];
        for (text, error) in rows {
            assert_eq!(read_text(text), Err(error), "{text}");
        }
    }

    #[test]
    fn members_with_other_values_are_refused() {
        let rows = [
            (r#", "data": NaN"#, Unreadable::NotJson),
            (r#", "data": [-Infinity]"#, Unreadable::NotJson),
            (r#", "binary": 1"#, Unreadable::Invalid("binary")),
            (r#", "binary": true"#, Unreadable::Invalid("data")),
            (r#", "binary": true, "data": []"#, Unreadable::Invalid("data")),
            (r#", "binary": true, "data": [1, 2]"#, Unreadable::Invalid("data")),
            (r#", "binary": true, "data": [1, "YQ"]"#, Unreadable::Invalid("data")),
            (r#", "binary": true, "data": [1, "Y!=="]"#, Unreadable::Invalid("data")),
            (r#", "binary": true, "data": [{"_placeholder": true, "num": 0}]"#, Unreadable::Placeholder),
            (
                r#", "binary": true, "data": [[1, {"_placeholder": true, "num": 1}], "YQ=="]"#,
                Unreadable::Placeholder,
            ),
            (r#", "room": 1.5"#, Unreadable::Invalid("room")),
            (r#", "room": true"#, Unreadable::Invalid("room")),
            (r#", "room": ["a", null]"#, Unreadable::Invalid("room")),
            (r#", "skip_sid": 7"#, Unreadable::Invalid("skip_sid")),
            (r#", "skip_sid": [["a"]]"#, Unreadable::Invalid("skip_sid")),
            (r#", "host_id": 7"#, Unreadable::Invalid("host_id")),
        ];
        for (members, error) in rows {
            assert_eq!(emit(members), Err(error), "{members}");
        }
        assert_eq!(
            read(b"{\"method\": \"\xff\"}", Options { pickle: true, bytes_max: 99 }),
            Err(Unreadable::NotJson)
        );
    }

    #[test]
    fn members_are_read_with_what_python_forgives() {
        let base = emit("").unwrap();
        assert_eq!((&*base.event, &*base.args, &base.rooms), ("ev", "", &Rooms::Everybody));
        assert_eq!((base.skip.len(), base.callback, base.host_id), (0, None, None));
        let rows = [
            (r#", "event": "a", "event": "b\u0061\ud800""#, "ba\u{fffd}"),
            (r#", "unknown": [[{}]], "even\u0074": "x""#, "x"),
        ];
        for (members, event) in rows {
            assert_eq!(emit(members).unwrap().event, event, "{members}");
        }
        let rooms: [(&str, &[&str]); 6] = [
            (r#""a""#, &["a"]),
            ("7", &["7"]),
            ("-7", &["-7"]),
            ("[]", &[]),
            (r#"[ "a" , 7 ]"#, &["a", "7"]),
            (r#""""#, &[""]),
        ];
        for (room, expected) in rooms {
            let expected = Rooms::Of(expected.iter().map(|name| Cow::Borrowed(*name)).collect());
            assert_eq!(emit(&format!(r#", "room": {room}"#)).unwrap().rooms, expected, "{room}");
        }
        for (data, args) in [
            ("[]", ""),
            ("[null]", ""),
            ("[ null ]", ""),
            ("[null,null]", "null,null"),
            ("[[null]]", "[null]"),
            ("{}", "{}"),
            (r#"["\ud800", 1e999]"#, r#""\ud800", 1e999"#),
            ("false", "false"),
        ] {
            assert_eq!(emit(&format!(r#", "data": {data}"#)).unwrap().args, args, "{data}");
        }
    }

    #[test]
    fn a_callback_needs_all_three_parts_and_a_host() {
        let callback =
            |text: &str| emit(&format!(r#", "callback": {text}, "host_id": "h""#)).unwrap().callback;
        let found = callback(r#"["R", "/ns", 7]"#).unwrap();
        assert_eq!((&*found.room, found.is_number, &*found.namespace, found.id), ("R", false, "/ns", 7));
        assert!(callback(r#"[7, "/", 1]"#).is_some_and(|found| found.is_number && found.room == "7"));
        for text in [
            "7",
            "[]",
            r#"["R", "/"]"#,
            r#"["R", "/", "1"]"#,
            r#"["R", "/", 1, 2]"#,
            r#"["R", null, 1]"#,
            "{}",
        ] {
            assert_eq!(callback(text), None, "{text}");
        }
        assert_eq!(
            emit(r#", "callback": ["R", "/", 1]"#).unwrap().callback,
            None,
            "an answer would reach no process"
        );
    }

    #[test]
    fn bounds_are_exact() {
        let nested = |levels: usize| format!(r#", "data": {}{}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(emit(&nested(JSON_DEPTH_MAX - 1)).unwrap().to_frames().is_ok());
        assert_eq!(emit(&nested(JSON_DEPTH_MAX)), Err(Unreadable::TooDeep));
        let attached = |count: usize| format!(r#", "binary": true, "data": [[]{}]"#, r#","""#.repeat(count));
        assert_eq!(
            emit(&attached(MESSAGE_ATTACHMENTS_MAX)).unwrap().attachments.len(),
            MESSAGE_ATTACHMENTS_MAX
        );
        assert_eq!(emit(&attached(MESSAGE_ATTACHMENTS_MAX + 1)), Err(Unreadable::TooManyAttachments));
    }

    #[test]
    fn a_mark_of_the_byte_order_is_passed_over() {
        let text = "\u{feff} {\"method\": \"disconnect\", \"sid\": \"a\"}\n";
        assert!(
            matches!(read_text(text), Ok(Message::Disconnect { sid, namespace, .. }) if sid == "a" && namespace == "/")
        );
    }
}
