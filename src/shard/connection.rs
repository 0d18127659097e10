//! Connections: bytes in, requests or frames out, and the way a connection ends.

use std::time::Duration;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::peer::{Moves, Peer};
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::coding::Coding;
use crate::protocol::http::cors::Grant;
use crate::protocol::http::status::Status;
use crate::protocol::websocket::close::{self, CloseCode};
use crate::protocol::websocket::message::MessageDecoder;
use crate::shard::core::{Core, Deferred, Output};
use crate::shard::endpoint::MAIN;
use crate::shard::files::{Awaited, FileStream, too_busy};
use crate::shard::outbox::Outbox;
use crate::shard::post::PendingPost;
use crate::shard::raw::RawState;
use crate::shard::session::CloseReason;
use crate::shard::share::{Pause, Share};
use crate::shard::wire::Wire;
use crate::shard::{Shard, Step};

/// How long a connection that is over may take to say so: long enough for the last answer to be read
/// (closing with unread input would reset it), short enough not to keep dead peers.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// A body must arrive at this rate, beyond `header_timeout` of grace.
const BODY_BYTES_PER_SECOND_MIN: u64 = 1024;

/// How long a connection that is over may make no progress in taking what it is owed.
pub(crate) const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// The same for a client that is sent an answer: a slow link shows in bursts, when the kernel has room again.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The pace at which a client must take an answer: each byte earns its part of a second, up to the patience. Whoever takes
/// less holds what it is owed no longer than that.
const TAKEN_BYTES_PER_SECOND_MIN: u64 = 1024;

/// How long a poll is kept for a client that has closed its sending half. A few such clients still read; most have gone, and
/// both look alike.
const HALF_CLOSED_POLL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a shard that stops waits for the first request of a connection that it has just accepted, or for the rest of one
/// that is arriving: the client then hears that nobody serves it, where a close would look like a fault.
pub(crate) const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of pipelined requests kept while an earlier one waits for its answer.
const PIPELINED_BYTES_MAX: usize = 64 * 1024;

/// One TCP or Unix connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) outbox: Outbox,
    pub(crate) is_dirty: bool,
    /// Somebody waits for its outbox to be empty.
    pub(crate) awaits_drain: bool,
    /// How much of the outbox earlier turns have left, as of the first bytes of this one.
    pub(crate) behind: u32,
    /// It is owed more than `outbox_bytes_max`: its session will be closed, and nothing more is queued for it.
    pub(crate) is_given_up: bool,
    /// A WebSocket whose session's packets are shown in the log.
    pub(crate) is_traced: bool,
    pub(crate) ending: Ending,
    pub(crate) kind: Kind,
    /// Bytes of something incomplete; empty, and without memory, most of the time.
    pub(crate) inbound: Vec<u8>,
    pub(crate) share: Share,
    /// What of its input is counted in `Core::partial_bytes`.
    pub(crate) partial: u32,
    pub(crate) deadline: Time,
    /// The earliest entry of this connection in the wheel.
    pub(crate) armed: Time,
    pub(crate) peer: Peer,
}

// Every client has one, and a fan-out goes through all of them.
const _: () = assert!(size_of::<Connection>() <= 208);

/// How a connection stands to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Open,
    /// Write what is owed, then say that it is over.
    AfterFlush,
    /// All is said: input is discarded until the peer closes, or for [`LINGER`].
    Lingering,
}

/// What a connection speaks.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Boxed: a WebSocket, as most are that stay, has nothing of it.
    Http(Box<HttpState>),
    WebSocket(WebSocketState),
}

