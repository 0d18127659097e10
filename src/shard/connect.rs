//! From a CONNECT to an open socket: namespaces found or made, connect handlers asked, the client let in or refused.

use std::rc::Rc;

use crate::base::guard::guarded;
use crate::base::limits::NAMESPACES_PER_SESSION_MAX;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::packet::Packet;
use crate::shard::Shard;
use crate::shard::app::{ConnectFlow, Refused};
use crate::shard::context::{Context, Socket};
use crate::shard::core::Core;
use crate::shard::namespaces::NamespaceError;
use crate::shard::recovery::claimed_pid;
use crate::shard::revision3::split_connect;
use crate::shard::session::CloseReason;
use crate::shard::socket::{SocketEntry, SocketState};
use crate::shard::tasks::TaskOwner;

/// What a client hears whose connect handler panicked, or that is disconnected before it has decided; the words are
/// Flask-SocketIO's.
pub(crate) const REFUSED: &str = "Connection refused by server";

impl Shard {
    /// CONNECT: the handler decides.
    pub(crate) fn connect(&mut self, session: Key, packet: &Packet<'_>) {
        let (name, auth) = split_connect(packet, self.core.borrow().is_revision_3(session));
        let joined = self.core.borrow().socket_of(session, name);
        if let Some(socket) = joined {
            if self.core.borrow().may_repeat_connect(session, name) {
                return;
            }
            self.end_repeated(socket, &auth);
        }
        let socket_key = {
            let mut core = self.core.borrow_mut();
            if core.sessions.get(session).is_none_or(|session| session.is_over || session.is_ending) {
                return;
            }
            match core.open_namespace(session, name) {
                Ok(namespace) => core.add_socket(session, namespace),
                Err(refused) => return core.send_connect_error(session, name, &refused),
            }
        };
        self.connect_or_recover(socket_key, &auth);
    }

    /// A client connects to a namespace that it is in: it does not know of that socket any more, and begins anew. So do stock
    /// clients that disconnect and connect before their first CONNECT is answered: they have nothing to take back.
    fn end_repeated(&mut self, socket: Key, auth: &str) {
        let (is_ending, pid) = {
            let core = self.core.borrow();
            (core.is_ending(socket), core.pid_of(socket))
        };
        let reason = match claimed_pid(auth) {
            _ if is_ending => CloseReason::ServerDisconnect,
            Some(claimed) if Some(claimed) == pid => CloseReason::TransportClose,
            _ => CloseReason::ClientDisconnect,
        };
        self.end_socket(socket, reason, is_ending);
    }

    /// Asks the connect handlers from `first` on, until one refuses or takes its time.
    pub(crate) fn ask_connect_handlers(&mut self, socket_key: Key, first: usize, auth: &str) {
        let Some(socket) = Socket::of(&self.core, socket_key) else { return };
        let handlers = self.handlers_of(&socket);
        let args = Args::of_value(auth);
        let mut cx = Context::new(socket, "connect", args, None);
        for (step, ask) in handlers.connect.iter().enumerate().skip(first) {
            // The handler before may have disconnected it: the next is not asked.
            if self.core.borrow().is_ending(socket_key) {
                return;
            }
            let decided = guarded(|| ask(&mut cx, args));
            self.watched(|| format!("a connect handler of {}", cx.namespace()));
            match decided {
                Ok(Ok(ConnectFlow::Done)) => {}
                Ok(Ok(ConnectFlow::Later(future))) => {
                    if step + 1 < handlers.connect.len()
                        && let Some(socket) = self.core.borrow_mut().sockets.get_mut(socket_key)
                    {
                        socket.extra_mut().connect_step = Some((step + 1, auth.to_owned()));
                    }
                    return self.start_task(future, TaskOwner::Connect(socket_key));
                }
                Ok(Err(refused)) => return self.core.borrow_mut().refuse_socket(socket_key, &refused),
                Err(panic) => {
                    tracing::error!(target: SOCKETIO, message = %panic, "a connect handler panicked; the client is refused");
                    self.core.borrow_mut().counters.handler_panics.add(1);
                    let refused = Refused::new(REFUSED);
                    return self.core.borrow_mut().refuse_socket(socket_key, &refused);
                }
            }
        }
        // So may the last one have: the client is refused, as one whose handler took its time.
        if self.core.borrow().is_ending(socket_key) {
            return;
        }
        self.core.borrow_mut().accept_socket(socket_key);
        self.run_waiting(socket_key);
    }

