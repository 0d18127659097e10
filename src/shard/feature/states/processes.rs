//! State rooms that several processes have: what this process says of its changes, and what it takes of the others'.
//!
//! The shard that orders a room's changes speaks for its process. Changes are said at the room's next flush, each key once. Every few
//! seconds, and when processes meet, each tells a digest of its values; who has another one asks for the whole, and takes what
//! is newer. So what is lost on the way is made up for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{NodeTag, ShardId};
use crate::base::log::SOCKETIO;
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::mesh::link::{LinkError, Said};
use crate::message::state::{StateChange, StateEntry, StateNews, StateWord};
use crate::shard::feature::Feature;
use crate::shard::feature::states::{StateTable, StateTables};
use crate::shard::value::shard_key::shard_of_key;
use crate::shard::value::stamps::{Shared, Stamps};
use crate::shard::value::state::{KEY_BYTES_MAX, entry_len};

/// How long the whole that one process was asked for is waited for, before another is asked.
const WHOLE_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of keys and values in one message, about.
const NEWS_BYTES_MAX: usize = 256 * 1024;

/// Changes that other shards are told one by one; of more they are given everything.
const CHANGES_MAX: usize = 16;

/// What others bring may exceed a room's bounds so many times, as each process keeps to them by itself.
pub(crate) const OTHERS_FACTOR: usize = 2;

impl StateTable {
    /// Whether one more entry of another process has room.
    fn has_room(&self, key: &str, value: &str) -> bool {
        let freed = self.values.get(key).map_or(0, |old| entry_len(key, old));
        self.bytes - freed + entry_len(key, value) <= OTHERS_FACTOR * self.options.bytes_max
            && (self.values.len() < OTHERS_FACTOR * self.options.keys_max || self.values.contains_key(key))
    }
}

