//! What the portable wire does with a connection that has a filter: TLS, or what is still to find out whether it is.

use std::io::IoSlice;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::base::slab::Key;
use crate::driver::descriptor::send_now;
use crate::driver::portable::{Hands, SLICES_PER_SEND_MAX, Wire, World, await_writable};
use crate::driver::tls::{NotReady, Verdict};
use crate::shard::seam::Unsent;

impl World {
    /// Gives the shard what a connection brought, through its filter if it has one.
    pub(super) fn receive(self: &Rc<Self>, wire: &Rc<Wire>, key: Key, bytes: &mut [u8]) -> Verdict {
        let mut plain = self.tls.borrow_mut().take_plain();
        let opened = wire.filter.borrow_mut().as_mut().map(|filter| {
            let verdict = filter.take(bytes, &mut plain, &mut self.tls.borrow_mut());
            (verdict, filter.take_news())
        });
        let Some((verdict, is_secure)) = opened else {
            self.work(|shard, now| shard.receive(key, bytes, now, &mut Hands(self)));
            return Verdict::Going;
        };
        if verdict == Verdict::Plain {
            *wire.filter.borrow_mut() = None;
        }
        if verdict != Verdict::Failed {
            self.send_flight(wire, key);
        }
        self.work(|shard, now| {
            if is_secure {
                shard.secured(key);
            }
            if !plain.is_empty() {
                shard.receive(key, &mut plain, now, &mut Hands(self));
            }
            match verdict {
                Verdict::Going | Verdict::Plain | Verdict::Later => {}
                Verdict::Ended => shard.ended(key, now),
                // The close sends what the client is told.
                Verdict::Failed => shard.closed(key, now),
            }
        });
        self.tls.borrow_mut().give_back(plain);
        verdict
    }

    /// Goes on with a handshake that its turn had no more time for, until it needs more from the client.
    pub(super) async fn finish_step(self: &Rc<Self>, wire: &Rc<Wire>, key: Key) -> Verdict {
        let mut verdict = Verdict::Later;
        while verdict == Verdict::Later && !wire.stop.is_set() {
            self.let_others_go_first().await;
            if !self.tls.borrow().is_used_up() {
                verdict = self.receive(wire, key, &mut []);
            }
        }
        verdict
    }

    /// Sends what a filter has ready, as much as the kernel takes; closes the sending half behind the last of it. Returns how many
    /// bytes of the outbox are out by that.
    pub(super) fn send_flight(self: &Rc<Self>, wire: &Rc<Wire>, key: Key) -> usize {
        let mut count = 0;
        let mut own = wire.filter.borrow_mut();
        let Some(filter) = own.as_mut().filter(|_| !wire.is_blocked.get()) else { return 0 };
        while filter.has_flight() {
            match send_now(wire.stream_fd(), &[IoSlice::new(filter.flight())]) {
                Ok(sent) => count += filter.sent(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    wire.is_blocked.set(true);
                    monoio::spawn(await_writable(Rc::clone(self), Rc::clone(wire), key));
                    return count;
                }
                Err(_) => {
                    // The reading task learns of the break and tells the shard.
                    wire.want(true);
                    let _ = shutdown(wire.stream_fd(), Shutdown::Both);
                    return count;
                }
            }
        }
        if let Some(half) = filter.must_shut_down() {
            let _ = shutdown(wire.stream_fd(), half);
        }
        count
    }

    /// Seals what a connection is owed and sends it, until the kernel takes no more.
    pub(super) fn flush_sealed(self: &Rc<Self>, wire: &Rc<Wire>, key: Key, mut unsent: Unsent<'_>) {
        loop {
            let seal = |slices: &[IoSlice<'_>]| {
                let mut own = wire.filter.borrow_mut();
                let Some(filter) = own.as_mut() else { return Ok(0) };
                if !filter.has_flight() && filter.seal(slices, &mut self.tls.borrow_mut()) == Err(NotReady) {
                    // There is nobody who could read it.
                    return Ok(slices.iter().map(|slice| slice.len()).sum());
                }
                drop(own);
                let count = self.send_flight(wire, key);
                let is_left = wire.filter.borrow().as_ref().is_some_and(|filter| filter.has_flight());
                if is_left && count == 0 { Err(NotReady) } else { Ok(count) }
            };
            if unsent.transmit::<SLICES_PER_SEND_MAX, _>(seal) != Ok(true) || wire.is_blocked.get() {
                return;
            }
        }
    }
}
