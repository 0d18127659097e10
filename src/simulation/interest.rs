//! Which shards are told what is for a room, an id or several of them, and that nobody is forgotten where changes race.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::ids::{ShardId, Sid};
use crate::base::slab::Key;
use crate::config::Config;
use crate::mesh::ShardMessage;
use crate::message::address::Address;
use crate::message::recovery::{Asker, Offset, RecoveryMessage};
use crate::message::target::{Broadcast, Target};
use crate::shard::user::gathering::Gathering;
use crate::shard::value::encode::frame_event;
use crate::simulation::Simulation;
use crate::simulation::client::Habits;
use crate::simulation::world::Weather;

const WEBSOCKET: Habits = Habits { starts_with_websocket: true, upgrades: false, keeps_alive: true };

const A_MOMENT: Duration = Duration::from_millis(300);
const LONG_AFTER: Duration = Duration::from_secs(300);
const SHARDS: usize = 5;

/// One client on each of five shards, with the ids of their sockets.
struct Hall {
    simulation: Simulation,
    clients: [usize; SHARDS],
    sids: [String; SHARDS],
}

impl Hall {
    fn new() -> Hall {
        Hall::with(Weather::default())
    }

    fn with(weather: Weather) -> Hall {
        let mut simulation = Simulation::new(3, Weather { shards: SHARDS, ..weather });
        let mut found: [Option<(usize, String)>; SHARDS] = [const { None }; SHARDS];
        while found.iter().any(Option::is_none) {
            let (client, sid, shard) = connect(&mut simulation);
            found[shard].get_or_insert((client, sid));
        }
        let found = found.map(|one| one.expect("a client on each shard"));
        Hall { simulation, clients: found.clone().map(|one| one.0), sids: found.map(|one| one.1) }
    }

    /// The client on a shard says something; it is carried out there, and no other shard looks into its inbox.
    fn say(&mut self, shard: usize, event: &Value) {
        self.say_as(self.clients[shard], event);
    }

    fn say_as(&mut self, client: usize, event: &Value) {
        self.hold_mail(&[]);
        let Simulation { world, clients } = &mut self.simulation;
        clients[client].emit(Some(0), event);
        clients[client].drive(world);
        while self.simulation.step() {}
        let (answers, others): (Vec<_>, Vec<_>) =
            self.simulation.take_received(client).into_iter().partition(|message| message.kind == '3');
        assert_eq!(answers.len(), 1, "{event} is acknowledged: {others:?}");
        self.simulation.clients[client].received.extend(others);
    }

    /// Shards look into their inboxes no more, but for these.
    fn hold_mail(&mut self, but: &[usize]) {
        let never = self.simulation.world.now + LONG_AFTER;
        for shard in (0..SHARDS).filter(|shard| !but.contains(shard)) {
            self.simulation.world.hold_mail(shard, never);
        }
    }

    /// How many messages wait for each shard.
    fn waiting(&self) -> Vec<usize> {
        let mesh = &self.simulation.world.mesh;
        (0..SHARDS).map(|shard| mesh.waiting(ShardId(shard as u16))).collect()
    }

    /// All inboxes are read, and what is left of them goes to the clients.
    fn deliver(&mut self) {
        for shard in 0..SHARDS {
            let now = self.simulation.world.now;
            self.simulation.world.hold_mail(shard, now);
        }
        self.simulation.run(A_MOMENT);
    }

    /// What the clients have heard, by shard.
    fn heard(&mut self) -> [Vec<Value>; SHARDS] {
        self.clients.map(|id| self.heard_by(id))
    }

    fn heard_by(&mut self, id: usize) -> Vec<Value> {
        let received = self.simulation.take_received(id);
        let news = received.iter().filter(|one| one.kind == '2' && one.payload[0] == "news");
        news.map(|one| one.payload[1].clone()).collect()
    }

