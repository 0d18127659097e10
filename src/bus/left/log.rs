//! A part of the broker's stream that was read again, for the clients of processes that are gone.
//!
//! All who come back at about the same time are served from one reading: it begins before what the first of them may have missed, and
//! goes on to the end of the stream for each that is about to be served. It is let go soon after the last.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::ids::{NodeTag, ShardId};
use crate::base::time::Time;
use crate::bus::ids::event_id;
use crate::bus::left::{LeftLimits, Record};
use crate::bus::own::{self, ChangeWord, NodeId, To, Word};
use crate::bus::{Body, Channel, Delivery, ReadBack};
use crate::mesh::slots::room_slot;
use crate::message::address::Address;
use crate::message::far::{FarKept, OffsetText};
use crate::message::left::{LeftSocket, Passed};
use crate::message::recovery::{EventId, Offset, Position};
use crate::message::target::{SocketChange, Target, WhenBehind};
use crate::protocol::socketio::frames::{FramedEvent, with_argument};

/// What is kept of the stream, in bytes; the oldest goes. Those who have missed what is gone begin anew.
pub(crate) const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one message of it takes besides its bytes, about: its entry, and its places in the tables.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

/// The reading begins so much earlier than the first who needs it, in milliseconds of the broker's clock: the next one may need more.
const HEAD_START: u64 = 30_000;

/// An event is published within so long after its publisher's shards were given it, in milliseconds.
const ON_ITS_WAY: u64 = 10_000;

/// How long it is kept without a use.
pub(crate) const LOG_IDLE: Duration = Duration::from_secs(10);

/// The shard that the offsets of events are of that were read again: none has this number, and each event has another.
const NO_SHARD: ShardId = ShardId(u16::MAX);

/// One message of the stream that a socket may have missed.
#[derive(Debug)]
struct Entry {
    position: Position,
    from: NodeId,
    namespace: Address,
    target: Target,
    what: What,
}

#[derive(Debug)]
enum What {
    /// An event, and whether its publisher has named it. Its offset is this number.
    Event {
        id: EventId,
        is_named: bool,
        frame: Bytes,
        number: u64,
    },
    Change(SocketChange),
}

/// Where a message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    All,
    Slot(u32),
}

#[derive(Debug)]
pub(crate) struct Log {
    /// For the offsets of what is read again.
    tag: NodeTag,
    /// Slots of the broker: a power of two.
    slots: u32,
    /// Everything from here on is to be read; nothing while nobody needs any of it.
    from: Option<Position>,
    /// The first place that there was, and the last.
    first: Option<Position>,
    last: Option<Position>,
    entries: VecDeque<Entry>,
    /// Entries that are gone: what the first that is there has for a number.
    gone: u64,
    by_place: FxHashMap<Place, VecDeque<u64>>,
    by_id: FxHashMap<EventId, u64>,
    bytes: usize,
    bytes_max: usize,
    /// Offsets that were given.
    numbers: u64,
    used: Time,
}

impl Log {
    pub(crate) fn new(tag: NodeTag, slots: u32) -> Log {
        Log {
            tag,
            slots,
            from: None,
            first: None,
            last: None,
            entries: VecDeque::new(),
            gone: 0,
            by_place: FxHashMap::default(),
            by_id: FxHashMap::default(),
            bytes: 0,
            bytes_max: LOG_BYTES_MAX,
            numbers: 0,
            used: Time::default(),
        }
    }

    /// Makes sure that everything from there on is read, if it is not already.
    pub(crate) fn need(&mut self, from: Position, now: Time) {
        self.used = now;
        if self.from.is_none_or(|known| from < known) {
            self.clear();
            self.from = Some(Position(from.0.saturating_sub(HEAD_START), 0));
        }
    }

    /// From where to read on.
    pub(crate) fn next(&self) -> Option<Position> {
        let behind = |last: Position| Position(last.0, last.1.saturating_add(1));
        self.last.map(behind).or(self.from)
    }

    /// Lets everything go if it was not used for a while.
    pub(crate) fn let_go(&mut self, now: Time) {
        if self.idle_at() <= now {
            self.clear();
        }
    }

    /// When it will not have been used for a while.
    pub(crate) fn idle_at(&self) -> Time {
        if self.from.is_some() { self.used + LOG_IDLE } else { Time::NEVER }
    }

    fn clear(&mut self) {
        *self = Log {
            numbers: self.numbers,
            used: self.used,
            bytes_max: self.bytes_max,
            ..Log::new(self.tag, self.slots)
        };
    }

