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

/// The width of the widest window, in bits: 32 KiB (§7.1.2).
pub(crate) const WINDOW_BITS_MAX: u8 = 15;

/// That of the narrowest one which the compressor has. An offer may ask for 8.
pub(crate) const WINDOW_BITS_MIN: u8 = 9;

/// The empty block at the end of a flush: cut off before sending, put back before reading (§7.2.1, §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// A compressor for one message at a time.
// Invariant: what is kept has ended its last message. After an abandoned one a reset is not enough: the backend's fastest
// level goes on with the block that it had begun, into the next message.
#[derive(Debug)]
pub(crate) struct Deflater {
    window_bits: u8,
    kept: Option<Compress>,
}

impl Default for Deflater {
    fn default() -> Deflater {
        Deflater::new(WINDOW_BITS_MAX)
    }
}

impl Deflater {
    /// One whose messages refer back by so much at most, [`WINDOW_BITS_MIN`] to [`WINDOW_BITS_MAX`] (§7.1.2.1).
    pub(crate) fn new(window_bits: u8) -> Deflater {
        Deflater { window_bits, kept: None }
    }

    /// Appends the compressed payload (§7.2.1). False, with `out` as it was, if that would not be shorter.
    pub(crate) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let fresh = || Compress::new_with_window_bits(Compression::fast(), false, self.window_bits);
        let mut compress = self.kept.take().unwrap_or_else(fresh);
        let start = out.len();
        // With so much room and no more, what does not fit is not worth it.
        out.reserve_exact(payload.len() + TAIL.len());
        let is_done = matches!(compress.compress_vec(payload, out, FlushCompress::Sync), Ok(Status::Ok))
            && compress.total_in() == payload.len() as u64
            && out[start..].ends_with(&TAIL)
            && out.len() - start < payload.len() + TAIL.len();
        if !is_done {
            out.truncate(start);
            return false;
        }
        compress.reset();
        self.kept = Some(compress);
        out.truncate(out.len() - TAIL.len());
        true
    }
}

/// What may come out of a compressed message.
///
/// The work of reading messages is in proportion to the bytes that their sender sent, less as much as one largest message: a
/// single message may shrink to a thousandth of its size, a row of such messages may not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InflateLimits {
    pub(crate) bytes_max: usize,
    /// Bytes that each byte of a payload pays for.
    pub(crate) ratio_max: usize,
    /// What the connection's messages have inflated to beyond what was paid for.
    pub(crate) debt: usize,
}

impl InflateLimits {
    /// A bound in bytes alone.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn bytes(bytes_max: usize) -> InflateLimits {
        InflateLimits { bytes_max, ratio_max: usize::MAX, debt: 0 }
    }

    /// The bytes that a payload of this length may inflate to, and what it is called if it exceeds them.
    fn of(self, payload_len: usize) -> (usize, FrameError) {
        let paid = payload_len.saturating_mul(self.ratio_max);
        let allowed = self.bytes_max.saturating_sub(self.debt).saturating_add(paid);
        match allowed < self.bytes_max {
            true => (allowed, FrameError::InflatesTooMuch),
            false => (self.bytes_max, FrameError::TooBig),
        }
    }

    /// The debt behind a message.
    pub(crate) fn debt_after(self, payload_len: usize, inflated_len: usize) -> usize {
        (self.debt + inflated_len).saturating_sub(payload_len.saturating_mul(self.ratio_max))
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
    /// More comes out of it than `limits` allow, it is no DEFLATE, or it is text and not UTF-8.
    pub(crate) fn message<'a>(
        &mut self,
        is_text: bool,
        payload: &[u8],
        limits: InflateLimits,
        out: &'a mut Vec<u8>,
    ) -> Result<Incoming<'a>, FrameError> {
        self.0.reset(false);
        let (bytes_max, excess) = limits.of(payload.len());
        for input in [payload, &TAIL] {
            self.feed(input, bytes_max, out).map_err(|error| match error {
                FrameError::TooBig => excess,
                error => error,
            })?;
        }
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
    use crate::protocol::mixed::{Mixed, mixed};

    fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::new();
        match Inflater::default().message(false, payload, InflateLimits::bytes(bytes_max), &mut out)? {
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
            let refused =
                Inflater::default().message(true, &payload, InflateLimits::bytes(bytes_max), &mut out);
            assert_eq!(refused, Err(FrameError::TooBig));
            assert!(out.capacity() <= bytes_max + 1, "{bytes_max}: {}", out.capacity());
        }
    }

    #[test]
    fn what_a_byte_inflates_to_is_bounded_beyond_one_largest_message() {
        const BYTES_MAX: usize = 100_000;
        let inflate_all = |lens: &[usize], ratio_max| {
            let (mut debt, mut out) = (0, Vec::new());
            for len in lens {
                let mut payload = Vec::new();
                assert!(Deflater::default().compress(&vec![b'a'; *len], &mut payload));
                let limits = InflateLimits { bytes_max: BYTES_MAX, ratio_max, debt };
                out.clear();
                Inflater::default().message(false, &payload, limits, &mut out)?;
                debt = limits.debt_after(payload.len(), *len);
            }
            Ok(debt)
        };
        // Some 300 times its size: once it may, and a second time it may not.
        assert!(inflate_all(&[BYTES_MAX], 1).is_ok_and(|debt| debt > BYTES_MAX - 1_000));
        assert_eq!(inflate_all(&[BYTES_MAX, BYTES_MAX], 1), Err(FrameError::InflatesTooMuch));
        assert_eq!(inflate_all(&[10_000; 12], 1), Err(FrameError::InflatesTooMuch));
        assert_eq!(inflate_all(&[BYTES_MAX + 1], 1), Err(FrameError::TooBig));
        // Messages below the ratio leave no debt.
        assert_eq!(inflate_all(&[BYTES_MAX; 9], 2_000), Ok(0));
    }

    #[test]
    fn text_is_checked_after_it_is_inflated() {
        let mut payload = Vec::new();
        assert!(Deflater::default().compress(&[0xff; 100], &mut payload));
        let mut out = Vec::new();
        let refused = Inflater::default().message(true, &payload, InflateLimits::bytes(100), &mut out);
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
                let inflated = inflater.message(false, &payload[4..], InflateLimits::bytes(message.len()), &mut out);
                prop_assert_eq!(inflated, Ok(Incoming::Binary(Cow::Borrowed(message))));
            }
        }

        #[test]
        fn any_bytes_end_in_a_message_or_an_error(payload in vec(any::<u8>(), 0..200)) {
            fuzz::inflate(&payload);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_sequence_of_messages_inflates_one_by_one(
            window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX,
            messages in vec(mixed(), 1..8),
        ) {
            let mut deflater = Deflater::new(window_bits);
            // The last one shrinks, so that something is inflated after whatever came before.
            for message in messages.iter().chain([&Mixed { len: 5_000, noise: 0, seed: 1 }]) {
                let message = message.bytes();
                let mut payload = Vec::new();
                if !deflater.compress(&message, &mut payload) { continue }
                let mut inflater = Inflater(Decompress::new_with_window_bits(false, window_bits));
                let mut out = Vec::new();
                let inflated = inflater.message(false, &payload, InflateLimits::bytes(message.len()), &mut out).map(drop);
                prop_assert_eq!(inflated, Ok(()));
                prop_assert!(out == message, "{} bytes differ", message.len());
            }
        }

    }
}
