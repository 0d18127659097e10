//! Setups: how often they run, and what becomes of one that does not do the same each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::testing::TestServer;
use crate::{ClassNamespace, Config, Context, Methods, Server, ShardInfo};

#[derive(Default)]
struct Class;

impl ClassNamespace for Class {
    fn register(_: &mut Methods<'_, Class>) {}
}

fn config(shards: usize) -> Config {
    Config { shards, ..Config::default() }
}

/// Counts its calls, and gives the number of each.
fn counter() -> (Arc<AtomicUsize>, impl Fn() -> usize + Clone + Send + Sync + 'static) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    (calls, move || count.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn a_setup_runs_once_for_each_shard() {
    for shards in [1, 3] {
        let (calls, call) = counter();
        let [main, class, further, raw, engine] = std::array::from_fn(|_| call.clone());
        let server = Server::new(config(shards))
            .namespace("/", move |_| {
                main();
            })
            .namespace_class("/class", move |_: ShardInfo| {
                class();
                Class
            })
            .endpoint("/admin.io/", |endpoint| {
                endpoint.namespace("/", move |_| {
                    further();
                })
            })
            .websocket("/raw", move |_| {
                raw();
            })
            .engine("/engine.io/", move |_| {
                engine();
            });
        let server = TestServer::new(server).expect("the server is sound");
        assert_eq!(calls.load(Ordering::Relaxed), 5 * shards);
        assert!(server.connect("/").is_ok());
        assert_eq!(calls.load(Ordering::Relaxed), 5 * shards);
    }
}

#[test]
fn a_setup_that_fails_on_a_later_call_fails_the_start() {
    let (_, call) = counter();
    let twice = move |io: &mut crate::Namespace| {
        io.on("event", |_: &mut Context<'_>| {});
        if call() == 1 {
            io.on("event", |_: &mut Context<'_>| {});
        }
    };
    let fault = TestServer::new(Server::new(config(3)).namespace("/", twice)).expect_err("one is not sound");
    let fault = fault.to_string();
    assert!(
        fault.starts_with("shard 1: ") && fault.contains("event") && fault.contains("the same each time"),
        "{fault}"
    );

    let (_, call) = counter();
    let server = Server::new(config(2)).namespace("/", move |_| assert!(call() == 0, "out of numbers"));
    let fault = TestServer::new(server).expect_err("one panics").to_string();
    assert!(fault.starts_with("shard 1: a setup panicked: ") && fault.contains("out of numbers"), "{fault}");

    // What is wrong everywhere is said as it is.
    let server = Server::new(config(2)).namespace("/a,b", |_| {});
    let fault = TestServer::new(server).expect_err("no name holds a comma").to_string();
    assert!(fault.starts_with("namespace \"/a,b\""), "{fault}");
}
