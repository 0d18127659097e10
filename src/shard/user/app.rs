//! What the user registered, as the shard calls it: one set of handlers for each shard.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::limits::NAMESPACES_REGISTERED_MAX;
use crate::config::engine::EngineOptions;
use crate::config::{Config, EndpointSettings};
use crate::message::address::Address;
use crate::protocol::flask::signer::CookieSigner;
use crate::protocol::socketio::event::Args;
pub(crate) use crate::shard::table::namespaces::is_pattern;
use crate::shard::user::context::Context;
use crate::shard::user::engine_socket::EngineRoute;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::servers::ServerHandler;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::user::site::{LocalAnswer, Site};
use crate::shard::user::subprotocol::ChooseProtocol;
use crate::shard::user::tick::Ticker;
use crate::shard::value::endpoint::EndpointTable;
use crate::shard::value::error::HandlerError;
pub(crate) use crate::shard::value::error::Refused;
use crate::shard::value::outside::ConnectionId;
use crate::shard::value::parked::{SlowConsumers, SlowRules};
use crate::shard::value::session::CloseReason;
use crate::shard::value::state::StateRoom;
pub(crate) use crate::shard::value::task::LocalFuture;

pub(crate) type EventHandler = Box<dyn Fn(&mut Context<'_>, Args<'_>) -> Result<Flow, HandlerError>>;

pub(crate) type ConnectHandler = Box<dyn Fn(&mut Context<'_>, Args<'_>) -> Result<ConnectFlow, Refused>>;

