//! Several servers as one, over a message queue in memory: real sockets, real shards, the companion thread.
#![allow(clippy::disallowed_methods)] // A test with real sockets waits in real time.

mod wire;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use shardcast::{
    Args, Binary, Config, Context, EmitError, Emitted, Emitter, EngineOptions, RunningServer, Server,
    ServerContext,
};

use wire::{Client, PATIENCE, until};

fn server(queue: &str) -> RunningServer {
    server_with(queue, Config::default())
}

fn server_with(queue: &str, config: Config) -> RunningServer {
    let engine = EngineOptions { message_queue: queue.into(), ..EngineOptions::default() };
    let config = Config { engine, shards: 2, bind: vec!["127.0.0.1:0".to_owned()], ..config };
    Server::new(config)
        .namespace("/", |io| {
            io.on("join", |cx: &mut Context, room: String| {
                cx.join(&room);
                true
            });
            io.on("say", |cx: &mut Context, room: String, text: String| {
                cx.to(&room).include_self(false).emit("said", &text);
            });
            io.on_server_event("told", |cx: &ServerContext, args: Args| {
                cx.broadcast().local().emit("told", args);
                (args.len(), Binary::from(vec![9]))
            });
            io.on_server_event("fails", |_: &ServerContext, args: Args| args.read::<bool>(0));
            io.on_server_event("panics", |_: &ServerContext, args: Args| {
                assert!(args.is_empty(), "on purpose");
            });
            io.on("all", |cx: &mut Context, text: String| {
                cx.broadcast().emit("said", (&text, Binary::from(vec![1, 2, 3])));
            });
        })
        .start()
        .expect("the server starts")
}

/// Two servers that have met.
fn pair(queue: &str) -> [RunningServer; 2] {
    meet([server(queue), server(queue)])
}

fn meet(servers: [RunningServer; 2]) -> [RunningServer; 2] {
    until("the servers have met", || {
        servers.iter().all(|server| server.handle().queue_stats().iter().all(|stats| stats.processes == 1))
    });
    servers
}

#[test]
fn rooms_and_everybody_span_processes() {
    let [one, two] = pair("memory:rooms");
    let (mut a, mut b, mut c) = (Client::connect(&one), Client::connect(&two), Client::connect(&two));
    b.join("blue");
    until("one process hears of the other's room", || {
        a.send("42[\"say\",\"blue\",\"hello\"]");
        b.stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        let mut first = [0];
        b.stream.peek(&mut first).is_ok_and(|len| len == 1)
    });
    b.stream.set_read_timeout(Some(PATIENCE)).expect("set");
    assert_eq!(b.next(), "42[\"said\",\"hello\"]");
    a.send("42[\"all\",\"everybody\"]");
    for client in [&mut a, &mut c] {
        assert_eq!(client.next(), "451-[\"said\",\"everybody\",{\"_placeholder\":true,\"num\":0}]");
        assert_eq!(client.frame(), [1, 2, 3]);
    }
    one.handle().to("/", &c.sid).emit("said", "to you");
    assert_eq!(c.next(), "42[\"said\",\"to you\"]");
    drop((a, b, c));
    one.stop();
    two.stop();
}

