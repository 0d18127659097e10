//! Which functions can be handlers.
//!
//! One trait for each kind, implemented for functions and closures by the shape of their arguments. The
//! marker parameter only tells the shapes apart.

use std::future::Future;

use serde::de::DeserializeOwned;

use crate::base::arity::each_arity;
use crate::protocol::socketio::event::Args;
use crate::shard::user::app::{ConnectFlow, Flow};
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::args::Reply;
use crate::shard::value::error::{HandlerError, Refused};

/// A synchronous handler: `Fn(&mut Context, A, B, ..) -> R` with up to eight arguments.
#[diagnostic::on_unimplemented(
    message = "this cannot be the handler of an event",
    label = "not a handler",
    note = "a handler is `|cx: &mut shardcast::Context, a: A, b: B| ..`: the context with its type written out, then up to eight arguments that implement `serde::de::DeserializeOwned`; it returns `()`, a value to acknowledge with, or a `Result` of it"
)]
pub trait Handler<Marker>: 'static {
    /// Runs it and answers.
    #[doc(hidden)]
    fn call(&self, cx: &mut Context<'_>, args: Args<'_>) -> Result<Flow, HandlerError>;
}

/// An asynchronous handler: `Fn(Socket, A, B, ..) -> impl Future<Output = R>` with up to eight arguments.
#[diagnostic::on_unimplemented(
    message = "this cannot be the asynchronous handler of an event",
    label = "not an asynchronous handler",
    note = "an asynchronous handler is `|socket: shardcast::Socket, a: A, b: B| async move {{ .. }}`, with up to eight arguments that implement `serde::de::DeserializeOwned`"
)]
pub trait AsyncHandler<Marker>: 'static {
    /// Starts it; the answer follows.
    #[doc(hidden)]
    fn call(&self, cx: &mut Context<'_>, args: Args<'_>) -> Result<Flow, HandlerError>;
}

macro_rules! handler {
    ($($name:ident),*) => {
        impl<F, R, $($name),*> Handler<(R, $($name,)*)> for F
        where
            F: Fn(&mut Context<'_>, $($name),*) -> R + 'static,
            R: Reply,
            $($name: DeserializeOwned,)*
        {
            #[allow(non_snake_case, unused_variables, unused_mut)]
            fn call(&self, cx: &mut Context<'_>, args: Args<'_>) -> Result<Flow, HandlerError> {
                let mut reader = args.reader();
                $(let $name = reader.next::<$name>()?;)*
                let reply = self(cx, $($name),*);
                let id = cx.ack_id();
                cx.acknowledge(id, reply)?;
                Ok(Flow::Done)
            }
        }

        impl<F, Fut, R, $($name),*> AsyncHandler<(R, $($name,)*)> for F
        where
            F: Fn(Socket, $($name),*) -> Fut + 'static,
            Fut: Future<Output = R> + 'static,
            R: Reply + 'static,
            $($name: DeserializeOwned,)*
        {
            #[allow(non_snake_case, unused_variables, unused_mut)]
            fn call(&self, cx: &mut Context<'_>, args: Args<'_>) -> Result<Flow, HandlerError> {
                let mut reader = args.reader();
                $(let $name = reader.next::<$name>()?;)*
                let future = self(cx.socket(), $($name),*);
                let (socket, id) = (cx.socket(), cx.ack_id());
                let (event, args) = (cx.event().to_owned(), cx.kept_args());
                Ok(Flow::Later(Box::pin(async move {
                    let reply = future.await;
                    if let Err(error) = socket.acknowledge(id, reply) {
                        socket.failed((event, id), args, error);
                    }
                })))
            }
        }
    };
}

each_arity!(handler);

/// What a connect handler may return: `()` and `true` accept, `false` and an error refuse.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a connect handler's decision",
    note = "return `()`, `bool`, or a `Result<(), E>` whose error is `shardcast::Refused` or a `std::error::Error`"
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

/// A connect handler: `Fn(&mut Context) -> D` or `Fn(&mut Context, Auth) -> D`.
#[diagnostic::on_unimplemented(
    message = "this cannot be a connect handler",
    label = "not a connect handler",
    note = "a connect handler is `|cx: &mut shardcast::Context| ..` or `|cx: &mut shardcast::Context, auth: A| ..`; make it `Option<A>` if a client may have none: no auth, `{{}}` and `{{ token: null }}` are `None` then"
)]
pub trait ConnectHandler<Marker>: 'static {
    /// Asks it.
    #[doc(hidden)]
    fn call(&self, cx: &mut Context<'_>, auth: Args<'_>) -> Result<ConnectFlow, Refused>;
}

impl<F, D> ConnectHandler<(D,)> for F
where
    F: Fn(&mut Context<'_>) -> D + 'static,
    D: Decision,
{
    fn call(&self, cx: &mut Context<'_>, _: Args<'_>) -> Result<ConnectFlow, Refused> {
        self(cx).into_decision().map(|()| ConnectFlow::Done)
    }
}

impl<F, D, A> ConnectHandler<(D, A)> for F
where
    F: Fn(&mut Context<'_>, A) -> D + 'static,
    D: Decision,
    A: DeserializeOwned,
{
    fn call(&self, cx: &mut Context<'_>, auth: Args<'_>) -> Result<ConnectFlow, Refused> {
        self(cx, read_auth(auth)?).into_decision().map(|()| ConnectFlow::Done)
    }
}

/// An asynchronous connect handler: `Fn(Socket, Auth) -> impl Future<Output = D>`. Nothing reaches the client,
/// and none of its events run, until it has decided.
pub trait AsyncConnectHandler<Marker>: 'static {
    /// Asks it.
    #[doc(hidden)]
    fn call(&self, cx: &mut Context<'_>, auth: Args<'_>) -> Result<ConnectFlow, Refused>;
}

impl<F, Fut, D, A> AsyncConnectHandler<(D, A)> for F
where
    F: Fn(Socket, A) -> Fut + 'static,
    Fut: Future<Output = D> + 'static,
    D: Decision + 'static,
    A: DeserializeOwned,
{
    fn call(&self, cx: &mut Context<'_>, auth: Args<'_>) -> Result<ConnectFlow, Refused> {
        let future = self(cx.socket(), read_auth(auth)?);
        let socket = cx.socket();
        Ok(ConnectFlow::Later(Box::pin(async move {
            let decision = future.await.into_decision();
            socket.decided(decision);
        })))
    }
}

fn read_auth<A: DeserializeOwned>(auth: Args<'_>) -> Result<A, Refused> {
    auth.read_auth().map_err(|error| {
        // Serde quotes values, and those of auth may be secrets: the client is told all, the log only at debug.
        tracing::info!("a client's auth is not what the connect handler takes; refused, and told why");
        tracing::debug!(%error, "why an auth was refused");
        Refused::new(error.to_string())
    })
}
