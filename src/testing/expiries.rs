//! Tokens that expire, by the virtual clock.

use std::time::Duration;

use crate::testing::{TestClient, TestServer};
use crate::{CloseReason, Config, Context, RawJson, Refused, Server, Socket, sleep};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn serve() -> TestServer {
    let server = Server::new(Config::default())
        .namespace("/", |io| {
            io.on("life", |cx: &mut Context<'_>, life: u64| cx.expires_in(seconds(life)));
            io.on("until", |cx: &mut Context<'_>, unix: u64| cx.expires_at(unix));
            io.on("for ever", |cx: &mut Context<'_>| cx.never_expires());
            io.on_async("busy", |socket: Socket| async move {
                socket.expires_in(seconds(40));
                sleep(seconds(300)).await;
            });
            io.on_expiry(|cx| {
                cx.emit("refresh", ());
            });
            io.on_disconnect(|cx: &mut Context<'_>, reason: CloseReason| {
                cx.to("watchers").emit("gone", reason.as_str());
            });
            io.on("watch", |cx: &mut Context<'_>| cx.join("watchers"));
        })
        .namespace("/slow/{name}", |io| {
            io.on_connect_async(|socket: Socket, _: Option<RawJson>| async move {
                socket.expires_in(seconds(35));
                sleep(seconds(if socket.param("name") == Some("very") { 40 } else { 20 })).await;
                Ok::<(), Refused>(())
            });
        });
    TestServer::new(server).expect("the server is sound")
}

/// The seconds at which a client is asked for a new token, and at which it is disconnected.
fn watch(server: &TestServer, client: &TestClient, for_seconds: u64) -> (Vec<u64>, Option<u64>) {
    let mut asked = Vec::new();
    for second in 1..=for_seconds {
        server.advance(seconds(1));
        asked.extend(client.received().iter().map(|_| second));
        if !client.is_connected() {
            return (asked, Some(second));
        }
    }
    (asked, None)
}

#[test]
fn a_client_is_asked_once_and_ends_at_its_deadline() {
    let rows: [(&[u64], u64, u64); 5] = [
        (&[100], 71, 101),
        (&[10], 1, 11),
        (&[0], 0, 1),
        // Each replaces the one before, later or earlier.
        (&[50, 100, 200], 171, 201),
        (&[200, 100, 50], 21, 51),
    ];
    for (lives, asked, ended) in rows {
        let server = serve();
        let (client, watcher) = (server.connect("/").expect("it may"), server.connect("/").expect("it may"));
        watcher.emit("watch", ());
        lives.iter().for_each(|life| client.emit("life", *life));
        let (asked_at, ended_at) = watch(&server, &client, 400);
        assert_eq!(ended_at, Some(ended), "{lives:?}");
        assert_eq!(asked_at, if asked > 0 { vec![asked] } else { vec![] }, "{lives:?}");
        assert_eq!(watcher.received()[0].first::<String>().as_deref(), Ok("token expired"));
    }
}

#[test]
fn a_deadline_can_be_moved_taken_away_and_said_as_a_date() {
    let server = serve();
    let client = server.connect("/").expect("it may");
    client.emit("life", 100);
    assert_eq!(watch(&server, &client, 80), (vec![71], None));
    client.emit("until", server.unix_time() + 100);
    assert_eq!(watch(&server, &client, 80), (vec![71], None), "asked again for the new one");
    client.emit("for ever", ());
    assert_eq!(watch(&server, &client, 500), (vec![], None));
    client.emit("until", 7);
    assert_eq!(watch(&server, &client, 5), (vec![], Some(1)), "long ago");
}

#[test]
fn a_handler_that_takes_its_time_does_not_save_a_socket() {
    let server = serve();
    let client = server.connect("/").expect("it may");
    client.emit("busy", ());
    assert_eq!(watch(&server, &client, 100), (vec![11], Some(41)));
    let client = server.connect("/slow/a").expect("it may");
    server.advance(seconds(21));
    assert!(client.is_connected());
    server.advance(seconds(15));
    assert!(!client.is_connected());
    let refused = server.connect("/slow/very").expect("not decided yet");
    server.advance(seconds(36));
    assert_eq!(refused.refusal().map(|refusal| refusal.message).as_deref(), Some("token expired"));
    server.advance(seconds(20));
    assert!(!refused.is_connected());
}
