//! Vectors of `tests/vectors/nodejs`: what the npm packages wrote is read, and written as the same bytes.

use std::borrow::Cow;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use crate::bus::Body;
use crate::config::queue::NODE_KEY_DEFAULT;

use super::classic::Classic;
use super::sharded::{Mode, Sharded};
use super::*;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/nodejs/adapters.jsonl");

/// Cases that the file holds at least; fewer means that the runner has lost some.
const CASES_MIN: usize = 227;

pub(super) fn uid(text: &str) -> Uid {
    Uid(text.into())
}

const KEY: &str = NODE_KEY_DEFAULT;

pub(super) fn classic(of: &str) -> Format {
    Format::new(QueueFormat::Node, KEY, uid(of)).unwrap()
}

pub(super) fn sharded(of: &str, mode: Mode) -> Format {
    Format::Sharded(Sharded { prefix: KEY.into(), uid: uid(of), mode })
}

pub(super) fn streams(of: &str) -> Format {
    Format::new(QueueFormat::NodeStreams, KEY, uid(of)).unwrap()
}

/// The format of a kind of vectors, with an id of its own.
fn format_of(kind: &str, of: &str) -> Format {
    match kind {
        "redis-adapter" | "redis-emitter" | "interop-handmade" => classic(of),
        "redis-adapter(publishOnSpecificResponseChannel)" => Format::Classic(Classic {
            prefix: "myprefix".into(),
            uid: uid(of),
            is_answer_for_asker_alone: true,
        }),
        "redis-adapter-sharded(dynamic)" => sharded(of, Mode::Dynamic),
        "redis-adapter-sharded(dynamic-private)" => sharded(of, Mode::DynamicPrivate),
        "redis-adapter-sharded(static)" => {
            Format::Sharded(Sharded { prefix: "pfx".into(), uid: uid(of), mode: Mode::Static })
        }
        "redis-streams-adapter" | "redis-streams-emitter" => streams(of),
        other => panic!("the unknown kind {other}"),
    }
}

fn delivery_of(vector: &Value) -> Delivery {
    let channel = vector["channel"].as_str().unwrap().into();
    let payload = Bytes::from(STANDARD.decode(vector["payload_b64"].as_str().unwrap()).unwrap());
    let (channel, body) = match vector["command"].as_str().unwrap() {
        "PUBLISH" => (Channel::Plain(channel), Body::Bytes(payload)),
        "SPUBLISH" => (Channel::Sharded(channel), Body::Bytes(payload)),
        _ => {
            let value = |name: &str| Bytes::from(vector["fields"][name].as_str().unwrap().to_owned());
            let mut fields: Vec<_> =
                ["uid", "nsp", "type"].map(|name| (Cow::Borrowed(name), value(name))).into();
            fields.push((Cow::Borrowed("data"), payload));
            (Channel::Stream(channel), Body::Fields(fields))
        }
    };
    Delivery { channel, body, offset: None }
}

/// The same as heard by the one who asked, in the classic format: its ids begin with its uid, which is how it knows what is for it.
/// Node's do not, so one takes the place of the other.
fn to_asker(delivery: &mut Delivery, id: &str) {
    let (Channel::Plain(channel), Body::Bytes(bytes)) = (&delivery.channel, &delivery.body) else { return };
    let Some((_, own)) = channel.trim_end_matches('#').rsplit_once("#/#") else { return };
    let place = memchr::memmem::find(bytes, id.as_bytes()).unwrap();
    let mut changed = bytes.to_vec();
    changed[place..place + id.len()].copy_from_slice(own.as_bytes());
    delivery.body = Body::Bytes(changed.into());
}

