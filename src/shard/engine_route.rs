//! Raw Engine.IO endpoints: sessions on either transport, with no Socket.IO above.

use std::fmt;
use std::rc::Rc;

use crate::base::guard::guarded;
use crate::base::ids::Sid;
use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::Shard;
use crate::shard::core::SharedCore;
use crate::shard::handshake::Handshake;
use crate::shard::raw::Message;
use crate::shard::session::{CloseReason, Link};
use crate::shard::site::Request;
use crate::shard::switching::{self, ChooseProtocol};

type OpenHandler = Box<dyn Fn(&EngineSocket)>;
type MessageHandler = Box<dyn Fn(&EngineSocket, Message<'_>)>;
type CloseHandler = Box<dyn Fn(&EngineSocket, CloseReason)>;

/// What a raw Engine.IO endpoint does; see [`Server::engine`](crate::Server::engine).
#[derive(Default)]
pub struct EngineRoute {
    open: Option<OpenHandler>,
    message: Option<MessageHandler>,
    close: Option<CloseHandler>,
    pub(crate) choose_protocol: Option<ChooseProtocol>,
}

/// One Engine.IO session: a handle that can be kept on its shard.
///
/// It stays valid after the client is gone; what is sent then goes nowhere.
#[derive(Clone)]
pub struct EngineSocket {
    core: SharedCore,
    session: Key,
    sid: Sid,
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
    /// Decides which of the subprotocols a WebSocket speaks, and who may connect by one; see
    /// [`Server::choose_protocol`](crate::Server::choose_protocol).
    pub fn choose_protocol<E: fmt::Display>(
        &mut self,
        choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> Result<Option<&'a str>, E> + 'static,
    ) {
        self.choose_protocol = Some(switching::rule(choose));
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
        if !core.is_session_live(self.session) {
            return;
        }
        let mut frames = core.buffers.take();
        match message {
            Message::Text(text) => {
                let start = frame::begin(&mut frames);
                frames.push(b'4');
                frames.extend_from_slice(text.as_bytes());
                frame::finish(&mut frames, start, Opcode::Text);
            }
            Message::Binary(bytes) => frame::append(&mut frames, Opcode::Binary, bytes),
        }
        core.counters.messages_sent.add(1);
        core.send_frames(self.session, frames);
    }

    /// Ends the session, after what was sent before.
    pub fn close(&self) {
        self.core.borrow_mut().close_soon(self.session, CloseReason::ServerDisconnect);
    }

    /// What the client said when its session opened. `None` once it is gone.
    pub fn handshake(&self) -> Option<Rc<Handshake>> {
        Some(Rc::clone(&self.core.borrow().sessions.get(self.session)?.handshake))
    }

    /// `"websocket"` or `"polling"`: how the client is connected now. `None` once it is gone.
    pub fn transport(&self) -> Option<&'static str> {
        Some(match self.core.borrow().sessions.get(self.session)?.link {
            Link::WebSocket(_) => "websocket",
            Link::Polling { .. } => "polling",
        })
    }
}

impl Shard {
    /// A session of a raw endpoint has its open packet.
    pub(crate) fn engine_opened(&mut self, session: Key) {
        self.call_route(session, |route, socket| {
            if let Some(handler) = &route.open {
                handler(socket);
            }
        });
    }

    pub(crate) fn engine_message(&mut self, session: Key, message: Message<'_>) {
        self.core.borrow().counters.events_received.add(1);
        self.call_route(session, |route, socket| {
            if let Some(handler) = &route.message {
                handler(socket, message);
            }
        });
    }

    pub(crate) fn engine_closed(&mut self, session: Key, reason: CloseReason) {
        self.call_route(session, |route, socket| {
            if let Some(handler) = &route.close {
                handler(socket, reason);
            }
        });
    }

    /// Calls the user's function; a panic costs its session and nobody else.
    fn call_route(&mut self, session: Key, call: impl FnOnce(&EngineRoute, &EngineSocket)) {
        let found = self.core.borrow().sessions.get(session).map(|entry| (entry.sid, entry.endpoint));
        let Some((sid, endpoint)) = found else { return };
        let app = Rc::clone(&self.app);
        let Some(route) = app.endpoint(endpoint).and_then(|handlers| handlers.route.as_ref()) else { return };
        let socket = EngineSocket { core: Rc::clone(&self.core), session, sid };
        let done = guarded(|| call(route, &socket));
        self.watched(|| "a handler of raw Engine.IO".to_owned());
        if let Err(panic) = done {
            tracing::error!(target: ENGINEIO, message = %panic, "an Engine.IO handler panicked; its session is closed");
            self.core.borrow_mut().counters.handler_panics.add(1);
            self.close_session(session, CloseReason::TransportError);
        }
    }
}
