//! Clients of Socket.IO 1.x and 2.x among the others.

use crate::testing::TestServer;
use crate::{Config, Context, Server, Socket};

#[test]
fn the_ids_of_old_clients_are_no_rooms() {
    let mut config = Config::default();
    config.engine.allow_eio3 = true;
    let server = Server::new(config).namespace("/chat", |io| {
        io.on_async("rooms", |socket: Socket| async move {
            let rooms = socket.namespace_rooms().await.unwrap_or_default();
            rooms.into_iter().map(|(name, members)| format!("{name} {members}")).collect::<Vec<_>>()
        });
        io.on_async("fetch", |socket: Socket| async move {
            let sockets = socket.sockets().fetch().await.unwrap_or_default();
            sockets.iter().map(|socket| socket.rooms().len()).collect::<Vec<_>>()
        });
        io.on("who", |cx: &mut Context<'_>| {
            cx.to("lobby").emit("id", cx.client_id());
        });
        io.on("members", |cx: &mut Context<'_>, room: String| cx.to(room).count_here());
        io.on("enter", |cx: &mut Context<'_>, room: String| cx.join(room));
    });
    let server = TestServer::new(server).expect("the server is sound");
    let opened = server.get("/socket.io/?EIO=3&transport=polling").text();
    let sid = opened.split('"').nth(3).expect("the handshake names the session").to_owned();
    let target = format!("/socket.io/?EIO=3&transport=polling&sid={sid}");
    let say = |packet: &str| {
        let body = format!("{}:{packet}", packet.len());
        let headers = [("Content-Type", "text/plain")];
        let answer = server.request(crate::http::Method::Post, &target, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    say("40/chat");
    let client = server.connect("/chat").expect("everybody may");
    client.emit("enter", "lobby");
    let rooms = || client.call("rooms", ()).and_then(|rooms| rooms.first::<Vec<String>>().ok());
    assert_eq!(rooms().expect("told"), ["lobby 1"]);
    say(r#"42/chat,["enter","lobby"]"#);
    assert_eq!(rooms().expect("told"), ["lobby 2"], "the old client is in");
    let fetched = client.call("fetch", ()).and_then(|rooms| rooms.first::<Vec<usize>>().ok());
    assert_eq!(fetched.expect("told"), [2, 2], "each is in the room that its id is, and in the lobby");
    say(r#"42/chat,["who"]"#);
    let own: String = client.received()[0].first().expect("an id");
    assert_eq!(
        client.call("members", &own).and_then(|count| count.first().ok()),
        Some(1_u64),
        "it can be written to"
    );
}
