//! The table against the guide and the figures; both formats to the letter.

use super::*;
use crate::shard::value::kinds::Speech;
use crate::shard::value::session::CloseReason;
use crate::shard::value::stats::EndpointCounters;

const GUIDE: &str = include_str!("../../../docs/metrics.md");
const ALERTS: &str = include_str!("../../../docs/alerts.yml");
const DASHBOARD: &str = include_str!("../../../docs/grafana-dashboard.json");

fn row(name: &str, kind: &str, labels: &str, about: &str) -> String {
    format!("| `{name}` | {kind} | {labels} | {about} |")
}

fn rows<T>(families: &[Family<T>], labels: &str) -> Vec<String> {
    families.iter().map(|one| row(one.name, one.kind.name(), labels, one.about)).collect()
}

fn with_shard(labels: &str) -> String {
    if labels.is_empty() { "shard".to_owned() } else { format!("shard, {labels}") }
}

/// The guide's rows, in the order of the page.
fn table() -> Vec<String> {
    let mut all = rows(&[BUILD], "version");
    all.extend(rows(&[IO], "io, reason"));
    all.extend(rows(PROCESS, ""));
    all.extend(rows(USAGE, ""));
    let labelled = SPOKEN.iter().chain(&BY_LABEL).chain(&PLAIN);
    all.extend(labelled.map(|one| row(one.name, one.kind.name(), &with_shard(one.labels), one.about)));
    all.extend(rows(SHARDS, "shard"));
    all.extend(rows(THREADS, "shard"));
    all.extend(rows(INBOXES, "shard"));
    all.extend(SIZES.iter().map(|one| row(one.name, "histogram", &with_shard(one.labels), one.about)));
    all.extend(rows(NAMESPACES, "endpoint, namespace"));
    all.push(row(HANDLERS.name, "histogram", HANDLERS.labels, HANDLERS.about));
    all.extend(rows(ENDPOINTS, "shard, endpoint"));
    all.extend(rows(QUEUES, "queue"));
    all.extend(rows(CERTIFICATES, "certificate"));
    all
}

#[test]
fn the_guide_has_a_row_for_each_metric() {
    let guide: Vec<&str> = GUIDE.lines().filter(|line| line.starts_with("| `")).collect();

    let table = table();
    let missing: Vec<&String> = table.iter().filter(|row| !guide.contains(&row.as_str())).collect();
    assert!(missing.is_empty(), "rows that docs/metrics.md is to have: {missing:#?}");
    assert_eq!(guide, table, "the order is that of the page");
}

