//! The end of a server as its own code sees it: who is told, and how it is asked for.

use std::sync::Arc;

use crate::server::Server;
use crate::server::handle::{Handle, Shared};
use crate::shard::user::shard_info::ShardInfo;

pub(crate) type DrainFunction = Arc<dyn Fn(&Handle, ShardInfo) + Send + Sync>;

impl Server {
    /// Calls a function on each shard when the server is asked to end, before any session ends: to stop taking work, or to say
    /// goodbye. It may be registered more than once. What it emits is sent first, and reaches handlers that are still at work; for
    /// what takes longer there is [`Config::drain_delay`](crate::Config::drain_delay).
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config { shards: 2, ..Config::default() }).namespace("/", |_| {}).on_drain(|handle, shard| {
    ///     // A handle speaks for the whole server, so once is enough.
    ///     if shard.id == 0 {
    ///         handle.namespace("/").emit("restarting", ());
    ///     }
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// server.handle().drain();
    /// server.advance(Duration::from_secs(1));
    /// assert_eq!(client.received().len(), 1);
    /// ```
    ///
    /// [`Namespace::on_drain`](crate::Namespace::on_drain) is something else: there a client has caught up.
    pub fn on_drain(mut self, function: impl Fn(&Handle, ShardInfo) + Send + Sync + 'static) -> Server {
        self.blueprint.on_drain.push(Arc::new(function));
        self
    }
}

impl Handle {
    /// Asks the server to end as SIGTERM does. Returns at once.
    ///
    /// For `drain_delay` it goes on as before, while [`phase`](Handle::phase) says that it drains. Then it opens no session any
    /// more, and those that there are end one after another, in random order, over `shutdown_spread`. Clients are told so that they
    /// come back: a WebSocket is closed with 1001, a poll gets what its session is owed, and the next one 400. Meanwhile the
    /// shards listen, for the polls of those whose turn has not come. At the end what is owed is written for up to
    /// `shutdown_timeout`. A second request, also [`stop`](Handle::stop), ends it all at once.
    pub fn drain(&self) {
        if let Some(Shared { mesh, .. }) = self.shared() {
            mesh.life.be_patient();
            mesh.request_stop();
        }
    }

    /// Ends all sessions at once.
    pub(crate) fn stop_at_once(&self) {
        if let Some(Shared { mesh, .. }) = self.shared() {
            mesh.request_stops(2);
        }
    }
}
