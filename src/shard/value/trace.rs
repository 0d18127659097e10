//! One session's packets in the log, both ways, while tracing is switched on for it.
//!
//! The switch is a flag in the session, and one in its WebSocket for broadcasts, which touch no session.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::base::ids::Sid;
use crate::base::log::TRACE;
use crate::base::shown::{UNQUOTED, safe};
use crate::base::time::Time;
use crate::message::overview::{Traced, TracedPacket};
use crate::protocol::engineio::packet::Packet;
use crate::protocol::http::head::Head;
use crate::protocol::http::query;
use crate::protocol::websocket::frame::{Opcode, server_frames};

/// How much of a packet the log shows.
const EXCERPT_BYTES_MAX: usize = 200;

/// Packets of one piece of output that the log shows.
const PACKETS_MAX: usize = 64;

/// Packets of a traced client that a shard keeps for the admin page, the last ones.
pub(crate) const TRACED_PACKETS_MAX: usize = 500;

thread_local! {
    /// The last trace that was begun on this thread's shard.
    static CAPTURE: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

/// What the admin page shows of one client.
struct Capture {
    /// The id by which the trace was asked for.
    client: Sid,
    session: Sid,
    is_on: bool,
    /// Unix time of `Time(0)`, in milliseconds.
    unix_origin: u64,
    left_out: u64,
    packets: VecDeque<TracedPacket>,
}

/// A trace begins or ends.
pub(crate) fn capture(client: Sid, session: Sid, is_on: bool, unix_origin: u64) {
    CAPTURE.with_borrow_mut(|capture| match capture {
        Some(capture) if !is_on && capture.session == session => capture.is_on = false,
        _ if !is_on => {}
        capture => {
            let packets = VecDeque::new();
            *capture = Some(Capture { client, session, is_on, unix_origin, left_out: 0, packets });
        }
    });
}

/// What is kept of a client's packets, if it was the last to be traced.
pub(crate) fn captured(client: &Sid) -> Option<Traced> {
    CAPTURE.with_borrow(|capture| {
        let capture = capture.as_ref().filter(|capture| capture.client == *client)?;
        let packets = capture.packets.iter().cloned().collect();
        let (is_on, left_out) = (capture.is_on, capture.left_out);
        Some(Traced { client: *client, is_on, left_out, packets })
    })
}

/// Says it in the log, and keeps it for the admin page.
fn show(session: &Sid, now: Time, bytes: usize, (is_sent, packet): (bool, String)) {
    match is_sent {
        true => tracing::info!(target: TRACE, session = %session.brief(), bytes, packet, "sent"),
        false => tracing::info!(target: TRACE, session = %session.brief(), bytes, packet, "received"),
    }
    CAPTURE.with_borrow_mut(|capture| {
        let Some(capture) = capture.as_mut().filter(|capture| capture.is_on && capture.session == *session)
        else {
            return;
        };
        if capture.packets.len() >= TRACED_PACKETS_MAX {
            capture.packets.pop_front();
            capture.left_out += 1;
        }
        capture.packets.push_back(TracedPacket {
            unix_millis: capture.unix_origin + now.0,
            is_sent,
            bytes,
            packet,
        });
    });
}

/// Shows one packet that came.
#[cold]
pub(crate) fn trace_received(session: &Sid, now: Time, packet: Packet<'_>) {
    let (kind, rest) = match packet {
        Packet::Open => ("0", ""),
        Packet::Close => ("1", ""),
        Packet::Ping(rest) => ("2", rest),
        Packet::Pong(rest) => ("3", rest),
        Packet::Message(rest) => ("4", rest),
        Packet::Base64(rest) => ("b", rest),
        Packet::Binary(bytes) => return trace_received_binary(session, now, bytes),
        Packet::Upgrade => ("5", ""),
        Packet::Noop => ("6", ""),
    };
    let shown = format!("{kind}{}", excerpt(without_secrets(kind, rest.as_bytes())));
    show(session, now, rest.len() + 1, (false, shown));
}

/// Shows one binary message that came.
#[cold]
pub(crate) fn trace_received_binary(session: &Sid, now: Time, bytes: &[u8]) {
    show(session, now, bytes.len(), (false, excerpt_of_binary(bytes)));
}

/// Shows the packets of canonical frames, whatever form they go out in.
#[cold]
pub(crate) fn trace_sent(session: &Sid, now: Time, frames: &[u8]) {
    for (opcode, payload) in server_frames(frames).take(PACKETS_MAX) {
        let shown = match (opcode, payload) {
            (Opcode::Binary, _) => excerpt_of_binary(payload),
            (_, [b'4', message @ ..]) => format!("4{}", excerpt(without_secrets("4", message))),
            (_, [b'0', ..]) => excerpt(b"0"),
            _ => excerpt(payload),
        };
        show(session, now, payload.len(), (true, shown));
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
