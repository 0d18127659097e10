//! In steady state, receive, dispatch and fan-out allocate nothing.
//!
//! The allocator of the tests counts what the current thread asks for. Shards are driven directly, as a driver
//! would: the measured part is `receive`, `take_mail` and `end_turn`, and nothing of the test.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::cell::Cell;
use std::convert::Infallible;
use std::io::IoSlice;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::{Bell, InboxReceiver, Mesh};
use crate::message::files::FileAnswer;
use crate::message::peer::Peer;
use crate::protocol::websocket::client::encode_request;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::seam::{Leaving, Unsent, Wires};
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::stats::ShardCounters;
use crate::shard::{CoreParts, Shard};
use crate::simulation::app::app;

/// Events of each kind that are measured, after as many to warm up.
const EVENTS: usize = 200;

/// Members of the room, on every shard.
const MEMBERS: usize = 5;

/// Events in one read, as a busy connection brings them.
const EVENTS_PER_READ: usize = 3;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // The slot has no destructor, so it is there for as long as the thread is.
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same here.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from `System`, through this allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, through this allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

/// Shards whose every byte out is thrown away after it was counted.
struct Bench {
    shards: Vec<Shard>,
    inboxes: Vec<InboxReceiver>,
    /// The members' connections: shard by shard.
    connections: Vec<(usize, Key)>,
    sink: Sink,
}

/// Wires that take everything at once, and count it.
#[derive(Default)]
struct Sink {
    bytes: usize,
}

impl Wires for Sink {
    fn attach(&mut self, _wire: Box<dyn Any + Send>, _key: Option<Key>) -> bool {
        unreachable!("each connection stays where it is")
    }

    fn may_flush(&mut self, _waiting: usize) -> bool {
        true
    }

    fn flush_wire(&mut self, _key: Key, mut unsent: Unsent<'_>) {
        let mut count = |slices: &[IoSlice<'_>]| {
            let len = slices.iter().map(|slice| slice.len()).sum();
            self.bytes += len;
            Ok::<usize, Infallible>(len)
        };
        while let Ok(true) = unsent.transmit::<64, _>(&mut count) {}
    }

    fn close_wire(&mut self, _key: Key, _outbox: Outbox) {
        unreachable!("nobody is closed")
    }

    fn shut_down_write(&mut self, _key: Key) {
        unreachable!("nobody is closed")
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

impl Bench {
    /// Shards with `MEMBERS` WebSocket clients each, all in one room.
    fn new(shards: usize) -> Bench {
        let bells = (0..shards).map(|_| Box::new(NoBell) as Box<dyn Bell>).collect();
        let (mesh, inboxes) = Mesh::new(bells);
        let config = Arc::new(Config::default());
        let made = (0..shards).map(|index| {
            let id = ShardId(index as u16);
            let parts = CoreParts {
                id,
                config: Arc::clone(&config),
                mesh: Arc::clone(&mesh),
                counters: Arc::new(ShardCounters::default()),
                seed: [index as u8; 32],
                now: Time(0),
                unix_origin: 0,
                clock: Arc::new(|| Time(0)),
                stopwatch: Arc::new(|| 0),
            };
            Shard::new(parts, app(ShardInfo::new(id, shards)))
        });
        let shards: Vec<Shard> = made.collect();
        let mut bench = Bench { shards, inboxes, connections: Vec::new(), sink: Sink::default() };
        for shard in 0..bench.shards.len() {
            for _ in 0..MEMBERS {
                bench.connect(shard);
            }
        }
        bench
    }

    fn connect(&mut self, shard: usize) {
        let key = self.shards[shard].open(Peer::Unix, Time(0), &mut self.sink).unwrap();
        let mut request = Vec::new();
        let target = "/socket.io/?EIO=4&transport=websocket";
        encode_request(&mut request, "localhost", target, "dGhlIHNhbXBsZSBub25jZQ==");
        for text in ["40", r#"42["join","room"]"#] {
            request.extend(frames(&[text]));
        }
        self.shards[shard].receive(key, &mut request, Time(0), &mut self.sink);
        self.connections.push((shard, key));
        self.end_turns();
    }

    /// Bytes for one member, then everything that follows from them, on every shard.
    fn receive(&mut self, member: usize, bytes: &mut [u8]) {
        let (shard, key) = self.connections[member];
        self.shards[shard].receive(key, bytes, Time(0), &mut self.sink);
        self.end_turns();
    }

    fn end_turns(&mut self) {
        for shard in &mut self.shards {
            shard.end_turn(&mut self.sink);
        }
        for (shard, inbox) in self.shards.iter_mut().zip(&self.inboxes) {
            shard.take_mail(inbox, || Time(0), &mut self.sink);
            shard.end_turn(&mut self.sink);
        }
    }
}

fn frames(texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        frame::append_masked(&mut bytes, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    }
    bytes
}

/// How many allocations one event costs once everything is warm, and how many bytes it sent.
fn measure(shards: usize, text: &str) -> (usize, usize) {
    let mut bench = Bench::new(shards);
    let whole = frames(&[text; EVENTS_PER_READ]);
    let mut bytes = whole.clone();
    let mut play = |bench: &mut Bench| {
        for round in 0..EVENTS {
            // Frames are unmasked in place, so each round starts from the bytes as they came.
            bytes.copy_from_slice(&whole);
            bench.receive(round % MEMBERS, &mut bytes);
        }
    };
    play(&mut bench);
    let (before, sent_before) = (ALLOCATIONS.with(Cell::get), bench.sink.bytes);
    play(&mut bench);
    (ALLOCATIONS.with(Cell::get) - before, bench.sink.bytes - sent_before)
}

#[test]
fn echoes_relays_and_broadcasts_allocate_nothing() {
    let rows = [
        ("echo", 1, r#"427["echo",{"n":1,"text":"hello"}]"#, 1),
        ("relay", 1, r#"42["relay",{"n":1,"text":"hello"}]"#, MEMBERS - 1),
        ("relay", 2, r#"42["relay",{"n":1,"text":"hello"}]"#, 2 * MEMBERS - 1),
        ("room", 1, r#"42["room_raw","room",{"n":1,"text":"hello"}]"#, MEMBERS),
        ("room", 2, r#"42["room_raw","room",{"n":1,"text":"hello"}]"#, 2 * MEMBERS),
        ("raw", 1, r#"427["raw",{"n":1,"text":"hello"}]"#, 1),
        ("heartbeat", 1, "3", 0),
    ];
    for (name, shards, text, receivers) in rows {
        let (allocations, sent) = measure(shards, text);
        assert_eq!(allocations, 0, "{name} on {shards} shards, {} events", EVENTS * EVENTS_PER_READ);
        assert!(
            sent >= EVENTS * EVENTS_PER_READ * receivers * 20,
            "{name} on {shards} shards reached everybody"
        );
    }
}
