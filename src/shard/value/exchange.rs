//! What passes between a request on its shard and whoever answers it on another thread: the body on its way in, the answer on its way
//! out, who waits for what, and that one of the two is gone.
//!
//! Both sides keep little: a side that is ahead of the other waits. Nothing here knows connections or futures of the user's.

use std::collections::VecDeque;
use std::sync::Condvar;
// The two sides are on different threads. It is held while bytes are copied, never while anybody waits.
#[allow(clippy::disallowed_types)]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::base::buffer::SharedFrame;
use crate::protocol::http::response::Response;
use crate::shard::value::route::BodyError;

/// Bytes of a request's body that wait for whoever answers. Beyond it nothing more is taken from the client, but for the piece at hand.
pub(crate) const TAKEN_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an answer that wait for the shard before whoever writes them waits.
pub(crate) const GIVEN_BYTES_MAX: usize = 64 * 1024;

/// The request is over: its client has gone, or its time is up, or the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the request is over: its client has gone, or the answer took too long")
    }
}

impl std::error::Error for Gone {}

/// How an answer begins.
#[derive(Debug)]
pub(crate) enum Begun {
    Whole(Response),
    /// A head; the body follows, of so many bytes if that is known.
    Stream(Response, Option<usize>),
    /// Whoever was to answer has dropped the request.
    Unanswered,
}

/// What of the body of an answer comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Piece(Vec<u8>),
    /// That was all.
    End,
    /// Whoever wrote it has dropped it in the middle.
    Abandoned,
}

/// How far an answer is.
#[derive(Debug)]
enum Answer {
    Awaited,
    Begun(Box<Begun>),
    /// The shard has its beginning.
    Taken,
}

#[derive(Debug)]
struct State {
    /// Pieces of the request's body that were not read yet.
    taken: VecDeque<SharedFrame>,
    taken_bytes: usize,
    /// Somebody reads the body: until then a client that asks is not told to go on.
    is_body_wanted: bool,
    body_end: Option<Result<(), BodyError>>,
    answer: Answer,
    /// Bytes of the answer's body that the shard has not taken.
    given: Vec<u8>,
    given_end: Option<Given>,
    /// The answer has a head only: what is written goes nowhere.
    is_bodiless: bool,
    /// The shard has nothing more to do with it.
    is_over: bool,
    /// The future on the shard.
    shard: Option<Waker>,
    /// Tasks elsewhere: one reads, one writes.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One request that is answered elsewhere. Each side has it by a pointer.
#[allow(clippy::disallowed_types)]
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// Something has changed for threads that wait.
    changed: Condvar,
    is_head: bool,
}

impl Exchange {
    /// For a request whose body is there, or for one whose body comes piece by piece.
    pub(crate) fn new(body: Option<SharedFrame>, is_head: bool) -> Exchange {
        let body_end = body.is_some().then_some(Ok(()));
        let taken: VecDeque<SharedFrame> = body.into_iter().filter(|body| !body.is_empty()).collect();
        #[allow(clippy::disallowed_types)]
        let state = Mutex::new(State {
            taken_bytes: taken.iter().map(|piece| piece.len()).sum(),
            taken,
            is_body_wanted: false,
            body_end,
            answer: Answer::Awaited,
            given: Vec::new(),
            given_end: None,
            is_bodiless: false,
            is_over: false,
            shard: None,
            reader: None,
            writer: None,
        });
        Exchange { state, changed: Condvar::new(), is_head }
    }

    #[allow(clippy::disallowed_types)]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes the side that may wait for it.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R, whom: fn(&mut State) -> Option<Waker>) -> R {
        let (done, waker) = {
            let mut state = self.lock();
            let done = change(&mut state);
            (done, whom(&mut state))
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        done
    }
}

// The shard's side.
impl Exchange {
    /// Notes the future that goes on when something changes; before it looks what has.
    pub(crate) fn await_outside(&self, waker: &Waker) {
        let mut state = self.lock();
        if state.shard.as_ref().is_none_or(|own| !own.will_wake(waker)) {
            state.shard = Some(waker.clone());
        }
    }

    /// Whether more of the body is to be taken from the client.
    pub(crate) fn wants_body(&self) -> bool {
        let state = self.lock();
        state.is_body_wanted && state.body_end.is_none() && state.taken_bytes < TAKEN_BYTES_MAX
    }

    /// A piece of the body has come, or `None`: that was all.
    pub(crate) fn take_in(&self, piece: Result<Option<Vec<u8>>, BodyError>) {
        let change = |state: &mut State| match piece {
            Ok(Some(piece)) => {
                state.taken_bytes += piece.len();
                state.taken.push_back(SharedFrame::new(piece));
            }
            Ok(None) => state.body_end = Some(Ok(())),
            Err(error) => state.body_end = Some(Err(error)),
        };
        self.change(change, |state| state.reader.take());
    }

