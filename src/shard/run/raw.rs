//! Raw WebSocket routes: their functions are called.

use std::rc::Rc;

use crate::base::slab::Key;
use crate::protocol::websocket::close::CloseCode;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::run::Shard;
use crate::shard::user::websocket::{Message, WebSocket};
use crate::shard::value::connection::{Kind, Role};
use crate::shard::value::raw::RawState;

impl Shard {
    pub(crate) fn raw_opened(&mut self, connection: Key, route: u16) {
        self.core.borrow_mut().tables.arm_raw(connection);
        if let Some(handler) = &self.app.site.websocket(route).open {
            self.call_raw(connection, |websocket| handler(websocket));
        }
    }

    /// Looks after a raw connection: a peer that has gone silent is closed, any other is pinged, and looked at again.
    pub(crate) fn check_raw(&mut self, connection: Key, is_lost: bool) {
        if is_lost {
            return self.connection_lost(connection);
        }
        let mut core = self.core.borrow_mut();
        core.tables.write_to(connection, |out| frame::append(out, Opcode::Ping, &[]));
        core.tables.arm_raw(connection);
    }

    /// A frame of any kind came.
    pub(crate) fn raw_seen(&mut self, connection: Key) {
        let mut core = self.core.borrow_mut();
        let now = core.tables.env.now;
        if let Some(connection) = core.tables.connections.get_mut(connection)
            && let Kind::WebSocket(websocket) = &mut connection.kind
            && let Role::Raw(raw) = &mut websocket.role
        {
            raw.last_seen = now;
        }
    }

    pub(crate) fn raw_text(&mut self, connection: Key, text: &str) {
        self.raw_message(connection, Message::Text(text));
    }

    pub(crate) fn raw_binary(&mut self, connection: Key, bytes: &[u8]) {
        self.raw_message(connection, Message::Binary(bytes));
    }

    fn raw_message(&mut self, connection: Key, message: Message<'_>) {
        let Some(route) = self.raw_route(connection) else { return };
        if let Some(handler) = &self.app.site.websocket(route).message {
            self.call_raw(connection, |websocket| handler(websocket, message));
        }
    }

    /// The closing handshake has begun: the route hears of it now, once.
    pub(crate) fn raw_ended(&mut self, key: Key) {
        let state = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.tables.connections.get_mut(key) else { return };
            match std::mem::replace(&mut connection.kind, Kind::Http(Default::default())) {
                Kind::WebSocket(crate::shard::value::connection::WebSocketState {
                    role: Role::Raw(raw),
                    ..
                }) => raw,
                other => {
                    connection.kind = other;
                    return;
                }
            }
        };
        self.core.borrow().tables.count_frames_over(key);
        self.raw_closed(*state);
    }

    pub(crate) fn raw_closed(&mut self, state: RawState) {
        if let Some(handler) = &self.app.site.websocket(state.route).close {
            self.call_raw(state.connection, |websocket| handler(websocket));
        }
    }

    fn raw_route(&self, connection: Key) -> Option<u16> {
        let core = self.core.borrow();
        match &core.tables.connections.get(connection)?.kind {
            Kind::WebSocket(websocket) => match &websocket.role {
                Role::Raw(raw) => Some(raw.route),
                _ => None,
            },
            Kind::Http(_) => None,
        }
    }

    fn call_raw(&self, connection: Key, work: impl FnOnce(&mut WebSocket)) {
        let mut websocket = WebSocket { core: Rc::clone(&self.core), connection };
        let done = self.call(&mut websocket, work, |_| "a handler of a raw WebSocket".to_owned());
        if let Err(panic) = done {
            tracing::error!(message = %panic, "a WebSocket handler panicked; its connection is closed");
            let mut core = self.core.borrow_mut();
            core.tables.close_websocket(connection, Some(CloseCode::INTERNAL_ERROR), "internal error");
        }
    }
}
