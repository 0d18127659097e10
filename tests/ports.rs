//! Addresses that are taken, shared or of both families, as the kernel gives them to real processes.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shardcast::http::Response;
use shardcast::{Config, Io, RunningServer, Server};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn start(config: Config) -> shardcast::Result<RunningServer> {
    Server::new(config)
        .route("/hello", |request| {
            Response::text(request.address().map(|address| address.to_string()).unwrap_or_default())
        })
        .start()
}

fn config(io: Io, bind: &[&str]) -> Config {
    Config { io, shards: 2, bind: bind.iter().map(|&text| text.to_owned()).collect(), ..Config::default() }
}

fn exchange(mut stream: impl Read + Write) -> String {
    stream.write_all(HELLO.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer arrives and ends");
    answer
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("there is a port");
    listener.local_addr().expect("it is bound").port()
}

/// The demo as a process of its own. It is gone with the value.
struct Process(Child);

impl Process {
    fn start(bind: &str, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        command.args(["--bind", bind, "--shards", "2"]).envs(settings.iter().copied());
        Process(command.stderr(Stdio::piped()).spawn().expect("the program starts"))
    }

    /// Its exit code, and what it has said, once it has ended.
    fn ended(&mut self) -> Option<(Option<i32>, String)> {
        let status = self.0.try_wait().expect("it can be waited for")?;
        let mut said = String::new();
        if let Some(error) = &mut self.0.stderr {
            error.read_to_string(&mut said).expect("the log is text");
        }
        Some((status.code(), said))
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("it runs");
        let started = Instant::now();
        while self.ended().is_none() {
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Of servers that start at the same moment one serves, and each of the others says why it does not.
fn one_is_left(binds: &[String], connects: impl Fn() -> bool) {
    let mut processes: Vec<Process> = binds.iter().map(|bind| Process::start(bind, &[])).collect();
    await_that("all but one end", || {
        let mut index = 0;
        processes.retain_mut(|process| {
            index += 1;
            match process.ended() {
                None => true,
                Some((code, said)) => {
                    assert_eq!(code, Some(1), "{said}");
                    assert!(said.contains("another program listens there"), "{said}");
                    false
                }
            }
        });
        assert!(!processes.is_empty(), "nobody serves {binds:?}");
        processes.len() == 1
    });
    await_that("the one that is left serves", connects);
    for process in &mut processes {
        assert_eq!(process.ended(), None);
    }
    processes.into_iter().for_each(Process::stop);
}

#[test]
fn servers_that_start_at_once_on_one_port_leave_one() {
    for _ in 0..5 {
        let port = free_port();
        let mut binds =
            vec![format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}")];
        if has_ipv6() {
            binds.extend([format!("[::]:{port}"), format!("[::]:{port}")]);
        }
        one_is_left(&binds, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}

#[test]
fn servers_that_start_at_once_on_one_unix_socket_leave_one() {
    let path = std::env::temp_dir().join(format!("shardcast-ports-{}.sock", std::process::id()));
    for _ in 0..5 {
        // One that a server before them left behind.
        drop(std::fs::remove_file(&path));
        drop(UnixListener::bind(&path).expect("the path is free"));
        let binds = vec![format!("unix:{}", path.display()); 5];
        one_is_left(&binds, || UnixStream::connect(&path).is_ok());
    }
    std::fs::remove_file(&path).expect("the socket file is there");
}

#[test]
fn a_taken_address_is_an_error_whoever_has_it() {
    let mut rows = vec![("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")];
    if has_ipv6() {
        rows.extend([("127.0.0.1", "[::]"), ("[::]", "127.0.0.1"), ("[::]", "0.0.0.0"), ("[::1]", "[::]")]);
    }
    for (first, second) in rows {
        let port = free_port();
        // The same process is the same user, and shares ports with itself as far as the kernel is concerned.
        let server = start(config(Io::Auto, &[&format!("{first}:{port}")])).expect("the port is free");
        let fault =
            start(config(Io::Auto, &[&format!("{second}:{port}")])).map(drop).expect_err("it is taken");
        assert!(fault.to_string().contains("another program listens there"), "{first}, {second}: {fault}");
        server.stop();
        // What its connections leave behind is in nobody's way.
        start(config(Io::Auto, &[&format!("{second}:{port}")])).expect("the port is free again").stop();
    }
    let twice =
        start(config(Io::Auto, &["127.0.0.1:5999", "0.0.0.0:5999"])).map(drop).expect_err("one address");
    assert!(twice.to_string().contains("leave one of them out"), "{twice}");
}

#[test]
fn listeners_that_a_program_has_open_are_served_and_left_to_it() {
    for io in WIRES {
        let path = std::env::temp_dir().join(format!("shardcast-given-{}.sock", std::process::id()));
        drop(std::fs::remove_file(&path));
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let unix = UnixListener::bind(&path).expect("the path is free");
        let address = tcp.local_addr().expect("it is bound");
        // What the configuration binds is not bound: that port is taken.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let bind = taken.local_addr().expect("it is bound").to_string();
        let start = |listeners: Vec<std::os::fd::OwnedFd>| {
            let config = Config { admin_bind: "127.0.0.1:0".into(), ..config(io, &[&bind]) };
            Server::new(config).route("/hello", |_| "given").listen_on(listeners).start()
        };
        let kept = tcp.try_clone().expect("a descriptor is free");
        let server = start(vec![tcp.into(), unix.into()]).expect("they listen");
        assert_eq!(server.addresses(), [format!("http://{address}"), format!("unix:{}", path.display())]);
        for _ in 0..10 {
            assert!(exchange(TcpStream::connect(address).expect("it accepts")).ends_with("given"), "{io:?}");
        }
        assert!(exchange(UnixStream::connect(&path).expect("it accepts")).ends_with("given"), "{io:?}");
        let operators = server.admin_address().expect("operators are served as the configuration says");
        let operators = operators.trim_start_matches("http://");
        TcpStream::connect(operators).expect("it accepts");
        // As with a process manager that forks, a second server serves the same queue.
        let second = start(vec![kept.try_clone().expect("a descriptor is free").into()]).expect("it listens");
        server.stop();
        for _ in 0..10 {
            assert!(exchange(TcpStream::connect(address).expect("it accepts")).ends_with("given"), "{io:?}");
        }
        second.stop();
        // Its own descriptor is as good as before: the next connection waits in its queue.
        let client = TcpStream::connect(address).expect("it listens");
        await_that("it is accepted", || kept.accept().is_ok());
        drop(client);
        std::fs::remove_file(&path).expect("the socket file is there");
    }
    let deaf = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
    let fault = Server::new(config(Io::Auto, &["127.0.0.1:0"]))
        .listen_on([deaf])
        .start()
        .map(drop)
        .expect_err("it is deaf");
    assert!(fault.to_string().contains("listen_on: socket 0 does not listen"), "{fault}");
}

#[test]
fn shards_stay_on_their_cores_unless_asked_not_to() {
    let allowed = |process: &Process| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).expect("it runs");
        let read = |task: std::io::Result<std::fs::DirEntry>, file: &str| {
            std::fs::read_to_string(task.expect("it is there").path().join(file)).unwrap_or_default()
        };
        let tasks = tasks.filter(|task| {
            let path = task.as_ref().map(std::fs::DirEntry::path).unwrap_or_default();
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("shard-"))
        });
        let status = tasks.map(|task| read(task, "status"));
        let cpus = |status: String| -> Option<String> {
            Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned())
        };
        status.filter_map(cpus).collect()
    };
    let own = std::fs::read_to_string("/proc/self/status").expect("this process runs");
    let own =
        own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("Linux says so").trim();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for pins in [true, false] {
        let port = free_port();
        let pinned = if pins { "true" } else { "false" };
        let process = Process::start(&format!("127.0.0.1:{port}"), &[("SHARDCAST_PIN_SHARDS", pinned)]);
        await_that("it serves", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let found = allowed(&process);
        assert_eq!(found.len(), 2, "{found:?}");
        // Two shards on one core are never pinned.
        let is_free = found.iter().all(|cpus| cpus == own);
        assert_eq!(is_free, !pins || cores < 2, "{found:?} of {own}");
        process.stop();
    }
}

#[test]
fn a_server_starts_where_connections_of_the_last_one_linger() {
    let port = free_port();
    let bind = format!("127.0.0.1:{port}");
    for _ in 0..3 {
        let server = start(config(Io::Auto, &[&bind])).expect("nobody listens");
        // The server closes first, so that TIME_WAIT is on its side.
        for _ in 0..20 {
            assert!(exchange(TcpStream::connect(&bind).expect("it accepts")).starts_with("HTTP/1.1 200"));
        }
        server.stop();
    }
}

#[test]
fn a_hand_over_is_a_switch() {
    let port = free_port();
    let path = std::env::temp_dir().join(format!("shardcast-over-{}.sock", std::process::id()));
    let bind = [format!("127.0.0.1:{port}"), format!("unix:{}", path.display())];
    let bind = bind.each_ref().map(String::as_str);
    let old = start(config(Io::Auto, &bind)).expect("the addresses are free");
    let shared = Config { bind_shared: true, ..config(Io::Auto, &bind) };
    let new = start(shared).expect("both serve");
    let connections = |server: &RunningServer| -> u64 {
        server.handle().stats().iter().map(|stats| stats.connections).sum()
    };
    let held: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(bind[0]).expect("one of them accepts")).collect();
    await_that("all are accepted", || connections(&old) + connections(&new) == 200);
    assert!(connections(&old) > 0 && connections(&new) > 0, "one of them has all");
    let of_old = connections(&old);
    let unix = UnixStream::connect(&path).expect("the path leads to the new one");
    await_that("it is accepted", || connections(&old) + connections(&new) == 201);
    assert_eq!(connections(&old), of_old, "the path led to the old one");
    drop((held, unix));
    old.stop();
    for _ in 0..20 {
        assert!(
            exchange(TcpStream::connect(bind[0]).expect("the new one accepts")).starts_with("HTTP/1.1 200")
        );
    }
    assert!(exchange(UnixStream::connect(&path).expect("it accepts")).starts_with("HTTP/1.1 200"));
    new.stop();
    std::fs::remove_file(&path).expect("the socket file is there");
}

#[test]
fn any_address_of_ipv6_serves_ipv4_whose_addresses_are_shown_as_such() {
    if !has_ipv6() {
        return;
    }
    for io in WIRES {
        let server = start(config(io, &["[::]:0"])).expect("the server starts");
        let address: SocketAddr =
            server.addresses()[0].trim_start_matches("http://").parse().expect("an address");
        for host in ["127.0.0.1", "::1"] {
            let ip: std::net::IpAddr = host.parse().expect("an address");
            let answer = exchange(TcpStream::connect((ip, address.port())).expect("it accepts"));
            assert_eq!(answer.split("\r\n\r\n").nth(1), Some(host), "{io:?}");
        }
        server.stop();

        let port = free_port();
        let both = [format!("[::]:{port}"), format!("0.0.0.0:{port}")];
        let server = start(config(io, &both.each_ref().map(String::as_str))).expect("each its own family");
        for ip in ["127.0.0.1", "::1"] {
            let ip: std::net::IpAddr = ip.parse().expect("an address");
            exchange(TcpStream::connect((ip, port)).expect("it accepts"));
        }
        server.stop();
    }
}
