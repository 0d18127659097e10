//! Steps of one shard, each beside its naive twin: dispatch, fan-out, mesh, timers, a whole turn.
//!
//! Every bench compares its answer before it is timed.

mod naive;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use serde_json::{Value, json};
use shardcast::bench_support::{Inboxes, Room, Timers, World, client_binary_frame, client_frame};

/// An event for the handler that adds up numbers.
const COUNT: &str = r#"42["count",3,"hello, how are you?"]"#;

/// An event that is acknowledged with its arguments.
const ECHO: &str = r#"42427["echo",{"room":"lobby","text":"hello, how are you?","n":17}]"#;
const ECHO_ANSWER: &str = r#"43427[{"room":"lobby","text":"hello, how are you?","n":17}]"#;

const OBJECT: &str = r#"{"n":17,"room":"lobby","text":"hello, how are you?"}"#;

/// The event, and what is sent with it.
const EVENTS: [&str; 7] = [
    "echo <- text",
    "echo text <- text",
    "echo value <- text",
    "echo <- object",
    "echo value <- object",
    "echo <- binary",
    "echo binary <- binary",
];

const RECEIVERS: [usize; 3] = [10, 1_000, 10_000];
const MESSAGES: usize = 1_000;
const TIMERS: usize = 10_000;

/// One tick of a default server's wheel, in milliseconds.
const TICK: u64 = 50;

fn main() {
    divan::main();
}

#[divan::bench]
fn dispatch(bencher: Bencher<'_, '_>) {
    let (mut world, frame) = (World::new(1), client_frame(COUNT));
    assert_eq!(world.receive(&mut frame.clone()), 3);
    assert_eq!(world.receive(&mut frame.clone()), 6);
    bencher.with_inputs(|| frame.clone()).bench_local_refs(|bytes| world.receive(bytes));
}

#[divan::bench]
fn dispatch_naive(bencher: Bencher<'_, '_>) {
    type Handler = Box<dyn Fn(Vec<Value>)>;
    let (total, frame) = (Rc::new(Cell::new(0)), client_frame(COUNT));
    let sum = Rc::clone(&total);
    let add: Handler = Box::new(move |args| sum.set(sum.get() + args[0].as_u64().unwrap_or(0)));
    let handlers = HashMap::from([("count".to_owned(), add)]);
    let receive = |bytes: &[u8]| {
        let (_, name, args) = naive::decode(bytes).expect("the frame holds an event");
        handlers[&name](args);
        total.get()
    };
    assert_eq!((receive(&frame), receive(&frame)), (3, 6));
    bencher.with_inputs(|| frame.clone()).bench_local_refs(|bytes| receive(bytes));
}

/// To every outbox, and out of it: the turn's end is timed too, because outboxes that only fill would close.
#[divan::bench(args = RECEIVERS)]
fn fan_out(bencher: Bencher<'_, '_>, receivers: usize) {
    let mut world = World::new(receivers);
    let room = Room::new("news", &"x".repeat(100));
    let frame = naive::frame(&format!("42{}", json!(["news", "x".repeat(100)])));
    assert_eq!(world.fan_out(&room), receivers as u64);
    assert_eq!(world.end_turn(), receivers * frame.len());
    bencher.counter(ItemsCount::new(receivers)).bench_local(|| {
        world.fan_out(&room);
        world.end_turn()
    });
}

/// One encoding and one buffer a receiver.
#[divan::bench(args = RECEIVERS)]
fn fan_out_naive(bencher: Bencher<'_, '_>, receivers: usize) {
    let text = "x".repeat(100);
    let mut outboxes: HashMap<usize, Vec<u8>> = (0..receivers).map(|index| (index, Vec::new())).collect();
    let mut step = |text: &str| {
        for outbox in outboxes.values_mut() {
            outbox.extend(naive::frame(&format!("42{}", json!(["news", text]))));
        }
        outboxes.values_mut().map(|outbox| outbox.drain(..).len()).sum::<usize>()
    };
    let frame = naive::frame(&format!("42{}", json!(["news", text])));
    assert_eq!(step(&text), receivers * frame.len());
    bencher.counter(ItemsCount::new(receivers)).bench_local(|| step(black_box(&text)));
}

#[divan::bench]
fn mesh(bencher: Bencher<'_, '_>) {
    let inboxes = Inboxes::new();
    assert_eq!(inboxes.send_and_receive(MESSAGES), MESSAGES);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| inboxes.send_and_receive(black_box(MESSAGES)));
}

