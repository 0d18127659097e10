//! The only code that knows threads, descriptors and the clock: it gives every shard a core, a listener and
//! a wire, and carries bytes between them.
//!
//! `machine` asks what this machine allows, `listener` binds, `doorbell` wakes, `files` reads files off the
//! shards' threads. There are two wires: `ring`, an io_uring of our own for each shard, and `portable`,
//! monoio tasks on io_uring or epoll.

pub(crate) mod balance;
pub(crate) mod clock;
#[cfg(feature = "bus")]
pub(crate) mod companion;
pub(crate) mod descriptor;
pub(crate) mod doorbell;
#[cfg(feature = "bus")]
pub(crate) mod emitter;
pub(crate) mod files;
pub(crate) mod handover;
pub(crate) mod inherit;
pub(crate) mod listener;
#[cfg(feature = "bus")]
pub(crate) mod local_queue;
pub(crate) mod machine;
#[cfg(feature = "epoll")]
pub(crate) mod notify;
#[cfg(feature = "bcrypt")]
pub(crate) mod passwords;
#[cfg(feature = "epoll")]
pub(crate) mod polled;
#[cfg(feature = "epoll")]
pub(crate) mod portable;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod races;
pub(crate) mod ring;
pub(crate) mod signals;
pub(crate) mod stop;
pub(crate) mod systemd;
pub(crate) mod tls;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::base::ids::ShardId;
use crate::config::Config;
use crate::config::queue::shared::Queue;
use crate::driver::balance::Balance;
#[cfg(feature = "bus")]
use crate::driver::companion::Companion;
use crate::driver::doorbell::EventBell;
use crate::driver::files::FileReader;
use crate::driver::handover::Estate;
use crate::driver::inherit::Inherited;
use crate::driver::listener::{Listener, Listeners};
use crate::driver::machine::{Backend, Cpus, IoChosen};
use crate::mesh::life::{EndReport, Phase};
use crate::mesh::link::Links;
use crate::mesh::{Bell, Handoff, InboxError, InboxReceiver, Mesh, MeshOptions, ShardMessage};
use crate::message::peer::Door;
use crate::shard::user::app::App;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::stats::ShardCounters;
use crate::shard::value::task::LocalFuture;
use crate::shard::{CoreParts, Shard};

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
    /// The message queues of its endpoints.
    #[cfg_attr(not(feature = "bus"), allow(dead_code, reason = "they are of that feature"))]
    pub(crate) queues: Vec<Queue>,
}

/// A process full of running shards.
pub(crate) struct Running {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) counters: Vec<Arc<ShardCounters>>,
    /// Where it listens, with the ports that the kernel chose.
    pub(crate) addresses: Vec<String>,
    /// Where it serves operators, if it does.
    pub(crate) admin_address: Option<String>,
    pub(crate) io: IoChosen,
    /// Each says whether its shard had been asked to stop when it ended.
    threads: Vec<JoinHandle<bool>>,
    /// Listeners that all shards share.
    shared_listeners: Vec<OwnedFd>,
    /// What the next process would be given.
    pub(crate) estate: Option<Estate>,
    /// The thread of the message queues, if there are any.
    #[cfg(feature = "bus")]
    companion: Option<Companion>,
    /// Has the certificates read again.
    #[cfg(feature = "tls")]
    certificates: Option<tls::watch::Watch>,
}

/// What one shard's thread is given.
struct Seat {
    parts: CoreParts,
    start: Start,
    inbox: crate::mesh::InboxReceiver,
    bell: Arc<OwnedFd>,
    files: FileReader,
    balance: Balance,
    clock: clock::Clock,
    tls: Option<Arc<tls::Acceptor>>,
    /// Its listeners, once the handlers of all shards are sound; closed if they are not.
    listeners: Receiver<Vec<Listener>>,
}

/// How a shard's thread tells the starter how far it has come.
#[derive(Clone)]
struct Reports {
    built: Sender<(ShardId, Result<(), String>)>,
    ready: Sender<Result<(), String>>,
}

/// What a wire makes a shard of, on the shard's thread.
pub(crate) struct ShardParts {
    pub(crate) parts: CoreParts,
    pub(crate) app: App,
    pub(crate) start: Start,
    pub(crate) inbox: crate::mesh::InboxReceiver,
    pub(crate) bell: Arc<OwnedFd>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) files: FileReader,
    pub(crate) balance: Balance,
    pub(crate) clock: clock::Clock,
    /// TLS, if there are certificates.
    pub(crate) tls: Option<Arc<tls::Acceptor>>,
}

