//! Ticks: a game's heartbeat on each shard, at fixed times and not at fixed distances.
//!
//! A tick that comes late does not move those after it. A shard that was held up runs a few of the ticks it has
//! missed, and counts the rest. Beside the timer wheel, not in it: the wheel is too coarse for a game.

use std::rc::Rc;
use std::time::Duration;

use crate::base::guard::guarded;
use crate::base::time::Time;
use crate::shard::Shard;
use crate::shard::core::{Core, SharedCore};
use crate::shard::namespaces::NamespaceRef;
use crate::shard::recipients::Recipients;
use crate::shard::state::State;

/// Missed ticks that are made up for, one right after the other; those beyond are skipped.
pub(crate) const CATCH_UP_MAX: u64 = 3;

/// The shortest period: a shard's clock counts milliseconds.
pub(crate) const PERIOD_MIN: Duration = Duration::from_millis(1);

pub(crate) type TickHandler = Box<dyn Fn(&Tick<'_>)>;

/// A registered tick.
pub(crate) struct Ticker {
    pub(crate) period: Duration,
    pub(crate) handler: TickHandler,
}

/// Where a ticker has got to.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The namespace's place in the app, and the ticker's in the namespace.
    namespace: usize,
    ticker: usize,
    period: Duration,
    start: Time,
    /// The number of the next tick.
    next: u64,
}

impl Progress {
    fn deadline(&self) -> Time {
        self.time_of(self.next)
    }

    fn time_of(&self, number: u64) -> Time {
        beat_at(self.start, self.period, number)
    }

    /// Passes over ticks that are too many to be made up for; says how many.
    fn skip(&mut self, now: Time) -> u64 {
        let skipped = missed_since(self.deadline(), self.period, now).saturating_sub(CATCH_UP_MAX);
        self.next = self.next.saturating_add(skipped);
        skipped
    }
}

/// When the beat of a number comes: the first, which has the number 0, a period after the start. Parts of a millisecond are kept
/// from beat to beat.
pub(crate) fn beat_at(start: Time, period: Duration, number: u64) -> Time {
    let nanos = period.as_nanos().saturating_mul(u128::from(number) + 1);
    start + Duration::from_millis(u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX))
}

/// How many beats there are from the one that is due at a time until now, both included.
pub(crate) fn missed_since(due: Time, period: Duration, now: Time) -> u64 {
    if now < due {
        return 0;
    }
    let behind = now.since(due).as_nanos() / period.as_nanos().max(1);
    u64::try_from(behind).unwrap_or(u64::MAX).saturating_add(1)
}

/// One tick, as its handler sees it.
///
/// ```
/// use std::cell::Cell;
/// use std::time::Duration;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server, Tick};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("enter", |cx: &mut Context, game: String| cx.join(game));
///     io.every(Duration::from_millis(50), |tick: &Tick| {
///         for game in tick.rooms() {
///             tick.to(&game).emit("state", tick.number());
///         }
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let player = server.connect("/").unwrap();
/// player.emit("enter", "chess");
/// server.advance(Duration::from_millis(100));
/// let states: Vec<u64> = player.received().iter().map(|state| state.first().unwrap()).collect();
/// assert_eq!(states, [0, 1]);
/// ```
pub struct Tick<'a> {
    core: &'a SharedCore,
    namespace: &'a Rc<NamespaceRef>,
    number: u64,
    period: Duration,
    lateness: Duration,
    skipped: u64,
}

impl std::fmt::Debug for Tick<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tick")
            .field("number", &self.number)
            .field("lateness", &self.lateness)
            .field("skipped", &self.skipped)
            .finish()
    }
}

impl Tick<'_> {
    /// How many ticks of this kind came before, skipped ones included: `number` times `period` is the time since the
    /// shard began.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// From one tick to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How much later than its time it runs.
    pub fn lateness(&self) -> Duration {
        self.lateness
    }

    /// Ticks before this one that were left out, because the shard was held up for too long.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The namespace. Where a pattern was registered, each tick runs once for every namespace of it that is on this shard.
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// A state room of the namespace: see [`StateRoom`](crate::StateRoom).
    pub fn state<'b>(&'b self, room: &'b str) -> State<'b> {
        let number = self.core.borrow().namespaces.resolve(self.namespace).unwrap_or(u16::MAX);
        State::here(self.core, number, room)
    }

    /// Everybody in the namespace, on every shard. A tick runs on every shard as well: what each has to say to its own sockets
    /// goes by [`this_shard`](Recipients::this_shard).
    pub fn broadcast(&self) -> Recipients<'_> {
        Recipients::everyone(self.core, Rc::clone(self.namespace), None)
    }

    /// The members of a room.
    pub fn to(&self, room: impl AsRef<str>) -> Recipients<'_> {
        Recipients::rooms(self.core, Rc::clone(self.namespace), None).to(room)
    }

    /// The rooms that have members on this shard. With `shard_key` all members of one room are on one shard.
    pub fn rooms(&self) -> Vec<String> {
        let core = self.core.borrow();
        let Some(number) = core.namespaces.resolve(self.namespace) else { return Vec::new() };
        core.listed_rooms(number).map(str::to_owned).collect()
    }
}

