//! State rooms: the last value of each key, for dashboards.
//!
//! Every shard holds all values. One shard, chosen by the room's name, puts changes in order and tells the others, so
//! all hold the same. Who joins the room gets all values at once; later what has changed, gathered, at most so many times a
//! second. A subscriber that does not keep up is left out, and gets all values when it has caught up: it costs no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::{Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::state::{StateChange, StateMessage};
use crate::protocol::socketio::encode::is_reserved_event;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::raw_json::RawJson;
use crate::protocol::surrogates::read_json;
use crate::shard::core::{Core, NOWHERE, SharedCore};
use crate::shard::encode::frame_event;
use crate::shard::engine::shard_of_key;
use crate::shard::session::Link;
use crate::shard::socket::{SocketEntry, SocketState};

/// A subscriber that owes more than this has fallen behind.
const BEHIND_BYTES: usize = 16 * 1024;

/// A key is a name, such as a stock's.
const KEY_BYTES_MAX: usize = 256;

/// A state room as it is registered: how often its subscribers hear of changes, and how much it may hold.
///
/// Subscribers are the members of the room of that name. They hear the event named like the room, with two arguments: an
/// object of keys and values, where `null` means that the key is gone, and whether it is everything
/// (`true`, at the beginning) or what has changed.
///
/// ```
/// use std::time::Duration;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server, StateRoom};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.state_room("prices", StateRoom::max_hz(10.0));
///     io.on("watch", |cx: &mut Context| cx.join("prices"));
/// });
/// let server = TestServer::new(server).unwrap();
/// server.handle().state("/", "prices").set("BTC", &64_000).unwrap();
///
/// let page = server.connect("/").unwrap();
/// page.emit("watch", ());
/// assert_eq!(page.received()[0].to_string(), r#"["prices",{"BTC":64000},true]"#);
///
/// for price in 64_001..=64_100 {
///     server.handle().state("/", "prices").set("BTC", &price).unwrap();
/// }
/// server.advance(Duration::from_millis(100));
/// assert_eq!(page.received().last().unwrap().to_string(), r#"["prices",{"BTC":64100},false]"#);
/// ```
#[derive(Clone, Debug)]
pub struct StateRoom {
    period: Duration,
    event: Option<String>,
    keys_max: usize,
    bytes_max: usize,
}

impl StateRoom {
    /// A room whose subscribers hear of changes at most so many times a second.
    pub fn max_hz(max_hz: f64) -> StateRoom {
        let period = Duration::try_from_secs_f64(1.0 / max_hz).unwrap_or(Duration::MAX);
        StateRoom { period, event: None, keys_max: 10_000, bytes_max: 1024 * 1024 }
    }

    /// The event's name. Default: the room's.
    pub fn event(mut self, event: impl Into<String>) -> StateRoom {
        self.event = Some(event.into());
        self
    }

    /// Keys that the room may hold. Default 10,000.
    pub fn keys_max(mut self, keys_max: usize) -> StateRoom {
        self.keys_max = keys_max;
        self
    }

    /// Bytes that keys and values may have together as JSON: what one who joins is sent. It has to fit into a connection's
    /// outbox. Default 1 MiB.
    pub fn bytes_max(mut self, bytes_max: usize) -> StateRoom {
        self.bytes_max = bytes_max;
        self
    }

    /// Says what cannot be.
    pub(crate) fn validate(&self, room: &str) -> Result<(), String> {
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.period) {
            return Err(format!("state room {room:?}: max_hz lies between 1/3600 and 1000"));
        }
        let event = self.event.as_deref().unwrap_or(room);
        if is_reserved_event(event) {
            return Err(format!("state room {room:?}: {event:?} is no event that a server can send"));
        }
        Ok(())
    }
}

/// Why a change to a state room was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// `io.state_room` has not registered it in this namespace.
    NoSuchRoom,
    /// The key has more than 256 bytes.
    KeyTooLong,
    /// With it, the room would hold more than `bytes_max`.
    TooLarge,
    /// The room holds `keys_max` keys.
    TooManyKeys,
    /// The value is no JSON.
    NotJson,
    /// The server does not run yet.
    NotRunning,
    /// The inbox of the shard that orders the room's changes is full.
    ShardBusy,
}

impl std::fmt::Display for StateError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            StateError::NoSuchRoom => {
                "no state room of this name is registered in the namespace: call io.state_room"
            }
            StateError::KeyTooLong => "a key of a state room has at most 256 bytes",
            StateError::TooLarge => "with this value the state room would hold more than its bytes_max",
            StateError::TooManyKeys => "the state room holds keys_max keys",
            StateError::NotJson => "the value is no JSON",
            StateError::NotRunning => "the server does not run yet",
            StateError::ShardBusy => "the shard that keeps the state room is too busy",
        })
    }
}

impl std::error::Error for StateError {}

/// One state room, to set and to read: see [`StateRoom`].
#[derive(Debug)]
pub struct State<'a> {
    origin: Origin<'a>,
    room: &'a str,
}

