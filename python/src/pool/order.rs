//! The order of each socket's events while several threads run handlers.
//!
//! What follows from a socket waits for its running handler, in the hands of the same thread. A handler that really waits is
//! overtaken: at once in `sleep` and `call`, elsewhere after a tenth of a second, so one that never ends does not block its socket. With
//! `async_handlers=False` it is never overtaken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use shardcast::Addressee;

use super::Vacated;
use crate::courier::{Courier, lock};
use crate::job::Job;

/// A handler that has held up its own socket for this long does so no more.
const OVERTAKE_AFTER: Duration = Duration::from_millis(100);

/// A socket whose handler runs, and what came from it since.
struct Busy {
    worker: usize,
    socket: Addressee,
    since: Instant,
    parked: VecDeque<Job>,
}

pub(super) struct Order {
    busy: Mutex<Vec<Busy>>,
    /// How many there are, to be read without the lock.
    len: AtomicUsize,
    is_strict: bool,
}

/// The table, while one thread has it.
pub(super) struct Held<'a> {
    busy: MutexGuard<'a, Vec<Busy>>,
    order: &'a Order,
}

impl Order {
    pub(super) fn new(is_strict: bool) -> Order {
        Order { busy: Mutex::default(), len: AtomicUsize::new(0), is_strict }
    }

    pub(super) fn hold(&self) -> Held<'_> {
        Held { busy: lock(&self.busy), order: self }
    }

    /// What has waited for the handler that a thread has run. Without more the socket is free.
    pub(super) fn next_parked(&self, worker: usize) -> Option<Job> {
        let mut held = self.hold();
        let place = held.busy.iter().position(|busy| busy.worker == worker)?;
        let entry = held.busy.get_mut(place)?;
        let job = entry.parked.pop_front();
        if job.is_some() {
            entry.since = Instant::now();
        } else {
            held.busy.swap_remove(place);
        }
        job
    }

    /// Lets what has waited too long overtake. True when something has.
    pub(super) fn release(&self, courier: &Courier) -> bool {
        if self.is_strict || self.len.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut held = self.hold();
        let mut has_released = false;
        held.busy.retain_mut(|busy| {
            if busy.since.elapsed() <= OVERTAKE_AFTER {
                return true;
            }
            has_released |= !busy.parked.is_empty();
            busy.parked.drain(..).for_each(|job| courier.release(job));
            false
        });
        has_released
    }
}

impl Held<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    pub(super) fn is_busy(&self, socket: &Addressee) -> bool {
        self.busy.iter().any(|busy| busy.socket == *socket)
    }

    /// Leaves a job with the thread that runs its socket's handler.
    pub(super) fn park(&mut self, job: Job) {
        let socket = job.socket();
        if let Some(busy) = self.busy.iter_mut().find(|busy| Some(&busy.socket) == socket) {
            busy.parked.push_back(job);
        }
    }

    pub(super) fn begin(&mut self, worker: usize, socket: Addressee) {
        self.busy.push(Busy { worker, socket, since: Instant::now(), parked: VecDeque::new() });
    }

    /// A thread has lost the lead while it runs the handler of a socket.
    pub(super) fn vacated(
        &mut self,
        worker: usize,
        socket: Option<Addressee>,
        why: Vacated,
        courier: &Courier,
    ) {
        let known = self.busy.iter().position(|busy| busy.worker == worker);
        let may_overtake = why == Vacated::Willingly && !self.order.is_strict;
        match (known, socket) {
            (None, Some(socket)) if !may_overtake => self.begin(worker, socket),
            (Some(known), _) if may_overtake => {
                self.busy.swap_remove(known).parked.into_iter().for_each(|job| courier.release(job));
            }
            _ => {}
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.order.len.store(self.busy.len(), Ordering::Release);
    }
}
