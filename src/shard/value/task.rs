//! Asynchronous handlers and background tasks: futures that this shard polls.
//!
//! A task needs no particular runtime: its waker puts the task's key into the shard's inbox, from whichever
//! thread. Time comes from the shard (`sleep`), so a simulation's clock is a task's clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::base::ids::ShardId;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::mesh::Mesh;

/// A future that stays on its shard.
pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A future and whom it holds up.
pub(crate) struct Task {
    /// Absent while it is being polled.
    pub(crate) future: Option<LocalFuture>,
    pub(crate) owner: TaskOwner,
    /// The client's, if it is a handler's: counted in [`Session::tasks`](crate::shard::value::session::Session).
    pub(crate) session: Option<Key>,
    pub(crate) waker: Option<Waker>,
    pub(crate) wake: Arc<TaskWake>,
    /// The handler whose rest it is, if that is timed.
    pub(crate) timed: Option<Timed>,
}

/// A handler that is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// When it was called, in nanoseconds of the process' clock.
    pub(crate) began: u64,
    /// The place of its namespace's handlers.
    pub(crate) setup: usize,
}

/// Who waits for a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TaskOwner {
    Nobody,
    /// A client waits to be let in.
    Connect(Key),
    /// The rooms of a socket that has ended are kept.
    Disconnect(Key),
    /// A socket's events wait until its handler is done.
    Handler(Key, EventName),
    /// A request waits for its answer, or for more of it.
    Route(Key),
    /// A socket's handler runs beside its later events.
    Beside(Key, EventName),
}

impl TaskOwner {
    /// Names the task in the log.
    pub(crate) fn describe(&self) -> String {
        match self {
            TaskOwner::Nobody => "a background task".to_owned(),
            TaskOwner::Route(_) => "an asynchronous route".to_owned(),
            TaskOwner::Connect(_) => "an asynchronous connect handler".to_owned(),
            TaskOwner::Disconnect(_) => "an asynchronous disconnect handler".to_owned(),
            TaskOwner::Handler(_, event) | TaskOwner::Beside(_, event) => {
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

pub(crate) struct TaskWake {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) shard: ShardId,
    /// Set once, right after the task got its key.
    pub(crate) key: std::sync::OnceLock<Key>,
    pub(crate) is_woken: AtomicBool,
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
