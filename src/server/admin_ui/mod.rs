//! Socket.IO's admin page: the namespace that `@socket.io/admin-ui` of npm connects to, as Node's `instrument` makes it.
//!
//! `login.rs` says who may in, `commands.rs` what the page asks to be done, `stats.rs` what each process tells every two seconds, and
//! `beat.rs` how each shard sends on what it has noted (`shard/table/sightings`), ten times a second. The page is told nothing while
//! nobody has one open; with several processes, one that has a page says so to the others every ten seconds, by an event of servers.

mod beat;
mod commands;
mod login;
mod stats;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::ids::Sid;
use crate::base::time::Time;
use crate::config::Config;
use crate::config::admin_ui::AdminUi;
use crate::protocol::http::hosts::is_own;
use crate::protocol::socketio::raw_json::RawJson;
use crate::server::admin_ui::login::{Caller, Credentials, Gate, Verdict};
use crate::server::handle::Handle;
use crate::server::namespace::Namespace;
use crate::server::{Blueprint, Error, Result};
use crate::shard::user::app::Refused;
use crate::shard::user::servers::ServerContext;
use crate::shard::user::socket::Socket;
use crate::shard::user::watching::Watcher;
use crate::shard::value::endpoint::MAIN;
use crate::shard::value::task::LocalFuture;

/// What a process that has a page says to the others: "tell me", and whose page is new.
const WATCH: &str = "admin-ui:watch";

/// How long a process goes on telling for another's page, in seconds, since it was last asked.
const WATCH_SECONDS: u32 = 30;

/// Pages that may be waiting to be shown a shard's sockets; those of one that comes then are not shown to it.
const PAGES_WAITING_MAX: usize = 16;

/// What can be done from the page, as Node says it.
const FEATURES: [&str; 7] = ["EMIT", "JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT"];

/// The namespace that the page shows first, if there is one.
const ROOT: &str = "/";

/// A page that has come, as a shard hears of it.
struct Newcomer {
    page: Sid,
    shown: Shown,
}

/// Who has begun to show a page sockets: its own shard is the first, as a page empties its lists then.
#[derive(Clone, Copy)]
enum Shown {
    Nowhere,
    /// Its shard, which is one of this process.
    Here,
    /// It is at another process, which begins by itself.
    Elsewhere,
}

/// What the page's namespace has on all shards.
struct Desk {
    namespace: String,
    is_read_only: bool,
    is_verbose: bool,
    /// The application has the namespace `/`.
    has_root: bool,
    gate: Gate,
    host: String,
    server_id: String,
    /// A page is open, here or at another process.
    is_watched: AtomicBool,
    /// For how many seconds more another process has a page.
    elsewhere: AtomicU32,
    /// A page is new: it is told the figures in the next second.
    is_new: AtomicBool,
    /// For each shard, to whom it is to describe its sockets.
    asked: OnceLock<Vec<(Sender<Newcomer>, Receiver<Newcomer>)>>,
}

/// Adds the page's namespace, if the configuration has it.
///
/// # Errors
/// The application has a namespace of that name.
pub(super) fn add(blueprint: &mut Blueprint) -> Result<()> {
    let config = &blueprint.config;
    if config.admin_ui == AdminUi::Off {
        return Ok(());
    }
    let main = &mut blueprint.endpoints[usize::from(MAIN)];
    let names: Vec<String> = main.namespaces().map(str::to_owned).collect();
    let name = config.admin_ui_namespace.clone();
    if names.contains(&name) {
        return Err(Error::new(format!(
            "admin_ui_namespace = {name:?}: the application has a namespace of this name; choose another"
        )));
    }
    let has_root = names.iter().any(|name| name == ROOT);
    let desk = Arc::new(Desk { has_root, ..Desk::new(config) });
    let for_setup = Arc::clone(&desk);
    main.namespace(&name, move |io| register(io, &for_setup));
    let shown: Vec<String> = names.into_iter().filter(|name| !name.contains('{')).chain([name]).collect();
    let for_stats = Arc::clone(&desk);
    blueprint.background.push(Arc::new(move |handle| -> LocalFuture {
        Box::pin(stats::tell(Arc::clone(&for_stats), handle, shown.clone()))
    }));
    if desk.is_verbose {
        blueprint
            .on_each_shard
            .push(Arc::new(move |_| -> LocalFuture { Box::pin(beat::run(Arc::clone(&desk))) }));
    }
    Ok(())
}

fn register(io: &mut Namespace<'_>, desk: &Arc<Desk>) {
    let shards = io.shard().shards;
    desk.asked.get_or_init(|| (0..shards).map(|_| bounded(PAGES_WAITING_MAX)).collect());
    let handle = io.handle();
    let entrance = Arc::clone(desk);
    io.on_connect_async(move |socket: Socket, auth: Option<RawJson>| {
        let (desk, handle) = (Arc::clone(&entrance), handle.clone());
        async move { desk.let_in(&socket, auth.as_ref().map_or("", RawJson::as_str), &handle).await }
    });
    let watched = Arc::clone(desk);
    io.on_server_event(WATCH, move |_: &ServerContext<'_>, args| {
        watched.watched_elsewhere(args.read(0).ok().flatten())
    });
    commands::register(io, desk);
}

