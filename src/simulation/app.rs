//! The handlers that the simulated clients talk to.

use std::rc::Rc;
use std::time::Duration;

use crate::base::ids::Sid;
use crate::config::engine::EngineOptions;
use crate::config::{Config, EndpointSettings};
use crate::message::inquiry::AckError;
use crate::protocol::http::method::Method;
use crate::protocol::socketio::binary::Binary;
use crate::protocol::socketio::event::{Args, ArgsError};
use crate::server::Server;
use crate::server::admin_ui::Apart;
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::shard::user::ack::Ack;
use crate::shard::user::app::App;
use crate::shard::user::app::EndpointHandlers;
use crate::shard::user::context::Context;
use crate::shard::user::found::Found;
use crate::shard::user::gathering::Answers;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::request::Request;
use crate::shard::user::servers::ServerContext;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::user::site::Site;
use crate::shard::user::sleep::sleep;
use crate::shard::user::socket::{Emitted, Socket};
use crate::shard::user::streamed::Streamed;
use crate::shard::value::answer::Answer;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::error::Refused;
use crate::shard::value::route::BodyError;
use crate::shard::value::state::StateRoom;

/// The path of a second endpoint, for worlds that have one.
pub(super) const SECOND_PATH: &str = "/second.io/";

/// The namespaces `/`, `/gate` and, with the same handlers as `/`, all of `/play/{id}`, on one shard.
pub(super) fn app(shard: ShardInfo) -> App {
    let mut app = App::default();
    add_namespaces(&mut app, shard, MAIN);
    app
}

/// The settings of the second endpoint: it recovers its clients or does not, apart from the first.
pub(super) fn settings_of_second(has_recovery: bool, config: &Config) -> EndpointSettings {
    let recovery_max_disconnection = Duration::from_secs(if has_recovery { 30 } else { 0 });
    EndpointSettings { recovery_max_disconnection, ..EndpointSettings::new(config) }
}

/// The same namespaces at two endpoints, of which the second has settings of its own, if it is given any.
pub(super) fn app_at_two_endpoints(
    shard: ShardInfo,
    options: &EngineOptions,
    second_settings: Option<EndpointSettings>,
) -> App {
    let second = EngineOptions { path: SECOND_PATH.to_owned(), ..options.clone() };
    let mut app = App { site: site(shard), ..App::default() };
    let endpoints = [(options.clone(), None), (second, second_settings)];
    for (number, (options, settings)) in (MAIN..).zip(endpoints) {
        app.endpoints.push(EndpointHandlers { settings, ..EndpointHandlers::new(options) });
        add_namespaces(&mut app, shard, number);
    }
    app
}

/// The namespace of Socket.IO's admin page beside them.
pub(super) fn add_admin_ui(app: &mut App, shard: ShardInfo, admin_ui: &Apart) {
    let build =
        Namespace::build("/admin", shard, Handle::default(), |io: &mut Namespace<'_>| admin_ui.register(io));
    app.add_namespace(build.expect("every handler is there once")).expect("no other has this name");
}

/// Routes that wait, and whose bodies come and go piece by piece.
fn site(shard: ShardInfo) -> Rc<Site> {
    let server = Server::new(Config::default())
        .route_async("/later", |request: OwnedRequest| async move {
            let millis = request.query("ms").and_then(|text| text.parse().ok());
            sleep(Duration::from_millis(millis.unwrap_or_default())).await;
            request.query("what").unwrap_or_default().into_owned()
        })
        .route("/lines", |request: &Request<'_>| {
            let count = request.query("count").and_then(|text| text.parse::<usize>().ok());
            Streamed::new("text/plain", move |mut body| async move {
                for number in 0..count.unwrap_or_default() {
                    body.send(format!("{number:0>99}\n")).await?;
                }
                Ok(())
            })
        })
        .route_upload(Method::Post, "/upload", 1 << 20, |mut request: OwnedRequest| async move {
            let mut bytes = 0;
            while let Some(piece) = request.chunk().await? {
                bytes += piece.len();
            }
            Ok::<_, BodyError>(bytes.to_string())
        });
    let parts = server.into_parts().expect("every route is there once");
    (parts.app)(shard).expect("every route is there once").site
}

