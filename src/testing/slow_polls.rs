//! Clients that ask for much by long-polling and take it slowly: they are slowed and get all, and none waits for itself.

use std::time::Duration;

use crate::http::Response;
use crate::protocol::websocket::frame::{self, Opcode, server_frames};
use crate::shard::bounds::POST_PAUSE_MAX;
use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::{Config, Context, Peer, Server, Socket, sleep};

const OUTBOX_BYTES_MAX: usize = 1_000_000;

/// Bytes of each answer.
const ANSWER_BYTES: usize = 10_000;

/// So many answers are more than half of what a client may be owed, and less than all of it.
const SOME: u64 = 80;

/// What a paused client may be owed: half of the bound, and what one more packet makes.
const PAUSED_BYTES_MAX: u64 = OUTBOX_BYTES_MAX as u64 / 2 + 2 * ANSWER_BYTES as u64;

/// A pause, and how late the wheel may be.
const PAUSE: Duration = POST_PAUSE_MAX.saturating_add(Duration::from_millis(60));

/// `ask` is answered with so many bytes; `hold` takes a moment.
fn server() -> TestServer {
    let mut config = Config { shards: 1, outbox_bytes_max: OUTBOX_BYTES_MAX, ..Config::default() };
    config.engine.allow_eio3 = true;
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on("ask", |_: &mut Context<'_>, bytes: usize| "x".repeat(bytes));
            io.on_async("hold", |_: Socket| async { sleep(Duration::from_millis(10)).await });
        })
        .route("/here", |_| Response::text("here"));
    TestServer::new(server).expect("the server is sound")
}

fn owed(server: &TestServer) -> u64 {
    server.handle().stats()[0].owed_bytes
}

fn sessions(server: &TestServer) -> u64 {
    server.handle().stats()[0].sessions
}

fn settle(server: &TestServer) {
    server.host.borrow_mut().settle();
}

fn write(server: &TestServer, wire: WireId, bytes: &[u8]) {
    server.host.borrow_mut().write(wire, bytes);
}

/// The body of the first whole answer that has arrived on a wire.
fn body(server: &TestServer, wire: WireId) -> Option<String> {
    let mut host = server.host.borrow_mut();
    let arrived = host.arrived(wire);
    let text = std::str::from_utf8(arrived).expect("text");
    let (head, rest) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let (_, len) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).expect("a length");
    let len: usize = len.parse().expect("a number");
    let body = rest.get(..len)?.to_owned();
    let used = head.len() + 4 + len;
    arrived.drain(..used);
    Some(body)
}

/// A long-polling client: a wire for its polls, another one for its POSTs.
struct Poller<'a> {
    server: &'a TestServer,
    revision: u8,
    sid: String,
    polls: WireId,
    posts: WireId,
    /// A poll is under way.
    is_polling: bool,
    /// The ids of the answers that came, in order.
    answered: Vec<u64>,
}

impl<'a> Poller<'a> {
    /// Opens a session in `/`.
    fn open(server: &'a TestServer, revision: u8) -> Poller<'a> {
        let [polls, posts] = [0; 2].map(|_| server.host.borrow_mut().dial(0, Peer::Unix));
        let mut poller = Poller {
            server,
            revision,
            sid: String::new(),
            polls,
            posts,
            is_polling: false,
            answered: Vec::new(),
        };
        poller.poll();
        settle(server);
        let opened = body(server, polls).expect("a session opens");
        poller.is_polling = false;
        poller.sid = opened.split('"').nth(3).expect("an id").to_owned();
        if revision == 4 {
            poller.post(["40".to_owned()].into_iter());
            assert!(poller.is_posted());
        }
        poller.poll();
        settle(server);
        assert!(poller.take(), "it is told that it is connected");
        poller
    }

    fn target(&self) -> String {
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        format!("/socket.io/?EIO={}&transport=polling{sid}", self.revision)
    }

    /// Sends a GET, unless one is under way; nothing happens yet.
    fn poll(&mut self) {
        if !std::mem::replace(&mut self.is_polling, true) {
            write(self.server, self.polls, self.get().as_bytes());
        }
    }

    fn get(&self) -> String {
        format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", self.target())
    }

    /// Takes the answer of a poll, if it has arrived.
    fn take(&mut self) -> bool {
        let Some(text) = body(self.server, self.polls) else { return false };
        self.is_polling = false;
        let packets: Vec<String> = match self.revision {
            4 => text.split('\x1e').map(str::to_owned).collect(),
            _ => {
                let (mut rest, mut packets) = (text.as_str(), Vec::new());
                while let Some((len, after)) = rest.split_once(':') {
                    let (packet, after) = after.split_at(len.parse().expect("a length"));
                    packets.push(packet.to_owned());
                    rest = after;
                }
                packets
            }
        };
        packets.iter().for_each(|packet| self.note(packet));
        true
    }

    fn note(&mut self, packet: &str) {
        let Some((id, _)) = packet.strip_prefix("43").and_then(|ack| ack.split_once('[')) else { return };
        self.answered.push(id.parse().expect("an id"));
    }

    /// Sends packets in one POST, and lets happen what happens at once.
    fn post(&self, packets: impl Iterator<Item = String>) {
        let body = match self.revision {
            4 => packets.collect::<Vec<_>>().join("\x1e"),
            _ => packets.map(|packet| format!("{}:{packet}", packet.len())).collect(),
        };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            self.target(),
            body.len()
        );
        write(self.server, self.posts, (head + &body).as_bytes());
        settle(self.server);
    }

