//! The shards of a [`TestServer`](super::TestServer), the wires to them, and the clock that only a test moves.
//!
//! Does what a driver does, in one thread and one order: whatever is sent arrives, whole and at once.

use std::cell::Cell;
use std::collections::HashMap;
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
use crate::mesh::{Bell, Handoff, InboxReceiver, Mesh, ShardMessage};
use crate::message::files::FileAnswer;
use crate::message::peer::Peer;
use crate::server::{Parts, Shared};
use crate::shard::core::CoreParts;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::effect::Output;
use crate::shard::value::files::FileWork;
use crate::shard::value::stats::ShardCounters;
use crate::shard::value::watch::ClockReader;
use crate::shard::{Shard, Turn};
use crate::testing::session::Session;

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
}

pub(super) struct Host {
    now: Time,
    /// The same, for the shards to ask while they work.
    clock: Arc<AtomicU64>,
    unix_origin: u64,
    shards: Vec<Shard>,
    inboxes: Vec<InboxReceiver>,
    mesh: Arc<Mesh>,
    wires: Vec<Wire>,
    places: HashMap<(usize, Key), WireId>,
    files: FileDesk,
    /// Work for the thread of files that a test holds up.
    held_files: Option<Vec<(usize, Key, FileWork)>>,
    /// Every client's session: pings are answered while time passes.
    pub(super) sessions: Vec<Session>,
}

