//! Long-polling bodies (protocol revision 4, "HTTP long-polling": packets separated by U+001E).
//!
//! A body in, packets out; queued WebSocket frames in, a body out. Does not know sessions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::protocol::engineio::packet::{self, Packet, PacketError};
use crate::protocol::websocket::frame::{Opcode, server_frames};

/// What stands between two packets.
const SEPARATOR: u8 = 0x1e;

/// The packet that begins at a place of a POST body, and where the next one begins. Nothing can be read beyond an error.
pub(crate) fn packet_at(body: &str, at: usize) -> Option<(Result<Packet<'_>, PacketError>, usize)> {
    let rest = body.get(at..)?;
    let len = memchr::memchr(SEPARATOR, rest.as_bytes()).unwrap_or(rest.len());
    Some((packet::decode(&rest[..len]), at + len + 1))
}

/// The packets of a POST body, in order. The first error ends the reading.
#[cfg(any(test, fuzzing))]
pub(crate) fn packets(body: &str) -> impl Iterator<Item = Result<Packet<'_>, PacketError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (packet, next) = packet_at(body, at)?;
        at = next;
        Some(packet)
    })
}

/// The bytes of a binary message that came as text. Line ends are left out: the Java client writes them after every 76
/// characters and at the end.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if memchr::memchr(b'\n', text.as_bytes()).is_none() {
        return STANDARD.decode(text).ok();
    }
    STANDARD.decode(text.replace('\n', "")).ok()
}

/// Appends the packets of complete server frames to a poll's body until the body holds
/// `packets_max` packets. Returns how many bytes of `frames` the body now covers and how many packets it holds.
pub(crate) fn append_frames(
    body: &mut Vec<u8>,
    frames: &[u8],
    packets_max: usize,
    packets: usize,
) -> (usize, usize) {
    let mut covered = 0;
    let mut count = packets;
    for (opcode, payload) in server_frames(frames) {
        if count == packets_max {
            break;
        }
        append(body, opcode == Opcode::Binary, payload);
        count += 1;
        let end = payload.as_ptr() as usize + payload.len();
        covered = end - frames.as_ptr() as usize;
    }
    (covered, count)
}

/// Appends one packet: text as it is, binary as `b` and base64.
pub(crate) fn append(body: &mut Vec<u8>, is_binary: bool, packet: &[u8]) {
    if !body.is_empty() {
        body.push(SEPARATOR);
    }
    if !is_binary {
        body.extend_from_slice(packet);
        return;
    }
    body.push(b'b');
    let start = body.len();
    body.resize(
        start + base64::encoded_len(packet.len(), true).expect("a message is far below 2^63 bytes"),
        0,
    );
    STANDARD.encode_slice(packet, &mut body[start..]).expect("the room was made to measure");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::websocket::frame;

    #[test]
    fn a_body_is_split_at_every_separator() {
        let rows: &[(&str, &[Result<Packet<'_>, PacketError>])] = &[
            ("4hello", &[Ok(Packet::Message("hello"))]),
            ("4hello\u{1e}4€", &[Ok(Packet::Message("hello")), Ok(Packet::Message("€"))]),
            ("4a\u{1e}bAQI=", &[Ok(Packet::Message("a")), Ok(Packet::Base64("AQI="))]),
            ("", &[Err(PacketError::Empty)]),
            ("40\u{1e}", &[Ok(Packet::Message("0")), Err(PacketError::Empty)]),
            ("abc", &[Err(PacketError::UnknownType)]),
        ];
        for (body, expected) in rows {
            assert_eq!(packets(body).collect::<Vec<_>>(), *expected, "{body:?}");
        }
    }

    #[test]
    fn queued_frames_become_a_body_of_at_most_the_asked_number_of_packets() {
        let mut frames = Vec::new();
        frame::append(&mut frames, Opcode::Text, b"4hello");
        let first = frames.len();
        frame::append(&mut frames, Opcode::Binary, &[1, 2, 3, 4]);
        let mut body = Vec::new();
        assert_eq!(append_frames(&mut body, &frames, 1, 0), (first, 1));
        assert_eq!(body, b"4hello");
        assert_eq!(append_frames(&mut body, &frames[first..], 16, 1), (frames.len() - first, 2));
        assert_eq!(body, b"4hello\x1ebAQIDBA==");
    }

    #[test]
    fn base64_is_strict() {
        assert_eq!(decode_base64("AQIDBA=="), Some(vec![1, 2, 3, 4]));
        assert_eq!(decode_base64(""), Some(vec![]));
        assert_eq!(decode_base64("AQID\nBA==\n"), Some(vec![1, 2, 3, 4]), "the Java client's");
        for text in ["AQIDBA", "AQIDBA==\r\n", "AQIDBA== ", "AQ*DBA==", "====", "A"] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }
}
