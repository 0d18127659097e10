//! The text of one packet: `<kind>[<attachments>-][<namespace>,][<id>][<payload>]`.
//!
//! Socket.IO protocol 5, "Packet encoding"; the details follow socket.io-parser 4.2. Whatever is decoded
//! here has been checked in full, so its payload may be sent to others as it is. Does not know namespaces,
//! and does not wait for attachments: that is `attachments`.

use crate::base::limits::{ATTACHMENTS_MAX, NAMESPACE_BYTES_MAX, NAMESPACE_QUERY_BYTES_MAX};

use super::binary;
use super::json::{self, JsonError};

/// The largest acknowledgement id: what a JavaScript number holds exactly, 2^53 - 1.
const ID_MAX: u64 = (1 << 53) - 1;

/// The kind of a packet, its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketKind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
    BinaryEvent,
    BinaryAck,
}

impl PacketKind {
    fn from_byte(byte: u8) -> Option<PacketKind> {
        Some(match byte {
            b'0' => PacketKind::Connect,
            b'1' => PacketKind::Disconnect,
            b'2' => PacketKind::Event,
            b'3' => PacketKind::Ack,
            b'4' => PacketKind::ConnectError,
            b'5' => PacketKind::BinaryEvent,
            b'6' => PacketKind::BinaryAck,
            _ => return None,
        })
    }

    /// The packet's first character.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn number(self) -> u8 {
        match self {
            PacketKind::Connect => 0,
            PacketKind::Disconnect => 1,
            PacketKind::Event => 2,
            PacketKind::Ack => 3,
            PacketKind::ConnectError => 4,
            PacketKind::BinaryEvent => 5,
            PacketKind::BinaryAck => 6,
        }
    }

    /// Whether attachments follow the packet.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, PacketKind::BinaryEvent | PacketKind::BinaryAck)
    }
}

/// One decoded packet, lent from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) kind: PacketKind,
    /// `/` if the text names none; keeps its query string.
    pub(crate) namespace: &'a str,
    pub(crate) id: Option<u64>,
    /// How many binary messages follow; 0 unless the kind is binary.
    pub(crate) attachments: usize,
    /// Valid JSON that fits the kind, or nothing.
    pub(crate) payload: &'a str,
}

/// How a peer broke the protocol. Each of them closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketError {
    /// No text at all.
    Empty,
    /// The first character is not `0` to `6`.
    KindUnknown,
    /// `CONNECT_ERROR` goes from server to client only.
    ConnectErrorFromClient,
    /// A binary packet whose number of attachments is missing or not within `1..=ATTACHMENTS_MAX`.
    AttachmentsInvalid,
    /// A namespace of more than `NAMESPACE_BYTES_MAX`.
    NamespaceTooLong,
    /// An id that a JavaScript number does not hold exactly.
    IdTooBig,
    /// A binary packet without a payload to put its attachments into.
    PayloadMissing,
    /// A payload that its kind does not have: `CONNECT` has an object, `DISCONNECT` none, others an array.
    PayloadUnexpected,
    /// The payload is not JSON.
    PayloadNotJson,
    /// More than `JSON_DEPTH_MAX` arrays and objects within one another.
    PayloadTooDeep,
    /// The first element of an event is neither a string nor a number.
    EventNameInvalid,
    /// The event's name is one that only the library itself emits.
    EventNameReserved,
    /// A placeholder without a number, or with that of an attachment that does not exist.
    PlaceholderInvalid,
}

impl PacketError {
    /// Every fault, for tests that name them.
    #[cfg(test)]
    pub(crate) const ALL: [PacketError; 13] = [
        PacketError::Empty,
        PacketError::KindUnknown,
        PacketError::ConnectErrorFromClient,
        PacketError::AttachmentsInvalid,
        PacketError::NamespaceTooLong,
        PacketError::IdTooBig,
        PacketError::PayloadMissing,
        PacketError::PayloadUnexpected,
        PacketError::PayloadNotJson,
        PacketError::PayloadTooDeep,
        PacketError::EventNameInvalid,
        PacketError::EventNameReserved,
        PacketError::PlaceholderInvalid,
    ];

