//! Socket.IO packets as server frames, the form in which every outbox holds them and in which they travel between processes.
//!
//! A packet is one text frame, and one binary frame for each of its attachments. A WebSocket client gets the frames as they are;
//! a poll's body is made from the same frames (`protocol/engineio/payload`). Does not know other forms of a packet.

use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;

use bytes::Bytes;

use crate::base::limits::NAMESPACE_BYTES_MAX;
use crate::protocol::websocket::frame::{self, Opcode, server_frames};

use super::binary::check_placeholders;
use super::encode::{self, encode_event_raw};
use super::event;
use super::json::Elements;
use super::packet::{self, Packet, PacketError, PacketKind};

/// What stands between the packets of a poll's answer.
const SEPARATOR: u8 = 0x1e;

/// A list for attachments is kept for the next packet unless it has got room for more than so many: stock clients take ten.
const COLLECTED_MAX: usize = 16;

thread_local! {
    /// Empty: where a packet's attachments are collected.
    static COLLECTED: Cell<Vec<Bytes>> = const { Cell::new(Vec::new()) };
}

/// Appends one Engine.IO text packet as a frame.
pub(crate) fn frame_text(out: &mut Vec<u8>, packet: &str) {
    frame::append(out, Opcode::Text, packet.as_bytes());
}

/// Appends a packet that `encode` writes, as a message (`4`) in a text frame, and its attachments.
pub(crate) fn frame_packet<E>(
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>, &mut Vec<Bytes>) -> Result<(), E>,
) -> Result<(), E> {
    // Taken, so that a user's code that encodes within this has another.
    let mut collected = COLLECTED.take();
    let framed = frame_message(out, |out| encode(out, &mut collected));
    if framed.is_ok() {
        append_attachments(out, &collected);
    }
    collected.clear();
    if collected.capacity() <= COLLECTED_MAX {
        COLLECTED.set(collected);
    }
    framed
}

/// Appends a packet that `encode` writes and that has no attachments.
pub(crate) fn frame_plain<E>(
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    frame_message(out, encode)
}

/// Appends a packet that `encode` writes and whose JSON names these attachments.
pub(crate) fn frame_raw(
    out: &mut Vec<u8>,
    attachments: &[impl AsRef<[u8]>],
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let framed = frame_message(out, |out| {
        let start = out.len();
        encode(out);
        if !attachments.is_empty() {
            encode::make_binary(out, start, attachments.len());
        }
        Ok::<(), Infallible>(())
    });
    framed.unwrap_or_else(|never| match never {});
    append_attachments(out, attachments);
}

/// Appends an event of another process. Its arguments are valid JSON: the elements of an array without its brackets.
///
/// # Errors
/// What clients would hang up for: the name, the namespace, a placeholder without its attachment. Nothing is appended then.
pub(crate) fn frame_foreign_event(
    out: &mut Vec<u8>,
    namespace: &str,
    (name, args): (&str, &str),
    attachments: &[impl AsRef<[u8]>],
) -> Result<(), FramesError> {
    if packet::is_reserved_event(name) {
        return Err(FramesError::Packet(PacketError::EventNameReserved));
    }
    if !is_namespace(namespace) {
        return Err(FramesError::NamespaceInvalid);
    }
    if !attachments.is_empty() {
        let count = attachments.len();
        let checked = Elements::new(args).try_for_each(|element| check_placeholders(element, count));
        checked.map_err(FramesError::Packet)?;
    }
    frame_raw(out, attachments, |out| encode_event_raw(out, namespace, None, name, args));
    Ok(())
}

/// Whether a packet can name a namespace of this name.
pub(crate) fn is_namespace(name: &str) -> bool {
    name.starts_with('/')
        && name.len() <= NAMESPACE_BYTES_MAX
        && memchr::memchr(b',', name.as_bytes()).is_none()
}

fn frame_message<E>(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let before = out.len();
    let start = frame::begin(out);
    out.push(b'4');
    if let Err(error) = encode(out) {
        out.truncate(before);
        return Err(error);
    }
    frame::finish(out, start, Opcode::Text);
    Ok(())
}

