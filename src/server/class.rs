//! Class-based namespaces: a struct whose methods are the handlers.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::base::arity::each_arity;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::server::handler::{
    AsyncConnectHandler, AsyncConnectSignature, AsyncHandler, AsyncSignature, ConnectHandler,
    ConnectSignature, Handler, Shape, Signature, bind_async,
};
use crate::server::lending::bind;
use crate::server::namespace::{Namespace, Registers};
use crate::shard::user::app::Flow;
use crate::shard::user::context::Context;
use crate::shard::user::socket::Socket;
use crate::shard::value::args::{Reply, ToArgs};
use crate::shard::value::error::HandlerError;
use crate::shard::value::session::CloseReason;

/// A namespace as a struct: its fields are the state of one shard, its methods handle the events. It is what a
/// class that derives from `Namespace` is in Flask-SocketIO.
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use shardcast::{ClassNamespace, Config, Context, Methods, Server, Socket};
/// use shardcast::testing::TestServer;
///
/// #[derive(Default)]
/// struct Chat {
///     lines: RefCell<Vec<String>>,
/// }
///
/// impl ClassNamespace for Chat {
///     fn register(io: &mut Methods<'_, Self>) {
///         io.on_connect(Self::connected);
///         io.on("say", Self::say);
///         io.on_async("history", Self::history);
///     }
/// }
///
/// impl Chat {
///     fn connected(&self, cx: &mut Context) {
///         cx.emit("lines", self.lines.borrow().len());
///     }
///
///     fn say(&self, cx: &mut Context, line: String) -> bool {
///         cx.broadcast().emit("said", &line);
///         self.lines.borrow_mut().push(line);
///         true
///     }
///
///     async fn history(self: Rc<Self>, _: Socket, last: usize) -> Vec<String> {
///         let lines = self.lines.borrow();
///         lines.iter().rev().take(last).cloned().collect()
///     }
/// }
///
/// let server = Server::new(Config::default()).namespace_class("/chat", |_| Chat::default());
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/chat").unwrap();
/// client.emit("say", "hello");
/// assert_eq!(client.call("history", 5).unwrap().first::<Vec<String>>().unwrap(), ["hello"]);
/// ```
pub trait ClassNamespace: Sized + 'static {
    /// Says which method handles which event.
    fn register(io: &mut Methods<'_, Self>);
}

/// Registers methods of one instance as handlers. What has no method form is there as on [`Namespace`].
pub struct Methods<'a, C> {
    io: Namespace<'a>,
    instance: Rc<C>,
}

impl<C> fmt::Debug for Methods<'_, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Methods").field("io", &self.io).finish_non_exhaustive()
    }
}

impl<'a, C> Deref for Methods<'a, C> {
    type Target = Namespace<'a>;

    fn deref(&self) -> &Namespace<'a> {
        &self.io
    }
}

impl<'a, C> DerefMut for Methods<'a, C> {
    fn deref_mut(&mut self) -> &mut Namespace<'a> {
        &mut self.io
    }
}

/// Registers the methods of an instance.
struct ByMethods<C>(C);

impl<C: ClassNamespace> Registers for ByMethods<C> {
    fn register<'e>(self, io: Namespace<'e>) -> Namespace<'e> {
        let mut methods = Methods { io, instance: Rc::new(self.0) };
        C::register(&mut methods);
        methods.io
    }
}

/// A method and its instance: a handler.
struct Bound<C, F> {
    instance: Rc<C>,
    method: F,
}

impl<C: 'static, M: Shape, F: Method<C, M>> Handler<M> for Bound<C, F> {
    fn call(&self, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer {
        self.method.call(&self.instance, cx, arguments)
    }
}

impl<C: 'static, M: Shape, F: AsyncMethod<C, M>> AsyncHandler<M> for Bound<C, F> {
    fn call(&self, socket: Socket, arguments: M::Arguments) -> M::Answer {
        self.method.call(Rc::clone(&self.instance), socket, arguments)
    }
}

impl<C: 'static, M: Shape, F: ConnectMethod<C, M>> ConnectHandler<M> for Bound<C, F> {
    fn call(&self, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer {
        self.method.call(&self.instance, cx, arguments)
    }
}

impl<C: 'static, M: Shape, F: AsyncConnectMethod<C, M>> AsyncConnectHandler<M> for Bound<C, F> {
    fn call(&self, socket: Socket, arguments: M::Arguments) -> M::Answer {
        self.method.call(Rc::clone(&self.instance), socket, arguments)
    }
}

impl<'a, C: ClassNamespace> Methods<'a, C> {
    pub(crate) fn register(io: &mut Namespace<'_>, instance: C) {
        io.reborrow(ByMethods(instance));
    }

