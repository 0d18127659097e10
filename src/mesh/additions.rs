//! What is registered while the server runs, by every shard: one thing after the other, each in two steps.
//!
//! First every shard makes what it needs, which may fail. Once all have, all take it up; if one could not, all drop it. No inbox
//! holds it. So it reaches a shard whose inbox is full; and a shard looks here before it takes a message, so that it knows what a
//! shard speaks of that has taken it up before.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
// It is held while a few words are written, when something is registered.
#[allow(clippy::disallowed_types)]
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::ids::ShardId;

/// What may wait to be registered, behind what is being registered: a thread that does not wait for the answers, beside a shard that is
/// held up, must not fill the memory.
pub(crate) const ADDITIONS_WAITING_MAX: usize = 1024;

/// What is registered: what it is, the shards know.
#[derive(Clone)]
pub(crate) struct Addition(pub(crate) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Addition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Addition")
    }
}

/// What a shard does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Make,
    TakeUp,
    Drop,
}

/// What comes of it, once all shards have done what there is to do.
pub(crate) type Told = oneshot::Receiver<Result<(), String>>;

type Teller = oneshot::Sender<Result<(), String>>;

/// What is being registered, and what waits for that.
#[allow(clippy::disallowed_types)]
#[derive(Debug, Default)]
pub(crate) struct Additions {
    /// How many steps there were.
    steps: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    current: Option<Current>,
    waiting: VecDeque<(Addition, Teller)>,
}

#[derive(Debug)]
struct Current {
    addition: Addition,
    step: Step,
    /// Those that have not done this step.
    missing: Vec<ShardId>,
    /// Why one could not make it.
    fault: Option<String>,
    teller: Teller,
}

impl Additions {
    /// Has every shard register something, behind what is being registered.
    ///
    /// # Errors
    /// Too much waits already.
    pub(super) fn push(&self, addition: Addition) -> Result<Told, String> {
        let (teller, told) = oneshot::channel();
        let mut queue = self.lock();
        if queue.waiting.len() >= ADDITIONS_WAITING_MAX {
            return Err(format!("{ADDITIONS_WAITING_MAX} wait to be registered, and a shard is held up"));
        }
        queue.waiting.push_back((addition, teller));
        Ok(told)
    }

    /// A shard has done the step that it was given.
    pub(super) fn note_done(&self, shard: ShardId, done: Result<(), String>) {
        if let Some(current) = &mut self.lock().current {
            current.missing.retain(|missing| *missing != shard);
            current.fault = current.fault.take().or(done.err());
        }
    }

    /// Begins the next step, if all shards have done the last. True if there is one to look at.
    pub(super) fn go_on(&self, living: impl Fn() -> Vec<ShardId>) -> bool {
        let mut queue = self.lock();
        let mut is_new = false;
        while queue.current.as_ref().is_none_or(|current| current.missing.is_empty()) {
            let missing = living();
            let nobody = missing.is_empty().then(|| "the server does not run".to_owned());
            queue.current = match queue.current.take() {
                None => {
                    let Some((addition, teller)) = queue.waiting.pop_front() else { break };
                    Some(Current { addition, step: Step::Make, missing, fault: nobody, teller })
                }
                Some(Current { addition, step: Step::Make, fault, teller, .. }) => {
                    let fault = fault.or(nobody);
                    let step = if fault.is_none() { Step::TakeUp } else { Step::Drop };
                    Some(Current { addition, step, missing, fault, teller })
                }
                Some(Current { fault, teller, .. }) => {
                    // Whoever asked may not wait for it any more.
                    let _ = teller.send(fault.map_or(Ok(()), Err));
                    None
                }
            };
            if queue.current.is_some() {
                self.steps.fetch_add(1, Ordering::Release);
                is_new = true;
            }
        }
        is_new
    }

    /// How many steps there were.
    #[inline]
    pub(super) fn count(&self) -> u32 {
        self.steps.load(Ordering::Acquire)
    }

    /// The step now, with how many there were. A shard does each: the next one waits for it.
    pub(super) fn take(&self) -> (u32, Option<(Step, Addition)>) {
        let queue = self.lock();
        let step = queue.current.as_ref().map(|current| (current.step, current.addition.clone()));
        (self.count(), step)
    }

    #[allow(clippy::disallowed_types)]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nobody panics while holding it: what it guards is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
