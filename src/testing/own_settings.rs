//! What each endpoint has of its own of the configuration: recovery, compression, what compressed messages may inflate to, counters.

use std::time::Duration;

use flate2::write::DeflateEncoder;

use crate::http::Method;
use crate::message::peer::Peer;
use crate::testing::{TestClient, TestServer};
use crate::{Config, Context, EndpointStats, Server};

const MAIN: &str = "/socket.io/";
/// Its sockets are kept for a shorter time, and keep less.
const BRIEF: &str = "/brief.io/";
/// It has no recovery, compresses nothing over HTTP, and lets little be inflated.
const PLAIN: &str = "/plain.io/";

fn rooms(io: &mut crate::Namespace<'_>) {
    io.on_connect(|cx: &mut Context<'_>| {
        cx.join("room");
        cx.emit("hello", format!("{:?}", cx.recovery()));
    });
    io.on("say", |cx: &mut Context<'_>, number: u64| {
        cx.to("room").emit("said", number);
    });
}

fn serve() -> TestServer {
    let config = Config {
        shards: 2,
        recovery_max_disconnection: Duration::from_secs(120),
        permessage_deflate: true,
        compression_threshold: 1,
        ..Config::default()
    };
    let server = Server::new(config)
        .namespace("/", rooms)
        .endpoint(BRIEF, |brief| {
            brief.settings.recovery_max_disconnection = Duration::from_secs(5);
            brief.settings.recovery_events_max = 2;
            brief.namespace("/", rooms);
        })
        .endpoint(PLAIN, |plain| {
            plain.settings.recovery_max_disconnection = Duration::ZERO;
            plain.settings.http_compression = false;
            plain.settings.inflate_ratio_max = 1;
            plain.options.max_http_buffer_size = 1000;
            plain.namespace("/", rooms);
        })
        .websocket("/loose", |route| route.on_message(|ws, message| ws.send(message)))
        .websocket("/tight", |route| {
            route.options().inflate_ratio_max(1).message_bytes_max(1000);
            route.on_message(|ws, message| ws.send(message));
        })
        .engine("/loose.io/", |route| route.on_message(|socket, message| socket.send(message)))
        .engine("/tight.io/", |route| {
            route.options().inflate_ratio_max(1).message_bytes_max(1000);
            route.on_message(|socket, message| socket.send(message));
        });
    TestServer::new(server).expect("the server is sound")
}

fn connect(server: &TestServer, path: &str) -> TestClient {
    let client = server.client().at_path(path).shard(0).connect("/").expect("everybody may");
    assert_eq!(client.received().remove(0).first::<String>().as_deref(), Ok("NotAsked"));
    client
}

#[test]
fn each_endpoint_recovers_for_its_own_time_and_as_much_as_it_says() {
    for (path, away, missed, outcome) in [
        (MAIN, 3, 2, "Recovered"),
        (MAIN, 60, 10, "Recovered"),
        (MAIN, 121, 1, "Unknown"),
        (BRIEF, 3, 2, "Recovered"),
        (BRIEF, 3, 3, "TooMuchMissed"),
        (BRIEF, 6, 1, "Unknown"),
        (PLAIN, 1, 1, "NotAsked"),
    ] {
        let server = serve();
        // Others are lost before and after, at an endpoint with another time.
        let others = [connect(&server, MAIN), connect(&server, BRIEF), connect(&server, MAIN)];
        let (lost, speaker) = (connect(&server, path), connect(&server, path));
        speaker.emit("say", 0);
        assert_eq!(lost.received().len(), 1);
        let [before, between, after] = &others;
        before.cut();
        between.cut();
        lost.cut();
        after.cut();
        (1..=missed).for_each(|number| speaker.emit("say", number));
        server.advance(Duration::from_secs(away));
        let back = server.client().at_path(path).shard(1).recovering(&lost).connect("/").expect("it may");
        let received = back.received();
        let numbers: Vec<u64> = received.iter().filter_map(|event| event.first().ok()).collect();
        let told: Vec<String> = received.iter().filter_map(|event| event.first().ok()).collect();
        assert_eq!(told, [outcome], "{path} after {away} s");
        let expected: Vec<u64> = if outcome == "Recovered" { (1..=missed).collect() } else { Vec::new() };
        assert_eq!(numbers, expected, "{path} after {away} s, {missed} missed");
    }
}

#[test]
fn events_bear_offsets_only_where_there_is_recovery() {
    let server = serve();
    for (path, has_offset) in [(MAIN, true), (BRIEF, true), (PLAIN, false)] {
        let client = connect(&server, path);
        client.emit("say", 7);
        server.handle().endpoint(path).to("/", "room").emit("said", 8);
        server.advance(Duration::ZERO);
        let received = client.received();
        assert_eq!(received.len(), 2, "{path}");
        for event in received {
            let offset = event.args().read::<String>(1);
            assert_eq!(offset.is_ok(), has_offset, "{path}: {offset:?}");
        }
    }
}

