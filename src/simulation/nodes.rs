//! Random clients of several processes against the model.
//!
//! Clients of one process hear each other whatever becomes of the broker. Between processes, what is said while both have been
//! connected for a moment, and stay so, arrives; everything else arrives once at most. Always it arrives in the publisher's order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::base::time::Time;
use crate::bus::own::{self, AskWord, Asked, ChangeWord, Envelope, Hello, Raw, To, Word};
use crate::bus::{Body, Channel, Delivery};
use crate::config::{Config, Parser};
use crate::message::address::Address;
use crate::message::target::Target;
use crate::protocol::socketio::encode::encode_event_raw;
use crate::protocol::socketio::frames::frame_raw;
use crate::simulation::MAIN_PATH;
use crate::simulation::app::SECOND_PATH;
use crate::simulation::client::{Client, Habits, Message};
use crate::simulation::fleet::Fleet;
use crate::simulation::model::{Actor, EVERYONE, Expected, Published, Publisher};
use crate::simulation::world::{Random, Weather};

const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// Where clients go.
const PLACES: [(&str, &str); 3] = [(MAIN_PATH, "/"), (MAIN_PATH, "/play/1"), (SECOND_PATH, "/")];

const ROUNDS: usize = 4;
const OPERATIONS_PER_ROUND: usize = 70;
const CLIENTS_MAX: usize = 8;

/// How long processes must have been connected, and a member been in, before what is said must arrive: longer than a heartbeat,
/// and than a subscription takes.
const STEADY: Duration = Duration::from_millis(3000);

/// Longer than what is under way takes, and than processes need to know each other again.
const SETTLING_TIME: Duration = Duration::from_secs(8);

/// The clock's step while something happens.
const TICK: Duration = Duration::from_millis(20);

/// Longer than every deadline of the default configuration together.
const LONG_AFTER: Duration = Duration::from_secs(300);

/// Messages that had to come from other processes, and came, in all seeds together.
pub(super) static CROSSED: AtomicUsize = AtomicUsize::new(0);

struct Scenario {
    fleet: Fleet,
    /// The process and the number there of each client.
    places: Vec<(usize, usize)>,
    actors: Vec<Actor>,
    published: Vec<Published>,
    /// When each moment was.
    moments: Vec<Time>,
    /// Rooms whose members were thrown out in this round, by place, and since when.
    kicked: Vec<(usize, &'static str, usize)>,
    /// Messages that had to come from other processes, and came.
    crossed: usize,
    choice: Random,
}

/// Runs one seed to its end.
pub(super) fn run(seed: u64) {
    let mut choice = Random::new(seed ^ 0x0de5);
    let recovery = if choice.chance(40) { Duration::from_secs(60) } else { Duration::ZERO };
    let weather = Weather {
        shards: 1 + choice.below(3),
        config: Config { parser: Parser::Auto, recovery_max_disconnection: recovery, ..Config::default() },
        is_cutting: choice.chance(50),
        has_slow_mesh: choice.chance(30),
        interest_slots_max: choice.chance(30).then_some(2),
        ..Weather::default()
    };
    let (len, delay_max) = (2 + choice.below(2), choice.pick(&[0, 20, 150]));
    let fleet = Fleet::new(seed, len, &weather, delay_max);
    let mut scenario = Scenario {
        fleet,
        places: Vec::new(),
        actors: Vec::new(),
        published: Vec::new(),
        moments: Vec::new(),
        kicked: Vec::new(),
        crossed: 0,
        choice,
    };
    for round in 0..ROUNDS {
        scenario.round(round % 2 == 1);
    }
    for id in 0..scenario.actors.len() {
        scenario.go(id);
    }
    scenario.fleet.run(LONG_AFTER, Duration::from_millis(500));
    scenario.fleet.assert_empty();
    CROSSED.fetch_add(scenario.crossed, Ordering::Relaxed);
}

impl Scenario {
    fn round(&mut self, is_stormy: bool) {
        while self.actors.iter().filter(|actor| !actor.is_gone).count() < CLIENTS_MAX {
            self.arrive();
        }
        for _ in 0..OPERATIONS_PER_ROUND {
            if is_stormy && self.choice.chance(8) {
                self.disturb();
            }
            let id = self.choice.below(self.actors.len());
            self.act(id);
            let (node, _) = self.places[id];
            let steps = self.choice.below(30);
            self.fleet.step(node, steps);
            let time = Duration::from_millis(self.choice.below(200) as u64);
            self.fleet.run(time, TICK);
            self.read_all();
        }
        self.fleet.start_broker();
        let until = self.fleet.now + SETTLING_TIME;
        while self.fleet.now < until {
            self.fleet.run(Duration::from_millis(500), TICK);
            self.read_all();
        }
        let others = self.fleet.nodes.len() - 1;
        assert!(self.fleet.known().iter().all(|known| *known == others), "{:?}", self.fleet.known());
        self.give_up_the_thrown_out();
        self.check();
        self.check_counts();
        self.begin_anew();
    }

