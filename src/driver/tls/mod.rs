//! TLS of a connection, as a filter between its wire and its shard: what comes is opened before the shard has it, and what
//! the shard owes is sealed when it is sent. The shard itself knows only whether a connection is secure.
//!
//! `certificates` reads the files and chooses by the name that a client asks for; `seat` is what the filters of one shard share;
//! `filter` is one connection. Without the feature `tls` there is a filter that no connection has.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
pub(crate) mod certificates;
#[cfg(feature = "tls")]
mod filter;
#[cfg(feature = "tls")]
mod seat;
#[cfg(feature = "tls")]
mod validity;
#[cfg(feature = "tls")]
pub(crate) mod watch;

use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};

#[cfg(not(feature = "tls"))]
pub(crate) use absent::{Acceptor, Filter, Seat};
#[cfg(feature = "tls")]
pub(crate) use filter::Filter;
#[cfg(feature = "tls")]
pub(crate) use seat::{Acceptor, Seat};

/// Handshakes that may be under way on one shard; beyond it a new one is closed. Each lasts `header_timeout` at most.
pub(crate) const TLS_HANDSHAKES_MAX: usize = 4096;

/// What a handshake keeps beside what has come of its next message.
pub(crate) const TLS_HANDSHAKE_BYTES: usize = 16 * 1024;

/// What all connections of a shard keep together of records that are not whole yet; one that adds to more is closed.
pub(crate) const TLS_PARTIAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a connection at rest has for its TLS: the keys of both directions, and where they come from.
pub(crate) const TLS_CONNECTION_BYTES: usize = 4 * 1024;

/// A connection on its way from one shard to another: its descriptor, and its TLS as far as it is.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) descriptor: OwnedFd,
    pub(crate) filter: Option<Box<Filter>>,
}

impl Carried {
    /// It has come to another shard. One whose end was read on the way brings nothing more, and its new shard hears of that as of any end.
    pub(crate) fn arrive(&mut self) {
        if self.filter.as_mut().is_some_and(|filter| filter.arrive()) {
            let _ = shutdown(&self.descriptor, Shutdown::Read);
        }
    }
}

/// Until when the certificate of a file is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateEnd {
    pub(crate) file: String,
    pub(crate) unix_seconds: u64,
}

/// Says it of all certificates, as they are at the moment; of none without TLS.
pub(crate) type CertificateEnds = Box<dyn Fn() -> Vec<CertificateEnd> + Send + Sync>;

/// What is known of a connection once bytes of it went through its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "no connection has a filter"))]
pub(crate) enum Verdict {
    /// It goes on.
    Going,
    /// The connection is plain: from here on it needs no filter.
    Plain,
    /// The handshakes of this turn are done: this one goes on in a later turn.
    Later,
    /// The client has said that it sends no more.
    Ended,
    /// The client broke the rules: what it is told waits to be sent, then the connection closes.
    Failed,
}

/// Nothing can be sealed: the handshake is not over, or the connection has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "no connection has a filter"))]
pub(crate) struct NotReady;
