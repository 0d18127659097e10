//! Engine.IO 4 and Socket.IO 5 packets, and those of revisions 3 and 4 before them, as far as a load generator needs them.
//!
//! Packets are recognised by their prefix, without reading JSON: the generator knows every byte that it may
//! receive, and `payload.rs` checks the rest. Spaces after commas are allowed for, as some servers write
//! them.

use super::error::{Fault, quote};
use super::options::Revision;
use super::template::Template;

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
    /// `--event`: the whole array is the caller's; the server acknowledges as it likes.
    Own,
    /// The same without an acknowledgement.
    Unasked,
    /// `watch`: the server acknowledges, sends all values of the board, then what changes, so many times a second.
    Watch(u16),
    /// `set`: the server gives a key of this board a new value.
    Set {
        /// The board, by how many times a second its viewers hear of changes.
        hz: u16,
        /// The key's number.
        key: u32,
    },
    /// `play`: the server acknowledges, then ticks in this room.
    Play {
        /// The room's number.
        room: u32,
        /// Ticks a second.
        hz: u16,
        /// Characters that a tick carries.
        bytes: u32,
    },
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
    /// Socket.IO 0: the namespace is open; what it says of the socket.
    Connected(&'a [u8]),
    /// Socket.IO 1.
    Disconnected,
    /// Socket.IO 4: the namespace was refused, with this reason.
    Refused(&'a [u8]),
    /// Socket.IO 2, event `msg`: what stands between its quotes.
    Message(&'a [u8]),
    /// Socket.IO 3: the number and, if it is one string, what stands between its quotes.
    Ack(u64, &'a [u8]),
    /// Socket.IO 2, another event: its array.
    Event(&'a [u8]),
    /// Socket.IO 5 or 6: so many attachments follow, for the acknowledgement of this number or for an event.
    Binary(u32, Option<u64>),
    /// A packet of another namespace.
    Other,
}

impl EventKind {
    fn is_acknowledged(self) -> bool {
        match self {
            Self::Echo | Self::Bin | Self::Own | Self::Join(_) | Self::Watch(_) | Self::Play { .. } => true,
            Self::Broadcast | Self::Room(_) | Self::Unasked | Self::Set { .. } => false,
        }
    }
}

/// Encodes and decodes the packets of one namespace.
pub(super) struct Codec {
    /// Empty for `/`, else the name and its comma.
    namespace: String,
    /// What CONNECT carries.
    auth: Option<Template>,
    revision: Revision,
}

/// Who a client was, and up to where it has received events: what a stock client remembers of a server with recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) pid: String,
    pub(super) offset: String,
}

impl Codec {
    /// For one namespace, which starts with a slash.
    pub(super) fn new(namespace: &str) -> Self {
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        Self { namespace, auth: None, revision: Revision::Four }
    }

    /// With JSON that CONNECT carries, of which `{{client}}` is each client's.
    pub(super) fn with_auth(self, auth: Option<Template>) -> Self {
        Self { auth, ..self }
    }

    /// The packets of this revision of Engine.IO, and of Socket.IO with it.
    pub(super) fn of_revision(self, revision: Revision) -> Self {
        Self { revision, ..self }
    }

    /// Appends the Socket.IO CONNECT packet of this client, if it has to ask: revision 3 opens the default namespace by itself.
    pub(super) fn encode_connect(&self, out: &mut Vec<u8>, client: u32, claim: Option<&Claim>) {
        if self.revision == Revision::Three && self.namespace.is_empty() {
            return;
        }
        out.extend_from_slice(b"40");
        out.extend_from_slice(self.namespace.as_bytes());
        let mut auth = Vec::new();
        if let Some(template) = &self.auth {
            template.render(&mut auth, client, 0);
        }
        let Some(Claim { pid, offset }) = claim.filter(|claim| !claim.pid.is_empty()) else {
            return out.extend_from_slice(&auth);
        };
        // As a stock client does, with what it was given first.
        let own = serde_json::json!({ "pid": pid, "offset": offset }).to_string();
        let rest = auth.strip_prefix(b"{").filter(|rest| rest.trim_ascii_start() != b"}");
        match rest {
            Some(rest) => {
                out.extend_from_slice(own.trim_end_matches('}').as_bytes());
                out.push(b',');
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(own.as_bytes()),
        }
    }

    /// Appends an event; `payload` is written between quotes, except for [`EventKind::Bin`], whose payload is
    /// the attachment that the caller sends next, and for those of `--event`.
    pub(super) fn encode_event(&self, out: &mut Vec<u8>, kind: EventKind, ack: u64, payload: &[u8]) {
        let prefix: &[u8] = if kind == EventKind::Bin { b"451-" } else { b"42" };
        out.extend_from_slice(prefix);
        out.extend_from_slice(self.namespace.as_bytes());
        if kind.is_acknowledged() {
            push_number(out, ack);
        }
        match kind {
            EventKind::Own | EventKind::Unasked => return out.extend_from_slice(payload),
            EventKind::Echo => out.extend_from_slice(b"[\"echo\",\""),
            EventKind::Broadcast => out.extend_from_slice(b"[\"broadcast\",\""),
            EventKind::Bin => return out.extend_from_slice(b"[\"bin\",{\"_placeholder\":true,\"num\":0}]"),
            EventKind::Room(room) => push(out, b"[\"room\",\"room-", room, b"\",\""),
            EventKind::Set { hz, key } => {
                push(out, b"[\"set\",\"board-", u32::from(hz), b"\",\"k");
                push(out, b"", key, b"\",\"");
            }
            EventKind::Join(room) => return push(out, b"[\"join\",\"room-", room, b"\"]"),
            EventKind::Watch(hz) => return push(out, b"[\"watch\",\"board-", u32::from(hz), b"\"]"),
            EventKind::Play { room, hz, bytes } => {
                push(out, b"[\"play\",\"game-", room, b"\",");
                push(out, b"", u32::from(hz), b",");
                return push(out, b"", bytes, b"]");
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
        let (count, rest) = match kind {
            b'5' | b'6' => {
                split_number(rest).and_then(|(count, rest)| Some((count, rest.strip_prefix(b"-")?)))?
            }
            _ => (0, rest),
        };
        let count = u32::try_from(count).ok()?;
        let Some(rest) = rest.strip_prefix(self.namespace.as_bytes()) else {
            // A server may leave the comma out where nothing follows.
            let is_bare = self.namespace.as_bytes().strip_suffix(b",") == Some(rest);
            return Some(match kind {
                b'1' if is_bare => Packet::Disconnected,
                // Their attachments come all the same.
                b'5' | b'6' => Packet::Binary(count, None),
                _ => Packet::Other,
            });
        };
        Some(match kind {
            // The default namespace has no prefix, so another's name stands where the data would begin.
            b'5' | b'6' if rest.first() == Some(&b'/') => Packet::Binary(count, None),
            _ if rest.first() == Some(&b'/') => Packet::Other,
            b'0' => Packet::Connected(rest),
            b'1' => Packet::Disconnected,
            b'2' => decode_event(rest)?,
            b'3' => {
                let (id, arguments) = split_number(rest)?;
                Packet::Ack(id, single_string(arguments))
            }
            b'4' => Packet::Refused(rest),
            b'5' => Packet::Binary(count, None),
            b'6' => Packet::Binary(count, Some(split_number(rest)?.0)),
            _ => return None,
        })
    }
}

/// The value of a string in the handshake's JSON.
pub(super) fn decode_open(json: &[u8]) -> Result<Open, Fault> {
    serde_json::from_slice(json).map_err(|_| Fault::Packet(quote(json)))
}

/// The private id of a socket that may come back, if a CONNECT packet names one.
pub(super) fn decode_pid(json: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Joined {
        pid: String,
    }
    serde_json::from_slice::<Joined>(json).ok().map(|joined| joined.pid)
}

/// Takes the offset off a message's payload, which a server with recovery appends to the arguments.
pub(super) fn split_offset(payload: &[u8]) -> (&[u8], Option<&[u8]>) {
    let found = memchr::memmem::rfind(payload, b",").and_then(|at| {
        let (payload, offset) = (payload.get(..at)?.strip_suffix(b"\"")?, payload.get(at + 1..)?);
        Some((payload, offset.trim_ascii_start().strip_prefix(b"\"")?))
    });
    found.map_or((payload, None), |(payload, offset)| (payload, Some(offset)))
}

/// The handshake, as far as it is used.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Open {
    /// The Engine.IO session.
    pub(super) sid: String,
    /// What one POST may hold.
    #[serde(rename = "maxPayload", default = "max_payload_default")]
    pub(super) payload_bytes_max: usize,
    /// In milliseconds; clients of revision 3 ping so often.
    #[serde(rename = "pingInterval", default)]
    pub(super) ping_interval: u32,
}

/// Engine.IO's default, for servers that do not say.
fn max_payload_default() -> usize {
    1_000_000
}

fn decode_event(rest: &[u8]) -> Option<Packet<'_>> {
    if let Some(inner) = rest.strip_prefix(b"[\"msg\",\"").or_else(|| rest.strip_prefix(b"[\"msg\", \"")) {
        return inner.strip_suffix(b"\"]").map(Packet::Message);
    }
    // An acknowledgement may be asked for, which nothing here gives.
    let array = rest.get(rest.iter().position(|byte| !byte.is_ascii_digit())?..)?;
    array.starts_with(b"[").then_some(Packet::Event(array))
}

/// A number between two texts.
fn push(out: &mut Vec<u8>, before: &[u8], number: u32, after: &[u8]) {
    out.extend_from_slice(before);
    push_number(out, u64::from(number));
    out.extend_from_slice(after);
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

/// Appends a number in digits.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
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
            ("/", EventKind::Own, r#"4217abc"#),
            ("/", EventKind::Unasked, r#"42abc"#),
            ("/", EventKind::Watch(10), r#"4217["watch","board-10"]"#),
            ("/a", EventKind::Set { hz: 10, key: 7 }, r#"42/a,["set","board-10","k7","abc"]"#),
            ("/", EventKind::Play { room: 7, hz: 20, bytes: 64 }, r#"4217["play","game-7",20,64]"#),
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
    fn who_comes_back_says_who_it_was() {
        let claim = Claim { pid: "p\"1".to_owned(), offset: "o".to_owned() };
        let own = r#""offset":"o","pid":"p\"1""#;
        let rows = [
            (None, "/", Some(&claim), format!("40{{{own}}}")),
            (Some("{}"), "/a", Some(&claim), format!("40/a,{{{own}}}")),
            (Some(r#"{"t":1}"#), "/", Some(&claim), format!(r#"40{{{own},"t":1}}"#)),
            (Some(r#"{"t":1}"#), "/", Some(&Claim::default()), r#"40{"t":1}"#.to_owned()),
        ];
        for (auth, namespace, claim, expected) in rows {
            let auth = auth.map(|auth| Template::json("--auth", auth, 9).unwrap());
            let mut out = Vec::new();
            Codec::new(namespace).with_auth(auth).encode_connect(&mut out, 0, claim);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert_eq!(decode_pid(br#"{"sid":"a","pid":"b"}"#), Some("b".to_owned()));
        assert_eq!(decode_pid(br#"{"sid":"a"}"#), None);
        for (text, payload, offset) in [
            ("a\",\"b", "a", Some("b")),
            ("a\", \"b", "a", Some("b")),
            ("a", "a", None),
            ("a,b", "a,b", None),
        ] {
            let expected = (payload.as_bytes(), offset.map(str::as_bytes));
            assert_eq!(split_offset(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn revision_3_opens_the_default_namespace_by_itself() {
        for (namespace, expected) in [("/", ""), ("/a", "40/a,")] {
            let mut out = Vec::new();
            Codec::new(namespace).of_revision(Revision::Three).encode_connect(&mut out, 0, None);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_connect_packet_carries_what_is_asked_for() {
        let auth = || Some(Template::json("--auth", r#"{"token":"t{{client}}"}"#, 9).unwrap());
        let rows = [
            ("/", None, "40"),
            ("/", auth(), r#"40{"token":"t3"}"#),
            ("/a", auth(), r#"40/a,{"token":"t3"}"#),
        ];
        for (namespace, auth, expected) in rows {
            let mut out = Vec::new();
            Codec::new(namespace).with_auth(auth).encode_connect(&mut out, 3, None);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn packets_are_told_apart_by_their_prefix() {
        let rows: [(&str, &str, Packet<'_>); 21] = [
            ("/", "0{}", Packet::Open(b"{}")),
            ("/", "1", Packet::Close),
            ("/", "2", Packet::Ping),
            ("/", "3probe", Packet::ProbePong),
            ("/", "6", Packet::Noop),
            ("/", "40{\"sid\":\"x\"}", Packet::Connected(b"{\"sid\":\"x\"}")),
            ("/a", "40/a,{\"sid\":\"x\"}", Packet::Connected(b"{\"sid\":\"x\"}")),
            ("/", "40/a,{\"sid\":\"x\"}", Packet::Other),
            ("/a", "41/a,", Packet::Disconnected),
            ("/a", "41/a", Packet::Disconnected),
            ("/", "44{\"message\":\"no\"}", Packet::Refused(b"{\"message\":\"no\"}")),
            ("/", r#"42["msg","abc"]"#, Packet::Message(b"abc")),
            ("/a", r#"42/a,["msg", "abc"]"#, Packet::Message(b"abc")),
            ("/", r#"42["welcome",{"a":1}]"#, Packet::Event(br#"["welcome",{"a":1}]"#)),
            ("/", r#"4212["ask"]"#, Packet::Event(br#"["ask"]"#)),
            ("/", r#"452-["two",{},{}]"#, Packet::Binary(2, None)),
            ("/", r#"451-/a,["one",{}]"#, Packet::Binary(1, None)),
            ("/", r#"4312["abc"]"#, Packet::Ack(12, b"abc")),
            ("/a", r"43/a,7[]", Packet::Ack(7, b"[]")),
            ("/", r#"461-5[{"_placeholder":true,"num":0}]"#, Packet::Binary(1, Some(5))),
            ("/a", r#"463-/a,5[1,2,3]"#, Packet::Binary(3, Some(5))),
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
            "46-5[]",
            "45[\"a\"]",
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
