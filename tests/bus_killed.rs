//! What is killed, over real brokers: a process while it is asked, which is named, and nobody waits for it for long; and Redis and RabbitMQ themselves.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

#[path = "process/broker.rs"]
#[allow(dead_code, reason = "one broker of several is started here")]
mod broker;
#[allow(dead_code, reason = "this server is asked through the broker alone")]
mod process;
mod wire;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::{Args, Config, Emitter, EngineOptions, Handle, RunningServer, Server, ServerContext};

use broker::BrokerProcess;
use process::{Process, SERVE};
use wire::flow::{Flow, Listener, server};
use wire::{Client, until};

/// Not a test by itself: the program of a user, whose server is asked and never answers.
#[test]
fn served() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let config = Config::load().expect("the test sets what is right");
    let server = Server::new(config).namespace("/", |io| {
        let handle = io.handle();
        io.on_server_event("wait", move |_: &ServerContext, _: Args| {
            handle.emit_to_servers("/", "I wait", ());
            std::thread::sleep(Duration::from_secs(600));
        });
    });
    server.run().expect("it is killed before it ends");
}

#[test]
fn a_process_that_is_killed_while_it_is_asked_is_named_within_seconds() {
    let redis = BrokerProcess::redis(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let mut other =
        Process::of_a_user("served", "killed", &[("SHARDCAST_MESSAGE_QUEUE", &url)], Stdio::null());
    let is_asked = Arc::new(AtomicBool::new(false));
    let engine = EngineOptions { message_queue: url.as_str().into(), ..EngineOptions::default() };
    let config = Config { engine, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
    let told = Arc::clone(&is_asked);
    let server = Server::new(config).namespace("/", move |io| {
        let told = Arc::clone(&told);
        io.on_server_event("I wait", move |_: &ServerContext, _: Args| told.store(true, Relaxed));
    });
    let server = server.start().expect("the server starts");
    let handle = server.handle();
    until("the processes have met", || handle.queue_stats()[0].processes == 1);
    let asked = std::thread::spawn({
        let handle = handle.clone();
        move || {
            let question = handle.emit_to_servers_with_ack("/", "wait", ());
            question.timeout(Duration::from_secs(300)).wait().expect("asked")
        }
    });
    until("the other has the question", || is_asked.load(Relaxed));
    other.child.kill().expect("it runs");
    let killed = Instant::now();
    let answers = asked.join().expect("no panic");
    let waited = killed.elapsed();
    let name = format!(":{}", other.child.id());
    assert!(matches!(&answers.processes_missing[..], [missing] if missing.ends_with(&name)), "{answers:?}");
    assert!(waited < Duration::from_secs(60), "{waited:?} is as if nobody had looked after it");
    let found = handle.sockets("/").ids().wait().expect("this process answers");
    assert!(found.is_complete(), "who is known to be gone is not asked: {:?}", found.processes_missing());
    server.stop();
}

/// Both wait with what was said meanwhile until the other one is back, whichever is back first.
#[test]
fn what_is_emitted_while_redis_is_away_reaches_the_other_process() {
    let mut redis = BrokerProcess::redis(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let servers = [server(&url), server(&url)];
    let handles = servers.each_ref().map(RunningServer::handle);
    let mut clients = servers.each_ref().map(Client::connect);
    clients.iter_mut().for_each(|client| client.join("room"));
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 1));
    for outage in 0..4 {
        redis.kill();
        until("both have noticed", || handles.iter().all(|handle| !handle.queue_stats()[0].is_up));
        let published = handles.each_ref().map(|handle| handle.queue_stats()[0].published);
        // Longer and longer, so that their tries to connect come at different times.
        std::thread::sleep(Duration::from_millis(outage * 350));
        for (from, handle) in handles.iter().enumerate() {
            (0..100).for_each(|number| {
                handle.to("/", "room").emit(&format!("of {from}"), number);
            });
        }
        redis.restart();
        for (place, client) in clients.iter_mut().enumerate() {
            // Its own process' at once, the other one's when Redis is back; each in order.
            let mut next = [0, 0];
            while next != [100, 100] {
                let (event, number) = client.event();
                let from = if event == "of 0" { 0 } else { 1 };
                assert_eq!(number, json!(next[from]), "outage {outage}: {event}, heard at {place}");
                next[from] += 1;
            }
        }
        // Each is a message of our format and one of Python's. Those are not sent twice: they are given up with a connection that
        // breaks before Redis has said that it has them.
        until("Redis has said that it has them", || {
            let now = handles.each_ref().map(|handle| handle.queue_stats()[0].published);
            now.iter().zip(published).all(|(now, before)| *now >= before + 200)
        });
        let lost: Vec<u64> = handles.iter().map(|handle| handle.queue_stats()[0].lost).collect();
        assert_eq!(lost, [0, 0], "outage {outage}");
    }
    drop(clients);
    servers.into_iter().for_each(RunningServer::stop);
}

#[test]
fn servers_start_without_their_broker_and_meet_when_it_comes() {
    let mut redis = BrokerProcess::redis(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    redis.kill();
    let servers = [server(&url), server(&url)];
    let handles = servers.each_ref().map(RunningServer::handle);
    let mut clients = servers.each_ref().map(Client::connect);
    clients.iter_mut().for_each(|client| client.join("room"));
    for (handle, client) in handles.iter().zip(&mut clients) {
        handle.to("/", "room").emit("early", 1);
        assert_eq!(client.event(), ("early".to_owned(), json!(1)), "its own client hears it");
        assert!(!handle.queue_stats()[0].is_up);
    }
    redis.restart();
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 1));
    until("rooms are known", || {
        handles[0].to("/", "room").emit("late", 2);
        clients[1].has_input()
    });
    let (event, _) = clients[1].event();
    assert!(["early", "late"].contains(&event.as_str()), "what waited, or what was said since: {event}");
    servers.into_iter().for_each(RunningServer::stop);
}

