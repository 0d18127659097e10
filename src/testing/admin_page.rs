//! The operators' page: what it is told of shards, slow clients, rooms, refusals and one client's packets.

use std::time::Duration;

use serde_json::Value;

use crate::http::Method;
use crate::shard::value::survey::LARGEST_MAX;
use crate::shard::value::trace::TRACED_PACKETS_MAX;
use crate::testing::{TestClient, TestServer};
use crate::{Config, Context, Server};

fn serve(shards: usize) -> TestServer {
    let config = Config { shards, admin_bind: "127.0.0.1:0".to_owned(), ..Config::default() };
    let rooms = |io: &mut crate::Namespace<'_>| {
        io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
        io.on("all", |cx: &mut Context<'_>, text: String| drop(cx.broadcast().emit("all", text)));
    };
    let server = Server::new(config)
        .namespace("/", rooms)
        .endpoint("/devices.io/", move |endpoint| endpoint.namespace("/", rooms));
    TestServer::new(server).expect("the server is sound")
}

fn status(server: &TestServer, query: &str) -> Value {
    let answer = server.get_as_operator(&format!("/status.json{query}"), &[]);
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    serde_json::from_slice(&answer.body).expect("it is JSON")
}

fn trace(server: &TestServer, query: &str) -> u16 {
    server.ask_as_operator(Method::Post, &format!("/trace{query}"), &[]).status
}

#[test]
fn a_browser_gets_the_page_and_nothing_from_elsewhere() {
    let server = serve(1);
    let page = server.get_as_operator("/", &[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")]);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'"))
    );
    for path in ["/page.css", "/page.js"] {
        assert!(page.text().contains(&format!("\"{path}\"")));
        let asset = server.get_as_operator(path, &[]);
        assert!(asset.status == 200 && !asset.text().contains("://"), "{path} loads nothing from elsewhere");
        assert_eq!(server.get(path).status, 404, "clients find none of it");
    }
    assert!(!page.text().contains("://") && page.text().contains("<html lang=\"en\">"));
    let list = server.get_as_operator("/", &[("Accept", "*/*")]);
    assert!(list.text().contains("/status.json") && list.header("vary") == Some("accept"));
}

#[test]
fn shards_rooms_and_refusals_are_summed_up() {
    let server = serve(3);
    let clients: Vec<TestClient> =
        (0..6).map(|number| server.client().shard(number % 3).connect("/").expect("everybody may")).collect();
    clients.iter().for_each(|client| client.emit("join", "large"));
    clients[..2].iter().for_each(|client| client.emit("join", "<script>"));
    let device = server.client().at_path("/devices.io/").connect("/").expect("everybody may");
    device.emit("join", "large");
    for number in 0..2 * LARGEST_MAX {
        clients[number % 6].emit("join", format!("room {number}"));
    }
    assert_eq!(server.get("/socket.io/?EIO=9").status, 400);
    let status = status(&server, "");
    let shards = status["shards"].as_array().expect("a list");
    assert_eq!(shards.iter().map(|shard| shard["sockets"].as_u64().unwrap()).sum::<u64>(), 7);
    assert!(shards.iter().all(|shard| shard["lag_millis"].is_u64()), "each has answered");
    let rooms: Vec<(&str, &str, u64)> = status["rooms"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|room| {
            (
                room["namespace"].as_str().unwrap(),
                room["room"].as_str().unwrap(),
                room["members"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rooms.len(), LARGEST_MAX);
    assert_eq!(rooms[..3], [("/", "large", 6), ("/", "<script>", 2), ("/", "room 0", 1)], "{rooms:?}");
    let refusals = status["refusals"].as_array().expect("a list");
    assert_eq!(
        (refusals.len(), &refusals[0]["name"], &refusals[0]["count"]),
        (1, &"requests_refused".into(), &1.into())
    );
    assert!(refusals[0]["advice"].as_str().is_some_and(|advice| advice.contains("cors_allowed_origins")));
    assert_eq!((&status["phase"], &status["slow"]), (&"ready".into(), &Value::Array(Vec::new())));
}

#[test]
fn a_shard_that_is_held_up_is_seen_and_so_is_who_does_not_read() {
    let server = serve(2);
    let (sender, slow) = (
        server.connect("/").expect("everybody may"),
        server.client().shard(1).connect("/").expect("everybody may"),
    );
    slow.set_reading(false);
    sender.emit("all", "x".repeat(10_000));
    sender.emit("all", "x".repeat(10_000));
    let told = status(&server, "");
    let [client] = &told["slow"].as_array().expect("a list")[..] else { panic!("one: {told}") };
    assert_eq!(client["client"], Value::from(slow.id()));
    assert!(client["owed_bytes"].as_u64().is_some_and(|bytes| bytes > 10_000), "{client}");
    assert_eq!((&client["transport"], &client["shard"]), (&"websocket".into(), &1.into()));
    slow.set_reading(true);
    assert_eq!(status(&server, "")["slow"], Value::Array(Vec::new()), "it has caught up");
}

#[test]
fn one_clients_packets_are_shown_for_a_minute() {
    let server = serve(2);
    let client = server.client().shard(1).connect("/").expect("everybody may");
    let query = format!("?client={}", client.id());
    assert_eq!(status(&server, &query).get("trace"), None);
    client.emit("all", "before");
    assert_eq!(trace(&server, &query), 204);
    client.emit("all", "during");
    let told = status(&server, &query);
    let packets = told["trace"]["packets"].as_array().expect("a list");
    let shown: Vec<(bool, &str)> = packets
        .iter()
        .map(|packet| (packet["is_sent"].as_bool().unwrap(), packet["packet"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [(false, r#"42["all","during"]"#), (true, r#"42["all","during"]"#)]);
    assert_eq!(told["trace"]["is_on"], true);
    for _ in 0..TRACED_PACKETS_MAX {
        client.emit("nothing", ());
    }
    let told = status(&server, &query);
    assert_eq!(told["trace"]["packets"].as_array().map(Vec::len), Some(TRACED_PACKETS_MAX));
    assert_eq!(told["trace"]["left_out"], 2);
    server.advance(Duration::from_secs(61));
    client.emit("all", "after");
    let told = status(&server, &query);
    assert_eq!(told["trace"]["is_on"], false);
    assert!(!told["trace"]["packets"].to_string().contains("after"), "it ended by itself");
    assert_eq!(status(&server, "?client=none").get("trace"), None);
    for (query, expected) in
        [("", 400), ("?client=", 400), ("?client=short", 400), ("?client=aaaaaaaaaaaaaaaaaaaa", 204)]
    {
        let code = trace(&server, query);
        assert!(code == expected || query.len() > 20 && code == 503, "{query}: {code}");
    }
}
