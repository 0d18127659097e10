//! Tests of a server without a port, without threads, and with a clock that stands still until it is moved.
//!
//! A [`TestServer`] runs the very shards that a real one runs, over wires in memory. Its clients speak the
//! protocol, so whatever they see a stock client would see. It is what Flask-SocketIO's `test_client` is, with
//! several shards, and with time.
//!
//! ```
//! use std::time::Duration;
//! use shardcast::{Config, Context, Server, Socket};
//! use shardcast::testing::TestServer;
//!
//! fn chat() -> Server {
//!     Server::new(Config::default()).namespace("/", |io| {
//!         io.on_connect(|cx: &mut Context| {
//!             cx.emit("welcome", "hello");
//!         });
//!         io.on("add", |_: &mut Context, a: i64, b: i64| a + b);
//!         io.on_async("later", |socket: Socket| async move {
//!             shardcast::sleep(Duration::from_secs(5)).await;
//!             socket.emit("done", ());
//!         });
//!     })
//! }
//!
//! let server = TestServer::new(chat()).unwrap();
//! let client = server.connect("/").unwrap();
//! assert_eq!(client.received()[0].to_string(), r#"["welcome","hello"]"#);
//!
//! let sum: i64 = client.call("add", (1, 2)).unwrap().first().unwrap();
//! assert_eq!(sum, 3);
//!
//! client.emit("later", ());
//! assert!(client.received().is_empty());
//! server.advance(Duration::from_secs(6));
//! assert_eq!(client.received()[0].name(), "done");
//! ```

#[cfg(test)]
mod adding;
#[cfg(test)]
mod admin_page;
#[cfg(test)]
mod admin_ui;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod awaited;
mod client;
#[cfg(test)]
mod drains;
#[cfg(test)]
mod early;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod expiries;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod handles;
mod host;
#[cfg(test)]
mod http_api;
#[cfg(test)]
mod http_requests;
#[cfg(test)]
mod kept_acks;
#[cfg(test)]
mod lent_arguments;
#[cfg(test)]
mod old_clients;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod origins;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod own_options;
#[cfg(test)]
mod own_settings;
#[cfg(test)]
mod paces;
#[cfg(test)]
mod payloads;
#[cfg(test)]
mod protection;
#[cfg(test)]
mod reading;
mod received;
#[cfg(test)]
mod recoveries;
#[cfg(test)]
mod reloads;
mod requests;
#[cfg(test)]
mod route_bytes;
#[cfg(test)]
mod routes;
mod session;
#[cfg(test)]
mod setups;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod sleeps;
#[cfg(test)]
mod slow_clients;
#[cfg(test)]
mod slow_handlers;
#[cfg(test)]
mod slow_polls;
#[cfg(test)]
mod state_rooms;
#[cfg(test)]
mod subprotocols;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod user_code;
#[cfg(test)]
mod walks;
#[cfg(test)]
mod wall_clock;
pub(crate) mod wire_places;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use client::{AckId, TestClient, TestClientBuilder};
pub use host::spend;
pub use received::{Received, RefusedConnection};
pub use requests::TestRequest;

use crate::message::peer::{Arrival, Door, Peer};
use crate::protocol::http::method::Method;
use crate::server::handle::Handle;
use crate::server::{Result, Server};
use host::{Host, SharedHost};

/// When a test's clock begins: 14 November 2023, 22:13:20 UTC.
const UNIX_MILLIS: u64 = 1_700_000_000_000;

/// How long a test waits for other threads: longer than anything that ends takes on a busy machine.
const SETTLING_MAX: Duration = Duration::from_secs(30);

/// A server in this thread: no port, no waiting. See the [module](self).
pub struct TestServer {
    host: SharedHost,
    handle: Handle,
    path: String,
    /// The shard of the next connection.
    next_shard: Cell<usize>,
}

impl fmt::Debug for TestServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestServer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TestServer {
    /// Runs a server with as many shards as its configuration says; one if it says none.
    ///
    /// # Errors
    /// Those of [`Server::start`] that concern the configuration and the handlers.
    pub fn new(server: Server) -> Result<TestServer> {
        let parts = server.into_parts()?;
        let shards = parts.config.shards.max(1);
        let path = parts.config.engine.path.clone();
        let host = Host::new(&parts, shards, UNIX_MILLIS)?;
        let server = TestServer {
            host: Rc::new(RefCell::new(host)),
            handle: parts.handle,
            path,
            next_shard: Cell::new(0),
        };
        server.host.borrow_mut().settle();
        Ok(server)
    }

    /// Connects a client to a namespace, with nothing special about its handshake.
    ///
    /// # Errors
    /// The server refused the request, or the namespace refused the client.
    pub fn connect(&self, namespace: &str) -> std::result::Result<TestClient, RefusedConnection> {
        self.client().connect(namespace)
    }

