//! Replays `tests/vectors/socketio/*.txt`: decodes, and encodes what goes both ways.
//!
//! The format is described in this folder's README. Holds no cases of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::binary::Binary;
use super::encode;
use super::event::{Args, Event};
use super::packet::{self, Packet, PacketKind};
use super::raw_json::RawJson;

/// Cases that the files hold at least; fewer means that the runner has lost some.
const CASES_MIN: usize = 60;

/// An argument with attachments anywhere in it.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Tree {
    Binary(Binary),
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
    Leaf(Value),
}

#[derive(Deserialize)]
struct Connected {
    sid: String,
    pid: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Refusal {
    message: String,
    data: Option<RawJson>,
}

#[test]
fn every_vector_decodes_and_encodes_as_it_says() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/socketio"));
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for paragraph in text.split("\n\n").filter(|paragraph| paragraph.contains("name:")) {
            check_case(&path.display().to_string(), paragraph);
            count += 1;
        }
    }
    assert!(count >= CASES_MIN, "only {count} cases");
}

fn check_case(path: &str, paragraph: &str) {
    let mut place = String::new();
    let mut text = String::new();
    let mut is_checked = false;
    for line in paragraph.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("{path}: no key: {line}"));
        let value = visible_to_real(value.trim());
        match key {
            "name" => place = format!("{path}: {value}"),
            "in" => text = value,
            "both" => {
                assert_eq!(encoded_again(&value), value, "{place}: encoded");
                text = value;
            }
            "sent" => {
                assert_eq!(refusal_encoded_again(&value), value, "{place}: encoded");
                text = value;
            }
            "out" => {
                assert_eq!(outcome(&text), value, "{place}: decoded");
                is_checked = true;
            }
            "event" => assert_eq!(event_text(&text), value, "{place}: event"),
            _ => panic!("{path}: unknown key: {line}"),
        }
    }
    assert!(!place.is_empty() && is_checked, "{path}: a case has a name and an outcome: {paragraph}");
}

/// Control pictures stand for characters that a text file would not show.
fn visible_to_real(text: &str) -> String {
    text.replace('␀', "\0").replace('␉', "\t").replace('␊', "\n").replace('␍', "\r").replace('␠', " ")
}

fn outcome(text: &str) -> String {
    match packet::decode(text) {
        Ok(packet) => {
            let kind = format!("{:?}", packet.kind);
            let id = packet.id.map_or("-".to_owned(), |id| id.to_string());
            let head = format!("{kind} {} {id} {}", packet.namespace, packet.attachments);
            if packet.payload.is_empty() { head } else { format!("{head} {}", packet.payload) }
        }
        Err(error) => format!("refused {error:?}"),
    }
}

fn event_text(text: &str) -> String {
    let packet = packet::decode(text).unwrap();
    let event = Event::decode(packet.payload, &[]).unwrap();
    format!("{} | {}", event.name, event.args.raw()).trim_end_matches(' ').to_owned()
}

fn encoded_again(text: &str) -> String {
    let packet = packet::decode(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let mut out = Vec::new();
    match packet.kind {
        PacketKind::Connect => {
            let Connected { sid, pid } = serde_json::from_str(packet.payload).unwrap();
            encode::encode_connect(&mut out, packet.namespace, &sid, pid.as_deref());
        }
        PacketKind::Disconnect => encode::encode_disconnect(&mut out, packet.namespace),
        PacketKind::ConnectError => unreachable!("refused by the decoder"),
        PacketKind::Event | PacketKind::BinaryEvent => encode_event_again(&mut out, &packet),
        PacketKind::Ack | PacketKind::BinaryAck => {
            let attachments = numbered_attachments(packet.attachments);
            let args = trees(Args::of_ack(packet.payload, &attachments));
            let mut collected = Vec::new();
            let id = packet.id.unwrap();
            encode::encode_ack(&mut out, packet.namespace, id, &args, &mut collected).unwrap();
            assert_eq!(collected, attachments);
        }
    }
    String::from_utf8(out).unwrap()
}

fn encode_event_again(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let attachments = numbered_attachments(packet.attachments);
    let event = Event::decode(packet.payload, &attachments).unwrap();
    let Packet { namespace, id, .. } = *packet;
    let mut collected = Vec::new();
    encode::encode_event(out, namespace, id, &event.name, &trees(event.args), &mut collected).unwrap();
    assert_eq!(collected, attachments);
    if attachments.is_empty() {
        let mut raw = Vec::new();
        encode::encode_event_raw(&mut raw, namespace, id, &event.name, event.args.raw());
        assert_eq!(raw, *out, "verbatim differs from serialized");
    }
}

fn refusal_encoded_again(text: &str) -> String {
    let (namespace, payload) = match text.strip_prefix("4/") {
        Some(rest) => {
            let (namespace, payload) = rest.split_once(',').unwrap();
            (format!("/{namespace}"), payload)
        }
        None => ("/".to_owned(), &text[1..]),
    };
    let Refusal { message, data } = serde_json::from_str(payload).unwrap();
    let mut out = Vec::new();
    encode::encode_connect_error(&mut out, &namespace, &message, data.as_ref());
    String::from_utf8(out).unwrap()
}

fn numbered_attachments(count: usize) -> Vec<Bytes> {
    (0..count).map(|num| Bytes::from(num.to_string())).collect()
}

fn trees(args: Args<'_>) -> Vec<Tree> {
    (0..args.len()).map(|index| args.read(index).unwrap()).collect()
}
