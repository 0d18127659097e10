//! A descriptor whose readiness monoio awaits: a connection, a listener or a doorbell.
#![allow(unsafe_code)]

use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use monoio::net::TcpStream;

/// Any pollable descriptor. monoio's stream type is only used for its polling, so the kind does not matter.
pub(crate) struct Polled(TcpStream);

impl Polled {
    pub(crate) fn new(descriptor: OwnedFd) -> std::io::Result<Polled> {
        TcpStream::from_std(StdStream::from(descriptor)).map(Polled)
    }

    /// Waits until there is something to read, or an end.
    pub(crate) async fn readable(&self) -> std::io::Result<()> {
        self.0.readable(false).await
    }

    /// Waits until the kernel takes more.
    pub(crate) async fn writable(&self) -> std::io::Result<()> {
        self.0.writable(false).await
    }
}

impl AsFd for Polled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and closes it only when it is dropped, which the borrow of
        // `self` rules out while the result lives.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
