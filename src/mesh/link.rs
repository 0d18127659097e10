//! The way out of the process: what shards and other threads say to other processes, through a message queue.
//!
//! A [`Link`] is a queue, bounded in bytes, to the companion thread, which alone knows the broker. Who says something never waits: a
//! full queue refuses, and the caller learns that. Beside the queue stands a table of which rooms have members here
//! ([`Interests`]), so that the companion subscribes to those and to no others.

#![cfg_attr(
    not(feature = "bus"),
    allow(dead_code, reason = "the companion thread, which makes links, is of that feature")
)]

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

use crate::base::ids::{NodeTag, Sid};
use crate::mesh::queue::{QueueReceiver, QueueSender, Waiting, queue};
use crate::mesh::slots::{Interests, room_slot};
use crate::mesh::{Bell, INBOX_OUTSIDE_BYTES_MAX};
use crate::message::address::Address;
use crate::message::far::FarWord;
use crate::message::inquiry::Inquiry;
use crate::message::left::LeftSocket;
use crate::message::server_event::ServerEvent;
use crate::message::state::StateNews;
use crate::message::target::{Broadcast, Reach, Target, ToldChange};

/// Messages that wait for the companion thread at most, whatever their size.
pub(crate) const LINK_MESSAGES_MAX: usize = 64 * 1024;

/// Messages for which a link has memory from the start.
const LINK_PLACES: usize = 256;

/// What the answers of other processes may keep in memory, for all questions of a link together, in bytes; what is beyond is left out.
pub(crate) const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The same for one question: what a shard is given at once, and keeps in its share for other processes until it looks.
pub(crate) const REPORT_BYTES_MAX: usize = INBOX_OUTSIDE_BYTES_MAX;

/// What is known of other processes on one link, in bytes: who they are, their namespaces, and which of their messages have come.
pub(crate) const PEERS_BYTES_MAX: usize = 176 * 1024 * 1024;

/// What sockets of processes that are gone may keep in memory while their clients come back, in bytes, with what is read again for them.
pub(crate) const LEFT_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What is said to other processes.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// Deliver a frame.
    Emit(Arc<Broadcast>),
    /// Change sockets.
    Change(Arc<ToldChange>),
    /// Find out, and report to the shard that asks.
    Ask(Arc<Inquiry>),
    /// Have the servers of all other processes do something. If they are to answer, it is an `Ask`.
    ServerEvent(Arc<ServerEvent>),
    /// Something of a state room. It is for processes of ours alone.
    State(Arc<StateNews>),
    /// A room, or the namespace itself, has its first member on a shard, or the last has gone: for formats that have channels for them.
    /// The number of shards that have it is the receiver's to count.
    Room { namespace: Address, room: Option<String>, is_held: bool },
    /// Tell the process with this tag about a socket that is to come back; `None`: whoever may have it.
    Far { to: Option<NodeTag>, word: Box<FarWord> },
    /// Leave a socket with the broker, as this process ends: whoever knows the private id may go on with it.
    Left { pid: Sid, socket: Box<LeftSocket> },
}

impl Said {
    /// Whose sockets are meant.
    pub(crate) fn target(&self) -> Option<&Target> {
        match self {
            Said::Emit(broadcast) => Some(&broadcast.target),
            Said::Change(told) => Some(&told.command.target),
            Said::Ask(inquiry) => Some(&inquiry.target),
            Said::ServerEvent(_)
            | Said::State(_)
            | Said::Room { .. }
            | Said::Far { .. }
            | Said::Left { .. } => None,
        }
    }

    /// What it keeps in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Said::Emit(broadcast) => broadcast.len_bytes(),
            Said::Change(told) => told.command.target.len_bytes(),
            Said::Ask(inquiry) => inquiry.ask.len_bytes() + inquiry.target.len_bytes(),
            Said::ServerEvent(event) => event.len_bytes(),
            Said::State(news) => news.len_bytes(),
            Said::Far { word, .. } => word.len_bytes(),
            Said::Left { socket, .. } => socket.len_bytes(),
            Said::Room { room, .. } => room.as_ref().map_or(0, String::len),
        }
    }
}

/// What is said was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// Too much waits for the broker.
    Full,
    /// It has more bytes than a message may have.
    TooLarge { bytes: usize, bytes_max: usize },
}

