//! A socket: one session's presence in one namespace.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::mesh::Mesh;
use crate::mesh::interest::Announcement;
use crate::message::address::Address;
use crate::message::recovery::Kept;
use crate::message::target::SocketChange;
use crate::shard::value::expiry::Expiry;
use crate::shard::value::form::Form;
use crate::shard::value::kept::Limits;
use crate::shard::value::outbox::Outbox;
use crate::shard::value::outside::SocketAccount;
use crate::shard::value::recovery::RecoveryState;

/// No place in a table.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketState {
    /// The connect handler has not decided: what is sent to the socket is held back.
    Connecting,
    /// The client has been told that it is connected, and the connect handler has not decided (`always_connect`): what is sent to the
    /// socket reaches it, and its events wait.
    Undecided,
    Open,
    /// Ended: its disconnect handler is about to run, or its client may come back.
    Closed,
}

impl SocketState {
    /// Whether the client takes itself for connected.
    pub(crate) fn is_told(self) -> bool {
        matches!(self, SocketState::Undecided | SocketState::Open)
    }

    /// Whether the connect handler has still to decide.
    pub(crate) fn is_decided(self) -> bool {
        !matches!(self, SocketState::Connecting | SocketState::Undecided)
    }
}

/// One session in one namespace. The fields that a broadcast touches come first.
#[derive(Debug)]
pub(crate) struct SocketEntry {
    /// The last broadcast that served (or skipped) this socket.
    pub(crate) mark: u32,
    /// The WebSocket connection's place; `NOWHERE` while the session polls.
    ///
    /// A place has no generation, as a key has, so these must hold: it is that of the session's own WebSocket as long as the socket
    /// is open (an upgrade writes it, `detach_socket` takes it away), and between the end of a connection and that of its sockets
    /// no user code runs and nothing opens. A delivery asserts it. The places of sockets in namespaces and rooms are as
    /// safe: a socket leaves both in the call that frees its place, which `add_socket` and `join` assert.
    pub(crate) connection: u32,
    pub(crate) session: Key,
    pub(crate) namespace: u16,
    pub(crate) state: SocketState,
    /// An asynchronous handler runs: later events wait.
    pub(crate) is_busy: bool,
    /// As many handlers run beside each other, or as many acknowledgements are kept, as may be: later events wait.
    pub(crate) is_full: bool,
    /// Its end is noted: nothing reaches its handlers any more.
    pub(crate) is_ending: bool,
    /// It has ended, and its rooms are kept until its disconnect handler has.
    pub(crate) is_leaving: bool,
    /// The session's: here, because every broadcast asks.
    pub(crate) form: Form,
    pub(crate) sid: Sid,
    pub(crate) rooms: SmallVec<[Key; 2]>,
    pub(crate) extra: Option<Box<SocketExtra>>,
}

/// What most sockets never need.
#[derive(Debug, Default)]
pub(crate) struct SocketExtra {
    /// The connect handler to ask once the running one has accepted, or shards have said whether the socket is kept, and the
    /// client's auth.
    pub(crate) connect_step: Option<(usize, String)>,
    /// Canonical frames held back until the connect handler accepts.
    pub(crate) held: Outbox,
    /// Events that wait behind an asynchronous handler, or for the socket to open; they go with it.
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) waiting_bytes: usize,
    /// What of `waiting_now` its session counts.
    pub(crate) waiting_counted: usize,
    /// Handlers that run beside each other.
    pub(crate) concurrent: u32,
    /// Acknowledgements that its handlers have kept.
    pub(crate) kept_acks: SmallVec<[Key; 2]>,
    /// Acknowledgements this socket still owes: the id in the packet, and the key in the table.
    pub(crate) acks: SmallVec<[(u64, Key); 2]>,
    pub(crate) next_ack: u64,
    /// When its time is over.
    pub(crate) expiry: Option<Expiry>,
    /// What a client needs that comes back.
    pub(crate) recovery: Option<Box<RecoveryState>>,
    /// What threads outside the shard know of it, if they do.
    pub(crate) account: Option<Arc<SocketAccount>>,
    /// JSON that other shards may see.
    pub(crate) data: Option<Box<str>>,
    /// The user's values, by type; each is in a `RefCell`.
    pub(crate) values: FxHashMap<TypeId, Rc<dyn Any>>,
}

