//! What is registered for paths that are not Engine.IO's: routes, folders, raw WebSockets.

use std::path::PathBuf;
use std::rc::Rc;

use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::shard::user::request::Request;
use crate::shard::user::websocket::WebSocketRoute;

/// Answers one request.
pub(crate) type RouteHandler = Box<dyn Fn(&Request<'_>) -> Response>;

/// What the site serves.
#[derive(Default)]
pub(crate) struct Site {
    pub(crate) routes: matchit::Router<Rc<Route>>,
    /// Prefix of the path, and the folder on disk; the longest prefix first.
    pub(crate) folders: Vec<(String, PathBuf)>,
    /// By their numbers, which connections keep.
    pub(crate) websockets: Vec<WebSocketRoute>,
}

impl Site {
    /// A WebSocket route by the number that its path has.
    pub(crate) fn websocket(&self, number: u16) -> &WebSocketRoute {
        &self.websockets[usize::from(number)]
    }
}

/// Everything on one path.
#[derive(Default)]
pub(crate) struct Route {
    pub(crate) methods: Vec<(Method, RouteHandler)>,
    /// The number of its WebSocket route.
    pub(crate) websocket: Option<u16>,
}
