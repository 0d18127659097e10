//! Whose events handlers outside a shard have: an account for each client, and one for all clients of a shard, which threads outside
//! read and write.
//!
//! They say how much waits outside. The shard adds to them when it gives an event away, and then looks whether that is too much; whoever is
//! done with an event takes it away, and tells the shard if that waits for it. Both first write and then look, in one order
//! for all threads, so one of them sees what the other has written.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use rustc_hash::FxHashSet;

use crate::base::ids::{ShardId, Sid};
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::errand::{Errand, Errands};

/// What an event counts beside its text and its attachments: about what whoever handles it keeps of it besides.
pub(crate) const TICKET_BYTES: usize = 64;

/// A bound, and what is there: once it is passed, nothing more is taken until half of it is gone.
#[derive(Debug)]
struct Level {
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
}

impl Level {
    fn new(bytes_max: usize) -> Level {
        Level { bytes: AtomicUsize::new(0), bytes_max: AtomicUsize::new(bytes_max) }
    }

    fn is_over(&self) -> bool {
        self.bytes.load(SeqCst) > self.bytes_max.load(Relaxed)
    }

    fn has_fallen(&self) -> bool {
        self.bytes.load(SeqCst) <= self.bytes_max.load(Relaxed) / 2
    }
}

/// What all events of one shard's clients have together that handlers outside have not done yet.
pub(crate) struct Book {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) shard: ShardId,
    level: Level,
    events: AtomicU64,
    /// Clients wait until the level of all has fallen.
    is_awaited: AtomicBool,
    /// The bound of one client's level.
    session_bytes_max: AtomicUsize,
    /// How many connections have got an id.
    connections: AtomicU64,
}

impl Book {
    pub(crate) fn new(mesh: Arc<Mesh>, shard: ShardId) -> Book {
        let session_bytes_max = AtomicUsize::new(usize::MAX);
        let (level, events) = (Level::new(usize::MAX), AtomicU64::new(0));
        let (is_awaited, connections) = (AtomicBool::new(false), AtomicU64::new(0));
        Book { mesh, shard, level, events, is_awaited, session_bytes_max, connections }
    }

    /// How much may wait outside, of one client and of all of this shard's.
    pub(crate) fn bound(&self, session_bytes_max: usize, bytes_max: usize) {
        self.session_bytes_max.store(session_bytes_max, Relaxed);
        self.level.bytes_max.store(bytes_max, Relaxed);
    }

    /// More is outside than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.level.is_over()
    }

    /// Bytes and events that are outside now.
    pub(crate) fn now(&self) -> (u64, u64) {
        (self.level.bytes.load(Relaxed) as u64, self.events.load(Relaxed))
    }

    /// Asks the shard for something. False when its inbox is full.
    pub(crate) fn send(&self, errand: Errand) -> bool {
        let mut errands = Errands::default();
        errands.push(errand);
        let sent = self.mesh.send(self.shard, ShardMessage::Errands(Box::new(errands)));
        self.mesh.ring(self.shard);
        sent != Err(InboxError::Full)
    }

    /// Says that clients wait until the level of all has fallen. False: it has.
    fn await_fall(&self) -> bool {
        self.is_awaited.store(true, SeqCst);
        // If it fell in between, whoever made it fall may not have seen the note.
        !(self.level.has_fallen() && self.is_awaited.swap(false, SeqCst))
    }
}

/// Names a client's connection, the Engine.IO session, in one process: all sockets of a client have the same one, in whichever
/// namespaces, and no other client ever has it. Unlike the session's own id it opens nothing, so it may be shown.
/// [`Server::on_connection_end`](crate::Server::on_connection_end) tells that it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The id as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The same for one session.
pub(crate) struct SessionAccount {
    pub(crate) book: Arc<Book>,
    pub(crate) id: ConnectionId,
    session: Key,
    bytes: AtomicUsize,
    /// Its client waits until its level has fallen.
    is_awaited: AtomicBool,
}

