//! Who may ask on the operators' listener. Asked before every path of it.
//!
//! Three questions, in this order. Is the request for a host that no page can have taken over (DNS rebinding)? Only where no
//! credentials are set: a page has none. Does it come from a page of another origin? Browsers send remembered passwords along, and
//! can send some requests anywhere. Does it bear the credentials? The probes' paths need none, and the HTTP
//! API asks for its own.

use std::sync::Arc;

use crate::base::shown::Shown;
use crate::config::Config;
use crate::message::peer::Peer;
use crate::protocol::http::authorization::{Authorization, is_same_secret};
use crate::protocol::http::hosts::is_own;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::server::admin::{AdminRoutes, Desk};
use crate::shard::user::request::Request;
use crate::shard::user::site::Check;
use crate::shard::user::streamed::Streamed;

pub(super) fn guard(routes: &mut AdminRoutes, desk: &Desk) {
    let (open, open_below, desk) = (routes.open.clone(), routes.open_below, desk.clone());
    let check = move |request: &Request<'_>| {
        // The path as it was sent, by which the routes are found, too: what is written otherwise is not below it.
        let is_below = open_below.is_some_and(|prefix| request.path().starts_with(prefix));
        let refusal = refusal(request, &desk.config(), is_below || open.contains(&request.path()))?;
        Some(Streamed::whole(refusal.header("cache-control", "no-store")))
    };
    routes.before_all(Check::Now(Arc::new(check)));
}

fn refusal(request: &Request<'_>, config: &Config, is_open: bool) -> Option<Response> {
    let host = request.headers().get("host").unwrap_or_default();
    let is_named = request.peer != Peer::Unix && !host.is_empty() && !is_own(host);
    if is_named && !config.has_admin_credentials() {
        tracing::warn!(
            host = %Shown(host),
            "refused on admin_bind: without credentials it answers to addresses and localhost only, because a page can have a name of \
             its own lead here (DNS rebinding); set admin_token, or ask by the address"
        );
        return Some(forbidden("ask by address or as localhost, or set admin_token: see the log\n"));
    }
    if let Some(origin) = request.headers().get("origin")
        && origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host))
    {
        tracing::warn!(origin = %Shown(origin), "refused on admin_bind: a page of another origin asked");
        return Some(forbidden("pages of other origins may not ask here\n"));
    }
    if is_open || !config.has_admin_credentials() {
        return None;
    }
    let given = request.headers().get("authorization").map(Authorization::parse);
    match given {
        Some(given) if is_right(&given, config) => None,
        given => {
            if given.is_some() {
                tracing::warn!(peer = %request.peer, path = %Shown(request.path()), "refused on admin_bind: wrong credentials");
            }
            Some(challenge(config))
        }
    }
}

fn is_right(given: &Authorization, config: &Config) -> bool {
    match given {
        Authorization::Bearer(token) => {
            let expected = config.admin_token.reveal();
            !expected.is_empty() && is_same_secret(token, expected)
        }
        Authorization::Basic { user, password } => {
            let expected = config.admin_password.reveal();
            // Both are compared, whatever the first says.
            let is_user = is_same_secret(user, &config.admin_user);
            !expected.is_empty() & is_user & is_same_secret(password, expected)
        }
        Authorization::Other => false,
    }
}

/// 401 with what may be sent (RFC 9110 §11.6.1).
fn challenge(config: &Config) -> Response {
    let mut response = Response::text("credentials are needed\n").with_status(Status::UNAUTHORIZED);
    if !config.admin_password.is_empty() {
        response = response.header("www-authenticate", "Basic realm=\"shardcast\", charset=\"UTF-8\"");
    }
    if !config.admin_token.is_empty() {
        response = response.header("www-authenticate", "Bearer realm=\"shardcast\"");
    }
    response
}

fn forbidden(words: &'static str) -> Response {
    Response::text(words).with_status(Status::FORBIDDEN)
}
