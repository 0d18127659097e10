//! Connection state recovery: a client that lost its connection comes back as the socket that it was, with its id, its rooms and
//! the events that it has missed (Node's `connectionStateRecovery`).
//!
//! Every socket keeps the last events that it was sent. When its connection is lost it stays in its rooms for a while, as a *lost*
//! socket, and goes on keeping. The client knows it by a private id, `pid`, and says the offset of the last event that it
//! has got. How two shards hand a lost socket over is in `message/recovery`.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::buffer::SharedFrame;
use crate::base::ids::{ShardId, Sid};
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::ShardMessage;
use crate::mesh::interest::Audience;
use crate::message::address::Address;
use crate::message::recovery::{Asker, Kept, LostSocket, NotKept, Offset, RecoveryMessage};
use crate::message::target::{Reach, Target, WhenBehind};
use crate::shard::core::Core;
use crate::shard::table::Tables;
use crate::shard::value::kept::{Limits, ends_with_text, with_argument};
use crate::shard::value::parked::SlowConsumers;
pub(crate) use crate::shard::value::recovery::keep;
use crate::shard::value::recovery::{Recovery, RecoveryState, Stage, state_of, state_of_mut};
use crate::shard::value::seen::{LOOK_AGAIN_AFTER, Seen};
use crate::shard::value::wheel::TimerOwner;

/// How long shards may take to answer each other.
const PATIENCE: Duration = Duration::from_secs(5);

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
    pub(crate) is_on: bool,
    pub(crate) limits: Limits,
    /// The number of the next event that all shards get, and of the next that only this one's sockets get.
    next: u64,
    next_local: u64,
    pub(crate) seen: Seen,
    pub(crate) by_pid: FxHashMap<Sid, Key>,
    /// Lost sockets with the time when they are given up, oldest first; some have come back already.
    pub(crate) lost: VecDeque<(Time, Key)>,
    pub(crate) lost_now: usize,
    /// Sockets, lost or to be, that wait for events on their way here.
    pub(crate) waiting: Vec<Key>,
}

impl RecoveryTable {
    pub(crate) fn new(config: &Config, shards: usize) -> RecoveryTable {
        RecoveryTable {
            is_on: !config.recovery_max_disconnection.is_zero(),
            limits: Limits::new(config),
            next: 1,
            next_local: 1,
            seen: Seen::new(shards),
            by_pid: FxHashMap::default(),
            lost: VecDeque::new(),
            lost_now: 0,
            waiting: Vec::new(),
        }
    }
}

