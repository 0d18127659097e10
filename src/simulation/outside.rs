//! Random clients whose events are handled outside their shards: in the order in which they came, answered in order with what is
//! published besides, and never more of them outside than may be.
//!
//! The pool is one queue that is worked through now and then, and stands still at other times. Clients poll or have WebSockets, or change
//! from one to the other; some are of Socket.IO 2, or speak msgpack.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Config, Parser};
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::shard::user::app::App;
use crate::shard::user::context::Context;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::user::ticket::{ConnectTicket, DisconnectTicket, Ticket};
use crate::shard::value::session::CloseReason;
use crate::simulation::MAIN_PATH;
use crate::simulation::Simulation;
use crate::simulation::client::Habits;
use crate::simulation::world::{Random, Weather};

const SEEDS: u64 = 40;
const CLIENTS: usize = 6;

/// Events of each client.
const EVENTS: u64 = 40;

/// The longest text of an event.
const TEXT_BYTES_MAX: usize = 600;

enum Job {
    Event(Ticket, OwnedArgs),
    Connect(ConnectTicket),
    Disconnect(DisconnectTicket),
}

type Queue = Rc<RefCell<VecDeque<Job>>>;

/// Everything is handled outside: who connects, what is said, who goes.
fn app(shard: ShardInfo, queue: &Queue) -> App {
    let [connects, events, ends] = [0; 3].map(|_| Rc::clone(queue));
    let setup = move |io: &mut Namespace<'_>| {
        let (connects, events, ends) = (Rc::clone(&connects), Rc::clone(&events), Rc::clone(&ends));
        io.on_connect_outside(move |_: &mut Context<'_>, _: Args<'_>, ticket| {
            connects.borrow_mut().push_back(Job::Connect(ticket));
        });
        io.on_any(move |cx: &mut Context<'_>, args: Args<'_>| {
            events.borrow_mut().push_back(Job::Event(cx.ticket(), args.into_owned()));
        });
        io.on_disconnect_outside(move |_: &mut Context<'_>, _: CloseReason, ticket| {
            ends.borrow_mut().push_back(Job::Disconnect(ticket));
        });
    };
    let handlers =
        Namespace::build("/", shard, Handle::default(), setup).expect("each handler is there once");
    let mut app = App::default();
    app.add_namespace(handlers).expect("the namespace is there once");
    app
}

/// Does what has come, so much of it at most. An event is `[number, text]`.
fn work(simulation: &mut Simulation, queue: &Queue, most: usize) {
    let mut post = simulation.world.handle.post();
    for _ in 0..most {
        let Some(job) = queue.borrow_mut().pop_front() else { break };
        match job {
            Job::Connect(ticket) => {
                post.join(&ticket, "all");
                post.decide(ticket, Ok(()));
            }
            Job::Event(ticket, args) => {
                let number: u64 = args.read(0).expect("an event has its number");
                post.emit(&ticket, "began", number).expect("a number is JSON");
                let _ = post.to(&ticket, "all").emit("news", (ticket.id(), number));
                post.acknowledge(ticket, number).expect("a number is JSON");
            }
            Job::Disconnect(ticket) => post.let_go(ticket),
        }
    }
    assert!(post.send(), "inboxes have room");
}

#[test]
fn events_outside_keep_their_order_and_their_bounds() {
    crate::simulation::run_seeds(SEEDS, run);
}

