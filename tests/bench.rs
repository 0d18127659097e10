//! `shardcast bench` as its users meet it: the program against `shardcast bench-server`, by its exit codes, its words and its files.

#![allow(clippy::disallowed_methods)] // Real programs run in real time.

#[allow(dead_code, reason = "one program of several is started here")]
#[path = "process/broker.rs"]
mod broker;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use broker::{Authority, BrokerProcess};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// `shardcast bench-server` on a port of its own, as long as this value lives.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let mut command = program(&["bench-server", "--bind", "127.0.0.1:0"]);
        command.args(arguments);
        Server::of(command)
    }

    fn of(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log is a pipe"));
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("it logs") > 0, "the server has ended");
            if let Some((_, rest)) = line.split_once("serving http").and(line.split_once("://127.0.0.1:")) {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break digits.parse().expect("a port");
            }
        };
        // Read on, or the server would wait for room in its pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server { child, port }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that is gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("shardcast-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a short benchmark: the words of a line, in which `URL` is the server's.
fn bench(url: &str, line: &str) -> Output {
    let words: Vec<&str> = line.split(' ').map(|word| if word == "URL" { url } else { word }).collect();
    run(&words)
}

fn run(words: &[&str]) -> Output {
    program(&["bench"]).args(words).output().expect("the program runs")
}

/// What was said, on either stream.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

const SHORT: &str = "URL -c 8 --duration 300ms --warmup 100ms --drain 20s --connect-timeout 60s --json -";

#[test]
fn every_scenario_runs_on_several_shards_by_every_transport_and_parser() {
    let server = Server::start(&["--shards", "3"]);
    let scenarios = [
        ("echo", "-i 2"),
        ("echo", "--rate 200"),
        ("echo", "--ramp 100ms"),
        ("binary", "-p 300"),
        ("fanout", ""),
        ("rooms", "-k 3"),
        ("connect", ""),
        ("idle", ""),
        ("dashboard", "--keys 5 --hz 60"),
        ("ticks", "-k 3 --hz 60"),
        ("storm", "--storms 2 --pause 10ms"),
        ("slow", "--slow-share 0.2"),
        ("stalled", "--slow-share 0.2 --stall 50ms"),
    ];
    for way in ["websocket", "polling", "upgrade", "websocket --parser msgpack", "polling --parser msgpack"] {
        // Clients that stop reading are about sockets that stay; a poll is read or not begun.
        let count = if way.starts_with("websocket") { scenarios.len() } else { scenarios.len() - 2 };
        for (scenario, options) in &scenarios[..count] {
            // A storm ends by itself when all are back; slow machines have time.
            let long = if *scenario == "storm" {
                SHORT.replace("300ms", "60s")
            } else {
                SHORT.replace("--ramp", "")
            };
            let long = if options.contains("--ramp") { long.replace("--warmup 100ms ", "") } else { long };
            let line = format!("{scenario} {long} --transport {way} {options}");
            let output = bench(&server.url(), line.trim());
            assert_eq!(output.status.code(), Some(0), "{line}: {}", said(&output));
            let result = json(&output);
            assert!(result["checks"]["checked"].as_u64() > Some(0), "{line}: {}", said(&output));
            assert_eq!(result["scenario"], *scenario);
            match *scenario {
                "storm" => {
                    assert_eq!(
                        (&result["storm"]["back"], &result["storm"]["storms"]),
                        (&16.into(), &2.into()),
                        "{line}"
                    );
                    assert_eq!(result["storm"]["back_us"]["count"], 16, "{line}");
                }
                "ticks" => assert!(result["ticks"]["jitter_us"]["count"].as_u64() > Some(0), "{line}"),
                "dashboard" => assert!(result["dashboard"]["values"].as_u64() > Some(0), "{line}"),
                "idle" => {}
                "connect" => assert!(result["connect"]["sessions"].as_u64() > Some(0), "{line}"),
                _ => assert!(result["latency_us"]["p99"].as_f64() > Some(0.0), "{line}"),
            }
        }
    }
}

