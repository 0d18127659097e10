//! Sockets that are left with the broker as this process ends: see `message/left`.

use std::time::Duration;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::mesh::ShardMessage;
use crate::mesh::link::Said;
use crate::message::far::OffsetText;
use crate::message::left::{LeftEvent, LeftSocket, Passed};
use crate::message::recovery::{Kept, Position};
use crate::shard::core::Core;
use crate::shard::value::socket::{state_of, state_of_mut};

/// How long the end of a shard waits for the broker to take its sockets. The clients of those that it has not taken by then connect anew.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// How often it looks whether there is room again.
pub(crate) const LEAVE_STEP: Duration = Duration::from_millis(10);

impl Core {
    /// What the broker's stream has up to there has been given to this shard, and by the shard through which it comes to the others.
    pub(crate) fn pass(&mut self, position: Position) {
        self.recovery.note_passed(position);
        if self.tables.mesh.relay() == Some(self.tables.env.id) {
            for shard in self.tables.other_shards() {
                // The next one says as much.
                self.tables.send_to_shard(shard, ShardMessage::Passed(position));
            }
        }
    }

    /// A socket goes with its process, and its client may come back to another one.
    pub(crate) fn leave_behind(&mut self, key: Key) {
        if let Some(state) = self.tables.sockets.get_mut(key).and_then(state_of_mut) {
            // One that was about to be restored keeps what it has missed.
            state.join_missed();
        }
        let Some((pid, socket)) = self.describe_left(key) else { return };
        let Some(link) = self.tables.mesh.links.of(&socket.address()) else { return };
        let is_said = link.say(Said::Left { pid, socket: Box::new(socket) }).is_ok();
        (if is_said { &link.stats.sockets_left } else { &link.stats.sockets_given_up }).add(1);
    }

    /// Whether sockets are left with a broker at all.
    pub(crate) fn leaves_sockets(&self) -> bool {
        self.recovery.is_on && self.tables.mesh.links.iter().any(|link| link.keeps_sockets)
    }

    /// Leaves a lost socket behind, the one whose time ends first. False: there is none.
    pub(crate) fn leave_next_lost(&mut self) -> bool {
        let Some((_, key)) = self.recovery.lost.pop_front() else { return false };
        if self.tables.is_lost(key) {
            self.leave_behind(key);
            self.remove_socket(key);
        }
        true
    }

    /// Whether the broker has room for another socket.
    pub(crate) fn may_leave(&self) -> bool {
        self.tables.mesh.links.iter().all(|link| !link.keeps_sockets || link.takes_sockets())
    }

    /// Whether the end of this shard is to wait, because the broker has yet to take what was left. It waits for a while only.
    pub(crate) fn must_wait_to_leave(&mut self) -> bool {
        if self.may_leave() {
            return false;
        }
        let until = *self.stops.leaves_until.get_or_insert(self.tables.env.now + LEAVE_PATIENCE);
        self.tables.env.now < until
    }

    fn describe_left(&self, key: Key) -> Option<(Sid, LeftSocket)> {
        let namespace = self.tables.address_of(key)?;
        let node = self.tables.mesh.links.tag?;
        self.tables.mesh.links.of(&namespace).filter(|link| link.keeps_sockets)?;
        let state = self.tables.sockets.get(key).and_then(state_of)?;
        let lost = self.tables.describe_lost(key)?;
        let socket = LeftSocket {
            endpoint: namespace.endpoint().map(str::to_owned),
            namespace: namespace.name().to_owned(),
            node,
            sid: lost.sid,
            rooms: lost.rooms,
            data: lost.data,
            let_go: state.events.let_go().map(OffsetText::new),
            events: state.events.iter().map(|kept| self.describe_event(kept)).collect(),
            passed: Passed {
                numbers: self.recovery.seen.numbers.to_vec(),
                position: Some(self.recovery.passed).filter(|passed| *passed != Position::default()),
            },
        };
        Some((lost.pid, socket))
    }

    fn describe_event(&self, kept: &Kept) -> LeftEvent {
        let age = self.tables.env.now.since(kept.at).as_millis();
        LeftEvent {
            offset: OffsetText::new(kept.offset),
            id: (kept.id != kept.offset.event_id()).then_some(kept.id),
            age_millis: u32::try_from(age).unwrap_or(u32::MAX),
            frame: (!kept.is_in_stream).then(|| kept.frame.to_vec()),
        }
    }
}
