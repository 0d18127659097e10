//! The upgrade of a polling session: a WebSocket that probes, and then takes over (Engine.IO, "Upgrade").

use crate::base::slab::Key;
use crate::protocol::engineio::polling::PollForm;
use crate::protocol::http::head::Head;
use crate::protocol::socketio::frames::frame_text;
use crate::shard::table::Tables;
use crate::shard::table::switching::Accepted;
use crate::shard::value::connection::{Connection, Kind, Role};
use crate::shard::value::kinds::UpgradeOutcome;
use crate::shard::value::session::{Link, Upgrade};

impl Tables {
    /// A WebSocket for a polling session. A second one is told at once that it is not wanted.
    pub(crate) fn open_probe(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        session_key: Key,
        (form, accepted): (PollForm, &Accepted),
    ) {
        let Some(endpoint) = self.endpoint_of(session_key) else { return };
        let until = self.env.now + self.endpoint(endpoint).options.upgrade_timeout;
        self.become_websocket(key, endpoint, (head, accepted), Role::Probe(session_key));
        self.note_text_only(key, form);
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        if session.upgrade.is_some() || matches!(session.link, Link::WebSocket(_)) {
            self.close_websocket(key, None, "");
            return;
        }
        session.upgrade = Some(Upgrade { connection: key, until, is_probed: false });
        self.arm_session(session_key);
    }

    /// Gives an upgrade up: the session goes on polling.
    pub(crate) fn forget_upgrade(&mut self, session_key: Key, key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key)
            && session.upgrade.is_some_and(|upgrade| upgrade.connection == key)
        {
            session.upgrade = None;
            self.env.counters.meters.upgrades.count(UpgradeOutcome::Failed);
            if session.is_over && session.backlog.is_empty() && !session.is_sent_away {
                self.remove_session(session_key);
            }
        }
    }

    /// `2probe`: answer it, and let the pending poll go at once, so that the client can switch.
    pub(crate) fn answer_probe(&mut self, key: Key, session_key: Key) {
        if self.is_owed_much(key) {
            return;
        }
        self.write_to(key, |out| frame_text(out, "3probe"));
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        if let Some(upgrade) = &mut session.upgrade {
            upgrade.is_probed = true;
        }
        if session.backlog.is_empty() {
            self.release_poll(session_key, "6");
        } else {
            self.mark_poll_due(session_key);
        }
        // The client will not poll again before its POST is answered.
        self.look_at_pause(session_key);
    }

    /// `5`: from here on the session speaks through this WebSocket.
    pub(crate) fn upgrade(&mut self, key: Key, session_key: Key) {
        self.release_poll(session_key, "6");
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        let is_candidate = session.upgrade.take().is_some_and(|upgrade| upgrade.connection == key);
        if !is_candidate {
            self.close_websocket(key, None, "");
            return;
        }
        let is_over = session.is_over;
        self.resume_input(session_key);
        self.move_outside(session_key, key);
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        let meters = &self.env.counters.meters;
        if !is_over {
            meters.sessions.subtract(session.speech());
        }
        session.link = Link::WebSocket(key);
        if !is_over {
            self.env.endpoints[usize::from(session.endpoint)].counters.sessions_polling.subtract(1);
        }
        session.behind = 0;
        if !is_over {
            meters.sessions.count(session.speech());
            meters.upgrades.count(UpgradeOutcome::Done);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.is_traced = session.is_traced;
        connection.awaits_drain = std::mem::take(&mut session.awaits_drain);
        if let Kind::WebSocket(websocket) = &mut connection.kind {
            websocket.role = Role::Session(session_key);
        }
        let added = connection.form();
        if added.is_canonical() {
            session.backlog.append_to(&mut connection.outbox);
        }
        while let Some(frames) = session.backlog.front() {
            let len = frames.len();
            let before = connection.outbox.len();
            connection
                .outbox
                .write(&mut self.pools.buffers, |out| self.pools.transcoder.transcode(frames, added, out));
            self.owed.add(connection.outbox.len() - before);
            session.backlog.advance(len, &mut self.pools.buffers);
            self.owed.remove(len);
        }
        if session.share.is_queued {
            // From here on what waits for its sockets is in the share of its WebSocket, before what comes there.
            self.wait_turn(key);
        }
        self.adopt_form(session_key, key);
        for (_, socket) in self.sessions.get(session_key).into_iter().flat_map(|session| &session.sockets) {
            if let Some(socket) = self.sockets.get_mut(*socket) {
                socket.connection = key.index;
            }
        }
        self.mark_dirty(key);
        if self.sightings.is_on {
            self.saw_upgraded(session_key);
        }
        if is_over {
            self.end_switched(session_key, key);
        }
    }

    /// From here on a session's frames have what its WebSocket adds to their form.
    pub(crate) fn adopt_form(&mut self, session_key: Key, key: Key) {
        let added = self.connections.get(key).map(Connection::form).unwrap_or_default();
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        session.form = session.form | added;
        for (_, socket) in &session.sockets {
            if let Some(socket) = self.sockets.get_mut(*socket) {
                socket.form = session.form;
            }
        }
    }
}
