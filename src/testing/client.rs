//! Clients of a [`TestServer`](super::TestServer): what they send, and what they have got.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::message::peer::Peer;
use crate::protocol::http::query;
use crate::protocol::socketio::encode::{self, EncodeError};
use crate::protocol::socketio::frames::{frame_packet, frame_text};
use crate::protocol::socketio::raw_json::RawJson;
use crate::shard::value::answer::Answer;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode::{frame_ack, frame_event};
use crate::testing::host::SharedHost;
use crate::testing::session::{Session, WEBSOCKET_KEY};
use crate::testing::{Received, RefusedConnection};

/// The port that clients say they come from.
const CLIENT_PORT: u16 = 50_000;

/// A client that is about to connect: what its handshake says.
#[must_use = "it connects when connect is called"]
pub struct TestClientBuilder {
    host: SharedHost,
    auth: Option<RawJson>,
    headers: Vec<(String, String)>,
    query: String,
    path: String,
    shard: usize,
    address: IpAddr,
    /// Packets that leave in one write with CONNECT.
    said: Vec<String>,
}

impl fmt::Debug for TestClientBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestClientBuilder").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl TestClientBuilder {
    pub(super) fn new(host: SharedHost, path: &str, shard: usize) -> TestClientBuilder {
        TestClientBuilder {
            host,
            auth: None,
            headers: Vec::new(),
            query: String::new(),
            path: path.to_owned(),
            shard,
            address: [127, 0, 0, 1].into(),
            said: Vec::new(),
        }
    }

    /// What the client gives as `auth`.
    ///
    /// # Panics
    /// When it is not a JSON object.
    pub fn auth(mut self, auth: &impl Serialize) -> Self {
        self.auth = Some(object(auth));
        self
    }

    /// Comes back as another client that has lost its connection ([`cut`](TestClient::cut)), as stock clients do: with the
    /// private id that it was told, and the offset of the last event that it got. See [`Recovery`](crate::Recovery).
    pub fn recovering(mut self, lost: &TestClient) -> Self {
        if let Some(claim) = lost.host.borrow().sessions[lost.session].claims.get(&lost.namespace) {
            let mut auth: serde_json::Map<String, serde_json::Value> = match &self.auth {
                Some(auth) => serde_json::from_str(auth.as_str()).unwrap_or_default(),
                None => serde_json::Map::new(),
            };
            auth.insert("pid".to_owned(), claim.pid.as_str().into());
            if let Some(offset) = &claim.offset {
                auth.insert("offset".to_owned(), offset.as_str().into());
            }
            self.auth = Some(object(&auth));
        }
        self
    }

    /// A header of the handshake, such as `Origin` or `Cookie`.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A parameter of the handshake's query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push('&');
        self.query.push_str(&query::encode(name));
        self.query.push('=');
        self.query.push_str(&query::encode(value));
        self
    }

    /// The address that the client comes from. Default 127.0.0.1.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// The shard that the connection arrives on. Default: each in its turn.
    pub fn shard(mut self, shard: usize) -> Self {
        self.shard = shard;
        self
    }

    /// The path of the endpoint to connect to, such as `/admin.io/`. Default: that of the server's own endpoint.
    pub fn at_path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sends a packet in the same write as CONNECT, without waiting for the answer: stock clients wait, others need not. The
    /// packet is given as it goes over the wire, `42["hello"]` for an event in `/`.
    pub fn say_after_connect(mut self, packet: &str) -> Self {
        self.said.push(packet.to_owned());
        self
    }

    /// Connects, and joins a namespace.
    ///
    /// # Errors
    /// The server refused the request, or the namespace refused the client.
    pub fn connect(self, namespace: &str) -> Result<TestClient, RefusedConnection> {
        let mut host = self.host.borrow_mut();
        let shards = host.shards_len();
        let wire = host.dial(self.shard % shards, Peer::Tcp(SocketAddr::new(self.address, CLIENT_PORT)));
        let mut request = format!(
            "GET {}?EIO=4&transport=websocket{} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n",
            self.path, self.query
        );
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        host.write(wire, request.as_bytes());
        let session = host.sessions.len();
        host.sessions.push(Session::new(wire));
        host.settle();
        let fault = host.sessions[session].refusal.take();
        let is_over = host.sessions[session].is_over;
        drop(host);
        if let Some(message) = fault {
            return Err(RefusedConnection { message, data: serde_json::Value::Null });
        }
        if is_over {
            let message = "the server closed the connection before it answered".to_owned();
            return Err(RefusedConnection { message, data: serde_json::Value::Null });
        }
        join(&self.host, session, namespace, self.auth, &self.said)
    }
}

