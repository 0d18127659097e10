//! The end of a session: what its client is still told, on whichever transport it is.
//!
//! Stock clients must come back from every end that the application did not ask for. A packet `1` by polling is one from
//! which python-socketio does not, so a pending poll takes what is owed, or `6`, and the request after it is a 400 for an
//! unknown session. A WebSocket gets a close frame. A client that is switching (`3probe` is on its way, `5` has not come) has
//! stopped polling, and has not begun to listen: its WebSocket stays until it has.

use std::time::Duration;

use crate::base::slab::Key;
use crate::protocol::websocket::close::CloseCode;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Ending, FIRST_REQUEST_PATIENCE, Kind, Role, WebSocketState};
use crate::shard::value::pools::Pools;
use crate::shard::value::session::{CloseReason, Link, Session};

/// How long an ended session keeps what it owes for the next poll. A client polls again as soon as a poll is answered.
const LAST_POLL_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    /// Its client may have left polling for a WebSocket that it has not taken into use yet.
    pub(crate) fn is_switching(&self) -> bool {
        self.upgrade.is_some_and(|upgrade| upgrade.is_probed)
    }
}

impl Tables {
    /// Ends the transport of a session that is over.
    pub(crate) fn end_transport(&mut self, session_key: Key, reason: CloseReason) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        session.is_over = true;
        session.is_sent_away = reason == CloseReason::ServerDisconnect;
        match session.link {
            Link::WebSocket(key) => {
                self.close_transport(key, reason);
                self.remove_session(session_key);
            }
            Link::Polling { poll, .. } => {
                self.resume_input(session_key);
                self.end_polling(session_key, reason, poll.is_some());
            }
        }
    }

    fn close_transport(&mut self, key: Key, reason: CloseReason) {
        match reason {
            CloseReason::ServerShutdown => {
                self.close_websocket(key, Some(CloseCode::GOING_AWAY), reason.as_str());
            }
            CloseReason::RateExceeded => {
                self.close_websocket(key, Some(CloseCode::POLICY_VIOLATION), reason.as_str());
            }
            _ => self.close_websocket(key, None, ""),
        }
    }

    fn end_polling(&mut self, session_key: Key, reason: CloseReason, has_poll: bool) {
        let now = self.env.now;
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        let times = self.env.endpoints[usize::from(session.endpoint)].heartbeat_times();
        // Who has said goodbye waits for nothing.
        let is_switching = session.is_switching() && reason != CloseReason::TransportClose;
        // A client that we send away may still fetch what it was sent before, or that it is sent away.
        let may_fetch = match reason {
            CloseReason::ServerDisconnect => true,
            CloseReason::ServerShutdown | CloseReason::ForcedClose => !session.backlog.is_empty(),
            _ => false,
        };
        let last_poll = (now + LAST_POLL_TIMEOUT).min(session.heartbeat.expiry(times));
        let switched_by = session.upgrade.map_or(now, |upgrade| upgrade.until);
        session.connect_by = if is_switching { switched_by.max(last_poll) } else { last_poll };
        if !is_switching && let Some(upgrade) = session.upgrade.take() {
            self.close_transport(upgrade.connection, reason);
        }
        if has_poll {
            self.mark_poll_due(session_key);
        } else if !is_switching && !may_fetch {
            return self.remove_session(session_key);
        }
        self.arm_session(session_key);
    }

    /// The `5` of a client whose session ended while it switched: here is what it is owed, and that it is over.
    pub(crate) fn end_switched(&mut self, session_key: Key, key: Key) {
        self.close_websocket(key, Some(CloseCode::GOING_AWAY), "the session has ended");
        self.remove_session(session_key);
    }

    /// What a session is owed by polling is forgotten.
    pub(crate) fn forget_backlog(&mut self, session_key: Key) {
        let Tables { sessions, owed, pools: Pools { buffers, .. }, .. } = &mut *self;
        if let Some(session) = sessions.get_mut(session_key) {
            owed.remove(session.backlog.len());
            session.backlog.clear(buffers);
        }
    }

    pub(crate) fn remove_session(&mut self, session_key: Key) {
        let Some(mut session) = self.sessions.remove(session_key) else { return };
        self.env.endpoints[usize::from(session.endpoint)].sessions -= 1;
        self.let_session_go(&session);
        self.forget_outside(session_key);
        if let Some(upgrade) = session.upgrade {
            self.close_websocket(upgrade.connection, None, "");
        }
        self.owed.remove(session.parked.map_or(0, |parked| parked.bytes) + session.backlog.len());
        session.backlog.clear(&mut self.pools.buffers);
        self.intake.partial_bytes -= session.partial as usize;
        self.session_ids.remove(&session.sid, session_key.index);
    }

    /// Ends a connection. A raw WebSocket hears why (RFC 6455 §7.4.1), a request that is there or about to be is answered
    /// first, and a session that is switching to its WebSocket finds it there.
    pub(crate) fn say_goodbye(&mut self, key: Key) {
        if self.end_events(key) {
            return;
        }
        let header_timeout = self.env.config.header_timeout;
        let (now, Some(connection)) = (self.env.now, self.connections.get(key)) else { return };
        match &connection.kind {
            Kind::WebSocket(WebSocketState { role: Role::Raw(_), .. }) => {
                self.close_websocket(key, Some(CloseCode::GOING_AWAY), "server shutting down");
            }
            Kind::WebSocket(WebSocketState { role: Role::Probe(session), .. })
                if self.sessions.get(*session).is_some_and(Session::is_switching) => {}
            // Its answer closes it: none keeps a connection from now on.
            Kind::Http(http) if http.is_answering => {}
            Kind::Http(http) => {
                let is_arriving = !connection.inbound.is_empty() || http.chunked.is_some();
                let is_new = !http.has_served
                    && connection.deadline >= now + header_timeout.saturating_sub(FIRST_REQUEST_PATIENCE);
                if connection.ending == Ending::Open && (is_arriving || is_new) {
                    self.arm_connection(key, FIRST_REQUEST_PATIENCE);
                } else {
                    self.close_after_flush(key);
                }
            }
            Kind::WebSocket(_) => self.close_after_flush(key),
        }
    }

    /// Whether the sessions of a shard that stops have all ended: it needs no listeners any more.
    pub(crate) fn has_drained(&self) -> bool {
        self.env.is_shutting_down
    }
}
