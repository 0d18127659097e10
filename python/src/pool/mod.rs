//! The threads that run handlers. One of them leads, or as many as handlers that wait need.
//!
//! A leader takes jobs in the order in which they came and runs their handlers, keeping the GIL from one to the next. While
//! handlers do not wait there is one leader: handlers start in order, as greenlets do, and threads do not fight for the GIL. A handler
//! that waits gives the lead away: at once in a call of ours (`sleep`, `call`), and elsewhere within two milliseconds, by the
//! [`monitor`]'s doing. Each time it finds one twice as many may lead from then on, so an application whose handlers ask a database
//! soon has a thread for each; a second in which nobody waited halves their number. Without a GIL as many lead as there are cores.
//!
//! [`order`] keeps the events of one socket from overtaking each other.

mod monitor;
mod order;
mod seats;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::prelude::*;
use shardcast::{Addressee, Handle, Post};

use crate::courier::{Courier, lock};
use crate::front::Front;
use crate::job::Job;
use order::Order;
use seats::Seats;

/// Answers that gather before they are sent.
const POST_MAX: usize = 16;

/// Threads that are there before anybody waits.
const THREADS_FIRST: usize = 2;

/// How long a thread waits before it tries again to send to a shard whose inbox is full.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// One thread, as others see it.
pub(crate) struct Worker {
    number: usize,
    leads: AtomicBool,
    is_running: AtomicBool,
    /// Jobs that it has begun.
    jobs: AtomicU64,
    /// The socket whose handler it runs.
    socket: Mutex<Option<Addressee>>,
    post: Arc<Mutex<Post>>,
    thread: rustix::thread::Pid,
    /// The monitor's: how many jobs had begun when it last looked, and how often that was the same.
    seen: AtomicU64,
    same: AtomicU64,
}

/// The threads of one server.
pub(crate) struct Pool {
    pub(crate) courier: Arc<Courier>,
    front: Arc<Front>,
    handle: Handle,
    order: Order,
    seats: Seats,
    workers: AtomicUsize,
}

thread_local! {
    /// What this thread is in a pool, and the answers that it has not sent.
    static SEAT: RefCell<Option<Seat>> = const { RefCell::new(None) };
}

type Seat = (Arc<Mutex<Post>>, Option<Arc<Worker>>);

/// How a pool is to be.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) threads_max: usize,
    /// How many may lead when nobody waits.
    pub(crate) leaders_min: usize,
    /// A socket's events never overtake each other, even if its handler waits.
    pub(crate) is_ordered: bool,
}

impl Pool {
    pub(crate) fn new(courier: Arc<Courier>, front: Arc<Front>, handle: Handle, shape: Shape) -> Arc<Pool> {
        Arc::new(Pool {
            courier,
            front,
            handle,
            order: Order::new(shape.is_ordered),
            seats: Seats::new(shape.leaders_min, shape.threads_max),
            workers: AtomicUsize::new(0),
        })
    }

    /// Starts the threads.
    pub(crate) fn start(self: &Arc<Pool>) -> std::io::Result<()> {
        for _ in 0..THREADS_FIRST.max(self.seats.leaders_min()) {
            self.seats.count_thread();
            self.spawn()?;
        }
        let pool = Arc::clone(self);
        std::thread::Builder::new().name("flask-monitor".to_owned()).spawn(move || pool.monitor())?;
        Ok(())
    }

    fn spawn(self: &Arc<Pool>) -> std::io::Result<()> {
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name("flask-handlers".to_owned());
        // A thread that Python knows keeps its state from one handler to the next.
        thread.spawn(move || Python::attach(|py| pool.work(py)))?;
        Ok(())
    }

    /// One thread's life.
    fn work(self: Arc<Pool>, py: Python<'_>) {
        let post = Arc::new(Mutex::new(self.handle.post()));
        let worker = Arc::new(Worker {
            number: self.workers.fetch_add(1, Ordering::Relaxed),
            leads: AtomicBool::new(false),
            is_running: AtomicBool::new(false),
            jobs: AtomicU64::new(0),
            socket: Mutex::new(None),
            post: Arc::clone(&post),
            thread: rustix::thread::gettid(),
            seen: AtomicU64::new(u64::MAX),
            same: AtomicU64::new(0),
        });
        SEAT.set(Some((Arc::clone(&post), Some(Arc::clone(&worker)))));
        while py.detach(|| self.seats.take(&worker, &self.courier)) {
            self.lead(py, &worker, &post);
            send(py, &post);
        }
        SEAT.set(None);
    }

