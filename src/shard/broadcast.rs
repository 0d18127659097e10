//! Delivery: one encoded frame to every socket that a target names on this shard, each once.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::buffer::{BufferPool, SharedFrame};
use crate::base::ids::Sid;
use crate::base::sid_index::SidIndex;
use crate::base::slab::{Key, Slab};
use crate::mesh::{Broadcast, Reach, ShardMessage, SocketCommand, Target};
use crate::shard::connection::Connection;
use crate::shard::core::{Core, Deferred, NOWHERE, Room, find_socket};
use crate::shard::namespaces::{NamespaceRef, Namespaces};
use crate::shard::session::{CloseReason, Session};
use crate::shard::socket::{Change, SocketEntry, SocketState};
use crate::shard::trace::trace_sent;
use crate::shard::wire::{Transcoder, Wire};

/// Whoever hears a broadcast, by place, each once.
struct Delivery<'a> {
    sockets: &'a mut Slab<SocketEntry>,
    connections: &'a mut Slab<Connection>,
    sessions: &'a mut Slab<Session>,
    dirty: &'a mut Vec<Key>,
    polls_due: &'a mut Vec<Key>,
    deferred: &'a mut Vec<Deferred>,
    buffers: &'a mut BufferPool,
    transcoder: &'a mut Transcoder,
    /// The frame in the other forms that its receivers needed so far.
    variants: SmallVec<[(Wire, SharedFrame); 1]>,
    outbox_bytes_max: usize,
    is_uncompressed: bool,
    mark: u32,
    count: u64,
}

impl Core {
    /// Sends a frame to every socket of a target, here and on the other shards. Returns how many were here, or
    /// `None` when another shard's inbox was full.
    pub(crate) fn publish(
        &mut self,
        namespace: &Rc<NamespaceRef>,
        target: &Target,
        sender: Option<Key>,
        frame: &SharedFrame,
    ) -> Option<u64> {
        let here = self.namespaces.resolve(namespace);
        let count = here.map_or(0, |number| self.deliver_local(number, target, sender, frame));
        if self.mesh.len() > 1 && target.reach != Reach::Shard {
            let except_sender = sender.and_then(|key| self.sockets.get(key)).map(|socket| socket.sid);
            let broadcast = self.broadcasts.share(|broadcast: &mut Broadcast| {
                broadcast.namespace.clear();
                broadcast.namespace.push_str(&namespace.address);
                broadcast.target.clone_from(target);
                if let Some(sid) = except_sender {
                    broadcast.target.except.push(sid.as_str());
                }
                broadcast.frame = Arc::clone(frame);
            });
            let mut is_sent = true;
            for shard in self.other_shards() {
                is_sent &= self.send_to_shard(shard, ShardMessage::Broadcast(Arc::clone(&broadcast)));
            }
            if !is_sent {
                return None;
            }
        }
        Some(count)
    }

    /// Delivers what another shard or thread published.
    pub(crate) fn deliver_broadcast(&mut self, broadcast: &Broadcast) {
        if let Some(namespace) = self.namespaces.find_address(&broadcast.namespace) {
            self.deliver_local(namespace, &broadcast.target, None, &broadcast.frame);
        }
    }

    /// Queues a frame for every local socket of a target. `sender` is left out.
    pub(crate) fn deliver_local(
        &mut self,
        namespace: u16,
        target: &Target,
        sender: Option<Key>,
        frame: &SharedFrame,
    ) -> u64 {
        self.begin_mark();
        self.mark_except(namespace, target, sender);
        let (mut delivery, namespaces, rooms, socket_ids) = self.delivery(target);
        let table = &namespaces[namespace];
        if target.is_everyone {
            delivery.push_all(&table.members, frame);
        }
        for name in target.rooms.iter() {
            if let Some(room) = table.room_ids.get(name).and_then(|key| rooms.get(*key)) {
                delivery.push_all(&room.members, frame);
            }
            if let Some(place) =
                Sid::parse(name).and_then(|sid| find_socket(socket_ids, delivery.sockets, &sid))
                && table.members.contains(&place)
            {
                delivery.push(place, frame);
            }
        }
        let count = delivery.count;
        self.counters.messages_sent.add(count);
        count
    }

