//! Messages: frames joined, checked and lent to the caller (RFC 6455 §5.4-5.6, §8.1).
//!
//! One frame a call, decoded in the caller's buffer; only a fragmented message is ever copied. Does not
//! answer pings or closes, and does not stop by itself after a close frame or an error: the caller does.

use std::borrow::Cow;

use super::close::{self, CloseReason};
use super::frame::{self, FrameError, FrameHeader, Opcode, RESERVED_DEFLATE};
use super::mask;
use super::utf8::TextCheck;

/// What a connection accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// Bytes of one message's payload, all its fragments together.
    pub(crate) payload_bytes_max: usize,
    /// Frames of one message. Empty fragments cost the sender six bytes and pass every limit in bytes.
    pub(crate) fragments_max: usize,
    /// True on a server, where unmasked frames are refused; false on a client, where masked ones are
    /// (RFC 6455 §5.1).
    pub(crate) must_be_masked: bool,
    /// permessage-deflate was negotiated (RFC 7692).
    pub(crate) may_be_compressed: bool,
}

/// What one frame meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A text message: borrowed from the input unless it was fragmented.
    Text(Cow<'a, str>),
    /// A binary message: borrowed from the input unless it was fragmented.
    Binary(Cow<'a, [u8]>),
    /// A message to inflate: its text has not been checked, and its size is that of what came.
    Compressed {
        is_text: bool,
        payload: Cow<'a, [u8]>,
    },
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(Option<CloseReason<'a>>),
    /// A part of a message that is not yet complete. It has been kept.
    Fragment,
}

/// The message of one connection that has come in part.
#[derive(Debug, Default)]
pub(crate) struct MessageDecoder {
    open: Option<Box<Fragments>>,
}

// Every connection has one, and most of them idle.
const _: () = assert!(size_of::<MessageDecoder>() == size_of::<usize>());

/// The parts of a message so far: whole frames, and how far text is known that arrives within the next one.
// Invariant: if `is_text` and not `is_compressed`, `text` has seen `bytes`, and behind them `arrived_len` bytes of the next frame,
// which lie unmasked in the caller's buffer.
#[derive(Debug)]
struct Fragments {
    is_text: bool,
    is_compressed: bool,
    /// Whole frames. None yet if the message's first frame is still arriving.
    count: usize,
    arrived_len: usize,
    text: TextCheck,
    bytes: Vec<u8>,
}

impl MessageDecoder {
    /// Bytes that are kept of a message whose end has not come.
    #[inline]
    pub(crate) fn len_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.bytes.len())
    }

    /// Whether a message has begun and its end has not come.
    #[inline]
    pub(crate) fn is_within_message(&self) -> bool {
        self.open.is_some()
    }

    /// Decodes the frame at the start of `input` in place; `None`, with nothing consumed, while it is incomplete. The caller
    /// then gives the same bytes again with more behind them: those of a text frame may have been unmasked, as the decoder
    /// remembers. Otherwise also says how many bytes the frame took.
    ///
    /// A frame that will be refused is refused as soon as its header is there, and text with the byte that makes it no
    /// UTF-8. After an error the bytes may have been unmasked and the connection is over.
    #[inline]
    pub(crate) fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: MessageLimits,
    ) -> Result<Option<(Incoming<'a>, usize)>, FrameError> {
        let kept_len = self.open.as_ref().map_or(0, |open| open.bytes.len());
        let payload_len_max = limits.payload_bytes_max.saturating_sub(kept_len);
        let reserved_allowed = if limits.may_be_compressed { RESERVED_DEFLATE } else { 0 };
        let Some(header) = frame::decode(input, payload_len_max, reserved_allowed)? else { return Ok(None) };
        self.check(&header, limits)?;
        let rest = input.get_mut(header.header_len..).unwrap_or_default();
        if rest.len() < header.payload_len {
            self.check_arriving(&header, rest)?;
            return Ok(None);
        }
        let payload = rest.get_mut(..header.payload_len).unwrap_or_default();
        let arrived_len = self.arrived_len(&header);
        unmask_from(payload, arrived_len, header.mask);
        let incoming = self.accept(&header, payload)?;
        Ok(Some((incoming, header.header_len + header.payload_len)))
    }

    /// What can be known from a header and the frames before it.
    fn check(&self, header: &FrameHeader, limits: MessageLimits) -> Result<(), FrameError> {
        if header.mask.is_some() != limits.must_be_masked {
            return Err(if limits.must_be_masked { FrameError::Unmasked } else { FrameError::Masked });
        }
        let count = self.open.as_ref().map_or(0, |open| open.count);
        match header.opcode {
            Opcode::Continuation if count == 0 => Err(FrameError::ContinuationWithoutStart),
            Opcode::Continuation if count >= limits.fragments_max => Err(FrameError::TooManyFragments),
            Opcode::Text | Opcode::Binary if count > 0 => Err(FrameError::StartWithinMessage),
            _ => Ok(()),
        }
    }

    /// How much of this frame's payload has been seen while it arrived.
    #[inline]
    fn arrived_len(&self, header: &FrameHeader) -> usize {
        match &self.open {
            Some(open) if !header.opcode.is_control() => open.arrived_len,
            _ => 0,
        }
    }

    /// Looks at what has come of a frame's payload, if it is text: each byte once.
    #[cold]
    fn check_arriving(&mut self, header: &FrameHeader, payload: &mut [u8]) -> Result<(), FrameError> {
        let is_text = match &self.open {
            Some(open) => open.is_text && !open.is_compressed && !header.opcode.is_control(),
            None => header.opcode == Opcode::Text && header.reserved == 0,
        };
        if !is_text || payload.len() == self.arrived_len(header) {
            return Ok(());
        }
        let open = self.open.get_or_insert_with(|| Box::new(Fragments::new(header)));
        let new = unmask_from(payload, open.arrived_len, header.mask);
        open.arrived_len += new.len();
        if open.text.push(new) { Ok(()) } else { Err(FrameError::TextNotUtf8) }
    }

    /// Makes a value of a whole frame that has passed [`MessageDecoder::check`].
    #[inline]
    fn accept<'a>(&mut self, header: &FrameHeader, payload: &'a [u8]) -> Result<Incoming<'a>, FrameError> {
        match header.opcode {
            Opcode::Text | Opcode::Binary if header.reserved != 0 && header.is_final => {
                let is_text = header.opcode == Opcode::Text;
                Ok(Incoming::Compressed { is_text, payload: Cow::Borrowed(payload) })
            }
            Opcode::Text if header.is_final => {
                self.open = None;
                let text = simdutf8::basic::from_utf8(payload).map_err(|_| FrameError::TextNotUtf8)?;
                Ok(Incoming::Text(Cow::Borrowed(text)))
            }
            Opcode::Binary if header.is_final => Ok(Incoming::Binary(Cow::Borrowed(payload))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.accept_fragment(header, payload),
            Opcode::Ping => Ok(Incoming::Ping(payload)),
            Opcode::Pong => Ok(Incoming::Pong(payload)),
            Opcode::Close => Ok(Incoming::Close(close::decode(payload)?)),
        }
    }

    #[cold]
    fn accept_fragment(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Incoming<'static>, FrameError> {
        let mut open = self.open.take().unwrap_or_else(|| Box::new(Fragments::new(header)));
        open.push(payload)?;
        open.arrived_len = 0;
        if header.is_final {
            return open.finish();
        }
        self.open = Some(open);
        Ok(Incoming::Fragment)
    }
}

