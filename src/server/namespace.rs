//! Registering handlers: what the closure given to [`Server::namespace`](crate::Server::namespace) works on.

use std::fmt;
use std::time::Duration;

use crate::protocol::socketio::encode::is_reserved_event;
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::server::handle::Handle;
use crate::server::handler::{
    AsyncConnectHandler, AsyncConnectSignature, AsyncHandler, AsyncSignature, ConnectHandler,
    ConnectSignature, Handler, Signature, bind_async, bind_connect_async,
};
use crate::server::lending::{Brand, bind, bind_connect, branded};
use crate::shard::user::app::{self, Farewell, Flow, NamespaceHandlers, is_pattern};
use crate::shard::user::context::Context;
use crate::shard::user::servers::ServerContext;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::user::socket::Socket;
use crate::shard::user::tick::{PERIOD_MIN, Tick, Ticker};
use crate::shard::user::ticket::{ConnectTicket, DisconnectTicket};
use crate::shard::value::args::{Reply, ToArgs};
use crate::shard::value::encode::args_text;
use crate::shard::value::error::HandlerError;
use crate::shard::value::parked::SlowConsumers;
use crate::shard::value::session::CloseReason;
use crate::shard::value::state::StateRoom;

/// The handlers of one namespace on one shard.
///
/// The closure that fills it runs once on each shard, so what it captures per shard can be plain: `Rc`,
/// `RefCell`, no locks.
///
/// `'e` is the time for which the handlers of events are lent what they take: see [`Argument`](crate::Argument).
pub struct Namespace<'e> {
    handlers: NamespaceHandlers,
    on_connect: Option<app::ConnectHandler>,
    shard: ShardInfo,
    handle: Handle,
    faults: Vec<String>,
    brand: Brand<'e>,
}

/// What registers handlers: for every lifetime of the events that they will handle.
pub(crate) trait Registers {
    fn register<'e>(self, io: Namespace<'e>) -> Namespace<'e>;
}

impl<F: for<'e> FnOnce(&mut Namespace<'e>)> Registers for F {
    fn register<'e>(self, mut io: Namespace<'e>) -> Namespace<'e> {
        self(&mut io);
        io
    }
}

impl fmt::Debug for Namespace<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Namespace").field("name", &self.handlers.name).finish_non_exhaustive()
    }
}

impl<'e> Namespace<'e> {
    /// Lets `setup` register the handlers of one namespace.
    ///
    /// # Errors
    /// What is wrong with them, in words for whoever registered them.
    pub(crate) fn build(
        name: &str,
        shard: ShardInfo,
        handle: Handle,
        setup: impl Registers,
    ) -> Result<NamespaceHandlers, String> {
        branded(|brand| {
            let handlers = NamespaceHandlers { name: name.to_owned(), ..NamespaceHandlers::default() };
            let faults = Vec::new();
            let io = setup.register(Namespace { handlers, on_connect: None, shard, handle, faults, brand });
            io.finish()
        })
    }

    /// Lets others register more, who are given a lifetime of their own.
    pub(crate) fn reborrow(&mut self, setup: impl Registers) {
        let (handlers, on_connect) = (std::mem::take(&mut self.handlers), self.on_connect.take());
        let (faults, shard, handle) = (std::mem::take(&mut self.faults), self.shard, self.handle.clone());
        let parts = branded(|brand| {
            let io = setup.register(Namespace { handlers, on_connect, shard, handle, faults, brand });
            (io.handlers, io.on_connect, io.faults)
        });
        (self.handlers, self.on_connect, self.faults) = parts;
    }

