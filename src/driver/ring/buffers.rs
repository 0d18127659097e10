//! The shared receive buffers: one provided-buffer ring for all the connections of a shard.
//!
//! The kernel takes a buffer when bytes arrive, we give it back when they are decoded: a connection at rest
//! holds none.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Buffers in the ring; a power of two.
const BUFFERS: u16 = 512;

/// Bytes of one buffer. Longer messages arrive in several.
pub(crate) const BUFFER_BYTES: usize = 8192;

/// The group's number; a shard has one.
pub(crate) const GROUP: u16 = 0;

/// The kernel wants the ring on a page of its own.
const PAGE_BYTES: usize = 4096;

const _: () = assert!(BUFFERS.is_power_of_two());

/// Memory of the ring and its buffers.
pub(crate) struct BufferRing {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    /// How many buffers were ever given to the kernel; its low bits are the ring's tail.
    tail: u16,
}

fn entries_layout() -> Layout {
    Layout::from_size_align(usize::from(BUFFERS) * size_of::<BufRingEntry>(), PAGE_BYTES)
        .expect("a constant layout")
}

fn bytes_layout() -> Layout {
    Layout::from_size_align(usize::from(BUFFERS) * BUFFER_BYTES, PAGE_BYTES).expect("a constant layout")
}

impl BufferRing {
    /// Registers the ring and gives every buffer to the kernel.
    pub(crate) fn register(submitter: &Submitter<'_>) -> io::Result<BufferRing> {
        // SAFETY: both layouts have a size above zero.
        let (entries, bytes) = unsafe { (alloc_zeroed(entries_layout()), alloc_zeroed(bytes_layout())) };
        if entries.is_null() || bytes.is_null() {
            handle_alloc_error(bytes_layout());
        }
        // Touched now, so that no message pays for a page fault later.
        // SAFETY: the allocation has this many bytes.
        unsafe { bytes.write_bytes(0, bytes_layout().size()) };
        let mut ring = BufferRing { entries: entries.cast(), bytes, tail: 0 };
        // SAFETY: `entries` holds BUFFERS entries on a page boundary and lives until `drop`, which the owner
        // runs only after the io_uring is gone.
        unsafe { submitter.register_buf_ring_with_flags(ring.entries as u64, BUFFERS, GROUP, 0) }?;
        for id in 0..BUFFERS {
            ring.give(id);
        }
        ring.publish();
        Ok(ring)
    }

    /// The first `len` bytes of a buffer that a completion named.
    pub(crate) fn bytes(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < BUFFERS && len <= BUFFER_BYTES, "the kernel names only buffers it was given");
        // SAFETY: the place lies within `bytes` as just checked; the kernel gave the buffer to us and writes
        // to it again only after `give`, which needs `&mut self` and so ends this borrow first.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.add(usize::from(id) * BUFFER_BYTES), len) }
    }

    /// Gives a buffer back; the kernel sees it after `publish`.
    pub(crate) fn give(&mut self, id: u16) {
        assert!(id < BUFFERS, "only our own buffers are given");
        let place = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `place` is below BUFFERS, so the entry lies within `entries`; the kernel reads it only once the
        // tail has passed it. The buffer's address is within `bytes`.
        unsafe {
            let entry = &mut *self.entries.add(place);
            entry.set_addr(self.bytes.add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer given so far.
    pub(crate) fn publish(&mut self) {
        // SAFETY: `entries` is the registered ring's base; its tail is an aligned u16 that the kernel only reads.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were allocated in `register` with these layouts; the io_uring that used them is closed.
        unsafe {
            dealloc(self.entries.cast(), entries_layout());
            dealloc(self.bytes, bytes_layout());
        }
    }
}
