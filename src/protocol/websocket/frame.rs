//! Frames: the header, and whole frames from a server (RFC 6455 §5.2, §5.5).
//!
//! Bytes in, `FrameHeader` out, and back. Does not unmask a payload (`mask`), does not join fragments
//! (`message`), keeps no state between calls.

use std::fmt;

use crate::base::limits::{CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX};

use super::close::CloseCode;
use super::mask;

// The first byte: FIN, three reserved bits, the opcode.
const FINAL_BIT: u8 = 0x80;
const RESERVED_SHIFT: u32 = 4;
const OPCODE_BITS: u8 = 0x0f;
const CONTROL_OPCODE_BIT: u8 = 0x08;
// The second byte: MASK, and the length or where to find it.
const MASK_BIT: u8 = 0x80;
const LEN_BITS: u8 = 0x7f;

/// RSV1 among the reserved bits: the first frame of a message that permessage-deflate has compressed (RFC 7692 §6).
pub(crate) const RESERVED_DEFLATE: u8 = 0b100;

/// The longest payload whose length fits the second byte (RFC 6455 §5.2).
const SHORT_LEN_MAX: usize = 125;
/// In the second byte: the length is in the next two bytes.
const LEN_IN_2_BYTES: u8 = 126;
/// In the second byte: the length is in the next eight bytes.
const LEN_IN_8_BYTES: u8 = 127;
/// The longest payload whose length fits two bytes.
const MEDIUM_LEN_MAX: usize = u16::MAX as usize;
/// Of an 8-byte length, the bit that must be zero (RFC 6455 §5.2).
const LEN_TOP_BIT: u64 = 1 << 63;

/// A server's header: no mask.
const SERVER_HEADER_BYTES_MAX: usize = FRAME_HEADER_BYTES_MAX - 4;

/// What [`begin`] keeps free: the header of a payload of 126 to 65,535 bytes. A shorter payload moves two
/// bytes down, which is at most 125 bytes to move; only one beyond 64 KiB pays for a real move.
const HEADER_ROOM_BYTES: usize = 4;

// A close frame from us must always have the short header.
const _: () = assert!(CONTROL_PAYLOAD_BYTES_MAX <= SHORT_LEN_MAX);

/// What a frame carries (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    /// Close, ping or pong: never fragmented, never long, welcome between fragments (RFC 6455 §5.5).
    pub(crate) fn is_control(self) -> bool {
        self as u8 & CONTROL_OPCODE_BIT != 0
    }
}

/// A frame without its payload, which follows it at `header_len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) is_final: bool,
    /// RSV1 to RSV3 as the bits 2 to 0.
    pub(crate) reserved: u8,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) payload_len: usize,
    pub(crate) header_len: usize,
}

/// How the peer broke RFC 6455. The connection is over: send a close frame with the code, then hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    ReservedBits,
    UnknownOpcode,
    ControlFragmented,
    ControlTooLong,
    LengthNotMinimal,
    LengthTopBit,
    TooBig,
    Unmasked,
    Masked,
    ContinuationWithoutStart,
    StartWithinMessage,
    TooManyFragments,
    TextNotUtf8,
    CloseTooShort,
    CloseCodeInvalid,
    CloseReasonNotUtf8,
    NotDeflate,
    InflatesTooMuch,
}

impl FrameError {
    #[cfg(test)]
    pub(crate) const ALL: [FrameError; 18] = [
        FrameError::ReservedBits,
        FrameError::UnknownOpcode,
        FrameError::ControlFragmented,
        FrameError::ControlTooLong,
        FrameError::LengthNotMinimal,
        FrameError::LengthTopBit,
        FrameError::TooBig,
        FrameError::Unmasked,
        FrameError::Masked,
        FrameError::ContinuationWithoutStart,
        FrameError::StartWithinMessage,
        FrameError::TooManyFragments,
        FrameError::TextNotUtf8,
        FrameError::CloseTooShort,
        FrameError::CloseCodeInvalid,
        FrameError::CloseReasonNotUtf8,
        FrameError::NotDeflate,
        FrameError::InflatesTooMuch,
    ];