/// Where a connection is between requests.
#[derive(Debug, Default)]
pub(crate) struct HttpState {
    /// A request waits for its answer (a poll, a file, an asynchronous route).
    pub(crate) is_answering: bool,
    pub(crate) is_continue_sent: bool,
    /// A header of the PROXY protocol comes first.
    pub(crate) awaits_proxy: bool,
    /// When the head of the request whose body is arriving was whole.
    pub(crate) body_started: Time,
    /// The head that is arriving has its deadline.
    pub(crate) is_head_timed: bool,
    /// How the awaited answer is framed.
    pub(crate) framing: RequestFraming,
    /// Input is looked at again when there is this much: a head with its whole body.
    pub(crate) needed: usize,
    pub(crate) chunked: Option<Box<ChunkedBody>>,
    /// What it waits for from the thread of files.
    pub(crate) awaited: Option<Box<Awaited>>,
    /// The rest of a file that is being sent to it.
    pub(crate) stream: Option<Box<FileStream>>,
    /// The client has said all it will, and may still read.
    pub(crate) is_half_closed: bool,
    /// A POST whose packets are not all handled yet.
    pub(crate) post: Option<Box<PendingPost>>,
    /// The session whose poll or POST this connection carries.
    pub(crate) session: Option<Key>,
    /// What the answer says to a page of another origin.
    pub(crate) grant: Option<Box<Grant>>,
    /// A request has been answered on it.
    pub(crate) has_served: bool,
    /// The request at hand has brought the connection here from another shard.
    pub(crate) has_moved: bool,
    pub(crate) moves: Moves,
}

/// What of a request its answer must know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFraming {
    pub(crate) is_http10: bool,
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    /// The coding that the client prefers; identity if nothing is to be compressed.
    pub(crate) coding: Coding,
}

/// A chunked request on its way in.
#[derive(Debug)]
pub(crate) struct ChunkedBody {
    /// The most that it may hold.
    pub(crate) bytes_max: usize,
    pub(crate) head: Vec<u8>,
    pub(crate) decoder: ChunkedDecoder,
    pub(crate) body: Vec<u8>,
}

/// A connection after its 101.
#[derive(Debug)]
pub(crate) struct WebSocketState {
    pub(crate) decoder: MessageDecoder,
    /// What this connection adds to the form of frames, whoever's they are.
    pub(crate) wire: Wire,
    /// What its compressed messages have inflated to beyond what they paid for (`InflateLimits`), in bytes.
    pub(crate) inflate_debt: u32,
    pub(crate) role: Role,
    /// The endpoint whose limits hold; that of raw routes is the configuration's own.
    pub(crate) endpoint: u8,
}

impl WebSocketState {
    pub(crate) fn new(wire: Wire, role: Role, endpoint: u8) -> WebSocketState {
        WebSocketState { decoder: MessageDecoder::default(), wire, inflate_debt: 0, role, endpoint }
    }
}

/// Whose frames they are.
#[derive(Debug)]
pub(crate) enum Role {
    /// A session's transport.
    Session(Key),
    /// Asks to become a session's transport.
    Probe(Key),
    /// A route of the user's own.
    Raw(Box<RawState>),
}

impl Connection {
    fn new(peer: Peer) -> Connection {
        Connection {
            outbox: Outbox::default(),
            is_dirty: false,
            awaits_drain: false,
            behind: 0,
            is_given_up: false,
            is_traced: false,
            ending: Ending::Open,
            kind: Kind::Http(Box::default()),
            inbound: Vec::new(),
            share: Share::default(),
            partial: 0,
            deadline: Time::NEVER,
            armed: Time::NEVER,
            peer,
        }
    }

    /// What this connection adds to the form of frames.
    pub(crate) fn wire(&self) -> Wire {
        match &self.kind {
            Kind::Http(_) => Wire::default(),
            Kind::WebSocket(websocket) => websocket.wire,
        }
    }

    /// Bytes that were taken prolong the time for the rest.
    fn earn(&mut self, count: usize, now: Time) {
        let latest = now + ANSWER_PATIENCE;
        if self.deadline < latest {
            let earned = Duration::from_millis(count as u64 * 1000 / TAKEN_BYTES_PER_SECOND_MIN);
            self.deadline = (self.deadline + earned).min(latest);
        }
    }

    /// Whether it is the transport of a session.
    pub(crate) fn carries(&self, session: Key) -> bool {
        matches!(&self.kind, Kind::WebSocket(WebSocketState { role: Role::Session(own), .. }) if *own == session)
    }

