//! What the test kit promises: clients on several shards, time that stands still, answers both ways.

use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::protocol::http::response::Response;
use crate::protocol::socketio::binary::Binary;
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::error::Refused;
use crate::shard::value::session::CloseReason;

fn server(shards: usize) -> TestServer {
    let config = Config { shards, ..Config::default() };
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
            io.on("shout", |cx: &mut Context<'_>, room: String, text: String| {
                cx.to(room).emit("heard", (text, Binary::from(vec![0, 255])));
            });
            io.on_async("slow", |_: Socket, millis: u64| async move {
                crate::sleep(Duration::from_millis(millis)).await;
                millis
            });
            io.on("ask", |cx: &mut Context<'_>| {
                let socket = cx.socket();
                cx.emit_with_callback("question", 1, move |answer| {
                    socket.emit("answered", answer.ok().and_then(|answer| answer.first::<u64>().ok()));
                });
            });
            io.on_disconnect(|cx: &mut Context<'_>, reason: CloseReason| {
                cx.broadcast().emit("gone", reason.to_string());
            });
        })
        .namespace("/admin", |io| {
            io.on_connect_async(|_: Socket, auth: serde_json::Value| async move {
                crate::sleep(Duration::from_millis(10)).await;
                if auth["name"].is_string() { Ok(()) } else { Err(Refused::new("who are you?")) }
            });
        })
        .route("/hello/{name}", |request| {
            Response::text(request.param("name").unwrap_or_default().to_owned())
        });
    TestServer::new(server).expect("the server is sound")
}

fn texts(client: &TestClient) -> Vec<String> {
    client.received().iter().map(Received::to_string).collect()
}

