//! Cookies: read from a request, written to a response (RFC 6265 §4, §5.4).
//!
//! Does not sign, encrypt or keep them.

use std::fmt::Write;

use super::headers::is_token;

/// The cookies of one `Cookie` header, in order. Pieces without `=` are left out; quotes around a value are
/// removed, as Python's and Node's parsers do.
pub(crate) fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        Some((name.trim(), unquoted(value.trim())))
    })
}

/// The value of a cookie; of a name given twice the first one, which has the longest path (RFC 6265 §5.4).
pub(crate) fn get<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    pairs(header).find(|(other, _)| *other == name).map(|(_, value)| value)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Whether another site's page makes the browser send the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// On navigation only.
    Lax,
    /// Always; browsers demand `Secure` with it.
    None,
}

/// Why a cookie cannot be sent: our caller's mistake, never the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieError {
    /// The name is not a token.
    NameIllegal,
    /// The value holds a control character, blank, quote, comma, semicolon or backslash.
    ValueIllegal,
    /// The path does not start with `/`, or holds a control character or semicolon.
    PathIllegal,
    /// The domain is empty, or holds something else than letters, digits, dots and hyphens.
    DomainIllegal,
    /// Browsers drop `SameSite=None` without `Secure`.
    SameSiteNoneNeedsSecure,
}

impl std::fmt::Display for CookieError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            CookieError::NameIllegal => "the cookie's name is empty or holds an illegal character",
            CookieError::ValueIllegal => "the cookie's value holds an illegal character; encode it first",
            CookieError::PathIllegal => {
                "the cookie's path must start with / and hold no control character or ;"
            }
            CookieError::DomainIllegal => "the cookie's domain must be a host name",
            CookieError::SameSiteNoneNeedsSecure => "browsers drop a SameSite=None cookie that is not Secure",
        })
    }
}

impl std::error::Error for CookieError {}

/// A `Set-Cookie` header in the making. Checked by [`SetCookie::encode`].
#[derive(Clone, Copy, Debug)]
pub struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    path: Option<&'a str>,
    domain: Option<&'a str>,
    is_http_only: bool,
    is_secure: bool,
    same_site: Option<SameSite>,
    max_age_seconds: Option<u64>,
}

