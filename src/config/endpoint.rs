//! What a file, a variable or an argument says of a further endpoint: `[[endpoint]]`, an entry for each path.
//!
//! An entry is read and judged here. The server gives it to the endpoint at its path, before the program's own setup.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::check::nearest;
use crate::config::engine::EngineOptions;
use crate::config::{Config, EndpointSettings};

/// The key whose value may hold a password.
const SECRET_KEY: &str = "message_queue";

/// What a configuration says of the endpoint at one path, beside what it says of the main one. It is read from `[[endpoint]]` in a
/// file, or from `SHARDCAST_ENDPOINT`; [`Server::endpoint`](crate::Server::endpoint) takes it for the endpoint that a program has
/// at this path.
///
/// ```
/// use shardcast::{Config, Server};
///
/// let variable = ("SHARDCAST_ENDPOINT", r#"{"path": "/admin.io/", "ping_interval": "5s"}"#);
/// let variables = [variable].map(|(name, value)| (name.to_owned(), value.to_owned()));
/// let config = Config::load_with(None, variables.into_iter())?;
/// assert_eq!(config.endpoint[0].path(), "/admin.io/");
///
/// Server::new(config).namespace("/", |_| {}).endpoint("/admin.io/", |endpoint| {
///     assert_eq!(endpoint.options.ping_interval.as_secs(), 5);
///     endpoint.namespace("/", |_| {});
/// });
/// # Ok::<(), shardcast::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConfiguredEndpoint {
    path: String,
    /// Which of the values below were said.
    keys: Vec<&'static str>,
    options: EngineOptions,
    settings: EndpointSettings,
}

macro_rules! keys {
    (options: [$($option:ident,)*], settings: [$($setting:ident,)*]) => {
        impl ConfiguredEndpoint {
            /// What an entry may say beside its `path`.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($option),)* $(stringify!($setting),)*];

            fn copy(&self, key: &str, options: &mut EngineOptions, settings: &mut EndpointSettings) {
                $(if key == stringify!($option) {
                    options.$option.clone_from(&self.options.$option);
                })*
                $(if key == stringify!($setting) {
                    settings.$setting = self.settings.$setting;
                })*
            }
        }
    };
}

keys! {
    options: [
        polling,
        websocket,
        allow_upgrades,
        ping_interval,
        ping_timeout,
        ping_grace,
        upgrade_timeout,
        connect_timeout,
        always_connect,
        max_http_buffer_size,
        attachments_bytes_max,
        fragments_max,
        poll_packets_max,
        cors_allowed_origins,
        cors_credentials,
        cors_allowed_headers,
        cors_max_age,
        subprotocols,
        cookie,
        allow_eio3,
        serve_client,
        client_bundle,
        message_queue,
        channel,
        queue_formats,
        node_key,
        queue_pickle,
    ],
    settings: [
        parser,
        permessage_deflate,
        sessions_max,
        events_per_second_max,
        bytes_per_second_max,
        rate_policy,
        recovery_max_disconnection,
        recovery_events_max,
        recovery_bytes_max,
        inflate_ratio_max,
        http_compression,
    ]
}

impl ConfiguredEndpoint {
    /// Path of the endpoint that is meant.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether another entry says the same.
    pub(crate) fn is_same(&self, other: &ConfiguredEndpoint) -> bool {
        // The text hides passwords, so a URL is compared by itself.
        let has_one_queue = self.options.message_queue == other.options.message_queue;
        has_one_queue && format!("{self:?}") == format!("{other:?}")
    }

