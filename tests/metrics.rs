//! `/metrics` of a running server with several shards, endpoints and namespaces, on both wires: exact numbers after clients came, spoke,
//! were refused, were slow and left. Prometheus' own tools read the page, the rules and the dashboard.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

mod wire;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::{Config, Context, Io, Refused, RunningServer, Server, Socket, sleep};
use wire::{Client, PATIENCE, until};

/// More than the kernel takes for a client that does not read.
const FLOOD_BYTES: usize = 32 * 1024 * 1024;

/// One flood fits, and two do not.
const OUTBOX_BYTES_MAX: usize = 40 * 1024 * 1024;

const SECOND: &str = "/second/";

fn start(io: Io) -> RunningServer {
    let mut config = Config {
        io,
        shards: 3,
        bind: vec!["127.0.0.1:0".to_owned()],
        admin_bind: "127.0.0.1:0".to_owned(),
        recovery_max_disconnection: Duration::from_secs(300),
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        // Writing down where a handler has panicked takes a busy machine long.
        lag_max: Duration::ZERO,
        ..Config::default()
    };
    config.engine.allow_eio3 = true;
    config.engine.ping_interval = Duration::from_millis(500);
    config.engine.ping_timeout = Duration::from_secs(300);
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on("join", |cx: &mut Context, room: String| {
                cx.join(&room);
                true
            });
            io.on("add", |_: &mut Context, a: u64, b: u64| a + b);
            io.on_async("later", |_: Socket, millis: u64| async move {
                sleep(Duration::from_millis(millis)).await;
                millis
            });
            io.on("panic", |_: &mut Context| {
                if true {
                    panic!("as the test asks for");
                }
            });
            io.on("shout", |cx: &mut Context, room: String| {
                cx.to(&room).emit("shouted", 1);
            });
            io.on("flood", |cx: &mut Context, room: String| {
                cx.to(&room).emit("water", "x".repeat(FLOOD_BYTES));
            });
            io.on("drip", |cx: &mut Context, room: String| {
                cx.to(&room).volatile().emit("drop", 1);
                true
            });
        })
        .namespace("/closed", |io| {
            io.on_connect(|_: &mut Context| Err::<(), _>(Refused::new("closed")));
        })
        .endpoint(SECOND, |endpoint| {
            endpoint.namespace("/", |_| {});
        });
    server.start().expect("the server starts")
}

/// Sends a request, and reads the answer's status and body.
fn ask(address: &str, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer arrives and ends");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn get(address: &str, path: &str, headers: &str) -> (u16, String, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"))
}

fn post(address: &str, path: &str, body: &str) -> (u16, String, String) {
    let len = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}");
    ask(address, &format!("{head}\r\n\r\n{body}"))
}

/// A sample's labels.
type Labels = BTreeMap<String, String>;

/// A page that was read: samples by name.
struct Page(BTreeMap<String, Vec<(Labels, f64)>>);

impl Page {
    fn of(server: &RunningServer) -> Page {
        let admin = server.admin_address().expect("it listens for operators");
        let (status, _, body) = get(&admin, "/metrics", "");
        assert_eq!(status, 200);
        let mut samples: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample(line);
            let known = samples.entry(name).or_default();
            assert!(known.iter().all(|(other, _)| *other != labels), "twice: {line}");
            known.push((labels, value));
        }
        Page(samples)
    }

    /// The sum of the samples that have these labels, as `name{key=value,key=value}`.
    fn sum(&self, series: &str) -> f64 {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let wanted: Vec<(&str, &str)> =
            labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')).collect();
        let samples = self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        let meant = samples.iter().filter(|(labels, _)| {
            wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|own| own == value))
        });
        let values: Vec<f64> = meant.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no {series}");
        values.iter().sum()
    }
}

/// Reads one line of the text format.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value follows a space");
    let (name, mut rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = Labels::new();
    while rest != "}" {
        let (key, quoted) = rest.split_once("=\"").expect("a label has a value");
        let end = quoted.find('"').expect("a value has an end");
        assert!(!quoted[..end].contains('\\'), "nothing here is to be escaped: {line}");
        labels.insert(key.trim_start_matches(',').to_owned(), quoted[..end].to_owned());
        rest = &quoted[end + 1..];
    }
    (name.to_owned(), labels, value.parse().expect("a number"))
}

fn pid(connected: &str) -> Value {
    let object = connected.find('{').expect("CONNECT has an object");
    let answer: Value = serde_json::from_str(&connected[object..]).expect("JSON");
    answer["pid"].clone()
}

