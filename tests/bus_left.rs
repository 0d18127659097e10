//! Clients of a server that stops come back to another one, over a queue in memory and over streams of a real Redis
//! (`recovery_survives`).
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

#[path = "process/broker.rs"]
#[allow(dead_code, reason = "one broker of several is started here")]
mod broker;
mod wire;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use shardcast::{Config, Context, EngineOptions, Recovery, RunningServer, Server, Survives};

use broker::BrokerProcess;
use wire::{Client, until};

fn server(queue: &str, survives: Survives) -> RunningServer {
    server_with(queue, survives, Config::default())
}

fn server_with(queue: &str, survives: Survives, config: Config) -> RunningServer {
    let engine = EngineOptions { message_queue: queue.into(), ..EngineOptions::default() };
    let config = Config {
        engine,
        shards: 2,
        bind: vec!["127.0.0.1:0".to_owned()],
        recovery_max_disconnection: Duration::from_secs(60),
        recovery_events_max: 5000,
        recovery_bytes_max: 1_000_000,
        recovery_survives: survives,
        ..config
    };
    Server::new(config)
        .namespace("/", |io| {
            io.on("join", |cx: &mut Context, room: String| {
                cx.join(&room);
                true
            });
            io.on("remember", |cx: &mut Context, data: String| cx.set_data(&data).is_ok());
            io.on("say to me", |cx: &mut Context, number: u32| {
                cx.emit("n", ("me", number));
            });
            io.on("who", |cx: &mut Context| {
                let mut rooms = cx.rooms();
                rooms.retain(|room| *room != cx.id().to_string());
                (cx.recovery() == Recovery::Recovered, rooms)
            });
        })
        .start()
        .expect("the server starts")
}

fn pair(queue: &str) -> [RunningServer; 2] {
    let servers = [server(queue, Survives::Stop), server(queue, Survives::Stop)];
    until("the servers have met", || {
        servers.iter().all(|server| server.handle().queue_stats()[0].processes == 1)
    });
    servers
}

/// What comes next; nothing once the server has closed the connection.
fn frame(client: &mut Client) -> Option<String> {
    let mut head = [0; 2];
    client.stream.read_exact(&mut head).ok()?;
    let mut len = usize::from(head[1]);
    if len == 126 {
        let mut long = [0; 2];
        client.stream.read_exact(&mut long).ok()?;
        len = usize::from(u16::from_be_bytes(long));
    }
    let mut payload = vec![0; len];
    client.stream.read_exact(&mut payload).ok()?;
    (head[0] & 15 == 1).then(|| String::from_utf8(payload).expect("text"))
}

/// A client as a stock one is: it knows what it has got, and its last offset.
struct Reader {
    client: Client,
    pid: String,
    offset: String,
    /// Who said which number.
    got: Vec<(String, u64)>,
}

impl Reader {
    fn connect(server: &RunningServer) -> Reader {
        let (client, connected) = Client::connect_with(server, "/socket.io/", "");
        let connected: Value = serde_json::from_str(&connected[2..]).expect("JSON");
        let pid = connected["pid"].as_str().expect("recovery is on").to_owned();
        Reader { client, pid, offset: String::new(), got: Vec::new() }
    }

    /// Takes one event in. False: there is none any more.
    fn take(&mut self) -> bool {
        loop {
            let Some(text) = frame(&mut self.client) else { return false };
            if text == "2" {
                self.client.send("3");
            }
            let Some(event) = text.strip_prefix("42") else { continue };
            let event: Vec<Value> = serde_json::from_str(event).expect("an event");
            if let Some(offset) = event.last().and_then(Value::as_str) {
                offset.clone_into(&mut self.offset);
            }
            if event[0] == "n" {
                self.got
                    .push((event[1].as_str().expect("who").to_owned(), event[2].as_u64().expect("a number")));
            }
            return true;
        }
    }

    fn take_until(&mut self, who: &str, number: u64) {
        while self.got.last().is_none_or(|(last, last_number)| last != who || *last_number != number) {
            assert!(self.take(), "the connection is over before {who} {number}: {:?}", self.got.last());
        }
    }

