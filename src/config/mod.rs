//! What a user can set. Plain values: reading them from files and the environment is the server's part.

pub(crate) mod admin;
pub(crate) mod admin_ui;
pub(crate) mod admin_ui_rules;
pub(crate) mod api;
pub(crate) mod check;
pub(crate) mod endpoint;
pub(crate) mod engine;
pub(crate) mod log_filter;
pub(crate) mod queue;
pub(crate) mod reload;
pub(crate) mod secret;
pub(crate) mod source;

use std::time::Duration;

use serde::Deserialize;

use crate::base::limits;
use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::config::admin_ui::{AdminUi, AdminUiAuth};
use crate::config::api::{ApiBind, ApiTokens};
use crate::config::check::{
    at_least_a_millisecond, at_least_one, at_most_the_longest, auto_or_duration, duration, one_or_many,
};
use crate::config::endpoint::{ConfiguredEndpoint, endpoints};
use crate::config::engine::EngineOptions;
use crate::config::log_filter::{LogFilter, parse_level};
use crate::config::queue::QUEUE_BYTES_DEFAULT;
use crate::config::secret::Secret;
use crate::config::source::Source;
use crate::protocol::http::forwarded::TrustedProxies;
use crate::protocol::http::hosts::AllowedHosts;

/// Messages that gather longer would be felt.
const FLUSH_WINDOW_MAX: Duration = Duration::from_millis(10);

