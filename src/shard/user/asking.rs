//! What a socket was asked by a thread outside its shard.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::message::inquiry::AckError;
use crate::shard::user::current::current;
use crate::shard::user::gathering::block_on;

/// An answer of one socket, from its shard: awaited on any runtime, or waited for on a thread that is no shard's. See
/// [`Post::ask`](crate::Post::ask).
#[must_use = "whoever asks wants to know"]
pub struct Asking<T> {
    /// None: it was not sent.
    told: Option<oneshot::AsyncReceiver<T>>,
}

impl<T> Asking<T> {
    pub(crate) fn new(told: oneshot::Receiver<T>) -> Asking<T> {
        Asking { told: Some(told.into_future()) }
    }

    pub(crate) fn not_sent() -> Asking<T> {
        Asking { told: None }
    }

    /// Waits on this thread, which must not be a shard's.
    ///
    /// # Errors
    /// [`AckError::Disconnected`]: the socket is gone. [`AckError::NotSent`]: its shard's inbox was full, or this is a shard's thread, which
    /// would wait for itself.
    pub fn wait(self) -> Result<T, AckError> {
        let Some(told) = self.told else { return Err(AckError::NotSent) };
        if current().is_some() {
            tracing::error!("wait() was called on a shard's thread, which it would stop; await instead");
            return Err(AckError::NotSent);
        }
        block_on(told).ok_or(AckError::Disconnected)
    }
}

/// No field refers to another.
impl<T> Unpin for Asking<T> {}

impl<T> Future for Asking<T> {
    type Output = Result<T, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(told) = &mut self.told else { return Poll::Ready(Err(AckError::NotSent)) };
        Poll::Ready(ready!(Pin::new(told).poll(cx)).map_err(|_| AckError::Disconnected))
    }
}

impl<T> fmt::Debug for Asking<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Asking").field("is_sent", &self.told.is_some()).finish()
    }
}
