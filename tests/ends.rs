//! The end of a server with real sockets, on each wire: who waits in the kernel's queue, a stop that comes at a bad moment, Unix
//! sockets that all shards share.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use shardcast::http::Response;
use shardcast::{Config, Context, Handle, Io, RunningServer, Server};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const HANDSHAKE: &str = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
const HOLD: &str = "GET /hold HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Messages that fill an inbox, and some more.
const MANY: usize = 70_000;

fn config(io: Io, shards: usize, bind: &[&str]) -> Config {
    Config { io, shards, bind: bind.iter().map(|&text| text.to_owned()).collect(), ..Config::default() }
}

/// A server whose `/hold` holds its shard up for half a second.
fn start(config: Config) -> RunningServer {
    let hold = |_: &shardcast::http::Request<'_>| {
        std::thread::sleep(Duration::from_millis(500));
        Response::text("held")
    };
    Server::new(config).namespace("/", |_| {}).route("/hold", hold).start().expect("the server starts")
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the kernel takes it");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// What has come, at least a byte.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read.expect("an answer"),
        }
    }
}

/// Waits for a server's end, but not for ever.
fn await_end(server: RunningServer, io: Io) {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        server.join();
        let _ = ended.send(());
    });
    assert!(end.recv_timeout(PATIENCE).is_ok(), "{io:?}: the server does not stop");
}

#[test]
fn nobody_who_waits_in_the_queue_is_reset_by_a_stop() {
    for io in WIRES {
        let server = start(config(io, 1, &["127.0.0.1:0"]));
        let address = server.addresses()[0].clone();
        let mut holder = connect(&address);
        holder.write_all(HOLD.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        // The shard is held up: these wait in the kernel, with their requests.
        let mut waiting: Vec<TcpStream> = (0..200).map(|_| connect(&address)).collect();
        for stream in &mut waiting {
            stream.write_all(HANDSHAKE.as_bytes()).expect("sent");
        }
        server.handle().stop();
        for (number, stream) in waiting.iter_mut().enumerate() {
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer);
            assert!(read.is_ok(), "{io:?}, connection {number}: {read:?}");
            assert!(answer.starts_with("HTTP/1.1 503 "), "{io:?}, connection {number}: {answer:?}");
        }
        drop(waiting);
        await_end(server, io);
        assert!(
            TcpStream::connect(address.trim_start_matches("http://")).is_err(),
            "{io:?}: it listens no more"
        );
    }
}

