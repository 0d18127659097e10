//! SIGHUP: a running server reads its settings again; real processes, real sockets.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

/// A server with a file of settings, in a folder of its own.
struct Served {
    folder: PathBuf,
    child: Child,
    port: u16,
    admin: u16,
}

impl Served {
    fn start(name: &str, settings: &str, change: impl FnOnce(&mut Command)) -> Served {
        let folder = std::env::temp_dir().join(format!("shardcast-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let [port, admin] = free_ports();
        let served_at = format!("bind = \"127.0.0.1:{port}\"\nadmin_bind = \"127.0.0.1:{admin}\"\n");
        fs::write(folder.join("served"), &served_at).expect("it can be written");
        fs::write(folder.join("settings.toml"), served_at + settings).expect("it can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        let log = fs::File::create(folder.join("log")).expect("a log");
        // A relative path is one for the process as it was at the start.
        command
            .args(["--config", "settings.toml", "--shards", "2"])
            .current_dir(&folder)
            .env("NO_COLOR", "1");
        command.stderr(log).stdout(Stdio::null()).stdin(Stdio::null());
        change(&mut command);
        let child = command.spawn().expect("the program starts");
        let served = Served { folder, child, port, admin };
        await_that("it serves", || served.ask(OPEN, "").is_some());
        served
    }

    /// Writes other settings, and has the server read them.
    fn reload(&self, settings: &str) {
        let served_at = fs::read_to_string(self.folder.join("served")).expect("it is there");
        fs::write(self.folder.join("settings.toml"), served_at + settings).expect("it can be written");
        let count = self.reloads();
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("it runs");
        await_that("it has read them", || self.reloads() > count);
    }

    fn reloads(&self) -> usize {
        self.log().lines().filter(|line| line.contains("SIGHUP: ")).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).expect("it is there")
    }

    /// The status of an answer, if there is one.
    fn ask(&self, path: &str, headers: &str) -> Option<u16> {
        ask(self.port, path, headers)
    }

    fn operator(&self, token: &str) -> Option<u16> {
        ask(self.admin, "/metrics", &format!("Authorization: Bearer {token}\r\n"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn ask(port: u16, path: &str, headers: &str) -> Option<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sighup_takes_what_it_can_and_names_what_needs_a_restart() {
    let origin = "Origin: https://new.example\r\n";
    let first = "admin_token = \"the-first-of-secrets\"\nlog = \"info\"\n";
    let served = Served::start("reload", first, |_| {});
    assert_eq!(
        (served.operator("the-first-of-secrets"), served.operator("the-second-of-secrets")),
        (Some(200), Some(401))
    );
    assert_eq!(served.ask(OPEN, origin), Some(400));
    assert!(!served.log().contains("DEBUG"));

    served.reload(
        "admin_token = \"the-second-of-secrets\"\nlog = \"info,shardcast::engineio=debug\"\nshards = 3\n\
         cors_allowed_origins = \"https://new.example\"\nheader_timeout = \"3s\"\nchannel = \"other\"\n",
    );
    // Each shard answers some of these.
    await_that("both shards have heard", || (0..20).all(|_| served.ask(OPEN, origin) == Some(200)));
    assert_eq!(
        (served.operator("the-first-of-secrets"), served.operator("the-second-of-secrets")),
        (Some(401), Some(200))
    );
    let log = served.log();
    for line in [
        "a setting has changed setting=\"admin_token\"",
        "a setting has changed setting=\"log\" before=\"\\\"info\\\"\" after=\"\\\"info,shardcast::engineio=debug\\\"\"",
        "a setting has changed setting=\"cors_allowed_origins\" before=\"same-origin\" after=\"https://new.example\"",
        "a new value needs a restart setting=\"header_timeout\" running=\"10s\" new=\"3s\"",
        "a new value needs a restart setting=\"channel\"",
        "sets this itself setting=\"shards\"",
        "SIGHUP: the settings were read again changed=3 needs_restart=2",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    assert!(!log.contains("of-secrets"), "{log}");
    await_that("the finer level is heard", || served.log().contains("DEBUG"));
}

#[test]
fn a_file_that_is_wrong_or_gone_keeps_the_old_settings() {
    let token = "admin_token = \"the-first-of-secrets\"\n";
    let served = Served::start("reload-wrong", token, |_| {});
    for (settings, fault) in [
        ("drain = 1\n", "unknown key drain"),
        ("admin_token = \"short\"\n", "admin_token: it has fewer than 16"),
        ("admin_token = [\n", "settings.toml: line 3"),
    ] {
        served.reload(settings);
        let log = served.log();
        let line = log.lines().rfind(|line| line.contains("SIGHUP: ")).expect("it was just there");
        assert!(
            line.contains(fault) && line.contains("ERROR") && line.contains("stay as they were"),
            "{line}"
        );
        assert_eq!(served.operator("the-first-of-secrets"), Some(200), "{settings}");
    }
    fs::remove_file(served.folder.join("settings.toml")).expect("it is there");
    kill_process(Pid::from_child(&served.child), Signal::HUP).expect("it runs");
    await_that("the log says so", || served.log().contains("cannot read"));
    served.reload(token);
    assert!(served.log().contains("SIGHUP: the settings were read again changed=0 needs_restart=0"));
}

#[test]
fn a_service_manager_hears_that_settings_are_read_again() {
    let path = std::env::temp_dir().join(format!("shardcast-notify-of-reload-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let served = Served::start("reload-notify", "", |command| _ = command.env("NOTIFY_SOCKET", &path));
    let hear = || {
        let mut words = [0; 256];
        let len = manager.recv(&mut words).expect("something is said");
        String::from_utf8_lossy(&words[..len]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    served.reload("log_rate = 20\n");
    let said = hear();
    let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("first, that it begins");
    assert!(micros.parse::<u64>().is_ok_and(|micros| micros > 0), "{said}");
    assert_eq!(hear(), "READY=1");
    fs::remove_file(&path).expect("it is bound");
}