enum Origin<'a> {
    Shard { core: &'a SharedCore, namespace: u16 },
    Outside { mesh: &'a Mesh, address: Address },
}

impl std::fmt::Debug for Origin<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Origin::Shard { .. } => "Shard",
            Origin::Outside { .. } => "Outside",
        })
    }
}

impl<'a> State<'a> {
    pub(crate) fn here(core: &'a SharedCore, namespace: u16, room: &'a str) -> State<'a> {
        State { origin: Origin::Shard { core, namespace }, room }
    }

    pub(crate) fn outside(mesh: &'a Mesh, address: Address, room: &'a str) -> State<'a> {
        State { origin: Origin::Outside { mesh, address }, room }
    }

    /// Sets a key's value; `null` removes the key. It takes effect a moment later, on all shards in the same order.
    ///
    /// # Errors
    /// [`StateError`]. From another thread the bounds and the room's existence are not known: what they refuse there is
    /// logged by the shard.
    pub fn set(&self, key: &str, value: &impl Serialize) -> Result<(), StateError> {
        let value = RawJson::from_value(value).map_err(|_| StateError::NotJson)?;
        // A page could not tell it from a key that is gone.
        if value.as_str() == "null" {
            return self.remove(key);
        }
        self.send(StateChange::Set { key: key.to_owned(), value: value.as_str().to_owned() })
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As for [`set`](State::set).
    pub fn remove(&self, key: &str) -> Result<(), StateError> {
        self.send(StateChange::Remove { key: key.to_owned() })
    }

    /// A key's value, as this shard knows it. `None` from another thread.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let Origin::Shard { core, namespace } = &self.origin else { return None };
        let core = core.borrow();
        let table = core.states.get(core.states.find(*namespace, self.room)?);
        read_json(table.values.get(key)?).ok()
    }

    fn send(&self, change: StateChange) -> Result<(), StateError> {
        match &self.origin {
            Origin::Shard { core, namespace } => {
                core.borrow_mut().change_state(*namespace, self.room, change)
            }
            Origin::Outside { mesh, address } => {
                let message = message(address, self.room, change, false);
                if mesh.len() == 0 {
                    return Err(StateError::NotRunning);
                }
                let home = shard_of_key(self.room, mesh.len());
                let sent = mesh.send(home, ShardMessage::State(Arc::new(message)));
                mesh.ring(home);
                sent.map_err(|_| StateError::ShardBusy)
            }
        }
    }
}

fn message(namespace: &Address, room: &str, change: StateChange, is_ordered: bool) -> StateMessage {
    StateMessage { namespace: namespace.clone(), room: room.to_owned(), change, is_ordered }
}

/// What a key and its value take in the event: two quotes, a colon and a comma more than they have.
fn entry_len(key: &str, value: &str) -> usize {
    key.len() + value.len() + 4
}

/// A state room on one shard.
#[derive(Debug)]
pub(crate) struct StateTable {
    namespace: u16,
    room: String,
    options: StateRoom,
    values: BTreeMap<String, String>,
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

    fn find(&self, namespace: u16, room: &str) -> Option<usize> {
        self.places.get(&namespace)?.get(room).copied()
    }

