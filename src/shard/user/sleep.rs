//! Sleeping tasks, and beats that keep their time: both to the millisecond, by the shard's own clock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as PollContext, Poll};
use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::shard::core::SharedCore;
use crate::shard::feature::ticks::{CATCH_UP_MAX, beat_at, missed_since};
use crate::shard::user::current::current;
use crate::shard::user::tick::PERIOD_MIN;

/// Waits without holding anybody up, like Flask-SocketIO's `sleep`. Precise to a millisecond, which is the
/// least, unless the shard is busy.
///
/// A loop that is to run so many times a second wants an [`interval`]: what the loop does takes time as well.
///
/// ```no_run
/// # async fn example(socket: shardcast::Socket) {
/// use std::time::Duration;
///
/// shardcast::sleep(Duration::from_secs(1)).await;
/// socket.emit("later", "now");
/// # }
/// ```
///
/// # Panics
/// When it is awaited outside a shard's handlers and tasks: there is no shard whose clock it could follow.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    Sleeping { until: Until::After(duration), sleeper: None }
}

#[derive(Clone, Copy)]
enum Until {
    /// So long after it is first awaited.
    After(Duration),
    At(Time),
}

struct Sleeping {
    until: Until,
    sleeper: Option<(SharedCore, Key)>,
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut PollContext<'_>) -> Poll<()> {
        if let Some((core, key)) = &self.sleeper {
            // A waker may be user code: it is cloned, and the one before dropped, while nothing is borrowed.
            let mut waker = Some(cx.waker().clone());
            let mut core = core.borrow_mut();
            let Some(sleeper) = core.sleeps.sleepers.get_mut(*key) else { return Poll::Ready(()) };
            if sleeper.is_over {
                return Poll::Ready(());
            }
            std::mem::swap(&mut sleeper.waker, &mut waker);
            return Poll::Pending;
        }
        let core = current().expect("sleep is awaited in a handler or task of a server");
        let waker = cx.waker().clone();
        let key = {
            let mut core = core.borrow_mut();
            let until = match self.until {
                // Without any time a loop of sleeps would be due again at once, for ever.
                Until::After(duration) => core.tables.env.now + duration.max(Duration::from_millis(1)),
                Until::At(time) => time,
            };
            core.sleeps.insert(until, waker)
        };
        self.sleeper = Some((core, key));
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let Some((core, key)) = &self.sleeper else { return };
        let _sleeper = match core.try_borrow_mut() {
            Ok(mut core) => core.sleeps.remove(*key),
            Err(_) => None,
        };
    }
}

/// What becomes of the beats of an [`Interval`] that were missed, because the loop or the shard was held up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissedBeats {
    /// They are left out, and the next one comes at its old time. The numbers have a gap.
    #[default]
    Skip,
    /// At most three are made up for, one right after the other, as with [`every`](crate::Namespace::every); those before are
    /// left out.
    CatchUp,
    /// The one that is late counts as the beginning: the next comes a whole period after it. No number is left out.
    Delay,
}

/// Beats at fixed times: a loop that waits for them runs as often as it should, however long its work takes.
///
/// [`interval`] makes it.
#[derive(Debug)]
#[must_use = "it beats when tick is awaited"]
pub struct Interval {
    period: Duration,
    missed: MissedBeats,
    /// When the beat before the first would have been; known when it is first awaited.
    start: Option<Time>,
    /// The number of the next beat since the start.
    next: u64,
    /// Beats that were counted before the start was moved.
    before: u64,
}

/// Beats every `period`, the first one a period after it is first awaited. Periods below a millisecond are one millisecond.
///
/// Unlike a loop around [`sleep`], it does not drift: what the loop does between two beats is part of the period.
///
/// ```
/// use std::time::Duration;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |_| {}).background(|handle| async move {
///     let mut beats = shardcast::interval(Duration::from_secs(1) / 20);
///     loop {
///         let number = beats.tick().await;
///         handle.namespace("/").emit("beat", number);
///     }
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// server.advance(Duration::from_secs(10));
/// assert_eq!(client.received().len(), 200);
/// ```
pub fn interval(period: Duration) -> Interval {
    let period = period.max(PERIOD_MIN);
    Interval { period, missed: MissedBeats::default(), start: None, next: 0, before: 0 }
}

impl Interval {
    /// What becomes of beats that were missed. Default: [`MissedBeats::Skip`].
    pub fn missed(mut self, missed: MissedBeats) -> Interval {
        self.missed = missed;
        self
    }

    /// From one beat to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Waits for the next beat, and gives its number, from 0 on. With [`MissedBeats::Skip`] `number + 1` times the period has
    /// passed since the interval was first awaited.
    ///
    /// A call that is dropped before its beat, by a `select!` say, loses none.
    ///
    /// # Panics
    /// Outside a shard's handlers and tasks, as [`sleep`] does.
    pub async fn tick(&mut self) -> u64 {
        let now = current()
            .expect("an interval is awaited in a handler or task of a server")
            .borrow()
            .tables
            .env
            .now;
        let start = *self.start.get_or_insert(now);
        let allowed = match self.missed {
            MissedBeats::Skip => Some(1),
            MissedBeats::CatchUp => Some(CATCH_UP_MAX),
            MissedBeats::Delay => None,
        };
        let missed = missed_since(beat_at(start, self.period, self.next), self.period, now);
        self.next += allowed.map_or(0, |allowed| missed.saturating_sub(allowed));
        let due = beat_at(start, self.period, self.next);
        // Also one that is due already waits for its turn, so that a loop that is always late lets others work.
        Sleeping { until: Until::At(due), sleeper: None }.await;
        let number = self.before + self.next;
        self.next += 1;
        if self.missed == MissedBeats::Delay
            && let Some(core) = current()
            && core.borrow().tables.env.now > due
        {
            self.start = Some(core.borrow().tables.env.now);
            self.before += std::mem::take(&mut self.next);
        }
        number
    }
}
