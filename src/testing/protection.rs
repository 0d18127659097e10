//! Who gets in: bounds on connections and sessions of one address, and on handshakes in a second.

use std::net::IpAddr;
use std::time::Duration;

use crate::testing::host::WireId;
use crate::testing::{TestClient, TestServer, spend};
use crate::{Config, Context, Peer, Server};

const SECOND: Duration = Duration::from_secs(1);

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

fn server(config: Config) -> TestServer {
    TestServer::new(Server::new(config).namespace("/", |_| {})).expect("the server is sound")
}

fn peer(address: &str) -> Peer {
    Peer::Tcp((address.parse::<IpAddr>().expect("an address"), 40_000).into())
}

/// Connects to a shard; whether it is let in.
fn dial(server: &TestServer, shard: usize, address: &str) -> (WireId, bool) {
    let mut host = server.host.borrow_mut();
    let wire = host.dial(shard, peer(address));
    let is_in = !host.is_over(wire);
    (wire, is_in)
}

fn write(server: &TestServer, wire: WireId, bytes: &[u8]) -> String {
    let mut host = server.host.borrow_mut();
    host.write(wire, bytes);
    host.settle();
    String::from_utf8_lossy(&std::mem::take(host.arrived(wire))).into_owned()
}

fn sum(server: &TestServer, figure: impl Fn(crate::ShardStats) -> u64) -> u64 {
    server.handle().stats().into_iter().map(figure).sum()
}

#[test]
fn an_address_has_so_many_connections_on_all_shards_together() {
    let config = || Config { shards: 2, connections_per_address_max: 3, ..Config::default() };
    // Each address, and how many of ten of its connections are let in.
    let rows = [
        ("192.0.2.1", 3),
        ("192.0.2.2", 3),
        ("::ffff:192.0.2.2", 0),
        ("2001:db8:0:1::1", 3),
        ("2001:db8:0:1:ffff::2", 0),
        ("2001:db8:0:2::1", 3),
        ("127.0.0.1", 10),
        ("::1", 10),
        ("10.1.2.3", 10),
    ];
    let trusting = server(Config { trusted_proxies: vec!["10.0.0.0/8".into()], ..config() });
    let mut wires = Vec::new();
    for (address, expected) in rows {
        let tries: Vec<_> = (0..10).map(|index| dial(&trusting, index % 2, address)).collect();
        assert_eq!(tries.iter().filter(|(_, is_in)| *is_in).count(), expected, "{address}");
        wires.extend(tries.into_iter().filter(|(_, is_in)| *is_in).map(|(wire, _)| (address, wire)));
    }
    assert_eq!(sum(&trusting, |stats| stats.connections_refused), 4 * 7 + 2 * 10);
    assert_eq!(sum(&trusting, |stats| stats.connections), 42);

    // A place that somebody gives back is there for the next, on whichever shard.
    let (_, first) = wires[0];
    trusting.host.borrow_mut().drop_wire(first);
    trusting.host.borrow_mut().settle();
    assert_eq!([dial(&trusting, 1, "192.0.2.1").1, dial(&trusting, 0, "192.0.2.1").1], [true, false]);

    let off = server(Config { connections_per_address_max: 0, ..config() });
    assert!((0..100).all(|index| dial(&off, index % 2, "192.0.2.1").1));
    assert_eq!(sum(&off, |stats| stats.connections_refused), 0);
}

