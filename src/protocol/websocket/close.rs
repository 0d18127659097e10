//! Close codes and the body of a close frame (RFC 6455 §5.5.1, §7.4).
//!
//! Does not decide when a connection closes, and does not keep track of the closing handshake.

use crate::base::limits::CONTROL_PAYLOAD_BYTES_MAX;

use super::frame::{self, FrameError, Opcode};

/// Bytes of a close code at the start of a close frame's body (RFC 6455 §5.5.1).
const CLOSE_CODE_BYTES: usize = 2;

/// What a control frame leaves for the reason once the code is written.
pub(crate) const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - CLOSE_CODE_BYTES;

/// Why a WebSocket connection is closed, as a number that may travel in a close frame (RFC 6455 §7.4).
///
/// 1000 to 1014 are the protocol's own, 3000 to 3999 are registered by libraries, 4000 to 4999 belong to
/// applications. Codes that exist only as local marks (1005, 1006, 1015) cannot be made.
// Invariant: `may_be_sent` holds for the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection has been fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server goes down, or the browser has left the page.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// The peer sent a kind of data that this side does not take.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// The payload does not match its kind: text that is no UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// The peer broke a rule of the application.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// The message is larger than this side takes.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// The client needs an extension that the server did not agree to.
    pub const EXTENSION_REQUIRED: CloseCode = CloseCode(1010);
    /// The server met a condition that it did not expect.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// The server restarts; the client may come back.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// The server is overloaded; the client should come back later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// The server is a gateway and its upstream gave a bad answer.
    pub const BAD_GATEWAY: CloseCode = CloseCode(1014);

    /// Makes a code from its number; `None` when the number must not appear in a close frame
    /// (RFC 6455 §7.4.1 and §7.4.2).
    pub const fn new(number: u16) -> Option<CloseCode> {
        if may_be_sent(number) { Some(CloseCode(number)) } else { None }
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What the peer gave as its reason to close. `code` is one that [`CloseCode::new`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseReason<'a> {
    pub(crate) code: u16,
    pub(crate) reason: &'a str,
}

/// Reads the body of a close frame; an empty body is `None` (RFC 6455 §5.5.1).
pub(crate) fn decode(payload: &[u8]) -> Result<Option<CloseReason<'_>>, FrameError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((&code, reason)) = payload.split_first_chunk() else { return Err(FrameError::CloseTooShort) };
    let code = u16::from_be_bytes(code);
    if !may_be_sent(code) {
        return Err(FrameError::CloseCodeInvalid);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| FrameError::CloseReasonNotUtf8)?;
    Ok(Some(CloseReason { code, reason }))
}

/// Appends a server's close frame. A reason that does not fit is cut at a character; without a code there
/// is no place for one and it is left out.
pub(crate) fn encode_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let start = frame::begin(out);
    if let Some(code) = code {
        out.extend_from_slice(&code.number().to_be_bytes());
        out.extend_from_slice(cut_at_character(reason, CLOSE_REASON_BYTES_MAX).as_bytes());
    }
    frame::finish(out, start, Opcode::Close);
}

/// Whether the number may appear in a close frame (RFC 6455 §7.4; 1012 to 1014 from IANA's registry).
const fn may_be_sent(number: u16) -> bool {
    matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The longest prefix of whole characters within `bytes_max`.
fn cut_at_character(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_4_only_codes_for_the_wire_can_be_made() {
        let allowed =
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        for number in allowed {
            assert_eq!(CloseCode::new(number).map(CloseCode::number), Some(number), "{number}");
        }
        for number in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::new(number), None, "{number}");
        }
    }

    #[test]
    fn s5_5_1_what_is_encoded_decodes_to_the_same() {
        for (code, reason, expected) in [
            (None, "", None),
            (None, "no code, no place for this", None),
            (Some(CloseCode::NORMAL), "", Some((1000, ""))),
            (
                Some(CloseCode::GOING_AWAY),
                "auf Wiedersehen, schöne Grüße",
                Some((1001, "auf Wiedersehen, schöne Grüße")),
            ),
        ] {
            let mut out = b"before".to_vec();
            encode_close(&mut out, code, reason);
            let frames: Vec<_> = frame::server_frames(&out[6..]).collect();
            let [(Opcode::Close, payload)] = frames[..] else { panic!("{frames:?}") };
            let decoded = decode(payload).unwrap().map(|close| (close.code, close.reason));
            assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn s5_5_1_a_long_reason_is_cut_at_a_character() {
        for (reason, reason_len) in
            [("a".repeat(124), 123), ("a".repeat(123), 123), ("ä".repeat(100), 122), ("😀".repeat(60), 120)]
        {
            let mut out = Vec::new();
            encode_close(&mut out, Some(CloseCode::TOO_BIG), &reason);
            assert_eq!(out.len(), 2 + CLOSE_CODE_BYTES + reason_len);
            let close = decode(&out[2..]).unwrap().unwrap();
            assert_eq!(close.reason, &reason[..reason_len]);
        }
    }

    #[test]
    fn s5_5_1_a_bad_body_is_refused() {
        for (body, error) in [
            (&b"\x03"[..], FrameError::CloseTooShort),
            (b"\x03\xed", FrameError::CloseCodeInvalid),
            (b"\x00\x00", FrameError::CloseCodeInvalid),
            (b"\x03\xe8\xff", FrameError::CloseReasonNotUtf8),
        ] {
            assert_eq!(decode(body), Err(error));
        }
    }
}
