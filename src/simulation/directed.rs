//! Situations that chance would rarely reach, each with the fact that must hold.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::engine::EngineOptions;
use crate::config::{Config, Parser};
use crate::mesh::ShardMessage;
use crate::simulation::Simulation;
use crate::simulation::client::{Habits, Message, Packet};
use crate::simulation::world::Weather;

const WEBSOCKET: Habits = Habits { starts_with_websocket: true, upgrades: false, keeps_alive: true };
const POLLING: Habits = Habits { starts_with_websocket: false, upgrades: false, keeps_alive: true };
const CLOSING: Habits = Habits { starts_with_websocket: false, upgrades: false, keeps_alive: false };
const UPGRADING: Habits = Habits { starts_with_websocket: false, upgrades: true, keeps_alive: true };

const A_MOMENT: Duration = Duration::from_millis(500);
const LONG_AFTER: Duration = Duration::from_secs(300);

fn weather(shards: usize) -> Weather {
    Weather { shards, is_cutting: true, ..Weather::default() }
}

fn simulation(shards: usize) -> Simulation {
    Simulation::new(7, weather(shards))
}

/// The first arguments of the events of one name.
fn events(messages: &[Message], name: &str) -> Vec<Value> {
    messages
        .iter()
        .filter(|one| one.kind == '2' && one.payload[0] == name)
        .map(|one| one.payload[1].clone())
        .collect()
}

/// What a client was answered, in order.
fn answers(messages: &[Message]) -> Vec<(u64, Value)> {
    let acks = messages.iter().filter(|one| one.kind == '3');
    acks.map(|one| (one.id.unwrap(), one.payload.clone())).collect()
}

fn end(mut simulation: Simulation) {
    for client in &mut simulation.clients {
        client.drop_wires(&mut simulation.world, false);
    }
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn what_waited_behind_a_handler_is_taken_up_in_order_whatever_comes_meanwhile() {
    for (seed, habits) in (0..30).zip([WEBSOCKET, POLLING, UPGRADING].into_iter().cycle()) {
        let mut simulation = Simulation::new(seed, Weather { has_slow_sends: seed % 2 == 0, ..weather(2) });
        let client = simulation.connect(habits);
        simulation.clients[client].emit(Some(0), &json!(["slow", 0, 20]));
        let echo = |simulation: &mut Simulation, id: u64| {
            simulation.clients[client].emit(Some(id), &json!(["echo", id]));
        };
        (1..=200).for_each(|id| echo(&mut simulation, id));
        simulation.run(Duration::from_millis(15));
        assert_eq!(answers(&simulation.take_received(client)).len(), 0, "seed {seed}: the handler runs");
        for id in 201..=400 {
            echo(&mut simulation, id);
            simulation.drive_all();
            simulation.step();
            if !simulation.step() {
                let until = simulation.world.now + Duration::from_millis(1);
                simulation.world.pass_time(until);
            }
        }
        simulation.run(Duration::from_secs(2));
        let acks: Vec<u64> = answers(&simulation.take_received(client)).iter().map(|(id, _)| *id).collect();
        assert_eq!(acks, (0..=400).collect::<Vec<_>>(), "seed {seed}");
        end(simulation);
    }
}

#[test]
fn order_is_kept_across_the_upgrade_under_load() {
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed, Weather { has_slow_sends: seed % 2 == 0, ..weather(4) });
        let reader = simulation.connect(UPGRADING);
        let writer = simulation.connect(WEBSOCKET);
        simulation.clients[reader].emit(Some(0), &json!(["join", "load"]));
        simulation.run(A_MOMENT);
        simulation.take_received(reader);
        for number in 0..300 {
            simulation.clients[writer].emit(None, &json!(["to", ["load"], null, [number]]));
            simulation.clients[reader].emit(Some(number), &json!(["echo", number]));
            simulation.drive_all();
            for _ in 0..3 {
                simulation.step();
            }
        }
        simulation.run(Duration::from_secs(2));
        let received = simulation.take_received(reader);
        let numbers: Vec<u64> =
            events(&received, "news").iter().map(|news| news[0].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>(), "seed {seed}");
        let acks: Vec<u64> = answers(&received).iter().map(|(id, _)| *id).collect();
        assert_eq!(acks, (0..300).collect::<Vec<_>>(), "seed {seed}");
        assert!(simulation.clients[reader].is_on_websocket());
        end(simulation);
    }
}

