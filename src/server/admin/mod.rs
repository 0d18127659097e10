//! What operators are served, on a listener of their own (`admin_bind`).
//!
//! The listener is the shards' own HTTP front, with another table of routes: a connection that came by it sees these and nothing of
//! what clients are served, and clients see nothing of these (`message::peer::Door`).
//!
//! To add paths, write a file here with a function `register(&mut AdminRoutes, &Desk)`, and call it in [`site`]. Handlers are those
//! of [`Server::route`](crate::Server::route) and [`Server::route_async`](crate::Server::route_async); who asks has been checked by
//! `access.rs` before they are called.

mod access;
mod exposition;
mod families;
mod health;
mod index;
mod metrics;
mod page;
mod process;

use std::future::Future;
use std::sync::Arc;

use crate::config::Config;
use crate::protocol::http::method::Method;
use crate::server::api::{self, ApiRoute};
use crate::server::handle::Handle;
use crate::server::paths::Routes;
use crate::server::routes::waiting;
use crate::shard::user::answering::IntoAnswer;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::site::{Below, Check, RouteHandler, Site};

/// What the handlers of these paths have at hand.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) handle: Handle,
    /// As it was at the start.
    began: Arc<Config>,
}

impl Desk {
    /// The configuration now.
    pub(super) fn config(&self) -> Arc<Config> {
        self.handle.config().unwrap_or_else(|| Arc::clone(&self.began))
    }
}

/// What the listener serves on one shard. Every group of paths is registered here.
///
/// # Errors
/// Two handlers for one path.
pub(super) fn site(handle: &Handle, config: &Config, api: &[ApiRoute]) -> Result<Site, String> {
    let desk = Desk { handle: handle.clone(), began: Arc::new(config.clone()) };
    let mut routes = AdminRoutes::default();
    health::register(&mut routes, &desk);
    metrics::register(&mut routes, &desk);
    page::register(&mut routes, &desk);
    register_api(&mut routes, api);
    index::register(&mut routes);
    access::guard(&mut routes, &desk);
    routes.routes.build()
}

/// The HTTP API, if it is served here. Its tokens are its own: what operators send is not asked for.
fn register_api(routes: &mut AdminRoutes, api: &[ApiRoute]) {
    if !api.is_empty() {
        routes.about("/api/v1/", "the HTTP API; /api/v1/openapi.json describes it");
        routes.open_below = Some(api::PREFIX);
        routes.routes.methods.extend_from_slice(api);
    }
}

/// Paths of the operators' listener, while they are registered.
#[derive(Default)]
pub(super) struct AdminRoutes {
    routes: Routes,
    /// What the index says of them: the path, and a sentence.
    index: Vec<(&'static str, &'static str)>,
    /// Paths that need no credentials.
    open: Vec<&'static str>,
    /// Paths that begin so ask for credentials of their own.
    open_below: Option<&'static str>,
}

impl AdminRoutes {
    /// Answers GET and HEAD requests. The sentence is for the index.
    pub(super) fn get<A: IntoAnswer>(
        &mut self,
        path: &'static str,
        about: &'static str,
        handler: impl Fn(&Request<'_>) -> A + Send + Sync + 'static,
    ) {
        self.index.push((path, about));
        self.method(Method::Get, path, handler);
    }

    /// Answers requests of one method.
    pub(super) fn method<A: IntoAnswer>(
        &mut self,
        method: Method,
        path: &'static str,
        handler: impl Fn(&Request<'_>) -> A + Send + Sync + 'static,
    ) {
        let handler = move |request: &Request<'_>| handler(request).into_answer();
        self.routes.methods.push((method, path.to_owned(), RouteHandler::Now(Arc::new(handler))));
    }

    /// Answers requests of one method, in its own time; its body has come whole.
    pub(super) fn method_async<F>(
        &mut self,
        method: Method,
        path: &'static str,
        handler: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output: IntoAnswer> + 'static,
    {
        self.routes.methods.push((method, path.to_owned(), RouteHandler::Later(waiting(handler))));
    }

    /// Says what a path that is registered otherwise is for, in the index.
    pub(super) fn about(&mut self, path: &'static str, about: &'static str) {
        self.index.push((path, about));
    }

    /// Lets everybody who reaches the listener ask for a path: probes, which have no credentials.
    pub(super) fn open_to_all(&mut self, path: &'static str) {
        self.open.push(path);
    }

    /// Asks before every request.
    fn before_all(&mut self, check: Check) {
        self.routes.before.push(Below::new("/", check));
    }
}
