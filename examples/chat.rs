//! A chat with rooms: `cargo run --example chat`, then open http://127.0.0.1:5000 twice.

use serde::{Deserialize, Serialize};
use shardcast::http::Response;
use shardcast::{CloseReason, Config, Context, Refused, Server};

const NAME_CHARS_MAX: usize = 20;
const LINE_CHARS_MAX: usize = 500;

#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Kept in the socket.
#[derive(Clone)]
struct Name(String);

#[derive(Clone, Default)]
struct Room(String);

#[derive(Serialize)]
struct Line<'a> {
    from: &'a str,
    text: &'a str,
}

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace("/", |io| {
            io.on_connect(|cx: &mut Context, login: Login| {
                let name = login.name.trim();
                if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
                    return Err(Refused::new(format!("a name has 1 to {NAME_CHARS_MAX} characters")));
                }
                cx.set(Name(name.to_owned()));
                Ok(())
            });
            io.on("join", |cx: &mut Context, room: String| {
                announce(cx, "left");
                if let Some(Room(old)) = cx.get() {
                    cx.leave(old);
                }
                // With a prefix, because a client could name any room otherwise, also another client's own.
                let room = format!("chat:{room}");
                let has_joined = cx.join(&room);
                cx.set(Room(room));
                announce(cx, "entered");
                has_joined
            });
            io.on("say", |cx: &mut Context, text: String| {
                let text: String = text.chars().take(LINE_CHARS_MAX).collect();
                if let (Some(Name(name)), Some(Room(room))) = (cx.get(), cx.get()) {
                    cx.to(room).emit("said", &Line { from: &name, text: &text });
                }
            });
            io.on_disconnect(|cx: &mut Context, _: CloseReason| announce(cx, "left"));
        })
        .route("/", |_| Response::html(include_str!("pages/chat.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}

/// Tells the others in the socket's room what became of it.
fn announce(cx: &mut Context, what: &str) {
    if let (Some(Name(name)), Some(Room(room))) = (cx.get(), cx.get()) {
        cx.to(room).include_self(false).emit(what, name);
    }
}
