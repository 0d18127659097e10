//! What other processes say about sockets that come back: see `message/far`.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::buffer::SharedFrame;
use crate::base::ids::{ShardId, Sid};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::address::Address;
use crate::message::far::{FarAsker, FarKept, FarSaid, FarWord};
use crate::message::recovery::{EventId, Kept, LostSocket, NotKept, RecoveryMessage};
use crate::protocol::socketio::frames::FramedEvent;
use crate::shard::run::Shard;
use crate::shard::table::recovery::PATIENCE;
use crate::shard::value::kept::KeptEvents;
use crate::shard::value::recovery::{Arriving, Claimed, FarKeeper, Recovery, Stage};
use crate::shard::value::socket::state_of_mut;
use crate::shard::value::wheel::TimerOwner;

impl Shard {
    /// Another process says something, of which this shard is to know.
    pub(crate) fn recover_far(&mut self, word: FarWord) {
        let (namespace, asker) = (word.address(), word.asker);
        match word.said {
            FarSaid::Ask { pid, offset } => {
                let offset = match offset.map(|text| text.parse()) {
                    None => None,
                    Some(Some(offset)) => Some(offset),
                    Some(None) => {
                        let found = Err(NotKept::TooOld);
                        return self.core.borrow().tables.answer_far(&namespace, asker, found);
                    }
                };
                self.end_present(pid, &namespace, None);
                let claim = Claimed { pid, namespace: &namespace, offset };
                self.core.borrow_mut().answer_asker(claim, asker.asker());
            }
            FarSaid::Found { keeper, shard, lost } => {
                let keeper = FarKeeper { node: keeper, shard: ShardId(shard) };
                self.arrive(asker, keeper, lost, &namespace);
            }
            FarSaid::NotFound(reason) => {
                let asked = self.core.borrow_mut().tables.count_answer(asker.socket(), reason);
                if let Some(auth) = asked {
                    self.ask_connect_handlers(asker.socket(), 0, &auth);
                }
            }
            FarSaid::GiveUp { pid, shard } => self.pass_on(pid, ShardId(shard), asker, namespace),
            FarSaid::Missed(missed) => self.arrived(asker.socket(), missed, &namespace),
            FarSaid::Release { pid, .. } => self.core.borrow_mut().recovery().unreserve(pid),
        }
    }

    /// The socket that a client claims was found in another process: the new one becomes it.
    fn arrive(&mut self, asker: FarAsker, keeper: FarKeeper, lost: LostSocket, namespace: &Address) {
        let key = asker.socket();
        let mut core = self.core.borrow_mut();
        let is_there = core.tables.address_of(key).as_ref() == Some(namespace);
        let asked = if is_there { core.tables.end_asking(key) } else { None };
        let Some((auth, offset)) = asked else {
            let said = FarSaid::Release { pid: lost.pid, shard: keeper.shard.0 };
            return core.tables.say_far(namespace, keeper.node, FarWord::new(namespace, asker, said));
        };
        core.restore(key, lost, offset, Stage::Arriving(Arriving { offset, keeper, since: None }));
        if let Some(socket) = core.tables.sockets.get_mut(key) {
            socket.extra_mut().connect_step = Some((0, auth));
        }
        core.tables.count_waiting(key);
        let deadline = core.tables.env.now + PATIENCE;
        core.tables.wheel.arm(TimerOwner::Recovery(key), deadline);
        if !core.give_up_if_due(key) {
            core.recovery().await_seen(key);
        }
    }

    /// Another process hears the rooms of a socket that a shard of this one keeps. What came by the queue before that has passed this shard,
    /// through which all of that goes, and has a number by now.
    fn pass_on(&mut self, pid: Sid, keeper: ShardId, asker: FarAsker, namespace: Address) {
        let mut core = self.core.borrow_mut();
        let (asker, seen) = (asker.asker(), core.tables.mesh.published.begun());
        if keeper == core.tables.env.id {
            return core.give_up(pid, (Some(&namespace), asker), seen);
        }
        let namespace = Some(namespace);
        core.tables.send_recovery(keeper, RecoveryMessage::GiveUp { pid, asker, namespace, seen });
    }

    /// The other process has given the socket up: what its client has missed is complete, and its connect handlers are asked.
    fn arrived(&mut self, key: Key, missed: Option<Vec<FarKept>>, namespace: &Address) {
        let own = {
            let mut core = self.core.borrow_mut();
            let now = core.tables.env.now;
            let Some(state) = core.tables.sockets.get_mut(key).and_then(state_of_mut) else { return };
            let Stage::Arriving(Arriving { offset, .. }) = state.stage else { return };
            let given = missed.and_then(|missed| read_missed(missed, namespace, now));
            // With a gap, what came here meanwhile is more than is kept.
            let is_whole = state.events.let_go() == offset;
            given.filter(|_| is_whole).map(|mut missed| {
                let ids: FxHashSet<EventId> = missed.iter().map(|kept| kept.id).collect();
                let gathered = state.events.take().into_iter().filter(|kept| !ids.contains(&kept.id));
                add_gathered(&mut missed, gathered);
                state.events = KeptEvents::after(offset, VecDeque::new());
                state.note_given(ids, now);
                state.stage =
                    Stage::Restoring { keeper: None, offset, is_accepted: false, missed: Some(missed) };
            })
        };
        if own.is_none() {
            return self.fail_restoring(key);
        }
        let auth = {
            let mut core = self.core.borrow_mut();
            core.tables.set_outcome(key, Recovery::Recovered);
            let extra = core.tables.sockets.get_mut(key).map(|socket| socket.extra_mut());
            let step = extra.and_then(|extra| extra.connect_step.take());
            core.tables.count_waiting(key);
            step.map(|(_, auth)| auth).unwrap_or_default()
        };
        self.ask_connect_handlers(key, 0, &auth);
    }
}

