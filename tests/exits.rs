//! How the process of a user's program ends: with sockets that are busy, and after shards have died; and what its service manager hears
//! while a shard is stuck. On each wire.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

mod process;

use std::fmt::Debug;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use process::{PATIENCE, Process, SERVE};
use shardcast::{Config, Context, Result, Server, Socket};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Values of `SHARDCAST_IO`.
const WIRES: [&str; 3] = ["auto", "monoio", "epoll"];

/// Set for a program whose subscriber panics at what is said of this path: user code that shards call where nothing catches it.
const DEADLY: &str = "TEST_DEADLY";
const DEADLY_PATH: &str = "/deadly";

/// Names a file; the path `/stuck` keeps its shard until that is there.
const RELEASE: &str = "TEST_RELEASE";

/// What the program's handlers write, a line each.
const STUCK_BEGAN: &str = "a shard is stuck";
const BEGAN: &str = "a handler began";
const LEFT: &str = "a client has left";

fn start(name: &str, io: &str, settings: &[(&str, &str)]) -> (Process, BufReader<ChildStderr>) {
    let settings: Vec<_> =
        settings.iter().copied().chain([("SHARDCAST_IO", io), ("RUST_BACKTRACE", "0")]).collect();
    let mut process = Process::of_a_user("served", &format!("{name}-{io}"), &settings, Stdio::piped());
    let error = BufReader::new(process.child.stderr.take().expect("a pipe"));
    (process, error)
}

/// A text frame of a client, short and with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    assert!(text.len() < 126, "short frames only");
    let mut bytes = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A client by WebSocket that sends this.
fn websocket(process: &Process, packets: &[&str]) -> UnixStream {
    let mut stream = process.connect();
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let frames = packets.iter().flat_map(|packet| frame(packet));
    stream.write_all(&request.bytes().chain(frames).collect::<Vec<u8>>()).expect("sent");
    stream
}

#[test]
fn a_signal_ends_a_process_whose_handlers_are_busy_and_they_hear_of_it() {
    const BY_WEBSOCKET: usize = 10;
    const BY_POLLING: usize = 5;
    const CLIENTS: usize = BY_WEBSOCKET + BY_POLLING;
    for io in WIRES {
        let (mut process, mut error) = start("busy", io, &[]);
        // Each has a handler that runs for an hour, and an event that waits behind it.
        let packets = ["40", "42[\"work\"]", "42[\"work\"]"];
        let _clients: Vec<UnixStream> = (0..BY_WEBSOCKET).map(|_| websocket(&process, &packets)).collect();
        for _ in 0..BY_POLLING {
            let path = process.open();
            assert!(process.post(&path, &packets.join("\u{1e}")).ends_with("ok"), "{io}");
        }
        let (mut log, mut began) = (String::new(), 0);
        while began < CLIENTS {
            let from = log.len();
            assert_ne!(error.read_line(&mut log).expect("the log is text"), 0, "{io}: it has ended: {log}");
            began += usize::from(log[from..].contains(BEGAN));
        }
        process.signal();
        let status = process.wait();
        error.read_to_string(&mut log).expect("the log is text");
        assert!(status.success(), "{io}: {status}: {log}");
        assert_eq!(log.matches(LEFT).count(), CLIENTS, "{io}: every disconnect handler runs: {log}");
        assert_eq!(log.matches(BEGAN).count(), CLIENTS, "{io}: what waited is dropped: {log}");
    }
}

#[test]
fn a_process_whose_shards_have_all_died_ends_with_an_error() {
    for io in WIRES {
        let (mut process, mut error) = start("all", io, &[(DEADLY, "yes")]);
        let started = Instant::now();
        let status = loop {
            // Whichever shard takes it dies of it. Between the death of the last and the end of the process nobody takes it.
            if let Ok(mut stream) = UnixStream::connect(&process.socket)
                && stream.write_all(deadly_request().as_bytes()).is_ok()
            {
                stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
                let _ = stream.read(&mut [0; 1024]);
            }
            if let Some(status) = process.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "{io}: it does not end");
        };
        let mut said = String::new();
        error.read_to_string(&mut said).expect("text");
        assert_eq!(status.code(), Some(1), "{io}: {said}");
        assert!(said.contains("2 of 2 shards died"), "{io}: {said}");
    }
}

