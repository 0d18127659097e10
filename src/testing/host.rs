//! The shards of a [`TestServer`](super::TestServer), the wires to them, and the clock that only a test moves.
//!
//! Does what a driver does, in one thread and one order: whatever is sent arrives, whole and at once.

use std::any::Any;
use std::cell::Cell;
use std::convert::Infallible;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(test)]
use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::driver::files::FileDesk;
use crate::driver::setups_agree;
use crate::mesh::life::Phase;
use crate::mesh::{Bell, InboxReceiver, Mesh, ShardMessage};
use crate::message::files::FileAnswer;
use crate::message::peer::Arrival;
use crate::server::running::Reloads;
use crate::server::{Parts, Shared};
use crate::shard::CoreParts;
use crate::shard::Shard;
use crate::shard::seam::{Leaving, Unsent, Wires};
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::stats::ShardCounters;
use crate::shard::value::watch::{ClockReader, Stopwatch};
use crate::testing::session::Session;
use crate::testing::wire_places::WirePlaces;

/// Pieces of an outbox that are taken at a time.
const SLICES_MAX: usize = 16;

/// Rounds of work at one moment after which a server is said to run in circles.
const ROUNDS_MAX: usize = 1_000_000;

thread_local! {
    /// How long the handlers that ran in this round say they took.
    static SPENT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Says that the code which calls it has worked for so long. A test's clock stands still while a handler runs, so this is how a
/// test shows what a slow one does: to ticks, to other clients, in the log.
///
/// ```
/// use std::time::Duration;
/// use shardcast::testing::{TestServer, spend};
/// use shardcast::{Config, Context, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("report", |_: &mut Context| spend(Duration::from_millis(300)));
/// });
/// let server = TestServer::new(server).unwrap();
/// server.connect("/").unwrap().emit("report", ());
/// assert_eq!(server.handle().stats()[0].handlers_slow, 1);
/// ```
pub fn spend(duration: Duration) {
    SPENT.set(SPENT.get() + duration);
}

/// The clock that a shard asks while it works.
fn reader(clock: &Arc<AtomicU64>) -> ClockReader {
    let clock = Arc::clone(clock);
    Arc::new(move || Time(clock.load(Ordering::Relaxed)) + SPENT.get())
}

/// The same in nanoseconds.
fn stopwatch(clock: &Arc<AtomicU64>) -> Stopwatch {
    let reader = reader(clock);
    Arc::new(move || reader().0 * 1_000_000)
}

/// A bell that does nothing: the host looks into every inbox.
struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

/// A connection to a shard, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WireId(usize);

#[derive(Debug)]
struct Wire {
    /// The shard that has it; `None` while it travels or once it is closed.
    at: Option<(usize, Key)>,
    to_server: Vec<u8>,
    arrived: Vec<u8>,
    /// The server closed its end.
    is_over: bool,
    /// The connection is broken: the server hears of it once it has read what was sent.
    is_dropped: bool,
    /// The client has said all it will, and still reads. The server is told once it has read what was sent.
    is_ended: bool,
    /// The client reads nothing.
    is_stalled: bool,
    /// The shard takes nothing more for now.
    is_unwanted: bool,
    /// Sends that it has carried.
    #[cfg(test)]
    sends: usize,
}

/// Every connection, and the thread of files.
struct Lines {
    wires: Vec<Wire>,
    places: WirePlaces<WireId>,
    mesh: Arc<Mesh>,
    files: FileDesk,
    /// Work for the thread of files that a test holds up.
    held_files: Option<Vec<(usize, Key, FileWork)>>,
    /// Something was done for a shard since this was last looked at.
    has_worked: bool,
}

/// The wires of one shard.
struct ShardLines<'a> {
    lines: &'a mut Lines,
    shard: usize,
}

pub(super) struct Host {
    now: Time,
    /// The same, for the shards to ask while they work.
    clock: Arc<AtomicU64>,
    unix_origin: u64,
    shards: Vec<Shard>,
    inboxes: Vec<InboxReceiver>,
    lines: Lines,
    /// Every client's session: pings are answered while time passes.
    pub(super) sessions: Vec<Session>,
}

