//! Endpoints among each other: what is done in one is not felt in another, on whichever shard.

use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{Config, Context, Handle, Recovery, Server, Socket, StateRoom};

const MAIN: &str = "/socket.io/";
const ADMIN: &str = "/admin.io/";

fn rooms(io: &mut crate::Namespace) {
    io.state_room("board", StateRoom::max_hz(10.0));
    io.on("enter", |cx: &mut Context<'_>| cx.join("lobby"));
    io.on("watch", |cx: &mut Context<'_>| cx.join("board"));
    io.on("rooms", |cx: &mut Context<'_>| cx.rooms()[1..].to_vec());
    io.on("recovered", |cx: &mut Context<'_>| matches!(cx.recovery(), Recovery::Recovered));
    io.on("do", |cx: &mut Context<'_>, what: String| match what.as_str() {
        "disconnect" => drop(cx.to("lobby").disconnect()),
        "close" => drop(cx.to("lobby").close()),
        "join" => drop(cx.to("lobby").join("vip")),
        "leave" => drop(cx.to("lobby").leave("lobby")),
        "close_room" => drop(cx.close_room("lobby")),
        "emit" => drop(cx.to("lobby").emit("said", 1)),
        "everybody" => drop(cx.broadcast().include_self(false).emit("said", 1)),
        "ask" => cx.to("lobby").emit_with_callback("said", (), |_| {}),
        "state" => cx.state("board").set("key", &1).expect("the room is registered"),
        other => panic!("nothing is called {other}"),
    });
    io.on_async("count", |socket: Socket| async move {
        let to = || socket.to("lobby");
        let ids = to().ids().await.map_or(0, |ids| ids.len() as u64);
        let facts = to().fetch().await.map_or(0, |sockets| sockets.len() as u64);
        let rooms = socket.namespace_rooms().await.map_or(0, |rooms| rooms["lobby"]);
        [to().count().await.map_or(0, |count| *count), ids, facts, rooms]
    });
}

fn serve(recovery: Duration) -> TestServer {
    let config = Config { shards: 2, recovery_max_disconnection: recovery, ..Config::default() };
    let server =
        Server::new(config).namespace("/", rooms).namespace("/chat", rooms).endpoint(ADMIN, |admin| {
            admin.namespace("/", rooms);
            admin.namespace("/chat", rooms);
        });
    TestServer::new(server).expect("the server is sound")
}

/// One client of an endpoint on each shard.
fn crowd(server: &TestServer, path: &str, namespace: &str) -> [TestClient; 2] {
    [0, 1].map(|shard| {
        let client = server.client().at_path(path).shard(shard).connect(namespace).expect("everybody may");
        client.emit("enter", ());
        client.emit("watch", ());
        assert_eq!(client.received().len(), 1, "the board is told");
        client
    })
}

/// Whether a client is still there, the rooms it is in, and the events that it has got.
fn seen(client: &TestClient) -> (bool, Vec<String>, usize) {
    if !client.is_connected() {
        return (false, Vec::new(), 0);
    }
    let rooms = client.call("rooms", ()).and_then(|rooms| rooms.first().ok());
    (true, rooms.expect("rooms are listed"), client.received().len())
}

/// The same from outside. Those from a socket have its exceptions, these have none.
fn do_by_handle(handle: &Handle, namespace: &str, what: &str) {
    let lobby = || handle.to(namespace, "lobby");
    match what {
        "disconnect" => drop(lobby().disconnect()),
        "close" => drop(lobby().close()),
        "join" => drop(lobby().join("vip")),
        "leave" | "close_room" => drop(lobby().leave("lobby")),
        "emit" => drop(lobby().emit("said", 1)),
        "everybody" => drop(handle.namespace(namespace).emit("said", 1)),
        "state" => handle.state(namespace, "board").set("key", &1).expect("the server runs"),
        "ask" => {
            let mut question = lobby().emit_with_ack("said", ());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let polled = std::future::Future::poll(std::pin::Pin::new(&mut question), &mut cx);
            assert!(polled.is_pending(), "no shard has run yet");
        }
        other => panic!("nothing is called {other}"),
    }
}

#[test]
fn a_change_stays_within_its_endpoint_on_every_shard() {
    let (both, lobby, board) = (vec!["lobby", "board"], vec!["lobby"], vec!["board"]);
    let vip = vec!["lobby", "board", "vip"];
    let gone = (false, Vec::new(), 0);
    assert_ne!(lobby, board);
    let rows = [
        ("disconnect", gone.clone()),
        ("close", gone),
        ("join", (true, vip, 0)),
        ("leave", (true, board.clone(), 0)),
        ("close_room", (true, board, 0)),
        ("emit", (true, both.clone(), 1)),
        ("everybody", (true, both.clone(), 1)),
        ("ask", (true, both.clone(), 1)),
        ("state", (true, both.clone(), 1)),
    ];
    for recovery in [Duration::ZERO, Duration::from_secs(60)] {
        for (what, expected) in &rows {
            for (acting, other) in [(MAIN, ADMIN), (ADMIN, MAIN)] {
                for (namespace, way) in
                    [("/", "socket"), ("/chat", "socket"), ("/", "handle"), ("/chat", "handle")]
                {
                    let server = serve(recovery);
                    let (hit, spared) = (crowd(&server, acting, namespace), crowd(&server, other, namespace));
                    if way == "socket" {
                        let actor = server
                            .client()
                            .at_path(acting)
                            .shard(0)
                            .connect(namespace)
                            .expect("everybody may");
                        actor.emit("do", *what);
                    } else {
                        do_by_handle(&server.handle().endpoint(acting), namespace, what);
                    }
                    server.advance(Duration::from_millis(200));
                    let row = format!("{what} in {namespace} of {acting} by a {way}, recovery {recovery:?}");
                    let told = |(is_in, rooms, events): &(bool, Vec<&str>, usize)| {
                        (*is_in, rooms.iter().map(|room| (*room).to_owned()).collect::<Vec<_>>(), *events)
                    };
                    for client in &hit {
                        assert_eq!(seen(client), told(expected), "{row}: its own");
                    }
                    for client in &spared {
                        assert_eq!(seen(client), told(&(true, both.clone(), 0)), "{row}: the others");
                    }
                }
            }
        }
    }
}

#[test]
fn a_question_counts_its_endpoint_alone() {
    let server = serve(Duration::ZERO);
    let (users, admins) = (crowd(&server, MAIN, "/"), crowd(&server, ADMIN, "/"));
    users[1].disconnect();
    for (client, expected) in [(&users[0], 1), (&admins[0], 2), (&admins[1], 2)] {
        let counts = client.call("count", ()).expect("all shards answer at once");
        assert_eq!(counts.first::<[u64; 4]>().expect("four numbers"), [expected; 4]);
    }
}

#[test]
fn a_lost_connection_is_recovered_at_its_endpoint_alone() {
    for (lost_at, back_at) in [(MAIN, MAIN), (ADMIN, ADMIN), (MAIN, ADMIN), (ADMIN, MAIN)] {
        for (from, to) in [(0, 0), (0, 1), (1, 0)] {
            let server = serve(Duration::from_secs(60));
            let lost = server.client().at_path(lost_at).shard(from).connect("/").expect("everybody may");
            lost.emit("enter", ());
            drop(server.handle().endpoint(lost_at).namespace("/").emit("before", ()));
            assert_eq!(lost.received().len(), 1);
            lost.cut();
            let back = server.client().at_path(back_at).shard(to).recovering(&lost).connect("/");
            let back = back.expect("everybody may");
            let is_recovered: bool = back.call("recovered", ()).and_then(|it| it.first().ok()).expect("told");
            assert_eq!(is_recovered, lost_at == back_at, "{lost_at} {from} to {back_at} {to}");
            assert_eq!(back.id() == lost.id(), is_recovered);
        }
    }
}
