//! The public face: build a server, register what it does, run it.

pub(crate) mod adding;
mod admin;
pub(crate) mod admin_ui;
pub(crate) mod api;
mod arguments;
pub(crate) mod class;
mod cluster;
mod drain;
#[cfg(feature = "bus")]
pub(crate) mod emitter;
pub(crate) mod endpoint;
pub(crate) mod every;
pub(crate) mod folders;
pub(crate) mod guard;
pub(crate) mod handle;
pub(crate) mod handler;
mod lending;
pub(crate) mod load;
#[cfg(feature = "bus")]
pub(crate) mod local_queue;
#[cfg(feature = "log")]
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod namespace;
pub(crate) mod outside;
pub(crate) mod paths;
pub(crate) mod reload;
pub(crate) mod routes;
pub(crate) mod running;
mod settings;
mod succession;

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::guard::guarded;
use crate::config::engine::EngineOptions;
use crate::config::queue::shared::Queue;
use crate::config::queue::url::QueueUrl;
use crate::config::{Config, EndpointSettings, Survives};
use crate::driver::signals::WatchedSignals;
use crate::driver::{self, AppMaker, Running, Start, TaskMaker};
use crate::protocol::flask::signer::CookieSigner;
use crate::server::api::ApiRoutes;
use crate::server::class::ClassNamespace;
use crate::server::endpoint::Endpoint;
use crate::server::handle::Handle;
pub(crate) use crate::server::handle::Shared;
use crate::server::namespace::Namespace;
use crate::server::paths::Routes;
use crate::server::running::Reloads;
use crate::shard::user::app::App;
use crate::shard::user::context::Context;
use crate::shard::user::engine_socket::EngineRoute;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::user::site::Site;
use crate::shard::user::tick::PERIOD_MIN;
use crate::shard::value::args::ToArgs;
use crate::shard::value::error::HandlerError;
use crate::shard::value::task::LocalFuture;

pub(crate) type Setup<T> = Arc<dyn Fn(&mut T) + Send + Sync>;
type BackgroundFunction = Arc<dyn Fn(Handle) -> LocalFuture + Send + Sync>;
type ErrorFunction =
    Arc<dyn Fn(&mut Context<'_>, &HandlerError) -> std::result::Result<(), HandlerError> + Send + Sync>;

/// Why a server did not start or did not stop well. Its text says what to change.
///
/// ```
/// use shardcast::Config;
///
/// let variable = ("SHARDCAST_SHARD".to_owned(), "2".to_owned());
/// let error = Config::load_with(None, [variable].into_iter()).unwrap_err();
/// // As `main` prints it when it returns an error.
/// assert_eq!(format!("{error:?}"), error.to_string());
/// assert!(error.to_string().contains("did you mean"), "{error}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

/// The text as it is, because that is what a `main` that returns an error prints.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Error {
        Error(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(text: String) -> Error {
        Error(text)
    }
}

/// A Socket.IO server that is being put together.
///
/// ```no_run
/// use shardcast::{Config, Context, Server};
///
/// fn main() -> shardcast::Result<()> {
///     Server::new(Config::load()?)
///         .namespace("/", |io| {
///             io.on("chat", |cx: &mut Context, text: String| {
///                 cx.broadcast().emit("chat", &text);
///                 true
///             });
///         })
///         .run()
/// }
/// ```
pub struct Server {
    blueprint: Blueprint,
}

/// Everything registered, shared by the threads that build their shard from it.
#[derive(Clone)]
struct Blueprint {
    config: Config,
    /// The first is the configuration's own.
    endpoints: Vec<Endpoint>,
    routes: Routes,
    folders: Vec<(String, PathBuf)>,
    background: Vec<BackgroundFunction>,
    /// The same, on each shard.
    on_each_shard: Vec<BackgroundFunction>,
    /// Of what is done every so often.
    periods: Vec<Duration>,
    default_error: Option<ErrorFunction>,
    on_drain: Vec<drain::DrainFunction>,
    on_turn_end: Vec<outside::TurnEndFunction>,
    on_connection_end: Vec<outside::ConnectionEndFunction>,
    signer: Option<CookieSigner>,
    /// Listeners that the program has opened itself, until they are served.
    listeners: Arc<Vec<OwnedFd>>,
    /// The HTTP API, once the configuration is checked.
    api: ApiRoutes,
    handle: Handle,
}

/// What a checked server is made of, for a driver or a test.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) app: AppMaker,
    pub(crate) tasks: TaskMaker,
    pub(crate) queues: Vec<Queue>,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) handle: Handle,
}

