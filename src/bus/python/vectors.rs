//! Replays `tests/vectors/python/messages.txt`: what each version has published, and what it means.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::message::PickleError;
use super::{Callback, Membership, Message, Options, Rooms, Unreadable, host_of, read, write};

const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/python/messages.txt"));

const OPTIONS: Options = Options { pickle: true, bytes_max: 1 << 20 };

/// One call, what it means, and what versions publish of it.
struct Vector {
    call: &'static str,
    /// `None` if it is to be refused.
    out: Option<Value>,
    published: Vec<(&'static str, Vec<u8>)>,
}

fn vectors() -> Vec<Vector> {
    let paragraphs = TEXT.split("\n\n").filter(|paragraph| paragraph.starts_with("call: "));
    let vectors: Vec<Vector> = paragraphs.map(vector).collect();
    assert!(vectors.len() > 90, "the vectors were not understood");
    vectors
}

fn vector(paragraph: &'static str) -> Vector {
    let mut lines = paragraph.lines();
    let call = lines.next().and_then(|line| line.strip_prefix("call: ")).unwrap();
    let out = match lines.next().and_then(|line| line.strip_prefix("out: ")).unwrap() {
        "unreadable" => None,
        out => Some(serde_json::from_str(out).unwrap()),
    };
    let published = lines.map(|line| {
        let (versions, payload) = line.split_once(": ").unwrap();
        let payload = match payload.strip_prefix("pickle ") {
            Some(pickle) => STANDARD.decode(pickle).unwrap(),
            None => payload.as_bytes().to_vec(),
        };
        (versions, payload)
    });
    Vector { call, out, published: published.collect() }
}

fn args_value(args: &str) -> Value {
    serde_json::from_str(&format!("[{args}]")).unwrap()
}

fn attachments_value(attachments: &[std::borrow::Cow<'_, [u8]>]) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    attachments.iter().map(|bytes| hex(bytes)).collect()
}

fn membership(method: &str, membership: &Membership<'_>) -> Value {
    let Membership { sid, room, namespace, host_id } = membership;
    json!({"method": method, "sid": sid, "room": room, "namespace": namespace, "host": host_id})
}

/// A message in the words of the vectors.
fn shown(message: &Message<'_>) -> Value {
    match message {
        Message::Emit(emit) => json!({
            "method": "emit",
            "event": emit.event,
            "args": args_value(&emit.args),
            "attachments": attachments_value(&emit.attachments),
            "namespace": emit.namespace,
            "rooms": match &emit.rooms {
                Rooms::Everybody => Value::Null,
                Rooms::Of(rooms) => json!(rooms),
            },
            "skip": emit.skip,
            "callback": emit.callback.as_ref().map(|Callback { room, namespace, id, .. }| json!([room, namespace, id])),
            "host": emit.host_id,
        }),
        Message::Callback { host_id, callback, args, attachments } => json!({
            "method": "callback",
            "host": host_id,
            "room": callback.room,
            "namespace": callback.namespace,
            "id": callback.id,
            "args": args_value(args),
            "attachments": attachments_value(attachments),
        }),
        Message::Disconnect { sid, namespace, host_id } => {
            json!({"method": "disconnect", "sid": sid, "namespace": namespace, "host": host_id})
        }
        Message::EnterRoom(member) => membership("enter_room", member),
        Message::LeaveRoom(member) => membership("leave_room", member),
        Message::CloseRoom { room, namespace, host_id } => {
            json!({"method": "close_room", "room": room, "namespace": namespace, "host": host_id})
        }
    }
}

#[test]
fn every_version_is_read_as_it_is_meant() {
    let mut count = 0;
    for Vector { call, out, published } in vectors() {
        for (versions, payload) in published {
            let message = read(&payload, OPTIONS);
            assert_eq!(message.as_ref().ok().map(shown), out, "{call} by {versions}: {message:?}");
            count += versions.split(' ').count();
        }
    }
    assert_eq!(count, 540);
}

#[test]
fn what_is_no_plain_data_is_refused_for_what_it_is() {
    for Vector { call, published, .. } in vectors() {
        for (versions, payload) in published {
            let expected = match (call, payload.first()) {
                ("m.emit('ev', float('nan'))", Some(b'{')) => Unreadable::NotJson,
                ("m.emit('ev', float('nan'))", _) => Unreadable::Pickle(PickleError::NotJson),
                (call, _) if call.contains("datetime") || call.contains("uuid") => {
                    Unreadable::Pickle(PickleError::GlobalForbidden)
                }
                _ => continue,
            };
            assert_eq!(read(&payload, OPTIONS), Err(expected), "{call} by {versions}");
        }
    }
}

#[test]
fn pickles_are_read_on_demand_only() {
    let mut count = 0;
    for (_, payload) in vectors().into_iter().flat_map(|vector| vector.published) {
        if payload.first() != Some(&b'{') {
            assert_eq!(read(&payload, Options { pickle: false, ..OPTIONS }), Err(Unreadable::PickleOff));
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn cut_messages_and_long_ones_are_refused() {
    for (_, payload) in vectors().into_iter().flat_map(|vector| vector.published) {
        for len in 0..payload.len() {
            assert!(
                read(&payload[..len], OPTIONS).is_err(),
                "{:?} at {len}",
                String::from_utf8_lossy(&payload)
            );
        }
        let short = Options { bytes_max: payload.len() - 1, ..OPTIONS };
        assert_eq!(read(&payload, short), Err(Unreadable::TooLong));
    }
}

/// A message with what Python can say in two ways said in ours: a list of one name is the name, a room is a text.
fn plain(mut message: Value) -> Value {
    for key in ["room", "skip_sid"] {
        let Some(value) = message.get_mut(key) else { continue };
        if let Some([name]) = value.as_array().map(Vec::as_slice) {
            *value = name.clone();
        }
        if value.is_number() {
            *value = json!(value.to_string());
        }
    }
    message
}

#[test]
fn what_is_written_is_what_some_version_writes() {
    let vectors = vectors();
    for Vector { call, out, published } in &vectors {
        for (versions, payload) in published {
            let Ok(message) = read(payload, OPTIONS) else { continue };
            let mut out_bytes = Vec::new();
            write(&message, &mut out_bytes);
            let written: Value = serde_json::from_slice(&out_bytes).unwrap();
            let is_lone_null =
                matches!(&message, Message::Emit(emit) if emit.args.is_empty() || emit.args == "null");
            let has_lost_bytes =
                matches!(&message, Message::Callback { attachments, .. } if !attachments.is_empty());
            if is_lone_null {
                assert_eq!(written["data"], Value::Null, "every version takes it for no argument");
            } else if !has_lost_bytes {
                let is_known = |payload: &[u8]| {
                    serde_json::from_slice::<Value>(payload).is_ok_and(|known| plain(known) == written)
                };
                let mut known =
                    vectors.iter().filter(|other| other.out == *out).flat_map(|other| &other.published);
                let has_host = written.get("host_id").is_some();
                let is_pickle_only = known.clone().all(|(_, payload)| payload.first() != Some(&b'{'));
                assert!(
                    known.any(|(_, payload)| is_known(payload)) || is_pickle_only || !has_host,
                    "{call} by {versions}: {written}"
                );
                let again = read(&out_bytes, Options { pickle: false, ..OPTIONS }).unwrap();
                assert_eq!(shown(&again), shown(&message), "{call} by {versions}");
            }
        }
    }
}

#[test]
fn our_own_host_is_found_in_what_is_published() {
    for (versions, payload) in vectors().into_iter().flat_map(|vector| vector.published) {
        let is_json = payload.first() == Some(&b'{');
        let is_callback = payload.starts_with(b"{\"method\": \"callback\"");
        let expected = (is_json && !is_callback).then_some("00112233445566778899aabbccddeeff");
        assert_eq!(host_of(&payload), expected, "{versions}: {}", String::from_utf8_lossy(&payload));
    }
}
