//! SIGTERM and SIGINT end the server cleanly; a second one ends the process.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `stop` at the first signal, from a thread of its own.
pub(crate) fn on_stop(stop: impl Fn() + Send + 'static) -> Result<(), String> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("cannot watch for signals: {error}"))?;
    let watch = move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            tracing::info!("stopping; a second signal stops at once");
            stop();
        }
        if arrived.next().is_some() {
            std::process::exit(130);
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
    thread.map(drop).map_err(|error| format!("cannot watch for signals: {error}"))
}