/// How much a link takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkBounds {
    /// All that waits; the last one may go beyond.
    pub(crate) bytes_max: usize,
    /// One message, as the broker is sent it.
    pub(crate) message_bytes_max: usize,
}

/// What our own format puts around what is said, about.
const ENVELOPE_BYTES: usize = 48;

/// The sending side; all threads share one.
pub(crate) struct Link {
    queue: QueueSender<Said>,
    bytes: Arc<AtomicUsize>,
    bounds: LinkBounds,
    is_asleep: Arc<AtomicBool>,
    bell: Box<dyn Bell>,
    tag: NodeTag,
    /// A format has channels for namespaces or rooms, and must know their names.
    names_rooms: bool,
    /// Sockets are left with the broker when this process ends.
    pub(crate) keeps_sockets: bool,
    pub(crate) interests: Arc<Interests>,
    pub(crate) stats: Arc<LinkStats>,
}

/// What happens on a link, counted since the server began.
#[derive(Debug, Default)]
pub(crate) struct LinkStats {
    /// Whether the broker is connected.
    pub(crate) is_up: AtomicBool,
    /// Times that the broker could not be reached, or was lost.
    pub(crate) outages: Count,
    /// Connections that were made.
    pub(crate) connects: Count,
    /// Messages that the broker has taken.
    pub(crate) published: Count,
    /// Messages that were not taken, because too much waits or because they are too large.
    pub(crate) refused: Count,
    /// Messages that are lost: too large for the broker, on their way when the connection broke, or for a shard that does not keep up.
    pub(crate) lost: Count,
    /// Messages that came.
    pub(crate) received: Count,
    /// Those that were this process' own words.
    pub(crate) own: Count,
    /// Those that came a second time.
    pub(crate) repeated: Count,
    /// Events that came for rooms without a member here.
    pub(crate) nobodys: Count,
    /// Those that could not be read.
    pub(crate) unreadable: Count,
    /// Sockets that this process has left with the broker.
    pub(crate) sockets_left: Count,
    /// Sockets that this process has gone on with, from what others had left.
    pub(crate) sockets_taken: Count,
    /// Sockets that were left and that this process could not go on with.
    pub(crate) sockets_given_up: Count,
    /// Other processes that are known now.
    pub(crate) processes: AtomicU64,
}

/// What happens on a message queue, counted since the server began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// Whether the broker is connected now.
    pub is_up: bool,
    /// Other processes that are known now.
    pub processes: u64,
    /// Bytes that wait for the broker now.
    pub waiting_bytes: u64,
    /// Times that the broker could not be reached, or was lost: at the start, or later.
    pub outages: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Messages that the broker has taken.
    pub published: u64,
    /// Messages that were refused, because more than `queue_bytes_max` waited, or because they were larger than
    /// `queue_message_bytes_max`: the emit said [`Emitted::QueueFull`](crate::Emitted::QueueFull) or
    /// [`TooLarge`](crate::Emitted::TooLarge).
    pub refused: u64,
    /// Messages that are lost: too large for the broker, on their way when the connection broke, or for a shard that does not keep up.
    pub lost: u64,
    /// Messages that came.
    pub received: u64,
    /// Those that were this process' own words.
    pub own: u64,
    /// Those that came a second time, and were not delivered again.
    pub repeated: u64,
    /// Events that came for rooms without a member here.
    pub nobodys: u64,
    /// Those that could not be read; the log says why.
    pub unreadable: u64,
    /// Sockets that this process has left with the broker, as it stops: see `recovery_survives`.
    pub sockets_left: u64,
    /// Sockets of processes that are gone, which clients have come back to here.
    pub sockets_taken: u64,
    /// Sockets of processes that are gone, which clients have claimed here in vain: they had missed more than the broker keeps, or too
    /// many came at once.
    pub sockets_given_up: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The receiving side, of the companion thread.
#[derive(Debug)]
pub(crate) struct LinkReceiver {
    queue: QueueReceiver<Said>,
    bytes: Arc<AtomicUsize>,
    is_asleep: Arc<AtomicBool>,
    pub(crate) interests: Arc<Interests>,
}

