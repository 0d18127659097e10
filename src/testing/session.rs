//! One client's end of an Engine.IO session: WebSocket frames to Socket.IO packets and back.
//!
//! Speaks what a stock client speaks, byte for byte, so a test goes the way of every other client.

use std::collections::HashMap;

use bytes::Bytes;

use crate::protocol::socketio::attachments::PendingBinary;
use crate::protocol::socketio::event::{Args, Event};
use crate::protocol::socketio::packet::{self, Packet, PacketKind};
use crate::protocol::websocket::client::decode_response;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::value::answer::Answer;
use crate::testing::host::{Host, WireId};
use crate::testing::received::{Received, RefusedConnection};

/// The nonce of RFC 6455's example: these wires have no cache to fool.
pub(super) const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Nor a proxy: frames are masked with zeros.
const MASK: [u8; 4] = [0; 4];

/// What a namespace answered to CONNECT.
pub(super) type Joined = Result<String, RefusedConnection>;

/// A private id, and the offset of the last event that had one.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) pid: String,
    pub(super) offset: Option<String>,
}

/// One client, in as many namespaces as it likes.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) wire: WireId,
    is_open: bool,
    pub(super) is_over: bool,
    /// The response that refused the WebSocket.
    pub(super) refusal: Option<String>,
    /// By namespace: the socket's id, or why there is none. Gone once the socket is disconnected.
    pub(super) joined: HashMap<String, Joined>,
    /// By namespace: what the client needs to recover its connection.
    pub(super) claims: HashMap<String, Claim>,
    /// By namespace: the offset that the client has named, and goes on naming until it gets an event.
    pub(super) named: HashMap<String, String>,
    pub(super) received: Vec<Received>,
    pub(super) answers: HashMap<(String, u64), Answer>,
    pub(super) next_id: u64,
    /// Events that came before the last CONNECT was answered.
    #[cfg(test)]
    pub(super) before_connect: usize,
    partial: Option<PendingBinary>,
    /// Pings are answered.
    pub(super) answers_pings: bool,
}

impl Session {
    pub(super) fn new(wire: WireId) -> Session {
        Session {
            wire,
            is_open: false,
            is_over: false,
            refusal: None,
            joined: HashMap::new(),
            claims: HashMap::new(),
            named: HashMap::new(),
            received: Vec::new(),
            answers: HashMap::new(),
            next_id: 0,
            #[cfg(test)]
            before_connect: 0,
            partial: None,
            answers_pings: true,
        }
    }

    /// Sends what is framed as a server would, with the masks of a client.
    pub(super) fn send(host: &mut Host, index: usize, frames: &[u8]) {
        let wire = host.sessions[index].wire;
        let mut out = Vec::new();
        for (opcode, payload) in frame::server_frames(frames) {
            frame::append_masked(&mut out, opcode, payload, MASK);
        }
        host.write(wire, &out);
    }

    /// Takes what has arrived. Returns whether there was anything.
    pub(super) fn pump(host: &mut Host, index: usize) -> bool {
        let wire = host.sessions[index].wire;
        let arrived = std::mem::take(host.arrived(wire));
        let is_over = host.is_over(wire);
        let session = &mut host.sessions[index];
        let mut replies = Vec::new();
        let used = session.take(&arrived, &mut replies);
        session.is_over |= is_over;
        let has_worked = used > 0;
        let rest = host.arrived(wire);
        debug_assert!(rest.is_empty(), "nothing arrives while it is read");
        rest.extend_from_slice(&arrived[used..]);
        host.write(wire, &replies);
        has_worked
    }

    fn take(&mut self, arrived: &[u8], replies: &mut Vec<u8>) -> usize {
        let mut used = 0;
        if !self.is_open && !arrived.is_empty() {
            match decode_response(arrived, WEBSOCKET_KEY) {
                Ok(Some(len)) => {
                    self.is_open = true;
                    used = len;
                }
                Ok(None) => return 0,
                Err(_) => {
                    self.refusal = Some(String::from_utf8_lossy(arrived).into_owned());
                    self.is_over = true;
                    return arrived.len();
                }
            }
        }
        while self.is_open {
            let rest = &arrived[used..];
            let header = frame::decode(rest, usize::MAX, 0).expect("a server's frames are sound");
            let Some(header) = header else { break };
            let Some(payload) = rest.get(header.header_len..header.header_len + header.payload_len) else {
                break;
            };
            used += header.header_len + header.payload_len;
            match header.opcode {
                Opcode::Text => self.take_text(payload, replies),
                Opcode::Binary => self.take_binary(Bytes::copy_from_slice(payload)),
                Opcode::Close => self.is_over = true,
                Opcode::Ping | Opcode::Pong | Opcode::Continuation => {}
            }
        }
        used
    }

