//! The end of a shard: at once, or its sessions one after another, so that not all clients come back in one moment.

use std::time::Duration;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::protocol::websocket::close::CloseCode;
use crate::shard::Shard;
use crate::shard::connection::{Ending, FIRST_REQUEST_PATIENCE, Kind, Role, WebSocketState};
use crate::shard::core::Core;
use crate::shard::session::{CloseReason, Session};
use crate::shard::wheel::TimerOwner;

/// How often sessions are sent away while a shard drains.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// What other threads have said reaches a shard through another one while recovery is on. So long a shard that is asked to stop
/// waits for that one, which may be stuck.
const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// Requests to stop: how many have come, and how many are done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stops {
    asked: u32,
    done: u32,
}

/// How far the spread end of a shard has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// When the last session ends.
    until: Time,
    /// Sessions there were when it began.
    sessions: usize,
    /// Sessions that it has ended.
    ended: usize,
    /// How far it has got in the table of sessions: there are none left before that place, because no session opens any more.
    next: u32,
}

impl Drain {
    /// How many sessions should have ended by now.
    fn due(&self, now: Time, spread: Duration) -> usize {
        let left = if self.until > now { self.until.since(now) } else { Duration::ZERO };
        let kept = (self.sessions as u128 * left.as_micros()).div_ceil(spread.as_micros().max(1));
        self.sessions.saturating_sub(kept as usize)
    }
}

impl Shard {
    /// The server is asked to stop. What other threads have said before is passed on first, by the shard that relays it.
    pub(crate) fn ask_to_stop(&mut self) {
        let asked = {
            let mut core = self.core.borrow_mut();
            core.stops.asked += 1;
            let (asked, relay) = (core.stops.asked, core.mesh.relay());
            if relay == Some(core.id) {
                for shard in core.other_shards() {
                    // One that cannot be told has its patience.
                    core.send_to_shard(shard, ShardMessage::StopInTurn(asked));
                }
            } else if relay.is_some() && asked == 1 && core.stops.done == 0 {
                let until = core.now + RELAY_PATIENCE;
                core.wheel.arm(TimerOwner::Drain, until);
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
        let Stops { asked, done } = self.core.borrow().stops;
        if asked > done { self.heed_stops(asked) } else { self.drain() }
    }

    /// The server stops: with `shutdown_spread`, sessions end over that time; a second request ends it all at once.
    fn stop(&mut self) {
        let spread = self.core.borrow().config.shutdown_spread;
        let is_second = {
            let mut core = self.core.borrow_mut();
            let drain = Drain { until: core.now + spread, sessions: core.sessions.len(), ended: 0, next: 0 };
            let shard = core.id.0;
            tracing::info!(target: ENGINEIO, shard, sessions = drain.sessions, ?spread, "stopping: the sessions of this shard end");
            core.drain.replace(drain).is_some()
        };
        if spread.is_zero() || is_second { self.shut_down() } else { self.drain() }
    }

    /// Ends the sessions that are due.
    pub(crate) fn drain(&mut self) {
        let due: Vec<Key> = {
            let mut core = self.core.borrow_mut();
            let (now, spread) = (core.now, core.config.shutdown_spread);
            let Some(mut drain) = core.drain.filter(|_| !core.is_shutting_down) else { return };
            let count = drain.due(now, spread).saturating_sub(drain.ended);
            drain.ended += count;
            let live = core.sessions.keys_from(drain.next).filter(|key| core.is_session_live(*key));
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
        let next = core.now + DRAIN_STEP;
        core.wheel.arm(TimerOwner::Drain, next);
    }

    fn shut_down(&mut self) {
        self.core.borrow_mut().is_shutting_down = true;
        let sessions: Vec<Key> = self.core.borrow().sessions.keys().collect();
        for session in sessions {
            self.close_session(session, CloseReason::ServerShutdown);
        }
        self.core.borrow_mut().end_inquiries();
        // A pending poll takes what its session is owed, before its connection may write no more.
        self.answer_polls();
        let connections: Vec<Key> = self.core.borrow().connections.keys().collect();
        for connection in connections {
            self.core.borrow_mut().say_goodbye(connection);
        }
    }
}

impl Core {
    /// No session opens any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Ends a connection. A raw WebSocket hears why (RFC 6455 §7.4.1), a request that is there or about to be is answered
    /// first, and a session that is switching to its WebSocket finds it there.
    fn say_goodbye(&mut self, key: Key) {
        let header_timeout = self.config.header_timeout;
        let (now, Some(connection)) = (self.now, self.connections.get(key)) else { return };
        match &connection.kind {
            Kind::WebSocket(WebSocketState { role: Role::Raw(_), .. }) => {
                self.close_websocket(key, Some(CloseCode::GOING_AWAY), "server shutting down");
            }
            Kind::WebSocket(WebSocketState { role: Role::Probe(session), .. })
                if self.sessions.get(*session).is_some_and(Session::is_switching) => {}
            // Its answer closes it: none keeps a connection from now on.
            Kind::Http(http) if http.is_answering => {}
            Kind::Http(http) => {
                let is_arriving = !connection.inbound.is_empty() || http.chunked.is_some();
                let is_new = !http.has_served
                    && connection.deadline >= now + header_timeout.saturating_sub(FIRST_REQUEST_PATIENCE);
                if connection.ending == Ending::Open && (is_arriving || is_new) {
                    self.arm_connection(key, FIRST_REQUEST_PATIENCE);
                } else {
                    self.close_after_flush(key);
                }
            }
            Kind::WebSocket(_) => self.close_after_flush(key),
        }
    }

    /// Whether the sessions of a shard that stops have all ended: it needs no listeners any more.
    pub(crate) fn has_drained(&self) -> bool {
        self.is_shutting_down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_due_in_proportion() {
        let drain = Drain { until: Time(10_000), sessions: 7, ended: 0, next: 0 };
        let due = |now| drain.due(Time(now), Duration::from_secs(10));
        assert_eq!([0, 1, 1_428, 1_429, 5_000, 9_999, 10_000, 20_000].map(due), [0, 0, 0, 1, 3, 6, 7, 7]);
        assert_eq!(drain.due(Time(0), Duration::ZERO), 0);
    }
}
