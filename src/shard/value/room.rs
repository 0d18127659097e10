//! A room: who is in it on this shard.

use std::collections::BTreeSet;

use crate::mesh::interest::Slot;

/// A room's members on this shard.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) namespace: u16,
    pub(crate) name: Box<str>,
    /// Places in the table of sockets, in memory order.
    pub(crate) members: BTreeSet<u32>,
    /// How many of them are lost: they may come back.
    pub(crate) lost: usize,
    /// The id by which a client of revision 3 knows its socket: like a socket's own id, no room to be listed.
    pub(crate) is_alias: bool,
    /// Where other shards look up that this one has members.
    pub(crate) slot: Slot,
}

impl Room {
    /// Whether a list of rooms has it: it has members, and stands for more than one socket's id.
    pub(crate) fn is_listed(&self) -> bool {
        !self.is_alias && self.present() > 0
    }

    /// How many members there are whose clients are there.
    pub(crate) fn present(&self) -> u64 {
        (self.members.len() - self.lost) as u64
    }
}

/// A room's name. Handlers take names from clients, and a room keeps its name twice.
pub(crate) const ROOM_NAME_BYTES_MAX: usize = 1024;

/// Why a socket did not join a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinError {
    NoSuchSocket,
    TooManyRooms,
    NameTooLong,
}