    fn end(mut self) {
        for client in &mut self.simulation.clients {
            client.drop_wires(&mut self.simulation.world, false);
        }
        self.deliver();
        self.simulation.run(LONG_AFTER);
        self.simulation.assert_empty();
    }
}

/// A new client, the id of its socket and the shard that it is on.
fn connect(simulation: &mut Simulation) -> (usize, String, usize) {
    let client = simulation.connect(WEBSOCKET);
    let (sid, shard) = whereabouts(simulation, client);
    (client, sid, shard)
}

fn whereabouts(simulation: &mut Simulation, client: usize) -> (String, usize) {
    simulation.clients[client].emit(Some(0), &json!(["id"]));
    simulation.run(A_MOMENT);
    let received = simulation.take_received(client);
    let answer = received.iter().find(|one| one.kind == '3').expect("an answer");
    let sid = answer.payload[0].as_str().expect("an id").to_owned();
    let parsed = Sid::parse(&sid).expect("an id");
    let is_here = |shard: &crate::shard::Shard| shard.has_socket(&parsed);
    let shard = simulation.world.shards.iter().position(is_here).expect("some shard has it");
    (sid, shard)
}

fn to(rooms: &[&str], message: &str) -> Value {
    json!(["to", rooms, null, message])
}

#[test]
fn a_room_is_told_where_it_has_members_and_nowhere_else() {
    let mut hall = Hall::new();
    hall.say(1, &json!(["join", "red"]));
    hall.say(3, &json!(["join", "red"]));
    hall.say(4, &json!(["join", "blue"]));
    hall.say(0, &to(&["red"], "one"));
    assert_eq!(hall.waiting(), [0, 1, 0, 1, 0]);
    hall.say(1, &to(&["red", "blue", "red"], "two"));
    assert_eq!(hall.waiting(), [0, 1, 0, 2, 1], "once each, and not to itself");
    hall.say(2, &to(&["nobody's"], "three"));
    hall.say(2, &to(&[], "four"));
    let handle = hall.simulation.world.handle.clone();
    handle.to("/", "blue").emit("news", "five");
    assert_eq!(hall.waiting(), [0, 1, 0, 2, 2]);
    hall.say(4, &json!(["everyone", "six"]));
    assert_eq!(hall.waiting(), [1, 2, 1, 3, 2], "a namespace is everybody's");
    hall.deliver();
    let heard = hall.heard();
    for (shard, expected) in
        [(0, &["six"][..]), (1, &["two", "one", "six"]), (2, &["six"]), (3, &["one", "two", "six"])]
    {
        assert_eq!(heard[shard], expected, "shard {shard}");
    }
    assert_eq!(heard[4], ["six", "two", "five"], "its own at once");
    hall.end();
}

#[test]
fn a_join_that_was_acknowledged_is_not_missed_on_any_pair_of_shards() {
    let mut hall = Hall::new();
    for member in 0..SHARDS {
        for other in 0..SHARDS {
            hall.say(member, &json!(["join", "red"]));
            hall.say(other, &to(&["red"], "here"));
            hall.deliver();
            assert_eq!(hall.heard()[member], ["here"], "{member} and {other}");
            hall.say(member, &json!(["leave", "red"]));
            hall.say(other, &to(&["red"], "gone"));
            assert_eq!(hall.waiting(), [0; SHARDS]);
        }
    }
    hall.end();
}

#[test]
fn a_last_leave_and_another_ones_join_leave_the_room_reachable() {
    for is_join_first in [false, true] {
        for slots in [None, Some(1)] {
            let mut hall = Hall::with(Weather { interest_slots_max: slots, ..Weather::default() });
            let (second, _, shard) = connect(&mut hall.simulation);
            hall.say(shard, &json!(["join", "red"]));
            if is_join_first {
                hall.say_as(second, &json!(["join", "red"]));
                hall.say(shard, &json!(["leave", "red"]));
            } else {
                hall.say(shard, &json!(["leave", "red"]));
                hall.say_as(second, &json!(["join", "red"]));
            }
            let other = (shard + 1) % SHARDS;
            hall.say(other, &to(&["red"], "news"));
            assert_eq!(hall.waiting()[shard], 1);
            hall.deliver();
            assert_eq!((hall.heard_by(second).len(), hall.heard()[shard].len()), (1, 0));
            hall.end();
        }
    }
}