/// A server that runs. Dropping it does not stop it.
pub struct RunningServer {
    running: Running,
    handle: Handle,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("config", &self.blueprint.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for RunningServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RunningServer").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server with this configuration and nothing on it yet.
    pub fn new(config: Config) -> Server {
        let endpoints = vec![Endpoint::new(config.engine.clone(), EndpointSettings::new(&config))];
        let handle = Handle::new(&config.engine.path);
        Server {
            blueprint: Blueprint {
                config,
                endpoints,
                routes: Routes::default(),
                folders: Vec::new(),
                background: Vec::new(),
                on_each_shard: Vec::new(),
                periods: Vec::new(),
                default_error: None,
                on_drain: Vec::new(),
                on_turn_end: Vec::new(),
                on_connection_end: Vec::new(),
                signer: None,
                listeners: Arc::default(),
                api: ApiRoutes::default(),
                handle,
            },
        }
    }

    /// Adds a namespace. `setup` runs once on each shard and registers its handlers.
    ///
    /// A name with parts in braces is a pattern: `{id}` stands for one part between slashes, `{*name}`, at the end, for
    /// all the rest. A namespace that matches is made when its first client asks for it, and is gone with its last;
    /// all share these handlers. The exact name wins, then the nearest pattern. `namespaces_max` bounds how many there
    /// are.
    ///
    /// ```
    /// # use shardcast::{Config, Context, Server};
    /// Server::new(Config::default())
    ///     .namespace("/game/{id}", |io| {
    ///         io.on_connect(|cx: &mut Context| cx.param("id").is_some_and(|id| id.len() < 10));
    ///         // Everybody in this game, and in no other.
    ///         io.on("move", |cx: &mut Context, to: String| { cx.broadcast().emit("moved", to); });
    ///     })
    ///     .namespace("/{*name}", |io| {
    ///         io.on("where", |cx: &mut Context| cx.namespace().to_owned());
    ///     });
    /// ```
    pub fn namespace(
        mut self,
        name: &str,
        setup: impl Fn(&mut Namespace<'_>) + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.endpoints[0].namespace(name, setup);
        self
    }

    /// Adds an Engine.IO endpoint at a path of its own: Node's further instances of `Server`, Flask-SocketIO's further
    /// `SocketIO` objects.
    ///
    /// It begins with a copy of the main endpoint's options as they are now, then has what `[[endpoint]]` with its path says in the
    /// configuration's file, and then what `setup` sets. Its namespaces and its `allow_request` are its own. `setup` runs once, now. Of two paths of which one begins with the other, a request goes to the longer.
    ///
    /// ```
    /// # use shardcast::{Config, Context, Server};
    /// # use std::time::Duration;
    /// Server::new(Config::default())
    ///     .namespace("/", |io| io.on("hello", |_: &mut Context| "user"))
    ///     .endpoint("/admin.io/", |endpoint| {
    ///         endpoint.options.ping_interval = Duration::from_secs(5);
    ///         endpoint.options.polling = false;
    ///         endpoint.namespace("/", |io| io.on("hello", |_: &mut Context| "administrator"));
    ///     });
    /// ```
    pub fn endpoint(mut self, path: &str, setup: impl FnOnce(&mut Endpoint)) -> Server {
        let mut endpoint = self.new_endpoint(path, |_| ());
        setup(&mut endpoint);
        self.blueprint.endpoints.push(endpoint);
        self
    }

    /// An endpoint as the main one is, but for `change`, and for what the configuration says of its path.
    fn new_endpoint(&self, path: &str, change: fn(&mut EngineOptions)) -> Endpoint {
        let Endpoint { options, settings, .. } = &self.blueprint.endpoints[0];
        let (mut options, mut settings) = (options.clone(), *settings);
        path.clone_into(&mut options.path);
        change(&mut options);
        for entry in self.blueprint.config.endpoint.iter().filter(|entry| entry.path() == path) {
            entry.apply(&mut options, &mut settings);
        }
        Endpoint::new(options, settings)
    }

    /// Serves raw Engine.IO at a path: sessions on either transport whose messages are given as they are. Clients are
    /// those of `engine.io-client`.
    ///
    /// ```
    /// # use shardcast::{Config, Server};
    /// Server::new(Config::default())
    ///     .engine("/engine.io/", |route| route.on_message(|socket, message| socket.send(message)));
    /// ```
    pub fn engine(mut self, path: &str, setup: impl Fn(&mut EngineRoute) + Send + Sync + 'static) -> Server {
        let mut endpoint = self.new_endpoint(path, |options| {
            options.client_bundle = PathBuf::new();
            options.message_queue = QueueUrl::default();
        });
        endpoint.engine(setup);
        self.blueprint.endpoints.push(endpoint);
        self
    }

    /// Decides which sessions may open: Node's `allowRequest`. It is asked for handshakes only, before a session costs
    /// anything; a panic refuses.
    ///
    /// A refused client gets status 403, by long-polling with `{"code":4,"message":".."}`. Who must be told in
    /// `connect_error` with data is better refused by `on_connect`.
    ///
    /// ```
    /// # use shardcast::{Config, Server};
    /// Server::new(Config::default()).allow_request(|request| match request.query("token").as_deref() {
    ///     Some("secret") => Ok(()),
    ///     _ => Err("a token is needed"),
    /// });
    /// ```
    pub fn allow_request<E: fmt::Display>(
        mut self,
        rule: impl Fn(&Request<'_>) -> std::result::Result<(), E> + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.endpoints[0].allow_request(rule);
        self
    }

    /// The same in its own time: a look into a database, a question to another service or another thread. The client's handshake waits
    /// meanwhile, and counts with the requests of routes that wait: `routes_waiting_max`, `route_timeout`. Of the two functions
    /// the one that was given last is asked.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::http::OwnedRequest;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config::default()).namespace("/", |_| {});
    /// let server = server.allow_request_async(|request: OwnedRequest| async move {
    ///     shardcast::sleep(Duration::from_millis(50)).await; // A database is asked.
    ///     request.query("token").filter(|token| token == "secret").map(|_| ()).ok_or("a token is needed")
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let mut asked = server.begin(shardcast::http::Method::Get, "/socket.io/?EIO=4&transport=polling", &[]);
    /// assert!(!asked.has_begun());
    /// server.advance(Duration::from_millis(50));
    /// assert_eq!(asked.status(), Some(403));
    /// ```
    pub fn allow_request_async<F, E: fmt::Display>(
        mut self,
        rule: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output = std::result::Result<(), E>> + 'static,
    {
        self.blueprint.endpoints[0].allow_request_async(rule);
        self
    }

    /// Decides which of the subprotocols that a client offers its WebSocket speaks, for a session that opens or that upgrades;
    /// an error is the text of a 403. It is asked at each handshake by WebSocket, also at one that offers none.
    ///
    /// Without it the first of those that are in `subprotocols` is answered, or the first of all.
    ///
    /// ```
    /// # use shardcast::{Config, Server};
    /// // io(url, { protocols: ["chat", "chat.v2"] })
    /// Server::new(Config::default()).choose_protocol(|request| {
    ///     let newest = request.protocols().find(|name| *name == "chat.v2");
    ///     Ok::<_, String>(newest.or(request.protocols().next()))
    /// });
    /// ```
    pub fn choose_protocol<E: fmt::Display>(
        mut self,
        choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> std::result::Result<Option<&'a str>, E>
        + Send
        + Sync
        + 'static,
    ) -> Server {
        self.blueprint.endpoints[0].choose_protocol(choose);
        self
    }

    /// Serves another browser client than the one that is compiled in, from a folder, npm's `socket.io-client/dist`: the setting
    /// `client_bundle`. A page then
    /// loads `/socket.io/socket.io.js`, as it does from Node.
    pub fn client_bundle(mut self, folder: impl Into<PathBuf>) -> Server {
        self.blueprint.endpoints[0].options.client_bundle = folder.into();
        self
    }

    /// Adds a namespace whose handlers are the methods of a struct. `make` runs once on each shard.
    pub fn namespace_class<C: ClassNamespace>(
        mut self,
        name: &str,
        make: impl Fn(ShardInfo) -> C + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.endpoints[0].namespace_class(name, make);
        self
    }

    /// Serves the files of a folder below a path. Hidden files and what lies outside the folder are not served.
    ///
    /// A client may ask for a part of a file (RFC 9110, section 14): one range of bytes is answered 206 with these, or 416 if nothing
    /// of it is there; several ranges at once are answered with the whole file. `If-Range` takes the date of `Last-Modified`. What
    /// goes out compressed has no parts.
    pub fn static_folder(mut self, path: &str, folder: impl Into<PathBuf>) -> Server {
        self.blueprint.folders.push((path.to_owned(), folder.into()));
        self
    }

    /// Called for failures in namespaces without an `on_error` of their own: Flask-SocketIO's `on_error_default`. What it returns is
    /// the acknowledgement, as there: see [`Namespace::on_error`](crate::Namespace::on_error).
    pub fn on_error_default<R: ToArgs>(
        mut self,
        handler: impl Fn(&mut Context<'_>, &HandlerError) -> R + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.default_error = Some(Arc::new(move |cx, error| {
            let answer = handler(cx, error);
            cx.answer_failed(answer)
        }));
        self
    }

    /// Believes session cookies that this signer signed: routes find them in
    /// [`Request::session`](crate::http::Request::session), sockets inherit them ([`Socket::session`](crate::Socket::session)).
    /// With the `SECRET_KEY` of a Flask application both share one login.
    pub fn cookie_sessions(mut self, signer: CookieSigner) -> Server {
        self.blueprint.signer = Some(signer);
        self
    }

    /// Runs a task in the background, once for the whole server, on its first shard.
    ///
    /// ```
    /// # use shardcast::{Config, Server};
    /// # use std::time::Duration;
    /// Server::new(Config::default()).background(|handle| async move {
    ///     let mut beats = shardcast::interval(Duration::from_secs(1));
    ///     loop {
    ///         beats.tick().await;
    ///         handle.namespace("/").emit("tick", ());
    ///     }
    /// });
    /// ```
    ///
    /// [`every`](Server::every) is a loop like this one in a line, and says what holds for all that is done at times.
    pub fn background<F: Future<Output = ()> + 'static>(
        mut self,
        task: impl Fn(Handle) -> F + Send + Sync + 'static,
    ) -> Server {
        let make = move |handle| -> LocalFuture {
            let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task(handle));
            future
        };
        self.blueprint.background.push(Arc::new(make));
        self
    }

