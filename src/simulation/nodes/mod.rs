//! Random clients of several processes against the model.
//!
//! Clients of one process hear each other whatever becomes of the broker. Between processes, what is said while both have been
//! connected for a moment, and stay so, arrives; everything else arrives once at most, unless the broker keeps messages: then it arrives
//! once, late. Always it arrives in the publisher's order.
//! Clients lose their connections and come back to any process, processes end and start, the broker goes away and forgets all.
//! `acts` is what clients do, `hears` what they get, `checks` what must have come in the end.

mod acts;
mod broken;
mod checks;
mod directed;
mod hears;
mod keeps;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::time::Time;
use crate::config::engine::EngineOptions;
use crate::config::{Config, Parser};
use crate::shard::user::gathering::Gathering;
use crate::shard::user::servers::ServerAnswers;
use crate::simulation::MAIN_PATH;
use crate::simulation::app::SECOND_PATH;
use crate::simulation::client::{Client, Habits};
use crate::simulation::fleet::Fleet;
use crate::simulation::model::{Actor, EVERYONE, Published, Publisher};
use crate::simulation::world::{Random, Weather};

const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// Where clients go.
const PLACES: [(&str, &str); 3] = [(MAIN_PATH, "/"), (MAIN_PATH, "/play/1"), (SECOND_PATH, "/")];

/// Keys of the state room.
const KEYS: [&str; 3] = ["a", "b", "c"];

const OPERATIONS_PER_ROUND: usize = 400;
const CLIENTS_MAX: usize = 12;
const PROCESSES_MAX: usize = 4;

/// Longer than what is under way takes, and than processes need to know each other again, or to forget one that is gone.
const SETTLING_TIME: Duration = Duration::from_secs(8);

/// The clock's step while something happens.
const TICK: Duration = Duration::from_millis(20);

/// How often clients of Socket.IO 2 ping.
const BEAT: Duration = Duration::from_secs(10);

/// Longer than every deadline of the default configuration together.
const LONG_AFTER: Duration = Duration::from_secs(300);

/// The numbers of those who are no clients: other threads of a process, by its number, and what servers say to each other.
const OUTSIDE: usize = 900;
const SERVERS: usize = 950;

/// Events and answers that had to come from other processes, and came, in all seeds together.
pub(super) static CROSSED: AtomicUsize = AtomicUsize::new(0);

/// Events that had to come although something broke on their way, since the broker keeps them.
pub(super) static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Sockets that were given over from one process to another.
pub(super) static RECOVERED: AtomicUsize = AtomicUsize::new(0);

/// What goes on in a round beside what clients say.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// The broker and the ways to it are not reliable.
    is_stormy: bool,
    /// Clients lose their connections and come back elsewhere; processes end and start.
    is_moving: bool,
}

const ROUNDS: [Round; 4] = [
    Round { is_stormy: false, is_moving: false },
    Round { is_stormy: true, is_moving: false },
    Round { is_stormy: false, is_moving: true },
    Round { is_stormy: true, is_moving: true },
];

/// An event, and which process it is from.
#[derive(Debug)]
struct Said {
    published: Published,
    node: usize,
    /// When it was known to be said.
    acked: Option<usize>,
    /// It goes by way of the servers of the other processes.
    is_to_servers: bool,
    /// The servers are to answer it.
    is_question: bool,
}

/// A client's stay at a process.
#[derive(Clone, Copy, Debug)]
struct Home {
    since: Time,
    node: usize,
    /// Which client of that process it is.
    number: usize,
}