#[test]
fn rooms_that_share_a_slot_cost_messages_and_lose_none() {
    let mut hall = Hall::with(Weather { interest_slots_max: Some(1), ..Weather::default() });
    hall.say(1, &json!(["join", "red"]));
    hall.say(1, &json!(["join", "green"]));
    hall.say(2, &json!(["join", "blue"]));
    hall.say(0, &to(&["red"], "one"));
    assert_eq!(hall.waiting(), [0, 1, 1, 0, 0], "shard 2 for nothing");
    hall.say(1, &json!(["leave", "red"]));
    hall.say(0, &to(&["green"], "two"));
    assert_eq!(hall.waiting(), [0, 2, 2, 0, 0]);
    hall.deliver();
    assert_eq!(hall.heard()[1], ["two"], "it has left the other room before");
    hall.say(1, &json!(["leave", "green"]));
    hall.say(0, &to(&["blue"], "three"));
    assert_eq!(hall.waiting(), [0, 0, 1, 0, 0]);
    hall.deliver();
    assert_eq!(hall.heard()[2], ["three"]);
    hall.end();
}

#[test]
fn who_is_put_into_a_room_from_afar_hears_what_is_said_there_next() {
    let mut hall = Hall::new();
    for shard in [1, 2, 3] {
        hall.say(shard, &json!(["join", "red"]));
    }
    // The command is on its way to shards 1, 2 and 3 when the event is published.
    hall.say(1, &json!(["move", "red", "hall", "from a handler"]));
    assert_eq!(hall.simulation.world.mesh.interest.announcements(), 1);
    let handle = hall.simulation.world.handle.clone();
    handle.to("/", "red").join("other hall");
    handle.to("/", "other hall").emit("news", "from outside");
    handle.to("/", "other hall").join("third hall");
    hall.say(4, &to(&["third hall"], "from a shard that knows"));
    hall.deliver();
    let heard = hall.heard();
    for shard in [1, 2, 3] {
        assert_eq!(heard[shard], ["from a handler", "from outside", "from a shard that knows"]);
    }
    assert_eq!((heard[0].len(), heard[4].len()), (0, 0));
    handle.to("/", "hall").emit("news", "all have left");
    handle.to("/", "third hall").emit("news", "and nobody else is told");
    assert_eq!(hall.waiting(), [0, 1, 1, 1, 0]);
    hall.end();
}

#[test]
fn an_announced_join_that_is_lost_is_forgotten() {
    let mut hall = Hall::new();
    hall.say(2, &json!(["join", "red"]));
    while hall.simulation.world.mesh.waiting(ShardId(2)) < crate::mesh::INBOX_MESSAGES_MAX {
        let trace = crate::mesh::ShardMessage::Trace { sid: Sid::new(ShardId(2), [1; 13]), is_on: false };
        assert!(hall.simulation.world.mesh.send(ShardId(2), trace).is_ok());
    }
    let handle = hall.simulation.world.handle.clone();
    handle.to("/", "red").join("hall");
    assert_eq!(hall.simulation.world.mesh.interest.announcements(), 0);
}

#[test]
fn an_id_is_told_where_it_names_and_a_room_of_that_name_too() {
    let mut hall = Hall::new();
    let sid = hall.sids[3].clone();
    hall.say(0, &to(&[&sid], "one"));
    assert_eq!(hall.waiting(), [0, 0, 0, 1, 0]);
    // Nothing keeps a user from naming a room like somebody's id.
    hall.say(1, &json!(["join", sid]));
    hall.say(0, &to(&[&sid, "nobody's"], "two"));
    assert_eq!(hall.waiting(), [0, 1, 0, 2, 0]);
    hall.deliver();
    let heard = hall.heard();
    assert_eq!((&heard[1], &heard[3]), (&vec![json!("two")], &vec![json!("one"), json!("two")]));
    hall.end();
}

