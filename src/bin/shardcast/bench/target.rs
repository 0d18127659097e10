//! Where the server is: the URL, resolved once, and the requests that open a session there.

use std::net::{SocketAddr, ToSocketAddrs};

use super::error::BenchError;
use super::options::Revision;
use super::template::Template;
use crate::client;

/// The `Sec-WebSocket-Key` of every handshake: RFC 6455 §1.3's example. A key guards against caches, of which
/// there are none here, and a constant one has a constant answer.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`WEBSOCKET_KEY`].
pub(super) const WEBSOCKET_ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The address to connect to.
    pub(super) address: SocketAddr,
    /// The `Host` header.
    host: String,
    /// The host alone, which a certificate must name; none where the connection is not encrypted.
    pub(super) secured: Option<String>,
    /// The path of the Engine.IO endpoint, with its slashes.
    path: String,
    revision: Revision,
    /// What follows `transport=...`: `name=value` of each `--query`.
    query: Vec<Template>,
    /// The line of each `--header`.
    headers: Vec<Template>,
}

/// Headers that this generator writes itself, or that would change where a request ends.
const HEADERS_OWN: [&str; 7] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "sec-websocket-key",
    "transfer-encoding",
    "upgrade",
];
/// Parts of the query that are Engine.IO's.
const QUERY_OWN: [&str; 3] = ["EIO", "sid", "transport"];

