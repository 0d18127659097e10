//! What everything in a shard may ask: who it is, what is configured, what time it is.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;

use crate::base::ids::ShardId;
use crate::base::time::Time;
use crate::config::Config;
use crate::protocol::http::forwarded::TrustedProxies;
use crate::protocol::http::hosts::{AllowedHosts, HostWatch};
use crate::shard::value::endpoint::{EndpointTable, SharedSigner};
use crate::shard::value::stats::ShardCounters;

/// What everything in a shard may ask. It changes seldom, but for the time.
pub(crate) struct Env {
    pub(crate) id: ShardId,
    pub(crate) config: Arc<Config>,
    pub(crate) now: Time,
    /// Unix time of `Time(0)`, in milliseconds, as the wall clock last said.
    pub(crate) unix_origin: u64,
    /// The same when deadlines that are times of the wall clock were last worked out.
    pub(crate) expiry_origin: u64,
    pub(crate) counters: Arc<ShardCounters>,
    /// The first is the configuration's own.
    pub(crate) endpoints: Vec<EndpointTable>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) allowed_hosts: AllowedHosts,
    pub(crate) host_watch: HostWatch,
    /// When a request for a session of another process is next told of.
    pub(crate) stray_due: Time,
    /// Believes cookie sessions, if the server has any.
    pub(crate) signer: Option<SharedSigner>,
    pub(crate) random: ChaCha12Rng,
    /// No session opens any more: the shard was asked to stop.
    pub(crate) is_draining: bool,
    /// Connections that came by the operators' listener.
    pub(crate) admin_connections: usize,
    /// Every session was ended.
    pub(crate) is_shutting_down: bool,
}
