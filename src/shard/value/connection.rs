//! A connection: what it speaks, what it is owed, how it stands to its end.

use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::peer::{Arrival, Door, Moves, Peer};
use crate::protocol::http::chunked::ChunkedDecoder;
use crate::protocol::http::coding::Coding;
use crate::protocol::http::cors::Grant;
use crate::protocol::websocket::message::MessageDecoder;
use crate::shard::value::files::{Awaited, FileStream};
use crate::shard::value::form::Form;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::post::PendingPost;
use crate::shard::value::raw::RawState;
use crate::shard::value::share::{Pause, Share, WireEnd};

/// How long a connection that is over may take to say so: long enough for the last answer to be read
/// (closing with unread input would reset it), short enough not to keep dead peers.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// A body must arrive at this rate, beyond `header_timeout` of grace.
pub(crate) const BODY_BYTES_PER_SECOND_MIN: u64 = 1024;

/// How long a connection that is over may make no progress in taking what it is owed.
pub(crate) const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// The same for a client that is sent an answer: a slow link shows in bursts, when the kernel has room again.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The pace at which a client must take an answer: each byte earns its part of a second, up to the patience. A client that
/// takes less is closed after that time.
pub(crate) const TAKEN_BYTES_PER_SECOND_MIN: u64 = 1024;

/// How long a poll is kept for a client that has closed its sending half. A few such clients still read; most have gone, and
/// both look alike.
pub(crate) const HALF_CLOSED_POLL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a shard that stops waits for the first request of a connection that it has just accepted, or for the rest of one
/// that is arriving: the client is then told that the server stops, where a close would look like a fault.
pub(crate) const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of pipelined requests kept while an earlier one waits for its answer.
pub(crate) const PIPELINED_BYTES_MAX: usize = 64 * 1024;

/// How much of the input one step used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Used(usize),
    /// More is needed, or an answer must leave first.
    Wait,
    /// What came before is not taken yet: the rest waits, and so does its sender.
    Full,
    /// The time is set at which it goes on.
    Later,
}

/// One TCP or Unix connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) outbox: Outbox,
    pub(crate) is_dirty: bool,
    /// Parked events, or a drain handler, wait until its outbox is empty.
    pub(crate) awaits_drain: bool,
    /// How much of the outbox earlier turns have left, as of the first bytes of this one.
    pub(crate) behind: u32,
    /// It is owed more than `outbox_bytes_max`: the close of its session is noted, and what is emitted to it is dropped.
    pub(crate) is_given_up: bool,
    /// A WebSocket whose session's packets are shown in the log.
    pub(crate) is_traced: bool,
    /// Its host speaks TLS on it.
    pub(crate) is_secure: bool,
    pub(crate) ending: Ending,
    pub(crate) kind: Kind,
    /// Bytes of something incomplete; empty, and without memory, most of the time.
    pub(crate) inbound: Vec<u8>,
    pub(crate) share: Share,
    /// What of its input is counted in `Intake::partial_bytes`.
    pub(crate) partial: u32,
    pub(crate) deadline: Time,
    /// The earliest entry of this connection in the wheel.
    pub(crate) armed: Time,
    pub(crate) peer: Peer,
    pub(crate) door: Door,
    /// It is counted among those of its address.
    pub(crate) is_held: bool,
    /// The peer has said all it will, or the wire broke.
    pub(crate) is_peer_gone: bool,
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
    /// Boxed: most connections that stay are WebSockets, and need none of this.
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
    /// The request at hand waits for its route, or is answered piece by piece.
    pub(crate) route: Option<Key>,
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
    /// The request at hand has waited until it may go to another shard.
    pub(crate) may_move: bool,
    pub(crate) moves: Moves,
}

/// What of a request its answer must know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFraming {
    /// The endpoint whose rules hold for it.
    pub(crate) endpoint: u8,
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
    pub(crate) form: Form,
    /// What its compressed messages have inflated to beyond what they paid for (`InflateLimits`), in bytes.
    pub(crate) inflate_debt: u32,
    pub(crate) role: Role,
    /// The endpoint whose limits hold; for raw routes the configuration's own, or the number of their own options.
    pub(crate) endpoint: u8,
}

impl WebSocketState {
    pub(crate) fn new(form: Form, role: Role, endpoint: u8) -> WebSocketState {
        WebSocketState { decoder: MessageDecoder::default(), form, inflate_debt: 0, role, endpoint }
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
    pub(crate) fn new(Arrival { peer, door, moves, is_secure }: Arrival) -> Connection {
        Connection {
            outbox: Outbox::default(),
            is_dirty: false,
            awaits_drain: false,
            behind: 0,
            is_given_up: false,
            is_traced: false,
            is_secure,
            ending: Ending::Open,
            kind: Kind::Http(Box::new(HttpState { moves, ..HttpState::default() })),
            inbound: Vec::new(),
            share: Share::default(),
            partial: 0,
            deadline: Time::NEVER,
            armed: Time::NEVER,
            peer,
            door,
            is_held: false,
            is_peer_gone: false,
        }
    }

    /// What this connection adds to the form of frames.
    pub(crate) fn form(&self) -> Form {
        match &self.kind {
            Kind::Http(_) => Form::default(),
            Kind::WebSocket(websocket) => websocket.form,
        }
    }

    /// Bytes that were taken prolong the time for the rest.
    pub(crate) fn earn(&mut self, count: usize, now: Time) {
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

impl Connection {
    /// What `Tables::mark_dirty` does, for those who have the connection at hand. How much earlier turns have left, if these are the first
    /// bytes of this one.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key, dirty: &mut Vec<Key>) -> u32 {
        if std::mem::replace(&mut self.is_dirty, true) {
            return 0;
        }
        self.behind = clamped(self.outbox.len());
        dirty.push(key);
        self.behind
    }
}

/// A number of bytes in half the room, for what many have: more than 4 GiB of one client is as good as 4 GiB.
#[inline]
pub(crate) fn clamped(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Connection {
    /// Takes one event from the share of this turn, or says why there is none now.
    #[inline]
    pub(crate) fn take_event(&mut self, turn: u32, outbox_bytes_max: usize) -> Result<(), Pause> {
        self.share.spent.enter(turn);
        if self.share.spent.is_used_up() || self.share.is_queued {
            return Err(Pause::Turn);
        }
        if self.share.is_slowed {
            return Err(Pause::Rate);
        }
        if self.share.waits_outside {
            return Err(Pause::Outside);
        }
        if self.outbox.len() > outbox_bytes_max / 2 && (self.share.end.is_none() || self.still_reads()) {
            return Err(Pause::Outbox);
        }
        self.share.spent.add_event();
        Ok(())
    }

    /// Whether the peer has said all it will, and takes what it has asked for: a client of HTTP may.
    pub(crate) fn still_reads(&self) -> bool {
        self.share.end == Some(WireEnd::Ended) && matches!(self.kind, Kind::Http(_))
    }

    /// Input that is not handled yet.
    pub(crate) fn unread(&self) -> usize {
        self.inbound.len() - self.share.used as usize
    }
}
