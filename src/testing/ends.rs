//! What follows the end of a socket: nothing, whoever ended it and however the packets came.

use std::cell::RefCell;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::limits::HANDLERS_LEFT_MAX;
use crate::message::peer::Peer;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::testing::host::WireId;
use crate::testing::session::WEBSOCKET_KEY;
use crate::testing::{TestClient, TestServer};
use crate::{CloseCode, CloseReason, Config, Context, Message, Refused, Server, Socket, sleep};

/// What the handlers of a server have seen, in order.
#[derive(Clone)]
struct Log(Sender<String>, Receiver<String>);

impl Default for Log {
    fn default() -> Log {
        let (sender, receiver) = unbounded();
        Log(sender, receiver)
    }
}

fn note(log: &Log, text: impl Into<String>) {
    log.0.send(text.into()).expect("the log has its receiver");
}

fn take(log: &Log) -> Vec<String> {
    log.1.try_iter().collect()
}

/// A server on which a socket can be ended in every way.
fn serve(log: &Log, config: Config) -> TestServer {
    let log = log.clone();
    let server = Server::new(config).namespace("/", move |io| {
        let handle = io.handle();
        let noted = log.clone();
        io.before(move |cx, _| {
            if cx.event() == "banned" {
                note(&noted, "before banned");
                cx.disconnect();
            }
            Ok::<(), std::fmt::Error>(())
        });
        let noted = log.clone();
        io.on("seen", move |_: &mut Context<'_>, what: String| note(&noted, what));
        let noted = log.clone();
        io.on("banned", move |_: &mut Context<'_>| note(&noted, "banned"));
        let noted = log.clone();
        io.on("bytes", move |_: &mut Context<'_>, _: crate::Binary| note(&noted, "bytes"));
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
        io.on("self", |cx: &mut Context<'_>| cx.disconnect());
        io.on("room", |cx: &mut Context<'_>, room: String| cx.to(room).disconnect());
        io.on("close", |cx: &mut Context<'_>, room: String| cx.to(room).close());
        io.on("panic", |_: &mut Context<'_>| -> () { panic!("a handler of a test panics") });
        io.on("expire", |cx: &mut Context<'_>| cx.expires_in(Duration::from_millis(500)));
        io.on("handle", move |cx: &mut Context<'_>| handle.to("/", cx.id().as_str()).disconnect());
        let noted = log.clone();
        io.on("ask", move |cx: &mut Context<'_>| {
            let noted = noted.clone();
            cx.emit_with_callback("question", (), move |answer| {
                note(&noted, format!("answer {}", answer.is_ok()))
            });
        });
        let noted = log.clone();
        io.on_async("slow", move |_: Socket, millis: u64| {
            let noted = noted.clone();
            async move {
                sleep(Duration::from_millis(millis)).await;
                note(&noted, "slow is done");
            }
        });
        io.on_async("slow_self", |socket: Socket| async move {
            sleep(Duration::from_millis(10)).await;
            socket.disconnect();
        });
        let noted = log.clone();
        io.on_disconnect(move |_: &mut Context<'_>, reason: CloseReason| {
            note(&noted, format!("gone: {reason}"))
        });
    });
    TestServer::new(server).expect("the server is sound")
}

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Frames of one segment.
    WebSocket,
    /// One POST with many packets.
    Post,
    /// A POST that is sent behind a pending poll, on the same connection.
    BehindPoll,
}

/// A client that speaks by hand.
struct Raw<'a> {
    server: &'a TestServer,
    way: Way,
    wire: WireId,
    sid: String,
}

impl<'a> Raw<'a> {
    /// In `/`, on a shard.
    fn connect(server: &'a TestServer, way: Way, shard: usize) -> Raw<'a> {
        let client = Raw::open(server, way, shard);
        if way == Way::WebSocket {
            client.send(&["40"]);
        } else {
            client.post(&["40"]);
            client.poll();
            client.settle();
        }
        let joined = client.arrived();
        assert!(joined.contains("40{\"sid\""), "{joined}");
        client
    }

    /// In no namespace yet.
    fn open(server: &'a TestServer, way: Way, shard: usize) -> Raw<'a> {
        let wire = {
            let mut host = server.host.borrow_mut();
            let wire = host.dial(shard, Peer::Unix);
            let request = match way {
                Way::WebSocket => format!(
                    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
                ),
                _ => "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            };
            host.write(wire, request.as_bytes());
            host.settle();
            wire
        };
        let mut client = Raw { server, way, wire, sid: String::new() };
        let opened = client.arrived();
        let start = opened.find("\"sid\":\"").expect("an open packet") + 7;
        client.sid = opened[start..start + 20].to_owned();
        client
    }

    fn settle(&self) {
        self.server.host.borrow_mut().settle();
    }

    fn arrived(&self) -> String {
        let bytes = std::mem::take(self.server.host.borrow_mut().arrived(self.wire));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn poll(&self) {
        let request = format!(
            "GET /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            self.sid
        );
        self.server.host.borrow_mut().write(self.wire, request.as_bytes());
    }

    fn post(&self, packets: &[&str]) {
        let body = packets.join("\u{1e}");
        let request = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
             text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            self.sid,
            body.len()
        );
        self.server.host.borrow_mut().write(self.wire, request.as_bytes());
    }

    /// Sends packets in one segment, each as its way wants it; `b` begins binary in base64.
    fn send(&self, packets: &[&str]) {
        match self.way {
            Way::WebSocket => {
                let mut bytes = Vec::new();
                for packet in packets {
                    match packet.strip_prefix('b') {
                        Some(_) => frame::append_masked(&mut bytes, Opcode::Binary, &[1, 2, 3], [0; 4]),
                        None => frame::append_masked(&mut bytes, Opcode::Text, packet.as_bytes(), [0; 4]),
                    }
                }
                self.server.host.borrow_mut().write(self.wire, &bytes);
            }
            Way::Post => self.post(packets),
            Way::BehindPoll => {
                self.poll();
                self.settle();
                self.post(packets);
                // Something for the poll to take, so that what is behind it begins.
                self.settle();
                self.server.handle().namespace("/").emit("wake", ());
            }
        }
        self.settle();
    }
}

const WAYS: [Way; 3] = [Way::WebSocket, Way::Post, Way::BehindPoll];

#[test]
fn nothing_reaches_a_handler_after_its_socket_was_ended() {
    let seen = r#"42["seen","after"]"#;
    let announced = r#"451-["bytes",{"_placeholder":true,"num":0}]"#;
    let rows: [(&str, &[&str], &[&str]); 11] = [
        ("its own handler", &[r#"42["self"]"#, seen, seen], &["gone: server namespace disconnect"]),
        ("a check", &[r#"42["banned"]"#, seen], &["before banned", "gone: server namespace disconnect"]),
        (
            "by a room",
            &[r#"42["join","a"]"#, r#"42["room","a"]"#, seen],
            &["gone: server namespace disconnect"],
        ),
        (
            "its session",
            &[r#"42["join","a"]"#, r#"42["close","a"]"#, seen],
            &["gone: server namespace disconnect"],
        ),
        ("a handle", &[r#"42["handle"]"#, seen], &["after", "gone: server namespace disconnect"]),
        ("a panic", &[r#"42["panic"]"#, seen], &["gone: transport error"]),
        ("the client", &["41", seen], &["gone: client namespace disconnect"]),
        (
            "an answer that comes late",
            &[r#"42["ask"]"#, r#"42["self"]"#, "430[]"],
            &["gone: server namespace disconnect", "answer false"],
        ),
        (
            "attachments that come late",
            &[announced, "bAQID", r#"42["self"]"#, announced, "bAQID"],
            &["bytes", "gone: server namespace disconnect"],
        ),
        ("a broken packet", &["4x", seen], &["gone: forced close"]),
        (
            "an asynchronous handler",
            &[r#"42["slow_self"]"#, seen, seen],
            &["gone: server namespace disconnect"],
        ),
    ];
    for way in WAYS {
        for (name, packets, expected) in rows {
            let log = Log::default();
            let server = serve(&log, Config { shards: 1, ..Config::default() });
            let client = Raw::connect(&server, way, 0);
            client.send(packets);
            server.advance(Duration::from_millis(100));
            assert_eq!(take(&log), expected, "{name}, {way:?}");
        }
    }
}

#[test]
fn events_that_wait_behind_a_handler_go_with_their_socket() {
    type End = fn(&TestServer, &Raw<'_>);
    let ends: [(&str, End, &str); 8] = [
        ("an expired token", |server, _| server.advance(Duration::from_secs(1)), "token expired"),
        (
            "a slow consumer",
            |server, raw| {
                server.host.borrow_mut().set_reading(raw.wire, false);
                for _ in 0..9 {
                    server.handle().to("/", "a").emit("much", "y".repeat(200_000));
                }
                server.advance(Duration::from_millis(1));
            },
            "slow consumer",
        ),
        (
            "a handle",
            |server, _| drop(server.handle().to("/", "a").disconnect()),
            "server namespace disconnect",
        ),
        (
            "its session",
            |server, _| drop(server.handle().to("/", "a").close()),
            "server namespace disconnect",
        ),
        (
            "another shard's handler",
            |server, _| server.client().shard(1).connect("/").expect("it may").emit("room", "a"),
            "server namespace disconnect",
        ),
        ("a lost connection", |server, raw| server.host.borrow_mut().drop_wire(raw.wire), "transport close"),
        ("a ping timeout", |server, _| server.advance(Duration::from_secs(60)), "ping timeout"),
        ("the end of the server", |server, _| server.handle().stop(), "server shutting down"),
    ];
    for way in [Way::WebSocket, Way::Post] {
        for (name, end, reason) in ends {
            let log = Log::default();
            let server = serve(&log, Config { shards: 2, outbox_bytes_max: 400_000, ..Config::default() });
            let client = Raw::connect(&server, way, 0);
            if name == "an expired token" {
                client.send(&[r#"42["expire"]"#]);
            }
            client.send(&[
                r#"42["join","a"]"#,
                r#"42["slow",100000]"#,
                r#"42["seen","after"]"#,
                r#"42["seen","after"]"#,
            ]);
            if name == "a lost connection" && way == Way::Post {
                // A session by polling ends with the connection of its pending poll.
                client.poll();
                client.settle();
            }
            end(&server, &client);
            server.advance(Duration::ZERO);
            let told = take(&log);
            assert_eq!(told.len(), 1, "{name}, {way:?}: at once, and nothing else: {told:?}");
            assert!(told[0].ends_with(reason) || way == Way::Post, "{name}, {way:?}: {told:?}");
            assert_eq!(server.handle().stats()[0].sockets, 0, "{name}, {way:?}");
            server.advance(Duration::from_secs(120));
            let expected: &[&str] = &["slow is done"];
            assert_eq!(take(&log), expected, "{name}, {way:?}: the future goes on");
        }
    }
}

#[test]
fn a_connect_handler_that_disconnects_is_the_last_to_be_asked() {
    for is_async in [false, true] {
        let log = Log::default();
        let noted = log.clone();
        let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", move |io| {
            if is_async {
                io.use_connect_async(|socket: Socket, _: serde_json::Value| async move {
                    sleep(Duration::from_millis(1)).await;
                    socket.disconnect();
                    Ok::<(), Refused>(())
                });
            } else {
                io.use_connect(|cx: &mut Context<'_>| cx.disconnect());
            }
            let connected = noted.clone();
            io.on_connect(move |_: &mut Context<'_>| note(&connected, "asked"));
            let seen = noted.clone();
            io.on("seen", move |_: &mut Context<'_>| note(&seen, "seen"));
        });
        let server = TestServer::new(server).expect("the server is sound");
        let refused = server.client().auth(&serde_json::json!({})).connect("/");
        server.advance(Duration::from_millis(100));
        assert_eq!(take(&log), [""; 0], "asynchronous: {is_async}");
        if !is_async {
            assert_eq!(refused.expect_err("it was sent away").message, "Connection refused by server");
        }
    }
}

#[test]
fn the_last_connect_handler_that_disconnects_refuses_whether_it_takes_its_time_or_not() {
    for is_async in [false, true] {
        let log = Log::default();
        let noted = log.clone();
        let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", move |io| {
            if is_async {
                io.use_connect_async(move |socket: Socket, _: Option<u64>| async move {
                    sleep(Duration::from_millis(1)).await;
                    socket.disconnect();
                    Ok::<(), Refused>(())
                });
            } else {
                io.on_connect(move |cx: &mut Context<'_>| cx.disconnect());
            }
            let gone = noted.clone();
            io.on_disconnect(move |_: &mut Context<'_>, _: CloseReason| note(&gone, "gone"));
        });
        let server = TestServer::new(server).expect("the server is sound");
        let client = Raw::open(&server, Way::WebSocket, 0);
        client.send(&["40"]);
        server.advance(Duration::from_millis(10));
        let told = client.arrived();
        let is_refused = told.contains(r#"44{"message":"Connection refused by server"}"#);
        assert!(is_refused, "asynchronous: {is_async}: {told:?}");
        assert!(!told.contains("40{") && !told.contains("41"), "asynchronous: {is_async}: {told:?}");
        assert_eq!(take(&log), [""; 0], "who was never let in does not leave");
        assert_eq!(server.handle().stats()[0].sockets, 0);
    }
}

#[test]
fn raw_messages_end_with_their_session_and_their_connection() {
    let log = Log::default();
    let (engine, websocket) = (log.clone(), log.clone());
    let server = Server::new(Config { shards: 1, ..Config::default() })
        .engine("/raw/", move |route| {
            let noted = engine.clone();
            route.on_message(move |socket, message| {
                if let Message::Text(text) = message {
                    note(&noted, text);
                    socket.close();
                }
            });
        })
        .websocket("/ws", move |route| {
            let noted = websocket.clone();
            route.on_message(move |socket, message| {
                if let Message::Text(text) = message {
                    note(&noted, text);
                    socket.close(CloseCode::NORMAL, "");
                }
            });
        });
    let server = TestServer::new(server).expect("the server is sound");
    for (path, first, second) in [("/raw/?EIO=4&transport=websocket", "4one", "4two"), ("/ws", "one", "two")]
    {
        let mut host = server.host.borrow_mut();
        let wire = host.dial(0, Peer::Unix);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
        );
        let mut bytes = request.into_bytes();
        for text in [first, second] {
            frame::append_masked(&mut bytes, Opcode::Text, text.as_bytes(), [0; 4]);
        }
        host.write(wire, &bytes);
        host.settle();
        assert_eq!(take(&log), ["one"], "{path}");
    }
}

#[test]
fn a_repeated_connect_begins_anew_and_ends_nothing_else() {
    for way in WAYS {
        let log = Log::default();
        let server = serve(&log, Config { shards: 1, ..Config::default() });
        let client = Raw::connect(&server, way, 0);
        client.send(&["40", r#"42["seen","in again"]"#]);
        if way != Way::WebSocket {
            client.poll();
            client.settle();
        }
        let arrived = client.arrived();
        assert_eq!(arrived.matches("40{\"sid\"").count(), 1, "{way:?}: {arrived}");
        assert_eq!(take(&log), ["gone: client namespace disconnect", "in again"], "{way:?}");
        // A DISCONNECT may come again, too, and an answer to what was asked before.
        client.send(&["41", "41", "430[]", "40", r#"42["seen","back"]"#]);
        assert_eq!(take(&log), ["gone: client namespace disconnect", "back"], "{way:?}");
        assert_eq!(server.handle().stats()[0].sockets, 1, "{way:?}");
    }
}

#[test]
fn a_client_that_leaves_and_joins_in_a_loop_starts_a_bounded_number_of_handlers() {
    let rows: [&[&str]; 3] = [
        &["41", "40", r#"42["slow",1000]"#],
        &["40", r#"42["slow",1000]"#],
        &[r#"42["slow",1000]"#, "41", "40"],
    ];
    for way in WAYS {
        for round in rows {
            let log = Log::default();
            let server = serve(&log, Config { shards: 1, ..Config::default() });
            let client = Raw::connect(&server, way, 0);
            // Each is done before the next begins: as often as it likes.
            for _ in 0..HANDLERS_LEFT_MAX {
                client.send(round);
                server.advance(Duration::from_millis(1050));
                if way != Way::WebSocket {
                    client.poll();
                    client.settle();
                }
            }
            let done = take(&log).iter().filter(|line| *line == "slow is done").count();
            assert_eq!(done, HANDLERS_LEFT_MAX, "{way:?}, {round:?}");
            client.send(&round.repeat(HANDLERS_LEFT_MAX * 3));
            assert_eq!(server.handle().stats()[0].sessions, 0, "{way:?}, {round:?}");
            server.advance(Duration::from_secs(2));
            let done = take(&log).iter().filter(|line| *line == "slow is done").count();
            assert_eq!(done, HANDLERS_LEFT_MAX + 1, "{way:?}, {round:?}: those of sockets left, and one");
        }
    }
}

#[test]
fn a_connect_that_is_repeated_before_its_handler_has_decided_is_answered_once() {
    let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", |io| {
        io.on_connect_async(|socket: Socket, auth: serde_json::Value| async move {
            sleep(Duration::from_millis(20)).await;
            socket.emit("hello", auth["name"].as_str().unwrap_or_default());
            Ok::<(), Refused>(())
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let first = server.client().auth(&serde_json::json!({ "name": "first" }));
    let client = first.say_after_connect(r#"40{"name":"second"}"#).connect("/");
    server.advance(Duration::from_millis(100));
    drop(client);
    let host = server.host.borrow();
    let session = host.sessions.last().expect("there is one");
    let received: Vec<String> = session.received.iter().map(ToString::to_string).collect();
    assert_eq!(received, [r#"["hello","second"]"#]);
    assert!(session.joined.get("/").is_some_and(Result::is_ok) && !session.is_over);
}

#[test]
fn a_repeated_connect_is_recovered_if_it_claims_its_own_socket() {
    let config =
        Config { shards: 1, recovery_max_disconnection: Duration::from_secs(60), ..Config::default() };
    let log = Log::default();
    let server = serve(&log, config);
    let client = server.connect("/").expect("it may");
    let (id, index) = (client.id(), client.session_index());
    client.call("join", "a").expect("joined");
    let pid = server.host.borrow().sessions[index].claims["/"].pid.clone();
    client.say(&format!(r#"40{{"pid":"{pid}"}}"#));
    assert_eq!((client.id(), client.is_connected()), (id, true));
    server.handle().to("/", "a").emit("news", ());
    server.advance(Duration::ZERO);
    assert_eq!(client.received().len(), 1, "it is in its room again");
}

#[test]
fn a_client_that_comes_back_while_its_handler_runs_is_recovered() {
    for shards in [1, 2] {
        let config =
            Config { shards, recovery_max_disconnection: Duration::from_secs(60), ..Config::default() };
        let log = Log::default();
        let server = serve(&log, config);
        let lost = server.client().shard(0).connect("/").expect("it may");
        lost.call("join", "a").expect("joined");
        lost.emit("slow", 1_000);
        lost.cut();
        assert_eq!(take(&log), ["gone: transport close"]);
        let back = server.client().shard(shards - 1).recovering(&lost).connect("/").expect("it may");
        server.advance(Duration::ZERO);
        assert_eq!(back.id(), lost.id(), "{shards} shards");
        back.call("join", "b").expect("its events do not wait for the handler of before");
        server.advance(Duration::from_secs(2));
        assert_eq!(take(&log), ["slow is done"]);
    }
}

#[test]
fn a_session_is_cut_off_whole_before_its_disconnect_handlers_run() {
    // One of its sockets tells the other namespace, in which the client is, too.
    thread_local! {
        static HANDLES: RefCell<(Option<Socket>, Vec<bool>)> = const { RefCell::new((None, Vec::new())) };
    }
    let server = Server::new(Config { shards: 1, ..Config::default() })
        .namespace("/", |io| {
            io.on_disconnect(|_: &mut Context<'_>, _: CloseReason| {
                HANDLES.with_borrow_mut(|(other, seen)| {
                    let other = other.as_ref().expect("it is in both");
                    other.broadcast().emit("late", ());
                    seen.push(other.is_connected());
                });
            });
        })
        .namespace("/b", |io| {
            io.on_connect(|cx: &mut Context<'_>| {
                HANDLES.with_borrow_mut(|(other, _)| *other = Some(cx.socket()));
            });
        });
    let server = TestServer::new(server).expect("the server is sound");
    let client = Raw::connect(&server, Way::WebSocket, 0);
    client.send(&["40/b,"]);
    client.arrived();
    let mut close = Vec::new();
    frame::append_masked(&mut close, Opcode::Close, &[0x03, 0xe8], [0; 4]);
    server.host.borrow_mut().write(client.wire, &close);
    client.settle();
    let arrived = std::mem::take(server.host.borrow_mut().arrived(client.wire));
    assert_eq!(arrived, [0x88, 0x02, 0x03, 0xe8], "a Close frame and nothing behind it");
    HANDLES.with_borrow_mut(|(other, seen)| {
        assert_eq!(std::mem::take(seen), [false]);
        *other = None;
    });
}

#[test]
fn after_a_panic_the_client_loses_its_connection_and_hears_of_no_disconnect() {
    for way in WAYS {
        let log = Log::default();
        let server = serve(&log, Config { shards: 1, ..Config::default() });
        let (client, other) = (Raw::connect(&server, way, 0), connect(&server));
        client.send(&[r#"42["panic"]"#]);
        let arrived = client.arrived();
        assert!(
            !arrived.contains("41"),
            "{way:?}: stock clients come back from a lost connection only: {arrived}"
        );
        assert_eq!(take(&log), ["gone: transport error"], "{way:?}");
        assert!(other.call("join", "a").is_some(), "{way:?}: the others do not notice");
        assert_eq!(server.handle().stats()[0].sessions, 1, "{way:?}");
    }
}

fn connect(server: &TestServer) -> TestClient {
    server.connect("/").expect("everybody may")
}
