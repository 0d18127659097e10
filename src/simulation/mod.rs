//! The whole server in one thread: real shards, fake wires, virtual time, one seed.
//!
//! `cargo test simulation` runs a few fixed seeds. `SHARDCAST_SEEDS=1000` runs more of them, and `SHARDCAST_SEED=..` replays one
//! that failed; with `SHARDCAST_LOG=debug` the shards say why. `world` moves bytes, `client` speaks the protocols, `scenario` lets
//! clients do what they please and `model` knows what must be true of it; `directed` has the situations that chance would
//! rarely reach, `ends` every way in which a session ends, `targets` questions to many, `interest` which shards are told what.
//! `fleet` joins several worlds by a broker (`broker`) that delays, breaks and goes away, and in `nodes` random clients are spread over them,
//! come back to others, and see processes end and start. `outside` has random clients whose events are handled outside their shards.

mod app;
#[cfg(feature = "bus")]
mod broker;
mod client;
mod crowds;
mod directed;
mod ends;
#[cfg(feature = "bus")]
mod fleet;
mod interest;
mod model;
mod no_alloc;
#[cfg(feature = "bus")]
mod nodes;
mod outside;
mod page;
mod scenario;
#[cfg(feature = "bus")]
mod settled;
mod targets;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::shard::user::app::App;
use crate::shard::user::shard_info::ShardInfo;
use crate::simulation::client::{Client, Habits, Message};
use crate::simulation::world::{Weather, World};

use tracing::level_filters::LevelFilter;

/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 60;

/// The same for several processes.
#[cfg(feature = "bus")]
const NODES_SEEDS: u64 = 20;

/// The path of the first endpoint.
const MAIN_PATH: &str = "/socket.io/";

/// Clients and the world between them.
struct Simulation {
    world: World,
    clients: Vec<Client>,
}

impl Simulation {
    fn new(seed: u64, weather: Weather) -> Simulation {
        Simulation::with(seed, weather, app::app)
    }

    fn with(seed: u64, weather: Weather, app: impl Fn(ShardInfo) -> App) -> Simulation {
        Simulation { world: World::new(seed, weather, app), clients: Vec::new() }
    }

    /// A new client on its way.
    fn open(&mut self, habits: Habits) -> usize {
        self.open_at(MAIN_PATH, habits)
    }

    fn open_at(&mut self, path: &'static str, habits: Habits) -> usize {
        let id = self.clients.len();
        let client = Client::open(id, path, habits, &mut self.world);
        self.clients.push(client);
        id
    }

    /// A new client of Socket.IO 2.
    fn open_old_at(&mut self, path: &'static str, habits: Habits) -> usize {
        let id = self.clients.len();
        let client = Client::open_old(id, path, habits, &mut self.world);
        self.clients.push(client);
        id
    }

    /// One step; false when there is none to take at this time.
    fn step(&mut self) -> bool {
        let Some(arrived) = self.world.step() else { return false };
        if let Some(wire) = arrived
            && let Some(owner) = self.world.wires[wire.0].owner
        {
            self.clients[owner].pump(&mut self.world, wire);
        }
        true
    }

    /// Lets everything happen that happens within `time`.
    fn run(&mut self, time: Duration) {
        let until = self.world.now + time;
        loop {
            self.drive_all();
            while self.step() {}
            if !self.world.pass_time(until) {
                break;
            }
        }
        self.drive_all();
        while self.step() {}
    }

    fn drive_all(&mut self) {
        for client in &mut self.clients {
            client.drive(&mut self.world);
        }
    }

    /// Opens a client and joins `/`.
    fn connect(&mut self, habits: Habits) -> usize {
        let id = self.open(habits);
        self.clients[id].send("0", &[]);
        self.run(Duration::from_millis(500));
        let first = self.clients[id].received.pop_front();
        assert!(first.is_some_and(|message| message.kind == '0'), "the client is let in");
        id
    }

    /// Everything a client has got since it was last asked.
    fn take_received(&mut self, id: usize) -> Vec<Message> {
        self.clients[id].received.drain(..).collect()
    }

    /// No table of any shard holds anything of any client.
    fn assert_empty(&mut self) {
        let mesh = &self.world.mesh;
        assert_eq!(mesh.interest.announcements(), 0, "a join is said to be on its way");
        assert_eq!(mesh.published.begun(), mesh.published.done(), "what is numbered is begun, and then sent");
        assert!(mesh.held.is_empty(), "the process or an address has connections or sessions that are gone");
        for (index, shard) in self.world.shards.iter().enumerate() {
            let tables = shard.tables();
            let left: Vec<_> = tables.iter().filter(|(_, len)| *len > 0).collect();
            assert!(left.is_empty(), "shard {index} keeps {left:?}");
            let stats = self.world.counters[index].snapshot();
            let held = (shard.holdings(), self.world.mesh.interest.slots_of(ShardId(index as u16)));
            assert_eq!(held, (0, 0), "shard {index} is told what is for rooms that it has not");
            assert_eq!((stats.connections, stats.sessions, stats.sockets), (0, 0, 0), "shard {index} counts");
            let is_lossy = self.world.weather().inbox_messages_max.is_some();
            assert!(
                is_lossy || stats.mesh_messages_lost == 0,
                "shard {index} lost {}",
                stats.mesh_messages_lost
            );
        }
    }
}

#[test]
fn random_clients_see_what_the_model_says() {
    run_seeds(SEEDS, scenario::run);
}

#[cfg(feature = "bus")]
#[test]
fn random_clients_of_several_processes_see_what_the_model_says() {
    run_seeds(NODES_SEEDS, nodes::run);
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(std::sync::atomic::Ordering::Relaxed);
    let counts = [&nodes::CROSSED, &nodes::KEPT, &nodes::RECOVERED].map(count);
    let is_one_seed = std::env::var("SHARDCAST_SEED").is_ok();
    let least = [100, 10, 1].map(|times| times * NODES_SEEDS as usize);
    assert!(
        is_one_seed || counts.iter().zip(least).all(|(count, least)| *count > least),
        "few events had to come from another process, or in spite of a fault, or few sockets went to one: {counts:?}"
    );
}

fn run_seeds(usual: u64, run: fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SHARDCAST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SHARDCAST_SEEDS").unwrap_or(usual),
    };
    let level = std::env::var("SHARDCAST_LOG").ok().map(|level| level.parse::<LevelFilter>());
    if let Some(Ok(level)) = level {
        // Another test may have set it already.
        let _ = tracing_subscriber::fmt().with_max_level(level).with_test_writer().try_init();
    }
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
        assert!(outcome.is_ok(), "the simulation failed; SHARDCAST_SEED={seed} replays it");
    }
}
