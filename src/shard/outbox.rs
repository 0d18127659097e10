//! Bytes owed to one connection, in order.
//!
//! A segment is either shared with other connections (a broadcast's frame: one pointer) or this
//! connection's own. The driver takes what a send can carry and says how much went out.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::base::buffer::{BufferPool, SharedFrame};

/// Small messages to one connection are joined into one buffer up to this size, so that a turn's acks leave
/// as one segment.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// A queue that once held more segments than this gives its memory back when it is empty.
const SEGMENTS_KEPT_MAX: usize = 8;

/// A piece of an outbox.
#[derive(Debug)]
pub(crate) enum Segment {
    Shared(SharedFrame),
    Own(Vec<u8>),
}

impl Segment {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Segment::Shared(frame) => frame,
            Segment::Own(bytes) => bytes,
        }
    }
}

/// What one connection is owed.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    /// How much of the first segment is out already.
    sent: usize,
    /// Bytes still owed.
    len: usize,
    /// Segments at the front that a send is reading: they must not change until it is done.
    locked: usize,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues a shared frame: a pointer, whatever its size.
    #[inline]
    pub(crate) fn push_shared(&mut self, frame: SharedFrame) {
        self.len += frame.len();
        self.segments.push_back(Segment::Shared(frame));
    }

    /// Lets `write` append to the connection's own bytes.
    pub(crate) fn write<R>(&mut self, pool: &mut BufferPool, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let has_room =
            matches!(self.segments.back(), Some(Segment::Own(bytes)) if bytes.len() < JOIN_BYTES_MAX);
        if !has_room || self.is_locked() {
            self.segments.push_back(Segment::Own(pool.take()));
        }
        let Some(Segment::Own(bytes)) = self.segments.back_mut() else {
            unreachable!("a segment of our own was just made sure of")
        };
        let before = bytes.len();
        let result = write(bytes);
        self.len += bytes.len() - before;
        result
    }

    /// Queues a buffer of the connection's own; a small one joins the last.
    pub(crate) fn push_own(&mut self, bytes: Vec<u8>, pool: &mut BufferPool) {
        self.len += bytes.len();
        let is_locked = self.is_locked();
        match self.segments.back_mut() {
            Some(Segment::Own(last)) if !is_locked && last.len() + bytes.len() <= JOIN_BYTES_MAX => {
                last.extend_from_slice(&bytes);
                pool.give(bytes);
            }
            _ => self.segments.push_back(Segment::Own(bytes)),
        }
    }

    /// Points `slices` at the bytes to send next; returns how many slices it filled.
    pub(crate) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(&segment.bytes()[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Whether the last segment is being read by a send.
    fn is_locked(&self) -> bool {
        self.locked >= self.segments.len()
    }

    /// Keeps the first `count` segments as they are until `advance` has passed them.
    pub(crate) fn lock(&mut self, count: usize) {
        debug_assert!(count <= self.segments.len());
        self.locked = count;
    }

    /// No send reads any segment now.
    pub(crate) fn unlock(&mut self) {
        self.locked = 0;
    }

    /// Joins the first segments, as many as fit into `bytes_max`, into one: a send of one piece is cheaper than a
    /// send of several small ones.
    pub(crate) fn join_front(&mut self, bytes_max: usize, pool: &mut BufferPool) {
        debug_assert_eq!(self.locked, 0, "a segment that is being sent does not move");
        let mut total = 0;
        let fitting = self.segments.iter().take_while(|segment| {
            total += segment.bytes().len();
            total <= bytes_max
        });
        let count = fitting.count();
        if count < 2 {
            return;
        }
        let mut joined = pool.take();
        for segment in self.segments.drain(..count) {
            joined.extend_from_slice(&segment.bytes()[std::mem::take(&mut self.sent)..]);
            if let Segment::Own(bytes) = segment {
                pool.give(bytes);
            }
        }
        self.segments.push_front(Segment::Own(joined));
    }

    /// Everything owed, in one piece.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        let mut skip = self.sent;
        for segment in &self.segments {
            all.extend_from_slice(&segment.bytes()[std::mem::take(&mut skip)..]);
        }
        all
    }

    /// How many pieces there are.
    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The first piece still to be sent.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.segments.front().map(|segment| &segment.bytes()[self.sent..])
    }

    /// `count` bytes are out: their segments are let go.
    pub(crate) fn advance(&mut self, mut count: usize, pool: &mut BufferPool) {
        assert!(count <= self.len, "no more can be sent than is owed");
        self.len -= count;
        while let Some(front) = self.segments.front() {
            let left = front.bytes().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.locked = self.locked.saturating_sub(1);
            if let Some(Segment::Own(bytes)) = self.segments.pop_front() {
                pool.give(bytes);
            }
        }
        if self.segments.capacity() > SEGMENTS_KEPT_MAX {
            self.segments = VecDeque::new();
        }
    }

    /// Moves everything owed to the end of `other`.
    pub(crate) fn append_to(&mut self, other: &mut Outbox) {
        assert_eq!(self.locked, 0, "an outbox that is being sent does not move");
        // A poll may have taken the first of several messages that share a segment.
        let taken = std::mem::take(&mut self.sent);
        match self.segments.front_mut().filter(|_| taken > 0) {
            Some(Segment::Own(bytes)) => drop(bytes.drain(..taken)),
            Some(shared) => *shared = Segment::Own(shared.bytes()[taken..].to_vec()),
            None => {}
        }
        other.len += self.len;
        other.segments.append(&mut self.segments);
        self.len = 0;
    }

    /// Forgets everything owed.
    pub(crate) fn clear(&mut self, pool: &mut BufferPool) {
        self.advance(self.len, pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Outbox, BufferPool) {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"one"));
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"two"));
        outbox.push_shared(SharedFrame::new(b"shared".to_vec()));
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"end"));
        (outbox, pool)
    }

    fn pending(outbox: &Outbox) -> String {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = outbox.gather(&mut slices);
        slices[..count].iter().map(|slice| std::str::from_utf8(slice).unwrap()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn own_bytes_are_joined_and_order_is_kept() {
        let (outbox, _) = sample();
        assert_eq!((pending(&outbox).as_str(), outbox.len()), ("onetwo|shared|end", 15));
    }

    #[test]
    fn every_way_of_sending_in_two_parts_leaves_the_rest() {
        let whole = "onetwosharedend";
        for cut in 0..=whole.len() {
            let (mut outbox, mut pool) = sample();
            outbox.advance(cut, &mut pool);
            assert_eq!(pending(&outbox).replace('|', ""), whole[cut..], "{cut}");
            assert_eq!(outbox.len(), whole.len() - cut);
            assert_eq!(outbox.is_empty(), cut == whole.len());
        }
    }

    #[test]
    fn a_locked_segment_does_not_grow_and_joining_keeps_every_byte() {
        let (mut outbox, mut pool) = sample();
        outbox.lock(3);
        outbox.push_own(b"more".to_vec(), &mut pool);
        assert_eq!(pending(&outbox), "onetwo|shared|end|more");
        outbox.advance(4, &mut pool);
        outbox.unlock();
        outbox.join_front(1 << 20, &mut pool);
        assert_eq!((pending(&outbox).as_str(), outbox.len()), ("wosharedendmore", 15));
        assert_eq!(outbox.to_bytes(), b"wosharedendmore");
    }

    #[test]
    fn an_outbox_that_is_partly_out_moves_without_that_part() {
        let whole = "onetwosharedend";
        for cut in 0..=whole.len() {
            let ((mut first, mut pool), mut second) = (sample(), Outbox::default());
            first.advance(cut, &mut pool);
            first.append_to(&mut second);
            assert_eq!(
                (pending(&second).replace('|', "").as_str(), second.len()),
                (&whole[cut..], whole.len() - cut)
            );
            second.clear(&mut pool);
        }
    }

    #[test]
    fn an_outbox_moves_behind_another() {
        let (mut first, mut pool) = sample();
        let (mut second, _) = sample();
        first.push_own(b"!".to_vec(), &mut pool);
        first.append_to(&mut second);
        assert_eq!(pending(&second), "onetwo|shared|end|onetwo|shared|end!");
        assert!(first.is_empty());
        second.clear(&mut pool);
        assert!(second.is_empty());
    }
}
