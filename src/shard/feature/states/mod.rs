//! State rooms: the last value of each key, for dashboards.
//!
//! Every shard holds all values. One shard, chosen by the room's name, puts changes in order and tells the others, so
//! all hold the same. A client that joins the room gets all values at once. Later it gets what has changed, gathered, at most so many
//! times a second. A subscriber that does not keep up gets no changes, so none are queued for it, and all values once it has caught up.

pub(crate) mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::ShardMessage;
use crate::message::state::{StateChange, StateMessage};
use crate::protocol::socketio::event::Args;
use crate::shard::feature::Feature;
use crate::shard::value::encode::frame_event;
use crate::shard::value::session::Link;
use crate::shard::value::shard_key::shard_of_key;
use crate::shard::value::socket::{NOWHERE, SocketEntry, SocketState};
use crate::shard::value::stamps::Shared;
use crate::shard::value::state::{KEY_BYTES_MAX, StateError, StateRoom, entry_len, message};

/// A subscriber that owes more than this has fallen behind.
const BEHIND_BYTES: usize = 16 * 1024;

/// A state room on one shard.
#[derive(Debug)]
pub(crate) struct StateTable {
    namespace: u16,
    room: String,
    options: StateRoom,
    pub(crate) values: BTreeMap<String, String>,
    /// What keys and values take.
    bytes: usize,
    /// Keys that have changed since the last flush.
    changed: BTreeSet<String>,
    /// Subscribers that get everything at the next flush: those who fell behind.
    behind: BTreeSet<Key>,
    flushed: Time,
    /// When to flush next; `NEVER` when nothing has changed.
    due: Time,
    /// Shards that have missed a change; only the ordering shard has any.
    missed: Vec<ShardId>,
    /// Everything as it is sent to whoever joins, until the next change.
    snapshot: Option<SharedFrame>,
    /// On the ordering shard, where other processes have the room as well.
    shared: Option<Box<Shared>>,
}

/// The state rooms of one shard.
#[derive(Debug, Default)]
pub(crate) struct StateTables {
    tables: Vec<StateTable>,
    /// By namespace and room.
    places: FxHashMap<u16, FxHashMap<Box<str>, usize>>,
    /// When the first of them is to be flushed; `NEVER` when nothing has changed in any.
    due: Time,
}

impl StateTables {
    /// When the next room is to be flushed; `NEVER` when none is.
    pub(crate) fn next_flush(&self) -> Time {
        if self.is_empty() { Time::NEVER } else { self.due }
    }

    pub(crate) fn push(&mut self, table: StateTable) {
        if self.tables.is_empty() {
            self.due = Time::NEVER;
        }
        let place = self.tables.len();
        self.places.entry(table.namespace).or_default().insert(table.room.as_str().into(), place);
        self.tables.push(table);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(crate) fn find(&self, namespace: u16, room: &str) -> Option<usize> {
        self.places.get(&namespace)?.get(room).copied()
    }

    pub(crate) fn get(&self, place: usize) -> &StateTable {
        &self.tables[place]
    }

    /// The encoded snapshots that are kept.
    #[cfg(test)]
    pub(crate) fn snapshots(&self) -> Vec<SharedFrame> {
        self.tables.iter().filter_map(|table| table.snapshot.clone()).collect()
    }

    fn apply(&mut self, place: usize, change: StateChange, now: Time) {
        self.tables[place].apply(change, now);
        self.due = self.due.min(self.tables[place].due);
    }

    fn arm(&mut self, place: usize, now: Time) {
        self.tables[place].arm(now);
        self.due = self.due.min(self.tables[place].due);
    }
}

impl StateTable {
    pub(crate) fn new(namespace: u16, room: &str, options: StateRoom, now: Time) -> StateTable {
        StateTable {
            namespace,
            room: room.to_owned(),
            options,
            values: BTreeMap::new(),
            bytes: 0,
            changed: BTreeSet::new(),
            behind: BTreeSet::new(),
            flushed: now,
            due: Time::NEVER,
            missed: Vec::new(),
            snapshot: None,
            shared: None,
        }
    }

    fn check(&self, change: &StateChange) -> Result<(), StateError> {
        let StateChange::Set { key, value } = change else { return Ok(()) };
        if key.len() > KEY_BYTES_MAX {
            return Err(StateError::KeyTooLong);
        }
        let freed = self.values.get(key).map_or(0, |old| entry_len(key, old));
        if self.bytes - freed + entry_len(key, value) > self.options.bytes_max {
            return Err(StateError::TooLarge);
        }
        if self.values.len() >= self.options.keys_max && !self.values.contains_key(key) {
            return Err(StateError::TooManyKeys);
        }
        Ok(())
    }

