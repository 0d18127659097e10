//! Who gets in: bounds on connections and sessions, of a shard and of one address, and on sessions in a second.
//!
//! A connection that may not be there is closed before anything of it is read. A handshake is answered 503 with `Retry-After`, which
//! every client takes for a failure and tries again by its own schedule.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::peer::{Arrival, Door};
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::value::connection::Connection;
use crate::shard::value::kinds::{ConnectionRefused, RequestRefused};
use crate::shard::value::session::Session;
use crate::shard::value::share::Unfinished;
use crate::shard::value::unjoined::holder;

/// Seconds after which a client that was refused may try again, unless it is known better.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Why no session opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    ShuttingDown,
    Sessions,
    Address,
    /// So many seconds until there is room again.
    Rate(u64),
    /// Those who are here wait for too long already.
    Lag,
}

impl Full {
    /// When a client may try again.
    fn seconds(self) -> u64 {
        match self {
            Full::Rate(seconds) => seconds,
            Full::ShuttingDown | Full::Sessions | Full::Address | Full::Lag => RETRY_AFTER_SECONDS,
        }
    }
}

// Connections.
impl Tables {
    /// A connection was accepted; `None`: there are too many.
    pub(crate) fn accept_connection(&mut self, arrival: Arrival) -> Option<Key> {
        let key = self.open_connection(arrival)?;
        if self.hold_or_refuse(key) {
            self.count_opened(key);
            return Some(key);
        }
        // It has no wire yet that could be closed: its host closes what it has no key for.
        self.connections.remove(key);
        self.uncount_connection(Door::Public);
        None
    }

    /// Counts a connection among those of its address; false, and a word in the log, when that has too many.
    pub(crate) fn hold_or_refuse(&mut self, key: Key) -> bool {
        let max = self.env.config.connections_per_address_max;
        let is_held = max == 0 || self.hold(key, max);
        if !is_held && let Some(peer) = self.connections.get(key).map(|connection| connection.peer) {
            self.env.counters.connections_refused.add(1);
            self.meters().connections_refused.count(ConnectionRefused::Address);
            tracing::warn!(
                target: ENGINEIO,
                %peer,
                connections_per_address_max = max,
                "connection closed: its address has connections_per_address_max; raise it if many clients share an address, or name their proxy in trusted_proxies"
            );
        }
        is_held
    }

    /// Counts a connection among those of its address, unless that has `max`.
    pub(crate) fn hold(&mut self, key: Key, max: usize) -> bool {
        let Tables { connections, env, mesh, .. } = &mut *self;
        let Some(connection) = connections.get_mut(key) else { return false };
        let is_counted = env.config.connections_per_address_max > 0 && connection.door == Door::Public;
        let address = holder(connection.peer.ip()).filter(|_| is_counted && !connection.is_held);
        let Some(address) = address.filter(|_| !env.trusted_proxies.trusts(connection.peer.ip())) else {
            return true;
        };
        connection.is_held = mesh.held.connections.try_add(address, max);
        connection.is_held
    }

    /// A connection has gone, or goes to another shard.
    pub(crate) fn let_go_of(&self, connection: &Connection) {
        if let Some(address) = holder(connection.peer.ip()).filter(|_| connection.is_held) {
            self.mesh.held.connections.remove(address);
        }
    }
}

// Sessions.
impl Tables {
    /// Answers 503 if no further session of an endpoint may open here for this client, and says whether it did.
    pub(crate) fn refuses_session(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) -> bool {
        let full = self.why_full(key, endpoint, head);
        if let Some(full) = full {
            self.refuse_session(key, endpoint, full);
        }
        full.is_some()
    }

    fn why_full(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) -> Option<Full> {
        if self.env.is_draining {
            return Some(Full::ShuttingDown);
        }
        let per_address = self.env.config.connections_per_address_max;
        if self.is_full(endpoint) {
            return Some(Full::Sessions);
        }
        let address = self.client_address(self.peer_of(key), head.headers);
        let address = self.held_by(address).filter(|_| per_address > 0);
        // It is counted now, so that shards which ask at the same moment do not let in one too many.
        if address.is_some_and(|address| !self.mesh.held.sessions.try_add(address, per_address)) {
            return Some(Full::Address);
        }
        if self.intake.lag.is_too_long(self.env.now, self.env.config.lag_max) {
            address.inspect(|address| self.mesh.held.sessions.remove(*address));
            return Some(Full::Lag);
        }
        if let Err(full) = self.take_handshake() {
            address.inspect(|address| self.mesh.held.sessions.remove(*address));
            return Some(full);
        }
        None
    }

    /// Whether no further session of an endpoint may open here.
    fn is_full(&self, endpoint: u8) -> bool {
        let has_room = self.sessions.len() < self.env.config.sessions_max || self.unjoined.len() > 0;
        let (table, all_max) = (self.endpoint(endpoint), self.env.config.sessions_max);
        // A bound that is no lower than that of all endpoints leaves it to that one, for which somebody may give way.
        let is_own_full =
            table.sessions >= table.settings.sessions_max && table.settings.sessions_max < all_max;
        !has_room || is_own_full
    }