/// The only JSON that a client's CONNECT may carry.
fn object(auth: &impl Serialize) -> RawJson {
    let json = RawJson::from_value(auth).ok().filter(|json| json.as_str().starts_with('{'));
    json.expect("a client's auth is a JSON object")
}

/// Asks for a namespace. A connect handler that takes its time has until the next `advance`.
fn join(
    host: &SharedHost,
    session: usize,
    namespace: &str,
    auth: Option<RawJson>,
    said: &[String],
) -> Result<TestClient, RefusedConnection> {
    let place = if namespace == "/" { String::new() } else { format!("{namespace},") };
    let auth = auth.as_ref().map_or("", RawJson::as_str);
    let claim: serde_json::Value = serde_json::from_str(auth).unwrap_or_default();
    let mut frames = Vec::new();
    frame_text(&mut frames, &format!("40{place}{auth}"));
    said.iter().for_each(|packet| frame_text(&mut frames, packet));
    let mut borrowed = host.borrow_mut();
    if let Some(offset) = claim["offset"].as_str() {
        borrowed.sessions[session].named.insert(namespace.to_owned(), offset.to_owned());
    }
    Session::send(&mut borrowed, session, &frames);
    borrowed.settle();
    let refused = match borrowed.sessions[session].joined.get(namespace) {
        Some(Err(refused)) => Some(refused.clone()),
        _ => None,
    };
    drop(borrowed);
    match refused {
        Some(refused) => Err(refused),
        None => Ok(TestClient { host: host.clone(), session, namespace: namespace.to_owned() }),
    }
}

/// An event's acknowledgement that a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckId(u64);

/// One client in one namespace, as it sees the server.
///
/// Everything it does has happened when the call returns: handlers have run, answers are there.
pub struct TestClient {
    host: SharedHost,
    session: usize,
    namespace: String,
}

