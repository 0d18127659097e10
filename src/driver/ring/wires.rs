//! The ring's wires: what the kernel does with each descriptor, and how a shard's wishes reach it.
//!
//! A send may end later, in the kernel, and reads the connection's outbox until then: pieces that are lent to it are locked,
//! and a wire that its shard has given up stays with its outbox until everything under way has answered. A flight of TLS is lent in
//! the same way, and its filter stays with its wire.

use std::any::Any;
use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::base::ids::ShardId;
use crate::base::places::Places;
use crate::base::slab::Key;
use crate::driver::balance::Balance;
use crate::driver::clock::Clock;
use crate::driver::descriptor::send_now;
use crate::driver::files::{FileJob, FileReader};
use crate::driver::ring::submission::{Kind, PIECES_PER_SEND_MAX, Ring, SendPieces, Token};
use crate::driver::send_connection;
use crate::driver::tls::{Carried, Filter, NotReady, Seat, Verdict};
use crate::mesh::Mesh;
use crate::message::files::FileAnswer;
use crate::message::peer::Arrival;
use crate::shard::seam::{Leaving, Unsent, Wires};
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;

/// Up to this many connections are flushed by plain sends: for one or two a ring operation costs more.
const DIRECT_SENDS_MAX: usize = 2;

/// Bytes of one piece in one send.
const SEND_BYTES_MAX: usize = 256 * 1024;

/// A connection at rest, in the table of wires.
pub(crate) const WIRE_BYTES: usize = 64;
const _: () = assert!(size_of::<Option<Wire>>() <= WIRE_BYTES);

/// A connection's descriptor and what the kernel is doing with it.
pub(super) struct Wire {
    pub(super) key: Key,
    pub(super) descriptor: OwnedFd,
    pub(super) is_receiving: bool,
    /// A send has failed: whatever the receive that is under way answers, the connection is over.
    pub(super) is_broken: bool,
    /// The shard takes what comes; if not, no receive is begun.
    is_wanted: bool,
    is_sending: bool,
    /// Lent to the kernel while a send of several pieces is under way.
    pieces: Option<Box<SendPieces>>,
    /// Its TLS, or what is still to find out whether it has any; none for a plain one.
    pub(super) filter: Option<Box<Filter>>,
}

/// A wire that its shard has given up, until the kernel is done with it.
pub(super) struct DyingWire {
    pub(super) wire: Wire,
    /// What a send may still be reading.
    pub(super) outbox: Outbox,
    /// Where the connection goes; nowhere when it closes.
    pub(super) destination: Option<Destination>,
}

/// The rest of a handoff.
pub(super) struct Destination {
    to: ShardId,
    arrival: Arrival,
    pub(super) unread: Vec<u8>,
}

/// A shard's wires, and the ring that they are on.
pub(super) struct RingWires {
    // Declared first so that the kernel is done with everything below before it is freed.
    pub(super) ring: Ring,
    pub(super) id: ShardId,
    pub(super) places: Places<Wire>,
    pub(super) dying: HashMap<u64, DyingWire>,
    // Boxed, because the kernel is told where they are and they must not move.
    #[allow(clippy::vec_box)]
    spare_pieces: Vec<Box<SendPieces>>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) files: FileReader,
    pub(super) balance: Balance,
    pub(super) clock: Clock,
    /// For how long sends gather, and since when they do.
    flush_window: Duration,
    unflushed_since: Option<Duration>,
    /// Few connections wait to be sent to.
    is_direct: bool,
    pub(super) tls: Seat,
    /// Connections whose handshakes go on in a later turn.
    pub(super) later: Vec<Key>,
}

/// What wires share with the rest of their thread.
pub(super) struct Surroundings {
    pub(super) id: ShardId,
    pub(super) mesh: Arc<Mesh>,
    pub(super) files: FileReader,
    pub(super) balance: Balance,
    pub(super) clock: Clock,
    pub(super) flush_window: Duration,
    pub(super) tls: Seat,
}