    /// Connects again; whether as the socket that it was.
    fn come_back(&mut self, server: &RunningServer) -> bool {
        let offset = match self.offset.as_str() {
            "" => String::new(),
            offset => format!(",\"offset\":\"{offset}\""),
        };
        let auth = format!("{{\"pid\":\"{}\"{offset}}}", self.pid);
        let before = self.client.sid.clone();
        let (client, connected) = Client::connect_with(server, "/socket.io/", &auth);
        self.client = client;
        self.client.sid == before && connected.contains(&self.pid)
    }

    /// The numbers that somebody has said.
    fn of(&self, who: &str) -> Vec<u64> {
        self.got.iter().filter(|(speaker, _)| speaker == who).map(|(_, number)| *number).collect()
    }
}

fn say(server: &RunningServer, who: &str, number: u64) {
    server.handle().to("/", "news").emit("n", (who, number));
}

/// Says numbers until it is told to stop; gives how many.
fn speak(server: &RunningServer, who: &'static str) -> impl FnOnce() -> u64 + use<> {
    let (handle, is_over) = (server.handle(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&is_over);
    let thread = std::thread::spawn(move || {
        let mut number = 0;
        while !told.load(Relaxed) {
            handle.to("/", "news").emit("n", (who, number));
            number += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        number
    });
    move || {
        is_over.store(true, Relaxed);
        thread.join().expect("no panic")
    }
}

/// Clients of a server that is stopped while two servers speak: some have got everything by then, some nothing for a while, some were
/// lost before, some have got no event at all.
fn come_back_to_another(queue: &str) {
    let [one, two] = pair(queue);
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::connect(&one)).collect();
    for reader in &mut readers {
        reader.client.join("news");
        reader.client.send("421[\"remember\",\"me\"]");
        assert_eq!(reader.client.next(), "431[true]");
    }
    readers.push(Reader::connect(&one));
    until("the room is heard of", || {
        say(&two, "probe", 0);
        readers[0].client.has_input()
    });
    std::thread::sleep(Duration::from_millis(300));
    let [one_stops, two_stops] = [speak(&one, "one"), speak(&two, "two")];
    for (number, reader) in readers.iter_mut().take(4).enumerate() {
        reader.take_until("two", 20);
        reader.client.send(&format!("42[\"say to me\",{number}]"));
        reader.take_until("me", number as u64);
    }
    // It has left a moment before, and got nothing of it.
    readers[2].client.stream.shutdown(std::net::Shutdown::Both).expect("it was open");
    // It reads nothing any more.
    readers[3].client.send("42[\"say to me\",33]");
    std::thread::sleep(Duration::from_millis(200));
    let of_one = one_stops();
    one.stop();
    for place in [0, 1, 4] {
        while readers[place].take() {}
    }
    std::thread::sleep(Duration::from_millis(100));
    for (place, reader) in readers.iter_mut().enumerate() {
        assert!(reader.come_back(&two), "{queue}: {place} is a new socket");
    }
    let of_two = two_stops();
    say(&two, "end", 0);
    for (place, reader) in readers.iter_mut().take(4).enumerate() {
        reader.take_until("end", 0);
        assert_eq!(reader.of("one"), Vec::from_iter(0..of_one), "{queue}: of one to {place}");
        assert_eq!(reader.of("two"), Vec::from_iter(0..of_two), "{queue}: of two to {place}");
        let own: &[u64] = if place == 3 { &[3, 33] } else { &[place as u64] };
        assert_eq!(reader.of("me"), own, "{queue}: to {place} alone");
        reader.client.send("422[\"who\"]");
        assert_eq!(reader.client.next(), "432[true,[\"news\"]]", "{queue}: {place}");
    }
    readers[4].client.send("422[\"who\"]");
    assert_eq!(
        readers[4].client.next(),
        "432[true,[]]",
        "{queue}: who has got nothing, and has missed nothing"
    );
    let sockets = two.handle().sockets("/").fetch().wait().expect("the server runs");
    let with_data = sockets.iter().filter(|socket| socket.data::<String>().is_ok_and(|data| data == "me"));
    assert_eq!((sockets.len(), with_data.count()), (5, 4), "{queue}");
    let stats = two.handle().queue_stats()[0];
    assert_eq!((stats.sockets_taken, stats.sockets_given_up), (5, 0), "{queue}");
    // They can be said something by their ids, and what they have taken along is nobody else's any more.
    two.handle().to("/", &readers[0].client.sid).emit("n", ("you", 1));
    readers[0].take_until("you", 1);
    readers[1].client.send("41");
    until("it has left", || two.handle().sockets("/").ids().wait().is_ok_and(|ids| ids.len() == 4));
    let mut thief = Reader { pid: readers[1].pid.clone(), ..Reader::connect(&two) };
    assert!(!thief.come_back(&two), "{queue}: once");
    two.stop();
}

#[test]
fn clients_of_a_server_that_stops_come_back_to_another_and_get_each_event_once() {
    come_back_to_another("memory:left");
}

#[test]
fn clients_of_a_server_that_stops_come_back_to_another_over_streams_of_redis() {
    let redis = BrokerProcess::redis(&[]);
    come_back_to_another(&format!("redis://127.0.0.1:{}?mode=streams", redis.port));
}

#[test]
fn a_crowd_that_comes_back_at_once_is_served_whole() {
    let redis = BrokerProcess::redis(&[]);
    let queue = format!("redis://127.0.0.1:{}?mode=streams", redis.port);
    // So little may wait for the broker that the server has to wait, again and again, until its sockets are taken.
    let small = Config { queue_message_bytes_max: 4096, queue_bytes_max: 32 * 1024, ..Config::default() };
    let [one, two] = [small, Config::default()].map(|config| server_with(&queue, Survives::Stop, config));
    until("the servers have met", || two.handle().queue_stats()[0].processes == 1);
    let mut readers: Vec<Reader> = (0..300).map(|_| Reader::connect(&one)).collect();
    readers.iter_mut().for_each(|reader| reader.client.join("news"));
    say(&one, "one", 0);
    one.stop();
    say(&two, "two", 0);
    let back: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            while reader.take() {}
            reader
        })
        .collect();
    std::thread::scope(|scope| {
        let two = &two;
        let threads: Vec<_> = back
            .into_iter()
            .map(|mut reader| {
                scope.spawn(move || {
                    assert!(reader.come_back(two), "a new socket");
                    reader.take_until("two", 0);
                    assert_eq!((reader.of("one"), reader.of("two")), (vec![0], vec![0]));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("recovered"));
    });
    let stats = two.handle().queue_stats()[0];
    assert_eq!((stats.sockets_taken, stats.sockets_given_up), (300, 0));
    two.stop();
}

#[test]
fn without_the_setting_and_without_the_broker_clients_connect_anew() {
    let queue = "memory:nothing-left";
    let servers = [server(queue, Survives::Nothing), server(queue, Survives::Nothing)];
    until("the servers have met", || servers[0].handle().queue_stats()[0].processes == 1);
    let [one, two] = servers;
    let mut reader = Reader::connect(&one);
    one.stop();
    assert!(!reader.come_back(&two), "nothing was left");
    two.stop();

    let redis = BrokerProcess::redis(&[]);
    let [one, two] = pair(&format!("redis://127.0.0.1:{}?mode=streams", redis.port));
    let mut reader = Reader::connect(&one);
    one.stop();
    drop(redis);
    until("the broker is gone", || !two.handle().queue_stats()[0].is_up);
    assert!(!reader.come_back(&two), "nobody can be asked");
    assert_eq!(two.handle().queue_stats()[0].sockets_given_up, 1);
    two.stop();
}

#[test]
fn a_queue_that_keeps_nothing_is_refused_with_what_to_write() {
    let engine = EngineOptions { message_queue: "redis://127.0.0.1:1".into(), ..EngineOptions::default() };
    let config = Config {
        engine,
        recovery_max_disconnection: Duration::from_secs(60),
        recovery_survives: Survives::Stop,
        ..Config::default()
    };
    let refused = Server::new(config).namespace("/", |_| {}).start().expect_err("pub/sub keeps nothing");
    assert!(refused.to_string().contains("mode=streams"), "{refused}");
}
