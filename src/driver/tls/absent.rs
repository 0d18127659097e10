//! What stands for TLS in a program that is built without it: a filter that cannot exist.

use std::io::IoSlice;
use std::sync::Arc;

use rustix::net::Shutdown;

use crate::config::Config;
use crate::driver::tls::{NotReady, Verdict};
use crate::message::peer::Arrival;
use crate::shard::value::stats::ShardCounters;

/// What all shards share: nothing.
#[derive(Debug)]
pub(crate) struct Acceptor;

impl Acceptor {
    /// None: `Config::validate` refuses certificates in a program without the feature.
    pub(crate) fn load(_config: &Config) -> Result<Option<Arc<Acceptor>>, String> {
        Ok(None)
    }
}

/// What the filters of one shard share: nothing.
#[derive(Debug)]
pub(crate) struct Seat;

impl Seat {
    pub(crate) fn new(_acceptor: Option<Arc<Acceptor>>, _counters: Arc<ShardCounters>) -> Seat {
        Seat
    }

    pub(crate) fn take_plain(&mut self) -> Vec<u8> {
        Vec::new()
    }

    pub(crate) fn give_back(&mut self, _plain: Vec<u8>) {}

    pub(crate) fn begin_turn(&mut self) {}

    pub(crate) fn is_used_up(&self) -> bool {
        false
    }
}

/// A filter that no connection has.
#[derive(Debug)]
pub(crate) enum Filter {}

impl Filter {
    pub(crate) fn of_arrival(_arrival: Arrival, _seat: &Seat) -> Option<Box<Filter>> {
        None
    }

    pub(crate) fn take(&mut self, _input: &mut [u8], _plain: &mut Vec<u8>, _seat: &mut Seat) -> Verdict {
        match *self {}
    }

    pub(crate) fn is_later(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take_news(&mut self) -> bool {
        match *self {}
    }

    pub(crate) fn seal(&mut self, _slices: &[IoSlice<'_>], _seat: &mut Seat) -> Result<(), NotReady> {
        match *self {}
    }

    #[cfg_attr(not(feature = "epoll"), allow(dead_code, reason = "the portable wire asks"))]
    pub(crate) fn covers_outbox(&self) -> bool {
        match *self {}
    }

    pub(crate) fn has_flight(&self) -> bool {
        match *self {}
    }

    pub(crate) fn flight(&mut self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn sent(&mut self, _count: usize) -> usize {
        match *self {}
    }

    pub(crate) fn say_goodbye(&mut self, _is_last: bool) {
        match *self {}
    }

    pub(crate) fn close(&mut self, _seat: &mut Seat) -> &[u8] {
        match *self {}
    }

    pub(crate) fn must_shut_down(&self) -> Option<Shutdown> {
        match *self {}
    }

    pub(crate) fn is_end_known(&self) -> bool {
        match *self {}
    }

    pub(crate) fn arrive(&mut self) -> bool {
        match *self {}
    }
}
