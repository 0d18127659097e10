//! A Socket.IO, Engine.IO and WebSocket server runtime for Linux.
//!
//! Any stock Socket.IO 3 or 4 client can connect. One process uses every core: each core runs one thread, a *shard*,
//! with connections, rooms and timers of its own, and shards talk through lock-free inboxes. An event is handled on one
//! call stack, a broadcast is encoded once, and what one turn of a shard emits to a connection leaves in one send.
//! Long-polling works on every core without sticky sessions in the load balancer.
//!
//! ```no_run
//! use shardcast::{Config, Context, Server};
//!
//! fn main() -> shardcast::Result<()> {
//!     Server::new(Config::load()?)
//!         .namespace("/", |io| {
//!             io.on_connect(|cx: &mut Context| {
//!                 cx.emit("welcome", &cx.id());
//!             });
//!             io.on("join", |cx: &mut Context, name: String| {
//!                 let room = format!("room:{name}");
//!                 cx.join(&room);
//!                 cx.to(&room).emit("entered", &cx.id());
//!             });
//!             io.on("add", |_: &mut Context, a: i64, b: i64| a + b);
//!         })
//!         .run()
//! }
//! ```
//!
//! A handler's parameters are the arguments of the event, as Rust types; what it returns is the acknowledgement. Names are
//! those of Flask-SocketIO (`emit`, `send`, `to`, `include_self`, `close_room`, `on_error_default`); what Flask-SocketIO
//! does not have is named as in Socket.IO's JavaScript server. Tests run a server with [`testing`], without a port.
//!
//! # How it is built, in a picture
//!
//! ```text
//!         kernel: new connections are spread over the shards
//!    ┌─────────────┬───────────────────┬─────────────┐
//!    │ shard 0     │  shard 1          │  shard 2    │   one thread each, pinned to a core
//!    │             │                   │             │
//!    │ your        │  your             │  your       │   handlers, registered once on each shard:
//!    │ handlers    │  handlers         │  handlers   │   what they share there can be plain, Rc and RefCell
//!    │ sockets     │  sockets          │  sockets    │   a client lives on one shard
//!    │ rooms       │  rooms            │  rooms      │   a room has members on all of them
//!    └──────┬──────┴─────────┬─────────┴──────┬──────┘
//!           └── an inbox each: emits reach the members that other shards have
//! ```
//!
//! A handler runs on the shard of its client, one at a time, and should not block: meanwhile the other clients of that shard wait. What
//! takes time is awaited ([`on_async`](Namespace::on_async), [`route_async`](Server::route_async)) or given to other threads ([`Ticket`]). Other threads go through a
//! [`Handle`]. Whether a member of a room is on this shard, on another, or in another process makes no difference to
//! `cx.to(room).emit(..)`.
//!
//! # Guides
//!
//! Each begins with a whole program, and explains it. They are also in the folder `docs`, where
//! `docs/README.md` lists them by what you want to do.
//!
//! | to begin | to build | to run |
//! |---|---|---|
//! | [First steps](guides::first_steps) | [Who a client is](guides::identity) | [Deployment](guides::deploy), [behind nginx](guides::behind_nginx), [HAProxy](guides::behind_haproxy) |
//! | [Coming from Flask-SocketIO](guides::coming_from_flask_socketio) | [Presence](guides::presence) | [Scaling](guides::scaling), [many processes](guides::many_processes) |
//! | [Flask-SocketIO's examples](guides::flask_examples) | [Dashboards](guides::dashboards), [games](guides::games) | [Emitting from elsewhere](guides::emitting) |
//! | [Coming from Node](guides::coming_from_node) | [HTTP](guides::http) | [Lost connections](guides::recovery) |
//! | [Testing](guides::testing) | [tokio in handlers](guides::tokio), [other threads](guides::threads) | [Slow clients](guides::slow_consumers), [protection](guides::protection) |
//! | [Troubleshooting](guides::troubleshooting) | [Older clients](guides::older_clients) | [Tuning](guides::tuning): every setting |
//!
//! # Features
//!
//! All are on by default. A server of your own leaves out `cli`, and compiles far fewer crates:
//!
//! ```toml
//! [dependencies]
//! shardcast = { path = "../shardcast", default-features = false, features = ["client", "epoll", "log", "toml"] }
//! ```
//!
//! | feature | what it adds |
//! |---|---|
//! | `cli` | the program `shardcast` with its command line and `shardcast bench`; implies all others |
//! | `client` | the browser client at `/socket.io/socket.io.js`, compiled in: 88 KB. Without it [`client_bundle`](EngineOptions::client_bundle) names a folder |
//! | `epoll` | serving where io_uring cannot be had: many containers forbid it, and kernels before 6.1 lack parts of it. Without this feature a server does not start there |
//! | `redis`, `amqp`, `kafka`, `nats` | [many processes as one server](EngineOptions::message_queue) over such a broker, on a thread with tokio. Without the feature a `message_queue` there is an error that names it |
//! | `bus` | what those imply; alone it joins the servers of one process (`memory:`), and the processes of one machine ([`LocalQueue`]) |
//! | `idna` | `cors_allowed_origins` in letters beyond ASCII, such as `https://bücher.example`. Without it write what browsers send, `https://xn--bcher-kva.example` |
//! | `log` | [`log`]: lines on standard error. Without it a program brings a subscriber of `tracing` |
//! | `toml` | configuration files. Without it [`Config::load`] reads the environment only |

