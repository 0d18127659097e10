//! The queue from the shards to Python's threads, and the bell that wakes one of them.
//!
//! A shard pushes without a lock, and rings once at the end of a turn, and only if somebody sleeps: under load neither side makes a
//! system call for an event. What may wait here is bounded by the core, which reads no more from a client whose events wait.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::SegQueue;

use crate::job::Job;

/// A thread that sleeps looks this often whether it was to end.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// From shards to threads.
#[derive(Default)]
pub(crate) struct Courier {
    queue: SegQueue<Job>,
    /// Jobs that have waited for their socket's handler and do so no more.
    released: SegQueue<Job>,
    sleepers: AtomicUsize,
    /// Rings that no sleeper has heard yet.
    rings: Mutex<usize>,
    rung: Condvar,
    is_stopped: AtomicBool,
}

thread_local! {
    /// This thread has given jobs away and has not rung.
    static HAS_GIVEN: Cell<bool> = const { Cell::new(false) };
}

impl Courier {
    /// Gives a job away. A thread is woken when the turn is over.
    pub(crate) fn push(&self, job: Job) {
        self.queue.push(job);
        HAS_GIVEN.set(true);
    }

    /// Gives a job back that waits no more.
    pub(crate) fn release(&self, job: Job) {
        self.released.push(job);
    }

    /// A shard's turn is over.
    pub(crate) fn turn_over(&self) {
        if HAS_GIVEN.replace(false) {
            self.ring();
        }
    }

    /// The next job.
    pub(crate) fn take(&self) -> Option<Job> {
        self.released.pop().or_else(|| self.queue.pop())
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.released.is_empty()
    }

    /// How many jobs wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.released.len()
    }

    pub(crate) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) > 0
    }

    /// Wakes a thread that sleeps, if there is one.
    pub(crate) fn ring(&self) {
        // A sleeper counts itself before it looks at the queue, and the queue was filled before this looks at the count.
        fence(Ordering::SeqCst);
        if !self.has_sleepers() {
            return;
        }
        let mut rings = lock(&self.rings);
        if *rings < self.sleepers.load(Ordering::Relaxed) {
            *rings += 1;
            self.rung.notify_one();
        }
    }

    /// Sleeps until there may be work. Not with the GIL.
    pub(crate) fn sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.has_work() && !self.is_stopped() {
            let mut rings = lock(&self.rings);
            if *rings == 0 {
                rings = self.rung.wait_timeout(rings, SLEEP_MAX).unwrap_or_else(PoisonError::into_inner).0;
            }
            *rings = rings.saturating_sub(1);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Ends the threads once they have done what they are at. What waits is dropped.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.rung.notify_all();
        while self.take().is_some() {}
    }
}

/// A lock whose holder may have panicked: what it protects is as it was left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
