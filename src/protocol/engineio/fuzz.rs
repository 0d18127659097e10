//! Bodies for fuzzing and for tests: no POST body makes the decoder panic, and base64 is read strictly.
//!
//! Built for tests and for the fuzzer only. Does not make inputs.

use super::packet::{self, Packet};
use super::payload;

/// What stands between two packets, said once more so that the decoder's own constant is checked too.
const SEPARATOR: char = '\u{1e}';

/// The fuzzer's entry: the body of a long-polling POST.
pub(crate) fn body(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let pieces: Vec<&str> = text.split(SEPARATOR).collect();
    let packets: Vec<_> = payload::packets(text).collect();
    assert_eq!(packets.len(), pieces.len(), "one packet, or one fault, between two separators");
    for (packet, piece) in packets.into_iter().zip(pieces) {
        assert_eq!(packet, packet::decode(piece), "a packet does not depend on its neighbours");
        match packet {
            Ok(Packet::Base64(text)) => base64(text),
            Ok(Packet::Message(text) | Packet::Ping(text) | Packet::Pong(text)) => {
                assert_eq!(text, &piece[1..], "the type is one character and the rest is the packet's");
            }
            Ok(Packet::Binary(bytes)) => unreachable!("{bytes:?} in revision 4"),
            Ok(Packet::Open | Packet::Close | Packet::Upgrade | Packet::Noop) | Err(_) => {}
        }
    }
}

/// Text is taken for base64 exactly when the definition says so, and then it is, but for line ends, the only text for its
/// bytes.
fn base64(text: &str) {
    let decoded = payload::decode_base64(text);
    let text = &text.replace('\n', "");
    assert_eq!(decoded.is_some(), is_canonical_base64(text), "{text:?}");
    if let Some(bytes) = decoded {
        let mut packet = Vec::new();
        payload::append(&mut packet, true, &bytes);
        assert_eq!(packet, format!("b{text}").into_bytes(), "decoding loses nothing");
    }
}

/// RFC 4648 §4 character by character: whole groups of four, padding at the end only, unused bits zero (§3.5).
fn is_canonical_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    let digits: Option<Vec<u8>> = data.bytes().map(digit).collect();
    let Some(digits) = digits else { return false };
    let unused_bits = match padding {
        0 => 0,
        1 => 0b11,
        2 => 0b1111,
        _ => return false,
    };
    text.len().is_multiple_of(4) && digits.last().is_none_or(|last| last & unused_bits == 0)
}

fn digit(char: u8) -> Option<u8> {
    match char {
        b'A'..=b'Z' => Some(char - b'A'),
        b'a'..=b'z' => Some(char - b'a' + 26),
        b'0'..=b'9' => Some(char - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::super::websocket::frame::{self, Opcode};
    use super::*;

    proptest! {
        #[test]
        fn any_body_returns(text in "\\PC{0,60}") {
            body(text.as_bytes());
        }

        #[test]
        fn packets_of_every_type_return(packets in vec("[0-7b]?[A-Za-z0-9+/=é]{0,6}={0,3}", 0..6)) {
            body(packets.join("\u{1e}").as_bytes());
        }

        #[test]
        fn base64_of_any_bytes_is_accepted_and_a_flaw_in_it_is_judged(
            bytes in vec(any::<u8>(), 0..20),
            flaw in prop::option::of((any::<prop::sample::Index>(), 0x20_u8..0x7f)),
        ) {
            let mut text = Vec::new();
            payload::append(&mut text, true, &bytes);
            if let Some((place, value)) = flaw {
                let place = place.index(text.len());
                text[place] = value;
            }
            body(&text);
        }

        #[test]
        fn what_is_queued_comes_back_in_order_however_polls_divide_it(
            messages in vec(prop_oneof!["4[a-z]{0,200}".prop_map(Ok), vec(any::<u8>(), 0..200).prop_map(Err)], 0..20),
            packets_max in 1_usize..20,
        ) {
            let mut frames = Vec::new();
            for message in &messages {
                match message {
                    Ok(text) => frame::append(&mut frames, Opcode::Text, text.as_bytes()),
                    Err(bytes) => frame::append(&mut frames, Opcode::Binary, bytes),
                }
            }
            let (mut rest, mut received) = (frames.as_slice(), Vec::new());
            while !rest.is_empty() {
                let mut polled = Vec::new();
                let (covered, count) = payload::append_frames(&mut polled, rest, packets_max, 0);
                prop_assert!(covered > 0 && count <= packets_max);
                rest = &rest[covered..];
                for packet in payload::packets(str::from_utf8(&polled).expect("a body is text")) {
                    received.push(match packet {
                        Ok(Packet::Message(text)) => Ok(format!("4{text}")),
                        Ok(Packet::Base64(text)) => Err(payload::decode_base64(text).expect("it is ours")),
                        other => panic!("{other:?}"),
                    });
                }
            }
            prop_assert_eq!(received, messages);
        }
    }
}