#[test]
fn a_connection_that_goes_to_another_shard_takes_its_place_along() {
    let server = server(Config { shards: 2, connections_per_address_max: 2, ..Config::default() });
    let (opening, _) = dial(&server, 0, "192.0.2.1");
    let request = format!("GET {OPEN} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = write(&server, opening, request.as_bytes());
    let sid = answer.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let (moving, is_in) = dial(&server, 1, "192.0.2.1");
    assert!(is_in);
    let post = format!(
        "POST {OPEN}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n40"
    );
    assert!(write(&server, moving, post.as_bytes()).ends_with("ok"));
    assert_eq!(sum(&server, |stats| stats.handoffs), 1);
    assert!(!dial(&server, 0, "192.0.2.1").1 && !dial(&server, 1, "192.0.2.1").1);
    for wire in [opening, moving] {
        server.host.borrow_mut().drop_wire(wire);
    }
    server.host.borrow_mut().settle();
    assert!(dial(&server, 0, "192.0.2.1").1 && dial(&server, 1, "192.0.2.1").1);
}

#[test]
fn the_proxy_protocol_tells_whose_connection_it_is() {
    let server = server(Config {
        shards: 1,
        connections_per_address_max: 2,
        proxy_protocol: true,
        trusted_proxies: vec!["10.0.0.1".into()],
        ..Config::default()
    });
    let connect = |client: &str| {
        let (wire, is_in) = dial(&server, 0, "10.0.0.1");
        assert!(is_in, "a proxy is let in");
        let header = format!("PROXY TCP4 {client} 10.0.0.9 4000 80\r\n");
        let answer =
            write(&server, wire, format!("{header}GET {OPEN} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        (wire, answer.starts_with("HTTP/1.1 200 "))
    };
    let tries: Vec<_> = (0..4).map(|_| connect("192.0.2.1")).collect();
    assert_eq!(tries.iter().map(|(_, is_in)| *is_in).collect::<Vec<_>>(), [true, true, false, false]);
    assert!(connect("192.0.2.2").1);
    assert_eq!(sum(&server, |stats| stats.connections_refused), 2);
    assert!(server.host.borrow().is_over(tries[3].0));
}

#[test]
fn behind_a_proxy_a_client_has_so_many_sessions() {
    let server = server(Config {
        shards: 2,
        connections_per_address_max: 2,
        trusted_proxies: vec!["127.0.0.1".into()],
        ..Config::default()
    });
    let open = |client: &str| {
        let answer = server.request(crate::http::Method::Get, OPEN, &[("X-Forwarded-For", client)], b"");
        (answer.status, answer.header("retry-after").map(str::to_owned), answer.text())
    };
    let refused = (503, Some("5".to_owned()), "too many sessions of this address".to_owned());
    assert_eq!([open("192.0.2.1").0, open("192.0.2.1").0], [200, 200]);
    assert_eq!([open("192.0.2.1"), open("192.0.2.1")], [refused.clone(), refused.clone()]);
    assert_eq!([open("2001:db8::1").0, open("2001:db8::2").0], [200, 200]);
    assert_eq!(open("2001:db8::3"), refused);
    // A proxy's own, and those whose address nobody tells.
    assert!((0..10).all(|_| open("127.0.0.1").0 == 200 && open("unknown").0 == 200));
    assert_eq!(sum(&server, |stats| stats.handshakes_refused), 3);
    // They end, as they have joined nothing, and others may open.
    server.advance(100 * SECOND);
    assert_eq!(sum(&server, |stats| stats.sessions), 0);
    assert_eq!([open("192.0.2.1").0, open("192.0.2.1").0, open("192.0.2.1").0], [200, 200, 503]);
}

#[test]
fn so_many_sessions_open_in_a_second() {
    let server = server(Config { shards: 1, handshakes_per_second_max: 3, ..Config::default() });
    let old: Vec<TestClient> = (0..3).map(|_| server.connect("/").expect("there is room")).collect();
    let refused = server.get(OPEN);
    assert_eq!(
        (refused.status, refused.header("retry-after"), refused.text()),
        (503, Some("1"), "too many handshakes".to_owned())
    );
    assert!(server.connect("/").is_err());
    assert_eq!(sum(&server, |stats| stats.handshakes_refused), 2);
    server.advance(SECOND / 2);
    assert_eq!([server.get(OPEN).status, server.get(OPEN).status], [200, 503]);
    // A refusal costs nothing of what there is.
    server.advance(SECOND);
    assert_eq!([(); 4].map(|()| server.get(OPEN).status), [200, 200, 200, 503]);
    assert!(old.iter().all(TestClient::is_connected), "those who are there notice nothing");

    let off = self::server(Config { shards: 1, handshakes_per_second_max: 0, ..Config::default() });
    assert!((0..100).all(|_| off.get(OPEN).status == 200));
}

#[test]
fn a_process_has_so_many_connections_whichever_shards_have_them() {
    let server = server(Config { shards: 4, connections_max: 5, ..Config::default() });
    let tries: Vec<_> = (0..8).map(|index| dial(&server, index % 2, "127.0.0.1")).collect();
    assert_eq!(tries.iter().filter(|(_, is_in)| *is_in).count(), 5);
    assert_eq!(sum(&server, |stats| stats.connections_refused), 3);
    // Who was let in may go to another shard, and whoever leaves makes room.
    let answer =
        write(&server, tries[0].0, format!("GET {OPEN}&shard_key=a HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer =
        write(&server, tries[1].0, format!("GET {OPEN}&shard_key=b HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!dial(&server, 3, "127.0.0.1").1);
    server.host.borrow_mut().drop_wire(tries[1].0);
    server.host.borrow_mut().settle();
    assert_eq!([dial(&server, 3, "127.0.0.1").1, dial(&server, 2, "127.0.0.1").1], [true, false]);
}

const RAW: &str = "GET /raw HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_shard_that_is_held_up_lets_nobody_in_for_a_second() {
    for lag_max in [Duration::from_millis(500), Duration::ZERO] {
        let config = Config { shards: 1, lag_max, ..Config::default() };
        let server = Server::new(config)
            .namespace("/", |io| {
                io.on("work", |_: &mut Context<'_>, millis: u64| {
                    spend(Duration::from_millis(millis));
                    millis
                });
            })
            .websocket("/raw", |_| {});
        let server = TestServer::new(server).expect("the server is sound");
        let old = server.connect("/").expect("there is room");
        let work = |millis: u64| old.call("work", millis).and_then(|answer| answer.first::<u64>().ok());
        assert_eq!(work(499), Some(499));
        assert_eq!(server.get(OPEN).status, 200);
        assert_eq!(work(500), Some(500));
        let (wire, _) = dial(&server, 0, "192.0.2.1");
        let raw = write(&server, wire, RAW.as_bytes());
        let refused = server.get(OPEN);
        if lag_max.is_zero() {
            assert!(raw.starts_with("HTTP/1.1 101") && refused.status == 200, "{raw}");
            continue;
        }
        assert_eq!(
            (refused.status, refused.header("retry-after"), refused.text()),
            (503, Some("5"), "too busy".to_owned())
        );
        assert!(raw.starts_with("HTTP/1.1 503"), "{raw}");
        assert_eq!(work(1), Some(1), "those who are here go on");
        server.advance(SECOND / 2);
        assert_eq!(server.get(OPEN).status, 503);
        // Half of it is still too much for those who wait outside.
        assert_eq!(work(250), Some(250));
        server.advance(SECOND - Duration::from_millis(10));
        assert_eq!(server.get(OPEN).status, 503);
        server.advance(Duration::from_millis(20));
        assert_eq!(server.get(OPEN).status, 200);
        assert!(server.connect("/").is_ok());
        assert_eq!(sum(&server, |stats| stats.handshakes_refused), 4);
    }
}

#[test]
fn raw_websockets_are_handshakes_too() {
    let config = Config { shards: 1, handshakes_per_second_max: 2, ..Config::default() };
    let server = TestServer::new(Server::new(config).namespace("/", |_| {}).websocket("/raw", |_| {}));
    let server = server.expect("the server is sound");
    let open = || {
        let (wire, _) = dial(&server, 0, "192.0.2.1");
        write(&server, wire, RAW.as_bytes())[..12].to_owned()
    };
    assert_eq!([open(), open(), open()], ["HTTP/1.1 101", "HTTP/1.1 101", "HTTP/1.1 503"]);
    assert_eq!(sum(&server, |stats| stats.handshakes_refused), 1);
    server.advance(SECOND);
    assert_eq!(open(), "HTTP/1.1 101");
}

#[test]
fn connections_go_to_other_shards_at_a_rate_and_wait_their_turn() {
    let server = server(Config { shards: 2, handoffs_per_second_max: 4, ..Config::default() });
    // Finds a key that leads to the other shard.
    let ask = |key: &str| {
        let (wire, _) = dial(&server, 0, "192.0.2.1");
        let answer = write(
            &server,
            wire,
            format!("GET {OPEN}&shard_key={key} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
        );
        (wire, answer)
    };
    let before = || sum(&server, |stats| stats.handoffs);
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let key = keys.into_iter().find(|key| {
        let count = before();
        ask(key);
        before() > count
    });
    let key = key.expect("one of eight keys leads to the other shard");
    server.advance(10 * SECOND);
    let count = before();
    let asked: Vec<_> = (0..20).map(|_| ask(key)).collect();
    let answered = asked.iter().filter(|(_, answer)| answer.starts_with("HTTP/1.1 200")).count();
    let refused: Vec<_> = asked.iter().filter(|(_, answer)| answer.starts_with("HTTP/1.1 503")).collect();
    // Four at once, twelve within three seconds, and no more are waited for.
    assert_eq!((answered, refused.len(), before() - count), (4, 4, 4));
    assert!(
        refused[0].1.contains("retry-after: 4\r\n") || refused[0].1.contains("Retry-After: 4\r\n"),
        "{}",
        refused[0].1
    );
    assert!(server.host.borrow().is_over(refused[0].0), "its client begins anew, at any shard");
    assert_eq!(sum(&server, |stats| stats.handoffs_delayed), 16);
    server.advance(SECOND + Duration::from_millis(60));
    assert_eq!(before() - count, 8);
    server.advance(2 * SECOND);
    assert_eq!(before() - count, 16);
    let late = asked.iter().filter(|(wire, answer)| {
        let mut host = server.host.borrow_mut();
        answer.is_empty() && host.arrived(*wire).starts_with(b"HTTP/1.1 200")
    });
    assert_eq!(late.count(), 12, "who waited is answered");
}
