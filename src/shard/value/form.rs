//! Forms: how the frames that one session gets differ from those that all others get.
//!
//! Whatever is emitted is encoded once, in the *canonical* form: WebSocket frames of Engine.IO 4 with packets of
//! the JSON parser. A session with another form gets frames that are made from the canonical ones when they are queued for it:
//! in `Tables::send_frames` for one session, in `Delivery::push` for a broadcast, once for each form that is in use on the shard.
//! A session with the canonical form pays for one look at a byte.
//!
//! A form is made in stages: first the packets (the parser), then the frames (what the connection adds). A session that polls
//! has no connection of its own: its backlog holds what the first stage made, and an upgrade does the second.
//!
//! Example: a client with the msgpack parser on a compressed WebSocket has `MSGPACK | DEFLATE`.
//!
//! To add a form, give it a bit in [`Form`] and a stage in [`Transcoder::transcode`]; set the bit in
//! `Session::form` if it is about packets, in `WebSocketState::form` if it is about frames.

use std::mem;
use std::ops::BitOr;

use smallvec::SmallVec;

use crate::protocol::engineio::payload3;
use crate::protocol::socketio::msgpack;
use crate::protocol::websocket::deflate::{Deflater, WINDOW_BITS_MIN};
use crate::protocol::websocket::extension::Accepted;
use crate::protocol::websocket::frame::{self, Opcode, server_frames};

/// A scratch buffer that has grown beyond this gives its memory back.
const SCRATCH_BYTES_KEPT_MAX: usize = 64 * 1024;

/// How a session's frames differ from the canonical ones. Without any bit they are the canonical ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form(u8);

impl Form {
    /// permessage-deflate was negotiated: large frames are compressed.
    pub(crate) const DEFLATE: Form = Form(1);

    /// Socket.IO packets are those of the msgpack parser: one binary message each.
    pub(crate) const MSGPACK: Form = Form(1 << 1);

    /// Engine.IO 3: a binary message begins with its type.
    pub(crate) const TYPED: Form = Form(1 << 2);

    /// Engine.IO 3 to a WebSocket that takes text only: a binary message, typed before, goes as base64.
    pub(crate) const BASE64: Form = Form(1 << 3);

    /// With [`Form::DEFLATE`]: compressed for a client that keeps the narrow window only.
    pub(crate) const NARROW: Form = Form(1 << 4);

    /// All that is about compression.
    pub(crate) const COMPRESSION: Form = Form(Form::DEFLATE.0 | Form::NARROW.0);

    /// The form of a connection's frames after this answer to its offers.
    pub(crate) fn of_offer(accepted: Option<Accepted>) -> Form {
        match accepted {
            None => Form::default(),
            Some(accepted) if accepted.is_narrow => Form::COMPRESSION,
            Some(_) => Form::DEFLATE,
        }
    }

    /// Whether canonical frames can go out as they are.
    #[inline]
    pub(crate) fn is_canonical(self) -> bool {
        self.0 == 0
    }

    /// The same form without what `other` sets.
    pub(crate) fn without(self, other: Form) -> Form {
        Form(self.0 & !other.0)
    }

    /// Whether all that `other` sets is set here.
    pub(crate) fn has(self, other: Form) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Form {
    type Output = Form;

    fn bitor(self, other: Form) -> Form {
        Form(self.0 | other.0)
    }
}

/// Makes other forms of canonical frames. One a shard; what it needs for a form is made at the form's first use.
#[derive(Debug)]
pub(crate) struct Transcoder {
    /// Payloads smaller than this are not compressed.
    compression_threshold: usize,
    deflater: Option<Deflater>,
    narrow_deflater: Option<Deflater>,
    /// The last payload that was.
    compressed: Vec<u8>,
    /// The last packet of another parser.
    packed: Vec<u8>,
    /// The last binary message of Engine.IO 3.
    typed: Vec<u8>,
}

impl Transcoder {
    pub(crate) fn new(compression_threshold: usize) -> Transcoder {
        Transcoder {
            compression_threshold,
            deflater: None,
            narrow_deflater: None,
            compressed: Vec::new(),
            packed: Vec::new(),
            typed: Vec::new(),
        }
    }

    /// Payloads smaller than this are not compressed from now on.
    pub(crate) fn set_threshold(&mut self, compression_threshold: usize) {
        self.compression_threshold = compression_threshold;
    }

    /// Appends another form of whole packets: each with all of its attachments.
    pub(crate) fn transcode(&mut self, frames: &[u8], form: Form, out: &mut Vec<u8>) {
        if form.has(Form::MSGPACK) {
            return self.pack(frames, form, out);
        }
        for (opcode, payload) in server_frames(frames) {
            self.append(opcode, payload, form, out);
        }
    }

    /// Makes one binary message of every Socket.IO packet; packets of Engine.IO itself stay text.
    fn pack(&mut self, frames: &[u8], form: Form, out: &mut Vec<u8>) {
        let mut frames = server_frames(frames).peekable();
        let mut packed = mem::take(&mut self.packed);
        while let Some((opcode, payload)) = frames.next() {
            let packet = payload.strip_prefix(b"4").filter(|_| opcode == Opcode::Text);
            let Some(packet) = packet.and_then(|packet| std::str::from_utf8(packet).ok()) else {
                self.append(opcode, payload, form, out);
                continue;
            };
            let mut attachments: SmallVec<[&[u8]; 4]> = SmallVec::new();
            while let Some((_, attachment)) = frames.next_if(|(opcode, _)| *opcode == Opcode::Binary) {
                attachments.push(attachment);
            }
            packed.clear();
            match msgpack::encode(&mut packed, packet, &attachments) {
                Ok(()) => self.append(Opcode::Binary, &packed, form, out),
                Err(error) => {
                    tracing::error!(reason = error.reason(), "a packet has no msgpack and is not sent")
                }
            }
        }
        if packed.capacity() <= SCRATCH_BYTES_KEPT_MAX {
            self.packed = packed;
        }
    }

