//! HTTP/1.1, as much as Engine.IO's requests need: the head is searched for five things, not parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memmem;
use sha1::{Digest, Sha1};

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// One request, its body whole.
pub struct Request<'a> {
    pub is_post: bool,
    /// The session that the query names.
    pub session: Option<usize>,
    /// The WebSocket key, when this is a handshake.
    pub key: Option<&'a [u8]>,
    pub body: &'a [u8],
}

/// Reads one request and says how many bytes it took; `None` while it is not whole.
pub fn decode(input: &[u8]) -> Option<(Request<'_>, usize)> {
    let head_len = memmem::find(input, b"\r\n\r\n")? + 4;
    let head = &input[..head_len];
    let target = &head[..memchr::memchr(b'\r', head)?];
    let body_len = header(head, b"content-length").and_then(number).unwrap_or(0);
    let body = input.get(head_len..head_len + body_len)?;
    let request = Request {
        is_post: target.starts_with(b"POST"),
        session: memmem::find(target, b"sid=limit")
            .and_then(|at| target.get(at + 9..at + 24))
            .and_then(number),
        key: header(head, b"sec-websocket-key"),
        body,
    };
    Some((request, head_len + body_len))
}

/// Appends the answer to a WebSocket handshake.
pub fn accept(key: &[u8], out: &mut Vec<u8>) {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let accept = BASE64.encode(digest);
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a whole response.
pub fn respond(status: &str, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: ");
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// The value of a header, by its name in lower case.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
