//! Random clients against the model: rooms, order, acknowledgements, and nothing left behind.
//!
//! A member that surely was in a room throughout must get a message; one that surely was out must not; what lies
//! between may go either way, but once at most and in the publisher's order. Clients talk to two endpoints, lose their
//! connections and come back, are thrown out, watch a state room, half-close, and meet shards that are slow to read
//! their inboxes. In some worlds Socket.IO's admin page looks on. Verbs that are awaited hold when they say so. Visitors over HTTP ask routes meanwhile. Where inboxes are too small, messages are lost, and only what must never happen is checked.

mod acts;
mod checks;
mod drain;
mod pages;
mod reads;
mod rounds;
mod visitors;

use std::time::Duration;

use serde_json::json;

use crate::config::admin_ui::{AdminUi, AdminUiAuth};
use crate::config::{Config, Parser};
use crate::server::admin_ui::Apart;
use crate::shard::Shard;
use crate::simulation::app::{SECOND_PATH, add_admin_ui, app_at_two_endpoints, settings_of_second};
use crate::simulation::client::Habits;
use crate::simulation::model::{Actor, EVERYONE, Expected, Kick, Published, Put, Stay};
use crate::simulation::page::Page;
use crate::simulation::scenario::visitors::Visitor;
use crate::simulation::world::{Random, Weather};
use crate::simulation::{MAIN_PATH, Simulation};

const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// Where clients go: namespaces that are always there, and some of a pattern that come and go, at two endpoints.
const PLACES: [(&str, &str); 5] = [
    (MAIN_PATH, "/"),
    (MAIN_PATH, "/play/1"),
    (MAIN_PATH, "/play/2"),
    (SECOND_PATH, "/"),
    (SECOND_PATH, "/play/1"),
];

/// Keys of the state room.
const KEYS: [&str; 3] = ["a", "b", "c"];

const ROUNDS: usize = 4;
const CLIENTS_MAX: usize = 9;

/// Longer than all handlers of a socket that wait for each other take, of which a question to shards may wait for three inboxes that are
/// left alone; shorter than a ping interval.
const SETTLING_TIME: Duration = Duration::from_secs(8);

/// As long as a lost client may take to return, in worlds that wait for it.
const RECOVERY_TIME: Duration = Duration::from_secs(60);

/// The number of those who are no client but another thread.
const OUTSIDE: usize = 999;

/// Messages that an inbox holds where messages are to be lost.
const SMALL_INBOX: usize = 3;

/// Slots of the table of rooms where rooms are to collide.
const SMALL_TABLE: usize = 2;

/// Longer than every deadline of the default configuration together.
const LONG_AFTER: Duration = Duration::from_secs(300);

struct Scenario {
    simulation: Simulation,
    has_recovery: bool,
    actors: Vec<Actor>,
    visitors: Vec<Visitor>,
    /// Socket.IO's admin page is served, and these are open.
    has_pages: bool,
    pages: Vec<Page>,
    /// The server ends: not everybody is answered any more.
    is_draining: bool,
    published: Vec<Published>,
    /// This round's.
    kicks: Vec<Kick>,
    /// Rooms that were closed in this round, by place: a shard may hear of it late, and close it again.
    closed: Vec<(usize, &'static str)>,
    puts: Vec<Put>,
    /// Chooses what clients do, apart from what the network does.
    choice: Random,
}

/// Runs one seed to its end.
pub(super) fn run(seed: u64) {
    let mut choice = Random::new(seed ^ 0x5eed);
    let mut end = Random::new(seed ^ 0xe4d);
    let mut pace = Random::new(seed ^ 0xbace);
    let has_pages = Random::new(seed ^ 0xad).chance(50);
    let config = settings(&mut choice, &mut end, &mut pace, has_pages);
    let options = config.engine.clone();
    let second = settings_of_second(choice.chance(50), &config);
    let has_recovery = second.has_recovery() || !config.recovery_max_disconnection.is_zero();
    let weather = Weather {
        shards: 1 + choice.below(5),
        config,
        is_cutting: choice.chance(80),
        has_slow_sends: choice.chance(40),
        has_jitter: choice.chance(50),
        has_slow_mesh: choice.chance(40),
        inbox_messages_max: choice.chance(20).then_some(SMALL_INBOX),
        interest_slots_max: choice.chance(30).then_some(SMALL_TABLE),
        node: None,
    };
    let admin_ui = has_pages.then(|| Apart::new(&weather.config));
    let for_shards = admin_ui.clone();
    let mut simulation = Simulation::with(seed, weather, move |shard| {
        let mut app = app_at_two_endpoints(shard, &options, Some(second));
        if let Some(admin_ui) = &for_shards {
            add_admin_ui(&mut app, shard, admin_ui);
        }
        app
    });
    if let Some(admin_ui) = admin_ui {
        simulation.world.start_beside(&admin_ui);
    }
    let mut scenario = Scenario {
        simulation,
        has_recovery,
        actors: Vec::new(),
        visitors: Vec::new(),
        has_pages,
        pages: Vec::new(),
        is_draining: false,
        published: Vec::new(),
        kicks: Vec::new(),
        closed: Vec::new(),
        puts: Vec::new(),
        choice,
    };
    for _ in 0..ROUNDS {
        scenario.round();
    }
    if end.chance(40) {
        scenario.drain();
    }
    for actor in 0..scenario.actors.len() {
        if !scenario.actors[actor].is_gone {
            scenario.go(actor);
        }
    }
    scenario.end();
}

/// What the main endpoint and the process are set to.
fn settings(choice: &mut Random, end: &mut Random, pace: &mut Random, has_pages: bool) -> Config {
    Config {
        drain_delay: if end.chance(30) {
            Duration::from_millis(end.below(1_000) as u64)
        } else {
            Duration::ZERO
        },
        shutdown_spread: end.chance(70).then(|| Duration::from_millis(end.below(3_000) as u64)),
        parser: Parser::Auto,
        permessage_deflate: choice.chance(60),
        compression_threshold: 1 + choice.below(100),
        recovery_max_disconnection: if choice.chance(60) { RECOVERY_TIME } else { Duration::ZERO },
        recovery_events_max: 10_000,
        recovery_bytes_max: 16 * 1024 * 1024,
        events_per_second_max: if pace.chance(40) { 20 + pace.below(60) } else { 0 },
        bytes_per_second_max: if pace.chance(20) { 10_000 + pace.below(20_000) } else { 0 },
        admin_ui: if has_pages { AdminUi::Development } else { AdminUi::Off },
        admin_ui_auth: AdminUiAuth::None,
        handoffs_per_second_max: if pace.chance(30) { 100 + pace.below(400) } else { 0 },
        ..Config::default()
    }
}

impl Scenario {
    /// All have gone: nothing may be left of them.
    fn end(mut self) {
        self.end_visits();
        self.close_pages();
        self.simulation.run(SETTLING_TIME);
        self.simulation.world.shards.iter_mut().for_each(Shard::drop_tasks);
        self.simulation.run(LONG_AFTER);
        self.simulation.assert_empty();
    }

