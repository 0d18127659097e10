//! The progress bar on standard error: nothing when it is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One bar for the whole run.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that shows sessions, until [`Progress::show_traffic`].
    pub(super) fn new(sessions: u32) -> Self {
        let bar = ProgressBar::with_draw_target(Some(u64::from(sessions)), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix:>8} [{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix("connect");
        Self { bar }
    }

    /// So many sessions are open.
    pub(super) fn show_sessions(&self, open: u32, all: u32) {
        self.bar.set_position(u64::from(open));
        self.bar.set_message(format!("{open} of {all} sessions"));
    }

    /// So far is the measurement.
    pub(super) fn show_traffic(&self, phase: &'static str, elapsed: Duration, whole: Duration, rate: f64) {
        self.bar.set_prefix(phase);
        self.bar.set_length(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX).max(1));
        self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_message(format!(
            "{:.1} of {:.1} s, {rate:.0}/s",
            elapsed.as_secs_f64(),
            whole.as_secs_f64()
        ));
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
