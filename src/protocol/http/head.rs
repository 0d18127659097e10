//! The request head: request line and header fields to a value (RFC 9112 §2, §3, §5, §6).
//!
//! Does not read bodies (`chunked.rs`, or the caller counts bytes) nor decode the target (`query.rs`).
//! httparse forgives what proxies read in other ways, bare LF among it; the rules against request smuggling
//! (RFC 9112 §11.2) are therefore here.

use httparse::Status::Complete;

use super::error::HttpError;
pub(crate) use super::headers::HeaderStorage;
use super::headers::{Headers, LossyValue, byte_elements, is_token, is_token_byte};
use super::limits::{EMPTY_LINES_MAX, REQUEST_LINE_BYTES_MAX};
use super::method::Method;
#[cfg(any(test, fuzzing))]
use crate::base::limits::HEAD_BYTES_DEFAULT;

/// The first byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The version a request line names (RFC 9112 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: one request a connection unless asked otherwise, and no chunked bodies.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How long the body after a head is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// No body follows.
    None,
    /// Exactly so many bytes follow.
    Length(usize),
    /// Chunks follow; see `ChunkedDecoder`.
    Chunked,
}

/// One request head. Borrows the read buffer and the header storage; owns nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a, 's> {
    pub(crate) method: Method,
    /// Its name as it came.
    pub(crate) method_name: &'a str,
    /// As received.
    pub(crate) target: &'a str,
    /// The target's path, not decoded: starts with `/`, or is `*` with OPTIONS, or is empty with CONNECT.
    pub(crate) path: &'a str,
    /// What follows the `?`, not decoded, without a fragment.
    pub(crate) query: &'a str,
    pub(crate) version: Version,
    /// Whom the client meant to reach: the authority of an absolute target, else Host (RFC 9112 §3.2.2).
    pub(crate) host: Option<&'a str>,
    pub(crate) headers: Headers<'a, 's>,
    pub(crate) body: BodyLength,
    /// Whether the connection may carry another request (RFC 9112 §9.3).
    pub(crate) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub(crate) expects_continue: bool,
}

/// Decodes the head at the start of `input` and says how many bytes it took, empty lines before it included.
///
/// `Ok(None)` means that the head is not complete; call again with the same bytes and more. That an
/// incomplete head has outgrown its bounds is found without its end. Every way of cutting the same bytes
/// gives the same answer: what is refused before the end is refused by position, the rest at the end.
pub(crate) fn decode_head<'a, 's>(
    input: &'a [u8],
    head_bytes_max: usize,
    storage: &'s mut HeaderStorage<'a>,
) -> Result<Option<(Head<'a, 's>, usize)>, HttpError> {
    let Some(rest) = skip_empty_lines(input)? else { return Ok(None) };
    let skipped = input.len() - rest.len();
    let bytes_max = head_bytes_max.saturating_sub(skipped);
    let HeaderStorage { fields, lossy } = storage;
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(rest.get(..bytes_max).unwrap_or(rest), fields);
    let bytes = match parsed {
        Ok(Complete(length)) if is_plain(rest, length) => rest.get(..length).unwrap_or(rest),
        _ => match (complete_head(rest, bytes_max)?, parsed) {
            (None, _) => return Ok(None),
            (Some(bytes), Ok(Complete(length))) if length == bytes.len() => bytes,
            // We see where the head ends and httparse does not agree: two readers, two requests.
            (Some(_), Ok(_)) => return Err(HttpError::HeaderNameInvalid),
            (Some(bytes), Err(error)) => return Err(refusal(error, &request, bytes)),
        },
    };
    let head = Head::read(request, bytes, lossy)?;
    Ok(Some((head, skipped + bytes.len())))
}

/// Where the head ends, by the rules of position alone: the plain twin that `decode_head` must agree with.
#[cfg(any(test, fuzzing))]
pub(super) fn head_bytes(input: &[u8]) -> Result<Option<usize>, HttpError> {
    let Some(rest) = skip_empty_lines(input)? else { return Ok(None) };
    let skipped = input.len() - rest.len();
    Ok(complete_head(rest, HEAD_BYTES_DEFAULT - skipped)?.map(|bytes| skipped + bytes.len()))
}