/// A world with recovery, a client in `red` that has come back to another shard than the one it was lost on, and that shard.
fn returned(slots: Option<usize>) -> (Hall, usize, usize) {
    let config = Config { recovery_max_disconnection: LONG_AFTER / 2, ..Config::default() };
    let mut hall = Hall::with(Weather { config, interest_slots_max: slots, ..Weather::default() });
    let (client, sid, first) = connect(&mut hall.simulation);
    hall.say_as(client, &json!(["join", "red"]));
    loop {
        come_back(&mut hall, client);
        let (again, shard) = whereabouts(&mut hall.simulation, client);
        assert_eq!(again, sid, "it is the socket that it was");
        if shard != first {
            return (hall, client, shard);
        }
    }
}

/// The client loses its connection and comes back within a moment.
fn come_back(hall: &mut Hall, client: usize) {
    hall.deliver();
    let Simulation { world, clients } = &mut hall.simulation;
    clients[client].reconnect(WEBSOCKET, world, true);
    clients[client].enter();
    hall.simulation.run(A_MOMENT);
    let received = hall.simulation.take_received(client);
    assert!(received.iter().any(|message| message.kind == '0'), "it is let in at once: {received:?}");
}

#[test]
fn a_socket_that_came_back_to_another_shard_is_told_there_by_room_and_by_id() {
    for slots in [None, Some(1)] {
        let (mut hall, client, shard) = returned(slots);
        let (sid, _) = whereabouts(&mut hall.simulation, client);
        let other = (0..SHARDS).find(|other| *other != shard).expect("another shard");
        hall.say(other, &to(&[&sid], "by id"));
        hall.say(other, &to(&["red"], "by room"));
        assert_eq!(hall.waiting()[shard], 2);
        hall.deliver();
        assert_eq!(hall.heard_by(client), ["by id", "by room"]);
        // It comes back once more, to whichever shard: who keeps it is found although its private id names another.
        for _ in 0..6 {
            come_back(&mut hall, client);
            hall.say(other, &to(&[&sid, "red"], "again"));
            hall.deliver();
            assert_eq!(hall.heard_by(client), ["again"]);
        }
        hall.end();
    }
}

#[test]
fn a_client_comes_back_at_once_whatever_numbers_its_old_and_its_new_shard_do_not_get() {
    let config = Config { recovery_max_disconnection: LONG_AFTER / 2, ..Config::default() };
    for seed in 0..40 {
        let weather = Weather { config: config.clone(), has_slow_sends: seed % 2 == 0, ..Weather::default() };
        let mut hall = Hall::with(weather);
        let (client, _, _) = connect(&mut hall.simulation);
        hall.say_as(client, &json!(["join", "quiet"]));
        // Each shard has a room of its own, so each gets numbers that the others do not.
        for shard in 0..SHARDS {
            hall.say(shard, &json!(["join", format!("room {shard}")]));
        }
        for round in 0..4 {
            for (from, number) in (0..SHARDS).cycle().zip(0..20 + seed) {
                hall.say(from, &to(&[&format!("room {}", number % SHARDS)], "loud"));
            }
            // The first is on its way when the connection is lost, the second comes while the client is away.
            let news = |half: usize| format!("round {round}, {half}");
            hall.say((seed + round) % SHARDS, &to(&["quiet"], &news(1)));
            let Simulation { world, clients } = &mut hall.simulation;
            clients[client].reconnect(WEBSOCKET, world, seed % 3 == 0);
            hall.say((seed + round + 1) % SHARDS, &to(&["quiet"], &news(2)));
            hall.simulation.clients[client].enter();
            hall.deliver();
            let mut heard = hall.heard_by(client);
            heard.sort_by_key(ToString::to_string);
            assert_eq!(heard, [news(1), news(2)], "seed {seed}: each once, and none waited for");
        }
        hall.end();
    }
}

