//! One client: from the first request to an open Socket.IO session, then bytes to messages and messages to
//! bytes.
//!
//! Each transport opens as the stock client does: `websocket` directly; `polling` with a GET; `upgrade`
//! polls, connects, probes a WebSocket, waits for its last poll and posts `5` there (Engine.IO 4, "Upgrade").
//! Unlike the stock client it probes only after the namespace is open, so "connected" always includes the
//! upgrade. What is sent when, and whether what comes back is right, is the workload's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::clock::Moment;
use super::error::{Fault, quote};
use super::http;
use super::limits::MESSAGE_BYTES_MAX;
use super::options::Transport;
use super::packet::{self, Codec, EventKind, Packet};
use super::polling::{Polling, SEPARATOR};
use super::target::Target;
use super::websocket::{self, Frame, Mask, Opcode};
use super::wire::{Net, Token, Wire, WireKind};

/// What all clients share.
pub(super) struct Io {
    /// Opens and flushes wires.
    pub(super) net: Net,
    /// The server.
    pub(super) target: Target,
    /// The namespace's packets.
    pub(super) codec: Codec,
    /// The mask keys.
    pub(super) mask: Mask,
    /// How sessions are opened.
    pub(super) transport: Transport,
    /// Where a packet is put together before its frame, whose header needs the length.
    pub(super) scratch: Vec<u8>,
}

