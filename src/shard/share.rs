//! A connection's share of a turn: how much of what one peer sends is handled before others have their turn.
//!
//! A turn handles so many frames, requests and packets of one connection, and so many bytes. What is there beyond that is
//! *unread*: it stays in the connection's inbound buffer, the connection takes its place at the end of `Core::unfinished`, and
//! the driver calls [`Shard::go_on`] until nothing is left, serving everybody else in between. A connection whose own outbox
//! is more than half full is *paused* in the same way until its peer has taken something; for a session that polls, `slow_polls`
//! does the same. When too much is unread the driver is told to read no more.
//!
//! Events that have waited behind an asynchronous handler (`waiting`) take from the same share, before what is unread. A session
//! that polls has no connection of its own, so it has a share itself for those, and its own place in `Core::unfinished`.

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::shard::Shard;
use crate::shard::connection::{
    ANSWER_PATIENCE, Connection, Ending, FLUSH_PATIENCE, Kind, Role, WebSocketState,
};
use crate::shard::core::{Core, Output};
use crate::shard::session::Link;

/// Frames, requests and packets of one connection in one turn. With handlers that take 100 us each, this is what somebody else
/// waits for.
pub(crate) const SHARE_EVENTS_MAX: u16 = 16;

/// Bytes of one connection in one turn.
pub(crate) const SHARE_BYTES_MAX: usize = 256 * 1024;

/// When more than this is unread, the driver reads no more.
pub(crate) const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// What one peer has had of a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// The turn that `events` and `bytes` are about.
    turn: u32,
    bytes: u32,
    events: u16,
}

impl Spent {
    fn enter(&mut self, turn: u32) {
        if self.turn != turn {
            self.begin(turn);
        }
    }

    /// A new share, in whichever turn.
    fn begin(&mut self, turn: u32) {
        *self = Spent { turn, bytes: 0, events: 0 };
    }

    fn is_used_up(&self) -> bool {
        self.events >= SHARE_EVENTS_MAX || self.bytes as usize >= SHARE_BYTES_MAX
    }

    fn add_event(&mut self) {
        self.events = self.events.saturating_add(1);
    }

    fn add_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// The share of a session that polls: of what has waited behind its handlers.
#[derive(Debug, Default)]
pub(crate) struct SessionShare {
    spent: Spent,
    /// It has its place in `Core::unfinished`.
    pub(crate) is_queued: bool,
    /// What it sends goes on when a poll has taken some of its backlog.
    pub(crate) is_paused: bool,
    /// It has been paused for long: it gets one share, however much its backlog is.
    pub(crate) is_granted: bool,
    /// Its client has been seen to poll while a POST of it was under way.
    pub(crate) polls_beside: bool,
    /// The connection on which its last poll was answered.
    pub(crate) last_poll: Option<Key>,
}

impl SessionShare {
    /// Whether what has waited behind its handlers waits for the next share.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_queued || self.is_paused
    }
}

/// Who goes on in a later turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    Connection(Key),
    Session(Key),
}

/// What one connection has had of its turn, and what it waits for.
#[derive(Debug, Default)]
pub(crate) struct Share {
    spent: Spent,
    /// It has its place in `Core::unfinished`.
    pub(crate) is_queued: bool,
    /// It goes on when its outbox is less than half full; one with a POST, when a poll has taken enough.
    pub(crate) is_paused: bool,
    /// The driver was told to read no more.
    is_stopped: bool,
    /// While it was paused, its peer has taken something: it is alive, although nothing of it is read.
    has_progress: bool,
    /// The wire is over, and this is still to be said once everything that came before is handled.
    end: Option<WireEnd>,
    /// How much of the inbound buffer is used already.
    used: u32,
}

/// How a wire ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireEnd {
    /// The peer says no more.
    Ended,
    /// It is closed or broken.
    Closed,
}

