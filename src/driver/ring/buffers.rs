//! The shared receive buffers: one provided-buffer ring for all the connections of a shard.
//!
//! The kernel takes a buffer when bytes arrive, we give it back when they are decoded: a connection at rest
//! holds none. The kernel takes them in the order in which they were given, so in time it writes to each that it has:
//! what a shard keeps in memory is as many buffers as `demand.rs` finds enough. The others are address space.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::base::time::Time;
use crate::driver::ring::demand::{BUFFERS_MAX, Demand};

/// Bytes of one buffer; whole pages, as they are given back to the kernel one by one. Longer messages arrive in several.
pub(crate) const BUFFER_BYTES: usize = 8192;

/// The group's number; a shard has one.
pub(crate) const GROUP: u16 = 0;

/// Bytes of the ring, which lies on pages of its own before the buffers.
const ENTRIES_BYTES: usize = BUFFERS_MAX as usize * size_of::<BufRingEntry>();

/// Bytes of all buffers.
const POOL_BYTES: usize = BUFFERS_MAX as usize * BUFFER_BYTES;

const PAGE_BYTES: usize = 4096;

const _: () = assert!(ENTRIES_BYTES.is_multiple_of(PAGE_BYTES) && BUFFER_BYTES.is_multiple_of(PAGE_BYTES));

/// Memory of the ring and its buffers.
pub(crate) struct BufferRing {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    /// How many buffers were ever given to the kernel; its low bits are the ring's tail.
    tail: u16,
    /// Buffers that the kernel does not have and that hold nothing.
    spare: Vec<u16>,
    pub(crate) demand: Demand,
}

impl BufferRing {
    /// Registers the ring and gives the kernel as many buffers as it needs at first.
    pub(crate) fn register(submitter: &Submitter<'_>) -> io::Result<BufferRing> {
        let (entries, bytes) = map()?;
        // The last of these is given first, so the pages in use lie side by side.
        let spare = (0..BUFFERS_MAX).rev().collect();
        let mut ring = BufferRing { entries, bytes, tail: 0, spare, demand: Demand::new() };
        // SAFETY: `entries` has room for BUFFERS_MAX entries on a page boundary and lives until `drop`, which the owner
        // runs only after the io_uring is gone.
        unsafe { submitter.register_buf_ring_with_flags(ring.entries as u64, BUFFERS_MAX, GROUP, 0) }?;
        ring.add_wanted();
        ring.publish();
        Ok(ring)
    }

    /// The first `len` bytes of a buffer that a completion named.
    pub(crate) fn bytes(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < BUFFERS_MAX && len <= BUFFER_BYTES, "the kernel names only buffers it was given");
        // SAFETY: the place lies within `bytes` as just checked; the kernel gave the buffer to us and writes
        // to it again only after `push`, which needs `&mut self` and so ends this borrow first. Pages that were
        // never written to are zeros.
        unsafe { std::slice::from_raw_parts_mut(self.place(id), len) }
    }

    /// Takes back a buffer whose bytes were read. The kernel has it again after `end_turn`, unless it has enough.
    pub(crate) fn give_back(&mut self, id: u16) {
        self.demand.filled();
        if self.given() <= self.demand.wanted() {
            return self.push(id);
        }
        self.spare.push(id);
        // SAFETY: the buffer lies within `bytes`; the kernel does not have it, and what it held was read.
        unsafe { discard(self.place(id), BUFFER_BYTES) };
    }

    /// Shows the kernel the buffers given back in this turn, and more if they were few.
    ///
    /// `is_all_read` says that no completion waits, here or in the kernel: only then may their memory go.
    pub(crate) fn end_turn(&mut self, now: Time, is_all_read: bool) {
        self.demand.end_turn(now);
        if is_all_read && self.demand.shrink(now) {
            // SAFETY: the pool is POOL_BYTES long. No buffer holds anything, as the caller says; the kernel may fill those
            // that it has at any time, and then gets new pages.
            unsafe { discard(self.bytes, POOL_BYTES) };
        }
        self.add_wanted();
        self.publish();
    }

    /// Bytes of the buffers that are in memory.
    #[cfg(test)]
    pub(crate) fn resident(&self) -> usize {
        let mut pages = [0; POOL_BYTES / PAGE_BYTES];
        // SAFETY: the range is the pool, and there is a byte of answer for each of its pages.
        let failed = unsafe { libc::mincore(self.bytes.cast(), POOL_BYTES, pages.as_mut_ptr()) };
        assert_eq!(failed, 0, "the pool is mapped");
        pages.iter().filter(|page| **page & 1 == 1).count() * PAGE_BYTES
    }

    /// Buffers that the kernel has, or that it filled and we did not give back.
    fn given(&self) -> u16 {
        BUFFERS_MAX - self.spare.len() as u16
    }

    fn add_wanted(&mut self) {
        while self.given() < self.demand.wanted() {
            let Some(id) = self.spare.pop() else { return };
            self.push(id);
        }
    }

    fn place(&self, id: u16) -> *mut u8 {
        assert!(id < BUFFERS_MAX, "only our own buffers have a place");
        // SAFETY: the pool has BUFFERS_MAX buffers of this size.
        unsafe { self.bytes.add(usize::from(id) * BUFFER_BYTES) }
    }

    /// Gives a buffer to the kernel, which sees it after `publish`.
    fn push(&mut self, id: u16) {
        let place = usize::from(self.tail & (BUFFERS_MAX - 1));
        let address = self.place(id);
        // SAFETY: `place` is below BUFFERS_MAX, so the entry lies within `entries`; the kernel reads it only once the
        // tail has passed it. The buffer's address is within `bytes`.
        unsafe {
            let entry = &mut *self.entries.add(place);
            entry.set_addr(address as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer given so far.
    fn publish(&mut self) {
        // SAFETY: `entries` is the registered ring's base; its tail is an aligned u16 that the kernel only reads.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made; the io_uring that used it is closed. An error would mean that it is not
        // mapped, and then there is nothing to free.
        unsafe { libc::munmap(self.entries.cast(), ENTRIES_BYTES + POOL_BYTES) };
    }
}

/// Memory for the ring and, behind it, the buffers. It is mapped rather than allocated, as an allocator may write to what it gives:
/// a page costs nothing before the kernel receives into it.
fn map() -> io::Result<(*mut BufRingEntry, *mut u8)> {
    let len = ENTRIES_BYTES + POOL_BYTES;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A huge page would be two megabytes for the first small message. A kernel that knows no huge pages refuses this.
    // SAFETY: the range is the mapping just made, and advice on the size of pages changes no contents.
    let _ = unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
    // SAFETY: the buffers begin within the mapping.
    let bytes = unsafe { base.cast::<u8>().add(ENTRIES_BYTES) };
    Ok((base.cast(), bytes))
}

/// Gives pages back to the kernel: they read as zeros from here on. If it refuses they stay, which only costs memory.
///
/// # Safety
///
/// The range consists of whole pages of a private mapping, and nobody needs what is in it.
unsafe fn discard(from: *mut u8, len: usize) {
    // SAFETY: the caller says that these are pages whose contents nobody needs.
    let _ = unsafe { libc::madvise(from.cast(), len, libc::MADV_DONTNEED) };
}
