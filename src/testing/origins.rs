//! What answers say to pages of other origins: every answer that an endpoint can give, on the shard that has the session and on
//! the one that hands the connection over.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use crate::http::{CorsOrigins, Method, Response};
use crate::message::peer::Peer;
use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::testing::slow_handlers::Lines;
use crate::{Config, Context, EngineOptions, Server};

const PAGE: &str = "https://page.example";
const BUNDLE: &str = "/socket.io/socket.io.js";

/// A folder with one of the client's files.
fn bundle() -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::temp_dir().join(format!("shardcast-origins-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        std::fs::write(folder.join("socket.io.js"), "/* the client */").expect("a file in it");
        folder
    });
    FOLDER.clone()
}

/// A server, the shard that is asked, and the `Origin` line of each request.
struct Asker {
    server: TestServer,
    shard: usize,
    origin: String,
}

/// One way to get an answer; the text that must begin it.
type Row = (&'static str, &'static str, fn(&Asker) -> String);

impl Asker {
    fn new(origin: Option<&str>, shard: usize) -> Asker {
        let engine = EngineOptions {
            cors_allowed_origins: CorsOrigins::parse(PAGE).expect("an origin"),
            max_http_buffer_size: 100,
            allow_eio3: true,
            client_bundle: bundle(),
            ..EngineOptions::default()
        };
        let config = Config { engine, shards: 2, sessions_max: 2, ..Config::default() };
        let server = Server::new(config)
            .namespace("/", |io| {
                io.on_raw("echo", |cx: &mut Context<'_>, args| {
                    cx.emit("echo", args);
                })
            })
            .endpoint("/guarded/", |endpoint| {
                endpoint.namespace("/", |_| {});
                endpoint.allow_request(|_| Err("not today"));
            })
            .route("/route", |_| Response::text("here"))
            .route_method(Method::Get, "/own", |_| {
                Response::text("")
                    .header("Access-Control-Allow-Origin", "https://page.example")
                    .header("Access-Control-Allow-Credentials", "true")
                    .header("Vary", "Origin")
            })
            .static_folder("/static", "tests/clients/public")
            .websocket("/ws", |_| {});
        let server = TestServer::new(server).expect("the server is sound");
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        Asker { server, shard, origin }
    }

    /// Sends a request's line, its other headers and its body on a connection to the shard that is asked.
    fn send(&self, line: &str, headers: &str, body: &str) -> WireId {
        self.send_to(
            self.shard,
            &format!("{line} HTTP/1.1\r\nHost: own\r\n{}{headers}\r\n{body}", self.origin),
        )
    }

    fn send_to(&self, shard: usize, bytes: &str) -> WireId {
        let mut host = self.server.host.borrow_mut();
        let wire = host.dial(shard, Peer::Tcp(([127, 0, 0, 1], 40_000).into()));
        host.write(wire, bytes.as_bytes());
        host.settle();
        wire
    }

    fn arrived(&self, wire: WireId) -> String {
        let mut host = self.server.host.borrow_mut();
        host.settle();
        String::from_utf8_lossy(&std::mem::take(host.arrived(wire))).into_owned()
    }

    fn ask(&self, line: &str, headers: &str, body: &str) -> String {
        let wire = self.send(line, headers, body);
        self.arrived(wire)
    }

    fn post(&self, target: &str, body: &str) -> String {
        self.ask(&format!("POST {target}"), &format!("Content-Length: {}\r\n", body.len()), body)
    }

    /// The target of a session that shard 0 has, connected to its namespace. A native client opens it.
    fn session(&self) -> String {
        self.session_on(0)
    }

    fn session_on(&self, shard: usize) -> String {
        let open = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: own\r\n\r\n";
        let wire = self.send_to(shard, open);
        let opened = self.arrived(wire);
        let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", sid.expect("an open packet"));
        let native = format!("POST {target} HTTP/1.1\r\nHost: own\r\nContent-Length: 2\r\n\r\n40");
        self.send_to(shard, &native);
        let wire = self.send_to(shard, &format!("GET {target} HTTP/1.1\r\nHost: own\r\n\r\n"));
        assert!(self.arrived(wire).contains("40{"), "the namespace has answered");
        target
    }

    fn poll(&self) -> (String, WireId) {
        let target = self.session();
        let wire = self.send(&format!("GET {target}"), "", "");
        assert_eq!(self.arrived(wire), "", "the poll waits");
        (target, wire)
    }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Answers to requests that have no session.
