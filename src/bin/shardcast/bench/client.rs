//! One client: from the first request to an open Socket.IO session, then bytes to messages and messages to
//! bytes.
//!
//! Each transport opens as the stock client does: `websocket` directly; `polling` with a GET; `upgrade`
//! polls, connects, probes a WebSocket, waits for its last poll and posts `5` there (Engine.IO 4, "Upgrade").
//! Unlike the stock client it probes only after the namespace is open, so "connected" always includes the
//! upgrade. What is sent when, and whether what comes back is right, is the workload's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use std::time::Duration;

use super::clock::Moment;
use super::error::{Fault, quote};
use super::http;
use super::limits::MESSAGE_BYTES_MAX;
use super::msgpack;
use super::options::{Parser, Revision, Transport};
use super::packet::{self, Claim, Codec, EventKind, Packet};
use super::polling::{self, Polling, SEPARATOR};
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
    /// The form of Socket.IO's packets.
    pub(super) parser: Parser,
    /// The revision of Engine.IO.
    pub(super) revision: Revision,
    /// Clients come back as who they were.
    pub(super) recovers: bool,
    /// How often the server wants clients of revision 3 to ping; none before the first handshake, and in revision 4.
    pub(super) ping_interval: Option<Duration>,
    /// Where a packet is put together before its frame, whose header needs the length.
    pub(super) scratch: Vec<u8>,
}

