//! What benches see of the inside: small worlds, and one step of each that returns its answer.
//!
//! Built with the feature `bench-support` only, and no part of the public interface. Nothing here measures or
//! prints; a bench compares the answer first, and times the same call afterwards.

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Config;
use crate::driver::clock::Clock;
use crate::mesh::{Bell, InboxReceiver, Mesh, ShardMessage};
use crate::message::files::FileAnswer;
use crate::message::peer::Peer;
use crate::message::target::{Broadcast, Target};
use crate::protocol::engineio;
use crate::protocol::socketio::any_value::AnyValue;
use crate::protocol::socketio::binary::Binary;
use crate::protocol::socketio::event::{Args, Event};
use crate::protocol::socketio::{json, packet};
use crate::protocol::websocket::frame::{self, Opcode};
use crate::protocol::websocket::mask;
use crate::protocol::websocket::message::{Incoming, MessageDecoder, MessageLimits};
use crate::server::api::requests::{Command, read_body};
use crate::server::api::table::Verb;
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::shard::seam::{Leaving, Unsent, Wires};
use crate::shard::user::app::App;
use crate::shard::user::context::Context;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::args::ToArgs;
use crate::shard::value::encode;
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::stats::ShardCounters;
use crate::shard::value::wheel::{TimerOwner, Wheel};
use crate::shard::{CoreParts, Shard};

/// Reads a batch of the HTTP API as the server does: the arguments of each of its emits. `None` if anything else is in it.
pub fn read_api_batch(body: &[u8]) -> Option<Vec<String>> {
    let Ok(Command::Batch(requests)) = read_body(Verb::Batch, body) else { return None };
    let args = |request| match request {
        Ok(Command::Emit { args, .. }) => Some(args.args().raw().to_owned()),
        _ => None,
    };
    requests.into_iter().map(args).collect()
}

/// Bytes of the largest message that [`decode`] takes.
const MESSAGE_BYTES_MAX: usize = 1_000_000;

/// Pieces of one outbox that one pass of a flush takes.
const FLUSH_SLICES: usize = 8;

/// The shortest configured time of a [`Timers`]: the wheel has its longest tick then, as in a default server.
const SHORTEST_TIME: Duration = Duration::from_secs(20);

/// The key of every masked frame here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a client sends to open its WebSocket.
const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
    Host: localhost\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// One text frame as a client sends it.
pub fn client_frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append_masked(&mut bytes, Opcode::Text, text.as_bytes(), MASK);
    bytes
}

/// One binary frame as a client sends it.
pub fn client_binary_frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append_masked(&mut bytes, Opcode::Binary, payload, MASK);
    bytes
}

/// An event as its handler would get it.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The number to acknowledge with.
    pub id: Option<u64>,
    /// The event's name.
    pub name: Cow<'a, str>,
    /// Its arguments.
    pub args: Args<'a>,
}

/// A client's frame to the event in it: WebSocket, Engine.IO, Socket.IO, event. `None` if it is no such thing.
pub fn decode(bytes: &mut [u8]) -> Option<Decoded<'_>> {
    let limits = MessageLimits {
        payload_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: 1,
        must_be_masked: true,
        may_be_compressed: false,
    };
    let (incoming, _) = MessageDecoder::default().next(bytes, limits).ok()??;
    let Incoming::Text(Cow::Borrowed(text)) = incoming else { return None };
    let engineio::packet::Packet::Message(text) = engineio::packet::decode(text).ok()? else { return None };
    let packet = packet::decode(text).ok()?;
    let event = Event::decode(packet.payload, &[]).ok()?;
    Some(Decoded { id: packet.id, name: event.name, args: event.args })
}

/// Appends an event as a server's frame; says whether that could be done.
pub fn encode_event(out: &mut Vec<u8>, name: &str, args: &impl ToArgs) -> bool {
    encode::frame_event(out, "/", None, name, args).is_ok()
}

/// Appends an acknowledgement as a server's frame; says whether that could be done.
pub fn encode_ack(out: &mut Vec<u8>, id: u64, args: &impl ToArgs) -> bool {
    encode::frame_ack(out, "/", id, args).is_ok()
}

