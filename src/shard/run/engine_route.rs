//! Endpoints without Socket.IO: their functions are called.

use std::rc::Rc;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::shard::run::Shard;
use crate::shard::user::engine_socket::{EngineRoute, EngineSocket};
use crate::shard::user::websocket::Message;
use crate::shard::value::kinds::EventOutcome;
use crate::shard::value::session::CloseReason;

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
        if self.drops_event(session) {
            return;
        }
        self.core.borrow().tables.env.counters.events_received.add(1);
        let outcome = self.call_route(session, |route, socket| {
            if let Some(handler) = &route.message {
                handler(socket, message);
            }
        });
        self.core.borrow().tables.meters().events.count(outcome);
    }

    pub(crate) fn engine_closed(&mut self, session: Key, reason: CloseReason) {
        self.call_route(session, |route, socket| {
            if let Some(handler) = &route.close {
                handler(socket, reason);
            }
        });
    }

    /// Calls the user's function; a panic costs its session, and no other.
    fn call_route(&mut self, session: Key, call: impl FnOnce(&EngineRoute, &EngineSocket)) -> EventOutcome {
        let found = self.core.borrow().tables.sessions.get(session).map(|entry| (entry.sid, entry.endpoint));
        let Some((sid, endpoint)) = found else { return EventOutcome::Dropped };
        let app = Rc::clone(&self.app);
        let Some(route) = app.endpoint(endpoint).and_then(|handlers| handlers.route.as_ref()) else {
            return EventOutcome::Unhandled;
        };
        let mut socket = EngineSocket { core: Rc::clone(&self.core), session, sid };
        let done =
            self.call(&mut socket, |socket| call(route, socket), |_| "a handler of raw Engine.IO".to_owned());
        if let Err(panic) = done {
            tracing::error!(target: ENGINEIO, message = %panic, "an Engine.IO handler panicked; its session is closed");
            self.close_session(session, CloseReason::TransportError);
            return EventOutcome::Panicked;
        }
        EventOutcome::Done
    }
}
