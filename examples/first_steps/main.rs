//! The server of docs/first-steps.md, word for word: connect with a name, join a room, say something.

use serde::{Deserialize, Serialize};
use shardcast::http::Response;
use shardcast::{CloseReason, Config, Context, HandlerError, Refused, Server};

#[derive(Deserialize)]
struct Login {
    name: String,
}

#[derive(Clone, Serialize)]
struct Line {
    from: String,
    text: String,
}

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace("/", |io| {
            io.on_connect(|cx: &mut Context, login: Option<Login>| match login {
                Some(login) if !login.name.is_empty() => {
                    cx.set(login.name);
                    Ok(())
                }
                _ => Err(Refused::new("tell us your name")),
            });
            // The prefix matters: without it a client could join every room, another client's own among them.
            io.on("join", |cx: &mut Context, room: String| cx.join(format!("chat:{room}")));
            io.on("say", |cx: &mut Context, room: String, text: String| {
                let from = cx.get::<String>().unwrap_or_default();
                cx.to(format!("chat:{room}")).emit("said", &Line { from, text });
            });
            io.on_error(|cx: &mut Context, error: &HandlerError| {
                cx.emit("complaint", error.to_string());
            });
            io.on_disconnect(|cx: &mut Context, reason: CloseReason| {
                let name = cx.get::<String>().unwrap_or_default();
                cx.broadcast().include_self(false).emit("gone", (name, reason.as_str()));
            });
        })
        .route("/", |_| Response::html(include_str!("index.html")))
        .run()
}
