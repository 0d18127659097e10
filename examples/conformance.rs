//! The server that the client tests talk to: every feature once, behind names that the tests know.
//!
//! `cargo run --example conformance -- --bind 127.0.0.1:5000 --shards 2`. The contract is in
//! tests/clients/README.md; all other settings come from arguments, too, or
//! from `SHARDCAST_` variables.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use shardcast::http::{
    BodyError, CorsOrigins, Event, Failure, Method, OwnedRequest, Request, Response, Status, Streamed,
};
use shardcast::{Ack, NoAck};
use shardcast::{
    AckError, AnyValue, Args, ArgsError, Binary, ClassNamespace, Config, Context, Emitted, Given,
    HandlerError, Message, Methods, Namespace, OwnedArgs, Parser, RawJson, Recipients, Refused, Server,
    ServerContext, SlowConsumers, Socket, Tick,
};

fn main() -> shardcast::Result<()> {
    endpoints(Server::new(Config::from_args()?))
        .namespace("/", register)
        .namespace("/custom", register)
        .namespace("/refuse", |io| {
            io.on_connect(|_: &mut Context| {
                Err::<(), _>(Refused::new("unauthorized").data(&serde_json::json!({ "retry": false })))
            });
        })
        .namespace("/game/{id}", game)
        .namespace("/slow", slow)
        .namespace("/login", login)
        .namespace("/beats", beats)
        .every(BEAT, |beat| {
            beat.handle().namespace("/beats").emit("of-the-server", beat.number());
        })
        .every_shard(BEAT, |beat| {
            beat.handle().namespace("/beats").emit("of-a-shard", (beat.shard(), beat.number()));
        })
        .namespace_class("/class", |_| Counter::default())
        .route("/", |_| Response::html("<!doctype html><html><title>conformance</title></html>"))
        .route("/long", |_| Response::text("a line of text\n".repeat(1000)))
        .route("/address", |request| {
            Response::text(request.address().map(|address| address.to_string()).unwrap_or_default())
        })
        .route("/hello", |_| Response::text("hello"))
        .route_method(Method::Post, "/echo", |request| Response::text("").body(request.body().to_vec()))
        .static_folder("/static", "tests/clients/public")
        .static_folder("/admin", "tests/clients/js/node_modules/@socket.io/admin-ui/ui/dist")
        .before_routes("/guarded", |request: &Request<'_>| match request.cookie("user") {
            Some(user) => {
                request.set(user.to_owned());
                Ok(())
            }
            None => Err(Failure::new(Status::UNAUTHORIZED, "log in")),
        })
        .before_routes_async("/guarded", |request: OwnedRequest| async move {
            shardcast::sleep(Duration::from_millis(5)).await;
            let user = request.get::<String>().unwrap_or_default();
            if user == "mallory" { Err("not you") } else { Ok(()) }
        })
        .after_routes("/guarded", |_, response| response.header("X-Guarded", "yes"))
        .route("/guarded/name", |request| request.get::<String>())
        .route_async("/later", later)
        .route("/lines", lines)
        .route("/ticks", ticks)
        .route_upload(Method::Post, "/upload", 16 * 1024 * 1024, upload)
        .websocket("/tokens", |route| {
            route.choose_protocol(|request| match request.protocols().nth(1) {
                Some("secret") => Ok(Some("chat")),
                _ => Err("a token is needed"),
            });
            route.on_message(|ws, _| ws.send(Message::Text(&ws.protocol().unwrap_or_default())));
        })
        .websocket("/ws", |route| route.on_message(|ws, message| ws.send(message)))
        .websocket("/own-ws", |route| {
            let pings = (Duration::from_millis(300), Duration::from_millis(200));
            route.options().message_bytes_max(100).ping(pings.0, pings.1).subprotocols(["v2", "v1"]);
            route.on_message(|ws, message| ws.send(message));
        })
        .run()
}

