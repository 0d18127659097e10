//! The queue of an inbox: many senders, one receiver, a bound, and little memory while it is short.
//!
//! A bounded channel has all its places from the start: 64 Ki of them are two megabytes a shard. So there are two channels.
//! The first has few places and does not allocate. What finds it full goes into the second, which grows, and so does all
//! that comes after it until the second is empty again. What one sender sends comes in its order, and so does what another
//! sends after it has heard of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

/// Why a message was not taken; it is given back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal<T> {
    Full(T),
    /// The receiver is gone.
    Gone(T),
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct QueueSender<T> {
    first: Sender<T>,
    second: Sender<T>,
    /// Messages in the second channel, or on their way into it.
    overflowed: Arc<AtomicUsize>,
    messages_max: usize,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct QueueReceiver<T> {
    first: Receiver<T>,
    second: Receiver<T>,
    overflowed: Arc<AtomicUsize>,
}

/// What was in a queue at one moment and has not been taken since.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    first: usize,
    second: usize,
}

impl Waiting {
    pub(crate) fn is_over(self) -> bool {
        self.first == 0 && self.second == 0
    }
}

/// A queue of at most `messages_max`; the first `places` of them do not allocate.
pub(crate) fn queue<T>(messages_max: usize, places: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let (first, first_receiver) = crossbeam_channel::bounded(places.min(messages_max));
    let (second, second_receiver) = crossbeam_channel::unbounded();
    let overflowed = Arc::new(AtomicUsize::new(0));
    let receiver =
        QueueReceiver { first: first_receiver, second: second_receiver, overflowed: Arc::clone(&overflowed) };
    (QueueSender { first, second, overflowed, messages_max }, receiver)
}

impl<T> QueueSender<T> {
    /// Puts a message at the end, or gives it back; never waits. The bound may be missed by as many messages as there are senders
    /// at the same moment.
    pub(crate) fn send(&self, message: T) -> Result<(), Refusal<T>> {
        // What this sender, or one that it has heard of, put into the second channel is counted there until it is taken.
        let message = if self.overflowed.load(Ordering::Acquire) == 0 {
            match self.first.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(message)) => return Err(Refusal::Gone(message)),
                Err(TrySendError::Full(message)) => message,
            }
        } else {
            message
        };
        if self.is_full() {
            return Err(Refusal::Full(message));
        }
        self.overflowed.fetch_add(1, Ordering::AcqRel);
        self.second.send(message).map_err(|error| {
            self.overflowed.fetch_sub(1, Ordering::AcqRel);
            Refusal::Gone(error.0)
        })
    }

    /// Messages in it now.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.overflowed.load(Ordering::Acquire)
    }

    /// Whether it has no room now.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.messages_max
    }

    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "nobody speaks from outside"))]
    pub(crate) fn is_half_full(&self) -> bool {
        self.len() >= self.messages_max / 2
    }
}

impl<T> QueueReceiver<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }

    /// What is in it now.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting { first: self.first.len(), second: self.second.len() }
    }

    /// The next message; `waiting` forgets it if it was there.
    pub(crate) fn next(&self, waiting: &mut Waiting) -> Option<T> {
        // Looked at before the first channel: what one sender put into the first, before this went into the second, is there by now.
        let has_second = !self.second.is_empty();
        match self.first.try_recv() {
            Ok(message) => {
                waiting.first = waiting.first.saturating_sub(1);
                return Some(message);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) if !has_second => return None,
            Err(_) => {}
        }
        let message = self.take_second()?;
        waiting.second = waiting.second.saturating_sub(1);
        Some(message)
    }

    fn take_second(&self) -> Option<T> {
        let message = self.second.try_recv().ok()?;
        self.overflowed.fetch_sub(1, Ordering::AcqRel);
        Some(message)
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        // What is left counts no more: a sender is to hear that the receiver is gone, not that the queue is full.
        while self.take_second().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take<T>(receiver: &QueueReceiver<T>) -> Option<T> {
        receiver.next(&mut Waiting::default())
    }

    #[test]
    fn all_come_in_order_and_no_more_than_there_is_room_for() {
        for (max, places) in [(10, 3), (3, 3), (3, 10), (1, 1)] {
            let (sender, receiver) = queue(max, places);
            for round in 0..3 {
                assert_eq!((0..20).take_while(|number| sender.send(*number).is_ok()).count(), max);
                assert_eq!(sender.send(20), Err(Refusal::Full(20)), "{max} {places} {round}");
                assert_eq!(take(&receiver), Some(0));
                assert_eq!(sender.send(max), Ok(()), "there is room for one again");
                let rest: Vec<_> = std::iter::from_fn(|| take(&receiver)).collect();
                assert_eq!(rest, (1..=max).collect::<Vec<_>>(), "{max} {places} {round}");
                assert!(receiver.is_empty() && sender.overflowed.load(Ordering::Acquire) == 0);
            }
        }
    }

    #[test]
    fn who_sends_to_a_receiver_that_is_gone_hears_so() {
        for sent in [0, 1, 3, 4, 10] {
            let (sender, receiver) = queue(10, 3);
            (0..sent).for_each(|number| assert_eq!(sender.send(number), Ok(())));
            drop(receiver);
            assert_eq!(sender.send(11), Err(Refusal::Gone(11)), "after {sent}");
        }
    }

    #[test]
    fn what_waited_at_a_moment_is_known_until_it_was_taken() {
        let (sender, receiver) = queue(10, 2);
        (0..5).for_each(|number| assert_eq!(sender.send(number), Ok(())));
        let mut waiting = receiver.waiting();
        for number in 0..5 {
            assert!(!waiting.is_over());
            assert_eq!(receiver.next(&mut waiting), Some(number));
            assert_eq!(sender.send(9), Ok(()));
        }
        assert!(waiting.is_over());
    }
}