#[test]
fn questions_are_answered_by_all_processes() {
    let [one, two] = pair("memory:questions");
    let (mut a, mut b, mut c) = (Client::connect(&one), Client::connect(&two), Client::connect(&two));
    for client in [&mut a, &mut b] {
        client.join("blue");
    }
    let handle = one.handle();
    let ids: BTreeSet<String> =
        handle.sockets("/").ids().wait().expect("all answer").iter().map(ToString::to_string).collect();
    assert_eq!(ids, BTreeSet::from([a.sid.clone(), b.sid.clone(), c.sid.clone()]));
    let rooms = handle.rooms("/").wait().expect("all answer");
    assert_eq!(rooms.get("blue"), Some(&2), "{rooms:?}");
    assert_eq!(handle.to("/", "blue").count().wait(), Ok(2_u64.into()));
    until("counts come with the heartbeats", || handle.sockets("/").count().wait() == Ok(3_u64.into()));
    let fetched = handle.to("/", &b.sid).fetch().wait().expect("it answers");
    assert_eq!(
        fetched.iter().map(|socket| socket.rooms().to_vec()).collect::<Vec<_>>(),
        [[b.sid.clone(), "blue".to_owned()]]
    );

    let asking = std::thread::spawn({
        let handle = one.handle();
        move || handle.to("/", "blue").emit_with_ack("ask", 1).wait()
    });
    for client in [&mut a, &mut b] {
        let question = client.next();
        let id = question.trim_start_matches("42").split('[').next().expect("an id").to_owned();
        client.send(&format!("43{id}[\"{}\"]", client.sid));
    }
    let answers = asking.join().expect("no panic").expect("asked");
    assert!(answers.is_complete(), "{answers:?}");
    let said: BTreeSet<String> =
        answers.received.iter().map(|(_, answer)| answer.first().expect("a text")).collect();
    assert_eq!(said, BTreeSet::from([a.sid.clone(), b.sid.clone()]));

    handle.to("/", "blue").join("green");
    until("both are in the other room", || handle.to("/", "green").count().wait() == Ok(2_u64.into()));
    handle.to("/", &c.sid).disconnect();
    assert_eq!(c.next(), "41");
    two.stop();
    until("the other is forgotten", || handle.queue_stats()[0].processes == 0);
    assert_eq!(handle.sockets("/").ids().wait().map(|ids| ids.len()), Ok(1));
    drop((a, b, c));
    one.stop();
}

#[test]
fn an_emitter_speaks_to_the_clients_of_all_processes() {
    let [one, two] = pair("memory:emitter");
    let (mut a, mut b) = (Client::connect(&one), Client::connect(&two));
    let emitter = Emitter::connect("memory:emitter").expect("the URL is right");
    let everybody = || emitter.namespace("/");
    assert_eq!(everybody().emit("said", ("all", Binary::from(vec![1]))).wait(), Ok(()));
    for client in [&mut a, &mut b] {
        assert_eq!(client.next(), "451-[\"said\",\"all\",{\"_placeholder\":true,\"num\":0}]");
        assert_eq!(client.frame(), [1]);
    }
    assert_eq!(emitter.to("/", &b.sid).to(&a.sid).emit("said", "both").wait(), Ok(()));
    assert_eq!(everybody().except(&b.sid).emit("said", "a alone").wait(), Ok(()));
    assert_eq!(emitter.to("/", &b.sid).send("b alone").wait(), Ok(()));
    assert_eq!((a.next(), a.next()), ("42[\"said\",\"both\"]".into(), "42[\"said\",\"a alone\"]".into()));
    assert_eq!((b.next(), b.next()), ("42[\"said\",\"both\"]".into(), "42[\"message\",\"b alone\"]".into()));

    assert_eq!(everybody().join("green").wait(), Ok(()));
    until("both are in the room", || one.handle().to("/", "green").count().wait() == Ok(2_u64.into()));
    assert_eq!(emitter.to("/", &a.sid).leave("green").wait(), Ok(()));
    until("one has left it", || one.handle().to("/", "green").count().wait() == Ok(1_u64.into()));

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let awaited = runtime.block_on(async { emitter.to("/", &a.sid).emit("said", "awaited").await });
    assert_eq!((awaited, a.next()), (Ok(()), "42[\"said\",\"awaited\"]".into()));
    assert_eq!(emitter.to("/", &a.sid).disconnect().wait(), Ok(()));
    assert_eq!(a.next(), "41");
    assert_eq!(emitter.to("/", &b.sid).close().wait(), Ok(()));
    assert_eq!(b.next(), "41");
    drop((a, b));
    one.stop();
    two.stop();
}

#[test]
fn an_emitter_says_why_it_does_not_send() {
    assert!(
        Emitter::new(&Config::default())
            .is_err_and(|error| error.to_string().contains("message_queue is empty"))
    );
    let fault = Emitter::connect("redsi://u:s3cret@host").expect_err("it is no URL").to_string();
    assert!(fault.contains("redsi://u:***@host") && fault.contains("did you mean redis://?"), "{fault}");
    let engine = EngineOptions { message_queue: "memory:small".into(), ..EngineOptions::default() };
    let config = Config { engine, queue_message_bytes_max: 400, ..Config::default() };
    let emitter = Emitter::new(&config).expect("all of this is right");
    let everybody = || emitter.namespace("/");
    assert!(matches!(everybody().emit("connect", ()).wait(), Err(EmitError::Refused(_))));
    let told = everybody().emit("a", "b".repeat(500)).wait();
    assert!(matches!(told, Err(EmitError::TooLarge { bytes: 500.., bytes_max: 400 })), "{told:?}");
    assert_eq!(everybody().emit("a", "b").wait(), Ok(()));
}

