//! Tickers are started and called.

use std::rc::Rc;

use crate::shard::feature::ticks::Progress;
use crate::shard::run::Shard;
use crate::shard::user::tick::{Tick, Ticker};

impl Shard {
    /// Starts the ticks of the namespaces from this place on, the first one period from now.
    pub(crate) fn start_tickers(&mut self, from: usize) {
        let mut core = self.core.borrow_mut();
        let start = core.tables.env.now;
        for (namespace, handlers) in self.app.namespaces.iter().enumerate().skip(from) {
            for (ticker, registered) in handlers.tickers.iter().enumerate() {
                let period = registered.period;
                core.ticks.progress.push(Progress { namespace, ticker, period, start, next: 0 });
            }
        }
        core.ticks().note_next();
    }

    /// Runs whatever tick is due.
    pub(crate) fn run_ticks(&mut self) {
        let count = {
            let core = self.core.borrow();
            if core.ticks.due <= core.tables.env.now { core.ticks.progress.len() } else { 0 }
        };
        (0..count).for_each(|index| self.run_ticker(index));
        if count > 0 {
            self.core.borrow_mut().ticks().note_next();
        }
    }

    fn run_ticker(&mut self, index: usize) {
        let core = Rc::clone(&self.core);
        let mut skipped = core.borrow_mut().ticks().skip(index);
        loop {
            let Some((number, lateness)) = core.borrow_mut().ticks().take(index) else { return };
            let (namespace, ticker) = {
                let progress = &core.borrow().ticks.progress[index];
                (progress.namespace, progress.ticker)
            };
            let handlers = Rc::clone(&self.app.namespaces[namespace]);
            let Some(Ticker { period, handler }) = handlers.tickers.get(ticker) else { return };
            let skipped = std::mem::take(&mut skipped);
            let here = core.borrow().tables.namespaces.of_setup(namespace);
            for namespace in &here {
                let mut tick = Tick { core: &core, namespace, number, period: *period, lateness, skipped };
                let done =
                    self.call(&mut tick, |tick| handler(tick), |_| format!("a tick of {}", namespace.name));
                if let Err(panic) = done {
                    tracing::error!(namespace = %namespace.name, message = %panic, "a tick panicked");
                }
                self.settle();
            }
        }
    }
}
