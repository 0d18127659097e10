//! The ledger: every message exactly once, in its sender's order, with its bytes intact.
//!
//! A receiver has one slot per sender it hears. A slot holds the next sequence number only, so a correct
//! server costs one comparison a message; what was skipped is remembered aside until it arrives late or is
//! lost. What the payload itself must look like is in `payload.rs`.

use std::collections::HashMap;

/// What the server did wrong, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Findings {
    /// Messages that were right.
    pub(super) checked: u64,
    /// Never arrived.
    pub(super) lost: u64,
    /// Arrived again.
    pub(super) duplicated: u64,
    /// Arrived after a later one of the same sender.
    pub(super) reordered: u64,
    /// Arrived with other bytes.
    pub(super) altered: u64,
    /// Arrived where nothing was to arrive: an acknowledgement nobody waits for, a room that was not joined.
    pub(super) unexpected: u64,
    /// Sessions that could not be opened, or that the server ended.
    pub(super) broken: u64,
    /// Of another generator on the same server; no fault of the server's.
    pub(super) foreign: u64,
    /// The first fault in words.
    pub(super) first: Option<String>,
}

/// One receiver's view of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// Who receives.
    pub(super) receiver: u32,
    /// Which of the senders that it hears, from 0.
    pub(super) sender: u32,
}

/// The order of every slot.
pub(super) struct Ledger {
    senders: u32,
    next: Vec<u64>,
    /// Sequence numbers that were jumped over. Empty unless the server is at fault.
    skipped: HashMap<Slot, Vec<u64>>,
    /// What was found so far.
    pub(super) findings: Findings,
}

/// Skipped numbers kept of one slot; those beyond are only counted, so a broken server cannot fill the
/// memory.
const SKIPPED_KEPT_MAX: usize = 4096;

impl Findings {
    /// True when nothing was wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.errors() == 0
    }

    /// Counts a message with other bytes.
    pub(super) fn note_altered(&mut self, receiver: u32) {
        self.altered += 1;
        self.note(|| format!("client {receiver} received a message with altered bytes"));
    }

    /// Counts an acknowledgement that came again.
    pub(super) fn note_duplicated(&mut self, receiver: u32, id: u64) {
        self.duplicated += 1;
        self.note(|| format!("client {receiver} received the acknowledgement of its message {id} twice"));
    }

    /// Counts a message that came again.
    pub(super) fn note_again(&mut self, receiver: u32, number: u64) {
        self.duplicated += 1;
        self.note(|| format!("client {receiver} received message {number} twice"));
    }

    /// Counts a message that came after a later one.
    pub(super) fn note_reordered(&mut self, receiver: u32, number: u64) {
        self.reordered += 1;
        self.note(|| format!("client {receiver} received message {number} after a later one"));
    }

    /// Keeps in words what is no fault, to be told if nothing worse comes first.
    pub(super) fn remember(&mut self, text: impl FnOnce() -> String) {
        self.note(text);
    }

    /// Counts messages that did not come.
    pub(super) fn note_lost(&mut self, count: u64, text: impl FnOnce() -> String) {
        self.lost += count;
        self.note(text);
    }

    /// Everything that was wrong, summed.
    pub(super) fn errors(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.altered + self.unexpected + self.broken
    }

    /// Counts a message that nobody waits for.
    pub(super) fn note_unexpected(&mut self, receiver: u32, what: &str) {
        self.unexpected += 1;
        self.note(|| format!("client {receiver} received {what}"));
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(text());
        }
    }
}

impl Ledger {
    /// A ledger for `receivers` that each hear at most `senders`.
    pub(super) fn new(receivers: u32, senders: u32) -> Self {
        let slots = receivers as usize * senders as usize;
        Self { senders, next: vec![0; slots], skipped: HashMap::new(), findings: Findings::default() }
    }

    /// Enters an arrival. False when it is not a message that arrives for the first time.
    pub(super) fn receive(&mut self, slot: Slot, sequence: u64) -> bool {
        let at = self.at(slot);
        let Some(next) = self.next.get_mut(at) else {
            self.findings.note_unexpected(slot.receiver, "a message of an unknown sender");
            return false;
        };
        if sequence == *next {
            *next += 1;
            self.findings.checked += 1;
            return true;
        }
        if sequence > *next {
            let skipped = *next..sequence;
            *next = sequence + 1;
            self.skip(slot, skipped);
            return true;
        }
        self.receive_late(slot, sequence)
    }

