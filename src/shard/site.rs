//! Everything on the port that is not Engine.IO: routes, folders, raw WebSockets.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::guard::guarded;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::message::peer::Peer;
use crate::protocol::http::head::Head;
use crate::protocol::http::headers::Headers;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::protocol::http::{cookies, query, static_path};
use crate::protocol::surrogates::read_json;
use crate::protocol::websocket::handshake;
use crate::shard::Shard;
use crate::shard::connection::Role;
use crate::shard::core::SharedCore;
use crate::shard::endpoint::MAIN;
use crate::shard::engine::is_preflight;
use crate::shard::files::FileRequest;
use crate::shard::login::SharedSigner;
use crate::shard::raw::{RawState, WebSocketRoute};
use crate::shard::recipients::Recipients;
use crate::shard::switching::{self, validate_handshake};

/// Answers one request.
pub(crate) type RouteHandler = Box<dyn Fn(&Request<'_>) -> Response>;

/// What the site serves.
#[derive(Default)]
pub(crate) struct Site {
    pub(crate) routes: matchit::Router<Rc<Route>>,
    /// Prefix of the path, and the folder on disk; the longest prefix first.
    pub(crate) folders: Vec<(String, PathBuf)>,
}

/// Everything on one path.
#[derive(Default)]
pub(crate) struct Route {
    pub(crate) methods: Vec<(Method, RouteHandler)>,
    pub(crate) websocket: Option<Rc<WebSocketRoute>>,
}

/// One HTTP request, as a route's handler sees it.
pub struct Request<'a> {
    head: &'a Head<'a, 'a>,
    params: Vec<(String, String)>,
    body: &'a [u8],
    peer: Peer,
    core: &'a SharedCore,
    endpoint: u8,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Request").field("method", &self.method()).field("path", &self.path()).finish()
    }
}

