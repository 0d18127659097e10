//! What a route may answer with, and what becomes of its errors.

use std::error::Error;
use std::fmt;

use crate::base::shown::Shown;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::protocol::socketio::event::ArgsError;
use crate::shard::user::streamed::Streamed;
use crate::shard::value::args::Json;
use crate::shard::value::error::{HandlerError, Refused};
use crate::shard::value::route::BodyError;

/// What a route answers with: a [`Response`], a [`Streamed`] one, text, a status, [`Json`](crate::Json) of a value, or a `Result` of
/// these whose error is a [`RouteError`].
///
/// ```
/// use shardcast::http::{Response, Status};
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Json, Server};
///
/// let server = Server::new(Config::default())
///     .namespace("/", |_| {})
///     .route("/text", |_| "hello")
///     .route("/json", |_| Json([1, 2]))
///     .route("/none", |_| None::<Response>)
///     .route("/gone", |_| (Status::GONE, "it was here"))
///     .route("/fails", |_| Err::<Response, _>("the database is away"));
/// let server = TestServer::new(server).unwrap();
/// let rows = [("/text", 200, "hello"), ("/json", 200, "[1,2]"), ("/none", 404, "Not Found"), ("/gone", 410, "it was here")];
/// for (path, status, text) in rows {
///     let answer = server.get(path);
///     assert_eq!((answer.status, answer.text()), (status, text.to_owned()));
/// }
/// // What went wrong is in the log, not in the answer.
/// assert_eq!(server.get("/fails").text(), "Internal Server Error");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a route answers",
    label = "the route returns this",
    note = "return a `shardcast::http::Response`, text, a `Status`, `shardcast::Json(value)`, a `Streamed`, an `Option` of these, or a `Result` of these whose error implements `shardcast::http::RouteError`"
)]
pub trait IntoAnswer {
    /// The answer.
    #[doc(hidden)]
    fn into_answer(self) -> Streamed;
}

/// An error of a route: which status its client is answered with, and with which words.
///
/// It is there for `&str`, `String`, `Box<dyn Error>` and the errors of this crate. For a type of your own it is one line, or a
/// status more:
///
/// ```
/// use shardcast::http::{Request, RouteError, Status};
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Server};
///
/// #[derive(Debug)]
/// struct NoSuchUser(u32);
///
/// impl std::fmt::Display for NoSuchUser {
///     fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(out, "there is no user {}", self.0)
///     }
/// }
///
/// impl RouteError for NoSuchUser {
///     fn status(&self) -> Status {
///         Status::NOT_FOUND
///     }
/// }
///
/// fn user(_: &Request<'_>) -> Result<String, NoSuchUser> {
///     Err(NoSuchUser(7))
/// }
///
/// let server = TestServer::new(Server::new(Config::default()).namespace("/", |_| {}).route("/user", user)).unwrap();
/// let answer = server.get("/user");
/// assert_eq!((answer.status, answer.text()), (404, "there is no user 7".to_owned()));
/// ```
///
/// A route that meets several kinds of errors returns a [`Failure`], which `?` makes of any of them.
pub trait RouteError: fmt::Display {
    /// The status of the answer: 500 unless the type says otherwise.
    fn status(&self) -> Status {
        Status::INTERNAL_SERVER_ERROR
    }

    /// The whole answer. Unless the type says otherwise it is the error's text, but that of a status from 500 on is for the log:
    /// the client reads the status's own words.
    fn response(&self) -> Response {
        let status = self.status();
        if status.code() < 500 {
            return Response::text(self.to_string()).with_status(status);
        }
        Response::text(status.reason()).with_status(status)
    }
}

macro_rules! plain_errors {
    ($($type:ty),+ $(,)?) => { $(impl RouteError for $type {})+ };
}

plain_errors!(
    &str,
    String,
    Box<dyn Error>,
    Box<dyn Error + Send + Sync>,
    std::io::Error,
    std::fmt::Error,
    HandlerError,
    std::convert::Infallible,
);

macro_rules! errors_of_requests {
    ($($type:ty),+ $(,)?) => {
        $(impl RouteError for $type {
            fn status(&self) -> Status {
                Status::BAD_REQUEST
            }
        })+
    };
}

// What a client has sent is not what it should be.
errors_of_requests!(
    serde_json::Error,
    ArgsError,
    std::num::ParseIntError,
    std::num::ParseFloatError,
    std::str::ParseBoolError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
);

impl RouteError for Refused {
    fn status(&self) -> Status {
        Status::FORBIDDEN
    }
}

impl RouteError for BodyError {
    fn status(&self) -> Status {
        BodyError::status(*self)
    }
}