/// What else is known of a client.
#[derive(Debug, Default)]
struct Guest {
    homes: Vec<Home>,
    /// When it lost its connection last.
    lost: usize,
    /// It is of Socket.IO 2.
    is_old: bool,
    /// The last that its socket has heard of each publisher in each room.
    heard: FxHashMap<(Publisher, &'static str), u64>,
    /// All that its socket has heard.
    got: FxHashSet<usize>,
}

/// Members of a room are put into a room, or taken out of one.
#[derive(Clone, Debug)]
struct Change {
    place: usize,
    whose: &'static str,
    room: &'static str,
    is_join: bool,
    sent: usize,
    acked: Option<usize>,
    node: usize,
    /// Those whose stay with this index it begins or ends, if they surely are whose they must be.
    concerned: Vec<(usize, usize)>,
    is_over: bool,
}

/// A value of a state room.
#[derive(Debug)]
struct Put {
    place: usize,
    key: &'static str,
    node: usize,
    sent: usize,
    done: Option<usize>,
}

/// The servers were asked something.
struct ServerQuestion {
    gathering: Gathering<ServerAnswers>,
    node: usize,
    sent: usize,
}

struct Scenario {
    fleet: Fleet,
    actors: Vec<Actor>,
    guests: Vec<Guest>,
    said: Vec<Said>,
    /// The places of events in `said`.
    by_name: FxHashMap<(Publisher, u64), usize>,
    /// The first of this round.
    round_begin: usize,
    /// When each moment was.
    moments: Vec<Time>,
    /// Rooms whose members were thrown out in this round, by place, and since when.
    kicked: Vec<(usize, &'static str, usize)>,
    /// Of this round.
    changes: Vec<Change>,
    puts: Vec<Put>,
    server_questions: Vec<ServerQuestion>,
    /// How long processes must have been connected, and a member been in, before what is said must arrive.
    steady: Duration,
    /// How long what is said may take to other processes.
    delivery: Duration,
    /// Nothing takes so long that a process gives up waiting for another that is there.
    is_prompt: bool,
    crossed: usize,
    kept: usize,
    /// Clients that came back to another process as the socket that they were.
    recovered: usize,
    beaten: Time,
    choice: Random,
}

/// Runs one seed to its end.
pub(super) fn run(seed: u64) {
    let mut choice = Random::new(seed ^ 0x0de5);
    let recovery = if choice.chance(60) { Duration::from_secs(60) } else { Duration::ZERO };
    let weather = Weather {
        shards: 1 + choice.below(3),
        config: Config {
            parser: Parser::Auto,
            recovery_max_disconnection: recovery,
            engine: EngineOptions { allow_eio3: true, ..EngineOptions::default() },
            ..Config::default()
        },
        is_cutting: choice.chance(50),
        has_slow_mesh: choice.chance(30),
        interest_slots_max: choice.chance(30).then_some(2),
        ..Weather::default()
    };
    let (len, delay_max) = (2 + choice.below(2), choice.pick(&[0, 20, 150]));
    let is_keeping = choice.chance(40);
    let is_prompt = delay_max < 100 && !weather.has_slow_mesh;
    let patience = Duration::from_millis(if is_prompt { 2000 } else { 4000 });
    let mut scenario = Scenario {
        fleet: match is_keeping {
            true => Fleet::keeping(seed, len, &weather, delay_max),
            false => Fleet::new(seed, len, &weather, delay_max),
        },
        actors: Vec::new(),
        guests: Vec::new(),
        said: Vec::new(),
        by_name: FxHashMap::default(),
        round_begin: 0,
        moments: Vec::new(),
        kicked: Vec::new(),
        changes: Vec::new(),
        puts: Vec::new(),
        server_questions: Vec::new(),
        steady: patience,
        delivery: patience,
        is_prompt,
        crossed: 0,
        kept: 0,
        recovered: 0,
        beaten: Time(0),
        choice,
    };
    for round in ROUNDS {
        scenario.round(round);
    }
    for id in 0..scenario.actors.len() {
        scenario.go(id);
    }
    scenario.fleet.run(LONG_AFTER, Duration::from_millis(500));
    scenario.fleet.assert_empty();
    CROSSED.fetch_add(scenario.crossed, Ordering::Relaxed);
    KEPT.fetch_add(scenario.kept, Ordering::Relaxed);
    RECOVERED.fetch_add(scenario.recovered, Ordering::Relaxed);
}

impl Scenario {
    fn round(&mut self, round: Round) {
        while self.actors.iter().filter(|actor| !actor.is_gone).count() < CLIENTS_MAX {
            self.arrive();
        }
        let wait = self.steady;
        self.pass(wait);
        for _ in 0..OPERATIONS_PER_ROUND {
            if round.is_stormy && self.choice.chance(2) {
                self.disturb();
            }
            if round.is_moving && self.choice.chance(6) {
                self.shake();
            }
            let id = self.choose_client();
            self.act(id);
            let (node, steps) = (self.home(id).node, self.choice.below(30));
            self.fleet.step(node, steps);
            let time = Duration::from_millis(self.choice.below(40) as u64);
            self.pass(time);
        }
        self.fleet.heal();
        self.pass(SETTLING_TIME);
        let others = self.fleet.alive().len() - 1;
        assert!(self.fleet.known().iter().all(|known| *known == others), "{:?}", self.fleet.known());
        self.give_up_the_thrown_out();
        self.check();
        self.check_boards();
        self.check_counts();
        self.begin_anew();
    }

