//! How answers leave: files, long bodies, clients that read slowly or have said all they will.

use std::path::PathBuf;
use std::time::Duration;

use crate::http::Response;
use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::{Config, Context, Peer, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Long enough for several pieces, and no two bytes near each other alike.
fn long_file() -> Vec<u8> {
    (0..1_000_000_u32).flat_map(|number| (number / 7).to_le_bytes()).take(1_000_000).collect()
}

struct Site {
    server: TestServer,
    folder: PathBuf,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Site {
    fn new(name: &str) -> Site {
        let folder = std::env::temp_dir().join(format!("shardcast-answers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("short.txt"), "short").unwrap();
        std::fs::write(folder.join("long.bin"), long_file()).unwrap();
        std::fs::write(folder.join("script.js"), "let a = 1;\n".repeat(20_000)).unwrap();
        let server = Server::new(Config { shards: 1, ..Config::default() })
            .namespace("/", |io| {
                io.on("say", |cx: &mut Context<'_>| {
                    cx.broadcast().emit("said", ());
                });
            })
            .static_folder("/files", &folder)
            .route("/large", |_| Response::new(crate::http::Status::OK).body(vec![b'x'; 10_000_000]))
            .route("/text", |_| Response::text("all work and no play ".repeat(10_000)))
            .route("/hello", |_| Response::text("hello"));
        Site { server: TestServer::new(server).expect("the server is sound"), folder }
    }

    /// A connection that asks for these targets, one behind the other.
    fn ask(&self, targets: &[&str], headers: &str) -> WireId {
        let requests: Vec<String> = targets
            .iter()
            .map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
            .collect();
        let mut host = self.server.host.borrow_mut();
        let wire = host.dial(0, Peer::Unix);
        host.write(wire, requests.concat().as_bytes());
        wire
    }

    fn advance(&self, duration: Duration) {
        self.server.advance(duration);
    }

    fn settle(&self) {
        self.server.host.borrow_mut().settle();
    }

    fn arrived(&self, wire: WireId) -> Vec<u8> {
        std::mem::take(self.server.host.borrow_mut().arrived(wire))
    }

    fn is_over(&self, wire: WireId) -> bool {
        self.server.host.borrow().is_over(wire)
    }

    fn connections(&self) -> u64 {
        self.server.handle().stats().iter().map(|shard| shard.connections).sum()
    }

    fn sessions(&self) -> u64 {
        self.server.handle().stats().iter().map(|shard| shard.sessions).sum()
    }

    fn owed(&self) -> u64 {
        self.server.handle().stats().iter().map(|shard| shard.owed_bytes).sum()
    }
}

/// Heads and bodies of the answers in some bytes.
fn answers(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut answers = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let len: usize = len.map_or(0, |len| len.parse().expect("a number"));
        bytes = &bytes[end + 4..];
        let (body, rest) = bytes.split_at(len.min(bytes.len()));
        answers.push((head, body.to_vec()));
        bytes = rest;
    }
    answers
}

#[test]
fn a_long_file_arrives_whole_and_a_slow_reader_holds_two_pieces_of_it() {
    let site = Site::new("pieces");
    let wire = site.ask(&["/files/long.bin", "/hello"], "");
    site.server.host.borrow_mut().set_reading(wire, false);
    site.settle();
    assert!(site.owed() < 150_000, "{} bytes of a file are held for one who reads none", site.owed());
    for _ in 0..5 {
        site.server.host.borrow_mut().take_part(wire, 100_000);
        site.settle();
        assert!(site.owed() < 300_000, "{}", site.owed());
    }
    site.server.host.borrow_mut().set_reading(wire, true);
    site.settle();
    let answers = answers(&site.arrived(wire));
    assert_eq!(answers.len(), 2, "the next request is answered after it");
    assert!(answers[0].1 == long_file(), "the pieces are in order");
    assert_eq!((answers[1].1.as_slice(), site.owed()), (&b"hello"[..], 0));
}

#[test]
fn what_was_asked_for_before_a_half_close_is_answered() {
    for targets in [
        &["/files/long.bin"][..],
        &["/files/short.txt", "/hello"],
        &["/hello", "/files/short.txt", "/files/long.bin"],
        &["/text"],
        &["/large"],
    ] {
        let site = Site::new("half-close");
        site.server.host.borrow_mut().hold_files();
        let wire = site.ask(targets, "Accept-Encoding: gzip\r\n");
        site.server.host.borrow_mut().end_wire(wire);
        site.settle();
        site.server.host.borrow_mut().release_files();
        site.settle();
        let answers = answers(&site.arrived(wire));
        assert_eq!(answers.len(), targets.len(), "{targets:?}");
        assert!(answers.iter().all(|(head, body)| head.starts_with("HTTP/1.1 200") && !body.is_empty()));
        assert!(site.is_over(wire), "and then there is no more");
        site.advance(3 * SECOND);
        assert_eq!(site.connections(), 0, "{targets:?}");
    }
}

#[test]
fn pipelined_requests_for_much_are_answered_as_their_client_reads() {
    let site = Site::new("pipelined");
    let targets = ["/large", "/large", "/files/long.bin", "/large", "/hello"];
    for is_half_closed in [false, true] {
        let wire = site.ask(&targets, "");
        let mut host = site.server.host.borrow_mut();
        host.set_reading(wire, false);
        if is_half_closed {
            host.end_wire(wire);
        }
        host.settle();
        drop(host);
        assert!(site.owed() < 11_000_000, "{} bytes for one who reads none", site.owed());
        for _ in 0..200 {
            site.server.host.borrow_mut().take_part(wire, 200_000);
            site.advance(Duration::from_millis(200));
        }
        let lens: Vec<usize> = answers(&site.arrived(wire)).iter().map(|(_, body)| body.len()).collect();
        assert_eq!(lens, [10_000_000, 10_000_000, 1_000_000, 10_000_000, 5]);
        assert_eq!(site.is_over(wire), is_half_closed);
    }
    // One who reads nothing is kept no longer for all that it asks.
    let idle = site.connections();
    let wire = site.ask(&targets, "");
    site.server.host.borrow_mut().set_reading(wire, false);
    site.advance(80 * SECOND);
    assert_eq!(site.connections(), 0, "of {idle} and one");
}

#[test]
fn half_a_request_before_a_half_close_is_none() {
    let site = Site::new("half-request");
    let wire = site.ask(&["/hello"], "");
    site.server.host.borrow_mut().write(wire, b"GET /hello HT");
    site.server.host.borrow_mut().end_wire(wire);
    site.advance(3 * SECOND);
    assert_eq!((answers(&site.arrived(wire)).len(), site.is_over(wire), site.connections()), (1, true, 0));
}

fn open_poll(site: &Site) -> (String, WireId) {
    let target = "/socket.io/?EIO=4&transport=polling";
    let text = site.server.get(target).text();
    let target = format!("{target}&sid={}", text.split('"').nth(3).expect("a sid"));
    site.server.request(crate::http::Method::Post, &target, &[], b"40");
    let joined = site.ask(&[&target], "Connection: close\r\n");
    site.settle();
    assert!(String::from_utf8_lossy(&site.arrived(joined)).contains("40{"));
    let wire = site.ask(&[&target], "");
    site.settle();
    site.server.host.borrow_mut().end_wire(wire);
    site.settle();
    (target, wire)
}

#[test]
fn a_poll_outlives_the_half_close_of_its_client_for_a_moment() {
    let site = Site::new("half-poll");
    let (target, wire) = open_poll(&site);
    site.advance(SECOND);
    let speaker = site.server.connect("/").expect("everybody may");
    speaker.emit("say", ());
    let answers = answers(&site.arrived(wire));
    assert_eq!(answers[0].1, b"42[\"said\"]", "the answer in the making is not lost");
    assert!(site.is_over(wire));
    speaker.cut();
    // The client goes on with another connection, as one does whose poll was answered.
    let next = site.ask(&[&target], "");
    site.advance(5 * SECOND);
    assert_eq!((site.sessions(), site.is_over(next)), (1, false));
}

#[test]
fn a_client_that_has_gone_from_its_poll_is_missed_soon() {
    let site = Site::new("gone-poll");
    let (_, wire) = open_poll(&site);
    assert_eq!(site.sessions(), 1);
    site.advance(5 * SECOND);
    assert_eq!((site.sessions(), site.is_over(wire), site.connections()), (0, true, 0));
}

#[test]
fn a_file_that_never_comes_is_answered_503_and_not_for_ever_waited_for() {
    let site = Site::new("lost");
    site.server.host.borrow_mut().hold_files();
    let targets = ["/files/short.txt", "/files/script.js"];
    let wires = targets.map(|target| site.ask(&[target], "Accept-Encoding: gzip\r\n"));
    let text = site.ask(&["/text"], "Accept-Encoding: gzip\r\n");
    site.advance(25 * SECOND);
    assert_eq!(site.connections(), 3, "a slow disk has its time");
    site.advance(10 * SECOND);
    for wire in wires.into_iter().chain([text]) {
        let answers = answers(&site.arrived(wire));
        assert!(answers[0].0.starts_with("HTTP/1.1 503"), "{}", answers[0].0);
        assert!(site.is_over(wire));
    }
    // What comes too late prolongs nothing.
    site.server.host.borrow_mut().release_files();
    site.advance(5 * SECOND);
    assert_eq!(site.connections(), 0);
}

#[test]
fn a_connection_that_is_ending_gets_no_new_time_from_its_file() {
    let site = Site::new("ending");
    site.server.host.borrow_mut().hold_files();
    let wires: Vec<WireId> = (0..20)
        .map(|_| {
            let wire = site.ask(&["/large", "/files/short.txt"], "");
            site.server.host.borrow_mut().set_reading(wire, false);
            site.server.host.borrow_mut().end_wire(wire);
            wire
        })
        .collect();
    site.settle();
    site.server.host.borrow_mut().release_files();
    site.advance(35 * SECOND);
    assert_eq!(site.connections(), 0, "clients that read nothing are gone after their patience");
    assert!(wires.iter().all(|wire| site.is_over(*wire)));
}

/// Whether a client is still served that takes so many bytes of a target each second.
fn is_served(target: &str, headers: &str, bytes_per_second: usize, seconds: u32) -> bool {
    let site = Site::new(&format!("pace-{bytes_per_second}-{}", headers.len() + target.len()));
    let wire = site.ask(&[target], headers);
    site.server.host.borrow_mut().set_reading(wire, false);
    site.settle();
    for _ in 0..seconds {
        site.server.host.borrow_mut().take_part(wire, bytes_per_second);
        site.advance(SECOND);
    }
    site.connections() == 1
}

#[test]
fn an_answer_is_taken_at_a_pace_or_not_at_all() {
    for target in ["/large", "/files/long.bin"] {
        for headers in ["", "Connection: close\r\n"] {
            assert!(is_served(target, headers, 4096, 120), "{target} {headers:?}: a slow link");
            assert!(!is_served(target, headers, 1, 90), "{target} {headers:?}: any byte is no progress");
        }
    }
}

#[test]
fn an_idle_connection_has_its_time_from_the_end_of_its_answer_on() {
    let site = Site::new("idle");
    let wire = site.ask(&["/large"], "");
    site.server.host.borrow_mut().set_reading(wire, false);
    site.settle();
    for _ in 0..50 {
        site.server.host.borrow_mut().take_part(wire, 250_000);
        site.advance(SECOND);
    }
    assert_eq!(site.owed(), 0);
    site.advance(60 * SECOND);
    assert_eq!(site.connections(), 1, "it is idle for less than keep_alive_timeout");
    site.advance(20 * SECOND);
    assert_eq!(site.connections(), 0);
}

fn inflated(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut bytes).expect("gzip");
    bytes
}

#[test]
fn a_long_body_is_compressed_elsewhere_and_holds_nobody_up() {
    let site = Site::new("coding");
    site.server.host.borrow_mut().hold_files();
    let wire = site.ask(&["/text", "/hello"], "Accept-Encoding: gzip\r\n");
    site.settle();
    assert!(site.arrived(wire).is_empty(), "its client waits");
    assert_eq!(site.server.get("/hello").text(), "hello", "and no other");
    site.server.host.borrow_mut().release_files();
    site.settle();
    let answers = answers(&site.arrived(wire));
    assert!(
        answers[0].0.contains("Content-Encoding: gzip") && answers[0].0.contains("Vary: Accept-Encoding")
    );
    assert_eq!(inflated(&answers[0].1), "all work and no play ".repeat(10_000).into_bytes());
    assert_eq!(answers[1].1, b"hello", "the requests are answered in their order");
}

#[test]
fn a_file_says_the_same_of_itself_however_it_is_asked_for() {
    let site = Site::new("head");
    let method = crate::http::Method::Head;
    for (target, headers) in [
        ("/files/long.bin", &[][..]),
        ("/files/script.js", &[]),
        ("/files/script.js", &[("Accept-Encoding", "gzip")]),
    ] {
        let got = site.server.request(crate::http::Method::Get, target, headers, b"");
        let head = site.server.request(method, target, headers, b"");
        assert_eq!((head.status, &head.headers, head.body.len()), (200, &got.headers, 0), "{target}");
        assert_eq!(got.header("content-length"), Some(got.body.len().to_string().as_str()));
        let tag = got.header("etag").expect("a file has a tag").to_owned();
        let known = site.server.request(crate::http::Method::Get, target, &[("If-None-Match", &tag)], b"");
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
    let coded = site.server.request(
        crate::http::Method::Get,
        "/files/script.js",
        &[("Accept-Encoding", "gzip")],
        b"",
    );
    assert_eq!(inflated(&coded.body), "let a = 1;\n".repeat(20_000).into_bytes());
}

#[test]
fn a_page_that_asks_for_the_client_gets_it_or_is_told_where_it_comes_from() {
    let server = |serve_client| {
        let engine = crate::EngineOptions { serve_client, ..crate::EngineOptions::default() };
        TestServer::new(Server::new(Config { engine, ..Config::default() })).expect("the server is sound")
    };
    let (on, off) = (server(true), server(false));
    let (status, head) = if cfg!(feature = "client") { (200, "/*!\n * Socket.IO v4.") } else { (404, "") };
    for name in ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"] {
        let target = format!("/socket.io/{name}");
        let answer = on.get(&target);
        assert_eq!(answer.status, status, "{name}");
        assert!(answer.text().starts_with(head), "{name}");
        let refused = off.get(&target);
        assert!(refused.status == 404 && refused.text().contains("client_bundle"), "{}", refused.text());
        if let Some(tag) = answer.header("etag") {
            let known = on.request(crate::http::Method::Get, &target, &[("If-None-Match", tag)], b"");
            assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some(tag)));
            let posted = on.request(crate::http::Method::Post, &target, &[], b"");
            assert_eq!(posted.status, 405);
        }
    }
    for name in ["socket.io.js.map", "socket.io.msgpack.min.js"] {
        assert_eq!(on.get(&format!("/socket.io/{name}")).status, 404, "{name}");
    }
    assert_eq!(on.get("/socket.io/other.js").status, 400, "as any request that names no transport");
}
