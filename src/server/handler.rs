//! Which functions can be handlers.
//!
//! For each kind one trait that is implemented for functions and closures by their shape alone: how many arguments, and the context
//! or the socket first. What the arguments and the answer must be is asked of the shape, in a second step, so that the compiler's
//! error names the one type that does not fit.

use std::future::Future;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::base::arity::each_arity;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::lent::Scratch;
use crate::shard::user::app::{self, ConnectFlow, EventHandler, Flow, LocalFuture};
use crate::shard::user::argument::{Argument, Source};
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::args::Reply;
use crate::shard::value::error::{HandlerError, Refused};

/// A synchronous handler: `Fn(&mut Context, A, B, ..) -> R` with up to eight arguments. What they may be says [`Argument`].
///
/// `M` is the shape of the function, `fn(A, B) -> R`.
#[diagnostic::on_unimplemented(
    message = "this cannot be the handler of an event",
    label = "not a handler",
    note = "a handler is `|cx: &mut shardcast::Context, a: A, b: B| ..`: first the context, with its type written out, then at most eight arguments"
)]
pub trait Handler<M: Shape>: 'static {
    /// Asked before its arguments are read.
    #[doc(hidden)]
    fn admits(&self, _: &mut Context<'_>) -> bool {
        true
    }

    /// Runs it.
    #[doc(hidden)]
    fn call(&self, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer;
}

/// An asynchronous handler: `Fn(Socket, A, B, ..) -> impl Future<Output = R>` with up to eight arguments, which are owned.
///
/// `M` is the shape of the function, `fn(A, B) -> F` for a future `F`.
#[diagnostic::on_unimplemented(
    message = "this cannot be the asynchronous handler of an event",
    label = "not an asynchronous handler",
    note = "an asynchronous handler is `|socket: shardcast::Socket, a: A, b: B| async move {{ .. }}`: first the socket, then at most eight arguments"
)]
pub trait AsyncHandler<M: Shape>: 'static {
    /// Asked before its arguments are read.
    #[doc(hidden)]
    fn admits(&self, _: &mut Context<'_>) -> bool {
        true
    }

    /// Starts it.
    #[doc(hidden)]
    fn call(&self, socket: Socket, arguments: M::Arguments) -> M::Answer;
}

/// What a function takes and returns, whatever that is: `fn(A, B) -> R`.
pub trait Shape {
    /// The arguments, as a tuple.
    #[doc(hidden)]
    type Arguments;
    /// What it returns.
    #[doc(hidden)]
    type Answer;
}

/// The shape of a synchronous handler, with at most eight arguments: all that it takes is an [`Argument`], and it returns a [`Reply`].
#[diagnostic::on_unimplemented(
    message = "a handler takes at most eight arguments of its event",
    label = "this handler takes more",
    note = "take one struct, or a tuple, in place of several; or `shardcast::Args`, with `on_raw`"
)]
pub trait Signature<'e>: Shape {
    /// Reads the arguments.
    #[doc(hidden)]
    fn read(source: &mut Source<'e, '_>) -> Result<Self::Arguments, HandlerError>;

    /// Acknowledges the event.
    #[doc(hidden)]
    fn finish(cx: &mut Context<'_>, answer: Self::Answer) -> Result<Flow, HandlerError>;
}

/// The shape of an asynchronous handler: all that it takes is an [`Argument`] and owned, and it returns a future of a [`Reply`].
#[diagnostic::on_unimplemented(
    message = "a handler takes at most eight arguments of its event",
    label = "this handler takes more",
    note = "take one struct, or a tuple, in place of several"
)]
pub trait AsyncSignature: Shape {
    /// Reads the arguments.
    #[doc(hidden)]
    fn read(source: &mut Source<'_, '_>) -> Result<Self::Arguments, HandlerError>;

