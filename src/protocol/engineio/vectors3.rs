//! Replays `tests/vectors/engineio3/*.txt`: bodies of revision 3 to packets, and packets back to the body.
//!
//! Also at every cut: a body that ends early gives packets of the whole, then a fault, and nothing else.

use std::fs;

use super::packet::Packet;
use super::{payload, payload3};
use crate::protocol::websocket::frame::{self, Opcode};

/// Cases that the file holds at least; fewer means that the runner has lost some.
const CASES_MIN: usize = 56;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/engineio3/payload.txt");

#[test]
fn every_body_gives_its_packets_however_cut_and_comes_back_from_them() {
    let text = fs::read_to_string(FILE).unwrap();
    let mut count = 0;
    for paragraph in text.split("\n\n").skip(1) {
        let (input, expected) = paragraph.trim_end_matches('\n').split_once("\nout:  ").unwrap();
        let (form, written) = input.split_once(": ").unwrap();
        let is_bytes = form.starts_with("bytes");
        let body = if is_bytes { from_hex(written) } else { written.as_bytes().to_vec() };
        let packets = decode(is_bytes, &body).unwrap();
        assert_eq!(packets.join(" ; "), expected, "{input}");
        for cut in 1..body.len() {
            // A cut within a character is HTTP's matter: such a body is no text.
            let Some(cut_off) = decode(is_bytes, &body[..cut]) else { continue };
            let whole = cut_off.iter().take_while(|packet| *packet != "fault").count();
            assert!(cut_off.len() - whole <= 1, "{input} at {cut}: nothing follows a fault");
            assert!(packets.starts_with(&cut_off[..whole]), "{input} at {cut}: {cut_off:?}");
        }
        if form.ends_with('!') {
            assert_eq!(encode(is_bytes, &body), body, "{input}");
        }
        count += 1;
    }
    assert!(count >= CASES_MIN, "only {count} cases");
}

fn decode(is_bytes: bool, body: &[u8]) -> Option<Vec<String>> {
    Some(if is_bytes {
        payload3::binary_packets(body).map(|packet| show(packet.ok())).collect()
    } else {
        payload3::packets(std::str::from_utf8(body).ok()?).map(|packet| show(packet.ok())).collect()
    })
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
        Some(Packet::Binary(bytes)) => format!("binary {}", to_hex(bytes)),
        Some(Packet::Base64(text)) => match payload::decode_base64(text) {
            Some(bytes) => format!("binary {}", to_hex(&bytes)),
            None => "not base64".to_owned(),
        },
    }
}

/// The packets of a body made into a body again.
fn encode(is_bytes: bool, body: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut append = |is_binary: bool, packet: &[u8]| match (is_bytes, is_binary) {
        (true, _) => payload3::append_binary(&mut encoded, is_binary, packet),
        (false, true) => payload3::append_base64(&mut encoded, packet),
        (false, false) => payload3::append_text(&mut encoded, std::str::from_utf8(packet).unwrap()),
    };
    for shown in decode(is_bytes, body).unwrap() {
        let (kind, data) = shown.split_once(' ').unwrap_or((&shown, ""));
        match kind {
            "message" => append(false, format!("4{data}").as_bytes()),
            "pong" => append(false, format!("3{data}").as_bytes()),
            "binary" => append(true, &[&[4], from_hex(data).as_slice()].concat()),
            "noop" => append(false, b"6"),
            "close" => append(false, b"1"),
            other => panic!("a server sends no {other}"),
        }
    }
    encoded
}

#[test]
fn frames_are_measured_whole() {
    let mut frames = Vec::new();
    frame::append(&mut frames, Opcode::Text, b"4a");
    frame::append(&mut frames, Opcode::Binary, b"");
    assert_eq!(frame::measure(&frames, 0), (0, 0));
    assert_eq!(frame::measure(&frames, 1), (4, 1));
    assert_eq!(frame::measure(&frames, 9), (6, 2));
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