impl Link {
    /// A link whose receiver is woken by `bell`. The ids of this process' sessions have the tag.
    pub(crate) fn new(
        tag: NodeTag,
        bounds: LinkBounds,
        names_rooms: bool,
        bell: Box<dyn Bell>,
    ) -> (Link, LinkReceiver) {
        let (sender, receiver) = queue(LINK_MESSAGES_MAX, LINK_PLACES);
        let (bytes, is_asleep) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let interests = Arc::new(Interests::new());
        let receiver = LinkReceiver {
            queue: receiver,
            bytes: Arc::clone(&bytes),
            is_asleep: Arc::clone(&is_asleep),
            interests: Arc::clone(&interests),
        };
        let stats = Arc::default();
        let keeps_sockets = false;
        let link = Link {
            queue: sender,
            bytes,
            bounds,
            is_asleep,
            bell,
            tag,
            names_rooms,
            keeps_sockets,
            interests,
            stats,
        };
        (link, receiver)
    }

    /// The same link, by which sockets are left with the broker. Then what is said to one socket goes to the broker as well: its client
    /// may be about to come back elsewhere.
    #[must_use]
    pub(crate) fn keeping_sockets(self) -> Link {
        self.interests.note_moved();
        Link { keeps_sockets: true, ..self }
    }

    /// Whether sockets can be left now without filling the queue: the rest is for what they still say.
    pub(crate) fn takes_sockets(&self) -> bool {
        self.bytes.load(Relaxed) < self.bounds.bytes_max / 2 && !self.queue.is_full()
    }

    /// Whether other processes may have to do with a target. The sockets whose ids are named are of this process if its tag is in
    /// the ids, and no socket has come back to another process.
    pub(crate) fn concerns(&self, target: &Target) -> bool {
        let is_own = |room: &str| Sid::parse(room).is_some_and(|sid| sid.node() == self.tag);
        let may_be_elsewhere = |room: &str| self.interests.have_moved() || !is_own(room);
        target.reach == Reach::Everywhere && (target.is_everyone || target.rooms.iter().any(may_be_elsewhere))
    }

    /// Says something to the other processes, or not: then it is counted.
    pub(crate) fn say(&self, said: Said) -> Result<(), LinkError> {
        self.say_before_waking(said)?;
        self.wake();
        Ok(())
    }

    /// The same for who says more soon, and [wakes](Link::wake) the companion afterwards.
    pub(crate) fn say_before_waking(&self, said: Said) -> Result<(), LinkError> {
        let len = said.len_bytes();
        if let Err(error @ LinkError::TooLarge { bytes, bytes_max }) = self.check(len) {
            self.stats.refused.add(1);
            tracing::error!(
                bytes,
                bytes_max,
                "a message is larger than queue_message_bytes_max: other processes do not get it"
            );
            return Err(error);
        }
        let is_full = self.bytes.fetch_add(len, Relaxed) >= self.bounds.bytes_max;
        if is_full || self.queue.send(said).is_err() {
            self.bytes.fetch_sub(len, Relaxed);
            self.stats.refused.add(1);
            return Err(LinkError::Full);
        }
        Ok(())
    }

    /// Whether something of so many bytes would be taken now.
    pub(crate) fn check(&self, len: usize) -> Result<(), LinkError> {
        let (bytes, bytes_max) = (len.saturating_add(ENVELOPE_BYTES), self.bounds.message_bytes_max);
        if bytes > bytes_max {
            return Err(LinkError::TooLarge { bytes, bytes_max });
        }
        if self.bytes.load(Relaxed) >= self.bounds.bytes_max { Err(LinkError::Full) } else { Ok(()) }
    }

    /// The figures now.
    pub(crate) fn snapshot(&self) -> QueueStats {
        let stats = &self.stats;
        QueueStats {
            is_up: self.is_up(),
            processes: stats.processes.load(Relaxed),
            waiting_bytes: self.bytes.load(Relaxed) as u64,
            outages: stats.outages.get(),
            connects: stats.connects.get(),
            published: stats.published.get(),
            refused: stats.refused.get(),
            lost: stats.lost.get(),
            received: stats.received.get(),
            own: stats.own.get(),
            repeated: stats.repeated.get(),
            nobodys: stats.nobodys.get(),
            unreadable: stats.unreadable.get(),
            sockets_left: stats.sockets_left.get(),
            sockets_taken: stats.sockets_taken.get(),
            sockets_given_up: stats.sockets_given_up.get(),
        }
    }

    /// Whether the broker is connected: else nobody can be asked.
    pub(crate) fn is_up(&self) -> bool {
        self.stats.is_up.load(Relaxed)
    }

    /// Whether other processes are there.
    pub(crate) fn has_company(&self) -> bool {
        self.stats.processes.load(Relaxed) > 0
    }

