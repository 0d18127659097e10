//! SIGTERM ends the server in its time, SIGINT at once; a second one ends the process. SIGHUP has it read its settings again, SIGUSR2 hands it
//! over to a new process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The exit code of a process that a second signal ends.
const INTERRUPTED: i32 = 130;

/// Whether the next signal ends the process, in the signal's own handler: that works whatever the process waits for.
static ENDS_AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM: end in your time.
    Drain,
    /// SIGINT: somebody at a terminal waits.
    Stop,
    /// SIGUSR2: start anew, and hand over.
    HandOver,
    /// SIGHUP: read again what can be.
    Reload,
}

/// The signals that ask for something, watched from now on.
pub(crate) struct WatchedSignals(Signals);

impl WatchedSignals {
    /// Watches before anything listens: a crowd that takes every descriptor must not find the server half started.
    pub(crate) fn watch() -> Result<WatchedSignals, String> {
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
        Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR2]).map(WatchedSignals).map_err(fault)
    }

    /// Calls `heed` at each signal, from a thread of its own; one that came before counts.
    pub(crate) fn listen(mut self, heed: impl Fn(Asked) + Send + 'static) -> Result<(), String> {
        let wait = move || {
            for signal in self.0.forever() {
                let asked = match signal {
                    SIGHUP => Asked::Reload,
                    SIGUSR2 => Asked::HandOver,
                    SIGINT => Asked::Stop,
                    _ => Asked::Drain,
                };
                if matches!(asked, Asked::Reload | Asked::HandOver) {
                    heed(asked);
                    continue;
                }
                if let Some(ends_at_once) = ENDS_AT_ONCE.get() {
                    ends_at_once.store(true, Ordering::SeqCst);
                }
                // First what was asked for: a program's own subscriber may wait here, or panic, when nobody reads its log.
                heed(asked);
                tracing::info!("stopping; a second signal stops at once");
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
        thread.map(drop).map_err(|error| format!("cannot watch for signals: {error}"))
    }
}
