//! Listening sockets: one for each address and shard, sharing the port by SO_REUSEPORT.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with,
};

use crate::shard::config::Config;

/// Every listener of a process, by shard.
#[derive(Debug)]
pub(crate) struct Listeners {
    by_shard: Vec<Vec<OwnedFd>>,
    addresses: Vec<String>,
}

impl Listeners {
    /// Binds every configured address once for each shard.
    pub(crate) fn bind(config: &Config, shards: usize) -> Result<Listeners, String> {
        let mut listeners =
            Listeners { by_shard: (0..shards).map(|_| Vec::new()).collect(), addresses: Vec::new() };
        for address in &config.bind {
            match address.strip_prefix("unix:") {
                Some(path) => listeners.bind_unix(path, config.backlog)?,
                None => listeners.bind_tcp(address, config.backlog)?,
            }
        }
        Ok(listeners)
    }

    /// Where the process listens.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// The listeners of one shard.
    pub(crate) fn take(&mut self, shard: usize) -> Vec<OwnedFd> {
        std::mem::take(&mut self.by_shard[shard])
    }

    fn bind_tcp(&mut self, text: &str, backlog: i32) -> Result<(), String> {
        let mut address = resolve(text)?;
        for shard in &mut self.by_shard {
            let fault = |error: rustix::io::Errno| describe(text, error);
            let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(fault)?;
            set_socket_reuseaddr(&socket, true).map_err(fault)?;
            set_socket_reuseport(&socket, true).map_err(fault)?;
            if address.is_ipv6() {
                set_ipv6_v6only(&socket, true).map_err(fault)?;
            }
            // Accepted connections inherit it: small messages must not wait for a peer's delayed acknowledgement.
            set_tcp_nodelay(&socket, true).map_err(fault)?;
            bind(&socket, &address).map_err(fault)?;
            listen(&socket, backlog).map_err(fault)?;
            if address.port() == 0 {
                // The kernel chose a port; the other shards share it.
                let bound = getsockname(&socket).map_err(fault)?;
                address = SocketAddr::try_from(bound).map_err(fault)?;
            }
            shard.push(socket);
        }
        self.addresses.push(format!("http://{address}"));
        Ok(())
    }

    /// A Unix socket has one queue, which the shards share.
    fn bind_unix(&mut self, path: &str, backlog: i32) -> Result<(), String> {
        let fault = |error: rustix::io::Errno| describe(path, error);
        remove_stale_socket(path)?;
        let address = SocketAddrUnix::new(path).map_err(fault)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fault)?;
        bind(&socket, &address).map_err(fault)?;
        listen(&socket, backlog).map_err(fault)?;
        for shard in &mut self.by_shard {
            let shared = socket.try_clone().map_err(|error| format!("{path}: {error}"))?;
            shard.push(shared);
        }
        self.addresses.push(format!("unix:{path}"));
        Ok(())
    }
}

/// A socket file that nobody listens on any more is in the way; anything else stays.
fn remove_stale_socket(path: &str) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(format!(
            "unix:{path}: there is a file of that name that is no socket; choose another path"
        ));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(format!("unix:{path}: another process listens there"));
    }
    std::fs::remove_file(path).map_err(|error| format!("unix:{path}: cannot remove the old socket: {error}"))
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text
        .to_socket_addrs()
        .map_err(|error| format!("bind = {text:?}: {error}; write ADDR:PORT, such as 127.0.0.1:5000"))?;
    found.into_iter().next().ok_or_else(|| format!("bind = {text:?}: the name has no address"))
}

fn describe(address: &str, error: rustix::io::Errno) -> String {
    let advice = match error {
        rustix::io::Errno::ADDRINUSE => "another program listens there; stop it or choose another port",
        rustix::io::Errno::ACCESS => "ports below 1024 need CAP_NET_BIND_SERVICE",
        rustix::io::Errno::ADDRNOTAVAIL => "this machine has no such address",
        _ => "the kernel refused it",
    };
    format!("cannot listen on {address}: {error} ({advice})")
}