impl Fragments {
    fn new(start: &FrameHeader) -> Fragments {
        let (is_text, is_compressed) = (start.opcode == Opcode::Text, start.reserved != 0);
        let (text, bytes) = (TextCheck::default(), Vec::new());
        Fragments { is_text, is_compressed, count: 0, arrived_len: 0, text, bytes }
    }

    /// Keeps one more frame. Text that no further part can mend is refused at once.
    fn push(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        self.count += 1;
        self.bytes.extend_from_slice(payload);
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        let new = payload.get(self.arrived_len..).unwrap_or_default();
        if self.text.push(new) { Ok(()) } else { Err(FrameError::TextNotUtf8) }
    }

    /// The whole message. Its text has been checked part by part; the standard library checks once more,
    /// which is the price of a `String` without unsafe code.
    fn finish(self) -> Result<Incoming<'static>, FrameError> {
        if self.is_compressed {
            return Ok(Incoming::Compressed { is_text: self.is_text, payload: Cow::Owned(self.bytes) });
        }
        if !self.is_text {
            return Ok(Incoming::Binary(Cow::Owned(self.bytes)));
        }
        let text = String::from_utf8(self.bytes).map_err(|_| FrameError::TextNotUtf8)?;
        Ok(Incoming::Text(Cow::Owned(text)))
    }
}

