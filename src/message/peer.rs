//! Where a connection comes from, and how often it may still move between shards.

use std::net::{IpAddr, SocketAddr};

use crate::base::time::Time;

/// What a connection brings along when it comes to a shard: from the kernel, or from another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) peer: Peer,
    pub(crate) door: Door,
    pub(crate) moves: Moves,
    /// It came over TLS that this process speaks.
    pub(crate) is_secure: bool,
}

/// Which listener a connection came by. What is served at one of them is not there at the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Door {
    /// `bind`: clients.
    #[default]
    Public,
    /// `admin_bind`: operators.
    Admin,
}

impl Arrival {
    /// A connection that was just accepted.
    pub(crate) fn accepted(peer: Peer, door: Door) -> Arrival {
        Arrival { peer, door, moves: Moves::default(), is_secure: false }
    }
}

impl From<Peer> for Arrival {
    fn from(peer: Peer) -> Arrival {
        Arrival::accepted(peer, Door::Public)
    }
}

/// Handoffs in a row that one connection may cost, and as many again in each second: a move takes some 60 us of two shards. A
/// client has one session, so its connection moves once or twice; a proxy's, whose sessions are mixed, moves often.
pub(crate) const HANDOFFS_PER_SECOND_MAX: u16 = 256;

/// How often a connection may still be handed from shard to shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moves {
    left: u16,
    /// When there were `HANDOFFS_PER_SECOND_MAX` of them, or when the last whole second of more was counted.
    since: Time,
}

impl Default for Moves {
    fn default() -> Moves {
        Moves { left: HANDOFFS_PER_SECOND_MAX, since: Time(0) }
    }
}

impl Moves {
    /// The connection moves once more.
    pub(crate) fn spend(&mut self, now: Time) {
        if now.since(self.since).as_secs() > 0 {
            *self = Moves { left: HANDOFFS_PER_SECOND_MAX, since: now };
        }
        self.left = self.left.saturating_sub(1);
    }

    /// It has moved too often: it ends with its next answer, and whoever goes on must connect anew.
    pub(crate) fn are_spent(&self) -> bool {
        self.left == 0
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this host, through a Unix socket.
    Unix,
}

impl Peer {
    /// A TCP peer. One that came by IPv4 to a listener of both kinds is the IPv4 address that it has.
    pub(crate) fn tcp(address: SocketAddr) -> Peer {
        match address.ip().to_canonical() {
            ip if ip == address.ip() => Peer::Tcp(address),
            ip => Peer::Tcp(SocketAddr::new(ip, address.port())),
        }
    }

    /// The address; none for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(formatter),
            Peer::Unix => formatter.write_str("unix socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_move_so_often_in_a_second() {
        let mut moves = Moves::default();
        for second in 5..8 {
            for number in 1..=2 * u64::from(HANDOFFS_PER_SECOND_MAX) {
                moves.spend(Time(second * 1000 + number));
                assert_eq!(
                    moves.are_spent(),
                    number >= u64::from(HANDOFFS_PER_SECOND_MAX),
                    "{second} {number}"
                );
            }
        }
    }
}