    pub(crate) fn http_mut(&mut self) -> Option<&mut HttpState> {
        match &mut self.kind {
            Kind::Http(http) => Some(&mut **http),
            Kind::WebSocket(_) => None,
        }
    }
}

impl Core {
    /// A new connection; `None` when this shard holds `connections_max`.
    pub(crate) fn open_connection(&mut self, peer: Peer) -> Option<Key> {
        if self.connections.len() >= self.config.connections_max {
            return None;
        }
        let key = self.connections.insert(Connection::new(peer));
        self.counters.connections.add(1);
        let header_timeout = self.config.header_timeout;
        self.arm_connection(key, if self.is_shutting_down { FIRST_REQUEST_PATIENCE } else { header_timeout });
        Some(key)
    }

    /// Lets `write` append to what a connection is owed.
    pub(crate) fn write_to(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        self.mark_dirty(key);
        let Core { connections, buffers, owed, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            let before = connection.outbox.len();
            connection.outbox.write(buffers, write);
            owed.add_own(connection.outbox.len() - before);
        }
    }

    /// Ends a connection once everything owed is written.
    pub(crate) fn close_after_flush(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending == Ending::Open {
            connection.ending = Ending::AfterFlush;
            connection.inbound = Vec::new();
            // A peer that reads nothing must not keep what it is owed for ever.
            let is_http = matches!(connection.kind, Kind::Http(_));
            self.arm_connection(key, if is_http { ANSWER_PATIENCE } else { FLUSH_PATIENCE });
            self.count_partial(key);
            self.mark_dirty(key);
        }
    }

    /// Forgets a connection and has its wire closed. Returns what it was.
    pub(crate) fn drop_connection(&mut self, key: Key) -> Option<Kind> {
        let Connection { outbox, partial, kind, .. } = self.connections.remove(key)?;
        self.owed.remove(outbox.len());
        self.partial_bytes -= partial as usize;
        self.counters.connections.subtract(1);
        self.outputs.push(Output::Close { connection: key, outbox });
        Some(kind)
    }

    /// Whether a peer asks for answers and does not read them: beyond this it gets no more of them. Who reads
    /// an answer before asking again is never owed so much.
    pub(crate) fn is_owed_much(&self, key: Key) -> bool {
        let bytes_max = self.config.outbox_bytes_max;
        self.connections.get(key).is_some_and(|connection| connection.outbox.len() > bytes_max)
    }

    /// The driver sent `count` bytes of a connection's outbox.
    pub(crate) fn sent(&mut self, key: Key, count: usize) {
        let Core { connections, buffers, owed, counters, .. } = &mut *self;
        let Some(connection) = connections.get_mut(key) else { return };
        connection.outbox.advance(count, buffers);
        owed.remove(count);
        counters.owed_bytes.set(owed.bytes() as u64);
        counters.bytes_sent.add(count as u64);
        // For a client that keeps up this is all.
        let is_waited_for = connection.behind > 0 || connection.awaits_drain || connection.share.is_paused;
        if is_waited_for || connection.ending != Ending::Open || matches!(connection.kind, Kind::Http(_)) {
            self.note_sent(key, count);
        }
    }

