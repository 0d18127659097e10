//! Bytes owed to one connection, in order.
//!
//! A segment is either shared with other connections (a broadcast's frame: one pointer) or this
//! connection's own. The driver takes what a send can carry and says how much went out.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::base::buffer::{BufferPool, SharedFrame};
use crate::protocol::http::response::Body;

/// Small messages to one connection are joined into one buffer up to this size, so that a turn's acks leave
/// as one segment.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// A shared frame up to this size is copied behind what already waits: one send of one piece is worth more
/// than the pointer that is saved. The first to wait is always a pointer.
const COPY_BYTES_MAX: usize = 256;

/// A queue that once held more segments than this gives its memory back when it is empty.
const SEGMENTS_KEPT_MAX: usize = 8;

/// A piece of an outbox.
#[derive(Debug)]
enum Segment {
    Shared(SharedFrame),
    Own(Vec<u8>),
    /// Of the program itself: a file that was compiled in, say.
    Static(&'static [u8]),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Shared(frame) => frame,
            Segment::Own(bytes) => bytes,
            Segment::Static(bytes) => bytes,
        }
    }
}

/// What one connection is owed.
///
/// The first segment lies in the outbox itself: most of the time there is no other, and then it owns no memory.
/// There is a first whenever there is another.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    first: Option<Segment>,
    // Boxed: most connections have none, and 8 bytes say so where 32 would.
    #[allow(clippy::box_collection)]
    others: Option<Box<VecDeque<Segment>>>,
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

    /// Queues a shared frame: a pointer when it is large, or the first to wait.
    #[inline]
    pub(crate) fn push_shared(&mut self, frame: &SharedFrame, pool: &mut BufferPool) {
        self.len += frame.len();
        if self.first.is_none() {
            self.first = Some(Segment::Shared(SharedFrame::clone(frame)));
        } else if frame.len() > COPY_BYTES_MAX || !self.join(frame, pool) {
            self.push(Segment::Shared(SharedFrame::clone(frame)));
        }
    }

    /// Lets `write` append to the connection's own bytes.
    pub(crate) fn write<R>(&mut self, pool: &mut BufferPool, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let is_locked = self.is_locked();
        let has_room = matches!(self.last_mut(), Some(Segment::Own(bytes)) if bytes.len() < JOIN_BYTES_MAX)
            && !is_locked;
        if !has_room {
            self.push(Segment::Own(pool.take()));
        }
        let Some(Segment::Own(bytes)) = self.last_mut() else {
            unreachable!("a segment of our own was just made sure of")
        };
        let before = bytes.len();
        let result = write(bytes);
        let written = bytes.len() - before;
        self.len += written;
        result
    }

    /// Queues a buffer of the connection's own; a small one joins the last.
    pub(crate) fn push_own(&mut self, bytes: Vec<u8>, pool: &mut BufferPool) {
        self.len += bytes.len();
        let is_locked = self.is_locked();
        match self.last_mut() {
            Some(Segment::Own(last)) if !is_locked && last.len() + bytes.len() <= JOIN_BYTES_MAX => {
                last.extend_from_slice(&bytes);
                pool.give(bytes);
            }
            _ => self.push(Segment::Own(bytes)),
        }
    }

    /// Queues a body: a pointer, unless it is small.
    pub(crate) fn push_body(&mut self, body: &Body, pool: &mut BufferPool) {
        if body.bytes().len() <= JOIN_BYTES_MAX {
            return self.write(pool, |bytes| bytes.extend_from_slice(body.bytes()));
        }
        self.len += body.bytes().len();
        self.push(match body {
            Body::Static(bytes) => Segment::Static(bytes),
            Body::Shared(bytes) => Segment::Shared(SharedFrame::clone(bytes)),
        });
    }

    /// Points `slices` at the bytes to send next; returns how many slices it filled.
    pub(crate) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(self.segments()) {
            *slice = IoSlice::new(&segment.bytes()[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Keeps the first `count` segments as they are until `advance` has passed them.
    pub(crate) fn lock(&mut self, count: usize) {
        debug_assert!(count <= self.segments_len());
        self.locked = count;
    }

    /// No send reads any segment now.
    pub(crate) fn unlock(&mut self) {
        self.locked = 0;
    }

    /// Everything owed, in one piece.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        let mut skip = self.sent;
        for segment in self.segments() {
            all.extend_from_slice(&segment.bytes()[std::mem::take(&mut skip)..]);
        }
        all
    }

    /// How many pieces there are.
    pub(crate) fn segments_len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.as_ref().map_or(0, |others| others.len())
    }

    /// The first piece still to be sent.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.first.as_ref().map(|segment| &segment.bytes()[self.sent..])
    }

    /// `count` bytes are out: their segments are let go.
    pub(crate) fn advance(&mut self, mut count: usize, pool: &mut BufferPool) {
        assert!(count <= self.len, "no more can be sent than is owed");
        self.len -= count;
        while let Some(first) = &self.first {
            let left = first.bytes().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.locked = self.locked.saturating_sub(1);
            let next = self.others.as_mut().and_then(|others| others.pop_front());
            if let Some(Segment::Own(bytes)) = std::mem::replace(&mut self.first, next) {
                pool.give(bytes);
            }
        }
        if self.others.as_ref().is_some_and(|others| others.capacity() > SEGMENTS_KEPT_MAX) {
            self.others = None;
        }
    }

    /// Moves everything owed to the end of `other`.
    pub(crate) fn append_to(&mut self, other: &mut Outbox) {
        assert_eq!(self.locked, 0, "an outbox that is being sent does not move");
        // A poll may have taken the first of several messages that share a segment.
        let taken = std::mem::take(&mut self.sent);
        match self.first.as_mut().filter(|_| taken > 0) {
            Some(Segment::Own(bytes)) => drop(bytes.drain(..taken)),
            Some(shared) => *shared = Segment::Own(shared.bytes()[taken..].to_vec()),
            None => {}
        }
        other.len += std::mem::take(&mut self.len);
        let others = self.others.take().into_iter().flat_map(|others| others.into_iter());
        self.first.take().into_iter().chain(others).for_each(|segment| other.push(segment));
    }

    /// Forgets everything owed.
    pub(crate) fn clear(&mut self, pool: &mut BufferPool) {
        self.advance(self.len, pool);
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.first.iter().chain(self.others.iter().flat_map(|others| others.iter()))
    }

    fn last_mut(&mut self) -> Option<&mut Segment> {
        match self.others.as_mut().filter(|others| !others.is_empty()) {
            Some(others) => others.back_mut(),
            None => self.first.as_mut(),
        }
    }

    fn push(&mut self, segment: Segment) {
        if self.first.is_none() {
            self.first = Some(segment);
        } else {
            self.others.get_or_insert_default().push_back(segment);
        }
    }

    /// Whether the last segment is being read by a send.
    fn is_locked(&self) -> bool {
        self.locked >= self.segments_len()
    }

    /// Copies a small frame behind the last segment. False when that cannot change or would grow too long.
    fn join(&mut self, frame: &[u8], pool: &mut BufferPool) -> bool {
        if self.is_locked() {
            return false;
        }
        match self.last_mut() {
            Some(Segment::Own(bytes)) if bytes.len() + frame.len() <= JOIN_BYTES_MAX => {
                bytes.extend_from_slice(frame);
                true
            }
            Some(last @ Segment::Shared(_)) if last.bytes().len() <= COPY_BYTES_MAX => {
                let mut joined = pool.take();
                joined.extend_from_slice(last.bytes());
                joined.extend_from_slice(frame);
                *last = Segment::Own(joined);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Outbox, BufferPool) {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"one"));
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"two"));
        outbox.push_shared(&SharedFrame::new(vec![b'S'; COPY_BYTES_MAX + 1]), &mut pool);
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"end"));
        (outbox, pool)
    }

    /// The pieces in order; a large shared frame is shown by its first letters.
    fn pending(outbox: &Outbox) -> String {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = outbox.gather(&mut slices);
        let shown = slices[..count].iter().map(|slice| std::str::from_utf8(slice).unwrap());
        shown.map(|text| text.replace(&large(), "shared")).collect::<Vec<_>>().join("|")
    }

    fn large() -> String {
        "S".repeat(COPY_BYTES_MAX + 1)
    }

    fn whole() -> String {
        format!("onetwo{}end", large())
    }

    #[test]
    fn own_bytes_are_joined_and_order_is_kept() {
        let (outbox, _) = sample();
        assert_eq!((pending(&outbox).as_str(), outbox.len()), ("onetwo|shared|end", whole().len()));
    }

    #[test]
    fn the_first_to_wait_is_a_pointer_and_small_ones_join_behind_it() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        let frame = SharedFrame::new(b"frame".to_vec());
        outbox.push_shared(&frame, &mut pool);
        assert_eq!((SharedFrame::strong_count(&frame), outbox.others.is_none()), (2, true));
        outbox.push_shared(&frame, &mut pool);
        outbox.push_own(b"own".to_vec(), &mut pool);
        outbox.push_shared(&frame, &mut pool);
        assert_eq!((pending(&outbox).as_str(), outbox.len()), ("frameframeownframe", 18));
        assert_eq!(SharedFrame::strong_count(&frame), 1);
    }

    #[test]
    fn a_long_body_is_a_pointer_and_a_short_one_is_copied() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        outbox.write(&mut pool, |bytes| bytes.extend_from_slice(b"head"));
        outbox.push_body(&Body::Static(b"short"), &mut pool);
        let body = SharedFrame::new(vec![b'S'; JOIN_BYTES_MAX + 1]);
        outbox.push_body(&Body::Shared(SharedFrame::clone(&body)), &mut pool);
        static LONG: [u8; JOIN_BYTES_MAX + 1] = [b'L'; JOIN_BYTES_MAX + 1];
        outbox.push_body(&Body::Static(&LONG), &mut pool);
        let mut slices = [IoSlice::new(&[]); 8];
        let count = outbox.gather(&mut slices);
        let places: Vec<*const u8> = slices[1..count].iter().map(|slice| slice.as_ptr()).collect();
        assert_eq!((&*slices[0], places), (&b"headshort"[..], vec![body.as_ptr(), LONG.as_ptr()]));
        assert_eq!(outbox.len(), 9 + 2 * (JOIN_BYTES_MAX + 1));
        outbox.clear(&mut pool);
        assert_eq!(SharedFrame::strong_count(&body), 1);
    }

    #[test]
    fn every_way_of_sending_in_two_parts_leaves_the_rest() {
        let whole = whole();
        for cut in 0..=whole.len() {
            let (mut outbox, mut pool) = sample();
            outbox.advance(cut, &mut pool);
            assert_eq!(String::from_utf8(outbox.to_bytes()).unwrap(), whole[cut..], "{cut}");
            assert_eq!(outbox.len(), whole.len() - cut);
            assert_eq!(outbox.is_empty(), cut == whole.len());
        }
    }

    #[test]
    fn a_locked_segment_does_not_grow() {
        let (mut outbox, mut pool) = sample();
        outbox.lock(3);
        outbox.push_own(b"more".to_vec(), &mut pool);
        outbox.push_shared(&SharedFrame::new(b"small".to_vec()), &mut pool);
        assert_eq!(pending(&outbox), "onetwo|shared|end|moresmall");
        outbox.advance(whole().len(), &mut pool);
        outbox.unlock();
        outbox.write(&mut pool, |bytes| bytes.push(b'!'));
        assert_eq!(pending(&outbox), "moresmall!");
    }

    #[test]
    fn an_outbox_that_is_partly_out_moves_without_that_part() {
        let whole = whole();
        for cut in 0..=whole.len() {
            let ((mut first, mut pool), mut second) = (sample(), Outbox::default());
            first.advance(cut, &mut pool);
            first.append_to(&mut second);
            assert_eq!(String::from_utf8(second.to_bytes()).unwrap(), whole[cut..]);
            assert_eq!(second.len(), whole.len() - cut);
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
