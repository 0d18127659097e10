//! Clients of processes that are gone: what the broker keeps of their sockets is taken from it, and what they have missed read again.
//!
//! To the shard that asks, this process itself is the keeper: it says who was found, is told to give up, and gives what was missed, by the
//! words of `message/far`. A socket is looked for
//!
//! 1. at the broker: it is there only if its process has let it go;
//! 2. in the processes that live;
//! 3. at the broker again, as its process may have ended in between.
//!
//! One that was taken is read for twice: whether all is there that its client has missed, before the shard is told; and once more when the
//! rooms are heard here, for what was said until then. All who wait are served by the same reading.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::base::ids::{NodeTag, Sid};
use crate::base::time::Time;
use crate::bus::hub::Hub;
use crate::bus::left::log::{LOG_BYTES_MAX, Log};
use crate::bus::left::{self, LeftLimits, Record};
use crate::bus::{Body, Channel, Delivery, Post, ReadBack};
use crate::mesh::ShardMessage;
use crate::mesh::link::LEFT_BYTES_MAX;
use crate::message::far::{FarAsker, FarSaid, FarWord};
use crate::message::left::{LeftEvent, LeftSocket};
use crate::message::recovery::{LostSocket, NotKept, Offset, Position};

/// Clients that come back at a time. Those beyond it connect anew.
pub(crate) const RESTORES_MAX: usize = 32 * 1024;

/// What is kept of their sockets meanwhile, in bytes; the others wait at the broker.
pub(crate) const RESTORES_BYTES_MAX: usize = 64 * 1024 * 1024;

// The memory of a process that goes on with others' sockets is told from this sum.
const _: () = assert!(RESTORES_BYTES_MAX + LOG_BYTES_MAX <= LEFT_BYTES_MAX);

/// Sockets that are asked for at once.
const TAKE_MAX: usize = 256;

/// Clients that are served before others on this thread have their turn.
const SERVE_MAX: usize = 32;

/// How long the processes that live have to say whether they have a socket. One that was killed is thought to live for some seconds.
const OTHERS_PATIENCE: Duration = Duration::from_millis(700);

/// How long a shard may take to hear the rooms of a socket; then the broker gets it back.
const SHARD_PATIENCE: Duration = Duration::from_secs(15);

/// How often shards are told how far the stream has come, if it goes on.
const PASSED_EVERY: Duration = Duration::from_millis(250);

/// When shards without room for what is said to them are looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// What the hub wants done with the broker.
#[derive(Debug)]
pub(crate) enum LeftWork {
    /// Take these records: by [`Hub::took_left`].
    Take(Vec<String>),
    /// Read the stream from there on: by [`Hub::has_read_left`].
    Read(Position),
    /// Ask again: there is more to do, and it would take long at once.
    Again,
}

/// What a hub knows of sockets of processes that are gone.
#[derive(Debug)]
pub(super) struct Left {
    limits: LeftLimits,
    restores: FxHashMap<FarAsker, Restore>,
    /// What their records keep.
    bytes: usize,
    /// Those whose records are to be taken, and those whose are being taken.
    wanted: VecDeque<FarAsker>,
    taking: Vec<FarAsker>,
    /// For whom other processes are asked, and until when; and those that were found.
    asked: VecDeque<(Time, FarAsker)>,
    found: VecDeque<(Time, FarAsker)>,
    /// Those who need the stream, and those who are served by the present reading.
    ready: VecDeque<FarAsker>,
    round: VecDeque<FarAsker>,
    /// The present reading has come to the end.
    has_read: bool,
    log: Log,
    /// How far the stream has come here, of which what is being delivered is a part, and when the shards were told.
    position: Option<Position>,
    passing: Option<Position>,
    told: Option<Time>,
    /// When to look again for room.
    again: Time,
}