impl SessionAccount {
    pub(crate) fn new(book: &Arc<Book>, session: Key) -> SessionAccount {
        let (bytes, is_awaited) = (AtomicUsize::new(0), AtomicBool::new(false));
        // A shard does not come to 2^48.
        let number = book.connections.fetch_add(1, Relaxed) & (u64::MAX >> 16);
        let id = ConnectionId(u64::from(book.shard.0) << 48 | number);
        SessionAccount { book: Arc::clone(book), id, session, bytes, is_awaited }
    }

    /// An event of so many bytes is given outside. True if its client must wait before it gives another one.
    pub(crate) fn lend(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, SeqCst);
        self.book.level.bytes.fetch_add(bytes, SeqCst);
        self.book.events.fetch_add(1, Relaxed);
        self.must_wait()
    }

    /// Whether its client must wait. If so, somebody will say when it need not any more.
    pub(crate) fn must_wait(&self) -> bool {
        let is_over = self.bytes.load(SeqCst) > self.book.session_bytes_max.load(Relaxed);
        (is_over && self.await_fall()) || (self.book.level.is_over() && self.book.await_fall())
    }

    /// Whether its client, who waits, need not any more. If it must, somebody will say when.
    pub(crate) fn may_go_on(&self) -> bool {
        let is_awaited = !self.has_fallen() && self.await_fall();
        !is_awaited && (self.book.level.has_fallen() || !self.book.await_fall())
    }

    /// An event is done.
    pub(crate) fn take_back(&self, bytes: usize) {
        self.book.events.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, SeqCst);
        self.book.level.bytes.fetch_sub(bytes, SeqCst);
        if self.is_awaited.load(SeqCst) && self.has_fallen() && self.is_awaited.swap(false, SeqCst) {
            let is_told = self.book.send(Errand::GoOn(self.session));
            // The shard looks itself after a while, too.
            self.is_awaited.store(!is_told, SeqCst);
        }
        let book = &self.book;
        if book.is_awaited.load(SeqCst) && book.level.has_fallen() && book.is_awaited.swap(false, SeqCst) {
            let is_told = book.send(Errand::AllGoOn);
            book.is_awaited.store(!is_told, SeqCst);
        }
    }

    fn has_fallen(&self) -> bool {
        self.bytes.load(SeqCst) <= self.book.session_bytes_max.load(Relaxed) / 2
    }

    /// Says that its client waits until its level has fallen. False: it has.
    fn await_fall(&self) -> bool {
        self.is_awaited.store(true, SeqCst);
        !(self.has_fallen() && self.is_awaited.swap(false, SeqCst))
    }
}

/// A socket as threads outside its shard know it.
pub(crate) struct SocketAccount {
    pub(crate) session: Arc<SessionAccount>,
    pub(crate) key: Key,
    pub(crate) sid: Sid,
    pub(crate) namespace: Address,
    /// Its client is gone, or was sent away.
    is_gone: AtomicBool,
}

impl SocketAccount {
    pub(crate) fn new(
        session: Arc<SessionAccount>,
        (key, sid): (Key, Sid),
        namespace: Address,
        is_gone: bool,
    ) -> SocketAccount {
        SocketAccount { session, key, sid, namespace, is_gone: AtomicBool::new(is_gone) }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Acquire)
    }

    pub(crate) fn close(&self) {
        self.is_gone.store(true, Release);
    }
}

impl fmt::Debug for SocketAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SocketAccount").field("sid", &self.sid).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SessionAccount").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Book").field("level", &self.level).finish_non_exhaustive()
    }
}

/// What a shard has to do with handlers outside.
pub(crate) struct Outside {
    pub(crate) book: Arc<Book>,
    /// Something was given outside in this turn, and whoever takes it was not told.
    pub(crate) has_given: bool,
    /// Sessions whose clients wait until some of what is outside is done.
    pub(crate) waiting: FxHashSet<Key>,
    /// Sockets that have ended, whose disconnect handlers have not, and until when they are kept. Some are gone.
    pub(crate) leaving: VecDeque<(Time, Key)>,
}

