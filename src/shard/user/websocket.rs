//! Raw WebSocket routes: RFC 6455 and nothing above it.

use std::fmt;

use crate::base::slab::Key;
use crate::protocol::websocket::close::CloseCode;
use crate::protocol::websocket::frame::Opcode;
use crate::shard::core::SharedCore;
use crate::shard::user::request::Request;
use crate::shard::user::route_options::RouteOptions;
use crate::shard::user::subprotocol::{self, ChooseProtocol};
use crate::shard::value::connection::{Kind, Role, WebSocketState};
use crate::shard::value::kinds::Kick;
use crate::shard::value::raw::RawState;

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
    pub(crate) open: Option<OpenHandler>,
    pub(crate) message: Option<MessageHandler>,
    pub(crate) close: Option<OpenHandler>,
    pub(crate) choose_protocol: Option<ChooseProtocol>,
    pub(crate) options: RouteOptions,
    /// The number of its own options; that of the configuration's own endpoint if it has none.
    pub(crate) endpoint: u8,
}

/// One client of a raw WebSocket route: a handle that can be kept on its shard.
#[derive(Clone)]
pub struct WebSocket {
    pub(crate) core: SharedCore,
    pub(crate) connection: Key,
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
    /// What this route has of its own in place of the configuration's options: the largest message, pings, subprotocols, origins. See
    /// [`RouteOptions`].
    pub fn options(&mut self) -> &mut RouteOptions {
        &mut self.options
    }

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
        self.choose_protocol = Some(subprotocol::rule(choose));
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
            Message::Text(text) => core.tables.send_frame(self.connection, Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => core.tables.send_frame(self.connection, Opcode::Binary, bytes),
        }
        let outbox_bytes_max = core.tables.env.config.outbox_bytes_max;
        let owed =
            core.tables.connections.get(self.connection).map_or(0, |connection| connection.outbox.len());
        if owed > outbox_bytes_max {
            core.tables.env.counters.slow_consumers_closed.add(1);
            core.tables.meters().kicks.count(Kick::Outbox);
            core.tables.close_websocket(self.connection, Some(CloseCode::POLICY_VIOLATION), "too slow");
        }
    }

    /// The subprotocol that was agreed on. `None` if there is none, or once the client is gone.
    pub fn protocol(&self) -> Option<String> {
        let core = self.core.borrow();
        match &core.tables.connections.get(self.connection)?.kind {
            Kind::WebSocket(WebSocketState { role: Role::Raw(raw), .. }) => {
                raw.protocol.as_deref().map(str::to_owned)
            }
            _ => None,
        }
    }

    /// Says goodbye and closes.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.core.borrow_mut().tables.close_websocket(self.connection, Some(code), reason);
    }
}