/// What a client tells the workload.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// The session is open, upgraded if that was asked for.
    Connected {
        /// The server knows it as the one that it was before.
        is_recovered: bool,
    },
    /// An acknowledgement and its argument.
    Ack(u64, &'a [u8]),
    /// The event `msg` and its argument.
    Message(&'a [u8]),
    /// Another event: the whole array.
    Event(&'a [u8]),
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
    /// How many attachments still come, and of which acknowledgement: of an event they are passed over.
    attachments: u32,
    attachment_of: Option<u64>,
    /// A fragmented message so far (RFC 6455 §5.4).
    fragments: Option<Box<(Opcode, Vec<u8>)>>,
    /// Who it was, for `--recover`.
    claim: Option<Box<Claim>>,
    is_recovered: bool,
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
            attachments: 0,
            attachment_of: None,
            fragments: None,
            claim: None,
            is_recovered: false,
            begun: Moment::default(),
        }
    }

    /// Begins a session that was due at `begun`.
    pub(super) fn open(&mut self, io: &mut Io, begun: Moment) -> Result<(), Fault> {
        *self = Self { stage: Stage::Opening, begun, ..self.anew() };
        if io.transport == Transport::Websocket {
            self.open_websocket(io, None)?;
        } else {
            self.polling
                .insert(Box::new(Polling::new(self.id, io.revision)))
                .poll(&mut io.net, &io.target)?;
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
        *self = self.anew();
    }

    /// The place without its session: all that is left is who it was.
    fn anew(&mut self) -> Self {
        Self { claim: self.claim.take(), ..Self::new(self.id) }
    }

    /// Drops the session's connections without a word, as a network does that fails.
    pub(super) fn lose(&mut self) {
        *self = self.anew();
    }

    /// Sends the ping of revision 3.
    pub(super) fn ping(&mut self, io: &mut Io, now: Moment) -> Result<(), Fault> {
        self.send_text(io, b"2");
        self.finish_turn(io, now)
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
        self.send_packet(io, &text, Some(payload).filter(|_| kind == EventKind::Bin));
        io.scratch = text;
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
                self.receive_binary(io, payload, sink)?;
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
            (true, _) => self.receive_binary(io, &fragments.1, sink)?,
        }
        Ok(())
    }

    fn receive_poll(&mut self, io: &mut Io, bytes: &[u8], sink: Sink<'_>) -> Result<Option<usize>, Fault> {
        let Some((response, len)) = http::decode_response(bytes)? else { return Ok(None) };
        let Some(polling) = &mut self.polling else { return Ok(None) };
        if response.status != 200 || !polling.is_polling {
            return Err(Fault::Status(response.status, quote(&response.body), response.hint.clone()));
        }
        polling.is_polling = false;
        if response.is_last {
            polling.get = None;
        }
        let revision = io.revision;
        for packet in polling::packets(&response.body, revision) {
            let packet = packet?;
            let prefix: &[u8] = if revision == Revision::Three { b"b4" } else { b"b" };
            match packet.strip_prefix(prefix) {
                Some(text) => {
                    let bytes = BASE64.decode(text).map_err(|_| Fault::Packet(quote(packet)))?;
                    self.receive_binary(io, &bytes, sink)?;
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
            return Err(Fault::Status(response.status, quote(&response.body), response.hint.clone()));
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
            Packet::Message(payload) if io.recovers => {
                let (payload, offset) = packet::split_offset(payload);
                if let (Some(offset), Some(claim)) = (offset, &mut self.claim) {
                    claim.offset = String::from_utf8_lossy(offset).into_owned();
                }
                sink(Incoming::Message(payload));
            }
            Packet::Message(payload) => sink(Incoming::Message(payload)),
            Packet::Ack(id, payload) => sink(Incoming::Ack(id, payload)),
            Packet::Event(array) => sink(Incoming::Event(array)),
            Packet::Binary(count, id) => {
                (self.attachments, self.attachment_of) = (count, id);
                if count == 0 {
                    id.into_iter().for_each(|id| sink(Incoming::Ack(id, b"")));
                }
            }
            Packet::Ping => self.send_text(io, b"3"),
            Packet::Noop | Packet::Other => {}
            Packet::Open(json) if self.stage == Stage::Opening => self.handle_open(io, json)?,
            Packet::Connected(json) if self.stage == Stage::Connecting => {
                if io.recovers {
                    self.learn_claim(json);
                }
                self.handle_connected(io, sink)?;
            }
            Packet::ProbePong if self.stage == Stage::Probing => {
                self.stage = Stage::Draining;
                self.finish_upgrade(io, sink);
            }
            Packet::Refused(reason) => return Err(Fault::Refused(quote(reason))),
            Packet::Close | Packet::Disconnected => return Err(Fault::Disconnected),
            Packet::Open(_) | Packet::Connected(_) | Packet::ProbePong => {
                return Err(Fault::Packet(quote(text)));
            }
        }
        Ok(())
    }

    /// Bytes: an attachment, or a packet of the other parser.
    fn receive_binary(&mut self, io: &mut Io, bytes: &[u8], sink: Sink<'_>) -> Result<(), Fault> {
        if io.parser == Parser::Json {
            return self.receive_attachment(bytes, sink);
        }
        let Some(packet) = msgpack::decode(bytes) else { return Err(Fault::Packet(quote(bytes))) };
        self.receive_packet(io, &packet.text, sink)?;
        packet.attachments.iter().try_for_each(|bytes| self.receive_attachment(bytes, sink))
    }

    fn receive_attachment(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), Fault> {
        let Some(left) = self.attachments.checked_sub(1) else {
            return Err(Fault::Packet("an attachment of nothing".to_owned()));
        };
        self.attachments = left;
        if left == 0
            && let Some(id) = self.attachment_of.take()
        {
            sink(Incoming::Ack(id, bytes));
        }
        Ok(())
    }

    fn handle_open(&mut self, io: &mut Io, json: &[u8]) -> Result<(), Fault> {
        let open = packet::decode_open(json)?;
        if let Some(polling) = &mut self.polling {
            polling.sid = open.sid;
            polling.payload_bytes_max = open.payload_bytes_max;
        }
        if io.revision == Revision::Three && open.ping_interval > 0 {
            io.ping_interval = Some(Duration::from_millis(u64::from(open.ping_interval)));
        }
        self.stage = Stage::Connecting;
        let mut text = Vec::new();
        io.codec.encode_connect(&mut text, self.id, self.claim.as_deref());
        if !text.is_empty() {
            self.send_packet(io, &text, None);
        }
        Ok(())
    }

    /// What the server says of who this is: the same as before, or somebody new.
    fn learn_claim(&mut self, json: &[u8]) {
        let pid = packet::decode_pid(json).unwrap_or_default();
        self.is_recovered = self.claim.as_ref().is_some_and(|claim| !pid.is_empty() && claim.pid == pid);
        if !self.is_recovered {
            self.claim = Some(Box::new(Claim { pid, offset: String::new() }));
        }
    }

    fn handle_connected(&mut self, io: &mut Io, sink: Sink<'_>) -> Result<(), Fault> {
        if let (Transport::Upgrade, Some(polling)) = (io.transport, &self.polling) {
            let sid = polling.sid.clone();
            self.stage = Stage::Probing;
            return self.open_websocket(io, Some(&sid));
        }
        self.stage = Stage::Open;
        sink(Incoming::Connected { is_recovered: self.is_recovered });
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
        sink(Incoming::Connected { is_recovered: self.is_recovered });
    }

    fn open_websocket(&mut self, io: &mut Io, sid: Option<&str>) -> Result<(), Fault> {
        let wire = Wire::open(&mut io.net, Token { client: self.id, kind: WireKind::WebSocket })?;
        io.target.encode_websocket(self.websocket.insert(wire).out(), self.id, sid);
        Ok(())
    }

    /// A Socket.IO packet, in the form of its parser.
    fn send_packet(&mut self, io: &mut Io, text: &[u8], attachment: Option<&[u8]>) {
        if io.parser == Parser::Msgpack {
            let mut bytes = Vec::new();
            msgpack::encode(&mut bytes, text, attachment);
            return self.send_binary(io, &bytes);
        }
        self.send_text(io, text);
        if let Some(bytes) = attachment {
            self.send_binary(io, bytes);
        }
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
