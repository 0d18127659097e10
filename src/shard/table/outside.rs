//! Sockets whose events are handled outside their shard: what threads outside are given of them, and who is not read while too much
//! of it waits there.
//!
//! A client *waits* once its events that are outside have more than `pending_bytes_max`, or those of all clients of this shard more
//! than its part of `outside_bytes_max`. Then nothing more of what it sends is handled: a WebSocket is not read, so TCP holds its client
//! back; the rest of a POST waits, and so does its answer. It goes on once half of that is done, or at its next heartbeat at the latest.

use std::sync::Arc;

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::outside::{SessionAccount, SocketAccount};
use crate::shard::value::session::Link;
use crate::shard::value::socket::SocketState;

/// A shard's part of `outside_bytes_max`.
pub(crate) fn outside_part(bytes_max: usize, shards: usize) -> usize {
    bytes_max / shards.max(1)
}

impl Tables {
    /// How much may wait outside.
    pub(crate) fn bound_outside(&mut self) {
        let part = outside_part(self.env.config.outside_bytes_max, self.mesh.len());
        self.outside.book.bound(self.env.config.pending_bytes_max, part);
        self.all_go_on();
    }

    /// The account of a socket, which is made when it is first asked for. `None`: the socket is gone.
    pub(crate) fn account_of(&mut self, key: Key) -> Option<Arc<SocketAccount>> {
        let socket = self.sockets.get_mut(key)?;
        if let Some(account) = socket.extra.as_ref().and_then(|extra| extra.account.as_ref()) {
            return Some(Arc::clone(account));
        }
        let (book, session_key) = (&self.outside.book, socket.session);
        let make = || Arc::new(SessionAccount::new(book, session_key));
        // One that is lost has no session any more.
        let session = match self.sessions.get_mut(session_key) {
            Some(session) => Arc::clone(session.account.get_or_insert_with(make)),
            None => make(),
        };
        let namespace = self.namespaces[socket.namespace].namespace.address.clone();
        let is_gone = socket.state == SocketState::Closed;
        let account = Arc::new(SocketAccount::new(session, (key, socket.sid), namespace, is_gone));
        socket.extra_mut().account = Some(Arc::clone(&account));
        Some(account)
    }

    /// A socket's client is gone: what of its events is outside need not be handled.
    pub(crate) fn close_account(&self, key: Key) {
        let extra = self.sockets.get(key).and_then(|socket| socket.extra.as_ref());
        if let Some(account) = extra.and_then(|extra| extra.account.as_ref()) {
            account.close();
        }
    }

    /// More of this shard's clients is outside than may be.
    pub(crate) fn is_outside_full(&self) -> bool {
        self.outside.book.is_over()
    }

    /// An event of a socket is given outside.
    pub(crate) fn lend_outside(&mut self, socket: Key, account: &SocketAccount, bytes: usize) {
        self.outside.has_given = true;
        if account.session.lend(bytes)
            && let Some(session) = self.sockets.get(socket).map(|socket| socket.session)
        {
            self.wait_outside(session);
        }
    }

    /// A session's client waits, until `go_on_outside`.
    fn wait_outside(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key).filter(|session| !session.is_over) else {
            return;
        };
        if std::mem::replace(&mut session.share.waits_outside, true) {
            return;
        }
        let link = session.link;
        self.outside.waiting.insert(session_key);
        self.env.counters.outside_pauses.add(1);
        self.env.counters.outside_paused.set(self.outside.waiting.len() as u64);
        if let Link::WebSocket(key) = link {
            self.wait_outside_at(key);
        }
    }

    /// Handles nothing more of what comes on a connection. What has come before its end is handled all the same.
    pub(crate) fn wait_outside_at(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && (connection.share.end.is_none() || connection.still_reads())
        {
            connection.share.waits_outside = true;
        }
    }

    /// Some of what was outside is done: a session's client goes on, if it need not wait any more.
    pub(crate) fn go_on_outside(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key).filter(|session| session.share.waits_outside)
        else {
            return;
        };
        if session.account.as_ref().is_some_and(|account| !account.may_go_on()) {
            return;
        }
        session.share.waits_outside = false;
        let link = session.link;
        self.forget_outside(session_key);
        match link {
            Link::WebSocket(key) => self.go_on_outside_at(key),
            Link::Polling { post, .. } => {
                // First what waits behind its handlers, then its POST.
                self.queue_session(session_key);
                if let Some(key) = post {
                    self.go_on_outside_at(key);
                }
            }
        }
    }

    /// What was kept of a connection's input goes on in its next share.
    pub(crate) fn go_on_outside_at(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && std::mem::take(&mut connection.share.waits_outside)
        {
            self.wait_turn(key);
        }
    }

    /// The same for all who wait.
    pub(crate) fn all_go_on(&mut self) {
        // In the order of their places, which is the same in each run of a simulation.
        let mut waiting: Vec<Key> = self.outside.waiting.iter().copied().collect();
        waiting.sort_unstable();
        waiting.into_iter().for_each(|session| self.go_on_outside(session));
    }

    /// A session does not wait, or is gone.
    pub(crate) fn forget_outside(&mut self, session: Key) {
        if self.outside.waiting.remove(&session) {
            self.env.counters.outside_paused.set(self.outside.waiting.len() as u64);
        }
    }

    /// A session that waits speaks through a WebSocket from here on. A POST of it that waits is not what its client speaks through any
    /// more: its rest is handled.
    pub(crate) fn move_outside(&mut self, session_key: Key, websocket: Key) {
        let Some(session) = self.sessions.get(session_key).filter(|session| session.share.waits_outside)
        else {
            return;
        };
        if let Link::Polling { post: Some(key), .. } = session.link {
            self.go_on_outside_at(key);
        }
        self.wait_outside_at(websocket);
    }

    /// Whether the next packet of a session that polls must wait. What has come before the end of its POST is handled all the same.
    pub(crate) fn waits_outside(&self, session_key: Key) -> bool {
        let session = self.sessions.get(session_key).filter(|session| !session.is_over);
        let Some(session) = session.filter(|session| session.share.waits_outside) else { return false };
        let Link::Polling { post, .. } = session.link else { return false };
        let connection = post.and_then(|key| self.connections.get(key));
        connection.is_none_or(|connection| connection.share.end.is_none() || connection.still_reads())
    }
}
