//! Deadlines of connections, sessions and tokens that have come.

use std::time::Duration;

use crate::base::ids::Sid;
use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::engineio::request::RequestQuery;
use crate::protocol::engineio::session::Beat;
use crate::protocol::http::status::Status;
use crate::protocol::socketio::event::Args;
use crate::shard::run::Shard;
use crate::shard::table::Tables;
use crate::shard::table::expiry::Due;
use crate::shard::table::files::too_busy;
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::connection::{
    Ending, FLUSH_PATIENCE, Kind, Role, TAKEN_BYTES_PER_SECOND_MIN, WebSocketState,
};
use crate::shard::value::env::Env;
use crate::shard::value::error::Refused;
use crate::shard::value::kinds::{Kick, SocketRefused, UpgradeOutcome};
use crate::shard::value::session::{CloseReason, Link};

impl Shard {
    /// A connection's deadline has come: it was too slow, idle too long, or lingered enough. `stall` is how late this shard is.
    pub(crate) fn connection_timeout(&mut self, key: Key, armed: Time, stall: Duration) {
        let mut core = self.core.borrow_mut();
        let (now, times) =
            (core.tables.env.now, core.tables.endpoint(core.tables.endpoint_of_wire(key)).heartbeat_times());
        let Some(connection) =
            core.tables.connections.get_mut(key).filter(|connection| connection.armed == armed)
        else {
            return;
        };
        connection.armed = Time::NEVER;
        if now < connection.deadline {
            let left = connection.deadline.since(now);
            core.tables.arm_connection(key, left);
            return;
        }
        if !stall.is_zero() {
            // What the peer sent while this shard was held up is not read yet: it has as much time again.
            core.tables.arm_connection(key, stall);
            return;
        }
        if connection.ending != Ending::Open {
            drop(core);
            self.connection_lost(key);
            return;
        }
        if connection.share.is_queued || connection.share.is_slowed || connection.share.waits_outside {
            // It is not the peer that makes it wait.
            core.tables.arm_connection(key, FLUSH_PATIENCE);
            return;
        }
        let is_paused = connection.share.is_paused;
        let (is_idle, is_owed_nothing) = (connection.inbound.is_empty(), connection.outbox.is_empty());
        let http = match &mut connection.kind {
            Kind::Http(http) => http,
            Kind::WebSocket(WebSocketState { role: Role::Raw(raw), .. }) => {
                let is_lost = raw.is_lost(times, now) && !connection.share.take_sign_of_life();
                drop(core);
                return self.check_raw(key, is_lost);
            }
            Kind::WebSocket(_) => return,
        };
        if http.is_answering {
            let (session, is_half_closed) = (http.session, http.is_half_closed);
            drop(core);
            return self.answering_timeout(key, session, is_half_closed);
        }
        if is_paused {
            drop(core);
            tracing::info!(target: ENGINEIO, "closed: requests were pipelined, and their answers not read");
            return self.connection_lost(key);
        }
        let is_mid_request = !is_idle || http.chunked.is_some();
        // A request whose head was whole has its grant.
        if http.needed == 0 && http.chunked.is_none() {
            let partial = std::mem::take(&mut connection.inbound);
            core.tables.note_origin_of_partial(key, &partial);
        }
        drop(core);
        if is_mid_request {
            self.refuse_request(
                key,
                Status::REQUEST_TIMEOUT,
                "the request did not arrive within header_timeout",
            );
        } else if is_owed_nothing {
            self.connection_lost(key);
        } else {
            self.answer_not_taken(key);
        }
    }

    /// An answer is not made, or not taken, in time.
    fn answering_timeout(&mut self, key: Key, session: Option<Key>, is_half_closed: bool) {
        let mut core = self.core.borrow_mut();
        if core.tables.http_mut(key).is_some_and(|http| http.route.is_some()) {
            drop(core);
            return self.route_timeout(key);
        }
        if let Some(post) = core.tables.http_mut(key).and_then(|http| http.post.as_ref()) {
            let session = post.session();
            return core.tables.end_post_pause(key, session);
        }
        if let Some(session) = session {
            // A poll ends with its session, unless its client has nothing more to say: then it is gone in all likelihood.
            let is_known = core.tables.sessions.get(session).is_some();
            let timeout = core.tables.env.config.keep_alive_timeout;
            core.tables.arm_connection(key, timeout);
            drop(core);
            match (is_known, is_half_closed) {
                (true, false) => {}
                (true, true) => self.close_session(session, CloseReason::TransportClose),
                (false, _) => self.connection_lost(key),
            }
        } else if core.tables.http_mut(key).is_some_and(|http| http.awaited.take().is_some()) {
            tracing::warn!(
                "answered 503: reading a file, or compressing an answer, took too long; is its disk well?"
            );
            core.tables.respond_and_close(key, &too_busy());
        } else {
            drop(core);
            self.answer_not_taken(key);
        }
    }

