//! Namespaces that are added while the server runs: on every shard or on none, and like those that were there before.

use std::sync::mpsc;
use std::time::Duration;

use crate::http::Method;
use crate::testing::{TestClient, TestServer};
use crate::{
    Args, ClassNamespace, Config, Context, Methods, Namespace, Server, ShardInfo, StateRoom, Ticket,
};

const SHARDS: usize = 3;

fn serve(setup: impl FnOnce(Server) -> Server) -> TestServer {
    let mut config = Config { shards: SHARDS, ..Config::default() };
    config.engine.allow_eio3 = true;
    let server = Server::new(config).namespace("/", |_| {}).endpoint("/admin.io/", |admin| {
        admin.namespace("/", |_| {});
    });
    TestServer::new(setup(server)).expect("the server is sound")
}

fn rooms(io: &mut Namespace<'_>) {
    io.on("enter", |cx: &mut Context<'_>, room: String| cx.join(room));
    io.on("say", |cx: &mut Context<'_>, text: String| drop(cx.to("lobby").emit("said", text)));
    io.on("where", |cx: &mut Context<'_>| cx.namespace().to_owned());
}

/// Adds a namespace; every shard has looked then. Whenever a server settles, what it counts is compared with what there is.
fn add(
    server: &TestServer,
    path: Option<&str>,
    name: &str,
    setup: fn(&mut Namespace<'_>),
) -> crate::Result<()> {
    let handle = server.handle();
    let handle = path.map_or(handle.clone(), |path| handle.endpoint(path));
    let adding = handle.add_namespace(name, setup);
    server.settle();
    adding.wait()
}

fn crowd(server: &TestServer, path: &str, namespace: &str) -> [TestClient; SHARDS] {
    let connect = |shard| server.client().at_path(path).shard(shard).connect(namespace);
    [0, 1, 2].map(|shard| connect(shard).expect("the namespace is there"))
}

#[test]
fn every_shard_has_it_when_the_answer_comes() {
    let server = serve(|server| server);
    add(&server, None, "/late", rooms).expect("nothing is wrong with it");
    let clients = crowd(&server, "/socket.io/", "/late");
    clients.iter().for_each(|client| client.emit("enter", "lobby"));
    clients[0].emit("say", "hello");
    clients.iter().for_each(|client| assert_eq!(client.received()[0].to_string(), r#"["said","hello"]"#));
    server.handle().to("/late", "lobby").emit("news", ());
    clients.iter().for_each(|client| assert_eq!(client.received().len(), 1));
    drop(clients);
    server.settle();
    assert!(server.connect("/late").is_ok(), "it stays without a member");
}

#[test]
fn each_endpoint_has_its_own() {
    let server = serve(|server| server);
    add(&server, Some("/admin.io/"), "/late", rooms).expect("nothing is wrong with it");
    assert!(server.connect("/late").is_err(), "the main endpoint has none");
    let clients = crowd(&server, "/admin.io/", "/late");
    clients.iter().for_each(|client| client.emit("enter", "lobby"));
    add(&server, None, "/late", rooms).expect("the name is free there");
    clients[1].emit("say", "hello");
    clients.iter().for_each(|client| assert_eq!(client.received().len(), 1));
}

type Wrong = (&'static str, Option<&'static str>, &'static str, fn(&mut Namespace<'_>), &'static str);

#[test]
fn what_is_wrong_is_told_and_no_shard_has_it() {
    let server = serve(|server| server.namespace("/game/{id}", |_| {}).engine("/raw/", |_| {}));
    let rows: [Wrong; 9] = [
        ("there already", None, "/", rooms, "registered twice"),
        ("there already, a pattern", None, "/game/{id}", rooms, "registered twice"),
        ("another pattern in the way", None, "/game/{number}", rooms, "/game/{number}"),
        ("no slash", None, "late", rooms, "starts with /"),
        ("all of them", None, "*", rooms, "/{*name}"),
        ("no endpoint", Some("/other/"), "/late", rooms, "no endpoint at /other/"),
        ("a raw endpoint", Some("/raw/"), "/late", rooms, "is raw"),
        (
            "two handlers",
            None,
            "/late",
            |io| {
                rooms(io);
                io.on("say", |_: &mut Context<'_>| ());
            },
            "two handlers",
        ),
        (
            "a panic on one shard",
            None,
            "/late",
            |io| assert_ne!(io.shard().id, 1, "a setup of a test panics"),
            "a setup of a test panics",
        ),
    ];
    for (what, path, name, setup, says) in rows {
        let error = add(&server, path, name, setup).expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
        (0..SHARDS).for_each(|shard| {
            assert!(server.client().shard(shard).connect("/late").is_err(), "{what}");
        });
    }
    add(&server, None, "/late", rooms).expect("what went wrong leaves nothing");
    assert!(add(&server, None, "/late", rooms).is_err(), "now it is there");
}

#[test]
fn one_that_a_pattern_has_made_is_taken_over_with_its_clients() {
    let server = serve(|server| {
        server.namespace("/{*name}", |io| {
            io.on("where", |cx: &mut Context<'_>| cx.param("name").unwrap_or_default().to_owned());
        })
    });
    let before = crowd(&server, "/socket.io/", "/late");
    let ask = |client: &TestClient| client.call("where", ()).and_then(|name| name.first::<String>().ok());
    before.iter().for_each(|client| assert_eq!(ask(client).as_deref(), Some("late")));
    add(&server, None, "/late", rooms).expect("a pattern is no namespace of that name");
    let after = crowd(&server, "/socket.io/", "/late");
    for client in before.iter().chain(&after) {
        assert_eq!(ask(client).as_deref(), Some("/late"));
        client.emit("enter", "lobby");
    }
    before[0].emit("say", "all");
    before.iter().chain(&after).for_each(|client| assert_eq!(client.received().len(), 1));
    drop((before, after));
    server.settle();
}

#[test]
fn a_pattern_can_be_added_and_makes_namespaces() {
    let server = serve(|server| server.namespace("/{*name}", |_| {}));
    add(&server, None, "/hall/{id}", rooms).expect("nothing is wrong with it");
    for client in crowd(&server, "/socket.io/", "/hall/1") {
        assert_eq!(
            client.call("where", ()).and_then(|name| name.first::<String>().ok()).as_deref(),
            Some("/hall/1")
        );
    }
}

/// An event of an older client by polling, with what it is answered.
fn ask_as_older_client(server: &TestServer, packets: &[&str]) -> String {
    let opened = server.get("/socket.io/?EIO=3&transport=polling").text();
    let sid = opened.split('"').nth(3).expect("the handshake names the session").to_owned();
    let target = format!("/socket.io/?EIO=3&transport=polling&sid={sid}");
    for packet in packets {
        let body = format!("{}:{packet}", packet.len());
        let answer =
            server.request(Method::Post, &target, &[("Content-Type", "text/plain")], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    server.get(&target).text()
}

#[test]
fn older_clients_handlers_outside_ticks_and_state_rooms_work_there() {
    let server = serve(|server| server);
    let (give, take) = mpsc::channel::<Ticket>();
    let adding = server.handle().add_namespace("/late", move |io| {
        rooms(io);
        let give = give.clone();
        io.on_any(move |cx: &mut Context<'_>, _: Args<'_>| drop(give.send(cx.ticket())));
        io.state_room("board", StateRoom::max_hz(10.0));
        io.every(Duration::from_secs(1), |tick| drop(tick.broadcast().emit("tick", tick.number())));
    });
    server.settle();
    adding.wait().expect("nothing is wrong with it");
    let heard = ask_as_older_client(&server, &["40/late", r#"42/late,7["where"]"#]);
    assert!(heard.contains(r#"43/late,7["/late"]"#), "{heard}");
    let clients = crowd(&server, "/socket.io/", "/late");
    let asked = clients[2].emit_with_ack("anything", ());
    let mut post = server.handle().post();
    post.acknowledge(take.try_recv().expect("it was given outside"), "outside").expect("it fits");
    post.send();
    server.settle();
    assert_eq!(
        clients[2].answer(asked).and_then(|text| text.first::<String>().ok()).as_deref(),
        Some("outside")
    );
    server.handle().state("/late", "board").set("price", &1).expect("the room is known");
    server.settle();
    clients[1].emit("enter", "board");
    let board = clients[1].received()[0].to_string();
    assert!(board.contains(r#"{"price":1}"#), "{board}");
    server.advance(Duration::from_secs(1));
    let is_tick = |event: &crate::testing::Received| event.to_string() == r#"["tick",0]"#;
    clients.iter().for_each(|client| assert!(client.received().iter().any(is_tick)));
}

#[test]
fn they_have_figures_of_their_own_until_the_bound_and_share_one_then() {
    let mut config = Config { shards: SHARDS, ..Config::default() };
    config.admin_bind = "127.0.0.1:0".to_owned();
    let server = TestServer::new(Server::new(config).namespace("/", |_| {})).expect("the server is sound");
    for number in 0..70 {
        add(&server, None, &format!("/late/{number}"), rooms).expect("nothing is wrong with it");
    }
    let clients: Vec<_> = [0, 1, 62, 63, 64, 69]
        .iter()
        .flat_map(|number| crowd(&server, "/socket.io/", &format!("/late/{number}")))
        .collect();
    let page = server.get_as_operator("/metrics", &[]).text();
    let sockets = |name: &str| {
        let label = format!(
            "shardcast_namespace_sockets{{endpoint=\"{}\",namespace=\"{name}\"}} ",
            if name == "(other)" { name } else { "/socket.io/" }
        );
        page.lines().find_map(|line| line.strip_prefix(&label).map(str::to_owned))
    };
    for (name, expected) in [
        ("/", Some("0")),
        ("/late/0", Some("3")),
        ("/late/62", Some("3")),
        ("/late/63", None),
        ("(other)", Some("9")),
    ] {
        assert_eq!(sockets(name).as_deref(), expected, "{name} in {page}");
    }
    drop(clients);
}

#[test]
fn one_by_one_from_several_threads_and_before_the_server_runs() {
    struct Counter(usize);

    impl ClassNamespace for Counter {
        fn register(io: &mut Methods<'_, Counter>) {
            io.on("shard", |this: &Counter, _: &mut Context<'_>| this.0);
        }
    }

    let idle = Server::new(Config::default());
    let error = idle.handle().add_namespace("/late", rooms).wait().expect_err("it does not run");
    assert!(error.to_string().contains("does not run"), "{error}");
    let server = serve(|server| server);
    let handle = server.handle();
    let all: Vec<_> = (0..20)
        .map(|number| {
            handle.add_namespace_class(&format!("/{}", number / 2), |shard: ShardInfo| Counter(shard.id))
        })
        .collect();
    server.settle();
    let told: Vec<bool> = all.into_iter().map(|adding| adding.wait().is_ok()).collect();
    assert_eq!(told, [[true, false]; 10].concat(), "the second of each name is refused");
    for (shard, client) in crowd(&server, "/socket.io/", "/7").iter().enumerate() {
        assert_eq!(client.call("shard", ()).and_then(|id| id.first::<usize>().ok()), Some(shard));
    }
    handle.stop();
    server.settle();
    assert!(handle.stats().iter().all(|shard| shard.sockets == 0));
}