#[test]
fn a_process_that_has_lost_a_shard_serves_on_and_does_not_end_well() {
    const CROWD: usize = 20;
    for io in WIRES {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let bind = format!("unix:{},127.0.0.1:{port}", Process::socket_of(&format!("one-{io}")).display());
        let (mut process, mut error) = start("one", io, &[(DEADLY, "yes"), ("SHARDCAST_BIND", &bind)]);
        let dial = || {
            let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            stream
        };
        // Connections without a request, on both shards.
        let crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial()).collect();
        let mut stream = process.connect();
        stream.write_all(deadly_request().as_bytes()).expect("sent");
        expect_end(&mut stream, io);
        // What the dead shard listened on is closed, and what it served hears so; the other shard serves both.
        for _ in 0..CROWD {
            await_answer(|| process.connect(), io);
            await_answer(dial, io);
        }
        let has_ended = |stream: &&TcpStream| {
            stream.set_nonblocking(true).expect("it can be set");
            !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        };
        let started = Instant::now();
        let lost = loop {
            match crowd.iter().filter(has_ended).count() {
                0 => std::thread::sleep(Duration::from_millis(10)),
                lost => break lost,
            }
            assert!(started.elapsed() < PATIENCE, "{io}: no connection ends with its shard");
        };
        assert!(lost < CROWD, "{io}: those of the other shard are kept");
        process.signal();
        let status = process.wait();
        let mut said = String::new();
        error.read_to_string(&mut said).expect("text");
        assert_eq!(status.code(), Some(1), "{io}: {said}");
        assert!(said.contains("1 of 2 shards died"), "{io}: {said}");
    }
}

#[test]
fn the_log_says_at_the_end_what_has_become_of_sessions_and_connections() {
    const BY_WEBSOCKET: usize = 3;
    const BY_POLLING: usize = 2;
    let settings = [("SHARDCAST_SHUTDOWN_SPREAD", "1s"), ("SHARDCAST_SHUTDOWN_TIMEOUT", "300ms")];
    for io in WIRES {
        for cut in 0..2 {
            let (mut process, mut error) = start(&format!("report-{cut}"), io, &settings);
            let mut clients: Vec<UnixStream> =
                (0..BY_WEBSOCKET).map(|_| websocket(&process, &["40"])).collect();
            for client in &mut clients {
                client.read_exact(&mut [0; 12]).expect("it is answered, so there is a session");
            }
            for _ in 0..BY_POLLING {
                process.open();
            }
            // Each is owed more than the kernel keeps for it, and reads no more than the beginning.
            let slow: Vec<UnixStream> = (0..cut).map(|_| slow_reader(&process)).collect();
            // As clients do that are told to close: they close.
            let leaving: Vec<_> = clients
                .into_iter()
                .map(|mut client| std::thread::spawn(move || await_close(&mut client)))
                .collect();
            process.signal();
            let status = process.wait();
            leaving.into_iter().for_each(|client| client.join().expect("each is told to close"));
            drop(slow);
            let mut log = String::new();
            error.read_to_string(&mut log).expect("the log is text");
            assert!(status.success(), "{io}: {status}: {log}");
            let ended = BY_WEBSOCKET + BY_POLLING;
            let words = format!("the server's sessions have ended ended={ended} cut={cut} seconds=");
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&words)).collect();
            assert_eq!(lines.len(), 1, "{io}: one line with {words:?}: {log}");
            let seconds = lines[0].split("seconds=").nth(1).and_then(|text| text.trim().parse::<f64>().ok());
            assert!(seconds.is_some_and(|seconds| seconds > 0.0), "{io}: {}", lines[0]);
        }
    }
}

/// Reads until a close frame has come.
fn await_close(client: &mut UnixStream) {
    let mut heard = Vec::new();
    // The code of a server that goes away (RFC 6455 §7.4.1).
    while !heard.windows(2).any(|code| code == 1001_u16.to_be_bytes()) {
        let mut bytes = [0; 1024];
        let len = client.read(&mut bytes).expect("it is told to close");
        assert!(len > 0, "it ended without a word: {heard:?}");
        heard.extend_from_slice(&bytes[..len]);
    }
}