    /// A handle to the server, also before it runs.
    pub fn handle(&self) -> Handle {
        self.blueprint.handle.clone()
    }

    /// Serves sockets that the program has open already and that listen, in place of `bind`: of a process manager that forks, such as
    /// gunicorn, of a test, or of a program that has bound before it gave up its rights. TCP and Unix sockets. All shards serve
    /// each of them; operators are served at `admin_bind` as ever.
    ///
    /// They become non-blocking, for every process that has them. Whoever else has them may go on: when this server stops, it closes
    /// its own descriptors only.
    ///
    /// ```no_run
    /// use std::net::TcpListener;
    /// use shardcast::{Config, Server};
    ///
    /// fn main() -> shardcast::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:5000").map_err(|error| shardcast::Error::new(error.to_string()))?;
    ///     Server::new(Config::load()?).namespace("/", |_| {}).listen_on([listener]).run()
    /// }
    /// ```
    pub fn listen_on(mut self, listeners: impl IntoIterator<Item = impl Into<OwnedFd>>) -> Server {
        self.blueprint.listeners = Arc::new(listeners.into_iter().map(Into::into).collect());
        self
    }

    /// Starts every shard and returns.
    ///
    /// # Errors
    /// A configuration that makes no sense, an address that cannot be bound, two handlers for one event,
    /// `io = "uring"` where there is none. The text says what to change.
    pub fn start(self) -> Result<RunningServer> {
        let endpoints = self.blueprint.endpoints.iter();
        let largest = memory::Largest::of(endpoints.map(|endpoint| (&endpoint.options, &endpoint.settings)));
        let Parts { config, app, tasks, queues, listeners, handle } = self.into_parts()?;
        if !config.ignored.is_empty() {
            let variables = config.ignored.join(", ");
            tracing::info!(
                "not read as settings, because they are variables of a Service of Kubernetes: {variables}"
            );
        }
        memory::announce(&config, largest, queues.len())?;
        let (reloads, queue_count) =
            (Reloads::new(Arc::clone(&config), load::as_read(&config)), queues.len());
        let running = driver::start(Start { config, app, tasks, queues }, listeners, |running| {
            handle.connect(Shared {
                mesh: Arc::clone(&running.mesh),
                counters: running.counters.clone(),
                io: running.io.name(),
                reloads,
                io_reason: running.io.why.clone(),
                certificate_ends: running.certificate_ends(),
                started_unix_millis: driver::clock::unix_millis(),
            });
        })?;
        if let Some(shared) = handle.shared() {
            let open_admin =
                running.admin_address.clone().filter(|address| driver::listener::is_reachable(address));
            shared.reloads.check_by(reload::check_for(open_admin, (largest, queue_count)));
        }
        Ok(RunningServer { running, handle })
    }