/// Builds every shard's handlers, then binds every address, then serves. Nothing runs if anything is refused.
///
/// Listeners that the program has `given` are served in place of `bind`. `announce` is called before the first thread runs: what its handlers and tasks say through a handle reaches a server that is there.
pub(crate) fn start(
    mut start: Start,
    given: Vec<OwnedFd>,
    announce: impl FnOnce(&Running),
) -> Result<Running, String> {
    let io = machine::choose_io(start.config.io)?;
    let tls = tls::Acceptor::load(&start.config)?;
    machine::raise_descriptor_limit();
    let cpus = machine::usable_cpus();
    Arc::make_mut(&mut start.config).outboxes_bytes_max = outboxes_bytes_max(&start.config);
    let shards = shards_of(&start.config, &cpus);
    let clock = clock::Clock::new();
    #[cfg(feature = "bus")]
    let (links, prepared) = companion::prepare(&start.queues, &start.config, clock.unix_origin());
    #[cfg(not(feature = "bus"))]
    let links = Links::default();
    let (mesh, inboxes, descriptors) = make_mesh(shards, links)?;
    let files = FileReader::start(Arc::clone(&mesh), start.config.static_file_bytes_max);
    let balance = Balance::new(shards);
    let mut running = Running {
        mesh: Arc::clone(&mesh),
        counters: (0..shards).map(|_| Arc::new(ShardCounters::default())).collect(),
        addresses: Vec::new(),
        admin_address: None,
        io,
        threads: Vec::new(),
        shared_listeners: Vec::new(),
        estate: None,
        #[cfg(feature = "bus")]
        companion: prepared.map(|prepared| prepared.start(&mesh, clock)).transpose()?,
        #[cfg(feature = "tls")]
        certificates: tls
            .as_ref()
            .map(|tls| tls::watch::Watch::start(&tls.certificates, start.config.tls_reload_interval))
            .transpose()?,
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
        let parts = CoreParts {
            id,
            config: Arc::clone(&start.config),
            mesh: Arc::clone(&mesh),
            counters: Arc::clone(&running.counters[index]),
            seed: machine::random_seed(),
            now: clock.now(),
            unix_origin: clock.unix_origin(),
            clock: clock.coarse(),
            stopwatch: clock.stopwatch(),
        };
        let core = cpus.core_of(index, shards).filter(|_| start.config.pin_shards);
        let (start, files, balance, tls) = (start.clone(), files.clone(), balance.clone(), tls.clone());
        let seat = Seat { parts, start, inbox, bell, files, balance, clock, tls, listeners };
        running.threads.push(spawn_shard(seat, running.io.backend, core, reports.clone())?);
    }
    drop(reports);
    let serving = setups_agree((0..shards).map_while(|_| are_built.recv().ok()))
        .and_then(|()| begin_serving(&mut running, &start.config, given, seats, &are_ready));
    match serving {
        Ok(()) => {
            mesh.life.reach(Phase::Ready);
            Ok(running)
        }
        Err(fault) => {
            // What has begun ends again. What went wrong is known already.
            mesh.request_stop();
            let _ = running.join();
            Err(fault)
        }
    }
}

/// Binds the addresses, gives each shard its listeners, and waits until all serve.
fn begin_serving(
    running: &mut Running,
    config: &Config,
    given: Vec<OwnedFd>,
    seats: Vec<Sender<Vec<Listener>>>,
    are_ready: &Receiver<Result<(), String>>,
) -> Result<(), String> {
    let is_given = !given.is_empty();
    let mut inherited = if is_given { None } else { Inherited::take()? };
    let report = inherited.as_mut().and_then(Inherited::take_report);
    let mut listeners = match inherited {
        Some(inherited) => {
            tracing::info!("another process has opened the listeners: bind and admin_bind are not read");
            if inherited.is_lent {
                running.mesh.life.note_lent();
            }
            Listeners::adopt(inherited, config, seats.len())?
        }
        None if is_given => {
            running.mesh.life.note_lent();
            Listeners::serve_given(given, config, seats.len())?
        }
        None => Listeners::bind(config, seats.len())?,
    };
    running.estate = Some(listeners.take_estate());
    running.addresses = listeners.addresses();
    running.admin_address = listeners.admin_address();
    running.shared_listeners = listeners.take_shared();
    for (index, seat) in seats.iter().enumerate() {
        // A thread that is gone says so below.
        let _ = seat.send(listeners.take(index));
    }
    let ended = || Err("a shard's thread ended before it served".to_owned());
    seats.iter().try_for_each(|_| are_ready.recv().unwrap_or_else(|_| ended()))?;
    stop::warn_of_resets(config);
    if let Some(report) = report {
        Inherited::report_ready(report);
    }
    Ok(())
}