    /// Whether the POST is answered.
    fn is_posted(&self) -> bool {
        body(self.server, self.posts).is_some()
    }

    /// Has a poll pending, and asks for so many answers.
    fn ask_beside_a_poll(&mut self, count: u64) {
        self.poll();
        settle(self.server);
        self.post(asks(0..count));
    }

    /// Polls at once, again and again, until nothing more comes.
    fn take_all(&mut self) {
        loop {
            settle(self.server);
            if !self.take() {
                return;
            }
            self.poll();
        }
    }
}

fn asks(ids: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    ids.map(|id| format!("42{id}[\"ask\",{ANSWER_BYTES}]"))
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[test]
fn who_asks_for_much_and_polls_slowly_gets_all_in_order() {
    const ASKED: u64 = 2_000;
    for revision in [4, 3] {
        let server = server();
        let mut client = Poller::open(&server, revision);
        client.ask_beside_a_poll(ASKED);
        // Sixteen answers each second, for two minutes: its pings are not answered, because its POST is not.
        let mut is_posted = false;
        for second in 0..ASKED / 16 + 2 {
            // What its last poll took is on its way.
            let owed = owed(&server);
            assert!(owed <= PAUSED_BYTES_MAX, "revision {revision}: it asked for 20 MB, and is owed {owed}");
            assert_eq!(sessions(&server), 1, "revision {revision}: it has polled for {second} s");
            client.take();
            if !is_posted && client.is_posted() {
                is_posted = true;
                client.post(std::iter::once(if revision == 4 { "3" } else { "2" }.to_owned()));
            }
            client.poll();
            server.advance(Duration::from_secs(1));
        }
        client.take_all();
        assert_eq!(client.answered, all(ASKED), "revision {revision}");
        assert!(client.is_posted(), "the one with its answer to the pings, too");
    }
}

#[test]
fn who_takes_long_over_one_answer_is_not_given_a_share_meanwhile() {
    let server = server();
    let mut client = Poller::open(&server, 4);
    client.poll();
    settle(&server);
    server.host.borrow_mut().set_reading(client.polls, false);
    client.post(asks(0..500));
    let at_first = owed(&server);
    for _ in 0..20 {
        server.advance(Duration::from_secs(3));
        server.host.borrow_mut().take_part(client.polls, 5_000);
        settle(&server);
        assert!(owed(&server) <= at_first, "{} and no more", owed(&server));
    }
    assert_eq!(sessions(&server), 1, "it takes what it is owed, so it is alive");
    server.host.borrow_mut().set_reading(client.polls, true);
    client.take_all();
    assert_eq!((client.answered.as_slice(), client.is_posted()), (all(500).as_slice(), true));
}

#[test]
fn who_never_polls_again_has_a_share_now_and_then_and_is_closed_at_the_bound() {
    let server = server();
    let mut client = Poller::open(&server, 4);
    client.ask_beside_a_poll(2_000);
    assert!((450_000..=PAUSED_BYTES_MAX).contains(&owed(&server)), "{}", owed(&server));
    for pauses in 1..=60 {
        server.advance(PAUSE);
        let owed = owed(&server);
        assert!(owed <= OUTBOX_BYTES_MAX as u64 + ANSWER_BYTES as u64, "{owed}");
        assert!(owed <= PAUSED_BYTES_MAX + pauses * 17 * ANSWER_BYTES as u64, "a share each time: {owed}");
    }
    assert_eq!((sessions(&server), owed(&server)), (0, 0));
    assert_eq!(server.handle().stats()[0].slow_consumers_closed, 1);
    assert!(client.is_posted(), "its POST is answered with its end");
}

#[test]
fn who_polls_after_its_posts_does_not_wait_for_itself() {
    let server = server();
    let mut client = Poller::open(&server, 4);
    client.posts = client.polls;
    for round in 1..=3 {
        client.answered.clear();
        client.post(asks(0..SOME));
        assert!(client.is_posted(), "round {round}: it has never polled beside a POST");
        while client.answered.len() < SOME as usize {
            client.poll();
            settle(&server);
            assert!(client.take());
        }
        assert_eq!(client.answered, all(SOME), "round {round}");
    }
}

#[test]
fn who_stops_polling_beside_its_posts_waits_for_some_pauses_only() {
    let server = server();
    let mut client = Poller::open(&server, 4);
    client.ask_beside_a_poll(SOME + 16);
    assert!(!client.is_posted(), "it has been seen to poll beside a POST");
    server.advance(PAUSE);
    assert!(!client.is_posted());
    server.advance(PAUSE);
    assert!(client.is_posted(), "two shares were left");
    client.take_all();
    assert_eq!(client.answered, all(SOME + 16));
}

/// Dials with a WebSocket that asks to take over.
fn probe(client: &Poller<'_>) -> WireId {
    let wire = client.server.host.borrow_mut().dial(0, Peer::Unix);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        client.target().replace("polling", "websocket")
    );
    write(client.server, wire, request.as_bytes());
    settle(client.server);
    wire
}

