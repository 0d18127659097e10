//! Which shards have members of which rooms, so that what is for a room goes to those shards and to no other.
//!
//! One table serves all threads of the process. A keyed hash of a namespace and a room names a *slot*, and a slot has one bit
//! for each shard. The bit is set when the shard gets its first member of a room of that slot, and cleared when its last one
//! goes. Rooms may share a slot: then a shard gets a message that concerns none of its sockets, and ignores it. The other error, a
//! shard with a member that does not get the message, does not happen:
//!
//! * Only the shard itself writes its bit. [`Holdings`] counts, for this shard alone, how many of its rooms each slot has.
//! * A join sets the bit before it returns, so before any other code can learn of the join. An emit that is made because of the join (an
//!   acknowledgement came, a message, a value in shared memory) looks the bit up after it was set, and sees it: what orders the
//!   two makes the write visible. An emit while the join is under way may or may not reach the new member.
//! * A change on its way to other shards that will put sockets into a room, [`Announcement`], makes every shard count as having
//!   members of that room until all have carried it out: so what is emitted to the room behind it reaches the sockets that it puts there.
//!
//! All of it is sequentially consistent: on x86-64 and AArch64 such a load costs what an acquiring one does, and writes are for
//! first members and last ones only. Recovery needs the stronger order (see [`Published`](crate::mesh::published::Published)).
//!
//! The slots are packed, eight to a cache line: one line each would be eight times the memory, and a line is written only when
//! some room begins or ends on some shard, while each emit reads one.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustc_hash::FxHashMap;

use crate::base::ids::{ShardId, Sid};
use crate::message::address::Address;
use crate::message::target::Target;

/// Slots of the table, for each shard that there is; a power of two. With as many rooms on a shard as there are slots, two of three
/// emits go to a shard without need.
pub(crate) const INTEREST_SLOTS_PER_SHARD: usize = 8 * 1024;

/// The table is at most so large, whatever the number of shards.
pub(crate) const INTEREST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Counters of announced joins. Two rooms that share one cost messages while one of them is announced, and nothing at other times.
const ANNOUNCED_PLACES: usize = 1024;

/// Shards that one word of a slot has bits for.
const SHARDS_PER_WORD: usize = u64::BITS as usize;

/// Where the table keeps a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u32);

/// The table. A server of one shard has no other shards to tell, and no slots.
#[derive(Debug)]
pub(crate) struct Interest {
    shards: usize,
    /// Each slot's words in a row: bit `n` of word `w` is shard `64 w + n`.
    bits: Box<[AtomicU64]>,
    words_per_slot: usize,
    /// A power of two.
    slots: usize,
    /// Joins on their way, by the slot of their room. Shared with the messages that carry them.
    announced: Arc<[AtomicU32]>,
    /// Peers choose names of rooms. The same for all shards, as they must find the same slot.
    hasher: ahash::RandomState,
}

impl Interest {
    /// A table for so many shards. The seed is a secret of this process; `slots_max` is for tests in which rooms shall collide.
    pub(crate) fn new(shards: usize, seed: [u64; 4], slots_max: usize) -> Interest {
        let words_per_slot = shards.div_ceil(SHARDS_PER_WORD).max(1);
        let affordable = INTEREST_BYTES_MAX / (words_per_slot * size_of::<AtomicU64>());
        let wanted = shards.saturating_mul(INTEREST_SLOTS_PER_SHARD).next_power_of_two();
        let slots = 1 << wanted.min(affordable).min(slots_max).max(1).ilog2();
        let words = if shards > 1 { slots * words_per_slot } else { 0 };
        let [one, two, three, four] = seed;
        Interest {
            shards,
            bits: (0..words).map(|_| AtomicU64::new(0)).collect(),
            words_per_slot,
            slots,
            announced: (0..ANNOUNCED_PLACES).map(|_| AtomicU32::new(0)).collect(),
            hasher: ahash::RandomState::with_seeds(one, two, three, four),
        }
    }

    /// Where a room is kept.
    pub(crate) fn slot(&self, namespace: &Address, room: &str) -> Slot {
        Slot((self.hasher.hash_one((namespace, room)) as usize & (self.slots - 1)) as u32)
    }

