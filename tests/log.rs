//! The log of real processes: what becomes of a server whose log nobody reads, or that peers make say much.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shardcast::http::Response;
use shardcast::{Config, Server};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Refused requests of a flood: more lines than a pipe and the log's queue hold together.
const FLOOD: usize = 8000;

/// Set for the copy of this test program that is a server.
const SERVE: &str = "TEST_LOG_SERVE";

/// A server's process. It is gone with the value.
struct Process {
    child: Child,
    socket: PathBuf,
}

impl Process {
    /// The demo, with these settings.
    fn demo(name: &str, settings: &[(&str, &str)], error: impl Into<Stdio>) -> Process {
        Process::start(name, Command::new(env!("CARGO_BIN_EXE_shardcast")), settings, error)
    }

    /// A program of a library's user: `served` below.
    fn of_a_user(name: &str, settings: &[(&str, &str)], error: impl Into<Stdio>) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", "served", "--nocapture"]).env(SERVE, "yes").stdout(Stdio::null());
        Process::start(name, command, settings, error)
    }

    fn start(
        name: &str,
        mut command: Command,
        settings: &[(&str, &str)],
        error: impl Into<Stdio>,
    ) -> Process {
        let socket = std::env::temp_dir().join(format!("shardcast-log-{}-{name}.sock", std::process::id()));
        let bind = format!("unix:{}", socket.display());
        command.env("SHARDCAST_BIND", bind).env("SHARDCAST_SHARDS", "2").envs(settings.iter().copied());
        let child = command.stderr(error).spawn().expect("the program starts");
        let process = Process { child, socket };
        let started = Instant::now();
        while UnixStream::connect(&process.socket).is_err() {
            assert!(started.elapsed() < PATIENCE, "{name}: nobody listens");
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    fn ask(&self, requests: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.write_all(requests.as_bytes()).expect("the requests are sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers and closes");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }

    /// A session whose poll waits.
    fn poll(&self) -> UnixStream {
        let opened = self.get("/socket.io/?EIO=4&transport=polling");
        let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
        let mut stream = UnixStream::connect(&self.socket).expect("the server accepts");
        let poll = format!("GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n");
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

    fn signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
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
        let (mut process, _pipe) = with_reader(reader, |error| Process::of_a_user(&name, &settings, error));
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
    let mut process = Process::of_a_user(name, settings, file);
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
    let mut pipe = pipe.expect("the pipe is kept");
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("the log is text");
        text
    });
    std::thread::sleep(Duration::from_millis(300));
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

/// Not a test by itself: the program of somebody who brings no subscriber.
#[test]
fn served() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let config = Config::load().expect("the settings are sound");
    Server::new(config)
        .namespace("/", |_| {})
        .route("/panic", |_| -> Response { panic!("a handler's end") })
        .run()
        .expect("it serves and stops");
}
