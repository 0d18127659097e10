//! Clients that do not keep up: what becomes of events for them.
//!
//! A client is *behind* when it is owed bytes from before this turn: the kernel's buffer is full, or no poll has come. An event
//! whose rule allows it is dropped then, or *parked* in the session until the client has caught up. Parked events are kept as
//! canonical frames, and events that must be sent may overtake them. `owed.rs` counts what all clients are owed together.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use crate::base::buffer::SharedFrame;
use crate::message::target::WhenBehind;
use crate::protocol::socketio::event::Event;
use crate::protocol::socketio::packet;
use crate::protocol::websocket::frame::server_frames;
use crate::shard::value::kinds::DropPolicy;

/// Keys whose latest event one session keeps; an event with another key is dropped.
const LATEST_KEYS_MAX: usize = 1024;

/// What becomes of a namespace's or a room's events for a client that is slow.
///
/// It concerns events without acknowledgement. `volatile()` and `latest(key)` say it for one event.
///
/// ```
/// use shardcast::{Config, Context, Server, SlowConsumers};
///
/// Server::new(Config::default()).namespace("/", |io| {
///     io.slow_consumers(SlowConsumers::DropOldest { bytes_max: 64 * 1024 });
///     io.slow_consumers_in("orders", SlowConsumers::Close);
///     io.slow_consumers_in("prices", SlowConsumers::Latest);
///     io.on_drain(|cx: &mut Context| {
///         cx.emit("you were slow, and have caught up", ());
///     });
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumers {
    /// Every event is queued; a client that is owed more than `outbox_bytes_max` is closed. It may come back.
    #[default]
    Close,
    /// An event that would make it more than `bytes_max` bytes is not queued.
    DropNewest {
        /// Bytes that the client may be owed.
        bytes_max: usize,
    },
    /// Events wait apart while the client is behind; the oldest make room.
    DropOldest {
        /// Bytes that may wait.
        bytes_max: usize,
    },
    /// While the client is behind, the last event of each name waits, or of each key given with `latest`.
    Latest,
}

/// What became of an event at the sockets of this shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sockets to which it leaves with this turn.
    pub sent: u64,
    /// Sockets for which it waits: they are behind, or not let in yet, or no poll is there.
    pub queued: u64,
    /// Slow sockets that do not get it.
    pub dropped: u64,
}

impl Outcome {
    /// One more socket gets it, at once or later.
    #[inline]
    pub(crate) fn count(&mut self, is_waiting: bool) {
        if is_waiting {
            self.queued += 1;
        } else {
            self.sent += 1;
        }
    }
}

/// The rules of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlowRules {
    pub(crate) namespace: SlowConsumers,
    pub(crate) rooms: Vec<(String, SlowConsumers)>,
    /// A drain handler is registered: it is called when a client has caught up.
    pub(crate) has_drain_handler: bool,
}

/// Which of a session's queues: the namespace, and the rule's place among its rooms.
type QueueId = (u16, usize);

/// The namespace's own rule.
const NO_ROOM: usize = usize::MAX;

/// What becomes of one event for those who are behind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lag<'a> {
    Wait,
    DropNewest {
        bytes_max: usize,
    },
    Volatile,
    DropOldest {
        queue: QueueId,
        bytes_max: usize,
    },
    /// Without a key, the event's name is it.
    Latest {
        namespace: u16,
        key: Option<&'a str>,
    },
}

impl Lag<'_> {
    /// Under which name drops are counted.
    pub(crate) fn policy(&self) -> DropPolicy {
        match self {
            // Who waits is not dropped, but closed.
            Lag::Wait => DropPolicy::Closing,
            Lag::DropNewest { .. } => DropPolicy::Newest,
            Lag::Volatile => DropPolicy::Volatile,
            Lag::DropOldest { .. } => DropPolicy::Oldest,
            Lag::Latest { .. } => DropPolicy::Latest,
        }
    }
}