impl<'a> Request<'a> {
    /// The request that would open a session of an endpoint.
    pub(crate) fn of_handshake(
        head: &'a Head<'a, 'a>,
        peer: Peer,
        core: &'a SharedCore,
        endpoint: u8,
    ) -> Request<'a> {
        Request { head, params: Vec::new(), body: &[], peer, core, endpoint }
    }

    /// The request's method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The path as it came: not decoded, without the query.
    pub fn path(&self) -> &str {
        self.head.path
    }

    /// What stands in the place of `{name}` in the route's pattern.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(param, _)| param == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query string, decoded; of a repeated one the last.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query::get_last(self.head.query, name)
    }

    /// The headers.
    pub fn headers(&self) -> Headers<'_, '_> {
        self.head.headers
    }

    /// A cookie's value.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.head.headers.get_all("cookie").find_map(|header| cookies::get(header, name))
    }

    /// The subprotocols that a WebSocket's client offers, in its order of preference; see
    /// [`WebSocketRoute::choose_protocol`].
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.head.headers.get_all("sec-websocket-protocol").flat_map(handshake::protocols)
    }

    /// The body, whole: at most `max_http_buffer_size` bytes.
    pub fn body(&self) -> &[u8] {
        self.body
    }

    /// The body as JSON, with U+FFFD where a text has half a character.
    ///
    /// # Errors
    /// What serde_json says of it.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match std::str::from_utf8(self.body) {
            Ok(text) => read_json(text),
            Err(_) => serde_json::from_slice(self.body),
        }
    }

    /// The client's address: that of the TCP peer, or, when that is one of the `trusted_proxies`, what it says in
    /// `X-Forwarded-For`. `None` for a Unix socket without that.
    pub fn address(&self) -> Option<IpAddr> {
        self.core.borrow().client_address(self.peer, self.head.headers)
    }

    /// A rule of the user's panicked at it.
    pub(crate) fn count_panic(&self) {
        self.core.borrow().counters.handler_panics.add(1);
    }

    pub(crate) fn signer(&self) -> Option<SharedSigner> {
        self.core.borrow().signer.clone()
    }

    pub(crate) fn unix_seconds(&self) -> u64 {
        self.core.borrow().unix_seconds()
    }

    /// Whether the page came over https, by the word of the proxy: one of the `trusted_proxies` if there are any, or else of
    /// any with `trust_forwarded`.
    pub fn is_secure(&self) -> bool {
        self.core.borrow().believes(self.peer)
            && self
                .head
                .headers
                .get("x-forwarded-proto")
                .is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    }

    /// Everybody in a namespace: to emit from a route. `None` when there is no such namespace.
    pub fn broadcast(&self, namespace: &str) -> Option<Recipients<'_>> {
        let namespace = self.core.borrow().namespaces.refer(self.endpoint, namespace)?;
        Some(Recipients::everyone(self.core, namespace, None))
    }

    /// The members of a room of a namespace. `None` when there is no such namespace.
    pub fn to(&self, namespace: &str, room: &str) -> Option<Recipients<'_>> {
        let namespace = self.core.borrow().namespaces.refer(self.endpoint, namespace)?;
        Some(Recipients::rooms(self.core, namespace, None).to(room))
    }
}

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
                    return self.core.borrow_mut().await_file(key, request, &relative, root.clone());
                }
                None => not_found(),
            },
            None => {
                let endpoint = self.core.borrow().endpoint(MAIN).options.path.clone();
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
        self.core.borrow_mut().respond(key, &response);
    }

    fn answer_route(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        body: &[u8],
        found: (&Rc<Route>, Vec<(String, String)>),
    ) {
        let (route, params) = found;
        if let Some(websocket) = &route.websocket
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
                let peer = self.core.borrow().peer_of(key);
                let request = Request { head, params, body, peer, core: &self.core, endpoint: MAIN };
                let answered = guarded(|| handler(&request));
                self.watched(|| format!("the route {}", Shown(head.path)));
                answered.unwrap_or_else(|panic| {
                    tracing::error!(path = head.path, message = %panic, "a route's handler panicked");
                    self.core.borrow().counters.handler_panics.add(1);
                    Response::text("Internal Server Error").with_status(Status::INTERNAL_SERVER_ERROR)
                })
            }
            None if is_preflight(head) => {
                return self.core.borrow_mut().answer_preflight(key, MAIN, head);
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
        self.core.borrow_mut().respond(key, &response);
    }

    fn answer_websocket(
        &mut self,
        key: Key,
        head: &Head<'_, '_>,
        (route, params): (&Rc<WebSocketRoute>, Vec<(String, String)>),
    ) {
        let refusal = {
            let core = self.core.borrow();
            core.check_origin(key, MAIN, head).err().map(|refused| {
                core.counters.requests_refused.add(1);
                tracing::warn!("{refused}");
                Response::text("Origin not allowed").with_status(Status::FORBIDDEN)
            })
        };
        let mut accepted = match (refusal, validate_handshake(head)) {
            (Some(response), _) => return self.core.borrow_mut().respond_and_close(key, &response),
            (None, Err(error)) => {
                let mut response = Response::text(error.reason()).with_status(Status::BAD_REQUEST);
                if let Some((name, value)) = error.header() {
                    response = response.header(name, value);
                }
                return self.core.borrow_mut().respond_and_close(key, &response);
            }
            (None, Ok(accepted)) => accepted,
        };
        let peer = self.core.borrow().peer_of(key);
        let request = Request { head, params, body: &[], peer, core: &self.core, endpoint: MAIN };
        accepted.protocol = match switching::choose(&request, route.choose_protocol.as_ref(), &[]) {
            Ok(protocol) => protocol,
            Err(message) => {
                let message = if message.is_empty() { "Forbidden".to_owned() } else { message };
                tracing::info!(path = head.path, refused = message, "WebSocket refused by choose_protocol");
                let mut core = self.core.borrow_mut();
                core.counters.requests_refused.add(1);
                let response = Response::text(message).with_status(Status::FORBIDDEN);
                return core.respond_and_close(key, &response);
            }
        };
        let state = RawState {
            route: Rc::clone(route),
            connection: key,
            last_seen: self.core.borrow().now,
            protocol: accepted.protocol.clone(),
        };
        self.core.borrow_mut().become_websocket(key, MAIN, (head, &accepted), Role::Raw(Box::new(state)));
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