/// An error of a route that any other becomes by `?`, or one with a status of its own.
///
/// ```
/// use shardcast::http::{Failure, Method, Request, Status};
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Server};
///
/// fn square(request: &Request<'_>) -> Result<String, Failure> {
///     let number: i64 = request.query("number").ok_or(Failure::new(Status::BAD_REQUEST, "which number?"))?.parse()?;
///     Ok(number.checked_mul(number).ok_or("it is too large")?.to_string())
/// }
///
/// let server = TestServer::new(Server::new(Config::default()).namespace("/", |_| {}).route("/square", square)).unwrap();
/// for (target, status, text) in [
///     ("/square?number=7", 200, "49"),
///     ("/square", 400, "which number?"),
///     ("/square?number=x", 400, "invalid digit found in string"),
///     ("/square?number=99999999999999", 500, "Internal Server Error"),
/// ] {
///     let answer = server.get(target);
///     assert_eq!((answer.status, answer.text()), (status, text.to_owned()));
/// }
/// ```
///
/// What `?` makes of the errors of a request's body, its JSON and its numbers is a 400 with their text; of all others it is a 500,
/// whose reason is in the log.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    cause: Box<dyn Error>,
}

impl Failure {
    /// An error with a status and a text. The client reads the text, unless the status is 500 or more: then it is for the log.
    pub fn new(status: Status, text: impl Into<String>) -> Failure {
        Failure { status, cause: text.into().into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(formatter)
    }
}

impl RouteError for Failure {
    fn status(&self) -> Status {
        self.status
    }
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let cause = error.into();
        Failure { status: status_of(&*cause), cause }
    }
}

/// The status of an error whose type was lost: those of requests are the client's fault.
fn status_of(error: &(dyn Error + 'static)) -> Status {
    if let Some(error) = error.downcast_ref::<BodyError>() {
        return error.status();
    }
    let is_of_request = error.is::<serde_json::Error>()
        || error.is::<ArgsError>()
        || error.is::<std::num::ParseIntError>()
        || error.is::<std::num::ParseFloatError>()
        || error.is::<std::str::ParseBoolError>()
        || error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>();
    if is_of_request { Status::BAD_REQUEST } else { Status::INTERNAL_SERVER_ERROR }
}

/// What the client is answered for an error. One that is ours to mend is in the log.
pub(crate) fn failed(error: &dyn RouteError) -> Response {
    if error.status().code() >= 500 {
        tracing::error!(status = error.status().code(), error = %Shown(error), "a route failed");
    }
    error.response()
}

impl IntoAnswer for Streamed {
    fn into_answer(self) -> Streamed {
        self
    }
}

impl IntoAnswer for Response {
    fn into_answer(self) -> Streamed {
        Streamed::whole(self)
    }
}

impl IntoAnswer for &'static str {
    fn into_answer(self) -> Streamed {
        Response::text(self).into_answer()
    }
}

impl IntoAnswer for String {
    fn into_answer(self) -> Streamed {
        Response::text(self).into_answer()
    }
}

impl<T: serde::Serialize> IntoAnswer for Json<T> {
    fn into_answer(self) -> Streamed {
        Response::json(&self.0).into_answer()
    }
}

impl IntoAnswer for serde_json::Value {
    fn into_answer(self) -> Streamed {
        Response::json(&self).into_answer()
    }
}

/// An answer with a status and its words: its body is empty for 204 and 304.
impl IntoAnswer for Status {
    fn into_answer(self) -> Streamed {
        Response::text(self.reason()).with_status(self).into_answer()
    }
}

/// 204: there is nothing to say.
impl IntoAnswer for () {
    fn into_answer(self) -> Streamed {
        Response::new(Status::NO_CONTENT).into_answer()
    }
}

impl<A: IntoAnswer> IntoAnswer for (Status, A) {
    fn into_answer(self) -> Streamed {
        self.1.into_answer().with_status(self.0)
    }
}

/// `None` is a 404.
impl<A: IntoAnswer> IntoAnswer for Option<A> {
    fn into_answer(self) -> Streamed {
        match self {
            Some(answer) => answer.into_answer(),
            None => Status::NOT_FOUND.into_answer(),
        }
    }
}

impl<A: IntoAnswer, E: RouteError> IntoAnswer for Result<A, E> {
    fn into_answer(self) -> Streamed {
        match self {
            Ok(answer) => answer.into_answer(),
            Err(error) => failed(&error).into_answer(),
        }
    }
}

/// What a check before routes decides: `()` and `None` let the request pass, `Some(answer)` and an error answer it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a check before routes decides",
    label = "the check returns this",
    note = "return `()`, an `Option` of an answer, or a `Result` of these whose error implements `shardcast::http::RouteError`"
)]
pub trait Verdict {
    /// The answer, if the request does not pass.
    #[doc(hidden)]
    fn into_verdict(self) -> Option<Streamed>;
}

impl Verdict for () {
    fn into_verdict(self) -> Option<Streamed> {
        None
    }
}

impl<A: IntoAnswer> Verdict for Option<A> {
    fn into_verdict(self) -> Option<Streamed> {
        self.map(IntoAnswer::into_answer)
    }
}

impl<V: Verdict, E: RouteError> Verdict for Result<V, E> {
    fn into_verdict(self) -> Option<Streamed> {
        match self {
            Ok(verdict) => verdict.into_verdict(),
            Err(error) => Some(failed(&error).into_answer()),
        }
    }
}
