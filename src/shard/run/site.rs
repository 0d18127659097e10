//! Everything on the port that is not Engine.IO: routes, folders, raw WebSockets.

use std::borrow::Cow;
use std::rc::Rc;

use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::protocol::http::head::Head;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::protocol::http::{query, static_path};
use crate::shard::run::Shard;
use crate::shard::run::engine::is_preflight;
use crate::shard::table::switching::validate_handshake;
use crate::shard::user::request::Request;
use crate::shard::user::site::Route;
use crate::shard::value::connection::Role;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::files::FileRequest;
use crate::shard::value::raw::RawState;

impl Shard {
    /// Answers a whole request that is not Engine.IO's.
    pub(crate) fn answer_site(&mut self, key: Key, head: &Head<'_, '_>, body: &[u8]) {
        let app = Rc::clone(&self.app);
        if let Ok(found) = app.site.routes.at(head.path) {
            let params =
                found.params.iter().map(|(name, value)| (name.to_owned(), decode_param(value))).collect();
            return self.answer_route(key, head, body, (found.value, params));
        }
        let folder = app.site.folders.iter().find_map(|(prefix, root)| {
            let rest = head.path.strip_prefix(prefix.trim_end_matches('/'))?;
            rest.starts_with('/').then_some((rest, root))
        });
        let response = match folder {
            Some(_) if !matches!(head.method, Method::Get | Method::Head) => {
                Response::new(Status::METHOD_NOT_ALLOWED).header("allow", "GET, HEAD")
            }
            Some((rest, root)) => match static_path::relative_path(rest) {
                Some(relative) => {
                    let request = FileRequest {
                        content_type: static_path::content_type(&relative),
                        if_none_match: head.headers.get("if-none-match").map(str::to_owned),
                        tag: None,
                        headers: Vec::new(),
                        missing: None,
                    };
                    return self.core.borrow_mut().tables.await_file(key, request, &relative, root.clone());
                }
                None => not_found(),
            },
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

    fn answer_route(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        body: &[u8],
        found: (&Rc<Route>, Vec<(String, String)>),
    ) {
        let (route, params) = found;
        if let Some(websocket) = route.websocket
            && head.offers_upgrade("websocket")
        {
            return self.answer_websocket(key, head, (websocket, params));
        }
        let handler = route.methods.iter().find(|(method, _)| *method == head.method).or_else(|| {
            let is_head = head.method == Method::Head;
            route.methods.iter().find(|(method, _)| is_head && *method == Method::Get)
        });
        let response = match handler {
            Some((_, handler)) => {
                let peer = self.core.borrow().tables.peer_of(key);
                let mut request = Request { head, params, body, peer, core: &self.core, endpoint: MAIN };
                let name = |_: &Request<'_>| format!("the route {}", Shown(head.path));
                let answered = self.call(&mut request, |request| handler(request), name);
                answered.unwrap_or_else(|panic| {
                    tracing::error!(path = head.path, message = %panic, "a route's handler panicked");
                    Response::text("Internal Server Error").with_status(Status::INTERNAL_SERVER_ERROR)
                })
            }
            None if is_preflight(head) => {
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

    fn answer_websocket(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        (route, params): (u16, Vec<(String, String)>),
    ) {
        let refusal = {
            let core = self.core.borrow();
            core.tables.check_origin(key, MAIN, head).err().map(|refused| {
                core.tables.env.counters.requests_refused.add(1);
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
        let peer = self.core.borrow().tables.peer_of(key);
        let request = Request { head, params, body: &[], peer, core: &self.core, endpoint: MAIN };
        let rule = self.app.site.websocket(route).choose_protocol.as_ref();
        accepted.protocol = match self.ask_subprotocol(&request, rule, &[]) {
            Ok(protocol) => protocol,
            Err(message) => {
                let message = if message.is_empty() { "Forbidden".to_owned() } else { message };
                tracing::info!(path = head.path, refused = message, "WebSocket refused by choose_protocol");
                let mut core = self.core.borrow_mut();
                core.tables.env.counters.requests_refused.add(1);
                let response = Response::text(message).with_status(Status::FORBIDDEN);
                return core.tables.respond_and_close(key, &response);
            }
        };
        let state = RawState {
            route,
            connection: key,
            last_seen: self.core.borrow().tables.env.now,
            protocol: accepted.protocol.clone(),
        };
        self.core.borrow_mut().tables.become_websocket(
            key,
            MAIN,
            (head, &accepted),
            Role::Raw(Box::new(state)),
        );
        self.raw_opened(key, route);
    }
}

impl Route {
    fn allowed(&self) -> String {
        let mut names: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.join(", ")
    }
}

fn not_found() -> Response {
    Response::text("Not Found").with_status(Status::NOT_FOUND)
}

fn decode_param(value: &str) -> String {
    query::percent_decode_path(value).map_or_else(|| value.to_owned(), Cow::into_owned)
}
