//! `shardcast emit` and the like of it: what is said of a command line, and the exit code that scripts go by.

use std::process::{Command, Output};

/// A command line in words, without variables that the test's own environment may have.
fn run(line: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    let inherited = std::env::vars_os().map(|(name, _)| name);
    let ours = inherited.filter(|name| name.to_string_lossy().starts_with("SHARDCAST_"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command.args(line).envs(variables.iter().copied()).output().expect("the program runs")
}

#[test]
fn each_command_line_has_its_exit_code_and_says_what_to_change() {
    const MEMORY: &[&str] = &["--queue", "memory:"];
    let rows: &[(&[&str], i32, &str)] = &[
        (&["emit", "news"], 0, ""),
        (&["emit", "news", "1", "-2.5", "\"a text\"", "{\"x\": [null]}"], 0, ""),
        (
            &["emit", "-n", "/chat", "-r", "a", "-r", "b", "-x", "c", "-c", "chat", "-f", "none", "news"],
            0,
            "",
        ),
        (
            &["emit", "news", "hello"],
            2,
            "argument 1 of the event is no JSON: hello: expected value at line 1 column 1",
        ),
        (&["emit", "news", "1", "It works"], 2, "argument 2 of the event is no JSON: It works"),
        (&["emit", "disconnect"], 2, "the event name \"disconnect\" is reserved"),
        (&["emit"], 2, "<EVENT>"),
        (
            &["emit", "news", "--format", "pyhton"],
            2,
            "--format: \"pyhton\" is no format; did you mean python?",
        ),
        (&["emit", "news", "--format", "node"], 2, "Node's formats need Redis"),
        (&["emit", "news", "--channel", ""], 2, "channel = \"\": it is empty"),
        (&["emit", "news", "--timeout", "soon"], 2, "--timeout"),
        (&["emit", "news", "--romo", "a"], 2, "--room"),
        (&["join", "vip", "--room", "a"], 0, ""),
        (&["leave", "vip", "--everyone"], 0, ""),
        (&["disconnect", "--room", "a"], 0, ""),
        (&["disconnect", "--close", "--everyone"], 0, ""),
        (&["join", "vip"], 2, "--everyone"),
        (&["disconnect"], 2, "--everyone"),
        (&["disconnect", "--everyone", "--room", "a"], 2, "cannot be used with"),
    ];
    for (line, code, expected) in rows {
        let output = run(&[line, MEMORY].concat(), &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{line:?}: {said}");
        assert!(said.contains(expected) && (*code != 0 || said.is_empty()), "{line:?}: {said}");
        assert!(output.stdout.is_empty(), "{line:?}");
    }
}

#[test]
fn the_queue_is_that_of_the_servers_configuration_and_its_password_is_not_shown() {
    let rows: &[(&[&str], &[(&str, &str)], i32, &str)] = &[
        (&[], &[], 2, "write --queue redis://localhost:6379/0, or set SHARDCAST_MESSAGE_QUEUE"),
        (&[], &[("SHARDCAST_MESSAGE_QUEUE", "memory:")], 0, ""),
        (&["--queue", "memory:"], &[("SHARDCAST_MESSAGE_QUEUE", "memory:b")], 0, ""),
        (&[], &[("SHARDCAST_MESSAGE_QUEU", "memory:")], 2, "did you mean SHARDCAST_MESSAGE_QUEUE?"),
        (
            &["--queue", "redsi://u:s3cret@a"],
            &[],
            2,
            "redsi://u:***@a\": redsi:// is unknown; did you mean redis://?",
        ),
        (&[], &[("SHARDCAST_MESSAGE_QUEUE", "sqs://u:s3cret@a")], 2, "sqs:// is not supported"),
        (&["--queue", "redis://u:s3/cret@a"], &[], 2, "write %2F for it"),
    ];
    for (line, variables, code, expected) in rows {
        let output = run(&[&["emit", "news"], *line].concat(), variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{line:?}: {said}");
        assert!(said.contains(expected) && !said.contains("cret"), "{line:?}: {said}");
    }
}
