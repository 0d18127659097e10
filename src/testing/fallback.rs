//! Requests that are answered from outside their shard: what each kind of request and answer comes to, who waits for whom, and what is
//! bounded.

use std::future::Future;
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::http::{BodyError, BodyWriter, Gone, Method, RequestBody, Responder, Response, Status};
use crate::shard::value::exchange::{Begun, Exchange, Given};
use crate::testing::{TestRequest, TestServer};
use crate::{Config, Server};

const SECOND: Duration = Duration::from_secs(1);

const KIB: usize = 1024;

/// A request that was given away.
struct Job {
    /// Method, path, query, and what it has of its body when it is given away.
    asked: String,
    responder: Responder,
}

type Jobs = crossbeam_channel::Receiver<Job>;

fn config() -> Config {
    let mut config = Config { shards: 1, upload_bytes_max: 300 * KIB, ..Config::default() };
    config.engine.max_http_buffer_size = 100 * KIB;
    config
}

/// A server that gives away what it does not know.
fn server(config: Config) -> (TestServer, Jobs) {
    with(config, |server| server)
}

fn with(config: Config, more: impl FnOnce(Server) -> Server) -> (TestServer, Jobs) {
    let (queue, jobs) = crossbeam_channel::unbounded();
    let server = Server::new(config).namespace("/", |_| {}).route("/now", |_| "now").fallback(
        move |request, responder| {
            let (method, path, query) = (request.method_name(), request.path(), request.query_string());
            let asked = format!("{method} {path}?{query} {}", request.body().len());
            let _ = queue.send(Job { asked, responder });
        },
    );
    (TestServer::new(more(server)).expect("the server is sound"), jobs)
}

fn next(jobs: &Jobs) -> Job {
    jobs.try_recv().expect("a request was given away")
}

fn begin(server: &TestServer, jobs: &Jobs, len: Option<usize>) -> (TestRequest, BodyWriter) {
    let request = server.begin(Method::Get, "/stream", &[]);
    (request, next(jobs).responder.begin(Response::text(""), len))
}

fn assert_at_rest(server: &TestServer) {
    for table in ["tasks", "routes", "sleeps", "deferred"] {
        assert_eq!(server.host.borrow().table(0, table), 0, "{table}");
    }
}

#[test]
fn what_nothing_else_answers_is_given_away_and_answered_whole() {
    let (server, jobs) = server(config());
    let rows = [
        (Method::Get, "/a?b=%20c", &b""[..], "GET /a?b=%20c 0"),
        (Method::Post, "/form", &[b'x'; 90_000][..], "POST /form? 90000"),
        (Method::Delete, "/thing", b"", "DELETE /thing? 0"),
        (Method::Options, "/thing", b"", "OPTIONS /thing? 0"),
    ];
    for (method, target, body, asked) in rows {
        let length = body.len().to_string();
        let mut request = server.begin(method, target, &[("Content-Length", &length)]);
        request.send(body);
        assert!(!request.has_begun(), "{target}: nobody has answered yet");
        let job = next(&jobs);
        assert_eq!(job.asked, asked);
        let mut read = Vec::new();
        job.responder.body().read_to_end(&mut read).expect("it is whole");
        assert_eq!(read, body, "{target}");
        job.responder.respond(Response::text("done").with_status(Status::CREATED).header("X-By", "a thread"));
        server.settle();
        let answer = request.response().expect("it is answered");
        assert_eq!(
            (answer.status, answer.text(), answer.header("x-by")),
            (201, "done".into(), Some("a thread"))
        );
        // The connection goes on.
        request.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(!request.is_closed());
        assert_at_rest(&server);
    }
    assert_eq!(server.get("/now").text(), "now");
    assert!(jobs.is_empty(), "what a route answers is not given away");
}