    /// Something was sent to a client that is slow, asks by HTTP, or is at its end.
    fn note_sent(&mut self, key: Key, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending != Ending::Open {
            connection.earn(count, self.now);
        } else if matches!(connection.kind, Kind::Http(_)) {
            self.pace_answer(key, count);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_paused = connection.share.is_paused && count > 0;
        if connection.behind > 0 || connection.awaits_drain {
            self.note_progress(key);
        }
        if is_paused {
            self.note_paused_progress(key);
        }
        self.finish_flush(key);
    }

    /// A client has taken bytes of its answer.
    fn pace_answer(&mut self, key: Key, count: usize) {
        let (now, keep_alive_timeout) = (self.now, self.config.keep_alive_timeout);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_owed = !connection.outbox.is_empty();
        let Kind::Http(http) = &connection.kind else { return };
        let is_streaming = http.stream.is_some();
        let is_idle = !http.is_answering && !http.is_head_timed && http.needed == 0 && http.chunked.is_none();
        if is_streaming || is_owed && is_idle {
            if connection.deadline > now + ANSWER_PATIENCE {
                self.arm_connection(key, ANSWER_PATIENCE);
            } else {
                connection.earn(count, now);
            }
        } else if is_idle {
            self.arm_connection(key, keep_alive_timeout);
        }
        if is_streaming {
            self.pump_file(key);
        }
    }

    /// Ends the connection if its outbox is empty and it was only waiting for that.
    pub(crate) fn finish_flush(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.outbox.is_empty() && connection.ending == Ending::AfterFlush {
            connection.ending = Ending::Lingering;
            self.outputs.push(Output::ShutdownWrite(key));
            if matches!(&connection.kind, Kind::Http(http) if http.is_half_closed) {
                // It has said that it is over, so there is nothing to wait for.
                self.deferred.push(Deferred::Lost(key));
            } else {
                self.arm_connection(key, LINGER);
            }
        }
    }

    /// Says goodbye on a WebSocket and closes it.
    pub(crate) fn close_websocket(&mut self, key: Key, code: Option<CloseCode>, reason: &str) {
        self.write_to(key, |out| close::encode_close(out, code, reason));
        self.close_after_flush(key);
    }
}

impl Shard {
    /// A connection's wire has brought bytes.
    pub(crate) fn receive_bytes(&mut self, key: Key, input: &mut [u8]) {
        let mut carried = {
            let mut core = self.core.borrow_mut();
            core.counters.bytes_received.add(input.len() as u64);
            match core.begin_input(key, input.len()) {
                Some(carried) => carried,
                None => return core.keep_unread(key, input),
            }
        };
        if carried.is_empty() {
            let (used, pause) = self.consume(key, input);
            if used < input.len() {
                let mut core = self.core.borrow_mut();
                let mut rest = core.buffers.take();
                rest.extend_from_slice(&input[used..]);
                core.keep_input(key, rest, 0, pause);
            }
        } else {
            carried.extend_from_slice(input);
            let (used, pause) = self.consume(key, &mut carried);
            self.core.borrow_mut().keep_input(key, carried, used, pause);
        }
    }

    /// Takes up what was kept while a connection was answering, or waited for its share.
    pub(crate) fn resume_connection(&mut self, key: Key) {
        let taken = {
            let mut core = self.core.borrow_mut();
            let is_waiting = core.connections.get(key).is_none_or(|connection| connection.share.is_waiting());
            if is_waiting { None } else { core.take_inbound(key) }
        };
        if let Some((mut carried, done)) = taken.filter(|(carried, _)| !carried.is_empty()) {
            let (used, pause) = self.consume(key, &mut carried[done..]);
            self.core.borrow_mut().keep_input(key, carried, done + used, pause);
        }
        self.end_half_closed(key);
    }

    /// The peer has said all it will: what it has asked for is still answered.
    pub(crate) fn connection_ended(&mut self, key: Key) {
        {
            let mut core = self.core.borrow_mut();
            let Some(connection) = core.connections.get_mut(key) else { return };
            let (ending, is_owed) = (connection.ending, !connection.outbox.is_empty());
            match &mut connection.kind {
                Kind::Http(_) if ending == Ending::AfterFlush && is_owed => return,
                Kind::Http(http) if ending == Ending::Open => {
                    http.is_half_closed = true;
                    if http.is_answering && http.session.is_some() {
                        core.arm_connection(key, HALF_CLOSED_POLL_PATIENCE);
                    }
                }
                _ => {
                    drop(core);
                    return self.connection_lost(key);
                }
            }
        }
        self.end_half_closed(key);
    }

    /// Ends a connection whose peer will say no more, once all that it has asked for is answered.
    fn end_half_closed(&mut self, key: Key) {
        let mut core = self.core.borrow_mut();
        let Some(connection) = core.connections.get(key) else { return };
        let Kind::Http(http) = &connection.kind else { return };
        if !http.is_half_closed || http.is_answering || connection.ending != Ending::Open {
            return;
        }
        if connection.share.is_waiting() {
            return;
        }
        // A session whose POST is not whole has lost it.
        if connection.outbox.is_empty() || http.session.is_some() {
            drop(core);
            self.connection_lost(key);
        } else {
            core.close_after_flush(key);
        }
    }

