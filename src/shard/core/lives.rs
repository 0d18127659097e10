//! How sockets begin and end: a namespace found or made, a room joined, the client let in or refused, the socket cut off and removed.
//!
//! Connect and disconnect handlers are called by `run`, between these steps.

use std::rc::Rc;

use crate::base::limits::{FAREWELL_MAX, FAREWELLS_MAX};
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::inquiry::AckError;
use crate::protocol::socketio::encode;
use crate::shard::core::Core;
use crate::shard::feature::states::StateTable;
use crate::shard::table::Tables;
use crate::shard::table::namespaces::{NamespaceError, is_pattern};
use crate::shard::value::effect::Deferred;
use crate::shard::value::error::Refused;
use crate::shard::value::kinds::{RecoveryOutcome, SocketRefused};
use crate::shard::value::parked::{SlowConsumers, SlowRules};
use crate::shard::value::recovery::{Recovery, Stage};
use crate::shard::value::room::JoinError;
use crate::shard::value::session::{CloseReason, Left};
use crate::shard::value::socket::{Change, NOWHERE, SocketEntry, SocketState, state_of};
use crate::shard::value::state::StateRoom;

/// What a client hears whose connect handler panicked, or that is disconnected before it has decided; the words are
/// Flask-SocketIO's.
pub(crate) const REFUSED: &str = "Connection refused by server";

impl Core {
    /// Takes in a namespace that was registered, or a pattern, and gives it its figures: `setup` is the place of its handlers.
    pub(crate) fn register(
        &mut self,
        setup: u16,
        (endpoint, name): (u8, &str),
        slow: &SlowRules,
        state_rooms: &[(String, StateRoom)],
    ) {
        let path = &self.tables.endpoint(endpoint).options.path;
        self.tables.meters().name_namespace(setup, path, name);
        self.tables.has_slow_rules |= slow.namespace != SlowConsumers::Close;
        self.tables.slow_rules.push(slow.clone());
        if is_pattern(name) {
            return;
        }
        let (number, pattern) = self.tables.namespaces.register(endpoint, name, setup);
        if let Some(pattern) = pattern {
            self.move_counts(number, pattern, setup);
        }
        let now = self.tables.env.now;
        for (room, options) in state_rooms {
            self.states.push(StateTable::new(number, room, options.clone(), now));
        }
    }

    /// The sockets that a pattern has let in are those of what is registered now.
    fn move_counts(&mut self, number: u16, from: u16, to: u16) {
        let sockets = self.tables.namespaces[number].open_sockets;
        let meters = self.tables.meters();
        if let (Some(from), Some(to)) = (meters.namespace(from), meters.namespace(to)) {
            from.sockets.subtract(sockets);
            to.sockets.add(sockets);
        }
    }

    /// Puts a socket into a room. If that is a state room, the client gets the values that there are.
    pub(crate) fn join(&mut self, socket: Key, name: &str) -> Result<(), JoinError> {
        if self.tables.enter(socket, name)? && !self.states.is_empty() {
            self.states().welcome(socket, name);
        }
        Ok(())
    }

    /// The number of the namespace that a client asks for. One that a pattern makes gets its first member at once.
    pub(crate) fn open_namespace(&mut self, session: Key, name: &str) -> Result<u16, Refused> {
        let Some(session) = self.tables.sessions.get(session) else {
            return Err(Refused::new("Invalid namespace"));
        };
        let (endpoint, joined) = (session.endpoint, session.sockets.len());
        let here = self.tables.namespaces.find(endpoint, name);
        let is_registered = here.is_some_and(|number| !self.tables.namespaces[number].is_made);
        let namespaces_per_session_max = self.tables.env.config.namespaces_per_session_max;
        if joined >= namespaces_per_session_max && !is_registered {
            tracing::info!(
                target: SOCKETIO,
                namespace = without_query(name),
                "refused: a session may be in {namespaces_per_session_max} namespaces of patterns (namespaces_per_session_max)"
            );
            self.tables.meters().sockets_refused.count(SocketRefused::OfSession);
            return Err(Refused::new("Too many namespaces"));
        }
        let opened = self.tables.namespaces.open(endpoint, name);
        let meters = self.tables.meters();
        opened.map_err(|error| match error {
            NamespaceError::Unknown => {
                meters.sockets_refused.count(SocketRefused::Unknown);
                tracing::info!(
                    target: SOCKETIO,
                    namespace = without_query(name),
                    endpoint = self.tables.endpoint(endpoint).options.path,
                    "refused with \"Invalid namespace\": none is registered by this name at this endpoint"
                );
                Refused::new("Invalid namespace")
            }
            NamespaceError::Full => {
                meters.sockets_refused.count(SocketRefused::Namespaces);
                let namespaces_max = self.tables.env.config.namespaces_max;
                let namespace = without_query(name);
                tracing::warn!(target: SOCKETIO, namespace, namespaces_max, "refused: namespaces_max is reached");
                Refused::new("Too many namespaces")
            }
        })
    }