/// How a server behaves. Every field has a default, a `SHARDCAST_` environment variable and a key of the
/// same name in a TOML file; `tuning.md` says what each one costs.
///
/// ```
/// use std::time::Duration;
/// use shardcast::{Config, EngineOptions};
///
/// let engine = EngineOptions { ping_interval: Duration::from_secs(10), ..EngineOptions::default() };
/// let config = Config { engine, ..Config::default() };
/// assert_eq!(config.bind, ["127.0.0.1:5000"]);
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen: `ADDR:PORT`, `[IPV6]:PORT`, or `unix:PATH`. `[::]` serves IPv4 as well, unless `0.0.0.0` with the same
    /// port is there too. Default `127.0.0.1:5000`, as in Flask.
    #[serde(deserialize_with = "one_or_many")]
    pub bind: Vec<String>,
    /// Whether an address that another process of the same user serves is served beside it: for a hand-over to a new version. The
    /// kernel spreads new connections over both until the old one stops, so clients that poll need the old one gone soon. A
    /// Unix socket's path goes over to the new process at once. Default false: an address that is taken is an error.
    pub bind_shared: bool,
    /// Where operators are served, apart from clients: `ADDR:PORT` or `unix:PATH`. There are the figures for Prometheus (`/metrics`)
    /// and what probes ask (`/livez`, `/readyz`). An address that others than this machine can reach needs `admin_token`, or
    /// `admin_user` and `admin_password`. Default empty: nowhere.
    pub admin_bind: String,
    /// What operators send in `Authorization: Bearer`, for all but the probes. At least 16 characters. Default none.
    pub admin_token: Secret,
    /// Name of the operator who logs in with a password, HTTP's basic authentication. Default none.
    pub admin_user: String,
    /// The password of `admin_user`. At least 8 characters. Default none.
    pub admin_password: Secret,
    /// What Socket.IO's admin page is shown when it connects. `off` is nothing, `production` are sums, `development` is every socket,
    /// room and event as well. The page is `@socket.io/admin-ui` of npm, or `https://admin.socket.io`. Default `off`.
    pub admin_ui: AdminUi,
    /// Who may use that page. `basic` is who knows `admin_ui_user` and `admin_ui_password`, `loopback` who is on this machine, `none`
    /// everybody who can reach the server. Default `basic`.
    pub admin_ui_auth: AdminUiAuth,
    /// The name to log in to that page with. Default none.
    pub admin_ui_user: String,
    /// The password of `admin_ui_user`: a bcrypt hash of it, as Node's has it, or the password itself, of at least 8 characters.
    /// Default none.
    pub admin_ui_password: Secret,
    /// Whether that page only shows: what it asks to be done to sockets is not done. Default false.
    pub admin_ui_read_only: bool,
    /// The namespace that the page connects to. Default `/admin`.
    pub admin_ui_namespace: String,
    /// What the page calls this process; two processes with one name are shown as one. Default empty: host and process number.
    pub admin_ui_server_id: String,
    /// Whether `admin_bind` speaks TLS, with the certificates of `tls_cert`; a Unix socket never does. Default false.
    pub admin_tls: bool,
    /// Whether this server is of no use while a message queue is away: `/readyz` then says so, and a balancer sends clients to
    /// other processes. Default false.
    pub bus_required: bool,
    /// Shards, each a thread on a core of its own. Default 0: as many as the CPUs this process may use.
    pub shards: usize,
    /// Whether each shard stays on its core, if there are as many cores. Without it the kernel moves shards where there is room, beside
    /// other threads of the process. Default true.
    pub pin_shards: bool,
    /// Which of the kernel's interfaces to use. Default `auto`.
    pub io: Io,
    /// What to log: `error`, `warn`, `info`, `debug`, `trace`, `off`, or levels by target such as
    /// `info,shardcast::socketio=debug,my_app=trace`. Default `info`.
    pub log: String,
    /// Level of what is said about Socket.IO (packets, namespaces, handlers), as Flask-SocketIO's `logger`. Default empty:
    /// that of `log`.
    pub socketio_log: String,
    /// Level of what is said about Engine.IO (requests, sessions, transports), as Flask-SocketIO's `engineio_logger`.
    /// Default empty: that of `log`.
    pub engineio_log: String,
    /// Lines of one kind that `shardcast::log` writes a second, ten times as many at once; a line says how many were left out.
    /// Default 10; 0 is no limit.
    pub log_rate: u32,
    /// How the Engine.IO endpoint at `path` behaves: its fields are keys of the file and variables like these here.
    #[serde(flatten)]
    pub engine: EngineOptions,
    /// Further endpoints: for each an entry with its `path` and what it has other than the main one, `[[endpoint]]` in a file. The
    /// program must have an endpoint at that path. Default none.
    #[serde(deserialize_with = "endpoints")]
    pub endpoint: Vec<ConfiguredEndpoint>,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` count as this server's own origin. They come from
    /// the proxy, and a page cannot set them. Default true, as in Flask-SocketIO.
    pub trust_forwarded: bool,
    /// Names that requests may be for, in `Host`: `chat.example.com`, `*.example.com`, `*` for all. Others are answered 403, so that a
    /// page whose name was made to lead to this server (DNS rebinding) gets nothing. Addresses and `localhost` always may. Default
    /// empty: nothing is checked.
    #[serde(deserialize_with = "one_or_many")]
    pub allowed_hosts: Vec<String>,
    /// Proxies whose word on a client's address counts: networks such as `10.0.0.0/8`, addresses, and `unix` for whoever comes
    /// through a Unix socket. The client is the last address in `X-Forwarded-For` that is not a trusted proxy. Default none.
    #[serde(deserialize_with = "one_or_many")]
    pub trusted_proxies: Vec<String>,
    /// Whether every connection begins with a header of the PROXY protocol, version 1 or 2, which names the client. Only
    /// `trusted_proxies` may connect then. Default false.
    pub proxy_protocol: bool,
    /// Certificates for TLS, PEM files, each with the chain that leads to a certificate that clients know. Of several the name that a
    /// client asks for chooses, and the first serves the rest. They are read again when they change, and at SIGHUP. Default empty: no TLS.
    #[serde(deserialize_with = "one_or_many")]
    pub tls_cert: Vec<String>,
    /// The keys of the certificates, PEM files without a password, in the same order. Default empty.
    #[serde(deserialize_with = "one_or_many")]
    pub tls_key: Vec<String>,
    /// Whether the TCP addresses of `bind` speak TLS only, or plain HTTP as well, told apart by a connection's first byte. Unix sockets
    /// are always plain. It counts once `tls_cert` is set. Default `only`.
    pub tls: Tls,
    /// From one look at the files of `tls_cert` and `tls_key` to the next: those that have changed are read again. Default 60 s.
    #[serde(deserialize_with = "duration")]
    pub tls_reload_interval: Duration,
    /// How long a client may take for a request head, and for each part of a body. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub header_timeout: Duration,
    /// Bytes of a request's line and headers together; beyond it the answer is 431. Default 32 KiB, as nginx; 4 KiB to
    /// 256 KiB.
    pub head_bytes_max: usize,
    /// How long an idle HTTP connection is kept. Default 75 s: above the 60 s of common proxies, so that
    /// they close first.
    #[serde(deserialize_with = "duration")]
    pub keep_alive_timeout: Duration,
    /// How long a route that waits may take until its answer begins; then it is dropped, and the client is answered 504. Default
    /// 60 s; 0 is no limit.
    #[serde(deserialize_with = "duration")]
    pub route_timeout: Duration,
    /// Requests that may wait for routes, or be answered piece by piece, at a time, in the whole process; each shard has an equal
    /// part. Beyond it a request is answered 503 with `Retry-After`. Default 100,000.
    pub routes_waiting_max: usize,
    /// The same on one shard for the clients of one address, an IPv6 network of 64 bits being one; those of this host and of Unix
    /// sockets are not counted, for they are a proxy's. Default 1,000.
    pub routes_waiting_per_address_max: usize,
    /// Bytes of a request's body that a program's fallback may read while it comes; beyond it the answer is 413. One of up to
    /// `max_http_buffer_size` is there when [`Server::fallback`](crate::Server::fallback) is called. Default 1 GiB.
    pub upload_bytes_max: usize,
    /// Tokens of the HTTP API, each with what it may do: the token, of 32 characters at least, then the scopes `emit`, `rooms`,
    /// `disconnect` and `read`, then namespaces. In a variable they are separated by semicolons. Default none: the API is off.
    pub api_tokens: ApiTokens,
    /// Where the HTTP API is served, at `/api/v1/`: `admin`, on `admin_bind`, or `public`, where clients connect. Default `admin`.
    pub api_bind: ApiBind,
    /// Requests that one token of the HTTP API may make in a second, each request of a batch being one; beyond it the answer is 429 with
    /// `Retry-After`. Default 1,000; 0 is no limit.
    pub api_rate: u32,
    /// Bytes of the body of a request to the HTTP API; beyond it the answer is 413. Default 1 MiB.
    pub api_body_bytes_max: usize,
    /// How long the server waits for an acknowledgement unless the call says otherwise. Default 60 s, as
    /// Flask-SocketIO's `call`.
    #[serde(deserialize_with = "duration")]
    pub ack_timeout: Duration,
    /// Bytes one connection may be owed before it is closed as a slow consumer. Default 4 MiB.
    pub outbox_bytes_max: usize,
    /// Bytes that clients who are behind may be owed together, in the whole process; each shard has an equal part. Beyond it
    /// those who are owed most are closed. Default 0: half of the memory that this process may use.
    pub outboxes_bytes_max: usize,
    /// Bytes that all clients may have sent of frames, bodies and packets whose rest has not come, and of events that wait for an
    /// asynchronous handler, in the whole process; each shard has an equal part, and no less than four messages of `max_http_buffer_size`. Beyond it those who have sent most are
    /// closed. Default 128 MiB.
    pub partial_bytes_max: usize,
    /// How long messages may gather before they are sent: more throughput for later delivery. Default 0, at most 10 ms.
    #[serde(deserialize_with = "duration")]
    pub flush_window: Duration,
    /// Bytes of events that may wait behind a socket's running asynchronous handler; beyond it the session ends. The same for events of one
    /// client that handlers outside their shard have; beyond it the client is not read. Default 1 MiB.
    pub pending_bytes_max: usize,
    /// Bytes of events of all clients that handlers outside their shard may have, in the whole process; each shard has an equal part. Beyond it the clients whose events are handled there are not read until half of it is done; so is one
    /// client of which they have more than `pending_bytes_max`. Default 64 MiB.
    pub outside_bytes_max: usize,
    /// Handlers of `on_concurrent` that run for one socket at a time; its later events wait then. Default 64.
    pub concurrent_handlers_max: usize,
    /// Bytes of messages that may wait for one broker while it is slow or away; beyond it they are refused, and an emit says so.
    /// Default 16 MiB.
    pub queue_bytes_max: usize,
    /// The largest message that a broker is sent, in bytes; it must take so much. At most 64 MiB. Default 0: 8 MiB, and 1 MiB less
    /// 1 KiB for Kafka and NATS, which take no more unless they are configured to.
    pub queue_message_bytes_max: usize,
    /// Connections of clients in the whole process; beyond it a new one is closed at once. Default 1,000,000.
    pub connections_max: usize,
    /// Connections of one address, or of one IPv6 network of 64 bits, in the whole process; beyond it a new one is closed at once.
    /// As many sessions: beyond it a handshake is answered 503 with `Retry-After`; their address is that of the client, which
    /// `trusted_proxies` tell. Those of this host, of Unix sockets and of `trusted_proxies` themselves do not count. Default
    /// 10,000; 0 is no limit.
    pub connections_per_address_max: usize,
    /// Sessions, and raw WebSockets, that one shard opens in a second, and as many at once; beyond it a handshake is answered 503 with
    /// `Retry-After`. Default 10,000; 0 is no limit.
    pub handshakes_per_second_max: usize,
    /// When what clients have sent waits for so long on a shard, or one turn of it takes so long, handshakes are answered 503 with
    /// `Retry-After`: newcomers wait before those who are here do. It ends when nothing has taken half of it for a second. Default
    /// 500 ms; 0 is off.
    #[serde(deserialize_with = "duration")]
    pub lag_max: Duration,
    /// Connections that one shard hands to others in a second, and as many at once: to the shard of their session, or that their
    /// `shard_key` chooses. Beyond it a request waits, for 3 s at most, then it is answered 503. Default 20,000; 0 is no limit.
    pub handoffs_per_second_max: usize,
    /// Sessions one shard opens; beyond it a handshake is answered 503 with `Retry-After`. Default 1,000,000.
    pub sessions_max: usize,
    /// Messages that one client may send in a second, and as many at once after a pause: events, answers, packets that join and leave,
    /// frames of a raw WebSocket. What happens beyond it says `rate_policy`. Default 50,000; 0 is no limit.
    pub events_per_second_max: usize,
    /// The same in bytes; a message that is larger is taken, and the next waits for longer. Default 128 MiB, what a line of 1 Gbit/s
    /// brings; 0 is no limit.
    pub bytes_per_second_max: usize,
    /// What is done with a client that sends more than `events_per_second_max` or `bytes_per_second_max`. Default `delay`.
    pub rate_policy: RatePolicy,
    /// Sessions on one shard that have joined no namespace; beyond it, or beyond a quarter of `sessions_max`, the oldest of
    /// them are closed for newer ones. Default 10,000.
    pub unjoined_sessions_max: usize,
    /// The same for the clients of one address, an IPv6 network of 64 bits being one; those of this host and of Unix sockets are
    /// not counted, for they are a proxy's. Default 1,000.
    pub unjoined_sessions_per_address_max: usize,
    /// Whether a client may choose its shard by `shard_key` in its query: those with equal keys are served by one. Default true.
    pub shard_key: bool,
    /// Rooms one socket may be in, its own id not counted. Default 1,024.
    pub rooms_per_socket_max: usize,
    /// Namespaces of patterns that one session may be in; beyond it a further one is refused. Default 64.
    pub namespaces_per_session_max: usize,
    /// Namespaces that patterns may have made on one shard at a time; beyond it a client that asks for another one
    /// is refused. Default 10,000, at most 49,152.
    pub namespaces_max: usize,
    /// Connections the kernel holds before they are accepted, for each shard. Default 4,096; the kernel caps it at
    /// `net.core.somaxconn`.
    pub backlog: i32,
    /// The largest static file served, in bytes. Default 64 MiB.
    pub static_file_bytes_max: usize,
    /// Which Socket.IO parser clients use. Default `json`.
    pub parser: Parser,
    /// How long before a socket's deadline (`expires_in`) `on_expiry` is called. Default 30 s.
    #[serde(deserialize_with = "duration")]
    pub expiry_grace: Duration,
    /// A handler, a tick or a task that holds its shard for longer than this is named in the log, at most once a second, and counted
    /// in `handlers_slow`. Default 100 ms; 0 is off.
    #[serde(deserialize_with = "duration")]
    pub slow_handler: Duration,
    /// How long a client whose connection is lost may take to come back as the socket that it was, with its id, its rooms and
    /// what it has missed: Node's `connectionStateRecovery`. Default 0: off.
    #[serde(deserialize_with = "duration")]
    pub recovery_max_disconnection: Duration,
    /// Events that each socket keeps for its recovery, the last ones. Default 128.
    pub recovery_events_max: usize,
    /// Bytes that they may have. Default 64 KiB.
    pub recovery_bytes_max: usize,
    /// Lost sockets that one shard waits for; beyond it those go that were lost first. Default 10,000.
    pub recovery_sessions_max: usize,
    /// What of a process recovery survives: with `stop`, a process that ends leaves its sockets with the message queue, and their
    /// clients come back to another process as the sockets that they were. It needs a queue that keeps what is said,
    /// `redis://host?mode=streams`. Default `nothing`.
    pub recovery_survives: Survives,
    /// Whether large WebSocket messages are compressed with clients that can (RFC 7692). Default false, as in Node.
    pub permessage_deflate: bool,
    /// Bytes that a connection's compressed messages may inflate to for each byte of them, beyond one message of
    /// `max_http_buffer_size`. What a client can make this server parse is in proportion to what it sends. Default 200, as the Apache
    /// web server's: text shrinks to a tenth, seldom to a hundredth, nothing but repetition to less.
    pub inflate_ratio_max: usize,
    /// Whether polls, and text that routes and folders answer, are compressed for clients that accept it. Default true, as
    /// in Node and Flask.
    pub http_compression: bool,
    /// WebSocket payloads and HTTP bodies smaller than this many bytes are not compressed. Default 1,024, as in Node
    /// and Flask.
    pub compression_threshold: usize,
    /// How long a server that is asked to end by SIGTERM or [`Handle::drain`](crate::Handle::drain) goes on as before, while
    /// `Handle::phase` says that it drains: for a load balancer that has to notice first. Default 0; `5s` behind one that asks.
    #[serde(deserialize_with = "duration")]
    pub drain_delay: Duration,
    /// Over how long a shutdown ends its sessions, so that clients come back to another process one after another. No session
    /// opens meanwhile; those there are go on until it is their turn, in random order. Default `None`, written `auto`: as long as
    /// 5,000 a second take, and 25 s at most. 0 is all at once.
    #[serde(deserialize_with = "auto_or_duration")]
    pub shutdown_spread: Option<Duration>,
    /// How long a shutdown waits for what is still owed to clients. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub shutdown_timeout: Duration,
    /// Variables that are named like settings and were not read, because a Service of Kubernetes is called so. [`load`](Config::load)
    /// notes them, and the log says so when the server starts.
    #[serde(skip)]
    pub ignored: Vec<String>,
    /// Where this was read. [`load`](Config::load) and its like note it, and SIGHUP reads the same again. Default: nowhere.
    #[serde(skip)]
    pub source: Source,
}

