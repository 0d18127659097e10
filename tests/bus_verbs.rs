//! Every verb across two processes, with one shard and with several, with recovery and without; and state rooms of three.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shardcast::{
    AckError, Config, Context, Emitted, EngineOptions, RunningServer, Server, Socket, StateRoom,
};

use wire::{Client, PATIENCE, until};

fn config(queue: &str, shards: usize) -> Config {
    let engine = EngineOptions { message_queue: queue.into(), ..EngineOptions::default() };
    Config { engine, shards, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() }
}

/// Sends the event `e` to whom the verb says, and then `mark` to everybody.
fn emit(cx: &mut Context, verb: &str, sid: &str) {
    let blue = || cx.to("blue");
    let told = match verb {
        "to" => blue().emit("e", 1),
        "except" => blue().except(sid).emit("e", 1),
        "not myself" => blue().include_self(false).emit("e", 1),
        "volatile" => blue().volatile().emit("e", 1),
        "latest" => blue().latest("key").emit("e", 1),
        "plain" => blue().compress(false).emit("e", 1),
        "local" => blue().local().emit("e", 1),
        "this shard" => blue().this_shard().emit("e", 1),
        "two rooms" => blue().to(sid).to("nobody's").emit("e", 1),
        "everybody" => cx.broadcast().emit("e", 1),
        "one" => cx.to(sid).emit("e", 1),
        "nobody" => cx.to("nobody's").emit("e", 1),
        other => panic!("there is no {other}"),
    };
    assert!(matches!(told, Emitted::Here(_)), "{verb}: {told:?}");
    cx.broadcast().emit("mark", ());
}

fn server(queue: &str, shards: usize, recovery: Duration) -> RunningServer {
    let config = Config { recovery_max_disconnection: recovery, ..config(queue, shards) };
    Server::new(config)
        .namespace("/", |io| {
            io.state_room("board", StateRoom::max_hz(100.0));
            io.on("join", |cx: &mut Context, room: String| {
                cx.join(&room);
                true
            });
            io.on("emit", |cx: &mut Context, verb: String, sid: String| emit(cx, &verb, &sid));
            io.on("change", |cx: &mut Context, verb: String, sid: String| match verb.as_str() {
                "join" => cx.to(&sid).join("green"),
                "leave" => cx.to(&sid).leave("green"),
                "close room" => cx.close_room("blue"),
                "disconnect" => cx.to(&sid).disconnect(),
                other => panic!("there is no {other}"),
            });
            io.on_async("call", |socket: Socket, sid: String| async move {
                socket.to(sid).call("question", 7).await?.first::<u32>().map_err(|_| AckError::NotSent)
            });
            io.on("data", |cx: &mut Context, data: Value| cx.set_data(&data).is_ok());
        })
        .start()
        .expect("the server starts")
}

fn have_met(servers: &[RunningServer]) {
    let others = servers.len() as u64 - 1;
    until("the servers have met", || {
        servers.iter().all(|server| server.handle().queue_stats()[0].processes == others)
    });
}

/// Each row of the table: how many shards, and how long sockets are kept.
const KINDS: [(usize, Duration); 3] =
    [(1, Duration::ZERO), (3, Duration::ZERO), (3, Duration::from_secs(60))];

/// Two servers that have met, and what distinguishes them.
fn pairs(name: &str) -> impl Iterator<Item = [RunningServer; 2]> {
    KINDS.into_iter().enumerate().map(move |(number, (shards, recovery))| {
        let queue = format!("memory:{name}{number}");
        let servers = [server(&queue, shards, recovery), server(&queue, shards, recovery)];
        have_met(&servers);
        servers
    })
}

/// Waits until the processes know of each other's members of `blue`: then an event of one reaches all clients.
fn get_ready(one: &RunningServer, members: &mut [&mut Client]) {
    let handle = one.handle();
    for client in members.iter_mut() {
        until("the room is heard of", || {
            handle.to("/", "blue").emit("probe", 0);
            handle.namespace("/").emit("probe", 1);
            client.has_input() && client.event().1 == json!(0)
        });
        until("the namespace is heard of", || {
            handle.namespace("/").emit("probe", 1);
            client.has_input() && client.event().1 == json!(1)
        });
    }
    handle.namespace("/").emit("ready", 0);
}