#[test]
fn exit_codes_say_what_became_of_a_run() {
    let server = Server::start(&["--shards", "2"]);
    let rows = [
        ("echo", 0, "checks      ok"),
        ("echo --fail-if p50<1h", 2, "write p50<5ms"),
        ("echo --fail-if p50<60s", 3, "threshold   FAILED: p50 is"),
        ("echo --fail-if p50>60s", 0, "threshold   ok: p50 is"),
        ("echo --fail-if p50>60s --fail-if rate>0", 3, "FAILED: rate is"),
        ("idle --fail-if p50>60s", 3, "was not measured in this scenario"),
        ("echo --fail-if errors>0", 0, "ok: errors is 0"),
        ("echo --event nosuch --drain 100ms", 1, "does the server acknowledge this event?"),
        ("echo --event nosuch --drain 100ms --fail-if errors>200%", 0, "allowed by --fail-if"),
        ("echo --event nosuch --drain 100ms --fail-if errors>0", 3, "FAILED: errors is"),
        ("dashboard --hz 7 --connect-timeout 300ms", 2, "did not acknowledge `watch`"),
        ("echo --pid 4294967", 2, "--pid"),
        ("echo --ca /dev/null", 2, "--ca and --insecure are for URLs with https"),
        ("ecko", 2, "a similar value exists: 'echo'"),
    ];
    for (line, code, expected) in rows {
        let line = format!("{line} -c 2 --duration 200ms --warmup 0s");
        let mut words: Vec<&str> = line.split(' ').collect();
        let url = server.url();
        words.insert(1, &url);
        let output = run(&words);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", said(&output));
        assert!(said(&output).contains(expected), "{line}: {}", said(&output));
    }
}

#[test]
fn a_server_that_refuses_is_named_with_what_to_change() {
    let answers = [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "--header 'Authorization"),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
            "answered 404: no; nothing is at this path",
        ),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "asks to come back after 7 s"),
        (
            "HTTP/1.1 308 Moved\r\nLocation: https://x.example/\r\nContent-Length: 0\r\n\r\n",
            "to https://x.example/",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "is --path right?"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "is a Socket.IO server at this URL"),
        ("\u{15}\u{3}\u{3}", "write https:// or wss://"),
        ("", "closed the connection"),
    ];
    for (answer, expected) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        });
        let output = run(&["echo", &url, "-c", "1"]);
        server.join().expect("the server answered");
        assert_eq!(output.status.code(), Some(2), "{answer:?}: {}", said(&output));
        assert!(
            said(&output).contains(expected) && said(&output).contains(&url),
            "{answer:?}: {}",
            said(&output)
        );
    }
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let output = run(&["echo", &format!("http://{free}")]);
    assert!(said(&output).contains("`shardcast bench-server` starts one"), "{}", said(&output));
    let server = Server::start(&["--shards", "1"]);
    for (line, expected) in [
        ("echo URL -c 1 --namespace /nowhere", "name one that it has by --namespace"),
        ("echo URL -c 1 --path /other/", "name the Engine.IO endpoint by --path"),
    ] {
        let output = bench(&server.url(), line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(said(&output).contains(expected), "{line}: {}", said(&output));
    }
}

