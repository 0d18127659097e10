//! `peer-limit PORT [CORE]`: what the kernel costs. The benchmark's events, and nothing around them.
//!
//! One pinned thread, epoll, one `recv` when a socket is readable, one `send` for what it brought, one `send` per
//! connection for a broadcast. No server with a user's handler in it can do much less *per send*; one that joins
//! several messages into a send can, and then its ratio to this one is below 1. It does not: time out, ping,
//! defend itself, check JSON, or free the sessions of polling clients that leave without a word.

mod http;
mod server;
mod session;
mod websocket;

use std::error::Error;

use rustix::thread::{CpuSet, sched_setaffinity};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, core) = match &arguments[..] {
        [port] => (port.parse()?, None),
        [port, core] => (port.parse()?, Some(core.parse()?)),
        _ => return Err("usage: peer-limit PORT [CORE]".into()),
    };
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set)?;
    }
    Ok(server::Server::bind(port)?.run()?)
}