/// Unmasks what lies behind the first `done` bytes of a payload, and lends it.
#[inline]
fn unmask_from(payload: &mut [u8], done: usize, mask: Option<[u8; 4]>) -> &[u8] {
    let new = payload.get_mut(done..).unwrap_or_default();
    if let Some(key) = mask {
        // The key's byte for the first of them becomes its first.
        let key = u32::from_le_bytes(key).rotate_right(8 * (done % 4) as u32);
        mask::unmask(new, key.to_le_bytes());
    }
    new
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;

    const LIMITS: MessageLimits = MessageLimits {
        payload_bytes_max: 10,
        fragments_max: 1_000,
        must_be_masked: true,
        may_be_compressed: false,
    };
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn s5_4_whole_messages_borrow_the_input_and_fragmented_ones_do_not() {
        let mut bytes = Vec::new();
        frame::append_masked(&mut bytes, Opcode::Text, b"whole", KEY);
        let mut decoder = MessageDecoder::default();
        let (incoming, consumed) = decoder.next(&mut bytes, LIMITS).unwrap().unwrap();
        assert!(matches!(incoming, Incoming::Text(Cow::Borrowed("whole"))));
        assert_eq!(consumed, bytes.len());

        let mut bytes = Vec::new();
        client::append_fragment(&mut bytes, (Opcode::Text, false), b"pa", KEY);
        let first_len = bytes.len();
        client::append_fragment(&mut bytes, (Opcode::Continuation, true), b"rts", KEY);
        let (incoming, consumed) = decoder.next(&mut bytes, LIMITS).unwrap().unwrap();
        assert_eq!((incoming, consumed), (Incoming::Fragment, first_len));
        let (incoming, _) = decoder.next(&mut bytes[first_len..], LIMITS).unwrap().unwrap();
        assert_eq!(incoming, Incoming::Text(Cow::Owned("parts".to_owned())));
        assert!(decoder.open.is_none(), "an idle connection keeps no buffer");
    }

    #[test]
    fn s5_4_an_incomplete_frame_of_bytes_is_left_as_it_was() {
        let mut bytes = Vec::new();
        frame::append_masked(&mut bytes, Opcode::Binary, b"0123456789", KEY);
        for cut in 0..bytes.len() {
            let mut part = bytes[..cut].to_vec();
            assert_eq!(MessageDecoder::default().next(&mut part, LIMITS), Ok(None));
            assert_eq!(part, bytes[..cut]);
        }
    }

    #[test]
    fn s5_4_a_flood_of_empty_fragments_closes_1009() {
        let mut decoder = MessageDecoder::default();
        let mut start = Vec::new();
        client::append_fragment(&mut start, (Opcode::Text, false), b"", KEY);
        decoder.next(&mut start, LIMITS).unwrap();
        let mut more = Vec::new();
        client::append_fragment(&mut more, (Opcode::Continuation, false), b"", KEY);
        let more_len = more.len();
        for _ in 1..LIMITS.fragments_max {
            assert_eq!(decoder.next(&mut more, LIMITS), Ok(Some((Incoming::Fragment, more_len))));
        }
        assert_eq!(decoder.next(&mut more, LIMITS), Err(FrameError::TooManyFragments));
    }

    #[test]
    fn s10_4_a_message_that_will_be_too_big_is_refused_before_its_payload_arrives() {
        let mut decoder = MessageDecoder::default();
        let mut start = Vec::new();
        client::append_fragment(&mut start, (Opcode::Binary, false), b"012345", KEY);
        decoder.next(&mut start, LIMITS).unwrap();
        for (payload_len, expected) in [(4, Ok(None)), (5, Err(FrameError::TooBig))] {
            let mut header_only = [0x80, 0x80 | payload_len, 0, 0, 0, 0];
            assert_eq!(decoder.next(&mut header_only, LIMITS), expected);
        }
    }

    #[test]
    fn s8_1_bad_text_is_refused_while_its_frame_still_arrives() {
        // Autobahn 6.4.3 and 6.4.4: one frame, sent in parts; the byte behind F4 makes it no UTF-8.
        let text = b"\xce\xba\xf4\x90\x80\x80abcd";
        for (opcodes, start) in [(vec![Opcode::Text], 0), (vec![Opcode::Text, Opcode::Continuation], 3)] {
            let mut bytes = Vec::new();
            for (place, opcode) in opcodes.iter().enumerate() {
                let part = match (place, start) {
                    (0, 0) => &text[..],
                    (0, start) => &text[..start],
                    (_, start) => &text[start..],
                };
                client::append_fragment(&mut bytes, (*opcode, place + 1 == opcodes.len()), part, KEY);
            }
            let (mut decoder, mut buffer, mut seen) = (MessageDecoder::default(), Vec::new(), 0);
            let refused = bytes.iter().position(|byte| {
                buffer.push(*byte);
                seen += 1;
                match decoder.next(&mut buffer, LIMITS) {
                    Ok(Some((_, len))) => drop(buffer.drain(..len)),
                    Ok(None) => {}
                    Err(error) => {
                        assert_eq!(error, FrameError::TextNotUtf8);
                        return true;
                    }
                }
                false
            });
            assert_eq!(refused, Some(bytes.len() - 7), "with the byte 90, of {} frames", opcodes.len());
            assert_eq!(seen, bytes.len() - 6);
        }
    }
}