#[test]
fn the_watchdog_is_not_fed_while_a_shard_is_stuck() {
    for io in WIRES {
        let path = Process::socket_of(&format!("manager-{io}"));
        let manager = UnixDatagram::bind(&path).expect("a socket");
        manager.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let hear = || {
            let mut words = [0; 256];
            manager.recv(&mut words).map(|len| String::from_utf8_lossy(&words[..len]).into_owned())
        };
        let place = path.to_string_lossy().into_owned();
        // It is fed each 100 ms.
        let release = std::env::temp_dir().join(format!("shardcast-release-{}-{io}", std::process::id()));
        let held = release.to_string_lossy().into_owned();
        let settings =
            [("NOTIFY_SOCKET", place.as_str()), ("WATCHDOG_USEC", "200000"), (RELEASE, held.as_str())];
        let (mut process, mut error) = start("watchdog", io, &settings);
        let await_fed = || while hear().expect("somebody feeds it") != "WATCHDOG=1" {};
        await_fed();
        let mut client = process.connect();
        client.write_all(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let mut log = String::new();
        while !log.contains(STUCK_BEGAN) {
            assert_ne!(error.read_line(&mut log).expect("the log is text"), 0, "{io}: it has ended: {log}");
        }
        manager.set_nonblocking(true).expect("it can be set");
        while hear().is_ok() {}
        std::thread::sleep(Duration::from_secs(1));
        let fed = std::iter::from_fn(|| hear().ok()).count();
        // The shard may just have answered before it was stuck.
        assert!(fed <= 1, "{io}: fed {fed} times while a shard was stuck");
        manager.set_nonblocking(false).expect("it can be set");
        std::fs::write(&release, "").expect("a file can be written");
        await_fed();
        process.signal();
        assert!(process.wait().success(), "{io}");
        let _ = (std::fs::remove_file(path), std::fs::remove_file(release));
    }
}

fn slow_reader(process: &Process) -> UnixStream {
    let mut stream = process.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 12]).expect("the answer begins");
    stream
}

/// Asks on a new connection, and once more if a dead shard has taken it while it was just being closed.
fn await_answer<S: Read + Write>(dial: impl Fn() -> S, io: &str) {
    let started = Instant::now();
    loop {
        let (mut stream, mut answer) = (dial(), String::new());
        let sent = stream.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        match sent.and_then(|()| stream.read_to_string(&mut answer)) {
            Ok(_) if answer.ends_with("hello") => return,
            Ok(0) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
            other => panic!("{io}: a connection is not answered: {other:?}, {answer:?}"),
        }
        assert!(started.elapsed() < PATIENCE, "{io}: connections are reset");
    }
}

/// Reads to the end, or until the connection is reset.
fn expect_end(stream: &mut UnixStream, io: &str) {
    match stream.read(&mut [0; 1024]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{io}: the connection of a dead shard does not end: {other:?}"),
    }
}

fn deadly_request() -> String {
    format!("GET {DEADLY_PATH} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A subscriber with a fault.
struct Deadly;

impl Subscriber for Deadly {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut PanicAtPath);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct PanicAtPath;

impl Visit for PanicAtPath {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let is_deadly = field.name() == "path" && format!("{value:?}").contains(DEADLY_PATH);
        assert!(!is_deadly, "a subscriber that panics");
    }
}

/// Writes a line as the log does, so that the test reads both in order.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("somebody reads");
}

fn serve() -> Result<()> {
    Server::new(Config::load()?)
        .namespace("/", |io| {
            io.on_async("work", |_: Socket| async {
                say(BEGAN);
                shardcast::sleep(Duration::from_secs(3600)).await;
            });
            io.on_disconnect(|_: &mut Context<'_>, _| say(LEFT));
        })
        .route("/stuck", |_| {
            say(STUCK_BEGAN);
            let release = std::env::var_os(RELEASE).expect("a path");
            while !std::path::Path::new(&release).exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
            shardcast::http::Response::text("done")
        })
        .route("/hello", |_| shardcast::http::Response::text("hello"))
        .route("/large", |_| shardcast::http::Response::text("x".repeat(8 << 20)))
        .run()
}

/// Not a test by itself: the program of a user, whose `main` gives back what `run` does.
#[test]
fn served() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    if std::env::var_os(DEADLY).is_some() {
        tracing::subscriber::set_global_default(Deadly).expect("there is none yet");
    }
    if let Err(error) = serve() {
        say(&format!("Error: {error}"));
        std::process::exit(1);
    }
}
