//! The admin page: what a browser is shown at `/`, and the figures that it asks for once a second.
//!
//! Every figure is bounded: each shard names its twenty slowest clients and largest rooms, of which the page gets twenty.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::base::ids::Sid;
use crate::message::overview::{Look, Overview, RoomSize, SlowClient, Traced};
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::server::admin::{AdminRoutes, Desk};
use crate::shard::user::current::{current, spawn};
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::sleep::sleep;
use crate::shard::value::stats::ShardStats;
use crate::shard::value::survey::LARGEST_MAX;

/// The page needs nothing but itself.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How long the shards have to answer. One that takes longer is shown as silent.
const PATIENCE: Duration = Duration::from_millis(800);

/// How long a client is traced.
const TRACE_TIME: Duration = Duration::from_secs(60);

/// A kind of refusal or loss, and what can be done about it.
pub(super) struct Advice {
    /// The counter's name in `ShardStats`.
    pub(super) name: &'static str,
    count: fn(&ShardStats) -> u64,
    what: &'static str,
    advice: &'static str,
}

macro_rules! advices {
    ($($name:ident: $what:literal, $advice:literal;)+) => {
        &[$(Advice { name: stringify!($name), count: |stats| stats.$name, what: $what, advice: $advice },)+]
    };
}

pub(super) const ADVICES: &[Advice] = advices! {
    connections_refused: "connections closed at once",
        "connections_per_address_max: raise it, or name the proxy that these clients share in trusted_proxies. connections_max: what memory allows";
    handshakes_refused: "handshakes answered 503",
        "handshakes_per_second_max, sessions_max, connections_per_address_max: the log says which";
    requests_refused: "requests refused",
        "the log says why each was: an origin (cors_allowed_origins), an unknown session (no sticky balancer before several processes), a version (allow_eio3)";
    unjoined_sessions_closed: "sessions closed that had joined nothing",
        "unjoined_sessions_max, unjoined_sessions_per_address_max; a slow connect handler makes many";
    slow_consumers_closed: "slow clients closed",
        "outbox_bytes_max, or a rule that drops old events for slow clients: docs/slow-consumers.md";
    messages_dropped: "messages that slow clients did not get",
        "these are the application's rules for slow clients, and volatile events";
    partial_closed: "clients closed that had sent too much of what is not whole",
        "partial_bytes_max, max_http_buffer_size";
    mesh_messages_lost: "messages lost between shards",
        "a shard is held up: see handlers_slow, and move long work to a thread";
    routes_timed_out: "requests answered 504",
        "route_timeout, or make the route faster";
    handlers_slow: "handlers that held their shard",
        "the log names them; wait in an asynchronous handler, and leave long work to a thread. slow_handler is the bound";
    handler_panics: "handlers that panicked",
        "the log has each panic with its handler";
    acks_dropped: "acknowledgements that were never given",
        "a handler took an Ack and dropped it; the log names the event";
    outside_pauses: "clients that waited for handlers outside the shard",
        "what works through their events is slow or stands still; pending_bytes_max, outside_bytes_max";
    ticks_skipped: "ticks left out",
        "the shard was held up: see handlers_slow";
    tls_failed: "TLS connections that failed",
        "the log says why: a certificate that clients do not trust, or a client of an old version";
};

#[derive(Serialize)]
struct Shown<'a> {
    version: &'a str,
    io: &'a str,
    phase: &'static str,
    unix_millis: u64,
    started_unix_millis: u64,
    shards: Vec<ShownShard>,
    queues: Vec<ShownQueue>,
    slow: Vec<SlowClient>,
    rooms: Vec<RoomSize>,
    refusals: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Traced>,
}

#[derive(Serialize)]
struct ShownShard {
    #[serde(flatten)]
    stats: ShardStats,
    /// `None`: it did not answer in time.
    lag_millis: Option<u64>,
}

#[derive(Serialize)]
struct ShownQueue {
    is_up: bool,
    processes: u64,
    waiting_bytes: u64,
}

#[derive(Serialize)]
struct Refusal {
    name: &'static str,
    count: u64,
    what: &'static str,
    advice: &'static str,
}

