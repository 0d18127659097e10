//! Which subprotocol WebSockets are answered: of endpoints, of raw Engine.IO and of raw routes, with and without a rule.

use crate::http::Request;
use crate::message::peer::Peer;
use crate::testing::TestServer;
use crate::{Config, EngineOptions, Server};

/// What a rule may answer.
type Choice<'a> = Result<Option<&'a str>, &'static str>;

/// Takes the offer after `token`, or refuses.
fn with_token<'a>(request: &'a Request<'_>) -> Choice<'a> {
    match request.protocols().nth(1) {
        Some("secret") => Ok(request.protocols().next()),
        Some("none") => Ok(None),
        Some("other") => Ok(Some("never-offered")),
        Some("panic") => panic!("a rule of the tests panics"),
        _ => Err("a token is needed"),
    }
}

fn server(subprotocols: &[&str]) -> TestServer {
    let subprotocols = subprotocols.iter().map(|name| (*name).to_owned()).collect();
    let engine = EngineOptions { subprotocols, ..EngineOptions::default() };
    let server = Server::new(Config { engine, ..Config::default() })
        .namespace("/", |_| {})
        .endpoint("/ruled/", |endpoint| {
            endpoint.namespace("/", |_| {});
            endpoint.choose_protocol(with_token);
        })
        .engine("/engine/", |route| route.choose_protocol(with_token))
        .websocket("/free", |route| {
            route.on_open(|ws| ws.send(crate::Message::Text(&ws.protocol().unwrap_or("no protocol".into()))));
        })
        .websocket("/tokens/{id}", |route| {
            route.choose_protocol(|request| match request.param("id") {
                Some("open") => Ok(request.protocols().last()),
                _ => with_token(request),
            });
        });
    TestServer::new(server).expect("the server is sound")
}

/// The answer to a WebSocket handshake with these lines of offers.
fn ask(server: &TestServer, target: &str, offers: &[&str]) -> String {
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: own\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for offer in offers {
        request.push_str(&format!("Sec-WebSocket-Protocol: {offer}\r\n"));
    }
    request.push_str("\r\n");
    let mut host = server.host.borrow_mut();
    let wire = host.dial(0, Peer::Tcp(([127, 0, 0, 1], 40_000).into()));
    host.write(wire, request.as_bytes());
    host.settle();
    String::from_utf8_lossy(&std::mem::take(host.arrived(wire))).into_owned()
}

type Names = &'static [&'static str];

/// A status and, with a 101, the subprotocol.
type Outcome<'a> = (&'a str, Option<&'a str>);

fn outcome(answer: &str) -> Outcome<'_> {
    let protocol = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
    (answer.get(9..12).unwrap_or_default(), protocol)
}

const MAIN: &str = "/socket.io/?EIO=4&transport=websocket";
const RULED: &str = "/ruled/?EIO=4&transport=websocket";
const ENGINE: &str = "/engine/?EIO=4&transport=websocket";

#[test]
fn the_first_that_is_offered_is_answered_unless_the_server_says_which_it_serves() {
    let rows: &[(Names, &str, Names, Outcome)] = &[
        (&[], MAIN, &[], ("101", None)),
        (&[], MAIN, &["chat"], ("101", Some("chat"))),
        (&[], MAIN, &["chat, superchat"], ("101", Some("chat"))),
        (&[], MAIN, &["chat", "superchat"], ("101", Some("chat"))),
        (&[], MAIN, &["chat", "chat"], ("400", None)),
        (&[], MAIN, &["cha t"], ("400", None)),
        (&["superchat"], MAIN, &["chat, superchat"], ("101", Some("superchat"))),
        (&["superchat"], MAIN, &["chat", "superchat"], ("101", Some("superchat"))),
        (&["superchat"], MAIN, &["chat"], ("101", None)),
        (&["superchat"], MAIN, &[], ("101", None)),
        (&["superchat"], "/free", &["chat"], ("101", Some("chat"))),
        (&[], "/free", &[], ("101", None)),
    ];
    for (served, target, offers, expected) in rows {
        let answer = ask(&server(served), target, offers);
        assert_eq!(outcome(&answer), *expected, "{served:?} {target} {offers:?}: {answer}");
    }
}

#[test]
fn a_rule_chooses_or_refuses() {
    let rows: &[(Names, Outcome)] = &[
        (&["chat, secret"], ("101", Some("chat"))),
        (&["chat", "secret"], ("101", Some("chat"))),
        (&["chat, none"], ("101", None)),
        (&["chat, other"], ("101", None)),
        (&["chat, panic"], ("403", None)),
        (&["chat, wrong"], ("403", None)),
        (&["chat"], ("403", None)),
        (&[], ("403", None)),
    ];
    let server = server(&[]);
    for target in [RULED, ENGINE, "/tokens/1"] {
        for (offers, expected) in rows {
            let answer = ask(&server, target, offers);
            assert_eq!(outcome(&answer), *expected, "{target} {offers:?}: {answer}");
            if offers.first() == Some(&"chat") && offers.len() == 1 {
                assert!(answer.ends_with("a token is needed"), "{target}: {answer}");
            }
        }
    }
    assert_eq!(outcome(&ask(&server, "/tokens/open", &["a, b"])), ("101", Some("b")));
}

#[test]
fn a_route_knows_what_was_agreed_on() {
    let server = server(&[]);
    assert!(ask(&server, "/free", &["chat"]).ends_with("chat"));
    assert!(ask(&server, "/free", &[]).ends_with("no protocol"));
}

#[test]
fn a_rule_is_asked_before_an_upgrade_too() {
    let server = server(&[]);
    let opened = server.get("/ruled/?EIO=4&transport=polling").text();
    let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
    let target = format!("/ruled/?EIO=4&transport=websocket&sid={sid}");
    assert_eq!(outcome(&ask(&server, &target, &["chat"])), ("403", None));
    assert_eq!(outcome(&ask(&server, &target, &["chat, secret"])), ("101", Some("chat")));
}