/// RFC 9112 §2.2: a few empty lines may precede the request line, whose first byte is a token's.
fn skip_empty_lines(input: &[u8]) -> Result<Option<&[u8]>, HttpError> {
    let mut rest = input;
    for _ in 0..=EMPTY_LINES_MAX {
        match rest {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Ok(None),
            [first, ..] if is_token_byte(*first) => return Ok(Some(rest)),
            [b'\r', ..] => return Err(HttpError::BareCarriageReturn),
            [b'\n', ..] => return Err(HttpError::BareLineFeed),
            [TLS_HANDSHAKE, ..] => return Err(HttpError::TlsOnPlainPort),
            _ => return Err(HttpError::BadFirstByte),
        }
    }
    Err(HttpError::EmptyLinesTooMany)
}

/// Whether `complete_head` would surely find the head that httparse found: every line ends in CRLF, none is
/// long. Has no branch in its loop, for the sake of vector instructions.
fn is_plain(request: &[u8], length: usize) -> bool {
    let head = request.get(..length).unwrap_or(request);
    let after_each = head.iter().skip(1);
    let bare = head
        .iter()
        .zip(after_each)
        .fold(0, |bare, (&byte, &next)| bare | u8::from(next == b'\n') & u8::from(byte != b'\r'));
    bare == 0 && length <= REQUEST_LINE_BYTES_MAX
}

/// The bytes up to and with the empty line that ends the head, once every line has been seen to end in CRLF.
fn complete_head(request: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, HttpError> {
    let bounded = request.get(..bytes_max).unwrap_or(request);
    let mut line_start = 0;
    for line_feed in memchr::memchr_iter(b'\n', bounded) {
        if line_start == 0 && line_feed >= REQUEST_LINE_BYTES_MAX {
            return Err(HttpError::TargetTooLong);
        }
        let line = bounded.get(line_start..line_feed).unwrap_or_default();
        match line {
            [b'\r'] => return Ok(bounded.get(..=line_feed)),
            [.., b'\r'] => line_start = line_feed + 1,
            _ => return Err(HttpError::BareLineFeed),
        }
    }
    if line_start == 0 && bounded.len() >= REQUEST_LINE_BYTES_MAX {
        return Err(HttpError::TargetTooLong);
    }
    if request.len() >= bytes_max { Err(HttpError::HeadTooLarge) } else { Ok(None) }
}

impl<'a, 's> Head<'a, 's> {
    /// Whether the request names this protocol among those it would change to. Offers of other protocols are ignored, as
    /// they always may be (RFC 9110 §7.8).
    pub(crate) fn offers_upgrade(&self, protocol: &str) -> bool {
        self.headers.contains_token("upgrade", protocol)
    }

    /// The head as bytes that `decode_head` reads as the same, for what must outlive the buffer that it was read from.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let version = if self.version == Version::Http10 { " HTTP/1.0\r\n" } else { " HTTP/1.1\r\n" };
        let mut out = [self.method_name, " ", self.target, version].concat().into_bytes();
        for (name, value) in self.headers.iter_bytes() {
            out.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Whether the offer is meant for this server (`Connection` names it), and the version of HTTP has offers (RFC 9110 §7.8).
    pub(crate) fn asks_for_upgrade(&self, protocol: &str) -> bool {
        self.version == Version::Http11
            && self.offers_upgrade(protocol)
            && self.headers.contains_token("connection", "upgrade")
    }

    fn read(
        request: httparse::Request<'s, 'a>,
        bytes: &'a [u8],
        lossy: &'s mut Vec<LossyValue>,
    ) -> Result<Head<'a, 's>, HttpError> {
        let method_name = request.method.ok_or(HttpError::MethodInvalid)?;
        let method = Method::from_name(method_name);
        let target = request.path.ok_or(HttpError::TargetInvalid)?;
        let version = match request.version {
            Some(0) => Version::Http10,
            Some(1) => Version::Http11,
            _ => return Err(HttpError::VersionUnsupported),
        };
        let Target { authority, path, query } = Target::split(method, target)?;
        let headers = Headers::new(bytes, request.headers, lossy);
        let mut fields = Fields::default();
        for (name, value) in headers.iter_bytes() {
            fields.read(name, value)?;
        }
        let body = fields.body(version)?;
        let host = authority.or(fields.host(version)?);
        let keep_alive = fields.keep_alive(version);
        let expects_continue =
            fields.expects_continue && version == Version::Http11 && body != BodyLength::None;
        Ok(Head {
            method,
            method_name,
            target,
            path,
            query,
            version,
            host,
            headers,
            body,
            keep_alive,
            expects_continue,
        })
    }
}

/// httparse's errors in our words.
fn refusal(error: httparse::Error, request: &httparse::Request<'_, '_>, bytes: &[u8]) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::HeadersTooMany,
        httparse::Error::HeaderName => HttpError::HeaderNameInvalid,
        httparse::Error::HeaderValue => HttpError::HeaderValueInvalid,
        httparse::Error::NewLine => HttpError::BareCarriageReturn,
        httparse::Error::Version => version_refusal(bytes),
        _ if request.method.is_none() => HttpError::MethodInvalid,
        _ => HttpError::TargetInvalid,
    }
}

