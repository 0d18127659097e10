//! What large messages took is given back when their clients have gone: the program, with its own allocator.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const CLIENTS: usize = 120;

/// Bytes that each client sends of a message that never ends.
const BYTES: usize = 900_000;

/// What the process may keep of them all.
const KEPT_BYTES_MAX: u64 = 32 * 1024 * 1024;

struct Program(Child);

impl Program {
    /// Bytes in memory now.
    fn resident(&self) -> u64 {
        let text =
            std::fs::read_to_string(format!("/proc/{}/statm", self.0.id())).expect("the process lives");
        let pages: u64 = text.split(' ').nth(1).expect("a second number").parse().expect("a number");
        pages * 4096
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the server ends");
    }
}

fn start(port: u16) -> Program {
    let child = Command::new(env!("CARGO_BIN_EXE_shardcast"))
        .args(["--bind", &format!("127.0.0.1:{port}"), "--shards", "1"])
        .env("SHARDCAST_PARTIAL_BYTES_MAX", "1000000000")
        .stderr(Stdio::null())
        .spawn();
    let program = Program(child.expect("the program runs"));
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < PATIENCE, "the server listens");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    program
}

/// A client by WebSocket that has sent the greater part of a frame.
fn upload(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).expect("answered") > 0);
    let mut frame = vec![0x82, 0xff];
    frame.extend_from_slice(&(BYTES as u64 + 1).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + BYTES, 7);
    stream.write_all(&frame).expect("sent");
    stream
}

fn await_resident(program: &Program, what: &str, holds: impl Fn(u64) -> bool) {
    let started = Instant::now();
    while !holds(program.resident()) {
        assert!(started.elapsed() < PATIENCE, "{what}: {} bytes in memory", program.resident());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn what_large_messages_took_is_given_back() {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let program = start(port);
    drop(upload(port));
    std::thread::park_timeout(Duration::from_millis(200));
    let before = program.resident();
    let all = (CLIENTS * BYTES) as u64;
    for _ in 0..2 {
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| upload(port)).collect();
        await_resident(&program, "the server keeps what came", |bytes| bytes >= before + all / 2);
        drop(clients);
        await_resident(&program, "it gives back", |bytes| bytes <= before + KEPT_BYTES_MAX);
    }
}