/// `GET /later?ms=N`: `later`, after so many milliseconds.
async fn later(request: OwnedRequest) -> Result<&'static str, Failure> {
    let millis = request.query("ms").ok_or("how many milliseconds?")?.parse()?;
    shardcast::sleep(Duration::from_millis(millis)).await;
    Ok("later")
}

/// `GET /lines?count=N`: so many lines of 1,000 bytes, made as they are taken.
fn lines(request: &Request<'_>) -> Result<Streamed, Failure> {
    let count: u64 = request.query("count").unwrap_or_default().parse()?;
    Ok(Streamed::new("text/plain", move |mut body| async move {
        for number in 0..count {
            body.send(format!("{number:0>999}\n")).await?;
        }
        Ok(())
    }))
}

/// `GET /ticks`: three events, numbered on from `Last-Event-ID`; then the stream ends, and an EventSource comes back.
fn ticks(request: &Request<'_>) -> Streamed {
    let last: u64 = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
    Streamed::events(move |mut events| async move {
        for number in last + 1..=last + 3 {
            let event = Event::new(format!("tick\n{number}")).id(number).name("tick");
            events.send(&event.retry(Duration::from_millis(10))).await?;
        }
        Ok(())
    })
}

/// `POST /upload`: how many bytes came, piece by piece.
async fn upload(mut request: OwnedRequest) -> Result<String, BodyError> {
    let mut bytes = 0;
    while let Some(piece) = request.chunk().await? {
        bytes += piece.len();
    }
    Ok(bytes.to_string())
}

/// Endpoints beside the configuration's own.
fn endpoints(server: Server) -> Server {
    server
        .endpoint("/admin.io/", |endpoint| {
            endpoint.options.ping_interval = Duration::from_millis(400);
            endpoint.options.max_http_buffer_size = 1000;
            endpoint.options.cors_allowed_origins =
                CorsOrigins::custom(|origin| origin.ends_with(".example"));
            endpoint.options.cors_max_age = Duration::from_secs(600);
            endpoint.options.cookie = "admin; SameSite=Strict; Max-Age=60".to_owned();
            endpoint.namespace("/", register);
            endpoint.namespace("/only-here", register);
        })
        .endpoint("/websocket-only.io/", |endpoint| {
            endpoint.options.polling = false;
            endpoint.namespace("/", register);
        })
        .endpoint("/packed.io/", |endpoint| {
            endpoint.settings.parser = Parser::Auto;
            endpoint.settings.permessage_deflate = true;
            endpoint.namespace("/", register);
        })
        .endpoint("/recovering.io/", |endpoint| {
            endpoint.settings.recovery_max_disconnection = Duration::from_secs(20);
            endpoint.settings.http_compression = false;
            endpoint.namespace("/", register);
        })
        .endpoint("/few.io/", |endpoint| {
            endpoint.settings.sessions_max = 1;
            endpoint.namespace("/", register);
        })
        .endpoint("/listed.io/", |endpoint| {
            endpoint.options.cors_allowed_origins =
                CorsOrigins::parse("https://app.example").expect("it is an origin");
            endpoint.namespace("/", register);
        })
        .endpoint("/guarded.io/", |endpoint| {
            endpoint.namespace("/", register);
            endpoint.allow_request(|request| match request.query("token").as_deref() {
                Some("secret") => Ok(()),
                Some("panic") => panic!("a rule of the conformance server panics"),
                Some(_) => Err("that \"token\" is wrong"),
                None => Err(""),
            });
        })
        // What the official suite of Engine.IO asks of a server: an echo, and no word before.
        .engine("/echo/engine.io/", |route| route.on_message(|socket, message| socket.send(message)))
        .engine("/own-engine.io/", |route| {
            let pings = (Duration::from_millis(300), Duration::from_millis(200));
            route.options().message_bytes_max(100).ping(pings.0, pings.1).subprotocols(["v2", "v1"]);
            route.on_message(|socket, message| socket.send(message));
        })
        .engine("/engine.io/", |route| {
            route.on_open(|socket| socket.send(Message::Text("welcome")));
            route.on_message(|socket, message| match message {
                Message::Text("close") => socket.close(),
                Message::Text("transport") => {
                    socket.send(Message::Text(socket.transport().unwrap_or("none")));
                }
                message => socket.send(message),
            });
        })
}

