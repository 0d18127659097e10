//! How many connections, and how many sessions, each address has in the whole process.
//!
//! The kernel spreads the connections of one address over all shards, so a bound for each shard would be off by as much as the
//! spread is uneven. One table serves all threads instead, of atomic numbers that change when a connection or a session opens or ends
//! and never for a message. Each address has two places in it, chosen by a keyed hash, and its count is the smaller of the two numbers: never
//! less than the truth, and more only if others that have both places are counted as well. So an address never gets beyond its bound, the memory
//! is fixed, and whoever wants to crowd somebody out has to guess a secret of the process.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Numbers in one table.
const PLACES: usize = 1 << 16;

/// Bytes of the tables of one process.
pub(crate) const HELD_BYTES: usize = 2 * PLACES * size_of::<AtomicU32>();

/// How many of something each address has.
pub(crate) struct Holders {
    hasher: ahash::RandomState,
    places: Box<[AtomicU32]>,
}

impl Holders {
    pub(crate) fn new([one, two, three, four]: [u64; 4]) -> Holders {
        Holders {
            hasher: ahash::RandomState::with_seeds(one, two, three, four),
            places: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// An address has one more, unless it has `max` already, as far as can be told: then nothing is counted.
    pub(crate) fn try_add(&self, address: IpAddr, max: usize) -> bool {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let places = self.places_of(address);
        // Numbers are read after both are added to, in one order for all threads: of two that ask for the last place, the one that
        // adds its second number later sees the other one's in both. Either may see the other; then both are refused.
        places.iter().for_each(|place| _ = place.fetch_add(1, Ordering::SeqCst));
        let fits = places.iter().any(|place| place.load(Ordering::SeqCst) <= max);
        if !fits {
            self.remove(address);
        }
        fits
    }

    /// An address has one less of what was counted before.
    pub(crate) fn remove(&self, address: IpAddr) {
        for place in self.places_of(address) {
            place.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether nobody has anything.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.places.iter().all(|place| place.load(Ordering::Relaxed) == 0)
    }

    /// Two places that are never the same.
    fn places_of(&self, address: IpAddr) -> [&AtomicU32; 2] {
        let hash = self.hasher.hash_one(address) as usize;
        let half = PLACES / 2;
        [&self.places[hash % half], &self.places[half + (hash >> 32) % half]]
    }
}

/// What of each address is counted.
pub(crate) struct Held {
    /// Connections of clients, on all shards.
    all: AtomicUsize,
    pub(crate) connections: Holders,
    pub(crate) sessions: Holders,
}

impl Held {
    pub(crate) fn new(seed: [u64; 4]) -> Held {
        Held { all: AtomicUsize::new(0), connections: Holders::new(seed), sessions: Holders::new(seed) }
    }

    /// The process has one more connection, unless it has `max` already.
    pub(crate) fn try_connect(&self, max: usize) -> bool {
        let fits = self.all.fetch_add(1, Ordering::Relaxed) < max;
        if !fits {
            self.disconnect();
        }
        fits
    }

    /// The process has one connection less.
    pub(crate) fn disconnect(&self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether nobody has anything.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.load(Ordering::Relaxed) == 0 && self.connections.is_empty() && self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn an_address_never_gets_beyond_its_bound_and_gets_back_what_it_gives() {
        let holders = Holders::new([1, 2, 3, 4]);
        for number in 0..50 {
            let got = (0..20).filter(|_| holders.try_add(address(number), 7)).count();
            assert_eq!(got, 7, "{number}");
        }
        for _ in 0..3 {
            holders.remove(address(9));
        }
        assert_eq!((0..20).filter(|_| holders.try_add(address(9), 7)).count(), 3);
        for number in 0..50 {
            (0..7).for_each(|_| holders.remove(address(number)));
        }
        assert!(holders.is_empty());
    }

    #[test]
    fn a_crowd_of_addresses_takes_nothing_from_others() {
        let holders = Holders::new([5, 6, 7, 8]);
        // Three for each number of the table: their sums are near the bound nowhere.
        (0..3 * PLACES as u32).for_each(|number| assert!(holders.try_add(address(number), 100)));
        let refused = (0..10_000).filter(|number| {
            let stranger = address(1_000_000_000 + number);
            let got = (0..50).filter(|_| holders.try_add(stranger, 100)).count();
            (0..got).for_each(|_| holders.remove(stranger));
            got < 50
        });
        assert_eq!(refused.count(), 0);
    }
}
