//! What must be true of random clients: who may hear what, who must, and in which order.
//!
//! Times are moments of the one scheduler. Of each stay of a client in a room the model knows since when the client surely
//! was in, and since when it surely was out; what lies between may go either way.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

/// The room of everybody.
pub(super) const EVERYONE: &str = "*";

/// Lives of one client that a publisher's name can tell apart.
const LIVES_MAX: usize = 1000;

/// Who published: a client in one of its lives. What is under way when a connection is lost may be overtaken by what
/// the client says on its next one, so each life has an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Publisher {
    pub(super) client: usize,
    pub(super) life: usize,
}

impl Publisher {
    /// As messages name it.
    pub(super) fn number(self) -> usize {
        self.client * LIVES_MAX + self.life
    }

    pub(super) fn of_number(number: usize) -> Publisher {
        Publisher { client: number / LIVES_MAX, life: number % LIVES_MAX }
    }
}

/// One stay of a client in a room, in moments.
#[derive(Debug, Default)]
pub(super) struct Stay {
    /// Surely not in before, by its own doing or another's.
    #[cfg(feature = "bus")]
    pub(super) asked: usize,
    /// Surely in from here on.
    pub(super) joined: Option<usize>,
    /// Perhaps out from here on.
    pub(super) leaving: Option<usize>,
    /// Surely out from here on.
    pub(super) left: Option<usize>,
}

