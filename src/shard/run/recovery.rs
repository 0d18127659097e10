//! Clients that come back: claims, and what shards say to each other about them.

use crate::base::ids::Sid;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::address::Address;
use crate::message::recovery::{Offset, RecoveryMessage};
use crate::protocol::surrogates::read_json;
use crate::shard::run::Shard;
use crate::shard::user::watching::Watcher;
use crate::shard::value::kinds::RecoveryOutcome;
use crate::shard::value::recovery::{Claim, Claimed, Recovery, Stage};
use crate::shard::value::seen::LOOK_AGAIN_AFTER;
use crate::shard::value::session::CloseReason;

impl Shard {
    /// A client connects: as the socket that it claims to have been, or anew.
    pub(crate) fn connect_or_recover(&mut self, key: Key, auth: &str) {
        if !self.claim(key, auth) {
            self.ask_connect_handlers(key, 0, auth);
        }
    }

    /// Looks for the socket that a client claims. True: other shards are asked.
    fn claim(&mut self, key: Key, auth: &str) -> bool {
        if self.core.borrow().tables.pid_of(key).is_none() {
            return false;
        }
        let Ok(Claim { pid: serde_json::Value::String(pid), offset }) = read_json(auth) else {
            return false;
        };
        let offset = match offset {
            None => None,
            Some(serde_json::Value::String(text)) => match Offset::parse(&text) {
                Some(offset) => Some(offset),
                None => return self.core.borrow_mut().tables.set_outcome(key, Recovery::TooMuchMissed),
            },
            // Not an offset: what the client has got is not known.
            Some(_) => return self.core.borrow_mut().tables.set_outcome(key, Recovery::Unknown),
        };
        let Some(pid) = Sid::parse(&pid) else {
            return self.core.borrow_mut().tables.set_outcome(key, Recovery::Unknown);
        };
        let Some(namespace) = self.core.borrow().tables.address_of(key) else { return false };
        self.end_present(pid, &namespace, Some(key));
        let mut core = self.core.borrow_mut();
        if core.recovery.by_pid.contains_key(&pid) {
            let outcome = core.restore_from_here(key, pid, offset);
            return core.tables.set_outcome(key, outcome);
        }
        core.tables.ask_others(key, pid, offset, auth)
    }

    /// A client that comes back before its connection was known to be lost: it is lost. Not one that is in another namespace than
    /// the claimed, and not the `claimer`'s own.
    pub(crate) fn end_present(&mut self, pid: Sid, namespace: &Address, claimer: Option<Key>) {
        let session = {
            let core = self.core.borrow();
            let own = claimer.and_then(|key| core.tables.sockets.get(key)).map(|socket| socket.session);
            let socket = core.recovery.by_pid.get(&pid).and_then(|key| core.tables.sockets.get(*key));
            let socket = socket.filter(|socket| {
                socket.state.is_told()
                    && core.tables.namespaces[socket.namespace].namespace.address == *namespace
            });
            socket.map(|socket| socket.session).filter(|session| Some(*session) != own)
        };
        if let Some(session) = session {
            self.close_session(session, CloseReason::TransportClose);
        }
        if claimer.is_none() {
            self.tell_what_was_seen();
        }
    }

    /// Whoever watches hears what became of a socket here before another shard says that it is there again.
    fn tell_what_was_seen(&self) {
        if self.core.borrow().tables.sightings.is_on {
            Watcher::of(&self.core).tell_sighted();
        }
    }

    /// Another shard has something to say.
    pub(crate) fn recover(&mut self, message: RecoveryMessage) {
        match message {
            RecoveryMessage::Ask { pid, namespace, offset, asker } => {
                self.end_present(pid, &namespace, None);
                let claim = Claimed { pid, namespace: &namespace, offset };
                self.core.borrow_mut().answer_asker(claim, asker);
            }
            RecoveryMessage::Found { to, keeper, lost } => {
                let asked = self.core.borrow_mut().tables.end_asking(to);
                let Some((auth, offset)) = asked else {
                    let release = RecoveryMessage::Release { pid: lost.pid };
                    self.core.borrow_mut().tables.send_recovery(keeper, release);
                    return;
                };
                let stage =
                    Stage::Restoring { keeper: Some(keeper), offset, is_accepted: false, missed: None };
                self.core.borrow_mut().restore(to, *lost, offset, stage);
                self.core.borrow_mut().tables.set_outcome(to, Recovery::Recovered);
                self.ask_connect_handlers(to, 0, &auth);
            }
            RecoveryMessage::NotFound { to, reason } => {
                let asked = self.core.borrow_mut().tables.count_answer(to, reason);
                if let Some(auth) = asked {
                    self.ask_connect_handlers(to, 0, &auth);
                }
            }
            RecoveryMessage::GiveUp { pid, asker, namespace, seen } => {
                self.core.borrow_mut().give_up(pid, (namespace.as_ref(), asker), seen);
            }
            RecoveryMessage::SeenUntil { numbers } => self.seen_until(&numbers),
            RecoveryMessage::Missed { to, missed } => {
                let is_here = self.core.borrow_mut().tables.add_missed(to, missed);
                match is_here {
                    Some(true) => {
                        self.core.borrow_mut().open_socket(to);
                        self.run_waiting(to);
                    }
                    Some(false) => self.fail_restoring(to),
                    None => {}
                }
            }
            RecoveryMessage::Release { pid } => self.core.borrow_mut().recovery().unreserve(pid),
        }
    }

    /// Events have come for which sockets may have waited.
    pub(crate) fn check_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.core.borrow_mut().recovery.waiting);
        for key in waiting {
            let mut core = self.core.borrow_mut();
            if !core.give_up_if_due(key) {
                core.recovery().await_seen(key);
            }
        }
    }

    /// What a socket has missed is not to be had: its client comes back and is told so.
    pub(crate) fn fail_restoring(&mut self, key: Key) {
        let session = self.core.borrow().tables.sockets.get(key).map(|socket| socket.session);
        if let Some(session) = session {
            tracing::info!(target: SOCKETIO, "a recovery failed half-way; the client connects again");
            self.core.borrow().tables.meters().recoveries.count(RecoveryOutcome::Failed);
            self.close_session(session, CloseReason::TransportError);
        }
    }

    /// Shards did not answer in time.
    pub(crate) fn recovery_timeout(&mut self, key: Key) {
        let asked = self.core.borrow_mut().tables.end_asking(key);
        if let Some((auth, _)) = asked {
            self.core.borrow_mut().tables.set_outcome(key, Recovery::NoAnswer);
            return self.ask_connect_handlers(key, 0, &auth);
        }
        if self.core.borrow().tables.is_far_lost(key) {
            let mut core = self.core.borrow_mut();
            if !core.give_up_if_due(key) {
                core.recovery().await_seen(key);
            }
            return;
        }
        let is_awaiting_keeper = self.core.borrow().tables.is_awaiting_keeper(key);
        if is_awaiting_keeper {
            self.fail_restoring(key);
        }
    }

    /// Everything up to these numbers that comes here has come.
    pub(crate) fn seen_until(&mut self, numbers: &[u64]) {
        {
            let mut core = self.core.borrow_mut();
            let again = core.tables.env.now + LOOK_AGAIN_AFTER;
            let seen = &mut core.recovery.seen;
            for (own, number) in seen.numbers.iter_mut().zip(numbers) {
                *own = (*own).max(*number);
            }
            seen.is_asking = false;
            seen.again = again;
        }
        self.check_waiting();
        let mut core = self.core.borrow_mut();
        if core.recovery.waiting.is_empty() {
            core.recovery.seen.again = Time::NEVER;
        }
    }
}