/// A client that comes back.
#[derive(Debug)]
struct Restore {
    to: Option<NodeTag>,
    ask: FarWord,
    name: String,
    stage: Stage,
    record: Option<Record>,
    /// How many of the socket's events the client has got.
    got: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its record is looked for.
    Wanted { is_second: bool },
    /// Other processes are asked.
    Asking,
    /// It is to be seen whether all is there that the client has missed.
    Checking,
    /// The shard was told.
    Found,
    /// The rooms are heard. What was said before that is sent once so many posts are.
    Reading { posts: u64 },
}

impl Left {
    fn new(limits: LeftLimits, tag: NodeTag, slots: u32) -> Left {
        Left {
            limits,
            restores: FxHashMap::default(),
            bytes: 0,
            wanted: VecDeque::new(),
            taking: Vec::new(),
            asked: VecDeque::new(),
            found: VecDeque::new(),
            ready: VecDeque::new(),
            round: VecDeque::new(),
            has_read: false,
            log: Log::new(tag, slots),
            position: None,
            passing: None,
            told: None,
            again: Time::NEVER,
        }
    }

    /// Where what is being delivered stands in the stream.
    pub(super) fn passing(&self) -> Option<Position> {
        self.passing
    }

    pub(super) fn next_timeout(&self) -> Time {
        let first = |queue: &VecDeque<(Time, FarAsker)>| queue.front().map_or(Time::NEVER, |(due, _)| *due);
        first(&self.asked).min(first(&self.found)).min(self.again).min(self.log.idle_at())
    }

    fn remove(&mut self, asker: FarAsker) -> Option<Restore> {
        let restore = self.restores.remove(&asker)?;
        self.bytes -= restore.len_bytes();
        Some(restore)
    }

    /// The next reading begins, for all who need it now.
    fn begin_round(&mut self, posts_sent: u64, now: Time) {
        for _ in 0..self.ready.len() {
            let Some(asker) = self.ready.pop_front() else { break };
            match self.restores.get(&asker) {
                Some(Restore { stage: Stage::Reading { posts }, .. }) if *posts > posts_sent => {
                    self.ready.push_back(asker);
                }
                Some(Restore { record: Some(record), got, .. }) => {
                    if let Some(from) = Log::needed(&record.socket, *got) {
                        self.log.need(from, now);
                    }
                    self.round.push_back(asker);
                }
                _ => {}
            }
        }
    }
}

impl Restore {
    fn len_bytes(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.socket.len_bytes())
    }
}

impl Hub {
    /// Lets sockets be left with the broker, and taken from it.
    pub(crate) fn keep_sockets(&mut self, limits: LeftLimits) {
        self.left = Some(Left::new(limits, self.me.tag, self.subscriptions.slots()));
        // A socket's id says nothing about where it is.
        self.interests.note_moved();
    }

    pub(crate) fn keeps_sockets(&self) -> bool {
        self.left.is_some()
    }

    /// A shard leaves a socket behind.
    pub(super) fn leave(&mut self, pid: &Sid, socket: &LeftSocket) {
        let Some(left) = &self.left else { return };
        let name = left::name_of(pid, &socket.address());
        let mut socket = socket.clone();
        // It was connected before the shard was told anything.
        socket.passed.position = socket.passed.position.or(left.position);
        self.keep_record(name, &Record { process: self.me.id, socket });
    }

    fn keep_record(&mut self, name: String, record: &Record) {
        let Some(left) = &self.left else { return };
        let channel = Channel::Record { name: name.into(), keep: left.limits.keep };
        let body = Body::Bytes(Bytes::from(left::write(record)));
        // Not again: it may have been taken in between, and then its client is elsewhere.
        self.posts.push_back(Post { channel, body, may_repeat: false });
    }

    /// A shard asks for a socket that a client claims.
    pub(super) fn claim_left(&mut self, to: Option<NodeTag>, word: &FarWord) {
        let FarSaid::Ask { pid, .. } = &word.said else { return };
        let name = left::name_of(pid, &word.address());
        let Some(left) = self.left.as_mut() else { return };
        if left.restores.len() >= RESTORES_MAX {
            self.stats.sockets_given_up.add(1);
            let said = FarSaid::NotFound(NotKept::Unknown);
            return self.tell(word.asker.shard(), FarWord { said, ..word.clone() });
        }
        let stage = Stage::Wanted { is_second: false };
        let restore = Restore { to, ask: word.clone(), name, stage, record: None, got: 0 };
        left.remove(word.asker);
        left.restores.insert(word.asker, restore);
        left.wanted.push_back(word.asker);
    }

