//! A small Engine.IO 4 and Socket.IO 5 client: polling on whichever connection is free, WebSocket, the upgrade.
//!
//! Written for the simulation from the protocols' texts; it shares only the frame codec with the server. It is
//! driven by what arrives and does not know time.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::protocol::socketio::msgpack::{self, MsgpackError};
use crate::protocol::socketio::packet::PacketError;
use crate::protocol::websocket::client::{append_fragment, decode_response, encode_request};
use crate::protocol::websocket::deflate::{Deflater, InflateLimits, Inflater};
use crate::protocol::websocket::frame::{self, Opcode, RESERVED_DEFLATE};
use crate::simulation::world::{WireId, World};

/// What a server may send.
const INFLATED: InflateLimits = InflateLimits::bytes(usize::MAX - 1);

const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A pooled connection idle for longer is not used again: the server may be about to close it.
const POOLED_IDLE_MAX: Duration = Duration::from_secs(60);

/// How readily a client begins its upgrade whenever it could: sometimes at once, sometimes under full load.
const UPGRADE_PERCENT: usize = 20;

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) starts_with_websocket: bool,
    pub(super) upgrades: bool,
    pub(super) keeps_alive: bool,
}

/// One Engine.IO packet, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Text(String),
    Binary(Vec<u8>),
}

/// One Socket.IO packet, whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) kind: char,
    pub(super) namespace: String,
    pub(super) id: Option<u64>,
    pub(super) payload: Value,
    pub(super) attachments: Vec<Vec<u8>>,
}

/// A WebSocket that asks to take over.
#[derive(Clone, Copy, Debug)]
struct Probe {
    wire: WireId,
    /// `3probe` has come: no poll is started any more.
    is_answered: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: usize,
    pub(super) habits: Habits,
    /// The endpoint that it talks to.
    pub(super) path: &'static str,
    /// Where what it sends goes.
    pub(super) namespace: &'static str,
    /// What it was told for its recovery, and the offset of the last event that it has got.
    pub(super) pid: Option<String>,
    pub(super) offset: Option<String>,
    /// CONNECT is answered. Events that come before it are emitted behind it, and count as got then, perhaps on a later connection.
    is_connected: bool,
    early_offset: Option<String>,
    /// Says with a request that no other follows on that connection.
    pub(super) half_closes: bool,
    pub(super) sid: Option<String>,
    poll: Option<WireId>,
    post: Option<WireId>,
    pub(super) websocket: Option<WireId>,
    probe: Option<Probe>,
    /// WebSockets whose 101 has come.
    switched: Vec<WireId>,
    has_tried_upgrade: bool,
    queue: VecDeque<Packet>,
    partial: Option<(Message, usize)>,
    /// What came, in order; the test takes it.
    pub(super) received: VecDeque<Message>,
    /// The transport is gone, or the server ended the session.
    pub(super) is_over: bool,
    /// Its WebSocket closed while it switched: a stock client polls no more then, and waits for its ping timeout.
    pub(super) is_stuck: bool,
    /// Pings are not answered.
    pub(super) is_silent: bool,
    /// Statuses other than 200 and 101.
    pub(super) refusals: Vec<String>,
    pub(super) pings: usize,
    /// Frames are sent in fragments now and then.
    pub(super) fragments: bool,
    /// JSON that is broken is no fault of the server: somebody writes to the message queue what he likes.
    pub(super) tolerates_broken_json: bool,
    /// Its parser is msgpack's.
    pub(super) speaks_msgpack: bool,
    /// Its WebSocket asks for permessage-deflate, and then compresses now and then.
    offers_deflate: bool,
    /// The server has agreed.
    pub(super) has_deflate: bool,
    /// Compressed messages that came.
    pub(super) inflated: usize,
    /// A client of Socket.IO 2: it is let into `/` without asking, pings by itself, and types what is binary.
    pub(super) is_revision_3: bool,
    has_entered: bool,
}

impl Client {
    /// A client that connects now.
    pub(super) fn open(id: usize, path: &'static str, habits: Habits, world: &mut World) -> Client {
        let mut client = Client::new(id, path, habits, world);
        client.connect(world);
        client
    }

    /// The same of Socket.IO 2.
    pub(super) fn open_old(id: usize, path: &'static str, habits: Habits, world: &mut World) -> Client {
        let mut client =
            Client { is_revision_3: true, offers_deflate: false, ..Client::new(id, path, habits, world) };
        client.connect(world);
        client
    }