pub(crate) type DisconnectHandler = Box<dyn Fn(&mut Context<'_>, CloseReason) -> Farewell>;

pub(crate) type Check = Box<dyn Fn(&mut Context<'_>, Args<'_>) -> Result<(), HandlerError>>;

pub(crate) type SocketHandler = Box<dyn Fn(&mut Context<'_>)>;

pub(crate) type ErrorHandler = Box<dyn Fn(&mut Context<'_>, &HandlerError) -> Result<(), HandlerError>>;

/// Whether a handler is done.
#[doc(hidden)]
pub enum Flow {
    /// Nothing is left to do.
    Done,
    /// Nobody handles this event.
    Unhandled,
    /// It goes on as a task; the socket's later events wait for it.
    Later(LocalFuture),
    /// It goes on as a task, beside later events and their handlers.
    Beside(LocalFuture),
}

/// Whether a connect handler has decided. A later decision arrives as `Deferred::Decided`.
#[doc(hidden)]
pub enum ConnectFlow {
    /// The client is accepted.
    Done,
    /// The decision follows.
    Later(LocalFuture),
    /// It follows from outside the shard.
    Outside,
}

/// Whether a disconnect handler is done. Until it is, the socket's rooms are kept.
pub(crate) enum Farewell {
    Done,
    /// It goes on as a task.
    Later(LocalFuture),
    /// It goes on outside the shard.
    Outside,
}

/// Everything registered for one server, on one shard.
#[derive(Default)]
pub(crate) struct App {
    /// By the endpoint's number. An empty list means the one endpoint of the configuration.
    pub(crate) endpoints: Vec<EndpointHandlers>,
    /// What raw WebSocket routes have of their own; their numbers follow those of the endpoints.
    pub(crate) routes: Vec<(EngineOptions, EndpointSettings)>,
    /// In the order of registration.
    pub(crate) namespaces: Vec<Rc<NamespaceHandlers>>,
    /// For each endpoint, from the names that are patterns to places in `namespaces`.
    pub(crate) patterns: Vec<matchit::Router<u16>>,
    pub(crate) default_error: Option<ErrorHandler>,
    /// For clients.
    pub(crate) site: Rc<Site>,
    /// For operators.
    pub(crate) admin: Rc<Site>,
    pub(crate) signer: Option<CookieSigner>,
    /// Told that the server is asked to end.
    pub(crate) on_drain: Vec<Box<dyn Fn()>>,
    /// Told at the end of a turn in which something was given to handlers outside.
    pub(crate) on_turn_end: Vec<Box<dyn Fn()>>,
    /// Told that a connection has ended that somebody knows by its id.
    pub(crate) on_connection_end: Vec<Box<dyn Fn(ConnectionId)>>,
}

impl App {
    /// Adds the handlers of a namespace, or of all that a pattern matches.
    ///
    /// # Errors
    /// As [`check_namespace`](App::check_namespace), and a pattern that another one stands in the way of.
    pub(crate) fn add_namespace(&mut self, handlers: NamespaceHandlers) -> Result<(), String> {
        let name = &handlers.name;
        self.check_namespace(handlers.endpoint, name)?;
        if is_pattern(name) {
            let setup = self.namespaces.len() as u16;
            let endpoint = usize::from(handlers.endpoint);
            if self.patterns.len() <= endpoint {
                self.patterns.resize_with(endpoint + 1, matchit::Router::new);
            }
            self.patterns[endpoint]
                .insert(name, setup)
                .map_err(|error| format!("namespace {name:?}: {error}"))?;
        }
        self.namespaces.push(Rc::new(handlers));
        Ok(())
    }

    /// Whether a namespace of this name can be added.
    ///
    /// # Errors
    /// What is wrong with the name, in words for whoever registered it.
    pub(crate) fn check_namespace(&self, endpoint: u8, name: &str) -> Result<(), String> {
        if !name.starts_with('/') || name.contains(',') || name.contains(char::is_control) {
            let advice = if name == "*" {
                "; every namespace that has no handlers of its own is /{*name}"
            } else {
                ""
            };
            return Err(format!("namespace {name:?}: a name starts with / and has no comma{advice}"));
        }
        if self.namespaces.iter().any(|other| other.endpoint == endpoint && other.name == *name) {
            return Err(format!("namespace {name:?} is registered twice; put its handlers into one closure"));
        }
        if self.namespaces.len() >= NAMESPACES_REGISTERED_MAX {
            return Err(format!(
                "namespace {name:?}: the most that can be registered is {NAMESPACES_REGISTERED_MAX}"
            ));
        }
        Ok(())
    }

    pub(crate) fn endpoint(&self, endpoint: u8) -> Option<&EndpointHandlers> {
        self.endpoints.get(usize::from(endpoint))
    }
}

/// A namespace that is registered while the server runs: every shard makes its handlers.
pub(crate) struct LateNamespace {
    pub(crate) address: Address,
    pub(crate) make: Box<MakeHandlers>,
}

/// Makes the handlers of one shard; the rule is that of the endpoint, for clients that are slow.
pub(crate) type MakeHandlers =
    dyn Fn(ShardInfo, SlowConsumers) -> Result<NamespaceHandlers, String> + Send + Sync;

/// The handlers of one namespace.
#[derive(Default)]
pub(crate) struct NamespaceHandlers {
    pub(crate) endpoint: u8,
    pub(crate) name: String,
    /// Asked one after the other until one refuses; `on_connect` is the last.
    pub(crate) connect: Vec<ConnectHandler>,
    pub(crate) disconnect: Option<DisconnectHandler>,
    pub(crate) events: FxHashMap<Box<str>, EventHandler>,
    /// For what the servers of other processes say.
    pub(crate) server_events: FxHashMap<Box<str>, ServerHandler>,
    /// Asked before any event is handled.
    pub(crate) before: Vec<Check>,
    /// For events without a handler of their own.
    pub(crate) any: Option<EventHandler>,
    pub(crate) error: Option<ErrorHandler>,
    pub(crate) tickers: Vec<Ticker>,
    pub(crate) state_rooms: Vec<(String, StateRoom)>,
    pub(crate) slow: SlowRules,
    pub(crate) drain: Option<SocketHandler>,
    pub(crate) expiry: Option<SocketHandler>,
}

/// Whether a session may open: the error is the message of the refusal.
pub(crate) enum AllowRequest {
    Now(Box<AllowNow>),
    /// It takes its time: the handshake waits as a request for a route does.
    Later(Rc<AllowLater>),
}

pub(crate) type AllowNow = dyn Fn(&Request<'_>) -> Result<(), String>;

pub(crate) type AllowLater = dyn Fn(OwnedRequest) -> LocalAnswer<Result<(), String>>;

/// What the user registered for one endpoint, namespaces apart.
pub(crate) struct EndpointHandlers {
    pub(crate) options: EngineOptions,
    /// `None`: those of the configuration.
    pub(crate) settings: Option<EndpointSettings>,
    /// What becomes of events for clients that are slow, where a namespace does not say.
    pub(crate) slow: SlowConsumers,
    /// Version of the client bundle, for its entity tag.
    pub(crate) bundle_version: Option<String>,
    pub(crate) allow_request: Option<AllowRequest>,
    pub(crate) choose_protocol: Option<ChooseProtocol>,
    /// Present where messages are given raw, with no Socket.IO above.
    pub(crate) route: Option<EngineRoute>,
}

impl EndpointHandlers {
    /// What the tables of a shard know of it.
    pub(crate) fn table(&self, config: &Config) -> EndpointTable {
        let settings = self.settings.unwrap_or_else(|| EndpointSettings::new(config));
        let version = self.bundle_version.as_deref();
        EndpointTable::new(self.options.clone(), settings, version, self.route.is_some())
    }

    pub(crate) fn new(options: EngineOptions) -> EndpointHandlers {
        EndpointHandlers {
            options,
            settings: None,
            slow: SlowConsumers::default(),
            bundle_version: None,
            allow_request: None,
            choose_protocol: None,
            route: None,
        }
    }
}