/// What clients do: see the table of [`what_clients_do_is_counted_exactly`].
fn act(server: &RunningServer) -> Vec<Client> {
    let public = &server.addresses()[0];
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server)).collect();
    clients.push(Client::connect_to(server, SECOND));
    // A client that polls, one of revision 3, and what is refused.
    let polling = "/socket.io/?EIO=4&transport=polling";
    let open = get(public, polling, "").2;
    let sid = open.split('"').nth(3).expect("an id").to_owned();
    let own = format!("{polling}&sid={sid}");
    assert_eq!(post(public, &own, "40").0, 200);
    assert!(get(public, &own, "").2.starts_with("40"));
    assert_eq!(get(public, "/socket.io/?EIO=3&transport=polling", "").0, 200);
    for _ in 0..2 {
        assert_eq!(get(public, "/socket.io/?EIO=4&transport=pigeon", "").0, 400);
    }
    assert_eq!(get(public, &format!("{polling}&sid=nobody"), "").0, 400);
    assert_eq!(get(public, polling, "Origin: http://evil.example\r\n").0, 400);
    // Namespaces that do not let it in.
    for (namespace, answer) in [("/nowhere", "Invalid namespace"), ("/closed", "closed")] {
        clients[0].send(&format!("40{namespace},"));
        assert_eq!(clients[0].next(), format!("44{namespace},{{\"message\":\"{answer}\"}}"));
    }
    // Events: three that are answered, two asynchronous ones, one that nobody handles, one that fails.
    for _ in 0..3 {
        clients[0].send("421[\"add\",1,2]");
        assert_eq!(clients[0].next(), "431[3]");
    }
    for _ in 0..2 {
        clients[0].send("422[\"later\",30]");
        assert_eq!(clients[0].next(), "432[30]");
    }
    clients[0].send("42[\"nobody\"]");
    clients[0].send("42[\"add\",\"one\"]");
    // A broadcast to three of a room.
    for client in &mut clients[..3] {
        client.join("r");
    }
    clients[0].send("42[\"shout\",\"r\"]");
    for client in &mut clients[..3] {
        assert_eq!(client.event().0, "shouted");
    }
    // One that reads nothing, and is closed in the end.
    let mut slow = Client::connect(server);
    slow.join("slow");
    clients[0].send("42[\"flood\",\"slow\"]");
    until("the kernel takes no more for it", || Page::of(server).sum("shardcast_owed_bytes") > 1e6);
    for _ in 0..3 {
        clients[0].send("423[\"drip\",\"slow\"]");
        assert_eq!(clients[0].next(), "433[true]");
    }
    // What it may be owed, what goes beyond, and what finds it beyond.
    for event in ["shout", "flood", "shout"] {
        clients[0].send(&format!("42[\"{event}\",\"slow\"]"));
    }
    until("the slow client is closed", || {
        Page::of(server).sum("shardcast_slow_consumers_closed_total{bound=outbox_bytes_max}") == 1.0
    });
    // One whose handler panics, one that leaves its namespace, one that is lost and comes back, and one that claims what nobody was.
    let mut panics = Client::connect(server);
    panics.send("42[\"panic\"]");
    let mut leaves = Client::connect(server);
    leaves.send("41");
    let (lost, connected) = Client::connect_with(server, "/socket.io/", "");
    drop(lost);
    until("all three have ended", || {
        let page = Page::of(server);
        page.sum("shardcast_lost_sockets") == 3.0 && page.sum("shardcast_sockets") == 7.0
    });
    let (again, _) =
        Client::connect_with(server, "/socket.io/", &json!({ "pid": pid(&connected) }).to_string());
    let nobody = json!({ "pid": "AAAAAAAAAAAAAAAAAAAA" }).to_string();
    let (new, _) = Client::connect_with(server, "/socket.io/", &nobody);
    clients.extend([again, new, leaves]);
    clients
}

