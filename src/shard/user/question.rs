//! An event that awaits its acknowledgement.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::message::inquiry::AckError;
use crate::shard::user::socket::Socket;
use crate::shard::value::answer::Answer;
use crate::shard::value::args::ToArgs;

/// An event that waits for its answer: await it.
#[must_use = "nothing is sent until this is awaited"]
pub struct Question<A> {
    pub(crate) socket: Socket,
    pub(crate) event: String,
    pub(crate) args: Option<A>,
    pub(crate) timeout: Duration,
    pub(crate) cell: Rc<RefCell<AnswerCell>>,
}

#[derive(Default)]
pub(crate) struct AnswerCell {
    answer: Option<Result<Answer, AckError>>,
    waker: Option<Waker>,
}

impl<A> Question<A> {
    /// How long to wait, in place of `ack_timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<A> fmt::Debug for Question<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Question")
            .field("event", &self.event)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl<A> Unpin for Question<A> {}

impl<A: ToArgs> Future for Question<A> {
    type Output = Result<Answer, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let cell = Rc::clone(&self.cell);
        if let Some(args) = self.args.take() {
            let filled = Rc::clone(&cell);
            let then = Box::new(move |answer| {
                let waker = {
                    let mut cell = filled.borrow_mut();
                    cell.answer = Some(answer);
                    cell.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
            self.socket.emit_expecting(&self.event, args, self.timeout, then);
        }
        let mut cell = cell.borrow_mut();
        match cell.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                cell.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Socket {
    /// Sends an event and waits for the client's answer: Flask-SocketIO's `call`, Node's `emitWithAck`.
    ///
    /// The event leaves when the result is first awaited. Without an answer to wait for: [`emit`](Socket::emit).
    ///
    /// ```no_run
    /// # async fn example(socket: shardcast::Socket) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let answer = socket.emit_with_ack("question", 42).timeout(Duration::from_secs(1)).await?;
    /// let text: String = answer.first()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AckError`]: no answer in time, or the client is gone.
    pub fn emit_with_ack<A: ToArgs>(&self, event: &str, args: A) -> Question<A> {
        let timeout = self.core.borrow().tables.env.config.ack_timeout;
        Question {
            socket: self.clone(),
            event: event.to_owned(),
            args: Some(args),
            timeout,
            cell: Rc::default(),
        }
    }
}