/// Why no more input is handled now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The share is used up.
    Turn,
    /// Its peer is owed more than half of what it may be: the connection's own outbox, or the backlog for its polls.
    Outbox,
}

impl Share {
    /// Whether something waits for this connection's next share.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_queued || self.is_paused
    }

    /// What came last was not whole: looking at it cost nothing.
    pub(crate) fn give_back(&mut self) {
        self.spent.events = self.spent.events.saturating_sub(1);
    }

    /// Whether the peer is alive although it is not heard: its input waits for us, or it takes what it is owed.
    pub(crate) fn take_sign_of_life(&mut self) -> bool {
        std::mem::take(&mut self.has_progress) || self.is_queued
    }

    /// Its peer has taken something, on whichever connection.
    pub(crate) fn note_sign_of_life(&mut self) {
        self.has_progress = true;
    }
}

impl Connection {
    /// Takes one event from the share of this turn, or says why there is none now.
    #[inline]
    pub(crate) fn take_event(&mut self, turn: u32, outbox_bytes_max: usize) -> Result<(), Pause> {
        self.share.spent.enter(turn);
        if self.share.spent.is_used_up() || self.share.is_queued {
            return Err(Pause::Turn);
        }
        if self.outbox.len() > outbox_bytes_max / 2 && (self.share.end.is_none() || self.still_reads()) {
            return Err(Pause::Outbox);
        }
        self.share.spent.add_event();
        Ok(())
    }

    /// Whether the peer has said all it will, and takes what it has asked for: a client of HTTP may.
    fn still_reads(&self) -> bool {
        self.share.end == Some(WireEnd::Ended) && matches!(self.kind, Kind::Http(_))
    }

    /// Input that is not handled yet.
    fn unread(&self) -> usize {
        self.inbound.len() - self.share.used as usize
    }
}

impl Core {
    /// What was made is on its way to the driver, and everybody has a share again.
    pub(crate) fn new_turn(&mut self) {
        self.owed.begin_turn();
        self.turn = self.turn.wrapping_add(1);
    }

    /// Counts input of a connection, and takes what came before it and is not used yet. `None`: it must wait.
    #[inline]
    pub(crate) fn begin_input(&mut self, key: Key, bytes: usize) -> Option<Vec<u8>> {
        let turn = self.turn;
        let connection = self.connections.get_mut(key)?;
        connection.share.spent.enter(turn);
        if connection.share.is_waiting() || connection.share.spent.is_used_up() {
            return None;
        }
        connection.share.spent.add_bytes(bytes);
        Some(std::mem::take(&mut connection.inbound))
    }

    /// One packet of a longer request is handled. False when the next must wait.
    pub(crate) fn take_packet(&mut self, key: Key) -> bool {
        self.events_taken += 1;
        let (turn, is_turn_full) = (self.turn, self.owed.is_turn_full());
        let Some(connection) = self.connections.get_mut(key) else { return true };
        connection.share.spent.enter(turn);
        connection.share.spent.add_event();
        !connection.share.spent.is_used_up() && !is_turn_full
    }

