//! What other threads say through a handle arrives in the order in which it was said.

use std::future::Future;
use std::pin::pin;
use std::task::{Context as PollContext, Poll, Waker};
use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{AckError, Config, Context, Handle, Server};

fn serve(recovery: Duration) -> TestServer {
    let config = Config { shards: 3, recovery_max_disconnection: recovery, ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
    });
    TestServer::new(server).expect("the server is sound")
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut PollContext::from_waker(Waker::noop()))
}

/// What a handle does to one client's room, and the events that the client gets.
type Said = fn(&Handle, &str);

/// What is said, the events that the client gets, and whether it stays.
const SAID: [(&str, Said, &[&str], bool); 6] = [
    (
        "emit, disconnect",
        |handle, id| {
            drop(handle.to("/", id).emit("bye", ()));
            handle.to("/", id).disconnect();
        },
        &["bye"],
        false,
    ),
    (
        "emit, close",
        |handle, _| {
            drop(handle.namespace("/").emit("bye", ()));
            handle.namespace("/").close();
        },
        &["bye"],
        false,
    ),
    (
        "emit, leave, emit",
        |handle, id| {
            drop(handle.to("/", "old").emit("heard", ()));
            handle.to("/", id).leave("old");
            drop(handle.to("/", "old").emit("unheard", ()));
        },
        &["heard"],
        true,
    ),
    (
        "emit, join, emit",
        |handle, id| {
            drop(handle.to("/", "new").emit("unheard", ()));
            handle.to("/", id).join("new");
            drop(handle.to("/", "new").emit("heard", ()));
        },
        &["heard"],
        true,
    ),
    (
        "emit, ask",
        |handle, id| {
            drop(handle.to("/", id).emit("first", ()));
            assert!(poll(&mut handle.to("/", id).emit_with_ack("second", ())).is_pending());
        },
        &["first", "second"],
        true,
    ),
    (
        "join, ask",
        |handle, id| {
            handle.to("/", id).join("new");
            assert!(poll(&mut handle.to("/", "new").emit_with_ack("asked", ())).is_pending());
        },
        &["asked"],
        true,
    ),
];

#[test]
fn what_a_handle_says_takes_effect_in_its_order() {
    for recovery in [Duration::ZERO, Duration::from_secs(60)] {
        for shard in [0, 1, 2] {
            for (what, say, events, stays) in SAID {
                let server = serve(recovery);
                let client = server.client().shard(shard).connect("/").expect("everybody may");
                client.emit("join", "old");
                say(&server.handle(), &client.id());
                server.advance(Duration::from_millis(1));
                let row = format!("{what} on shard {shard}, recovery {recovery:?}");
                assert_eq!(names(&client), events, "{row}");
                assert_eq!(client.is_connected(), stays, "{row}");
            }
        }
    }
}

#[test]
fn with_recovery_a_question_is_not_overtaken_either() {
    let server = serve(Duration::from_secs(60));
    let client = server.client().shard(2).connect("/").expect("everybody may");
    let handle = server.handle();
    let mut count = handle.sockets("/").count();
    assert!(poll(&mut count).is_pending());
    handle.to("/", client.id()).disconnect();
    server.advance(Duration::from_millis(1));
    assert_eq!(poll(&mut count), Poll::Ready(Ok(1_u64.into())), "the count is from before the disconnect");
    assert!(!client.is_connected());
}

#[test]
fn a_question_that_was_polled_can_be_waited_for() {
    // The answer is there, or the server has ended, by the time somebody waits: no thread is needed here.
    let server = serve(Duration::ZERO);
    let mut count = server.handle().sockets("/").count();
    assert!(poll(&mut count).is_pending());
    server.advance(Duration::from_millis(1));
    assert_eq!(count.wait(), Ok(0_u64.into()));

    let mut lost = server.handle().sockets("/").count();
    assert!(poll(&mut lost).is_pending());
    let mut taken = server.handle().sockets("/").count();
    assert!(poll(&mut taken).is_pending());
    server.advance(Duration::from_millis(1));
    assert_eq!(poll(&mut taken), Poll::Ready(Ok(0_u64.into())));
    assert_eq!(taken.wait(), Err(AckError::Stopped), "its answer was taken");
    drop(server);
    assert_eq!(lost.wait(), Ok(0_u64.into()));
}

#[test]
fn whoever_waits_is_woken_by_another_thread() {
    let server = serve(Duration::ZERO);
    let mut count = server.handle().sockets("/").count().timeout(Duration::from_millis(1));
    assert!(poll(&mut count).is_pending());
    let (done, is_done) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || done.send(count.wait()));
        // The waiter may wait already, or not yet: either way the answer reaches it.
        server.advance(Duration::from_secs(7));
        assert_eq!(is_done.recv(), Ok(Ok(0_u64.into())));
    });
}

fn names(client: &TestClient) -> Vec<String> {
    client.received().iter().map(|event| event.name().to_owned()).collect()
}