    fn take_text(&mut self, payload: &[u8], replies: &mut Vec<u8>) {
        let text = std::str::from_utf8(payload).expect("a server's text frames are UTF-8");
        match text.split_at_checked(1) {
            Some(("1", _)) => self.is_over = true,
            Some(("2", _)) if self.answers_pings => frame::append_masked(replies, Opcode::Text, b"3", MASK),
            Some(("4", message)) => self.take_message(message),
            _ => {}
        }
    }

    fn take_message(&mut self, text: &str) {
        if let Some(refused) = text.strip_prefix('4') {
            return self.take_refusal(refused);
        }
        let packet = packet::decode(text).expect("a server's packets are sound");
        let namespace = packet.namespace.to_owned();
        match packet.kind {
            PacketKind::Connect => {
                #[cfg(test)]
                {
                    self.before_connect = self.received.len();
                }
                let said: serde_json::Value = serde_json::from_str(packet.payload).unwrap_or_default();
                let sid = said["sid"].as_str().unwrap_or_default().to_owned();
                if let Some(pid) = said["pid"].as_str() {
                    let offset = self.named.remove(&namespace);
                    self.claims.insert(namespace.clone(), Claim { pid: pid.to_owned(), offset });
                }
                self.joined.insert(namespace, Ok(sid));
            }
            PacketKind::Disconnect => {
                self.joined.remove(&namespace);
            }
            PacketKind::Event | PacketKind::Ack => self.take_packet(&packet, &[]),
            PacketKind::BinaryEvent | PacketKind::BinaryAck => {
                let (kind, id, payload) = (packet.kind, packet.id, packet.payload);
                self.partial = Some(PendingBinary::new(kind, &namespace, id, payload, packet.attachments));
            }
            PacketKind::ConnectError => {}
        }
    }

    /// `[<namespace>,]<payload>`, which only servers send.
    fn take_refusal(&mut self, text: &str) {
        let (namespace, payload) = match text.split_once(',') {
            Some((namespace, payload)) if namespace.starts_with('/') => (namespace, payload),
            _ => ("/", text),
        };
        let mut said: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
        let message = said["message"].as_str().unwrap_or_default().to_owned();
        let data = said.get_mut("data").map(serde_json::Value::take).unwrap_or_default();
        self.joined.insert(namespace.to_owned(), Err(RefusedConnection { message, data }));
    }

    fn take_binary(&mut self, bytes: Bytes) {
        let is_whole = self.partial.as_mut().is_some_and(|partial| partial.push(bytes));
        if let Some(partial) = self.partial.take_if(|_| is_whole) {
            let packet = Packet {
                kind: partial.kind(),
                namespace: partial.namespace(),
                id: partial.id(),
                attachments: partial.attachments().len(),
                payload: partial.payload(),
            };
            self.take_packet(&packet, partial.attachments());
        }
    }

    fn take_packet(&mut self, packet: &Packet<'_>, attachments: &[Bytes]) {
        let (id, namespace) = (packet.id, packet.namespace.to_owned());
        if matches!(packet.kind, PacketKind::Event | PacketKind::BinaryEvent) {
            let event = Event::decode(packet.payload, attachments).expect("a server's events are sound");
            let (name, args) = (event.name.into_owned(), Answer::of(event.args));
            let event = Received { name, args, id, namespace };
            if let Some(claim) = self.claims.get_mut(&event.namespace) {
                claim.offset = event.offset().or(claim.offset.take());
            }
            self.received.push(event);
        } else if let Some(id) = id {
            let answer = Answer::of(Args::of_ack(packet.payload, attachments));
            self.answers.insert((namespace, id), answer);
        }
    }
}
