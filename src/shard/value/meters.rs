//! What a shard counts for operators beside its [`ShardStats`](crate::shard::value::stats::ShardStats): by reason, by kind, by namespace,
//! and by size. The shard writes, anybody reads; nothing here reads a clock.

use std::sync::OnceLock;

use crate::shard::value::counter::Counter;
use crate::shard::value::histogram::Histogram;
use crate::shard::value::kinds::{
    BroadcastOrigins, ConnectionsClosed, ConnectionsRefused, DropPolicies, EventOutcomes, Kicks,
    RecoveryOutcomes, RequestsRefused, SocketsRefused, Speeches, UpgradeOutcomes,
};
use crate::shard::value::session::CloseReason;

/// Namespaces with figures of their own, in the order of registration; those beyond share one. What a pattern has made is counted
/// as the pattern.
pub(crate) const NAMESPACE_SERIES_MAX: usize = 64;

/// What the namespaces beyond those are called together.
const OTHER: &str = "(other)";

/// One shard's counts.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// The kernel's number of the shard's thread; 0 where it has none of its own.
    pub(crate) thread: Counter,
    /// Connections that this shard has taken up: accepted, or given by another shard.
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: ConnectionsClosed,
    pub(crate) connections_refused: ConnectionsRefused,
    /// Connections now that carry frames; the others speak HTTP.
    pub(crate) connections_websocket: Counter,
    /// Sessions now.
    pub(crate) sessions: Speeches,
    /// Sessions that opened, as they first spoke.
    pub(crate) sessions_opened: Speeches,
    pub(crate) requests_refused: RequestsRefused,
    pub(crate) upgrades: UpgradeOutcomes,
    pub(crate) sockets_connected: Counter,
    pub(crate) sockets_refused: SocketsRefused,
    pub(crate) sockets_disconnected: CloseReasons,
    pub(crate) events: EventOutcomes,
    /// Events now that wait for their socket's handler or for the socket to open.
    pub(crate) events_waiting: Counter,
    pub(crate) acks_timed_out: Counter,
    pub(crate) broadcasts: BroadcastOrigins,
    pub(crate) dropped: DropPolicies,
    pub(crate) kicks: Kicks,
    pub(crate) recoveries: RecoveryOutcomes,
    /// Sockets now that are lost and wait for their clients.
    pub(crate) lost_sockets: Counter,
    /// Messages of other shards and threads that were handled.
    pub(crate) mesh_messages: Counter,
    /// From a wake to the end of what it led to.
    pub(crate) turn: Histogram,
    /// How long after its time the shard came to what was due.
    pub(crate) lag: Histogram,
    /// From the beginning of the turn in which an event was published, on whichever shard, until it was sent to the last of its
    /// receivers here.
    pub(crate) fan_out: Histogram,
    /// Sockets of this shard that a broadcast reached.
    pub(crate) receivers: Histogram,
    /// Bytes that a client was still owed of earlier turns when more was queued for it.
    pub(crate) behind_bytes: Histogram,
    /// From a ping to its pong, by transport: polling, WebSocket.
    pub(crate) ping: [Histogram; 2],
    pub(crate) namespaces: NamespaceSeries,
}

/// The figures of namespaces, by the place of their handlers, which is the same on every shard. One that is registered while the server
/// runs has its own as well; the last are those of all that are beyond the bound.
#[derive(Debug)]
pub(crate) struct NamespaceSeries([OnceLock<Box<NamespaceMeters>>; NAMESPACE_SERIES_MAX + 1]);

impl Default for NamespaceSeries {
    fn default() -> NamespaceSeries {
        NamespaceSeries([const { OnceLock::new() }; NAMESPACE_SERIES_MAX + 1])
    }
}

impl NamespaceSeries {
    /// Those that there are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &NamespaceMeters> {
        self.0.iter().filter_map(OnceLock::get).map(Box::as_ref)
    }
}

/// What one shard counts of one namespace, or of all that a pattern makes.
#[derive(Debug)]
pub(crate) struct NamespaceMeters {
    /// The endpoint's path.
    pub(crate) endpoint: Box<str>,
    pub(crate) name: Box<str>,
    /// Sockets now.
    pub(crate) sockets: Counter,
    pub(crate) connected: Counter,
    pub(crate) events_received: Counter,
    /// The handlers that were done when they returned.
    pub(crate) handler: Histogram,
    /// Asynchronous handlers, with what they waited for.
    pub(crate) handler_async: Histogram,
}

impl NamespaceMeters {
    fn new(endpoint: &str, name: &str) -> NamespaceMeters {
        NamespaceMeters {
            endpoint: endpoint.into(),
            name: name.into(),
            sockets: Counter::default(),
            connected: Counter::default(),
            events_received: Counter::default(),
            handler: Histogram::default(),
            handler_async: Histogram::default(),
        }
    }
}

/// A counter for each reason of an end.
#[derive(Debug, Default)]
pub(crate) struct CloseReasons([Counter; CloseReason::ALL.len()]);

impl CloseReasons {
    pub(crate) fn count(&self, reason: CloseReason) {
        self.0[reason as usize].add(1);
    }

    pub(crate) fn of(&self, reason: CloseReason) -> u64 {
        self.0[reason as usize].get()
    }

    /// Each with its label.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CloseReason::ALL.iter().zip(&self.0).map(|(reason, counter)| (reason.as_str(), counter.get()))
    }

    /// All together.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests compare sums"))]
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

impl Meters {
    /// Gives the namespace whose handlers have this place its figures.
    pub(crate) fn name_namespace(&self, setup: u16, endpoint: &str, name: &str) {
        let place = usize::from(setup).min(NAMESPACE_SERIES_MAX);
        let (endpoint, name) = if place < NAMESPACE_SERIES_MAX { (endpoint, name) } else { (OTHER, OTHER) };
        self.namespaces.0[place].get_or_init(|| Box::new(NamespaceMeters::new(endpoint, name)));
    }

    /// Something is queued for a client, which is still owed so much of earlier turns.
    #[inline]
    pub(crate) fn note_behind(&self, bytes: u32) {
        if bytes > 0 {
            self.behind_bytes.record(u64::from(bytes));
        }
    }

    /// The figures of the namespaces whose handlers have this place.
    #[inline]
    pub(crate) fn namespace(&self, setup: u16) -> Option<&NamespaceMeters> {
        self.namespaces.0[usize::from(setup).min(NAMESPACE_SERIES_MAX)].get().map(Box::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_beyond_the_bound_share_one_series() {
        let meters = Meters::default();
        for setup in 0..NAMESPACE_SERIES_MAX as u16 + 3 {
            meters.name_namespace(setup, "/socket.io/", &format!("/{setup}"));
            meters.namespace(setup).expect("each has one").sockets.add(1);
        }
        let all: Vec<&NamespaceMeters> = meters.namespaces.iter().collect();
        assert_eq!(all.len(), NAMESPACE_SERIES_MAX + 1);
        assert!(all[..NAMESPACE_SERIES_MAX].iter().all(|one| one.sockets.get() == 1));
        assert_eq!((&*all[64].name, all[64].sockets.get()), (OTHER, 3));
        assert!(Meters::default().namespace(0).is_none());
    }
}
