//! A server that takes over from another process: by SIGUSR2, and from a service manager; real processes, real sockets.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

#[path = "process/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use program::{Folder, Over, PATIENCE, Program, await_that, free_port};
use rustix::process::{Pid, Signal, kill_process};

/// Clients that connect around a hand-over.
const CLIENTS: usize = 1_000;

const HANDSHAKE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A connection to `unix:PATH` or to a port of this machine.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

fn dial(place: &str) -> std::io::Result<Box<dyn Stream>> {
    if let Some(path) = place.strip_prefix("unix:") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect(place)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}

/// Opens a WebSocket session; what came instead if that fails.
fn open(stream: &mut impl Stream) -> Result<(), String> {
    stream.write_all(HANDSHAKE.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).map_err(|error| format!("read: {error}"))?;
    let is_open = head == *b"HTTP/1.1 101";
    if is_open { Ok(()) } else { Err(String::from_utf8_lossy(&head).into_owned()) }
}

/// The same at a port.
fn connect(port: u16) -> Result<TcpStream, String> {
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    open(&mut stream)?;
    Ok(stream)
}

/// What a probe is told, in a word.
fn probe(stream: &mut impl Stream) -> Result<String, String> {
    let fault = |error: std::io::Error| format!("probe: {error}");
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).map_err(fault)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(fault)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    Ok(format!("{status} {}", answer.lines().last().unwrap_or_default()))
}

fn kill(process: Pid, signal: Signal) {
    kill_process(process, signal).expect("it runs");
}

#[test]
fn no_client_that_connects_during_a_hand_over_fails() {
    for io in ["auto", "epoll"] {
        let (folder, port) = (Folder::new(&format!("handover-{io}")), free_port());
        let mut command = folder.command(env!("CARGO_BIN_EXE_shardcast"));
        command.args(["--bind", &format!("127.0.0.1:{port}"), "--shards", "2", "--io", io]);
        let mut old = Program::start(command);
        await_that("it serves", || connect(port).is_ok());
        let (count, is_stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (count, is_stopped) = (Arc::clone(&count), Arc::clone(&is_stopped));
                std::thread::spawn(move || {
                    let mut faults = Vec::new();
                    while !is_stopped.load(Ordering::Relaxed) {
                        count.fetch_add(1, Ordering::Relaxed);
                        faults.extend(connect(port).err());
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    faults
                })
            })
            .collect();
        await_that("some have connected", || count.load(Ordering::Relaxed) >= CLIENTS / 4);
        old.signal(Signal::USR2);
        let code = old.await_end();
        let at_end = count.load(Ordering::Relaxed);
        await_that("more have connected", || count.load(Ordering::Relaxed) >= CLIENTS.max(at_end + 100));
        is_stopped.store(true, Ordering::Relaxed);
        let faults: Vec<String> =
            clients.into_iter().flat_map(|client| client.join().expect("no client panics")).collect();
        let log = folder.log();
        let new = folder.successor(0).expect("the log names the new process");
        assert_eq!(faults, Vec::<String>::new(), "of {} clients, {io}\n{log}", count.load(Ordering::Relaxed));
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("ERROR"), "{log}");
        // The new process hands over as well.
        kill(new, Signal::USR2);
        await_that("a third process serves", || folder.successor(1).is_some());
        let third = folder.successor(1).expect("it was just there");
        await_that("the second has ended", || folder.log().matches("stopped").count() >= 2);
        assert!(connect(port).is_ok());
        kill(third, Signal::TERM);
        await_that("nobody listens", || connect(port).is_err());
        await_that("the third has ended", || {
            folder.log().lines().last().is_some_and(|line| line.ends_with("stopped"))
        });
    }
}

type Heard = BTreeMap<Result<String, String>, usize>;

/// Visits again and again, counts that, and says what was heard how often.
fn hear(visit: impl Fn() -> Result<String, String>, count: &AtomicUsize, over: &Over) -> Heard {
    let mut heard = Heard::new();
    while !over.is_over() {
        *heard.entry(visit()).or_default() += 1;
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    }
    heard
}