#[test]
fn a_head_request_gets_a_head_and_its_writer_writes_into_the_void() {
    let (server, jobs) = server(config());
    for len in [None, Some(200_000)] {
        let mut request = server.begin(Method::Head, "/file", &[]);
        let mut writer = next(&jobs).responder.begin(Response::text(""), len);
        writer.write([0; 200_000]).expect("nobody is told to stop");
        assert!(!writer.is_gone());
        writer.finish();
        server.settle();
        assert_eq!((request.status(), request.is_closed()), (Some(200), false));
        let expected = len.map(|len| len.to_string());
        assert_eq!((request.header("content-length"), request.body()), (expected, Vec::new()));
        assert_at_rest(&server);
    }
}

#[test]
fn methods_that_nobody_knows_keep_their_names() {
    let (server, jobs) = server(config());
    let mut request = server.begin(Method::Get, "/now", &[]);
    request.send(b"PROPFIND /dav HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(next(&jobs).asked, "PROPFIND /dav? 0");
}

#[test]
fn a_stream_is_as_fast_as_its_client_and_its_writer_is_told_when_to_wait() {
    let (server, jobs) = server(config());
    for len in [None, Some(1_000_000)] {
        let (mut request, mut writer) = begin(&server, &jobs, len);
        request.set_reading(false);
        let (mut written, bytes) = (0, vec![b'x'; 1_000_000]);
        for _ in 0..10 {
            written += writer.try_write(&bytes[written..]).expect("the client is there");
            server.settle();
        }
        // What is on its way to the shard, what waits there for room, and what the client is owed.
        assert!((128 * KIB..=192 * KIB).contains(&written), "{written} bytes are held");
        assert_eq!(writer.try_write(b"x"), Ok(0));
        request.set_reading(true);
        while written < bytes.len() {
            written += writer.try_write(&bytes[written..]).expect("the client is there");
            server.settle();
        }
        // Where its length was told, the client knows.
        assert_eq!(request.is_complete(), len.is_some());
        writer.finish();
        server.settle();
        assert!(request.is_complete(), "{len:?}");
        assert_eq!(request.header("content-length"), len.map(|len| len.to_string()));
        assert_eq!(request.body().len(), bytes.len());
        assert!(!request.is_closed());
        assert_at_rest(&server);
    }
}

#[test]
fn a_stream_keeps_to_the_length_that_its_client_was_told() {
    let rows = [
        (Some(5), "hello", true, "hello", false),
        (Some(5), "hello, world", true, "hello", false),
        (Some(12), "hello", true, "hello", true),
        (Some(0), "", true, "", false),
        (None, "hello", true, "hello", false),
        (None, "", true, "", false),
        (None, "hello", false, "hello", true),
        (Some(5), "hello", false, "hello", true),
    ];
    let (server, jobs) = server(config());
    for (len, written, is_finished, body, is_cut) in rows {
        let row = format!("{len:?} {written} {is_finished}");
        let (mut request, mut writer) = begin(&server, &jobs, len);
        writer.write(written).expect("the client is there");
        if is_finished {
            writer.finish();
        } else {
            drop(writer);
        }
        server.settle();
        assert_eq!((request.text(), request.is_closed()), (body.to_owned(), is_cut), "{row}");
        assert_at_rest(&server);
    }
}

#[test]
fn who_answers_hears_that_the_client_has_gone() {
    let (server, jobs) = server(config());
    let request = server.begin(Method::Get, "/page", &[]);
    let responder = next(&jobs).responder;
    assert!(!responder.is_gone());
    request.leave();
    assert!(responder.is_gone());
    responder.respond(Response::text("too late"));

    let (request, mut writer) = begin(&server, &jobs, None);
    writer.write("half").expect("the client is there");
    request.leave();
    assert_eq!((writer.write("more"), writer.is_gone()), (Err(Gone), true));
    drop(writer);

    let mut request = server.begin(Method::Put, "/file", &[("Content-Length", "200000")]);
    let mut body = next(&jobs).responder.body();
    request.send(b"half");
    request.leave();
    let error = body.read_to_end(&mut Vec::new()).expect_err("the rest cannot come");
    let within = error.get_ref().and_then(|within| within.downcast_ref::<BodyError>());
    assert_eq!(within, Some(&BodyError::Over));
    server.settle();
    assert_at_rest(&server);
}

#[test]
fn a_request_that_nobody_answers_is_a_500_and_one_that_takes_too_long_a_504() {
    let (server, jobs) = server(Config { route_timeout: 10 * SECOND, ..config() });
    let mut request = server.begin(Method::Get, "/page", &[]);
    drop(next(&jobs));
    server.settle();
    assert_eq!((request.status(), request.is_closed()), (Some(500), false));

    let mut request = server.begin(Method::Get, "/page", &[]);
    let job = next(&jobs);
    server.advance(11 * SECOND);
    assert_eq!((request.status(), job.responder.is_gone()), (Some(504), true));
    job.responder.respond(Response::text("too late"));
    server.settle();
    request.send(b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!request.is_closed(), "what came too late is not taken for the next answer");
    assert_at_rest(&server);
}

#[test]
fn a_client_that_takes_nothing_of_a_stream_is_closed() {
    let (server, jobs) = server(config());
    let (mut request, mut writer) = begin(&server, &jobs, None);
    request.set_reading(false);
    for _ in 0..5 {
        writer.try_write(&[0; 64 * KIB]).expect("the client is there");
        server.settle();
    }
    server.advance(31 * SECOND);
    assert!(writer.is_gone());
    assert_at_rest(&server);
}

/// Reads what has come, without waiting for more.
fn read_now(server: &TestServer, body: &mut RequestBody) -> Result<usize, BodyError> {
    let (mut bytes, mut empty) = (0, 0);
    let mut cx = Context::from_waker(Waker::noop());
    // To ask once is to want it, and then the shard looks what there is.
    while empty < 2 {
        let piece = pin!(body.next_piece()).poll(&mut cx);
        server.settle();
        match piece {
            Poll::Ready(piece) => match piece? {
                Some(piece) => bytes += piece.len(),
                None => break,
            },
            Poll::Pending => empty += 1,
        }
    }
    Ok(bytes)
}

#[test]
fn a_long_body_is_read_while_it_comes_and_no_faster_than_it_is_wanted() {
    let (server, jobs) = server(config());
    let mut request = server.begin(Method::Put, "/file", &[("Content-Length", "300000")]);
    let job = next(&jobs);
    assert_eq!(job.asked, "PUT /file? 0", "it is given away with its head");
    let mut body = job.responder.body();
    request.send(&[b'x'; 300_000]);
    assert!(server.handle().stats()[0].partial_bytes <= 192 * KIB as u64 + 300_000, "it waits");
    let mut read = 0;
    while read < 300_000 {
        let now = read_now(&server, &mut body).expect("it comes");
        assert!(now > 0, "after {read}");
        read += now;
    }
    assert_eq!(body.read_piece(), Ok(None));
    job.responder.respond(Response::text(read.to_string()));
    server.settle();
    assert_eq!((request.text(), request.is_closed()), ("300000".to_owned(), false));
    assert_at_rest(&server);
}

#[test]
fn a_body_without_a_length_comes_in_chunks_of_the_same_bound() {
    let (server, jobs) = server(config());
    let chunked = [("Transfer-Encoding", "chunked")];
    let mut request = server.begin(Method::Post, "/log", &chunked);
    let job = next(&jobs);
    let mut body = job.responder.body();
    request.send(b"5\r\nhello\r\n");
    assert_eq!(read_now(&server, &mut body), Ok(5));
    request.send(b"1\r\n!\r\n0\r\n\r\n");
    assert_eq!(read_now(&server, &mut body), Ok(1));
    assert_eq!(body.read_piece(), Ok(None));
    job.responder.respond(Response::text("thanks"));
    server.settle();
    assert_eq!((request.text(), request.is_closed()), ("thanks".to_owned(), false));

    let mut request = server.begin(Method::Post, "/log", &chunked);
    let job = next(&jobs);
    let mut body = job.responder.body();
    let ended = (0..40).find_map(|_| {
        request.send(&[b"2710\r\n", &[b'x'; 10_000][..], b"\r\n"].concat());
        read_now(&server, &mut body).err()
    });
    assert_eq!(ended, Some(BodyError::TooLarge));
    job.responder.respond(Response::text("no").with_status(BodyError::TooLarge.status()));
    server.settle();
    assert_eq!((request.status(), request.is_closed()), (Some(413), true));
    assert_at_rest(&server);
}

#[test]
fn a_body_that_is_too_long_is_refused_before_anybody_is_asked() {
    let (server, jobs) = server(config());
    let mut request = server.begin(Method::Put, "/file", &[("Content-Length", "307201")]);
    assert_eq!((request.status(), request.is_closed()), (Some(413), true));
    // A path of a route's is the route's affair.
    let mut request = server.begin(Method::Put, "/now", &[("Content-Length", "200000")]);
    assert_eq!(request.status(), Some(413));
    assert!(jobs.is_empty());
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_when_its_body_is_read() {
    let (server, jobs) = server(config());
    let ask = |len: &str| {
        server.begin(Method::Put, "/file", &[("Content-Length", len), ("Expect", "100-continue")])
    };
    let told = |request: &TestRequest| {
        let arrived = server.host.borrow_mut().arrived(request.wire()).clone();
        arrived.starts_with(b"HTTP/1.1 100 Continue\r\n\r\n")
    };
    let mut request = ask("200000");
    let job = next(&jobs);
    assert!(!told(&request));
    assert_eq!(read_now(&server, &mut job.responder.body()), Ok(0));
    assert!(told(&request));
    request.send(&[0; 200_000]);
    let mut body = job.responder.body();
    let mut read = 0;
    while read < 200_000 {
        read += read_now(&server, &mut body).expect("it comes");
    }
    job.responder.respond(Response::text("done"));
    server.settle();
    assert_eq!((request.text(), request.is_closed()), ("done".to_owned(), false));
    // Who refuses does not want the body, and the connection ends: nobody knows whether it comes.
    let mut request = ask("200000");
    next(&jobs).responder.respond(Response::text("no").with_status(Status::FORBIDDEN));
    server.settle();
    assert_eq!((told(&request), request.status(), request.is_closed()), (false, Some(403), true));
    // A short one is awaited before anybody is asked.
    let request = ask("10");
    assert!(told(&request) && jobs.is_empty());
    drop(request);
    assert_at_rest(&server);
}

#[test]
fn a_route_is_not_late_while_its_client_sends() {
    let (server, jobs) = server(Config { route_timeout: 10 * SECOND, ..config() });
    let mut request = server.begin(Method::Put, "/file", &[("Content-Length", "300000")]);
    let job = next(&jobs);
    let mut body = job.responder.body();
    for _ in 0..30 {
        request.send(&[0; 10_000]);
        assert_eq!(read_now(&server, &mut body), Ok(10_000));
        server.advance(2 * SECOND);
    }
    assert!(!request.has_begun());
    server.advance(9 * SECOND);
    assert_eq!(request.status(), Some(504), "once it has come the answer has its time");
    assert!(job.responder.is_gone());
}

#[test]
fn a_body_that_stops_is_given_up_while_it_is_wanted() {
    let (server, jobs) = server(config());
    let mut request = server.begin(Method::Put, "/file", &[("Content-Length", "300000")]);
    let job = next(&jobs);
    let mut body = job.responder.body();
    request.send(b"a little");
    assert_eq!(read_now(&server, &mut body), Ok(8));
    server.advance(15 * SECOND);
    assert_eq!(read_now(&server, &mut body), Err(BodyError::TooSlow));
    drop(job);
    server.settle();
    assert_eq!((request.status(), request.is_closed()), (Some(500), true));
    assert_at_rest(&server);
}

#[test]
fn a_websocket_or_a_tunnel_where_none_is_is_refused_and_the_connection_ends() {
    let (server, jobs) = server(config());
    let upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")];
    let mut request = server.begin(Method::Get, "/ws", &upgrade);
    assert_eq!((request.status(), request.is_closed()), (Some(404), true));
    let mut request = server.begin(Method::Connect, "example.com:443", &[]);
    assert_eq!((request.status(), request.is_closed()), (Some(404), true));
    assert!(jobs.is_empty());
    // An offer that a server may pass over is no reason to refuse.
    let mut request = server.begin(Method::Get, "/page", &[("Upgrade", "h2c"), ("Connection", "Upgrade")]);
    next(&jobs).responder.respond(Response::text("page"));
    server.settle();
    assert_eq!(request.text(), "page");
}

#[test]
fn so_many_wait_and_the_next_is_answered_503() {
    let (server, jobs) = server(Config { routes_waiting_max: 2, ..config() });
    let waiting: Vec<_> = (0..2).map(|_| server.begin(Method::Get, "/page", &[])).collect();
    let mut refused = server.begin(Method::Get, "/page", &[]);
    assert_eq!((refused.status(), jobs.len()), (Some(503), 2));
    let mut refused = server.begin(Method::Put, "/file", &[("Content-Length", "200000")]);
    assert_eq!((refused.status(), refused.is_closed()), (Some(503), true));
    drop(waiting);
    let mut request = server.begin(Method::Get, "/page", &[]);
    assert_eq!((request.status(), jobs.len()), (None, 3));
}

#[test]
fn checks_are_asked_first_and_what_comes_after_routes_sees_the_head() {
    let (server, jobs) = with(config(), |server| {
        server
            .before_routes("/private", |request: &crate::http::Request<'_>| match request.cookie("user") {
                Some(_) => Ok(()),
                None => Err(crate::http::Failure::new(Status::UNAUTHORIZED, "log in first")),
            })
            .before_routes_async("/slow", |_| async { crate::sleep(SECOND).await })
            .after_routes("/", |_, response| response.header("X-After", "yes"))
            .static_folder("/static", "tests")
    });
    let mut refused = server.begin(Method::Get, "/private/page", &[]);
    assert_eq!((refused.status(), refused.header("x-after").as_deref()), (Some(401), Some("yes")));
    let mut file = server.begin(Method::Get, "/static/no-such-file", &[]);
    assert_eq!(file.status(), Some(404), "a folder answers for all that is below it");
    assert!(jobs.is_empty());
    let mut request = server.begin(Method::Put, "/slow", &[("Content-Length", "200000")]);
    assert!(jobs.is_empty());
    server.advance(SECOND);
    request.send(&[1; 200_000]);
    let job = next(&jobs);
    let mut body = job.responder.body();
    let mut read = 0;
    while read < 200_000 {
        read += read_now(&server, &mut body).expect("it comes");
    }
    let mut writer = job.responder.begin(Response::text(""), None);
    writer.write("streamed").expect("the client is there");
    writer.finish();
    server.settle();
    assert_eq!((request.text(), request.header("x-after").as_deref()), ("streamed".to_owned(), Some("yes")));
    assert_at_rest(&server);
}

#[test]
fn a_taker_that_panics_is_a_500() {
    let server = Server::new(config()).namespace("/", |_| {});
    let server = server.fallback(|_, _responder| panic!("a taker of a test panics"));
    let server = TestServer::new(server).expect("the server is sound");
    assert_eq!(server.get("/page").status, 500);
    assert_at_rest(&server);
}

#[test]
#[allow(clippy::disallowed_methods)] // The threads of a test stand for whoever answers.
fn threads_pass_bytes_in_order_whole_and_once() {
    let exchange = Arc::new(Exchange::new(None, false));
    exchange.begin(Begun::Stream(Response::new(Status::OK), None));
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (writing, written) = (Arc::clone(&exchange), bytes.clone());
    let writer = std::thread::spawn(move || {
        let mut rest = &written[..];
        while !rest.is_empty() {
            writing.wait_for_room().expect("the shard is there");
            let count = writing.give(&rest[..rest.len().min(1 + rest.len() % 100_000)]).expect("it is there");
            rest = &rest[count..];
        }
        writing.end_given(Given::End);
    });
    let mut arrived = Vec::new();
    loop {
        match exchange.poll_given() {
            Poll::Ready(Given::Piece(piece)) => arrived.extend_from_slice(&piece),
            Poll::Ready(Given::End) => break,
            Poll::Ready(Given::Abandoned) => panic!("it was not abandoned"),
            Poll::Pending => std::thread::yield_now(),
        }
    }
    writer.join().expect("it does not panic");
    assert!(arrived == bytes);
}
