//! The only code that knows threads, descriptors and the clock: it gives every shard a core, a listener and
//! a wire, and carries bytes between them.
//!
//! `machine` asks what this machine allows, `listener` binds, `doorbell` wakes, `files` reads files off the
//! shards' threads. There are two wires: `ring`, an io_uring of our own for each shard, and `portable`,
//! monoio tasks on io_uring or epoll.

pub(crate) mod balance;
pub(crate) mod clock;
pub(crate) mod doorbell;
pub(crate) mod files;
pub(crate) mod listener;
pub(crate) mod machine;
pub(crate) mod notify;
pub(crate) mod polled;
pub(crate) mod portable;
pub(crate) mod ring;
pub(crate) mod signals;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::base::ids::ShardId;
use crate::driver::balance::Balance;
use crate::driver::doorbell::EventBell;
use crate::driver::files::FileReader;
use crate::driver::listener::Listeners;
use crate::driver::machine::{Backend, IoChosen};
use crate::mesh::{Bell, Handoff, InboxError, Mesh, ShardMessage};
use crate::shard::Shard;
use crate::shard::app::{App, LocalFuture};
use crate::shard::config::Config;
use crate::shard::context::ShardInfo;
use crate::shard::core::CoreParts;
use crate::shard::stats::ShardCounters;

/// Makes the handlers of one shard, on that shard's thread, or says what is wrong with them.
pub(crate) type AppMaker = Arc<dyn Fn(ShardInfo) -> Result<App, String> + Send + Sync>;

/// Makes the background tasks of one shard, on that shard's thread.
pub(crate) type TaskMaker = Arc<dyn Fn(ShardInfo) -> Vec<LocalFuture> + Send + Sync>;

/// What is needed to start.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) config: Arc<Config>,
    pub(crate) app: AppMaker,
    pub(crate) tasks: TaskMaker,
}

/// A process full of running shards.
pub(crate) struct Running {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) counters: Vec<Arc<ShardCounters>>,
    /// Where it listens, with the ports that the kernel chose.
    pub(crate) addresses: Vec<String>,
    pub(crate) io: IoChosen,
    threads: Vec<JoinHandle<()>>,
}

/// What one shard's thread is given.
struct Seat {
    core: CoreParts,
    start: Start,
    inbox: crate::mesh::InboxReceiver,
    bell: Arc<OwnedFd>,
    files: FileReader,
    balance: Balance,
    clock: clock::Clock,
    /// Its listeners, once the handlers of all shards are sound; closed if they are not.
    listeners: Receiver<Vec<OwnedFd>>,
}

/// How a shard's thread tells the starter how far it has come.
#[derive(Clone)]
struct Reports {
    built: Sender<(ShardId, Result<(), String>)>,
    ready: Sender<Result<(), String>>,
}

/// What a wire makes a shard of, on the shard's thread.
pub(crate) struct ShardParts {
    pub(crate) core: CoreParts,
    pub(crate) app: App,
    pub(crate) start: Start,
    pub(crate) inbox: crate::mesh::InboxReceiver,
    pub(crate) bell: Arc<OwnedFd>,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) files: FileReader,
    pub(crate) balance: Balance,
    pub(crate) clock: clock::Clock,
}

/// Builds every shard's handlers, then binds every address, then serves. Nothing runs if anything is refused.
///
/// `announce` is called before the first thread runs: what its handlers and tasks say is said to somebody.
pub(crate) fn start(mut start: Start, announce: impl FnOnce(&Running)) -> Result<Running, String> {
    let io = machine::choose_io(start.config.io)?;
    machine::raise_descriptor_limit();
    let cpus = machine::usable_cpus();
    if start.config.outboxes_bytes_max == 0 {
        Arc::make_mut(&mut start.config).outboxes_bytes_max = machine::usable_memory() / 2;
    }
    let shards = if start.config.shards == 0 { cpus.shards_default() } else { start.config.shards };
    let (bells, descriptors) = make_bells(shards)?;
    let (mesh, inboxes) = Mesh::new(bells);
    let files = FileReader::start(Arc::clone(&mesh), start.config.static_file_bytes_max);
    let clock = clock::Clock::new();
    let balance = Balance::new(shards);
    let mut running = Running {
        mesh: Arc::clone(&mesh),
        counters: (0..shards).map(|_| Arc::new(ShardCounters::default())).collect(),
        addresses: Vec::new(),
        io,
        threads: Vec::new(),
    };
    announce(&running);
    let (built, are_built) = crossbeam_channel::bounded(shards);
    let (ready, are_ready) = crossbeam_channel::bounded(shards);
    let reports = Reports { built, ready };
    let mut seats = Vec::new();
    for (index, (inbox, bell)) in inboxes.into_iter().zip(descriptors).enumerate() {
        let id = ShardId(index as u16);
        let (seat, listeners) = crossbeam_channel::bounded(1);
        seats.push(seat);
        let core = CoreParts {
            id,
            config: Arc::clone(&start.config),
            mesh: Arc::clone(&mesh),
            counters: Arc::clone(&running.counters[index]),
            seed: machine::random_seed(),
            now: clock.now(),
            unix_origin: clock.unix_origin(),
            clock: clock.coarse(),
        };
        let (start, files, balance) = (start.clone(), files.clone(), balance.clone());
        let seat = Seat { core, start, inbox, bell, files, balance, clock, listeners };
        let core = cpus.core_of(index, shards);
        running.threads.push(spawn_shard(seat, running.io.backend, core, reports.clone())?);
    }
    drop(reports);
    let built = setups_agree((0..shards).map_while(|_| are_built.recv().ok()));
    let mut listeners = match built.and_then(|()| Listeners::bind(&start.config, shards)) {
        Ok(listeners) => listeners,
        Err(fault) => {
            Running::request_stop(&mesh);
            drop(seats);
            running.join();
            return Err(fault);
        }
    };
    running.addresses = listeners.addresses();
    for (index, seat) in seats.into_iter().enumerate() {
        // A thread that is gone says so below.
        let _ = seat.send(listeners.take(index));
    }
    for _ in 0..shards {
        let word =
            are_ready.recv().unwrap_or_else(|_| Err("a shard's thread ended before it served".to_owned()));
        if let Err(fault) = word {
            Running::request_stop(&mesh);
            running.join();
            return Err(fault);
        }
    }
    Ok(running)
}