mod base;
#[cfg(feature = "bench-support")]
#[doc(hidden)]
pub mod bench_support;
#[cfg(feature = "bus")]
mod bus;
mod config;
mod driver;
mod mesh;
mod message;
mod protocol;
mod server;
mod shard;
#[cfg(test)]
mod simulation;
pub mod testing;

pub use base::ids::Sid;
pub use config::admin_ui::{AdminUi, AdminUiAuth};
pub use config::api::{ApiBind, ApiTokens};
pub use config::endpoint::ConfiguredEndpoint;
pub use config::engine::EngineOptions;
pub use config::queue::formats::{QueueFormat, QueueFormats};
pub use config::queue::url::QueueUrl;
pub use config::secret::Secret;
pub use config::source::Source;
pub use config::{Config, EndpointSettings, Io, Parser, RatePolicy, Survives, Tls};
#[cfg(feature = "bus")]
pub use driver::emitter::EmitError;
pub use mesh::life::Phase;
pub use mesh::link::QueueStats;
pub use message::inquiry::AckError;
pub use message::peer::Peer;
pub use protocol::socketio::any_value::{AnyValue, HasBytes};
pub use protocol::socketio::binary::Binary;
pub use protocol::socketio::encode::EncodeError;
pub use protocol::socketio::event::{Args, ArgsError, ArgsReader};
pub use protocol::socketio::given::Given;
pub use protocol::socketio::owned::OwnedArgs;
pub use protocol::socketio::raw_json::RawJson;
pub use protocol::websocket::close::CloseCode;
pub use server::adding::Adding;
pub use server::class::{AsyncConnectMethod, AsyncMethod, ClassNamespace, ConnectMethod, Method, Methods};
#[cfg(feature = "bus")]
pub use server::emitter::{EmitTo, Emitter, Emitting, EmittingFuture};
pub use server::endpoint::Endpoint;
pub use server::every::Beat;
pub use server::handle::Handle;
pub use server::handler::{
    AsyncConnectHandler, AsyncConnectSignature, AsyncHandler, AsyncSignature, ConnectHandler,
    ConnectSignature, Decision, Handler, Shape, Signature,
};
#[cfg(feature = "bus")]
pub use server::local_queue::LocalQueue;
pub use server::namespace::Namespace;
pub use server::reload::Reloaded;
pub use server::{Error, Result, RunningServer, Server};
pub use shard::user::ack::{Ack, RemoteAck};
pub use shard::user::acknowledged::Acknowledged;
pub use shard::user::argument::Argument;
pub use shard::user::asking::Asking;
pub use shard::user::changing::{Changed, Changing};
pub use shard::user::context::Context;
pub use shard::user::current::spawn;
pub use shard::user::engine_socket::{EngineRoute, EngineSocket};
pub use shard::user::found::Found;
pub use shard::user::gathering::{Answers, Gathering, RemoteSocket};
pub use shard::user::posting::Post;
pub use shard::user::question::Question;
pub use shard::user::recipients::Recipients;
pub use shard::user::route_options::RouteOptions;
pub use shard::user::servers::{ServerAnswers, ServerContext};
pub use shard::user::shard_info::ShardInfo;
pub use shard::user::sleep::{Interval, MissedBeats, interval, sleep};
pub use shard::user::socket::{Emitted, Socket};
pub use shard::user::state::State;
pub use shard::user::tick::Tick;
pub use shard::user::ticket::{Addressee, ConnectTicket, DisconnectTicket, Ticket};
pub use shard::user::websocket::{Message, WebSocket, WebSocketRoute};
pub use shard::value::answer::Answer;
pub use shard::value::args::{Json, NoAck, Reply, ToArgs, done};
pub use shard::value::error::{HandlerError, Refused};
pub use shard::value::handshake::Handshake;
pub use shard::value::outside::ConnectionId;
pub use shard::value::parked::{Outcome, SlowConsumers};
pub use shard::value::recovery::Recovery;
pub use shard::value::session::CloseReason;
pub use shard::value::state::{StateError, StateRoom};
pub use shard::value::stats::{EndpointStats, ShardStats};

