//! Clients that catch up: what was parked for them follows.

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Connection, Kind, Role, clamped};
use crate::shard::value::effect::Deferred;
use crate::shard::value::session::{Link, Session};
use crate::shard::value::socket::SocketState;

/// How one receiver stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// It is owed bytes from before this turn.
    pub(crate) is_behind: bool,
    pub(crate) owed: usize,
}

impl Connection {
    pub(crate) fn standing(&self) -> Standing {
        let owed = self.outbox.len();
        let is_behind = if self.is_dirty { self.behind > 0 } else { owed > 0 };
        Standing { is_behind, owed }
    }
}

impl Session {
    /// A poll is there that takes what is queued in this turn.
    pub(crate) fn has_poll(&self) -> bool {
        matches!(self.link, Link::Polling { poll: Some(_), .. })
    }

    /// How a client stands that polls: one whose poll is there takes all that is queued.
    pub(crate) fn standing(&self) -> Standing {
        let owed = self.backlog.len();
        let is_behind = !self.has_poll() && if self.is_poll_due { self.behind > 0 } else { owed > 0 };
        Standing { is_behind, owed }
    }
}

impl Tables {
    /// A connection that was behind, or whose catching up is waited for, was sent something.
    #[cold]
    pub(crate) fn note_progress(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.behind = clamped(connection.outbox.len());
        if !connection.outbox.is_empty() || !std::mem::take(&mut connection.awaits_drain) {
            return;
        }
        if let Kind::WebSocket(websocket) = &connection.kind
            && let Role::Session(session) = websocket.role
        {
            self.caught_up(session);
        }
    }

    /// A poll has taken something from a session that was behind, or whose catching up is waited for.
    #[cold]
    pub(crate) fn note_poll_progress(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.behind = clamped(session.backlog.len());
        if session.backlog.is_empty() && std::mem::take(&mut session.awaits_drain) {
            self.caught_up(key);
        }
    }

    /// A session's client has taken all that it was owed: parked events follow.
    pub(crate) fn caught_up(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        let has_drain_handler = session.sockets.iter().any(|(namespace, _)| {
            let setup = self.namespaces[*namespace].namespace.setup;
            self.slow_rules[usize::from(setup)].has_drain_handler
        });
        if let Some(parked) = session.parked.take() {
            self.owed.remove(parked.bytes);
            for frame in parked.into_frames() {
                let mut frames = self.pools.buffers.take();
                frames.extend_from_slice(&frame);
                self.env.counters.messages_sent.add(1);
                if let Some(endpoint) = self.endpoint_of(session_key) {
                    self.endpoint(endpoint).counters.messages_sent.add(1);
                }
                self.send_frames(session_key, frames);
            }
        }
        if has_drain_handler {
            self.effects.deferred.push(Deferred::Drained(session_key));
        }
    }

    /// A socket is gone: what was parked for it is void.
    pub(crate) fn forget_parked(&mut self, session: Key, namespace: u16) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        if let Some(parked) = &mut session.parked {
            let before = parked.bytes;
            parked.forget(namespace);
            self.owed.reparked(before, parked.bytes);
        }
    }

    /// Bytes that a socket's client is owed, and what is parked for it.
    pub(crate) fn owed_bytes(&self, socket: Key) -> usize {
        let Some(socket) = self.sockets.get(socket) else { return 0 };
        if socket.state == SocketState::Connecting {
            return socket.extra.as_ref().map_or(0, |extra| extra.held.len());
        }
        let Some(session) = self.sessions.get(socket.session) else { return 0 };
        let owed = match session.link {
            Link::Polling { .. } => session.backlog.len(),
            Link::WebSocket(key) => self.connections.get(key).map_or(0, |connection| connection.outbox.len()),
        };
        owed + session.parked.as_ref().map_or(0, |parked| parked.bytes)
    }
}
