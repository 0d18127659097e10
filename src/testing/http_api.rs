//! The HTTP API by tables: what is read and what is refused; what is done, on two shards; and that `docs/openapi.json` says what the code does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::http::Method;
use crate::protocol::http::query;
use crate::server::api::requests::{API_BATCH_MAX, API_NAMES_MAX, Command, read_body, read_query};
use crate::server::api::table::{Code, ENTRIES, Verb};
use crate::server::api::{API_REQUESTS_MAX, OPENAPI};
use crate::testing::TestServer;
use crate::{ApiBind, ApiTokens, Config, Context, Server};

const TOKEN: &str = "5f2b8c6d9e0a41738b6c5d4e3f2a1b0c";

fn refused(verb: Verb, body: &str) -> (&'static str, Option<String>, String) {
    let fault = read_body(verb, body.as_bytes()).expect_err(body);
    (fault.code.word(), fault.field, fault.message)
}

/// What is asked, in which body, and how it is refused: the code, the field, a part of the message.
const WRONG: &[(Verb, &str, &str, &str, &str)] = &[
    (Verb::Emit, "[1]", "bad_json", "", "not a JSON object"),
    (Verb::Emit, "{", "bad_json", "", "not a JSON object"),
    (Verb::Emit, "", "missing_field", "event", "the event's name"),
    (Verb::Emit, r#"{"event":"a","too":"x"}"#, "unknown_field", "too", "did you mean to?"),
    (Verb::Emit, r#"{"event":"a","argument":[]}"#, "unknown_field", "argument", "did you mean args?"),
    (Verb::Emit, r#"{"event":"a","zzz":1}"#, "unknown_field", "zzz", "known are endpoint, namespace, to"),
    (Verb::Emit, r#"{"event":"a","timeout_ms":1}"#, "unknown_field", "timeout_ms", ""),
    (Verb::Emit, r#"{"event":"a","event":"b"}"#, "bad_value", "event", "there twice"),
    (Verb::Emit, r#"{"event":1}"#, "bad_value", "event", "event is a text"),
    (Verb::Emit, r#"{"event":"connect"}"#, "reserved_event", "event", "Socket.IO itself"),
    (Verb::Emit, r#"{"event":"a","to":[]}"#, "empty_list", "to", "leave it out to mean everybody"),
    (Verb::Emit, r#"{"event":"a","to":[1]}"#, "bad_value", "to", "a text or a list of texts"),
    (Verb::Emit, r#"{"event":"a","namespace":"chat"}"#, "bad_value", "namespace", "begins with a slash"),
    (Verb::Emit, r#"{"event":"a","args":{}}"#, "bad_value", "args", "args is a list"),
    (Verb::Emit, r#"{"event":"a","volatile":1}"#, "bad_value", "volatile", "true or false"),
    (Verb::Emit, r#"{"event":"a","binary":["%"]}"#, "bad_value", "binary", "entry 0 is not base64"),
    (Verb::Emit, r#"{"event":"a","binary":["AQI="]}"#, "bad_value", "binary", "entry 0 is nowhere in args"),
    (
        Verb::Emit,
        r#"{"event":"a","args":[{"_placeholder":true,"num":0}]}"#,
        "bad_value",
        "args",
        "no place in binary",
    ),
    (
        Verb::Emit,
        r#"{"event":"a","args":[{"\u005fplaceholder":true,"num":0}]}"#,
        "bad_value",
        "args",
        "no place in binary",
    ),
    (
        Verb::Emit,
        r#"{"event":"a","args":[{"_placeholder":true,"num":1}],"binary":["AQI="]}"#,
        "bad_value",
        "args",
        "count from 0",
    ),
    (Verb::Ask, r#"{"event":"a","timeout_ms":30001}"#, "bad_value", "timeout_ms", "1 to 30000"),
    (Verb::Ask, r#"{"event":"a","timeout_ms":0}"#, "bad_value", "timeout_ms", "1 to 30000"),
    (Verb::Ask, r#"{"event":"a","volatile":true}"#, "unknown_field", "volatile", ""),
    (Verb::Join, r#"{"rooms":"x"}"#, "missing_field", "to", "\"everyone\": true"),
    (Verb::Join, r#"{"to":"a"}"#, "missing_field", "rooms", ""),
    (Verb::Join, r#"{"to":"a","rooms":[]}"#, "empty_list", "rooms", ""),
    (Verb::Leave, r#"{"to":"a","everyone":true,"rooms":"x"}"#, "bad_value", "everyone", "exclude each other"),
    (Verb::Disconnect, "{}", "missing_field", "to", ""),
    (Verb::Sockets, r#"{"limit":0}"#, "bad_value", "limit", "1 to 1000"),
    (Verb::Sockets, r#"{"limit":1001}"#, "bad_value", "limit", "1 to 1000"),
    (Verb::Batch, "{}", "missing_field", "requests", ""),
    (Verb::Batch, r#"{"requests":[]}"#, "empty_list", "requests", ""),
    (Verb::Batch, r#"{"requests":{}}"#, "bad_value", "requests", ""),
];

#[test]
fn what_is_wrong_is_refused_with_its_field() {
    let many = json!({ "event": "a", "to": vec!["r"; API_NAMES_MAX + 1] }).to_string();
    let many = (Verb::Emit, many.as_str(), "bad_value", "to", "the most is 1000");
    for (verb, body, code, field, part) in WRONG.iter().chain([&many]) {
        let (found, at, message) = refused(*verb, body);
        assert_eq!((found, at.as_deref().unwrap_or_default()), (*code, *field), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    let batch = json!({ "requests": vec![json!({ "count": {} }); API_BATCH_MAX + 1] }).to_string();
    assert!(refused(Verb::Batch, &batch).2.contains("the most is 1000"));
    let long = json!({ "to": "a", "rooms": "x".repeat(1025) }).to_string();
    assert!(refused(Verb::Join, &long).2.contains("the most is 1024"));
    assert_eq!(read_body(Verb::Count, &[b'{', 0xFF]).unwrap_err().code, Code::BadJson);
}

#[test]
fn arguments_stay_the_json_that_they_were() {
    let body = r#"{"event":"a","args":[ {"z":1, "a" : 1e2}, 12345678901234567890123,{"_placeholder":true,"num":0}],"binary":["AQI="],"to":"r"}"#;
    let Ok(Command::Emit { args, whom, .. }) = read_body(Verb::Emit, body.as_bytes()) else {
        panic!("{body}")
    };
    let expected = r#"{"z":1, "a" : 1e2},12345678901234567890123,{"_placeholder":true,"num":0}"#;
    assert_eq!(args.args().raw(), expected);
    assert_eq!(&*args.args().attachments()[0], &[1, 2]);
    assert_eq!(whom.to.as_deref(), Some(&["r".to_owned()][..]));
}

#[test]
fn a_query_is_read_as_a_body_is() {
    let read = |verb, text: &str| read_query(verb, query::pairs(text));
    let body = |verb, text: &str| read_body(verb, text.as_bytes());
    let rows = [
        (Verb::Count, "", "{}"),
        (Verb::Count, "namespace=%2Fchat&to=a&to=7", r#"{"namespace":"/chat","to":["a","7"]}"#),
        (Verb::Sockets, "limit=5&after=x&local=true", r#"{"limit":5,"after":"x","local":true}"#),
        (Verb::Rooms, "after=5", r#"{"after":"5"}"#),
    ];
    for (verb, query, text) in rows {
        assert_eq!(read(verb, query), body(verb, text), "{query}");
    }
    for (query, code) in [
        ("limit=x", "bad_value"),
        ("limt=1", "unknown_field"),
        ("after=1&after=2", "bad_value"),
        ("local=yes", "bad_value"),
    ] {
        assert_eq!(read(Verb::Sockets, query).unwrap_err().code.word(), code, "{query}");
    }
}

fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = Config {
        shards: 2,
        api_tokens: ApiTokens::new([TOKEN.to_owned(), format!("{} read /chat", TOKEN.replace('5', "6"))]),
        api_bind: ApiBind::Public,
        ..Config::default()
    };
    change(&mut config);
    let server = Server::new(config)
        .namespace("/", |io| {
            io.on("join", |cx: &mut Context, room: String| cx.join(room));
        })
        .namespace("/chat", |_| {});
    TestServer::new(server).unwrap()
}

struct Reply {
    status: u16,
    body: Value,
    headers: BTreeMap<&'static str, String>,
}

fn ask(server: &TestServer, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let bearer = format!("Bearer {TOKEN}");
    let has_own = headers.iter().any(|(name, _)| *name == "Authorization");
    let mut all = headers.to_vec();
    if !has_own {
        all.push(("Authorization", &bearer));
    }
    let answer = server.request(method, &format!("/api/v1/{path}"), &all, body.as_bytes());
    let known = ["retry-after", "idempotency-replayed", "allow", "www-authenticate", "content-type"];
    let headers = known.iter().filter_map(|name| Some((*name, answer.header(name)?.to_owned()))).collect();
    let body = serde_json::from_str(&answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()));
    Reply { status: answer.status, body, headers }
}

fn post(server: &TestServer, path: &str, body: &str) -> (u16, Value) {
    let reply = ask(server, Method::Post, path, &[], body);
    (reply.status, reply.body)
}

fn get(server: &TestServer, path: &str) -> (u16, Value) {
    let reply = ask(server, Method::Get, path, &[], "");
    (reply.status, reply.body)
}

#[test]
fn who_asks_must_have_a_token_that_may() {
    let server = server(|_| {});
    let other = format!("Bearer {}", TOKEN.replace('5', "6"));
    let wrong = format!("Bearer {}", TOKEN.replace('5', "7"));
    let rows = [
        ("count", "Bearer", 401, "unauthorized"),
        ("count", &wrong, 401, "unauthorized"),
        ("emit", &other, 403, "forbidden_scope"),
        ("nothing", &other, 404, "not_found"),
        ("info", &other, 405, "method_not_allowed"),
    ];
    for (path, token, status, code) in rows {
        let reply = ask(&server, Method::Post, path, &[("Authorization", token)], r#"{"event":"a"}"#);
        assert_eq!(
            (reply.status, reply.body["error"]["code"].as_str()),
            (status, Some(code)),
            "{path} {token}"
        );
        let is_told = match status {
            401 => reply.headers["www-authenticate"].starts_with("Bearer"),
            405 => reply.headers["allow"] == "GET, HEAD",
            _ => true,
        };
        assert!(is_told && reply.headers["content-type"] == "application/json", "{:?}", reply.headers);
    }
    let mine = [("Authorization", other.as_str())];
    let elsewhere = ask(&server, Method::Post, "count", &mine, "{}");
    assert_eq!(
        (elsewhere.status, elsewhere.body["error"]["code"].as_str()),
        (403, Some("forbidden_namespace"))
    );
    assert_eq!(
        ask(&server, Method::Post, "count", &mine, r#"{"namespace":"/chat"}"#).body,
        json!({ "sockets": 0 })
    );
    assert_eq!(
        ask(&server, Method::Post, "batch", &mine, r#"{"requests":[{"emit":{"event":"a"}}]}"#).body["results"]
            [0]["status"],
        403
    );
    let info = ask(&server, Method::Get, "info", &mine, "");
    assert_eq!((info.status, &info.body["namespaces"]), (200, &json!({})), "others' namespaces are not told");
    let spec = ask(&server, Method::Get, "openapi.json", &[("Authorization", "")], "");
    assert_eq!((spec.status, spec.body["openapi"].as_str()), (200, Some("3.1.0")));
}

#[test]
fn events_reach_sockets_of_all_shards_and_are_counted() {
    let server = server(|_| {});
    let clients = [0, 1, 1].map(|shard| server.client().shard(shard).connect("/").unwrap());
    assert!(clients[1].call("join", "red").is_some());
    let (status, body) = post(&server, "emit", r#"{"event":"news","args":["x",{"b":1,"a":2}]}"#);
    assert_eq!((status, &body["receivers"], body.get("bus")), (200, &json!(3), None));
    for client in &clients {
        assert_eq!(client.received()[0].to_string(), r#"["news","x",{"b":1,"a":2}]"#);
    }
    let id = clients[0].id();
    let rows = [
        (json!({ "event": "a", "to": "red" }), 1),
        (json!({ "event": "a", "to": ["red", id] }), 2),
        (json!({ "event": "a", "except": "red" }), 2),
        (json!({ "event": "a", "to": "nobody" }), 0),
        (json!({ "event": "a", "namespace": "/chat" }), 0),
        (json!({ "event": "a", "volatile": true, "local": true }), 3),
        (json!({ "event": "a", "args": [{ "_placeholder": true, "num": 0 }], "binary": ["AQI="] }), 3),
    ];
    for (request, receivers) in rows {
        let (status, body) = post(&server, "emit", &request.to_string());
        assert_eq!((status, &body["receivers"]), (200, &json!(receivers)), "{request}: {body}");
    }
    let (status, body) = post(&server, "emit", r#"{"event":"a","namespace":"/none"}"#);
    assert_eq!(
        (status, &body["error"]["code"], &body["error"]["field"]),
        (404, &json!("unknown_namespace"), &json!("namespace"))
    );
}

#[test]
fn rooms_are_joined_left_and_listed_and_sockets_are_ended() {
    let server = server(|_| {});
    let clients = [0, 1, 0].map(|shard| server.client().shard(shard).connect("/").unwrap());
    let mut ids: Vec<String> = clients.iter().map(|client| client.id().to_string()).collect();
    assert_eq!(
        post(&server, "join", r#"{"everyone":true,"rooms":["red","blue"]}"#),
        (200, json!({ "sockets": 3 }))
    );
    let one = json!({ "to": ids[1], "rooms": "blue" }).to_string();
    assert_eq!(post(&server, "leave", &one), (200, json!({ "sockets": 1 })));
    assert_eq!(get(&server, "count?to=blue"), (200, json!({ "sockets": 2 })));
    assert_eq!(post(&server, "count", "{}"), (200, json!({ "sockets": 3 })));
    assert_eq!(
        get(&server, "rooms"),
        (
            200,
            json!({ "rooms": [{ "room": "blue", "sockets": 2 }, { "room": "red", "sockets": 3 }], "next": null })
        )
    );
    assert_eq!(get(&server, "rooms?limit=1").1["next"], "blue");
    assert_eq!(get(&server, "rooms?limit=1&after=blue").1["rooms"][0]["room"], "red");
    ids.sort();
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&server, &format!("sockets?limit=2{after}")).1;
        for socket in page["sockets"].as_array().unwrap() {
            assert_eq!((&socket["namespace"], &socket["node"]), (&json!("/"), &Value::Null));
            assert_eq!(socket["rooms"][0], socket["id"]);
            listed.push(socket["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(listed, ids);
    let info = get(&server, "info").1;
    assert_eq!(
        (&info["shards"], &info["namespaces"], &info["draining"]),
        (&json!(2), &json!({ "/": 3 }), &json!(false))
    );
    assert_eq!(
        post(&server, "disconnect", r#"{"to":"blue","reason":"a test"}"#),
        (200, json!({ "sockets": 2 }))
    );
    assert_eq!(get(&server, "count"), (200, json!({ "sockets": 1 })));
}

#[test]
fn a_batch_is_done_in_order_and_each_has_its_own_result() {
    let server = server(|_| {});
    let client = server.client().shard(1).connect("/").unwrap();
    let batch = json!({ "requests": [
        { "emit": { "event": "one" } },
        { "join": { "everyone": true, "rooms": "red" } },
        { "emit": { "event": "two", "to": "red" } },
        { "emit": { "event": "three", "tto": "red" } },
        { "emit": { "event": "x", "namespace": "/none" } },
        { "ask": { "event": "x" } },
        { "count": { "to": "red" } },
        { "emit": {}, "count": {} },
        7,
    ] });
    let (status, body) = post(&server, "batch", &batch.to_string());
    let results = body["results"].as_array().unwrap();
    let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!((status, statuses), (200, vec![200, 200, 200, 400, 404, 400, 200, 400, 400]), "{body}");
    assert_eq!((&results[2]["receivers"], &results[6]["sockets"]), (&json!(1), &json!(1)));
    assert!(results[3]["error"]["message"].as_str().unwrap().contains("did you mean to?"));
    let names: Vec<String> = client.received().iter().map(|event| event.to_string()).collect();
    assert_eq!(names, [r#"["one"]"#, r#"["two"]"#]);
}

#[test]
fn a_key_makes_a_request_be_done_once() {
    let server = server(|_| {});
    let client = server.connect("/").unwrap();
    let keyed = |body: &str| ask(&server, Method::Post, "emit", &[("Idempotency-Key", "k1")], body);
    let first = keyed(r#"{"event":"a"}"#);
    let again = keyed(r#"{"event":"a"}"#);
    assert_eq!((first.status, again.status, &first.body), (200, 200, &again.body));
    assert_eq!(first.headers.get("idempotency-replayed"), None);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(client.received().len(), 1);
    let other = keyed(r#"{"event":"b"}"#);
    assert_eq!((other.status, other.body["error"]["code"].as_str()), (409, Some("idempotency_mismatch")));
    server.advance(std::time::Duration::from_secs(301));
    assert_eq!(keyed(r#"{"event":"b"}"#).status, 200);
    let long = "k".repeat(129);
    assert_eq!(
        ask(&server, Method::Post, "emit", &[("Idempotency-Key", &long)], r#"{"event":"a"}"#).status,
        400
    );
}

#[test]
fn a_further_endpoint_is_named_by_its_path() {
    let chat_only = TOKEN.replace('5', "6");
    let config = Config {
        shards: 2,
        api_tokens: ApiTokens::new([TOKEN.to_owned(), format!("{chat_only} /chat")]),
        api_bind: ApiBind::Public,
        ..Config::default()
    };
    let rooms = |io: &mut crate::Namespace| io.on("join", |cx: &mut Context, room: String| cx.join(room));
    let server = Server::new(config)
        .namespace("/", rooms)
        .endpoint("/admin.io/", move |admin| {
            admin.namespace("/", rooms);
            admin.namespace("/chat", |_| {});
        })
        .engine("/raw.io/", |_| {});
    let server = TestServer::new(server).unwrap();
    let at = |path: &str, shard| server.client().at_path(path).shard(shard).connect("/").unwrap();
    let (main, admin) = (at("/socket.io/", 0), at("/admin.io/", 1));
    for client in [&main, &admin] {
        client.call("join", "lobby").unwrap();
    }
    // What is asked for, and how many sockets are meant.
    let rows = [
        ("emit", r#"{"to":"lobby","event":"news"}"#, "receivers"),
        ("emit", r#"{"event":"news"}"#, "receivers"),
        ("join", r#"{"to":"lobby","rooms":"vip"}"#, "sockets"),
        ("count", r#"{"to":"vip"}"#, "sockets"),
        ("leave", r#"{"everyone":true,"rooms":"vip"}"#, "sockets"),
    ];
    for (client, other, endpoint) in
        [(&main, &admin, None), (&main, &admin, Some("/socket.io/")), (&admin, &main, Some("/admin.io/"))]
    {
        for (path, body, field) in rows {
            let mut body: Value = serde_json::from_str(body).unwrap();
            if let Some(endpoint) = endpoint {
                body["endpoint"] = endpoint.into();
            }
            let (status, answer) = post(&server, path, &body.to_string());
            assert_eq!((status, &answer[field]), (200, &json!(1)), "{path} {body}: {answer}");
        }
        assert_eq!((client.received().len(), other.received().len()), (2, 0), "{endpoint:?}");
    }
    what_is_not_there_is_said(&server);
    for (query, namespaces) in [("", json!({ "/": 1 })), ("?endpoint=%2Fadmin.io%2F", json!({ "/": 1 }))] {
        assert_eq!(get(&server, &format!("info{query}")).1["namespaces"], namespaces, "{query}");
    }
    let admins = get(&server, "sockets?endpoint=%2Fadmin.io%2F&to=lobby").1;
    assert_eq!(admins["sockets"][0]["id"], json!(admin.id()), "{admins}");
    assert_eq!(get(&server, "rooms?endpoint=%2Fadmin.io%2F").1["rooms"][0]["room"], "lobby");
    assert_eq!(get(&server, "info?endpoint=%2Fraw.io%2F").0, 404);
    // A token for some namespaces is for those of the main endpoint.
    let bearer = format!("Bearer {chat_only}");
    let body = r#"{"endpoint":"/admin.io/","namespace":"/chat"}"#;
    let refused = ask(&server, Method::Post, "count", &[("Authorization", &bearer)], body);
    assert_eq!((refused.status, &refused.body["error"]["code"]), (403, &json!("forbidden_namespace")));
    assert_eq!(refused.body["error"]["field"], "endpoint");
    assert_eq!(post(&server, "disconnect", r#"{"endpoint":"/admin.io/","everyone":true}"#).1["sockets"], 1);
    assert!(main.is_connected() && !admin.is_connected());
}

#[test]
fn bodies_and_rates_have_bounds_of_their_own() {
    let server = server(|config| (config.api_body_bytes_max, config.api_rate) = (1000, 3));
    let large = json!({ "event": "a", "args": ["x".repeat(1000)] }).to_string();
    let (status, body) = post(&server, "emit", &large);
    assert_eq!((status, &body["error"]["code"]), (413, &json!("too_large")));
    assert!(body["error"]["message"].as_str().unwrap().contains("api_body_bytes_max = 1000"));
    for _ in 0..3 {
        assert_eq!(get(&server, "count").0, 200);
    }
    let refused = ask(&server, Method::Get, "count", &[], "");
    assert_eq!((refused.status, refused.body["error"]["code"].as_str()), (429, Some("too_many_requests")));
    assert_eq!(refused.headers["retry-after"], "1");
    server.advance(std::time::Duration::from_secs(1));
    assert_eq!(get(&server, "count").0, 200);
    const { assert!(API_REQUESTS_MAX > 0) };
}

#[test]
fn without_tokens_there_is_no_api_and_one_nowhere_is_an_error() {
    let plain = Server::new(Config::default()).namespace("/", |_| {});
    assert_eq!(TestServer::new(plain).unwrap().get("/api/v1/info").status, 404);
    let config = Config { api_tokens: ApiTokens::new([TOKEN]), ..Config::default() };
    let fault = TestServer::new(Server::new(config).namespace("/", |_| {})).unwrap_err().to_string();
    assert!(fault.contains("api_bind = \"public\"") && fault.contains("set admin_bind"), "{fault}");
}

#[test]
fn on_the_operators_listener_it_asks_for_its_own_tokens_and_clients_find_none_of_it() {
    let server = server(|config| {
        config.api_bind = ApiBind::Admin;
        config.admin_bind = "127.0.0.1:0".to_owned();
        config.admin_token = crate::Secret::from("an-operators-own-token");
        config.api_rate = 3;
    });
    let clients: Vec<_> = (0..2).map(|shard| server.client().shard(shard).connect("/").unwrap()).collect();
    let bearer = format!("Bearer {TOKEN}");
    let authorized = [("Authorization", bearer.as_str())];
    let emit = br#"{"event":"news","args":[1]}"#;
    let answer = server.post_as_operator("/api/v1/emit", &authorized, emit);
    assert!(answer.status == 200 && answer.text().contains("\"receivers\":2"), "{}", answer.text());
    assert!(clients.iter().all(|client| client.received()[0].to_string() == r#"["news",1]"#));
    for path in ["/api/v1/emit", "/api/v1/info", "/api/v1/openapi.json", "/api/v1/"] {
        assert_eq!(server.request(Method::Post, path, &authorized, emit).status, 404, "{path}");
    }
    for (path, headers, status) in [
        ("/api/v1/count", &authorized[..], 200),
        ("/api/v1/count", &[("Authorization", "Bearer an-operators-own-token")], 401),
        ("/api/v1/count", &[], 401),
        ("/api/v1/openapi.json", &[], 200),
        ("/metrics", &authorized, 401),
        // Neither of these is below the prefix, however a proxy might read it.
        ("/api/v1", &authorized, 401),
        ("/api/%761/count", &authorized, 401),
        ("//api/v1/count", &authorized, 401),
        ("/api/v1/../../metrics", &authorized, 404),
        ("/api/v1/count", &[authorized[0], ("Origin", "https://evil.example")], 403),
    ] {
        assert_eq!(server.get_as_operator(path, headers).status, status, "{path} {headers:?}");
    }
    // All shards share one rate: of the next requests, which go to both, only so many are done.
    server.advance(std::time::Duration::from_secs(5));
    let done = (0..10).filter(|_| server.get_as_operator("/api/v1/count", &authorized).status == 200);
    assert_eq!(done.count(), 3);
}

#[test]
fn whatever_is_not_there_is_told_in_one_shape() {
    let server = server(|_| {});
    let bearer = format!("Bearer {TOKEN}");
    let rows = [
        (Method::Get, "/api/v1/", 404, "not_found"),
        (Method::Post, "/api/v1/", 404, "not_found"),
        (Method::Get, "/api/v1", 404, "not_found"),
        (Method::Get, "/api/v1/nowhere", 404, "not_found"),
        (Method::Delete, "/api/v1/emit/more", 404, "not_found"),
        (Method::Get, "/api/v1/emit", 405, "method_not_allowed"),
        (Method::Put, "/api/v1/emit", 405, "method_not_allowed"),
        (Method::Trace, "/api/v1/emit", 405, "method_not_allowed"),
        (Method::Other, "/api/v1/count", 405, "method_not_allowed"),
        (Method::Post, "/api/v1/rooms", 405, "method_not_allowed"),
    ];
    for (method, path, status, code) in rows {
        let answer = server.request(method, path, &[("Authorization", &bearer)], b"");
        let body: Value =
            serde_json::from_str(&answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()));
        assert_eq!((answer.status, &body["error"]["code"]), (status, &json!(code)), "{method} {path}");
        assert!(body["error"]["message"].is_string(), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
    let options = server.request(Method::Options, "/api/v1/emit", &[], b"");
    assert_eq!(options.status, 204, "{}", options.text());
}

fn names(value: &Value) -> BTreeSet<String> {
    let empty = serde_json::Map::new();
    value.as_object().unwrap_or(&empty).keys().cloned().collect()
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_description_says_what_the_code_does() {
    let spec: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths: BTreeSet<String> = ENTRIES.iter().map(|entry| format!("/{}", entry.path)).collect();
    assert_eq!(names(&spec["paths"]), paths);
    let words = &spec["components"]["schemas"]["Fault"]["properties"]["code"]["enum"];
    let words: BTreeSet<String> = serde_json::from_value(words.clone()).unwrap();
    assert_eq!(words, set(Code::ALL.iter().map(|code| code.word())));
    assert_eq!(words.len(), Code::ALL.len(), "two codes have one word");
    for entry in ENTRIES {
        let item = &spec["paths"][format!("/{}", entry.path)];
        let methods = [("post", entry.may_post), ("get", entry.may_get)];
        assert_eq!(
            names(item),
            set(methods.iter().filter(|(_, may)| *may).map(|(name, _)| *name)),
            "{}",
            entry.path
        );
        for (method, _) in methods.iter().filter(|(_, may)| *may) {
            let (operation, at) = (&item[method], format!("{method} {}", entry.path));
            let fields = if *method == "post" {
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                assert_eq!(schema["additionalProperties"], json!(false), "{at}");
                names(&schema["properties"])
            } else {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                parameters.iter().map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(fields, set(entry.fields.iter().copied()), "{at}");
            let mut codes: BTreeMap<String, BTreeSet<String>> =
                BTreeMap::from([("200".to_owned(), BTreeSet::new())]);
            for code in entry.verb.codes(*method == "post") {
                codes.entry(code.status().to_string()).or_default().insert(code.word().to_owned());
            }
            let told: BTreeMap<String, BTreeSet<String>> = operation["responses"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(status, response)| {
                    (status.clone(), serde_json::from_value(response["x-codes"].clone()).unwrap_or_default())
                })
                .collect();
            assert_eq!(told, codes, "{at}");
            let done = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            let (required, optional) = entry.answers;
            assert_eq!(names(&done["properties"]), set(required.iter().chain(optional).copied()), "{at}");
            let told: BTreeSet<String> = serde_json::from_value(done["required"].clone()).unwrap();
            assert_eq!(told, set(required.iter().copied()), "{at}");
            let has_scheme = operation["security"] == json!([{ "bearer": [] }]);
            assert_eq!(has_scheme, entry.verb != Verb::OpenApi, "{at}");
        }
    }
}

/// Endpoints that are unknown, or have no namespaces.
fn what_is_not_there_is_said(server: &TestServer) {
    let batch = json!({ "requests": [
        { "emit": { "endpoint": "/admin.io/", "event": "news" } },
        { "count": { "endpoint": "/nowhere.io/" } },
        { "count": { "endpoint": "/raw.io/" } },
    ] });
    let (_, answer) = post(server, "batch", &batch.to_string());
    let statuses: Vec<&Value> =
        answer["results"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, [200, 404, 404], "{answer}");
    for (path, body, status, code, part) in [
        (
            "count",
            json!({ "endpoint": "/nowhere.io/" }),
            404,
            "unknown_endpoint",
            "known are /socket.io/, /admin.io/",
        ),
        ("count", json!({ "endpoint": "/admin.io/", "namespace": "/x" }), 404, "unknown_namespace", "\"/x\""),
        ("count", json!({ "endpoint": "admin.io" }), 400, "bad_value", "begins with a slash"),
    ] {
        let (found, answer) = post(server, path, &body.to_string());
        assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)), "{body}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{answer}");
    }
}
