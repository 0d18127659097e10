//! State rooms as they are asked for: their options, and what is wrong with a change.

use std::time::Duration;

use crate::message::address::Address;
use crate::message::state::{StateChange, StateMessage};
use crate::protocol::socketio::encode::is_reserved_event;

/// A key is a name, such as a stock's.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// A state room as it is registered: how often its subscribers hear of changes, and how much it may hold.
///
/// Subscribers are the members of the room of that name. They hear the event named like the room, with two arguments: an
/// object of keys and values, where `null` means that the key is gone, and whether it is everything
/// (`true`, at the beginning) or what has changed.
///
/// ```
/// use std::time::Duration;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server, StateRoom};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.state_room("prices", StateRoom::max_hz(10.0));
///     io.on("watch", |cx: &mut Context| cx.join("prices"));
/// });
/// let server = TestServer::new(server).unwrap();
/// server.handle().state("/", "prices").set("BTC", &64_000).unwrap();
///
/// let page = server.connect("/").unwrap();
/// page.emit("watch", ());
/// assert_eq!(page.received()[0].to_string(), r#"["prices",{"BTC":64000},true]"#);
///
/// for price in 64_001..=64_100 {
///     server.handle().state("/", "prices").set("BTC", &price).unwrap();
/// }
/// server.advance(Duration::from_millis(100));
/// assert_eq!(page.received().last().unwrap().to_string(), r#"["prices",{"BTC":64100},false]"#);
/// ```
#[derive(Clone, Debug)]
pub struct StateRoom {
    pub(crate) period: Duration,
    pub(crate) event: Option<String>,
    pub(crate) keys_max: usize,
    pub(crate) bytes_max: usize,
}

impl StateRoom {
    /// A room whose subscribers hear of changes at most so many times a second.
    pub fn max_hz(max_hz: f64) -> StateRoom {
        let period = Duration::try_from_secs_f64(1.0 / max_hz).unwrap_or(Duration::MAX);
        StateRoom { period, event: None, keys_max: 10_000, bytes_max: 1024 * 1024 }
    }

    /// The event's name. Default: the room's.
    pub fn event(mut self, event: impl Into<String>) -> StateRoom {
        self.event = Some(event.into());
        self
    }

    /// Keys that the room may hold. Default 10,000.
    pub fn keys_max(mut self, keys_max: usize) -> StateRoom {
        self.keys_max = keys_max;
        self
    }

    /// Bytes that keys and values may have together as JSON: what one who joins is sent. It has to fit into a connection's
    /// outbox. Default 1 MiB.
    pub fn bytes_max(mut self, bytes_max: usize) -> StateRoom {
        self.bytes_max = bytes_max;
        self
    }

    /// Says what cannot be.
    pub(crate) fn validate(&self, room: &str) -> Result<(), String> {
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.period) {
            return Err(format!("state room {room:?}: max_hz lies between 1/3600 and 1000"));
        }
        let event = self.event.as_deref().unwrap_or(room);
        if is_reserved_event(event) {
            return Err(format!("state room {room:?}: {event:?} is no event that a server can send"));
        }
        Ok(())
    }
}

/// Why a change to a state room was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// `io.state_room` has not registered it in this namespace.
    NoSuchRoom,
    /// The key has more than 256 bytes.
    KeyTooLong,
    /// With it, the room would hold more than `bytes_max`.
    TooLarge,
    /// The room holds `keys_max` keys.
    TooManyKeys,
    /// The value is no JSON.
    NotJson,
    /// The server does not run yet.
    NotRunning,
    /// The inbox of the shard that orders the room's changes is full.
    ShardBusy,
}

impl std::fmt::Display for StateError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            StateError::NoSuchRoom => {
                "no state room of this name is registered in the namespace: call io.state_room"
            }
            StateError::KeyTooLong => "a key of a state room has at most 256 bytes",
            StateError::TooLarge => "with this value the state room would hold more than its bytes_max",
            StateError::TooManyKeys => "the state room holds keys_max keys",
            StateError::NotJson => "the value is no JSON",
            StateError::NotRunning => "the server does not run yet",
            StateError::ShardBusy => "the shard that keeps the state room is too busy",
        })
    }
}

impl std::error::Error for StateError {}

/// What a key and its value take in the event: two quotes, a colon and a comma more than they have.
pub(crate) fn entry_len(key: &str, value: &str) -> usize {
    key.len() + value.len() + 4
}

pub(crate) fn message(
    namespace: &Address,
    room: &str,
    change: StateChange,
    is_ordered: bool,
) -> StateMessage {
    StateMessage { namespace: namespace.clone(), room: room.to_owned(), change, is_ordered }
}
