//! What the user registered, as the shard calls it: one set of handlers for each shard.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::limits::NAMESPACES_REGISTERED_MAX;
use crate::base::log::SOCKETIO;
use crate::protocol::flask::signer::CookieSigner;
use crate::protocol::socketio::event::{Args, ArgsError};
use crate::protocol::socketio::raw_json::RawJson;
use crate::shard::backpressure::SlowRules;
use crate::shard::context::Context;
use crate::shard::endpoint::EndpointHandlers;
use crate::shard::session::CloseReason;
use crate::shard::site::Site;
use crate::shard::state::StateRoom;
use crate::shard::ticks::Ticker;

/// A future that stays on its shard.
pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

pub(crate) type EventHandler = Box<dyn Fn(&mut Context<'_>, Args<'_>) -> Result<Flow, HandlerError>>;
pub(crate) type ConnectHandler = Box<dyn Fn(&mut Context<'_>, Args<'_>) -> Result<ConnectFlow, Refused>>;
pub(crate) type DisconnectHandler = Box<dyn Fn(&mut Context<'_>, CloseReason)>;
pub(crate) type Check = Box<dyn Fn(&mut Context<'_>, Args<'_>) -> Result<(), HandlerError>>;
pub(crate) type SocketHandler = Box<dyn Fn(&mut Context<'_>)>;
pub(crate) type ErrorHandler = Box<dyn Fn(&mut Context<'_>, &HandlerError) -> Result<(), HandlerError>>;

/// Whether a handler is done.
#[doc(hidden)]
pub enum Flow {
    /// Nothing is left to do.
    Done,
    /// It goes on as a task; the socket's later events wait for it.
    Later(LocalFuture),
}

/// Whether a connect handler has decided. A later decision arrives as `Deferred::Decided`.
#[doc(hidden)]
pub enum ConnectFlow {
    /// The client is accepted.
    Done,
    /// The decision follows.
    Later(LocalFuture),
}

/// Everything registered for one server, on one shard.
#[derive(Default)]
pub(crate) struct App {
    /// By the endpoint's number. An empty list means the one endpoint of the configuration.
    pub(crate) endpoints: Vec<EndpointHandlers>,
    /// In the order of registration.
    pub(crate) namespaces: Vec<Rc<NamespaceHandlers>>,
    /// For each endpoint, from the names that are patterns to places in `namespaces`.
    pub(crate) patterns: Vec<matchit::Router<u16>>,
    pub(crate) default_error: Option<ErrorHandler>,
    pub(crate) site: Site,
    pub(crate) signer: Option<CookieSigner>,
}

impl App {
    /// Adds the handlers of a namespace, or of all that a pattern matches.
    ///
    /// # Errors
    /// What is wrong with the name, in words for whoever registered it.
    pub(crate) fn add_namespace(&mut self, handlers: NamespaceHandlers) -> Result<(), String> {
        let name = &handlers.name;
        if !name.starts_with('/') || name.contains(',') || name.contains(char::is_control) {
            let advice = if name == "*" {
                "; every namespace that has no handlers of its own is /{*name}"
            } else {
                ""
            };
            return Err(format!("namespace {name:?}: a name starts with / and has no comma{advice}"));
        }
        if self.namespaces.iter().any(|other| other.endpoint == handlers.endpoint && other.name == *name) {
            return Err(format!("namespace {name:?} is registered twice; put its handlers into one closure"));
        }
        if self.namespaces.len() >= NAMESPACES_REGISTERED_MAX {
            return Err(format!(
                "namespace {name:?}: the most that can be registered is {NAMESPACES_REGISTERED_MAX}"
            ));
        }
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

    pub(crate) fn endpoint(&self, endpoint: u8) -> Option<&EndpointHandlers> {
        self.endpoints.get(usize::from(endpoint))
    }
}

/// Whether a namespace's name has parts in braces, and so stands for many.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['{', '}'])
}

/// The handlers of one namespace.
#[derive(Default)]
pub(crate) struct NamespaceHandlers {
    pub(crate) endpoint: u8,
    pub(crate) name: String,
    /// Asked one after the other until one refuses; `on_connect` is the last.
    pub(crate) connect: Vec<ConnectHandler>,
    pub(crate) disconnect: Option<DisconnectHandler>,
    pub(crate) events: FxHashMap<Box<str>, EventHandler>,
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

/// Sends a client away: what a connect handler returns to refuse it.
///
/// The client sees `connect_error` with the message, and the data if there is any.
///
/// ```
/// use shardcast::Refused;
///
/// let refused = Refused::new("unauthorized").data(&serde_json::json!({ "retry": false }));
/// assert_eq!(refused.to_string(), "unauthorized");
/// ```
#[derive(Clone, Debug)]
pub struct Refused {
    pub(crate) message: String,
    pub(crate) data: Option<RawJson>,
}

impl Refused {
    /// A refusal with the text that the client's `connect_error` carries.
    pub fn new(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), data: None }
    }

    /// Adds what the client finds in `error.data`. Data that is no JSON (a map with keys that are no text) is
    /// left out, and logged.
    pub fn data(mut self, data: &impl serde::Serialize) -> Refused {
        match RawJson::from_value(data) {
            Ok(json) => self.data = Some(json),
            Err(error) => {
                tracing::warn!(target: SOCKETIO, %error, "a refusal's data is no JSON; it is sent without")
            }
        }
        self
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused::new(error.to_string())
    }
}

/// Why a handler did not do its work. `on_error` gets it, and may answer the client; without one it is logged, and the client
/// gets no acknowledgement.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// The client's arguments are not what the handler takes.
    Args(ArgsError),
    /// The handler returned an error.
    Failed(Box<dyn std::error::Error>),
}

impl std::fmt::Display for HandlerError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HandlerError::Args(error) => error.fmt(formatter),
            HandlerError::Failed(error) => error.fmt(formatter),
        }
    }
}

impl From<ArgsError> for HandlerError {
    fn from(error: ArgsError) -> HandlerError {
        HandlerError::Args(error)
    }
}
