//! Connection state recovery: a client that lost its connection comes back as the socket that it was, with its id, its rooms and
//! the events that it has missed (Node's `connectionStateRecovery`).
//!
//! Every socket keeps the last events that it was sent. When its connection is lost it stays in its rooms for a while, as a *lost*
//! socket, and goes on keeping. The client knows it by a private id, `pid`, and says the offset of the last event that it
//! has got. How two shards hand a lost socket over is in `message/recovery`.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer};

use crate::base::buffer::SharedFrame;
use crate::base::ids::{ShardId, Sid};
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::ShardMessage;
use crate::mesh::interest::Audience;
use crate::message::address::Address;
use crate::message::inquiry::AckError;
use crate::message::recovery::{Asker, Kept, LostSocket, NotKept, Offset, RecoveryMessage};
use crate::message::target::{Broadcast, Reach, Target, WhenBehind};
use crate::protocol::surrogates::read_json;
use crate::shard::Shard;
use crate::shard::backpressure::SlowConsumers;
use crate::shard::core::{Core, Deferred};
use crate::shard::kept::{KeptEvents, Limits, ends_with_text, with_argument};
use crate::shard::outbox::Outbox;
use crate::shard::seen::Seen;
use crate::shard::session::CloseReason;
use crate::shard::socket::{SocketEntry, SocketExtra, SocketState};
use crate::shard::wheel::TimerOwner;

/// How long shards may take to answer each other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a socket is one that was there before: see `recovery_max_disconnection` of [`Config`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// The client has not asked: it is new, or recovery is off.
    #[default]
    NotAsked,
    /// The socket has its id, its rooms and its public data again, and the client gets what it has missed.
    Recovered,
    /// The client has asked in vain, and is a new socket: it was gone for too long, or had left; its id was used already; it
    /// was another process's.
    Unknown,
    /// The client has asked in vain: it has missed more than is kept.
    TooMuchMissed,
    /// A shard did not answer in time.
    NoAnswer,
}

/// What a client says in its CONNECT.
#[derive(Deserialize)]
struct Claim {
    pid: serde_json::Value,
    /// `None` when the client names no offset: it has got no event yet. `null` counts as named.
    #[serde(default, deserialize_with = "said")]
    offset: Option<serde_json::Value>,
}

fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(value).map(Some)
}

/// What one socket has for its recovery.
#[derive(Debug)]
pub(crate) struct RecoveryState {
    pub(crate) pid: Sid,
    pub(crate) outcome: Recovery,
    events: KeptEvents,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The client is there, or is about to be.
    Present,
    /// It may come back. `GiveUp` has come for the seen numbers, which must be seen here first.
    Lost { asker: Option<Reserved>, seen: Option<Box<[u64]>> },
    /// The shards are asked who keeps the socket; so many have not answered.
    Asking { left: usize, auth: String, offset: Option<Offset>, outcome: Recovery },
    /// It is the old socket; what it has missed is here, or with its keeper. What comes now is held back until it is let in, and
    /// kept in `events` as ever.
    Restoring {
        keeper: Option<ShardId>,
        offset: Option<Offset>,
        is_accepted: bool,
        missed: Option<Vec<Kept>>,
    },
}

/// For whom a lost socket is reserved, and the last event that its client has got.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    asker: Asker,
    offset: Option<Offset>,
}

/// A client's claim to a lost socket.
#[derive(Clone, Copy, Debug)]
struct Claimed<'a> {
    pid: Sid,
    namespace: &'a Address,
    offset: Option<Offset>,
}

impl RecoveryState {
    fn new(pid: Sid) -> RecoveryState {
        RecoveryState {
            pid,
            outcome: Recovery::NotAsked,
            events: KeptEvents::default(),
            stage: Stage::Present,
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.stage, Stage::Lost { .. })
    }

    /// Ends a restoring: what the client has missed comes before what came here since, and is returned. An event that is in
    /// both is one that came here since: it is held back, and follows.
    fn join_missed(&mut self) -> Vec<SharedFrame> {
        let Stage::Restoring { offset, missed, .. } = std::mem::replace(&mut self.stage, Stage::Present)
        else {
            return Vec::new();
        };
        let mut missed = missed.unwrap_or_default();
        missed.retain(|kept| !self.events.has(kept.offset));
        let frames = missed.iter().map(|kept| kept.frame.clone()).collect();
        // With a gap between the two, the earlier are of no use for the next recovery.
        if self.events.let_go() == offset {
            self.events.put_before(missed);
        }
        frames
    }
}

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
    by_pid: FxHashMap<Sid, Key>,
    /// Lost sockets with the time when they are given up, oldest first; some have come back already.
    lost: VecDeque<(Time, Key)>,
    lost_now: usize,
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

