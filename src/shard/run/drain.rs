//! The end of a shard: at once, or its sessions one after another, so that not all clients come back in one moment.

use std::time::Duration;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::shard::core::Core;
use crate::shard::core::left::LEAVE_STEP;
use crate::shard::feature::drain::{
    DRAIN_STEP, Drain, Ending, HAND_OVER_PATIENCE, RELAY_PATIENCE, Stops, auto_spread,
};
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

    /// When the host stops waiting for clients to take what they are owed, once that is known.
    pub(crate) fn stop_by(&self) -> Option<Time> {
        self.core.borrow().drain.as_ref()?.ending.as_ref().map(|ending| ending.stop_by)
    }

    /// The server stops: after `drain_delay` its sessions end over `shutdown_spread`; a second request ends it all at once.
    fn stop(&mut self) {
        let is_second = self.core.borrow().drain.is_some();
        if is_second {
            self.begin_to_end(Duration::ZERO);
            return self.shut_down();
        }
        for on_drain in &self.app.clone().on_drain {
            if let Err(panic) = self.call(&mut (), |()| on_drain(), |()| "on_drain".to_owned()) {
                tracing::error!(message = %panic, "on_drain panicked; the server ends all the same");
            }
        }
        let mut core = self.core.borrow_mut();
        let (now, life) = (core.tables.env.now, &core.tables.mesh.life);
        life.note_begin(now);
        let mut delay = Duration::ZERO;
        if life.is_patient() {
            delay = core.tables.env.config.drain_delay;
        }
        if life.is_handed_over() {
            delay = delay.max(HAND_OVER_PATIENCE);
        }
        if !self.app.on_drain.is_empty() {
            // What it has emitted comes first.
            delay = delay.max(DRAIN_STEP);
        }
        core.drain = Some(Drain { begin: now + delay, ending: None });
        drop(core);
        self.drain();
    }

    /// The sessions begin to end, unless they have.
    fn begin_to_end(&mut self, spread: Duration) {
        let mut core = self.core.borrow_mut();
        let (now, shard) = (core.tables.env.now, core.tables.env.id.0);
        let patience = core.tables.env.config.shutdown_timeout;
        core.tables.env.is_draining = true;
        let Core { tables, drain: Some(Drain { ending, .. }), .. } = &mut *core else { return };
        if let Some(ending) = ending {
            return ending.hurry(now, patience);
        }
        let sessions: Vec<Key> = tables.sessions.keys().filter(|key| tables.is_session_live(*key)).collect();
        tracing::info!(target: ENGINEIO, shard, sessions = sessions.len(), ?spread, "stopping: the sessions of this shard end");
        *ending = Some(Ending::new(sessions, now, (spread, patience)));
    }

    /// Ends the sessions that are due.
    pub(crate) fn drain(&mut self) {
        if !self.has_begun_to_end() {
            return;
        }
        let due = {
            let mut core = self.core.borrow_mut();
            let Core { tables, drain, .. } = &mut *core;
            let ending = drain.as_mut().and_then(|drain| drain.ending.as_mut());
            let Some(ending) = ending.filter(|_| !tables.env.is_shutting_down) else { return };
            ending.take_due(tables.env.now, &mut tables.env.random)
        };
        let kept = self.end_those_who_may_go(due);
        let mut core = self.core.borrow_mut();
        let Core { tables, drain: Some(Drain { ending: Some(ending), .. }), .. } = &mut *core else { return };
        ending.give_back(kept);
        if !ending.is_done(tables.env.now) {
            return tables.wheel.arm(TimerOwner::Drain, tables.env.now + DRAIN_STEP);
        }
        drop(core);
        self.shut_down();
    }

    /// Ends these sessions, and gives how many stay: those whose sockets the broker has no room for yet.
    fn end_those_who_may_go(&mut self, sessions: Vec<Key>) -> usize {
        if !self.core.borrow().leaves_sockets() {
            self.end_sessions(sessions);
            return 0;
        }
        for (ended, session) in sessions.iter().enumerate() {
            if !self.core.borrow().may_leave() {
                return sessions.len() - ended;
            }
            self.end_sessions(vec![*session]);
        }
        0
    }

    /// Whether sessions end by now; the first time that it is so, they begin to.
    fn has_begun_to_end(&mut self) -> bool {
        let spread = {
            let mut core = self.core.borrow_mut();
            let Core { tables, drain: Some(drain), .. } = &mut *core else { return false };
            if drain.ending.is_some() {
                return true;
            }
            if tables.env.now < drain.begin {
                tables.wheel.arm(TimerOwner::Drain, drain.begin);
                return false;
            }
            // Every shard has about as many.
            let sessions = (tables.sessions.len() * tables.mesh.len()) as u64;
            tables.env.config.shutdown_spread.unwrap_or_else(|| auto_spread(sessions))
        };
        self.begin_to_end(spread);
        true
    }

    /// Ends sessions, in this order; their clients are told so that they come back.
    fn end_sessions(&mut self, sessions: Vec<Key>) {
        let mut ended = 0;
        for session in sessions {
            ended += usize::from(self.core.borrow().tables.is_session_live(session));
            self.close_session(session, CloseReason::ServerShutdown);
        }
        self.core.borrow().tables.mesh.life.note_ended(ended);
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
            self.end_sessions(vec![session]);
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
        self.end_sessions(sessions);
        self.core.borrow_mut().inquiries().end_inquiries();
        // A pending poll takes what its session is owed, before its connection may write no more.
        self.answer_polls();
        let connections: Vec<Key> = self.core.borrow().tables.connections.keys().collect();
        for connection in connections {
            self.core.borrow_mut().tables.say_goodbye(connection);
        }
    }
}
