//! One client that sends without end, next to one that sends one thing: the second is served after a share of the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::http::Response;
use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::value::share::SHARE_EVENTS_MAX;
use crate::testing::host::WireId;
use crate::testing::{TestClient, TestServer};
use crate::{CloseReason, Config, Context, EngineOptions, Message, Peer, Server, Socket, sleep};

/// What the busy client has sent at once.
const EVENTS: u64 = 3_000;

/// How many of its events may be handled before somebody else is. Each share is two at most: packets of a POST are counted
/// beside their request.
const BEFORE_MAX: u64 = 2 * SHARE_EVENTS_MAX as u64;

/// A server that counts `tick` events, `/tick` requests and raw messages alike; `count` and `/count` say how many there were.
fn server(config: Config) -> TestServer {
    let ticks = Arc::new(AtomicU64::new(0));
    let [events, requests, messages, count, shown] = [0; 5].map(|_| Arc::clone(&ticks));
    let server = Server::new(Config { shards: 1, ..config })
        .namespace("/", move |io| {
            let (events, count) = (Arc::clone(&events), Arc::clone(&count));
            io.on("tick", move |_: &mut Context<'_>| {
                events.fetch_add(1, Ordering::Relaxed);
            });
            io.on("count", move |_: &mut Context<'_>| count.load(Ordering::Relaxed));
            io.on("ask", |_: &mut Context<'_>, bytes: usize| "x".repeat(bytes));
            io.on_async("slow", |_: Socket, _: String| async { sleep(Duration::from_secs(20)).await });
        })
        .route("/tick", move |_| {
            requests.fetch_add(1, Ordering::Relaxed);
            Response::text("")
        })
        .route("/count", move |_| Response::text(shown.load(Ordering::Relaxed).to_string()))
        .websocket("/raw", move |route| {
            let messages = Arc::clone(&messages);
            route.on_message(move |_, _: Message<'_>| {
                messages.fetch_add(1, Ordering::Relaxed);
            });
        });
    TestServer::new(server).expect("the server is sound")
}

fn connect(server: &TestServer) -> TestClient {
    server.connect("/").expect("everybody may")
}

fn count(client: &TestClient) -> u64 {
    client.call("count", ()).and_then(|answer| answer.first().ok()).expect("a number")
}

fn masked(texts: impl Iterator<Item = String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    texts.for_each(|text| frame::append_masked(&mut bytes, Opcode::Text, text.as_bytes(), [0; 4]));
    bytes
}

/// Writes as a client that has no session of ours, and lets nothing happen yet.
fn dial(server: &TestServer, bytes: &[u8]) -> WireId {
    let mut host = server.host.borrow_mut();
    let wire = host.dial(0, Peer::Unix);
    host.write(wire, bytes);
    wire
}

fn arrived(server: &TestServer, wire: WireId) -> String {
    String::from_utf8_lossy(&std::mem::take(server.host.borrow_mut().arrived(wire))).into_owned()
}

fn settle(server: &TestServer) {
    server.host.borrow_mut().settle();
}

