//! Work that is done so many times a second, once for the whole server.

use std::fmt;
use std::time::Duration;

use crate::base::guard::guarded;
use crate::server::Server;
use crate::server::handle::Handle;
use crate::shard::user::current::current;
use crate::shard::user::sleep::interval;

/// One beat of [`Server::every`], as its function sees it.
pub struct Beat<'a> {
    handle: &'a Handle,
    number: u64,
}

impl fmt::Debug for Beat<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Beat").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Beat<'_> {
    /// The server.
    pub fn handle(&self) -> &Handle {
        self.handle
    }

    /// How many beats came before; those that were left out are counted. `number + 1` times the period has passed since the
    /// server began.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Server {
    /// Calls a function at fixed times, once for the whole server, on its first shard: for a clock, a count of who is
    /// there, a value that is read from somewhere.
    ///
    /// The first call comes one period after the start. It does not drift; beats for which the shard was held up are left out. A
    /// panic costs that beat. [`Namespace::every`](crate::Namespace::every) is called on each shard, for games.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config { shards: 4, ..Config::default() })
    ///     .namespace("/", |_| {})
    ///     .every(Duration::from_secs(1), |beat| {
    ///         beat.handle().namespace("/").emit("uptime", beat.number() + 1);
    ///     });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// server.advance(Duration::from_secs(3));
    /// assert_eq!(client.received().len(), 3, "whatever the number of shards");
    /// ```
    pub fn every(mut self, period: Duration, work: impl Fn(&Beat<'_>) + Send + Sync + 'static) -> Server {
        self.blueprint.periods.push(period);
        let work = std::sync::Arc::new(work);
        self.background(move |handle| {
            let work = std::sync::Arc::clone(&work);
            async move {
                let mut beats = interval(period);
                loop {
                    let beat = Beat { handle: &handle, number: beats.tick().await };
                    if let Err(panic) = guarded(|| work(&beat)) {
                        tracing::error!(?period, message = %panic, "what is done every so often panicked");
                        if let Some(core) = current() {
                            core.borrow().tables.env.counters.handler_panics.add(1);
                        }
                    }
                }
            }
        })
    }
}
