//! The end of a listener: first what the kernel holds in its queue, then the listener.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketAddrAny, SocketFlags, acceptfrom_with, getsockname, shutdown};

use crate::driver::descriptor::peer_of;
use crate::message::peer::Peer;

/// Connections taken from the queue of a listener that closes: more than any queue holds, so that a flood ends.
const LAST_ACCEPTS_MAX: usize = 64 * 1024;

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

/// Refuses connections from now on, whatever else still holds the descriptor. A Unix socket is one for all shards: it is closed by
/// [`close_shared`] once all of them have ended.
pub(crate) fn close_listener(listener: &impl AsFd) {
    let is_shared = getsockname(listener).is_ok_and(|address| is_unix(&address));
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

fn is_unix(address: &SocketAddrAny) -> bool {
    address.address_family() == rustix::net::AddressFamily::UNIX
}
