//! `shardcast top` beside a server of its own: what it shows, and what it says where it cannot.
#![allow(clippy::disallowed_methods)] // A test with real processes waits in real time.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

#[allow(dead_code, reason = "one server of several kinds is started here")]
mod process;

use process::Process;

const TOKEN: &str = "a-token-of-operators";

/// What it says on standard output and standard error, and whether it went well.
fn top(address: &str, more: &[&str], token: Option<&str>) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    command.env_remove("SHARDCAST_ADMIN_BIND").env_remove("SHARDCAST_ADMIN_TOKEN");
    command.envs(token.map(|token| ("SHARDCAST_ADMIN_TOKEN", token)));
    let output =
        command.args(["top", address, "--once", "--interval", "100ms"]).args(more).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn figures_are_shown_to_operators_and_others_hear_why_not() {
    let admin = Process::socket_of("top-admin");
    let admin_bind = format!("unix:{}", admin.display());
    let mut program = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    // The token comes by the environment, the listener by an option.
    program.args(["serve", "--admin-bind", &admin_bind]);
    let process = Process::start("top", program, &[("SHARDCAST_ADMIN_TOKEN", TOKEN)], Stdio::null());
    let mut client = process.connect();
    client
        .write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("it is sent");
    assert!(client.read(&mut [0; 1024]).expect("an answer") > 0);

    for (more, token) in [(&["--token", TOKEN][..], None), (&[], Some(TOKEN))] {
        let (is_well, shown, said) = top(&admin_bind, more, token);
        assert!(is_well, "{said}");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("shardcast ") && lines[0].ends_with(": ready"), "{shown}");
        let all: Vec<&str> = lines
            .iter()
            .find(|line| line.trim_start().starts_with("all"))
            .expect("a sum")
            .split_whitespace()
            .collect();
        // all, its share and %, connections, sessions.
        assert_eq!(all[4], "1", "one session: {shown}");
    }
    let clients = format!("unix:{}", process.socket.display());
    for (address, token, expected) in [
        (admin_bind.as_str(), None, "401: give --token or --user"),
        (&admin_bind, Some("another-token-here"), "401"),
        (&clients, None, "that is not the operators' listener"),
        ("unix:/nowhere/at/all", None, "is admin_bind set"),
        ("ftp://127.0.0.1:1", None, "neither http nor https"),
    ] {
        let (is_well, shown, said) = top(address, &[], token);
        assert!(!is_well && shown.is_empty() && said.contains(expected), "{address}: {shown}{said}");
    }
    drop(client);
    drop(process);
    let _ = std::fs::remove_file(admin);
}