/// The log: lines on standard error. A shard never waits for what reads them.
#[cfg(feature = "log")]
pub mod log {
    pub use crate::server::log::{flush, init};
}

/// HTTP: what routes are given and what they answer with.
pub mod http {
    pub use crate::protocol::http::cookies::{CookieError, SameSite, SetCookie};
    pub use crate::protocol::http::cors::{CorsOrigins, OriginCheck, OriginPattern, OriginPatternError};
    pub use crate::protocol::http::events::Event;
    pub use crate::protocol::http::head::Version;
    pub use crate::protocol::http::headers::Headers;
    pub use crate::protocol::http::method::Method;
    pub use crate::protocol::http::response::{HeaderError, Response};
    pub use crate::protocol::http::status::Status;
    pub use crate::shard::user::answering::{Failure, IntoAnswer, RouteError, Verdict};
    pub use crate::shard::user::owned_request::OwnedRequest;
    pub use crate::shard::user::request::Request;
    pub use crate::shard::user::responder::{BodyWriter, RequestBody, Responder};
    pub use crate::shard::user::streamed::{BodySender, EventSender, StreamError, Streamed};
    pub use crate::shard::value::exchange::Gone;
    pub use crate::shard::value::route::BodyError;
}

/// Flask's session cookie, and Flask-Login's: for a page that is logged in to a Flask application.
pub mod flask {
    pub use crate::protocol::flask::login::remember_token;
    pub use crate::protocol::flask::session::Session;
    pub use crate::protocol::flask::signer::{CookieError, CookieSigner};
    pub use crate::server::guard::{AuthenticatedOnly, authenticated_only};
}

/// The bodies of the fuzz targets, which only a build for fuzzing has.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::protocol::{engineio, flask, http, socketio, websocket};

    /// A message of one of Node's Redis adapters.
    #[cfg(feature = "bus")]
    pub fn bus_nodejs(input: &[u8]) {
        crate::bus::nodejs::fuzz::queue(input);
    }

    /// The payload of a Flask session cookie.
    pub fn flask_payload(input: &[u8]) {
        flask::fuzz::payload(input);
    }

    /// A request head, at every cut.
    pub fn http_head(input: &[u8]) {
        http::fuzz::head(input);
    }

    /// A chunked body, at every cut.
    pub fn http_chunked(input: &[u8]) {
        http::fuzz::chunked(input);
    }

    /// WebSocket frames, at every cut.
    pub fn websocket_messages(input: &[u8]) {
        websocket::fuzz::messages(input);
    }

    /// The beginning of a connection from a proxy.
    pub fn proxy_header(input: &[u8]) {
        crate::protocol::proxy::fuzz::header(input);
    }

    /// The body of a long-polling POST.
    pub fn engineio_body(input: &[u8]) {
        engineio::fuzz::body(input);
    }

    /// The body of a long-polling POST of revision 3.
    pub fn engineio3_body(input: &[u8]) {
        engineio::fuzz3::body(input);
    }

    /// The payload of a compressed message.
    pub fn websocket_inflate(input: &[u8]) {
        websocket::fuzz::inflate(input);
    }

    /// One message of python-socketio's queue.
    #[cfg(feature = "bus")]
    pub fn bus_python(input: &[u8]) {
        crate::bus::python::fuzz::queue(input);
    }

    /// One Socket.IO packet of the msgpack parser.
    pub fn socketio_msgpack(input: &[u8]) {
        socketio::fuzz::msgpack(input);
    }

    /// One Socket.IO packet.
    pub fn socketio_packet(input: &[u8]) {
        socketio::fuzz::packet(input);
    }
}

