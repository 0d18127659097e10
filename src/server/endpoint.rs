//! An Engine.IO endpoint in the making: options, namespaces, who may open a session.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::EndpointSettings;
use crate::config::check::nearest;
use crate::config::endpoint::ConfiguredEndpoint;
use crate::config::engine::EngineOptions;
use crate::config::queue::shared::{self, Queue, SharedQueue};
use crate::server::class::{ClassNamespace, Methods};
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::server::{Error, Result, Setup};
use crate::shard::user::app::App;
use crate::shard::user::app::{AllowRequest, EndpointHandlers};
use crate::shard::user::engine_socket::EngineRoute;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::user::site::LocalAnswer;
use crate::shard::user::subprotocol;
use crate::shard::value::endpoint::{ENDPOINTS_MAX, MAIN};
use crate::shard::value::parked::SlowConsumers;

type NamespaceSetup = Arc<dyn Fn(&mut Namespace<'_>) + Send + Sync>;

type AllowNow = dyn Fn(&Request<'_>) -> std::result::Result<(), String> + Send + Sync;

/// Who may open a session.
#[derive(Clone)]
enum AllowRule {
    Now(Arc<AllowNow>),
    Later(Arc<dyn Fn(OwnedRequest) -> LocalAnswer<std::result::Result<(), String>> + Send + Sync>),
}

type ChooseFunction =
    Arc<dyn for<'a, 'r> Fn(&'a Request<'r>) -> std::result::Result<Option<&'a str>, String> + Send + Sync>;

/// One Engine.IO endpoint: what Node calls an instance of `Server`.
///
/// Its namespaces are its own: the `/` of one endpoint has other sockets and rooms than the `/` of another.
/// [`Server::endpoint`](crate::Server::endpoint) makes it.
#[derive(Clone)]
pub struct Endpoint {
    /// How it behaves; a copy of `Config::engine` with this endpoint's path to begin with.
    pub options: EngineOptions,
    /// What else it may have of its own; as the configuration says to begin with.
    pub settings: EndpointSettings,
    namespaces: Vec<(String, NamespaceSetup)>,
    slow: SlowConsumers,
    allow_request: Option<AllowRule>,
    choose_protocol: Option<ChooseFunction>,
    route: Option<Setup<EngineRoute>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Endpoint").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(crate) fn new(options: EngineOptions, settings: EndpointSettings) -> Endpoint {
        Endpoint {
            options,
            settings,
            namespaces: Vec::new(),
            slow: SlowConsumers::default(),
            allow_request: None,
            choose_protocol: None,
            route: None,
        }
    }

    /// The names of its namespaces, patterns among them.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(|(name, _)| name.as_str())
    }

    /// Adds a namespace. `setup` runs once on each shard and registers its handlers.
    pub fn namespace(&mut self, name: &str, setup: impl Fn(&mut Namespace<'_>) + Send + Sync + 'static) {
        self.namespaces.push((name.to_owned(), Arc::new(setup)));
    }

    /// Adds a namespace whose handlers are the methods of a struct. `make` runs once on each shard.
    pub fn namespace_class<C: ClassNamespace>(
        &mut self,
        name: &str,
        make: impl Fn(ShardInfo) -> C + Send + Sync + 'static,
    ) {
        self.namespace(name, move |io| Methods::register(io, make(io.shard())));
    }

    /// What becomes of events for clients that are slow, in all namespaces of this endpoint whose setup says nothing of it
    /// ([`Namespace::slow_consumers`](crate::Namespace::slow_consumers)). Default: [`SlowConsumers::Close`].
    ///
    /// ```
    /// use shardcast::{Config, Server, SlowConsumers};
    ///
    /// // Screens on a wall may miss events; who takes orders may not.
    /// let server = Server::new(Config::default()).namespace("/", |_| {}).endpoint("/screens.io/", |endpoint| {
    ///     endpoint.slow_consumers(SlowConsumers::Latest);
    ///     endpoint.namespace("/", |_| {});
    ///     endpoint.namespace("/orders", |io| io.slow_consumers(SlowConsumers::Close));
    /// });
    /// ```
    pub fn slow_consumers(&mut self, rule: SlowConsumers) {
        self.slow = rule;
    }

    /// Decides which sessions may open; see [`Server::allow_request`](crate::Server::allow_request).
    pub fn allow_request<E: fmt::Display>(
        &mut self,
        rule: impl Fn(&Request<'_>) -> std::result::Result<(), E> + Send + Sync + 'static,
    ) {
        let rule = move |request: &Request<'_>| rule(request).map_err(|error| error.to_string());
        self.allow_request = Some(AllowRule::Now(Arc::new(rule)));
    }

    /// Decides in its own time which sessions may open; see [`Server::allow_request_async`](crate::Server::allow_request_async).
    pub fn allow_request_async<F, E: fmt::Display>(
        &mut self,
        rule: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = std::result::Result<(), E>> + 'static,
    {
        let rule = move |request| -> LocalAnswer<std::result::Result<(), String>> {
            let decided = rule(request);
            Box::pin(async move { decided.await.map_err(|error| error.to_string()) })
        };
        self.allow_request = Some(AllowRule::Later(Arc::new(rule)));
    }

    /// Decides which subprotocol a WebSocket speaks; see [`Server::choose_protocol`](crate::Server::choose_protocol).
    pub fn choose_protocol<E: fmt::Display>(
        &mut self,
        choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> std::result::Result<Option<&'a str>, E>
        + Send
        + Sync
        + 'static,
    ) {
        fn shared(
            choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> std::result::Result<Option<&'a str>, String>
            + Send
            + Sync
            + 'static,
        ) -> ChooseFunction {
            Arc::new(choose)
        }
        self.choose_protocol =
            Some(shared(move |request| choose(request).map_err(|error| error.to_string())));
    }

    /// Gives messages raw, with no Socket.IO above; see [`Server::engine`](crate::Server::engine).
    pub fn engine(&mut self, setup: impl Fn(&mut EngineRoute) + Send + Sync + 'static) {
        self.route = Some(Arc::new(setup));
    }

    /// The handlers of one shard.
    fn build(&self, number: u8, shard: ShardInfo, handle: &Handle, app: &mut App) -> Result<()> {
        let mut handlers = EndpointHandlers::new(self.options.clone());
        handlers.settings = Some(self.settings);
        handlers.slow = self.slow;
        handlers.bundle_version = bundle_version(&self.options.client_bundle);
        if let Some(rule) = self.allow_request.clone() {
            handlers.allow_request = Some(match rule {
                AllowRule::Now(rule) => AllowRequest::Now(Box::new(move |request| rule(request))),
                AllowRule::Later(rule) => AllowRequest::Later(Rc::new(move |request| rule(request))),
            });
        }
        if let Some(choose) = self.choose_protocol.clone() {
            handlers.choose_protocol = Some(subprotocol::rule(move |request| choose(request)));
        }
        if let Some(setup) = &self.route {
            let mut route = EngineRoute::default();
            setup(&mut route);
            let mut settings = self.settings;
            route.options.apply(&mut handlers.options, &mut settings);
            handlers.options.validate().map_err(|fault| self.within(&fault))?;
            settings.validate().map_err(|fault| self.within(&fault))?;
            handlers.settings = Some(settings);
            handlers.choose_protocol = route.choose_protocol.take().or(handlers.choose_protocol);
            handlers.route = Some(route);
        }
        app.endpoints.push(handlers);
        for (name, setup) in &self.namespaces {
            let mut handlers = Namespace::build(name, shard, handle.clone(), |io: &mut Namespace<'_>| {
                io.slow_consumers(self.slow);
                setup(io);
            })?;
            handlers.endpoint = number;
            app.add_namespace(handlers)?;
        }
        Ok(())
    }

    fn within(&self, fault: &str) -> Error {
        Error::new(format!("endpoint {}: {fault}", self.options.path))
    }

    fn validate(&self) -> Result<()> {
        let within = |fault: String| self.within(&fault);
        self.options.validate().map_err(within)?;
        self.settings.validate().map_err(within)?;
        if self.route.is_some() && !self.namespaces.is_empty() {
            return Err(within("it is raw, and has namespaces; choose one".to_owned()));
        }
        let folder = &self.options.client_bundle;
        if !folder.as_os_str().is_empty() && !folder.join("socket.io.js").is_file() {
            return Err(within(format!(
                "client_bundle = {folder:?}: there is no socket.io.js; npm install socket.io-client has it in \
                 node_modules/socket.io-client/dist"
            )));
        }
        Ok(())
    }
}

/// The number under which a raw WebSocket route has its own options: they follow those of the endpoints.
pub(crate) fn number_of_route(endpoints: &[Endpoint], routes: usize) -> Result<u8> {
    u8::try_from(endpoints.len() + routes).ok().filter(|number| usize::from(*number) < ENDPOINTS_MAX).ok_or_else(|| {
        Error::new(format!(
            "endpoints and raw WebSocket routes with options of their own: the most is {ENDPOINTS_MAX} together"
        ))
    })
}

/// Checks what cannot be right, before anything listens.
pub(crate) fn validate(endpoints: &[Endpoint]) -> Result<()> {
    if endpoints.len() > ENDPOINTS_MAX {
        return Err(Error::new(format!("{} endpoints: the most is {ENDPOINTS_MAX}", endpoints.len())));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        endpoint.validate()?;
        let path = &endpoint.options.path;
        if endpoints[..index].iter().any(|other| other.options.path == *path) {
            return Err(Error::new(format!("two endpoints at {path}; give each a path of its own")));
        }
    }
    shared::queues(endpoints.iter().map(|endpoint| &endpoint.options))?;
    Ok(())
}

/// Checks that the program has each endpoint that its configuration speaks of.
pub(crate) fn check_configured(endpoints: &[Endpoint], configured: &[ConfiguredEndpoint]) -> Result<()> {
    let paths = || endpoints[1..].iter().map(|endpoint| endpoint.options.path.as_str());
    let Some(unknown) = configured.iter().find(|entry| !paths().any(|path| path == entry.path())) else {
        return Ok(());
    };
    let advice = match nearest(paths(), unknown.path()) {
        Some(near) => format!("; did you mean {near}?"),
        None if endpoints.len() == 1 => "; it has the main one only".to_owned(),
        None => format!("; it has {}", paths().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::new(format!("endpoint {}: this program has no endpoint there{advice}", unknown.path())))
}

/// The message queues of the endpoints, each with those that are on it.
pub(crate) fn queues(endpoints: &[Endpoint]) -> Result<Vec<Queue>> {
    let shared = shared::queues(endpoints.iter().map(|endpoint| &endpoint.options))?;
    let path = |number: u8| {
        let path = endpoints[usize::from(number)].options.path.as_str();
        (number != MAIN).then(|| path.into())
    };
    let queues = shared.into_iter().map(|SharedQueue { queue, endpoints: numbers }| {
        let names = numbers.iter().flat_map(|number| &endpoints[usize::from(*number)].namespaces);
        // One with braces is a pattern.
        let mut namespaces: Vec<String> =
            names.map(|(name, _)| name.clone()).filter(|name| !name.contains('{')).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let settings = numbers.iter().map(|number| endpoints[usize::from(*number)].settings).collect();
        Queue { queue, settings, endpoints: numbers.into_iter().map(path).collect(), namespaces }
    });
    Ok(queues.collect())
}

/// Registers every endpoint's handlers for one shard.
pub(crate) fn build(endpoints: &[Endpoint], shard: ShardInfo, handle: &Handle, app: &mut App) -> Result<()> {
    for (number, endpoint) in endpoints.iter().enumerate() {
        let number = u8::try_from(number).expect("validate knows the most endpoints");
        let scoped = if number == MAIN { handle.clone() } else { handle.endpoint(&endpoint.options.path) };
        endpoint.build(number, shard, &scoped, app)?;
    }
    Ok(())
}

/// The version in the package.json beside a bundle's folder or in it, if it can be part of an entity tag.
fn bundle_version(folder: &Path) -> Option<String> {
    if folder.as_os_str().is_empty() {
        return None;
    }
    let places = [folder.join("package.json"), folder.join("../package.json")];
    let text = places.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    let package: serde_json::Value = serde_json::from_str(&text).ok()?;
    let version = package.get("version")?.as_str()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    version.bytes().all(is_plain).then(|| version.to_owned())
}