/// How often what is done at times is done.
const BEAT: Duration = Duration::from_millis(100);

/// A tick of each shard; what the server says comes here, too.
fn beats(io: &mut Namespace) {
    io.every(BEAT, |tick: &Tick| {
        tick.broadcast().this_shard().emit("of-my-shard", tick.number());
    });
}

/// Auth that is lent to its handler.
#[derive(serde::Deserialize)]
struct Login<'a> {
    token: &'a str,
}

/// Why a client is not let in: an error of our own.
#[derive(Debug)]
enum NotIn {
    Nobody,
    Wrong(usize),
}

impl std::error::Error for NotIn {}

impl fmt::Display for NotIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotIn::Nobody => formatter.write_str("who are you?"),
            NotIn::Wrong(chars) => write!(formatter, "a token of {chars} characters is wrong"),
        }
    }
}

fn login(io: &mut Namespace) {
    io.on_connect(|cx: &mut Context, login: Option<Login>| {
        let login = login.ok_or(NotIn::Nobody)?;
        match login.token.strip_prefix("secret\n") {
            Some(name) => cx.emit("hello", name),
            None => return Err(NotIn::Wrong(login.token.chars().count())),
        };
        Ok(())
    });
}

/// Every way to treat clients that do not read, by the name of a room.
fn slow(io: &mut Namespace) {
    io.slow_consumers_in("latest", SlowConsumers::Latest);
    io.slow_consumers_in("oldest", SlowConsumers::DropOldest { bytes_max: 1_000_000 });
    io.slow_consumers_in("newest", SlowConsumers::DropNewest { bytes_max: 1_000_000 });
    io.on("join", |cx: &mut Context, room: String| cx.join(room));
    io.on("send", |cx: &mut Context, way: String, number: u64, bytes: usize| {
        let all = match way.as_str() {
            "volatile" => cx.to(&way).volatile(),
            "keyed" => cx.to(&way).latest("key"),
            _ => cx.to(&way),
        };
        match all.emit("n", (number, "x".repeat(bytes))) {
            Emitted::Here(outcome) => vec![outcome.sent, outcome.queued, outcome.dropped],
            _ => vec![],
        }
    });
    io.on("owed", |cx: &mut Context| cx.owed_bytes());
    io.on_drain(|cx: &mut Context| {
        cx.emit("drained", ());
    });
}

