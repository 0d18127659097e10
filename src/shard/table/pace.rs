//! What a client may send in a second, and how it is slowed when it sends more.
//!
//! Every message of a client is charged to its session, on whichever transport it comes; a raw WebSocket has its own account
//! (`value/pace`). A client that is slowed waits as one does that has used up its share of a turn (`input`): its connection handles
//! nothing until the time has come, what it sends meanwhile is kept up to a bound, and then the kernel holds it back. A POST is
//! slowed from one packet to the next. Whatever ends the connection ends the wait.

use std::time::Duration;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::config::{EndpointSettings, RatePolicy};
use crate::message::peer::Peer;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Kind, Role};
use crate::shard::value::env::Env;
use crate::shard::value::pace::Paced;
use crate::shard::value::session::Link;
use crate::shard::value::wheel::TimerOwner;

impl Tables {
    /// Charges a message to its session.
    #[inline]
    pub(crate) fn pace_session(&mut self, session_key: Key, bytes: usize) -> Paced {
        let Tables { sessions, env: Env { endpoints, now, .. }, .. } = self;
        let Some(session) = sessions.get_mut(session_key) else { return Paced::On };
        session.pace.charge(bytes, *now, &endpoints[usize::from(session.endpoint)].settings)
    }

    /// Charges a message of a raw WebSocket.
    pub(crate) fn pace_raw(&mut self, key: Key, bytes: usize) -> Paced {
        let Tables { connections, env: Env { endpoints, now, .. }, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return Paced::On };
        let Kind::WebSocket(websocket) = &mut connection.kind else { return Paced::On };
        let Role::Raw(raw) = &mut websocket.role else { return Paced::On };
        raw.pace.charge(bytes, *now, &endpoints[usize::from(websocket.endpoint)].settings)
    }

    /// How long the next packet of a session's POST must wait.
    pub(crate) fn wait_of_pace(&mut self, session_key: Key) -> Duration {
        let Tables { sessions, env: Env { endpoints, now, .. }, .. } = self;
        let Some(session) = sessions.get_mut(session_key) else { return Duration::ZERO };
        let settings = &endpoints[usize::from(session.endpoint)].settings;
        match settings.rate_policy {
            RatePolicy::Delay if !session.is_over => session.pace.wait(*now, settings),
            _ => Duration::ZERO,
        }
    }

    /// Makes a client wait that has sent more than it may.
    #[cold]
    pub(crate) fn slow_client(&mut self, key: Key, wait: Duration) {
        self.env.counters.rate_delays.add(1);
        self.slow_down(key, wait);
    }

    /// Handles nothing more of a connection for a while.
    pub(crate) fn slow_down(&mut self, key: Key, wait: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_over = connection.share.end.is_some() && !connection.still_reads();
        if is_over || std::mem::replace(&mut connection.share.is_slowed, true) {
            return;
        }
        self.wheel.arm(TimerOwner::Pace(key), self.env.now + wait.max(Duration::from_millis(1)));
    }

    /// What a slowed connection has sent goes on in its next share.
    pub(crate) fn let_on(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && std::mem::take(&mut connection.share.is_slowed)
        {
            self.wait_turn(key);
        }
    }

    /// A packet that cannot be dropped came beyond the limit, where what can be is dropped: the next waits.
    pub(crate) fn slow_session(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get(session_key) else { return };
        let wait = session.pace.price();
        if let Link::WebSocket(key) | Link::Polling { post: Some(key), .. } = session.link {
            self.slow_client(key, wait);
        }
    }

    /// Whether the packet at hand came beyond the limit, where what can be dropped is.
    #[inline]
    pub(crate) fn is_beyond(&self, session_key: Key) -> bool {
        self.sessions.get(session_key).is_some_and(|session| session.pace.is_beyond())
    }

    pub(crate) fn is_slowed(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|connection| connection.share.is_slowed)
    }

    /// Says once of each session that its client sends too much.
    #[cold]
    pub(crate) fn tell_of_pace(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        if session.pace.must_tell() {
            let (peer, endpoint) = (session.handshake.peer(), session.endpoint);
            tell(peer, &self.endpoint(endpoint).settings);
        }
    }

    /// The same of a raw WebSocket.
    #[cold]
    pub(crate) fn tell_of_raw_pace(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let peer = connection.peer;
        let Kind::WebSocket(websocket) = &mut connection.kind else { return };
        let Role::Raw(raw) = &mut websocket.role else { return };
        if raw.pace.must_tell() {
            let endpoint = websocket.endpoint;
            tell(peer, &self.endpoint(endpoint).settings);
        }
    }
}

fn tell(peer: Peer, settings: &EndpointSettings) {
    tracing::warn!(
        target: ENGINEIO,
        %peer,
        events_per_second_max = settings.events_per_second_max,
        bytes_per_second_max = settings.bytes_per_second_max,
        rate_policy = ?settings.rate_policy,
        "a client sends more than events_per_second_max or bytes_per_second_max: rate_policy is applied; raise the limit if your \
         clients need more"
    );
}
