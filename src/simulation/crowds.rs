//! More than a shard can do at once: who is here goes first, and who comes meanwhile is told to come later.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Config;
use crate::simulation::Simulation;
use crate::simulation::client::Habits;
use crate::simulation::world::Weather;

const WEBSOCKET: Habits = Habits { starts_with_websocket: true, upgrades: false, keeps_alive: true };
const POLLING: Habits = Habits { starts_with_websocket: false, upgrades: false, keeps_alive: true };

/// How long each step of a shard that has too much to do takes.
const STEP: Duration = Duration::from_millis(40);

const EVENTS: u64 = 150;

fn simulation(seed: u64, lag_max: Duration) -> Simulation {
    let config = Config { lag_max, ..Config::default() };
    Simulation::new(seed, Weather { config, is_cutting: true, ..Weather::default() })
}

/// Lets things happen, and nobody's time pass, until a client has heard something or there is nothing to do.
fn hear(simulation: &mut Simulation, id: usize) -> Vec<String> {
    for _ in 0..200 {
        simulation.drive_all();
        if !simulation.step() || !simulation.clients[id].refusals.is_empty() {
            break;
        }
    }
    std::mem::take(&mut simulation.clients[id].refusals)
}

#[test]
fn newcomers_wait_while_what_clients_have_sent_waits_for_too_long() {
    for seed in 0..20 {
        let lag_max = Duration::from_millis(if seed % 5 == 0 { 0 } else { 500 });
        let mut simulation = simulation(seed, lag_max);
        let here: Vec<usize> = [WEBSOCKET, POLLING, WEBSOCKET, WEBSOCKET, WEBSOCKET, WEBSOCKET]
            .into_iter()
            .map(|habits| simulation.connect(habits))
            .collect();
        for &id in &here {
            (0..EVENTS)
                .for_each(|number| simulation.clients[id].emit(Some(number), &json!(["echo", number])));
        }
        for _ in 0..120 {
            simulation.drive_all();
            simulation.step();
            simulation.world.now = simulation.world.now + STEP;
        }
        let newcomer = simulation.open(POLLING);
        let refusals = hear(&mut simulation, newcomer);
        let refused = simulation.world.counters[0].snapshot().handshakes_refused;
        if lag_max.is_zero() {
            assert_eq!((refusals.len(), refused), (0, 0), "seed {seed}: {refusals:?}");
        } else {
            assert_eq!((refusals, refused), (vec!["503 too busy".to_owned()], 1), "seed {seed}");
        }
        simulation.run(Duration::from_secs(3));
        for &id in &here {
            let received = simulation.take_received(id);
            let answers: Vec<u64> =
                received.iter().filter(|one| one.kind == '3').filter_map(|one| one.id).collect();
            assert_eq!(answers, (0..EVENTS).collect::<Vec<_>>(), "seed {seed}: who is here gets all");
        }
        // The shard has caught up, and whoever tries again is let in.
        let again = simulation.connect(WEBSOCKET);
        simulation.clients[again].emit(Some(1), &json!(["echo", 1]));
        simulation.run(Duration::from_secs(1));
        let received = simulation.take_received(again);
        assert_eq!(
            received.last().map(|last| last.payload.clone()),
            Some(Value::from(vec![1])),
            "seed {seed}"
        );
        for client in &mut simulation.clients {
            client.drop_wires(&mut simulation.world, false);
        }
        simulation.run(Duration::from_secs(300));
        simulation.assert_empty();
    }
}
