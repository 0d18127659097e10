//! Clients that send more than they may in a second, on every wire: slowed, with all in order; or without what is too much; or closed.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::protocol::websocket::frame::{self, Opcode};
use crate::shard::value::share::UNREAD_BYTES_MAX;
use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::{CloseReason, Config, Context, Message, Peer, RatePolicy, Server};

const SECOND: Duration = Duration::from_secs(1);

/// A wait is over with the next tick of the wheel.
const TICK: Duration = Duration::from_millis(60);

/// Messages a second in most tests here.
const RATE: usize = 10;

/// What the handlers of all wires were given, and how their clients ended.
#[derive(Clone)]
struct Seen {
    noted: Sender<String>,
    taken: Receiver<String>,
}

impl Seen {
    fn new() -> Seen {
        let (noted, taken) = unbounded();
        Seen { noted, taken }
    }

    fn note(&self, text: String) {
        self.noted.send(text).expect("there is a receiver");
    }

    fn take(&self) -> Vec<String> {
        self.taken.try_iter().collect()
    }
}

fn serve(config: Config) -> (TestServer, Seen) {
    let seen = Seen::new();
    let mut config = Config { shards: 1, ..config };
    config.engine.allow_eio3 = true;
    let [events, ends, raw, raw_ends, engine, engine_ends] = [0; 6].map(|_| seen.clone());
    let server = Server::new(config)
        .namespace("/", move |io| {
            let (events, ends) = (events.clone(), ends.clone());
            io.on("tick", move |_: &mut Context<'_>, number: u64| {
                events.note(number.to_string());
                number
            });
            io.on_disconnect(move |_: &mut Context<'_>, reason: CloseReason| ends.note(reason.to_string()));
        })
        .namespace("/side", |_| {})
        .websocket("/raw", move |route| {
            let (raw, raw_ends) = (raw.clone(), raw_ends.clone());
            route.on_message(move |_, message: Message<'_>| match message {
                Message::Text(text) => raw.note(text.to_owned()),
                Message::Binary(bytes) => raw.note(bytes.len().to_string()),
            });
            route.on_close(move |_| raw_ends.note("closed".to_owned()));
        })
        .engine("/engine.io/", move |route| {
            let (engine, engine_ends) = (engine.clone(), engine_ends.clone());
            route.on_message(move |_, message: Message<'_>| match message {
                Message::Text(text) => engine.note(text.to_owned()),
                Message::Binary(bytes) => engine.note(bytes.len().to_string()),
            });
            route.on_close(move |_, reason| engine_ends.note(reason.to_string()));
        });
    (TestServer::new(server).expect("the server is sound"), seen)
}

/// A client that writes its own bytes.
struct Raw<'a> {
    server: &'a TestServer,
    kind: Kind,
    wire: WireId,
    target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    WebSocket,
    WebSocket3,
    Polling,
    Polling3,
    Engine,
    RawRoute,
}

const KINDS: [Kind; 6] =
    [Kind::WebSocket, Kind::WebSocket3, Kind::Polling, Kind::Polling3, Kind::Engine, Kind::RawRoute];

impl Kind {
    /// What its client has sent before its first event: what joins a namespace.
    fn joins(self) -> usize {
        usize::from(matches!(self, Kind::WebSocket | Kind::Polling))
    }

    fn is_polling(self) -> bool {
        matches!(self, Kind::Polling | Kind::Polling3)
    }

    fn event(self, number: usize) -> String {
        match self {
            Kind::RawRoute => number.to_string(),
            Kind::Engine => format!("4{number}"),
            _ => format!("42[\"tick\",{number}]"),
        }
    }
}