    fn new(id: usize, path: &'static str, habits: Habits, world: &mut World) -> Client {
        Client {
            id,
            habits,
            path,
            namespace: "/",
            pid: None,
            offset: None,
            is_connected: false,
            early_offset: None,
            half_closes: false,
            sid: None,
            poll: None,
            post: None,
            websocket: None,
            probe: None,
            switched: Vec::new(),
            has_tried_upgrade: false,
            queue: VecDeque::new(),
            partial: None,
            received: VecDeque::new(),
            is_over: false,
            is_stuck: false,
            is_silent: false,
            refusals: Vec::new(),
            pings: 0,
            fragments: false,
            tolerates_broken_json: false,
            speaks_msgpack: false,
            offers_deflate: world.weather().config.permessage_deflate && world.random.chance(60),
            has_deflate: false,
            inflated: 0,
            is_revision_3: false,
            has_entered: false,
        }
    }

    fn connect(&mut self, world: &mut World) {
        if self.habits.starts_with_websocket {
            let wire = world.dial_from(self.id, home(self.id));
            self.request_websocket(world, wire);
            self.websocket = Some(wire);
        } else {
            self.start_poll(world);
        }
    }

    /// Loses its connection, which the server hears of or not, and begins anew.
    pub(super) fn reconnect(&mut self, habits: Habits, world: &mut World, is_reset: bool) {
        self.drop_wires(world, is_reset);
        let anew = Client::open(self.id, self.path, habits, world);
        let mut before = std::mem::replace(self, anew);
        self.go_on_from(&mut before);
    }

    /// It is the same client, on a new connection.
    pub(super) fn go_on_from(&mut self, before: &mut Client) {
        self.namespace = before.namespace;
        self.pid = before.pid.take();
        self.offset = before.offset.take();
        self.early_offset = before.early_offset.take();
        self.half_closes = before.half_closes;
        self.fragments = before.fragments;
        self.speaks_msgpack = before.speaks_msgpack;
        self.received = std::mem::take(&mut before.received);
    }

    /// Asks to be let in, as the socket that it was if it was told how.
    pub(super) fn enter(&mut self) {
        let is_first = !std::mem::replace(&mut self.has_entered, true);
        if self.is_revision_3 && self.namespace == "/" && is_first {
            return;
        }
        let claim = match (&self.pid, &self.offset) {
            (None, _) => String::new(),
            (Some(pid), None) => json!({ "pid": pid }).to_string(),
            (Some(pid), Some(offset)) => json!({ "pid": pid, "offset": offset }).to_string(),
        };
        self.send(&format!("0{claim}"), &[]);
    }