fn add_namespaces(app: &mut App, shard: ShardInfo, endpoint: u8) {
    let build = |name: &str, setup: fn(&mut Namespace<'_>)| {
        Namespace::build(name, shard, Handle::default(), setup).expect("every handler is there once")
    };
    let root = build("/", |io| {
        rooms(io);
        answers(io);
        targets(io);
        across(io);
        board(io);
    });
    let gate = build("/gate", guard);
    let play = build("/play/{id}", |io| {
        rooms(io);
        answers(io);
        targets(io);
        across(io);
    });
    for mut handlers in [root, gate, play] {
        handlers.endpoint = endpoint;
        app.add_namespace(handlers).expect("every namespace is there once");
    }
}

/// A state room: every watcher shows the same values in the end.
fn board(io: &mut Namespace) {
    io.state_room("board", StateRoom::max_hz(50.0));
    io.on("watch", |cx: &mut Context<'_>| cx.join("board"));
    io.on("unwatch", |cx: &mut Context<'_>| cx.leave("board"));
    io.on("put", |cx: &mut Context<'_>, key: String, value: u64| cx.state("board").set(&key, &value).is_ok());
}

/// Joining, leaving and publishing. A message is `[publisher, sequence, padding]`.
fn rooms(io: &mut Namespace) {
    io.on("join", |cx: &mut Context<'_>, room: String| cx.join(room));
    io.on("leave", |cx: &mut Context<'_>, room: String| cx.leave(room));
    io.on(
        "to",
        |cx: &mut Context<'_>, rooms: Vec<String>, except: Option<String>, message: serde_json::Value| {
            let mut recipients = cx.to("").to_all(rooms);
            if let Some(except) = except {
                recipients = recipients.except(except);
            }
            recipients.emit("news", message);
        },
    );
    // Those of a room are moved to another, told there, and taken out again: it has no member before and after.
    io.on("move", |cx: &mut Context<'_>, room: String, hall: String, message: serde_json::Value| {
        cx.to(room).join(&hall);
        cx.to(&hall).emit("news", message);
        cx.to(&hall).leave(&hall);
    });
    io.on("others", |cx: &mut Context<'_>, message: serde_json::Value| {
        cx.broadcast().include_self(false).emit("news", message);
    });
    io.on("everyone", |cx: &mut Context<'_>, message: serde_json::Value| {
        cx.broadcast().emit("news", message);
    });
    io.on("close_room", |cx: &mut Context<'_>, room: String| cx.close_room(room));
    io.on("close", |cx: &mut Context<'_>| cx.to(cx.id()).close());
    io.on("close_all", |cx: &mut Context<'_>, room: String| cx.to(room).close());
    // The same, known to be done everywhere.
    io.on_async("gather", |socket: Socket, rooms: Vec<String>, hall: String| async move {
        Ok::<_, AckError>(socket.to("").to_all(rooms).join(hall).await?.is_complete())
    });
    io.on_async("scatter", |socket: Socket, room: String| async move {
        Ok::<_, AckError>(socket.close_room(room).await?.is_complete())
    });
    io.on_async(
        "move_and_wait",
        |socket: Socket, room: String, hall: String, message: serde_json::Value| async move {
            let moved = socket.to(room).join(&hall).await?;
            socket.to(&hall).emit("news", message);
            Ok::<_, AckError>((moved.is_complete(), socket.to(&hall).leave(&hall).await?.is_complete()))
        },
    );
    io.on_async("throw_and_look", |socket: Socket, room: String| async move {
        let thrown = socket.to(&room).disconnect().await?;
        Ok::<_, AckError>((thrown.is_complete(), socket.to(room).ids().await?))
    });
    io.on_async("throw", |socket: Socket, room: String| async move {
        Ok::<_, AckError>(socket.to(room).disconnect().await?.is_complete())
    });
    io.on("kick", |cx: &mut Context<'_>, room: String| cx.to(room).disconnect());
}

/// Events that are answered: at once, later, with binary, with a question of the server's own.
fn answers(io: &mut Namespace) {
    io.on_echo("echo", |_: &mut Context<'_>, _: Args<'_>| {});
    io.on_raw("relay", |cx: &mut Context<'_>, args: Args<'_>| {
        cx.broadcast().include_self(false).emit("relay", args);
    });
    io.on_raw("raw", |cx: &mut Context<'_>, args: Args<'_>| {
        cx.emit("raw", args);
    });
    io.on_raw("room_raw", |cx: &mut Context<'_>, args: Args<'_>| {
        cx.to("room").emit("room", args);
    });
    io.on("blob", |_: &mut Context<'_>, blob: Binary| blob);
    io.on("blob_to", |cx: &mut Context<'_>, room: String, blob: Binary| {
        cx.to(room).emit("blob", blob);
    });
    io.on_async("members", |socket: Socket, room: String| async move { socket.to(room).ids().await });
    io.on_async("slow", |_: Socket, number: u64, millis: u64| async move {
        sleep(Duration::from_millis(millis)).await;
        number
    });
    io.on_async("quick", |_: Socket, number: u64| async move { number });
    io.on_concurrent("beside", |_: Socket, number: u64, millis: u64| async move {
        sleep(Duration::from_millis(millis)).await;
        number
    });
    io.on("kept", |cx: &mut Context<'_>, number: u64, millis: u64, ack: Ack| {
        cx.spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            ack.send(number);
        });
    });
    io.on("ask", |cx: &mut Context<'_>, number: u64| {
        let socket = cx.socket();
        cx.emit_with_callback("question", number, move |answer: Result<Answer, _>| {
            if let Ok(answer) = answer {
                socket.emit("answered", (number, answer.first::<u64>().unwrap_or_default()));
            }
        });
    });
    io.on("panic", |_: &mut Context<'_>| -> () { panic!("a handler of the simulation panics") });
    io.on("bye", |cx: &mut Context<'_>| cx.disconnect());
    io.on("spawn", |_: &mut Context<'_>| {
        crate::shard::user::current::spawn(async { sleep(Duration::from_millis(20)).await });
    });
    io.on("flood", |cx: &mut Context<'_>, count: usize, bytes: usize| {
        let text = "x".repeat(bytes);
        for _ in 0..count {
            cx.emit("flood", text.as_str().to_owned());
        }
    });
    io.on("flood_room", |cx: &mut Context<'_>, room: String, count: usize, bytes: usize| {
        let text = "x".repeat(bytes);
        for number in 0..count {
            cx.to(&room).emit("flood", (number, text.as_str()));
        }
    });
}

