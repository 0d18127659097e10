//! What users emit and answer, as server frames (`protocol/socketio/frames`).

use crate::message::inquiry::AnswerText;
use crate::protocol::socketio::encode::{self, EncodeError};
use crate::protocol::socketio::frames::{frame_packet, frame_plain, frame_raw};
use crate::protocol::socketio::owned::OwnedArgs;
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
        None if args.is_without_bytes() => {
            frame_plain(out, |out| encode::encode_plain_event(out, namespace, id, name, &args.to_args()))
        }
        None => frame_packet(out, |out, attachments| {
            encode::encode_event(out, namespace, id, name, &args.to_args(), attachments)
        }),
    }
}

/// Arguments as they are kept, apart from a packet.
pub(crate) fn args_text(args: &impl ToArgs) -> Result<AnswerText, EncodeError> {
    if let Some((raw, attachments)) = args.raw() {
        return Ok(AnswerText { json: raw.to_owned(), attachments: attachments.to_vec() });
    }
    let (mut packet, mut attachments) = (Vec::new(), Vec::new());
    encode::encode_ack(&mut packet, "/", 0, &args.to_args(), &mut attachments)?;
    let packet = String::from_utf8_lossy(&packet);
    let (_, list) = packet.split_once('[').expect("an acknowledgement has a list of arguments");
    let json = list.strip_suffix(']').expect("a list ends").to_owned();
    Ok(AnswerText { json, attachments })
}

impl OwnedArgs {
    /// Keeps values as they would be emitted, so that they are encoded once however often they are sent.
    ///
    /// ```
    /// let args = shardcast::OwnedArgs::new(("move", [1, 2]))?;
    /// assert_eq!(args.args().raw(), r#""move",[1,2]"#);
    /// # Ok::<(), shardcast::EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// Those of an emit.
    pub fn new(args: impl ToArgs) -> Result<OwnedArgs, EncodeError> {
        let AnswerText { json, attachments } = args_text(&args)?;
        Ok(OwnedArgs::of(json, attachments))
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
        None if args.is_without_bytes() => {
            frame_plain(out, |out| encode::encode_plain_ack(out, namespace, id, &args.to_args()))
        }
        None => frame_packet(out, |out, attachments| {
            encode::encode_ack(out, namespace, id, &args.to_args(), attachments)
        }),
    }
}
