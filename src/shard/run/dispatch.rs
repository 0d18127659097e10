//! An event meets its handler; errors and panics of handlers.

use crate::base::guard::{Caught, discard, guarded};
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::protocol::socketio::event::Event;
use crate::shard::Shard;
use crate::shard::feature::tasks::{EventName, TaskOwner};
use crate::shard::user::app::{Flow, NamespaceHandlers};
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::error::HandlerError;
use crate::shard::value::session::CloseReason;
use bytes::Bytes;
use std::rc::Rc;

impl Shard {
    /// Hands an event to its handler.
    pub(crate) fn dispatch(
        &mut self,
        socket_key: Key,
        payload: &str,
        id: Option<u64>,
        attachments: &[Bytes],
    ) {
        let Some(socket) = Socket::of(&self.core, socket_key) else { return };
        let handlers = self.handlers_of(&socket);
        let Ok(event) = Event::decode(payload, attachments) else {
            debug_assert!(false, "a payload is checked when its packet is decoded");
            return;
        };
        let mut cx = Context::new(socket, &event.name, event.args, id);
        cx.keeps_args = handlers.error.is_some() || self.app.default_error.is_some();
        let done = guarded(|| handle_event(&handlers, &mut cx));
        self.watched(|| format!("the handler of event {:?} of {}", Shown(&event.name), cx.namespace()));
        match done {
            Ok(Ok(Flow::Done)) => {}
            Ok(Ok(Flow::Later(future))) => {
                self.start_task(future, TaskOwner::Handler(socket_key, EventName::of(&event.name)))
            }
            Ok(Err(error)) => {
                self.handler_failed(&handlers, &mut cx, &error);
                discard(error);
            }
            Err(panic) => self.handler_panicked(socket_key, &event.name, &panic),
        }
    }

    pub(crate) fn handler_failed(
        &mut self,
        handlers: &NamespaceHandlers,
        cx: &mut Context<'_>,
        error: &HandlerError,
    ) {
        let Some(on_error) = handlers.error.as_ref().or(self.app.default_error.as_ref()) else {
            let (event, namespace) = (Shown(cx.event()), cx.namespace());
            tracing::warn!(target: SOCKETIO, ?event, namespace, error = %words(error), "handler failed");
            return;
        };
        let done = guarded(|| on_error(cx, error));
        self.watched(|| format!("the error handler of event {:?} of {}", Shown(cx.event()), cx.namespace()));
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let event = Shown(cx.event());
                tracing::warn!(target: SOCKETIO, ?event, error = %words(&error), "an error handler's answer is not sent");
            }
            Err(panic) => {
                let (key, event) = (cx.key(), cx.event().to_owned());
                self.handler_panicked(key, &event, &panic);
            }
        }
    }

    /// A panic costs its client the connection, and no other client anything. Stock clients connect again after a lost
    /// connection; after a disconnect that the server announces they do not.
    pub(crate) fn handler_panicked(&mut self, socket: Key, event: &str, panic: &Caught) {
        let event = Shown(event);
        tracing::error!(target: SOCKETIO, ?event, message = %panic, "a handler panicked; its client's connection is closed");
        self.core.borrow_mut().tables.counters.handler_panics.add(1);
        let session = self.core.borrow().tables.sockets.get(socket).map(|socket| socket.session);
        if let Some(session) = session {
            self.close_session(session, CloseReason::TransportError);
        }
    }

    /// The handlers of a socket's namespace.
    pub(crate) fn handlers_of(&self, socket: &Socket) -> Rc<NamespaceHandlers> {
        Rc::clone(&self.app.namespaces[socket.setup()])
    }
}

/// What an error says, for the log. An error of the user's is user code there, too.
pub(crate) fn words(error: &HandlerError) -> String {
    guarded(|| Shown(error).to_string()).unwrap_or_else(|panic| format!("(its text panicked: {panic})"))
}

/// Asks who wants to see every event, then the event's own handler.
fn handle_event(handlers: &NamespaceHandlers, cx: &mut Context<'_>) -> Result<Flow, HandlerError> {
    let args = cx.args();
    for check in &handlers.before {
        check(cx, args)?;
        if cx.is_ending() {
            return Ok(Flow::Done);
        }
    }
    match handlers.events.get(cx.event()).or(handlers.any.as_ref()) {
        Some(handler) => handler(cx, args),
        None => {
            let (event, namespace) = (Shown(cx.event()), cx.namespace());
            tracing::debug!(?event, namespace, "no handler for this event");
            Ok(Flow::Done)
        }
    }
}