    pub(crate) fn brand(&self) -> Brand<'e> {
        self.brand
    }

    fn finish(mut self) -> Result<NamespaceHandlers, String> {
        self.handlers.connect.extend(self.on_connect);
        match self.faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(self.handlers),
        }
    }

    /// The shard these handlers are for.
    pub fn shard(&self) -> ShardInfo {
        self.shard
    }

    /// A handle to the whole server, for threads and tasks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Decides who may connect. Without it everybody may.
    ///
    /// Nothing that is sent to the client before this returns reaches it unless it is accepted; a panic refuses.
    ///
    /// ```
    /// # use shardcast::{Config, Context, Refused, Server};
    /// #[derive(serde::Deserialize)]
    /// struct Login { token: String }
    ///
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_connect(|cx: &mut Context, login: Option<Login>| match login {
    ///         Some(login) if login.token == "secret" => Ok(()),
    ///         _ => Err(Refused::new("unauthorized")),
    ///     });
    /// });
    /// ```
    ///
    /// It may borrow from the auth, as handlers of events do: here a `token: &'a str` would copy nothing.
    pub fn on_connect<M: ConnectSignature<'e>>(&mut self, handler: impl ConnectHandler<M>) {
        self.set_on_connect(bind_connect::<M>(self.brand, handler));
    }

    /// Decides who may connect, in its own time: a look into a database, a question to another service.
    pub fn on_connect_async<M: AsyncConnectSignature>(&mut self, handler: impl AsyncConnectHandler<M>) {
        self.set_on_connect(bind_connect_async(handler));
    }

    /// Has it decided outside the shard who may connect: on a pool of threads, in another language. `give` gives the ticket away, with
    /// what is needed of the client's auth and handshake; [`Post::decide`](crate::Post::decide) decides. Until then no event of the
    /// client is handled, and what is sent to it waits.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Args, Config, ConnectTicket, Context, Refused, Server};
    ///
    /// let (give, take) = mpsc::channel::<(ConnectTicket, String)>();
    /// let server = Server::new(Config::default()).namespace("/", move |io| {
    ///     let give = give.clone();
    ///     io.on_connect_outside(move |_: &mut Context, auth: Args, ticket: ConnectTicket| {
    ///         let _ = give.send((ticket, auth.raw().to_owned()));
    ///     });
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.client().auth(&serde_json::json!({ "token": "7" })).connect("/").unwrap();
    ///
    /// // On any thread:
    /// let (ticket, auth) = take.recv().unwrap();
    /// let mut post = server.handle().post();
    /// post.decide(ticket, if auth.contains('7') { Ok(()) } else { Err(Refused::new("no")) });
    /// post.send();
    ///
    /// server.settle();
    /// assert!(client.is_connected());
    /// ```
    pub fn on_connect_outside(&mut self, give: impl Fn(&mut Context<'_>, Args<'_>, ConnectTicket) + 'static) {
        self.set_on_connect(Box::new(move |cx, auth| {
            let ticket = ConnectTicket::new(cx);
            give(cx, auth, ticket);
            Ok(app::ConnectFlow::Outside)
        }));
    }

    /// Asked before `on_connect`, in the order of registration, until one refuses: Node's `namespace.use`.
    ///
    /// What it learns it keeps in the socket, for the handlers.
    ///
    /// ```
    /// # use shardcast::{Config, Context, Refused, Server};
    /// # use shardcast::testing::TestServer;
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let server = Server::new(Config::default()).namespace("/", |io| {
    ///     io.use_connect(|cx: &mut Context| {
    ///         let handshake = cx.handshake();
    ///         let name = handshake.as_ref().and_then(|handshake| handshake.query("name"));
    ///         cx.set(User(name.ok_or(Refused::new("tell us your name"))?.into_owned()));
    ///         Ok::<(), Refused>(())
    ///     });
    ///     io.on("who", |cx: &mut Context| cx.get::<User>().map(|user| user.0));
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// assert_eq!(server.connect("/").unwrap_err().message, "tell us your name");
    /// let client = server.client().query("name", "Ada").connect("/").unwrap();
    /// assert_eq!(client.call("who", ()).unwrap().first::<String>().unwrap(), "Ada");
    /// ```
    pub fn use_connect<M: ConnectSignature<'e>>(&mut self, handler: impl ConnectHandler<M>) {
        self.handlers.connect.push(bind_connect::<M>(self.brand, handler));
    }

    /// The same, in its own time.
    pub fn use_connect_async<M: AsyncConnectSignature>(&mut self, handler: impl AsyncConnectHandler<M>) {
        self.handlers.connect.push(bind_connect_async(handler));
    }

    /// Refuses who is not logged in with Flask-Login, with the message `unauthorized`. Asked in its turn among
    /// [`use_connect`](Namespace::use_connect).
    pub fn require_login(&mut self) {
        self.use_connect(|cx: &mut Context<'_>| match cx.session().user_id() {
            Some(_) => Ok(()),
            None => Err(app::Refused::new("unauthorized")),
        });
    }

    /// Asked before each event is handled, also one that has no handler, in the order of registration: Node's `socket.use`.
    /// An error keeps the event from its handler and goes to `on_error`, which may answer the client.
    ///
    /// ```
    /// # use shardcast::{Config, Context, Server};
    /// # #[derive(Clone)] struct Admin;
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.before(|cx, _args| {
    ///         let may = !cx.event().starts_with("admin:") || cx.get::<Admin>().is_some();
    ///         if may { Ok(()) } else { Err("not for you") }
    ///     });
    /// });
    /// ```
    pub fn before<E: Into<Box<dyn std::error::Error>>>(
        &mut self,
        check: impl Fn(&mut Context<'_>, Args<'_>) -> Result<(), E> + 'static,
    ) {
        let check = move |cx: &mut Context<'_>, args: Args<'_>| {
            check(cx, args).map_err(|error| HandlerError::Failed(error.into()))
        };
        self.handlers.before.push(Box::new(check));
    }

    /// Handles an event. What it returns is the acknowledgement, if the client asked for one.
    ///
    /// Arguments are read as the types that it takes. Too few, or one of another type, are an error (see
    /// [`on_error`](Namespace::on_error)), an `Option` may be missing; more than it takes are ignored, as in JavaScript and unlike
    /// Python. A handler that must know takes [`Args`] and asks for `len()`: see [`on_raw`](Namespace::on_raw).
    ///
    /// ```
    /// # use shardcast::{Config, Context, Server};
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on("add", |_: &mut Context, a: i64, b: i64| a + b);
    ///     io.on("join", |cx: &mut Context, room: String| cx.join(room));
    /// });
    /// ```
    ///
    /// What cannot be a handler does not compile, and the error points at it and says what a handler is:
    ///
    /// ```compile_fail,E0277
    /// # use shardcast::{Config, Context, Server};
    /// struct NoArgument;
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on("add", |_: &mut Context, _: NoArgument| {});
    /// });
    /// ```
    pub fn on<M: Signature<'e>>(&mut self, event: &str, handler: impl Handler<M>) {
        self.insert(event, bind::<M>(self.brand, handler));
    }

    /// Handles an event asynchronously. Later events of the same socket wait until it is done, so their order is kept: where it need
    /// not be, there is [`on_concurrent`](Namespace::on_concurrent).
    ///
    /// ```
    /// # use shardcast::{Config, Server, Socket};
    /// # use std::time::Duration;
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_async("slow", |socket: Socket, millis: u64| async move {
    ///         shardcast::sleep(Duration::from_millis(millis)).await;
    ///         socket.emit("done", millis);
    ///     });
    /// });
    /// ```
    pub fn on_async<M: AsyncSignature>(&mut self, event: &str, handler: impl AsyncHandler<M>) {
        self.insert(event, bind_async::<M>(handler, Flow::Later));
    }

    /// Handles an event asynchronously, beside the socket's later events: they are handled meanwhile, by this handler too, and answers
    /// leave in the order in which they are found. It is what Node does with an `async` listener, and python-socketio with
    /// `async_handlers`.
    ///
    /// So many of them run for one socket as `concurrent_handlers_max` says, 64; then its later events wait until one is done.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server, Socket};
    ///
    /// let server = Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_concurrent("search", |_: Socket, millis: u64| async move {
    ///         shardcast::sleep(Duration::from_millis(millis)).await;
    ///         millis
    ///     });
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// let (slow, fast) = (client.emit_with_ack("search", 1000), client.emit_with_ack("search", 10));
    /// server.advance(Duration::from_millis(100));
    /// assert!(client.answer(fast).is_some() && client.answer(slow).is_none());
    /// ```
    pub fn on_concurrent<M: AsyncSignature>(&mut self, event: &str, handler: impl AsyncHandler<M>) {
        self.insert(event, bind_async::<M>(handler, Flow::Beside));
    }

    /// Handles an event without parsing it: the arguments are the JSON that came, and emitting them copies their bytes
    /// and nothing else. What it returns is the acknowledgement; to acknowledge with the arguments themselves there
    /// is [`on_echo`](Namespace::on_echo).
    ///
    /// ```
    /// # use shardcast::{Args, Config, Context, Server};
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_raw("relay", |cx: &mut Context, args: Args<'_>| {
    ///         cx.broadcast().include_self(false).emit("relay", args);
    ///     });
    /// });
    /// ```
    pub fn on_raw<R: Reply>(
        &mut self,
        event: &str,
        handler: impl Fn(&mut Context<'_>, Args<'_>) -> R + 'static,
    ) {
        self.insert(event, raw(handler));
    }

    /// The same, asynchronously, as [`on_async`](Namespace::on_async): it is given what came as [`OwnedArgs`], which may be kept, go to
    /// another thread, and be sent on as it is.
    ///
    /// ```
    /// # use shardcast::testing::TestServer;
    /// # use shardcast::{Binary, Config, OwnedArgs, Server, Socket};
    /// # async fn look_into(_: &OwnedArgs) {}
    /// let server = Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_raw_async("relay", |socket: Socket, args: OwnedArgs| async move {
    ///         look_into(&args).await;
    ///         socket.broadcast().emit("relay", &args);
    ///         args
    ///     });
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// let answer = client.call("relay", ("later", Binary::from(vec![1]))).unwrap();
    /// assert_eq!(answer.args().read::<Binary>(1).unwrap(), Binary::from(vec![1]));
    /// ```
    pub fn on_raw_async<F>(&mut self, event: &str, handler: impl Fn(Socket, OwnedArgs) -> F + 'static)
    where
        F: Future<Output: Reply> + 'static,
    {
        let handler = move |cx: &mut Context<'_>, args: Args<'_>| {
            let future = handler(cx.socket(), args.into_owned());
            Ok(Flow::Later(<fn() -> F as AsyncSignature>::follow(cx, future)))
        };
        self.insert(event, Box::new(handler));
    }

    /// Handles an event and acknowledges it with the arguments it came with; nothing is parsed or allocated.
    pub fn on_echo(&mut self, event: &str, handler: impl Fn(&mut Context<'_>, Args<'_>) + 'static) {
        let handler = move |cx: &mut Context<'_>, args: Args<'_>| {
            handler(cx, args);
            cx.acknowledge(cx.asked(), args)?;
            Ok(Flow::Done)
        };
        self.insert(event, Box::new(handler));
    }

    /// Handles every event that has no handler of its own; `cx.event()` is its name.
    pub fn on_any<R: Reply>(&mut self, handler: impl Fn(&mut Context<'_>, Args<'_>) -> R + 'static) {
        if self.handlers.any.is_some() {
            self.fault("(any)");
        }
        self.handlers.any = Some(raw(handler));
    }

    /// Handles what the servers of other processes say by
    /// [`Handle::emit_to_servers`](crate::Handle::emit_to_servers): Node's `io.on(event)` beside `serverSideEmit`. It is called
    /// once in this process, on one shard; what it returns is the answer, if that is asked for. An error or a panic is logged, and
    /// this process counts as one that has not answered.
    ///
    /// ```
    /// # use shardcast::{Args, Config, Server, ServerContext};
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_server_event("maintenance", |cx: &ServerContext, args: Args| {
    ///         let minutes: u32 = args.read(0)?;
    ///         cx.broadcast().local().emit("maintenance", minutes);
    ///         Ok::<_, shardcast::ArgsError>("told them")
    ///     });
    /// });
    /// ```
    pub fn on_server_event<R: Reply>(
        &mut self,
        event: &str,
        handler: impl Fn(&ServerContext<'_>, Args<'_>) -> R + 'static,
    ) {
        if is_reserved_event(event) {
            let name = &self.handlers.name;
            self.faults.push(format!("namespace {name}: {event:?} is no event that a server can send"));
        }
        let handler = move |cx: &ServerContext<'_>, args: Args<'_>| {
            let answer = handler(cx, args).into_reply()?;
            args_text(&answer).map_err(|error| HandlerError::Failed(error.into()))
        };
        if self.handlers.server_events.insert(event.into(), Box::new(handler)).is_some() {
            self.fault(&format!("server event {event}"));
        }
    }

    /// Called once when a socket has ended, at that moment: no event of it is handled from then on, and those that waited behind an
    /// asynchronous handler are dropped. A handler that still runs goes on, and what it sends to the socket goes nowhere. Its rooms are still there, as in
    /// Node's `disconnecting`: `cx.rooms()` lists them, and `cx.to(room)` reaches the others.
    pub fn on_disconnect(&mut self, handler: impl Fn(&mut Context<'_>, CloseReason) + 'static) {
        self.set_on_disconnect(Box::new(move |cx, reason| {
            handler(cx, reason);
            Farewell::Done
        }));
    }

    /// The same, in its own time: a look into a database, say. Until it is done the socket's rooms are there, though nothing of what is
    /// emitted to them reaches it, and it is not counted among their members; for 30 s at most, and for 65,536 sockets of a shard.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{CloseReason, Config, Context, Server, Socket};
    ///
    /// let server = Server::new(Config::default()).namespace("/", |io| {
    ///     io.on("join", |cx: &mut Context, room: String| cx.join(room));
    ///     io.on_disconnect_async(|socket: Socket, reason: CloseReason| async move {
    ///         shardcast::sleep(Duration::from_secs(1)).await;
    ///         for room in socket.rooms() {
    ///             socket.to(room).emit("left", (socket.id(), reason.as_str()));
    ///         }
    ///     });
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let (client, other) = (server.connect("/").unwrap(), server.connect("/").unwrap());
    /// assert!(client.call("join", "lobby").is_some() && other.call("join", "lobby").is_some());
    /// client.disconnect();
    /// assert!(other.received().is_empty());
    /// server.advance(Duration::from_secs(2));
    /// assert_eq!(other.received()[0].name(), "left");
    /// ```
    pub fn on_disconnect_async<F>(&mut self, handler: impl Fn(Socket, CloseReason) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        self.set_on_disconnect(Box::new(move |cx, reason| {
            Farewell::Later(Box::pin(handler(cx.socket(), reason)))
        }));
    }

    /// The same, outside the shard: `give` gives the ticket away. Until [`Post::let_go`](crate::Post::let_go), or the ticket's end, the
    /// socket's rooms are there, within the bounds of [`on_disconnect_async`](Namespace::on_disconnect_async):
    /// [`Post::ask`](crate::Post::ask) finds them.
    pub fn on_disconnect_outside(
        &mut self,
        give: impl Fn(&mut Context<'_>, CloseReason, DisconnectTicket) + 'static,
    ) {
        self.set_on_disconnect(Box::new(move |cx, reason| {
            let ticket = DisconnectTicket::new(cx);
            give(cx, reason, ticket);
            Farewell::Outside
        }));
    }

    /// Called when a handler of this namespace failed: its arguments did not fit, or it returned an error.
    /// `cx.event()` and `cx.args()` are what the handler was given.
    ///
    /// What it returns is the acknowledgement, as in Flask-SocketIO, if the client asked for one. `()` is no answer: then the client
    /// hears nothing, and its timeout tells it.
    ///
    /// ```
    /// # use shardcast::{Config, Context, HandlerError, Server};
    /// Server::new(Config::default()).namespace("/", |io| {
    ///     io.on("divide", |_: &mut Context, a: i64, b: i64| a.checked_div(b).ok_or("no such quotient"));
    ///     io.on_error(|_: &mut Context, error: &HandlerError| {
    ///         serde_json::json!({ "error": error.to_string() })
    ///     });
    /// });
    /// ```
    pub fn on_error<R: ToArgs>(&mut self, handler: impl Fn(&mut Context<'_>, &HandlerError) -> R + 'static) {
        if self.handlers.error.is_some() {
            self.fault("error");
        }
        self.handlers.error = Some(Box::new(move |cx, error| {
            let answer = handler(cx, error);
            cx.answer_failed(answer)
        }));
    }

    /// What becomes of this namespace's events for clients that are slow. Default: [`SlowConsumers::Close`].
    pub fn slow_consumers(&mut self, rule: SlowConsumers) {
        self.handlers.slow.namespace = rule;
    }

    /// The same for what is sent to one room, in place of the namespace's rule. Of several rooms that an event is sent to,
    /// the first counts that a socket is in.
    pub fn slow_consumers_in(&mut self, room: impl Into<String>, rule: SlowConsumers) {
        let room = room.into();
        if self.handlers.slow.rooms.iter().any(|(other, _)| *other == room) {
            self.fault(&format!("slow_consumers_in {room}"));
        } else {
            self.handlers.slow.rooms.push((room, rule));
        }
    }

    /// Called when a client has taken all that it was owed, after it was too slow for an event: one that was dropped, or that
    /// waited for it by a rule, by `volatile()` or by `latest(key)`.
    pub fn on_drain(&mut self, handler: impl Fn(&mut Context<'_>) + 'static) {
        if self.handlers.drain.is_some() {
            return self.fault("on_drain");
        }
        self.handlers.slow.has_drain_handler = true;
        self.handlers.drain = Some(Box::new(handler));
    }

    /// Called `expiry_grace` before a socket's time is over ([`expires_in`](crate::Socket::expires_in)): to ask its client for a
    /// new token, say.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Context, Server};
    ///
    /// let server = Server::new(Config::default()).namespace("/", |io| {
    ///     io.on_connect(|cx: &mut Context| cx.expires_in(Duration::from_secs(600)));
    ///     io.on_expiry(|cx| {
    ///         cx.emit("refresh", ());
    ///     });
    ///     io.on("token", |cx: &mut Context, token: String| match token.as_str() {
    ///         "a good one" => cx.expires_in(Duration::from_secs(600)),
    ///         _ => cx.disconnect(),
    ///     });
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let client = server.connect("/").unwrap();
    /// server.advance(Duration::from_secs(571));
    /// assert_eq!(client.received()[0].name(), "refresh");
    /// client.emit("token", "a good one");
    /// server.advance(Duration::from_secs(500));
    /// assert!(client.is_connected());
    /// server.advance(Duration::from_secs(101));
    /// assert!(!client.is_connected());
    /// ```
    pub fn on_expiry(&mut self, handler: impl Fn(&mut Context<'_>) + 'static) {
        if self.handlers.expiry.is_some() {
            return self.fault("on_expiry");
        }
        self.handlers.expiry = Some(Box::new(handler));
    }

    /// Makes a room a state room: it keeps the last value of each key, and its members hear of changes. See [`StateRoom`]
    /// for an example.
    pub fn state_room(&mut self, room: &str, options: StateRoom) {
        let name = &self.handlers.name;
        if is_pattern(name) {
            self.faults.push(format!("namespace {name}: a state room needs a namespace that is no pattern"));
        } else if let Err(fault) = options.validate(room) {
            self.faults.push(format!("namespace {name}: {fault}"));
        } else if self.handlers.state_rooms.iter().any(|(other, _)| other == room) {
            self.fault(&format!("state room {room}"));
        } else {
            self.handlers.state_rooms.push((room.to_owned(), options));
        }
    }

    /// Called on every shard at fixed times, for games: `number` times `period` after the shard began. It does not drift;
    /// a shard that was held up makes up for three ticks and leaves the others out, which are counted.
    ///
    /// Everything that one tick emits leaves in one send a socket. Precise to a millisecond, and so is the shortest period.
    /// See [`Tick`] for an example, and the guide on games; [`Server::every`](crate::Server::every) has all that is done at times.
    pub fn every(&mut self, period: Duration, handler: impl Fn(&Tick<'_>) + 'static) {
        if period < PERIOD_MIN {
            let name = &self.handlers.name;
            self.faults
                .push(format!("namespace {name}: a tick every {period:?}: the least is {PERIOD_MIN:?}"));
            return;
        }
        self.handlers.tickers.push(Ticker { period, handler: Box::new(handler) });
    }

    /// The same, for each room that has members on the shard.
    pub fn every_room(&mut self, period: Duration, handler: impl Fn(&Tick<'_>, &str) + 'static) {
        self.every(period, move |tick| tick.rooms().iter().for_each(|room| handler(tick, room)));
    }

    fn set_on_disconnect(&mut self, handler: app::DisconnectHandler) {
        if self.handlers.disconnect.replace(handler).is_some() {
            self.fault("disconnect");
        }
    }

    fn set_on_connect(&mut self, handler: app::ConnectHandler) {
        if self.on_connect.replace(handler).is_some() {
            self.fault("connect");
        }
    }

    pub(crate) fn insert(&mut self, event: &str, handler: app::EventHandler) {
        if is_reserved_event(event) {
            let name = &self.handlers.name;
            self.faults.push(format!(
                "namespace {name}: {event:?} is no event that a client can send; use on_connect or on_disconnect"
            ));
        }
        if self.handlers.events.insert(event.into(), handler).is_some() {
            self.fault(event);
        }
    }

    fn fault(&mut self, what: &str) {
        let name = &self.handlers.name;
        self.faults.push(format!("namespace {name}: {what:?} has two handlers; keep one"));
    }
}

fn raw<R: Reply>(handler: impl Fn(&mut Context<'_>, Args<'_>) -> R + 'static) -> app::EventHandler {
    Box::new(move |cx, args| {
        let reply = handler(cx, args);
        cx.acknowledge(cx.asked(), reply)?;
        Ok(Flow::Done)
    })
}
