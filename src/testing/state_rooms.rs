//! State rooms, as pages see them: whoever stalls, leaves or comes back ends with the values of all the others.

use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{Config, Context, Server, StateError, StateRoom};

/// What a page that watches a state room would show.
fn watch(client: &TestClient, shown: &mut std::collections::BTreeMap<String, serde_json::Value>) -> usize {
    let events = client.received();
    for event in &events {
        let values: serde_json::Map<String, serde_json::Value> = event.first().expect("an object");
        if event.args().read::<bool>(1).expect("whether it is all") {
            shown.clear();
        }
        shown.extend(values);
        shown.retain(|_, value| !value.is_null());
    }
    events.len()
}

/// A state room that clients watch and change.
fn board(shards: usize) -> Server {
    let config = Config { shards, ..Config::default() };
    Server::new(config).namespace("/", |io| {
        io.state_room("board", StateRoom::max_hz(20.0).keys_max(8).bytes_max(250_000));
        io.on("watch", |cx: &mut Context<'_>| cx.join("board"));
        io.on("unwatch", |cx: &mut Context<'_>| cx.leave("board"));
        io.on("set", |cx: &mut Context<'_>, key: String, value: serde_json::Value| {
            cx.state("board").set(&key, &value).map_err(|error| error.to_string())
        });
        io.on("remove", |cx: &mut Context<'_>, key: String| cx.state("board").remove(&key));
        io.on_error(|cx, error| {
            cx.emit("refused", error.to_string());
        });
    })
}

#[test]
fn every_subscriber_of_a_state_room_ends_with_its_values() {
    let server = TestServer::new(board(3)).expect("the server is sound");
    let clients: Vec<_> = (0..6).map(|_| server.connect("/").expect("everybody may")).collect();
    let publishers: Vec<_> = (0..3).map(|_| server.connect("/").expect("everybody may")).collect();
    let mut shown = vec![std::collections::BTreeMap::new(); clients.len()];
    let mut random = 7_u64;
    let mut next = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % bound
    };
    clients.iter().for_each(|client| client.emit("watch", ()));
    for round in 0..400 {
        let key = format!("k{}", next(8));
        let publisher = &publishers[next(3) as usize];
        match next(10) {
            0 => publisher.emit("remove", key),
            1 => publisher.emit("set", (key, "x".repeat(30_000))),
            2 => server.handle().state("/", "board").set(&key, &round).expect("the shard has room"),
            _ => publisher.emit("set", (key, round)),
        }
        let client = next(6) as usize;
        match next(12) {
            0 => clients[client].set_reading(false),
            1 | 2 => clients[client].set_reading(true),
            3 => clients[client].emit("unwatch", ()),
            4 => clients[client].emit("watch", ()),
            _ => {}
        }
        let millis = next(30);
        server.advance(Duration::from_millis(millis));
    }
    for client in &clients {
        client.set_reading(true);
        client.emit("unwatch", ());
        client.emit("watch", ());
    }
    server.advance(Duration::from_secs(1));
    for (client, shown) in clients.iter().zip(&mut shown) {
        watch(client, shown);
    }
    assert!(!shown[0].is_empty());
    for other in &shown[1..] {
        assert!(*other == shown[0], "all show the same");
    }
    assert!(clients[0].call("set", ("k0", "end")).is_some());
    server.advance(Duration::from_millis(100));
    for (client, shown) in clients.iter().zip(&mut shown) {
        assert_eq!(watch(client, shown), 1);
        assert_eq!(shown["k0"], "end");
    }
}

#[test]
fn a_change_beyond_a_bound_is_refused_with_its_reason() {
    let server = TestServer::new(board(1)).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    for key in 0..=8 {
        client.emit("set", (format!("k{key}"), 0));
    }
    client.emit("set", ("k0", "x".repeat(250_000)));
    client.emit("set", ("k".repeat(257), 0));
    let refusals: Vec<String> =
        client.received().iter().map(|event| event.first().expect("a text")).collect();
    let expected = [StateError::TooManyKeys, StateError::TooLarge, StateError::KeyTooLong];
    assert_eq!(refusals, expected.map(|error| error.to_string()));
}

#[test]
fn a_state_room_speaks_at_most_max_hz_and_a_stalled_subscriber_costs_no_memory() {
    let server = Server::new(Config::default()).namespace("/", |io| {
        io.state_room("board", StateRoom::max_hz(10.0));
        io.on("watch", |cx: &mut Context<'_>| cx.join("board"));
    });
    let server = TestServer::new(server).expect("the server is sound");
    let (reads, stalls) = (server.connect("/").expect("a client"), server.connect("/").expect("a client"));
    reads.emit("watch", ());
    stalls.emit("watch", ());
    let (mut seen, mut late) = (Default::default(), Default::default());
    assert_eq!((watch(&reads, &mut seen), watch(&stalls, &mut late)), (1, 1));
    stalls.set_reading(false);
    let handle = server.handle();
    let mut events = 0;
    for value in 0..1000 {
        handle.state("/", "board").set("a", &"x".repeat(1000)).expect("set");
        handle.state("/", "board").set("n", &value).expect("set");
        handle.state("/", "board").set("b", &format!("{value:01000}")).expect("set");
        server.advance(Duration::from_millis(10));
        events += watch(&reads, &mut seen);
    }
    assert!((100..=101).contains(&events), "{events} events in ten seconds");
    assert_eq!(seen["n"], 999);
    // What the stalled one is owed is bounded, and it is neither closed nor wrong afterwards.
    stalls.set_reading(true);
    server.advance(Duration::from_millis(300));
    let events = watch(&stalls, &mut late);
    assert!(events <= 18, "{events} events of 1 kB after ten seconds without reading");
    assert!(stalls.is_connected() && late == seen);
}

#[test]
fn what_a_background_task_sets_first_is_there() {
    let server = board(3).background(|handle| async move {
        handle.state("/", "board").set("began", &true).expect("the shard has room");
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    client.emit("watch", ());
    assert_eq!(client.received()[0].to_string(), r#"["board",{"began":true},true]"#);
}

#[test]
fn null_removes_a_key_and_a_tick_publishes() {
    let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", |io| {
        io.state_room("board", StateRoom::max_hz(10.0).keys_max(1));
        io.on("watch", |cx: &mut Context<'_>| cx.join("board"));
        io.every(Duration::from_millis(100), |tick| {
            let board = tick.state("board");
            // One key is the most: the other must be gone first.
            let (here, gone) = if tick.number() % 2 == 0 { ("even", "odd") } else { ("odd", "even") };
            board
                .set(gone, &None::<u64>)
                .and_then(|()| board.set(here, &tick.number()))
                .expect("there is room");
        });
    });
    assert_eq!(server.handle().state("/", "board").set("k", &1), Err(StateError::NotRunning));
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    client.emit("watch", ());
    let mut seen = Default::default();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..4 {
        server.advance(Duration::from_millis(100));
        watch(&client, &mut seen);
        assert_eq!(seen.len(), 1, "{seen:?}");
        names.extend(seen.keys().cloned());
    }
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["even", "odd"]);
}

#[test]
fn who_joins_gets_what_was_encoded_for_the_one_before() {
    let server = TestServer::new(board(1)).expect("the server is sound");
    let publisher = server.connect("/").expect("everybody may");
    let join = || {
        let client = server.connect("/").expect("everybody may");
        client.emit("watch", ());
        let events: Vec<String> = client.received().iter().map(|event| event.to_string()).collect();
        let snapshots = server.host.borrow().snapshots();
        assert_eq!(snapshots.len(), 1);
        (events, std::sync::Arc::as_ptr(&snapshots[0]))
    };
    publisher.emit("set", ("a", 1));
    let (first, second) = (join(), join());
    assert_eq!(first, second, "the same piece of memory");
    assert_eq!(first.0, [r#"["board",{"a":1},true]"#]);
    // The same value is no change; another is, whether it is flushed or not, and so is one that goes.
    publisher.emit("set", ("a", 1));
    assert_eq!(join(), first);
    for (event, args, expected) in [
        ("set", serde_json::json!(["b", 2]), r#"["board",{"a":1,"b":2},true]"#),
        ("remove", serde_json::json!(["a"]), r#"["board",{"b":2},true]"#),
    ] {
        let args: Vec<serde_json::Value> = args.as_array().expect("a list").clone();
        match args.as_slice() {
            [key] => publisher.emit(event, key),
            [key, value] => publisher.emit(event, (key, value)),
            _ => unreachable!("one or two"),
        }
        assert!(server.host.borrow().snapshots().is_empty(), "{event}");
        assert_eq!(join().0, [expected]);
        server.advance(Duration::from_millis(100));
        assert_eq!(join().0, [expected]);
    }
}
