//! What one shard tells operators who look at the admin page: how far it is behind, who is slow, which rooms are large.

use crate::base::ids::Sid;
use crate::base::time::Time;

/// What is asked, and when it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) asked: Time,
    /// The client whose trace is wanted.
    pub(crate) traced: Option<Sid>,
}

/// What one shard has to show.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Overview {
    pub(crate) shard: usize,
    /// From the question to the moment when this shard took it up, in milliseconds.
    pub(crate) lag_millis: u64,
    /// Those that are owed most, the first of them most.
    pub(crate) slow: Vec<SlowClient>,
    /// The largest, the first of them largest; members on this shard.
    pub(crate) rooms: Vec<RoomSize>,
    pub(crate) trace: Option<Traced>,
}

/// A client that has not taken what it was sent.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct SlowClient {
    /// The id of one of its sockets; none for a client that is in no namespace.
    pub(crate) client: Option<Sid>,
    pub(crate) shard: usize,
    pub(crate) address: String,
    pub(crate) transport: &'static str,
    pub(crate) owed_bytes: u64,
}

/// A room and its members.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct RoomSize {
    pub(crate) namespace: String,
    pub(crate) room: String,
    pub(crate) members: u64,
}

/// The last packets of one client.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct Traced {
    pub(crate) client: Sid,
    /// The trace goes on.
    pub(crate) is_on: bool,
    /// How many packets there were before those that are kept.
    pub(crate) left_out: u64,
    pub(crate) packets: Vec<TracedPacket>,
}

/// One packet, as the log would show it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct TracedPacket {
    pub(crate) unix_millis: u64,
    pub(crate) is_sent: bool,
    pub(crate) bytes: usize,
    pub(crate) packet: String,
}
