//! What a long-polling request carries and gets, in each form that a client may ask for.
//!
//! Revision 4 knows one form (`payload`), revision 3 two (`payload3`), and a page that may only load scripts gets either
//! revision's text in a script (`jsonp`). Does not know sessions.

use std::borrow::Cow;

use super::jsonp::{self, Callback};
use super::packet::{Packet, PacketError};
use super::revision::Revision;
use super::{payload, payload3};
use crate::protocol::websocket::frame::{self, Opcode, server_frames};

/// The form in which a client wants the answer to a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PollForm {
    pub(crate) revision: Revision,
    /// The client reads no bytes: `b64=1`. Revision 4 never sends any.
    pub(crate) is_text_only: bool,
    /// The function that awaits the body, if it is to be a script.
    pub(crate) callback: Option<Callback>,
}

/// The answer to a poll in the making.
#[derive(Debug)]
pub(crate) struct PollBody {
    form: PollForm,
    /// Revision 4: the body so far. Revision 3: frames, for the form depends on all of them.
    bytes: Vec<u8>,
    packets: usize,
}

/// The answer to a poll.
#[derive(Debug)]
pub(crate) struct PollAnswer {
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// A script, which must not be taken for anything else.
    pub(crate) is_script: bool,
}

impl PollBody {
    pub(crate) fn new(form: PollForm, capacity: usize) -> PollBody {
        PollBody { form, bytes: Vec::with_capacity(capacity), packets: 0 }
    }

    /// Takes packets from complete server frames until there are `packets_max`. Returns how many bytes of `frames` are
    /// taken, and whether there is room for more.
    pub(crate) fn append_frames(&mut self, frames: &[u8], packets_max: usize) -> (usize, bool) {
        let covered = match self.form.revision {
            Revision::Four => {
                let (covered, packets) =
                    payload::append_frames(&mut self.bytes, frames, packets_max, self.packets);
                self.packets = packets;
                covered
            }
            Revision::Three => {
                let (covered, packets) = frame::measure(frames, packets_max.saturating_sub(self.packets));
                self.bytes.extend_from_slice(&frames[..covered]);
                self.packets += packets;
                covered
            }
        };
        (covered, covered > 0 && self.packets < packets_max)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Whether one packet more may follow.
    pub(crate) fn has_room(&self, packets_max: usize) -> bool {
        self.packets < packets_max
    }

    /// Takes one text packet.
    pub(crate) fn append(&mut self, packet: &str) {
        match self.form.revision {
            Revision::Four => payload::append(&mut self.bytes, false, packet.as_bytes()),
            Revision::Three => frame::append(&mut self.bytes, Opcode::Text, packet.as_bytes()),
        }
        self.packets += 1;
    }

    /// The answer in its form.
    pub(crate) fn finish(self) -> PollAnswer {
        let (body, is_binary) = match self.form.revision {
            Revision::Four => (self.bytes, false),
            Revision::Three => encode3(&self.bytes, self.form),
        };
        if let Some(callback) = self.form.callback {
            let text = std::str::from_utf8(&body).expect("what is not asked for as bytes is text");
            let body = jsonp::encode(callback, text);
            return PollAnswer { content_type: "text/javascript; charset=UTF-8", body, is_script: true };
        }
        // Clients compare this with `application/octet-stream` to the letter.
        let content_type = if is_binary { "application/octet-stream" } else { "text/plain; charset=UTF-8" };
        PollAnswer { content_type, body, is_script: false }
    }
}

/// A body of revision 3, and whether it is in bytes. What is not ASCII goes in bytes if it may: there a length is the same
/// to everybody, where Python clients count code points, and 1.x clients bytes.
fn encode3(frames: &[u8], form: PollForm) -> (Vec<u8>, bool) {
    let may_be_bytes = !form.is_text_only && form.callback.is_none();
    let is_plain = |(opcode, packet): (Opcode, &[u8])| opcode == Opcode::Text && packet.is_ascii();
    let is_binary = may_be_bytes && !server_frames(frames).all(is_plain);
    let mut body = Vec::with_capacity(frames.len() + 8);
    for (opcode, packet) in server_frames(frames) {
        match (std::str::from_utf8(packet), opcode) {
            _ if is_binary => payload3::append_binary(&mut body, opcode == Opcode::Binary, packet),
            (Ok(text), Opcode::Text) => payload3::append_text(&mut body, text),
            _ => payload3::append_base64(&mut body, packet),
        }
    }
    if body.is_empty() && !is_binary {
        body.extend_from_slice(b"0:");
    }
    (body, is_binary)
}

/// What a POST carries.
#[derive(Debug)]
pub(crate) enum Posted<'a> {
    Text(Revision, Cow<'a, str>),
    /// The XHR2 form of revision 3.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Posted<'a> {
    /// Reads a body as what the request says that it is; `None` if it is not that, or not a form of this revision.
    pub(crate) fn read(body: &'a [u8], content_type: &str, form: PollForm) -> Option<Posted<'a>> {
        let is_bytes = content_type.starts_with("application/octet-stream");
        match (form.revision, is_bytes) {
            (Revision::Four, true) => None,
            (Revision::Three, true) => Some(Posted::Bytes(Cow::Borrowed(body))),
            (revision, false) => {
                let text = std::str::from_utf8(body).ok()?;
                let text = match form.callback {
                    Some(_) => Cow::Owned(jsonp::decode(text)?),
                    None => Cow::Borrowed(text),
                };
                Some(Posted::Text(revision, text))
            }
        }
    }

    /// The packet that begins at a place, and where the next one begins; the first is at 0. `None` at the end. Nothing can be
    /// read beyond an error.
    pub(crate) fn packet_at(&self, at: usize) -> Option<(Result<Packet<'_>, PacketError>, usize)> {
        match self {
            Posted::Text(Revision::Four, text) => payload::packet_at(text, at),
            Posted::Text(Revision::Three, text) => payload3::packet_at(text, at),
            Posted::Bytes(body) => payload3::binary_packet_at(body, at),
        }
    }

    /// Bytes of the body.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Posted::Text(_, text) => text.len(),
            Posted::Bytes(body) => body.len(),
        }
    }