/// What another process has kept, if all of it can be read. It is given to a client as it is, so it must be events of the client's
/// namespace, with offsets of a process.
fn read_missed(missed: Vec<FarKept>, namespace: &Address, now: Time) -> Option<Vec<Kept>> {
    let read = |FarKept { offset, id, frame }: FarKept| {
        let offset = offset.parse().filter(|offset| offset.node.is_some())?;
        let is_own = FramedEvent::split(&frame).is_ok_and(|event| event.namespace == namespace.name());
        is_own.then(|| Kept { offset, id, is_in_stream: false, at: now, frame: SharedFrame::new(frame) })
    };
    missed.into_iter().map(read).collect()
}

/// Adds what came here meanwhile to what the keeper had. It is later, but for what the keeper had not because it was cut off for a while:
/// that comes before the later events of the same publisher.
fn add_gathered(missed: &mut Vec<Kept>, gathered: impl Iterator<Item = Kept>) {
    let mut newest: FxHashMap<u64, u64> = FxHashMap::default();
    for EventId(publisher, number) in missed.iter().map(|kept| kept.id) {
        let newest = newest.entry(publisher).or_default();
        *newest = number.max(*newest);
    }
    for kept in gathered {
        let EventId(publisher, number) = kept.id;
        let has_later = newest.get(&publisher).is_some_and(|newest| *newest > number);
        let is_later = |other: &Kept| other.id.0 == publisher && other.id.1 > number;
        match has_later.then(|| missed.iter().position(is_later)).flatten() {
            Some(place) => missed.insert(place, kept),
            None => missed.push(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeTag;
    use crate::message::far::OffsetText;
    use crate::message::recovery::Offset;
    use crate::protocol::socketio::frames::frame_text;

    #[test]
    fn what_was_gathered_has_its_place_in_its_publishers_order() {
        let kept = |(publisher, number): (u64, u64)| Kept {
            offset: Offset { node: None, origin: ShardId(0), number, is_local: false },
            id: EventId(publisher, number),
            is_in_stream: false,
            at: Time(0),
            frame: SharedFrame::new(Vec::new()),
        };
        type Ids<'a> = &'a [(u64, u64)];
        let rows: [(Ids<'_>, Ids<'_>, Ids<'_>); 4] = [
            (&[], &[(1, 2), (1, 3)], &[(1, 2), (1, 3)]),
            (&[(1, 1), (2, 9)], &[(1, 2), (2, 10)], &[(1, 1), (2, 9), (1, 2), (2, 10)]),
            (
                &[(1, 1), (2, 9), (1, 4), (1, 5)],
                &[(1, 2), (1, 3)],
                &[(1, 1), (2, 9), (1, 2), (1, 3), (1, 4), (1, 5)],
            ),
            (&[(1, 4)], &[(2, 1), (1, 3)], &[(1, 3), (1, 4), (2, 1)]),
        ];
        for (missed, gathered, expected) in rows {
            let mut all: Vec<Kept> = missed.iter().copied().map(kept).collect();
            add_gathered(&mut all, gathered.iter().copied().map(kept));
            let ids: Vec<_> = all.iter().map(|kept| (kept.id.0, kept.id.1)).collect();
            assert_eq!(ids, expected);
        }
    }

    #[test]
    fn a_hand_over_is_read_whole_or_not_at_all() {
        let kept = |node: Option<NodeTag>, text: &str| {
            let offset = Offset { node, origin: ShardId(1), number: 7, is_local: false };
            let mut frame = Vec::new();
            frame_text(&mut frame, text);
            FarKept { offset: OffsetText::new(offset), id: offset.event_id(), frame }
        };
        let tag = Some(NodeTag([1, 2, 3]));
        let sound = || kept(tag, "42/chat,[\"n\",1,\"010203-1.7\"]");
        let rows = [
            (vec![], true),
            (vec![sound(), sound()], true),
            (vec![sound(), kept(None, "42/chat,[\"n\",1]")], false),
            (vec![sound(), kept(tag, "42[\"n\",1]")], false),
            (vec![kept(tag, "43/chat,1[\"n\"]"), sound()], false),
            (vec![FarKept { frame: b"\x81\x7e".to_vec(), ..sound() }], false),
            (vec![FarKept { frame: Vec::new(), ..sound() }], false),
        ];
        let namespace = Address::new(Some("/x/"), "/chat");
        for (missed, is_read) in rows {
            let shown = format!("{missed:?}");
            let read = read_missed(missed.clone(), &namespace, Time(5));
            assert_eq!(read.as_ref().map(Vec::len), is_read.then_some(missed.len()), "{shown}");
            assert!(read.into_iter().flatten().all(|kept| kept.at == Time(5)));
        }
    }
}