    /// What to tell the peer (RFC 6455 §7.4.1).
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            FrameError::ReservedBits
            | FrameError::UnknownOpcode
            | FrameError::ControlFragmented
            | FrameError::ControlTooLong
            | FrameError::LengthNotMinimal
            | FrameError::LengthTopBit
            | FrameError::Unmasked
            | FrameError::Masked
            | FrameError::ContinuationWithoutStart
            | FrameError::StartWithinMessage
            | FrameError::CloseTooShort
            | FrameError::CloseCodeInvalid => CloseCode::PROTOCOL_ERROR,
            FrameError::TextNotUtf8 | FrameError::CloseReasonNotUtf8 | FrameError::NotDeflate => {
                CloseCode::INVALID_PAYLOAD
            }
            FrameError::TooBig | FrameError::TooManyFragments | FrameError::InflatesTooMuch => {
                CloseCode::TOO_BIG
            }
        }
    }

    /// One sentence for the close frame and the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            FrameError::ReservedBits => "reserved bits are set that no negotiated extension allows here",
            FrameError::UnknownOpcode => "unknown opcode",
            FrameError::ControlFragmented => "a control frame must not be fragmented",
            FrameError::ControlTooLong => "a control frame carries at most 125 bytes",
            FrameError::LengthNotMinimal => "the payload length is not in its shortest form",
            FrameError::LengthTopBit => "the payload length has its top bit set",
            FrameError::TooBig => "the message has more bytes than max_http_buffer_size allows",
            FrameError::Unmasked => "frames from a client must be masked",
            FrameError::Masked => "frames from a server must not be masked",
            FrameError::ContinuationWithoutStart => "a continuation frame without a message to continue",
            FrameError::StartWithinMessage => "a new message before the fragmented one has ended",
            FrameError::TooManyFragments => "the message has more fragments than fragments_max",
            FrameError::TextNotUtf8 => "a text message must be UTF-8",
            FrameError::CloseTooShort => "the body of a close frame must begin with a code of two bytes",
            FrameError::CloseCodeInvalid => "this close code must not be sent",
            FrameError::CloseReasonNotUtf8 => "the reason in a close frame must be UTF-8",
            FrameError::NotDeflate => "the compressed payload is not DEFLATE",
            FrameError::InflatesTooMuch => "messages inflate to more than inflate_ratio_max times their size",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

/// Reads the header at the start of `input`; `None` while it is incomplete.
///
/// Reserved bits other than `reserved_allowed` are refused, and so are any on a frame that does not begin a message.
/// What is wrong with a header is found here, before the payload has to be kept: a data frame of more than
/// `payload_len_max` bytes too. Control frames have their own bound.
#[inline]
pub(crate) fn decode(
    input: &[u8],
    payload_len_max: usize,
    reserved_allowed: u8,
) -> Result<Option<FrameHeader>, FrameError> {
    let &[first, second, ref rest @ ..] = input else { return Ok(None) };
    let reserved = first >> RESERVED_SHIFT & 0b111;
    if reserved & !reserved_allowed != 0 {
        return Err(FrameError::ReservedBits);
    }
    let Some(opcode) = Opcode::from_bits(first & OPCODE_BITS) else { return Err(FrameError::UnknownOpcode) };
    if reserved != 0 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(FrameError::ReservedBits);
    }
    let is_final = first & FINAL_BIT != 0;
    let short_len = second & LEN_BITS;
    if opcode.is_control() {
        if !is_final {
            return Err(FrameError::ControlFragmented);
        }
        if usize::from(short_len) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(FrameError::ControlTooLong);
        }
    }
    let Some((payload_len, rest)) = decode_len(short_len, rest)? else { return Ok(None) };
    if payload_len > payload_len_max && !opcode.is_control() {
        return Err(FrameError::TooBig);
    }
    let (mask, rest) = if second & MASK_BIT == 0 {
        (None, rest)
    } else {
        let Some((&key, rest)) = rest.split_first_chunk() else { return Ok(None) };
        (Some(key), rest)
    };
    let header_len = input.len() - rest.len();
    Ok(Some(FrameHeader { is_final, reserved, opcode, mask, payload_len, header_len }))
}

