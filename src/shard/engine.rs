//! Engine.IO requests: which session, which transport, and what the answer is
//! (either revision; the order of the checks is that of engine.io 6).

use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::guard::guarded;
use crate::base::ids::{ShardId, Sid};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::engineio::packet::Open;
use crate::protocol::engineio::polling::{PollAnswer, PollBody, PollForm};
use crate::protocol::engineio::request::{RequestError, RequestQuery, Transport};
use crate::protocol::engineio::revision::Revision;
use crate::protocol::engineio::session::Heartbeat;
use crate::protocol::http::coding::Coding;
use crate::protocol::http::cors::RefusedOrigin;
use crate::protocol::http::head::Head;
use crate::protocol::http::method::Method;
use crate::protocol::http::query;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::Shard;
use crate::shard::config::Parser;
use crate::shard::connection::{Kind, Role};
use crate::shard::core::Core;
use crate::shard::handshake::Handshake;
use crate::shard::outbox::Outbox;
use crate::shard::session::{CloseReason, Left, Link, Session, Upgrade};
use crate::shard::site::Request;
use crate::shard::switching::{Accepted, validate_handshake};
use crate::shard::wire::Wire;

/// How long an ended polling session waits for the poll that fetches its last packets, as engine.io does.
const LAST_POLL_TIMEOUT: Duration = Duration::from_secs(30);

/// A shard key from a query is hashed with this (FNV-1a, 64 bits).
const SHARD_KEY_HASH_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const SHARD_KEY_HASH_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The shard where a `shard_key` puts its session.
pub(crate) fn shard_of_key(key: &str, shards: usize) -> ShardId {
    let hash = key.bytes().fold(SHARD_KEY_HASH_OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(SHARD_KEY_HASH_PRIME)
    });
    ShardId((hash % shards.max(1) as u64) as u16)
}

impl Shard {
    /// The shard that must answer a request with this query, when it is not this one.
    pub(crate) fn foreign_owner(&self, query: &str) -> Option<ShardId> {
        let core = self.core.borrow();
        let shards = core.mesh.len();
        if shards == 1 {
            return None;
        }
        let owner = match query::get_last(query, "sid").filter(|sid| !sid.is_empty()) {
            Some(sid) => Sid::parse(&sid)?.shard(),
            None => shard_of_key(&query::get_last(query, "shard_key").filter(|key| !key.is_empty())?, shards),
        };
        (owner != core.id && owner.index() < shards).then_some(owner)
    }

    /// Answers a whole request to the Engine.IO endpoint.
    pub(crate) fn answer_engine(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>, body: &[u8]) {
        if is_preflight(head) {
            return self.core.borrow_mut().answer_preflight(key, endpoint, head);
        }
        if self.core.borrow_mut().answer_bundle(key, endpoint, head) {
            return;
        }
        let query = self.engine_query(endpoint, head);
        let admitted = self.admit(key, endpoint, head, &query);
        match admitted.and_then(|admission| self.allow(key, endpoint, head, admission)) {
            Err(refusal) => self.core.borrow_mut().refuse_engine(key, head, &refusal),
            Ok(Admission::OpenPolling(_) | Admission::OpenWebSocket(..)) if self.core.borrow().is_full() => {
                let mut core = self.core.borrow_mut();
                core.refuse_session(key);
            }
            Ok(Admission::OpenPolling(form)) => {
                let session = self.core.borrow_mut().open_polling(key, endpoint, head, form);
                self.engine_opened(session);
                self.connect_default(session);
            }
            Ok(Admission::OpenWebSocket(form, accepted)) => {
                let session = self.core.borrow_mut().open_websocket(key, endpoint, head, (form, &accepted));
                self.engine_opened(session);
                self.connect_default(session);
            }
            Ok(Admission::Probe(session, form, accepted)) => {
                self.core.borrow_mut().open_probe(key, head, session, (form, &accepted))
            }
            Ok(Admission::Poll(session, form)) => self.poll(key, (session, form)),
            Ok(Admission::Post(session, form)) => self.post(key, head, (session, form), body),
            Ok(Admission::OtherMethod) => {
                tracing::info!(
                    target: super::ENGINEIO,
                    method = head.method.as_str(),
                    "Engine.IO request refused: a session knows GET and POST only"
                );
                let response = Response::new(Status::INTERNAL_SERVER_ERROR);
                let mut core = self.core.borrow_mut();
                core.counters.requests_refused.add(1);
                core.respond(key, &response);
            }
        }
    }

