//! Sockets that are lost, kept and restored.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::message::address::Address;
use crate::message::far::FarAsker;
use crate::message::inquiry::AckError;
use crate::message::recovery::{Asker, LostSocket, NotKept, Offset, RecoveryMessage};
use crate::shard::core::Core;
use crate::shard::table::Tables;
use crate::shard::value::effect::Deferred;
use crate::shard::value::kept::KeptEvents;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::recovery::{
    Arriving, Claimed, GIVEN_KNOWN_FOR, Recovery, RecoveryState, Reserved, Stage,
};
use crate::shard::value::session::CloseReason;
use crate::shard::value::socket::{SocketExtra, state_of_mut};
use crate::shard::value::wheel::TimerOwner;

/// How long a keeper waits, once another process hears a lost socket's rooms, for what was published before that and comes here by another
/// way than the word that says so, as with Kafka and with sharded Redis.
const FAR_SETTLE: Duration = Duration::from_millis(50);

impl Core {
    /// Keeps a socket whose connection is lost. False: it goes.
    pub(crate) fn lose(&mut self, key: Key, reason: CloseReason) -> bool {
        let may_come_back = matches!(
            reason,
            CloseReason::TransportClose
                | CloseReason::TransportError
                | CloseReason::PingTimeout
                | CloseReason::ForcedClose
                | CloseReason::SlowConsumer
                | CloseReason::RateExceeded
        );
        let is_stopping = self.tables.env.is_shutting_down || self.tables.env.is_draining;
        if is_stopping && (may_come_back || reason == CloseReason::ServerShutdown) {
            self.leave_behind(key);
        }
        let Some(socket) = self.tables.sockets.get_mut(key).filter(|_| may_come_back && !is_stopping) else {
            return false;
        };
        let Some(state) = state_of_mut(socket) else { return false };
        // One that was about to be restored keeps what it has missed.
        state.join_missed();
        state.stage = Stage::Lost { asker: None, seen: None };
        for ack in self.acks().take_all(key) {
            self.tables.effects.deferred.push(Deferred::FailAck(ack, AckError::Disconnected));
        }
        let Some(socket) = self.tables.sockets.get_mut(key) else { return false };
        // All that a handler left there goes; what the next needs stays.
        let SocketExtra { recovery, data, .. } = socket.extra_mut();
        let left = SocketExtra { recovery: recovery.take(), data: data.take(), ..SocketExtra::default() };
        let gone = std::mem::replace(socket.extra_mut(), left);
        self.tables.effects.deferred.push(Deferred::Discard(Box::new(gone)));
        for room in socket.rooms.clone() {
            if let Some(room) = self.tables.rooms.get_mut(room) {
                room.lost += 1;
            }
        }
        let Some(endpoint) = self.tables.endpoint_of_socket(key) else { return false };
        let keep = self.tables.endpoint(endpoint).settings.recovery_max_disconnection;
        self.recovery.push_lost(self.tables.env.now + keep, key);
        let sessions_max = self.tables.env.config.recovery_sessions_max;
        while self.recovery.lost_now > sessions_max {
            self.forget_oldest();
        }
        if self.recovery.lost.len() > 2 * sessions_max {
            let mut lost = std::mem::take(&mut self.recovery.lost);
            lost.retain(|(_, key)| self.tables.is_lost(*key));
            self.recovery.lost = lost;
        }
        true
    }

    /// Gives up those whose time is over.
    pub(crate) fn expire_lost(&mut self) {
        while self.recovery.lost.front().is_some_and(|(until, _)| *until <= self.tables.env.now) {
            self.forget_oldest();
        }
        self.recovery().look_again();
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.recovery.lost.pop_front() {
            self.forget_lost(key);
        }
    }

    /// A lost socket is not waited for any more.
    pub(crate) fn forget_lost(&mut self, key: Key) {
        if self.tables.is_lost(key) {
            self.remove_socket(key);
        }
    }

