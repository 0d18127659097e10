//! Rooms of one shard: join, leave, list.
//!
//! A socket's own id is a room that always has that one member; it has no entry in the table. A room's first member and its last
//! leave are also noted where other shards look (`mesh/interest`).

use crate::base::ids::Sid;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::mesh::interest::Slot;
use crate::message::recovery::LostSocket;
use crate::shard::table::{Tables, Target};
use crate::shard::value::room::{JoinError, ROOM_NAME_BYTES_MAX, Room};

impl Tables {
    /// Puts a socket into a room, which exists from its first member on. False: it was there already.
    pub(crate) fn enter(&mut self, socket_key: Key, name: &str) -> Result<bool, JoinError> {
        let rooms_max = self.env.config.rooms_per_socket_max;
        let socket = self.sockets.get_mut(socket_key).ok_or(JoinError::NoSuchSocket)?;
        if socket.sid.as_str() == name {
            return Ok(false);
        }
        if name.len() > ROOM_NAME_BYTES_MAX {
            tracing::warn!(target: SOCKETIO, sid = %socket.sid.brief(), bytes = name.len(), "not joined: a room's name has at most {ROOM_NAME_BYTES_MAX} bytes");
            return Err(JoinError::NameTooLong);
        }
        let namespace = socket.namespace;
        let table = &mut self.namespaces[namespace];
        let known = table.room_ids.get(name).copied();
        if known.is_some_and(|room| socket.rooms.contains(&room)) {
            return Ok(false);
        }
        if socket.rooms.len() >= rooms_max {
            tracing::warn!(target: SOCKETIO, sid = %socket.sid.brief(), room = name, rooms_max, "not joined: rooms_per_socket_max is reached");
            return Err(JoinError::TooManyRooms);
        }
        let room = known.unwrap_or_else(|| {
            // Before the socket is a member for anybody: see `mesh/interest`.
            let slot = self.mesh.interest.slot(&table.namespace.address, name);
            self.holdings.add(&self.mesh.interest, slot);
            if let Some(link) = self.mesh.links.of(&table.namespace.address) {
                link.hold(&table.namespace.address, Some(name));
            }
            let room = self.rooms.insert(Room {
                namespace,
                name: name.into(),
                members: Default::default(),
                lost: 0,
                is_alias: false,
                slot,
            });
            table.room_ids.insert(name.into(), room);
            room
        });
        socket.rooms.push(room);
        let is_lost = self.is_absent(socket_key);
        let entry = self.rooms.get_mut(room).expect("a room named in the table exists");
        let is_new = entry.members.insert(socket_key.index);
        debug_assert!(is_new, "whoever had the place before has left its rooms");
        entry.lost += usize::from(is_lost);
        if self.sightings.is_on {
            self.saw_room("room_joined", socket_key, Some(name));
        }
        Ok(true)
    }

    /// Puts a socket into a room that stands for itself, and is in no list of rooms.
    pub(crate) fn join_alias(&mut self, socket: Key, name: &str) {
        // A name too long is logged, and then nobody can write to it.
        let _ = self.enter(socket, name);
        let Some(namespace) = self.sockets.get(socket).map(|socket| socket.namespace) else { return };
        let room = self.namespaces[namespace].room_ids.get(name).copied();
        if let Some(room) = room.and_then(|room| self.rooms.get_mut(room)) {
            room.is_alias = true;
        }
    }

    /// The names of a namespace's rooms that have members on this shard. What stands for one socket is left out.
    pub(crate) fn listed_rooms(&self, namespace: u16) -> impl Iterator<Item = &str> {
        let rooms = self.namespaces[namespace].room_ids.values().filter_map(|room| self.rooms.get(*room));
        rooms.filter(|room| room.is_listed()).map(|room| &*room.name)
    }

    /// Takes a socket out of a room; the room goes with its last member.
    pub(crate) fn leave(&mut self, socket_key: Key, name: &str) {
        let Some(socket) = self.sockets.get_mut(socket_key) else { return };
        let Some(&room) = self.namespaces[socket.namespace].room_ids.get(name) else { return };
        let before = socket.rooms.len();
        socket.rooms.retain(|joined| *joined != room);
        if socket.rooms.len() < before {
            self.remove_member(room, socket_key.index);
            if self.sightings.is_on {
                self.saw_room("room_left", socket_key, Some(name));
            }
        }
    }

    /// Takes a socket out of every room it is in.
    pub(crate) fn leave_all(&mut self, socket_key: Key) {
        let Some(socket) = self.sockets.get_mut(socket_key) else { return };
        for room in std::mem::take(&mut socket.rooms) {
            self.remove_member(room, socket_key.index);
        }
    }

