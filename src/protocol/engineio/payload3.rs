//! Long-polling bodies and binary messages of revision 3 ("Encoding", "Payload").
//!
//! Two forms: text, `<length>:<packet>` with lengths in UTF-16 code units, as JavaScript counts; and the XHR2 form in
//! bytes, `<0 or 1><digits as bytes 0 to 9><255><packet>`. Which one a poll gets is said in `poll`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::packet::{self as packet4};
use super::packet::{Packet, PacketError};

/// The type byte of a binary message.
const MESSAGE_TYPE: u8 = 4;
/// The type character of a message.
const MESSAGE_CHAR: char = '4';
/// In the XHR2 form: the packet is text.
const KIND_TEXT: u8 = 0;
/// In the XHR2 form: the packet is binary.
const KIND_BINARY: u8 = 1;
/// In the XHR2 form: the length is over.
const LENGTH_END: u8 = 0xff;
/// Digits of a length: more than any body has bytes.
const LENGTH_DIGITS_MAX: usize = 10;

/// Reads one text packet: as in revision 4, but base64 names its type.
pub(crate) fn decode(text: &str) -> Result<Packet<'_>, PacketError> {
    match packet4::decode(text)? {
        Packet::Base64(typed) => {
            typed.strip_prefix(MESSAGE_CHAR).map(Packet::Base64).ok_or(PacketError::UnknownType)
        }
        packet => Ok(packet),
    }
}

/// Reads a binary packet: its type byte, then the message.
pub(crate) fn decode_binary(bytes: &[u8]) -> Result<Packet<'_>, PacketError> {
    if bytes.is_empty() {
        Err(PacketError::Empty)
    } else {
        message(bytes).map(Packet::Binary).ok_or(PacketError::UnknownType)
    }
}

/// The message of a binary packet; `None` if it is of another type.
pub(crate) fn message(packet: &[u8]) -> Option<&[u8]> {
    packet.strip_prefix(&[MESSAGE_TYPE])
}

/// The packet that begins at a place of a body in text form, and where the next one begins. Nothing can be read beyond an
/// error. A packet of length 0 is skipped: a client that has nothing to send posts `0:`.
pub(crate) fn packet_at(body: &str, mut at: usize) -> Option<(Result<Packet<'_>, PacketError>, usize)> {
    if body.is_empty() && at == 0 {
        return Some((Err(PacketError::Empty), usize::MAX));
    }
    loop {
        let rest = body.get(at..).filter(|rest| !rest.is_empty())?;
        match split_text(rest) {
            Err(error) => return Some((Err(error), usize::MAX)),
            Ok((packet, after)) => {
                at = body.len() - after.len();
                if !packet.is_empty() {
                    return Some((decode(packet), at));
                }
            }
        }
    }
}

/// The same for a body in the XHR2 form.
pub(crate) fn binary_packet_at(body: &[u8], at: usize) -> Option<(Result<Packet<'_>, PacketError>, usize)> {
    if body.is_empty() && at == 0 {
        return Some((Err(PacketError::Empty), usize::MAX));
    }
    let rest = body.get(at..).filter(|rest| !rest.is_empty())?;
    Some(match split_binary(rest) {
        Err(error) => (Err(error), usize::MAX),
        Ok((kind, packet, after)) => {
            let packet = match kind {
                KIND_BINARY => decode_binary(packet),
                _ => std::str::from_utf8(packet).map_err(|_| PacketError::NotUtf8).and_then(decode),
            };
            (packet, body.len() - after.len())
        }
    })
}

/// The packets of a body in text form, in order. An error is the last item.
#[cfg(any(test, fuzzing))]
pub(crate) fn packets(body: &str) -> impl Iterator<Item = Result<Packet<'_>, PacketError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (packet, next) = packet_at(body, at)?;
        at = if packet.is_ok() { next } else { usize::MAX };
        Some(packet)
    })
}

/// The packets of a body in the XHR2 form, in order. An error is the last item.
#[cfg(any(test, fuzzing))]
pub(crate) fn binary_packets(body: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, PacketError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (packet, next) = binary_packet_at(body, at)?;
        at = if packet.is_ok() { next } else { usize::MAX };
        Some(packet)
    })
}

/// Appends a text packet to a body in text form.
pub(crate) fn append_text(body: &mut Vec<u8>, packet: &str) {
    let units = if packet.is_ascii() { packet.len() } else { packet.encode_utf16().count() };
    body.extend_from_slice(units.to_string().as_bytes());
    body.push(b':');
    body.extend_from_slice(packet.as_bytes());
}