    /// Enters the end of a slot: `sent` messages were sent and nothing more will come.
    pub(super) fn close(&mut self, slot: Slot, sent: u64) {
        let next = self.next.get(self.at(slot)).copied().unwrap_or(sent);
        let missing =
            self.skipped.get(&slot).map_or(0, |skipped| skipped.len() as u64) + sent.saturating_sub(next);
        if missing > 0 {
            self.findings.lost += missing;
            let Slot { receiver, sender } = slot;
            let text =
                || format!("client {receiver} lost {missing} of {sent} messages of its sender {sender}");
            self.findings.note(text);
        }
    }

    /// How many messages of a slot have not arrived of `sent`, without a verdict: what a slow reader was not
    /// given.
    pub(super) fn missing(&self, slot: Slot, sent: u64) -> u64 {
        let next = self.next.get(self.at(slot)).copied().unwrap_or(0);
        self.skipped.get(&slot).map_or(0, |skipped| skipped.len() as u64) + sent.saturating_sub(next)
    }

    fn at(&self, slot: Slot) -> usize {
        slot.receiver as usize * self.senders as usize + slot.sender as usize
    }

    #[cold]
    fn skip(&mut self, slot: Slot, sequences: std::ops::Range<u64>) {
        let skipped = self.skipped.entry(slot).or_default();
        let room = SKIPPED_KEPT_MAX.saturating_sub(skipped.len()) as u64;
        let len = sequences.end - sequences.start;
        skipped.extend(sequences.take(room as usize));
        self.findings.lost += len.saturating_sub(room);
    }

    #[cold]
    fn receive_late(&mut self, slot: Slot, sequence: u64) -> bool {
        let skipped = self.skipped.entry(slot).or_default();
        let Slot { receiver, sender } = slot;
        if let Some(at) = skipped.iter().position(|&other| other == sequence) {
            skipped.swap_remove(at);
            self.findings.reordered += 1;
            self.findings
                .note(|| format!("client {receiver} received message {sequence} of sender {sender} late"));
            return true;
        }
        self.findings.duplicated += 1;
        self.findings
            .note(|| format!("client {receiver} received message {sequence} of sender {sender} twice"));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { receiver: 1, sender: 2 };

    /// What a receiver's ledger says of these arrivals, of five that were sent.
    fn check(arrivals: &[u64]) -> Findings {
        let mut ledger = Ledger::new(2, 3);
        for &sequence in arrivals {
            ledger.receive(SLOT, sequence);
        }
        ledger.close(SLOT, 5);
        ledger.findings
    }

    #[test]
    fn all_in_order_is_clean() {
        let findings = check(&[0, 1, 2, 3, 4]);
        assert!(findings.is_clean());
        assert_eq!(findings.checked, 5);
        assert_eq!(findings.first, None);
    }

    #[test]
    fn every_kind_of_fault_is_reported() {
        let rows: [(&[u64], [u64; 3]); 7] = [
            (&[0, 1, 3, 4], [1, 0, 0]),
            (&[0, 1, 2], [2, 0, 0]),
            (&[], [5, 0, 0]),
            (&[0, 1, 1, 2, 3, 4], [0, 1, 0]),
            (&[0, 2, 1, 3, 4], [0, 0, 1]),
            (&[0, 2, 1, 1, 3, 4], [0, 1, 1]),
            (&[4], [4, 0, 0]),
        ];
        for (arrivals, expected) in rows {
            let findings = check(arrivals);
            assert!(findings.first.is_some(), "{arrivals:?}");
            assert!(!findings.is_clean(), "{arrivals:?}");
            assert_eq!([findings.lost, findings.duplicated, findings.reordered], expected, "{arrivals:?}");
        }
    }

    #[test]
    fn altered_and_unexpected_messages_are_reported() {
        let mut ledger = Ledger::new(2, 3);
        ledger.findings.note_altered(0);
        assert_eq!((ledger.findings.altered, ledger.findings.is_clean()), (1, false));
        assert!(!ledger.receive(Slot { receiver: 7, sender: 0 }, 0));
        assert_eq!(ledger.findings.unexpected, 1);
    }

    #[test]
    fn a_broken_server_cannot_fill_the_memory() {
        let mut ledger = Ledger::new(2, 3);
        ledger.receive(SLOT, 1 << 40);
        assert_eq!(ledger.skipped[&SLOT].len(), SKIPPED_KEPT_MAX);
        ledger.close(SLOT, (1 << 40) + 1);
        assert_eq!(ledger.findings.lost, 1 << 40);
    }
}
