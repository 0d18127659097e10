//! What all clients of a shard are owed together, and who is closed when it is too much.
//!
//! Every byte is counted when it is queued, whatever it is (an answer, a frame, a poll's backlog, a parked event), and
//! until it is sent or forgotten. A turn queues before it sends, so the sum alone says nothing about who is slow: when it is
//! above the bound, a *check* adds up what is left of earlier turns, and only that counts against a client.

use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::shard::table::Tables;
use crate::shard::value::connection::{Connection, Kind, Role};
use crate::shard::value::owed::{CHECK_INTERVAL, CHECKED_PER_TURN};
use crate::shard::value::session::Session;

/// Who is closed because all together are owed too much.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shed {
    Session(Key),
    Connection(Key),
}

impl Connection {
    /// What earlier turns have left of its outbox.
    fn left_over(&self) -> usize {
        if self.is_dirty { self.behind as usize } else { self.outbox.len() }
    }
}

impl Session {
    /// What earlier turns have left for it, while it polls.
    fn left_over(&self) -> usize {
        let parked = self.parked.as_ref().map_or(0, |parked| parked.bytes);
        parked + if self.is_poll_due { self.behind as usize } else { self.backlog.len() }
    }
}

impl Tables {
    /// When the next check is due: never, unless clients are owed more than they may be.
    pub(crate) fn next_owed_check(&self) -> Time {
        if self.owed.is_too_much() { self.owed.next_check } else { Time::NEVER }
    }

    /// A turn has ended, or a check is due. Returns who must go, and what those who are behind are owed.
    pub(crate) fn check_owed(&mut self) -> Option<(Vec<Shed>, usize)> {
        if !self.owed.is_too_much() {
            return None;
        }
        let clients = self.connections.len() + self.sessions.len();
        self.owed.turns = self.owed.turns.saturating_add(1);
        let is_due = self.env.now >= self.owed.next_check && self.owed.next_check != Time::NEVER;
        if !is_due && self.owed.turns < clients / CHECKED_PER_TURN {
            return None;
        }
        self.owed.turns = 0;
        self.owed.next_check = self.env.now + CHECK_INTERVAL;
        let mut behind = left_over(&self.connections, &self.sessions);
        let total: usize = behind.iter().map(|(bytes, _)| bytes).sum();
        if total <= self.owed.bytes_max {
            return None;
        }
        behind.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        // A little more than must be, so that not every turn sheds.
        let mut excess = total.saturating_sub(self.owed.bytes_max / 8 * 7);
        let enough = behind.into_iter().take_while(|(bytes, _)| {
            let is_needed = excess > 0;
            excess = excess.saturating_sub(*bytes);
            is_needed
        });
        Some((enough.map(|(_, shed)| shed).collect(), total))
    }

    /// What is queued for every connection and session, added up.
    #[cfg(test)]
    pub(crate) fn owed_by_all(&self) -> usize {
        let connections = self.connections.keys().filter_map(|key| self.connections.get(key));
        let sessions = self.sessions.keys().filter_map(|key| self.sessions.get(key));
        let parked = |session: &Session| session.parked.as_ref().map_or(0, |parked| parked.bytes);
        connections.map(|connection| connection.outbox.len()).sum::<usize>()
            + sessions.map(|session| session.backlog.len() + parked(session)).sum::<usize>()
    }
}

/// Everybody who is owed something from an earlier turn.
fn left_over(connections: &Slab<Connection>, sessions: &Slab<Session>) -> Vec<(usize, Shed)> {
    let mut behind = Vec::new();
    for key in connections.keys() {
        let connection = connections.get(key).expect("the key was just listed");
        let shed = match &connection.kind {
            Kind::WebSocket(websocket) => match websocket.role {
                Role::Session(session) => Shed::Session(session),
                Role::Probe(_) | Role::Raw(_) => Shed::Connection(key),
            },
            Kind::Http(_) => Shed::Connection(key),
        };
        behind.push((connection.left_over(), shed));
    }
    for key in sessions.keys() {
        let session = sessions.get(key).expect("the key was just listed");
        behind.push((session.left_over(), Shed::Session(key)));
    }
    behind.retain(|(bytes, _)| *bytes > 0);
    behind
}
