//! Configuration from a TOML file and the environment.
//!
//! The environment wins over the file, the file over the defaults. What is unknown is an error that names the
//! nearest known key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::config::check::nearest;
use crate::config::endpoint::merge;
use crate::config::source::{Source, Sources};
use crate::server::cluster::is_of_a_service;
use crate::server::{Error, Result};

/// What every environment variable of the configuration starts with.
const PREFIX: &str = "SHARDCAST_";

/// The variable that names a configuration file; it is no key of the file itself.
pub(super) const FILE_VARIABLE: &str = "SHARDCAST_CONFIG";

/// Keys whose value is text also where it looks like a number.
const TEXT_KEYS: &[&str] = &[
    "admin_password",
    "admin_token",
    "admin_ui_password",
    "admin_ui_server_id",
    "admin_ui_user",
    "admin_user",
    "api_tokens",
    "channel",
    "message_queue",
    "node_key",
];

/// The key whose value may hold a password.
const SECRET_KEY: &str = "message_queue";

/// The key whose entries are settings of their own, and are merged.
const ENDPOINT_KEY: &str = "endpoint";

/// Keys whose values are secret.
const SECRET_KEYS: &[&str] = &[SECRET_KEY, "admin_password", "admin_token", "admin_ui_password", TOKENS_KEY];

/// The key whose value holds tokens.
const TOKENS_KEY: &str = "api_tokens";

impl Config {
    /// Every key of the configuration, in the order of the documentation.
    pub const KEYS: &'static [&'static str] = &[
        "bind",
        "bind_shared",
        "admin_bind",
        "admin_token",
        "admin_user",
        "admin_password",
        "admin_ui",
        "admin_ui_auth",
        "admin_ui_user",
        "admin_ui_password",
        "admin_ui_read_only",
        "admin_ui_namespace",
        "admin_ui_server_id",
        "admin_tls",
        "bus_required",
        "shards",
        "pin_shards",
        "io",
        "log",
        "socketio_log",
        "engineio_log",
        "log_rate",
        "path",
        "endpoint",
        "polling",
        "websocket",
        "allow_upgrades",
        "ping_interval",
        "ping_timeout",
        "ping_grace",
        "upgrade_timeout",
        "connect_timeout",
        "always_connect",
        "max_http_buffer_size",
        "attachments_bytes_max",
        "fragments_max",
        "cors_allowed_origins",
        "cors_credentials",
        "cors_allowed_headers",
        "cors_max_age",
        "subprotocols",
        "trust_forwarded",
        "allowed_hosts",
        "trusted_proxies",
        "proxy_protocol",
        "cookie",
        "allow_eio3",
        "serve_client",
        "client_bundle",
        "message_queue",
        "channel",
        "queue_formats",
        "node_key",
        "queue_pickle",
        "queue_bytes_max",
        "queue_message_bytes_max",
        "tls_cert",
        "tls_key",
        "tls",
        "tls_reload_interval",
        "header_timeout",
        "head_bytes_max",
        "keep_alive_timeout",
        "route_timeout",
        "routes_waiting_max",
        "routes_waiting_per_address_max",
        "upload_bytes_max",
        "api_tokens",
        "api_bind",
        "api_rate",
        "api_body_bytes_max",
        "ack_timeout",
        "outbox_bytes_max",
        "outboxes_bytes_max",
        "partial_bytes_max",
        "flush_window",
        "pending_bytes_max",
        "outside_bytes_max",
        "concurrent_handlers_max",
        "poll_packets_max",
        "connections_max",
        "connections_per_address_max",
        "handshakes_per_second_max",
        "lag_max",
        "handoffs_per_second_max",
        "sessions_max",
        "events_per_second_max",
        "bytes_per_second_max",
        "rate_policy",
        "unjoined_sessions_max",
        "unjoined_sessions_per_address_max",
        "shard_key",
        "rooms_per_socket_max",
        "namespaces_per_session_max",
        "namespaces_max",
        "backlog",
        "static_file_bytes_max",
        "parser",
        "expiry_grace",
        "slow_handler",
        "recovery_max_disconnection",
        "recovery_events_max",
        "recovery_bytes_max",
        "recovery_sessions_max",
        "recovery_survives",
        "permessage_deflate",
        "inflate_ratio_max",
        "http_compression",
        "compression_threshold",
        "drain_delay",
        "shutdown_spread",
        "shutdown_timeout",
    ];

    /// Reads the file that `SHARDCAST_CONFIG` names, if it is set, and the other `SHARDCAST_` variables. A file needs the
    /// feature `toml`. [`from_args`](Config::from_args) reads the program's arguments as well.
    ///
    /// # Errors
    /// A key that does not exist, with the nearest one that does; a value that does not fit.
    pub fn load() -> Result<Config> {
        let file = std::env::var_os(FILE_VARIABLE);
        Config::load_with(file.as_deref().map(Path::new), std::env::vars())
    }

    /// Reads a file and variables that the caller chose.
    ///
    /// # Errors
    /// As [`load`](Config::load).
    pub fn load_with(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Config> {
        read(Sources::new(file, variables, Vec::new())?)
    }
}

