//! The end of a server, byte by byte: each client is told in the one way after which stock clients come back.
//!
//! python-socketio never comes back from a packet `1`, no client from `41` or `44`. All come back from a WebSocket's close frame, and
//! from a poll that is answered 400.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::{Config, Context, Peer, Phase, Server, ShardInfo};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// 1001, "server shutting down": a close frame.
const CLOSED: &[u8] = b"\x88\x16\x03\xe9server shutting down";

fn start(config: Config) -> TestServer {
    let mut config = Config { shards: 1, ..config };
    config.engine.allow_eio3 = true;
    TestServer::new(Server::new(config).namespace("/", |_| {})).expect("the server is sound")
}

fn send(server: &TestServer, bytes: &str) -> WireId {
    let mut host = server.host.borrow_mut();
    let wire = host.dial(0, Peer::Unix);
    host.write(wire, bytes.as_bytes());
    host.settle();
    wire
}

fn arrived(server: &TestServer, wire: WireId) -> Vec<u8> {
    let mut host = server.host.borrow_mut();
    host.settle();
    std::mem::take(host.arrived(wire))
}

/// The status and the body of the answer that has arrived.
fn answer(server: &TestServer, wire: WireId) -> (String, String) {
    let text = String::from_utf8(arrived(server, wire)).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.get(9..12).unwrap_or_default().to_owned(), body.to_owned())
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

/// A client that polls, in `/`, with the target of its requests.
fn open_polling(server: &TestServer, revision: u8) -> String {
    let target = format!("/socket.io/?EIO={revision}&transport=polling");
    let (_, opened) = answer(server, send(server, &get(&target, "")));
    let target = format!("{target}&sid={}", opened.split('"').nth(3).expect("a sid"));
    if revision == 4 {
        let post = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n40");
        assert_eq!(answer(server, send(server, &post)).0, "200");
        let (_, joined) = answer(server, send(server, &get(&target, "")));
        assert!(joined.starts_with("40{"), "{joined}");
    }
    target
}

#[test]
fn a_websocket_gets_a_close_frame() {
    for revision in [3, 4] {
        let server = start(Config::default());
        let wire = send(&server, &get(&format!("/socket.io/?EIO={revision}&transport=websocket"), UPGRADE));
        assert!(arrived(&server, wire).starts_with(b"HTTP/1.1 101 "));
        server.handle().drain();
        assert_eq!(arrived(&server, wire), CLOSED, "revision {revision}");
    }
}

#[test]
fn a_poll_gets_what_is_owed_and_the_next_one_400() {
    // Each: whether it is pending as the server ends, what has been said before, what it gets.
    let rows: [(u8, bool, bool, &[&str]); 6] = [
        (4, true, false, &["6"]),
        (4, false, true, &["42[\"news\",1]"]),
        (4, false, false, &[]),
        (3, true, false, &["1:6"]),
        (3, false, true, &["12:42[\"news\",1]"]),
        (3, false, false, &[]),
    ];
    for spread in [Duration::ZERO, Duration::from_millis(100)] {
        for (revision, is_pending, is_owed, expected) in rows {
            let what = format!("revision {revision}, pending {is_pending}, owed {is_owed}, {spread:?}");
            let server = start(Config { shutdown_spread: Some(spread), ..Config::default() });
            let target = open_polling(&server, revision);
            if revision == 3 {
                // It joined with the handshake.
                assert!(answer(&server, send(&server, &get(&target, ""))).1.contains("40"));
            }
            let pending = is_pending.then(|| send(&server, &get(&target, "")));
            if is_owed {
                let _ = server.handle().namespace("/").emit("news", 1);
            }
            server.handle().drain();
            server.host.borrow_mut().settle();
            server.host.borrow_mut().advance(spread * 2);
            let mut got = Vec::new();
            if let Some(wire) = pending {
                got.push(answer(&server, wire));
            }
            for _ in got.len()..expected.len() {
                got.push(answer(&server, send(&server, &get(&target, ""))));
            }
            let expected: Vec<_> =
                expected.iter().map(|body| ("200".to_owned(), (*body).to_owned())).collect();
            assert_eq!(got, expected, "{what}");
            for _ in 0..2 {
                let next = answer(&server, send(&server, &get(&target, "")));
                assert_eq!(next, ("400".to_owned(), UNKNOWN.to_owned()), "{what}");
            }
        }
    }
}

