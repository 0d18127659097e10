//! The HTTP API with real sockets: on each wire, over a message queue, and by curl as its guide writes it.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

mod wire;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};
use shardcast::{ApiBind, ApiTokens, Config, Context, EngineOptions, Io, RunningServer, Server};

use wire::{Client, PATIENCE, until};

const TOKEN: &str = "5f2b8c6d9e0a41738b6c5d4e3f2a1b0c";

fn start(io: Io, queue: &str) -> RunningServer {
    let config = Config {
        io,
        shards: 2,
        bind: vec!["127.0.0.1:0".to_owned()],
        api_tokens: ApiTokens::new([TOKEN]),
        api_bind: ApiBind::Public,
        engine: EngineOptions { message_queue: queue.into(), ..EngineOptions::default() },
        ..Config::default()
    };
    let join = |cx: &mut Context, room: String| {
        cx.join(&room);
        true
    };
    Server::new(config).namespace("/", move |io| io.on("join", join)).start().expect("the server starts")
}

/// POSTs JSON, and reads the status and the answer.
fn post(server: &RunningServer, path: &str, headers: &str, body: &Value) -> (u16, Value) {
    let address = server.addresses()[0].trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let body = body.to_string();
    let len = body.len();
    write!(
        stream,
        "POST /api/v1/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer comes and ends");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

#[test]
fn what_is_posted_reaches_sockets_of_every_shard_once_on_each_wire() {
    for io in [Io::Auto, Io::Monoio, Io::Epoll] {
        let server = start(io, "");
        // More than one of each shard, as the kernel spreads them.
        let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(&server)).collect();
        clients.iter_mut().for_each(|client| client.join("r"));
        let body = json!({ "to": "r", "event": "news", "args": ["a", 1] });
        let (status, answer) = post(&server, "emit", &bearer(), &body);
        assert_eq!((status, &answer["receivers"]), (200, &json!(8)), "{io:?}: {answer}");
        for client in &mut clients {
            assert_eq!(client.next(), r#"42["news","a",1]"#, "{io:?}");
            assert!(!client.has_input(), "{io:?}: once");
        }
        assert_eq!(post(&server, "emit", "", &body).0, 401);
        assert_eq!(post(&server, "emit", &bearer().replace('5', "6"), &body).0, 401);
        assert_eq!(post(&server, "nowhere", &bearer(), &body).0, 404);
        server.stop();
    }
}

#[test]
fn who_is_asked_answers_and_who_is_silent_is_counted() {
    let server = start(Io::Auto, "");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| client.join("r"));
    let asked = std::thread::scope(|scope| {
        let body = json!({ "to": "r", "event": "how", "args": ["?"], "timeout_ms": 700 });
        let server = &server;
        let asked = scope.spawn(move || post(server, "ask", &bearer(), &body));
        for client in &mut clients[..2] {
            let question = client.next();
            let (id, event) = question["42".len()..].split_at(question.find('[').expect("an event") - 2);
            assert_eq!(event, r#"["how","?"]"#);
            client.send(&format!("43{id}[\"fine\",2]"));
        }
        asked.join().expect("no panic")
    });
    let (status, answer) = asked;
    assert_eq!((status, &answer["missing"]), (200, &json!(1)), "{answer}");
    let mut answers: Vec<Value> = answer["answers"].as_array().expect("a list").clone();
    let mut expected: Vec<Value> = clients[..2].iter().map(|one| json!([one.sid, ["fine", 2]])).collect();
    answers.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(answers, expected);
}

#[test]
fn what_is_posted_to_one_process_reaches_another_and_the_answer_says_so() {
    let [one, two] = [(); 2].map(|()| start(Io::Auto, "memory:api"));
    until("the servers have met", || {
        [&one, &two].iter().all(|server| server.handle().queue_stats()[0].processes == 1)
    });
    let (mut here, mut there) = (Client::connect(&one), Client::connect(&two));
    here.join("r");
    there.join("r");
    // That the room has members there is known a moment after the join.
    until("the room spans both", || post(&one, "count", &bearer(), &json!({ "to": "r" })).1["sockets"] == 2);
    let (status, answer) = post(&one, "emit", &bearer(), &json!({ "to": "r", "event": "news" }));
    assert_eq!((status, &answer["receivers"]), (200, &json!(1)), "those of this process: {answer}");
    assert!(answer["bus"] == "sent" || answer["bus"] == "queued", "{answer}");
    assert_eq!((here.next(), there.next()), (r#"42["news"]"#.to_owned(), r#"42["news"]"#.to_owned()));
    let local = json!({ "to": "r", "event": "news", "local": true });
    let (_, answer) = post(&one, "emit", &bearer(), &local);
    assert_eq!(answer.get("bus"), None, "{answer}");
    assert_eq!(here.next(), r#"42["news"]"#);
    assert!(!there.has_input(), "local is local");
}

/// Whether two values have the same fields, lists of them included; what the fields say is not compared.
fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|there| is_alike(value, there)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.iter().zip(other).all(|(one, other)| is_alike(one, other))
        }
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

#[test]
fn the_commands_of_the_guide_give_what_it_says() {
    let server = start(Io::Auto, "");
    let mut client = Client::connect(&server);
    client.join("topic:rust");
    let page = include_str!("../docs/api.md");
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let mut command = String::new();
    let mut count = 0;
    for line in block.lines() {
        let Some(expected) = line.strip_prefix("# ") else {
            command.push_str(line);
            command.push('\n');
            continue;
        };
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &command])
            .env("URL", &server.addresses()[0])
            .env("API_TOKEN", TOKEN)
            .env("no_proxy", "*");
        let output = shell.output().expect("sh runs");
        let (said, expected) =
            (serde_json::from_slice::<Value>(&output.stdout), serde_json::from_str(expected));
        let said = said.unwrap_or_else(|error| panic!("{error}; is curl there? {command}: {output:?}"));
        assert!(is_alike(&said, &expected.expect("the page shows JSON")), "{command} said {said}");
        command.clear();
        count += 1;
    }
    assert_eq!(count, 4, "each command has its answer");
    assert_eq!(client.next(), r#"42["headline","It works",{"n":1}]"#);
    assert_eq!(client.next(), r#"42["welcome"]"#);
}
