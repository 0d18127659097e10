//! The configuration of a running server, and how it came to be. `reload.rs` changes it.

use std::fmt;
use std::sync::{Arc, OnceLock};
// Nobody holds it for longer than a comparison of settings, and no shard for a message.
#[allow(clippy::disallowed_types)]
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Config;

/// Says what of a configuration does not go with what the server has.
pub(crate) type Check = Box<dyn Fn(&Config) -> Result<(), String> + Send + Sync>;

/// The configuration of a running server.
pub(crate) struct Reloads {
    /// As it was at the start.
    pub(super) began: Arc<Config>,
    /// As it had been read, if it was: what differs is the program's own.
    pub(super) read: Option<Config>,
    #[allow(clippy::disallowed_types)]
    running: Mutex<Arc<Config>>,
    /// Known once the server serves.
    check: OnceLock<Check>,
}

impl Reloads {
    pub(crate) fn new(began: Arc<Config>, read: Option<Config>) -> Reloads {
        #[allow(clippy::disallowed_types)]
        let running = Mutex::new(Arc::clone(&began));
        Reloads { began, read, running, check: OnceLock::new() }
    }

    /// The server serves: newer configurations are asked this.
    pub(super) fn check_by(&self, check: Check) {
        // A server starts once.
        let _ = self.check.set(check);
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        self.check.get().map_or(Ok(()), |check| check(config))
    }

    /// The configuration now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock())
    }

    #[allow(clippy::disallowed_types)]
    pub(super) fn lock(&self) -> MutexGuard<'_, Arc<Config>> {
        // Nobody panics while holding it: what it guards is whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reloads").field("began", &self.began).finish_non_exhaustive()
    }
}