/// What is counted after [`act`], summed over shards.
const COUNTED: &[(&str, f64)] = &[
    // Five at first, then the slow one, the one that panics, the one that leaves, the lost one, its return, and the new one.
    ("shardcast_sessions_opened_total{transport=websocket,revision=4}", 11.0),
    ("shardcast_sessions_opened_total{transport=polling,revision=4}", 1.0),
    ("shardcast_sessions_opened_total{transport=polling,revision=3}", 1.0),
    ("shardcast_sessions_opened_total{transport=websocket,revision=3}", 0.0),
    ("shardcast_sessions_closed_total{reason=slow consumer}", 1.0),
    ("shardcast_sessions_closed_total{reason=transport error}", 1.0),
    ("shardcast_sessions_closed_total{reason=transport close}", 1.0),
    ("shardcast_sessions_closed_total", 3.0),
    ("shardcast_sessions{transport=websocket,revision=4}", 8.0),
    ("shardcast_sessions{transport=polling}", 2.0),
    ("shardcast_connections{kind=websocket}", 8.0),
    ("shardcast_sockets", 9.0),
    ("shardcast_sockets_connected_total", 13.0),
    ("shardcast_sockets_disconnected_total{reason=client namespace disconnect}", 1.0),
    ("shardcast_sockets_disconnected_total{reason=slow consumer}", 1.0),
    ("shardcast_sockets_disconnected_total", 4.0),
    ("shardcast_sockets_refused_total{reason=unknown_namespace}", 1.0),
    ("shardcast_sockets_refused_total{reason=handler}", 1.0),
    ("shardcast_sockets_refused_total", 2.0),
    ("shardcast_namespace_sockets{endpoint=/socket.io/,namespace=/}", 8.0),
    ("shardcast_namespace_sockets{endpoint=/second/,namespace=/}", 1.0),
    ("shardcast_namespace_sockets{namespace=/closed}", 0.0),
    ("shardcast_namespace_sockets_connected_total{endpoint=/second/}", 1.0),
    ("shardcast_endpoint_sockets{endpoint=/second/}", 1.0),
    ("shardcast_requests_refused_total{reason=unknown_transport}", 2.0),
    ("shardcast_requests_refused_total{reason=unknown_session}", 1.0),
    ("shardcast_requests_refused_total{reason=origin}", 1.0),
    ("shardcast_requests_refused_total", 4.0),
    ("shardcast_connections_refused_total", 0.0),
    // join: 3 and 1, shout: 3, flood: 2, drip: 3, add: 3.
    ("shardcast_events_handled_total{outcome=done}", 15.0),
    ("shardcast_events_handled_total{outcome=async}", 2.0),
    ("shardcast_events_handled_total{outcome=no_handler}", 1.0),
    ("shardcast_events_handled_total{outcome=error}", 1.0),
    ("shardcast_events_handled_total{outcome=panic}", 1.0),
    ("shardcast_events_handled_total{outcome=dropped}", 0.0),
    ("shardcast_events_received_total", 20.0),
    ("shardcast_events_waiting", 0.0),
    ("shardcast_namespace_events_received_total{endpoint=/socket.io/,namespace=/}", 20.0),
    ("shardcast_handler_panics_total", 1.0),
    ("shardcast_broadcasts_total{origin=here}", 8.0),
    ("shardcast_broadcasts_total{origin=outside}", 0.0),
    // Three of the room, the floods, and what came between them.
    ("shardcast_broadcast_receivers_sum", 6.0),
    ("shardcast_messages_dropped_total{policy=volatile}", 3.0),
    ("shardcast_messages_dropped_total{policy=close}", 1.0),
    ("shardcast_messages_dropped_total", 4.0),
    ("shardcast_slow_consumers_closed_total", 1.0),
    ("shardcast_recoveries_total{result=recovered}", 1.0),
    ("shardcast_recoveries_total{result=unknown}", 1.0),
    ("shardcast_recoveries_total", 2.0),
    // The slow one, and the one whose handler panicked.
    ("shardcast_lost_sockets", 2.0),
    ("shardcast_mesh_messages_lost_total", 0.0),
    ("shardcast_ready", 1.0),
];

/// Sums of which both sides are the same, whatever happened.
const EQUAL: &[(&[&str], &[&str])] = &[
    (
        &["shardcast_connections_opened_total"],
        &["shardcast_connections", "shardcast_connections_closed_total", "shardcast_handoffs_total"],
    ),
    (&["shardcast_sessions_opened_total"], &["shardcast_sessions", "shardcast_sessions_closed_total"]),
    (&["shardcast_sockets_connected_total"], &["shardcast_sockets", "shardcast_sockets_disconnected_total"]),
    (&["shardcast_events_received_total"], &["shardcast_events_handled_total", "shardcast_events_waiting"]),
    (&["shardcast_namespace_sockets"], &["shardcast_sockets"]),
    (&["shardcast_broadcast_receivers_bucket{le=+Inf}"], &["shardcast_broadcast_receivers_count"]),
];