/// Which of the kernel's interfaces moves the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// io_uring when the kernel lets us, epoll otherwise.
    #[default]
    Auto,
    /// io_uring, or do not start.
    Uring,
    /// epoll, through monoio.
    Epoll,
    /// io_uring through monoio in place of our own ring: for comparison.
    Monoio,
}

/// Which ends of a process its lost connections can be recovered after, by another process: see [`Config::recovery_survives`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Survives {
    /// None: what a process keeps for clients ends with it.
    #[default]
    Nothing,
    /// That it was asked to stop, as for a new version.
    Stop,
}

/// What the TCP addresses speak once there is a certificate: see [`Config::tls`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tls {
    /// TLS, and nothing else.
    #[default]
    Only,
    /// TLS and plain HTTP on the same port.
    Both,
}

/// What is done with a client that sends more than it may in a second: see [`Config::events_per_second_max`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RatePolicy {
    /// Its messages wait, and so does what it sends after them: it is slowed, and loses nothing.
    #[default]
    Delay,
    /// Events beyond the limit are dropped, and their acknowledgements do not come. Other packets wait.
    Drop,
    /// It is closed, with the reason [`RateExceeded`](crate::CloseReason::RateExceeded).
    Close,
}

/// How clients write Socket.IO packets. A stock client is told by its code, and says nothing about it on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parser {
    /// Text and attachments: the default of every client.
    #[default]
    Json,
    /// MessagePack: `socket.io-msgpack-parser`, or `serializer='msgpack'` in Python. Other clients are refused.
    Msgpack,
    /// Whichever a session's first packet shows, next to each other in the same rooms.
    Auto,
}

