//! Answers whose bodies are made piece by piece, while the client takes them.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::time::Duration;

use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::protocol::http::events::{EVENTS_TYPE, Event};
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::core::SharedCore;
use crate::shard::value::route::{Answered, EVENTS_KEEP_ALIVE, STREAM_OWED_BYTES_MAX, StreamParts};
use crate::shard::value::task::LocalFuture;

type Producer = Box<dyn FnOnce(BodySender) -> LocalFuture>;

/// An answer whose body is made piece by piece.
///
/// The function is given a [`BodySender`], and returns a future that sends. It runs on the shard of the request; others go on
/// meanwhile. While the client is behind, sending waits. If the client leaves, the future is dropped.
///
/// ```
/// use std::time::Duration;
/// use shardcast::http::Streamed;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |_| {}).route("/count", |_| {
///     Streamed::new("text/plain", |mut body| async move {
///         for number in 0..3 {
///             body.send(format!("{number}\n")).await?;
///             shardcast::sleep(Duration::from_secs(1)).await;
///         }
///         Ok(())
///     })
/// });
/// let server = TestServer::new(server).unwrap();
/// let mut answer = server.begin(shardcast::http::Method::Get, "/count", &[]);
/// assert_eq!(answer.body(), b"0\n");
/// server.advance(Duration::from_secs(1));
/// assert_eq!(answer.body(), b"0\n1\n");
/// server.advance(Duration::from_secs(2));
/// assert!(answer.is_complete());
/// ```
///
/// Clients of HTTP/1.1 get chunks, those of HTTP/1.0 a body that ends with the connection. A HEAD request, and a status that has no body,
/// gets the headers only. It is never compressed. If the future ends with an error or a panic, the connection is cut, so that
/// the client knows that something is missing.
pub struct Streamed {
    response: Response,
    producer: Option<Producer>,
    len: Option<usize>,
    keep_alive: Option<Duration>,
}

impl fmt::Debug for Streamed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Streamed").field("response", &self.response).finish_non_exhaustive()
    }
}

impl Streamed {
    /// An answer with a body of this type that `produce` makes: 200, unless [`with_status`](Streamed::with_status) says otherwise.
    pub fn new<F>(
        content_type: impl Into<String>,
        produce: impl FnOnce(BodySender) -> F + 'static,
    ) -> Streamed
    where
        F: Future<Output = Result<(), StreamError>> + 'static,
    {
        let response = Response::new(Status::OK).header("content-type", content_type.into());
        let producer: Producer = Box::new(|body| Box::pin(run(body, produce)));
        Streamed { response, producer: Some(producer), len: None, keep_alive: None }
    }

