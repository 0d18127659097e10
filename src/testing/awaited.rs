//! Changes to sockets of all shards that are awaited: from handlers, tasks, and a handle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{AckError, Changed, Changing, Config, Context, Server, Socket};

const SHARDS: usize = 3;

fn serve(recovery: Duration) -> TestServer {
    serve_on(SHARDS, recovery)
}

fn serve_on(shards: usize, recovery: Duration) -> TestServer {
    let config = Config { shards, recovery_max_disconnection: recovery, ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
        io.on_async("gather", |socket: Socket| async move {
            let changed = socket.to("red").join("hall").await?;
            let count = socket.to("hall").count().await?;
            Ok::<_, AckError>((changed.is_complete(), count.into_inner()))
        });
        io.on_async("throw", |socket: Socket| async move {
            let changed = socket.to("red").except(socket.id()).disconnect().await?;
            let count = socket.to("red").count().await?;
            Ok::<_, AckError>((changed.is_complete(), count.into_inner()))
        });
        io.on("gather-then", |cx: &mut Context<'_>| {
            let socket = cx.socket();
            cx.to("red").join("hall").then(move |changed| {
                let is_complete = changed.is_ok_and(|changed| changed.is_complete());
                socket.to("hall").emit("begin", is_complete);
            });
        });
        let handle = io.handle();
        // A handle's words go by the inbox of each shard, also of the one that it is used on.
        io.on_async("by-handle", move |socket: Socket| {
            let handle = handle.clone();
            async move {
                (0..3).for_each(|number| {
                    handle.to("/", "red").emit("before", number);
                });
                let joined = handle.to("/", "red").join("hall").await?;
                let (is_there, count) =
                    (socket.rooms().contains(&"hall".to_owned()), handle.to("/", "hall").count());
                let count = count.await?.into_inner();
                let left = handle.to("/", "red").leave("hall").await?;
                let is_gone = !socket.rooms().contains(&"hall".to_owned());
                let is_complete = joined.is_complete() && left.is_complete();
                Ok::<_, AckError>((is_complete, is_there, count, is_gone))
            }
        });
        // The last word of a handler may be a change; nobody waits for it.
        io.on("close", |cx: &mut Context<'_>| cx.close_room("red"));
        io.on("here", |cx: &mut Context<'_>| cx.to("red").this_shard().join("hall"));
        io.on("wait", |cx: &mut Context<'_>| cx.to("red").join("hall").wait() == Err(AckError::NotSent));
    });
    TestServer::new(server).expect("the server is sound")
}

fn members(server: &TestServer, count: usize) -> Vec<TestClient> {
    let clients: Vec<TestClient> = (0..count)
        .map(|number| server.client().shard(number % SHARDS).connect("/").expect("everybody may"))
        .collect();
    for client in &clients {
        client.emit("join", "red");
    }
    clients
}

fn answer(client: &TestClient, event: &str) -> String {
    client.call(event, ()).expect("it is answered").args().raw().to_owned()
}

fn poll(changing: &mut Changing) -> Poll<Result<Changed, AckError>> {
    Pin::new(changing).poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[test]
fn what_follows_an_awaited_change_sees_it_on_every_shard() {
    for recovery in [Duration::ZERO, Duration::from_secs(60)] {
        let server = serve(recovery);
        let clients = members(&server, 9);
        assert_eq!(answer(&clients[0], "gather"), "true,9");
        clients[1].emit("gather-then", ());
        for client in &clients {
            let begun: Vec<bool> = client.received().iter().filter_map(|event| event.first().ok()).collect();
            assert_eq!(begun, [true]);
        }
        assert_eq!(answer(&clients[0], "throw"), "true,1");
        assert!(clients[1..].iter().all(|client| !client.is_connected()));
        assert_eq!(answer(&clients[0], "close"), "", "it is acknowledged without a word");
        assert_eq!(answer(&clients[0], "wait"), "true", "a shard does not wait for itself");
    }
}

#[test]
fn a_handle_awaits_what_it_changes_and_changes_what_it_does_not_await() {
    for recovery in [Duration::ZERO, Duration::from_secs(60)] {
        let server = serve(recovery);
        let handle = server.handle();
        let clients = members(&server, 6);
        let mut changing = handle.to("/", "red").join("hall").timeout(Duration::from_secs(2));
        assert!(poll(&mut changing).is_pending(), "no shard has run");
        assert_eq!(answer(&clients[0], "gather"), "true,6", "the shards have run");
        let Poll::Ready(Ok(changed)) = poll(&mut changing) else { panic!("it is made") };
        assert!(changed.is_complete() && changed.processes_missing.is_empty());
        drop(handle.to("/", "red").disconnect());
        server.advance(Duration::ZERO);
        assert!(clients.iter().all(|client| !client.is_connected()), "it is made without being awaited");
        // From a handle this shard is none.
        let mut nowhere = handle.namespace("/").this_shard().disconnect();
        let _ = poll(&mut nowhere);
        server.advance(Duration::ZERO);
        assert!(matches!(poll(&mut nowhere), Poll::Ready(Ok(changed)) if changed.is_complete()));
    }
}

/// Also where no other shard has to report, and other words of the handle wait in the inbox.
#[test]
fn what_a_handle_awaits_on_a_shards_own_thread_is_made_there_as_well() {
    for (shards, recovery) in [(1, 0), (SHARDS, 0), (1, 60), (SHARDS, 60)] {
        let server = serve_on(shards, Duration::from_secs(recovery));
        let clients: Vec<TestClient> = (0..6)
            .map(|number| server.client().shard(number % shards).connect("/").expect("everybody may"))
            .collect();
        clients.iter().for_each(|client| client.emit("join", "red"));
        // The shard that asks is another one each time.
        for client in clients.iter().chain(&clients[1..]).chain(&clients[2..]) {
            assert_eq!(answer(client, "by-handle"), "true,true,6,true", "{shards} shards");
        }
    }
}

#[test]
fn a_server_that_does_not_run_says_so() {
    let handle = Server::new(Config::default()).handle();
    assert_eq!(handle.to("/", "red").join("hall").wait(), Err(AckError::Stopped));
}