impl<'a> SetCookie<'a> {
    /// A session cookie without attributes.
    pub fn new(name: &'a str, value: &'a str) -> SetCookie<'a> {
        SetCookie {
            name,
            value,
            path: None,
            domain: None,
            is_http_only: false,
            is_secure: false,
            same_site: None,
            max_age_seconds: None,
        }
    }

    /// Requests below this path carry the cookie.
    pub fn path(self, path: &'a str) -> SetCookie<'a> {
        SetCookie { path: Some(path), ..self }
    }

    /// Hosts below this domain carry the cookie too; without it only the host that set it.
    pub fn domain(self, domain: &'a str) -> SetCookie<'a> {
        SetCookie { domain: Some(domain), ..self }
    }

    /// Scripts cannot read it.
    pub fn http_only(self, is_http_only: bool) -> SetCookie<'a> {
        SetCookie { is_http_only, ..self }
    }

    /// Only https and wss carry it.
    pub fn secure(self, is_secure: bool) -> SetCookie<'a> {
        SetCookie { is_secure, ..self }
    }

    /// What other sites' pages may do.
    pub fn same_site(self, same_site: SameSite) -> SetCookie<'a> {
        SetCookie { same_site: Some(same_site), ..self }
    }

    /// How long the browser keeps it; zero removes it.
    pub fn max_age(self, seconds: u64) -> SetCookie<'a> {
        SetCookie { max_age_seconds: Some(seconds), ..self }
    }

    /// The value of the `Set-Cookie` header, or what is illegal in it.
    pub fn encode(&self) -> Result<String, CookieError> {
        self.check()?;
        let mut text = format!("{}={}", self.name, self.value);
        if let Some(path) = self.path {
            text.push_str("; Path=");
            text.push_str(path);
        }
        if let Some(domain) = self.domain {
            text.push_str("; Domain=");
            text.push_str(domain);
        }
        if let Some(seconds) = self.max_age_seconds {
            write!(text, "; Max-Age={seconds}").expect("a String takes every write");
        }
        text.push_str(if self.is_http_only { "; HttpOnly" } else { "" });
        text.push_str(if self.is_secure { "; Secure" } else { "" });
        text.push_str(match self.same_site {
            Some(SameSite::Strict) => "; SameSite=Strict",
            Some(SameSite::Lax) => "; SameSite=Lax",
            Some(SameSite::None) => "; SameSite=None",
            None => "",
        });
        Ok(text)
    }

    fn check(&self) -> Result<(), CookieError> {
        if !is_token(self.name) {
            return Err(CookieError::NameIllegal);
        }
        // RFC 6265 §4.1.1: cookie-octet.
        if !self.value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)) {
            return Err(CookieError::ValueIllegal);
        }
        let is_path = |path: &str| {
            path.starts_with('/') && path.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b';')
        };
        if !self.path.is_none_or(is_path) {
            return Err(CookieError::PathIllegal);
        }
        let is_domain = |domain: &str| {
            let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
            !domain.is_empty() && domain.bytes().all(is_host_byte)
        };
        if !self.domain.is_none_or(is_domain) {
            return Err(CookieError::DomainIllegal);
        }
        if self.same_site == Some(SameSite::None) && !self.is_secure {
            return Err(CookieError::SameSiteNoneNeedsSecure);
        }
        Ok(())
    }
}

/// A cookie without its value, as a configuration writes it: a name, then attributes as in `Set-Cookie`.
///
/// What is not named is as in Node: `Path=/; HttpOnly; SameSite=Lax`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieTemplate {
    name: String,
    path: String,
    domain: Option<String>,
    is_http_only: bool,
    is_secure: bool,
    same_site: SameSite,
    max_age_seconds: Option<u64>,
}

