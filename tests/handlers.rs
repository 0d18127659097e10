//! Handlers as users register them: classes, patterns, what is asked before, failures, mistakes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::testing::{TestClient, TestServer};
use shardcast::{
    Args, ClassNamespace, CloseReason, Config, Context, HandlerError, Methods, Namespace, Refused, Server,
    Socket,
};

const A_MOMENT: Duration = Duration::from_millis(200);

fn on_shards(shards: usize) -> Server {
    Server::new(Config { shards, ..Config::default() })
}

fn run(server: Server) -> TestServer {
    TestServer::new(server).expect("the server is sound")
}

/// What came, each event as `["name",..]`.
fn texts(client: &TestClient) -> Vec<String> {
    client.received().iter().map(ToString::to_string).collect()
}

fn answer(client: &TestClient, event: &str, args: impl shardcast::ToArgs) -> Option<String> {
    client.call(event, args).map(|answer| answer.args().raw().to_owned())
}

// ---------------------------------------------------------------- classes

#[derive(Default)]
struct Chat {
    log: RefCell<Vec<String>>,
    shard: usize,
}

impl ClassNamespace for Chat {
    fn register(io: &mut Methods<'_, Self>) {
        io.use_connect_async(Self::look_up);
        io.on_connect(Self::on_connect);
        io.before(Self::before_event);
        io.on("message", Self::on_message);
        io.on("nothing", Self::on_nothing);
        io.on_async("load", Self::on_load);
        io.on_raw("raw", Self::on_raw);
        io.on_any(Self::on_any);
        io.on_error(Self::on_error);
        io.on_disconnect(Self::on_disconnect);
        let chat = io.instance();
        Namespace::on(io, "shard", move |_: &mut Context| chat.shard);
    }
}

impl Chat {
    async fn look_up(self: Rc<Self>, socket: Socket, _: Value) -> bool {
        shardcast::sleep(Duration::from_millis(1)).await;
        socket.set(String::from("known"));
        true
    }

    fn on_connect(&self, cx: &mut Context, auth: Value) -> Result<(), Refused> {
        self.log.borrow_mut().push(format!("connect {auth} {:?}", cx.get::<String>()));
        if auth["name"].is_null() { Err(Refused::new("who are you?").data(&7)) } else { Ok(()) }
    }