/// Appends a binary packet, type byte first, to a body in text form: `b4` and base64.
pub(crate) fn append_base64(body: &mut Vec<u8>, packet: &[u8]) {
    let text = base64_packet(packet);
    append_text(body, &text);
}

/// A binary packet, type byte first, as text.
pub(crate) fn base64_packet(packet: &[u8]) -> String {
    let mut text = String::from("b4");
    STANDARD.encode_string(message(packet).unwrap_or(packet), &mut text);
    text
}

/// Writes a message as a binary packet.
pub(crate) fn append_typed(out: &mut Vec<u8>, message: &[u8]) {
    out.push(MESSAGE_TYPE);
    out.extend_from_slice(message);
}

/// Appends a packet, text or binary with its type byte, to a body in the XHR2 form.
pub(crate) fn append_binary(body: &mut Vec<u8>, is_binary: bool, packet: &[u8]) {
    body.push(if is_binary { KIND_BINARY } else { KIND_TEXT });
    body.extend(packet.len().to_string().bytes().map(|digit| digit - b'0'));
    body.push(LENGTH_END);
    body.extend_from_slice(packet);
}

fn split_text(body: &str) -> Result<(&str, &str), PacketError> {
    // The colon is near: a body of digits is not searched to its end for every packet.
    let digits = body.bytes().take(LENGTH_DIGITS_MAX + 1).take_while(u8::is_ascii_digit).count();
    let (length, rest) = body.split_at(digits);
    let rest = rest.strip_prefix(':').ok_or(PacketError::Length)?;
    if digits > LENGTH_DIGITS_MAX {
        return Err(PacketError::Length);
    }
    let length: usize = length.parse().map_err(|_| PacketError::Length)?;
    let end = utf16_end(rest, length).ok_or(PacketError::Length)?;
    Ok(rest.split_at(end))
}

/// Where the first `units` code units of a text end: `None` beyond its end, or within a surrogate pair.
fn utf16_end(text: &str, units: usize) -> Option<usize> {
    // A unit is at least one byte, and an ASCII prefix is as long in both.
    let prefix = text.as_bytes().get(..units)?;
    if prefix.is_ascii() {
        return Some(units);
    }
    let mut left = units;
    for (place, char) in text.char_indices() {
        if left == 0 {
            return Some(place);
        }
        left = left.checked_sub(char.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

fn split_binary(body: &[u8]) -> Result<(u8, &[u8], &[u8]), PacketError> {
    let (&kind, rest) = body.split_first().ok_or(PacketError::Length)?;
    if kind > KIND_BINARY {
        return Err(PacketError::UnknownType);
    }
    let digits = rest.iter().take(LENGTH_DIGITS_MAX + 1).take_while(|digit| **digit <= 9).count();
    if digits == 0 || digits > LENGTH_DIGITS_MAX {
        return Err(PacketError::Length);
    }
    let (length, rest) = rest.split_at(digits);
    let rest = rest.strip_prefix(&[LENGTH_END]).ok_or(PacketError::Length)?;
    let length = length.iter().fold(0_u64, |length, digit| length * 10 + u64::from(*digit));
    let length = usize::try_from(length).map_err(|_| PacketError::Length)?;
    let (packet, after) = rest.split_at_checked(length).ok_or(PacketError::Length)?;
    Ok((kind, packet, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_cuts_a_surrogate_pair_is_a_fault() {
        let rows = [
            ("3:4😀", vec![Ok(Packet::Message("😀"))]),
            ("2:4😀", vec![Err(PacketError::Length)]),
            ("4:4😀", vec![Err(PacketError::Length)]),
            ("3:4😀2:4€", vec![Ok(Packet::Message("😀")), Ok(Packet::Message("€"))]),
        ];
        for (body, expected) in rows {
            assert_eq!(packets(body).collect::<Vec<_>>(), expected, "{body}");
        }
    }

    #[test]
    fn a_length_has_few_digits() {
        for body in [":", "4a", "-1:4", "1e1:4aaaaaaaaa", " 2:4a", "99999999999:4", "18446744073709551617:4a"]
        {
            assert_eq!(packets(body).collect::<Vec<_>>(), [Err(PacketError::Length)], "{body}");
        }
        let long = [&[0][..], &[9; 11], &[0xff]].concat();
        assert_eq!(binary_packets(&long).collect::<Vec<_>>(), [Err(PacketError::Length)]);
    }
}
