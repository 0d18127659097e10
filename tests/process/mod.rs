//! A server as a process of its own, which a test asks over a Unix socket, stops, and waits for.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Set for the copy of a test program that is a server.
pub(crate) const SERVE: &str = "TEST_SERVE";

/// A server's process. It is gone with the value.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
}

impl Process {
    /// This test program once more, as the program of a library's user: its test `program` alone, which serves as [`SERVE`] is set.
    pub(crate) fn of_a_user(
        program: &str,
        name: &str,
        settings: &[(&str, &str)],
        error: impl Into<Stdio>,
    ) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", program, "--nocapture"]).env(SERVE, "yes").stdout(Stdio::null());
        Process::start(name, command, settings, error)
    }

    /// Waits until it listens. `name` tells the servers of one test program apart.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        settings: &[(&str, &str)],
        error: impl Into<Stdio>,
    ) -> Process {
        let socket = Process::socket_of(name);
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

    /// Where the server of this name listens.
    pub(crate) fn socket_of(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("shardcast-process-{}-{name}.sock", std::process::id()))
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream
    }

    pub(crate) fn ask(&self, requests: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(requests.as_bytes()).expect("the requests are sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers and closes");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        let length = body.len();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// The path of a new session's polls.
    pub(crate) fn open(&self) -> String {
        let opened = self.get("/socket.io/?EIO=4&transport=polling");
        let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
        format!("/socket.io/?EIO=4&transport=polling&sid={sid}")
    }

    pub(crate) fn signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
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