    /// Asks the user's `allow_request` before a session opens, and which subprotocol a WebSocket speaks. No borrow is held
    /// meanwhile; a panic refuses.
    fn allow(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        mut admission: Admission,
    ) -> Result<Admission, Refusal> {
        let handlers = self.app.endpoint(endpoint);
        let rule = handlers.and_then(|handlers| handlers.allow_request.as_ref());
        if let (Some(rule), Admission::OpenPolling(_) | Admission::OpenWebSocket(..)) = (rule, &admission) {
            let peer = self.core.borrow().peer_of(key);
            let request = Request::of_handshake(head, peer, &self.core, endpoint);
            let decided = guarded(|| rule(&request));
            self.watched(|| "allow_request".to_owned());
            match decided {
                Ok(outcome) => outcome.map_err(Refusal::Rule)?,
                Err(panic) => {
                    tracing::error!(target: super::ENGINEIO, message = %panic, "allow_request panicked; the client is refused");
                    self.core.borrow().counters.handler_panics.add(1);
                    return Err(Refusal::Rule(String::new()));
                }
            }
        }
        if let Admission::OpenWebSocket(_, accepted) | Admission::Probe(_, _, accepted) = &mut admission {
            accepted.protocol = self.choose_protocol(key, endpoint, head).map_err(Refusal::Rule)?;
        }
        Ok(admission)
    }

    /// What the query says, as far as this server heeds it.
    fn engine_query<'a>(&self, endpoint: u8, head: &Head<'a, '_>) -> RequestQuery<'a> {
        let mut query = RequestQuery::parse(head.query);
        if !self.core.borrow().endpoint(endpoint).options.allow_eio3 {
            query.callback = None;
        }
        query
    }

    /// What a request asks for, or why it is refused.
    fn admit(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        query: &RequestQuery<'_>,
    ) -> Result<Admission, Refusal> {
        let core = self.core.borrow();
        let options = &core.endpoint(endpoint).options;
        let transport = query.transport().ok_or(RequestError::TransportUnknown)?;
        let is_served = match transport {
            Transport::Polling => options.polling,
            Transport::WebSocket => options.websocket,
        };
        if !is_served {
            return Err(RequestError::TransportUnknown.into());
        }
        match query.callback.filter(|_| transport == Transport::Polling) {
            Some(_) => core.check_script_origin(key, endpoint, head).map_err(Refusal::Origin)?,
            None => core.check_origin(key, endpoint, head).map_err(Refusal::Origin)?,
        }
        let is_upgrade = match transport {
            Transport::WebSocket => head.offers_upgrade("websocket"),
            Transport::Polling => head.asks_for_upgrade("websocket"),
        };
        let accept = || validate_handshake(head).map_err(|_| RequestError::BadRequest);
        let Some(sid) = &query.sid else {
            if head.method != Method::Get {
                return Err(RequestError::BadHandshakeMethod.into());
            }
            if is_upgrade != (transport == Transport::WebSocket) {
                return Err(RequestError::BadRequest.into());
            }
            let revision =
                query.revision().filter(|&revision| revision == Revision::Four || options.allow_eio3);
            let form = query.poll_form(revision.ok_or(RequestError::UnsupportedRevision)?);
            return match transport {
                Transport::Polling => Ok(Admission::OpenPolling(form)),
                Transport::WebSocket => Ok(Admission::OpenWebSocket(form, accept()?)),
            };
        };
        let key = Sid::parse(sid).and_then(|sid| core.session_by_sid(&sid));
        let key = key.ok_or(RequestError::SessionUnknown)?;
        let session = core.sessions.get(key).filter(|session| session.endpoint == endpoint);
        let session = session.ok_or(RequestError::SessionUnknown)?;
        let form = query.poll_form(session.poll_form.revision);
        if query.revision() != Some(form.revision) {
            return Err(RequestError::BadRequest.into());
        }
        match (transport, session.link) {
            (Transport::WebSocket, _) if is_upgrade && !session.is_over => {
                Ok(Admission::Probe(key, form, accept()?))
            }
            (Transport::Polling, Link::Polling { .. }) if !is_upgrade => match head.method {
                Method::Get => Ok(Admission::Poll(key, form)),
                Method::Post if session.is_over => Err(RequestError::SessionUnknown.into()),
                Method::Post => Ok(Admission::Post(key, form)),
                _ => Ok(Admission::OtherMethod),
            },
            _ => Err(RequestError::BadRequest.into()),
        }
    }

