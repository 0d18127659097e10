//! The end of a listener: first what the kernel holds in its queue, then the listener.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, shutdown};

use crate::config::Config;
use crate::driver::descriptor::peer_of;
use crate::message::peer::Peer;

/// Connections taken from the queue of a listener that closes: more than any queue holds, so that a flood ends.
const LAST_ACCEPTS_MAX: usize = 64 * 1024;

/// Whether the kernel moves connections from a listener that closes to another one of its port.
const MIGRATION: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// Takes every connection that waits in a listener's queue.
pub(crate) fn empty_queue(listener: &impl AsFd) -> Vec<(OwnedFd, Peer)> {
    let mut taken = Vec::new();
    while taken.len() < LAST_ACCEPTS_MAX {
        match acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((connection, address)) => taken.push((connection, peer_of(address))),
            // The client gave up while it waited.
            Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
            Err(_) => break,
        }
    }
    taken
}

/// Refuses connections from now on, whatever else still holds the descriptor, which a hand-over needs. What several shards serve is
/// closed by [`close_shared`] once all of them have ended.
pub(crate) fn close_listener(listener: &impl AsFd, is_shared: bool) {
    if !is_shared {
        let _ = shutdown(listener, Shutdown::Both);
    }
}

/// Closes the listeners that all shards shared. Their rings may hold the descriptors for a moment longer.
pub(crate) fn close_shared(listeners: &[OwnedFd]) {
    for listener in listeners {
        let _ = shutdown(listener, Shutdown::Both);
    }
}

/// Where processes share a port, the kernel may have given a new connection to one that closes its listener in that moment: it is
/// reset, unless the kernel may move it.
pub(crate) fn warn_of_resets(config: &Config) {
    let is_tcp = config.bind.iter().any(|bind| !bind.starts_with("unix:"));
    let migrates = std::fs::read_to_string(MIGRATION).is_ok_and(|value| value.trim() != "0");
    if config.bind_shared && is_tcp && !migrates {
        tracing::warn!(
            "bind_shared: a connection that comes in the moment in which a process closes its listener is reset; \
             sysctl -w net.ipv4.tcp_migrate_req=1 has the kernel move it to the other process, and a hand-over (SIGUSR2) needs neither"
        );
    }
}
