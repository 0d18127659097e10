//! What you say comes back: `cargo run --example echo`, then open http://127.0.0.1:5000.

use shardcast::http::Response;
use shardcast::{Config, Context, Server};

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace("/", |io| {
            // What a handler returns is the acknowledgement.
            io.on("echo", |_: &mut Context, text: String| text);
            // An event of its own, rather than an acknowledgement.
            io.on("shout", |cx: &mut Context, text: String| {
                cx.emit("shouted", text.to_uppercase());
            });
        })
        .route("/", |_| Response::html(include_str!("pages/echo.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}