fn register(io: &mut Namespace) {
    let shard = io.shard().id;
    io.on_connect(|cx: &mut Context, auth: Option<RawJson>| {
        let auth = auth.unwrap_or_else(|| RawJson::new("{}").expect("this is JSON"));
        cx.emit("auth", auth);
    });
    io.on_raw("message", |cx: &mut Context, args: Args<'_>| {
        cx.emit("message-back", args);
    });
    io.on_echo("message-with-ack", |_: &mut Context, _| {});
    io.on("address", |cx: &mut Context| {
        cx.handshake().and_then(|handshake| handshake.address()).map(|address| address.to_string())
    });
    io.on("expire", |cx: &mut Context, millis: u64| cx.expires_in(Duration::from_millis(millis)));
    io.on_expiry(|cx: &mut Context| {
        cx.emit("refresh", ());
    });
    io.on("join", |cx: &mut Context, room: String| cx.join(room));
    io.on("leave", |cx: &mut Context, room: String| {
        cx.leave(room);
        true
    });
    io.on_raw("room", |cx: &mut Context, args: Args<'_>| {
        let room: String = args.read(0)?;
        cx.to(room).emit("room-event", args.skip(1));
        Ok::<(), ArgsError>(())
    });
    io.on_raw("room-others", |cx: &mut Context, args: Args<'_>| {
        let room: String = args.read(0)?;
        cx.to(room).include_self(false).emit("room-event", args.skip(1));
        Ok::<(), ArgsError>(())
    });
    io.on("rooms", |cx: &mut Context| cx.rooms());
    io.on_raw("everyone", |cx: &mut Context, args: Args<'_>| {
        cx.broadcast().emit("everyone", args);
    });
    io.on_raw("everyone-uncompressed", |cx: &mut Context, args: Args<'_>| {
        cx.broadcast().compress(false).emit("everyone", args);
    });
    io.on_async("ask-me", |socket: Socket| async move {
        let answer = socket.emit_with_ack("question", 42).timeout(Duration::from_secs(1)).await;
        match answer {
            Ok(answer) => socket.emit("answer", answer.args()),
            Err(_) => socket.emit("no-answer", ()),
        };
    });
    let handle = io.handle();
    io.on("trace-me", move |cx: &mut Context, is_on: bool| handle.trace(cx.id(), is_on));
    let handle = io.handle();
    io.on("news-by-handle", move |_: &mut Context, text: String| {
        handle.namespace("/").emit("news", text);
    });
    io.on("shard", move |_: &mut Context| shard);
    io.on("counter", |cx: &mut Context| {
        cx.update(|count: &mut u64| {
            *count += 1;
            *count
        })
    });
    answers_later(io);
    io.on("client-id", |cx: &mut Context| cx.client_id());
    io.on("kick-me", |cx: &mut Context| cx.disconnect());
    targets(io);
    fleet(io);
    servers(io);
    brought(io);
    known(io);
    io.on("boom", |_: &mut Context| -> () { panic!("boom") });
}

/// Answers that are given later: in order, in no order, from this shard, from a thread, never.
#[expect(clippy::disallowed_methods, reason = "a thread of the user's may wait")]
fn answers_later(io: &mut Namespace) {
    io.on_async("slow", |_: Socket, millis: u64, value: RawJson| async move {
        shardcast::sleep(Duration::from_millis(millis)).await;
        value
    });
    io.on_concurrent("concurrent", |_: Socket, millis: u64, value: RawJson| async move {
        shardcast::sleep(Duration::from_millis(millis)).await;
        value
    });
    let waiting = Rc::new(RefCell::new(Vec::<Ack>::new()));
    let asked = Rc::clone(&waiting);
    io.on("ask-later", move |_: &mut Context, ack: Ack| asked.borrow_mut().push(ack));
    io.on("tell-later", move |_: &mut Context, value: serde_json::Value| {
        let waiting = waiting.take();
        let wanted = waiting.iter().filter(|ack| ack.is_wanted()).count();
        for ack in waiting {
            ack.send((&value, Binary::from(vec![1, 0xff])));
        }
        wanted
    });
    io.on("ask-thread", |_: &mut Context, millis: u64, ack: Ack| {
        let ack = ack.into_remote();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(millis));
            ack.send(millis);
        });
    });
    io.on("no-ack", |_: &mut Context| NoAck);
    io.on("fail-later", |_: &mut Context, _ack: Ack| Err::<(), _>("no answer was found"));
}

/// An argument that is lent to its handler.
#[derive(serde::Deserialize)]
struct Line<'a> {
    text: &'a str,
    note: Option<&'a str>,
}

/// A value of our own, which a handler returns and emits as it is.
#[derive(serde::Serialize)]
struct Point {
    x: i64,
    y: i64,
}

shardcast::sendable!(Point);

