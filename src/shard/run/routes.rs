//! Routes that wait: their futures, the bodies that they take and make, and the checks before them.

use std::rc::Rc;
use std::task::Waker;

use crate::base::buffer::SharedFrame;
use crate::base::guard::{Caught, discard};
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::message::peer::Peer;
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::head::{BodyLength, Head, HeaderStorage, decode_head};
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::core::SharedCore;
use crate::shard::run::Shard;
use crate::shard::table::routes::too_crowded;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::site::{Check, LocalAnswer, RouteHandler};
use crate::shard::user::streamed::Streamed;
use crate::shard::value::connection::Step;
use crate::shard::value::effect::Deferred;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::route::{
    Answered, BodyError, BodyIn, BodyRest, KeptRequest, RouteDue, RouteEnd, StreamParts, Values,
};
use crate::shard::value::task::{LocalFuture, TaskOwner};

/// A whole request, or the head of one whose body follows.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) key: Key,
    pub(crate) head: &'a Head<'a, 'a>,
    pub(crate) body: &'a [u8],
    pub(crate) params: &'a [(String, String)],
    pub(crate) values: &'a Values,
}

// How a request begins to wait.
impl Shard {
    /// How many bytes the route of a request takes piece by piece; `None` for one that wants its body whole.
    pub(crate) fn upload_bytes_max(&self, key: Key, head: &Head<'_, '_>) -> Option<usize> {
        let site = self.site_of(key);
        match site.routes.at(head.path) {
            Ok(found) => match found.value.handler(head.method)? {
                RouteHandler::Upload(_, bytes_max) => Some(*bytes_max),
                RouteHandler::Now(_) | RouteHandler::Later(_) => None,
            },
            Err(_) if site.fallback.is_some() && site.folder(head.path).is_none() => {
                let core = self.core.borrow();
                let whole_max = core.tables.endpoint(MAIN).options.max_http_buffer_size;
                let is_small = matches!(head.body, BodyLength::Length(len) if len <= whole_max);
                (!is_small).then_some(core.tables.env.config.upload_bytes_max)
            }
            Err(_) => None,
        }
    }

    /// A head has come whose body the route takes piece by piece: the route begins now.
    pub(crate) fn begin_upload(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        bytes_max: usize,
        head_len: usize,
    ) -> Step {
        let rest = match head.body {
            BodyLength::Length(len) if len > bytes_max => {
                self.refuse_request(
                    key,
                    Status::CONTENT_TOO_LARGE,
                    "the request body has more bytes than this route takes",
                );
                return Step::Used(0);
            }
            BodyLength::Length(len) => BodyRest::Length(len),
            BodyLength::Chunked => BodyRest::Chunked(ChunkedDecoder::new()),
            BodyLength::None => BodyRest::Length(0),
        };
        self.note_answering(key);
        let body = {
            let core = self.core.borrow();
            BodyIn {
                end: matches!(rest, BodyRest::Length(0)).then_some(Ok(())),
                rest,
                bytes_max,
                queued: Vec::new(),
                by: core.tables.env.now + core.tables.env.config.header_timeout,
                must_continue: head.expects_continue,
                waker: None,
            }
        };
        if self.core.borrow_mut().tables.begin_route(key, head, Some(body)).is_err() {
            self.core.borrow_mut().tables.respond_and_close(key, &too_crowded());
        } else {
            self.answer_site(key, head, &[]);
        }
        Step::Used(head_len)
    }

    /// A request that is to wait: its entry, which an upload has already. `None`: too many wait, and it is answered.
    pub(crate) fn keep_request(&mut self, asked: Asked<'_>) -> Option<OwnedRequest> {
        let Asked { key, head, .. } = asked;
        let begun = {
            let mut core = self.core.borrow_mut();
            match core.tables.http_mut(key)?.route {
                Some(route) => Ok(route),
                None => core.tables.begin_route(key, head, None),
            }
        };
        let Ok(route) = begun else {
            self.core.borrow_mut().tables.respond(key, &too_crowded());
            return None;
        };
        let mut core = self.core.borrow_mut();
        let via = core.tables.via(key);
        let endpoint = core.tables.http_mut(key).map_or(MAIN, |http| http.framing.endpoint);
        let entry = core.tables.routes.entries.get_mut(route)?;
        let kept = entry.kept.get_or_insert_with(|| Rc::new(asked.keep(via, endpoint)));
        let kept = Rc::clone(kept);
        core.tables.count_partial(key);
        drop(core);
        Some(OwnedRequest { core: Rc::clone(&self.core), route, kept })
    }

