//! The client of Redis against real servers: the suite that every broker passes, in each of its ways; and what Redis alone has.

#![allow(clippy::disallowed_methods, reason = "a test with real brokers waits in real time")]

use std::borrow::Cow;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::SLOTS;
use super::client::RedisBroker;
use crate::base::ids::NodeTag;
use crate::bus::contract::process::BrokerProcess;
use crate::bus::contract::{Ends, Venue, contract, post, run, whole, within};
use crate::bus::{Body, Broker, Channel, Post, Receiver, Sender};
use crate::config::queue::address::QueueAddress;

fn client(url: &str, channel: &str) -> RedisBroker {
    match QueueAddress::parse(url) {
        Ok(QueueAddress::Redis(address)) => RedisBroker::new(address, channel),
        other => panic!("{url}: {other:?}"),
    }
}

/// A Redis, and how it is spoken to.
struct RedisVenue {
    server: BrokerProcess,
    mode: &'static str,
    password: Option<&'static str>,
}

impl RedisVenue {
    fn plain(mode: &'static str) -> RedisVenue {
        RedisVenue { server: BrokerProcess::redis(&[]), mode, password: None }
    }

    fn protected() -> RedisVenue {
        let server = BrokerProcess::redis(&["--requirepass", "open sesame"]);
        RedisVenue { server, mode: "pubsub", password: Some("open%20sesame") }
    }

    fn cluster() -> RedisVenue {
        RedisVenue { server: BrokerProcess::redis_cluster(), mode: "sharded", password: None }
    }

    fn url(&self, password: Option<&str>, port: u16) -> String {
        let user = password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{port}?mode={}", self.mode)
    }
}

impl Venue for RedisVenue {
    type Client = RedisBroker;

    fn client(&self, channel: &str) -> RedisBroker {
        client(&self.url(self.password, self.server.port), channel)
    }

    fn client_of_nobody(&self) -> Option<RedisBroker> {
        Some(client(&self.url(None, 1), "nobody"))
    }