    /// Lets time pass, and reads what comes.
    fn pass(&mut self, time: Duration) {
        let until = self.fleet.now + time;
        while self.fleet.now < until {
            let rest = until.since(self.fleet.now);
            self.fleet.run(rest.min(5 * TICK), TICK);
            self.read_all();
            self.carry_out_changes();
            self.hear_servers();
            self.come_back_again();
            if self.fleet.now.since(self.beaten) >= BEAT {
                self.beat();
            }
        }
    }

    /// Clients of Socket.IO 2 ping.
    fn beat(&mut self) {
        self.beaten = self.fleet.now;
        for id in 0..self.guests.len() {
            if self.guests[id].is_old && !self.actors[id].is_gone {
                self.client(id).send_packet(crate::simulation::client::Packet::Text("2".into()));
            }
        }
    }

    /// Something goes wrong between the processes.
    fn disturb(&mut self) {
        let node = self.choose_node();
        let time = Duration::from_millis(self.choice.below(5000) as u64);
        match self.choice.below(7) {
            0..3 => self.fleet.cut(node),
            3 => self.fleet.cut_off(node, time),
            4 => self.fleet.stall(node, time),
            5 => self.fleet.stop_broker(),
            _ => self.fleet.start_broker(),
        }
    }

    /// A client changes its process, or a process ends or starts.
    fn shake(&mut self) {
        let alive = self.fleet.alive().len();
        match self.choice.below(30) {
            0 if alive > 2 || alive == 2 && self.choice.chance(30) => self.end_process(),
            1 | 2 if alive < PROCESSES_MAX => {
                self.fleet.start();
            }
            _ => {
                let id = self.choose_client();
                if self.actors[id].is_in || self.actors[id].is_returning && self.choice.chance(10) {
                    self.come_back(id);
                }
            }
        }
    }

    /// Its clients go to others.
    fn end_process(&mut self) {
        let (node, says_so) = (self.choose_node(), self.choice.chance(30));
        self.fleet.end(node, says_so);
        if self.fleet.alive().is_empty() {
            self.fleet.start();
        }
        self.server_questions.retain(|question| question.node != node);
        for id in 0..self.actors.len() {
            let actor = &self.actors[id];
            match (self.home(id).node == node && !actor.is_gone, actor.is_in || actor.is_returning) {
                (false, _) => {}
                (true, true) => self.come_back(id),
                (true, false) => self.go(id),
            }
        }
    }

    /// One that has not gone for good.
    fn choose_client(&mut self) -> usize {
        let present: Vec<usize> = (0..self.actors.len()).filter(|id| !self.actors[*id].is_gone).collect();
        if present.is_empty() { 0 } else { self.choice.pick(&present) }
    }

    fn choose_node(&mut self) -> usize {
        let alive = self.fleet.alive();
        self.choice.pick(&alive)
    }

    fn moment(&mut self) -> usize {
        self.moments.push(self.fleet.now);
        self.moments.len() - 1
    }

    fn home(&self, id: usize) -> Home {
        *self.guests[id].homes.last().expect("a client is somewhere")
    }

    fn client(&mut self, id: usize) -> &mut Client {
        let Home { node, number, .. } = self.home(id);
        &mut self.fleet.nodes[node].simulation.clients[number]
    }

    /// The processes at which a client has been in that time.
    fn homes_in(&self, id: usize, from: Time, until: Time) -> impl Iterator<Item = usize> {
        let homes = &self.guests[id].homes;
        let ends = homes.iter().skip(1).map(|home| home.since).chain([Time::NEVER]);
        let homes = homes.iter().zip(ends).filter(move |(home, end)| home.since <= until && from <= *end);
        homes.map(|(home, _)| home.node)
    }