#[test]
fn own_events_carry_their_templates_and_may_be_answered_in_three_ways() {
    let server = Server::start(&["--shards", "2"]);
    let rows: [&[&str]; 4] = [
        &["--event", "echo", "--data", r#"{"n":{{n}},"who":"{{client}}","text":"{{text 5 500}}"}"#],
        &["--event", "broadcast", "--data", "{{count}}", "--answer", "event:msg"],
        &["--event", "broadcast", "--data", "\"{{pick a b}}\"", "--answer", "none", "--rate", "100"],
        &[
            "--event",
            "echo",
            "--data",
            "1",
            "--auth",
            r#"{"a":"{{client}}"}"#,
            "--query",
            "q={{client}}",
            "-H",
            "X-A: {{random}}",
        ],
    ];
    let url = server.url();
    for row in rows {
        // One client, so that its broadcasts come back to it alone.
        let mut words = vec!["echo", &url, "-c", "1", "--duration", "200ms", "--warmup", "0s", "--json", "-"];
        words.extend(row);
        let output = run(&words);
        assert_eq!(output.status.code(), Some(0), "{row:?}: {}", said(&output));
        let result = json(&output);
        assert!(result["sent"].as_u64() > Some(0), "{row:?}");
        assert_eq!(result["checks"]["checked"].as_u64() > Some(0), !row.contains(&"none"), "{row:?}");
    }
    let output = run(&["echo", &url, "--event", "a", "--data", "{{clinet}}"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean {{client}}?"), "{}", said(&output));
}

#[test]
fn stages_send_what_they_ask_for() {
    let server = Server::start(&["--shards", "2"]);
    let line = "echo URL -c 4 --stage 300ms:200 --stage 0s:100 --stage 500ms:100 --drain 60s";
    let output = bench(&server.url(), line);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("0.3-0.8 s"), "{}", said(&output));
    let result = json(&bench(&server.url(), &format!("{line} --json -")));
    let sent: Vec<u64> =
        result["stages"].as_array().unwrap().iter().map(|of| of["sent"].as_u64().unwrap()).collect();
    // 0 to 200/s in 0.3 s, then 100/s for 0.5 s.
    assert!(sent[0].abs_diff(30) <= 1 && sent[1].abs_diff(50) <= 1 && sent.len() == 2, "{sent:?}");
}

/// Sends a signal to a benchmark that measures, and waits for its end.
fn interrupted(server: &Server, wait: Duration, signals: &[Signal]) -> Output {
    let mut command =
        program(&["bench", "echo", &server.url(), "--duration", "600s", "--warmup", "0s", "--json", "-"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = Pid::from_child(&child);
    std::thread::sleep(wait);
    // Stopped meanwhile, so that all signals are there when it goes on.
    for &signal in [Signal::STOP].iter().chain(signals).chain(&[Signal::CONT]) {
        kill_process(pid, signal).expect("it runs");
    }
    child.wait_with_output().expect("it ends")
}

#[test]
fn ctrl_c_shows_what_was_measured_and_a_second_ends_at_once() {
    let server = Server::start(&["--shards", "2"]);
    for wait in [1, 2, 4, 8, 16, 32] {
        let output = interrupted(&server, Duration::from_secs(wait), &[Signal::INT]);
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        let result = json(&output);
        assert_eq!(result["is_interrupted"], true);
        if result["received"].as_u64() > Some(0) {
            let seconds = result["seconds"].as_f64().unwrap();
            assert!(seconds > 0.0 && seconds < 600.0 && result["checks"]["lost"] == 0, "{result}");
            assert!(result["intervals"].as_array().is_some_and(|all| !all.is_empty()) || seconds < 1.25);
            break;
        }
        assert!(wait < 32, "it never began to measure");
    }
    // SIGTERM counts as the second one, for two equal signals would be one.
    let output = interrupted(&server, Duration::from_secs(2), &[Signal::INT, Signal::TERM]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0), "{}", said(&output));
}

#[test]
fn a_storm_comes_back_when_the_server_asks_to() {
    let server = Server::start(&["--shards", "1", "--handshakes-per-second", "6"]);
    let output = bench(
        &server.url(),
        "storm URL -c 12 --connect-rate 4 --duration 120s --warmup 0s --json - --fail-if back_p99>119s --fail-if failed>0",
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let result = json(&output);
    assert_eq!(result["thresholds"][0]["is_failed"], false, "{result}");
    let storm = &result["storm"];
    assert_eq!(
        (&storm["back"], &storm["away"], &storm["failed"]),
        (&12.into(), &0.into(), &0.into()),
        "{result}"
    );
    assert!(storm["put_off"].as_u64() > Some(0) && storm["attempts"].as_u64() > Some(12), "{result}");
    // Nobody who was put off came earlier than the server had asked for.
    assert!(storm["back_us"]["max"].as_f64() > Some(900_000.0), "{result}");
    let output = bench(&server.url(), "echo URL -c 60");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("asks to come back after") && said(&output).contains("--connect-rate"),
        "{}",
        said(&output)
    );
}

#[test]
fn clients_of_revision_3_find_a_server_that_allows_them() {
    let server = Server::start(&["--shards", "3", "--allow-eio3"]);
    for way in ["websocket", "polling", "upgrade"] {
        for (scenario, options) in [
            ("echo", "-i 2"),
            ("echo", "--event echo -i 2"),
            ("fanout", ""),
            ("rooms", "-k 3"),
            ("connect", ""),
            ("dashboard", "--keys 5 --hz 60"),
            ("ticks", "-k 3 --hz 60"),
            ("storm", "--storms 2 --pause 10ms"),
        ] {
            let long = if scenario == "storm" { SHORT.replace("300ms", "60s") } else { SHORT.to_owned() };
            let line = format!("{scenario} {long} --revision 3 --transport {way} {options}");
            let output = bench(&server.url(), line.trim());
            assert_eq!(output.status.code(), Some(0), "{line}: {}", said(&output));
            let result = json(&output);
            assert!(result["checks"]["checked"].as_u64() > Some(0), "{line}: {}", said(&output));
            assert_eq!(result["revision"], 3);
            if scenario == "storm" {
                assert_eq!(result["storm"]["back"], 16, "{line}");
            }
        }
    }
    let refusing = Server::start(&["--shards", "1"]);
    let output = bench(&refusing.url(), "storm URL -c 2 --revision 3");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("400"), "{}", said(&output));
}

#[test]
fn clients_of_revision_3_ping_the_server() {
    let mut command = program(&["serve", "--bind", "127.0.0.1:0", "--shards", "2"]);
    let settings = [("ALLOW_EIO3", "true"), ("PING_INTERVAL", "500ms"), ("PING_TIMEOUT", "5s")];
    command.envs(settings.map(|(name, value)| (format!("SHARDCAST_{name}"), value)));
    let server = Server::of(command);
    // Who does not ping is closed after 5.5 s.
    let idle = |way: &str| {
        let line = format!("idle URL -c 4 --revision 3 --transport {way} --warmup 0s --duration 8s");
        let output = bench(&server.url(), &line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", said(&output));
    };
    let idle = &idle;
    std::thread::scope(|scope| ["websocket", "polling"].map(|way| scope.spawn(move || idle(way))).map(drop));
}

#[test]
fn after_a_storm_clients_are_recovered_where_the_server_keeps_them() {
    let server = Server::start(&["--shards", "3", "--recovery", "2m"]);
    let line = "storm URL -c 12 --storms 3 --pause 10ms --duration 120s --warmup 0s --recover --json -";
    for way in ["websocket", "polling", "upgrade", "websocket --parser msgpack"] {
        let output = bench(&server.url(), &format!("{line} --fail-if not_recovered>0 --transport {way}"));
        assert_eq!(output.status.code(), Some(0), "{way}: {}", said(&output));
        let storm = &json(&output)["storm"];
        assert_eq!((&storm["back"], &storm["recovered"]), (&36.into(), &36.into()), "{way}: {storm}");
    }
    let forgetful = Server::start(&["--shards", "2"]);
    let output = bench(&forgetful.url(), &format!("{line} --fail-if not_recovered>0"));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let storm = &json(&output)["storm"];
    assert_eq!((&storm["back"], &storm["recovered"]), (&36.into(), &0.into()), "{storm}");
}

#[test]
fn bench_server_speaks_tls_itself() {
    let folder = Folder::new("own-tls");
    let authority = Authority::new(&folder.0);
    let path = |file: &Path| file.to_string_lossy().into_owned();
    let (certificate, key) = (path(&authority.server_certificate), path(&authority.server_key));
    let server = Server::start(&["--shards", "2", "--tls-cert", &certificate, "--tls-key", &key]);
    let url = format!("https://localhost:{}", server.port);
    let ca = path(&authority.certificate);
    for way in ["websocket", "polling", "upgrade"] {
        let words = [
            "echo",
            &url,
            "--ca",
            &ca,
            "-c",
            "4",
            "--duration",
            "300ms",
            "--warmup",
            "0s",
            "--transport",
            way,
        ];
        let output = run(&words);
        assert_eq!(output.status.code(), Some(0), "{way}: {}", said(&output));
        assert!(said(&output).contains("checks      ok"), "{way}: {}", said(&output));
    }
    let output = run(&["echo", &server.url(), "-c", "1", "--duration", "300ms"]);
    assert_eq!(output.status.code(), Some(2), "plain HTTP: {}", said(&output));
    let output = program(&["bench-server", "--tls-cert", &certificate]).output().expect("it runs");
    assert!(said(&output).contains("--tls-key"), "{}", said(&output));
}

#[test]
fn tls_is_spoken_by_https_and_wss_and_its_errors_say_what_to_change() {
    let server = Server::start(&["--shards", "2"]);
    let folder = Folder::new("tls");
    let authority = Authority::new(&folder.0);
    let proxy = BrokerProcess::nginx_with_tls(&authority, server.port);
    let (secured, ca) =
        (format!("127.0.0.1:{}", proxy.port), authority.certificate.to_string_lossy().into_owned());
    let short = ["-c", "4", "--duration", "300ms", "--warmup", "0s"];
    let (wss, https) = (format!("wss://{secured}"), format!("https://{secured}"));
    let (http, plain) = (format!("http://{secured}"), server.url().replace("http", "https"));
    let rows: [(&str, &[&str], i32, &str); 9] = [
        (&wss, &["--ca", &ca], 0, "checks      ok"),
        (&https, &["--ca", &ca, "--transport", "polling"], 0, "checks      ok"),
        (&https, &["--ca", &ca, "--transport", "upgrade", "-p", "100000"], 0, "checks      ok"),
        (&https, &["--insecure"], 0, "--insecure: whoever answered"),
        (&https, &[], 2, "--ca FILE, or use --insecure"),
        (&https, &["--ca", "/dev/null"], 2, "--ca /dev/null: holds no certificate"),
        (&http, &[], 2, "write https:// or wss://"),
        (&plain, &["--insecure"], 2, "does not speak TLS"),
        ("https://127.0.0.2:1", &["--insecure"], 2, "no server listens there"),
    ];
    for (url, options, code, expected) in rows {
        let output = run(&[&["echo", url], &short[..], options].concat());
        assert_eq!(output.status.code(), Some(code), "{url} {options:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{url} {options:?}: {}", said(&output));
    }
}

/// The names of all numbers and texts in a result, as the guide writes them.
fn names(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                names(value, &format!("{prefix}.{name}"), found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, &format!("{prefix}[]"), found)),
        Value::Null => {}
        _ => _ = found.insert(prefix.trim_start_matches('.').to_owned()),
    }
}

#[test]
fn the_json_is_what_the_guide_says() {
    let server = Server::start(&["--shards", "2"]);
    let pid = server.child.id().to_string();
    let mut found = BTreeSet::new();
    for line in [
        "echo --stage 200ms:100 --fail-if p99<0us",
        "echo --event echo -i 2",
        "fanout",
        "rooms",
        "stalled --stall 50ms",
        "storm",
        "ticks",
        "dashboard",
        "echo --event nosuch --drain 100ms",
    ] {
        let line = format!("{line} URL -c 4 --warmup 100ms --pid {pid} --json -");
        let line = if line.contains("--stage") { line } else { format!("{line} --duration 300ms") };
        names(&json(&bench(&server.url(), &line)), "", &mut found);
    }
    // A distribution has the same fields wherever it is.
    let distribution: BTreeSet<&str> = "count min mean p50 p75 p90 p95 p99 p999 max".split(' ').collect();
    let found: BTreeSet<String> = found
        .iter()
        .map(|name| match name.rsplit_once('.') {
            Some((whole, field)) if whole.ends_with("_us") && distribution.contains(field) => {
                whole.to_owned()
            }
            _ => name.clone(),
        })
        .collect();
    let guide =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarking.md")).unwrap();
    let (_, table) = guide.split_once("## The JSON").expect("the guide has this chapter");
    let table = table.split("\n## ").next().unwrap();
    let told: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = found.difference(&told).collect();
    let invented: Vec<&String> = told.difference(&found).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not in the guide: {missing:?}; not in a result: {invented:?}"
    );
}

