//! The program with its log in a folder of the test's own, and the processes that it hands over to.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything that is waited for here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of the test's own, with the log of its processes. It is gone with the value, as are the processes that its log names.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("shardcast-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder can be made");
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }

    /// A command whose log is here, and is its children's too.
    pub(crate) fn command(&self, program: &str) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.0.join("log")).expect("a log");
        let mut command = Command::new(program);
        command.stderr(log).stdout(Stdio::null()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    /// The process that was started by the hand-over of this number, once it serves.
    pub(crate) fn successor(&self, number: usize) -> Option<Pid> {
        self.successors().get(number).copied()
    }

    fn successors(&self) -> Vec<Pid> {
        let id = |line: &str| {
            let (_, rest) = line.split_once("process=")?;
            Pid::from_raw(rest.split_whitespace().next()?.parse().ok()?)
        };
        self.log().lines().filter(|line| line.contains("the new process serves")).filter_map(id).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for process in self.successors() {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is gone with the value.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(mut command: Command) -> Program {
        Program(command.spawn().expect("the program starts"))
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("it runs");
    }

    pub(crate) fn await_end(&mut self) -> Option<i32> {
        await_that("the process ends", || self.0.try_wait().expect("it can be waited for").is_some());
        self.0.wait().expect("it has ended").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Set when the value goes, also by a panic: threads that look at it end.
#[derive(Default)]
pub(crate) struct Over(AtomicBool);

impl Over {
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn when_dropped(&self) -> impl Drop {
        struct End<'a>(&'a Over);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::SeqCst);
            }
        }
        End(self)
    }
}

pub(crate) fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
    listener.local_addr().expect("it is bound").port()
}
