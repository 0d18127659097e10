//! The io_uring of one shard: what is asked of the kernel, and what it answers.
//!
//! Entries are queued and go out together, at most [`BATCH`] an enter. Every operation carries a [`Token`], so
//! that an answer finds its connection, or finds that it is gone.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::driver::ring::buffers::{BufferRing, GROUP};

/// Operations that go to the kernel in one enter.
pub(crate) const BATCH: u32 = 1024;

/// Answers the kernel can hold: a turn's sends, the filled buffers, and room for what ends. More wait in a slower list of its own.
pub(crate) const COMPLETIONS: u32 = 4 * BATCH;

/// Pieces in one send.
pub(crate) const PIECES_PER_SEND_MAX: usize = 16;

/// Enter only to let deferred work run and completions appear.
const ENTER_GETEVENTS: u32 = 1;

const KIND_SHIFT: u32 = 56;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = 0x00ff_ffff;

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Receive = 1,
    Send = 2,
    Accept = 3,
    Bell = 4,
    Cancel = 5,
}

/// Names an operation and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) fn new(kind: Kind, key: Key) -> Token {
        let generation = u64::from(key.generation & GENERATION_MASK) << GENERATION_SHIFT;
        Token((kind as u64) << KIND_SHIFT | generation | u64::from(key.index))
    }

    fn listener(index: usize) -> Token {
        Token::new(Kind::Accept, Key { index: index as u32, generation: 0 })
    }

    pub(crate) fn kind(self) -> Option<Kind> {
        Some(match self.0 >> KIND_SHIFT {
            1 => Kind::Receive,
            2 => Kind::Send,
            3 => Kind::Accept,
            4 => Kind::Bell,
            5 => Kind::Cancel,
            _ => return None,
        })
    }

    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }

    /// Whether the token was made for this key, as far as its 24 bits of generation can tell.
    pub(crate) fn is_of(self, key: Key) -> bool {
        self.owner() == Token::new(Kind::Receive, key).owner()
    }

    /// Index and generation, without the kind: the same for all operations of one connection.
    pub(crate) fn owner(self) -> u64 {
        self.0 & ((1 << KIND_SHIFT) - 1)
    }
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// The operation's result, or the negative of an errno.
    pub(crate) result: i32,
    /// The receive buffer that holds the bytes.
    pub(crate) buffer: Option<u16>,
    /// Whether the same operation will answer again.
    pub(crate) has_more: bool,
}

/// Where the pieces of one send lie, for as long as it is under way.
pub(crate) struct SendPieces {
    vectors: [libc::iovec; PIECES_PER_SEND_MAX],
    header: libc::msghdr,
}

impl SendPieces {
    pub(crate) fn new() -> Box<SendPieces> {
        // SAFETY: both are plain C structures for which all zeros is a valid value.
        unsafe { Box::new(std::mem::zeroed()) }
    }
}

/// A ring with its receive buffers.
pub(crate) struct Ring {
    // Declared first so that it is closed before the buffers are freed.
    uring: IoUring,
    /// Shared with the loop that reads what arrived: whoever goes first, they outlive the ring.
    pub(crate) buffers: Rc<RefCell<BufferRing>>,
    /// Operations that found no room: they go first as soon as there is some. None is ever dropped, because a wire waits for
    /// the answer of each.
    waiting: VecDeque<squeue::Entry>,
}

impl Ring {
    /// Sets a ring up with everything this wire needs; fails on kernels before 6.1 and where it is forbidden.
    pub(crate) fn new() -> io::Result<Ring> {
        Ring::build(&mut IoUring::builder(), BATCH, COMPLETIONS)
    }

    fn build(builder: &mut io_uring::Builder, batch: u32, completions: u32) -> io::Result<Ring> {
        let uring =
            builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(completions).build(batch)?;
        let buffers = BufferRing::register(&uring.submitter())?;
        Ok(Ring { uring, buffers: Rc::new(RefCell::new(buffers)), waiting: VecDeque::new() })
    }

    /// Receives into the shared buffers until told otherwise.
    pub(crate) fn receive(&mut self, descriptor: BorrowedFd<'_>, key: Key) {
        let entry = opcode::RecvMulti::new(Fd(descriptor.as_raw_fd()), GROUP).build();
        self.push(entry, Token::new(Kind::Receive, key));
    }

