//! The events that `shardcast bench` and the measurements in `perf/` need of a server, for `shardcast bench-server` and
//! `examples/bench_server.rs`, which includes this file.
//!
//! | event | the server |
//! |---|---|
//! | `echo` | acknowledges with the argument |
//! | `bin` | acknowledges with the attachment |
//! | `broadcast` | emits `msg` with the argument to all |
//! | `join` | joins the room, acknowledges |
//! | `room` | emits `msg` with the second argument to the room |
//!
//! The scenarios `dashboard` and `ticks` need more, which is in `bench_games.rs`.

use serde_json::Value;
use shardcast::{Args, ArgsError, Binary, Context, Namespace};

/// Handlers that read and write values, as those of most servers do.
pub(crate) fn register(io: &mut Namespace) {
    io.on("echo", |_: &mut Context, value: Value| value);
    io.on("bin", |_: &mut Context, bytes: Binary| bytes);
    io.on("broadcast", |cx: &mut Context, value: Value| {
        cx.broadcast().emit("msg", value);
    });
    io.on("join", |cx: &mut Context, room: &str| cx.join(room));
    io.on("room", |cx: &mut Context, room: &str, value: Value| {
        cx.to(room).emit("msg", value);
    });
}

/// The same, but nothing is read that need not be.
pub(crate) fn register_raw(io: &mut Namespace) {
    io.on_echo("echo", |_: &mut Context, _| {});
    io.on_echo("bin", |_: &mut Context, _| {});
    io.on_raw("broadcast", |cx: &mut Context, args: Args<'_>| {
        cx.broadcast().emit("msg", args);
    });
    io.on("join", |cx: &mut Context, room: &str| cx.join(room));
    io.on_raw("room", |cx: &mut Context, args: Args<'_>| {
        let room: String = args.read(0)?;
        cx.to(room).emit("msg", args.skip(1));
        Ok::<(), ArgsError>(())
    });
}