    /// A GET of a polling session: it takes what waits, or waits itself.
    fn poll(&mut self, key: Key, (session_key, form): (Key, PollForm)) {
        let mut core = self.core.borrow_mut();
        let Some(session) = core.sessions.get_mut(session_key) else { return };
        let Link::Polling { poll, .. } = &mut session.link else { return };
        if poll.is_some() {
            core.counters.requests_refused.add(1);
            core.respond(key, &Response::new(Status::BAD_REQUEST));
            drop(core);
            tracing::info!(
                target: super::ENGINEIO,
                "session closed: a second poll came while one was pending; a client polls once at a time: \
                 look for a proxy that repeats requests, or two clients with one sid"
            );
            self.close_session(session_key, CloseReason::TransportError);
            return;
        }
        *poll = Some(key);
        session.poll_form = form;
        let is_due = !session.backlog.is_empty() || session.is_over;
        let is_upgrading = session.upgrade.is_some_and(|upgrade| upgrade.is_probed);
        if let Some(http) = core.http_mut(key) {
            http.session = Some(session_key);
        }
        if is_due {
            core.mark_poll_due(session_key);
        } else if is_upgrading {
            core.release_poll(session_key, "6");
        }
    }

    /// A POST whose body is not here yet. False when the request is already answered.
    pub(crate) fn begin_post(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) -> bool {
        let query = self.engine_query(endpoint, head);
        let Ok(Admission::Post(session, _)) = self.admit(key, endpoint, head, &query) else { return true };
        self.claim_post(key, session)
    }

    /// The connection that carried a session's poll or POST is gone before its time.
    pub(crate) fn carrier_lost(&mut self, session_key: Key, key: Key) {
        let is_carrier = match self.core.borrow().sessions.get(session_key).map(|session| session.link) {
            Some(Link::Polling { poll, post }) => poll == Some(key) || post == Some(key),
            _ => false,
        };
        if is_carrier {
            self.close_session(session_key, CloseReason::TransportError);
        }
    }
}

/// Why a request may not go on.
#[derive(Debug)]
enum Refusal {
    Request(RequestError),
    Origin(Box<RefusedOrigin>),
    /// `allow_request` said no, with this message; empty for the usual one.
    Rule(String),
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Refusal {
        Refusal::Request(error)
    }
}

/// What a request may do.
#[derive(Debug)]
enum Admission {
    OpenPolling(PollForm),
    OpenWebSocket(PollForm, Accepted),
    Probe(Key, PollForm, Accepted),
    Poll(Key, PollForm),
    Post(Key, PollForm),
    /// A method that sessions do not know.
    OtherMethod,
}

/// Whether a browser asks before it sends a request of another origin (Fetch standard, CORS-preflight).
pub(crate) fn is_preflight(head: &Head<'_, '_>) -> bool {
    head.method == Method::Options && head.headers.get("access-control-request-method").is_some()
}

