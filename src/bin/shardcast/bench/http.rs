//! HTTP/1.1 responses as the polling transport and the WebSocket handshake meet them (RFC 9112 §6, §7.1).
//!
//! Bodies by Content-Length and chunked. No compression (it is never asked for), no redirects, no bodies that
//! end with the connection: no Socket.IO server sends them.

use std::borrow::Cow;

use super::error::{Fault, quote};
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, MESSAGE_BYTES_MAX};
use super::target::WEBSOCKET_ACCEPT;

/// One whole response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The body, joined when it came in chunks.
    pub(super) body: Cow<'a, [u8]>,
    /// The server will close the connection after this.
    pub(super) is_last: bool,
}

/// What the head says of the rest.
struct Head {
    status: u16,
    len: usize,
    body: BodyLen,
    is_last: bool,
    is_accepted: bool,
}

enum BodyLen {
    Known(usize),
    Chunked,
}

/// Reads one response; `None` while it is incomplete, else it and how many bytes it took.
pub(super) fn decode_response(input: &[u8]) -> Result<Option<(Response<'_>, usize)>, Fault> {
    let Some(head) = decode_head(input)? else { return Ok(None) };
    let rest = input.get(head.len..).unwrap_or_default();
    let (body, body_len) = match head.body {
        BodyLen::Known(len) => match rest.get(..len) {
            Some(body) => (Cow::Borrowed(body), len),
            None => return Ok(None),
        },
        BodyLen::Chunked => match decode_chunked(rest)? {
            Some((body, len)) => (Cow::Owned(body), len),
            None => return Ok(None),
        },
    };
    Ok(Some((Response { status: head.status, body, is_last: head.is_last }, head.len + body_len)))
}

/// Reads the answer to a WebSocket handshake: how many bytes it took, `None` while it is incomplete.
pub(super) fn decode_switch(input: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(head) = decode_head(input)? else { return Ok(None) };
    if head.status != 101 {
        return Err(Fault::Status(head.status, quote(input.get(head.len..).unwrap_or_default())));
    }
    if !head.is_accepted {
        return Err(Fault::Http("Sec-WebSocket-Accept does not belong to the key"));
    }
    Ok(Some(head.len))
}

fn decode_head(input: &[u8]) -> Result<Option<Head>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() > HEAD_BYTES_MAX => {
            return Err(Fault::Http("endless head"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Fault::Http("not an HTTP/1.1 response")),
    };
    let status = response.code.unwrap_or_default();
    let is_old = response.version == Some(0);
    let mut head = Head { status, len, body: BodyLen::Known(0), is_last: is_old, is_accepted: false };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body = BodyLen::Known(decode_len(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = BodyLen::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.is_last |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("sec-websocket-accept") {
            head.is_accepted = header.value == WEBSOCKET_ACCEPT;
        }
    }
    Ok(Some(head))
}

fn decode_len(digits: &[u8]) -> Result<usize, Fault> {
    let len = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    len.filter(|&len| len <= MESSAGE_BYTES_MAX).ok_or(Fault::Http("Content-Length is no length"))
}

/// RFC 9112 §7.1. Extensions and trailers are skipped.
fn decode_chunked(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Fault> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let (start, len) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Fault::Http("a chunk without a size")),
        };
        let len =
            usize::try_from(len).ok().filter(|len| body.len().saturating_add(*len) <= MESSAGE_BYTES_MAX);
        let len = len.ok_or(Fault::Http("a chunk is too large"))?;
        at += start;
        if len == 0 {
            return Ok(end_of_trailers(input.get(at..).unwrap_or_default()).map(|end| (body, at + end)));
        }
        let rest = input.get(at..).unwrap_or_default();
        let (Some(chunk), Some(end)) = (rest.get(..len), rest.get(len..len + 2)) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(Fault::Http("a chunk does not end where it said"));
        }
        body.extend_from_slice(chunk);
        at += len + 2;
    }
}

fn end_of_trailers(input: &[u8]) -> Option<usize> {
    if input.starts_with(b"\r\n") {
        Some(2)
    } else {
        memchr::memmem::find(input, b"\r\n\r\n").map(|at| at + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The response is found whole, at its last byte and not before.
    fn check(input: &str, status: u16, body: &str) {
        let bytes = input.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(decode_response(&bytes[..cut]), Ok(None), "cut at {cut} of {input:?}");
        }
        let (response, used) = decode_response(bytes).unwrap().unwrap();
        assert_eq!((response.status, &*response.body, used), (status, body.as_bytes(), bytes.len()));
    }

    #[test]
    fn s6_bodies_by_length_and_by_chunks_are_whole_at_every_cut() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok");
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
        let chunked = "HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{chunked}3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"), 400, "abc0123456789");
        check(&format!("{chunked}1\r\na\r\n0\r\nTrailer: 1\r\n\r\n"), 400, "a");
    }

    #[test]
    fn s7_malformed_responses_are_faults() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let rows = [
            "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(),
            format!("{chunked}zz\r\n"),
            format!("{chunked}2\r\nabc\r\n0\r\n\r\n"),
            format!("{chunked}ffffffffffffffff\r\n"),
        ];
        for row in rows {
            assert!(decode_response(row.as_bytes()).is_err(), "{row:?}");
        }
    }

    #[test]
    fn a_switch_needs_the_right_accept() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ";
        let right = format!("{head}s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
        assert_eq!(decode_switch(right.as_bytes()), Ok(Some(right.len())));
        assert_eq!(decode_switch(&right.as_bytes()[..right.len() - 1]), Ok(None));
        assert!(decode_switch(format!("{head}AAAA\r\n\r\n").as_bytes()).is_err());
        let refused = b"HTTP/1.1 400 Bad Request\r\n\r\nno";
        assert_eq!(decode_switch(refused), Err(Fault::Status(400, "no".to_owned())));
    }
}
