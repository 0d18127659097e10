//! HTTP and WebSocket servers asked as their clients ask: one request, one answer, and no wait without an end.

pub(crate) mod chunked;
mod http;
mod tls;
mod wire;

use std::time::Duration;

pub(crate) use tls::{Trust, client_config};
pub(crate) use wire::{Address, Way, Wire, now, wall_clock};

/// Why something could not be heard to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection was not taken, with the system's words.
    Refused(String),
    /// TLS was not agreed upon.
    Tls(String),
    /// No whole answer came in time.
    Timeout,
    /// The other side closed before its answer was whole.
    Closed,
    /// What came is no HTTP/1.1; its beginning.
    NotHttp(String),
    /// This part of an answer is longer than any server's.
    TooLong(&'static str),
    /// A WebSocket frame that RFC 6455 forbids.
    Frame(String),
}

/// One answer over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

pub(crate) type Exchange = Result<Answer, Failure>;

/// TLS as it was agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secured {
    pub(crate) version: String,
    pub(crate) alpn: Option<String>,
    /// Until when the server's certificate is good, in seconds since 1970.
    pub(crate) good_until: Option<i64>,
}

/// Takes a header of the command line apart, which must not say where a request ends; `own` are those that the program writes itself.
pub(crate) fn header<'a>(text: &'a str, own: &[&str]) -> Result<(&'a str, &'a str), &'static str> {
    let (name, value) = text.split_once(':').ok_or("must be 'Name: value'")?;
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err("has no header's name before its colon");
    }
    let value = value.trim();
    if value.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if own.contains(&name.to_ascii_lowercase().as_str()) {
        return Err("is one that the program writes itself");
    }
    Ok((name, value))
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All headers of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Refused(words) => write!(f, "no connection: {words}"),
            Failure::Tls(words) => write!(f, "no TLS: {words}"),
            Failure::Timeout => f.write_str("no whole answer in time"),
            Failure::Closed => f.write_str("the connection was closed before the answer was whole"),
            Failure::NotHttp(begin) => write!(f, "no HTTP/1.1 answer: it begins with {begin:?}"),
            Failure::TooLong(part) => write!(f, "{part} is longer than any Socket.IO server's"),
            Failure::Frame(words) => write!(f, "no WebSocket frame: {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_cannot_say_more_than_itself() {
        assert_eq!(header("Cookie: a=b; c=d ", &["host"]), Ok(("Cookie", "a=b; c=d")));
        for (text, why) in [
            ("Cookie", "Name: value"),
            (": a", "no header's name"),
            ("A b: c", "no header's name"),
            ("A: b\r\nC: d", "control character"),
            ("HOST: a", "writes itself"),
        ] {
            assert!(header(text, &["host"]).unwrap_err().contains(why), "{text:?}");
        }
    }
}