    /// Queues a Socket.IO packet's text, with the namespace put in, and its attachments.
    pub(super) fn send(&mut self, text: &str, attachments: &[Vec<u8>]) {
        let head = if attachments.is_empty() { 1 } else { text.find('-').map_or(1, |place| place + 1) };
        let (head, rest) = text.split_at(head);
        let namespace = if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) };
        let text = format!("{head}{namespace}{rest}");
        if self.speaks_msgpack {
            let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
            let mut packed = Vec::new();
            msgpack::encode(&mut packed, &text, &attachments).expect("clients write JSON");
            self.queue.push_back(Packet::Binary(packed));
            return;
        }
        self.queue.push_back(Packet::Text(format!("4{text}")));
        self.queue.extend(attachments.iter().cloned().map(Packet::Binary));
    }

    /// Queues an event, with an id if its answer is wanted.
    pub(super) fn emit(&mut self, id: Option<u64>, event: &Value) {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        self.send(&format!("2{id}{event}"), &[]);
    }

    /// Queues an Engine.IO packet as it is.
    pub(super) fn send_packet(&mut self, packet: Packet) {
        self.queue.push_back(packet);
    }

    /// Whether the upgrade has happened, or the client began with WebSocket.
    pub(super) fn is_on_websocket(&self) -> bool {
        self.websocket.is_some()
    }

    /// `3probe` has come, and the last poll has not been answered.
    pub(super) fn is_pausing(&self) -> bool {
        self.probe.is_some_and(|probe| probe.is_answered)
    }

    pub(super) fn wires(&self) -> impl Iterator<Item = WireId> + '_ {
        let probe = self.probe.map(|probe| probe.wire);
        self.poll.into_iter().chain(self.post).chain(self.websocket).chain(probe)
    }

    /// Nothing waits to be sent and no POST is out.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_over || self.queue.is_empty() && self.post.is_none()
    }

    /// Closes the client's wires without a word.
    pub(super) fn drop_wires(&mut self, world: &mut World, is_reset: bool) {
        let wires: Vec<WireId> = self.wires().collect();
        for wire in wires {
            if is_reset { world.reset(wire) } else { world.close(wire) }
        }
        self.is_over = true;
    }

    /// Takes what has arrived on a wire, and does what follows from it.
    pub(super) fn pump(&mut self, world: &mut World, wire: WireId) {
        while self.take_one(world, wire) {}
        if world.wires[wire.0].is_over {
            self.wire_ended(world, wire);
        }
        self.drive(world);
    }

    /// Starts whatever can be started.
    pub(super) fn drive(&mut self, world: &mut World) {
        if self.is_over || self.is_stuck || self.sid.is_none() {
            return;
        }
        if let Some(wire) = self.websocket {
            while let Some(packet) = self.queue.pop_front() {
                self.write_frame(world, wire, &packet);
            }
            return;
        }
        let is_paused = self.probe.is_some_and(|probe| probe.is_answered);
        if is_paused {
            if self.poll.is_none() && self.post.is_none() {
                let wire = self.probe.take().expect("a paused client has a probe").wire;
                self.write_frame(world, wire, &Packet::Text("5".into()));
                self.websocket = Some(wire);
                self.drive(world);
            }
            return;
        }
        if self.poll.is_none() {
            self.start_poll(world);
        }
        if self.post.is_none() && !self.queue.is_empty() {
            self.start_post(world);
        }
        if self.habits.upgrades && !self.has_tried_upgrade && world.random.chance(UPGRADE_PERCENT) {
            self.has_tried_upgrade = true;
            let wire = world.dial_from(self.id, home(self.id));
            self.request_websocket(world, wire);
            self.probe = Some(Probe { wire, is_answered: false });
        }
    }

    fn target(&self, transport: &str) -> String {
        let sid = self.sid.as_ref().map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let revision = match (self.is_revision_3, transport) {
            (false, _) => "4",
            (true, "polling") => "3&b64=1",
            (true, _) => "3",
        };
        format!("{}?EIO={revision}&transport={transport}{sid}", self.path)
    }

    fn request_websocket(&mut self, world: &mut World, wire: WireId) {
        let mut request = Vec::new();
        encode_request(&mut request, "localhost", &self.target("websocket"), WEBSOCKET_KEY);
        if self.offers_deflate {
            request.truncate(request.len() - 2);
            // Every third client keeps a smaller window.
            let offer = if self.id % 3 == 2 { "server_max_window_bits=10" } else { "client_max_window_bits" };
            let field = format!("Sec-WebSocket-Extensions: permessage-deflate; {offer}\r\n\r\n");
            request.extend_from_slice(field.as_bytes());
        }
        world.write(wire, &request);
    }

    fn start_poll(&mut self, world: &mut World) {
        let wire = self.http_wire(world);
        let head = self.request_head("GET", "");
        world.write(wire, head.as_bytes());
        if self.sid.is_none() {
            self.end_requests(world, wire);
        }
        self.poll = Some(wire);
    }

    fn start_post(&mut self, world: &mut World) {
        let count = 1 + world.random.below(self.queue.len());
        let is_old = self.is_revision_3;
        let packets = self.queue.drain(..count).map(|packet| match packet {
            Packet::Text(text) => text,
            Packet::Binary(bytes) if is_old => format!("b4{}", STANDARD.encode(bytes)),
            Packet::Binary(bytes) => format!("b{}", STANDARD.encode(bytes)),
        });
        let with_len = |packet: String| format!("{}:{packet}", packet.encode_utf16().count());
        let body = if is_old {
            packets.map(with_len).collect::<String>()
        } else {
            packets.collect::<Vec<_>>().join("\u{1e}")
        };
        let wire = self.http_wire(world);
        let framing = if world.random.chance(20) {
            let middle = body.char_indices().nth(body.chars().count() / 2).map_or(0, |(place, _)| place);
            let chunk = |part: &str| {
                if part.is_empty() { String::new() } else { format!("{:x}\r\n{part}\r\n", part.len()) }
            };
            let chunks = format!("{}{}0\r\n\r\n", chunk(&body[..middle]), chunk(&body[middle..]));
            format!("Transfer-Encoding: chunked\r\n\r\n{chunks}")
        } else {
            format!("Content-Length: {}\r\n\r\n{body}", body.len())
        };
        let head = self.request_head("POST", &format!("Content-Type: text/plain;charset=UTF-8\r\n{framing}"));
        world.write(wire, head.as_bytes());
        self.end_requests(world, wire);
        self.post = Some(wire);
    }

    /// No other request follows on a connection that is not kept, and some clients say so.
    fn end_requests(&self, world: &mut World, wire: WireId) {
        if self.half_closes && !self.habits.keeps_alive {
            world.half_close(wire);
        }
    }

    fn request_head(&self, method: &str, rest: &str) -> String {
        let connection = if self.habits.keeps_alive { "keep-alive" } else { "close" };
        let target = self.target("polling");
        let end = if rest.is_empty() { "\r\n" } else { rest };
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n{end}")
    }

    /// A free connection, or a new one to any shard.
    fn http_wire(&mut self, world: &mut World) -> WireId {
        let now = world.now;
        while self.habits.keeps_alive && !world.pool.is_empty() && world.random.chance(80) {
            let place = world.random.below(world.pool.len());
            let (wire, since) = world.pool.swap_remove(place);
            if now.since(since) > POOLED_IDLE_MAX || world.wires[wire.0].is_over {
                world.close(wire);
                continue;
            }
            world.wires[wire.0].owner = Some(self.id);
            return wire;
        }
        world.dial_from(self.id, home(self.id))
    }

    /// Takes one response or frame from what has arrived. False when none is whole.
    fn take_one(&mut self, world: &mut World, wire: WireId) -> bool {
        if self.poll == Some(wire) || self.post == Some(wire) {
            return self.take_response(world, wire);
        }
        let is_websocket = self.websocket == Some(wire) || self.probe.is_some_and(|probe| probe.wire == wire);
        if !is_websocket {
            return false;
        }
        if self.switched.contains(&wire) {
            return self.take_frame(world, wire);
        }
        match decode_response(&world.wires[wire.0].arrived, WEBSOCKET_KEY) {
            Ok(Some(len)) => {
                let head: Vec<u8> = world.wires[wire.0].arrived.drain(..len).collect();
                self.has_deflate = memchr::memmem::find(&head, b"permessage-deflate").is_some();
                assert_eq!(self.has_deflate, self.offers_deflate);
                self.switched.push(wire);
                if self.probe.is_some_and(|probe| probe.wire == wire) {
                    self.write_frame(world, wire, &Packet::Text("2probe".into()));
                }
                true
            }
            Ok(None) => false,
            Err(_) => {
                let text = String::from_utf8_lossy(&world.wires[wire.0].arrived).into_owned();
                self.refusals.push(format!("websocket: {text}"));
                self.lose(world, wire);
                false
            }
        }
    }

    fn take_response(&mut self, world: &mut World, wire: WireId) -> bool {
        let Some((status, keeps_alive, body)) = split_response(&mut world.wires[wire.0].arrived) else {
            return false;
        };
        let was_poll = self.poll == Some(wire);
        if was_poll {
            self.poll = None
        } else {
            self.post = None
        }
        world.wires[wire.0].owner = None;
        if keeps_alive && self.habits.keeps_alive {
            world.pool.push((wire, world.now));
        } else {
            world.close(wire);
        }
        if status != 200 {
            self.refusals.push(format!("{status} {}", String::from_utf8_lossy(&body)));
            self.is_over = true;
            return false;
        }
        let body = String::from_utf8(body).expect("a body is text");
        if !was_poll {
            assert_eq!(body, "ok", "the answer to a POST");
            return false;
        }
        let is_old = self.is_revision_3;
        let packets = if is_old { split_by_len(&body) } else { body.split('\u{1e}').collect() };
        for packet in packets {
            match packet.strip_prefix(if is_old { "b4" } else { "b" }) {
                Some(encoded) => self.take_binary(STANDARD.decode(encoded).expect("base64")),
                None => self.take_text(packet),
            }
        }
        false
    }

    fn take_frame(&mut self, world: &mut World, wire: WireId) -> bool {
        let arrived = &mut world.wires[wire.0].arrived;
        let reserved = if self.has_deflate { RESERVED_DEFLATE } else { 0 };
        let header = frame::decode(arrived, usize::MAX, reserved).expect("the server's frames are sound");
        let Some(header) = header else { return false };
        let end = header.header_len + header.payload_len;
        if arrived.len() < end {
            return false;
        }
        assert!(header.mask.is_none() && header.is_final, "a server's frame is whole and not masked");
        let mut payload = arrived[header.header_len..end].to_vec();
        arrived.drain(..end);
        if header.reserved != 0 {
            let mut inflated = Vec::new();
            let message = Inflater::default().message(false, &payload, INFLATED, &mut inflated);
            assert!(message.is_ok(), "what the server compresses inflates");
            payload = inflated;
            self.inflated += 1;
        }
        match header.opcode {
            Opcode::Text => {
                let text = String::from_utf8(payload).expect("text frames are UTF-8");
                if let Some(probe) = self.probe.as_mut().filter(|probe| probe.wire == wire) {
                    assert_eq!(text, "3probe", "only the probe's answer comes before the upgrade");
                    probe.is_answered = true;
                } else {
                    self.take_text(&text);
                }
            }
            Opcode::Binary if self.is_revision_3 => {
                assert_eq!(payload.first(), Some(&4), "it is a message");
                self.take_binary(payload[1..].to_vec());
            }
            Opcode::Binary => self.take_binary(payload),
            Opcode::Close => {
                assert!(arrived.is_empty(), "nothing follows a close frame");
                self.lose(world, wire);
            }
            Opcode::Ping | Opcode::Pong => {}
            Opcode::Continuation => panic!("the server does not fragment"),
        }
        true
    }

    fn take_text(&mut self, text: &str) {
        let Some(kind) = text.chars().next() else { panic!("an empty packet") };
        match kind {
            '0' => {
                let open: Value = serde_json::from_str(&text[1..]).expect("the open packet is JSON");
                self.sid = Some(open["sid"].as_str().expect("a sid").to_owned());
            }
            '1' => self.is_over = true,
            '2' => {
                self.pings += 1;
                if !self.is_silent {
                    self.queue.push_back(Packet::Text("3".into()));
                }
            }
            '3' if self.is_revision_3 => {}
            '4' => self.take_message(&text[1..]),
            '6' => {}
            other => panic!("unexpected packet {other}: {text}"),
        }
    }

    fn take_message(&mut self, text: &str) {
        assert!(!self.speaks_msgpack, "text for a client of the msgpack parser: {text}");
        assert!(self.partial.is_none(), "text came where an attachment was due: {text}");
        let (message, attachments) = parse_message(text, self.tolerates_broken_json);
        if attachments == 0 { self.receive(message) } else { self.partial = Some((message, attachments)) }
    }

    fn take_binary(&mut self, bytes: Vec<u8>) {
        if self.speaks_msgpack {
            let message = match msgpack::decode(&bytes.into()) {
                Ok(message) => message,
                // The reader is the server's, to whom no client says so.
                Err(MsgpackError::Packet(PacketError::ConnectErrorFromClient)) => {
                    let (namespace, payload) = (self.namespace.to_owned(), Value::Null);
                    let attachments = Vec::new();
                    return self.receive(Message { kind: '4', namespace, id: None, payload, attachments });
                }
                Err(error) => panic!("what the server packs is a packet: {error:?}"),
            };
            let packet = message.packet();
            self.receive(Message {
                kind: char::from(b'0' + packet.kind.number()),
                namespace: packet.namespace.to_owned(),
                id: packet.id,
                payload: serde_json::from_str(packet.payload).unwrap_or_default(),
                attachments: message.attachments.iter().map(|bytes| bytes.to_vec()).collect(),
            });
            return;
        }
        let (message, count) = self.partial.as_mut().expect("binary comes only where it was announced");
        message.attachments.push(bytes);
        if message.attachments.len() == *count
            && let Some((message, _)) = self.partial.take()
        {
            self.receive(message);
        }
    }

    /// A whole message, with what stock clients keep of it for their recovery.
    fn receive(&mut self, message: Message) {
        match message.kind {
            '0' => {
                self.pid = message.payload["pid"].as_str().map(str::to_owned);
                self.is_connected = true;
                self.offset = self.early_offset.take().or(self.offset.take());
            }
            '1' => self.is_connected = false,
            '2' | '5' if self.pid.is_some() => {
                let last = message.payload.as_array().and_then(|args| args.last());
                let last = last.and_then(Value::as_str).map(str::to_owned);
                let newest = if self.is_connected { &mut self.offset } else { &mut self.early_offset };
                *newest = last.or(newest.take());
            }
            _ => {}
        }
        self.received.push_back(message);
    }

    fn write_frame(&mut self, world: &mut World, wire: WireId, packet: &Packet) {
        let typed: Vec<u8>;
        let (opcode, payload) = match packet {
            Packet::Text(text) => (Opcode::Text, text.as_bytes()),
            Packet::Binary(bytes) if self.is_revision_3 => {
                typed = [&[4], bytes.as_slice()].concat();
                (Opcode::Binary, typed.as_slice())
            }
            Packet::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
        };
        let mut compressed = Vec::new();
        let is_compressed = self.has_deflate
            && world.random.chance(40)
            && Deflater::default().compress(payload, &mut compressed);
        let payload = if is_compressed { &compressed } else { payload };
        let mut out = Vec::new();
        if self.fragments && payload.len() > 1 && world.random.chance(20) {
            let middle = world.random.below(payload.len());
            append_fragment(&mut out, (opcode, false), &payload[..middle], world.random.bytes());
            frame::append_masked(&mut out, Opcode::Ping, b"between", world.random.bytes());
            append_fragment(&mut out, (Opcode::Continuation, true), &payload[middle..], world.random.bytes());
        } else {
            frame::append_masked(&mut out, opcode, payload, world.random.bytes());
        }
        if is_compressed {
            out[0] |= RESERVED_DEFLATE << 4;
        }
        world.write(wire, &out);
    }

    /// The server closed a wire.
    fn wire_ended(&mut self, world: &mut World, wire: WireId) {
        let is_carrier = self.poll == Some(wire) || self.post == Some(wire);
        if is_carrier && !self.is_over {
            self.refusals.push("a request got no answer".into());
        }
        self.lose(world, wire);
    }

    /// A wire is of no more use; the session goes with its transport, not with a probe.
    fn lose(&mut self, world: &mut World, wire: WireId) {
        world.close(wire);
        if let Some(probe) = self.probe.filter(|probe| probe.wire == wire) {
            self.probe = None;
            self.is_stuck |= probe.is_answered && !self.is_over;
        } else if self.wires().any(|own| own == wire) {
            self.is_over = true;
        }
    }
}

