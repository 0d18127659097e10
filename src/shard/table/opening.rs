//! How a session begins, by either transport.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Parser;
use crate::protocol::engineio::packet::Open;
use crate::protocol::engineio::polling::PollForm;
use crate::protocol::engineio::revision::Revision;
use crate::protocol::engineio::session::Heartbeat;
use crate::protocol::http::head::Head;
use crate::shard::table::Tables;
use crate::shard::table::polling::{one_packet, poll_response};
use crate::shard::table::switching::Accepted;
use crate::shard::value::connection::{Kind, Role};
use crate::shard::value::form::Form;
use crate::shard::value::handshake::Handshake;
use crate::shard::value::kinds::Speech;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::pace::Pace;
use crate::shard::value::session::{Left, Link, Session};
use crate::shard::value::share::SessionShare;

impl Tables {
    pub(crate) fn open_polling(
        &mut self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        form: PollForm,
    ) -> Key {
        let link = Link::Polling { poll: None, post: None };
        let session_key = self.open_session(key, endpoint, head, (link, form));
        let table = self.endpoint(endpoint);
        let open = self.open_packet(session_key, table.options.websocket && table.options.allow_upgrades);
        let mut response = poll_response(one_packet(form, &open));
        if let Some(sid) = self.sessions.get(session_key).map(|session| session.sid)
            && let Some(Ok(cookie)) = table.cookie.as_ref().map(|cookie| cookie.encode(sid.as_str()))
        {
            response = response.header("set-cookie", cookie);
        }
        self.respond(key, &response);
        session_key
    }

    pub(crate) fn open_websocket(
        &mut self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        (form, accepted): (PollForm, &Accepted),
    ) -> Key {
        let session_key = self.open_session(key, endpoint, head, (Link::WebSocket(key), form));
        self.become_websocket(key, endpoint, (head, accepted), Role::Session(session_key));
        self.note_text_only(key, form);
        self.adopt_form(session_key, key);
        let open = self.open_packet(session_key, false);
        self.send_packet(session_key, &open);
        session_key
    }

    /// A WebSocket whose client reads no bytes, which revision 3 may say, gets binary as text.
    pub(crate) fn note_text_only(&mut self, key: Key, form: PollForm) {
        if form.revision == Revision::Three
            && form.is_text_only
            && let Some(Kind::WebSocket(websocket)) =
                self.connections.get_mut(key).map(|connection| &mut connection.kind)
        {
            websocket.form = websocket.form | Form::BASE64;
        }
    }

    fn open_session(
        &mut self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        (link, form): (Link, PollForm),
    ) -> Key {
        let sid = self.new_sid();
        let speech = Speech::of(matches!(link, Link::WebSocket(_)), form.revision);
        let peer =
            self.connections.get(key).map_or(crate::message::peer::Peer::Unix, |connection| connection.peer);
        let address = self.client_address(peer, head.headers);
        let issued = self.env.unix_origin + self.env.now.0;
        let mut handshake = Handshake::new(head.target, head.headers.iter_bytes(), (peer, address), issued);
        handshake.is_secure = self.is_secure(key);
        let table = self.endpoint(endpoint);
        // Raw endpoints have no namespaces to join.
        let connect_by =
            if table.is_raw { Time::NEVER } else { self.env.now + table.options.connect_timeout };
        let heartbeat = Heartbeat::new(form.revision, table.heartbeat_times(), self.env.now);
        let is_packed = table.settings.parser == Parser::Msgpack && !table.is_raw;
        let parser = if is_packed { Form::MSGPACK } else { Form::default() };
        let typed = if form.revision == Revision::Three { Form::TYPED } else { Form::default() };
        let session_key = self.sessions.insert(Session {
            sid,
            endpoint,
            is_traced: false,
            link,
            poll_form: form,
            form: parser | typed,
            upgrade: None,
            heartbeat,
            connect_by,
            armed: Time::NEVER,
            backlog: Outbox::default(),
            may_compress: false,
            is_poll_due: false,
            behind: 0,
            awaits_drain: false,
            parked: None,
            is_over: false,
            is_given_up: false,
            is_ending: false,
            left: Left::None,
            is_sent_away: false,
            is_told: false,
            is_unjoined: false,
            is_held: false,
            sockets: SmallVec::new(),
            share: SessionShare::default(),
            tasks: 0,
            pending_binary: None,
            waiting_bytes: 0,
            partial: 0,
            handshake: Arc::new(handshake),
            fork: None,
            account: None,
            pace: Pace::default(),
        });
        let Tables { session_ids, sessions, .. } = &mut *self;
        session_ids.insert(&sid, session_key.index, |place| sessions.at(place).map(|session| session.sid));
        self.env.counters.sessions.add(1);
        let counters = &self.endpoint(endpoint).counters;
        counters.sessions.add(1);
        counters.sessions_opened.add(1);
        counters.sessions_polling.add(u64::from(matches!(link, Link::Polling { .. })));
        self.meters().sessions_opened.count(speech);
        self.meters().sessions.count(speech);
        self.env.endpoints[usize::from(endpoint)].sessions += 1;
        self.hold_session(session_key);
        self.make_room_for(session_key, connect_by != Time::NEVER);
        self.arm_session(session_key);
        tracing::debug!(target: ENGINEIO, session = %sid.brief(), %peer, "session opened");
        session_key
    }

    fn open_packet(&self, session_key: Key, can_upgrade: bool) -> String {
        let session = self.sessions.get(session_key).expect("the session was just opened");
        let options = &self.endpoint(session.endpoint).options;
        Open {
            sid: session.sid.as_str(),
            can_upgrade,
            ping_interval: options.ping_interval + options.ping_grace,
            ping_timeout: options.ping_timeout,
            payload_bytes_max: options.max_http_buffer_size,
        }
        .encode()
    }
}
