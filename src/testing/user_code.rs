//! User code that runs where nobody expects it: in `Clone`, `Default` and `Drop`, and panics there.

use std::cell::RefCell;
use std::future::Future;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as PollContext, Wake, Waker};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::testing::TestServer;
use crate::{Config, Context, Found, Gathering, Server, Socket, StateRoom, sleep};

/// Emits when it is cloned.
struct Loud(Socket);

impl Clone for Loud {
    fn clone(&self) -> Loud {
        self.0.emit("cloned", self.0.get::<u8>().is_none());
        Loud(self.0.clone())
    }
}

/// Emits when it is dropped.
#[derive(Default)]
struct Dropped(Option<Socket>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.emit("dropped", socket.rooms().len());
        }
    }
}

/// Panics when it is dropped.
struct Grim;

impl Drop for Grim {
    fn drop(&mut self) {
        panic_any(GrimPayload);
    }
}

/// The payload of a panic that panics when it is dropped.
struct GrimPayload;

impl Drop for GrimPayload {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a payload of a test panics");
        }
    }
}

/// Looks into the state room while a value of it is read.
struct Curious(bool);

thread_local! {
    static READER: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

impl<'de> Deserialize<'de> for Curious {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Curious, D::Error> {
        READER.with_borrow(|socket| {
            let socket = socket.as_ref().expect("a handler reads");
            socket.emit("reads", socket.state("board").get::<bool>("key"));
        });
        bool::deserialize(deserializer).map(Curious)
    }
}

fn serve() -> TestServer {
    let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", |io| {
        io.on("loud", |cx: &mut Context<'_>| {
            cx.set(Loud(cx.socket()));
            cx.get::<Loud>().is_some()
        });
        io.on("replaced", |cx: &mut Context<'_>| {
            cx.set(Dropped(Some(cx.socket())));
            let socket = cx.socket();
            cx.update(|_: &mut Dropped| socket.set(Dropped(None)));
            true
        });
        io.on("nested", |cx: &mut Context<'_>| {
            let socket = cx.socket();
            cx.update(|outer: &mut u64| {
                *outer += 1;
                let seen = socket.get::<u64>();
                let inner = socket.update(|inner: &mut u64| {
                    *inner += 10;
                    *inner
                });
                (seen, inner)
            });
            cx.get::<u64>()
        });
        io.on("count", |cx: &mut Context<'_>| {
            cx.update(|count: &mut u32| {
                *count += 1;
                *count
            })
        });
        io.on("grim", |cx: &mut Context<'_>| cx.set(Grim));
        io.on("payload", |_: &mut Context<'_>| -> () { panic_any(GrimPayload) });
        io.on_async("future", |_: Socket| async {
            let _grim = Grim;
            sleep(Duration::from_millis(10)).await;
        });
        io.on_async("future_payload", |_: Socket, is_grim: Option<bool>| async move {
            sleep(Duration::from_millis(10)).await;
            if is_grim.is_none() {
                panic_any(GrimPayload);
            }
        });
        io.on("background", |cx: &mut Context<'_>| {
            cx.spawn(async {
                let _grim = Grim;
                std::future::pending::<()>().await;
            });
        });
    });
    TestServer::new(server).expect("the server is sound")
}

#[test]
fn a_kept_value_may_use_its_socket_when_it_is_cloned_and_when_it_gives_way() {
    let server = serve();
    let client = server.connect("/").expect("everybody may");
    assert_eq!(client.call("loud", ()).expect("an answer").first::<bool>(), Ok(true));
    assert_eq!(client.call("replaced", ()).expect("an answer").first::<bool>(), Ok(true));
    assert_eq!(
        client.call("nested", ()).expect("an answer").first::<u64>(),
        Ok(10),
        "the inner took its place"
    );
    for expected in 1..4 {
        assert_eq!(client.call("count", ()).expect("an answer").first::<u32>(), Ok(expected));
    }
    let received: Vec<String> = client.received().iter().map(ToString::to_string).collect();
    assert_eq!(received, [r#"["cloned",true]"#, r#"["dropped",1]"#]);
    assert!(client.is_connected());
}

#[test]
fn destructors_and_payloads_that_panic_cost_nobody_else_anything() {
    for event in ["grim", "payload", "future", "future_payload", "background"] {
        let server = serve();
        let (client, other) = (server.connect("/").expect("it may"), server.connect("/").expect("it may"));
        client.emit(event, ());
        server.advance(Duration::from_millis(100));
        client.cut();
        assert_eq!(other.call("count", ()).expect("an answer").first::<u32>(), Ok(1), "{event}");
        // The server's tasks go with it.
        drop((client, other, server));
    }
}

#[test]
fn a_type_that_is_read_from_a_state_room_may_use_the_shard() {
    let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", |io| {
        io.state_room("board", StateRoom::max_hz(20.0));
        io.on("set", |cx: &mut Context<'_>| cx.state("board").set("key", &true).is_ok());
        io.on("get", |cx: &mut Context<'_>| {
            READER.set(Some(cx.socket()));
            let read = cx.state("board").get::<Curious>("key");
            READER.set(None);
            read.is_some_and(|curious| curious.0)
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    assert_eq!(client.call("set", ()).expect("an answer").first::<bool>(), Ok(true));
    assert_eq!(client.call("get", ()).expect("an answer").first::<bool>(), Ok(true));
    let received: Vec<String> = client.received().iter().map(ToString::to_string).collect();
    assert_eq!(received, [r#"["reads",true]"#]);
}

/// Tells its socket when its name is asked for.
struct Named(Socket);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.0.emit("named", self.0.rooms().len());
        "room"
    }
}

#[test]
fn a_name_of_a_room_may_use_the_shard_when_it_is_asked_for() {
    let server = Server::new(Config { shards: 1, ..Config::default() }).namespace("/", |io| {
        io.on("move", |cx: &mut Context<'_>| {
            let socket = cx.socket();
            let has_joined = socket.join(Named(cx.socket()));
            socket.leave(Named(cx.socket()));
            (has_joined, socket.rooms().len())
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    let answer = client.call("move", ()).expect("an answer");
    assert_eq!(answer.args().read::<bool>(0), Ok(true));
    let received: Vec<String> = client.received().iter().map(ToString::to_string).collect();
    assert_eq!(received, [r#"["named",1]"#, r#"["named",2]"#]);
}

/// Panics when it is told of an answer.
struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        panic!("a waker of a test panics");
    }
}

#[test]
fn a_waker_that_panics_when_an_answer_comes_costs_nobody_anything() {
    let server = Server::new(Config { shards: 2, ..Config::default() }).namespace("/", |io| {
        io.on("ask", |cx: &mut Context<'_>| {
            let mut asked = Box::pin(cx.socket().broadcast().count());
            let waker = Waker::from(Arc::new(Alarm));
            let is_pending = asked.as_mut().poll(&mut PollContext::from_waker(&waker)).is_pending();
            cx.set(Asked { _question: asked });
            is_pending
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    for _ in 0..2 {
        assert_eq!(client.call("ask", ()).expect("an answer").first::<bool>(), Ok(true));
        server.advance(Duration::from_secs(1));
    }
    assert!(client.is_connected());
}

/// A question whose answer is awaited by nobody but its waker.
struct Asked {
    _question: Pin<Box<Gathering<Found<u64>>>>,
}
