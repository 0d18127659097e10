//! Origins and the patterns that name them (RFC 6454 §4, §6; Fetch standard, `Origin` header).
//!
//! Does not decide who may connect: `cors.rs` does.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

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
    /// `None` for `null` and for anything that is no `scheme://host[:port]` as a browser writes it.
    pub(super) fn parse(text: &'a str) -> Option<Origin<'a>> {
        let (scheme, authority) = text.split_once("://")?;
        Origin::from_parts(scheme, authority).filter(|_| !authority.ends_with(':'))
    }

    pub(super) fn from_parts(scheme: &'a str, authority: &'a str) -> Option<Origin<'a>> {
        let scheme = normal_scheme(scheme)?;
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => Some(parse_port(port)?),
            None => default_port(scheme),
        };
        is_host(host).then_some(Origin { scheme, host, port })
    }

    pub(super) fn host(&self) -> &'a str {
        self.host
    }

    /// Whether the host is an address or `localhost`: nobody can have a name of these lead elsewhere.
    pub(super) fn is_local(&self) -> bool {
        let host = self.host.to_ascii_lowercase();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<Ipv4Addr>().is_ok()
            || ipv6(&host).is_some()
    }

    pub(super) fn is_https(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("https")
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && are_one_host(self.host, other.host)
            && self.port == other.port
    }
}

/// An origin, or a family of origins, that may connect: `https://app.example.com`, `https://*.example.com`
/// (any one label in place of the star) or `http://localhost:*` (any port).
///
/// Letter case does not matter, a default port is the same as none, and `ws`/`wss` the same as
/// `http`/`https`. `https://bücher.example` means what browsers send for it, `https://xn--bcher-kva.example`, if the
/// feature `idna` is on; without it write the latter. `null` is
/// what browsers send for pages without an origin: those of sandboxed frames, `data:` addresses and, mostly, files. Any site can make
/// one, so list it only where no cookie tells clients apart. Made by [`str::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// One of [`OPAQUE`], compared as it is.
    Opaque(&'static str),
    Family(Family),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    /// Lower case, never `ws` or `wss`.
    scheme: String,
    /// Lower case. With `is_any_label`, what follows the star: `.example.com`.
    host: String,
    is_any_label: bool,
    port: PortPattern,
}

/// What stands in `Origin` where a page has none: of sandboxed frames, and of files in some embedded browsers.
const OPAQUE: [&str; 2] = ["null", "file://"];

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
    /// Whether a request's `Origin` is meant.
    pub(super) fn matches(&self, text: &str) -> bool {
        match &self.0 {
            Pattern::Opaque(opaque) => *opaque == text,
            Pattern::Family(family) => Origin::parse(text).is_some_and(|origin| family.matches(&origin)),
        }
    }
}

impl Family {
    fn matches(&self, origin: &Origin<'_>) -> bool {
        let is_port = match self.port {
            PortPattern::Any => true,
            PortPattern::Exactly(port) => port == origin.port,
        };
        is_port && self.scheme.eq_ignore_ascii_case(origin.scheme) && self.matches_host(origin.host)
    }

    fn matches_host(&self, host: &str) -> bool {
        if !self.is_any_label {
            return are_one_host(&self.host, host);
        }
        // The star stands for the whole first label, so that what follows it begins at the first dot.
        host.find('.').is_some_and(|dot| dot > 0 && host[dot..].eq_ignore_ascii_case(&self.host))
    }
}

