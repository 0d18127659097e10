//! Connections open, are written to, and end.

use std::convert::Infallible;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::message::peer::{Arrival, Door};
use crate::protocol::websocket::close::{self, CloseCode};
use crate::protocol::websocket::message::MessageDecoder;
use crate::shard::table::Tables;
use crate::shard::value::connection::{
    ANSWER_PATIENCE, Connection, Ending, FIRST_REQUEST_PATIENCE, FLUSH_PATIENCE, Kind, LINGER, WebSocketState,
};
use crate::shard::value::effect::{Deferred, Output};
use crate::shard::value::env::Env;
use crate::shard::value::kinds::ConnectionRefused;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::pools::Pools;

/// Connections of operators that one shard has at a time: scrapers, probes and a few people.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 64;

impl Tables {
    /// A new connection; `None` when this process holds `connections_max`.
    pub(crate) fn open_connection(&mut self, arrival: Arrival) -> Option<Key> {
        let max = self.env.config.connections_max;
        self.open_within(arrival, max)
    }

    /// A new connection, unless this process holds so many.
    pub(crate) fn open_within(&mut self, arrival: Arrival, max: usize) -> Option<Key> {
        match arrival.door {
            Door::Public if !self.mesh.held.try_connect(max) => {
                self.env.counters.connections_refused.add(1);
                self.meters().connections_refused.count(ConnectionRefused::Full);
                tracing::warn!(
                    target: ENGINEIO,
                    peer = %arrival.peer,
                    connections_max = max,
                    "connection closed: this process holds connections_max; raise it, or add processes"
                );
                return None;
            }
            Door::Public => self.env.counters.connections.add(1),
            // Operators are let in where clients no longer are.
            Door::Admin if self.env.admin_connections >= ADMIN_CONNECTIONS_MAX => return None,
            Door::Admin => self.env.admin_connections += 1,
        }
        let key = self.connections.insert(Connection::new(arrival));
        let header_timeout = self.env.config.header_timeout;
        self.arm_connection(
            key,
            if self.env.is_shutting_down { FIRST_REQUEST_PATIENCE } else { header_timeout },
        );
        Some(key)
    }

    /// A connection is here no more.
    pub(crate) fn uncount_connection(&mut self, door: Door) {
        match door {
            Door::Public => {
                self.mesh.held.disconnect();
                self.env.counters.connections.subtract(1);
            }
            Door::Admin => self.env.admin_connections -= 1,
        }
    }

    /// Which listener a connection came by.
    pub(crate) fn door(&self, key: Key) -> Door {
        self.connections.get(key).map_or(Door::Public, |connection| connection.door)
    }

    /// Lets `write` append to what a connection is owed.
    pub(crate) fn write_to(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        self.mark_dirty(key);
        let Tables { connections, owed, pools: Pools { buffers, .. }, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            let before = connection.outbox.len();
            connection.outbox.write(buffers, write);
            owed.add_own(connection.outbox.len() - before);
        }
    }