/// What an endpoint may have of its own beside its [`EngineOptions`]: it begins with what the [`Config`] says.
///
/// ```
/// use std::time::Duration;
/// use shardcast::{Config, Parser, Server};
///
/// Server::new(Config::default()).namespace("/", |_| {}).endpoint("/devices.io/", |endpoint| {
///     endpoint.settings.parser = Parser::Msgpack;
///     endpoint.settings.sessions_max = 1_000;
///     endpoint.settings.recovery_max_disconnection = Duration::from_secs(30);
///     endpoint.namespace("/", |_| {});
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointSettings {
    /// Which Socket.IO parser its clients use: `parser` of the configuration.
    pub parser: Parser,
    /// Whether large WebSocket messages are compressed with clients that can: `permessage_deflate` of the configuration.
    pub permessage_deflate: bool,
    /// Sessions of this endpoint that one shard opens; beyond it a handshake is answered 503. The configuration's `sessions_max` bounds
    /// those of all endpoints together.
    pub sessions_max: usize,
    /// Messages that one of its clients may send in a second: `events_per_second_max` of the configuration.
    pub events_per_second_max: usize,
    /// Bytes that one of its clients may send in a second: `bytes_per_second_max` of the configuration.
    pub bytes_per_second_max: usize,
    /// What is done with a client that sends more: `rate_policy` of the configuration.
    pub rate_policy: RatePolicy,
    /// How long its clients may take to come back as the sockets that they were; 0 is off. `recovery_max_disconnection` of the
    /// configuration.
    pub recovery_max_disconnection: Duration,
    /// Events that each of its sockets keeps for its recovery: `recovery_events_max` of the configuration.
    pub recovery_events_max: usize,
    /// Bytes that they may have: `recovery_bytes_max` of the configuration.
    pub recovery_bytes_max: usize,
    /// Bytes that its clients' compressed messages may inflate to for each byte of them: `inflate_ratio_max` of the configuration.
    pub inflate_ratio_max: usize,
    /// Whether its polls, and the browser client below its path, are compressed: `http_compression` of the configuration.
    pub http_compression: bool,
}