#[test]
fn what_clients_do_is_counted_exactly() {
    for wire in [Io::Auto, Io::Epoll] {
        let server = start(wire);
        let mut clients = act(&server);
        let mut page = Page::of(&server);
        let is_settled = |page: &Page| COUNTED.iter().all(|(series, value)| page.sum(series) == *value);
        let began = std::time::Instant::now();
        while !is_settled(&page) && began.elapsed() < PATIENCE / 4 {
            std::thread::sleep(Duration::from_millis(10));
            page = Page::of(&server);
        }
        let wrong: Vec<_> = COUNTED
            .iter()
            .map(|(series, value)| (series, *value, page.sum(series)))
            .filter(|(_, expected, value)| expected != value)
            .collect();
        assert!(wrong.is_empty(), "{wire:?}, expected and found: {wrong:#?}");
        for (one, other) in EQUAL {
            let sum = |side: &[&str]| side.iter().map(|series| page.sum(series)).sum::<f64>();
            assert_eq!(sum(one), sum(other), "{wire:?}: {one:?} and {other:?}");
        }
        for (series, at_least) in [
            ("shardcast_turn_seconds_count", 20.0),
            ("shardcast_fan_out_seconds_count", 2.0),
            ("shardcast_behind_bytes_count", 2.0),
            ("shardcast_namespace_handler_seconds_count{kind=sync}", 1.0),
            ("shardcast_namespace_handler_seconds_count{kind=async}", 1.0),
            ("shardcast_namespace_handler_seconds_sum{kind=async}", 0.029),
            ("shardcast_busy_seconds_total", 1e-6),
            ("shardcast_received_bytes_total", 100.0),
            ("shardcast_sent_bytes_total", 100.0),
            ("process_resident_memory_bytes", 1e6),
            ("process_open_fds", 10.0),
        ] {
            assert!(page.sum(series) >= at_least, "{wire:?}: {series} {}", page.sum(series));
        }
        assert!(page.sum("shardcast_behind_bytes_sum") > 1e6, "{wire:?}");
        assert_eq!(page.0["shardcast_turn_seconds_count"].len(), 3, "a series for each shard");
        let io = &page.0["shardcast_io_info"][0].0;
        assert_eq!(io["io"] == "epoll", wire == Io::Epoll, "{io:?}");
        assert!(!io["reason"].is_empty());
        until("a ping is answered", || {
            let _ = clients[0].has_input() && clients[0].frame() == b"2" && {
                clients[0].send("3");
                true
            };
            Page::of(&server).sum("shardcast_ping_seconds_count{transport=websocket}") >= 1.0
        });
        server.stop();
    }
}

/// Runs a tool with a text at its standard input, and gives what it prints; fails with what it says.
fn run(tool: &mut Command, input: &str) -> String {
    let name = tool.get_program().to_string_lossy().into_owned();
    let child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{name}: {error}; run scripts/install-test-deps.sh"));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("the tool reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("the tool ends");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{tool:?}: {}\n{out}\n{error}", output.status);
    out.into_owned()
}

#[test]
fn prometheus_reads_the_page_in_both_formats() {
    let server = start(Io::Auto);
    let public = &server.addresses()[0];
    assert_eq!(get(public, "/metrics", "").0, 404, "it is not for clients");
    let _clients = act(&server);
    let admin = server.admin_address().expect("it listens for operators");
    let mut read = Vec::new();
    for (format, headers, media) in [
        ("text", "", "text/plain; version=0.0.4"),
        (
            "openmetrics",
            "Accept: application/openmetrics-text;version=1.0.0\r\n",
            "application/openmetrics-text; version=1.0.0",
        ),
    ] {
        let (status, head, page) = get(&admin, "/metrics", headers);
        assert_eq!(status, 200);
        assert!(
            head.to_ascii_lowercase().contains(&format!("content-type: {media}; charset=utf-8")),
            "{head}"
        );
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/venv/bin/python");
        let mut command = Command::new(python);
        read.push(run(command.args(["tests/metrics/read_metrics.py", format]), &page));
        if format == "text" {
            // What it has to say against names, types and helps is an error.
            run(Command::new("promtool").args(["check", "metrics"]), &page);
        }
    }
    assert_eq!(read[0], read[1], "families and samples");
    let samples = read[0].split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
    assert!(samples.is_some_and(|samples| samples > 500), "{read:?}");
    server.stop();
}

#[test]
fn prometheus_takes_the_rules_and_they_wake_somebody_when_they_should() {
    run(Command::new("promtool").args(["check", "rules", "docs/alerts.yml"]), "");
    run(Command::new("promtool").args(["test", "rules", "tests/metrics/alerts_test.yml"]), "");
}

#[test]
fn prometheus_reads_every_query_of_the_dashboard() {
    let dashboard: Value =
        serde_json::from_str(include_str!("../docs/grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let rules: Vec<Value> = targets
        .enumerate()
        .map(|(number, target)| {
            let query = target["expr"].as_str().expect("a query");
            // What Grafana puts in for its variables.
            let query = query.replace("$__rate_interval", "1m").replace("$quantile", "0.99");
            json!({ "record": format!("query:{number}"), "expr": query })
        })
        .collect();
    assert!(rules.len() > 50, "{}", rules.len());
    // JSON is YAML.
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    let file = std::env::temp_dir().join(format!("shardcast-dashboard-{}.yml", std::process::id()));
    std::fs::write(&file, rules).expect("the file is written");
    run(Command::new("promtool").args(["check", "rules"]).arg(&file), "");
    std::fs::remove_file(&file).expect("the file is there");
}
