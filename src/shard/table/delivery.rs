//! Delivery: one encoded frame to every socket that a target names on this shard, each once.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::buffer::{BufferPool, SharedFrame};
use crate::base::ids::Sid;
use crate::base::sid_index::SidIndex;
use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::message::recovery::{EventId, Kept, Offset};
use crate::message::target::{Reach, Target};
use crate::shard::table::Tables;
use crate::shard::table::ends::close_soon;
use crate::shard::table::lookup::find_socket;
use crate::shard::table::namespaces::Namespaces;
use crate::shard::table::slow::Standing;
use crate::shard::value::connection::{Connection, Ending, clamped};
use crate::shard::value::effect::Deferred;
use crate::shard::value::form::{Form, Transcoder};
use crate::shard::value::kept::Limits;
use crate::shard::value::kinds::DropPolicy;
use crate::shard::value::owed::Owed;
use crate::shard::value::parked::{Lag, Outcome, ParkResult, SlowRules};
use crate::shard::value::room::Room;
use crate::shard::value::session::{CloseReason, Session};
use crate::shard::value::socket::{NOWHERE, SocketEntry, SocketState, keep};
use crate::shard::value::stats::{EndpointCounters, ShardCounters};
use crate::shard::value::trace::trace_sent;

/// What is delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) frame: &'a SharedFrame,
    /// Its name for recovery, if it has one.
    pub(crate) offset: Option<Offset>,
    /// What it is called in all processes, if it came from another; else its offset says it.
    pub(crate) id: Option<EventId>,
    /// When the turn began in which it was published (`value/turn_times.rs`).
    pub(crate) published: u64,
}

/// A broadcast under way: what it changes while it goes to its receivers, each once.
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
    variants: SmallVec<[(Form, SharedFrame); 1]>,
    outbox_bytes_max: usize,
    is_uncompressed: bool,
    owed: &'a mut Owed,
    counters: &'a ShardCounters,
    /// Those of the endpoint that all of its receivers belong to.
    own_counters: &'a EndpointCounters,
    lag: Lag<'a>,
    /// The event can be recovered.
    offset: Option<Offset>,
    id: Option<EventId>,
    /// The event came from the broker, or goes to it.
    is_in_stream: bool,
    now: Time,
    recovery_limits: Limits,
    mark: u32,
    outcome: Outcome,
    /// How many of the queued are parked.
    parked: u64,
}

/// Where a delivery looks up who is meant.
pub(crate) struct Lookup<'a> {
    namespaces: &'a Namespaces,
    rooms: &'a Slab<Room>,
    socket_ids: &'a SidIndex,
    slow_rules: &'a [SlowRules],
}

impl Tables {
    /// Queues a frame for every local socket of a target. `sender` is left out.
    pub(crate) fn deliver_local(
        &mut self,
        namespace: u16,
        target: &Target,
        sender: Option<Key>,
        event: Event<'_>,
    ) -> Outcome {
        let frame = event.frame;
        if self.sightings.is_on {
            self.saw_broadcast(namespace, target, sender, (frame, event.offset.is_some()));
        }
        self.begin_mark();
        self.mark_except(namespace, target, sender);
        self.owed.made(frame.len());
        let (mut delivery, lookup) = self.delivery(namespace, target);
        let table = &lookup.namespaces[namespace];
        let rules = &lookup.slow_rules[usize::from(table.namespace.setup)];
        delivery.lag = rules.lag(namespace, &target.when_behind, None);
        (delivery.offset, delivery.id) = (event.offset, event.id);
        let is_of_other = event.id != event.offset.map(|offset| offset.event_id());
        delivery.is_in_stream = is_of_other || target.reach == Reach::Everywhere;
        if target.is_everyone {
            delivery.push_all(&table.members, frame);
        }
        for name in target.rooms.iter() {
            if !rules.rooms.is_empty() {
                delivery.lag = rules.lag(namespace, &target.when_behind, Some(name));
            }
            if let Some(room) = table.room_ids.get(name).and_then(|key| lookup.rooms.get(*key)) {
                delivery.push_all(&room.members, frame);
            }
            if let Some(place) =
                Sid::parse(name).and_then(|sid| find_socket(lookup.socket_ids, delivery.sockets, &sid))
                && table.members.contains(&place)
            {
                delivery.push(place, frame);
            }
        }
        let outcome = delivery.finish();
        target.receipt.add(outcome.sent + outcome.queued);
        self.meters().receivers.record(outcome.sent + outcome.queued);
        // What waits for a slow client, or for its next poll, is not sent in this turn.
        if outcome.sent > 0 {
            self.turn_times.note_fan_out(event.published);
        }
        outcome
    }

