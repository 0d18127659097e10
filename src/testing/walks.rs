//! Long looks at a shard come in slices; whom they mean is settled at once.

use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{AckError, Config, Context, Server, Socket};

/// More than a slice.
const MANY: usize = 1_100;

fn serve() -> TestServer {
    let config = Config { rooms_per_socket_max: 10_000, ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on("enter", |cx: &mut Context<'_>, from: usize, to: usize| {
            for number in from..to {
                cx.join(format!("room {number}"));
            }
        });
        io.on("leave", |cx: &mut Context<'_>, room: String| cx.leave(room));
        io.on_async("fetch", |socket: Socket| async move {
            let found = socket.sockets().fetch().await;
            found.map(|sockets| sockets.iter().map(|socket| socket.id().to_string()).collect::<Vec<_>>())
        });
        io.on_async("rooms", |socket: Socket| async move {
            Ok::<_, AckError>(socket.namespace_rooms().await?.len())
        });
        io.on("echo", |_: &mut Context<'_>, number: u64| number);
    });
    TestServer::new(server).expect("the server is sound")
}

fn millis(server: &TestServer, millis: u64) {
    server.advance(Duration::from_millis(millis));
}

#[test]
fn many_sockets_are_described_in_slices_and_others_are_served_between() {
    let server = serve();
    let clients: Vec<TestClient> = (0..MANY).map(|_| server.connect("/").expect("everybody may")).collect();
    let asked = clients[0].emit_with_ack("fetch", ());
    assert!(clients[0].answer(asked).is_none(), "the first slice is not all");
    assert!(clients[1].call("echo", 1).is_some(), "others are served");
    // One who has gone is left out, one who has come was not there.
    let gone = clients[MANY - 1].id();
    clients[MANY - 1].disconnect();
    let late = server.connect("/").expect("everybody may");
    millis(&server, 1);
    let found: Vec<String> =
        clients[0].answer(asked).expect("two slices are all").first().expect("a list of ids");
    assert_eq!(found.len(), MANY - 1);
    assert!(!found.contains(&gone) && !found.contains(&late.id()));
    millis(&server, 1);
    assert_eq!(server.host.borrow().walks(), 0);
}

#[test]
fn many_rooms_are_listed_in_slices() {
    let server = serve();
    let client = server.connect("/").expect("everybody may");
    client.emit("enter", (0, 2_500));
    let asked = client.emit_with_ack("rooms", ());
    assert!(
        client.answer(asked).is_none() && client.call("echo", 1).is_none(),
        "its own events wait for the handler"
    );
    let other = server.connect("/").expect("everybody may");
    assert!(other.call("echo", 1).is_some());
    millis(&server, 1);
    assert!(client.answer(asked).is_none());
    millis(&server, 1);
    assert_eq!(client.answer(asked).expect("three slices are all").first::<usize>().ok(), Some(2_500));
    // Several take turns.
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let other = server.connect("/").expect("everybody may");
            let asked = other.emit_with_ack("rooms", ());
            (other, asked)
        })
        .collect();
    millis(&server, 6);
    for (other, asked) in waiting {
        assert_eq!(other.answer(asked).expect("told").first::<usize>().ok(), Some(2_500));
    }
    assert_eq!(server.host.borrow().walks(), 0);
}

#[test]
fn a_namespace_that_goes_during_a_walk_ends_it() {
    let config = Config { rooms_per_socket_max: 10_000, ..Config::default() };
    let server = Server::new(config).namespace("/made/{name}", |io| {
        io.on("enter", |cx: &mut Context<'_>, from: usize, to: usize| {
            for number in from..to {
                cx.join(format!("room {number}"));
            }
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/made/one").expect("everybody may");
    client.emit("enter", (0, 2_500));
    let mut rooms = server.handle().rooms("/made/one");
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll = || std::future::Future::poll(std::pin::Pin::new(&mut rooms), &mut cx);
    assert!(poll().is_pending());
    assert!(server.host.borrow_mut().settle_and_count_walks() == 1, "the first slice is not all");
    client.disconnect();
    // Its number is another's now, whose rooms are not meant.
    let other = server.connect("/made/two").expect("everybody may");
    other.emit("enter", (5_000, 6_000));
    millis(&server, 5);
    let std::task::Poll::Ready(Ok(found)) = poll() else { panic!("the walk has ended") };
    assert!(
        found.keys().all(|name| name.len() < "room 5000".len() || name.as_str() < "room 5000"),
        "none of the other's"
    );
    assert_eq!(server.host.borrow().walks(), 0);
}