/// The private id that a client claims in its CONNECT.
pub(crate) fn claimed_pid(auth: &str) -> Option<Sid> {
    match serde_json::from_str(auth) {
        Ok(Claim { pid: serde_json::Value::String(pid), .. }) => Sid::parse(&pid),
        _ => None,
    }
}

/// The state of a socket that takes part.
fn state_of(socket: &SocketEntry) -> Option<&RecoveryState> {
    socket.extra.as_ref()?.recovery.as_deref()
}

fn state_of_mut(socket: &mut SocketEntry) -> Option<&mut RecoveryState> {
    socket.extra.as_mut()?.recovery.as_deref_mut()
}

/// Lets a socket keep an event that it is sent, or would be. True if that is all that is to be done with it.
pub(crate) fn keep(socket: &mut SocketEntry, kept: Kept, limits: Limits) -> bool {
    if let Some(state) = state_of_mut(socket) {
        state.events.keep(kept, limits);
    }
    socket.state == SocketState::Closed
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
        let rules = setup.map(|setup| &self.slow_rules[usize::from(setup)]);
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
        let offset = Offset { origin: self.id, number: *next, is_local };
        *next += 1;
        if !is_local {
            self.mesh.published.begin(self.id, offset.number);
        }
        self.recovery.seen.note(offset);
        (SharedFrame::new(with_argument(frame, &format!("\"{offset}\""))), Some(offset))
    }

    /// Gives an event for one socket its offset, and lets the socket keep it.
    pub(crate) fn stamp_for(&mut self, key: Key, frames: Vec<u8>) -> Stamped {
        let target = Target { reach: Reach::Shard, ..Target::default() };
        let Some(socket) = self.sockets.get(key) else { return Stamped::Gone };
        let setup = self.namespaces[socket.namespace].namespace.setup;
        let (frame, offset) = self.stamp(Some(setup), &target, &SharedFrame::new(frames));
        let (at, limits) = (self.now, self.recovery.limits);
        if let (Some(offset), Some(socket)) = (offset, self.sockets.get_mut(key)) {
            let takes_part = state_of(socket).is_some();
            if keep(socket, Kept { offset, at, frame: frame.clone() }, limits) {
                return if takes_part { Stamped::Kept } else { Stamped::Gone };
            }
        }
        Stamped::Send(frame.to_vec())
    }

    /// Publishes what another thread emits, with an offset of this shard.
    pub(crate) fn relay(&mut self, broadcast: &Broadcast) {
        let here = self.namespaces.find_address(&broadcast.namespace);
        self.publish_at(here, &broadcast.namespace, &broadcast.target, (None, &broadcast.frame));
    }

    /// Lets a socket that is not open yet take part in recovery: it gets a private id.
    pub(crate) fn begin_keeping(&mut self, key: Key) {
        let Some(session) = self.sockets.get(key).map(|socket| socket.session) else { return };
        if !self.recovery.is_on || self.is_revision_3(session) {
            return;
        }
        let pid = self.new_sid();
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.extra_mut().recovery = Some(Box::new(RecoveryState::new(pid)));
            self.recovery.by_pid.insert(pid, key);
        }
    }

    /// Keeps a socket whose connection is lost. False: it goes.
    pub(crate) fn lose(&mut self, key: Key, reason: CloseReason) -> bool {
        let may_come_back = matches!(
            reason,
            CloseReason::TransportClose
                | CloseReason::TransportError
                | CloseReason::PingTimeout
                | CloseReason::ForcedClose
                | CloseReason::SlowConsumer
        );
        let is_stopping = self.is_shutting_down || self.is_draining();
        let Some(socket) = self.sockets.get_mut(key).filter(|_| may_come_back && !is_stopping) else {
            return false;
        };
        let Some(state) = state_of_mut(socket) else { return false };
        // One that was about to be restored keeps what it has missed.
        state.join_missed();
        state.stage = Stage::Lost { asker: None, seen: None };
        for ack in self.take_acks(key) {
            self.deferred.push(Deferred::FailAck(ack, AckError::Disconnected));
        }
        let Some(socket) = self.sockets.get_mut(key) else { return false };
        // All that a handler left there goes; what the next needs stays.
        let SocketExtra { recovery, data, .. } = socket.extra_mut();
        let left = SocketExtra { recovery: recovery.take(), data: data.take(), ..SocketExtra::default() };
        let gone = std::mem::replace(socket.extra_mut(), left);
        self.deferred.push(Deferred::Discard(Box::new(gone)));
        for room in socket.rooms.clone() {
            if let Some(room) = self.rooms.get_mut(room) {
                room.lost += 1;
            }
        }
        let until = self.now + self.config.recovery_max_disconnection;
        self.recovery.lost.push_back((until, key));
        self.recovery.lost_now += 1;
        let sessions_max = self.config.recovery_sessions_max;
        while self.recovery.lost_now > sessions_max {
            self.forget_oldest();
        }
        if self.recovery.lost.len() > 2 * sessions_max {
            let mut lost = std::mem::take(&mut self.recovery.lost);
            lost.retain(|(_, key)| self.is_lost(*key));
            self.recovery.lost = lost;
        }
        true
    }

    /// When the next lost socket is given up, or those that wait are looked at; `NEVER` when there is none.
    pub(crate) fn next_lost_expiry(&self) -> Time {
        self.recovery.lost.front().map_or(Time::NEVER, |(until, _)| *until).min(self.recovery.seen.again())
    }

    /// Gives up those whose time is over.
    pub(crate) fn expire_lost(&mut self) {
        while self.recovery.lost.front().is_some_and(|(until, _)| *until <= self.now) {
            self.forget_oldest();
        }
        self.look_again();
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.recovery.lost.pop_front() {
            self.forget_lost(key);
        }
    }

    /// A lost socket is not waited for any more.
    pub(crate) fn forget_lost(&mut self, key: Key) {
        if self.is_lost(key) {
            self.remove_socket(key);
        }
    }

    pub(crate) fn is_lost(&self, key: Key) -> bool {
        self.sockets.get(key).and_then(state_of).is_some_and(RecoveryState::is_lost)
    }

    /// A socket is removed: its private id is valid no longer.
    pub(crate) fn end_keeping(&mut self, key: Key) {
        let Some(state) = self.sockets.get(key).and_then(state_of) else { return };
        let namespace = self.sockets.get(key).map(|socket| socket.namespace);
        let (pid, keeper) = match state.stage {
            Stage::Restoring { keeper: Some(keeper), .. } => (state.pid, Some(keeper)),
            _ => (state.pid, None),
        };
        let is_lost = state.is_lost();
        self.recovery.lost_now -= usize::from(is_lost);
        if self.recovery.by_pid.get(&pid) == Some(&key) {
            self.recovery.by_pid.remove(&pid);
        }
        if let Some(namespace) = namespace {
            self.release_id(namespace, pid);
        }
        if let Some(keeper) = keeper {
            self.send_recovery(keeper, RecoveryMessage::Release { pid });
        }
    }

    fn send_recovery(&mut self, to: ShardId, message: RecoveryMessage) -> bool {
        self.send_to_shard(to, ShardMessage::Recovery(Box::new(message)))
    }

    /// Looks for a lost socket here that a client claims, and reserves it for the asker.
    fn reserve(&mut self, claim: Claimed<'_>, asker: Asker) -> Result<Key, NotKept> {
        let key = *self.recovery.by_pid.get(&claim.pid).ok_or(NotKept::Unknown)?;
        let socket = self.sockets.get_mut(key).ok_or(NotKept::Unknown)?;
        let is_here = self.namespaces[socket.namespace].namespace.address == *claim.namespace;
        let state = state_of_mut(socket).filter(|_| is_here).ok_or(NotKept::Unknown)?;
        let offset = state.events.known(claim.offset);
        let has_all = state.events.has_all_after(offset);
        match &mut state.stage {
            Stage::Lost { asker: reserved @ None, .. } if has_all => {
                *reserved = Some(Reserved { asker, offset });
                state.events.forget_until(offset);
                Ok(key)
            }
            Stage::Lost { asker: None, .. } => {
                self.remove_socket(key);
                Err(NotKept::TooOld)
            }
            _ => Err(NotKept::Unknown),
        }
    }

    fn describe_lost(&self, key: Key) -> Option<LostSocket> {
        let socket = self.sockets.get(key)?;
        let extra = socket.extra.as_ref()?;
        let rooms = self.rooms_of(key).into_iter().skip(1).collect();
        Some(LostSocket { pid: state_of(socket)?.pid, sid: socket.sid, rooms, data: extra.data.clone() })
    }

    /// Turns a new socket into the one that was lost: its id, rooms and data. What it has missed after `offset` is here already, or with the keeper.
    fn restore(
        &mut self,
        key: Key,
        lost: LostSocket,
        offset: Option<Offset>,
        (keeper, missed): (Option<ShardId>, Option<Vec<Kept>>),
    ) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let (own, namespace) = (std::mem::replace(&mut socket.sid, lost.sid), socket.namespace);
        let extra = socket.extra_mut();
        extra.data = lost.data;
        // What it was sent as a new one, it has missed as the old.
        extra.held = Outbox::default();
        let Some(state) = extra.recovery.as_deref_mut() else { return };
        let own_pid = std::mem::replace(&mut state.pid, lost.pid);
        state.outcome = Recovery::Recovered;
        state.stage = Stage::Restoring { keeper, offset, is_accepted: false, missed };
        state.events = KeptEvents::after(offset, VecDeque::new());
        self.recovery.by_pid.remove(&own_pid);
        self.recovery.by_pid.insert(lost.pid, key);
        let Core { socket_ids, sockets, .. } = &mut *self;
        socket_ids.remove(&own, key.index);
        socket_ids.insert(&lost.sid, key.index, |place| sockets.at(place).map(|socket| socket.sid));
        self.hold_id(namespace, lost.sid);
        self.hold_id(namespace, lost.pid);
        for room in lost.rooms {
            // It was in as many before.
            let _ = self.join(key, &room);
        }
    }

    /// Whether a socket that is let in must first be given what it has missed; that is asked for.
    pub(crate) fn must_await_missed(&mut self, key: Key) -> bool {
        let Some(state) = self.sockets.get_mut(key).and_then(state_of_mut) else { return false };
        let pid = state.pid;
        let Stage::Restoring { keeper: Some(keeper), is_accepted, .. } = &mut state.stage else {
            return false;
        };
        let keeper = *keeper;
        if !std::mem::replace(is_accepted, true) {
            let (asker, seen) = (Asker { shard: self.id, socket: key }, self.mesh.published.begun());
            self.send_recovery(keeper, RecoveryMessage::GiveUp { pid, asker, seen });
            let deadline = self.now + PATIENCE;
            self.wheel.arm(TimerOwner::Recovery(key), deadline);
        }
        true
    }

    /// Gives the asker what its client has missed, once this shard has seen all that the asker may not get.
    fn give_up_if_due(&mut self, key: Key) -> bool {
        let Some(state) = self.sockets.get_mut(key).and_then(state_of_mut) else { return true };
        let Stage::Lost { asker: Some(asker), seen: Some(seen) } = &state.stage else { return true };
        if !self.recovery.seen.has_all(seen) {
            return false;
        }
        let Reserved { asker, offset } = *asker;
        // What came meanwhile may have been more than is kept.
        let missed = (state.events.let_go() == offset).then(|| state.events.take().into());
        self.remove_socket(key);
        self.send_recovery(asker.shard, RecoveryMessage::Missed { to: asker.socket, missed });
        true
    }

    /// What the client of a socket has missed, and gets as soon as it is let in.
    pub(crate) fn take_missed(&mut self, key: Key) -> Vec<SharedFrame> {
        self.sockets.get_mut(key).and_then(state_of_mut).map(RecoveryState::join_missed).unwrap_or_default()
    }

    /// How a client's recovery went.
    pub(crate) fn recovery_of(&self, key: Key) -> Recovery {
        self.sockets.get(key).and_then(state_of).map(|state| state.outcome).unwrap_or_default()
    }

    /// The private id that a client is told.
    pub(crate) fn pid_of(&self, key: Key) -> Option<Sid> {
        self.sockets.get(key).and_then(state_of).map(|state| state.pid)
    }
}

