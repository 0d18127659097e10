//! Settings from a program's arguments: `--bind 0.0.0.0:8080 --ping-interval=10s`. They win over the environment and the file.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::source::Sources;
use crate::server::load::{self, FILE_VARIABLE, suggestion};
use crate::server::settings::SENTENCES;
use crate::server::{Error, Result};

/// Settings that are on when their name stands alone.
const FLAGS: &[&str] = &[
    "bind_shared",
    "admin_ui_read_only",
    "bus_required",
    "pin_shards",
    "admin_tls",
    "polling",
    "websocket",
    "allow_upgrades",
    "cors_credentials",
    "trust_forwarded",
    "proxy_protocol",
    "allow_eio3",
    "always_connect",
    "serve_client",
    "queue_pickle",
    "shard_key",
    "permessage_deflate",
    "http_compression",
];

/// Settings with several values: who gives them twice means both.
const LISTS: &[&str] = &[
    "bind",
    "endpoint",
    "cors_allowed_origins",
    "subprotocols",
    "allowed_hosts",
    "trusted_proxies",
    "tls_cert",
    "tls_key",
];

/// What a program's arguments say.
#[derive(Debug, Default)]
struct Arguments {
    file: Option<PathBuf>,
    texts: Vec<(String, String)>,
    wants_help: bool,
}

impl Config {
    /// Reads what [`load`](Config::load) reads, and then the program's arguments: `--bind 0.0.0.0:8080`, `--shards=2`, any setting
    /// as `--NAME VALUE` or `--NAME=VALUE`, with `-` or `_` in its name, and `--config FILE` in place of `SHARDCAST_CONFIG`. A setting
    /// that is true or false is true if it stands alone: `--allow-eio3`. A list may be given several times: `--bind A --bind B`.
    ///
    /// `--help` prints [`help`](Config::help) and ends the process.
    ///
    /// ```no_run
    /// use shardcast::{Config, Server};
    ///
    /// fn main() -> shardcast::Result<()> {
    ///     Server::new(Config::from_args()?).namespace("/", |_| {}).run()
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`load`](Config::load): an argument that is no setting, with the nearest one that is; a value that does not fit.
    pub fn from_args() -> Result<Config> {
        let arguments = std::env::args_os().skip(1).map(|argument| {
            let text = argument.into_string();
            text.map_err(|text| Error::new(format!("the argument {text:?} is no text")))
        });
        let arguments = read(arguments.collect::<Result<Vec<_>>>()?.into_iter())?;
        if arguments.wants_help {
            // Whoever does not read it to the end has read enough.
            let _ = std::io::stdout().write_all(Config::help().as_bytes());
            std::process::exit(0);
        }
        let file = std::env::var_os(FILE_VARIABLE);
        load(arguments, file.as_deref().map(Path::new), std::env::vars())
    }

    /// Reads a file, variables and arguments that the caller chose; `--help` among them is an error whose text is the help.
    ///
    /// ```
    /// use shardcast::Config;
    ///
    /// let arguments = ["--bind", "127.0.0.1:7000", "--ping-interval=10s"].map(str::to_owned);
    /// let config = Config::load_with_args(None, std::iter::empty(), arguments.into_iter())?;
    /// assert_eq!(config.bind, ["127.0.0.1:7000"]);
    /// # Ok::<(), shardcast::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_args`](Config::from_args).
    pub fn load_with_args(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        arguments: impl Iterator<Item = String>,
    ) -> Result<Config> {
        let arguments = read(arguments)?;
        if arguments.wants_help {
            return Err(Error::new(Config::help()));
        }
        load(arguments, file, variables)
    }

    /// What `--help` prints: every setting with a sentence.
    ///
    /// ```
    /// assert!(shardcast::Config::help().contains("--ping-interval"));
    /// ```
    pub fn help() -> String {
        let mut text = "Settings, each as --NAME VALUE or --NAME=VALUE here, as SHARDCAST_NAME in the environment, or as\n\
                        name = VALUE in the file that --config FILE names. tuning.md says what each one costs.\n"
            .to_owned();
        for (key, sentence) in SENTENCES {
            text += &format!("\n  --{}\n      {sentence}\n", dashed(key));
        }
        text
    }
}

fn load(
    arguments: Arguments,
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config> {
    let file = arguments.file.as_deref().or(file);
    load::read(Sources::new(file, variables, arguments.texts)?)
}

/// Takes arguments apart. Values are not looked at.
fn read(arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut read = Arguments::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        if ["--help", "-h"].contains(&argument.as_str()) {
            read.wants_help = true;
            continue;
        }
        let Some(written) = argument.strip_prefix("--") else {
            return Err(Error::new(format!(
                "{argument:?} is no setting: write --NAME VALUE, such as --bind 127.0.0.1:5000; --help lists all"
            )));
        };
        let (name, mut value) = match written.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (written, None),
        };
        let key = name.replace('-', "_");
        let is_known = key == "config" || Config::KEYS.contains(&key.as_str());
        if !is_known {
            let near = suggestion(&key).map(|near| format!("did you mean --{}? ", dashed(near)));
            let advice = near.unwrap_or_default();
            return Err(Error::new(format!("unknown option --{name}; {advice}--help lists all")));
        }
        if value.is_none() {
            let is_flag = FLAGS.contains(&key.as_str());
            let is_value = |next: &String| match is_flag {
                true => ["true", "false"].contains(&next.as_str()),
                false => !next.starts_with("--"),
            };
            value = arguments.next_if(is_value).or_else(|| is_flag.then(|| "true".to_owned()));
        }
        let Some(value) = value else {
            return Err(Error::new(format!("--{name} needs a value, as in --{name} VALUE")));
        };
        read.take(name, key, value)?;
    }
    Ok(read)
}