    /// Ends a connection once everything owed is written.
    pub(crate) fn close_after_flush(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            connection.ending = Ending::AfterFlush;
            connection.inbound = Vec::new();
            // A peer that reads nothing must not keep what it is owed for ever.
            let is_http = matches!(connection.kind, Kind::Http(_));
            self.arm_connection(key, if is_http { ANSWER_PATIENCE } else { FLUSH_PATIENCE });
            self.count_partial(key);
            self.mark_dirty(key);
        }
    }

    /// Forgets a connection and has its wire closed. Returns what it was.
    pub(crate) fn drop_connection(&mut self, key: Key) -> Option<Kind> {
        self.end_route(key);
        let connection = self.connections.remove(key)?;
        self.let_go_of(&connection);
        if connection.door == Door::Public {
            self.count_closed(&connection);
        }
        let Connection { outbox, partial, kind, door, .. } = connection;
        self.owed.remove(outbox.len());
        self.intake.partial_bytes -= partial as usize;
        self.uncount_connection(door);
        self.effects.outputs.push(Output::Close { connection: key, outbox });
        Some(kind)
    }

    /// Whether a peer asks for answers and does not read them: beyond this it gets no more answers. A peer that reads
    /// each answer before it asks again is never owed so much.
    pub(crate) fn is_owed_much(&self, key: Key) -> bool {
        let bytes_max = self.env.config.outbox_bytes_max;
        self.connections.get(key).is_some_and(|connection| connection.outbox.len() > bytes_max)
    }

    /// `count` bytes of a connection's outbox are out.
    pub(crate) fn sent(&mut self, key: Key, count: usize) {
        let Ok(_) = self.transmit::<Infallible>(key, |_| Ok(count));
    }

    /// Lets `send` take bytes of a connection's outbox, unless there are none; it says how many are out. True when some are left.
    #[inline]
    pub(crate) fn transmit<E>(
        &mut self,
        key: Key,
        send: impl FnOnce(&Outbox) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let Tables { connections, owed, pools: Pools { buffers, .. }, env: Env { counters, .. }, .. } =
            &mut *self;
        let Some(connection) = connections.get_mut(key) else { return Ok(false) };
        if connection.outbox.is_empty() {
            return Ok(false);
        }
        let count = send(&connection.outbox)?;
        connection.outbox.advance(count, buffers);
        owed.remove(count);
        counters.owed_bytes.set(owed.bytes() as u64);
        counters.bytes_sent.add(count as u64);
        // For a client that keeps up this is all.
        let is_waited_for = connection.behind > 0 || connection.awaits_drain || connection.share.is_paused;
        if is_waited_for || connection.ending != Ending::Open || matches!(connection.kind, Kind::Http(_)) {
            self.note_sent(key, count);
            return Ok(self.connections.get(key).is_some_and(|connection| !connection.outbox.is_empty()));
        }
        Ok(!connection.outbox.is_empty())
    }

    /// Something was sent to a client that is slow, asks by HTTP, or is at its end.
    fn note_sent(&mut self, key: Key, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending != Ending::Open {
            connection.earn(count, self.env.now);
        } else if matches!(connection.kind, Kind::Http(_)) {
            self.pace_answer(key, count);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_paused = connection.share.is_paused && count > 0;
        if connection.behind > 0 || connection.awaits_drain {
            self.note_progress(key);
        }
        if is_paused {
            self.note_paused_progress(key);
        }
        self.finish_flush(key);
    }

    /// A client has taken bytes of its answer.
    fn pace_answer(&mut self, key: Key, count: usize) {
        let (now, keep_alive_timeout) = (self.env.now, self.env.config.keep_alive_timeout);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_owed = !connection.outbox.is_empty();
        let Kind::Http(http) = &connection.kind else { return };
        if let Some(route) = http.route {
            return self.pace_route(key, route, count);
        }
        let is_streaming = http.stream.is_some();
        let is_idle = !http.is_answering && !http.is_head_timed && http.needed == 0 && http.chunked.is_none();
        if is_streaming || is_owed && is_idle {
            if connection.deadline > now + ANSWER_PATIENCE {
                self.arm_connection(key, ANSWER_PATIENCE);
            } else {
                connection.earn(count, now);
            }
        } else if is_idle {
            self.arm_connection(key, keep_alive_timeout);
        }
        if is_streaming {
            self.pump_file(key);
        }
    }

    /// Ends the connection if its outbox is empty and it was only waiting for that.
    pub(crate) fn finish_flush(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.outbox.is_empty() && connection.ending == Ending::AfterFlush {
            connection.ending = Ending::Lingering;
            self.effects.outputs.push(Output::ShutdownWrite(key));
            if matches!(&connection.kind, Kind::Http(http) if http.is_half_closed) {
                // It has said that it is over, so there is nothing to wait for.
                self.effects.deferred.push(Deferred::Lost(key));
            } else {
                self.arm_connection(key, LINGER);
            }
        }
    }

    /// Says goodbye on a WebSocket and closes it.
    pub(crate) fn close_websocket(&mut self, key: Key, code: Option<CloseCode>, reason: &str) {
        self.write_to(key, |out| close::encode_close(out, code, reason));
        self.close_after_flush(key);
    }

    /// A part of a message has come, and its decoder keeps more or less than before.
    pub(crate) fn put_back(&mut self, key: Key, decoder: MessageDecoder) {
        if let Some(websocket) = self.websocket_mut(key) {
            websocket.decoder = decoder;
        }
        self.count_partial(key);
    }

    pub(crate) fn websocket_mut(&mut self, key: Key) -> Option<&mut WebSocketState> {
        match &mut self.connections.get_mut(key)?.kind {
            Kind::WebSocket(websocket) => Some(websocket),
            Kind::Http(_) => None,
        }
    }

    pub(crate) fn http_mut(&mut self, key: Key) -> Option<&mut crate::shard::value::connection::HttpState> {
        self.connections.get_mut(key)?.http_mut()
    }
}