    /// Appends one frame as a connection with this form sends it.
    pub(crate) fn append(&mut self, opcode: Opcode, payload: &[u8], form: Form, out: &mut Vec<u8>) {
        if opcode != Opcode::Binary || form.without(Form::COMPRESSION | Form::MSGPACK).is_canonical() {
            return self.append_frame(opcode, payload, form, out);
        }
        let mut typed = mem::take(&mut self.typed);
        typed.clear();
        match form.has(Form::TYPED) {
            true => payload3::append_typed(&mut typed, payload),
            false => typed.extend_from_slice(payload),
        }
        match form.has(Form::BASE64) {
            true => {
                self.append_frame(Opcode::Text, payload3::base64_packet(&typed).as_bytes(), form, out);
            }
            false => self.append_frame(Opcode::Binary, &typed, form, out),
        }
        if typed.capacity() <= SCRATCH_BYTES_KEPT_MAX {
            self.typed = typed;
        }
    }

    /// Appends a frame, compressed if that is the connection's form.
    fn append_frame(&mut self, opcode: Opcode, payload: &[u8], form: Form, out: &mut Vec<u8>) {
        let is_candidate =
            form.has(Form::DEFLATE) && payload.len() >= self.compression_threshold && !opcode.is_control();
        if is_candidate {
            if self.compressed.capacity() > SCRATCH_BYTES_KEPT_MAX {
                self.compressed = Vec::new();
            }
            self.compressed.clear();
            let deflater = match form.has(Form::NARROW) {
                true => self.narrow_deflater.get_or_insert_with(|| Deflater::new(WINDOW_BITS_MIN)),
                false => self.deflater.get_or_insert_default(),
            };
            if deflater.compress(payload, &mut self.compressed) {
                return frame::append_compressed(out, opcode, &self.compressed);
            }
        }
        frame::append(out, opcode, payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::mixed::Mixed;

    #[test]
    fn only_large_frames_that_shrink_are_compressed() {
        let (small, large) = ("4".repeat(99), "4".repeat(100));
        let incompressible: Vec<u8> =
            (0..100_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut canonical = Vec::new();
        frame::append(&mut canonical, Opcode::Text, small.as_bytes());
        frame::append(&mut canonical, Opcode::Binary, &incompressible);
        let same = canonical.len();
        frame::append(&mut canonical, Opcode::Text, large.as_bytes());
        let mut transcoder = Transcoder::new(100);
        for _ in 0..2 {
            let mut out = Vec::new();
            transcoder.transcode(&canonical, Form::DEFLATE, &mut out);
            assert_eq!(out[..same], canonical[..same]);
            assert_eq!(out[same], 0xc1, "final, compressed, text");
            assert!(out.len() < same + 20);
        }
    }

    #[test]
    fn a_client_with_a_narrow_window_gets_what_refers_back_by_no_more() {
        let noise = Mixed { len: 600, noise: 100, seed: 7 }.bytes();
        let (near, far) = (noise[..100].repeat(24), noise.repeat(4));
        let mut transcoder = Transcoder::new(100);
        for (payload, form, is_compressed) in [
            (&near, Form::DEFLATE, true),
            (&near, Form::COMPRESSION, true),
            (&far, Form::DEFLATE, true),
            // What comes again lies further back than 512 bytes, so nothing shrinks.
            (&far, Form::COMPRESSION, false),
        ] {
            let (mut canonical, mut out) = (Vec::new(), Vec::new());
            frame::append(&mut canonical, Opcode::Text, payload);
            transcoder.transcode(&canonical, form, &mut out);
            assert_eq!((out != canonical, out.len() < 1_500), (is_compressed, is_compressed), "{form:?}");
        }
    }

    #[test]
    fn binary_of_revision_3_has_its_type_and_goes_as_text_where_it_must() {
        let mut canonical = Vec::new();
        frame::append(&mut canonical, Opcode::Text, b"451-[]");
        frame::append(&mut canonical, Opcode::Binary, &[1, 2, 3, 4]);
        let mut transcoder = Transcoder::new(100);
        let mut frames_of = |frames: &[u8], form| {
            let mut out = Vec::new();
            transcoder.transcode(frames, form, &mut out);
            out
        };
        let typed = frames_of(&canonical, Form::TYPED);
        let shown: Vec<_> = server_frames(&typed).collect();
        assert_eq!(shown, [(Opcode::Text, &b"451-[]"[..]), (Opcode::Binary, &[4, 1, 2, 3, 4])]);
        let text = frames_of(&canonical, Form::TYPED | Form::BASE64);
        let shown: Vec<_> = server_frames(&text).collect();
        assert_eq!(shown, [(Opcode::Text, &b"451-[]"[..]), (Opcode::Text, b"b4AQIDBA==")]);
        assert_eq!(frames_of(&typed, Form::BASE64), text, "an upgrade does what its WebSocket adds");
    }
}
