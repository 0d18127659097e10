//! Messages from the broker that are broken in all ways.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::bus::own::{self, AskWord, Asked, ChangeWord, Envelope, Hello, Raw, To, Word};
use crate::bus::{Body, Channel, Delivery};
use crate::config::{Config, Parser};
use crate::mesh::slots::ROOM_SLOTS;
use crate::message::address::Address;
use crate::message::target::Target;
use crate::protocol::socketio::encode::encode_event_raw;
use crate::protocol::socketio::frames::frame_raw;
use crate::simulation::client::Habits;
use crate::simulation::fleet::Fleet;
use crate::simulation::nodes::TICK;
use crate::simulation::world::{Random, Weather};

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
            let channel = if random.chance(50) {
                Channel::All
            } else {
                Channel::Slot(random.below(ROOM_SLOTS as usize) as u32)
            };
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