    fn before_event(&self, cx: &mut Context, _: Args<'_>) -> Result<(), &'static str> {
        if cx.event() == "forbidden" { Err("no") } else { Ok(()) }
    }

    fn on_message(&self, _: &mut Context, text: String, times: Option<usize>) -> usize {
        self.log.borrow_mut().push(text.repeat(times.unwrap_or(1)));
        self.log.borrow().len()
    }

    fn on_nothing(&self, _: &mut Context) {}

    async fn on_load(self: Rc<Self>, socket: Socket, id: u64) -> Result<Vec<String>, std::io::Error> {
        shardcast::sleep(Duration::from_millis(1)).await;
        if id == 0 {
            return Err(std::io::Error::other("no such document"));
        }
        socket.emit("loading", id);
        Ok(self.log.borrow().clone())
    }

    fn on_raw(&self, _: &mut Context, args: Args<'_>) -> usize {
        args.len()
    }

    fn on_any(&self, cx: &mut Context, args: Args<'_>) -> String {
        format!("{} {}", cx.event(), args.raw())
    }

    fn on_error(&self, cx: &mut Context, error: &HandlerError) {
        cx.emit("failed", (cx.event(), error.to_string(), cx.args().raw()));
    }

    fn on_disconnect(&self, _: &mut Context, reason: CloseReason) {
        self.log.borrow_mut().push(reason.to_string());
    }
}

#[test]
fn methods_are_handlers_and_each_shard_has_one_object() {
    let make = |shard: shardcast::ShardInfo| Chat { shard: shard.id, ..Chat::default() };
    let server = run(on_shards(2).namespace_class("/chat", make));
    let connect = |shard, name: Value| {
        let client = server.client().shard(shard).auth(&json!({ "name": name })).connect("/chat");
        server.advance(A_MOMENT);
        client.expect("who is refused is refused later")
    };
    assert!(!connect(0, Value::Null).is_connected());
    let (ann, bob, zoe) = (connect(0, json!("Ann")), connect(0, json!("Bob")), connect(1, json!("Zoe")));
    assert!(ann.is_connected() && bob.is_connected() && zoe.is_connected());
    assert_eq!(
        answer(&ann, "message", "hi").as_deref(),
        Some("4"),
        "both connects and the refusal came before"
    );
    assert_eq!(answer(&bob, "message", ("ho", 2)).as_deref(), Some("5"));
    assert_eq!(answer(&zoe, "message", "hu").as_deref(), Some("2"), "another shard, another object");
    assert_eq!(answer(&zoe, "shard", ()).as_deref(), Some("1"));
    assert_eq!(answer(&ann, "nothing", ()).as_deref(), Some(""));
    assert_eq!(answer(&ann, "raw", (1, "two")).as_deref(), Some("2"));
    assert_eq!(answer(&ann, "other", (1, "two")).as_deref(), Some(r#""other 1,\"two\"""#));
    ann.disconnect();

    let id = bob.emit_with_ack("load", 7);
    server.advance(A_MOMENT);
    let log: Vec<String> = bob.answer(id).expect("it is loaded").first().expect("a list");
    let expected = [
        r#"connect {"name":null} Some("known")"#,
        r#"connect {"name":"Ann"} Some("known")"#,
        r#"connect {"name":"Bob"} Some("known")"#,
        "hi",
        "hoho",
        "client namespace disconnect",
    ];
    assert_eq!(log, expected);

    bob.received();
    for (event, args) in [("load", json!(0)), ("message", json!({"no": "text"})), ("forbidden", json!(1))] {
        assert_eq!(answer(&bob, event, args), None, "{event} has no acknowledgement");
        server.advance(A_MOMENT);
    }
    let expected = [
        r#"["failed","load","no such document","0"]"#,
        r#"["failed","message","argument 0 is of another type: invalid type: map, expected a string at line 1 column 0","{\"no\":\"text\"}"]"#,
        r#"["failed","forbidden","no","1"]"#,
    ];
    assert_eq!(texts(&bob), expected);
}

// ---------------------------------------------------------------- patterns

/// Games, counted by the setups of their handlers; everything else is told where it is.
fn games(config: Config, setups: Arc<AtomicUsize>) -> TestServer {
    run(Server::new(config)
        .namespace("/game/{id}", move |io| {
            setups.fetch_add(1, Ordering::Relaxed);
            let moves = Rc::new(Cell::new(0));
            io.on_connect(|cx: &mut Context| cx.param("id") != Some("closed"));
            io.on("id", |cx: &mut Context| (cx.param("id").map(str::to_owned), cx.namespace().to_owned()));
            io.on("move", move |cx: &mut Context, to: String| {
                moves.set(moves.get() + 1);
                cx.broadcast().include_self(false).emit("moved", to);
                moves.get()
            });
            io.on("join", |cx: &mut Context, room: String| cx.join(room));
            io.on("room", |cx: &mut Context, room: String, text: String| {
                cx.to(room).emit("told", text);
            });
            io.on("late", |cx: &mut Context, millis: u64| {
                let socket = cx.socket();
                shardcast::spawn(async move {
                    shardcast::sleep(Duration::from_millis(millis)).await;
                    socket.broadcast().emit("late", (socket.namespace(), socket.param("id")));
                    socket.to("room").join("other");
                });
            });
        })
        .namespace("/game/lobby", |io| {
            io.on("id", |cx: &mut Context| (cx.param("id").map(str::to_owned), "the lobby"));
        })
        .namespace("/{*rest}", |io| io.on("id", |cx: &mut Context| cx.param("rest").map(str::to_owned)))
        .route("/tell/{id}", |request| {
            let name = format!("/game/{}", request.param("id").unwrap_or_default());
            let is_there = request.broadcast(&name).map(|all| all.emit("told", "by the route"));
            shardcast::http::Response::text(is_there.is_some().to_string())
        }))
}

#[test]
fn a_pattern_makes_namespaces_that_share_handlers_and_nothing_else() {
    let setups = Arc::new(AtomicUsize::new(0));
    let server = games(Config { shards: 3, ..Config::default() }, Arc::clone(&setups));
    let connect = |shard, name: &str| server.client().shard(shard).connect(name).expect("everybody may");
    let (a, b, c) = (connect(0, "/game/7"), connect(1, "/game/7"), connect(0, "/game/8"));
    assert_eq!(answer(&a, "id", ()).as_deref(), Some(r#""7","/game/7""#));
    assert_eq!(answer(&connect(2, "/game/lobby"), "id", ()).as_deref(), Some(r#"null,"the lobby""#));
    assert_eq!(answer(&connect(2, "/a/b c"), "id", ()).as_deref(), Some(r#""a/b c""#));
    assert_eq!(answer(&a, "move", "e4").as_deref(), Some("1"));
    assert_eq!(answer(&c, "move", "d4").as_deref(), Some("2"), "the closure's state is the shard's");
    assert_eq!(texts(&b), [r#"["moved","e4"]"#], "on another shard, and of this game only");
    assert!(texts(&c).is_empty());
    server.handle().namespace("/game/8").emit("news", 8);
    server.advance(A_MOMENT);
    assert_eq!((texts(&a).len(), texts(&c)), (0, vec![r#"["news",8]"#.to_owned()]));
    assert_eq!(setups.load(Ordering::Relaxed), 3, "once on each shard");

    // A route on a shard without a member of that game reaches the others.
    for _ in 0..3 {
        assert_eq!(server.get("/tell/7").text(), "true");
    }
    assert_eq!(texts(&b), vec![r#"["told","by the route"]"#; 3]);
    let refused = server.connect("/game/closed").expect_err("that one is closed");
    assert_eq!(refused.message, "Connection rejected by server");
    assert_eq!(
        server.connect("/game/\u{1}").expect_err("no control characters").message,
        "Invalid namespace"
    );
    assert_eq!(server.connect("/").expect_err("/ has no rest").message, "Invalid namespace");
}

#[test]
fn a_tick_of_a_pattern_runs_for_each_of_its_namespaces() {
    let server = run(on_shards(1)
        .namespace("/", |io| io.every(A_MOMENT, |tick| drop(tick.broadcast().emit("tick", tick.namespace()))))
        .namespace("/game/{id}", |io| {
            io.on("join", |cx: &mut Context, room: String| cx.join(room));
            io.every(A_MOMENT, |tick| drop(tick.broadcast().emit("tick", (tick.namespace(), tick.rooms()))));
        }));
    let [root, first, second] =
        ["/", "/game/1", "/game/2"].map(|name| server.connect(name).expect("everybody may"));
    answer(&first, "join", "red");
    server.advance(A_MOMENT);
    assert_eq!(texts(&root), [r#"["tick","/"]"#]);
    assert_eq!(texts(&first), [r#"["tick","/game/1",["red"]]"#]);
    assert_eq!(texts(&second), [r#"["tick","/game/2",[]]"#]);
    first.disconnect();
    server.advance(A_MOMENT);
    assert_eq!((texts(&first).len(), texts(&second).len()), (0, 1));
}

#[test]
fn a_handle_of_a_namespace_that_is_gone_does_not_mean_its_successor() {
    let server = games(Config { shards: 2, namespaces_max: 1, ..Config::default() }, Arc::default());
    let old = server.client().shard(0).connect("/game/1").expect("everybody may");
    let far = server.client().shard(1).connect("/game/1").expect("everybody may");
    answer(&far, "join", "room");
    old.emit("late", 1000);
    old.disconnect();
    let new = server.client().shard(0).connect("/game/2").expect("the place is free again");
    answer(&new, "join", "room");
    server.advance(Duration::from_secs(2));
    assert_eq!(texts(&far), [r#"["late","/game/1","1"]"#], "the same namespace on another shard");
    answer(&far, "room", ("other", "yes"));
    assert_eq!(texts(&far), [r#"["told","yes"]"#], "the change reached it, too");
    answer(&new, "room", ("other", "no"));
    assert!(texts(&new).is_empty(), "whoever took the number has nothing to do with it");
}

#[test]
fn namespaces_of_patterns_are_bounded_and_refused_with_a_message() {
    let server = games(Config { shards: 1, namespaces_max: 2, ..Config::default() }, Arc::default());
    let first = server.connect("/game/1").expect("there is room");
    let _second = server.connect("/game/2").expect("there is room");
    assert_eq!(server.connect("/game/3").expect_err("it is full").message, "Too many namespaces");
    assert!(server.connect("/game/1").is_ok(), "one that is there is open to all");
    assert!(server.connect("/game/lobby").is_ok(), "what is registered does not count");
    first.cut();
    server.advance(A_MOMENT);
    assert!(server.connect("/game/closed").is_err());

    let server = games(Config { shards: 1, ..Config::default() }, Arc::default());
    let client = server.connect("/game/0").expect("everybody may");
    let empty = json!({});
    let joined: Vec<_> =
        (1..100).map_while(|id| client.join_namespace(&format!("/game/{id}"), &empty).ok()).collect();
    assert_eq!(joined.len(), 63, "a session may be in 64 of them");
    assert!(client.join_namespace("/game/lobby", &empty).is_ok());
    joined[0].disconnect();
    assert!(client.join_namespace("/game/again", &empty).is_err(), "the lobby counts as one that it is in");
}

// ---------------------------------------------------------------- what is asked before

#[derive(Clone, Default)]
struct Asked(Vec<&'static str>);

fn ask(io: &mut Namespace, name: &'static str, millis: u64) {
    let decide = move |socket: &Socket, auth: &Value| {
        socket.update(|asked: &mut Asked| asked.0.push(name));
        socket.emit("asked", name);
        match auth[name].as_str() {
            Some("panic") => panic!("{name} panics"),
            Some(why) => Err(Refused::new(why).data(&json!({ "by": name }))),
            None => Ok(()),
        }
    };
    if millis == 0 {
        io.use_connect(move |cx: &mut Context, auth: Value| decide(cx, &auth));
    } else {
        io.use_connect_async(move |socket: Socket, auth: Value| async move {
            shardcast::sleep(Duration::from_millis(millis)).await;
            decide(&socket, &auth)
        });
    }
}

fn guarded() -> TestServer {
    run(on_shards(1).namespace("/", |io| {
        io.on_connect(|cx: &mut Context| {
            cx.emit("connected", cx.get::<Asked>().map(|asked| asked.0));
        });
        ask(io, "first", 0);
        ask(io, "second", 30);
        ask(io, "third", 0);
        ask(io, "fourth", 30);
        io.on("who", |cx: &mut Context| cx.get::<Asked>().map(|asked| asked.0.len()));
    }))
}

#[test]
fn connect_handlers_are_asked_in_order_and_the_first_refusal_ends_it() {
    let server = guarded();
    let client = server.client().auth(&json!({})).connect("/").expect("it is decided later");
    let id = client.emit_with_ack("who", ());
    server.advance(Duration::from_millis(20));
    assert!(!client.is_connected() && client.received().is_empty(), "nothing leaves before the decision");
    server.advance(Duration::from_secs(1));
    assert!(client.is_connected());
    let expected = [
        r#"["asked","first"]"#,
        r#"["asked","second"]"#,
        r#"["asked","third"]"#,
        r#"["asked","fourth"]"#,
        r#"["connected",["first","second","third","fourth"]]"#,
    ];
    assert_eq!(texts(&client), expected);
    assert_eq!(client.answer(id).and_then(|answer| answer.first().ok()), Some(4), "the event waited");

    let refused = server.client().auth(&json!({ "first": "go", "second": "no" })).connect("/");
    let refused = refused.expect_err("the first refuses at once");
    assert_eq!((refused.message.as_str(), refused.data), ("go", json!({ "by": "first" })));
    let panicked =
        server.client().auth(&json!({ "first": "panic" })).connect("/").expect_err("a panic refuses");
    assert_eq!(panicked.message, "Connection refused by server");
    for name in ["second", "third", "fourth"] {
        for why in ["no", "panic"] {
            let client =
                server.client().auth(&json!({ name: why })).connect("/").expect("it is decided later");
            server.advance(Duration::from_secs(1));
            assert!(!client.is_connected(), "{name} {why}");
            assert!(texts(&client).is_empty(), "{name} {why}: what was sent before goes nowhere");
        }
    }
    assert_eq!(answer(&client, "who", ()).as_deref(), Some("4"), "nobody else is touched");
}

#[test]
fn a_client_that_goes_while_it_is_asked_about_is_not_asked_about_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = run(on_shards(1).namespace("/", move |io| {
        let count = Arc::clone(&count);
        io.use_connect_async(|_: Socket, _: Option<Value>| shardcast::sleep(Duration::from_millis(100)));
        io.use_connect(move |_: &mut Context| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }));
    server.connect("/").expect("it is decided later").cut();
    server.advance(Duration::from_secs(1));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(server.handle().stats().iter().map(|shard| shard.sessions).sum::<u64>(), 0);
}

#[test]
fn each_event_is_seen_before_its_handler_in_order_and_may_be_refused() {
    let server = run(on_shards(1)
        .namespace("/", |io| {
            for place in ["first", "second"] {
                io.before(move |cx: &mut Context, args: Args<'_>| {
                    cx.emit("before", (place, cx.event(), args.raw()));
                    match args.read::<String>(0) {
                        Ok(text) if text == place => Err("refused"),
                        Ok(text) if text == "panic" => panic!("a function before an event panics"),
                        _ => Ok(()),
                    }
                });
            }
            io.on("known", |cx: &mut Context| {
                cx.emit("handled", ());
            });
        })
        .namespace("/quiet", |io| io.on_echo("known", |_, _| {}))
        .on_error_default(|cx, error| {
            let data = matches!(error, HandlerError::Failed(why) if why.to_string() == "refused");
            cx.emit("failed", (cx.namespace(), cx.event(), data, cx.args().raw()));
        }));
    let client = server.connect("/").expect("everybody may");
    let quiet = server.connect("/quiet").expect("everybody may");
    let rows: [(&str, &str, bool, &[&str]); 4] = [
        (
            "known",
            "x",
            true,
            &[
                r#"["before","first","known","\"x\""]"#,
                r#"["before","second","known","\"x\""]"#,
                r#"["handled"]"#,
            ],
        ),
        (
            "unknown",
            "x",
            false,
            &[r#"["before","first","unknown","\"x\""]"#, r#"["before","second","unknown","\"x\""]"#],
        ),
        (
            "known",
            "first",
            false,
            &[r#"["before","first","known","\"first\""]"#, r#"["failed","/","known",true,"\"first\""]"#],
        ),
        (
            "known",
            "second",
            false,
            &[
                r#"["before","first","known","\"second\""]"#,
                r#"["before","second","known","\"second\""]"#,
                r#"["failed","/","known",true,"\"second\""]"#,
            ],
        ),
    ];
    for (event, text, is_answered, expected) in rows {
        assert_eq!(answer(&client, event, text).is_some(), is_answered, "{event} {text}");
        assert_eq!(texts(&client), expected, "{event} {text}");
    }
    client.emit("known", "panic");
    assert!(!client.is_connected(), "a panic costs its socket");
    assert_eq!(answer(&quiet, "known", 1).as_deref(), Some("1"), "and nothing else");
}

// ---------------------------------------------------------------- failures and mistakes

#[test]
fn on_error_knows_the_event_also_when_it_fails_later_and_may_panic_itself() {
    let server = run(on_shards(1).namespace("/", |io| {
        io.on_async("later", |_: Socket, picture: shardcast::Binary| async move {
            shardcast::sleep(Duration::from_millis(1)).await;
            Err::<(), String>(format!("{} bytes", picture.0.len()))
        });
        io.on("now", |_: &mut Context, _: u8| {});
        io.on_error(|cx: &mut Context, error: &HandlerError| {
            if cx.args().raw() == "null" {
                panic!("an error handler panics");
            }
            let picture = cx.args().read::<shardcast::Binary>(0).map(|bytes| bytes.0.len()).ok();
            cx.emit("failed", (cx.event(), error.to_string(), picture));
        });
    }));
    let client = server.connect("/").expect("everybody may");
    client.emit("later", shardcast::Binary::from(vec![1, 2, 3]));
    server.advance(A_MOMENT);
    assert_eq!(texts(&client), [r#"["failed","later","3 bytes",3]"#]);
    client.emit("now", None::<u8>);
    assert!(!client.is_connected());
    assert!(server.connect("/").is_ok());
}

#[test]
fn mistakes_are_errors_at_start_that_name_them() {
    type Setup = fn(Server) -> Server;
    let rows: [(&str, Setup); 15] = [
        ("\"go\" has two handlers", |server| {
            server.namespace("/", |io| {
                io.on("go", |_: &mut Context| {});
                io.on_async("go", |_: Socket| async {});
            })
        }),
        ("\"connect\" has two handlers", |server| {
            server.namespace("/", |io| {
                io.on_connect(|_: &mut Context| {});
                io.on_connect_async(|_: Socket, _: Value| async {});
            })
        }),
        ("\"disconnect\" has two handlers", |server| {
            server.namespace("/", |io| {
                io.on_disconnect(|_, _| {});
                io.on_disconnect(|_, _| {});
            })
        }),
        ("\"error\" has two handlers", |server| {
            server.namespace("/", |io| {
                io.on_error(|_, _| {});
                io.on_error(|_, _| {});
            })
        }),
        ("\"(any)\" has two handlers", |server| {
            server.namespace("/", |io| {
                io.on_any(|_, _| {});
                io.on_any(|_, _| {});
            })
        }),
        ("\"message\" has two handlers", |server| server.namespace_class("/", |_| Twice)),
        ("\"disconnect\" is no event", |server| {
            server.namespace("/", |io| io.on("disconnect", |_: &mut Context| {}))
        }),
        ("\"/\" is registered twice", |server| {
            server.namespace("/", |_| {}).namespace_class("/", |_| Chat::default())
        }),
        ("\"/a/{b}\" is registered twice", |server| {
            server.namespace("/a/{b}", |_| {}).namespace("/a/{b}", |_| {})
        }),
        ("\"/a/{c}\"", |server| server.namespace("/a/{b}", |_| {}).namespace("/a/{c}", |_| {})),
        ("\"/{*b}\"", |server| server.namespace("/{*a}", |_| {}).namespace("/{*b}", |_| {})),
        ("\"/a/{b\"", |server| server.namespace("/a/{b", |_| {})),
        ("is /{*name}", |server| server.namespace("*", |_| {})),
        ("has no comma", |server| server.namespace("/a,b", |_| {})),
        ("starts with /", |server| server.namespace("game", |_| {})),
    ];
    for (expected, setup) in rows {
        let error = TestServer::new(setup(on_shards(1))).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Registers one event for a method and for a closure.
struct Twice;

impl ClassNamespace for Twice {
    fn register(io: &mut Methods<'_, Self>) {
        io.on("message", Self::on_message);
        Namespace::on(io, "message", |_: &mut Context| {});
    }
}

impl Twice {
    fn on_message(&self, _: &mut Context) {}
}
