//! Socket.IO packets as server frames: the form in which every outbox holds them.
//!
//! A WebSocket client gets the frames as they are; a poll's body is made from the same frames
//! (`protocol/engineio/payload`).

use bytes::Bytes;

use crate::protocol::socketio::encode::{self, EncodeError};
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::value::args::ToArgs;

/// Appends one Engine.IO text packet as a frame.
pub(crate) fn frame_text(out: &mut Vec<u8>, packet: &str) {
    frame::append(out, Opcode::Text, packet.as_bytes());
}

/// Appends an event: one text frame, then one binary frame for each attachment.
pub(crate) fn frame_event(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: &impl ToArgs,
) -> Result<(), EncodeError> {
    if encode::is_reserved_event(name) {
        return Err(EncodeError::ReservedEvent(name.to_owned()));
    }
    match args.raw() {
        Some((raw, attachments)) => {
            frame_raw(out, attachments, |out| encode::encode_event_raw(out, namespace, id, name, raw));
            Ok(())
        }
        None => frame_packet(out, |out, attachments| {
            encode::encode_event(out, namespace, id, name, &args.to_args(), attachments)
        }),
    }
}

/// Appends an acknowledgement, with its attachments.
pub(crate) fn frame_ack(
    out: &mut Vec<u8>,
    namespace: &str,
    id: u64,
    args: &impl ToArgs,
) -> Result<(), EncodeError> {
    match args.raw() {
        Some((raw, attachments)) => {
            frame_raw(out, attachments, |out| encode::encode_ack_raw(out, namespace, id, raw));
            Ok(())
        }
        None => frame_packet(out, |out, attachments| {
            encode::encode_ack(out, namespace, id, &args.to_args(), attachments)
        }),
    }
}

/// Appends a packet that `encode` writes, as a message (`4`) in a text frame, and its attachments.
pub(crate) fn frame_packet<E>(
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>, &mut Vec<Bytes>) -> Result<(), E>,
) -> Result<(), E> {
    let mut collected = Vec::new();
    frame_message(out, |out| encode(out, &mut collected))?;
    append_attachments(out, &collected);
    Ok(())
}

/// Arguments that are JSON already go out as they are, with the attachments that they name.
fn frame_raw(out: &mut Vec<u8>, attachments: &[Bytes], encode: impl FnOnce(&mut Vec<u8>)) {
    let framed = frame_message(out, |out| {
        let start = out.len();
        encode(out);
        if !attachments.is_empty() {
            encode::make_binary(out, start, attachments.len());
        }
        Ok::<(), std::convert::Infallible>(())
    });
    framed.unwrap_or_else(|never| match never {});
    append_attachments(out, attachments);
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

fn append_attachments(out: &mut Vec<u8>, attachments: &[Bytes]) {
    for attachment in attachments {
        frame::append(out, Opcode::Binary, attachment);
    }
}
