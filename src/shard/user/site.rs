//! What is registered for paths that are not Engine.IO's: routes, checks before them, folders, raw WebSockets.

use std::borrow::Cow;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::http::method::Method;
use crate::protocol::http::query;
use crate::protocol::http::response::Response;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::streamed::Streamed;
use crate::shard::user::websocket::WebSocketRoute;

/// A future of the user's that stays on its shard.
pub(crate) type LocalAnswer<T> = Pin<Box<dyn Future<Output = T>>>;

type RouteFunction = Arc<dyn Fn(&Request<'_>) -> Streamed + Send + Sync>;
pub(crate) type WaitingFunction = Arc<dyn Fn(OwnedRequest) -> LocalAnswer<Streamed> + Send + Sync>;
type CheckFunction = Arc<dyn Fn(&Request<'_>) -> Option<Streamed> + Send + Sync>;
type WaitingCheck = Arc<dyn Fn(OwnedRequest) -> LocalAnswer<Option<Streamed>> + Send + Sync>;
pub(crate) type AfterFunction = Arc<dyn Fn(&Request<'_>, Response) -> Response + Send + Sync>;

/// Answers one request.
#[derive(Clone)]
pub(crate) enum RouteHandler {
    /// At once.
    Now(RouteFunction),
    /// When its future is done.
    Later(WaitingFunction),
    /// The same, and it takes a body of at most so many bytes piece by piece.
    Upload(WaitingFunction, usize),
}

/// Asked before routes, folders and WebSockets.
#[derive(Clone)]
pub(crate) enum Check {
    Now(CheckFunction),
    Later(WaitingCheck),
}

/// Something for all that is below a path.
#[derive(Clone)]
pub(crate) struct Below<T> {
    /// The segments of the path.
    segments: Vec<String>,
    pub(crate) item: T,
}

impl<T> Below<T> {
    pub(crate) fn new(path: &str, item: T) -> Below<T> {
        Below { segments: segments(path).map(str::to_owned).collect(), item }
    }

    /// Whether a request is for this path or for one below it, however its path is written: a segment may be encoded, and
    /// an empty one is none.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let decoded = query::percent_decode_path(path).unwrap_or(Cow::Borrowed(path));
        let mut asked = segments(&decoded);
        self.segments.iter().all(|segment| asked.next() == Some(segment))
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// What the site serves.
#[derive(Default)]
pub(crate) struct Site {
    pub(crate) routes: matchit::Router<Rc<Route>>,
    /// Prefix of the path, and the folder on disk; the longest prefix first.
    pub(crate) folders: Vec<(String, PathBuf)>,
    /// By their numbers, which connections keep.
    pub(crate) websockets: Vec<WebSocketRoute>,
    /// In the order of registration.
    pub(crate) before: Vec<Below<Check>>,
    pub(crate) after: Vec<Below<AfterFunction>>,
    /// Answers what nothing else does.
    pub(crate) fallback: Option<WaitingFunction>,
}

impl Site {
    /// The folder that a path is in, and the rest of the path.
    pub(crate) fn folder<'p>(&self, path: &'p str) -> Option<(&'p str, &PathBuf)> {
        self.folders.iter().find_map(|(prefix, root)| {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
            rest.starts_with('/').then_some((rest, root))
        })
    }

    /// A WebSocket route by the number that its path has.
    pub(crate) fn websocket(&self, number: u16) -> &WebSocketRoute {
        &self.websockets[usize::from(number)]
    }

    /// Lets what comes after routes change the head of an answer: who was registered last, first.
    pub(crate) fn finish(&self, request: &Request<'_>, answer: Streamed) -> Streamed {
        let after = self.after.iter().rev().filter(|after| after.covers(request.path()));
        after.fold(answer, |answer, after| answer.map_head(|head| (after.item)(request, head)))
    }

    /// The same for a request that waited.
    pub(crate) fn finish_later(&self, request: &OwnedRequest, answer: Streamed) -> Streamed {
        if self.after.is_empty() {
            return answer;
        }
        request.with(|request| self.finish(request, answer))
    }
}

/// Everything on one path.
#[derive(Default)]
pub(crate) struct Route {
    pub(crate) methods: Vec<(Method, RouteHandler)>,
    /// The number of its WebSocket route.
    pub(crate) websocket: Option<u16>,
}

impl Route {
    /// What answers a method; HEAD is answered as GET is.
    pub(crate) fn handler(&self, method: Method) -> Option<&RouteHandler> {
        let find = |wanted: Method| self.methods.iter().find(|(method, _)| *method == wanted);
        let found = find(method).or_else(|| find(Method::Get).filter(|_| method == Method::Head));
        found.map(|(_, handler)| handler)
    }

    /// The methods that are answered, for `Allow`.
    pub(crate) fn allowed(&self) -> String {
        let mut names: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_covers_what_is_below_its_path_however_that_is_written() {
        for (prefix, path, covers) in [
            ("/", "/", true),
            ("/", "/a/b", true),
            ("/", "*", true),
            ("/admin", "/admin", true),
            ("/admin", "/admin/", true),
            ("/admin/", "/admin/users", true),
            ("/admin", "/administrator", false),
            ("/admin", "/", false),
            ("/admin", "/%61dmin/x", true),
            ("/admin", "//admin/x", true),
            ("/a/b", "/a%2Fb", true),
            ("/a/b", "/a//b", true),
            ("/a/b", "/a", false),
            ("/admin", "/%zz/admin", false),
        ] {
            assert_eq!(Below::new(prefix, ()).covers(path), covers, "{prefix} {path}");
        }
    }
}
