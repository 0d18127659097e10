//! Which rooms have members in this process, for other processes: a table of *slots*, in which every process finds a room alike.
//!
//! Shards count in it, the companion thread reads what has changed, and neither waits for the other. `mesh/interest` is the other
//! table of this kind, between shards: which of them has members.

#![cfg_attr(
    not(feature = "bus"),
    allow(dead_code, reason = "the companion thread, which reads the table, is of that feature")
)]

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::message::address::Address;

/// Rooms are told apart by this many slots; a broker may have fewer. With 100,000 rooms held, one of 42 rooms that nobody has here shares
/// a slot with one of them, and is heard without need.
pub(crate) const ROOM_SLOTS: u32 = 1 << 22;

/// Slots of one part of the table: it takes memory, 1 KiB, once one of its slots is held.
const PART_SLOTS: usize = 256;

const PARTS: usize = ROOM_SLOTS as usize / PART_SLOTS;

const BITS: usize = u64::BITS as usize;

/// What the whole table may keep in memory, in bytes: once some 50,000 rooms are spread over all its parts.
pub(crate) const INTERESTS_BYTES_MAX: usize =
    PARTS * (size_of::<Part>() + size_of::<OnceLock<Box<Part>>>()) + PARTS / 8;

// Less than what 50,000 rooms themselves take.
const _: () = assert!(INTERESTS_BYTES_MAX < 20 << 20);

/// What the companion thread has for a slot that is heard, in tables that are half empty.
pub(crate) const SUBSCRIPTION_BYTES: usize = 128;

/// Where a room, or a namespace as a whole, is kept by all processes alike: FNV-1a, which has no secret and stays as it is, with its
/// bits mixed once more. Who chooses names so that they meet in one slot makes processes hear what they ignore, and no more.
pub(crate) fn room_slot(namespace: &Address, room: Option<&str>) -> u32 {
    const PRIME: u64 = 0x0100_0000_01b3;
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    // The second constant of splitmix64.
    const MIX: u64 = 0x94d0_49bb_1331_11eb;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let mut hash = namespace.endpoint().unwrap_or("").bytes().fold(START, step);
    hash = namespace.name().bytes().fold(step(hash, 0), step);
    if let Some(room) = room {
        hash = room.bytes().fold(step(hash, 0), step);
    }
    // The last bytes of a name reach few of FNV's bits.
    hash = (hash ^ hash >> 32).wrapping_mul(MIX);
    (hash >> 32) as u32 & (ROOM_SLOTS - 1)
}

/// How many rooms of each slot have members, counted once for each shard that has them; and which slots have changed.
#[derive(Debug)]
pub(crate) struct Interests {
    parts: Box<[OnceLock<Box<Part>>]>,
    /// A bit for each part of which a slot came or went since the companion looked.
    changed: Box<[AtomicU64]>,
    any_changed: AtomicBool,
    /// A socket has come back to another process than the one that its id names, somewhere.
    have_moved: AtomicBool,
}

#[derive(Debug)]
struct Part {
    counts: [AtomicU32; PART_SLOTS],
    /// A bit for each slot, as in [`Interests::changed`].
    changed: [AtomicU64; PART_SLOTS / BITS],
}

impl Interests {
    pub(crate) fn new() -> Interests {
        Interests {
            parts: (0..PARTS).map(|_| OnceLock::new()).collect(),
            changed: (0..PARTS / BITS).map(|_| AtomicU64::new(0)).collect(),
            any_changed: AtomicBool::new(false),
            have_moved: AtomicBool::new(false),
        }
    }

    /// Whether a socket may be in another process than the one that its id names.
    pub(crate) fn have_moved(&self) -> bool {
        self.have_moved.load(Relaxed)
    }

    /// One has come back to another process. True: it is the first.
    pub(crate) fn note_moved(&self) -> bool {
        !self.have_moved.swap(true, Relaxed)
    }

    /// True: it was the slot's first.
    pub(crate) fn add(&self, slot: u32) -> bool {
        let (part, place) = place(slot);
        let part = self.parts[part].get_or_init(Box::default);
        let is_first = part.counts[place].fetch_add(1, SeqCst) == 0;
        if is_first {
            self.mark(slot, part);
        }
        is_first
    }

    /// True: it was the slot's last.
    pub(crate) fn remove(&self, slot: u32) -> bool {
        let (part, place) = place(slot);
        let part = self.parts[part].get().expect("what goes was added before");
        let before = part.counts[place].fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "what goes was added before");
        if before == 1 {
            self.mark(slot, part);
        }
        before == 1
    }

    /// From the inside out, as the companion looks from the outside in.
    fn mark(&self, slot: u32, in_part: &Part) {
        let (part, place) = place(slot);
        in_part.changed[place / BITS].fetch_or(1 << (place % BITS), SeqCst);
        self.changed[part / BITS].fetch_or(1 << (part % BITS), SeqCst);
        self.any_changed.store(true, Release);
    }

    pub(crate) fn have_changed(&self) -> bool {
        self.any_changed.load(Acquire)
    }

    /// Whether a room of the slot has members.
    #[cfg(test)]
    pub(crate) fn is_held(&self, slot: u32) -> bool {
        let (part, place) = place(slot);
        self.parts[part].get().is_some_and(|part| part.counts[place].load(SeqCst) > 0)
    }

    /// Slots of which a room has members.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let parts = self.parts.iter().filter_map(OnceLock::get);
        parts.flat_map(|part| &part.counts).filter(|count| count.load(SeqCst) > 0).count()
    }

    /// Calls `visit` with each slot that may have changed since the last call, and whether it is held now.
    pub(crate) fn take_changes(&self, mut visit: impl FnMut(u32, bool)) {
        if !self.any_changed.swap(false, AcqRel) {
            return;
        }
        for part in changed_bits(&self.changed) {
            let Some(in_part) = self.parts[part].get() else { continue };
            for place in changed_bits(&in_part.changed) {
                let slot = (part * PART_SLOTS + place) as u32;
                visit(slot, in_part.counts[place].load(SeqCst) > 0);
            }
        }
    }
}

