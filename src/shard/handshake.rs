//! What a client said when its session opened: the request line's target and the headers.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::mesh::Peer;
use crate::protocol::http::{cookies, query};
use crate::shard::login::Fork;

/// The HTTP request that opened a session, kept compactly for as long as the session lives.
#[derive(Debug)]
pub struct Handshake {
    /// The target on the first line, then `name: value` lines.
    text: Box<str>,
    peer: Peer,
    address: Option<IpAddr>,
    issued_unix_millis: u64,
    pub(crate) fork: Fork,
}

impl Handshake {
    pub(crate) fn new<'a>(
        target: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        (peer, address): (Peer, Option<IpAddr>),
        issued_unix_millis: u64,
    ) -> Handshake {
        let mut text = String::with_capacity(256);
        text.push_str(target);
        for (name, value) in headers {
            text.push('\n');
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
        }
        Handshake { text: text.into_boxed_str(), peer, address, issued_unix_millis, fork: Fork::default() }
    }

    /// A handshake that was taken apart, on another shard perhaps.
    pub(crate) fn from_parts(
        text: Box<str>,
        peer: Peer,
        address: Option<IpAddr>,
        issued_unix_millis: u64,
    ) -> Handshake {
        Handshake { text, peer, address, issued_unix_millis, fork: Fork::default() }
    }

    pub(crate) fn parts(&self) -> (&str, Peer, u64) {
        (&self.text, self.peer, self.issued_unix_millis)
    }

    /// The request's target: path and query as they came.
    pub fn url(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Every header, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().skip(1).filter_map(|line| line.split_once(": "))
    }

    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A parameter of the query string, decoded; of a repeated one the last.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, query) = self.url().split_once('?')?;
        query::get_last(query, name)
    }

    /// A cookie's value.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.headers()
            .filter(|(header, _)| header.eq_ignore_ascii_case("cookie"))
            .find_map(|(_, value)| cookies::get(value, name))
    }

    /// The client's address: that of the TCP peer, or, when that is one of the `trusted_proxies`, what it says in
    /// `X-Forwarded-For`. `None` for a Unix socket without that.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The TCP peer with its port, or the Unix socket: the proxy, when there is one, but the client behind one that speaks
    /// the PROXY protocol.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// When the session opened, in milliseconds since 1970.
    pub fn issued(&self) -> u64 {
        self.issued_unix_millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_answers_by_name() {
        let headers = [("Host", "a.example"), ("Cookie", "session=abc; theme=dark"), ("X-Token", "a: b")];
        let peer = Peer::Tcp("192.0.2.1:80".parse().expect("an address"));
        let handshake = Handshake::new(
            "/socket.io/?EIO=4&token=a%20b&token=c",
            headers.into_iter(),
            (peer, peer.ip()),
            7,
        );
        assert_eq!(handshake.query("token").as_deref(), Some("c"));
        assert_eq!(handshake.query("none"), None);
        assert_eq!(handshake.header("x-token"), Some("a: b"));
        assert_eq!(handshake.cookie("theme"), Some("dark"));
        assert_eq!(handshake.address().map(|address| address.to_string()).as_deref(), Some("192.0.2.1"));
        assert_eq!(handshake.headers().count(), 3);
    }
}