impl RingWires {
    pub(super) fn new(ring: Ring, surroundings: Surroundings) -> RingWires {
        let Surroundings { id, mesh, files, balance, clock, flush_window, tls } = surroundings;
        RingWires {
            ring,
            id,
            places: Places::default(),
            dying: HashMap::new(),
            spare_pieces: Vec::new(),
            mesh,
            files,
            balance,
            clock,
            flush_window,
            unflushed_since: None,
            is_direct: false,
            tls,
            later: Vec::new(),
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Wire> {
        self.places.get_mut(key.index).filter(|wire| wire.key == key)
    }

    /// The wire that an answer of the kernel is about, unless it was given up.
    pub(super) fn of_token(&mut self, token: Token) -> Option<&mut Wire> {
        self.places.get_mut(token.index()).filter(|wire| token.is_of(wire.key))
    }

    /// Begins to receive for a connection.
    pub(super) fn add(&mut self, key: Key, descriptor: OwnedFd, filter: Option<Box<Filter>>) {
        self.ring.receive(descriptor.as_fd(), key);
        let wire = Wire {
            key,
            descriptor,
            is_receiving: true,
            is_broken: false,
            is_wanted: true,
            is_sending: false,
            pieces: None,
            filter,
        };
        self.places.put(key.index, wire);
        // What its old shard had not sent yet.
        self.send_flight(key);
    }

    pub(super) fn receive_if_wanted(&mut self, key: Key) {
        let Some(wire) = self.places.get_mut(key.index) else { return };
        if wire.key == key && wire.is_wanted && !wire.is_receiving {
            wire.is_receiving = true;
            self.ring.receive(wire.descriptor.as_fd(), key);
        }
    }

    /// A send of a live wire has ended: what was lent to it is free again.
    pub(super) fn send_ended(&mut self, key: Key) {
        let Some(wire) = self.places.get_mut(key.index).filter(|wire| wire.key == key) else { return };
        wire.is_sending = false;
        self.spare_pieces.extend(wire.pieces.take());
    }

    /// What a wire that was given up still receives goes where it goes.
    pub(super) fn receive_dying(&mut self, token: Token, bytes: &mut [u8]) {
        if let Some(DyingWire { destination: Some(destination), wire, .. }) =
            self.dying.get_mut(&token.owner())
        {
            match &mut wire.filter {
                None => destination.unread.extend_from_slice(bytes),
                // How it ends its new shard learns from the wire.
                Some(filter) => drop(filter.take(bytes, &mut destination.unread, &mut self.tls)),
            }
        }
    }

    /// Sends what a filter has ready, unless a send is under way; closes the sending half behind the last of it.
    pub(super) fn send_flight(&mut self, key: Key) {
        let Some(wire) = self.places.get_mut(key.index).filter(|wire| wire.key == key) else { return };
        let Some(filter) = wire.filter.as_mut().filter(|_| !wire.is_sending) else { return };
        if filter.has_flight() {
            self.ring.send(wire.descriptor.as_fd(), key, filter.flight());
            wire.is_sending = true;
        } else if let Some(half) = filter.must_shut_down() {
            let _ = shutdown(&wire.descriptor, half);
        }
    }

    /// Opens what a connection brought; gives it its bytes as the shard is to have them, in a buffer that comes back with
    /// [`Seat::give_back`]. `None`: it has no filter.
    pub(super) fn open(&mut self, key: Key, bytes: &mut [u8]) -> Option<(Verdict, bool, Vec<u8>)> {
        let wire = self.places.get_mut(key.index).filter(|wire| wire.key == key)?;
        let filter = wire.filter.as_mut()?;
        let mut plain = self.tls.take_plain();
        let was_later = filter.is_later();
        let verdict = filter.take(bytes, &mut plain, &mut self.tls);
        let is_news = filter.take_news();
        if verdict == Verdict::Plain {
            wire.filter = None;
        }
        if verdict == Verdict::Later && !was_later {
            self.later.push(key);
        }
        Some((verdict, is_news, plain))
    }

    /// Seals what a connection is owed and sends it: at once if few wait, or else in the ring.
    fn flush_sealed(&mut self, key: Key, mut unsent: Unsent<'_>) {
        let Some(wire) = self.places.get_mut(key.index) else { return };
        let Wire { descriptor, filter: Some(filter), .. } = wire else { return };
        let is_direct = self.is_direct;
        while !filter.has_flight() {
            let sealed = unsent.transmit::<PIECES_PER_SEND_MAX, Errno>(|slices| {
                if filter.seal(slices, &mut self.tls) == Err(NotReady) {
                    // There is nobody who could read it.
                    return Ok(slices.iter().map(|slice| slice.len()).sum());
                }
                if !is_direct {
                    return Ok(0);
                }
                let flight = IoSlice::new(filter.flight());
                // What the kernel does not take now, and any error, is the ring's business below.
                let count = send_now(descriptor.as_fd(), &[flight]).unwrap_or(0);
                Ok(filter.sent(count))
            });
            if sealed != Ok(true) {
                break;
            }
        }
        self.send_flight(key);
    }

    /// A wire that was given up has one operation less under way.
    pub(super) fn dying_answered(
        &mut self,
        token: Token,
        is_sending: Option<bool>,
        is_receiving: Option<bool>,
    ) {
        if let Some(dying) = self.dying.get_mut(&token.owner()) {
            dying.wire.is_sending = is_sending.unwrap_or(dying.wire.is_sending);
            dying.wire.is_receiving = is_receiving.unwrap_or(dying.wire.is_receiving);
            self.bury(token.owner());
        }
    }

    /// Whether sends may go: at once, unless they are to gather for `flush_window`.
    fn is_flush_due(&self) -> bool {
        let Some(since) = self.unflushed_since else { return true };
        self.clock.elapsed() >= since + self.flush_window
    }

    /// How long until sends that gather may go.
    pub(super) fn until_flush(&self) -> Option<Duration> {
        let since = self.unflushed_since?;
        Some((since + self.flush_window).saturating_sub(self.clock.elapsed()))
    }

    /// The shard is done with a connection; the kernel may not be.
    fn give_up(&mut self, key: Key, outbox: Outbox, destination: Option<Destination>) {
        if self.get_mut(key).is_none() {
            return;
        }
        let Some(wire) = self.places.take(key.index) else { return };
        let token = Token::new(Kind::Receive, key);
        match destination {
            Some(_) => {
                if wire.is_receiving {
                    self.ring.cancel(token);
                }
                if wire.is_sending {
                    // It answers with what is out already; the rest travels along.
                    self.ring.cancel(Token::new(Kind::Send, key));
                }
            }
            // Both a receive and a send that are under way answer to this.
            None if wire.is_receiving || wire.is_sending => drop(shutdown(&wire.descriptor, Shutdown::Both)),
            None => {}
        }
        if let Some(old) = self.dying.insert(token.owner(), DyingWire { wire, outbox, destination }) {
            // 2^24 tenants later on the same place: the kernel may still read what the old one owes.
            tracing::error!("a connection's end was never answered; its memory is given up");
            std::mem::forget(old);
        }
        self.bury(token.owner());
    }

    /// Closes or sends away a wire once no operation of it is under way in the kernel.
    fn bury(&mut self, owner: u64) {
        let is_at_rest = |dying: &DyingWire| !dying.wire.is_receiving && !dying.wire.is_sending;
        if !self.dying.get(&owner).is_some_and(is_at_rest) {
            return;
        }
        let Some(DyingWire { wire, outbox, destination }) = self.dying.remove(&owner) else { return };
        self.spare_pieces.extend(wire.pieces);
        self.balance.leave(self.id);
        let Some(Destination { to, arrival, unread }) = destination else { return };
        self.balance.arrive(to);
        let leaving = Leaving { arrival, outbox, unread };
        let carried = Carried { descriptor: wire.descriptor, filter: wire.filter };
        send_connection(&self.mesh, &self.balance, to, leaving.with_wire(Box::new(carried)));
    }
}

impl Wires for RingWires {
    fn attach(&mut self, wire: Box<dyn Any + Send>, key: Option<Key>) -> bool {
        let (Ok(mut carried), Some(key)) = (wire.downcast::<Carried>(), key) else {
            self.balance.leave(self.id);
            return false;
        };
        carried.arrive();
        let Carried { descriptor, filter } = *carried;
        self.add(key, descriptor, filter);
        true
    }

    fn may_flush(&mut self, waiting: usize) -> bool {
        self.is_direct = waiting <= DIRECT_SENDS_MAX;
        if self.flush_window.is_zero() {
            return true;
        }
        if waiting == 0 {
            self.unflushed_since = None;
        } else if self.unflushed_since.is_none() {
            self.unflushed_since = Some(self.clock.elapsed());
        }
        self.is_flush_due()
    }

    /// One operation, whatever was queued.
    fn flush_wire(&mut self, key: Key, mut unsent: Unsent<'_>) {
        let Some(wire) = self.places.get_mut(key.index) else { return };
        if wire.key != key || wire.is_sending {
            return;
        }
        if wire.filter.is_some() {
            return self.flush_sealed(key, unsent);
        }
        let Wire { descriptor, pieces, .. } = wire;
        if self.is_direct {
            // What the kernel does not take now, and any error, is the ring's business below.
            let _ = unsent.transmit::<PIECES_PER_SEND_MAX, _>(|slices| send_now(descriptor.as_fd(), slices));
        }
        let (ring, spare_pieces) = (&mut self.ring, &mut self.spare_pieces);
        wire.is_sending = unsent.begin_send::<PIECES_PER_SEND_MAX>(|slices| match slices {
            // A send answers when it is done: one of bounded size shows that the peer makes progress.
            [front] => ring.send(descriptor.as_fd(), key, &front[..front.len().min(SEND_BYTES_MAX)]),
            _ => {
                let pieces = pieces.insert(spare_pieces.pop().unwrap_or_else(SendPieces::new));
                ring.send_pieces(descriptor.as_fd(), key, pieces, slices);
            }
        });
    }

    fn close_wire(&mut self, key: Key, outbox: Outbox) {
        let RingWires { places, tls, .. } = self;
        if let Some(wire) = places.get_mut(key.index).filter(|wire| wire.key == key)
            && let Some(filter) = wire.filter.as_mut().filter(|_| !wire.is_sending)
        {
            let _ = send_now(wire.descriptor.as_fd(), &[IoSlice::new(filter.close(tls))]);
        }
        self.give_up(key, outbox, None);
    }

    fn shut_down_write(&mut self, key: Key) {
        let Some(wire) = self.get_mut(key) else { return };
        match &mut wire.filter {
            // A peer that is gone already needs no word.
            None => drop(shutdown(&wire.descriptor, Shutdown::Write)),
            Some(filter) => {
                filter.say_goodbye(true);
                self.send_flight(key);
            }
        }
    }

    fn hand_over(&mut self, key: Key, to: ShardId, leaving: Leaving) {
        let Leaving { arrival, outbox, unread } = leaving;
        self.give_up(key, outbox, Some(Destination { to, arrival, unread }));
    }

    fn set_wanted(&mut self, key: Key, is_wanted: bool) {
        let Some(wire) = self.get_mut(key) else { return };
        wire.is_wanted = is_wanted;
        if is_wanted {
            self.receive_if_wanted(key);
        } else if wire.is_receiving {
            self.ring.cancel(Token::new(Kind::Receive, key));
        }
    }

    fn do_file_work(&mut self, key: Key, work: FileWork) -> Option<FileAnswer> {
        self.files.submit(FileJob { shard: self.id, connection: key, work })
    }

    fn ring_bell(&mut self, shard: ShardId) {
        self.mesh.ring(shard);
    }
}