impl Default for Part {
    fn default() -> Part {
        Part { counts: [const { AtomicU32::new(0) }; _], changed: [const { AtomicU64::new(0) }; _] }
    }
}

/// The part of a slot, and its place there.
fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize % ROOM_SLOTS as usize;
    (slot / PART_SLOTS, slot % PART_SLOTS)
}

/// Takes the bits that are set, word by word.
fn changed_bits(words: &[AtomicU64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(word, bits)| {
        let mut left = if bits.load(Relaxed) == 0 { 0 } else { bits.swap(0, SeqCst) };
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(word * BITS + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_tell_namespaces_and_endpoints_apart() {
        let (chat, root) = (Address::new(None, "/chat"), Address::new(None, "/"));
        let other = Address::new(Some("/a/"), "/");
        let slots = [
            room_slot(&root, None),
            room_slot(&root, Some("")),
            room_slot(&chat, None),
            room_slot(&root, Some("chat")),
            room_slot(&other, None),
        ];
        assert!((0..5).all(|one| (0..one).all(|two| slots[one] != slots[two])), "{slots:?}");
    }

    /// What all processes must agree upon, whatever their version.
    #[test]
    fn a_room_has_the_slot_that_it_always_had() {
        let cases = [
            (None, "/", None, 1_606_365),
            (None, "/", Some("lobby"), 2_181_709),
            (None, "/chat", Some("lobby"), 1_455_272),
            (Some("/a/"), "/", Some("räume"), 2_227_435),
        ];
        for (endpoint, namespace, room, slot) in cases {
            assert_eq!(room_slot(&Address::new(endpoint, namespace), room), slot, "{namespace} {room:?}");
        }
    }

    /// However rooms are named, no more of them share a slot than chance has it; also where a broker has few slots.
    #[test]
    fn names_of_every_kind_are_spread_as_by_chance() {
        const ROOMS: u32 = 100_000;
        let root = Address::new(None, "/");
        type Name = fn(u32) -> String;
        let kinds: [(&str, Name); 6] = [
            ("numbers", |number| number.to_string()),
            ("behind a word", |number| format!("room:{number}")),
            ("before a word", |number| format!("{number}:updates")),
            ("of one length", |number| format!("{number:010}")),
            ("hexadecimal", |number| format!("{:x}", u64::from(number) << 20)),
            ("ids", |number| format!("{:032x}", u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c))),
        ];
        for (kind, name) in kinds {
            for slots in [ROOM_SLOTS, 65_536, 512] {
                let mut counts = vec![0_u32; slots as usize];
                for number in 0..ROOMS {
                    counts[(room_slot(&root, Some(&name(number))) & (slots - 1)) as usize] += 1;
                }
                let used = counts.iter().filter(|count| **count > 0).count() as f64;
                let slots = f64::from(slots);
                let expected = slots * (1.0 - (-f64::from(ROOMS) / slots).exp());
                assert!((used / expected - 1.0).abs() < 0.005, "{kind}: {used} of {slots}, not {expected}");
            }
        }
    }

    #[test]
    fn interests_tell_what_has_changed_and_whether_it_is_held_now() {
        let interests = Interests::new();
        let changes = || {
            let mut changes = Vec::new();
            interests.take_changes(|slot, is_held| changes.push((slot, is_held)));
            changes
        };
        let (first, last) = (0, ROOM_SLOTS - 1);
        assert!(interests.add(last) && !interests.add(last));
        assert_eq!(changes(), [(last, true)]);
        assert!(!interests.remove(last));
        assert_eq!(changes(), []);
        assert!(interests.add(first) && interests.add(first + 1) && interests.remove(last));
        assert_eq!(changes(), [(first, true), (first + 1, true), (last, false)]);
        assert!(interests.add(last) && interests.remove(last));
        assert_eq!(changes(), [(last, false)], "it came and went");
        assert_eq!((interests.held(), interests.is_held(first), interests.is_held(last)), (2, true, false));
    }

    #[test]
    fn memory_is_used_for_what_is_held() {
        let interests = Interests::new();
        let used = || interests.parts.iter().filter(|part| part.get().is_some()).count();
        assert_eq!(used(), 0);
        interests.add(3);
        interests.add(255);
        interests.add(256);
        assert_eq!(used(), 2);
    }
}
