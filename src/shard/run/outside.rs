//! What handlers outside the shard ask for is done here, in order; and they are told when there is something for them.

use std::any::Any;
use std::rc::Rc;

use crate::base::guard::discard;
use crate::base::slab::Key;
use crate::message::errand::{Errand, Errands, Publication, Refusal, Work};
use crate::message::recovery::Position;
use crate::shard::run::Shard;
use crate::shard::user::socket::Socket;
use crate::shard::value::error::Refused;
use crate::shard::value::kinds::BroadcastOrigin;
use crate::shard::value::socket::Change;

impl Shard {
    /// Does what handlers outside have asked for.
    pub(crate) fn run_errands(&mut self, errands: Errands) {
        for errand in errands.into_list() {
            self.run_errand(errand);
            // What one led to holds before the next, as between two events.
            if !self.core.borrow().tables.effects.deferred.is_empty() {
                self.settle();
            }
        }
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Send { socket, frames, is_answer } => {
                self.core.borrow_mut().send_from_socket(socket, frames, is_answer);
            }
            Errand::Decide(socket, decision) => {
                self.decide(socket, decision.map_err(|Refusal { message, data }| Refused { message, data }));
            }
            Errand::Join(socket, room) => self.core.borrow_mut().apply_change(socket, &Change::Join(&room)),
            Errand::Leave(socket, room) => self.core.borrow_mut().apply_change(socket, &Change::Leave(&room)),
            Errand::Disconnect { socket, close_session } => {
                self.core.borrow_mut().apply_change(socket, &Change::Disconnect { close_session });
            }
            Errand::Publish(publication) => self.publish_for(&publication),
            Errand::Change(told) => self.core.borrow_mut().relay_command(&told),
            Errand::Run(socket, work) => self.run_work(socket, work),
            Errand::LetGo(socket) => self.core.borrow_mut().let_go(socket),
            Errand::AnswerDropped(socket) => self.answer_dropped(socket),
            Errand::GoOn(session) => self.core.borrow_mut().tables.go_on_outside(session),
            Errand::AllGoOn => self.core.borrow_mut().tables.all_go_on(),
        }
    }

    /// Publishes as a handler of one of this shard's sockets does.
    fn publish_for(&mut self, Publication { namespace, target, frame, but }: &Publication) {
        let mut core = self.core.borrow_mut();
        let here = core.tables.namespaces.find_address(namespace);
        // In another namespace than its own it is the client's socket there.
        let but = but.and_then(|but| core.tables.sockets.get(but)).and_then(|socket| {
            core.tables.sessions.get(socket.session).and_then(|session| session.socket_in(here?))
        });
        core.tables.meters().broadcasts.count(BroadcastOrigin::Here);
        // Nobody waits for the outcome. What is lost is counted and logged where that happens.
        let _ = core.publish_at(here, namespace, target, (but, frame, None, Position::default()));
    }

    fn run_work(&mut self, key: Key, Work(work): Work) {
        let Some(socket) = Socket::of(&self.core, key) else { return discard(work) };
        let mut work = Some(work);
        let done = self.call(
            &mut work,
            |work| work.take().map(|work| work(&socket as &dyn Any)),
            |_| "a function of Post::run".to_owned(),
        );
        if let Err(panic) = done {
            self.handler_panicked(key, "(Post::run)", &panic);
        }
    }

    /// A session is over: whoever knows its connection by its id hears of it.
    pub(crate) fn tell_connection_end(&mut self, session: Key) {
        let account = {
            let core = self.core.borrow();
            core.tables.sessions.get(session).and_then(|session| session.account.clone())
        };
        let Some(account) = account.filter(|_| !self.app.on_connection_end.is_empty()) else { return };
        self.core.borrow_mut().tables.outside.has_given = true;
        for on_end in &Rc::clone(&self.app).on_connection_end {
            let name = |_: &()| "on_connection_end".to_owned();
            if let Err(panic) = self.call(&mut (), |()| on_end(account.id), name) {
                tracing::error!(message = %panic, "on_connection_end panicked");
            }
        }
    }

    /// Something was given outside in this turn: now is the time to wake whoever takes it.
    pub(crate) fn tell_turn_end(&mut self) {
        if !std::mem::take(&mut self.core.borrow_mut().tables.outside.has_given) {
            return;
        }
        for on_turn_end in &Rc::clone(&self.app).on_turn_end {
            if let Err(panic) = self.call(&mut (), |()| on_turn_end(), |()| "on_turn_end".to_owned()) {
                tracing::error!(message = %panic, "on_turn_end panicked");
            }
        }
    }
}