#[test]
fn the_operators_listener_and_unix_sockets_are_handed_over_as_well() {
    for (io, is_admin_unix) in [("auto", false), ("auto", true), ("epoll", false), ("epoll", true)] {
        let folder = Folder::new(&format!("handover-doors-{io}-{is_admin_unix}"));
        let (public, unix) =
            (format!("127.0.0.1:{}", free_port()), format!("unix:{}", folder.path("public")));
        let admin_socket = folder.path("admin");
        let admin =
            if is_admin_unix { format!("unix:{admin_socket}") } else { format!("127.0.0.1:{}", free_port()) };
        let mut command = folder.command(env!("CARGO_BIN_EXE_shardcast"));
        command.args([
            "--shards",
            "2",
            "--io",
            io,
            "--bind",
            &public,
            "--bind",
            &unix,
            "--admin-bind",
            &admin,
        ]);
        let mut old = Program::start(command);
        let visit = |place: &str| match place == admin {
            true => dial(place).map_err(|error| error.to_string()).and_then(|mut stream| probe(&mut stream)),
            false => dial(place)
                .map_err(|error| error.to_string())
                .and_then(|mut stream| open(&mut stream))
                .map(|()| "open".to_owned()),
        };
        let places = [&public, &unix, &admin];
        await_that("it serves", || visit(&admin).is_ok_and(|word| word == "200 ready"));
        let over = Over::default();
        let counts = places.map(|_| AtomicUsize::new(0));
        let all_beyond = |from: [usize; 3], count: usize| {
            counts.iter().zip(from).all(|(of_one, from)| of_one.load(Ordering::SeqCst) >= from + count)
        };
        let heard: Vec<Heard> = std::thread::scope(|scope| {
            let until_here = over.when_dropped();
            let visitors: Vec<_> = (places.iter().zip(&counts))
                .map(|(place, count)| scope.spawn(|| hear(|| visit(place), count, &over)))
                .collect();
            await_that("some have come by each", || all_beyond([0; 3], 50));
            old.signal(Signal::USR2);
            let code = old.await_end();
            let at_end = [0, 1, 2].map(|place: usize| counts[place].load(Ordering::SeqCst));
            await_that("more have come by each", || all_beyond(at_end, 50));
            drop(until_here);
            assert_eq!(code, Some(0), "{}", folder.log());
            visitors.into_iter().map(|visitor| visitor.join().expect("no visitor panics")).collect()
        });
        let log = folder.log();
        let [by_tcp, by_unix, of_operators] = &heard[..] else { panic!("three doors") };
        for of_clients in [by_tcp, by_unix] {
            assert!(of_clients.keys().eq([&Ok("open".to_owned())]), "{io}: {of_clients:?}\n{log}");
        }
        // The old process may have taken a probe up before it gave its listeners away; then it says that it ends.
        let words = [Ok("200 ready".to_owned()), Ok("503 draining".to_owned())];
        assert!(of_operators.keys().all(|word| words.contains(word)), "{io}: {of_operators:?}\n{log}");
        assert_eq!(visit(&admin), Ok("200 ready".to_owned()), "{io}: the new process says so\n{log}");
        assert!(!log.contains("ERROR"), "{log}");
        if is_admin_unix {
            let mode = fs::metadata(&admin_socket).expect("the file is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o660, "{io}: it is for the owner and the group, as before");
        }
        let new = folder.successor(0).expect("the log names it");
        kill(new, Signal::TERM);
        await_that("nobody listens", || places.iter().all(|place| dial(place).is_err()));
        await_that("it has ended", || folder.log().matches("stopped").count() == 2);
    }
}

#[test]
fn the_file_that_has_taken_the_place_of_the_program_is_started() {
    let (folder, port) = (Folder::new("handover-file"), free_port());
    let program = folder.path("shardcast");
    // As docs/deploy.md has it; `install` makes a new file each time, and the old process keeps the old one.
    let install = || {
        let installed = Command::new("install").args([env!("CARGO_BIN_EXE_shardcast"), &program]).status();
        assert!(installed.is_ok_and(|status| status.success()), "coreutils have `install`");
        fs::metadata(&program).expect("it is there").ino()
    };
    let first = install();
    let mut command = folder.command(&program);
    command.args(["--bind", &format!("127.0.0.1:{port}"), "--shards", "2"]);
    let mut old = Program::start(command);
    await_that("it serves", || connect(port).is_ok());
    let second = install();
    assert_ne!(first, second);
    let file_of =
        |process: Pid| fs::metadata(format!("/proc/{}/exe", process.as_raw_nonzero())).map(|file| file.ino());
    assert_eq!(file_of(old.id()).ok(), Some(first));
    old.signal(Signal::USR2);
    assert_eq!(old.await_end(), Some(0), "{}", folder.log());
    let new = folder.successor(0).expect("the log names it");
    assert_eq!(file_of(new).ok(), Some(second), "{}", folder.log());
    assert!(connect(port).is_ok());
    kill(new, Signal::TERM);
    await_that("it has ended", || folder.log().matches("stopped").count() == 2);
}

#[test]
fn a_new_process_that_cannot_start_changes_nothing() {
    let (folder, port) = (Folder::new("handover-fails"), free_port());
    let file = folder.0.join("shardcast.toml");
    fs::write(&file, "shards = 2\n").expect("it can be written");
    let mut command = folder.command(env!("CARGO_BIN_EXE_shardcast"));
    command.args(["--bind", &format!("127.0.0.1:{port}"), "--config"]).arg(&file);
    let mut old = Program::start(command);
    await_that("it serves", || connect(port).is_ok());
    let kept = connect(port).expect("it serves");
    fs::write(&file, "shard = 2\n").expect("it can be written");
    old.signal(Signal::USR2);
    await_that("the log says so", || folder.log().contains("this process goes on"));
    let log = folder.log();
    assert!(log.contains("unknown key shard"), "{log}");
    assert!(log.contains("ERROR") && log.contains("the new process ended before it served"), "{log}");
    assert!(connect(port).is_ok());
    kept.set_nonblocking(true).expect("it can be");
    old.signal(Signal::TERM);
    assert_eq!(old.await_end(), Some(0));
}

#[test]
fn a_service_manager_hears_how_the_server_fares() {
    let (folder, port) = (Folder::new("notify"), free_port());
    let path = folder.0.join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let hear = |wanted: &str| {
        let mut words = [0; 256];
        loop {
            let len =
                manager.recv(&mut words).unwrap_or_else(|error| panic!("{wanted} has not come: {error}"));
            let heard = String::from_utf8_lossy(&words[..len]).into_owned();
            if heard.starts_with(wanted) {
                return heard;
            }
        }
    };
    let mut command = folder.command(env!("CARGO_BIN_EXE_shardcast"));
    command.args(["--bind", &format!("127.0.0.1:{port}"), "--shards", "2"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let mut old = Program::start(command);
    hear("READY=1");
    assert!(connect(port).is_ok(), "it serves as soon as it says so");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    old.signal(Signal::USR2);
    let said = hear("MAINPID=");
    let number = said["MAINPID=".len()..].parse().expect("a number");
    let new = Pid::from_raw(number).expect("a process");
    assert_eq!(old.await_end(), Some(0));
    hear("WATCHDOG=1");
    kill(new, Signal::TERM);
    hear("STOPPING=1");
    await_that("it ends", || connect(port).is_err());
}

#[test]
fn systemd_opens_the_listener() {
    let tool = "systemd-socket-activate";
    assert!(
        Command::new(tool).arg("--version").output().is_ok(),
        "{tool} is missing: scripts/install-test-deps.sh installs Debian's systemd"
    );
    let (folder, port) = (Folder::new("activate"), free_port());
    let mut command = folder.command(tool);
    command.args([
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--setenv",
        "NO_COLOR=1",
        env!("CARGO_BIN_EXE_shardcast"),
    ]);
    command.args(["--shards", "2"]);
    let mut server = Program::start(command);
    await_that("it serves", || connect(port).is_ok());
    for _ in 0..50 {
        connect(port).expect("both shards serve the one listener");
    }
    let log = folder.log();
    assert!(log.contains("another process has opened the listeners"), "{log}");
    assert!(log.contains(&format!("serving http://127.0.0.1:{port}")), "{log}");
    server.signal(Signal::TERM);
    assert_eq!(server.await_end(), Some(0), "{}", folder.log());
}