/// The arguments of an event of python-socketio's queue. `None` if it is no such thing.
#[cfg(feature = "bus")]
pub fn read_python_event(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let options = crate::bus::python::Options { pickle: false, bytes_max: MESSAGE_BYTES_MAX };
    match crate::bus::python::read(bytes, options).ok()? {
        crate::bus::python::Message::Emit(emit) => Some(emit.args),
        _ => None,
    }
}

/// Masks a payload in place, or unmasks it.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    mask::unmask(bytes, key);
}

/// Whether a text is JSON, as each packet's payload is checked.
pub fn is_json(text: &str) -> bool {
    json::validate(text).is_ok()
}

struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

/// Two shards' inboxes, without the shards.
pub struct Inboxes {
    mesh: Arc<Mesh>,
    receiver: InboxReceiver,
    broadcast: Arc<Broadcast>,
}

impl Inboxes {
    /// Inboxes, and a broadcast to send around.
    #[expect(clippy::new_without_default, reason = "a world is made on purpose")]
    pub fn new() -> Inboxes {
        let (mesh, receivers) = Mesh::new(vec![Box::new(NoBell), Box::new(NoBell)]);
        let receiver = receivers.into_iter().next_back().expect("each bell has its inbox");
        Inboxes { mesh, receiver, broadcast: Arc::default() }
    }

    /// Sends the broadcast `count` times, then receives. Returns how many of them came.
    pub fn send_and_receive(&self, count: usize) -> usize {
        for _ in 0..count {
            let message = ShardMessage::Broadcast(Arc::clone(&self.broadcast));
            self.mesh.send(ShardId(1), message).expect("the inbox has room for what a bench sends");
        }
        let is_it = |message: &ShardMessage| matches!(message, ShardMessage::Broadcast(came) if Arc::ptr_eq(came, &self.broadcast));
        std::iter::from_fn(|| self.receiver.next_message()).filter(is_it).count()
    }
}

/// A timer wheel, and the time.
pub struct Timers {
    wheel: Wheel,
    now: Time,
    due: Vec<(TimerOwner, Time)>,
}

impl Timers {
    /// A wheel with the tick of a default server.
    #[expect(clippy::new_without_default, reason = "a world is made on purpose")]
    pub fn new() -> Timers {
        Timers { wheel: Wheel::new(SHORTEST_TIME, Time(0)), now: Time(0), due: Vec::new() }
    }

    /// Arms one timer for each time from now in `millis`, then goes on in steps of `step` milliseconds until all
    /// must be over. Returns how many have been.
    pub fn arm_and_expire(&mut self, millis: &[u64], step: u64) -> usize {
        let start = self.now;
        for (index, after) in millis.iter().enumerate() {
            let key = Key { index: index as u32, generation: 0 };
            self.wheel.arm(TimerOwner::Session(key), Time(start.0 + after));
        }
        self.due.clear();
        while self.wheel.next_timeout() != Time::NEVER {
            self.now = Time(self.now.0 + step);
            self.wheel.expire(self.now, &mut self.due);
        }
        self.due.len()
    }
}

/// Wires that take everything at once, and count it.
#[derive(Default)]
struct Sink {
    bytes: usize,
}

impl Wires for Sink {
    const FLUSHES_MAX: usize = usize::MAX;

    fn attach(&mut self, _wire: Box<dyn Any + Send>, _key: Option<Key>) -> bool {
        unreachable!("each connection stays where it is")
    }

    fn may_flush(&mut self, _waiting: usize) -> bool {
        true
    }

    #[inline]
    fn flush_wire(&mut self, _key: Key, mut unsent: Unsent<'_>) {
        let mut count = |slices: &[IoSlice<'_>]| {
            let len = slices.iter().map(|slice| slice.len()).sum();
            self.bytes += len;
            Ok::<usize, Infallible>(len)
        };
        while let Ok(true) = unsent.transmit::<FLUSH_SLICES, _>(&mut count) {}
    }

    fn close_wire(&mut self, _key: Key, _outbox: Outbox) {
        unreachable!("nobody is closed in a bench")
    }

    fn shut_down_write(&mut self, _key: Key) {
        unreachable!("nobody is closed in a bench")
    }

    fn hand_over(&mut self, _key: Key, _to: ShardId, _leaving: Leaving) {
        unreachable!("each connection stays where it is")
    }

    fn set_wanted(&mut self, _key: Key, _is_wanted: bool) {
        unreachable!("nobody sends so much")
    }

