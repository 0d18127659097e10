//! User code that runs where nobody expects it: in `Clone`, `Default` and `Drop`, and panics there.

use std::panic::panic_any;
use std::time::Duration;

use crate::testing::TestServer;
use crate::{Config, Context, Server, Socket, sleep};

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