    /// Queues a frame for these local sockets of a target, which are listed once each.
    pub(crate) fn deliver_to(&mut self, sockets: &[Key], target: &Target, frame: &SharedFrame) {
        self.begin_mark();
        let (mut delivery, ..) = self.delivery(target);
        sockets.iter().for_each(|key| delivery.push(key.index, frame));
        let count = delivery.count;
        self.counters.messages_sent.add(count);
    }

    /// Queues a frame for some local sockets, by place.
    pub(crate) fn deliver_places(&mut self, places: &[u32], frame: &SharedFrame) {
        self.begin_mark();
        let (mut delivery, ..) = self.delivery(&Target::default());
        places.iter().for_each(|&place| delivery.push(place, frame));
        let count = delivery.count;
        self.counters.messages_sent.add(count);
    }

    /// Applies a change to every socket of a target, here and on the other shards.
    pub(crate) fn change(&mut self, namespace: &Rc<NamespaceRef>, target: &Target, change: Change<'_>) {
        if let Some(number) = self.namespaces.resolve(namespace) {
            self.change_local(number, target, change);
        }
        if target.reach == Reach::Shard {
            return;
        }
        for shard in self.other_shards() {
            let command = SocketCommand {
                namespace: namespace.name.to_string(),
                target: target.clone(),
                change: change.to_message(),
            };
            self.send_to_shard(shard, ShardMessage::Command(Box::new(command)));
        }
    }

    /// Applies a change to every local socket of a target.
    pub(crate) fn change_local(&mut self, namespace: u16, target: &Target, change: Change<'_>) {
        for socket in self.members_of(namespace, target) {
            self.apply_change(socket, &change);
        }
    }

    /// The local sockets of a target, each once, in memory order.
    pub(crate) fn members_of(&mut self, namespace: u16, target: &Target) -> Vec<Key> {
        self.begin_mark();
        self.mark_except(namespace, target, None);
        let table = &self.namespaces[namespace];
        let mut places = BTreeSet::new();
        if target.is_everyone {
            places.extend(&table.members);
        }
        for name in target.rooms.iter() {
            if let Some(room) = table.room_ids.get(name).and_then(|key| self.rooms.get(*key)) {
                places.extend(&room.members);
            }
            let own = Sid::parse(name).and_then(|sid| self.socket_by_sid(&sid));
            places.extend(own.filter(|place| table.members.contains(place)));
        }
        let mark = self.mark;
        let keys = places.into_iter().filter_map(|index| self.sockets.key_at(index));
        keys.filter(|key| self.sockets.get(*key).is_some_and(|socket| socket.mark != mark)).collect()
    }

    /// What a delivery changes, beside the tables in which it looks up who is meant.
    fn delivery(&mut self, target: &Target) -> (Delivery<'_>, &Namespaces, &Slab<Room>, &SidIndex) {
        let delivery = Delivery {
            sockets: &mut self.sockets,
            connections: &mut self.connections,
            sessions: &mut self.sessions,
            dirty: &mut self.dirty,
            polls_due: &mut self.polls_due,
            deferred: &mut self.deferred,
            buffers: &mut self.buffers,
            transcoder: &mut self.transcoder,
            variants: SmallVec::new(),
            outbox_bytes_max: self.config.outbox_bytes_max,
            is_uncompressed: target.is_uncompressed,
            mark: self.mark,
            count: 0,
        };
        (delivery, &self.namespaces, &self.rooms, &self.socket_ids)
    }