impl EndpointSettings {
    pub(crate) fn new(config: &Config) -> EndpointSettings {
        EndpointSettings {
            parser: config.parser,
            permessage_deflate: config.permessage_deflate,
            sessions_max: config.sessions_max,
            events_per_second_max: config.events_per_second_max,
            bytes_per_second_max: config.bytes_per_second_max,
            rate_policy: config.rate_policy,
            recovery_max_disconnection: config.recovery_max_disconnection,
            recovery_events_max: config.recovery_events_max,
            recovery_bytes_max: config.recovery_bytes_max,
            inflate_ratio_max: config.inflate_ratio_max,
            http_compression: config.http_compression,
        }
    }

    /// Whether clients may come back as the sockets that they were.
    pub(crate) fn has_recovery(&self) -> bool {
        !self.recovery_max_disconnection.is_zero()
    }

    /// Says what is wrong with the values.
    pub(crate) fn validate(self) -> Result<(), String> {
        at_most_the_longest(&[("recovery_max_disconnection", self.recovery_max_disconnection)])?;
        at_least_one(&[("sessions_max", self.sessions_max), ("inflate_ratio_max", self.inflate_ratio_max)])
    }
}

impl Default for Config {
    #[allow(clippy::too_many_lines, reason = "a line for each setting")]
    fn default() -> Config {
        Config {
            bind: vec!["127.0.0.1:5000".to_owned()],
            bind_shared: false,
            admin_bind: String::new(),
            admin_token: Secret::default(),
            admin_user: String::new(),
            admin_password: Secret::default(),
            admin_ui: AdminUi::Off,
            admin_ui_auth: AdminUiAuth::Basic,
            admin_ui_user: String::new(),
            admin_ui_password: Secret::default(),
            admin_ui_read_only: false,
            admin_ui_namespace: "/admin".to_owned(),
            admin_ui_server_id: String::new(),
            admin_tls: false,
            bus_required: false,
            shards: 0,
            pin_shards: true,
            io: Io::Auto,
            log: "info".to_owned(),
            socketio_log: String::new(),
            engineio_log: String::new(),
            log_rate: 10,
            engine: EngineOptions::default(),
            endpoint: Vec::new(),
            trust_forwarded: true,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls_cert: Vec::new(),
            tls_key: Vec::new(),
            tls: Tls::Only,
            tls_reload_interval: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            head_bytes_max: limits::HEAD_BYTES_DEFAULT,
            keep_alive_timeout: Duration::from_secs(75),
            route_timeout: Duration::from_secs(60),
            routes_waiting_max: 100_000,
            upload_bytes_max: 1 << 30,
            routes_waiting_per_address_max: 1000,
            api_tokens: ApiTokens::default(),
            api_bind: ApiBind::Admin,
            api_rate: 1000,
            api_body_bytes_max: 1024 * 1024,
            ack_timeout: Duration::from_secs(60),
            outbox_bytes_max: 4 * 1024 * 1024,
            outboxes_bytes_max: 0,
            partial_bytes_max: 128 * 1024 * 1024,
            flush_window: Duration::ZERO,
            pending_bytes_max: 1024 * 1024,
            outside_bytes_max: 64 * 1024 * 1024,
            concurrent_handlers_max: 64,
            queue_bytes_max: QUEUE_BYTES_DEFAULT,
            queue_message_bytes_max: 0,
            connections_max: 1_000_000,
            connections_per_address_max: 10_000,
            handshakes_per_second_max: 10_000,
            lag_max: Duration::from_millis(500),
            handoffs_per_second_max: 20_000,
            sessions_max: 1_000_000,
            events_per_second_max: 50_000,
            bytes_per_second_max: 128 * 1024 * 1024,
            rate_policy: RatePolicy::Delay,
            unjoined_sessions_max: 10_000,
            unjoined_sessions_per_address_max: 1000,
            shard_key: true,
            rooms_per_socket_max: 1024,
            namespaces_per_session_max: 64,
            namespaces_max: 10_000,
            backlog: 4096,
            static_file_bytes_max: 64 * 1024 * 1024,
            parser: Parser::Json,
            expiry_grace: Duration::from_secs(30),
            slow_handler: Duration::from_millis(100),
            recovery_max_disconnection: Duration::ZERO,
            recovery_events_max: 128,
            recovery_bytes_max: 64 * 1024,
            recovery_sessions_max: 10_000,
            recovery_survives: Survives::Nothing,
            permessage_deflate: false,
            inflate_ratio_max: 200,
            http_compression: true,
            compression_threshold: 1024,
            drain_delay: Duration::ZERO,
            shutdown_spread: None,
            shutdown_timeout: Duration::from_secs(5),
            ignored: Vec::new(),
            source: Source::default(),
        }
    }
}