    /// The other processes do not have a socket.
    pub(super) fn not_found(&mut self, asker: FarAsker, reason: NotKept, word: FarWord) {
        if let Some(left) = &mut self.left
            && let Some(restore) = left.restores.get_mut(&asker)
            && restore.stage == Stage::Asking
            && reason == NotKept::Unknown
        {
            restore.stage = Stage::Wanted { is_second: true };
            left.wanted.push_back(asker);
            return;
        }
        if let Some(left) = &mut self.left {
            left.remove(asker);
        }
        let said = FarSaid::NotFound(reason);
        self.tell(asker.shard(), FarWord { said, ..word });
    }

    /// Another process has a socket.
    pub(super) fn found_elsewhere(&mut self, asker: FarAsker) {
        if let Some(left) = &mut self.left
            && left.restores.get(&asker).is_some_and(|restore| restore.record.is_none())
        {
            left.remove(asker);
        }
    }

    /// A process is gone: it answers nothing more.
    pub(super) fn ask_no_more(&mut self, tag: NodeTag) {
        let Some(left) = &self.left else { return };
        let is_asked =
            |restore: &Restore| restore.stage == Stage::Asking && restore.to.is_none_or(|to| to == tag);
        let asked: Vec<FarAsker> =
            left.restores.iter().filter(|(_, restore)| is_asked(restore)).map(|(asker, _)| *asker).collect();
        for asker in asked {
            if self.lookups.is_last(asker, NotKept::Unknown) {
                self.look_again(asker);
            }
        }
    }

    /// What the other processes say about a socket is not waited for any longer.
    fn look_again(&mut self, asker: FarAsker) {
        let Some(left) = &mut self.left else { return };
        if let Some(restore) = left.restores.get_mut(&asker).filter(|restore| restore.stage == Stage::Asking)
        {
            restore.stage = Stage::Wanted { is_second: true };
            left.wanted.push_back(asker);
        }
    }

    /// The rooms of a socket are heard here, as soon as what was said before this is sent.
    pub(super) fn read_left(&mut self, asker: FarAsker) {
        let posts = self.posts_taken + self.posts.len() as u64;
        let Some(left) = &mut self.left else { return };
        if let Some(restore) = left.restores.get_mut(&asker).filter(|restore| restore.stage == Stage::Found) {
            restore.stage = Stage::Reading { posts };
            left.ready.push_back(asker);
        }
    }

    /// The shard does not want a socket that was found: its client may come back once more.
    pub(super) fn release_left(&mut self, asker: FarAsker) {
        let restore = self.left.as_mut().and_then(|left| left.remove(asker));
        if let Some(Restore { name, record: Some(record), .. }) = restore {
            self.keep_record(name, &record);
        }
    }

    /// Whether there is something that was not there before: a socket that is to be looked for once more.
    pub(crate) fn has_left_work(&self) -> bool {
        self.left.as_ref().is_some_and(|left| !left.wanted.is_empty())
    }

    /// What to ask of the broker now. Of the posts that were taken it has all but the last so many.
    pub(crate) fn left_work(&mut self, now: Time, unsent: usize) -> Option<LeftWork> {
        let left = self.left.as_mut()?;
        left.again = Time::NEVER;
        if left.taking.is_empty() && !left.wanted.is_empty() && left.bytes < RESTORES_BYTES_MAX {
            let len = left.wanted.len().min(TAKE_MAX);
            left.taking =
                left.wanted.drain(..len).filter(|asker| left.restores.contains_key(asker)).collect();
            if !left.taking.is_empty() {
                return Some(LeftWork::Take(
                    left.taking.iter().map(|asker| left.restores[asker].name.clone()).collect(),
                ));
            }
        }
        if left.has_read {
            for _ in 0..SERVE_MAX {
                if self.mesh.is_outside_full() {
                    self.left.as_mut()?.again = now + FULL_PAUSE;
                    return None;
                }
                let Some(asker) = self.left.as_mut()?.round.pop_front() else { break };
                self.serve_left(asker, now);
            }
            let left = self.left.as_mut()?;
            left.has_read = !left.round.is_empty();
            return Some(LeftWork::Again);
        }
        if left.round.is_empty() {
            left.begin_round(self.posts_taken.saturating_sub(unsent as u64), now);
        }
        match left.log.next() {
            _ if left.round.is_empty() => None,
            Some(from) => Some(LeftWork::Read(from)),
            // The process that had their sockets had read nothing.
            None => {
                left.has_read = true;
                Some(LeftWork::Again)
            }
        }
    }

