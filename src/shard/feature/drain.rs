//! How far the end of a shard has come.

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::websocket::close::CloseCode;
use crate::shard::core::Core;
use crate::shard::value::connection::{Ending, FIRST_REQUEST_PATIENCE, Kind, Role, WebSocketState};
use crate::shard::value::session::Session;
use std::time::Duration;

/// How often sessions are sent away while a shard drains.
pub(crate) const DRAIN_STEP: Duration = Duration::from_millis(50);

/// What other threads have said reaches a shard through another one while recovery is on. So long a shard that is asked to stop
/// waits for that one, which may be stuck.
pub(crate) const RELAY_PATIENCE: Duration = Duration::from_secs(1);

/// Requests to stop: how many have come, and how many are done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stops {
    pub(crate) asked: u32,
    pub(crate) done: u32,
}

/// How far the spread end of a shard has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// When the last session ends.
    pub(crate) until: Time,
    /// Sessions there were when it began.
    pub(crate) sessions: usize,
    /// Sessions that it has ended.
    pub(crate) ended: usize,
    /// How far it has got in the table of sessions: there are none left before that place, because no session opens any more.
    pub(crate) next: u32,
}

impl Drain {
    /// How many sessions should have ended by now.
    pub(crate) fn due(&self, now: Time, spread: Duration) -> usize {
        let left = if self.until > now { self.until.since(now) } else { Duration::ZERO };
        let kept = (self.sessions as u128 * left.as_micros()).div_ceil(spread.as_micros().max(1));
        self.sessions.saturating_sub(kept as usize)
    }
}

impl Core {
    /// No session opens any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Ends a connection. A raw WebSocket hears why (RFC 6455 §7.4.1), a request that is there or about to be is answered
    /// first, and a session that is switching to its WebSocket finds it there.
    pub(crate) fn say_goodbye(&mut self, key: Key) {
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
