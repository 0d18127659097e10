//! Pages: the server's own, and those of other origins.

use super::super::seen::{Open, Seen};
use super::{Finding, shown};
use crate::client::{Answer, Exchange};

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

fn is_open(exchange: Option<&Exchange>) -> bool {
    matches!(exchange, Some(Ok(answer)) if Open::decode(&answer.body).is_some())
}

/// A page that the server itself, or the proxy, delivers.
pub(super) fn own(seen: &Seen) -> Option<Finding> {
    let own = seen.own.as_ref()?;
    let origin = &seen.asked.own_origin;
    if is_open(Some(own)) {
        return Some(Finding::well("own pages", format!("pages of {origin} are served")));
    }
    let fault = Finding::fault("own pages", format!("pages of {origin} are refused: {}", shown(own)));
    let fault = if is_open(seen.own_by_other_scheme.as_ref()) {
        fault.proxies(
            "proxy_set_header X-Forwarded-Proto $scheme;",
            "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        )
    } else {
        fault.proxies("proxy_set_header Host $http_host;", "no http-request set-header Host")
    };
    Some(
        fault.change(
            "shardcast",
            format!("cors_allowed_origins = \"{origin}\", if the proxy cannot be changed"),
        ),
    )
}

/// A page of another origin, if one was named.
pub(super) fn crossing(seen: &Seen) -> Option<Finding> {
    let origin = seen.asked.origin.as_ref()?;
    let crossing = seen.crossing.as_ref()?;
    let Ok(answer) = crossing else {
        return Some(Finding::fault("other pages", shown(crossing)).change("server", "its log"));
    };
    let allowed: Vec<_> =
        answer.all(ALLOW_ORIGIN).into_iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    let setting = format!("cors_allowed_origins = \"{origin}\"");
    if allowed.len() > 1 {
        let saw =
            format!("two answer for other origins, and browsers refuse that: {}", allowed.join(" and "));
        return Some(
            Finding::fault("other pages", saw)
                .change("nginx", "no add_header Access-Control-Allow-Origin: the server sends it")
                .change("shardcast", setting),
        );
    }
    if answer.code() == Some(3) || answer.code() == Some(4) {
        return Some(
            Finding::fault("other pages", format!("pages of {origin} are refused"))
                .change("shardcast", setting),
        );
    }
    let is_named =
        |allowed: &[&str]| allowed.first().is_some_and(|allowed| *allowed == "*" || *allowed == origin);
    if !is_named(&allowed) {
        let saw = match allowed.first() {
            Some(other) => format!("the answer to {origin} allows {other} only"),
            None => format!("the answer to {origin} has no Access-Control-Allow-Origin: {}", shown(crossing)),
        };
        return Some(
            Finding::fault("other pages", saw)
                .change("shardcast", setting)
                .change("nginx", "no proxy_hide_header of it"),
        );
    }
    if let Some(fault) = preflight_fault(seen, origin, &is_named) {
        return Some(fault);
    }
    let credentials = if lets_credentials(answer) { ", with cookies" } else { ", without cookies" };
    Some(Finding::well("other pages", format!("pages of {origin} are served{credentials}")))
}

fn lets_credentials(answer: &Answer) -> bool {
    answer.header("access-control-allow-credentials") == Some("true")
}

fn preflight_fault(seen: &Seen, origin: &str, is_named: &dyn Fn(&[&str]) -> bool) -> Option<Finding> {
    let preflight = seen.preflight.as_ref()?;
    let allowed: Vec<_> = preflight.iter().flat_map(|answer| answer.all(ALLOW_ORIGIN)).collect();
    let is_well = matches!(preflight, Ok(answer) if matches!(answer.status, 200..=299)) && is_named(&allowed);
    (!is_well).then(|| {
        Finding::fault(
            "other pages",
            format!("the browser's question before a request (OPTIONS) of {origin}: {}", shown(preflight)),
        )
        .proxies(
            "no limit_except, and no return for OPTIONS, in the location",
            "no http-request deny for OPTIONS",
        )
        .change("shardcast", "cors_allowed_headers: empty, or with the headers that pages send")
    })
}