impl fmt::Debug for TestClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestClient").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl TestClient {
    /// Sends an Engine.IO packet, as it is.
    #[cfg(test)]
    pub(super) fn say(&self, packet: &str) {
        let mut frames = Vec::new();
        frame_text(&mut frames, packet);
        let mut host = self.host.borrow_mut();
        Session::send(&mut host, self.session, &frames);
        host.settle();
    }

    /// The socket's id, as the server told it; empty while the connect handler has not decided, and afterwards.
    pub fn id(&self) -> String {
        match self.host.borrow().sessions[self.session].joined.get(&self.namespace) {
            Some(Ok(sid)) => sid.clone(),
            _ => String::new(),
        }
    }

    /// Whether the client is in its namespace.
    pub fn is_connected(&self) -> bool {
        let host = self.host.borrow();
        let session = &host.sessions[self.session];
        !session.is_over && matches!(session.joined.get(&self.namespace), Some(Ok(_)))
    }

    /// Why a connect handler that took its time has refused the client, if it has.
    pub fn refusal(&self) -> Option<RefusedConnection> {
        let host = self.host.borrow();
        host.sessions[self.session].joined.get(&self.namespace)?.as_ref().err().cloned()
    }

    /// Joins another namespace over the same connection.
    ///
    /// # Errors
    /// The namespace refused the client.
    ///
    /// # Panics
    /// When `auth` is not a JSON object.
    pub fn join_namespace(
        &self,
        namespace: &str,
        auth: &impl Serialize,
    ) -> Result<TestClient, RefusedConnection> {
        join(&self.host, self.session, namespace, Some(object(auth)), &[])
    }

    /// Sends an event.
    ///
    /// # Panics
    /// When the event's name is reserved, or its arguments are no JSON.
    pub fn emit(&self, event: &str, args: impl ToArgs) {
        self.emit_with_id(event, args, None);
    }

    /// Sends the unnamed event, `message`.
    pub fn send(&self, args: impl ToArgs) {
        self.emit("message", args);
    }

    /// Sends an event whose acknowledgement is asked for with [`answer`](TestClient::answer), perhaps after
    /// time has passed.
    pub fn emit_with_ack(&self, event: &str, args: impl ToArgs) -> AckId {
        let id = {
            let mut host = self.host.borrow_mut();
            let session = &mut host.sessions[self.session];
            session.next_id += 1;
            session.next_id
        };
        self.emit_with_id(event, args, Some(id));
        AckId(id)
    }

    /// The acknowledgement, if it has come.
    pub fn answer(&self, id: AckId) -> Option<Answer> {
        let mut host = self.host.borrow_mut();
        host.settle();
        host.sessions[self.session].answers.remove(&(self.namespace.clone(), id.0))
    }

    /// Sends an event and takes its acknowledgement; `None` if the handler has not answered by now.
    pub fn call(&self, event: &str, args: impl ToArgs) -> Option<Answer> {
        let id = self.emit_with_ack(event, args);
        self.answer(id)
    }

    /// Answers an event that the server wants acknowledged.
    ///
    /// # Panics
    /// When it does not ([`Received::wants_ack`]).
    pub fn acknowledge(&self, event: &Received, args: impl ToArgs) {
        let id = event.id.expect("the server asked for an acknowledgement");
        self.write(|out| frame_ack(out, &self.namespace, id, &args));
    }

    /// What has come since the last call, in order.
    pub fn received(&self) -> Vec<Received> {
        let mut host = self.host.borrow_mut();
        host.settle();
        let session = &mut host.sessions[self.session];
        let is_own = |event: &Received| event.namespace == self.namespace;
        let (own, others): (Vec<_>, Vec<_>) = session.received.drain(..).partition(is_own);
        session.received = others;
        own
    }

    /// Leaves the namespace.
    pub fn disconnect(&self) {
        self.write(|out| {
            frame_packet(out, |out, _| {
                encode::encode_disconnect(out, &self.namespace);
                Ok(())
            })
        });
        self.host.borrow_mut().sessions[self.session].joined.remove(&self.namespace);
    }

    /// Breaks the connection without a word, as a closed laptop does.
    pub fn cut(&self) {
        let mut host = self.host.borrow_mut();
        let wire = host.sessions[self.session].wire;
        host.sessions[self.session].is_over = true;
        host.drop_wire(wire);
        host.settle();
    }

    /// Whether the client answers the server's pings. It does unless told otherwise.
    pub fn answer_pings(&self, answers: bool) {
        self.host.borrow_mut().sessions[self.session].answers_pings = answers;
    }

    /// Whether the client reads what is sent to it. One that does not is a slow consumer.
    pub fn set_reading(&self, is_reading: bool) {
        let mut host = self.host.borrow_mut();
        let wire = host.sessions[self.session].wire;
        host.set_reading(wire, is_reading);
        host.settle();
    }

    /// The place of the client's session in the host.
    #[cfg(test)]
    pub(super) fn session_index(&self) -> usize {
        self.session
    }

    fn emit_with_id(&self, event: &str, args: impl ToArgs, id: Option<u64>) {
        self.write(|out| frame_event(out, &self.namespace, id, event, &args));
    }

    fn write(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        let mut frames = Vec::new();
        if let Err(error) = encode(&mut frames) {
            panic!("a test client cannot send this: {error}");
        }
        let mut host = self.host.borrow_mut();
        Session::send(&mut host, self.session, &frames);
        host.settle();
    }
}
