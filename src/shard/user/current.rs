//! The shard that this thread is working on: what `spawn` and `sleep` ask.

use std::cell::RefCell;
use std::future::Future;

use crate::shard::core::SharedCore;

thread_local! {
    /// The shard that is at work on this thread.
    static CURRENT: RefCell<Option<SharedCore>> = const { RefCell::new(None) };
}

/// Runs a future in the background on the current shard, like Flask-SocketIO's `start_background_task`.
///
/// # Panics
/// Outside a shard's handlers and tasks: there is no shard to run it.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let core = current().expect("spawn is called within a handler or task of a server");
    core.borrow_mut()
        .tables
        .effects
        .deferred
        .push(crate::shard::value::effect::Deferred::Start(Box::pin(future)));
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
