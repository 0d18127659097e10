//! Handshakes and connects that are decided out of the usual order: clients that are told that they are connected before their handler has
//! decided (`always_connect`), rules about handshakes that take their time, and a heartbeat with grace.

use std::time::Duration;

use crate::http::{Method, OwnedRequest};
use crate::testing::{TestClient, TestServer};
use crate::{Config, Context, Refused, Server, Socket};

const SECOND: Duration = Duration::from_secs(1);

fn always() -> Config {
    let mut config = Config { shards: 1, ..Config::default() };
    config.engine.always_connect = true;
    config
}

/// A server whose connect handler does what the client's auth says, and which notes what has become of its clients.
fn server(config: Config) -> (TestServer, crossbeam_channel::Receiver<String>) {
    let (tell, told) = crossbeam_channel::unbounded();
    let server = Server::new(config).namespace("/", move |io| {
        let [events, ends] = [(); 2].map(|()| tell.clone());
        io.on_connect_async(|socket: Socket, auth: serde_json::Value| async move {
            socket.emit("asked", ());
            crate::sleep(Duration::from_millis(auth["millis"].as_u64().unwrap_or(0))).await;
            socket.emit("answered", ());
            match auth["verdict"].as_str() {
                Some("refused") => Err(Refused::new("no")),
                Some("panic") => panic!("a connect handler of a test panics"),
                Some("leave") => {
                    socket.disconnect();
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        io.on("say", move |_: &mut Context, text: String| {
            let _ = events.send(text.clone());
            text
        });
        io.on_disconnect(move |_, reason| {
            let _ = ends.send(reason.to_string());
        });
    });
    (TestServer::new(server).expect("the server is sound"), told)
}

fn connect(server: &TestServer, verdict: &str, millis: u64) -> TestClient {
    let auth = serde_json::json!({ "verdict": verdict, "millis": millis });
    server.client().auth(&auth).connect("/").expect("nobody is refused at once")
}

fn names(client: &TestClient) -> Vec<String> {
    client.received().iter().map(|event| event.name().to_owned()).collect()
}

fn assert_at_rest(server: &TestServer) {
    for table in ["tasks", "routes", "sleeps", "deferred"] {
        assert_eq!(server.host.borrow().table(0, table), 0, "{table}");
    }
}

#[test]
fn a_client_is_told_at_once_and_its_events_wait_until_its_handler_has_decided() {
    let (server, told) = server(always());
    let client = connect(&server, "accepted", 1000);
    assert!(client.is_connected() && !client.id().is_empty());
    assert_eq!(names(&client), ["asked"], "what the handler emits arrives while it works");
    server.handle().namespace("/").emit("news", ());
    let answer = client.emit_with_ack("say", "early");
    assert_eq!(names(&client), ["news"], "so does what everybody gets");
    assert!(told.is_empty() && client.answer(answer).is_none());
    server.advance(SECOND);
    assert_eq!((names(&client), told.try_recv()), (vec!["answered".to_owned()], Ok("early".to_owned())));
    assert!(client.answer(answer).is_some());
    assert_eq!(client.call("say", "late").unwrap().first::<String>().unwrap(), "late");
    client.disconnect();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["late", "client namespace disconnect"]);
    assert_at_rest(&server);
}

#[test]
fn who_is_not_let_in_is_disconnected_and_no_handler_hears_of_him() {
    for (verdict, millis) in
        [("refused", 0), ("refused", 1000), ("panic", 1000), ("leave", 1000), ("leave", 0)]
    {
        let (server, told) = server(always());
        let client = connect(&server, verdict, millis);
        client.emit("say", "never");
        server.advance(SECOND);
        assert!(!client.is_connected(), "{verdict} {millis}");
        assert_eq!(client.refusal(), None, "{verdict} {millis}: it was connected, so it hears a disconnect");
        assert!(names(&client).starts_with(&["asked".to_owned()]), "{verdict} {millis}");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [""; 0], "{verdict} {millis}");
        assert_eq!(server.handle().stats()[0].sockets, 0, "{verdict} {millis}");
        // It may try again over the same connection.
        let again = client.join_namespace("/", &serde_json::json!({})).expect("nobody is refused at once");
        let answer = again.emit_with_ack("say", "again");
        server.advance(SECOND);
        assert_eq!(again.answer(answer).unwrap().first::<String>().unwrap(), "again");
        assert_at_rest(&server);
    }
}

#[test]
fn a_client_that_leaves_before_its_handler_has_decided_was_never_there() {
    for is_cut in [false, true] {
        let (server, told) = server(always());
        let client = connect(&server, "accepted", 1000);
        if is_cut {
            client.cut();
        } else {
            client.disconnect();
        }
        assert_eq!(server.handle().stats()[0].sockets, 0, "{is_cut}");
        server.advance(SECOND);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [""; 0], "{is_cut}");
        assert_at_rest(&server);
    }
}

#[test]
fn without_it_a_client_hears_of_its_refusal() {
    let (server, _) = server(Config { shards: 1, ..Config::default() });
    let client = connect(&server, "refused", 1000);
    assert!(!client.is_connected() && names(&client).is_empty());
    server.advance(SECOND);
    assert_eq!(client.refusal().map(|refused| refused.message), Some("no".to_owned()));
}

/// A rule that takes a second.
fn with_rule(config: Config) -> TestServer {
    let server = Server::new(config).namespace("/", |io| io.on("echo", |_: &mut Context, text: String| text));
    let server = server.allow_request_async(|request: OwnedRequest| async move {
        crate::sleep(SECOND).await;
        assert_ne!(request.query("token").as_deref(), Some("panic"), "a rule of a test panics");
        if request.query("token").as_deref() == Some("secret") { Ok(()) } else { Err("a token is needed") }
    });
    TestServer::new(server).expect("the server is sound")
}

#[test]
fn a_handshake_waits_for_a_rule_that_takes_its_time_on_either_transport() {
    let server = with_rule(Config { shards: 1, ..Config::default() });
    let target = |token: &str| format!("/socket.io/?EIO=4&transport=polling&token={token}");
    for (token, status, says) in [
        ("secret", 200, "0{\"sid\":\""),
        ("wrong", 403, "{\"code\":4,\"message\":\"a token is needed\"}"),
        ("panic", 500, "Internal Server Error"),
    ] {
        let mut request = server.begin(Method::Get, &target(token), &[]);
        assert!(!request.has_begun(), "{token}");
        server.advance(SECOND);
        assert_eq!((request.status(), request.is_closed()), (Some(status), false), "{token}");
        assert!(request.text().starts_with(says), "{token}: {}", request.text());
    }
    // What follows the handshake of a WebSocket in the same write is read once it is one.
    let client = server.client().query("token", "secret").connect("/").expect("it is not refused yet");
    let answer = client.emit_with_ack("echo", "hello");
    assert!(!client.is_connected());
    server.advance(SECOND);
    assert_eq!(client.answer(answer).unwrap().first::<String>().unwrap(), "hello");
    let refused = server.client().query("token", "wrong").connect("/").expect("it is not refused yet");
    server.advance(SECOND);
    assert!(!refused.is_connected());
    assert_eq!(server.handle().stats()[0].sessions, 2);
    assert_at_rest(&server);
}

#[test]
fn handshakes_that_wait_are_bounded_and_end_with_their_clients() {
    let server = with_rule(Config { shards: 1, routes_waiting_max: 2, ..Config::default() });
    let target = "/socket.io/?EIO=4&transport=polling&token=secret";
    let waiting: Vec<_> = (0..2).map(|_| server.begin(Method::Get, target, &[])).collect();
    let mut refused = server.begin(Method::Get, target, &[]);
    assert_eq!(refused.status(), Some(503));
    drop(waiting);
    assert_at_rest(&server);
    let server = with_rule(Config { shards: 1, route_timeout: SECOND / 2, ..Config::default() });
    let mut late = server.begin(Method::Get, target, &[]);
    server.advance(2 * SECOND);
    assert_eq!((late.status(), server.handle().stats()[0].sessions), (Some(504), 0));
    assert_at_rest(&server);
}

#[test]
fn clients_are_told_of_more_patience_than_the_server_needs() {
    let mut config = Config { shards: 1, ..Config::default() };
    (config.engine.ping_interval, config.engine.ping_grace) = (SECOND, 3 * SECOND);
    config.engine.allow_eio3 = true;
    let server = TestServer::new(Server::new(config).namespace("/", |_| {})).expect("the server is sound");
    for revision in [3, 4] {
        let answer = server.get(&format!("/socket.io/?EIO={revision}&transport=polling"));
        assert!(answer.text().contains("\"pingInterval\":4000,\"pingTimeout\":20000"), "{}", answer.text());
    }
    let client = server.connect("/").expect("everybody may");
    client.answer_pings(false);
    // The ping comes after the interval itself, and has the timeout from then on.
    server.advance(Duration::from_millis(20_900));
    assert!(client.is_connected());
    server.advance(Duration::from_millis(200));
    assert!(!client.is_connected());
}
