//! Random clients against the model: rooms, order, acknowledgements, and nothing left behind.
//!
//! A member that surely was in a room throughout must get a message; one that surely was out must not; what lies
//! between may go either way, but once at most and in the publisher's order. Clients talk to two endpoints, lose their
//! connections and come back, are thrown out, watch a state room, half-close, and meet shards that are slow to read
//! their inboxes. Where inboxes are too small, messages are lost, and only what must never happen is checked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Config, Parser};
use crate::simulation::app::{SECOND_PATH, app_at_two_endpoints};
use crate::simulation::client::{Habits, Message, Packet};
use crate::simulation::model::{Actor, EVERYONE, Expected, Kick, Published, Publisher, Put, Stay};
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
const OPERATIONS_PER_ROUND: usize = 120;
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
    actors: Vec<Actor>,
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
    let config = Config {
        parser: Parser::Auto,
        permessage_deflate: choice.chance(60),
        compression_threshold: 1 + choice.below(100),
        recovery_max_disconnection: if choice.chance(60) { RECOVERY_TIME } else { Duration::ZERO },
        recovery_events_max: 10_000,
        recovery_bytes_max: 16 * 1024 * 1024,
        ..Config::default()
    };
    let options = config.engine.clone();
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
    let simulation = Simulation::with(seed, weather, move |shard| app_at_two_endpoints(shard, &options));
    let mut scenario = Scenario {
        simulation,
        actors: Vec::new(),
        published: Vec::new(),
        kicks: Vec::new(),
        closed: Vec::new(),
        puts: Vec::new(),
        choice,
    };
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
        if self.is_lossy() {
            self.give_up_the_broken();
        } else {
            self.check_round();
            self.check_boards();
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

    /// One client does something, if it is in a state to.
    fn act(&mut self, id: usize) {
        if self.actors[id].is_returning && self.choice.chance(2) {
            return self.lose_connection(id);
        }
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
                let name = ["slow", "quick", "kept", "beside"][self.choice.below(4)];
                let number = self.choice.below(1000);
                let (value, answer) = (json!([name, number, self.choice.below(200)]), json!([number]));
                let is_in_order = matches!(name, "slow" | "quick");
                let expected = if is_in_order { Expected::Answer(answer) } else { Expected::Beside(answer) };
                self.emit(id, &value, expected);
            }
            80..86 => {
                self.actors[id].asked += 1;
                let question = json!(["ask", self.choice.below(1000)]);
                self.emit(id, &question, Expected::Answer(json!([])));
            }
            86..89 => self.send_blob(id),
            89..91 => self.put(id),
            91 => self.watch(id),
            92 if !self.is_lossy() => self.ask_who_is_in(id),
            92..94 => self.stall(id),
            94 => self.close_room(id),
            95 if self.choice.chance(30) => self.kick(id),
            96 if self.choice.chance(50) => self.speak_from_outside(id),
            95..97 => self.lose_connection(id),
            97 => self.leave_namespace(id),
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
        let kind = self.choice.below(12);
        let rooms: Vec<&'static str> = match kind {
            0 | 1 => vec![EVERYONE],
            2..6 | 10 => vec![self.choice.pick(&ROOMS)],
            6..10 => vec![self.choice.pick(&ROOMS), self.choice.pick(&ROOMS)],
            _ => Vec::new(),
        };
        let to = if kind == 11 { self.choose_socket(self.actors[id].place) } else { None };
        let except = ((4..10).contains(&kind) && self.choice.chance(30)).then(|| self.choice.pick(&ROOMS));
        let padding = "p".repeat(if self.choice.chance(10) { self.choice.below(5000) } else { 0 });
        self.actors[id].sequence += 1;
        let sequence = self.actors[id].sequence;
        let publisher = Publisher { client: id, life: self.actors[id].life };
        let message = json!([publisher.number(), sequence, padding]);
        let event = match kind {
            0 => json!(["others", message]),
            1 => json!(["everyone", message]),
            10 if self.may_move() => {
                json!(["move", rooms[0], format!("hall {}", publisher.number()), message])
            }
            11 => json!(["to", to.iter().map(|(_, sid)| sid).collect::<Vec<_>>(), except, message]),
            _ => json!(["to", rooms, except, message]),
        };
        let sent = self.moment();
        let index = self.published.len();
        let includes_publisher = kind != 0;
        self.published.push(Published {
            publisher,
            place: self.actors[id].place,
            sequence,
            sent,
            rooms,
            to,
            except,
            includes_publisher,
            is_acknowledged: false,
        });
        self.emit(id, &event, Expected::Publish(index));
    }

    /// Whether sockets can be moved from room to room from afar so that each step surely follows the other: not where a socket
    /// changes its shard meanwhile, nor where messages are lost.
    fn may_move(&self) -> bool {
        self.simulation.world.weather().config.recovery_max_disconnection.is_zero() && !self.is_lossy()
    }

    /// A client of a place, with the id of its socket.
    fn choose_socket(&mut self, place: usize) -> Option<(usize, String)> {
        let id = self.choice.below(self.actors.len());
        let sid = self.actors[id].sid.clone().filter(|_| self.actors[id].place == place)?;
        Some((id, sid))
    }

    fn ask_who_is_in(&mut self, id: usize) {
        let (room, sent) = (self.choice.pick(&ROOMS), self.moment());
        self.emit(id, &json!(["members", room]), Expected::Members(room, sent));
    }

    /// An answer to who is in a room names all who surely are, and none who surely is not.
    fn check_members(&self, id: usize, room: &str, sent: usize, answer: &Value) {
        let place = self.actors[id].place;
        let is_closed = self.closed.contains(&(place, room));
        for (other, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.place == place) {
            let Some(sid) = &actor.sid else { continue };
            let is_named = answer[0].as_array().is_some_and(|ids| ids.iter().any(|id| id == sid));
            let is_right = actor.is_rightly_told(room, sent, is_named) || (is_closed && !is_named);
            assert!(is_right, "client {id} heard of {room}: {answer}, and client {other} is {actor:?}");
        }
    }

    fn put(&mut self, id: usize) {
        let (key, sent, place) = (self.choice.pick(&KEYS), self.moment(), self.actors[id].place);
        if PLACES[place].1 == "/" {
            let number = self.puts.len() as u64;
            self.puts.push(Put { place, key, sent, done: None });
            self.emit(id, &json!(["put", key, number]), Expected::Put(number));
        }
    }

    fn watch(&mut self, id: usize) {
        if PLACES[self.actors[id].place].1 == "/" {
            self.emit(id, &json!(["watch"]), Expected::Watch);
        }
    }

    /// Everybody leaves a room, or perhaps joins it just afterwards.
    fn close_room(&mut self, id: usize) {
        let room = self.choice.pick(&ROOMS);
        self.closed.push((self.actors[id].place, room));
        self.emit(id, &json!(["close_room", room]), Expected::Answer(json!([])));
    }

    /// The members of a room are thrown out of the namespace.
    fn kick(&mut self, id: usize) {
        let (room, place) = (self.choice.pick(&ROOMS), self.actors[id].place);
        self.expect_kick(place, room, Vec::new());
        self.emit(id, &json!(["kick", room]), Expected::Answer(json!([])));
    }

    fn expect_kick(&mut self, place: usize, room: &'static str, warned: Vec<(Publisher, usize)>) {
        let sent = self.moment();
        self.kicks.push(Kick { place, room, sent, warned });
        for actor in self.actors.iter_mut().filter(|actor| actor.place == place) {
            if !actor.is_surely_out(room, sent) {
                actor.begin_leaving(sent);
                actor.must_be_recovered = false;
            }
        }
    }

    /// Another thread says something to a room, and now and then has its members thrown out after it.
    fn speak_from_outside(&mut self, id: usize) {
        let (room, place, sent) = (self.choice.pick(&ROOMS), self.actors[id].place, self.moment());
        let (path, namespace) = PLACES[place];
        let publisher = Publisher { client: OUTSIDE, life: place };
        let index = self.published.len();
        self.published.push(Published {
            publisher,
            place,
            sequence: index as u64 + 1,
            sent,
            rooms: vec![room],
            to: None,
            except: None,
            includes_publisher: true,
            is_acknowledged: true,
        });
        let handle = self.simulation.world.handle.endpoint(path);
        handle.to(namespace, room).emit("news", json!([publisher.number(), index + 1, ""]));
        if self.choice.chance(30) {
            handle.to(namespace, room).disconnect();
            let warned = (0..self.actors.len())
                .filter(|&id| {
                    self.actors[id].place == place
                        && self.actors[id].is_in
                        && self.is_surely_in(id, room, sent)
                })
                .map(|id| (Publisher { client: id, life: self.actors[id].life }, index))
                .collect();
            self.expect_kick(place, room, warned);
        }
    }

    /// The client was in the room from `from` until now.
    fn is_surely_in(&self, id: usize, room: &str, from: usize) -> bool {
        let actor = &self.actors[id];
        let is_closed = self.closed.iter().any(|(place, closed)| (*place, *closed) == (actor.place, room));
        !is_closed && actor.is_surely_in(room, from)
    }

    fn may_be_kicked(&self, id: usize) -> bool {
        let actor = &self.actors[id];
        self.kicks.iter().any(|kick| kick.place == actor.place && !actor.is_surely_out(kick.room, kick.sent))
    }

    /// The client's connection is lost, and it comes back at once.
    fn lose_connection(&mut self, id: usize) {
        let has_claim = self.simulation.clients[id].pid.is_some();
        let must_be_recovered = has_claim && self.actors[id].is_in && !self.may_be_kicked(id);
        let habits = self.habits();
        let is_reset = self.choice.chance(50);
        let actor = &mut self.actors[id];
        actor.must_be_recovered = must_be_recovered;
        actor.has_rival |= actor.is_returning;
        actor.is_in = false;
        actor.is_returning = true;
        actor.life += 1;
        actor.forget_answers();
        let Simulation { world, clients } = &mut self.simulation;
        clients[id].reconnect(habits, world, is_reset);
        clients[id].enter();
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
        actor.has_lost_answers = true;
        self.simulation.clients[id].send("1", &[]);
    }

    /// The server says that the socket is over.
    fn thrown_out(&mut self, id: usize, moment: usize) {
        assert!(self.may_be_kicked(id), "client {id} was thrown out, and by whom?");
        let own = Publisher { client: id, life: self.actors[id].life };
        for (_, index) in self.kicks.iter().flat_map(|kick| &kick.warned).filter(|(warned, _)| *warned == own)
        {
            let has_heard = self.actors[id].seen.contains(index);
            assert!(has_heard || self.is_lossy(), "client {id} left before {:?}", self.published[*index]);
        }
        let actor = &mut self.actors[id];
        actor.end_stays(moment);
        actor.is_in = false;
        actor.is_returning = false;
        actor.has_left = true;
        actor.forget_answers();
    }

    /// The client goes away for good, in one of the ways that clients do.
    fn go(&mut self, id: usize) {
        self.expect_nothing(id);
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

    fn expect_nothing(&mut self, id: usize) {
        let moment = self.moment();
        let actor = &mut self.actors[id];
        actor.begin_leaving(moment);
        actor.is_in = false;
        actor.is_returning = false;
        actor.is_gone = true;
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
            '0' => self.let_in(id, message, moment),
            // Who is thrown out before it is let in is refused.
            '1' | '4' => self.thrown_out(id, moment),
            '3' | '6' => self.read_ack(id, message, moment),
            '2' => match message.payload[0].as_str() {
                Some("news") => self.read_news(id, &message.payload[1]),
                Some("board") => self.read_board(id, &message.payload),
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

    /// CONNECT is answered: the client is a new socket, or the one that it was.
    fn let_in(&mut self, id: usize, message: &Message, moment: usize) {
        let is_lossy = self.is_lossy();
        let actor = &mut self.actors[id];
        let sid = message.payload["sid"].as_str().expect("a socket's id").to_owned();
        let is_same = actor.sid.as_ref() == Some(&sid);
        let must_be_same = std::mem::take(&mut actor.must_be_recovered) && !is_lossy;
        assert!(is_same || !must_be_same, "client {id} is not the socket that it was");
        if actor.is_returning && !is_same {
            actor.end_stays(moment);
            actor.stays.entry(EVERYONE).or_default().push(Stay::default());
        }
        if !is_same {
            actor.stay(EVERYONE).joined = Some(moment);
            // What the old socket has heard may reach the new one late, by another shard.
            actor.heard.clear();
        }
        actor.sid = Some(sid);
        actor.connected = moment;
        actor.is_in = true;
        actor.is_returning = false;
    }

    /// The state room's values: all of them, or those that have changed.
    fn read_board(&mut self, id: usize, payload: &Value) {
        let actor = &mut self.actors[id];
        if payload[2] == true {
            actor.board.clear();
        }
        for (key, value) in payload[1].as_object().expect("values by their keys") {
            let put = &self.puts[value.as_u64().expect("a number") as usize];
            assert_eq!((put.place, put.key), (actor.place, key.as_str()), "client {id} sees another room");
            actor.board.insert(key.clone(), value.clone());
        }
    }

    fn read_ack(&mut self, id: usize, message: &Message, moment: usize) {
        let acks = &mut self.actors[id].acks;
        let place = acks.iter().position(|(ack, _)| Some(*ack) == message.id);
        let place = place.expect("an acknowledgement was asked for");
        // What is answered beside others holds up nothing, and waits itself for what is answered in order.
        let is_next = acks.iter().take(place).all(|(_, expected)| matches!(expected, Expected::Beside(_)));
        assert!(
            is_next,
            "client {id}: acknowledgements come in the order of the events: {message:?}, {acks:?}"
        );
        let (_, expected) = acks.remove(place).expect("it was just found");
        match expected {
            Expected::Answer(answer) | Expected::Beside(answer) => assert_eq!(message.payload, answer),
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
            Expected::Put(number) => self.puts[number as usize].done = Some(moment),
            Expected::Watch => self.actors[id].watches = true,
            Expected::Members(room, sent) => self.check_members(id, room, sent, &message.payload),
            #[cfg(feature = "bus")]
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
        let is_excepted = published.except.is_some_and(|room| self.is_surely_in(id, room, published.sent));
        assert!(!is_excepted, "client {id} was excepted from {published:?}");
        let is_own = publisher == Publisher { client: id, life: actor.life };
        assert!(published.includes_publisher || !is_own, "{published:?} came back");
        let actor = &mut self.actors[id];
        let heard = actor.heard.insert(publisher, sequence);
        assert!(heard < Some(sequence), "client {id} heard {heard:?} before {published:?}");
        actor.seen.push(index);
    }

    /// Everything has come to rest: whoever surely was there has everything.
    fn check_round(&mut self) {
        for id in 0..self.actors.len() {
            if self.actors[id].is_gone {
                continue;
            }
            let client = &self.simulation.clients[id];
            // Who is thrown out while its events are under way speaks out of turn, and its connection is closed. Who lost
            // two connections in a row may have a late claim from the first take its socket from it.
            if client.is_over && (self.may_be_kicked(id) || self.actors[id].has_rival) {
                self.give_up(id);
                continue;
            }
            let actor = &self.actors[id];
            assert!(!client.is_over, "client {id} lost its session: {:?}", client.refusals);
            assert!(client.refusals.is_empty(), "client {id} was refused: {:?}", client.refusals);
            assert!(client.is_flushed(), "client {id} could not send everything: {client:?}");
            if !actor.has_left {
                assert!(actor.is_in, "client {id} is not let in");
                assert!(actor.acks.is_empty(), "client {id} waits for {:?}", actor.acks);
                let has_all = actor.has_lost_answers || actor.asked == actor.answered;
                assert!(has_all, "client {id} asked {} and got {}", actor.asked, actor.answered);
            }
            self.check_published(id);
        }
    }

    fn check_published(&self, id: usize) {
        let actor = &self.actors[id];
        for (index, published) in self.published.iter().enumerate().filter(|(_, one)| one.is_acknowledged) {
            let is_meant = |(to, sid): &(usize, String)| {
                *to == id && actor.sid.as_ref() == Some(sid) && actor.is_surely_in(EVERYONE, published.sent)
            };
            let is_in = published.rooms.iter().any(|room| self.is_surely_in(id, room, published.sent))
                || published.to.as_ref().is_some_and(is_meant);
            let is_out = published.except.is_some_and(|room| !actor.is_surely_out(room, published.sent));
            let is_own = !published.includes_publisher && published.publisher.client == id;
            let is_here = published.place == actor.place;
            if is_here && is_in && !is_out && !is_own {
                assert!(actor.seen.contains(&index), "client {id} missed {published:?}");
            }
        }
    }

    /// Whoever watches a state room shows its values: of each key the last that was put, where it is known which was.
    fn check_boards(&self) {
        for (id, actor) in self.actors.iter().enumerate().filter(|(_, actor)| actor.is_in && actor.watches) {
            for other in self.actors.iter().filter(|other| other.is_in && other.watches) {
                assert!(
                    other.place != actor.place || other.board == actor.board,
                    "client {id} shows other values"
                );
            }
            for key in KEYS {
                let puts =
                    || (0..).zip(&self.puts).filter(|(_, put)| put.place == actor.place && put.key == key);
                let last = puts().max_by_key(|(_, put)| put.sent);
                let is_last = |sent| {
                    puts().all(|(_, put)| put.sent == sent || put.done.is_some_and(|done| done < sent))
                };
                if let Some((number, put)) = last.filter(|(_, put)| put.done.is_some() && is_last(put.sent)) {
                    assert_eq!(actor.board.get(key), Some(&json!(number)), "client {id} misses {put:?}");
                }
            }
        }
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
