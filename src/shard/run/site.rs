//! Everything on the port that is not Engine.IO: checks, then routes, folders and raw WebSockets.

use std::borrow::Cow;
use std::rc::Rc;

use crate::base::guard::Caught;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::message::peer::Door;
use crate::protocol::http::head::Head;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::protocol::http::{query, static_path};
use crate::shard::core::SharedCore;
use crate::shard::run::Shard;
use crate::shard::run::engine::is_preflight;
use crate::shard::run::routes::Asked;
use crate::shard::table::switching::validate_handshake;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::site::{Check, LocalAnswer, Route, RouteHandler, Site};
use crate::shard::user::streamed::Streamed;
use crate::shard::value::connection::Role;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::files::{FileRequest, RangeAsked};
use crate::shard::value::kinds::RequestRefused;
use crate::shard::value::pace::Pace;
use crate::shard::value::raw::RawState;
use crate::shard::value::route::Values;

impl Shard {
    /// What is served at the listener that a connection came by.
    pub(crate) fn site_of(&self, key: Key) -> Rc<Site> {
        match self.core.borrow().tables.door(key) {
            Door::Public => Rc::clone(&self.app.site),
            Door::Admin => Rc::clone(&self.app.admin),
        }
    }

    /// Answers a request that is not Engine.IO's: a whole one, or the head of one whose body its route takes piece by piece.
    pub(crate) fn answer_site(&mut self, key: Key, head: &Head<'_, '_>, body: &[u8]) {
        let site = self.site_of(key);
        let found = site.routes.at(head.path).ok();
        let params: Vec<(String, String)> = found.as_ref().map_or_else(Vec::new, |found| {
            found.params.iter().map(|(name, value)| (name.to_owned(), decode_param(value))).collect()
        });
        let values = Values::default();
        let asked = Asked { key, head, body, params: &params, values: &values };
        // A preflight asks for the rules of another request, without the cookies that a check looks for.
        let is_exempt = is_preflight(head)
            && self.core.borrow().tables.door(key) == Door::Public
            && found.is_none_or(|found| found.value.handler(Method::Options).is_none());
        if is_exempt || self.ask_checks(asked) {
            self.answer_target(asked);
        }
    }

    /// Asks the checks before what is at the path. True when the request passes now.
    fn ask_checks(&mut self, asked: Asked<'_>) -> bool {
        let site = self.site_of(asked.key);
        let checks = site.before.iter().enumerate().filter(|(_, check)| check.covers(asked.head.path));
        for (place, check) in checks {
            let check = match &check.item {
                Check::Now(check) => check,
                Check::Later(_) => {
                    self.start_checks(asked, place);
                    return false;
                }
            };
            let core = Rc::clone(&self.core);
            let values = asked.values.share();
            let mut request = self.request_of(asked, &core, values);
            if let Some(answer) = self.ask_check(&mut request, &**check) {
                let name =
                    |_: &Request<'_>| format!("what comes after routes, at {}", Shown(asked.head.path));
                let answer = self.call(&mut request, |request| site.finish(request, answer), name);
                self.answer_at_once(asked, answer);
                return false;
            }
        }
        true
    }

    fn request_of<'a>(&self, asked: Asked<'a>, core: &'a SharedCore, values: Values) -> Request<'a> {
        let (peer, is_tls) = core.borrow().tables.via(asked.key);
        let (head, params, body) = (asked.head, Cow::Borrowed(asked.params), asked.body);
        Request { head, params, body, peer, is_tls, core, endpoint: MAIN, values }
    }

    /// What a route or a check has answered without waiting.
    fn answer_at_once(&mut self, asked: Asked<'_>, answered: Result<Streamed, Caught>) {
        let answer = answered.unwrap_or_else(|panic| {
            tracing::error!(path = asked.head.path, message = %panic, "a route's handler panicked");
            Streamed::whole(
                Response::text("Internal Server Error").with_status(Status::INTERNAL_SERVER_ERROR),
            )
        });
        if !answer.is_whole() {
            return self.answer_streamed(asked, answer);
        }
        let mut core = self.core.borrow_mut();
        core.tables.end_route(asked.key);
        core.tables.respond(asked.key, &answer.into_response());
    }

    /// Answers with what is at the path: no check is in the way any more.
    pub(crate) fn answer_target(&mut self, asked: Asked<'_>) {
        let (key, head) = (asked.key, asked.head);
        let site = self.site_of(key);
        if let Ok(found) = site.routes.at(head.path) {
            return self.answer_route(asked, found.value);
        }
        let folder = site.folder(head.path);
        if let Some(fallback) = site.fallback.as_ref().filter(|_| folder.is_none()) {
            return self.answer_by_fallback(asked, &**fallback);
        }
        let response = match folder {
            Some(_) if !matches!(head.method, Method::Get | Method::Head) => {
                Response::new(Status::METHOD_NOT_ALLOWED).header("allow", "GET, HEAD")
            }
            Some((rest, root)) => match static_path::relative_path(rest) {
                Some(relative) => {
                    let value = |name| head.headers.get(name).map(str::to_owned);
                    let request = FileRequest {
                        content_type: static_path::content_type(&relative),
                        if_none_match: value("if-none-match"),
                        // Only GET knows parts (RFC 9110 §14.2).
                        ranges: Some(RangeAsked {
                            range: value("range").filter(|_| head.method == Method::Get),
                            if_range: value("if-range"),
                        }),
                        tag: None,
                        headers: Vec::new(),
                        missing: None,
                    };
                    return self.core.borrow_mut().tables.await_file(key, request, &relative, root.clone());
                }
                None => not_found(),
            },
            None if self.core.borrow().tables.door(key) == Door::Admin => not_found(),
            None => {
                let endpoint = self.core.borrow().tables.endpoint(MAIN).options.path.clone();
                tracing::info!(
                    method = head.method.as_str(),
                    path = head.path,
                    endpoint,
                    "answered 404: no route, folder or endpoint is at this path; a Socket.IO client's option path must be the \
                     endpoint's"
                );
                not_found()
            }
        };
        self.core.borrow_mut().tables.respond(key, &response);
    }

