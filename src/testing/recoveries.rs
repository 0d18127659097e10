//! What clients see that lose their connection and come back: on the same shard, on another, in time or not.

use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{Binary, CloseReason, Config, Context, RawJson, Refused, Server, SlowConsumers, Socket, sleep};

const WINDOW: Duration = Duration::from_secs(120);

fn config(shards: usize) -> Config {
    Config { shards, recovery_max_disconnection: WINDOW, ..Config::default() }
}

fn serve(config: Config) -> TestServer {
    let server = Server::new(config).namespace("/", |io| {
        io.slow_consumers_in("ruled", SlowConsumers::Latest);
        io.on_connect(|cx: &mut Context<'_>| {
            cx.emit("hello", (cx.id(), format!("{:?}", cx.recovery())));
        });
        io.on("join", |cx: &mut Context<'_>, room: String| {
            cx.set_data(&room).expect("a text is short");
            cx.join(room)
        });
        io.on("say", |cx: &mut Context<'_>, room: String, number: u64| {
            cx.to(room).include_self(false).emit("n", number);
        });
        io.on("bytes", |cx: &mut Context<'_>, room: String| {
            cx.to(room).emit("bytes", Binary::from(vec![1, 2, 3]));
        });
        io.on("volatile", |cx: &mut Context<'_>, room: String, text: String| {
            cx.to(room).volatile().emit("volatile", text);
        });
        io.on("rooms", |cx: &mut Context<'_>| cx.rooms());
        io.on_async("count", |cx: Socket, room: String| async move {
            cx.to(room).count().await.map_err(|error| error.to_string())
        });
        io.on("end", |cx: &mut Context<'_>| cx.disconnect());
        io.on_disconnect(|cx: &mut Context<'_>, reason: CloseReason| {
            cx.to("watchers").emit("gone", (cx.id(), reason.as_str()));
        });
    });
    TestServer::new(server).expect("the server is sound")
}

fn connect(server: &TestServer) -> TestClient {
    let client = server.connect("/").expect("everybody may");
    assert_eq!(hello(&client), "NotAsked");
    client
}

/// What the connect handler has said of the recovery.
fn hello(client: &TestClient) -> String {
    let hello = client.received().remove(0);
    assert_eq!((hello.name(), hello.first::<String>().expect("an id")), ("hello", client.id()));
    hello.args().read(1).expect("an outcome")
}

fn numbers(client: &TestClient) -> Vec<u64> {
    let received = client.received();
    let numbers = received.iter().filter(|event| event.name() == "n");
    numbers.map(|event| event.first().expect("a number")).collect()
}

fn count(client: &TestClient) -> u64 {
    client.call("count", "a").expect("an answer").first().expect("a number")
}

#[test]
fn a_client_comes_back_on_any_shard_with_what_it_has_missed() {
    for shards in [1, 2, 3] {
        for back_on in 0..shards {
            let server = serve(config(shards));
            let (lost, speaker) = (connect(&server), connect(&server));
            lost.call("join", "a").expect("joined");
            for number in 0..3 {
                speaker.emit("say", ("a", number));
            }
            assert_eq!(numbers(&lost), [0, 1, 2]);
            lost.cut();
            for number in 3..6 {
                speaker.emit("say", ("a", number));
                server.handle().to("/", "a").emit("n", number + 100);
                server.handle().to("/", lost.id()).emit("n", number + 200);
                server.advance(Duration::ZERO);
            }
            assert_eq!(count(&speaker), 0, "who is lost does not count");
            let back = server.client().shard(back_on).recovering(&lost).connect("/").expect("it may");
            let received = back.received();
            let texts: Vec<(&str, u64)> =
                received.iter().filter_map(|event| Some((event.name(), event.first().ok()?))).collect();
            let missed: Vec<u64> =
                texts.iter().filter(|(name, _)| *name == "n").map(|(_, number)| *number).collect();
            assert_eq!(missed, [3, 103, 203, 4, 104, 204, 5, 105, 205], "{shards} shards, back on {back_on}");
            assert_eq!(
                received.last().expect("a hello").args().read::<String>(1).as_deref(),
                Ok("Recovered")
            );
            speaker.emit("say", ("a", 6));
            assert_eq!(numbers(&back), [6]);
            let rooms = back.call("rooms", ()).expect("rooms");
            assert_eq!(rooms.first::<Vec<String>>().expect("names"), [back.id(), "a".to_owned()]);
            assert_eq!(count(&speaker), 1);
        }
    }
}

