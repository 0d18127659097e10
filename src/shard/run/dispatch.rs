//! An event meets its handler; errors and panics of handlers.

use std::rc::Rc;

use bytes::Bytes;

use crate::base::guard::{Caught, discard};
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::protocol::socketio::event::Event;
use crate::shard::run::Shard;
pub(crate) use crate::shard::run::guard::words;
use crate::shard::user::app::{Flow, NamespaceHandlers};
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::error::HandlerError;
use crate::shard::value::kinds::EventOutcome;
use crate::shard::value::session::CloseReason;
use crate::shard::value::task::{EventName, TaskOwner, Timed};

impl Shard {
    /// Hands an event to its handler.
    pub(crate) fn dispatch(
        &mut self,
        socket_key: Key,
        payload: &str,
        id: Option<u64>,
        attachments: &[Bytes],
    ) {
        let Some(socket) = Socket::of(&self.core, socket_key) else {
            return self.core.borrow().tables.meters().events.count(EventOutcome::Dropped);
        };
        let handlers = self.handlers_of(&socket);
        let setup = socket.setup();
        let Ok(event) = Event::decode(payload, attachments) else {
            debug_assert!(false, "a payload is checked when its packet is decoded");
            return;
        };
        let mut cx = Context::new(socket, &event.name, event.args, id);
        cx.keeps_args = handlers.error.is_some() || self.app.default_error.is_some();
        let name =
            |cx: &Context<'_>| format!("the handler of event {:?} of {}", Shown(cx.event()), cx.namespace());
        let began = self.begin_timing();
        let done = self.call(&mut cx, |cx| handle_event(&handlers, cx), name);
        self.count_handled(&done, began, setup);
        match done {
            Ok(Ok(Flow::Done | Flow::Unhandled)) => {}
            Ok(Ok(Flow::Later(future))) => {
                let owner = TaskOwner::Handler(socket_key, EventName::of(&event.name));
                self.start_timed(future, owner, began.map(|began| Timed { began, setup }));
            }
            Ok(Ok(Flow::Beside(future))) => {
                let owner = TaskOwner::Beside(socket_key, EventName::of(&event.name));
                self.start_timed(future, owner, began.map(|began| Timed { began, setup }));
            }
            Ok(Err(error)) => {
                self.handler_failed(&handlers, &mut cx, &error);
                discard(error);
            }
            Err(panic) => self.handler_panicked(socket_key, &event.name, &panic),
        }
    }

    /// Whether the handler that is called now is timed, and since when: the first of each millisecond is. A busy shard so reads the clock
    /// for few of them, and an idle one for each.
    #[inline]
    fn begin_timing(&self) -> Option<u64> {
        let now = self.core.borrow().tables.env.now;
        (self.timed_at.replace(now) != now).then(|| (self.stopwatch)())
    }

    /// A handler has returned.
    #[inline]
    fn count_handled(
        &self,
        done: &Result<Result<Flow, HandlerError>, Caught>,
        began: Option<u64>,
        setup: usize,
    ) {
        let core = self.core.borrow();
        let meters = core.tables.meters();
        let outcome = match done {
            Ok(Ok(Flow::Done)) => EventOutcome::Done,
            Ok(Ok(Flow::Unhandled)) => EventOutcome::Unhandled,
            Ok(Ok(Flow::Later(_) | Flow::Beside(_))) => EventOutcome::Later,
            Ok(Err(_)) => EventOutcome::Failed,
            Err(_) => EventOutcome::Panicked,
        };
        meters.events.count(outcome);
        if let Some(began) = began
            && !matches!(outcome, EventOutcome::Later | EventOutcome::Unhandled)
            && let Some(namespace) = meters.namespace(setup as u16)
        {
            namespace.handler.record_nanos((self.stopwatch)().saturating_sub(began));
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
        let name = |cx: &Context<'_>| {
            format!("the error handler of event {:?} of {}", Shown(cx.event()), cx.namespace())
        };
        let done = self.call(cx, |cx| on_error(cx, error), name);
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
            Ok(Flow::Unhandled)
        }
    }
}
