//! Engine.IO 4 and Socket.IO 5 packets, as far as a load generator needs them.
//!
//! Packets are recognised by their prefix, without reading JSON: the generator knows every byte that it may
//! receive, and `payload.rs` checks the rest. Spaces after commas are allowed for, as some servers write
//! them.

use super::error::{Fault, quote};

/// What the load generator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// `echo`: the server acknowledges with the argument.
    Echo,
    /// `bin`: the same with one attachment.
    Bin,
    /// `broadcast`: the server emits `msg` to all.
    Broadcast,
    /// `room`: the server emits `msg` to this room.
    Room(u32),
    /// `join`: the server acknowledges that the socket is in this room.
    Join(u32),
}

/// One packet of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// Engine.IO 0: the handshake's JSON.
    Open(&'a [u8]),
    /// Engine.IO 1.
    Close,
    /// Engine.IO 2: to be answered.
    Ping,
    /// Engine.IO 3 with `probe`: the WebSocket works.
    ProbePong,
    /// Engine.IO 6: ends a poll, or Engine.IO 3.
    Noop,
    /// Socket.IO 0: the namespace is open.
    Connected,
    /// Socket.IO 1.
    Disconnected,
    /// Socket.IO 4: the namespace was refused, with this reason.
    Refused(&'a [u8]),
    /// Socket.IO 2, event `msg`: what stands between its quotes.
    Message(&'a [u8]),
    /// Socket.IO 3: the number and, if it is one string, what stands between its quotes.
    Ack(u64, &'a [u8]),
    /// Socket.IO 6 with one attachment, which follows.
    BinaryAck(u64),
    /// A packet of another namespace or an event that is not part of the contract.
    Other,
}

/// Encodes and decodes the packets of one namespace.
pub(super) struct Codec {
    /// Empty for `/`, else the name and its comma.
    namespace: String,
}

impl Codec {
    /// For one namespace, which starts with a slash.
    pub(super) fn new(namespace: &str) -> Self {
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        Self { namespace }
    }

    /// Appends the Socket.IO CONNECT packet.
    pub(super) fn encode_connect(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"40");
        out.extend_from_slice(self.namespace.as_bytes());
    }

    /// Appends an event; `payload` is written between quotes, except for [`EventKind::Bin`], whose payload is
    /// the attachment that the caller sends next.
    pub(super) fn encode_event(&self, out: &mut Vec<u8>, kind: EventKind, ack: u64, payload: &[u8]) {
        let prefix: &[u8] = if kind == EventKind::Bin { b"451-" } else { b"42" };
        out.extend_from_slice(prefix);
        out.extend_from_slice(self.namespace.as_bytes());
        if matches!(kind, EventKind::Echo | EventKind::Bin | EventKind::Join(_)) {
            push_number(out, ack);
        }
        match kind {
            EventKind::Echo => out.extend_from_slice(b"[\"echo\",\""),
            EventKind::Broadcast => out.extend_from_slice(b"[\"broadcast\",\""),
            EventKind::Bin => {
                out.extend_from_slice(b"[\"bin\",{\"_placeholder\":true,\"num\":0}]");
                return;
            }
            EventKind::Room(room) => {
                out.extend_from_slice(b"[\"room\",\"room-");
                push_number(out, u64::from(room));
                out.extend_from_slice(b"\",\"");
            }
            EventKind::Join(room) => {
                out.extend_from_slice(b"[\"join\",\"room-");
                push_number(out, u64::from(room));
                out.extend_from_slice(b"\"]");
                return;
            }
        }
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\"]");
    }

    /// Reads one text packet.
    pub(super) fn decode<'a>(&self, text: &'a [u8]) -> Result<Packet<'a>, Fault> {
        let Some((&kind, rest)) = text.split_first() else {
            return Err(Fault::Packet("an empty one".to_owned()));
        };
        match kind {
            b'0' => Ok(Packet::Open(rest)),
            b'1' => Ok(Packet::Close),
            b'2' => Ok(Packet::Ping),
            b'3' if rest == b"probe" => Ok(Packet::ProbePong),
            b'3' | b'6' => Ok(Packet::Noop),
            b'4' => self.decode_message(rest).ok_or_else(|| Fault::Packet(quote(text))),
            _ => Err(Fault::Packet(quote(text))),
        }
    }

    fn decode_message<'a>(&self, text: &'a [u8]) -> Option<Packet<'a>> {
        let (&kind, rest) = text.split_first()?;
        let rest = if kind == b'6' { rest.strip_prefix(b"1-")? } else { rest };
        let Some(rest) = rest.strip_prefix(self.namespace.as_bytes()) else {
            // A server may leave the comma out where nothing follows.
            let is_bare = self.namespace.as_bytes().strip_suffix(b",") == Some(rest);
            return Some(if is_bare && kind == b'1' { Packet::Disconnected } else { Packet::Other });
        };
        Some(match kind {
            // The default namespace has no prefix, so another's name stands where the data would begin.
            _ if rest.first() == Some(&b'/') => Packet::Other,
            b'0' => Packet::Connected,
            b'1' => Packet::Disconnected,
            b'2' => decode_event(rest)?,
            b'3' => {
                let (id, arguments) = split_number(rest)?;
                Packet::Ack(id, single_string(arguments))
            }
            b'4' => Packet::Refused(rest),
            b'5' => Packet::Other,
            b'6' => Packet::BinaryAck(split_number(rest)?.0),
            _ => return None,
        })
    }
}