#[test]
fn one_that_got_nothing_or_was_long_quiet_comes_back() {
    let server = serve(config(2));
    let (lost, speaker) = (connect(&server), connect(&server));
    // It was told its private id, and not even the hello has reached it.
    let fresh = server.client().shard(1);
    lost.call("join", "a").expect("joined");
    server.advance(Duration::from_secs(3600));
    lost.cut();
    speaker.emit("say", ("a", 1));
    let back = fresh.recovering(&lost).connect("/").expect("it may");
    let received = back.received();
    assert_eq!(received[0].first::<u64>(), Ok(1));
    assert_eq!(received[1].args().read::<String>(1).as_deref(), Ok("Recovered"));
}

#[test]
fn who_comes_back_twice_and_has_missed_nothing_goes_on_naming_the_last_event() {
    let server = Server::new(config(2)).namespace("/", |_| {});
    let server = TestServer::new(server).expect("the server is sound");
    let mut client = server.connect("/").expect("everybody may");
    server.handle().namespace("/").emit("n", 1);
    server.advance(Duration::ZERO);
    assert_eq!(numbers(&client), [1]);
    let id = client.id();
    for back_on in [0, 1, 1, 0] {
        client.cut();
        client = server.client().shard(back_on).recovering(&client).connect("/").expect("everybody may");
        assert_eq!((client.id(), numbers(&client)), (id.clone(), vec![]));
    }
}

#[test]
fn a_private_id_is_good_once_and_for_so_long() {
    for shards in [1, 2] {
        let server = serve(config(shards));
        let lost = connect(&server);
        lost.call("join", "a").expect("joined");
        lost.cut();
        let back = server.client().recovering(&lost).connect("/").expect("it may");
        assert_eq!((hello(&back).as_str(), back.id()), ("Recovered", lost.id()));
        // Whoever comes with it again is the client itself, whose connection the server took for sound.
        let again = server.client().recovering(&back).connect("/").expect("it may");
        assert_eq!(hello(&again), "Recovered");
        assert!(!back.is_connected(), "there are never two");
        again.cut();
        server.advance(WINDOW - Duration::from_millis(1));
        let back = server.client().recovering(&again).connect("/").expect("it may");
        assert_eq!(hello(&back), "Recovered");
        back.cut();
        server.advance(WINDOW);
        let late = server.client().recovering(&back).connect("/").expect("it may");
        assert_eq!((hello(&late).as_str(), late.id() == lost.id()), ("Unknown", false));
        assert_eq!(late.call("rooms", ()).expect("rooms").first::<Vec<String>>().expect("names").len(), 1);
    }
}

#[test]
fn a_private_id_in_another_namespace_changes_nothing_for_whose_it_is() {
    for shards in [1, 2] {
        for from in 0..shards {
            let named = |io: &mut crate::Namespace| {
                io.on_connect(|cx: &mut Context<'_>| {
                    cx.emit("hello", (cx.id(), format!("{:?}", cx.recovery())));
                });
            };
            let server = Server::new(config(shards)).namespace("/", named).namespace("/custom", named);
            let server = TestServer::new(server).expect("the server is sound");
            let present = server.client().shard(0).connect("/custom").expect("everybody may");
            assert_eq!(hello(&present), "NotAsked");
            let thief = server.client().shard(from).recovering(&present).connect("/").expect("everybody may");
            assert_eq!((hello(&thief).as_str(), thief.id() == present.id()), ("Unknown", false));
            assert!(present.is_connected(), "{shards} shards, asked from {from}");
            present.cut();
            let thief = server.client().shard(from).recovering(&present).connect("/").expect("everybody may");
            assert_eq!(hello(&thief), "Unknown");
            let back =
                server.client().shard(from).recovering(&present).connect("/custom").expect("everybody may");
            assert_eq!((hello(&back).as_str(), back.id()), ("Recovered", present.id()));
        }
    }
}

