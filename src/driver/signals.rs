//! SIGTERM and SIGINT end the server cleanly; a second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The exit code of a process that a second signal ends.
const INTERRUPTED: i32 = 130;

/// Whether the next signal ends the process, in the signal's own handler: that works whatever the process waits for.
static ENDS_AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The signals that ask for an end, watched from now on.
pub(crate) struct StopSignals(Signals);

impl StopSignals {
    /// Watches before anything listens: a crowd that takes every descriptor must not find the server half started.
    pub(crate) fn watch() -> Result<StopSignals, String> {
        let fault = |error: std::io::Error| format!("cannot watch for signals: {error}");
        match ENDS_AT_ONCE.get() {
            // A server ran before this one in the same process.
            Some(ends_at_once) => ends_at_once.store(false, Ordering::SeqCst),
            None => {
                let ends_at_once = ENDS_AT_ONCE.get_or_init(Arc::default);
                for signal in [SIGINT, SIGTERM] {
                    flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(ends_at_once))
                        .map_err(fault)?;
                }
            }
        }
        Signals::new([SIGINT, SIGTERM]).map(StopSignals).map_err(fault)
    }

    /// Calls `stop` at the first signal, from a thread of its own; one that came before counts.
    pub(crate) fn on_stop(mut self, stop: impl Fn() + Send + 'static) -> Result<(), String> {
        let wait = move || {
            if self.0.forever().next().is_some() {
                if let Some(ends_at_once) = ENDS_AT_ONCE.get() {
                    ends_at_once.store(true, Ordering::SeqCst);
                }
                // First what was asked for: a program's own subscriber may wait here, or panic, when nobody reads its log.
                stop();
                tracing::info!("stopping; a second signal stops at once");
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
        thread.map(drop).map_err(|error| format!("cannot watch for signals: {error}"))
    }
}
