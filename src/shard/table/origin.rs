//! The origin rule, applied to requests of this server: Engine.IO and raw WebSocket alike.

use std::borrow::Cow;

use crate::base::log::ENGINEIO;
use crate::base::shown::Shown;
use crate::base::slab::Key;
use crate::message::peer::Door;
use crate::protocol::http::cors::{
    CorsOrigins, Decision, Grant, OriginView, RefusedOrigin, preflight, scan_head,
};
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::table::switching::joined;
use crate::shard::value::connection::Kind;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::kinds::RequestRefused;

impl Tables {
    /// Notes what the answer to a request says to the page that sent it, however late it comes and whoever gives it.
    pub(crate) fn note_origin(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) {
        let grant = head.headers.get("origin").filter(|_| self.door(key) == Door::Public).and_then(|_| {
            let origin = origin(head)?;
            let is_allowed = self.rule(endpoint).allows(&self.view(key, head, Some(&origin))) == Some(true);
            is_allowed.then(|| self.grant(endpoint, &origin)).flatten()
        });
        if let Some(http) = self.http_mut(key) {
            http.grant = grant;
        }
    }

    /// The same for a request whose head never became whole: the page may read why it was refused.
    #[cold]
    pub(crate) fn note_origin_of_partial(&mut self, key: Key, input: &[u8]) {
        let grant = scan_head(input).filter(|_| self.door(key) == Door::Public).and_then(|(path, origin)| {
            let endpoint = self.endpoint_at(path).unwrap_or(MAIN);
            let view = OriginView { origin: Some(origin), ..OriginView::default() };
            let is_allowed = self.rule(endpoint).allows(&view) == Some(true);
            is_allowed.then(|| self.grant(endpoint, origin)).flatten()
        });
        if let Some(http) = self.http_mut(key) {
            http.grant = grant;
        }
    }

    /// Notes for which host a request is.
    #[inline]
    pub(crate) fn note_host(&mut self, key: Key, head: &Head<'_, '_>) {
        if self.env.host_watch.is_foreign(head.host, self.env.now) && self.door(key) == Door::Public {
            self.warn_of_host(key, head);
        }
    }

    /// Whether a request may be for this host. The operators' listener has a rule of its own.
    pub(crate) fn allows_host(&self, key: Key, host: Option<&str>) -> bool {
        self.env.allowed_hosts.allows(host) || self.door(key) == Door::Admin
    }

    /// A server that only this machine can reach, and that checks no hosts, is asked for a name. A proxy that is known to pass
    /// requests on may do that.
    #[cold]
    fn warn_of_host(&mut self, key: Key, head: &Head<'_, '_>) {
        let peer = self.connections.get(key).and_then(|connection| connection.peer.ip());
        let is_forwarded =
            head.headers.get("x-forwarded-for").is_some() && self.env.trusted_proxies.trusts(peer);
        if peer.is_none() || is_forwarded {
            return;
        }
        self.env.host_watch.told(self.env.now);
        tracing::warn!(
            target: ENGINEIO,
            host = %Shown(head.host.unwrap_or_default()),
            "only this machine can reach this server, and a request is for another host: any page can have its name lead here (DNS \
             rebinding), and is then of this server's own origin. Put the names of this server in allowed_hosts, or, if any name \
             may be used, \"*\". Said once an hour"
        );
    }

    /// Whether the page that sent a request may talk to this server.
    pub(crate) fn check_origin(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
    ) -> Result<(), Box<RefusedOrigin>> {
        self.decide(key, endpoint, head, origin(head).as_deref())
    }

    /// Whether the page that loads an answer as a script may. Any page can load one, with its visitor's cookies and without
    /// an `Origin`: there the address of the page counts, and one that says none is refused.
    pub(crate) fn check_script_origin(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
    ) -> Result<(), Box<RefusedOrigin>> {
        let page = head.headers.get("referer").and_then(origin_of).unwrap_or("null");
        let origin = origin(head);
        self.decide(key, endpoint, head, Some(origin.as_deref().unwrap_or(page)))
    }