/// Questions to many, and who is where.
fn targets(io: &mut Namespace) {
    io.on("id", |cx: &mut Context<'_>| cx.id());
    io.on_async("ask_room", |socket: Socket, room: String, millis: u64| async move {
        let timeout = Duration::from_millis(millis);
        shown(socket.to(room).emit_with_ack("question", 1).timeout(timeout).await)
    });
    io.on("ask_others", |cx: &mut Context<'_>, room: String| {
        let socket = cx.socket();
        cx.to(&room).emit("news", "before");
        cx.to(&room).include_self(false).emit_with_callback("question", 2, move |answers| {
            socket.emit("answers", shown(answers));
        });
        cx.to(&room).emit("news", "after");
    });
    io.on_async("call", |socket: Socket, sid: String| async move {
        match socket.to(sid).call("question", 3).await {
            Ok(answer) => answer.first::<serde_json::Value>().unwrap_or_default(),
            Err(error) => error.to_string().into(),
        }
    });
    io.on("set_data", |cx: &mut Context<'_>, data: serde_json::Value| cx.set_data(&data).is_ok());
    io.on_async("fetch", |socket: Socket, room: String| async move {
        let remote = socket.to(room).fetch().await?;
        let shown = remote.iter().map(|remote| {
            let data = remote.data::<serde_json::Value>().unwrap_or_default();
            serde_json::json!([remote.id(), remote.shard(), remote.rooms(), data])
        });
        Ok::<Vec<_>, AckError>(shown.collect())
    });
    io.on_async("counts", |socket: Socket, room: String| async move {
        let everybody = socket.sockets().count().await?;
        let members = socket.to(&room).count().await?;
        let others = socket.to(&room).include_self(false).count().await?;
        let rooms = socket.namespace_rooms().await?;
        Ok::<_, AckError>((everybody, members, others, rooms))
    });
    io.on("wait", |cx: &mut Context<'_>| {
        cx.sockets().count().wait().map_err(|error| error.to_string()).err()
    });
    io.on("here", |cx: &mut Context<'_>, room: String| {
        let ids: Vec<Sid> = cx.to(&room).here().iter().map(|socket| socket.id()).collect();
        (ids, cx.to(&room).count_here())
    });
    io.on("emit_named", |cx: &mut Context<'_>, name: String| {
        let refused = |emitted| matches!(emitted, Emitted::Refused(_));
        let to_one = refused(cx.emit(&name, ()));
        vec![
            to_one,
            refused(cx.broadcast().emit(&name, ())),
            refused(cx.emit_with_callback(&name, (), |_| {})),
        ]
    });
    io.on("to_this_shard", |cx: &mut Context<'_>, room: String| {
        cx.to(&room).this_shard().emit("news", "this shard");
        cx.to(&room).local().emit("news", "this process");
    });
}

