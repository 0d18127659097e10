//! How sessions and sockets end, whoever ended them.
//!
//! An end has two halves. What the peer can notice happens at once: the socket is out of its session, and no more is sent to it.
//! Then its disconnect handler runs, with the rooms still there, and the socket is removed. All sockets of a session have gone
//! through the first half before user code runs for one of them, so that this code finds no socket that is half open.
//!
//! Code that must not call handlers notes the end ([`Core::end_soon`], [`Core::close_soon`]). From then on no packet
//! reaches the handlers of that socket, though its end is settled later.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::base::guard::guarded;
use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::base::slab::{Key, Slab};
use crate::message::inquiry::AckError;
use crate::protocol::socketio::encode;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::packet::Packet;
use crate::shard::Shard;
use crate::shard::app::Refused;
use crate::shard::connect::REFUSED;
use crate::shard::context::{Context, Socket};
use crate::shard::core::{Core, Deferred, NOWHERE};
use crate::shard::session::{CloseReason, Left, Link, Session};
use crate::shard::socket::SocketState;

impl Shard {
    /// `41`: the client leaves a namespace; the connection stays.
    pub(crate) fn leave_namespace(&mut self, session: Key, packet: &Packet<'_>) {
        let socket = self.core.borrow().socket_of(session, packet.namespace);
        match socket {
            Some(socket) => self.end_socket(socket, CloseReason::ClientDisconnect, false),
            None => self.receive_stray(
                session,
                Left::ByItself,
                "the client left a namespace that it had not joined",
            ),
        }
    }

    /// A packet came for a namespace that the client is not in. A client that was there, and has left as `excused` says, may send
    /// it; any other broke the protocol.
    pub(crate) fn receive_stray(&mut self, session: Key, excused: Left, reason: &str) {
        let left = self.core.borrow().sessions.get(session).map(|session| session.left);
        if left.is_some_and(|left| left < excused) {
            self.break_session(session, reason);
        }
    }

    /// A violation of the Socket.IO protocol ends the session, as in Node.
    pub(crate) fn break_session(&mut self, session: Key, reason: &str) {
        tracing::info!(target: SOCKETIO, reason, "session closed: the client broke the Socket.IO protocol");
        self.close_session(session, CloseReason::ForcedClose);
    }

    /// Ends a session: its sockets, then its transport.
    pub(crate) fn close_session(&mut self, session: Key, reason: CloseReason) {
        let (ended, is_raw) = {
            let mut core = self.core.borrow_mut();
            let Some(entry) = core.sessions.get_mut(session) else { return };
            if std::mem::replace(&mut entry.is_over, true) {
                return;
            }
            let (endpoint, sid) = (entry.endpoint, entry.sid);
            core.counters.sessions.subtract(1);
            core.leave_unjoined(session);
            tracing::debug!(target: ENGINEIO, session = %sid.brief(), %reason, "session closed");
            let must_tell = reason == CloseReason::ServerDisconnect;
            let sockets = core.sockets_of(session).into_iter();
            let ended: SmallVec<[Key; 4]> =
                sockets.filter(|socket| core.cut_off(*socket, reason, must_tell)).collect();
            if reason == CloseReason::SlowConsumer {
                core.counters.slow_consumers_closed.add(1);
                core.abandon_outbox(session);
            }
            (ended, core.endpoint(endpoint).is_raw)
        };
        for socket in ended {
            self.finish_socket(socket, reason);
        }
        if is_raw {
            self.engine_closed(session, reason);
        }
        self.core.borrow_mut().end_transport(session, reason);
    }

    /// Ends one socket; its disconnect handler runs at once.
    pub(crate) fn end_socket(&mut self, socket: Key, reason: CloseReason, must_tell: bool) {
        let was_open = self.core.borrow_mut().cut_off(socket, reason, must_tell);
        if was_open {
            self.finish_socket(socket, reason);
        }
    }

