//! The server that the client tests talk to: every feature once, behind names that the tests know.
//!
//! `cargo run --example conformance -- --bind 127.0.0.1:5000 --shards 2`. The contract is in
//! tests/clients/README.md; all other settings come from `SHARDCAST_` variables.

use std::time::Duration;

use shardcast::http::{Method, Response};
use shardcast::{Args, ArgsError, Config, Context, Error, Namespace, RawJson, Refused, Server, Socket};

fn main() -> shardcast::Result<()> {
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    let mut config = Config::load()?;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| Error::new(format!("{name} needs a value")))?;
        match name.as_str() {
            "--bind" => config.bind = vec![value],
            "--shards" => config.shards = value.parse().map_err(|_| Error::new("--shards takes a number"))?,
            _ => return Err(Error::new(format!("unknown option {name}"))),
        }
    }
    Server::new(config)
        .namespace("/", register)
        .namespace("/custom", register)
        .namespace("/refuse", |io| {
            io.on_connect(|_: &mut Context| {
                Err::<(), _>(Refused::new("unauthorized").data(&serde_json::json!({ "retry": false })))
            });
        })
        .route("/", |_| Response::html("<!doctype html><html><title>conformance</title></html>"))
        .route("/hello", |_| Response::text("hello"))
        .route_method(Method::Post, "/echo", |request| Response::text("").body(request.body().to_vec()))
        .static_folder("/static", "tests/clients/public")
        .websocket("/ws", |route| route.on_message(|ws, message| ws.send(message)))
        .run()
}

fn register(io: &mut Namespace) {
    let shard = io.shard().id;
    io.on_connect(|cx: &mut Context, auth: Option<RawJson>| {
        let auth = auth.unwrap_or_else(|| RawJson::new("{}").expect("this is JSON"));
        cx.emit("auth", auth);
    });
    io.on_raw("message", |cx: &mut Context, args: Args<'_>| {
        cx.emit("message-back", args);
    });
    io.on_echo("message-with-ack", |_: &mut Context, _| {});
    io.on("join", |cx: &mut Context, room: String| cx.join(room));
    io.on("leave", |cx: &mut Context, room: String| {
        cx.leave(room);
        true
    });
    io.on_raw("room", |cx: &mut Context, args: Args<'_>| {
        let room: String = args.read(0)?;
        cx.to(room).emit("room-event", args.skip(1));
        Ok::<(), ArgsError>(())
    });
    io.on_raw("room-others", |cx: &mut Context, args: Args<'_>| {
        let room: String = args.read(0)?;
        cx.to(room).include_self(false).emit("room-event", args.skip(1));
        Ok::<(), ArgsError>(())
    });
    io.on("rooms", |cx: &mut Context| cx.rooms());
    io.on_raw("everyone", |cx: &mut Context, args: Args<'_>| {
        cx.broadcast().emit("everyone", args);
    });
    io.on_async("ask-me", |socket: Socket| async move {
        let answer = socket.emit_with_ack("question", 42).timeout(Duration::from_secs(1)).await;
        match answer {
            Ok(answer) => socket.emit("answer", answer.args()),
            Err(_) => socket.emit("no-answer", ()),
        };
    });
    io.on("shard", move |_: &mut Context| shard);
    io.on("counter", |cx: &mut Context| {
        cx.update(|count: &mut u64| {
            *count += 1;
            *count
        })
    });
    io.on_async("slow", |_: Socket, millis: u64, value: RawJson| async move {
        shardcast::sleep(Duration::from_millis(millis)).await;
        value
    });
    io.on("kick-me", |cx: &mut Context| cx.disconnect());
    io.on("boom", |_: &mut Context| -> () { panic!("boom") });
}
