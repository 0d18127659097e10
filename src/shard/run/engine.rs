//! Engine.IO requests: which session, which transport, and what the answer is
//! (either revision; the order of the checks is that of engine.io 6).

use std::rc::Rc;

use crate::base::ids::{ShardId, Sid};
use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::engineio::polling::PollForm;
use crate::protocol::engineio::request::{RequestError, RequestQuery, Transport};
use crate::protocol::engineio::revision::Revision;
use crate::protocol::http::head::{Head, HeaderStorage, decode_head};
use crate::protocol::http::method::Method;
use crate::protocol::http::query;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::run::Shard;
use crate::shard::run::routes::Asked;
use crate::shard::table::answer::Refusal;
use crate::shard::table::switching::{Accepted, validate_handshake};
use crate::shard::user::app::AllowRequest;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::subprotocol::ChooseProtocol;
use crate::shard::value::effect::Deferred;
use crate::shard::value::kinds::RequestRefused;
use crate::shard::value::route::Values;
use crate::shard::value::session::Link;
use crate::shard::value::shard_key::hash_of_key;

impl Shard {
    /// The shard that must answer a request with this query, when it is not this one. One that has died cannot answer:
    /// its sessions are unknown here, and its keys lead to the next shard.
    pub(crate) fn foreign_owner(&self, query: &str) -> Option<ShardId> {
        let core = self.core.borrow();
        let mesh = &core.tables.mesh;
        if mesh.len() == 1 {
            return None;
        }
        let owner = match query::get_last(query, "sid").filter(|sid| !sid.is_empty()) {
            Some(sid) => Sid::parse(&sid).filter(|sid| !core.tables.is_foreign(*sid))?.shard(),
            None if core.tables.env.config.shard_key => {
                let key = query::get_last(query, "shard_key").filter(|key| !key.is_empty())?;
                mesh.living((hash_of_key(&key, mesh.shard_key_salt()) % mesh.len() as u64) as usize)
            }
            None => return None,
        };
        (owner != core.tables.env.id && !mesh.is_gone(owner)).then_some(owner)
    }

    /// Answers a whole request to the Engine.IO endpoint.
    pub(crate) fn answer_engine(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>, body: &[u8]) {
        if is_preflight(head) {
            return self.core.borrow_mut().tables.answer_preflight(key, endpoint, head);
        }
        if self.core.borrow_mut().tables.answer_bundle(key, endpoint, head) {
            return;
        }
        let query = self.engine_query(endpoint, head);
        self.look_at_deadline(&query);
        let admitted = self.admit(key, endpoint, head, &query);
        if matches!(admitted, Ok(Admission::OpenPolling(_) | Admission::OpenWebSocket(..)))
            && self.allow_later(key, endpoint, head)
        {
            return;
        }
        let allowed = admitted.and_then(|admission| self.allow(key, endpoint, head, admission));
        self.answer_admitted(key, endpoint, (head, body), allowed);
    }

    /// Begins to ask a rule that takes its time. True: the handshake waits for it, or is answered.
    fn allow_later(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) -> bool {
        let handlers = self.app.endpoint(endpoint);
        let Some(AllowRequest::Later(rule)) = handlers.and_then(|handlers| handlers.allow_request.as_ref())
        else {
            return false;
        };
        let rule = Rc::clone(rule);
        let values = Values::default();
        let asked = Asked { key, head, body: &[], params: &[], values: &values };
        let Some(request) = self.keep_request(asked) else { return true };
        let (route, core) = (request.route, Rc::clone(&self.core));
        let mut subject = Some(request);
        let name = |_: &Option<OwnedRequest>| "allow_request".to_owned();
        match self.call(&mut subject, |request| request.take().map(|request| rule(request)), name) {
            Ok(Some(verdict)) => {
                let future = async move {
                    let verdict = verdict.await;
                    core.borrow_mut().tables.effects.deferred.push(Deferred::Allowed(route, verdict));
                };
                self.start_route_task(route, Box::pin(future));
            }
            Ok(None) => {}
            Err(panic) => self.route_panicked(route, &panic),
        }
        true
    }