#[test]
fn who_leaves_is_not_waited_for() {
    let server = serve(config(2));
    let ways: [fn(&TestClient); 2] = [|client| client.disconnect(), |client| client.emit("end", ())];
    for leave in ways {
        let client = connect(&server);
        leave(&client);
        client.cut();
        let back = server.client().recovering(&client).connect("/").expect("it may");
        assert_eq!(hello(&back), "Unknown");
    }
}

#[test]
fn who_has_missed_more_than_is_kept_is_told_so() {
    let rows: [(usize, usize, u64, &str); 4] = [
        (4, 10_000, 3, "Recovered"),
        (4, 10_000, 5, "TooMuchMissed"),
        (100, 200, 3, "Recovered"),
        (100, 200, 12, "TooMuchMissed"),
    ];
    for shards in [1, 2] {
        for (events_max, bytes_max, missed, expected) in rows {
            let config =
                Config { recovery_events_max: events_max, recovery_bytes_max: bytes_max, ..config(shards) };
            let server = serve(config);
            let (lost, speaker) = (connect(&server), connect(&server));
            lost.call("join", "a").expect("joined");
            lost.cut();
            for number in 0..missed {
                speaker.emit("say", ("a", number));
            }
            let back = server.client().shard(shards - 1).recovering(&lost).connect("/").expect("it may");
            let outcome: String =
                back.received().last().expect("a hello").args().read(1).expect("an outcome");
            assert_eq!(outcome, expected, "{missed} missed, {events_max} of {bytes_max} bytes kept");
        }
    }
}

#[test]
fn what_comes_while_a_client_is_being_let_in_counts_as_missed() {
    for (shards, back_on) in [(1, 0), (2, 0), (2, 1)] {
        // What comes in the meantime is held back where the client is. A keeper on another shard has no room for nine.
        let nine = if back_on == 0 { Some(10) } else { None };
        for (during, expected) in [(3, Some(4)), (9, nine)] {
            let config = Config { recovery_events_max: 8, ..config(shards) };
            let server = Server::new(config).namespace("/", |io| {
                io.on_connect_async(|cx: Socket, _: Option<RawJson>| async move {
                    cx.join("a");
                    sleep(Duration::from_millis(100)).await;
                    Ok::<(), Refused>(())
                });
            });
            let server = TestServer::new(server).expect("the server is sound");
            let lost = server.connect("/").expect("it may");
            server.advance(Duration::from_millis(200));
            lost.cut();
            let emit = |number: u64| server.handle().to("/", "a").emit("n", number);
            emit(0);
            let back = server.client().shard(back_on).recovering(&lost).connect("/").expect("it may");
            for number in 1..=during {
                server.advance(Duration::from_millis(1));
                emit(number);
            }
            server.advance(Duration::from_millis(200));
            assert_eq!(back.is_connected(), expected.is_some(), "{shards} shards, {during} meanwhile");
            let expected: Vec<u64> = (0..expected.unwrap_or(0)).collect();
            assert_eq!(numbers(&back), expected);
            if expected.is_empty() {
                let anew = server.client().recovering(&lost).connect("/").expect("it may");
                server.advance(Duration::from_millis(200));
                assert!(anew.is_connected() && anew.id() != lost.id());
            }
        }
    }
}