impl Host {
    /// Builds every shard's handlers, as a driver does before it listens, and then the shards.
    pub(super) fn new(parts: &Parts, shards: usize, unix_millis: u64) -> Result<Host, String> {
        let bells = (0..shards).map(|_| Box::new(NoBell) as Box<dyn Bell>).collect();
        let (mesh, inboxes) = Mesh::new(bells);
        let counters: Vec<_> = (0..shards).map(|_| Arc::new(ShardCounters::default())).collect();
        mesh.life.reach(Phase::Ready);
        parts.handle.connect(Shared {
            mesh: Arc::clone(&mesh),
            counters: counters.clone(),
            io: "test",
            reloads: Reloads::new(Arc::clone(&parts.config), None),
            certificate_ends: Box::new(Vec::new),
            io_reason: String::new(),
            started_unix_millis: 0,
        });
        let (mut apps, mut words) = (Vec::new(), Vec::new());
        for id in (0..shards).map(|index| ShardId(index as u16)) {
            let built = (parts.app)(ShardInfo::new(id, shards));
            words.push((id, built.map(|app| apps.push(app))));
        }
        setups_agree(words)?;
        let now = Time(1);
        let clock = Arc::new(AtomicU64::new(now.0));
        let made = counters.iter().zip(apps).enumerate().map(|(index, (counters, app))| {
            let id = ShardId(index as u16);
            let parts_of_shard = CoreParts {
                id,
                config: Arc::clone(&parts.config),
                mesh: Arc::clone(&mesh),
                counters: Arc::clone(counters),
                seed: [index as u8 + 1; 32],
                now,
                unix_origin: unix_millis - now.0,
                clock: reader(&clock),
                stopwatch: stopwatch(&clock),
            };
            let info = ShardInfo::new(id, shards);
            let mut shard = Shard::new(parts_of_shard, app);
            (parts.tasks)(info).into_iter().for_each(|task| shard.spawn(task, now));
            shard
        });
        let shards: Vec<_> = made.collect();
        Ok(Host {
            now,
            clock,
            unix_origin: unix_millis - now.0,
            lines: Lines {
                wires: Vec::new(),
                places: WirePlaces::new(shards.len()),
                mesh,
                files: FileDesk::new(parts.config.static_file_bytes_max),
                held_files: None,
                has_worked: false,
            },
            shards,
            inboxes,
            sessions: Vec::new(),
        })
    }

    pub(super) fn shards_len(&self) -> usize {
        self.shards.len()
    }

    /// What a shard keeps of a table.
    #[cfg(test)]
    pub(super) fn table(&self, shard: usize, name: &str) -> usize {
        let tables = self.shards[shard].tables();
        tables.iter().find(|(table, _)| *table == name).map_or(usize::MAX, |(_, len)| *len)
    }

    pub(super) fn unix_millis(&self) -> u64 {
        self.unix_origin + self.now.0
    }

    /// Sets the wall clock, and tells every shard.
    pub(super) fn set_unix_millis(&mut self, unix_millis: u64) {
        self.unix_origin = unix_millis.saturating_sub(self.now.0);
        for shard in &mut self.shards {
            shard.set_wall_clock(unix_millis, self.now);
        }
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// When the first shard wants to be woken.
    #[cfg(test)]
    pub(super) fn next_timeout(&self) -> Time {
        self.shards.iter().map(Shard::next_timeout).min().unwrap_or(Time::NEVER)
    }

    /// The encoded snapshots that state rooms keep.
    #[cfg(test)]
    pub(super) fn snapshots(&self) -> Vec<SharedFrame> {
        self.shards.iter().flat_map(Shard::snapshots).collect()
    }

    /// How many walks have slices to come.
    #[cfg(test)]
    pub(super) fn walks(&self) -> usize {
        self.shards.iter().map(Shard::walks).sum()
    }

    #[cfg(test)]
    pub(super) fn settle_and_count_walks(&mut self) -> usize {
        self.settle();
        self.walks()
    }

    /// How many timers there are, those whose owner is gone included.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.shards.iter().map(Shard::timers).sum()
    }

    /// Connects to a shard. A connection that the shard refuses is over at once.
    pub(super) fn dial(&mut self, shard: usize, arrival: impl Into<Arrival>) -> WireId {
        let id = WireId(self.lines.wires.len());
        let at =
            self.shards[shard].open(arrival, self.now, &mut self.lines.of(shard)).map(|key| (shard, key));
        if let Some(at) = at {
            self.lines.places.put(at.0, at.1, id);
        }
        self.lines.wires.push(Wire {
            at,
            to_server: Vec::new(),
            arrived: Vec::new(),
            is_over: at.is_none(),
            is_dropped: false,
            is_ended: false,
            is_stalled: false,
            is_unwanted: false,
            #[cfg(test)]
            sends: 0,
        });
        id
    }

