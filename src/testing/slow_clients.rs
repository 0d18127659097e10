//! What clients see that do not read for a while, rule by rule.

use crate::testing::{TestClient, TestServer};
use crate::{CloseReason, Config, Context, Emitted, Namespace, Outcome, Server, SlowConsumers};

/// Sends event number `n` to the room `all`; the last two arguments are its name and its number.
type Send = fn(&Context<'_>, &str, u64) -> Emitted;

type Setup = fn(&mut Namespace);

/// A client that stalls before event 1 of 8 and reads again after the last, and one that reads all the time.
struct Run {
    /// Numbers that the slow one has in the end.
    slow: Vec<u64>,
    healthy: usize,
    /// What became of each event.
    outcomes: Vec<Outcome>,
    drains: u64,
}

fn run(setup: Setup, send: Send) -> Run {
    let server = server(Config::default(), setup, send);
    let (healthy, slow) = (connect(&server), connect(&server));
    healthy.emit("go", ("n", 0));
    slow.set_reading(false);
    let mut outcomes = Vec::new();
    for number in 1..=8 {
        let name = if number % 2 == 0 { "even" } else { "odd" };
        let answer = healthy.call("go", (name, number)).expect("an answer");
        let [sent, queued, dropped] = answer.first().expect("three numbers");
        outcomes.push(Outcome { sent, queued, dropped });
    }
    slow.set_reading(true);
    let drains = healthy.call("drains", ()).and_then(|answer| answer.first().ok()).expect("a number");
    let last = healthy.call("go", ("n", 9)).expect("an answer");
    assert_eq!(last.first::<[u64; 3]>().expect("numbers"), [2, 0, 0], "all have caught up");
    Run { slow: numbers(&slow), healthy: numbers(&healthy).len(), outcomes, drains }
}

fn server(config: Config, setup: Setup, send: Send) -> TestServer {
    let server = Server::new(config).namespace("/", move |io| {
        let drains = std::rc::Rc::new(std::cell::Cell::new(0_u64));
        let seen = std::rc::Rc::clone(&drains);
        setup(io);
        io.on_connect(|cx: &mut Context<'_>| {
            cx.join("all");
        });
        io.on("go", move |cx: &mut Context<'_>, name: String, number: u64| match send(cx, &name, number) {
            Emitted::Here(Outcome { sent, queued, dropped }) => [sent, queued, dropped],
            other => panic!("{other:?}"),
        });
        io.on_drain(move |_| drains.set(drains.get() + 1));
        io.on("drains", move |_: &mut Context<'_>| seen.get());
    });
    TestServer::new(server).expect("the server is sound")
}

fn connect(server: &TestServer) -> TestClient {
    server.connect("/").expect("everybody may")
}

fn numbers(client: &TestClient) -> Vec<u64> {
    client.received().iter().map(|event| event.first().expect("a number")).collect()
}

#[test]
fn what_is_volatile_is_dropped_for_who_is_behind() {
    let run = run(|_| {}, |cx, name, number| cx.to("all").volatile().emit(name, number));
    assert_eq!(
        (run.slow.as_slice(), run.healthy),
        ([0, 1, 9].as_slice(), 10),
        "the first found nothing before it"
    );
    assert_eq!(run.outcomes[0], Outcome { sent: 2, queued: 0, dropped: 0 });
    for outcome in &run.outcomes[1..] {
        assert_eq!(*outcome, Outcome { sent: 1, queued: 0, dropped: 1 });
    }
    assert_eq!(run.drains, 1);
}

#[test]
fn the_latest_of_each_key_waits_for_who_is_behind() {
    let of_key: Send =
        |cx, _, number| cx.to("all").latest(["a", "b", "c"][number as usize % 3]).emit("n", number);
    let of_rule: Send = |cx, name, number| cx.to("all").emit(name, number);
    let rows: [(Setup, Send, &[u64]); 3] = [
        (|_| {}, of_key, &[0, 1, 8, 6, 7, 9]),
        (|io| io.slow_consumers(SlowConsumers::Latest), of_rule, &[0, 1, 8, 7, 9]),
        (|io| io.slow_consumers_in("all", SlowConsumers::Latest), of_rule, &[0, 1, 8, 7, 9]),
    ];
    for (setup, send, expected) in rows {
        let run = run(setup, send);
        assert_eq!((run.slow.as_slice(), run.healthy), (expected, 10));
        assert_eq!(run.outcomes[7], Outcome { sent: 1, queued: 1, dropped: 0 });
        assert_eq!(run.drains, 1);
    }
}

/// A number in an argument that is 1,000 bytes long.
fn emit_large(cx: &Context<'_>, _: &str, number: u64) -> Emitted {
    cx.to("all").emit("n", (number, "x".repeat(1000)))
}