    /// A sentence for logs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            PacketError::Empty => "empty packet",
            PacketError::KindUnknown => "unknown packet type",
            PacketError::ConnectErrorFromClient => "CONNECT_ERROR from a client",
            PacketError::AttachmentsInvalid => "illegal number of attachments",
            PacketError::NamespaceTooLong => "namespace too long",
            PacketError::IdTooBig => "acknowledgement id too big",
            PacketError::PayloadMissing => "payload missing",
            PacketError::PayloadUnexpected => "payload does not fit the packet type",
            PacketError::PayloadNotJson => "payload is not JSON",
            PacketError::PayloadTooDeep => "payload is nested too deeply",
            PacketError::EventNameInvalid => "event name is neither a string nor a number",
            PacketError::EventNameReserved => "reserved event name",
            PacketError::PlaceholderInvalid => "placeholder without its attachment",
        }
    }
}

impl From<JsonError> for PacketError {
    fn from(error: JsonError) -> PacketError {
        match error {
            JsonError::Invalid => PacketError::PayloadNotJson,
            JsonError::TooDeep => PacketError::PayloadTooDeep,
        }
    }
}

/// Decodes and checks the text of one packet from a client.
///
/// # Errors
/// Whatever is wrong with it; the caller closes the connection.
pub(crate) fn decode(text: &str) -> Result<Packet<'_>, PacketError> {
    let packet = split(text)?;
    if packet.kind == PacketKind::ConnectError {
        return Err(PacketError::ConnectErrorFromClient);
    }
    if packet.kind.is_binary() && !(1..=ATTACHMENTS_MAX).contains(&packet.attachments) {
        return Err(PacketError::AttachmentsInvalid);
    }
    check(&packet)?;
    Ok(packet)
}

/// Takes the text of a packet apart, and checks nothing that is in it.
pub(crate) fn split(text: &str) -> Result<Packet<'_>, PacketError> {
    let first = *text.as_bytes().first().ok_or(PacketError::Empty)?;
    let kind = PacketKind::from_byte(first).ok_or(PacketError::KindUnknown)?;
    let rest = text.get(1..).unwrap_or_default();
    let (attachments, rest) = if kind.is_binary() { split_attachments(rest)? } else { (0, rest) };
    let (namespace, rest) = split_namespace(rest);
    let (id, payload) = split_id(rest)?;
    Ok(Packet { kind, namespace, id, attachments, payload })
}

/// Checks what a packet must keep to in whatever form it came.
pub(crate) fn check(packet: &Packet<'_>) -> Result<(), PacketError> {
    // Clients of Socket.IO 1 and 2 put their query behind the name, in a CONNECT only.
    let (name, query) = match packet.kind {
        PacketKind::Connect => packet.namespace.split_once('?').unwrap_or((packet.namespace, "")),
        _ => (packet.namespace, ""),
    };
    if name.len() > NAMESPACE_BYTES_MAX || query.len() > NAMESPACE_QUERY_BYTES_MAX {
        return Err(PacketError::NamespaceTooLong);
    }
    if packet.id.is_some_and(|id| id > ID_MAX) {
        return Err(PacketError::IdTooBig);
    }
    check_payload(packet.kind, packet.payload, packet.attachments)
}

/// Whether only the library itself may emit events of this name.
pub(crate) fn is_reserved_event(name: &str) -> bool {
    matches!(
        name,
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener"
    )
}

fn split_attachments(text: &str) -> Result<(usize, &str), PacketError> {
    let (count, rest) = split_decimal(text);
    let count = count.and_then(|count| usize::try_from(count).ok());
    Ok((
        count.ok_or(PacketError::AttachmentsInvalid)?,
        rest.strip_prefix('-').ok_or(PacketError::AttachmentsInvalid)?,
    ))
}

