//! The request that a route keeps while it waits.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::base::slab::Key;
use crate::message::address::Address;
use crate::protocol::flask::session::Session;
use crate::protocol::http::head::{HeaderStorage, decode_head};
use crate::protocol::http::method::Method;
use crate::protocol::http::query;
use crate::protocol::http::response::Response;
use crate::shard::core::SharedCore;
use crate::shard::user::recipients::Recipients;
use crate::shard::user::request::{Request, read_body};
use crate::shard::value::route::{BodyError, KeptRequest};

/// One HTTP request, as a route that waits keeps it: [`Server::route_async`](crate::Server::route_async) and its relatives are
/// given one. Copies are of the same request.
///
/// It stays on its shard, as the route does.
#[derive(Clone)]
pub struct OwnedRequest {
    pub(crate) core: SharedCore,
    pub(crate) route: Key,
    pub(crate) kept: Rc<KeptRequest>,
}

impl fmt::Debug for OwnedRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OwnedRequest")
            .field("method", &self.method())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl OwnedRequest {
    /// The request's method.
    pub fn method(&self) -> Method {
        self.kept.method
    }

    /// The path as it came: not decoded, without the query.
    pub fn path(&self) -> &str {
        &self.kept.path
    }

    /// What stands in the place of `{name}` in the route's pattern.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.kept.params.iter().find(|(param, _)| param == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query string, decoded; of a repeated one the last.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query::get_last(&self.kept.query, name)
    }

    /// The first header of that name, whatever its case, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.with(|request| request.headers().get(name).map(str::to_owned))
    }

    /// A cookie's value.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.with(|request| request.cookie(name).map(str::to_owned))
    }

    /// What a browser's `EventSource` says in `Last-Event-ID` when it comes back: the id of the last event that it has had.
    pub fn last_event_id(&self) -> Option<String> {
        self.with(|request| request.last_event_id().map(str::to_owned))
    }

    /// The body, whole. Empty for a route that takes its body piece by piece: see [`chunk`](OwnedRequest::chunk).
    pub fn body(&self) -> &[u8] {
        &self.kept.body
    }

    /// The body as JSON, with U+FFFD where a text has half a character.
    ///
    /// # Errors
    /// What serde_json says of it.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        read_body(self.body())
    }

    /// The next piece of the body, `None` behind the last. Pieces are cut anywhere, and have at most 64 KiB; while they are not
    /// taken the client is not read from. Of a route that has its body whole it is the one piece.
    ///
    /// ```
    /// use shardcast::http::{Failure, Method, OwnedRequest};
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// const BYTES_MAX: usize = 1 << 30;
    /// let server = Server::new(Config::default()).namespace("/", |_| {});
    /// let server = server.route_upload(Method::Put, "/files/{name}", BYTES_MAX, |mut request: OwnedRequest| async move {
    ///     let mut bytes = 0;
    ///     while let Some(piece) = request.chunk().await? {
    ///         bytes += piece.len();
    ///     }
    ///     Ok::<_, Failure>(format!("{bytes} bytes for {}", request.param("name").unwrap_or_default()))
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let answer = server.request(Method::Put, "/files/a", &[], &[0; 100_000]);
    /// assert_eq!(answer.text(), "100000 bytes for a");
    /// ```
    ///
    /// # Errors
    /// The rest will not come: it is longer than the route takes, comes too slowly, or not at all. With `?` in a route the
    /// client is answered 413, 408 or 400.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if !self.kept.body.is_empty() {
            let is_taken = self.kept.is_body_taken.replace(true);
            return Ok((!is_taken).then(|| self.kept.body.to_vec()));
        }
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The next piece of a body that comes piece by piece.
    pub(crate) fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, BodyError>> {
        // A waker may be user code: it is cloned, and the one before dropped, while nothing is borrowed.
        let mut waker = Some(cx.waker().clone());
        self.core.borrow_mut().tables.poll_body(self.route, &mut waker)
    }

    /// Whether its body comes piece by piece.
    pub(crate) fn is_upload(&self) -> bool {
        let core = self.core.borrow();
        core.tables.routes.entries.get(self.route).is_some_and(|entry| entry.body.is_some())
    }

    /// The client's address; see [`Request::address`].
    pub fn address(&self) -> Option<IpAddr> {
        self.with(|request| request.address())
    }

    /// The session in the request's cookie; see [`Request::session`].
    pub fn session(&self) -> Session {
        self.with(|request| request.session())
    }

    /// The response with a cookie that holds the session; see [`Request::with_session`].
    pub fn with_session(&self, response: Response, session: &Session) -> Response {
        self.with(|request| request.with_session(response, session))
    }

    /// Everybody in a namespace: to emit from a route. `None` when there is no such namespace.
    pub fn broadcast(&self, namespace: &str) -> Option<Recipients<'_>> {
        let namespace = self.core.borrow().tables.namespaces.refer(self.kept.endpoint, namespace)?;
        Some(Recipients::everyone(&self.core, namespace, None))
    }

    /// Everybody in a namespace of the further endpoint at this path, or of the main one; `None` when there is no such endpoint either.
    pub(crate) fn everybody_of(&self, endpoint: Option<&str>, namespace: &str) -> Option<Recipients<'_>> {
        let address = Address::new(endpoint, namespace);
        let namespace = self.core.borrow().tables.namespaces.refer_address(&address)?;
        Some(Recipients::everyone(&self.core, namespace, None))
    }

    /// The members of a room of a namespace. `None` when there is no such namespace.
    pub fn to(&self, namespace: &str, room: &str) -> Option<Recipients<'_>> {
        let namespace = self.core.borrow().tables.namespaces.refer(self.kept.endpoint, namespace)?;
        Some(Recipients::rooms(&self.core, namespace, None).to(room))
    }

    /// The members of a room of a namespace there.
    pub(crate) fn members_of(
        &self,
        endpoint: Option<&str>,
        namespace: &str,
        room: &str,
    ) -> Option<Recipients<'_>> {
        let address = Address::new(endpoint, namespace);
        let namespace = self.core.borrow().tables.namespaces.refer_address(&address)?;
        Some(Recipients::rooms(&self.core, namespace, None).to(room))
    }

    /// Where the server speaks Socket.IO, the configuration's own endpoint first.
    pub(crate) fn endpoint_paths(&self) -> Vec<String> {
        self.core.borrow().tables.socketio_paths()
    }

    /// Notes a value about the request, by its type; see [`Request::set`].
    pub fn set<T: 'static>(&self, value: T) {
        self.kept.values.set(value);
    }

    /// A copy of the noted value of this type, if there is one.
    pub fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.kept.values.get()
    }

    /// Works on the request as routes that do not wait are given it: with all headers, for example.
    pub fn with<R>(&self, work: impl FnOnce(&Request<'_>) -> R) -> R {
        let mut storage = HeaderStorage::new();
        let decoded = decode_head(&self.kept.head, self.kept.head.len(), &mut storage);
        let Ok(Some((head, _))) = decoded else {
            unreachable!("the head was whole and well-formed when it came")
        };
        work(&Request {
            head: &head,
            params: Cow::Borrowed(&self.kept.params),
            body: &self.kept.body,
            peer: self.kept.peer,
            is_tls: self.kept.is_tls,
            core: &self.core,
            endpoint: self.kept.endpoint,
            values: self.kept.values.share(),
        })
    }
}
