//! One task of a thread wakes another of the same thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag that one task waits for.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    is_set: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Notify {
    /// Sets the flag and wakes who waits for it.
    pub(crate) fn notify(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// Waits for the flag, and takes it.
    pub(crate) async fn notified(&self) {
        poll_fn(|cx| {
            if self.is_set.replace(false) {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Waits for whichever of two futures is ready first; the first wins a tie.
pub(crate) async fn either<A, B>(first: A, second: B) -> Option<A::Output>
where
    A: Future,
    B: Future<Output = ()>,
{
    let mut first = std::pin::pin!(first);
    let mut second = std::pin::pin!(second);
    poll_fn(|cx| {
        if let Poll::Ready(value) = first.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        second.as_mut().poll(cx).map(|()| None)
    })
    .await
}
