//! Engine.IO endpoints: what a server keeps for each path at which it speaks Engine.IO.
//!
//! The first is the one of the configuration.

use crate::base::log::ENGINEIO;
use crate::config::engine::EngineOptions;
use crate::protocol::engineio::session::HeartbeatTimes;
use crate::protocol::flask::signer::CookieSigner;
use crate::protocol::http::cookies::CookieTemplate;
use crate::shard::user::app::EndpointHandlers;
use std::rc::Rc;

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
}

impl EndpointTable {
    pub(crate) fn new(handlers: &EndpointHandlers) -> EndpointTable {
        let options = handlers.options.clone();
        EndpointTable {
            cookie: options.cookie_template().unwrap_or_else(|fault| {
                tracing::error!(target: ENGINEIO, "{fault}; no cookie is set");
                None
            }),
            bundle_tag: handlers.bundle_version.as_ref().map(|version| format!("\"{version}\"")),
            is_raw: handlers.route.is_some(),
            options,
        }
    }

    #[inline]
    pub(crate) fn heartbeat_times(&self) -> HeartbeatTimes {
        HeartbeatTimes { interval: self.options.ping_interval, timeout: self.options.ping_timeout }
    }
}

/// Shared by everything on one shard.
pub(crate) type SharedSigner = Rc<CookieSigner>;
