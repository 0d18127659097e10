//! Messages to bytes, in the order of keys and with the white space of Python's `json.dumps`.
//!
//! The newest version reads all of them, and the same bytes mean the same to as many older ones as can be: no argument is `null`,
//! one that is not an array stands bare, and only several, or an array, are a list, which versions before 5.15.1 take for one
//! argument. Text stays as it is where Python would escape it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::protocol::socketio::binary::inline_attachments;
use crate::protocol::socketio::json::Elements;

use super::message::{Callback, Emit, Membership, Message, Rooms};

/// Appends a message.
///
/// Python has no way to say one argument that is `null`: it arrives as none. The bytes in an answer become base64 texts, because
/// Python has no attachments there.
pub(crate) fn write(message: &Message<'_>, out: &mut Vec<u8>) {
    match message {
        Message::Emit(emit) => write_emit(emit, out),
        Message::Callback { host_id, callback, args, attachments } => {
            out.extend_from_slice(b"{\"method\": \"callback\", \"host_id\": ");
            push_text(out, host_id);
            push_key(out, "sid");
            push_room(out, callback);
            push_key(out, "namespace");
            push_text(out, &callback.namespace);
            push_key(out, "id");
            out.extend_from_slice(callback.id.to_string().as_bytes());
            push_key(out, "args");
            let args = match &attachments[..] {
                [] => Cow::Borrowed(&**args),
                _ => Cow::Owned(inline_attachments(args, attachments)),
            };
            push_array(out, &args);
            out.push(b'}');
        }
        Message::Disconnect { sid, namespace, host_id } => {
            out.extend_from_slice(b"{\"method\": \"disconnect\", \"sid\": ");
            push_text(out, sid);
            push_end(out, namespace, host_id);
        }
        Message::EnterRoom(membership) => write_membership(membership, "enter_room", out),
        Message::LeaveRoom(membership) => write_membership(membership, "leave_room", out),
        Message::CloseRoom { room, namespace, host_id } => {
            out.extend_from_slice(b"{\"method\": \"close_room\", \"room\": ");
            push_text(out, room);
            push_end(out, namespace, host_id);
        }
    }
}

fn write_emit(emit: &Emit<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\": \"emit\", \"event\": ");
    push_text(out, &emit.event);
    push_key(out, "data");
    match &emit.attachments[..] {
        [] => push_args(out, &emit.args),
        attachments => {
            out.push(b'[');
            match is_bare(&emit.args) && !emit.args.is_empty() {
                true => out.extend_from_slice(emit.args.as_bytes()),
                false => push_array(out, &emit.args),
            }
            for attachment in attachments {
                out.extend_from_slice(b", \"");
                push_base64(out, attachment);
                out.push(b'"');
            }
            out.push(b']');
        }
    }
    push_key(out, "binary");
    out.extend_from_slice(if emit.attachments.is_empty() { b"false" } else { b"true" });
    push_key(out, "namespace");
    push_text(out, &emit.namespace);
    push_key(out, "room");
    match &emit.rooms {
        Rooms::Everybody => out.extend_from_slice(b"null"),
        Rooms::Of(rooms) => push_one_or_list(out, rooms),
    }
    push_key(out, "skip_sid");
    match &emit.skip[..] {
        [] => out.extend_from_slice(b"null"),
        skip => push_one_or_list(out, skip),
    }
    push_key(out, "callback");
    match &emit.callback {
        None => out.extend_from_slice(b"null"),
        Some(callback) => {
            out.push(b'[');
            push_room(out, callback);
            out.extend_from_slice(b", ");
            push_text(out, &callback.namespace);
            out.extend_from_slice(b", ");
            out.extend_from_slice(callback.id.to_string().as_bytes());
            out.push(b']');
        }
    }
    push_host(out, &emit.host_id);
}

fn write_membership(membership: &Membership<'_>, method: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\": ");
    push_text(out, method);
    push_key(out, "sid");
    push_text(out, &membership.sid);
    push_key(out, "room");
    push_text(out, &membership.room);
    push_end(out, &membership.namespace, &membership.host_id);
}

fn push_end(out: &mut Vec<u8>, namespace: &str, host_id: &Option<Cow<'_, str>>) {
    push_key(out, "namespace");
    push_text(out, namespace);
    push_host(out, host_id);
}

/// Nothing at all if there is none: then everybody listens.
fn push_host(out: &mut Vec<u8>, host_id: &Option<Cow<'_, str>>) {
    if let Some(host_id) = host_id {
        push_key(out, "host_id");
        push_text(out, host_id);
    }
    out.push(b'}');
}

fn push_args(out: &mut Vec<u8>, args: &str) {
    match args {
        "" | "null" => out.extend_from_slice(b"null"),
        args if is_bare(args) => out.extend_from_slice(args.as_bytes()),
        args => push_array(out, args),
    }
}

/// Whether these are at most one argument, which is not an array and not `null`.
fn is_bare(args: &str) -> bool {
    !args.starts_with('[') && args != "null" && Elements::new(args).nth(1).is_none()
}

fn push_array(out: &mut Vec<u8>, elements: &str) {
    out.push(b'[');
    out.extend_from_slice(elements.as_bytes());
    out.push(b']');
}