    /// Checks everything, and gives what shards are made from.
    pub(crate) fn into_parts(self) -> Result<Parts> {
        let mut blueprint = self.blueprint;
        blueprint.config.engine = blueprint.endpoints[0].options.clone();
        blueprint.config.validate()?;
        if let Some(signer) = &blueprint.signer {
            signer.check()?;
            if let Some(bytes) = signer.short_key() {
                tracing::warn!(
                    bytes,
                    "SECRET_KEY is short: who guesses it signs any login; python -c 'import secrets; print(secrets.token_hex())' makes one"
                );
            }
        }
        admin_ui::add(&mut blueprint)?;
        endpoint::validate(&blueprint.endpoints)?;
        endpoint::check_configured(&blueprint.endpoints, &blueprint.config.endpoint)?;
        if let Some(period) = blueprint.periods.iter().find(|period| **period < PERIOD_MIN) {
            return Err(Error(format!("every {period:?}: the least is {PERIOD_MIN:?}")));
        }
        let queues = endpoint::queues(&blueprint.endpoints)?;
        let survives = blueprint.config.recovery_survives != Survives::Nothing;
        if survives && !queues.iter().any(|queue| queue.queue.can_keep_sockets()) {
            return Err(Error(
                "recovery_survives: sockets are left with a message queue that keeps what is said: message_queue = \"redis://host:6379?mode=streams\"".to_owned(),
            ));
        }
        folders::warn_of_missing(&blueprint.folders);
        let handle = blueprint.handle.clone();
        blueprint.api = ApiRoutes::new(&blueprint.config, &handle)?;
        blueprint.routes.methods.append(&mut blueprint.api.public);
        // Nobody else has them: a server starts once.
        let listeners = Arc::try_unwrap(std::mem::take(&mut blueprint.listeners)).unwrap_or_default();
        let config = Arc::new(blueprint.config.clone());
        let for_tasks = blueprint.clone();
        let app = move |shard: ShardInfo| {
            let built = guarded(|| blueprint.build(shard));
            let built = built.unwrap_or_else(|panic| Err(Error(format!("a setup panicked: {}", panic))));
            built.map_err(|fault| fault.0)
        };
        let tasks = move |shard: ShardInfo| for_tasks.tasks(shard);
        Ok(Parts { config, app: Arc::new(app), tasks: Arc::new(tasks), queues, listeners, handle })
    }