pub(super) fn register(routes: &mut AdminRoutes, desk: &Desk) {
    routes.method(Method::Get, "/page.css", |_| {
        asset("text/css; charset=utf-8", include_str!("../../../assets/admin/page.css"))
    });
    routes.method(Method::Get, "/page.js", |_| {
        asset("text/javascript; charset=utf-8", include_str!("../../../assets/admin/page.js"))
    });
    routes
        .about("/status.json", "what the page shows, as JSON; client=ID adds the packets of a traced client");
    let looking = desk.clone();
    routes.method_async(Method::Get, "/status.json", move |request| {
        let desk = looking.clone();
        async move { status(&desk, &request).await }
    });
    routes.about(
        "/trace",
        "POST client=ID: keeps a client's packets for a minute, and logs them; on=false ends that",
    );
    let tracing = desk.clone();
    routes.method_async(Method::Post, "/trace", move |request| {
        let answer = trace(&tracing, &request);
        async move { answer }
    });
}

/// What a browser is shown at `/`.
pub(super) fn page() -> Response {
    Response::html(include_str!("../../../assets/admin/page.html"))
        .header("content-security-policy", CONTENT_SECURITY_POLICY)
        .header("referrer-policy", "no-referrer")
        .header("x-content-type-options", "nosniff")
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    Response::text(text).header("content-type", content_type).header("x-content-type-options", "nosniff")
}

fn trace(desk: &Desk, request: &OwnedRequest) -> Response {
    let client = request.query("client").and_then(|client| Sid::parse(&client));
    let Some(client) = client else {
        return Response::text("client: the id of a socket, of 20 characters\n")
            .with_status(Status::BAD_REQUEST);
    };
    let is_on = request.query("on").as_deref() != Some("false");
    if !desk.handle.trace(client, is_on) {
        return Response::text("its shard takes no message now; try again\n")
            .with_status(Status::SERVICE_UNAVAILABLE);
    }
    if is_on {
        let handle = desk.handle.clone();
        spawn(async move {
            sleep(TRACE_TIME).await;
            handle.trace(client, false);
        });
    }
    Response::text("").with_status(Status::NO_CONTENT)
}

async fn status(desk: &Desk, request: &OwnedRequest) -> Response {
    let (Some(core), Some(shared)) = (current(), desk.handle.shared()) else {
        return Response::text("starting\n").with_status(Status::SERVICE_UNAVAILABLE);
    };
    let (asked, unix_millis) = {
        let env = &core.borrow().tables.env;
        (env.now, env.unix_origin + env.now.0)
    };
    drop(core);
    let traced = request.query("client").and_then(|client| Sid::parse(&client));
    let look = Look { asked, traced };
    let overviews = desk.handle.namespace("/").overviews(look).timeout(PATIENCE).await.unwrap_or_default();
    let stats = desk.handle.stats();
    let refusals = ADVICES.iter().map(|kind| {
        let count = stats.iter().map(kind.count).sum();
        Refusal { name: kind.name, count, what: kind.what, advice: kind.advice }
    });
    let mut shown = Shown {
        version: env!("CARGO_PKG_VERSION"),
        io: desk.handle.io(),
        phase: desk.handle.phase().as_str(),
        unix_millis,
        started_unix_millis: shared.started_unix_millis,
        refusals: refusals.filter(|refusal| refusal.count > 0).collect(),
        shards: stats.into_iter().map(|stats| ShownShard { stats, lag_millis: None }).collect(),
        queues: desk
            .handle
            .queue_stats()
            .iter()
            .map(|queue| ShownQueue {
                is_up: queue.is_up,
                processes: queue.processes,
                waiting_bytes: queue.waiting_bytes,
            })
            .collect(),
        slow: Vec::new(),
        rooms: Vec::new(),
        trace: None,
    };
    shown.add(overviews);
    Response::json(&shown).header("cache-control", "no-store")
}

impl Shown<'_> {
    fn add(&mut self, overviews: Vec<Overview>) {
        let mut rooms: BTreeMap<(String, String), u64> = BTreeMap::new();
        for overview in overviews {
            if let Some(shard) = self.shards.get_mut(overview.shard) {
                shard.lag_millis = Some(overview.lag_millis);
            }
            self.slow.extend(overview.slow);
            for RoomSize { namespace, room, members } in overview.rooms {
                *rooms.entry((namespace, room)).or_default() += members;
            }
            self.trace = self.trace.take().or(overview.trace);
        }
        self.slow.sort_by_key(|client| std::cmp::Reverse(client.owed_bytes));
        self.slow.truncate(LARGEST_MAX);
        self.rooms = rooms
            .into_iter()
            .map(|((namespace, room), members)| RoomSize { namespace, room, members })
            .collect();
        self.rooms.sort_by_key(|room| std::cmp::Reverse(room.members));
        self.rooms.truncate(LARGEST_MAX);
    }
}