    /// Server-sent events: what `new EventSource(url)` in a browser listens to. A comment every 15 s while there is no event keeps
    /// proxies from closing the connection. A browser that lost it comes back by itself, and says in
    /// [`last_event_id`](crate::http::Request::last_event_id) which event it had last.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::http::{Event, Request, Streamed};
    /// use shardcast::{Config, Server};
    ///
    /// fn ticks(request: &Request<'_>) -> Streamed {
    ///     let last: u64 = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
    ///     Streamed::events(move |mut events| async move {
    ///         for number in last + 1.. {
    ///             events.send(&Event::new(format!("tick {number}")).id(number)).await?;
    ///             shardcast::sleep(Duration::from_secs(1)).await;
    ///         }
    ///         Ok(())
    ///     })
    /// }
    ///
    /// Server::new(Config::default()).route("/ticks", ticks);
    /// ```
    pub fn events<F>(produce: impl FnOnce(EventSender) -> F + 'static) -> Streamed
    where
        F: Future<Output = Result<(), StreamError>> + 'static,
    {
        let stream = Streamed::new(EVENTS_TYPE, move |body| produce(EventSender { body }));
        // nginx would keep events back until its buffer is full.
        let stream = stream.header("cache-control", "no-store").header("x-accel-buffering", "no");
        Streamed { keep_alive: Some(EVENTS_KEEP_ALIVE), ..stream }
    }

    /// How often a stream of events that is silent gets a comment. Default: 15 s.
    #[must_use]
    pub fn keep_alive(mut self, period: Duration) -> Streamed {
        if let Some(keep_alive) = &mut self.keep_alive {
            *keep_alive = period.max(Duration::from_millis(1));
        }
        self
    }

    /// Says how many bytes the body has: the client gets `Content-Length` rather than chunks, and can show how far it is. If the
    /// future sends more, the rest is dropped. If it ends with less, the connection is cut, and the log says so.
    ///
    /// ```
    /// use shardcast::http::Streamed;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config::default()).namespace("/", |_| {}).route("/ten", |_| {
    ///     Streamed::new("text/plain", |mut body| async move {
    ///         for digit in 0..10 {
    ///             body.send(digit.to_string()).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .length(10)
    /// });
    /// let answer = TestServer::new(server).unwrap().get("/ten");
    /// assert_eq!((answer.header("content-length"), answer.text()), (Some("10"), "0123456789".to_owned()));
    /// ```
    #[must_use]
    pub fn length(mut self, bytes: usize) -> Streamed {
        self.len = Some(bytes);
        self
    }

    /// Replaces the status.
    #[must_use]
    pub fn with_status(self, status: Status) -> Streamed {
        Streamed { response: self.response.with_status(status), ..self }
    }

    /// Adds a header. One that would break the message makes the answer a 500, as in [`Response::header`].
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Streamed {
        Streamed { response: self.response.header(name.into(), value.into()), ..self }
    }

    /// A stream with this head, whose producer says itself how it ends.
    pub(crate) fn with_head<F>(
        response: Response,
        len: Option<usize>,
        produce: impl FnOnce(BodySender) -> F + 'static,
    ) -> Streamed
    where
        F: Future<Output = Result<(), StreamError>> + 'static,
    {
        let producer: Producer = Box::new(|body| Box::pin(run(body, produce)));
        Streamed { response, producer: Some(producer), len, keep_alive: None }
    }

    /// An answer that is whole already.
    pub(crate) fn whole(response: Response) -> Streamed {
        Streamed { response, producer: None, len: None, keep_alive: None }
    }

    /// Lets what comes after routes change the head. The body of a stream is not its affair.
    pub(crate) fn map_head(self, change: impl FnOnce(Response) -> Response) -> Streamed {
        Streamed { response: change(self.response), ..self }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.producer.is_none() || self.response.is_refused()
    }

    pub(crate) fn into_response(self) -> Response {
        self.response
    }

    /// The answer to a request that waits.
    pub(crate) fn begin(self, core: &SharedCore, route: Key) -> Answered {
        let is_whole = self.is_whole();
        let Streamed { response, producer, len, keep_alive } = self;
        let sender = BodySender { core: SharedCore::clone(core), route };
        let producer = producer.filter(|_| !is_whole);
        let stream = producer.map(|producer| StreamParts { producer: producer(sender), len, keep_alive });
        Answered { response, stream }
    }
}

/// Runs a producer, and ends its body: well, or by cutting the connection.
async fn run<F>(body: BodySender, produce: impl FnOnce(BodySender) -> F)
where
    F: Future<Output = Result<(), StreamError>>,
{
    let (core, route) = (SharedCore::clone(&body.core), body.route);
    let result = produce(body).await;
    if let Err(StreamError::Failed(error)) = &result {
        tracing::error!(error = %Shown(error), "a streamed answer failed; its connection is cut");
    }
    core.borrow_mut().tables.finish_stream(route, result.is_ok());
}

/// Why a streamed answer ends before its end. Any error becomes one by `?`.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The client has gone, or the request is over.
    Gone,
    /// Its producer failed: logged, and the connection is cut.
    Failed(Box<dyn Error>),
}

impl fmt::Display for StreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Gone => formatter.write_str("the client of a streamed answer has gone"),
            StreamError::Failed(error) => error.fmt(formatter),
        }
    }
}

impl<E: Into<Box<dyn Error>>> From<E> for StreamError {
    fn from(error: E) -> StreamError {
        StreamError::Failed(error.into())
    }
}

/// Sends the body of a [`Streamed`] answer.
pub struct BodySender {
    core: SharedCore,
    route: Key,
}

impl fmt::Debug for BodySender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BodySender").finish_non_exhaustive()
    }
}

impl BodySender {
    /// Sends a piece. It waits while the client is owed 64 KiB or more, so a producer is as fast as its client, and no memory is
    /// filled. What was sent leaves at the end of the shard's turn, within a millisecond or so.
    ///
    /// # Errors
    /// [`StreamError::Gone`]: the client has gone. Seen by tasks of your own that hold the sender; the producer itself is
    /// dropped then.
    pub async fn send(&mut self, piece: impl AsRef<[u8]>) -> Result<(), StreamError> {
        for part in piece.as_ref().chunks(STREAM_OWED_BYTES_MAX) {
            let room = poll_fn(|cx| {
                // A waker may be user code: it is cloned, and the one before dropped, while nothing is borrowed.
                let mut waker = Some(cx.waker().clone());
                self.core.borrow_mut().tables.poll_stream(self.route, &mut waker)
            });
            room.await.map_err(|_| StreamError::Gone)?;
            self.core.borrow_mut().tables.send_part(self.route, part);
        }
        Ok(())
    }
}

/// Sends server-sent events: see [`Streamed::events`].
#[derive(Debug)]
pub struct EventSender {
    body: BodySender,
}

impl EventSender {
    /// Sends an event; see [`BodySender::send`].
    ///
    /// # Errors
    /// [`StreamError::Gone`]: the client has gone.
    pub async fn send(&mut self, event: &Event) -> Result<(), StreamError> {
        self.body.send(event.to_string()).await
    }
}
