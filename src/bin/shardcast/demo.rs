//! The demo that `serve` serves: a chat with rooms, and a live view of the shards.
//!
//! Written with the public API only, as a user would write it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use shardcast::http::Response;
use shardcast::{CloseReason, Config, Context, Handle, Namespace, Server, ShardStats, sleep};

/// The longest name, room and message that the chat takes, in characters.
const TEXT_CHARS_MAX: usize = 2000;

/// The page needs nothing but itself.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How often the page hears of the server's figures.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// How many members each room has, on all shards. A chat changes it once for each person that comes or goes,
/// so a lock does no harm here.
#[derive(Clone, Default)]
#[allow(clippy::disallowed_types)]
struct Members(Arc<std::sync::Mutex<HashMap<String, u64>>>);

/// Who somebody is, and where.
#[derive(Clone, Default)]
struct Visitor {
    name: String,
    room: Option<String>,
}

/// The server with the demo on it.
pub(crate) fn server(config: Config) -> Server {
    let members = Members::default();
    Server::new(config)
        .namespace("/", move |io| register(io, members.clone()))
        .route("/", |_| {
            Response::html(include_str!("demo/index.html"))
                .header("content-security-policy", CONTENT_SECURITY_POLICY)
        })
        .route("/style.css", |_| asset("text/css; charset=utf-8", include_str!("demo/style.css")))
        .route("/client.js", |_| asset("text/javascript; charset=utf-8", include_str!("demo/client.js")))
        .route("/demo.js", |_| asset("text/javascript; charset=utf-8", include_str!("demo/demo.js")))
        .background(publish_stats)
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    Response::text(text).header("content-type", content_type).header("cache-control", "no-cache")
}

fn register(io: &mut Namespace, members: Members) {
    let shard = io.shard();
    let handle = io.handle();
    io.on_connect(move |cx: &mut Context| {
        cx.emit(
            "welcome",
            json!({
                "sid": cx.id(),
                "shard": shard.id,
                "shards": shard.shards,
                "transport": cx.transport(),
                "version": env!("CARGO_PKG_VERSION"),
                "io": handle.io(),
            }),
        );
    });
    let joined = members.clone();
    io.on("join", move |cx: &mut Context, room: String, name: Option<String>| {
        let name = name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "somebody".to_owned());
        if let Some(fault) = too_long(&[&room, &name]) {
            return fault;
        }
        depart(cx, &joined);
        let count = joined.change(&room, 1);
        cx.join(hall(&room));
        cx.to(hall(&room))
            .include_self(false)
            .emit("entered", json!({ "name": name, "room": room, "members": count }));
        cx.set(Visitor { name, room: Some(room.clone()) });
        json!({ "room": room, "members": count })
    });
    let left = members.clone();
    io.on("leave", move |cx: &mut Context| depart(cx, &left));
    io.on("chat", move |cx: &mut Context, text: String| {
        let visitor: Visitor = cx.get().unwrap_or_default();
        let Some(room) = visitor.room else { return json!({ "error": "join a room first" }) };
        if text.trim().is_empty() {
            return json!({ "error": "write something first" });
        }
        if let Some(fault) = too_long(&[&text]) {
            return fault;
        }
        let message = json!({ "from": cx.id(), "name": visitor.name, "text": text, "shard": shard.id, "at": unix_millis() });
        cx.to(hall(&room)).emit("chat", &message);
        Value::Bool(true)
    });
    io.on("typing", |cx: &mut Context, on: bool| {
        let visitor: Visitor = cx.get().unwrap_or_default();
        if let Some(room) = visitor.room {
            cx.to(hall(&room)).include_self(false).emit("typing", json!({ "name": visitor.name, "on": on }));
        }
    });
    io.on_disconnect(move |cx: &mut Context, _: CloseReason| depart(cx, &members));
}

/// The room for a name that a visitor chose. With a prefix, so that it is no other visitor's own.
fn hall(name: &str) -> String {
    format!("hall:{name}")
}

/// Leaves the room, if the visitor is in one, and tells the others.
fn depart(cx: &Context<'_>, members: &Members) {
    let Some(room) = cx.update(|visitor: &mut Visitor| visitor.room.take()).flatten() else { return };
    let name = cx.get::<Visitor>().unwrap_or_default().name;
    let count = members.change(&room, -1);
    cx.leave(hall(&room));
    cx.to(hall(&room))
        .include_self(false)
        .emit("left", json!({ "name": name, "room": room, "members": count }));
}

fn too_long(texts: &[&str]) -> Option<Value> {
    let is_too_long = texts.iter().any(|text| text.chars().count() > TEXT_CHARS_MAX);
    is_too_long.then(|| json!({ "error": format!("at most {TEXT_CHARS_MAX} characters") }))
}

impl Members {
    fn change(&self, room: &str, by: i64) -> u64 {
        let mut rooms = self.0.lock().expect("nobody panics while counting");
        let count = rooms.entry(room.to_owned()).or_default();
        *count = count.saturating_add_signed(by);
        let now = *count;
        if now == 0 {
            rooms.remove(room);
        }
        now
    }
}

/// One shard's part of the `stats` event.
#[derive(Serialize)]
struct ShardLoad {
    id: usize,
    connections: u64,
    rate: f64,
    busy: f64,
}

/// Tells every page, every second, how the server fares.
async fn publish_stats(handle: Handle) {
    let mut before = handle.stats();
    let mut seconds = 0;
    loop {
        sleep(STATS_INTERVAL).await;
        seconds += STATS_INTERVAL.as_secs();
        let now = handle.stats();
        let shards: Vec<ShardLoad> = now
            .iter()
            .enumerate()
            .map(|(id, stats)| shard_load(id, stats, before.get(id).copied().unwrap_or_default()))
            .collect();
        let total = |figure: fn(&ShardStats) -> u64| now.iter().map(figure).sum::<u64>();
        let figures = json!({
            "connections": total(|stats| stats.sessions),
            "messages": total(messages),
            "rate": shards.iter().map(|shard| shard.rate).sum::<f64>(),
            "uptime": seconds,
            "shards": shards,
        });
        handle.namespace("/").emit("stats", &figures);
        before = now;
    }
}

fn shard_load(id: usize, now: &ShardStats, before: ShardStats) -> ShardLoad {
    let seconds = STATS_INTERVAL.as_secs_f64();
    ShardLoad {
        id,
        connections: now.sessions,
        rate: messages(now).saturating_sub(messages(&before)) as f64 / seconds,
        busy: (now.busy_micros.saturating_sub(before.busy_micros) as f64 / 1e6 / seconds).min(1.0),
    }
}

fn messages(stats: &ShardStats) -> u64 {
    stats.events_received + stats.messages_sent
}

/// The time that a chat message bears.
#[allow(clippy::disallowed_methods)]
fn unix_millis() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
