//! `shardcast bench-server`: a server with the events that `shardcast bench` loads, so that the first try needs no program of one's own.

use std::time::Duration;

use shardcast::{Config, Io, Namespace, Parser, Server};

use super::bench_events::{register, register_raw};
use super::bench_games;

/// Serve the events that `shardcast bench` sends, for a first try and to compare machines
///
/// Start it, and in another terminal `shardcast bench echo`. For numbers of your own application, run the benchmark against your
/// own server: docs/benchmarking.md says which events it needs, and `--event` sends one of yours.
#[derive(clap::Args, Debug)]
pub(crate) struct ServerOptions {
    /// Where to listen; the default is where `shardcast bench` looks
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    bind: Vec<String>,
    /// Shards, each on a core of its own; leave one core to the benchmark [default: the CPUs this process may use]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// auto, uring, epoll or monoio (io_uring through monoio) [default: auto]
    #[arg(long, value_name = "IO", value_parser = super::parse_io)]
    io: Option<Io>,
    /// Whether handlers read their arguments as values, as those of most servers do, or pass on what came
    #[arg(long, value_enum, default_value = "typed")]
    handlers: Handlers,
    /// Handshakes that one shard takes a second; more are answered 503 with `Retry-After`, as a server does that protects itself
    /// [default: no bound]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    handshakes_per_second: usize,
    /// Serve clients of Socket.IO 2.x too: `shardcast bench --revision 3`
    #[arg(long)]
    allow_eio3: bool,
    /// Keep lost sockets for this long, for clients that come back: `shardcast bench storm --recover` [default: no recovery]
    #[arg(long, value_name = "TIME", value_parser = super::bench::duration, default_value = "0s", hide_default_value = true)]
    recovery: Duration,
    /// A certificate, a PEM file: https and wss in place of http and ws
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<String>,
    /// The key of --tls-cert, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<String>,
    /// error, warn, info, debug, trace or off
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Handlers {
    /// Values are read and written
    Typed,
    /// Bytes are passed on unread
    Raw,
}

/// Serves until a signal ends it.
pub(crate) fn run(options: ServerOptions) -> shardcast::Result<()> {
    let mut config = Config { bind: options.bind, log: options.log, ..Config::default() };
    config.shards = options.shards.unwrap_or(config.shards);
    config.io = options.io.unwrap_or(config.io);
    config.handshakes_per_second_max = options.handshakes_per_second;
    config.parser = Parser::Auto;
    config.engine.allow_eio3 = options.allow_eio3;
    config.recovery_max_disconnection = options.recovery;
    // All clients of a benchmark come from a few addresses.
    config.connections_per_address_max = 0;
    config.unjoined_sessions_per_address_max = config.unjoined_sessions_max;
    (config.tls_cert, config.tls_key) =
        (options.tls_cert.into_iter().collect(), options.tls_key.into_iter().collect());
    shardcast::log::init(&config)?;
    let handlers = match options.handlers {
        Handlers::Typed => register,
        Handlers::Raw => register_raw,
    };
    let register = move |io: &mut Namespace| {
        handlers(io);
        bench_games::register(io);
    };
    Server::new(config).namespace("/", register).run()
}