#[test]
fn what_node_writes_is_read_and_written_as_the_same_bytes() {
    let text = fs::read_to_string(VECTORS).unwrap();
    let vectors: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(vectors.len() >= CASES_MIN, "only {} cases", vectors.len());
    let mut requests = String::new();
    for vector in vectors.iter().filter(|vector| vector["kind"] != "interop-handmade") {
        let (kind, call) = (vector["kind"].as_str().unwrap(), vector["call"].as_str().unwrap());
        let name = format!("{kind}: {call}: {}", vector["channel"]);
        let mut delivery = delivery_of(vector);
        let reader = match &delivery.channel {
            Channel::Plain(channel) if channel.contains("-response#/") => {
                if channel.ends_with("#/#") {
                    requests.clone()
                } else {
                    to_asker(&mut delivery, &requests);
                    channel_owner(&delivery.channel)
                }
            }
            _ => "reader".to_owned(),
        };
        let heard =
            format_of(kind, &reader).read(&delivery).unwrap_or_else(|error| panic!("{name}: {error}"));
        let heard = heard.unwrap_or_else(|| panic!("{name}: left"));
        if let Some(request) = request_of(&heard.message) {
            requests = request.to_string();
        }
        let writer = format_of(kind, heard.sender.as_deref().unwrap_or("writer"));
        let post = match &heard.message {
            Message::Reply(reply) => writer.reply(&heard.namespace, &channel_owner(&delivery.channel), reply),
            message => writer.write(&heard.namespace, message),
        };
        let post = post.unwrap_or_else(|error| panic!("{name}: {error}"));
        // The emitter of streams puts into the stream what servers publish.
        if kind != "redis-streams-emitter" || !matches!(heard.message, Message::ServerSide { .. }) {
            assert_eq!(post.channel, delivery.channel, "{name}");
        }
        // A date is text here, and emitters have their keys in another order.
        if kind.ends_with("-emitter") || call.contains("new Date") {
            let written = Delivery { channel: post.channel, body: post.body, offset: None };
            let again = format_of(kind, "reader").read(&written).unwrap().unwrap();
            assert_eq!((again.namespace, again.message), (heard.namespace, heard.message), "{name}");
        } else {
            assert_eq!(shown(&post.body), shown(&delivery.body), "{name}");
        }
    }
}

fn channel_owner(channel: &Channel) -> String {
    let (Channel::Plain(name) | Channel::Sharded(name)) = channel else { return String::new() };
    name.trim_end_matches('#').rsplit_once('#').map_or("", |(_, owner)| owner).to_owned()
}

fn request_of(message: &Message) -> Option<&RequestId> {
    match message {
        Message::Broadcast(Broadcast { wants: Some(Wants { request, .. }), .. })
        | Message::ServerSide { request: Some(request), .. }
        | Message::Fetch { request, .. }
        | Message::AllRooms { request }
        | Message::Ids { request, .. } => Some(request),
        _ => None,
    }
}

fn shown(body: &Body) -> Vec<String> {
    let fields = match body {
        Body::Bytes(bytes) => vec![bytes],
        Body::Fields(fields) => fields.iter().map(|(_, value)| value).collect(),
    };
    fields.into_iter().map(|bytes| bytes.escape_ascii().to_string()).collect()
}

#[test]
fn what_was_made_by_hand_is_read_as_node_reads_it() {
    let text = fs::read_to_string(VECTORS).unwrap();
    let vectors = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut count = 0;
    for vector in vectors.filter(|vector| vector["kind"] == "interop-handmade") {
        count += 1;
        let call = vector["call"].as_str().unwrap();
        let (format, delivery) = (classic("reader"), delivery_of(&vector));
        let heard = format.read(&delivery).unwrap().unwrap();
        let event = match heard.message {
            Message::Broadcast(broadcast) => broadcast.event,
            _ => continue,
        };
        let Some(delivered) = vector["delivered"].get(0) else { continue };
        let mut read: Value = serde_json::from_str(&event.json).unwrap();
        if !event.attachments.is_empty() {
            read[1] = serde_json::json!({"type": "Buffer", "data": event.attachments[0].to_vec()});
        }
        // The callback that a client sees.
        let mut delivered = delivered.clone();
        if call.contains("with ack") {
            delivered.as_array_mut().unwrap().pop();
        }
        assert_eq!(read, delivered, "{call}");
    }
    assert_eq!(count, 15);
}

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/nodejs/ours.jsonl");

fn target(rooms: &[&str], except: &[&str]) -> Target {
    Target {
        is_everyone: rooms.is_empty(),
        rooms: rooms.iter().copied().collect(),
        except: except.iter().copied().collect(),
        ..Target::default()
    }
}