#[test]
fn no_session_opens_while_sessions_end_and_those_that_wait_are_served() {
    let server = start(Config { shutdown_spread: Some(Duration::from_secs(10)), ..Config::default() });
    let target = open_polling(&server, 4);
    server.handle().drain();
    server.host.borrow_mut().settle();
    for (transport, headers) in [("polling", ""), ("websocket", UPGRADE)] {
        let handshake = get(&format!("/socket.io/?EIO=4&transport={transport}"), headers);
        let wire = send(&server, &handshake);
        let refused = String::from_utf8(arrived(&server, wire)).expect("text").to_ascii_lowercase();
        assert!(refused.starts_with("http/1.1 503 "), "{refused}");
        assert!(refused.contains("\r\nconnection: close\r\n"), "{refused}");
        assert!(refused.contains("\r\nretry-after: 5\r\n"), "{refused}");
        assert!(server.host.borrow_mut().is_over(wire), "the connection is closed");
    }
    let post = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3");
    assert_eq!(answer(&server, send(&server, &post)).0, "200", "a session goes on until its turn");
    server.handle().drain();
    server.host.borrow_mut().settle();
    assert_eq!(answer(&server, send(&server, &post)).0, "400", "a second request ends it at once");
}

#[test]
fn for_drain_delay_all_goes_on() {
    let delay = Duration::from_secs(5);
    for (is_drain, opens) in [(true, true), (false, false)] {
        let server = start(Config { drain_delay: delay, ..Config::default() });
        let client = server.connect("/").expect("everybody may");
        assert_eq!(server.handle().phase(), Phase::Ready);
        if is_drain {
            server.handle().drain()
        } else {
            server.handle().stop()
        }
        server.advance(Duration::from_secs(4));
        assert_eq!(server.handle().phase(), Phase::Draining);
        assert_eq!((server.connect("/").is_ok(), client.is_connected()), (opens, opens));
        server.advance(Duration::from_secs(2));
        assert!(!client.is_connected() && server.connect("/").is_err());
    }
}

#[test]
fn each_shard_tells_that_the_server_ends_and_what_it_says_comes_first() {
    thread_local! {
        static TOLD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }
    let config = Config { shards: 3, ..Config::default() };
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on_disconnect(|_: &mut Context<'_>, reason| {
                assert_eq!(reason.as_str(), "server shutting down")
            });
        })
        .on_drain(|_, _| panic!("a hook of a test panics"))
        .on_drain(|handle, shard: ShardInfo| {
            TOLD.with_borrow_mut(|told| told.push(shard.id));
            handle.namespace("/").emit("bye", shard.id);
        });
    let server = TestServer::new(server).expect("the server is sound");
    let clients: Vec<_> =
        (0..3).map(|shard| server.client().shard(shard).connect("/").expect("everybody may")).collect();
    server.handle().drain();
    server.advance(Duration::from_secs(1));
    let mut told = TOLD.take();
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2]);
    for client in Rc::new(clients).iter() {
        let heard = client.received();
        let mut heard: Vec<usize> = heard.iter().map(|event| event.first().expect("a number")).collect();
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2]);
        assert!(!client.is_connected());
    }
}

#[test]
fn many_sessions_end_over_time_without_a_setting() {
    let server = start(Config { sessions_max: 2_000, ..Config::default() });
    let clients: Vec<_> = (0..1_000).map(|_| server.connect("/").expect("everybody may")).collect();
    server.handle().drain();
    let left = |millis| {
        server.advance(Duration::from_millis(millis));
        clients.iter().filter(|client| client.is_connected()).count()
    };
    // 1,000 at 5,000 a second take 200 ms; the wheel may be late by a tick.
    assert!((300..=1_000).contains(&left(100)));
    let order: Vec<bool> = clients.iter().map(|client| client.is_connected()).collect();
    assert!(
        order.windows(2).filter(|pair| pair[0] != pair[1]).count() > 20,
        "not one after another: {order:?}"
    );
    assert_eq!(left(400), 0);
    let report = server.handle().shared().expect("it ran").mesh.life.report().expect("it was asked to end");
    assert_eq!(report.ended, 1_000);
}