    /// Starts the server and waits until SIGTERM or SIGINT has ended it: SIGTERM as [`Handle::drain`] does, SIGINT, which is Ctrl-C, at
    /// once. SIGHUP reads the configuration again from where it came from: see [`Handle::reload`]. SIGUSR2 starts the program anew with the
    /// listeners; once that serves, this one drains.
    ///
    /// In a process without a subscriber of `tracing` the log goes to standard error: see `shardcast::log::init`.
    ///
    /// # Errors
    /// Those of [`start`](Server::start), and that a shard died: then the program should not end as if all were well.
    pub fn run(self) -> Result<()> {
        #[cfg(feature = "log")]
        log::init_if_none(&self.blueprint.config)?;
        let ended = self.run_logged();
        #[cfg(feature = "log")]
        log::flush();
        ended
    }

    fn run_logged(self) -> Result<()> {
        let signals = WatchedSignals::watch()?;
        let mut server = self.start()?;
        tracing::info!(io = server.running.io.name(), why = %server.running.io.why, "I/O");
        for address in server.addresses() {
            tracing::info!(shards = server.shards(), "serving {address}");
        }
        if let Some(address) = server.admin_address() {
            tracing::info!("serving operators at {address}");
        }
        succession::begin(signals, &mut server)?;
        server.running.join()?;
        tracing::info!("stopped");
        Ok(())
    }
}