/// A client in `red` that was lost on one shard and has a connection to another, where it has not asked to be let in. No shard looks
/// into its inbox.
fn between_two(config: Config) -> (Hall, usize, [usize; 2]) {
    let config = Config { recovery_max_disconnection: LONG_AFTER / 2, ..config };
    let mut hall = Hall::with(Weather { config, ..Weather::default() });
    let (client, _, keeper) = connect(&mut hall.simulation);
    hall.say_as(client, &json!(["join", "red"]));
    hall.deliver();
    loop {
        let Simulation { world, clients } = &mut hall.simulation;
        clients[client].reconnect(WEBSOCKET, world, true);
        let shard = world.shard_of_last_wire();
        hall.deliver();
        if shard != keeper {
            hall.hold_mail(&[]);
            return (hall, client, [keeper, shard]);
        }
    }
}

impl Hall {
    /// A shard reads its inbox until it is empty.
    fn read_all(&mut self, shard: usize) {
        while self.waiting()[shard] > 0 {
            self.simulation.world.read_mail(shard);
        }
        while self.simulation.step() {}
    }

    /// The client asks to be let in, and its shard asks others.
    fn enter(&mut self, client: usize) {
        let Simulation { world, clients } = &mut self.simulation;
        clients[client].enter();
        clients[client].drive(world);
        while self.simulation.step() {}
    }

    /// A shard that is none of these.
    fn but(shards: &[usize]) -> usize {
        (0..SHARDS).find(|shard| !shards.contains(shard)).expect("there are more")
    }
}

#[test]
fn who_asks_no_more_does_not_have_a_socket_given_to_the_next_who_asks() {
    let (mut hall, client, [keeper, shard]) = between_two(Config::default());
    let speaker = Hall::but(&[keeper, shard]);
    let pid = hall.simulation.clients[client].pid.clone().expect("it was told");
    let pid = Sid::parse(&pid).expect("an id");
    let mesh = Arc::clone(&hall.simulation.world.mesh);
    // It waits for the speaker's next event, and gives up before.
    let asker =
        Asker { node: None, shard: ShardId(speaker as u16), socket: Key { index: 9999, generation: 9 } };
    let mut seen = mesh.published.begun();
    seen[speaker] += 1;
    let namespace = Address::new(None, "/");
    for message in [
        RecoveryMessage::Ask { pid, namespace, offset: None, asker },
        RecoveryMessage::GiveUp { pid, asker, namespace: None, seen },
    ] {
        assert!(mesh.send(ShardId(keeper as u16), ShardMessage::Recovery(Box::new(message))).is_ok());
    }
    // There is no such asker, so the keeper is told that it is free.
    [keeper, speaker, keeper].into_iter().for_each(|shard| hall.read_all(shard));
    hall.enter(client);
    hall.read_all(keeper);
    hall.say(speaker, &to(&["red"], "one"));
    hall.read_all(keeper);
    hall.say(Hall::but(&[keeper, shard, speaker]), &to(&["red"], "two"));
    hall.deliver();
    assert_eq!(hall.heard_by(client), ["one", "two"]);
    hall.end();
}