#[test]
fn two_results_are_compared_and_other_files_are_refused() {
    let server = Server::start(&["--shards", "2"]);
    let folder = Folder::new("compare");
    let (one, two) = (folder.file("one.json"), folder.file("two.json"));
    let line =
        |file: &str, more: &str| format!("echo URL -c 2 --duration 1s --warmup 100ms --json {file}{more}");
    assert_eq!(bench(&server.url(), &line(&one, "")).status.code(), Some(0));
    let output = bench(&server.url(), &line(&two, &format!(" -i 8 --compare {one}")));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = said(&output);
    for expected in [
        "checks      ok",
        "differs     in flight: 1 before, 8 after",
        "p99.9",
        "before you believe a difference",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // A run beside itself differs in nothing.
    let text = said(&run(&["--compare", &one, &one]));
    assert!(text.contains("equal") && !text.contains("worse") && !text.contains("\ndiffers"), "{text}");
    let text = said(&run(&["--compare", &one, &two]));
    assert!(text.contains("before      ") && text.contains("after       "), "{text}");
    std::fs::write(folder.file("other.json"), "{\"schema\":\"k6\"}").unwrap();
    let other = folder.file("other.json");
    let url = server.url();
    let rows: [(&[&str], &str); 5] = [
        (&["--compare", &one], "--compare needs a second file"),
        (&["--compare", &one, &other], "its schema is k6"),
        (&["--compare", &one, "/nonexistent.json"], "No such file"),
        (&["echo", &url, "--compare", &one, &two], "leave out the one or the other"),
        (&[], "SCENARIO"),
    ];
    for (words, expected) in rows {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{words:?}: {}", said(&output));
    }
}

/// Whether every tag is closed in its order; what is wrong otherwise.
fn check_markup(page: &str) -> Result<BTreeSet<String>, String> {
    let (mut open, mut seen, mut rest) = (Vec::new(), BTreeSet::new(), page);
    while let Some((before, after)) = rest.split_once('<') {
        if before.contains('>') && !open.contains(&"style") {
            return Err(format!("a bare > in {before:?}"));
        }
        let (tag, text) = after.split_once('>').ok_or("a tag without an end")?;
        rest = text;
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("a quote is open in <{tag}>"));
        }
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes something else"));
            }
        } else if !tag.starts_with('!') {
            seen.insert(name.to_owned());
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    if open.is_empty() { Ok(seen) } else { Err(format!("{open:?} is not closed")) }
}