    fn refuse_session(&mut self, key: Key, endpoint: u8, full: Full) {
        self.count_refused(match full {
            Full::ShuttingDown => RequestRefused::Draining,
            Full::Sessions => RequestRefused::Sessions,
            Full::Address => RequestRefused::Address,
            Full::Rate(_) => RequestRefused::Rate,
            Full::Lag => RequestRefused::Lag,
        });
        self.endpoint(endpoint).counters.requests_refused.add(1);
        if full != Full::ShuttingDown {
            self.env.counters.handshakes_refused.add(1);
        }
        let reason = self.tell_refusal(key, endpoint, full);
        if full == Full::ShuttingDown
            && let Some(http) = self.http_mut(key)
        {
            // The client's next request is for whoever listens here next.
            http.framing.keep_alive = false;
        }
        let response = Response::text(reason).with_status(Status::SERVICE_UNAVAILABLE);
        self.respond(key, &response.header("retry-after", full.seconds().to_string()));
    }

    /// Says in the log which setting refuses a session; returns what the client is told.
    fn tell_refusal(&self, key: Key, endpoint: u8, full: Full) -> &'static str {
        let peer = self.peer_of(key);
        match full {
            Full::ShuttingDown => {
                tracing::info!(target: ENGINEIO, "session refused: the server is shutting down");
                "shutting down"
            }
            Full::Sessions => {
                tracing::warn!(
                    target: ENGINEIO,
                    sessions_max = self.env.config.sessions_max.min(self.endpoint(endpoint).settings.sessions_max),
                    endpoint = self.endpoint(endpoint).options.path,
                    "session refused: this shard holds sessions_max; raise it, or add shards"
                );
                "too many sessions"
            }
            Full::Address => {
                tracing::warn!(
                    target: ENGINEIO,
                    %peer,
                    connections_per_address_max = self.env.config.connections_per_address_max,
                    "session refused: its address has connections_per_address_max sessions; raise it if many clients share an address, or name their proxy in trusted_proxies"
                );
                "too many sessions of this address"
            }
            Full::Rate(_) => {
                tracing::warn!(
                    target: ENGINEIO,
                    handshakes_per_second_max = self.env.config.handshakes_per_second_max,
                    "session refused: more handshakes than handshakes_per_second_max; clients try again by themselves"
                );
                "too many handshakes"
            }
            Full::Lag => {
                tracing::warn!(
                    target: ENGINEIO,
                    lag_max = ?self.env.config.lag_max,
                    "session refused: what clients have sent waits for longer than lag_max on this shard; those who are here go first, \
                     clients try again by themselves"
                );
                "too busy"
            }
        }
    }

    /// Answers 503 if no raw WebSocket may open now, and says whether it did.
    pub(crate) fn refuses_websocket(&mut self, key: Key, endpoint: u8) -> bool {
        let full = if self.env.is_draining {
            Full::ShuttingDown
        } else if self.intake.lag.is_too_long(self.env.now, self.env.config.lag_max) {
            Full::Lag
        } else {
            match self.take_handshake() {
                Ok(()) => return false,
                Err(full) => full,
            }
        };
        self.refuse_session(key, endpoint, full);
        true
    }

    /// Takes one of the handshakes of this second.
    fn take_handshake(&mut self) -> Result<(), Full> {
        match self.env.config.handshakes_per_second_max {
            0 => Ok(()),
            per_second => self
                .handshakes
                .take(self.env.now, per_second, per_second)
                .map_err(|wait| Full::Rate(wait.as_secs() + 1)),
        }
    }

    /// The connection or session whose share is next.
    pub(crate) fn next_in_line(&mut self, now: Time) -> Option<Unfinished> {
        let next = self.intake.unfinished.pop_front()?;
        if let Some(lag) = self.intake.lag.leave(now) {
            self.note_lag(lag, now);
        }
        Some(next)
    }

    /// Something of what clients have sent, or a turn, took so long until now.
    pub(crate) fn note_lag(&mut self, lag: Duration, now: Time) {
        let max = self.env.config.lag_max;
        if self.intake.lag.note(lag, now, max) {
            tracing::warn!(
                ?lag,
                lag_max = ?max,
                shard = self.env.id.0,
                "what clients have sent has waited for longer than lag_max: handshakes are answered 503 until the shard has caught up"
            );
        }
    }

    /// A session has opened that `refuses_session` has let in: if it was counted there, it gives back its place when it ends.
    pub(crate) fn hold_session(&mut self, session_key: Key) {
        let address = self.sessions.get(session_key).and_then(|session| session.handshake.address());
        let is_held = self.env.config.connections_per_address_max > 0 && self.held_by(address).is_some();
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.is_held = is_held;
        }
    }

    /// A session has ended.
    pub(crate) fn let_session_go(&self, session: &Session) {
        if let Some(address) = holder(session.handshake.address()).filter(|_| session.is_held) {
            self.mesh.held.sessions.remove(address);
        }
    }

    /// By which address a client is counted; none if it is a proxy's.
    fn held_by(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        holder(address).filter(|_| !self.env.trusted_proxies.trusts(address))
    }
}