/// How many events `e` come before the next mark.
fn events_before(client: &mut Client, mark: &str) -> usize {
    let mut events = 0;
    loop {
        match client.event() {
            (name, _) if name == mark => return events,
            (name, _) => events += usize::from(name == "e"),
        }
    }
}

#[test]
fn each_way_to_emit_reaches_who_is_meant_in_both_processes() {
    for [one, two] in pairs("emits") {
        let mut clients = [&one, &one, &two, &two, &two].map(Client::connect);
        clients[..4].iter_mut().for_each(|client| client.join("blue"));
        let [_, _, third, ..] = &mut clients;
        get_ready(&one, &mut [third]);
        for client in &mut clients {
            events_before(client, "ready");
        }
        let (third, fifth) = (clients[2].sid.clone(), clients[4].sid.clone());
        let all = [1, 1, 1, 1, 0];
        for (verb, sid, expected) in [
            ("to", "", all),
            ("except", &*third, [1, 1, 0, 1, 0]),
            ("not myself", "", [0, 1, 1, 1, 0]),
            ("volatile", "", all),
            ("latest", "", all),
            ("plain", "", all),
            ("local", "", [1, 1, 0, 0, 0]),
            ("two rooms", &*fifth, [1, 1, 1, 1, 1]),
            ("two rooms", &*third, all),
            ("everybody", "", [1, 1, 1, 1, 1]),
            ("one", &*third, [0, 0, 1, 0, 0]),
            ("nobody", "", [0; 5]),
        ] {
            clients[0].send(&json!(["emit", verb, sid]).to_string().replacen('[', "42[", 1));
            let got: Vec<usize> = clients.iter_mut().map(|client| events_before(client, "mark")).collect();
            assert_eq!(got, expected, "{verb} {sid}, {} shards", one.shards());
        }
        clients[0].send("42[\"emit\",\"this shard\",\"\"]");
        let got: Vec<usize> = clients.iter_mut().map(|client| events_before(client, "mark")).collect();
        assert_eq!((got[0], &got[2..]), (1, &[0, 0, 0][..]), "this shard");

        // A thread says the same by a handle.
        let handle = one.handle();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                handle.to("/", "blue").except(&third).emit("e", 1);
                handle.to("/", "blue").local().emit("e", 1);
                handle.to("/", "blue").this_shard().emit("e", 1);
                handle.to("/", &fifth).emit("e", 1);
                handle.namespace("/").emit("mark", ());
            });
        });
        let got: Vec<usize> = clients.iter_mut().map(|client| events_before(client, "mark")).collect();
        assert_eq!(got, [2, 2, 0, 1, 1], "by a handle");
        drop(clients);
        one.stop();
        two.stop();
    }
}

#[test]
fn sockets_are_changed_from_afar() {
    for [one, two] in pairs("changes") {
        let mut clients = [&one, &two, &two].map(Client::connect);
        clients.iter_mut().for_each(|client| client.join("blue"));
        let handle = one.handle();
        let count = |room: &str| handle.to("/", room).count().wait().map(|count| *count);
        let [a, b, c] = &mut clients;
        let mut change = |verb: &str, sid: &str| {
            a.send(&json!(["change", verb, sid]).to_string().replacen('[', "42[", 1));
        };
        change("join", &b.sid);
        until("it is in", || count("green") == Ok(1));
        change("leave", &b.sid);
        until("it is out", || count("green") == Ok(0));
        until("all are in", || count("blue") == Ok(3));
        change("close room", "");
        until("the room is empty", || count("blue") == Ok(0));
        change("disconnect", &b.sid);
        assert_eq!(b.next(), "41");
        handle.to("/", &c.sid).join("red");
        until("it is in", || count("red") == Ok(1));
        handle.to("/", "red").leave("red");
        until("it is out", || count("red") == Ok(0));
        handle.to("/", &c.sid).close();
        assert_eq!(c.next(), "41");
        until("both are gone", || handle.sockets("/").ids().wait().is_ok_and(|ids| ids.len() == 1));
        drop(clients);
        one.stop();
        two.stop();
    }
}

/// Answers the question that comes next.
fn answer(client: &mut Client, value: &Value) {
    let question = client.next();
    let id: String = question.trim_start_matches("42").chars().take_while(char::is_ascii_digit).collect();
    client.send(&format!("43{id}[{value}]"));
}