impl SlowRules {
    /// What a target says, or the rule of the room that it names.
    pub(crate) fn lag<'a>(&self, namespace: u16, asked: &'a WhenBehind, room: Option<&str>) -> Lag<'a> {
        let place = room.and_then(|room| self.rooms.iter().position(|(name, _)| name == room));
        let rule = place.map_or(self.namespace, |place| self.rooms[place].1);
        match (asked, rule) {
            (WhenBehind::Volatile, _) => Lag::Volatile,
            (WhenBehind::Latest(key), _) => Lag::Latest { namespace, key: Some(key) },
            (WhenBehind::Rule, SlowConsumers::Close) => Lag::Wait,
            (WhenBehind::Rule, SlowConsumers::DropNewest { bytes_max }) => Lag::DropNewest { bytes_max },
            (WhenBehind::Rule, SlowConsumers::DropOldest { bytes_max }) => {
                Lag::DropOldest { queue: (namespace, place.unwrap_or(NO_ROOM)), bytes_max }
            }
            (WhenBehind::Rule, SlowConsumers::Latest) => Lag::Latest { namespace, key: None },
        }
    }
}

/// Events that wait for a session to catch up, as canonical frames.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    queues: SmallVec<[(QueueId, Queue); 1]>,
    latest: BTreeMap<(u16, Box<str>), Latest>,
    /// The age of the next key that is new.
    next_age: u64,
    /// What all of them are.
    pub(crate) bytes: usize,
}

/// The latest event of a key. A key keeps its place among the others when a later event takes the place of an earlier one.
#[derive(Debug)]
struct Latest {
    age: u64,
    frame: SharedFrame,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<SharedFrame>,
    bytes: usize,
}

/// What parking did with an event. Not parked: the event is dropped, as the rule for slow consumers says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParkResult {
    pub(crate) is_parked: bool,
    /// Earlier events that gave way.
    pub(crate) displaced: u64,
}

impl Parked {
    /// Takes an event in, and lets go of what that displaces.
    pub(crate) fn push(&mut self, lag: Lag<'_>, frame: &SharedFrame, latest_bytes_max: usize) -> ParkResult {
        match lag {
            Lag::DropOldest { queue, bytes_max } => self.push_to_queue(queue, bytes_max, frame),
            Lag::Latest { namespace, key } => {
                let key = key.map(Cow::Borrowed).or_else(|| event_name(frame)).unwrap_or_default();
                self.keep_latest((namespace, Box::from(key)), frame, latest_bytes_max)
            }
            Lag::Wait | Lag::Volatile | Lag::DropNewest { .. } => ParkResult::default(),
        }
    }

    fn push_to_queue(&mut self, id: QueueId, bytes_max: usize, frame: &SharedFrame) -> ParkResult {
        if frame.len() > bytes_max {
            return ParkResult::default();
        }
        let place = self.queues.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            self.queues.push((id, Queue::default()));
            self.queues.len() - 1
        });
        let queue = &mut self.queues[place].1;
        let mut displaced = 0;
        while queue.bytes + frame.len() > bytes_max
            && let Some(oldest) = queue.frames.pop_front()
        {
            queue.bytes -= oldest.len();
            self.bytes -= oldest.len();
            displaced += 1;
        }
        queue.frames.push_back(SharedFrame::clone(frame));
        queue.bytes += frame.len();
        self.bytes += frame.len();
        ParkResult { is_parked: true, displaced }
    }

    fn keep_latest(&mut self, key: (u16, Box<str>), frame: &SharedFrame, bytes_max: usize) -> ParkResult {
        let is_full = self.latest.len() >= LATEST_KEYS_MAX;
        let old = self.latest.get_mut(&key);
        let bytes = self.bytes - old.as_ref().map_or(0, |old| old.frame.len()) + frame.len();
        let displaced = u64::from(old.is_some());
        match old {
            _ if bytes > bytes_max => return ParkResult::default(),
            Some(old) => old.frame = SharedFrame::clone(frame),
            None if is_full => return ParkResult::default(),
            None => {
                self.latest.insert(key, Latest { age: self.next_age, frame: SharedFrame::clone(frame) });
                self.next_age += 1;
            }
        }
        self.bytes = bytes;
        ParkResult { is_parked: true, displaced }
    }

    /// Everything of one namespace is void: its socket is gone.
    pub(crate) fn forget(&mut self, namespace: u16) {
        self.queues.retain(|(id, _)| id.0 != namespace);
        self.latest.retain(|(of, _), _| *of != namespace);
        let queued: usize = self.queues.iter().map(|(_, queue)| queue.bytes).sum();
        self.bytes = queued + self.latest.values().map(|latest| latest.frame.len()).sum::<usize>();
    }

    /// In order within each queue; then the latest, by the age of their keys.
    pub(crate) fn into_frames(self) -> impl Iterator<Item = SharedFrame> {
        let queued = self.queues.into_iter().flat_map(|(_, queue)| queue.frames);
        let mut latest: Vec<Latest> = self.latest.into_values().collect();
        latest.sort_unstable_by_key(|latest| latest.age);
        queued.chain(latest.into_iter().map(|latest| latest.frame))
    }
}

