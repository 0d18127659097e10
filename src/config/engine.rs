//! How one Engine.IO endpoint behaves. Plain values; a server has one set for each endpoint.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::base::limits;
use crate::config::check::{
    TIME_MAX, at_least_a_millisecond, at_least_one, at_most_the_longest, duration, one_or_many, seconds,
};
use crate::config::queue::formats::QueueFormats;
use crate::config::queue::url::QueueUrl;
use crate::config::queue::{CHANNEL_DEFAULT, MessageQueue, NODE_KEY_DEFAULT};
use crate::protocol::http::cookies::CookieTemplate;
use crate::protocol::http::cors::CorsOrigins;
use crate::protocol::http::headers::{elements, is_token};
use crate::protocol::websocket::handshake;

/// What engine.io calls the options of a server. `Config::engine` has those of the endpoint at its `path`; further
/// endpoints start from a copy of them (see [`Server::endpoint`](crate::Server::endpoint)).
///
/// ```
/// use std::time::Duration;
/// use shardcast::EngineOptions;
///
/// let options = EngineOptions { ping_interval: Duration::from_secs(10), ..EngineOptions::default() };
/// assert_eq!(options.path, "/socket.io/");
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct EngineOptions {
    /// Path of the Engine.IO endpoint. Default `/socket.io/`.
    pub path: String,
    /// Whether clients may start with, or stay on, HTTP long-polling. Default true.
    pub polling: bool,
    /// Whether clients may use WebSocket. Default true.
    pub websocket: bool,
    /// Whether a polling session is offered WebSocket. Default true.
    pub allow_upgrades: bool,
    /// From one ping to the next. Default 25 s, as in Node and Flask.
    #[serde(deserialize_with = "duration")]
    pub ping_interval: Duration,
    /// How long a ping may go unanswered. Default 20 s.
    #[serde(deserialize_with = "duration")]
    pub ping_timeout: Duration,
    /// What clients are told beyond `ping_interval`: they wait so much longer for a ping before they give the connection up. Flask-SocketIO's
    /// second value of a `ping_interval` tuple. Default 0.
    #[serde(deserialize_with = "duration")]
    pub ping_grace: Duration,
    /// How long an upgrade to WebSocket may take. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub upgrade_timeout: Duration,
    /// How long a session may stay without joining a namespace. Default 45 s.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// Whether a client is told that it is connected before its connect handler is asked; one that is refused is disconnected then. What
    /// the handler emits, and broadcasts meanwhile, reach the client at once; its own events wait. Default false.
    pub always_connect: bool,
    /// The largest message and the largest request body, in bytes, on either transport. Default 1,000,000.
    pub max_http_buffer_size: usize,
    /// Bytes of one packet's attachments together; each of them is a message and keeps to `max_http_buffer_size`, as in Node and
    /// Python. Default 0: no bound but that and their number, which is 10.
    pub attachments_bytes_max: usize,
    /// Frames of one WebSocket message. A sender may cut a message as finely as it likes, and each frame costs this server a
    /// little whatever is in it. Default 1,048,576: a megabyte sent byte by byte.
    pub fragments_max: usize,
    /// Packets in one long-polling response. Default 16: stock Python clients refuse more.
    pub poll_packets_max: usize,
    /// Which web pages may connect. Default: those of the same origin.
    pub cors_allowed_origins: CorsOrigins,
    /// Whether pages of other origins may send cookies. Default true, as in Flask-SocketIO.
    pub cors_credentials: bool,
    /// Request headers that a preflight allows, separated by commas. Default empty: those that it asks for, as in Node.
    pub cors_allowed_headers: String,
    /// How long a browser may remember the answer to a preflight. Default 0: it is not told, and decides itself.
    #[serde(deserialize_with = "seconds")]
    pub cors_max_age: Duration,
    /// WebSocket subprotocols that are served, of which the first that a client offers is answered. Default none: the first that
    /// it offers, whatever it is. Clients that offer some and get none in the answer give up.
    #[serde(deserialize_with = "one_or_many")]
    pub subprotocols: Vec<String>,
    /// Name of a cookie with the Engine.IO session's id, set when a session opens by long-polling: for balancers that
    /// stick by cookie. Attributes may follow as in `Set-Cookie`: `io; Secure; SameSite=None; Max-Age=3600`. Without
    /// them it is `Path=/; HttpOnly; SameSite=Lax`, as in Node; `HttpOnly=false` takes that one away. Default none.
    pub cookie: String,
    /// Whether clients of Socket.IO 1.x and 2.x (Engine.IO 3) are served beside newer ones, and pages that poll by
    /// JSONP. Default false, as in Node.
    pub allow_eio3: bool,
    /// Whether the browser client is served below `path`, `/socket.io/socket.io.js`: Node's `serveClient`. It is the one that the
    /// feature `client` compiles in, or that of `client_bundle`. Default true.
    pub serve_client: bool,
    /// Folder of another browser client, npm's `socket.io-client/dist`, whose files are served in place of the one that is
    /// compiled in. Default empty: none.
    pub client_bundle: PathBuf,
    /// The broker on which this endpoint meets other processes: `redis://USER:PASSWORD@HOST:6379/0`, `rediss://` with TLS, also
    /// `valkey://` and `valkeys://`; `redis+sentinel://HOST1,HOST2/0/SERVICE`; `amqp://`, `amqps://`; `kafka://HOST1:9092,HOST2`;
    /// `nats://`, `natss://`; `unix:/PATH` for the processes of one machine, of which one serves a `LocalQueue`;
    /// `memory:` for the servers of one process. `?mode=` says how our own messages go: for Redis `pubsub`, `sharded` or
    /// `streams`, for NATS `core` or `jetstream`. Default empty: this process is alone.
    pub message_queue: QueueUrl,
    /// The name on the broker that processes have in common which belong together. Default `flask-socketio`, as in Flask-SocketIO;
    /// python-socketio's own is `socketio`.
    pub channel: String,
    /// Which formats are spoken on the queue besides our own: `python`, `node`, `node-sharded`, `node-streams`, or none. Default:
    /// `python`, where python-socketio has the broker.
    pub queue_formats: QueueFormats,
    /// What the names of Node's channels begin with, where Node's adapters have an option `key` (`streamName` of the streams
    /// adapter). Default `socket.io`, as in Node.
    pub node_key: String,
    /// Whether messages of python-socketio before 5.14 are read, which are pickles. They are read by a decoder that knows texts,
    /// numbers, lists and dictionaries only, never by Python's. Default false.
    pub queue_pickle: bool,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            path: "/socket.io/".to_owned(),
            polling: true,
            websocket: true,
            allow_upgrades: true,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            ping_grace: Duration::ZERO,
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            always_connect: false,
            max_http_buffer_size: 1_000_000,
            attachments_bytes_max: 0,
            fragments_max: 1 << 20,
            poll_packets_max: limits::POLL_PACKETS_MAX,
            cors_allowed_origins: CorsOrigins::default(),
            cors_credentials: true,
            cors_allowed_headers: String::new(),
            cors_max_age: Duration::ZERO,
            subprotocols: Vec::new(),
            cookie: String::new(),
            allow_eio3: false,
            serve_client: true,
            client_bundle: PathBuf::new(),
            message_queue: QueueUrl::default(),
            channel: CHANNEL_DEFAULT.to_owned(),
            queue_formats: QueueFormats::default(),
            node_key: NODE_KEY_DEFAULT.to_owned(),
            queue_pickle: false,
        }
    }
}

