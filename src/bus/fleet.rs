//! Which other processes there are: what they said of themselves, and when they were heard last.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::ids::NodeTag;
use crate::base::limits::NAMESPACE_BYTES_MAX;
use crate::base::time::Time;
use crate::bus::own::{Hello, NodeId};
use crate::mesh::link::PEERS_BYTES_MAX;

/// How often a process says that it is there.
pub(crate) const HELLO_EVERY: Duration = Duration::from_secs(1);

/// After so long a silence a process is forgotten.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(3500);

/// Processes that are known at most; what further ones say is heard, but they are asked nothing.
pub(crate) const PEERS_MAX: usize = 1024;

/// Namespaces whose sockets a process counts for the others: those with the most.
pub(crate) const COUNTED_NAMESPACES_MAX: usize = 1000;

/// Bytes of the names of endpoints and namespaces that are kept of one process: as many as an honest one says, and no more of who
/// makes them up.
pub(crate) const COUNTED_NAMES_BYTES_MAX: usize = 64 * 1024;

/// Senders whose last messages are known: processes, and programs that only emit.
const SENDERS_MAX: usize = 4096;

/// What an entry takes in a tree that is half empty.
const COUNTED_BYTES: usize = 2 * size_of::<((Option<String>, String), u64)>();

const _: () = assert!(
    PEERS_MAX
        * (COUNTED_NAMES_BYTES_MAX + COUNTED_NAMESPACES_MAX * COUNTED_BYTES + 2 * size_of::<Peer>() + 400)
        + 2 * SENDERS_MAX * (size_of::<Seen>() + size_of::<NodeId>())
        <= PEERS_BYTES_MAX
);

/// How many messages back a repeated one is known.
const WINDOW: u64 = 1024;

/// How long a sender's messages may all be older than that. Then it was somebody else who has said a newer one under its id, and the
/// sender is believed again.
const STALE_PATIENCE: Duration = Duration::from_secs(30);

/// Another process.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) tag: NodeTag,
    heard: Time,
    /// Sockets by endpoint and namespace.
    sockets: BTreeMap<(Option<String>, String), u64>,
}

/// The other processes.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    peers: FxHashMap<NodeId, Peer>,
    senders: FxHashMap<NodeId, Seen>,
    /// How often messages may have been missed. What comes first from a sender after that is the first that counts: an older one,
    /// which the sender repeats, would come out of turn.
    gaps: u64,
}

/// Which messages of a sender have come: the newest, and a bit for each of those before it.
#[derive(Debug)]
struct Seen {
    newest: u64,
    before: [u64; (WINDOW / 64) as usize],
    heard: Time,
    gaps: u64,
    /// What came before may have been missed.
    sure_from: u64,
    /// Since when everything has been too old to be told, and the newest of that.
    stale: Option<(Time, u64)>,
}

/// Whether a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Yes,
    No,
    /// It may have been missed while there was no connection.
    Unsure,
}

impl Fleet {
    /// A connection to a broker that keeps nothing was made: messages may have been missed.
    pub(crate) fn note_gap(&mut self) {
        self.gaps += 1;
    }

