//! Options that endpoints and raw routes have of their own, beside those of the configuration.

use std::time::Duration;

use crate::http::CorsOrigins;
use crate::message::peer::Peer;
use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::{Config, EngineOptions, Parser, Server};

const PAGE: &str = "https://page.example";

fn serve() -> TestServer {
    let origins = CorsOrigins::parse(PAGE).expect("an origin");
    let server = Server::new(Config { shards: 2, permessage_deflate: true, ..Config::default() })
        .namespace("/", |_| {})
        .endpoint("/small.io/", |endpoint| {
            endpoint.settings.sessions_max = 1;
            endpoint.settings.permessage_deflate = false;
            endpoint.namespace("/", |_| {});
        })
        .websocket("/plain", |route| route.on_message(|ws, message| ws.send(message)))
        .websocket("/own", move |route| {
            route
                .options()
                .message_bytes_max(10)
                .ping(Duration::from_millis(300), Duration::from_millis(200))
                .subprotocols(["b", "c"])
                .origins(origins.clone());
            route.on_message(|ws, message| ws.send(message));
        })
        .engine("/own.io/", |route| {
            route.options().message_bytes_max(10).ping(Duration::from_secs(7), Duration::from_secs(3));
        });
    TestServer::new(server).expect("the server is sound")
}

/// A WebSocket handshake on shard 0 with some more lines; what is answered.
fn upgrade(server: &TestServer, target: &str, lines: &str) -> (WireId, String) {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: own\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    let mut host = server.host.borrow_mut();
    let wire = host.dial(0, Peer::Tcp(([127, 0, 0, 1], 40_000).into()));
    host.write(wire, request.as_bytes());
    host.settle();
    let answer = String::from_utf8_lossy(&std::mem::take(host.arrived(wire))).into_owned();
    (wire, answer)
}

/// A masked text frame, and what is answered.
fn say(server: &TestServer, wire: WireId, text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    let mut host = server.host.borrow_mut();
    host.write(wire, &frame);
    host.settle();
    std::mem::take(host.arrived(wire))
}

#[test]
fn a_raw_route_has_limits_times_subprotocols_and_origins_of_its_own() {
    let server = serve();
    let origin = format!("Origin: {PAGE}\r\n");
    for (target, lines, begins, says) in [
        ("/plain", "Sec-WebSocket-Protocol: a\r\n", "HTTP/1.1 101", "Sec-WebSocket-Protocol: a\r\n"),
        ("/own", "Sec-WebSocket-Protocol: a, c, b\r\n", "HTTP/1.1 101", "Sec-WebSocket-Protocol: c\r\n"),
        ("/plain", origin.as_str(), "HTTP/1.1 403", "Origin not allowed"),
        ("/own", origin.as_str(), "HTTP/1.1 101", ""),
        ("/own", "Origin: https://other.example\r\n", "HTTP/1.1 403", "Origin not allowed"),
        ("/own", "Origin: http://own\r\n", "HTTP/1.1 101", ""),
    ] {
        let (_, answer) = upgrade(&server, target, lines);
        let has = |part: &str| answer.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        assert!(answer.starts_with(begins) && has(says), "{target} {lines}: {answer}");
    }
    let (_, answer) = upgrade(&server, "/own", "Sec-WebSocket-Protocol: a\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 101") && !answer.to_ascii_lowercase().contains("-protocol"),
        "{answer}"
    );
    let (plain, own) = (upgrade(&server, "/plain", "").0, upgrade(&server, "/own", "").0);
    for (wire, text, first) in
        [(plain, "0123456789a", 0x81), (own, "0123456789", 0x81), (own, "0123456789a", 0x88)]
    {
        assert_eq!(say(&server, wire, text).first(), Some(&first), "{text}");
    }
    // Pings come by the route's time, and who is silent is closed by it.
    let own = upgrade(&server, "/own", "").0;
    server.advance(Duration::from_millis(450));
    assert!(std::mem::take(server.host.borrow_mut().arrived(own)).starts_with(&[0x89, 0]), "it is pinged");
    assert!(server.host.borrow_mut().arrived(plain).is_empty(), "the other is not");
    server.advance(Duration::from_millis(400));
    assert!(server.host.borrow().is_over(own), "it is closed");
    assert_eq!(say(&server, plain, "late").first(), Some(&0x81));
}

#[test]
fn an_endpoint_has_sessions_and_compression_of_its_own() {
    let server = serve();
    let open = |path: &str| server.get(&format!("{path}?EIO=4&transport=polling")).status;
    // Requests go to the two shards in turn, and each has the bound.
    let answers = ["/small.io/", "/small.io/", "/small.io/", "/small.io/", "/socket.io/"].map(open);
    assert_eq!(answers, [200, 200, 503, 503, 200]);
    server.advance(Duration::from_secs(60));
    assert_eq!(open("/small.io/"), 200, "the first has gone");
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let is_taken = |path: &str| {
        let (_, answer) = upgrade(&server, &format!("{path}?EIO=4&transport=websocket"), offer);
        answer.to_ascii_lowercase().contains("permessage-deflate")
    };
    server.advance(Duration::from_secs(60));
    assert_eq!((is_taken("/socket.io/"), is_taken("/small.io/")), (true, false));
    let opened = server.get("/own.io/?EIO=4&transport=polling").text();
    assert!(opened.contains("\"pingInterval\":7000,\"pingTimeout\":3000,\"maxPayload\":10"), "{opened}");
}

#[test]
fn what_cannot_be_right_is_named_with_its_path() {
    let main = || {
        Server::new(Config { engine: EngineOptions::default(), ..Config::default() }).namespace("/", |_| {})
    };
    let none = |server: Server| TestServer::new(server).expect_err("it is wrong").to_string();
    let said = none(main().websocket("/own", |route| {
        route.options().message_bytes_max(0);
    }));
    assert!(said.contains("/own") && said.contains("max_http_buffer_size"), "{said}");
    let said = none(main().websocket("/own", |route| {
        route.options().inflate_ratio_max(0);
    }));
    assert!(said.contains("/own") && said.contains("inflate_ratio_max"), "{said}");
    let said = none(main().engine("/own.io/", |route| {
        route.options().subprotocols(["a b"]);
    }));
    assert!(said.contains("/own.io/") && said.contains("subprotocols"), "{said}");
    let said = none(main().endpoint("/x.io/", |endpoint| {
        endpoint.settings.parser = Parser::Auto;
        endpoint.settings.sessions_max = 0;
        endpoint.namespace("/", |_| {});
    }));
    assert!(said.contains("/x.io/") && said.contains("sessions_max"), "{said}");
    let many = (0..300).fold(main(), |server, number| {
        server.websocket(&format!("/own/{number}"), |route| {
            route.options().message_bytes_max(1);
        })
    });
    assert!(none(many).contains("the most is 255"));
}
