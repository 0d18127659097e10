//! A request whose answer takes its time: what a route that waits was asked, what of its body has come, and how far a streamed
//! answer is.
//!
//! An entry lasts from the request's head, or from the moment its route begins to wait, until the last byte of the answer is
//! queued. Handles of user code name it by its key, so they find nothing once it is over.

use std::any::{Any, TypeId};
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::buffer::SharedFrame;
use crate::base::slab::{Key, Slab};
use crate::base::time::Time;
use crate::message::peer::Peer;
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::error::HttpError;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::value::task::LocalFuture;

/// Bytes of a streamed request body that wait for its route. Beyond it nothing more is read from the client.
pub(crate) const BODY_QUEUED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a streamed answer that its client may be owed before its producer waits.
pub(crate) const STREAM_OWED_BYTES_MAX: usize = 64 * 1024;

/// How long a route goes on for a client that has closed its sending half and takes nothing: most have gone.
pub(crate) const HALF_CLOSED_ROUTE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a stream of events is silent before it gets a comment, below the idle timeout of every proxy between.
pub(crate) const EVENTS_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Why the rest of a request's body will not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than its route takes.
    TooLarge,
    /// Its chunks are malformed.
    Malformed,
    /// It came too slowly: see `header_timeout`.
    TooSlow,
    /// The client ended the connection, or its sending half, in the middle.
    Incomplete,
    /// The request is answered, or its client has gone.
    Over,
}

impl BodyError {
    /// What the client is answered if nothing else is.
    pub fn status(self) -> Status {
        match self {
            BodyError::TooLarge => Status::CONTENT_TOO_LARGE,
            BodyError::TooSlow => Status::REQUEST_TIMEOUT,
            BodyError::Malformed | BodyError::Incomplete | BodyError::Over => Status::BAD_REQUEST,
        }
    }
}

impl From<HttpError> for BodyError {
    fn from(error: HttpError) -> BodyError {
        if error == HttpError::BodyTooLarge { BodyError::TooLarge } else { BodyError::Malformed }
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            BodyError::TooLarge => "the request body has more bytes than this route takes",
            BodyError::Malformed => "the chunks of the request body are malformed",
            BodyError::TooSlow => "the request body came too slowly",
            BodyError::Incomplete => "the request body ended before its end",
            BodyError::Over => "the request is over",
        })
    }
}

impl std::error::Error for BodyError {}

/// What was noted about a request by type: by a check before its route, for the route.
#[derive(Clone, Default)]
pub(crate) struct Values(OnceCell<Rc<RefCell<ByType>>>);

type ByType = FxHashMap<TypeId, Rc<dyn Any>>;

impl Values {
    pub(crate) fn set<T: 'static>(&self, value: T) {
        let values = self.0.get_or_init(Rc::default);
        // What it replaces is dropped once nothing is borrowed: its destructor is user code.
        let _before = values.borrow_mut().insert(TypeId::of::<T>(), Rc::new(value));
    }

    pub(crate) fn get<T: Clone + 'static>(&self) -> Option<T> {
        let found = self.0.get()?.borrow().get(&TypeId::of::<T>()).map(Rc::clone)?;
        found.downcast_ref::<T>().cloned()
    }

    /// The same values, shared.
    pub(crate) fn share(&self) -> Values {
        self.0.get_or_init(Rc::default);
        self.clone()
    }
}

/// A request as it is kept for a route that waits.
pub(crate) struct KeptRequest {
    /// The bytes of the head, which were whole and well-formed.
    pub(crate) head: Box<[u8]>,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) body: SharedFrame,
    /// The whole body was asked for as a piece of a stream.
    pub(crate) is_body_taken: Cell<bool>,
    pub(crate) peer: Peer,
    pub(crate) is_tls: bool,
    /// The endpoint that it is for.
    pub(crate) endpoint: u8,
    pub(crate) values: Values,
}

/// What a route has answered.
pub(crate) struct Answered {
    /// The head, and the body of an answer that is whole.
    pub(crate) response: Response,
    pub(crate) stream: Option<StreamParts>,
}