#[test]
fn rules_drop_the_newest_or_the_oldest() {
    let run_newest = run(|io| io.slow_consumers(SlowConsumers::DropNewest { bytes_max: 4096 }), emit_large);
    assert_eq!(run_newest.slow, [0, 1, 2, 3, 4, 9]);
    assert_eq!(run_newest.outcomes[3], Outcome { sent: 1, queued: 1, dropped: 0 });
    assert_eq!(run_newest.outcomes[4], Outcome { sent: 1, queued: 0, dropped: 1 });
    let run_oldest =
        run(|io| io.slow_consumers_in("all", SlowConsumers::DropOldest { bytes_max: 4096 }), emit_large);
    assert_eq!(run_oldest.slow, [0, 1, 5, 6, 7, 8, 9], "1 is on its way, of the others the last four");
    assert_eq!(run_oldest.outcomes[7], Outcome { sent: 1, queued: 1, dropped: 0 });
    assert_eq!((run_newest.healthy, run_oldest.healthy), (10, 10));
    let run_close = run(
        |io| {
            io.slow_consumers(SlowConsumers::DropNewest { bytes_max: 0 });
            io.slow_consumers_in("all", SlowConsumers::Close);
        },
        emit_large,
    );
    assert_eq!((run_close.slow.len(), run_close.drains), (10, 0), "nothing is lost where nothing may be");
    assert_eq!(run_close.outcomes[7], Outcome { sent: 1, queued: 1, dropped: 0 });
}

#[test]
fn an_endpoint_has_a_rule_for_namespaces_that_say_nothing() {
    const LARGE: usize = 1000;
    fn loud(io: &mut Namespace<'_>) {
        io.on_connect(|cx: &mut Context<'_>| cx.join("all"));
        io.on("go", |cx: &mut Context<'_>, number: u64| {
            cx.to("all").emit("n", (number, "x".repeat(LARGE)));
        });
    }
    let rule = SlowConsumers::DropNewest { bytes_max: 2 * LARGE };
    let server =
        Server::new(Config::default()).namespace("/", loud).endpoint("/screens.io/", move |endpoint| {
            endpoint.namespace("/", loud);
            // It counts for those before it, too.
            endpoint.slow_consumers(rule);
            endpoint.namespace("/orders", |io| {
                io.slow_consumers(SlowConsumers::Close);
                loud(io);
            });
        });
    let server = TestServer::new(server).expect("the server is sound");
    for (path, namespace, is_whole) in
        [("/socket.io/", "/", true), ("/screens.io/", "/", false), ("/screens.io/", "/orders", true)]
    {
        let connect = || server.client().at_path(path).connect(namespace).expect("everybody may");
        let (speaker, slow) = (connect(), connect());
        slow.set_reading(false);
        (0..8).for_each(|number| speaker.emit("go", number));
        slow.set_reading(true);
        assert_eq!(slow.received().len() == 8, is_whole, "{path} {namespace}");
        assert_eq!(speaker.received().len(), 8);
    }
}

#[test]
fn a_burst_in_one_turn_is_bounded_as_well() {
    let burst: Send = |cx, _, _| {
        for number in 100..200 {
            emit_large(cx, "", number);
        }
        cx.emit("n", 0)
    };
    let server = server(
        Config::default(),
        |io| io.slow_consumers(SlowConsumers::DropOldest { bytes_max: 4096 }),
        burst,
    );
    let client = connect(&server);
    client.emit("go", ("n", 0));
    assert_eq!(numbers(&client), [100, 101, 102, 103, 196, 197, 198, 199, 0]);
    assert!(client.is_connected());
}