    /// Accepts until told otherwise.
    pub(crate) fn accept(&mut self, descriptor: BorrowedFd<'_>, index: usize) {
        let entry = opcode::AcceptMulti::new(Fd(descriptor.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry, Token::listener(index));
    }

    /// Watches the doorbell: an answer for each time it rings, so nobody has to silence it. (The kernel answers to what happens to
    /// the descriptor, not to how it is.)
    pub(crate) fn watch_bell(&mut self, descriptor: BorrowedFd<'_>) {
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.push(entry, Token::new(Kind::Bell, Key { index: 0, generation: 0 }));
    }

    /// Ends a multishot operation; it answers once more.
    pub(crate) fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.0).build();
        let key = Key { index: token.index(), generation: 0 };
        self.push(entry, Token::new(Kind::Cancel, key));
    }

    pub(crate) fn cancel_accept(&mut self, index: usize) {
        self.cancel(Token::listener(index));
    }

    /// Sends one piece, whole. The caller keeps `bytes` where they are until the answer has come.
    pub(crate) fn send(&mut self, descriptor: BorrowedFd<'_>, key: Key, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let flags = libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(Fd(descriptor.as_raw_fd()), bytes.as_ptr(), len).flags(flags).build();
        self.push(entry, Token::new(Kind::Send, key));
    }

    /// Sends several pieces in one. The caller keeps them, and `pieces`, where they are until the answer has come.
    pub(crate) fn send_pieces(
        &mut self,
        descriptor: BorrowedFd<'_>,
        key: Key,
        pieces: &mut SendPieces,
        slices: &[io::IoSlice<'_>],
    ) {
        for (vector, slice) in pieces.vectors.iter_mut().zip(slices) {
            *vector = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
        }
        pieces.header.msg_iov = pieces.vectors.as_mut_ptr();
        pieces.header.msg_iovlen = slices.len().min(PIECES_PER_SEND_MAX);
        let flags = libc::MSG_NOSIGNAL as u32;
        let entry =
            opcode::SendMsg::new(Fd(descriptor.as_raw_fd()), &raw const pieces.header).flags(flags).build();
        self.push(entry, Token::new(Kind::Send, key));
    }

    /// Submits what is queued and waits for an answer, no longer than `patience`.
    pub(crate) fn wait(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.push_waiting();
        if !self.waiting.is_empty() {
            return self.poll();
        }
        let result = match patience {
            None => self.uring.submit_and_wait(1).map(drop),
            Some(patience) => {
                let until = Timespec::from(patience);
                let arguments = SubmitArgs::new().timespec(&until);
                self.uring.submitter().submit_with_args(1, &arguments).map(drop)
            }
        };
        forgive(result)
    }

    /// Submits what is queued and collects answers, without waiting.
    pub(crate) fn poll(&mut self) -> io::Result<()> {
        self.push_waiting();
        self.submit_queued()
    }

    fn submit_queued(&mut self) -> io::Result<()> {
        let queued = self.uring.submission().len() as u32;
        // SAFETY: no argument is passed, so nothing is read beyond the two rings.
        let entered =
            unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None) };
        forgive(entered.map(drop))
    }

    /// Takes one answer.
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        let entry = self.uring.completion().next()?;
        Some(Completion {
            token: Token(entry.user_data()),
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            has_more: cqueue::more(entry.flags()),
        })
    }

    /// Ends a turn's receives: the kernel has their buffers again.
    pub(crate) fn end_receives(&mut self, now: Time) {
        let is_all_read = self.completions() == 0 && !self.uring.submission().cq_overflow();
        self.buffers.borrow_mut().end_turn(now, is_all_read);
    }

    /// Answers that wait to be taken.
    pub(crate) fn completions(&mut self) -> usize {
        self.uring.completion().len()
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.0);
        if self.waiting.is_empty() && self.push_now(&entry) {
            return;
        }
        self.waiting.push_back(entry);
        // A full queue goes to the kernel. If that fails for good, the next wait fails too, and the shard stops.
        if let Err(error) = self.submit_queued() {
            tracing::debug!(%error, "io_uring takes no submission now");
        }
        self.push_waiting();
    }

    /// Moves what waits into the queue, as far as there is room.
    fn push_waiting(&mut self) {
        while let Some(entry) = self.waiting.pop_front() {
            if !self.push_now(&entry) {
                self.waiting.push_front(entry);
                return;
            }
        }
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what an entry points to lives until its completion: receive buffers as long as the ring;
        // pieces and bytes of a send are locked in their outbox, which is kept until the send has answered.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }
}

