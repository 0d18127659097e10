//! Where a request comes from when proxies have passed it on: `X-Forwarded-For`, as far as it can be believed.
//!
//! Each proxy appends the address that it saw. So the list is read from its end, and believed while the one who wrote is
//! trusted: whatever a client has put there itself stands further left.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

/// Proxies that one request is followed through.
const HOPS_MAX: usize = 16;

/// Whose word counts: proxies by their networks, and whoever comes through a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
}

impl TrustedProxies {
    /// Reads networks (`10.0.0.0/8`), addresses (`::1`) and `unix`.
    ///
    /// # Errors
    /// What none of them is.
    pub(crate) fn parse(list: &[String]) -> Result<TrustedProxies, String> {
        let mut trusted = TrustedProxies::default();
        for text in list {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map(canonical);
            match (text.as_str(), network) {
                ("unix", _) => trusted.unix = true,
                (_, Ok(network)) => trusted.networks.push(network),
                (_, Err(_)) => {
                    return Err(format!(
                        "{text:?} is neither an address, nor a network such as 10.0.0.0/8, nor unix"
                    ));
                }
            }
        }
        Ok(trusted)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether a peer is trusted; one without an address comes through a Unix socket.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => self.unix,
            Some(ip) => {
                let ip = ip.to_canonical();
                self.networks.iter().any(|network| network.contains(&ip))
            }
        }
    }

    /// The address of the client. `forwarded` are the values of `X-Forwarded-For`, in the order of the headers.
    pub(crate) fn client_address<'a>(
        &self,
        peer: Option<IpAddr>,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Option<IpAddr> {
        let mut address = peer;
        let hops = forwarded.rev().flat_map(|value| value.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            if !self.trusts(address) {
                break;
            }
            match parse_hop(hop) {
                Some(ip) => address = Some(ip),
                None => {
                    tracing::debug!(hop, "X-Forwarded-For is believed up to here: this is no address");
                    break;
                }
            }
        }
        address
    }
}

/// A network of IPv4 in IPv6's clothes as the one of IPv4: that is what peers are compared as.
fn canonical(network: IpNet) -> IpNet {
    let (IpNet::V6(v6), IpAddr::V4(address)) = (network, network.addr().to_canonical()) else {
        return network;
    };
    let length = v6.prefix_len().checked_sub(96);
    length.and_then(|length| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

/// An address, perhaps with a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip: Option<IpAddr> = bare.parse().ok();
    Some(ip.or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(list: &[&str]) -> Result<TrustedProxies, String> {
        TrustedProxies::parse(&list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_from_the_right_who_is_not_trusted_is_the_client() {
        let proxies = ["10.0.0.0/8", "::1", "fd00::/8"];
        let rows: [(&str, &[&str], &str); 16] = [
            ("192.0.2.9", &["1.2.3.4"], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["6.6.6.6", "192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1,10.0.0.3", "10.0.0.2"], "192.0.2.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["6.6.6.6, , 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("fd00::7", &["2001:db8::1"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
        ];
        let trusted = trusted(&proxies).expect("these are networks");
        for (peer, forwarded, expected) in rows {
            let peer: IpAddr = peer.parse().expect("an address");
            let client = trusted.client_address(Some(peer), forwarded.iter().copied());
            assert_eq!(client.map(|ip| ip.to_string()).as_deref(), Some(expected), "{peer} {forwarded:?}");
        }
        let endless = vec!["10.0.0.9"; 100].join(",");
        let far = format!("192.0.2.1,{endless}");
        let peer = "10.0.0.1".parse().ok();
        assert_eq!(trusted.client_address(peer, [far.as_str()].into_iter()), "10.0.0.9".parse().ok());
    }

    #[test]
    fn mapped_networks_are_those_of_ipv4() {
        let trusted = trusted(&["::ffff:10.0.0.0/104", "::ffff:192.0.2.1"]).expect("these are networks");
        let rows = [
            ("10.200.0.1", true),
            ("::ffff:10.200.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("::1", false),
        ];
        for (peer, is_trusted) in rows {
            assert_eq!(trusted.trusts(peer.parse().ok()), is_trusted, "{peer}");
        }
    }

    #[test]
    fn a_unix_socket_is_trusted_where_it_is_said() {
        let forwarded = || ["192.0.2.1"].into_iter();
        assert_eq!(trusted(&["10.0.0.0/8"]).expect("sound").client_address(None, forwarded()), None);
        let client = trusted(&["unix"]).expect("sound").client_address(None, forwarded());
        assert_eq!(client, "192.0.2.1".parse().ok());
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["10.0.0.0/33", "proxy.example", "", "10.0.0"] {
            assert!(trusted(&[text]).is_err_and(|fault| fault.contains(&format!("{text:?}"))));
        }
    }
}
