//! From the name to the first answer: name, connection, TLS, and who stands in front.

use super::super::seen::Seen;
use super::{Finding, no_server};
use crate::client::Failure;

/// Days before its end at which a certificate should have been renewed: two thirds of the usual ninety are over by then.
const RENEWAL_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 86_400;

pub(super) fn name(seen: &Seen) -> Option<Finding> {
    let host = &seen.asked.host;
    if let Some(why) = &seen.unresolved {
        let fault = Finding::fault("name", format!("{host} has no address: {why}"));
        return Some(
            fault.change("DNS", format!("an A or AAAA record for {host}, or another name in the URL")),
        );
    }
    let addresses: Vec<_> = seen.addresses.iter().map(|(address, _)| address.ip().to_string()).collect();
    Some(Finding::well("name", format!("{host} is {}", addresses.join(", "))))
}

pub(super) fn connection(seen: &Seen) -> Option<Finding> {
    let (open, shut): (Vec<_>, Vec<_>) = seen.addresses.iter().partition(|(_, taken)| taken.is_ok());
    let whys: Vec<_> =
        shut.iter().filter_map(|(_, taken)| taken.as_ref().err().map(ToString::to_string)).collect();
    let whys = whys.join("; ");
    let Some((address, Ok(took))) = open.first() else {
        return (!seen.addresses.is_empty()).then(|| {
            Finding::fault("connection", whys)
                .change(
                    "server",
                    "start it; see by `ss -ltn` where it listens. 127.0.0.1 is for its own machine only",
                )
                .change("shardcast", "bind = \"0.0.0.0:5000\", to be reached from other machines")
                .change("firewall", "let the port in")
        });
    };
    if shut.is_empty() {
        return Some(Finding::well("connection", format!("{address} accepts, in {}", millis(*took))));
    }
    let saw = format!("{address} accepts, but not every address of the name: {whys}");
    Some(
        Finding::warning("connection", saw)
            .change("DNS", "only addresses that are served, or bind those as well: \"[::]:5000\""),
    )
}

pub(super) fn tls(seen: &Seen) -> Option<Finding> {
    let secured = match seen.tls.as_ref()? {
        Ok(secured) => secured,
        Err(failure) => return Some(tls_fault(seen, failure)),
    };
    let alpn = secured.alpn.as_deref().unwrap_or("no ALPN");
    let days = secured.good_until.map(|until| (until - seen.now as i64) / DAY_SECONDS);
    let saw =
        format!("{}, {alpn}; the certificate is of a known authority, and for this name", secured.version);
    Some(match days {
        Some(days) if days < RENEWAL_DAYS => Finding::warning(
            "TLS",
            format!("the certificate ends in {days} days"),
        )
        .change("certificate", "renew it, and have the renewal tell the server: certbot's --deploy-hook"),
        Some(days) => Finding::well("TLS", format!("{saw}; good for {days} days")),
        None => Finding::well("TLS", saw),
    })
}

fn tls_fault(seen: &Seen, failure: &Failure) -> Finding {
    let words = failure.to_string();
    let fault = Finding::fault("TLS", words.clone());
    let has = |part: &str| words.to_ascii_lowercase().contains(part);
    if has("expired") || has("not valid yet") {
        fault.change("certificate", "renew it, and see that both machines' clocks are right")
    } else if has("unknownissuer") || has("unknown issuer") {
        fault
            .change("nginx", "ssl_certificate fullchain.pem; # the whole chain, not the certificate alone")
            .change("doctor", "--ca FILE, if the authority is one of your own")
    } else if has("not valid for name") || has("notvalidforname") {
        fault.change("certificate", format!("one that names {}", seen.asked.host))
    } else if has("invalidcontenttype") || has("corrupt message") || has("closed before") || has("eof") {
        let host = seen.asked.own_origin.replacen("https://", "http://", 1);
        fault.change("URL", format!("{host}, if that port has no TLS")).change("nginx", "listen 443 ssl;")
    } else {
        fault.change("nginx", "ssl_protocols TLSv1.2 TLSv1.3;")
    }
}

/// Who stands in front, by what answers say. Whoever speaks for a server that is away is told of at the handshake.
pub(super) fn proxy(seen: &Seen) -> Option<Finding> {
    let answer = seen.opening.as_ref()?.as_ref().ok()?;
    let names = ["server", "via", "x-served-by", "cf-ray", "x-amz-cf-id", "x-envoy-upstream-service-time"];
    let found: Vec<_> =
        names.iter().filter_map(|name| answer.header(name).map(|value| format!("{name}: {value}"))).collect();
    Some(match found.as_slice() {
        [] => Finding::well("proxy", "none that says its name"),
        found => Finding::well("proxy", found.join(", ")),
    })
}

/// What is said of a first answer that is no open packet.
pub(super) fn no_endpoint(seen: &Seen, part: &'static str) -> Option<Finding> {
    let opening = seen.opening.as_ref()?;
    let answer = match opening {
        Ok(answer) => answer,
        Err(Failure::NotHttp(_) | Failure::Closed) if !seen.asked.is_secure => {
            let secure = seen.asked.own_origin.replacen("http://", "https://", 1);
            let fault = Finding::fault(part, super::shown(opening));
            return Some(fault.change("URL", format!("{secure}, if that port speaks TLS")));
        }
        Err(_) => {
            return Some(
                Finding::fault(part, super::shown(opening))
                    .change("server", "its log; is it overloaded, or stopped?"),
            );
        }
    };
    let fault = Finding::fault(part, super::shown(opening));
    if super::is_from_gateway(answer) {
        return Some(no_server(part, opening));
    }
    Some(match (answer.status, answer.code()) {
        (301..=308, _) => {
            let to = answer.header("location").unwrap_or("elsewhere");
            let fault = Finding::fault(part, format!("{}: moved to {to}", answer.status));
            fault.change("client", format!("connect there: {to}; stock clients do not follow"))
        }
        (400, _) if answer.body.contains("HTTPS port") || answer.body.contains("TLS to a plain") => {
            fault.change("URL", "https://")
        }
        (400, Some(0)) => {
            fault.change("shardcast", "polling = true; or, in the client, transports: [\"websocket\"]")
        }
        (400, Some(3)) => fault.change("shardcast", "cors_allowed_origins: the log has the line for it"),
        (400, Some(5)) => fault.change("URL", "is this a Socket.IO server of version 3 or later?"),
        (401 | 403, _) => fault
            .change(
                "shardcast",
                format!("allowed_hosts = [\"{}\"], or what allow_request asks for", seen.asked.host),
            )
            .change("doctor", "--header 'Cookie: ..' or --header 'Authorization: ..'"),
        (404, _) => elsewhere(seen, fault),
        (429 | 503, _) => fault.change(
            "shardcast",
            "sessions_max, handshakes_per_second_max, connections_per_address_max: the log has the one",
        ),
        _ => elsewhere(seen, fault),
    })
}

fn elsewhere(seen: &Seen, fault: Finding) -> Finding {
    let path = &seen.asked.path;
    match seen.elsewhere.first() {
        Some(found) => fault
            .change("client", format!("path: \"{found}\": an endpoint is there"))
            .change("shardcast", format!("path = \"{}\"", path.trim_matches('/'))),
        None => fault
            .proxies(
                format!("location {path} {{ proxy_pass http://app; }} # no path behind http://app"),
                format!("use_backend app if {{ path_beg {path} }}"),
            )
            .change("client", "the option path, if the endpoint is elsewhere; here --path"),
    }
}

pub(super) fn millis(took: std::time::Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}