impl Outside {
    pub(crate) fn new(book: Arc<Book>) -> Outside {
        Outside { book, has_given: false, waiting: FxHashSet::default(), leaving: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Bell;

    struct Silent;
    impl Bell for Silent {
        fn ring(&self) {}
    }

    const SESSION: Key = Key { index: 3, generation: 1 };

    /// What the shard was asked for since the last time.
    fn asked(receiver: &crate::mesh::InboxReceiver) -> Vec<String> {
        let messages = std::iter::from_fn(|| receiver.next_message());
        let errands = messages.flat_map(|message| match message {
            ShardMessage::Errands(errands) => errands.into_list(),
            other => panic!("{other:?}"),
        });
        errands
            .map(|errand| match errand {
                Errand::GoOn(SESSION) => "one".to_owned(),
                Errand::AllGoOn => "all".to_owned(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn one_client_waits_above_its_bound_and_goes_on_below_half_of_it() {
        let (mesh, receivers) = Mesh::new(vec![Box::new(Silent)]);
        let book = Arc::new(Book::new(mesh, ShardId(0)));
        book.bound(100, 1000);
        let account = SessionAccount::new(&book, SESSION);
        // Bytes that are lent, or taken back; whether the client must wait then; what the shard is told.
        let rows: [(i64, bool, &[&str]); 8] = [
            (100, false, &[]),
            (1, true, &[]),
            (-1, true, &[]),
            (-49, true, &[]),
            (-1, false, &["one"]),
            (-50, false, &[]),
            (300, true, &[]),
            (-300, false, &["one"]),
        ];
        for (row, (bytes, waits, told)) in rows.into_iter().enumerate() {
            let len = bytes.unsigned_abs() as usize;
            if bytes > 0 {
                assert_eq!(account.lend(len), waits, "row {row}");
            } else {
                account.take_back(len);
            }
            assert_eq!(asked(&receivers[0]), told, "row {row}");
        }
        assert!(account.may_go_on());
        assert_eq!(book.level.bytes.load(Relaxed), 0);
    }

    #[test]
    fn all_clients_wait_above_the_bound_of_all() {
        let (mesh, receivers) = Mesh::new(vec![Box::new(Silent)]);
        let book = Arc::new(Book::new(mesh, ShardId(0)));
        book.bound(100, 150);
        let [first, second] = [0, 1].map(|_| SessionAccount::new(&book, SESSION));
        assert!(!first.lend(100) && !second.lend(50));
        assert!(second.lend(1) && first.lend(1));
        assert!(!first.may_go_on());
        first.take_back(76);
        assert_eq!(asked(&receivers[0]), ["one"], "its own level has fallen, that of all has not");
        assert!(!first.may_go_on());
        assert!(!second.may_go_on(), "once it waits, half of its own bound counts, too");
        second.take_back(1);
        assert_eq!(asked(&receivers[0]), ["one", "all"]);
        assert!(first.may_go_on() && second.may_go_on());
        assert_eq!(book.now().0, 75);
    }

    #[test]
    fn a_shard_that_cannot_be_told_is_told_the_next_time() {
        let options = crate::mesh::MeshOptions { messages_max: 1, places: 1, ..Default::default() };
        let (mesh, receivers) = Mesh::with(vec![Box::new(Silent)], options);
        let book = Arc::new(Book::new(Arc::clone(&mesh), ShardId(0)));
        book.bound(100, 1000);
        let account = SessionAccount::new(&book, SESSION);
        assert!(account.lend(101));
        while mesh.send(ShardId(0), ShardMessage::StopInTurn(0)).is_ok() {}
        account.take_back(60);
        while receivers[0].next_message().is_some() {}
        account.take_back(1);
        assert_eq!(asked(&receivers[0]), ["one"]);
    }
}
