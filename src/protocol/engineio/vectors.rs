//! Replays `tests/vectors/engineio/*.txt`: bodies to packets, and packets back to the body.
//!
//! A body is decoded whole, and again with each packet alone: a packet does not depend on its neighbours. Where a
//! body is cut into reads is HTTP's matter, and its vectors'.

use std::fs;

use super::packet::Packet;
use super::payload;
use crate::protocol::websocket::frame::{self, Opcode};

/// Cases that the file holds at least; fewer means that the runner has lost some.
const CASES_MIN: usize = 28;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/engineio/payload.txt");

#[test]
fn every_body_gives_its_packets_and_comes_back_from_them() {
    let text = fs::read_to_string(FILE).unwrap();
    let mut count = 0;
    for paragraph in text.split("\n\n").skip(1) {
        let (input, output) = paragraph.trim_end_matches('\n').split_once("\nout:  ").unwrap();
        let body = input[6..].replace("\\u{0}", "\0").replace('|', "\u{1e}");
        let expected = output.replace("\\u{0}", "\0");
        let packets: Vec<_> = payload::packets(&body).collect();
        let shown: Vec<String> = packets.iter().map(|packet| show(packet.ok())).collect();
        assert_eq!(shown.join(" ; "), expected, "{input}");
        for (piece, whole) in body.split('\u{1e}').zip(&shown) {
            let alone: Vec<_> = payload::packets(piece).map(|packet| show(packet.ok())).collect();
            assert_eq!(alone, std::slice::from_ref(whole), "{input}: {piece}");
        }
        if input.starts_with("both: ") {
            assert_eq!(encode(&body), body, "{input}");
        }
        count += 1;
    }
    assert!(count >= CASES_MIN, "only {count} cases");
}

fn show(packet: Option<Packet<'_>>) -> String {
    match packet {
        None => "fault".to_owned(),
        Some(Packet::Open) => "open".to_owned(),
        Some(Packet::Close) => "close".to_owned(),
        Some(Packet::Upgrade) => "upgrade".to_owned(),
        Some(Packet::Noop) => "noop".to_owned(),
        Some(Packet::Ping(data)) => format!("ping {data}"),
        Some(Packet::Pong(data)) => format!("pong {data}"),
        Some(Packet::Message(text)) => format!("message {text}"),
        Some(Packet::Binary(bytes)) => unreachable!("{bytes:?} in revision 4"),
        Some(Packet::Base64(text)) => match payload::decode_base64(text) {
            Some(bytes) => {
                format!("binary {}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            None => "not base64".to_owned(),
        },
    }
}

/// The packets of a body as an outbox holds them, made into a body again.
fn encode(body: &str) -> String {
    let mut frames = Vec::new();
    for piece in body.split('\u{1e}') {
        match piece.strip_prefix('b') {
            Some(text) => {
                let bytes = payload::decode_base64(text).unwrap();
                frame::append(&mut frames, Opcode::Binary, &bytes);
            }
            None => frame::append(&mut frames, Opcode::Text, piece.as_bytes()),
        }
    }
    let mut encoded = Vec::new();
    payload::append_frames(&mut encoded, &frames, usize::MAX, 0);
    String::from_utf8(encoded).unwrap()
}