/// What is interesting where there are several processes: sockets that are moved from afar, and questions whose answers name the
/// processes that are missing.
fn across(io: &mut Namespace<'_>) {
    io.on("put_in", |cx: &mut Context<'_>, room: String, other: String| cx.to(room).join(other));
    io.on("take_out", |cx: &mut Context<'_>, room: String, other: String| cx.to(room).leave(other));
    io.on_async("ask_all", |socket: Socket, room: String, millis: u64| async move {
        let answers =
            socket.to(room).emit_with_ack("question", 1).timeout(Duration::from_millis(millis)).await;
        let missing = answers.as_ref().map(|answers| answers.processes_missing.clone()).unwrap_or_default();
        (shown(answers), missing)
    });
    io.on_async("call_soon", |socket: Socket, sid: String| async move {
        match socket.to(sid).call("question", 3).timeout(Duration::from_secs(2)).await {
            Ok(answer) => answer.first::<serde_json::Value>().unwrap_or_default(),
            Err(error) => error.to_string().into(),
        }
    });
    io.on_async("list", |socket: Socket, room: String| async move {
        found(socket.to(room).ids().await, |ids| serde_json::json!(ids))
    });
    io.on_async("look", |socket: Socket, room: String| async move {
        found(socket.to(room).fetch().await, |sockets| {
            sockets.iter().map(|remote| serde_json::json!([remote.id(), remote.rooms()])).collect()
        })
    });
    io.on_server_event("tell", |cx: &ServerContext<'_>, args: Args<'_>| {
        cx.broadcast().local().emit("news", args.read::<serde_json::Value>(0)?);
        Ok::<_, ArgsError>("told")
    });
}

/// What was found, and which processes are missing.
fn found<T>(
    result: Result<Found<T>, AckError>,
    show: impl FnOnce(&T) -> serde_json::Value,
) -> (serde_json::Value, Vec<String>) {
    match result {
        Ok(found) => (show(&found), found.processes_missing().to_vec()),
        Err(error) => (error.to_string().into(), Vec::new()),
    }
}

/// Answers as JSON: who said what, who is missing and why, how many shards are.
fn shown(answers: Result<Answers, AckError>) -> serde_json::Value {
    match answers {
        Ok(answers) => {
            let received: Vec<_> = answers
                .received
                .iter()
                .map(|(sid, answer)| (sid, answer.first::<serde_json::Value>().unwrap_or_default()))
                .collect();
            let missing: Vec<_> =
                answers.missing.iter().map(|(sid, error)| (sid, error.to_string())).collect();
            serde_json::json!({ "received": received, "missing": missing, "shards": answers.shards_missing })
        }
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    }
}

/// `/gate` lets in who says `"yes"`; it takes `millis` for its decision, and asks the client meanwhile.
fn guard(io: &mut Namespace) {
    io.on_connect_async(|socket: Socket, auth: serde_json::Value| async move {
        socket.join("inside");
        socket.emit("early", "before the decision");
        socket.emit_with_callback("early_question", (), |_| {});
        sleep(Duration::from_millis(auth["millis"].as_u64().unwrap_or(0))).await;
        match auth["say"].as_str() {
            Some("yes") => Ok(()),
            Some("panic") => panic!("a connect handler of the simulation panics"),
            _ => Err(Refused::new("go away")),
        }
    });
    io.on("shout", |cx: &mut Context<'_>, text: String| {
        cx.broadcast().emit("shout", text);
    });
    io.on_echo("echo", |_: &mut Context<'_>, _: Args<'_>| {});
}
