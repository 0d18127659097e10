//! Raw WebSocket routes: RFC 6455 and nothing above it.

use std::fmt;
use std::rc::Rc;

use crate::base::guard::guarded;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::engineio::session::HeartbeatTimes;
use crate::protocol::websocket::close::CloseCode;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::Shard;
use crate::shard::connection::{Ending, Kind, Role, WebSocketState};
use crate::shard::core::{Core, SharedCore};
use crate::shard::endpoint::MAIN;
use crate::shard::site::Request;
use crate::shard::switching::{self, ChooseProtocol};

type OpenHandler = Box<dyn Fn(&WebSocket)>;
type MessageHandler = Box<dyn Fn(&WebSocket, Message<'_>)>;

/// A message on a raw WebSocket, as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// What a raw WebSocket route does; see [`Server::websocket`](crate::Server::websocket).
#[derive(Default)]
pub struct WebSocketRoute {
    open: Option<OpenHandler>,
    message: Option<MessageHandler>,
    close: Option<OpenHandler>,
    pub(crate) choose_protocol: Option<ChooseProtocol>,
}

/// One client of a raw WebSocket route: a handle that can be kept on its shard.
#[derive(Clone)]
pub struct WebSocket {
    core: SharedCore,
    connection: Key,
}

/// A raw connection's route.
pub(crate) struct RawState {
    pub(crate) route: Rc<WebSocketRoute>,
    pub(crate) connection: Key,
    /// When the peer last sent anything.
    pub(crate) last_seen: Time,
    /// The subprotocol that both sides have agreed on.
    pub(crate) protocol: Option<Box<str>>,
}

impl RawState {
    /// Whether the peer has been silent longer than a ping and its answer may take.
    pub(crate) fn is_lost(&self, times: HeartbeatTimes, now: Time) -> bool {
        now.since(self.last_seen) >= times.interval + times.timeout
    }
}

impl fmt::Debug for RawState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RawState").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl fmt::Debug for WebSocketRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocketRoute").finish_non_exhaustive()
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocket").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl WebSocketRoute {
    /// Decides which of the offered subprotocols is spoken, and who may connect at all; the error is the text of a 403. It is
    /// asked at each handshake, also one that offers none. Without it the first that is offered is answered.
    ///
    /// A page cannot send headers of its own with a WebSocket; a token may stand among the subprotocols. Answer one that is
    /// no secret: the browser gives up when none is answered.
    ///
    /// ```
    /// # use shardcast::{Config, Server};
    /// // new WebSocket(url, ["chat", token])
    /// Server::new(Config::default()).websocket("/ws", |route| {
    ///     route.choose_protocol(|request| match request.protocols().nth(1) {
    ///         Some("secret") => Ok(Some("chat")),
    ///         _ => Err("a token is needed"),
    ///     });
    ///     route.on_message(|ws, message| ws.send(message));
    /// });
    /// ```
    pub fn choose_protocol<E: fmt::Display>(
        &mut self,
        choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> Result<Option<&'a str>, E> + 'static,
    ) {
        self.choose_protocol = Some(switching::rule(choose));
    }

    /// Called once for each connection, after its 101.
    pub fn on_open(&mut self, handler: impl Fn(&WebSocket) + 'static) {
        self.open = Some(Box::new(handler));
    }

    /// Called for each whole message, in order.
    pub fn on_message(&mut self, handler: impl Fn(&WebSocket, Message<'_>) + 'static) {
        self.message = Some(Box::new(handler));
    }

    /// Called once, when the connection is over.
    pub fn on_close(&mut self, handler: impl Fn(&WebSocket) + 'static) {
        self.close = Some(Box::new(handler));
    }
}

impl WebSocket {
    /// Sends a message. A client that is owed more than `outbox_bytes_max` is closed with code 1008.
    pub fn send(&self, message: Message<'_>) {
        let mut core = self.core.borrow_mut();
        match message {
            Message::Text(text) => core.send_frame(self.connection, Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => core.send_frame(self.connection, Opcode::Binary, bytes),
        }
        let outbox_bytes_max = core.config.outbox_bytes_max;
        let owed = core.connections.get(self.connection).map_or(0, |connection| connection.outbox.len());
        if owed > outbox_bytes_max {
            core.counters.slow_consumers_closed.add(1);
            core.close_websocket(self.connection, Some(CloseCode::POLICY_VIOLATION), "too slow");
        }
    }

    /// The subprotocol that was agreed on. `None` if there is none, or once the client is gone.
    pub fn protocol(&self) -> Option<String> {
        let core = self.core.borrow();
        match &core.connections.get(self.connection)?.kind {
            Kind::WebSocket(WebSocketState { role: Role::Raw(raw), .. }) => {
                raw.protocol.as_deref().map(str::to_owned)
            }
            _ => None,
        }
    }

    /// Says goodbye and closes.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.core.borrow_mut().close_websocket(self.connection, Some(code), reason);
    }
}