/// What a client brings into an event, and what it hears if that does not fit.
fn brought(io: &mut Namespace) {
    io.on("typed", |_: &mut Context, text: String| text);
    io.on("lent", |cx: &mut Context, line: Line, bytes: Option<&[u8]>, more: &str| {
        cx.emit("lent-back", (line.text, line.note, bytes.map(|bytes| Binary::from(bytes.to_vec())), more));
    });
    io.on("beside", |cx: &mut Context, value: serde_json::Value| {
        match cx.broadcast().emit("beside-back", (value, Binary::from(vec![1, 0xff]))) {
            Emitted::Refused(error) => Err(error),
            _ => Ok(None::<()>),
        }
    });
    io.on_error(|_: &mut Context, error: &HandlerError| serde_json::json!({ "error": error.to_string() }));
    io.on("point", |cx: &mut Context, x: i64, text: &str| {
        let y = text.trim().parse()?;
        cx.emit("moved-to", Point { x: y, y: x });
        shardcast::done(Point { x, y })
    });
    io.on("any", |cx: &mut Context, value: AnyValue| {
        cx.emit("any-back", (&value, 7));
        value
    });
    io.on("given", |_: &mut Context, value: Given<AnyValue>| match value {
        Given::Missing => "missing".into(),
        Given::Null => "null".into(),
        Given::Value(value) => value,
    });
    io.on_raw("keep", |cx: &mut Context, args: Args<'_>| {
        cx.update(|kept: &mut OwnedArgs| std::mem::replace(kept, args.into_owned())).unwrap_or_default()
    });
    io.on_raw_async("relay-later", |socket: Socket, args: OwnedArgs| async move {
        shardcast::sleep(Duration::from_millis(20)).await;
        socket.broadcast().emit("relayed", &args);
        args
    });
}

/// What is known of a client: what was set, what its request said, where else it is.
fn known(io: &mut Namespace) {
    io.on("about", |cx: &mut Context| {
        let handshake = cx.handshake();
        let pairs = handshake.iter().flat_map(|handshake| handshake.queries());
        let pairs: Vec<_> = pairs.filter(|(name, _)| name.starts_with("x-")).collect();
        serde_json::json!({
            "data": cx.data::<RawJson>().ok(),
            "revision": cx.revision(),
            "transport": cx.transport(),
            "parameters": pairs,
        })
    });
    io.on_raw("elsewhere", |cx: &mut Context, args: Args<'_>| {
        let namespace: String = args.read(0)?;
        cx.broadcast_in(&namespace).include_self(false).emit("elsewhere", args.skip(1));
        Ok::<_, ArgsError>(cx.in_namespace(&namespace).map(|socket| socket.client_id()))
    });
}

/// Sockets of all shards: asked together, described, counted, called from another thread.
fn targets(io: &mut Namespace) {
    io.on_async("ask-room", |socket: Socket, room: String, millis: u64| async move {
        let timeout = Duration::from_millis(millis);
        let answers = socket.to(room).emit_with_ack("question", 42).timeout(timeout).await?;
        let values: Vec<RawJson> =
            answers.received.iter().filter_map(|(_, answer)| answer.first().ok()).collect();
        Ok::<_, AckError>((answers.is_complete(), values))
    });
    io.on("set-data", |cx: &mut Context, data: RawJson| cx.set_data(&data).is_ok());
    io.on_async("fetch", |socket: Socket, room: String| async move {
        let (remote, me) = (socket.to(room).fetch().await?, socket.client_id());
        let shown = remote.iter().map(|remote| {
            let (rooms, handshake) = (remote.rooms(), remote.handshake());
            let data: Option<RawJson> = remote.data().unwrap_or_default();
            serde_json::json!({ "id": remote.id(), "me": remote.client_id() == me, "rooms": rooms, "data": data, "EIO": handshake.query("EIO") })
        });
        Ok::<Vec<_>, AckError>(shown.collect())
    });
    io.on_async("count", |socket: Socket, room: String| async move { socket.to(room).count().await });
    io.on("move-room", |cx: &mut Context, from: String, to: String| {
        cx.to(&from).join(to);
        cx.close_room(from);
    });
    io.on("disconnect-room", |cx: &mut Context, room: String| cx.to(room).disconnect());
    io.on("close-room", |cx: &mut Context, room: String| cx.to(room).close());
    let handle = io.handle();
    io.on("call-from-thread", move |cx: &mut Context, sid: String, millis: u64| {
        let (handle, namespace, caller) = (handle.clone(), cx.namespace().to_owned(), cx.id());
        let call = move || {
            let question = handle.to(&namespace, sid).call("question", 42);
            let answer = question.timeout(Duration::from_millis(millis)).wait();
            let value = answer.ok().and_then(|answer| answer.first::<RawJson>().ok());
            handle.to(&namespace, caller).emit("called", value);
        };
        std::thread::Builder::new().spawn(call).is_ok()
    });
}

