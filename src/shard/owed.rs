//! What all clients of a shard are owed together, and who is closed when it is too much.
//!
//! Every byte is counted when it is queued, whatever it is (an answer, a frame, a poll's backlog, a parked event), and
//! until it is sent or forgotten. A turn queues before it sends, so the sum alone says nothing about who is slow: when it is
//! above the bound, a *check* adds up what is left of earlier turns, and only that counts against a client.

use std::time::Duration;

use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::shard::Shard;
use crate::shard::connection::{Connection, Kind, Role};
use crate::shard::core::Core;
use crate::shard::session::{CloseReason, Session};

/// While the clients are owed more than they may be, this is how long until the next check at the latest.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A check looks at every connection and session. One for so many of them may be made in each turn, so that it never is the
/// larger part of a turn's work.
const CHECKED_PER_TURN: usize = 256;

/// When a turn has made more bytes than this, or an eighth of what all may be owed, no more input is handled before they were
/// offered to the kernel: otherwise many who ask for much at once could be owed a multiple of the bound before anybody is slow.
const MADE_PER_TURN_MAX: usize = 16 * 1024 * 1024;

/// What the clients of a shard are owed.
#[derive(Debug)]
pub(crate) struct Owed {
    bytes: usize,
    /// This shard's part of what clients may be owed together.
    bytes_max: usize,
    /// Bytes that were made in this turn: a frame that is shared counts once.
    made: usize,
    /// When that is more than this, the turn is full.
    made_max: usize,
    /// Turns since the last check.
    turns: usize,
    next_check: Time,
}

impl Owed {
    /// All together may be owed `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Owed {
        let (turns, made_max) = (usize::MAX / CHECKED_PER_TURN, MADE_PER_TURN_MAX.min(bytes_max / 8));
        Owed { bytes: 0, bytes_max, made: 0, made_max, turns, next_check: Time::NEVER }
    }

    /// Whether all together are owed more than they may be.
    #[inline]
    pub(crate) fn is_too_much(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes were queued for somebody, or parked.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Bytes were queued for one connection, in a buffer that it shares with no other.
    #[inline]
    pub(crate) fn add_own(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.made += bytes;
    }

    /// A frame was made that many may share.
    #[inline]
    pub(crate) fn made(&mut self, bytes: usize) {
        self.made += bytes;
    }

    /// Whether what was made in this turn should be sent before more is.
    #[inline]
    pub(crate) fn is_turn_full(&self) -> bool {
        self.made > self.made_max
    }

    /// Everything that was made is on its way to the driver.
    pub(crate) fn begin_turn(&mut self) {
        self.made = 0;
    }

    /// Bytes were sent, or nobody is owed them any more.
    #[inline]
    pub(crate) fn remove(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes, "every byte is counted when it is queued");
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What is parked has become more or less.
    pub(crate) fn reparked(&mut self, before: usize, after: usize) {
        self.add(after);
        self.remove(before);
    }
}

/// Who is closed because all together are owed too much.
#[derive(Clone, Copy, Debug)]
enum Shed {
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

impl Core {
    /// When the next check is due: never, unless clients are owed more than they may be.
    pub(crate) fn next_owed_check(&self) -> Time {
        if self.owed.is_too_much() { self.owed.next_check } else { Time::NEVER }
    }

    /// A turn has ended, or a check is due. Returns who must go, and what those who are behind are owed.
    fn check_owed(&mut self) -> Option<(Vec<Shed>, usize)> {
        if !self.owed.is_too_much() {
            return None;
        }
        let clients = self.connections.len() + self.sessions.len();
        self.owed.turns = self.owed.turns.saturating_add(1);
        let is_due = self.now >= self.owed.next_check && self.owed.next_check != Time::NEVER;
        if !is_due && self.owed.turns < clients / CHECKED_PER_TURN {
            return None;
        }
        self.owed.turns = 0;
        self.owed.next_check = self.now + CHECK_INTERVAL;
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

impl Shard {
    /// Closes those who are owed most, if the clients together are owed more than the shard may hold.
    pub(crate) fn shed_if_due(&mut self) {
        let due = self.core.borrow_mut().check_owed();
        let Some((closing, owed)) = due else { return };
        let bytes_max = self.core.borrow().owed.bytes_max;
        tracing::warn!(
            owed,
            bytes_max,
            closing = closing.len(),
            "clients that do not keep up are owed more than this shard's part of outboxes_bytes_max: the slowest are closed"
        );
        for shed in closing {
            match shed {
                Shed::Session(session) => self.close_session(session, CloseReason::SlowConsumer),
                Shed::Connection(connection) => {
                    self.core.borrow_mut().counters.slow_consumers_closed.add(1);
                    self.connection_lost(connection);
                }
            }
        }
    }
}