    fn round(&mut self) {
        while self.actors.iter().filter(|actor| !actor.is_gone).count() < CLIENTS_MAX {
            self.arrive();
        }
        if self.has_pages {
            self.open_or_close_page();
        }
        self.act_at_random();
        if self.is_lossy() {
            self.give_up_the_broken();
        } else {
            self.check_round();
            self.check_boards();
            self.check_pages();
        }
        self.begin_anew();
    }

    /// Messages between shards are lost now and then.
    fn is_lossy(&self) -> bool {
        self.simulation.world.weather().inbox_messages_max.is_some()
    }

    fn habits(&mut self) -> Habits {
        Habits {
            starts_with_websocket: self.choice.chance(35),
            upgrades: self.choice.chance(60),
            keeps_alive: self.choice.chance(50),
        }
    }

    fn settle(&mut self) {
        let until = self.simulation.world.now + SETTLING_TIME;
        while self.simulation.world.now < until {
            self.simulation.drive_all();
            while self.simulation.step() {
                self.read_all();
            }
            self.read_all();
            self.simulation.world.pass_time(until);
        }
        self.simulation.drive_all();
        while self.simulation.step() {}
        self.read_all();
    }

    fn arrive(&mut self) {
        let place = self.choice.below(PLACES.len());
        let habits = self.habits();
        let id = self.simulation.open_at(PLACES[place].0, habits);
        let client = &mut self.simulation.clients[id];
        client.namespace = PLACES[place].1;
        client.fragments = self.choice.chance(50);
        client.half_closes = self.choice.chance(50);
        client.speaks_msgpack = self.choice.chance(30);
        self.actors.push(Actor { place, ..Actor::default() });
        self.enter(id);
    }

    fn enter(&mut self, id: usize) {
        self.simulation.clients[id].pid = None;
        self.simulation.clients[id].enter();
        self.stays(id, EVERYONE).push(Stay::default());
    }

    fn stays(&mut self, id: usize, room: &'static str) -> &mut Vec<Stay> {
        self.actors[id].stays.entry(room).or_default()
    }

    fn moment(&mut self) -> usize {
        self.simulation.world.moment += 1;
        self.simulation.world.moment
    }

    /// Where messages are lost, some clients are not served any more. They go.
    fn give_up_the_broken(&mut self) {
        for id in 0..self.actors.len() {
            let (actor, client) = (&self.actors[id], &self.simulation.clients[id]);
            let is_served = !client.is_over && client.is_flushed() && (actor.is_in || actor.has_left);
            let is_well = is_served && actor.acks.is_empty();
            if !actor.is_gone && !is_well {
                self.give_up(id);
            }
            self.actors[id].has_lost_answers = true;
        }
    }

    fn give_up(&mut self, id: usize) {
        self.expect_nothing(id);
        let Simulation { world, clients } = &mut self.simulation;
        clients[id].drop_wires(world, false);
    }

    /// What is not known of a client is made sure of, and those who have left come again.
    fn begin_anew(&mut self) {
        let moment = self.moment();
        self.kicks.clear();
        for (place, room) in std::mem::take(&mut self.closed) {
            for actor in self.actors.iter_mut().filter(|actor| actor.place == place) {
                actor.begin_leaving_room(room, moment);
            }
        }
        for id in 0..self.actors.len() {
            let actor = &mut self.actors[id];
            if actor.is_gone {
                continue;
            }
            if std::mem::take(&mut actor.has_lost_answers) {
                actor.asked = actor.answered;
            }
            if std::mem::take(&mut actor.has_left) {
                actor.end_stays(moment);
                actor.forget_answers();
                self.enter(id);
                continue;
            }
            for room in self.actors[id].unsure_rooms() {
                self.actors[id].begin_leaving_room(room, moment);
                self.emit(id, &json!(["leave", room]), Expected::Leave(room));
            }
        }
    }
}