impl Config {
    /// The filter that `log`, `socketio_log` and `engineio_log` make together, as `tracing_subscriber`'s `Targets` and `EnvFilter`
    /// read it. `shardcast::log` uses it; so can a subscriber of your own.
    ///
    /// ```
    /// let config = shardcast::Config { engineio_log: "debug".into(), ..Default::default() };
    /// assert_eq!(config.log_filter(), "info,shardcast::engineio=debug");
    /// ```
    pub fn log_filter(&self) -> String {
        let mut filter = self.log.clone();
        for (target, level) in [(SOCKETIO, &self.socketio_log), (ENGINEIO, &self.engineio_log)] {
            if !level.is_empty() {
                filter.push_str(&format!(",{target}={level}"));
            }
        }
        filter
    }

    /// Says what of the log's settings cannot be read.
    pub(crate) fn check_log(&self) -> Result<(), String> {
        LogFilter::parse(&self.log).map_err(|fault| format!("log = {:?}: {fault}", self.log))?;
        for (name, level) in [("socketio_log", &self.socketio_log), ("engineio_log", &self.engineio_log)] {
            if !level.is_empty() {
                parse_level(level).map_err(|fault| format!("{name} = {level:?}: {fault}"))?;
            }
        }
        Ok(())
    }

    /// Says what is wrong with the settings of TLS; the files are read when the server starts.
    fn check_tls(&self) -> Result<(), String> {
        if self.tls_cert.len() != self.tls_key.len() {
            return Err(format!(
                "tls_cert names {} files and tls_key {}: each certificate has a key, at the same place of the list",
                self.tls_cert.len(),
                self.tls_key.len()
            ));
        }
        if self.tls != Tls::Only && self.tls_cert.is_empty() {
            return Err(
                "tls = \"both\": name the certificate's file in tls_cert and its key's in tls_key".to_owned()
            );
        }
        if cfg!(not(feature = "tls")) && !self.tls_cert.is_empty() {
            return Err("tls_cert: this program was built without the feature `tls`".to_owned());
        }
        Ok(())
    }

