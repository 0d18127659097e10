//! The brokers that tests start, by themselves: each starts, ends, is there again on its port, and leaves nothing behind.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

#[allow(dead_code, reason = "what only the brokers' users need")]
#[path = "process/broker.rs"]
mod broker;

use std::net::TcpStream;

use broker::BrokerProcess;

/// Killed and stopped in order, a broker is gone from its port and can be had there again.
fn comes_and_goes(start: impl Fn() -> BrokerProcess) {
    let mut broker = start();
    let (port, folder) = (broker.port, broker.folder.clone());
    let is_heard = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    assert!(is_heard());
    broker.terminate();
    assert!(!is_heard(), "stopped in order");
    broker.restart();
    assert!(is_heard(), "started again");
    broker.kill();
    assert!(!is_heard(), "killed");
    broker.restart_empty();
    assert!(is_heard(), "started again with nothing");
    drop(broker);
    assert!(!is_heard() && !folder.exists(), "gone with the value");
}

#[test]
fn redis_comes_and_goes() {
    comes_and_goes(|| BrokerProcess::redis(&[]));
}

#[test]
fn valkey_comes_and_goes() {
    comes_and_goes(|| BrokerProcess::valkey(&[]));
}

#[test]
fn nats_comes_and_goes() {
    comes_and_goes(|| BrokerProcess::nats(&["-js"]));
}

#[test]
fn rabbitmq_comes_and_goes() {
    comes_and_goes(BrokerProcess::rabbitmq);
}

#[test]
fn kafka_comes_and_goes() {
    comes_and_goes(BrokerProcess::kafka);
}

#[test]
fn a_restarted_redis_is_empty() {
    let mut redis = BrokerProcess::redis(&[]);
    assert_eq!(redis.command("SET a b"), "+OK");
    assert_eq!(redis.command("GET a"), "$1\r\nb");
    redis.restart();
    assert_eq!(redis.command("GET a"), "$-1");
}

#[test]
fn a_cluster_of_one_node_serves_every_slot() {
    let cluster = BrokerProcess::redis_cluster();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(cluster.command(&format!("SET {key} 1")), "+OK");
    }
}

#[test]
fn a_sentinel_knows_its_master() {
    let redis = BrokerProcess::redis(&[]);
    let sentinel = BrokerProcess::sentinel(redis.port);
    let address = sentinel.command("SENTINEL GET-MASTER-ADDR-BY-NAME mymaster");
    assert!(address.contains(&redis.port.to_string()), "{address}");
}

#[test]
fn a_frozen_broker_answers_when_it_thaws() {
    let redis = BrokerProcess::redis(&[]);
    redis.freeze();
    redis.thaw();
    assert_eq!(redis.command("PING"), "+PONG");
}
