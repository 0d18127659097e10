//! What raw WebSockets are sent.

use crate::base::slab::Key;
use crate::protocol::engineio::session::HeartbeatTimes;
use crate::protocol::websocket::frame::Opcode;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Ending, Kind};
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::pools::Pools;

impl Tables {
    /// Queues one message on a raw connection.
    pub(crate) fn send_frame(&mut self, key: Key, opcode: Opcode, payload: &[u8]) {
        self.mark_dirty(key);
        let Tables { connections, owed, pools: Pools { transcoder, buffers, .. }, .. } = &mut *self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            let form = connection.form();
            let before = connection.outbox.len();
            connection.outbox.write(buffers, |out| transcoder.append(opcode, payload, form, out));
            owed.add_own(connection.outbox.len() - before);
        }
    }

    /// The endpoint whose options hold for a connection: until it is a WebSocket, the configuration's own.
    pub(crate) fn endpoint_of_wire(&self, connection: Key) -> u8 {
        match self.connections.get(connection).map(|connection| &connection.kind) {
            Some(Kind::WebSocket(websocket)) => websocket.endpoint,
            _ => MAIN,
        }
    }

    /// Has a raw connection looked after once in a while.
    pub(crate) fn arm_raw(&mut self, connection: Key) {
        let HeartbeatTimes { interval, timeout, .. } =
            self.endpoint(self.endpoint_of_wire(connection)).heartbeat_times();
        self.arm_connection(connection, interval.min(timeout));
    }
}
