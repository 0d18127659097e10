//! The URL of a broker as somebody wrote it, which may hold a password: whatever shows it hides that, also when it does not parse.

use std::fmt;

use serde::Deserialize;

use crate::base::shown::Shown;
use crate::config::queue::address::QueueAddress;

/// What is shown for a password, and for what may be one.
const HIDDEN: &str = "***";

/// Where a message broker is: `redis://user:password@host:6379/0`. Its `Debug` and `Display` hide the password.
///
/// ```
/// use shardcast::QueueUrl;
///
/// let url = QueueUrl::from("redis://chat:secret@queue.example.com:6379/0");
/// assert_eq!(url.to_string(), "redis://chat:***@queue.example.com:6379/0");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct QueueUrl(String);

impl QueueUrl {
    /// Whether there is no queue.
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// What it says.
    ///
    /// # Errors
    /// What is wrong with it and what to write, without what is secret.
    pub(crate) fn address(&self) -> Result<QueueAddress, String> {
        QueueAddress::parse(self.0.trim())
    }
}

impl From<&str> for QueueUrl {
    fn from(text: &str) -> QueueUrl {
        QueueUrl(text.to_owned())
    }
}

impl From<String> for QueueUrl {
    fn from(text: String) -> QueueUrl {
        QueueUrl(text)
    }
}

impl fmt::Display for QueueUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", Shown(hidden(self.0.trim())))
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", Shown(hidden(self.0.trim())))
    }
}

/// A URL without what may be secret. It is not parsed: a password with an `@` or a `/` that should have been encoded is what makes
/// a URL wrong, so all up to the last `@` counts as one.
fn hidden(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + 3),
        None => ("", text),
    };
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (hidden_user(user), place),
        None => (String::new(), rest),
    };
    let (place, query) = match place.split_once('?') {
        Some((place, query)) => (place, hidden_query(query)),
        None => (place, String::new()),
    };
    let (hosts, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let hosts = if scheme.is_empty() { hosts.to_owned() } else { hidden_ports(hosts) };
    format!("{scheme}{user}{hosts}{path}{query}")
}

/// A name is shown, a name alone is not: it may be a token.
fn hidden_user(user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{HIDDEN}@"),
        None => format!("{HIDDEN}@"),
    }
}

/// `redis://user:password`, with the host forgotten: what should be a port is none.
fn hidden_ports(hosts: &str) -> String {
    let shown = hosts.split(',').map(|host| match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{name}:{HIDDEN}")
        }
        _ => host.to_owned(),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// Other programs take passwords as options.
fn hidden_query(query: &str) -> String {
    let shown = query.split('&').map(|option| match option.split_once('=') {
        Some((name, _)) if name != "mode" => format!("{name}={HIDDEN}"),
        _ => option.to_owned(),
    });
    format!("?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_shows_a_password_however_wrong_it_is() {
        let rows = [
            ("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"),
            ("redis://:secret@host", "redis://:***@host"),
            ("redis://secret@host", "redis://***@host"),
            ("rediss://user:se:cret@host/1?mode=streams", "rediss://user:***@host/1?mode=streams"),
            ("redis://user:se@cret@host", "redis://user:***@host"),
            ("redis://user:se/cret@host/0", "redis://user:***@host/0"),
            ("redis://user:se?cret@host/0", "redis://user:***@host/0"),
            ("redis://user:se#cret@host/0", "redis://user:***@host/0"),
            ("redis://user:se://cret@host/0", "redis://user:***@host/0"),
            ("redis://user:secret", "redis://user:***"),
            ("redis://host?password=secret", "redis://host?password=***"),
            ("redis://host?mode=pubsub&password=secret&x", "redis://host?mode=pubsub&password=***&x"),
            ("redis+sentinel://u:secret@h1:1,h2:2/0/main", "redis+sentinel://u:***@h1:1,h2:2/0/main"),
            ("nats://secret@a:1,b", "nats://***@a:1,b"),
            ("nats://u:secret@a,u:secret@b", "nats://u:***@b"),
            ("mystery://user:secret@host", "mystery://user:***@host"),
            ("user:secret@host:6379", "user:***@host:6379"),
            ("host:6379", "host:6379"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://[::1]", "redis://[::1]"),
            ("memory:chat", "memory:chat"),
            ("unix:/run/queue", "unix:/run/queue"),
            ("", ""),
            ("redis://host\u{1b}[31m", "redis://host\\u{1b}[31m"),
        ];
        for (text, expected) in rows {
            let url = QueueUrl::from(text);
            assert_eq!(url.to_string(), expected, "{text}");
            assert!(!format!("{url:?}").contains("cret"), "{text}: {url:?}");
        }
    }
}