#[test]
fn a_shard_that_was_held_up_takes_no_session_from_a_client_that_answered() {
    for (seed, reads_first) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut simulation = Simulation::new(seed, Weather { is_cutting: false, ..weather(1) });
        let clients = [WEBSOCKET, POLLING].map(|habits| simulation.connect(habits));
        let times = simulation.world.weather().config.engine.clone();
        while clients.iter().any(|&id| simulation.clients[id].pings == 0) {
            if !simulation.step() {
                simulation.world.pass_time(crate::base::time::Time::NEVER);
            }
            simulation.drive_all();
        }
        // Their answers are on the way when the shard is held up for longer than a ping may stay unanswered.
        simulation.world.now = simulation.world.now + times.ping_timeout + times.ping_interval;
        if reads_first {
            while simulation.step() {}
        } else {
            simulation.world.work(0, crate::shard::Shard::handle_timeout);
        }
        simulation.run(A_MOMENT);
        for id in clients {
            assert!(!simulation.clients[id].is_over, "seed {seed}: {:?}", simulation.clients[id]);
        }
        end(simulation);
    }
}

#[test]
fn an_upgrade_takes_along_what_a_poll_has_left_of_a_buffer() {
    for seed in 0..30 {
        let mut simulation = Simulation::new(seed, weather(1));
        let id = simulation.connect(POLLING);
        // One turn's small messages share a buffer; a poll takes sixteen of them, and the upgrade the rest.
        simulation.clients[id].emit(None, &json!(["flood", 500, 10]));
        simulation.drive_all();
        while simulation.clients[id].received.is_empty() {
            simulation.step();
        }
        simulation.clients[id].habits.upgrades = true;
        simulation.run(Duration::from_secs(1));
        assert_eq!(events(&simulation.take_received(id), "flood").len(), 500, "seed {seed}");
        end(simulation);
    }
}

#[test]
fn large_messages_are_compressed_for_those_who_agreed_and_in_order_for_all() {
    let config = Config { permessage_deflate: true, compression_threshold: 100, ..Config::default() };
    let mut has_upgraded = false;
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed, Weather { config: config.clone(), ..weather(3) });
        let clients: Vec<usize> =
            (0..9).map(|place| simulation.connect([WEBSOCKET, POLLING, UPGRADING][place % 3])).collect();
        for &id in &clients {
            simulation.clients[id].emit(Some(0), &json!(["join", "all"]));
        }
        simulation.run(A_MOMENT);
        for number in 0..40 {
            let padding = "x".repeat(number * 7);
            simulation.clients[0].emit(None, &json!(["to", ["all"], null, [number, padding]]));
            simulation.clients[1].emit(None, &json!(["flood", 3, 200]));
            simulation.drive_all();
            simulation.step();
        }
        simulation.run(Duration::from_secs(5));
        for &id in &clients {
            let received = simulation.take_received(id);
            let numbers: Vec<u64> =
                events(&received, "news").iter().map(|news| news[0].as_u64().unwrap()).collect();
            assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "seed {seed}, client {id}");
            let client = &simulation.clients[id];
            assert!(client.has_deflate || client.inflated == 0, "seed {seed}: {client:?}");
            if client.has_deflate && client.habits.starts_with_websocket {
                assert!(client.inflated >= 25, "seed {seed}: {client:?}");
            }
            has_upgraded |= client.inflated > 0 && client.habits.upgrades;
        }
        end(simulation);
    }
    assert!(has_upgraded, "some client agreed at its upgrade");
}