    /// Looks for a lost socket here that a client claims, and reserves it for the asker.
    fn reserve(&mut self, claim: Claimed<'_>, asker: Asker) -> Result<Key, NotKept> {
        let key = *self.recovery.by_pid.get(&claim.pid).ok_or(NotKept::Unknown)?;
        let socket = self.tables.sockets.get_mut(key).ok_or(NotKept::Unknown)?;
        let is_here = self.tables.namespaces[socket.namespace].namespace.address == *claim.namespace;
        let is_one_of_several = self.tables.mesh.links.of(claim.namespace).is_some();
        let state = state_of_mut(socket).filter(|_| is_here).ok_or(NotKept::Unknown)?;
        let offset = state.events.known(claim.offset);
        let has_all = state.events.has_all_after(offset);
        match &mut state.stage {
            Stage::Lost { asker: reserved @ None, .. } if has_all => {
                *reserved = Some(Reserved { asker, offset });
                if is_one_of_several {
                    let since = self.tables.env.now.before(GIVEN_KNOWN_FOR);
                    state.had = state.events.names_until(offset, since);
                    state.had.extend(state.given.iter().flat_map(|given| &given.1));
                }
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

    /// Turns a new socket into the one that was lost: its id, rooms and data. The stage says where what it has missed after `offset` is.
    pub(crate) fn restore(&mut self, key: Key, lost: LostSocket, offset: Option<Offset>, stage: Stage) {
        let Some(socket) = self.tables.sockets.get_mut(key) else { return };
        let (own, namespace) = (std::mem::replace(&mut socket.sid, lost.sid), socket.namespace);
        let extra = socket.extra_mut();
        extra.data = lost.data;
        // What it was sent as a new one, it has missed as the old.
        extra.held = Outbox::default();
        let Some(state) = extra.recovery.as_deref_mut() else { return };
        let own_pid = std::mem::replace(&mut state.pid, lost.pid);
        if !lost.had.is_empty() {
            state.note_given(lost.had, self.tables.env.now);
        }
        state.outcome = Recovery::Recovered;
        state.stage = stage;
        state.events = KeptEvents::after(offset, VecDeque::new());
        self.recovery.by_pid.remove(&own_pid);
        self.recovery.by_pid.insert(lost.pid, key);
        let Tables { socket_ids, sockets, .. } = &mut self.tables;
        socket_ids.remove(&own, key.index);
        socket_ids.insert(&lost.sid, key.index, |place| sockets.at(place).map(|socket| socket.sid));
        self.tables.hold_id(namespace, lost.sid);
        self.tables.hold_id(namespace, lost.pid);
        for room in lost.rooms {
            // It was in as many before.
            let _ = self.join(key, &room);
        }
        // After the last of its rooms is known to all: what begins from here on comes here.
        let begun = self.tables.mesh.published.begun();
        match self.tables.sockets.get_mut(key).and_then(state_of_mut) {
            Some(RecoveryState { stage: Stage::Arriving(arriving), .. }) => arriving.since = Some(begun),
            Some(RecoveryState { stage: Stage::Restoring { keeper: Some(_), .. }, since, .. }) => {
                *since = Some(begun);
            }
            _ => {}
        }
    }

    /// Gives the asker what its client has missed, once this shard has seen all that the asker may not get. A socket from another process
    /// asks for that, in the same way.
    pub(crate) fn give_up_if_due(&mut self, key: Key) -> bool {
        let Some(state) = self.tables.sockets.get_mut(key).and_then(state_of_mut) else { return true };
        if let Stage::Arriving(Arriving { since: Some(since), .. }) = &state.stage {
            let is_due = self.recovery.seen.has_all(since);
            if is_due {
                self.tables.ask_far_keeper(key);
            }
            return is_due;
        }
        let Stage::Lost { asker: Some(asker), seen: Some(seen) } = &state.stage else { return true };
        if !self.recovery.seen.has_all(seen) {
            return false;
        }
        let Reserved { asker, offset } = *asker;
        // What came meanwhile may have been more than is kept.
        let missed = (state.events.let_go() == offset).then(|| state.events.take().into());
        let namespace = self.tables.address_of(key);
        self.remove_socket(key);
        if let Some(namespace) = namespace {
            self.tables.answer_missed(&namespace, asker, missed);
        }
        true
    }

    pub(crate) fn restore_from_here(&mut self, key: Key, pid: Sid, offset: Option<Offset>) -> Recovery {
        let Some(namespace) = self.tables.address_of(key) else { return Recovery::Unknown };
        let asker = Asker { node: None, shard: self.tables.env.id, socket: key };
        let found = match self.reserve(Claimed { pid, namespace: &namespace, offset }, asker) {
            Ok(found) => found,
            Err(NotKept::Unknown) => return Recovery::Unknown,
            Err(NotKept::TooOld) => return Recovery::TooMuchMissed,
        };
        let Some(lost) = self.tables.describe_lost(found) else { return Recovery::Unknown };
        let state = self.tables.sockets.get_mut(found).and_then(state_of_mut);
        let (missed, since) =
            state.map(|state| (state.events.take(), state.since.take())).unwrap_or_default();
        let place = self.tables.sockets.get(found).map(|socket| socket.namespace);
        let held = place.map(|namespace| self.tables.hold_places(namespace, &lost)).unwrap_or_default();
        self.remove_socket(found);
        let missed = Some(missed.into());
        self.restore(
            key,
            lost,
            offset,
            Stage::Restoring { keeper: None, offset, is_accepted: false, missed },
        );
        if let Some(state) = self.tables.sockets.get_mut(key).and_then(state_of_mut) {
            state.since = since;
        }
        self.tables.release_places(&held);
        Recovery::Recovered
    }

    pub(crate) fn answer_asker(&mut self, claim: Claimed<'_>, asker: Asker) {
        let (to, keeper) = (asker.socket, self.tables.env.id);
        let found = self.reserve(claim, asker).map(|key| self.tables.describe_lost(key));
        if let Some(node) = asker.node {
            return self.tables.answer_far(claim.namespace, FarAsker::new(node, asker), found);
        }
        let answer = match found {
            Ok(Some(lost)) => RecoveryMessage::Found { to, keeper, lost: Box::new(lost) },
            Ok(None) => RecoveryMessage::NotFound { to, reason: NotKept::Unknown },
            Err(reason) => RecoveryMessage::NotFound { to, reason },
        };
        self.tables.send_recovery(asker.shard, answer);
    }

    pub(crate) fn give_up(
        &mut self,
        pid: Sid,
        (namespace, asker): (Option<&Address>, Asker),
        seen_there: Box<[u64]>,
    ) {
        let key = self.recovery.by_pid.get(&pid).copied();
        let state = key.and_then(|key| self.tables.sockets.get_mut(key)).and_then(state_of_mut);
        match (key, state.map(|state| &mut state.stage)) {
            (Some(key), Some(Stage::Lost { asker: Some(reserved), seen })) if reserved.asker == asker => {
                *seen = Some(seen_there);
                if asker.node.is_some() {
                    let deadline = self.tables.env.now + FAR_SETTLE;
                    self.tables.wheel.arm(TimerOwner::Recovery(key), deadline);
                } else if !self.give_up_if_due(key) {
                    self.recovery().await_seen(key);
                }
            }
            // Its time was over meanwhile.
            _ => match namespace {
                Some(namespace) => self.tables.answer_missed(namespace, asker, None),
                None => {
                    let missed = RecoveryMessage::Missed { to: asker.socket, missed: None };
                    self.tables.send_recovery(asker.shard, missed);
                }
            },
        }
    }
}