    /// The second half of an end: the disconnect handler runs, with the rooms still there, and the socket is removed. A future of it
    /// that still runs goes on by itself.
    fn finish_socket(&mut self, socket_key: Key, reason: CloseReason) {
        if let Some(socket) = Socket::of(&self.core, socket_key) {
            let handlers = self.handlers_of(&socket);
            if let Some(on_disconnect) = &handlers.disconnect {
                let mut cx = Context::new(socket, "disconnect", Args::default(), None);
                let done = guarded(|| on_disconnect(&mut cx, reason));
                self.watched(|| format!("the disconnect handler of {}", cx.namespace()));
                if let Err(panic) = done {
                    tracing::error!(target: SOCKETIO, message = %panic, "a disconnect handler panicked");
                    self.core.borrow_mut().counters.handler_panics.add(1);
                }
            }
        }
        let acks = self.core.borrow_mut().take_acks(socket_key);
        for ack in acks {
            self.fail_ack(ack, AckError::Disconnected);
        }
        let mut core = self.core.borrow_mut();
        if !core.lose(socket_key, reason) {
            core.remove_socket(socket_key);
        }
    }
}

impl Core {
    /// Notes that a socket is to end. From now on nothing reaches its handlers.
    pub(crate) fn end_soon(&mut self, socket: Key) {
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.is_ending = true;
            self.deferred.push(Deferred::DisconnectSocket(socket));
        }
    }

    /// Notes that a session is to end. From now on nothing reaches the handlers of its sockets.
    pub(crate) fn close_soon(&mut self, session: Key, reason: CloseReason) {
        close_soon(&mut self.sessions, &mut self.deferred, session, reason);
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

    /// The first half of a socket's end: it is out of its session, and what waited for its handlers is dropped. True if it was
    /// open: then its disconnect handler is to be called.
    fn cut_off(&mut self, key: Key, reason: CloseReason, must_tell: bool) -> bool {
        let Some(socket) = self.sockets.get(key) else { return false };
        let state = socket.state;
        if let Some(session) = self.sessions.get_mut(socket.session) {
            let is_by_itself = reason == CloseReason::ClientDisconnect;
            session.left = session.left.max(if is_by_itself { Left::ByItself } else { Left::SentAway });
        }
        match state {
            SocketState::Closed => self.forget_lost(key),
            SocketState::Connecting if must_tell => self.refuse_socket(key, &Refused::new(REFUSED)),
            SocketState::Connecting => {
                self.detach_socket(key);
                if !self.is_restored_here(key) || !self.lose(key, reason) {
                    self.remove_socket(key);
                }
            }
            SocketState::Open => {
                if must_tell {
                    self.send_disconnect(key);
                }
                self.detach_socket(key);
                return true;
            }
        }
        false
    }

    /// Tells the peer that a socket is over.
    fn send_disconnect(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(key) else { return };
        let (session, namespace) = (socket.session, socket.namespace);
        let namespace = Rc::clone(&self.namespaces[namespace].namespace);
        self.send_message(session, |out| encode::encode_disconnect(out, &namespace.name));
    }

    /// From here on nothing reaches the socket's peer, and nothing of the peer's reaches the socket.
    pub(crate) fn detach_socket(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let (sid, was_open) = (socket.sid, socket.state == SocketState::Open);
        if was_open {
            self.counters.sockets.subtract(1);
            self.namespaces[socket.namespace].open_sockets -= 1;
        }
        socket.state = SocketState::Closed;
        socket.connection = NOWHERE;
        socket.is_busy = false;
        if let Some(extra) = &mut socket.extra {
            extra.waiting.clear();
            extra.waiting_bytes = 0;
        }
        let (session, namespace) = (socket.session, socket.namespace);
        if let Some(session) = self.sessions.get_mut(session) {
            session.sockets.retain(|(_, socket)| *socket != key);
        }
        self.forget_parked(session, namespace);
        self.forget_receiver(key, sid, was_open);
    }

    pub(crate) fn remove_socket(&mut self, key: Key) {
        self.end_keeping(key);
        self.leave_all(key);
        // A socket that was never let in may have been asked something, too.
        for ack in self.take_acks(key) {
            self.deferred.push(Deferred::FailAck(ack, AckError::Disconnected));
        }
        let Some(mut socket) = self.sockets.remove(key) else { return };
        if let Some(extra) = socket.extra.take().filter(|extra| !extra.values.is_empty()) {
            self.deferred.push(Deferred::Discard(extra));
        }
        self.socket_ids.remove(&socket.sid, key.index);
        self.release_id(socket.namespace, socket.sid);
        self.namespaces[socket.namespace].members.remove(&key.index);
        self.namespaces.release(socket.namespace);
    }

    /// A peer that does not read gets nothing more: what it is owed is forgotten.
    fn abandon_outbox(&mut self, session: Key) {
        let Core { sessions, connections, buffers, owed, .. } = &mut *self;
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
