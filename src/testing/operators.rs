//! The operators' paths, by the test kit: who is answered, and what is not there.

use crate::testing::TestServer;
use crate::{Config, Secret, Server};

const TOKEN: &str = "0123456789abcdef";

fn server(config: Config) -> TestServer {
    let config = Config { admin_bind: "127.0.0.1:0".to_owned(), ..config };
    let server = Server::new(config).namespace("/", |_| {}).route("/hello", |_| "hello");
    TestServer::new(server).expect("the server is sound")
}

fn guarded() -> TestServer {
    server(Config {
        admin_token: Secret::from(TOKEN),
        admin_user: "ada".to_owned(),
        admin_password: Secret::from("lovelace"),
        ..Config::default()
    })
}

#[test]
fn what_is_served_at_one_listener_is_not_there_at_the_other() {
    let server = server(Config::default());
    for (path, public, admin) in [
        ("/", 404, 200),
        ("/livez", 404, 200),
        ("/readyz", 404, 200),
        ("/hello", 200, 404),
        ("/socket.io/?EIO=4&transport=polling", 200, 404),
        ("/socket.io/socket.io.js", if cfg!(feature = "client") { 200 } else { 404 }, 404),
        ("/nothing", 404, 404),
    ] {
        assert_eq!(server.get(path).status, public, "{path}");
        assert_eq!(server.get_as_operator(path, &[]).status, admin, "{path}");
    }
}

#[test]
fn credentials_are_asked_for_except_by_the_probes() {
    let server = guarded();
    // printf ada:lovelace | base64; printf ada:wrong | base64; printf eve:lovelace | base64
    for (path, authorization, status) in [
        ("/", "", 401),
        ("/nothing", "", 401),
        ("/", "Bearer 0123456789abcdef", 200),
        ("/", "bearer 0123456789abcdef", 200),
        ("/", "Bearer 0123456789abcdeg", 401),
        ("/", "Bearer 0123456789abcde", 401),
        ("/", "Basic YWRhOmxvdmVsYWNl", 200),
        ("/", "Basic YWRhOndyb25n", 401),
        ("/", "Basic ZXZlOmxvdmVsYWNl", 401),
        ("/", "Basic !", 401),
        ("/", "Digest a", 401),
        ("/livez", "", 200),
        ("/readyz", "", 200),
        ("/livez/", "", 401),
    ] {
        let headers = [("Authorization", authorization)];
        let headers = if authorization.is_empty() { &[] } else { &headers[..] };
        let answer = server.get_as_operator(path, headers);
        assert_eq!(answer.status, status, "{path} {authorization}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{path} {authorization}");
    }
    let answer = server.get_as_operator("/", &[]);
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"shardcast\", charset=\"UTF-8\""));
    assert!(answer.header("cache-control") == Some("no-store"));
}

#[test]
fn an_empty_setting_is_no_credential() {
    let server = server(Config { admin_token: Secret::from(TOKEN), ..Config::default() });
    // printf : | base64
    for authorization in ["Basic Og==", "Bearer"] {
        assert_eq!(
            server.get_as_operator("/", &[("Authorization", authorization)]).status,
            401,
            "{authorization}"
        );
    }
}

#[test]
fn pages_of_other_origins_and_taken_over_names_are_refused() {
    let token = ("Authorization", "Bearer 0123456789abcdef");
    let (open, guarded) = (server(Config::default()), guarded());
    for (server, headers, status) in [
        (&open, vec![("Host", "localhost:9090")], 200),
        (&open, vec![("Host", "127.0.0.1:9090")], 200),
        (&open, vec![("Host", "[::1]:9090")], 200),
        (&open, vec![("Host", "evil.example")], 403),
        (&guarded, vec![("Host", "metrics.example"), token], 200),
        (&open, vec![("Host", "localhost:9090"), ("Origin", "http://localhost:9090")], 200),
        (&open, vec![("Host", "localhost:9090"), ("Origin", "http://localhost:9091")], 403),
        (&open, vec![("Host", "localhost:9090"), ("Origin", "https://evil.example")], 403),
        (&open, vec![("Host", "localhost:9090"), ("Origin", "null")], 403),
        (&guarded, vec![("Host", "localhost"), ("Origin", "https://evil.example"), token], 403),
    ] {
        let answer = server.get_as_operator("/", &headers);
        assert_eq!(answer.status, status, "{headers:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_server_that_stops_is_not_ready() {
    let server = server(Config::default());
    assert_eq!(server.get_as_operator("/readyz", &[]).text(), "ready\n");
    server.handle().stop();
    let answer = server.get_as_operator("/readyz", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (503, "draining\n"));
}

#[test]
fn the_index_names_every_path() {
    let page = server(Config::default()).get_as_operator("/", &[]).text();
    for path in ["/livez", "/readyz"] {
        assert!(page.contains(path), "{page}");
    }
}
