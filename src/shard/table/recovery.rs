//! What each socket has for its recovery, and what other shards are asked about it.

use std::time::Duration;

use crate::base::buffer::SharedFrame;
use crate::base::ids::{ShardId, Sid};
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::mesh::ShardMessage;
use crate::mesh::interest::Audience;
use crate::message::address::Address;
use crate::message::recovery::{Asker, Kept, LostSocket, NotKept, Offset, RecoveryMessage};
use crate::message::target::Target;
use crate::shard::table::Tables;
use crate::shard::value::kinds::RecoveryOutcome;
use crate::shard::value::recovery::{Recovery, RecoveryState, Reserved, Stage};
use crate::shard::value::socket::{state_of, state_of_mut};
use crate::shard::value::wheel::TimerOwner;

/// How long shards, and processes, may take to answer each other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long other processes may take to say who keeps a socket. One that was killed is thought to be there for some seconds, and its
/// clients are not to wait for it.
const FAR_PATIENCE: Duration = Duration::from_millis(1500);

impl Tables {
    pub(crate) fn describe_lost(&self, key: Key) -> Option<LostSocket> {
        let socket = self.sockets.get(key)?;
        let extra = socket.extra.as_ref()?;
        let rooms = self.rooms_of(key).into_iter().skip(1).collect();
        let (state, data) = (state_of(socket)?, extra.data.clone());
        Some(LostSocket { pid: state.pid, sid: socket.sid, rooms, data, had: state.had.clone() })
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

    /// Notes how the recovery ended; false, which callers return, because no other shard is being waited for.
    pub(crate) fn set_outcome(&mut self, key: Key, outcome: Recovery) -> bool {
        let Some(socket) = self.sockets.get_mut(key) else { return false };
        let sid = socket.sid;
        if let Some(state) = state_of_mut(socket) {
            state.outcome = outcome;
            // Who is recovered is counted once it is let in.
            if let Some(outcome) = RecoveryOutcome::of(outcome) {
                self.env.counters.meters.recoveries.count(outcome);
            }
            tracing::info!(target: SOCKETIO, sid = %sid.brief(), ?outcome, "a client asks for the recovery of its connection");
        }
        false
    }

    /// The namespace that a socket is in, or asks to be let into.
    pub(crate) fn address_of(&self, key: Key) -> Option<Address> {
        let socket = self.sockets.get(key)?;
        Some(self.namespaces[socket.namespace].namespace.address.clone())
    }

    /// The auth and the offset of a client for which shards were asked; nothing if they were not, or it is settled.
    pub(crate) fn end_asking(&mut self, key: Key) -> Option<(String, Option<Offset>)> {
        let socket = self.sockets.get_mut(key)?;
        let state = state_of_mut(socket)?;
        let Stage::Asking { offset, .. } = state.stage else { return None };
        state.stage = Stage::Present;
        let step = socket.extra_mut().connect_step.take();
        self.count_waiting(key);
        Some((step.map(|(_, auth)| auth).unwrap_or_default(), offset))
    }

    /// A shard does not keep the socket. The auth of the client when that was the last.
    pub(crate) fn count_answer(&mut self, key: Key, reason: NotKept) -> Option<String> {
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

    /// Takes in what a socket has missed. False if its events are lost; `None` if the socket does not wait for any.
    pub(crate) fn add_missed(&mut self, key: Key, mut events: Option<Vec<Kept>>) -> Option<bool> {
        let state = self.sockets.get_mut(key).and_then(state_of_mut)?;
        // The rest has come here, or is on its way.
        if let Some(events) = &mut events {
            let own = self.mesh.links.tag;
            let is_far = |kept: &Kept| kept.offset.node != own;
            events.retain(|kept| kept.offset.is_local || is_far(kept) || state.is_of_keeper(kept.offset));
        }
        let Stage::Restoring { keeper, missed, .. } = &mut state.stage else { return None };
        *keeper = None;
        let is_there = events.is_some();
        *missed = events;
        Some(is_there)
    }

    /// Whether a socket that is let in waits for its keeper.
    pub(crate) fn is_awaiting_keeper(&self, key: Key) -> bool {
        let state = self.sockets.get(key).and_then(state_of);
        matches!(
            state.map(|state| &state.stage),
            Some(Stage::Restoring { keeper: Some(_), is_accepted: true, .. } | Stage::Arriving(_))
        )
    }

    /// Whether a lost socket is to be given to another process, which hears its rooms.
    pub(crate) fn is_far_lost(&self, key: Key) -> bool {
        let state = self.sockets.get(key).and_then(state_of);
        let stage = state.map(|state| &state.stage);
        matches!(
            stage,
            Some(Stage::Lost {
                asker: Some(Reserved { asker: Asker { node: Some(_), .. }, .. }),
                seen: Some(_)
            })
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

    pub(crate) fn send_recovery(&mut self, to: ShardId, message: RecoveryMessage) -> bool {
        self.send_to_shard(to, ShardMessage::Recovery(Box::new(message)))
    }

    /// Whether a socket that is let in must first be given what it has missed; that is asked for.
    pub(crate) fn must_await_missed(&mut self, key: Key) -> bool {
        let Some(state) = self.sockets.get_mut(key).and_then(state_of_mut) else { return false };
        let (pid, seen) = (state.pid, state.since.clone().unwrap_or_default());
        let Stage::Restoring { keeper: Some(keeper), is_accepted, .. } = &mut state.stage else {
            return false;
        };
        let keeper = *keeper;
        if !std::mem::replace(is_accepted, true) {
            let asker = Asker { node: None, shard: self.env.id, socket: key };
            self.send_recovery(keeper, RecoveryMessage::GiveUp { pid, asker, namespace: None, seen });
            let deadline = self.env.now + PATIENCE;
            self.wheel.arm(TimerOwner::Recovery(key), deadline);
        }
        true
    }

    pub(crate) fn ask_others(&mut self, key: Key, pid: Sid, offset: Option<Offset>, auth: &str) -> bool {
        let Some(namespace) = self.address_of(key) else { return false };
        let asker = Asker { node: None, shard: self.env.id, socket: key };
        let is_far = self.ask_far(&namespace, asker, (pid, offset));
        let mut left = usize::from(is_far);
        // The private id names its keeper, unless the socket has come back elsewhere before: then that shard has said so.
        let target = Target { rooms: [pid.as_str()].into_iter().collect(), ..Target::default() };
        let mut audience = Audience::but(self.env.id);
        while let Some(shard) = self.mesh.interest.next(&mut audience, &namespace, &target) {
            let namespace = namespace.clone();
            left += usize::from(
                self.send_recovery(shard, RecoveryMessage::Ask { pid, namespace, offset, asker }),
            );
        }
        if left == 0 {
            return self.set_outcome(key, Recovery::Unknown);
        }
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.extra_mut().connect_step = Some((0, auth.to_owned()));
            if let Some(state) = state_of_mut(socket) {
                state.stage = Stage::Asking { left, offset, outcome: Recovery::Unknown };
            }
        }
        self.count_waiting(key);
        // Where sockets may be left with the broker, it is known there who does not answer.
        let knows_left = self.mesh.links.of(&namespace).is_some_and(|link| link.keeps_sockets);
        let patience = if is_far && !knows_left { FAR_PATIENCE } else { PATIENCE };
        let deadline = self.env.now + patience;
        self.wheel.arm(TimerOwner::Recovery(key), deadline);
        true
    }
}