    /// Gives a request away, unless it asks for what only a connection's own server can do: to become something else than HTTP.
    fn answer_by_fallback(
        &mut self,
        asked: Asked<'_>,
        fallback: &(dyn Fn(OwnedRequest) -> LocalAnswer<Streamed> + Send + Sync),
    ) {
        let Asked { key, head, .. } = asked;
        if !head.asks_for_upgrade("websocket") && head.method != Method::Connect {
            return self.start_route(asked, fallback);
        }
        tracing::info!(
            method = head.method.as_str(),
            path = head.path,
            "answered 404: a WebSocket or a tunnel was asked for where there is none; a Socket.IO client's option path must be the \
             endpoint's"
        );
        self.core.borrow_mut().tables.respond_and_close(key, &not_found());
    }

    fn answer_route(&mut self, asked: Asked<'_>, route: &Rc<Route>) {
        let (key, head) = (asked.key, asked.head);
        if let Some(websocket) = route.websocket
            && head.offers_upgrade("websocket")
        {
            return self.answer_websocket(asked, websocket);
        }
        let response = match route.handler(head.method) {
            Some(RouteHandler::Later(handler) | RouteHandler::Upload(handler, _)) => {
                return self.start_route(asked, &**handler);
            }
            Some(RouteHandler::Now(handler)) => {
                let (site, core) = (self.site_of(key), Rc::clone(&self.core));
                let mut request = self.request_of(asked, &core, asked.values.clone());
                let name = |_: &Request<'_>| format!("the route {}", Shown(head.path));
                let work = |request: &mut Request<'_>| site.finish(request, handler(request));
                let answered = self.call(&mut request, work, name);
                return self.answer_at_once(asked, answered);
            }
            None if is_preflight(head) && self.core.borrow().tables.door(key) == Door::Public => {
                return self.core.borrow_mut().tables.answer_preflight(key, MAIN, head);
            }
            None if route.methods.is_empty() => Response::text("this path speaks WebSocket only")
                .with_status(Status::UPGRADE_REQUIRED)
                .header("upgrade", "websocket"),
            None if head.method == Method::Options => {
                Response::new(Status::NO_CONTENT).header("allow", route.allowed())
            }
            None => Response::text("Method Not Allowed")
                .with_status(Status::METHOD_NOT_ALLOWED)
                .header("allow", route.allowed()),
        };
        self.core.borrow_mut().tables.respond(key, &response);
    }

    fn answer_websocket(&mut self, asked: Asked<'_>, route: u16) {
        let (key, head) = (asked.key, asked.head);
        let endpoint = self.app.site.websocket(route).endpoint;
        if self.core.borrow_mut().tables.refuses_websocket(key, endpoint) {
            return;
        }
        let refusal = {
            let core = self.core.borrow();
            core.tables.check_origin(key, endpoint, head).err().map(|refused| {
                core.tables.count_refused(RequestRefused::Origin);
                tracing::warn!("{refused}");
                Response::text("Origin not allowed").with_status(Status::FORBIDDEN)
            })
        };
        let mut accepted = match (refusal, validate_handshake(head)) {
            (Some(response), _) => return self.core.borrow_mut().tables.respond_and_close(key, &response),
            (None, Err(error)) => {
                let mut response = Response::text(error.reason()).with_status(Status::BAD_REQUEST);
                if let Some((name, value)) = error.header() {
                    response = response.header(name, value);
                }
                return self.core.borrow_mut().tables.respond_and_close(key, &response);
            }
            (None, Ok(accepted)) => accepted,
        };
        let core = Rc::clone(&self.core);
        let request = self.request_of(Asked { body: &[], ..asked }, &core, asked.values.clone());
        let rule = self.app.site.websocket(route).choose_protocol.as_ref();
        // Those of the configuration are for Engine.IO.
        let served = match endpoint {
            MAIN => Vec::new(),
            own => self.core.borrow().tables.endpoint(own).options.subprotocols.clone(),
        };
        accepted.protocol = match self.ask_subprotocol(&request, rule, &served) {
            Ok(protocol) => protocol,
            Err(message) => {
                let message = if message.is_empty() { "Forbidden".to_owned() } else { message };
                tracing::info!(path = head.path, refused = message, "WebSocket refused by choose_protocol");
                let mut core = self.core.borrow_mut();
                core.tables.count_refused(RequestRefused::Rule);
                let response = Response::text(message).with_status(Status::FORBIDDEN);
                return core.tables.respond_and_close(key, &response);
            }
        };
        let state = RawState {
            route,
            connection: key,
            last_seen: self.core.borrow().tables.env.now,
            protocol: accepted.protocol.clone(),
            pace: Pace::default(),
        };
        self.core.borrow_mut().tables.become_websocket(
            key,
            endpoint,
            (head, &accepted),
            Role::Raw(Box::new(state)),
        );
        self.raw_opened(key, route);
    }
}

fn not_found() -> Response {
    Response::text("Not Found").with_status(Status::NOT_FOUND)
}

fn decode_param(value: &str) -> String {
    query::percent_decode_path(value).map_or_else(|| value.to_owned(), Cow::into_owned)
}