    /// Nothing was lost or late on its way to this process and that of the client, from a while before a moment until a time.
    fn is_quiet(&self, node: usize, id: usize, sent: usize, until: Time) -> bool {
        let from = self.moments[sent].before(self.steady);
        let nodes = || self.homes_in(id, from, until);
        nodes().all(|home| home == node)
            || nodes().chain([node]).all(|node| self.fleet.nodes[node].is_quiet(from, until))
    }

    /// The client was in the room when something was said in a process, and until a time; another process could know of it.
    fn covers(&self, node: usize, (id, room): (usize, &str), sent: usize, until: Time) -> bool {
        let at = self.moments[sent];
        let is_local = self.homes_in(id, at.before(self.steady), until).all(|home| home == node);
        let margin = if is_local { Duration::ZERO } else { self.steady };
        let stays = self.actors[id].stays.get(room).map(Vec::as_slice).unwrap_or_default();
        stays.iter().filter(|stay| !self.may_have_been_taken_out(id, room, stay.asked)).any(|stay| {
            let was_in =
                stay.joined.is_some_and(|joined| joined < sent && self.moments[joined] + margin <= at);
            was_in && stay.leaving.is_none_or(|leaving| self.moments[leaving] >= until)
        })
    }

    /// The client may have been in the room at a moment or later.
    fn may_be_in(&self, id: usize, room: &str, from: usize) -> bool {
        !self.actors[id].is_surely_out(room, from) || self.may_have_been_put_in(id, room, &mut Vec::new())
    }

    /// The client was in the room from a moment until now.
    fn is_surely_in(&self, id: usize, room: &str, from: usize) -> bool {
        let actor = &self.actors[id];
        let last = actor.stays.get(room).and_then(|stays| stays.last());
        actor.is_surely_in(room, from)
            && last.is_some_and(|stay| !self.may_have_been_taken_out(id, room, stay.asked))
    }

    /// Somebody may have put the client into a room in this round, after it began to leave it for the last time.
    fn may_have_been_put_in<'a>(&'a self, id: usize, room: &'a str, looked: &mut Vec<&'a str>) -> bool {
        looked.push(room);
        let actor = &self.actors[id];
        let last = actor.stays.get(room).and_then(|stays| stays.last());
        let leaving = last.map_or(0, |stay| stay.leaving.or(stay.left).unwrap_or(stay.asked));
        self.changes.iter().any(|change| {
            change.is_join
                && (change.room, change.place) == (room, actor.place)
                && !self.was_done(change, id, leaving)
                && (!actor.is_surely_out(change.whose, change.sent)
                    || !looked.contains(&change.whose) && self.may_have_been_put_in(id, change.whose, looked))
        })
    }

    /// Somebody may have taken the client out of a room in this round, after it asked to be in it.
    fn may_have_been_taken_out(&self, id: usize, room: &str, asked: usize) -> bool {
        let place = self.actors[id].place;
        self.changes.iter().any(|change| {
            !change.is_join
                && (change.room, change.place) == (room, place)
                && !change.concerned.iter().any(|(concerned, index)| {
                    *concerned == id && self.actors[id].stays[room][*index].asked == asked
                })
                && !self.was_done(change, id, asked)
                && self.may_be_in(id, change.whose, change.sent)
        })
    }

    /// A change has surely been made where the client is, or was never to be made there, before a moment.
    fn was_done(&self, change: &Change, id: usize, moment: usize) -> bool {
        let at = self.moments.get(moment).copied().unwrap_or_default();
        let until = self.until(change.acked);
        until <= at && self.is_quiet(change.node, id, change.sent, until)
    }

    /// By then what was acknowledged has come everywhere.
    fn until(&self, acked: Option<usize>) -> Time {
        acked.map_or(Time::NEVER, |acked| self.moments[acked] + self.delivery)
    }

    fn habits(&mut self) -> Habits {
        Habits {
            starts_with_websocket: self.choice.chance(50),
            upgrades: self.choice.chance(50),
            keeps_alive: self.choice.chance(50),
        }
    }