    pub(super) fn write(&mut self, id: WireId, bytes: &[u8]) {
        let wire = &mut self.lines.wires[id.0];
        if !wire.is_over && !wire.is_dropped {
            wire.to_server.extend_from_slice(bytes);
        }
    }

    /// What has arrived and is not yet taken.
    pub(super) fn arrived(&mut self, id: WireId) -> &mut Vec<u8> {
        &mut self.lines.wires[id.0].arrived
    }

    /// Whether the server has closed the connection.
    pub(super) fn is_over(&self, id: WireId) -> bool {
        self.lines.wires[id.0].is_over
    }

    /// Asks the shards to stop.
    #[cfg(test)]
    pub(super) fn stop(&mut self) {
        for shard in &mut self.shards {
            shard.deliver(ShardMessage::Shutdown, self.now);
        }
    }

    /// Closes the client's end.
    pub(super) fn drop_wire(&mut self, id: WireId) {
        self.lines.wires[id.0].is_dropped = true;
    }

    /// Closes the half of a client's end that sends.
    #[cfg(test)]
    pub(super) fn end_wire(&mut self, id: WireId) {
        self.lines.wires[id.0].is_ended = true;
    }

    /// From now on, what the thread of files has to do waits.
    #[cfg(test)]
    pub(super) fn hold_files(&mut self) {
        self.lines.held_files = Some(Vec::new());
    }

    /// It goes on.
    #[cfg(test)]
    pub(super) fn release_files(&mut self) {
        for (shard, connection, work) in self.lines.held_files.take().unwrap_or_default() {
            let answer = FileAnswer { connection, outcome: self.lines.files.perform(work) };
            self.shards[shard].deliver(ShardMessage::File(Box::new(answer)), self.now);
        }
    }

    /// A client that reads nothing takes at most so many bytes of what it is owed.
    #[cfg(test)]
    pub(super) fn take_part(&mut self, id: WireId, count: usize) {
        let Some((shard, key)) = self.lines.wires[id.0].at else { return };
        let shard = &mut self.shards[shard];
        let owed = shard.owed_bytes(key).unwrap_or_default();
        let taken = &owed[..count.min(owed.len())];
        self.lines.wires[id.0].arrived.extend_from_slice(taken);
        shard.sent(key, taken.len(), self.now);
    }

    /// Whether the client reads what is sent to it.
    pub(super) fn set_reading(&mut self, id: WireId, is_reading: bool) {
        self.lines.wires[id.0].is_stalled = !is_reading;
        if let Some((shard, key)) = self.lines.wires[id.0].at.filter(|_| is_reading) {
            self.shards[shard].writable(key, self.now);
        }
    }

