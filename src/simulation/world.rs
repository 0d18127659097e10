//! Shards, wires and time: everything between the clients and the handlers, moved one step at a time.
//!
//! A [`World`] does what a driver does, but each step is drawn from one seed: which wire brings how many bytes,
//! how much of an outbox leaves, when a turn ends, when mail is read. Bytes on one wire keep their order.

use std::any::Any;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::base::ids::{NodeTag, ShardId};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::config::Config;
use crate::mesh::life::Phase;
use crate::mesh::link::{Link, LinkBounds, LinkReceiver, Links};
use crate::mesh::{Bell, INBOX_MESSAGES_MAX, InboxReceiver, Mesh, MeshOptions, ShardMessage};
use crate::message::files::FileAnswer;
use crate::message::peer::Peer;
use crate::server::Shared;
use crate::server::admin_ui::Apart;
use crate::server::handle::Handle;
use crate::server::running::Reloads;
use crate::shard::CoreParts;
use crate::shard::Shard;
use crate::shard::seam::{Leaving, Unsent, Wires};
use crate::shard::user::app::App;
use crate::shard::user::shard_info::ShardInfo;
use crate::shard::value::files::FileWork;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::stats::ShardCounters;
use crate::simulation::app::SECOND_PATH;
use crate::testing::wire_places::WirePlaces;

/// What the kernel takes for a peer that does not read.
const WINDOW_BYTES: usize = 64 * 1024;

/// Pieces of an outbox that one send carries.
const SLICES_PER_SEND_MAX: usize = 8;

/// Connections that one turn sends to: few, so that turns with more are looked at too.
const FLUSHES_PER_TURN_MAX: usize = 4;

/// Bytes that wait for a broker; more than is ever said.
const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Steps without a pause of the clock after which a world is said to be running in circles.
const STEPS_PER_INSTANT_MAX: usize = 2_000_000;

/// For how long a shard may leave its inbox alone. Shorter than any time that shards give each other.
const MAIL_PAUSE_MILLIS_MAX: usize = 300;

/// Steps between two looks for wires that are over.
const DEAD_WIRES_LOOKED_FOR_EVERY: usize = 64;

/// The one source of chance.
pub(super) struct Random(ChaCha12Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(ChaCha12Rng::seed_from_u64(seed))
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Part of a length: all of it more often than not.
    fn part(&mut self, len: usize, is_cutting: bool) -> usize {
        if is_cutting && len > 1 && self.chance(40) { 1 + self.below(len) } else { len }
    }
}

/// A bell that does nothing: the scheduler looks into every inbox.
pub(super) struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WireId(pub(super) usize);

/// Who holds the server's end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerEnd {
    At(usize, Key),
    /// In an inbox, between two shards.
    Travelling,
    Closed,
}

/// A connection between a client and whichever shard has it.
#[derive(Debug)]
pub(super) struct Wire {
    server: ServerEnd,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// What the client has got and not yet read.
    pub(super) arrived: Vec<u8>,
    /// The client whose wire it is; a pooled one has none.
    pub(super) owner: Option<usize>,
    /// The client said that it sends no more.
    is_client_done: bool,
    /// The client has closed both ways: what is still sent to it is lost.
    is_client_gone: bool,
    /// The client broke the connection instead of closing it.
    is_reset: bool,
    /// The server has read the client's end.
    has_ended: bool,
    /// The server said so.
    is_server_done: bool,
    /// The client has read the server's end.
    pub(super) is_over: bool,
    /// The client reads nothing.
    pub(super) is_stalled: bool,
    /// The shard takes nothing more for now.
    is_unwanted: bool,
    /// The last send could not be completed: the driver waits.
    is_blocked: bool,
    /// A send under way, with the bytes as they were when it began.
    sending: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Receive(WireId),
    EndOfInput(WireId),
    GoOnSending(WireId),
    FinishSend(WireId),
    Arrive(WireId),
    EndOfOutput(WireId),
    EndTurn(usize),
    GoOn(usize),
    Mail(usize),
    Wake(usize),
    Timeout(usize),
}

