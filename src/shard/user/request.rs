//! The request that a route is given.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::message::peer::Peer;
use crate::protocol::http::head::{Head, Version};
use crate::protocol::http::headers::Headers;
use crate::protocol::http::method::Method;
use crate::protocol::http::{cookies, query};
use crate::protocol::surrogates::read_json;
use crate::protocol::websocket::handshake;
use crate::shard::core::SharedCore;
use crate::shard::user::recipients::Recipients;
use crate::shard::value::endpoint::SharedSigner;
use crate::shard::value::route::Values;

/// One HTTP request, as a route's handler sees it.
pub struct Request<'a> {
    pub(crate) head: &'a Head<'a, 'a>,
    pub(crate) params: Cow<'a, [(String, String)]>,
    pub(crate) body: &'a [u8],
    pub(crate) peer: Peer,
    /// This server speaks TLS on the connection.
    pub(crate) is_tls: bool,
    pub(crate) core: &'a SharedCore,
    pub(crate) endpoint: u8,
    pub(crate) values: Values,
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
        (peer, is_tls): (Peer, bool),
        core: &'a SharedCore,
        endpoint: u8,
    ) -> Request<'a> {
        Request {
            head,
            params: Cow::Borrowed(&[]),
            body: &[],
            peer,
            is_tls,
            core,
            endpoint,
            values: Values::default(),
        }
    }

    /// The request's method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method's name as it came, which [`Method`] does not keep of those that it does not know.
    pub fn method_name(&self) -> &str {
        self.head.method_name
    }

    /// The path as it came: not decoded, without the query.
    pub fn path(&self) -> &str {
        self.head.path
    }

    /// What follows the `?`, as it came: not decoded.
    pub fn query_string(&self) -> &str {
        self.head.query
    }

    /// The request's version of HTTP.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Who has connected: a client or a proxy, with its port.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// What stands in the place of `{name}` in the route's pattern.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(param, _)| param == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query string, decoded; of a repeated one the last.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query::get_last(self.head.query, name)
    }

    /// Every parameter of the query string, decoded, in the order in which they came; one that is repeated comes as often.
    pub fn queries(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query::pairs(self.head.query)
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
    /// [`WebSocketRoute::choose_protocol`](crate::WebSocketRoute::choose_protocol).
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
        read_body(self.body)
    }

    /// What a browser's `EventSource` says in `Last-Event-ID` when it comes back: the id of the last event that it has had.
    pub fn last_event_id(&self) -> Option<&str> {
        self.head.headers.get("last-event-id")
    }

    /// Notes a value about the request, by its type: what a check before routes has found out, for the route. One value of each
    /// type is kept.
    pub fn set<T: 'static>(&self, value: T) {
        self.values.set(value);
    }

    /// A copy of the noted value of this type, if there is one.
    pub fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.values.get()
    }

    /// The client's address: that of the TCP peer, or, when that is one of the `trusted_proxies`, what it says in
    /// `X-Forwarded-For`. `None` for a Unix socket without that.
    pub fn address(&self) -> Option<IpAddr> {
        self.core.borrow().tables.client_address(self.peer, self.head.headers)
    }

    pub(crate) fn signer(&self) -> Option<SharedSigner> {
        self.core.borrow().tables.env.signer.clone()
    }

    pub(crate) fn unix_seconds(&self) -> u64 {
        self.core.borrow().tables.unix_seconds()
    }

    /// Whether the page came over https: to this server itself, or by the word of the proxy, one of the `trusted_proxies` if there are
    /// any, or else any with `trust_forwarded`.
    pub fn is_secure(&self) -> bool {
        let forwarded = || self.head.headers.get("x-forwarded-proto");
        self.is_tls
            || self.core.borrow().tables.believes(self.peer)
                && forwarded().is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    }

    /// Everybody in a namespace: to emit from a route. `None` when there is no such namespace.
    pub fn broadcast(&self, namespace: &str) -> Option<Recipients<'_>> {
        let namespace = self.core.borrow().tables.namespaces.refer(self.endpoint, namespace)?;
        Some(Recipients::everyone(self.core, namespace, None))
    }

    /// The members of a room of a namespace. `None` when there is no such namespace.
    pub fn to(&self, namespace: &str, room: &str) -> Option<Recipients<'_>> {
        let namespace = self.core.borrow().tables.namespaces.refer(self.endpoint, namespace)?;
        Some(Recipients::rooms(self.core, namespace, None).to(room))
    }
}

/// A body as JSON, with U+FFFD where a text has half a character.
pub(crate) fn read_body<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(body) {
        Ok(text) => read_json(text),
        Err(_) => serde_json::from_slice(body),
    }
}
