//! Looks at a server from outside, one question after the other, and writes down what was seen.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::place::Place;
use super::request::Request;
use super::seen::{Idle, Open, Seen};
use super::talk::{listen, talk};
use crate::client::{Address, Exchange, Failure, Way, now, wall_clock};

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Requests for one session: a balancer of two processes that is not sticky is found out in all but one of 128 tries.
const STICKY_REQUESTS: usize = 8;
/// Polls until the answer to the CONNECT has come.
const CONNECT_POLLS: usize = 3;
/// A large POST is this much smaller than what the server says it takes.
const LARGE_SPARE: usize = 1024;
/// What is posted at most, whatever the server says.
const LARGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Beyond the server's ping interval, until a ping must have come.
const PING_GRACE: Duration = Duration::from_secs(3);
/// A session that no server has opened.
const STRANGER: &str = "AAAAAAAAAAAAAAAAAAAA";
/// Where endpoints are found that are not where they were looked for.
const OTHER_PATHS: [&str; 3] = ["/socket.io/", "/engine.io/", "/ws/"];

/// How to look.
pub(super) struct Manner {
    pub(super) place: Place,
    pub(super) namespace: String,
    pub(super) auth: Option<String>,
    pub(super) origin: Option<String>,
    /// Lines of headers that each request carries.
    pub(super) headers: String,
    /// One question may take this long.
    pub(super) patience: Duration,
    /// A connection is watched for this long at most.
    pub(super) idle: Duration,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

struct Looking<'a> {
    manner: &'a Manner,
    way: Way,
}

