//! Which pages may connect, and the headers that tell their browser so (Fetch standard, CORS protocol).
//!
//! Applies to every request with an `Origin`, WebSocket upgrades included: browsers do not check those
//! themselves. Does not know whether forwarded headers can be trusted; who calls does.

use std::fmt;
use std::sync::Arc;

use crate::base::guard::guarded;

use super::cors_pattern::{Origin, shown, shown_origin};
pub use super::cors_pattern::{OriginPattern, OriginPatternError};
use super::headers::elements;
use super::response::Response;
use super::status::Status;

/// What a preflight allows, as the `cors` package of Node answers.
const METHODS_ALLOWED: &str = "GET,HEAD,PUT,PATCH,POST,DELETE";

/// A rule of the application's own: the origin received, to whether it may connect.
pub type OriginCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Which origins may connect: the configuration key `cors_allowed_origins`.
///
/// A request without an `Origin` header comes from no browser and is always allowed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum CorsOrigins {
    /// The page must come from the host it connects to, as the request names it or as a trusted proxy
    /// forwards it. The default, as in Flask-SocketIO.
    #[default]
    SameOrigin,
    /// Every page on the web, those without an origin (`null`) included: `"*"`.
    Any,
    /// These, and the page that comes from the host it connects to, as [`SameOrigin`](CorsOrigins::SameOrigin) has it. Stock Python
    /// clients need that: over WebSocket they name the server's own origin, as pages do.
    List(Vec<OriginPattern>),
    /// Whatever the function says.
    Custom(OriginCheck),
    /// Nothing is checked and no header is sent, as in Node by default and with Flask-SocketIO's empty
    /// list: `"off"`. Any page may then open a WebSocket with the visitor's cookies.
    Unchecked,
}

impl CorsOrigins {
    /// Reads the text of a configuration: `same-origin`, `*`, `off`, or a list of origins and patterns
    /// separated by commas.
    ///
    /// ```
    /// use shardcast::http::CorsOrigins;
    ///
    /// let origins = CorsOrigins::parse("https://*.example.com, http://localhost:*")?;
    /// assert_eq!(origins.to_string(), "https://*.example.com, http://localhost:*");
    /// # Ok::<(), shardcast::http::OriginPatternError>(())
    /// ```
    ///
    /// # Errors
    /// [`OriginPatternError`] says which element is wrong and what to write in its place.
    pub fn parse(text: &str) -> Result<CorsOrigins, OriginPatternError> {
        match text.trim() {
            "same-origin" => Ok(CorsOrigins::SameOrigin),
            "*" => Ok(CorsOrigins::Any),
            "off" => Ok(CorsOrigins::Unchecked),
            list => {
                let patterns = list.split(',').map(|element| element.trim().parse());
                patterns.collect::<Result<_, _>>().map(CorsOrigins::List)
            }
        }
    }

    /// A rule of the application's own: it gets the `Origin` header as it came, and says whether the page may connect.
    ///
    /// ```
    /// use shardcast::{Config, EngineOptions, http::CorsOrigins};
    ///
    /// let cors_allowed_origins = CorsOrigins::custom(|origin| origin.ends_with(".example.com"));
    /// let engine = EngineOptions { cors_allowed_origins, ..EngineOptions::default() };
    /// let config = Config { engine, ..Config::default() };
    /// ```
    pub fn custom(rule: impl Fn(&str) -> bool + Send + Sync + 'static) -> CorsOrigins {
        CorsOrigins::Custom(Arc::new(rule))
    }

    /// Whether two rules are one: the same origins, or the same function.
    pub(crate) fn is_same(&self, other: &CorsOrigins) -> bool {
        match (self, other) {
            (CorsOrigins::Custom(one), CorsOrigins::Custom(other)) => Arc::ptr_eq(one, other),
            _ => self.to_string() == other.to_string(),
        }
    }

    /// Whether the request may go on.
    pub(crate) fn decide(&self, request: &OriginView<'_>) -> Decision {
        match (request.origin, self.allows(request)) {
            (None, _) | (_, None) => Decision::NoOrigin,
            (_, Some(true)) => Decision::Allowed,
            (Some(origin), Some(false)) => Decision::Refused(self.refusal(origin, request)),
        }
    }

