//! A broker that keeps messages: whatever becomes of the ways to it, nothing is lost, nothing comes twice, and the order of each who
//! speaks is kept. Clients stay where they are, in their rooms, so what each must get is known exactly.

use std::time::Duration;

use serde_json::json;

use crate::config::Config;
use crate::simulation::MAIN_PATH;
use crate::simulation::app::SECOND_PATH;
use crate::simulation::client::Habits;
use crate::simulation::fleet::Fleet;
use crate::simulation::nodes::{ROOMS, TICK};
use crate::simulation::world::{Random, Weather};

const SEEDS: u64 = 30;
const CLIENTS: usize = 8;
const EVENTS: u64 = 150;

/// Longer than everything takes that was held up, once all ways are open.
const A_WHILE: Duration = Duration::from_secs(8);

/// A client that stays.
struct Member {
    node: usize,
    number: usize,
    path: &'static str,
    rooms: Vec<&'static str>,
    /// What it must have heard in the end: who has said it, and its number.
    expected: Vec<(usize, u64)>,
}

fn enter(fleet: &mut Fleet, choice: &mut Random, node: usize) -> Member {
    let habits = Habits {
        starts_with_websocket: choice.chance(60),
        upgrades: choice.chance(50),
        keeps_alive: choice.chance(50),
    };
    let path = if choice.chance(30) { SECOND_PATH } else { MAIN_PATH };
    let rooms: Vec<&'static str> = ROOMS.into_iter().filter(|_| choice.chance(60)).collect();
    let simulation = &mut fleet.nodes[node].simulation;
    let number = simulation.open_at(path, habits);
    simulation.clients[number].enter();
    for room in &rooms {
        simulation.clients[number].emit(None, &json!(["join", room]));
    }
    Member { node, number, path, rooms, expected: Vec::new() }
}

/// Something goes wrong between the processes and the broker.
fn disturb(fleet: &mut Fleet, choice: &mut Random) {
    let node = choice.below(fleet.nodes.len());
    let time = Duration::from_millis(choice.below(6000) as u64);
    match choice.below(7) {
        0..3 => fleet.cut(node),
        3 => fleet.cut_off(node, time),
        4 => fleet.stall(node, time),
        5 => fleet.stop_broker(),
        _ => fleet.start_broker(),
    }
}

/// A client says something to everyone or to rooms, at its endpoint.
fn say(fleet: &mut Fleet, members: &mut [Member], choice: &mut Random, number: u64) {
    let speaker = choice.below(members.len());
    let rooms: Vec<&str> = match choice.below(4) {
        0 => Vec::new(),
        1 => vec![choice.pick(&ROOMS)],
        _ => vec![choice.pick(&ROOMS), choice.pick(&ROOMS)],
    };
    let message = json!([speaker, number, ""]);
    let event = match rooms.is_empty() {
        true => json!(["everyone", message]),
        false => json!(["to", rooms, null, message]),
    };
    let Member { node, number: client, path, .. } = members[speaker];
    fleet.nodes[node].simulation.clients[client].emit(None, &event);
    for member in members.iter_mut().filter(|member| member.path == path) {
        if rooms.is_empty() || rooms.iter().any(|room| member.rooms.contains(room)) {
            member.expected.push((speaker, number));
        }
    }
}

/// How many events were said while a process had no way to the broker.
fn run(seed: u64) -> usize {
    let mut choice = Random::new(seed ^ 0x6ee9);
    let recovery = if choice.chance(40) { Duration::from_secs(60) } else { Duration::ZERO };
    let weather = Weather {
        shards: 1 + choice.below(3),
        config: Config { recovery_max_disconnection: recovery, ..Config::default() },
        is_cutting: choice.chance(50),
        has_slow_mesh: choice.chance(30),
        interest_slots_max: choice.chance(30).then_some(2),
        ..Weather::default()
    };
    let (len, delay_max) = (2 + choice.below(2), choice.pick(&[0, 20, 150]));
    let mut fleet = Fleet::keeping(seed, len, &weather, delay_max);
    let mut members: Vec<Member> =
        (0..CLIENTS).map(|number| enter(&mut fleet, &mut choice, number % len)).collect();
    fleet.run(A_WHILE, TICK);
    let mut in_need = 0;
    for number in 0..EVENTS {
        if choice.chance(8) {
            disturb(&mut fleet, &mut choice);
        }
        say(&mut fleet, &mut members, &mut choice, number);
        in_need += usize::from(!fleet.is_whole());
        fleet.run(Duration::from_millis(choice.below(60) as u64), TICK);
    }
    fleet.heal();
    fleet.run(A_WHILE, TICK);
    for (id, member) in members.iter().enumerate() {
        let received = fleet.nodes[member.node].simulation.take_received(member.number);
        let news = received.iter().filter(|message| message.payload[0] == "news");
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        let heard: Vec<(usize, u64)> = news
            .map(|message| (number(&message.payload[1][0]) as usize, number(&message.payload[1][1])))
            .collect();
        for speaker in 0..CLIENTS {
            let of = |all: &[(usize, u64)]| -> Vec<u64> {
                all.iter().filter(|(from, _)| *from == speaker).map(|(_, number)| *number).collect()
            };
            assert_eq!(of(&heard), of(&member.expected), "seed {seed}: client {id} of client {speaker}");
        }
    }
    in_need
}

#[test]
fn a_broker_that_keeps_messages_loses_none_and_gives_none_twice() {
    let in_need: usize = (0..SEEDS).map(run).sum();
    assert!(in_need > EVENTS as usize * SEEDS as usize / 10, "{in_need} were said while a way was closed");
}