impl Shard {
    /// A client connects: as the socket that it claims to have been, or anew.
    pub(crate) fn connect_or_recover(&mut self, key: Key, auth: &str) {
        if !self.claim(key, auth) {
            self.ask_connect_handlers(key, 0, auth);
        }
    }

    /// Looks for the socket that a client claims. True: other shards are asked.
    fn claim(&mut self, key: Key, auth: &str) -> bool {
        if self.core.borrow().pid_of(key).is_none() {
            return false;
        }
        let Ok(Claim { pid: serde_json::Value::String(pid), offset }) = read_json(auth) else {
            return false;
        };
        let offset = match offset {
            None => None,
            Some(serde_json::Value::String(text)) => match Offset::parse(&text) {
                Some(offset) => Some(offset),
                None => return self.core.borrow_mut().set_outcome(key, Recovery::TooMuchMissed),
            },
            // Not an offset: what the client has got is not known.
            Some(_) => return self.core.borrow_mut().set_outcome(key, Recovery::Unknown),
        };
        let Some(pid) = Sid::parse(&pid) else {
            return self.core.borrow_mut().set_outcome(key, Recovery::Unknown);
        };
        let Some(namespace) = self.core.borrow().address_of(key) else { return false };
        self.end_present(pid, &namespace, Some(key));
        let mut core = self.core.borrow_mut();
        if core.recovery.by_pid.contains_key(&pid) {
            let outcome = core.restore_from_here(key, pid, offset);
            return core.set_outcome(key, outcome);
        }
        core.ask_others(key, pid, offset, auth)
    }

