//! Origins and the patterns that name them (RFC 6454 §4, §6; Fetch standard, `Origin` header).
//!
//! Does not decide who may connect: `cors.rs` does.

use std::fmt;

use super::limits::SHOWN_CHARS_MAX;

/// Scheme, host and port of a page, as far as it could be read. Compares as browsers do: letters without
/// case, default ports the same as none, and `ws`/`wss` the same as `http`/`https`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The scheme's default when none is written; `None` for a scheme without one, such as an app's own.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// `None` for `null` and for anything that is no `scheme://host[:port]`.
    pub(super) fn parse(text: &'a str) -> Option<Origin<'a>> {
        let (scheme, authority) = text.split_once("://")?;
        Origin::from_parts(scheme, authority)
    }

    pub(super) fn from_parts(scheme: &'a str, authority: &'a str) -> Option<Origin<'a>> {
        let scheme = normal_scheme(scheme)?;
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => default_port(scheme),
        };
        is_host(host).then_some(Origin { scheme, host, port })
    }

    pub(super) fn host(&self) -> &'a str {
        self.host
    }

    pub(super) fn is_https(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("https")
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

/// An origin, or a family of origins, that may connect: `https://app.example.com`, `https://*.example.com`
/// (any one label in place of the star) or `http://localhost:*` (any port).
///
/// Letter case does not matter, a default port is the same as none, and `ws`/`wss` the same as
/// `http`/`https`. Made by [`str::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// Lower case, never `ws` or `wss`.
    scheme: String,
    /// Lower case. With `is_any_label`, what follows the star: `.example.com`.
    host: String,
    is_any_label: bool,
    port: PortPattern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortPattern {
    Any,
    Exactly(Option<u16>),
}

/// Why a text is no origin pattern, with what to write in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPatternError(String);

impl fmt::Display for OriginPatternError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for OriginPatternError {}

impl OriginPattern {
    pub(super) fn matches(&self, origin: &Origin<'_>) -> bool {
        let is_port = match self.port {
            PortPattern::Any => true,
            PortPattern::Exactly(port) => port == origin.port,
        };
        is_port && self.scheme.eq_ignore_ascii_case(origin.scheme) && self.matches_host(origin.host)
    }

    fn matches_host(&self, host: &str) -> bool {
        if !self.is_any_label {
            return self.host.eq_ignore_ascii_case(host);
        }
        // The star stands for the whole first label, so that what follows it begins at the first dot.
        host.find('.').is_some_and(|dot| dot > 0 && host[dot..].eq_ignore_ascii_case(&self.host))
    }
}

impl std::str::FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(text: &str) -> Result<OriginPattern, OriginPatternError> {
        let Some((scheme, authority)) = text.split_once("://") else { return Err(without_scheme(text)) };
        let Some(scheme) = normal_scheme(scheme) else {
            return Err(error(text, "its scheme has an illegal character"));
        };
        if let Some(end) = authority.find(['/', '?', '#']) {
            let fix =
                format!("an origin ends after the host and port: write \"{scheme}://{}\"", &authority[..end]);
            return Err(error(text, &fix));
        }
        let Some((host, port)) = split_port(authority) else {
            return Err(error(text, "an IPv6 address stands in brackets: \"http://[::1]:8080\""));
        };
        let port = match port {
            Some("*") => PortPattern::Any,
            None => PortPattern::Exactly(default_port(scheme)),
            Some(port) => match port.parse() {
                Ok(port) => PortPattern::Exactly(Some(port)),
                Err(_) => return Err(error(text, "the port must be 0 to 65535, or * for any port")),
            },
        };
        let star = host.strip_prefix('*').filter(|rest| rest.len() > 1 && rest.starts_with('.'));
        let plain = star.unwrap_or(host);
        if plain.contains('*') {
            return Err(error(
                text,
                "a * stands for the whole first label (https://*.example.com) or the port",
            ));
        }
        if !is_host(plain) {
            return Err(error(text, "the host is empty or has an illegal character"));
        }
        let (scheme, host) = (scheme.to_ascii_lowercase(), plain.to_ascii_lowercase());
        Ok(OriginPattern { scheme, host, is_any_label: star.is_some(), port })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_any_label { "*" } else { "" };
        write!(formatter, "{}://{star}{}", self.scheme, self.host)?;
        match self.port {
            PortPattern::Any => formatter.write_str(":*"),
            PortPattern::Exactly(Some(port)) if Some(port) != default_port(&self.scheme) => {
                write!(formatter, ":{port}")
            }
            PortPattern::Exactly(_) => Ok(()),
        }
    }
}

