//! Random clients against the model: rooms, order, acknowledgements, and nothing left behind.
//!
//! The model knows, for each member of each room, since when it surely was in and since when it surely was out, in
//! moments of the one scheduler. A member that surely was in throughout must get a message; one that surely was
//! out must not; what lies between may go either way, but once at most and in the publisher's order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use crate::shard::config::{Config, Parser};
use crate::simulation::app::app;
use crate::simulation::client::{Client, Habits, Message, Packet};
use crate::simulation::world::{Random, Weather, World};

const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// Where clients go: one namespace that is always there, and two of a pattern that come and go.
const NAMESPACES: [&str; 3] = ["/", "/play/1", "/play/2"];

/// The room of everybody, in the model.
const EVERYONE: &str = "*";

const ROUNDS: usize = 4;
const OPERATIONS_PER_ROUND: usize = 120;
const CLIENTS_MAX: usize = 9;

/// Longer than every handler of the app takes, shorter than a ping interval.
const SETTLING_TIME: Duration = Duration::from_secs(2);

/// Longer than every deadline of the default configuration together.
const LONG_AFTER: Duration = Duration::from_secs(300);

/// Clients and the world between them.
pub(super) struct Simulation {
    pub(super) world: World,
    pub(super) clients: Vec<Client>,
}

impl Simulation {
    pub(super) fn new(seed: u64, weather: Weather) -> Simulation {
        Simulation { world: World::new(seed, weather, app), clients: Vec::new() }
    }

    /// A new client on its way.
    pub(super) fn open(&mut self, habits: Habits) -> usize {
        let id = self.clients.len();
        let client = Client::open(id, habits, &mut self.world);
        self.clients.push(client);
        id
    }

    /// One step; false when there is none to take at this time.
    pub(super) fn step(&mut self) -> bool {
        let Some(arrived) = self.world.step() else { return false };
        if let Some(wire) = arrived
            && let Some(owner) = self.world.wires[wire.0].owner
        {
            self.clients[owner].pump(&mut self.world, wire);
        }
        true
    }