    pub(crate) fn add_socket(&mut self, session: Key, namespace: u16) -> Key {
        let sid = self.tables.new_sid();
        let key = self.tables.sockets.insert(SocketEntry::new(sid, namespace, session));
        let Tables { socket_ids, sockets, .. } = &mut self.tables;
        socket_ids.insert(&sid, key.index, |place| sockets.at(place).map(|socket| socket.sid));
        let is_new = self.tables.namespaces[namespace].members.insert(key.index);
        debug_assert!(is_new, "whoever had the place before has left its namespace");
        if self.tables.namespaces[namespace].members.len() == 1 {
            self.tables.hold_outside(namespace, None);
        }
        if let Some(session) = self.tables.sessions.get_mut(session) {
            session.sockets.push((namespace, key));
        }
        self.recovery().begin_keeping(key);
        key
    }

    /// Lets a socket in, now or once what it has missed is here.
    pub(crate) fn accept_socket(&mut self, key: Key) {
        if let Some(socket) = self.tables.sockets.get_mut(key)
            && socket.state == SocketState::Undecided
        {
            socket.state = SocketState::Open;
        } else if !self.tables.must_await_missed(key) {
            self.open_socket(key);
        }
    }

    /// CONNECT is answered first, then follows what was missed, then what the connect handler sent. Node sends first what was missed: stock
    /// clients keep that until CONNECT comes, without its offsets, and have it twice when they lose the connection in between.
    pub(crate) fn open_socket(&mut self, key: Key) {
        let Some(socket) = self.tables.sockets.get_mut(key) else { return };
        if socket.state != SocketState::Connecting {
            return;
        }
        socket.state = SocketState::Open;
        let (session, sid, namespace) = (socket.session, socket.sid, socket.namespace);
        let mut held = socket.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        let place = self.tables.websocket_place(session);
        let form = self.tables.sessions.get(session).map(|session| session.form).unwrap_or_default();
        if let Some(socket) = self.tables.sockets.get_mut(key) {
            socket.connection = place;
            socket.form = form;
        }
        self.tables.namespaces[namespace].open_sockets += 1;
        self.join_client_id(key);
        self.send_connect(key, session, namespace, sid);
        for frame in self.tables.take_missed(key) {
            self.tables.send_frames(session, frame.to_vec());
        }
        if let Some(session) = self.tables.sessions.get_mut(session) {
            session.connect_by = Time::NEVER;
        }
        self.tables.leave_unjoined(session);
        let setup = self.tables.namespaces[namespace].namespace.setup;
        self.tables.env.counters.sockets.add(1);
        let endpoint = self.tables.namespaces[namespace].namespace.endpoint;
        self.tables.endpoint(endpoint).counters.sockets.add(1);
        self.tables.meters().sockets_connected.add(1);
        if let Some(namespace) = self.tables.meters().namespace(setup) {
            namespace.sockets.add(1);
            namespace.connected.add(1);
        }
        self.count_recovered(key);
        if self.tables.sightings.is_on {
            self.tables.saw_opened(key);
        }
        while let Some(front) = held.front() {
            let frames = front.to_vec();
            held.advance(frames.len(), &mut self.tables.pools.buffers);
            self.tables.send_frames(session, frames);
        }
    }

    /// Counts a client that is again who it was.
    fn count_recovered(&self, key: Key) {
        if !self.recovery.is_on {
            return;
        }
        let state = self.tables.sockets.get(key).and_then(state_of);
        if state.is_some_and(|state| state.outcome == Recovery::Recovered) {
            self.tables.meters().recoveries.count(RecoveryOutcome::Recovered);
        }
    }