fn run(seed: u64) {
    let mut choice = Random::new(seed ^ 0x0471);
    let (client_bytes_max, all_bytes_max) = (1000 + choice.below(4000), 2000 + choice.below(20_000));
    let mut config = Config {
        pending_bytes_max: client_bytes_max,
        outside_bytes_max: all_bytes_max,
        recovery_max_disconnection: Duration::from_secs(if choice.chance(50) { 60 } else { 0 }),
        parser: Parser::Auto,
        permessage_deflate: choice.chance(30),
        ..Config::default()
    };
    config.engine.allow_eio3 = true;
    let weather = Weather {
        shards: 1 + choice.below(3),
        config,
        is_cutting: choice.chance(80),
        has_slow_sends: choice.chance(40),
        has_jitter: choice.chance(50),
        ..Weather::default()
    };
    let part = all_bytes_max / weather.shards;
    let queue = Queue::default();
    let for_shards = Rc::clone(&queue);
    let mut simulation = Simulation::with(seed, weather, move |shard| app(shard, &for_shards));
    arrive(&mut simulation, &mut choice);
    // All are let in before the first event, so that each hears of all.
    for _ in 0..100 {
        simulation.run(Duration::from_millis(20));
        work(&mut simulation, &queue, usize::MAX);
    }
    let mut said = [0; CLIENTS];
    let mut idle = 0;
    while idle < 400 {
        let id = choice.below(CLIENTS);
        if said[id] < EVENTS && choice.chance(40) {
            let text = "x".repeat(choice.below(TEXT_BYTES_MAX));
            simulation.clients[id].emit(Some(said[id]), &json!(["job", said[id], text]));
            said[id] += 1;
        }
        let (is_all_said, is_done) = (said == [EVENTS; CLIENTS], queue.borrow().is_empty());
        idle = if is_all_said && is_done { idle + 1 } else { 0 };
        if choice.chance(if is_all_said { 40 } else { 8 }) {
            work(&mut simulation, &queue, 1 + choice.below(20));
        }
        simulation.run(Duration::from_millis(choice.below(20) as u64));
        check_bounds(&simulation, client_bytes_max, part);
    }
    for id in 0..CLIENTS {
        check_heard(&mut simulation, id, seed);
    }
    for client in &mut simulation.clients {
        client.drop_wires(&mut simulation.world, false);
    }
    simulation.run(Duration::from_secs(100));
    work(&mut simulation, &queue, usize::MAX);
    simulation.run(Duration::from_secs(300));
    assert!(queue.borrow().is_empty());
    simulation.assert_empty();
}

/// The first client speaks Socket.IO 2.
fn arrive(simulation: &mut Simulation, choice: &mut Random) {
    for number in 0..CLIENTS {
        let habits = Habits {
            starts_with_websocket: choice.chance(40),
            upgrades: choice.chance(50),
            keeps_alive: choice.chance(50),
        };
        let is_old = number == 0;
        let id = if is_old {
            simulation.open_old_at(MAIN_PATH, habits)
        } else {
            simulation.open_at(MAIN_PATH, habits)
        };
        let client = &mut simulation.clients[id];
        client.speaks_msgpack = !is_old && choice.chance(30);
        client.fragments = choice.chance(30);
        client.enter();
    }
}

/// Each client may have given one event beyond a bound.
fn check_bounds(simulation: &Simulation, client_bytes_max: usize, part: usize) {
    let event = TEXT_BYTES_MAX + 200;
    for counters in &simulation.world.counters {
        let outside = counters.snapshot().outside_bytes as usize;
        let most = (part + CLIENTS * event).min(CLIENTS * (client_bytes_max + event));
        assert!(outside <= most, "{outside} bytes are outside, {most} may be");
    }
}

/// A client has got its answers, its own events and those of each other client, each once and in order.
fn check_heard(simulation: &mut Simulation, id: usize, seed: u64) {
    let all: Vec<u64> = (0..EVENTS).collect();
    let received = simulation.take_received(id);
    let acks: Vec<u64> = received.iter().filter(|one| one.kind == '3').filter_map(|one| one.id).collect();
    assert_eq!(acks, all, "seed {seed}: answers of client {id}");
    let of = |name: &str| -> Vec<Value> {
        let events = received.iter().filter(|one| one.kind == '2' && one.payload[0] == name);
        events.map(|one| one.payload.clone()).collect()
    };
    let began: Vec<u64> = of("began").iter().filter_map(|event| event[1].as_u64()).collect();
    assert_eq!(began, all, "seed {seed}: what client {id} was told");
    let mut news: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in of("news") {
        let sid = event[1].as_str().expect("an id").to_owned();
        news.entry(sid).or_default().push(event[2].as_u64().expect("a number"));
    }
    for (sid, numbers) in &news {
        assert_eq!(*numbers, all, "seed {seed}: news of {sid} for client {id}");
    }
    assert_eq!(news.len(), CLIENTS, "seed {seed}: client {id} has heard of everybody");
}
