//! What all clients of a shard have sent of messages that are not whole, and who is closed when it is too much.
//!
//! A frame, a body or a packet with attachments is bounded by itself; many clients that each leave out the last byte of one are not.
//! The same is true of whole events that wait behind asynchronous handlers, and of what a client said in a CONNECT that is not
//! decided, and a request that is kept for a route which waits: they count here as well.
//! What a connection and a session keep is counted when it changes, and never on the way of a message that arrives whole.

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Connection, Kind, Role, clamped};
use crate::shard::value::kinds::EventOutcome;

/// A shard's part of `partial_bytes_max` is at least so many messages of the greatest size: with less, such a message could not arrive.
const MESSAGES_MIN: usize = 4;

/// A shard's part of `partial_bytes_max`; no message is larger than `message_bytes_max`.
pub(crate) fn partial_part(bytes_max: usize, shards: usize, message_bytes_max: usize) -> usize {
    (bytes_max / shards.max(1)).max(message_bytes_max.saturating_mul(MESSAGES_MIN))
}

/// Who is closed because all together keep too much.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeper {
    Session(Key),
    Connection(Key),
}

impl Connection {
    /// Bytes of its input that are kept: incomplete, or waiting for their turn.
    fn partial_now(&self) -> usize {
        let within = match &self.kind {
            Kind::Http(http) => {
                let chunked =
                    http.chunked.as_ref().map_or(0, |chunked| chunked.head.len() + chunked.body.len());
                chunked + http.post.as_ref().map_or(0, |post| post.len_bytes())
            }
            Kind::WebSocket(websocket) => websocket.decoder.len_bytes(),
        };
        self.inbound.len() + within
    }
}

impl Tables {
    /// This shard's part of what all may keep.
    pub(crate) fn partial_part(&mut self) {
        let largest = self.env.endpoints.iter().map(|endpoint| endpoint.options.max_http_buffer_size).max();
        self.intake.partial_bytes_max =
            partial_part(self.env.config.partial_bytes_max, self.mesh.len(), largest.unwrap_or(0));
    }

    /// What a connection keeps of its input may have changed.
    pub(crate) fn count_partial(&mut self, key: Key) {
        let kept = self.kept_for_route(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let now = clamped(connection.partial_now() + kept);
        self.intake.partial_bytes = self.intake.partial_bytes - connection.partial as usize + now as usize;
        connection.partial = now;
    }

    /// Bytes of a request that are kept for its route, or that this has not taken yet.
    fn kept_for_route(&self, key: Key) -> usize {
        let Some(Kind::Http(http)) = self.connections.get(key).map(|connection| &connection.kind) else {
            return 0;
        };
        let entry = http.route.and_then(|route| self.routes.entries.get(route));
        entry.map_or(0, |entry| {
            let queued = entry.body.as_ref().map_or(0, |body| body.queued.len());
            queued + entry.kept.as_ref().map_or(0, |kept| kept.head.len() + kept.body.len())
        })
    }

    /// What waits for a socket's handlers may have changed.
    pub(crate) fn count_waiting(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let Some(extra) = &mut socket.extra else { return };
        let now = extra.waiting_now();
        let before = std::mem::replace(&mut extra.waiting_counted, now);
        let session_key = socket.session;
        if before != now
            && let Some(session) = self.sessions.get_mut(session_key)
        {
            session.waiting_bytes = session.waiting_bytes - before + now;
            self.count_session_partial(session_key);
        }
    }

    /// Drops what waits for a socket's handlers.
    pub(crate) fn forget_waiting(&mut self, key: Key) {
        if let Some(extra) = self.sockets.get_mut(key).and_then(|socket| socket.extra.as_mut()) {
            let meters = &self.env.counters.meters;
            meters.events.add(EventOutcome::Dropped, extra.waiting.len() as u64);
            meters.events_waiting.subtract(extra.waiting.len() as u64);
            extra.waiting.clear();
            extra.waiting_bytes = 0;
            extra.connect_step = None;
        }
        self.count_waiting(key);
    }

    /// The attachments that a session waits for, or what waits for its sockets' handlers, may have changed.
    pub(crate) fn count_session_partial(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let attachments = session.pending_binary.as_ref().map_or(0, |pending| pending.len_bytes());
        let now = clamped(attachments + session.waiting_bytes);
        self.intake.partial_bytes = self.intake.partial_bytes - session.partial as usize + now as usize;
        session.partial = now;
    }

    /// Those who keep most, until enough is gone.
    pub(crate) fn largest_partial(&self) -> Vec<Keeper> {
        let mut keepers: Vec<(u32, Keeper)> = Vec::new();
        for key in self.connections.keys() {
            let connection = self.connections.get(key).expect("the key was just listed");
            let keeper = match &connection.kind {
                Kind::WebSocket(websocket) => match websocket.role {
                    Role::Session(session) => Keeper::Session(session),
                    Role::Probe(_) | Role::Raw(_) => Keeper::Connection(key),
                },
                Kind::Http(_) => Keeper::Connection(key),
            };
            keepers.push((connection.partial, keeper));
        }
        for key in self.sessions.keys() {
            let session = self.sessions.get(key).expect("the key was just listed");
            keepers.push((session.partial, Keeper::Session(key)));
        }
        keepers.retain(|(bytes, _)| *bytes > 0);
        keepers.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        // A little more than must be, so that not every turn closes somebody.
        let mut excess = self.intake.partial_bytes.saturating_sub(self.intake.partial_bytes_max / 8 * 7);
        let enough = keepers.into_iter().take_while(|(bytes, _)| {
            let is_needed = excess > 0;
            excess = excess.saturating_sub(*bytes as usize);
            is_needed
        });
        enough.map(|(_, keeper)| keeper).collect()
    }

    /// What every connection and session keeps, added up.
    #[cfg(test)]
    pub(crate) fn partial_of_all(&self) -> usize {
        let connections = self.connections.keys().filter_map(|key| self.connections.get(key));
        let sessions = self.sessions.keys().filter_map(|key| self.sessions.get(key));
        let pending = sessions.filter_map(|session| session.pending_binary.as_ref());
        let sockets = self.sockets.keys().filter_map(|key| self.sockets.get(key));
        let extras = sockets.filter(|socket| self.sessions.get(socket.session).is_some());
        let extras = extras.filter_map(|socket| socket.extra.as_ref());
        let kept = self.connections.keys().map(|key| self.kept_for_route(key));
        connections.map(Connection::partial_now).sum::<usize>()
            + kept.sum::<usize>()
            + pending.map(|pending| pending.len_bytes()).sum::<usize>()
            + extras.map(|extra| extra.waiting_now()).sum::<usize>()
    }
}