    /// Whether a message comes for the first time. One so old that it cannot be told counts as repeated.
    pub(crate) fn is_first(&mut self, from: NodeId, sequence: u64, now: Time) -> bool {
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&from) {
            let oldest = self.senders.iter().min_by_key(|(_, seen)| seen.heard).map(|(id, _)| *id);
            oldest.map(|id| self.senders.remove(&id));
        }
        let seen = self.senders.entry(from).or_insert_with(|| Seen {
            newest: sequence.saturating_sub(1),
            before: [0; (WINDOW / 64) as usize],
            heard: now,
            gaps: 0,
            sure_from: 0,
            stale: None,
        });
        seen.heard = now;
        if seen.gaps != self.gaps && sequence > seen.newest || seen.is_passed_over(sequence, now) {
            let (newest, before) = (sequence.saturating_sub(1), [u64::MAX; (WINDOW / 64) as usize]);
            *seen = Seen { newest, before, heard: now, gaps: self.gaps, sure_from: sequence, stale: None };
        }
        seen.is_first(sequence)
    }

    /// Whether a message of somebody who was heard since has come. One so old that it cannot be told has, or never will.
    pub(crate) fn has_heard(&self, from: NodeId, sequence: u64) -> Heard {
        match self.senders.get(&from) {
            Some(seen) if sequence < seen.sure_from => Heard::Unsure,
            Some(seen) if sequence > seen.newest => Heard::No,
            Some(seen) if seen.newest - sequence >= WINDOW || seen.get(sequence) => Heard::Yes,
            Some(_) => Heard::No,
            None => Heard::Unsure,
        }
    }

    /// A process says who it is. True: it was not known.
    pub(crate) fn hear(&mut self, from: NodeId, hello: &Hello<'_>, now: Time) -> bool {
        let is_new = !self.peers.contains_key(&from);
        if is_new && self.peers.len() >= PEERS_MAX {
            return false;
        }
        let owned = |text: &str| text.to_owned();
        let mut bytes_left = COUNTED_NAMES_BYTES_MAX;
        let sockets = hello.sockets.iter().take(COUNTED_NAMESPACES_MAX);
        let sockets = sockets.take_while(|(path, name, _)| {
            let bytes = path.map_or(0, str::len) + name.len();
            let is_kept = name.len() <= NAMESPACE_BYTES_MAX && bytes <= bytes_left;
            bytes_left = bytes_left.saturating_sub(bytes);
            is_kept
        });
        let sockets = sockets.map(|(path, name, count)| ((path.map(owned), owned(name)), *count)).collect();
        let (name, tag) = (hello.name.chars().take(100).collect(), NodeTag(hello.tag));
        self.peers.insert(from, Peer { name, tag, heard: now, sockets });
        is_new
    }

    /// A process says something else than who it is: it is there.
    pub(crate) fn touch(&mut self, from: NodeId, now: Time) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard = now;
        }
    }

    /// A process is gone.
    pub(crate) fn forget(&mut self, id: NodeId) -> Option<Peer> {
        self.peers.remove(&id)
    }

    /// Processes that have been silent for too long.
    pub(crate) fn silent(&self, now: Time) -> Vec<NodeId> {
        let silent = self.peers.iter().filter(|(_, peer)| now.since(peer.heard) >= SILENCE_MAX);
        silent.map(|(id, _)| *id).collect()
    }

    /// We were deaf: nobody's silence until now counts.
    pub(crate) fn forgive_silence(&mut self, now: Time) {
        self.peers.values_mut().for_each(|peer| peer.heard = now);
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    pub(crate) fn name(&self, id: NodeId) -> String {
        self.peers.get(&id).map(|peer| peer.name.clone()).unwrap_or_default()
    }

    pub(crate) fn tag(&self, id: NodeId) -> Option<NodeTag> {
        self.peers.get(&id).map(|peer| peer.tag)
    }

    /// The processes whose sessions' ids have this tag: as a rule one, or none.
    pub(crate) fn with_tag(&self, tag: NodeTag) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(move |(_, peer)| peer.tag == tag).map(|(id, _)| *id)
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// How many sockets the others have in a namespace, as they last said.
    pub(crate) fn sockets(&self, endpoint: Option<&str>, namespace: &str) -> u64 {
        let key = (endpoint.map(str::to_owned), namespace.to_owned());
        self.peers
            .values()
            .filter_map(|peer| peer.sockets.get(&key))
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl Seen {
    /// Whether the sender's own messages are ignored for too long, because of a number that was not its own. Those that a broker gives
    /// once more are over sooner.
    fn is_passed_over(&mut self, sequence: u64, now: Time) -> bool {
        if sequence > self.newest || self.newest - sequence < WINDOW {
            self.stale = None;
            return false;
        }
        let (since, newest) = self.stale.unwrap_or((now, sequence));
        // In order, but for what came by several ways.
        let goes_on = sequence.saturating_add(WINDOW) > newest;
        self.stale = Some(if goes_on { (since, newest.max(sequence)) } else { (now, sequence) });
        goes_on && now.since(since) >= STALE_PATIENCE
    }

    fn is_first(&mut self, sequence: u64) -> bool {
        if sequence > self.newest {
            let step = sequence - self.newest;
            for number in self.newest + 1..sequence.min((self.newest + 1).saturating_add(WINDOW)) {
                self.set(number, false);
            }
            if step > WINDOW {
                self.before = [0; (WINDOW / 64) as usize];
            }
            self.newest = sequence;
            self.set(sequence, true);
            return true;
        }
        if self.newest - sequence >= WINDOW || self.get(sequence) {
            return false;
        }
        self.set(sequence, true);
        true
    }

    fn get(&self, number: u64) -> bool {
        let bit = number % WINDOW;
        self.before[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn set(&mut self, number: u64, is_seen: bool) {
        let bit = number % WINDOW;
        let word = &mut self.before[(bit / 64) as usize];
        *word = *word & !(1 << (bit % 64)) | u64::from(is_seen) << (bit % 64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn hello(name: &str) -> Hello<'_> {
        let sockets = vec![(None, "/", 3), (Some("/x/"), "/", 5)];
        Hello { name, tag: [1, 2, 3], started: 0, sockets, is_new: false, have_moved: false }
    }

    #[test]
    fn a_process_is_known_until_it_is_silent_or_goes() {
        let mut fleet = Fleet::default();
        assert!(fleet.hear([1; 16], &hello("one"), Time(0)));
        assert!(fleet.hear([2; 16], &hello("two"), Time(1000)));
        assert!(!fleet.hear([1; 16], &hello("one"), Time(1000)));
        assert_eq!(
            (fleet.sockets(None, "/"), fleet.sockets(Some("/x/"), "/"), fleet.sockets(None, "/y")),
            (6, 10, 0)
        );
        fleet.touch([2; 16], Time(3000));
        assert_eq!(fleet.silent(Time(4499)), Vec::<NodeId>::new());
        assert_eq!(fleet.silent(Time(4500)), [[1; 16]]);
        fleet.forgive_silence(Time(4500));
        assert_eq!(fleet.silent(Time(7999)), Vec::<NodeId>::new());
        assert!(fleet.forget([1; 16]).is_some_and(|peer| peer.name == "one"));
        assert_eq!((fleet.len(), fleet.name([2; 16]).as_str()), (1, "two"));
    }

    #[test]
    fn what_was_missed_is_told_from_what_is_still_to_come() {
        let mut fleet = Fleet::default();
        let me = [3; 16];
        assert_eq!(fleet.has_heard(me, 7), Heard::Unsure, "nobody of that id was heard");
        assert!(fleet.is_first(me, 9, Time(0)));
        assert_eq!([7, 9, 10].map(|number| fleet.has_heard(me, number)), [Heard::No, Heard::Yes, Heard::No]);
        assert!(fleet.is_first(me, 7, Time(0)));
        assert_eq!(fleet.has_heard(me, 7), Heard::Yes);
        fleet.note_gap();
        assert!(fleet.is_first(me, 20, Time(0)));
        let after = [7, 19, 20, 21].map(|number| fleet.has_heard(me, number));
        assert_eq!(after, [Heard::Unsure, Heard::Unsure, Heard::Yes, Heard::No]);
        assert!(fleet.is_first(me, 20 + 2 * WINDOW, Time(0)));
        assert_eq!(fleet.has_heard(me, 21), Heard::Yes, "too old to be told");
    }

    #[test]
    fn what_a_process_says_of_its_namespaces_is_bounded_in_bytes() {
        let mut fleet = Fleet::default();
        let names: Vec<String> =
            (0..COUNTED_NAMESPACES_MAX).map(|number| format!("/{number:0>400}")).collect();
        let kept = COUNTED_NAMES_BYTES_MAX / names[0].len();
        let (long, path) = ("/".repeat(NAMESPACE_BYTES_MAX + 1), "/".repeat(COUNTED_NAMES_BYTES_MAX));
        type Counted<'a> = Vec<(Option<&'a str>, &'a str, u64)>;
        let rows: [(Counted<'_>, usize); 3] = [
            (names.iter().map(|name| (None, name.as_str(), 1)).collect(), kept),
            (vec![(None, "/", 1), (None, &long, 1)], 1),
            (vec![(Some(&path), "/", 1)], 0),
        ];
        for (sockets, expected) in rows {
            fleet.hear([1; 16], &Hello { sockets, ..hello("one") }, Time(0));
            assert_eq!(fleet.peers[&[1; 16]].sockets.len(), expected);
        }
    }

    #[test]
    fn a_number_that_is_not_the_senders_own_silences_it_for_a_while_only() {
        let second = |number: u64| Time(number * 1000);
        let mut fleet = Fleet::default();
        let me = [3; 16];
        assert!(fleet.is_first(me, 100, second(0)));
        assert!(fleet.is_first(me, u64::MAX, second(1)), "somebody else says so");
        // One a second, not all of which come here.
        let heard: Vec<u64> = (2..=60).filter(|at| fleet.is_first(me, 100 + 3 * at, second(*at))).collect();
        assert_eq!(heard, (32..=60).collect::<Vec<_>>());
        assert!(!fleet.is_first(me, 100 + 3 * 50, second(61)), "repeated");
        assert_eq!(fleet.has_heard(me, 150), Heard::Unsure);
        // A broker that begins anew gives old ones again, however often: they are no new ones.
        let mut fleet = Fleet::default();
        assert!(fleet.is_first(me, 100_000, second(0)));
        for at in 1..=100 {
            let again = (0..300).filter(|number| fleet.is_first(me, number * 300, second(at))).count();
            assert_eq!(again, 0, "after {at} s");
        }
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut fleet = Fleet::default();
        for number in 0..2 * SENDERS_MAX as u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_le_bytes());
            fleet.hear(id, &hello("x"), Time(0));
            fleet.is_first(id, 1, Time(u64::from(number)));
        }
        assert_eq!((fleet.peers.len(), fleet.senders.len()), (PEERS_MAX, SENDERS_MAX));
    }

    proptest! {
        #[test]
        fn each_message_is_first_once(steps in proptest::collection::vec((0..3000_u64, any::<bool>()), 1..400)) {
            let mut fleet = Fleet::default();
            let (mut newest, mut model) = (5_000_u64, BTreeSet::new());
            for (offset, is_forward) in steps {
                let sequence = if is_forward { newest + offset } else { newest.saturating_sub(offset) };
                let is_first = fleet.is_first([0; 16], sequence, Time(0));
                let is_in_window = model.is_empty() || sequence + WINDOW > newest;
                prop_assert_eq!(is_first, is_in_window && !model.contains(&sequence), "{}", sequence);
                newest = if model.is_empty() { sequence } else { newest.max(sequence) };
                model.insert(sequence);
            }
        }
    }
}
