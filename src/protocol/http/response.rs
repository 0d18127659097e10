//! Responses: a value with pleasant constructors, and its bytes (RFC 9112 §4, §6; RFC 9110 §5.5, §6.4).
//!
//! Does not compress (`coding`), stream or cache. Only the encoder writes `Content-Length`, `Transfer-Encoding`, `Connection` and
//! `Date`.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::coding;
use super::cors::{ALLOW_ORIGIN, Grant};
use super::head::Version;
use super::headers::is_token;
use super::limits::SHOWN_CHARS_MAX;
use super::status::Status;
use crate::base::buffer::SharedFrame;

/// The bytes that let a client go on with its body (RFC 9110 §15.2.1).
pub(crate) const CONTINUE_100: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Headers a response holds without an allocation: content type and three for CORS.
const HEADERS_INLINE: usize = 4;

/// Fields that the encoder writes; a second copy would give the message two meanings.
const RESERVED_NAMES: [&str; 4] = ["content-length", "transfer-encoding", "connection", "date"];

type Text = Cow<'static, str>;

/// An answer to a request.
///
/// ```
/// use shardcast::http::{Response, Status};
///
/// let response = Response::text("no such room").with_status(Status::NOT_FOUND).header("X-Room", "lobby");
/// assert_eq!(response.status(), Status::NOT_FOUND);
/// ```
///
/// A header that would break the message (a name that is no token, a control character in the value, or one
/// of the names that the server writes itself: `Content-Length`, `Transfer-Encoding`, `Connection` and
/// `Date`) never reaches the wire. [`Response::header`] turns the whole response into a 500 that says why,
/// and [`Response::try_header`] returns the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: Status,
    /// Every name and value has passed `check_header`.
    headers: SmallVec<[(Text, Text); HEADERS_INLINE]>,
    body: Body,
    /// Set by an illegal header: the 500 in its place is not changed any more.
    is_frozen: bool,
}

/// A body: bytes of the program, or bytes that its answers share. A long one goes out as it is, never copied.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Static(&'static [u8]),
    Shared(SharedFrame),
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Body::Static(bytes) => bytes,
            Body::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Body {}

/// Why a header was not taken: a mistake in the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is empty or holds more than letters, digits and ``!#$%&'*+-.^_`|~``.
    Name(String),
    /// The value of the header with this name holds CR, LF, NUL or another control character.
    Value(String),
    /// The server writes the header with this name itself.
    Reserved(String),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Name(name) => write!(formatter, "{name:?} is not a header name"),
            HeaderError::Value(name) => {
                write!(formatter, "the value of header {name:?} has a control character")
            }
            HeaderError::Reserved(name) => write!(formatter, "header {name:?} is written by the server"),
        }
    }
}

impl std::error::Error for HeaderError {}

impl Response {
    /// An answer without headers or body.
    pub fn new(status: Status) -> Response {
        Response { status, headers: SmallVec::new(), body: Body::Static(&[]), is_frozen: false }
    }