fn push_one_or_list(out: &mut Vec<u8>, names: &[Cow<'_, str>]) {
    if let [name] = names {
        return push_text(out, name);
    }
    out.push(b'[');
    for (place, name) in names.iter().enumerate() {
        if place > 0 {
            out.extend_from_slice(b", ");
        }
        push_text(out, name);
    }
    out.push(b']');
}

fn push_room(out: &mut Vec<u8>, callback: &Callback<'_>) {
    match callback.is_number {
        true => out.extend_from_slice(callback.room.as_bytes()),
        false => push_text(out, &callback.room),
    }
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    STANDARD.encode_slice(bytes, room).expect("four characters for each three bytes are enough");
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b", \"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\": ");
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string has JSON and a Vec takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit(args: &'static str, attachments: &[&'static [u8]]) -> Emit<'static> {
        Emit {
            event: "ev".into(),
            args: args.into(),
            attachments: attachments.iter().map(|bytes| Cow::Borrowed(*bytes)).collect(),
            namespace: "/".into(),
            rooms: Rooms::Everybody,
            skip: Vec::new(),
            callback: None,
            host_id: Some("0011".into()),
        }
    }

    fn written(message: Message<'_>) -> String {
        let mut out = Vec::new();
        write(&message, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arguments_are_in_the_form_that_most_versions_read() {
        let rows: [(&str, &[&[u8]], &str); 12] = [
            ("", &[], r#"null, "binary": false"#),
            ("null", &[], r#"null, "binary": false"#),
            ("\"a\"", &[], r#""a", "binary": false"#),
            ("{\"k\":1}", &[], r#"{"k":1}, "binary": false"#),
            ("[]", &[], r#"[[]], "binary": false"#),
            ("1,2", &[], r#"[1,2], "binary": false"#),
            ("null,null", &[], r#"[null,null], "binary": false"#),
            (
                "{\"_placeholder\":true,\"num\":0}",
                &[b"\x00\xff"],
                r#"[{"_placeholder":true,"num":0}, "AP8="], "binary": true"#,
            ),
            (
                "[{\"_placeholder\":true,\"num\":0}]",
                &[b""],
                r#"[[[{"_placeholder":true,"num":0}]], ""], "binary": true"#,
            ),
            (
                "1,{\"_placeholder\":true,\"num\":0}",
                &[b"x", b"yyy"],
                r#"[[1,{"_placeholder":true,"num":0}], "eA==", "eXl5"], "binary": true"#,
            ),
            ("", &[b"x"], r#"[[], "eA=="], "binary": true"#),
            ("\"é\"", &[], r#""é", "binary": false"#),
        ];
        for (args, attachments, expected) in rows {
            assert_eq!(
                written(Message::Emit(emit(args, attachments))),
                format!(
                    r#"{{"method": "emit", "event": "ev", "data": {expected}, "namespace": "/", "room": null, "skip_sid": null, "callback": null, "host_id": "0011"}}"#
                )
            );
        }
    }

    #[test]
    fn keys_are_in_pythons_order() {
        let callback = |is_number| Callback { room: "7".into(), is_number, namespace: "/a".into(), id: 3 };
        let full = Emit {
            rooms: Rooms::Of(vec!["r".into()]),
            skip: vec!["s".into(), "t\"".into()],
            callback: Some(callback(false)),
            host_id: None,
            ..emit("1", &[])
        };
        let member = || Membership {
            sid: "s".into(),
            room: "r".into(),
            namespace: "/".into(),
            host_id: Some("h".into()),
        };
        let answer = |args: &'static str, attachments| Message::Callback {
            host_id: "h".into(),
            callback: callback(true),
            args: args.into(),
            attachments,
        };
        let rows = [
            (
                Message::Emit(full),
                r#"{"method": "emit", "event": "ev", "data": 1, "binary": false, "namespace": "/", "room": "r", "skip_sid": ["s", "t\""], "callback": ["7", "/a", 3]}"#,
            ),
            (
                answer("1,2", Vec::new()),
                r#"{"method": "callback", "host_id": "h", "sid": 7, "namespace": "/a", "id": 3, "args": [1,2]}"#,
            ),
            (
                answer(r#"{"_placeholder":true,"num":0}"#, vec![Cow::Borrowed(&b"x"[..])]),
                r#"{"method": "callback", "host_id": "h", "sid": 7, "namespace": "/a", "id": 3, "args": ["eA=="]}"#,
            ),
            (
                Message::Disconnect { sid: "s".into(), namespace: "/".into(), host_id: Some("h".into()) },
                r#"{"method": "disconnect", "sid": "s", "namespace": "/", "host_id": "h"}"#,
            ),
            (
                Message::EnterRoom(member()),
                r#"{"method": "enter_room", "sid": "s", "room": "r", "namespace": "/", "host_id": "h"}"#,
            ),
            (
                Message::LeaveRoom(member()),
                r#"{"method": "leave_room", "sid": "s", "room": "r", "namespace": "/", "host_id": "h"}"#,
            ),
            (
                Message::CloseRoom { room: "r".into(), namespace: "/".into(), host_id: None },
                r#"{"method": "close_room", "room": "r", "namespace": "/"}"#,
            ),
        ];
        for (message, expected) in rows {
            assert_eq!(written(message), expected);
        }
    }
}