/// How many shards a configuration means on this machine.
pub(crate) fn shards_of(config: &Config, cpus: &Cpus) -> usize {
    if config.shards == 0 { cpus.shards_default() } else { config.shards }
}

/// What clients may be owed together on this machine.
pub(crate) fn outboxes_bytes_max(config: &Config) -> usize {
    if config.outboxes_bytes_max == 0 { machine::usable_memory() / 2 } else { config.outboxes_bytes_max }
}

/// The mesh, each shard's inbox, and what rings when its bell is rung.
type MeshParts = (Arc<Mesh>, Vec<InboxReceiver>, Vec<Arc<OwnedFd>>);

fn make_mesh(shards: usize, links: Links) -> Result<MeshParts, String> {
    let mut bells: Vec<Box<dyn Bell>> = Vec::new();
    let mut descriptors = Vec::new();
    for _ in 0..shards {
        let bell = EventBell::new()
            .map_err(|error| format!("eventfd: {error}; raise the descriptor limit (ulimit -n)"))?;
        descriptors.push(bell.descriptor());
        bells.push(Box::new(bell));
    }
    let mut seed = [0; 4];
    for (number, bytes) in seed.iter_mut().zip(machine::random_seed().as_chunks().0) {
        *number = u64::from_ne_bytes(*bytes);
    }
    let (mesh, inboxes) = Mesh::with(bells, MeshOptions { seed, links, ..MeshOptions::default() });
    if let Some(salt) = machine::random_seed().first_chunk() {
        mesh.set_shard_key_salt(u64::from_ne_bytes(*salt));
    }
    Ok((mesh, inboxes, descriptors))
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
    /// Says until when certificates are valid.
    pub(crate) fn certificate_ends(&self) -> tls::CertificateEnds {
        #[cfg(feature = "tls")]
        if let Some(watch) = &self.certificates {
            let certificates = watch.certificates();
            return Box::new(move || certificates.ends());
        }
        Box::new(Vec::new)
    }

    /// What reads the certificates again, if there are any, and says how it went.
    pub(crate) fn certificates_reloader(&self) -> Option<impl Fn() + Send + use<>> {
        #[cfg(feature = "tls")]
        let certificates = self.certificates.as_ref()?.certificates();
        #[cfg(feature = "tls")]
        return Some(move || tls::watch::reload(&certificates));
        #[cfg(not(feature = "tls"))]
        None::<fn()>
    }

    /// Waits until every shard has stopped. An error if any of them died before it was asked to.
    pub(crate) fn join(self) -> Result<(), String> {
        let outcome = await_shards(self.threads);
        self.mesh.life.reach(Phase::Stopped);
        if let Some(EndReport { ended, cut, seconds }) = self.mesh.life.report() {
            tracing::info!(ended, cut, seconds, "the server's sessions have ended");
        }
        if !self.mesh.life.leaves_listeners() {
            stop::close_shared(&self.shared_listeners);
        }
        #[cfg(feature = "bus")]
        if let Some(companion) = self.companion {
            companion.stop();
        }
        outcome
    }
}

fn await_shards(threads: Vec<JoinHandle<bool>>) -> Result<(), String> {
    let shards = threads.len();
    let ends = threads.into_iter().map(JoinHandle::join);
    match ends.filter(|end| !matches!(end, Ok(true))).count() {
        0 => Ok(()),
        died => Err(format!(
            "{died} of {shards} shards died before the server was asked to stop; the log says why"
        )),
    }
}

fn spawn_shard(
    seat: Seat,
    backend: Backend,
    core: Option<usize>,
    reports: Reports,
) -> Result<JoinHandle<bool>, String> {
    let name = format!("shard-{}", seat.parts.id.0);
    let mesh = Arc::clone(&seat.parts.mesh);
    let retirement =
        Retirement { balance: seat.balance.clone(), mesh: Arc::clone(&mesh), shard: seat.parts.id };
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let _retirement = retirement;
        if let Some(core) = core
            && !machine::pin_to(core)
        {
            tracing::warn!(core, "could not pin a shard to its core; it runs unpinned");
        }
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        seat.parts.counters.meters.thread.set(thread.unsigned_abs().into());
        let Some((parts, ready)) = seat.take(reports) else { return true };
        match backend {
            Backend::Ring => ring::run(parts, ready),
            #[cfg(feature = "epoll")]
            Backend::Uring { .. } | Backend::Epoll => portable::run(parts, backend, ready),
        }
        mesh.is_stopping()
    });
    thread.map_err(|error| format!("cannot start a shard's thread: {error}"))
}

