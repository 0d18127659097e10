//! Who leads, who waits for it, and how many may.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{THREADS_FIRST, Worker};
use crate::courier::{Courier, lock};

/// Threads that have waited for the lead for longer end, but for the first.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A thread that waits looks this often whether it was to end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Table {
    leaders: Vec<Arc<Worker>>,
    idle: usize,
    threads: usize,
}

pub(super) struct Seats {
    table: Mutex<Table>,
    vacated: Condvar,
    /// How many may lead, and how many do: to be read without the lock.
    leaders_max: AtomicUsize,
    leading: AtomicUsize,
    leaders_min: usize,
    threads_max: usize,
}

impl Seats {
    pub(super) fn new(leaders_min: usize, threads_max: usize) -> Seats {
        Seats {
            table: Mutex::default(),
            vacated: Condvar::new(),
            leaders_max: AtomicUsize::new(leaders_min),
            leading: AtomicUsize::new(0),
            leaders_min,
            threads_max,
        }
    }

    pub(super) fn leaders_min(&self) -> usize {
        self.leaders_min
    }

    pub(super) fn leaders(&self) -> Vec<Arc<Worker>> {
        lock(&self.table).leaders.clone()
    }

    pub(super) fn count_thread(&self) {
        lock(&self.table).threads += 1;
    }

    pub(super) fn uncount_thread(&self) {
        lock(&self.table).threads -= 1;
    }

    /// Whether others than the one who asks lead, or may.
    pub(super) fn is_shared(&self) -> bool {
        self.leaders_max.load(Ordering::Relaxed) > 1 || self.leading.load(Ordering::Relaxed) > 1
    }

    pub(super) fn may_be_shared(&self) -> bool {
        self.leaders_max.load(Ordering::Relaxed) > self.leaders_min
    }

    /// Nobody has waited for a while: fewer need to lead.
    pub(super) fn halve(&self) {
        let max = self.leaders_max.load(Ordering::Relaxed);
        self.leaders_max.store((max / 2).max(self.leaders_min), Ordering::Relaxed);
    }

    /// Waits until a thread may lead. False when it is to end. Not with the GIL.
    pub(super) fn take(&self, worker: &Arc<Worker>, courier: &Courier) -> bool {
        let since = Instant::now();
        let mut table = lock(&self.table);
        table.idle += 1;
        while table.leaders.len() >= self.leaders_max.load(Ordering::Relaxed) {
            let first = THREADS_FIRST.max(self.leaders_min);
            let is_spare = since.elapsed() > IDLE_MAX && table.threads > first;
            if courier.is_stopped() || is_spare {
                table.idle -= 1;
                table.threads -= 1;
                return false;
            }
            table = self.vacated.wait_timeout(table, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        table.idle -= 1;
        if courier.is_stopped() {
            table.threads -= 1;
            return false;
        }
        worker.leads.store(true, Ordering::Release);
        table.leaders.push(Arc::clone(worker));
        self.leading.store(table.leaders.len(), Ordering::Relaxed);
        true
    }

    /// Leaves the lead when more lead than may. True when it has.
    pub(super) fn leave_if_too_many(&self, worker: &Worker) -> bool {
        let mut table = lock(&self.table);
        let is_one_too_many = table.leaders.len() > self.leaders_max.load(Ordering::Relaxed);
        if is_one_too_many {
            self.remove(&mut table, worker);
        }
        is_one_too_many
    }

    /// Takes the lead from a thread, and returns how many threads are to be started, which are counted already; nothing when it has
    /// not led. If it slept, twice as many may lead from now on.
    pub(super) fn vacate(&self, worker: &Worker, has_slept: bool) -> Option<usize> {
        let mut table = lock(&self.table);
        if !self.remove(&mut table, worker) {
            return None;
        }
        if has_slept {
            let max = self.leaders_max.load(Ordering::Relaxed);
            self.leaders_max.store((max * 2).min(self.threads_max), Ordering::Relaxed);
        }
        let seats = self.leaders_max.load(Ordering::Relaxed).saturating_sub(table.leaders.len());
        let wanted = seats.saturating_sub(table.idle).min(self.threads_max.saturating_sub(table.threads));
        table.threads += wanted;
        Some(wanted)
    }

    /// Tells those who wait that there is a seat.
    pub(super) fn call(&self) {
        self.vacated.notify_all();
    }

    fn remove(&self, table: &mut Table, worker: &Worker) -> bool {
        let Some(place) = table.leaders.iter().position(|leader| leader.number == worker.number) else {
            return false;
        };
        table.leaders.swap_remove(place);
        self.leading.store(table.leaders.len(), Ordering::Relaxed);
        worker.leads.store(false, Ordering::Release);
        true
    }
}