impl<'a> Raw<'a> {
    fn open(server: &'a TestServer, kind: Kind) -> Raw<'a> {
        let wire = server.host.borrow_mut().dial(0, Peer::Unix);
        let target = match kind {
            Kind::WebSocket => "/socket.io/?EIO=4&transport=websocket",
            Kind::WebSocket3 => "/socket.io/?EIO=3&transport=websocket",
            Kind::Polling => "/socket.io/?EIO=4&transport=polling",
            Kind::Polling3 => "/socket.io/?EIO=3&transport=polling",
            Kind::Engine => "/engine.io/?EIO=4&transport=websocket",
            Kind::RawRoute => "/raw",
        };
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let headers = if kind.is_polling() { "" } else { upgrade };
        let mut raw = Raw { server, kind, wire, target: target.to_owned() };
        raw.write(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes());
        let answer = raw.arrived();
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 101"), "{answer}");
        if kind.is_polling() {
            let sid = answer.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
            raw.target = format!("{target}&sid={}", sid.expect("an id"));
        }
        if kind.joins() > 0 {
            raw.send(["40".to_owned()].into_iter());
        }
        raw.arrived();
        raw
    }

    fn write(&self, bytes: &[u8]) {
        let mut host = self.server.host.borrow_mut();
        host.write(self.wire, bytes);
        host.settle();
    }

    fn arrived(&self) -> String {
        let mut host = self.server.host.borrow_mut();
        String::from_utf8_lossy(&std::mem::take(host.arrived(self.wire))).into_owned()
    }

    /// Sends packets all at once: in one POST, or a frame each.
    fn send(&self, packets: impl Iterator<Item = String>) {
        let bytes = match self.kind {
            Kind::Polling | Kind::Polling3 => {
                let body = match self.kind {
                    Kind::Polling => packets.collect::<Vec<_>>().join("\x1e"),
                    _ => packets.map(|packet| format!("{}:{packet}", packet.len())).collect(),
                };
                let head = format!(
                    "POST {} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                    self.target,
                    body.len()
                );
                (head + &body).into_bytes()
            }
            _ => {
                let mut bytes = Vec::new();
                packets.for_each(|packet| {
                    frame::append_masked(&mut bytes, Opcode::Text, packet.as_bytes(), [0; 4]);
                });
                bytes
            }
        };
        self.write(&bytes);
    }

    fn tick(&self, numbers: std::ops::Range<usize>) {
        self.send(numbers.map(|number| self.kind.event(number)));
    }

    /// Lets time pass as a client that answers pings, by their due.
    fn wait(&self, time: Duration) {
        self.server.advance(time);
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn stats(server: &TestServer) -> crate::ShardStats {
    server.handle().stats()[0]
}

fn config(policy: RatePolicy) -> Config {
    Config { events_per_second_max: RATE, rate_policy: policy, ..Config::default() }
}

#[test]
fn who_sends_too_much_waits_and_loses_nothing_on_every_wire() {
    for kind in KINDS {
        let (server, seen) = serve(config(RatePolicy::Delay));
        let (client, other) = (Raw::open(&server, kind), server.connect("/").expect("there is room"));
        client.tick(0..35);
        let at_once = RATE - kind.joins();
        assert_eq!(seen.take(), numbers(0..at_once), "{kind:?}");
        // Whoever sends little notices nothing.
        let answer = other.call("tick", 777).and_then(|answer| answer.first::<u64>().ok());
        assert_eq!((answer, seen.take()), (Some(777), vec!["777".to_owned()]), "{kind:?}");
        client.wait(SECOND + TICK);
        assert_eq!(seen.take(), numbers(at_once..at_once + RATE), "{kind:?}");
        if kind.is_polling() {
            assert!(
                !client.arrived().contains("ok"),
                "{kind:?}: the POST is answered when all of it is handled"
            );
        }
        client.wait(2 * SECOND);
        assert_eq!(seen.take(), numbers(at_once + RATE..35), "{kind:?}");
        if kind.is_polling() {
            assert!(client.arrived().ends_with("ok"), "{kind:?}");
        }
        let figures = stats(&server);
        assert!(figures.rate_delays >= 20 && figures.rate_drops + figures.rate_closes == 0, "{kind:?}");
        // After a pause it may send as much at once as at first.
        client.wait(3 * SECOND);
        client.tick(35..35 + RATE);
        assert_eq!(seen.take(), numbers(35..35 + RATE), "{kind:?}");
    }
}

#[test]
fn a_client_that_waits_is_read_no_further_than_a_bound_and_its_end_ends_the_wait() {
    for kind in [Kind::WebSocket, Kind::Engine, Kind::RawRoute] {
        let (server, seen) = serve(config(RatePolicy::Delay));
        let client = Raw::open(&server, kind);
        let long = "x".repeat(5000);
        let packet =
            if kind == Kind::WebSocket { format!("42[\"other\",\"{long}\"]") } else { format!("4{long}") };
        client.send((0..20).map(|_| packet.clone()));
        let unread = stats(&server).partial_bytes;
        assert!(unread > 40_000 && unread < UNREAD_BYTES_MAX as u64, "{kind:?}: {unread}");
        client.send((0..20).map(|_| packet.clone()));
        let unread = stats(&server).partial_bytes;
        client.send((0..20).map(|_| packet.clone()));
        assert_eq!(stats(&server).partial_bytes, unread, "{kind:?}: no more is read");
        // Below the bound it is read on, and then its end is seen.
        server.advance(10 * SECOND);
        assert!(stats(&server).partial_bytes < UNREAD_BYTES_MAX as u64);
        seen.take();
        client.tick(90..120);
        server.host.borrow_mut().drop_wire(client.wire);
        server.advance(Duration::ZERO);
        let figures = stats(&server);
        assert_eq!((figures.connections, figures.sessions, figures.partial_bytes), (0, 0, 0), "{kind:?}");
        let last = seen.take();
        assert!(last.contains(&"119".to_owned()), "{kind:?}: what came before the end is handled: {last:?}");
    }
}

#[test]
fn a_client_that_waits_for_longer_than_a_ping_is_not_taken_for_dead() {
    for kind in KINDS {
        let mut slow = config(RatePolicy::Delay);
        slow.events_per_second_max = 1;
        let (server, seen) = serve(slow);
        let client = Raw::open(&server, kind);
        client.tick(0..100);
        for _ in 0..4 {
            // A poll that is pending is how a client that polls is seen to be there; none of them answers a ping in this time.
            client.wait(25 * SECOND);
        }
        let ticks = seen.take();
        assert!(ticks.len() > 95, "{kind:?}: {} were handled, the last {:?}", ticks.len(), ticks.last());
        assert_eq!(ticks, numbers(0..ticks.len()), "{kind:?}");
    }
}

#[test]
fn what_is_too_much_is_dropped_and_counted_and_nothing_else_is() {
    for kind in KINDS {
        let (server, seen) = serve(config(RatePolicy::Drop));
        let client = Raw::open(&server, kind);
        client.tick(0..35);
        let at_once = RATE - kind.joins();
        assert_eq!(seen.take(), numbers(0..at_once), "{kind:?}");
        assert_eq!(stats(&server).rate_drops, 35 - at_once as u64, "{kind:?}");
        client.wait(SECOND / 2 + TICK);
        client.tick(35..45);
        assert_eq!(seen.take(), numbers(35..40), "{kind:?}: what came back in half a second");
        // A packet that joins is not dropped, but what follows it waits its time.
        if kind == Kind::WebSocket || kind == Kind::Polling {
            client.arrived();
            client.send(["40/side,".to_owned(), kind.event(90)].into_iter());
            assert_eq!((stats(&server).sockets, seen.take().len()), (2, 0), "{kind:?}");
            client.wait(SECOND / RATE as u32 + TICK);
            assert_eq!(seen.take(), ["90"], "{kind:?}");
        }
        assert_eq!((stats(&server).rate_closes, stats(&server).sessions > 0), (0, kind != Kind::RawRoute));
    }
}

#[test]
fn an_event_is_dropped_with_its_attachments_and_its_answer() {
    let (server, seen) = serve(Config { bytes_per_second_max: 1000, ..config(RatePolicy::Drop) });
    let client = server.connect("/").expect("there is room");
    let asked: Vec<_> = (0..RATE as u64 + 5).map(|number| client.emit_with_ack("tick", number)).collect();
    client.emit("tick", (1_u64, crate::Binary::from(vec![0; 10])));
    server.advance(Duration::ZERO);
    let answered = asked.iter().filter(|id| client.answer(**id).is_some()).count();
    assert_eq!((answered, seen.take().len()), (RATE - 1, RATE - 1));
    server.advance(SECOND);
    assert!(client.is_connected());
    client.emit("tick", (1_u64, crate::Binary::from(vec![0; 10])));
    server.advance(Duration::ZERO);
    assert_eq!(seen.take().len(), 1, "the next with an attachment is whole");
}

#[test]
fn who_sends_too_much_is_closed_where_that_is_the_policy() {
    for kind in KINDS {
        let (server, seen) = serve(config(RatePolicy::Close));
        let client = Raw::open(&server, kind);
        client.tick(0..35);
        let mut expected = numbers(0..RATE - kind.joins());
        expected.push(if kind == Kind::RawRoute { "closed".to_owned() } else { "rate exceeded".to_owned() });
        assert_eq!(seen.take(), expected, "{kind:?}");
        let last = client.arrived();
        if kind.is_polling() {
            assert!(last.contains("HTTP/1.1 "), "{kind:?}: {last}");
        } else {
            assert!(last.contains("rate exceeded"), "{kind:?}: the close frame says why: {last:?}");
        }
        let figures = stats(&server);
        assert_eq!((figures.rate_closes, figures.rate_drops, figures.rate_delays), (1, 0, 0), "{kind:?}");
        server.advance(10 * SECOND);
        assert_eq!(stats(&server).sessions, 0, "{kind:?}");
    }
}

#[test]
fn bytes_count_like_messages_and_a_large_message_is_paid_for_afterwards() {
    for kind in KINDS {
        let (server, seen) =
            serve(Config { bytes_per_second_max: 1000, events_per_second_max: 0, ..Config::default() });
        let client = Raw::open(&server, kind);
        let long = "x".repeat(3000);
        let large = match kind {
            Kind::RawRoute => long,
            Kind::Engine => format!("4{long}"),
            _ => format!("42[\"large\",\"{long}\"]"),
        };
        client.send([large, kind.event(7)].into_iter());
        assert!(!seen.take().contains(&"7".to_owned()), "{kind:?}");
        client.wait(2 * SECOND - TICK);
        assert!(!seen.take().contains(&"7".to_owned()), "{kind:?}");
        client.wait(SECOND / 2);
        assert_eq!(seen.take(), ["7"], "{kind:?}");
    }
}

#[test]
fn an_endpoint_may_have_limits_of_its_own_and_zero_is_none() {
    let seen = Seen::new();
    let note = |io: &mut crate::Namespace<'_>, seen: &Seen| {
        let seen = seen.clone();
        io.on("tick", move |_: &mut Context<'_>, number: u64| seen.note(number.to_string()));
    };
    let [main, own] = [0; 2].map(|_| seen.clone());
    let server = Server::new(Config { shards: 1, ..config(RatePolicy::Close) })
        .namespace("/", move |io| note(io, &main))
        .endpoint("/devices.io/", move |endpoint| {
            endpoint.settings.events_per_second_max = 0;
            endpoint.settings.bytes_per_second_max = 0;
            endpoint.namespace("/", move |io| note(io, &own));
        });
    let server = TestServer::new(server).expect("sound");
    let device = server.client().at_path("/devices.io/").connect("/").expect("there is room");
    (0..1000_u64).for_each(|number| device.emit("tick", number));
    server.advance(Duration::ZERO);
    assert_eq!(seen.take().len(), 1000);
    let client = server.connect("/").expect("there is room");
    (0..1000_u64).for_each(|number| client.emit("tick", number));
    server.advance(Duration::ZERO);
    assert_eq!((seen.take().len(), client.is_connected(), device.is_connected()), (RATE - 1, false, true));
}

#[test]
fn control_frames_and_fragments_cost_as_much_as_messages() {
    for policy in [RatePolicy::Delay, RatePolicy::Drop] {
        let (server, seen) = serve(config(policy));
        let client = Raw::open(&server, Kind::RawRoute);
        let mut bytes = Vec::new();
        (0..50).for_each(|_| frame::append_masked(&mut bytes, Opcode::Ping, b"", [0; 4]));
        frame::append_masked(&mut bytes, Opcode::Text, b"last", [0; 4]);
        client.write(&bytes);
        client.wait(SECOND);
        assert!(seen.take().is_empty(), "{policy:?}");
        assert!(stats(&server).rate_delays > 5, "{policy:?}");
        client.wait(6 * SECOND);
        match policy {
            RatePolicy::Delay => assert_eq!(seen.take(), ["last"]),
            _ => assert_eq!(seen.take().len() as u64 + stats(&server).rate_drops, 1),
        }
    }
}
