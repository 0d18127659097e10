//! `peer-socketioxide PORT [--threads current|multi]`: the benchmark's events on socketioxide and axum.
//!
//! Written as its documentation shows, with what its users would turn on for speed: mimalloc, TCP_NODELAY, a
//! single-threaded runtime when it has one core, the client's JSON kept as `serde_json::Value`. The buffer of
//! packets per socket is raised, or a closed loop of many senders would lose messages at its default of 128.

use axum::serve::ListenerExt;
use bytes::Bytes;
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Packets that one socket may be owed.
const SOCKET_PACKETS_MAX: usize = 8192;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (port, is_multi) = match arguments[..] {
        [port] | [port, "--threads", "current"] => (port.parse::<u16>()?, false),
        [port, "--threads", "multi"] => (port.parse::<u16>()?, true),
        _ => return Err("usage: peer-socketioxide PORT [--threads current|multi]".into()),
    };
    let mut builder = match is_multi {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let (layer, io) =
        SocketIo::builder().max_buffer_size(SOCKET_PACKETS_MAX).max_payload(1_000_000).build_layer();
    io.ns("/", register);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        stream.set_nodelay(true).expect("a connected TCP socket takes TCP_NODELAY");
    });
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}

async fn register(socket: SocketRef) {
    socket.on("echo", async |Data::<Value>(payload), ack: AckSender| {
        ack.send(&payload).ok();
    });
    socket.on("bin", async |Data::<Bytes>(payload), ack: AckSender| {
        ack.send(&payload).ok();
    });
    socket.on("broadcast", async |io: SocketIo, Data::<Value>(payload)| {
        io.emit("msg", &payload).await.ok();
    });
    socket.on("join", async |socket: SocketRef, Data::<String>(room), ack: AckSender| {
        socket.join(room);
        ack.send(&true).ok();
    });
    socket.on("room", async |socket: SocketRef, Data::<(String, Value)>((room, payload))| {
        socket.within(room).emit("msg", &payload).await.ok();
    });
}