    /// The next shard that may have sockets of a target. A shard that a socket's id names may: an id is a room.
    pub(crate) fn next(
        &self,
        audience: &mut Audience,
        namespace: &Address,
        target: &Target,
    ) -> Option<ShardId> {
        while audience.word == 0 {
            if audience.next_word * SHARDS_PER_WORD >= self.shards {
                return None;
            }
            audience.word = self.word(audience.next_word, namespace, target);
            audience.next_word += 1;
            if let Some(but) =
                audience.but.filter(|but| but.index() / SHARDS_PER_WORD + 1 == audience.next_word)
            {
                audience.word &= !bit_of(but);
            }
        }
        let bit = audience.word.trailing_zeros() as usize;
        audience.word &= audience.word - 1;
        Some(ShardId(((audience.next_word - 1) * SHARDS_PER_WORD + bit) as u16))
    }

    /// Says that a change is on its way by which sockets of other shards join a room. It goes with the messages that carry it.
    pub(crate) fn announce(&self, namespace: &Address, room: &str) -> Arc<Announcement> {
        let place = self.announced_place(self.slot(namespace, room));
        self.announced[place].fetch_add(1, SeqCst);
        Arc::new(Announcement { announced: Arc::clone(&self.announced), place })
    }

    /// One word of shards that a target concerns.
    fn word(&self, index: usize, namespace: &Address, target: &Target) -> u64 {
        let everybody = match self.shards - index * SHARDS_PER_WORD {
            left @ 0..SHARDS_PER_WORD => (1 << left) - 1,
            _ => u64::MAX,
        };
        if target.is_everyone || self.bits.is_empty() {
            return everybody;
        }
        let mut word = 0;
        for room in target.rooms.iter() {
            let slot = self.slot(namespace, room);
            // This first: whoever takes the announcement back has set its bit before.
            if self.announced[self.announced_place(slot)].load(SeqCst) > 0 {
                return everybody;
            }
            word |= self.bits[self.place(slot, index)].load(SeqCst);
            let own = Sid::parse(room).map(|sid| sid.shard());
            if let Some(shard) = own.filter(|shard| shard.index() / SHARDS_PER_WORD == index) {
                word |= bit_of(shard);
            }
        }
        // An id may be forged, and name a shard that does not exist.
        word & everybody
    }

    fn place(&self, slot: Slot, word: usize) -> usize {
        slot.0 as usize * self.words_per_slot + word
    }

    fn announced_place(&self, slot: Slot) -> usize {
        slot.0 as usize % ANNOUNCED_PLACES
    }

    fn set(&self, slot: Slot, shard: ShardId) {
        if let Some(word) = self.bits.get(self.place(slot, shard.index() / SHARDS_PER_WORD)) {
            word.fetch_or(bit_of(shard), SeqCst);
        }
    }

    fn clear(&self, slot: Slot, shard: ShardId) {
        if let Some(word) = self.bits.get(self.place(slot, shard.index() / SHARDS_PER_WORD)) {
            word.fetch_and(!bit_of(shard), SeqCst);
        }
    }

    /// The slots in which a shard's bit is set.
    #[cfg(test)]
    pub(crate) fn slots_of(&self, shard: ShardId) -> usize {
        let words = self.bits.iter().skip(shard.index() / SHARDS_PER_WORD).step_by(self.words_per_slot);
        words.filter(|word| word.load(SeqCst) & bit_of(shard) != 0).count()
    }

    /// Joins on their way.
    #[cfg(test)]
    pub(crate) fn announcements(&self) -> u32 {
        self.announced.iter().map(|count| count.load(SeqCst)).sum()
    }
}

/// The shard's bit in its word.
fn bit_of(shard: ShardId) -> u64 {
    1 << (shard.index() % SHARDS_PER_WORD)
}

/// A walk over the shards that a target concerns. It borrows nothing between its steps, and needs no memory.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// Shards of the present word that are still to come.
    word: u64,
    next_word: usize,
    but: Option<ShardId>,
}

impl Audience {
    /// All but one: the shard that asks knows what it has.
    pub(crate) fn but(shard: ShardId) -> Audience {
        Audience { but: Some(shard), ..Audience::default() }
    }
}

/// A change that other shards have yet to carry out, by which sockets join a room.
#[derive(Debug)]
pub(crate) struct Announcement {
    announced: Arc<[AtomicU32]>,
    place: usize,
}

/// Every shard has carried it out, or the messages are lost.
impl Drop for Announcement {
    fn drop(&mut self) {
        self.announced[self.place].fetch_sub(1, SeqCst);
    }
}

/// One shard's own count of its rooms, by slot: a plain table, as only this shard writes its bits.
#[derive(Debug)]
pub(crate) struct Holdings {
    shard: ShardId,
    counts: FxHashMap<Slot, u32>,
}

/// A table of counts that is not larger than this never gives memory back.
const COUNTS_KEPT: usize = 1024;