    /// A message became longer than what came: the rest of the share pays for it.
    pub(crate) fn charge_bytes(&mut self, key: Key, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.share.spent.add_bytes(bytes);
        }
    }

    /// Takes one event that has waited from the share of its session's client, or says why there is none now.
    pub(crate) fn take_waiting_event(&mut self, session_key: Key, bytes: usize) -> Result<(), Pause> {
        self.events_taken += 1;
        if self.owed.is_turn_full() {
            return Err(Pause::Turn);
        }
        let (turn, outbox_bytes_max) = (self.turn, self.config.outbox_bytes_max);
        let Some(session) = self.sessions.get_mut(session_key) else { return Ok(()) };
        match session.link {
            Link::WebSocket(key) => {
                let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
                connection.take_event(turn, outbox_bytes_max)?;
                connection.share.spent.add_bytes(bytes);
            }
            Link::Polling { .. } => {
                if session.waits_for_poll(outbox_bytes_max) {
                    return Err(Pause::Outbox);
                }
                let spent = &mut session.share.spent;
                spent.enter(turn);
                if spent.is_used_up() {
                    session.share.is_granted = false;
                    return Err(Pause::Turn);
                }
                spent.add_event();
                spent.add_bytes(bytes);
            }
        }
        Ok(())
    }

    /// What has waited for a session's sockets goes on in its client's next share.
    pub(crate) fn wait_for_share(&mut self, session_key: Key, pause: Pause) {
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        match (session.link, pause) {
            (Link::WebSocket(key), Pause::Turn) => self.wait_turn(key),
            (Link::WebSocket(key), Pause::Outbox) => self.pause(key),
            (Link::Polling { .. }, Pause::Turn) => self.queue_session(session_key),
            (Link::Polling { .. }, Pause::Outbox) => session.share.is_paused = true,
        }
    }

    /// What has waited for a session's sockets goes on in a later turn.
    pub(crate) fn queue_session(&mut self, session_key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key)
            && !std::mem::replace(&mut session.share.is_queued, true)
        {
            self.unfinished.push_back(Unfinished::Session(session_key));
        }
    }

    /// Whether a session's client waits for its next share, which begins with what has waited for its sockets.
    pub(crate) fn awaits_share(&self, session_key: Key) -> bool {
        let Some(session) = self.sessions.get(session_key) else { return false };
        let connection = match session.link {
            Link::WebSocket(key) => self.connections.get(key),
            Link::Polling { .. } => None,
        };
        session.share.is_waiting() || connection.is_some_and(|connection| connection.share.is_waiting())
    }

    /// Keeps input that came while its connection waits.
    pub(crate) fn keep_unread(&mut self, key: Key, input: &[u8]) {
        let Core { connections, buffers, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending != Ending::Open {
            return;
        }
        if connection.inbound.capacity() == 0 {
            connection.inbound = buffers.take();
        }
        connection.inbound.extend_from_slice(input);
        if !connection.share.is_waiting() {
            self.wait_turn(key);
        }
        self.bound_unread(key);
        self.count_partial(key);
    }

    /// Puts back what a connection's input was when its share ended.
    pub(crate) fn keep_rest(&mut self, key: Key, mut bytes: Vec<u8>, used: usize, pause: Pause) {
        let Some(connection) = self.connections.get_mut(key) else {
            self.buffers.give(bytes);
            return;
        };
        connection.share.used = match u32::try_from(used) {
            Ok(used_len) if used <= bytes.len() / 2 => used_len,
            // It is worth moving the rest.
            _ => {
                bytes.drain(..used);
                0
            }
        };
        connection.inbound = bytes;
        match pause {
            Pause::Turn => self.wait_turn(key),
            Pause::Outbox => self.pause(key),
        }
        self.bound_unread(key);
        self.count_partial(key);
    }

    /// Takes what is in a connection's inbound buffer, and how much of it is used.
    pub(crate) fn take_inbound(&mut self, key: Key) -> Option<(Vec<u8>, usize)> {
        let connection = self.connections.get_mut(key)?;
        let used = std::mem::take(&mut connection.share.used) as usize;
        Some((std::mem::take(&mut connection.inbound), used))
    }

    /// The connection goes on in a later turn.
    pub(crate) fn wait_turn(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.share.is_queued, true)
        {
            self.unfinished.push_back(Unfinished::Connection(key));
        }
    }

    /// The connection goes on when its peer has taken some of what it is owed.
    fn pause(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.share.is_queued || std::mem::replace(&mut connection.share.is_paused, true) {
            return;
        }
        connection.share.has_progress = true;
        match &connection.kind {
            Kind::Http(_) => self.arm_connection(key, ANSWER_PATIENCE),
            Kind::WebSocket(websocket) if matches!(websocket.role, Role::Raw(_)) => {
                self.arm_connection(key, FLUSH_PATIENCE);
            }
            Kind::WebSocket(_) => {}
        }
    }

    /// Something was sent on a paused connection.
    #[cold]
    pub(crate) fn note_paused_progress(&mut self, key: Key) {
        let bytes_max = self.config.outbox_bytes_max;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if matches!(&connection.kind, Kind::Http(http) if http.post.is_some()) {
            // It is not what is owed on this connection that it waits for.
            return;
        }
        connection.share.has_progress = true;
        if connection.outbox.len() <= bytes_max / 2 {
            connection.share.is_paused = false;
            self.wait_turn(key);
        }
    }

    /// Tells the driver to read no more, or to go on, as much as is unread.
    pub(crate) fn bound_unread(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let must_stop = connection.share.is_waiting() && connection.unread() > UNREAD_BYTES_MAX;
        if must_stop != std::mem::replace(&mut connection.share.is_stopped, must_stop) {
            self.outputs.push(if must_stop { Output::StopReading(key) } else { Output::StartReading(key) });
        }
    }

    /// The wire ended while input of it waits: true, and the end waits too.
    pub(crate) fn postpone_end(&mut self, key: Key, end: WireEnd) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if !connection.share.is_waiting() {
            return false;
        }
        connection.share.end = Some(end);
        // Nobody may take what it is owed any more: what came before the end is handled all the same.
        if !connection.still_reads() {
            connection.share.is_paused = false;
            self.wait_turn(key);
        }
        true
    }

    /// The end that was postponed, once nothing waits before it.
    fn take_end(&mut self, key: Key) -> Option<WireEnd> {
        let connection = self.connections.get_mut(key)?;
        if connection.share.is_waiting() { None } else { connection.share.end.take() }
    }
}

