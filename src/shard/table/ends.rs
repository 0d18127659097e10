//! Ends that are noted now and carried out later.

use crate::base::slab::{Key, Slab};
use crate::shard::table::Tables;
use crate::shard::value::effect::Deferred;
use crate::shard::value::pools::Pools;
use crate::shard::value::session::{CloseReason, Link, Session};
use crate::shard::value::socket::SocketState;

impl Tables {
    /// Notes that a socket is to end. From now on its handlers get no more events.
    pub(crate) fn end_soon(&mut self, socket: Key) {
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.is_ending = true;
            self.effects.deferred.push(Deferred::DisconnectSocket(socket));
        }
    }

    /// Notes that a session is to end. From now on the handlers of its sockets get no more events.
    pub(crate) fn close_soon(&mut self, session: Key, reason: CloseReason) {
        close_soon(&mut self.sessions, &mut self.effects.deferred, session, reason);
    }

    /// Whether a socket has ended, or its end is noted: nothing may reach its handlers.
    pub(crate) fn is_ending(&self, socket: Key) -> bool {
        self.sockets.get(socket).is_none_or(|socket| {
            socket.is_ending
                || socket.state == SocketState::Closed
                || self
                    .sessions
                    .get(socket.session)
                    .is_none_or(|session| session.is_ending || session.is_over)
        })
    }

    /// Forgets what a peer that does not read is owed.
    pub(crate) fn abandon_outbox(&mut self, session: Key) {
        let Tables { sessions, connections, owed, pools: Pools { buffers, .. }, .. } = &mut *self;
        let Some(session) = sessions.get_mut(session) else { return };
        owed.remove(session.backlog.len());
        session.backlog.clear(buffers);
        if let Link::WebSocket(key) = session.link
            && connections.get(key).is_some()
        {
            self.drop_connection(key);
        }
    }
}

/// Notes that a session is to end, for those who hold parts of the core only.
pub(crate) fn close_soon(
    sessions: &mut Slab<Session>,
    deferred: &mut Vec<Deferred>,
    key: Key,
    reason: CloseReason,
) {
    if let Some(session) = sessions.get_mut(key) {
        session.is_ending = true;
        deferred.push(Deferred::CloseSession(key, reason));
    }
}