impl Core {
    /// Whether no further session may open here.
    fn is_full(&self) -> bool {
        self.sessions.len() >= self.config.sessions_max || self.is_draining()
    }

    fn refuse_session(&mut self, key: Key) {
        self.counters.requests_refused.add(1);
        let reason = if self.is_draining() {
            tracing::info!(target: super::ENGINEIO, "session refused: the server is shutting down");
            "shutting down"
        } else {
            tracing::warn!(
                target: super::ENGINEIO,
                sessions_max = self.config.sessions_max,
                "session refused: this shard holds sessions_max; raise it, or add shards"
            );
            "too many sessions"
        };
        let response = Response::text(reason).with_status(Status::SERVICE_UNAVAILABLE);
        self.respond(key, &response.header("retry-after", "5"));
    }

    /// Whether a session is open for its peer.
    pub(crate) fn is_session_live(&self, key: Key) -> bool {
        self.sessions.get(key).is_some_and(|session| !session.is_over)
    }

    /// The endpoint at which a session opened.
    pub(crate) fn endpoint_of(&self, session: Key) -> Option<u8> {
        self.sessions.get(session).map(|session| session.endpoint)
    }

    fn refuse_engine(&mut self, key: Key, head: &Head<'_, '_>, refusal: &Refusal) {
        self.counters.requests_refused.add(1);
        let peer = self.connections.get(key).map(|connection| connection.peer);
        let (error, message) = match refusal {
            Refusal::Request(error) => (*error, error.message()),
            Refusal::Origin(refused) => {
                tracing::warn!(target: super::ENGINEIO, ?peer, "{refused}");
                (RequestError::BadRequest, RequestError::BadRequest.message())
            }
            Refusal::Rule(message) if message.is_empty() => {
                (RequestError::Forbidden, RequestError::Forbidden.message())
            }
            Refusal::Rule(message) => (RequestError::Forbidden, message.as_str()),
        };
        if !matches!(refusal, Refusal::Origin(_)) {
            tracing::info!(
                target: super::ENGINEIO,
                ?peer,
                url = super::trace::url_without_secrets(head),
                refused = message,
                advice = error.advice(),
                "Engine.IO request refused"
            );
        }
        let status = Status::new(error.status()).unwrap_or(Status::BAD_REQUEST);
        if head.offers_upgrade("websocket") {
            // Text, because a rule's message may quote the request.
            let mut response = match refusal {
                Refusal::Rule(_) => Response::text(message.to_owned()),
                _ => Response::html(error.message()),
            }
            .with_status(status);
            if let Err(fault) = validate_handshake(head)
                && let Some((name, value)) = fault.header()
            {
                response = response.header(name, value);
            }
            self.respond_and_close(key, &response);
            return;
        }
        let response = Response::new(status)
            .header("content-type", "application/json")
            .body(error.body(message).into_bytes());
        self.respond(key, &response);
    }

