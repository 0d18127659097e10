//! Handlers that hold their shard are named and counted, whichever kind they are, and honest ones are not.

use std::fmt::{self, Write};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::http::Response;
use crate::testing::{TestServer, spend};
use crate::{Config, Context, Refused, Server, Socket, sleep};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Keeps what is logged on this thread.
pub(super) struct Lines(pub(super) crossbeam_channel::Sender<String>);

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let _ = self.0.send(text.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn serve(config: Config) -> TestServer {
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on_connect(|_: &mut Context<'_>, auth: Option<u64>| spend(millis(auth.unwrap_or(0))));
            io.on_disconnect(|_: &mut Context<'_>, _: crate::CloseReason| spend(millis(130)));
            io.on("work", |_: &mut Context<'_>, length: u64| spend(millis(length)));
            io.on("ask", |cx: &mut Context<'_>| {
                cx.emit_with_callback("question", (), |_| spend(millis(140)));
            });
            io.on("spawn", |cx: &mut Context<'_>| {
                cx.spawn(async {
                    sleep(millis(10)).await;
                    spend(millis(180));
                });
            });
            io.on_async("later", |_: Socket, length: u64| async move {
                sleep(millis(10)).await;
                spend(millis(length));
            });
        })
        .namespace("/guarded", |io| {
            io.on_connect(|_: &mut Context<'_>| {
                spend(millis(150));
                Err::<(), _>(Refused::new("no"))
            });
        })
        .namespace("/ticks", |io| {
            io.every(millis(60_000), |_| spend(millis(160)));
        })
        .route("/page", |_| {
            spend(millis(170));
            Response::text("page")
        });
    TestServer::new(server).expect("the server is sound")
}

/// What is logged about it while `act` runs.
fn told(act: impl FnOnce()) -> Vec<String> {
    let (sender, lines) = crossbeam_channel::unbounded();
    tracing::subscriber::with_default(Lines(sender), act);
    lines.try_iter().filter(|line| line.contains("held its shard")).collect()
}

#[test]
fn whatever_holds_a_shard_is_named() {
    let server = serve(Config::default());
    let client = server.connect("/").expect("everybody may");
    let slow = |server: &TestServer| server.handle().stats()[0].handlers_slow;
    let mut count = 0;
    let rows: [(&str, &str, &dyn Fn()); 8] = [
        ("held=300ms", "event \"work\" of /", &|| client.emit("work", 300)),
        ("held=101ms", "event \"later\"", &|| {
            client.emit("later", 101);
            server.advance(millis(10));
        }),
        ("held=140ms", "callback of an acknowledgement", &|| {
            client.emit("ask", ());
            client.received().iter().for_each(|question| client.acknowledge(question, ()));
        }),
        ("held=150ms", "connect handler of /guarded", &|| drop(server.connect("/guarded"))),
        ("held=130ms", "disconnect handler of /", &|| server.connect("/").expect("everybody may").cut()),
        ("held=170ms", "route /page", &|| drop(server.get("/page"))),
        ("held=180ms", "background task", &|| {
            client.emit("spawn", ());
            server.advance(millis(10));
        }),
        ("held=160ms", "tick of /ticks", &|| server.advance(millis(60_000))),
    ];
    for (held, what, act) in rows {
        // Lines are at least a second apart.
        server.advance(millis(1_000));
        let before = slow(&server);
        let lines = told(act);
        assert!(
            lines.iter().any(|line| line.contains(held) && line.contains(what)),
            "{what}, {held}: {lines:?}"
        );
        assert!(slow(&server) > before, "{what}");
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn lines_are_few_and_honest_handlers_are_not_named() {
    let server = serve(Config::default());
    let client = server.connect("/").expect("everybody may");
    let slow = || server.handle().stats()[0].handlers_slow;
    let lines = told(|| {
        for _ in 0..100 {
            client.emit("work", 100);
        }
    });
    assert_eq!((lines.len(), slow()), (0, 0), "a hundred are the most");
    let lines = told(|| {
        for _ in 0..20 {
            client.emit("work", 101);
        }
    });
    assert_eq!((lines.len(), slow()), (2, 20), "at most one a second: {lines:?}");
    assert!(lines[1].contains("left_out=9"), "{lines:?}");

    for (slow_handler, expected) in [(Duration::ZERO, 0), (millis(400), 1)] {
        let server = serve(Config { slow_handler, ..Config::default() });
        let client = server.connect("/").expect("everybody may");
        client.emit("work", 401);
        client.emit("work", 400);
        assert_eq!(server.handle().stats()[0].handlers_slow, expected, "{slow_handler:?}");
    }
}
