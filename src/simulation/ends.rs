//! Every moment of an upgrade, and every way in which a session ends: a stock client hears of each, and nothing is left.
//!
//! A stock client that has `3probe` stops polling, and forgets its polling for good if its new WebSocket closes before it has
//! taken it into use: it then waits for its own ping timeout. `Client::is_stuck` is that.

use std::time::Duration;

use serde_json::json;

use crate::base::ids::Sid;
use crate::config::Config;
use crate::config::engine::EngineOptions;
use crate::mesh::ShardMessage;
use crate::message::peer::HANDOFFS_PER_SECOND_MAX;
use crate::shard::value::session::CloseReason;
use crate::simulation::Simulation;
use crate::simulation::client::{Habits, Packet};
use crate::simulation::world::{Weather, WireId};

const POLLING: Habits = Habits { starts_with_websocket: false, upgrades: false, keeps_alive: true };
const UPGRADING: Habits = Habits { starts_with_websocket: false, upgrades: true, keeps_alive: true };

const LONG_AFTER: Duration = Duration::from_secs(300);

/// Steps that an upgrade takes in the simulation, and some more.
const MOMENTS: usize = 60;

/// What ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The server, for one of its reasons.
    Server(CloseReason),
    /// A handler of the session's own.
    Close,
    /// A handler of a client on another shard.
    Kick,
    /// The whole server stops.
    Shutdown,
    /// The client says goodbye.
    Goodbye,
    /// The client's connections break.
    Reset,
}

const ENDS: [End; 12] = [
    End::Server(CloseReason::ServerDisconnect),
    End::Server(CloseReason::ForcedClose),
    End::Server(CloseReason::ParseError),
    End::Server(CloseReason::TransportError),
    End::Server(CloseReason::PingTimeout),
    End::Server(CloseReason::SlowConsumer),
    End::Server(CloseReason::RateExceeded),
    End::Close,
    End::Kick,
    End::Shutdown,
    End::Goodbye,
    End::Reset,
];

fn weather(shards: usize, config: Config) -> Weather {
    Weather { shards, config, ..Weather::default() }
}

/// The shard of a client's session, and the session's place there.
fn session_of(simulation: &Simulation, id: usize) -> (usize, crate::base::slab::Key) {
    let sid = Sid::parse(simulation.clients[id].sid.as_deref().expect("the client is in")).expect("a sid");
    let shard = sid.shard().index();
    let key = simulation.world.shards[shard].session_by_sid(&sid).expect("the session is there");
    (shard, key)
}

fn bring(simulation: &mut Simulation, id: usize, kicker: usize, end: End) {
    match end {
        End::Server(reason) => {
            let (shard, session) = session_of(simulation, id);
            simulation.world.work(shard, |shard, now| shard.end_session(session, reason, now));
        }
        End::Close => simulation.clients[id].emit(None, &json!(["close"])),
        End::Kick => simulation.clients[kicker].emit(None, &json!(["close_all", "kicked"])),
        End::Shutdown => {
            for shard in 0..simulation.world.shards.len() {
                simulation.world.work(shard, |shard, now| shard.deliver(ShardMessage::Shutdown, now));
            }
        }
        End::Goodbye => {
            simulation.clients[id].send_packet(Packet::Text("1".into()));
            simulation.clients[id].is_silent = true;
        }
        End::Reset => {
            let Simulation { world, clients } = simulation;
            clients[id].drop_wires(world, true);
        }
    }
}

#[test]
fn a_close_at_any_moment_of_an_upgrade_is_heard() {
    let mut were_switching = 0;
    for end in ENDS {
        for moment in 0..MOMENTS {
            let seed = moment as u64;
            let mut simulation = Simulation::new(seed, weather(3, Config::default()));
            let kicker = simulation.connect(POLLING);
            let id = simulation.connect(POLLING);
            simulation.clients[id].emit(None, &json!(["join", "kicked"]));
            simulation.run(Duration::from_millis(100));
            simulation.clients[id].habits = UPGRADING;
            simulation.drive_all();
            for _ in 0..moment {
                simulation.step();
                simulation.drive_all();
            }
            were_switching += usize::from(simulation.clients[id].is_pausing());
            bring(&mut simulation, id, kicker, end);
            simulation.run(Duration::from_secs(3));
            let client = &simulation.clients[id];
            // Who has said goodbye waits for nothing. Who is told by its last poll is not stuck, whether that or the end of its WebSocket
            // comes first: they are two connections.
            let is_stuck = client.is_stuck && !client.is_over && end != End::Goodbye;
            assert!(!is_stuck, "{end:?} at moment {moment}: its WebSocket closed while it switched");
            assert!(
                client.is_over || end == End::Goodbye,
                "{end:?} at moment {moment}: the client has not heard of it: {client:?}"
            );
            for client in 0..simulation.clients.len() {
                let Simulation { world, clients } = &mut simulation;
                clients[client].drop_wires(world, false);
            }
            for (wire, _) in std::mem::take(&mut simulation.world.pool) {
                simulation.world.close(wire);
            }
            simulation.run(LONG_AFTER);
            simulation.assert_empty();
        }
    }
    assert!(were_switching > 15, "the moments between 3probe and 5 are among them: {were_switching}");
}

