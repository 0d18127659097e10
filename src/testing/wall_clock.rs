//! The machine's clock is set while the server runs: cookies, dates and tokens go by its new time, everything else by none.

use std::time::Duration;

use crate::flask::{CookieSigner, Session};
use crate::http::{Method, Response};
use crate::testing::TestServer;
use crate::{Config, Context, Server, Socket};

const DAY: u64 = 24 * 60 * 60;

fn serve() -> TestServer {
    let server = Server::new(Config { shards: 2, ..Config::default() })
        .cookie_sessions(CookieSigner::new("key"))
        .route("/who", |request| {
            Response::text(request.session().get::<String>("user").unwrap_or_else(|| "nobody".to_owned()))
        })
        .namespace("/", |io| {
            io.on("who", |cx: &mut Context<'_>| cx.session().get::<String>("user"));
            io.on("until", |cx: &mut Context<'_>, unix: u64| cx.expires_at(unix));
            io.on("life", |cx: &mut Context<'_>, seconds: u64| cx.expires_in(Duration::from_secs(seconds)));
            io.on("since", |cx: &mut Context<'_>| cx.handshake().map(|handshake| handshake.issued() / 1000));
            io.on_async("nap", |socket: Socket| async move {
                crate::sleep(Duration::from_secs(10)).await;
                socket.emit("awake", ());
            });
        });
    TestServer::new(server).expect("the server is sound")
}

#[test]
fn a_fresh_login_is_believed_after_the_clock_was_set() {
    // Forth by days, as after a suspended machine, and back.
    for step in [10 * DAY as i64, 60, -(10 * DAY as i64)] {
        let server = serve();
        let now = server.unix_time().saturating_add_signed(step);
        server.set_unix_time(now);
        assert_eq!(server.unix_time(), now);
        let mut session = Session::default();
        session.insert("user", "ada");
        // Flask signed it this very second.
        let cookie = format!("session={}", CookieSigner::new("key").write(&session, now));
        for _ in 0..2 {
            let answer = server.request(Method::Get, "/who", &[("Cookie", &cookie)], b"");
            assert_eq!(answer.text(), "ada", "{step} seconds");
            let mut date = [0; crate::protocol::http::date::HTTP_DATE_BYTES];
            crate::protocol::http::date::http_date(now, &mut date);
            assert_eq!(answer.header("Date").map(str::as_bytes), Some(&date[..]), "{step} seconds");
        }
        let client = server.client().header("Cookie", &cookie).connect("/").expect("everybody may");
        let told = |event: &str| client.call(event, ()).expect("it is answered").args().raw().to_owned();
        assert_eq!((told("who"), told("since")), (r#""ada""#.to_owned(), now.to_string()));
    }
}

#[test]
fn tokens_expire_by_the_new_time_and_lives_go_on() {
    let rows: [(&str, i64, u64); 6] = [
        ("until", 0, 100),
        ("until", 90, 10),
        ("until", 1_000, 0),
        ("until", -50, 150),
        ("life", 90, 100),
        ("life", -50, 100),
    ];
    for (event, step, expected) in rows {
        let server = serve();
        let client = server.client().shard(1).connect("/").expect("everybody may");
        let value = if event == "until" { server.unix_time() + 100 } else { 100 };
        client.emit(event, value);
        server.set_unix_time(server.unix_time().saturating_add_signed(step));
        let mut lived = 0;
        while client.is_connected() && lived < 1_000 {
            server.advance(Duration::from_secs(1));
            lived += 1;
        }
        // The wheel may be late by a tick.
        assert!((expected..=expected + 1).contains(&lived), "{event} after {step}: {lived}, not {expected}");
    }
}

#[test]
fn sleepers_take_no_notice() {
    let server = serve();
    let client = server.connect("/").expect("everybody may");
    client.emit("nap", ());
    server.set_unix_time(server.unix_time() + DAY);
    server.advance(Duration::from_millis(9_999));
    assert!(client.received().is_empty());
    server.advance(Duration::from_millis(1));
    assert_eq!(client.received().len(), 1);
}
