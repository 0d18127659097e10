//! What handlers read of what was set and said before: their own data, the client's request, its sockets elsewhere.

use serde::Deserialize;

use crate::http::Method;
use crate::testing::{TestClient, TestServer};
use crate::{AckError, Config, Context, Server, Socket};

#[derive(Deserialize)]
struct Player {
    name: String,
    score: u32,
}

fn serve(shards: usize) -> TestServer {
    let mut config = Config { shards, ..Config::default() };
    config.engine.allow_eio3 = true;
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on("set", |cx: &mut Context<'_>, value: serde_json::Value| cx.set_data(&value));
            io.on("player", |cx: &mut Context<'_>| {
                let player = cx.data::<Player>();
                player.map(|player| vec![player.name, player.score.to_string()]).unwrap_or_default()
            });
            io.on("enter", |cx: &mut Context<'_>, room: String| {
                let chat = cx.in_namespace("/chat");
                chat.map(|chat| (chat.id().to_string(), chat.namespace().to_owned(), chat.join(room)))
            });
            io.on("itself", |cx: &mut Context<'_>| {
                let itself = cx.in_namespace("/").map(|socket| socket.id());
                itself == Some(cx.id()) && cx.in_namespace("/no").is_none()
            });
            io.on(
                "tell",
                |cx: &mut Context<'_>, namespace: String, room: Option<String>, with_self: bool| {
                    let all = match room {
                        Some(room) => cx.to_in(&namespace, room),
                        None => cx.broadcast_in(&namespace),
                    };
                    all.include_self(with_self).emit("told", "by another");
                },
            );
            io.on_async("count", |socket: Socket, namespace: String| async move {
                Ok::<_, AckError>(socket.broadcast_in(&namespace).count().await?.into_inner())
            });
            io.on("said", |cx: &mut Context<'_>| {
                let handshake = cx.handshake();
                let pairs = handshake.iter().flat_map(|handshake| handshake.queries());
                let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
                (pairs, cx.revision(), cx.transport())
            });
            io.on_async("fetch", |socket: Socket| async move {
                let found = socket.sockets().fetch().await?;
                let of_each = |socket: &crate::RemoteSocket| {
                    (socket.id().to_string(), socket.client_id(), socket.handshake().revision())
                };
                Ok::<Vec<_>, AckError>(found.iter().map(of_each).collect())
            });
        })
        .namespace("/chat", |_| {})
        .namespace("/game/{id}", |_| {});
    TestServer::new(server).expect("the server is sound")
}

fn ask<T: serde::de::DeserializeOwned>(client: &TestClient, event: &str, args: impl crate::ToArgs) -> T {
    client.call(event, args).expect("it is answered").first().expect("of that type")
}

fn told(client: &TestClient) -> usize {
    client.received().iter().filter(|event| event.name() == "told").count()
}

#[test]
fn a_socket_reads_what_it_has_published_as_a_type() {
    let server = serve(1);
    let client = server.connect("/").expect("everybody may");
    let player = || ask::<Vec<String>>(&client, "player", ());
    assert!(player().is_empty(), "nothing was set");
    client.emit("set", serde_json::json!({ "name": "Ada", "score": 3 }));
    assert_eq!(player(), ["Ada", "3"]);
    client.emit("set", 7);
    assert!(player().is_empty(), "a number is no player");
}

#[test]
fn a_request_is_walked_in_order_and_repeated_names_come_as_often() {
    let server = serve(1);
    let client = server.client().query("a", "1 & 2").query("b", "é").query("a", "3").connect("/");
    let answer = client.expect("everybody may").call("said", ()).expect("answered");
    let pairs: Vec<String> = answer.first().expect("a list");
    let own: Vec<_> = pairs.iter().filter(|pair| pair.starts_with(['a', 'b'])).collect();
    assert_eq!(own, ["a=1 & 2", "b=é", "a=3"]);
    assert_eq!(answer.args().skip(1).raw(), "4,\"websocket\"");
}

#[test]
fn the_same_client_is_found_in_another_namespace_once_it_is_let_in() {
    let server = serve(2);
    let client = server.connect("/").expect("everybody may");
    assert!(ask::<bool>(&client, "itself", ()));
    assert_eq!(ask::<Option<()>>(&client, "enter", "lobby"), None, "it is not in /chat");
    let chat = client.join_namespace("/chat", &serde_json::json!({})).expect("everybody may");
    let answer = client.call("enter", "lobby").expect("answered");
    assert_eq!(answer.args().raw(), format!("[\"{}\",\"/chat\",true]", chat.id()));
    chat.disconnect();
    assert_eq!(ask::<Option<()>>(&client, "enter", "lobby"), None, "it has left /chat");
}

#[test]
fn everybody_of_another_namespace_is_reached_on_every_shard() {
    let server = serve(3);
    let client = server.connect("/").expect("everybody may");
    let here: Vec<TestClient> = (0..6)
        .map(|shard| server.client().shard(shard % 3).connect("/chat").expect("everybody may"))
        .collect();
    let game = server.client().shard(2).connect("/game/7").expect("everybody may");
    let none: Option<String> = None;
    client.emit("tell", ("/chat", none.clone(), true));
    client.emit("tell", ("/game/7", none.clone(), true));
    client.emit("tell", ("/game/8", none.clone(), true));
    client.emit("tell", ("/none", none.clone(), true));
    assert!(here.iter().all(|client| told(client) == 1) && told(&game) == 1 && told(&client) == 0);
    assert_eq!(ask::<u64>(&client, "count", "/chat"), 6);
    assert_eq!(ask::<u64>(&client, "count", "/none"), 0);
    // This client there is the sender; whoever it is not does not care.
    let itself = client.join_namespace("/chat", &serde_json::json!({})).expect("everybody may");
    client.emit("tell", ("/chat", none, false));
    assert_eq!((told(&itself), told(&here[0])), (0, 1));
    client.emit("enter", "lobby");
    client.emit("tell", ("/chat", "lobby", true));
    assert_eq!((told(&itself), told(&here[0])), (1, 0));
}

#[test]
fn a_socket_of_an_older_client_says_how_its_client_knows_it() {
    let server = serve(2);
    let opened = server.get("/socket.io/?EIO=3&transport=polling").text();
    let sid = opened.split('"').nth(3).expect("the handshake names the session").to_owned();
    let client = server.connect("/").expect("everybody may");
    let mut found: Vec<(String, String, u8)> = ask(&client, "fetch", ());
    found.sort_by_key(|(_, _, revision)| *revision);
    let [(old_id, old_client_id, 3), (id, client_id, 4)] = &found[..] else { panic!("{found:?}") };
    assert!(old_client_id == &sid && old_id != &sid && id == client_id && *id == client.id(), "{found:?}");
    let target = format!("/socket.io/?EIO=3&transport=polling&sid={sid}");
    let said = server.request(Method::Post, &target, &[("Content-Type", "text/plain")], b"11:420[\"said\"]");
    assert_eq!(said.status, 200);
    let answer = server.get(&target).text();
    assert!(answer.contains(r#"["EIO=3","transport=polling"],3,"polling"]"#), "{answer}");
}
