//! `shardcast emit` and the like of it: what is said of a command line, and the exit code that scripts go by.

#![allow(clippy::disallowed_methods)] // A test with a real broker waits in real time.

#[allow(dead_code, reason = "one broker of several is started here")]
#[path = "process/broker.rs"]
mod broker;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use broker::{Authority, BrokerProcess};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Words of a command line, variables, the exit code, what is said.
type Row = (&'static [&'static str], &'static [(&'static str, &'static str)], i32, &'static str);

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
    let rows: &[Row] = &[
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

/// What Redis publishes on a channel, as a subscriber hears it.
fn subscribe(port: u16, channel: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("Redis accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.write_all(format!("SUBSCRIBE {channel}\r\n").as_bytes()).expect("sent");
    await_text(&mut stream, ":1\r\n");
    stream
}

/// Reads until something was said, and returns all.
fn await_text(stream: &mut TcpStream, expected: &str) -> String {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(expected) {
        let mut piece = [0; 4096];
        let len = stream.read(&mut piece).expect("it comes in time");
        assert!(len > 0, "Redis has closed after {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..len]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn the_exit_code_says_whether_redis_has_taken_it() {
    let mut redis = BrokerProcess::redis(&[]);
    let url = format!("redis://127.0.0.1:{}/0", redis.port);
    let mut python = subscribe(redis.port, "flask-socketio");
    let output = run(&["emit", "--queue", &url, "--room", "a", "news", "\"It works\"", "[1]"], &[]);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let heard = await_text(&mut python, "It works");
    for part in ["\"method\"", "emit", "\"news\"", "\"a\"", "[1]"] {
        assert!(heard.contains(part), "{part}: {heard}");
    }
    let output = run(&["join", "--queue", &url, "--room", "a", "vip"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    redis.command("CONFIG SET requirepass s3cret");
    let locked = format!("redis://:wr0ng@127.0.0.1:{}/0", redis.port);
    let output = run(&["emit", "--queue", &locked, "--timeout", "15s", "news"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("not sent: the message queue did not take it") && !said.contains("wr0ng"),
        "{said}"
    );
    let open = format!("redis://:s3cret@127.0.0.1:{}/0", redis.port);
    assert_eq!(run(&["emit", "--queue", &open, "news"], &[]).status.code(), Some(0));

    redis.kill();
    let output = run(&["emit", "--queue", &open, "--timeout", "300ms", "news"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("not sent: the message queue did not take it") && !said.contains("s3cret"),
        "{said}"
    );
}

/// Two authorities in a folder of a test; the second has signed nothing that a broker has.
struct Authorities {
    folder: PathBuf,
    right: Authority,
    other: Authority,
}

impl Authorities {
    fn new(name: &str) -> Authorities {
        let folder = std::env::temp_dir().join(format!("shardcast-tls-{name}-{}", std::process::id()));
        let [right, other] = ["right", "other"].map(|name| {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).expect("a folder can be made");
            Authority::new(&folder)
        });
        Authorities { folder, right, other }
    }

    /// The certificate of a broker's own authority is known by `SSL_CERT_FILE`; what does not fit is said, without a secret.
    fn are_told_apart(&self, url: impl Fn(&str) -> String) {
        let missing = self.folder.join("missing.pem");
        let rows = [
            (&self.right.certificate, "s3cret", 0, ""),
            (&self.right.certificate, "wr0ng", 1, "message_queue"),
            (&self.other.certificate, "s3cret", 1, "in the variable SSL_CERT_FILE"),
            (&missing, "s3cret", 1, ""),
        ];
        for (file, password, code, expected) in rows {
            let file = file.to_string_lossy();
            let variables = [
                ("SHARDCAST_MESSAGE_QUEUE", &*url(password)),
                ("SSL_CERT_FILE", &*file),
                ("SSL_CERT_DIR", ""),
            ];
            let output = run(&["emit", "news", "--timeout", "15s"], &variables);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{file} {password}: {said}");
            assert!(said.contains(expected) && said.is_empty() == (code == 0), "{file} {password}: {said}");
            assert!(!said.contains("s3cret") && !said.contains("wr0ng"), "{file} {password}: {said}");
        }
    }
}

impl Drop for Authorities {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn redis_by_tls_is_trusted_by_its_authority() {
    let authorities = Authorities::new("redis");
    let Authority { certificate, server_certificate, server_key } = &authorities.right;
    let [authority, certificate, key] =
        [certificate, server_certificate, server_key].map(|path| path.to_string_lossy());
    let redis = BrokerProcess::redis(&[
        "--tls-ca-cert-file",
        &authority,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ]);
    let port = redis.third_port();
    assert_eq!(redis.command(&format!("CONFIG SET tls-port {port}")), "+OK");
    assert_eq!(redis.command("CONFIG SET requirepass s3cret"), "+OK");
    authorities.are_told_apart(|password| format!("rediss://:{password}@localhost:{port}"));
}

#[test]
fn nats_by_tls_is_trusted_by_its_authority() {
    let authorities = Authorities::new("nats");
    let [certificate, key] = [&authorities.right.server_certificate, &authorities.right.server_key]
        .map(|path| path.to_string_lossy());
    let options = ["--tls", "--tlscert", &certificate, "--tlskey", &key, "--user", "u", "--pass", "s3cret"];
    let nats = BrokerProcess::nats(&options);
    authorities.are_told_apart(|password| format!("natss://u:{password}@localhost:{}", nats.port));
}

#[test]
fn rabbitmq_by_tls_is_trusted_by_its_authority() {
    let authorities = Authorities::new("rabbitmq");
    let rabbitmq = BrokerProcess::rabbitmq_with_tls(&authorities.right);
    authorities.are_told_apart(|password| {
        let password = if password == "s3cret" { "guest" } else { password };
        format!("amqps://guest:{password}@localhost:{}", rabbitmq.port)
    });
}
