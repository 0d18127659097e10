//! The end of a shard: at once, or its sessions one after another, so that not all clients come back in one moment.

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::mesh::ShardMessage;
use crate::shard::core::left::LEAVE_STEP;
use crate::shard::feature::drain::{DRAIN_STEP, Drain, RELAY_PATIENCE, Stops};
use crate::shard::run::Shard;
use crate::shard::value::session::CloseReason;
use crate::shard::value::wheel::TimerOwner;

impl Shard {
    /// Whether the server was asked to stop.
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.core.borrow().stops.asked > 0
    }

    /// The server is asked to stop. What other threads have said before is passed on first, by the shard that relays it.
    pub(crate) fn ask_to_stop(&mut self) {
        let asked = {
            let mut core = self.core.borrow_mut();
            core.stops.asked += 1;
            let (asked, relay) = (core.stops.asked, core.tables.mesh.relay());
            if relay == Some(core.tables.env.id) {
                for shard in core.tables.other_shards() {
                    // One that cannot be told has its patience.
                    core.tables.send_to_shard(shard, ShardMessage::StopInTurn(asked));
                }
            } else if relay.is_some() && asked == 1 && core.stops.done == 0 {
                let until = core.tables.env.now + RELAY_PATIENCE;
                core.tables.wheel.arm(TimerOwner::Drain, until);
                return;
            }
            asked
        };
        self.heed_stops(asked);
    }

    /// Stops as often as the server was asked to.
    pub(crate) fn heed_stops(&mut self, asked: u32) {
        let done = {
            let mut core = self.core.borrow_mut();
            let done = core.stops.done;
            core.stops.done = done.max(asked);
            done
        };
        (done..asked).for_each(|_| self.stop());
    }

    /// More sessions are due, or what came before the stop was waited for long enough.
    pub(crate) fn drain_timeout(&mut self) {
        let Stops { asked, done, leaves_until } = self.core.borrow().stops;
        match leaves_until {
            _ if asked > done => self.heed_stops(asked),
            Some(_) => self.shut_down(),
            None => self.drain(),
        }
    }

    /// The server stops: with `shutdown_spread`, sessions end over that time; a second request ends it all at once.
    fn stop(&mut self) {
        let spread = self.core.borrow().tables.env.config.shutdown_spread;
        let is_second = {
            let mut core = self.core.borrow_mut();
            let drain = Drain {
                until: core.tables.env.now + spread,
                sessions: core.tables.sessions.len(),
                ended: 0,
                next: 0,
            };
            let shard = core.tables.env.id.0;
            tracing::info!(target: ENGINEIO, shard, sessions = drain.sessions, ?spread, "stopping: the sessions of this shard end");
            core.tables.env.is_draining = true;
            core.drain.replace(drain).is_some()
        };
        if spread.is_zero() || is_second { self.shut_down() } else { self.drain() }
    }

    /// Ends the sessions that are due.
    pub(crate) fn drain(&mut self) {
        let due: Vec<Key> = {
            let mut core = self.core.borrow_mut();
            let (now, spread) = (core.tables.env.now, core.tables.env.config.shutdown_spread);
            let Some(mut drain) = core.drain.filter(|_| !core.tables.env.is_shutting_down) else { return };
            let count = drain.due(now, spread).saturating_sub(drain.ended);
            drain.ended += count;
            let live =
                core.tables.sessions.keys_from(drain.next).filter(|key| core.tables.is_session_live(*key));
            let due: Vec<Key> = live.take(count).collect();
            if let Some(last) = due.last() {
                drain.next = last.index + 1;
            }
            core.drain = Some(drain);
            due
        };
        for session in due {
            self.close_session(session, CloseReason::ServerShutdown);
        }
        let is_done = {
            let core = self.core.borrow();
            core.drain.is_none_or(|drain| drain.ended >= drain.sessions)
        };
        if is_done {
            return self.shut_down();
        }
        let mut core = self.core.borrow_mut();
        let next = core.tables.env.now + DRAIN_STEP;
        core.tables.wheel.arm(TimerOwner::Drain, next);
    }

    /// Leaves sockets with the broker, as fast as it takes them: those that are lost, and with their sessions the others. False: there
    /// are more.
    fn leave_sockets(&mut self) -> bool {
        loop {
            if self.core.borrow_mut().must_wait_to_leave() {
                return false;
            }
            if !self.core.borrow_mut().leave_next_lost() {
                break;
            }
        }
        let sessions: Vec<Key> = self.core.borrow().tables.sessions.keys().collect();
        for session in sessions {
            if self.core.borrow_mut().must_wait_to_leave() {
                return false;
            }
            self.close_session(session, CloseReason::ServerShutdown);
        }
        true
    }

    fn shut_down(&mut self) {
        if self.core.borrow().leaves_sockets() && !self.leave_sockets() {
            let mut core = self.core.borrow_mut();
            let next = core.tables.env.now + LEAVE_STEP;
            return core.tables.wheel.arm(TimerOwner::Drain, next);
        }
        self.core.borrow_mut().tables.env.is_shutting_down = true;
        let sessions: Vec<Key> = self.core.borrow().tables.sessions.keys().collect();
        for session in sessions {
            self.close_session(session, CloseReason::ServerShutdown);
        }
        self.core.borrow_mut().inquiries().end_inquiries();
        // A pending poll takes what its session is owed, before its connection may write no more.
        self.answer_polls();
        let connections: Vec<Key> = self.core.borrow().tables.connections.keys().collect();
        for connection in connections {
            self.core.borrow_mut().tables.say_goodbye(connection);
        }
    }
}
