//! Handlers outside their shard, as a server knows them: when they are woken, and what they answer through.

use std::sync::Arc;

use crate::server::Server;
use crate::server::handle::Handle;
use crate::shard::user::posting::Post;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::outside::ConnectionId;

pub(crate) type ConnectionEndFunction = Arc<dyn Fn(ConnectionId) + Send + Sync>;

pub(crate) type TurnEndFunction = Arc<dyn Fn(ShardInfo) + Send + Sync>;

impl Server {
    /// Calls a function on a shard at the end of each turn in which it has given events, or clients at the door, to handlers outside
    /// ([`Ticket`](crate::Ticket)): to wake the threads that take them, once for all that came. It should not block. It may be
    /// registered more than once.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Context, Server, Ticket};
    ///
    /// static RINGS: AtomicU64 = AtomicU64::new(0);
    ///
    /// let server = Server::new(Config::default())
    ///     .namespace("/", |io| io.on("work", |_: &mut Context, ticket: Ticket| drop(ticket)))
    ///     .on_turn_end(|_shard| {
    ///         // Here a condition variable would be notified.
    ///         RINGS.fetch_add(1, Ordering::Relaxed);
    ///     });
    /// let server = TestServer::new(server).unwrap();
    /// server.connect("/").unwrap().emit("work", ());
    /// assert_eq!(RINGS.load(Ordering::Relaxed), 1);
    /// ```
    pub fn on_turn_end(mut self, function: impl Fn(ShardInfo) + Send + Sync + 'static) -> Server {
        self.blueprint.on_turn_end.push(Arc::new(function));
        self
    }
}

impl Server {
    /// Calls a function on a shard when a connection has ended that was asked for its id ([`Addressee::connection`](crate::Addressee::connection),
    /// [`Socket::connection`](crate::Socket::connection)) or gave an event outside: after the disconnect handlers of all its sockets were
    /// called, or given outside. It should not block. For tables by connection, such as what all namespaces of a client share.
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, ConnectionId, Context, Server};
    ///
    /// static PRESENT: Mutex<Vec<ConnectionId>> = Mutex::new(Vec::new());
    ///
    /// let server = Server::new(Config::default())
    ///     .namespace("/", |io| io.on_connect(|cx: &mut Context| PRESENT.lock().unwrap().push(cx.connection())))
    ///     .on_connection_end(|id| PRESENT.lock().unwrap().retain(|other| *other != id));
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// assert_eq!(PRESENT.lock().unwrap().len(), 1);
    /// client.cut();
    /// assert!(PRESENT.lock().unwrap().is_empty());
    /// ```
    pub fn on_connection_end(mut self, function: impl Fn(ConnectionId) + Send + Sync + 'static) -> Server {
        self.blueprint.on_connection_end.push(Arc::new(function));
        self
    }
}

impl Handle {
    /// An empty [`Post`], for what handlers outside their shard do. Before the server runs it is for no socket.
    pub fn post(&self) -> Post {
        Post::new(Arc::clone(self.mesh()))
    }
}
