//! A process that is killed while it is asked, over a real Redis: it is named, and nobody waits for it for long.
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

use shardcast::{Args, Config, EngineOptions, Server, ServerContext};

use broker::BrokerProcess;
use process::{Process, SERVE};
use wire::until;

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