impl Host {
    /// Builds every shard's handlers, as a driver does before it listens, and then the shards.
    pub(super) fn new(parts: &Parts, shards: usize, unix_millis: u64) -> Result<Host, String> {
        let bells = (0..shards).map(|_| Box::new(NoBell) as Box<dyn Bell>).collect();
        let (mesh, inboxes) = Mesh::new(bells);
        let counters: Vec<_> = (0..shards).map(|_| Arc::new(ShardCounters::default())).collect();
        parts.handle.connect(Shared { mesh: Arc::clone(&mesh), counters: counters.clone(), io: "test" });
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
            let core = CoreParts {
                id,
                config: Arc::clone(&parts.config),
                mesh: Arc::clone(&mesh),
                counters: Arc::clone(counters),
                seed: [index as u8 + 1; 32],
                now,
                unix_origin: unix_millis - now.0,
                clock: reader(&clock),
            };
            let info = ShardInfo::new(id, shards);
            let mut shard = Shard::new(core, app);
            (parts.tasks)(info).into_iter().for_each(|task| shard.spawn(task, now));
            shard
        });
        let shards = made.collect();
        Ok(Host {
            now,
            clock,
            unix_origin: unix_millis - now.0,
            shards,
            inboxes,
            mesh,
            wires: Vec::new(),
            places: HashMap::new(),
            files: FileDesk::new(parts.config.static_file_bytes_max),
            held_files: None,
            sessions: Vec::new(),
        })
    }

    pub(super) fn shards_len(&self) -> usize {
        self.shards.len()
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
        self.shards.iter().flat_map(|shard| shard.core.borrow().states.snapshots()).collect()
    }

    /// How many walks have slices to come.
    #[cfg(test)]
    pub(super) fn walks(&self) -> usize {
        self.shards.iter().map(|shard| shard.core.borrow().walks.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn settle_and_count_walks(&mut self) -> usize {
        self.settle();
        self.walks()
    }

    /// How many timers there are, those whose owner is gone included.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.shards.iter().map(|shard| shard.core.borrow().timers()).sum()
    }

    /// Connects to a shard. A connection that the shard refuses is over at once.
    pub(super) fn dial(&mut self, shard: usize, peer: Peer) -> WireId {
        let id = WireId(self.wires.len());
        let at = self.shards[shard].open(peer, self.now).map(|key| (shard, key));
        if let Some(at) = at {
            self.places.insert(at, id);
        }
        self.wires.push(Wire {
            at,
            to_server: Vec::new(),
            arrived: Vec::new(),
            is_over: at.is_none(),
            is_dropped: false,
            is_ended: false,
            is_stalled: false,
            is_unwanted: false,
        });
        id
    }

    pub(super) fn write(&mut self, id: WireId, bytes: &[u8]) {
        let wire = &mut self.wires[id.0];
        if !wire.is_over && !wire.is_dropped {
            wire.to_server.extend_from_slice(bytes);
        }
    }

    /// What has arrived and is not yet taken.
    pub(super) fn arrived(&mut self, id: WireId) -> &mut Vec<u8> {
        &mut self.wires[id.0].arrived
    }

    /// Whether the server has closed the connection.
    pub(super) fn is_over(&self, id: WireId) -> bool {
        self.wires[id.0].is_over
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
        self.wires[id.0].is_dropped = true;
    }

    /// Closes the half of a client's end that sends.
    #[cfg(test)]
    pub(super) fn end_wire(&mut self, id: WireId) {
        self.wires[id.0].is_ended = true;
    }

    /// From now on, what the thread of files has to do waits.
    #[cfg(test)]
    pub(super) fn hold_files(&mut self) {
        self.held_files = Some(Vec::new());
    }

    /// It goes on.
    #[cfg(test)]
    pub(super) fn release_files(&mut self) {
        for (shard, connection, work) in self.held_files.take().unwrap_or_default() {
            self.do_file_work(shard, connection, work);
        }
    }

    /// Takes at most so many bytes of what a client that does not read is owed.
    #[cfg(test)]
    pub(super) fn read_some(&mut self, id: WireId, count: usize) {
        let Some((shard, key)) = self.wires[id.0].at else { return };
        let mut core = self.shards[shard].core.borrow_mut();
        let Some(connection) = core.connections.get_mut(key) else { return };
        let bytes = connection.outbox.to_bytes();
        let bytes = &bytes[..count.min(bytes.len())];
        self.wires[id.0].arrived.extend_from_slice(bytes);
        core.sent(key, bytes.len());
    }

    /// Whether the client reads what is sent to it.
    pub(super) fn set_reading(&mut self, id: WireId, is_reading: bool) {
        self.wires[id.0].is_stalled = !is_reading;
    }

    /// Lets everything happen that can happen now.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            // What handlers say that they took has passed for everybody.
            self.now = self.now + SPENT.take();
            self.clock.store(self.now.0, Ordering::Relaxed);
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
            let mut turn = Turn::default();
            self.shards[shard].end_turn(&mut turn);
            self.finish_turn(shard, turn);
        }
    }

    /// A client that reads nothing takes this much all the same.
    #[cfg(test)]
    pub(super) fn take_part(&mut self, id: WireId, bytes: usize) {
        let Some((shard, key)) = self.wires[id.0].at else { return };
        let mut core = self.shards[shard].core.borrow_mut();
        core.now = self.now;
        let owed =
            core.connections.get(key).map(|connection| connection.outbox.to_bytes()).unwrap_or_default();
        let taken = bytes.min(owed.len());
        self.wires[id.0].arrived.extend_from_slice(&owed[..taken]);
        core.sent(key, taken);
    }

    /// What is counted as owed must be what is queued.
    fn check_counts(&self) {
        #[cfg(test)]
        for shard in &self.shards {
            let core = shard.core.borrow();
            assert_eq!(core.owed.bytes(), core.owed_by_all(), "bytes that are owed are counted otherwise");
            assert_eq!(
                core.partial_bytes,
                core.partial_of_all(),
                "bytes of what is not whole are counted otherwise"
            );
        }
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
        for index in 0..self.wires.len() {
            let wire = &mut self.wires[index];
            let Some((shard, key)) = wire.at else { continue };
            if !wire.to_server.is_empty() && !wire.is_unwanted {
                let mut bytes = std::mem::take(&mut wire.to_server);
                self.shards[shard].receive(key, &mut bytes, self.now);
                has_worked = true;
            } else if !wire.is_unwanted && std::mem::take(&mut wire.is_ended) {
                self.shards[shard].ended(key, self.now);
                has_worked = true;
            } else if wire.is_dropped && !wire.is_unwanted {
                self.forget(WireId(index));
                self.shards[shard].closed(key, self.now);
                has_worked = true;
            } else if !wire.is_stalled {
                has_worked |= self.flush(WireId(index));
            }
            self.do_outputs(shard);
        }
        has_worked
    }

    /// One turn of a shard: its mail, its tasks, its timers, and what they leave to do.
    fn run(&mut self, shard: usize) -> bool {
        let mut has_worked = false;
        while let Some(message) = self.inboxes[shard].next_message() {
            self.receive_message(shard, message);
            has_worked = true;
        }
        while let Some(task) = self.inboxes[shard].next_wake() {
            self.shards[shard].wake(task, self.now);
            has_worked = true;
        }
        if self.shards[shard].next_timeout() <= self.now {
            self.shards[shard].handle_timeout(self.now);
            has_worked = true;
        }
        while self.shards[shard].go_on(self.now) {
            self.do_outputs(shard);
            has_worked = true;
        }
        let mut turn = Turn::default();
        self.shards[shard].end_turn(&mut turn);
        has_worked |= self.shards[shard].is_unfinished();
        has_worked |= !turn.dirty.is_empty() || !turn.outputs.is_empty();
        self.finish_turn(shard, turn);
        has_worked
    }

    fn finish_turn(&mut self, shard: usize, turn: Turn) {
        for output in turn.outputs {
            self.do_output(shard, output);
        }
        for key in turn.dirty {
            if let Some(connection) = self.shards[shard].core.borrow_mut().connections.get_mut(key) {
                connection.is_dirty = false;
            }
            if let Some(&id) = self.places.get(&(shard, key)) {
                self.flush(id);
            }
        }
    }

    fn receive_message(&mut self, shard: usize, message: ShardMessage) {
        let ShardMessage::Handoff(handoff) = message else {
            return self.shards[shard].deliver(message, self.now);
        };
        let Handoff { wire, arrival, owed, mut unread } = *handoff;
        let id = *wire.downcast::<WireId>().expect("a test's handoffs carry a wire's id");
        let adopted = self.shards[shard].adopt(arrival, &owed, &unread, self.now);
        let Some(key) = adopted else {
            self.wires[id.0].is_over = true;
            return;
        };
        self.places.insert((shard, key), id);
        self.wires[id.0].at = Some((shard, key));
        self.wires[id.0].is_unwanted = false;
        self.shards[shard].receive(key, &mut unread, self.now);
        self.do_outputs(shard);
    }

    fn do_outputs(&mut self, shard: usize) {
        for output in self.shards[shard].take_outputs() {
            self.do_output(shard, output);
        }
    }

    fn do_output(&mut self, shard: usize, output: Output) {
        match output {
            // What has not left yet is lost, as with the real wires.
            Output::Close { connection, .. } => {
                if let Some(id) = self.forget_key(shard, connection) {
                    self.wires[id.0].is_over = true;
                }
            }
            Output::ShutdownWrite(connection) => {
                if let Some(id) = self.places.get(&(shard, connection)) {
                    self.wires[id.0].is_over = true;
                }
            }
            Output::Handoff { connection, to, arrival, outbox, unread } => {
                let Some(id) = self.forget_key(shard, connection) else { return };
                let handoff = Handoff { wire: Box::new(id), arrival, owed: outbox.to_bytes(), unread };
                let sent = self.mesh.send(to, ShardMessage::Handoff(Box::new(handoff)));
                self.wires[id.0].is_over = sent.is_err();
            }
            Output::StopReading(connection) | Output::StartReading(connection) => {
                if let Some(id) = self.places.get(&(shard, connection)) {
                    self.wires[id.0].is_unwanted = matches!(output, Output::StopReading(_));
                }
            }
            Output::File { connection, work } => match &mut self.held_files {
                Some(held) => held.push((shard, connection, work)),
                None => self.do_file_work(shard, connection, work),
            },
        }
    }

    fn do_file_work(&mut self, shard: usize, connection: Key, work: FileWork) {
        let answer = FileAnswer { connection, outcome: self.files.perform(work) };
        self.shards[shard].deliver(ShardMessage::File(Box::new(answer)), self.now);
    }

    /// Carries what a connection is owed to its client, unless that reads nothing.
    fn flush(&mut self, id: WireId) -> bool {
        let wire = &mut self.wires[id.0];
        let Some((shard, key)) = wire.at.filter(|_| !wire.is_stalled) else { return false };
        let mut core = self.shards[shard].core.borrow_mut();
        let mut has_sent = false;
        while let Some(connection) = core.connections.get_mut(key) {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = connection.outbox.gather(&mut slices);
            let bytes = slices[..count].iter().map(|slice| &**slice).collect::<Vec<_>>().concat();
            if bytes.is_empty() {
                core.finish_flush(key);
                break;
            }
            wire.arrived.extend_from_slice(&bytes);
            core.sent(key, bytes.len());
            has_sent = true;
        }
        has_sent
    }

    fn forget(&mut self, id: WireId) {
        if let Some(at) = self.wires[id.0].at.take() {
            self.places.remove(&at);
        }
    }

    fn forget_key(&mut self, shard: usize, key: Key) -> Option<WireId> {
        let id = self.places.get(&(shard, key)).copied()?;
        self.forget(id);
        Some(id)
    }
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
        let mut turn = Turn::default();
        host.shards[0].end_turn(&mut turn);
        assert_eq!(turn.dirty.len(), clients.len(), "each connection is to be sent to once");
        let core = host.shards[0].core.borrow();
        for key in turn.dirty {
            let owed = core.connections.get(key).expect("a client is there").outbox.to_bytes();
            assert_eq!(crate::protocol::websocket::frame::server_frames(&owed).count(), 10);
        }
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