    /// Uses as much of `bytes` as is complete and within the connection's share; returns how much that was, and what the rest
    /// waits for if it is not the peer.
    fn consume(&mut self, key: Key, bytes: &mut [u8]) -> (usize, Option<Pause>) {
        let mut used = 0;
        while used < bytes.len() {
            let is_http = {
                let mut core = self.core.borrow_mut();
                let (turn, outbox_bytes_max) = (core.turn, core.config.outbox_bytes_max);
                let is_turn_full = core.owed.is_turn_full();
                core.events_taken += 1;
                match core.connections.get_mut(key) {
                    Some(connection) if connection.ending == Ending::Open => {
                        if is_turn_full {
                            return (used, Some(Pause::Turn));
                        }
                        if let Err(pause) = connection.take_event(turn, outbox_bytes_max) {
                            return (used, Some(pause));
                        }
                        matches!(connection.kind, Kind::Http(_))
                    }
                    // Gone, handed over or at its end: nobody wants the rest.
                    _ => return (bytes.len(), None),
                }
            };
            let rest = &mut bytes[used..];
            let step = if is_http { self.consume_http(key, rest) } else { self.consume_frame(key, rest) };
            match step {
                Step::Used(count) => used += count,
                Step::Wait => {
                    if let Some(connection) = self.core.borrow_mut().connections.get_mut(key) {
                        connection.share.give_back();
                    }
                    break;
                }
            }
            // What a handler asked for holds before the next event of the same read.
            if !self.core.borrow().deferred.is_empty() {
                self.settle();
            }
        }
        (used, None)
    }

    /// The peer closed, or the wire broke.
    pub(crate) fn connection_lost(&mut self, key: Key) {
        let dropped = self.core.borrow_mut().drop_connection(key);
        let Some(kind) = dropped else { return };
        match kind {
            Kind::Http(http) => {
                if let Some(session) = http.session {
                    self.carrier_lost(session, key);
                }
            }
            Kind::WebSocket(WebSocketState { role: Role::Session(session), .. }) => {
                self.close_session(session, CloseReason::TransportClose);
            }
            Kind::WebSocket(WebSocketState { role: Role::Probe(session), .. }) => {
                self.core.borrow_mut().forget_upgrade(session, key);
            }
            Kind::WebSocket(WebSocketState { role: Role::Raw(raw), .. }) => self.raw_closed(*raw),
        }
    }