    /// A rule that took its time has decided about a handshake: it is looked at anew, as much may have changed meanwhile.
    pub(crate) fn handshake_allowed(&mut self, route: Key, verdict: Result<(), String>) {
        let found = {
            let core = self.core.borrow();
            let entry = core.tables.routes.entries.get(route);
            entry.and_then(|entry| Some((entry.connection, Rc::clone(entry.kept.as_ref()?))))
        };
        let Some((key, kept)) = found else { return };
        self.core.borrow_mut().tables.end_route(key);
        let mut storage = HeaderStorage::new();
        let Ok(Some((head, _))) = decode_head(&kept.head, kept.head.len(), &mut storage) else { return };
        let query = self.engine_query(kept.endpoint, &head);
        let allowed = verdict
            .map_err(Refusal::Rule)
            .and_then(|()| self.admit(key, kept.endpoint, &head, &query))
            .and_then(|admission| self.allow(key, kept.endpoint, &head, admission));
        self.answer_admitted(key, kept.endpoint, (&head, &[]), allowed);
        // What a client has sent behind its handshake are frames now.
        let mut core = self.core.borrow_mut();
        if core.tables.websocket_mut(key).is_some() {
            core.tables.effects.deferred.push(Deferred::Resume(key));
        }
    }

    fn answer_admitted(
        &mut self,
        key: Key,
        endpoint: u8,
        (head, body): (&Head<'_, '_>, &[u8]),
        allowed: Result<Admission, Refusal>,
    ) {
        match allowed {
            Err(refusal) => self.core.borrow_mut().tables.refuse_engine(key, head, &refusal),
            Ok(Admission::OpenPolling(_) | Admission::OpenWebSocket(..))
                if self.core.borrow_mut().tables.refuses_session(key, endpoint, head) => {}
            Ok(Admission::OpenPolling(form)) => {
                let session = self.core.borrow_mut().tables.open_polling(key, endpoint, head, form);
                self.engine_opened(session);
                self.connect_default(session);
            }
            Ok(Admission::OpenWebSocket(form, accepted)) => {
                let session =
                    self.core.borrow_mut().tables.open_websocket(key, endpoint, head, (form, &accepted));
                self.engine_opened(session);
                self.connect_default(session);
            }
            Ok(Admission::Probe(session, form, accepted)) => {
                self.core.borrow_mut().tables.open_probe(key, head, session, (form, &accepted))
            }
            Ok(Admission::Poll(session, form)) => self.poll(key, (session, form)),
            Ok(Admission::Post(session, form)) => self.post(key, head, (session, form), body),
            Ok(Admission::OtherMethod) => {
                tracing::info!(
                    target: ENGINEIO,
                    method = head.method.as_str(),
                    "Engine.IO request refused: a session knows GET and POST only"
                );
                let response = Response::new(Status::INTERNAL_SERVER_ERROR);
                let mut core = self.core.borrow_mut();
                core.tables.count_refused(RequestRefused::Method);
                core.tables.respond(key, &response);
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
        if let (Some(AllowRequest::Now(rule)), Admission::OpenPolling(_) | Admission::OpenWebSocket(..)) =
            (rule, &admission)
        {
            let via = self.core.borrow().tables.via(key);
            let mut request = Request::of_handshake(head, via, &self.core, endpoint);
            let decided = self.call(&mut request, |request| rule(request), |_| "allow_request".to_owned());
            match decided {
                Ok(outcome) => outcome.map_err(Refusal::Rule)?,
                Err(panic) => {
                    tracing::error!(target: ENGINEIO, message = %panic, "allow_request panicked; the client is refused");
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
    pub(crate) fn engine_query<'a>(&self, endpoint: u8, head: &Head<'a, '_>) -> RequestQuery<'a> {
        let mut query = RequestQuery::parse(head.query);
        if !self.core.borrow().tables.endpoint(endpoint).options.allow_eio3 {
            query.callback = None;
        }
        query
    }

    /// What a request asks for, or why it is refused.
    pub(crate) fn admit(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        query: &RequestQuery<'_>,
    ) -> Result<Admission, Refusal> {
        let core = self.core.borrow();
        let options = &core.tables.endpoint(endpoint).options;
        let transport = query.transport().ok_or(RequestError::TransportUnknown)?;
        let is_served = match transport {
            Transport::Polling => options.polling,
            Transport::WebSocket => options.websocket,
        };
        if !is_served {
            return Err(RequestError::TransportUnknown.into());
        }
        match query.callback.filter(|_| transport == Transport::Polling) {
            Some(_) => core.tables.check_script_origin(key, endpoint, head).map_err(Refusal::Origin)?,
            None => core.tables.check_origin(key, endpoint, head).map_err(Refusal::Origin)?,
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
        let sid = Sid::parse(sid).ok_or(RequestError::SessionUnknown)?;
        if core.tables.is_foreign(sid) {
            return Err(Refusal::Elsewhere);
        }
        let key = core.tables.session_by_sid(&sid).ok_or(RequestError::SessionUnknown)?;
        let session = core.tables.sessions.get(key).filter(|session| session.endpoint == endpoint);
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
                Method::Get if session.is_told => Err(RequestError::SessionUnknown.into()),
                Method::Get => Ok(Admission::Poll(key, form)),
                Method::Post if session.is_over => Err(RequestError::SessionUnknown.into()),
                Method::Post => Ok(Admission::Post(key, form)),
                _ => Ok(Admission::OtherMethod),
            },
            _ => Err(RequestError::BadRequest.into()),
        }
    }
}

/// What a request may do.
#[derive(Debug)]
pub(crate) enum Admission {
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

impl Shard {
    /// Chooses the subprotocol of a request by the rule if there is one, else among those that are served; all are when none is named.
    ///
    /// # Errors
    /// The rule refuses, with this message; empty when it panicked.
    pub(crate) fn ask_subprotocol(
        &self,
        request: &Request<'_>,
        rule: Option<&ChooseProtocol>,
        served: &[String],
    ) -> Result<Option<Box<str>>, String> {
        let Some(rule) = rule else {
            let mut offered = request.protocols();
            let is_served = |name: &&str| served.is_empty() || served.iter().any(|served| served == name);
            return Ok(offered.find(is_served).map(Box::from));
        };
        let choice = self.call(&mut (), |()| rule(request), |()| "choose_protocol".to_owned()).map_err(
            |panic| {
                tracing::error!(message = %panic, "choose_protocol panicked; the client is refused");
                String::new()
            },
        )??;
        if let Some(name) = choice
            && !request.protocols().any(|offered| offered == name)
        {
            // The client would fail the connection (RFC 6455 §4.1).
            tracing::error!(
                name,
                "choose_protocol named a subprotocol that the client does not offer; none is answered"
            );
            return Ok(None);
        }
        Ok(choice.map(Box::from))
    }

    /// The subprotocol of a WebSocket that speaks Engine.IO.
    pub(crate) fn choose_protocol(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
    ) -> Result<Option<Box<str>>, String> {
        let handlers = self.app.endpoint(endpoint);
        let rule = handlers.and_then(|handlers| handlers.choose_protocol.as_ref());
        if rule.is_none() && head.headers.get("sec-websocket-protocol").is_none() {
            return Ok(None);
        }
        let via = self.core.borrow().tables.via(key);
        let served = handlers.map_or(&[][..], |handlers| &handlers.options.subprotocols);
        self.ask_subprotocol(&Request::of_handshake(head, via, &self.core, endpoint), rule, served)
    }
}
