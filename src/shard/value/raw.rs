//! A connection that a raw WebSocket route has.

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::protocol::engineio::session::HeartbeatTimes;
use crate::shard::value::pace::Pace;

/// A raw connection's route.
pub(crate) struct RawState {
    /// Its number in the app.
    pub(crate) route: u16,
    pub(crate) connection: Key,
    /// When the peer last sent anything.
    pub(crate) last_seen: Time,
    /// The subprotocol that both sides have agreed on.
    pub(crate) protocol: Option<Box<str>>,
    /// What its peer has sent of what it may.
    pub(crate) pace: Pace,
}

impl RawState {
    /// Whether the peer has been silent longer than a ping and its answer may take.
    pub(crate) fn is_lost(&self, times: HeartbeatTimes, now: Time) -> bool {
        now.since(self.last_seen) >= times.interval + times.timeout
    }
}
