//! What a user can set. Plain values: reading them from files and the environment is the server's part.

pub(crate) mod check;
pub(crate) mod engine;
pub(crate) mod log_filter;
pub(crate) mod queue;

use std::time::Duration;

use serde::Deserialize;

use crate::base::limits;
use crate::base::log::{ENGINEIO, SOCKETIO};
use crate::config::check::{
    at_least_a_millisecond, at_least_one, at_most_the_longest, duration, one_or_many,
};
use crate::config::engine::EngineOptions;
use crate::config::log_filter::{LogFilter, parse_level};
use crate::config::queue::QUEUE_BYTES_DEFAULT;
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
    /// Shards, each a thread on a core of its own. Default 0: as many as the CPUs this process may use.
    pub shards: usize,
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
    /// Bytes of events that may wait behind a socket's running asynchronous handler. Default 1 MiB.
    pub pending_bytes_max: usize,
    /// Handlers of `on_concurrent` that run for one socket at a time; its later events wait then. Default 64.
    pub concurrent_handlers_max: usize,
    /// Bytes of messages that may wait for one broker while it is slow or away; beyond it they are refused, and an emit says so.
    /// Default 16 MiB.
    pub queue_bytes_max: usize,
    /// The largest message that a broker is sent, in bytes; it must take so much. At most 64 MiB. Default 0: 8 MiB, and 1 MiB less
    /// 1 KiB for Kafka and NATS, which take no more unless they are configured to.
    pub queue_message_bytes_max: usize,
    /// Connections one shard accepts; beyond it a new one is closed at once. Default 1,000,000.
    pub connections_max: usize,
    /// Sessions one shard opens; beyond it a handshake is answered 503 with `Retry-After`. Default 1,000,000.
    pub sessions_max: usize,
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
    /// Over how long a shutdown ends its sessions, so that clients come back to another process one after another. No session
    /// opens meanwhile; those there are go on until it is their turn. Default 0: all at once.
    #[serde(deserialize_with = "duration")]
    pub shutdown_spread: Duration,
    /// How long a shutdown waits for what is still owed to clients. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub shutdown_timeout: Duration,
    /// Variables that are named like settings and were not read, because a Service of Kubernetes is called so. [`load`](Config::load)
    /// notes them, and the log says so when the server starts.
    #[serde(skip)]
    pub ignored: Vec<String>,
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
/// use shardcast::{Config, Parser, Server};
///
/// Server::new(Config::default()).namespace("/", |_| {}).endpoint("/devices.io/", |endpoint| {
///     endpoint.settings.parser = Parser::Msgpack;
///     endpoint.settings.sessions_max = 1_000;
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
}

impl EndpointSettings {
    pub(crate) fn new(config: &Config) -> EndpointSettings {
        EndpointSettings {
            parser: config.parser,
            permessage_deflate: config.permessage_deflate,
            sessions_max: config.sessions_max,
        }
    }

