//! Behind a proxy: who the client is, by the PROXY protocol or by headers, as far as they can be believed.

use std::net::IpAddr;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::message::peer::{Arrival, Peer};
use crate::protocol::http::headers::Headers;
use crate::protocol::proxy::{self, ProxyHeader};
use crate::shard::table::Tables;
use crate::shard::value::connection::Step;
use crate::shard::value::effect::Deferred;
use crate::shard::value::kinds::ConnectionRefused;

impl Tables {
    /// A new connection that must begin with a header of the PROXY protocol, from a proxy that is trusted.
    pub(crate) fn open_proxied(&mut self, arrival: Arrival) -> Option<Key> {
        let peer = arrival.peer;
        if !self.env.trusted_proxies.trusts(peer.ip()) {
            tracing::info!(target: ENGINEIO, %peer, "closed: with proxy_protocol only trusted_proxies may connect");
            self.count_unproxied();
            return None;
        }
        let key = self.open_connection(arrival)?;
        self.count_opened(key);
        if let Some(http) = self.http_mut(key) {
            http.awaits_proxy = true;
        }
        Some(key)
    }

    /// Reads the header: from here on the connection is its client's.
    #[cold]
    pub(crate) fn consume_proxy_header(&mut self, key: Key, input: &[u8]) -> Step {
        let Some(connection) = self.connections.get_mut(key) else { return Step::Wait };
        match proxy::decode(input) {
            ProxyHeader::Incomplete => Step::Wait,
            ProxyHeader::Whole { len, source } => {
                if let Some(http) = connection.http_mut() {
                    http.awaits_proxy = false;
                }
                if let Some(source) = source {
                    connection.peer = Peer::tcp(source);
                    if !self.hold_or_refuse(key) {
                        self.effects.deferred.push(Deferred::Lost(key));
                        return Step::Used(input.len());
                    }
                }
                Step::Used(len)
            }
            ProxyHeader::Invalid => {
                let peer = connection.peer;
                tracing::info!(
                    target: ENGINEIO,
                    %peer,
                    "closed: no header of the PROXY protocol came first; have the proxy send it, or set proxy_protocol = false"
                );
                self.count_unproxied();
                self.effects.deferred.push(Deferred::Lost(key));
                Step::Used(input.len())
            }
        }
    }

    /// A connection came past the proxy, or without its word.
    fn count_unproxied(&self) {
        self.env.counters.connections_refused.add(1);
        self.meters().connections_refused.count(ConnectionRefused::Proxy);
    }

    /// The address of the client that a request is from.
    pub(crate) fn client_address(&self, peer: Peer, headers: Headers<'_, '_>) -> Option<IpAddr> {
        self.env.trusted_proxies.client_address(peer.ip(), headers.get_all("x-forwarded-for"))
    }

    /// Whether a peer's word counts on what a request was before it was passed on.
    pub(crate) fn believes(&self, peer: Peer) -> bool {
        match self.env.trusted_proxies.is_empty() {
            true => self.env.config.trust_forwarded,
            false => self.env.trusted_proxies.trusts(peer.ip()),
        }
    }
}
