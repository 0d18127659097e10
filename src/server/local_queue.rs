//! A message queue for the processes of one machine: the public face.

use std::fmt;
use std::path::PathBuf;

use crate::config::queue::address::QueueAddress;
use crate::config::queue::url::QueueUrl;
use crate::driver::local_queue::LocalBroker;
use crate::server::{Error, Result};

/// A message queue that this process serves to others of the same machine, by a Unix socket: several processes are one server without a
/// broker beside them. Each, this one or another, names its [`url`](LocalQueue::url) as
/// [`message_queue`](crate::EngineOptions::message_queue).
///
/// ```
/// use shardcast::{Config, EngineOptions, LocalQueue, Server};
///
/// # fn main() -> shardcast::Result<()> {
/// # let folder = std::env::temp_dir();
/// # let path = folder.join(format!("shardcast-doc-{}", std::process::id()));
/// let queue = LocalQueue::serve(path)?;
/// let engine = EngineOptions { message_queue: queue.url(), ..EngineOptions::default() };
/// let server = Server::new(Config { engine, ..Config::default() }).namespace("/", |_| {});
/// # drop(server);
/// # Ok(())
/// # }
/// ```
///
/// It keeps nothing, as Redis' pub/sub does: while it is away, each process goes on for itself, and they connect again. Only processes of
/// the same user may connect. It runs on a thread of its own, and ends when it is dropped.
pub struct LocalQueue {
    broker: LocalBroker,
    path: PathBuf,
}

impl LocalQueue {
    /// Serves a queue at a path, which is whole: `/run/chat/queue`. A socket that a process before this one has left there gives way.
    ///
    /// # Errors
    /// The path cannot be bound, or another process serves it.
    pub fn serve(path: impl Into<PathBuf>) -> Result<LocalQueue> {
        let path = path.into();
        QueueAddress::parse(&url_of(&path)).map_err(Error::new)?;
        let broker = LocalBroker::start(&path).map_err(Error::new)?;
        Ok(LocalQueue { broker, path })
    }

    /// What other processes name as their `message_queue`.
    pub fn url(&self) -> QueueUrl {
        url_of(&self.path).into()
    }

    /// Ends it, as dropping it does.
    pub fn stop(self) {
        drop(self.broker);
    }
}

fn url_of(path: &std::path::Path) -> String {
    format!("unix:{}", path.display())
}

impl fmt::Debug for LocalQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalQueue").field("path", &self.path).finish_non_exhaustive()
    }
}
