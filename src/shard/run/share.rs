//! Input that waited is taken up, a share for each connection in turn.

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::shard::run::Shard;
use crate::shard::value::connection::{Kind, Role, WebSocketState};
use crate::shard::value::share::{Unfinished, WireEnd};

impl Shard {
    /// Whether input waits for its connection's next share: the driver must come back without sleeping.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.core.borrow().tables.intake.unfinished.is_empty()
    }

    /// Frames, requests and packets handled so far: a driver looks at its clock after some of them.
    pub(crate) fn events_taken(&self) -> u64 {
        self.core.borrow().tables.intake.events_taken
    }

    /// The turn's time is over: what still comes in it is kept, and handled in its connection's next share.
    pub(crate) fn postpone_input(&mut self) {
        self.core.borrow_mut().tables.intake.is_input_postponed = true;
    }

    /// Gives the connection that waits longest its next share. False when there is none, or this turn owes so much that it must
    /// be sent first.
    pub(crate) fn give_share(&mut self, now: Time) -> bool {
        let next = {
            let mut core = self.core.borrow_mut();
            if core.tables.owed.is_turn_full() { None } else { core.tables.next_in_line(now) }
        };
        match next {
            None => return false,
            Some(Unfinished::Connection(key)) => self.work(now, |shard| shard.next_share(key)),
            Some(Unfinished::Session(key)) => self.work(now, |shard| shard.next_session_share(key)),
        }
        true
    }

    fn next_session_share(&mut self, key: Key) {
        {
            let mut core = self.core.borrow_mut();
            let turn = core.tables.intake.turn;
            let Some(session) = core.tables.sessions.get_mut(key) else { return };
            session.share.is_queued = false;
            session.share.spent.begin(turn);
        }
        self.continue_waiting(key);
    }

    fn next_share(&mut self, key: Key) {
        let session = {
            let mut core = self.core.borrow_mut();
            let turn = core.tables.intake.turn;
            let Some(connection) = core.tables.connections.get_mut(key) else { return };
            connection.share.is_queued = false;
            connection.share.spent.begin(turn);
            match &connection.kind {
                Kind::WebSocket(WebSocketState { role: Role::Session(session), .. }) => Some(*session),
                _ => None,
            }
        };
        if self.continue_post(key) {
            return;
        }
        if session.is_some_and(|session| self.continue_waiting(session)) {
            return;
        }
        self.resume_connection(key);
        self.core.borrow_mut().tables.bound_unread(key);
        self.settle();
        let end = self.core.borrow_mut().tables.take_end(key);
        match end {
            Some(WireEnd::Ended) => self.connection_ended(key),
            Some(WireEnd::Closed) => self.connection_lost(key),
            None => {}
        }
    }
}