    pub(crate) fn answer_not_taken(&mut self, key: Key) {
        {
            let core = self.core.borrow();
            let owed = core.tables.connections.get(key).map_or(0, |connection| connection.outbox.len());
            tracing::info!(
                owed,
                bytes_per_second_min = TAKEN_BYTES_PER_SECOND_MIN,
                "closed: an answer was not taken at the pace that is asked for"
            );
            core.tables.env.counters.slow_consumers_closed.add(1);
            core.tables.meters().kicks.count(Kick::Pace);
        }
        self.connection_lost(key);
    }

    /// A session's deadline has come. `stall` is how late this shard is.
    pub(crate) fn session_timeout(&mut self, session_key: Key, armed: Time, stall: std::time::Duration) {
        let verdict = {
            let mut core = self.core.borrow_mut();
            let Tables { sessions, connections, env: Env { endpoints, now, .. }, .. } = &mut core.tables;
            let (found, now) = (sessions.get_mut(session_key), *now);
            let Some(session) = found.filter(|session| session.armed == armed) else { return };
            let times = endpoints[usize::from(session.endpoint)].heartbeat_times();
            session.armed = Time::NEVER;
            let carrier = match session.link {
                Link::WebSocket(key) => Some(key),
                Link::Polling { post, .. } => post,
            };
            // What it says may wait for us: then its answer is not late.
            let carrier = carrier.and_then(|key| connections.get_mut(key));
            let is_heard_late = carrier.is_some_and(|connection| connection.share.take_sign_of_life());
            let stall = if is_heard_late { stall.max(times.timeout) } else { stall };
            if session.is_over {
                if now >= session.connect_by {
                    core.tables.remove_session(session_key);
                } else {
                    core.tables.arm_session(session_key);
                }
                return;
            }
            let late_upgrade =
                session.upgrade.filter(|upgrade| now >= upgrade.until).map(|upgrade| upgrade.connection);
            if let Some(connection) = late_upgrade {
                session.upgrade = None;
                core.tables.meters().upgrades.count(UpgradeOutcome::TimedOut);
                tracing::debug!(target: ENGINEIO, "upgrade given up: it took longer than upgrade_timeout");
                core.tables.close_websocket(connection, None, "");
            }
            let Some(session) = core.tables.sessions.get_mut(session_key) else { return };
            if now >= session.connect_by {
                Some(CloseReason::ForcedClose)
            } else {
                match session.heartbeat.handle_timeout(times, now, stall) {
                    Beat::TimedOut => Some(CloseReason::PingTimeout),
                    Beat::SendPing => {
                        core.tables.send_packet(session_key, "2");
                        None
                    }
                    Beat::NotYet => None,
                }
            }
        };
        match verdict {
            Some(reason) => self.give_up_session(session_key, reason),
            None => {
                let mut core = self.core.borrow_mut();
                core.tables.arm_session(session_key);
                // In case that the word was lost that it may.
                core.tables.go_on_outside(session_key);
            }
        }
    }

    /// A request names a session: if its time is over, it ends now.
    pub(crate) fn look_at_deadline(&mut self, query: &RequestQuery<'_>) {
        let session = {
            let core = self.core.borrow();
            query
                .sid
                .as_ref()
                .and_then(|sid| Sid::parse(sid))
                .and_then(|sid| core.tables.session_by_sid(&sid))
        };
        if let Some(session) = session {
            self.end_if_due(session);
        }
    }

    /// A socket's deadline, or the grace before it, may have come.
    pub(crate) fn expiry_timeout(&mut self, key: Key, armed: Time) {
        let due = self.core.borrow_mut().tables.look_at_expiry(key, armed);
        let Some(socket) = Socket::of(&self.core, key).filter(|_| due != Due::Nothing) else { return };
        match due {
            Due::Nothing => {}
            Due::Ask => {
                let handlers = self.handlers_of(&socket);
                let Some(on_expiry) = &handlers.expiry else { return };
                let mut cx = Context::new(socket, "expiry", Args::default(), None);
                let done = self.call(
                    &mut cx,
                    |cx| on_expiry(cx),
                    |cx| format!("the expiry handler of {}", cx.namespace()),
                );
                if let Err(panic) = done {
                    tracing::error!(target: SOCKETIO, message = %panic, "an expiry handler panicked");
                }
            }
            Due::Refuse => {
                self.core.borrow_mut().refuse_socket(
                    key,
                    &Refused::new(CloseReason::Expired.as_str()),
                    SocketRefused::Expired,
                );
            }
            Due::End => {
                tracing::info!(target: SOCKETIO, sid = %socket.id().brief(), "disconnected: its token has expired");
                self.end_socket(key, CloseReason::Expired, true);
            }
        }
    }
}