    /// A client that comes back before its connection was known to be lost: it is lost. Not one that is in another namespace than
    /// the claimed, and not the `claimer`'s own.
    fn end_present(&mut self, pid: Sid, namespace: &Address, claimer: Option<Key>) {
        let session = {
            let core = self.core.borrow();
            let own = claimer.and_then(|key| core.sockets.get(key)).map(|socket| socket.session);
            let socket = core.recovery.by_pid.get(&pid).and_then(|key| core.sockets.get(*key));
            let socket = socket.filter(|socket| {
                socket.state == SocketState::Open
                    && core.namespaces[socket.namespace].namespace.address == *namespace
            });
            socket.map(|socket| socket.session).filter(|session| Some(*session) != own)
        };
        if let Some(session) = session {
            self.close_session(session, CloseReason::TransportClose);
        }
    }

    /// Another shard has something to say.
    pub(crate) fn recover(&mut self, message: RecoveryMessage) {
        match message {
            RecoveryMessage::Ask { pid, namespace, offset, asker } => {
                self.end_present(pid, &namespace, None);
                let claim = Claimed { pid, namespace: &namespace, offset };
                self.core.borrow_mut().answer_asker(claim, asker);
            }
            RecoveryMessage::Found { to, keeper, lost } => {
                let asked = self.core.borrow_mut().end_asking(to);
                let Some((auth, offset)) = asked else {
                    let release = RecoveryMessage::Release { pid: lost.pid };
                    self.core.borrow_mut().send_recovery(keeper, release);
                    return;
                };
                self.core.borrow_mut().restore(to, *lost, offset, (Some(keeper), None));
                self.core.borrow_mut().set_outcome(to, Recovery::Recovered);
                self.ask_connect_handlers(to, 0, &auth);
            }
            RecoveryMessage::NotFound { to, reason } => {
                let asked = self.core.borrow_mut().count_answer(to, reason);
                if let Some(auth) = asked {
                    self.ask_connect_handlers(to, 0, &auth);
                }
            }
            RecoveryMessage::GiveUp { pid, asker, seen } => self.core.borrow_mut().give_up(pid, asker, seen),
            RecoveryMessage::SeenUntil { numbers } => self.seen_until(&numbers),
            RecoveryMessage::Missed { to, missed } => {
                let is_here = self.core.borrow_mut().add_missed(to, missed);
                match is_here {
                    Some(true) => self.let_in_if_due(to),
                    Some(false) => self.fail_restoring(to),
                    None => {}
                }
            }
            RecoveryMessage::Release { pid } => self.core.borrow_mut().unreserve(pid),
        }
    }

