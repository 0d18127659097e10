//! HTTP/1.1 answers with their headers, as any proxy may send them (RFC 9112 §6, §7.1).
//!
//! Unlike the load generator's reader this one keeps headers, and takes bodies that end with the connection.

use std::time::Duration;

use super::chunked::{self, ChunkFault};
use super::{Answer, Failure};

/// A longer head is an attack or a fault.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers read of one answer.
const HEADERS_MAX: usize = 100;
/// Error pages are smaller, and so are the figures of a server with many shards.
pub(super) const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is quoted of something that is no HTTP.
const QUOTE_CHARS_MAX: usize = 40;

/// How long the body is.
enum Body {
    None,
    Known(usize),
    Chunked,
    ToTheEnd,
}

/// Reads one whole answer, `None` while it is incomplete, and the bytes that it took. `is_closed`: nothing more will come.
pub(super) fn decode(input: &[u8], is_closed: bool) -> Result<Option<(Answer, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_len = match response.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() > HEAD_BYTES_MAX => {
            return Err(Failure::TooLong("the head of the answer"));
        }
        Ok(httparse::Status::Partial) if is_closed => return Err(Failure::Closed),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Failure::TooLong("the list of headers")),
        Err(_) => return Err(Failure::NotHttp(quote(input))),
    };
    let mut answer =
        Answer { status: response.code.unwrap_or_default(), took: Duration::ZERO, ..Answer::default() };
    for header in response.headers.iter() {
        answer.headers.push((header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
    }
    let rest = input.get(head_len..).unwrap_or_default();
    let body = match body_of(&answer)? {
        Body::None => Some((Vec::new(), 0)),
        Body::Known(len) => rest.get(..len).map(|body| (body.to_vec(), len)),
        Body::Chunked => chunked::decode(rest, ANSWER_BYTES_MAX).map_err(|fault| match fault {
            ChunkFault::TooLarge => Failure::TooLong("the body"),
            ChunkFault::NoSize | ChunkFault::NoEnd => Failure::NotHttp(fault.as_str().to_owned()),
        })?,
        Body::ToTheEnd if rest.len() > ANSWER_BYTES_MAX => return Err(Failure::TooLong("the body")),
        Body::ToTheEnd => is_closed.then(|| (rest.to_vec(), rest.len())),
    };
    match body {
        Some((body, len)) => {
            answer.body = String::from_utf8_lossy(&body).into_owned();
            Ok(Some((answer, head_len + len)))
        }
        None if is_closed => Err(Failure::Closed),
        None => Ok(None),
    }
}

fn body_of(answer: &Answer) -> Result<Body, Failure> {
    if matches!(answer.status, 100..=199 | 204 | 304) {
        return Ok(Body::None);
    }
    if answer.header("transfer-encoding").is_some() {
        return Ok(Body::Chunked);
    }
    let Some(len) = answer.header("content-length") else { return Ok(Body::ToTheEnd) };
    let len = len.trim().parse().ok().filter(|&len| len <= ANSWER_BYTES_MAX);
    len.map(Body::Known).ok_or(Failure::TooLong("the body"))
}

/// The beginning of some bytes.
pub(super) fn quote(input: &[u8]) -> String {
    let begin = input.get(..QUOTE_CHARS_MAX).unwrap_or(input);
    String::from_utf8_lossy(begin).chars().map(|char| if char.is_control() { '.' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_bodies_are_whole_by_length_by_chunks_and_at_the_end() {
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, "ok"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "ok"),
            ("HTTP/1.0 502 Bad\r\n\r\nno", true, "no"),
            ("HTTP/1.1 204 None\r\n\r\n", false, ""),
        ];
        for (input, is_closed, body) in rows {
            let (answer, _) = decode(input.as_bytes(), is_closed).unwrap().unwrap();
            assert_eq!(answer.body, body, "{input}");
            for cut in 0..input.len() {
                let early = decode(&input.as_bytes()[..cut], false);
                assert_eq!(early, Ok(None), "{input} at {cut}");
            }
        }
    }

    #[test]
    fn hostile_answers_are_failures() {
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(HEAD_BYTES_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        let rows = [
            ("SSH-2.0-OpenSSH_9.6\r\n", "no HTTP/1.1 answer: it begins with \"SSH-2.0-OpenSSH_9.6..\""),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "the body is longer"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "the body is longer"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "is longer"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no HTTP/1.1 answer"),
            (&endless, "the head of the answer is longer"),
            (&many, "the list of headers is longer"),
        ];
        for (input, expected) in rows {
            let failure = decode(input.as_bytes(), false).unwrap_err().to_string();
            assert!(failure.contains(expected), "{failure}");
        }
        assert_eq!(decode(b"HTTP/1.1 200", true), Err(Failure::Closed));
    }
}
