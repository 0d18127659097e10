//! Situations of several processes that chance reaches too seldom, or looks at too loosely.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::json;

use crate::config::Config;
use crate::message::inquiry::AckError;
use crate::shard::user::gathering::Gathering;
use crate::simulation::client::Habits;
use crate::simulation::fleet::Fleet;
use crate::simulation::nodes::TICK;
use crate::simulation::world::Weather;

const WEBSOCKET: Habits = Habits { starts_with_websocket: true, upgrades: false, keeps_alive: true };

/// Longer than processes need to know each other and each other's rooms.
const A_WHILE: Duration = Duration::from_secs(3);

fn fleet(seed: u64, len: usize) -> Fleet {
    let config = Config { recovery_max_disconnection: Duration::from_secs(60), ..Config::default() };
    let mut fleet = Fleet::new(seed, len, &Weather { shards: 2, config, ..Weather::default() }, 20);
    fleet.run(A_WHILE, TICK);
    fleet
}

/// A client of a process, in the room `red`.
fn enter(fleet: &mut Fleet, node: usize) -> usize {
    let simulation = &mut fleet.nodes[node].simulation;
    let id = simulation.open(WEBSOCKET);
    simulation.clients[id].enter();
    simulation.clients[id].emit(None, &json!(["join", "red"]));
    fleet.run(A_WHILE, TICK);
    id
}

/// What is found out within a time, if it is.
fn wait<T: 'static>(
    fleet: &mut Fleet,
    mut gathering: Gathering<T>,
    time: Duration,
) -> Option<Result<T, AckError>> {
    let until = fleet.now + time;
    loop {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(found) = Pin::new(&mut gathering).poll(&mut context) {
            return Some(found);
        }
        if fleet.now >= until {
            return None;
        }
        fleet.run(TICK, TICK);
    }
}

#[test]
fn what_a_process_knows_itself_is_told_although_the_broker_hangs() {
    let mut fleet = fleet(1, 2);
    for node in 0..2 {
        enter(&mut fleet, node);
    }
    fleet.stall(0, Duration::from_secs(60));
    let handle = fleet.nodes[0].simulation.world.handle.clone();
    let late = ["all other processes: the message queue does not answer"];
    let ids = wait(&mut fleet, handle.to("/", "red").ids(), Duration::from_secs(6));
    let ids = ids.expect("it ends in time").expect("what is here is found");
    assert_eq!((ids.len(), ids.processes_missing()), (1, &late.map(str::to_owned)[..]));
    let time = Duration::from_secs(1);
    let question = handle.to("/", "red").emit_with_ack("question", 1).timeout(time);
    let answers = wait(&mut fleet, question, 3 * time).expect("it ends in time").expect("it was sent");
    let missing: Vec<&str> = answers.processes_missing.iter().map(String::as_str).collect();
    assert_eq!((answers.missing.len(), answers.shards_missing, missing), (1, 0, late.to_vec()));
}

#[test]
fn a_process_that_ends_is_missing_and_is_forgotten_within_seconds() {
    for says_so in [false, true] {
        let mut fleet = fleet(2, 3);
        for node in 0..3 {
            enter(&mut fleet, node);
        }
        fleet.end(2, says_so);
        // What it has said is on its way.
        fleet.run(10 * TICK, TICK);
        let handle = fleet.nodes[0].simulation.world.handle.clone();
        let rows: [(Duration, &[&str]); 2] =
            [(Duration::ZERO, if says_so { &[] } else { &["node 2"] }), (Duration::from_secs(5), &[])];
        for (after, missing) in rows {
            fleet.run(after, TICK);
            let ids = wait(&mut fleet, handle.to("/", "red").ids(), Duration::from_secs(6));
            let ids = ids.expect("it ends in time").expect("the others answer");
            assert_eq!(
                (ids.len(), ids.processes_missing()),
                (2, &missing.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..])
            );
        }
        assert_eq!(fleet.known(), [1, 1]);
    }
}

#[test]
fn a_process_that_starts_hears_and_is_heard() {
    let mut fleet = fleet(3, 2);
    let old = enter(&mut fleet, 0);
    let number = fleet.start();
    fleet.run(A_WHILE, TICK);
    let new = enter(&mut fleet, number);
    fleet.nodes[number].simulation.clients[new].emit(None, &json!(["to", ["red"], null, [1, 1, ""]]));
    fleet.nodes[0].simulation.clients[old].emit(None, &json!(["to", ["red"], null, [2, 1, ""]]));
    fleet.run(A_WHILE, TICK);
    for (node, id) in [(0, old), (number, new)] {
        let received = fleet.nodes[node].simulation.take_received(id);
        let mut news: Vec<_> = received
            .iter()
            .filter(|message| message.payload[0] == "news")
            .map(|message| message.payload[1][0].clone())
            .collect();
        news.sort_by_key(|publisher| publisher.as_u64());
        assert_eq!(news, [1, 2], "at {node}");
    }
    assert_eq!(fleet.known(), [2, 2, 2]);
}