    /// A room has its first member on a shard, or the namespace itself has if no room is named.
    pub(crate) fn hold(&self, namespace: &Address, room: Option<&str>) {
        if self.interests.add(room_slot(namespace, room)) {
            self.wake();
        }
        self.name_room(namespace, room, true);
    }

    /// It has no member there any more.
    pub(crate) fn release(&self, namespace: &Address, room: Option<&str>) {
        if self.interests.remove(room_slot(namespace, room)) {
            self.wake();
        }
        self.name_room(namespace, room, false);
    }

    fn name_room(&self, namespace: &Address, room: Option<&str>, is_held: bool) {
        if self.names_rooms {
            let room = room.map(str::to_owned);
            // What is refused is counted there. Such a room is then heard for longer, or not by its own channel.
            let _ = self.say(Said::Room { namespace: namespace.clone(), room, is_held });
        }
    }

    /// Makes the companion look, if it sleeps.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `fall_asleep`: either we see the flag, or it sees what we have done.
        fence(SeqCst);
        if self.is_asleep.load(Relaxed) && self.is_asleep.swap(false, AcqRel) {
            self.bell.ring();
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl LinkReceiver {
    /// What was said next.
    pub(crate) fn next(&self) -> Option<Said> {
        let said = self.queue.next(&mut Waiting::default())?;
        self.bytes.fetch_sub(said.len_bytes(), Relaxed);
        Some(said)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Whether the companion may sleep until it is rung: nothing has been said that it would take now, and no interest has changed.
    pub(crate) fn fall_asleep(&self, takes_messages: bool) -> bool {
        self.is_asleep.store(true, Relaxed);
        fence(SeqCst);
        if (!takes_messages || self.queue.is_empty()) && !self.interests.have_changed() {
            return true;
        }
        self.is_asleep.store(false, Relaxed);
        false
    }

    /// The companion is awake: who says something need not ring.
    pub(crate) fn wake_up(&self) {
        self.is_asleep.store(false, Relaxed);
    }
}

/// The links of a process, by endpoint. None where no message queue is configured.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// What the ids of all its sessions have in common.
    pub(crate) tag: Option<NodeTag>,
    /// Tells this process from others, in the stamps of state rooms.
    pub(crate) process: u64,
    /// By the endpoint's path; none is the configuration's own. Several endpoints may share one.
    links: Vec<(Option<Box<str>>, Arc<Link>)>,
}

impl Links {
    pub(crate) fn new(tag: NodeTag, process: u64, links: Vec<(Option<Box<str>>, Arc<Link>)>) -> Links {
        Links { tag: Some(tag), process, links }
    }

    /// The link of a namespace's endpoint.
    #[inline]
    pub(crate) fn of(&self, namespace: &Address) -> Option<&Arc<Link>> {
        let endpoint = namespace.endpoint();
        self.links.iter().find(|(path, _)| path.as_deref() == endpoint).map(|(_, link)| link)
    }

    /// Every link, once.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.iter_with_paths().map(|(_, link)| link)
    }

    /// Every link, once, with the path of the first endpoint that uses it; none is the configuration's own.
    pub(crate) fn iter_with_paths(&self) -> impl Iterator<Item = (Option<&str>, &Arc<Link>)> {
        let is_first = |place: usize, link: &Arc<Link>| {
            !self.links[..place].iter().any(|(_, other)| Arc::ptr_eq(link, other))
        };
        self.links
            .iter()
            .enumerate()
            .filter(move |(place, (_, link))| is_first(*place, link))
            .map(|(_, (path, link))| (path.as_deref(), link))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct CountingBell(Arc<AtomicUsize>);

    impl Bell for CountingBell {
        fn ring(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn link(bytes_max: usize) -> (Link, LinkReceiver, Arc<AtomicUsize>) {
        let rings = Arc::new(AtomicUsize::new(0));
        let bounds = LinkBounds { bytes_max, message_bytes_max: 2_000_000 };
        let (link, receiver) =
            Link::new(NodeTag([1, 2, 3]), bounds, false, Box::new(CountingBell(Arc::clone(&rings))));
        (link, receiver, rings)
    }

    fn emit(bytes: usize) -> Said {
        Said::Emit(Arc::new(Broadcast { frame: Arc::new(vec![0; bytes]), ..Broadcast::default() }))
    }

    #[test]
    fn a_full_link_refuses_and_counts() {
        let (link, receiver, _) = link(1000);
        let taken = (0..100).take_while(|_| link.say(emit(100)).is_ok()).count();
        assert_eq!((taken, link.stats.refused.get(), receiver.waiting_bytes()), (10, 1, 1000));
        assert!(receiver.next().is_some());
        assert_eq!((link.say(emit(1_000_000)), link.say(emit(1))), (Ok(()), Err(LinkError::Full)));
        while receiver.next().is_some() {}
        assert_eq!(receiver.waiting_bytes(), 0);
        let bytes_max = 2_000_000;
        let too_large = |bytes| Err(LinkError::TooLarge { bytes, bytes_max });
        assert_eq!(link.say(emit(bytes_max)), too_large(bytes_max + ENVELOPE_BYTES));
        assert_eq!((link.say(emit(bytes_max - ENVELOPE_BYTES)), receiver.next().is_some()), (Ok(()), true));
        assert_eq!((link.stats.refused.get(), receiver.waiting_bytes()), (3, 0));
        let taken = (0..100_000).take_while(|_| link.say(emit(0)).is_ok()).count();
        assert_eq!(taken, LINK_MESSAGES_MAX);
    }

    #[test]
    fn the_companion_is_rung_once_and_only_while_it_sleeps() {
        let (link, receiver, rings) = link(1000);
        let room = |name| link.hold(&Address::new(None, "/"), Some(name));
        link.say(emit(1)).unwrap();
        room("a");
        assert_eq!(rings.load(Relaxed), 0);
        assert!(!receiver.fall_asleep(true), "something was said");
        assert!(receiver.next().is_some());
        assert!(!receiver.fall_asleep(false), "an interest has changed");
        receiver.interests.take_changes(|_, _| {});
        assert!(receiver.fall_asleep(true));
        room("b");
        room("c");
        link.say(emit(1)).unwrap();
        assert_eq!(rings.load(Relaxed), 1);
    }

    #[test]
    fn interests_tell_what_has_changed_and_whether_it_is_held_now() {
        let (link, receiver, _) = link(1000);
        let namespace = Address::new(None, "/");
        let changes = || {
            let mut changes = Vec::new();
            receiver.interests.take_changes(|slot, is_held| changes.push((slot, is_held)));
            changes
        };
        let (a, all) = (room_slot(&namespace, Some("a")), room_slot(&namespace, None));
        link.hold(&namespace, Some("a"));
        link.hold(&namespace, Some("a"));
        assert_eq!(changes(), [(a, true)]);
        link.release(&namespace, Some("a"));
        assert_eq!(changes(), []);
        link.hold(&namespace, None);
        link.release(&namespace, Some("a"));
        let mut expected = [(a, false), (all, true)];
        expected.sort_unstable();
        assert_eq!(changes(), expected);
        link.hold(&namespace, Some("a"));
        link.release(&namespace, Some("a"));
        assert_eq!(changes(), [(a, false)], "it came and went");
    }

    #[test]
    fn what_is_for_this_process_alone_is_not_said() {
        let (link, receiver, _) = link(1000);
        let sid = |tag: [u8; 3]| {
            let mut random = [7; 13];
            random[..3].copy_from_slice(&tag);
            Sid::new(crate::base::ids::ShardId(1), random).to_string()
        };
        let (own, foreign) = (sid([1, 2, 3]), sid([1, 2, 4]));
        let target = |is_everyone, rooms: &[&str], reach| Target {
            is_everyone,
            rooms: rooms.iter().copied().collect(),
            reach,
            ..Target::default()
        };
        for (target, expected) in [
            (target(true, &[], Reach::Everywhere), true),
            (target(true, &[], Reach::Process), false),
            (target(false, &[&own], Reach::Everywhere), false),
            (target(false, &[&foreign], Reach::Everywhere), true),
            (target(false, &[&own, "room"], Reach::Everywhere), true),
            (target(false, &["room"], Reach::Everywhere), true),
            (target(false, &["room"], Reach::Shard), false),
            (target(false, &[], Reach::Everywhere), false),
        ] {
            assert_eq!(link.concerns(&target), expected, "{target:?}");
        }
        let own = Target { rooms: [own.as_str()].into_iter().collect(), ..Target::default() };
        assert!(receiver.interests.note_moved() && !receiver.interests.note_moved());
        assert!(link.concerns(&own), "its socket may be in another process by now");
    }
}
