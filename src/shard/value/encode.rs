//! What users emit and answer, as server frames (`protocol/socketio/frames`).

use crate::protocol::socketio::encode::{self, EncodeError};
use crate::protocol::socketio::frames::{frame_packet, frame_raw};
use crate::shard::value::args::ToArgs;

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