impl Holdings {
    pub(crate) fn new(shard: ShardId) -> Holdings {
        Holdings { shard, counts: FxHashMap::default() }
    }

    /// The shard has its first member of a room. From here on it gets what is emitted to the room.
    pub(crate) fn add(&mut self, interest: &Interest, slot: Slot) {
        if interest.bits.is_empty() {
            return;
        }
        let count = self.counts.entry(slot).or_default();
        if *count == 0 {
            interest.set(slot, self.shard);
        }
        *count = count.saturating_add(1);
    }

    /// The last member of a room has gone. A count that was at its end is not known any more: its bit stays, which costs messages
    /// and loses none.
    pub(crate) fn remove(&mut self, interest: &Interest, slot: Slot) {
        let Some(count) = self.counts.get_mut(&slot).filter(|count| **count < u32::MAX) else {
            debug_assert!(
                interest.bits.is_empty() || self.counts.contains_key(&slot),
                "what goes was added before"
            );
            return;
        };
        *count -= 1;
        if *count == 0 {
            interest.clear(slot, self.shard);
            self.counts.remove(&slot);
            if self.counts.capacity() > COUNTS_KEPT.max(8 * self.counts.len()) {
                self.counts.shrink_to(2 * self.counts.len());
            }
        }
    }

    /// How many slots it has something in.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const SEED: [u64; 4] = [1, 2, 3, 4];

    fn address() -> Address {
        Address::new(None, "/")
    }

    fn rooms(names: &[&str]) -> Target {
        Target { rooms: names.iter().copied().collect(), ..Target::default() }
    }

    fn reached(interest: &Interest, mut audience: Audience, target: &Target) -> Vec<u16> {
        std::iter::from_fn(|| interest.next(&mut audience, &address(), target)).map(|shard| shard.0).collect()
    }

    const NOBODY: [u16; 0] = [];

    #[test]
    fn a_bit_comes_with_the_first_room_of_its_slot_and_goes_with_the_last() {
        let interest = Interest::new(3, SEED, 1);
        let slot = interest.slot(&address(), "one");
        assert_eq!(slot, interest.slot(&address(), "other"), "there is one slot for all");
        let mut holdings = Holdings::new(ShardId(2));
        assert_eq!(reached(&interest, Audience::default(), &rooms(&["one"])), NOBODY);
        for expected in [1, 2, 3] {
            holdings.add(&interest, slot);
            assert_eq!(holdings.counts[&slot], expected);
        }
        for _ in 0..3 {
            assert_eq!(reached(&interest, Audience::default(), &rooms(&["other"])), [2]);
            holdings.remove(&interest, slot);
        }
        assert_eq!(reached(&interest, Audience::default(), &rooms(&["one"])), NOBODY);
        assert_eq!((holdings.len(), interest.slots_of(ShardId(2))), (0, 0));
    }

    #[test]
    fn a_count_that_is_at_its_end_keeps_its_bit_for_good() {
        let interest = Interest::new(2, SEED, 1);
        let slot = interest.slot(&address(), "room");
        let mut holdings = Holdings::new(ShardId(1));
        holdings.add(&interest, slot);
        for nearly in [u32::MAX - 1, u32::MAX] {
            holdings.counts.insert(slot, nearly);
            holdings.add(&interest, slot);
            assert_eq!(holdings.counts[&slot], u32::MAX);
        }
        (0..5).for_each(|_| holdings.remove(&interest, slot));
        assert_eq!(holdings.counts[&slot], u32::MAX);
        assert_eq!(reached(&interest, Audience::default(), &rooms(&["room"])), [1]);
    }