    fn apply(&mut self, change: StateChange, now: Time) {
        match change {
            StateChange::Set { key, value } => {
                if self.values.get(&key) == Some(&value) {
                    return;
                }
                self.changed.insert(key.clone());
                self.bytes += entry_len(&key, &value);
                self.drop_value(&key);
                self.values.insert(key, value);
            }
            StateChange::Remove { key } => {
                if !self.drop_value(&key) {
                    return;
                }
                self.changed.insert(key);
            }
            StateChange::Replace(values) => {
                self.changed.extend(self.values.keys().cloned());
                self.values = values.into_iter().collect();
                self.bytes = self.values.iter().map(|(key, value)| entry_len(key, value)).sum();
                self.changed.extend(self.values.keys().cloned());
            }
        }
        self.snapshot = None;
        if !self.changed.is_empty() {
            self.arm(now);
        }
    }

    fn drop_value(&mut self, key: &str) -> bool {
        let old = self.values.remove(key);
        self.bytes -= old.as_ref().map_or(0, |old| entry_len(key, old));
        old.is_some()
    }

    fn arm(&mut self, now: Time) {
        self.due = self.due.min(now.max(self.flushed + self.options.period));
    }

    /// The event's arguments: everything, or what has changed.
    fn args(&self, is_all: bool) -> String {
        let mut out = String::from("{");
        let mut push = |key: &str, value: &str| {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(key).to_string());
            out.push(':');
            out.push_str(value);
        };
        if is_all {
            self.values.iter().for_each(|(key, value)| push(key, value));
        } else {
            for key in &self.changed {
                push(key, self.values.get(key).map_or("null", String::as_str));
            }
        }
        out.push_str(if is_all { "},true" } else { "},false" });
        out
    }

    fn event(&self) -> &str {
        self.options.event.as_deref().unwrap_or(&self.room)
    }
}