impl SocketExtra {
    /// Bytes that the client has sent and that are kept until a handler is done: events, and the auth of a CONNECT.
    pub(crate) fn waiting_now(&self) -> usize {
        let auth = self.connect_step.as_ref().map_or(0, |(_, auth)| auth.len());
        self.waiting_bytes + auth
    }
}

/// An event that waits behind an asynchronous handler, or for its socket to open.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) payload: String,
    pub(crate) id: Option<u64>,
    pub(crate) attachments: Vec<Bytes>,
}

impl Waiting {
    /// What it counts towards `pending_bytes_max`.
    pub(crate) fn len_bytes(&self) -> usize {
        let attachments = self.attachments.iter().map(Bytes::len).sum::<usize>();
        self.payload.len() + attachments + size_of::<Waiting>()
    }
}

/// A change to a socket that needs no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    Join(&'a str),
    Leave(&'a str),
    Disconnect { close_session: bool },
}

impl Change<'_> {
    /// Says that other shards are about to be told, if by that sockets join a room: what is emitted to the room next must reach them.
    pub(crate) fn announce(self, mesh: &Mesh, namespace: &Address) -> Option<Arc<Announcement>> {
        match self {
            Change::Join(room) => Some(mesh.interest.announce(namespace, room)),
            Change::Leave(_) | Change::Disconnect { .. } => None,
        }
    }

    /// The same change, able to travel to another shard.
    pub(crate) fn to_message(self) -> SocketChange {
        match self {
            Change::Join(room) => SocketChange::Join(room.to_owned()),
            Change::Leave(room) => SocketChange::Leave(room.to_owned()),
            Change::Disconnect { close_session } => SocketChange::Disconnect { close_session },
        }
    }
}

impl SocketChange {
    /// The change as it is applied here.
    pub(crate) fn as_change(&self) -> Change<'_> {
        match self {
            SocketChange::Join(room) => Change::Join(room),
            SocketChange::Leave(room) => Change::Leave(room),
            SocketChange::Disconnect { close_session } => {
                Change::Disconnect { close_session: *close_session }
            }
        }
    }
}

impl SocketEntry {
    pub(crate) fn new(sid: Sid, namespace: u16, session: Key) -> SocketEntry {
        SocketEntry {
            mark: 0,
            connection: NOWHERE,
            session,
            namespace,
            state: SocketState::Connecting,
            is_busy: false,
            is_full: false,
            is_ending: false,
            is_leaving: false,
            form: Form::default(),
            sid,
            rooms: SmallVec::new(),
            extra: None,
        }
    }

    pub(crate) fn extra_mut(&mut self) -> &mut SocketExtra {
        self.extra.get_or_insert_default()
    }
}

/// The state of a socket that takes part.
pub(crate) fn state_of(socket: &SocketEntry) -> Option<&RecoveryState> {
    socket.extra.as_ref()?.recovery.as_deref()
}

pub(crate) fn state_of_mut(socket: &mut SocketEntry) -> Option<&mut RecoveryState> {
    socket.extra.as_mut()?.recovery.as_deref_mut()
}

/// Lets a socket keep an event that it is sent, or would be. True if that is all that is to be done with it.
pub(crate) fn keep(socket: &mut SocketEntry, kept: Kept, limits: Limits) -> bool {
    if let Some(state) = state_of_mut(socket) {
        if state.is_of_keeper(kept.offset) || state.was_given(kept.id, kept.at) {
            return true;
        }
        state.events.keep(kept, limits);
        if state.is_arriving() {
            return true;
        }
    }
    socket.state == SocketState::Closed
}