/// The namespace ends at a comma or with the text.
fn split_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    match memchr::memchr(b',', text.as_bytes()) {
        Some(comma) => (&text[..comma], &text[comma + 1..]),
        None => (text, ""),
    }
}

fn split_id(text: &str) -> Result<(Option<u64>, &str), PacketError> {
    if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return Ok((None, text));
    }
    let (id, rest) = split_decimal(text);
    Ok((Some(id.ok_or(PacketError::IdTooBig)?), rest))
}

/// The digits that a text begins with, as a number if it has 64 bits at most, and what is behind them. `None` without digits.
fn split_decimal(text: &str) -> (Option<u64>, &str) {
    let (mut number, mut len) = (None, 0);
    for byte in text.bytes().take_while(u8::is_ascii_digit) {
        let before = if len == 0 { Some(0_u64) } else { number };
        number = before
            .and_then(|before| before.checked_mul(10))
            .and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
        len += 1;
    }
    (number, text.get(len..).unwrap_or_default())
}

/// The first byte decides before the rest is read. A payload does not begin with a space: there the
/// reference parser reads an id of 0.
fn check_payload(kind: PacketKind, payload: &str, attachments: usize) -> Result<(), PacketError> {
    let first = match payload.as_bytes().first() {
        Some(&first) => first,
        None if kind.is_binary() => return Err(PacketError::PayloadMissing),
        None => return Ok(()),
    };
    match (kind, first) {
        (PacketKind::Connect, b'{') | (PacketKind::Ack, b'[') => Ok(json::validate(payload)?),
        (PacketKind::Event, b'[') => {
            json::validate(payload)?;
            check_event_name(payload)
        }
        (PacketKind::BinaryAck, b'[') => binary::validate(payload, attachments),
        (PacketKind::BinaryEvent, b'[') => {
            // Of several faults the name's is told before a placeholder's.
            let valid = binary::validate(payload, attachments);
            match valid {
                Ok(()) | Err(PacketError::PlaceholderInvalid) => check_event_name(payload).and(valid),
                fault => fault,
            }
        }
        _ => Err(PacketError::PayloadUnexpected),
    }
}

/// Checks the first element of an array that is valid JSON.
pub(crate) fn check_event_name(payload: &str) -> Result<(), PacketError> {
    let (name, _) = super::event::split_name(payload)?;
    if is_reserved_event(&name) { Err(PacketError::EventNameReserved) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exact() {
        let longest = "/".repeat(NAMESPACE_BYTES_MAX);
        let rows = [
            (format!("2{longest},[\"a\"]"), Ok(())),
            (format!("0/{longest}"), Err(PacketError::NamespaceTooLong)),
            (format!("0{longest}?{}", "q".repeat(NAMESPACE_QUERY_BYTES_MAX)), Ok(())),
            (format!("0/?{}", "q".repeat(NAMESPACE_QUERY_BYTES_MAX + 1)), Err(PacketError::NamespaceTooLong)),
            (format!("1{longest}?"), Err(PacketError::NamespaceTooLong)),
            (format!("2{ID_MAX}[\"a\"]"), Ok(())),
            (format!("2{}[\"a\"]", ID_MAX + 1), Err(PacketError::IdTooBig)),
            (format!("2{}[\"a\"]", "9".repeat(40)), Err(PacketError::IdTooBig)),
            (format!("5{ATTACHMENTS_MAX}-[\"a\"]"), Ok(())),
            (format!("5{}-[\"a\"]", ATTACHMENTS_MAX + 1), Err(PacketError::AttachmentsInvalid)),
        ];
        for (text, expected) in rows {
            assert_eq!(decode(&text).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn every_fault_has_a_reason_of_its_own() {
        let reasons: std::collections::HashSet<_> =
            PacketError::ALL.iter().map(|error| error.reason()).collect();
        assert_eq!(reasons.len(), PacketError::ALL.len());
    }
}
