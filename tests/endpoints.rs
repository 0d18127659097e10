//! Several endpoints on one server, by the public API: most without a port, and a program that is started with a file.
#![allow(clippy::disallowed_methods)] // A test with a real process waits in real time.

#[allow(dead_code, reason = "this server is only asked")]
mod process;

use process::{Process, SERVE};
use shardcast::testing::TestServer;
use shardcast::{Config, Server};

fn fault(server: Server) -> String {
    TestServer::new(server).expect_err("this cannot be right").to_string()
}

#[test]
fn what_cannot_be_right_is_said_before_anything_listens() {
    let server = || Server::new(Config::default());
    let both = server().endpoint("/x/", |endpoint| {
        endpoint.namespace("/", |_| {});
        endpoint.engine(|_| {});
    });
    let cookie = server().endpoint("/x/", |endpoint| endpoint.options.cookie = "a b".to_owned());
    for (server, expected) in [
        (server().endpoint("/socket.io/", |_| {}), "two endpoints at /socket.io/"),
        (server().endpoint("x", |_| {}), "path = \"x\""),
        (both, "endpoint /x/: it is raw"),
        (cookie, "endpoint /x/: cookie"),
        (server().client_bundle("no/such/folder"), "no socket.io.js"),
        (server().namespace("/a,b", |_| {}), "no comma"),
        ((0..255).fold(server(), |server, number| server.engine(&format!("/{number}/"), |_| {})), "255"),
    ] {
        let message = fault(server);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn of_two_paths_the_longer_one_answers() {
    let server = Server::new(Config::default())
        .endpoint("/socket.io/admin/", |endpoint| endpoint.options.max_http_buffer_size = 7)
        .engine("/socket.io/admin/raw/", |_| {});
    let server = TestServer::new(server).expect("all of this is right");
    let open = |path: &str| server.get(&format!("{path}?EIO=4&transport=polling")).text();
    assert!(open("/socket.io/").contains("\"maxPayload\":1000000"));
    assert!(open("/socket.io/admin/x").contains("\"maxPayload\":7"));
    assert!(open("/socket.io/admin/raw/").contains("\"maxPayload\":1000000"));
}

#[test]
fn a_bundle_is_served_from_its_folder_and_a_missing_file_is_404() {
    let folder = std::env::temp_dir().join(format!("shardcast-bundle-{}", std::process::id()));
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file is written");
    std::fs::create_dir_all(&folder).expect("a folder is made");
    write("socket.io.js", "client");
    write("package.json", r#"{"version":"1.2.3-rc.4"}"#);
    let server = Server::new(Config::default()).client_bundle(&folder);
    let server = TestServer::new(server).expect("the folder has the client");
    let response = server.get("/socket.io/socket.io.js");
    assert_eq!((response.text().as_str(), response.header("etag")), ("client", Some("\"1.2.3-rc.4\"")));
    assert_eq!(server.get("/socket.io/socket.io.min.js").status, 404);
    assert_eq!(server.get("/socket.io/package.json").status, 400);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// Settings from a file and a variable, and the text of what is wrong.
fn load(file: &str, variable: Option<&str>) -> Result<Config, String> {
    let path = std::env::temp_dir().join(format!("shardcast-endpoints-{}.toml", std::process::id()));
    std::fs::write(&path, file).expect("a file is written");
    let variables = variable.map(|value| ("SHARDCAST_ENDPOINT".to_owned(), value.to_owned()));
    let config = Config::load_with(Some(&path), variables.into_iter());
    std::fs::remove_file(&path).expect("the file goes");
    config.map_err(|error| error.to_string())
}

#[test]
#[cfg(feature = "toml")]
fn an_endpoint_begins_with_its_entry_and_setup_has_the_last_word() {
    let file = "ping_interval = 9\nping_timeout = 8\n\n[[endpoint]]\npath = \"/a/\"\nping_interval = 7\n\n\
                [[endpoint]]\npath = \"/b/\"\nping_interval = 6\nmax_http_buffer_size = 5\n";
    let config = load(file, Some(r#"{"path": "/a/", "ping_timeout": 4}"#)).expect("all of this is right");
    let server = Server::new(config)
        .engine("/a/", |_| {})
        .endpoint("/b/", |endpoint| endpoint.options.max_http_buffer_size = 3)
        .endpoint("/c/", |_| {});
    let server = TestServer::new(server).expect("all of this is right");
    for (path, interval, timeout, payload) in [
        ("/socket.io/", 9000, 8000, 1_000_000),
        ("/a/", 7000, 4000, 1_000_000),
        ("/b/", 6000, 8000, 3),
        ("/c/", 9000, 8000, 1_000_000),
    ] {
        let opened = server.get(&format!("{path}?EIO=4&transport=polling")).text();
        let expected =
            format!("\"pingInterval\":{interval},\"pingTimeout\":{timeout},\"maxPayload\":{payload}");
        assert!(opened.contains(&expected), "{path}: {opened}");
    }
}

#[test]
#[cfg(feature = "toml")]
fn an_entry_that_no_endpoint_has_is_named_with_the_nearest() {
    let config = |path: &str| load(&format!("[[endpoint]]\npath = \"{path}\"\n"), None).expect("a path");
    let server = |path: &str| Server::new(config(path)).namespace("/", |_| {});
    let admin = |path: &str| server(path).endpoint("/admin.io/", |_| {}).endpoint("/raw/", |_| {});
    for (server, expected) in [
        (
            server("/admin.io/"),
            "endpoint /admin.io/: this program has no endpoint there; it has the main one only",
        ),
        (
            admin("/admn.io/"),
            "endpoint /admn.io/: this program has no endpoint there; did you mean /admin.io/?",
        ),
        (admin("/x"), "it has /admin.io/, /raw/"),
    ] {
        let message = fault(server);
        assert!(message.contains(expected), "{message}");
    }
    let message = load("[[endpoint]]\npath = \"/a/\"\npoling = false\n", None).expect_err("a key");
    assert!(message.contains("/a/: unknown key poling; did you mean polling?"), "{message}");
}

/// Not a test of its own: the program that the next one starts.
#[test]
fn program() {
    if std::env::var_os(SERVE).is_some() {
        let server = Server::new(Config::load().expect("its settings are right"))
            .namespace("/", |_| {})
            .endpoint("/admin.io/", |endpoint| endpoint.namespace("/", |_| {}));
        server.run().expect("it serves");
    }
}

#[test]
#[cfg(feature = "toml")]
fn a_program_that_is_started_with_a_file_has_its_endpoint_with_its_options() {
    let path = std::env::temp_dir().join(format!("shardcast-program-{}.toml", std::process::id()));
    let file = "[[endpoint]]\npath = \"/admin.io/\"\nping_interval = \"5s\"\nwebsocket = false\n";
    std::fs::write(&path, file).expect("a file is written");
    let settings = [
        ("SHARDCAST_CONFIG", path.to_str().expect("a plain path")),
        ("SHARDCAST_ENDPOINT", r#"{"path": "/admin.io/", "ping_timeout": "3s"}"#),
    ];
    let program = Process::of_a_user("program", "endpoint", &settings, std::process::Stdio::null());
    let main = program.get("/socket.io/?EIO=4&transport=polling");
    assert!(
        main.contains("\"upgrades\":[\"websocket\"],\"pingInterval\":25000,\"pingTimeout\":20000"),
        "{main}"
    );
    let admin = program.get("/admin.io/?EIO=4&transport=polling");
    assert!(admin.contains("\"upgrades\":[],\"pingInterval\":5000,\"pingTimeout\":3000"), "{admin}");
    std::fs::remove_file(&path).expect("the file goes");
}