    /// 200 with plain text.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Response {
        Response::with_content("text/plain; charset=utf-8", text_bytes(text.into()))
    }

    /// 200 with a page.
    pub fn html(html: impl Into<Cow<'static, str>>) -> Response {
        Response::with_content("text/html; charset=utf-8", text_bytes(html.into()))
    }

    /// 200 with a value as JSON. A value that serde_json cannot write (a map with keys that are no strings,
    /// say) becomes a 500 that names the reason.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Response {
        match serde_json::to_vec(value) {
            Ok(json) => Response::with_content("application/json", Cow::Owned(json)),
            Err(error) => Response::text(error.to_string()).with_status(Status::INTERNAL_SERVER_ERROR),
        }
    }

    /// Replaces the status.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Response {
        if !self.is_frozen {
            self.status = status;
        }
        self
    }

    /// Adds a header. An illegal one replaces the response by a 500 whose body is the [`HeaderError`].
    #[must_use]
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Response {
        match self.try_header(name, value) {
            Ok(()) => self,
            Err(error) => {
                let refusal = Response::text(error.to_string()).with_status(Status::INTERNAL_SERVER_ERROR);
                Response { is_frozen: true, ..refusal }
            }
        }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// [`HeaderError`] when it would break the message; the response is unchanged.
    pub fn try_header(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Result<(), HeaderError> {
        let (name, value) = (name.into(), value.into());
        check_header(&name, &value)?;
        if !self.is_frozen {
            self.headers.push((name, value));
        }
        Ok(())
    }

    /// Replaces the body, without a word about its type.
    #[must_use]
    pub fn body(mut self, body: impl Into<Cow<'static, [u8]>>) -> Response {
        if !self.is_frozen {
            self.body = match body.into() {
                Cow::Borrowed(bytes) => Body::Static(bytes),
                Cow::Owned(bytes) => Body::Shared(SharedFrame::new(bytes)),
            };
        }
        self
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The headers that were added, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The bytes of the body.
    pub fn body_bytes(&self) -> &[u8] {
        self.body.bytes()
    }

    /// An illegal header has made it a 500.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_frozen
    }

    /// The body, to be sent or shared.
    pub(crate) fn shared(&self) -> Body {
        self.body.clone()
    }

    /// The body with its type. The type must be legal: it is written in this file or comes from `mime_guess`.
    pub(crate) fn with_content(content_type: impl Into<Text>, body: Cow<'static, [u8]>) -> Response {
        Response::new(Status::OK).header("Content-Type", content_type).body(body)
    }

    /// Whether a body of this many bytes may be sent in another coding: it is text, nobody has encoded it, and no
    /// header speaks of its exact bytes.
    pub(crate) fn may_be_coded(&self, bytes: RangeInclusive<usize>) -> bool {
        let forbids = |(name, value): (&str, &str)| {
            name.eq_ignore_ascii_case("content-encoding")
                || name.eq_ignore_ascii_case("etag") && !value.starts_with("W/")
                || name.eq_ignore_ascii_case("cache-control") && value.contains("no-transform")
        };
        let mut types = self.headers().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        bytes.contains(&self.body.bytes().len())
            && self.status.may_have_body()
            && types.next().is_some_and(|(_, value)| coding::is_text_like(value))
            && !self.headers().any(forbids)
    }

    /// Appends the status line and the headers; what `Framing::length` says is to follow, unless the request was HEAD. A 101
    /// gets `Connection: Upgrade`; `Upgrade` itself is its maker's.
    pub(crate) fn encode_head(&self, out: &mut Vec<u8>, framing: Framing<'_>) {
        out.reserve(ENCODED_HEAD_BYTES_TYPICAL);
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, usize::from(self.status.code()));
        push_all(out, &[" ", self.status.reason(), "\r\n"]);
        for (name, value) in self.headers() {
            push_all(out, &[name, ": ", value, "\r\n"]);
        }
        // An application that answers for itself has the last word.
        if let Some(grant) = framing.grant
            && !self.headers().any(|(name, _)| name.eq_ignore_ascii_case(ALLOW_ORIGIN))
        {
            for (name, value) in grant.headers() {
                push_all(out, &[name, ": ", value, "\r\n"]);
            }
        }
        if let Some(date) = framing.date {
            push_all(out, &["Date: ", date, "\r\n"]);
        }
        if framing.is_negotiated {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
        if let Some(coding) = framing.coding {
            push_all(out, &["Content-Encoding: ", coding, "\r\n"]);
        }
        match framing.length {
            _ if !self.status.may_have_body() => {}
            Length::Bytes(bytes) => {
                out.extend_from_slice(b"Content-Length: ");
                push_number(out, bytes);
                out.extend_from_slice(b"\r\n");
            }
            Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Length::UntilClose => {}
        }
        out.extend_from_slice(framing.connection(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What the encoder must know about the request and the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing<'d> {
    /// The request's version. The answer always says 1.1 (RFC 9110 §6.2).
    pub(crate) version: Version,
    /// Whether the connection stays open.
    pub(crate) keep_alive: bool,
    /// An IMF-fixdate from `http_date`.
    pub(crate) date: Option<&'d str>,
    /// What the answer says to a page of another origin.
    pub(crate) grant: Option<&'d Grant>,
    /// Another client may get another coding (RFC 9110 §12.5.5).
    pub(crate) is_negotiated: bool,
    /// The coding in which the body goes out.
    pub(crate) coding: Option<&'static str>,
    /// How long it is then.
    pub(crate) length: Length,
}

/// How a client knows where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// After so many bytes.
    Bytes(usize),
    /// With the last chunk: its length is not known when it begins.
    Chunked,
    /// With the connection, for clients of HTTP/1.0, which know no chunks.
    UntilClose,
}

impl Framing<'_> {
    fn connection(self, status: Status) -> &'static str {
        match (status, self.version, self.keep_alive) {
            (Status::SWITCHING_PROTOCOLS, ..) => "Connection: Upgrade\r\n",
            (_, Version::Http11, false) => "Connection: close\r\n",
            (_, Version::Http10, true) => "Connection: keep-alive\r\n",
            _ => "",
        }
    }
}

/// A status line with a handful of headers: one reservation covers most answers.
const ENCODED_HEAD_BYTES_TYPICAL: usize = 256;

fn check_header(name: &str, value: &str) -> Result<(), HeaderError> {
    let shown = || name.chars().take(SHOWN_CHARS_MAX).collect();
    if !is_token(name) {
        return Err(HeaderError::Name(shown()));
    }
    if RESERVED_NAMES.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(HeaderError::Reserved(shown()));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(HeaderError::Value(shown()));
    }
    Ok(())
}

