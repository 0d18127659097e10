//! A message has come: whether its client sends more than it may in a second, and what is done then (`rate_policy`).

use crate::base::slab::Key;
use crate::protocol::websocket::close::CloseCode;
use crate::shard::run::Shard;
use crate::shard::value::pace::Paced;
use crate::shard::value::session::CloseReason;

impl Shard {
    /// Charges a frame on a WebSocket to its session. False when it is not to be handled.
    #[inline]
    pub(crate) fn pace(&mut self, key: Key, session: Key, bytes: usize, is_message: bool) -> bool {
        let paced = self.core.borrow_mut().tables.pace_session(session, bytes);
        paced == Paced::On || self.slow_session(key, session, paced, is_message)
    }

    #[cold]
    fn slow_session(&mut self, key: Key, session: Key, paced: Paced, is_message: bool) -> bool {
        self.core.borrow_mut().tables.tell_of_pace(session);
        match paced {
            Paced::On => true,
            Paced::Hold(wait) => {
                self.core.borrow_mut().tables.slow_client(key, wait);
                true
            }
            // What is in it says whether it can be dropped.
            Paced::Drop(_) if is_message => true,
            Paced::Drop(wait) => {
                self.core.borrow_mut().tables.slow_client(key, wait);
                true
            }
            Paced::Close => {
                self.close_for_rate(session);
                false
            }
        }
    }

    /// The same for a packet of a POST, where the next one asks whether it must wait.
    pub(crate) fn pace_packet(&mut self, session: Key, bytes: usize) -> bool {
        let paced = self.core.borrow_mut().tables.pace_session(session, bytes);
        if paced == Paced::On {
            return true;
        }
        self.core.borrow_mut().tables.tell_of_pace(session);
        if paced == Paced::Close {
            self.close_for_rate(session);
        }
        paced != Paced::Close
    }

    fn close_for_rate(&mut self, session: Key) {
        self.core.borrow().tables.env.counters.rate_closes.add(1);
        self.close_session(session, CloseReason::RateExceeded);
    }

    /// The same for a raw WebSocket.
    pub(crate) fn pace_raw(&mut self, key: Key, bytes: usize, is_message: bool) -> bool {
        let paced = self.core.borrow_mut().tables.pace_raw(key, bytes);
        if paced == Paced::On {
            return true;
        }
        let mut core = self.core.borrow_mut();
        core.tables.tell_of_raw_pace(key);
        match paced {
            Paced::On => {}
            Paced::Drop(_) if is_message => {
                core.tables.env.counters.rate_drops.add(1);
                return false;
            }
            Paced::Hold(wait) | Paced::Drop(wait) => core.tables.slow_client(key, wait),
            Paced::Close => {
                core.tables.env.counters.rate_closes.add(1);
                let reason = CloseReason::RateExceeded.as_str();
                core.tables.close_websocket(key, Some(CloseCode::POLICY_VIOLATION), reason);
                drop(core);
                self.raw_ended(key);
                return false;
            }
        }
        true
    }

    /// Whether the event at hand is dropped, because its client has sent too many.
    pub(crate) fn drops_event(&self, session: Key) -> bool {
        let core = self.core.borrow();
        let is_dropped = core.tables.is_beyond(session);
        if is_dropped {
            core.tables.env.counters.rate_drops.add(1);
        }
        is_dropped
    }
}
