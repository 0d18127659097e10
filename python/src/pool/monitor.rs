//! Looks every millisecond whether a leader's handler waits, while others have something to do.
//!
//! A leader that has been in one job for a whole period, and whose thread sleeps, waits for something: the kernel says so
//! (`/proc/self/task/ID/stat`). One that was merely preempted does not sleep; without that test the pool would grow for nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Pool, Vacated, Worker, push_out};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(1);

/// How often while nothing runs.
const PERIOD_IDLE: Duration = Duration::from_millis(4);

/// A handler that computes for this many periods shares the GIL with others from then on.
const LONG_PERIODS: u64 = 20;

/// After so long without a handler that waited, half as many threads lead.
const CALM_AFTER: Duration = Duration::from_secs(1);

impl Worker {
    /// Whether its thread sleeps: in a system call, or for the GIL. One that computes, or would if there were a core for it, does not.
    fn sleeps(&self) -> bool {
        let path = format!("/proc/self/task/{}/stat", self.thread.as_raw_nonzero());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('R'))
    }

    /// In how many periods, this one included, it has been in the same job.
    fn periods(&self) -> u64 {
        let jobs = self.jobs.load(Ordering::Relaxed);
        if !self.is_running.load(Ordering::Relaxed) || self.seen.swap(jobs, Ordering::Relaxed) != jobs {
            self.same.store(0, Ordering::Relaxed);
            return 0;
        }
        self.same.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Pool {
    /// Until the server stops.
    pub(super) fn monitor(self: Arc<Pool>) {
        let mut waited_at = Instant::now();
        while !self.courier.is_stopped() {
            let is_any_running = self.look(&mut waited_at);
            if self.order.release(&self.courier) {
                self.courier.ring();
            }
            if self.seats.may_be_shared() && waited_at.elapsed() > CALM_AFTER {
                self.seats.halve();
                waited_at = Instant::now();
            }
            std::thread::sleep(if is_any_running || self.seats.is_shared() { PERIOD } else { PERIOD_IDLE });
        }
    }

    fn look(self: &Arc<Pool>, waited_at: &mut Instant) -> bool {
        let mut is_any_running = false;
        for leader in self.seats.leaders() {
            is_any_running |= leader.is_running.load(Ordering::Relaxed);
            let periods = leader.periods();
            if periods == 0 {
                continue;
            }
            let is_wanted = self.courier.has_work() && !self.courier.has_sleepers();
            if is_wanted && leader.sleeps() {
                *waited_at = Instant::now();
                self.vacate(&leader, Vacated::Slept);
            } else if is_wanted && periods > LONG_PERIODS {
                self.vacate(&leader, Vacated::Computes);
            } else {
                // Somebody may wait for an answer that lies in the post.
                push_out(&leader.post);
            }
        }
        is_any_running
    }
}