const UPGRADE: &str = "GET /raw HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Opens a polling session in `/`; returns its id.
fn open_polling(server: &TestServer) -> String {
    let wire = dial(server, b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(server);
    let opened = arrived(server, wire);
    let (_, rest) = opened.split_once("\"sid\":\"").expect("a session opens");
    let sid = rest.split('"').next().expect("an id").to_owned();
    let wire = dial(server, post(&sid, "40").as_bytes());
    settle(server);
    assert!(arrived(server, wire).ends_with("ok"));
    sid
}

fn post(sid: &str, body: &str) -> String {
    format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn whoever_sends_much_at_once_has_a_share_of_each_turn() {
    let ticks = (0..EVENTS).map(|_| "42[\"tick\"]".to_owned());
    type Busy = fn(&TestServer) -> Vec<u8>;
    let ways: [(&str, Busy); 3] = [
        ("requests", |_| b"GET /tick HTTP/1.1\r\nHost: a\r\n\r\n".repeat(EVENTS as usize)),
        ("raw", |_| [UPGRADE.as_bytes(), &masked((0..EVENTS).map(|n| n.to_string()))].concat()),
        ("post", |server| {
            let body = vec!["42[\"tick\"]"; EVENTS as usize].join("\x1e");
            post(&open_polling(server), &body).into_bytes()
        }),
    ];
    for (way, busy) in ways {
        let server = server(Config::default());
        let (other, bytes) = (connect(&server), busy(&server));
        let wire = dial(&server, &bytes);
        let asked = dial(&server, b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
        // The round in which both arrive, and no further one.
        server.host.borrow_mut().carry_once();
        server.host.borrow_mut().carry_once();
        let text = arrived(&server, asked);
        let before: u64 = text.rsplit("\r\n\r\n").next().and_then(|body| body.parse().ok()).expect("a count");
        assert!((1..=BEFORE_MAX).contains(&before), "{way}: {before} were handled before somebody else");
        settle(&server);
        assert_eq!(count(&other), EVENTS, "{way}: none is lost");
        let answers = arrived(&server, wire).matches("HTTP/1.1 200").count();
        assert_eq!(
            answers,
            match way {
                "requests" => EVENTS as usize,
                "post" => 1,
                _ => 0,
            },
            "{way}"
        );
    }
    let server = server(Config::default());
    let (busy, other) = (connect(&server), connect(&server));
    let wire = server.host.borrow().sessions[0].wire;
    server.host.borrow_mut().write(wire, &masked(ticks));
    let before = count(&other);
    assert!(before < EVENTS / 2, "{before}: it takes a few rounds to ask and to be answered");
    settle(&server);
    assert_eq!((count(&other), busy.is_connected()), (EVENTS, true));
}

/// A server that says in which order things happen. `hold` takes a moment, then its end is said.
fn telling() -> (TestServer, crossbeam_channel::Receiver<String>) {
    let (teller, told) = crossbeam_channel::unbounded();
    let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", move |io| {
        let [number, held, gone] = [0; 3].map(|_| teller.clone());
        let tell = |teller: &crossbeam_channel::Sender<String>, text: String| {
            teller.send(text).expect("the test listens");
        };
        io.on("number", move |_: &mut Context<'_>, of: u64| tell(&number, of.to_string()));
        io.on_async("hold", move |_: Socket, name: String| {
            let held = held.clone();
            async move {
                sleep(Duration::from_millis(10)).await;
                tell(&held, name);
            }
        });
        io.on("bye", |cx: &mut Context<'_>| cx.disconnect());
        io.on_disconnect(move |_: &mut Context<'_>, reason: CloseReason| tell(&gone, reason.to_string()));
    });
    (TestServer::new(server).expect("the server is sound"), told)
}

/// Sends these packets at once, by WebSocket or in one POST; returns the client, who must stay.
fn send_all(server: &TestServer, is_polling: bool, packets: &[String]) -> Option<TestClient> {
    if is_polling {
        dial(server, post(&open_polling(server), &packets.join("\x1e")).as_bytes());
        settle(server);
        return None;
    }
    let client = connect(server);
    let wire = server.host.borrow().sessions.last().expect("it has connected").wire;
    server.host.borrow_mut().write(wire, &masked(packets.iter().cloned()));
    settle(server);
    Some(client)
}

#[test]
fn what_waits_behind_a_handler_has_a_share_of_each_turn_and_keeps_its_order() {
    for is_polling in [false, true] {
        let (server, told) = telling();
        let numbers = (0..EVENTS).map(|number| format!("42[\"number\",{number}]"));
        let packets: Vec<String> =
            std::iter::once("42[\"hold\",\"busy\"]".to_owned()).chain(numbers).collect();
        let busy = send_all(&server, is_polling, &packets);
        let other = connect(&server);
        other.emit("hold", "other");
        assert_eq!(told.len(), 0, "both handlers take their time");
        server.advance(Duration::from_millis(10));
        let told: Vec<String> = told.try_iter().collect();
        let place = told.iter().position(|text| text == "other").expect("the other's handler is done");
        assert!(
            place <= 1 + usize::from(SHARE_EVENTS_MAX),
            "polling: {is_polling}: {place} things came before"
        );
        let expected = (0..EVENTS).map(|number| number.to_string());
        assert_eq!(told[0], "busy");
        assert!(told[1..].iter().filter(|text| *text != "other").eq(&expected.collect::<Vec<_>>()));
        drop(busy);
    }
}

#[test]
fn nothing_is_taken_up_after_an_end_in_the_middle() {
    for is_polling in [false, true] {
        for end in ["42[\"bye\"]", "41"] {
            let (server, told) = telling();
            let number = |number: u64| format!("42[\"number\",{number}]");
            let mut packets = vec!["42[\"hold\",\"busy\"]".to_owned()];
            packets.extend((0..100).map(number));
            packets.push(end.to_owned());
            packets.extend((100..200).map(number));
            let busy = send_all(&server, is_polling, &packets);
            server.advance(Duration::from_millis(10));
            let told: Vec<String> = told.try_iter().collect();
            if end == "41" {
                // Its client has left while the handler still ran: what waited goes with the socket.
                assert_eq!(told, ["client namespace disconnect", "busy"], "polling: {is_polling}");
            } else {
                let expected = (0..100).map(|number| number.to_string());
                let expected: Vec<String> = std::iter::once("busy".to_owned()).chain(expected).collect();
                assert_eq!(told[..101], expected);
                assert_eq!(told[101..], ["server namespace disconnect"], "polling: {is_polling}");
            }
            drop(busy);
        }
    }
}

#[test]
fn what_was_sent_before_a_connection_ends_is_handled() {
    let server = server(Config::default());
    let (busy, other) = (connect(&server), connect(&server));
    let wire = server.host.borrow().sessions[0].wire;
    let ticks = masked((0..EVENTS).map(|_| "42[\"tick\"]".to_owned()));
    server.host.borrow_mut().write(wire, &ticks);
    server.host.borrow_mut().drop_wire(wire);
    settle(&server);
    assert_eq!(count(&other), EVENTS);
    assert_eq!(server.handle().stats()[0].sessions, 1, "and then it is gone");
    drop(busy);
}

#[test]
fn a_post_with_a_fault_is_handled_up_to_it_also_in_several_turns() {
    let server = server(Config::default());
    let (other, sid) = (connect(&server), open_polling(&server));
    let body = vec!["42[\"tick\"]"; 100].join("\x1e") + "\x1e!\x1e42[\"tick\"]";
    let wire = dial(&server, post(&sid, &body).as_bytes());
    settle(&server);
    assert!(arrived(&server, wire).starts_with("HTTP/1.1 400"));
    assert_eq!((count(&other), server.handle().stats()[0].sessions), (100, 1));
}

#[test]
fn who_asks_for_much_and_does_not_read_yet_is_slowed_and_not_closed() {
    let config = Config { outbox_bytes_max: 1_000_000, ..Config::default() };
    let server = server(config);
    let client = connect(&server);
    let wire = server.host.borrow().sessions[0].wire;
    client.set_reading(false);
    let asking = masked((0..100).map(|id| format!("42{id}[\"ask\",100000]")));
    server.host.borrow_mut().write(wire, &asking);
    settle(&server);
    let owed = server.handle().stats()[0].owed_bytes;
    assert!((500_000..=700_000).contains(&owed), "it asked for 10 MB, and is owed {owed}");
    assert!(client.is_connected());
    client.set_reading(true);
    settle(&server);
    let host = server.host.borrow();
    let answers = &host.sessions[0].answers;
    assert_eq!(answers.len(), 100);
}

#[test]
fn who_reads_slowly_what_it_asked_for_is_alive_although_it_is_not_heard() {
    let config = Config { outbox_bytes_max: 1_000_000, ..Config::default() };
    let server = server(config);
    let client = connect(&server);
    let wire = server.host.borrow().sessions[0].wire;
    client.answer_pings(false);
    client.set_reading(false);
    server.host.borrow_mut().write(wire, &masked((0..400).map(|id| format!("42{id}[\"ask\",100000]"))));
    settle(&server);
    // Each half minute it takes a part: a ping waits behind what it is owed, and its answer behind what it asked.
    for _ in 0..4 {
        server.host.borrow_mut().take_part(wire, 50_000);
        server.advance(Duration::from_secs(20));
        assert!(client.is_connected());
    }
    server.advance(Duration::from_secs(120));
    assert!(!client.is_connected(), "who takes nothing at all any more is lost");
}

/// A message of 90,000 bytes without its end, in one of five ways, and what one message may have.
fn unfinished(way: &str, server: &TestServer) -> Vec<u8> {
    const BYTES: usize = 90_000;
    let text = "x".repeat(BYTES);
    let in_frame = || {
        let mut bytes = UPGRADE.as_bytes().to_vec();
        frame::append_masked(&mut bytes, Opcode::Text, text.as_bytes(), [0; 4]);
        bytes
    };
    let mut bytes = match way {
        "frame" => in_frame(),
        "fragment" => {
            // The first part of a message, and no other.
            let mut bytes = in_frame();
            bytes[UPGRADE.len()] &= 0x7f;
            return bytes;
        }
        "body" => post(&open_polling(server), &text).into_bytes(),
        "chunked" => {
            let sid = open_polling(server);
            let head = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n");
            return format!("{head}Transfer-Encoding: chunked\r\n\r\n{BYTES:x}\r\n{text}\r\n").into_bytes();
        }
        _ => {
            let places = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
            let body = format!("452-[\"tick\",{places}]\x1eb{}", "A".repeat(BYTES / 3 * 4));
            return post(&open_polling(server), &body).into_bytes();
        }
    };
    bytes.pop();
    bytes
}

#[test]
fn messages_that_never_end_are_bounded_together() {
    for way in ["frame", "fragment", "body", "chunked", "attachments"] {
        let max_http_buffer_size = if way == "attachments" { 200_000 } else { 100_000 };
        let engine = EngineOptions { max_http_buffer_size, ..EngineOptions::default() };
        // Its least: four messages of the greatest size.
        let server = server(Config { partial_bytes_max: 1, engine, ..Config::default() });
        let other = connect(&server);
        for _ in 0..40 {
            let bytes = unfinished(way, &server);
            dial(&server, &bytes);
            settle(&server);
        }
        let stats = server.handle().stats()[0];
        let bytes_max = 4 * max_http_buffer_size as u64;
        assert!((90_000..=bytes_max).contains(&stats.partial_bytes), "{way}: {}", stats.partial_bytes);
        assert!(stats.partial_closed >= 30, "{way}: {} are closed", stats.partial_closed);
        assert_eq!(count(&other), 0, "{way}: who keeps nothing of that kind stays");
    }
}

#[test]
fn events_that_wait_behind_handlers_are_bounded_together() {
    let engine = EngineOptions { max_http_buffer_size: 100_000, ..EngineOptions::default() };
    let server = server(Config { partial_bytes_max: 1, engine, ..Config::default() });
    let other = connect(&server);
    let clients: Vec<TestClient> = (0..40).map(|_| connect(&server)).collect();
    for (index, client) in clients.iter().enumerate() {
        // The first is handled, the others wait: far less than `pending_bytes_max` for each client.
        for _ in 0..3 {
            client.emit("slow", "x".repeat(30_000 + index));
        }
        settle(&server);
        let stats = server.handle().stats()[0];
        assert!(stats.partial_bytes <= 400_000, "{}", stats.partial_bytes);
    }
    let stats = server.handle().stats()[0];
    assert!(stats.partial_bytes >= 300_000, "{}", stats.partial_bytes);
    assert!(stats.partial_closed >= 30, "{} are closed", stats.partial_closed);
    assert_eq!(count(&other), 0, "who keeps nothing of that kind stays");
    server.advance(Duration::from_secs(61));
    assert_eq!(server.handle().stats()[0].partial_bytes, 0, "what is handled counts no more");
}
