//! The requests that a stock client makes, and a few that it does not.

use super::place::Place;

/// Every WebSocket handshake has RFC 6455's example: a key guards against caches, which a constant one finds out.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to it.
pub(super) const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One request.
#[derive(Clone)]
pub(super) struct Request {
    method: &'static str,
    authority: String,
    path: String,
    revision: u8,
    query: String,
    lines: String,
    body: Option<String>,
    is_websocket: bool,
}

impl Request {
    pub(super) fn new(method: &'static str, place: &Place) -> Request {
        Request {
            method,
            authority: place.authority.clone(),
            path: place.path.clone(),
            revision: 4,
            query: String::new(),
            lines: String::new(),
            body: None,
            is_websocket: false,
        }
    }

    pub(super) fn path(mut self, path: &str) -> Request {
        path.clone_into(&mut self.path);
        self
    }

    pub(super) fn revision(mut self, revision: u8) -> Request {
        self.revision = revision;
        self
    }

    pub(super) fn query(mut self, query: &str) -> Request {
        self.query.push_str(query);
        self
    }

    /// For the session of this id; a WebSocket has its transport already.
    pub(super) fn session(self, sid: &str) -> Request {
        let transport = if self.is_websocket { "" } else { "&transport=polling" };
        self.query(&format!("{transport}&sid={sid}"))
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Request {
        self.lines.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Headers that are lines already.
    pub(super) fn lines(mut self, lines: &str) -> Request {
        self.lines.push_str(lines);
        self
    }

    pub(super) fn body(mut self, body: &str) -> Request {
        self.body = Some(body.to_owned());
        self
    }

    /// Without an origin: what pages are refused for is asked apart.
    pub(super) fn websocket(mut self) -> Request {
        self.is_websocket = true;
        self.query("&transport=websocket")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", WEBSOCKET_KEY)
    }

    /// Offers compression of messages.
    pub(super) fn compression(self) -> Request {
        self.header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Request { method, authority, path, revision, query, lines, .. } = self;
        let connection = if self.is_websocket { "Upgrade" } else { "close" };
        let mut text = format!(
            "{method} {path}?EIO={revision}{query} HTTP/1.1\r\nHost: {authority}\r\nConnection: {connection}\r\n\
             User-Agent: shardcast-doctor\r\nAccept: */*\r\n{lines}"
        );
        if let Some(body) = &self.body {
            let len = body.len();
            text.push_str(&format!("Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {len}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(self.body.as_deref().unwrap_or_default());
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_stock_clients() {
        let place = Place::read("http://127.0.0.1:5000", None).unwrap();
        let post = Request::new("POST", &place).session("abc").body("40").encode();
        let expected = "POST /socket.io/?EIO=4&transport=polling&sid=abc HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n\
            Connection: close\r\nUser-Agent: shardcast-doctor\r\nAccept: */*\r\n\
            Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 2\r\n\r\n40";
        assert_eq!(String::from_utf8(post).unwrap(), expected);

        let upgrade =
            Request::new("GET", &place).lines("Cookie: a=b\r\n").websocket().session("abc").encode();
        let expected = "GET /socket.io/?EIO=4&transport=websocket&sid=abc HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n\
            Connection: Upgrade\r\nUser-Agent: shardcast-doctor\r\nAccept: */*\r\nCookie: a=b\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert_eq!(String::from_utf8(upgrade).unwrap(), expected);
    }
}