    /// Queues a frame for one open socket, as the rule of its namespace says.
    #[cold]
    pub(crate) fn deliver_by_rule(&mut self, socket: Key, frames: Vec<u8>) -> Outcome {
        self.begin_mark();
        let target = Target::default();
        let Some(namespace) = self.sockets.get(socket).map(|socket| socket.namespace) else {
            return Outcome::default();
        };
        let (mut delivery, lookup) = self.delivery(namespace, &target);
        let setup = lookup.namespaces[namespace].namespace.setup;
        delivery.lag = lookup.slow_rules[usize::from(setup)].lag(namespace, &target.when_behind, None);
        delivery.push(socket.index, &Arc::new(frames));
        delivery.finish()
    }

    /// Queues a frame for these local sockets of a target, which are listed once each, and are of one namespace.
    pub(crate) fn deliver_to(&mut self, sockets: &[Key], target: &Target, frame: &SharedFrame) {
        let first = sockets.iter().find_map(|key| self.sockets.get(*key));
        let Some(namespace) = first.map(|socket| socket.namespace) else { return };
        if self.sightings.is_on {
            self.saw_sent(sockets, frame, false);
        }
        self.begin_mark();
        let (mut delivery, _) = self.delivery(namespace, target);
        sockets.iter().for_each(|key| delivery.push(key.index, frame));
        delivery.finish();
    }

    /// Queues a frame for some local sockets of one namespace, by place.
    pub(crate) fn deliver_places(&mut self, places: &[u32], frame: &SharedFrame) {
        let first = places.iter().find_map(|place| self.sockets.at(*place));
        let Some(namespace) = first.map(|socket| socket.namespace) else { return };
        if self.sightings.is_on {
            let sockets: Vec<Key> = places.iter().filter_map(|place| self.sockets.key_at(*place)).collect();
            self.saw_sent(&sockets, frame, false);
        }
        self.begin_mark();
        let (mut delivery, _) = self.delivery(namespace, &Target::default());
        places.iter().for_each(|&place| delivery.push(place, frame));
        delivery.finish();
    }

    /// The local sockets of a target, each once, in memory order.
    pub(crate) fn members_of(&mut self, namespace: u16, target: &Target) -> Vec<Key> {
        self.begin_mark();
        self.mark_except(namespace, target, None);
        let Tables { namespaces, rooms, sockets, socket_ids, mark, .. } = self;
        let table = &namespaces[namespace];
        let mut keys = Vec::new();
        let mut add = |sockets: &mut Slab<SocketEntry>, place: u32| {
            if let Some(socket) = sockets.at_mut(place)
                && std::mem::replace(&mut socket.mark, *mark) != *mark
            {
                keys.extend(sockets.key_at(place));
            }
        };
        if target.is_everyone {
            table.members.iter().for_each(|&place| add(sockets, place));
        }
        for name in target.rooms.iter() {
            if let Some(room) = table.room_ids.get(name).and_then(|key| rooms.get(*key)) {
                room.members.iter().for_each(|&place| add(sockets, place));
            }
            let own = Sid::parse(name).and_then(|sid| find_socket(socket_ids, sockets, &sid));
            own.into_iter()
                .filter(|place| table.members.contains(place))
                .for_each(|place| add(sockets, place));
        }
        // One room is in order already, and sorting it costs a look at each.
        keys.sort_unstable();
        keys
    }

