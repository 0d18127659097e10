//! HTTP requests as raw bytes, and what comes back.

use crate::http::{Request, Response};
use crate::testing::TestServer;
use crate::testing::host::WireId;
use crate::{Config, Peer, Server};

fn text_of(value: Option<&[u8]>) -> String {
    value.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn server(config: Config) -> TestServer {
    let server = Server::new(config).namespace("/", |_| {}).route("/name", |request: &Request<'_>| {
        let headers = request.headers();
        let (shown, bytes) = (headers.get("x-name").unwrap_or_default(), headers.get_bytes("x-name"));
        Response::text(format!("{shown} {} {:?}", text_of(bytes), request.cookie("theme")))
    });
    TestServer::new(server).expect("the server is sound")
}

/// A connection that sends these bytes.
fn send(server: &TestServer, bytes: &[u8]) -> WireId {
    let mut host = server.host.borrow_mut();
    let wire = host.dial(0, Peer::Unix);
    host.write(wire, bytes);
    host.settle();
    wire
}

/// What has arrived since last asked, and whether the connection is over.
fn arrived(server: &TestServer, wire: WireId) -> (String, bool) {
    let mut host = server.host.borrow_mut();
    let bytes = std::mem::take(host.arrived(wire));
    (String::from_utf8_lossy(&bytes).into_owned(), host.is_over(wire))
}

/// The first line and the body of what a request is answered.
fn answer(server: &TestServer, target: &str, headers: &[u8]) -> (String, String) {
    let request = [b"GET ", target.as_bytes(), b" HTTP/1.1\r\nHost: a\r\n", headers, b"\r\n"].concat();
    let wire = send(server, &request);
    let (text, _) = arrived(server, wire);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

const OK: &str = "HTTP/1.1 200 OK";
const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

#[test]
fn s5_5_a_header_of_any_bytes_refuses_nothing_that_it_does_not_decide() {
    let server = server(Config::default());
    for name in [
        "Cookie",
        "Referer",
        "User-Agent",
        "X-Forwarded-For",
        "X-Real-Name",
        "Accept-Encoding",
        "If-None-Match",
    ] {
        let header = [name.as_bytes(), b": caf\xe9 \xff\r\n"].concat();
        assert_eq!(answer(&server, OPEN, &header).0, OK, "{name}");
        assert_eq!(answer(&server, "/name", &header).0, OK, "{name}");
    }
    // An origin that is none of ours is refused as such, however it is written.
    assert_eq!(answer(&server, OPEN, b"Origin: http://a\xff\r\n").0, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer(&server, "/name", b"Origin: http://a\xff\r\n").0, OK);
    let forwarded = b"Origin: http://a\xff\r\nX-Forwarded-Host: a\xfe\r\nX-Forwarded-Proto: http\r\n";
    assert_eq!(
        answer(&server, OPEN, forwarded).0,
        "HTTP/1.1 400 Bad Request",
        "what is shown alike is not equal"
    );
}

#[test]
fn s5_5_a_value_is_shown_lossily_and_read_as_it_came() {
    let server = server(Config::default());
    let (_, body) = answer(&server, "/name", b"Cookie: name=Zo\xeb; theme=dark\r\nX-Name: Zo\xeb\r\n");
    assert_eq!(body, "Zo\u{fffd} 5a6feb Some(\"dark\")");
}

#[test]
fn s5_a_hundred_headers_are_not_too_many_and_their_bytes_are_a_setting() {
    let hundred = b"X-Forwarded-By-Something: 0123456789012345678901234567890123456789\r\n".repeat(99);
    assert_eq!(answer(&server(Config::default()), "/name", &hundred).0, OK);
    let large = [b"X-Token: ".as_slice(), &[b'x'; 40_000], b"\r\n"].concat();
    let (line, body) = answer(&server(Config::default()), "/name", &large);
    assert_eq!(line, "HTTP/1.1 431 Request Header Fields Too Large");
    assert!(body.contains("head_bytes_max"), "{body}");
    let config = Config { head_bytes_max: 64 * 1024, ..Config::default() };
    assert_eq!(answer(&server(config), "/name", &large).0, OK);
    let config = Config { head_bytes_max: 4 * 1024, ..Config::default() };
    assert_eq!(answer(&server(config), "/name", &hundred).0, "HTTP/1.1 431 Request Header Fields Too Large");
}

#[test]
fn s7_8_an_offer_to_upgrade_to_something_else_is_ignored() {
    let server = server(Config::default());
    let offers: [&[u8]; 9] = [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        b"Connection: Upgrade\r\nUpgrade:\r\n",
        b"Connection: Upgrade\r\nUpgrade: , ,\r\n",
        b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, IRC/6.9\r\nUpgrade: RTA/x11\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: Upgrade\r\n",
        b"Connection: Upgrade\r\nUpgrade: \xff, websockets\r\n",
        // Whoever passed the request on has taken the offer back.
        b"Connection: keep-alive\r\nUpgrade: websocket\r\n",
    ];
    for offer in offers {
        let (line, open) = answer(&server, OPEN, offer);
        assert_eq!(line, OK, "{}", offer.escape_ascii());
        assert_eq!(answer(&server, "/name", offer).0, OK, "{}", offer.escape_ascii());
        let sid = open.split('"').nth(3).expect("an open packet has a sid");
        let target = format!("POST {OPEN}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n");
        let wire = send(&server, &[target.as_bytes(), offer, b"\r\n40"].concat());
        assert!(arrived(&server, wire).0.starts_with(OK), "{}", offer.escape_ascii());
        let target = format!("GET {OPEN}&sid={sid} HTTP/1.1\r\nHost: a\r\n");
        let wire = send(&server, &[target.as_bytes(), offer, b"\r\n"].concat());
        assert!(arrived(&server, wire).0.starts_with(OK), "{}", offer.escape_ascii());
    }
    // Such an offer opens no WebSocket either.
    let target = "/socket.io/?EIO=4&transport=websocket";
    assert_eq!(answer(&server, target, offers[0]).0, "HTTP/1.1 400 Bad Request");
    let offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(answer(&server, OPEN, offer).0, "HTTP/1.1 400 Bad Request", "a poll is no WebSocket");
    assert!(server.client().connect("/").is_ok());
}

#[test]
fn what_is_pipelined_behind_a_poll_is_bounded() {
    let server = server(Config::default());
    for (bytes, is_over) in [(64 * 1024, false), (64 * 1024 + 1, true)] {
        let (_, open) = answer(&server, OPEN, b"");
        let sid = open.split('"').nth(3).expect("an open packet has a sid");
        let poll = format!("GET {OPEN}&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n");
        let wire = send(&server, &[poll.as_bytes(), &b"GET / ".repeat(bytes)[..bytes]].concat());
        assert_eq!(arrived(&server, wire), (String::new(), is_over), "{bytes} bytes");
    }
}