fn text_bytes(text: Text) -> Cow<'static, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn push_all(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Appends a decimal number.
fn push_number(out: &mut Vec<u8>, number: usize) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMING: Framing<'static> = Framing {
        version: Version::Http11,
        keep_alive: true,
        date: None,
        grant: None,
        is_negotiated: false,
        coding: None,
        length: Length::Bytes(0),
    };

    fn encoded(response: &Response, framing: Framing<'_>) -> String {
        let length = match framing.length {
            Length::Bytes(_) => Length::Bytes(response.body_bytes().len()),
            length => length,
        };
        let mut out = Vec::new();
        response.encode_head(&mut out, Framing { length, ..framing });
        String::from_utf8(out).expect("the tests send text")
    }

    #[test]
    fn only_text_that_nobody_has_spoken_for_may_be_coded() {
        let text = || Response::text("x".repeat(100));
        let rows = [
            (text(), true),
            (text().header("ETag", "W/\"1\""), true),
            (text().header("ETag", "\"1\""), false),
            (text().header("Content-Encoding", "br"), false),
            (text().header("Cache-Control", "public, no-transform"), false),
            (text().with_status(Status::NO_CONTENT), false),
            (Response::text("x".repeat(99)), false),
            (Response::text("x".repeat(201)), false),
            (Response::new(Status::OK).header("Content-Type", "image/png").body(vec![0; 100]), false),
            (Response::new(Status::OK).body(vec![0; 100]), false),
        ];
        for (response, expected) in rows {
            assert_eq!(response.may_be_coded(100..=200), expected, "{response:?}");
        }
    }

    #[test]
    fn s6_a_response_is_framed_by_its_length() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n";
        let date = "Thu, 01 Jan 1970 00:00:00 GMT";
        for (framing, expected) in [
            (FRAMING, format!("{text}Content-Length: 2\r\n\r\n")),
            (
                Framing { is_negotiated: true, ..FRAMING },
                format!("{text}Vary: Accept-Encoding\r\nContent-Length: 2\r\n\r\n"),
            ),
            (
                Framing { is_negotiated: true, coding: Some("gzip"), ..FRAMING },
                format!("{text}Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"),
            ),
            (
                Framing { date: Some(date), ..FRAMING },
                format!("{text}Date: {date}\r\nContent-Length: 2\r\n\r\n"),
            ),
            (
                Framing { keep_alive: false, ..FRAMING },
                format!("{text}Content-Length: 2\r\nConnection: close\r\n\r\n"),
            ),
            (
                Framing { version: Version::Http10, ..FRAMING },
                format!("{text}Content-Length: 2\r\nConnection: keep-alive\r\n\r\n"),
            ),
            (
                Framing { version: Version::Http10, keep_alive: false, ..FRAMING },
                format!("{text}Content-Length: 2\r\n\r\n"),
            ),
            (
                Framing { length: Length::Chunked, ..FRAMING },
                format!("{text}Transfer-Encoding: chunked\r\n\r\n"),
            ),
            (
                Framing {
                    length: Length::UntilClose,
                    version: Version::Http10,
                    keep_alive: false,
                    ..FRAMING
                },
                format!("{text}\r\n"),
            ),
        ] {
            assert_eq!(encoded(&Response::text("ok"), framing), expected, "{framing:?}");
        }
    }

    #[test]
    fn s6_4_1_some_statuses_have_neither_body_nor_length() {
        for (status, expected) in [
            (Status::NO_CONTENT, "HTTP/1.1 204 No Content\r\n\r\n"),
            (Status::NOT_MODIFIED, "HTTP/1.1 304 Not Modified\r\n\r\n"),
            (Status::SWITCHING_PROTOCOLS, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
            (Status::OK, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        ] {
            assert_eq!(encoded(&Response::new(status).body(b"body".as_slice()), FRAMING), expected);
        }
    }

    #[test]
    fn s5_5_a_header_cannot_split_a_response() {
        for (name, value) in [
            ("X", "a\r\nSet-Cookie: b=c"),
            ("X", "a\n"),
            ("X", "a\0"),
            ("X", "\u{7f}"),
            ("", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("X\r\nY", "a"),
            ("Content-Length", "0"),
            ("transfer-encoding", "chunked"),
            ("Connection", "close"),
            ("Date", "now"),
        ] {
            let mut response = Response::html("<p>fine</p>");
            assert!(response.try_header(name, value).is_err(), "{name:?} {value:?}");
            assert_eq!(response, Response::html("<p>fine</p>"));
            let response =
                response.header(name, value).header("X-Later", "1").with_status(Status::OK).body(vec![]);
            assert_eq!(response.status(), Status::INTERNAL_SERVER_ERROR);
            assert_eq!(response.headers().count(), 1);
            assert_eq!(encoded(&response, FRAMING).matches("\r\n").count(), 4, "{name:?} {value:?}");
        }
    }

    #[test]
    fn json_is_written_or_explained() {
        assert_eq!(Response::json(&[1, 2]).body_bytes(), b"[1,2]");
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(Response::json(&unwritable).status(), Status::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 12_345, usize::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