    fn do_file_work(&mut self, _key: Key, _work: FileWork) -> Option<FileAnswer> {
        unreachable!("no files are served")
    }

    fn ring_bell(&mut self, _shard: ShardId) {}
}

/// One shard and its WebSocket clients, all in the room `room`. Its bytes out are counted and thrown away.
pub struct World {
    shard: Shard,
    sink: Sink,
    clients: Vec<Key>,
    /// What the event `count` was called with, together.
    total: Rc<Cell<u64>>,
}

impl World {
    /// A shard with this many clients.
    pub fn new(clients: usize) -> World {
        let (mesh, _) = Mesh::new(vec![Box::new(NoBell)]);
        let total = Rc::new(Cell::new(0));
        let parts = CoreParts {
            id: ShardId(0),
            config: Arc::new(Config::default()),
            mesh,
            counters: Arc::new(ShardCounters::default()),
            seed: [7; 32],
            now: Time(0),
            unix_origin: 0,
            clock: Clock::new().coarse(),
            stopwatch: Clock::new().stopwatch(),
        };
        let shard = Shard::new(parts, app(&total));
        let mut world = World { shard, sink: Sink::default(), clients: Vec::new(), total };
        for _ in 0..clients {
            world.connect();
        }
        world
    }

    fn connect(&mut self) {
        let key = self
            .shard
            .open(Peer::Unix, Time(0), &mut self.sink)
            .expect("a shard takes the clients of a bench");
        let mut request = UPGRADE.as_bytes().to_vec();
        for text in ["40", r#"42["join","room"]"#] {
            request.extend(client_frame(text));
        }
        self.shard.receive(key, &mut request, Time(0), &mut self.sink);
        self.clients.push(key);
        self.end_turn();
    }

    /// The first client's bytes to their handlers. Returns what `count` was called with so far, together.
    pub fn receive(&mut self, bytes: &mut [u8]) -> u64 {
        // Each read is a turn of its own: what is more than a share of one would wait.
        self.shard.give_new_shares();
        self.shard.receive(self.clients[0], bytes, Time(0), &mut self.sink);
        self.total.get()
    }

    /// The first client's bytes to their handlers, and what it is owed then out. Returns how many bytes that were. Not inlined, so
    /// that a profiler can count its instructions by name.
    #[inline(never)]
    pub fn turn(&mut self, bytes: &mut [u8]) -> usize {
        self.receive(bytes);
        self.end_turn()
    }

    /// Queues a frame for every member of the room. Returns how many there were.
    pub fn fan_out(&mut self, target: &Room) -> u64 {
        self.shard.fan_out(&target.target, &target.frame)
    }

    /// Ends the turn and sends what everybody is owed. Returns how many bytes that were.
    pub fn end_turn(&mut self) -> usize {
        self.sink.bytes = 0;
        self.shard.end_turn(&mut self.sink);
        self.sink.bytes
    }
}

/// The members of `room`, and a frame for them.
pub struct Room {
    target: Target,
    frame: SharedFrame,
}

impl Room {
    /// The room with a frame that holds this event.
    pub fn new(name: &str, args: &impl ToArgs) -> Room {
        let mut frame = Vec::new();
        assert!(encode_event(&mut frame, name, args), "a bench sends what can be sent");
        let mut target = Target::default();
        target.rooms.push("room");
        Room { target, frame: Arc::new(frame) }
    }
}

/// `join`, `count`, which adds up its first argument, and echoes: `echo` reads nothing, the others read a type.
fn app(total: &Rc<Cell<u64>>) -> App {
    let total = Rc::clone(total);
    let setup = |io: &mut Namespace<'_>| {
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
        io.on_echo("echo", |_: &mut Context<'_>, _: Args<'_>| {});
        io.on("echo value", |_: &mut Context<'_>, value: Value| value);
        io.on("echo any value", |_: &mut Context<'_>, value: AnyValue| value);
        io.on("echo text", |_: &mut Context<'_>, text: String| text);
        io.on("echo binary", |_: &mut Context<'_>, bytes: Binary| bytes);
        io.on("count", move |_: &mut Context<'_>, number: u64, _text: String| {
            total.set(total.get() + number)
        });
    };
    let root = Namespace::build("/", ShardInfo::new(ShardId(0), 1), Handle::default(), setup)
        .expect("every handler is there once");
    App { namespaces: vec![root.into()], ..App::default() }
}
