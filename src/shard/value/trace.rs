//! One session's packets in the log, both ways, while tracing is switched on for it.
//!
//! The switch is a flag in the session, and one in its WebSocket for broadcasts, which touch no session.

use crate::base::ids::Sid;
use crate::base::log::TRACE;
use crate::base::shown::{UNQUOTED, safe};
use crate::protocol::engineio::packet::Packet;
use crate::protocol::http::head::Head;
use crate::protocol::http::query;
use crate::protocol::websocket::frame::{Opcode, server_frames};

/// How much of a packet the log shows.
const EXCERPT_BYTES_MAX: usize = 200;

/// Packets of one piece of output that the log shows.
const PACKETS_MAX: usize = 64;

/// Shows one packet that came.
#[cold]
pub(crate) fn trace_received(session: &Sid, packet: Packet<'_>) {
    let (kind, rest) = match packet {
        Packet::Open => ("0", ""),
        Packet::Close => ("1", ""),
        Packet::Ping(rest) => ("2", rest),
        Packet::Pong(rest) => ("3", rest),
        Packet::Message(rest) => ("4", rest),
        Packet::Base64(rest) => ("b", rest),
        Packet::Binary(bytes) => return trace_received_binary(session, bytes),
        Packet::Upgrade => ("5", ""),
        Packet::Noop => ("6", ""),
    };
    let shown = format!("{kind}{}", excerpt(without_secrets(kind, rest.as_bytes())));
    tracing::info!(target: TRACE, session = %session.brief(), bytes = rest.len() + 1, packet = shown, "received");
}

/// Shows one binary message that came.
#[cold]
pub(crate) fn trace_received_binary(session: &Sid, bytes: &[u8]) {
    let shown = excerpt_of_binary(bytes);
    tracing::info!(target: TRACE, session = %session.brief(), bytes = bytes.len(), packet = shown, "received");
}

/// Shows the packets of canonical frames, whatever form they go out in.
#[cold]
pub(crate) fn trace_sent(session: &Sid, frames: &[u8]) {
    for (opcode, payload) in server_frames(frames).take(PACKETS_MAX) {
        let shown = match (opcode, payload) {
            (Opcode::Binary, _) => excerpt_of_binary(payload),
            (_, [b'4', message @ ..]) => format!("4{}", excerpt(without_secrets("4", message))),
            (_, [b'0', ..]) => excerpt(b"0"),
            _ => excerpt(payload),
        };
        tracing::info!(target: TRACE, session = %session.brief(), bytes = payload.len(), packet = shown, "sent");
    }
}

/// What the log shows of a request's address: its path, and of its query what says how the client speaks. The rest is for the
/// application, and may be a token.
pub(crate) fn url_without_secrets(head: &Head<'_, '_>) -> String {
    let mut url = excerpt(head.path.as_bytes());
    let mut separator = '?';
    for name in ["EIO", "transport"] {
        if let Some(value) = query::get_last(head.query, name) {
            url.push_str(&format!("{separator}{name}={}", excerpt(value.as_bytes())));
            separator = '&';
        }
    }
    url
}

/// A message without what a CONNECT packet carries: a token in its auth or its query, the ids that the server gives.
fn without_secrets<'a>(kind: &str, message: &'a [u8]) -> &'a [u8] {
    if kind != "4" || message.first() != Some(&b'0') {
        return message;
    }
    let end = message.iter().position(|byte| b"{[?,".contains(byte)).unwrap_or(message.len());
    &message[..end]
}

/// The beginning of a text, safe to log.
fn excerpt(text: &[u8]) -> String {
    let cut = &text[..text.len().min(EXCERPT_BYTES_MAX)];
    let shown: String = String::from_utf8_lossy(cut).chars().flat_map(|char| safe(char, UNQUOTED)).collect();
    if cut.len() < text.len() { format!("{shown}..") } else { shown }
}

fn excerpt_of_binary(bytes: &[u8]) -> String {
    const BYTES_SHOWN: usize = 16;
    let shown: Vec<String> = bytes.iter().take(BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let rest = if bytes.len() > BYTES_SHOWN { ".." } else { "" };
    format!("<{}{rest}>", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_safe() {
        assert_eq!(excerpt(b"42[\"a\"]"), "42[\"a\"]");
        assert_eq!(excerpt("a\r\n\u{1b}\u{202e}b€".as_bytes()), "a\\r\\n\\u{1b}\\u{202e}b€");
        let long = excerpt(&[b'x'; 1000]);
        assert_eq!((long.len(), long.ends_with("x..")), (EXCERPT_BYTES_MAX + 2, true));
        for (message, shown) in [
            ("0{\"token\":\"secret\"}", "0"),
            ("0/admin,{\"token\":\"secret\"}", "0/admin"),
            ("0/admin?token=secret", "0/admin"),
            ("2[\"chat\",{}]", "2[\"chat\",{}]"),
        ] {
            assert_eq!(without_secrets("4", message.as_bytes()), shown.as_bytes());
        }
        assert_eq!(excerpt_of_binary(&[1, 0xff]), "<01 ff>");
        assert!(excerpt_of_binary(&[0; 17]).ends_with("00..>"));
    }
}
