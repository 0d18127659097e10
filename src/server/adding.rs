//! Namespaces that are added while the server runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::mesh::additions::Addition;
use crate::server::class::{ClassNamespace, Methods};
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::server::{Error, Result};
use crate::shard::user::app::LateNamespace;
use crate::shard::user::current::current;
use crate::shard::user::gathering::block_on;
use crate::shard::user::shard_info::ShardInfo;

impl Handle {
    /// Adds a namespace while the server runs, as [`Server::namespace`](crate::Server::namespace) does before: `setup` runs once on each
    /// shard, in a turn of it, and registers its handlers. A name with parts in braces is a pattern.
    ///
    /// When the answer comes, every shard has it. If one shard cannot have it, none has: the name is there already, the setup
    /// registers two handlers for one event, or panics. Several that are added one after the other are added in that order.
    /// A namespace stays until the server ends.
    ///
    /// Clients whom a pattern has let into a namespace of this name stay, and are this namespace's from then on: its handlers get their
    /// next events.
    ///
    /// ```
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Context, Server};
    ///
    /// let server = TestServer::new(Server::new(Config::default()).namespace("/", |_| {})).unwrap();
    /// assert_eq!(server.connect("/late").unwrap_err().message, "Invalid namespace");
    ///
    /// // On any thread:
    /// let adding = server.handle().add_namespace("/late", |io| {
    ///     io.on("add", |_: &mut Context, a: i64, b: i64| a + b);
    /// });
    ///
    /// server.settle();
    /// adding.wait().unwrap();
    /// let client = server.connect("/late").unwrap();
    /// assert_eq!(client.call("add", (1, 2)).unwrap().first::<i64>().unwrap(), 3);
    /// ```
    pub fn add_namespace(
        &self,
        name: &str,
        setup: impl Fn(&mut Namespace<'_>) + Send + Sync + 'static,
    ) -> Adding {
        let Some(shared) = self.shared() else {
            return Adding::refused("the server does not run; Server::namespace adds a namespace before");
        };
        let (handle, own_name) = (self.clone(), name.to_owned());
        let make = move |shard: ShardInfo, slow| {
            Namespace::build(&own_name, shard, handle.clone(), |io: &mut Namespace<'_>| {
                io.slow_consumers(slow);
                setup(io);
            })
        };
        let late = LateNamespace { address: self.address(name), make: Box::new(make) };
        match shared.mesh.add(Addition(Arc::new(late))) {
            Ok(told) => Adding(Ok(told.into_future())),
            Err(fault) => Adding::refused(&fault),
        }
    }

    /// The same with a namespace whose handlers are the methods of a struct: [`Server::namespace_class`](crate::Server::namespace_class).
    pub fn add_namespace_class<C: ClassNamespace>(
        &self,
        name: &str,
        make: impl Fn(ShardInfo) -> C + Send + Sync + 'static,
    ) -> Adding {
        self.add_namespace(name, move |io| Methods::register(io, make(io.shard())))
    }
}

type Told = std::result::Result<(), String>;

/// A namespace that every shard is adding: awaited on any runtime, or waited for on a thread that is no shard's. See
/// [`Handle::add_namespace`].
#[must_use = "a namespace that could not be added is not there"]
pub struct Adding(std::result::Result<oneshot::AsyncReceiver<Told>, Error>);

impl Adding {
    fn refused(fault: &str) -> Adding {
        Adding(Err(Error::new(fault)))
    }

    /// Waits on this thread, which must not be a shard's.
    ///
    /// # Errors
    /// Why no shard has the namespace. Or this is a shard's thread, which would wait for itself: the namespace may be added all
    /// the same.
    pub fn wait(self) -> Result<()> {
        if current().is_some() {
            return Err(Error::new(
                "wait() was called on a shard's thread, which it would stop; await instead",
            ));
        }
        block_on(self.0?).map_or_else(gone, read)
    }
}

fn read(told: Told) -> Result<()> {
    told.map_err(Error::new)
}

fn gone() -> Result<()> {
    Err(Error::new("the server has ended"))
}

impl Future for Adding {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(told) => Pin::new(told).poll(cx).map(|told| told.map_or_else(|_| gone(), read)),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl fmt::Debug for Adding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Adding").field("is_refused", &self.0.is_err()).finish()
    }
}
