//! Sessions by polling: the handshake, versions, the clock, caches, the namespace, errors and stickiness.

use std::time::Duration;

use serde_json::Value;

use super::super::seen::{Open, Seen};
use super::way_in::{millis, no_endpoint};
use super::{Finding, is_from_gateway, no_server, shown};
use crate::client::Answer;

/// Many a proxy gives up on a connection that is silent for a minute.
const USUAL_IDLE: Duration = Duration::from_secs(60);
/// By this much two clocks may differ before logins that expire go wrong.
const CLOCK_SECONDS_MAX: u64 = 60;

fn open(seen: &Seen) -> Option<(&Answer, Open)> {
    let answer = seen.opening.as_ref()?.as_ref().ok()?;
    Some((answer, Open::decode(&answer.body)?))
}

pub(super) fn handshake(seen: &Seen) -> Option<Finding> {
    let Some((answer, open)) = open(seen) else { return no_endpoint(seen, "handshake") };
    let (interval, patience) = (open.ping_interval, open.ping_timeout);
    let saw = format!(
        "a session at {} in {}; a ping each {interval:?}, answered within {patience:?}",
        seen.asked.path,
        millis(answer.took)
    );
    if interval < USUAL_IDLE {
        return Some(Finding::well("handshake", saw));
    }
    let warning = Finding::warning("handshake", format!("{saw}: proxies cut what is silent for a minute"));
    Some(warning.change("shardcast", "ping_interval = \"25s\""))
}

pub(super) fn version(seen: &Seen) -> Option<Finding> {
    open(seen)?;
    let answer = seen.older.as_ref()?.as_ref().ok()?;
    Some(match (Open::decode(&answer.body), answer.code()) {
        (Some(_), _) => Finding::well("version", "clients of Socket.IO 1 to 4 are served"),
        (None, Some(5)) => Finding::well(
            "version",
            "clients of Socket.IO 3 and 4; older ones are refused (allow_eio3 would serve them)",
        ),
        (None, _) => {
            let saw = format!("clients of Socket.IO 3 and 4; older ones hear {}", shown(&Ok(answer.clone())));
            Finding::warning("version", saw).change("shardcast", "allow_eio3 = true, to serve them")
        }
    })
}

pub(super) fn clock(seen: &Seen) -> Option<Finding> {
    let date = open(seen)?.0.header("date")?;
    let theirs = httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let apart = theirs.abs_diff(seen.now);
    if apart <= CLOCK_SECONDS_MAX {
        return Some(Finding::well("clock", format!("within {CLOCK_SECONDS_MAX} s of this machine's")));
    }
    let word = if theirs > seen.now { "ahead of" } else { "behind" };
    let warning = Finding::warning(
        "clock",
        format!("{apart} s {word} this machine's: logins that expire, and certificates, go wrong"),
    );
    Some(warning.change("machines", "timedatectl set-ntp true, on whichever is wrong"))
}

/// Two handshakes are two sessions, unless something in between remembers answers.
pub(super) fn cache(seen: &Seen) -> Option<Finding> {
    let (_, first) = open(seen)?;
    let again = seen.opened_again.as_ref()?;
    let second = again.as_ref().ok().and_then(|answer| Open::decode(&answer.body));
    match second {
        Some(second) if second.sid == first.sid => {
            let fault =
                Finding::fault("cache", "two clients were given one session: answers are cached in between");
            Some(fault.proxies(
                "proxy_cache off; # in the location of the endpoint",
                "no http-request cache-use for it",
            ))
        }
        _ => None,
    }
}

pub(super) fn namespace(seen: &Seen) -> Option<Finding> {
    let (sent, polls) = seen.connect.split_first()?;
    let namespace = &seen.asked.namespace;
    let well = |took: Duration| {
        Finding::well("polling", format!("joined {namespace} by POST and GET, in {}", millis(took)))
    };
    if !matches!(sent, Ok(answer) if answer.status == 200) {
        return Some(refused_request(sent).unwrap_or_else(|| {
            let fault = Finding::fault("polling", format!("a POST was answered {}", shown(sent)));
            fault.proxies(
                "no limit_except, and no proxy_method, in the location",
                "no http-request deny for POST",
            )
        }));
    }
    let last = polls.last()?;
    let Ok(answer) = last else {
        let fault = Finding::fault("polling", format!("the poll for the answer: {}", shown(last)));
        return Some(fault.proxies("proxy_read_timeout 60s;", "timeout server 60s"));
    };
    let packet = answer.body.split('\u{1e}').find(|packet| packet.starts_with('4')).unwrap_or_default();
    match packet.get(..2) {
        Some("40") => Some(well(answer.took)),
        Some("44") => {
            let json = packet.find('{').and_then(|at| serde_json::from_str::<Value>(&packet[at..]).ok());
            let message = json.as_ref().and_then(|json| json.get("message")?.as_str()).unwrap_or(packet);
            let warning =
                Finding::warning("polling", format!("{namespace} refused this client: {message:?}"));
            Some(
                warning
                    .change("doctor", "--auth JSON or --header, as its connect handler asks; or --namespace"),
            )
        }
        _ => Some(refused_request(last).unwrap_or_else(|| {
            Finding::fault("polling", format!("no answer to joining {namespace}: {}", shown(last)))
                .change("server", "its log: does the connect handler wait for something?")
        })),
    }
}

/// An error that another part tells of better.
fn refused_request(exchange: &super::Exchange) -> Option<Finding> {
    let answer = exchange.as_ref().ok()?;
    if is_from_gateway(answer) {
        return Some(no_server("polling", exchange));
    }
    let saw = "the next request of a new session is refused: another process has it";
    (answer.code() == Some(1)).then(|| sticky_lines(Finding::fault("polling", saw)))
}

/// Errors must reach clients as the server wrote them, or clients do not know what to do.
pub(super) fn errors(seen: &Seen) -> Option<Finding> {
    let stranger = seen.stranger.as_ref()?;
    match stranger {
        Ok(answer) if answer.code() == Some(1) => None,
        Ok(answer) if answer.status == 200 => {
            let fault = Finding::fault("errors", "a session that nobody opened is answered 200");
            Some(fault.proxies("proxy_cache off;", "no http-request cache-use"))
        }
        _ => {
            let warning =
                Finding::warning("errors", format!("the server's error arrives as {}", shown(stranger)));
            Some(warning.proxies("proxy_intercept_errors off;", "no errorfile for 400"))
        }
    }
}

pub(super) fn stickiness(seen: &Seen) -> Option<Finding> {
    if seen.sticky.is_empty() {
        return None;
    }
    let all = seen.sticky.len();
    let lost = seen
        .sticky
        .iter()
        .filter(|exchange| matches!(exchange, Ok(answer) if answer.code() == Some(1)))
        .count();
    let failed = seen.sticky.iter().find(|exchange| !matches!(exchange, Ok(answer) if answer.status == 200));
    Some(match (lost, failed) {
        (0, None) => Finding::well(
            "stickiness",
            format!("{all} requests, each on a connection of its own, found their session"),
        ),
        (0, Some(failed)) => {
            Finding::fault("stickiness", format!("a request for an open session: {}", shown(failed)))
                .change("server", "its log has the reason")
        }
        _ => sticky_lines(Finding::fault(
            "stickiness",
            format!("{lost} of {all} requests for one session reached a process that does not have it"),
        )),
    })
}

fn sticky_lines(fault: Finding) -> Finding {
    fault
        .proxies("ip_hash; # in upstream, before its servers", "balance source")
        .change("client", "transports: [\"websocket\"], which is one request")
}
