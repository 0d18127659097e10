//! Engine.IO packets (protocol revision 4, "Packet encoding").
//!
//! Text in, [`Packet`] out. Says nothing about which packet is legal when (`session`), nor about how
//! packets share a long-polling body (`payload`).

use std::fmt::Write as _;
use std::time::Duration;

/// One packet as it came. Binary from a WebSocket of revision 4 never gets here: it is the message as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Open,
    Close,
    Ping(&'a str),
    Pong(&'a str),
    Message(&'a str),
    /// A binary message as text: still base64.
    Base64(&'a str),
    /// A binary message of revision 3, without its type.
    Binary(&'a [u8]),
    Upgrade,
    Noop,
}

/// How a peer broke the packet grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketError {
    Empty,
    UnknownType,
    /// Revision 3: a packet's length is no number, or not that of a packet.
    Length,
    /// Revision 3: a text packet among bytes is not UTF-8.
    NotUtf8,
}

/// Reads one text packet.
pub(crate) fn decode(text: &str) -> Result<Packet<'_>, PacketError> {
    let first = *text.as_bytes().first().ok_or(PacketError::Empty)?;
    let rest = text.get(1..).ok_or(PacketError::UnknownType)?;
    Ok(match first {
        b'0' => Packet::Open,
        b'1' => Packet::Close,
        b'2' => Packet::Ping(rest),
        b'3' => Packet::Pong(rest),
        b'4' => Packet::Message(rest),
        b'5' => Packet::Upgrade,
        b'6' => Packet::Noop,
        b'b' => Packet::Base64(rest),
        _ => return Err(PacketError::UnknownType),
    })
}

/// What the open packet tells the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open<'a> {
    pub(crate) sid: &'a str,
    pub(crate) can_upgrade: bool,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) payload_bytes_max: usize,
}

impl Open<'_> {
    /// The whole packet, in the key order of the Node server.
    pub(crate) fn encode(&self) -> String {
        let upgrades = if self.can_upgrade { "\"websocket\"" } else { "" };
        let mut text = String::with_capacity(128);
        write!(
            text,
            "0{{\"sid\":\"{}\",\"upgrades\":[{upgrades}],\"pingInterval\":{},\"pingTimeout\":{},\"maxPayload\":{}}}",
            self.sid,
            self.ping_interval.as_millis(),
            self.ping_timeout.as_millis(),
            self.payload_bytes_max,
        )
        .expect("writing to a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_by_their_first_character() {
        let rows: &[(&str, Result<Packet<'_>, PacketError>)] = &[
            ("0{}", Ok(Packet::Open)),
            ("1", Ok(Packet::Close)),
            ("2", Ok(Packet::Ping(""))),
            ("2probe", Ok(Packet::Ping("probe"))),
            ("3", Ok(Packet::Pong(""))),
            ("4", Ok(Packet::Message(""))),
            ("4hé€😀", Ok(Packet::Message("hé€😀"))),
            ("5", Ok(Packet::Upgrade)),
            ("6", Ok(Packet::Noop)),
            ("bAQIDBA==", Ok(Packet::Base64("AQIDBA=="))),
            ("", Err(PacketError::Empty)),
            ("7", Err(PacketError::UnknownType)),
            ("abc", Err(PacketError::UnknownType)),
            ("é", Err(PacketError::UnknownType)),
            ("\u{1e}", Err(PacketError::UnknownType)),
        ];
        for (text, expected) in rows {
            assert_eq!(decode(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn the_open_packet_has_nodes_keys_in_nodes_order() {
        let open = Open {
            sid: "lv_VI97HAXpY6yYWAAAC",
            can_upgrade: true,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            payload_bytes_max: 1_000_000,
        };
        assert_eq!(
            open.encode(),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
        assert!(Open { can_upgrade: false, ..open }.encode().contains(r#""upgrades":[],"#));
    }
}
