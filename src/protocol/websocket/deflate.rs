//! Payloads of permessage-deflate without context takeover (RFC 7692 §7.2).
//!
//! One message in, one message out: nothing is kept between two, so one [`Deflater`] and one [`Inflater`] serve
//! every connection of a shard. Does not negotiate (`extension`) and does not know frames.

use std::borrow::Cow;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::FrameError;
use super::message::Incoming;

/// The room that a message is given first when it is inflated, in bytes.
const INFLATE_BYTES_MIN: usize = 1024;

/// The empty block at the end of a flush: cut off before sending, put back before reading (§7.2.1, §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A compressor for one message at a time.
#[derive(Debug)]
pub(crate) struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Deflater {
        Deflater(Compress::new(Compression::fast(), false))
    }
}

impl Deflater {
    /// Appends the compressed payload (§7.2.1). False, with `out` as it was, if that would not be shorter.
    pub(crate) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.reset();
        let start = out.len();
        // With so much room and no more, what does not fit is not worth it.
        out.reserve_exact(payload.len() + TAIL.len());
        let is_done = matches!(self.0.compress_vec(payload, out, FlushCompress::Sync), Ok(Status::Ok))
            && self.0.total_in() == payload.len() as u64
            && out[start..].ends_with(&TAIL)
            && out.len() - start < payload.len() + TAIL.len();
        out.truncate(if is_done { out.len() - TAIL.len() } else { start });
        is_done
    }
}

/// A decompressor for one message at a time.
#[derive(Debug)]
pub(crate) struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater(Decompress::new(false))
    }
}

impl Inflater {
    /// Makes a message of its compressed payload, in `out`, which is empty and belongs to the caller.
    ///
    /// # Errors
    /// More than `bytes_max` come out of it, it is no DEFLATE, or it is text and not UTF-8.
    pub(crate) fn message<'a>(
        &mut self,
        is_text: bool,
        payload: &[u8],
        bytes_max: usize,
        out: &'a mut Vec<u8>,
    ) -> Result<Incoming<'a>, FrameError> {
        self.0.reset(false);
        self.feed(payload, bytes_max, out)?;
        self.feed(&TAIL, bytes_max, out)?;
        if !is_text {
            return Ok(Incoming::Binary(Cow::Borrowed(out)));
        }
        let text = simdutf8::basic::from_utf8(out).map_err(|_| FrameError::TextNotUtf8)?;
        Ok(Incoming::Text(Cow::Borrowed(text)))
    }

    /// Inflates all of `input`. No more than a byte beyond `bytes_max` is ever made room for.
    fn feed(&mut self, mut input: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
        loop {
            if out.len() > bytes_max {
                return Err(FrameError::TooBig);
            }
            if out.len() == out.capacity() {
                out.reserve_exact(out.len().max(INFLATE_BYTES_MIN).min(bytes_max + 1 - out.len()));
            }
            let (taken_before, made_before) = (self.0.total_in(), out.len());
            let status = self.0.decompress_vec(input, out, FlushDecompress::Sync);
            let status = status.map_err(|_| FrameError::NotDeflate)?;
            let taken = (self.0.total_in() - taken_before) as usize;
            input = input.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                // A peer may mark a block as the last (§7.2.3.4); what follows begins anew.
                self.0.reset(false);
            } else if taken == 0 && out.len() == made_before && !input.is_empty() {
                return Err(FrameError::NotDeflate);
            }
            if input.is_empty() && out.len() < out.capacity() {
                return if out.len() > bytes_max { Err(FrameError::TooBig) } else { Ok(()) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::fuzz;
    use super::*;

    fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::new();
        match Inflater::default().message(false, payload, bytes_max, &mut out)? {
            Incoming::Binary(bytes) => Ok(bytes.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn s7_2_3_the_samples_of_the_rfc_inflate() {
        for (section, payload, expected) in [
            ("7.2.3.1", "f248cdc9c90700", "Hello"),
            ("7.2.3.2, without the window of the first", "f248cdc9c90700", "Hello"),
            ("7.2.3.3, no compression", "000500faff48656c6c6f00", "Hello"),
            ("7.2.3.4, BFINAL", "f348cdc9c9070000", "Hello"),
            ("7.2.3.5, two blocks", "f248050000 00ffffcac9c90700", "Hello"),
            ("7.2.3.6, an empty block", "00", ""),
            ("nothing at all", "", ""),
        ] {
            let digits: Vec<u8> = payload.bytes().filter(|byte| *byte != b' ').collect();
            let payload: Vec<u8> = digits
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            assert_eq!(inflate(&payload, 5).as_deref(), Ok(expected.as_bytes()), "{section}");
        }
    }

    #[test]
    fn s7_2_3_2_a_back_reference_into_the_message_before_is_refused() {
        // The sample's second message, compressed with the first one's window: we negotiate that away.
        assert_eq!(inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], 100), Err(FrameError::NotDeflate));
    }

    #[test]
    fn s7_2_2_what_is_no_deflate_is_refused() {
        for payload in [&b"\xff\xff\xff\xff"[..], b"\x07", b"\x00\x05\x00\x00\x00"] {
            assert_eq!(inflate(payload, 100), Err(FrameError::NotDeflate), "{payload:x?}");
        }
    }

    #[test]
    fn the_limit_holds_for_what_comes_out_and_is_exact() {
        let bomb = vec![b'a'; 1_000_000];
        let mut payload = Vec::new();
        assert!(Deflater::default().compress(&bomb, &mut payload));
        assert!(payload.len() < 10_000, "{}", payload.len());
        assert_eq!(inflate(&payload, 1_000_000).as_deref(), Ok(&bomb[..]));
        for bytes_max in [0, 1, 1_023, 1_024, 999_999] {
            let mut out = Vec::new();
            let refused = Inflater::default().message(true, &payload, bytes_max, &mut out);
            assert_eq!(refused, Err(FrameError::TooBig));
            assert!(out.capacity() <= bytes_max + 1, "{bytes_max}: {}", out.capacity());
        }
    }

    #[test]
    fn text_is_checked_after_it_is_inflated() {
        let mut payload = Vec::new();
        assert!(Deflater::default().compress(&[0xff; 100], &mut payload));
        let mut out = Vec::new();
        let refused = Inflater::default().message(true, &payload, 100, &mut out);
        assert_eq!(refused, Err(FrameError::TextNotUtf8));
    }

    proptest! {
        #[test]
        fn what_is_compressed_inflates_to_what_it_was(
            messages in vec(vec(0_u8..4, 0..3_000), 1..4),
            noise in vec(any::<u8>(), 0..300),
        ) {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            for message in messages.iter().chain([&noise]) {
                let mut payload = b"kept".to_vec();
                let is_shorter = deflater.compress(message, &mut payload);
                prop_assert!(payload.starts_with(b"kept"));
                prop_assert_eq!(is_shorter, payload.len() > 4);
                if !is_shorter { continue }
                prop_assert!(payload.len() - 4 < message.len());
                let mut out = Vec::new();
                let inflated = inflater.message(false, &payload[4..], message.len(), &mut out);
                prop_assert_eq!(inflated, Ok(Incoming::Binary(Cow::Borrowed(message))));
            }
        }

        #[test]
        fn any_bytes_end_in_a_message_or_an_error(payload in vec(any::<u8>(), 0..200)) {
            fuzz::inflate(&payload);
        }
    }
}
