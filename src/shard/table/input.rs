//! A connection's share of a turn: how much of what one peer sends is handled before others have their turn.
//!
//! A turn handles so many frames, requests and packets of one connection, and so many bytes. What is there beyond that is
//! *unread*: it stays in the connection's inbound buffer, the connection takes its place at the end of `Intake::unfinished`, and
//! the host calls `Shard::go_on` until nothing is unread, and serves the other connections in between. A connection whose own outbox
//! is more than half full is *paused* in the same way until its peer has taken something; for a session that polls, `slow_polls`
//! does the same. When too much is unread the host is told to read no more.
//!
//! Events that have waited behind an asynchronous handler (`waiting`) take from the same share, before what is unread. A session
//! that polls has no connection of its own, so it has a share itself for those, and its own place in `Intake::unfinished`.

use std::time::Duration;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::shard::table::Tables;
use crate::shard::value::connection::{
    ANSWER_PATIENCE, BODY_BYTES_PER_SECOND_MIN, Ending, FLUSH_PATIENCE, Kind, PIPELINED_BYTES_MAX, Role,
};
use crate::shard::value::effect::{Deferred, Output};
use crate::shard::value::pools::Pools;
use crate::shard::value::session::Link;
use crate::shard::value::share::{Pause, UNREAD_BYTES_MAX, Unfinished, WireEnd};

impl Tables {
    /// A request has begun to arrive: its head must be whole within `header_timeout`, and a body must go on.
    fn time_request(&mut self, key: Key) {
        let timeout = self.env.config.header_timeout;
        let Some(http) = self.http_mut(key) else { return };
        let is_body = http.needed > 0 || http.chunked.is_some();
        let is_new_head = !http.is_answering && !std::mem::replace(&mut http.is_head_timed, true);
        if is_body {
            let (started, arrived) =
                (http.body_started, http.chunked.as_ref().map_or(0, |chunked| chunked.body.len()));
            let arrived =
                arrived + self.connections.get(key).map_or(0, |connection| connection.inbound.len());
            let earned = Duration::from_millis(arrived as u64 * 1000 / BODY_BYTES_PER_SECOND_MIN);
            let deadline = started + timeout + earned;
            self.arm_connection(key, deadline.since(self.env.now));
        } else if is_new_head {
            self.arm_connection(key, timeout);
        }
    }

    /// Keeps what is left of a connection's input, of which `used` bytes are done with.
    pub(crate) fn keep_input(&mut self, key: Key, mut bytes: Vec<u8>, used: usize, pause: Option<Pause>) {
        if let Some(pause) = pause {
            return self.keep_rest(key, bytes, used, pause);
        }
        bytes.drain(..used);
        self.keep_inbound(key, bytes);
    }

    /// Keeps input that is not complete yet, within bounds.
    fn keep_inbound(&mut self, key: Key, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get_mut(key) else {
            self.pools.buffers.give(bytes);
            return;
        };
        let is_flooding = matches!(&connection.kind, Kind::Http(http) if http.is_answering && http.post.is_none() && bytes.len() > PIPELINED_BYTES_MAX);
        if bytes.is_empty() || is_flooding || connection.ending != Ending::Open {
            self.pools.buffers.give(bytes);
        } else {
            connection.inbound = bytes;
            self.time_request(key);
        }
        self.count_partial(key);
        if is_flooding {
            tracing::info!(target: ENGINEIO,
                bytes_max = PIPELINED_BYTES_MAX,
                "closed: too much was pipelined behind an unanswered request"
            );
            self.effects.deferred.push(Deferred::Lost(key));
        }
    }

    /// What was made is on its way to the driver, and everybody has a share again.
    pub(crate) fn new_turn(&mut self) {
        self.owed.begin_turn();
        self.intake.is_input_postponed = false;
        self.intake.turn = self.intake.turn.wrapping_add(1);
    }

    /// Counts input of a connection, and takes what came before it and is not used yet. `None`: it must wait.
    #[inline]
    pub(crate) fn begin_input(&mut self, key: Key, bytes: usize) -> Option<Vec<u8>> {
        let (turn, is_postponed) = (self.intake.turn, self.intake.is_input_postponed);
        let connection = self.connections.get_mut(key)?;
        connection.share.spent.enter(turn);
        if is_postponed || connection.share.is_waiting() || connection.share.spent.is_used_up() {
            return None;
        }
        connection.share.spent.add_bytes(bytes);
        Some(std::mem::take(&mut connection.inbound))
    }

    /// One packet of a longer request is handled. False when the next must wait.
    pub(crate) fn take_packet(&mut self, key: Key) -> bool {
        self.intake.events_taken += 1;
        let (turn, is_turn_full) = (self.intake.turn, self.owed.is_turn_full());
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
        self.intake.events_taken += 1;
        if self.owed.is_turn_full() {
            return Err(Pause::Turn);
        }
        let (turn, outbox_bytes_max) = (self.intake.turn, self.env.config.outbox_bytes_max);
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
                if session.share.waits_outside {
                    return Err(Pause::Outside);
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
            // Its share begins when its connection goes on.
            (Link::WebSocket(_), Pause::Rate) => {}
            (Link::Polling { .. }, Pause::Rate) => self.queue_session(session_key),
            // It is taken up when it goes on.
            (_, Pause::Outside) => {}
        }
    }

    /// What has waited for a session's sockets goes on in a later turn.
    pub(crate) fn queue_session(&mut self, session_key: Key) {
        if let Some(session) = self.sessions.get_mut(session_key)
            && !std::mem::replace(&mut session.share.is_queued, true)
        {
            self.intake.unfinished.push_back(Unfinished::Session(session_key));
            self.intake.lag.join(self.env.now);
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
        let Tables { connections, pools: Pools { buffers, .. }, .. } = self;
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
            self.pools.buffers.give(bytes);
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
            // The time is set at which it goes on, or somebody will say when.
            Pause::Rate | Pause::Outside => {}
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
            self.intake.unfinished.push_back(Unfinished::Connection(key));
            self.intake.lag.join(self.env.now);
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
            Kind::Http(http) if http.route.is_some() => self.arm_route(key),
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
        let bytes_max = self.env.config.outbox_bytes_max;
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
            self.effects.outputs.push(if must_stop {
                Output::StopReading(key)
            } else {
                Output::StartReading(key)
            });
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
            connection.share.is_slowed = false;
            connection.share.waits_outside = false;
            self.wait_turn(key);
        }
        true
    }

    /// The end that was postponed, once nothing waits before it.
    pub(crate) fn take_end(&mut self, key: Key) -> Option<WireEnd> {
        let connection = self.connections.get_mut(key)?;
        if connection.share.is_waiting() { None } else { connection.share.end.take() }
    }
}
