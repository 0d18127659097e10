//! Changes that were awaited, on several shards of several processes: what follows sees them, wherever it is said.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Config;
use crate::simulation::client::Habits;
use crate::simulation::fleet::Fleet;
use crate::simulation::world::{Random, Weather};

/// The clock's step.
const TICK: Duration = Duration::from_millis(5);

/// Longer than anything here takes that is not late.
const PATIENCE: Duration = Duration::from_secs(6);

const CLIENTS: usize = 9;

struct Scene {
    fleet: Fleet,
    /// The process and the number there of each client.
    places: Vec<(usize, usize)>,
    asked: u64,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let mut choice = Random::new(seed ^ 0x5e77);
        let recovery = if choice.chance(40) { Duration::from_secs(60) } else { Duration::ZERO };
        let weather = Weather {
            shards: 1 + choice.below(3),
            config: Config { recovery_max_disconnection: recovery, ..Config::default() },
            is_cutting: choice.chance(50),
            has_slow_mesh: choice.chance(50),
            interest_slots_max: choice.chance(30).then_some(2),
            ..Weather::default()
        };
        let (len, delay_max) = (1 + choice.below(3), choice.pick(&[0, 20, 150]));
        let mut scene =
            Scene { fleet: Fleet::new(seed, len, &weather, delay_max), places: Vec::new(), asked: 0 };
        for number in 0..CLIENTS {
            let node = number % len;
            let habits = Habits {
                starts_with_websocket: choice.chance(60),
                upgrades: choice.chance(50),
                keeps_alive: choice.chance(50),
            };
            let id = scene.fleet.nodes[node].simulation.open(habits);
            scene.fleet.nodes[node].simulation.clients[id].enter();
            scene.places.push((node, id));
        }
        scene.fleet.run(Duration::from_secs(4), TICK);
        scene
    }

    /// Asks, and stops the clock when the answer is there.
    fn ask(&mut self, id: usize, event: &Value) -> Value {
        self.asked += 1;
        let (asked, (node, number)) = (self.asked, self.places[id]);
        self.fleet.nodes[node].simulation.clients[number].emit(Some(asked), event);
        let until = self.fleet.now + PATIENCE;
        while self.fleet.now < until {
            let received = &mut self.fleet.nodes[node].simulation.clients[number].received;
            let place = received.iter().position(|message| message.kind == '3' && message.id == Some(asked));
            if let Some(answer) = place.and_then(|place| received.remove(place)) {
                return answer.payload;
            }
            self.fleet.run(TICK, TICK);
        }
        panic!("client {id} has no answer to {event}");
    }

    /// How often a client has got `news` of a number.
    fn heard(&self, id: usize, number: u64) -> usize {
        let (node, client) = self.places[id];
        let received = &self.fleet.nodes[node].simulation.clients[client].received;
        // With recovery on an offset follows.
        let is_it = |payload: &Value| payload[0] == "news" && payload[1] == number;
        received.iter().filter(|message| is_it(&message.payload)).count()
    }
}

/// The first client asks for the changes, and is in no room; those with odd numbers are moved.
fn run(seed: u64) {
    let mut scene = Scene::new(seed);
    for id in (1..CLIENTS).step_by(2) {
        assert_eq!(scene.ask(id, &json!(["join", "red"])), json!([true]));
    }
    // A member is heard of in other processes a moment after it has joined.
    scene.fleet.run(Duration::from_secs(2), TICK);
    assert_eq!(scene.ask(0, &json!(["gather", ["red"], "green"])), json!([true]), "seed {seed}");
    for (number, publisher) in [(1, 0), (2, 2), (3, CLIENTS - 1), (4, 1)] {
        scene.ask(publisher, &json!(["to", ["green"], null, number]));
    }
    scene.fleet.run(Duration::from_secs(3), TICK);
    for id in 0..CLIENTS {
        let heard = [1, 2, 3, 4].map(|number| scene.heard(id, number));
        assert_eq!(heard, [id % 2; 4], "seed {seed}: client {id} of process {}", scene.places[id].0);
    }
    assert_eq!(scene.ask(0, &json!(["scatter", "green"])), json!([true]), "seed {seed}");
    scene.ask(2, &json!(["to", ["green"], null, 5]));
    scene.fleet.run(Duration::from_secs(3), TICK);
    assert!((0..CLIENTS).all(|id| scene.heard(id, 5) == 0), "seed {seed}: nobody is in it any more");
    assert_eq!(scene.ask(0, &json!(["throw", "red"])), json!([true]), "seed {seed}");
    scene.ask(2, &json!(["everyone", 6]));
    scene.fleet.run(Duration::from_secs(3), TICK);
    for id in 0..CLIENTS {
        assert_eq!(scene.heard(id, 6), 1 - id % 2, "seed {seed}: client {id}");
    }
}

#[test]
fn what_follows_an_awaited_change_sees_it_everywhere() {
    for seed in 0..40 {
        run(seed);
    }
}

/// Of a process that is cut off nobody knows whether the change was made there.
#[test]
fn who_cannot_say_that_a_change_is_made_is_named() {
    let seed = (0..).find(|seed| Scene::new(*seed).fleet.nodes.len() == 3).expect("some have three");
    let mut scene = Scene::new(seed);
    for id in 1..CLIENTS {
        scene.ask(id, &json!(["join", "red"]));
    }
    scene.fleet.run(Duration::from_secs(2), TICK);
    scene.fleet.stall(1, Duration::from_secs(20));
    let began = scene.fleet.now;
    assert_eq!(scene.ask(0, &json!(["gather", ["red"], "green"])), json!([false]));
    assert!(scene.fleet.now.since(began) < PATIENCE);
    scene.fleet.stop_broker();
    scene.fleet.run(Duration::from_secs(1), TICK);
    let began = scene.fleet.now;
    assert_eq!(scene.ask(0, &json!(["scatter", "green"])), json!([false]), "the broker is away");
    assert!(scene.fleet.now.since(began) < Duration::from_secs(1), "it is known at once");
}
