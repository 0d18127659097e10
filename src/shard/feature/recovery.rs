//! Connection state recovery: a client that lost its connection comes back as the socket that it was, with its id, its rooms and
//! the events that it has missed (Node's `connectionStateRecovery`).
//!
//! Every socket keeps the last events that it was sent. When its connection is lost it stays in its rooms for a while, as a *lost*
//! socket, and goes on keeping. The client knows it by a private id, `pid`, and says the offset of the last event that it
//! has got. How two shards hand a lost socket over is in `message/recovery`.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::base::buffer::SharedFrame;
use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::message::recovery::{Kept, Offset, Position, RecoveryMessage};
use crate::message::target::{Reach, Target, WhenBehind};
use crate::protocol::socketio::frames::{ends_with_text, with_argument};
use crate::shard::feature::Feature;
use crate::shard::table::namespaces::NamespaceRef;
use crate::shard::value::parked::SlowConsumers;
use crate::shard::value::recovery::{RecoveryState, Stage};
use crate::shard::value::seen::{LOOK_AGAIN_AFTER, Seen};
use crate::shard::value::socket::{keep, state_of, state_of_mut};

/// What became of an event for one socket.
#[derive(Debug)]
pub(crate) enum Stamped {
    Send(Vec<u8>),
    /// It waits until the client is there again.
    Kept,
    Gone,
}

/// A shard's part in recovery.
#[derive(Debug)]
pub(crate) struct RecoveryTable {
    /// At one endpoint at least.
    pub(crate) is_on: bool,
    /// The number of the next event that all shards get, and of the next that only this one's sockets get.
    next: u64,
    next_local: u64,
    pub(crate) seen: Seen,
    pub(crate) by_pid: FxHashMap<Sid, Key>,
    /// Lost sockets with the time when they are given up, in its order; some have come back already.
    pub(crate) lost: VecDeque<(Time, Key)>,
    pub(crate) lost_now: usize,
    /// Lost sockets that wait for events on their way here.
    pub(crate) waiting: Vec<Key>,
    /// How far the broker's stream has come here; before everything, if there is none.
    pub(crate) passed: Position,
}

impl RecoveryTable {
    /// When the next lost socket is given up, or those that wait are looked at; `NEVER` when there is none.
    pub(crate) fn next(&self) -> Time {
        self.lost.front().map_or(Time::NEVER, |(until, _)| *until).min(self.seen.again())
    }

    /// Something has come that stands there in the broker's stream, and with it all that stands before it.
    pub(crate) fn note_passed(&mut self, position: Position) {
        self.passed = self.passed.max(position);
    }

    /// Another lost socket, which is given up at a time. Endpoints have times of their own, so that it need not be the last.
    pub(crate) fn push_lost(&mut self, until: Time, key: Key) {
        let place = self.lost.partition_point(|(other, _)| *other <= until);
        self.lost.insert(place, (until, key));
        self.lost_now += 1;
    }

    pub(crate) fn new(is_on: bool, shards: usize) -> RecoveryTable {
        RecoveryTable {
            is_on,
            next: 1,
            next_local: 1,
            seen: Seen::new(shards),
            by_pid: FxHashMap::default(),
            lost: VecDeque::new(),
            lost_now: 0,
            waiting: Vec::new(),
            passed: Position::default(),
        }
    }
}