    /// Tells a client that it is connected before its connect handler is asked, where the endpoint says so (`always_connect`). Who comes
    /// back for what it has missed waits for the handler as ever.
    pub(crate) fn open_undecided(&mut self, key: Key) {
        let Some(socket) = self.tables.sockets.get(key) else { return };
        let endpoint = self.tables.namespaces[socket.namespace].namespace.endpoint;
        if !self.tables.endpoint(endpoint).options.always_connect
            || state_of(socket).is_some_and(|state| !matches!(state.stage, Stage::Present))
        {
            return;
        }
        self.open_socket(key);
        if let Some(socket) = self.tables.sockets.get_mut(key).filter(|socket| socket.state.is_told()) {
            socket.state = SocketState::Undecided;
        }
    }

    /// Sends a client away. One that takes itself for connected is disconnected: its parser knows no reason there.
    pub(crate) fn refuse_socket(&mut self, key: Key, refused: &Refused, why: SocketRefused) {
        let Some(socket) = self.tables.sockets.get(key) else { return };
        self.tables.meters().sockets_refused.count(why);
        let (session, namespace, state) = (socket.session, socket.namespace, socket.state);
        let namespace = Rc::clone(&self.tables.namespaces[namespace].namespace);
        if state == SocketState::Undecided {
            self.count_undecided(key, CloseReason::ServerDisconnect);
            self.send_disconnect(key);
        } else {
            self.send_connect_error(session, &namespace.name, refused);
        }
        self.detach_socket(key);
        self.remove_socket(key);
    }
}

/// What the log shows of a name that a client asks for: older clients append a query, in which a token may be.
fn without_query(name: &str) -> &str {
    name.split_once('?').map_or(name, |(name, _)| name)
}

impl Core {
    /// Notes a change for the sockets of a target on this shard.
    pub(crate) fn apply_change(&mut self, socket: Key, change: &Change<'_>) {
        match change {
            Change::Join(room) => {
                // A socket that is gone or in too many rooms does not join, which `join` logs.
                let _ = self.join(socket, room);
            }
            Change::Leave(room) => self.tables.leave(socket, room),
            Change::Disconnect { close_session: false } => self.tables.end_soon(socket),
            Change::Disconnect { close_session: true } => {
                if let Some(session) = self.tables.sockets.get(socket).map(|socket| socket.session) {
                    self.tables.close_soon(session, CloseReason::ServerDisconnect);
                }
            }
        }
    }

    /// The first half of a socket's end: it is out of its session, and what waited for its handlers is dropped. True if it was
    /// open: then its disconnect handler is to be called.
    pub(crate) fn cut_off(&mut self, key: Key, reason: CloseReason, must_tell: bool) -> bool {
        let Some(socket) = self.tables.sockets.get(key) else { return false };
        let state = socket.state;
        if let Some(session) = self.tables.sessions.get_mut(socket.session) {
            let is_by_itself = reason == CloseReason::ClientDisconnect;
            session.left = session.left.max(if is_by_itself { Left::ByItself } else { Left::SentAway });
        }
        match state {
            SocketState::Closed => self.forget_lost(key),
            SocketState::Connecting | SocketState::Undecided if must_tell => {
                self.refuse_socket(key, &Refused::new(REFUSED), SocketRefused::Disconnected);
            }
            SocketState::Connecting | SocketState::Undecided => {
                if state == SocketState::Undecided {
                    self.count_undecided(key, reason);
                }
                self.detach_socket(key);
                if !self.tables.is_restored_here(key) || !self.lose(key, reason) {
                    self.remove_socket(key);
                }
            }
            SocketState::Open => {
                if must_tell {
                    self.send_disconnect(key);
                }
                self.detach_socket(key);
                self.tables.meters().sockets_disconnected.count(reason);
                return true;
            }
        }
        false
    }

    /// A socket ends that was counted when its client was told, and that no disconnect handler hears of.
    fn count_undecided(&mut self, key: Key, reason: CloseReason) {
        self.tables.meters().sockets_disconnected.count(reason);
        if self.tables.sightings.is_on {
            self.tables.saw_closed(key, reason);
        }
    }

