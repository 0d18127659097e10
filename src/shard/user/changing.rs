//! A change to sockets of all shards, for those who must know when it is made.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;

use crate::message::address::Address;
use crate::message::inquiry::{AckError, Ask, Findings};
use crate::message::target::Target;
use crate::shard::core::publish::Made;
use crate::shard::user::current::spawn;
use crate::shard::user::gathering::{Gathering, Home};
use crate::shard::value::args::ToArgs;

/// A change that is under way: what [`join`](crate::Recipients::join), [`leave`](crate::Recipients::leave),
/// [`disconnect`](crate::Recipients::disconnect) and [`close`](crate::Recipients::close) return.
///
/// The change is made without further ado: those of this shard at once, those of other shards and processes a moment later. Whoever
/// must know when it is made everywhere awaits it on any runtime, or calls [`wait`](Changing::wait) on a thread of its own; what
/// follows then sees it, on every shard. It always ends: after five seconds, or as long as [`timeout`](Changing::timeout) says, with
/// the names of the processes that have not said that they are done. A server of another make, Flask-SocketIO's or Node's on the same
/// message queue, is told the change, and says nothing: it is not waited for.
///
/// ```
/// # use shardcast::testing::TestServer;
/// # use shardcast::{AckError, Config, Server, Socket};
/// let server = Server::new(Config { shards: 4, ..Config::default() }).namespace("/", |io| {
///     io.on_async("close the lobby", |socket: Socket| async move {
///         let closed = socket.close_room("lobby").await?;
///         if !closed.is_complete() {
///             println!("still open, perhaps, in {}", closed.processes_missing.join(", "));
///         }
///         Ok::<(), AckError>(())
///     });
/// });
/// # let server = TestServer::new(server).unwrap();
/// # assert!(server.connect("/").unwrap().call("close the lobby", ()).is_some());
/// ```
pub struct Changing {
    gathering: Gathering<Changed>,
    shards_missing: usize,
}

/// A change that is made, on all shards and in all processes but those that are named here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// Shards of this process that were not reached, because their inbox was full, or have not said that they are done.
    pub shards_missing: usize,
    /// Other processes that have not said that they are done, by name: too late, gone meanwhile, or behind a message queue that is
    /// away. It may be made there all the same.
    pub processes_missing: Vec<String>,
}

impl Changed {
    /// Whether it is made everywhere.
    pub fn is_complete(&self) -> bool {
        self.shards_missing == 0 && self.processes_missing.is_empty()
    }

    pub(crate) fn read(findings: Findings) -> Result<Changed, AckError> {
        Ok(Changed {
            shards_missing: findings.shards_unreached + findings.shards_late,
            processes_missing: findings.processes_missing,
        })
    }
}

impl Changing {
    pub(crate) fn new(home: Home, namespace: Address, target: Target, made: Made) -> Changing {
        let ask = Ask::Settled(made.told);
        let gathering = Gathering::new(home, namespace, target, ask, Changed::read);
        Changing { gathering, shards_missing: made.shards_missing }
    }

    /// How long shards and processes may take to say that it is made, in place of five seconds.
    ///
    /// ```no_run
    /// # async fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
    /// use std::time::Duration;
    ///
    /// handle.to("/", "banned").disconnect().timeout(Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.gathering = self.gathering.timeout(timeout);
        self
    }

    /// Waits on this thread, which must not be a shard's.
    ///
    /// ```no_run
    /// # fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
    /// handle.to("/", "lobby").join("match").wait()?;
    /// handle.to("/", "match").emit("begin", ());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As when it is awaited: [`AckError::NotSent`] if too much is asked at a time, [`AckError::Stopped`] if the server does not run.
    /// On a shard's thread [`AckError::NotSent`]: the shard would wait for itself. The change is made nevertheless.
    pub fn wait(self) -> Result<Changed, AckError> {
        let shards_missing = self.shards_missing;
        self.gathering.wait().map(|changed| with_missing(changed, shards_missing))
    }

    /// Calls `callback` on this shard once it is made everywhere: for handlers that cannot await.
    ///
    /// ```no_run
    /// # fn example(cx: &mut shardcast::Context<'_>) {
    /// let socket = cx.socket();
    /// cx.to("red").join("match").then(move |_| {
    ///     socket.to("match").emit("begin", ());
    /// });
    /// # }
    /// ```
    ///
    /// # Panics
    /// Outside a shard's handlers and tasks, as [`spawn`] does: there is no shard to run the callback.
    pub fn then(mut self, callback: impl FnOnce(Result<Changed, AckError>) + 'static) {
        self.gathering.start();
        spawn(async move { callback(self.await) });
    }
}

fn with_missing(mut changed: Changed, shards_missing: usize) -> Changed {
    changed.shards_missing += shards_missing;
    changed
}

impl Future for Changing {
    type Output = Result<Changed, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let changed = ready!(Pin::new(&mut self.gathering).poll(cx));
        Poll::Ready(changed.map(|changed| with_missing(changed, self.shards_missing)))
    }
}

impl fmt::Debug for Changing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Changing").finish_non_exhaustive()
    }
}

/// A handler may end with it: the acknowledgement has no argument, and does not wait.
impl ToArgs for Changing {
    fn to_args(&self) -> impl Serialize + '_ {}

    fn is_unit(&self) -> bool {
        true
    }
}