    /// The same, for longer than the request is there.
    pub(crate) fn into_owned(self) -> Posted<'static> {
        match self {
            Posted::Text(revision, text) => Posted::Text(revision, Cow::Owned(text.into_owned())),
            Posted::Bytes(body) => Posted::Bytes(Cow::Owned(body.into_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sample = (Opcode, &'static [u8]);

    fn answer(form: PollForm, packets: &[Sample]) -> PollAnswer {
        let mut frames = Vec::new();
        packets.iter().for_each(|(opcode, packet)| frame::append(&mut frames, *opcode, packet));
        let mut body = PollBody::new(form, 0);
        assert_eq!(body.append_frames(&frames, 16), (frames.len(), true));
        body.finish()
    }

    #[test]
    fn revision_3_gets_bytes_only_when_it_must_and_may() {
        let form = PollForm { revision: Revision::Three, ..PollForm::default() };
        let text_only = PollForm { is_text_only: true, ..form };
        let script = PollForm { callback: Some(Callback::parse("7")), ..form };
        let (ascii, euro) = ((Opcode::Text, &b"4a"[..]), (Opcode::Text, "4€".as_bytes()));
        let binary = (Opcode::Binary, &[4, 1, 2, 3, 4][..]);
        let rows: &[(PollForm, &[Sample], &[u8], &str)] = &[
            (form, &[ascii], b"2:4a", "text/plain; charset=UTF-8"),
            (form, &[euro], b"\x00\x04\xff4\xe2\x82\xac", "application/octet-stream"),
            (
                form,
                &[euro, binary],
                b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04",
                "application/octet-stream",
            ),
            (text_only, &[euro, binary], "2:4€10:b4AQIDBA==".as_bytes(), "text/plain; charset=UTF-8"),
            (
                script,
                &[euro, binary],
                "___eio[7](\"2:4€10:b4AQIDBA==\");".as_bytes(),
                "text/javascript; charset=UTF-8",
            ),
        ];
        for (form, packets, expected, content_type) in rows {
            let answer = answer(*form, packets);
            assert_eq!(answer.body, *expected, "{}", String::from_utf8_lossy(&answer.body));
            assert_eq!(answer.content_type, *content_type);
            assert_eq!(answer.is_script, form.callback.is_some());
        }
    }

    #[test]
    fn packets_are_counted_over_several_pieces() {
        let form = PollForm { revision: Revision::Three, ..PollForm::default() };
        let mut frames = Vec::new();
        frame::append(&mut frames, Opcode::Text, b"4a");
        let mut body = PollBody::new(form, 0);
        assert_eq!(body.append_frames(&frames, 2), (4, true));
        let twice = [frames.as_slice(), &frames].concat();
        assert_eq!(body.append_frames(&twice, 2), (4, false));
        body.append("1");
        assert_eq!(body.finish().body, b"2:4a2:4a1:1");
        assert_eq!(PollBody::new(form, 0).finish().body, b"0:");
    }

    #[test]
    fn a_post_is_read_as_its_type_says() {
        let four = PollForm::default();
        let three = PollForm { revision: Revision::Three, ..four };
        let script = PollForm { callback: Some(Callback::parse("0")), ..three };
        let rows: &[(&[u8], &str, PollForm, Option<usize>)] = &[
            (b"4a\x1e4b", "text/plain;charset=UTF-8", four, Some(2)),
            (b"2:4a2:4b", "text/plain;charset=UTF-8", three, Some(2)),
            (b"\x00\x02\xff4a\x01\x02\xff\x04\x01", "application/octet-stream", three, Some(2)),
            (b"d=2%3A4a2%3A4b", "application/x-www-form-urlencoded", script, Some(2)),
            (
                b"d=4a%1e4b",
                "application/x-www-form-urlencoded",
                PollForm { callback: script.callback, ..four },
                Some(2),
            ),
            (b"4a", "application/octet-stream", four, None),
            (b"\xff", "text/plain", three, None),
            (b"x=1", "", script, None),
        ];
        for (body, content_type, form, expected) in rows {
            let posted = Posted::read(body, content_type, *form);
            let count = posted.as_ref().map(|posted| {
                let mut at = 0;
                std::iter::from_fn(|| {
                    let (packet, next) = posted.packet_at(at)?;
                    at = next;
                    packet.ok()
                })
                .count()
            });
            assert_eq!(count, *expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
