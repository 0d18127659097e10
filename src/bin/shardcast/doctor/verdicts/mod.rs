//! Judges what was seen: for each part whether it is well, what was seen, and which line to change, and whose.

mod origins;
mod sessions;
#[cfg(test)]
mod tests;
mod transport;
mod way_in;

use serde::Serialize;

use super::seen::Seen;
use crate::client::{Answer, Exchange};

/// How a part of the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Well,
    /// It works, and will be a surprise to somebody.
    Warning,
    /// Clients meet this.
    Fault,
}

/// A line to change, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// nginx, HAProxy, shardcast, or what else has to change.
    pub(super) whose: &'static str,
    pub(super) line: String,
}

/// What is said of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) part: &'static str,
    pub(super) verdict: Verdict,
    pub(super) saw: String,
    pub(super) changes: Vec<Change>,
}

impl Finding {
    fn well(part: &'static str, saw: impl Into<String>) -> Finding {
        Finding { part, verdict: Verdict::Well, saw: saw.into(), changes: Vec::new() }
    }

    fn warning(part: &'static str, saw: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warning, ..Finding::well(part, saw) }
    }

    fn fault(part: &'static str, saw: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Fault, ..Finding::well(part, saw) }
    }

    fn change(mut self, whose: &'static str, line: impl Into<String>) -> Finding {
        self.changes.push(Change { whose, line: line.into() });
        self
    }

    /// For both proxies that the guides have pages of.
    fn proxies(self, nginx: impl Into<String>, haproxy: impl Into<String>) -> Finding {
        self.change("nginx", nginx).change("HAProxy", haproxy)
    }
}

/// All findings, in the order of the way.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let parts: [fn(&Seen) -> Option<Finding>; 16] = [
        way_in::name,
        way_in::connection,
        way_in::tls,
        way_in::proxy,
        sessions::handshake,
        sessions::version,
        sessions::clock,
        sessions::cache,
        sessions::namespace,
        sessions::errors,
        sessions::stickiness,
        transport::large,
        transport::upgrade,
        transport::websocket,
        transport::compression,
        transport::idle,
    ];
    let mut findings: Vec<_> = parts.iter().filter_map(|part| part(seen)).collect();
    findings.extend(origins::own(seen));
    findings.extend(origins::crossing(seen));
    findings
}

/// An answer in a few words: its status, who says so, and what it begins with.
fn shown(exchange: &Exchange) -> String {
    const CHARS_MAX: usize = 80;
    match exchange {
        Err(failure) => failure.to_string(),
        Ok(answer) => {
            let by = answer.header("server").map_or_else(String::new, |name| format!(" by {name:?}"));
            let body: String = answer.body.chars().take(CHARS_MAX).collect();
            let body = body.split_whitespace().collect::<Vec<_>>().join(" ");
            let body = if body.is_empty() { String::new() } else { format!(": {body}") };
            format!("{}{by}{body}", answer.status)
        }
    }
}

/// Whether a proxy made this answer up, because it had none from a server.
fn is_from_gateway(answer: &Answer) -> bool {
    matches!(answer.status, 502..=504) && answer.code().is_none()
}

/// The one finding where a gateway speaks.
fn no_server(part: &'static str, exchange: &Exchange) -> Finding {
    let saw = format!("the proxy has no answer of the server behind it: {}", shown(exchange));
    Finding::fault(part, saw)
        .change("server", "start it, and see by `ss -ltn` that it listens where the proxy looks")
        .proxies("server 127.0.0.1:5000; # in upstream: the server's bind", "server one 127.0.0.1:5000 check")
}
