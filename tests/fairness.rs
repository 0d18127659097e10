//! With real sockets: one client that sends without end, or asks for more than it reads, next to one that asks for little.
//!
//! Each runs on the ring wire, on monoio's io_uring and on epoll. What is compared is how much of the busy client's was handled
//! between two answers to the other, not how long it took.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast::http::Response;
use shardcast::{Config, Context, Io, RunningServer, Server};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one event of the busy client keeps its shard.
const WORK: Duration = Duration::from_micros(100);

/// Events of the busy client between two answers to the other. A turn takes a millisecond of them or a share, whichever is more;
/// a request and its answer need a few turns.
const BETWEEN_MAX: u64 = 400;

/// Counts what it is sent, each taking its time; `/count` says how many there were.
fn start(io: Io, outbox_bytes_max: usize) -> RunningServer {
    let count = Arc::new(AtomicU64::new(0));
    let [events, shown] = [0; 2].map(|_| Arc::clone(&count));
    let work = move |count: &AtomicU64| {
        let started = Instant::now();
        while started.elapsed() < WORK {
            std::hint::spin_loop();
        }
        count.fetch_add(1, Ordering::Relaxed);
    };
    let config =
        Config { io, shards: 1, bind: vec!["127.0.0.1:0".to_owned()], outbox_bytes_max, ..Config::default() };
    Server::new(config)
        .namespace("/", move |io| {
            let events = Arc::clone(&events);
            io.on("work", move |_: &mut Context<'_>| work(&events));
            io.on("ask", |_: &mut Context<'_>, bytes: usize| "x".repeat(bytes));
        })
        .route("/count", move |_| Response::text(shown.load(Ordering::Relaxed).to_string()))
        .start()
        .expect("the server starts")
}

fn dial(server: &RunningServer) -> TcpStream {
    let address = server.addresses()[0].clone();
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("an option can be set");
    stream
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = match u16::try_from(text.len()).expect("no long frames") {
        len @ 0..126 => vec![0x81, 0x80 | len as u8],
        len => [[0x81, 0x80 | 126], len.to_be_bytes()].concat(),
    };
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A client in `/` by WebSocket, whatever the server has said so far unread.
fn connect(server: &RunningServer) -> TcpStream {
    let mut stream = dial(server);
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    stream.write_all(&frame("40")).expect("sent");
    stream
}

/// Reads something. The kernel ends a wait with what the start's question about io_uring left behind: then once more.
fn read_some(stream: &mut TcpStream, chunk: &mut [u8]) -> usize {
    loop {
        match stream.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.expect("something arrives"),
        }
    }
}

/// Asks for `/count` on a kept connection.
fn ask_count(stream: &mut TcpStream) -> u64 {
    stream.write_all(b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let (mut answer, mut chunk) = (String::new(), [0; 4096]);
    loop {
        let count = read_some(stream, &mut chunk);
        assert!(count > 0, "the connection is kept");
        answer.push_str(std::str::from_utf8(&chunk[..count]).expect("text"));
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let len = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let len: usize = len.expect("a length").parse().expect("a number");
        if body.len() == len {
            return body.parse().expect("a number");
        }
    }
}

#[test]
fn a_client_that_sends_without_end_keeps_nobody_else_waiting() {
    for io in WIRES {
        // Many small packets at once, and few at a time but always more: the wires meet them in different places.
        for chunk in [1_000, 3] {
            let server = start(io, 4 * 1024 * 1024);
            let mut other = dial(&server);
            let busy = connect(&server);
            let (stop, writers) = write_without_end(vec![busy], frame("42[\"work\"]").repeat(chunk));
            let started = Instant::now();
            while ask_count(&mut other) < 500 {
                assert!(started.elapsed() < PATIENCE, "{io:?}: the busy client is served too");
            }
            let mut last = ask_count(&mut other);
            for _ in 0..20 {
                let count = ask_count(&mut other);
                assert!(count - last <= BETWEEN_MAX, "{io:?}, {chunk} at once: {} in between", count - last);
                last = count;
            }
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().for_each(|writer| writer.join().expect("the busy client is not closed"));
            server.stop();
        }
    }
}

/// Sends the same without end on each connection, as fast as the server takes it, until it is told to stop.
fn write_without_end(clients: Vec<TcpStream>, bytes: Vec<u8>) -> (Arc<AtomicBool>, Vec<JoinHandle<()>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let writers = clients.into_iter().map(|mut client| {
        client.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
        let (bytes, asked) = (bytes.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut left: &[u8] = &[];
            while !asked.load(Ordering::Relaxed) {
                left = if left.is_empty() { &bytes } else { left };
                match client.write(left) {
                    Ok(count) => left = &left[count..],
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
                    }
                }
            }
        })
    });
    let writers = writers.collect();
    (stop, writers)
}

#[test]
fn many_clients_whose_input_waits_in_the_kernel_keep_nobody_else_waiting() {
    /// Two or three of them fit into what one receive brings, which is less than a share of a turn: the kernel holds far more.
    const EVENT_BYTES: usize = 3_000;
    for io in WIRES {
        let server = start(io, 4 * 1024 * 1024);
        let mut other = dial(&server);
        let busy = (0..10).map(|_| connect(&server)).collect();
        let event = format!("42[\"work\",{:?}]", "x".repeat(EVENT_BYTES));
        let (stop, writers) = write_without_end(busy, frame(&event).repeat(20));
        let started = Instant::now();
        while ask_count(&mut other) < 3_000 {
            assert!(started.elapsed() < PATIENCE, "{io:?}: the busy clients are served too");
        }
        let mut last = ask_count(&mut other);
        for _ in 0..20 {
            let count = ask_count(&mut other);
            assert!(count - last <= BETWEEN_MAX, "{io:?}: {} in between", count - last);
            last = count;
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().expect("the busy clients are not closed"));
        server.stop();
    }
}

#[test]
fn clients_that_vanish_while_they_are_not_read_are_soon_gone() {
    for io in WIRES {
        let server = start(io, 1_000_000);
        for round in 0..3 {
            let busy = (0..10).map(|_| connect(&server)).collect();
            let event = format!("420[\"ask\",1000,{:?}]", "x".repeat(3_000));
            let (stop, writers) = write_without_end(busy, frame(&event).repeat(20));
            let stats = || server.handle().stats()[0];
            await_that("they are owed much", || stats().owed_bytes > 500_000);
            // They have read nothing, so this resets them.
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().for_each(|writer| writer.join().expect("they are not closed before"));
            await_that(&format!("{io:?}, round {round}: they are gone"), || stats().connections == 0);
        }
        server.stop();
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_asks_for_more_than_it_reads_is_slowed_and_gets_all_in_the_end() {
    const ANSWERS: usize = 200;
    const BYTES: usize = 100_000;
    for io in WIRES {
        let server = start(io, 2_000_000);
        let mut client = connect(&server);
        let mut reader = client.try_clone().expect("a second handle");
        let writer = std::thread::spawn(move || {
            for id in 0..ANSWERS {
                client.write_all(&frame(&format!("42{id}[\"ask\",{BYTES}]"))).expect("sent in the end");
            }
        });
        // It reads nothing while the server comes to its limit.
        let started = Instant::now();
        while server.handle().stats()[0].owed_bytes < 1_000_000 {
            assert!(
                started.elapsed() < PATIENCE,
                "{io:?}: it is owed {}",
                server.handle().stats()[0].owed_bytes
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
        std::thread::park_timeout(Duration::from_millis(50));
        let owed = server.handle().stats()[0].owed_bytes;
        assert!(owed <= 1_000_000 + 2 * BYTES as u64, "{io:?}: {owed}");
        let (mut total, mut chunk) = (0, vec![0; 1 << 20]);
        while total < ANSWERS * BYTES {
            let count = read_some(&mut reader, &mut chunk);
            assert!(count > 0, "{io:?}: closed after {total} bytes");
            total += count;
        }
        writer.join().expect("everything is sent");
        assert_eq!(server.handle().stats()[0].slow_consumers_closed, 0, "{io:?}");
        server.stop();
    }
}
