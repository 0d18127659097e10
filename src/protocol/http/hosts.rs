//! Which hosts a server answers to: against pages that have a name of their own resolve to this server's address (DNS rebinding), and so are
//! of its origin for the browser.
//!
//! Does not compare origins: `cors.rs` does.

use super::cors_pattern::{Origin, OriginPattern};

/// Names that requests may be for. Addresses and `localhost` always may: nobody else's page can have them.
#[derive(Debug, Default)]
pub(crate) struct AllowedHosts {
    /// Empty: all of them.
    patterns: Vec<OriginPattern>,
}

impl AllowedHosts {
    /// Reads names, `*.example.com` for any one label in place of the star, and `*` for all.
    ///
    /// # Errors
    /// What none of them is.
    pub(crate) fn parse(list: &[String]) -> Result<AllowedHosts, String> {
        if list.iter().any(|name| name == "*") {
            return Ok(AllowedHosts::default());
        }
        let pattern = |name: &String| {
            let is_bare = !name.contains(['/', ':']) || name.starts_with('[');
            let parsed = format!("http://{name}:*").parse().ok().filter(|_| is_bare);
            parsed.ok_or_else(|| {
                format!("{name:?} is no host: write a name such as chat.example.com or *.example.com, without scheme and port")
            })
        };
        Ok(AllowedHosts { patterns: list.iter().map(pattern).collect::<Result<_, _>>()? })
    }

    /// Whether a request for this host is answered. A request that names no host comes from no browser, and is answered.
    pub(crate) fn allows(&self, host: Option<&str>) -> bool {
        let Some(host) = host.filter(|_| !self.patterns.is_empty()) else { return true };
        let origin = format!("http://{}", host.trim_end_matches(':'));
        let is_own = Origin::parse(&origin).is_some_and(|origin| origin.is_local());
        is_own || self.patterns.iter().any(|pattern| pattern.matches(&origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &[&str]) -> Result<AllowedHosts, String> {
        AllowedHosts::parse(&list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_that_is_not_listed_is_not_ours() {
        let rows: [(&[&str], &str, bool); 22] = [
            (&[], "evil.example", true),
            (&["*"], "evil.example", true),
            (&["a.example", "*"], "evil.example", true),
            (&["a.example"], "a.example", true),
            (&["a.example"], "A.EXAMPLE:8080", true),
            (&["a.example"], "b.example", false),
            (&["a.example"], "a.example.evil.example", false),
            (&["a.example"], "b@a.example", false),
            (&["a.example"], "", false),
            (&["*.a.example"], "b.a.example", true),
            (&["*.a.example"], "c.b.a.example", false),
            (&["*.a.example"], "a.example", false),
            (&["b\u{fc}cher.example"], "xn--bcher-kva.example", true),
            (&["a.example"], "localhost:5000", true),
            (&["a.example"], "chat.localhost", true),
            (&["a.example"], "localhost.evil.example", false),
            (&["a.example"], "127.0.0.1:5000", true),
            (&["a.example"], "[::1]:5000", true),
            (&["a.example"], "192.168.0.7", true),
            (&["a.example"], "127.0.0.1.evil.example", false),
            (&["a.example"], "a.example:", true),
            (&["[::1]"], "evil.example", false),
        ];
        for (list, host, expected) in rows {
            let hosts = allowed(list).unwrap_or_else(|fault| panic!("{list:?}: {fault}"));
            assert_eq!(hosts.allows(Some(host)), expected, "{list:?} {host}");
            assert!(hosts.allows(None));
        }
    }

    #[test]
    fn what_is_no_host_is_named() {
        for text in ["", "http://a.example", "a.example:80", "a b", "*.", "a/b"] {
            assert!(allowed(&[text]).is_err_and(|fault| fault.contains(&format!("{text:?}"))), "{text}");
        }
    }
}
