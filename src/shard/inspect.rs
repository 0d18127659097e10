//! What tests and benches see and do inside a shard, past the seam. No release has any of it.

#[cfg(test)]
use crate::base::buffer::SharedFrame;
#[cfg(test)]
use crate::base::ids::Sid;
#[cfg(test)]
use crate::base::slab::Key;
#[cfg(test)]
use crate::base::time::Time;
use crate::shard::run::Shard;
#[cfg(test)]
use crate::shard::value::effect::Deferred;
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
    pub(crate) fn begin_turn(&mut self) {
        self.core.borrow_mut().tables.new_turn();
    }

    /// Queues a frame for every socket of the first namespace that is meant. Returns for how many that was.
    pub(crate) fn fan_out(
        &mut self,
        target: &crate::message::target::Target,
        frame: &crate::base::buffer::SharedFrame,
    ) -> u64 {
        let event = crate::shard::table::delivery::Event { frame, offset: None, id: None };
        let outcome = self.core.borrow_mut().tables.deliver_local(0, target, None, event);
        outcome.sent + outcome.queued
    }
}
