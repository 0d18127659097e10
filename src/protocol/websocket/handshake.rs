//! The opening handshake, seen by a server (RFC 6455 §4.2).
//!
//! Judges header fields that somebody else has parsed, and writes the 101 response. Does not parse HTTP,
//! does not check `Origin`, and does not choose a subprotocol or an extension.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::extension;

/// What is hashed behind the client's key (RFC 6455 §1.3).
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A SHA-1 digest in base64.
const ACCEPT_CHARS: usize = 28;

/// 16 bytes in base64, of which the last two characters are padding (RFC 6455 §4.1).
const KEY_CHARS: usize = 24;

/// The only version there is (RFC 6455 §4.1).
const VERSION: &str = "13";

/// What of a request decides whether it becomes a WebSocket. A field that appears twice is joined with a
/// comma by the caller, as HTTP says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HandshakeView<'a> {
    pub(crate) is_get: bool,
    pub(crate) is_http11: bool,
    /// `Upgrade`
    pub(crate) upgrade: Option<&'a str>,
    /// `Connection`
    pub(crate) connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`
    pub(crate) version: Option<&'a str>,
    /// `Sec-WebSocket-Key`
    pub(crate) key: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`
    pub(crate) protocols: Option<&'a str>,
    /// `Sec-WebSocket-Extensions`
    pub(crate) extensions: Option<&'a str>,
}

/// The value of `Sec-WebSocket-Accept`.
// Invariant: the bytes are base64 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptKey([u8; ACCEPT_CHARS]);

impl AcceptKey {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an accept key is base64 characters only")
    }
}

/// Why a request does not become a WebSocket. The answer is 400, as Node's `ws` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    MethodNotGet,
    HttpTooOld,
    UpgradeMissing,
    UpgradeNotWebSocket,
    ConnectionNotUpgrade,
    VersionUnsupported,
    KeyMissing,
    KeyInvalid,
    ProtocolsInvalid,
    ExtensionsInvalid,
}

impl HandshakeError {
    /// One sentence for the response's body and the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            HandshakeError::MethodNotGet => "a WebSocket handshake must be a GET request",
            HandshakeError::HttpTooOld => {
                "a WebSocket handshake needs HTTP/1.1; a proxy in front may speak HTTP/1.0 to the server"
            }
            HandshakeError::UpgradeMissing => {
                "the Upgrade header is missing; a proxy in front probably dropped it and must be told to \
                 pass Upgrade and Connection on"
            }
            HandshakeError::UpgradeNotWebSocket => "the Upgrade header does not say websocket",
            HandshakeError::ConnectionNotUpgrade => {
                "the Connection header does not say Upgrade; a proxy in front may have replaced it"
            }
            HandshakeError::VersionUnsupported => "the Sec-WebSocket-Version header must be 13",
            HandshakeError::KeyMissing => "the Sec-WebSocket-Key header is missing",
            HandshakeError::KeyInvalid => "the Sec-WebSocket-Key header must be 16 bytes in base64",
            HandshakeError::ProtocolsInvalid => {
                "the Sec-WebSocket-Protocol header must be a list of different tokens"
            }
            HandshakeError::ExtensionsInvalid => {
                "the Sec-WebSocket-Extensions header must be a list of extensions with parameters"
            }
        }
    }

    /// A field that the response must carry: which version would do (RFC 6455 §4.4).
    pub(crate) fn header(self) -> Option<(&'static str, &'static str)> {
        (self == HandshakeError::VersionUnsupported).then_some(("Sec-WebSocket-Version", VERSION))
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

/// Judges a request; the answer goes into [`encode_response`] (RFC 6455 §4.2.1).
pub(crate) fn validate(view: HandshakeView<'_>) -> Result<AcceptKey, HandshakeError> {
    if !view.is_get {
        return Err(HandshakeError::MethodNotGet);
    }
    if !view.is_http11 {
        return Err(HandshakeError::HttpTooOld);
    }
    let upgrade = view.upgrade.ok_or(HandshakeError::UpgradeMissing)?;
    if !has_token(upgrade, "websocket") {
        return Err(HandshakeError::UpgradeNotWebSocket);
    }
    if !has_token(view.connection.unwrap_or_default(), "upgrade") {
        return Err(HandshakeError::ConnectionNotUpgrade);
    }
    if view.version.map(str::trim_ascii) != Some(VERSION) {
        return Err(HandshakeError::VersionUnsupported);
    }
    let key = view.key.ok_or(HandshakeError::KeyMissing)?.trim_ascii();
    if !is_key(key) {
        return Err(HandshakeError::KeyInvalid);
    }
    if view.protocols.is_some_and(|list| !are_protocols(list)) {
        return Err(HandshakeError::ProtocolsInvalid);
    }
    if view.extensions.is_some_and(|list| !extension::is_list(list)) {
        return Err(HandshakeError::ExtensionsInvalid);
    }
    Ok(accept_key(key))
}

/// The subprotocols that the client offers, in its order of preference. Only one of them may be answered.
pub(crate) fn protocols(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim_ascii)
}

/// What proves that the server has read the key (RFC 6455 §4.2.2, point 5.4).
pub(crate) fn accept_key(key: &str) -> AcceptKey {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut chars = [0; ACCEPT_CHARS];
    let len = STANDARD.encode_slice(digest, &mut chars).expect("20 bytes are 28 characters of base64");
    assert_eq!(len, ACCEPT_CHARS, "20 bytes are 28 characters of base64");
    AcceptKey(chars)
}

