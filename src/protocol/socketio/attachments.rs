//! A binary packet that waits for its attachments.
//!
//! Socket.IO protocol 5, "BINARY_EVENT" and "BINARY_ACK": the packet's text comes first, then as many
//! binary messages as it says. Refusing text meanwhile is the caller's, and so is the limit on bytes.

use bytes::Bytes;
use smallvec::SmallVec;

use super::packet::PacketKind;

/// A decoded binary packet, kept until its last attachment is there.
#[derive(Debug)]
pub(crate) struct PendingBinary {
    kind: PacketKind,
    id: Option<u64>,
    /// The namespace with the payload behind it, in one allocation.
    text: Box<str>,
    /// Where the payload begins; at a character, and within `text`.
    payload_start: usize,
    /// Never more than `count`.
    attachments: SmallVec<[Bytes; 1]>,
    count: usize,
}

impl PendingBinary {
    /// Keeps a packet that `packet::decode` has accepted; `count` is its number of attachments.
    pub(crate) fn new(
        kind: PacketKind,
        namespace: &str,
        id: Option<u64>,
        payload: &str,
        count: usize,
    ) -> PendingBinary {
        debug_assert!(kind.is_binary() && count > 0, "only a binary packet waits for attachments");
        let text = [namespace, payload].concat().into_boxed_str();
        let attachments = SmallVec::with_capacity(count);
        PendingBinary { kind, id, text, payload_start: namespace.len(), attachments, count }
    }

    /// Takes the next attachment; true when it was the last.
    pub(crate) fn push(&mut self, bytes: Bytes) -> bool {
        debug_assert!(self.attachments.len() < self.count, "a complete packet takes no attachment");
        if self.attachments.len() < self.count {
            self.attachments.push(bytes);
        }
        self.attachments.len() == self.count
    }

    pub(crate) fn kind(&self) -> PacketKind {
        self.kind
    }

    pub(crate) fn id(&self) -> Option<u64> {
        self.id
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text.get(..self.payload_start).unwrap_or_default()
    }

    pub(crate) fn payload(&self) -> &str {
        self.text.get(self.payload_start..).unwrap_or_default()
    }

    /// Those that have come so far, in their order.
    pub(crate) fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Bytes of all that is kept.
    pub(crate) fn len_bytes(&self) -> usize {
        self.text.len() + self.attachments_len()
    }

    /// Bytes of the attachments so far.
    pub(crate) fn attachments_len(&self) -> usize {
        self.attachments.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attachment_completes_the_packet() {
        let mut pending = PendingBinary::new(PacketKind::BinaryAck, "/ä", Some(3), "[1]", 2);
        assert_eq!((pending.kind(), pending.id()), (PacketKind::BinaryAck, Some(3)));
        assert_eq!((pending.namespace(), pending.payload(), pending.attachments_len()), ("/ä", "[1]", 0));
        assert!(!pending.push(Bytes::new()));
        assert!(pending.push(Bytes::from_static(b"abc")));
        assert_eq!((pending.attachments().len(), pending.attachments_len()), (2, 3));
    }
}