impl EngineOptions {
    /// The shortest of the times that the timer wheel keeps for these sessions.
    pub(crate) fn shortest_time(&self) -> Duration {
        self.ping_interval.min(self.ping_timeout).min(self.upgrade_timeout).min(self.connect_timeout)
    }

    /// The cookie that a handshake by long-polling sets.
    pub(crate) fn cookie_template(&self) -> Result<Option<CookieTemplate>, String> {
        if self.cookie.is_empty() {
            return Ok(None);
        }
        CookieTemplate::parse(&self.cookie)
            .map(Some)
            .map_err(|fault| format!("cookie = {:?}: {fault}", self.cookie))
    }

    /// The message queue, if there is one.
    ///
    /// # Errors
    /// What of it is wrong.
    pub(crate) fn queue(&self) -> Result<Option<MessageQueue>, String> {
        if self.message_queue.is_empty() {
            return Ok(None);
        }
        let mut queue = MessageQueue::new(&self.message_queue)?;
        queue.channel.clone_from(&self.channel);
        queue.formats = self.queue_formats.of_broker(&queue.address);
        queue.node_key.clone_from(&self.node_key);
        queue.is_pickle_read = self.queue_pickle;
        queue.validate()?;
        Ok(Some(queue))
    }

    /// Says what is wrong with the values, in words for the person who set them.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let path_is_sound = self.path.starts_with('/') && !self.path.contains(['?', '#', ' ']);
        if !path_is_sound {
            return Err(format!("path = {:?}: an endpoint's path starts with / and has no query", self.path));
        }
        if !self.polling && !self.websocket {
            return Err("polling and websocket are both false: clients need one of them".to_owned());
        }
        if !elements(&self.cors_allowed_headers).all(is_token) {
            let shown = &self.cors_allowed_headers;
            return Err(format!("cors_allowed_headers = {shown:?}: write header names separated by commas"));
        }
        validate_subprotocols(&self.subprotocols)?;
        self.cookie_template()?;
        self.queue()?;
        at_most_the_longest(&[
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("ping_grace", self.ping_grace),
            ("upgrade_timeout", self.upgrade_timeout),
            ("connect_timeout", self.connect_timeout),
        ])?;
        let silence = self.ping_interval + self.ping_timeout + self.ping_grace;
        if silence > TIME_MAX {
            return Err(format!(
                "ping_interval, ping_timeout and ping_grace are {silence:?} together: the most is {TIME_MAX:?}, which clients' timers can count"
            ));
        }
        at_least_a_millisecond(&[
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("upgrade_timeout", self.upgrade_timeout),
            ("connect_timeout", self.connect_timeout),
        ])?;
        at_least_one(&[
            ("max_http_buffer_size", self.max_http_buffer_size),
            ("fragments_max", self.fragments_max),
            ("poll_packets_max", self.poll_packets_max),
        ])
    }
}

