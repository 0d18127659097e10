//! A descriptor whose readiness monoio awaits: a connection, a listener or a doorbell.
#![allow(unsafe_code)]

use std::future::{Future, poll_fn};
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::pin;

use monoio::net::TcpStream;

use crate::driver::doorbell::{EventBell, silence};
use crate::mesh::Bell;

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

/// A way for a task to go to the end of the queue. A task that wakes itself is put in front, and while tasks are ready monoio
/// looks neither at descriptors nor at its timers; what waits for a descriptor comes after all of them.
pub(crate) struct WayRound {
    bell: EventBell,
    watched: Polled,
}

impl WayRound {
    pub(crate) fn new() -> std::io::Result<WayRound> {
        let bell = EventBell::new()?;
        let watched = Polled::new(bell.descriptor().try_clone()?)?;
        Ok(WayRound { bell, watched })
    }

    /// Waits until everybody else has had a turn. The bell rings only once its silence was seen: monoio remembers on epoll that a
    /// descriptor was readable, and would not wait.
    pub(crate) async fn go(&self) {
        let mut readable = pin!(self.watched.readable());
        let mut has_rung = false;
        let heard = poll_fn(|cx| {
            let heard = readable.as_mut().poll(cx);
            if heard.is_pending() && !std::mem::replace(&mut has_rung, true) {
                self.bell.ring();
            }
            heard
        });
        if let Err(error) = heard.await {
            tracing::error!(%error, "a shard cannot let others go first");
        }
        silence(&self.bell.descriptor());
    }
}