/// The name of the event in a canonical frame.
fn event_name(frame: &[u8]) -> Option<Cow<'_, str>> {
    let (_, payload) = server_frames(frame).next()?;
    let text = std::str::from_utf8(payload.strip_prefix(b"4")?).ok()?;
    let payload = packet::split(text).ok()?.payload;
    Some(Event::decode(payload, &[]).ok()?.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> SharedFrame {
        let mut bytes = Vec::new();
        crate::protocol::socketio::frames::frame_text(&mut bytes, text);
        SharedFrame::new(bytes)
    }

    #[test]
    fn the_oldest_make_room_within_their_queue() {
        let mut parked = Parked::default();
        let mut push = |room: usize, text: &str| {
            let lag = Lag::DropOldest { queue: (0, room), bytes_max: 20 };
            let result = parked.push(lag, &frame(text), usize::MAX);
            (result.is_parked, result.displaced)
        };
        assert_eq!(push(0, "42[1]"), (true, 0));
        assert_eq!(push(0, "42[2]"), (true, 0));
        assert_eq!(push(1, "42[3]"), (true, 0));
        assert_eq!(push(0, "42[4444444]"), (true, 1));
        assert_eq!(push(0, &"x".repeat(30)), (false, 0), "larger than the queue: the others stay");
        assert_eq!(parked.bytes, parked.queues.iter().map(|(_, queue)| queue.bytes).sum::<usize>());
        let frames: Vec<SharedFrame> = parked.into_frames().collect();
        assert_eq!(frames, ["42[2]", "42[4444444]", "42[3]"].map(frame));
    }

    #[test]
    fn the_latest_of_a_key_stays_in_its_place() {
        let mut parked = Parked::default();
        let mut push = |key, text: &str| {
            let result = parked.push(Lag::Latest { namespace: 7, key }, &frame(text), 100);
            (result.is_parked, result.displaced)
        };
        assert_eq!(push(Some("a"), "42[\"n\",1]"), (true, 0));
        assert_eq!(push(None, "42[\"n\",2]"), (true, 0));
        assert_eq!(push(Some("a"), "42[\"n\",3]"), (true, 1));
        assert_eq!(push(None, "42/x,[\"n\",4]"), (true, 1), "by the event's name");
        assert_eq!(
            push(Some("0"), "42[\"n\",5]"),
            (true, 0),
            "a key that is new comes last, whatever it is called"
        );
        assert_eq!(push(Some("b"), &"x".repeat(100)), (false, 0));
        let mut other = Parked::default();
        for key in 0..=LATEST_KEYS_MAX {
            let lag = Lag::Latest { namespace: 0, key: Some(&key.to_string()) };
            assert_eq!(other.push(lag, &frame("42[]"), usize::MAX).is_parked, key < LATEST_KEYS_MAX);
        }
        other.forget(0);
        assert_eq!((other.bytes, other.into_frames().count()), (0, 0));
        let frames: Vec<SharedFrame> = parked.into_frames().collect();
        assert_eq!(frames, ["42[\"n\",3]", "42/x,[\"n\",4]", "42[\"n\",5]"].map(frame));
    }
}
