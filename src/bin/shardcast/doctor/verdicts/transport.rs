//! What connections carry: large messages, the upgrade, WebSockets, compression, and silence.

use super::super::seen::{Open, Seen, Talk};
use super::{Finding, is_from_gateway, no_server, shown};
use crate::client::Exchange;

pub(super) fn large(seen: &Seen) -> Option<Finding> {
    let (len, exchange) = seen.large.as_ref()?;
    let kilobytes = len / 1000;
    match exchange {
        Ok(answer) if answer.status == 200 => Some(Finding::well(
            "large messages",
            format!("a POST of {kilobytes} kB, as large as the server takes, arrived"),
        )),
        Ok(answer) if is_from_gateway(answer) => Some(no_server("large messages", exchange)),
        _ => {
            let saw = format!(
                "a POST of {kilobytes} kB, which the server takes, was refused on its way: {}",
                shown(exchange)
            );
            let fault = Finding::fault("large messages", saw);
            let megabytes = len / 1_000_000 + 1;
            Some(
                fault
                    .proxies(
                        format!("client_max_body_size {megabytes}m;"),
                        "tune.bufsize does not bound bodies; look for http-request deny",
                    )
                    .change("shardcast", "max_http_buffer_size, if clients should hear the smaller bound"),
            )
        }
    }
}

pub(super) fn upgrade(seen: &Seen) -> Option<Finding> {
    let opening = seen.opening.as_ref()?.as_ref().ok()?;
    let offered = Open::decode(&opening.body)?.upgrades;
    if !offered.iter().any(|name| name == "websocket") {
        let warning = Finding::warning("upgrade", "the server offers none: clients stay on polling");
        return Some(warning.change("shardcast", "websocket = true, allow_upgrades = true"));
    }
    let talk = seen.upgrade.as_ref()?;
    Some(match (&talk.head, &talk.heard) {
        (Ok(answer), Ok(text)) if answer.status == 101 && text == "3probe" => {
            Finding::well("upgrade", "a polling session went on by WebSocket")
        }
        (Ok(answer), heard) if answer.status == 101 => {
            silent("upgrade", heard.as_ref().map_or_else(ToString::to_string, |text| format!("{text:?}")))
        }
        (head, _) => not_upgraded("upgrade", head),
    })
}

pub(super) fn websocket(seen: &Seen) -> Option<Finding> {
    let Talk { head, heard } = seen.websocket.as_ref()?;
    Some(match (head, heard) {
        (Ok(answer), Ok(text)) if answer.status == 101 && Open::decode(text).is_some() => {
            Finding::well("WebSocket", "a session without polling")
        }
        (Ok(answer), heard) if answer.status == 101 => {
            silent("WebSocket", heard.as_ref().map_or_else(ToString::to_string, |text| format!("{text:?}")))
        }
        (head, _) => not_upgraded("WebSocket", head),
    })
}

/// Open, and nothing comes through.
fn silent(part: &'static str, heard: String) -> Finding {
    Finding::fault(part, format!("it opens, and then no message comes through: {heard}")).proxies(
        "proxy_buffering off; # and no module that holds answers back",
        "no option http-buffer-request, no filter in front of it",
    )
}

fn not_upgraded(part: &'static str, head: &Exchange) -> Finding {
    let fault = Finding::fault(part, format!("the request for a WebSocket: {}", shown(head)));
    let Ok(answer) = head else { return fault.proxies("proxy_read_timeout 60s;", "timeout tunnel 1h") };
    if is_from_gateway(answer) {
        return no_server(part, head);
    }
    match answer.code() {
        Some(0) => fault.change("shardcast", "websocket = true"),
        Some(1) => fault.proxies("ip_hash; # in upstream, before its servers", "balance source"),
        Some(3) | None => fault
            .change("nginx", "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;")
            .change("HAProxy", "mode http passes it on; look for http-request del-header")
            .change("load balancer", "one that speaks HTTP/1.1 and WebSocket to the server"),
        Some(_) => fault.change("server", "its log has the reason"),
    }
}

pub(super) fn compression(seen: &Seen) -> Option<Finding> {
    let answer = seen.websocket.as_ref()?.head.as_ref().ok().filter(|answer| answer.status == 101)?;
    Some(match answer.header("sec-websocket-extensions") {
        Some(extensions) if extensions.contains("permessage-deflate") => Finding::well(
            "compression",
            "messages are compressed by WebSocket: it costs memory and time for each client",
        ),
        _ => Finding::well(
            "compression",
            "messages are not compressed by WebSocket, as is best for short ones",
        ),
    })
}

pub(super) fn idle(seen: &Seen) -> Option<Finding> {
    let idle = seen.idle_websocket.as_ref()?;
    let interval =
        seen.opening.as_ref()?.as_ref().ok().and_then(|answer| Open::decode(&answer.body))?.ping_interval;
    let lines = |fault: Finding| {
        let seconds = interval.as_secs() + 35;
        fault
            .proxies(
                format!("proxy_read_timeout {seconds}s; # above ping_interval, {interval:?}"),
                format!("timeout tunnel 1h; timeout server {seconds}s"),
            )
            .change("shardcast", format!("ping_interval below that, instead of {interval:?}"))
    };
    if let Some(end) = &idle.end {
        return Some(lines(Finding::fault(
            "idle",
            format!("a silent WebSocket ended after {:.1} s: {end}", idle.waited.as_secs_f64()),
        )));
    }
    if let Some(poll) = &seen.idle_poll {
        let is_held = match poll {
            Ok(answer) => answer.status == 200,
            Err(failure) => *failure == crate::client::Failure::Timeout,
        };
        if !is_held {
            return Some(lines(Finding::fault(
                "idle",
                format!("a poll that waited for the server was ended: {}", shown(poll)),
            )));
        }
    }
    if idle.pings > 0 {
        return Some(Finding::well(
            "idle",
            format!(
                "the server's ping came after {:.1} s of silence, by WebSocket and by polling",
                idle.waited.as_secs_f64()
            ),
        ));
    }
    let waited = idle.waited.as_secs();
    if idle.waited < interval {
        return Some(Finding::well(
            "idle",
            format!(
                "silent connections stay for {waited} s; --idle {interval:?} waits for the server's ping"
            ),
        ));
    }
    Some(
        Finding::fault(
            "idle",
            format!("no ping of the server within {waited} s, though it should ping each {interval:?}"),
        )
        .change("server", "its log: is a handler holding its shard?"),
    )
}
