//! What the two halves of a connection to Redis know of each other: how much waits, whether it is over, what of our stream is heard.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use super::SLOTS;
use crate::bus::Channel;

#[derive(Default)]
pub(super) struct Shared {
    /// Bytes that were heard and not taken.
    pub(super) waiting_bytes: AtomicUsize,
    pub(super) is_lost: AtomicBool,
    /// Answers to our own SUNSUBSCRIBE that are still to come: one more is Redis' word that a slot has moved.
    pub(super) leaving: AtomicUsize,
    hears_all: AtomicBool,
    hears_slots: HeardSlots,
}

/// A bit for each slot of rooms.
struct HeardSlots(Box<[AtomicU64]>);

impl Default for HeardSlots {
    fn default() -> HeardSlots {
        HeardSlots((0..SLOTS / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Shared {
    /// Notes whether a channel of our own stream is heard; others are subscribed to.
    pub(super) fn set_heard(&self, channel: &Channel, is_heard: bool) {
        match channel {
            Channel::All => self.hears_all.store(is_heard, Relaxed),
            Channel::Slot(slot) => {
                let (word, bit) = self.place(*slot);
                match is_heard {
                    true => word.fetch_or(bit, Relaxed),
                    false => word.fetch_and(!bit, Relaxed),
                };
            }
            _ => {}
        }
    }

    /// Whether a message of a stream is to be delivered.
    pub(super) fn hears(&self, channel: &Channel) -> bool {
        match channel {
            Channel::All => self.hears_all.load(Relaxed),
            Channel::Slot(slot) => {
                let (word, bit) = self.place(*slot);
                word.load(Relaxed) & bit != 0
            }
            _ => true,
        }
    }

    fn place(&self, slot: u16) -> (&AtomicU64, u64) {
        (&self.hears_slots.0[usize::from(slot / 64)], 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_heard_by_itself() {
        let shared = Shared::default();
        for slot in [0, 63, 64, 65_535] {
            assert!(!shared.hears(&Channel::Slot(slot)));
            shared.set_heard(&Channel::Slot(slot), true);
            assert!(shared.hears(&Channel::Slot(slot)) && !shared.hears(&Channel::Slot(slot ^ 1)));
            shared.set_heard(&Channel::Slot(slot), false);
            assert!(!shared.hears(&Channel::Slot(slot)));
        }
        assert!(!shared.hears(&Channel::All) && shared.hears(&Channel::Stream("x".into())));
    }
}