/// The packets of a body of revision 3: each behind its length in UTF-16 code units.
fn split_by_len(mut body: &str) -> Vec<&str> {
    let mut packets = Vec::new();
    while let Some((len, rest)) = body.split_once(':') {
        let (mut left, len) = (len.parse::<usize>().expect("a length"), rest.len());
        let end = rest.char_indices().find(|(_, char)| {
            let is_end = left == 0;
            left = left.saturating_sub(char.len_utf16());
            is_end
        });
        let (packet, after) = rest.split_at(end.map_or(len, |(place, _)| place));
        packets.push(packet);
        body = after;
    }
    assert!(body.is_empty(), "a length comes before each packet");
    packets
}

/// Takes a whole response off the front: its status, whether the connection goes on, its body.
fn split_response(arrived: &mut Vec<u8>) -> Option<(u16, bool, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_len) = response.parse(arrived).expect("the server's heads are sound")
    else {
        return None;
    };
    let field = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(header.value).into_owned())
    };
    let status = response.code.expect("a whole head has a status");
    let keeps_alive = field("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    let body_len: usize = field("content-length").map_or(0, |value| value.parse().expect("a length"));
    let end = head_len + body_len;
    if arrived.len() < end {
        return None;
    }
    let body = arrived[head_len..end].to_vec();
    arrived.drain(..end);
    Some((status, keeps_alive, body))
}

/// Reads `<kind>[<attachments>-][<namespace>,][<id>][<payload>]`.
fn parse_message(text: &str, tolerates_broken_json: bool) -> (Message, usize) {
    let kind = text.chars().next().expect("a packet has a kind");
    let mut rest = &text[1..];
    let mut attachments = 0;
    if matches!(kind, '5' | '6') {
        let (count, after) = rest.split_once('-').expect("a binary packet counts its attachments");
        attachments = count.parse().expect("a number of attachments");
        rest = after;
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let id_len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let id = rest[..id_len].parse().ok();
    let payload = &rest[id_len..];
    let payload = match serde_json::from_str(payload) {
        Ok(payload) => payload,
        Err(_) if payload.is_empty() || tolerates_broken_json => Value::Null,
        Err(error) => panic!("{error}: {payload}"),
    };
    (Message { kind, namespace: namespace.to_owned(), id, payload, attachments: Vec::new() }, attachments)
}

/// Where a client is: every second one on another host, several of which share an address.
fn home(id: usize) -> [u8; 4] {
    if id.is_multiple_of(2) { [127, 0, 0, 1] } else { [192, 0, 2, (id % 8) as u8] }
}