/// What makes a body that is not whole.
pub(crate) struct StreamParts {
    pub(crate) producer: LocalFuture,
    /// Bytes of the body, if that is known.
    pub(crate) len: Option<usize>,
    /// How often a stream of events that is silent gets a comment.
    pub(crate) keep_alive: Option<Duration>,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Answered").field("response", &self.response).finish_non_exhaustive()
    }
}

/// How the rest of a body is framed.
#[derive(Debug)]
pub(crate) enum BodyRest {
    Length(usize),
    Chunked(ChunkedDecoder),
}

/// A request body on its way to a route that takes it piece by piece.
#[derive(Debug)]
pub(crate) struct BodyIn {
    pub(crate) rest: BodyRest,
    pub(crate) bytes_max: usize,
    /// What has come and was not taken yet.
    pub(crate) queued: Vec<u8>,
    /// How it ended; the route is told once it has taken what is queued.
    pub(crate) end: Option<Result<(), BodyError>>,
    /// When more must have come.
    pub(crate) by: Time,
    /// The client waits for our word before it sends.
    pub(crate) must_continue: bool,
    pub(crate) waker: Option<Waker>,
}

impl BodyIn {
    /// Whether all of it has come, and well.
    pub(crate) fn is_whole(&self) -> bool {
        self.end == Some(Ok(()))
    }
}

/// How a client knows where a streamed answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutFraming {
    Chunked,
    /// So many bytes are still to come.
    Length(usize),
    /// With the connection.
    UntilClose,
}

/// A streamed answer on its way to the client.
#[derive(Debug)]
pub(crate) struct BodyOut {
    pub(crate) framing: OutFraming,
    /// When the client must have taken more of what it is owed.
    pub(crate) taken_by: Time,
    /// For a stream of events: how often it gets a comment while it is silent, and when next.
    pub(crate) keep_alive: Option<(Duration, Time)>,
    pub(crate) waker: Option<Waker>,
}

/// One request whose answer takes its time.
pub(crate) struct RouteEntry {
    pub(crate) connection: Key,
    /// The future that answers, or that makes the body of the answer.
    pub(crate) task: Option<Key>,
    /// The address for which it counts.
    pub(crate) holder: Option<IpAddr>,
    pub(crate) kept: Option<Rc<KeptRequest>>,
    /// When it must be answered.
    pub(crate) answer_by: Time,
    /// When it is given up, its client having closed its sending half.
    pub(crate) gone_by: Time,
    pub(crate) body: Option<BodyIn>,
    pub(crate) answer: Option<BodyOut>,
}

/// What of a request's time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteDue {
    /// It is not answered in time.
    Answer,
    /// Its body comes too slowly.
    Body,
    /// Its client has most likely gone.
    Gone,
    /// Its answer is not taken.
    Taken,
    /// Its stream of events was silent for long.
    KeepAlive,
}

impl RouteEntry {
    /// The earliest of its deadlines. Nothing is expected of a body while `is_body_held` says that we do not read it.
    pub(crate) fn deadline(&self, is_body_held: bool) -> Option<(Time, RouteDue)> {
        let body = self.body.as_ref().filter(|body| body.end.is_none() && !body.must_continue);
        let body_by = body.filter(|_| !is_body_held).map_or(Time::NEVER, |body| body.by);
        let taken_by = self.answer.as_ref().map_or(Time::NEVER, |answer| answer.taken_by);
        let silent = self.answer.as_ref().and_then(|answer| answer.keep_alive);
        let all = [
            (self.answer_by, RouteDue::Answer),
            (body_by, RouteDue::Body),
            (self.gone_by, RouteDue::Gone),
            (taken_by, RouteDue::Taken),
            (silent.map_or(Time::NEVER, |(_, next)| next), RouteDue::KeepAlive),
        ];
        all.into_iter().filter(|(time, _)| *time != Time::NEVER).min_by_key(|(time, _)| *time)
    }
}

/// The requests of a shard whose answers take their time.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) entries: Slab<RouteEntry>,
    pub(crate) by_address: FxHashMap<IpAddr, usize>,
}

/// What is left of a request that is over: its future is dropped, and whoever waits for it is woken.
pub(crate) struct RouteEnd {
    pub(crate) task: Option<Key>,
    pub(crate) wakers: [Option<Waker>; 2],
    /// Values of the user's may be in it.
    pub(crate) kept: Option<Rc<KeptRequest>>,
}