    /// The broker's answer to [`LeftWork::Take`].
    pub(crate) fn took_left(&mut self, records: Vec<Option<Bytes>>, now: Time) {
        let taking = self.left.as_mut().map(|left| std::mem::take(&mut left.taking)).unwrap_or_default();
        for (asker, bytes) in taking.into_iter().zip(records) {
            let record = bytes.as_deref().and_then(left::read);
            match record {
                Some(record) => self.take_record(asker, record),
                None => self.look_elsewhere(asker, now),
            }
        }
    }

    fn take_record(&mut self, asker: FarAsker, record: Record) {
        let Some(left) = &mut self.left else { return };
        let Some(restore) = left.restores.get_mut(&asker) else {
            // Whoever has asked is gone. So is the client, or it has come to another shard; it has its own question then.
            return;
        };
        let FarSaid::Ask { offset, .. } = &restore.ask.said else { return };
        let named = offset.as_ref().map(|text| text.parse());
        let offset: Option<Option<Offset>> = match named {
            None => Some(None),
            Some(parsed) => parsed.map(Some),
        };
        match offset.and_then(|offset| record.socket.count_got(offset)) {
            Some(got) => {
                restore.got = got;
                restore.stage = Stage::Checking;
                restore.record = Some(record);
                left.bytes += restore.len_bytes();
                left.ready.push_back(asker);
            }
            None => self.give_up_left(asker, NotKept::TooOld),
        }
    }

    /// The broker does not have a socket.
    fn look_elsewhere(&mut self, asker: FarAsker, now: Time) {
        let Some(left) = &mut self.left else { return };
        let Some(restore) = left.restores.get_mut(&asker) else { return };
        let (to, ask) = (restore.to, restore.ask.clone());
        if restore.stage == (Stage::Wanted { is_second: false }) {
            restore.stage = Stage::Asking;
            left.asked.push_back((now + OTHERS_PATIENCE, asker));
            return self.ask_far(to, &ask);
        }
        left.remove(asker);
        let said = FarSaid::NotFound(NotKept::Unknown);
        self.tell(asker.shard(), FarWord { said, ..ask });
    }

    fn give_up_left(&mut self, asker: FarAsker, reason: NotKept) {
        let Some(restore) = self.left.as_mut().and_then(|left| left.remove(asker)) else { return };
        self.stats.sockets_given_up.add(1);
        let said = FarSaid::NotFound(reason);
        self.tell(asker.shard(), FarWord { said, ..restore.ask });
    }

    /// The broker's answer to [`LeftWork::Read`].
    pub(crate) fn has_read_left(&mut self, read: &ReadBack) {
        let Some(left) = &mut self.left else { return };
        left.log.add(read);
        left.has_read = read.is_end;
    }