    /// Events have come for which sockets may have waited.
    pub(crate) fn check_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.core.borrow_mut().recovery.waiting);
        for key in waiting {
            let is_due = self.core.borrow_mut().give_up_if_due(key);
            if is_due {
                self.let_in_if_due(key);
            } else {
                self.core.borrow_mut().await_seen(key);
            }
        }
    }

    /// Lets a socket in that has all that it has missed, once this shard has seen all of that.
    fn let_in_if_due(&mut self, key: Key) {
        let is_due = self.core.borrow_mut().has_missed(key, false);
        if is_due {
            self.core.borrow_mut().open_socket(key);
            self.run_waiting(key);
        }
    }

    /// What a socket has missed is not to be had: its client comes back and is told so.
    fn fail_restoring(&mut self, key: Key) {
        let session = self.core.borrow().sockets.get(key).map(|socket| socket.session);
        if let Some(session) = session {
            tracing::info!(target: SOCKETIO, "a recovery failed half-way; the client connects again");
            self.close_session(session, CloseReason::TransportError);
        }
    }

    /// Shards did not answer in time.
    pub(crate) fn recovery_timeout(&mut self, key: Key) {
        let asked = self.core.borrow_mut().end_asking(key);
        if let Some((auth, _)) = asked {
            self.core.borrow_mut().set_outcome(key, Recovery::NoAnswer);
            return self.ask_connect_handlers(key, 0, &auth);
        }
        let is_waiting_here = self.core.borrow_mut().has_missed(key, true);
        if is_waiting_here {
            // An event that the keeper had seen was lost on its way here.
            self.core.borrow_mut().open_socket(key);
            self.run_waiting(key);
        } else if self.core.borrow().is_awaiting_keeper(key) {
            self.fail_restoring(key);
        }
    }
}

