//! State rooms of several processes: what the shards of one say goes to those of the others.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::de::IgnoredAny;

use crate::base::ids::ShardId;
use crate::base::time::Time;
use crate::bus::Channel;
use crate::bus::hub::Hub;
use crate::bus::own::{NodeId, RoomWord, Word};
use crate::mesh::ShardMessage;
use crate::message::address::Address;
use crate::message::state::{StateNews, StateWord};

/// How often the values of processes are compared; also when they meet.
const STATES_EVERY: Duration = Duration::from_secs(5);

impl Hub {
    /// This process says something of a state room.
    pub(super) fn say_state(&mut self, news: &StateNews) {
        let StateNews { namespace, room, peer, what } = news;
        let channel = peer.map_or(Channel::All, Channel::Node);
        let word = RoomWord {
            endpoint: namespace.endpoint(),
            namespace: namespace.name(),
            room,
            what: what.clone(),
        };
        self.post_all([channel], Word::State(word));
    }

    /// Another process has said something of one.
    pub(super) fn hear_state(&mut self, word: RoomWord<'_>, from: NodeId) {
        if !is_sound(&word.what) {
            return self.unreadable(&Channel::All, "a value of a state room is no JSON");
        }
        let news = StateNews {
            namespace: Address::new(word.endpoint, word.namespace),
            room: word.room.to_owned(),
            peer: self.fleet.tag(from),
            what: word.what,
        };
        // Whichever shard gets it knows whose it is. It is always the same one, so that the order stays.
        self.send(self.mesh.living(0), ShardMessage::StateNews(Box::new(news)));
    }

    /// Has the shards tell the others what values they have, if it is time for that.
    pub(super) fn compare_states(&mut self, now: Time) {
        if self.states_due > now || self.fleet.len() == 0 {
            return;
        }
        self.states_due = now + STATES_EVERY;
        self.stats.processes.store(self.fleet.len() as u64, Relaxed);
        for shard in 0..self.mesh.len() {
            self.send(ShardId(shard as u16), ShardMessage::TellStates);
        }
    }
}

/// Whether values are JSON, and not the one that means that there is none.
fn is_sound(what: &StateWord) -> bool {
    let StateWord::Entries(entries) = what else { return true };
    let mut values = entries.iter().filter_map(|entry| entry.value.as_deref());
    values.all(|value| value.trim() != "null" && serde_json::from_str::<IgnoredAny>(value).is_ok())
}

#[cfg(test)]
mod tests {
    use crate::message::state::{Stamp, StateEntry};

    use super::*;

    #[test]
    fn values_of_others_are_json_or_not_taken() {
        for (value, expected) in [
            ("1", true),
            ("{\"a\":[]}", true),
            ("null", false),
            (" null", false),
            ("", false),
            ("1}", false),
            ("{", false),
        ] {
            let stamp = Stamp { counter: 1, process: 1 };
            let entry =
                |value: Option<&str>| StateEntry { key: "a".into(), value: value.map(str::to_owned), stamp };
            assert_eq!(
                is_sound(&StateWord::Entries(vec![entry(None), entry(Some(value))])),
                expected,
                "{value:?}"
            );
        }
    }
}