#[test]
fn at_most_so_many_are_waited_for() {
    let server = serve(Config { recovery_sessions_max: 2, ..config(1) });
    let clients: Vec<TestClient> = (0..3).map(|_| connect(&server)).collect();
    clients.iter().for_each(TestClient::cut);
    let outcomes: Vec<String> = clients
        .iter()
        .map(|lost| hello(&server.client().recovering(lost).connect("/").expect("it may")))
        .collect();
    assert_eq!(outcomes, ["Unknown", "Recovered", "Recovered"]);
    // Those that have come back do not count, however often.
    let (quiet, mut restless) = (connect(&server), connect(&server));
    quiet.cut();
    for _ in 0..20 {
        restless.cut();
        restless = server.client().recovering(&restless).connect("/").expect("it may");
        assert_eq!(hello(&restless), "Recovered");
    }
    assert_eq!(hello(&server.client().recovering(&quiet).connect("/").expect("it may")), "Recovered");
}

#[test]
fn attachments_come_again_and_what_is_volatile_does_not() {
    let server = serve(config(2));
    let (lost, speaker) = (connect(&server), connect(&server));
    lost.call("join", "a").expect("joined");
    lost.call("join", "ruled").expect("joined");
    speaker.emit("volatile", ("a", "a text that is no offset"));
    speaker.emit("volatile", ("ruled", "nor is this"));
    assert_eq!(lost.received().len(), 2);
    lost.cut();
    speaker.emit("bytes", "a");
    speaker.emit("volatile", ("a", "gone"));
    speaker.emit("bytes", "ruled");
    let back = server.client().recovering(&lost).connect("/").expect("it may");
    let received = back.received();
    assert_eq!(received.iter().map(|event| event.name()).collect::<Vec<_>>(), ["bytes", "hello"]);
    assert_eq!(received[0].args().attachments()[0].as_ref(), [1, 2, 3]);
    assert_eq!(received[1].args().read::<String>(1).as_deref(), Ok("Recovered"));
}

#[test]
fn claims_that_are_none_connect_anew() {
    let server = serve(config(2));
    let claims = [
        (serde_json::json!({ "pid": "x" }), "Unknown"),
        (serde_json::json!({ "pid": "A".repeat(20) }), "Unknown"),
        (serde_json::json!({ "pid": "A".repeat(20), "offset": "0.1" }), "Unknown"),
        (serde_json::json!({ "pid": "A".repeat(20), "offset": "no offset" }), "TooMuchMissed"),
        (serde_json::json!({ "pid": "A".repeat(20), "offset": 7 }), "Unknown"),
        (serde_json::json!({ "pid": 7, "offset": [] }), "NotAsked"),
        (serde_json::json!({ "offset": "0.1" }), "NotAsked"),
    ];
    for (claim, expected) in claims {
        let client = server.client().auth(&claim).connect("/").expect("everybody may");
        assert_eq!(hello(&client), expected, "{claim}");
    }
    // What the client has got is not known, so it is a new socket; one that says nothing has got nothing.
    for (offset, expected) in [
        (serde_json::json!({ "offset": null }), "Unknown"),
        (serde_json::json!({ "offset": 7 }), "Unknown"),
        (serde_json::json!({ "offset": ["0.1"] }), "Unknown"),
        (serde_json::json!({}), "Recovered"),
    ] {
        for back_on in 0..2 {
            let (lost, speaker) = (connect(&server), connect(&server));
            lost.cut();
            speaker.emit("say", (lost.id(), 1));
            server.handle().to("/", lost.id()).emit("n", 2);
            let pid = server.host.borrow().sessions[lost.session_index()].claims["/"].pid.clone();
            let mut claim = offset.clone();
            claim["pid"] = pid.into();
            let back = server.client().shard(back_on).auth(&claim).connect("/").expect("everybody may");
            let received = back.received();
            let hello = received.iter().rfind(|event| event.name() == "hello").expect("a hello");
            assert_eq!(hello.args().read::<String>(1).as_deref(), Ok(expected), "{claim}");
            assert_eq!(received.len() > 1, expected == "Recovered", "{claim}: nothing is said twice");
        }
    }
    let off = serve(Config { recovery_max_disconnection: Duration::ZERO, ..config(2) });
    let client =
        off.client().auth(&serde_json::json!({ "pid": "A".repeat(20) })).connect("/").expect("it may");
    assert_eq!(hello(&client), "NotAsked");
}

