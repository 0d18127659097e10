//! What routes that wait and stream answer, byte by byte, however the request is cut.

use std::time::Duration;

use crate::http::{Event, Failure, Method, OwnedRequest, Request, Response, Status, Streamed};
use crate::testing::TestServer;
use crate::{Config, Json, Peer, Server};

const SECOND: Duration = Duration::from_secs(1);

fn letters(_: &Request<'_>) -> Streamed {
    Streamed::new("text/plain", |mut body| async move {
        body.send("ab").await?;
        body.send("").await?;
        body.send("0123456789abcdef").await?;
        Ok(())
    })
}

fn events(request: &Request<'_>) -> Streamed {
    let last = request.last_event_id().unwrap_or("none").to_owned();
    Streamed::events(move |mut events| async move {
        events.send(&Event::new(last).id(1).name("hello")).await?;
        Ok(())
    })
}

async fn upload(mut request: OwnedRequest) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = request.chunk().await? {
        bytes.extend(piece);
    }
    Ok(format!("{} {}", bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(5)])))
}

fn server() -> TestServer {
    let server = Server::new(Config { shards: 1, ..Config::default() })
        .namespace("/", |_| {})
        .before_routes("/guarded", |request: &Request<'_>| match request.cookie("in") {
            Some(_) => Ok(()),
            None => Err(Failure::new(Status::UNAUTHORIZED, "log in")),
        })
        .before_routes_async("/slowly", |request: OwnedRequest| async move {
            crate::sleep(Duration::from_millis(1)).await;
            request.query("no").map(|_| "not you")
        })
        .after_routes("/guarded", |_, response| response.header("X-After", "1"))
        .after_routes("/", |request, response| match request.query("mark") {
            Some(_) => response.header("X-Mark", "2"),
            None => response,
        })
        .route("/letters", letters)
        .route("/events", events)
        .route("/nothing", |_| letters_with(Status::NO_CONTENT))
        .route("/unchanged", |_| letters_with(Status::NOT_MODIFIED))
        .route("/split", |_| Streamed::new("text/plain", |_| async { Ok(()) }).header("X-A", "1\r\nX-B: 2"))
        .route("/own", |_| Streamed::new("text/plain", |_| async { Ok(()) }).header("Content-Length", "5"))
        .route_async("/wait", |_| async {
            crate::sleep(Duration::from_millis(1)).await;
            "waited"
        })
        .route_async("/letters-later", |request: OwnedRequest| async move { request.with(letters) })
        .route_async("/refused", |_| async { Err::<Response, _>(Failure::new(Status::CONFLICT, "not now")) })
        .route_async("/failed", |_| async { Err::<Response, _>("secret") })
        .route_async("/panics", |request: OwnedRequest| async move {
            assert!(request.query("calm").is_some(), "a route of a test panics");
        })
        .route_async("/json", |_| async { Json([1, 2]) })
        .route("/guarded/page", |_| "page")
        .route("/slowly/page", |_| "page")
        .route_method_async(Method::Post, "/whole", upload)
        .route_upload(Method::Post, "/upload", 20, upload)
        .route_upload(Method::Post, "/slowly/upload", 20, upload)
        .route("/next", |_| "next");
    TestServer::new(server).expect("the server is sound")
}

fn letters_with(status: Status) -> Streamed {
    Streamed::new("text/plain", |mut body| async move {
        body.send("never").await?;
        Ok(())
    })
    .with_status(status)
}

/// What some bytes are answered, without the dates, and whether the connection is over then.
fn exchange(server: &TestServer, pieces: &[&[u8]]) -> (String, bool) {
    let wire = {
        let mut host = server.host.borrow_mut();
        let wire = host.dial(0, Peer::Unix);
        for piece in pieces {
            host.write(wire, piece);
            host.settle();
        }
        wire
    };
    server.advance(Duration::from_millis(10));
    let mut host = server.host.borrow_mut();
    let text = String::from_utf8_lossy(host.arrived(wire)).into_owned();
    let is_over = host.is_over(wire);
    host.drop_wire(wire);
    host.settle();
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("Date: "));
    (lines.collect(), is_over)
}

