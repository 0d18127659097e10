//! Sockets that come back to another process: who is asked, and which shard hears what is said. See `message/far`.

use rustc_hash::FxHashMap;

use crate::base::ids::{NodeTag, ShardId};
use crate::base::time::Time;
use crate::bus::Channel;
use crate::bus::hub::Hub;
use crate::bus::own::Word;
use crate::bus::questions::QUESTIONS_MAX;
use crate::mesh::ShardMessage;
use crate::mesh::interest::Audience;
use crate::message::far::{FarAsker, FarSaid, FarWord};
use crate::message::recovery::NotKept;
use crate::message::target::Target;

/// How many answers a question still gets, where it is more than one: of processes for an asker here, of shards for one elsewhere.
/// The last one that does not know the socket speaks for all.
#[derive(Debug, Default)]
pub(super) struct Lookups(FxHashMap<FarAsker, usize>);

impl Lookups {
    fn expect(&mut self, asker: FarAsker, answers: usize) {
        if answers > 1 {
            // Whoever is forgotten takes the first answer for the last.
            if self.0.len() >= QUESTIONS_MAX {
                self.0.clear();
            }
            self.0.insert(asker, answers);
        }
    }

    /// Whether an answer that is no socket is the last of its question. One that knows the socket and has not kept enough is.
    pub(super) fn is_last(&mut self, asker: FarAsker, reason: NotKept) -> bool {
        match self.0.get_mut(&asker) {
            Some(left) if *left > 1 && reason == NotKept::Unknown => {
                *left -= 1;
                false
            }
            _ => {
                self.0.remove(&asker);
                true
            }
        }
    }
}

impl Hub {
    /// A shard of this process says something.
    pub(super) fn say_far(&mut self, to: Option<NodeTag>, word: &FarWord, now: Time) {
        match &word.said {
            FarSaid::Ask { .. } if self.left.is_some() => return self.claim_left(to, word),
            FarSaid::Ask { .. } => return self.ask_far(to, word),
            FarSaid::GiveUp { .. } if to == Some(self.me.tag) => return self.read_left(word.asker),
            FarSaid::Release { .. } if to == Some(self.me.tag) => return self.release_left(word.asker),
            FarSaid::NotFound(reason) if !self.lookups.is_last(word.asker, *reason) => return,
            FarSaid::Found { .. } => self.note_moved(now),
            _ => {}
        }
        self.post(to.map_or(Channel::All, Channel::Node), Word::Far(word.clone()));
    }

    /// Asks the other processes who keeps a socket.
    pub(super) fn ask_far(&mut self, to: Option<NodeTag>, word: &FarWord) {
        let asked = match to {
            Some(tag) => self.fleet.with_tag(tag).count(),
            None => self.fleet.len(),
        };
        self.lookups.expect(word.asker, asked);
        if asked == 0 {
            return self.not_found(word.asker, NotKept::Unknown, word.clone());
        }
        self.post(to.map_or(Channel::All, Channel::Node), Word::Far(word.clone()));
    }

    /// Another process says something.
    pub(super) fn hear_far(&mut self, word: FarWord, now: Time) {
        let is_for_us = word.asker.node == self.me.tag;
        match &word.said {
            FarSaid::Ask { pid, .. } => {
                let target = Target { rooms: [pid.as_str()].into_iter().collect(), ..Target::default() };
                let (mut audience, mut shards) = (Audience::default(), Vec::new());
                while let Some(shard) = self.mesh.interest.next(&mut audience, &word.address(), &target) {
                    shards.push(shard);
                }
                self.lookups.expect(word.asker, shards.len());
                for shard in &shards {
                    self.tell(*shard, word.clone());
                }
                if shards.is_empty() {
                    let node = word.asker.node;
                    let said = FarSaid::NotFound(NotKept::Unknown);
                    self.post(Channel::Node(node), Word::Far(FarWord { said, ..word }));
                }
            }
            FarSaid::NotFound(reason) if is_for_us => {
                let (asker, reason) = (word.asker, *reason);
                if self.lookups.is_last(asker, reason) {
                    self.not_found(asker, reason, word);
                }
            }
            FarSaid::Found { .. } if is_for_us => {
                self.lookups.0.remove(&word.asker);
                self.found_elsewhere(word.asker);
                self.note_moved(now);
                self.tell(word.asker.shard(), word);
            }
            FarSaid::Missed(_) if is_for_us => self.tell(word.asker.shard(), word),
            // After all that came before it: that goes through this shard.
            FarSaid::GiveUp { .. } => {
                self.tell(self.mesh.relay().unwrap_or_else(|| self.mesh.asking_shard()), word);
            }
            FarSaid::Release { shard, .. } => self.tell(ShardId(*shard), word),
            FarSaid::NotFound(_) | FarSaid::Found { .. } | FarSaid::Missed(_) => {}
        }
    }

    /// From now on an id may be of another process than it names: the others are told at once, and look for it everywhere.
    pub(super) fn note_moved(&mut self, now: Time) {
        if self.interests.note_moved() {
            self.hello_due = self.hello_due.min(now);
        }
    }

    pub(super) fn tell(&mut self, shard: ShardId, word: FarWord) {
        self.send(shard, ShardMessage::Far(Box::new(word)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slab::Key;
    use crate::bus::ids::event_id;
    use crate::message::recovery::{Asker, Offset};

    fn asker(place: u32) -> FarAsker {
        let socket = Key { index: place, generation: 1 };
        FarAsker::new(NodeTag([1; 3]), Asker { node: None, shard: ShardId(0), socket })
    }

    #[test]
    fn the_last_who_does_not_know_a_socket_speaks_for_all() {
        use NotKept::{TooOld, Unknown};
        let rows: [(usize, &[(NotKept, bool)]); 5] = [
            (0, &[(Unknown, true)]),
            (1, &[(Unknown, true)]),
            (3, &[(Unknown, false), (Unknown, false), (Unknown, true)]),
            (3, &[(Unknown, false), (TooOld, true), (Unknown, true)]),
            (2, &[(TooOld, true)]),
        ];
        for (answers, expected) in rows {
            let mut lookups = Lookups::default();
            lookups.expect(asker(1), answers);
            for (reason, is_last) in expected {
                assert_eq!(lookups.is_last(asker(1), *reason), *is_last, "{answers} {expected:?}");
            }
            assert!(lookups.0.is_empty());
        }
        let mut lookups = Lookups::default();
        for place in 0..=QUESTIONS_MAX as u32 {
            lookups.expect(asker(place), 2);
        }
        assert_eq!(lookups.0.len(), 1);
    }

    #[test]
    fn events_with_a_name_and_those_named_by_their_message_are_never_taken_for_each_other() {
        let offset =
            Offset { node: Some(NodeTag([255; 3])), origin: ShardId(u16::MAX), number: 7, is_local: true };
        let own = offset.event_id();
        assert_ne!(own, Offset { is_local: false, ..offset }.event_id());
        assert_ne!(own, Offset { node: Some(NodeTag([254; 3])), ..offset }.event_id());
        assert_ne!(own, Offset { origin: ShardId(0), ..offset }.event_id());
        assert_ne!(own, event_id([0; 16], 7));
        assert_eq!((own.0 >> 63, event_id([0; 16], 7).0 >> 63), (0, 1));
    }
}
