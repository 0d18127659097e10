//! What a client said when its session opened: the request line's target and the headers.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use crate::message::peer::Peer;
use crate::protocol::engineio::request::RequestQuery;
use crate::protocol::engineio::revision::Revision;
use crate::protocol::http::{cookies, query};

/// Begins a line with a value as it came: no header's name begins with it.
const RAW: char = '=';

/// The HTTP request that opened a session, kept compactly for as long as the session lives.
#[derive(Debug)]
pub struct Handshake {
    /// The target on the first line, then `name: value` lines. Behind them, for each value that is not UTF-8, a line that
    /// begins with [`RAW`]: the place of the header, a blank, and the value's bytes in hexadecimal digits.
    text: Box<str>,
    peer: Peer,
    address: Option<IpAddr>,
    issued_unix_millis: u64,
    pub(crate) is_secure: bool,
}

impl Handshake {
    pub(crate) fn new<'a>(
        target: &str,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        (peer, address): (Peer, Option<IpAddr>),
        issued_unix_millis: u64,
    ) -> Handshake {
        let mut text = String::with_capacity(256);
        text.push_str(target);
        let mut raw = String::new();
        for (place, (name, value)) in headers.enumerate() {
            for part in ["\n", name, ": ", &String::from_utf8_lossy(value)] {
                text.push_str(part);
            }
            if str::from_utf8(value).is_err() {
                let _ = write!(raw, "\n{RAW}{place} ");
                for byte in value {
                    let _ = write!(raw, "{byte:02x}");
                }
            }
        }
        text.push_str(&raw);
        Handshake::from_parts(text.into_boxed_str(), peer, address, issued_unix_millis)
    }

    /// A handshake that was taken apart, on another shard perhaps.
    pub(crate) fn from_parts(
        text: Box<str>,
        peer: Peer,
        address: Option<IpAddr>,
        issued_unix_millis: u64,
    ) -> Handshake {
        Handshake { text, peer, address, issued_unix_millis, is_secure: false }
    }

    pub(crate) fn parts(&self) -> (&str, Peer, u64) {
        (&self.text, self.peer, self.issued_unix_millis)
    }

    /// The request's target: path and query as they came.
    pub fn url(&self) -> &str {
        self.text.split('\n').next().unwrap_or_default()
    }

    /// Every header, in order, as text: what is not UTF-8 in a value is shown as U+FFFD.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.text.split('\n').skip(1).take_while(|line| !line.starts_with(RAW));
        lines.filter_map(|line| line.split_once(": "))
    }

    /// The first header of that name, whatever its case, as it came: a value is bytes, and nearly always text.
    pub fn header_bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (place, (_, text)) =
            self.headers().enumerate().find(|(_, (header, _))| header.eq_ignore_ascii_case(name))?;
        let raw_lines = self.text.split('\n').skip(1).filter_map(|line| line.strip_prefix(RAW));
        let mut raw = raw_lines.filter_map(|line| line.split_once(' '));
        let digits = raw.find(|(other, _)| other.parse() == Ok(place)).map(|(_, digits)| digits);
        Some(digits.map_or(Cow::Borrowed(text.as_bytes()), |digits| Cow::Owned(bytes_of(digits))))
    }

    /// The first header of that name, whatever its case, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A parameter of the query string, decoded; of a repeated one the last.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, query) = self.url().split_once('?')?;
        query::get_last(query, name)
    }

    /// Every parameter of the query string, decoded, in the order in which they came; one that is repeated comes as often.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// let Some(handshake) = cx.handshake() else { return };
    /// for (name, value) in handshake.queries() {
    ///     println!("{name} is {value}");
    /// }
    /// # }
    /// ```
    pub fn queries(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query::pairs(self.url().split_once('?').map_or("", |(_, query)| query))
    }

    /// The revision of the Engine.IO protocol that the client speaks: 4, or 3 for clients of Socket.IO 1.x and 2.x.
    ///
    /// ```no_run
    /// # async fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
    /// let sockets = handle.sockets("/").fetch().await?;
    /// let old = sockets.iter().filter(|socket| socket.handshake().revision() == 3).count();
    /// println!("{old} clients are to be updated");
    /// # Ok(())
    /// # }
    /// ```
    pub fn revision(&self) -> u8 {
        let (_, query) = self.url().split_once('?').unwrap_or_default();
        match RequestQuery::parse(query).revision() {
            Some(Revision::Three) => 3,
            // Any other was refused.
            Some(Revision::Four) | None => 4,
        }
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

    /// Whether the client came over TLS that this server itself speaks (`tls_cert`), as Node's `handshake.secure`. A proxy in front that
    /// speaks it says so in `X-Forwarded-Proto`. Of a [`RemoteSocket`](crate::RemoteSocket) it is not known, and false.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// When the session opened, in milliseconds since 1970.
    pub fn issued(&self) -> u64 {
        self.issued_unix_millis
    }
}

/// The bytes that pairs of hexadecimal digits stand for.
fn bytes_of(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2).filter_map(|pair| str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_what_the_query_says() {
        for (target, revision, parameters) in [
            ("/socket.io/?EIO=4&transport=polling", 4, 2),
            ("/socket.io/?EIO=3&EIO=4", 4, 2),
            ("/socket.io/?EIO=3", 3, 1),
            ("/socket.io/?%45IO=2&&", 3, 1),
            ("/socket.io/?a", 3, 1),
            ("/socket.io/", 3, 0),
        ] {
            let handshake = Handshake::new(target, std::iter::empty(), (Peer::Unix, None), 0);
            assert_eq!(
                (handshake.revision(), handshake.queries().count()),
                (revision, parameters),
                "{target}"
            );
        }
    }

    #[test]
    fn a_handshake_answers_by_name() {
        let headers: [(&str, &[u8]); 5] = [
            ("Host", b"a.example"),
            ("X-Name", b"Zo\xeb"),
            ("Cookie", b"session=abc; theme=dark; name=Zo\xeb"),
            ("X-Token", b"a: b"),
            ("x-name", "Zo\u{eb}".as_bytes()),
        ];
        let peer = Peer::Tcp("192.0.2.1:80".parse().expect("an address"));
        let handshake = Handshake::new(
            "/socket.io/?EIO=4&token=a%20b&token=c",
            headers.into_iter(),
            (peer, peer.ip()),
            7,
        );
        assert_eq!(handshake.query("token").as_deref(), Some("c"));
        assert_eq!(handshake.query("none"), None);
        let walked: Vec<_> = handshake.queries().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(walked, ["EIO=4", "token=a b", "token=c"]);
        assert_eq!(handshake.header("x-token"), Some("a: b"));
        assert_eq!(handshake.cookie("theme"), Some("dark"));
        assert_eq!(handshake.address().map(|address| address.to_string()).as_deref(), Some("192.0.2.1"));
        assert_eq!(handshake.headers().count(), 5);
        assert_eq!(handshake.header("x-name"), Some("Zo\u{fffd}"));
        assert_eq!(handshake.header_bytes("x-name").as_deref(), Some(&b"Zo\xeb"[..]));
        assert_eq!(handshake.header_bytes("X-Token").as_deref(), Some(&b"a: b"[..]));
        assert_eq!(handshake.header_bytes("Cookie").map(|value| value.len()), Some(33));
        assert_eq!(handshake.header_bytes("=1"), None);
        let (text, peer, issued) = handshake.parts();
        let moved = Handshake::from_parts(text.into(), peer, None, issued);
        assert_eq!(moved.header_bytes("x-name"), handshake.header_bytes("x-name"));
    }
}