    /// Lets everything happen that can happen now.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            // What handlers say that they took has passed for everybody.
            self.now = self.now + SPENT.take();
            self.clock.store(self.now.0, Ordering::Relaxed);
            let at = Duration::from_millis(self.now.0);
            self.shards.iter().for_each(|shard| shard.begin_turn(at));
            let mut has_worked = self.carry();
            for shard in 0..self.shards.len() {
                has_worked |= self.run(shard);
            }
            for index in 0..self.sessions.len() {
                has_worked |= Session::pump(self, index);
            }
            if !has_worked {
                return self.check_counts();
            }
        }
        panic!("the server does not come to rest: does a task wake itself for ever?");
    }

    /// One round of what [`settle`](Host::settle) repeats, without the clients' part.
    #[cfg(test)]
    pub(super) fn carry_once(&mut self) {
        self.carry();
        for shard in 0..self.shards.len() {
            self.end_turn(shard);
        }
    }

    /// What is counted as owed must be what is queued.
    fn check_counts(&self) {
        #[cfg(test)]
        self.shards.iter().for_each(Shard::check_counts);
    }

    /// Moves the clock, and does what falls due on the way, each at its time.
    pub(super) fn advance(&mut self, duration: Duration) {
        self.settle();
        let until = self.now + duration;
        loop {
            let next = self.shards.iter().map(Shard::next_timeout).min().unwrap_or(Time::NEVER);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = self.now.max(until);
    }

    /// Brings what clients sent to the shards.
    fn carry(&mut self) -> bool {
        let mut has_worked = false;
        for index in 0..self.lines.wires.len() {
            let wire = &mut self.lines.wires[index];
            let Some((shard, key)) = wire.at.filter(|_| !wire.is_unwanted) else { continue };
            if !wire.to_server.is_empty() {
                let (mut bytes, spent) = (std::mem::take(&mut wire.to_server), SPENT.get());
                self.shards[shard].receive(key, &mut bytes, self.now, &mut self.lines.of(shard));
                self.count_spent(shard, spent);
            } else if std::mem::take(&mut wire.is_ended) {
                self.shards[shard].ended(key, self.now);
            } else if wire.is_dropped {
                self.lines.forget(shard, key);
                self.shards[shard].closed(key, self.now);
            } else {
                continue;
            }
            has_worked = true;
        }
        has_worked
    }

    /// One turn of a shard, in a driver's order: its mail, its timers, what waits for a share, and what they leave to do.
    fn run(&mut self, shard: usize) -> bool {
        let spent = SPENT.get();
        let (now, wires) = (self.now, &mut self.lines.of(shard));
        let (shard_at, inbox) = (&mut self.shards[shard], &self.inboxes[shard]);
        let mut has_worked = !inbox.is_empty();
        while shard_at.take_mail(inbox, || now, wires) {}
        if shard_at.next_timeout() <= now {
            shard_at.handle_timeout(now);
            has_worked = true;
        }
        has_worked |= shard_at.is_unfinished();
        shard_at.go_on(now, || false, wires);
        self.end_turn(shard);
        self.count_spent(shard, spent);
        has_worked |= self.shards[shard].is_unfinished();
        std::mem::take(&mut self.lines.has_worked) || has_worked
    }

    /// What handlers of a shard took has held it up, as a driver sees by its clock.
    fn count_spent(&self, shard: usize, before: Duration) {
        let spent = SPENT.get().saturating_sub(before);
        if !spent.is_zero() {
            self.shards[shard].note_held(spent);
        }
    }

    fn end_turn(&mut self, shard: usize) {
        while self.shards[shard].end_turn(&mut self.lines.of(shard)) {}
        let at = Duration::from_millis(self.now.0);
        self.shards[shard].count_busy(at);
        self.shards[shard].count_sent(at);
    }
}

impl Lines {
    /// The wires of a shard.
    fn of(&mut self, shard: usize) -> ShardLines<'_> {
        ShardLines { lines: self, shard }
    }

    fn forget(&mut self, shard: usize, key: Key) -> Option<WireId> {
        let id = self.places.take(shard, key)?;
        self.wires[id.0].at = None;
        Some(id)
    }
}

impl ShardLines<'_> {
    fn wire(&mut self, key: Key) -> Option<&mut Wire> {
        let id = self.lines.places.get(self.shard, key)?;
        Some(&mut self.lines.wires[id.0])
    }
}

