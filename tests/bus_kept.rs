//! Real brokers that keep messages are killed while events flow, and come back with what they had: all arrives, once, and in order.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

#[path = "process/broker.rs"]
#[allow(dead_code, reason = "one broker of several is started here")]
mod broker;
mod wire;

use std::time::Duration;

use shardcast::RunningServer;

use broker::BrokerProcess;
use wire::flow::{Flow, Listener, server, until};

/// So many times the broker is killed: while all is well, and as soon as events flow again.
fn loses_nothing(mut broker: BrokerProcess, url: &str, times: usize) {
    let servers = [server(url), server(url)];
    let handles = servers.each_ref().map(RunningServer::handle);
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 1));
    let [own, other] = servers.each_ref().map(|server| Listener::enter(server, &handles[0]));
    let flow = Flow::start(&handles[0]);
    for _ in 0..times {
        let before = other.len();
        until("the other process hears", || other.len() > before + 100);
        broker.kill();
        until("both have noticed", || handles.iter().all(|handle| !handle.queue_stats()[0].is_up));
        std::thread::sleep(Duration::from_millis(500));
        broker.restart();
        until("both are connected again", || handles.iter().all(|handle| handle.queue_stats()[0].is_up));
    }
    let said = flow.end();
    let all: Vec<u64> = (0..said).collect();
    assert_eq!(own.numbers(), all, "local delivery is whole");
    assert_eq!(other.numbers(), all, "each once, and in order");
    servers.into_iter().for_each(RunningServer::stop);
}

/// What a Redis has answered to is in its file.
#[test]
fn streams_of_redis_lose_nothing() {
    let redis = BrokerProcess::redis(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = format!("redis://127.0.0.1:{}?mode=streams", redis.port);
    loses_nothing(redis, &url, 2);
}

#[test]
fn jetstream_loses_nothing() {
    let nats = BrokerProcess::nats(&["-js"]);
    let url = format!("nats://127.0.0.1:{}?mode=jetstream", nats.port);
    loses_nothing(nats, &url, 2);
}

/// Once: it takes many seconds to come back.
#[test]
fn kafka_loses_nothing() {
    let kafka = BrokerProcess::kafka();
    let url = format!("kafka://127.0.0.1:{}", kafka.port);
    loses_nothing(kafka, &url, 1);
}