#[test]
fn questions_reach_both_processes_and_name_who_is_missing() {
    for [one, two] in pairs("questions") {
        let [mut a, mut b, mut c] = [&one, &two, &two].map(Client::connect);
        [&mut a, &mut b, &mut c].into_iter().for_each(|client| client.join("blue"));
        let handle = one.handle();

        a.send(&format!("425[\"call\",\"{}\"]", b.sid));
        answer(&mut b, &json!(9));
        assert_eq!(a.next(), "435[9]");
        let gone = b.sid.replace(&b.sid[8..12], "AAAA");
        let called = handle.to("/", &gone).call("question", 1).timeout(Duration::from_secs(3)).wait();
        assert_eq!(called.err(), Some(AckError::Disconnected));

        b.send("426[\"data\",{\"name\":\"Ada\"}]");
        assert_eq!(b.next(), "436[true]");
        let found = handle.to("/", "blue").fetch().wait().expect("all answer");
        assert!(found.is_complete(), "{:?}", found.processes_missing());
        let ids: BTreeSet<String> = found.iter().map(|remote| remote.id().to_string()).collect();
        assert_eq!(ids, BTreeSet::from([a.sid.clone(), b.sid.clone(), c.sid.clone()]));
        let remote = found.iter().find(|remote| remote.id().as_str() == b.sid).expect("it is found");
        assert_eq!(remote.data::<Value>().ok(), Some(json!({ "name": "Ada" })));
        assert_eq!(remote.handshake().query("EIO").as_deref(), Some("4"));
        assert_eq!(remote.rooms(), [b.sid.clone(), "blue".to_owned()]);
        assert_eq!(*handle.to("/", "blue").local().count().wait().expect("it answers"), 1);
        assert_eq!(handle.rooms("/").wait().expect("all answer").get("blue"), Some(&3));

        let asked = std::thread::spawn({
            let handle = one.handle();
            move || handle.to("/", "blue").emit_with_ack("question", 1).wait().expect("asked")
        });
        answer(&mut a, &json!(1));
        answer(&mut b, &json!(2));
        c.next();
        let left = c.sid.clone();
        drop(c);
        let answers = asked.join().expect("no panic");
        let said: BTreeMap<String, u32> = answers
            .received
            .iter()
            .map(|(sid, answer)| (sid.to_string(), answer.first().expect("a number")))
            .collect();
        assert_eq!(said, BTreeMap::from([(a.sid.clone(), 1), (b.sid.clone(), 2)]));
        let missing: Vec<_> = answers.missing.iter().map(|(sid, error)| (sid.to_string(), *error)).collect();
        assert_eq!(missing, [(left, AckError::Disconnected)]);
        assert!(answers.processes_missing.is_empty() && !answers.is_complete());

        // A process that stops while it is asked holds nobody up.
        let started = Instant::now();
        let asked = std::thread::spawn({
            let handle = one.handle();
            move || handle.to("/", "blue").emit_with_ack("question", 1).wait().expect("asked")
        });
        answer(&mut a, &json!(1));
        b.next();
        two.stop();
        let answers = asked.join().expect("no panic");
        assert_eq!(answers.received.len(), 1);
        assert!(!answers.is_complete(), "{answers:?}");
        assert!(started.elapsed() < PATIENCE, "it took as long as clients may");
        drop((a, b));
        one.stop();
    }
}

#[test]
fn endpoints_have_queues_of_their_own_or_none() {
    let server = |queue: &str| {
        Server::new(config(queue, 2))
            .namespace("/", |_| {})
            .endpoint("/other.io/", |endpoint| {
                endpoint.options.message_queue = "memory:endpoints-other".into();
                endpoint.namespace("/", |_| {});
            })
            .endpoint("/alone.io/", |endpoint| {
                endpoint.options.message_queue = "".into();
                endpoint.namespace("/", |_| {});
            })
            .start()
            .expect("the server starts")
    };
    let servers = [server("memory:endpoints"), server("memory:endpoints")];
    until("the servers have met on both queues", || {
        servers.iter().all(|server| {
            let stats = server.handle().queue_stats();
            stats.len() == 2 && stats.iter().all(|stats| stats.processes == 1)
        })
    });
    for (path, is_joined) in [("/socket.io/", true), ("/other.io/", true), ("/alone.io/", false)] {
        let mut clients: Vec<Client> =
            servers.iter().map(|server| Client::connect_to(server, path)).collect();
        let handle = servers[0].handle().endpoint(path);
        let expected = 1 + u64::from(is_joined);
        let ids = || handle.sockets("/").ids().wait().map(|ids| ids.len() as u64);
        until("both are found", || ids() == Ok(expected));
        if is_joined {
            let far = clients.pop().expect("there are two");
            handle.to("/", &far.sid).disconnect();
            until("it is gone", || ids() == Ok(1));
        }
    }
    servers.into_iter().for_each(RunningServer::stop);
}

