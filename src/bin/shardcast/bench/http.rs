//! HTTP/1.1 responses as the polling transport and the WebSocket handshake meet them (RFC 9112 §6, §7.1).
//!
//! Bodies by Content-Length and chunked. No compression (it is never asked for), no redirects, no bodies that
//! end with the connection: no Socket.IO server sends them.

use std::borrow::Cow;
use std::time::Duration;

use super::error::{Fault, quote};
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, MESSAGE_BYTES_MAX};
use super::target::WEBSOCKET_ACCEPT;
use crate::client::chunked;

/// One whole response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The body, joined when it came in chunks.
    pub(super) body: Cow<'a, [u8]>,
    /// The server will close the connection after this.
    pub(super) is_last: bool,
    /// `Retry-After` in seconds, or `Location`.
    pub(super) hint: Hint,
}

/// What a refusal says of what to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// `Retry-After`: when to come back.
    pub(crate) retry_after: Option<Duration>,
    /// `Location`: where to go.
    pub(crate) location: Option<String>,
}

/// How a TLS server begins its answer to what is not TLS: an alert (RFC 8446 §5.1), of any 1.x.
const TLS_ALERT: u8 = 21;
const TLS_MAJOR: u8 = 3;

/// What the head says of the rest.
struct Head {
    status: u16,
    len: usize,
    body: BodyLen,
    is_last: bool,
    is_accepted: bool,
    hint: Hint,
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
        BodyLen::Chunked => {
            match chunked::decode(rest, MESSAGE_BYTES_MAX).map_err(|fault| Fault::Http(fault.as_str()))? {
                Some((body, len)) => (Cow::Owned(body), len),
                None => return Ok(None),
            }
        }
    };
    Ok(Some((
        Response { status: head.status, body, is_last: head.is_last, hint: head.hint },
        head.len + body_len,
    )))
}

/// Reads the answer to a WebSocket handshake: how many bytes it took, `None` while it is incomplete.
pub(super) fn decode_switch(input: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(head) = decode_head(input)? else { return Ok(None) };
    if head.status != 101 {
        let body = input.get(head.len..).unwrap_or_default();
        return Err(Fault::Status(head.status, quote(body), head.hint));
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
        Err(_) if input.starts_with(&[TLS_ALERT, TLS_MAJOR]) => return Err(Fault::Secured),
        Err(_) => return Err(Fault::Http("not an HTTP/1.1 response")),
    };
    let status = response.code.unwrap_or_default();
    let is_old = response.version == Some(0);
    let mut head = Head {
        status,
        len,
        body: BodyLen::Known(0),
        is_last: is_old,
        is_accepted: false,
        hint: Hint::default(),
    };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body = BodyLen::Known(decode_len(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = BodyLen::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.is_last |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("sec-websocket-accept") {
            head.is_accepted = header.value == WEBSOCKET_ACCEPT;
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            let seconds = std::str::from_utf8(header.value).ok().and_then(|digits| digits.parse().ok());
            // A date, which is legal, too, is for humans: no Socket.IO server sends one.
            head.hint.retry_after = seconds.map(|seconds: u32| Duration::from_secs(u64::from(seconds)));
        } else if header.name.eq_ignore_ascii_case("location") {
            head.hint.location = Some(quote(header.value));
        }
    }
    Ok(Some(head))
}

fn decode_len(digits: &[u8]) -> Result<usize, Fault> {
    let len = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    len.filter(|&len| len <= MESSAGE_BYTES_MAX).ok_or(Fault::Http("Content-Length is no length"))
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
        check(&format!("{chunked}3\r\nabc\r\n0\r\n\r\n"), 400, "abc");
    }

    #[test]
    fn s7_malformed_responses_are_faults() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let rows = [
            "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(),
            format!("{chunked}zz\r\n"),
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
        assert_eq!(decode_switch(refused), Err(Fault::Status(400, "no".to_owned(), Hint::default())));
    }

    #[test]
    fn a_refusal_says_when_to_come_back_and_where_to_go() {
        let rows = [
            ("Retry-After: 7", Some(7), None),
            ("retry-after: Wed, 21 Oct 2015 07:28:00 GMT", None, None),
            ("Location: https://a/b", None, Some("https://a/b")),
        ];
        for (header, seconds, location) in rows {
            let response = format!("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n{header}\r\n\r\n");
            let (response, _) = decode_response(response.as_bytes()).unwrap().unwrap();
            assert_eq!(response.hint.retry_after, seconds.map(Duration::from_secs), "{header}");
            assert_eq!(response.hint.location.as_deref(), location, "{header}");
        }
        assert_eq!(decode_response(b"\x15\x03\x03\x00\x02\x02\x16"), Err(Fault::Secured));
    }
}