impl Wires for ShardLines<'_> {
    fn attach(&mut self, wire: Box<dyn Any + Send>, key: Option<Key>) -> bool {
        let id = *wire.downcast::<WireId>().expect("a test's handoffs carry a wire's id");
        let wire = &mut self.lines.wires[id.0];
        wire.is_unwanted = false;
        wire.is_over = key.is_none();
        wire.at = key.map(|key| (self.shard, key));
        if let Some((shard, key)) = wire.at {
            self.lines.places.put(shard, key, id);
        }
        true
    }

    fn may_flush(&mut self, waiting: usize) -> bool {
        self.lines.has_worked |= waiting > 0;
        true
    }

    fn flush_wire(&mut self, key: Key, mut unsent: Unsent<'_>) {
        let Some(wire) = self.wire(key).filter(|wire| !wire.is_stalled) else { return };
        let mut take = |slices: &[IoSlice<'_>]| {
            let before = wire.arrived.len();
            slices.iter().for_each(|slice| wire.arrived.extend_from_slice(slice));
            #[cfg(test)]
            {
                wire.sends += 1;
            }
            Ok::<_, Infallible>(wire.arrived.len() - before)
        };
        while let Ok(true) = unsent.transmit::<SLICES_MAX, _>(&mut take) {}
    }

    /// What has not left yet is lost, as with the real wires.
    fn close_wire(&mut self, key: Key, _outbox: Outbox) {
        self.lines.has_worked = true;
        if let Some(id) = self.lines.forget(self.shard, key) {
            self.lines.wires[id.0].is_over = true;
        }
    }

    fn shut_down_write(&mut self, key: Key) {
        self.lines.has_worked = true;
        if let Some(wire) = self.wire(key) {
            wire.is_over = true;
        }
    }

    fn hand_over(&mut self, key: Key, to: ShardId, leaving: Leaving) {
        self.lines.has_worked = true;
        let Some(id) = self.lines.forget(self.shard, key) else { return };
        let handoff = ShardMessage::Handoff(Box::new(leaving.with_wire(Box::new(id))));
        self.lines.wires[id.0].is_over = self.lines.mesh.send(to, handoff).is_err();
    }

    fn set_wanted(&mut self, key: Key, is_wanted: bool) {
        self.lines.has_worked = true;
        if let Some(wire) = self.wire(key) {
            wire.is_unwanted = !is_wanted;
        }
    }

    fn do_file_work(&mut self, key: Key, work: FileWork) -> Option<FileAnswer> {
        self.lines.has_worked = true;
        if let Some(held) = &mut self.lines.held_files {
            held.push((self.shard, key, work));
            return None;
        }
        Some(FileAnswer { connection: key, outcome: self.lines.files.perform(work) })
    }

    /// The host looks into every inbox.
    fn ring_bell(&mut self, _shard: ShardId) {}
}

impl Drop for Host {
    fn drop(&mut self) {
        // A task that holds a socket would keep its shard alive.
        self.shards.iter_mut().for_each(Shard::drop_tasks);
    }
}

/// The host, shared by a test's server and its clients.
pub(super) type SharedHost = Rc<std::cell::RefCell<Host>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestServer;
    use crate::{Config, Server};

    #[test]
    fn everything_that_a_tick_emits_leaves_in_one_send_a_socket() {
        let server = Server::new(Config::default()).namespace("/", |io| {
            io.every(Duration::from_millis(20), |tick| {
                for part in 0..10 {
                    tick.broadcast().emit("state", (tick.number(), part));
                }
            });
        });
        let server = TestServer::new(server).expect("the server is sound");
        let clients = [0, 1, 2].map(|_| server.connect("/").expect("everybody may"));
        let mut host = server.host.borrow_mut();
        let next = host.shards[0].next_timeout();
        assert_eq!(next, Time(21), "a tick is on time to the millisecond");
        host.now = next;
        host.shards[0].handle_timeout(next);
        let before: Vec<usize> = host.lines.wires.iter().map(|wire| wire.sends).collect();
        host.end_turn(0);
        for (wire, before) in host.lines.wires.iter().zip(before) {
            assert_eq!(wire.sends, before + 1, "each connection is sent to once");
            assert_eq!(crate::protocol::websocket::frame::server_frames(&wire.arrived).count(), 10);
        }
        assert_eq!(host.lines.wires.len(), clients.len());
    }

    #[test]
    fn a_shard_that_was_held_up_makes_up_for_three_ticks() {
        let server = Server::new(Config::default()).namespace("/", |io| {
            io.every(Duration::from_millis(10), |tick| {
                let lateness = tick.lateness().as_millis() as u64;
                tick.broadcast().emit("tick", (tick.number(), tick.skipped(), lateness));
            });
            io.every(Duration::from_millis(15), |_| panic!("a tick of a test panics"));
        });
        let server = TestServer::new(server).expect("the server is sound");
        let client = server.connect("/").expect("everybody may");
        server.advance(Duration::from_millis(10));
        // The shard sleeps through the next seven.
        server.host.borrow_mut().now = Time(81);
        server.host.borrow_mut().settle();
        let ticks: Vec<String> = client.received().iter().map(|tick| tick.args().raw().to_owned()).collect();
        assert_eq!(ticks, ["0,0,0", "5,4,20", "6,0,10", "7,0,0"]);
        let stats = server.handle().stats()[0];
        // Of the other ticker's five, two are made up for beyond the first three's bound.
        assert_eq!((stats.ticks_skipped, stats.handler_panics), (4 + 2, 3));
    }
}
