//! Settings that change while a server runs, by the test kit: on every shard, for whom they are, and without a restart of anything.

use std::time::Duration;

use crate::http::{CorsOrigins, Method};
use crate::testing::{TestResponse, TestServer};
use crate::{ApiBind, ApiTokens, Config, EngineOptions, Secret, Server};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
const OTHER: &str = "/other.io/?EIO=4&transport=polling";
const OWN: &str = "/own.io/?EIO=4&transport=polling";

fn cors(origin: &str) -> CorsOrigins {
    CorsOrigins::parse(origin).expect("it is an origin")
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let engine =
        EngineOptions { cors_allowed_origins: cors("https://old.example"), ..EngineOptions::default() };
    let mut config = Config { shards: 2, engine, ..Config::default() };
    change(&mut config);
    config
}

fn server(config: Config) -> TestServer {
    let server = Server::new(config)
        .namespace("/", |_| {})
        .route("/page", |_| "a".repeat(2000))
        .endpoint("/other.io/", |endpoint| endpoint.namespace("/", |_| {}))
        .endpoint("/own.io/", |endpoint| {
            endpoint.options.cors_allowed_origins = cors("https://own.example");
            endpoint.namespace("/", |_| {});
        });
    TestServer::new(server).expect("the server is sound")
}

fn reload(server: &TestServer, config: Config) {
    server.handle().reload(config).expect("it makes sense");
    server.advance(Duration::ZERO);
}

fn ask(server: &TestServer, target: &str, headers: &[(&str, &str)]) -> TestResponse {
    server.request(Method::Get, target, headers, b"")
}

/// What both shards answer. Requests go to them by turns.
fn statuses(server: &TestServer, target: &str, headers: &[(&str, &str)]) -> [u16; 2] {
    [(), ()].map(|()| ask(server, target, headers).status)
}

#[test]
fn an_endpoint_follows_where_it_has_what_the_configuration_has() {
    let server = server(config(|_| {}));
    let allowed = |target: &str| {
        ["https://old.example", "https://new.example", "https://own.example"]
            .map(|origin| statuses(&server, target, &[("Origin", origin)]) == [200; 2])
    };
    assert_eq!([OPEN, OTHER].map(allowed), [[true, false, false]; 2]);
    reload(&server, config(|config| config.engine.cors_allowed_origins = cors("https://new.example")));
    assert_eq!([OPEN, OTHER].map(allowed), [[false, true, false]; 2]);
    assert!(!allowed(OWN)[0] && !allowed(OWN)[1], "it has a list of its own");
    reload(&server, config(|config| config.engine.cors_allowed_origins = CorsOrigins::Any));
    assert_eq!([OPEN, OTHER].map(allowed), [[true; 3]; 2]);
}

#[test]
fn bounds_change_on_every_shard() {
    let server = server(config(|config| (config.sessions_max, config.unjoined_sessions_max) = (1, 1)));
    let clients: Vec<_> = (0..2).map(|_| server.connect("/").expect("each shard has room for one")).collect();
    assert_eq!(statuses(&server, OPEN, &[]), [503; 2]);
    reload(&server, config(|config| config.sessions_max = 2));
    assert_eq!(statuses(&server, OPEN, &[]), [200; 2]);
    reload(&server, config(|config| config.head_bytes_max = 4096));
    let long = "a".repeat(5000);
    assert_eq!(statuses(&server, "/nothing", &[("X-Long", &long)]), [431; 2]);
    drop(clients);
}

#[test]
fn hosts_proxies_and_compression_change() {
    let server = server(config(|_| {}));
    assert_eq!(statuses(&server, OPEN, &[("Host", "evil.example")]), [200; 2]);
    reload(&server, config(|config| config.allowed_hosts = vec!["chat.example".into()]));
    assert_eq!(statuses(&server, OPEN, &[("Host", "evil.example")]), [403; 2]);
    assert_eq!(statuses(&server, OPEN, &[("Host", "chat.example")]), [200; 2]);

    let coded = || {
        let answers = [(); 2].map(|()| ask(&server, "/page", &[("Accept-Encoding", "gzip")]));
        answers.map(|answer| answer.header("content-encoding").is_some())
    };
    assert_eq!(coded(), [true; 2]);
    reload(&server, config(|config| config.compression_threshold = 2001));
    assert_eq!(coded(), [false; 2], "it is short now");
    reload(&server, config(|_| {}));
    assert_eq!(coded(), [true; 2]);
    reload(&server, config(|config| config.http_compression = false));
    assert_eq!(coded(), [false; 2]);
}

#[test]
fn operators_and_programs_need_the_new_secrets() {
    let tokens = ["a", "b", "c"].map(|letter| letter.repeat(32));
    let with = |admin: &str, api: &[&String]| {
        config(|config| {
            config.admin_bind = "127.0.0.1:0".to_owned();
            config.admin_token = Secret::from(admin);
            config.api_bind = ApiBind::Public;
            config.api_tokens = ApiTokens::new(api.iter().copied());
        })
    };
    let server = server(with("the-first-of-secrets", &[&tokens[0], &tokens[1]]));
    let bearer = |token: &str| format!("Bearer {token}");
    let operator = |token: &str| server.get_as_operator("/", &[("Authorization", &bearer(token))]).status;
    let program = |token: &String| {
        let headers = [("Authorization", bearer(token)), ("Idempotency-Key", "same".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = server.request(Method::Post, "/api/v1/emit", &headers, b"{\"event\":\"a\"}");
        (answer.status, answer.header("idempotency-replayed").is_some())
    };
    assert_eq!((operator("the-first-of-secrets"), operator("the-second-of-secrets")), (200, 401));
    assert_eq!([0, 1, 2].map(|index| program(&tokens[index])), [(200, false), (200, false), (401, false)]);
    reload(&server, with("the-second-of-secrets", &[&tokens[2], &tokens[1]]));
    assert_eq!((operator("the-first-of-secrets"), operator("the-second-of-secrets")), (401, 200));
    // A token that stays has its answers, and another one at its place in the list has not.
    assert_eq!([0, 1, 2].map(|index| program(&tokens[index])), [(401, false), (200, true), (200, false)]);
    reload(&server, with("the-second-of-secrets", &[]));
    assert_eq!([0, 1, 2].map(|index| program(&tokens[index]).0), [401; 3]);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let server = server(config(|_| {}));
    let wrong = config(|config| (config.sessions_max, config.head_bytes_max) = (7, 1));
    let fault = server.handle().reload(wrong).expect_err("the head is too short");
    assert!(fault.to_string().contains("head_bytes_max = 1"), "{fault}");
    assert_eq!(server.handle().config().expect("it runs").sessions_max, Config::default().sessions_max);
    let stopped = Server::new(Config::default()).handle();
    assert!(stopped.reload(Config::default()).is_err() && stopped.config().is_none());
}