    /// Whether the request's origin is allowed; `None` when it names none, or nothing is checked.
    pub(crate) fn allows(&self, request: &OriginView<'_>) -> Option<bool> {
        let origin = request.origin?;
        Some(match self {
            CorsOrigins::Unchecked => return None,
            CorsOrigins::Any => true,
            // The text is the peer's: a rule that panics at it refuses, and harms nobody else.
            CorsOrigins::Custom(check) => {
                guarded(|| check(origin)).unwrap_or_else(|panic| {
                    tracing::error!(origin = shown_origin(origin), message = %panic, "the cors_allowed_origins function panicked");
                    false
                })
            }
            CorsOrigins::SameOrigin => request.comes_from_own(origin),
            CorsOrigins::List(patterns) => {
                patterns.iter().any(|pattern| pattern.matches(origin)) || request.comes_from_own(origin)
            }
        })
    }

    fn refusal(&self, origin: &str, request: &OriginView<'_>) -> RefusedOrigin {
        let own = || {
            let own =
                request.own().map(|(scheme, host)| format!("{}://{}", shown(scheme), shown_origin(host)));
            format!("the server's own origin {}", own.collect::<Vec<_>>().join(" or "))
        };
        let compared_to = match self {
            CorsOrigins::SameOrigin => own(),
            CorsOrigins::List(_) => format!("cors_allowed_origins = \"{self}\" and {}", own()),
            CorsOrigins::Custom(_) => "the cors_allowed_origins function".to_owned(),
            CorsOrigins::Any | CorsOrigins::Unchecked => "nothing".to_owned(),
        };
        RefusedOrigin { origin: shown_origin(origin), compared_to, fix: self.fix(origin, request) }
    }

    fn fix(&self, origin: &str, request: &OriginView<'_>) -> String {
        if matches!(self, CorsOrigins::Custom(_)) {
            return "make the function return true for it".to_owned();
        }
        let parsed = Origin::parse(origin);
        let Ok(pattern) = origin.parse::<OriginPattern>() else {
            return "it is no origin that can be listed; only cors_allowed_origins = \"*\" allows it"
                .to_owned();
        };
        match self {
            _ if parsed.is_none() => format!(
                "it is what pages without an origin send, such as sandboxed frames, which any site can make; to allow them all: \
                 add \"{pattern}\" to the list of cors_allowed_origins"
            ),
            CorsOrigins::List(_) => format!("to allow it: cors_allowed_origins = \"{self}, {pattern}\""),
            _ if parsed.is_some_and(|parsed| request.is_behind_tls(&parsed)) => format!(
                "if a proxy speaks TLS for this server, let it send X-Forwarded-Proto: https and be \
                 trusted; else, to allow it: cors_allowed_origins = \"{pattern}\""
            ),
            _ => format!("to allow it: cors_allowed_origins = \"{pattern}\""),
        }
    }
}

/// In a configuration: the text of [`CorsOrigins::parse`], or a list of origins.
impl<'de> serde::Deserialize<'de> for CorsOrigins {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<CorsOrigins, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::List(list) => list.join(","),
        };
        CorsOrigins::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for CorsOrigins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorsOrigins::SameOrigin => formatter.write_str("same-origin"),
            CorsOrigins::Any => formatter.write_str("*"),
            CorsOrigins::Custom(_) => formatter.write_str("(function)"),
            CorsOrigins::Unchecked => formatter.write_str("off"),
            CorsOrigins::List(patterns) => {
                let texts: Vec<_> = patterns.iter().map(OriginPattern::to_string).collect();
                formatter.write_str(&texts.join(", "))
            }
        }
    }
}

impl fmt::Debug for CorsOrigins {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CorsOrigins({self})")
    }
}

/// What the decision needs of a request. Forwarded values only from a proxy that is trusted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OriginView<'a> {
    /// The `Origin` header.
    pub(crate) origin: Option<&'a str>,
    /// `Head::host`.
    pub(crate) host: Option<&'a str>,
    /// Whether this server speaks TLS on the connection.
    pub(crate) is_tls: bool,
    /// The `X-Forwarded-Proto` header; the first element of a list counts.
    pub(crate) forwarded_proto: Option<&'a str>,
    /// The `X-Forwarded-Host` header; the first element of a list counts.
    pub(crate) forwarded_host: Option<&'a str>,
}