/// What a client tells the workload.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// The session is open, upgraded if that was asked for.
    Connected,
    /// An acknowledgement and its argument.
    Ack(u64, &'a [u8]),
    /// The event `msg` and its argument.
    Message(&'a [u8]),
}

/// Who hears of it.
pub(super) type Sink<'s> = &'s mut dyn FnMut(Incoming<'_>);

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Closed,
    /// The Engine.IO handshake is under way.
    Opening,
    /// The Socket.IO CONNECT is under way.
    Connecting,
    /// The WebSocket is being tried.
    Probing,
    /// The WebSocket works; the last poll has not come back.
    Draining,
    Open,
}

/// One session, or the place for one.
pub(super) struct Client {
    id: u32,
    stage: Stage,
    websocket: Option<Wire>,
    /// The WebSocket's handshake has been answered.
    is_switched: bool,
    /// Boxed: at a million WebSocket clients, every word here counts.
    polling: Option<Box<Polling>>,
    /// The acknowledgement whose attachment comes next.
    attachment_of: Option<u64>,
    /// A fragmented message so far (RFC 6455 §5.4).
    fragments: Option<Box<(Opcode, Vec<u8>)>>,
    /// When the session was meant to be begun.
    pub(super) begun: Moment,
}

impl Client {
    /// A place for a session.
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            stage: Stage::Closed,
            websocket: None,
            is_switched: false,
            polling: None,
            attachment_of: None,
            fragments: None,
            begun: Moment::default(),
        }
    }

    /// Begins a session that was due at `begun`.
    pub(super) fn open(&mut self, io: &mut Io, begun: Moment) -> Result<(), Fault> {
        *self = Self { stage: Stage::Opening, begun, ..Self::new(self.id) };
        if io.transport == Transport::Websocket {
            self.open_websocket(io, None)?;
        } else {
            self.polling.insert(Box::new(Polling::new(self.id))).poll(&mut io.net, &io.target)?;
        }
        self.flush(io)
    }

    /// Drops the session and its connections. A server sees at once that a WebSocket is gone; of a polling
    /// session it must be told, or it would keep the session, and queue broadcasts for it, until the
    /// heartbeat times out.
    pub(super) fn close(&mut self, io: &mut Io) {
        if let Some(polling) = &mut self.polling {
            // When even this fails, the heartbeat has to do.
            let _ = polling.say_goodbye(&mut io.net, &io.target);
        }
        *self = Self::new(self.id);
    }

    /// True when events can be emitted.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// True between [`Client::open`] and the moment the session is open.
    pub(super) fn is_opening(&self) -> bool {
        !matches!(self.stage, Stage::Open | Stage::Closed)
    }

    /// The wire of an event, unless it is gone.
    pub(super) fn wire(&mut self, kind: WireKind) -> Option<&mut Wire> {
        match kind {
            WireKind::WebSocket => self.websocket.as_mut(),
            WireKind::Get => self.polling.as_mut()?.get.as_mut(),
            WireKind::Post => self.polling.as_mut()?.post.as_mut(),
        }
    }

    /// Stops or resumes to read and write.
    pub(super) fn mute(&mut self, io: &Io, is_muted: bool) -> Result<(), Fault> {
        for kind in [WireKind::WebSocket, WireKind::Get, WireKind::Post] {
            if let Some(wire) = self.wire(kind) {
                wire.mute(&io.net, is_muted)?;
            }
        }
        self.flush(io)
    }

    /// Queues one event.
    pub(super) fn emit(&mut self, io: &mut Io, kind: EventKind, ack: u64, payload: &[u8]) {
        let mut text = std::mem::take(&mut io.scratch);
        text.clear();
        io.codec.encode_event(&mut text, kind, ack, payload);
        self.send_text(io, &text);
        io.scratch = text;
        if kind == EventKind::Bin {
            self.send_binary(io, payload);
        }
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self, io: &Io) -> Result<(), Fault> {
        if let Some(polling) = &mut self.polling {
            polling.flush(&io.net)?;
        }
        if let Some(wire) = &mut self.websocket {
            wire.flush(&io.net)?;
        }
        Ok(())
    }

    /// Begins the POST that became possible, then sends what is queued: the end of a client's turn.
    pub(super) fn finish_turn(&mut self, io: &mut Io, now: Moment) -> Result<(), Fault> {
        if let Some(polling) = &mut self.polling {
            polling.post(&mut io.net, &io.target, now)?;
        }
        self.flush(io)
    }

    /// The server closed a wire. Between two requests that is its right.
    pub(super) fn handle_end(&mut self, kind: WireKind) -> Result<(), Fault> {
        let Some(polling) = &mut self.polling else { return Err(Fault::Closed(None)) };
        match kind {
            WireKind::Get if !polling.is_polling => polling.get = None,
            WireKind::Post if !polling.is_posting => polling.post = None,
            _ => return Err(Fault::Closed(None)),
        }
        Ok(())
    }

    /// Takes bytes of one wire; returns how many were used. The rest has to be offered again with what
    /// follows.
    pub(super) fn receive(
        &mut self,
        io: &mut Io,
        kind: WireKind,
        bytes: &[u8],
        sink: Sink<'_>,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let taken = match kind {
                _ if rest.is_empty() => None,
                WireKind::WebSocket if self.is_switched => self.receive_frame(io, rest, sink)?,
                WireKind::WebSocket => self.receive_switch(io, rest)?,
                WireKind::Get => self.receive_poll(io, rest, sink)?,
                WireKind::Post => self.receive_posted(io, rest, sink)?,
            };
            match taken {
                Some(len) => used += len,
                None => return Ok(used),
            }
        }
    }

    fn receive_switch(&mut self, io: &mut Io, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(len) = http::decode_switch(bytes)? else { return Ok(None) };
        self.is_switched = true;
        if self.stage == Stage::Probing {
            self.frame(io, Opcode::Text, b"2probe");
        }
        Ok(Some(len))
    }

    fn receive_frame(&mut self, io: &mut Io, bytes: &[u8], sink: Sink<'_>) -> Result<Option<usize>, Fault> {
        let Some((frame, len)) = websocket::decode_frame(bytes)? else { return Ok(None) };
        match frame {
            Frame { opcode: Opcode::Text, is_final: true, payload } if self.fragments.is_none() => {
                self.receive_packet(io, payload, sink)?;
            }
            Frame { opcode: Opcode::Binary, is_final: true, payload } if self.fragments.is_none() => {
                self.receive_attachment(payload, sink)?;
            }
            Frame { opcode: Opcode::Close, payload, .. } => {
                return Err(Fault::Closed(websocket::close_code(payload)));
            }
            Frame { opcode: Opcode::Ping, payload, .. } => self.frame(io, Opcode::Pong, payload),
            Frame { opcode: Opcode::Pong, .. } => {}
            frame => self.receive_fragment(io, &frame, sink)?,
        }
        Ok(Some(len))
    }

    fn receive_fragment(&mut self, io: &mut Io, frame: &Frame<'_>, sink: Sink<'_>) -> Result<(), Fault> {
        let mut fragments = match (self.fragments.take(), frame.opcode) {
            (Some(fragments), Opcode::Continuation) => fragments,
            (None, opcode @ (Opcode::Text | Opcode::Binary)) => Box::new((opcode, Vec::new())),
            _ => return Err(Fault::Frame("a fragment out of place")),
        };
        fragments.1.extend_from_slice(frame.payload);
        if fragments.1.len() > MESSAGE_BYTES_MAX {
            return Err(Fault::Frame("longer than any message of this run"));
        }
        match (frame.is_final, fragments.0) {
            (false, _) => self.fragments = Some(fragments),
            (true, Opcode::Text) => self.receive_packet(io, &fragments.1, sink)?,
            (true, _) => self.receive_attachment(&fragments.1, sink)?,
        }
        Ok(())
    }

    fn receive_poll(&mut self, io: &mut Io, bytes: &[u8], sink: Sink<'_>) -> Result<Option<usize>, Fault> {
        let Some((response, len)) = http::decode_response(bytes)? else { return Ok(None) };
        let Some(polling) = &mut self.polling else { return Ok(None) };
        if response.status != 200 || !polling.is_polling {
            return Err(Fault::Status(response.status, quote(&response.body)));
        }
        polling.is_polling = false;
        if response.is_last {
            polling.get = None;
        }
        for packet in response.body.split(|&byte| byte == SEPARATOR) {
            match packet.strip_prefix(b"b") {
                Some(text) => {
                    let bytes = BASE64.decode(text).map_err(|_| Fault::Packet(quote(packet)))?;
                    self.receive_attachment(&bytes, sink)?;
                }
                None => self.receive_packet(io, packet, sink)?,
            }
        }
        if self.stage == Stage::Draining {
            self.finish_upgrade(io, sink);
        } else if let Some(polling) = &mut self.polling {
            polling.poll(&mut io.net, &io.target)?;
        }
        Ok(Some(len))
    }

    fn receive_posted(&mut self, io: &mut Io, bytes: &[u8], sink: Sink<'_>) -> Result<Option<usize>, Fault> {
        let Some((response, len)) = http::decode_response(bytes)? else { return Ok(None) };
        let Some(polling) = &mut self.polling else { return Ok(None) };
        if response.status != 200 || !polling.is_posting {
            return Err(Fault::Status(response.status, quote(&response.body)));
        }
        polling.is_posting = false;
        if response.is_last {
            polling.post = None;
        }
        if self.stage == Stage::Draining {
            self.finish_upgrade(io, sink);
        }
        Ok(Some(len))
    }

    fn receive_packet(&mut self, io: &mut Io, text: &[u8], sink: Sink<'_>) -> Result<(), Fault> {
        match io.codec.decode(text)? {
            Packet::Message(payload) => sink(Incoming::Message(payload)),
            Packet::Ack(id, payload) => sink(Incoming::Ack(id, payload)),
            Packet::BinaryAck(id) => self.attachment_of = Some(id),
            Packet::Ping => self.send_text(io, b"3"),
            Packet::Noop | Packet::Other => {}
            Packet::Open(json) if self.stage == Stage::Opening => self.handle_open(io, json)?,
            Packet::Connected if self.stage == Stage::Connecting => self.handle_connected(io, sink)?,
            Packet::ProbePong if self.stage == Stage::Probing => {
                self.stage = Stage::Draining;
                self.finish_upgrade(io, sink);
            }
            Packet::Refused(reason) => return Err(Fault::Refused(quote(reason))),
            Packet::Close | Packet::Disconnected => return Err(Fault::Disconnected),
            Packet::Open(_) | Packet::Connected | Packet::ProbePong => {
                return Err(Fault::Packet(quote(text)));
            }
        }
        Ok(())
    }

    fn receive_attachment(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), Fault> {
        let id = self.attachment_of.take();
        sink(Incoming::Ack(id.ok_or_else(|| Fault::Packet("an attachment of nothing".to_owned()))?, bytes));
        Ok(())
    }

    fn handle_open(&mut self, io: &mut Io, json: &[u8]) -> Result<(), Fault> {
        let open = packet::decode_open(json)?;
        if let Some(polling) = &mut self.polling {
            polling.sid = open.sid;
            polling.payload_bytes_max = open.payload_bytes_max;
        }
        self.stage = Stage::Connecting;
        let mut text = Vec::new();
        io.codec.encode_connect(&mut text);
        self.send_text(io, &text);
        Ok(())
    }

    fn handle_connected(&mut self, io: &mut Io, sink: Sink<'_>) -> Result<(), Fault> {
        if let (Transport::Upgrade, Some(polling)) = (io.transport, &self.polling) {
            let sid = polling.sid.clone();
            self.stage = Stage::Probing;
            return self.open_websocket(io, Some(&sid));
        }
        self.stage = Stage::Open;
        sink(Incoming::Connected);
        Ok(())
    }

    /// The upgrade is done when no request is under way, for what is still in one would be overtaken.
    fn finish_upgrade(&mut self, io: &mut Io, sink: Sink<'_>) {
        let is_busy = |polling: &mut Box<Polling>| polling.is_polling || polling.is_posting;
        let Some(mut polling) = self.polling.take_if(|polling| !is_busy(polling)) else { return };
        self.frame(io, Opcode::Text, b"5");
        for packet in
            polling.take_outbox().split(|&byte| byte == SEPARATOR).filter(|packet| !packet.is_empty())
        {
            self.frame(io, Opcode::Text, packet);
        }
        self.stage = Stage::Open;
        sink(Incoming::Connected);
    }

    fn open_websocket(&mut self, io: &mut Io, sid: Option<&str>) -> Result<(), Fault> {
        let wire = Wire::open(&mut io.net, Token { client: self.id, kind: WireKind::WebSocket })?;
        io.target.encode_websocket(self.websocket.insert(wire).out(), sid);
        Ok(())
    }

    fn send_text(&mut self, io: &mut Io, text: &[u8]) {
        match &mut self.polling {
            Some(polling) => polling.push(|out| out.extend_from_slice(text)),
            None => self.frame(io, Opcode::Text, text),
        }
    }

    fn send_binary(&mut self, io: &mut Io, bytes: &[u8]) {
        match &mut self.polling {
            Some(polling) => polling.push(|out| {
                out.push(b'b');
                out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            }),
            None => self.frame(io, Opcode::Binary, bytes),
        }
    }

    fn frame(&mut self, io: &mut Io, opcode: Opcode, payload: &[u8]) {
        if let Some(wire) = &mut self.websocket {
            websocket::encode_frame(wire.out(), opcode, payload, &mut io.mask);
        }
    }
}
