//! Sessions that have joined no namespace yet: they cost memory, and anyone can open them.
//!
//! All of them together have a bound, and those of each address have one. Beyond either the oldest give way, so a flood of such
//! sessions ends sessions of the flood, not those of other clients. A session leaves this table when its first socket is let in, or with its end.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

use rustc_hash::FxHashMap;

use crate::base::slab::Key;
use crate::config::Config;

/// The part of `sessions_max` that sessions without a namespace may have.
const SESSIONS_MAX_DIVISOR: usize = 4;

/// Keys of sessions that are gone are swept out of a line when it is this much longer than it need be.
const SLACK_MIN: usize = 16;

/// Sessions in the order in which they opened. Those that have left stay in it until they come to its front, or are swept.
#[derive(Debug, Default)]
pub(crate) struct Line {
    keys: VecDeque<Key>,
    pub(crate) live: usize,
}

impl Line {
    pub(crate) fn push(&mut self, key: Key, is_in: impl Fn(Key) -> bool) {
        if self.keys.len() > 2 * self.live + SLACK_MIN {
            self.keys.retain(|&key| is_in(key));
        }
        self.keys.push_back(key);
        self.live += 1;
    }

    /// The one that has waited longest.
    pub(crate) fn pop(&mut self, is_in: impl Fn(Key) -> bool) -> Option<Key> {
        while let Some(key) = self.keys.pop_front() {
            if is_in(key) {
                return Some(key);
            }
        }
        None
    }
}

/// The sessions of a shard that have joined nothing.
#[derive(Debug, Default)]
pub(crate) struct Unjoined {
    pub(crate) everybody: Line,
    pub(crate) by_address: FxHashMap<IpAddr, Line>,
}

impl Unjoined {
    pub(crate) fn len(&self) -> usize {
        self.everybody.live
    }

    pub(crate) fn left(&mut self, address: Option<IpAddr>) {
        self.everybody.live -= 1;
        let Some(address) = address else { return };
        if let Some(line) = self.by_address.get_mut(&address) {
            line.live -= 1;
            if line.live == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// By which address a client's sessions are counted: of version 6 by the network, as one host has a whole network. `None`: the address
/// is that of a proxy on this host, or of a Unix socket, and says nothing about the client.
pub(crate) fn holder(address: Option<IpAddr>) -> Option<IpAddr> {
    match address?.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => Some(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))),
    }
}

/// How many of them there may be.
pub(crate) fn sessions_max(config: &Config) -> usize {
    config.unjoined_sessions_max.min(config.sessions_max / SESSIONS_MAX_DIVISOR).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_network_and_a_proxy_on_this_host_by_nothing() {
        let shown = |text: &str| holder(text.parse().ok()).map(|address| address.to_string());
        for (address, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::")),
            ("127.0.0.1", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
        ] {
            assert_eq!(shown(address).as_deref(), expected, "{address}");
        }
        assert_eq!(holder(None), None);
    }

    #[test]
    fn they_never_take_more_than_a_part_of_all_sessions() {
        let max = |sessions, unjoined| {
            sessions_max(&Config {
                sessions_max: sessions,
                unjoined_sessions_max: unjoined,
                ..Config::default()
            })
        };
        assert_eq!(
            [max(1_000_000, 10_000), max(1000, 10_000), max(2, 10_000), max(1000, 3)],
            [10_000, 250, 1, 3]
        );
    }

    #[test]
    fn a_line_keeps_its_order_and_does_not_grow_with_those_who_have_left() {
        let key = |index| Key { index, generation: 0 };
        let mut line = Line::default();
        for index in 0..10_000 {
            line.push(key(index), |key| key.index % 1000 == 0);
            if index % 1000 != 0 {
                line.live -= 1;
            }
        }
        assert!(line.keys.len() < 100, "{}", line.keys.len());
        let oldest: Vec<u32> =
            std::iter::from_fn(|| line.pop(|key| key.index % 1000 == 0)).map(|key| key.index).collect();
        assert_eq!(oldest, (0..10).map(|thousand| thousand * 1000).collect::<Vec<_>>());
    }
}
