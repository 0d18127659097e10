//! SIGTERM and SIGINT end the server cleanly; a second one ends the process.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The signals that ask for an end, watched from now on.
pub(crate) struct StopSignals(Signals);

impl StopSignals {
    /// Watches before anything listens: a crowd that takes every descriptor must not find the server half started.
    pub(crate) fn watch() -> Result<StopSignals, String> {
        let signals = Signals::new([SIGINT, SIGTERM]);
        signals.map(StopSignals).map_err(|error| format!("cannot watch for signals: {error}"))
    }

    /// Calls `stop` at the first signal, from a thread of its own; one that came before counts.
    pub(crate) fn on_stop(mut self, stop: impl Fn() + Send + 'static) -> Result<(), String> {
        let wait = move || {
            let mut arrived = self.0.forever();
            if arrived.next().is_some() {
                tracing::info!("stopping; a second signal stops at once");
                stop();
            }
            if arrived.next().is_some() {
                std::process::exit(130);
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
        thread.map(drop).map_err(|error| format!("cannot watch for signals: {error}"))
    }
}