/// What a server answers to a request with this first line, before the connection closes.
fn ask(server: &RunningServer, line: &str, headers: &str, body: &str) -> String {
    let address = server.addresses()[0].trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let len = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_session_of_another_process_is_unknown_and_the_answer_says_why() {
    let [one, two] = pair("memory:strays");
    let opened = ask(&one, "GET /socket.io/?EIO=4&transport=polling", "", "");
    let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.get(..20)).expect("an id");
    let other = |sid: &str| format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let socket = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let own = ask(&two, "GET /socket.io/?EIO=4&transport=polling", "", "");
    let own = own.split("\"sid\":\"").nth(1).and_then(|rest| rest.get(..20)).expect("an id");
    let changed = format!("{}AAAA{}", &own[..4], &own[8..]);
    for (line, headers, body, is_elsewhere) in [
        (format!("GET {}", other(sid)), "", "", true),
        (format!("POST {}", other(sid)), "", "40", true),
        (format!("GET {socket}"), upgrade, "", true),
        (format!("GET {}", other("noid")), "", "", false),
        (format!("GET {}", other(&changed)), "", "", false),
    ] {
        let answer = ask(&two, &line, headers, body);
        assert!(answer.starts_with("HTTP/1.1 400"), "{line}: {answer}");
        assert!(answer.contains("Session ID unknown"), "{line}: {answer}");
        assert!(headers == upgrade || answer.contains("\"code\":1,"), "{line}: {answer}");
        assert_eq!(answer.contains("ip_hash"), is_elsewhere, "{line}: {answer}");
    }
    let at_home = ask(&one, &format!("POST {}", other(sid)), "", "40");
    assert!(at_home.starts_with("HTTP/1.1 200"), "the session is alive all the while: {at_home}");
    one.stop();
    two.stop();
}

#[test]
fn servers_tell_and_ask_each_other() {
    let [one, two] = pair("memory:servers");
    let (mut a, mut b) = (Client::connect(&one), Client::connect(&two));
    let handle = one.handle();
    let sent = handle.emit_to_servers("/", "told", ("first", Binary::from(vec![7])));
    assert!(matches!(sent, Emitted::Here(_)), "{sent:?}");
    handle.emit_to_servers("/", "told", "second");
    assert_eq!(b.next(), "451-[\"told\",\"first\",{\"_placeholder\":true,\"num\":0}]");
    assert_eq!(b.frame(), [7]);
    assert_eq!(b.next(), "42[\"told\",\"second\"]");

    let answers = handle.emit_to_servers_with_ack("/", "told", (1, 2, 3)).wait().expect("asked");
    assert_eq!(b.next(), "42[\"told\",1,2,3]");
    assert!(answers.is_complete(), "{answers:?}");
    let [(process, answer)] = &answers.received[..] else { panic!("{answers:?}") };
    assert_eq!((answer.first::<usize>(), answer.args().read(1)), (Ok(3), Ok(Binary::from(vec![9]))));
    for event in ["fails", "panics", "unknown"] {
        let answers = handle.emit_to_servers_with_ack("/", event, "no bool").wait().expect("asked");
        assert_eq!(
            (answers.received.len(), &answers.processes_missing[..]),
            (0, &[process.clone()][..]),
            "{event}"
        );
    }
    assert!(matches!(handle.emit_to_servers("/", "disconnect", ()), Emitted::Refused(_)));

    // The server that says it does not hear it, nor do its clients.
    a.send("42[\"all\",\"x\"]");
    assert!(a.next().starts_with("451-[\"said\""));
    two.stop();
    until("the other is forgotten", || handle.queue_stats()[0].processes == 0);
    let nobody = handle.emit_to_servers_with_ack("/", "told", ()).wait().expect("asked");
    assert!(nobody.is_complete() && nobody.received.is_empty(), "{nobody:?}");
    drop((a, b));
    one.stop();
}