    /// Starts a route that waits.
    pub(crate) fn start_route(
        &mut self,
        asked: Asked<'_>,
        handler: &(dyn Fn(OwnedRequest) -> LocalAnswer<Streamed> + Send + Sync),
    ) {
        let Some(request) = self.keep_request(asked) else { return };
        let (route, site) = (request.route, self.site_of(asked.key));
        let mut subject = Some(request.clone());
        let name = |_: &Option<OwnedRequest>| format!("the asynchronous route {}", Shown(request.path()));
        let made = self.call(&mut subject, |request| request.take().map(handler), name);
        let answer = match made {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(panic) => return self.route_panicked(route, &panic),
        };
        let future = async move {
            let answer = answer.await;
            let answer = site.finish_later(&request, answer);
            answer_later(&request.core, route, answer);
        };
        self.start_route_task(route, Box::pin(future));
    }

    /// Asks the checks from a place on, of which one takes its time; if all let the request pass, it goes on.
    pub(crate) fn start_checks(&mut self, asked: Asked<'_>, from: usize) {
        let Some(request) = self.keep_request(asked) else { return };
        let (route, site) = (request.route, self.site_of(asked.key));
        let future = async move {
            let checks = site.before[from..].iter().filter(|check| check.covers(request.path()));
            for check in checks {
                let verdict = match &check.item {
                    Check::Now(check) => request.with(|request| check(request)),
                    Check::Later(check) => check(request.clone()).await,
                };
                if let Some(answer) = verdict {
                    let answer = site.finish_later(&request, answer);
                    return answer_later(&request.core, route, answer);
                }
            }
            request.core.borrow_mut().tables.effects.deferred.push(Deferred::Passed(route));
        };
        self.start_route_task(route, Box::pin(future));
    }

    pub(crate) fn start_route_task(&mut self, route: Key, future: LocalFuture) {
        self.start_task(future, TaskOwner::Route(route));
    }

    /// An answer that is made piece by piece, of a route that did not wait.
    pub(crate) fn answer_streamed(&mut self, asked: Asked<'_>, answer: Streamed) {
        let has_route = {
            let mut core = self.core.borrow_mut();
            let Some(http) = core.tables.http_mut(asked.key) else { return };
            http.route.map(Ok).unwrap_or_else(|| core.tables.begin_route(asked.key, asked.head, None))
        };
        match has_route {
            Ok(route) => {
                let answered = answer.begin(&self.core, route);
                self.route_answered(route, answered);
            }
            Err(_) => {
                discard(answer);
                self.core.borrow_mut().tables.respond(asked.key, &too_crowded());
            }
        }
    }
}

/// Notes what a route that waited has answered; its answer leaves once its future is at rest.
fn answer_later(core: &SharedCore, route: Key, answer: Streamed) {
    let answered = Box::new(answer.begin(core, route));
    core.borrow_mut().tables.effects.deferred.push(Deferred::Answered(route, answered));
}

impl Asked<'_> {
    fn keep(&self, (peer, is_tls): (Peer, bool), endpoint: u8) -> KeptRequest {
        KeptRequest {
            head: self.head.to_bytes().into_boxed_slice(),
            method: self.head.method,
            path: self.head.path.to_owned(),
            query: self.head.query.to_owned(),
            params: self.params.to_vec(),
            body: SharedFrame::new(self.body.to_vec()),
            is_body_taken: std::cell::Cell::new(false),
            peer,
            is_tls,
            endpoint,
            values: self.values.share(),
        }
    }
}

// How it goes on, and ends.
impl Shard {
    /// The checks have let a request pass.
    pub(crate) fn route_passed(&mut self, route: Key) {
        let found = {
            let core = self.core.borrow();
            let entry = core.tables.routes.entries.get(route);
            entry.and_then(|entry| {
                Some((entry.connection, Rc::clone(entry.kept.as_ref()?), entry.body.is_some()))
            })
        };
        let Some((key, kept, is_upload)) = found else { return };
        if !is_upload {
            self.core.borrow_mut().tables.end_route(key);
        }
        let mut storage = HeaderStorage::new();
        if let Ok(Some((head, _))) = decode_head(&kept.head, kept.head.len(), &mut storage) {
            let params = kept.params.clone();
            self.answer_target(Asked {
                key,
                head: &head,
                body: &kept.body,
                params: &params,
                values: &kept.values,
            });
        }
        // What a client has sent behind its handshake are frames now.
        let mut core = self.core.borrow_mut();
        if core.tables.websocket_mut(key).is_some() {
            core.tables.effects.deferred.push(Deferred::Resume(key));
        }
    }

