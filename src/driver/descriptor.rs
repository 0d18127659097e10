//! What both wires ask of a connection's descriptor: who is at its other end, and a send that does not wait.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmsg};

use crate::message::peer::Peer;

/// Whoever has connected, by the address that the kernel gave when the connection was accepted.
pub(crate) fn peer_of(address: Option<SocketAddrAny>) -> Peer {
    address.and_then(|address| SocketAddr::try_from(address).ok()).map_or(Peer::Unix, Peer::tcp)
}

/// Sends as much as the kernel takes at once.
pub(crate) fn send_now(descriptor: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if let [slice] = slices {
        return rustix::net::send(descriptor, slice, flags);
    }
    sendmsg(descriptor, slices, &mut SendAncillaryBuffer::default(), flags)
}