impl<'a> OriginView<'a> {
    /// The origins this server has in the eyes of the client: as received, then as forwarded.
    fn own(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let scheme = if self.is_tls { "https" } else { "http" };
        let proto = self.forwarded_proto.and_then(|list| elements(list).next());
        let host = self.forwarded_host.and_then(|list| elements(list).next());
        let direct = self.host.map(|host| (scheme, host));
        let forwarded = match (proto, host) {
            (None, None) => None,
            _ => host.or(self.host).map(|host| (proto.unwrap_or(scheme), host)),
        };
        [direct, forwarded].into_iter().flatten()
    }

    fn comes_from_own(&self, origin: &str) -> bool {
        Origin::parse(origin).is_some_and(|origin| self.is_own(&origin))
    }

    fn is_own(&self, origin: &Origin<'_>) -> bool {
        self.own().any(|(scheme, host)| Origin::from_parts(scheme, host).is_some_and(|own| own == *origin))
    }

    /// The commonest trap: the page is https, its proxy talks plain HTTP to us and does not say so.
    fn is_behind_tls(&self, origin: &Origin<'_>) -> bool {
        let is_host = |(scheme, host)| {
            let own = Origin::from_parts(scheme, host);
            own.is_some_and(|own| !own.is_https() && own.host().eq_ignore_ascii_case(origin.host()))
        };
        origin.is_https() && self.forwarded_proto.is_none() && self.own().any(is_host)
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Goes on, without CORS headers: it names no origin, or nothing is checked.
    NoOrigin,
    /// Goes on, and every answer to it, errors and the 101 included, carries the headers of a [`Grant`].
    Allowed,
    /// Is answered 400 without CORS headers, and the refusal is logged.
    Refused(RefusedOrigin),
}

/// A refusal that says how to lift it. Holds the peer's text bounded and escaped; for the log, not the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedOrigin {
    origin: String,
    compared_to: String,
    fix: String,
}

impl fmt::Display for RefusedOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefusedOrigin { origin, compared_to, fix } = self;
        write!(formatter, "origin \"{origin}\" refused: it was compared to {compared_to}; {fix}")
    }
}

impl std::error::Error for RefusedOrigin {}

/// The field that tells a browser which page may read an answer.
pub(crate) const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";

/// What every answer to one request says to the browser of an allowed origin.
// Invariant: the origin holds no control character, so it cannot split a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    origin: Box<str>,
    has_credentials: bool,
}

impl Grant {
    /// `None` for an origin that cannot stand in a header.
    pub(crate) fn new(origin: &str, has_credentials: bool) -> Option<Grant> {
        let is_sound = !origin.chars().any(char::is_control);
        is_sound.then(|| Grant { origin: origin.into(), has_credentials })
    }

    /// The headers. Caches must keep answers apart by origin, hence `Vary`.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let credentials = self.has_credentials.then_some(("Access-Control-Allow-Credentials", "true"));
        let always = [(ALLOW_ORIGIN, &*self.origin), ("Vary", "Origin")];
        always.into_iter().chain(credentials)
    }
}

/// The path and the origin of a request whose head is incomplete or broken, as far as they can be seen: its refusal must be
/// readable for the page that sent it, too. Of two origins none counts.
pub(crate) fn scan_head(input: &[u8]) -> Option<(&str, &str)> {
    let mut lines = input.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let target = lines.next()?.split(|&byte| byte == b' ').nth(1)?;
    let path = target.split(|&byte| byte == b'?').next()?;
    let fields = lines.take_while(|line| !line.trim_ascii().is_empty());
    let mut origins = fields.filter_map(|line| {
        let (name, value) = line.split_at_checked(line.iter().position(|&byte| byte == b':')?)?;
        name.eq_ignore_ascii_case(b"origin").then(|| value[1..].trim_ascii())
    });
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    Some((std::str::from_utf8(path).ok()?, std::str::from_utf8(origin).ok()?))
}

