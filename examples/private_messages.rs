//! Messages from one user to another: `cargo run --example private_messages`, then open http://127.0.0.1:5000 twice.
//!
//! A user may be there with several pages, on several shards. A room for each user finds them all, so nobody keeps a
//! table of who is where.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shardcast::http::Response;
use shardcast::{Config, Context, Refused, Server, Socket};

/// How long a recipient's page may take to say that it has the message.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Login {
    name: String,
}

#[derive(Clone)]
struct User(String);

#[derive(Serialize)]
struct Message {
    from: String,
    text: String,
}

fn room_of(user: &str) -> String {
    format!("user:{user}")
}

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace("/", |io| {
            // A real server checks a token or a login cookie here.
            io.on_connect(|cx: &mut Context, login: Login| {
                if login.name.is_empty() {
                    return Err(Refused::new("tell us your name"));
                }
                cx.join(room_of(&login.name));
                cx.set(User(login.name));
                Ok(())
            });
            io.on("private", |cx: &mut Context, to: String, text: String| {
                let Some(User(from)) = cx.get() else { return };
                let message = Message { from, text };
                // The sender's other pages see it as well, this one does not.
                cx.to(room_of(&to)).to(room_of(&message.from)).include_self(false).emit("private", &message);
            });
            // A note to one page, by its socket's id, which says that it came.
            io.on_async("note", |socket: Socket, text: String| async move {
                let receipt = socket.emit_with_ack("note", text).timeout(RECEIPT_TIMEOUT).await;
                receipt.is_ok()
            });
        })
        .route("/", |_| Response::html(include_str!("pages/private_messages.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}
