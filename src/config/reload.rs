//! Which settings can change while a server runs, and what a change of the configuration comes to.
//!
//! A setting that sizes a table, binds an address, is told to clients when they connect, or is the length of a timer that the wheel's
//! tick was chosen for, stays as it was at the start. All others are read when they are used.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::admin_ui::{AdminUi, AdminUiAuth};
use crate::config::api::{ApiBind, ApiTokens};
use crate::config::endpoint::ConfiguredEndpoint;
use crate::config::engine::EngineOptions;
use crate::config::queue::formats::QueueFormats;
use crate::config::queue::url::QueueUrl;
use crate::config::secret::Secret;
use crate::config::{Config, Io, Parser, RatePolicy, Survives, Tls};
use crate::protocol::http::cors::CorsOrigins;

/// A setting that is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: &'static str,
    /// Both as text; what is secret is not shown.
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) fate: Fate,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It counts from now on.
    Done,
    /// The running server keeps the old value.
    NeedsRestart,
    /// The program, or its command line, has set the value itself, which wins over what was read, also after a restart.
    Overruled,
}

/// A value that can be compared and shown.
trait Setting: Clone {
    fn is_same(&self, other: &Self) -> bool;
    fn shown(&self) -> String;
}

macro_rules! plain_settings {
    ($($type:ty),* $(,)?) => {
        $(impl Setting for $type {
            fn is_same(&self, other: &Self) -> bool {
                self == other
            }
            fn shown(&self) -> String {
                written(self)
            }
        })*
    };
}

plain_settings!(
    bool,
    u32,
    i32,
    usize,
    String,
    Vec<String>,
    PathBuf,
    Duration,
    Io,
    AdminUi,
    AdminUiAuth,
    Parser,
    RatePolicy,
    Survives,
    Tls,
    ApiBind,
    ApiTokens,
    Secret,
    QueueUrl,
    QueueFormats,
);

impl Setting for Option<Duration> {
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }

    fn shown(&self) -> String {
        self.map_or_else(|| "auto".to_owned(), |time| written(&time))
    }
}

impl Setting for Vec<ConfiguredEndpoint> {
    fn is_same(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(one, other)| one.is_same(other))
    }

    fn shown(&self) -> String {
        written(&self.iter().map(ConfiguredEndpoint::path).collect::<Vec<_>>())
    }
}