/// One request on a wire of its own: the whole answer.
fn ask(simulation: &mut Simulation, request: &str) -> (WireId, String) {
    let wire = simulation.world.dial(0);
    simulation.world.wires[wire.0].owner = None;
    simulation.world.write(wire, request.as_bytes());
    simulation.run(Duration::from_millis(1));
    let answer = std::mem::take(&mut simulation.world.wires[wire.0].arrived);
    (wire, String::from_utf8(answer).expect("text"))
}

fn get(simulation: &mut Simulation, query: &str) -> String {
    let request = format!("GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: x\r\n\r\n");
    let (wire, answer) = ask(simulation, &request);
    simulation.world.close(wire);
    answer
}

fn post(simulation: &mut Simulation, sid: &str, body: &str) -> String {
    let head = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n");
    let (wire, answer) = ask(simulation, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    simulation.world.close(wire);
    answer
}

/// A session without a client: its id.
fn handshake(simulation: &mut Simulation) -> String {
    let answer = get(simulation, "");
    let (_, rest) = answer.split_once(r#""sid":""#).expect("a session opens");
    rest[..20].to_owned()
}

fn sessions(simulation: &Simulation) -> u64 {
    simulation.world.counters.iter().map(|counters| counters.snapshot().sessions).sum()
}

#[test]
fn a_session_that_never_polls_is_gone_when_its_time_is_over() {
    let mut simulation = Simulation::new(1, weather(1, Config::default()));
    let sid = handshake(&mut simulation);
    simulation.run(Duration::from_millis(44_900));
    assert_eq!(sessions(&simulation), 1);
    // The ping that waits for it since second 25 buys it nothing.
    simulation.run(Duration::from_millis(200));
    assert_eq!(sessions(&simulation), 0, "connect_timeout");
    assert!(simulation.world.shards[0].sessions().is_empty());
    assert!(get(&mut simulation, &format!("&sid={sid}")).starts_with("HTTP/1.1 400 "));
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn an_ended_session_is_told_once_and_soon_or_never() {
    for (wait, must_hear) in [(0, true), (1_000, true), (4_900, true), (7_000, false), (29_000, false)] {
        let mut simulation = Simulation::new(1, weather(1, Config::default()));
        let sid = handshake(&mut simulation);
        assert!(post(&mut simulation, &sid, "40").ends_with("ok"));
        assert!(get(&mut simulation, &format!("&sid={sid}")).contains("40{"));
        assert!(post(&mut simulation, &sid, "42[\"close\"]").ends_with("ok"));
        assert_eq!(sessions(&simulation), 0, "an ended session is none");
        simulation.run(Duration::from_millis(wait));
        let answer = get(&mut simulation, &format!("&sid={sid}"));
        if must_hear {
            assert!(answer.ends_with("41\u{1e}1"), "after {wait} ms: {answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 400 "), "after {wait} ms: {answer}");
        }
        assert!(get(&mut simulation, &format!("&sid={sid}")).starts_with("HTTP/1.1 400 "), "it was told");
        simulation.run(LONG_AFTER);
        simulation.assert_empty();
    }
}

#[test]
fn a_poll_that_comes_when_the_time_is_over_is_too_late() {
    let engine = EngineOptions {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        ..EngineOptions::default()
    };
    for (wait, status) in [(498, "200"), (499, "400"), (501, "400")] {
        let config = Config { engine: engine.clone(), ..Config::default() };
        let mut simulation = Simulation::new(1, weather(1, config));
        // Off the beat of a coarse clock; the handshake takes the first of the milliseconds.
        simulation.run(Duration::from_millis(3));
        let sid = handshake(&mut simulation);
        simulation.run(Duration::from_millis(wait));
        let answer = get(&mut simulation, &format!("&sid={sid}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "after {} ms: {answer}", wait + 1);
        simulation.run(LONG_AFTER);
        simulation.assert_empty();
    }
}

#[test]
fn a_deadline_counts_before_the_wheel_has_told_of_it() {
    let mut simulation = Simulation::new(1, weather(1, Config::default()));
    simulation.run(Duration::from_millis(7));
    let sid = handshake(&mut simulation);
    assert!(post(&mut simulation, &sid, "40").ends_with("ok"));
    // The wheel ticks every 50 ms, and the session's deadline lies between two ticks.
    let parsed = Sid::parse(&sid).expect("a sid");
    let key = simulation.world.shards[0].session_by_sid(&parsed).expect("it is there");
    simulation.run(Duration::from_secs(30));
    let deadline = simulation.world.shards[0].session_deadline(key).expect("it is there");
    assert_ne!(deadline.0 % 50, 0);
    let left = deadline.since(simulation.world.now);
    simulation.run(left.saturating_sub(Duration::from_millis(1)));
    assert_eq!(sessions(&simulation), 1);
    simulation.world.now = deadline;
    assert!(post(&mut simulation, &sid, "3").starts_with("HTTP/1.1 400 "));
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn a_body_that_is_too_large_ends_its_session() {
    let engine = EngineOptions { max_http_buffer_size: 1000, ..EngineOptions::default() };
    for framing in ["Content-Length: 1001\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3e9\r\n"] {
        let config = Config { engine: engine.clone(), ..Config::default() };
        let mut simulation = Simulation::new(1, weather(1, config));
        let sid = handshake(&mut simulation);
        assert!(post(&mut simulation, &sid, "40").ends_with("ok"));
        let head = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n");
        let (wire, answer) = ask(&mut simulation, &format!("{head}{framing}{}", "4".repeat(1001)));
        simulation.world.close(wire);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("max_http_buffer_size"), "{answer}");
        assert_eq!(sessions(&simulation), 0, "{framing}");
        assert!(get(&mut simulation, &format!("&sid={sid}")).starts_with("HTTP/1.1 400 "));
        // What is no session's is refused and ends nothing.
        let other = handshake(&mut simulation);
        let elsewhere =
            format!("POST /elsewhere?sid={other} HTTP/1.1\r\nHost: x\r\n{framing}{}", "4".repeat(1001));
        let (wire, answer) = ask(&mut simulation, &elsewhere);
        simulation.world.close(wire);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert_eq!(sessions(&simulation), 1);
        simulation.run(LONG_AFTER);
        simulation.assert_empty();
    }
}

#[test]
fn sessions_that_join_nothing_give_way_oldest_first() {
    let config = Config { sessions_max: 40, unjoined_sessions_max: 5, ..Config::default() };
    let mut simulation = Simulation::new(1, weather(1, config));
    let joined = simulation.connect(POLLING);
    let flood: Vec<String> = (0..30).map(|_| handshake(&mut simulation)).collect();
    assert_eq!(sessions(&simulation), 6, "five of the flood and the client");
    assert_eq!(simulation.world.counters[0].snapshot().unjoined_sessions_closed, 25);
    assert!(get(&mut simulation, &format!("&sid={}", flood[24])).starts_with("HTTP/1.1 400 "));
    for sid in &flood[25..] {
        assert!(post(&mut simulation, sid, "40").ends_with("ok"), "the youngest are there, and join");
    }
    let more: Vec<String> = (0..5).map(|_| handshake(&mut simulation)).collect();
    assert_eq!(sessions(&simulation), 11, "those who have joined are not counted");
    assert!(post(&mut simulation, &more[0], "40").ends_with("ok"));
    simulation.clients[joined].emit(Some(1), &json!(["echo", 1]));
    simulation.run(Duration::from_secs(1));
    assert!(!simulation.clients[joined].is_over && simulation.clients[joined].is_flushed());
    let Simulation { world, clients } = &mut simulation;
    clients[joined].drop_wires(world, false);
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn a_full_shard_prefers_who_comes_to_who_has_joined_nothing() {
    let config = Config { sessions_max: 8, ..Config::default() };
    let mut simulation = Simulation::new(1, weather(1, config));
    let clients: Vec<usize> = (0..7).map(|_| simulation.connect(POLLING)).collect();
    let idle = handshake(&mut simulation);
    let late = simulation.connect(POLLING);
    assert!(get(&mut simulation, &format!("&sid={idle}")).starts_with("HTTP/1.1 400 "), "it gave way");
    assert!(get(&mut simulation, "").starts_with("HTTP/1.1 503 "), "all that there are have joined");
    for id in clients.into_iter().chain([late]) {
        let Simulation { world, clients } = &mut simulation;
        assert!(!clients[id].is_over);
        clients[id].drop_wires(world, false);
    }
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn an_address_has_a_bound_of_its_own() {
    let config = Config {
        unjoined_sessions_per_address_max: 3,
        trusted_proxies: vec!["127.0.0.1".into()],
        ..Config::default()
    };
    let mut simulation = Simulation::new(1, weather(1, config));
    let open = |simulation: &mut Simulation, address: &str| {
        let head = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n";
        let (wire, answer) = ask(simulation, &format!("{head}X-Forwarded-For: {address}\r\n\r\n"));
        simulation.world.close(wire);
        assert!(answer.contains(r#""sid""#), "nobody is refused: {answer}");
    };
    for number in 0..20 {
        open(&mut simulation, "192.0.2.1");
        open(&mut simulation, &format!("2001:db8::{number}"));
        open(&mut simulation, &format!("198.51.100.{number}"));
    }
    assert_eq!(sessions(&simulation), 3 + 3 + 20);
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

#[test]
fn a_made_up_id_that_moves_a_connection_ends_it() {
    let mut simulation = Simulation::new(1, weather(2, Config::default()));
    let mut moved = 0;
    for number in 0..40_u8 {
        let sid = Sid::new(crate::base::ids::ShardId(u16::from(number % 2)), [number; 13]);
        let request =
            format!("GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n\r\n");
        let before: u64 = simulation.world.counters.iter().map(|counters| counters.snapshot().handoffs).sum();
        let (wire, answer) = ask(&mut simulation, &request.repeat(50));
        let after: u64 = simulation.world.counters.iter().map(|counters| counters.snapshot().handoffs).sum();
        assert!(after - before <= 1, "fifty made up ids move a connection once");
        let answers = answer.matches("HTTP/1.1 400 ").count();
        assert_eq!(answers, if after > before { 1 } else { 50 }, "{answer}");
        moved += after - before;
        simulation.world.close(wire);
    }
    assert!(moved > 5, "some ids are another shard's: {moved}");
    simulation.run(LONG_AFTER);
    simulation.assert_empty();
}

/// As many requests as three budgets of moves allow, each for another shard's session than the one before, `pause` apart: how many
/// were answered before the connection ended.
fn alternate(simulation: &mut Simulation, address: [u8; 4], sids: &[String; 2], pause: Duration) -> usize {
    const REQUESTS: usize = 3 * HANDOFFS_PER_SECOND_MAX as usize;
    let wire = simulation.world.dial_from(0, address);
    simulation.world.wires[wire.0].owner = None;
    let mut answered = 0;
    for sid in sids.iter().cycle().take(REQUESTS) {
        let head = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n");
        simulation.world.write(wire, format!("{head}Content-Length: 1\r\n\r\n3").as_bytes());
        simulation.run(pause);
        let answer = std::mem::take(&mut simulation.world.wires[wire.0].arrived);
        let answer = String::from_utf8(answer).expect("text");
        answered += answer.matches("HTTP/1.1 200 ").count();
        if answer.is_empty() || answer.to_ascii_lowercase().contains("connection: close") {
            break;
        }
    }
    simulation.world.close(wire);
    answered
}

#[test]
fn a_connection_that_moves_too_often_ends_with_an_answer() {
    let (budget, fast, slow) =
        (HANDOFFS_PER_SECOND_MAX as usize, Duration::from_millis(1), Duration::from_millis(10));
    let (all, proxy) = (3 * budget, [10, 1, 2, 3]);
    let trusting = Config { trusted_proxies: vec!["10.0.0.0/8".to_owned()], ..Config::default() };
    for (config, address, pause, expected) in [
        // The first may be where the connection is already.
        (Config::default(), [192, 0, 2, 7], fast, budget..=budget + 1),
        (Config::default(), [192, 0, 2, 7], slow, all..=all),
        (Config::default(), proxy, fast, budget..=budget + 1),
        (trusting, proxy, fast, all..=all),
        (Config::default(), [127, 0, 0, 1], fast, all..=all),
    ] {
        let mut simulation = Simulation::new(5, weather(2, config));
        let first = handshake(&mut simulation);
        let shard = |sid: &str| Sid::parse(sid).expect("a sid").shard();
        let second = std::iter::repeat_with(|| handshake(&mut simulation))
            .take(100)
            .find(|sid| shard(sid) != shard(&first))
            .expect("connections come to both shards");
        let answered = alternate(&mut simulation, address, &[first.clone(), second.clone()], pause);
        assert!(expected.contains(&answered), "{address:?}, {pause:?} apart: {answered} answered");
        for sid in [&first, &second] {
            assert!(post(&mut simulation, sid, "3").ends_with("ok"), "its sessions live on");
        }
        simulation.run(LONG_AFTER);
        simulation.assert_empty();
    }
}

#[test]
fn without_shard_keys_clients_do_not_choose_their_shard() {
    for (shard_key, expected) in [(true, 1), (false, 2)] {
        let mut simulation = Simulation::new(3, weather(2, Config { shard_key, ..Config::default() }));
        let mut shards = std::collections::BTreeSet::new();
        for _ in 0..30 {
            let answer = get(&mut simulation, "&shard_key=one");
            let (_, rest) = answer.split_once(r#""sid":""#).expect("a session opens");
            shards.insert(Sid::parse(&rest[..20]).expect("a sid").shard());
        }
        assert_eq!(shards.len(), expected, "shard_key = {shard_key}");
        simulation.run(LONG_AFTER);
        simulation.assert_empty();
    }
}