impl Core {
    /// Notes how the recovery ended; false, which callers return, because no other shard is being waited for.
    fn set_outcome(&mut self, key: Key, outcome: Recovery) -> bool {
        let Some(socket) = self.sockets.get_mut(key) else { return false };
        let sid = socket.sid;
        if let Some(state) = state_of_mut(socket) {
            state.outcome = outcome;
            tracing::info!(target: SOCKETIO, sid = %sid.brief(), ?outcome, "a client asks for the recovery of its connection");
        }
        false
    }

    /// The namespace that a socket is in, or asks to be let into.
    fn address_of(&self, key: Key) -> Option<Address> {
        let socket = self.sockets.get(key)?;
        Some(self.namespaces[socket.namespace].namespace.address.clone())
    }

    fn restore_from_here(&mut self, key: Key, pid: Sid, offset: Option<Offset>) -> Recovery {
        let Some(namespace) = self.address_of(key) else { return Recovery::Unknown };
        let asker = Asker { shard: self.id, socket: key };
        let found = match self.reserve(Claimed { pid, namespace: &namespace, offset }, asker) {
            Ok(found) => found,
            Err(NotKept::Unknown) => return Recovery::Unknown,
            Err(NotKept::TooOld) => return Recovery::TooMuchMissed,
        };
        let Some(lost) = self.describe_lost(found) else { return Recovery::Unknown };
        let events = self.sockets.get_mut(found).and_then(state_of_mut).map(|state| state.events.take());
        let place = self.sockets.get(found).map(|socket| socket.namespace);
        let held = place.map(|namespace| self.hold_places(namespace, &lost)).unwrap_or_default();
        self.remove_socket(found);
        let missed = events.unwrap_or_default();
        self.restore(key, lost, offset, (None, Some(missed.into())));
        self.release_places(&held);
        Recovery::Recovered
    }

    fn ask_others(&mut self, key: Key, pid: Sid, offset: Option<Offset>, auth: &str) -> bool {
        let Some(namespace) = self.address_of(key) else { return false };
        let asker = Asker { shard: self.id, socket: key };
        let mut left = 0;
        // The private id names its keeper, unless the socket has come back elsewhere before: then that shard has said so.
        let target = Target { rooms: [pid.as_str()].into_iter().collect(), ..Target::default() };
        let mut audience = Audience::but(self.id);
        while let Some(shard) = self.mesh.interest.next(&mut audience, &namespace, &target) {
            let namespace = namespace.clone();
            left += usize::from(
                self.send_recovery(shard, RecoveryMessage::Ask { pid, namespace, offset, asker }),
            );
        }
        if left == 0 {
            return self.set_outcome(key, Recovery::Unknown);
        }
        if let Some(state) = self.sockets.get_mut(key).and_then(state_of_mut) {
            state.stage = Stage::Asking { left, auth: auth.to_owned(), offset, outcome: Recovery::Unknown };
        }
        let deadline = self.now + PATIENCE;
        self.wheel.arm(TimerOwner::Recovery(key), deadline);
        true
    }

