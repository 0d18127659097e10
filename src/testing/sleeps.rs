//! Sleepers and beats: to the millisecond, with no tick that wakes an idle shard.

use std::time::Duration;

use crate::base::time::Time;
use crate::testing::{TestClient, TestServer};
use crate::{Config, Context, Interval, MissedBeats, Server, Socket, interval, sleep};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn serve(setup: impl Fn(&mut crate::Namespace) + Send + Sync + 'static) -> TestServer {
    TestServer::new(Server::new(Config::default()).namespace("/", setup)).expect("the server is sound")
}

/// What the numbers in a client's events say.
fn numbers(client: &TestClient) -> Vec<u64> {
    client.received().iter().map(|event| event.first().expect("a number")).collect()
}

#[test]
fn a_sleeper_wakes_at_its_millisecond_and_not_before() {
    let server = serve(|io| {
        io.on_async("nap", |socket: Socket, length: u64| async move {
            sleep(millis(length)).await;
            socket.emit("awake", length);
        });
    });
    for length in [1, 2, 7, 49, 50, 51, 333, 60_001] {
        for phase in [0, 1, 13] {
            server.advance(millis(phase));
            let client = server.connect("/").expect("everybody may");
            client.emit("nap", length);
            server.advance(millis(length - 1));
            assert!(client.received().is_empty(), "{length} ms: too early");
            server.advance(millis(1));
            assert_eq!(numbers(&client), [length], "{length} ms: too late");
        }
    }
}

#[test]
fn a_loop_of_sleeps_keeps_its_rate() {
    let server = serve(|io| {
        io.on_async("loop", |socket: Socket| async move {
            for round in 0_u64..20 {
                sleep(millis(50)).await;
                socket.emit("round", round);
            }
        });
    });
    let client = server.connect("/").expect("everybody may");
    client.emit("loop", ());
    server.advance(millis(1_000));
    assert_eq!(numbers(&client).len(), 20, "20 times a second are 20 in a second");
}

#[test]
fn an_idle_shard_sleeps_until_something_is_due() {
    let server = serve(|io| {
        io.on_async("nap", |_: Socket| async move { sleep(millis(5_000)).await });
        io.on_async("give_up", |_: Socket| async move {
            let mut nap = Box::pin(sleep(millis(5_000)));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(nap.as_mut().poll(&mut cx).is_pending());
        });
    });
    let client = server.connect("/").expect("everybody may");
    let next = |server: &TestServer| server.host.borrow().next_timeout().since(server.host.borrow().now());
    let without = next(&server);
    client.emit("give_up", ());
    assert_eq!(next(&server), without, "a sleeper that was dropped is forgotten");
    server.advance(millis(3));
    let before = server.host.borrow().now();
    client.emit("nap", ());
    assert_eq!(server.host.borrow().next_timeout(), before + millis(5_000));
    assert!(server.host.borrow().next_timeout() < Time::NEVER);
}

#[test]
fn an_interval_keeps_its_beat_whatever_the_work_takes() {
    let server = serve(|io| {
        io.on_async("start", |socket: Socket| async move {
            let mut beats = interval(millis(50));
            for _ in 0..100 {
                let number = beats.tick().await;
                sleep(millis(20)).await;
                socket.emit("beat", number);
            }
        });
    });
    let client = server.connect("/").expect("everybody may");
    client.emit("start", ());
    server.advance(millis(50 * 100 + 20));
    assert_eq!(numbers(&client), (0..100).collect::<Vec<u64>>());
}

#[test]
fn parts_of_a_millisecond_are_kept() {
    let server = serve(|io| {
        io.on_async("start", |socket: Socket| async move {
            let mut beats = interval(Duration::from_secs(1) / 60);
            for _ in 0..60 * 61 {
                socket.emit("beat", beats.tick().await);
            }
        });
    });
    let client = server.connect("/").expect("everybody may");
    client.emit("start", ());
    server.advance(Duration::from_secs(60));
    assert_eq!(numbers(&client).len(), 60 * 60);
}

/// The numbers of the beats and the milliseconds of each, in a loop whose third round takes 175 ms.
async fn play(mut beats: Interval, socket: Socket) {
    for round in 0..9 {
        let number = beats.tick().await;
        socket.emit("beat", number);
        if round == 2 {
            sleep(millis(175)).await;
        }
    }
}

