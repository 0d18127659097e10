//! A client of Socket.IO by WebSocket, as little of one as tests of several servers need.
#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod flow;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use shardcast::RunningServer;

/// Longer than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A client of Socket.IO by WebSocket, as little of one as is needed.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) sid: String,
}

impl Client {
    pub(crate) fn connect(server: &RunningServer) -> Client {
        Client::connect_to(server, "/socket.io/")
    }

    /// The same at a further endpoint.
    pub(crate) fn connect_to(server: &RunningServer, path: &str) -> Client {
        Client::connect_with(server, path, "").0
    }

    /// The same with this `auth`; and what CONNECT is answered.
    pub(crate) fn connect_with(server: &RunningServer, path: &str, auth: &str) -> (Client, String) {
        let address = server.addresses()[0].trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        write!(
            stream,
            "GET {path}?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the answer has a head");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        let mut client = Client { stream, sid: String::new() };
        assert!(client.next().starts_with('0'));
        client.send(&format!("40{auth}"));
        let connected = client.next();
        let sid = connected.split('"').nth(3).expect("an id");
        client.sid = sid.to_owned();
        (client, connected)
    }

    pub(crate) fn send(&mut self, text: &str) {
        let len = u8::try_from(text.len()).ok().filter(|len| *len < 126).expect("a short message");
        let mut frame = vec![0x81, 0x80 | len, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).expect("sent");
    }

    pub(crate) fn frame(&mut self) -> Vec<u8> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame");
        let mut len = usize::from(head[1]);
        if len == 126 {
            let mut long = [0; 2];
            self.stream.read_exact(&mut long).expect("a frame");
            len = usize::from(u16::from_be_bytes(long));
        }
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).expect("a whole frame");
        payload
    }

    pub(crate) fn next(&mut self) -> String {
        loop {
            let text = String::from_utf8(self.frame()).expect("text");
            if text == "2" {
                self.send("3");
            } else {
                return text;
            }
        }
    }

    pub(crate) fn join(&mut self, room: &str) {
        self.send(&format!("421[\"join\",\"{room}\"]"));
        assert_eq!(self.next(), "431[true]");
    }

    /// The name and the first argument of the next event.
    pub(crate) fn event(&mut self) -> (String, Value) {
        let text = self.next();
        let list = text.find('[').and_then(|at| serde_json::from_str::<Vec<Value>>(&text[at..]).ok());
        let list = list.unwrap_or_else(|| panic!("no event: {text}"));
        (list[0].as_str().expect("a name").to_owned(), list.get(1).cloned().unwrap_or_default())
    }

    /// Whether something comes within a moment.
    pub(crate) fn has_input(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        let has_input = self.stream.peek(&mut [0]).is_ok_and(|len| len == 1);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("set");
        has_input
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

/// The same where more has to come about.
pub(crate) fn until_within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < patience, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