/// Tells a version that we do not speak from a line that names no version.
fn version_refusal(bytes: &[u8]) -> HttpError {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.splitn(3, |&byte| byte == b' ').nth(2) {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HttpError::VersionUnsupported
        }
        _ => HttpError::VersionInvalid,
    }
}

/// The parts of a request target (RFC 9112 §3.2).
pub(crate) struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    fn split(method: Method, target: &'a str) -> Result<Target<'a>, HttpError> {
        if target.starts_with('/') {
            return Ok(Target::split_path(None, target));
        }
        match method {
            Method::Options if target == "*" => Ok(Target { authority: None, path: "*", query: "" }),
            Method::Connect if is_host(target) => Ok(Target { authority: Some(target), path: "", query: "" }),
            _ => Target::split_absolute(target),
        }
    }

    fn split_absolute(target: &'a str) -> Result<Target<'a>, HttpError> {
        let (scheme, rest) = target.split_once("://").ok_or(HttpError::TargetInvalid)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(HttpError::TargetInvalid);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.is_empty() || !is_host(authority) {
            return Err(HttpError::TargetInvalid);
        }
        Ok(Target::split_path(Some(authority), path))
    }

    /// A fragment is never sent by a browser; one that came is dropped (RFC 9110 §4.2.5).
    fn split_path(authority: Option<&'a str>, target: &'a str) -> Target<'a> {
        let target = split_at_byte(target, b'#').map_or(target, |(before, _)| before);
        let (path, query) = split_at_byte(target, b'?').unwrap_or((target, ""));
        Target { authority, path: if path.is_empty() { "/" } else { path }, query }
    }
}

