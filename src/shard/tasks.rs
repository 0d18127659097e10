//! Asynchronous handlers and background tasks: futures that this shard polls.
//!
//! A task needs no particular runtime: its waker puts the task's key into the shard's inbox, from whichever
//! thread. Time comes from the shard (`sleep`), so a simulation's clock is a task's clock.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as PollContext, Poll, Wake, Waker};

use crate::base::guard::{discard, guarded};
use crate::base::ids::ShardId;
use crate::base::limits::HANDLERS_LEFT_MAX;
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::mesh::Mesh;
use crate::shard::Shard;
use crate::shard::app::{LocalFuture, Refused};
use crate::shard::connect::REFUSED;
use crate::shard::core::{Core, SharedCore};

thread_local! {
    /// The shard that is at work on this thread.
    static CURRENT: RefCell<Option<SharedCore>> = const { RefCell::new(None) };
}

/// A future and whom it holds up.
pub(crate) struct Task {
    /// Absent while it is being polled.
    future: Option<LocalFuture>,
    owner: TaskOwner,
    /// The client's, if it is a handler's: counted in [`Session::tasks`](crate::shard::session::Session).
    session: Option<Key>,
    waker: Option<Waker>,
    wake: Arc<TaskWake>,
}

/// Who waits for a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TaskOwner {
    Nobody,
    /// A client waits to be let in.
    Connect(Key),
    /// A socket's events wait until its handler is done.
    Handler(Key, EventName),
}

impl TaskOwner {
    /// Names the task in the log.
    fn describe(&self) -> String {
        match self {
            TaskOwner::Nobody => "a background task".to_owned(),
            TaskOwner::Connect(_) => "an asynchronous connect handler".to_owned(),
            TaskOwner::Handler(_, event) => {
                format!("the asynchronous handler of event {:?}", Shown(event.as_str()))
            }
        }
    }
}

/// Of an event's name so much is kept.
const EVENT_NAME_BYTES: usize = 31;

/// The beginning of an event's name, kept for the log without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventName {
    len: u8,
    bytes: [u8; EVENT_NAME_BYTES],
}

impl EventName {
    pub(crate) fn of(name: &str) -> EventName {
        let mut len = name.len().min(EVENT_NAME_BYTES);
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; EVENT_NAME_BYTES];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        EventName { len: len as u8, bytes }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

struct TaskWake {
    mesh: Arc<Mesh>,
    shard: ShardId,
    /// Set once, right after the task got its key.
    key: std::sync::OnceLock<Key>,
    is_woken: AtomicBool,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(key) = self.key.get()
            && !self.is_woken.swap(true, Ordering::AcqRel)
        {
            self.mesh.wake(self.shard, *key);
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Task").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Shard {
    /// Starts a future; it runs until it first waits before this returns.
    pub(crate) fn start_task(&mut self, future: LocalFuture, owner: TaskOwner) {
        let session = self.core.borrow().session_of(owner);
        if let Some(session) = session
            && !self.core.borrow_mut().count_task(session)
        {
            discard(future);
            return self.break_session(
                session,
                "the client left and joined again while more of its asynchronous handlers ran than HANDLERS_LEFT_MAX",
            );
        }
        let key = {
            let mut core = self.core.borrow_mut();
            if let TaskOwner::Handler(socket, _) = owner
                && let Some(socket) = core.sockets.get_mut(socket)
            {
                socket.is_busy = true;
            }
            let wake = Arc::new(TaskWake {
                mesh: Arc::clone(&core.mesh),
                shard: core.id,
                key: std::sync::OnceLock::new(),
                is_woken: AtomicBool::new(false),
            });
            let waker = Waker::from(Arc::clone(&wake));
            let task =
                Task { future: Some(future), owner, session, waker: Some(waker), wake: Arc::clone(&wake) };
            let key = core.tasks.insert(task);
            wake.key.set(key).expect("the key is set once");
            key
        };
        self.run_task(key);
    }

    /// Lets a task go on.
    pub(crate) fn run_task(&mut self, key: Key) {
        let taken = {
            let mut core = self.core.borrow_mut();
            core.tasks.get_mut(key).and_then(|task| {
                task.wake.is_woken.store(false, Ordering::Release);
                Some((task.future.take()?, task.waker.clone()?, task.owner))
            })
        };
        let Some((mut future, waker, owner)) = taken else { return };
        let mut cx = PollContext::from_waker(&waker);
        let polled = guarded(|| future.as_mut().poll(&mut cx));
        self.watched(|| owner.describe());
        match polled {
            Ok(Poll::Pending) => {
                let mut future = Some(future);
                if let Some(task) = self.core.borrow_mut().tasks.get_mut(key) {
                    task.future = future.take();
                }
                discard(future);
            }
            Ok(Poll::Ready(())) => {
                discard(future);
                self.finish_task(key, owner);
            }
            Err(panic) => {
                discard(future);
                match owner {
                    TaskOwner::Handler(socket, _) => {
                        self.handler_panicked(socket, "(asynchronous handler)", &panic);
                    }
                    TaskOwner::Connect(socket) => {
                        tracing::error!(target: SOCKETIO, message = %panic, "a connect handler panicked; the client is refused");
                        self.core.borrow().counters.handler_panics.add(1);
                        self.decide(socket, Err(Refused::new(REFUSED)));
                    }
                    TaskOwner::Nobody => {
                        tracing::error!(message = %panic, "a background task panicked");
                        self.core.borrow().counters.handler_panics.add(1);
                    }
                }
                self.finish_task(key, owner);
            }
        }
    }

    fn finish_task(&mut self, key: Key, owner: TaskOwner) {
        let mut core = self.core.borrow_mut();
        let session = core.tasks.remove(key).and_then(|task| task.session);
        if let Some(session) = session.and_then(|session| core.sessions.get_mut(session)) {
            session.tasks -= 1;
        }
        if let TaskOwner::Handler(socket, _) = owner {
            if let Some(socket) = core.sockets.get_mut(socket) {
                socket.is_busy = false;
            }
            drop(core);
            self.run_waiting(socket);
        }
    }
}

impl Core {
    /// Whose handler a task is.
    fn session_of(&self, owner: TaskOwner) -> Option<Key> {
        match owner {
            TaskOwner::Nobody => None,
            TaskOwner::Connect(socket) | TaskOwner::Handler(socket, _) => {
                self.sockets.get(socket).map(|socket| socket.session)
            }
        }
    }

    /// Counts one more handler of a session. False when too many run for sockets that it has left.
    fn count_task(&mut self, session: Key) -> bool {
        let Some(session) = self.sessions.get_mut(session) else { return true };
        let is_fine = (session.tasks as usize) < session.sockets.len() + HANDLERS_LEFT_MAX;
        session.tasks += u32::from(is_fine);
        is_fine
    }
}

/// Runs a future in the background on the current shard, like Flask-SocketIO's `start_background_task`.
///
/// # Panics
/// Outside a shard's handlers and tasks: there is no shard to run it.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let core = current().expect("spawn is called within a handler or task of a server");
    core.borrow_mut().deferred.push(crate::shard::core::Deferred::Start(Box::pin(future)));
}

/// The shard that is at work on this thread.
pub(crate) fn current() -> Option<SharedCore> {
    CURRENT.with_borrow(Option::clone)
}

/// Makes `core` the shard of whatever runs inside `run`, so that handlers can `spawn`.
pub(crate) fn with_current<R>(core: &SharedCore, run: impl FnOnce() -> R) -> R {
    let previous = CURRENT.replace(Some(SharedCore::clone(core)));
    let result = run();
    CURRENT.set(previous);
    result
}