fn append_attachments(out: &mut Vec<u8>, attachments: &[impl AsRef<[u8]>]) {
    for attachment in attachments {
        frame::append(out, Opcode::Binary, attachment.as_ref());
    }
}

/// The same event with one more argument: JSON.
pub(crate) fn with_argument(frames: &[u8], argument: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(frames.len() + argument.len() + 16);
    for (place, (opcode, payload)) in server_frames(frames).enumerate() {
        match payload.strip_suffix(b"]").filter(|_| place == 0) {
            Some(open) => {
                let start = frame::begin(&mut out);
                out.extend_from_slice(open);
                out.push(b',');
                out.extend_from_slice(argument.as_bytes());
                out.push(b']');
                frame::finish(&mut out, start, Opcode::Text);
            }
            None => frame::append(&mut out, opcode, payload),
        }
    }
    out
}

/// Whether a client would take an event's last argument for an offset.
pub(crate) fn ends_with_text(frames: &[u8]) -> bool {
    server_frames(frames).next().is_some_and(|(_, payload)| payload.ends_with(b"\"]"))
}

/// One event, lent from the frames that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FramedEvent<'a> {
    pub(crate) namespace: &'a str,
    /// What an acknowledgement would name.
    pub(crate) id: Option<u64>,
    /// A number's own digits if the name is a number.
    pub(crate) name: Cow<'a, str>,
    /// Elements of a JSON array without its brackets, trimmed; placeholders stand where attachments belong.
    pub(crate) args: &'a str,
    pub(crate) attachments: Vec<&'a [u8]>,
}

/// Why bytes are not the frames of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramesError {
    /// Not one final, unmasked text frame with a message in UTF-8, and final, unmasked binary frames behind it.
    NotFrames,
    /// Another packet than an event, or an event without a name.
    NotEvent,
    /// More or fewer binary frames than the packet says.
    AttachmentsDiffer,
    /// An event of another namespace.
    NamespaceDiffers,
    /// A name that no namespace can have.
    NamespaceInvalid,
    /// The packet is none that clients would accept.
    Packet(PacketError),
}

impl FramesError {
    /// A sentence for logs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            FramesError::NotFrames => "these are not the frames of one packet",
            FramesError::NotEvent => "the packet is not an event",
            FramesError::AttachmentsDiffer => "there are more or fewer attachments than the packet says",
            FramesError::NamespaceDiffers => "the event is of another namespace",
            FramesError::NamespaceInvalid => "no namespace can have this name",
            FramesError::Packet(error) => error.reason(),
        }
    }
}

impl<'a> FramedEvent<'a> {
    /// Takes the frames of one event apart. Of its JSON only the name is looked at: for frames that this process has written.
    ///
    /// # Errors
    /// The bytes are the frames of another packet, or of no packet, or of several.
    pub(crate) fn split(bytes: &'a [u8]) -> Result<FramedEvent<'a>, FramesError> {
        FramedEvent::of_packet(split_packet(bytes)?)
    }

    /// Takes the frames of one event of another process apart, and checks everything: what is accepted can be sent to clients of
    /// the namespace as it is.
    ///
    /// # Errors
    /// Whatever clients would hang up for.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "tests hold what is written to it; the bus looks at outlines only")
    )]
    pub(crate) fn check(bytes: &'a [u8], namespace: &str) -> Result<FramedEvent<'a>, FramesError> {
        let framed = split_packet(bytes)?;
        packet::check(&framed.packet).map_err(FramesError::Packet)?;
        let event = FramedEvent::of_packet(framed)?;
        if event.namespace != namespace {
            return Err(FramesError::NamespaceDiffers);
        }
        Ok(event)
    }

    fn of_packet(framed: FramedPacket<'a>) -> Result<FramedEvent<'a>, FramesError> {
        let FramedPacket { packet: Packet { kind, namespace, id, attachments: count, payload }, attachments } =
            framed;
        if !matches!(kind, PacketKind::Event | PacketKind::BinaryEvent) || payload.is_empty() {
            return Err(FramesError::NotEvent);
        }
        if attachments.len() != count || kind.is_binary() && count == 0 {
            return Err(FramesError::AttachmentsDiffer);
        }
        let (name, args) = event::split_name(payload).map_err(FramesError::Packet)?;
        Ok(FramedEvent { namespace, id, name, args, attachments })
    }
}

/// One packet with its attachments, of which nothing is checked.
struct FramedPacket<'a> {
    packet: Packet<'a>,
    attachments: Vec<&'a [u8]>,
}