impl Feature<'_, StateTables> {
    /// A change was asked for in this process, and is about to be made.
    pub(super) fn stamp(&mut self, place: usize, change: &StateChange) {
        let now = self.tables.env.now;
        let table = self.own.get(place);
        let (key, is_removed) = match change {
            StateChange::Set { key, value } if table.values.get(key) != Some(value) => (key, false),
            StateChange::Remove { key } if table.values.contains_key(key) => (key, true),
            _ => return,
        };
        if let Some(shared) = self.shared(place) {
            shared.stamps.note_own(key, is_removed, now);
            shared.unsaid.insert(key.clone());
        }
    }

    /// Tells the others what was changed here. True: some of it waits.
    pub(super) fn say_changes(&mut self, place: usize) -> bool {
        let unsaid = match &mut self.own.tables[place].shared {
            Some(shared) if !shared.unsaid.is_empty() => std::mem::take(&mut shared.unsaid),
            _ => return false,
        };
        let refused = self.say_entries(place, unsaid, None);
        let is_waiting = !refused.is_empty();
        if let Some(shared) = &mut self.own.tables[place].shared {
            shared.unsaid = refused;
        }
        is_waiting
    }

    /// Tells all others which values this process has, in short, for the rooms whose changes this shard orders.
    pub(crate) fn tell_digests(&mut self) {
        let now = self.tables.env.now;
        for place in 0..self.own.tables.len() {
            if self.home(&self.own.get(place).room) != self.tables.env.id {
                continue;
            }
            let Some(shared) = self.shared(place) else { continue };
            shared.stamps.forget_old(now);
            let digest = shared.stamps.digest();
            // One that is refused is made up for by the next.
            let _ = self.say(place, None, StateWord::Digest(digest));
        }
    }

    /// Another process has said something of a room.
    pub(crate) fn hear(&mut self, news: Box<StateNews>) {
        let home = self.home(&news.room);
        if home != self.tables.env.id {
            self.tables.send_to_shard(home, ShardMessage::StateNews(news));
            return;
        }
        let StateNews { namespace, room, peer, what } = *news;
        let number = self.tables.namespaces.find_address(&namespace);
        let Some(place) = number.and_then(|number| self.own.find(number, &room)) else {
            tracing::debug!(target: SOCKETIO, %namespace, room, "another process has a state room that this one has not");
            return;
        };
        match what {
            StateWord::Digest(digest) => self.hear_digest(place, digest, peer),
            StateWord::Want => self.say_whole(place, peer),
            StateWord::Entries(entries) => self.merge(place, entries),
        }
    }

    fn hear_digest(&mut self, place: usize, digest: u64, peer: Option<NodeTag>) {
        let now = self.tables.env.now;
        let Some(shared) = self.shared(place) else { return };
        if shared.stamps.digest() != digest && shared.asked_until <= now && peer.is_some() {
            shared.asked_until = now + WHOLE_PATIENCE;
            let _ = self.say(place, peer, StateWord::Want);
        }
    }

    fn say_whole(&mut self, place: usize, peer: Option<NodeTag>) {
        let (Some(shared), Some(_)) = (self.shared(place), peer) else { return };
        let keys = shared.stamps.keys().cloned().collect();
        // Who does not get all of it sees another digest next time, and asks again.
        self.say_entries(place, keys, peer);
    }

    /// Takes what is newer than what is known here.
    fn merge(&mut self, place: usize, entries: Vec<StateEntry>) {
        let now = self.tables.env.now;
        let mut changes = Vec::new();
        let mut refused = 0;
        for StateEntry { key, value, stamp } in entries {
            let table = self.own.get(place);
            let fits =
                key.len() <= KEY_BYTES_MAX && value.as_ref().is_none_or(|value| table.has_room(&key, value));
            if !fits {
                refused += 1;
                continue;
            }
            let Some(shared) = self.shared(place) else { return };
            if !shared.stamps.take(&key, stamp, value.is_none(), now) {
                continue;
            }
            // The other's is newer than what was to be said.
            shared.unsaid.remove(&key);
            let change = match value {
                Some(value) => StateChange::Set { key, value },
                None => StateChange::Remove { key },
            };
            changes.push(change.clone());
            self.own.apply(place, change, now);
        }
        if refused > 0 {
            let room = &self.own.get(place).room;
            tracing::error!(target: SOCKETIO, room, refused, "other processes have more in a state room than twice what its bounds allow: the same bounds belong into all processes");
        }
        self.tell_shards(place, changes);
    }

    /// The other shards of this process make the same changes.
    fn tell_shards(&mut self, place: usize, changes: Vec<StateChange>) {
        if changes.len() <= CHANGES_MAX {
            changes.into_iter().for_each(|change| self.tell_others(place, change));
            return;
        }
        let now = self.tables.env.now;
        for shard in self.tables.other_shards() {
            if !self.own.get(place).missed.contains(&shard) {
                self.own.tables[place].missed.push(shard);
            }
        }
        self.own.arm(place, now);
    }

    /// Says the newest change of each of these keys. Returns those that the message queue does not take now.
    fn say_entries(
        &mut self,
        place: usize,
        keys: BTreeSet<String>,
        peer: Option<NodeTag>,
    ) -> BTreeSet<String> {
        let mut left = keys.into_iter().peekable();
        while left.peek().is_some() {
            let (mut entries, mut said, mut bytes) = (Vec::new(), Vec::new(), 0);
            let table = self.own.get(place);
            let Some(shared) = &table.shared else { break };
            while bytes < NEWS_BYTES_MAX
                && let Some(key) = left.next()
            {
                let Some(stamp) = shared.stamps.get(&key) else { continue };
                let value = table.values.get(&key).cloned();
                bytes += key.len() + value.as_ref().map_or(0, String::len);
                said.push(key.clone());
                entries.push(StateEntry { key, value, stamp });
            }
            if let Err(LinkError::Full) = self.say(place, peer, StateWord::Entries(entries)) {
                return said.into_iter().chain(left).collect();
            }
        }
        BTreeSet::new()
    }

    fn say(&self, place: usize, peer: Option<NodeTag>, what: StateWord) -> Result<(), LinkError> {
        let table = self.own.get(place);
        let namespace = self.tables.namespaces[table.namespace].namespace.address.clone();
        let Some(link) = self.tables.mesh.links.of(&namespace) else { return Ok(()) };
        // Where nobody is, nobody is told. Who comes is told when it is met.
        if !link.has_company() {
            return Ok(());
        }
        link.say(Said::State(Arc::new(StateNews { namespace, room: table.room.clone(), peer, what })))
    }

    /// What the room has beside its values; none if no message queue joins other processes.
    fn shared(&mut self, place: usize) -> Option<&mut Shared> {
        let Feature { own, tables } = self;
        let table = &mut own.tables[place];
        if table.shared.is_none() {
            tables.mesh.links.of(&tables.namespaces[table.namespace].namespace.address)?;
            let stamps = Stamps::new(tables.mesh.links.process);
            let (unsaid, asked_until) = (BTreeSet::new(), Time(0));
            table.shared = Some(Box::new(Shared { stamps, unsaid, asked_until }));
        }
        table.shared.as_deref_mut()
    }

    fn home(&self, room: &str) -> ShardId {
        shard_of_key(room, self.tables.mesh.len())
    }
}