#[test]
fn what_is_said_with_connect_comes_right_after_it() {
    let server = Server::new(Config::default()).namespace("/", |io| {
        io.on("hello", |cx: &mut Context<'_>| cx.is_connected());
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.client().say_after_connect(r#"427["hello"]"#).connect("/").expect("everybody may");
    let host = server.host.borrow();
    let answers = &host.sessions[client.session_index()].answers;
    assert_eq!(answers[&("/".to_owned(), 7)].first::<bool>().ok(), Some(true));
}

#[test]
fn a_socket_may_be_in_so_many_rooms_and_a_room_goes_with_its_last_member() {
    let config = Config { rooms_per_socket_max: 3, ..Config::default() };
    let server = Server::new(config).namespace("/", |io| {
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
        io.on("leave", |cx: &mut Context<'_>, room: String| cx.leave(room));
        io.on_async("exists", |socket: Socket, name: String| async move {
            let rooms = socket.namespace_rooms().await.unwrap_or_default();
            rooms.iter().any(|(room, _)| *room == name)
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let client = server.connect("/").expect("everybody may");
    let is = |event: &str, room: &str| client.call(event, room).is_some_and(|is| is.first() == Ok(true));
    for (room, has_joined) in [("a", true), ("b", true), ("c", true), ("d", false), ("a", true)] {
        assert_eq!(is("join", room), has_joined, "{room}");
    }
    assert!(is("exists", "a") && !is("exists", "d"));
    client.call("leave", "a");
    assert!(!is("exists", "a") && is("join", "d") && is("exists", "d"));
}

#[test]
fn a_broadcast_reaches_clients_on_other_shards_and_from_a_handle() {
    let server = server(3);
    let clients: Vec<_> = (0..4).map(|_| server.connect("/").expect("everybody may")).collect();
    for client in &clients[1..] {
        assert_eq!(
            client.call("join", "blue").map(|answer| answer.args().raw().to_owned()),
            Some("true".into())
        );
    }
    clients[0].emit("shout", ("blue", "hello"));
    for client in &clients[1..] {
        let received = client.received();
        assert_eq!(received[0].args().read::<String>(0).expect("a text"), "hello");
        assert_eq!(received[0].args().read::<Binary>(1).expect("bytes").as_ref(), [0, 255]);
    }
    assert!(clients[0].received().is_empty());
    server.handle().namespace("/").emit("news", 7);
    assert_eq!(texts(&clients[2]), [r#"["news",7]"#]);
}

#[test]
fn time_stands_still_until_it_is_moved() {
    let server = server(1);
    let client = server.connect("/").expect("everybody may");
    let asked = client.emit_with_ack("slow", 5000);
    server.advance(Duration::from_millis(4900));
    assert!(client.answer(asked).is_none());
    server.advance(Duration::from_millis(200));
    assert_eq!(client.answer(asked).expect("it is time").first::<u64>().expect("a number"), 5000);
    assert_eq!(server.unix_time(), 1_700_000_005);
}

#[test]
fn pings_are_answered_unless_the_client_falls_silent() {
    let server = server(2);
    let (awake, silent) = (server.connect("/").expect("a client"), server.connect("/").expect("a client"));
    silent.answer_pings(false);
    server.advance(Duration::from_secs(3600));
    assert!(awake.is_connected() && !silent.is_connected());
    assert_eq!(texts(&awake), [r#"["gone","ping timeout"]"#]);
}

#[test]
fn a_client_answers_and_leaves_in_every_way() {
    let server = server(2);
    let (stays, leaves, falls) =
        (server.connect("/").expect("a"), server.connect("/").expect("b"), server.connect("/").expect("c"));
    stays.emit("ask", ());
    let question = &stays.received()[0];
    assert!(question.wants_ack());
    stays.acknowledge(question, 42);
    assert_eq!(texts(&stays), [r#"["answered",42]"#]);
    leaves.disconnect();
    falls.cut();
    assert_eq!(texts(&stays), [r#"["gone","client namespace disconnect"]"#, r#"["gone","transport close"]"#]);
    assert!(!leaves.is_connected() && !falls.is_connected());
}

#[test]
fn a_connect_handler_may_take_its_time_and_refuse() {
    let server = server(1);
    let client = server.connect("/").expect("a client");
    let admin = client.join_namespace("/admin", &serde_json::json!({ "name": "root" })).expect("not decided");
    assert!(!admin.is_connected());
    server.advance(Duration::from_millis(100));
    assert!(admin.is_connected() && !admin.id().is_empty());
    let refused = server.connect("/nowhere").expect_err("there is no such namespace");
    assert_eq!(refused.message, "Invalid namespace");
    let refused =
        server.client().header("Origin", "http://evil.example").connect("/").expect_err("wrong origin");
    assert!(refused.message.starts_with("HTTP/1.1 400"), "{refused}");
}

#[test]
fn routes_answer() {
    let server = server(2);
    let response = server.get("/hello/ada");
    assert_eq!((response.status, response.text().as_str()), (200, "ada"));
    assert_eq!(response.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(server.request(Method::Post, "/hello/ada", &[], b"x").status, 405);
}

#[test]
fn connect_handlers_are_asked_in_order_until_one_refuses() {
    #[derive(Clone, Default)]
    struct Steps(String);
    let server = Server::new(Config::default()).namespace("/", |io| {
        io.on_connect(|cx: &mut Context<'_>| {
            cx.emit("steps", cx.get::<Steps>().unwrap_or_default().0 + " last");
        });
        io.use_connect_async(|socket: Socket, auth: serde_json::Value| async move {
            crate::sleep(Duration::from_millis(10)).await;
            socket.set(Steps("slow".into()));
            if auth["slow"] == "no" { Err(Refused::new("slow")) } else { Ok(()) }
        });
        io.use_connect(|cx: &mut Context<'_>, auth: serde_json::Value| {
            cx.update(|steps: &mut Steps| steps.0.push_str(" quick"));
            assert!(auth["quick"] != "panic", "a connect handler of a test panics");
            if auth["quick"] == "no" { Err(Refused::new("quick").data(&1)) } else { Ok(()) }
        });
    });
    let server = TestServer::new(server).expect("the server is sound");
    let connect = |auth: serde_json::Value| {
        let client = server.client().auth(&auth).connect("/").expect("nobody has decided");
        client.emit("early", ());
        server.advance(Duration::from_millis(100));
        (client.is_connected(), client.refusal().map(|refused| refused.message), texts(&client))
    };
    let refused = |message: &str| (false, Some(message.to_owned()), Vec::new());
    assert_eq!(
        connect(serde_json::json!({})),
        (true, None, vec![r#"["steps","slow quick last"]"#.to_owned()])
    );
    assert_eq!(connect(serde_json::json!({ "slow": "no" })), refused("slow"));
    assert_eq!(connect(serde_json::json!({ "quick": "no" })), refused("quick"));
    assert_eq!(connect(serde_json::json!({ "quick": "panic" })), refused("Connection refused by server"));
    assert_eq!(server.handle().stats().iter().map(|shard| shard.sockets).sum::<u64>(), 1);
}

#[test]
fn what_an_event_is_checked_for_keeps_it_from_its_handler() {
    let server = Server::new(Config::default()).namespace("/", |io| {
        io.before(
            |cx, args| if args.is_empty() { Err(format!("{} needs words", cx.event())) } else { Ok(()) },
        );
        io.before(|_, args| if args.raw() == "13" { Err("no thirteen") } else { Ok(()) });
        io.on("count", |_: &mut Context<'_>, count: u64| count);
        io.on_async("count_later", |_: Socket, count: u64| async move {
            if count > 9 { Err(Box::<dyn std::error::Error>::from("too many")) } else { Ok(count) }
        });
        io.on_error(|cx, error| {
            cx.emit("failed", (cx.event(), format!("[{}]", cx.args().raw()), error.to_string()));
        });
    });
    let client = TestServer::new(server).expect("the server is sound").connect("/").expect("everybody may");
    assert_eq!(client.call("count", 3).expect("an answer").args().raw(), "3");
    for (event, args, failure) in [
        ("count", "", r#"["failed","count","[]","count needs words"]"#),
        ("count", "13", r#"["failed","count","[13]","no thirteen"]"#),
        ("count_later", "10", r#"["failed","count_later","[10]","too many"]"#),
    ] {
        let args = crate::protocol::socketio::event::Args::of_elements(args, &[]);
        assert!(client.call(event, args).is_none(), "{event} is not acknowledged");
        assert_eq!(texts(&client), [failure]);
    }
}
