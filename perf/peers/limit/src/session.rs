//! One Engine.IO session and the packets that the benchmark's clients send, told apart by their first bytes.

/// One session; on WebSocket when it has one, on long-polling otherwise.
#[derive(Default)]
pub struct Session {
    /// The WebSocket that carries it.
    pub websocket: Option<usize>,
    /// The connection whose GET waits.
    pub poll: Option<usize>,
    /// Packets for the next GET, separated by 0x1e.
    pub queue: Vec<u8>,
    /// The ack id of a `bin` whose attachment is still to come.
    pub attachment_id: Vec<u8>,
    pub rooms: Vec<usize>,
    /// Its place among those that hear broadcasts, once it has connected to the namespace.
    pub place: Option<usize>,
}

/// What a packet asks for. The payload of an event is its JSON with the closing bracket.
pub enum Packet<'a> {
    Ping(&'a [u8]),
    Connect,
    Disconnect,
    Echo { id: &'a [u8], payload: &'a [u8] },
    Attach { id: &'a [u8] },
    Broadcast { id: &'a [u8], payload: &'a [u8] },
    Join { id: &'a [u8], room: &'a [u8] },
    Room { id: &'a [u8], room: &'a [u8], payload: &'a [u8] },
    Other,
}

impl<'a> Packet<'a> {
    pub fn decode(packet: &'a [u8]) -> Packet<'a> {
        match packet {
            [b'2', rest @ ..] => Packet::Ping(rest),
            [b'1', ..] | [b'4', b'1', ..] => Packet::Disconnect,
            [b'4', b'0', ..] => Packet::Connect,
            [b'4', b'2', rest @ ..] => Packet::event(rest),
            [b'4', b'5', b'1', b'-', rest @ ..] => match split_id(rest) {
                (id, body) if body.starts_with(br#"["bin","#) => Packet::Attach { id },
                _ => Packet::Other,
            },
            _ => Packet::Other,
        }
    }

    fn event(rest: &'a [u8]) -> Packet<'a> {
        let (id, body) = split_id(rest);
        if let Some(payload) = body.strip_prefix(br#"["echo","#) {
            Packet::Echo { id, payload }
        } else if let Some(payload) = body.strip_prefix(br#"["broadcast","#) {
            Packet::Broadcast { id, payload }
        } else if let Some((room, _)) = body.strip_prefix(br#"["join",""#).and_then(split_quote) {
            Packet::Join { id, room }
        } else if let Some((room, [b',', payload @ ..])) =
            body.strip_prefix(br#"["room",""#).and_then(split_quote)
        {
            Packet::Room { id, room, payload }
        } else {
            Packet::Other
        }
    }
}

fn split_id(rest: &[u8]) -> (&[u8], &[u8]) {
    rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn split_quote(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'"', rest)?;
    Some((&rest[..at], &rest[at + 1..]))
}
