//! The log of real processes: what becomes of a server whose log nobody reads, or that peers make say much.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

mod process;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use process::{PATIENCE, Process, SERVE};
use shardcast::http::Response;
use shardcast::{Config, Server};

/// Refused requests of a flood: more lines than a pipe and the log's queue hold together.
const FLOOD: usize = 8000;

impl Process {
    /// The demo, with these settings.
    fn demo(name: &str, settings: &[(&str, &str)], error: impl Into<Stdio>) -> Process {
        Process::start(name, Command::new(env!("CARGO_BIN_EXE_shardcast")), settings, error)
    }

    /// A session whose poll waits.
    fn poll(&self) -> UnixStream {
        let poll = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", self.open());
        let mut stream = self.connect();
        stream.write_all(poll.as_bytes()).expect("the request is sent");
        stream
    }

    /// Has it refuse requests, and say so each time.
    fn flood(&self, path: &str) {
        const AT_ONCE: usize = 100;
        let batch = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(AT_ONCE - 1);
        let last = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        for _ in 0..FLOOD / AT_ONCE {
            let answers = self.ask(&format!("{batch}{last}"));
            assert_eq!(answers.matches("HTTP/1.1 ").count(), AT_ONCE);
        }
    }
}

const REFUSED: &str = "/socket.io/?EIO=4&transport=polling&sid=AAAABBBBCCCCDDDDEEEE&token=secret-of-a-client";

/// What can become of whoever reads the log.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Gone,
    Blocked,
    Full,
}

const READERS: [Reader; 3] = [Reader::Gone, Reader::Blocked, Reader::Full];

/// A server whose log has such a reader. What is given back is to be kept.
fn with_reader(
    reader: Reader,
    start: impl Fn(Stdio) -> Process,
) -> (Process, Option<BufReader<std::process::ChildStderr>>) {
    if matches!(reader, Reader::Full) {
        return (start(File::create("/dev/full").expect("there is a full device").into()), None);
    }
    let mut process = start(Stdio::piped());
    let mut lines = BufReader::new(process.child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("serving") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("the log can be read"), 0, "it ended before it served");
    }
    (process, matches!(reader, Reader::Blocked).then_some(lines))
}

#[test]
fn a_server_whose_log_nobody_reads_serves_on_and_stops() {
    for reader in READERS {
        let settings = [("SHARDCAST_LOG_RATE", "0")];
        let name = format!("unread-{reader:?}");
        let (mut process, _pipe) = with_reader(reader, |error| Process::demo(&name, &settings, error));
        process.flood(REFUSED);
        for _ in 0..10 {
            assert!(process.get("/style.css").starts_with("HTTP/1.1 200"), "{reader:?}");
        }
        process.signal();
        let status = process.wait();
        assert!(status.success(), "{reader:?}: {status}");
    }
}

#[test]
fn a_second_signal_ends_a_server_whose_log_nobody_reads() {
    for reader in READERS {
        let settings = [("SHARDCAST_LOG_RATE", "0"), ("SHARDCAST_SHUTDOWN_SPREAD", "10m")];
        let name = format!("second-{reader:?}");
        let (mut process, _pipe) = with_reader(reader, |error| Process::demo(&name, &settings, error));
        process.flood(REFUSED);
        // The sessions end one after another, over ten minutes.
        let _polls: Vec<UnixStream> = (0..20).map(|_| process.poll()).collect();
        process.signal();
        // The first must have been taken before the second counts as one.
        let started = Instant::now();
        let status = loop {
            std::thread::sleep(Duration::from_millis(100));
            assert!(started.elapsed() < PATIENCE, "{reader:?}: it does not end");
            match process.child.try_wait().expect("it can be waited for") {
                Some(status) => break status,
                None => process.signal(),
            }
        };
        assert_eq!(status.code(), Some(130), "{reader:?}");
    }
}

#[test]
fn panics_do_not_wait_for_a_reader_and_are_lines_of_the_log() {
    for reader in READERS {
        let settings = [("SHARDCAST_LOG_RATE", "0"), ("RUST_BACKTRACE", "1")];
        let name = format!("panic-{reader:?}");
        let (mut process, _pipe) =
            with_reader(reader, |error| Process::of_a_user("served", &name, &settings, error));
        for _ in 0..150 {
            assert!(process.get("/panic").starts_with("HTTP/1.1 500"), "{reader:?}");
        }
        process.signal();
        let status = process.wait();
        assert!(status.success(), "{reader:?}: {status}");
    }
    let log = logged("panic", &[], |process| {
        process.get("/panic");
    });
    assert!(log.contains("panicked: a handler's end") && log.contains("tests/log.rs:"), "{log}");
}

/// Everything that a user's program, which brings no subscriber, has logged to a file.
fn logged(name: &str, settings: &[(&str, &str)], act: impl Fn(&Process)) -> String {
    let path = std::env::temp_dir().join(format!("shardcast-log-{}-{name}.txt", std::process::id()));
    let file = File::create(&path).expect("a file can be made");
    let mut process = Process::of_a_user("served", name, settings, file);
    act(&process);
    process.signal();
    assert!(process.wait().success());
    read_and_remove(&path)
}

fn read_and_remove(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("the log is text");
    std::fs::remove_file(path).expect("the log is there");
    text
}

