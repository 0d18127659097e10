//! The server that the benchmarks talk to: the few events that `perf/` compares between servers.
//!
//! `cargo run --release --example bench_server -- PORT [--handlers typed|raw] [--shards N] [--io uring|epoll|monoio] [--flush-window MS]
//! [--handshakes N] [--lag MS] [--queue URL] [--formats F]` on 127.0.0.1. Its handlers read and write values, as those of most servers do; `--handlers raw` passes on
//! what came, without a look at it. The events are those of
//! `shardcast bench-server`; the same on other servers are in perf/peers; what is measured with them is in perf/README.md.

#[path = "../src/bin/shardcast/bench_events.rs"]
mod bench_events;

use std::time::Duration;

use bench_events::{register, register_raw};
use shardcast::{Config, Error, Io, QueueFormats, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: bench_server PORT [--handlers typed|raw] [--shards N] [--io uring|epoll|monoio] [--flush-window MS] [--handshakes N] [--lag MS] [--queue URL] [--formats F]";

fn main() -> shardcast::Result<()> {
    let (config, is_raw) = configure(std::env::args().skip(1))?;
    Server::new(config).namespace("/", if is_raw { register_raw } else { register }).run()
}

fn configure(mut arguments: impl Iterator<Item = String>) -> shardcast::Result<(Config, bool)> {
    let port = arguments.next().ok_or_else(|| Error::new(USAGE))?;
    let port: u16 = port.parse().map_err(|_| Error::new(format!("{port:?} is not a port; {USAGE}")))?;
    let mut config = Config {
        bind: vec![format!("127.0.0.1:{port}")],
        shards: 1,
        log: "warn".to_owned(),
        ..Config::default()
    };
    let mut is_raw = false;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| Error::new(format!("{name} needs a value; {USAGE}")))?;
        match (name.as_str(), value.as_str()) {
            ("--handlers", "typed") => is_raw = false,
            ("--handlers", "raw") => is_raw = true,
            ("--shards", _) => {
                config.shards = value.parse().map_err(|_| Error::new("--shards takes a number"))?
            }
            ("--flush-window", _) => {
                let millis: f64 =
                    value.parse().map_err(|_| Error::new("--flush-window takes milliseconds"))?;
                config.flush_window = Duration::from_secs_f64(millis / 1e3);
            }
            ("--handshakes", _) => {
                config.handshakes_per_second_max =
                    value.parse().map_err(|_| Error::new("--handshakes takes a number; 0 is no limit"))?;
            }
            ("--lag", _) => {
                let millis = value.parse().map_err(|_| Error::new("--lag takes milliseconds; 0 is off"))?;
                config.lag_max = Duration::from_millis(millis);
            }
            ("--queue", url) => config.engine.message_queue = url.into(),
            ("--formats", formats) => {
                config.engine.queue_formats = QueueFormats::parse(formats).map_err(Error::new)?
            }
            ("--io", "uring") => config.io = Io::Uring,
            ("--io", "epoll") => config.io = Io::Epoll,
            ("--io", "monoio") => config.io = Io::Monoio,
            _ => return Err(Error::new(format!("unknown option {name} {value}; {USAGE}"))),
        }
    }
    Ok((config, is_raw))
}