    /// Sets what was said; the rest stays as it is.
    pub(crate) fn apply(&self, options: &mut EngineOptions, settings: &mut EndpointSettings) {
        for key in &self.keys {
            self.copy(key, options, settings);
        }
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// What of it is wrong, without a password.
    fn read(entry: Value) -> Result<ConfiguredEndpoint, String> {
        let Value::Object(mut table) = entry else {
            return Err("an entry has a path and settings, {path = \"/admin.io/\", ping_interval = \"5s\"} for example".into());
        };
        let path = match table.remove("path") {
            Some(Value::String(path)) => path,
            Some(other) => return Err(format!("path = {other}: it is one text in quotes")),
            None => return Err("an entry needs a path, such as path = \"/admin.io/\"".into()),
        };
        let within = |fault: String| format!("{path}: {fault}");
        let mut keys = Vec::new();
        for (key, value) in &table {
            keys.push(known(key).map_err(within)?);
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            config_of(alone).map_err(|fault| {
                within(match key.as_str() {
                    SECRET_KEY => {
                        format!("{key}: it is one URL in quotes, such as \"redis://localhost:6379/0\"")
                    }
                    _ => format!("{key} = {value}: {fault}"),
                })
            })?;
        }
        let config = config_of(table).map_err(within)?;
        let settings = EndpointSettings::new(&config);
        Ok(ConfiguredEndpoint { path, keys, options: config.engine, settings })
    }
}

impl Config {
    /// Checks the entries with what they leave as it is.
    pub(crate) fn check_endpoints(&self) -> Result<(), String> {
        for (index, entry) in self.endpoint.iter().enumerate() {
            let path = &entry.path;
            if *path == self.engine.path {
                return Err(format!(
                    "endpoint {path}: it is the main one, whose settings stand at the top of the file, not below [[endpoint]]"
                ));
            }
            if self.endpoint[..index].iter().any(|other| other.path == *path) {
                return Err(format!(
                    "endpoint {path}: it is there twice; write all that it has into one entry"
                ));
            }
            let (mut options, mut settings) = (self.engine.clone(), EndpointSettings::new(self));
            options.path.clone_from(path);
            entry.apply(&mut options, &mut settings);
            options.validate().map_err(|fault| format!("endpoint {path}: {fault}"))?;
            settings.validate().map_err(|fault| format!("endpoint {path}: {fault}"))?;
        }
        Ok(())
    }
}

fn config_of(table: Map<String, Value>) -> Result<Config, String> {
    serde_json::from_value(Value::Object(table)).map_err(|error| error.to_string().trim().to_owned())
}

fn known(key: &str) -> Result<&'static str, String> {
    let mut keys = ConfiguredEndpoint::KEYS.iter();
    if let Some(known) = keys.find(|known| **known == key) {
        return Ok(known);
    }
    Err(match Config::KEYS.contains(&key) {
        true => format!("{key} belongs to the whole server, not to an endpoint"),
        false => {
            let near = nearest(ConfiguredEndpoint::KEYS.iter().copied().chain(["path"]), key);
            let advice = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            format!("unknown key {key}{advice}")
        }
    })
}