impl Desk {
    fn new(config: &Config) -> Desk {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let server_id = match config.admin_ui_server_id.as_str() {
            "" => format!("{host}#{}", std::process::id()),
            id => id.to_owned(),
        };
        Desk {
            namespace: config.admin_ui_namespace.clone(),
            is_read_only: config.admin_ui_read_only,
            is_verbose: config.admin_ui == AdminUi::Development,
            has_root: false,
            gate: Gate::new(config),
            host,
            server_id,
            is_watched: AtomicBool::new(false),
            elsewhere: AtomicU32::new(0),
            is_new: AtomicBool::new(false),
            asked: OnceLock::new(),
        }
    }

    async fn let_in(&self, socket: &Socket, auth: &str, handle: &Handle) -> std::result::Result<(), Refused> {
        let caller = caller_of(socket);
        let verdict = self.gate.ask(Credentials::read(auth), &caller, times().unwrap_or_default());
        let (is_known, has_session) = match verdict {
            Verdict::Welcome => (Ok(()), false),
            Verdict::Begin => (Ok(()), true),
            #[cfg(feature = "bcrypt")]
            Verdict::Compare { answer, is_user } => match answer.await {
                Ok(true) if is_user => (Ok(()), true),
                Ok(_) | Err(_) => (Err(login::unknown()), false),
            },
            Verdict::Refuse(words) => (Err(words), false),
        };
        if let Err(words) = is_known {
            tracing::warn!(address = ?caller.address, "a login at Socket.IO's admin page was refused: {words}");
            return Err(Refused::new(words));
        }
        tracing::info!(address = ?caller.address, sid = %socket.id().brief(), "Socket.IO's admin page was opened");
        if has_session && let Some((_, seconds)) = times() {
            socket.emit("session", self.gate.new_session(seconds));
        }
        let mut features: Vec<&str> = if self.is_read_only { Vec::new() } else { FEATURES.to_vec() };
        features.push("AGGREGATED_EVENTS");
        if self.is_verbose {
            features.push("ALL_EVENTS");
        }
        socket.emit("config", serde_json::json!({ "supportedFeatures": features }));
        self.watched_here(socket.id(), handle);
        Ok(())
    }

    /// A page was opened here.
    fn watched_here(&self, page: Sid, handle: &Handle) {
        if self.is_verbose
            && let Some(shard) = Watcher::here()
        {
            // From now on, so that the page hears of its own socket.
            shard.switch(&self.namespace, true);
        }
        self.watch(Some(page), Shown::Nowhere);
        handle.emit_to_servers(&self.namespace, WATCH, page.as_str());
    }

    /// A page is open at another process, and this one is new there.
    fn watched_elsewhere(&self, page: Option<String>) {
        self.elsewhere.store(WATCH_SECONDS, Relaxed);
        self.watch(page.and_then(|page| Sid::parse(&page)), Shown::Elsewhere);
    }

    fn watch(&self, page: Option<Sid>, shown: Shown) {
        self.is_watched.store(true, Relaxed);
        let Some(page) = page else { return };
        self.is_new.store(true, Relaxed);
        for (asked, _) in self.asked.get().into_iter().flatten().filter(|_| self.is_verbose) {
            if asked.try_send(Newcomer { page, shown }).is_err() {
                tracing::warn!(
                    "too many of Socket.IO's admin pages are opened at once: one does not see all sockets"
                );
            }
        }
    }
}

/// The page's namespace by itself, and what runs beside it, for the simulation, whose shards are made of no blueprint.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Apart(Arc<Desk>);

#[cfg(test)]
impl Apart {
    pub(crate) fn new(config: &Config) -> Apart {
        Apart(Arc::new(Desk { has_root: true, ..Desk::new(config) }))
    }

    pub(crate) fn register(&self, io: &mut Namespace<'_>) {
        register(io, &self.0);
    }

    /// For each shard.
    pub(crate) fn beat(&self) -> LocalFuture {
        Box::pin(beat::run(Arc::clone(&self.0)))
    }

    /// For one shard.
    pub(crate) fn stats(&self, handle: Handle) -> LocalFuture {
        Box::pin(stats::tell(Arc::clone(&self.0), handle, Vec::new()))
    }
}

/// The shard's time, and seconds since 1970.
fn times() -> Option<(Time, u64)> {
    let shard = Watcher::here()?;
    Some((shard.now(), shard.unix_millis() / 1000))
}

fn caller_of(socket: &Socket) -> Caller {
    let Some(handshake) = socket.handshake() else { return Caller { address: None, is_here: false } };
    let is_passed_on =
        ["x-forwarded-for", "forwarded", "x-real-ip"].iter().any(|name| handshake.header(name).is_some());
    let is_loopback = handshake.peer().ip().is_none_or(|ip| ip.to_canonical().is_loopback());
    // A page whose name was made to lead here (DNS rebinding) asks by that name.
    let is_named = handshake.header("host").is_some_and(|host| !host.is_empty() && !is_own(host));
    Caller { address: handshake.address(), is_here: is_loopback && !is_passed_on && !is_named }
}
