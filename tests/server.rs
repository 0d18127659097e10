//! A few tests with real sockets, where only the kernel can show the behaviour.
//!
//! Each runs on the ring wire, on monoio's io_uring and on epoll.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shardcast::http::Response;
use shardcast::{AckError, Config, Io, RunningServer, Server, Socket, StateRoom};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

fn start(config: Config) -> RunningServer {
    Server::new(config)
        .namespace("/", |_| {})
        .route("/hello", |_| Response::text("hello"))
        .route("/big", |_| Response::text("x".repeat(3_000_000)))
        .websocket("/ws", |route| route.on_message(|ws, message| ws.send(message)))
        .start()
        .expect("the server starts")
}

fn config(io: Io, bind: &[&str]) -> Config {
    Config { io, shards: 2, bind: bind.iter().map(|&text| text.to_owned()).collect(), ..Config::default() }
}

/// Sends a request on a stream and reads everything until the server closes.
fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer arrives and ends");
    String::from_utf8(answer).expect("the answer is text")
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn ipv4_ipv6_and_unix_listeners_serve_the_same() {
    for io in WIRES {
        let path = std::env::temp_dir().join(format!("shardcast-test-{}-{io:?}.sock", std::process::id()));
        let unix = format!("unix:{}", path.display());
        let server = start(config(io, &["127.0.0.1:0", "[::1]:0", &unix]));
        let addresses = server.addresses();
        assert_eq!(addresses.len(), 3);
        for address in &addresses[..2] {
            for _ in 0..8 {
                assert!(exchange(connect(address), HELLO).ends_with("\r\n\r\nhello"), "{io:?} {address}");
            }
        }
        let stream = UnixStream::connect(&path).expect("the unix socket accepts");
        assert!(exchange(stream, HELLO).ends_with("hello"), "{io:?}");
        server.stop();
        // The socket file of a server that is gone does not hinder the next one.
        start(config(io, &[&unix])).stop();
        std::fs::remove_file(&path).expect("the socket file is there");
    }
}

#[test]
fn a_large_answer_reaches_a_slow_reader_whole() {
    for io in WIRES {
        let server = start(config(io, &["127.0.0.1:0"]));
        let mut stream = connect(&server.addresses()[0]);
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut total = 0;
        let mut chunk = vec![0; 10_000];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => total += count,
                // The kernel ends what the start's question about io_uring left behind.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{io:?}: the rest does not arrive: {error}"),
            }
        }
        assert!(total > 3_000_000, "{io:?}: {total}");
        server.stop();
    }
}