impl Seat {
    /// Builds the shard's handlers, and waits until those of all shards are built. `None`: the start is given up.
    fn take(self, reports: Reports) -> Option<(ShardParts, Sender<Result<(), String>>)> {
        let Seat { parts, start, inbox, bell, files, balance, clock, tls, listeners } = self;
        let Reports { built, ready } = reports;
        let (app, word) = match (start.app)(ShardInfo::new(parts.id, parts.mesh.len())) {
            Ok(app) => (Some(app), Ok(())),
            Err(fault) => (None, Err(fault)),
        };
        // The starter waits for this word from every shard.
        let _ = built.send((parts.id, word));
        drop(built);
        let (app, listeners) = (app?, listeners.recv().ok()?);
        Some((ShardParts { parts, app, start, inbox, bell, listeners, files, balance, clock, tls }, ready))
    }
}

/// Takes a shard out of the balance and the mesh when its thread ends, however that happens. If it was not asked to stop, the
/// log says so.
struct Retirement {
    balance: Balance,
    mesh: Arc<Mesh>,
    shard: ShardId,
}

impl Drop for Retirement {
    fn drop(&mut self) {
        self.balance.retire(self.shard);
        self.mesh.retire(self.shard);
        if self.mesh.must_report(self.shard) || std::thread::panicking() {
            let left =
                (0..self.mesh.len()).filter(|&shard| !self.mesh.is_gone(ShardId(shard as u16))).count();
            tracing::error!(
                shard = self.shard.0,
                left,
                "a shard has died: its clients are gone, and those that are left serve on; restart the server"
            );
        }
    }
}

/// Builds the shard of a thread, on that thread.
pub(crate) fn build_shard(parts: CoreParts, app: App, start: &Start) -> (Shard, Vec<LocalFuture>) {
    let info = ShardInfo::new(parts.id, parts.mesh.len());
    let tasks = (start.tasks)(info);
    (Shard::new(parts, app), tasks)
}

/// The shard where a connection that `here` accepted shall live; it is counted there. One that comes while the server stops
/// stays: the others may be gone before it is there. An operator's stays where a shard was free to accept it.
pub(crate) fn place_connection(balance: &Balance, mesh: &Mesh, here: ShardId, door: Door) -> ShardId {
    if mesh.is_stopping() || door == Door::Admin {
        balance.arrive(here);
        return here;
    }
    balance.place(here)
}

/// Sends a connection, which is counted there already, to another shard.
pub(crate) fn send_connection(mesh: &Mesh, balance: &Balance, to: ShardId, handoff: Handoff) {
    match mesh.send(to, ShardMessage::Handoff(Box::new(handoff))) {
        Ok(()) => mesh.ring(to),
        Err(InboxError::Full) => {
            balance.leave(to);
            tracing::error!(to = to.0, "a shard's inbox is full: a connection on its way there is closed");
        }
        // Between our look and now: who counted it there is gone as well.
        Err(InboxError::Gone) => {}
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // The threads of a test stand for shards'.
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_shards_died_does_not_end_well() {
        let shard = |end: fn() -> bool| std::thread::spawn(end);
        let panics = || -> bool { panic!("a shard of a test panics") };
        assert_eq!(await_shards(vec![shard(|| true), shard(|| true)]), Ok(()));
        for (threads, message) in [
            (vec![shard(|| true), shard(panics)], "1 of 2 shards died"),
            (vec![shard(|| false), shard(panics)], "2 of 2 shards died"),
        ] {
            assert!(await_shards(threads).is_err_and(|error| error.starts_with(message)), "{message}");
        }
    }

    #[test]
    fn a_shard_that_dies_is_taken_out_of_everything() {
        struct NoBell;
        impl Bell for NoBell {
            fn ring(&self) {}
        }
        let (mesh, _inboxes) = Mesh::new((0..2).map(|_| Box::new(NoBell) as Box<dyn Bell>).collect());
        let balance = Balance::new(2);
        let retirement = Retirement { balance: balance.clone(), mesh: Arc::clone(&mesh), shard: ShardId(1) };
        let thread = std::thread::spawn(move || {
            let _retirement = retirement;
            panic!("a shard of a test panics")
        });
        assert!(thread.join().is_err());
        assert!(mesh.is_gone(ShardId(1)) && !mesh.is_gone(ShardId(0)));
        assert!(!mesh.must_report(ShardId(1)), "it was said when it died");
        assert!((0..100).all(|_| balance.place(ShardId(0)) == ShardId(0)));
    }
}