    /// Starts a new mark, so that every socket is unserved.
    fn begin_mark(&mut self) {
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            // After 2^32 broadcasts an old mark could equal a new one.
            for key in self.sockets.keys().collect::<Vec<_>>() {
                self.sockets.get_mut(key).expect("the key was just listed").mark = 0;
            }
            self.mark = 1;
        }
    }

    /// Marks those who must not hear it as served.
    fn mark_except(&mut self, namespace: u16, target: &Target, sender: Option<Key>) {
        let mark = self.mark;
        if let Some(socket) = sender.and_then(|key| self.sockets.get_mut(key)) {
            socket.mark = mark;
        }
        let table = &self.namespaces[namespace];
        for name in target.except.iter() {
            if let Some(room) = table.room_ids.get(name).and_then(|key| self.rooms.get(*key)) {
                for &index in &room.members {
                    if let Some(socket) = self.sockets.at_mut(index) {
                        socket.mark = mark;
                    }
                }
            }
            if let Some(place) = Sid::parse(name).and_then(|sid| self.socket_by_sid(&sid))
                && let Some(socket) = self.sockets.at_mut(place)
            {
                socket.mark = mark;
            }
        }
    }
}

impl Delivery<'_> {
    fn push_all(&mut self, places: &BTreeSet<u32>, frame: &SharedFrame) {
        for &index in places {
            self.push(index, frame);
        }
    }

    #[inline]
    fn push(&mut self, index: u32, frame: &SharedFrame) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        if socket.mark == self.mark || socket.state == SocketState::Closed {
            return;
        }
        socket.mark = self.mark;
        self.count += 1;
        if socket.state == SocketState::Connecting {
            let held = &mut socket.extra_mut().held;
            if held.len() <= self.outbox_bytes_max {
                held.push_shared(frame, self.buffers);
            } else {
                self.deferred.push(Deferred::CloseSession(socket.session, CloseReason::SlowConsumer));
            }
            return;
        }
        let (place, session, wire) = (socket.connection, socket.session, socket.wire);
        if wire.is_canonical() {
            self.push_to_session(place, session, frame, frame);
        } else {
            let wire = if self.is_uncompressed { wire.without(Wire::DEFLATE) } else { wire };
            let variant = self.variant(frame, wire);
            self.push_to_session(place, session, &variant, frame);
        }
    }

    /// The frame in another form, made when it is first needed.
    #[cold]
    fn variant(&mut self, frame: &SharedFrame, wire: Wire) -> SharedFrame {
        if wire.is_canonical() {
            return Arc::clone(frame);
        }
        if let Some((_, variant)) = self.variants.iter().find(|(known, _)| *known == wire) {
            return Arc::clone(variant);
        }
        let mut bytes = Vec::new();
        self.transcoder.transcode(frame, wire, &mut bytes);
        let variant = Arc::new(bytes);
        self.variants.push((wire, Arc::clone(&variant)));
        variant
    }

    /// Queues a frame in the session's form; `canonical` is what the log shows of it.
    #[inline]
    fn push_to_session(&mut self, place: u32, session: Key, frame: &SharedFrame, canonical: &SharedFrame) {
        if place == NOWHERE {
            self.push_to_poll(session, frame, canonical);
            return;
        }
        let Some(connection) = self.connections.at_mut(place) else { return };
        connection.outbox.push_shared(frame, self.buffers);
        if connection.is_traced
            && let Some(session) = self.sessions.get(session)
        {
            trace_sent(&session.sid, canonical);
        }
        let is_over = connection.outbox.len() - frame.len() > self.outbox_bytes_max;
        if !connection.is_dirty {
            connection.is_dirty = true;
            let key = self.connections.key_at(place).expect("the connection is there");
            self.dirty.push(key);
        }
        if is_over {
            self.deferred.push(Deferred::CloseSession(session, CloseReason::SlowConsumer));
        }
    }

    fn push_to_poll(&mut self, key: Key, frame: &SharedFrame, canonical: &SharedFrame) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.backlog.len() > self.outbox_bytes_max {
            self.deferred.push(Deferred::CloseSession(key, CloseReason::SlowConsumer));
            return;
        }
        session.backlog.push_shared(frame, self.buffers);
        session.may_compress |= !self.is_uncompressed;
        if session.is_traced {
            trace_sent(&session.sid, canonical);
        }
        if !session.is_poll_due {
            session.is_poll_due = true;
            self.polls_due.push(key);
        }
    }
}