/// Reads events of the state room until its values are these.
fn board(client: &mut Client, expected: &Value) {
    let mut values = serde_json::Map::new();
    until("the values are the same", || {
        let text = client.next();
        let list: Vec<Value> =
            text.find('[').and_then(|at| serde_json::from_str(&text[at..]).ok()).unwrap_or_default();
        let [name, Value::Object(changes), is_all, ..] = &list[..] else { return false };
        assert_eq!(name, "board");
        if *is_all == json!(true) {
            values.clear();
        }
        for (key, value) in changes {
            match value {
                Value::Null => values.remove(key),
                value => values.insert(key.clone(), value.clone()),
            };
        }
        Value::Object(values.clone()) == *expected
    });
}

#[test]
fn state_rooms_of_all_processes_have_the_same_values() {
    let start = || server("memory:states", 3, Duration::ZERO);
    // One has values before it knows anybody.
    let one = start();
    let handle = one.handle();
    for number in 0..100 {
        handle.state("/", "board").set(&format!("old{number}"), &number).expect("taken");
    }
    handle.state("/", "board").set("kept", &"é").expect("taken");
    let two = start();
    let mut servers = vec![one, two];
    have_met(&servers);
    let mut clients: Vec<Client> = servers.iter().map(Client::connect).collect();
    clients.iter_mut().for_each(|client| client.send("42[\"join\",\"board\"]"));
    for number in 0..100 {
        servers[0].handle().state("/", "board").remove(&format!("old{number}")).expect("taken");
    }
    servers[1].handle().state("/", "board").set("second", &[1, 2]).expect("taken");
    let expected = json!({ "kept": "é", "second": [1, 2] });
    clients.iter_mut().for_each(|client| board(client, &expected));

    // One that comes later is told all of it, and is heard.
    servers.push(start());
    have_met(&servers);
    clients.push(Client::connect(&servers[2]));
    clients[2].send("42[\"join\",\"board\"]");
    board(&mut clients[2], &expected);
    servers[2].handle().state("/", "board").set("third", &3).expect("taken");
    servers[2].handle().state("/", "board").remove("second").expect("taken");
    let third = &mut clients[2];
    until("it hears itself", || {
        let text = third.next();
        text.contains("\"second\":null")
    });
    // Who joins anew is sent everything.
    for server in &servers {
        let mut late = Client::connect(server);
        late.send("42[\"join\",\"board\"]");
        board(&mut late, &json!({ "kept": "é", "third": 3 }));
    }
    servers.into_iter().for_each(RunningServer::stop);
}

#[test]
#[cfg(feature = "redis")]
fn an_emit_says_that_the_queue_is_full_or_the_message_too_large() {
    // Nobody listens there, so that all that is said waits.
    let queue = Config {
        queue_bytes_max: 20_000,
        queue_message_bytes_max: 10_000,
        ..config("redis://127.0.0.1:1", 2)
    };
    let server = Server::new(queue).namespace("/", |_| {}).start().expect("the server starts");
    let mut client = Client::connect(&server);
    let handle = server.handle();
    let emit = |bytes: usize| handle.namespace("/").emit("e", "x".repeat(bytes));
    let large = emit(10_000);
    assert!(matches!(large, Emitted::TooLarge { bytes: 10_001.., bytes_max: 10_000 }), "{large:?}");
    let taken = (0..100).take_while(|_| matches!(emit(4_000), Emitted::Here(_))).count();
    assert_eq!((taken, emit(1)), (5, Emitted::QueueFull));
    // This process' own clients get everything.
    for _ in 0..taken + 3 {
        assert_eq!(client.event().0, "e");
    }
    let stats = handle.queue_stats()[0];
    assert!(!stats.is_up && stats.refused >= 3 && stats.waiting_bytes > 20_000, "{stats:?}");
    let found = handle.sockets("/").ids().wait().expect("this process answers");
    assert_eq!((found.len(), found.is_complete()), (1, false));
    assert!(found.processes_missing()[0].contains("the message queue is away"));
    server.stop();
}