    /// What a delivery changes, beside the tables in which it looks up who is meant. It waits for whoever is slow.
    fn delivery<'a>(&'a mut self, namespace: u16, target: &Target) -> (Delivery<'a>, Lookup<'a>) {
        let endpoint = usize::from(self.namespaces[namespace].namespace.endpoint);
        let endpoint = &self.env.endpoints[endpoint];
        let delivery = Delivery {
            sockets: &mut self.sockets,
            connections: &mut self.connections,
            sessions: &mut self.sessions,
            dirty: &mut self.effects.dirty,
            polls_due: &mut self.effects.polls_due,
            deferred: &mut self.effects.deferred,
            buffers: &mut self.pools.buffers,
            transcoder: &mut self.pools.transcoder,
            variants: SmallVec::new(),
            outbox_bytes_max: self.env.config.outbox_bytes_max,
            is_uncompressed: target.is_uncompressed,
            owed: &mut self.owed,
            counters: &self.env.counters,
            own_counters: &endpoint.counters,
            lag: Lag::Wait,
            offset: None,
            id: None,
            is_in_stream: false,
            now: self.env.now,
            recovery_limits: endpoint.kept_limits,
            mark: self.mark,
            outcome: Outcome::default(),
            parked: 0,
        };
        let lookup = Lookup {
            namespaces: &self.namespaces,
            rooms: &self.rooms,
            socket_ids: &self.socket_ids,
            slow_rules: &self.slow_rules,
        };
        (delivery, lookup)
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
        if socket.mark == self.mark {
            return;
        }
        socket.mark = self.mark;
        if let Some(offset) = self.offset {
            let id = self.id.unwrap_or_else(|| offset.event_id());
            let is_in_stream = self.is_in_stream;
            let kept = Kept { offset, id, is_in_stream, at: self.now, frame: Arc::clone(frame) };
            if keep(socket, kept, self.recovery_limits) {
                return;
            }
        }
        if socket.state == SocketState::Closed {
            return;
        }
        if socket.state == SocketState::Connecting {
            self.outcome.queued += 1;
            let held = &mut socket.extra_mut().held;
            if held.len() <= self.outbox_bytes_max {
                held.push_shared(frame, self.buffers);
            } else {
                close_soon(self.sessions, self.deferred, socket.session, CloseReason::SlowConsumer);
            }
            return;
        }
        let (place, session, form) = (socket.connection, socket.session, socket.form);
        if !matches!(self.lag, Lag::Wait) && self.is_kept_back(place, session, frame) {
            return;
        }
        if form.is_canonical() {
            self.push_to_session(place, session, frame, frame);
        } else {
            let form = if self.is_uncompressed { form.without(Form::COMPRESSION) } else { form };
            let variant = self.variant(frame, form);
            self.push_to_session(place, session, &variant, frame);
        }
    }

    /// The frame in another form, made when it is first needed.
    #[cold]
    fn variant(&mut self, frame: &SharedFrame, form: Form) -> SharedFrame {
        if form.is_canonical() {
            return Arc::clone(frame);
        }
        if let Some((_, variant)) = self.variants.iter().find(|(known, _)| *known == form) {
            return Arc::clone(variant);
        }
        let mut bytes = Vec::new();
        self.transcoder.transcode(frame, form, &mut bytes);
        let variant = Arc::new(bytes);
        self.variants.push((form, Arc::clone(&variant)));
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
        debug_assert!(
            connection.carries(session) && connection.ending == Ending::Open,
            "a socket names its session's WebSocket by place until that ends: see SocketEntry::connection"
        );
        let owed = connection.outbox.len();
        if owed > self.outbox_bytes_max {
            return self.give_up(place, session);
        }
        let was_clean = !std::mem::replace(&mut connection.is_dirty, true);
        if was_clean {
            connection.behind = clamped(owed);
            self.counters.meters.note_behind(connection.behind);
        }
        self.outcome.count(connection.behind > 0);
        connection.outbox.push_shared(frame, self.buffers);
        self.owed.add(frame.len());
        if connection.is_traced
            && let Some(session) = self.sessions.get(session)
        {
            trace_sent(&session.sid, self.now, canonical);
        }
        if was_clean {
            let key = self.connections.key_at(place).expect("the connection is there");
            self.dirty.push(key);
        }
    }

    /// A client is owed more than it may be: its close is noted, and the event is dropped. A handler that emits to it without end
    /// must not fill the memory before the close can happen.
    #[cold]
    fn give_up(&mut self, place: u32, session: Key) {
        self.outcome.dropped += 1;
        self.counters.meters.dropped.count(DropPolicy::Closing);
        let is_given_up = match self.connections.at_mut(place) {
            Some(connection) => &mut connection.is_given_up,
            None => match self.sessions.get_mut(session) {
                Some(session) => &mut session.is_given_up,
                None => return,
            },
        };
        if !std::mem::replace(is_given_up, true) {
            close_soon(self.sessions, self.deferred, session, CloseReason::SlowConsumer);
        }
    }

    fn push_to_poll(&mut self, key: Key, frame: &SharedFrame, canonical: &SharedFrame) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let owed = session.backlog.len();
        if owed > self.outbox_bytes_max {
            return self.give_up(NOWHERE, key);
        }
        if !std::mem::replace(&mut session.is_poll_due, true) {
            self.polls_due.push(key);
            session.behind = clamped(owed);
            self.counters.meters.note_behind(session.behind);
        }
        self.outcome.count(!session.has_poll());
        session.backlog.push_shared(frame, self.buffers);
        self.owed.add(frame.len());
        session.may_compress |= !self.is_uncompressed;
        if session.is_traced {
            trace_sent(&session.sid, self.now, canonical);
        }
    }

    /// Whether a slow client does not get the frame now: it is dropped, or parked until the client has caught up.
    fn is_kept_back(&mut self, place: u32, session_key: Key, frame: &SharedFrame) -> bool {
        let on_websocket = if place == NOWHERE { None } else { self.connections.at_mut(place) };
        let Some(session) = self.sessions.get_mut(session_key) else { return false };
        let standing =
            on_websocket.as_ref().map_or_else(|| session.standing(), |connection| connection.standing());
        let Standing { is_behind, owed } = standing;
        // What is parked already goes first.
        let must_wait = is_behind || session.parked.is_some();
        let is_parking = match self.lag {
            Lag::Wait => return false,
            Lag::Volatile if is_behind || owed > self.outbox_bytes_max => false,
            Lag::DropNewest { bytes_max } if owed + frame.len() > bytes_max => false,
            Lag::DropOldest { bytes_max, .. } if must_wait || owed + frame.len() > bytes_max => true,
            Lag::Latest { .. } if must_wait || owed > self.outbox_bytes_max => true,
            _ => return false,
        };
        *on_websocket.map_or(&mut session.awaits_drain, |connection| &mut connection.awaits_drain) = true;
        let mut parked = ParkResult::default();
        if is_parking {
            let queues = session.parked.get_or_insert_default();
            let before = queues.bytes;
            parked = queues.push(self.lag, frame, self.outbox_bytes_max);
            self.owed.reparked(before, queues.bytes);
        }
        if parked.is_parked {
            self.outcome.queued += 1;
            self.parked += 1;
        } else {
            self.outcome.dropped += 1;
            self.counters.meters.dropped.count(self.lag.policy());
        }
        match self.lag {
            Lag::Latest { .. } => self.counters.messages_conflated.add(parked.displaced),
            _ => {
                self.counters.messages_dropped.add(parked.displaced);
                self.counters.meters.dropped.add(self.lag.policy(), parked.displaced);
            }
        }
        true
    }

    /// Counts what was done.
    fn finish(self) -> Outcome {
        let Outcome { sent, queued, dropped } = self.outcome;
        self.counters.messages_sent.add(sent + queued - self.parked);
        self.own_counters.messages_sent.add(sent + queued - self.parked);
        if dropped > 0 {
            self.counters.messages_dropped.add(dropped);
        }
        self.outcome
    }
}