/// What is said to sockets wherever they are, of other processes too: each names rooms, none for everybody, and exceptions.
fn fleet(io: &mut Namespace) {
    io.on_raw("send", |cx: &mut Context, args: Args<'_>| {
        let (to, event) = (aim(cx, &args)?, args.read::<String>(2)?);
        to.emit(&event, args.skip(3));
        Ok::<bool, ArgsError>(true)
    });
    io.on_raw("change", |cx: &mut Context, args: Args<'_>| {
        let (to, verb) = (aim(cx, &args)?, args.read::<String>(2)?);
        match verb.as_str() {
            "join" => to.join(args.read::<String>(3)?),
            "leave" => to.leave(args.read::<String>(3)?),
            _ => to.disconnect(),
        };
        Ok::<bool, ArgsError>(true)
    });
    io.on_raw("change-and-wait", |cx: &mut Context, args: Args<'_>| {
        let (to, verb) = (aim(cx, &args)?, args.read::<String>(2)?);
        let changing = match verb.as_str() {
            "join" => to.join(args.read::<String>(3)?),
            "leave" => to.leave(args.read::<String>(3)?),
            _ => to.disconnect(),
        };
        let socket = cx.socket();
        changing.then(move |changed| {
            socket.emit("changed", changed.is_ok_and(|changed| changed.is_complete()));
        });
        Ok::<(), ArgsError>(())
    });
    io.on_raw("ask", |cx: &mut Context, args: Args<'_>| {
        let (to, millis) = (aim(cx, &args)?, args.read(2)?);
        let asked = to.emit_with_ack(&args.read::<String>(3)?, args.skip(4));
        let socket = cx.socket();
        asked.timeout(Duration::from_millis(millis)).then(move |answers| {
            let Ok(answers) = answers else { return };
            let values: Vec<RawJson> =
                answers.received.iter().filter_map(|(_, answer)| answer.first().ok()).collect();
            socket.emit("asked", (answers.is_complete(), values));
        });
        Ok::<(), ArgsError>(())
    });
    io.on_raw("call", |cx: &mut Context, args: Args<'_>| {
        let (sid, millis): (String, u64) = (args.read(0)?, args.read(1)?);
        let called = cx.to(sid).call(&args.read::<String>(2)?, args.skip(3));
        let socket = cx.socket();
        called.timeout(Duration::from_millis(millis)).then(move |answer| {
            match answer {
                Ok(answer) => socket.emit("called", answer.args()),
                Err(error) => socket.emit("not-called", error.to_string()),
            };
        });
        Ok::<(), ArgsError>(())
    });
    io.on_async("who", |socket: Socket, rooms: Vec<String>| async move {
        let to = || match rooms.split_first() {
            Some((first, others)) => socket.to(first).to_all(others),
            None => socket.broadcast(),
        };
        let facts = to().fetch().await?;
        let facts: Vec<_> = facts.iter().map(|one| (one.id().to_string(), one.rooms().to_vec())).collect();
        let ids: Vec<String> = to().ids().await?.iter().map(ToString::to_string).collect();
        Ok::<_, AckError>(serde_json::json!({ "facts": facts, "ids": ids, "count": to().count().await? }))
    });
}

