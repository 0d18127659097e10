//! The handlers that the simulated clients talk to.

use std::time::Duration;

use crate::protocol::socketio::binary::Binary;
use crate::protocol::socketio::event::Args;
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::shard::acks::Answer;
use crate::shard::app::{App, Refused};
use crate::shard::context::{Context, ShardInfo, Socket};
use crate::shard::tasks::sleep;

/// The namespaces `/` and `/gate`, on one shard.
pub(super) fn app(shard: ShardInfo) -> App {
    let mut root = Namespace::new("/", shard, Handle::default());
    rooms(&mut root);
    answers(&mut root);
    let mut gate = Namespace::new("/gate", shard, Handle::default());
    guard(&mut gate);
    let namespaces =
        [root, gate].map(|namespace| namespace.finish().expect("every handler is there once").into());
    App { namespaces: namespaces.into(), ..App::default() }
}

/// Joining, leaving and publishing. A message is `[publisher, sequence, padding]`.
fn rooms(io: &mut Namespace) {
    io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
    io.on("leave", |cx: &mut Context<'_>, room: String| cx.leave(room));
    io.on(
        "to",
        |cx: &mut Context<'_>, rooms: Vec<String>, except: Option<String>, message: serde_json::Value| {
            let mut recipients = cx.to("").to_all(rooms);
            if let Some(except) = except {
                recipients = recipients.except(except);
            }
            recipients.emit("news", message);
        },
    );
    io.on("others", |cx: &mut Context<'_>, message: serde_json::Value| {
        cx.broadcast().include_self(false).emit("news", message);
    });
    io.on("everyone", |cx: &mut Context<'_>, message: serde_json::Value| {
        cx.broadcast().emit("news", message);
    });
    io.on("close_room", |cx: &mut Context<'_>, room: String| cx.close_room(room));
    io.on("kick", |cx: &mut Context<'_>, room: String| cx.to(room).disconnect());
}

/// Events that are answered: at once, later, with binary, with a question of the server's own.
fn answers(io: &mut Namespace) {
    io.on_echo("echo", |_: &mut Context<'_>, _: Args<'_>| {});
    io.on_raw("relay", |cx: &mut Context<'_>, args: Args<'_>| {
        cx.broadcast().include_self(false).emit("relay", args);
    });
    io.on_raw("raw", |cx: &mut Context<'_>, args: Args<'_>| {
        cx.emit("raw", args);
    });
    io.on_raw("room_raw", |cx: &mut Context<'_>, args: Args<'_>| {
        cx.to("room").emit("room", args);
    });
    io.on("blob", |_: &mut Context<'_>, blob: Binary| blob);
    io.on("blob_to", |cx: &mut Context<'_>, room: String, blob: Binary| {
        cx.to(room).emit("blob", blob);
    });
    io.on_async("slow", |_: Socket, number: u64, millis: u64| async move {
        sleep(Duration::from_millis(millis)).await;
        number
    });
    io.on_async("quick", |_: Socket, number: u64| async move { number });
    io.on("ask", |cx: &mut Context<'_>, number: u64| {
        let socket = cx.socket();
        cx.emit_with_callback("question", number, move |answer: Result<Answer, _>| {
            if let Ok(answer) = answer {
                socket.emit("answered", (number, answer.first::<u64>().unwrap_or_default()));
            }
        });
    });
    io.on("panic", |_: &mut Context<'_>| -> () { panic!("a handler of the simulation panics") });
    io.on("bye", |cx: &mut Context<'_>| cx.disconnect());
    io.on("spawn", |_: &mut Context<'_>| {
        crate::shard::tasks::spawn(async { sleep(Duration::from_millis(20)).await });
    });
    io.on("flood", |cx: &mut Context<'_>, count: usize, bytes: usize| {
        let text = "x".repeat(bytes);
        for _ in 0..count {
            cx.emit("flood", text.as_str().to_owned());
        }
    });
    io.on("flood_room", |cx: &mut Context<'_>, room: String, count: usize, bytes: usize| {
        let text = "x".repeat(bytes);
        for number in 0..count {
            cx.to(&room).emit("flood", (number, text.as_str()));
        }
    });
}

/// `/gate` lets in who says `"yes"`; it takes `millis` for its decision, and asks the client meanwhile.
fn guard(io: &mut Namespace) {
    io.on_connect_async(|socket: Socket, auth: serde_json::Value| async move {
        socket.join("inside");
        socket.emit("early", "before the decision");
        socket.emit_with_callback("early_question", (), |_| {});
        sleep(Duration::from_millis(auth["millis"].as_u64().unwrap_or(0))).await;
        match auth["say"].as_str() {
            Some("yes") => Ok(()),
            Some("panic") => panic!("a connect handler of the simulation panics"),
            _ => Err(Refused::new("go away")),
        }
    });
    io.on("shout", |cx: &mut Context<'_>, text: String| {
        cx.broadcast().emit("shout", text);
    });
    io.on_echo("echo", |_: &mut Context<'_>, _: Args<'_>| {});
}