/// `str::split_once` for an ASCII byte, at memchr's speed.
fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let place = memchr::memchr(byte, text.as_bytes())?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// What the fields that frame a message said.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    length: Option<usize>,
    is_chunked: bool,
    has_close: bool,
    has_keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Fields<'a> {
    /// The length sorts out nearly every name with one comparison. A value that decides something here must be text; what
    /// all others hold is no matter of this file.
    fn read(&mut self, name: &str, value: &'a [u8]) -> Result<(), HttpError> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.read_host(str::from_utf8(value).ok()),
            6 if name.eq_ignore_ascii_case("expect") => self.read_expect(value),
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in byte_elements(value) {
                    self.has_close |= option.eq_ignore_ascii_case(b"close");
                    self.has_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(())
            }
            14 if name.eq_ignore_ascii_case("content-length") => self.read_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.read_transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn read_host(&mut self, value: Option<&'a str>) -> Result<(), HttpError> {
        if self.host.is_some() {
            return Err(HttpError::HostRepeated);
        }
        self.host = Some(value.filter(|value| is_host(value)).ok_or(HttpError::HostInvalid)?);
        Ok(())
    }

    fn read_expect(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HttpError::ExpectationUnknown);
        }
        self.expects_continue = true;
        Ok(())
    }

    /// RFC 9112 §6.3 would let us merge equal lengths; which of them a proxy reads must not matter.
    fn read_length(&mut self, value: &[u8]) -> Result<(), HttpError> {
        if self.length.is_some() {
            return Err(HttpError::ContentLengthRepeated);
        }
        let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        self.length = Some(length.ok_or(HttpError::ContentLengthInvalid)?);
        Ok(())
    }

    fn read_transfer_encoding(&mut self, value: &[u8]) -> Result<(), HttpError> {
        let Some(value) = str::from_utf8(value).ok().filter(|_| !self.is_chunked) else {
            return Err(HttpError::TransferEncodingInvalid);
        };
        if value.eq_ignore_ascii_case("chunked") {
            self.is_chunked = true;
            return Ok(());
        }
        let mut is_unknown = false;
        for coding in value.split(',').map(|coding| coding.trim_matches([' ', '\t'])) {
            if !is_token(coding) {
                return Err(HttpError::TransferEncodingInvalid);
            }
            is_unknown |= !coding.eq_ignore_ascii_case("chunked");
        }
        Err(if is_unknown {
            HttpError::TransferEncodingUnsupported
        } else {
            HttpError::TransferEncodingInvalid
        })
    }

    fn body(&self, version: Version) -> Result<BodyLength, HttpError> {
        match (self.is_chunked, self.length, version) {
            (true, Some(_), _) => Err(HttpError::LengthWithTransferEncoding),
            (true, None, Version::Http10) => Err(HttpError::TransferEncodingInHttp10),
            (true, None, Version::Http11) => Ok(BodyLength::Chunked),
            (false, Some(length), _) => Ok(BodyLength::Length(length)),
            (false, None, _) => Ok(BodyLength::None),
        }
    }

    fn host(&self, version: Version) -> Result<Option<&'a str>, HttpError> {
        match (self.host, version) {
            (None, Version::Http11) => Err(HttpError::HostMissing),
            (host, _) => Ok(host),
        }
    }

    fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http10 => self.has_keep_alive && !self.has_close,
            Version::Http11 => !self.has_close,
        }
    }
}

/// Whether a text can be `host[:port]`. Empty is: a client without a host to name says so (RFC 9112 §3.2).
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let is_literal = host.starts_with('[') && host.ends_with(']');
    let has_only =
        |extra: &[u8]| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte));
    let is_name = has_only(b"-._~%!$&'()*+;=") || is_literal && has_only(b"[]:.%-_~");
    is_name && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_2_a_host_is_a_name_or_an_address_with_a_port() {
        for (host, expected) in [
            ("", true),
            ("example.com", true),
            ("my_service:8080", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("localhost:", true),
            ("a b", false),
            ("a,b", false),
            ("user@host", false),
            ("host/path", false),
            ("::1", false),
            ("host:port", false),
            ("host:123456", false),
            ("b\u{fc}cher.de", false),
        ] {
            assert_eq!(is_host(host), expected, "{host}");
        }
    }

    #[test]
    fn s3_2_2_an_absolute_target_names_the_host() {
        let input = b"GET http://inner:81/a?b=1 HTTP/1.1\r\nHost: outer\r\n\r\n";
        let mut storage = HeaderStorage::new();
        let (head, length) =
            decode_head(input, HEAD_BYTES_DEFAULT, &mut storage).expect("valid").expect("complete");
        assert_eq!((head.host, head.path, head.query), (Some("inner:81"), "/a", "b=1"));
        assert_eq!(head.headers.get("host"), Some("outer"));
        assert_eq!(length, input.len());
    }
}