const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

fn next() -> String {
    format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 4\r\n\r\nnext")
}

/// A request's first line and headers, its body, the answer, and whether the connection goes on.
type Row = (&'static str, &'static str, String, bool);

/// An answer that is whole.
fn whole(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{TEXT}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The same with headers that came after.
fn marked(status: &str, body: &str, headers: &str) -> String {
    whole(status, body).replace("Content-L", &format!("{headers}Content-L"))
}

/// The same, and the connection ends.
fn closing(status: &str, body: &str) -> String {
    whole(status, body).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
}

fn streams() -> Vec<Row> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nTransfer-Encoding: chunked\r\n";
    let chunks = "2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
    let stream = format!("{head}\r\n{chunks}");
    let of_events = "content-type: text/event-stream\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n";
    let event = "1c\r\nevent: hello\nid: 1\ndata: 7\n\n\r\n0\r\n\r\n";
    let events = format!("HTTP/1.1 200 OK\r\n{of_events}Transfer-Encoding: chunked\r\n\r\n{event}");
    let old = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nab0123456789abcdef".to_owned();
    let bare = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\n\r\n");
    let ours = "header \"Content-Length\" is written by the server";
    vec![
        ("GET /letters HTTP/1.1", "", stream.clone(), true),
        ("GET /letters-later HTTP/1.1", "", stream.clone(), true),
        ("GET /letters HTTP/1.1\r\nAccept-Encoding: gzip", "", stream, true),
        (
            "GET /letters HTTP/1.1\r\nConnection: close",
            "",
            format!("{head}Connection: close\r\n\r\n{chunks}"),
            false,
        ),
        ("GET /letters HTTP/1.0\r\nConnection: keep-alive", "", old, false),
        ("HEAD /letters HTTP/1.1", "", format!("{head}\r\n"), true),
        ("GET /nothing HTTP/1.1", "", bare("204 No Content"), true),
        ("GET /unchanged HTTP/1.1", "", bare("304 Not Modified"), true),
        ("GET /events HTTP/1.1\r\nLast-Event-ID: 7", "", events, true),
        (
            "GET /split HTTP/1.1",
            "",
            whole(FAILED, "the value of header \"X-A\" has a control character"),
            true,
        ),
        ("GET /own HTTP/1.1", "", whole(FAILED, ours), true),
    ]
}

const FAILED: &str = "500 Internal Server Error";