    /// Lets it go on; the acknowledgement follows.
    #[doc(hidden)]
    fn follow(cx: &mut Context<'_>, answer: Self::Answer) -> LocalFuture;
}

/// The shapes that there are.
macro_rules! shape {
    ($($name:ident),*) => {
        impl<R, $($name),*> Shape for fn($($name),*) -> R {
            type Arguments = ($($name,)*);
            type Answer = R;
        }

        impl<F, R, $($name),*> Handler<fn($($name),*) -> R> for F
        where
            F: Fn(&mut Context<'_>, $($name),*) -> R + 'static,
        {
            #[inline]
            #[allow(non_snake_case)]
            fn call(&self, cx: &mut Context<'_>, ($($name,)*): ($($name,)*)) -> R {
                self(cx, $($name),*)
            }
        }

        impl<F, R, $($name),*> AsyncHandler<fn($($name),*) -> R> for F
        where
            F: Fn(Socket, $($name),*) -> R + 'static,
        {
            #[allow(non_snake_case)]
            fn call(&self, socket: Socket, ($($name,)*): ($($name,)*)) -> R {
                self(socket, $($name),*)
            }
        }
    };
}

each_arity!(shape);
// These are no handlers. They have a shape so that the compiler says what is wrong with them: see `Signature`.
shape!(T1, T2, T3, T4, T5, T6, T7, T8, T9);
shape!(T1, T2, T3, T4, T5, T6, T7, T8, T9, T10);
shape!(T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11);
shape!(T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12);

/// Those of handlers.
macro_rules! signature {
    ($($name:ident),*) => {
        impl<'e, R: Reply, $($name: Argument<'e>),*> Signature<'e> for fn($($name),*) -> R {
            #[inline]
            #[allow(unused_variables)]
            fn read(source: &mut Source<'e, '_>) -> Result<Self::Arguments, HandlerError> {
                Ok(($($name::take(source)?,)*))
            }

            #[inline]
            fn finish(cx: &mut Context<'_>, answer: R) -> Result<Flow, HandlerError> {
                cx.acknowledge(cx.asked(), answer)?;
                Ok(Flow::Done)
            }
        }

        impl<F, R, $($name: for<'e> Argument<'e>),*> AsyncSignature for fn($($name),*) -> F
        where
            F: Future<Output = R> + 'static,
            R: Reply + 'static,
        {
            #[allow(unused_variables)]
            fn read(source: &mut Source<'_, '_>) -> Result<Self::Arguments, HandlerError> {
                Ok(($($name::take(source)?,)*))
            }

            fn follow(cx: &mut Context<'_>, future: F) -> LocalFuture {
                let (socket, asked) = (cx.socket(), cx.asked());
                let (event, args) = (cx.event().to_owned(), cx.kept_args());
                Box::pin(async move {
                    let reply = future.await;
                    if let Err(error) = socket.acknowledge(asked, reply) {
                        socket.failed((event, asked), args, error);
                    }
                })
            }
        }
    };
}

each_arity!(signature);

/// An asynchronous handler, as the shard calls it. `flow` says what of the socket waits for it.
pub(crate) fn bind_async<M: AsyncSignature>(
    handler: impl AsyncHandler<M>,
    flow: fn(LocalFuture) -> Flow,
) -> EventHandler {
    Box::new(move |cx, args| {
        if !handler.admits(cx) {
            return Ok(Flow::Done);
        }
        let scratch = Scratch::default();
        let arguments = M::read(&mut Source::new(args, &scratch, cx))?;
        let answer = handler.call(cx.socket(), arguments);
        Ok(flow(M::follow(cx, answer)))
    })
}

/// What a connect handler may return: `()` and `true` accept, `false` and an error refuse. The error is a text, an error type of your
/// own, or a [`Refused`] with data for the client.
///
/// ```
/// # use shardcast::{Config, Context, Server, testing::TestServer};
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on_connect(|cx: &mut Context| {
///         let token = cx.handshake().and_then(|asked| asked.query("token").map(|token| token.into_owned()));
///         match token.as_deref() {
///             Some("7") => Ok(()),
///             Some(text) => Err(format!("{text:?} is no token")),
///             None => Err("a token is needed")?,
///         }
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// assert_eq!(server.connect("/").unwrap_err().message, "a token is needed");
/// assert_eq!(server.client().query("token", "8").connect("/").unwrap_err().message, "\"8\" is no token");
/// assert!(server.client().query("token", "7").connect("/").is_ok());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a connect handler's decision",
    note = "return `()`, `bool`, or a `Result<(), E>` whose error is a text, `shardcast::Refused`, or a type that implements `std::error::Error`"
)]
pub trait Decision {
    /// The decision.
    #[doc(hidden)]
    fn into_decision(self) -> Result<(), Refused>;
}

impl Decision for () {
    fn into_decision(self) -> Result<(), Refused> {
        Ok(())
    }
}

impl Decision for bool {
    fn into_decision(self) -> Result<(), Refused> {
        if self { Ok(()) } else { Err(Refused::new("Connection rejected by server")) }
    }
}

impl<E: Into<Refused>> Decision for Result<(), E> {
    fn into_decision(self) -> Result<(), Refused> {
        self.map_err(Into::into)
    }
}

/// A connect handler: `Fn(&mut Context) -> D` or `Fn(&mut Context, Auth) -> D`, for a [`Decision`].
#[diagnostic::on_unimplemented(
    message = "this cannot be a connect handler",
    label = "not a connect handler",
    note = "a connect handler is `|cx: &mut shardcast::Context| ..` or `|cx: &mut shardcast::Context, auth: A| ..`; make it `Option<A>` if a client may have none: no auth, `{{}}` and `{{ token: null }}` are `None` then"
)]
pub trait ConnectHandler<M: Shape>: 'static {
    /// Asks it.
    #[doc(hidden)]
    fn call(&self, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer;
}

