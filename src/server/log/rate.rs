//! At most so many lines of one kind a second, so that no peer can fill a disk with the log, and a count of the others.
//!
//! A kind is one place in the sources. Each has a bucket of its own, so that a flood of one hides no other. No lock: a line
//! costs one look at the clock and one exchange.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use rustc_hash::FxHasher;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::lines::Lines;
use crate::base::log::TRACE;

/// Kinds of lines that are told apart; what comes later shares the last place. There are some hundred in this crate.
const KINDS_MAX: usize = 1024;

/// What all of them are, each with its name.
pub(super) const KINDS_BYTES: usize = KINDS_MAX * (size_of::<OnceLock<Kind>>() + 4 * NAME_CHARS_MAX);

/// So many seconds' worth of lines may come at once.
const BURST_SECONDS: u64 = 10;

/// What is remembered of a kind's first message, to name it by.
const NAME_CHARS_MAX: usize = 100;

const NANOS: u64 = 1_000_000_000;

struct Kind {
    callsite: Identifier,
    name: String,
    /// When the bucket would be full again, in nanoseconds since the start.
    full_at: AtomicU64,
    left_out: AtomicU64,
}

/// The buckets of all kinds.
pub(super) struct KindRates {
    /// From a kind's hash on; the first that is empty ends the search.
    kinds: Box<[OnceLock<Kind>]>,
    lines_a_second: AtomicU32,
    started: Instant,
    has_left_out: AtomicBool,
}

impl KindRates {
    /// Zero is no limit.
    #[allow(clippy::disallowed_methods)] // The rate of a log is one of real time, on whichever thread.
    pub(super) fn new(lines_a_second: u32) -> KindRates {
        KindRates {
            kinds: (0..KINDS_MAX).map(|_| OnceLock::new()).collect(),
            lines_a_second: AtomicU32::new(lines_a_second),
            started: Instant::now(),
            has_left_out: AtomicBool::new(false),
        }
    }

    pub(super) fn lines_a_second(&self) -> u32 {
        self.lines_a_second.load(Ordering::Relaxed)
    }

    /// So many from now on.
    pub(super) fn allow(&self, lines_a_second: u32) {
        self.lines_a_second.store(lines_a_second, Ordering::Relaxed);
    }

    pub(super) fn has_left_out(&self) -> bool {
        self.has_left_out.load(Ordering::Relaxed)
    }

    /// Gives every kind of which lines were left out, and how many, and begins to count anew.
    pub(super) fn take_left_out(&self, mut say: impl FnMut(&str, u64)) {
        if !self.has_left_out.swap(false, Ordering::Relaxed) {
            return;
        }
        for kind in self.kinds.iter().filter_map(OnceLock::get) {
            match kind.left_out.swap(0, Ordering::Relaxed) {
                0 => {}
                count => say(&kind.name, count),
            }
        }
    }

    /// The bucket of an event's kind.
    fn kind_of(&self, event: &Event<'_>) -> &Kind {
        let callsite = event.metadata().callsite();
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(&callsite) as usize;
        let mut place = 0;
        for step in 0..KINDS_MAX {
            place = hash.wrapping_add(step) % KINDS_MAX;
            let kind = self.kinds[place].get_or_init(|| Kind::new(event));
            if kind.callsite == callsite {
                return kind;
            }
        }
        self.kinds[place].get_or_init(|| Kind::new(event))
    }

    /// Whether one more of what has a bucket of its own may be written now.
    pub(super) fn admits_now(&self, full_at: &AtomicU64) -> bool {
        self.admits(full_at, u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX / 2))
    }

    /// Whether one more line of a kind may be written at this time.
    fn admits(&self, full_at: &AtomicU64, now: u64) -> bool {
        let Some(interval) = NANOS.checked_div(u64::from(self.lines_a_second())) else { return true };
        let take_one = |full_at: u64| {
            let next = full_at.max(now) + interval;
            (next - now <= BURST_SECONDS * NANOS).then_some(next)
        };
        full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok()
    }
}

impl Kind {
    fn new(event: &Event<'_>) -> Kind {
        let mut name = Name(String::new());
        event.record(&mut name);
        let metadata = event.metadata();
        let name = format!("{} {}: {}", metadata.level(), metadata.target(), name.0);
        Kind { callsite: metadata.callsite(), name, full_at: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }
}

/// A kind is named by the first message that it had.
struct Name(String);

impl Visit for Name {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").chars().take(NAME_CHARS_MAX).collect();
        }
    }
}

/// Leaves out events of which there are too many. Traces that somebody asked for are all written.
pub(super) struct RateLayer {
    rates: Arc<KindRates>,
    lines: Lines,
}

impl RateLayer {
    pub(super) fn new(rates: Arc<KindRates>, lines: Lines) -> RateLayer {
        RateLayer { rates, lines }
    }

    fn is_limited(&self, metadata: &Metadata<'_>) -> bool {
        self.rates.lines_a_second() != 0 && metadata.target() != TRACE
    }
}

impl<S: Subscriber> Layer<S> for RateLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if !self.is_limited(event.metadata()) {
            return true;
        }
        let kind = self.rates.kind_of(event);
        if self.rates.admits_now(&kind.full_at) {
            return true;
        }
        kind.left_out.fetch_add(1, Ordering::Relaxed);
        if !self.rates.has_left_out.swap(true, Ordering::Relaxed) {
            self.lines.note_left_out();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_kind_has_its_burst_and_then_its_rate() {
        let rates = KindRates::new(10);
        let full_at = AtomicU64::new(0);
        let admitted = |at: u64, tries: usize| (0..tries).filter(|_| rates.admits(&full_at, at)).count();
        assert_eq!(admitted(0, 1000), 100);
        assert_eq!(admitted(NANOS, 1000), 10);
        assert_eq!(admitted(3 * NANOS / 2, 1000), 5);
        assert_eq!(admitted(60 * NANOS, 1000), 100);
        assert!(KindRates::new(0).admits(&full_at, 60 * NANOS), "zero is no limit");
    }

    #[test]
    fn a_flood_of_one_kind_is_counted_and_hides_no_other() {
        let rates = Arc::new(KindRates::new(1));
        let (lines, waiting) = Lines::unread();
        let format = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
        let layer = RateLayer::new(Arc::clone(&rates), lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(format).with(layer), || {
            for number in 0..100_000 {
                tracing::info!(number, "a flood");
            }
            tracing::warn!("another");
            for _ in 0..100 {
                tracing::info!(target: TRACE, "asked for");
            }
        });
        let mut left_out = Vec::new();
        rates.take_left_out(|kind, count| left_out.push((kind.to_owned(), count)));
        let [(kind, count)] = &left_out[..] else { panic!("{left_out:?}") };
        assert_eq!(kind, "INFO shardcast::server::log::rate::tests: a flood");
        let seen = waiting.texts();
        let said = |part: &str| seen.iter().filter(|line| line.contains(part)).count();
        assert_eq!(said("a flood") as u64 + count, 100_000);
        assert!(said("a flood") < 100, "{}", said("a flood"));
        assert_eq!((said("another"), said("asked for")), (1, 100));
        rates.take_left_out(|kind, _| panic!("counted twice: {kind}"));
    }
}