fn say(client: &Poller<'_>, wire: WireId, text: &str) {
    let mut bytes = Vec::new();
    frame::append_masked(&mut bytes, Opcode::Text, text.as_bytes(), [0; 4]);
    write(client.server, wire, &bytes);
    settle(client.server);
}

/// Takes what has arrived by WebSocket.
fn take_frames(client: &mut Poller<'_>, wire: WireId) {
    let arrived = std::mem::take(client.server.host.borrow_mut().arrived(wire));
    let end = arrived.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer") + 4;
    for (_, packet) in server_frames(&arrived[end..]) {
        client.note(std::str::from_utf8(packet).expect("text"));
    }
}

#[test]
fn who_switches_to_a_websocket_while_its_post_waits_does_not_wait_for_itself() {
    for is_waiting_for_its_post in [true, false] {
        let server = server();
        let mut client = Poller::open(&server, 4);
        client.ask_beside_a_poll(SOME);
        assert!(!client.is_posted());
        let wire = probe(&client);
        if is_waiting_for_its_post {
            say(&client, wire, "2probe");
            assert!(client.is_posted(), "from here on it does not poll any more");
        }
        say(&client, wire, "5");
        if !is_waiting_for_its_post {
            assert!(client.is_posted());
        }
        client.take();
        take_frames(&mut client, wire);
        assert_eq!(client.answered, all(SOME));
        assert_eq!(sessions(&server), 1);
    }
}

#[test]
fn the_end_of_a_session_answers_its_post_that_waits() {
    type End = fn(&Poller<'_>);
    let ends: [(&str, End); 3] = [
        ("a second poll", |client| {
            let other = client.server.host.borrow_mut().dial(0, Peer::Unix);
            write(client.server, client.polls, client.get().as_bytes());
            write(client.server, other, client.get().as_bytes());
        }),
        ("the server's", |client| drop(client.server.handle().namespace("/").close())),
        ("the shard's", |client| client.server.host.borrow_mut().stop()),
    ];
    for (name, end) in ends {
        let server = server();
        let mut client = Poller::open(&server, 4);
        client.ask_beside_a_poll(SOME);
        assert!(!client.is_posted(), "{name}");
        end(&client);
        settle(&server);
        assert!(client.is_posted(), "{name}");
        let stats = server.handle().stats()[0];
        assert_eq!((stats.sessions, stats.partial_bytes), (0, 0), "{name}");
    }
}

#[test]
fn the_end_of_its_connection_loses_nothing_of_a_post_that_waits() {
    for is_half in [false, true] {
        let server = server();
        let mut client = Poller::open(&server, 4);
        client.ask_beside_a_poll(200);
        let connections = server.handle().stats()[0].connections;
        if is_half {
            server.host.borrow_mut().end_wire(client.posts);
        } else {
            server.host.borrow_mut().drop_wire(client.posts);
        }
        client.take_all();
        assert_eq!(client.answered, all(200), "half closed: {is_half}");
        assert_eq!(client.is_posted(), is_half);
        assert_eq!(server.handle().stats()[0].connections, connections - 1);
        assert_eq!(sessions(&server), 1);
    }
}

#[test]
fn what_waits_behind_a_handler_waits_for_polls_too() {
    for is_beside in [true, false] {
        let server = server();
        let mut client = Poller::open(&server, 4);
        if is_beside {
            client.poll();
            settle(&server);
        }
        client.post(std::iter::once("42[\"hold\"]".to_owned()).chain(asks(0..300)));
        assert!(client.is_posted(), "its events wait behind the handler");
        server.advance(Duration::from_millis(10));
        assert!(owed(&server) <= PAUSED_BYTES_MAX, "it asked for 3 MB, and is owed {}", owed(&server));
        let count = if is_beside { 310 } else { 300 };
        if is_beside {
            // What it sends next is behind that.
            client.post(asks(300..count));
        }
        client.poll();
        client.take_all();
        assert_eq!(client.answered, all(count), "beside: {is_beside}");
        assert_eq!(client.is_posted(), is_beside);
    }
}
