//! Which hosts a server answers to: against pages that have a name of their own resolve to this server's address (DNS rebinding), and so are
//! of its origin for the browser.
//!
//! Does not compare origins: `cors.rs` does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::cors_pattern::{Origin, OriginPattern};
use crate::base::time::Time;

/// How often at most a server warns of requests for hosts that it would refuse if it had a list.
const HOST_WARNING_INTERVAL: Duration = Duration::from_secs(3600);

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

/// Sees to it that a server without a list, which only this machine can reach, tells of requests for other names: they come from a
/// proxy, or from a page that rebinds its name.
#[derive(Debug)]
pub(crate) struct HostWatch {
    /// When the next one is told of; never, if there is a list, or an address that others can reach.
    due: Time,
}

impl HostWatch {
    /// For a server with this list, which listens there.
    pub(crate) fn new(allowed_hosts: &[String], bind: &[String]) -> HostWatch {
        let is_wanted = allowed_hosts.is_empty() && bind.iter().all(|place| is_of_this_machine(place));
        HostWatch { due: if is_wanted { Time(0) } else { Time::NEVER } }
    }

    /// Whether a request for this host may be one to tell of. One that names none comes from no browser.
    #[inline]
    pub(crate) fn is_foreign(&self, host: Option<&str>, now: Time) -> bool {
        now >= self.due && host.is_some_and(|host| !host.is_empty() && !is_own(host))
    }

    /// It was told of: the next one has time.
    pub(crate) fn told(&mut self, now: Time) {
        self.due = now + HOST_WARNING_INTERVAL;
    }
}

/// Whether what listens there is reached from this machine only.
fn is_of_this_machine(place: &str) -> bool {
    place.starts_with("unix:")
        || place.parse().is_ok_and(|address: SocketAddr| address.ip().to_canonical().is_loopback())
}

/// Whether a host is `localhost`, a name below it, or an address: no page can make those lead elsewhere than they do.
pub(crate) fn is_own(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let name = if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let last_label = name.rsplit('.').next().unwrap_or(name);
    last_label.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_page_may_have_is_foreign_to_a_server_of_this_machine() {
        for own in [
            "localhost",
            "LOCALHOST:5000",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:5000",
            "[::1]:5000",
            "[::1]",
            "10.0.0.7:1",
        ] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:a",
            "",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn only_a_server_of_this_machine_without_a_list_tells_of_hosts_and_seldom() {
        let rows: [(&[&str], &[&str], bool); 8] = [
            (&[], &["127.0.0.1:5000"], true),
            (&[], &["127.0.0.2:0", "[::1]:5000", "unix:/run/chat"], true),
            (&[], &["0.0.0.0:5000"], false),
            (&[], &["127.0.0.1:5000", "192.168.0.7:5000"], false),
            (&[], &["[::]:5000"], false),
            (&[], &["[::ffff:127.0.0.1]:5000"], true),
            (&["*"], &["127.0.0.1:5000"], false),
            (&["chat.example"], &["127.0.0.1:5000"], false),
        ];
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (allowed, bind, expected) in rows {
            let mut watch = HostWatch::new(&owned(allowed), &owned(bind));
            assert_eq!(watch.is_foreign(Some("evil.example"), Time(1)), expected, "{allowed:?} {bind:?}");
            assert!(!watch.is_foreign(Some("localhost:5000"), Time(1)) && !watch.is_foreign(None, Time(1)));
            assert!(!watch.is_foreign(Some(""), Time(1)));
            if expected {
                watch.told(Time(1));
                assert!(!watch.is_foreign(Some("evil.example"), Time(3_600_000)));
                assert!(watch.is_foreign(Some("evil.example"), Time(3_600_001)));
            }
        }
    }

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