impl std::str::FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(text: &str) -> Result<OriginPattern, OriginPatternError> {
        if let Some(opaque) = OPAQUE.into_iter().find(|opaque| *opaque == text) {
            return Ok(OriginPattern(Pattern::Opaque(opaque)));
        }
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
            Some(port) => match parse_port(port) {
                Some(port) => PortPattern::Exactly(Some(port)),
                None => return Err(error(text, "the port must be 0 to 65535, or * for any port")),
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
        let Some(host) = ascii_host(plain) else {
            return Err(error(
                text,
                "write its host as browsers send it, in punycode (xn--..), or build shardcast with its feature idna",
            ));
        };
        if !is_host(host.strip_prefix('.').filter(|_| star.is_some()).unwrap_or(&host)) {
            return Err(error(text, "the host is empty, has an illegal character, or is no whole address"));
        }
        let family = Family { scheme: scheme.to_ascii_lowercase(), host, is_any_label: star.is_some(), port };
        Ok(OriginPattern(Pattern::Family(family)))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match &self.0 {
            Pattern::Opaque(opaque) => return formatter.write_str(opaque),
            Pattern::Family(family) => family,
        };
        let star = if family.is_any_label { "*" } else { "" };
        write!(formatter, "{}://{star}{}", family.scheme, family.host)?;
        match family.port {
            PortPattern::Any => formatter.write_str(":*"),
            PortPattern::Exactly(Some(port)) if Some(port) != default_port(&family.scheme) => {
                write!(formatter, ":{port}")
            }
            PortPattern::Exactly(_) => Ok(()),
        }
    }
}

/// A peer's text for a log line: bounded, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// An origin or a host for a log line, without what may be secret in one that no browser writes: a name and password before the
/// host, a query behind it.
pub(super) fn shown_origin(text: &str) -> String {
    let (scheme, rest) = text.find("://").map_or(("", text), |end| text.split_at(end + 3));
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (place, query) = rest.find(['?', '#']).map_or((rest, ""), |end| (&rest[..end], "?***"));
    format!("{}{user}{}{query}", shown(scheme), shown(place))
}

fn error(text: &str, fix: &str) -> OriginPatternError {
    OriginPatternError(format!("\"{}\" is not an origin: {fix}", shown(text)))
}

fn without_scheme(text: &str) -> OriginPatternError {
    match text {
        "" => error(text, "it is empty"),
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

/// A port as a browser writes it: digits, and no more of them than it takes.
fn parse_port(text: &str) -> Option<u16> {
    let is_shortest =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_shortest)
}

/// A name as browsers send it: in punycode (UTS 46), lower case. What is no name stays as it is, and is refused later.
#[cfg(feature = "idna")]
fn ascii_host(host: &str) -> Option<String> {
    let (dot, name) = host.strip_prefix('.').map_or(("", host), |name| (".", name));
    Some(match idna::domain_to_ascii(name) {
        Ok(ascii) if !name.starts_with('[') => format!("{dot}{ascii}"),
        _ => host.to_ascii_lowercase(),
    })
}

/// A name of ASCII in lower case; `None` for one that the feature `idna` would translate.
#[cfg(not(feature = "idna"))]
fn ascii_host(host: &str) -> Option<String> {
    host.is_ascii().then(|| host.to_ascii_lowercase())
}

/// Whether a host is a whole address or a name of ASCII, without what the URL standard forbids in one. Names keep a dot at
/// their end: with it they are another origin for browsers, too.
pub(super) fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        return ipv6(host).is_some();
    }
    let is_legal = |byte: u8| byte.is_ascii_graphic() && !b"\"#%*,/:<>?@[\\]^`{|}".contains(&byte);
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    // A name whose last label is a number is an IPv4 address, and browsers write it in full.
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    host.bytes().all(is_legal)
        && name.split('.').all(|label| !label.is_empty())
        && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