    /// Tells the peer that a socket is over.
    fn send_disconnect(&mut self, key: Key) {
        let Some(socket) = self.tables.sockets.get(key) else { return };
        let (session, namespace) = (socket.session, socket.namespace);
        let namespace = Rc::clone(&self.tables.namespaces[namespace].namespace);
        self.tables.send_message(session, |out| encode::encode_disconnect(out, &namespace.name));
    }

    /// From here on nothing reaches the socket's peer, and nothing of the peer's reaches the socket.
    pub(crate) fn detach_socket(&mut self, key: Key) {
        let Some(socket) = self.tables.sockets.get_mut(key) else { return };
        let (sid, was_open) = (socket.sid, socket.state.is_told());
        if was_open {
            let setup = self.tables.namespaces[socket.namespace].namespace.setup;
            self.tables.env.counters.sockets.subtract(1);
            let table = &mut self.tables.namespaces[socket.namespace];
            table.open_sockets -= 1;
            let endpoint = usize::from(table.namespace.endpoint);
            self.tables.env.endpoints[endpoint].counters.sockets.subtract(1);
            if let Some(namespace) = self.tables.env.counters.meters.namespace(setup) {
                namespace.sockets.subtract(1);
            }
        }
        socket.state = SocketState::Closed;
        socket.connection = NOWHERE;
        (socket.is_busy, socket.is_full) = (false, false);
        if let Some(extra) = &mut socket.extra {
            extra.concurrent = 0;
        }
        let (session, namespace) = (socket.session, socket.namespace);
        self.tables.forget_waiting(key);
        self.tables.forget_acks(key);
        self.tables.close_account(key);
        if let Some(session) = self.tables.sessions.get_mut(session) {
            session.sockets.retain(|(_, socket)| *socket != key);
        }
        self.tables.forget_parked(session, namespace);
        self.inquiries().forget_receiver(key, sid, was_open);
    }

    /// Keeps the rooms of a socket that has ended until its disconnect handler has, within bounds.
    pub(crate) fn keep_leaving(&mut self, key: Key) {
        let Some(socket) = self.tables.sockets.get_mut(key) else { return };
        socket.is_leaving = true;
        for room in socket.rooms.clone() {
            if let Some(room) = self.tables.rooms.get_mut(room) {
                room.lost += 1;
            }
        }
        let until = self.tables.env.now + FAREWELL_MAX;
        self.tables.outside.leaving.push_back((until, key));
        while self.tables.outside.leaving.len() > FAREWELLS_MAX {
            self.let_oldest_go();
        }
    }

    /// Its disconnect handler has ended.
    pub(crate) fn let_go(&mut self, key: Key) {
        if self.tables.sockets.get(key).is_some_and(|socket| socket.is_leaving) {
            self.remove_socket(key);
        }
    }

    /// Those go whose disconnect handlers take too long.
    pub(crate) fn expire_leaving(&mut self) {
        while self.tables.outside.leaving.front().is_some_and(|(until, _)| *until <= self.tables.env.now) {
            self.let_oldest_go();
        }
    }

    fn let_oldest_go(&mut self) {
        if let Some((_, key)) = self.tables.outside.leaving.pop_front() {
            self.let_go(key);
        }
    }

    pub(crate) fn remove_socket(&mut self, key: Key) {
        self.recovery().end_keeping(key);
        self.tables.forget_waiting(key);
        self.tables.leave_all(key);
        // A socket that was never let in may have been asked something, too.
        for ack in self.acks().take_all(key) {
            self.tables.effects.deferred.push(Deferred::FailAck(ack, AckError::Disconnected));
        }
        let Some(mut socket) = self.tables.sockets.remove(key) else { return };
        if let Some(extra) = socket.extra.take().filter(|extra| !extra.values.is_empty()) {
            self.tables.effects.deferred.push(Deferred::Discard(extra));
        }
        self.tables.socket_ids.remove(&socket.sid, key.index);
        self.tables.release_id(socket.namespace, socket.sid);
        let members = &mut self.tables.namespaces[socket.namespace].members;
        members.remove(&key.index);
        if members.is_empty() {
            self.tables.release_outside(socket.namespace, None);
        }
        self.tables.namespaces.release(socket.namespace);
    }
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