/// The answer to a preflight, which is OPTIONS with `Access-Control-Request-Method`, from an allowed origin:
/// 204 with the requested headers granted. Its [`Grant`] names the origin, as in every answer.
pub(crate) fn preflight(requested_headers: Option<&str>) -> Response {
    let response = Response::new(Status::NO_CONTENT)
        .header("Access-Control-Allow-Methods", METHODS_ALLOWED)
        .header("Vary", "Access-Control-Request-Headers");
    match requested_headers {
        Some(names) => response.header("Access-Control-Allow-Headers", names.to_owned()),
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(text: &str) -> CorsOrigins {
        CorsOrigins::parse(text).expect("the tests' own text")
    }

    fn view<'a>(origin: &'a str, host: &'a str) -> OriginView<'a> {
        OriginView { origin: Some(origin), host: Some(host), ..OriginView::default() }
    }

    fn is_allowed(origins: &CorsOrigins, view: OriginView<'_>) -> bool {
        origins.decide(&view) == Decision::Allowed
    }

    #[test]
    fn same_origin_compares_with_host_and_what_a_proxy_forwards() {
        let forwarded =
            |proto, host, view| OriginView { forwarded_proto: proto, forwarded_host: host, ..view };
        for (view, allowed) in [
            (view("http://a:5000", "a:5000"), true),
            (view("http://a", "A:80"), true),
            (view("ws://a", "a"), true),
            (view("https://a", "a"), false),
            (view("http://a:5001", "a:5000"), false),
            (view("http://localhost:5000", "127.0.0.1:5000"), false),
            (view("null", "a"), false),
            (view("http://", ""), false),
            (OriginView { is_tls: true, ..view("https://a", "a:443") }, true),
            (OriginView { host: None, ..view("http://a", "") }, false),
            (forwarded(Some("https"), None, view("https://a", "a")), true),
            (forwarded(Some(" https , http"), Some("b.c , d"), view("https://b.c", "a:8000")), true),
            (forwarded(None, Some("b.c"), view("http://b.c", "a")), true),
            (forwarded(Some("https"), Some("b.c"), view("http://a", "a")), true),
            (forwarded(Some("https"), Some("b.c"), view("https://d", "a")), false),
            (forwarded(Some(""), Some(""), view("https://a", "a")), false),
        ] {
            assert_eq!(is_allowed(&CorsOrigins::SameOrigin, view), allowed, "{view:?}");
        }
    }

    #[test]
    fn the_other_rules_look_at_the_origin_alone() {
        let custom = CorsOrigins::Custom(Arc::new(|origin| origin.ends_with(".dev")));
        let panicking = CorsOrigins::Custom(Arc::new(|origin| origin.split("://").nth(1).unwrap() == "a"));
        assert!(is_allowed(&panicking, view("http://a", "b")) && !is_allowed(&panicking, view("null", "b")));
        for (origins, origin, allowed) in [
            (origins("*"), "http://evil", true),
            (origins("*"), "null", true),
            (origins("https://a.b, http://localhost:*"), "http://localhost:3000", true),
            (origins("https://a.b, http://localhost:*"), "https://a.b:443", true),
            (origins("https://a.b"), "http://own", true),
            (origins("https://a.b"), "http://own:80", true),
            (origins("https://a.b"), "https://own", false),
            (origins("https://a.b"), "http://own.b", false),
            (origins("https://a.b"), "http://own:81", false),
            (origins("https://a.b"), "null", false),
            (origins("https://a.b, null"), "null", true),
            (origins("https://a.b, null"), "https://c.d", false),
            (origins("null"), "https://a.b", false),
            (custom.clone(), "https://x.dev", true),
            (custom, "https://x.com", false),
        ] {
            assert_eq!(is_allowed(&origins, view(origin, "own")), allowed, "{origins} {origin}");
        }
    }

    #[test]
    fn without_an_origin_nothing_is_refused() {
        let native = OriginView { host: Some("a"), ..OriginView::default() };
        for text in ["same-origin", "*", "off", "https://a.b"] {
            assert_eq!(origins(text).decide(&native), Decision::NoOrigin, "{text}");
            assert_eq!(origins(text).to_string(), text);
        }
        assert_eq!(origins("off").decide(&view("http://evil", "a")), Decision::NoOrigin);
    }

    #[test]
    fn a_refusal_says_how_to_lift_it() {
        let custom = CorsOrigins::Custom(Arc::new(|_| false));
        for (origins, view, parts) in [
            (
                CorsOrigins::SameOrigin,
                view("http://x.y:3000", "a"),
                ["\"http://x.y:3000\"", "http://a", "cors_allowed_origins = \"http://x.y:3000\""],
            ),
            (
                origins("https://a.b"),
                view("wss://c.d", "a"),
                [
                    "\"wss://c.d\"",
                    "\"https://a.b\" and the server's own origin http://a;",
                    "cors_allowed_origins = \"https://a.b, https://c.d\"",
                ],
            ),
            (
                CorsOrigins::SameOrigin,
                view("https://a", "a:8000"),
                ["http://a:8000", "X-Forwarded-Proto", "proxy"],
            ),
            (CorsOrigins::SameOrigin, view("null", "a"), ["\"null\"", "http://a", "\"null\" to the list"]),
            (custom, view("http://x", "a"), ["\"http://x\"", "function", "return true"]),
        ] {
            let Decision::Refused(refused) = origins.decide(&view) else {
                panic!("{view:?} must be refused")
            };
            let text = refused.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_safe_to_log() {
        let long = format!("http://a\u{85}\u{202e}{}", "b".repeat(10_000));
        let Decision::Refused(refused) = CorsOrigins::SameOrigin.decide(&view(&long, &long)) else {
            panic!()
        };
        let text = refused.to_string();
        assert!(text.len() < 2000 && !text.contains(['\u{85}', '\u{202e}']), "{text}");
    }

    #[test]
    fn a_refusal_says_no_password_and_no_query() {
        let rows = [
            ("http://ada:secret@a.example", "http://***@a.example"),
            ("http://ada:sec@secret@a.example:80", "http://***@a.example:80"),
            ("http://ada:?secret/#@a.example", "http://***@a.example"),
            ("http://secret@", "http://***@"),
            ("secret@a.example", "***@a.example"),
            ("secret://secret@a.example", "secret://***@a.example"),
            ("http://a.example?token=secret", "http://a.example?***"),
            ("http://a.example/path?token=secret@", "http://***@"),
            ("http://a.example#secret", "http://a.example?***"),
            ("http://a.example/", "http://a.example/"),
            ("null", "null"),
        ];
        for (origin, shown) in rows {
            for rule in
                [CorsOrigins::SameOrigin, CorsOrigins::List(Vec::new()), CorsOrigins::custom(|_| false)]
            {
                let Decision::Refused(refused) = rule.decide(&view(origin, origin)) else {
                    panic!("{origin}")
                };
                let text = refused.to_string();
                assert!(text.contains(&format!("{shown:?}")), "{text}");
                assert!(!text.replace("secret://", "").contains("secret"), "{text}");
            }
        }
    }

    #[test]
    fn configuration_that_cannot_be_meant_is_refused() {
        for text in ["", "a.com", "*, https://a.b", "https://a.b,", "off, https://a.b", "http://a/"] {
            assert!(CorsOrigins::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_allowed_origin_is_echoed() {
        let grant = Grant::new("http://a", true).expect("it is sound");
        let headers: Vec<_> = grant.headers().collect();
        assert_eq!(
            headers,
            [
                ("Access-Control-Allow-Origin", "http://a"),
                ("Vary", "Origin"),
                ("Access-Control-Allow-Credentials", "true"),
            ]
        );
        assert_eq!(Grant::new("http://a", false).map(|grant| grant.headers().count()), Some(2));
        assert_eq!(Grant::new("http://a\u{85}", false), None);
        let response = preflight(Some("x-a, x-b"));
        let headers: Vec<_> = response.headers().collect();
        assert_eq!(response.status(), Status::NO_CONTENT);
        assert!(headers.contains(&("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")));
        assert!(headers.contains(&("Access-Control-Allow-Headers", "x-a, x-b")));
        assert!(headers.contains(&("Vary", "Access-Control-Request-Headers")));
    }

    #[test]
    fn path_and_origin_are_seen_in_a_head_that_is_none() {
        for (head, expected) in [
            ("GET /a?b HTTP/1.1\r\nHost: x\r\nORIGIN:  http://a \r\nBad", Some(("/a", "http://a"))),
            ("GET /a HTTP/9\nOrigin: http://a\n\n", Some(("/a", "http://a"))),
            ("GET /a HTTP/1.1\r\nOrigin: http://a", None),
            ("GET /a HTTP/1.1\r\n\r\nOrigin: http://a\r\n", None),
            ("GET /a HTTP/1.1\r\nOrigin: http://a\r\nOrigin: http://b\r\n", None),
            ("GET\r\nOrigin: http://a\r\n", None),
            ("GET /a", None),
            ("\n\n\n:\n", None),
            ("", None),
        ] {
            assert_eq!(scan_head(head.as_bytes()), expected, "{head:?}");
        }
        assert_eq!(scan_head(b"GET /\xff HTTP/1.1\nOrigin: a\n"), None);
    }
}