impl Feature<'_, RecoveryTable> {
    /// Gives an event its offset, as the last argument. An event that slow clients may miss gets none; if it
    /// ends with a text, `null` is put behind that, so that clients do not take the text for an offset.
    pub(crate) fn stamp(
        &mut self,
        setup: Option<u16>,
        target: &Target,
        frame: &SharedFrame,
    ) -> (SharedFrame, Option<Offset>) {
        let rules = setup.map(|setup| &self.tables.slow_rules[usize::from(setup)]);
        let has_rule = rules.is_some_and(|rules| {
            rules.namespace != SlowConsumers::Close
                || target.rooms.iter().any(|room| rules.rooms.iter().any(|(name, _)| name == room))
        });
        if has_rule || target.when_behind != WhenBehind::Rule {
            let is_like_stamped = ends_with_text(frame);
            let frame =
                if is_like_stamped { SharedFrame::new(with_argument(frame, "null")) } else { frame.clone() };
            return (frame, None);
        }
        let is_local = target.reach == Reach::Shard;
        let next = if is_local { &mut self.own.next_local } else { &mut self.own.next };
        let node = self.tables.mesh.links.tag;
        let offset = Offset { node, origin: self.tables.env.id, number: *next, is_local };
        *next += 1;
        if !is_local {
            self.tables.mesh.published.begin(self.tables.env.id, offset.number);
        }
        self.own.seen.note(offset);
        (SharedFrame::new(with_argument(frame, &format!("\"{offset}\""))), Some(offset))
    }

    /// Gives an event for one socket its offset, and lets the socket keep it.
    pub(crate) fn stamp_for(&mut self, key: Key, frames: Vec<u8>) -> Stamped {
        let target = Target { reach: Reach::Shard, ..Target::default() };
        let Some(socket) = self.tables.sockets.get(key) else { return Stamped::Gone };
        let NamespaceRef { setup, endpoint, .. } = *self.tables.namespaces[socket.namespace].namespace;
        let (frame, offset) = self.stamp(Some(setup), &target, &SharedFrame::new(frames));
        let (at, limits) = (self.tables.env.now, self.tables.endpoint(endpoint).kept_limits);
        if let (Some(offset), Some(socket)) = (offset, self.tables.sockets.get_mut(key)) {
            let takes_part = state_of(socket).is_some();
            let (id, frame) = (offset.event_id(), frame.clone());
            if keep(socket, Kept { offset, id, is_in_stream: false, at, frame }, limits) {
                return if takes_part { Stamped::Kept } else { Stamped::Gone };
            }
        }
        Stamped::Send(frame.to_vec())
    }

    /// Lets a socket that is not open yet take part in recovery: it gets a private id.
    pub(crate) fn begin_keeping(&mut self, key: Key) {
        let Some(session) = self.tables.sockets.get(key).map(|socket| socket.session) else { return };
        if !self.tables.has_recovery(key) || self.tables.is_revision_3(session) {
            return;
        }
        let pid = self.tables.new_sid();
        if let Some(socket) = self.tables.sockets.get_mut(key) {
            socket.extra_mut().recovery = Some(Box::new(RecoveryState::new(pid)));
            self.own.by_pid.insert(pid, key);
        }
    }

    pub(crate) fn unreserve(&mut self, pid: Sid) {
        let key = self.own.by_pid.get(&pid).copied();
        let state = key.and_then(|key| self.tables.sockets.get_mut(key)).and_then(state_of_mut);
        // What the asker has said of events goes with it: the next one has not joined the rooms yet.
        if let Some(Stage::Lost { asker, seen }) = state.map(|state| &mut state.stage) {
            (*asker, *seen) = (None, None);
        }
    }

    /// A socket waits until something has been seen here.
    pub(crate) fn await_seen(&mut self, key: Key) {
        self.own.waiting.push(key);
        if !self.own.seen.is_asking && self.own.seen.again == Time::NEVER {
            self.look_for_seen();
        }
    }

    /// Looks again, if it is time and sockets still wait.
    pub(crate) fn look_again(&mut self) {
        if self.own.seen.again <= self.tables.env.now {
            self.own.seen.again = Time::NEVER;
            if !self.own.waiting.is_empty() {
                self.look_for_seen();
            }
        }
    }

    fn look_for_seen(&mut self) {
        let numbers = self.tables.mesh.published.done();
        let word = ShardMessage::Recovery(Box::new(RecoveryMessage::SeenUntil { numbers }));
        // A full inbox is no loss here: it is emptied, and then there is room.
        self.own.seen.is_asking = self.tables.mesh.send(self.tables.env.id, word).is_ok();
        if !self.own.seen.is_asking {
            self.own.seen.again = self.tables.env.now + LOOK_AGAIN_AFTER;
        }
    }

    /// A socket is removed: its private id is valid no longer.
    pub(crate) fn end_keeping(&mut self, key: Key) {
        self.tables.release_far(key);
        let Some(state) = self.tables.sockets.get(key).and_then(state_of) else { return };
        let namespace = self.tables.sockets.get(key).map(|socket| socket.namespace);
        let (pid, keeper) = match state.stage {
            Stage::Restoring { keeper: Some(keeper), .. } => (state.pid, Some(keeper)),
            _ => (state.pid, None),
        };
        let is_lost = state.is_lost();
        self.own.lost_now -= usize::from(is_lost);
        if self.own.by_pid.get(&pid) == Some(&key) {
            self.own.by_pid.remove(&pid);
        }
        if let Some(namespace) = namespace {
            self.tables.release_id(namespace, pid);
        }
        if let Some(keeper) = keeper {
            self.tables.send_recovery(keeper, RecoveryMessage::Release { pid });
        }
    }
}