/// What this server says to the servers of other processes, and they to this one.
fn servers(io: &mut Namespace) {
    let handle = io.handle();
    io.on_raw("tell-servers", move |cx: &mut Context, args: Args<'_>| {
        handle.emit_to_servers(cx.namespace(), &args.read::<String>(0)?, args.skip(1));
        Ok::<bool, ArgsError>(true)
    });
    let handle = io.handle();
    io.on_raw("ask-servers", move |cx: &mut Context, args: Args<'_>| {
        let (millis, event): (u64, String) = (args.read(0)?, args.read(1)?);
        let asked = handle.emit_to_servers_with_ack(cx.namespace(), &event, args.skip(2));
        let socket = cx.socket();
        asked.timeout(Duration::from_millis(millis)).then(move |answers| {
            let Ok(answers) = answers else { return };
            let values: Vec<Option<RawJson>> =
                answers.received.iter().map(|(_, answer)| answer.first().ok()).collect();
            socket.emit("servers-asked", (answers.is_complete(), values));
        });
        Ok::<(), ArgsError>(())
    });
    io.on_server_event("server-event", |cx: &ServerContext<'_>, args: Args<'_>| {
        cx.broadcast().local().emit("server-event", args);
        format!("{} arguments", args.len())
    });
}

fn aim<'a>(cx: &'a Context<'_>, args: &Args<'_>) -> Result<Recipients<'a>, ArgsError> {
    let (rooms, except): (Vec<String>, Vec<String>) = (args.read(0)?, args.read(1)?);
    let to = match rooms.split_first() {
        Some((first, others)) => cx.to(first).to_all(others),
        None => cx.broadcast(),
    };
    Ok(except.iter().fold(to, |to, room| to.except(room)))
}

/// Namespaces that come and go, with everything that is asked before a handler.
fn game(io: &mut Namespace) {
    io.use_connect_async(|socket: Socket, auth: serde_json::Value| async move {
        shardcast::sleep(Duration::from_millis(20)).await;
        match auth["token"].as_str() {
            Some(token) => {
                socket.set(token.to_owned());
                Ok(())
            }
            None => Err(Refused::new("unauthorized").data(&serde_json::json!({ "retry": false }))),
        }
    });
    io.use_connect(|cx: &mut Context| match cx.param("id") {
        Some("closed") => Err(Refused::new("closed")),
        _ => Ok(()),
    });
    io.before(|cx, _| if cx.event() == "cheat" { Err("no cheating") } else { Ok(()) });
    io.on("where", |cx: &mut Context| (cx.namespace().to_owned(), cx.get::<String>()));
    io.on_raw("move", |cx: &mut Context, args: Args<'_>| {
        cx.broadcast().emit("moved", args);
    });
    io.on_any(|cx: &mut Context, args: Args<'_>| (cx.event().to_owned(), args.len()));
    io.on_error(|cx, error| {
        cx.emit("failed", (cx.event(), error.to_string(), cx.args().len()));
    });
}

/// A namespace as a class.
#[derive(Default)]
struct Counter {
    total: Cell<i64>,
}

#[derive(serde::Deserialize)]
struct Start {
    start: i64,
}

impl ClassNamespace for Counter {
    fn register(io: &mut Methods<'_, Self>) {
        io.on_connect(Self::on_connect);
        io.on("add", Self::on_add);
        io.on_async("later", Self::on_later);
        io.on_raw_async("raw-later", Self::on_raw_later);
        io.on_echo("echo", |_: &Counter, _: &mut Context, _: Args<'_>| {});
        io.on("total", |counter: &Counter, _: &mut Context| Point { x: counter.total.get(), y: 0 });
    }
}

impl Counter {
    fn on_connect(&self, cx: &mut Context, start: Option<Start>) -> Result<(), Refused> {
        self.total.set(start.ok_or(Refused::new("where do we start?"))?.start);
        cx.emit("started", self.total.get());
        Ok(())
    }

    fn on_add(&self, _: &mut Context, number: i64) -> i64 {
        self.total.set(self.total.get() + number);
        self.total.get()
    }

    async fn on_raw_later(self: Rc<Self>, socket: Socket, args: OwnedArgs) -> OwnedArgs {
        shardcast::sleep(Duration::from_millis(20)).await;
        socket.emit("raw-later-back", (self.total.get(), args.len()));
        args
    }

    async fn on_later(self: Rc<Self>, _: Socket, millis: u64) -> i64 {
        shardcast::sleep(Duration::from_millis(millis)).await;
        self.total.get()
    }
}
