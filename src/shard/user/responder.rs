//! Requests that are answered from outside their shard, by any thread: what whoever answers holds, and the future that stands in for
//! him on the shard.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::base::buffer::SharedFrame;
use crate::base::shown::Shown;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::site::LocalAnswer;
use crate::shard::user::streamed::{BodySender, StreamError, Streamed};
use crate::shard::value::exchange::{Begun, Exchange, Given, Gone};
use crate::shard::value::route::BodyError;

/// Answers one HTTP request, on any thread and at any time: [`Server::fallback`](crate::Server::fallback) gives one with each request.
///
/// The answer is whole ([`respond`](Responder::respond)) or begins with a head ([`begin`](Responder::begin)). A responder that is
/// dropped unanswered answers 500, and the log says so. The server answers 504 after `route_timeout`; then, and when the client
/// leaves, the responder's answer goes nowhere.
#[derive(Debug)]
pub struct Responder {
    exchange: Arc<Exchange>,
    is_answered: bool,
}

impl Responder {
    /// The request's body. It may be read while the answer is written.
    pub fn body(&self) -> RequestBody {
        RequestBody { exchange: Arc::clone(&self.exchange), piece: SharedFrame::default(), used: 0 }
    }

    /// Answers.
    pub fn respond(mut self, response: Response) {
        self.is_answered = true;
        self.exchange.begin(Begun::Whole(response));
    }

    /// Answers with a head; the body is written afterwards, `len` bytes of it if that is known. The response's own body is not sent.
    ///
    /// With a length the client gets `Content-Length`; without one HTTP/1.1 gets chunks, and HTTP/1.0 a body that ends with the
    /// connection. A HEAD request, and a status that has no body, gets the head only: what is written then goes nowhere.
    pub fn begin(mut self, response: Response, len: Option<usize>) -> BodyWriter {
        self.is_answered = true;
        self.exchange.begin(Begun::Stream(response, len));
        BodyWriter { exchange: Arc::clone(&self.exchange), is_finished: false }
    }

    /// Whether nobody waits for the answer any more: the client has gone, or it was answered 504.
    pub fn is_gone(&self) -> bool {
        self.exchange.is_gone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.is_answered {
            self.exchange.begin(Begun::Unanswered);
        }
    }
}

/// Writes the body of an answer, on any thread: [`Responder::begin`] gives it.
///
/// Dropped without [`finish`](BodyWriter::finish) it cuts the connection, so that no client takes half an answer for a whole one.
#[derive(Debug)]
pub struct BodyWriter {
    exchange: Arc<Exchange>,
    is_finished: bool,
}

impl BodyWriter {
    /// Writes all of it, and waits where the client is behind: 64 KiB wait on the way to the shard, and 64 KiB there. A client that takes
    /// less than 1 KiB a second is closed, so no wait is for ever.
    ///
    /// It holds its thread meanwhile; a shard's own never calls it. For tasks there is [`send`](BodyWriter::send).
    ///
    /// # Errors
    /// The client has gone.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Gone> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let count = self.exchange.give(rest)?;
            rest = &rest[count..];
            if count == 0 {
                self.exchange.wait_for_room()?;
            }
        }
        Ok(())
    }

    /// Writes the beginning, as much as there is room for, without waiting. 0 says that there is none now.
    ///
    /// # Errors
    /// The client has gone.
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        self.exchange.give(bytes)
    }

    /// Writes all of it, and waits as a task does, on any runtime.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Gone> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            poll_fn(|cx| self.exchange.poll_room(cx.waker())).await?;
            let count = self.exchange.give(rest)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Whether the client has gone.
    pub fn is_gone(&self) -> bool {
        self.exchange.is_gone()
    }

    /// That was all.
    pub fn finish(mut self) {
        self.is_finished = true;
        self.exchange.end_given(Given::End);
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            self.exchange.end_given(Given::Abandoned);
        }
    }
}

/// Reads the body of a request, on any thread: [`Responder::body`] gives it.
///
/// A body of at most `max_http_buffer_size` bytes is there already. A longer one, and one that is chunked, comes while it is read: 64 KiB
/// wait at each end, and then the client does. A client that waits for `100 Continue` is told to go on when its body is first read.
#[derive(Debug)]
pub struct RequestBody {
    exchange: Arc<Exchange>,
    piece: SharedFrame,
    used: usize,
}