impl RunningServer {
    /// Where the server listens, with the ports that the kernel chose for port 0.
    pub fn addresses(&self) -> Vec<String> {
        self.running.addresses.clone()
    }

    /// Where it serves operators, with the port that the kernel chose for port 0; `None` where `admin_bind` is empty.
    pub fn admin_address(&self) -> Option<String> {
        self.running.admin_address.clone()
    }

    /// How many shards run.
    pub fn shards(&self) -> usize {
        self.running.mesh.len()
    }

    /// A handle to the server.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Reads the certificates again (`tls_cert`, `tls_key`), as SIGHUP does in [`Server::run`], and as happens within a minute when the files
    /// change. Connections go on with what they have begun with. If a file is wrong, all certificates stay as they were, and the
    /// log says which file.
    pub fn reload_certificates(&self) {
        if let Some(reload) = self.running.certificates_reloader() {
            reload();
        }
    }

    /// Waits until the server has stopped. That a shard died is in the log, and [`Server::run`] returns it as an error.
    pub fn join(self) {
        if let Err(fault) = self.running.join() {
            tracing::error!("{fault}");
        }
    }

    /// Says goodbye to every client, and waits until the server has stopped.
    pub fn stop(self) {
        self.handle.stop();
        self.join();
    }
}

impl Blueprint {
    /// The handlers of one shard.
    fn build(&self, shard: ShardInfo) -> Result<App> {
        let (site, routes) = self.site()?;
        let admin = match self.config.admin_bind.is_empty() {
            true => Site::default(),
            false => admin::site(&self.handle, &self.config, &self.api.admin)?,
        };
        let (site, admin) = (Rc::new(site), Rc::new(admin));
        let mut app = App { site, admin, routes, signer: self.signer.clone(), ..App::default() };
        endpoint::build(&self.endpoints, shard, &self.handle, &mut app)?;
        if let Some(on_error) = self.default_error.clone() {
            app.default_error = Some(Box::new(move |cx, error| on_error(cx, error)));
        }
        for function in &self.on_drain {
            let (function, handle) = (Arc::clone(function), self.handle.clone());
            app.on_drain.push(Box::new(move || function(&handle, shard)));
        }
        for function in self.on_turn_end.iter().cloned() {
            app.on_turn_end.push(Box::new(move || function(shard)));
        }
        for function in self.on_connection_end.iter().cloned() {
            app.on_connection_end.push(Box::new(move |id| function(id)));
        }
        Ok(app)
    }

    /// Routes and folders, and what raw WebSocket routes have of their own.
    fn site(&self) -> Result<(Site, Vec<(EngineOptions, EndpointSettings)>)> {
        let (mut site, mut own_options) = (self.routes.build()?, Vec::new());
        for (websocket, (path, _)) in site.websockets.iter_mut().zip(&self.routes.websockets) {
            if websocket.options.is_set() {
                websocket.endpoint = endpoint::number_of_route(&self.endpoints, own_options.len())?;
                let Endpoint { options, settings, .. } = &self.endpoints[0];
                let (mut options, mut settings) = (options.clone(), *settings);
                websocket.options.apply(&mut options, &mut settings);
                let checked = options.validate().and_then(|()| settings.validate());
                checked.map_err(|fault| Error(format!("WebSocket route {path}: {fault}")))?;
                own_options.push((options, settings));
            }
        }
        site.folders = self.folders.clone();
        site.folders.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok((site, own_options))
    }

    fn tasks(&self, shard: ShardInfo) -> Vec<LocalFuture> {
        let once = self.background.iter().filter(|_| shard.id == 0);
        once.chain(&self.on_each_shard).map(|task| task(self.handle.clone())).collect()
    }
}