/// Reads one entry or a list of them. A text is the same in JSON, as variables and arguments have it.
pub(crate) fn endpoints<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ConfiguredEndpoint>, D::Error> {
    let entries = match entries(Value::deserialize(deserializer)?) {
        Value::Array(entries) => entries,
        other => vec![other],
    };
    let read = entries.into_iter().map(ConfiguredEndpoint::read);
    read.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

/// A list, where it can be read as one.
fn entries(value: Value) -> Value {
    match value {
        Value::String(text) => {
            // `{..}`, `{..}, {..}` and `[{..}, {..}]` are all understood.
            let text = text.trim();
            let list = if text.starts_with('[') { text.to_owned() } else { format!("[{text}]") };
            serde_json::from_str(&list).unwrap_or(Value::Null)
        }
        Value::Object(_) => Value::Array(vec![value]),
        other => other,
    }
}

/// What is said twice, of which the later wins: entries with one path are one, key by key.
pub(crate) fn merge(earlier: Value, later: Value) -> Value {
    let (Value::Array(mut merged), Value::Array(later)) = (entries(earlier), entries(later.clone())) else {
        return later;
    };
    for entry in later {
        let path = entry.get("path").filter(|path| path.is_string()).cloned();
        let known = merged.iter_mut().find(|known| path.is_some() && known.get("path") == path.as_ref());
        match (known, entry) {
            (Some(Value::Object(known)), Value::Object(entry)) => known.extend(entry),
            (_, entry) => merged.push(entry),
        }
    }
    Value::Array(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let table = Map::from_iter([("endpoint".to_owned(), Value::from(text))]);
        let config = config_of(table)?;
        config.validate().map(|()| config)
    }

    /// What `{:#?}` says of a value, by field.
    fn fields(shown: &str) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in shown.lines().skip(1) {
            match line.strip_prefix("    ").filter(|rest| rest.starts_with(|char: char| char.is_alphabetic()))
            {
                Some(field) => {
                    let (name, value) = field.split_once(": ").unwrap_or((field, ""));
                    fields.push((name.to_owned(), value.to_owned()));
                }
                None => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push_str(line);
                    }
                }
            }
        }
        fields
    }

    #[test]
    fn an_entry_sets_each_of_its_keys_and_no_other() {
        let rows = [
            ("polling", Value::from(false)),
            ("websocket", false.into()),
            ("allow_upgrades", false.into()),
            ("ping_interval", "1s".into()),
            ("ping_timeout", "1s".into()),
            ("ping_grace", "1s".into()),
            ("upgrade_timeout", "1s".into()),
            ("connect_timeout", "1s".into()),
            ("always_connect", true.into()),
            ("max_http_buffer_size", 7.into()),
            ("attachments_bytes_max", 7.into()),
            ("fragments_max", 7.into()),
            ("poll_packets_max", 7.into()),
            ("cors_allowed_origins", "*".into()),
            ("cors_credentials", false.into()),
            ("cors_allowed_headers", "a".into()),
            ("cors_max_age", 7.into()),
            ("subprotocols", "a".into()),
            ("cookie", "io".into()),
            ("allow_eio3", true.into()),
            ("serve_client", false.into()),
            ("client_bundle", "/a".into()),
            ("message_queue", "memory:a".into()),
            ("channel", "a".into()),
            ("queue_formats", "none".into()),
            ("node_key", "a".into()),
            ("queue_pickle", true.into()),
            ("parser", "auto".into()),
            ("permessage_deflate", true.into()),
            ("sessions_max", 7.into()),
            ("events_per_second_max", 7.into()),
            ("bytes_per_second_max", 7.into()),
            ("rate_policy", "drop".into()),
            ("recovery_max_disconnection", "1s".into()),
            ("recovery_events_max", 7.into()),
            ("recovery_bytes_max", 7.into()),
            ("inflate_ratio_max", 7.into()),
            ("http_compression", false.into()),
        ];
        let shown = |options: &EngineOptions, settings: &EndpointSettings| {
            [fields(&format!("{options:#?}")), fields(&format!("{settings:#?}"))].concat()
        };
        let untouched = (EngineOptions::default(), EndpointSettings::new(&Config::default()));
        let before = shown(&untouched.0, &untouched.1);
        let mut keys: Vec<&str> =
            before.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "path").collect();
        let mut known = ConfiguredEndpoint::KEYS.to_vec();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known, "an option of an endpoint that an entry cannot set, or the other way round");
        assert_eq!(rows.len(), known.len());
        for (key, value) in rows {
            let table = Map::from_iter([("path".to_owned(), "/a/".into()), (key.to_owned(), value)]);
            let entry = ConfiguredEndpoint::read(Value::Object(table)).expect(key);
            let (mut options, mut settings) = untouched.clone();
            entry.apply(&mut options, &mut settings);
            let after = shown(&options, &settings);
            let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
            assert_eq!(changed.map(|((name, _), _)| name.as_str()).collect::<Vec<_>>(), [key]);
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named() {
        for (text, expected) in [
            ("admin.io", "an entry has a path and settings"),
            ("{\"ping_interval\": 5}", "an entry needs a path"),
            ("{\"path\": 5}", "path = 5"),
            ("{\"path\": \"admin.io\"}", "endpoint admin.io: path = \"admin.io\""),
            (
                "{\"path\": \"/a/\", \"ping_intervall\": 5}",
                "/a/: unknown key ping_intervall; did you mean ping_interval?",
            ),
            ("{\"path\": \"/a/\", \"shards\": 5}", "/a/: shards belongs to the whole server"),
            ("{\"path\": \"/a/\", \"endpoint\": []}", "/a/: endpoint belongs to the whole server"),
            ("{\"path\": \"/a/\", \"ping_interval\": 25000}", "/a/: ping_interval = 25000: a bare number"),
            (
                "{\"path\": \"/a/\", \"polling\": false, \"websocket\": false}",
                "endpoint /a/: polling and websocket",
            ),
            ("{\"path\": \"/a/\", \"sessions_max\": 0}", "endpoint /a/: sessions_max = 0"),
            (
                "{\"path\": \"/a/\", \"message_queue\": [\"redis://u:s3cret@a\"]}",
                "/a/: message_queue: it is one URL",
            ),
            ("{\"path\": \"/a/\", \"message_queue\": \"redsi://u:s3cret@a\"}", "redsi://u:***@a"),
            ("{\"path\": \"/socket.io/\"}", "endpoint /socket.io/: it is the main one"),
            ("{\"path\": \"/a/\"}, {\"path\": \"/a/\"}", "endpoint /a/: it is there twice"),
        ] {
            let fault = read(text).expect_err(expected);
            assert!(fault.contains(expected), "{text}: {fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
        }
    }

    #[test]
    fn entries_of_one_path_are_merged_key_by_key() {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let file = parsed(r#"[{"path": "/a/", "polling": false, "channel": "a"}, {"path": "/b/"}]"#);
        let merged = merge(file, r#"{"path": "/a/", "channel": "b"}, {"path": "/c/"}"#.into());
        let expected =
            r#"[{"path": "/a/", "polling": false, "channel": "b"}, {"path": "/b/"}, {"path": "/c/"}]"#;
        assert_eq!(merged, parsed(expected));
        assert_eq!(merge(parsed("[]"), "no JSON".into()), Value::from("no JSON"));
    }
}