/// The payload's length, and what follows it.
#[inline]
fn decode_len(short_len: u8, rest: &[u8]) -> Result<Option<(usize, &[u8])>, FrameError> {
    match short_len {
        LEN_IN_2_BYTES => {
            let Some((&len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let len = usize::from(u16::from_be_bytes(len));
            if len <= SHORT_LEN_MAX { Err(FrameError::LengthNotMinimal) } else { Ok(Some((len, rest))) }
        }
        LEN_IN_8_BYTES => {
            let Some((&len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let len = u64::from_be_bytes(len);
            if len & LEN_TOP_BIT != 0 {
                return Err(FrameError::LengthTopBit);
            }
            if len <= MEDIUM_LEN_MAX as u64 {
                return Err(FrameError::LengthNotMinimal);
            }
            let len = usize::try_from(len).map_err(|_| FrameError::TooBig)?;
            Ok(Some((len, rest)))
        }
        _ => Ok(Some((usize::from(short_len), rest))),
    }
}

/// Where a frame that is being written begins. Made by [`begin`], spent by [`finish`].
// Invariant: `HEADER_ROOM_BYTES` of room lie at this place of the buffer.
#[derive(Debug)]
#[must_use = "the frame has no header until `finish`"]
pub(crate) struct FrameStart(usize);

/// Keeps room for a header at the end of `out`. The caller appends the payload, then calls [`finish`].
#[inline]
pub(crate) fn begin(out: &mut Vec<u8>) -> FrameStart {
    let start = FrameStart(out.len());
    out.extend_from_slice(&[0; HEADER_ROOM_BYTES]);
    start
}

/// Makes everything since [`begin`] the payload of one final, unmasked frame.
#[inline]
pub(crate) fn finish(out: &mut Vec<u8>, start: FrameStart, opcode: Opcode) {
    let FrameStart(start) = start;
    let room_end = start + HEADER_ROOM_BYTES;
    assert!(out.len() >= room_end, "a frame is finished in the buffer it was begun in");
    let payload_len = out.len() - room_end;
    let (header, header_len) = encode_header(opcode, payload_len);
    if header_len < HEADER_ROOM_BYTES {
        out.copy_within(room_end.., start + header_len);
        out.truncate(start + header_len + payload_len);
    } else if header_len > HEADER_ROOM_BYTES {
        out.resize(start + header_len + payload_len, 0);
        out.copy_within(room_end..room_end + payload_len, start + header_len);
    }
    out[start..start + header_len].copy_from_slice(&header[..header_len]);
}

/// Appends one final, unmasked frame.
pub(crate) fn append(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, header_len) = encode_header(opcode, payload.len());
    out.reserve(header_len + payload.len());
    out.extend_from_slice(&header[..header_len]);
    out.extend_from_slice(payload);
}

/// Appends one final, unmasked frame whose payload permessage-deflate has compressed (RFC 7692 §6).
pub(crate) fn append_compressed(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let start = out.len();
    append(out, opcode, payload);
    out[start] |= RESERVED_DEFLATE << RESERVED_SHIFT;
}

/// Appends one final frame as a client sends it.
pub(crate) fn append_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    let (mut header, header_len) = encode_header(opcode, payload.len());
    header[1] |= MASK_BIT;
    out.reserve(header_len + key.len() + payload.len());
    out.extend_from_slice(&header[..header_len]);
    out.extend_from_slice(&key);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    mask::unmask(&mut out[payload_start..], key);
}

/// Turns the frame that begins at `start` into a fragment that is not its message's last.
#[cfg(any(test, fuzzing))]
pub(crate) fn clear_final(out: &mut [u8], start: usize) {
    out[start] &= !FINAL_BIT;
}

/// Walks a buffer of whole frames as this server writes them: unmasked and final.
///
/// Anything else is our own fault: it ends the walk, and a debug build stops.
pub(crate) fn server_frames(bytes: &[u8]) -> impl Iterator<Item = (Opcode, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let frame = split_server_frame(rest);
        debug_assert!(frame.is_some(), "a queue of server frames holds whole, final, unmasked frames only");
        let (opcode, payload, after) = frame?;
        rest = after;
        Some((opcode, payload))
    })
    .fuse()
}

/// How many bytes of whole server frames the first `frames_max` of them are, and how many frames those are.
pub(crate) fn measure(bytes: &[u8], frames_max: usize) -> (usize, usize) {
    let mut count = 0;
    let mut covered = 0;
    for (_, payload) in server_frames(bytes).take(frames_max) {
        covered = payload.as_ptr() as usize + payload.len() - bytes.as_ptr() as usize;
        count += 1;
    }
    (covered, count)
}

