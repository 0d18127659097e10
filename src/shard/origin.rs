//! The origin rule, applied to requests of this server: Engine.IO and raw WebSocket alike.

use smallvec::SmallVec;

use crate::base::slab::Key;
use crate::protocol::http::cors::{Decision, OriginView, RefusedOrigin, allowed_headers, preflight};
use crate::protocol::http::head::Head;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::core::Core;

impl Core {
    /// Whether the page that sent a request may talk to this server.
    pub(crate) fn check_origin(&self, endpoint: u8, head: &Head<'_, '_>) -> Result<(), Box<RefusedOrigin>> {
        match self.decide_origin(endpoint, head) {
            Decision::Refused(refused) => Err(Box::new(refused)),
            Decision::NoOrigin | Decision::Allowed => Ok(()),
        }
    }

    /// Whether the page that loads an answer as a script may. Any page can load one, with its visitor's cookies and without
    /// an `Origin`: there the address of the page counts, and one that says none is refused.
    pub(crate) fn check_script_origin(
        &self,
        endpoint: u8,
        head: &Head<'_, '_>,
    ) -> Result<(), Box<RefusedOrigin>> {
        let page = head.headers.get("referer").and_then(origin_of).unwrap_or("null");
        let origin = head.headers.get("origin").unwrap_or(page);
        match self.decide(endpoint, head, Some(origin)) {
            Decision::Refused(refused) => Err(Box::new(refused)),
            Decision::NoOrigin | Decision::Allowed => Ok(()),
        }
    }

    /// The headers that an answer to an allowed origin carries.
    pub(crate) fn cors_headers(
        &self,
        endpoint: u8,
        head: &Head<'_, '_>,
    ) -> SmallVec<[(&'static str, String); 3]> {
        match (self.decide_origin(endpoint, head), head.headers.get("origin")) {
            (Decision::Allowed, Some(origin)) => {
                allowed_headers(origin, self.endpoint(endpoint).options.cors_credentials)
                    .map(|(name, value)| (name, value.to_owned()))
                    .collect()
            }
            _ => SmallVec::new(),
        }
    }

    pub(crate) fn with_cors(&self, endpoint: u8, head: &Head<'_, '_>, response: Response) -> Response {
        if head.headers.get("origin").is_none() {
            return response;
        }
        self.cors_headers(endpoint, head)
            .into_iter()
            .fold(response, |response, (name, value)| response.header(name, value))
    }

    /// Answers the question whether a page may send a request.
    pub(crate) fn answer_preflight(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) {
        let response = match (self.decide_origin(endpoint, head), head.headers.get("origin")) {
            (Decision::Allowed, Some(origin)) => {
                let options = &self.endpoint(endpoint).options;
                let listed = Some(options.cors_allowed_headers.as_str()).filter(|names| !names.is_empty());
                let asked = head.headers.get("access-control-request-headers");
                let response = preflight(origin, options.cors_credentials, listed.or(asked));
                match options.cors_max_age.as_secs() {
                    0 => response,
                    seconds => response.header("Access-Control-Max-Age", seconds.to_string()),
                }
            }
            (Decision::Refused(refused), _) => {
                tracing::warn!(target: super::ENGINEIO, "{refused}");
                self.counters.requests_refused.add(1);
                Response::new(Status::BAD_REQUEST)
            }
            _ => Response::new(Status::NO_CONTENT),
        };
        self.respond(key, &response);
    }

    fn decide_origin(&self, endpoint: u8, head: &Head<'_, '_>) -> Decision {
        self.decide(endpoint, head, head.headers.get("origin"))
    }

    fn decide(&self, endpoint: u8, head: &Head<'_, '_>, origin: Option<&str>) -> Decision {
        let forwarded = |name| if self.config.trust_forwarded { head.headers.get_utf8(name) } else { None };
        self.endpoint(endpoint).options.cors_allowed_origins.decide(&OriginView {
            origin,
            host: head.host,
            is_tls: false,
            forwarded_proto: forwarded("x-forwarded-proto"),
            forwarded_host: forwarded("x-forwarded-host"),
        })
    }
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