/// An asynchronous connect handler: `Fn(Socket, Auth) -> impl Future<Output = D>`. Nothing reaches the client,
/// and none of its events run, until it has decided.
#[diagnostic::on_unimplemented(
    message = "this cannot be an asynchronous connect handler",
    label = "not an asynchronous connect handler",
    note = "an asynchronous connect handler is `|socket: shardcast::Socket, auth: A| async move {{ .. }}`; make it `Option<A>` if a client may have none"
)]
pub trait AsyncConnectHandler<M: Shape>: 'static {
    /// Starts it.
    #[doc(hidden)]
    fn call(&self, socket: Socket, arguments: M::Arguments) -> M::Answer;
}

/// A client's auth, and a place for what of it had to be unescaped.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct LentAuth<'e> {
    args: Args<'e>,
    scratch: &'e Scratch,
}

/// The shape of a connect handler: it takes auth or nothing, and returns a [`Decision`].
pub trait ConnectSignature<'e>: Shape {
    /// Reads what it takes.
    #[doc(hidden)]
    fn read(auth: LentAuth<'e>) -> Result<Self::Arguments, Refused>;

    /// Decides.
    #[doc(hidden)]
    fn decide(answer: Self::Answer) -> Result<(), Refused>;
}

/// The shape of an asynchronous connect handler: it takes auth, and returns a future of a [`Decision`].
pub trait AsyncConnectSignature: Shape {
    /// Reads what it takes.
    #[doc(hidden)]
    fn read(auth: LentAuth<'_>) -> Result<Self::Arguments, Refused>;

    /// Lets it go on; the decision follows.
    #[doc(hidden)]
    fn follow(socket: Socket, answer: Self::Answer) -> ConnectFlow;
}

/// Without auth, and with it.
macro_rules! connect {
    ($($name:ident)?) => {
        impl<F, D $(, $name)?> ConnectHandler<fn($($name)?) -> D> for F
        where
            F: Fn(&mut Context<'_> $(, $name)?) -> D + 'static,
        {
            #[allow(non_snake_case)]
            fn call(&self, cx: &mut Context<'_>, ($($name,)?): ($($name,)?)) -> D {
                self(cx $(, $name)?)
            }
        }

        impl<'e, D: Decision $(, $name: Deserialize<'e>)?> ConnectSignature<'e> for fn($($name)?) -> D {
            #[allow(unused_variables)]
            fn read(auth: LentAuth<'e>) -> Result<Self::Arguments, Refused> {
                Ok(($(auth.read::<$name>()?,)?))
            }

            fn decide(answer: D) -> Result<(), Refused> {
                answer.into_decision()
            }
        }
    };
}

connect!();
connect!(A);

impl<F, A, R> AsyncConnectHandler<fn(A) -> R> for F
where
    F: Fn(Socket, A) -> R + 'static,
{
    fn call(&self, socket: Socket, (auth,): (A,)) -> R {
        self(socket, auth)
    }
}

impl<A, F, D> AsyncConnectSignature for fn(A) -> F
where
    A: DeserializeOwned,
    F: Future<Output = D> + 'static,
    D: Decision + 'static,
{
    fn read(auth: LentAuth<'_>) -> Result<(A,), Refused> {
        Ok((auth.read()?,))
    }

    fn follow(socket: Socket, future: F) -> ConnectFlow {
        ConnectFlow::Later(Box::pin(async move {
            let decision = future.await.into_decision();
            socket.decided(decision);
        }))
    }
}

/// An asynchronous connect handler, as the shard calls it.
pub(crate) fn bind_connect_async<M: AsyncConnectSignature>(
    handler: impl AsyncConnectHandler<M>,
) -> app::ConnectHandler {
    Box::new(move |cx, auth| {
        let answer = handler.call(cx.socket(), M::read(LentAuth::new(auth, &Scratch::default()))?);
        Ok(M::follow(cx.socket(), answer))
    })
}

impl<'e> LentAuth<'e> {
    pub(crate) fn new(args: Args<'e>, scratch: &'e Scratch) -> LentAuth<'e> {
        LentAuth { args, scratch }
    }

    fn read<A: Deserialize<'e>>(self) -> Result<A, Refused> {
        self.args.read_auth(self.scratch).map_err(|error| {
            // Serde quotes values, and those of auth may be secrets: the client is told all, the log only at debug.
            tracing::info!("a client's auth is not what the connect handler takes; refused, and told why");
            tracing::debug!(%error, "why an auth was refused");
            Refused::new(error.to_string())
        })
    }
}