    /// Lets everything happen that happens within `time`.
    pub(super) fn run(&mut self, time: Duration) {
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

    pub(super) fn drive_all(&mut self) {
        for client in &mut self.clients {
            client.drive(&mut self.world);
        }
    }

    /// Opens a client and joins `/`.
    pub(super) fn connect(&mut self, habits: Habits) -> usize {
        let id = self.open(habits);
        self.clients[id].send("0", &[]);
        self.run(Duration::from_millis(500));
        let first = self.clients[id].received.pop_front();
        assert!(first.is_some_and(|message| message.kind == '0'), "the client is let in");
        id
    }

    /// Everything a client has got since it was last asked.
    pub(super) fn take_received(&mut self, id: usize) -> Vec<Message> {
        self.clients[id].received.drain(..).collect()
    }

    /// No table of any shard holds anything of any client.
    pub(super) fn assert_empty(&mut self) {
        for (index, shard) in self.world.shards.iter().enumerate() {
            let core = shard.core.borrow();
            let tables = [
                ("connections", core.connections.len()),
                ("sessions", core.sessions.len()),
                ("session_ids", core.session_ids.len()),
                ("sockets", core.sockets.len()),
                ("socket_ids", core.socket_ids.len()),
                ("rooms", core.rooms.len()),
                ("room_ids", core.namespaces.tables().iter().map(|table| table.room_ids.len()).sum()),
                ("members", core.namespaces.tables().iter().map(|table| table.members.len()).sum()),
                ("namespaces of patterns", core.namespaces.made()),
                ("acks", core.acks.len()),
                ("inquiries", core.inquiries.len()),
                (
                    "open_sockets",
                    core.namespaces.tables().iter().map(|table| table.open_sockets as usize).sum(),
                ),
                ("tasks", core.tasks.len()),
                ("sleeps", core.sleeps.len()),
                ("deferred", core.deferred.len()),
                ("polls_due", core.polls_due.len()),
                ("timers", usize::from(core.wheel.next_timeout() != crate::base::time::Time::NEVER)),
            ];
            let left: Vec<_> = tables.iter().filter(|(_, len)| *len > 0).collect();
            assert!(left.is_empty(), "shard {index} keeps {left:?}");
            let stats = self.world.counters[index].snapshot();
            assert_eq!((stats.connections, stats.sessions, stats.sockets), (0, 0, 0), "shard {index} counts");
            assert_eq!(stats.mesh_messages_lost, 0);
        }
    }
}

/// One stay of a client in a room, in moments.
#[derive(Debug, Default)]
struct Stay {
    /// Surely in from here on.
    joined: Option<usize>,
    leaving: Option<usize>,
    /// Surely out from here on.
    left: Option<usize>,
}

/// What an acknowledgement must be.
#[derive(Debug)]
enum Expected {
    Answer(Value),
    Blob(Vec<u8>),
    Join(&'static str),
    Leave(&'static str),
    Publish(usize),
}

/// One message to rooms.
#[derive(Debug)]
struct Published {
    publisher: usize,
    sequence: u64,
    sent: usize,
    rooms: Vec<&'static str>,
    except: Option<&'static str>,
    includes_publisher: bool,
    is_acknowledged: bool,
}

/// A client as the model sees it.
#[derive(Debug, Default)]
struct Actor {
    /// CONNECT has been answered, and the client has not begun to go.
    is_in: bool,
    /// The client went away, in whatever way; nothing is expected of it.
    is_gone: bool,
    /// The client left the namespace and may come again once that is over.
    has_left: bool,
    stays: BTreeMap<&'static str, Vec<Stay>>,
    acks: VecDeque<(u64, Expected)>,
    next_id: u64,
    sequence: u64,
    asked: u64,
    answered: u64,
    /// Indexes into the published, in the order they came.
    seen: Vec<usize>,
    /// The last sequence heard from each publisher.
    heard: BTreeMap<usize, u64>,
}

impl Actor {
    /// The client cannot have been in the room at `from` or later.
    fn is_surely_out(&self, room: &str, from: usize) -> bool {
        let stays = self.stays.get(room).map(Vec::as_slice).unwrap_or_default();
        stays.iter().all(|stay| stay.left.is_some_and(|left| left < from))
    }

    /// The client was in the room from `from` until now.
    fn is_surely_in(&self, room: &str, from: usize) -> bool {
        let last = self.stays.get(room).and_then(|stays| stays.last());
        last.is_some_and(|stay| stay.leaving.is_none() && stay.joined.is_some_and(|joined| joined < from))
    }

    fn stay(&mut self, room: &'static str) -> &mut Stay {
        self.stays.get_mut(room).and_then(|stays| stays.last_mut()).expect("the client asked to join")
    }

    fn begin_leaving(&mut self, moment: usize) {
        for stays in self.stays.values_mut() {
            for stay in stays.iter_mut().filter(|stay| stay.leaving.is_none()) {
                stay.leaving = Some(moment);
            }
        }
    }
}

struct Scenario {
    simulation: Simulation,
    actors: Vec<Actor>,
    published: Vec<Published>,
    /// Chooses what clients do, apart from what the network does.
    choice: Random,
}

/// Runs one seed to its end.
pub(super) fn run(seed: u64) {
    let mut choice = Random::new(seed ^ 0x5eed);
    let (permessage_deflate, compression_threshold) = (choice.chance(60), 1 + choice.below(100));
    let parser = Parser::Auto;
    let config = Config { parser, permessage_deflate, compression_threshold, ..Config::default() };
    let weather = Weather {
        shards: 1 + choice.below(5),
        config,
        is_cutting: choice.chance(80),
        has_slow_sends: choice.chance(40),
        has_jitter: choice.chance(50),
    };
    let simulation = Simulation::new(seed, weather);
    let mut scenario = Scenario { simulation, actors: Vec::new(), published: Vec::new(), choice };
    for _ in 0..ROUNDS {
        scenario.round();
    }
    for actor in 0..scenario.actors.len() {
        if !scenario.actors[actor].is_gone {
            scenario.go(actor);
        }
    }
    scenario.simulation.run(LONG_AFTER);
    scenario.simulation.assert_empty();
}

impl Scenario {
    fn round(&mut self) {
        while self.actors.iter().filter(|actor| !actor.is_gone).count() < CLIENTS_MAX {
            self.arrive();
        }
        for _ in 0..OPERATIONS_PER_ROUND {
            let actor = self.choice.below(self.actors.len());
            self.act(actor);
            for _ in 0..self.choice.below(30) {
                self.simulation.step();
            }
            self.read_all();
        }
        self.unstall();
        self.settle();
        self.check_round();
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
        let habits = Habits {
            starts_with_websocket: self.choice.chance(35),
            upgrades: self.choice.chance(60),
            keeps_alive: self.choice.chance(50),
        };
        let id = self.simulation.open(habits);
        self.simulation.clients[id].fragments = self.choice.chance(50);
        self.simulation.clients[id].namespace = self.choice.pick(&NAMESPACES);
        self.simulation.clients[id].speaks_msgpack = self.choice.chance(30);
        self.actors.push(Actor::default());
        self.enter(id);
    }

    fn enter(&mut self, id: usize) {
        self.simulation.clients[id].send("0", &[]);
        self.stays(id, EVERYONE).push(Stay::default());
    }

    fn stays(&mut self, id: usize, room: &'static str) -> &mut Vec<Stay> {
        self.actors[id].stays.entry(room).or_default()
    }

    fn moment(&mut self) -> usize {
        self.simulation.world.moment += 1;
        self.simulation.world.moment
    }

    /// One client does something, if it is in a state to.
    fn act(&mut self, id: usize) {
        if !self.actors[id].is_in {
            return;
        }
        match self.choice.below(100) {
            0..20 => self.join(id),
            20..30 => self.leave(id),
            30..65 => self.publish(id),
            65..72 => {
                let value =
                    json!(["echo", self.choice.below(1000), "é\u{1e}😀".repeat(self.choice.below(3))]);
                let expected = Value::Array(value.as_array().expect("an array")[1..].to_vec());
                self.emit(id, &value, Expected::Answer(expected));
            }
            72..80 => {
                let name = if self.choice.chance(50) { "slow" } else { "quick" };
                let number = self.choice.below(1000);
                let value = if name == "slow" {
                    json!([name, number, self.choice.below(200)])
                } else {
                    json!([name, number])
                };
                self.emit(id, &value, Expected::Answer(json!([number])));
            }
            80..86 => {
                self.actors[id].asked += 1;
                let question = json!(["ask", self.choice.below(1000)]);
                self.emit(id, &question, Expected::Answer(json!([])));
            }
            86..92 => self.send_blob(id),
            92..95 => self.stall(id),
            95..97 => self.leave_namespace(id),
            _ => {
                if self.choice.chance(30) {
                    self.go(id);
                }
            }
        }
        let Simulation { world, clients } = &mut self.simulation;
        clients[id].drive(world);
    }

    fn emit(&mut self, id: usize, event: &Value, expected: Expected) {
        let actor = &mut self.actors[id];
        let ack = actor.next_id;
        actor.next_id += 1;
        actor.acks.push_back((ack, expected));
        self.simulation.clients[id].emit(Some(ack), event);
    }

    fn send_blob(&mut self, id: usize) {
        let bytes = vec![self.choice.below(256) as u8; self.choice.below(400)];
        let actor = &mut self.actors[id];
        let ack = actor.next_id;
        actor.next_id += 1;
        actor.acks.push_back((ack, Expected::Blob(bytes.clone())));
        let text = format!(r#"51-{ack}["blob",{{"_placeholder":true,"num":0}}]"#);
        self.simulation.clients[id].send(&text, &[bytes]);
    }

    fn join(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        let stays = self.stays(id, room);
        // A second join while the first lasts changes nothing; one while it ends waits for its turn.
        if stays.last().is_none_or(|stay| stay.left.is_some()) {
            stays.push(Stay::default());
            self.emit(id, &json!(["join", room]), Expected::Join(room));
        }
    }

    fn leave(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        let moment = self.moment();
        if let Some(stay) = self.stays(id, room).last_mut().filter(|stay| stay.leaving.is_none()) {
            stay.leaving = Some(moment);
            self.emit(id, &json!(["leave", room]), Expected::Leave(room));
        }
    }

    fn publish(&mut self, id: usize) {
        let kind = self.choice.below(10);
        let rooms: Vec<&'static str> = match kind {
            0 | 1 => vec![EVERYONE],
            2..6 => vec![self.choice.pick(&ROOMS)],
            _ => vec![self.choice.pick(&ROOMS), self.choice.pick(&ROOMS)],
        };
        let except = (kind > 3 && self.choice.chance(30)).then(|| self.choice.pick(&ROOMS));
        let padding = "p".repeat(if self.choice.chance(10) { self.choice.below(5000) } else { 0 });
        self.actors[id].sequence += 1;
        let sequence = self.actors[id].sequence;
        let message = json!([id, sequence, padding]);
        let event = match kind {
            0 => json!(["others", message]),
            1 => json!(["everyone", message]),
            _ => json!(["to", rooms, except, message]),
        };
        let sent = self.moment();
        let index = self.published.len();
        let includes_publisher = kind != 0;
        self.published.push(Published {
            publisher: id,
            sequence,
            sent,
            rooms,
            except,
            includes_publisher,
            is_acknowledged: false,
        });
        self.emit(id, &event, Expected::Publish(index));
    }

    /// The client reads nothing for a while.
    fn stall(&mut self, id: usize) {
        let wires: Vec<_> = self.simulation.clients[id].wires().collect();
        for wire in wires {
            self.simulation.world.wires[wire.0].is_stalled = true;
        }
    }

    fn unstall(&mut self) {
        for (client, actor) in self.simulation.clients.iter().zip(&self.actors) {
            if !actor.is_gone {
                for wire in client.wires() {
                    self.simulation.world.wires[wire.0].is_stalled = false;
                }
            }
        }
    }

    fn leave_namespace(&mut self, id: usize) {
        let moment = self.moment();
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        actor.is_in = false;
        actor.has_left = true;
        self.simulation.clients[id].send("1", &[]);
    }

    /// The client goes away for good, in one of the ways that clients do.
    fn go(&mut self, id: usize) {
        let moment = self.moment();
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        actor.is_in = false;
        actor.is_gone = true;
        let Simulation { world, clients } = &mut self.simulation;
        let client = &mut clients[id];
        match self.choice.below(4) {
            0 => {
                client.send_packet(Packet::Text("1".into()));
                client.is_silent = true;
                client.drive(world);
            }
            1 => client.drop_wires(world, false),
            2 => client.drop_wires(world, true),
            _ => {
                for wire in client.wires() {
                    world.wires[wire.0].is_stalled = true;
                }
                client.is_over = true;
            }
        }
    }

    fn read_all(&mut self) {
        for id in 0..self.actors.len() {
            while let Some(message) = self.simulation.clients[id].received.pop_front() {
                if !self.actors[id].is_gone {
                    self.read(id, &message);
                }
            }
        }
    }

    fn read(&mut self, id: usize, message: &Message) {
        let moment = self.moment();
        assert_eq!(message.namespace, self.simulation.clients[id].namespace, "client {id} got {message:?}");
        match message.kind {
            '0' => {
                self.actors[id].is_in = true;
                self.actors[id].stay(EVERYONE).joined = Some(moment);
            }
            '3' | '6' => self.read_ack(id, message, moment),
            '2' => match message.payload[0].as_str() {
                Some("news") => self.read_news(id, &message.payload[1]),
                // Whoever has left the namespace answers nothing.
                Some("question") if !self.actors[id].is_in => {}
                Some("question") => {
                    let number = message.payload[1].as_u64().expect("a number");
                    let ack = message.id.expect("a question wants an answer");
                    self.simulation.clients[id].send(&format!("3{ack}[{}]", number + 1), &[]);
                }
                Some("answered") => {
                    let pair = (message.payload[1].as_u64(), message.payload[2].as_u64());
                    assert_eq!(
                        pair.0.map(|number| number + 1),
                        pair.1,
                        "the answer reached the one who asked"
                    );
                    self.actors[id].answered += 1;
                }
                _ => panic!("client {id} got {message:?}"),
            },
            _ => panic!("client {id} got {message:?}"),
        }
    }

    fn read_ack(&mut self, id: usize, message: &Message, moment: usize) {
        let (ack, expected) = self.actors[id].acks.pop_front().expect("an acknowledgement was asked for");
        assert_eq!(message.id, Some(ack), "client {id}: acknowledgements come in the order of the events");
        match expected {
            Expected::Answer(answer) => assert_eq!(message.payload, answer),
            Expected::Blob(bytes) => assert_eq!(message.attachments, [bytes]),
            Expected::Join(room) => {
                assert_eq!(message.payload, json!([true]));
                self.actors[id].stay(room).joined = Some(moment);
            }
            Expected::Leave(room) => {
                if let Some(stay) = self.stays(id, room).iter_mut().find(|stay| stay.left.is_none()) {
                    stay.left = Some(moment);
                }
            }
            Expected::Publish(index) => self.published[index].is_acknowledged = true,
        }
    }

    fn read_news(&mut self, id: usize, message: &Value) {
        let publisher = message[0].as_u64().expect("a publisher") as usize;
        let sequence = message[1].as_u64().expect("a sequence");
        let index =
            self.published.iter().position(|one| one.publisher == publisher && one.sequence == sequence);
        let index = index.expect("somebody published it");
        let published = &self.published[index];
        let namespace = |id: usize| self.simulation.clients[id].namespace;
        assert_eq!(namespace(id), namespace(publisher), "client {id} heard another namespace: {published:?}");
        let actor = &mut self.actors[id];
        let is_possible = published.rooms.iter().any(|room| !actor.is_surely_out(room, published.sent));
        assert!(is_possible, "client {id} was out of {published:?}: {:?}", actor.stays);
        let is_excepted = published.except.is_some_and(|room| actor.is_surely_in(room, published.sent));
        assert!(!is_excepted, "client {id} was excepted from {published:?}");
        assert!(published.includes_publisher || publisher != id, "{published:?} came back");
        let heard = actor.heard.insert(publisher, sequence);
        assert!(heard < Some(sequence), "client {id} heard {heard:?} before {published:?}");
        actor.seen.push(index);
    }

    /// Everything has come to rest: whoever surely was there has everything.
    fn check_round(&mut self) {
        let moment = self.moment();
        for (id, actor) in self.actors.iter_mut().enumerate().filter(|(_, actor)| !actor.is_gone) {
            let client = &self.simulation.clients[id];
            assert!(!client.is_over, "client {id} lost its session: {:?}", client.refusals);
            assert!(client.refusals.is_empty(), "client {id} was refused: {:?}", client.refusals);
            assert!(client.is_flushed(), "client {id} could not send everything: {client:?}");
            if actor.has_left {
                for stay in actor.stays.values_mut().flatten().filter(|stay| stay.left.is_none()) {
                    stay.left = Some(moment);
                }
                // Answers to what was asked before the end may be lost with the socket.
                actor.acks.clear();
                actor.asked = actor.answered;
            } else {
                assert!(actor.is_in, "client {id} is not let in");
                assert!(actor.acks.is_empty(), "client {id} waits for {:?}", actor.acks);
                assert_eq!(actor.asked, actor.answered, "client {id}: questions and answers");
            }
            for (index, published) in self.published.iter().enumerate().filter(|(_, one)| one.is_acknowledged)
            {
                let is_in = published.rooms.iter().any(|room| actor.is_surely_in(room, published.sent));
                let is_out = published.except.is_some_and(|room| !actor.is_surely_out(room, published.sent));
                let is_own = !published.includes_publisher && published.publisher == id;
                let is_here = self.simulation.clients[published.publisher].namespace == client.namespace;
                if is_here && is_in && !is_out && !is_own {
                    assert!(actor.seen.contains(&index), "client {id} missed {published:?}");
                }
            }
        }
        let returning: Vec<usize> = (0..self.actors.len())
            .filter(|&id| self.actors[id].has_left && !self.actors[id].is_gone)
            .collect();
        for id in returning {
            self.actors[id].has_left = false;
            self.enter(id);
        }
    }
}