    fn open_polling(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>, form: PollForm) -> Key {
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

    fn open_websocket(
        &mut self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        (form, accepted): (PollForm, &Accepted),
    ) -> Key {
        let session_key = self.open_session(key, endpoint, head, (Link::WebSocket(key), form));
        self.become_websocket(key, endpoint, (head, accepted), Role::Session(session_key));
        self.note_text_only(key, form);
        self.adopt_wire(session_key, key);
        let open = self.open_packet(session_key, false);
        self.send_packet(session_key, &open);
        session_key
    }

    /// A WebSocket whose client reads no bytes, which revision 3 may say, gets binary as text.
    fn note_text_only(&mut self, key: Key, form: PollForm) {
        if form.revision == Revision::Three
            && form.is_text_only
            && let Some(Kind::WebSocket(websocket)) =
                self.connections.get_mut(key).map(|connection| &mut connection.kind)
        {
            websocket.wire = websocket.wire | Wire::BASE64;
        }
    }

    /// A WebSocket for a polling session. A second one is told at once that it is not wanted.
    fn open_probe(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        session_key: Key,
        (form, accepted): (PollForm, &Accepted),
    ) {
        let Some(endpoint) = self.endpoint_of(session_key) else { return };
        let until = self.now + self.endpoint(endpoint).options.upgrade_timeout;
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

    fn open_session(
        &mut self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        (link, form): (Link, PollForm),
    ) -> Key {
        let sid = self.new_sid();
        let peer = self.connections.get(key).map_or(crate::mesh::Peer::Unix, |connection| connection.peer);
        let address = self.client_address(peer, head.headers);
        let issued = self.unix_origin + self.now.0;
        let handshake = Handshake::new(head.target, head.headers.iter_bytes(), (peer, address), issued);
        let table = self.endpoint(endpoint);
        // Raw endpoints have no namespaces to join.
        let connect_by = if table.is_raw { Time::NEVER } else { self.now + table.options.connect_timeout };
        let heartbeat = Heartbeat::new(form.revision, table.heartbeat_times(), self.now);
        let is_packed = self.config.parser == Parser::Msgpack && !table.is_raw;
        let parser = if is_packed { Wire::MSGPACK } else { Wire::default() };
        let typed = if form.revision == Revision::Three { Wire::TYPED } else { Wire::default() };
        let session_key = self.sessions.insert(Session {
            sid,
            endpoint,
            is_traced: false,
            link,
            poll_form: form,
            wire: parser | typed,
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
            sockets: SmallVec::new(),
            pending_binary: None,
            partial: 0,
            handshake: Rc::new(handshake),
        });
        let Core { session_ids, sessions, .. } = &mut *self;
        session_ids.insert(&sid, session_key.index, |place| sessions.at(place).map(|session| session.sid));
        self.counters.sessions.add(1);
        self.arm_session(session_key);
        tracing::debug!(target: super::ENGINEIO, %peer, "session opened");
        session_key
    }

    fn open_packet(&self, session_key: Key, can_upgrade: bool) -> String {
        let session = self.sessions.get(session_key).expect("the session was just opened");
        let options = &self.endpoint(session.endpoint).options;
        Open {
            sid: session.sid.as_str(),
            can_upgrade,
            ping_interval: options.ping_interval,
            ping_timeout: options.ping_timeout,
            payload_bytes_max: options.max_http_buffer_size,
        }
        .encode()
    }

    /// Frees a session's POST, if `key` carried it.
    pub(crate) fn release_post(&mut self, session_key: Key, key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key)
            && let Link::Polling { post, .. } = &mut session.link
            && *post == Some(key)
        {
            *post = None;
        }
    }

    /// Answers a pending poll with one packet.
    pub(crate) fn release_poll(&mut self, session_key: Key, packet: &'static str) {
        let Some(form) = self.sessions.get(session_key).map(|session| session.poll_form) else { return };
        if let Some(key) = self.take_poll(session_key) {
            self.respond(key, &poll_response(one_packet(form, packet)));
        }
    }

    /// Answers a pending poll with what waits for it; what is left stays for the next.
    pub(crate) fn answer_poll(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        let packets_max = self.endpoints[usize::from(session.endpoint)].options.poll_packets_max;
        session.is_poll_due = false;
        if session.backlog.is_empty() && !session.is_over {
            return;
        }
        let Some(key) = self.take_poll(session_key) else { return };
        let Core { sessions, buffers, owed, .. } = &mut *self;
        let Some(session) = sessions.get_mut(session_key) else { return };
        let mut body = PollBody::new(session.poll_form, session.backlog.len().min(64 * 1024));
        while let Some(front) = session.backlog.front() {
            let (covered, has_room) = body.append_frames(front, packets_max);
            session.backlog.advance(covered, buffers);
            owed.remove(covered);
            if !has_room {
                break;
            }
        }
        let may_compress = session.may_compress;
        session.may_compress &= !session.backlog.is_empty();
        let is_last = session.is_over && session.backlog.is_empty();
        if is_last {
            body.append("1");
        }
        let has_waited = session.behind > 0 || session.awaits_drain;
        if !may_compress && let Some(http) = self.http_mut(key) {
            http.framing.coding = Coding::Identity;
        }
        self.respond(key, &poll_response(body.finish()));
        if is_last {
            self.remove_session(session_key);
        } else if has_waited {
            self.note_poll_progress(session_key);
        }
    }

    fn take_poll(&mut self, session_key: Key) -> Option<Key> {
        match &mut self.sessions.get_mut(session_key)?.link {
            Link::Polling { poll, .. } => poll.take(),
            Link::WebSocket(_) => None,
        }
    }

    /// Gives an upgrade up: polling goes on as if nothing had been.
    pub(crate) fn forget_upgrade(&mut self, session_key: Key, key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key)
            && session.upgrade.is_some_and(|upgrade| upgrade.connection == key)
        {
            session.upgrade = None;
        }
    }

