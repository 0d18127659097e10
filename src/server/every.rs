//! Work that is done so many times a second, once for the whole server or on each shard.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::guard::guarded;
use crate::server::Server;
use crate::server::handle::Handle;
use crate::shard::user::current::current;
use crate::shard::user::sleep::interval;
use crate::shard::value::task::LocalFuture;

/// One beat of [`Server::every`] or [`Server::every_shard`], as its function sees it.
pub struct Beat<'a> {
    handle: &'a Handle,
    number: u64,
    shard: usize,
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

    /// The shard on which it runs.
    pub fn shard(&self) -> usize {
        self.shard
    }
}

impl Server {
    /// Calls a function at fixed times, once for the whole server, on its first shard: for a clock, a count of who is
    /// there, a value that is read from somewhere.
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
    ///
    /// # All that is done at times
    ///
    /// | | where | for |
    /// |---|---|---|
    /// | `Server::every` | once for the server, on its first shard | clocks, counts, cleaning up |
    /// | [`Server::every_shard`] | on each shard | what each shard keeps for itself, as a thread-local cache |
    /// | [`Namespace::every`](crate::Namespace::every), [`every_room`](crate::Namespace::every_room) | on each shard, with its sockets and rooms | games |
    /// | [`Server::background`] with an [`interval`](crate::interval) | once for the server, on its first shard | work that awaits something in each round |
    /// | [`spawn`](crate::spawn) with [`sleep`](crate::sleep) or an `interval` | on the shard that calls it | something about one client, or later |
    ///
    /// What holds for all of them:
    ///
    /// * **Beginning.** The first call comes one period after the start, as long as the server runs.
    /// * **Being late.** Nothing drifts: the times are multiples of the period since the start. Nothing piles up either: a call comes
    ///   when the one before has returned, and beats for which the shard was held up are left out (a game's tick makes up for three).
    ///   A function here holds its shard while it runs; what takes long goes to a thread, or awaits in a `background` task.
    /// * **Panics.** One costs that beat, is logged and counted in `handler_panics`, and the next beat comes. A `background` task that
    ///   panics has ended.
    /// * **A shard that dies** takes its work with it: the process goes on, ends with an error code, and is to be restarted.
    /// * **Several processes** on one message queue: each does it for itself. What must be done by one of them alone is switched on for
    ///   that one, by a setting of yours, or goes through a lock in the database that it is about.
    /// * **Tests**: [`TestServer::advance`](crate::testing::TestServer::advance) moves the clock, so an hour's beats take no time.
    pub fn every(mut self, period: Duration, work: impl Fn(&Beat<'_>) + Send + Sync + 'static) -> Server {
        self.blueprint.periods.push(period);
        let work = Arc::new(work);
        self.background(move |handle| beats(handle, period, Arc::clone(&work)))
    }

    /// The same on each shard: see the table at [`every`](Server::every).
    ///
    /// ```
    /// # use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config { shards: 4, ..Config::default() })
    ///     .namespace("/", |_| {})
    ///     .every_shard(Duration::from_secs(1), |beat| {
    ///         beat.handle().namespace("/").emit("alive", beat.shard());
    ///     });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// server.advance(Duration::from_secs(1));
    /// assert_eq!(client.received().len(), 4);
    /// ```
    pub fn every_shard(
        mut self,
        period: Duration,
        work: impl Fn(&Beat<'_>) + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.periods.push(period);
        let work = Arc::new(work);
        let make = move |handle| -> LocalFuture { Box::pin(beats(handle, period, Arc::clone(&work))) };
        self.blueprint.on_each_shard.push(Arc::new(make));
        self
    }
}

/// Calls a function at each beat, for ever.
async fn beats(handle: Handle, period: Duration, work: Arc<impl Fn(&Beat<'_>)>) {
    let mut beats = interval(period);
    loop {
        let number = beats.tick().await;
        let shard = current().map_or(0, |core| core.borrow().tables.env.id.index());
        let beat = Beat { handle: &handle, number, shard };
        if let Err(panic) = guarded(|| work(&beat)) {
            tracing::error!(?period, shard, message = %panic, "what is done every so often panicked");
            if let Some(core) = current() {
                core.borrow().tables.env.counters.handler_panics.add(1);
            }
        }
    }
}
