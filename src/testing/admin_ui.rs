//! Socket.IO's admin page by the test kit: what Node's server has sent to a page in the same situations, and what a page must not do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::config::admin_ui_rules::with_login;
use crate::shard::value::sighting::{EVENT_SHOWN_BYTES_MAX, EVENTS_PER_SECOND_MAX};
use crate::testing::{TestClient, TestServer};
use crate::{AdminUi, AdminUiAuth, Args, Binary, Config, Context, Server};

/// Frames of `@socket.io/admin-ui` 0.5.1 on socket.io 4.8.4: the first record says how they came to be.
const VECTORS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/socketio/admin-ui.json"));

/// More than from one beat to the next, less than a second.
const SOON: Duration = Duration::from_millis(120);

fn open(admin_ui: AdminUi) -> Config {
    Config { admin_ui, admin_ui_auth: AdminUiAuth::None, ..Config::default() }
}

/// What the server of the vectors does.
fn chat(io: &mut crate::Namespace<'_>) {
    io.on_raw("echo", |cx: &mut Context<'_>, args: Args<'_>| {
        if !cx.wants_ack() {
            cx.emit("echo", args);
        }
        args.into_owned()
    });
    io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
    io.on("leave", |cx: &mut Context<'_>, room: String| cx.leave(room));
    io.on("all", |cx: &mut Context<'_>, what: Value| drop(cx.broadcast().emit("bcast", what)));
    io.on("room", |cx: &mut Context<'_>, room: String, what: String| drop(cx.to(room).emit("toroom", what)));
    io.on("data", |cx: &mut Context<'_>, key: String, value: Value| set(cx, &[(&key, value)]));
    io.on("nested", |cx: &mut Context<'_>, _: String, value: u64| {
        let deep = || ("k", serde_json::json!({"deep": 1}));
        set(cx, &[deep(), ("o", serde_json::json!({"a": 1}))]);
        set(cx, &[deep(), ("o", serde_json::json!({ "a": value }))]);
    });
    io.on("kick", |cx: &mut Context<'_>| cx.disconnect());
}

fn set(cx: &Context<'_>, members: &[(&str, Value)]) {
    let members: serde_json::Map<String, Value> =
        members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    cx.set_data(&members).expect("it is short");
}

fn serve(config: Config) -> TestServer {
    let server = Server::new(config).namespace("/", chat).namespace("/chat", |io| {
        io.on_connect(|cx: &mut Context<'_>| set(cx, &[("mw", 1.into())]));
    });
    TestServer::new(server).expect("the server is sound")
}

/// The records of one scenario.
fn scenario(name: &str) -> Vec<BTreeMap<String, Value>> {
    let all: Vec<BTreeMap<String, Value>> = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    all.into_iter().filter(|record| record["scenario"] == name).collect()
}

fn text<'a>(record: &'a BTreeMap<String, Value>, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The payload of an event's frame, if it is one that happens at its own times in both servers.
fn payload(frame: &str) -> Option<&str> {
    let is_event = frame.starts_with("42/admin,") || frame.starts_with("451-/admin,");
    let payload = frame.split_once(',').filter(|_| is_event)?.1;
    (!payload.starts_with("[\"server_stats\"")).then_some(payload)
}

/// Texts in which what differs from run to run has the same name in each: ids by the order in which they come.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn of(&mut self, payload: &str) -> String {
        let mut text = payload.to_owned();
        for (begin, end) in [
            ("\"clientId\":\"", '"'),
            ("\"address\":\"", '"'),
            ("\"headers\":{", '}'),
            ("\"query\":{", '}'),
            ("\"issued\":", ','),
            ("\"time\":\"", '"'),
            ("\"url\":\"", '"'),
            ("\"transport\":\"", '"'),
        ] {
            text = emptied(&text, begin, end);
        }
        let mut parts: Vec<String> = text.split('"').map(str::to_owned).collect();
        for part in &mut parts {
            let bytes = part.as_bytes();
            if bytes.len() == 24 && bytes[10] == b'T' && bytes[23] == b'Z' {
                *part = "DATE".to_owned();
            } else if bytes.len() == 20 && crate::Sid::parse(part).is_some() {
                let known = self.0.iter().position(|id| id == part);
                let place = known.unwrap_or_else(|| {
                    self.0.push(part.clone());
                    self.0.len() - 1
                });
                *part = format!("ID{place}");
            }
        }
        parts.join("\"")
    }
}

/// Takes out what stands between each of these.
fn emptied(text: &str, begin: &str, end: char) -> String {
    let mut parts = text.split(begin);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.find(end).map_or("", |at| &part[at..]);
        text + begin + rest
    })
}

/// What a page has heard since the last time, figures apart.
fn heard(page: &TestClient) -> Vec<String> {
    let received = page.received();
    received.iter().filter(|event| event.name() != "server_stats").map(ToString::to_string).collect()
}

/// Who takes part in the scenario.
struct Stage {
    server: TestServer,
    page: TestClient,
    first: TestClient,
    second: Option<TestClient>,
    others: Vec<TestClient>,
}

impl Stage {
    fn second(&self) -> &TestClient {
        self.second.as_ref().expect("it is connected")
    }

    fn join(&mut self, namespace: &str) {
        self.others.push(self.server.connect(namespace).expect("everybody may"));
    }

    fn act(&mut self, note: &str) {
        match note {
            "websocket client connects to /" => self.second = self.server.connect("/").ok(),
            "client emits echo without ack" => {
                self.second().emit("echo", (1, "two", serde_json::json!({"three": 3})));
            }
            "client emits echo with ack" => drop(self.second().emit_with_ack("echo", "x")),
            "client emits join room1 (with ack)" => drop(self.second().emit_with_ack("join", "room1")),
            "client emits binary echo" => self.second().emit("echo", (Binary::from(vec![1, 2, 3]), "tail")),
            "broadcast to all of /" => self.second().emit("all", serde_json::json!({"n": 1})),
            "broadcast to room1" => self.second().emit("room", ("room1", "hi")),
            "socket.data.k = {deep:1}" => self.second().emit("data", ("k", serde_json::json!({"deep": 1}))),
            "nested data set" => self.second().emit("nested", ("k", 7)),
            "client leaves room1" => self.second().emit("leave", "room1"),
            "polling client with upgrade, namespace /chat" => self.join("/chat"),
            "polling only client" => self.join("/"),
            "client joins a second namespace on one connection" => {
                let chat = self.second().join_namespace("/chat", &serde_json::json!({}));
                self.others.push(chat.expect("everybody may"));
            }
            "server kicks" => self.second().emit("kick", ()),
            "client disconnects namespace" => {
                self.others[0].disconnect();
                self.server.advance(SOON);
                self.join("/");
            }
            "abrupt TCP loss" => self.others.last().expect("it is connected").cut(),
            "second admin arrives" => {
                self.join("/admin");
                self.server.advance(SOON);
                self.others.last().expect("it is connected").cut();
            }
            // The page's own commands are in the vectors.
            command => assert!(command.starts_with("command: "), "{command:?} is something new"),
        }
    }
}

/// The ids of both runs, by the order in which they came.
fn translated(frame: &str, expected: &Names, found: &Names) -> String {
    let names = expected.0.iter().zip(&found.0);
    names.fold(frame.to_owned(), |frame, (theirs, ours)| frame.replace(theirs, ours))
}

#[test]
fn a_page_hears_what_nodes_server_tells_it() {
    let server = serve(open(AdminUi::Development));
    let first = server.connect("/").expect("everybody may");
    first.emit("data", ("name", "alice"));
    first.emit("join", "lobby");
    let page = server.connect("/admin").expect("everybody may");
    let mut stage = Stage { server, page, first, second: None, others: Vec::new() };
    let (mut theirs, mut ours) = (Names::default(), Names::default());
    let records = scenario("development");
    let mut groups = records.split(|record| record["dir"] == "mark");
    let marks = records.iter().filter(|record| record["dir"] == "mark");
    let notes = std::iter::once("the page connects").chain(marks.map(|mark| text(mark, "note")));
    let mut compared = 0;
    for note in notes {
        let group = groups.next().expect("a group for each mark");
        if note != "the page connects" {
            stage.act(note);
        }
        for record in
            group.iter().filter(|record| record["dir"] == "ui>server" && note.starts_with("command"))
        {
            let frame = translated(text(record, "frame"), &theirs, &ours);
            let (_, elements) = frame.split_once(',').expect("a command has arguments");
            let args: Vec<Value> = serde_json::from_str(elements).expect("it is JSON");
            let name = args[0].as_str().expect("a name").to_owned();
            let rest: Vec<String> = args[1..].iter().map(Value::to_string).collect();
            stage.page.emit(&name, Args::of_elements(&rest.join(","), &[]));
        }
        stage.server.advance(SOON);
        let frames = group.iter().filter(|record| record["dir"] == "server>ui");
        let mut expected: Vec<String> = frames
            .filter_map(|record| payload(text(record, "frame")))
            .map(|frame| theirs.of(frame))
            .collect();
        let mut found: Vec<String> = heard(&stage.page).iter().map(|frame| ours.of(frame)).collect();
        if note.contains("namespace /chat") || note.contains("a second namespace") {
            // There data is told of before the socket is, and the transport of a client that polled; here both come with the socket.
            expected.retain(|frame| !frame.starts_with("[\"socket_updated\""));
        }
        if note == "the page connects" {
            // What the page can do is said first here.
            expected.sort_unstable();
            found.sort_unstable();
        }
        assert_eq!(found, expected, "{note}");
        compared += found.len();
    }
    assert!(compared > 60, "{compared} frames were compared");
    assert!(!stage.first.is_connected());
}

#[test]
fn who_may_in_is_who_may_in_there() {
    let hashless = with_login(AdminUi::Production, "admin", "changeit");
    for (name, is_in, has_session) in [
        ("auth: none", false, false),
        ("auth: empty", false, false),
        ("auth: wrong password", false, false),
        ("auth: wrong user", false, false),
        ("auth: right", true, true),
        ("auth: unknown session", false, false),
        ("auth: session not a string", false, false),
        ("auth: wrong session but right password", true, true),
    ] {
        let server = serve(hashless.clone());
        let records = scenario(name);
        let connect = records.iter().find(|record| record["dir"] == "ui>server").expect("a CONNECT");
        let auth = text(connect, "frame").split_once(',').map_or("", |(_, auth)| auth);
        let client = match serde_json::from_str::<Value>(auth) {
            Ok(auth) => server.client().auth(&auth),
            Err(_) => server.client(),
        };
        let frames: Vec<&str> = records.iter().map(|record| text(record, "frame")).collect();
        match client.connect("/admin") {
            Ok(page) => {
                assert!(is_in, "{name}");
                let heard = heard(&page);
                assert_eq!(
                    heard.iter().any(|frame| frame.starts_with("[\"session\"")),
                    has_session,
                    "{name}"
                );
                let config =
                    heard.iter().find(|frame| frame.starts_with("[\"config\"")).expect("what it can do");
                assert!(frames.contains(&format!("42/admin,{config}").as_str()), "{name}: {config}");
            }
            Err(refused) => {
                assert!(!is_in, "{name}");
                let refusal = format!("44/admin,{{\"message\":\"{}\"}}", refused.message);
                assert!(frames.contains(&refusal.as_str()), "{name}: {refusal}");
            }
        }
    }
    let server = serve(hashless);
    let login = serde_json::json!({"username": "admin", "password": "changeit"});
    let page = server.client().auth(&login).connect("/admin").expect("it is the password");
    let session =
        page.received().iter().find(|event| event.name() == "session").expect("a session").first::<String>();
    let again = serde_json::json!({"sessionId": session.expect("a text")});
    let page = server.client().auth(&again).connect("/admin").expect("it has logged in before");
    assert!(page.received().iter().all(|event| event.name() != "session"));
}

#[test]
fn what_the_page_can_do_is_what_the_settings_say() {
    for (name, admin_ui, admin_ui_read_only, namespace) in [
        ("production", AdminUi::Production, false, "/admin"),
        ("development", AdminUi::Development, false, "/admin"),
        ("readonly", AdminUi::Development, true, "/admin"),
        ("readonly-production", AdminUi::Production, true, "/admin"),
        ("namespaceName /ops", AdminUi::Production, false, "/ops"),
    ] {
        let admin_ui_namespace = namespace.to_owned();
        let server = serve(Config { admin_ui_read_only, admin_ui_namespace, ..open(admin_ui) });
        let page = server.connect(namespace).expect("everybody may");
        let heard = heard(&page);
        let config = heard.iter().find(|frame| frame.starts_with("[\"config\"")).expect("what it can do");
        let frame = format!("42{namespace},{config}");
        assert!(scenario(name).iter().any(|record| text(record, "frame") == frame), "{name}: {frame}");
        let client = server.connect("/").expect("everybody may");
        page.emit("join", ("/", "r", client.id()));
        page.emit("_disconnect", ("/", true, client.id()));
        server.advance(SOON);
        assert_eq!(client.is_connected(), admin_ui_read_only, "{name}");
    }
    let server = serve(Config::default());
    assert_eq!(server.connect("/admin").unwrap_err().message, "Invalid namespace");
}

#[test]
fn figures_come_every_two_seconds_and_at_once_for_a_new_page() {
    let server = serve(Config { admin_ui_server_id: "one".to_owned(), ..open(AdminUi::Production) });
    let clients = [server.connect("/").unwrap(), server.connect("/chat").unwrap()];
    server.advance(Duration::from_secs(60));
    let page = server.connect("/admin").expect("everybody may");
    server.advance(Duration::from_secs(1));
    let stats = |page: &TestClient| -> Vec<Value> {
        let received = page.received();
        received
            .iter()
            .filter(|event| event.name() == "server_stats")
            .map(|event| event.first().unwrap())
            .collect()
    };
    let [first] = &stats(&page)[..] else { panic!("once, within a second") };
    assert_eq!(first["serverId"], "one");
    assert_eq!((&first["clientsCount"], &first["pollingClientsCount"]), (&3.into(), &0.into()));
    let counts = |stats: &Value| {
        let namespaces = stats["namespaces"].as_array().cloned().unwrap_or_default();
        namespaces
            .iter()
            .map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["socketsCount"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(first), ["/=1", "/chat=1", "/admin=1"]);
    clients[1].cut();
    server.advance(Duration::from_secs(10));
    let later = stats(&page);
    assert_eq!(later.len(), 5);
    assert_eq!(counts(&later[4]), ["/=1", "/chat=0", "/admin=1"], "each keeps its place");
    let closed: Vec<String> = later
        .iter()
        .flat_map(|stats| stats["aggregatedEvents"].as_array().cloned().unwrap_or_default())
        .filter(|event| event["type"] == "rawDisconnection")
        .map(|event| format!("{} {}", event["subType"], event["count"]))
        .collect();
    assert_eq!(closed, ["\"transport close\" 1"]);
    assert!(heard(&page).is_empty(), "in production nothing else is told");
}

#[test]
fn a_page_sees_the_sockets_of_every_shard_and_reaches_them() {
    let server = serve(Config { shards: 3, ..open(AdminUi::Development) });
    let clients: Vec<TestClient> =
        (0..6).map(|number| server.client().shard(number % 3).connect("/").expect("everybody may")).collect();
    clients.iter().for_each(|client| client.emit("join", "lobby"));
    let page = server.client().shard(1).connect("/admin").expect("everybody may");
    server.advance(2 * SOON);
    let (mut seen, mut connected) = (Vec::new(), 0);
    let received = page.received();
    let names: Vec<&str> = received.iter().map(crate::testing::Received::name).collect();
    assert!(names.contains(&"all_sockets"), "{names:?}");
    for event in received {
        let described: Vec<Value> = match event.name() {
            "all_sockets" => event.first().expect("a list"),
            "socket_connected" => vec![event.first().expect("a socket")],
            _ => continue,
        };
        connected += usize::from(event.name() == "socket_connected");
        for socket in described.iter().filter(|socket| socket["nsp"] == "/") {
            assert_eq!(socket["rooms"][1], "lobby");
            seen.push(socket["id"].as_str().expect("an id").to_owned());
        }
    }
    let mut ids: Vec<String> = clients.iter().map(TestClient::id).collect();
    ids.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, ids);
    assert_eq!(connected, 5, "the page's own socket, and those of two other shards");
    page.emit("leave", ("/", "lobby"));
    server.advance(2 * SOON);
    let left =
        heard(&page).iter().filter(|frame| frame.starts_with("[\"room_left\",\"/\",\"lobby\"")).count();
    assert_eq!(left, 6);
    page.emit("emit", ("/", Value::Null, "note", 1));
    page.emit("_disconnect", ("/", true));
    server.advance(2 * SOON);
    assert!(
        clients
            .iter()
            .all(|client| !client.is_connected() && client.received()[0].to_string() == r#"["note",1]"#)
    );
    assert_eq!(heard(&page).iter().filter(|frame| frame.starts_with("[\"socket_disconnected\"")).count(), 6);
}

#[test]
fn a_page_knows_of_the_first_namespace_before_it_hears_of_sockets() {
    for (shard, is_told) in [(0, false), (1, true)] {
        let server = serve(Config { shards: 2, ..open(AdminUi::Development) });
        let _client = server.client().shard(0).connect("/").expect("everybody may");
        let page = server.client().shard(shard).connect("/admin").expect("everybody may");
        server.advance(2 * SOON);
        let heard = heard(&page);
        let place = |begin: &str| heard.iter().position(|frame| frame.starts_with(begin));
        let told = place(r#"["socket_updated",{"id":"","nsp":"/"}]"#);
        assert_eq!(told.is_some(), is_told, "shard {shard}: {heard:?}");
        assert!(!is_told || told < place("[\"all_sockets\""));
    }
}

#[test]
fn only_the_endpoint_of_the_configuration_is_shown() {
    let config = open(AdminUi::Development);
    let server = Server::new(config).namespace("/", chat).endpoint("/devices.io/", |endpoint| {
        endpoint.namespace("/", chat);
    });
    let server = TestServer::new(server).expect("the server is sound");
    let device = server.client().at_path("/devices.io/").connect("/").expect("everybody may");
    let page = server.connect("/admin").expect("everybody may");
    server.advance(SOON);
    assert!(
        server.client().at_path("/devices.io/").connect("/admin").is_err(),
        "the page's namespace is not there"
    );
    heard(&page);
    device.emit("join", "lobby");
    device.emit("all", 1);
    page.emit("join", ("/", "other"));
    page.emit("_disconnect", ("/", true));
    server.advance(SOON);
    assert!(heard(&page).is_empty() && device.is_connected());
    server.advance(Duration::from_secs(2));
    let stats = page.received().pop().expect("figures").first::<Value>().unwrap();
    assert_eq!(stats["clientsCount"], 1);
}

#[test]
fn what_is_too_much_is_left_out_and_the_page_is_told() {
    let server = serve(open(AdminUi::Development));
    let page = server.connect("/admin").expect("everybody may");
    let client = server.connect("/").expect("everybody may");
    server.advance(SOON);
    heard(&page);
    client.emit("nothing", "x".repeat(EVENT_SHOWN_BYTES_MAX));
    server.advance(SOON);
    let [large] = &heard(&page)[..] else { panic!("one event") };
    assert!(large.contains("[\"nothing\",\"(4110 bytes, not shown)\"]"), "{large}");
    server.advance(Duration::from_secs(2));
    heard(&page);
    for number in 0..3 * EVENTS_PER_SECOND_MAX {
        client.emit("nothing", number);
    }
    server.advance(SOON);
    let heard = heard(&page);
    assert_eq!(heard.len(), EVENTS_PER_SECOND_MAX + 1);
    assert!(
        heard[EVENTS_PER_SECOND_MAX].contains("(400 events were not shown here: more than 200 a second)")
    );
}

#[test]
fn nothing_is_noted_while_nobody_watches() {
    let server = serve(open(AdminUi::Development));
    let page = server.connect("/admin").expect("everybody may");
    server.advance(SOON);
    page.cut();
    server.advance(Duration::from_secs(60));
    let client = server.connect("/").expect("everybody may");
    for _ in 0..10 {
        client.emit("join", "lobby");
        client.emit("leave", "lobby");
    }
    let page = server.connect("/admin").expect("everybody may");
    server.advance(SOON);
    let heard = heard(&page);
    let names: Vec<&str> = heard.iter().filter_map(|frame| frame.split('"').nth(1)).collect();
    assert_eq!(names, ["config", "room_joined", "socket_connected", "all_sockets"]);
}

#[test]
fn an_event_that_can_be_recovered_is_shown_without_its_offset() {
    let recovery_max_disconnection = Duration::from_secs(60);
    let server = serve(Config { recovery_max_disconnection, ..open(AdminUi::Development) });
    let page = server.connect("/admin").expect("everybody may");
    let client = server.connect("/").expect("everybody may");
    server.advance(SOON);
    heard(&page);
    client.emit("all", serde_json::json!({"n": 1}));
    server.advance(SOON);
    let heard = heard(&page);
    assert!(heard.iter().any(|frame| frame.contains(r#",["bcast",{"n":1}],"#)), "{heard:?}");
}

#[test]
fn secrets_of_a_handshake_are_not_shown() {
    let server = serve(open(AdminUi::Development));
    let long = "x".repeat(4000);
    let _client = server
        .client()
        .header("Cookie", "session=secret")
        .header("authorization", "Bearer secret")
        .header("x-long", &long)
        .connect("/")
        .expect("everybody may");
    let page = server.connect("/admin").expect("everybody may");
    server.advance(SOON);
    let all =
        heard(&page).into_iter().find(|frame| frame.starts_with("[\"all_sockets\"")).expect("all sockets");
    assert!(!all.contains("secret") && all.contains(r#""cookie":"(not shown)""#), "{all}");
    assert!(!all.contains(&long[..300]) && all.contains(&long[..256]));
}

#[test]
fn from_this_machine_is_by_its_address_and_through_no_proxy() {
    let server = serve(Config { admin_ui_auth: AdminUiAuth::Loopback, ..open(AdminUi::Production) });
    for (header, value, is_in) in [
        ("x-other", "1", true),
        ("x-forwarded-for", "192.0.2.1", false),
        ("forwarded", "for=192.0.2.1", false),
    ] {
        let page = server.client().header(header, value).connect("/admin");
        assert_eq!(page.is_ok(), is_in, "{header}: {value}");
    }
    let far = server.client().address([192, 0, 2, 1].into()).connect("/admin");
    assert_eq!(far.unwrap_err().message, "only from the machine that the server runs on");
}

#[test]
fn the_page_has_its_namespace_to_itself() {
    let server = Server::new(open(AdminUi::Production)).namespace("/admin", |_| {});
    let fault = TestServer::new(server).expect_err("two want it").to_string();
    assert!(fault.starts_with("admin_ui_namespace = \"/admin\""), "{fault}");
}
