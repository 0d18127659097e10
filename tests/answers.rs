//! HTTP answers over real sockets: what only the kernel can show of long files and parts of them, of slow readers, half-closed
//! connections, and bodies that come and go piece by piece.
//!
//! Each runs on the ring wire, on monoio's io_uring and on epoll.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use shardcast::http::{BodyError, Event, Method, OwnedRequest, Response, Streamed};
use shardcast::{Config, Io, Server};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("shardcast-answers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for files");
        std::fs::write(folder.join("long.bin"), long_file()).expect("a file");
        std::fs::write(folder.join("script.js"), "let a = 1;\n".repeat(50_000)).expect("a file");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn long_file() -> Vec<u8> {
    (0..2_000_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect()
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
    &answer[end + 4..]
}

#[test]
fn a_half_closing_client_gets_all_that_it_asked_for() {
    let folder = Folder::new("half-close");
    for io in WIRES {
        let config = Config { io, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server = Server::new(config)
            .static_folder("/files", &folder.0)
            .route("/text", |_| Response::text("all work and no play ".repeat(10_000)))
            .start()
            .expect("the server starts");
        let address = &server.addresses()[0];
        for (target, headers, expected) in [
            ("/files/long.bin", "", Some(long_file())),
            ("/text", "Accept-Encoding: gzip\r\n", None),
            ("/files/script.js", "Accept-Encoding: gzip\r\n", None),
        ] {
            let mut stream = connect(address);
            write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").expect("sent");
            stream.shutdown(Shutdown::Write).expect("half a close");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the answer arrives and ends");
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{io:?} {target}");
            match expected {
                Some(expected) => {
                    assert!(body(&answer) == expected, "{io:?} {target}: {} bytes", answer.len())
                }
                None => assert!(String::from_utf8_lossy(&answer).contains("Content-Encoding: gzip")),
            }
        }
        server.stop();
    }
}

#[test]
fn readers_of_a_long_file_cost_two_pieces_each() {
    let folder = Folder::new("memory");
    for io in WIRES {
        let config = Config { io, shards: 1, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server =
            Server::new(config).static_folder("/files", &folder.0).start().expect("the server starts");
        let mut readers: Vec<TcpStream> = (0..20).map(|_| connect(&server.addresses()[0])).collect();
        for reader in &mut readers {
            reader
                .write_all(b"GET /files/long.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .expect("sent");
        }
        std::thread::sleep(Duration::from_millis(500));
        let owed: u64 = server.handle().stats().iter().map(|shard| shard.owed_bytes).sum();
        assert!(
            owed <= 20 * 300_000,
            "{io:?}: {owed} bytes are held for 20 readers of 8 MB that read nothing"
        );
        let mut answer = Vec::new();
        readers.pop().expect("there are 20").read_to_end(&mut answer).expect("it is there for who reads");
        assert!(body(&answer) == long_file(), "{io:?}");
        server.stop();
    }
}

/// The body of a chunked answer that is whole.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk has a length");
        let length = std::str::from_utf8(&rest[..end]).expect("digits");
        let length = usize::from_str_radix(length, 16).expect("hexadecimal digits");
        if length == 0 {
            assert_eq!(&rest[end..], b"\r\n\r\n", "nothing follows the last chunk");
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}

#[test]
fn parts_of_a_file_are_served_on_every_wire() {
    let folder = Folder::new("ranges");
    let whole = long_file();
    for io in WIRES {
        let config = Config { io, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server =
            Server::new(config).static_folder("/files", &folder.0).start().expect("the server starts");
        let (last, len) = (whole.len() - 1, whole.len());
        for (range, status, part, expected) in [
            ("bytes=0-0", "206", format!("0-0/{len}"), &whole[..1]),
            ("bytes=1000000-5999999", "206", format!("1000000-5999999/{len}"), &whole[1_000_000..6_000_000]),
            ("bytes=7999990-", "206", format!("7999990-{last}/{len}"), &whole[7_999_990..]),
            ("bytes=-3000000", "206", format!("{}-{last}/{len}", len - 3_000_000), &whole[len - 3_000_000..]),
            ("bytes=8000000-", "416", format!("*/{len}"), &[][..]),
            ("bytes=0-1,5-6", "200", String::new(), &whole[..]),
        ] {
            let mut stream = connect(&server.addresses()[0]);
            write!(
                stream,
                "GET /files/long.bin HTTP/1.1\r\nHost: a\r\nRange: {range}\r\nConnection: close\r\n\r\n"
            )
            .expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("the answer arrives and ends");
            let head_len = answer.len() - body(&answer).len();
            let head = String::from_utf8_lossy(&answer[..head_len]).to_ascii_lowercase();
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{io:?} {range}: {head}");
            assert!(part.is_empty() || head.contains(&format!("content-range: bytes {part}\r\n")), "{head}");
            assert!(status == "416" || body(&answer) == expected, "{io:?} {range}: {} bytes", answer.len());
        }
        server.stop();
    }
}

#[test]
fn bodies_come_and_go_piece_by_piece_on_every_wire() {
    const LINES: usize = 200_000;
    for io in WIRES {
        let config = Config { io, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server = Server::new(config)
            .route("/lines", |_| {
                Streamed::new("text/plain", |mut body| async move {
                    for number in 0..LINES {
                        body.send(format!("{number:0>31}\n")).await?;
                    }
                    Ok(())
                })
            })
            .route_upload(Method::Post, "/upload", 64 << 20, |mut request: OwnedRequest| async move {
                let (mut bytes, mut sum) = (0, 0_u64);
                while let Some(piece) = request.chunk().await? {
                    bytes += piece.len();
                    sum += piece.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
                Ok::<_, BodyError>(format!("{bytes} {sum}"))
            })
            .start()
            .expect("the server starts");
        let address = &server.addresses()[0];

        // Its reader is slow at first: the producer waits for it, and nothing piles up.
        let mut reader = connect(address);
        reader.write_all(b"GET /lines HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        std::thread::sleep(Duration::from_millis(200));
        let owed: u64 = server.handle().stats().iter().map(|shard| shard.owed_bytes).sum();
        assert!(owed < 1_000_000, "{io:?}: {owed} bytes of 6.4 MB are held for a reader that reads nothing");
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).expect("the stream ends");
        let expected: String = (0..LINES).map(|number| format!("{number:0>31}\n")).collect();
        assert!(dechunked(body(&answer)) == expected.as_bytes(), "{io:?}: {} bytes", answer.len());

        let pieces: Vec<Vec<u8>> = (1..=40).map(|number| vec![number; 50_000]).collect();
        let sum: u64 = pieces.iter().flatten().map(|byte| u64::from(*byte)).sum();
        for is_chunked in [true, false] {
            let mut writer = connect(address);
            let length = if is_chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 2000000" };
            write!(writer, "POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}\r\n\r\n")
                .expect("sent");
            for piece in &pieces {
                let chunk = [b"c350\r\n", &piece[..], b"\r\n"].concat();
                writer.write_all(if is_chunked { &chunk } else { piece }).expect("sent");
            }
            writer.write_all(if is_chunked { b"0\r\n\r\n" } else { b"" }).expect("sent");
            let mut answer = Vec::new();
            writer.read_to_end(&mut answer).expect("the answer arrives and ends");
            assert_eq!(String::from_utf8_lossy(body(&answer)), format!("2000000 {sum}"), "{io:?} {length}");
        }
        server.stop();
    }
}

#[test]
fn server_sent_events_arrive_one_by_one_on_every_wire() {
    for io in WIRES {
        let config = Config { io, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..Config::default() };
        let server = Server::new(config)
            .route("/events", |request| {
                let last: u64 = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
                Streamed::events(move |mut events| async move {
                    for number in last + 1.. {
                        events.send(&Event::new(number.to_string()).id(number)).await?;
                        shardcast::sleep(Duration::from_millis(5)).await;
                    }
                    Ok(())
                })
            })
            .start()
            .expect("the server starts");
        let address = &server.addresses()[0];
        for last in ["", "Last-Event-ID: 41\r\n"] {
            let mut stream = connect(address);
            write!(stream, "GET /events HTTP/1.1\r\nHost: a\r\n{last}\r\n").expect("sent");
            let first = if last.is_empty() { 1 } else { 42 };
            let mut seen = String::new();
            // The stream has no end: what has been sent is there while more is still to come.
            while !seen.contains(&format!("data: {}\n", first + 9)) {
                let mut bytes = [0; 4096];
                let len = match stream.read(&mut bytes) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    read => read.expect("it goes on"),
                };
                assert!(len > 0, "{io:?}: the stream ended: {seen}");
                seen.push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
            let head = seen.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
            assert!(head.contains("content-type: text/event-stream"), "{head}");
            let numbers: Vec<u64> = seen
                .lines()
                .filter_map(|line| line.strip_prefix("data: ").and_then(|number| number.parse().ok()))
                .collect();
            assert_eq!(numbers[..10], (first..first + 10).collect::<Vec<_>>(), "{io:?}");
        }
        // Their clients have gone, and so do the streams.
        let started = std::time::Instant::now();
        while server.handle().stats().iter().any(|shard| shard.routes_waiting > 0) {
            assert!(started.elapsed() < PATIENCE, "{io:?}: a stream goes on for nobody");
            std::thread::sleep(Duration::from_millis(5));
        }
        server.stop();
    }
}
