//! Raw Engine.IO endpoints: sessions on either transport, with no Socket.IO above.

use std::fmt;
use std::sync::Arc;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::core::SharedCore;
use crate::shard::user::request::Request;
use crate::shard::user::route_options::RouteOptions;
use crate::shard::user::subprotocol::{self, ChooseProtocol};
use crate::shard::user::websocket::Message;
use crate::shard::value::handshake::Handshake;
use crate::shard::value::session::{CloseReason, Link};

type OpenHandler = Box<dyn Fn(&EngineSocket)>;

type MessageHandler = Box<dyn Fn(&EngineSocket, Message<'_>)>;

type CloseHandler = Box<dyn Fn(&EngineSocket, CloseReason)>;

/// What a raw Engine.IO endpoint does; see [`Server::engine`](crate::Server::engine).
#[derive(Default)]
pub struct EngineRoute {
    pub(crate) open: Option<OpenHandler>,
    pub(crate) message: Option<MessageHandler>,
    pub(crate) close: Option<CloseHandler>,
    pub(crate) choose_protocol: Option<ChooseProtocol>,
    pub(crate) options: RouteOptions,
}

/// One Engine.IO session: a handle that can be kept on its shard.
///
/// It stays valid after the client is gone; what is sent then goes nowhere.
#[derive(Clone)]
pub struct EngineSocket {
    pub(crate) core: SharedCore,
    pub(crate) session: Key,
    pub(crate) sid: Sid,
}

impl fmt::Debug for EngineRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EngineRoute").finish_non_exhaustive()
    }
}

impl fmt::Debug for EngineSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EngineSocket").field("id", &self.sid).finish_non_exhaustive()
    }
}

impl EngineRoute {
    /// What this route has of its own in place of the endpoint's options: the largest message, pings, subprotocols, origins. See
    /// [`RouteOptions`].
    pub fn options(&mut self) -> &mut RouteOptions {
        &mut self.options
    }

    /// Decides which of the subprotocols a WebSocket speaks, and who may connect by one; see
    /// [`Server::choose_protocol`](crate::Server::choose_protocol).
    pub fn choose_protocol<E: fmt::Display>(
        &mut self,
        choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> Result<Option<&'a str>, E> + 'static,
    ) {
        self.choose_protocol = Some(subprotocol::rule(choose));
    }

    /// Called once for each session, after its open packet.
    pub fn on_open(&mut self, handler: impl Fn(&EngineSocket) + 'static) {
        self.open = Some(Box::new(handler));
    }

    /// Called for each message, in order, whatever transport brought it.
    pub fn on_message(&mut self, handler: impl Fn(&EngineSocket, Message<'_>) + 'static) {
        self.message = Some(Box::new(handler));
    }

    /// Called once, when the session is over.
    pub fn on_close(&mut self, handler: impl Fn(&EngineSocket, CloseReason) + 'static) {
        self.close = Some(Box::new(handler));
    }
}

impl EngineSocket {
    /// The session's id. Whoever knows it can speak as this client: keep it to the server.
    pub fn id(&self) -> Sid {
        self.sid
    }

    /// Sends a message. A client that is owed more than `outbox_bytes_max` is closed as a slow consumer.
    pub fn send(&self, message: Message<'_>) {
        let mut core = self.core.borrow_mut();
        if !core.tables.is_session_live(self.session) {
            return;
        }
        let mut frames = core.tables.pools.buffers.take();
        match message {
            Message::Text(text) => {
                let start = frame::begin(&mut frames);
                frames.push(b'4');
                frames.extend_from_slice(text.as_bytes());
                frame::finish(&mut frames, start, Opcode::Text);
            }
            Message::Binary(bytes) => frame::append(&mut frames, Opcode::Binary, bytes),
        }
        core.tables.env.counters.messages_sent.add(1);
        core.tables.send_frames(self.session, frames);
    }

    /// Ends the session, after what was sent before.
    pub fn close(&self) {
        self.core.borrow_mut().tables.close_soon(self.session, CloseReason::ServerDisconnect);
    }

    /// What the client said when its session opened. `None` once it is gone.
    pub fn handshake(&self) -> Option<Arc<Handshake>> {
        Some(Arc::clone(&self.core.borrow().tables.sessions.get(self.session)?.handshake))
    }

    /// `"websocket"` or `"polling"`: how the client is connected now. `None` once it is gone.
    pub fn transport(&self) -> Option<&'static str> {
        Some(match self.core.borrow().tables.sessions.get(self.session)?.link {
            Link::WebSocket(_) => "websocket",
            Link::Polling { .. } => "polling",
        })
    }
}
