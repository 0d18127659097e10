//! What a raw route has of its own in place of the endpoint's options: limits, times, subprotocols, origins.

use std::time::Duration;

use crate::config::EndpointSettings;
use crate::config::engine::EngineOptions;
use crate::protocol::http::cors::CorsOrigins;

/// What one raw WebSocket or raw Engine.IO route has of its own; the rest is as the configuration says, or the endpoint's options.
///
/// ```
/// use std::time::Duration;
/// use shardcast::http::CorsOrigins;
/// use shardcast::{Config, Server};
///
/// let origins = CorsOrigins::parse("https://app.example")?;
/// Server::new(Config::default()).websocket("/feed", move |route| {
///     route
///         .options()
///         .message_bytes_max(4_096)
///         .ping(Duration::from_secs(10), Duration::from_secs(5))
///         .subprotocols(["feed.v2", "feed.v1"])
///         .inflate_ratio_max(20)
///         .origins(origins.clone());
///     route.on_message(|ws, message| ws.send(message));
/// });
/// # Ok::<(), shardcast::http::OriginPatternError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RouteOptions {
    message_bytes_max: Option<usize>,
    ping: Option<(Duration, Duration)>,
    subprotocols: Option<Vec<String>>,
    origins: Option<CorsOrigins>,
    inflate_ratio_max: Option<usize>,
}

impl RouteOptions {
    /// The largest message, in bytes, in place of `max_http_buffer_size`. A larger one ends the connection with code 1009.
    pub fn message_bytes_max(&mut self, bytes: usize) -> &mut Self {
        self.message_bytes_max = Some(bytes);
        self
    }

    /// From one ping to the next, and how long one may go unanswered, in place of `ping_interval` and `ping_timeout`.
    pub fn ping(&mut self, interval: Duration, timeout: Duration) -> &mut Self {
        self.ping = Some((interval, timeout));
        self
    }

    /// The subprotocols that are served, of which the first that a client offers is answered, in place of whatever it offers first.
    /// A rule by `choose_protocol` decides alone.
    pub fn subprotocols<S: Into<String>>(&mut self, names: impl IntoIterator<Item = S>) -> &mut Self {
        self.subprotocols = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Which web pages may connect, in place of `cors_allowed_origins`.
    pub fn origins(&mut self, origins: CorsOrigins) -> &mut Self {
        self.origins = Some(origins);
        self
    }

    /// Bytes that a client's compressed messages may inflate to for each byte of them, in place of `inflate_ratio_max` of the
    /// configuration. A client beyond it is closed with code 1009.
    pub fn inflate_ratio_max(&mut self, ratio: usize) -> &mut Self {
        self.inflate_ratio_max = Some(ratio);
        self
    }

    pub(crate) fn is_set(&self) -> bool {
        self.message_bytes_max.is_some()
            || self.ping.is_some()
            || self.subprotocols.is_some()
            || self.origins.is_some()
            || self.inflate_ratio_max.is_some()
    }

    pub(crate) fn apply(&self, options: &mut EngineOptions, settings: &mut EndpointSettings) {
        if let Some(ratio) = self.inflate_ratio_max {
            settings.inflate_ratio_max = ratio;
        }
        if let Some(bytes) = self.message_bytes_max {
            options.max_http_buffer_size = bytes;
        }
        if let Some((interval, timeout)) = self.ping {
            (options.ping_interval, options.ping_timeout) = (interval, timeout);
        }
        if let Some(names) = &self.subprotocols {
            options.subprotocols.clone_from(names);
        }
        if let Some(origins) = &self.origins {
            options.cors_allowed_origins = origins.clone();
        }
    }
}