    /// The shortest of the times that the timer wheel keeps: its tick follows it.
    pub(crate) fn shortest_time(&self) -> Duration {
        let route_timeout = if self.route_timeout.is_zero() { Duration::MAX } else { self.route_timeout };
        self.engine.shortest_time().min(self.header_timeout).min(self.keep_alive_timeout).min(route_timeout)
    }

    /// Says what is wrong with the values, in words for the person who set them.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.engine.validate()?;
        self.check_endpoints()?;
        self.check_log()?;
        self.check_admin()?;
        self.check_admin_ui()?;
        at_most_the_longest(&[
            ("tls_reload_interval", self.tls_reload_interval),
            ("header_timeout", self.header_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("route_timeout", self.route_timeout),
            ("ack_timeout", self.ack_timeout),
            ("expiry_grace", self.expiry_grace),
            ("recovery_max_disconnection", self.recovery_max_disconnection),
            ("drain_delay", self.drain_delay),
            ("shutdown_spread", self.shutdown_spread.unwrap_or_default()),
            ("shutdown_timeout", self.shutdown_timeout),
        ])?;
        AllowedHosts::parse(&self.allowed_hosts).map_err(|fault| format!("allowed_hosts: {fault}"))?;
        let trusted = TrustedProxies::parse(&self.trusted_proxies)
            .map_err(|fault| format!("trusted_proxies: {fault}"))?;
        if self.proxy_protocol && trusted.is_empty() {
            return Err(
                "proxy_protocol = true: name the proxies that may speak it in trusted_proxies".to_owned()
            );
        }
        self.check_tls()?;
        if self.bind.is_empty() {
            return Err("bind = []: name at least one address, such as 127.0.0.1:5000".to_owned());
        }
        if self.shards > usize::from(u16::MAX) {
            return Err(format!("shards = {}: the most is {}", self.shards, u16::MAX));
        }
        if self.namespaces_max > limits::NAMESPACES_MADE_MAX {
            return Err(format!(
                "namespaces_max = {}: the most is {}",
                self.namespaces_max,
                limits::NAMESPACES_MADE_MAX
            ));
        }
        let head_bytes = limits::HEAD_BYTES_LEAST..=limits::HEAD_BYTES_MOST;
        if !head_bytes.contains(&self.head_bytes_max) {
            let (least, most) = head_bytes.into_inner();
            return Err(format!("head_bytes_max = {}: it is {least} to {most}", self.head_bytes_max));
        }
        if self.recovery_survives != Survives::Nothing && self.recovery_max_disconnection.is_zero() {
            return Err(
                "recovery_survives: recovery is off; set recovery_max_disconnection, \"2m\" for example"
                    .to_owned(),
            );
        }
        self.api_tokens.parse()?;
        queue::check_bounds(self.queue_bytes_max, self.queue_message_bytes_max)?;
        if self.flush_window > FLUSH_WINDOW_MAX {
            return Err(format!("flush_window = {:?}: the most is {FLUSH_WINDOW_MAX:?}", self.flush_window));
        }
        self.check_least()
    }