impl Core {
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
        let next = if is_local { &mut self.recovery.next_local } else { &mut self.recovery.next };
        let offset = Offset { origin: self.tables.id, number: *next, is_local };
        *next += 1;
        if !is_local {
            self.tables.mesh.published.begin(self.tables.id, offset.number);
        }
        self.recovery.seen.note(offset);
        (SharedFrame::new(with_argument(frame, &format!("\"{offset}\""))), Some(offset))
    }

    /// Gives an event for one socket its offset, and lets the socket keep it.
    pub(crate) fn stamp_for(&mut self, key: Key, frames: Vec<u8>) -> Stamped {
        let target = Target { reach: Reach::Shard, ..Target::default() };
        let Some(socket) = self.tables.sockets.get(key) else { return Stamped::Gone };
        let setup = self.tables.namespaces[socket.namespace].namespace.setup;
        let (frame, offset) = self.stamp(Some(setup), &target, &SharedFrame::new(frames));
        let (at, limits) = (self.tables.now, self.recovery.limits);
        if let (Some(offset), Some(socket)) = (offset, self.tables.sockets.get_mut(key)) {
            let takes_part = state_of(socket).is_some();
            if keep(socket, Kept { offset, at, frame: frame.clone() }, limits) {
                return if takes_part { Stamped::Kept } else { Stamped::Gone };
            }
        }
        Stamped::Send(frame.to_vec())
    }

    /// Lets a socket that is not open yet take part in recovery: it gets a private id.
    pub(crate) fn begin_keeping(&mut self, key: Key) {
        let Some(session) = self.tables.sockets.get(key).map(|socket| socket.session) else { return };
        if !self.recovery.is_on || self.tables.is_revision_3(session) {
            return;
        }
        let pid = self.tables.new_sid();
        if let Some(socket) = self.tables.sockets.get_mut(key) {
            socket.extra_mut().recovery = Some(Box::new(RecoveryState::new(pid)));
            self.recovery.by_pid.insert(pid, key);
        }
    }

    /// When the next lost socket is given up, or those that wait are looked at; `NEVER` when there is none.
    pub(crate) fn next_lost_expiry(&self) -> Time {
        self.recovery.lost.front().map_or(Time::NEVER, |(until, _)| *until).min(self.recovery.seen.again())
    }

    pub(crate) fn send_recovery(&mut self, to: ShardId, message: RecoveryMessage) -> bool {
        self.tables.send_to_shard(to, ShardMessage::Recovery(Box::new(message)))
    }

    pub(crate) fn describe_lost(&self, key: Key) -> Option<LostSocket> {
        let socket = self.tables.sockets.get(key)?;
        let extra = socket.extra.as_ref()?;
        let rooms = self.tables.rooms_of(key).into_iter().skip(1).collect();
        Some(LostSocket { pid: state_of(socket)?.pid, sid: socket.sid, rooms, data: extra.data.clone() })
    }

    /// Whether a socket that is let in must first be given what it has missed; that is asked for.
    pub(crate) fn must_await_missed(&mut self, key: Key) -> bool {
        let Some(state) = self.tables.sockets.get_mut(key).and_then(state_of_mut) else { return false };
        let pid = state.pid;
        let Stage::Restoring { keeper: Some(keeper), is_accepted, .. } = &mut state.stage else {
            return false;
        };
        let keeper = *keeper;
        if !std::mem::replace(is_accepted, true) {
            let (asker, seen) =
                (Asker { shard: self.tables.id, socket: key }, self.tables.mesh.published.begun());
            self.send_recovery(keeper, RecoveryMessage::GiveUp { pid, asker, seen });
            let deadline = self.tables.now + PATIENCE;
            self.tables.wheel.arm(TimerOwner::Recovery(key), deadline);
        }
        true
    }

    /// What the client of a socket has missed, and gets as soon as it is let in.
    pub(crate) fn take_missed(&mut self, key: Key) -> Vec<SharedFrame> {
        self.tables
            .sockets
            .get_mut(key)
            .and_then(state_of_mut)
            .map(RecoveryState::join_missed)
            .unwrap_or_default()
    }

    /// How a client's recovery went.
    pub(crate) fn recovery_of(&self, key: Key) -> Recovery {
        self.tables.sockets.get(key).and_then(state_of).map(|state| state.outcome).unwrap_or_default()
    }

    /// The private id that a client is told.
    pub(crate) fn pid_of(&self, key: Key) -> Option<Sid> {
        self.tables.sockets.get(key).and_then(state_of).map(|state| state.pid)
    }

    /// Notes how the recovery ended; false, which callers return, because no other shard is being waited for.
    pub(crate) fn set_outcome(&mut self, key: Key, outcome: Recovery) -> bool {
        let Some(socket) = self.tables.sockets.get_mut(key) else { return false };
        let sid = socket.sid;
        if let Some(state) = state_of_mut(socket) {
            state.outcome = outcome;
            tracing::info!(target: SOCKETIO, sid = %sid.brief(), ?outcome, "a client asks for the recovery of its connection");
        }
        false
    }

    /// The namespace that a socket is in, or asks to be let into.
    pub(crate) fn address_of(&self, key: Key) -> Option<Address> {
        let socket = self.tables.sockets.get(key)?;
        Some(self.tables.namespaces[socket.namespace].namespace.address.clone())
    }

    pub(crate) fn ask_others(&mut self, key: Key, pid: Sid, offset: Option<Offset>, auth: &str) -> bool {
        let Some(namespace) = self.address_of(key) else { return false };
        let asker = Asker { shard: self.tables.id, socket: key };
        let mut left = 0;
        // The private id names its keeper, unless the socket has come back elsewhere before: then that shard has said so.
        let target = Target { rooms: [pid.as_str()].into_iter().collect(), ..Target::default() };
        let mut audience = Audience::but(self.tables.id);
        while let Some(shard) = self.tables.mesh.interest.next(&mut audience, &namespace, &target) {
            let namespace = namespace.clone();
            left += usize::from(
                self.send_recovery(shard, RecoveryMessage::Ask { pid, namespace, offset, asker }),
            );
        }
        if left == 0 {
            return self.set_outcome(key, Recovery::Unknown);
        }
        if let Some(socket) = self.tables.sockets.get_mut(key) {
            socket.extra_mut().connect_step = Some((0, auth.to_owned()));
            if let Some(state) = state_of_mut(socket) {
                state.stage = Stage::Asking { left, offset, outcome: Recovery::Unknown };
            }
        }
        self.tables.count_waiting(key);
        let deadline = self.tables.now + PATIENCE;
        self.tables.wheel.arm(TimerOwner::Recovery(key), deadline);
        true
    }

    /// The auth and the offset of a client for which shards were asked; nothing if they were not, or it is settled.
    pub(crate) fn end_asking(&mut self, key: Key) -> Option<(String, Option<Offset>)> {
        let socket = self.tables.sockets.get_mut(key)?;
        let state = state_of_mut(socket)?;
        let Stage::Asking { offset, .. } = state.stage else { return None };
        state.stage = Stage::Present;
        let step = socket.extra_mut().connect_step.take();
        self.tables.count_waiting(key);
        Some((step.map(|(_, auth)| auth).unwrap_or_default(), offset))
    }

    /// A shard does not keep the socket. The auth of the client when that was the last.
    pub(crate) fn count_answer(&mut self, key: Key, reason: NotKept) -> Option<String> {
        let state = self.tables.sockets.get_mut(key).and_then(state_of_mut)?;
        let Stage::Asking { left, outcome, .. } = &mut state.stage else { return None };
        *left -= 1;
        if reason == NotKept::TooOld {
            *outcome = Recovery::TooMuchMissed;
        }
        let (left, outcome) = (*left, *outcome);
        if left > 0 {
            return None;
        }
        self.set_outcome(key, outcome);
        self.end_asking(key).map(|(auth, _)| auth)
    }

    pub(crate) fn unreserve(&mut self, pid: Sid) {
        let key = self.recovery.by_pid.get(&pid).copied();
        let state = key.and_then(|key| self.tables.sockets.get_mut(key)).and_then(state_of_mut);
        if let Some(Stage::Lost { asker, .. }) = state.map(|state| &mut state.stage) {
            *asker = None;
        }
    }

    /// Takes in what a socket has missed. False if its events are lost; `None` if the socket does not wait for any.
    pub(crate) fn add_missed(&mut self, key: Key, events: Option<Vec<Kept>>) -> Option<bool> {
        let state = self.tables.sockets.get_mut(key).and_then(state_of_mut)?;
        let Stage::Restoring { keeper, missed, .. } = &mut state.stage else { return None };
        *keeper = None;
        let is_there = events.is_some();
        *missed = events;
        Some(is_there)
    }

    /// Whether what a socket has missed is here and has been seen by this shard, so that none of it comes again; with `must`, seen
    /// or not. One that waits for that is looked at again.
    pub(crate) fn has_missed(&mut self, key: Key, must: bool) -> bool {
        let Core { recovery, tables: Tables { sockets, .. }, .. } = &mut *self;
        let Some(state) = sockets.get_mut(key).and_then(state_of_mut) else { return false };
        let Stage::Restoring { missed: Some(missed), is_accepted: true, .. } = &state.stage else {
            return false;
        };
        let is_due = must || missed.iter().all(|kept| recovery.seen.has(kept.offset));
        if !is_due {
            self.await_seen(key);
        }
        is_due
    }

    /// Whether a socket that is let in waits for its keeper.
    pub(crate) fn is_awaiting_keeper(&self, key: Key) -> bool {
        let state = self.tables.sockets.get(key).and_then(state_of);
        matches!(
            state.map(|state| &state.stage),
            Some(Stage::Restoring { keeper: Some(_), is_accepted: true, .. })
        )
    }

    /// Whether a socket that is coming back was lost on this very shard: if its connection ends now, it is lost again.
    pub(crate) fn is_restored_here(&self, key: Key) -> bool {
        let state = self.tables.sockets.get(key).and_then(state_of);
        matches!(
            state.map(|state| &state.stage),
            Some(Stage::Restoring { keeper: None, missed: Some(_), .. })
        )
    }

    /// A socket waits until something has been seen here.
    pub(crate) fn await_seen(&mut self, key: Key) {
        self.recovery.waiting.push(key);
        if !self.recovery.seen.is_asking && self.recovery.seen.again == Time::NEVER {
            self.look_for_seen();
        }
    }

    /// Looks again, if it is time and somebody waits still.
    pub(crate) fn look_again(&mut self) {
        if self.recovery.seen.again <= self.tables.now {
            self.recovery.seen.again = Time::NEVER;
            if !self.recovery.waiting.is_empty() {
                self.look_for_seen();
            }
        }
    }

    fn look_for_seen(&mut self) {
        let numbers = self.tables.mesh.published.done();
        let word = ShardMessage::Recovery(Box::new(RecoveryMessage::SeenUntil { numbers }));
        // A full inbox is no loss here: it is emptied, and then there is room.
        self.recovery.seen.is_asking = self.tables.mesh.send(self.tables.id, word).is_ok();
        if !self.recovery.seen.is_asking {
            self.recovery.seen.again = self.tables.now + LOOK_AGAIN_AFTER;
        }
    }
}