impl Sources {
    /// A file, and of the variables those that are named like settings.
    pub(super) fn new(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        arguments: Vec<(String, String)>,
    ) -> Result<Sources> {
        let absolute = |file: &Path| {
            std::path::absolute(file).map_err(|error| Error::new(format!("{}: {error}", file.display())))
        };
        let variables = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        Ok(Sources { file: file.map(absolute).transpose()?, variables, arguments, said: Map::new() })
    }
}

/// The configuration that sources say now.
pub(super) fn read(sources: Sources) -> Result<Config> {
    let (mut table, ignored) = read_table(sources.file.as_deref(), sources.variables.iter().cloned())?;
    for (key, text) in &sources.arguments {
        let value = written_value(key, text.clone());
        say(&mut table, key.clone(), value);
    }
    let config = finish(table.clone(), ignored)?;
    Ok(Config { source: Source::new(Sources { said: table, ..sources }), ..config })
}

/// The configuration as it was read, before the program changed it.
pub(super) fn as_read(config: &Config) -> Option<Config> {
    finish(config.source.sources()?.said.clone(), Vec::new()).ok()
}

/// What a file and the environment say, by key, and which variables are none.
fn read_table(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(Map<String, Value>, Vec<String>)> {
    let mut ignored = Vec::new();
    let mut table = match file {
        Some(path) => read_file(path)?,
        None => Map::new(),
    };
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if name == FILE_VARIABLE {
            continue;
        }
        if is_of_a_service(key, &value) {
            ignored.push(name);
            continue;
        }
        let key = key.to_ascii_lowercase();
        if !Config::KEYS.contains(&key.as_str()) {
            let advice =
                suggestion(&key).map(|near| format!("; did you mean {PREFIX}{}?", near.to_ascii_uppercase()));
            return Err(Error::new(format!(
                "unknown environment variable {name}{}",
                advice.unwrap_or_default()
            )));
        }
        let value = written_value(&key, value);
        say(&mut table, key, value);
    }
    ignored.sort_unstable();
    Ok((table, ignored))
}

/// The configuration that a table says.
fn finish(table: Map<String, Value>, ignored: Vec<String>) -> Result<Config> {
    let mut config: Config = match serde_json::from_value(Value::Object(table.clone())) {
        Ok(config) => config,
        Err(error) => return Err(name_fault(&table, &error)),
    };
    config.ignored = ignored;
    config.validate()?;
    Ok(config)
}

/// Adds what was said later than the rest of the table.
fn say(table: &mut Map<String, Value>, key: String, value: Value) {
    let value = match table.remove(&key) {
        Some(earlier) if key == ENDPOINT_KEY => merge(earlier, value),
        _ => value,
    };
    table.insert(key, value);
}

/// The text of a variable or an argument as the value that a file would hold.
fn written_value(key: &str, text: String) -> Value {
    if TEXT_KEYS.contains(&key) { text.into() } else { value_of(&text) }
}