const ROWS: &[Row] = &[
    ("a handshake", "200", |asker| asker.ask("GET /socket.io/?EIO=4&transport=polling", "", "")),
    ("a handshake by JSONP", "200", |asker| {
        asker.ask("GET /socket.io/?EIO=3&transport=polling&j=0", "Referer: https://page.example/\r\n", "")
    }),
    ("a handshake by WebSocket", "101", |asker| {
        asker.ask("GET /socket.io/?EIO=4&transport=websocket", UPGRADE, "")
    }),
    ("a raw WebSocket", "101", |asker| asker.ask("GET /ws", UPGRADE, "")),
    ("no transport", "400", |asker| asker.ask("GET /socket.io/", "", "")),
    ("an unknown revision", "400", |asker| asker.ask("GET /socket.io/?EIO=5&transport=polling", "", "")),
    ("an unknown session", "400", |asker| asker.ask("GET /socket.io/?EIO=4&transport=polling&sid=x", "", "")),
    ("a POST without a session", "400", |asker| asker.post("/socket.io/?EIO=4&transport=polling", "x")),
    ("a WebSocket key that is none", "400", |asker| {
        asker.ask("GET /socket.io/?EIO=4&transport=websocket", &UPGRADE.replace("dGhl", "d"), "")
    }),
    ("a rule that refuses", "403", |asker| asker.ask("GET /guarded/?EIO=4&transport=polling", "", "")),
    ("a rule that refuses a WebSocket", "403", |asker| {
        asker.ask("GET /guarded/?EIO=4&transport=websocket", UPGRADE, "")
    }),
    ("a body that is too large", "413", |asker| {
        asker.ask("POST /socket.io/?EIO=4&transport=polling", "Content-Length: 101\r\n", "")
    }),
    ("a chunked body that is too large", "413", |asker| {
        let body = format!("65\r\n{}", "x".repeat(101));
        asker.ask("POST /socket.io/?EIO=4&transport=polling", "Transfer-Encoding: chunked\r\n", &body)
    }),
    ("a chunk that is none", "400", |asker| {
        asker.ask(
            "POST /socket.io/?EIO=4&transport=polling",
            "Transfer-Encoding: chunked\r\n",
            "nonsense\r\n",
        )
    }),
    ("too many headers", "431", |asker| asker.ask("GET /socket.io/", &"X: y\r\n".repeat(5000), "")),
    ("a header that is none", "400", |asker| asker.ask("GET /socket.io/", "no header\r\n", "")),
    ("a head that does not end", "408", |asker| {
        let wire = asker
            .send_to(asker.shard, &format!("GET /socket.io/ HTTP/1.1\r\nHost: own\r\n{}X: ", asker.origin));
        asker.server.advance(Duration::from_secs(11));
        asker.arrived(wire)
    }),
    ("a body that does not come", "408", |asker| {
        let wire = asker.send("POST /socket.io/?EIO=4&transport=polling", "Content-Length: 9\r\n", "x");
        asker.server.advance(Duration::from_secs(11));
        asker.arrived(wire)
    }),
    ("no room", "503", |asker| {
        for _ in 0..2 {
            asker.session_on(asker.shard);
        }
        asker.ask("GET /socket.io/?EIO=4&transport=polling", "", "")
    }),
    ("a bundle's file", "200", |asker| asker.ask(&format!("GET {BUNDLE}"), "", "")),
    ("a bundle's file that is known", "304", |asker| {
        asker.ask(&format!("GET {BUNDLE}"), "If-None-Match: *\r\n", "")
    }),
    ("a bundle's file that is missing", "404", |asker| asker.ask("GET /socket.io/socket.io.min.js", "", "")),
    ("a POST to a bundle's file", "405", |asker| asker.post(BUNDLE, "")),
    ("a preflight", "204", |asker| {
        asker.ask(
            "OPTIONS /socket.io/?EIO=4&transport=polling",
            "Access-Control-Request-Method: POST\r\n",
            "",
        )
    }),
    ("a preflight of a bundle's file", "204", |asker| {
        asker.ask(&format!("OPTIONS {BUNDLE}"), "Access-Control-Request-Method: GET\r\n", "")
    }),
    ("a preflight of a route", "204", |asker| {
        asker.ask("OPTIONS /route", "Access-Control-Request-Method: PUT\r\n", "")
    }),
    ("a route", "200", |asker| asker.ask("GET /route", "", "")),
    ("a route's other method", "405", |asker| asker.post("/route", "")),
    ("a static file", "200", |asker| asker.ask("GET /static/hello.txt", "", "")),
    ("a static file that is missing", "404", |asker| asker.ask("GET /static/nothing.txt", "", "")),
    ("a path that is nobody's", "404", |asker| asker.ask("GET /nowhere", "", "")),
];

