//! User code that has held its shard for too long is named.

use crate::base::log::SOCKETIO;
use crate::shard::Shard;
use std::time::Duration;

impl Shard {
    /// User code was called and is done: `what` names it, if it took too long.
    #[inline]
    pub(crate) fn watched(&self, what: impl FnOnce() -> String) {
        if let Some(held) = self.watch.end() {
            self.tell_held(held, what);
        }
    }

    #[cold]
    fn tell_held(&self, held: Duration, what: impl FnOnce() -> String) {
        self.core.borrow().tables.counters.handlers_slow.add(1);
        if let Some(left_out) = self.watch.take_line() {
            let what = what();
            tracing::warn!(
                target: SOCKETIO,
                ?held,
                left_out,
                "{what} held its shard: meanwhile nobody else there was served. Wait in an asynchronous handler, and leave long \
                 work to a thread"
            );
        }
    }
}