    /// Something goes wrong between the processes.
    fn disturb(&mut self) {
        let node = self.choice.below(self.fleet.nodes.len());
        match self.choice.below(6) {
            0..3 => self.fleet.cut(node),
            3 => self.fleet.stall(node, Duration::from_millis(self.choice.below(5000) as u64)),
            4 => self.fleet.stop_broker(),
            _ => self.fleet.start_broker(),
        }
    }

    fn moment(&mut self) -> usize {
        self.moments.push(self.fleet.now);
        self.moments.len() - 1
    }

    fn client(&mut self, id: usize) -> &mut Client {
        let (node, number) = self.places[id];
        &mut self.fleet.nodes[node].simulation.clients[number]
    }

    fn arrive(&mut self) {
        let (node, place) = (self.choice.below(self.fleet.nodes.len()), self.choice.below(PLACES.len()));
        let habits = Habits {
            starts_with_websocket: self.choice.chance(50),
            upgrades: self.choice.chance(50),
            keeps_alive: self.choice.chance(50),
        };
        let number = self.fleet.nodes[node].simulation.open_at(PLACES[place].0, habits);
        self.places.push((node, number));
        self.actors.push(Actor { place, ..Actor::default() });
        let (id, speaks_msgpack) = (self.actors.len() - 1, self.choice.chance(30));
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

    fn emit(&mut self, id: usize, event: &Value, expected: Expected) {
        let actor = &mut self.actors[id];
        let ack = actor.next_id;
        actor.next_id += 1;
        actor.acks.push_back((ack, expected));
        self.client(id).emit(Some(ack), event);
    }

    fn act(&mut self, id: usize) {
        if !self.actors[id].is_in {
            return;
        }
        match self.choice.below(100) {
            0..25 => self.join(id),
            25..35 => self.leave(id),
            35..85 => self.publish(id),
            85..90 => self.emit(id, &json!(["echo", 7]), Expected::Answer(json!([7]))),
            90..93 => self.kick(id),
            93..95 => {
                let moment = self.moment();
                let actor = &mut self.actors[id];
                actor.begin_leaving(moment);
                (actor.is_in, actor.has_left) = (false, true);
                actor.forget_answers();
                self.client(id).send("1", &[]);
            }
            95..97 => self.go(id),
            _ => {}
        }
    }

    fn join(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        let stays = self.actors[id].stays.entry(room).or_default();
        if stays.last().is_none_or(|stay| stay.left.is_some()) {
            stays.push(Default::default());
            self.emit(id, &json!(["join", room]), Expected::Join(room));
        }
    }

    fn leave(&mut self, id: usize) {
        let (room, moment) = (self.choice.pick(&ROOMS), self.moment());
        let stays = self.actors[id].stays.entry(room).or_default();
        if let Some(stay) = stays.last_mut().filter(|stay| stay.leaving.is_none()) {
            stay.leaving = Some(moment);
            self.emit(id, &json!(["leave", room]), Expected::Leave(room));
        }
    }

    fn publish(&mut self, id: usize) {
        let kind = self.choice.below(10);
        let place = self.actors[id].place;
        let rooms: Vec<&'static str> = match kind {
            0 | 1 => vec![EVERYONE],
            2..6 => vec![self.choice.pick(&ROOMS)],
            6..8 => vec![self.choice.pick(&ROOMS), self.choice.pick(&ROOMS)],
            _ => Vec::new(),
        };
        let to = (kind >= 8).then(|| self.choice.below(self.actors.len()));
        let to = to.filter(|to| self.actors[*to].place == place);
        let to = to.and_then(|to| Some((to, self.actors[to].sid.clone()?)));
        let except = ((4..8).contains(&kind) && self.choice.chance(30)).then(|| self.choice.pick(&ROOMS));
        self.actors[id].sequence += 1;
        let sequence = self.actors[id].sequence;
        let publisher = Publisher { client: id, life: self.actors[id].life };
        let message = json!([publisher.number(), sequence, ""]);
        let event = match kind {
            0 => json!(["others", message]),
            1 => json!(["everyone", message]),
            8.. => json!(["to", to.iter().map(|(_, sid)| sid).collect::<Vec<_>>(), except, message]),
            _ => json!(["to", rooms, except, message]),
        };
        let (sent, index) = (self.moment(), self.published.len());
        self.published.push(Published {
            publisher,
            place,
            sequence,
            sent,
            rooms,
            to,
            except,
            includes_publisher: kind != 0,
            is_acknowledged: false,
        });
        self.emit(id, &event, Expected::Publish(index));
    }