    /// The rooms of a socket, its own id first. The id by which an old client knows it is no further one.
    pub(crate) fn rooms_of(&self, socket_key: Key) -> Vec<String> {
        let Some(socket) = self.sockets.get(socket_key) else { return Vec::new() };
        let rooms = socket.rooms.iter().filter_map(|room| self.rooms.get(*room));
        let joined = rooms.filter(|room| !room.is_alias).map(|room| room.name.to_string());
        std::iter::once(socket.sid.to_string()).chain(joined).collect()
    }

    fn remove_member(&mut self, key: Key, socket_index: u32) {
        let is_lost = self.sockets.key_at(socket_index).is_some_and(|socket| self.is_absent(socket));
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.members.remove(&socket_index);
        room.lost -= usize::from(is_lost);
        if room.members.is_empty()
            && let Some(room) = self.rooms.remove(key)
        {
            self.namespaces[room.namespace].room_ids.remove(&room.name);
            self.holdings.remove(&self.mesh.interest, room.slot);
            self.release_outside(room.namespace, Some(&room.name));
        }
    }

    /// A socket has an id, its own or its private one, that names another shard: it came back here after it was lost there. The
    /// table of rooms says so, as if the id were a room.
    pub(crate) fn hold_id(&mut self, namespace: u16, id: Sid) {
        if id.shard() != self.env.id {
            let slot = self.slot_of(namespace, id.as_str());
            self.holdings.add(&self.mesh.interest, slot);
        }
        if self.is_foreign(id) {
            self.hold_outside(namespace, Some(id.as_str()));
        }
    }

    /// The socket is gone.
    pub(crate) fn release_id(&mut self, namespace: u16, id: Sid) {
        if id.shard() != self.env.id {
            let slot = self.slot_of(namespace, id.as_str());
            self.holdings.remove(&self.mesh.interest, slot);
        }
        if self.is_foreign(id) {
            self.release_outside(namespace, Some(id.as_str()));
        }
    }

    /// Whether an id is of another process, or of this server before it was started anew. Without a message queue it cannot be told.
    pub(crate) fn is_foreign(&self, id: Sid) -> bool {
        self.mesh.links.tag.is_some_and(|tag| tag != id.node())
    }

    /// What other processes say to a room, or to a namespace as a whole, is to be heard: it has its first member on this shard.
    pub(crate) fn hold_outside(&self, namespace: u16, room: Option<&str>) {
        let address = &self.namespaces[namespace].namespace.address;
        if let Some(link) = self.mesh.links.of(address) {
            link.hold(address, room);
        }
    }

    /// It has no member here any more.
    pub(crate) fn release_outside(&self, namespace: u16, room: Option<&str>) {
        let address = &self.namespaces[namespace].namespace.address;
        if let Some(link) = self.mesh.links.of(address) {
            link.release(address, room);
        }
    }

    /// Keeps the bits of all that a lost socket is in while another takes its place: between the two, other threads must not find
    /// that this shard has no member.
    pub(crate) fn hold_places(&mut self, namespace: u16, lost: &LostSocket) -> Vec<Slot> {
        let ids = [lost.sid.as_str(), lost.pid.as_str()];
        let names = lost.rooms.iter().map(String::as_str).chain(ids);
        let slots: Vec<Slot> = names.map(|name| self.slot_of(namespace, name)).collect();
        slots.iter().for_each(|slot| self.holdings.add(&self.mesh.interest, *slot));
        slots
    }

    /// The other has taken it.
    pub(crate) fn release_places(&mut self, held: &[Slot]) {
        held.iter().for_each(|slot| self.holdings.remove(&self.mesh.interest, *slot));
    }

    fn slot_of(&self, namespace: u16, name: &str) -> Slot {
        self.mesh.interest.slot(&self.namespaces[namespace].namespace.address, name)
    }

    /// How many sockets of this shard a target means. Everybody and the members of one room are not walked; in a
    /// room a client counts whose connect handler has put it there and not decided yet.
    pub(crate) fn count_local(&mut self, namespace: u16, target: &Target) -> u64 {
        let table = &self.namespaces[namespace];
        let mut rooms = target.rooms.iter();
        if target.except.iter().next().is_none() {
            match (target.is_everyone, rooms.next(), rooms.next()) {
                (true, ..) => return table.open_sockets,
                (false, None, _) => return 0,
                (false, Some(name), None) if Sid::parse(name).is_none() => {
                    let room = table.room_ids.get(name).and_then(|room| self.rooms.get(*room));
                    return room.map_or(0, |room| room.present());
                }
                _ => {}
            }
        }
        self.open_sids(namespace, target).len() as u64
    }

    /// The sockets of a target on this shard that were let in, by place and id.
    pub(crate) fn open_sids(&mut self, namespace: u16, target: &Target) -> Vec<(Key, Sid)> {
        let keys = self.members_of(namespace, target);
        let sid_of = |key: Key| {
            let socket = self.sockets.get(key).filter(|socket| socket.state.is_told())?;
            Some((key, socket.sid))
        };
        keys.into_iter().filter_map(sid_of).collect()
    }
}
