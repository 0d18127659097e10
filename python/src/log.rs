//! What the core logs, on its way to Python's `logging`.
//!
//! A shard never waits for Python: its lines go into a bounded queue, and a thread of Python's takes them out (`_log.py`). What does
//! not fit is counted, and the count is a line of its own.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::courier::lock;

/// Lines that may wait.
const LINES_MAX: usize = 4096;

/// Whoever takes lines looks this often whether Python wants to end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Level, target and text.
type Line = (&'static str, String, String);

struct Lines {
    queue: ArrayQueue<Line>,
    lost: AtomicU64,
    bell: Mutex<()>,
    rung: Condvar,
}

fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| Lines {
        queue: ArrayQueue::new(LINES_MAX),
        lost: AtomicU64::new(0),
        bell: Mutex::new(()),
        rung: Condvar::new(),
    })
}

/// Has everything logged that a filter lets through, such as `info,shardcast::socketio=debug`. The first of a process counts.
pub(crate) fn init(filter: &str) {
    let targets: Targets =
        filter.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let subscriber = tracing_subscriber::registry().with(Forward.with_filter(targets));
    // A later server of the process is logged as the first one is.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Forward;

impl<S: Subscriber> Layer<S> for Forward {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let line = (metadata.level().as_str(), metadata.target().to_owned(), text.message + &text.fields);
        let lines = lines();
        if lines.queue.push(line).is_err() {
            lines.lost.fetch_add(1, Ordering::Relaxed);
        }
        lines.rung.notify_one();
    }
}

/// A line as people read it: the message, then the fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}

/// The next line: its level, target and text. Waits for it, without the GIL.
#[pyfunction]
pub(crate) fn next_line(py: Python<'_>) -> PyResult<Line> {
    let lines = lines();
    loop {
        let lost = lines.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            return Ok(("WARN", "shardcast".to_owned(), format!("{lost} lines of the log were left out")));
        }
        if let Some(line) = lines.queue.pop() {
            return Ok(line);
        }
        py.detach(|| {
            let guard = lock(&lines.bell);
            if lines.queue.is_empty() {
                drop(lines.rung.wait_timeout(guard, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner));
            }
        });
        py.check_signals()?;
    }
}
