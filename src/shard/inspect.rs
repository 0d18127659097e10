//! What tests and benches see and do inside a shard, past the seam. No release has any of it.

#[cfg(test)]
use std::collections::BTreeSet;

#[cfg(test)]
use crate::base::buffer::SharedFrame;
#[cfg(test)]
use crate::base::ids::Sid;
#[cfg(test)]
use crate::base::slab::Key;
#[cfg(test)]
use crate::base::time::Time;
#[cfg(test)]
use crate::message::peer::Door;
use crate::shard::run::Shard;
#[cfg(test)]
use crate::shard::value::connection::Kind;
#[cfg(test)]
use crate::shard::value::effect::Deferred;
#[cfg(test)]
use crate::shard::value::endpoint::MAIN;
#[cfg(test)]
use crate::shard::value::kinds::Speech;
#[cfg(test)]
use crate::shard::value::session::CloseReason;
#[cfg(test)]
impl Shard {
    /// How many entries each table has that belong to clients.
    pub(crate) fn tables(&self) -> [(&'static str, usize); 20] {
        let core = self.core.borrow();
        let namespaces = core.tables.namespaces.tables();
        [
            ("connections", core.tables.connections.len()),
            ("sessions", core.tables.sessions.len()),
            ("session_ids", core.tables.session_ids.len()),
            ("sockets", core.tables.sockets.len()),
            ("socket_ids", core.tables.socket_ids.len()),
            ("rooms", core.tables.rooms.len()),
            ("room_ids", namespaces.iter().map(|table| table.room_ids.len()).sum()),
            ("members", namespaces.iter().map(|table| table.members.len()).sum()),
            ("namespaces of patterns", core.tables.namespaces.made()),
            ("acks", core.acks.len()),
            ("kept_acks", core.tables.kept_acks.len()),
            ("inquiries", core.inquiries.len()),
            ("open_sockets", namespaces.iter().map(|table| table.open_sockets as usize).sum()),
            ("tasks", core.tasks.len()),
            ("sleeps", core.sleeps.len()),
            ("routes", core.tables.routes.entries.len()),
            ("addresses of routes", core.tables.routes.by_address.len()),
            ("deferred", core.tables.effects.deferred.len()),
            ("polls_due", core.tables.effects.polls_due.len()),
            ("timers", usize::from(core.tables.wheel.next_timeout() != Time::NEVER)),
        ]
    }

    /// The sockets of the configuration's own endpoint that are let in: namespace, id and rooms, the own one among them.
    pub(crate) fn open_sockets(&self) -> Vec<(String, String, BTreeSet<String>)> {
        let core = self.core.borrow();
        let tables = &core.tables;
        let described = tables.sockets.keys().filter_map(|key| {
            let socket = tables.sockets.get(key).filter(|socket| socket.state.is_told())?;
            let namespace = &tables.namespaces[socket.namespace].namespace;
            let rooms = tables.rooms_of(key).into_iter().collect();
            (namespace.endpoint == MAIN).then(|| (namespace.name.to_string(), socket.sid.to_string(), rooms))
        });
        described.collect()
    }

    /// Fails unless what is counted is what there is.
    pub(crate) fn check_counts(&self) {
        let core = self.core.borrow();
        assert_eq!(
            core.tables.owed.bytes(),
            core.tables.owed_by_all(),
            "bytes that are owed are counted otherwise"
        );
        let partial = core.tables.partial_of_all();
        assert_eq!(
            core.tables.intake.partial_bytes, partial,
            "bytes of what is not whole are counted otherwise"
        );
        drop(core);
        self.check_gauges();
        self.check_sums();
    }

    /// Fails unless what is there now is what the gauges say.
    fn check_gauges(&self) {
        let core = self.core.borrow();
        let (tables, counters) = (&core.tables, &core.tables.env.counters);
        let meters = &counters.meters;
        let connections = tables.connections.keys().filter_map(|key| tables.connections.get(key));
        let public: Vec<_> = connections.filter(|connection| connection.door == Door::Public).collect();
        assert_eq!(counters.connections.get(), public.len() as u64, "connections");
        let websockets = public.iter().filter(|connection| matches!(connection.kind, Kind::WebSocket(_)));
        assert_eq!(meters.connections_websocket.get(), websockets.count() as u64, "WebSockets");
        let mut spoken = vec![0; Speech::LABELS.len()];
        for session in tables.sessions.keys().filter_map(|key| tables.sessions.get(key)) {
            spoken[session.speech() as usize] += u64::from(!session.is_over);
        }
        assert_eq!(meters.sessions.each().map(|(_, count)| count).collect::<Vec<_>>(), spoken, "sessions");
        let sockets: Vec<_> = tables.sockets.keys().filter_map(|key| tables.sockets.get(key)).collect();
        let open = sockets.iter().filter(|socket| socket.state.is_told()).count() as u64;
        assert_eq!(counters.sockets.get(), open, "sockets");
        let by_namespace = meters.namespaces.iter().map(|one| one.sockets.get());
        assert_eq!(by_namespace.sum::<u64>(), open, "sockets of namespaces");
        let waiting = sockets.iter().filter_map(|socket| Some(socket.extra.as_ref()?.waiting.len() as u64));
        assert_eq!(meters.events_waiting.get(), waiting.sum::<u64>(), "events that wait");
    }

    /// Fails unless what came is what is there and what went, and what is told apart is what there is in all.
    fn check_sums(&self) {
        let core = self.core.borrow();
        let counters = &core.tables.env.counters;
        let meters = &counters.meters;
        let namespaces = || meters.namespaces.iter();
        for (what, one, other) in [
            (
                "connections: opened, and open, closed or given away",
                meters.connections_opened.get(),
                counters.connections.get() + meters.connections_closed.sum() + counters.handoffs.get(),
            ),
            ("sessions: all, by speech", counters.sessions.get(), meters.sessions.sum()),
            (
                "sessions: opened, and open or closed",
                meters.sessions_opened.sum(),
                counters.sessions.get() + counters.sessions_closed().map(|(_, count)| count).sum::<u64>(),
            ),
            (
                "sockets: connected, and there or disconnected",
                meters.sockets_connected.get(),
                counters.sockets.get() + meters.sockets_disconnected.sum(),
            ),
            (
                "sockets: connected, by namespace",
                meters.sockets_connected.get(),
                namespaces().map(|one| one.connected.get()).sum(),
            ),
            (
                "events: received, and handled or waiting",
                counters.events_received.get(),
                meters.events.sum() + meters.events_waiting.get(),
            ),
            ("refused requests, by reason", counters.requests_refused.get(), meters.requests_refused.sum()),
            (
                "refused connections, by reason",
                counters.connections_refused.get(),
                meters.connections_refused.sum(),
            ),
            ("dropped messages, by policy", counters.messages_dropped.get(), meters.dropped.sum()),
            ("slow clients closed, by bound", counters.slow_consumers_closed.get(), meters.kicks.sum()),
        ] {
            assert_eq!(one, other, "{what}");
        }
    }

    /// Everything that a connection is owed.
    pub(crate) fn owed_bytes(&self, key: Key) -> Option<Vec<u8>> {
        self.core.borrow().tables.connections.get(key).map(|connection| connection.outbox.to_bytes())
    }

    /// The encoded snapshots that state rooms keep.
    pub(crate) fn snapshots(&self) -> Vec<SharedFrame> {
        self.core.borrow().states.snapshots()
    }

    /// How many walks have slices to come.
    pub(crate) fn walks(&self) -> usize {
        self.core.borrow().inquiries.walks.len()
    }

    /// How many timers there are, those whose owner is gone included.
    pub(crate) fn timers(&self) -> usize {
        self.core.borrow().timers()
    }

    /// How many questions to all shards are not answered.
    pub(crate) fn inquiries(&self) -> usize {
        self.core.borrow().inquiries.len()
    }

    /// Makes as if what is kept of answers were too much, or no more.
    pub(crate) fn pretend_inquiries_full(&self, is_full: bool) {
        self.core.borrow_mut().inquiries.pretend_full(is_full);
    }

    /// Every session.
    pub(crate) fn sessions(&self) -> Vec<Key> {
        self.core.borrow().tables.sessions.keys().collect()
    }

    /// The session with that id.
    pub(crate) fn session_by_sid(&self, sid: &Sid) -> Option<Key> {
        self.core.borrow().tables.session_by_sid(sid)
    }

    /// Whether a socket with that id is here.
    pub(crate) fn has_socket(&self, sid: &Sid) -> bool {
        self.core.borrow().tables.socket_by_sid(sid).is_some()
    }

    /// How many slots of the mesh's table of rooms this shard holds.
    pub(crate) fn holdings(&self) -> usize {
        self.core.borrow().tables.holdings.len()
    }

    /// The next deadline of a session.
    pub(crate) fn session_deadline(&self, session: Key) -> Option<Time> {
        self.core.borrow().tables.sessions.get(session).map(|session| session.deadline())
    }

    /// Queues a packet for a session.
    pub(crate) fn send_packet(&self, session: Key, packet: &str) {
        self.core.borrow_mut().tables.send_packet(session, packet);
    }

    /// Closes a session, for any reason that there is.
    pub(crate) fn end_session(&mut self, session: Key, reason: CloseReason, now: Time) {
        self.work(now, |shard| {
            shard.core.borrow_mut().tables.effects.deferred.push(Deferred::CloseSession(session, reason));
        });
    }
}

#[cfg(feature = "bench-support")]
impl Shard {
    /// Gives everybody a new share: what a turn's end does, without the rest of it.
    pub(crate) fn give_new_shares(&mut self) {
        self.core.borrow_mut().tables.new_turn();
    }

    /// Queues a frame for every socket of the first namespace that is meant. Returns for how many that was.
    pub(crate) fn fan_out(
        &mut self,
        target: &crate::message::target::Target,
        frame: &crate::base::buffer::SharedFrame,
    ) -> u64 {
        let event = crate::shard::table::delivery::Event { frame, offset: None, id: None, published: 0 };
        let outcome = self.core.borrow_mut().tables.deliver_local(0, target, None, event);
        outcome.sent + outcome.queued
    }
}