#[test]
fn the_page_is_whole_by_itself_and_escapes_what_comes_from_outside() {
    let server = Server::start(&["--shards", "2"]);
    let folder = Folder::new("page");
    let (page, before) = (folder.file("page.html"), folder.file("before.json"));
    let hostile = "</script><script>alert('&\"')</script>";
    let rows = [
        ("echo", "--duration 1s --warmup 0s", ""),
        ("echo", "--stage 500ms:300 --stage 500ms:300", ""),
        ("echo", "--duration 300ms --warmup 0s --drain 100ms", hostile),
        ("storm", "--duration 60s --warmup 0s", ""),
        ("ticks", "--duration 1s --warmup 0s", ""),
        ("dashboard", "--duration 1s --warmup 0s", ""),
        ("connect", "--duration 1s --warmup 0s", ""),
        ("idle", "--duration 300ms --warmup 0s", ""),
    ];
    for (scenario, options, event) in rows {
        let url = server.url();
        let mut words = vec![scenario, &url, "-c", "4", "--html", &page, "--json", &before];
        words.extend(options.split(' '));
        if !event.is_empty() {
            words.extend(["--event", event]);
        }
        if Path::new(&before).exists() {
            words.extend(["--compare", &before]);
        }
        let output = run(&words);
        assert!(output.status.code() < Some(2), "{words:?}: {}", said(&output));
        let text = std::fs::read_to_string(&page).unwrap();
        let tags = check_markup(&text).unwrap_or_else(|fault| panic!("{scenario}: {fault}\n{text}"));
        for outside in ["script", "link", "iframe", "img", "object", "a"] {
            assert!(!tags.contains(outside), "{scenario}: a tag {outside}");
        }
        assert!(
            !text.contains("url(") && !text.contains("@import") && !text.contains("alert('"),
            "{scenario}"
        );
        assert!(!text.contains("NaN") && !text.contains("inf "), "{scenario}");
        let figures = text.matches("<figure>").count();
        assert!(
            figures == 3
                || (scenario == "idle" && figures >= 1)
                || (!event.is_empty())
                || scenario == "storm"
                || scenario == "connect",
            "{scenario}: {figures} plots"
        );
        assert_eq!(text.contains("Against the run before"), words.contains(&"--compare"), "{scenario}");
    }
    // Without a run.
    std::fs::remove_file(&page).unwrap();
    let output = run(&["--compare", &before, &before, "--html", &page]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    check_markup(&std::fs::read_to_string(&page).unwrap()).unwrap();
}