#[test]
fn connect_is_followed_by_what_was_missed_and_then_by_what_connect_handlers_send() {
    for (shards, back_on) in [(1, 0), (2, 0), (2, 1)] {
        let server = Server::new(config(shards)).namespace("/", |io| {
            io.on_connect(|cx: &mut Context<'_>| {
                cx.join("a");
                cx.emit("hello", 1);
                cx.emit_with_callback("question", 2, |_| {});
                cx.broadcast().emit("all", 3);
                cx.to("a").emit("room", 4);
                cx.emit("last", 5);
            });
        });
        let server = TestServer::new(server).expect("the server is sound");
        let lost = server.client().shard(0).connect("/").expect("it may");
        lost.received();
        lost.cut();
        server.handle().to("/", "a").emit("missed", 0);
        server.advance(Duration::ZERO);
        let back = server.client().shard(back_on).recovering(&lost).connect("/").expect("it may");
        assert_eq!(back.id(), lost.id(), "{shards} shards, back on {back_on}");
        let host = server.host.borrow();
        let session = &host.sessions[back.session_index()];
        let received: Vec<&str> = session.received.iter().map(|event| event.name()).collect();
        assert_eq!(received, ["missed", "hello", "question", "all", "room", "last"], "{shards}, {back_on}");
        assert_eq!(session.before_connect, 0, "a stock client counts as got what comes behind CONNECT only");
        drop(host);
        // They are kept for the next time like all others.
        back.cut();
        let claim = server.host.borrow().sessions[lost.session_index()].claims["/"].clone();
        let auth = serde_json::json!({ "pid": claim.pid, "offset": claim.offset });
        let again = server.client().shard(back_on).auth(&auth).connect("/").expect("it may");
        let names: Vec<String> = again.received().iter().map(|event| event.name().to_owned()).collect();
        let kept = ["missed", "hello", "all", "room", "last", "hello", "question", "all", "room", "last"];
        assert_eq!(names, kept, "{shards} shards, back on {back_on}");
    }
}

#[test]
fn events_that_come_before_connect_is_answered_wait() {
    for back_on in 0..2 {
        let server = Server::new(config(2)).namespace("/", |io| {
            io.on("connected", |cx: &mut Context<'_>| cx.is_connected());
        });
        let server = TestServer::new(server).expect("the server is sound");
        let lost = server.client().shard(0).connect("/").expect("it may");
        lost.cut();
        let back = server.client().shard(back_on).recovering(&lost);
        let back = back.say_after_connect(r#"427["connected"]"#).connect("/").expect("it may");
        let host = server.host.borrow();
        let answer = host.sessions[back.session_index()].answers.get(&("/".to_owned(), 7));
        let answer = answer.expect("it is answered").first::<bool>();
        assert_eq!(answer, Ok(true), "back on {back_on}: the handler ran before the socket was open");
    }
}

#[test]
fn a_rule_for_slow_clients_holds_for_patterns_that_have_no_member_here() {
    let server =
        Server::new(config(2)).namespace("/game/{id}", |io| io.slow_consumers(SlowConsumers::Latest));
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.client().shard(1).connect("/game/7").expect("it may");
    // It goes through a shard where the namespace has no table; an event that may be dropped has no offset there, either.
    server.handle().namespace("/game/7").emit("state", 1);
    server.advance(Duration::ZERO);
    let received: Vec<String> = client.received().iter().map(ToString::to_string).collect();
    assert_eq!(received, [r#"["state",1]"#]);
}