fn split_packet(bytes: &[u8]) -> Result<FramedPacket<'_>, FramesError> {
    let (opcode, message, mut rest) = frame::split_server_frame(bytes).ok_or(FramesError::NotFrames)?;
    let message = message.strip_prefix(b"4").filter(|_| opcode == Opcode::Text);
    // JSON has no such byte: there it would begin another packet.
    let message = message.filter(|message| memchr::memchr(SEPARATOR, message).is_none());
    let text = message.and_then(|message| simdutf8::basic::from_utf8(message).ok());
    let packet = packet::split(text.ok_or(FramesError::NotFrames)?).map_err(FramesError::Packet)?;
    let mut attachments = Vec::new();
    while !rest.is_empty() {
        let (opcode, attachment, after) = frame::split_server_frame(rest).ok_or(FramesError::NotFrames)?;
        if opcode != Opcode::Binary {
            return Err(FramesError::NotFrames);
        }
        if attachments.len() == packet.attachments {
            return Err(FramesError::AttachmentsDiffer);
        }
        attachments.push(attachment);
        rest = after;
    }
    Ok(FramedPacket { packet, attachments })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_BYTES: [&[u8]; 0] = [];

    /// Frames by what is in them: `t` text, `b` binary, `c` a close frame.
    fn frames(parts: &[(char, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, payload) in parts {
            let opcode = match kind {
                't' => Opcode::Text,
                'b' => Opcode::Binary,
                _ => Opcode::Close,
            };
            frame::append(&mut out, opcode, payload.as_bytes());
        }
        out
    }

    #[test]
    fn what_is_framed_is_split_and_passes_the_check() {
        let long = format!("\"{}\"", "x".repeat(70_000));
        let rows: [(&str, &str, &str, &[&[u8]]); 6] = [
            ("/", "a", "", &[]),
            ("/", "a \"b\" ä", "1, [2],{\"k\":null}", &[]),
            ("/ns", "a", &long, &[]),
            ("/", "a", r#"{"_placeholder":true,"num":0}"#, &[b"\x00\xff"]),
            ("/x y", "a", r#"[{"_placeholder":true,"num":1}],{"_placeholder":true,"num":0}"#, &[b"", b"two"]),
            ("/", "a", r#"{"_placeholder":true}"#, &[]),
        ];
        for (namespace, name, args, attachments) in rows {
            let mut out = b"before".to_vec();
            frame_foreign_event(&mut out, namespace, (name, args), attachments).unwrap();
            let bytes = &out[6..];
            let expected = FramedEvent {
                namespace,
                id: None,
                name: Cow::Borrowed(name),
                args,
                attachments: attachments.to_vec(),
            };
            assert_eq!(FramedEvent::split(bytes).as_ref(), Ok(&expected));
            assert_eq!(FramedEvent::check(bytes, namespace), Ok(expected));
            assert_eq!(FramedEvent::check(bytes, "/other"), Err(FramesError::NamespaceDiffers));
            for len in 0..bytes.len().min(200) {
                assert!(FramedEvent::check(&bytes[..len], namespace).is_err(), "cut at {len}");
            }
        }
    }

    #[test]
    fn what_clients_would_hang_up_for_is_not_framed() {
        let reserved = FramesError::Packet(PacketError::EventNameReserved);
        let placeholder = FramesError::Packet(PacketError::PlaceholderInvalid);
        type Case = (&'static str, &'static str, &'static str, &'static [&'static [u8]], FramesError);
        let cases: [Case; 6] = [
            ("/", "disconnect", "", &[], reserved),
            ("", "a", "", &[], FramesError::NamespaceInvalid),
            ("a", "a", "", &[], FramesError::NamespaceInvalid),
            ("/a,b", "a", "", &[], FramesError::NamespaceInvalid),
            ("/", "a", r#"1,{"_placeholder":true,"num":1}"#, &[b"x"], placeholder),
            ("/", "a", r#"[{"_placeholder":true}]"#, &[b"x"], placeholder),
        ];
        for (namespace, name, args, attachments, error) in cases {
            let mut out = b"before".to_vec();
            assert_eq!(frame_foreign_event(&mut out, namespace, (name, args), attachments), Err(error));
            assert_eq!(out, b"before");
        }
        let long = format!("/{}", "x".repeat(NAMESPACE_BYTES_MAX));
        assert!(frame_foreign_event(&mut Vec::new(), &long, ("a", ""), &NO_BYTES).is_err());
    }

    #[test]
    fn other_bytes_are_no_event() {
        const EVENT: &str = r#"42["a"]"#;
        const BINARY: &str = r#"452-["a",{"_placeholder":true,"num":1}]"#;
        let packet = FramesError::Packet;
        let rows: [(&[(char, &str)], FramesError); 24] = [
            (&[], FramesError::NotFrames),
            (&[('t', "")], FramesError::NotFrames),
            (&[('t', "2")], FramesError::NotFrames),
            (&[('b', EVENT)], FramesError::NotFrames),
            (&[('c', EVENT)], FramesError::NotFrames),
            (&[('t', EVENT), ('t', EVENT)], FramesError::NotFrames),
            (&[('t', "42[\"a\",\"\u{1e}1\"]")], FramesError::NotFrames),
            (&[('t', BINARY), ('b', "1"), ('c', "")], FramesError::NotFrames),
            (&[('t', EVENT), ('b', "1")], FramesError::AttachmentsDiffer),
            (&[('t', BINARY), ('b', "1")], FramesError::AttachmentsDiffer),
            (&[('t', BINARY), ('b', "1"), ('b', "2"), ('b', "3")], FramesError::AttachmentsDiffer),
            (&[('t', r#"450-["a"]"#)], FramesError::AttachmentsDiffer),
            (&[('t', "40")], FramesError::NotEvent),
            (&[('t', "41")], FramesError::NotEvent),
            (&[('t', "42")], FramesError::NotEvent),
            (&[('t', "430[1]")], FramesError::NotEvent),
            (&[('t', "4")], packet(PacketError::Empty)),
            (&[('t', "49[]")], packet(PacketError::KindUnknown)),
            (&[('t', "42[]")], packet(PacketError::EventNameInvalid)),
            (&[('t', r#"42["a""#)], packet(PacketError::PayloadNotJson)),
            (&[('t', r#"42["a",tru]"#)], packet(PacketError::PayloadNotJson)),
            (&[('t', r#"42["disconnect"]"#)], packet(PacketError::EventNameReserved)),
            (
                &[('t', r#"451-["a",{"_placeholder":true,"num":1}]"#), ('b', "1")],
                packet(PacketError::PlaceholderInvalid),
            ),
            (&[('t', r#"42/other,["a"]"#)], FramesError::NamespaceDiffers),
        ];
        for (parts, error) in rows {
            assert_eq!(FramedEvent::check(&frames(parts), "/"), Err(error), "{parts:?}");
        }
        let mut bytes = frames(&[('t', EVENT)]);
        for (place, bit) in [(0, 0x80), (0, 0x40), (1, 0x80)] {
            bytes[place] ^= bit;
            assert_eq!(FramedEvent::check(&bytes, "/"), Err(FramesError::NotFrames), "fragment, RSV1, mask");
            bytes[place] ^= bit;
        }
        let mut bytes = frames(&[('t', "42[\"a\"]")]);
        bytes[5] = 0xff;
        assert_eq!(FramedEvent::check(&bytes, "/"), Err(FramesError::NotFrames), "no UTF-8");
    }

    #[test]
    fn a_question_keeps_its_id() {
        let bytes = frames(&[('t', r#"42/ns,17["ask",1]"#)]);
        let event = FramedEvent::check(&bytes, "/ns").unwrap();
        assert_eq!((event.id, &*event.name, event.args), (Some(17), "ask", "1"));
    }

    #[test]
    fn every_fault_has_a_reason() {
        for error in [FramesError::NotFrames, FramesError::NotEvent, FramesError::Packet(PacketError::Empty)]
        {
            assert!(!error.reason().is_empty());
        }
    }
}