    /// The members of a room, in all processes, are thrown out of the namespace.
    fn kick(&mut self, id: usize) {
        let (room, place, sent) = (self.choice.pick(&ROOMS), self.actors[id].place, self.moment());
        self.kicked.push((place, room, sent));
        self.emit(id, &json!(["kick", room]), Expected::Answer(json!([])));
        for actor in self.actors.iter_mut().filter(|actor| actor.place == place) {
            if !actor.is_surely_out(room, sent) {
                actor.begin_leaving(sent);
            }
        }
    }

    /// Whoever is in a room from which all may be thrown out may be out of everything.
    fn may_be_kicked(&self, id: usize) -> bool {
        let actor = &self.actors[id];
        self.kicked
            .iter()
            .any(|(place, room, sent)| *place == actor.place && !actor.is_surely_out(room, *sent))
    }

    /// The client goes without a word.
    fn go(&mut self, id: usize) {
        if self.actors[id].is_gone {
            return;
        }
        let (moment, is_reset) = (self.moment(), self.choice.chance(50));
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        (actor.is_gone, actor.is_in) = (true, false);
        actor.forget_answers();
        let (node, number) = self.places[id];
        let simulation = &mut self.fleet.nodes[node].simulation;
        simulation.clients[number].drop_wires(&mut simulation.world, is_reset);
    }

    fn read_all(&mut self) {
        for id in 0..self.actors.len() {
            while let Some(message) = self.client(id).received.pop_front() {
                if !self.actors[id].is_gone {
                    self.read(id, &message);
                }
            }
        }
    }

    fn read(&mut self, id: usize, message: &Message) {
        let moment = self.moment();
        match message.kind {
            '0' => {
                let actor = &mut self.actors[id];
                actor.sid = message.payload["sid"].as_str().map(str::to_owned);
                actor.is_in = true;
                actor.stay(EVERYONE).joined = Some(moment);
            }
            '1' => {
                assert!(self.may_be_kicked(id), "client {id} was thrown out, and by whom?");
                let actor = &mut self.actors[id];
                actor.end_stays(moment);
                (actor.is_in, actor.has_left) = (false, true);
                actor.forget_answers();
            }
            '2' if message.payload[0] == "news" => self.read_news(id, &message.payload[1]),
            '3' => self.read_ack(id, message, moment),
            _ => panic!("client {id} got {message:?}"),
        }
    }