    /// A connection's deadline has come: it was too slow, idle too long, or lingered enough. `stall` is how late this shard is.
    pub(crate) fn connection_timeout(&mut self, key: Key, armed: Time, stall: Duration) {
        let mut core = self.core.borrow_mut();
        let (now, times) = (core.now, core.endpoint(MAIN).heartbeat_times());
        let Some(connection) = core.connections.get_mut(key).filter(|connection| connection.armed == armed)
        else {
            return;
        };
        connection.armed = Time::NEVER;
        if now < connection.deadline {
            let left = connection.deadline.since(now);
            core.arm_connection(key, left);
            return;
        }
        if !stall.is_zero() {
            // What the peer sent while this shard was held up is not read yet: it has as much time again.
            core.arm_connection(key, stall);
            return;
        }
        if connection.ending != Ending::Open {
            drop(core);
            self.connection_lost(key);
            return;
        }
        if connection.share.is_queued {
            // It is not the peer that makes it wait.
            core.arm_connection(key, FLUSH_PATIENCE);
            return;
        }
        let is_paused = connection.share.is_paused;
        let (is_idle, is_owed_nothing) = (connection.inbound.is_empty(), connection.outbox.is_empty());
        let http = match &mut connection.kind {
            Kind::Http(http) => http,
            Kind::WebSocket(WebSocketState { role: Role::Raw(raw), .. }) => {
                let is_lost = raw.is_lost(times, now) && !connection.share.take_sign_of_life();
                drop(core);
                return self.check_raw(key, is_lost);
            }
            Kind::WebSocket(_) => return,
        };
        if http.is_answering {
            let (session, is_half_closed) = (http.session, http.is_half_closed);
            drop(core);
            return self.answering_timeout(key, session, is_half_closed);
        }
        if is_paused {
            drop(core);
            tracing::info!(target: ENGINEIO, "closed: requests were pipelined, and their answers not read");
            return self.connection_lost(key);
        }
        let is_mid_request = !is_idle || http.chunked.is_some();
        // A request whose head was whole has its grant.
        if http.needed == 0 && http.chunked.is_none() {
            let partial = std::mem::take(&mut connection.inbound);
            core.note_origin_of_partial(key, &partial);
        }
        drop(core);
        if is_mid_request {
            self.refuse_request(
                key,
                Status::REQUEST_TIMEOUT,
                "the request did not arrive within header_timeout",
            );
        } else if is_owed_nothing {
            self.connection_lost(key);
        } else {
            self.answer_not_taken(key);
        }
    }
}

impl Shard {
    /// An answer is not made, or not taken, in time.
    fn answering_timeout(&mut self, key: Key, session: Option<Key>, is_half_closed: bool) {
        let mut core = self.core.borrow_mut();
        if let Some(post) = core.http_mut(key).and_then(|http| http.post.as_ref()) {
            let session = post.session();
            return core.end_post_pause(key, session);
        }
        if let Some(session) = session {
            // A poll ends with its session, unless its client has nothing more to say: then it is gone in all likelihood.
            let is_known = core.sessions.get(session).is_some();
            let timeout = core.config.keep_alive_timeout;
            core.arm_connection(key, timeout);
            drop(core);
            match (is_known, is_half_closed) {
                (true, false) => {}
                (true, true) => self.close_session(session, CloseReason::TransportClose),
                (false, _) => self.connection_lost(key),
            }
        } else if core.http_mut(key).is_some_and(|http| http.awaited.take().is_some()) {
            tracing::warn!(
                "answered 503: reading a file, or compressing an answer, took too long; is its disk well?"
            );
            core.respond_and_close(key, &too_busy());
        } else {
            drop(core);
            self.answer_not_taken(key);
        }
    }

    fn answer_not_taken(&mut self, key: Key) {
        {
            let core = self.core.borrow();
            let owed = core.connections.get(key).map_or(0, |connection| connection.outbox.len());
            tracing::info!(
                owed,
                bytes_per_second_min = TAKEN_BYTES_PER_SECOND_MIN,
                "closed: an answer was not taken at the pace that is asked for"
            );
            core.counters.slow_consumers_closed.add(1);
        }
        self.connection_lost(key);
    }
}

impl Core {
    /// A request has begun to arrive: its head must be whole within `header_timeout`, and a body must go on.
    fn time_request(&mut self, key: Key) {
        let timeout = self.config.header_timeout;
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
            self.arm_connection(key, deadline.since(self.now));
        } else if is_new_head {
            self.arm_connection(key, timeout);
        }
    }

    /// Keeps what is left of a connection's input, of which `used` bytes are done with.
    fn keep_input(&mut self, key: Key, mut bytes: Vec<u8>, used: usize, pause: Option<Pause>) {
        if let Some(pause) = pause {
            return self.keep_rest(key, bytes, used, pause);
        }
        bytes.drain(..used);
        self.keep_inbound(key, bytes);
    }

    /// Keeps input that is not complete yet, within bounds.
    fn keep_inbound(&mut self, key: Key, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get_mut(key) else {
            self.buffers.give(bytes);
            return;
        };
        let is_flooding = matches!(&connection.kind, Kind::Http(http) if http.is_answering && http.post.is_none() && bytes.len() > PIPELINED_BYTES_MAX);
        if bytes.is_empty() || is_flooding || connection.ending != Ending::Open {
            self.buffers.give(bytes);
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
            self.deferred.push(Deferred::Lost(key));
        }
    }
}