#[test]
fn while_sessions_are_spread_out_clients_still_reach_theirs() {
    for io in WIRES {
        let path = std::env::temp_dir().join(format!("shardcast-ends-{}-{io:?}.sock", std::process::id()));
        let bind = format!("unix:{}", path.display());
        let spread = Duration::from_secs(2);
        let server =
            start(Config { shutdown_spread: Some(spread), ..config(io, 2, &["127.0.0.1:0", &bind]) });
        let address = server.addresses()[0].clone();
        let mut sids = Vec::new();
        for _ in 0..20 {
            let mut stream = connect(&address);
            let closing = HANDSHAKE.replace("Host: a", "Host: a\r\nConnection: close");
            stream.write_all(closing.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            let (_, rest) = answer.split_once("\"sid\":\"").expect("a session");
            sids.push(rest[..20].to_owned());
        }
        server.handle().stop();
        std::thread::sleep(Duration::from_millis(500));
        let mut statuses = Vec::new();
        for sid in &sids {
            // Without a kept connection: each request is a new one, on either address.
            let request = format!(
                "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3"
            );
            let mut answer = String::new();
            if statuses.len() % 2 == 0 {
                let mut stream = connect(&address);
                stream.write_all(request.as_bytes()).expect("sent");
                stream.read_to_string(&mut answer).expect("an answer");
            } else {
                let mut stream = UnixStream::connect(&path).expect("the listener is open");
                stream.write_all(request.as_bytes()).expect("sent");
                stream.read_to_string(&mut answer).expect("an answer");
            }
            statuses.push(answer[9..12].to_owned());
        }
        let served = statuses.iter().filter(|status| *status == "200").count();
        let ended = statuses.iter().filter(|status| *status == "400").count();
        assert_eq!(served + ended, 20, "{io:?}: {statuses:?}");
        assert!(served >= 5, "{io:?}: most are still there after a quarter of the spread: {statuses:?}");
        await_end(server, io);
        std::fs::remove_file(&path).expect("the socket file is there");
    }
}

#[test]
fn a_handler_may_stop_the_server_while_its_own_inbox_is_full() {
    for io in WIRES {
        let server = Server::new(config(io, 1, &["127.0.0.1:0"])).namespace("/", |_| {});
        let handle: Handle = server.handle();
        let server = server
            .route("/stop", move |_| {
                for _ in 0..MANY {
                    handle.namespace("/").emit("news", ());
                }
                handle.stop();
                Response::text("stopping")
            })
            .start()
            .expect("the server starts");
        let mut stream = connect(&server.addresses()[0]);
        stream.write_all(b"GET /stop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("stopping"), "{io:?}: {answer}");
        await_end(server, io);
    }
}

#[test]
fn what_was_said_before_a_stop_is_heard() {
    for io in WIRES {
        let server = Server::new(config(io, 2, &["127.0.0.1:0"])).namespace("/", |io| {
            io.on("hello", |_: &mut Context<'_>| "hello");
        });
        let server = server.start().expect("the server starts");
        let mut stream = connect(&server.addresses()[0]);
        stream.write_all(HANDSHAKE.as_bytes()).expect("sent");
        let mut buffer = [0; 4096];
        let count = read_some(&mut stream, &mut buffer);
        let answer = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let (_, rest) = answer.split_once("\"sid\":\"").expect("a session");
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", &rest[..20]);
        let mut sender = connect(&server.addresses()[0]);
        let post =
            format!("POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n40");
        sender.write_all(post.as_bytes()).expect("sent");
        sender.read_to_string(&mut String::new()).expect("an answer");
        let get = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(get.as_bytes()).expect("sent");
        let count = read_some(&mut stream, &mut buffer);
        assert!(String::from_utf8_lossy(&buffer[..count]).contains("40{"));
        stream.write_all(get.as_bytes()).expect("a poll waits");
        std::thread::sleep(Duration::from_millis(200));
        let handle = server.handle();
        handle.namespace("/").emit("bye", ());
        handle.stop();
        let mut last = String::new();
        stream.read_to_string(&mut last).expect("the poll is answered");
        assert!(
            last.ends_with("42[\"bye\"]"),
            "{io:?}: what is owed, and no goodbye that loses clients: {last}"
        );
        await_end(server, io);
    }
}

/// Asks for what is not there, on a connection that stays.
fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut buffer = [0; 1024];
    let count = read_some(stream, &mut buffer);
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// A place in the tables is free as soon as a client has gone. Its wire must be closed before somebody else has it.
#[test]
fn who_comes_in_the_turn_in_which_others_go_has_a_wire_of_its_own() {
    for io in WIRES {
        let server = start(config(io, 1, &["127.0.0.1:0"]));
        let address = server.addresses()[0].clone();
        let mut leaving: Vec<TcpStream> = (0..8).map(|_| connect(&address)).collect();
        for stream in &mut leaving {
            assert!(ask(stream).starts_with("HTTP/1.1 404 "), "{io:?}");
        }
        let mut holder = connect(&address);
        holder.write_all(HOLD.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        // The shard is held up: it hears of all of this at once.
        drop(leaving);
        let mut coming: Vec<TcpStream> = (0..16).map(|_| connect(&address)).collect();
        for stream in &mut coming {
            assert!(ask(stream).starts_with("HTTP/1.1 404 "), "{io:?}");
        }
        server.handle().stop();
        drop((coming, holder));
        await_end(server, io);
    }
}