/// The value of a string in the handshake's JSON.
pub(super) fn decode_open(json: &[u8]) -> Result<Open, Fault> {
    serde_json::from_slice(json).map_err(|_| Fault::Packet(quote(json)))
}

/// The handshake, as far as it is used.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Open {
    /// The Engine.IO session.
    pub(super) sid: String,
    /// What one POST may hold.
    #[serde(rename = "maxPayload", default = "max_payload_default")]
    pub(super) payload_bytes_max: usize,
}

/// Engine.IO's default, for servers that do not say.
fn max_payload_default() -> usize {
    1_000_000
}

fn decode_event(rest: &[u8]) -> Option<Packet<'_>> {
    if let Some(inner) = rest.strip_prefix(b"[\"msg\",\"").or_else(|| rest.strip_prefix(b"[\"msg\", \"")) {
        return inner.strip_suffix(b"\"]").map(Packet::Message);
    }
    rest.first().is_some_and(|&first| first == b'[' || first.is_ascii_digit()).then_some(Packet::Other)
}

/// What stands between the quotes of `["…"]`; of anything else the whole, which no payload can equal.
fn single_string(arguments: &[u8]) -> &[u8] {
    let inner = arguments.strip_prefix(b"[\"").and_then(|inner| inner.strip_suffix(b"\"]"));
    inner.unwrap_or(arguments)
}

fn split_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(len)?;
    let mut number = None;
    for digit in digits {
        let value = u64::from(digit - b'0');
        number = Some(number.unwrap_or(0_u64).checked_mul(10)?.checked_add(value)?);
    }
    Some((number?, rest))
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_the_stock_client_writes_them() {
        let rows = [
            ("/", EventKind::Echo, r#"4217["echo","abc"]"#),
            ("/", EventKind::Bin, r#"451-17["bin",{"_placeholder":true,"num":0}]"#),
            ("/", EventKind::Broadcast, r#"42["broadcast","abc"]"#),
            ("/", EventKind::Room(3), r#"42["room","room-3","abc"]"#),
            ("/", EventKind::Join(30), r#"4217["join","room-30"]"#),
            ("/a", EventKind::Echo, r#"42/a,17["echo","abc"]"#),
            ("/a", EventKind::Bin, r#"451-/a,17["bin",{"_placeholder":true,"num":0}]"#),
        ];
        for (namespace, kind, expected) in rows {
            let mut out = Vec::new();
            Codec::new(namespace).encode_event(&mut out, kind, 17, b"abc");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn packets_are_told_apart_by_their_prefix() {
        let rows: [(&str, &str, Packet<'_>); 17] = [
            ("/", "0{}", Packet::Open(b"{}")),
            ("/", "1", Packet::Close),
            ("/", "2", Packet::Ping),
            ("/", "3probe", Packet::ProbePong),
            ("/", "6", Packet::Noop),
            ("/", "40{\"sid\":\"x\"}", Packet::Connected),
            ("/a", "40/a,{\"sid\":\"x\"}", Packet::Connected),
            ("/", "40/a,{\"sid\":\"x\"}", Packet::Other),
            ("/a", "41/a,", Packet::Disconnected),
            ("/a", "41/a", Packet::Disconnected),
            ("/", "44{\"message\":\"no\"}", Packet::Refused(b"{\"message\":\"no\"}")),
            ("/", r#"42["msg","abc"]"#, Packet::Message(b"abc")),
            ("/a", r#"42/a,["msg", "abc"]"#, Packet::Message(b"abc")),
            ("/", r#"42["welcome",{"a":1}]"#, Packet::Other),
            ("/", r#"4312["abc"]"#, Packet::Ack(12, b"abc")),
            ("/a", r"43/a,7[]", Packet::Ack(7, b"[]")),
            ("/", r#"461-5[{"_placeholder":true,"num":0}]"#, Packet::BinaryAck(5)),
        ];
        for (namespace, text, expected) in rows {
            assert_eq!(Codec::new(namespace).decode(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_a_fault() {
        for text in [
            "",
            "9",
            "x",
            "4",
            "49",
            "43[]",
            "43x[]",
            "42",
            "42[\"msg\",\"abc",
            "463-5[]",
            "4399999999999999999999[]",
        ] {
            assert!(Codec::new("/").decode(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