    /// Ends the transport of a session that is over.
    pub(crate) fn end_transport(&mut self, session_key: Key, reason: CloseReason) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        session.is_over = true;
        let link = session.link;
        let upgrade = session.upgrade.take();
        if let Some(upgrade) = upgrade {
            self.close_websocket(upgrade.connection, None, "");
        }
        match link {
            Link::WebSocket(key) => {
                self.close_websocket(key, None, "");
                self.remove_session(session_key);
            }
            Link::Polling { poll, .. } => {
                let is_owed =
                    self.sessions.get(session_key).is_some_and(|session| !session.backlog.is_empty());
                // A client that we send away may still fetch what it was sent before.
                let is_ours = matches!(
                    reason,
                    CloseReason::ServerDisconnect | CloseReason::ServerShutdown | CloseReason::ForcedClose
                );
                // Between two polls there is nobody to tell: the next one hears of it.
                let is_untold = poll.is_none() && reason != CloseReason::ForcedClose;
                if is_ours && (is_owed || is_untold) {
                    self.await_last_poll(session_key, poll.is_some());
                } else {
                    let farewell = if reason == CloseReason::TransportClose { "6" } else { "1" };
                    self.release_poll(session_key, farewell);
                    self.remove_session(session_key);
                }
            }
        }
    }

    /// An ended session keeps what it owes for one more poll.
    fn await_last_poll(&mut self, session_key: Key, has_poll: bool) {
        let until = self.now + LAST_POLL_TIMEOUT;
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.connect_by = until;
        }
        if has_poll {
            self.mark_poll_due(session_key);
        }
        self.arm_session(session_key);
    }

    pub(crate) fn remove_session(&mut self, session_key: Key) {
        let Some(mut session) = self.sessions.remove(session_key) else { return };
        self.owed.remove(session.parked.map_or(0, |parked| parked.bytes) + session.backlog.len());
        session.backlog.clear(&mut self.buffers);
        self.partial_bytes -= session.partial;
        self.session_ids.remove(&session.sid, session_key.index);
        self.counters.sessions.subtract(1);
    }
}

/// A poll's answer that is one packet.
fn one_packet(form: PollForm, packet: &str) -> PollAnswer {
    let mut body = PollBody::new(form, packet.len());
    body.append(packet);
    body.finish()
}

fn poll_response(answer: PollAnswer) -> Response {
    let response = Response::new(Status::OK)
        .header("content-type", answer.content_type)
        .header("cache-control", "no-store")
        .body(answer.body);
    if answer.is_script { response.header("x-content-type-options", "nosniff") } else { response }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_key_always_names_the_same_shard() {
        for shards in [1, 2, 3, 16] {
            for key in ["", "room-1", "room-2", "é"] {
                let shard = shard_of_key(key, shards);
                assert_eq!(shard, shard_of_key(key, shards));
                assert!(shard.index() < shards);
            }
        }
        let used: std::collections::BTreeSet<_> =
            (0..100).map(|index| shard_of_key(&format!("room-{index}"), 4)).collect();
        assert_eq!(used.len(), 4, "keys spread over the shards");
    }
}