#[test]
fn every_figure_has_a_row() {
    fn figures<T: serde::Serialize + Default>() -> Vec<String> {
        let value = serde_json::to_value(T::default()).expect("figures are numbers");
        value.as_object().expect("by name").keys().cloned().collect()
    }
    fn compare<T: serde::Serialize + Default>(families: &[Family<T>], told_apart: &[&'static str]) {
        let mut figures = figures::<T>();
        let mut fields: Vec<&str> = families.iter().map(|one| one.field).collect();
        fields.extend(told_apart);
        figures.sort_unstable();
        fields.sort_unstable();
        assert_eq!(fields, figures);
        for one in families {
            let is_counter = one.kind.name() == "counter";
            assert_eq!(one.name.ends_with("_total"), is_counter, "{}", one.name);
        }
    }
    let labelled = || SPOKEN.iter().chain(&BY_LABEL).chain(&PLAIN);
    let told_apart: Vec<&str> = labelled().map(|one| one.field).filter(|field| !field.is_empty()).collect();
    compare(SHARDS, &told_apart);
    compare(ENDPOINTS, &[]);
    compare(QUEUES, &[]);
    compare(USAGE, &[]);
    compare(THREADS, &[]);
    compare(INBOXES, &[]);
    for one in labelled() {
        assert_eq!(one.name.ends_with("_total"), one.kind.name() == "counter", "{}", one.name);
    }
}

/// A shard of which everything is counted once or more, under different numbers.
fn counted() -> Arc<ShardCounters> {
    let counters = ShardCounters::default();
    let meters = &counters.meters;
    counters.events_received.add(7);
    counters.busy_micros.add(1_000_250);
    counters.connections.add(5);
    meters.connections_websocket.add(3);
    meters.sessions.count(Speech::WebSocket4);
    let endpoint = EndpointCounters::new("/socket.io/");
    endpoint.sessions_closed.count(CloseReason::PingTimeout);
    counters.endpoints.set(vec![Arc::new(endpoint)]).expect("there are none yet");
    meters.turn.record_nanos(1500);
    meters.turn.record_nanos(4_200_000_000);
    meters.receivers.record(4);
    meters.name_namespace(0, "/socket.io/", "/");
    meters.name_namespace(1, "/socket.io/", "/chat");
    let chat = meters.namespace(1).expect("it is named");
    chat.sockets.add(2);
    chat.handler_async.record_nanos(300);
    Arc::new(counters)
}

fn snapshot(shards: Vec<Arc<ShardCounters>>) -> Snapshot {
    Snapshot {
        version: "1.2.3",
        io: ("epoll", "as asked by io = epoll".to_owned()),
        is_ready: true,
        is_draining: false,
        started_unix_millis: 1_700_000_000_005,
        usage: ProcessUsage { cpu_nanos: 1_020_000_000, ..ProcessUsage::default() },
        threads: vec![ThreadUsage::default(); shards.len()],
        inboxes: vec![Depth::default(); shards.len()],
        shards,
        endpoints: vec![(
            0,
            "/a\"\\\n/".to_owned(),
            EndpointStats { sockets: 3, ..EndpointStats::default() },
        )],
        queues: Vec::new(),
        certificates: vec![CertificateEnd { file: "/etc/a.pem".to_owned(), unix_seconds: 1_800_000_000 }],
    }
}

#[test]
fn labels_tell_apart_what_belongs_together() {
    let text = snapshot(vec![counted(), counted()]).text(Format::Text);
    for line in [
        "shardcast_connections{shard=\"1\",kind=\"http\"} 2",
        "shardcast_connections{shard=\"0\",kind=\"websocket\"} 3",
        "shardcast_sessions{shard=\"0\",transport=\"websocket\",revision=\"4\"} 1",
        "shardcast_sessions{shard=\"0\",transport=\"polling\",revision=\"3\"} 0",
        "shardcast_sessions_closed_total{shard=\"0\",reason=\"ping timeout\"} 1",
        "shardcast_tls_certificate_expires_seconds{certificate=\"/etc/a.pem\"} 1800000000",
        "shardcast_turn_seconds_bucket{shard=\"0\",le=\"0.000001\"} 0",
        "shardcast_turn_seconds_bucket{shard=\"0\",le=\"0.000004\"} 1",
        "shardcast_turn_seconds_bucket{shard=\"0\",le=\"4.194304\"} 1",
        "shardcast_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 2",
        "shardcast_turn_seconds_sum{shard=\"0\"} 4.200001500",
        "shardcast_turn_seconds_count{shard=\"0\"} 2",
        "shardcast_broadcast_receivers_bucket{shard=\"0\",le=\"4.0\"} 1",
        "shardcast_broadcast_receivers_sum{shard=\"0\"} 4",
        // Of both shards.
        "shardcast_namespace_sockets{endpoint=\"/socket.io/\",namespace=\"/chat\"} 4",
        "shardcast_namespace_sockets{endpoint=\"/socket.io/\",namespace=\"/\"} 0",
        "shardcast_namespace_handler_seconds_count{endpoint=\"/socket.io/\",namespace=\"/chat\",kind=\"async\"} 2",
        "shardcast_namespace_handler_seconds_count{endpoint=\"/socket.io/\",namespace=\"/chat\",kind=\"sync\"} 0",
        "process_cpu_seconds_total 1.020000000",
        "shardcast_io_info{io=\"epoll\",reason=\"as asked by io = epoll\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
}

#[test]
fn alerts_name_only_metrics_that_there_are_and_give_reasons() {
    // An expression that goes over several lines is indented below its key.
    let text = ALERTS.replace("expr: >-\n", "expr: ").replace("\n          ", " ");
    let expressions: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), 16);
    expressions.iter().for_each(|expression| check_expression(expression));
    for key in ["- alert: ", "reason: ", "summary: ", "severity: "] {
        assert_eq!(text.matches(key).count(), expressions.len(), "{key}");
    }
}