impl Feature<'_, StateTables> {
    /// Puts a change on its way: to the shard that orders the room's changes, which may be this one.
    pub(crate) fn change(
        &mut self,
        namespace: u16,
        room: &str,
        change: StateChange,
    ) -> Result<(), StateError> {
        let place = self.own.find(namespace, room).ok_or(StateError::NoSuchRoom)?;
        self.own.get(place).check(&change)?;
        let home = shard_of_key(room, self.tables.mesh.len());
        if home == self.tables.env.id {
            self.order(namespace, room, change);
            return Ok(());
        }
        let address = &self.tables.namespaces[namespace].namespace.address;
        let message = ShardMessage::State(Arc::new(message(address, room, change, false)));
        if self.tables.send_to_shard(home, message) { Ok(()) } else { Err(StateError::ShardBusy) }
    }

    /// A change has come from another shard or thread.
    pub(crate) fn receive(&mut self, message: Arc<StateMessage>) {
        let StateMessage { namespace, room, is_ordered, .. } = &*message;
        let number = self.tables.namespaces.find_address(namespace);
        let place = number.and_then(|number| self.own.find(number, room));
        let (Some(number), Some(place)) = (number, place) else {
            tracing::error!(target: SOCKETIO, %namespace, room, "a change to a state room that is not registered is lost");
            return;
        };
        let change = message.change.clone();
        if *is_ordered {
            let now = self.tables.env.now;
            return self.own.apply(place, change, now);
        }
        match self.own.get(place).check(&change) {
            Ok(()) => self.order(number, room, change),
            Err(error) => {
                tracing::error!(target: SOCKETIO, %namespace, room, %error, "a change is refused")
            }
        }
    }

    /// On the room's own shard: makes a change, and tells the others.
    fn order(&mut self, namespace: u16, room: &str, change: StateChange) {
        let Some(place) = self.own.find(namespace, room) else { return };
        let now = self.tables.env.now;
        self.stamp(place, &change);
        self.tell_others(place, change.clone());
        self.own.apply(place, change, now);
    }

    /// Has the other shards make a change as well.
    fn tell_others(&mut self, place: usize, change: StateChange) {
        let now = self.tables.env.now;
        if self.tables.mesh.len() > 1 {
            let StateTable { namespace, room, .. } = self.own.get(place);
            let namespace = *namespace;
            let address = &self.tables.namespaces[namespace].namespace.address;
            let ordered = Arc::new(message(address, room, change, true));
            for shard in self.tables.other_shards() {
                // A shard that has missed one is told everything at the next flush.
                let has_missed = self.own.get(place).missed.contains(&shard);
                if !has_missed && !self.tables.send_to_shard(shard, ShardMessage::State(Arc::clone(&ordered)))
                {
                    self.own.tables[place].missed.push(shard);
                    self.own.arm(place, now);
                }
            }
        }
    }

    /// Tells subscribers what has changed, where it is time.
    pub(crate) fn flush(&mut self) {
        if self.own.next_flush() > self.tables.env.now {
            return;
        }
        for place in 0..self.own.tables.len() {
            if self.own.get(place).due <= self.tables.env.now {
                self.flush_one(place);
            }
        }
        self.own.due = self.own.tables.iter().map(|table| table.due).min().unwrap_or(Time::NEVER);
    }

    fn flush_one(&mut self, place: usize) {
        let now = self.tables.env.now;
        let table = &mut self.own.tables[place];
        table.due = Time::NEVER;
        table.flushed = now;
        let before = std::mem::take(&mut table.behind);
        let namespace = table.namespace;
        let members = self.tables.namespaces[namespace].room_ids.get(table.room.as_str()).copied();
        let members = members.and_then(|room| self.tables.rooms.get(room));
        let (mut keeping, mut caught_up, mut behind) = (Vec::new(), Vec::new(), BTreeSet::new());
        for &index in members.iter().flat_map(|room| &room.members) {
            let is_behind = self.tables.sockets.at(index).is_some_and(|socket| self.is_behind(socket));
            // Seldom is anybody behind: then a member costs no more than this.
            if !is_behind && before.is_empty() {
                keeping.push(index);
                continue;
            }
            let Some(key) = self.tables.sockets.key_at(index) else { continue };
            if is_behind {
                behind.insert(key);
            } else if before.contains(&key) {
                caught_up.push(index);
            } else {
                keeping.push(index);
            }
        }
        if !self.own.get(place).changed.is_empty() {
            if let Some(frame) = self.frame(place, false) {
                self.tables.deliver_places(&keeping, &frame);
            }
            self.own.tables[place].changed.clear();
        }
        if let Some(frame) = (!caught_up.is_empty()).then(|| self.snapshot(place)).flatten() {
            self.tables.deliver_places(&caught_up, &frame);
        }
        self.resend(place);
        let is_unsaid = self.say_changes(place);
        let table = &mut self.own.tables[place];
        table.behind = behind;
        if !table.behind.is_empty() || !table.missed.is_empty() || is_unsaid {
            table.arm(now);
        }
    }

    /// Gives everything to shards that have missed a change.
    fn resend(&mut self, place: usize) {
        for shard in std::mem::take(&mut self.own.tables[place].missed) {
            let table = self.own.get(place);
            let address = &self.tables.namespaces[table.namespace].namespace.address;
            let values = table.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let all = message(address, &table.room, StateChange::Replace(values), true);
            if !self.tables.send_to_shard(shard, ShardMessage::State(Arc::new(all))) {
                self.own.tables[place].missed.push(shard);
            }
        }
    }

    /// A socket has joined a room: if it is a state room, everything is told.
    pub(crate) fn welcome(&mut self, socket: Key, room: &str) {
        let Some(namespace) = self.tables.sockets.get(socket).map(|socket| socket.namespace) else { return };
        let Some(place) = self.own.find(namespace, room) else { return };
        if self.tables.sockets.get(socket).is_some_and(|socket| self.is_behind(socket)) {
            let now = self.tables.env.now;
            self.own.tables[place].behind.insert(socket);
            self.own.arm(place, now);
        } else if let Some(frame) = self.snapshot(place) {
            self.tables.deliver_places(&[socket.index], &frame);
        }
    }

    /// Everything, encoded once for all who join until the next change.
    fn snapshot(&mut self, place: usize) -> Option<SharedFrame> {
        if self.own.get(place).snapshot.is_none() {
            self.own.tables[place].snapshot = self.frame(place, true);
        }
        self.own.get(place).snapshot.clone()
    }

    fn frame(&self, place: usize, is_all: bool) -> Option<SharedFrame> {
        let table = self.own.get(place);
        let name = &self.tables.namespaces[table.namespace].namespace.name;
        let args = table.args(is_all);
        let mut bytes = Vec::with_capacity(args.len() + 64);
        // The event's name was checked when the room was registered.
        frame_event(&mut bytes, name, None, table.event(), &Args::of_elements(&args, &[])).ok()?;
        Some(Arc::new(bytes))
    }

    /// Whether a socket owes so much that it must catch up first.
    fn is_behind(&self, socket: &SocketEntry) -> bool {
        let SocketEntry { state, connection, session, extra, .. } = socket;
        if *state == SocketState::Connecting {
            return extra.as_ref().is_some_and(|extra| extra.held.len() > BEHIND_BYTES);
        }
        let owed = if *connection != NOWHERE {
            self.tables.connections.at(*connection).map_or(0, |connection| connection.outbox.len())
        } else {
            let session = self.tables.sessions.get(*session);
            session
                .filter(|session| matches!(session.link, Link::Polling { .. }))
                .map_or(0, |session| session.backlog.len())
        };
        owed > BEHIND_BYTES
    }
}