fn answers() -> Vec<Row> {
    let waited = format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 6\r\n\r\n");
    let allowed = marked("405 Method Not Allowed", "Method Not Allowed", "allow: GET, HEAD, OPTIONS\r\n");
    let json = whole("200 OK", "[1,2]").replace("text/plain; charset=utf-8", "application/json");
    let refused = marked("401 Unauthorized", "log in", "X-After: 1\r\n");
    let page = marked("200 OK", "page", "X-Mark: 2\r\nX-After: 1\r\n");
    let not_you = marked("200 OK", "not you", "X-Mark: 2\r\n");
    vec![
        ("GET /wait HTTP/1.1", "", whole("200 OK", "waited"), true),
        ("HEAD /wait HTTP/1.1", "", waited, true),
        ("POST /wait HTTP/1.1\r\nContent-Length: 0", "", allowed, true),
        ("GET /refused HTTP/1.1", "", whole("409 Conflict", "not now"), true),
        ("GET /failed HTTP/1.1", "", whole(FAILED, "Internal Server Error"), true),
        ("GET /panics HTTP/1.1", "", whole(FAILED, "Internal Server Error"), true),
        ("GET /panics?calm HTTP/1.1", "", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
        ("GET /json HTTP/1.1", "", json, true),
        ("GET /guarded/page HTTP/1.1", "", refused.clone(), true),
        ("GET /guarded/page?mark HTTP/1.1\r\nCookie: in=1", "", page, true),
        ("GET /%67uarded/none HTTP/1.1", "", refused, true),
        ("GET /slowly/page HTTP/1.1", "", whole("200 OK", "page"), true),
        ("GET /slowly/page?no&mark HTTP/1.1", "", not_you, true),
        ("GET /slowly/none HTTP/1.1", "", whole("404 Not Found", "Not Found"), true),
    ]
}

fn uploads() -> Vec<Row> {
    const CHUNKED: &str = "POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked";
    let letters = || whole("200 OK", "7 lette");
    let none = || whole("200 OK", "0 ");
    let too_large =
        || closing("413 Content Too Large", "the request body has more bytes than this route takes");
    let bad = |reason: &str| closing("400 Bad Request", reason);
    let huge = "POST /upload HTTP/1.1\r\nContent-Length: 99999999999999999999999999";
    vec![
        ("POST /whole HTTP/1.1\r\nContent-Length: 7", "letters", letters(), true),
        ("POST /whole HTTP/1.1\r\nContent-Length: 0", "", none(), true),
        ("POST /upload HTTP/1.1\r\nContent-Length: 7", "letters", letters(), true),
        ("POST /upload HTTP/1.1\r\nContent-Length: 0", "", none(), true),
        ("POST /upload HTTP/1.1", "", none(), true),
        (CHUNKED, "3\r\nlet\r\n4;x=y\r\nters\r\n0\r\nA: b\r\n\r\n", letters(), true),
        ("POST /slowly/upload HTTP/1.1\r\nContent-Length: 7", "letters", letters(), true),
        ("POST /upload HTTP/1.1\r\nContent-Length: 21", "", too_large(), false),
        (huge, "", bad("Content-Length is not a plain decimal number"), false),
        (CHUNKED, "ffffffffffffffff\r\n", too_large(), false),
        (CHUNKED, "14\r\n01234567890123456789\r\n1\r\n0\r\n0\r\n\r\n", too_large(), false),
        (CHUNKED, "2\r\nabc\r\n", bad("the chunks of the request body are malformed"), false),
    ]
}

#[test]
fn what_waits_or_streams_is_framed_the_same_at_every_cut() {
    let server = server();
    for (head, body, expected, goes_on) in [streams(), answers(), uploads()].concat() {
        let request = format!("{head}\r\nHost: a\r\n\r\n{body}");
        let whole = format!("{request}{NEXT}");
        let answer = if goes_on { format!("{expected}{}", next()) } else { expected };
        assert_eq!(exchange(&server, &[whole.as_bytes()]), (answer.clone(), !goes_on), "{request}");
        for cut in 1..whole.len() {
            let (first, second) = whole.as_bytes().split_at(cut);
            assert_eq!(
                exchange(&server, &[first, second]),
                (answer.clone(), !goes_on),
                "{request} cut at {cut}"
            );
        }
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        assert_eq!(exchange(&server, &bytes), (answer, !goes_on), "{request} byte by byte");
        assert_eq!(server.host.borrow().table(0, "routes"), 0, "{request}");
    }
    server.advance(100 * SECOND);
    for table in ["connections", "tasks", "routes", "sleeps"] {
        assert_eq!(server.host.borrow().table(0, table), 0, "{table}");
    }
}

#[test]
fn s10_1_1_a_client_that_waits_is_told_to_go_on_when_its_body_is_wanted() {
    let server = server();
    for (target, is_told) in [("/upload", true), ("/slowly/upload?no", false)] {
        let mut request = server.begin(
            Method::Post,
            target,
            &[("Expect", "100-continue"), ("Transfer-Encoding", "chunked")],
        );
        server.advance(Duration::from_millis(10));
        let arrived = String::from_utf8_lossy(server.host.borrow_mut().arrived(request.wire())).into_owned();
        assert_eq!(arrived.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), is_told, "{target}");
        assert_eq!(request.has_begun(), !is_told, "a check that refuses needs no body");
        if is_told {
            request.send(b"1\r\na\r\n0\r\n\r\n");
            assert_eq!(request.response().expect("it is whole").text(), "1 a");
        }
    }
}