    /// The stream is read to its end: a client learns what it has missed, or a shard who was found.
    fn serve_left(&mut self, asker: FarAsker, now: Time) {
        let Some(left) = &mut self.left else { return };
        let Left { restores, log, limits, .. } = left;
        let Some(restore) = restores.get_mut(&asker) else { return };
        let Restore { record: Some(record), ask, got, stage, .. } = restore else { return };
        if *stage != Stage::Checking {
            let missed = log.missed(record, *got, limits);
            let counter =
                if missed.is_some() { &self.stats.sockets_taken } else { &self.stats.sockets_given_up };
            counter.add(1);
            let word = FarWord { said: FarSaid::Missed(missed), ..ask.clone() };
            left.remove(asker);
            return self.tell(asker.shard(), word);
        }
        let before = record.socket.len_bytes();
        if !log.change(record, limits) {
            return self.give_up_left(asker, NotKept::Unknown);
        }
        let grown = record.socket.len_bytes();
        if log.missed(record, *got, limits).is_none() {
            left.bytes = left.bytes - before + grown;
            return self.give_up_left(asker, NotKept::TooOld);
        }
        let FarSaid::Ask { pid, .. } = &ask.said else { return };
        let LeftSocket { sid, rooms, data, events, .. } = &record.socket;
        // The stream has them, too: they may come again, late.
        let had = events.iter().take(*got).filter_map(LeftEvent::id);
        let had = had.collect();
        let lost = LostSocket { pid: *pid, sid: *sid, rooms: rooms.clone(), data: data.clone(), had };
        let said = FarSaid::Found { keeper: self.me.tag, shard: 0, lost };
        let word = FarWord { said, ..ask.clone() };
        *stage = Stage::Found;
        left.bytes = left.bytes - before + grown;
        left.found.push_back((now + SHARD_PATIENCE, asker));
        self.tell(asker.shard(), word);
    }

    /// Time passed.
    pub(super) fn left_timeout(&mut self, now: Time) {
        let Some(left) = &mut self.left else { return };
        left.log.let_go(now);
        if left.again <= now {
            left.again = Time::NEVER;
        }
        let (mut late, mut lost) = (Vec::new(), Vec::new());
        for (queue, due) in [(&mut left.asked, &mut late), (&mut left.found, &mut lost)] {
            while queue.front().is_some_and(|(until, _)| *until <= now) {
                due.extend(queue.pop_front().map(|(_, asker)| asker));
            }
        }
        late.into_iter().for_each(|asker| self.look_again(asker));
        for asker in lost {
            let is_waiting =
                |left: &Left| left.restores.get(&asker).is_some_and(|restore| restore.stage == Stage::Found);
            if self.left.as_ref().is_some_and(is_waiting) {
                self.release_left(asker);
            }
        }
    }

    /// The connection to the broker is gone. Who has been given nothing connects anew; what was taken goes back, once there is a broker.
    pub(super) fn give_back_left(&mut self) {
        let Some(left) = &mut self.left else { return };
        let restores = std::mem::take(&mut left.restores);
        *left = Left {
            position: left.position,
            ..Left::new(left.limits, self.me.tag, self.subscriptions.slots())
        };
        for (asker, Restore { ask, name, stage, record, .. }) in restores {
            let said = match stage {
                Stage::Found | Stage::Reading { .. } => FarSaid::Missed(None),
                _ => FarSaid::NotFound(NotKept::Unknown),
            };
            self.stats.sockets_given_up.add(1);
            self.tell(asker.shard(), FarWord { said, ..ask });
            if let Some(record) = record {
                self.keep_record(name, &record);
            }
        }
    }

    /// Something of the stream is delivered.
    pub(super) fn begin_passing(&mut self, delivery: &Delivery) {
        let Some(left) = &mut self.left else { return };
        let is_own = matches!(delivery.channel, Channel::All | Channel::Slot(_));
        left.passing = delivery.offset.as_deref().filter(|_| is_own).and_then(Position::parse);
    }

    /// It was: the shards are told how far the stream has come, now and then.
    pub(super) fn end_passing(&mut self, now: Time) {
        let Some(left) = &mut self.left else { return };
        let Some(position) = left.passing.take() else { return };
        left.position = left.position.max(Some(position));
        if left.told.is_some_and(|told| now < told + PASSED_EVERY) {
            return;
        }
        left.told = Some(now);
        // With recovery on there is a shard through which all of it goes.
        if let Some(relay) = self.mesh.relay() {
            self.send(relay, ShardMessage::Passed(position));
        }
    }
}