#[test]
fn both_formats_to_the_letter() {
    let snapshot = snapshot(vec![counted()]);
    let text = snapshot.text(Format::Text);
    let begin = "# HELP shardcast_build_info Always 1; the version is the label.\n# TYPE shardcast_build_info gauge\n\
        shardcast_build_info{version=\"1.2.3\"} 1\n\
        # HELP shardcast_io_info Always 1; the kernel's interface that moves the bytes, and why this one.\n# TYPE shardcast_io_info gauge\n\
        shardcast_io_info{io=\"epoll\",reason=\"as asked by io = epoll\"} 1\n\
        # HELP shardcast_ready 1 while new clients may come, as /readyz says.\n# TYPE shardcast_ready gauge\nshardcast_ready 1\n";
    assert!(text.starts_with(begin), "{text}");
    assert!(text.contains("\nshardcast_start_time_seconds 1700000000.005\n"), "{text}");
    assert!(text.contains(
        "\n# TYPE shardcast_events_received_total counter\nshardcast_events_received_total{shard=\"0\"} 7\n"
    ));
    assert!(text.contains("\nshardcast_busy_seconds_total{shard=\"0\"} 1.000250\n"), "{text}");
    assert!(
        text.contains("\nshardcast_endpoint_sockets{shard=\"0\",endpoint=\"/a\\\"\\\\\\n/\"} 3\n"),
        "{text}"
    );
    let open = snapshot.text(Format::OpenMetrics);
    assert!(open.starts_with(begin) && open.ends_with("\n# EOF\n"), "{open}");
    assert!(open.contains(
        "\n# TYPE shardcast_events_received counter\nshardcast_events_received_total{shard=\"0\"} 7\n"
    ));
}

#[test]
fn openmetrics_is_for_who_asks_for_it() {
    for (accept, expected) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain;version=0.0.4", Format::Text),
        ("application/openmetrics-text", Format::OpenMetrics),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;version=1.0.0;q=0.2, text/plain;q=0.5", Format::Text),
        ("application/openmetrics-text;version=2.0.0", Format::Text),
        ("application/openmetrics-text;q=0", Format::Text),
    ] {
        assert_eq!(Format::of_accept(accept), expected, "{accept}");
    }
}

/// The metrics that an expression names, each with the labels that it asks for.
fn named(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["shardcast_", "process_"].iter().filter_map(|prefix| rest.find(prefix)).min() {
        let from = &rest[at..];
        let name: String = from.chars().take_while(|c| is_word(*c)).collect();
        let selector = from[name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let selector = selector.map_or("", |(selector, _)| selector);
        let labels =
            selector.split(',').filter_map(|one| one.split_once('=')).map(|(key, _)| key.trim().to_owned());
        rest = &from[name.len()..];
        found.push((name, labels.collect()));
    }
    found
}

/// Fails unless each metric and label of an expression is in the table. Labels of the scrape itself are always there.
fn check_expression(expression: &str) {
    let rows: Vec<Vec<String>> =
        table().iter().map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect();
    let all = named(expression);
    assert!(!all.is_empty(), "{expression}");
    let mut known = vec!["job".to_owned(), "instance".to_owned()];
    for (name, labels) in &all {
        let is_meant = |row: &&Vec<String>| match row[2].as_str() {
            "histogram" => {
                ["_bucket", "_sum", "_count"].iter().any(|end| *name == format!("{}{end}", row[1]))
            }
            _ => *name == row[1],
        };
        let row = rows.iter().find(is_meant).unwrap_or_else(|| panic!("no metric {name}: {expression}"));
        let mut own: Vec<String> = row[3].split(", ").map(str::to_owned).collect();
        own.extend(["job", "instance", "le"].map(str::to_owned));
        for label in labels {
            assert!(own.contains(label), "{name} has no label {label}: {expression}");
        }
        let is_called =
            |call: &str| ["[", "{"].iter().any(|end| expression.contains(&format!("{call}{name}{end}")));
        let is_rate = is_called("rate(") || is_called("increase(");
        let is_counter = row[2] != "gauge";
        assert_eq!(is_rate, is_counter, "{name} is a {}: {expression}", row[2]);
        known.extend(own);
    }
    for group in expression.split("by (").skip(1).chain(expression.split("on (").skip(1)) {
        let labels = group.split_once(')').map_or("", |(labels, _)| labels);
        for label in labels.split(',').map(str::trim) {
            assert!(known.iter().any(|known| known == label), "no metric has a label {label}: {expression}");
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes_and_names_what_there_is() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables: Vec<&str> = variables.iter().filter_map(|one| one["name"].as_str()).collect();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = std::collections::BTreeSet::new();
    let mut seen = std::collections::BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().filter(|title| !title.is_empty()).expect("a title");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} is on top of another panel");
            }
        }
        let kind = panel["type"].as_str().expect("a type");
        assert!(["row", "stat", "timeseries", "heatmap"].contains(&kind), "{kind}");
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(targets.is_empty(), kind == "row", "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().expect("a query");
            check_expression(query);
            for variable in query.split('$').skip(1) {
                let name: String =
                    variable.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(name == "__rate_interval" || variables.contains(&name.as_str()), "{title}: ${name}");
            }
            seen.extend(named(query).into_iter().map(|(name, _)| name));
        }
    }
    // What a shard counts is on it, but for what only explains a figure that is.
    assert!(seen.len() >= 50, "{seen:?}");
}