    /// Adds what was read from [`next`](Log::next) on.
    pub(crate) fn add(&mut self, read: &ReadBack) {
        for delivery in &read.deliveries {
            let Some(position) = delivery.offset.as_deref().and_then(Position::parse) else { continue };
            if self.last.is_some_and(|last| position <= last) {
                continue;
            }
            self.first.get_or_insert(position);
            self.last = Some(position);
            self.add_one(position, delivery);
        }
        while self.bytes > self.bytes_max {
            self.drop_oldest();
        }
    }

    fn add_one(&mut self, position: Position, delivery: &Delivery) {
        let place = match &delivery.channel {
            Channel::All => Place::All,
            Channel::Slot(slot) => Place::Slot(*slot),
            _ => return,
        };
        let Body::Bytes(bytes) = &delivery.body else { return };
        let Ok(envelope) = own::read(bytes) else { return };
        let entry = |to: &To<'_>, what| {
            let (namespace, target) = (to.address(), to.target());
            Entry { position, from: envelope.from, namespace, target, what }
        };
        let number = self.numbers + 1;
        let entry = match &envelope.word {
            Word::Emit { to, frame, id } => {
                let is_event = FramedEvent::split(frame.0).is_ok_and(|event| event.namespace == to.namespace);
                if !is_event {
                    return;
                }
                let is_named = id.is_some();
                let id = id.unwrap_or_else(|| event_id(envelope.from, envelope.sequence));
                entry(to, What::Event { id, is_named, frame: bytes.slice_ref(frame.0), number })
            }
            Word::Change { to, change } => entry(to, What::Change(copied(change))),
            _ => return,
        };
        // What slow clients may miss is not for those who come back either.
        if entry.target.when_behind != WhenBehind::Rule {
            return;
        }
        self.numbers = number;
        let number = self.gone + self.entries.len() as u64;
        if let What::Event { id, .. } = &entry.what {
            self.by_id.entry(*id).or_insert(number);
        }
        let numbers = self.by_place.entry(place).or_default();
        while numbers.front().is_some_and(|first| *first < self.gone) {
            numbers.pop_front();
        }
        numbers.push_back(number);
        self.bytes += entry.len_bytes();
        self.entries.push_back(entry);
    }

    fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            self.bytes = 0;
            return;
        };
        self.bytes -= entry.len_bytes();
        if let What::Event { id, .. } = &entry.what
            && self.by_id.get(id) == Some(&self.gone)
        {
            self.by_id.remove(id);
        }
        self.gone += 1;
        self.first = self.entries.front().map(|entry| entry.position).or(self.last);
    }

    /// From where on a socket needs the stream, if its client has got so many of its events. None: the process that had it has read nothing
    /// of it.
    pub(crate) fn needed(socket: &LeftSocket, got: usize) -> Option<Position> {
        let passed = socket.passed.position?;
        let named = socket.events.iter().skip(got).filter(|event| event.frame.is_none());
        let age = named.map(|event| u64::from(event.age_millis)).max();
        Some(age.map_or(passed, |age| Position(passed.0.saturating_sub(age + ON_ITS_WAY), 0)))
    }

    /// Makes the changes that others have made to a socket since its process is gone. False: it was sent away.
    pub(crate) fn change(&self, record: &mut Record, limits: &LeftLimits) -> bool {
        let Some(position) = record.socket.passed.position else { return true };
        for number in self.concerning(&record.socket) {
            let Some(Entry { target, from, what: What::Change(change), .. }) = self.entry(number) else {
                continue;
            };
            let is_new =
                *from != record.process && self.entry(number).is_some_and(|entry| entry.position > position);
            let rooms = &mut record.socket.rooms;
            if !is_new || !is_meant(target, record.socket.sid.as_str(), rooms) {
                continue;
            }
            match change {
                SocketChange::Join(room) if rooms.contains(room) || rooms.len() >= limits.rooms_max => {}
                SocketChange::Join(room) => rooms.push(room.clone()),
                SocketChange::Leave(room) => rooms.retain(|own| own != room),
                SocketChange::Disconnect { .. } => return false,
            }
        }
        true
    }

    /// What a client has missed that has got so many of the events of its socket. None: not all of it is there, or it is more than is
    /// kept.
    pub(crate) fn missed(&self, record: &Record, got: usize, limits: &LeftLimits) -> Option<Vec<FarKept>> {
        let socket = &record.socket;
        let passed = socket.passed.position?;
        if self.first.is_none_or(|first| first > passed) {
            return None;
        }
        let mut missed = Missed { events: Vec::new(), bytes: 0, limits };
        for event in socket.events.get(got..)? {
            let id = event.id()?;
            let frame = match &event.frame {
                Some(frame) => frame.clone(),
                None => stamped(self.event(id)?, event.offset.parse()?),
            };
            missed.push(FarKept { offset: event.offset.clone(), id, frame })?;
        }
        let mut known: FxHashSet<EventId> = socket.events.iter().filter_map(|event| event.id()).collect();
        for number in self.concerning(socket) {
            let Some(entry) = self.entry(number) else { continue };
            let What::Event { id, is_named, frame, number } = &entry.what else { continue };
            let is_new = has_not_passed(record, entry, *id, *is_named)
                && is_meant(&entry.target, socket.sid.as_str(), &socket.rooms);
            if !is_new || !known.insert(*id) {
                continue;
            }
            let offset = Offset { node: Some(self.tag), origin: NO_SHARD, number: *number, is_local: true };
            missed.push(FarKept {
                offset: OffsetText::new(offset),
                id: *id,
                frame: stamped(frame, offset),
            })?;
        }
        Some(missed.events)
    }

    /// The numbers of entries that may be about a socket and that it may have missed, in order.
    fn concerning(&self, socket: &LeftSocket) -> Vec<u64> {
        let namespace = socket.address();
        let passed = socket.passed.position.unwrap_or_default();
        let start = Position(passed.0.saturating_sub(ON_ITS_WAY), 0);
        let first = self.gone + self.entries.partition_point(|entry| entry.position < start) as u64;
        let slot = |room| Place::Slot(room_slot(&namespace, room) & (self.slots - 1));
        let mut places = vec![Place::All, slot(None), slot(Some(socket.sid.as_str()))];
        places.extend(socket.rooms.iter().map(|room| slot(Some(room))));
        let mut numbers = Vec::new();
        for place in places {
            let Some(list) = self.by_place.get(&place) else { continue };
            numbers.extend(list.range(list.partition_point(|number| *number < first)..));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| self.entry(*number).is_some_and(|entry| entry.namespace == namespace));
        numbers
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.gone)?).ok()?)
    }

    fn event(&self, id: EventId) -> Option<&[u8]> {
        match &self.entry(*self.by_id.get(&id)?)?.what {
            What::Event { frame, .. } => Some(frame),
            What::Change(_) => None,
        }
    }
}