    /// Runs handlers until the lead is somebody else's.
    fn lead(self: &Arc<Pool>, py: Python<'_>, worker: &Arc<Worker>, post: &Mutex<Post>) {
        let mut gathered = 0;
        while worker.leads.load(Ordering::Acquire) && !self.courier.is_stopped() {
            let Some((job, is_shared)) = self.next(worker) else {
                send(py, post);
                gathered = 0;
                if self.seats.leave_if_too_many(worker) {
                    return;
                }
                py.detach(|| self.courier.sleep());
                continue;
            };
            if is_shared && self.courier.has_work() {
                self.courier.ring();
            }
            worker.is_running.store(true, Ordering::Relaxed);
            gathered += self.run(py, worker, post, job);
            // The lead may have been taken meanwhile, and jobs of this socket been left here.
            if is_shared || !worker.leads.load(Ordering::Acquire) {
                while let Some(job) = self.order.next_parked(worker.number) {
                    gathered += self.run(py, worker, post, job);
                }
            }
            worker.is_running.store(false, Ordering::Relaxed);
            if gathered >= POST_MAX {
                send(py, post);
                gathered = 0;
            }
        }
    }

    fn run(&self, py: Python<'_>, worker: &Worker, post: &Mutex<Post>, job: Job) -> usize {
        worker.jobs.fetch_add(1, Ordering::Relaxed);
        self.front.run(py, job, post);
        1
    }

    /// The next job that this leader may run, and whether others lead too. What a running handler of the same socket holds up is left
    /// with that handler's thread.
    fn next(&self, worker: &Worker) -> Option<(Job, bool)> {
        // Held from taking a job to saying whose it is, or another leader would take the socket's next one first.
        let mut held = self.order.hold();
        if !worker.leads.load(Ordering::Acquire) {
            return None;
        }
        let is_shared = self.seats.is_shared();
        loop {
            let job = self.courier.take()?;
            let Some(socket) = job.socket() else {
                *lock(&worker.socket) = None;
                return Some((job, is_shared));
            };
            if (is_shared || !held.is_empty()) && held.is_busy(socket) {
                held.park(job);
                continue;
            }
            if is_shared {
                held.begin(worker.number, socket.clone());
            }
            *lock(&worker.socket) = Some(socket.clone());
            return Some((job, is_shared));
        }
    }

    /// Takes the lead from who has it, for the next thread of the pool.
    fn vacate(self: &Arc<Pool>, worker: &Arc<Worker>, why: Vacated) {
        let wanted = {
            // Over both steps: whoever has lost the lead looks there next.
            let mut held = self.order.hold();
            let Some(wanted) = self.seats.vacate(worker, matches!(why, Vacated::Slept)) else { return };
            held.vacated(worker.number, lock(&worker.socket).clone(), why, &self.courier);
            wanted
        };
        push_out(&worker.post);
        self.seats.call();
        for _ in 0..wanted {
            if let Err(error) = self.spawn() {
                tracing::warn!(%error, "no further thread for handlers could be started");
                self.seats.uncount_thread();
            }
        }
    }

    /// The calling handler is about to wait.
    pub(crate) fn about_to_block(self: &Arc<Pool>) {
        push_out_own();
        let worker = SEAT.with_borrow(|seat| seat.as_ref().and_then(|(_, worker)| worker.clone()));
        if let Some(worker) = worker {
            self.vacate(&worker, Vacated::Willingly);
        }
    }
}

/// Why somebody has lost the lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vacated {
    /// It said that it will wait.
    Willingly,
    /// The monitor found it asleep.
    Slept,
    /// The monitor found it computing for long.
    Computes,
}

/// From now on this thread gathers its answers in a post, though it is in no pool.
pub(crate) fn sit(post: &Arc<Mutex<Post>>) {
    SEAT.with_borrow_mut(|seat| {
        if seat.is_none() {
            *seat = Some((Arc::clone(post), None));
        }
    });
}

/// This thread gathers nothing any more.
pub(crate) fn rise() {
    SEAT.set(None);
}

/// The answers that this thread gathers, if it runs handlers.
pub(crate) fn own_post() -> Option<Arc<Mutex<Post>>> {
    SEAT.with_borrow(|seat| seat.as_ref().map(|(post, _)| Arc::clone(post)))
}

/// Whether this thread runs a handler that others have overtaken: nobody else sends what it gathers, so it goes at once.
pub(crate) fn is_overtaken() -> bool {
    SEAT.with_borrow(|seat| match seat {
        Some((_, Some(worker))) => !worker.leads.load(Ordering::Acquire),
        _ => false,
    })
}

/// Sends what this thread has gathered, as far as there is room for it.
fn push_out_own() {
    if let Some(post) = own_post() {
        push_out(&post);
    }
}

/// Sends what was gathered. A shard whose inbox is full is waited for, without the GIL.
pub(crate) fn send(py: Python<'_>, post: &Mutex<Post>) {
    if push_out(post) {
        return;
    }
    py.detach(|| {
        while !push_out(post) {
            std::thread::sleep(RETRY_AFTER);
        }
    });
}

/// Sends what was gathered; false when there was no room for all of it.
pub(crate) fn push_out(post: &Mutex<Post>) -> bool {
    let mut post = lock(post);
    post.is_empty() || post.send()
}