/// Says which key a value does not fit: the first that fails alone.
fn name_fault(table: &Map<String, Value>, error: &serde_json::Error) -> Error {
    let fails_alone = |(key, value): (&String, &Value)| {
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        let error = serde_json::from_value::<Config>(Value::Object(alone)).err()?;
        let error = error.to_string();
        let error = error.trim();
        Some(Error::new(match (key.as_str(), value) {
            // The entry is named by its path. It may hold a password.
            (ENDPOINT_KEY, _) => format!("{key} {error}"),
            (TOKENS_KEY, _) => format!("{key}: it is a list of entries in quotes, or one text"),
            (SECRET_KEY, _) => {
                format!("{key}: it is one URL in quotes, such as \"redis://localhost:6379/0\"")
            }
            (key, _) if SECRET_KEYS.contains(&key) => format!("{key}: it is one text in quotes"),
            _ => format!("{key} = {value}: {error}"),
        }))
    };
    table.iter().find_map(fails_alone).unwrap_or_else(|| Error::new(error.to_string()))
}

#[cfg(not(feature = "toml"))]
fn read_file(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    Err(Error::new(format!(
        "cannot read {shown}: this program reads the environment only; build shardcast with its feature toml"
    )))
}

#[cfg(feature = "toml")]
fn read_file(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Error::new(format!("cannot read {shown}: {error}")))?;
    let table: toml::Table =
        text.parse().map_err(|error| Error::new(format!("{shown}: {}", told(&error, &text))))?;
    for key in table.keys() {
        if !Config::KEYS.contains(&key.as_str()) {
            let advice = suggestion(key).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(Error::new(format!("{shown}: unknown key {key}{advice}")));
        }
    }
    let plain = table.into_iter().map(|(key, value)| match plain_value(value) {
        Some(value) => Ok((key, value)),
        None => Err(Error::new(format!("{shown}: {key}: no setting is a date, or a number that is none"))),
    });
    plain.collect()
}

/// What is wrong with a file's text. The line itself is shown, unless the file may have a password in it.
#[cfg(feature = "toml")]
fn told(error: &toml::de::Error, text: &str) -> String {
    let is_secret =
        SECRET_KEYS.iter().any(|key| text.contains(key)) || (text.contains("://") && text.contains('@'));
    if !is_secret {
        return error.to_string();
    }
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or(text);
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

/// What a file says as the value that a variable would say. `None` for what only TOML has: dates, infinity, `nan`.
#[cfg(feature = "toml")]
fn plain_value(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::Number(serde_json::Number::from_f64(number)?),
        toml::Value::Boolean(is_so) => Value::Bool(is_so),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(values) => {
            Value::Array(values.into_iter().map(plain_value).collect::<Option<_>>()?)
        }
        toml::Value::Table(table) => {
            let plain = table.into_iter().map(|(key, value)| Some((key, plain_value(value)?)));
            Value::Object(plain.collect::<Option<_>>()?)
        }
    })
}

/// A variable's text as the value that the file would hold.
fn value_of(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    }
}