/// The guides, as they are in the folder `docs`. Their links to each other are references, which a file before each guide leads to pages
/// here, where the guide's own lead to files. The code blocks are tests, but for those of
/// guides about other programs; the one of the first steps is an example that is built.
#[cfg(any(doc, doctest))]
pub mod guides {
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/admin-ui.md")]
    pub mod admin_ui {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/api.md")]
    pub mod api {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/behind-haproxy.md")]
    #[cfg(not(doctest))]
    pub mod behind_haproxy {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/behind-nginx.md")]
    #[cfg(not(doctest))]
    pub mod behind_nginx {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/coming-from-flask-socketio.md")]
    pub mod coming_from_flask_socketio {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/coming-from-node.md")]
    pub mod coming_from_node {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/dashboards.md")]
    pub mod dashboards {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/deploy.md")]
    #[cfg(not(doctest))]
    pub mod deploy {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[cfg_attr(any(doc, feature = "bus"), doc = include_str!("../docs/emitting.md"))]
    pub mod emitting {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/first-steps.md")]
    #[cfg(not(doctest))]
    pub mod first_steps {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/flask.md")]
    #[cfg(not(doctest))]
    pub mod flask {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/flask-examples.md")]
    pub mod flask_examples {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/games.md")]
    pub mod games {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/http.md")]
    pub mod http {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/identity.md")]
    pub mod identity {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/many-processes.md")]
    pub mod many_processes {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/metrics.md")]
    #[cfg(not(doctest))]
    pub mod metrics {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/older-clients.md")]
    pub mod older_clients {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/operators.md")]
    #[cfg(not(doctest))]
    pub mod operators {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/presence.md")]
    pub mod presence {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/protection.md")]
    pub mod protection {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/recovery.md")]
    pub mod recovery {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/scaling.md")]
    #[cfg(not(doctest))]
    pub mod scaling {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/slow-consumers.md")]
    pub mod slow_consumers {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/threads.md")]
    pub mod threads {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/tls.md")]
    #[cfg(not(doctest))]
    pub mod tls {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/tokio.md")]
    pub mod tokio {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../docs/troubleshooting.md")]
    #[cfg(not(doctest))]
    pub mod troubleshooting {}
    #[doc = include_str!("../docs/rustdoc-links.md")]
    #[doc = include_str!("../tuning.md")]
    pub mod tuning {}

    /// Examples that guides speak of, as they are in the folder `examples`: `cargo run --example chat`.
    #[cfg(not(doctest))]
    pub mod examples {
        /// `examples/class_namespace.rs`
        ///
        #[doc = concat!("```rust,ignore\n", include_str!("../examples/class_namespace.rs"), "\n```")]
        pub mod class_namespace {}
        /// `examples/dashboard.rs`
        ///
        #[doc = concat!("```rust,ignore\n", include_str!("../examples/dashboard.rs"), "\n```")]
        pub mod dashboard {}
        /// `examples/flask_login/main.rs`, the server, and `app.py` beside it, the Flask application.
        ///
        #[doc = concat!("```rust,ignore\n", include_str!("../examples/flask_login/main.rs"), "\n```")]
        ///
        #[doc = concat!("```python\n", include_str!("../examples/flask_login/app.py"), "\n```")]
        pub mod flask_login {}
        /// `examples/game.rs`
        ///
        #[doc = concat!("```rust,ignore\n", include_str!("../examples/game.rs"), "\n```")]
        pub mod game {}
        /// `examples/tokio_interop.rs`
        ///
        #[doc = concat!("```rust,ignore\n", include_str!("../examples/tokio_interop.rs"), "\n```")]
        pub mod tokio_interop {}
    }

    /// Files for other programs, as they are in the folder `docs`.
    #[cfg(not(doctest))]
    pub mod files {
        /// `docs/alerts.yml`: rules for Prometheus.
        ///
        #[doc = concat!("```yaml\n", include_str!("../docs/alerts.yml"), "\n```")]
        pub mod alerts {}
        /// `docs/grafana-dashboard.json`: to import in Grafana.
        ///
        #[doc = concat!("```json\n", include_str!("../docs/grafana-dashboard.json"), "\n```")]
        pub mod grafana_dashboard {}
        /// `docs/openapi.json`: the description of the HTTP API.
        ///
        #[doc = concat!("```json\n", include_str!("../docs/openapi.json"), "\n```")]
        pub mod openapi {}
    }
}