/// The address in a host such as `[::1]`.
pub(super) fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Two ways to write one host: letter case, and what of an IPv6 address is left out.
fn are_one_host(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || left.starts_with('[') && ipv6(left).is_some_and(|address| ipv6(right) == Some(address))
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
            ("http://[::1]", "http://[0:0:0:0:0:0:0:1]", true),
            ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]", true),
            ("http://[::1]", "http://[::2]", false),
            ("http://a.example", "http://a.example.", false),
            ("http://1.2.3.4", "http://1.2.3.4:80", true),
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
    }

    #[test]
    fn s6_2_what_no_browser_writes_is_no_origin() {
        for text in [
            "null",
            "",
            "a",
            "http://",
            "http://a/b",
            "http://a/",
            "http://a?b",
            "http://a#b",
            "1http://a",
            "http://a:x",
            "http://::1",
            "http://u@a",
            "http://u:p@a",
            "http://a@",
            "http://a:",
            "http://a:+80",
            "http://a:080",
            "http://a:65536",
            "http://a:-1",
            "http://a:80:80",
            "http://a b",
            " http://a",
            "http://a ",
            "http://a\\b",
            "http://a%2eb",
            "http://a|b",
            "http://a^b",
            "http://a,b",
            "http://*.a",
            "http://.a",
            "http://a..b",
            "http://.",
            "http://[::1",
            "http://::1]",
            "http://[a]",
            "http://[::1]a",
            "http://[::1%25eth0]",
            "http://[1.2.3.4]",
            "http://1.2.3",
            "http://1.2.3.4.5",
            "http://01.2.3.4",
            "http://256.1.1.1",
            "http://1",
            "http://b\u{fc}cher",
            "http:///a",
            "http:a",
            "//a",
            "http://a\u{0}",
            "file://",
            "data:text/html,x",
            "http://a http://b",
        ] {
            assert!(Origin::parse(text).is_none(), "{text}");
        }
    }

    /// Without the feature `idna` such a pattern is refused, and told to be written in punycode.
    fn is_untranslated(pattern: &str) -> bool {
        let is_untranslated = !cfg!(feature = "idna") && !pattern.is_ascii();
        if is_untranslated {
            let fault = pattern.parse::<OriginPattern>().map_err(|error| error.to_string());
            assert!(fault.is_err_and(|fault| fault.contains("punycode")), "{pattern}");
        }
        is_untranslated
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
            ("null", "null", true),
            ("null", "NULL", false),
            ("null", "http://null", false),
            ("http://null", "null", false),
            ("file://", "file://", true),
            ("file://", "file:///x", false),
            ("https://*.example.com", "https://a.example.com.", false),
            ("https://*.example.com", "https://u@a.example.com", false),
            ("https://*.example.com", "https://evil.com#.example.com", false),
            ("https://*.example.com", "https://evil.com\\.example.com", false),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example", true),
            ("https://B\u{dc}CHER.example", "https://xn--bcher-kva.example", true),
            ("https://bu\u{308}cher.example", "https://xn--bcher-kva.example", true),
            ("https://b\u{fc}cher.example", "https://bucher.example", false),
            ("https://*.b\u{fc}cher.example", "https://a.xn--bcher-kva.example", true),
            ("https://\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", "https://xn--r8jz45g.xn--zckzah", true),
            ("https://stra\u{df}e.example", "https://xn--strae-oqa.example", true),
            ("https://\u{ff41}.example", "https://a.example", true),
            ("https://xn--bcher-kva.example", "https://XN--BCHER-KVA.example", true),
            ("http://[0:0:0:0:0:0:0:1]:8080", "http://[::1]:8080", true),
        ] {
            if is_untranslated(pattern) {
                continue;
            }
            let parsed: OriginPattern = pattern.parse().unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(parsed.matches(origin), matches, "{pattern} {origin:?}");
        }
    }

    #[test]
    fn patterns_are_shown_as_they_are_written() {
        for (text, shown) in [
            ("https://A.b:443", "https://a.b"),
            ("wss://*.a.b", "https://*.a.b"),
            ("http://localhost:*", "http://localhost:*"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("null", "null"),
            ("https://*.B\u{fc}cher.example:*", "https://*.xn--bcher-kva.example:*"),
        ] {
            if is_untranslated(text) {
                continue;
            }
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
            ("Null", "scheme"),
            ("https://u@a.b", "host"),
            ("https://a.b:+1", "port"),
            ("http://127.1", "address"),
            ("http://[::g]", "address"),
            ("http://a..b", "host"),
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