#[test]
fn answers_and_questions_are_not_dropped() {
    let server = Server::new(Config::default()).namespace("/", |io| {
        io.slow_consumers(SlowConsumers::DropNewest { bytes_max: 0 });
        io.on("ask", |cx: &mut Context<'_>| {
            cx.emit("lost", ());
            cx.emit_with_callback("question", 1, |_| {});
            cx.broadcast().emit_with_callback("question", 2, |_| {});
            (
                cx.owed_bytes() > 0,
                matches!(cx.volatile().emit("n", 3), Emitted::Here(Outcome { sent: 1, .. })),
            )
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = connect(&server);
    let answer = client.call("ask", ()).expect("an answer");
    assert_eq!(answer.args().raw(), "true,true");
    let received: Vec<String> = client.received().iter().map(ToString::to_string).collect();
    assert_eq!(received, [r#"["question",1]"#, r#"["question",2]"#, r#"["n",3]"#]);
}

#[test]
fn what_is_parked_is_void_when_its_namespace_is_left() {
    let server = Server::new(Config::default());
    let server = ["/", "/a"].into_iter().fold(server, |server, name| {
        server.namespace(name, |io| {
            io.slow_consumers(SlowConsumers::Latest);
            io.on("go", |cx: &mut Context<'_>, number: u64| {
                cx.broadcast().emit("n", number);
            });
            io.on("leave", |cx: &mut Context<'_>| cx.broadcast().disconnect());
        })
    });
    let server = TestServer::new(server).expect("the server is sound");
    let slow = connect(&server);
    let in_a = slow.join_namespace("/a", &serde_json::json!({})).expect("everybody may");
    let (in_root, other_in_a) = (connect(&server), server.connect("/a").expect("everybody may"));
    slow.set_reading(false);
    for number in 0..3 {
        in_root.emit("go", number);
        other_in_a.emit("go", number + 10);
    }
    other_in_a.emit("leave", ());
    slow.set_reading(true);
    assert_eq!((numbers(&slow), numbers(&in_a)), (vec![0, 2], vec![]));
    assert!(!in_a.is_connected());
}

#[test]
fn when_all_together_are_owed_too_much_the_slowest_go() {
    let config = Config { shards: 1, outboxes_bytes_max: 100_000, ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
        io.on("go", |cx: &mut Context<'_>, room: String, bytes: usize| {
            cx.to(room).emit("n", (1, "x".repeat(bytes)));
        });
        io.on_disconnect(|cx: &mut Context<'_>, reason: CloseReason| {
            cx.broadcast().emit("gone", reason.as_str());
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let healthy = connect(&server);
    let slow: Vec<TestClient> = (0..3).map(|_| connect(&server)).collect();
    for (place, client) in slow.iter().enumerate() {
        client.emit("join", format!("r{place}"));
        client.set_reading(false);
    }
    let owed = || server.handle().stats().iter().map(|shard| shard.owed_bytes).sum::<u64>();
    healthy.emit("go", ("r0", 30_000));
    healthy.emit("go", ("r1", 40_000));
    assert!((70_000..71_000).contains(&owed()), "{}", owed());
    assert_eq!(numbers(&healthy).len(), 0);
    healthy.emit("go", ("r2", 35_000));
    assert_eq!(
        healthy.received()[0].to_string(),
        r#"["gone","slow consumer"]"#,
        "at once, without a further event"
    );
    assert_eq!(slow.iter().map(TestClient::is_connected).collect::<Vec<_>>(), [true, false, true]);
    for client in &slow {
        client.set_reading(true);
    }
    assert_eq!(owed(), 0);
    assert_eq!(slow[0].received().len(), 2, "who stays loses nothing");
}

#[test]
fn what_http_answers_owe_counts() {
    let config = Config { shards: 1, outboxes_bytes_max: 1_000_000, ..Config::default() };
    let server = Server::new(config).route("/big", |_| crate::http::Response::text("x".repeat(300_000)));
    let server = TestServer::new(server).expect("the server is sound");
    let mut host = server.host.borrow_mut();
    let wires = [0; 20].map(|_| {
        let wire = host.dial(0, crate::Peer::Unix);
        host.set_reading(wire, false);
        host.write(wire, b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
        host.settle();
        wire
    });
    let open = wires.iter().filter(|wire| !host.is_over(**wire)).count();
    drop(host);
    let stats = server.handle().stats()[0];
    assert_eq!((open, stats.slow_consumers_closed), (2, 18), "down to seven eighths of the bound");
    assert!((600_000..610_000).contains(&stats.owed_bytes), "{}", stats.owed_bytes);
}

#[test]
fn a_broadcast_to_many_who_read_is_nobodys_debt() {
    let config = Config { shards: 1, outboxes_bytes_max: 100_000, ..Config::default() };
    let server = server(config, |_| {}, |cx, _, _| cx.to("all").emit("n", (1, "x".repeat(30_000))));
    let clients: Vec<TestClient> = (0..20).map(|_| connect(&server)).collect();
    clients[0].emit("go", ("n", 0));
    assert!(clients.iter().all(|client| client.is_connected() && client.received().len() == 1));
    assert_eq!(server.handle().stats()[0].owed_bytes, 0);
}

#[test]
fn a_handler_that_emits_without_end_fills_no_more_than_the_bound() {
    let ways: [fn(&Context<'_>); 3] = [
        |cx| {
            cx.to("all").emit("n", (1, "x".repeat(1000)));
        },
        |cx| {
            cx.emit("n", (1, "x".repeat(1000)));
        },
        |cx| {
            cx.emit_with_callback("n", (1, "x".repeat(1000)), |_| {});
        },
    ];
    for (place, emit) in ways.into_iter().enumerate() {
        let config = Config { shards: 1, outbox_bytes_max: 50_000, ..Config::default() };
        let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = std::sync::Arc::clone(&most);
        let server = Server::new(config).namespace("/", move |io| {
            let most = std::sync::Arc::clone(&most);
            io.on_connect(|cx: &mut Context<'_>| {
                cx.join("all");
            });
            io.on("go", move |cx: &mut Context<'_>| {
                for _ in 0..500 {
                    emit(cx);
                    most.fetch_max(cx.owed_bytes(), std::sync::atomic::Ordering::Relaxed);
                }
            });
        });
        let server = TestServer::new(server).expect("the server is sound");
        let client = connect(&server);
        client.emit("go", ());
        let most = seen.load(std::sync::atomic::Ordering::Relaxed);
        assert!((50_000..53_000).contains(&most), "way {place}: {most}");
        assert!(!client.is_connected());
        assert_eq!(server.handle().stats()[0].slow_consumers_closed, 1);
    }
}