impl RequestBody {
    /// The next piece, as it came, or `None` behind the last. It waits for it, and holds its thread; see
    /// [`next_piece`](RequestBody::next_piece).
    ///
    /// # Errors
    /// The rest will not come: it is longer than `upload_bytes_max`, comes too slowly, or not at all.
    pub fn read_piece(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if self.used < self.piece.len() {
            return Ok(Some(self.take_rest()));
        }
        Ok(self.exchange.wait_for_piece()?.map(unshared))
    }

    /// The same for a task, on any runtime.
    ///
    /// # Errors
    /// As [`read_piece`](RequestBody::read_piece).
    pub async fn next_piece(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if self.used < self.piece.len() {
            return Ok(Some(self.take_rest()));
        }
        Ok(poll_fn(|cx| self.exchange.poll_piece(cx.waker())).await?.map(unshared))
    }

    fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.piece[self.used..].to_vec();
        self.used = self.piece.len();
        rest
    }
}

fn unshared(piece: SharedFrame) -> Vec<u8> {
    Arc::try_unwrap(piece).unwrap_or_else(|piece| piece.to_vec())
}

/// Reads what has come, and waits while nothing has. An error is a [`BodyError`] within.
impl io::Read for RequestBody {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            match self.exchange.wait_for_piece() {
                Ok(Some(piece)) => (self.piece, self.used) = (piece, 0),
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::new(kind_of(error), error)),
            }
        }
        let rest = &self.piece[self.used..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

fn kind_of(error: BodyError) -> io::ErrorKind {
    match error {
        BodyError::TooLarge | BodyError::Malformed => io::ErrorKind::InvalidData,
        BodyError::TooSlow => io::ErrorKind::TimedOut,
        BodyError::Incomplete => io::ErrorKind::UnexpectedEof,
        BodyError::Over => io::ErrorKind::ConnectionAborted,
    }
}

/// The shard's end. Whoever answers hears that it is gone.
struct ShardEnd(Arc<Exchange>);

impl Drop for ShardEnd {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Gives a request to whoever answers it elsewhere; the future waits for the answer.
pub(crate) fn give_away(
    request: OwnedRequest,
    take: &(dyn Fn(&Request<'_>, Responder) + Send + Sync),
) -> LocalAnswer<Streamed> {
    let body = (!request.is_upload()).then(|| SharedFrame::clone(&request.kept.body));
    let exchange = Arc::new(Exchange::new(body, request.method() == Method::Head));
    let end = ShardEnd(Arc::clone(&exchange));
    request.with(|request| take(request, Responder { exchange, is_answered: false }));
    Box::pin(answer(request, end))
}

async fn answer(request: OwnedRequest, end: ShardEnd) -> Streamed {
    let begun = poll_fn(|cx| {
        look(&request, &end, cx);
        end.0.poll_begun()
    });
    match begun.await {
        Begun::Whole(response) => Streamed::whole(response),
        Begun::Stream(response, len) => Streamed::with_head(response, len, |body| write(request, end, body)),
        Begun::Unanswered => {
            let path = Shown(request.path());
            tracing::error!(%path, "answered 500: its responder was dropped unanswered");
            let text = Status::INTERNAL_SERVER_ERROR.reason();
            Streamed::whole(Response::text(text).with_status(Status::INTERNAL_SERVER_ERROR))
        }
    }
}

/// Passes on what is written elsewhere, as fast as the client takes it.
async fn write(request: OwnedRequest, end: ShardEnd, mut body: BodySender) -> Result<(), StreamError> {
    loop {
        let given = poll_fn(|cx| {
            look(&request, &end, cx);
            end.0.poll_given()
        });
        match given.await {
            Given::Piece(piece) => body.send(piece).await?,
            Given::End => return Ok(()),
            Given::Abandoned => Err("its writer was dropped before it had finished")?,
        }
    }
}

/// From now on the future hears of what happens elsewhere. Takes what has come of a body that is wanted.
fn look(request: &OwnedRequest, end: &ShardEnd, cx: &mut Context<'_>) {
    end.0.await_outside(cx.waker());
    while end.0.wants_body() {
        match request.poll_chunk(cx) {
            Poll::Ready(piece) => end.0.take_in(piece),
            Poll::Pending => return,
        }
    }
}

/// Whoever answers may be anywhere.
const _: fn() = || {
    fn is_send<T: Send + Sync>() {}
    is_send::<(Responder, BodyWriter, RequestBody)>();
};
