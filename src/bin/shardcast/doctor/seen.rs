//! What was seen of a server from outside: plain values, which `verdicts.rs` judges.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Answer, Exchange, Failure, Secured};

/// A WebSocket that was asked for: the answer, and the first text on it, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Talk {
    pub(super) head: Exchange,
    pub(super) heard: Result<String, Failure>,
}

/// A connection on which nothing was said but answers to pings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Idle {
    pub(super) waited: Duration,
    pub(super) pings: usize,
    /// It ended before its time, and so.
    pub(super) end: Option<String>,
}

/// Where it was looked.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) is_secure: bool,
    pub(super) host: String,
    /// Of the endpoint, with its slashes.
    pub(super) path: String,
    pub(super) namespace: String,
    /// Another page's origin, if one was given.
    pub(super) origin: Option<String>,
    pub(super) own_origin: String,
}

/// All of it. `None` and an empty list: it was not asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) asked: Asked,
    /// Addresses of the name, and how long each took to accept a connection.
    pub(super) addresses: Vec<(SocketAddr, Result<Duration, Failure>)>,
    /// Why there are none.
    pub(super) unresolved: Option<String>,
    pub(super) tls: Option<Result<Secured, Failure>>,
    /// The handshake by polling.
    pub(super) opening: Option<Exchange>,
    /// The same request once more.
    pub(super) opened_again: Option<Exchange>,
    /// Other paths with an endpoint.
    pub(super) elsewhere: Vec<String>,
    /// The handshake of revision 3.
    pub(super) older: Option<Exchange>,
    /// A request for a session that cannot be.
    pub(super) stranger: Option<Exchange>,
    /// What was sent to join the namespace, and the polls after it.
    pub(super) connect: Vec<Exchange>,
    /// Requests for one session, each on a connection of its own.
    pub(super) sticky: Vec<Exchange>,
    /// A large POST, and its bytes.
    pub(super) large: Option<(usize, Exchange)>,
    pub(super) upgrade: Option<Talk>,
    pub(super) websocket: Option<Talk>,
    pub(super) idle_websocket: Option<Idle>,
    pub(super) idle_poll: Option<Exchange>,
    pub(super) preflight: Option<Exchange>,
    pub(super) crossing: Option<Exchange>,
    /// The handshake of a page that the server itself has delivered, and of the same page by the other scheme.
    pub(super) own: Option<Exchange>,
    pub(super) own_by_other_scheme: Option<Exchange>,
    /// Seconds since 1970 at the handshake.
    pub(super) now: u64,
}

/// What the handshake says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) sid: String,
    pub(super) upgrades: Vec<String>,
    pub(super) ping_interval: Duration,
    pub(super) ping_timeout: Duration,
    pub(super) max_payload: Option<usize>,
}

/// What is asked of an answer by those who know Engine.IO.
impl Answer {
    /// The code of an Engine.IO error, also of Python's, whose errors are texts.
    pub(super) fn code(&self) -> Option<u64> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let by_text = body.as_str().and_then(|text| match text {
            text if text.starts_with("Invalid session") => Some(1),
            text if text.starts_with("Invalid transport") => Some(0),
            text if text.contains("unsupported version") => Some(5),
            _ => None,
        });
        by_text.or_else(|| body.get("code")?.as_u64())
    }
}

impl Open {
    /// Reads an open packet. Hostile numbers become the usual ones.
    pub(super) fn decode(body: &str) -> Option<Open> {
        let packet = body.split('\u{1e}').next()?.strip_prefix('0')?;
        let json: Value = serde_json::from_str(packet).ok()?;
        let millis = |key: &str, usual| {
            Duration::from_millis(json.get(key).and_then(Value::as_u64).unwrap_or(usual).min(86_400_000))
        };
        let sid = json.get("sid")?.as_str()?;
        let is_plain =
            sid.len() <= 200 && sid.chars().all(|char| char.is_ascii_alphanumeric() || "-_.~".contains(char));
        let upgrades = json.get("upgrades").and_then(Value::as_array).into_iter().flatten();
        is_plain.then(|| Open {
            sid: sid.to_owned(),
            upgrades: upgrades.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            ping_interval: millis("pingInterval", 25_000),
            ping_timeout: millis("pingTimeout", 20_000),
            max_payload: json.get("maxPayload").and_then(Value::as_u64).and_then(|max| max.try_into().ok()),
        })
    }
}