/// Answers to requests of a session.
const SESSION_ROWS: &[Row] = &[
    ("a POST", "200", |asker| asker.post(&asker.session(), "3")),
    ("a poll that finds something", "200", |asker| {
        let target = asker.session();
        asker.post(&target, r#"42["echo"]"#);
        asker.ask(&format!("GET {target}"), "", "")
    }),
    ("a poll that waits", "200", |asker| {
        let (target, wire) = asker.poll();
        asker.post(&target, r#"42["echo"]"#);
        asker.arrived(wire)
    }),
    ("a poll that gets a ping", "200", |asker| {
        let (_, wire) = asker.poll();
        asker.server.advance(Duration::from_secs(26));
        asker.arrived(wire)
    }),
    ("a poll that is released for an upgrade", "200", |asker| {
        let (target, wire) = asker.poll();
        let target = target.replace("polling", "websocket");
        let probe =
            asker.send_to(0, &format!("GET {target} HTTP/1.1\r\nHost: own\r\n{}{UPGRADE}\r\n", asker.origin));
        assert!(asker.arrived(probe).starts_with("HTTP/1.1 101") || asker.origin.contains("evil"));
        // A masked frame with a mask of zeros: "2probe".
        asker.server.host.borrow_mut().write(probe, b"\x81\x86\0\0\0\x002probe");
        asker.arrived(wire)
    }),
    ("a poll that the client's own end releases", "200", |asker| {
        let (target, wire) = asker.poll();
        asker.post(&target, "1");
        asker.arrived(wire)
    }),
    ("a poll that a shutdown releases", "200", |asker| {
        let (_, wire) = asker.poll();
        asker.server.host.borrow_mut().stop();
        asker.arrived(wire)
    }),
    ("a poll that a second one releases", "200", |asker| {
        let (target, wire) = asker.poll();
        asker.send(&format!("GET {target}"), "", "");
        asker.arrived(wire)
    }),
    ("a second poll", "400", |asker| {
        let (target, _) = asker.poll();
        asker.ask(&format!("GET {target}"), "", "")
    }),
    ("a second POST", "400", |asker| {
        let target = asker.session();
        asker.send(&format!("POST {target}"), "Content-Length: 9\r\n", "x");
        asker.post(&target, "3")
    }),
    ("a POST that is no packet", "400", |asker| asker.post(&asker.session(), "x")),
    ("a method that sessions do not know", "500", |asker| {
        let target = asker.session();
        asker.ask(&format!("PUT {target}"), "", "")
    }),
    ("a poll in another revision", "400", |asker| {
        let target = asker.session().replace("EIO=4", "EIO=3");
        asker.ask(&format!("GET {target}"), "", "")
    }),
    ("a POST that is too large", "413", |asker| asker.post(&asker.session(), &"x".repeat(101))),
    ("an answer that is gone", "400", |asker| {
        let target = asker.session();
        asker.post(&target, "1");
        asker.ask(&format!("GET {target}"), "", "")
    }),
];

/// The values of a header in the last of the answers that a connection has got.
fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn every_answer_says_what_its_endpoint_allows() {
    for shard in 0..2 {
        for (name, status, ask) in ROWS.iter().chain(SESSION_ROWS) {
            let answer = ask(&Asker::new(Some(PAGE), shard));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}, shard {shard}: {answer}");
            assert_eq!(values(&answer, "access-control-allow-origin"), [PAGE], "{name}: {answer}");
            assert_eq!(values(&answer, "access-control-allow-credentials"), ["true"], "{name}: {answer}");
            assert!(values(&answer, "vary").iter().any(|vary| vary.contains("Origin")), "{name}: {answer}");
        }
        for origin in [
            None,
            Some("https://evil.example"),
            Some("null"),
            Some("https://page.example\r\nOrigin: https://page.example"),
        ] {
            for (name, _, ask) in ROWS {
                let answer = ask(&Asker::new(origin, shard));
                assert!(answer.starts_with("HTTP/1.1 "), "{name} {origin:?}: {answer}");
                assert!(
                    !answer.to_ascii_lowercase().contains("access-control-allow-origin"),
                    "{name} {origin:?}: {answer}"
                );
            }
        }
    }
}

#[test]
fn a_route_that_answers_for_itself_has_the_last_word() {
    let answer = Asker::new(Some(PAGE), 0).ask("GET /own", "", "");
    assert_eq!(values(&answer, "access-control-allow-origin"), [PAGE], "{answer}");
    assert_eq!(values(&answer, "vary"), ["Origin"], "{answer}");
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_gets_nothing() {
    let config = Config { allowed_hosts: vec!["chat.example".to_owned()], ..Config::default() };
    let server = Server::new(config).namespace("/", |_| {}).route("/", |_| Response::text("here"));
    let server = TestServer::new(server.websocket("/ws", |_| {})).expect("sound");
    for (host, is_answered) in [("chat.example", true), ("localhost:5000", true), ("evil.test:5000", false)] {
        for (target, headers, status) in [
            ("/", "", "200"),
            ("/nowhere", "", "404"),
            ("/socket.io/?EIO=4&transport=polling", "", "200"),
            ("/socket.io/?EIO=4&transport=websocket", UPGRADE, "101"),
            ("/ws", UPGRADE, "101"),
        ] {
            let request =
                format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{headers}\r\n");
            let mut inner = server.host.borrow_mut();
            let wire = inner.dial(0, Peer::Tcp(([127, 0, 0, 1], 40_000).into()));
            inner.write(wire, request.as_bytes());
            inner.settle();
            let answer = String::from_utf8_lossy(inner.arrived(wire)).into_owned();
            let expected = if is_answered { status } else { "403" };
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{host} {target}: {answer}");
        }
    }
}

#[test]
fn a_server_of_this_machine_warns_of_other_hosts_unless_a_trusted_proxy_passes_them_on() {
    let local = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let long = "a".repeat(400);
    let rows: [(&str, &str, Peer, &str, bool); 9] = [
        ("127.0.0.1:0", "evil.test:5000", Peer::Tcp(local), "", true),
        ("127.0.0.1:0", &long, Peer::Tcp(local), "", true),
        ("127.0.0.1:0", "localhost:5000", Peer::Tcp(local), "", false),
        ("127.0.0.1:0", "127.0.0.1:5000", Peer::Tcp(local), "", false),
        ("[::1]:0", "[::1]:5000", Peer::Tcp(local), "", false),
        ("0.0.0.0:0", "evil.test:5000", Peer::Tcp(local), "", false),
        ("127.0.0.1:0", "chat.example", Peer::Tcp(local), "X-Forwarded-For: 192.0.2.1\r\n", false),
        ("127.0.0.1:0", "chat.example", Peer::Tcp((local.ip(), 1).into()), "", true),
        ("unix:/run/chat", "chat.example", Peer::Unix, "", false),
    ];
    for (bind, host, peer, headers, is_told) in rows {
        let trusted_proxies = vec!["127.0.0.1".to_owned()];
        let config = Config { bind: vec![bind.to_owned()], trusted_proxies, ..Config::default() };
        let server = Server::new(config).namespace("/", |_| {}).route("/", |_| Response::text("here"));
        let server = TestServer::new(server).expect("sound");
        let (sender, lines) = crossbeam_channel::unbounded();
        let ask = || {
            let mut inner = server.host.borrow_mut();
            let wire = inner.dial(0, peer);
            inner.write(wire, format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").as_bytes());
            inner.settle();
            assert!(inner.arrived(wire).starts_with(b"HTTP/1.1 "), "{host}");
        };
        let told = |count: usize, when: &str| {
            let told = lines.try_iter().filter(|line: &String| line.contains("allowed_hosts"));
            let told: Vec<_> = told.collect();
            let expected = if is_told { count } else { 0 };
            assert_eq!(told.len(), expected, "{bind} {host} {headers:?} {when}: {told:?}");
            let shown = if host == long { format!("{}..", &long[..300]) } else { host.to_owned() };
            assert!(told.iter().all(|line| line.contains(&format!("host={shown} "))), "{told:?}");
        };
        tracing::subscriber::with_default(Lines(sender), || {
            (0..3).for_each(|_| ask());
            told(1, "at first");
            server.advance(Duration::from_secs(3600));
            ask();
            told(1, "an hour later");
        });
    }
}

#[test]
fn what_a_proxy_forwards_counts_as_far_as_its_word_does() {
    let rows: [(&[&str], bool, &str); 4] = [
        (&[], true, "200"),
        (&[], false, "400"),
        (&["127.0.0.0/8"], false, "200"),
        (&["10.0.0.0/8"], true, "400"),
    ];
    for (proxies, trust_forwarded, status) in rows {
        let trusted_proxies = proxies.iter().map(|proxy| (*proxy).to_owned()).collect();
        let config = Config { trusted_proxies, trust_forwarded, ..Config::default() };
        let server = TestServer::new(Server::new(config).namespace("/", |_| {})).expect("sound");
        let headers = [("Origin", "https://localhost"), ("X-Forwarded-Proto", "https")];
        let answer = server.request(Method::Get, "/socket.io/?EIO=4&transport=polling", &headers, b"");
        assert_eq!(answer.status.to_string(), status, "{proxies:?} {trust_forwarded}");
    }
}
