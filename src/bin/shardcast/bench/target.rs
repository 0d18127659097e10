//! Where the server is: the URL, resolved once, and the requests that open a session there.
//!
//! Plain HTTP only: TLS would make the generator dearer than the server.

use std::net::{SocketAddr, ToSocketAddrs};

use super::error::BenchError;

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
    /// The path of the Engine.IO endpoint, with its slashes.
    path: String,
}

impl Target {
    /// Reads `http://host:port` and resolves the host.
    pub(super) fn resolve(url: &str, path: &str) -> Result<Self, BenchError> {
        let refuse =
            |why: &str| BenchError::Usage(format!("the URL {url} {why}; write http://127.0.0.1:5000"));
        let Some((scheme, rest)) = url.split_once("://") else { return Err(refuse("has no scheme")) };
        if !matches!(scheme, "http" | "ws") {
            return Err(refuse("is not plain HTTP"));
        }
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@', '\r', '\n']) {
            return Err(refuse("must be a host and a port (the path is --path)"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let mut addresses = with_port.to_socket_addrs().map_err(|_| refuse("cannot be resolved"))?;
        let address = addresses.next().ok_or_else(|| refuse("has no address"))?;
        if !path.starts_with('/') || path.contains(['?', '#', ' ', '\r', '\n']) {
            return Err(BenchError::Usage(format!(
                "--path {path} must start with a slash and hold no query"
            )));
        }
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }

    /// Appends a GET or, with a body, a POST of the polling transport.
    pub(super) fn encode_polling(&self, out: &mut Vec<u8>, sid: Option<&str>, body: Option<&[u8]>) {
        let method = if body.is_some() { "POST " } else { "GET " };
        self.encode_line(out, method, "polling", sid);
        if let Some(body) = body {
            out.extend_from_slice(b"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: ");
            out.extend_from_slice(body.len().to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.unwrap_or_default());
    }

    /// Appends the opening handshake of a WebSocket, for a new session or one that polls.
    pub(super) fn encode_websocket(&self, out: &mut Vec<u8>, sid: Option<&str>) {
        self.encode_line(out, "GET ", "websocket", sid);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        out.extend_from_slice(b"Sec-WebSocket-Key: ");
        out.extend_from_slice(WEBSOCKET_KEY.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    }

    fn encode_line(&self, out: &mut Vec<u8>, method: &str, transport: &str, sid: Option<&str>) {
        let (sid_key, sid) = sid.map_or(("", ""), |sid| ("&sid=", sid));
        let line = [method, &self.path, "?EIO=4&transport=", transport, sid_key, sid];
        for part in line.into_iter().chain([" HTTP/1.1\r\nHost: ", &self.host, "\r\n"]) {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for url in ["http://127.0.0.1:5000", "http://127.0.0.1:5000/", "ws://127.0.0.1:5000"] {
            assert_eq!(Target::resolve(url, "/socket.io/").unwrap().address.to_string(), "127.0.0.1:5000");
        }
        for url in ["127.0.0.1:5000", "https://127.0.0.1", "http://127.0.0.1:5000/chat", "http://"] {
            assert!(matches!(Target::resolve(url, "/socket.io/"), Err(BenchError::Usage(_))), "{url}");
        }
        assert!(Target::resolve("http://127.0.0.1:1", "socket.io").is_err());
    }

    #[test]
    fn requests_carry_the_session_and_the_body() {
        let target = Target::resolve("http://127.0.0.1:80", "/socket.io/").unwrap();
        let mut out = Vec::new();
        target.encode_polling(&mut out, Some("abc"), Some(b"40"));
        let expected = "POST /socket.io/?EIO=4&transport=polling&sid=abc HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\
                        Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 2\r\n\r\n40";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