fn payload(json: &str, attachments: &[&'static [u8]]) -> Payload {
    let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
    Payload { json: json.to_owned(), attachments }
}

fn broadcast(target: Target, event: Payload) -> Message {
    Message::Broadcast(Broadcast { target, event, wants: None })
}

fn described() -> SocketFacts {
    let peer = crate::message::peer::Peer::tcp("192.0.2.1:80".parse().unwrap());
    SocketFacts {
        sid: crate::base::ids::Sid::parse("qu6x9d3Zy3p4LoxoAAAB").unwrap(),
        client_id: None,
        rooms: vec!["qu6x9d3Zy3p4LoxoAAAB".into(), "r1".into()],
        request: "/socket.io/?EIO=4&transport=websocket\nHost: a.example\nUser-Agent: x".into(),
        peer,
        address: peer.ip(),
        issued_unix_millis: 1_795_202_442_575,
        data: Some(r#"{"user":"bo"}"#.into()),
    }
}

/// One of each kind of message, with its name.
pub(super) fn messages() -> Vec<(&'static str, Message)> {
    let flagged = Target {
        is_uncompressed: true,
        when_behind: crate::message::target::WhenBehind::Volatile,
        ..target(&["r1", "r2"], &["r3"])
    };
    let nested = r#"["types",null,true,-1,-33,128,65536,4294967296,1.5,"é😀",{"a":[1,{}]},{"_placeholder":true,"num":0}]"#;
    let binary = r#"["bin",{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1}}]"#;
    let wants = Wants { request: "shardcast-0a1b2c-7".into(), timeout: Duration::from_millis(500) };
    let asking =
        |event| Message::Broadcast(Broadcast { target: target(&[], &[]), event, wants: Some(wants.clone()) });
    let request = || RequestId::from("shardcast-0a1b2c-8");
    vec![
        ("text", broadcast(target(&[], &[]), payload(r#"["hello","world"]"#, &[]))),
        ("values", broadcast(target(&[], &[]), payload(nested, &[]))),
        ("binary", broadcast(target(&["r1"], &[]), payload(binary, &[&[1, 2, 3], &[255]]))),
        ("one room", broadcast(target(&["r1"], &["nobody"]), payload(r#"["r",1]"#, &[]))),
        ("a room like an id", broadcast(target(&["twenty-letters-long-"], &[]), payload(r#"["id"]"#, &[]))),
        ("rooms and flags", broadcast(flagged, payload(r#"["multi"]"#, &[]))),
        ("asking", asking(payload(r#"["ackme","q"]"#, &[]))),
        ("asking with binary", asking(payload(binary, &[&[1, 2, 3], &[255]]))),
        (
            "join",
            Message::Join { target: target(&["r1"], &["x"]), rooms: ["j1", "j2"].into_iter().collect() },
        ),
        ("leave", Message::Leave { target: target(&["r1"], &[]), rooms: ["j1"].into_iter().collect() }),
        ("fetch", Message::Fetch { request: request(), target: target(&["r1"], &[]) }),
        ("all rooms", Message::AllRooms { request: request() }),
        ("ask for ids", Message::Ids { request: request(), target: target(&["r1"], &[]) }),
        ("server event", Message::ServerSide { request: None, event: payload(r#"["ss",1,{"a":2}]"#, &[]) }),
        (
            "server event with binary",
            Message::ServerSide {
                request: None,
                event: payload(r#"["ss",{"_placeholder":true,"num":0}]"#, &[&[1, 2]]),
            },
        ),
        (
            "server event that asks",
            Message::ServerSide { request: Some(request()), event: payload(r#"["ask","x"]"#, &[]) },
        ),
        ("disconnect", Message::Disconnect { target: target(&["r1"], &[]), close: true }),
    ]
}

/// One socket, as an answer describes it.
pub(super) fn sockets() -> Answer {
    Answer::Sockets(vec![described()])
}

pub(super) fn replies() -> Vec<(&'static str, Reply)> {
    let value = |json, attachments| Some(payload(json, attachments));
    let bytes = r#"{"_placeholder":true,"num":0}"#;
    let names = || ["qu6x9d3Zy3p4LoxoAAAB", "r1"].into_iter().collect::<Names>();
    [
        ("sockets", sockets()),
        ("ids", Answer::Ids(names())),
        ("rooms", Answer::Rooms(names())),
        ("server answer", Answer::ServerSide(value(r#"{"pong":[1]}"#, &[]))),
        ("server answer with binary", Answer::ServerSide(value(bytes, &[&[9, 8]]))),
        ("no server answer", Answer::ServerSide(None)),
        ("count", Answer::Count(300)),
        ("ack", Answer::Ack(value("\"ok\"", &[]))),
        ("ack with binary", Answer::Ack(value(bytes, &[&[9, 8]]))),
        ("ack of nothing", Answer::Ack(None)),
    ]
    .map(|(name, answer)| (name, Reply { request: "S2a_99".into(), answer }))
    .into()
}

/// What stands in `ours.jsonl` for a post.
fn line_of(format: &str, name: &str, post: &Post) -> String {
    let (command, channel) = match &post.channel {
        Channel::Plain(name) => ("PUBLISH", name),
        Channel::Sharded(name) => ("SPUBLISH", name),
        Channel::Stream(name) => ("XADD", name),
        other => panic!("{other:?} is no channel to publish to"),
    };
    let line = match &post.body {
        Body::Bytes(bytes) => serde_json::json!({
            "format": format, "name": name, "command": command, "channel": channel,
            "payload_b64": STANDARD.encode(bytes),
        }),
        Body::Fields(fields) => {
            let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            serde_json::json!({
                "format": format, "name": name, "command": command, "channel": channel, "fields": fields,
            })
        }
    };
    line.to_string()
}

#[test]
fn what_is_written_here_is_what_node_has_been_given() {
    let own = Uid::new(NodeTag([0x0a, 0x1b, 0x2c]));
    assert_eq!(own.as_str(), "shardcast-0a1b2c");
    let formats = [
        ("classic", classic(own.as_str())),
        ("sharded", sharded(own.as_str(), Mode::Dynamic)),
        ("streams", streams(own.as_str())),
    ];
    let mut lines = Vec::new();
    for (format_name, format) in &formats {
        for (name, message) in messages() {
            let Ok(post) = format.write("/", &message) else { continue };
            lines.push(line_of(format_name, name, &post));
            let heard = format.read(&Delivery { channel: post.channel, body: post.body, offset: None });
            assert_eq!(
                heard,
                Ok(None),
                "{format_name}: {name}: what shardcast processes write is for Node alone"
            );
        }
        for (name, reply) in replies() {
            let Ok(post) = format.reply("/custom", "theirs", &reply) else { continue };
            lines.push(line_of(format_name, name, &post));
        }
    }
    let expected = fs::read_to_string(OURS).unwrap_or_default();
    for (line, expected) in lines.iter().zip(expected.lines().chain(std::iter::repeat(""))) {
        assert_eq!(line, expected, "all that are written now:\n{}", lines.join("\n"));
    }
    assert_eq!(lines.len(), expected.lines().count());
}

#[test]
fn what_one_process_writes_another_reads() {
    // As Node would read it: without the mark.
    for format in [classic, streams, |of: &str| sharded(of, Mode::Dynamic)] {
        let (writer, mut refused) = (format("S2a_99"), 0);
        for (name, message) in messages() {
            let Ok(post) = writer.write("/custom", &message) else {
                refused += 1;
                continue;
            };
            let delivery = Delivery { channel: post.channel, body: post.body, offset: None };
            let heard = format("reader").read(&delivery).unwrap().unwrap();
            assert_eq!((&*heard.namespace, heard.sender.as_deref()), ("/custom", Some("S2a_99")), "{name}");
            // JSON of the classic adapter has no place for bytes.
            if !(name == "server event with binary" && matches!(writer, Format::Classic(_))) {
                assert_eq!(heard.message, message, "{name}");
            }
        }
        for (name, reply) in replies() {
            let Ok(post) = writer.reply("/custom", "reader", &reply) else {
                refused += 1;
                continue;
            };
            let delivery = Delivery { channel: post.channel, body: post.body, offset: None };
            let heard = format("S2a_99").read(&delivery).unwrap().unwrap();
            let Message::Reply(read) = heard.message else { panic!("{name}: {heard:?}") };
            assert_eq!(read.request, reply.request);
            let is_changed = matches!(reply.answer, Answer::Sockets(_))
                || name == "server answer with binary" && matches!(writer, Format::Classic(_));
            if !is_changed {
                assert_eq!(read.answer, reply.answer, "{name}");
            }
        }
        assert_eq!(refused, if matches!(writer, Format::Classic(_)) { 0 } else { 4 });
    }
}

#[test]
fn nothing_is_written_that_node_would_take_otherwise_or_not_survive() {
    let nobody = Target::default();
    let event = |json: &str| Message::ServerSide { request: None, event: payload(json, &[]) };
    let rows = [
        (broadcast(nobody.clone(), payload("[\"a\"]", &[])), Unwritable::NobodyMeant),
        (Message::Join { target: nobody.clone(), rooms: Names::default() }, Unwritable::NobodyMeant),
        (Message::Leave { target: nobody.clone(), rooms: Names::default() }, Unwritable::NobodyMeant),
        (Message::Disconnect { target: nobody.clone(), close: true }, Unwritable::NobodyMeant),
        (Message::Fetch { request: "a".into(), target: nobody }, Unwritable::NobodyMeant),
        (event(r#"["connection"]"#), Unwritable::NameReserved),
        (event(r#"[ "error" , 1]"#), Unwritable::NameReserved),
        (broadcast(target(&[], &[]), payload("[1,", &[b"a"])), Unwritable::Payload(JsonError::Invalid)),
    ];
    for format in [classic("a"), streams("a"), sharded("a", Mode::Static)] {
        for (message, expected) in &rows {
            assert_eq!(format.write("/", message), Err(*expected), "{message:?}");
        }
        assert!(format.write("/", &event(r#"["connected"]"#)).is_ok());
    }
}

#[test]
fn events_are_made_of_frames_and_frames_of_events() {
    for (name, message) in messages() {
        let Message::Broadcast(Broadcast { event, .. }) = message else { continue };
        for namespace in ["/", "/custom"] {
            let mut frames = Vec::new();
            event.append_frames(&mut frames, namespace).unwrap();
            let framed = FramedEvent::check(&frames, namespace).unwrap();
            assert_eq!(Payload::of_event(&framed), event, "{name}");
        }
    }
    let alone = Payload { json: "[\"\\n\"]".to_owned(), attachments: Vec::new() };
    let mut frames = Vec::new();
    alone.append_frames(&mut frames, "/").unwrap();
    assert_eq!(Payload::of_event(&FramedEvent::split(&frames).unwrap()), alone);
    let reserved = Payload { json: "[\"disconnect\"]".to_owned(), attachments: Vec::new() };
    assert!(reserved.append_frames(&mut frames, "/").is_err());
}

#[test]
fn each_format_knows_its_channels() {
    let formats = [QueueFormat::Node, QueueFormat::NodeSharded, QueueFormat::NodeStreams];
    let formats = formats.map(|format| Format::new(format, KEY, uid("S2a_99")).unwrap());
    assert!(Format::new(QueueFormat::Python, KEY, uid("S2a_99")).is_none());
    let plain = |name: &str| Channel::Plain(name.into());
    let rows = [
        (plain("socket.io-request#/#"), [true, false, false]),
        (plain("socket.io-response#/#S2a_99#"), [true, false, false]),
        (plain("socket.io#/#room#"), [true, false, true]),
        (plain("socket.iox#/#"), [false; 3]),
        (plain("flask-socketio"), [false; 3]),
        (Channel::Sharded("socket.io#/#".into()), [false, true, false]),
        (Channel::Stream("socket.io".into()), [false, false, true]),
        (Channel::Stream("socket.io-3".into()), [false, false, true]),
        (Channel::Stream("other".into()), [false; 3]),
        (Channel::All, [false; 3]),
    ];
    for (channel, expected) in rows {
        let has = [0, 1, 2].map(|place: usize| formats[place].has(&channel));
        assert_eq!(has, expected, "{channel:?}");
    }
    // Each hears what it has, and what it writes goes to what others hear.
    for format in &formats {
        for channel in format.channels("/") {
            let is_pattern = matches!(channel, Channel::Pattern(_));
            assert!(is_pattern || format.has(&channel), "{channel:?}");
        }
        for (name, message) in messages() {
            let Ok(post) = format.write("/", &message) else { continue };
            assert!(format.has(&post.channel), "{name}");
        }
    }
}