    /// Says what is wrong with the values.
    pub(crate) fn validate(self) -> Result<(), String> {
        at_least_one(&[("sessions_max", self.sessions_max)])
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            bind: vec!["127.0.0.1:5000".to_owned()],
            bind_shared: false,
            shards: 0,
            io: Io::Auto,
            log: "info".to_owned(),
            socketio_log: String::new(),
            engineio_log: String::new(),
            log_rate: 10,
            engine: EngineOptions::default(),
            trust_forwarded: true,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            header_timeout: Duration::from_secs(10),
            head_bytes_max: limits::HEAD_BYTES_DEFAULT,
            keep_alive_timeout: Duration::from_secs(75),
            route_timeout: Duration::from_secs(60),
            routes_waiting_max: 100_000,
            routes_waiting_per_address_max: 1000,
            ack_timeout: Duration::from_secs(60),
            outbox_bytes_max: 4 * 1024 * 1024,
            outboxes_bytes_max: 0,
            partial_bytes_max: 128 * 1024 * 1024,
            flush_window: Duration::ZERO,
            pending_bytes_max: 1024 * 1024,
            concurrent_handlers_max: 64,
            queue_bytes_max: QUEUE_BYTES_DEFAULT,
            queue_message_bytes_max: 0,
            connections_max: 1_000_000,
            sessions_max: 1_000_000,
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
            shutdown_spread: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(5),
            ignored: Vec::new(),
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

    /// How long a wire keeps a shard that was asked to stop.
    pub(crate) fn shutdown_patience(&self) -> Duration {
        self.shutdown_spread.saturating_add(self.shutdown_timeout)
    }

    /// The shortest of the times that the timer wheel keeps: its tick follows it.
    pub(crate) fn shortest_time(&self) -> Duration {
        let route_timeout = if self.route_timeout.is_zero() { Duration::MAX } else { self.route_timeout };
        self.engine.shortest_time().min(self.header_timeout).min(self.keep_alive_timeout).min(route_timeout)
    }

    /// Says what is wrong with the values, in words for the person who set them.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.engine.validate()?;
        self.check_log()?;
        at_most_the_longest(&[
            ("header_timeout", self.header_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("route_timeout", self.route_timeout),
            ("ack_timeout", self.ack_timeout),
            ("expiry_grace", self.expiry_grace),
            ("recovery_max_disconnection", self.recovery_max_disconnection),
            ("shutdown_spread", self.shutdown_spread),
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
        queue::check_bounds(self.queue_bytes_max, self.queue_message_bytes_max)?;
        if self.flush_window > FLUSH_WINDOW_MAX {
            return Err(format!("flush_window = {:?}: the most is {FLUSH_WINDOW_MAX:?}", self.flush_window));
        }
        at_least_a_millisecond(&[
            ("header_timeout", self.header_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
        ])?;
        at_least_one(&[
            ("outbox_bytes_max", self.outbox_bytes_max),
            ("connections_max", self.connections_max),
            ("sessions_max", self.sessions_max),
            ("routes_waiting_max", self.routes_waiting_max),
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
            (Config { head_bytes_max: 100, ..Config::default() }, "head_bytes_max = 100"),
            (Config { head_bytes_max: 1 << 20, ..Config::default() }, "head_bytes_max = 1048576"),
            (Config { header_timeout: Duration::MAX, ..Config::default() }, "header_timeout"),
            (Config { keep_alive_timeout: Duration::MAX, ..Config::default() }, "keep_alive_timeout"),
            (Config { route_timeout: Duration::MAX, ..Config::default() }, "route_timeout"),
            (Config { routes_waiting_max: 0, ..Config::default() }, "routes_waiting_max"),
            (Config { ack_timeout: Duration::MAX, ..Config::default() }, "ack_timeout"),
            (Config { expiry_grace: Duration::MAX, ..Config::default() }, "expiry_grace"),
            (
                Config { recovery_max_disconnection: Duration::MAX, ..Config::default() },
                "recovery_max_disconnection",
            ),
            (Config { recovery_survives: Survives::Stop, ..Config::default() }, "recovery_survives"),
            (Config { shutdown_spread: Duration::MAX, ..Config::default() }, "shutdown_spread"),
            (Config { shutdown_timeout: Duration::MAX, ..Config::default() }, "shutdown_timeout"),
            (Config { outbox_bytes_max: 0, ..Config::default() }, "outbox_bytes_max"),
            (Config { allowed_hosts: vec!["a:80".into()], ..Config::default() }, "allowed_hosts: \"a:80\""),
            (
                Config { trusted_proxies: vec!["10/8".into()], ..Config::default() },
                "trusted_proxies: \"10/8\"",
            ),
            (Config { proxy_protocol: true, ..Config::default() }, "proxy_protocol"),
            (Config { log: "verbose".into(), ..Config::default() }, "log = \"verbose\""),
            (Config { engineio_log: "info,debug".into(), ..Config::default() }, "engineio_log = "),
        ];
        for (config, name) in rows {
            assert!(config.validate().is_err_and(|message| message.contains(name)), "{name}");
        }
    }
}