    fn read_ack(&mut self, id: usize, message: &Message, moment: usize) {
        let Some(place) = self.actors[id].acks.iter().position(|(ack, _)| Some(*ack) == message.id) else {
            assert!(self.actors[id].has_lost_answers, "client {id} got {message:?}");
            return;
        };
        let (_, expected) = self.actors[id].acks.remove(place).expect("it is there");
        match expected {
            Expected::Answer(value) => assert_eq!(message.payload, value),
            Expected::Join(room) => {
                if let Some(stay) = self.actors[id].stays.get_mut(room).and_then(|stays| stays.last_mut()) {
                    stay.joined = Some(moment);
                }
            }
            Expected::Leave(room) => {
                let stays = self.actors[id].stays.entry(room).or_default();
                if let Some(stay) = stays.iter_mut().find(|stay| stay.left.is_none()) {
                    stay.left = Some(moment);
                }
            }
            Expected::Publish(index) => self.published[index].is_acknowledged = true,
            Expected::Members(_, least) => self.check_count(id, least, &message.payload),
            other => panic!("client {id} did not ask for {other:?}"),
        }
    }

    fn read_news(&mut self, id: usize, message: &Value) {
        let publisher = Publisher::of_number(message[0].as_u64().expect("a publisher") as usize);
        let sequence = message[1].as_u64().expect("a sequence");
        let index =
            self.published.iter().position(|one| one.publisher == publisher && one.sequence == sequence);
        let index = index.expect("somebody published it");
        let published = &self.published[index];
        let actor = &self.actors[id];
        assert_eq!(actor.place, published.place, "client {id} heard another namespace: {published:?}");
        let is_possible = match &published.to {
            Some((to, _)) => *to == id,
            None => published.rooms.iter().any(|room| !actor.is_surely_out(room, published.sent)),
        };
        assert!(is_possible, "client {id} was out of {published:?}: {:?}", actor.stays);
        let is_excepted = published.except.is_some_and(|room| actor.is_surely_in(room, published.sent));
        assert!(!is_excepted, "client {id} was excepted from {published:?}");
        assert!(published.includes_publisher || publisher.client != id, "{published:?} came back");
        let actor = &mut self.actors[id];
        let heard = actor.heard.insert(publisher, sequence);
        assert!(heard < Some(sequence), "client {id} heard {heard:?} before {published:?}");
        actor.seen.push(index);
    }

    /// Who is thrown out while its events are under way speaks out of turn, and its connection is closed.
    fn give_up_the_thrown_out(&mut self) {
        for id in 0..self.actors.len() {
            if self.client(id).is_over && self.may_be_kicked(id) {
                self.go(id);
            }
        }
    }

    fn check(&mut self) {
        let mut crossed = 0;
        for (id, actor) in self.actors.iter().enumerate().filter(|(_, actor)| !actor.is_gone) {
            let (node, number) = self.places[id];
            let client = &self.fleet.nodes[node].simulation.clients[number];
            assert!(!client.is_over && client.refusals.is_empty(), "client {id}: {:?}", client.refusals);
            if !actor.has_left {
                assert!(actor.is_in, "client {id} is not let in");
                assert!(actor.acks.is_empty(), "client {id} waits for {:?}", actor.acks);
            }
            for (index, published) in self.published.iter().enumerate().filter(|(_, one)| one.is_acknowledged)
            {
                let must_hear = self.must_hear(id, published);
                assert!(!must_hear || actor.seen.contains(&index), "client {id} missed {published:?}");
                crossed += usize::from(must_hear && self.places[published.publisher.client].0 != node);
            }
        }
        self.crossed = self.crossed.max(crossed);
    }