    /// The instance of this shard, for closures and tasks.
    pub fn instance(&self) -> Rc<C> {
        Rc::clone(&self.instance)
    }

    fn bound<F>(&self, method: F) -> Bound<C, F> {
        Bound { instance: self.instance(), method }
    }

    /// Handles an event: see [`Namespace::on`].
    pub fn on<M: Signature<'a>>(&mut self, event: &str, method: impl Method<C, M>) {
        let handler = bind::<M>(self.io.brand(), self.bound(method));
        self.io.insert(event, handler);
    }

    /// Handles an event asynchronously: see [`Namespace::on_async`].
    pub fn on_async<M: AsyncSignature>(&mut self, event: &str, method: impl AsyncMethod<C, M>) {
        let handler = bind_async::<M>(self.bound(method), Flow::Later);
        self.io.insert(event, handler);
    }

    /// Handles an event asynchronously, beside later events: see [`Namespace::on_concurrent`].
    pub fn on_concurrent<M: AsyncSignature>(&mut self, event: &str, method: impl AsyncMethod<C, M>) {
        let handler = bind_async::<M>(self.bound(method), Flow::Beside);
        self.io.insert(event, handler);
    }

    /// Handles an event without parsing it: see [`Namespace::on_raw`].
    pub fn on_raw<R: Reply>(
        &mut self,
        event: &str,
        method: impl Fn(&C, &mut Context<'_>, Args<'_>) -> R + 'static,
    ) {
        let instance = self.instance();
        self.io.on_raw(event, move |cx, args| method(&instance, cx, args));
    }

    /// The same, asynchronously, with what came as it came: see [`Namespace::on_raw_async`].
    pub fn on_raw_async<F>(&mut self, event: &str, method: impl Fn(Rc<C>, Socket, OwnedArgs) -> F + 'static)
    where
        F: Future<Output: Reply> + 'static,
    {
        let instance = self.instance();
        self.io.on_raw_async(event, move |socket, args| method(Rc::clone(&instance), socket, args));
    }

    /// Acknowledges an event with the arguments it came with: see [`Namespace::on_echo`].
    pub fn on_echo(&mut self, event: &str, method: impl Fn(&C, &mut Context<'_>, Args<'_>) + 'static) {
        let instance = self.instance();
        self.io.on_echo(event, move |cx, args| method(&instance, cx, args));
    }

    /// Handles every event that has no handler of its own: see [`Namespace::on_any`].
    pub fn on_any<R: Reply>(&mut self, method: impl Fn(&C, &mut Context<'_>, Args<'_>) -> R + 'static) {
        let instance = self.instance();
        self.io.on_any(move |cx, args| method(&instance, cx, args));
    }

    /// Decides who may connect: see [`Namespace::on_connect`].
    pub fn on_connect<M: ConnectSignature<'a>>(&mut self, method: impl ConnectMethod<C, M>) {
        let handler = self.bound(method);
        self.io.on_connect::<M>(handler);
    }

    /// Decides who may connect, in its own time: see [`Namespace::on_connect_async`].
    pub fn on_connect_async<M: AsyncConnectSignature>(&mut self, method: impl AsyncConnectMethod<C, M>) {
        let handler = self.bound(method);
        self.io.on_connect_async(handler);
    }

    /// Asked before `on_connect`: see [`Namespace::use_connect`].
    pub fn use_connect<M: ConnectSignature<'a>>(&mut self, method: impl ConnectMethod<C, M>) {
        let handler = self.bound(method);
        self.io.use_connect::<M>(handler);
    }

    /// The same, in its own time.
    pub fn use_connect_async<M: AsyncConnectSignature>(&mut self, method: impl AsyncConnectMethod<C, M>) {
        let handler = self.bound(method);
        self.io.use_connect_async(handler);
    }

    /// Asked before each event: see [`Namespace::before`].
    pub fn before<E: Into<Box<dyn std::error::Error>>>(
        &mut self,
        check: impl Fn(&C, &mut Context<'_>, Args<'_>) -> Result<(), E> + 'static,
    ) {
        let instance = self.instance();
        self.io.before(move |cx, args| check(&instance, cx, args));
    }

    /// Called once when a socket has ended: see [`Namespace::on_disconnect`].
    pub fn on_disconnect(&mut self, method: impl Fn(&C, &mut Context<'_>, CloseReason) + 'static) {
        let instance = self.instance();
        self.io.on_disconnect(move |cx, reason| method(&instance, cx, reason));
    }

    /// Called when a handler failed: see [`Namespace::on_error`].
    pub fn on_error<R: ToArgs>(
        &mut self,
        method: impl Fn(&C, &mut Context<'_>, &HandlerError) -> R + 'static,
    ) {
        let instance = self.instance();
        self.io.on_error(move |cx, error| method(&instance, cx, error));
    }
}

/// A method that handles events: `fn(&self, &mut Context, A, B, ..) -> R` with up to eight arguments. See [`Handler`](crate::Handler).
#[diagnostic::on_unimplemented(
    message = "this method cannot be the handler of an event",
    label = "not a handler",
    note = "a handler is `fn(&self, cx: &mut shardcast::Context, a: A, b: B) -> R`, with at most eight arguments"
)]
pub trait Method<C, M: Shape>: 'static {
    /// Runs it.
    #[doc(hidden)]
    fn call(&self, instance: &C, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer;
}