    #[test]
    fn an_audience_is_whoever_has_a_room_and_whoever_an_id_names() {
        for shards in [2_u16, 63, 64, 65, 128, 200] {
            let interest = Interest::new(usize::from(shards), SEED, 1 << 20);
            let last = shards - 1;
            let all: Vec<u16> = (0..shards).collect();
            let mut holdings: Vec<Holdings> =
                all.iter().map(|&shard| Holdings::new(ShardId(shard))).collect();
            for (shard, room) in [(0, "first"), (last, "last"), (0, "both"), (last, "both")] {
                holdings[usize::from(shard)].add(&interest, interest.slot(&address(), room));
            }
            let [id, forged] = [last, shards].map(|shard| Sid::new(ShardId(shard), [7; 13]));
            for (names, expected) in [
                (&[][..], &[][..]),
                (&["nobody's"], &[]),
                (&["first"], &[0]),
                (&["last"], &[last]),
                (&["first", "last", "nobody's"], &[0, last]),
                (&["both", "first"], &[0, last]),
                (&[id.as_str()], &[last]),
                (&[id.as_str(), "first"], &[0, last]),
                (&[forged.as_str()], &[]),
            ] {
                assert_eq!(reached(&interest, Audience::default(), &rooms(names)), expected, "{names:?}");
                let others: Vec<u16> = expected.iter().copied().filter(|&shard| shard != last).collect();
                assert_eq!(
                    reached(&interest, Audience::but(ShardId(last)), &rooms(names)),
                    others,
                    "{names:?}"
                );
            }
            let everyone = Target { is_everyone: true, ..rooms(&["first"]) };
            assert_eq!(reached(&interest, Audience::default(), &everyone), all);
            assert_eq!(reached(&interest, Audience::but(ShardId(0)), &everyone), all[1..]);
            // A room named like an id that somebody has joined elsewhere.
            holdings[0].add(&interest, interest.slot(&address(), id.as_str()));
            assert_eq!(reached(&interest, Audience::default(), &rooms(&[id.as_str()])), [0, last]);
        }
    }

    #[test]
    fn a_room_is_one_of_its_namespace_and_endpoint() {
        let interest = Interest::new(2, SEED, 1 << 20);
        let mut holdings = Holdings::new(ShardId(1));
        holdings.add(&interest, interest.slot(&address(), "room"));
        for other in [Address::new(None, "/a"), Address::new(Some("/a/"), "/"), Address::new(Some("/"), "")] {
            assert_eq!(interest.next(&mut Audience::default(), &other, &rooms(&["room"])), None, "{other}");
        }
    }

    #[test]
    fn a_room_that_is_announced_is_everybodys_until_all_have_carried_it_out() {
        let interest = Interest::new(3, SEED, 1 << 20);
        let target = rooms(&["room"]);
        let announcement = interest.announce(&address(), "room");
        let other = Arc::clone(&announcement);
        assert_eq!(reached(&interest, Audience::default(), &target), [0, 1, 2]);
        assert_eq!(reached(&interest, Audience::default(), &rooms(&["another"])), NOBODY);
        drop(announcement);
        assert_eq!(reached(&interest, Audience::but(ShardId(0)), &target), [1, 2]);
        drop(other);
        assert_eq!(
            (reached(&interest, Audience::default(), &target), interest.announcements()),
            (NOBODY.to_vec(), 0)
        );
    }

    #[test]
    fn the_table_is_bounded_and_one_shard_has_none() {
        assert_eq!(Interest::new(1, SEED, usize::MAX).bits.len(), 0);
        for shards in [2, 8, 32, 64, 65, 100, 1000, 65_535] {
            let interest = Interest::new(shards, SEED, usize::MAX);
            assert!(
                interest.slots.is_power_of_two() && interest.slots >= 4096,
                "{shards}: {}",
                interest.slots
            );
            assert!(size_of_val(&*interest.bits) <= INTEREST_BYTES_MAX, "{shards}");
            let is_full_size = interest.slots >= shards * INTEREST_SLOTS_PER_SHARD;
            assert_eq!(is_full_size, shards <= 128, "{shards}: {}", interest.slots);
        }
    }

    proptest! {
        #[test]
        fn whoever_has_a_room_is_found_and_others_only_by_a_collision(
            slots in prop_oneof![Just(1_usize), Just(4), Just(1 << 16)],
            steps in prop::collection::vec((0_u16..70, 0_usize..12, any::<bool>()), 0..200),
        ) {
            let interest = Interest::new(70, SEED, slots);
            let names: Vec<String> = (0..12).map(|number| format!("room {number}")).collect();
            let slots: Vec<Slot> = names.iter().map(|name| interest.slot(&address(), name)).collect();
            let mut holdings: Vec<Holdings> = (0..70).map(|shard| Holdings::new(ShardId(shard))).collect();
            let mut members: BTreeMap<usize, BTreeSet<u16>> = BTreeMap::new();
            for (shard, room, is_join) in steps {
                let known = members.entry(room).or_default();
                let own = &mut holdings[usize::from(shard)];
                if is_join && known.insert(shard) {
                    own.add(&interest, slots[room]);
                } else if !is_join && known.remove(&shard) {
                    own.remove(&interest, slots[room]);
                }
                let sharing = members.iter().filter(|(other, _)| slots[**other] == slots[room]);
                let expected: BTreeSet<u16> = sharing.flat_map(|(_, shards)| shards).copied().collect();
                let found = reached(&interest, Audience::default(), &rooms(&[&names[room]]));
                prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