    /// A connect handler that took its time has decided: ask the next, let the socket in, or send it away.
    pub(crate) fn decide(&mut self, socket_key: Key, decision: Result<(), Refused>) {
        let state = self.core.borrow().sockets.get(socket_key).map(|socket| socket.state);
        if state != Some(SocketState::Connecting) {
            return;
        }
        if let Err(refused) = decision {
            return self.core.borrow_mut().refuse_socket(socket_key, &refused);
        }
        let next = {
            let mut core = self.core.borrow_mut();
            let extra = core.sockets.get_mut(socket_key).and_then(|socket| socket.extra.as_mut());
            extra.and_then(|extra| extra.connect_step.take())
        };
        let (first, auth) = next.unwrap_or((usize::MAX, String::new()));
        self.ask_connect_handlers(socket_key, first, &auth);
    }
}

impl Core {
    /// The number of the namespace that a client asks for. One that a pattern makes gets its first member at once.
    fn open_namespace(&mut self, session: Key, name: &str) -> Result<u16, Refused> {
        let Some(session) = self.sessions.get(session) else { return Err(Refused::new("Invalid namespace")) };
        let (endpoint, joined) = (session.endpoint, session.sockets.len());
        let here = self.namespaces.find(endpoint, name);
        let is_registered = here.is_some_and(|number| !self.namespaces[number].is_made);
        if joined >= NAMESPACES_PER_SESSION_MAX && !is_registered {
            tracing::info!(
                target: SOCKETIO,
                namespace = without_query(name),
                "refused: a session may be in {NAMESPACES_PER_SESSION_MAX} namespaces of patterns"
            );
            return Err(Refused::new("Too many namespaces"));
        }
        self.namespaces.open(endpoint, name).map_err(|error| match error {
            NamespaceError::Unknown => {
                tracing::info!(
                    target: SOCKETIO,
                    namespace = without_query(name),
                    endpoint = self.endpoint(endpoint).options.path,
                    "refused with \"Invalid namespace\": none is registered by this name at this endpoint"
                );
                Refused::new("Invalid namespace")
            }
            NamespaceError::Full => {
                let namespaces_max = self.config.namespaces_max;
                let namespace = without_query(name);
                tracing::warn!(target: SOCKETIO, namespace, namespaces_max, "refused: namespaces_max is reached");
                Refused::new("Too many namespaces")
            }
        })
    }

    fn add_socket(&mut self, session: Key, namespace: u16) -> Key {
        let sid = self.new_sid();
        let key = self.sockets.insert(SocketEntry::new(sid, namespace, session));
        let Core { socket_ids, sockets, .. } = &mut *self;
        socket_ids.insert(&sid, key.index, |place| sockets.at(place).map(|socket| socket.sid));
        let is_new = self.namespaces[namespace].members.insert(key.index);
        debug_assert!(is_new, "whoever had the place before has left its namespace");
        if let Some(session) = self.sessions.get_mut(session) {
            session.sockets.push((namespace, key));
        }
        self.begin_keeping(key);
        key
    }

    /// Lets a socket in, now or once what it has missed is here.
    fn accept_socket(&mut self, key: Key) {
        if !self.must_await_missed(key) {
            self.open_socket(key);
        }
    }

    /// CONNECT is answered first, then follows what was missed, then what the connect handler sent. Node sends first what was missed: stock
    /// clients keep that until CONNECT comes, without its offsets, and have it twice when they lose the connection in between.
    pub(crate) fn open_socket(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.state != SocketState::Connecting {
            return;
        }
        socket.state = SocketState::Open;
        let (session, sid, namespace) = (socket.session, socket.sid, socket.namespace);
        let mut held = socket.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        let place = self.websocket_place(session);
        let wire = self.sessions.get(session).map(|session| session.wire).unwrap_or_default();
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.connection = place;
            socket.wire = wire;
        }
        self.namespaces[namespace].open_sockets += 1;
        self.join_client_id(key);
        self.send_connect(key, session, namespace, sid);
        for frame in self.take_missed(key) {
            self.send_frames(session, frame.to_vec());
        }
        if let Some(session) = self.sessions.get_mut(session) {
            session.connect_by = Time::NEVER;
        }
        self.leave_unjoined(session);
        self.counters.sockets.add(1);
        while let Some(front) = held.front() {
            let frames = front.to_vec();
            held.advance(frames.len(), &mut self.buffers);
            self.send_frames(session, frames);
        }
    }

    pub(crate) fn refuse_socket(&mut self, key: Key, refused: &Refused) {
        let Some(socket) = self.sockets.get(key) else { return };
        let (session, namespace) = (socket.session, socket.namespace);
        let namespace = Rc::clone(&self.namespaces[namespace].namespace);
        self.send_connect_error(session, &namespace.name, refused);
        self.detach_socket(key);
        self.remove_socket(key);
    }
}

/// What the log shows of a name that a client asks for: older clients append a query, in which a token may be.
fn without_query(name: &str) -> &str {
    name.split_once('?').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_name_is_not_for_the_log() {
        for (name, shown) in [("/nope", "/nope"), ("/nope?token=s", "/nope"), ("?a?b", ""), ("/é?", "/é")] {
            assert_eq!(without_query(name), shown);
        }
    }
}