impl Setting for CorsOrigins {
    fn is_same(&self, other: &Self) -> bool {
        CorsOrigins::is_same(self, other)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

/// A value as a file would have it, as far as `Debug` tells.
fn written(value: &impl Debug) -> String {
    format!("{value:?}")
}

/// Makes the function that goes through every field of a configuration; one that is in none of the lists does not compile.
macro_rules! compared {
    ($function:ident, $AT_ONCE:ident, $Whole:ident {
        at_once: $($live:ident)*,
        at_start: $($fixed:ident)*,
        apart: $($apart:ident)*,
    }) => {
        const $AT_ONCE: &[&str] = &[$(stringify!($live)),*];

        fn $function(
            running: &mut $Whole,
            fresh: &$Whole,
            (began, read): (&$Whole, Option<&$Whole>),
            changes: &mut Vec<Change>,
        ) {
            let $Whole { $($live,)* $($fixed,)* $($apart: _,)* } = fresh;
            $(compare(
                (stringify!($live), Fate::Done),
                (&mut running.$live, $live),
                read.map(|read| (&began.$live, &read.$live)),
                changes,
            );)*
            $(compare(
                (stringify!($fixed), Fate::NeedsRestart),
                (&mut running.$fixed, $fixed),
                read.map(|read| (&began.$fixed, &read.$fixed)),
                changes,
            );)*
        }
    };
}

compared!(compare_config, AT_ONCE, Config {
    at_once:
        admin_token admin_user admin_password bus_required log socketio_log engineio_log log_rate trust_forwarded allowed_hosts
        trusted_proxies head_bytes_max upload_bytes_max routes_waiting_max routes_waiting_per_address_max api_rate api_body_bytes_max ack_timeout
        outbox_bytes_max outboxes_bytes_max partial_bytes_max pending_bytes_max outside_bytes_max concurrent_handlers_max connections_max
        connections_per_address_max handshakes_per_second_max lag_max handoffs_per_second_max sessions_max
        events_per_second_max bytes_per_second_max rate_policy unjoined_sessions_max
        unjoined_sessions_per_address_max shard_key rooms_per_socket_max namespaces_per_session_max namespaces_max expiry_grace
        slow_handler recovery_sessions_max permessage_deflate inflate_ratio_max http_compression compression_threshold
        drain_delay shutdown_spread shutdown_timeout,
    at_start:
        bind bind_shared admin_bind admin_tls admin_ui admin_ui_auth admin_ui_user admin_ui_password admin_ui_read_only admin_ui_namespace
        admin_ui_server_id shards pin_shards io endpoint proxy_protocol tls_cert tls_key tls tls_reload_interval header_timeout keep_alive_timeout route_timeout api_bind flush_window
        queue_bytes_max queue_message_bytes_max backlog static_file_bytes_max parser recovery_max_disconnection
        recovery_events_max recovery_bytes_max recovery_survives,
    apart: engine api_tokens ignored source,
});

compared!(compare_engine, ENGINE_AT_ONCE, EngineOptions {
    at_once: cors_allowed_origins cors_credentials cors_allowed_headers cors_max_age,
    at_start:
        path polling websocket allow_upgrades ping_interval ping_timeout ping_grace upgrade_timeout connect_timeout
        always_connect max_http_buffer_size
        attachments_bytes_max fragments_max poll_packets_max subprotocols cookie allow_eio3 serve_client client_bundle
        message_queue channel queue_formats node_key queue_pickle,
    apart: ,
});

/// The setting that counts at once where it was set at the start, and where it was not, turns on what is not there.
const TOKENS: &str = "api_tokens";

/// Settings of the log. They count at once where the log is ours.
pub(crate) const OF_THE_LOG: [&str; 4] = ["log", "socketio_log", "engineio_log", "log_rate"];

/// Notes what becomes of one setting, and takes its new value where that counts at once. `began` is the value at the start, and what had been
/// read for it: another value is the program's own.
fn compare<T: Setting>(
    (name, fate): (&'static str, Fate),
    (running, fresh): (&mut T, &T),
    began: Option<(&T, &T)>,
    changes: &mut Vec<Change>,
) {
    let (before, fate) = match began.filter(|(used, read)| !used.is_same(read)) {
        Some((_, read)) => (read, Fate::Overruled),
        None => (&*running, fate),
    };
    if before.is_same(fresh) {
        return;
    }
    changes.push(Change { name, before: before.shown(), after: fresh.shown(), fate });
    if fate == Fate::Done {
        *running = fresh.clone();
    }
}

impl Config {
    /// Whether a change of the setting of this name counts while the server runs, after SIGHUP or
    /// [`Handle::reload`](crate::Handle::reload). Others need a restart.
    ///
    /// ```
    /// use shardcast::Config;
    ///
    /// assert!(Config::is_reloadable("drain_delay") && !Config::is_reloadable("shards"));
    /// ```
    pub fn is_reloadable(key: &str) -> bool {
        AT_ONCE.contains(&key) || ENGINE_AT_ONCE.contains(&key) || key == TOKENS
    }

    /// The configuration that runs when it was this one and another one is given, with what has changed. It began as `began`, for which
    /// `read` had been read, if both were read from the same.
    ///
    /// # Errors
    /// What of it makes no sense.
    pub(crate) fn renewed(
        &self,
        (began, read): (&Config, Option<&Config>),
        fresh: &Config,
    ) -> Result<(Config, Vec<Change>), String> {
        fresh.validate()?;
        let (mut config, mut changes) = (self.clone(), Vec::new());
        compare_config(&mut config, fresh, (began, read), &mut changes);
        let engines = (&began.engine, read.map(|read| &read.engine));
        compare_engine(&mut config.engine, &fresh.engine, engines, &mut changes);
        let fate = if began.api_tokens.is_empty() { Fate::NeedsRestart } else { Fate::Done };
        let tokens = read.map(|read| (&began.api_tokens, &read.api_tokens));
        compare((TOKENS, fate), (&mut config.api_tokens, &fresh.api_tokens), tokens, &mut changes);
        config.validate().map_err(|fault| {
            format!(
                "{fault}. Some settings keep their values until a restart, and the others do not go with them"
            )
        })?;
        Ok((config, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(log: &str, shards: usize, delay: u64) -> Config {
        Config { log: log.to_owned(), shards, drain_delay: Duration::from_secs(delay), ..Config::default() }
    }

    fn fates(
        running: &Config,
        began: (&Config, Option<&Config>),
        fresh: &Config,
    ) -> Vec<(&'static str, String, String, Fate)> {
        let (_, changes) = running.renewed(began, fresh).expect("it makes sense");
        changes.into_iter().map(|change| (change.name, change.before, change.after, change.fate)).collect()
    }

    #[test]
    fn each_setting_counts_at_once_or_needs_a_restart() {
        let reloadable = Config::KEYS.iter().filter(|key| Config::is_reloadable(key)).count();
        assert_eq!(reloadable, AT_ONCE.len() + ENGINE_AT_ONCE.len() + 1, "each is a key of the file");
    }

    #[test]
    fn what_counts_at_once_is_taken_and_what_needs_a_restart_is_named_each_time() {
        let (began, fresh) = (config("info", 2, 0), config("debug", 4, 5));
        let beginning = (&began, Some(&began));
        let (running, _) = began.renewed(beginning, &fresh).expect("it makes sense");
        assert_eq!((running.log.as_str(), running.shards, running.drain_delay.as_secs()), ("debug", 2, 5));
        let shards = ("shards", "2".to_owned(), "4".to_owned(), Fate::NeedsRestart);
        assert_eq!(
            fates(&began, beginning, &fresh),
            [
                ("log", "\"info\"".to_owned(), "\"debug\"".to_owned(), Fate::Done),
                ("drain_delay", "0ns".to_owned(), "5s".to_owned(), Fate::Done),
                shards.clone(),
            ]
        );
        assert_eq!(fates(&running, beginning, &fresh), [shards]);
        assert_eq!(fates(&running, beginning, &began).len(), 2, "back to the start: no restart is due");
    }

    #[test]
    fn what_the_program_has_set_itself_stays() {
        let (began, read) = (config("warn", 2, 0), config("info", 2, 0));
        let beginning = (&began, Some(&read));
        assert_eq!(fates(&began, beginning, &read), [], "the source says what it said");
        let own = ("log", "\"info\"".to_owned(), "\"debug\"".to_owned(), Fate::Overruled);
        let fresh = config("debug", 2, 0);
        assert_eq!(fates(&began, beginning, &fresh), [own]);
        assert_eq!(began.renewed(beginning, &fresh).expect("it makes sense").0.log, "warn");
        // One that the program makes itself is taken as it is.
        assert_eq!(fates(&began, (&began, None), &fresh)[0].3, Fate::Done);
    }

    #[test]
    fn secrets_are_not_shown_and_tokens_turn_nothing_on() {
        let token = "5f2b8c6d9e0a41738b6c5d4e3f2a1b0c";
        let admin = |secret: &str| Config {
            admin_bind: "127.0.0.1:0".to_owned(),
            admin_token: Secret::from(secret),
            api_bind: ApiBind::Public,
            ..Config::default()
        };
        let with_tokens = Config { api_tokens: ApiTokens::new([token]), ..admin("a-second-long-secret") };
        let (running, changes) =
            admin("a-first-long-secret").renewed((&admin(""), None), &with_tokens).expect("it makes sense");
        assert_eq!(running.admin_token.reveal(), "a-second-long-secret");
        assert!(running.api_tokens.is_empty());
        let names: Vec<_> = changes.iter().map(|change| (change.name, change.fate)).collect();
        assert_eq!(names, [("admin_token", Fate::Done), (TOKENS, Fate::NeedsRestart)]);
        let shown = format!("{changes:?}");
        assert!(!shown.contains("long-secret") && !shown.contains(token), "{shown}");
        let (running, _) =
            with_tokens.renewed((&with_tokens, None), &admin("a-second-long-secret")).expect("so, too");
        assert!(running.api_tokens.is_empty(), "tokens are taken back at once");
    }

    #[test]
    fn what_makes_no_sense_changes_nothing_and_says_why() {
        let began = Config::default();
        let wrong = Config { log: "verbose".to_owned(), ..Config::default() };
        assert!(began.renewed((&began, None), &wrong).is_err_and(|fault| fault.contains("verbose")));
        let half = Config {
            admin_bind: "127.0.0.1:0".to_owned(),
            admin_token: Secret::from("0123456789abcdef"),
            ..Config::default()
        };
        let fault = began.renewed((&began, None), &half).expect_err("admin_bind needs a restart");
        assert!(fault.contains("admin_bind") && fault.contains("until a restart"), "{fault}");
    }
}
