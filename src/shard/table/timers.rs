//! Which deadlines the wheel is told of.

use std::time::Duration;

use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::wheel::TimerOwner;

impl Tables {
    /// Arms a connection's timer; an earlier one already armed will look again by itself.
    pub(crate) fn arm_connection(&mut self, key: Key, after: Duration) {
        let deadline = self.env.now + after;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.deadline = deadline;
            if deadline < connection.armed {
                connection.armed = deadline;
                self.wheel.arm(TimerOwner::Connection(key), deadline);
            }
        }
    }

    /// Arms a session's timer for the earliest of its deadlines.
    pub(crate) fn arm_session(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key) {
            let deadline = session.deadline();
            if deadline < session.armed {
                session.armed = deadline;
                self.wheel.arm(TimerOwner::Session(key), deadline);
            }
        }
    }

    /// Drops timers of connections, sessions and sockets that are gone, where they have become many.
    pub(crate) fn sweep_wheel(&mut self) {
        let Tables { wheel, connections, sessions, sockets, .. } = self;
        let owners = connections.len() + sessions.len() + sockets.len();
        wheel.sweep(owners, |owner, deadline| match owner {
            TimerOwner::Connection(key) => {
                connections.get(key).is_some_and(|connection| connection.armed == deadline)
            }
            TimerOwner::Session(key) => sessions.get(key).is_some_and(|session| session.armed == deadline),
            TimerOwner::Pace(key) => {
                connections.get(key).is_some_and(|connection| connection.share.is_slowed)
            }
            TimerOwner::Expiry(key) | TimerOwner::Recovery(key) => sockets.get(key).is_some(),
            TimerOwner::Drain => true,
        });
    }
}
