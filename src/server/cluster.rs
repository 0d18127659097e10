//! Variables that Kubernetes puts into every pod, one set for each Service: a Service called `shardcast`, or `shardcast-chat`,
//! makes names that begin like this server's settings.
//!
//! Told by the form of both name and value, so that a misspelt setting is still an error.

use std::net::IpAddr;

/// Whether a variable is one of a Service's. `rest` is its name after `SHARDCAST_`.
pub(super) fn is_of_a_service(rest: &str, value: &str) -> bool {
    let parts: Vec<&str> = rest.split('_').collect();
    (0..parts.len()).any(|at| is_tail(&parts[at..], value))
}

/// What follows the Service's name.
fn is_tail(parts: &[&str], value: &str) -> bool {
    match parts {
        ["SERVICE", "HOST"] => is_address(value),
        ["SERVICE", "PORT"] => is_port(value),
        // A port with a name: SHARDCAST_SERVICE_PORT_HTTP.
        ["SERVICE", "PORT", name @ ..] => name.iter().all(|part| !part.is_empty()) && is_port(value),
        // What Docker's links were like.
        ["PORT"] => is_url(value),
        ["PORT", port, protocol, field @ ..] if is_port(port) && is_protocol(protocol) => match field {
            [] => is_url(value),
            ["PROTO"] => is_protocol(value),
            ["PORT"] => is_port(value),
            ["ADDR"] => is_address(value),
            _ => false,
        },
        _ => false,
    }
}

fn is_protocol(text: &str) -> bool {
    ["tcp", "udp", "sctp"].iter().any(|known| text.eq_ignore_ascii_case(known))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_address(text: &str) -> bool {
    text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// `tcp://10.0.0.1:5000`; an address of IPv6 stands in brackets.
fn is_url(text: &str) -> bool {
    let Some((protocol, place)) = text.split_once("://") else { return false };
    let Some((address, port)) = place.rsplit_once(':') else { return false };
    is_protocol(protocol) && is_address(address) && is_port(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_are_told_by_name_and_value() {
        let rows = [
            ("SERVICE_HOST", "10.96.3.7", true),
            ("SERVICE_HOST", "fd00::7", true),
            ("SERVICE_PORT", "5000", true),
            ("SERVICE_PORT_HTTP", "5000", true),
            ("SERVICE_PORT_WEB_SOCKET", "5000", true),
            ("PORT", "tcp://10.96.3.7:5000", true),
            ("PORT", "tcp://[fd00::7]:5000", true),
            ("PORT_5000_TCP", "tcp://10.96.3.7:5000", true),
            ("PORT_5000_TCP_PROTO", "tcp", true),
            ("PORT_5000_TCP_PORT", "5000", true),
            ("PORT_5000_TCP_ADDR", "10.96.3.7", true),
            ("PORT_5000_UDP_ADDR", "10.96.3.7", true),
            ("CHAT_SERVICE_HOST", "10.96.3.7", true),
            ("CHAT_SERVICE_PORT", "80", true),
            ("CHAT_SERVICE_PORT_HTTP", "80", true),
            ("CHAT_PORT", "tcp://10.96.3.7:80", true),
            ("CHAT_EU_1_PORT_80_TCP_ADDR", "10.96.3.7", true),
            ("BIND_PORT_80_SCTP", "sctp://10.96.3.7:80", true),
            ("PORT", "5000", false),
            ("PORT", "0.0.0.0:5000", false),
            ("PORT", "http://10.96.3.7:5000", false),
            ("SERVICE_HOST", "example.com", false),
            ("SERVICE_PORT", "http", false),
            ("SERVICE_PORT", "70000", false),
            ("PORT_5000_TCP_ADDR", "localhost", false),
            ("PORT_HTTP_TCP_ADDR", "10.96.3.7", false),
            ("SERVICE", "10.96.3.7", false),
            ("HOST", "10.96.3.7", false),
            ("PING_INTERVALL", "25", false),
            ("BINDS", "127.0.0.1:5000", false),
        ];
        for (name, value, expected) in rows {
            assert_eq!(is_of_a_service(name, value), expected, "{name}={value}");
        }
    }
}