    /// A client opens its connection at a process.
    fn open(&mut self, node: usize, place: usize, is_old: bool) -> Home {
        let habits = self.habits();
        let simulation = &mut self.fleet.nodes[node].simulation;
        let number = if is_old {
            simulation.open_old_at(PLACES[place].0, habits)
        } else {
            simulation.open_at(PLACES[place].0, habits)
        };
        Home { since: self.fleet.now, node, number }
    }

    fn arrive(&mut self) {
        let (node, place, is_old) =
            (self.choose_node(), self.choice.below(PLACES.len()), self.choice.chance(25));
        let home = self.open(node, place, is_old);
        self.guests.push(Guest { homes: vec![home], lost: 0, is_old, ..Guest::default() });
        self.actors.push(Actor { place, ..Actor::default() });
        let (id, speaks_msgpack) = (self.actors.len() - 1, !is_old && self.choice.chance(30));
        let client = self.client(id);
        client.namespace = PLACES[place].1;
        client.speaks_msgpack = speaks_msgpack;
        self.enter(id);
    }

    fn enter(&mut self, id: usize) {
        self.client(id).pid = None;
        self.client(id).enter();
        self.actors[id].stays.entry(EVERYONE).or_default().push(Default::default());
    }

    /// The client loses its connection, and comes back to any process.
    fn come_back(&mut self, id: usize) {
        let (moment, node, is_reset) = (self.moment(), self.choose_node(), self.choice.chance(50));
        let (old, place) = (self.home(id), self.actors[id].place);
        let was_alive = self.fleet.nodes[old.node].is_alive();
        let has_claim = self.client(id).pid.is_some();
        let must_be_recovered = has_claim && was_alive && self.actors[id].is_in && !self.may_be_kicked(id);
        let actor = &mut self.actors[id];
        if !actor.is_returning {
            self.guests[id].lost = moment;
        }
        actor.must_be_recovered = must_be_recovered;
        actor.has_rival |= actor.is_returning;
        (actor.is_in, actor.is_returning) = (false, true);
        actor.life += 1;
        actor.forget_answers();
        if was_alive {
            let simulation = &mut self.fleet.nodes[old.node].simulation;
            simulation.clients[old.number].drop_wires(&mut simulation.world, is_reset);
        }
        let home = self.open(node, place, self.guests[id].is_old);
        if home.node == old.node {
            let clients = &mut self.fleet.nodes[node].simulation.clients;
            let (before, after) = clients.split_at_mut(home.number);
            after[0].go_on_from(&mut before[old.number]);
        } else {
            let [before, after] = self.fleet.nodes.get_disjoint_mut([old.node, node]).expect("two of them");
            let before = &mut before.simulation.clients[old.number];
            after.simulation.clients[home.number].go_on_from(before);
        }
        self.guests[id].homes.push(home);
        self.client(id).enter();
    }

    /// Whose hand-over fails has its connection closed, and connects again.
    fn come_back_again(&mut self) {
        for id in 0..self.actors.len() {
            if self.actors[id].is_returning && self.client(id).is_over {
                self.come_back(id);
            }
        }
    }

    /// The client goes without a word.
    fn go(&mut self, id: usize) {
        if self.actors[id].is_gone {
            return;
        }
        let (moment, is_reset) = (self.moment(), self.choice.chance(50));
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        (actor.is_gone, actor.is_in, actor.is_returning) = (true, false, false);
        actor.forget_answers();
        let Home { node, number, .. } = self.home(id);
        let node = &mut self.fleet.nodes[node];
        if node.is_alive() {
            let simulation = &mut node.simulation;
            simulation.clients[number].drop_wires(&mut simulation.world, is_reset);
        }
    }

    /// What the servers have answered, as far as it has come.
    fn hear_servers(&mut self) {
        for mut question in std::mem::take(&mut self.server_questions) {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match std::pin::Pin::new(&mut question.gathering).poll(&mut context) {
                std::task::Poll::Ready(answers) => self.check_servers(&question, answers),
                std::task::Poll::Pending => self.server_questions.push(question),
            }
        }
    }
}
