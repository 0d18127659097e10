//! Routes that wait, and bodies that come and go piece by piece: who waits for whom, and what hostile clients get.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::http::{Event, Failure, Method, OwnedRequest, Request, Streamed};
use crate::testing::{TestRequest, TestServer};
use crate::{Config, Context, Peer, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Counts how many of it there are: what a future holds goes with it.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: &Arc<AtomicUsize>) -> Held {
        count.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(count))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn config() -> Config {
    Config { shards: 1, ..Config::default() }
}

/// A server whose routes hold something while they run; how many do, and how many pieces were sent.
fn server(config: Config) -> (TestServer, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (held, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let [waits, reads, makes, tells, duplex] = [(); 5].map(|()| Arc::clone(&held));
    let count = Arc::clone(&sent);
    let server = Server::new(config)
        .namespace("/", |io| io.on("echo", |_: &mut Context<'_>, text: String| text))
        .route_async("/wait/{seconds}", move |request: OwnedRequest| {
            let held = Held::new(&waits);
            async move {
                let seconds = request.param("seconds").unwrap_or_default().parse()?;
                crate::sleep(Duration::from_secs(seconds)).await;
                drop(held);
                Ok::<_, Failure>(format!("{seconds}"))
            }
        })
        .route_upload(Method::Post, "/read", 1 << 30, move |mut request: OwnedRequest| {
            let held = Held::new(&reads);
            async move {
                let mut bytes = 0;
                while let Some(piece) = request.chunk().await? {
                    assert!(piece.len() <= 64 * 1024);
                    bytes += piece.len();
                    if let Some(millis) = request.query("slow") {
                        crate::sleep(Duration::from_millis(millis.parse()?)).await;
                    }
                }
                drop(held);
                Ok::<_, Failure>(bytes.to_string())
            }
        })
        .route_upload(Method::Post, "/duplex", 1 << 30, move |mut request: OwnedRequest| {
            let held = Held::new(&duplex);
            async move {
                Streamed::new("text/plain", move |mut body| async move {
                    while let Some(piece) = request.chunk().await? {
                        body.send(piece).await?;
                    }
                    drop(held);
                    Ok(())
                })
            }
        })
        .route("/endless", move |request: &Request<'_>| {
            endless(request, Held::new(&makes), Arc::clone(&count))
        })
        .route("/events", move |_| {
            let held = Held::new(&tells);
            Streamed::events(move |mut events| async move {
                let _held = held;
                events.send(&Event::new("one").id(1)).await?;
                crate::sleep(100 * SECOND).await;
                events.send(&Event::new("two").id(2)).await?;
                std::future::pending().await
            })
        })
        .route("/now", |_| "now");
    (TestServer::new(server).expect("the server is sound"), held, sent)
}

/// Sends pieces without end, unless the request asks for a failure or a panic.
fn endless(request: &Request<'_>, held: Held, count: Arc<AtomicUsize>) -> Streamed {
    let fails = request.query("fails").map(|at| at.parse::<usize>().unwrap_or(0));
    let panics = request.query("panics").is_some();
    Streamed::new("application/octet-stream", move |mut body| async move {
        let _held = held;
        loop {
            body.send([b'x'; 10_000]).await?;
            let sent = count.fetch_add(1, Ordering::Relaxed);
            assert!(!panics, "a producer of a test panics");
            if fails.is_some_and(|at| sent >= at) {
                Err("it failed")?;
            }
            if sent % 7 == 6 {
                crate::sleep(Duration::from_millis(100)).await;
            }
        }
    })
}

fn count(held: &Arc<AtomicUsize>) -> usize {
    held.load(Ordering::Relaxed)
}

fn assert_at_rest(server: &TestServer, held: &Arc<AtomicUsize>) {
    assert_eq!(count(held), 0, "futures are left");
    for table in ["tasks", "routes", "sleeps", "deferred"] {
        assert_eq!(server.host.borrow().table(0, table), 0, "{table}");
    }
}

#[test]
fn others_go_on_while_a_route_waits_and_the_connection_s_next_request_does_not() {
    let (server, held, _) = server(config());
    let mut slow = server.begin(Method::Get, "/wait/5", &[]);
    slow.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\nGET /wait/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(server.get("/now").text(), "now");
    let client = server.connect("/").unwrap();
    assert_eq!(client.call("echo", "hello").unwrap().first::<String>().unwrap(), "hello");
    let mut quick = server.begin(Method::Get, "/wait/2", &[]);
    assert_eq!((count(&held), server.handle().stats()[0].routes_waiting), (2, 2));
    let bodies = |request: &TestRequest| -> Vec<String> {
        let arrived = String::from_utf8_lossy(server.host.borrow_mut().arrived(request.wire())).into_owned();
        let answers = arrived.split("HTTP/1.1 200 OK");
        answers.filter_map(|answer| Some(answer.split("\r\n\r\n").nth(1)?.to_owned())).collect()
    };
    server.advance(2 * SECOND);
    assert_eq!(quick.response().unwrap().text(), "2");
    assert_eq!(bodies(&slow), [""; 0]);
    server.advance(3 * SECOND);
    assert_eq!(bodies(&slow), ["5", "now"]);
    server.advance(SECOND);
    assert_eq!(bodies(&slow), ["5", "now", "1"]);
    assert_at_rest(&server, &held);
}

#[test]
fn a_client_that_leaves_takes_its_future_along() {
    let (server, held, _) = server(config());
    for target in ["/wait/9", "/endless", "/events"] {
        let request = server.begin(Method::Get, target, &[]);
        assert_eq!(count(&held), 1, "{target}");
        request.leave();
        assert_at_rest(&server, &held);
    }
    let mut request = server.begin(Method::Post, "/read", &[("Content-Length", "10")]);
    request.send(b"half");
    assert_eq!(count(&held), 1);
    request.leave();
    assert_at_rest(&server, &held);
}

#[test]
fn a_client_that_has_closed_its_sending_half_is_answered_within_two_seconds_or_not_at_all() {
    let (server, held, _) = server(config());
    for (target, is_answered) in [("/wait/1", true), ("/wait/3", false), ("/now", true)] {
        let request = server.begin(Method::Get, target, &[]);
        server.host.borrow_mut().end_wire(request.wire());
        server.advance(4 * SECOND);
        let arrived = server.host.borrow_mut().arrived(request.wire()).clone();
        assert_eq!((!arrived.is_empty(), request.is_closed()), (is_answered, true), "{target}");
        assert_at_rest(&server, &held);
    }
    // A stream goes on for as long as it is taken.
    let mut request = server.begin(Method::Get, "/endless", &[]);
    request.set_reading(false);
    server.host.borrow_mut().end_wire(request.wire());
    for _ in 0..20 {
        server.host.borrow_mut().take_part(request.wire(), 50_000);
        server.advance(SECOND);
        assert_eq!(count(&held), 1);
    }
    server.advance(3 * SECOND);
    assert_at_rest(&server, &held);
    // Half a body and no more: the route is told.
    let mut request = server.begin(Method::Post, "/read", &[("Content-Length", "10")]);
    request.send(b"half");
    server.host.borrow_mut().end_wire(request.wire());
    server.host.borrow_mut().settle();
    assert_eq!(request.response().unwrap().status, 400);
    assert_at_rest(&server, &held);
}

#[test]
fn a_route_has_its_time_and_its_client_a_504() {
    let (server, held, _) = server(Config { route_timeout: 10 * SECOND, ..config() });
    let mut request = server.begin(Method::Get, "/wait/60", &[]);
    server.advance(9 * SECOND);
    assert!(!request.has_begun());
    server.advance(2 * SECOND);
    assert_eq!(request.status(), Some(504));
    assert_eq!(server.handle().stats()[0].routes_timed_out, 1);
    assert_at_rest(&server, &held);
    request.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!request.is_closed(), "the connection goes on");
    // A stream has begun: its time is its own.
    let mut events = server.begin(Method::Get, "/events", &[]);
    server.advance(200 * SECOND);
    assert!(events.text().contains("data: two"));
    let (server, _, _) = self::server(Config { route_timeout: Duration::ZERO, ..config() });
    let mut request = server.begin(Method::Get, "/wait/1000", &[]);
    server.advance(1000 * SECOND);
    assert_eq!(request.text(), "1000");
}

#[test]
fn so_many_wait_of_all_and_of_an_address() {
    let (all, _, _) = server(Config { routes_waiting_max: 3, ..config() });
    let waiting: Vec<_> = (0..3).map(|_| all.begin(Method::Get, "/wait/5", &[])).collect();
    for target in ["/wait/5", "/events", "/endless"] {
        let mut refused = all.begin(Method::Get, target, &[]);
        assert_eq!(
            (refused.status(), refused.header("retry-after").as_deref()),
            (Some(503), Some("5")),
            "{target}"
        );
    }
    let mut refused = all.begin(Method::Post, "/read", &[("Content-Length", "10")]);
    assert_eq!((refused.status(), refused.is_closed()), (Some(503), true));
    assert_eq!(all.get("/now").status, 200);
    drop(waiting);
    assert_eq!(all.begin(Method::Get, "/wait/5", &[]).status(), None);

    let (each, _, _) = server(Config {
        routes_waiting_per_address_max: 2,
        trusted_proxies: vec!["127.0.0.1".into()],
        ..config()
    });
    let ask = |address: &str| each.begin(Method::Get, "/wait/5", &[("X-Forwarded-For", address)]);
    let waiting = [ask("192.0.2.1"), ask("192.0.2.1")];
    assert_eq!(ask("192.0.2.1").status(), Some(503));
    assert_eq!(ask("192.0.2.2").status(), None);
    drop(waiting);
    assert_eq!(ask("192.0.2.1").status(), None);
    assert_eq!(each.host.borrow().table(0, "addresses of routes"), 0);
}

#[test]
fn a_body_that_is_not_taken_is_not_read_and_arrives_whole() {
    let (server, held, _) = server(config());
    let len = 2_000_000;
    for target in ["/read?slow=10", "/read"] {
        for chunked in [false, true] {
            let length = len.to_string();
            let header =
                if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", &*length) };
            let mut request = server.begin(Method::Post, target, &[header]);
            for _ in 0..20 {
                let mut piece = vec![b'x'; len / 20];
                if chunked {
                    piece = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                }
                request.send(&piece);
            }
            let kept = server.handle().stats()[0].partial_bytes;
            assert!(kept < 400_000, "{kept} bytes are kept of {len}");
            if chunked {
                request.send(b"0\r\n\r\n");
            }
            server.advance(10 * SECOND);
            assert_eq!(request.response().unwrap().text(), len.to_string(), "{target}");
            assert!(!request.is_closed());
            assert_at_rest(&server, &held);
        }
    }
}

#[test]
fn a_body_that_drips_has_a_time_limit_and_one_that_is_not_wanted_has_none() {
    let (server, held, _) = server(Config { route_timeout: Duration::ZERO, ..config() });
    let mut dripping = server.begin(Method::Post, "/read", &[("Content-Length", "1000")]);
    let mut quick = server.begin(Method::Post, "/read", &[("Content-Length", "100000")]);
    for _ in 0..30 {
        dripping.send(b"x");
        quick.send(&[b'x'; 2000]);
        server.advance(SECOND);
    }
    assert_eq!((dripping.status(), dripping.is_closed()), (Some(408), true));
    assert_eq!(quick.status(), None);
    quick.send(&[b'x'; 40_000]);
    assert_eq!(quick.response().unwrap().text(), "100000");
    // The route is what is slow here.
    let mut patient = server.begin(Method::Post, "/read?slow=20000", &[("Content-Length", "200000")]);
    patient.send(&[b'x'; 200_000]);
    server.advance(200 * SECOND);
    assert_eq!(patient.response().unwrap().text(), "200000");
    assert_at_rest(&server, &held);
}

#[test]
fn a_producer_waits_for_its_client_and_holds_little() {
    let (server, held, sent) = server(config());
    let mut request = server.begin(Method::Get, "/endless", &[]);
    // A client that reads all takes no more than others leave it: the test's wire takes everything, so it is stopped at once.
    request.set_reading(false);
    let before = sent.load(Ordering::Relaxed);
    server.advance(5 * SECOND);
    assert!(server.handle().stats()[0].owed_bytes < 80_000);
    for round in 1..10 {
        server.host.borrow_mut().take_part(request.wire(), 70_000);
        server.advance(SECOND);
        let sent = sent.load(Ordering::Relaxed) - before;
        assert!(sent <= 7 * (round + 1) + 1, "{sent} pieces in round {round}");
        assert!(sent >= 5 * round, "{sent} pieces in round {round}");
    }
    server.advance(60 * SECOND);
    assert!(request.is_closed(), "one who takes nothing is closed");
    assert_at_rest(&server, &held);
}

#[test]
fn what_fails_in_the_middle_is_cut_off() {
    let (server, held, _) = server(config());
    for target in ["/endless?fails=3", "/endless?panics"] {
        let mut request = server.begin(Method::Get, target, &[]);
        server.host.borrow_mut().settle();
        assert_eq!(
            (request.status(), request.is_complete(), request.is_closed()),
            (Some(200), false, true),
            "{target}"
        );
        assert_at_rest(&server, &held);
    }
    assert_eq!(server.handle().stats()[0].handler_panics, 1);
}

#[test]
fn a_body_may_be_answered_while_it_comes() {
    let (server, held, _) = server(config());
    let mut request = server.begin(Method::Post, "/duplex", &[("Transfer-Encoding", "chunked")]);
    request.send(b"3\r\none\r\n");
    assert_eq!(request.text(), "one");
    request.send(b"3\r\ntwo\r\n");
    assert_eq!((request.text(), request.is_complete()), ("onetwo".to_owned(), false));
    request.send(b"0\r\n\r\n");
    assert!(request.is_complete() && request.is_closed(), "nobody could know that it would be whole");
    assert_at_rest(&server, &held);
}

#[test]
fn silent_events_get_comments_and_busy_ones_do_not() {
    let (server, _, _) = server(config());
    let mut events = server.begin(Method::Get, "/events", &[]);
    assert_eq!(events.text(), "id: 1\ndata: one\n\n");
    server.advance(46 * SECOND);
    assert_eq!(events.text().matches(": keep-alive\n\n").count(), 3);
    server.advance(60 * SECOND);
    assert!(events.text().ends_with("id: 2\ndata: two\n\n") && !events.is_closed());
}

#[test]
fn at_the_end_events_end_well_and_what_waits_is_answered() {
    let (server, held, _) = server(config());
    let mut events = server.begin(Method::Get, "/events", &[]);
    let mut waiting = server.begin(Method::Get, "/wait/2", &[]);
    let mut endless = server.begin(Method::Get, "/endless", &[]);
    endless.set_reading(false);
    server.host.borrow_mut().stop();
    server.host.borrow_mut().settle();
    assert!(events.is_complete() && events.is_closed(), "its client comes back");
    assert!(!waiting.has_begun());
    server.advance(2 * SECOND);
    assert_eq!((waiting.text(), waiting.header("connection").as_deref()), ("2".to_owned(), Some("close")));
    assert!(waiting.is_closed() && !endless.is_closed());
    // A driver waits for `shutdown_timeout`, then closes; what is left goes with the shard.
    drop(endless);
    assert_at_rest(&server, &held);
}

#[test]
fn what_is_pipelined_behind_a_route_that_waits_is_bounded() {
    let (server, held, _) = server(config());
    for (bytes, is_over) in [(64 * 1024, false), (64 * 1024 + 1, true)] {
        let mut request = server.begin(Method::Get, "/wait/5", &[]);
        request.send(&b"GET / ".repeat(bytes)[..bytes]);
        assert_eq!(request.is_closed(), is_over, "{bytes} bytes");
    }
    assert_at_rest(&server, &held);
}

#[test]
fn a_task_of_its_own_may_send_and_hears_when_it_is_over() {
    let heard = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&heard);
    let server = Server::new(config()).namespace("/", |_| {}).route("/", move |_| {
        let told = Arc::clone(&told);
        Streamed::new("text/plain", move |mut body| async move {
            let is_done = Rc::new(Cell::new(false));
            let done = Rc::clone(&is_done);
            crate::spawn(async move {
                while body.send("x").await.is_ok() {
                    crate::sleep(SECOND).await;
                }
                told.fetch_add(1, Ordering::Relaxed);
                done.set(true);
            });
            while !is_done.get() {
                crate::sleep(SECOND).await;
            }
            Ok(())
        })
    });
    let server = TestServer::new(server).unwrap();
    let mut request = server.begin(Method::Get, "/", &[]);
    server.advance(3 * SECOND);
    assert_eq!(request.text(), "xxxx");
    request.leave();
    server.advance(3 * SECOND);
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    assert_eq!(server.host.borrow().table(0, "tasks"), 0);
}

#[test]
fn a_check_that_takes_its_time_lets_frames_behind_a_handshake_through() {
    let server = Server::new(config())
        .namespace("/", |_| {})
        .before_routes_async("/", |_| async { crate::sleep(SECOND).await })
        .websocket("/ws", |route| route.on_message(|ws, message| ws.send(message)));
    let server = TestServer::new(server).unwrap();
    let mut host = server.host.borrow_mut();
    let wire = host.dial(0, Peer::Unix);
    host.write(
        wire,
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x82\0\0\0\0hi",
    );
    host.advance(2 * SECOND);
    let arrived = host.arrived(wire).clone();
    assert!(arrived.starts_with(b"HTTP/1.1 101") && arrived.ends_with(b"\x81\x02hi"));
}