impl Arguments {
    fn take(&mut self, name: &str, key: String, value: String) -> Result<()> {
        let twice = || Error::new(format!("--{name} is there twice, and has one value"));
        if key == "config" {
            return self.file.replace(value.into()).map_or(Ok(()), |_| Err(twice()));
        }
        match self.texts.iter_mut().find(|(other, _)| *other == key) {
            None => self.texts.push((key, value)),
            Some((_, text)) if LISTS.contains(&key.as_str()) => *text = format!("{text},{value}"),
            Some(_) => return Err(twice()),
        }
        Ok(())
    }
}

fn dashed(key: &str) -> String {
    key.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Map, Value};

    use super::*;

    fn load(variables: &[(&str, &str)], arguments: &[&str]) -> std::result::Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        Config::load_with_args(None, variables, arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_settings_and_win_over_the_environment() {
        let variables =
            [("SHARDCAST_SHARDS", "7"), ("SHARDCAST_PING_TIMEOUT", "2s"), ("SHARDCAST_BIND", "a:1")];
        let arguments = [
            "--bind",
            "127.0.0.1:1",
            "--shards=3",
            "--ping-interval",
            "300ms",
            "--allow_eio3",
            "--polling",
            "false",
            "--bind=[::1]:2",
            "--cors-allowed-origins",
            "https://a.b",
            "--channel=a=b",
            "--permessage-deflate",
        ];
        let config = load(&variables, &arguments).expect("all of these are right");
        assert_eq!(config.bind, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!((config.shards, config.engine.allow_eio3, config.engine.polling), (3, true, false));
        assert_eq!(config.engine.ping_interval, Duration::from_millis(300));
        assert_eq!(config.engine.ping_timeout, Duration::from_secs(2));
        assert_eq!(config.engine.cors_allowed_origins.to_string(), "https://a.b");
        assert_eq!((config.engine.channel.as_str(), config.permessage_deflate), ("a=b", true));
        assert_eq!(load(&[], &[]).expect("nothing is right").bind, Config::default().bind);
    }

    #[test]
    fn what_is_no_setting_is_named_with_the_nearest() {
        for (arguments, expected) in [
            (&["--ping-intervall", "1"][..], "did you mean --ping-interval?"),
            (&["--zzz"], "unknown option --zzz; --help lists all"),
            (&["chat"], "\"chat\" is no setting"),
            (&["-p", "5000"], "\"-p\" is no setting"),
            (&["--bind"], "--bind needs a value"),
            (&["--shards", "--polling"], "--shards needs a value"),
            (&["--shards", "1", "--shards=2"], "--shards is there twice"),
            (&["--config", "a", "--config", "b"], "--config is there twice"),
            (&["--shards", "many"], "shards = \"many\""),
            (&["--polling=perhaps"], "polling = \"perhaps\""),
            (&["--ping-interval", "25000"], "write \"25000ms\""),
            (&["--message-queue", "redsi://u:s3cret@a"], "redsi://u:***@a"),
            (&["--config", "/no/such/file.toml"], "/no/such/file.toml"),
        ] {
            let error = load(&[], arguments).expect_err(expected);
            assert!(error.contains(expected), "{arguments:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn help_lists_every_setting_with_a_sentence() {
        for arguments in [&["--help"][..], &["--shards", "2", "-h"]] {
            let text = load(&[], arguments).expect_err("it is the help");
            for key in Config::KEYS {
                assert!(text.contains(&format!("\n  --{}\n      ", dashed(key))), "{key}");
            }
            assert!(!text.contains('`'));
        }
    }

    #[test]
    fn flags_and_lists_are_those_of_the_configuration() {
        for key in Config::KEYS {
            let takes = |value: Value| {
                let table = Map::from_iter([((*key).to_owned(), value)]);
                serde_json::from_value::<Config>(Value::Object(table)).is_ok()
            };
            assert_eq!(FLAGS.contains(key), takes(true.into()) && takes(false.into()), "{key}");
            // An entry of these has no comma between it and the next.
            let is_own = ["queue_formats", "api_tokens"].contains(key);
            let is_list = (takes(vec!["https://a.example"].into()) && !is_own) || *key == "endpoint";
            assert_eq!(LISTS.contains(key), is_list, "{key}");
        }
    }
}
