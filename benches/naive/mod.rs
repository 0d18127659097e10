//! The obvious way to do it: what every fast path is compared with, in its answer and in its time.
//!
//! Correct for what the benches send, and for little else.

use serde_json::Value;

/// RFC 6455 §5.3, word for word.
pub(crate) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[place % 4];
    }
}

/// A client's short frame to its event: everything is copied, and all of it becomes values.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Option<u64>, String, Vec<Value>)> {
    let (header, rest) = bytes.split_at_checked(2)?;
    let len = usize::from(header[1] & 0x7f);
    let (len, rest) = match len {
        126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
        len => (len, rest),
    };
    let key = [rest[0], rest[1], rest[2], rest[3]];
    let mut payload = rest.get(4..4 + len)?.to_vec();
    mask(&mut payload, key);
    let text = String::from_utf8(payload).ok()?;
    let packet = text.strip_prefix("42")?;
    let digits = packet.chars().take_while(char::is_ascii_digit).count();
    let (id, array) = packet.split_at(digits);
    let mut elements: Vec<Value> = serde_json::from_str(array).ok()?;
    let Value::String(name) = elements.remove(0) else { return None };
    Some((id.parse().ok(), name, elements))
}

/// A server's short frame.
pub(crate) fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(len) if len < 126 => bytes.push(len),
        _ => {
            bytes.push(126);
            bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
