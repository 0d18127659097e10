//! What is registered for paths of one server: kept for all shards, built for each.

use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::http::method::Method;
use crate::shard::user::site::{AfterFunction, Below, Check, Route, RouteHandler, Site, WaitingFunction};
use crate::shard::user::websocket::WebSocketRoute;

type WebSocketSetup = Arc<dyn Fn(&mut WebSocketRoute) + Send + Sync>;

/// What is registered for paths of one server, shared by the threads that build their shard from it.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    pub(crate) methods: Vec<(Method, String, RouteHandler)>,
    pub(crate) websockets: Vec<(String, WebSocketSetup)>,
    pub(crate) before: Vec<Below<Check>>,
    pub(crate) after: Vec<Below<AfterFunction>>,
    pub(crate) fallback: Option<WaitingFunction>,
}

impl Routes {
    /// What one shard has of it.
    ///
    /// # Errors
    /// Which of the paths makes no sense.
    pub(crate) fn build(&self) -> Result<Site, String> {
        let mut routes: Vec<(&str, Route)> = Vec::new();
        for (method, path, handler) in &self.methods {
            let route = route_at(&mut routes, path);
            if route.methods.iter().any(|(other, _)| other == method) {
                return Err(format!("route {} {path} has two handlers; keep one", method.as_str()));
            }
            route.methods.push((*method, handler.clone()));
        }
        let mut site = Site {
            before: self.before.clone(),
            after: self.after.clone(),
            fallback: self.fallback.clone(),
            ..Site::default()
        };
        for (path, setup) in &self.websockets {
            let number = u16::try_from(site.websockets.len())
                .map_err(|_| format!("WebSocket route {path}: a server has at most 65,536 of them"))?;
            let mut websocket = WebSocketRoute::default();
            setup(&mut websocket);
            route_at(&mut routes, path).websocket = Some(number);
            site.websockets.push(websocket);
        }
        for (path, route) in routes {
            site.routes.insert(path, Rc::new(route)).map_err(|error| format!("route {path}: {error}"))?;
        }
        Ok(site)
    }
}

fn route_at<'r, 'p>(routes: &'r mut Vec<(&'p str, Route)>, path: &'p str) -> &'r mut Route {
    let place = routes.iter().position(|(other, _)| *other == path).unwrap_or_else(|| {
        routes.push((path, Route::default()));
        routes.len() - 1
    });
    &mut routes[place].1
}