    /// Answers the question whether a page may send a request.
    pub(crate) fn answer_preflight(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) {
        let origin = origin(head);
        let response = match self.decide(key, endpoint, head, origin.as_deref()) {
            Err(refused) => {
                tracing::warn!(target: ENGINEIO, "{refused}");
                self.count_refused(RequestRefused::Origin);
                Response::new(Status::BAD_REQUEST)
            }
            Ok(()) if self.has_grant(key) => {
                let options = &self.endpoint(endpoint).options;
                let listed = Some(options.cors_allowed_headers.as_str()).filter(|names| !names.is_empty());
                let asked = head.headers.get("access-control-request-headers");
                let response = preflight(listed.or(asked));
                match options.cors_max_age.as_secs() {
                    0 => response,
                    seconds => response.header("Access-Control-Max-Age", seconds.to_string()),
                }
            }
            Ok(()) => Response::new(Status::NO_CONTENT),
        };
        self.respond(key, &response);
    }

    /// Whether the answer that a connection awaits names the origin that may read it.
    pub(crate) fn has_grant(&self, key: Key) -> bool {
        let kind = self.connections.get(key).map(|connection| &connection.kind);
        matches!(kind, Some(Kind::Http(http)) if http.grant.is_some())
    }

    /// Whether answers of an endpoint may differ by origin.
    pub(crate) fn heeds_origins(&self, endpoint: u8) -> bool {
        !matches!(self.rule(endpoint), CorsOrigins::Unchecked)
    }

    /// Whether this server speaks TLS on a connection.
    pub(crate) fn is_secure(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|connection| connection.is_secure)
    }

    fn rule(&self, endpoint: u8) -> &CorsOrigins {
        &self.endpoint(endpoint).options.cors_allowed_origins
    }

    fn grant(&self, endpoint: u8, origin: &str) -> Option<Box<Grant>> {
        Grant::new(origin, self.endpoint(endpoint).options.cors_credentials).map(Box::new)
    }

    fn decide(
        &self,
        key: Key,
        endpoint: u8,
        head: &Head<'_, '_>,
        origin: Option<&str>,
    ) -> Result<(), Box<RefusedOrigin>> {
        match self.rule(endpoint).decide(&self.view(key, head, origin)) {
            Decision::Refused(refused) => Err(Box::new(refused)),
            Decision::NoOrigin | Decision::Allowed => Ok(()),
        }
    }

    /// What the rule sees of a request. What a proxy says counts as far as its word does, as everywhere.
    fn view<'a>(&self, key: Key, head: &Head<'a, '_>, origin: Option<&'a str>) -> OriginView<'a> {
        let is_believed = self.believes(self.peer_of(key));
        let forwarded = |name| if is_believed { head.headers.get_utf8(name) } else { None };
        OriginView {
            origin,
            host: head.host,
            is_tls: self.is_secure(key),
            forwarded_proto: forwarded("x-forwarded-proto"),
            forwarded_host: forwarded("x-forwarded-host"),
        }
    }
}

/// The `Origin` of a request. Browsers send one; several are a list, which names no origin that could be allowed.
fn origin<'s>(head: &Head<'_, 's>) -> Option<Cow<'s, str>> {
    joined(head, "origin")
}

/// The origin of a page's address.
fn origin_of(address: &str) -> Option<&str> {
    let host_at = address.find("://")? + 3;
    let host_len = address.get(host_at..)?.find(['/', '?', '#']).unwrap_or(address.len() - host_at);
    address.get(..host_at + host_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_origin_of_its_address() {
        let rows = [
            ("https://a.example/page?x#y", Some("https://a.example")),
            ("http://a.example:81", Some("http://a.example:81")),
            ("http://a.example?x", Some("http://a.example")),
            ("about:blank", None),
            ("", None),
        ];
        for (address, expected) in rows {
            assert_eq!(origin_of(address), expected, "{address}");
        }
    }
}