    /// What must not be nothing.
    fn check_least(&self) -> Result<(), String> {
        at_least_a_millisecond(&[
            ("tls_reload_interval", self.tls_reload_interval),
            ("header_timeout", self.header_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
        ])?;
        at_least_one(&[
            ("outbox_bytes_max", self.outbox_bytes_max),
            ("connections_max", self.connections_max),
            ("sessions_max", self.sessions_max),
            ("routes_waiting_max", self.routes_waiting_max),
            ("upload_bytes_max", self.upload_bytes_max),
            ("api_body_bytes_max", self.api_body_bytes_max),
            ("routes_waiting_per_address_max", self.routes_waiting_per_address_max),
            ("inflate_ratio_max", self.inflate_ratio_max),
            ("unjoined_sessions_max", self.unjoined_sessions_max),
            ("unjoined_sessions_per_address_max", self.unjoined_sessions_per_address_max),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_wrong_values_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let rows = [
            (Config { bind: vec![], ..Config::default() }, "bind"),
            (Config { namespaces_max: 50_000, ..Config::default() }, "namespaces_max"),
            (Config { header_timeout: Duration::ZERO, ..Config::default() }, "header_timeout"),
            (Config { tls_reload_interval: Duration::ZERO, ..Config::default() }, "tls_reload_interval"),
            (Config { head_bytes_max: 100, ..Config::default() }, "head_bytes_max = 100"),
            (Config { head_bytes_max: 1 << 20, ..Config::default() }, "head_bytes_max = 1048576"),
            (Config { header_timeout: Duration::MAX, ..Config::default() }, "header_timeout"),
            (Config { keep_alive_timeout: Duration::MAX, ..Config::default() }, "keep_alive_timeout"),
            (Config { route_timeout: Duration::MAX, ..Config::default() }, "route_timeout"),
            (Config { routes_waiting_max: 0, ..Config::default() }, "routes_waiting_max"),
            (Config { api_tokens: ApiTokens::new(["short"]), ..Config::default() }, "api_tokens: entry 1"),
            (Config { api_body_bytes_max: 0, ..Config::default() }, "api_body_bytes_max"),
            (Config { ack_timeout: Duration::MAX, ..Config::default() }, "ack_timeout"),
            (Config { expiry_grace: Duration::MAX, ..Config::default() }, "expiry_grace"),
            (
                Config { recovery_max_disconnection: Duration::MAX, ..Config::default() },
                "recovery_max_disconnection",
            ),
            (Config { recovery_survives: Survives::Stop, ..Config::default() }, "recovery_survives"),
            (Config { drain_delay: Duration::MAX, ..Config::default() }, "drain_delay"),
            (Config { shutdown_spread: Some(Duration::MAX), ..Config::default() }, "shutdown_spread"),
            (Config { shutdown_timeout: Duration::MAX, ..Config::default() }, "shutdown_timeout"),
            (Config { outbox_bytes_max: 0, ..Config::default() }, "outbox_bytes_max"),
            (Config { allowed_hosts: vec!["a:80".into()], ..Config::default() }, "allowed_hosts: \"a:80\""),
            (
                Config { trusted_proxies: vec!["10/8".into()], ..Config::default() },
                "trusted_proxies: \"10/8\"",
            ),
            (Config { proxy_protocol: true, ..Config::default() }, "proxy_protocol"),
            (
                Config { tls_cert: vec!["a".into()], ..Config::default() },
                "tls_cert names 1 files and tls_key 0",
            ),
            (
                Config { tls_key: vec!["a".into()], ..Config::default() },
                "tls_cert names 0 files and tls_key 1",
            ),
            (Config { tls: Tls::Both, ..Config::default() }, "tls = \"both\""),
            (Config { log: "verbose".into(), ..Config::default() }, "log = \"verbose\""),
            (Config { engineio_log: "info,debug".into(), ..Config::default() }, "engineio_log = "),
        ];
        for (config, name) in rows {
            assert!(config.validate().is_err_and(|message| message.contains(name)), "{name}");
        }
    }
}