#[test]
fn what_is_lost_is_counted_in_the_log_once_it_is_read_again() {
    let settings = [("SHARDCAST_LOG_RATE", "0")];
    let start = |error| Process::demo("lost", &settings, error);
    let (mut process, pipe) = with_reader(Reader::Blocked, start);
    process.flood(REFUSED);
    let pipe = pipe.expect("the pipe is kept");
    let (told, is_told) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map(|line| line.expect("the log is text"));
        let lines = lines.inspect(|line| {
            if line.contains("lines of the log were lost") {
                let _ = told.send(());
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    // Then there is room again for what is said at the end.
    is_told.recv_timeout(Duration::from_secs(30)).expect("the log says what it has lost");
    process.signal();
    assert!(process.wait().success());
    let log = reading.join().expect("the reader ends");
    let written = log.matches("Engine.IO request refused").count();
    let lost: usize = log
        .lines()
        .filter(|line| line.contains("lines of the log were lost"))
        .filter_map(|line| line.split("log: ").nth(1)?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert!(lost > 0 && written < FLOOD, "{written} written, {lost} lost");
    assert!(written + lost >= FLOOD, "{written} written, {lost} lost of {FLOOD}");
    assert!(log.lines().last().is_some_and(|line| line.ends_with("stopped")), "{:?}", log.lines().last());
}

#[test]
fn a_flood_of_one_kind_is_counted_and_says_no_secret() {
    let started = Instant::now();
    let log = logged("flood", &[], |process| process.flood(REFUSED));
    let seconds = started.elapsed().as_secs() as usize + 1;
    let kind = |line: &&str| line.contains("Engine.IO request refused");
    let (left_out, written): (Vec<&str>, Vec<&str>) =
        log.lines().filter(kind).partition(|line| line.contains("more lines of this kind were left out"));
    let counted: usize = left_out
        .iter()
        .filter_map(|line| line.split("log: ").nth(1)?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!(written.len() + counted, FLOOD, "{left_out:?}");
    assert!(written.len() <= 100 + 10 * seconds, "{} lines in {seconds} s", written.len());
    for secret in ["AAAABBBBCCCCDDDDEEEE", "secret-of-a-client", "\u{1b}"] {
        assert!(!log.contains(secret), "the log has {secret:?}");
    }
    assert!(written[0].contains("url=\"/socket.io/?EIO=4&transport=polling\""), "{}", written[0]);
    assert!(log.contains("serving unix:") && log.contains("stopped"), "{log}");
}

#[test]
fn a_filter_that_means_nothing_is_an_error_that_names_the_nearest() {
    let rows = [
        ("verbose", "log = \"verbose\": \"verbose\" is no level"),
        ("warning", "did you mean warn?"),
        ("info,shardcats=debug", "did you mean shardcast?"),
        ("info,other=debug", "nothing is logged by \"other\""),
        ("info,shardcast::socketoi=debug", "did you mean shardcast::socketio?"),
        ("", "log = \"\": write error"),
    ];
    for (filter, expected) in rows {
        let command = || Command::new(env!("CARGO_BIN_EXE_shardcast"));
        let by_variable =
            command().env("SHARDCAST_LOG", filter).env("SHARDCAST_BIND", "127.0.0.1:0").output();
        let by_option = command().args(["--log", filter, "--bind", "127.0.0.1:0"]).output();
        for output in [by_variable, by_option] {
            let output = output.expect("the program runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{filter}: {said}");
            assert!(said.starts_with("error: ") && said.contains(expected), "{filter}: {said}");
        }
    }
}

#[test]
fn what_leads_nowhere_is_said_in_the_log() {
    let log = logged("nowhere", &[], |process| {
        let wrong = process.get("/sokcet.io/?EIO=4&transport=polling&token=secret-of-a-client");
        let missing = process.get("/files/app.js");
        let client = process.get("/socket.io/socket.io.js.map");
        for answer in [wrong, missing, client] {
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
        let session = process.open();
        let joined = process.post(&session, "40/elsewhere,{\"token\":\"secret-of-a-client\"}");
        assert!(joined.ends_with("ok"), "{joined}");
        let refused = process.get(&session);
        assert!(refused.contains("44/elsewhere,{\"message\":\"Invalid namespace\"}"), "{refused}");
    });
    for parts in [
        ["WARN", "static_folder: no such folder", "url=\"/files\"", "/no-such-folder"],
        [
            "INFO",
            "no route, folder or endpoint is at this path",
            "path=\"/sokcet.io/\"",
            "endpoint=\"/socket.io/\"",
        ],
        [
            "INFO",
            "refused with \"Invalid namespace\"",
            "namespace=\"/elsewhere\"",
            "endpoint=\"/socket.io/\"",
        ],
        ["WARN", "no copy of the browser client", "path=\"/socket.io/socket.io.js.map\"", "client_bundle"],
    ] {
        let said = log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        assert_eq!(said, 1, "a line with {parts:?}: {log}");
    }
    assert!(!log.contains("secret-of-a-client"), "{log}");
}

#[test]
fn a_bundle_that_is_not_there_is_an_error_before_anything_is_served() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.env("SHARDCAST_CLIENT_BUNDLE", "no-such-bundle").args(["--bind", "127.0.0.1:0"]);
    let output = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("client_bundle = \"no-such-bundle\": there is no socket.io.js"), "{said}");
    assert!(!said.contains("serving"), "{said}");
}

/// Not a test by itself: the program of somebody who brings no subscriber.
#[test]
fn served() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let config = Config::load().expect("the settings are sound");
    Server::new(config)
        .namespace("/", |_| {})
        .static_folder("/files", "no-such-folder")
        .route("/panic", |_| -> Response { panic!("a handler's end") })
        .run()
        .expect("it serves and stops");
}