/// A wait that timed out or was interrupted has done its work.
fn forgive(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// A descriptor that a completion brought, or that the process before this one opened.
pub(crate) fn adopt_descriptor(result: i32) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the kernel opened this descriptor for us in an accept, and nobody else knows of it; or `driver/inherit.rs` has seen that it
    // is open, and takes it once.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(result) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Operations that a tiny ring is asked for: many times what it holds.
    const OPERATIONS: u32 = 200;

    /// Has `ring` send so many numbers, one operation each, on a connection of its own; gives its other end.
    fn send_numbers(ring: &mut Ring, numbers: &[[u8; 4]]) -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        for (index, number) in (0..).zip(numbers) {
            ring.send(ours.as_fd(), Key { index, generation: 1 }, number);
        }
        (ours, theirs)
    }

    /// Takes answers until each operation has given its one, then reads what was sent.
    fn expect_all(ring: &mut Ring, theirs: &mut UnixStream, numbers: &[[u8; 4]]) {
        let mut answered = HashSet::new();
        // Each round takes an answer at least, if none is lost.
        for _ in 0..numbers.len() {
            ring.wait(Some(Duration::from_secs(5))).expect("the kernel takes what is queued");
            while let Some(completion) = ring.next_completion() {
                assert_eq!((completion.token.kind(), completion.result), (Some(Kind::Send), 4));
                assert!(answered.insert(completion.token.index()), "an operation answers once");
            }
            if answered.len() == numbers.len() {
                break;
            }
        }
        assert_eq!(answered.len(), numbers.len(), "every operation is answered");
        assert!(ring.waiting.is_empty());
        let mut sent = vec![0; numbers.len() * 4];
        theirs.read_exact(&mut sent).expect("everything was sent");
        assert_eq!(sent, numbers.concat(), "in the order in which it was asked for");
    }

    fn numbers() -> Vec<[u8; 4]> {
        (0..OPERATIONS).map(u32::to_be_bytes).collect()
    }

    #[test]
    fn a_full_submission_queue_loses_no_operation() {
        // Where there is no ring of this kind, the portable wire serves.
        let Ok(mut ring) = Ring::build(&mut IoUring::builder(), 4, 8) else { return };
        let numbers = numbers();
        for _ in 0..3 {
            let (_ours, mut theirs) = send_numbers(&mut ring, &numbers);
            expect_all(&mut ring, &mut theirs, &numbers);
        }
    }

    #[test]
    fn what_the_kernel_does_not_take_now_waits_and_keeps_its_order() {
        // A disabled ring takes nothing until it is enabled.
        let mut builder = IoUring::builder();
        let Ok(mut ring) = Ring::build(builder.setup_r_disabled(), 4, 8) else { return };
        let numbers = numbers();
        let (_ours, mut theirs) = send_numbers(&mut ring, &numbers);
        assert_eq!(ring.waiting.len(), numbers.len() - 4, "four are queued, all others wait");
        assert!(ring.poll().is_err() && ring.next_completion().is_none());
        assert_eq!(ring.waiting.len(), numbers.len() - 4, "a call that fails loses none");
        ring.uring.submitter().register_enable_rings().expect("it can be enabled");
        expect_all(&mut ring, &mut theirs, &numbers);
    }

    #[test]
    fn a_token_names_its_operation_and_tells_generations_apart() {
        let key = Key { index: 7, generation: 3 };
        let token = Token::new(Kind::Send, key);
        assert_eq!((token.kind(), token.index()), (Some(Kind::Send), 7));
        assert!(token.is_of(key));
        assert!(!token.is_of(Key { index: 7, generation: 4 }));
        assert_eq!(token.owner(), Token::new(Kind::Receive, key).owner());
    }
}