/// The first frame of a buffer, and what follows it; `None` if it is not whole, final and unmasked, without extensions.
pub(crate) fn split_server_frame(bytes: &[u8]) -> Option<(Opcode, &[u8], &[u8])> {
    let header = decode(bytes, usize::MAX, 0).ok()??;
    if header.mask.is_some() || !header.is_final {
        return None;
    }
    let (payload, after) = bytes.get(header.header_len..)?.split_at_checked(header.payload_len)?;
    Some((header.opcode, payload, after))
}

/// The shortest header of a final, unmasked frame, and its length (RFC 6455 §5.2).
#[inline]
fn encode_header(opcode: Opcode, payload_len: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    assert!(
        payload_len <= CONTROL_PAYLOAD_BYTES_MAX || !opcode.is_control(),
        "a control frame is cut to 125 bytes before it is encoded"
    );
    let mut header = [0; SERVER_HEADER_BYTES_MAX];
    header[0] = FINAL_BIT | opcode as u8;
    if payload_len <= SHORT_LEN_MAX {
        header[1] = payload_len as u8;
        (header, 2)
    } else if payload_len <= MEDIUM_LEN_MAX {
        header[1] = LEN_IN_2_BYTES;
        header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        (header, 4)
    } else {
        header[1] = LEN_IN_8_BYTES;
        header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        (header, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 12] = [0, 1, 2, 5, 124, 125, 126, 127, 65_534, 65_535, 65_536, 70_001];

    #[test]
    fn s5_2_begin_and_finish_write_what_append_writes() {
        for len in LENGTHS {
            let payload: Vec<u8> = (0..len).map(|place| place as u8).collect();
            let (mut appended, mut built) = (b"before".to_vec(), b"before".to_vec());
            append(&mut appended, Opcode::Binary, &payload);
            append(&mut appended, Opcode::Text, b"after");
            let start = begin(&mut built);
            built.extend_from_slice(&payload);
            finish(&mut built, start, Opcode::Binary);
            let start = begin(&mut built);
            built.extend_from_slice(b"after");
            finish(&mut built, start, Opcode::Text);
            assert!(appended == built, "{len} bytes");

            let frames: Vec<_> = server_frames(&built[6..]).collect();
            assert_eq!(frames, [(Opcode::Binary, &payload[..]), (Opcode::Text, b"after")]);
        }
    }

    #[test]
    fn s5_2_the_header_is_the_shortest_and_reads_back() {
        for (len, header_len) in LENGTHS.into_iter().zip([2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 10, 10]) {
            let payload = vec![7; len];
            let mut bytes = Vec::new();
            append_masked(&mut bytes, Opcode::Text, &payload, [1, 2, 3, 4]);
            let mask = Some([1, 2, 3, 4]);
            let header_len = header_len + 4;
            let expected = FrameHeader {
                is_final: true,
                reserved: 0,
                opcode: Opcode::Text,
                mask,
                payload_len: len,
                header_len,
            };
            assert_eq!(decode(&bytes, len, 0), Ok(Some(expected)));
            assert_eq!(decode(&bytes[..header_len], len, 0), Ok(Some(expected)), "the payload is not needed");
            for cut in 0..header_len {
                assert_eq!(decode(&bytes[..cut], len, 0), Ok(None), "cut at {cut}");
            }
            if let Some(too_small) = len.checked_sub(1) {
                assert_eq!(decode(&bytes, too_small, 0), Err(FrameError::TooBig));
                assert_eq!(
                    decode(&bytes[..header_len - 4], too_small, 0),
                    Err(FrameError::TooBig),
                    "found early"
                );
            }
        }
    }

    #[test]
    fn s5_5_the_limit_of_messages_is_not_the_limit_of_control_frames() {
        let mut bytes = Vec::new();
        append(&mut bytes, Opcode::Ping, &[0; CONTROL_PAYLOAD_BYTES_MAX]);
        assert!(decode(&bytes, 0, 0).unwrap().is_some());
    }

    #[test]
    fn s7_4_every_reason_fits_a_close_frame() {
        for error in FrameError::ALL {
            assert!(error.to_string().len() <= super::super::close::CLOSE_REASON_BYTES_MAX, "{error}");
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "whole, final, unmasked frames only"))]
    fn a_broken_queue_ends_the_walk() {
        let mut bytes = Vec::new();
        append(&mut bytes, Opcode::Text, b"whole");
        append(&mut bytes, Opcode::Text, b"cut");
        bytes.pop();
        let frames: Vec<_> = server_frames(&bytes).collect();
        assert_eq!(frames, [(Opcode::Text, &b"whole"[..])]);
    }
}
