//! How sessions and sockets end, whoever ended them.
//!
//! An end has two halves. What the peer can notice happens at once: the socket is out of its session, and no more is sent to it.
//! Then its disconnect handler runs, with the rooms still there, and the socket is removed. All sockets of a session have gone
//! through the first half before user code runs for one of them, so that this code finds no socket that is half open.
//!
//! Code that must not call handlers notes the end (`Tables::end_soon`, `Tables::close_soon`). From then on no packet
//! reaches the handlers of that socket, though its end is settled later.

use smallvec::SmallVec;

use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::base::slab::Key;
use crate::message::inquiry::AckError;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::packet::Packet;
use crate::shard::run::Shard;
use crate::shard::user::app::Farewell;
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::kinds::Kick;
use crate::shard::value::session::{CloseReason, Left, Link};
use crate::shard::value::socket::SocketState;
use crate::shard::value::task::TaskOwner;

impl Shard {
    /// Tells the sockets of a session that their client has caught up.
    pub(crate) fn drained(&mut self, session: Key) {
        let sockets = self.core.borrow().tables.sockets_of(session);
        for key in sockets {
            let is_open = {
                let core = self.core.borrow();
                let is_open =
                    core.tables.sockets.get(key).is_some_and(|socket| socket.state == SocketState::Open);
                is_open && !core.tables.is_ending(key)
            };
            let Some(socket) = Socket::of(&self.core, key).filter(|_| is_open) else { continue };
            let handlers = self.handlers_of(&socket);
            if let Some(on_drain) = &handlers.drain {
                let mut cx = Context::new(socket, "drain", Args::default(), None);
                let done = self.call(
                    &mut cx,
                    |cx| on_drain(cx),
                    |cx| format!("the drain handler of {}", cx.namespace()),
                );
                if let Err(panic) = done {
                    tracing::error!(target: SOCKETIO, message = %panic, "a drain handler panicked");
                }
            }
        }
    }

    /// Ends a session, and drops what its client is still owed.
    pub(crate) fn give_up_session(&mut self, session_key: Key, reason: CloseReason) {
        self.core.borrow_mut().tables.forget_backlog(session_key);
        self.close_session(session_key, reason);
    }

    /// Something has come from a session's client. The session's deadline may be over although the wheel has not told yet, as it
    /// tells at ticks only: then what came is too late, and the session ends. If the deadline was more than a tick ago, this shard was
    /// held up, and the session goes on.
    #[inline]
    pub(crate) fn end_if_due(&mut self, session_key: Key) {
        let armed = {
            let core = self.core.borrow();
            let Some(session) = core.tables.sessions.get(session_key) else { return };
            let deadline = session.deadline();
            if deadline > core.tables.env.now
                || core.tables.env.now.since(deadline) > core.tables.wheel.tick()
            {
                return;
            }
            session.armed
        };
        self.session_timeout(session_key, armed, std::time::Duration::ZERO);
    }

    /// `41`: the client leaves a namespace; the connection stays.
    pub(crate) fn leave_namespace(&mut self, session: Key, packet: &Packet<'_>) {
        let socket = self.core.borrow().tables.socket_of(session, packet.namespace);
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
        let left = self.core.borrow().tables.sessions.get(session).map(|session| session.left);
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
        self.close_session_for(session, reason, Kick::Outbox);
    }

    /// The same, which says for which bound a slow client is closed.
    pub(crate) fn close_session_for(&mut self, session: Key, reason: CloseReason, kick: Kick) {
        let (ended, is_raw) = {
            let mut core = self.core.borrow_mut();
            let Some(entry) = core.tables.sessions.get_mut(session) else { return };
            if std::mem::replace(&mut entry.is_over, true) {
                return;
            }
            let (endpoint, sid, link) = (entry.endpoint, entry.sid, entry.link);
            let speech = entry.speech();
            core.tables.env.counters.sessions.subtract(1);
            let counters = &core.tables.endpoint(endpoint).counters;
            counters.sessions.subtract(1);
            counters.sessions_polling.subtract(u64::from(matches!(link, Link::Polling { .. })));
            counters.sessions_closed.count(reason);
            core.tables.meters().sessions.subtract(speech);
            core.tables.leave_unjoined(session);
            tracing::debug!(target: ENGINEIO, session = %sid.brief(), %reason, "session closed");
            let must_tell = reason == CloseReason::ServerDisconnect;
            let sockets = core.tables.sockets_of(session).into_iter();
            let ended: SmallVec<[Key; 4]> =
                sockets.filter(|socket| core.cut_off(*socket, reason, must_tell)).collect();
            if reason == CloseReason::SlowConsumer {
                core.tables.env.counters.slow_consumers_closed.add(1);
                core.tables.meters().kicks.count(kick);
                core.tables.endpoint(endpoint).counters.slow_consumers_closed.add(1);
                core.tables.abandon_outbox(session);
            }
            (ended, core.tables.endpoint(endpoint).is_raw)
        };
        for socket in ended {
            self.finish_socket(socket, reason);
        }
        if is_raw {
            self.engine_closed(session, reason);
        }
        self.tell_connection_end(session);
        self.core.borrow_mut().tables.end_transport(session, reason);
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
        if self.core.borrow().tables.sightings.is_on {
            self.core.borrow_mut().tables.saw_closed(socket_key, reason);
        }
        let mut farewell = Farewell::Done;
        if let Some(socket) = Socket::of(&self.core, socket_key) {
            let handlers = self.handlers_of(&socket);
            if let Some(on_disconnect) = &handlers.disconnect {
                let mut cx = Context::new(socket, "disconnect", Args::default(), None);
                let name = |cx: &Context<'_>| format!("the disconnect handler of {}", cx.namespace());
                match self.call(&mut cx, |cx| on_disconnect(cx, reason), name) {
                    Ok(done) => farewell = done,
                    Err(panic) => {
                        tracing::error!(target: SOCKETIO, message = %panic, "a disconnect handler panicked");
                    }
                }
            }
        }
        let acks = self.core.borrow_mut().acks().take_all(socket_key);
        for ack in acks {
            self.fail_ack(ack, AckError::Disconnected);
        }
        let mut core = self.core.borrow_mut();
        if core.lose(socket_key, reason) {
            // Its rooms are kept anyway.
        } else if matches!(farewell, Farewell::Done) {
            core.remove_socket(socket_key);
        } else {
            core.keep_leaving(socket_key);
        }
        drop(core);
        if let Farewell::Later(future) = farewell {
            self.start_task(future, TaskOwner::Disconnect(socket_key));
        }
    }
}