#[test]
fn missed_beats_are_skipped_made_up_for_or_moved() {
    let rows: [(MissedBeats, [(u64, u64); 9]); 3] = [
        // After 175 ms that of 150 is late at 205, those of 120 to 180 are left out.
        (
            MissedBeats::Skip,
            [(0, 30), (1, 60), (2, 90), (7, 265), (8, 270), (9, 300), (10, 330), (11, 360), (12, 390)],
        ),
        (
            MissedBeats::CatchUp,
            [(0, 30), (1, 60), (2, 90), (5, 265), (6, 265), (7, 265), (8, 270), (9, 300), (10, 330)],
        ),
        (
            MissedBeats::Delay,
            [(0, 30), (1, 60), (2, 90), (3, 265), (4, 295), (5, 325), (6, 355), (7, 385), (8, 415)],
        ),
    ];
    for (missed, expected) in rows {
        let server = serve(move |io| {
            io.on_async("start", move |socket: Socket| play(interval(millis(30)).missed(missed), socket));
        });
        let client = server.connect("/").expect("everybody may");
        client.emit("start", ());
        let mut seen = Vec::new();
        for time in 1..=500 {
            server.advance(millis(1));
            seen.extend(numbers(&client).into_iter().map(|number| (number, time)));
        }
        assert_eq!(seen, expected, "{missed:?}");
    }
}

#[test]
fn a_loop_that_is_always_late_lets_others_work() {
    // The clock stands still while a test's handler works: only a beat that waits for its turn lets the test go on at all.
    let server = serve(|io| {
        io.on_async("start", |socket: Socket| async move {
            let mut beats = interval(Duration::ZERO).missed(MissedBeats::CatchUp);
            sleep(millis(100)).await;
            for _ in 0..10 {
                beats.tick().await;
            }
            socket.emit("done", beats.period().as_millis() as u64);
        });
        io.on("echo", |_: &mut Context<'_>, number: u64| number);
    });
    let client = server.connect("/").expect("everybody may");
    client.emit("start", ());
    server.advance(millis(105));
    assert_eq!(
        server.connect("/").expect("everybody may").call("echo", 7).map(|it| it.first().ok()),
        Some(Some(7_u64))
    );
    server.advance(millis(105));
    assert_eq!(numbers(&client), [1], "periods have a millisecond at least");
}

#[test]
fn every_runs_once_for_the_server_and_survives_a_panic() {
    let server = Server::new(Config { shards: 3, ..Config::default() }).namespace("/", |_| {}).every(
        millis(250),
        |beat| {
            beat.handle().namespace("/").emit("beat", beat.number());
            assert!(beat.number() != 1, "the second beat of a test panics");
        },
    );
    let server = TestServer::new(server).expect("the server is sound");
    let clients = [0, 1, 2].map(|shard| server.client().shard(shard).connect("/").expect("everybody may"));
    server.advance(millis(1_000));
    for client in &clients {
        assert_eq!(numbers(client), [0, 1, 2, 3]);
    }
    let panics: u64 = server.handle().stats().iter().map(|shard| shard.handler_panics).sum();
    assert_eq!(panics, 1);

    let never = Server::new(Config::default()).every(Duration::ZERO, |_| {});
    let fault = TestServer::new(never).expect_err("a period has a length").to_string();
    assert!(fault.contains("1ms"), "{fault}");
}

#[test]
fn an_answer_that_came_leaves_no_timer_behind() {
    let server = serve(|io| {
        io.on("ask", |cx: &mut Context<'_>| {
            cx.emit_with_callback("question", (), |_| {});
        });
        io.on_async(
            "count",
            |socket: Socket| async move { socket.sockets().count().await.unwrap_or_default() },
        );
        io.on("ask_all", |cx: &mut Context<'_>| cx.broadcast().emit_with_callback("question", (), |_| {}));
    });
    let client = server.connect("/").expect("everybody may");
    let timers = || server.host.borrow().timers();
    let before = timers();
    for event in ["ask", "count", "ask_all"] {
        for _ in 0..1_000 {
            client.emit(event, ());
            for question in client.received() {
                client.acknowledge(&question, 1);
            }
        }
        assert_eq!(timers(), before, "{event}");
    }
    client.emit("ask", ());
    client.emit("ask_all", ());
    assert_eq!(timers(), before + 3, "one for the socket's answer; one for all clients' and one at home");
    client.cut();
    assert!(timers() <= before, "who is gone is not waited for");
}

#[test]
fn every_shard_has_its_own_beats_and_its_own_panics() {
    let server = Server::new(Config { shards: 3, ..Config::default() }).namespace("/", |_| {}).every_shard(
        Duration::from_millis(100),
        |beat| {
            assert!(beat.shard() != 1 || beat.number() != 1, "the second shard panics once");
            beat.handle().namespace("/").emit("beat", (beat.shard(), beat.number()));
        },
    );
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    server.advance(Duration::from_millis(450));
    let mut beats: Vec<String> =
        client.received().iter().map(|event| event.args().raw().to_owned()).collect();
    beats.sort();
    let expected = ["0,0", "0,1", "0,2", "0,3", "1,0", "1,2", "1,3", "2,0", "2,1", "2,2", "2,3"];
    assert_eq!(beats, expected);
    let panics: Vec<u64> = server.handle().stats().iter().map(|stats| stats.handler_panics).collect();
    assert_eq!(panics, [0, 1, 0]);
}
