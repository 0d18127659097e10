//! The log of a process that brings no subscriber of its own: lines on standard error.
//!
//! Saying a line never panics and never waits, whatever becomes of whoever reads them. `lines` queues lines and writes them on a
//! thread of its own; `rate` leaves lines out of which there are too many of one kind.

mod lines;
mod rate;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::base::shown::Shown;
use crate::config::Config;
use crate::config::log_filter::LogFilter;
use crate::server::{Error, Result};
use lines::Lines;
use rate::{KindRates, RateLayer};

/// What the log keeps at most.
pub(crate) const KEPT_BYTES: usize = lines::LINES_BYTES + rate::KINDS_BYTES;

/// How long [`flush`] waits for a reader: longer would be felt when a server stops.
pub(crate) const FLUSH_PATIENCE: Duration = Duration::from_millis(250);

/// What shards' threads are called; their panics are caught, and the process goes on.
const SHARD_THREAD: &str = "shard-";

/// Clients of brokers. What matters of what they say the bus says in its own words; `log = "info,async_nats=debug"` shows the rest.
const CLIENTS: [&str; 4] = ["async_nats", "lapin", "redis", "rskafka"];

static LOG: OnceLock<Log> = OnceLock::new();

/// The log of this process.
struct Log {
    lines: Lines,
    rates: Arc<KindRates>,
    /// Says which lines are written from now on.
    filter: Box<dyn Fn(Targets) -> std::result::Result<(), reload::Error> + Send + Sync>,
}

/// The bucket of backtraces: each is many lines.
static BACKTRACES: AtomicU64 = AtomicU64::new(0);

/// Writes the log of this process to standard error, as the configuration's `log`, `socketio_log`, `engineio_log` and `log_rate`
/// say. [`Server::run`](crate::Server::run) does it by itself in a process that has no subscriber of `tracing`; call it
/// before [`Server::start`](crate::Server::start), or to have the log from the first line on.
///
/// No line is worth more than the server: lines wait in a bounded queue for a thread that writes them. When whoever reads them
/// is too slow or gone, lines are lost and counted, and the log says how many as soon as it can. Of one kind of line, at
/// most `log_rate` a second are written (ten times that at once); a line says how many were left out. Only a terminal gets
/// colours, and only without `NO_COLOR`. Panics on the shards' threads become lines of the log; a panic hook of your own is
/// set after this call.
///
/// ```
/// let config = shardcast::Config { log: "info,my_app=debug".into(), ..Default::default() };
/// shardcast::log::init(&config)?;
/// tracing::info!("ready");
/// # Ok::<(), shardcast::Error>(())
/// ```
///
/// # Errors
/// A filter that cannot be read; a subscriber that is there already.
pub fn init(config: &Config) -> Result<()> {
    config.check_log().map_err(Error::new)?;
    let targets = targets(config)?;
    if tracing::dispatcher::has_been_set() {
        return Err(Error::new(
            "the log has a subscriber already; shardcast::log::init comes first, or not at all",
        ));
    }
    let is_coloured =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let rates = Arc::new(KindRates::new(config.log_rate));
    let lines = Lines::start(Arc::clone(&rates), is_coloured)
        .map_err(|error| Error::new(format!("no thread for the log: {error}")))?;
    let (targets, filter) = reload::Layer::new(targets);
    let format = tracing_subscriber::fmt::layer()
        .with_ansi(is_coloured)
        .log_internal_errors(false)
        .with_writer(lines.clone());
    let subscriber = tracing_subscriber::registry()
        .with(format)
        .with(RateLayer::new(Arc::clone(&rates), lines.clone()))
        .with(targets);
    // What may fail here is to hear the `log` crate as well, which a program can have given to another logger.
    let _ = subscriber.try_init();
    let filter = Box::new(move |targets| filter.reload(targets));
    let _ = LOG.set(Log { lines, rates, filter });
    say_panics();
    Ok(())
}

/// Whether this process writes its log as [`init`] does.
pub(crate) fn is_ours() -> bool {
    LOG.get().is_some()
}

/// Writes the log as a newer configuration says.
pub(crate) fn renew(config: &Config) -> Result<()> {
    let Some(log) = LOG.get() else { return Ok(()) };
    log.rates.allow(config.log_rate);
    (log.filter)(targets(config)?).map_err(|error| Error::new(error.to_string()))
}

fn targets(config: &Config) -> Result<Targets> {
    let filter =
        LogFilter::parse(&config.log_filter()).map_err(|fault| Error::new(format!("log: {fault}")))?;
    Ok(Targets::new()
        .with_default(filter.default)
        .with_targets(CLIENTS.map(|name| (name, LevelFilter::OFF)))
        .with_targets(filter.targets))
}

/// [`init`], unless the program has a subscriber of its own.
pub(crate) fn init_if_none(config: &Config) -> Result<()> {
    if tracing::dispatcher::has_been_set() { Ok(()) } else { init(config) }
}

/// Waits until what was said is written, but not for a reader that does not read: at most a quarter of a second. For the end of
/// `main`; [`Server::run`](crate::Server::run) has done it when it returns.
pub fn flush() {
    if let Some(Log { lines, .. }) = LOG.get() {
        lines.flush(FLUSH_PATIENCE);
    }
}

/// The usual hook writes to standard error itself, and so stops a shard whose log nobody reads.
fn say_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        match thread.name() {
            Some(name) if name.starts_with(SHARD_THREAD) => say_panic(name, info),
            _ => usual(info),
        }
    }));
}

fn say_panic(thread: &str, info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(target: "shardcast::log", thread, place, "panicked: {}", Shown(text));
    if let Some(Log { lines, rates, .. }) = LOG.get()
        && rates.admits_now(&BACKTRACES)
    {
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            trace.to_string().lines().for_each(|line| lines.push(line));
        }
    }
    if cfg!(panic = "abort") {
        flush();
    }
}
