//! What the two halves of a connection to Redis know of each other: how much waits, whether it is over, what of our stream is heard.

use std::sync::OnceLock;
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
    /// A bit for each slot of rooms; 512 KiB, from the first one on.
    hears_slots: OnceLock<Box<[AtomicU64]>>,
}

impl Shared {
    /// Notes whether a channel of our own stream is heard; others are subscribed to.
    pub(super) fn set_heard(&self, channel: &Channel, is_heard: bool) {
        match channel {
            Channel::All => self.hears_all.store(is_heard, Relaxed),
            Channel::Slot(slot) => {
                let words = self
                    .hears_slots
                    .get_or_init(|| (0..SLOTS / u64::BITS).map(|_| AtomicU64::new(0)).collect());
                let (word, bit) = place(*slot);
                match is_heard {
                    true => words[word].fetch_or(bit, Relaxed),
                    false => words[word].fetch_and(!bit, Relaxed),
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
                let (word, bit) = place(*slot);
                self.hears_slots.get().is_some_and(|words| words[word].load(Relaxed) & bit != 0)
            }
            _ => true,
        }
    }
}

/// The word of a slot's bit, and the bit.
fn place(slot: u32) -> (usize, u64) {
    let slot = slot % SLOTS;
    ((slot / u64::BITS) as usize, 1 << (slot % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_heard_by_itself() {
        let shared = Shared::default();
        for slot in [0, 63, 64, 65_536, SLOTS - 1] {
            assert!(!shared.hears(&Channel::Slot(slot)));
            shared.set_heard(&Channel::Slot(slot), true);
            assert!(shared.hears(&Channel::Slot(slot)) && !shared.hears(&Channel::Slot(slot ^ 1)));
            shared.set_heard(&Channel::Slot(slot), false);
            assert!(!shared.hears(&Channel::Slot(slot)));
        }
        assert!(!shared.hears(&Channel::All) && shared.hears(&Channel::Stream("x".into())));
    }
}