#[test]
fn each_endpoint_says_whether_polls_are_compressed() {
    let server = serve();
    for (path, coding) in [(MAIN, Some("gzip")), (BRIEF, Some("gzip")), (PLAIN, None)] {
        let target = format!("{path}?EIO=4&transport=polling");
        let opened = server.get(&target).text();
        let sid = opened.split('"').nth(3).expect("an id");
        let target = format!("{target}&sid={sid}");
        assert_eq!(server.request(Method::Post, &target, &[], b"40").status, 200);
        server.handle().endpoint(path).to("/", "room").emit("said", "x".repeat(900));
        server.advance(Duration::ZERO);
        let answer = server.request(Method::Get, &target, &[("Accept-Encoding", "gzip")], b"");
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{path}");
    }
}

#[test]
fn each_endpoint_and_raw_route_says_what_messages_may_inflate_to() {
    let server = serve();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    // An unknown packet of Engine.IO would end the session as well: these are events, most of them repetition.
    let event = format!("42[\"say\",1,\"{}\"]", "x".repeat(900));
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, event.as_bytes()).expect("a buffer takes it");
    std::io::Write::flush(&mut encoder).expect("a buffer takes it");
    let mut packed = encoder.get_ref().clone();
    assert!(packed.ends_with(&[0, 0, 0xff, 0xff]) && packed.len() < 120, "{packed:?}");
    packed.truncate(packed.len() - 4);
    let mut frame = vec![0xc1, 0x80 | packed.len() as u8, 0, 0, 0, 0];
    frame.extend(packed);
    for (path, closes) in [
        (MAIN, false),
        (PLAIN, true),
        ("/loose", false),
        ("/tight", true),
        ("/loose.io/", false),
        ("/tight.io/", true),
    ] {
        let request = format!(
            "GET {path}?EIO=4&transport=websocket HTTP/1.1\r\nHost: own\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        let mut host = server.host.borrow_mut();
        let wire = host.dial(0, Peer::Tcp(([127, 0, 0, 1], 40_000).into()));
        host.write(wire, request.as_bytes());
        host.write(wire, b"\x81\x82\0\0\0\x0040");
        host.settle();
        host.arrived(wire).clear();
        // Beyond one message of `max_http_buffer_size` the ratio holds.
        (0..3).for_each(|_| host.write(wire, &frame));
        host.settle();
        let answer = std::mem::take(host.arrived(wire));
        let has_closed =
            answer.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1009_u16.to_be_bytes());
        assert_eq!(has_closed, closes, "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn each_endpoint_has_counters_of_its_own() {
    let server = serve();
    let all = |path: &str| {
        server.handle().endpoint(path).endpoint_stats().into_iter().fold(
            EndpointStats::default(),
            |sum, one| EndpointStats {
                sessions: sum.sessions + one.sessions,
                sessions_polling: sum.sessions_polling + one.sessions_polling,
                sessions_opened: sum.sessions_opened + one.sessions_opened,
                sockets: sum.sockets + one.sockets,
                events_received: sum.events_received + one.events_received,
                messages_sent: sum.messages_sent + one.messages_sent,
                requests_refused: sum.requests_refused + one.requests_refused,
                slow_consumers_closed: sum.slow_consumers_closed + one.slow_consumers_closed,
            },
        )
    };
    let main = [connect(&server, MAIN), connect(&server, MAIN)];
    let plain = connect(&server, PLAIN);
    main[0].emit("say", 1);
    plain.emit("say", 1);
    plain.emit("say", 2);
    assert_eq!(server.get(&format!("{PLAIN}?EIO=9")).status, 400);
    server.advance(Duration::ZERO);
    let rows = [
        // Both have heard the one event. What a connect handler says is sent with the answer to CONNECT, and does not count.
        (
            MAIN,
            EndpointStats {
                sessions: 2,
                sessions_opened: 2,
                sockets: 2,
                events_received: 1,
                messages_sent: 2,
                ..EndpointStats::default()
            },
        ),
        (BRIEF, EndpointStats::default()),
        (
            PLAIN,
            EndpointStats {
                sessions: 1,
                sessions_opened: 1,
                sockets: 1,
                events_received: 2,
                messages_sent: 2,
                requests_refused: 1,
                ..EndpointStats::default()
            },
        ),
    ];
    for (path, expected) in rows {
        assert_eq!(all(path), expected, "{path}");
    }
    let stats = server.handle().stats();
    assert_eq!(stats.iter().map(|shard| shard.sessions).sum::<u64>(), 3);
    assert_eq!(stats.iter().map(|shard| shard.messages_sent).sum::<u64>(), 4);
    main.iter().chain([&plain]).for_each(TestClient::cut);
    server.advance(Duration::from_secs(200));
    for path in [MAIN, PLAIN] {
        assert_eq!((all(path).sessions, all(path).sockets), (0, 0), "{path}: all are gone");
    }
    assert!(server.handle().endpoint("/unknown/").endpoint_stats().is_empty());
}
