//! The operators' listener with real sockets, on the ring wire, on monoio's io_uring and on epoll.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

#[path = "process/broker.rs"]
#[allow(dead_code, reason = "one broker of several is started here")]
mod broker;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use broker::BrokerProcess;
use shardcast::{Config, Io, RunningServer, Secret, Server};

const WIRES: [Io; 3] = [Io::Auto, Io::Monoio, Io::Epoll];

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than a broker takes to come back, and a client of it to notice.
const BROKER_PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "a-token-of-a-test";

fn config(io: Io, admin_bind: &str) -> Config {
    Config {
        io,
        shards: 2,
        bind: vec!["127.0.0.1:0".to_owned()],
        admin_bind: admin_bind.to_owned(),
        ..Config::default()
    }
}

fn start(config: Config) -> RunningServer {
    Server::new(config).namespace("/", |_| {}).start().expect("the server starts")
}

/// Sends a GET request on a stream and reads everything until the server closes.
fn get(mut stream: impl Read + Write, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer arrives and ends");
    answer
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn operators_and_clients_have_listeners_of_their_own() {
    for io in WIRES {
        let server = start(config(io, "127.0.0.1:0"));
        let (public, admin) = (server.addresses(), server.admin_address().expect("it listens for operators"));
        assert_eq!(public.len(), 1);
        let polling = "/socket.io/?EIO=4&transport=polling";
        // More than one of each, so that both shards are asked.
        for _ in 0..8 {
            for (path, of_public, of_admin) in [
                ("/livez", "404", "200"),
                ("/readyz", "404", "200"),
                (polling, "200", "404"),
                ("/", "404", "200"),
            ] {
                assert_eq!(status(&get(connect(&public[0]), path, "")), of_public, "{io:?} {path}");
                assert_eq!(status(&get(connect(&admin), path, "")), of_admin, "{io:?} {path}");
            }
        }
        server.stop();
        assert!(
            TcpStream::connect(admin.trim_start_matches("http://")).is_err(),
            "it is closed with the server"
        );
    }
}

#[test]
fn a_wrong_token_is_answered_401_and_the_right_one_is_let_in() {
    for io in WIRES {
        let server = start(Config { admin_token: Secret::from(TOKEN), ..config(io, "0.0.0.0:0") });
        let admin = server.admin_address().expect("it listens").replace("0.0.0.0", "127.0.0.1");
        for (headers, expected) in [
            (String::new(), "401"),
            ("Authorization: Bearer wrong\r\n".to_owned(), "401"),
            (format!("Authorization: Bearer {TOKEN}\r\n"), "200"),
        ] {
            let answer = get(connect(&admin), "/", &headers);
            assert_eq!(status(&answer), expected, "{io:?} {headers}");
            let challenge = "www-authenticate: bearer realm=\"shardcast\"";
            assert_eq!(answer.to_ascii_lowercase().contains(challenge), expected == "401", "{answer}");
        }
        assert_eq!(status(&get(connect(&admin), "/livez", "")), "200", "probes have no token");
        server.stop();
    }
}

#[test]
fn a_unix_socket_is_for_its_owner_and_group() {
    for io in WIRES {
        let path = std::env::temp_dir().join(format!("shardcast-admin-{}-{io:?}.sock", std::process::id()));
        let server = start(config(io, &format!("unix:{}", path.display())));
        let mode = std::fs::metadata(&path).expect("the socket file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{io:?}");
        for _ in 0..4 {
            let stream = UnixStream::connect(&path).expect("it accepts");
            assert_eq!(status(&get(stream, "/livez", "")), "200", "{io:?}");
        }
        server.stop();
        std::fs::remove_file(&path).expect("the socket file is there");
    }
}

#[test]
fn an_address_that_others_reach_needs_credentials_and_one_of_its_own() {
    let refused = |config: Config| {
        let server = Server::new(config).namespace("/", |_| {}).start();
        server.expect_err("it does not start").to_string()
    };
    let open = refused(config(Io::Auto, "0.0.0.0:0"));
    assert!(
        open.starts_with("admin_bind") && open.contains("0.0.0.0:0") && open.contains("set admin_token"),
        "{open}"
    );
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let both = refused(Config { bind: vec![address.clone()], ..config(Io::Auto, &address) });
    assert!(both.contains("is an address of bind"), "{both}");
    let nonsense = refused(config(Io::Auto, "nonsense"));
    assert!(nonsense.contains("admin_bind = \"nonsense\""), "{nonsense}");
}

#[test]
fn a_stuck_shard_is_no_live_server() {
    for io in WIRES {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let server =
            Server::new(config(io, "127.0.0.1:0")).namespace("/", |_| {}).route("/stuck", move |_| {
                begun.send(()).expect("the test waits for it");
                std::thread::sleep(Duration::from_secs(3));
                "done"
            });
        let server = server.start().expect("the server starts");
        let admin = server.admin_address().expect("it listens");
        let mut client = connect(&server.addresses()[0]);
        client.write_all(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        has_begun.recv_timeout(PATIENCE).expect("the route is called");
        let mut probe = connect(&admin);
        probe.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
        probe.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut answer = [0; 512];
        // The stuck shard itself may have been given the connection: then no answer comes in the probe's time.
        if let Ok(len) = probe.read(&mut answer) {
            let answer = String::from_utf8_lossy(&answer[..len]);
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("silent shards: ["), "{answer}");
        }
        assert!(client.read(&mut answer).expect("it goes on") > 0);
        assert_eq!(status(&get(connect(&admin), "/livez", "")), "200", "{io:?}");
        server.stop();
    }
}

#[test]
fn a_server_without_the_broker_that_it_needs_is_alive_and_not_ready() {
    // Nobody listens where somebody just did.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
    for (bus_required, ready) in [(true, ("503", "bus\n")), (false, ("200", "ready\n"))] {
        let mut config = Config { bus_required, ..config(Io::Auto, "127.0.0.1:0") };
        config.engine.message_queue = format!("redis://127.0.0.1:{port}/0").into();
        let server = start(config);
        let admin = server.admin_address().expect("it listens for operators");
        let answer = get(connect(&admin), "/readyz", "");
        assert_eq!((status(&answer), answer.ends_with(ready.1)), (ready.0, true), "{answer}");
        assert_eq!(status(&get(connect(&admin), "/livez", "")), "200");
    }
}

#[test]
fn a_broker_that_goes_and_comes_back_is_seen_by_probes() {
    let mut broker = BrokerProcess::redis(&[]);
    for io in WIRES {
        let mut config = Config { bus_required: true, ..config(io, "127.0.0.1:0") };
        config.engine.message_queue = format!("redis://127.0.0.1:{}/0", broker.port).into();
        let server = start(config);
        let admin = server.admin_address().expect("it listens for operators");
        let await_ready = |expected: &str| {
            let began = std::time::Instant::now();
            loop {
                let answer = get(connect(&admin), "/readyz", "");
                let word = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
                if (status(&answer), word.trim_end()) == expected.split_once(' ').expect("two words") {
                    return;
                }
                assert!(began.elapsed() < BROKER_PATIENCE, "{io:?}: no {expected}: {answer}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        await_ready("200 ready");
        broker.terminate();
        await_ready("503 bus");
        let metrics = get(connect(&admin), "/metrics", "");
        for line in ["shardcast_ready 0\n", "shardcast_queue_up{queue=\"/socket.io/\"} 0\n"] {
            assert!(metrics.contains(line), "{io:?}: {line} in {metrics}");
        }
        // The process lives, and serves those who are there.
        assert_eq!(status(&get(connect(&admin), "/livez", "")), "200", "{io:?}");
        let polling = "/socket.io/?EIO=4&transport=polling";
        assert_eq!(status(&get(connect(&server.addresses()[0]), polling, "")), "200", "{io:?}");
        broker.restart();
        await_ready("200 ready");
        server.stop();
    }
}