/// A client of `/ws` whose frames are masked with zeros: their bytes are the message's.
fn connect_websocket(address: &str) -> TcpStream {
    let mut stream = connect(address);
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

#[test]
fn many_large_messages_at_once_are_received_whole() {
    // Several times what the receive buffers of a shard hold.
    const CLIENTS: usize = 60;
    const BYTES: usize = 200_000;
    for io in WIRES {
        let server = start(Config { shards: 1, ..config(io, &["127.0.0.1:0"]) });
        let mut crowd: Vec<_> = (0..CLIENTS).map(|_| connect_websocket(&server.addresses()[0])).collect();
        for round in 0..3 {
            let message = |client: usize| vec![(client * 3 + round) as u8; BYTES];
            let len = (BYTES as u64).to_be_bytes();
            std::thread::scope(|scope| {
                for (client, stream) in crowd.iter_mut().enumerate() {
                    scope.spawn(move || {
                        let head = [&[0x82, 0xff], &len[..], &[0; 4]].concat();
                        stream.write_all(&[head, message(client)].concat()).expect("sent");
                        let mut answer = vec![0; 10 + BYTES];
                        stream.read_exact(&mut answer).expect("the echo arrives whole");
                        let expected = [&[0x82, 0x7f], &len[..], &message(client)].concat();
                        assert!(answer == expected, "{io:?}, client {client}, round {round}");
                    });
                }
            });
        }
        server.stop();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for io in WIRES {
        let server = start(config(io, &["127.0.0.1:0"]));
        let requests = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20) + HELLO;
        let answers = exchange(connect(&server.addresses()[0]), &requests);
        assert_eq!(answers.matches("\r\n\r\nhello").count(), 21, "{io:?}");
        server.stop();
    }
}

#[test]
fn shards_stay_within_a_tenth_of_each_other_also_after_a_mass_reconnect() {
    for io in WIRES {
        let server = start(Config { shards: 4, ..config(io, &["127.0.0.1:0"]) });
        let address = server.addresses()[0].clone();
        for round in 0..2 {
            let crowd: Vec<TcpStream> = (0..1200).map(|_| connect(&address)).collect();
            let spread = await_connections(&server, crowd.len() as u64);
            let (least, most) = (spread.iter().min(), spread.iter().max());
            let (Some(&least), Some(&most)) = (least, most) else { unreachable!("there are shards") };
            assert!(most * 10 <= least * 11, "{io:?}, round {round}: {spread:?}");
            drop(crowd);
            await_connections(&server, 0);
        }
        server.stop();
    }
}

/// Waits until the shards hold so many connections in all; returns how many each holds.
fn await_connections(server: &RunningServer, count: u64) -> Vec<u64> {
    let started = Instant::now();
    loop {
        let spread: Vec<u64> = server.handle().stats().iter().map(|stats| stats.connections).collect();
        if spread.iter().sum::<u64>() == count {
            return spread;
        }
        assert!(started.elapsed() < PATIENCE, "{spread:?}, awaited {count}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn what_a_background_task_says_first_is_said_to_a_running_server() {
    for io in WIRES {
        let (sender, heard) = std::sync::mpsc::channel();
        let server = Server::new(config(io, &["127.0.0.1:0"])).namespace("/", |io| {
            io.state_room("board", StateRoom::max_hz(10.0));
        });
        let server = server.background(move |handle| {
            let is_set = handle.state("/", "board").set("began", &true);
            sender.send((handle.io(), handle.stats().len(), is_set)).expect("the test listens");
            async {}
        });
        let server = server.start().expect("the server starts");
        let (kernel, shards, is_set) = heard.recv_timeout(PATIENCE).expect("the task runs");
        assert!(!kernel.is_empty(), "{io:?}");
        assert_eq!((shards, is_set), (2, Ok(())), "{io:?}");
        server.stop();
    }
}

/// A server that says so many numbers, one after another, a millisecond apart, to whoever connects; the number of reads that brought
/// them to a client that reads at once.
fn reads_of_numbers(io: Io, flush_window: Duration, numbers: usize) -> usize {
    let config = Config { flush_window, shards: 1, ..config(io, &["127.0.0.1:0"]) };
    let server = Server::new(config).namespace("/", move |io| {
        io.on_async("count", move |socket: Socket| async move {
            for number in 0..numbers {
                socket.emit("n", number);
                shardcast::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    let server = server.start().expect("the server starts");
    let mut stream = connect(&server.addresses()[0]);
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // Masked with zeros, which changes nothing.
    let frames = "\u{81}\u{82}\0\0\0\x0040\u{81}\u{8b}\0\0\0\x0042[\"count\"]".chars().map(|byte| byte as u8);
    stream.write_all(&request.bytes().chain(frames).collect::<Vec<u8>>()).expect("sent");
    let (mut text, mut chunk, mut reads, mut next) = (String::new(), [0; 4096], 0, 0);
    while next < numbers {
        let count = match stream.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.expect("all numbers arrive"),
        };
        assert!(count > 0, "{io:?}: closed after {next} numbers");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        let before = next;
        while let Some(at) = text.find(&format!("42[\"n\",{next}]")) {
            text.drain(..=at);
            next += 1;
        }
        reads += usize::from(next > before);
    }
    server.stop();
    reads
}

#[test]
fn what_is_said_within_a_flush_window_leaves_in_one_send() {
    const NUMBERS: usize = 100;
    for io in WIRES {
        // However busy this machine is, a wait for more makes fewer pieces: ten numbers each, where it is quiet.
        let reads = reads_of_numbers(io, Duration::from_millis(10), NUMBERS);
        assert!(reads <= NUMBERS / 2, "{io:?}: {NUMBERS} numbers came in {reads} pieces");
    }
}

#[test]
fn a_port_in_use_is_an_error_that_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let error =
        Server::new(config(Io::Auto, &[&address])).start().expect_err("the port is taken").to_string();
    assert!(error.contains(&address) && error.contains("another program listens there"), "{error}");
}

/// The program with a hard limit of descriptors.
struct Limited(Child);

impl Limited {
    fn start(port: u16, io: &str, descriptors: u32) -> Limited {
        let command = format!(
            "ulimit -n {descriptors}; exec {} --bind 127.0.0.1:{port} --shards 1 --io {io}",
            env!("CARGO_BIN_EXE_shardcast")
        );
        let child = Command::new("bash").arg("-c").arg(command).stderr(Stdio::null()).spawn();
        let server = Limited(child.expect("bash runs"));
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "the server listens");
            std::thread::yield_now();
        }
        server
    }

    /// CPU time used so far, in clock ticks.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("the process lives");
        let fields = stat.rsplit(") ").next().expect("a stat line").split(' ');
        fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the server ends");
    }
}

#[test]
fn out_of_descriptors_accepting_rests_and_resumes_and_the_established_notice_nothing() {
    for io in ["uring", "monoio", "epoll"] {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let server = Limited::start(port, io, 64);
        let address = format!("127.0.0.1:{port}");
        let request = "GET /style.css HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut established = connect(&address);
        let mut answer = [0; 4096];
        established.write_all(request.as_bytes()).expect("sent");
        assert!(established.read(&mut answer).expect("answered") > 0);
        let crowd: Vec<TcpStream> = (0..120).map(|_| connect(&address)).collect();
        // The crowd has used every descriptor: over a second the server neither spins nor forgets its clients.
        let before = server.ticks();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let spent = server.ticks() - before;
        assert!(spent < 30, "{io}: {spent} ticks of CPU in a second of pause");
        while established.read(&mut answer).expect("the rest of the answer") == answer.len() {}
        established.write_all(request.as_bytes()).expect("sent");
        assert!(established.read(&mut answer).expect("answered while accepting rests") > 0, "{io}");
        drop(crowd);
        let text =
            exchange(connect(&address), "GET /style.css HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200"), "{io}: accepting resumed, and answered {text:?}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    type Row = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let rows: [Row; 5] = [
        (&["--shard", "2"], &[], "--shards"),
        (&["--io", "kqueue"], &[], "auto, uring, epoll"),
        (&["--bind", "nowhere"], &[], "ADDR:PORT"),
        (&[], &[("SHARDCAST_PING_INTERVALL", "1")], "SHARDCAST_PING_INTERVAL?"),
        (&["--log", "=loud="], &[], "log ="),
    ];
    for (arguments, variables, expected) in rows {
        let output = Command::new(env!("CARGO_BIN_EXE_shardcast"))
            .args(arguments)
            .envs(variables.iter().copied())
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn shards_are_asked_from_threads_and_from_tokio() {
    for io in WIRES {
        let server = start(config(io, &["127.0.0.1:0"]));
        let handle = server.handle();
        assert_eq!(handle.sockets("/").count().wait(), Ok(0_u64.into()), "{io:?}");
        assert!(handle.to("/", "room").emit_with_ack("question", 1).wait().expect("asked").is_complete());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
        let asking = handle.clone();
        let asked = runtime.block_on(async {
            let task = tokio::spawn(async move {
                let rooms = asking.rooms("/").await?;
                let call = asking.to("/", "nobody").call("question", 1).timeout(PATIENCE).await;
                assert_eq!(call.expect_err("nobody is there"), AckError::Disconnected);
                Ok::<_, AckError>(rooms.len() + asking.sockets("/").fetch().await?.len())
            });
            tokio::time::timeout(PATIENCE, task).await.expect("in time").expect("it does not panic")
        });
        assert_eq!(asked, Ok(0), "{io:?}");
        server.stop();
        assert_eq!(handle.sockets("/").count().wait(), Err(AckError::Stopped), "{io:?}");
    }
}

#[test]
fn a_setup_that_fails_on_one_shard_fails_the_start_before_anything_listens() {
    for io in WIRES {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.expect("a port is free").to_string();
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let is_refused = address.clone();
        let server = Server::new(config(io, &[&address])).namespace("/", move |_| {
            assert!(TcpStream::connect(&is_refused).is_err(), "nothing listens yet");
            let call = seen.fetch_add(1, Ordering::SeqCst);
            assert!(call == 0, "the second call fails");
        });
        let fault = server.start().expect_err("one shard cannot serve").to_string();
        assert!(fault.contains("a setup panicked: the second call fails"), "{io:?}: {fault}");
        assert_eq!(calls.load(Ordering::SeqCst), 2, "{io:?}: once for each shard");
        assert!(TcpStream::connect(&address).is_err(), "{io:?}: nothing listens");
    }
}