/// A method that takes its time: `async fn(self: Rc<Self>, Socket, A, B, ..) -> R` with up to eight arguments.
#[diagnostic::on_unimplemented(
    message = "this method cannot be the asynchronous handler of an event",
    label = "not an asynchronous handler",
    note = "an asynchronous handler is `async fn(self: Rc<Self>, socket: shardcast::Socket, a: A, b: B) -> R`, with at most eight arguments"
)]
pub trait AsyncMethod<C, M: Shape>: 'static {
    /// Starts it.
    #[doc(hidden)]
    fn call(&self, instance: Rc<C>, socket: Socket, arguments: M::Arguments) -> M::Answer;
}

macro_rules! method {
    ($($name:ident),*) => {
        impl<C, F, R, $($name),*> Method<C, fn($($name),*) -> R> for F
        where
            F: Fn(&C, &mut Context<'_>, $($name),*) -> R + 'static,
        {
            #[allow(non_snake_case)]
            fn call(&self, instance: &C, cx: &mut Context<'_>, ($($name,)*): ($($name,)*)) -> R {
                self(instance, cx, $($name),*)
            }
        }

        impl<C, F, R, $($name),*> AsyncMethod<C, fn($($name),*) -> R> for F
        where
            F: Fn(Rc<C>, Socket, $($name),*) -> R + 'static,
        {
            #[allow(non_snake_case)]
            fn call(&self, instance: Rc<C>, socket: Socket, ($($name,)*): ($($name,)*)) -> R {
                self(instance, socket, $($name),*)
            }
        }
    };
}

each_arity!(method);

/// A method that decides who may connect: `fn(&self, &mut Context) -> D` or `fn(&self, &mut Context, Auth) -> D`.
#[diagnostic::on_unimplemented(
    message = "this cannot be a connect handler",
    label = "not a method that decides who may connect",
    note = "a connect handler is `fn name(&self, cx: &mut shardcast::Context) -> D` or `fn name(&self, cx: &mut shardcast::Context, auth: A) -> D`; make it `Option<A>` if a client may send none"
)]
pub trait ConnectMethod<C, M: Shape>: 'static {
    /// Asks it.
    #[doc(hidden)]
    fn call(&self, instance: &C, cx: &mut Context<'_>, arguments: M::Arguments) -> M::Answer;
}

impl<C, F, D> ConnectMethod<C, fn() -> D> for F
where
    F: Fn(&C, &mut Context<'_>) -> D + 'static,
{
    fn call(&self, instance: &C, cx: &mut Context<'_>, (): ()) -> D {
        self(instance, cx)
    }
}

impl<C, F, D, A> ConnectMethod<C, fn(A) -> D> for F
where
    F: Fn(&C, &mut Context<'_>, A) -> D + 'static,
{
    fn call(&self, instance: &C, cx: &mut Context<'_>, (auth,): (A,)) -> D {
        self(instance, cx, auth)
    }
}

/// A method that decides in its own time who may connect: `async fn(self: Rc<Self>, Socket, Auth) -> D`.
#[diagnostic::on_unimplemented(
    message = "this cannot be an asynchronous connect handler",
    label = "not a method that decides in its own time who may connect",
    note = "an asynchronous connect handler is `async fn name(self: Rc<Self>, socket: shardcast::Socket, auth: A) -> D`; make it `Option<A>` if a client may send none"
)]
pub trait AsyncConnectMethod<C, M: Shape>: 'static {
    /// Starts it.
    #[doc(hidden)]
    fn call(&self, instance: Rc<C>, socket: Socket, arguments: M::Arguments) -> M::Answer;
}

impl<C, F, R, A> AsyncConnectMethod<C, fn(A) -> R> for F
where
    F: Fn(Rc<C>, Socket, A) -> R + 'static,
{
    fn call(&self, instance: Rc<C>, socket: Socket, (auth,): (A,)) -> R {
        self(instance, socket, auth)
    }
}
