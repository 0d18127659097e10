//! How far the life of a server has come, and what its end did: one value for all shards and whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::base::time::Time;

/// How far the life of a server has come: what a probe of readiness asks.
///
/// ```
/// use shardcast::{Config, Phase, Server};
///
/// let handle = Server::new(Config::default()).handle();
/// assert_eq!(handle.phase(), Phase::Starting);
/// assert_eq!(handle.phase().as_str(), "starting");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Its handlers are built, its addresses are bound.
    Starting,
    /// All shards serve.
    Ready,
    /// It was asked to end: a load balancer sends new clients elsewhere.
    Draining,
    /// All shards have ended.
    Stopped,
}

impl Phase {
    /// One word, for a probe's answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        }
    }
}

/// What the shards of a server note about its life.
#[derive(Debug)]
pub(crate) struct Life {
    /// It only grows.
    phase: AtomicU8,
    /// The end waits for `drain_delay`.
    is_patient: AtomicBool,
    /// Another process accepts what comes to the listeners from now on.
    is_handed_over: AtomicBool,
    /// Another process keeps the listeners open, whatever becomes of this one.
    is_lent: AtomicBool,
    /// Sessions that the end has ended.
    ended: AtomicU64,
    /// Connections that had not taken what they were owed when their time was over.
    cut: AtomicU64,
    /// When the first shard heard of the end.
    began: AtomicU64,
    /// When the last shard was done.
    done: AtomicU64,
}

/// What the end of a server did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct EndReport {
    pub(crate) ended: u64,
    pub(crate) cut: u64,
    pub(crate) seconds: f64,
}

impl Life {
    pub(crate) fn new() -> Life {
        Life {
            phase: AtomicU8::new(Phase::Starting as u8),
            is_patient: AtomicBool::new(false),
            is_handed_over: AtomicBool::new(false),
            is_lent: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            began: AtomicU64::new(u64::MAX),
            done: AtomicU64::new(0),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// The server is so far; a phase that is over does not come back.
    pub(crate) fn reach(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// The end that is asked for next begins with `drain_delay`.
    pub(crate) fn be_patient(&self) {
        self.is_patient.store(true, Ordering::Release);
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.is_patient.load(Ordering::Acquire)
    }

    /// Another process has the listeners: no shard accepts from now on.
    pub(crate) fn bequeath(&self) {
        self.is_handed_over.store(true, Ordering::Release);
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::Acquire)
    }

    /// The listeners are another process's, which keeps them open.
    pub(crate) fn note_lent(&self) {
        self.is_lent.store(true, Ordering::Release);
    }

    /// Whether whoever waits in the queue of a listener finds another process there.
    pub(crate) fn leaves_listeners(&self) -> bool {
        self.is_handed_over() || self.is_lent.load(Ordering::Acquire)
    }

    /// A shard has heard of the end.
    pub(crate) fn note_begin(&self, now: Time) {
        self.began.fetch_min(now.0, Ordering::Relaxed);
    }

    pub(crate) fn note_ended(&self, sessions: usize) {
        self.ended.fetch_add(sessions as u64, Ordering::Relaxed);
    }

    /// A shard is done, and closes so many connections that are still there: they are owed something, or have not closed when told to.
    pub(crate) fn note_done(&self, cut: usize, now: Time) {
        self.cut.fetch_add(cut as u64, Ordering::Relaxed);
        self.done.fetch_max(now.0, Ordering::Relaxed);
    }

    /// What the end did; `None` if no shard was asked to end.
    pub(crate) fn report(&self) -> Option<EndReport> {
        let began = Some(self.began.load(Ordering::Relaxed)).filter(|began| *began != u64::MAX)?;
        let millis = self.done.load(Ordering::Relaxed).saturating_sub(began);
        Some(EndReport {
            ended: self.ended.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
            seconds: millis as f64 / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_is_over_does_not_come_back() {
        let life = Life::new();
        let phases = [Phase::Ready, Phase::Draining, Phase::Ready, Phase::Stopped, Phase::Draining];
        let seen = phases.map(|phase| {
            life.reach(phase);
            life.phase().as_str()
        });
        assert_eq!(seen, ["ready", "draining", "draining", "stopped", "stopped"]);
    }

    #[test]
    fn the_report_goes_from_the_first_word_to_the_last_shard() {
        let life = Life::new();
        assert_eq!(life.report(), None);
        for (began, done, ended, cut) in [(2_000, 4_500, 7, 1), (1_500, 3_000, 5, 0)] {
            life.note_begin(Time(began));
            life.note_ended(ended);
            life.note_done(cut, Time(done));
        }
        assert_eq!(life.report(), Some(EndReport { ended: 12, cut: 1, seconds: 3.0 }));
    }
}