#[test]
fn both_parsers_share_a_room_on_every_transport() {
    for seed in 0..20 {
        let (parser, permessage_deflate) = (Parser::Auto, seed % 2 == 0);
        let config = Config { parser, permessage_deflate, compression_threshold: 50, ..Config::default() };
        let mut simulation = Simulation::new(seed, Weather { config, ..weather(3) });
        let mut clients = Vec::new();
        for speaks_msgpack in [false, true] {
            for habits in [WEBSOCKET, POLLING, UPGRADING] {
                let id = simulation.open(habits);
                simulation.clients[id].speaks_msgpack = speaks_msgpack;
                simulation.clients[id].send("0", &[]);
                simulation.clients[id].emit(Some(0), &json!(["join", "all"]));
                clients.push(id);
            }
        }
        simulation.run(A_MOMENT);
        for &id in &clients {
            assert_eq!(answers(&simulation.take_received(id)), [(0, json!([true]))], "seed {seed}");
        }
        for number in 0..30_u8 {
            let sender = clients[usize::from(number) % clients.len()];
            let blob = r#"51-["blob_to","all",{"_placeholder":true,"num":0}]"#;
            simulation.clients[sender].send(blob, &[vec![number; 60]]);
            simulation.clients[sender].emit(None, &json!(["to", ["all"], null, [number, "é\u{1e}"]]));
            simulation.run(Duration::from_millis(100));
        }
        simulation.run(Duration::from_secs(2));
        for &id in &clients {
            let received = simulation.take_received(id);
            let blobs = received.iter().filter(|message| message.kind == '5');
            let blobs: Vec<_> = blobs.map(|message| message.attachments.clone()).collect();
            let expected: Vec<_> = (0..30).map(|number| vec![vec![number; 60]]).collect();
            assert_eq!(blobs, expected, "seed {seed}, client {id}");
            let news: Vec<_> = (0..30).map(|number| json!([number, "é\u{1e}"])).collect();
            assert_eq!(events(&received, "news"), news, "seed {seed}, client {id}");
        }
        end(simulation);
    }
}

#[test]
fn a_parser_that_is_not_served_ends_the_session() {
    for (parser, speaks_msgpack, is_served) in [
        (Parser::Json, false, true),
        (Parser::Json, true, false),
        (Parser::Msgpack, false, false),
        (Parser::Msgpack, true, true),
        (Parser::Auto, false, true),
        (Parser::Auto, true, true),
    ] {
        let config = Config { parser, ..Config::default() };
        let mut simulation = Simulation::new(1, Weather { config, ..weather(1) });
        for habits in [WEBSOCKET, POLLING] {
            let id = simulation.open(habits);
            simulation.clients[id].speaks_msgpack = speaks_msgpack;
            simulation.clients[id].send("0", &[]);
            simulation.run(A_MOMENT);
            let is_in = simulation.clients[id].received.iter().any(|message| message.kind == '0');
            assert_eq!(is_in, is_served, "{parser:?}, msgpack {speaks_msgpack}");
            assert_eq!(simulation.clients[id].is_over, !is_served, "{parser:?}, msgpack {speaks_msgpack}");
        }
        end(simulation);
    }
}

#[test]
fn a_session_does_not_change_its_parser_while_it_is_in_a_namespace() {
    let config = Config { parser: Parser::Auto, ..Config::default() };
    for is_binary_first in [false, true] {
        let mut simulation = Simulation::new(1, Weather { config: config.clone(), ..weather(1) });
        let id = simulation.open(WEBSOCKET);
        simulation.clients[id].speaks_msgpack = is_binary_first;
        simulation.clients[id].send("0", &[]);
        simulation.run(A_MOMENT);
        simulation.take_received(id);
        simulation.clients[id].speaks_msgpack = !is_binary_first;
        simulation.clients[id].send("0/gate,", &[]);
        simulation.run(A_MOMENT);
        assert!(simulation.clients[id].is_over);
        end(simulation);
    }
}

#[test]
fn sixteen_shards_serve_polling_without_keep_alive_and_without_a_refusal() {
    let mut simulation = simulation(16);
    let clients: Vec<usize> = (0..24).map(|_| simulation.connect(CLOSING)).collect();
    for &id in &clients {
        simulation.clients[id].emit(Some(0), &json!(["join", "all"]));
    }
    simulation.run(A_MOMENT);
    for &id in &clients {
        simulation.take_received(id);
        simulation.clients[id].emit(Some(1), &json!(["to", ["all"], null, [id]]));
    }
    simulation.run(Duration::from_secs(60));
    for &id in &clients {
        let mut from: Vec<u64> = events(&simulation.take_received(id), "news")
            .iter()
            .map(|news| news[0].as_u64().unwrap())
            .collect();
        from.sort_unstable();
        assert_eq!(from, clients.iter().map(|&id| id as u64).collect::<Vec<_>>());
        assert!(simulation.clients[id].refusals.is_empty(), "{:?}", simulation.clients[id].refusals);
        assert!(simulation.clients[id].pings >= 2);
    }
    let refused: u64 =
        simulation.world.counters.iter().map(|counters| counters.snapshot().requests_refused).sum();
    let moved: u64 = simulation.world.counters.iter().map(|counters| counters.snapshot().handoffs).sum();
    assert_eq!(refused, 0);
    assert!(moved > 100, "requests landed on every shard");
    end(simulation);
}