    fn must_hear(&self, id: usize, published: &Published) -> bool {
        let actor = &self.actors[id];
        let is_meant = |(to, sid): &(usize, String)| {
            *to == id && actor.sid.as_ref() == Some(sid) && actor.is_surely_in(EVERYONE, published.sent)
        };
        let (from, to) = (self.places[published.publisher.client].0, self.places[id].0);
        let sent = self.moments[published.sent];
        let steady = |time: Time| from == to || time + STEADY <= sent;
        // A member is heard of in other processes a moment after it has joined.
        let is_heard_of = |room: &str| {
            let last = actor.stays.get(room).and_then(|stays| stays.last());
            last.and_then(|stay| stay.joined).is_some_and(|joined| steady(self.moments[joined]))
        };
        let is_in =
            published.rooms.iter().any(|room| actor.is_surely_in(room, published.sent) && is_heard_of(room))
                || published.to.as_ref().is_some_and(is_meant);
        let is_out = published.except.is_some_and(|room| !actor.is_surely_out(room, published.sent));
        let is_own = !published.includes_publisher && published.publisher.client == id;
        let is_connected = [from, to].iter().all(|node| steady(self.fleet.nodes[*node].disturbed));
        published.place == actor.place && is_in && !is_out && !is_own && is_connected
    }

    /// Somebody of each place asks how many there are.
    fn check_counts(&mut self) {
        for place in (0..PLACES.len()).filter(|place| PLACES[*place].1 == "/") {
            let is_there = |actor: &Actor| actor.is_in && actor.place == place;
            let least = self.actors.iter().filter(|actor| is_there(actor)).count();
            let Some(id) = self.actors.iter().position(is_there) else { continue };
            self.emit(id, &json!(["counts", "red"]), Expected::Members("red", least));
        }
        self.fleet.run(Duration::from_secs(4), TICK);
        self.read_all();
        let waiting: Vec<_> =
            self.actors.iter().filter(|actor| actor.is_in && !actor.acks.is_empty()).collect();
        assert!(waiting.is_empty(), "no answer to {waiting:?}");
    }

    /// Those who went without a word are still counted until their time is over.
    fn check_count(&self, id: usize, least: usize, answer: &Value) {
        let place = self.actors[id].place;
        let most = self.actors.iter().filter(|actor| actor.place == place).count();
        let count = answer[0].as_u64().expect("a number") as usize;
        assert!(
            (least..=most).contains(&count),
            "client {id} heard of {answer}, and there are {least} to {most}"
        );
    }