impl CookieTemplate {
    /// Reads `io` or `io; Path=/; Domain=example.org; Max-Age=60; Secure; HttpOnly=false; SameSite=None`. The error says
    /// what is wrong.
    pub(crate) fn parse(text: &str) -> Result<CookieTemplate, String> {
        let mut parts = text.split(';').map(str::trim);
        let mut template = CookieTemplate {
            name: parts.next().unwrap_or_default().to_owned(),
            path: "/".to_owned(),
            domain: None,
            is_http_only: true,
            is_secure: false,
            same_site: SameSite::Lax,
            max_age_seconds: None,
        };
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            match (attribute.to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
                ("path", _) => template.path = value.to_owned(),
                ("domain", _) => template.domain = Some(value.to_owned()),
                ("max-age", seconds) => {
                    let seconds =
                        seconds.parse().map_err(|_| format!("{part:?}: Max-Age is a number of seconds"))?;
                    template.max_age_seconds = Some(seconds);
                }
                ("httponly", "" | "true") => template.is_http_only = true,
                ("httponly", "false") => template.is_http_only = false,
                ("secure", "" | "true") => template.is_secure = true,
                ("samesite", "strict") => template.same_site = SameSite::Strict,
                ("samesite", "lax") => template.same_site = SameSite::Lax,
                ("samesite", "none") => template.same_site = SameSite::None,
                _ => {
                    return Err(format!(
                        "{part:?} is not one of Path=, Domain=, Max-Age=, HttpOnly, Secure, SameSite=Strict|Lax|None"
                    ));
                }
            }
        }
        template.encode("").map_err(|error| error.to_string())?;
        Ok(template)
    }

    /// The `Set-Cookie` header with this value.
    pub(crate) fn encode(&self, value: &str) -> Result<String, CookieError> {
        let cookie = SetCookie {
            name: &self.name,
            value,
            path: Some(&self.path),
            domain: self.domain.as_deref(),
            is_http_only: self.is_http_only,
            is_secure: self.is_secure,
            same_site: Some(self.same_site),
            max_age_seconds: self.max_age_seconds,
        };
        cookie.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_4_cookies_are_split_at_semicolons() {
        for (header, expected) in [
            ("", &[][..]),
            ("a=1", &[("a", "1")]),
            ("a=1; b=2;c=3 ; ", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("session=.eJw=.x; flag", &[("session", ".eJw=.x")]),
            ("q=\"quoted\"; r=\"", &[("q", "quoted"), ("r", "\"")]),
        ] {
            assert_eq!(pairs(header).collect::<Vec<_>>(), expected, "{header}");
        }
        assert_eq!(get("io=first; io=second", "io"), Some("first"));
        assert_eq!(get("io=first", "IO"), None);
    }

    #[test]
    fn s4_1_a_cookie_is_encoded_with_its_attributes() {
        let cookie = SetCookie::new("io", "abc").path("/").http_only(true).same_site(SameSite::Lax);
        assert_eq!(cookie.encode().as_deref(), Ok("io=abc; Path=/; HttpOnly; SameSite=Lax"));
        let cookie = SetCookie::new("io", "").secure(true).max_age(0).same_site(SameSite::None);
        assert_eq!(cookie.encode().as_deref(), Ok("io=; Max-Age=0; Secure; SameSite=None"));
    }

    #[test]
    fn s4_1_1_illegal_cookies_are_refused() {
        for (cookie, error) in [
            (SetCookie::new("", "a"), CookieError::NameIllegal),
            (SetCookie::new("a b", "a"), CookieError::NameIllegal),
            (SetCookie::new("a\r\nb", "a"), CookieError::NameIllegal),
            (SetCookie::new("a", "b;c"), CookieError::ValueIllegal),
            (SetCookie::new("a", "b\r\nSet-Cookie: x=y"), CookieError::ValueIllegal),
            (SetCookie::new("a", "\u{fc}"), CookieError::ValueIllegal),
            (SetCookie::new("a", "b").path("c"), CookieError::PathIllegal),
            (SetCookie::new("a", "b").path("/; Domain=evil"), CookieError::PathIllegal),
            (SetCookie::new("a", "b").domain("a.b; Secure"), CookieError::DomainIllegal),
            (SetCookie::new("a", "b").domain(""), CookieError::DomainIllegal),
            (SetCookie::new("a", "b").same_site(SameSite::None), CookieError::SameSiteNoneNeedsSecure),
        ] {
            assert_eq!(cookie.encode(), Err(error), "{cookie:?}");
        }
    }

    #[test]
    fn a_template_is_a_name_and_attributes() {
        for (text, expected) in [
            ("io", Ok("io=x; Path=/; HttpOnly; SameSite=Lax")),
            (" io ;Secure; SameSite=none", Ok("io=x; Path=/; HttpOnly; Secure; SameSite=None")),
            (
                "io; path=/a; domain=b.example; max-age=60; HttpOnly=false; SameSite=Strict",
                Ok("io=x; Path=/a; Domain=b.example; Max-Age=60; SameSite=Strict"),
            ),
            ("", Err("name is empty")),
            ("io=1", Err("illegal character")),
            ("io; SameSite=None", Err("not Secure")),
            ("io; Max-Age=soon", Err("number of seconds")),
            ("io; Expires=never", Err("not one of")),
            ("io; Path=here", Err("path must start")),
            ("io; Domain=a\r\nb", Err("host name")),
        ] {
            match (CookieTemplate::parse(text), expected) {
                (Ok(template), Ok(expected)) => assert_eq!(template.encode("x").as_deref(), Ok(expected)),
                (Err(fault), Err(expected)) => assert!(fault.contains(expected), "{text}: {fault}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
