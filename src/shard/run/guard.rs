//! Where user code is called: nowhere else in a shard.
//!
//! Its panic goes no further, and is counted; what holds the shard for too long is named. Nothing is borrowed while it runs, so it
//! may use everything that it was given: sockets, rooms, emits.

use std::time::Duration;

use crate::base::guard::{Caught, guarded};
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::shard::run::Shard;
use crate::shard::value::error::HandlerError;

impl Shard {
    /// Lets user code `work` with a `subject`; `name` says what it is, for the log.
    ///
    /// # Errors
    /// The panic that ended it.
    #[inline]
    pub(crate) fn call<S, R>(
        &self,
        subject: &mut S,
        work: impl FnOnce(&mut S) -> R,
        name: impl FnOnce(&S) -> String,
    ) -> Result<R, Caught> {
        debug_assert!(self.core.try_borrow_mut().is_ok(), "user code is called while something is borrowed");
        let done = guarded(|| work(subject));
        self.watched(|| name(subject));
        if done.is_err() {
            self.core.borrow().tables.env.counters.handler_panics.add(1);
        }
        done
    }

    /// User code was called and is done: `what` names it, if it took too long.
    #[inline]
    fn watched(&self, what: impl FnOnce() -> String) {
        if let Some(held) = self.watch.end() {
            self.tell_held(held, what);
        }
    }

    #[cold]
    fn tell_held(&self, held: Duration, what: impl FnOnce() -> String) {
        self.core.borrow().tables.env.counters.handlers_slow.add(1);
        if let Some(left_out) = self.watch.take_line() {
            let what = what();
            tracing::warn!(
                target: SOCKETIO,
                ?held,
                left_out,
                "{what} held its shard: the other clients of that shard waited. Wait in an asynchronous handler, and leave long \
                 work to a thread"
            );
        }
    }
}

/// What an error says, for the log. An error of the user's is user code there, too.
pub(crate) fn words(error: &HandlerError) -> String {
    guarded(|| Shown(error).to_string()).unwrap_or_else(|panic| format!("(its text panicked: {panic})"))
}
