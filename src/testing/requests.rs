//! HTTP requests of a test whose answers take their time, or come piece by piece.

use std::rc::Rc;

use crate::message::peer::Peer;
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::method::Method;
use crate::testing::host::{SharedHost, WireId};
use crate::testing::{TestResponse, TestServer};

/// An HTTP request that may not be answered yet: [`TestServer::begin`] makes one.
///
/// Dropping it closes the client's end of the connection, as [`leave`](TestRequest::leave) does.
pub struct TestRequest {
    host: SharedHost,
    wire: WireId,
    is_head: bool,
    arrived: Vec<u8>,
}

impl std::fmt::Debug for TestRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TestRequest").field("arrived", &self.arrived.len()).finish_non_exhaustive()
    }
}

/// What of an answer has come.
struct SoFar {
    response: TestResponse,
    is_complete: bool,
}

impl TestServer {
    /// Sends the head of an HTTP request on a connection of its own, and does not wait for the answer. With a `Content-Length` or
    /// `Transfer-Encoding: chunked` among the headers a body is to follow: [`TestRequest::send`].
    ///
    /// See [`Server::route_async`](crate::Server::route_async) for an example.
    pub fn begin(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> TestRequest {
        let mut head = format!("{} {target} HTTP/1.1\r\nHost: localhost\r\n", method.as_str());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut host = self.host.borrow_mut();
        let shard = self.next_shard.replace(self.next_shard.get() + 1) % host.shards_len();
        let wire = host.dial(shard, Peer::Tcp(([127, 0, 0, 1], 40_000).into()));
        host.write(wire, head.as_bytes());
        host.settle();
        drop(host);
        let (host, is_head) = (Rc::clone(&self.host), method == Method::Head);
        TestRequest { host, wire, is_head, arrived: Vec::new() }
    }
}

impl TestRequest {
    /// Sends bytes of the body, as they go over the wire: chunks with their sizes, if it is chunked.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut host = self.host.borrow_mut();
        host.write(self.wire, bytes);
        host.settle();
    }

    /// Whether the head of the answer has come.
    pub fn has_begun(&mut self) -> bool {
        self.so_far().is_some()
    }

    /// The status of the answer, once its head has come.
    pub fn status(&mut self) -> Option<u16> {
        self.so_far().map(|answer| answer.response.status)
    }

    /// A header of the answer, once its head has come.
    pub fn header(&mut self, name: &str) -> Option<String> {
        self.so_far().and_then(|answer| answer.response.header(name).map(str::to_owned))
    }

    /// What has come of the answer's body, without the sizes of its chunks.
    pub fn body(&mut self) -> Vec<u8> {
        self.so_far().map(|answer| answer.response.body).unwrap_or_default()
    }

    /// The same as text.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }

    /// Whether the answer has come to its end, as its client can tell.
    pub fn is_complete(&mut self) -> bool {
        self.so_far().is_some_and(|answer| answer.is_complete)
    }

    /// The answer, once it is complete.
    pub fn response(&mut self) -> Option<TestResponse> {
        self.so_far().filter(|answer| answer.is_complete).map(|answer| answer.response)
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.host.borrow().is_over(self.wire)
    }

    /// From now on the client reads nothing, or reads again: a slow client.
    pub fn set_reading(&mut self, is_reading: bool) {
        let mut host = self.host.borrow_mut();
        host.set_reading(self.wire, is_reading);
        host.settle();
    }

    /// Its connection, for tests of the kit's own.
    #[cfg(test)]
    pub(super) fn wire(&self) -> WireId {
        self.wire
    }

    /// The client closes the connection.
    pub fn leave(self) {}

    fn so_far(&mut self) -> Option<SoFar> {
        {
            let mut host = self.host.borrow_mut();
            self.arrived.append(host.arrived(self.wire));
        }
        let mut bytes = &self.arrived[..];
        loop {
            let (mut response, head_len) = TestResponse::parse_head(bytes)?;
            bytes = &bytes[head_len..];
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            let is_complete = self.is_head || read_body(&mut response, bytes, self.is_closed());
            return Some(SoFar { response, is_complete });
        }
    }
}

impl Drop for TestRequest {
    fn drop(&mut self) {
        let mut host = self.host.borrow_mut();
        host.drop_wire(self.wire);
        host.settle();
    }
}

/// Reads the body of a response by its headers; true when all of it is there.
pub(super) fn read_body(response: &mut TestResponse, bytes: &[u8], is_closed: bool) -> bool {
    if matches!(response.status, 101 | 204 | 304) {
        return true;
    }
    if response.header("transfer-encoding").is_some() {
        let mut body = Vec::new();
        let decoded = ChunkedDecoder::new().decode(bytes, &mut body, usize::MAX);
        response.body = body;
        return decoded.is_ok_and(|(_, is_over)| is_over);
    }
    let len = response.header("content-length").and_then(|len| len.parse::<usize>().ok());
    response.body = bytes[..bytes.len().min(len.unwrap_or(usize::MAX))].to_vec();
    len.map_or(is_closed, |len| bytes.len() >= len)
}