/// The channel of the standard library, and a copy of the frame in each message.
#[divan::bench]
fn mesh_naive(bencher: Bencher<'_, '_>) {
    let (sender, receiver) = mpsc::sync_channel(64 * 1024);
    let frame = Arc::new(vec![0_u8; 100]);
    let step = |count: usize| {
        for _ in 0..count {
            sender.try_send(frame.to_vec()).expect("the channel has room for what a bench sends");
        }
        receiver.try_iter().filter(|came| **came == *frame).count()
    };
    assert_eq!(step(MESSAGES), MESSAGES);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| step(black_box(MESSAGES)));
}

/// Times that lie across one ping interval, in no order.
fn times() -> Vec<u64> {
    (0..TIMERS as u64).map(|index| 1 + index * 7919 % 25_000).collect()
}

#[divan::bench]
fn timers(bencher: Bencher<'_, '_>) {
    let (mut timers, times) = (Timers::new(), times());
    assert_eq!(timers.arm_and_expire(&times, TICK), TIMERS);
    bencher.counter(ItemsCount::new(TIMERS)).bench_local(|| timers.arm_and_expire(&times, TICK));
}

/// One ordered set.
#[divan::bench]
fn timers_naive(bencher: Bencher<'_, '_>) {
    let times = times();
    let (mut set, mut now) = (BTreeSet::new(), 0);
    let mut step = || {
        set.extend(times.iter().enumerate().map(|(index, after)| (now + after, index)));
        let mut expired = 0;
        while !set.is_empty() {
            now += TICK;
            while set.first().is_some_and(|(deadline, _)| *deadline <= now) {
                set.pop_first();
                expired += 1;
            }
        }
        expired
    };
    assert_eq!(step(), TIMERS);
    bencher.counter(ItemsCount::new(TIMERS)).bench_local(step);
}

/// A read that holds this many echoes, the turn's end, and the flush.
#[divan::bench(args = [1, 16])]
fn turn(bencher: Bencher<'_, '_>, events: usize) {
    let (mut world, frames) = (World::new(1), client_frame(ECHO).repeat(events));
    let mut step = |bytes: &mut [u8]| {
        world.receive(bytes);
        world.end_turn()
    };
    assert_eq!(step(&mut frames.clone()), events * naive::frame(ECHO_ANSWER).len());
    bencher
        .counter(ItemsCount::new(events))
        .with_inputs(|| frames.clone())
        .bench_local_refs(|bytes| step(bytes));
}

/// One echo, from the client's frames to the answer's: what reading and writing a type costs beside passing the text on. For
/// instructions, which a busy machine does not change, see perf/instructions.
#[divan::bench(args = EVENTS)]
fn event(bencher: Bencher<'_, '_>, name: &str) {
    let (mut world, frames, answer_len) = (World::new(1), event_frames(name), event_answer_len(name));
    assert_eq!(world.turn(&mut frames.clone()), answer_len);
    bencher.with_inputs(|| frames.clone()).bench_local_refs(|bytes| world.turn(bytes));
}

/// What the client sends: one argument of 64 bytes, an object, or an attachment of 1 KiB.
fn event_frames(name: &str) -> Vec<u8> {
    let (event, kind) = name.split_once(" <- ").expect("a row says what is sent");
    match kind {
        "binary" => {
            let packet = format!(r#"451-427["{event}",{{"_placeholder":true,"num":0}}]"#);
            [client_frame(&packet), client_binary_frame(&[7; 1_024])].concat()
        }
        "text" => client_frame(&format!(r#"42427["{event}","{}"]"#, "x".repeat(64))),
        _ => client_frame(&format!(r#"42427["{event}",{OBJECT}]"#)),
    }
}

fn event_answer_len(name: &str) -> usize {
    match name.split_once(" <- ").expect("a row says what is sent").1 {
        "binary" => 2 + r#"461-427[{"_placeholder":true,"num":0}]"#.len() + 4 + 1_024,
        "text" => 2 + r#"43427[""]"#.len() + 64,
        _ => 2 + "43427[]".len() + OBJECT.len(),
    }
}

/// Values of every event, and a buffer for every answer.
#[divan::bench(args = [1, 16])]
fn turn_naive(bencher: Bencher<'_, '_>, events: usize) {
    let frames = vec![client_frame(ECHO); events];
    let step = |frames: &[Vec<u8>]| {
        let answers = frames.iter().map(|frame| {
            let (id, name, args) = naive::decode(frame).expect("the frame holds an event");
            assert_eq!(name, "echo");
            naive::frame(&format!("43{}{}", id.unwrap_or_default(), Value::from(args)))
        });
        answers.collect::<Vec<_>>().iter().map(Vec::len).sum::<usize>()
    };
    assert_eq!(step(&frames), events * naive::frame(ECHO_ANSWER).len());
    bencher.counter(ItemsCount::new(events)).bench_local(|| step(black_box(&frames)));
}