/// The known key nearest to an unknown one, if any is near.
pub(super) fn suggestion(key: &str) -> Option<&'static str> {
    nearest(Config::KEYS.iter().copied(), key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::config::queue::formats::QueueFormats;

    fn load(variables: &[(&str, &str)]) -> Result<Config> {
        Config::load_with(
            None,
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn variables_are_read_by_their_kind() {
        let config = load(&[
            ("SHARDCAST_BIND", "127.0.0.1:1, [::1]:2"),
            ("SHARDCAST_SHARDS", "3"),
            ("SHARDCAST_PING_INTERVAL", "300ms"),
            ("SHARDCAST_PING_TIMEOUT", "1"),
            ("SHARDCAST_CORS_ALLOWED_ORIGINS", "*"),
            ("SHARDCAST_POLLING", "false"),
            ("SHARDCAST_IO", "epoll"),
            ("SHARDCAST_CHANNEL", "007"),
            ("SHARDCAST_QUEUE_FORMATS", "none"),
            ("HOME", "elsewhere"),
            // A Kubernetes Service called shardcast.
            ("SHARDCAST_SERVICE_HOST", "10.96.3.7"),
            ("SHARDCAST_PORT", "tcp://10.96.3.7:5000"),
            ("SHARDCAST_PORT_5000_TCP_ADDR", "10.96.3.7"),
        ])
        .expect("all of these are right");
        assert_eq!(
            config.ignored,
            ["SHARDCAST_PORT", "SHARDCAST_PORT_5000_TCP_ADDR", "SHARDCAST_SERVICE_HOST"]
        );
        assert_eq!(config.bind, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!((config.shards, config.engine.polling), (3, false));
        assert_eq!(
            (config.engine.ping_interval, config.engine.ping_timeout),
            (Duration::from_millis(300), Duration::from_secs(1))
        );
        assert_eq!(config.engine.cors_allowed_origins.to_string(), "*");
        assert_eq!(
            (config.engine.channel.as_str(), config.engine.queue_formats),
            ("007", QueueFormats::Only(Vec::new()))
        );
    }

    #[test]
    fn a_queue_is_read_and_its_password_is_shown_nowhere() {
        let url = "memory:chat";
        let config = load(&[("SHARDCAST_MESSAGE_QUEUE", url)]);
        match cfg!(feature = "bus") {
            true => assert_eq!(config.expect("it is right").engine.message_queue.to_string(), url),
            false => assert!(config.is_err_and(|fault| fault.to_string().contains("its feature bus"))),
        }
        let engine =
            crate::EngineOptions { message_queue: "redis://u:s3cret@a".into(), ..Default::default() };
        let config = Config { engine, ..Config::default() };
        let shown = format!("{config:?} {config:#?} {:?}", crate::Server::new(config.clone()));
        assert!(shown.matches("redis://u:***@a").count() >= 2 && !shown.contains("s3cret"), "{shown}");
        for value in
            ["s3cret".into(), vec!["redis://u:s3cret@a"].into(), Value::from_iter([("s3cret", "s3cret")])]
        {
            let table = Map::from_iter([("message_queue".to_owned(), value)]);
            let fault = match serde_json::from_value::<Config>(Value::Object(table.clone())) {
                Ok(config) => config.validate().expect_err("it is no URL"),
                Err(error) => name_fault(&table, &error).to_string(),
            };
            assert!(fault.contains("message_queue"), "{fault}");
            assert!(!fault.contains("u:s3cret"), "{fault}");
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_the_nearest() {
        let rows = [
            ("SHARDCAST_CORS_ALLOWED_ORIGIN", "*", "SHARDCAST_CORS_ALLOWED_ORIGINS"),
            ("SHARDCAST_PING_INTERVALL", "1", "SHARDCAST_PING_INTERVAL"),
            ("SHARDCAST_SHARDS", "many", "shards = \"many\""),
            ("SHARDCAST_IO", "kqueue", "kqueue"),
            ("SHARDCAST_PORT", "5000", "unknown environment variable SHARDCAST_PORT"),
            ("SHARDCAST_LOG", "verbose", "log = \"verbose\""),
            ("SHARDCAST_LOG", "info,shardcats=debug", "did you mean shardcast?"),
            ("SHARDCAST_SOCKETIO_LOG", "warning", "did you mean warn?"),
            ("SHARDCAST_PING_INTERVAL", "25000", "write \"25000ms\""),
            ("SHARDCAST_PING_TIMEOUT", "soon", "soon"),
            ("SHARDCAST_CORS_ALLOWED_ORIGINS", "exa mple", "cors_allowed_origins = "),
            ("SHARDCAST_MESSAGEQUEUE", "redis://", "SHARDCAST_MESSAGE_QUEUE?"),
            (
                "SHARDCAST_MESSAGE_QUEUE",
                "redsi://u:s3cret@a",
                "message_queue = \"redsi://u:***@a\": redsi://",
            ),
            ("SHARDCAST_QUEUE_FORMATS", "pyhton", "did you mean python?"),
            ("SHARDCAST_QUEUE_BYTES_MAX", "1000", "queue_bytes_max = 1000"),
        ];
        for (name, value, expected) in rows {
            let error = load(&[(name, value)]).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}={value}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    /// Finds the times among all settings, later ones too: a key is one if it refuses `"soon"` with the units of a time.
    #[test]
    fn every_time_refuses_bare_milliseconds_and_what_timers_cannot_hold() {
        let mut times = 0;
        for key in Config::KEYS {
            let fault = |value: Value| {
                let table = Map::from_iter([((*key).to_owned(), value)]);
                serde_json::from_value::<Config>(Value::Object(table)).err().map(|error| error.to_string())
            };
            let is_time =
                fault("soon".into()).is_some_and(|fault| fault.contains("is not one of us, ms, s, m, h"));
            if !is_time {
                continue;
            }
            times += 1;
            for far in ["10000000000s", "1e300h"] {
                assert!(fault(far.into()).is_some(), "{key} = {far:?}");
            }
            assert_eq!(fault("20ms".into()), None, "{key}");
            // Seconds by its nature: the header that it becomes has them.
            if *key == "cors_max_age" {
                assert_eq!(fault(86_400.into()), None);
                continue;
            }
            assert!(fault("600h".into()).is_some(), "{key}");
            for bare in [Value::from(25_000), 1000.into(), 25_000.0.into(), "25000".into(), " 5e3 ".into()] {
                let said = fault(bare.clone());
                assert!(said.is_some_and(|said| said.contains("a bare number is seconds")), "{key} = {bare}");
            }
            assert_eq!((fault("1000s".into()), fault("25000ms".into())), (None, None), "{key}");
        }
        assert!(times > 10, "{times}");
    }

    #[test]
    fn a_file_is_read_like_the_environment_or_refused() {
        let folder = std::env::temp_dir().join(format!("shardcast-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        let path = folder.join("config.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            let variables = [("SHARDCAST_SHARDS".to_owned(), "3".to_owned())];
            Config::load_with(Some(&path), variables.into_iter()).map_err(|error| error.to_string())
        };
        let read_all = [
            read("bind = [\"[::1]:1\", \"unix:/a\"]\nshards = 9\nping_interval = 0.3\npolling = false\n"),
            read("ping_interval = 1979-05-27"),
            read("ping_interval = nan"),
            read("bind = [\"a\", 1]"),
            read("pingg_interval = 1"),
            read("shards = "),
            read("message_queue = redis://u:s3cret@a\n"),
            read("message_queue = \"redis://u:s3cret@a\nshards = 1\n"),
            read("message_queue = \"\"\"\nredis://u:s3cret@a\n\n"),
            read("message_queue = [\"redis://u:s3cret@a\"]"),
            read("message_queue = { url = \"redis://u:s3cret@a\" }"),
            read("api_tokens = { a = \"s3cret\" }"),
            read("api_tokens = [\"s3cret\n"),
        ];
        std::fs::remove_dir_all(&folder).expect("removed");
        if cfg!(not(feature = "toml")) {
            let is_told = |read: &std::result::Result<Config, String>| {
                read.as_ref().is_err_and(|fault| fault.contains("its feature toml"))
            };
            assert!(read_all.iter().all(is_told), "{read_all:?}");
            return;
        }
        let [right, wrong @ ..] = read_all;
        let config = right.expect("all of these are right");
        assert_eq!(config.bind, ["[::1]:1", "unix:/a"]);
        assert_eq!((config.shards, config.engine.polling), (3, false), "the environment wins");
        assert_eq!(config.engine.ping_interval, Duration::from_millis(300));
        let expected = [
            "no setting is a date",
            "a number that is none",
            "bind = [\"a\",1]",
            "ping_interval?",
            "config.toml",
            "config.toml: line 1: ",
            "config.toml: line 1: ",
            "config.toml: line ",
            "message_queue: it is one URL",
            "message_queue: it is one URL",
            "api_tokens: it is a list of entries",
            "config.toml: line ",
        ];
        for (fault, part) in wrong.into_iter().zip(expected) {
            let fault = fault.expect_err(part);
            assert!(fault.contains(part), "{fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
        }
    }

    /// A field whose key is forgotten would be refused as unknown in a file and a variable.
    #[test]
    fn every_field_is_a_key() {
        let shown = format!("{:#?}", Config::default());
        let mut fields = BTreeSet::new();
        let mut depths = vec![String::from("Config")];
        for line in shown.lines().skip(1) {
            let text = line.trim();
            if text.starts_with(['}', ']', ')']) {
                depths.pop();
            } else if let Some((name, value)) = text.split_once(": ") {
                let is_of_config = depths.iter().all(|of| of == "Config" || of == "engine");
                if is_of_config && !["engine", "ignored", "source"].contains(&name) {
                    fields.insert(name.to_owned());
                }
                if value.ends_with(['{', '[', '(']) {
                    depths.push(name.to_owned());
                }
            } else if text.ends_with(['{', '[', '(']) {
                depths.push("an element".to_owned());
            }
        }
        let keys: BTreeSet<String> = Config::KEYS.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(keys.len(), Config::KEYS.len(), "a key is there twice");
        assert_eq!(fields, keys);
    }
}