    fn get(&self, place: usize) -> &StateTable {
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

impl Core {
    /// When the next state room is to be flushed; `NEVER` when none is.
    pub(crate) fn next_state_flush(&self) -> Time {
        if self.states.is_empty() { Time::NEVER } else { self.states.due }
    }

    /// Puts a change on its way: to the shard that orders the room's changes, which may be this one.
    fn change_state(&mut self, namespace: u16, room: &str, change: StateChange) -> Result<(), StateError> {
        let place = self.states.find(namespace, room).ok_or(StateError::NoSuchRoom)?;
        self.states.get(place).check(&change)?;
        let home = shard_of_key(room, self.mesh.len());
        if home == self.id {
            self.order_state(namespace, room, change);
            return Ok(());
        }
        let address = &self.namespaces[namespace].namespace.address;
        let message = ShardMessage::State(Arc::new(message(address, room, change, false)));
        if self.send_to_shard(home, message) { Ok(()) } else { Err(StateError::ShardBusy) }
    }

    /// A change has come from another shard or thread.
    pub(crate) fn receive_state(&mut self, message: Arc<StateMessage>) {
        let StateMessage { namespace, room, is_ordered, .. } = &*message;
        let number = self.namespaces.find_address(namespace);
        let place = number.and_then(|number| self.states.find(number, room));
        let (Some(number), Some(place)) = (number, place) else {
            tracing::error!(target: SOCKETIO, %namespace, room, "a change to a state room that is not registered is lost");
            return;
        };
        let change = message.change.clone();
        if *is_ordered {
            let now = self.now;
            return self.states.apply(place, change, now);
        }
        match self.states.get(place).check(&change) {
            Ok(()) => self.order_state(number, room, change),
            Err(error) => {
                tracing::error!(target: SOCKETIO, %namespace, room, %error, "a change is refused")
            }
        }
    }

    /// On the room's own shard: makes a change, and tells the others.
    fn order_state(&mut self, namespace: u16, room: &str, change: StateChange) {
        let Some(place) = self.states.find(namespace, room) else { return };
        let now = self.now;
        if self.mesh.len() > 1 {
            let address = &self.namespaces[namespace].namespace.address;
            let ordered = Arc::new(message(address, room, change.clone(), true));
            for shard in self.other_shards() {
                // A shard that has missed one is told everything at the next flush.
                let has_missed = self.states.get(place).missed.contains(&shard);
                if !has_missed && !self.send_to_shard(shard, ShardMessage::State(Arc::clone(&ordered))) {
                    self.states.tables[place].missed.push(shard);
                    self.states.arm(place, now);
                }
            }
        }
        self.states.apply(place, change, now);
    }

    /// Tells subscribers what has changed, where it is time.
    pub(crate) fn flush_states(&mut self) {
        if self.next_state_flush() > self.now {
            return;
        }
        for place in 0..self.states.tables.len() {
            if self.states.get(place).due <= self.now {
                self.flush_state(place);
            }
        }
        self.states.due = self.states.tables.iter().map(|table| table.due).min().unwrap_or(Time::NEVER);
    }

    fn flush_state(&mut self, place: usize) {
        let now = self.now;
        let table = &mut self.states.tables[place];
        table.due = Time::NEVER;
        table.flushed = now;
        let before = std::mem::take(&mut table.behind);
        let namespace = table.namespace;
        let members = self.namespaces[namespace].room_ids.get(table.room.as_str()).copied();
        let members = members.and_then(|room| self.rooms.get(room));
        let (mut keeping, mut caught_up, mut behind) = (Vec::new(), Vec::new(), BTreeSet::new());
        for &index in members.iter().flat_map(|room| &room.members) {
            let is_behind = self.sockets.at(index).is_some_and(|socket| self.is_behind(socket));
            // Seldom is anybody behind: then a member costs no more than this.
            if !is_behind && before.is_empty() {
                keeping.push(index);
                continue;
            }
            let Some(key) = self.sockets.key_at(index) else { continue };
            if is_behind {
                behind.insert(key);
            } else if before.contains(&key) {
                caught_up.push(index);
            } else {
                keeping.push(index);
            }
        }
        if !self.states.get(place).changed.is_empty() {
            if let Some(frame) = self.frame_state(place, false) {
                self.deliver_places(&keeping, &frame);
            }
            self.states.tables[place].changed.clear();
        }
        if let Some(frame) = (!caught_up.is_empty()).then(|| self.snapshot(place)).flatten() {
            self.deliver_places(&caught_up, &frame);
        }
        self.resend_state(place);
        let table = &mut self.states.tables[place];
        table.behind = behind;
        if !table.behind.is_empty() || !table.missed.is_empty() {
            table.arm(now);
        }
    }

    /// Gives everything to shards that have missed a change.
    fn resend_state(&mut self, place: usize) {
        for shard in std::mem::take(&mut self.states.tables[place].missed) {
            let table = self.states.get(place);
            let address = &self.namespaces[table.namespace].namespace.address;
            let values = table.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let all = message(address, &table.room, StateChange::Replace(values), true);
            if !self.send_to_shard(shard, ShardMessage::State(Arc::new(all))) {
                self.states.tables[place].missed.push(shard);
            }
        }
    }

    /// A socket has joined a room: if it is a state room, everything is told.
    pub(crate) fn welcome_to_state(&mut self, socket: Key, namespace: u16, room: &str) {
        let Some(place) = self.states.find(namespace, room) else { return };
        if self.sockets.get(socket).is_some_and(|socket| self.is_behind(socket)) {
            let now = self.now;
            self.states.tables[place].behind.insert(socket);
            self.states.arm(place, now);
        } else if let Some(frame) = self.snapshot(place) {
            self.deliver_places(&[socket.index], &frame);
        }
    }

    /// Everything, encoded once for all who join until the next change.
    fn snapshot(&mut self, place: usize) -> Option<SharedFrame> {
        if self.states.get(place).snapshot.is_none() {
            self.states.tables[place].snapshot = self.frame_state(place, true);
        }
        self.states.get(place).snapshot.clone()
    }

    fn frame_state(&self, place: usize, is_all: bool) -> Option<SharedFrame> {
        let table = self.states.get(place);
        let name = &self.namespaces[table.namespace].namespace.name;
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
            self.connections.at(*connection).map_or(0, |connection| connection.outbox.len())
        } else {
            let session = self.sessions.get(*session);
            session
                .filter(|session| matches!(session.link, Link::Polling { .. }))
                .map_or(0, |session| session.backlog.len())
        };
        owed > BEHIND_BYTES
    }
}
