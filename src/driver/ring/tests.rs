//! The ring with real sockets: what its receive buffers do when they run out, and when all is quiet again; and with a real bell.
//!
//! Where the machine has no ring wire there is nothing to test.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::driver::doorbell::EventBell;
use crate::driver::doorbell::tests::assert_no_message_waits;
use crate::driver::ring::demand::{BUFFERS_MAX, BUFFERS_MIN, BUFFERS_QUIET};
use crate::driver::ring::submission::{Kind, Ring};
use crate::mesh::Bell;

const SOCKETS: usize = 20;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sockets that are received from, and their other ends.
struct Crowd {
    ring: Ring,
    pairs: Vec<(UnixStream, UnixStream)>,
    /// Bytes written to and read from each.
    written: [usize; SOCKETS],
    read: [usize; SOCKETS],
    /// Receives that found no buffer.
    refused: usize,
}

fn key(index: usize) -> Key {
    Key { index: index as u32, generation: 1 }
}

/// What a socket carries at a place: told apart from another socket's, and from another place.
fn byte_at(socket: usize, place: usize) -> u8 {
    (place % 251) as u8 ^ socket as u8
}

impl Crowd {
    fn new() -> Option<Crowd> {
        let ring = Ring::new().ok()?;
        let pair = || UnixStream::pair().expect("there are descriptors for some sockets");
        let pairs: Vec<_> = (0..SOCKETS).map(|_| pair()).collect();
        for (ours, theirs) in &pairs {
            ours.set_nonblocking(true)
                .and_then(|()| theirs.set_nonblocking(true))
                .expect("a socket can be set");
        }
        let mut crowd = Crowd { ring, pairs, written: [0; SOCKETS], read: [0; SOCKETS], refused: 0 };
        (0..SOCKETS).for_each(|index| crowd.receive(index));
        Some(crowd)
    }

    fn receive(&mut self, index: usize) {
        self.ring.receive(self.pairs[index].0.as_fd(), key(index));
    }

    /// Sends so many bytes more to each, and receives until all have come.
    fn exchange(&mut self, bytes: usize, now: Time) {
        let all = self.read[0] + bytes;
        while self.read != [all; SOCKETS] {
            for (index, (_, theirs)) in self.pairs.iter_mut().enumerate() {
                let rest: Vec<u8> = (self.written[index]..all).map(|place| byte_at(index, place)).collect();
                // What finds no room is written in another round.
                self.written[index] += theirs.write(&rest).unwrap_or(0);
            }
            self.ring.wait(Some(PATIENCE)).expect("the ring works");
            let before = (self.read, self.refused);
            self.take_completions();
            self.ring.end_receives(now);
            assert_ne!((self.read, self.refused), before, "nothing came in {PATIENCE:?}");
        }
    }

    fn take_completions(&mut self) {
        while let Some(completion) = self.ring.next_completion() {
            assert_eq!(completion.token.kind(), Some(Kind::Receive));
            let index = completion.token.index() as usize;
            if let Some(buffer) = completion.buffer {
                let mut buffers = self.ring.buffers.borrow_mut();
                let bytes = buffers.bytes(buffer, completion.result as usize);
                let places = self.read[index]..;
                assert!(bytes.iter().zip(places).all(|(byte, place)| *byte == byte_at(index, place)));
                self.read[index] += bytes.len();
                buffers.give_back(buffer);
            } else {
                assert_eq!(completion.result, -libc::ENOBUFS);
                self.ring.buffers.borrow_mut().demand.refused();
                self.refused += 1;
            }
            if !completion.has_more {
                self.receive(index);
            }
        }
    }
}

#[test]
fn a_pool_that_runs_dry_loses_nothing_grows_and_is_small_again_after_a_quiet_time() {
    let Some(mut crowd) = Crowd::new() else { return };
    assert_eq!(crowd.ring.buffers.borrow().resident(), 0, "a ring at rest has no buffer in memory");
    for round in 0..2 {
        let start = Time(round * 1_000_000);
        crowd.exchange(300_000, start);
        // In the second round the kernel still has the buffers of the first.
        assert!(round > 0 || crowd.refused > 0, "the pool ran dry");
        let wanted = crowd.ring.buffers.borrow().demand.wanted();
        assert!(wanted > BUFFERS_MIN && wanted <= BUFFERS_MAX);
        let shrinks_at = crowd.ring.buffers.borrow().demand.shrinks_at();
        assert_eq!(shrinks_at, start + BUFFERS_QUIET);
        crowd.ring.end_receives(shrinks_at);
        crowd.ring.end_receives(shrinks_at + BUFFERS_QUIET);
        assert_eq!(crowd.ring.buffers.borrow().demand.wanted(), BUFFERS_MIN);
        assert_eq!(
            (crowd.ring.buffers.borrow().resident(), crowd.ring.buffers.borrow().demand.shrinks_at()),
            (0, Time::NEVER)
        );
    }
    // The kernel still has the buffers that were added. Those it fills now do not stay.
    for _ in 0..2 * usize::from(BUFFERS_MAX) / SOCKETS {
        crowd.exchange(10, Time(3_000_000));
    }
    let most = usize::from(BUFFERS_MIN) * crate::driver::ring::buffers::BUFFER_BYTES;
    assert!(crowd.ring.buffers.borrow().resident() <= most, "{}", crowd.ring.buffers.borrow().resident());
}

/// Waits for the bell, takes all answers, and watches it again if need be.
fn hear(ring: &mut Ring, descriptor: &impl AsFd) -> usize {
    ring.wait(Some(PATIENCE)).expect("the ring works");
    let mut heard = 0;
    while let Some(completion) = ring.next_completion() {
        assert_eq!(completion.token.kind(), Some(Kind::Bell));
        heard += 1;
        if !completion.has_more {
            ring.watch_bell(descriptor.as_fd());
        }
    }
    heard
}

#[test]
fn each_ring_of_a_bell_that_nobody_silences_is_heard_and_none_is_heard_twice() {
    let Ok(mut ring) = Ring::new() else { return };
    let bell = EventBell::new().expect("an eventfd");
    let descriptor = bell.descriptor();
    ring.watch_bell(descriptor.as_fd());
    for round in 0..100 {
        bell.ring();
        assert_eq!(hear(&mut ring, &descriptor), 1, "round {round}");
        ring.poll().expect("the ring works");
        assert_eq!(ring.completions(), 0, "a bell that has rung lets a shard sleep, round {round}");
    }
}

#[test]
fn no_message_waits_for_a_shard_that_sleeps_on_its_ring() {
    let Ok(mut ring) = Ring::new() else { return };
    let bell = EventBell::new().expect("an eventfd");
    let descriptor = bell.descriptor();
    ring.watch_bell(descriptor.as_fd());
    assert_no_message_waits(bell, || hear(&mut ring, &descriptor) > 0);
}