/// What an acknowledgement must be.
#[derive(Debug)]
pub(super) enum Expected {
    Answer(Value),
    /// The same of an event whose answer may be overtaken, and may overtake others of its kind.
    Beside(Value),
    Blob(Vec<u8>),
    Join(&'static str),
    Leave(&'static str),
    Publish(usize),
    /// The same, once the verbs around it are done everywhere.
    MovedAndPublished(usize),
    /// These sockets, known to be in a room, are not there any more; who is there is the answer.
    Thrown(&'static str, Vec<String>),
    /// The value with this number is in the state room.
    Put(u64),
    /// The client is a member of the state room from here on.
    Watch,
    /// Who is in a room, asked at a moment.
    Members(&'static str, usize),
    /// What all processes were asked, at a moment.
    #[cfg(feature = "bus")]
    Asked(Question, usize),
}

/// A question to all processes.
#[cfg(feature = "bus")]
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// The clients in a room, who all answer.
    Gather(&'static str),
    /// The ids of those in a room.
    List(&'static str),
    /// The sockets in a room, with all their rooms.
    Look(&'static str),
    /// The client with this number, by the id of its socket.
    Call(usize, String),
    /// The id of the own socket, which older clients are not told.
    Id,
    /// Whether members of a room have been moved, of which this number is kept.
    Moved(usize),
}

/// One message to rooms.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) publisher: Publisher,
    pub(super) place: usize,
    pub(super) sequence: u64,
    pub(super) sent: usize,
    pub(super) rooms: Vec<&'static str>,
    /// The client for whose socket it is, by the socket's id.
    pub(super) to: Option<(usize, String)>,
    pub(super) except: Option<&'static str>,
    pub(super) includes_publisher: bool,
    pub(super) is_acknowledged: bool,
}

/// Somebody had the members of a room disconnected.
#[derive(Debug)]
pub(super) struct Kick {
    pub(super) place: usize,
    pub(super) room: &'static str,
    pub(super) sent: usize,
    /// Who must have heard which message before.
    pub(super) warned: Vec<(Publisher, usize)>,
}

/// A value of a state room.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) place: usize,
    pub(super) key: &'static str,
    pub(super) sent: usize,
    pub(super) done: Option<usize>,
}

/// A client as the model sees it.
#[derive(Debug, Default)]
pub(super) struct Actor {
    /// Which endpoint and namespace it talks to.
    pub(super) place: usize,
    /// CONNECT has been answered, and the client has not begun to go.
    pub(super) is_in: bool,
    /// The client went away, in whatever way; nothing is expected of it.
    pub(super) is_gone: bool,
    /// The client left the namespace and may come again once that is over.
    pub(super) has_left: bool,
    /// The client lost its connection, and asks to be the socket that it was.
    pub(super) is_returning: bool,
    /// Whether it must be that socket again.
    pub(super) must_be_recovered: bool,
    /// A connection that it lost may still ask for the same socket.
    pub(super) has_rival: bool,
    pub(super) life: usize,
    /// The id of its socket.
    pub(super) sid: Option<String>,
    /// Since when its connection has been this one.
    pub(super) connected: usize,
    pub(super) stays: BTreeMap<&'static str, Vec<Stay>>,
    pub(super) acks: VecDeque<(u64, Expected)>,
    pub(super) next_id: u64,
    pub(super) sequence: u64,
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// Answers may have been lost with a connection or a socket.
    pub(super) has_lost_answers: bool,
    /// Indexes into the published, in the order they came.
    pub(super) seen: Vec<usize>,
    /// The last sequence heard from each publisher.
    pub(super) heard: BTreeMap<Publisher, u64>,
    /// What the state room shows, if the client surely watches it.
    pub(super) board: Map<String, Value>,
    pub(super) watches: bool,
}

impl Actor {
    /// The client cannot have been in the room at `from` or later.
    pub(super) fn is_surely_out(&self, room: &str, from: usize) -> bool {
        let stays = self.stays.get(room).map(Vec::as_slice).unwrap_or_default();
        stays.iter().all(|stay| stay.left.is_some_and(|left| left < from))
    }

    /// The client was in the room from `from` until now.
    pub(super) fn is_surely_in(&self, room: &str, from: usize) -> bool {
        let last = self.stays.get(room).and_then(|stays| stays.last());
        last.is_some_and(|stay| stay.leaving.is_none() && stay.joined.is_some_and(|joined| joined < from))
    }

    /// Whether an answer to the question who is in a room since `from` is right about this client.
    pub(super) fn is_rightly_told(&self, room: &str, from: usize, is_named: bool) -> bool {
        if is_named {
            return !self.is_surely_out(room, from);
        }
        // While it is lost it is a member, and nobody to be listed.
        !self.is_in || self.connected >= from || !self.is_surely_in(room, from)
    }

    pub(super) fn stay(&mut self, room: &'static str) -> &mut Stay {
        self.stays.get_mut(room).and_then(|stays| stays.last_mut()).expect("the client asked to join")
    }

    /// From here on the client may be out of every room.
    pub(super) fn begin_leaving(&mut self, moment: usize) {
        for room in self.stays.keys().copied().collect::<Vec<_>>() {
            self.begin_leaving_room(room, moment);
        }
    }

    pub(super) fn begin_leaving_room(&mut self, room: &str, moment: usize) {
        let stays = self.stays.get_mut(room).map(Vec::as_mut_slice).unwrap_or_default();
        for stay in stays.iter_mut().filter(|stay| stay.leaving.is_none()) {
            stay.leaving = Some(moment);
        }
    }

    /// From here on the client is out of every room.
    pub(super) fn end_stays(&mut self, moment: usize) {
        self.begin_leaving(moment);
        for stay in self.stays.values_mut().flatten().filter(|stay| stay.left.is_none()) {
            stay.left = Some(moment);
        }
    }

    /// Rooms in which the client may or may not be, with no answer under way that would tell.
    pub(super) fn unsure_rooms(&self) -> Vec<&'static str> {
        let is_unsure = |stays: &[Stay]| {
            stays
                .last()
                .is_some_and(|stay| stay.left.is_none() && (stay.leaving.is_some() || stay.joined.is_none()))
        };
        let rooms = self.stays.iter().filter(|(room, stays)| **room != EVERYONE && is_unsure(stays));
        rooms.map(|(room, _)| *room).collect()
    }

    /// What was asked before the socket or its connection ended may stay unanswered.
    pub(super) fn forget_answers(&mut self) {
        self.acks.clear();
        self.has_lost_answers = true;
        self.watches = false;
    }
}