    /// A route has answered: whole, or with the beginning of a stream.
    pub(crate) fn route_answered(&mut self, route: Key, answered: Answered) {
        let connection = self.core.borrow().tables.routes.entries.get(route).map(|entry| entry.connection);
        let Some(key) = connection else { return discard(answered) };
        let Answered { response, stream } = answered;
        let Some(StreamParts { producer, len, keep_alive }) = stream else {
            let mut core = self.core.borrow_mut();
            core.tables.end_route(key);
            return core.tables.respond(key, &response);
        };
        let has_body = self.core.borrow_mut().tables.begin_stream(key, &response, (len, keep_alive));
        if has_body {
            self.start_route_task(route, producer);
        } else {
            discard(producer);
        }
    }

    /// The future of a route, or the producer of its answer, panicked.
    pub(crate) fn route_panicked(&mut self, route: Key, panic: &Caught) {
        tracing::error!(message = %panic, "an asynchronous route panicked");
        let mut core = self.core.borrow_mut();
        let Some(entry) = core.tables.routes.entries.get(route) else { return };
        let (key, is_begun) = (entry.connection, entry.answer.is_some());
        if is_begun {
            return core.tables.cut_stream(key);
        }
        core.tables.end_route(key);
        let response = Response::text("Internal Server Error").with_status(Status::INTERNAL_SERVER_ERROR);
        core.tables.respond(key, &response);
    }

    /// A request that waited is over.
    pub(crate) fn route_ended(&mut self, end: RouteEnd) {
        let RouteEnd { task, wakers, kept } = end;
        let task = task.and_then(|task| self.core.borrow_mut().tasks.remove(task));
        discard(task);
        discard(kept);
        wakers.into_iter().flatten().for_each(|waker| self.wake_waiter(waker));
    }

    /// Wakes whoever waits for a body, or for room in one.
    pub(crate) fn wake_waiter(&mut self, waker: Waker) {
        let mut waker = Some(waker);
        let done = self.call(
            &mut waker,
            |waker| waker.take().map(Waker::wake),
            |_| "the waker of a route".to_owned(),
        );
        if let Err(panic) = done {
            tracing::error!(message = %panic, "the waker of a route panicked");
        }
    }

    /// A deadline of a request that waits has come.
    pub(crate) fn route_timeout(&mut self, key: Key) {
        let mut core = self.core.borrow_mut();
        match core.tables.route_due(key) {
            None => core.tables.arm_route(key),
            Some(RouteDue::KeepAlive) => core.tables.keep_route_alive(key),
            Some(RouteDue::Gone) => {
                drop(core);
                self.connection_lost(key);
            }
            Some(RouteDue::Taken) => {
                drop(core);
                self.answer_not_taken(key);
            }
            Some(RouteDue::Body) => {
                if let Some(route) = core.tables.http_mut(key).and_then(|http| http.route) {
                    core.tables.end_body(route, Err(BodyError::TooSlow));
                }
                core.tables.arm_route(key);
            }
            Some(RouteDue::Answer) => {
                core.tables.env.counters.routes_timed_out.add(1);
                tracing::warn!(
                    route_timeout = ?core.tables.env.config.route_timeout,
                    "answered 504: a route did not answer within route_timeout"
                );
                core.tables.end_route(key);
                let response =
                    Response::text("the answer took too long").with_status(Status::GATEWAY_TIMEOUT);
                core.tables.respond(key, &response);
            }
        }
    }

    /// Calls a check that answers at once.
    pub(crate) fn ask_check(
        &self,
        request: &mut Request<'_>,
        check: &(dyn Fn(&Request<'_>) -> Option<Streamed> + Send + Sync),
    ) -> Option<Streamed> {
        let name = |request: &Request<'_>| format!("a check before {}", Shown(request.path()));
        self.call(request, |request| check(request), name).unwrap_or_else(|panic| {
            tracing::error!(message = %panic, "a check before routes panicked; its request is answered 500");
            Some(Streamed::whole(
                Response::text("Internal Server Error").with_status(Status::INTERNAL_SERVER_ERROR),
            ))
        })
    }
}
