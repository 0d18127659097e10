//! The client's side: what tests and the load generator send (RFC 6455 §4.1, §5.1).
//!
//! Writes a request and masked frames, reads the response. The server itself never calls this file; the test kit does. Keys are
//! arguments: whoever calls brings the randomness.

#[cfg(any(test, fuzzing))]
use super::frame::{self, Opcode};
use super::handshake;

/// Why a response is not the one that the client asked for (RFC 6455 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseError {
    /// The status is another than 101.
    NotSwitching,
    /// `Sec-WebSocket-Accept` is missing or does not belong to the key.
    AcceptMismatch,
}

/// Appends an upgrade request. `key` is 16 random bytes in base64.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_request(out: &mut Vec<u8>, host: &str, target: &str, key: &str) {
    for part in [
        "GET ",
        target,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        key,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Reads the answer to [`encode_request`]: how many bytes it takes, or `None` while it is incomplete.
pub(crate) fn decode_response(input: &[u8], key: &str) -> Result<Option<usize>, ResponseError> {
    const END: &[u8] = b"\r\n\r\n";
    const ACCEPT_FIELD: &[u8] = b"sec-websocket-accept";
    let Some(head_len) = memchr::memmem::find(input, END) else { return Ok(None) };
    let head = input.get(..head_len).unwrap_or_default();
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(ResponseError::NotSwitching);
    }
    let accept = handshake::accept_key(key);
    let is_accepted = head.split(|&byte| byte == b'\n').any(|line| {
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(ACCEPT_FIELD) && value[1..].trim_ascii() == accept.as_str().as_bytes()
    });
    if is_accepted { Ok(Some(head_len + END.len())) } else { Err(ResponseError::AcceptMismatch) }
}

/// Appends one masked frame that need not be its message's last: `(opcode, is_final)`.
#[cfg(any(test, fuzzing))]
pub(crate) fn append_fragment(
    out: &mut Vec<u8>,
    (opcode, is_final): (Opcode, bool),
    payload: &[u8],
    key: [u8; 4],
) {
    let start = out.len();
    frame::append_masked(out, opcode, payload, key);
    if !is_final {
        frame::clear_final(out, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn s4_1_the_client_accepts_what_the_server_answers() {
        let mut response = Vec::new();
        handshake::encode_response(
            &mut response,
            &handshake::accept_key(KEY),
            None,
            &[("Set-Cookie", "a=b")],
        );
        let len = response.len();
        response.extend_from_slice(b"\x81\x01x");
        assert_eq!(decode_response(&response, KEY), Ok(Some(len)));
        for cut in 0..len {
            assert_eq!(decode_response(&response[..cut], KEY), Ok(None));
        }
    }

    #[test]
    fn s4_1_other_answers_are_refused() {
        for (response, error) in [
            ("HTTP/1.1 400 Bad Request\r\n\r\n", ResponseError::NotSwitching),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", ResponseError::AcceptMismatch),
            (
                "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp=\r\n\r\n",
                ResponseError::AcceptMismatch,
            ),
        ] {
            assert_eq!(decode_response(response.as_bytes(), KEY), Err(error), "{response}");
        }
    }

    #[test]
    fn s4_1_the_request_is_what_the_rfc_prescribes() {
        let mut request = Vec::new();
        encode_request(&mut request, "example.com:80", "/chat?EIO=4", KEY);
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /chat?EIO=4 HTTP/1.1\r\nHost: example.com:80\r\n"));
        assert!(request.ends_with("\r\n\r\n"));
    }
}