    fn client_with(&self, password: &str) -> Option<RedisBroker> {
        self.password.map(|_| client(&self.url(Some(password), self.server.port), "stranger"))
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn restart(&mut self) {
        self.server.restart();
        if self.mode == "sharded" {
            let started = Instant::now();
            while self.server.command("CLUSTER INFO").contains("cluster_state:fail") {
                assert!(started.elapsed() < Duration::from_secs(30), "the cluster does not come back");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn channels(&self) -> Vec<Channel> {
        vec![
            Channel::All,
            Channel::Node(NodeTag([0xa, 0xb, 0xc])),
            Channel::Slot(0),
            Channel::Slot(255),
            Channel::Python,
            Channel::Plain("socket.io-request#/#".into()),
            Channel::Sharded("socket.io#/#room#".into()),
        ]
    }

    /// A stream and pub/sub are two connections.
    fn is_ordered_across(&self) -> bool {
        self.mode != "streams"
    }
}

mod pubsub {
    super::contract!(super::RedisVenue::protected());
}

mod sharded {
    super::contract!(super::RedisVenue::plain("sharded"));
}

mod cluster {
    super::contract!(super::RedisVenue::cluster());
}

mod streams {
    super::contract!(super::RedisVenue::plain("streams"));
}

#[test]
fn valkey_is_a_redis() {
    for mode in ["pubsub", "streams"] {
        whole(&mut RedisVenue { server: BrokerProcess::valkey(&[]), mode, password: None });
    }
}

// ---------------------------------------------------------------- What Redis alone has

#[test]
fn a_pattern_is_heard_by_the_names_that_it_fits() {
    let venue = RedisVenue::plain("pubsub");
    run(async {
        let mut ends = Ends::of(&mut venue.client("c")).await;
        let pattern = Channel::Pattern("socket.io#/#*".into());
        ends.subscribe(std::slice::from_ref(&pattern), &[]).await;
        let (one, other) =
            (Channel::Plain("socket.io#/#room#".into()), Channel::Plain("socket.io-request#/#".into()));
        ends.publish(&[post(&other, "not this"), post(&one, "this")]).await;
        ends.hears(&one, "this").await;
        ends.subscribe(std::slice::from_ref(&other), &[pattern]).await;
        ends.publish(&[post(&one, "no longer this"), post(&other, "but this")]).await;
        ends.hears(&other, "but this").await;
    });
}

#[test]
fn the_slots_of_a_hundred_thousand_rooms_can_be_heard_at_once() {
    for mode in ["pubsub", "sharded", "streams"] {
        let venue = RedisVenue::plain(mode);
        run(async {
            let mut ends = Ends::of(&mut venue.client("c")).await;
            const APART: u32 = SLOTS / 100_000;
            let all: Vec<Channel> = (0..SLOTS).step_by(APART as usize).map(Channel::Slot).collect();
            assert!(all.len() >= 100_000);
            ends.subscribe(&all, &[]).await;
            for slot in [0, 511 * APART, 512 * APART, (all.len() as u32 - 1) * APART] {
                ends.say(&Channel::Slot(slot + 1), "not here").await;
                ends.say(&Channel::Slot(slot), "here").await;
                ends.hears(&Channel::Slot(slot), "here").await;
            }
        });
    }
}

fn fields(entries: &[(&'static str, &str)]) -> Body {
    let field =
        |(name, value): &(&'static str, &str)| (Cow::Borrowed(*name), Bytes::from((*value).to_owned()));
    Body::Fields(entries.iter().map(field).collect())
}

/// As @socket.io/redis-streams-adapter writes and reads them.
#[test]
fn a_stream_of_nodes_is_written_and_read_on_from_where_it_was() {
    let venue = RedisVenue::plain("pubsub");
    run(async {
        let stream = Channel::Stream("socket.io".into());
        let entry = |data| {
            let body = fields(&[("uid", "00d1a3f5e3b1a2c4"), ("nsp", "/"), ("type", "3"), ("data", data)]);
            Post { channel: stream.clone(), body, may_repeat: false }
        };
        let mut client = venue.client("c");
        let mut speaker = Ends::of(&mut venue.client("c")).await;
        speaker.publish(&[entry("before")]).await;
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(std::slice::from_ref(&stream), &[]).await;
        speaker.publish(&[entry("one"), entry("two")]).await;
        for data in ["one", "two"] {
            let heard = ends.next().await;
            assert_eq!((&heard.channel, &heard.body), (&stream, &entry(data).body));
            assert!(heard.offset.as_deref().is_some_and(|offset| offset.contains('-')), "{heard:?}");
        }
        drop(ends);
        speaker.publish(&[entry("three")]).await;
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(std::slice::from_ref(&stream), &[]).await;
        assert_eq!(ends.next().await.body, entry("three").body);
        ends.subscribe(&[Channel::All], std::slice::from_ref(&stream)).await;
        speaker.publish(&[entry("four")]).await;
        speaker.say(&Channel::All, "the stream is left").await;
        ends.hears(&Channel::All, "the stream is left").await;
    });
    let shown = venue.server.command("XRANGE socket.io - + COUNT 1");
    assert!(
        shown.contains("uid\r\n$16\r\n00d1a3f5e3b1a2c4\r\n$3\r\nnsp\r\n$1\r\n/\r\n$4\r\ntype\r\n$1\r\n3\r\n"),
        "{shown}"
    );
}

/// A stream of a Redis that came back with nothing begins anew, even where its clock is behind; one that came back with what it had
/// saved a while ago has nothing new for us.
#[test]
fn a_stream_that_is_behind_us_is_read_from_its_beginning_unless_we_know_it() {
    let venue = RedisVenue::plain("streams");
    run(async {
        let mut client = venue.client("c");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.publish(&[post(&Channel::All, "one"), post(&Channel::All, "two")]).await;
        let one = ends.next().await.offset.expect("a place in the stream");
        let two = ends.next().await.offset.expect("a place in the stream");
        drop(ends);
        venue.server.command("COPY shardcast.c saved");
        venue.server.command("DEL shardcast.c");
        venue.server.command("XADD shardcast.c 1-1 c all b anew");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.hears(&Channel::All, "anew").await;
        drop(ends);
        venue.server.command("DEL shardcast.c");
        venue.server.command("RENAME saved shardcast.c");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        // Behind "anew" there is what was saved.
        ends.hears(&Channel::All, "one").await;
        ends.hears(&Channel::All, "two").await;
        ends.say(&Channel::All, "three").await;
        ends.hears(&Channel::All, "three").await;
        drop(ends);
        // Redis forgets "three", as one that comes back with an older file: we have heard the rest.
        venue.server.command("DEL shardcast.c");
        venue.server.command(&format!("XADD shardcast.c {one} c all b one"));
        venue.server.command(&format!("XADD shardcast.c {two} c all b two"));
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "four").await;
        ends.hears(&Channel::All, "four").await;
    });
}

#[test]
fn garbage_in_our_own_stream_and_channels_is_passed_over() {
    let venue = RedisVenue::plain("streams");
    run(async {
        let mut ends = Ends::of(&mut venue.client("c")).await;
        ends.subscribe(&[Channel::All, Channel::Python], &[]).await;
        for garbage in ["x y", "c everybody b x", "c all d x", "c all", "c slot.10000 b x"] {
            venue.server.command(&format!("XADD shardcast.c * {garbage}"));
        }
        ends.say(&Channel::All, "sound").await;
        ends.hears(&Channel::All, "sound").await;
    });
}

#[test]
fn one_connection_that_redis_ends_is_a_fault_of_all() {
    for (mode, kind) in
        [("pubsub", "pubsub"), ("pubsub", "normal"), ("sharded", "pubsub"), ("streams", "normal")]
    {
        let venue = RedisVenue::plain(mode);
        run(async {
            let mut ends = Ends::of(&mut venue.client("c")).await;
            ends.subscribe(&[Channel::All, Channel::Python, Channel::Node(NodeTag([1, 2, 3]))], &[]).await;
            venue.server.command(&format!("CLIENT KILL TYPE {kind} SKIPME yes"));
            let fault = within("a fault", ends.receiver.next()).await.expect_err("the connection is gone");
            assert!(!fault.is_lasting && fault.text.contains(&venue.server.port.to_string()), "{fault:?}");
            ends.sender.publish(&[post(&Channel::All, "x")]).await.expect_err("the connection is gone");
            ends.sender.subscribe(&[Channel::Slot(1)], &[]).await.expect_err("the connection is gone");
        });
    }
}

#[test]
fn a_frozen_redis_is_a_fault_and_no_hang() {
    let venue = RedisVenue::plain("pubsub");
    run(async {
        let mut client = venue.client("c");
        let mut ends = Ends::of(&mut client).await;
        venue.server.freeze();
        let fault =
            within("publish", ends.sender.publish(&[post(&Channel::All, "x")])).await.expect_err("no answer");
        assert!(!fault.is_lasting && fault.text.contains("does not answer"), "{fault:?}");
        let Err(fault) = within("connect", client.connect()).await else { panic!("it connects") };
        assert!(!fault.is_lasting, "{fault:?}");
        venue.server.thaw();
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "awake").await;
        // What was published before and not answered may come, too: Redis has got it.
        loop {
            if ends.next().await.body == Body::Bytes(Bytes::from_static(b"awake")) {
                break;
            }
        }
    });
}

#[test]
fn a_message_that_is_too_large_is_left_out_and_the_others_are_sent() {
    let venue = RedisVenue::plain("pubsub");
    run(async {
        let mut ends = Ends::of(&mut venue.client("c")).await;
        ends.subscribe(&[Channel::All], &[]).await;
        let large = vec![0; ends.sender.body_bytes_max()];
        let too_large = vec![0; large.len() + 1];
        let posts = [
            post(&Channel::All, too_large),
            post(&Channel::All, large.clone()),
            post(&Channel::All, "small"),
        ];
        ends.publish(&posts).await;
        assert!(ends.next().await.body == Body::Bytes(Bytes::from(large)), "the largest comes first");
        ends.hears(&Channel::All, "small").await;
    });
}

#[test]
fn a_sentinel_leads_to_the_master_and_strangers_to_an_error_that_says_so() {
    let server = BrokerProcess::redis(&[]);
    let sentinel = BrokerProcess::sentinel(server.port);
    run(async {
        // One sentinel of two may be away.
        let hosts = format!("127.0.0.1:1,127.0.0.1:{}", sentinel.port);
        let mut ends = Ends::of(&mut client(&format!("redis+sentinel://{hosts}/0/mymaster"), "c")).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "by way of a sentinel").await;
        ends.hears(&Channel::All, "by way of a sentinel").await;
        let url = format!("redis+sentinel://127.0.0.1:{}/0/nobody", sentinel.port);
        let Err(fault) = client(&url, "c").connect().await else { panic!("it connects") };
        assert!(fault.is_lasting && fault.text.contains("nobody"), "{fault:?}");
    });
}

/// The master dies, its replica is made master by the sentinel, and is found under the same name.
#[test]
fn a_sentinel_leads_to_the_next_master_when_one_dies() {
    let mut first = BrokerProcess::redis(&[]);
    let second = BrokerProcess::redis(&["--replicaof", "127.0.0.1", &first.port.to_string()]);
    let is_so = |what: &str, is_so: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(30), "never came: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    is_so("the replica", &|| second.command("INFO replication").contains("master_link_status:up"));
    let sentinel = BrokerProcess::sentinel(first.port);
    is_so("the sentinel's knowledge of it", &|| {
        sentinel.command("SENTINEL REPLICAS mymaster").contains(&second.port.to_string())
    });
    run(async {
        let mut client = client(&format!("redis+sentinel://127.0.0.1:{}/0/mymaster", sentinel.port), "c");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "to the first").await;
        ends.hears(&Channel::All, "to the first").await;
        first.kill();
        ends.faults().await;
        // It says where the dead one was, until it has made another one the master: a passing fault each time.
        let started = Instant::now();
        while let Err(fault) = within("an answer", client.connect()).await {
            assert!(!fault.is_lasting && started.elapsed() < Duration::from_secs(30), "{fault:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "to the second").await;
        ends.hears(&Channel::All, "to the second").await;
        assert!(second.command("ROLE").contains("master"));
    });
}

/// Two nodes with half of the slots each: messages go to the node that has the channel, and one that moves is a fault, behind which
/// everything is found where it is now.
#[test]
fn a_cluster_is_spoken_to_node_by_node_and_a_slot_that_moves_is_found_again() {
    let nodes = [BrokerProcess::redis_cluster_node(), BrokerProcess::redis_cluster_node()];
    assert_eq!(nodes[0].command("CLUSTER ADDSLOTSRANGE 0 8191"), "+OK");
    assert_eq!(nodes[1].command("CLUSTER ADDSLOTSRANGE 8192 16383"), "+OK");
    assert_eq!(nodes[1].command("CONFIG SET cluster-announce-port 0"), "+OK");
    let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[0].port, nodes[0].port + 4_000);
    assert_eq!(nodes[1].command(&meet), "+OK");
    let is_whole = |node: &BrokerProcess| {
        let info = node.command("CLUSTER INFO");
        info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
    };
    let started = Instant::now();
    while !nodes.iter().all(is_whole) {
        assert!(started.elapsed() < Duration::from_secs(30), "the nodes do not meet");
        std::thread::sleep(Duration::from_millis(50));
    }
    let slots: Vec<Channel> = (0..64).map(Channel::Slot).collect();
    run(async {
        let mut client = client(&format!("redis://127.0.0.1:{}?mode=sharded", nodes[0].port), "c");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&slots, &[]).await;
        ends.subscribe(&[Channel::Python], &[]).await;
        ends.say(&Channel::Python, "to all nodes").await;
        ends.hears(&Channel::Python, "to all nodes").await;
        for slot in &slots {
            ends.say(slot, "where it is").await;
            ends.hears(slot, "where it is").await;
        }
        let id = nodes[1].command("CLUSTER MYID").lines().last().expect("an id").to_owned();
        let moved = nodes[0].command("CLUSTER KEYSLOT shardcast.c.slot.0").replace(':', "");
        let moved: u16 = moved.parse().expect("a slot");
        let to = if moved < 8192 {
            id
        } else {
            nodes[0].command("CLUSTER MYID").lines().last().expect("an id").to_owned()
        };
        for node in nodes.iter().rev() {
            assert_eq!(node.command(&format!("CLUSTER SETSLOT {moved} NODE {to}")), "+OK");
        }
        let fault = within("a fault", ends.receiver.next()).await.expect_err("the slot has moved");
        assert!(!fault.is_lasting && fault.text.contains("slot"), "{fault:?}");
        let mut ends = Ends::of(&mut client).await;
        ends.subscribe(&slots, &[]).await;
        for slot in &slots {
            ends.say(slot, "where it is now").await;
            ends.hears(slot, "where it is now").await;
        }
    });
}

/// Four nodes, of which the last is a replica of the one that has our stream.
fn cluster_of_three_and_a_replica() -> Vec<BrokerProcess> {
    let mut nodes: Vec<BrokerProcess> = (0..4).map(|_| BrokerProcess::redis_cluster_node()).collect();
    let key = nodes[0].command("CLUSTER KEYSLOT shardcast.c").replace(':', "");
    let ranges = [(0, 5460), (5461, 10_922), (10_923, 16_383)];
    let key: u16 = key.parse().expect("a slot");
    let owner = ranges.iter().position(|(first, last)| (*first..=*last).contains(&key)).expect("one has it");
    for (node, (first, last)) in nodes.iter().zip(ranges) {
        assert_eq!(node.command(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "+OK");
    }
    for node in &nodes {
        assert_eq!(node.command("CONFIG SET cluster-node-timeout 1500"), "+OK");
        assert_eq!(node.command("CONFIG SET cluster-require-full-coverage no"), "+OK");
        let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[0].port, nodes[0].port + 4_000);
        assert_eq!(node.command(&meet), "+OK");
    }
    let knows_all = |node: &BrokerProcess| {
        let info = node.command("CLUSTER INFO");
        info.contains("cluster_slots_ok:16384") && info.contains("cluster_known_nodes:4")
    };
    wait_until("the nodes meet", || nodes.iter().all(knows_all));
    let id = nodes[owner].command("CLUSTER MYID").lines().last().expect("an id").to_owned();
    wait_until("the replica", || nodes[3].command(&format!("CLUSTER REPLICATE {id}")) == "+OK");
    wait_until("the replica has all", || nodes[3].command("ROLE").contains("connected"));
    nodes.swap(0, owner);
    nodes
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(40), "never came: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Connects and subscribes, as often as it takes.
async fn connected(client: &mut RedisBroker, channels: &[Channel]) -> Ends<RedisBroker> {
    let again = async {
        loop {
            let mut ends = Ends::of(client).await;
            if ends.sender.subscribe(channels, &[]).await.is_ok() {
                return ends;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("the cluster can be used", again).await
}

/// Both by sharded pub/sub and by streams, which read on where they were.
#[test]
fn a_cluster_that_loses_a_node_is_spoken_to_again_when_its_replica_has_taken_over() {
    let mut nodes = cluster_of_three_and_a_replica();
    // The first is the one that is lost.
    let others = nodes[1].port;
    let slots: Vec<Channel> = (0..64).map(Channel::Slot).chain([Channel::All]).collect();
    let modes = ["sharded", "streams"];
    let url = |mode: &str| format!("redis://127.0.0.1:{others}?mode={mode}");
    run(async {
        let mut clients = modes.map(|mode| client(&url(mode), "c"));
        let mut speakers = modes.map(|mode| client(&url(mode), "c"));
        let mut all = Vec::new();
        for (client, speaker) in clients.iter_mut().zip(&mut speakers) {
            let (mut ends, mut mouth) = (connected(client, &slots).await, Ends::of(speaker).await);
            for slot in &slots {
                mouth.say(slot, "before").await;
                ends.hears(slot, "before").await;
            }
            all.push(ends);
        }
        assert_eq!(nodes[0].command("WAIT 1 10000"), ":1", "the replica has it");
        nodes[0].kill();
        for mut ends in all {
            let fault = within("a fault", async {
                loop {
                    if let Err(fault) = ends.receiver.next().await {
                        return fault;
                    }
                }
            });
            assert!(!fault.await.is_lasting);
        }
        for (mode, (client, speaker)) in modes.iter().zip(clients.iter_mut().zip(&mut speakers)) {
            let mut mouth = connected(speaker, &slots[..1]).await;
            mouth.say(&slots[1], "meanwhile").await;
            let mut ends = connected(client, &slots).await;
            if *mode == "streams" {
                ends.hears(&slots[1], "meanwhile").await;
            }
            for slot in &slots {
                mouth.say(slot, "after").await;
                ends.hears(slot, "after").await;
            }
        }
        assert!(nodes[3].command("ROLE").contains("master"));
    });
}

/// One who may not say what it is asked to say hears so, and that trying again does not help.
#[test]
fn a_user_without_permission_is_a_lasting_fault() {
    let server = BrokerProcess::redis(&[]);
    let made = server.command("ACL SETUSER guest on >secret +@all ~* resetchannels &shardcast.c.*");
    assert_eq!(made, "+OK");
    run(async {
        let mut ends =
            Ends::of(&mut client(&format!("redis://guest:secret@127.0.0.1:{}", server.port), "c")).await;
        ends.subscribe(&[Channel::All], &[]).await;
        ends.say(&Channel::All, "allowed").await;
        ends.hears(&Channel::All, "allowed").await;
        let said = ends.sender.publish(&[post(&Channel::All, "a"), post(&Channel::Python, "b")]).await;
        for fault in [said, ends.sender.subscribe(&[Channel::Python], &[]).await].map(Result::unwrap_err) {
            assert!(fault.is_lasting && fault.text.contains("no permissions"), "{fault:?}");
        }
    });
}

/// What nobody takes is bounded: then the connection is given up, as Redis would give it up.
#[test]
fn who_falls_behind_loses_the_connection_and_no_more_memory() {
    let venue = RedisVenue::plain("pubsub");
    run(async {
        let mut ends = Ends::of(&mut venue.client("c")).await;
        let mut speaker = Ends::of(&mut venue.client("c")).await;
        ends.subscribe(&[Channel::All], &[]).await;
        let large = post(&Channel::All, vec![0; 4 * 1024 * 1024]);
        for _ in 0..20 {
            speaker.publish(std::slice::from_ref(&large)).await;
        }
        let mut taken = 0;
        let fault = loop {
            match within("a fault", ends.receiver.next()).await {
                Ok(_) => taken += 1,
                Err(fault) => break fault,
            }
        };
        assert!(fault.text.contains("fallen behind") && !fault.is_lasting, "{fault:?}");
        assert!((8..16).contains(&taken), "{taken} of 20 messages of 4 MiB were kept, and 64 MiB may be");
    });
}

/// Set for the copy of this program that trusts the certificate: the port of the server.
const TRUSTING: &str = "TEST_REDIS_TLS_PORT";

/// A certificate that nobody vouches for is refused, for good. One that the machine trusts is accepted, which a copy of this test
/// shows: what a machine trusts is read from a variable of the environment.
#[test]
fn a_certificate_must_be_one_that_the_machine_trusts() {
    if let Ok(port) = std::env::var(TRUSTING) {
        return run(async {
            let mut ends = Ends::of(&mut client(&format!("rediss://localhost:{port}"), "c")).await;
            ends.subscribe(&[Channel::All], &[]).await;
            ends.say(&Channel::All, "in secret").await;
            ends.hears(&Channel::All, "in secret").await;
        });
    }
    let folder = std::env::temp_dir().join(format!("shardcast-redis-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "openssl is missing: run scripts/install-test-deps.sh"
    );
    let (key, shown) = (key.to_string_lossy(), certificate.to_string_lossy());
    let server = BrokerProcess::redis(&[
        "--tls-cert-file",
        &shown,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &shown,
        "--tls-auth-clients",
        "no",
    ]);
    let port = server.third_port();
    assert_eq!(server.command(&format!("CONFIG SET tls-port {port}")), "+OK");
    run(async {
        let mut broker = client(&format!("rediss://localhost:{port}"), "c");
        let Err(fault) = within("connect", broker.connect()).await else { panic!("it connects") };
        assert!(fault.is_lasting && fault.text.contains("SSL_CERT_FILE"), "{fault:?}");
    });
    let name = "bus::redis::contract::a_certificate_must_be_one_that_the_machine_trusts";
    let trusting = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", name])
        .env(TRUSTING, port.to_string())
        .env("SSL_CERT_FILE", &certificate)
        .output()
        .expect("it runs once more");
    let said = String::from_utf8_lossy(&trusting.stdout);
    assert!(trusting.status.success() && said.contains("1 passed"), "{said}");
    let _ = std::fs::remove_dir_all(&folder);
}
