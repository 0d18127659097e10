//! Messages: frames joined, checked and lent to the caller (RFC 6455 §5.4-5.6, §8.1).
//!
//! One frame a call, decoded in the caller's buffer; only a fragmented message is ever copied. Does not
//! answer pings or closes, and does not stop by itself after a close frame or an error: the caller does.

use std::borrow::Cow;

use super::close::{self, CloseReason};
use super::frame::{self, FrameError, FrameHeader, Opcode, RESERVED_DEFLATE};
use super::mask;

/// Frames in one message. Empty fragments cost the sender six bytes and pass every limit in bytes, so
/// their number is bounded too. 4 MiB in fragments of 64 bytes (Autobahn 9.3.1) still pass.
pub(crate) const FRAGMENTS_MAX: u32 = 65_536;

/// What a connection accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// Bytes of one message's payload, all its fragments together.
    pub(crate) payload_bytes_max: usize,
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

/// The fragmented message of one connection, if one is open.
#[derive(Debug, Default)]
pub(crate) struct MessageDecoder {
    open: Option<Box<Fragments>>,
}

// Every connection has one, and most of them idle.
const _: () = assert!(size_of::<MessageDecoder>() == size_of::<usize>());

/// The parts of a message so far.
// Invariant: if `is_text` and not `is_compressed`, the first `valid_len` bytes are UTF-8 and the rest begins one more character.
#[derive(Debug)]
struct Fragments {
    is_text: bool,
    is_compressed: bool,
    count: u32,
    valid_len: usize,
    bytes: Vec<u8>,
}

impl MessageDecoder {
    /// Decodes the frame at the start of `input` in place; `None`, with nothing consumed and nothing
    /// changed, while it is incomplete. Otherwise also says how many bytes the frame took.
    ///
    /// A frame that will be refused is refused as soon as its header is there. After an error the bytes may
    /// have been unmasked and the connection is over.
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
        self.check(&header, limits.must_be_masked)?;
        let rest = input.get_mut(header.header_len..).unwrap_or_default();
        let Some(payload) = rest.get_mut(..header.payload_len) else { return Ok(None) };
        if let Some(key) = header.mask {
            mask::unmask(payload, key);
        }
        let incoming = self.accept(&header, payload)?;
        Ok(Some((incoming, header.header_len + header.payload_len)))
    }

    /// What can be known from a header and the frames before it.
    fn check(&self, header: &FrameHeader, must_be_masked: bool) -> Result<(), FrameError> {
        if header.mask.is_some() != must_be_masked {
            return Err(if must_be_masked { FrameError::Unmasked } else { FrameError::Masked });
        }
        match (header.opcode, &self.open) {
            (Opcode::Continuation, None) => Err(FrameError::ContinuationWithoutStart),
            (Opcode::Continuation, Some(open)) if open.count >= FRAGMENTS_MAX => {
                Err(FrameError::TooManyFragments)
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(FrameError::StartWithinMessage),
            _ => Ok(()),
        }
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
        Fragments { is_text, is_compressed, count: 0, valid_len: 0, bytes: Vec::new() }
    }

    /// Keeps one more part. Text that no further part can mend is refused at once.
    fn push(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        self.count += 1;
        self.bytes.extend_from_slice(payload);
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        let unchecked = self.bytes.get(self.valid_len..).unwrap_or_default();
        match simdutf8::compat::from_utf8(unchecked) {
            Ok(_) => self.valid_len = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid_len += error.valid_up_to(),
            Err(_) => return Err(FrameError::TextNotUtf8),
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;

    const LIMITS: MessageLimits =
        MessageLimits { payload_bytes_max: 10, must_be_masked: true, may_be_compressed: false };
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
    fn s5_4_an_incomplete_frame_is_left_as_it_was() {
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
        for _ in 1..FRAGMENTS_MAX {
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
}
