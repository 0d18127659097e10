//! Three real sentinels make another Redis the master while events flow between processes: all go to it, within a bounded time, and say so.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

#[path = "process/broker.rs"]
#[allow(dead_code, reason = "one broker of several is started here")]
mod broker;
#[allow(dead_code, reason = "this server is watched by its log alone")]
mod process;
mod wire;

use std::fs::File;
use std::time::{Duration, Instant};

use shardcast::{Config, Emitter, RunningServer, Server};

use broker::BrokerProcess;
use process::{Process, SERVE};
use wire::flow::{Flow, Listener, server, until};

/// A try to emit is given up after so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the pause between two tries may add to what a new connection takes.
const RECONNECTED: Duration = Duration::from_secs(1);

/// A master, its replica, and three sentinels of which two have to agree.
struct Group {
    redis: [BrokerProcess; 2],
    sentinels: Vec<BrokerProcess>,
}

impl Group {
    fn start() -> Group {
        let first = BrokerProcess::redis(&[]);
        let second = BrokerProcess::redis(&["--replicaof", "127.0.0.1", &first.port.to_string()]);
        until("the replica", || second.command("INFO replication").contains("master_link_status:up"));
        let sentinels: Vec<_> = (0..3).map(|_| BrokerProcess::sentinel_of(first.port, 2)).collect();
        let knows_all = |sentinel: &BrokerProcess| {
            let known = sentinel.command("SENTINEL MASTER mymaster");
            known.contains("num-slaves\r\n$1\r\n1\r\n")
                && known.contains("num-other-sentinels\r\n$1\r\n2\r\n")
        };
        until("the sentinels know each other", || sentinels.iter().all(knows_all));
        Group { redis: [first, second], sentinels }
    }

    fn url(&self, mode: &str) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis+sentinel://{}/0/mymaster?mode={mode}", hosts.join(","))
    }

    /// All sentinels name the second Redis.
    fn has_moved(&self) -> bool {
        let port = self.redis[1].port.to_string();
        let asked = "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster";
        self.sentinels.iter().all(|sentinel| sentinel.command(asked).contains(&port))
    }
}

/// Not a test by itself: the program of a user, whose log is read.
#[test]
fn served() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let config = Config::load().expect("the test sets what is right");
    Server::new(config).namespace("/", |_| {}).run().expect("it is killed before it ends");
}

/// Events flow, the master is lost in this way, and they flow by the other one: all processes are there within a second after the sentinels
/// have named it and beyond what a new connection takes at this moment.
fn fails_over(name: &str, mode: &str, lose: impl FnOnce(&mut Group)) -> Group {
    let mut group = Group::start();
    let url = group.url(mode);
    let servers = [server(&url), server(&url)];
    let handles = servers.each_ref().map(RunningServer::handle);
    let log = std::env::temp_dir().join(format!("shardcast-failover-{}-{name}.log", std::process::id()));
    let error = File::create(&log).expect("the log can be made");
    let third = Process::of_a_user("served", name, &[("SHARDCAST_MESSAGE_QUEUE", &url)], error);
    until("the processes have met", || handles.iter().all(|handle| handle.queue_stats()[0].processes == 2));

    let [own, other] = servers.each_ref().map(|server| Listener::enter(server, &handles[0]));
    let flow = Flow::start(&handles[0]);
    until("the other process hears", || other.len() > 100);
    lose(&mut group);
    until("the sentinels name another master", || group.has_moved());
    let named = Instant::now();
    let mouth = Emitter::connect(url.as_str()).expect("a sound URL").timeout(PATIENCE);
    mouth.to("/", "nobody's").emit("probe", 0).wait().expect("the new master takes it");
    let fresh = named.elapsed();
    // Each process hears what Python says, whatever the mode.
    let all_hear = || group.redis[1].command("PUBSUB NUMSUB flask-socketio").ends_with(":3");
    until("all have found it", || all_hear() && handles.iter().all(|handle| handle.queue_stats()[0].is_up));
    let found = named.elapsed();
    assert!(found < fresh + RECONNECTED, "{found:?} after it was named, and a new connection took {fresh:?}");
    let counted =
        handles.each_ref().map(|handle| (handle.queue_stats()[0].outages, handle.queue_stats()[0].connects));
    assert!(counted.iter().all(|(outages, connects)| *outages > 0 && *connects > 1), "{counted:?}");
    let before = other.len();
    until("events flow again", || other.len() > before + 100);
    let said = flow.end();
    assert_eq!(own.numbers(), (0..said).collect::<Vec<_>>(), "local delivery is whole");
    assert!(other.numbers().windows(2).all(|two| two[0] < two[1]), "nothing comes twice, and all in order");

    until("the log of the third says what has happened", || {
        let lines = std::fs::read_to_string(&log).expect("the log can be read");
        lines.split_once("the message queue is gone").is_some_and(|(_, lines)| {
            lines.contains("this process serves its own clients meanwhile")
                && lines.contains("the message queue is there again")
        })
    });
    drop(third);
    let _ = std::fs::remove_file(&log);
    servers.into_iter().for_each(RunningServer::stop);
    group
}

#[test]
fn a_master_that_dies_is_followed_by_its_replica() {
    let group = fails_over("dies", "pubsub", |group| group.redis[0].kill());
    assert!(group.redis[1].command("ROLE").contains("master"));
}

/// Its connections stay, and nothing comes by them. When it wakes it believes that it is the master, until the sentinels tell it.
#[test]
fn a_master_that_hangs_is_left_and_followed_by_its_replica() {
    let group = fails_over("hangs", "pubsub", |group| group.redis[0].freeze());
    group.redis[0].thaw();
    until("it is a replica", || group.redis[0].command("ROLE").contains("slave"));
}

/// As an operator does it before an upgrade; with streams.
#[test]
fn a_master_that_is_replaced_on_purpose_is_left() {
    let group = fails_over("replaced", "streams", |group| {
        assert_eq!(group.sentinels[0].command("SENTINEL FAILOVER mymaster"), "+OK");
    });
    until("the old one is a replica", || group.redis[0].command("ROLE").contains("slave"));
}
