//! Futures are polled, and what they own ends with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as PollContext, Poll, Waker};

use crate::base::guard::discard;
use crate::base::log::SOCKETIO;
use crate::base::slab::Key;
use crate::shard::core::lives::REFUSED;
use crate::shard::run::Shard;
use crate::shard::value::error::Refused;
use crate::shard::value::task::{LocalFuture, Task, TaskOwner, TaskWake, Timed};

impl Shard {
    /// Wakes everybody whose time has come.
    pub(crate) fn wake_sleepers(&mut self) {
        loop {
            // The waker may be the user's own code.
            let woken = {
                let mut core = self.core.borrow_mut();
                let now = core.tables.env.now;
                core.sleeps.wake(now)
            };
            let Some(waker) = woken else { return };
            let done =
                self.call(&mut (), |()| waker.map(Waker::wake), |()| "the waker of a sleeper".to_owned());
            if let Err(panic) = done {
                tracing::error!(message = %panic, "the waker of a sleeper panicked");
            }
        }
    }

    /// Starts a future; it runs until it first waits before this returns.
    pub(crate) fn start_task(&mut self, future: LocalFuture, owner: TaskOwner) {
        self.start_timed(future, owner, None);
    }

    /// The same for the rest of a handler, which may be timed.
    pub(crate) fn start_timed(&mut self, future: LocalFuture, owner: TaskOwner, timed: Option<Timed>) {
        let session = self.core.borrow().tables.session_of(owner);
        if let Some(session) = session
            && !self.core.borrow_mut().tables.count_task(session, owner)
        {
            discard(future);
            return self.break_session(
                session,
                "the client left and joined again while more of its asynchronous handlers ran than HANDLERS_LEFT_MAX",
            );
        }
        let key = {
            let mut core = self.core.borrow_mut();
            let wake = Arc::new(TaskWake {
                mesh: Arc::clone(&core.tables.mesh),
                shard: core.tables.env.id,
                key: std::sync::OnceLock::new(),
                is_woken: AtomicBool::new(false),
            });
            let waker = Waker::from(Arc::clone(&wake));
            let (future, waker, own_wake) = (Some(future), Some(waker), Arc::clone(&wake));
            let task = Task { future, owner, session, waker, wake: own_wake, timed };
            let key = core.tasks.insert(task);
            if let TaskOwner::Route(route) = owner
                && let Some(entry) = core.tables.routes.entries.get_mut(route)
            {
                entry.task = Some(key);
            }
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
        let polled = self.call(&mut future, |future| future.as_mut().poll(&mut cx), |_| owner.describe());
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
                    TaskOwner::Handler(socket, _) | TaskOwner::Beside(socket, _) => {
                        self.handler_panicked(socket, "(asynchronous handler)", &panic);
                    }
                    TaskOwner::Connect(socket) => {
                        tracing::error!(target: SOCKETIO, message = %panic, "a connect handler panicked; the client is refused");
                        self.decide(socket, Err(Refused::new(REFUSED)));
                    }
                    TaskOwner::Disconnect(_) => {
                        tracing::error!(target: SOCKETIO, message = %panic, "a disconnect handler panicked");
                    }
                    TaskOwner::Route(route) => self.route_panicked(route, &panic),
                    TaskOwner::Nobody => {
                        tracing::error!(message = %panic, "a background task panicked");
                    }
                }
                self.finish_task(key, owner);
            }
        }
    }

    fn finish_task(&mut self, key: Key, owner: TaskOwner) {
        let mut core = self.core.borrow_mut();
        let task = core.tasks.remove(key);
        if let Some(Timed { began, setup }) = task.as_ref().and_then(|task| task.timed)
            && let Some(namespace) = core.tables.meters().namespace(setup as u16)
        {
            namespace.handler_async.record_nanos((self.stopwatch)().saturating_sub(began));
        }
        let session = task.and_then(|task| task.session);
        if let Some(session) = session.and_then(|session| core.tables.sessions.get_mut(session)) {
            session.tasks -= 1;
        }
        if let TaskOwner::Handler(socket, _) = owner {
            if let Some(socket) = core.tables.sockets.get_mut(socket) {
                socket.is_busy = false;
            }
            drop(core);
            self.run_waiting(socket);
        } else if let TaskOwner::Beside(socket, _) = owner {
            core.tables.count_concurrent(socket, false);
        } else if let TaskOwner::Disconnect(socket) = owner {
            core.let_go(socket);
        }
    }
}