    /// A client whose handshake is yours to write.
    ///
    /// ```
    /// # use shardcast::{Config, Context, Refused, Server, testing::TestServer};
    /// # use serde_json::{Value, json};
    /// let server = TestServer::new(Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_connect(|_: &mut Context, auth: Value| match auth["token"].as_str() {
    ///         Some("secret") => Ok(()),
    ///         _ => Err(Refused::new("unauthorized")),
    ///     });
    /// })).unwrap();
    /// assert_eq!(server.connect("/").unwrap_err().message, "unauthorized");
    /// assert!(server.client().auth(&json!({ "token": "secret" })).connect("/").is_ok());
    /// ```
    pub fn client(&self) -> TestClientBuilder {
        let shard = self.next_shard.replace(self.next_shard.get() + 1);
        TestClientBuilder::new(Rc::clone(&self.host), &self.path, shard)
    }

    /// The server's handle, as other threads use it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets time pass: pings go out, sleepers wake, deadlines come. Timers are as coarse as on a real server, where a deadline of a
    /// client may come up to 50 ms late; [`sleep`](crate::sleep) and ticks are precise.
    pub fn advance(&self, duration: Duration) {
        self.host.borrow_mut().advance(duration);
    }

    /// Lets everything happen that can happen now: what other threads have said to the server meanwhile, by its
    /// [`handle`](TestServer::handle), by a [`Post`](crate::Post) or by a [`Responder`](crate::http::Responder), takes effect.
    pub fn settle(&self) {
        self.host.borrow_mut().settle();
    }

    /// The same until something holds that other threads bring about, in real time: the server's clock stands still meanwhile.
    ///
    /// See [`Server::fallback`](crate::Server::fallback) for an example.
    ///
    /// # Panics
    /// When it does not hold after 30 s.
    #[allow(clippy::disallowed_methods)] // Other threads have a time of their own.
    pub fn settle_until(&self, mut holds: impl FnMut() -> bool) {
        let started = std::time::Instant::now();
        loop {
            self.settle();
            if holds() {
                return;
            }
            assert!(
                started.elapsed() < SETTLING_MAX,
                "other threads have not brought it about in {SETTLING_MAX:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The time that the server sees, in seconds since 1970.
    pub fn unix_time(&self) -> u64 {
        self.host.borrow().unix_millis() / 1000
    }

    /// Sets the machine's clock, as NTP does after a start or somebody by hand: seconds since 1970. What is measured, such as a
    /// [`sleep`](crate::sleep), takes no notice.
    pub fn set_unix_time(&self, unix_seconds: u64) {
        let mut host = self.host.borrow_mut();
        host.set_unix_millis(unix_seconds.saturating_mul(1000));
        host.settle();
    }

    /// Asks for a page.
    pub fn get(&self, target: &str) -> TestResponse {
        self.request(Method::Get, target, &[], b"")
    }

    /// Sends an HTTP request on a connection of its own and takes the answer.
    ///
    /// # Panics
    /// When none has come: the answer to a poll, for one, may need time to pass.
    pub fn request(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TestResponse {
        self.ask(Door::Public, (method, target), headers, body)
    }

    /// A GET request at the operators' listener. An answer may take its time.
    #[cfg(test)]
    pub(crate) fn get_as_operator(&self, target: &str, headers: &[(&str, &str)]) -> TestResponse {
        self.ask_as_operator(Method::Get, target, headers)
    }

    /// A request at the operators' listener.
    #[cfg(test)]
    pub(crate) fn ask_as_operator(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> TestResponse {
        self.ask(Door::Admin, (method, target), headers, b"")
    }

    /// A request with a body at the operators' listener.
    #[cfg(test)]
    pub(crate) fn post_as_operator(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TestResponse {
        self.ask(Door::Admin, (Method::Post, target), headers, body)
    }

    fn ask(
        &self,
        door: Door,
        (method, target): (Method, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TestResponse {
        let mut request = format!("{} {target} HTTP/1.1\r\n", method.as_str());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
        let mut host = self.host.borrow_mut();
        let shard = self.next_shard.replace(self.next_shard.get() + 1) % host.shards_len();
        let peer = Peer::Tcp(([127, 0, 0, 1], 40_000).into());
        let wire = host.dial(shard, Arrival::accepted(peer, door));
        host.write(wire, request.as_bytes());
        host.write(wire, body);
        host.settle();
        if door == Door::Admin && host.arrived(wire).is_empty() {
            host.advance(std::time::Duration::from_millis(10));
        }
        let arrived = std::mem::take(host.arrived(wire));
        host.drop_wire(wire);
        TestResponse::parse(&arrived).expect("the server has answered")
    }
}

/// What an HTTP request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResponse {
    /// The status code.
    pub status: u16,
    /// The headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl TestResponse {
    /// A header's value, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse(bytes: &[u8]) -> Option<TestResponse> {
        let (mut response, head_len) = TestResponse::parse_head(bytes)?;
        requests::read_body(&mut response, &bytes[head_len..], true);
        Some(response)
    }

    /// The head at the start of some bytes, and how long it is.
    fn parse_head(bytes: &[u8]) -> Option<(TestResponse, usize)> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_len) = response.parse(bytes).ok()? else { return None };
        let headers = response
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
        let (status, headers) = (response.code?, headers.collect());
        Some((TestResponse { status, headers, body: Vec::new() }, head_len))
    }
}