/// What a client has missed so far, within bounds.
struct Missed<'a> {
    events: Vec<FarKept>,
    bytes: usize,
    limits: &'a LeftLimits,
}

impl Missed<'_> {
    fn push(&mut self, kept: FarKept) -> Option<()> {
        self.bytes += kept.frame.len();
        self.events.push(kept);
        (self.events.len() <= self.limits.events_max && self.bytes <= self.limits.bytes_max).then_some(())
    }
}

impl Entry {
    fn len_bytes(&self) -> usize {
        let what = match &self.what {
            What::Event { frame, .. } => frame.len(),
            What::Change(SocketChange::Join(room) | SocketChange::Leave(room)) => room.len(),
            What::Change(SocketChange::Disconnect { .. }) => 0,
        };
        what + self.target.len_bytes() + self.namespace.name().len() + ENTRY_BYTES
    }
}

/// Whether an event had not come to the shard that had the socket, and so is none that it was sent, or was in time for.
fn has_not_passed(record: &Record, entry: &Entry, id: EventId, is_named: bool) -> bool {
    let LeftSocket { node, passed: Passed { numbers, position }, .. } = &record.socket;
    match id.publisher().filter(|_| is_named) {
        Some((publisher, shard)) if publisher == *node => {
            numbers.get(shard.index()).is_some_and(|number| id.1 > *number)
        }
        // What the socket's own process gave no name cannot be recovered.
        _ if entry.from == record.process => false,
        _ => position.is_none_or(|position| entry.position > position),
    }
}

fn is_meant(target: &Target, sid: &str, rooms: &[String]) -> bool {
    let is_in = |name: &str| name == sid || rooms.iter().any(|room| room == name);
    (target.is_everyone || target.rooms.iter().any(is_in)) && !target.except.iter().any(is_in)
}

fn stamped(frame: &[u8], offset: Offset) -> Vec<u8> {
    with_argument(frame, &format!("\"{offset}\""))
}

fn copied(change: &ChangeWord<'_>) -> SocketChange {
    match change {
        ChangeWord::Join(room) => SocketChange::Join((*room).to_owned()),
        ChangeWord::Leave(room) => SocketChange::Leave((*room).to_owned()),
        ChangeWord::Disconnect { close_session } => {
            SocketChange::Disconnect { close_session: *close_session }
        }
    }
}