impl Shard {
    /// Whether input waits for its connection's next share: the driver must come back without sleeping.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.core.borrow().unfinished.is_empty()
    }

    /// Frames, requests and packets handled so far: a driver looks at its clock after some of them.
    pub(crate) fn events_taken(&self) -> u64 {
        self.core.borrow().events_taken
    }

    /// Gives the connection that waits longest its next share. False when there is none, or this turn owes so much that it must
    /// be sent first.
    pub(crate) fn go_on(&mut self, now: Time) -> bool {
        let next = {
            let mut core = self.core.borrow_mut();
            if core.owed.is_turn_full() { None } else { core.unfinished.pop_front() }
        };
        match next {
            None => return false,
            Some(Unfinished::Connection(key)) => self.work(now, |shard| shard.next_share(key)),
            Some(Unfinished::Session(key)) => self.work(now, |shard| shard.next_session_share(key)),
        }
        true
    }

    fn next_session_share(&mut self, key: Key) {
        {
            let mut core = self.core.borrow_mut();
            let turn = core.turn;
            let Some(session) = core.sessions.get_mut(key) else { return };
            session.share.is_queued = false;
            session.share.spent.begin(turn);
        }
        self.continue_waiting(key);
    }

    fn next_share(&mut self, key: Key) {
        let session = {
            let mut core = self.core.borrow_mut();
            let turn = core.turn;
            let Some(connection) = core.connections.get_mut(key) else { return };
            connection.share.is_queued = false;
            connection.share.spent.begin(turn);
            match &connection.kind {
                Kind::WebSocket(WebSocketState { role: Role::Session(session), .. }) => Some(*session),
                _ => None,
            }
        };
        if self.continue_post(key) {
            return;
        }
        if session.is_some_and(|session| self.continue_waiting(session)) {
            return;
        }
        self.resume_connection(key);
        self.core.borrow_mut().bound_unread(key);
        self.settle();
        let end = self.core.borrow_mut().take_end(key);
        match end {
            Some(WireEnd::Ended) => self.connection_ended(key),
            Some(WireEnd::Closed) => self.connection_lost(key),
            None => {}
        }
    }
}