/// Looks, and tells `begins` the name of each part before it begins.
pub(super) fn look(manner: &Manner, begins: &mut dyn FnMut(&'static str)) -> Seen {
    let mut seen = Seen { asked: manner.asked(), now: wall_clock(), ..Seen::default() };
    begins("name");
    let found = (manner.place.host.as_str(), manner.place.port).to_socket_addrs();
    let addresses: Vec<_> = match found {
        Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
        Err(error) => {
            seen.unresolved = Some(error.to_string());
            return seen;
        }
    };
    begins("connection");
    for address in addresses {
        seen.addresses.push((address, manner.way(address).knock(now() + manner.patience)));
    }
    let Some((address, _)) = seen.addresses.iter().find(|(_, taken)| taken.is_ok()) else { return seen };
    let looking = Looking { manner, way: manner.way(*address) };
    if manner.tls.is_some() {
        begins("TLS");
        let secured = looking.way.open(looking.end()).map(|wire| wire.secured());
        let is_secured = secured.is_ok();
        seen.tls = Some(secured);
        if !is_secured {
            return seen;
        }
    }
    begins("handshake");
    let opening = looking.ask(&looking.request("GET").query("&transport=polling"));
    let open = opening.as_ref().ok().and_then(|answer| Open::decode(&answer.body));
    seen.opening = Some(opening);
    seen.older = Some(looking.ask(&looking.request("GET").revision(3).query("&transport=polling")));
    match open {
        Some(open) => looking.whole(&mut seen, &open, begins),
        None => seen.elsewhere = looking.elsewhere(),
    }
    seen
}

impl Manner {
    fn way(&self, address: SocketAddr) -> Way {
        Way { address: Address::Tcp(address), host: self.place.host.clone(), tls: self.tls.clone() }
    }

    fn asked(&self) -> super::seen::Asked {
        super::seen::Asked {
            is_secure: self.tls.is_some(),
            host: self.place.host.clone(),
            path: self.place.path.clone(),
            namespace: self.namespace.clone(),
            origin: self.origin.clone(),
            own_origin: self.place.origin(),
        }
    }
}

impl Looking<'_> {
    /// Everything that needs an endpoint that answers.
    fn whole(&self, seen: &mut Seen, open: &Open, begins: &mut dyn FnMut(&'static str)) {
        begins("polling");
        seen.connect = self.connect(&open.sid);
        seen.opened_again = Some(self.ask(&self.request("GET").query("&transport=polling")));
        seen.stranger = Some(self.ask(&self.request("GET").session(STRANGER)));
        begins("stickiness");
        seen.sticky = (0..STICKY_REQUESTS).map(|_| self.post(&open.sid, "3")).collect();
        begins("large messages");
        seen.large = open.max_payload.map(|max| self.large(max));
        begins("WebSocket");
        seen.upgrade = self
            .opened()
            .map(|own| talk(&self.way, &self.websocket().session(&own.sid), self.end(), "2probe"));
        seen.websocket = Some(talk(&self.way, &self.websocket().compression(), self.end(), ""));
        begins("origins");
        self.origins(seen);
        self.forget(&open.sid);
        if !self.manner.idle.is_zero() {
            begins("idle connections");
            self.idle(seen, open);
        }
    }

    fn connect(&self, sid: &str) -> Vec<Exchange> {
        let namespace = &self.manner.namespace;
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let packet = format!("40{namespace}{}", self.manner.auth.as_deref().unwrap_or_default());
        let mut exchanges = vec![self.post(sid, &packet)];
        for _ in 0..CONNECT_POLLS {
            let poll = self.ask(&self.request("GET").session(sid));
            let is_done = !matches!(&poll, Ok(answer) if answer.status == 200)
                || poll
                    .iter()
                    .any(|answer| answer.body.split('\u{1e}').any(|packet| packet.starts_with("4")));
            exchanges.push(poll);
            if is_done {
                break;
            }
        }
        exchanges
    }

    /// A pong with much in it: servers look at its first character alone.
    fn large(&self, max: usize) -> (usize, Exchange) {
        let len = max.saturating_sub(LARGE_SPARE).clamp(1, LARGE_BYTES_MAX);
        let mut body = "3".to_owned();
        body.extend(std::iter::repeat_n('x', len - 1));
        let Some(own) = self.opened() else { return (len, Err(Failure::Closed)) };
        let exchange = self.post(&own.sid, &body);
        self.forget(&own.sid);
        (len, exchange)
    }

    fn origins(&self, seen: &mut Seen) {
        let asked_by = |origin: &str| {
            self.ask(&self.request("GET").query("&transport=polling").header("Origin", origin))
        };
        if let Some(origin) = &self.manner.origin {
            let preflight = self.request("OPTIONS").query("&transport=polling").header("Origin", origin);
            let preflight = preflight.header("Access-Control-Request-Method", "POST");
            seen.preflight =
                Some(self.ask(&preflight.header("Access-Control-Request-Headers", "content-type")));
            seen.crossing = Some(asked_by(origin));
        }
        let own = self.manner.place.origin();
        let by_own = asked_by(&own);
        if !by_own.iter().any(|answer| Open::decode(&answer.body).is_some()) {
            let other = match own.strip_prefix("https://") {
                Some(host) => format!("http://{host}"),
                None => own.replacen("http://", "https://", 1),
            };
            seen.own_by_other_scheme = Some(asked_by(&other));
        }
        seen.own = Some(by_own);
    }

    /// A WebSocket and a poll at once, each on a connection on which nothing is said until the server's ping.
    fn idle(&self, seen: &mut Seen, open: &Open) {
        let watched = self.manner.idle.min(open.ping_interval + PING_GRACE);
        let (websocket, poll) = thread::scope(|scope| {
            let poll = scope.spawn(|| {
                let own = self.opened()?;
                self.connect(&own.sid);
                let poll = self.request("GET").session(&own.sid).encode();
                let end = now() + watched;
                let exchange = self.way.open(self.end()).and_then(|mut wire| wire.exchange(&poll, end));
                self.forget(&own.sid);
                Some(exchange)
            });
            let websocket = listen(&self.way, &self.websocket(), self.end(), watched, &self.manner.namespace);
            (websocket, poll.join().ok().flatten())
        });
        seen.idle_websocket = websocket
            .map_or_else(|failure| Some(Idle { end: Some(failure.to_string()), ..Idle::default() }), Some);
        seen.idle_poll = poll;
    }

    fn elsewhere(&self) -> Vec<String> {
        let own = self.manner.place.path.as_str();
        let others = OTHER_PATHS.iter().filter(|path| **path != own);
        let found = others.filter(|path| {
            let answer = self.ask(&self.request("GET").path(path).query("&transport=polling"));
            answer.is_ok_and(|answer| Open::decode(&answer.body).is_some())
        });
        found.map(|path| (*path).to_owned()).collect()
    }

    fn opened(&self) -> Option<Open> {
        let answer = self.ask(&self.request("GET").query("&transport=polling"));
        answer.ok().and_then(|answer| Open::decode(&answer.body))
    }

    /// Ends a session that is not needed any more.
    fn forget(&self, sid: &str) {
        let _ = self.post(sid, "1");
    }

    fn post(&self, sid: &str, body: &str) -> Exchange {
        self.ask(&self.request("POST").session(sid).body(body))
    }

    fn request(&self, method: &'static str) -> Request {
        Request::new(method, &self.manner.place).lines(&self.manner.headers)
    }

    fn websocket(&self) -> Request {
        self.request("GET").websocket()
    }

    /// One request on a connection of its own.
    fn ask(&self, request: &Request) -> Exchange {
        let end = self.end();
        self.way.open(end)?.exchange(&request.encode(), end)
    }

    fn end(&self) -> Instant {
        now() + self.manner.patience
    }
}
