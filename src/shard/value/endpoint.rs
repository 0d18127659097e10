//! Engine.IO endpoints: what a server keeps for each path at which it speaks Engine.IO.
//!
//! The first is the one of the configuration.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::log::ENGINEIO;
use crate::config::EndpointSettings;
use crate::config::engine::EngineOptions;
use crate::protocol::engineio::session::HeartbeatTimes;
use crate::protocol::flask::signer::CookieSigner;
use crate::protocol::http::cookies::CookieTemplate;
use crate::shard::value::kept::Limits;
use crate::shard::value::stats::EndpointCounters;

/// Endpoints of one server; their number is a byte in every session.
pub(crate) const ENDPOINTS_MAX: usize = 255;

/// The number of the configuration's own endpoint.
pub(crate) const MAIN: u8 = 0;

/// What the tables of a shard know of one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointTable {
    pub(crate) options: EngineOptions,
    pub(crate) cookie: Option<CookieTemplate>,
    /// The entity tag of the client bundle, when its version is known.
    pub(crate) bundle_tag: Option<String>,
    /// Messages are given to an `EngineRoute`.
    pub(crate) is_raw: bool,
    /// It has no path of its own: it is what a raw WebSocket route has in place of the configuration's options.
    pub(crate) is_route: bool,
    pub(crate) settings: EndpointSettings,
    /// How many sessions it has on this shard.
    pub(crate) sessions: usize,
    /// What each of its sockets keeps for its recovery.
    pub(crate) kept_limits: Limits,
    pub(crate) counters: Arc<EndpointCounters>,
}

impl EndpointTable {
    pub(crate) fn new(
        options: EngineOptions,
        settings: EndpointSettings,
        bundle_version: Option<&str>,
        is_raw: bool,
    ) -> EndpointTable {
        EndpointTable {
            is_route: false,
            kept_limits: Limits::new(&options, &settings),
            counters: Arc::new(EndpointCounters::new(&options.path)),
            settings,
            sessions: 0,
            cookie: options.cookie_template().unwrap_or_else(|fault| {
                tracing::error!(target: ENGINEIO, "{fault}; no cookie is set");
                None
            }),
            bundle_tag: bundle_version.map(|version| format!("\"{version}\"")),
            is_raw,
            options,
        }
    }

    /// What a raw WebSocket route has of its own.
    pub(crate) fn of_route(options: EngineOptions, settings: EndpointSettings) -> EndpointTable {
        EndpointTable { is_route: true, ..EndpointTable::new(options, settings, None, true) }
    }

    #[inline]
    pub(crate) fn heartbeat_times(&self) -> HeartbeatTimes {
        HeartbeatTimes {
            interval: self.options.ping_interval,
            timeout: self.options.ping_timeout,
            grace: self.options.ping_grace,
        }
    }
}

/// Shared by everything on one shard.
pub(crate) type SharedSigner = Rc<CookieSigner>;
