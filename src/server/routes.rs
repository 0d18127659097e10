//! Routes, and what comes before and after them: registered here, called in `shard/run`.

use std::future::Future;
use std::sync::Arc;

use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::server::Server;
use crate::shard::user::answering::{IntoAnswer, Verdict};
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::responder::{Responder, give_away};
use crate::shard::user::site::{Below, Check, LocalAnswer, RouteHandler};
use crate::shard::user::streamed::Streamed;
use crate::shard::user::websocket::WebSocketRoute;

impl Server {
    /// Answers GET and HEAD requests to a path. `{name}` in it matches one segment, `{*name}` all the rest.
    ///
    /// What it may return is in [`IntoAnswer`](crate::http::IntoAnswer): a [`Response`](crate::http::Response), text, a `Result`.
    ///
    /// ```
    /// # use shardcast::{Config, Server, http::Response};
    /// Server::new(Config::default())
    ///     .route("/hello/{name}", |request| format!("Hello, {}!", request.param("name").unwrap_or("you")))
    ///     .route("/page", |_| Response::html("<h1>Hello</h1>"));
    /// ```
    pub fn route<A: IntoAnswer>(
        self,
        path: &str,
        handler: impl Fn(&Request<'_>) -> A + Send + Sync + 'static,
    ) -> Server {
        self.route_method(Method::Get, path, handler)
    }

    /// Answers requests of one method to a path.
    pub fn route_method<A: IntoAnswer>(
        mut self,
        method: Method,
        path: &str,
        handler: impl Fn(&Request<'_>) -> A + Send + Sync + 'static,
    ) -> Server {
        let handler = move |request: &Request<'_>| handler(request).into_answer();
        self.blueprint.routes.methods.push((method, path.to_owned(), RouteHandler::Now(Arc::new(handler))));
        self
    }

    /// Answers GET and HEAD requests to a path, in its own time: the handler returns a future, which runs on the shard of the
    /// request. Other requests and events go on meanwhile; the connection's next request waits for this answer. The future is
    /// dropped when the client leaves, or after `route_timeout`, and then the client is answered 504.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::http::OwnedRequest;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config::default()).namespace("/", |_| {});
    /// let server = server.route_async("/later", |request: OwnedRequest| async move {
    ///     shardcast::sleep(Duration::from_secs(2)).await;
    ///     format!("{} it is", request.query("what").unwrap_or_default())
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let mut answer = server.begin(shardcast::http::Method::Get, "/later?what=late", &[]);
    /// assert!(!answer.has_begun());
    /// server.advance(Duration::from_secs(2));
    /// assert_eq!(answer.response().unwrap().text(), "late it is");
    /// ```
    pub fn route_async<F>(
        self,
        path: &str,
        handler: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output: IntoAnswer> + 'static,
    {
        self.route_method_async(Method::Get, path, handler)
    }

    /// Answers requests of one method to a path, in its own time. The body has come whole when the handler is called.
    pub fn route_method_async<F>(
        mut self,
        method: Method,
        path: &str,
        handler: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output: IntoAnswer> + 'static,
    {
        let handler = RouteHandler::Later(waiting(handler));
        self.blueprint.routes.methods.push((method, path.to_owned(), handler));
        self
    }

    /// The same for a body that comes piece by piece, of at most `bytes_max` bytes: the handler is called with the head, and takes
    /// the body by [`OwnedRequest::chunk`](crate::http::OwnedRequest::chunk). What it does not take is not read from the
    /// client, beyond 64 KiB. A longer body is answered 413; one that comes too slowly is an error of `chunk`.
    pub fn route_upload<F>(
        mut self,
        method: Method,
        path: &str,
        bytes_max: usize,
        handler: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output: IntoAnswer> + 'static,
    {
        let handler = RouteHandler::Upload(waiting(handler), bytes_max);
        self.blueprint.routes.methods.push((method, path.to_owned(), handler));
        self
    }

    /// Gives away every request that nothing else answers (no route at its path, no folder, no endpoint), to be answered by any thread,
    /// at any time: a pool of threads, a runtime, another language. `take` runs on the request's shard and only passes it on: it
    /// copies what it needs of the request, and gives that away with the [`Responder`](crate::http::Responder).
    ///
    /// It is called once a body of at most `max_http_buffer_size` bytes is whole. A longer one, of up to `upload_bytes_max`, and one
    /// without a length is read while it comes: [`Responder::body`](crate::http::Responder::body). Requests that wait here count with those
    /// of asynchronous routes, in `routes_waiting_max`, and have `route_timeout`. Checks before routes are asked first. An upgrade to a
    /// WebSocket where none is, and `CONNECT`, is answered 404 without it.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use shardcast::http::{Responder, Response};
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let (jobs, pool) = mpsc::channel::<(String, Responder)>();
    /// let server = Server::new(Config::default()).namespace("/", |_| {});
    /// let server = server.fallback(move |request, responder| {
    ///     // If nobody takes jobs any more, the responder is dropped, and the client is answered 500.
    ///     let _ = jobs.send((request.path().to_owned(), responder));
    /// });
    /// // A thread of the pool answers.
    /// let worker = std::thread::spawn(move || {
    ///     for (path, responder) in pool {
    ///         match path.as_str() {
    ///             "/numbers" => {
    ///                 let mut body = responder.begin(Response::text(""), None);
    ///                 for number in 0..3 {
    ///                     if body.write(format!("{number} ")).is_err() {
    ///                         return; // The client has gone.
    ///                     }
    ///                 }
    ///                 body.finish();
    ///             }
    ///             path => responder.respond(Response::text(format!("this is {path}"))),
    ///         }
    ///     }
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let mut page = server.begin(shardcast::http::Method::Get, "/page", &[]);
    /// let mut numbers = server.begin(shardcast::http::Method::Get, "/numbers", &[]);
    /// server.settle_until(|| page.is_complete() && numbers.is_complete());
    /// assert_eq!((page.text(), numbers.text()), ("this is /page".to_owned(), "0 1 2 ".to_owned()));
    /// drop((page, numbers, server));
    /// worker.join().unwrap();
    /// ```
    pub fn fallback(mut self, take: impl Fn(&Request<'_>, Responder) + Send + Sync + 'static) -> Server {
        self.blueprint.routes.fallback = Some(Arc::new(move |request| give_away(request, &take)));
        self
    }

    /// Asks a check before each request to a path and to all below it: routes, folders, WebSockets, and what is not there. In the
    /// order of registration, until one answers. Socket.IO's own requests are not asked for; for these there are
    /// [`allow_request`](Server::allow_request) and [`on_connect`](crate::Namespace::on_connect). Preflights of CORS are not either.
    ///
    /// ```
    /// use shardcast::http::{Failure, Request, Status};
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let server = Server::new(Config::default())
    ///     .namespace("/", |_| {})
    ///     .before_routes("/admin", |request: &Request<'_>| match request.cookie("user") {
    ///         Some(user) => Ok(request.set(User(user.to_owned()))),
    ///         None => Err(Failure::new(Status::UNAUTHORIZED, "log in first")),
    ///     })
    ///     .route("/admin/name", |request| request.get::<User>().map(|user| user.0));
    /// let server = TestServer::new(server).unwrap();
    /// assert_eq!(server.get("/admin/name").status, 401);
    /// let answer = server.request(shardcast::http::Method::Get, "/admin/name", &[("Cookie", "user=ada")], b"");
    /// assert_eq!(answer.text(), "ada");
    /// ```
    pub fn before_routes<V: Verdict>(
        mut self,
        path: &str,
        check: impl Fn(&Request<'_>) -> V + Send + Sync + 'static,
    ) -> Server {
        let check = Check::Now(Arc::new(move |request| check(request).into_verdict()));
        self.blueprint.routes.before.push(Below::new(path, check));
        self
    }

    /// The same, in its own time: a look into a database, a question to another service.
    pub fn before_routes_async<F>(
        mut self,
        path: &str,
        check: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output: Verdict> + 'static,
    {
        let check = move |request: OwnedRequest| -> LocalAnswer<_> {
            let verdict = check(request);
            Box::pin(async move { verdict.await.into_verdict() })
        };
        self.blueprint.routes.before.push(Below::new(path, Check::Later(Arc::new(check))));
        self
    }

    /// Lets a function change what routes and checks answer below a path, by its head: the status and the headers. Of several the
    /// one that was registered last is called first. Files of folders, and what the server answers by itself (404, 405, 503, 504, a
    /// panic), are not asked for.
    ///
    /// ```
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let server = Server::new(Config::default())
    ///     .namespace("/", |_| {})
    ///     .after_routes("/", |_, response| response.header("X-Frame-Options", "DENY"))
    ///     .route("/", |_| "hello");
    /// let server = TestServer::new(server).unwrap();
    /// assert_eq!(server.get("/").header("X-Frame-Options"), Some("DENY"));
    /// ```
    pub fn after_routes(
        mut self,
        path: &str,
        change: impl Fn(&Request<'_>, Response) -> Response + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.routes.after.push(Below::new(path, Arc::new(change)));
        self
    }

    /// Serves a raw WebSocket: RFC 6455 and nothing above it.
    ///
    /// ```
    /// # use shardcast::{Config, Server};
    /// Server::new(Config::default()).websocket("/ws", |route| route.on_message(|ws, message| ws.send(message)));
    /// ```
    pub fn websocket(
        mut self,
        path: &str,
        setup: impl Fn(&mut WebSocketRoute) + Send + Sync + 'static,
    ) -> Server {
        self.blueprint.routes.websockets.push((path.to_owned(), Arc::new(setup)));
        self
    }
}

pub(super) fn waiting<F>(
    handler: impl Fn(OwnedRequest) -> F + Send + Sync + 'static,
) -> Arc<dyn Fn(OwnedRequest) -> LocalAnswer<Streamed> + Send + Sync>
where
    F: Future<Output: IntoAnswer> + 'static,
{
    Arc::new(move |request| {
        let answer = handler(request);
        Box::pin(async move { answer.await.into_answer() })
    })
}