impl Target {
    /// Reads `http://host:port`, also with `https`, `ws` and `wss`, and resolves the host.
    pub(super) fn resolve(url: &str, path: &str) -> Result<Self, BenchError> {
        let refuse =
            |why: &str| BenchError::Usage(format!("the URL {url} {why}; write http://127.0.0.1:5000"));
        let Some((scheme, rest)) = url.split_once("://") else { return Err(refuse("has no scheme")) };
        let port = match scheme {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            _ => return Err(refuse("has another scheme than http, https, ws or wss")),
        };
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@']) || host.chars().any(char::is_control) {
            return Err(refuse("must be a host and a port (the path is --path)"));
        }
        let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if name.is_some() { host.to_owned() } else { format!("{host}:{port}") };
        let mut addresses = with_port.to_socket_addrs().map_err(|_| refuse("cannot be resolved"))?;
        let address = addresses.next().ok_or_else(|| refuse("has no address"))?;
        if !path.starts_with('/') || path.contains(['?', '#', ' ', '\r', '\n']) {
            return Err(BenchError::Usage(format!(
                "--path {path} must start with a slash and hold no query"
            )));
        }
        let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        let secured = (port == 443).then(|| name.to_owned());
        let (query, headers, revision) = (Vec::new(), Vec::new(), Revision::Four);
        Ok(Self { address, host: host.to_owned(), secured, path: path.to_owned(), revision, query, headers })
    }

    /// With what every request of so many clients carries besides: `Name: value` and `name=value`.
    pub(super) fn with_extras(
        mut self,
        headers: &[String],
        query: &[String],
        clients: u32,
    ) -> Result<Self, BenchError> {
        for header in headers {
            let refuse = |why: &str| BenchError::Usage(format!("--header {header:?} {why}"));
            let (name, value) = client::header(header, &HEADERS_OWN).map_err(refuse)?;
            self.headers.push(Template::text("--header", &format!("{name}: {value}\r\n"), clients)?);
        }
        for pair in query {
            let refuse = |why: &str| BenchError::Usage(format!("--query {pair:?} {why}"));
            let (name, value) = pair.split_once('=').ok_or_else(|| refuse("must be name=value"))?;
            if name.is_empty() || QUERY_OWN.contains(&name) {
                return Err(refuse("has no name, or one that is Engine.IO's own"));
            }
            // The value alone has placeholders; the first piece is all text, so the name goes before it.
            self.query.push(Template::text("--query", &format!("&{}=", escape(name)), clients)?);
            self.query.push(Template::text("--query", value, clients)?.escaped(escape));
        }
        Ok(self)
    }

    /// With requests of this revision.
    pub(super) fn of_revision(self, revision: Revision) -> Self {
        Self { revision, ..self }
    }

    /// With a `shard_key` in the query, the same for all clients of a group, so that a server of many cores has them on one.
    pub(super) fn with_groups(mut self, groups: u32) -> Self {
        self.query.push(Template::of_group("&shard_key", groups));
        self
    }

    /// Appends a GET or, with a body, a POST of the polling transport.
    pub(super) fn encode_polling(
        &self,
        out: &mut Vec<u8>,
        client: u32,
        sid: Option<&str>,
        body: Option<&[u8]>,
    ) {
        let method = if body.is_some() { "POST " } else { "GET " };
        self.encode_line(out, [method, "polling"], client, sid);
        if let Some(body) = body {
            out.extend_from_slice(b"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: ");
            out.extend_from_slice(body.len().to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.unwrap_or_default());
    }

    /// Appends the opening handshake of a WebSocket, for a new session or one that polls.
    pub(super) fn encode_websocket(&self, out: &mut Vec<u8>, client: u32, sid: Option<&str>) {
        self.encode_line(out, ["GET ", "websocket"], client, sid);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        out.extend_from_slice(b"Sec-WebSocket-Key: ");
        out.extend_from_slice(WEBSOCKET_KEY.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    }

    fn encode_line(&self, out: &mut Vec<u8>, [method, transport]: [&str; 2], client: u32, sid: Option<&str>) {
        let (sid_key, sid) = sid.map_or(("", ""), |sid| ("&sid=", sid));
        // Text only, as clients without bytes ask for it: a body is then of one form.
        let revision = match (self.revision, transport) {
            (Revision::Four, _) => "?EIO=4&transport=",
            (Revision::Three, "polling") => "?EIO=3&b64=1&transport=",
            (Revision::Three, _) => "?EIO=3&transport=",
        };
        for part in [method, &self.path, revision, transport, sid_key, sid] {
            out.extend_from_slice(part.as_bytes());
        }
        self.query.iter().for_each(|part| part.render(out, client, 0));
        for part in [" HTTP/1.1\r\nHost: ", &self.host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        self.headers.iter().for_each(|line| line.render(out, client, 0));
    }
}

/// What may not stand in a query is written as `%` and two digits (RFC 3986 §2.1).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for url in ["http://127.0.0.1:5000", "http://127.0.0.1:5000/", "ws://127.0.0.1:5000"] {
            assert_eq!(Target::resolve(url, "/socket.io/").unwrap().address.to_string(), "127.0.0.1:5000");
        }
        for url in ["127.0.0.1:5000", "ftp://127.0.0.1", "http://127.0.0.1:5000/chat", "http://"] {
            assert!(matches!(Target::resolve(url, "/socket.io/"), Err(BenchError::Usage(_))), "{url}");
        }
        assert!(Target::resolve("http://127.0.0.1:1", "socket.io").is_err());
        let rows = [
            ("wss://127.0.0.1", "127.0.0.1:443", Some("127.0.0.1")),
            ("https://[::1]:5001/", "[::1]:5001", Some("::1")),
            ("http://127.0.0.1", "127.0.0.1:80", None),
        ];
        for (url, address, secured) in rows {
            let target = Target::resolve(url, "/socket.io/").unwrap();
            assert_eq!((target.address.to_string().as_str(), target.secured.as_deref()), (address, secured));
        }
    }

    #[test]
    fn requests_carry_the_session_and_the_body() {
        let target = Target::resolve("http://127.0.0.1:80", "/socket.io/").unwrap();
        let mut out = Vec::new();
        target.encode_polling(&mut out, 0, Some("abc"), Some(b"40"));
        let expected = "POST /socket.io/?EIO=4&transport=polling&sid=abc HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\
                        Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 2\r\n\r\n40";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn headers_and_query_are_carried_and_cannot_break_a_request() {
        let target = || Target::resolve("http://127.0.0.1:80", "/s/").unwrap();
        let own = |text: &str| vec![text.to_owned()];
        let with = target()
            .with_extras(&own("X-A:  b c{{client}} "), &own("token=a&b=\u{e9} c{{client}}"), 10)
            .unwrap();
        let mut out = Vec::new();
        with.encode_polling(&mut out, 7, None, None);
        let expected = "GET /s/?EIO=4&transport=polling&token=a%26b%3D%C3%A9%20c7 HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX-A: b c7\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        for header in ["a", ": b", "a b: c", "a: b\r\nc: d", "Content-Length: 3", "host: x"] {
            assert!(target().with_extras(&own(header), &[], 1).is_err(), "{header:?}");
        }
        for query in ["a", "=b", "sid=1", "EIO=3", "a={{clinet}}"] {
            assert!(target().with_extras(&[], &own(query), 1).is_err(), "{query:?}");
        }
    }
}