/// A peer's text for a log line: bounded, and without control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

fn error(text: &str, fix: &str) -> OriginPatternError {
    OriginPatternError(format!("\"{}\" is not an origin: {fix}", shown(text)))
}

fn without_scheme(text: &str) -> OriginPatternError {
    match text {
        "" => error(text, "it is empty"),
        "null" => error(text, "pages without an origin are allowed by \"*\" only"),
        _ => error(text, &format!("it needs a scheme, such as \"https://{}\"", shown(text))),
    }
}

/// `ws` and `wss` as what browsers call them in `Origin`; `None` when it is no scheme (RFC 3986 §3.1).
fn normal_scheme(scheme: &str) -> Option<&str> {
    let is_scheme = scheme.starts_with(|char: char| char.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let normal = match scheme {
        _ if scheme.eq_ignore_ascii_case("ws") => "http",
        _ if scheme.eq_ignore_ascii_case("wss") => "https",
        _ => scheme,
    };
    is_scheme.then_some(normal)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    }
}

/// Host and port; an empty port is none. `None` for an IPv6 address without brackets.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let after_literal = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after_literal..].find(':').map(|place| place + after_literal) else {
        return Some((authority, None));
    };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    (!port.contains(':')).then_some((host, Some(port).filter(|port| !port.is_empty())))
}

fn is_host(host: &str) -> bool {
    let is_illegal = |char: char| char.is_control() || char.is_whitespace() || "/?#@\\\"*,<>".contains(char);
    !host.is_empty() && !host.contains(is_illegal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_origins_compare_by_scheme_host_and_port() {
        for (left, right, equal) in [
            ("http://a", "http://a:80", true),
            ("https://a:443", "HTTPS://A", true),
            ("wss://a", "https://a", true),
            ("ws://a:8080", "http://a:8080", true),
            ("http://[::1]", "http://[::1]:80", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("http://a", "https://a", false),
            ("http://a:443", "https://a", false),
            ("http://localhost", "http://127.0.0.1", false),
            ("http://a", "http://a.b", false),
        ] {
            let (left, right) = (Origin::parse(left), Origin::parse(right));
            assert!(left.is_some() && right.is_some());
            assert_eq!(left == right, equal, "{left:?} {right:?}");
        }
        for text in
            ["null", "", "a", "http://", "http://a/b", "http://u@a", "1http://a", "http://a:x", "http://::1"]
        {
            assert!(Origin::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn patterns_match_one_label_and_any_port() {
        for (pattern, origin, matches) in [
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://A.EXAMPLE.com:443", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://a.b.example.com", false),
            ("https://*.example.com", "https://aexample.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "http://a.example.com", false),
            ("https://*.example.com", "https://a.example.com:8443", false),
            ("https://*.example.com", "https://a.example.com.evil.com", false),
            ("https://*.example.com:*", "https://a.example.com:8443", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost", "http://localhost:5173", false),
            ("wss://a.b", "https://a.b", true),
            ("tauri://localhost", "tauri://localhost", true),
        ] {
            let pattern: OriginPattern = pattern.parse().expect("the table holds patterns");
            let origin = Origin::parse(origin).expect("the table holds origins");
            assert_eq!(pattern.matches(&origin), matches, "{pattern} {origin:?}");
        }
    }

    #[test]
    fn patterns_are_shown_as_they_are_written() {
        for (text, shown) in [
            ("https://A.b:443", "https://a.b"),
            ("wss://*.a.b", "https://*.a.b"),
            ("http://localhost:*", "http://localhost:*"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(
                text.parse::<OriginPattern>().map(|pattern| pattern.to_string()).as_deref(),
                Ok(shown)
            );
        }
    }

    #[test]
    fn a_bad_pattern_is_told_what_to_write() {
        for (text, part) in [
            ("", "empty"),
            ("example.com", "\"https://example.com\""),
            ("null", "\"*\" only"),
            ("https://a.b/", "write \"https://a.b\""),
            ("https://a.b/c?d", "write \"https://a.b\""),
            ("https://a.*.b", "first label"),
            ("https://*", "first label"),
            ("https://*.", "first label"),
            ("https://a*.b", "first label"),
            ("https://", "host"),
            ("https://a b", "host"),
            ("http://a:99999", "port"),
            ("http://::1", "brackets"),
            ("ht tp://a", "scheme"),
        ] {
            let error = text.parse::<OriginPattern>().map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(part)), "{text}: {error:?}");
        }
    }
}