#[test]
fn an_event_that_is_long_on_its_way_to_one_of_two_shards_comes_once() {
    for (wait, is_cut) in
        [(Duration::ZERO, false), (A_MOMENT, true), (LONG_AFTER / 10, false), (LONG_AFTER / 10, true)]
    {
        let (mut hall, client, [keeper, shard]) = between_two(Config::default());
        let origin = ShardId(Hall::but(&[keeper, shard]) as u16);
        let mesh = Arc::clone(&hall.simulation.world.mesh);
        let offset = Offset {
            node: None,
            origin,
            number: mesh.published.begun()[origin.index()] + 1,
            is_local: false,
        };
        let mut frame = Vec::new();
        frame_event(&mut frame, "/", None, "news", &("late", offset.to_string())).expect("it is JSON");
        let target = Target { rooms: ["red"].into_iter().collect(), ..Target::default() };
        let namespace = Address::new(None, "/");
        let broadcast = Arc::new(Broadcast {
            namespace,
            target,
            frame: Arc::new(frame),
            offset: Some(offset),
            ..Broadcast::default()
        });
        let send = |shard| mesh.send(shard, ShardMessage::Broadcast(Arc::clone(&broadcast)));
        mesh.published.begin(origin, offset.number);
        assert!(send(ShardId(keeper as u16)).is_ok());
        hall.enter(client);
        hall.deliver();
        hall.simulation.run(wait);
        if is_cut {
            let Simulation { world, clients } = &mut hall.simulation;
            clients[client].drop_wires(world, true);
            hall.simulation.run(A_MOMENT);
        }
        assert!(send(ShardId(shard as u16)).is_ok());
        mesh.published.finish(origin, offset.number);
        hall.deliver();
        if is_cut {
            let Simulation { world, clients } = &mut hall.simulation;
            clients[client].reconnect(WEBSOCKET, world, true);
            hall.enter(client);
            hall.deliver();
        }
        assert_eq!(hall.heard_by(client), ["late"], "after {wait:?}, cut: {is_cut}");
        hall.end();
    }
}

#[test]
fn more_than_is_kept_while_a_keeper_stands_still_doubles_nothing() {
    let (mut hall, client, [keeper, shard]) =
        between_two(Config { recovery_events_max: 4, ..Config::default() });
    // The keeper does not get this one's number, so it waits for a later one.
    hall.say(Hall::but(&[keeper, shard]), &to(&["nobody's"], "not for them"));
    hall.enter(client);
    hall.read_all(keeper);
    hall.read_all(shard);
    hall.say(Hall::but(&[keeper, shard]), &to(&["red"], "both have it"));
    hall.read_all(shard);
    hall.read_all(keeper);
    for number in 0..6 {
        hall.say(shard, &to(&["red"], &number.to_string()));
    }
    hall.deliver();
    let mut heard: Vec<String> =
        hall.heard_by(client).iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect();
    heard.sort();
    assert_eq!(heard, ["0", "1", "2", "3", "4", "5", "both have it"]);
    hall.end();
}

#[test]
fn a_question_is_for_those_who_may_know() {
    let mut hall = Hall::new();
    for shard in [1, 4] {
        hall.say(shard, &json!(["join", "red"]));
    }
    let handle = hall.simulation.world.handle.clone();
    let home = hall.simulation.world.mesh.asking_shard().index();
    let mut count = handle.to("/", "red").count();
    let mut nobody = handle.to("/", "nobody's").count();
    let mut everybody = handle.sockets("/").count();
    for question in [&mut count, &mut nobody, &mut everybody] {
        assert!(poll(question).is_pending());
    }
    hall.hold_mail(&[home]);
    let now = hall.simulation.world.now;
    hall.simulation.world.hold_mail(home, now);
    while hall.simulation.step() {}
    let asked: Vec<usize> = (0..SHARDS).map(|shard| 1 + usize::from([1, 4].contains(&shard))).collect();
    for (shard, waiting) in hall.waiting().into_iter().enumerate().filter(|(shard, _)| *shard != home) {
        assert_eq!(waiting, asked[shard], "shard {shard}");
    }
    assert_eq!(poll(&mut nobody), Poll::Ready(Ok(0_u64.into())), "no other shard was waited for");
    hall.deliver();
    assert_eq!(
        (poll(&mut count), poll(&mut everybody)),
        (Poll::Ready(Ok(2_u64.into())), Poll::Ready(Ok((hall.simulation.clients.len() as u64).into())))
    );
    hall.end();
}

fn poll<T>(gathering: &mut Gathering<T>) -> Poll<Result<T, crate::message::inquiry::AckError>> {
    Pin::new(gathering).poll(&mut Context::from_waker(Waker::noop()))
}