/// Appends the 101 response (RFC 6455 §4.2.2).
///
/// A field that holds CR, LF or NUL is left out: writing it would let its author write the rest of the
/// response.
pub(crate) fn encode_response(
    out: &mut Vec<u8>,
    accept: &AcceptKey,
    subprotocol: Option<&str>,
    extra_headers: &[(&str, &str)],
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    append_header(out, "Sec-WebSocket-Accept", accept.as_str());
    if let Some(subprotocol) = subprotocol {
        append_header(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    for (name, value) in extra_headers {
        append_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn append_header(out: &mut Vec<u8>, name: &str, value: &str) {
    if name.bytes().chain(value.bytes()).any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return;
    }
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether a key has the shape of 16 bytes in base64. The unused bits of its last character may be
/// anything: clients that make up 22 characters exist, and Node's `ws` takes them.
fn is_key(key: &str) -> bool {
    let Some((digits, padding)) = key.as_bytes().split_at_checked(KEY_CHARS - 2) else { return false };
    padding == b"==" && digits.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Whether a list of subprotocols holds only tokens, each once (RFC 6455 §4.1, point 10).
fn are_protocols(list: &str) -> bool {
    protocols(list)
        .enumerate()
        .all(|(place, name)| is_token(name) && !protocols(list).take(place).any(|other| other == name))
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: HandshakeView<'static> = HandshakeView {
        is_get: true,
        is_http11: true,
        upgrade: Some("websocket"),
        connection: Some("Upgrade"),
        version: Some("13"),
        key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
        protocols: None,
        extensions: None,
    };

    #[test]
    fn s1_3_the_sample_key_gives_the_sample_answer() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn s4_2_1_what_browsers_and_proxies_send_is_accepted() {
        for view in [
            GOOD,
            HandshakeView { upgrade: Some("WebSocket"), ..GOOD },
            HandshakeView { upgrade: Some("h2c, websocket"), ..GOOD },
            HandshakeView { connection: Some("keep-alive, Upgrade"), ..GOOD },
            HandshakeView { connection: Some("upgrade"), ..GOOD },
            HandshakeView { version: Some(" 13 "), key: Some(" dGhlIHNhbXBsZSBub25jZQ== "), ..GOOD },
            HandshakeView { protocols: Some("chat, superchat"), ..GOOD },
            HandshakeView { extensions: Some("permessage-deflate; client_max_window_bits"), ..GOOD },
        ] {
            assert_eq!(validate(view), Ok(accept_key("dGhlIHNhbXBsZSBub25jZQ==")), "{view:?}");
        }
        let unused_bits = HandshakeView { key: Some("0123456789+/abcdefghiZ=="), ..GOOD };
        assert!(validate(unused_bits).is_ok());
    }

    #[test]
    fn s4_2_1_what_is_no_handshake_is_refused() {
        use HandshakeError::*;
        for (error, view) in [
            (MethodNotGet, HandshakeView { is_get: false, ..GOOD }),
            (HttpTooOld, HandshakeView { is_http11: false, ..GOOD }),
            (UpgradeMissing, HandshakeView { upgrade: None, ..GOOD }),
            (UpgradeNotWebSocket, HandshakeView { upgrade: Some("h2c"), ..GOOD }),
            (UpgradeNotWebSocket, HandshakeView { upgrade: Some(""), ..GOOD }),
            (ConnectionNotUpgrade, HandshakeView { connection: None, ..GOOD }),
            (ConnectionNotUpgrade, HandshakeView { connection: Some("keep-alive"), ..GOOD }),
            (VersionUnsupported, HandshakeView { version: None, ..GOOD }),
            (VersionUnsupported, HandshakeView { version: Some("8"), ..GOOD }),
            (VersionUnsupported, HandshakeView { version: Some("13, 8"), ..GOOD }),
            (KeyMissing, HandshakeView { key: None, ..GOOD }),
            (KeyInvalid, HandshakeView { key: Some(""), ..GOOD }),
            (KeyInvalid, HandshakeView { key: Some("dGhlIHNhbXBsZSBub25jZQ="), ..GOOD }),
            (KeyInvalid, HandshakeView { key: Some("dGhlIHNhbXBsZSBub25jZQAA"), ..GOOD }),
            (KeyInvalid, HandshakeView { key: Some("dGhlIHNhbXBsZSBub25j===="), ..GOOD }),
            (KeyInvalid, HandshakeView { key: Some("dGhlIHNhbXBsZSBub25ééé=="), ..GOOD }),
            (ProtocolsInvalid, HandshakeView { protocols: Some(""), ..GOOD }),
            (ProtocolsInvalid, HandshakeView { protocols: Some("chat,,superchat"), ..GOOD }),
            (ProtocolsInvalid, HandshakeView { protocols: Some("chat, chat"), ..GOOD }),
            (ProtocolsInvalid, HandshakeView { protocols: Some("cha t"), ..GOOD }),
            (ExtensionsInvalid, HandshakeView { extensions: Some("a;"), ..GOOD }),
        ] {
            assert_eq!(validate(view), Err(error), "{view:?}");
            let version = (error == VersionUnsupported).then_some(("Sec-WebSocket-Version", "13"));
            assert_eq!(error.header(), version);
        }
    }

    #[test]
    fn s4_2_1_a_missing_upgrade_header_names_the_proxy() {
        assert!(HandshakeError::UpgradeMissing.to_string().contains("proxy"));
    }

    #[test]
    fn s4_2_2_the_response_is_complete_and_cannot_be_split() {
        let mut out = Vec::new();
        let extra = [("Set-Cookie", "io=1"), ("X-Evil", "a\r\nX-Injected: b"), ("X-Fine", "yes")];
        encode_response(&mut out, &accept_key("dGhlIHNhbXBsZSBub25jZQ=="), Some("chat"), &extra);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
            Set-Cookie: io=1\r\nX-Fine: yes\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