/// What a world is like.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) shards: usize,
    pub(super) config: Config,
    /// Bytes are cut at random places, sends are partial, and the time of a turn may be over when bytes come.
    pub(super) is_cutting: bool,
    /// Sends complete later, as a ring's do: their segments must not change meanwhile.
    pub(super) has_slow_sends: bool,
    /// Time passes between steps, a little at a time.
    pub(super) has_jitter: bool,
    /// Now and then a shard does not look into its inbox for a while.
    pub(super) has_slow_mesh: bool,
    /// Messages that an inbox holds, if fewer than usual: the rest is lost.
    pub(super) inbox_messages_max: Option<usize>,
    /// Slots of the table that says which shards have which rooms, if fewer than usual: rooms collide.
    pub(super) interest_slots_max: Option<usize>,
    /// It is one of several processes, with this tag, and speaks to the others at both endpoints.
    pub(super) node: Option<NodeTag>,
}

impl Default for Weather {
    /// One shard, and everything arrives whole and at once.
    fn default() -> Weather {
        Weather {
            shards: 1,
            config: Config::default(),
            is_cutting: false,
            has_slow_sends: false,
            has_jitter: false,
            has_slow_mesh: false,
            inbox_messages_max: None,
            interest_slots_max: None,
            node: None,
        }
    }
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) shards: Vec<Shard>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) counters: Vec<Arc<ShardCounters>>,
    /// What another thread would hold.
    pub(super) handle: Handle,
    pub(super) wires: Vec<Wire>,
    /// Kept-alive wires that no request is on, with the time they were put here; any client takes any, as behind
    /// a proxy.
    pub(super) pool: Vec<(WireId, Time)>,
    /// The way to other processes, if it is one of several.
    pub(super) line: Option<(Arc<Link>, LinkReceiver)>,
    inboxes: Vec<InboxReceiver>,
    /// When each shard looks into its inbox again.
    mail_after: Vec<Time>,
    places: WirePlaces<WireId>,
    has_work: Vec<bool>,
    weather: Weather,
    actions: Vec<Action>,
    /// Wires on which anything can still happen.
    live: Vec<WireId>,
    /// Orders everything that clients do and see.
    pub(super) moment: usize,
    steps_in_instant: usize,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather, app: impl Fn(ShardInfo) -> App) -> World {
        let mut random = Random::new(seed);
        let bounds = LinkBounds { bytes_max: LINK_BYTES_MAX, message_bytes_max: usize::MAX };
        let line = weather.node.map(|tag| Link::new(tag, bounds, false, Box::new(NoBell)));
        let line = line.map(|(link, receiver)| (Arc::new(link), receiver));
        let links = line.as_ref().zip(weather.node).map(|((link, _), tag)| {
            let paths = [None, Some(SECOND_PATH.into())];
            let process = u64::from_le_bytes([tag.0[0], tag.0[1], tag.0[2], 0, 0, 0, 0, 0]);
            Links::new(tag, process, paths.map(|path| (path, Arc::clone(link))).into())
        });
        let bells = (0..weather.shards).map(|_| Box::new(NoBell) as Box<dyn Bell>).collect();
        let options = MeshOptions {
            messages_max: weather.inbox_messages_max.unwrap_or(INBOX_MESSAGES_MAX),
            // So few that every world sees inboxes with more than they have places for.
            places: 2,
            seed: [1, 2, 3, 4],
            interest_slots_max: weather.interest_slots_max.unwrap_or(usize::MAX),
            links: links.unwrap_or_default(),
        };
        let (mesh, inboxes) = Mesh::with(bells, options);
        let config = Arc::new(weather.config.clone());
        let counters: Vec<_> = (0..weather.shards).map(|_| Arc::new(ShardCounters::default())).collect();
        let handle = Handle::new(&config.engine.path);
        mesh.life.reach(Phase::Ready);
        handle.connect(Shared {
            mesh: Arc::clone(&mesh),
            counters: counters.clone(),
            io: "simulation",
            reloads: Reloads::new(Arc::clone(&config), None),
            certificate_ends: Box::new(Vec::new),
            io_reason: String::new(),
            started_unix_millis: 0,
        });
        let shards = counters.iter().enumerate().map(|(index, counters)| {
            let id = ShardId(index as u16);
            let parts = CoreParts {
                id,
                config: Arc::clone(&config),
                mesh: Arc::clone(&mesh),
                counters: Arc::clone(counters),
                seed: random.bytes(),
                now: Time(1000),
                unix_origin: 1_700_000_000_000,
                clock: Arc::new(|| Time(0)),
                stopwatch: Arc::new(|| 0),
            };
            Shard::new(parts, app(ShardInfo::new(id, weather.shards)))
        });
        World {
            now: Time(1000),
            shards: shards.collect(),
            random,
            mesh,
            counters,
            handle,
            wires: Vec::new(),
            pool: Vec::new(),
            line,
            inboxes,
            mail_after: vec![Time(0); weather.shards],
            places: WirePlaces::new(weather.shards),
            has_work: vec![false; weather.shards],
            weather,
            actions: Vec::new(),
            live: Vec::new(),
            moment: 0,
            steps_in_instant: 0,
        }
    }

    /// Begins what runs on shards for Socket.IO's admin page.
    pub(super) fn start_beside(&mut self, admin_ui: &Apart) {
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| shard.spawn(admin_ui.beat(), now));
        self.shards[0].spawn(admin_ui.stats(self.handle.clone()), now);
    }

    pub(super) fn weather(&self) -> &Weather {
        &self.weather
    }

    // What clients do.

    /// Connects to a shard that the kernel chooses.
    pub(super) fn dial(&mut self, owner: usize) -> WireId {
        self.dial_from(owner, [127, 0, 0, 1])
    }

    /// A connection from this address, which means something where local clients are trusted with more.
    pub(super) fn dial_from(&mut self, owner: usize, address: [u8; 4]) -> WireId {
        let shard = self.random.below(self.shards.len());
        let id = WireId(self.wires.len());
        let peer = Peer::Tcp((address, 1024 + (id.0 % 60_000) as u16).into());
        let server = match self.work_on_wires(shard, |shard, now, wires| shard.open(peer, now, wires)) {
            Some(key) => {
                self.places.put(shard, key, id);
                ServerEnd::At(shard, key)
            }
            None => ServerEnd::Closed,
        };
        self.has_work[shard] = true;
        self.live.push(id);
        self.wires.push(Wire {
            server,
            to_server: Vec::new(),
            to_client: Vec::new(),
            arrived: Vec::new(),
            owner: Some(owner),
            is_client_done: false,
            is_client_gone: false,
            is_reset: false,
            has_ended: false,
            is_server_done: server == ServerEnd::Closed,
            is_over: false,
            is_stalled: false,
            is_unwanted: false,
            is_blocked: false,
            sending: None,
        });
        id
    }

    /// Where the wire that was dialled last has ended up.
    pub(super) fn shard_of_last_wire(&self) -> usize {
        match self.wires.last().map(|wire| wire.server) {
            Some(ServerEnd::At(shard, _)) => shard,
            _ => panic!("it was taken in"),
        }
    }

    pub(super) fn write(&mut self, id: WireId, bytes: &[u8]) {
        let wire = &mut self.wires[id.0];
        assert!(!wire.is_client_done, "a client writes nothing after its end");
        wire.to_server.extend_from_slice(bytes);
    }

    /// The client says that it sends no more, and goes on reading.
    pub(super) fn half_close(&mut self, id: WireId) {
        self.wires[id.0].is_client_done = true;
    }

    /// The client closes the connection; what it wrote still arrives.
    pub(super) fn close(&mut self, id: WireId) {
        let wire = &mut self.wires[id.0];
        wire.is_client_done = true;
        wire.is_client_gone = true;
        wire.is_stalled = false;
        wire.owner = None;
    }

    /// The client breaks the connection: what was under way either way is lost.
    pub(super) fn reset(&mut self, id: WireId) {
        self.close(id);
        let wire = &mut self.wires[id.0];
        wire.is_reset = true;
        wire.to_server.clear();
        wire.to_client.clear();
    }

    /// A shard looks into its inbox no more before this time.
    pub(super) fn hold_mail(&mut self, shard: usize, until: Time) {
        self.mail_after[shard] = until;
    }

    // What the driver and the network do.

    /// Takes one step, if there is one to take now. Returns the wire that has something for its client.
    pub(super) fn step(&mut self) -> Option<Option<WireId>> {
        if self.weather.has_jitter && self.random.chance(2) {
            self.now = self.now + Duration::from_millis(self.random.below(4) as u64);
            self.steps_in_instant = 0;
        }
        if self.weather.has_slow_mesh && self.random.chance(1) {
            let shard = self.random.below(self.shards.len());
            let pause = Duration::from_millis(self.random.below(MAIL_PAUSE_MILLIS_MAX) as u64);
            self.mail_after[shard] = self.now + pause;
        }
        self.moment += 1;
        if self.moment.is_multiple_of(DEAD_WIRES_LOOKED_FOR_EVERY) {
            let wires = &self.wires;
            self.live.retain(|id| !wires[id.0].is_dead());
        }
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        self.list_actions(&mut actions);
        let chosen = if actions.is_empty() { None } else { Some(self.random.pick(&actions)) };
        self.actions = actions;
        self.steps_in_instant += 1;
        assert!(self.steps_in_instant < STEPS_PER_INSTANT_MAX, "the world runs in circles: {chosen:?}");
        chosen.map(|action| self.perform(action))
    }

    /// Moves the clock to the next thing that waits for it, at most to `until`. False when that is reached.
    pub(super) fn pass_time(&mut self, until: Time) -> bool {
        let waiting = self.mail_after.iter().zip(&self.inboxes).filter(|(_, inbox)| !inbox.is_empty());
        let mail = waiting.map(|(after, _)| *after).min().unwrap_or(Time::NEVER);
        let next = self.shards.iter().map(Shard::next_timeout).min().unwrap_or(Time::NEVER).min(mail);
        self.steps_in_instant = 0;
        let is_before = next <= until;
        self.now = self.now.max(next.min(until));
        is_before
    }

    fn list_actions(&self, actions: &mut Vec<Action>) {
        for (shard, inbox) in self.inboxes.iter().enumerate() {
            if self.has_work[shard] {
                actions.push(Action::EndTurn(shard));
            }
            if !inbox.is_empty() && self.mail_after[shard] <= self.now {
                actions.push(Action::Mail(shard));
                actions.push(Action::Wake(shard));
            }
            if self.shards[shard].is_unfinished() {
                actions.push(Action::GoOn(shard));
            }
            if self.shards[shard].next_timeout() <= self.now {
                actions.push(Action::Timeout(shard));
            }
        }
        for &id in &self.live {
            let wire = &self.wires[id.0];
            let is_at_shard = matches!(wire.server, ServerEnd::At(..));
            if wire.is_unwanted {
                // The shard has enough of it for now.
            } else if is_at_shard && !wire.to_server.is_empty() {
                actions.push(Action::Receive(id));
            } else if is_at_shard && wire.is_client_done && !wire.has_ended {
                actions.push(Action::EndOfInput(id));
            }
            if wire.sending.is_some() {
                actions.push(Action::FinishSend(id));
            } else if is_at_shard && wire.is_blocked && wire.has_room() {
                actions.push(Action::GoOnSending(id));
            }
            if !wire.is_stalled && !wire.to_client.is_empty() {
                actions.push(Action::Arrive(id));
            } else if wire.is_server_done && !wire.is_over && !wire.is_stalled && wire.sending.is_none() {
                actions.push(Action::EndOfOutput(id));
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<WireId> {
        match action {
            Action::Receive(id) => self.receive(id),
            Action::EndOfInput(id) => self.end_input(id),
            Action::GoOnSending(id) => {
                let wire = &mut self.wires[id.0];
                wire.is_blocked = false;
                if let ServerEnd::At(shard, key) = wire.server {
                    self.work(shard, |shard, now| shard.writable(key, now));
                }
            }
            Action::FinishSend(id) => self.finish_send(id),
            Action::Arrive(id) => {
                let len = self.random.part(self.wires[id.0].to_client.len(), self.weather.is_cutting);
                let wire = &mut self.wires[id.0];
                wire.arrived.extend(wire.to_client.drain(..len));
                return Some(id);
            }
            Action::EndOfOutput(id) => {
                self.wires[id.0].is_over = true;
                return Some(id);
            }
            Action::EndTurn(shard) => self.end_turn(shard),
            Action::GoOn(shard) => {
                self.work_on_wires(shard, |shard, now, wires| shard.go_on(now, || true, wires));
            }
            Action::Mail(shard) => self.read_mail(shard),
            Action::Wake(shard) => {
                if let Some(task) = self.inboxes[shard].next_wake() {
                    self.work(shard, |shard, now| shard.wake(task, now));
                }
            }
            Action::Timeout(shard) => self.work(shard, Shard::handle_timeout),
        }
        None
    }

    /// The server reads the client's end. After an end in good order it may still answer.
    fn end_input(&mut self, id: WireId) {
        let ServerEnd::At(shard, key) = self.wires[id.0].server else { return };
        self.wires[id.0].has_ended = true;
        if self.wires[id.0].is_reset {
            self.forget(id);
            self.wires[id.0].is_server_done = true;
            self.work(shard, |shard, now| shard.closed(key, now));
        } else {
            self.work(shard, |shard, now| shard.ended(key, now));
        }
    }

    /// A shard takes one message out of its inbox, if there is one.
    pub(super) fn read_mail(&mut self, shard: usize) {
        if let Some(message) = self.inboxes[shard].next_message() {
            self.work_on_wires(shard, |shard, now, wires| shard.take_message(message, now, wires));
        }
    }

    /// The shard has something to do: it wakes, unless it is awake.
    fn wake(&mut self, shard: usize) {
        if !std::mem::replace(&mut self.has_work[shard], true) {
            self.shards[shard].begin_turn(Duration::from_millis(self.now.0));
        }
    }

    pub(super) fn work<R>(&mut self, shard: usize, work: impl FnOnce(&mut Shard, Time) -> R) -> R {
        self.wake(shard);
        work(&mut self.shards[shard], self.now)
    }

    fn receive(&mut self, id: WireId) {
        let ServerEnd::At(shard, key) = self.wires[id.0].server else { return };
        let len = self.random.part(self.wires[id.0].to_server.len(), self.weather.is_cutting);
        let mut bytes: Vec<u8> = self.wires[id.0].to_server.drain(..len).collect();
        if self.weather.is_cutting && self.random.chance(10) {
            self.shards[shard].postpone_input();
        }
        self.work_on_wires(shard, |shard, now, wires| shard.receive(key, &mut bytes, now, wires));
    }

    /// The same for what may need wires.
    fn work_on_wires<R>(
        &mut self,
        shard: usize,
        work: impl FnOnce(&mut Shard, Time, &mut ShardWires<'_>) -> R,
    ) -> R {
        self.wake(shard);
        let World { now, random, shards, mesh, wires, places, weather, .. } = self;
        work(&mut shards[shard], *now, &mut ShardWires { shard, random, mesh, wires, places, weather })
    }

    /// Ends a shard's turn, and looks whether all is counted.
    pub(super) fn end_turn(&mut self, shard: usize) {
        let is_more = self.work_on_wires(shard, |shard, _, wires| shard.end_turn(wires));
        self.has_work[shard] = is_more;
        if !is_more {
            let at = Duration::from_millis(self.now.0);
            self.shards[shard].count_busy(at);
            self.shards[shard].count_sent(at);
            self.shards[shard].check_counts();
        }
    }

    fn forget(&mut self, id: WireId) {
        let wire = &mut self.wires[id.0];
        if let ServerEnd::At(shard, key) = std::mem::replace(&mut wire.server, ServerEnd::Closed) {
            self.places.take(shard, key);
        }
        wire.sending = None;
    }

    /// A send that was under way is done, with all or a part of its bytes.
    fn finish_send(&mut self, id: WireId) {
        let Some(bytes) = self.wires[id.0].sending.take() else { return };
        let taken = self.wires[id.0].carry(&bytes, &mut self.random, self.weather.is_cutting);
        let ServerEnd::At(shard, key) = self.wires[id.0].server else { return };
        if let Some(owed) = self.shards[shard].owed_bytes(key) {
            assert!(owed.starts_with(&bytes), "what is being sent changed under the send");
        }
        self.work(shard, |shard, now| shard.sent(key, taken, now));
    }
}

/// The wires of one shard.
struct ShardWires<'a> {
    shard: usize,
    random: &'a mut Random,
    mesh: &'a Mesh,
    wires: &'a mut [Wire],
    places: &'a mut WirePlaces<WireId>,
    weather: &'a Weather,
}

impl ShardWires<'_> {
    fn wire(&mut self, key: Key) -> Option<&mut Wire> {
        let id = self.places.get(self.shard, key)?;
        Some(&mut self.wires[id.0])
    }

    /// Takes the wire of a connection out of the shard's hands.
    fn take(&mut self, key: Key) -> Option<WireId> {
        let id = self.places.take(self.shard, key)?;
        self.wires[id.0].server = ServerEnd::Closed;
        Some(id)
    }
}

impl Wires for ShardWires<'_> {
    const FLUSHES_MAX: usize = FLUSHES_PER_TURN_MAX;

    fn attach(&mut self, wire: Box<dyn Any + Send>, key: Option<Key>) -> bool {
        let id = *wire.downcast::<WireId>().expect("the simulation's handoffs carry a wire's id");
        let wire = &mut self.wires[id.0];
        wire.is_unwanted = false;
        match key {
            Some(key) => {
                wire.server = ServerEnd::At(self.shard, key);
                self.places.put(self.shard, key, id);
            }
            None => {
                wire.server = ServerEnd::Closed;
                wire.is_server_done = true;
            }
        }
        true
    }

    fn may_flush(&mut self, _waiting: usize) -> bool {
        true
    }

    /// Sends all, or a part.
    fn flush_wire(&mut self, key: Key, mut unsent: Unsent<'_>) {
        let Some(id) = self.places.get(self.shard, key) else { return };
        let ShardWires { wires, random, weather, .. } = self;
        let wire = &mut wires[id.0];
        let join = |slices: &[IoSlice<'_>]| slices.iter().map(|slice| &**slice).collect::<Vec<_>>().concat();
        if weather.has_slow_sends && !wire.is_blocked && wire.sending.is_none() {
            unsent.begin_send::<SLICES_PER_SEND_MAX>(|slices| wire.sending = Some(join(slices)));
        }
        while !wire.is_blocked && wire.sending.is_none() {
            let carried = unsent.transmit::<SLICES_PER_SEND_MAX, _>(|slices| {
                match wire.carry(&join(slices), random, weather.is_cutting) {
                    0 => Err(()),
                    taken => Ok(taken),
                }
            });
            if carried != Ok(true) {
                return;
            }
        }
    }

    fn close_wire(&mut self, key: Key, _outbox: Outbox) {
        let Some(id) = self.take(key) else { return };
        let wire = &mut self.wires[id.0];
        if let Some(bytes) = wire.sending.take() {
            wire.carry(&bytes, self.random, self.weather.is_cutting);
        }
        wire.is_server_done = true;
    }

    fn shut_down_write(&mut self, key: Key) {
        if let Some(wire) = self.wire(key) {
            wire.is_server_done = true;
        }
    }

    fn hand_over(&mut self, key: Key, to: ShardId, leaving: Leaving) {
        let Some(id) = self.take(key) else { return };
        let wire = &mut self.wires[id.0];
        // A send under way is waited for; the rest of the outbox travels.
        let sent = wire.sending.take().unwrap_or_default();
        let mut handoff = leaving.with_wire(Box::new(id));
        assert!(handoff.owed.starts_with(&sent), "what is being sent changed under the send");
        handoff.owed.drain(..sent.len());
        wire.to_client.extend_from_slice(&sent);
        wire.server = ServerEnd::Travelling;
        wire.is_blocked = false;
        if self.mesh.send(to, ShardMessage::Handoff(Box::new(handoff))).is_err() {
            wire.server = ServerEnd::Closed;
            wire.is_server_done = true;
        }
    }

    fn set_wanted(&mut self, key: Key, is_wanted: bool) {
        if let Some(wire) = self.wire(key) {
            wire.is_unwanted = !is_wanted;
        }
    }

    fn do_file_work(&mut self, _key: Key, _work: FileWork) -> Option<FileAnswer> {
        unreachable!("the simulation serves no files, and its clients take no coding")
    }

    /// The scheduler looks into every inbox.
    fn ring_bell(&mut self, _shard: ShardId) {}
}

impl Wire {
    /// Takes bytes on their way to the client, all or a part; the wire is blocked unless it is all. Says how many.
    fn carry(&mut self, bytes: &[u8], random: &mut Random, is_cutting: bool) -> usize {
        let room = WINDOW_BYTES.saturating_sub(self.to_client.len());
        let taken = random.part(bytes.len().min(room), is_cutting);
        if !self.is_client_gone {
            self.to_client.extend_from_slice(&bytes[..taken]);
        }
        self.is_blocked = taken < bytes.len();
        taken
    }

    fn is_dead(&self) -> bool {
        self.server == ServerEnd::Closed && self.is_over && self.to_client.is_empty()
    }

    fn has_room(&self) -> bool {
        self.is_client_gone || self.to_client.len() < WINDOW_BYTES
    }
}