/// The broker is back: both processes are connected within a second of what a new connection takes, on this machine at this moment, that
/// does not have to find that out.
fn assert_connected_in_time(handles: &[Handle; 2], url: &str) {
    let is_back = Instant::now();
    let mouth = Emitter::connect(url).expect("a sound URL").timeout(Duration::from_secs(60));
    mouth.to("/", "nobody's").emit("probe", 0).wait().expect("RabbitMQ takes it");
    let fresh = is_back.elapsed();
    until("both are connected again", || handles.iter().all(|handle| handle.queue_stats()[0].is_up));
    let connected = is_back.elapsed();
    assert!(connected < fresh + Duration::from_secs(1), "{connected:?}, and a new connection took {fresh:?}");
}

/// RabbitMQ is killed while both processes say much, and comes back. It takes longer to start than a client waits otherwise.
#[test]
fn rabbitmq_that_is_killed_in_mid_flow_costs_nothing_twice_and_no_order() {
    let mut rabbitmq = BrokerProcess::rabbitmq();
    let url = format!("amqp://127.0.0.1:{}", rabbitmq.port);
    let servers = [server(&url), server(&url)];
    let handles = servers.each_ref().map(RunningServer::handle);
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 1));
    let [own, other] = servers.each_ref().map(|server| Listener::enter(server, &handles[0]));
    let flow = Flow::start(&handles[0]);
    until("the other process hears", || other.len() > 200);
    rabbitmq.kill();
    let killed_at = own.len();
    until("both have noticed", || handles.iter().all(|handle| !handle.queue_stats()[0].is_up));
    until("the own client goes on hearing", || own.len() > killed_at + 100);
    rabbitmq.restart();
    assert_connected_in_time(&handles, &url);
    let before = other.len();
    until("events flow again", || other.len() > before + 200);
    let said = flow.end();
    assert_eq!(own.numbers(), (0..said).collect::<Vec<_>>(), "local delivery is whole");
    let other = other.numbers();
    assert!(other.windows(2).all(|two| two[0] < two[1]), "nothing twice, and in order");
    let stats = handles[0].queue_stats()[0];
    let missing = said - other.len() as u64;
    assert!(
        missing <= stats.lost,
        "{missing} of {said} did not arrive, and {} are counted as lost",
        stats.lost
    );
    servers.into_iter().for_each(RunningServer::stop);
}
