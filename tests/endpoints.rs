//! Several endpoints on one server, by the public API and without a port.

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
