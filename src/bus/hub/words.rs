//! Small questions that the hub asks of values.

use crate::bus::fleet::COUNTED_NAMESPACES_MAX;
use crate::message::inquiry::Findings;
use crate::protocol::socketio::encode::encode_event_raw;
use crate::protocol::socketio::frames::{FramedEvent, FramesError, frame_raw};

/// Looks at the outline of another process' event: its JSON is believed to be JSON.
pub(super) fn outline<'a>(frame: &'a [u8], namespace: &str) -> Result<FramedEvent<'a>, FramesError> {
    let event = FramedEvent::split(frame)?;
    if event.namespace != namespace {
        return Err(FramesError::NamespaceDiffers);
    }
    Ok(event)
}

/// The frames of an event with an id of this process, which clients answer to.
pub(super) fn reframe(frame: &[u8], namespace: &str, id: u64) -> Result<Vec<u8>, FramesError> {
    let event = outline(frame, namespace)?;
    let mut out = Vec::with_capacity(frame.len() + 16);
    frame_raw(&mut out, &event.attachments, |out| {
        encode_event_raw(out, namespace, Some(id), &event.name, event.args);
    });
    Ok(out)
}

/// A census as a hello has it, the largest namespaces first.
pub(super) fn counted(findings: Findings) -> Vec<(Option<String>, String, u64)> {
    let mut counted: Vec<_> =
        findings.census.into_iter().map(|((path, name), count)| (path, name, count)).collect();
    counted.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    counted.truncate(COUNTED_NAMESPACES_MAX);
    counted
}