impl Core {
    /// When the next tick is due; `NEVER` without any.
    pub(crate) fn next_tick(&self) -> Time {
        self.tick_due
    }

    /// Finds out when the next tick is due, which is asked more often than it changes.
    fn note_next_tick(&mut self) {
        self.tick_due = self.tickers.iter().map(Progress::deadline).min().unwrap_or(Time::NEVER);
    }

    /// Passes over what a ticker has missed for good; says how much that is.
    fn skip_ticks(&mut self, index: usize) -> u64 {
        let now = self.now;
        let skipped = self.tickers.get_mut(index).map_or(0, |progress| progress.skip(now));
        if skipped > 0 {
            self.counters.ticks_skipped.add(skipped);
            tracing::warn!(skipped, "this shard was held up: ticks are left out");
        }
        skipped
    }

    /// The number and the lateness of a tick that is due.
    fn take_tick(&mut self, index: usize) -> Option<(u64, Duration)> {
        let now = self.now;
        let progress = self.tickers.get_mut(index).filter(|progress| progress.deadline() <= now)?;
        let (number, lateness) = (progress.next, now.since(progress.deadline()));
        progress.next += 1;
        Some((number, lateness))
    }
}

impl Shard {
    /// Starts the ticks of every namespace, the first one period from now.
    pub(crate) fn start_tickers(&mut self) {
        let mut core = self.core.borrow_mut();
        let start = core.now;
        for (namespace, handlers) in self.app.namespaces.iter().enumerate() {
            for (ticker, registered) in handlers.tickers.iter().enumerate() {
                let period = registered.period;
                core.tickers.push(Progress { namespace, ticker, period, start, next: 0 });
            }
        }
        core.note_next_tick();
    }

    /// Runs whatever tick is due.
    pub(crate) fn run_ticks(&mut self) {
        let count = {
            let core = self.core.borrow();
            if core.tick_due <= core.now { core.tickers.len() } else { 0 }
        };
        (0..count).for_each(|index| self.run_ticker(index));
        if count > 0 {
            self.core.borrow_mut().note_next_tick();
        }
    }

    fn run_ticker(&mut self, index: usize) {
        let core = Rc::clone(&self.core);
        let mut skipped = core.borrow_mut().skip_ticks(index);
        loop {
            let Some((number, lateness)) = core.borrow_mut().take_tick(index) else { return };
            let (namespace, ticker) = {
                let progress = &core.borrow().tickers[index];
                (progress.namespace, progress.ticker)
            };
            let handlers = Rc::clone(&self.app.namespaces[namespace]);
            let Some(Ticker { period, handler }) = handlers.tickers.get(ticker) else { return };
            let skipped = std::mem::take(&mut skipped);
            let here = core.borrow().namespaces.of_setup(namespace);
            for namespace in &here {
                let tick = Tick { core: &core, namespace, number, period: *period, lateness, skipped };
                let done = guarded(|| handler(&tick));
                self.watched(|| format!("a tick of {}", namespace.name));
                if let Err(panic) = done {
                    tracing::error!(namespace = %namespace.name, message = %panic, "a tick panicked");
                    core.borrow_mut().counters.handler_panics.add(1);
                }
                self.settle();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_times_whatever_the_period() {
        // 60 a second: 16.67 ms apart, and a second has sixty.
        let period = Duration::from_secs(1) / 60;
        let mut progress = Progress { namespace: 0, ticker: 0, period, start: Time(1000), next: 0 };
        let times: Vec<u64> = (0..5).map(|number| progress.time_of(number).0).collect();
        assert_eq!(times, [1016, 1033, 1049, 1066, 1083]);
        assert_eq!(progress.time_of(59), Time(1999));
        for (now, skipped, next) in [(1016, 0, 0), (1050, 0, 0), (1066, 1, 1), (2000, 56, 57)] {
            let before = progress.next;
            assert_eq!((progress.skip(Time(now)), progress.next), (skipped, next), "at {now} from {before}");
        }
    }
}