/// A bell for each shard, and what rings when it is rung.
type Bells = (Vec<Box<dyn Bell>>, Vec<Arc<OwnedFd>>);

fn make_bells(shards: usize) -> Result<Bells, String> {
    let mut bells: Vec<Box<dyn Bell>> = Vec::new();
    let mut descriptors = Vec::new();
    for _ in 0..shards {
        let bell = EventBell::new()
            .map_err(|error| format!("eventfd: {error}; raise the descriptor limit (ulimit -n)"))?;
        descriptors.push(bell.descriptor());
        bells.push(Box::new(bell));
    }
    Ok((bells, descriptors))
}

/// Whether the handlers of all shards were built. A fault that all have is the user's mistake; one that only some have means that a
/// setup does not do the same each time.
pub(crate) fn setups_agree(
    words: impl IntoIterator<Item = (ShardId, Result<(), String>)>,
) -> Result<(), String> {
    let words: Vec<_> = words.into_iter().collect();
    let Some((shard, fault)) =
        words.iter().find_map(|(shard, word)| Some((*shard, word.as_ref().err()?.clone())))
    else {
        return Ok(());
    };
    if words.iter().all(|(_, word)| word.is_err()) {
        return Err(fault);
    }
    Err(format!(
        "shard {}: {fault}; it is in order on other shards: a setup runs once for each shard, and has to register \
         the same each time",
        shard.0
    ))
}

impl Running {
    /// Asks every shard to say goodbye to its clients and stop.
    pub(crate) fn request_stop(mesh: &Mesh) {
        for index in 0..mesh.len() {
            let shard = ShardId(index as u16);
            // A shard whose inbox is full is drowning, and takes the request when it has room again.
            while mesh.send(shard, ShardMessage::Shutdown) == Err(InboxError::Full) {
                mesh.ring(shard);
                std::thread::yield_now();
            }
            mesh.ring(shard);
        }
    }

    /// Waits until every shard has stopped.
    pub(crate) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a shard's thread panicked");
            }
        }
    }
}

fn spawn_shard(
    seat: Seat,
    backend: Backend,
    core: Option<core_affinity::CoreId>,
    reports: Reports,
) -> Result<JoinHandle<()>, String> {
    let name = format!("shard-{}", seat.core.id.0);
    let retirement = Retirement { balance: seat.balance.clone(), shard: seat.core.id };
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let _retirement = retirement;
        if let Some(core) = core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!(core = core.id, "could not pin a shard to its core; it runs unpinned");
        }
        let Some((parts, ready)) = seat.take(reports) else { return };
        match backend {
            Backend::Ring => ring::run(parts, ready),
            Backend::Uring { .. } | Backend::Epoll => portable::run(parts, backend, ready),
        }
    });
    thread.map_err(|error| format!("cannot start a shard's thread: {error}"))
}

impl Seat {
    /// Builds the shard's handlers, and waits until those of all shards are built. `None`: the start is given up.
    fn take(self, reports: Reports) -> Option<(ShardParts, Sender<Result<(), String>>)> {
        let Seat { core, start, inbox, bell, files, balance, clock, listeners } = self;
        let Reports { built, ready } = reports;
        let (app, word) = match (start.app)(ShardInfo::new(core.id, core.mesh.len())) {
            Ok(app) => (Some(app), Ok(())),
            Err(fault) => (None, Err(fault)),
        };
        // The starter waits for this word from every shard.
        let _ = built.send((core.id, word));
        drop(built);
        let (app, listeners) = (app?, listeners.recv().ok()?);
        Some((ShardParts { core, app, start, inbox, bell, listeners, files, balance, clock }, ready))
    }
}

/// Takes a shard out of the balance when its thread ends, however that happens.
struct Retirement {
    balance: Balance,
    shard: ShardId,
}

impl Drop for Retirement {
    fn drop(&mut self) {
        self.balance.retire(self.shard);
        if std::thread::panicking() {
            tracing::error!(
                shard = self.shard.0,
                "a shard's thread panicked: its clients are gone, the other shards serve on"
            );
        }
    }
}

/// Builds the shard of a thread, on that thread.
pub(crate) fn build_shard(core: CoreParts, app: App, start: &Start) -> (Shard, Vec<LocalFuture>) {
    let info = ShardInfo::new(core.id, core.mesh.len());
    let tasks = (start.tasks)(info);
    (Shard::new(core, app), tasks)
}

/// Sends a connection, which is counted there already, to another shard.
pub(crate) fn send_connection(mesh: &Mesh, balance: &Balance, to: ShardId, handoff: Handoff) {
    if mesh.send(to, ShardMessage::Handoff(Box::new(handoff))).is_err() {
        balance.leave(to);
        tracing::error!(to = to.0, "a shard's inbox is full: a connection on its way there is closed");
    }
    mesh.ring(to);
}