    /// How the answer begins, once.
    pub(crate) fn poll_begun(&self) -> Poll<Begun> {
        let mut state = self.lock();
        if !matches!(state.answer, Answer::Begun(_)) {
            return Poll::Pending;
        }
        match std::mem::replace(&mut state.answer, Answer::Taken) {
            Answer::Begun(begun) => Poll::Ready(*begun),
            Answer::Awaited | Answer::Taken => Poll::Pending,
        }
    }

    /// What of the body was written meanwhile.
    pub(crate) fn poll_given(&self) -> Poll<Given> {
        let next = |state: &mut State| {
            if !state.given.is_empty() {
                return Poll::Ready(Given::Piece(std::mem::take(&mut state.given)));
            }
            state.given_end.take().map_or(Poll::Pending, Poll::Ready)
        };
        self.change(next, |state| if state.given.is_empty() { state.writer.take() } else { None })
    }

    /// The request is over for its shard.
    pub(crate) fn end(&self) {
        let end = |state: &mut State| {
            state.is_over = true;
            state.shard = None;
            state.given = Vec::new();
            state.body_end.get_or_insert(Err(BodyError::Over));
            state.reader.take()
        };
        let reader = self.change(end, |state| state.writer.take());
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

// The side of whoever answers.
impl Exchange {
    /// Begins the answer. What comes second is not taken.
    pub(crate) fn begin(&self, begun: Begun) {
        let is_head = self.is_head;
        let begin = |state: &mut State| {
            if !matches!(state.answer, Answer::Awaited) {
                return;
            }
            if let Begun::Stream(response, _) = &begun {
                state.is_bodiless = is_head || !response.status().may_have_body();
            }
            state.answer = Answer::Begun(Box::new(begun));
        };
        self.change(begin, |state| state.shard.take());
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_gone(&self) -> bool {
        let state = self.lock();
        state.is_over && !state.is_bodiless
    }

    /// Writes the beginning of some bytes, as many as there is room for; 0 is none now.
    pub(crate) fn give(&self, bytes: &[u8]) -> Result<usize, Gone> {
        let give = |state: &mut State| {
            if state.is_bodiless {
                return Ok(bytes.len());
            }
            if state.is_over {
                return Err(Gone);
            }
            let count = GIVEN_BYTES_MAX.saturating_sub(state.given.len()).min(bytes.len());
            state.given.extend_from_slice(&bytes[..count]);
            Ok(count)
        };
        self.change(give, |state| if state.given.is_empty() { None } else { state.shard.take() })
    }

    /// That was all of the answer's body, or will not be.
    pub(crate) fn end_given(&self, end: Given) {
        self.change(|state| state.given_end = Some(end), |state| state.shard.take());
    }

    /// Waits until there is room for more of the answer.
    pub(crate) fn wait_for_room(&self) -> Result<(), Gone> {
        let mut state = self.lock();
        loop {
            if let Poll::Ready(ready) = state.room() {
                return ready;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same for a task.
    pub(crate) fn poll_room(&self, waker: &Waker) -> Poll<Result<(), Gone>> {
        let mut state = self.lock();
        let room = state.room();
        if room.is_pending() {
            state.writer = Some(waker.clone());
        }
        room
    }

    /// The next piece of the request's body; `None` behind the last.
    pub(crate) fn wait_for_piece(&self) -> Result<Option<SharedFrame>, BodyError> {
        self.want_body();
        let mut state = self.lock();
        loop {
            if let Poll::Ready(piece) = state.next_piece() {
                drop(state);
                self.ask_for_more();
                return piece;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same for a task.
    pub(crate) fn poll_piece(&self, waker: &Waker) -> Poll<Result<Option<SharedFrame>, BodyError>> {
        self.want_body();
        let piece = {
            let mut state = self.lock();
            let piece = state.next_piece();
            if piece.is_pending() {
                state.reader = Some(waker.clone());
            }
            piece
        };
        if piece.is_ready() {
            self.ask_for_more();
        }
        piece
    }

    fn want_body(&self) {
        let waker = {
            let mut state = self.lock();
            let is_first = !std::mem::replace(&mut state.is_body_wanted, true);
            if is_first && state.body_end.is_none() { state.shard.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A piece was read: there is room for the next.
    fn ask_for_more(&self) {
        let waker = {
            let mut state = self.lock();
            if state.body_end.is_none() { state.shard.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn room(&self) -> Poll<Result<(), Gone>> {
        if self.is_bodiless || !self.is_over && self.given.len() < GIVEN_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        if self.is_over { Poll::Ready(Err(Gone)) } else { Poll::Pending }
    }

    fn next_piece(&mut self) -> Poll<Result<Option<SharedFrame>, BodyError>> {
        if let Some(piece) = self.taken.pop_front() {
            self.taken_bytes -= piece.len();
            return Poll::Ready(Ok(Some(piece)));
        }
        self.body_end.map_or(Poll::Pending, |end| Poll::Ready(end.map(|()| None)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::protocol::http::status::Status;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn woken(count: &Count) -> usize {
        count.0.swap(0, Ordering::Relaxed)
    }

    fn stream() -> Begun {
        Begun::Stream(Response::new(Status::OK), None)
    }

    #[test]
    fn what_is_written_waits_for_the_shard_and_no_more_than_there_is_room_for() {
        let (exchange, (shard, shard_waker), (writer, writer_waker)) =
            (Exchange::new(None, false), counted(), counted());
        exchange.await_outside(&shard_waker);
        exchange.begin(stream());
        assert_eq!(woken(&shard), 1);
        assert!(matches!(exchange.poll_begun(), Poll::Ready(Begun::Stream(..))));
        assert!(exchange.poll_begun().is_pending(), "an answer begins once");
        exchange.await_outside(&shard_waker);
        assert_eq!(exchange.give(&[1; 10]), Ok(10));
        assert_eq!(exchange.give(&[2; GIVEN_BYTES_MAX]), Ok(GIVEN_BYTES_MAX - 10));
        assert_eq!(woken(&shard), 1, "a future that was woken is not woken again before it has looked");
        assert_eq!(exchange.give(&[3]), Ok(0));
        assert!(exchange.poll_room(&writer_waker).is_pending());
        let Poll::Ready(Given::Piece(piece)) = exchange.poll_given() else { panic!("nothing is there") };
        assert_eq!((piece.len(), &piece[..11]), (GIVEN_BYTES_MAX, &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2][..]));
        assert_eq!(woken(&writer), 1);
        assert_eq!(exchange.poll_room(&writer_waker), Poll::Ready(Ok(())));
        assert!(exchange.poll_given().is_pending());
        exchange.end_given(Given::End);
        assert_eq!(exchange.poll_given(), Poll::Ready(Given::End));
    }

    #[test]
    fn a_body_is_taken_once_it_is_wanted_and_for_so_many_bytes() {
        let (exchange, (shard, shard_waker), (reader, reader_waker)) =
            (Exchange::new(None, false), counted(), counted());
        exchange.await_outside(&shard_waker);
        assert!(!exchange.wants_body(), "who does not read has the client wait for its 100");
        assert!(exchange.poll_piece(&reader_waker).is_pending());
        assert_eq!((woken(&shard), exchange.wants_body()), (1, true));
        exchange.take_in(Ok(Some(vec![7; TAKEN_BYTES_MAX])));
        assert_eq!((woken(&reader), exchange.wants_body()), (1, false));
        exchange.await_outside(&shard_waker);
        let piece = exchange.poll_piece(&reader_waker);
        assert!(matches!(piece, Poll::Ready(Ok(Some(piece))) if piece.len() == TAKEN_BYTES_MAX));
        assert_eq!((woken(&shard), exchange.wants_body()), (1, true));
        exchange.take_in(Err(BodyError::TooSlow));
        for _ in 0..2 {
            assert_eq!(exchange.poll_piece(&reader_waker), Poll::Ready(Err(BodyError::TooSlow)));
        }
        assert!(!exchange.wants_body());
    }

    #[test]
    fn a_body_that_is_there_is_one_piece_and_an_empty_one_is_none() {
        let whole = Exchange::new(Some(SharedFrame::new(vec![1, 2])), false);
        assert_eq!(whole.wait_for_piece(), Ok(Some(SharedFrame::new(vec![1, 2]))));
        for exchange in [whole, Exchange::new(Some(SharedFrame::default()), false)] {
            assert_eq!(exchange.wait_for_piece(), Ok(None));
        }
    }

    #[test]
    fn both_sides_hear_that_it_is_over() {
        let (exchange, (reader, reader_waker), (writer, writer_waker)) =
            (Exchange::new(None, false), counted(), counted());
        exchange.begin(stream());
        assert_eq!(exchange.give(&[0; 2 * GIVEN_BYTES_MAX]), Ok(GIVEN_BYTES_MAX));
        assert!(exchange.poll_piece(&reader_waker).is_pending());
        assert!(exchange.poll_room(&writer_waker).is_pending());
        assert!(!exchange.is_gone());
        exchange.end();
        assert_eq!((woken(&reader), woken(&writer), exchange.is_gone()), (1, 1, true));
        assert_eq!((exchange.give(&[1]), exchange.wait_for_room()), (Err(Gone), Err(Gone)));
        assert_eq!(exchange.wait_for_piece(), Err(BodyError::Over));
    }

    #[test]
    fn what_has_a_head_only_takes_every_byte_and_keeps_none() {
        let rows = [
            (true, Status::OK, true),
            (false, Status::NO_CONTENT, true),
            (false, Status::NOT_MODIFIED, true),
            (false, Status::OK, false),
        ];
        for (is_head, status, is_bodiless) in rows {
            let exchange = Exchange::new(None, is_head);
            exchange.begin(Begun::Stream(Response::new(status), None));
            exchange.end();
            let taken = exchange.give(&[0; 2 * GIVEN_BYTES_MAX]);
            assert_eq!(taken == Ok(2 * GIVEN_BYTES_MAX), is_bodiless, "{is_head} {status:?}");
            assert_eq!(exchange.is_gone(), !is_bodiless, "{is_head} {status:?}");
        }
    }
}