impl Core {
    /// Queues one message on a raw connection.
    fn send_frame(&mut self, key: Key, opcode: Opcode, payload: &[u8]) {
        self.mark_dirty(key);
        let Core { connections, transcoder, buffers, owed, .. } = &mut *self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            let wire = connection.wire();
            let before = connection.outbox.len();
            connection.outbox.write(buffers, |out| transcoder.append(opcode, payload, wire, out));
            owed.add_own(connection.outbox.len() - before);
        }
    }

    /// Has a raw connection looked after once in a while.
    fn arm_raw(&mut self, connection: Key) {
        let HeartbeatTimes { interval, timeout } = self.endpoint(MAIN).heartbeat_times();
        self.arm_connection(connection, interval.min(timeout));
    }
}

impl Shard {
    pub(crate) fn raw_opened(&mut self, connection: Key, route: &Rc<WebSocketRoute>) {
        self.core.borrow_mut().arm_raw(connection);
        if let Some(handler) = &route.open {
            let websocket = WebSocket { core: Rc::clone(&self.core), connection };
            self.guard_raw(connection, || handler(&websocket));
        }
    }

    /// Looks after a raw connection: a peer that has gone silent is closed, any other is pinged, and looked at again.
    pub(crate) fn check_raw(&mut self, connection: Key, is_lost: bool) {
        if is_lost {
            return self.connection_lost(connection);
        }
        let mut core = self.core.borrow_mut();
        core.write_to(connection, |out| frame::append(out, Opcode::Ping, &[]));
        core.arm_raw(connection);
    }

    /// A frame of any kind came.
    pub(crate) fn raw_seen(&mut self, connection: Key) {
        let mut core = self.core.borrow_mut();
        let now = core.now;
        if let Some(connection) = core.connections.get_mut(connection)
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
        if let Some(handler) = &route.message {
            let websocket = WebSocket { core: Rc::clone(&self.core), connection };
            self.guard_raw(connection, || handler(&websocket, message));
        }
    }

    /// The closing handshake has begun: the route hears of it now, once.
    pub(crate) fn raw_ended(&mut self, connection: Key) {
        let state = {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.connections.get_mut(connection) else { return };
            match std::mem::replace(&mut connection.kind, Kind::Http(Default::default())) {
                Kind::WebSocket(crate::shard::connection::WebSocketState {
                    role: Role::Raw(raw), ..
                }) => raw,
                other => {
                    connection.kind = other;
                    return;
                }
            }
        };
        self.raw_closed(*state);
    }

    pub(crate) fn raw_closed(&mut self, state: RawState) {
        if let Some(handler) = &state.route.close {
            let websocket = WebSocket { core: Rc::clone(&self.core), connection: state.connection };
            self.guard_raw(state.connection, || handler(&websocket));
        }
    }

    fn raw_route(&self, connection: Key) -> Option<Rc<WebSocketRoute>> {
        let core = self.core.borrow();
        match &core.connections.get(connection)?.kind {
            Kind::WebSocket(websocket) => match &websocket.role {
                Role::Raw(raw) => Some(Rc::clone(&raw.route)),
                _ => None,
            },
            Kind::Http(_) => None,
        }
    }

    fn guard_raw(&mut self, connection: Key, run: impl FnOnce()) {
        let done = guarded(run);
        self.watched(|| "a handler of a raw WebSocket".to_owned());
        if let Err(panic) = done {
            tracing::error!(message = %panic, "a WebSocket handler panicked; its connection is closed");
            let mut core = self.core.borrow_mut();
            core.counters.handler_panics.add(1);
            core.close_websocket(connection, Some(CloseCode::INTERNAL_ERROR), "internal error");
        }
    }
}