    /// What is not known of a client is made sure of, and those who have left come again.
    fn begin_anew(&mut self) {
        let moment = self.moment();
        for id in 0..self.actors.len() {
            let actor = &mut self.actors[id];
            if actor.is_gone {
                continue;
            }
            if std::mem::take(&mut actor.has_left) {
                actor.end_stays(moment);
                actor.forget_answers();
                self.enter(id);
                continue;
            }
            if self.may_be_kicked(id) {
                // It was not: it must be known again what it is in.
                let actor = &mut self.actors[id];
                actor.end_stays(moment);
                actor
                    .stays
                    .entry(EVERYONE)
                    .or_default()
                    .push(crate::simulation::model::Stay { joined: Some(moment), ..Default::default() });
                for room in ROOMS {
                    let stays = self.actors[id].stays.entry(room).or_default();
                    stays
                        .push(crate::simulation::model::Stay { leaving: Some(moment), ..Default::default() });
                    self.emit(id, &json!(["leave", room]), Expected::Leave(room));
                }
                continue;
            }
            for room in self.actors[id].unsure_rooms() {
                self.actors[id].begin_leaving_room(room, moment);
                self.emit(id, &json!(["leave", room]), Expected::Leave(room));
            }
        }
        self.kicked.clear();
        self.fleet.run(Duration::from_secs(1), TICK);
        self.read_all();
    }
}

/// Messages as another process may say them, about sockets that are there.
fn samples() -> Vec<Vec<u8>> {
    let mut event = Vec::new();
    frame_raw(&mut event, &[b"bytes"], |out| {
        encode_event_raw(out, "/", None, "news", "1,{\"a\":[{\"_placeholder\":true,\"num\":0}]}");
    });
    let namespace = Address::new(None, "/");
    let target = Target { rooms: ["red"].into_iter().collect(), ..Target::default() };
    let everybody = Target { is_everyone: true, ..Target::default() };
    let to = || To::new(&namespace, &target);
    let words = [
        Word::Emit { to: to(), frame: Raw(&event), id: None },
        Word::Emit { to: To::new(&namespace, &everybody), frame: Raw(&event), id: None },
        Word::Change { to: to(), change: ChangeWord::Join("green") },
        Word::Change { to: to(), change: ChangeWord::Leave("green") },
        Word::Ask {
            question: Asked { number: 1, by: [9; 3] },
            to: to(),
            ask: AskWord::Answers { frame: Raw(&event) },
            timeout_millis: 900,
        },
        Word::Ask {
            question: Asked { number: 2, by: [9; 3] },
            to: to(),
            ask: AskWord::Sockets,
            timeout_millis: 900,
        },
        Word::Ask {
            question: Asked { number: 3, by: [9; 3] },
            to: to(),
            ask: AskWord::Rooms,
            timeout_millis: u64::MAX,
        },
        Word::Ask {
            question: Asked { number: 4, by: [9; 3] },
            to: to(),
            ask: AskWord::Settled { change: ChangeWord::Leave("green"), sequence: 1 },
            timeout_millis: 900,
        },
        Word::Hello(Hello {
            name: "n",
            tag: [1; 3],
            started: 1,
            sockets: vec![(None, "/", 3)],
            is_new: true,
            have_moved: false,
        }),
    ];
    (1..)
        .zip(words)
        .map(|(sequence, word)| own::write(&Envelope { from: [77; 16], sequence, word }))
        .collect()
}

/// Whatever comes from the broker, no shard panics, and clients get frames that are whole: the client's codec insists on it.
#[test]
fn broken_messages_from_the_broker_break_no_wire() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let recovery = if random.chance(50) { Duration::from_secs(60) } else { Duration::ZERO };
        let config = Config {
            parser: Parser::Auto,
            permessage_deflate: random.chance(50),
            recovery_max_disconnection: recovery,
            ..Config::default()
        };
        let weather = Weather { shards: 2, config, is_cutting: true, ..Weather::default() };
        let mut fleet = Fleet::new(seed, 2, &weather, 0);
        for number in 0..6 {
            let habits = Habits {
                starts_with_websocket: number % 3 == 0,
                upgrades: number % 3 == 1,
                keeps_alive: true,
            };
            let simulation = &mut fleet.nodes[0].simulation;
            let id = simulation.open(habits);
            let client = &mut simulation.clients[id];
            client.tolerates_broken_json = true;
            client.speaks_msgpack = number % 2 == 1;
            client.enter();
            client.emit(Some(1), &json!(["join", "red"]));
        }
        fleet.run(Duration::from_secs(2), TICK);
        let samples = samples();
        for step in 0..1500_u64 {
            let mut bytes = samples[random.below(samples.len())].clone();
            // Each is a new message, of one of some senders.
            [bytes[3]] = random.bytes();
            bytes[19] = step as u8 & 0x7f;
            for _ in 0..random.below(4) {
                let place = 20 + random.below(bytes.len() - 20);
                let [byte] = random.bytes();
                bytes[place] = byte;
            }
            let channel =
                if random.chance(50) { Channel::All } else { Channel::Slot(random.below(1 << 16) as u16) };
            let delivery = Delivery { channel, body: Body::Bytes(Bytes::from(bytes)), offset: None };
            fleet.inject(0, &delivery);
            if random.chance(10) {
                fleet.run(TICK, TICK);
            }
        }
        fleet.run(Duration::from_secs(10), TICK);
        let simulation = &mut fleet.nodes[0].simulation;
        let got: Vec<_> = (0..6).flat_map(|id| simulation.take_received(id)).collect();
        assert_eq!(got.iter().filter(|message| message.kind == '0').count(), 6, "all were let in");
        let news = got.iter().filter(|message| message.payload[0] == "news").count();
        assert!(news > 50, "{news} events were whole");
    }
}