    fn answer_asker(&mut self, claim: Claimed<'_>, asker: Asker) {
        let (to, keeper) = (asker.socket, self.id);
        let found = self.reserve(claim, asker).map(|key| self.describe_lost(key));
        let answer = match found {
            Ok(Some(lost)) => RecoveryMessage::Found { to, keeper, lost: Box::new(lost) },
            Ok(None) => RecoveryMessage::NotFound { to, reason: NotKept::Unknown },
            Err(reason) => RecoveryMessage::NotFound { to, reason },
        };
        self.send_recovery(asker.shard, answer);
    }

    /// The auth and the offset of a client for which shards were asked; nothing if they were not, or it is settled.
    fn end_asking(&mut self, key: Key) -> Option<(String, Option<Offset>)> {
        let state = self.sockets.get_mut(key).and_then(state_of_mut)?;
        match std::mem::replace(&mut state.stage, Stage::Present) {
            Stage::Asking { auth, offset, .. } => Some((auth, offset)),
            other => {
                state.stage = other;
                None
            }
        }
    }

    /// A shard does not keep the socket. The auth of the client when that was the last.
    fn count_answer(&mut self, key: Key, reason: NotKept) -> Option<String> {
        let state = self.sockets.get_mut(key).and_then(state_of_mut)?;
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

    fn give_up(&mut self, pid: Sid, asker: Asker, seen_there: Box<[u64]>) {
        let key = self.recovery.by_pid.get(&pid).copied();
        let state = key.and_then(|key| self.sockets.get_mut(key)).and_then(state_of_mut);
        match (key, state.map(|state| &mut state.stage)) {
            (Some(key), Some(Stage::Lost { asker: Some(reserved), seen })) if reserved.asker == asker => {
                *seen = Some(seen_there);
                if !self.give_up_if_due(key) {
                    self.await_seen(key);
                }
            }
            // Its time was over meanwhile.
            _ => {
                self.send_recovery(asker.shard, RecoveryMessage::Missed { to: asker.socket, missed: None });
            }
        }
    }

    fn unreserve(&mut self, pid: Sid) {
        let key = self.recovery.by_pid.get(&pid).copied();
        let state = key.and_then(|key| self.sockets.get_mut(key)).and_then(state_of_mut);
        if let Some(Stage::Lost { asker, .. }) = state.map(|state| &mut state.stage) {
            *asker = None;
        }
    }

    /// Takes in what a socket has missed. False if its events are lost; `None` if the socket does not wait for any.
    fn add_missed(&mut self, key: Key, events: Option<Vec<Kept>>) -> Option<bool> {
        let state = self.sockets.get_mut(key).and_then(state_of_mut)?;
        let Stage::Restoring { keeper, missed, .. } = &mut state.stage else { return None };
        *keeper = None;
        let is_there = events.is_some();
        *missed = events;
        Some(is_there)
    }

    /// Whether what a socket has missed is here and has been seen by this shard, so that none of it comes again; with `must`, seen
    /// or not. One that waits for that is looked at again.
    fn has_missed(&mut self, key: Key, must: bool) -> bool {
        let Core { sockets, recovery, .. } = &mut *self;
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
    fn is_awaiting_keeper(&self, key: Key) -> bool {
        let state = self.sockets.get(key).and_then(state_of);
        matches!(
            state.map(|state| &state.stage),
            Some(Stage::Restoring { keeper: Some(_), is_accepted: true, .. })
        )
    }

    /// Whether a socket that is coming back was lost on this very shard: if its connection ends now, it is lost again.
    pub(crate) fn is_restored_here(&self, key: Key) -> bool {
        let state = self.sockets.get(key).and_then(state_of);
        matches!(
            state.map(|state| &state.stage),
            Some(Stage::Restoring { keeper: None, missed: Some(_), .. })
        )
    }
}
