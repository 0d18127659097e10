//! One row for each fault: what differs from a server that is well, and what is said of it.

use std::time::Duration;

use super::super::seen::{Asked, Idle, Seen, Talk};
use super::{Finding, Verdict, judge};
use crate::client::{Answer, Exchange, Failure, Secured};

const OPEN: &str = r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const OTHER: &str = r#"0{"sid":"xyz","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;
const BAD: &str = r#"{"code":3,"message":"Bad request"}"#;
const PAGE: &str = "https://page.example";

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Exchange {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Ok(Answer { status, headers, body: body.to_owned(), took: Duration::from_millis(2) })
}

fn nginx(status: u16, body: &str) -> Exchange {
    answer(status, &[("Server", "nginx/1.22.1")], body)
}

fn talk(status: u16, heard: Result<&str, Failure>) -> Talk {
    Talk { head: answer(status, &[], if status == 101 { "" } else { BAD }), heard: heard.map(str::to_owned) }
}

/// A server behind nginx at which all is well.
fn well() -> Seen {
    Seen {
        asked: Asked {
            is_secure: true,
            host: "app.example".to_owned(),
            path: "/socket.io/".to_owned(),
            namespace: "/".to_owned(),
            origin: Some(PAGE.to_owned()),
            own_origin: "https://app.example".to_owned(),
        },
        addresses: vec![("192.0.2.1:443".parse().unwrap(), Ok(Duration::from_millis(1)))],
        tls: Some(Ok(Secured {
            version: "TLSv1.3".to_owned(),
            alpn: Some("http/1.1".to_owned()),
            good_until: Some(1_000_000 + 60 * 86_400),
        })),
        opening: Some(answer(200, &[("Server", "nginx"), ("Date", "Mon, 12 Jan 1970 13:46:50 GMT")], OPEN)),
        opened_again: Some(answer(200, &[], OTHER)),
        older: Some(answer(400, &[], r#"{"code":5,"message":"Unsupported protocol version"}"#)),
        stranger: Some(answer(400, &[], UNKNOWN)),
        connect: vec![answer(200, &[], "ok"), answer(200, &[], r#"40{"sid":"def"}"#)],
        sticky: vec![answer(200, &[], "ok"); 8],
        large: Some((998_976, answer(200, &[], "ok"))),
        upgrade: Some(talk(101, Ok("3probe"))),
        websocket: Some(talk(101, Ok(OPEN))),
        idle_websocket: Some(Idle { waited: Duration::from_secs(25), pings: 1, end: None }),
        idle_poll: Some(answer(200, &[], "2")),
        preflight: Some(answer(204, &[("Access-Control-Allow-Origin", PAGE)], "")),
        crossing: Some(answer(200, &[("access-control-allow-origin", PAGE)], OPEN)),
        own: Some(answer(200, &[], OPEN)),
        now: 1_000_000,
        ..Seen::default()
    }
}

/// What is not well, and the line to change.
fn said(seen: &Seen) -> Vec<(&'static str, Verdict, String)> {
    let findings = judge(seen).into_iter().filter(|finding| finding.verdict != Verdict::Well);
    let line = |finding: &Finding| {
        let lines = finding.changes.iter().map(|change| format!("{}: {}", change.whose, change.line));
        lines.collect::<Vec<_>>().join("\n")
    };
    findings
        .map(|finding| (finding.part, finding.verdict, format!("{}\n{}", finding.saw, line(&finding))))
        .collect()
}

#[test]
fn nothing_is_said_against_a_server_that_is_well() {
    assert_eq!(said(&well()), []);
    assert_eq!(
        judge(&well()).len(),
        16,
        "each part is spoken of, but a cache and errors only if there is something"
    );
}

/// A name, what differs, the part, and words of what was seen and of the line.
type Row = (&'static str, fn(&mut Seen), &'static str, &'static [&'static str]);

fn hold(rows: &[Row], verdict: Verdict) {
    for (name, change, part, words) in rows {
        let mut seen = well();
        change(&mut seen);
        let said = said(&seen);
        let (own_part, own_verdict, text) = said.first().unwrap_or_else(|| panic!("{name}: nothing is said"));
        assert_eq!((own_part, *own_verdict), (part, verdict), "{name}: {said:?}");
        for word in *words {
            assert!(text.contains(word), "{name}: {word} is not in {text}");
        }
    }
}

const WAY_IN: &[Row] = &[
    (
        "no such name",
        |seen| {
            *seen = Seen { unresolved: Some("Name or service not known".to_owned()), ..Seen::default() };
            "app.example".clone_into(&mut seen.asked.host);
        },
        "name",
        &["app.example has no address", "DNS: an A or AAAA record"],
    ),
    (
        "nobody listens",
        |seen| {
            let refused = Err(Failure::Refused("192.0.2.1:443: Connection refused".to_owned()));
            *seen = Seen { addresses: vec![("192.0.2.1:443".parse().unwrap(), refused)], ..Seen::default() };
        },
        "connection",
        &["Connection refused", "bind = \"0.0.0.0:5000\""],
    ),
    (
        "an old certificate",
        |seen| seen.tls = Some(Err(Failure::Tls("invalid peer certificate: Expired".to_owned()))),
        "TLS",
        &["Expired", "certificate: renew it"],
    ),
    (
        "half a chain",
        |seen| seen.tls = Some(Err(Failure::Tls("invalid peer certificate: UnknownIssuer".to_owned()))),
        "TLS",
        &["fullchain.pem", "--ca FILE"],
    ),
    (
        "another name",
        |seen| {
            seen.tls = Some(Err(Failure::Tls("certificate not valid for name \"app.example\"".to_owned())))
        },
        "TLS",
        &["one that names app.example"],
    ),
    (
        "no TLS",
        |seen| {
            seen.tls =
                Some(Err(Failure::Tls("received corrupt message of type InvalidContentType".to_owned())))
        },
        "TLS",
        &["URL: http://app.example"],
    ),
    (
        "TLS, unasked",
        |seen| {
            seen.asked.is_secure = false;
            "http://app.example".clone_into(&mut seen.asked.own_origin);
            seen.tls = None;
            seen.opening = Some(Err(Failure::NotHttp("...".to_owned())));
        },
        "handshake",
        &["URL: https://app.example"],
    ),
    (
        "a proxy without a server",
        |seen| seen.opening = Some(nginx(502, "<html>Bad Gateway")),
        "handshake",
        &["502 by \"nginx/1.22.1\"", "upstream"],
    ),
    (
        "moved",
        |seen| seen.opening = Some(answer(301, &[("Location", "https://app.example/")], "")),
        "handshake",
        &["moved to https://app.example/", "stock clients do not follow"],
    ),
    (
        "no location",
        |seen| seen.opening = Some(nginx(404, "<html>Not Found")),
        "handshake",
        &["404", "location /socket.io/ {"],
    ),
    (
        "another path",
        |seen| {
            seen.opening = Some(answer(404, &[], ""));
            seen.elsewhere = vec!["/ws/".to_owned()];
        },
        "handshake",
        &["path: \"/ws/\""],
    ),
    (
        "a host that is not served",
        |seen| seen.opening = Some(answer(403, &[], "this host is not in allowed_hosts")),
        "handshake",
        &["allowed_hosts = [\"app.example\"]"],
    ),
    (
        "no polling",
        |seen| seen.opening = Some(answer(400, &[], r#"{"code":0,"message":"Transport unknown"}"#)),
        "handshake",
        &["polling = true"],
    ),
];

#[test]
fn each_fault_on_the_way_in_is_named_with_the_line_to_change() {
    hold(WAY_IN, Verdict::Fault);
}

const SESSIONS: &[Row] = &[
    (
        "a cache",
        |seen| seen.opened_again.clone_from(&seen.opening),
        "cache",
        &["one session", "proxy_cache off"],
    ),
    (
        "posts are refused",
        |seen| seen.connect = vec![nginx(405, "<html>")],
        "polling",
        &["a POST was answered 405", "limit_except"],
    ),
    (
        "the first request goes astray",
        |seen| seen.connect = vec![answer(400, &[], UNKNOWN)],
        "polling",
        &["another process has it", "ip_hash"],
    ),
    (
        "some requests go astray",
        |seen| seen.sticky[3] = answer(400, &[], UNKNOWN),
        "stickiness",
        &["1 of 8", "ip_hash", "balance source"],
    ),
    (
        "a small bound",
        |seen| seen.large = Some((998_976, nginx(413, "<html>"))),
        "large messages",
        &["998 kB", "client_max_body_size 1m;"],
    ),
    (
        "no upgrade",
        |seen| seen.upgrade = Some(talk(400, Err(Failure::Closed))),
        "upgrade",
        &["Bad request", "proxy_set_header Upgrade $http_upgrade;"],
    ),
    (
        "an upgrade that is swallowed",
        |seen| seen.upgrade = Some(talk(101, Err(Failure::Timeout))),
        "upgrade",
        &["no message comes through", "proxy_buffering off"],
    ),
    (
        "no WebSocket",
        |seen| seen.websocket = Some(talk(400, Err(Failure::Closed))),
        "WebSocket",
        &["Connection $connection_upgrade"],
    ),
    (
        "silence is cut",
        |seen| {
            let end = Some("it was closed".to_owned());
            seen.idle_websocket = Some(Idle { waited: Duration::from_secs(5), pings: 0, end });
        },
        "idle",
        &["after 5.0 s", "proxy_read_timeout 60s;", "timeout tunnel 1h"],
    ),
    (
        "a poll is cut",
        |seen| seen.idle_poll = Some(nginx(504, "<html>Gateway Time-out")),
        "idle",
        &["a poll that waited", "504"],
    ),
    (
        "no ping",
        |seen| seen.idle_websocket = Some(Idle { waited: Duration::from_secs(28), ..Idle::default() }),
        "idle",
        &["no ping of the server within 28 s"],
    ),
];

#[test]
fn each_fault_of_sessions_and_transports_is_named_with_the_line_to_change() {
    hold(SESSIONS, Verdict::Fault);
}

const PAGES: &[Row] = &[
    (
        "the scheme is lost",
        |seen| {
            seen.own = Some(answer(400, &[], BAD));
            seen.own_by_other_scheme = Some(answer(200, &[], OPEN));
        },
        "own pages",
        &["X-Forwarded-Proto $scheme"],
    ),
    ("the name is lost", |seen| seen.own = Some(answer(400, &[], BAD)), "own pages", &["Host $http_host"]),
    (
        "not in the list",
        |seen| seen.crossing = Some(answer(400, &[], BAD)),
        "other pages",
        &["cors_allowed_origins = \"https://page.example\""],
    ),
    (
        "two answer",
        |seen| {
            let both = [("access-control-allow-origin", PAGE), ("Access-Control-Allow-Origin", "*")];
            seen.crossing = Some(answer(200, &both, OPEN));
        },
        "other pages",
        &["https://page.example and *", "no add_header"],
    ),
    (
        "another one is named",
        |seen| {
            seen.crossing = Some(answer(200, &[("access-control-allow-origin", "https://a.example")], OPEN))
        },
        "other pages",
        &["allows https://a.example only"],
    ),
    (
        "no answer to OPTIONS",
        |seen| seen.preflight = Some(nginx(405, "")),
        "other pages",
        &["OPTIONS", "limit_except"],
    ),
];

#[test]
fn each_fault_of_pages_is_named_with_the_line_to_change() {
    hold(PAGES, Verdict::Fault);
}

const SURPRISES: &[Row] = &[
    (
        "an address that is not served",
        |seen| {
            let refused = Err(Failure::Refused("[2001:db8::1]:443: Connection refused".to_owned()));
            seen.addresses.push(("[2001:db8::1]:443".parse().unwrap(), refused));
        },
        "connection",
        &["not every address", "[::]:5000"],
    ),
    (
        "soon over",
        |seen| {
            seen.tls = Some(Ok(Secured { good_until: Some(1_000_000 + 3 * 86_400), ..Secured::default() }))
        },
        "TLS",
        &["ends in 3 days"],
    ),
    (
        "rare pings",
        |seen| seen.opening = Some(answer(200, &[], &OPEN.replace("25000", "90000"))),
        "handshake",
        &["ping_interval = \"25s\""],
    ),
    ("a clock", |seen| seen.now += 7_200, "clock", &["behind this machine's", "timedatectl"]),
    (
        "errors are replaced",
        |seen| seen.stranger = Some(nginx(400, "<html>Bad Request")),
        "errors",
        &["proxy_intercept_errors off"],
    ),
    (
        "a login",
        |seen| seen.connect[1] = answer(200, &[], r#"44{"message":"who are you?"}"#),
        "polling",
        &["\"who are you?\"", "--auth JSON"],
    ),
    (
        "no WebSockets at all",
        |seen| seen.opening = Some(answer(200, &[], &OPEN.replace("\"websocket\"", ""))),
        "upgrade",
        &["clients stay on polling", "allow_upgrades = true"],
    ),
];

#[test]
fn surprises_are_warnings() {
    hold(SURPRISES, Verdict::Warning);
}