#[test]
fn a_binary_event_may_begin_by_polling_and_end_on_the_websocket() {
    let mut simulation = simulation(3);
    let id = simulation.connect(UPGRADING);
    simulation.clients[id].send(r#"51-7["blob",{"_placeholder":true,"num":0}]"#, &[]);
    for _ in 0..50 {
        simulation.run(Duration::from_millis(20));
    }
    assert!(simulation.clients[id].is_on_websocket() && simulation.clients[id].is_flushed());
    simulation.clients[id].send_packet(Packet::Binary(vec![1, 2, 3]));
    simulation.run(A_MOMENT);
    let received = simulation.take_received(id);
    assert_eq!(
        (received[0].kind, received[0].id, &received[0].attachments),
        ('6', Some(7), &vec![vec![1, 2, 3]])
    );
    end(simulation);
}

#[test]
fn a_slow_consumer_is_closed_and_nobody_else_notices() {
    for slow_habits in [WEBSOCKET, POLLING] {
        let config = Config { outbox_bytes_max: 200_000, ..Config::default() };
        let mut simulation = Simulation::new(3, Weather { config, ..weather(2) });
        let [slow, quick, publisher] =
            [slow_habits, WEBSOCKET, WEBSOCKET].map(|habits| simulation.connect(habits));
        for id in [slow, quick] {
            simulation.clients[id].emit(None, &json!(["join", "room"]));
        }
        simulation.run(A_MOMENT);
        for wire in simulation.clients[slow].wires().collect::<Vec<_>>() {
            simulation.world.wires[wire.0].is_stalled = true;
        }
        for _ in 0..50 {
            simulation.clients[publisher].emit(None, &json!(["flood_room", "room", 10, 1000]));
            simulation.run(Duration::from_millis(1));
        }
        simulation.run(A_MOMENT);
        assert_eq!(events(&simulation.take_received(quick), "flood").len(), 500);
        let closed: u64 =
            simulation.world.counters.iter().map(|counters| counters.snapshot().slow_consumers_closed).sum();
        assert_eq!(closed, 1);
        assert!(!simulation.clients[quick].is_over && !simulation.clients[publisher].is_over);
        end(simulation);
    }
}

#[test]
fn nothing_reaches_a_client_before_its_connect_handler_has_decided() {
    for (say, kind) in [("yes", '0'), ("no", '4'), ("panic", '4')] {
        let mut simulation = simulation(2);
        let [inside, knocking] = [WEBSOCKET, UPGRADING].map(|habits| simulation.connect(habits));
        simulation.clients[inside].send(r#"0/gate,{"say":"yes"}"#, &[]);
        simulation.run(A_MOMENT);
        simulation.take_received(inside);
        simulation.clients[knocking].send(&format!(r#"0/gate,{{"say":"{say}","millis":200}}"#), &[]);
        simulation.clients[knocking].send(r#"2/gate,5["echo","waits for its turn"]"#, &[]);
        simulation.run(Duration::from_millis(100));
        simulation.clients[inside].send(r#"2/gate,["shout","hello"]"#, &[]);
        simulation.run(Duration::from_millis(50));
        assert_eq!(simulation.take_received(knocking), [], "{say}: not before the decision");
        simulation.run(A_MOMENT);
        let kinds: Vec<char> =
            simulation.take_received(knocking).iter().map(|message| message.kind).collect();
        if say == "yes" {
            assert_eq!(
                kinds,
                ['0', '2', '2', '2', '3'],
                "CONNECT, what was held, then the events in their order"
            );
        } else {
            // The event came for a namespace that was never joined; Node ends such a session too.
            assert_eq!(kinds[0], kind, "{say}");
            assert_eq!(kinds.len(), 1, "{say}: nothing but the refusal");
        }
        end(simulation);
    }
}

#[test]
fn what_is_held_back_is_translated_when_its_socket_is_let_in() {
    for seed in 0..10 {
        let (parser, permessage_deflate) = (Parser::Auto, true);
        let config = Config { parser, permessage_deflate, compression_threshold: 1, ..Config::default() };
        let mut simulation = Simulation::new(seed, Weather { config, ..weather(2) });
        for habits in [WEBSOCKET, POLLING, UPGRADING] {
            let id = simulation.open(habits);
            simulation.clients[id].speaks_msgpack = true;
            simulation.clients[id].send(r#"0/gate,{"say":"yes","millis":200}"#, &[]);
            simulation.clients[id].send(r#"2/gate,5["echo","waits for its turn"]"#, &[]);
            simulation.run(A_MOMENT);
            let received = simulation.take_received(id);
            let kinds: String = received.iter().map(|message| message.kind).collect();
            assert_eq!(kinds, "0223", "seed {seed}: {received:?}");
            assert!(received.iter().all(|message| message.namespace == "/gate"));
            assert_eq!(received[3].payload, json!(["waits for its turn"]));
        }
        end(simulation);
    }
}

#[test]
fn a_silent_client_is_gone_one_interval_and_one_timeout_after_it_connected() {
    for habits in [WEBSOCKET, POLLING] {
        let engine = EngineOptions {
            ping_interval: Duration::from_millis(300),
            ping_timeout: Duration::from_millis(200),
            ..EngineOptions::default()
        };
        let config = Config { engine, ..Config::default() };
        let mut simulation = Simulation::new(1, Weather { config, ..weather(1) });
        let id = simulation.open(habits);
        simulation.clients[id].is_silent = true;
        simulation.clients[id].send("0", &[]);
        simulation.run(Duration::from_millis(499));
        let sessions = |simulation: &Simulation| simulation.world.counters[0].snapshot().sessions;
        assert_eq!((sessions(&simulation), simulation.clients[id].pings), (1, 1));
        simulation.run(Duration::from_millis(11));
        assert_eq!(sessions(&simulation), 0, "the wheel's tick is 10 ms");
        end(simulation);
    }
}

#[test]
fn asynchronous_handlers_keep_the_order_of_their_socket() {
    let mut simulation = simulation(2);
    for habits in [WEBSOCKET, POLLING] {
        let id = simulation.connect(habits);
        for (ack, event) in [
            json!(["slow", 0, 200]),
            json!(["echo", 1]),
            json!(["slow", 2, 10]),
            json!(["quick", 3]),
            json!(["echo", 4]),
        ]
        .iter()
        .enumerate()
        {
            simulation.clients[id].emit(Some(ack as u64), event);
        }
        simulation.run(Duration::from_millis(150));
        assert_eq!(simulation.take_received(id), []);
        simulation.run(A_MOMENT);
        let expected: Vec<(u64, Value)> = (0..5).map(|number| (number, json!([number]))).collect();
        assert_eq!(answers(&simulation.take_received(id)), expected);
    }
    end(simulation);
}

#[test]
fn answers_that_come_later_overtake_each_other_and_hold_up_nothing() {
    let mut simulation = simulation(2);
    for habits in [WEBSOCKET, POLLING] {
        let id = simulation.connect(habits);
        let events = [
            json!(["kept", 0, 90]),
            json!(["beside", 1, 60]),
            json!(["kept", 2, 30]),
            json!(["echo", 3]),
            // What is in order holds back what follows it, also what would not wait for it otherwise.
            json!(["slow", 4, 150]),
            json!(["beside", 5, 20]),
            json!(["kept", 6, 10]),
            json!(["quick", 7]),
        ];
        for (ack, event) in events.iter().enumerate() {
            simulation.clients[id].emit(Some(ack as u64), event);
        }
        simulation.run(A_MOMENT);
        let expected: Vec<(u64, Value)> =
            [3, 2, 1, 0, 4, 7, 6, 5].map(|number| (number, json!([number]))).to_vec();
        assert_eq!(answers(&simulation.take_received(id)), expected, "{habits:?}");
    }
    end(simulation);
}

#[test]
fn five_thousand_events_that_wait_behind_a_handler_do_not_nest() {
    let mut simulation = simulation(1);
    let id = simulation.connect(WEBSOCKET);
    simulation.clients[id].emit(Some(0), &json!(["slow", 0, 100]));
    for number in 1..5_000 {
        simulation.clients[id].emit(Some(number), &json!(["quick", number]));
    }
    simulation.run(Duration::from_secs(1));
    let expected: Vec<(u64, Value)> = (0..5_000).map(|number| (number, json!([number]))).collect();
    assert_eq!(answers(&simulation.take_received(id)), expected);
    end(simulation);
}

#[test]
fn only_the_events_that_wait_now_count_towards_their_bound() {
    let config = Config { pending_bytes_max: 10_000, ..Config::default() };
    let mut simulation = Simulation::new(1, Weather { config, ..weather(1) });
    let id = simulation.connect(WEBSOCKET);
    // Two handlers of 100 ms each are always on their way, so the queue is never empty.
    for number in 0..200 {
        simulation.clients[id].emit(Some(number), &json!(["slow", number, 100]));
        simulation.run(Duration::from_millis(if number < 3 { 10 } else { 100 }));
    }
    simulation.run(Duration::from_secs(2));
    assert!(!simulation.clients[id].is_over);
    assert_eq!(answers(&simulation.take_received(id)).len(), 200);
    end(simulation);
}

#[test]
fn a_panic_costs_its_client_the_connection_and_nothing_else() {
    for habits in [POLLING, WEBSOCKET, UPGRADING] {
        let mut simulation = simulation(1);
        let [broken, sound] = [habits, WEBSOCKET].map(|habits| simulation.connect(habits));
        simulation.run(A_MOMENT);
        simulation.clients[broken].emit(Some(0), &json!(["panic"]));
        simulation.run(A_MOMENT);
        assert_eq!(simulation.take_received(broken), [], "it is not told to stay away");
        assert!(simulation.clients[broken].is_over, "it loses its connection, and so comes back");
        simulation.clients[sound].emit(Some(0), &json!(["echo", 1]));
        simulation.run(A_MOMENT);
        assert_eq!(answers(&simulation.take_received(sound)), [(0, json!([1]))]);
        assert_eq!(simulation.world.counters[0].snapshot().handler_panics, 1);
        end(simulation);
    }
}

#[test]
fn nothing_follows_a_disconnect() {
    let mut simulation = simulation(2);
    let [kicked, publisher] = [POLLING, WEBSOCKET].map(|habits| simulation.connect(habits));
    simulation.clients[kicked].emit(None, &json!(["join", "room"]));
    simulation.run(A_MOMENT);
    for number in 0..20 {
        simulation.clients[publisher].emit(None, &json!(["to", ["room"], null, [number]]));
    }
    simulation.clients[publisher].emit(None, &json!(["kick", "room"]));
    for number in 20..40 {
        simulation.clients[publisher].emit(None, &json!(["to", ["room"], null, [number]]));
        simulation.clients[publisher].emit(None, &json!(["everyone", [number]]));
    }
    simulation.run(A_MOMENT);
    let received = simulation.take_received(kicked);
    assert_eq!(events(&received, "news").len(), 20);
    assert_eq!(received.last().map(|message| message.kind), Some('1'));
    end(simulation);
}

#[test]
fn closing_a_room_empties_it_on_every_shard() {
    let mut simulation = simulation(4);
    let clients: Vec<usize> = (0..8).map(|_| simulation.connect(WEBSOCKET)).collect();
    for &id in &clients {
        simulation.clients[id].emit(None, &json!(["join", "room"]));
    }
    simulation.run(A_MOMENT);
    simulation.clients[clients[0]].emit(None, &json!(["close_room", "room"]));
    simulation.run(A_MOMENT);
    simulation.clients[clients[0]].emit(None, &json!(["to", ["room"], null, [1]]));
    simulation.clients[clients[0]].emit(None, &json!(["to", [""], null, [2]]));
    simulation.clients[clients[0]].emit(None, &json!(["to", [], null, [3]]));
    simulation.run(A_MOMENT);
    for &id in &clients {
        assert_eq!(simulation.take_received(id), [], "an empty room and an empty list mean nobody");
    }
    end(simulation);
}

#[test]
fn a_shutdown_says_goodbye_to_everybody_and_leaves_nothing() {
    let mut simulation = simulation(3);
    let clients = [WEBSOCKET, POLLING, CLOSING, UPGRADING].map(|habits| simulation.connect(habits));
    for id in clients {
        simulation.clients[id].emit(None, &json!(["slow", 1, 100]));
    }
    simulation.run(Duration::from_millis(10));
    for shard in 0..3 {
        simulation.world.work(shard, |shard, now| shard.deliver(ShardMessage::Shutdown, now));
    }
    simulation.run(Duration::from_secs(1));
    for id in clients {
        assert!(simulation.clients[id].is_over, "client {id} heard of it");
    }
    for wire in std::mem::take(&mut simulation.world.pool) {
        simulation.world.close(wire.0);
    }
    simulation.run(Duration::from_secs(5));
    assert!(simulation.world.shards.iter().all(crate::shard::Shard::is_empty), "within shutdown_timeout");
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn what_a_handle_says_before_it_stops_the_server_reaches_everybody() {
    for seed in 0..60 {
        let recovery_max_disconnection = Duration::from_secs(if seed % 2 == 0 { 120 } else { 0 });
        let config = Config { recovery_max_disconnection, ..Config::default() };
        let has_slow_mesh = seed % 3 == 0;
        let shards = 1 + seed as usize % 4;
        let mut simulation = Simulation::new(seed, Weather { config, has_slow_mesh, ..weather(shards) });
        let clients: Vec<usize> = (0..12)
            .map(|number| simulation.connect(if number % 2 == 0 { WEBSOCKET } else { POLLING }))
            .collect();
        let handle = simulation.world.handle.clone();
        let _ = handle.namespace("/").emit("news", "bye");
        handle.stop();
        simulation.run(Duration::from_secs(3));
        for id in clients {
            let received = simulation.take_received(id);
            assert_eq!(events(&received, "news"), ["bye"], "seed {seed}, {shards} shards");
        }
        assert!(simulation.world.shards.iter().all(|shard| shard.has_drained()));
        end(simulation);
    }
}

#[test]
fn a_shard_that_relays_and_is_stuck_keeps_nobody_from_stopping() {
    let config = Config { recovery_max_disconnection: Duration::from_secs(120), ..Config::default() };
    let mut simulation = Simulation::new(3, Weather { config, ..weather(2) });
    let deaf = |simulation: &mut Simulation| {
        simulation.world.work(1, |shard, now| shard.deliver(ShardMessage::Shutdown, now));
    };
    let has_stopped = |simulation: &Simulation| simulation.world.shards[1].has_drained();
    deaf(&mut simulation);
    simulation.run(Duration::from_millis(500));
    assert!(!has_stopped(&simulation), "what was said before may still come");
    simulation.run(Duration::from_secs(1));
    assert!(has_stopped(&simulation));
    let config = Config { recovery_max_disconnection: Duration::from_secs(120), ..Config::default() };
    let mut simulation = Simulation::new(3, Weather { config, ..weather(2) });
    deaf(&mut simulation);
    deaf(&mut simulation);
    assert!(has_stopped(&simulation), "a second request waits for nothing");
}

#[test]
fn a_shutdown_may_be_spread_over_time() {
    let config = Config { shutdown_spread: Some(Duration::from_secs(10)), ..Config::default() };
    let mut simulation = Simulation::new(5, Weather { config, ..weather(2) });
    let clients: Vec<usize> =
        (0..40).map(|number| simulation.connect(if number % 2 == 0 { WEBSOCKET } else { POLLING })).collect();
    let stop = |simulation: &mut Simulation| {
        for shard in 0..2 {
            simulation.world.work(shard, |shard, now| shard.deliver(ShardMessage::Shutdown, now));
        }
    };
    let live =
        |simulation: &Simulation| clients.iter().filter(|&&id| !simulation.clients[id].is_over).count();
    stop(&mut simulation);
    for (seconds, expected) in [(2, 26..=38), (5, 12..=28), (8, 2..=16), (11, 0..=0)] {
        simulation.run(Duration::from_millis(if seconds == 2 { 2000 } else { 3000 }));
        let count = live(&simulation);
        assert!(expected.contains(&count), "{count} live after {seconds} s");
        if seconds == 5 {
            let late = simulation.open(WEBSOCKET);
            simulation.run(A_MOMENT);
            assert!(simulation.clients[late].sid.is_none(), "no session opens");
        }
    }
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn a_request_pipelined_behind_a_poll_may_start_tasks() {
    let mut simulation = simulation(1);
    let id = simulation.connect(POLLING);
    // The second request waits in the connection until the poll before it is answered, at the end of a turn.
    let sid = simulation.clients[id].sid.clone().unwrap();
    let poll = simulation.clients[id].wires().next().unwrap();
    let body = "42[\"spawn\"]";
    let request = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    simulation.world.write(poll, request.as_bytes());
    simulation.run(A_MOMENT);
    simulation.clients[id].emit(Some(1), &json!(["echo", 1]));
    simulation.run(A_MOMENT);
    assert_eq!(simulation.world.counters[0].snapshot().handler_panics, 0);
    assert_eq!(answers(&simulation.take_received(id)), [(1, json!([1]))]);
    end(simulation);
}

#[test]
fn an_ended_session_that_nobody_polls_is_forgotten() {
    let mut simulation = simulation(1);
    let id = simulation.connect(POLLING);
    // The ping interval ends before the wait for the last poll does.
    simulation.clients[id].emit(None, &json!(["flood", 40, 10]));
    simulation.run(Duration::from_millis(1));
    for wire in simulation.clients[id].wires().collect::<Vec<_>>() {
        simulation.world.wires[wire.0].is_stalled = true;
    }
    simulation.clients[id].is_over = true;
    simulation.world.work(0, |shard, now| {
        let session = shard.sessions()[0];
        shard.send_packet(session, "4last words");
        shard.end_session(session, crate::shard::value::session::CloseReason::ServerDisconnect, now);
    });
    end(simulation);
}

#[test]
fn a_second_post_is_answered_once_and_its_body_is_no_request() {
    for framing in ["Content-Length: 28\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
        let mut simulation = simulation(1);
        let id = simulation.connect(POLLING);
        let sid = simulation.clients[id].sid.clone().unwrap();
        let head = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n");
        let first = simulation.world.dial(id);
        simulation.world.write(first, format!("{head}{framing}").as_bytes());
        simulation.run(Duration::from_millis(1));
        let second = simulation.world.dial(id);
        simulation.world.wires[second.0].owner = None;
        simulation.world.write(second, format!("{head}{framing}").as_bytes());
        simulation.run(Duration::from_millis(1));
        simulation.world.write(second, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        simulation.run(A_MOMENT);
        let arrived = String::from_utf8(simulation.world.wires[second.0].arrived.clone()).unwrap();
        assert_eq!(arrived.matches("HTTP/1.1 ").count(), 1, "{arrived}");
        simulation.world.close(first);
        simulation.world.close(second);
        end(simulation);
    }
}

#[test]
fn a_client_that_is_lost_again_while_it_gets_what_it_has_missed_gets_each_event_once() {
    let config = Config { recovery_max_disconnection: LONG_AFTER / 2, ..Config::default() };
    for seed in 0..60 {
        let shards = 1 + seed as usize % 3;
        let mut simulation = Simulation::new(seed, Weather { config: config.clone(), ..weather(shards) });
        let habits = [WEBSOCKET, POLLING, UPGRADING][seed as usize / 3 % 3];
        let (lost, writer) = (simulation.connect(habits), simulation.connect(WEBSOCKET));
        simulation.clients[lost].emit(None, &json!(["join", "load"]));
        simulation.run(A_MOMENT);
        for round in 0..8 {
            let Simulation { world, clients } = &mut simulation;
            clients[lost].reconnect(habits, world, seed % 2 == 0);
            for number in 10 * round..10 * (round + 1) {
                clients[writer].emit(None, &json!(["to", ["load"], null, [number, "x".repeat(200)]]));
            }
            clients[writer].drive(world);
            while simulation.step() {}
            // So many messages of the new connection reach it before that is lost as well.
            let enough = simulation.clients[lost].received.len() + 1 + round;
            simulation.clients[lost].enter();
            simulation.drive_all();
            while simulation.clients[lost].received.len() < enough {
                assert!(simulation.step(), "seed {seed}: {:?}", simulation.clients[lost]);
            }
        }
        simulation.run(A_MOMENT);
        let received = simulation.take_received(lost);
        assert!(!simulation.clients[lost].is_over, "seed {seed}");
        let numbers: Vec<u64> =
            events(&received, "news").iter().map(|news| news[0].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..80).collect::<Vec<_>>(), "seed {seed}");
        end(simulation);
    }
}