/// Whether a list of subprotocols can be served: tokens, each once.
fn validate_subprotocols(served: &[String]) -> Result<(), String> {
    match served.iter().find(|name| !handshake::is_token(name)) {
        Some(name) => Err(format!("subprotocols: {name:?} is no token: letters, digits and !#$%&'*+-.^_`|~")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(EngineOptions::default().validate(), Ok(()));
        let with = |change: fn(&mut EngineOptions)| {
            let mut options = EngineOptions::default();
            change(&mut options);
            options.validate().unwrap_err()
        };
        for (message, name) in [
            (with(|options| options.path = "socket.io".into()), "path"),
            (with(|options| (options.polling, options.websocket) = (false, false)), "polling"),
            (with(|options| options.ping_timeout = Duration::ZERO), "ping_timeout"),
            (with(|options| options.ping_interval = Duration::MAX), "ping_interval"),
            (with(|options| options.ping_timeout = Duration::MAX), "ping_timeout"),
            (with(|options| options.ping_grace = Duration::MAX), "ping_grace"),
            (with(|options| options.upgrade_timeout = Duration::MAX), "upgrade_timeout"),
            (with(|options| options.connect_timeout = Duration::MAX), "connect_timeout"),
            (
                with(|options| {
                    options.ping_interval = TIME_MAX - Duration::from_secs(1);
                    options.ping_timeout = Duration::from_secs(2);
                }),
                "together",
            ),
            (with(|options| options.poll_packets_max = 0), "poll_packets_max"),
            (with(|options| options.fragments_max = 0), "fragments_max"),
            (with(|options| options.subprotocols = vec!["a b".into()]), "subprotocols: \"a b\""),
            (with(|options| options.cookie = "a b".into()), "cookie"),
            (with(|options| options.cookie = "io; SameSite=None".into()), "cookie"),
            (with(|options| options.cors_allowed_headers = "a\r\nb: c".into()), "cors_allowed_headers"),
        ] {
            assert!(message.contains(name), "{name}: {message}");
        }
    }
}
